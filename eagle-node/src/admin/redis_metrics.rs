//! The metrics that redis_exporter (1.6x) makes of a standalone Redis, by its names, so that dashboards and alerts made for it show a node of
//! EagleDB.
//!
//! It reads `INFO`, and so is this made: the lines of `INFO` by one table, commands, databases and errors from what `INFO` writes them
//! from. A line that `INFO` does not have makes no metric, as with redis_exporter.

use std::collections::HashMap;

use super::{View, exposition::Exposition};
use crate::{
    REDIS_VERSION,
    command::{all_rows, info::Node},
    core::stats::Figures,
};

/// What a metric's number is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// It only grows, but for a reset.
    Counter,
    /// It comes and goes.
    Gauge,
}
use Kind::{Counter, Gauge};

/// Fields of `INFO`, and the metrics that they are without their `redis_`.
#[rustfmt::skip]
const FIELDS: &[(&str, &str, Kind)] = &[
    ("uptime_in_seconds", "uptime_in_seconds", Gauge),
    ("process_id", "process_id", Gauge),
    ("io_threads_active", "io_threads_active", Gauge),
    ("connected_clients", "connected_clients", Gauge),
    ("blocked_clients", "blocked_clients", Gauge),
    ("maxclients", "max_clients", Gauge),
    ("tracking_clients", "tracking_clients", Gauge),
    ("clients_in_timeout_table", "clients_in_timeout_table", Gauge),
    ("pubsub_clients", "pubsub_clients", Gauge),
    ("watching_clients", "watching_clients", Gauge),
    ("total_watched_keys", "total_watched_keys", Gauge),
    ("total_blocking_keys", "total_blocking_keys", Gauge),
    ("total_blocking_keys_on_nokey", "total_blocking_keys_on_nokey", Gauge),
    ("cluster_connections", "cluster_connections", Gauge),
    ("client_recent_max_output_buffer", "client_recent_max_output_buffer_bytes", Gauge),
    ("client_recent_max_input_buffer", "client_recent_max_input_buffer_bytes", Gauge),
    ("allocator_active", "allocator_active_bytes", Gauge),
    ("allocator_allocated", "allocator_allocated_bytes", Gauge),
    ("allocator_resident", "allocator_resident_bytes", Gauge),
    ("allocator_frag_ratio", "allocator_frag_ratio", Gauge),
    ("allocator_frag_bytes", "allocator_frag_bytes", Gauge),
    ("allocator_rss_ratio", "allocator_rss_ratio", Gauge),
    ("allocator_rss_bytes", "allocator_rss_bytes", Gauge),
    ("used_memory", "memory_used_bytes", Gauge),
    ("used_memory_rss", "memory_used_rss_bytes", Gauge),
    ("used_memory_peak", "memory_used_peak_bytes", Gauge),
    ("used_memory_lua", "memory_used_lua_bytes", Gauge),
    ("used_memory_vm_eval", "memory_used_vm_eval_bytes", Gauge),
    ("used_memory_scripts_eval", "memory_used_scripts_eval_bytes", Gauge),
    ("used_memory_vm_functions", "memory_used_vm_functions_bytes", Gauge),
    ("used_memory_functions", "memory_used_functions_bytes", Gauge),
    ("used_memory_scripts", "memory_used_scripts_bytes", Gauge),
    ("used_memory_overhead", "memory_used_overhead_bytes", Gauge),
    ("used_memory_startup", "memory_used_startup_bytes", Gauge),
    ("used_memory_dataset", "memory_used_dataset_bytes", Gauge),
    ("number_of_cached_scripts", "number_of_cached_scripts", Gauge),
    ("number_of_functions", "number_of_functions", Gauge),
    ("number_of_libraries", "number_of_libraries", Gauge),
    ("maxmemory", "memory_max_bytes", Gauge),
    ("total_system_memory", "total_system_memory_bytes", Gauge),
    ("mem_fragmentation_ratio", "mem_fragmentation_ratio", Gauge),
    ("mem_fragmentation_bytes", "mem_fragmentation_bytes", Gauge),
    ("mem_clients_slaves", "mem_clients_slaves", Gauge),
    ("mem_clients_normal", "mem_clients_normal", Gauge),
    ("mem_cluster_links", "mem_cluster_links_bytes", Gauge),
    ("mem_aof_buffer", "mem_aof_buffer_bytes", Gauge),
    ("mem_replication_backlog", "mem_replication_backlog_bytes", Gauge),
    ("mem_not_counted_for_evict", "mem_not_counted_for_eviction_bytes", Gauge),
    ("mem_total_replication_buffers", "mem_total_replication_buffers_bytes", Gauge),
    ("expired_stale_perc", "expired_stale_percentage", Gauge),
    ("lazyfree_pending_objects", "lazyfree_pending_objects", Gauge),
    ("lazyfreed_objects", "lazyfreed_objects_total", Counter),
    ("active_defrag_running", "active_defrag_running", Gauge),
    ("migrate_cached_sockets", "migrate_cached_sockets_total", Gauge),
    ("active_defrag_hits", "defrag_hits", Gauge),
    ("active_defrag_misses", "defrag_misses", Gauge),
    ("active_defrag_key_hits", "defrag_key_hits", Gauge),
    ("active_defrag_key_misses", "defrag_key_misses", Gauge),
    ("expired_time_cap_reached_count", "expired_time_cap_reached_total", Gauge),
    ("loading", "loading_dump_file", Gauge),
    ("async_loading", "async_loading", Gauge),
    ("rdb_changes_since_last_save", "rdb_changes_since_last_save", Gauge),
    ("rdb_bgsave_in_progress", "rdb_bgsave_in_progress", Gauge),
    ("rdb_last_save_time", "rdb_last_save_timestamp_seconds", Gauge),
    ("rdb_last_bgsave_status", "rdb_last_bgsave_status", Gauge),
    ("rdb_last_bgsave_time_sec", "rdb_last_bgsave_duration_sec", Gauge),
    ("rdb_current_bgsave_time_sec", "rdb_current_bgsave_duration_sec", Gauge),
    ("rdb_saves", "rdb_saves_total", Counter),
    ("rdb_last_cow_size", "rdb_last_cow_size_bytes", Gauge),
    ("rdb_last_load_keys_expired", "rdb_last_load_expired_keys", Gauge),
    ("rdb_last_load_keys_loaded", "rdb_last_load_loaded_keys", Gauge),
    ("aof_enabled", "aof_enabled", Gauge),
    ("aof_rewrite_in_progress", "aof_rewrite_in_progress", Gauge),
    ("aof_rewrite_scheduled", "aof_rewrite_scheduled", Gauge),
    ("aof_last_rewrite_time_sec", "aof_last_rewrite_duration_sec", Gauge),
    ("aof_current_rewrite_time_sec", "aof_current_rewrite_duration_sec", Gauge),
    ("aof_last_cow_size", "aof_last_cow_size_bytes", Gauge),
    ("aof_current_size", "aof_current_size_bytes", Gauge),
    ("aof_base_size", "aof_base_size_bytes", Gauge),
    ("aof_pending_rewrite", "aof_pending_rewrite", Gauge),
    ("aof_buffer_length", "aof_buffer_length", Gauge),
    ("aof_pending_bio_fsync", "aof_pending_bio_fsync", Gauge),
    ("aof_delayed_fsync", "aof_delayed_fsync", Gauge),
    ("aof_last_bgrewrite_status", "aof_last_bgrewrite_status", Gauge),
    ("aof_last_write_status", "aof_last_write_status", Gauge),
    ("module_fork_in_progress", "module_fork_in_progress", Gauge),
    ("module_fork_last_cow_size", "module_fork_last_cow_size", Gauge),
    ("current_eviction_exceeded_time", "current_eviction_exceeded_time_ms", Gauge),
    ("pubsub_channels", "pubsub_channels", Gauge),
    ("pubsub_patterns", "pubsub_patterns", Gauge),
    ("pubsubshard_channels", "pubsubshard_channels", Gauge),
    ("latest_fork_usec", "latest_fork_usec", Gauge),
    ("tracking_total_keys", "tracking_total_keys", Gauge),
    ("tracking_total_items", "tracking_total_items", Gauge),
    ("tracking_total_prefixes", "tracking_total_prefixes", Gauge),
    ("instantaneous_ops_per_sec", "instantaneous_ops_per_sec", Gauge),
    ("instantaneous_input_kbps", "instantaneous_input_kbps", Gauge),
    ("instantaneous_output_kbps", "instantaneous_output_kbps", Gauge),
    ("connected_slaves", "connected_slaves", Gauge),
    ("repl_backlog_size", "replication_backlog_bytes", Gauge),
    ("repl_backlog_active", "repl_backlog_is_active", Gauge),
    ("repl_backlog_first_byte_offset", "repl_backlog_first_byte_offset", Gauge),
    ("repl_backlog_histlen", "repl_backlog_history_bytes", Gauge),
    ("master_repl_offset", "master_repl_offset", Gauge),
    ("second_repl_offset", "second_repl_offset", Gauge),
    ("slave_expires_tracked_keys", "slave_expires_tracked_keys", Gauge),
    ("sync_full", "replica_resyncs_full", Gauge),
    ("sync_partial_ok", "replica_partial_resync_accepted", Gauge),
    ("sync_partial_err", "replica_partial_resync_denied", Gauge),
    ("cluster_enabled", "cluster_enabled", Gauge),
    ("total_connections_received", "connections_received_total", Counter),
    ("total_commands_processed", "commands_processed_total", Counter),
    ("rejected_connections", "rejected_connections_total", Counter),
    ("total_net_input_bytes", "net_input_bytes_total", Counter),
    ("total_net_output_bytes", "net_output_bytes_total", Counter),
    ("total_net_repl_input_bytes", "net_repl_input_bytes_total", Counter),
    ("total_net_repl_output_bytes", "net_repl_output_bytes_total", Counter),
    ("expired_keys", "expired_keys_total", Counter),
    ("expire_cycle_cpu_milliseconds", "expire_cycle_cpu_time_ms_total", Counter),
    ("evicted_keys", "evicted_keys_total", Counter),
    ("evicted_clients", "evicted_clients_total", Counter),
    ("total_eviction_exceeded_time", "eviction_exceeded_time_ms_total", Counter),
    ("keyspace_hits", "keyspace_hits_total", Counter),
    ("keyspace_misses", "keyspace_misses_total", Counter),
    ("used_cpu_sys", "cpu_sys_seconds_total", Counter),
    ("used_cpu_user", "cpu_user_seconds_total", Counter),
    ("used_cpu_sys_children", "cpu_sys_children_seconds_total", Counter),
    ("used_cpu_user_children", "cpu_user_children_seconds_total", Counter),
    ("used_cpu_sys_main_thread", "cpu_sys_main_thread_seconds_total", Counter),
    ("used_cpu_user_main_thread", "cpu_user_main_thread_seconds_total", Counter),
    ("unexpected_error_replies", "unexpected_error_replies", Counter),
    ("total_error_replies", "total_error_replies", Counter),
    ("dump_payload_sanitizations", "dump_payload_sanitizations", Counter),
    ("total_reads_processed", "total_reads_processed", Counter),
    ("total_writes_processed", "total_writes_processed", Counter),
    ("io_threaded_reads_processed", "io_threaded_reads_processed", Counter),
    ("io_threaded_writes_processed", "io_threaded_writes_processed", Counter),
    ("client_query_buffer_limit_disconnections", "client_query_buffer_limit_disconnections_total", Counter),
    ("client_output_buffer_limit_disconnections", "client_output_buffer_limit_disconnections_total", Counter),
    ("reply_buffer_shrinks", "reply_buffer_shrinks_total", Counter),
    ("reply_buffer_expands", "reply_buffer_expands_total", Counter),
    ("acl_access_denied_auth", "acl_access_denied_auth_total", Counter),
    ("acl_access_denied_cmd", "acl_access_denied_cmd_total", Counter),
    ("acl_access_denied_key", "acl_access_denied_key_total", Counter),
    ("acl_access_denied_channel", "acl_access_denied_channel_total", Counter),
];

/// Writes all of them; `whole` are the figures of all cores added up.
pub(super) fn write(view: &View, whole: Figures, exposition: &mut Exposition) {
    let cores = view.cores.len();
    let node = Node { shared: &view.shared, config: &view.config, figures: whole, cores, now: view.now };
    let text = node.everything();
    let info: HashMap<&str, &str> = text.lines().filter_map(|line| line.split_once(':')).collect();
    exposition.gauge("redis_up", "Whether the node answers, always 1: if it does not, neither does this.", 1.0);
    for (field, metric, kind) in FIELDS {
        let Some(value) = info.get(field).and_then(|value| number(value)) else { continue };
        let (name, help) = (format!("redis_{metric}"), format!("The field {field} of INFO."));
        match kind {
            Counter => exposition.counter(&name, &help, value),
            Gauge => exposition.gauge(&name, &help, value),
        }
    }
    about_the_instance(view, &info, exposition);
    commands(&node, exposition);
    databases(&node.figures, exposition);
}

/// The number of a field of `INFO`.
fn number(value: &str) -> Option<f64> {
    match value {
        "ok" => Some(1.0),
        "err" | "fail" => Some(0.0),
        number => number.parse().ok(),
    }
}

fn about_the_instance(view: &View, info: &HashMap<&str, &str>, exposition: &mut Exposition) {
    let of = |field: &'static str| (field, info.get(field).copied().unwrap_or_default());
    let labels = [
        of("role"),
        ("redis_version", REDIS_VERSION),
        of("redis_build_id"),
        of("redis_mode"),
        of("os"),
        of("maxmemory_policy"),
        of("tcp_port"),
        of("run_id"),
        of("process_id"),
        of("master_replid"),
    ];
    exposition.gauges("redis_instance_info", "What the node is, in its labels; always 1.").add(&labels, 1.0);
    let started_s = (view.shared.started_unix_ms / 1000) as f64;
    exposition.gauge("redis_start_time_seconds", "When the node started, in seconds since 1970.", started_s);
    let latest_fork_s = info.get("latest_fork_usec").and_then(|value| number(value)).unwrap_or_default() / 1e6;
    exposition.gauge("redis_latest_fork_seconds", "The field latest_fork_usec of INFO, in seconds.", latest_fork_s);
    let config = &view.config;
    exposition.gauge("redis_config_maxmemory", "The directive maxmemory, in bytes.", config.maxmemory as f64);
    exposition.gauge("redis_config_maxclients", "The directive maxclients.", f64::from(config.maxclients));
    // As the exporter says of itself; here it is the admin port that looks and the cores that are looked at.
    let looks = view.collected as f64;
    exposition.counter("redis_exporter_scrapes_total", "How often the admin port has asked how the node is.", looks);
    let took_s = view.collecting.as_secs_f64();
    let help = "How long the cores took to say how they are, in seconds.";
    exposition.gauge("redis_exporter_last_scrape_duration_seconds", help, took_s);
    let help = "Whether the last look failed, always 0: if it had, this would not be here.";
    exposition.gauges("redis_exporter_last_scrape_error", help).add(&[("err", "")], 0.0);
}

fn commands(node: &Node<'_>, exposition: &mut Exposition) {
    const US: f64 = 1e3;
    let counted =
        || all_rows().map(|row| (row.spec.name, node.figures.command(row))).filter(|(_, one)| !one.is_empty());
    let mut calls = exposition.counters("redis_commands_total", "Calls of each command.");
    counted().for_each(|(cmd, one)| calls.add(&[("cmd", cmd)], one.calls as f64));
    let help = "Time of each command, in seconds.";
    let mut seconds = exposition.counters("redis_commands_duration_seconds_total", help);
    counted().for_each(|(cmd, one)| seconds.add(&[("cmd", cmd)], one.ns as f64 / 1e9));
    let help = "Requests that were refused before they were executed, by command.";
    let mut rejected = exposition.counters("redis_commands_rejected_calls_total", help);
    counted().for_each(|(cmd, one)| rejected.add(&[("cmd", cmd)], one.rejected as f64));
    let help = "Calls that ended in an error, by command.";
    let mut failed = exposition.counters("redis_commands_failed_calls_total", help);
    counted().for_each(|(cmd, one)| failed.add(&[("cmd", cmd)], one.failed as f64));
    let timed = || all_rows().filter_map(|row| Some((row.spec.name, node.figures.latency(row)?)));
    let help = "How long the calls of each command took, in microseconds.";
    let mut latencies = exposition.histograms("redis_commands_latencies_usec", help);
    timed().for_each(|(cmd, latency)| latencies.add_histogram(&[("cmd", cmd)], latency, US));
    let percents: Vec<f64> = node.config.latency_percentiles.split(' ').filter_map(|word| word.parse().ok()).collect();
    let help = "Percentiles of how long the calls of each command took, in microseconds.";
    let mut percentiles = exposition.summaries("redis_latency_percentiles_usec", help);
    timed().for_each(|(cmd, latency)| percentiles.add_summary(&[("cmd", cmd)], latency, &percents, US));
    let mut errors = exposition.counters("redis_errors_total", "Error replies by their code.");
    node.figures.errors().for_each(|(code, count)| errors.add(&[("err", code)], count as f64));
}

/// Of every database that may have keys, so that a graph of one that was emptied falls to zero.
fn databases(figures: &Figures, exposition: &mut Exposition) {
    let names: Vec<String> = (0..figures.databases.len()).map(|db| format!("db{db}")).collect();
    let all = || names.iter().zip(&figures.databases);
    let mut keys = exposition.gauges("redis_db_keys", "Keys of each database.");
    all().for_each(|(db, figures)| keys.add(&[("db", db)], figures.keys as f64));
    let mut expiring = exposition.gauges("redis_db_keys_expiring", "Keys with an expiry of each database.");
    all().for_each(|(db, figures)| expiring.add(&[("db", db)], figures.expires as f64));
    let help = "Time to live of the keys with an expiry on average, in seconds, by database.";
    let mut ttl = exposition.gauges("redis_db_avg_ttl_seconds", help);
    for (db, figures) in all().filter(|(_, figures)| figures.expires > 0) {
        ttl.add(&[("db", db)], figures.ttl_ms_total as f64 / figures.expires as f64 / 1000.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::{respond, tests::trial};

    #[test]
    fn numbers_are_those_of_info() {
        // Every field of the table that INFO has is a metric with its value; names are unique, and of the exporter's form.
        let view = trial(2);
        let text = respond("/metrics", Some(&view)).body;
        let text = String::from_utf8(text.to_vec()).expect("text");
        let figures = view.whole().expect("all have answered");
        let node = Node { shared: &view.shared, config: &view.config, figures, cores: 2, now: view.now };
        let info = node.everything();
        let mut names: Vec<&str> = FIELDS.iter().map(|(_, metric, _)| *metric).collect();
        for (field, metric, _) in FIELDS {
            let Some(value) = info.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':')) else {
                continue;
            };
            let wanted = number(value).unwrap_or_else(|| panic!("{field}:{value}"));
            let found = text.lines().find_map(|line| line.strip_prefix(&format!("redis_{metric} "))?.parse().ok());
            assert_eq!(found, Some(wanted), "{metric}");
        }
        names.sort_unstable();
        let count = names.len();
        names.dedup();
        assert_eq!(names.len(), count);
        assert!(text.contains("redis_db_keys{db=\"db0\"} 0\n") && text.contains("redis_up 1\n"));
    }
}
