//! INFO: how the node is, in sections of lines that tools read.
//!
//! Every core reports its figures; the home core adds them up and writes the sections that were asked for. Names and
//! order are those of Redis 7.2, as far as there is something to say; behind them stand EagleDB's own.

use std::{fmt::Write as _, sync::atomic::Ordering};

use eagle_resp::{Args, Reply};
use eagle_shard::{call::DbId, command::args::is, error::Error};

use super::{Asked, Begin, NodeRun, all_rows};
use crate::{
    REDIS_VERSION,
    core::{
        Core, MergeCall, NodeCall,
        event::Now,
        stats::{CoreReport, DatabaseFigures, Figures, Part},
    },
};

pub(super) const RUN: NodeRun = NodeRun::Every { begin, each, merge };

/// What a section is written from.
struct Node<'a> {
    core: &'a Core,
    figures: Figures,
    cores: usize,
    now: Now,
}

/// A section: its name, whether it is shown when none is asked for, and what writes its lines.
struct Section {
    name: &'static str,
    title: &'static str,
    by_default: bool,
    write: fn(&Node<'_>, &mut String),
}

#[rustfmt::skip]
const SECTIONS: &[Section] = &[
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
    Section { name: "cluster", title: "Cluster", by_default: true, write: cluster },
    Section { name: "keyspace", title: "Keyspace", by_default: true, write: keyspace },
];

/// The sections that the arguments ask for, in the order of the table.
fn selected(args: Args<'_>) -> impl Iterator<Item = &'static Section> {
    let asked: Vec<&[u8]> = args.iter().skip(1).collect();
    let all = asked.iter().any(|name| is(name, "all") || is(name, "everything"));
    let default = asked.is_empty() || asked.iter().any(|name| is(name, "default"));
    let named: Vec<bool> = SECTIONS.iter().map(|section| asked.iter().any(|name| is(name, section.name))).collect();
    let chosen = move |(index, section): &(usize, &Section)| all || default && section.by_default || named[*index];
    SECTIONS.iter().enumerate().filter(chosen).map(|(_, section)| section)
}

fn begin(_: &mut Core, _: &mut NodeCall<'_>) -> Result<Begin, Error> {
    Ok(Begin::Gather)
}

fn each(core: &mut Core, _: &Asked<'_>) -> CoreReport {
    let mut figures = Figures {
        stats: core.stats().clone(),
        rates: core.stats().rates(),
        shard: core.shard().stats,
        usage: core.shard().usage(),
        databases: Vec::new(),
        clients: core.open_connections() as u64,
        clients_memory: 0,
        query_bytes_max: 0,
        unsent_bytes_max: 0,
    };
    for db in (0..core.config().databases).map(DbId) {
        let shard = core.shard();
        figures.databases.push(DatabaseFigures { keys: shard.len(db) as u64, expires: shard.expires(db) as u64 });
    }
    for session in core.sessions() {
        figures.clients_memory += session.memory() as u64;
        figures.query_bytes_max = figures.query_bytes_max.max(session.query_bytes() as u64);
        figures.unsent_bytes_max = figures.unsent_bytes_max.max(session.unsent_bytes() as u64);
    }
    CoreReport { core: core.id(), part: Part::Figures(Box::new(figures)) }
}

fn merge(core: &mut Core, call: &MergeCall<'_>, reports: Vec<CoreReport>, reply: &mut Reply<'_>) {
    let cores = reports.len();
    let mut parts = reports.into_iter().map(|report| match report.part {
        Part::Figures(figures) => *figures,
        other => unreachable!("INFO is made of figures, not {other:?}"),
    });
    let mut figures = parts.next().expect("at least the home core reports");
    parts.for_each(|part| figures.add(&part));
    let node = Node { core, figures, cores, now: call.now };
    let mut text = String::with_capacity(4096);
    for section in selected(call.args) {
        if !text.is_empty() {
            text.push_str("\r\n");
        }
        let _ = write!(text, "# {}\r\n", section.title);
        (section.write)(&node, &mut text);
    }
    reply.verbatim("txt", text.as_bytes());
}

/// A line `name:value`.
fn line(text: &mut String, name: &str, value: impl std::fmt::Display) {
    let _ = write!(text, "{name}:{value}\r\n");
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
    let (shared, config) = (node.core.shared(), node.core.config());
    let uptime_s = node.now.mono_us.saturating_sub(shared.started_mono_us) / 1_000_000;
    line(text, "redis_version", REDIS_VERSION);
    line(text, "server_name", "eagledb");
    line(text, "eagledb_version", env!("CARGO_PKG_VERSION"));
    line(text, "redis_mode", "standalone");
    line(text, "os", &shared.host.os);
    line(text, "arch_bits", usize::BITS);
    line(text, "multiplexing_api", "io_uring");
    line(text, "process_id", std::process::id());
    line(text, "run_id", &shared.run_id);
    line(text, "tcp_port", config.port);
    line(text, "server_time_usec", node.now.unix_us());
    line(text, "uptime_in_seconds", uptime_s);
    line(text, "uptime_in_days", uptime_s / 86_400);
    line(text, "hz", config.value("hz"));
    line(text, "configured_hz", config.value("hz"));
    line(text, "executable", &shared.host.executable);
    line(text, "config_file", &config.config_file);
    line(text, "shards", node.cores);
}

fn clients(node: &Node<'_>, text: &mut String) {
    let figures = &node.figures;
    line(text, "connected_clients", figures.clients);
    line(text, "cluster_connections", 0);
    line(text, "maxclients", node.core.config().maxclients);
    line(text, "client_recent_max_input_buffer", figures.query_bytes_max);
    line(text, "client_recent_max_output_buffer", figures.unsent_bytes_max);
    line(text, "blocked_clients", 0);
    line(text, "tracking_clients", 0);
    line(text, "clients_in_timeout_table", 0);
}

fn memory(node: &Node<'_>, text: &mut String) {
    let (figures, config) = (&node.figures, node.core.config());
    let usage = &figures.usage;
    let used = figures.used_memory();
    let rss = node.core.shared().rss_bytes.load(Ordering::Relaxed);
    let peak = node.core.shared().note_used_memory(used);
    let overhead = (usage.index_bytes + usage.other_bytes) as u64 + figures.clients_memory;
    bytes(text, "used_memory", used);
    bytes(text, "used_memory_rss", rss);
    bytes(text, "used_memory_peak", peak);
    line(text, "used_memory_peak_perc", format!("{:.2}%", 100.0 * ratio(used, peak)));
    line(text, "used_memory_overhead", overhead);
    line(text, "used_memory_dataset", usage.log_live_bytes);
    line(text, "used_memory_dataset_perc", format!("{:.2}%", 100.0 * ratio(usage.log_live_bytes, used)));
    bytes(text, "total_system_memory", node.core.shared().host.memory_bytes);
    bytes(text, "used_memory_lua", 0);
    bytes(text, "maxmemory", config.maxmemory);
    line(text, "maxmemory_policy", config.maxmemory_policy.name());
    line(text, "mem_not_counted_for_evict", 0);
    line(text, "mem_fragmentation_ratio", format!("{:.2}", ratio(rss, used)));
    line(text, "mem_fragmentation_bytes", rss as i64 - used as i64);
    line(text, "mem_clients_normal", figures.clients_memory);
    line(text, "mem_allocator", "libc");
    line(text, "index_bytes", usage.index_bytes);
    line(text, "log_bytes", usage.log_bytes);
    line(text, "log_live_bytes", usage.log_live_bytes);
    line(text, "log_dead_bytes", usage.log_dead_bytes);
}

fn persistence(_: &Node<'_>, text: &mut String) {
    line(text, "loading", 0);
    line(text, "async_loading", 0);
    line(text, "rdb_bgsave_in_progress", 0);
    line(text, "aof_enabled", 0);
    line(text, "aof_rewrite_in_progress", 0);
    line(text, "pool", "none");
}

fn stats(node: &Node<'_>, text: &mut String) {
    let figures = &node.figures;
    let [commands, bytes_in, bytes_out] = figures.rates;
    let errors: u64 = figures.errors().map(|(_, count)| count).sum();
    line(text, "total_connections_received", figures.stats.connections);
    line(text, "total_commands_processed", figures.commands_processed());
    line(text, "instantaneous_ops_per_sec", commands.round());
    line(text, "total_net_input_bytes", figures.stats.bytes_in);
    line(text, "total_net_output_bytes", figures.stats.bytes_out);
    line(text, "instantaneous_input_kbps", format!("{:.2}", bytes_in / 1024.0));
    line(text, "instantaneous_output_kbps", format!("{:.2}", bytes_out / 1024.0));
    line(text, "rejected_connections", figures.stats.rejected);
    line(text, "expired_keys", figures.shard.expired);
    line(text, "evicted_keys", figures.shard.evicted);
    let (present_us, total_us) = node.core.shared().budget.exceeded_us(node.now.mono_us);
    line(text, "total_eviction_exceeded_time", total_us / 1000);
    line(text, "current_eviction_exceeded_time", present_us / 1000);
    line(text, "keyspace_hits", figures.shard.hits);
    line(text, "keyspace_misses", figures.shard.misses);
    line(text, "pubsub_channels", 0);
    line(text, "pubsub_patterns", 0);
    line(text, "latest_fork_usec", 0);
    line(text, "total_error_replies", errors);
    line(text, "client_limit_disconnections", figures.stats.closed_by_limit);
    line(text, "commands_of_other_cores", figures.stats.served);
    line(text, "compacted_records", figures.shard.moved);
    line(text, "compacted_bytes", figures.shard.moved_bytes);
}

fn replication(node: &Node<'_>, text: &mut String) {
    line(text, "role", "master");
    line(text, "connected_slaves", 0);
    line(text, "master_failover_state", "no-failover");
    line(text, "master_replid", node.core.shared().replication_id());
    line(text, "master_replid2", "0".repeat(40));
    line(text, "master_repl_offset", 0);
    line(text, "second_repl_offset", -1);
    line(text, "repl_backlog_active", 0);
}

fn cpu(node: &Node<'_>, text: &mut String) {
    let seconds = |us: u64| format!("{:.6}", us as f64 / 1e6);
    let shared = node.core.shared();
    line(text, "used_cpu_sys", seconds(shared.cpu_system_us.load(Ordering::Relaxed)));
    line(text, "used_cpu_user", seconds(shared.cpu_user_us.load(Ordering::Relaxed)));
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

fn cluster(_: &Node<'_>, text: &mut String) {
    line(text, "cluster_enabled", 0);
}

fn keyspace(node: &Node<'_>, text: &mut String) {
    for (db, figures) in node.figures.databases.iter().enumerate().filter(|(_, figures)| figures.keys > 0) {
        line(text, &format!("db{db}"), format!("keys={},expires={},avg_ttl=0", figures.keys, figures.expires));
    }
}

#[cfg(test)]
mod tests {
    use eagle_resp::OwnedArgs;

    use super::{super::trial::Trial, *};
    use crate::config::Config;

    #[test]
    fn figures_of_all_cores_are_added_up() {
        // Keys, hits, clients, calls and errors, from commands on both cores to keys on both shards.
        let mut trial = Trial::new(2, Config::default());
        let (one, other) = (trial.connect(0), trial.connect(1));
        for key in 0..20 {
            assert_eq!(trial.ask(one, &format!("SET key{key} value")), "+OK\r\n");
            assert_eq!(trial.ask(other, &format!("GET key{key}")), "$5\r\nvalue\r\n");
        }
        trial.ask(one, "GET nothing");
        trial.ask(one, "GET");
        trial.ask(other, "NOSUCH");
        trial.ask(other, "SELECT x");
        for key in 0..4 {
            trial.ask(other, &format!("INCR key{key}"));
        }
        trial.ask(other, "SET key0 value EX 100");
        let info = trial.ask(one, "INFO everything");
        for line in [
            "redis_version:7.2.4",
            "connected_clients:2",
            "total_connections_received:2",
            "keyspace_hits:20",
            "keyspace_misses:1",
            "db0:keys=20,expires=1,avg_ttl=0",
            "errorstat_ERR:count=7",
            "total_error_replies:7",
            "role:master",
            "cluster_enabled:0",
            "shards:2",
        ] {
            assert!(info.contains(&format!("\r\n{line}\r\n")), "{line} of {info}");
        }
        assert!(info.contains("cmdstat_get:calls=21,usec="), "{info}");
        assert!(info.contains(",rejected_calls=1,failed_calls=0\r\n"), "{info}");
        assert!(info.contains("cmdstat_select:calls=1,") && info.contains(",failed_calls=1\r\n"), "{info}");
        assert!(info.contains("cmdstat_incr:calls=4,") && info.contains(",failed_calls=4\r\n"));
        assert!(!info.contains("used_memory:0\r\n") && !info.contains("index_bytes:0\r\n"), "{info}");
    }

    #[test]
    fn sections_are_selected_as_in_redis() {
        // None: the defaults; several; all; an unknown one is nothing.
        let names = |request: &str| {
            let args: OwnedArgs = request.split(' ').map(str::as_bytes).collect();
            selected(args.as_args()).map(|section| section.name).collect::<Vec<_>>()
        };
        assert!(names("INFO").len() > 8 && !names("INFO").contains(&"commandstats"));
        assert_eq!(names("INFO"), names("INFO DEFAULT"));
        assert_eq!(names("INFO keyspace SERVER"), ["server", "keyspace"]);
        assert_eq!(names("INFO all").len(), SECTIONS.len());
        assert!(names("INFO default commandstats").contains(&"commandstats"));
        assert!(names("INFO nothing").is_empty());
    }

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
