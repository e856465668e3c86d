//! Health is the full status as JSON, for people, scripts and the status page: what the node is doing, and how well.
//!
//! Members are added, never renamed: others read them. Times end in their unit, sizes in `_bytes`; rates are those of about the last
//! second and a half. Until all cores have said how they are, there is only what is known without them.

use std::sync::atomic::Ordering;

use serde_json::{Map, Value, json};

use super::{CoreView, View, state};
use crate::{
    REDIS_VERSION,
    command::all_rows,
    core::{
        latency::Histogram,
        stats::{Figures, RecoveryFigures, seconds_since},
    },
};

/// The whole status.
pub(super) fn health(view: Option<&View>) -> Value {
    let (state, reasons) = state::state(view);
    let mut health = json!({
        "state": state.name(),
        "reasons": reasons,
        "version": env!("CARGO_PKG_VERSION"),
        "redis_version": REDIS_VERSION,
        "pid": std::process::id(),
    });
    if let Some(view) = view {
        append(&mut health, about_the_node(view));
        if let Some(whole) = view.whole() {
            append(&mut health, about_the_data(view, &whole));
        }
    }
    health
}

fn append(to: &mut Value, from: Value) {
    if let (Value::Object(to), Value::Object(from)) = (to, from) {
        to.extend(from);
    }
}

fn about_the_node(view: &View) -> Value {
    let (shared, config) = (&view.shared, &view.config);
    let loading = shared.loading.bytes();
    json!({
        "run_id": shared.run_id,
        "started_unix_ms": shared.started_unix_ms,
        "uptime_s": seconds_since(shared.started_mono_us, view.now),
        "port": config.port,
        "shards": view.cores.len(),
        "sync": config.sync().name(),
        "loading": {
            "is_on": shared.loading.is_on(),
            "loaded_bytes": loading.bytes_done,
            "total_bytes": loading.bytes_total,
            "took_ms": shared.loading.took_ms(),
        },
        "cores": view.cores.iter().enumerate().map(|(core, seen)| self::core(view, core, seen)).collect::<Vec<_>>(),
    })
}

fn core(view: &View, core: usize, seen: &CoreView) -> Value {
    let mut json = json!({ "core": core, "silent_ms": seen.silent.as_millis() as u64 });
    let Some(figures) = &seen.figures else { return json };
    let [commands, bytes_in, bytes_out, turns, turns_ns] = figures.rates;
    append(
        &mut json,
        json!({
            "age_ms": view.now.mono_us.saturating_sub(seen.taken_us) / 1000,
            "commands_per_s": commands.round(),
            "in_bytes_per_s": bytes_in.round(),
            "out_bytes_per_s": bytes_out.round(),
            "turns_per_s": turns.round(),
            "busy_percent": tenths(100.0 * turns_ns / 1e9),
            "connections": figures.clients,
            "keys": figures.usage.keys,
            "memory_bytes": figures.usage.memory,
            "log_bytes": figures.usage.log_bytes,
            "log_live_bytes": figures.usage.log_live_bytes,
            "log_dead_bytes": figures.usage.log_dead_bytes,
            "pool_bytes": figures.pool_bytes,
            "compacted_bytes": figures.shard.moved_bytes,
            "questions_served": figures.stats.served,
            "questions_in_flight": figures.questions,
            "message_wait_us": percentiles(&figures.stats.waits),
            "commit_us": percentiles(&figures.storage.latency),
            "has_failed": figures.has_failed,
            "lacks_space": figures.lacks_space,
        }),
    );
    json
}

fn about_the_data(view: &View, whole: &Figures) -> Value {
    let [commands, bytes_in, bytes_out, _, _] = whole.rates;
    let mut latency = Histogram::default();
    all_rows().filter_map(|row| whole.latency(row)).for_each(|one| latency.add(one));
    let databases = whole.databases.iter().enumerate().filter(|(_, figures)| figures.keys > 0);
    let database = |(db, figures): (usize, &crate::core::stats::DatabaseFigures)| json!({ "db": db, "keys": figures.keys, "expiring_keys": figures.expires });
    let errors: Map<String, Value> = whole.errors().map(|(code, count)| (code.to_owned(), count.into())).collect();
    json!({
        "throughput": {
            "commands_per_s": commands.round(),
            "in_bytes_per_s": bytes_in.round(),
            "out_bytes_per_s": bytes_out.round(),
        },
        "totals": {
            "commands": whole.commands_processed(),
            "connections": whole.stats.connections,
            "in_bytes": whole.stats.bytes_in,
            "out_bytes": whole.stats.bytes_out,
            "keyspace_hits": whole.shard.hits,
            "keyspace_misses": whole.shard.misses,
            "expired_keys": whole.shard.expired,
            "evicted_keys": whole.shard.evicted,
            "errors": errors,
        },
        "latency_us": percentiles(&latency),
        // Longest time of a bucket in nanoseconds and calls, so that who asks twice can tell percentiles of the time between.
        "latency_ns_buckets": latency.buckets().collect::<Vec<_>>(),
        "memory": memory(view, whole),
        "clients": {
            "connected": whole.clients,
            "max": view.config.maxclients,
            "bytes": whole.clients_memory,
            "rejected": whole.stats.rejected,
            "evicted": whole.stats.evicted_clients,
        },
        "keys": whole.usage.keys,
        "databases": databases.map(database).collect::<Vec<_>>(),
        "pool": pool(whole),
        "recovery": recovery(&whole.recovery, view.shared.loading.took_ms()),
        "commands": commands_by_name(whole),
    })
}

fn memory(view: &View, whole: &Figures) -> Value {
    let shared = &view.shared;
    json!({
        "used_bytes": whole.used_memory(),
        "peak_bytes": shared.note_used_memory(whole.used_memory()),
        "rss_bytes": shared.rss_bytes.load(Ordering::Relaxed),
        "max_bytes": view.config.maxmemory,
        "policy": view.config.maxmemory_policy.name(),
        "system_bytes": shared.host.memory_bytes,
        "index_bytes": whole.usage.index_bytes,
        "tables_bytes": whole.usage.other_bytes,
        "clients_bytes": whole.clients_memory,
    })
}

fn pool(whole: &Figures) -> Value {
    json!({
        "mode": whole.pool_mode,
        "bytes": whole.pool_bytes,
        "extent_bytes": whole.extent_bytes,
        "log_bytes": whole.usage.log_bytes,
        "log_live_bytes": whole.usage.log_live_bytes,
        "log_dead_bytes": whole.usage.log_dead_bytes,
        "log_free_bytes": whole.usage.log_free_bytes,
        "compacted_records": whole.shard.moved,
        "compacted_bytes": whole.shard.moved_bytes,
        "commits": whole.storage.commits,
        "committed_bytes": whole.storage.bytes,
        "commit_us": percentiles(&whole.storage.latency),
        "syncs": whole.storage.syncs,
        "syncs_delayed": whole.storage.syncs_delayed,
        "growths_failed": whole.storage.growths_failed,
        "scrub_passes": whole.scrub.passes,
        "scrub_damaged": whole.scrub.damaged,
    })
}

fn recovery(recovery: &RecoveryFigures, took_ms: u64) -> Value {
    json!({
        "records": recovery.records,
        "bytes": recovery.bytes,
        "torn_bytes": recovery.torn_bytes,
        "damaged": recovery.damaged,
        "quarantined_bytes": recovery.quarantined_bytes,
        "lost_keys": recovery.keys_lost,
        "took_ms": took_ms,
    })
}

/// Those that were called, the slowest first by what 99 of 100 calls did not exceed.
fn commands_by_name(whole: &Figures) -> Vec<Value> {
    let called = all_rows().map(|row| (row, whole.command(row))).filter(|(_, counted)| !counted.is_empty());
    let mut all: Vec<(u64, Value)> = called
        .map(|(row, counted)| {
            let latency = whole.latency(row);
            let slowest = latency.map_or(0, |latency| latency.percentile_ns(99.0));
            let json = json!({
                "name": row.spec.name,
                "calls": counted.calls,
                "rejected": counted.rejected,
                "failed": counted.failed,
                "total_ms": counted.ns / 1_000_000,
                "mean_us": tenths(counted.ns as f64 / 1e3 / counted.calls.max(1) as f64),
                "latency_us": latency.map(percentiles),
            });
            (slowest, json)
        })
        .collect();
    all.sort_by_key(|(slowest, _)| std::cmp::Reverse(*slowest));
    all.into_iter().map(|(_, json)| json).collect()
}

fn percentiles(latency: &Histogram) -> Value {
    let us = |percent| tenths(latency.percentile_ns(percent) as f64 / 1e3);
    json!({ "count": latency.total(), "p50": us(50.0), "p99": us(99.0), "p999": us(99.9), "max": us(100.0) })
}

fn tenths(number: f64) -> f64 {
    (10.0 * number).round() / 10.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::tests::trial;

    #[test]
    fn health_says_what_is_known() {
        // Before anything is there, before all cores have answered, and then: more each time, never less.
        let names = |health: &Value| health.as_object().expect("an object").keys().cloned().collect::<Vec<_>>();
        let mut view = trial(2);
        let all = health(Some(&view));
        view.cores[0].figures = None;
        let (starting, some) = (health(None), health(Some(&view)));
        assert_eq!(starting["state"], "starting");
        for (less, more) in [(&starting, &some), (&some, &all)] {
            assert!(names(less).iter().all(|name| names(more).contains(name)) && names(less).len() < names(more).len());
        }
        assert_eq!((&all["state"], &all["shards"], &all["keys"]), (&json!("ready"), &json!(2), &json!(0)));
        assert_eq!((&some["cores"][0]["keys"], &some["cores"][1]["keys"]), (&Value::Null, &json!(0)));
        assert_eq!(all["pool"]["mode"], "none");
    }
}
