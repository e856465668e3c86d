//! EagleDB's own metrics: what Redis does not have, or not by core and shard. A core and its shard have the same number; the label says
//! which of the two a number is about.

use super::{View, exposition::Exposition, state};
use crate::{
    command::all_rows,
    core::{latency::Histogram, stats::Figures},
};

const S: f64 = 1e9;

/// A number of each core or shard.
struct Each {
    name: &'static str,
    help: &'static str,
    of: fn(&Figures) -> u64,
}

/// Numbers of shards that only grow.
#[rustfmt::skip]
const SHARD_COUNTERS: &[Each] = &[
    Each { name: "eagle_expired_keys_total", help: "Keys removed because their time had come.", of: |f| f.shard.expired },
    Each { name: "eagle_evicted_keys_total", help: "Keys removed to make room.", of: |f| f.shard.evicted },
    Each { name: "eagle_compacted_records_total", help: "Records that compaction moved.", of: |f| f.shard.moved },
    Each { name: "eagle_compacted_bytes_total", help: "Bytes that compaction moved.", of: |f| f.shard.moved_bytes },
    Each { name: "eagle_committed_bytes_total", help: "Bytes that commits wrote to the pool's file.", of: |f| f.storage.bytes },
    Each { name: "eagle_syncs_total", help: "Syncs of the pool's file.", of: |f| f.storage.syncs },
    Each { name: "eagle_syncs_delayed_total", help: "Times that a sync was due while the one before it was in flight.", of: |f| f.storage.syncs_delayed },
    Each { name: "eagle_pool_growths_failed_total", help: "Times that the pool could not grow.", of: |f| f.storage.growths_failed },
    Each { name: "eagle_scrub_passes_total", help: "Times that all records were read again to see whether they are whole.", of: |f| f.scrub.passes },
    Each { name: "eagle_scrub_records_total", help: "Records read again.", of: |f| f.scrub.records },
    Each { name: "eagle_scrub_bytes_total", help: "Bytes of them.", of: |f| f.scrub.bytes },
    Each { name: "eagle_scrub_damaged_total", help: "Records found damaged by it.", of: |f| f.scrub.damaged },
];

/// Numbers of shards that come and go.
#[rustfmt::skip]
const SHARD_GAUGES: &[Each] = &[
    Each { name: "eagle_keys_total", help: "Keys there are, in all databases.", of: |f| f.usage.keys as u64 },
    Each { name: "eagle_expiring_keys", help: "Of them, with an expiry.", of: |f| f.usage.expires as u64 },
    Each { name: "eagle_memory_bytes", help: "Memory that counts towards maxmemory, without connections.", of: |f| f.usage.memory },
    Each { name: "eagle_index_bytes", help: "Of it, the index.", of: |f| f.usage.index_bytes as u64 },
    Each { name: "eagle_tables_bytes", help: "Of it, tables of collections and of large strings.", of: |f| f.usage.other_bytes as u64 },
    Each { name: "eagle_extent_size_bytes", help: "Size of an extent.", of: |f| f.extent_bytes },
    Each { name: "eagle_extents_used", help: "Extents in use.", of: |f| f.usage.log_bytes / f.extent_bytes.max(1) },
    Each { name: "eagle_extents_free", help: "Free extents that keep their pages.", of: |f| f.usage.log_free_bytes / f.extent_bytes.max(1) },
    Each { name: "eagle_log_bytes", help: "Extents in use, in bytes.", of: |f| f.usage.log_bytes },
    Each { name: "eagle_log_live_bytes", help: "Of them, living records.", of: |f| f.usage.log_live_bytes },
    Each { name: "eagle_log_dead_bytes", help: "Of them, records to be compacted.", of: |f| f.usage.log_dead_bytes },
    Each { name: "eagle_log_max_bytes", help: "What the log may grow to.", of: |f| f.usage.log_bytes_max },
    Each { name: "eagle_pool_bytes", help: "Size of the pool's file.", of: |f| f.pool_bytes },
    Each { name: "eagle_pool_failed", help: "1 after a write or sync that failed: until a restart nothing is written.", of: |f| u64::from(f.has_failed) },
    Each { name: "eagle_pool_lacks_space", help: "1 while the pool cannot grow: what does not fit is refused.", of: |f| u64::from(f.lacks_space) },
    Each { name: "eagle_syncs_in_flight", help: "Syncs in flight.", of: |f| f.syncs_in_flight },
    Each { name: "eagle_recovery_records", help: "Whole records found at the start.", of: |f| f.recovery.records },
    Each { name: "eagle_recovery_bytes", help: "Bytes of them.", of: |f| f.recovery.bytes },
    Each { name: "eagle_recovery_torn_bytes", help: "Bytes at the pool's end dropped at the start: never promised to be durable.", of: |f| f.recovery.torn_bytes },
    Each { name: "eagle_recovery_damaged_places", help: "Places found damaged at the start.", of: |f| f.recovery.damaged },
    Each { name: "eagle_recovery_quarantined_bytes", help: "Bytes of them that were copied to a quarantine.", of: |f| f.recovery.quarantined_bytes },
    Each { name: "eagle_recovery_lost_keys", help: "Keys dropped at the start because parts of them were lost.", of: |f| f.recovery.keys_lost },
];

/// Numbers of cores that only grow.
#[rustfmt::skip]
const CORE_COUNTERS: &[Each] = &[
    Each { name: "eagle_core_commands_total", help: "Commands of the core's clients.", of: Figures::commands_processed },
    Each { name: "eagle_core_questions_served_total", help: "Questions of other cores that were executed here.", of: |f| f.stats.served },
    Each { name: "eagle_core_turns_total", help: "Turns in which anything was done.", of: |f| f.stats.turns },
    Each { name: "eagle_core_connections_received_total", help: "Connections accepted.", of: |f| f.stats.connections },
    Each { name: "eagle_core_net_input_bytes_total", help: "Bytes received.", of: |f| f.stats.bytes_in },
    Each { name: "eagle_core_net_output_bytes_total", help: "Bytes sent.", of: |f| f.stats.bytes_out },
];

/// Numbers of cores that come and go.
#[rustfmt::skip]
const CORE_GAUGES: &[Each] = &[
    Each { name: "eagle_core_connections", help: "Open connections.", of: |f| f.clients },
    Each { name: "eagle_core_clients_bytes", help: "Memory of connections and their buffers.", of: |f| f.clients_memory },
    Each { name: "eagle_core_questions_in_flight", help: "Questions to other cores that are not answered yet.", of: |f| f.questions },
];

/// Writes all of them; `whole` are the figures of all cores added up.
pub(super) fn write(view: &View, whole: &Figures, exposition: &mut Exposition) {
    about_the_node(view, whole, exposition);
    commands(whole, exposition);
    let figures: Vec<(String, &Figures)> = (0..).zip(&view.cores).filter_map(numbered).collect();
    each("shard", &figures, SHARD_COUNTERS, SHARD_GAUGES, exposition);
    histogram("shard", &figures, "eagle_commit_duration_seconds", COMMITS, |f| &f.storage.latency, exposition);
    each("core", &figures, CORE_COUNTERS, CORE_GAUGES, exposition);
    histogram("core", &figures, "eagle_core_message_wait_seconds", WAITS, |f| &f.stats.waits, exposition);
    let mut busy =
        exposition.counters("eagle_core_busy_seconds_total", "Time of the turns in which anything was done.");
    figures.iter().for_each(|(core, figures)| busy.add(&[("core", core)], figures.stats.turns_ns as f64 / S));
    let mut age = exposition.gauges("eagle_core_figures_age_seconds", "How old what the core said last is.");
    for (core, seen) in (0..).zip(&view.cores) {
        let age_us = view.now.mono_us.saturating_sub(seen.taken_us);
        age.add(&[("core", &u16::to_string(&core))], age_us as f64 / 1e6);
    }
}

const COMMITS: &str = "How long commits took, up to what the configuration promises.";
const WAITS: &str = "How long messages of other cores lay before the core took them.";

fn numbered((core, seen): (u16, &super::CoreView)) -> Option<(String, &Figures)> {
    Some((core.to_string(), seen.figures.as_ref()?))
}

fn each(label: &str, of: &[(String, &Figures)], counters: &[Each], gauges: &[Each], exposition: &mut Exposition) {
    for Each { name, help, of: number } in counters {
        let mut family = exposition.counters(name, help);
        of.iter().for_each(|(nth, figures)| family.add(&[(label, nth)], number(figures) as f64));
    }
    for Each { name, help, of: number } in gauges {
        let mut family = exposition.gauges(name, help);
        of.iter().for_each(|(nth, figures)| family.add(&[(label, nth)], number(figures) as f64));
    }
}

fn histogram(
    label: &str,
    of: &[(String, &Figures)],
    name: &str,
    help: &str,
    counted: fn(&Figures) -> &Histogram,
    exposition: &mut Exposition,
) {
    let mut family = exposition.histograms(name, help);
    of.iter().for_each(|(nth, figures)| family.add_histogram(&[(label, nth)], counted(figures), S));
}

fn about_the_node(view: &View, whole: &Figures, exposition: &mut Exposition) {
    let version = [("version", env!("CARGO_PKG_VERSION"))];
    exposition.gauges("eagle_build_info", "The version, in its label; always 1.").add(&version, 1.0);
    let (state, _) = state::state(Some(view));
    let mut states = exposition.gauges("eagle_state", "1 for what the node is doing, 0 for what it is not.");
    for one in state::State::ALL {
        states.add(&[("state", one.name())], f64::from(u8::from(one == state)));
    }
    let mode = [("mode", whole.pool_mode)];
    exposition.gauges("eagle_pool_mode", "What the pools lie on, in its label; always 1.").add(&mode, 1.0);
    let mode = [("mode", view.config.sync().name())];
    exposition.gauges("eagle_sync_mode", "When commits are synced, in its label; always 1.").add(&mode, 1.0);
    exposition.gauge("eagle_shards", "Shards, each of a core.", view.cores.len() as f64);
    let loading = view.shared.loading.bytes();
    exposition.gauge(
        "eagle_loading_bytes",
        "Bytes of the pools to be loaded at the start.",
        loading.bytes_total as f64,
    );
    exposition.gauge("eagle_loaded_bytes", "Of them, bytes that are loaded.", loading.bytes_done as f64);
    let took_s = view.shared.loading.took_ms() as f64 / 1000.0;
    exposition.gauge("eagle_recovery_duration_seconds", "How long loading the pools took, in seconds.", took_s);
    let help = "Times that a sleeping core was found with work to do.";
    exposition.counter("eagle_core_rescues_total", help, view.rescues as f64);
}

fn commands(whole: &Figures, exposition: &mut Exposition) {
    let help = "How long the calls of each command took, in seconds: of each the mean of its turn.";
    let mut durations = exposition.histograms("eagle_command_duration_seconds", help);
    for row in all_rows() {
        if let Some(latency) = whole.latency(row) {
            durations.add_histogram(&[("cmd", row.spec.name)], latency, S);
        }
    }
    let name = |index: u16| all_rows().find(|row| row.index == index).map_or("", |row| row.spec.name);
    let help = "Error replies by the command, \"\" for what is none, and by their code.";
    let mut errors = exposition.counters("eagle_command_errors_total", help);
    for (row, code, count) in whole.command_errors() {
        errors.add(&[("cmd", row.map_or("", name)), ("error", code)], count as f64);
    }
}
