//! The sections of INFO: what each says, line by line, in the order of Redis 7.2; EagleDB's own lines come last.
//!
//! What means something here is true. What does not (forks, scripts, a replication backlog) is what an idle Redis without it
//! shows, because tools read it. Times of commands are means of their turns ([`crate::core::stats`]).

use std::{fmt::Write as _, sync::atomic::Ordering};

use super::{
    all_rows,
    info::{Node, Section},
};
use crate::{REDIS_VERSION, acl::log::Reason, core::pause::Paused};

#[rustfmt::skip]
pub(super) const SECTIONS: &[Section] = &[
    Section { name: "server", title: "Server", by_default: true, write: server },
    Section { name: "clients", title: "Clients", by_default: true, write: clients },
    Section { name: "memory", title: "Memory", by_default: true, write: memory },
    Section { name: "persistence", title: "Persistence", by_default: true, write: persistence },
    Section { name: "stats", title: "Stats", by_default: true, write: stats },
    Section { name: "replication", title: "Replication", by_default: true, write: replication },
    Section { name: "cpu", title: "CPU", by_default: true, write: cpu },
    Section { name: "modules", title: "Modules", by_default: true, write: |_, _| {} },
    Section { name: "commandstats", title: "Commandstats", by_default: false, write: commandstats },
    Section { name: "errorstats", title: "Errorstats", by_default: true, write: errorstats },
    Section { name: "latencystats", title: "Latencystats", by_default: false, write: latencystats },
    Section { name: "cluster", title: "Cluster", by_default: true, write: cluster },
    Section { name: "keyspace", title: "Keyspace", by_default: true, write: keyspace },
];

/// A line `name:value`.
fn line(text: &mut String, name: &str, value: impl std::fmt::Display) {
    let _ = write!(text, "{name}:{value}\r\n");
}

/// What does not happen here.
fn none(text: &mut String, names: &[&str]) {
    names.iter().for_each(|name| line(text, name, 0));
}

/// Bytes as Redis abbreviates them for people.
fn human(bytes: u64) -> String {
    let units = [(1u64 << 40, 'T'), (1 << 30, 'G'), (1 << 20, 'M'), (1 << 10, 'K')];
    match units.into_iter().find(|(size, _)| bytes >= *size) {
        Some((size, unit)) => format!("{:.2}{unit}", bytes as f64 / size as f64),
        None => format!("{bytes}B"),
    }
}

/// A line in bytes and one for people.
fn bytes(text: &mut String, name: &str, bytes: u64) {
    line(text, name, bytes);
    line(text, &format!("{name}_human"), human(bytes));
}

fn ratio(a: u64, b: u64) -> f64 {
    if b == 0 { 0.0 } else { a as f64 / b as f64 }
}

fn server(node: &Node<'_>, text: &mut String) {
    // Redis' clock of uses has 24 bits of seconds.
    const LRU_MASK: u64 = (1 << 24) - 1;
    let (shared, config) = (node.shared, node.config);
    let uptime_s = node.now.mono_us.saturating_sub(shared.started_mono_us) / 1_000_000;
    line(text, "redis_version", REDIS_VERSION);
    // As a Redis says that was not built from a repository, nor by GCC.
    line(text, "redis_git_sha1", "00000000");
    line(text, "redis_git_dirty", 0);
    line(text, "redis_build_id", env!("CARGO_PKG_VERSION"));
    line(text, "redis_mode", "standalone");
    line(text, "os", &shared.host.os);
    line(text, "arch_bits", usize::BITS);
    line(text, "monotonic_clock", "POSIX clock_gettime");
    line(text, "multiplexing_api", "io_uring");
    line(text, "atomicvar_api", "rust-core");
    line(text, "gcc_version", "0.0.0");
    line(text, "process_id", std::process::id());
    let supervisor = Some(shared.host.supervisor).filter(|name| !name.is_empty());
    line(text, "process_supervised", supervisor.unwrap_or("no"));
    line(text, "run_id", &shared.run_id);
    line(text, "tcp_port", config.port);
    line(text, "server_time_usec", node.now.unix_us());
    line(text, "uptime_in_seconds", uptime_s);
    line(text, "uptime_in_days", uptime_s / 86_400);
    line(text, "hz", config.value("hz"));
    line(text, "configured_hz", config.value("hz"));
    line(text, "lru_clock", (node.now.unix.0 / 1000) & LRU_MASK);
    line(text, "executable", &shared.host.executable);
    line(text, "config_file", &config.config_file);
    line(text, "io_threads_active", 0);
    let mut listeners = Vec::new();
    if config.port != 0 {
        let binds: String = config.bind.iter().map(|address| format!("bind={address},")).collect();
        listeners.push(format!("name=tcp,{binds}port={}", config.port));
    }
    if !config.unixsocket.is_empty() {
        listeners.push(format!("name=unix,bind={}", config.unixsocket));
    }
    for (number, listener) in listeners.into_iter().enumerate() {
        line(text, &format!("listener{number}"), listener);
    }
    line(text, "server_name", "eagledb");
    line(text, "eagledb_version", env!("CARGO_PKG_VERSION"));
    line(text, "shards", node.cores);
    line(text, "eagle_log_lines_lost", crate::log::lost());
}

fn clients(node: &Node<'_>, text: &mut String) {
    let figures = &node.figures;
    line(text, "connected_clients", figures.clients);
    line(text, "cluster_connections", 0);
    line(text, "maxclients", node.config.maxclients);
    line(text, "client_recent_max_input_buffer", figures.query_bytes_max);
    line(text, "client_recent_max_output_buffer", figures.unsent_bytes_max);
    none(
        text,
        &[
            "blocked_clients",
            "tracking_clients",
            "clients_in_timeout_table",
            "total_blocking_keys",
            "total_blocking_keys_on_nokey",
        ],
    );
    let (reason, actions, ms) = match node.figures.paused {
        None => ("none", "none", 0),
        Some((Paused::Writes, ms)) => ("client_pause", "write", ms),
        Some((Paused::All, ms)) => ("client_pause", "all", ms),
    };
    line(text, "paused_reason", reason);
    line(text, "paused_actions", actions);
    line(text, "paused_timeout_milliseconds", ms);
}

fn memory(node: &Node<'_>, text: &mut String) {
    let (figures, config) = (&node.figures, node.config);
    let usage = &figures.usage;
    let used = figures.used_memory();
    let rss = node.shared.rss_bytes.load(Ordering::Relaxed);
    let peak = node.shared.note_used_memory(used);
    let overhead = (usage.index_bytes + usage.other_bytes) as u64 + figures.clients_memory;
    bytes(text, "used_memory", used);
    bytes(text, "used_memory_rss", rss);
    bytes(text, "used_memory_peak", peak);
    line(text, "used_memory_peak_perc", format!("{:.2}%", 100.0 * ratio(used, peak)));
    line(text, "used_memory_overhead", overhead);
    line(text, "used_memory_startup", 0);
    line(text, "used_memory_dataset", usage.log_live_bytes);
    line(text, "used_memory_dataset_perc", format!("{:.2}%", 100.0 * ratio(usage.log_live_bytes, used)));
    // The log is its own allocator; what it has of the system beyond that is the process'.
    line(text, "allocator_allocated", used);
    line(text, "allocator_active", used);
    line(text, "allocator_resident", rss);
    bytes(text, "total_system_memory", node.shared.host.memory_bytes);
    line(text, "used_memory_lua", 0);
    line(text, "used_memory_vm_eval", 0);
    line(text, "used_memory_lua_human", human(0));
    none(
        text,
        &[
            "used_memory_scripts_eval",
            "number_of_cached_scripts",
            "number_of_functions",
            "number_of_libraries",
            "used_memory_vm_functions",
        ],
    );
    bytes(text, "used_memory_vm_total", 0);
    line(text, "used_memory_functions", 0);
    bytes(text, "used_memory_scripts", 0);
    bytes(text, "maxmemory", config.maxmemory);
    line(text, "maxmemory_policy", config.maxmemory_policy.name());
    let beyond = rss as i64 - used as i64;
    line(text, "allocator_frag_ratio", "1.00");
    line(text, "allocator_frag_bytes", 0);
    line(text, "allocator_rss_ratio", format!("{:.2}", ratio(rss, used)));
    line(text, "allocator_rss_bytes", beyond);
    line(text, "rss_overhead_ratio", "1.00");
    line(text, "rss_overhead_bytes", 0);
    line(text, "mem_fragmentation_ratio", format!("{:.2}", ratio(rss, used)));
    line(text, "mem_fragmentation_bytes", beyond);
    none(
        text,
        &[
            "mem_not_counted_for_evict",
            "mem_replication_backlog",
            "mem_total_replication_buffers",
            "mem_clients_slaves",
        ],
    );
    line(text, "mem_clients_normal", figures.clients_memory);
    none(text, &["mem_cluster_links", "mem_aof_buffer"]);
    line(text, "mem_allocator", "libc");
    none(text, &["active_defrag_running", "lazyfree_pending_objects", "lazyfreed_objects"]);
    line(text, "index_bytes", usage.index_bytes);
    line(text, "log_bytes", usage.log_bytes);
    line(text, "log_live_bytes", usage.log_live_bytes);
    line(text, "log_dead_bytes", usage.log_dead_bytes);
}

fn persistence(node: &Node<'_>, text: &mut String) {
    let (figures, config, loading) = (&node.figures, node.config, &node.shared.loading);
    line(text, "loading", u8::from(loading.is_on()));
    none(text, &["async_loading", "current_cow_peak", "current_cow_size", "current_cow_size_age"]);
    line(text, "current_fork_perc", "0.00");
    none(text, &["current_save_keys_processed", "current_save_keys_total"]);
    // No snapshot was ever taken: all changes since the start.
    line(text, "rdb_changes_since_last_save", figures.writes_processed());
    line(text, "rdb_bgsave_in_progress", 0);
    line(text, "rdb_last_save_time", node.shared.started_unix_ms / 1000);
    line(text, "rdb_last_bgsave_status", "ok");
    line(text, "rdb_last_bgsave_time_sec", -1);
    line(text, "rdb_current_bgsave_time_sec", -1);
    none(text, &["rdb_saves", "rdb_last_cow_size", "rdb_last_load_keys_expired", "rdb_last_load_keys_loaded"]);
    // The pools are the log, and compaction its rewriting, which never fails and is always under way.
    let has_log = figures.keeps && config.appendonly();
    line(text, "aof_enabled", u8::from(has_log));
    none(text, &["aof_rewrite_in_progress", "aof_rewrite_scheduled"]);
    line(text, "aof_last_rewrite_time_sec", -1);
    line(text, "aof_current_rewrite_time_sec", -1);
    line(text, "aof_last_bgrewrite_status", "ok");
    none(text, &["aof_rewrites", "aof_rewrites_consecutive_failures"]);
    line(text, "aof_last_write_status", if figures.has_failed { "err" } else { "ok" });
    none(text, &["aof_last_cow_size", "module_fork_in_progress", "module_fork_last_cow_size"]);
    if has_log {
        line(text, "aof_current_size", figures.pool_bytes);
        none(text, &["aof_base_size", "aof_pending_rewrite", "aof_buffer_length"]);
        line(text, "aof_pending_bio_fsync", figures.syncs_in_flight);
        line(text, "aof_delayed_fsync", figures.storage.syncs_delayed);
    }
    if loading.is_on() {
        loading_lines(node, text);
    }
    pool_lines(node, text);
}

fn loading_lines(node: &Node<'_>, text: &mut String) {
    let loading = &node.shared.loading;
    let (bytes, started_ms) = (loading.bytes(), loading.started_unix_ms());
    let part = ratio(bytes.bytes_done, bytes.bytes_total);
    let took_s = node.now.unix.0.saturating_sub(started_ms) as f64 / 1000.0;
    line(text, "loading_start_time", started_ms / 1000);
    line(text, "loading_total_bytes", bytes.bytes_total);
    line(text, "loading_rdb_used_mem", 0);
    line(text, "loading_loaded_bytes", bytes.bytes_done);
    line(text, "loading_loaded_perc", format!("{:.2}", 100.0 * part));
    line(text, "loading_eta_seconds", if part > 0.0 { (took_s / part - took_s).ceil() as u64 } else { 1 });
}

fn pool_lines(node: &Node<'_>, text: &mut String) {
    let (figures, config) = (&node.figures, node.config);
    let (storage, recovery) = (&figures.storage, &figures.recovery);
    let us = |percent| storage.latency.percentile_ns(percent) / 1000;
    line(text, "eagle_pool_mode", figures.pool_mode);
    line(text, "eagle_sync", config.sync().name());
    line(text, "eagle_commits", storage.commits);
    line(text, "eagle_commit_latency_us_p50", us(50.0));
    line(text, "eagle_commit_latency_us_p99", us(99.0));
    line(text, "eagle_committed_bytes", storage.bytes);
    line(text, "eagle_syncs", storage.syncs);
    line(text, "eagle_growths_failed", storage.growths_failed);
    line(text, "eagle_pool_file_bytes", figures.pool_bytes);
    line(text, "eagle_pool_allocated_bytes", figures.pool_allocated_bytes);
    line(text, "eagle_punched_bytes", storage.punched_bytes);
    line(text, "eagle_recovery_records", recovery.records);
    line(text, "eagle_recovery_bytes", recovery.bytes);
    line(text, "eagle_recovery_torn_bytes", recovery.torn_bytes);
    line(text, "eagle_recovery_damaged", recovery.damaged);
    line(text, "eagle_recovery_quarantined_bytes", recovery.quarantined_bytes);
    line(text, "eagle_recovery_keys_lost", recovery.keys_lost);
    line(text, "eagle_recovery_ms", node.shared.loading.took_ms());
    line(text, "eagle_scrub_passes", figures.scrub.passes);
    line(text, "eagle_scrub_records", figures.scrub.records);
    line(text, "eagle_scrub_bytes", figures.scrub.bytes);
    line(text, "eagle_scrub_damaged", figures.scrub.damaged);
}

fn stats(node: &Node<'_>, text: &mut String) {
    let figures = &node.figures;
    let [commands, bytes_in, bytes_out, turns, turns_ns] = figures.rates;
    let errors: u64 = figures.errors().map(|(_, count)| count).sum();
    let kbps = |bytes: f64| format!("{:.2}", bytes / 1024.0);
    line(text, "total_connections_received", figures.stats.connections);
    line(text, "total_commands_processed", figures.commands_processed());
    line(text, "instantaneous_ops_per_sec", commands.round());
    line(text, "total_net_input_bytes", figures.stats.bytes_in);
    line(text, "total_net_output_bytes", figures.stats.bytes_out);
    none(text, &["total_net_repl_input_bytes", "total_net_repl_output_bytes"]);
    line(text, "instantaneous_input_kbps", kbps(bytes_in));
    line(text, "instantaneous_output_kbps", kbps(bytes_out));
    line(text, "instantaneous_input_repl_kbps", "0.00");
    line(text, "instantaneous_output_repl_kbps", "0.00");
    line(text, "rejected_connections", figures.stats.rejected);
    none(text, &["sync_full", "sync_partial_ok", "sync_partial_err"]);
    line(text, "expired_keys", figures.shard.expired);
    line(text, "expired_stale_perc", "0.00");
    none(text, &["expired_time_cap_reached_count", "expire_cycle_cpu_milliseconds"]);
    line(text, "evicted_keys", figures.shard.evicted);
    line(text, "evicted_clients", figures.stats.evicted_clients);
    let (present_us, total_us) = node.shared.budget.exceeded_us(node.now.mono_us);
    line(text, "total_eviction_exceeded_time", total_us / 1000);
    line(text, "current_eviction_exceeded_time", present_us / 1000);
    line(text, "keyspace_hits", figures.shard.hits);
    line(text, "keyspace_misses", figures.shard.misses);
    none(text, &["pubsub_channels", "pubsub_patterns", "pubsubshard_channels", "latest_fork_usec", "total_forks"]);
    none(text, &["migrate_cached_sockets", "slave_expires_tracked_keys"]);
    none(text, &["active_defrag_hits", "active_defrag_misses", "active_defrag_key_hits", "active_defrag_key_misses"]);
    none(text, &["total_active_defrag_time", "current_active_defrag_time"]);
    none(text, &["tracking_total_keys", "tracking_total_items", "tracking_total_prefixes", "unexpected_error_replies"]);
    line(text, "total_error_replies", errors);
    line(text, "dump_payload_sanitizations", 0);
    line(text, "total_reads_processed", figures.stats.reads);
    line(text, "total_writes_processed", figures.stats.writes);
    none(text, &["io_threaded_reads_processed", "io_threaded_writes_processed"]);
    line(text, "client_query_buffer_limit_disconnections", figures.stats.closed_by_input);
    line(text, "client_output_buffer_limit_disconnections", figures.stats.closed_by_output);
    none(text, &["reply_buffer_shrinks", "reply_buffer_expands"]);
    line(text, "eventloop_cycles", figures.stats.turns);
    line(text, "eventloop_duration_sum", figures.stats.turns_ns / 1000);
    line(text, "eventloop_duration_cmd_sum", figures.commands_ns() / 1000);
    line(text, "instantaneous_eventloop_cycles_per_sec", turns.round());
    line(text, "instantaneous_eventloop_duration_usec", (turns_ns / turns.max(1.0) / 1000.0).round());
    for (name, reason) in
        [("auth", Reason::Auth), ("cmd", Reason::Command), ("key", Reason::Key), ("channel", Reason::Channel)]
    {
        line(text, &format!("acl_access_denied_{name}"), figures.stats.denied[reason as usize]);
    }
    line(text, "commands_of_other_cores", figures.stats.served);
    line(text, "compacted_records", figures.shard.moved);
    line(text, "compacted_bytes", figures.shard.moved_bytes);
    line(text, "patches_written", figures.shard.patches);
    line(text, "patches_folded", figures.shard.folded);
}

fn replication(node: &Node<'_>, text: &mut String) {
    line(text, "role", "master");
    line(text, "connected_slaves", 0);
    line(text, "master_failover_state", "no-failover");
    line(text, "master_replid", node.shared.replication_id());
    line(text, "master_replid2", "0".repeat(40));
    line(text, "master_repl_offset", 0);
    line(text, "second_repl_offset", -1);
    line(text, "repl_backlog_active", 0);
    line(text, "repl_backlog_size", node.config.value("repl-backlog-size"));
    none(text, &["repl_backlog_first_byte_offset", "repl_backlog_histlen"]);
}

/// There is no main thread: its lines are those of all cores.
fn cpu(node: &Node<'_>, text: &mut String) {
    let seconds = |us: u64| format!("{:.6}", us as f64 / 1e6);
    let shared = node.shared;
    let system = seconds(shared.cpu_system_us.load(Ordering::Relaxed));
    let user = seconds(shared.cpu_user_us.load(Ordering::Relaxed));
    line(text, "used_cpu_sys", &system);
    line(text, "used_cpu_user", &user);
    line(text, "used_cpu_sys_children", seconds(0));
    line(text, "used_cpu_user_children", seconds(0));
    line(text, "used_cpu_sys_main_thread", system);
    line(text, "used_cpu_user_main_thread", user);
}

fn commandstats(node: &Node<'_>, text: &mut String) {
    for row in all_rows() {
        let counted = node.figures.command(row);
        if counted.is_empty() {
            continue;
        }
        let us = counted.ns / 1000;
        let _ = write!(
            text,
            "cmdstat_{}:calls={},usec={us},usec_per_call={:.2},rejected_calls={},failed_calls={}\r\n",
            row.spec.name,
            counted.calls,
            ratio(counted.ns, counted.calls) / 1000.0,
            counted.rejected,
            counted.failed
        );
    }
}

fn errorstats(node: &Node<'_>, text: &mut String) {
    for (code, count) in node.figures.errors() {
        let _ = write!(text, "errorstat_{code}:count={count}\r\n");
    }
}

fn latencystats(node: &Node<'_>, text: &mut String) {
    let percentiles: Vec<f64> =
        node.config.latency_percentiles.split(' ').filter_map(|word| word.parse().ok()).collect();
    for row in all_rows() {
        let Some(latency) = node.figures.latency(row) else { continue };
        let shown: Vec<String> = percentiles
            .iter()
            .map(|percent| format!("p{percent}={:.3}", latency.percentile_ns(*percent) as f64 / 1000.0))
            .collect();
        line(text, &format!("latency_percentiles_usec_{}", row.spec.name), shown.join(","));
    }
}

fn cluster(_: &Node<'_>, text: &mut String) {
    line(text, "cluster_enabled", 0);
}

fn keyspace(node: &Node<'_>, text: &mut String) {
    for (db, figures) in node.figures.databases.iter().enumerate().filter(|(_, figures)| figures.keys > 0) {
        let ttl_ms = figures.ttl_ms_total / u128::from(figures.expires.max(1));
        let what = format!("keys={},expires={},avg_ttl={ttl_ms}", figures.keys, figures.expires);
        line(text, &format!("db{db}"), what);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_abbreviated_as_in_redis() {
        // bytesToHuman of Redis.
        for (bytes, shown) in
            [(0, "0B"), (1023, "1023B"), (1024, "1.00K"), (965_832, "943.20K"), (25_276_514_304, "23.54G")]
        {
            assert_eq!(human(bytes), shown);
        }
    }
}
