//! MEMORY: where the memory is, whether that is well, and giving back what nobody needs.
//!
//! Fields are Redis'; what the allocator is there, the log is here: *allocated* is what counts towards `maxmemory`, *active* the extents
//! in use, *resident* those with the free ones that keep their pages. What lies between allocated and the dataset is index, tables and
//! connections; what between dataset and living records, records that are dead and not compacted yet.

use std::sync::atomic::Ordering;

use eagle_resp::Reply;
use eagle_shard::{
    call::DbId,
    command::memory::usage,
    error::Error,
    shard::ShardUsage,
    spec::{Flags, Group, KeyFlags, KeySpec, Route, Run, Spec, Steps},
};

use super::{Asked, Begin, NodeRun, help as write_help};
use crate::core::{
    Core, MergeCall, NodeCall,
    stats::{CoreReport, MemoryFigures, Part},
};

const MEMORY: Spec = Spec { group: Group::Server, arity: 2, since: "4.0.0", ..Spec::BLANK };
const COULD_BE_SLOW: &str = "Depends on how much memory is allocated, could be slow";
const OWN: &[&str] = &["nondeterministic_output", "request_policy:all_shards", "response_policy:special"];

pub(super) const ROWS: &[Spec] = &[Spec {
    name: "memory",
    arity: -2,
    complexity: "Depends on subcommand.",
    summary: "A container for memory diagnostics commands.",
    subcommands: &[
        Spec {
            name: "memory|doctor",
            tips: OWN,
            complexity: "O(1)",
            summary: "Outputs a memory problems report.",
            ..MEMORY
        },
        Spec {
            name: "memory|help",
            flags: Flags::LOADING.union(Flags::STALE),
            complexity: "O(1)",
            summary: "Returns helpful text about the different subcommands.",
            ..MEMORY
        },
        Spec {
            name: "memory|malloc-stats",
            tips: OWN,
            complexity: COULD_BE_SLOW,
            summary: "Returns the allocator statistics.",
            ..MEMORY
        },
        Spec {
            name: "memory|purge",
            tips: &["request_policy:all_shards", "response_policy:all_succeeded"],
            complexity: COULD_BE_SLOW,
            summary: "Asks the allocator to release memory.",
            ..MEMORY
        },
        Spec {
            name: "memory|stats",
            tips: OWN,
            complexity: "O(1)",
            summary: "Returns details about memory usage.",
            ..MEMORY
        },
        Spec {
            name: "memory|usage",
            syntax: "key [SAMPLES count]",
            arity: -3,
            flags: Flags::READONLY,
            keys: &[KeySpec::one(2, KeyFlags::RO)],
            route: Route::Keys(Steps::Single),
            complexity: "O(N) where N is the number of samples.",
            summary: "Estimates the memory usage of a key.",
            run: Run::Shard(usage),
            ..MEMORY
        },
    ],
    run: Run::Container,
    ..MEMORY
}];

pub(super) const RUNS: &[(&str, NodeRun)] = &[
    ("memory|doctor", NodeRun::Every { begin, each, merge: doctor }),
    ("memory|help", NodeRun::Here(help)),
    ("memory|malloc-stats", NodeRun::Every { begin, each, merge: malloc_stats }),
    ("memory|purge", NodeRun::Every { begin, each: purge_each, merge: purge }),
    ("memory|stats", NodeRun::Every { begin, each, merge: stats }),
];

const HELP: &[&str] = &[
    "DOCTOR",
    "    Return memory problems reports.",
    "MALLOC-STATS",
    "    Return internal statistics report from the memory allocator.",
    "PURGE",
    "    Attempt to purge dirty pages for reclamation by the allocator.",
    "STATS",
    "    Return information about the memory usage of the server.",
    "USAGE <key> [SAMPLES <count>]",
    "    Return memory in bytes used by <key> and its value. Nested values are",
    "    sampled up to <count> times (default: 5, 0 means sample all).",
];

fn help(_: &mut Core, call: &mut NodeCall<'_>) -> Result<(), Error> {
    write_help("MEMORY", HELP, &mut call.reply);
    Ok(())
}

fn begin(_: &mut Core, _: &mut NodeCall<'_>) -> Result<Begin, Error> {
    Ok(Begin::Gather)
}

fn each(core: &mut Core, _: &Asked<'_>) -> CoreReport {
    let shard = core.shard();
    let databases = (0..core.config().databases).map(DbId);
    let figures = MemoryFigures {
        usage: shard.usage(),
        databases: databases.map(|db| (shard.len(db) as u64, shard.index_bytes_of(db) as u64)).collect(),
        clients: core.open_connections() as u64,
        clients_bytes: core.clients_bytes(),
    };
    CoreReport { core: core.id(), part: Part::Memory(Box::new(figures)) }
}

fn purge_each(core: &mut Core, _: &Asked<'_>) -> CoreReport {
    core.shard_mut().purge();
    CoreReport { core: core.id(), part: Part::Done }
}

fn purge(_: &mut Core, _: &MergeCall<'_>, _: Vec<CoreReport>, reply: &mut Reply<'_>) {
    reply.ok();
}

/// The whole node's memory.
struct Node {
    usage: ShardUsage,
    /// Keys and bytes of the index, by database.
    databases: Vec<(u64, u64)>,
    clients: u64,
    clients_bytes: u64,
    used: u64,
    peak: u64,
    resident: u64,
}

impl Node {
    fn new(core: &Core, reports: Vec<CoreReport>) -> Self {
        let mut parts = reports.into_iter().map(|report| match report.part {
            Part::Memory(figures) => *figures,
            other => unreachable!("MEMORY is made of its own figures, not {other:?}"),
        });
        let mut all = parts.next().expect("at least the home core reports");
        parts.for_each(|part| all.add(&part));
        let used = all.usage.memory + all.clients_bytes;
        Self {
            usage: all.usage,
            databases: all.databases,
            clients: all.clients,
            clients_bytes: all.clients_bytes,
            used,
            peak: core.shared().note_used_memory(used),
            resident: core.shared().rss_bytes.load(Ordering::Relaxed),
        }
    }

    /// All but the records.
    fn overhead(&self) -> u64 {
        (self.usage.index_bytes + self.usage.other_bytes) as u64 + self.clients_bytes
    }

    /// Records, dead ones included.
    fn dataset(&self) -> u64 {
        self.used - self.overhead()
    }

    fn keys(&self) -> u64 {
        self.usage.keys as u64
    }

    /// Extents in use and those that are free and keep their pages.
    fn log_resident(&self) -> u64 {
        self.usage.log_bytes + self.usage.log_free_bytes
    }
}

fn ratio(a: u64, b: u64) -> f64 {
    if b == 0 { 0.0 } else { a as f64 / b as f64 }
}

fn stats(core: &mut Core, _: &MergeCall<'_>, reports: Vec<CoreReport>, reply: &mut Reply<'_>) {
    let node = Node::new(core, reports);
    let filled: Vec<_> = node.databases.iter().enumerate().filter(|(_, (keys, _))| *keys > 0).collect();
    reply.map(27 + filled.len());
    let bytes = |reply: &mut Reply<'_>, name: &str, bytes: u64| {
        reply.bulk(name.as_bytes());
        reply.integer(bytes as i64);
    };
    let double = |reply: &mut Reply<'_>, name: &str, value: f64| {
        reply.bulk(name.as_bytes());
        reply.double(value);
    };
    bytes(reply, "peak.allocated", node.peak);
    bytes(reply, "total.allocated", node.used);
    bytes(reply, "startup.allocated", 0);
    bytes(reply, "replication.backlog", 0);
    bytes(reply, "clients.slaves", 0);
    bytes(reply, "clients.normal", node.clients_bytes);
    bytes(reply, "cluster.links", 0);
    bytes(reply, "aof.buffer", 0);
    bytes(reply, "lua.caches", 0);
    bytes(reply, "functions.caches", 0);
    for (db, (_, index_bytes)) in filled {
        reply.bulk(format!("db.{db}").as_bytes());
        reply.map(3);
        bytes(reply, "overhead.hashtable.main", *index_bytes);
        // Expiries lie in the records, and keys of a slot together.
        bytes(reply, "overhead.hashtable.expires", 0);
        bytes(reply, "overhead.hashtable.slot-to-keys", 0);
    }
    bytes(reply, "overhead.total", node.overhead());
    bytes(reply, "keys.count", node.keys());
    bytes(reply, "keys.bytes-per-key", node.used.checked_div(node.keys()).unwrap_or(0));
    bytes(reply, "dataset.bytes", node.dataset());
    double(reply, "dataset.percentage", 100.0 * ratio(node.dataset(), node.used));
    double(reply, "peak.percentage", 100.0 * ratio(node.used, node.peak));
    let (active, log_resident) = (node.usage.log_bytes + node.overhead(), node.log_resident() + node.overhead());
    let difference = |reply: &mut Reply<'_>, name: &str, more: u64, less: u64| {
        reply.bulk(name.as_bytes());
        reply.integer(more as i64 - less as i64);
    };
    bytes(reply, "allocator.allocated", node.used);
    bytes(reply, "allocator.active", active);
    bytes(reply, "allocator.resident", log_resident);
    double(reply, "allocator-fragmentation.ratio", ratio(active, node.used));
    difference(reply, "allocator-fragmentation.bytes", active, node.used);
    double(reply, "allocator-rss.ratio", ratio(log_resident, active));
    difference(reply, "allocator-rss.bytes", log_resident, active);
    double(reply, "rss-overhead.ratio", ratio(node.resident, log_resident));
    difference(reply, "rss-overhead.bytes", node.resident, log_resident);
    double(reply, "fragmentation", ratio(node.resident, node.used));
    difference(reply, "fragmentation.bytes", node.resident, node.used);
}

fn malloc_stats(core: &mut Core, _: &MergeCall<'_>, reports: Vec<CoreReport>, reply: &mut Reply<'_>) {
    let Node { usage, used, resident, .. } = Node::new(core, reports);
    let text = format!(
        "Records lie in the logs of the shards, all else in the heap of the C library, which counts nothing.\n\
         log: in_use={} free_resident={} live={} dead={}\n\
         heap: index={} values={}\n\
         node: used={used} resident={resident}\n",
        usage.log_bytes,
        usage.log_free_bytes,
        usage.log_live_bytes,
        usage.log_dead_bytes,
        usage.index_bytes,
        usage.other_bytes,
    );
    reply.verbatim("txt", text.as_bytes());
}

/// Below this there is nothing to say of memory.
const LITTLE_BYTES: u64 = 5 << 20;
/// Bytes beyond which memory that is resident and not used is worth a remark.
const REMARKABLE_BYTES: u64 = 10 << 20;
/// Bytes of a connection, in the mean, that are worth a remark.
const CLIENT_BYTES: u64 = 200 << 10;

fn doctor(core: &mut Core, _: &MergeCall<'_>, reports: Vec<CoreReport>, reply: &mut Reply<'_>) {
    let node = Node::new(core, reports);
    reply.verbatim("txt", diagnosis(&node, core.config().maxmemory).as_bytes());
}

fn diagnosis(node: &Node, maxmemory: u64) -> String {
    if node.used < LITTLE_BYTES {
        return "Hi Sam, this instance is empty or is using very little memory, my issues detector can't be used in these \
                conditions. Please, leave for your mission on Earth and fill it with some data. The new Sam and I will be \
                back to our programming as soon as I finished rebooting.\n"
            .to_owned();
    }
    let mut found = String::new();
    if node.peak * 2 > node.used * 3 {
        found += " * Peak memory: In the past this instance used more than 150% the memory that is currently using. Memory of \
                  free extents is given back by itself; MEMORY PURGE gives back the last of it.\n\n";
    }
    let unused = node.resident.saturating_sub(node.used);
    if node.resident * 10 > node.used * 14 && unused > REMARKABLE_BYTES {
        found += " * High total RSS: This instance has a memory fragmentation and RSS overhead greater than 1.4 (this means \
                  that the Resident Set Size of the process is much larger than the sum of the memory that its data takes). \
                  Try MEMORY PURGE; what is left is the heap of the C library.\n\n";
    }
    let (dead, live) = (node.usage.log_dead_bytes, node.usage.log_live_bytes);
    if dead * 2 > live + dead && dead > REMARKABLE_BYTES {
        found += " * Many dead records: More than half of the log is records that were overwritten or deleted and are not \
                  compacted yet. A core that has time does so; if this lasts, the cores have none.\n\n";
    }
    if maxmemory > 0 && node.used > maxmemory {
        found += " * Above maxmemory: This instance uses more memory than maxmemory allows. Keys are evicted if \
                  maxmemory-policy allows it; otherwise commands that need memory are refused.\n\n";
    }
    if node.clients > 0 && node.clients_bytes / node.clients > CLIENT_BYTES {
        found += " * Big client buffers: The clients output buffers in this instance are greater than 200K per client (on \
                  average). This may result from different causes, like clients reading slowly or not at all, or bugs in the \
                  client implementation. Please use the CLIENT LIST command in order to find them.\n\n";
    }
    if found.is_empty() {
        return "Hi Sam, I can't find any memory issue in your instance. I can only account for what occurs on this base.\n"
            .to_owned();
    }
    format!(
        "Sam, I detected a few issues in this EagleDB instance memory implants:\n\n{found}I'm here to keep you safe, Sam. I \
         want to help you.\n"
    )
}

#[cfg(test)]
mod tests {
    use eagle_resp::Value;

    use super::{super::trial::Trial, *};
    use crate::config::Config;

    fn figure(stats: &Value, name: &str) -> i64 {
        let Value::Map(fields) = stats else { panic!("a map") };
        let is_it = |field: &&(Value, Value)| field.0 == Value::Bulk(name.as_bytes().to_vec());
        match fields.iter().find(is_it) {
            Some((_, Value::Integer(value))) => *value,
            other => panic!("{name}: {other:?}"),
        }
    }

    #[test]
    fn stats_are_those_of_the_whole_node() {
        // Keys on two shards and in two databases; a key's own usage is at least its bytes, and all add up to less than used.
        let mut trial = Trial::new(2, Config::default());
        let (one, other) = (trial.connect(0), trial.connect(1));
        let value = "v".repeat(200);
        let mut usages = 0;
        for key in 0..100 {
            trial.ask(one, &format!("SET key{key} {value}"));
            let reply = trial.ask(other, &format!("MEMORY USAGE key{key} SAMPLES 0"));
            let usage: i64 = reply.trim_start_matches(':').trim().parse().expect("an integer");
            assert!((204..260).contains(&usage), "{usage}");
            usages += usage;
        }
        trial.ask(one, "SELECT 3");
        trial.ask(one, "SET key value");
        trial.ask(one, "HELLO 3");
        let reply = trial.ask(one, "MEMORY STATS");
        let (stats, len) = Value::parse(reply.as_bytes()).expect("well-formed").expect("whole");
        assert_eq!(len, reply.len(), "one reply and nothing behind it");
        assert_eq!(figure(&stats, "keys.count"), 101);
        let (used, overhead) = (figure(&stats, "total.allocated"), figure(&stats, "overhead.total"));
        assert_eq!(used - overhead, figure(&stats, "dataset.bytes"));
        assert!(usages < used && used <= figure(&stats, "peak.allocated"), "{usages} of {used}");
        let Value::Map(fields) = &stats else { panic!("a map") };
        let databases: Vec<String> = fields
            .iter()
            .filter_map(|(name, _)| match name {
                Value::Bulk(name) => String::from_utf8(name.clone()).ok().filter(|name| name.starts_with("db.")),
                _ => None,
            })
            .collect();
        assert_eq!(databases, ["db.0", "db.3"]);
        assert_eq!(fields.len(), 29);
    }

    #[test]
    fn purge_is_done_by_all_cores() {
        // And MALLOC-STATS is a text.
        let mut trial = Trial::new(2, Config::default());
        let client = trial.connect(0);
        assert_eq!(trial.ask(client, "MEMORY PURGE"), "+OK\r\n");
        assert!(trial.ask(client, "MEMORY MALLOC-STATS").contains("\nheap: index="));
        assert_eq!(trial.ask(client, "MEMORY USAGE nothing"), "$-1\r\n");
    }

    #[test]
    fn the_doctor_names_what_is_wrong() {
        // Each remark is made when it applies and only then.
        let mut trial = Trial::new(1, Config::default());
        let client = trial.connect(0);
        assert!(trial.ask(client, "MEMORY DOCTOR").contains("is empty or is using very little memory"));
        let mut shard = eagle_shard::shard::Shard::new(eagle_shard::shard::ShardConfig::default()).expect("a shard");
        shard.set_eviction(Config::default().eviction());
        let usage = ShardUsage { log_live_bytes: 90 << 20, ..shard.usage() };
        let healthy = || Node {
            usage,
            databases: Vec::new(),
            clients: 10,
            clients_bytes: 10_000,
            used: 100 << 20,
            peak: 110 << 20,
            resident: 110 << 20,
        };
        assert!(diagnosis(&healthy(), 0).starts_with("Hi Sam, I can't find any memory issue"));
        for (node, maxmemory, words) in [
            (Node { peak: 151 << 20, ..healthy() }, 0, "Peak memory"),
            (Node { resident: 141 << 20, ..healthy() }, 0, "High total RSS"),
            (Node { usage: ShardUsage { log_dead_bytes: 91 << 20, ..usage }, ..healthy() }, 0, "Many dead records"),
            (healthy(), 99 << 20, "Above maxmemory"),
            (Node { clients_bytes: 11 * (200 << 10), ..healthy() }, 0, "Big client buffers"),
        ] {
            let text = diagnosis(&node, maxmemory);
            assert!(text.contains(words) && text.matches(" * ").count() == 1, "{words}: {text}");
        }
    }
}
