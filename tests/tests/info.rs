//! INFO beside that of real servers: tools find the fields that they read, where they look for them.

use std::collections::BTreeMap;

use eagle_resp::Value;
use eagle_tests::{process::Process, wire::Wire};

/// What Valkey 8.1 shows beyond Redis 7.2, or shows differently.
const ONLY_VALKEY: [&str; 17] = [
    "allocator_muzzy",
    "availability_zone",
    "clients_hz",
    "evicted_scripts",
    "io_threaded_accept_processed",
    "io_threaded_freed_objects",
    "io_threaded_poll_processed",
    "io_threaded_total_prefetch_batches",
    "io_threaded_total_prefetch_entries",
    "mem_overhead_db_hashtable_rehashing",
    "pubsub_clients",
    "replicas_waiting_psync",
    "server_mode",
    "total_watched_keys",
    "valkey_release_stage",
    "valkey_version",
    "watching_clients",
];

/// Names of the fields by section, in their order.
fn fields(wire: &mut Wire) -> BTreeMap<String, Vec<String>> {
    let text = match wire.text(&["INFO", "everything"]) {
        Value::Bulk(text) => String::from_utf8(text).expect("text"),
        other => panic!("INFO is text, not {other:?}"),
    };
    let mut sections: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut section = String::new();
    for line in text.lines().filter(|line| !line.is_empty()) {
        match line.strip_prefix("# ") {
            Some(title) => {
                section = title.to_owned();
                sections.insert(section.clone(), Vec::new());
            }
            None => {
                let (name, _) = line.split_once(':').unwrap_or_else(|| panic!("no field: {line}"));
                sections.get_mut(&section).expect("fields are in sections").push(name.to_owned());
            }
        }
    }
    sections
}

/// The same commands, so that sections about commands have the same lines.
fn used(process: &Process) -> Wire {
    let mut wire = Wire::connect(process.address());
    for words in
        [&["SET", "k", "v", "EX", "100"][..], &["GET", "k"], &["GET"], &["INCR", "k"], &["CONFIG", "GET", "hz"]]
    {
        wire.text(words);
    }
    wire
}

#[test]
fn all_fields_of_redis_are_there_in_its_order() {
    // Every field of Redis 7.0 in its section, none before one that is behind it there.
    let (node, redis) = (Process::eagledb(&["--shards", "2"]), Process::redis());
    let (ours, theirs) = (fields(&mut used(&node)), fields(&mut used(&redis)));
    for (section, names) in &theirs {
        let own = ours.get(section).unwrap_or_else(|| panic!("no section {section}"));
        let place = |name: &String| own.iter().position(|field| field == name);
        let missing: Vec<&String> = names.iter().filter(|name| place(name).is_none()).collect();
        assert!(missing.is_empty(), "{section}: {missing:?} are missing");
        // Commands stand in the order of each server's own table.
        if section != "Commandstats" && section != "Latencystats" {
            assert!(names.iter().map(place).is_sorted(), "{section}: {own:?} is not in the order of {names:?}");
        }
    }
}

#[test]
fn what_later_servers_show_is_there_or_listed() {
    // Valkey 8.1 forked from Redis 7.2: what it has and we have not came after that.
    let Some(valkey) = Process::valkey() else { return };
    let node = Process::eagledb(&["--shards", "1"]);
    let (ours, theirs) = (fields(&mut used(&node)), fields(&mut used(&valkey)));
    let mut missing: Vec<&str> = Vec::new();
    for (section, names) in &theirs {
        let own = &ours[section];
        missing.extend(names.iter().filter(|name| !own.contains(name)).map(String::as_str));
    }
    missing.sort_unstable();
    assert_eq!(missing, ONLY_VALKEY);
}

#[test]
fn latencies_and_times_to_live_are_shown_and_true() {
    // A thousand calls of two commands have percentiles, in order; without tracking they have none. The mean time to live
    // is that of the keys.
    let node = Process::eagledb(&["--shards", "2"]);
    let mut wire = Wire::connect(node.address());
    for key in 0..1000 {
        let (key, ttl) = (format!("key{key}"), if key % 2 == 0 { "1000" } else { "3000" });
        wire.text(&["SET", &key, "v", "EX", ttl]);
        wire.text(&["GET", &key]);
    }
    let info = |wire: &mut Wire, section: &str| match wire.text(&["INFO", section]) {
        Value::Bulk(text) => String::from_utf8(text).expect("text"),
        other => panic!("text, not {other:?}"),
    };
    let stats = info(&mut wire, "latencystats");
    for name in ["get", "set"] {
        let begin = format!("latency_percentiles_usec_{name}:p50=");
        let line =
            stats.lines().find_map(|line| line.strip_prefix(&begin)).unwrap_or_else(|| panic!("{name} of {stats}"));
        let numbers: Vec<f64> =
            line.split(',').map(|part| part.rsplit('=').next().unwrap_or("").parse().expect("a number")).collect();
        assert!(numbers.len() == 3 && numbers.is_sorted() && numbers[0] > 0.0, "{line}");
    }
    let keyspace = info(&mut wire, "keyspace");
    let ttl = keyspace.split("avg_ttl=").nth(1).and_then(|rest| rest.trim().parse::<u64>().ok()).expect("a mean");
    assert!((1_500_000..2_500_000).contains(&ttl), "{keyspace}");
    wire.text(&["CONFIG", "SET", "latency-tracking", "no", "latency-tracking-info-percentiles", "50"]);
    assert!(!info(&mut wire, "latencystats").contains("usec_get"));
    wire.text(&["CONFIG", "SET", "latency-tracking", "yes"]);
    wire.text(&["GET", "key1"]);
    let stats = info(&mut wire, "latencystats");
    assert!(stats.contains("usec_get:p50=") && !stats.contains("p99"), "{stats}");
}
