//! The same random commands to EagleDB and to a real Redis, the same replies: both protocols, one and two shards,
//! pipelines of random depth on one connection.
//!
//! Commands come from the rows' own grammar, so a new row is compared from its first day. The oracle is Debian's Redis
//! 7.0; what 7.2 added or words otherwise is decided by Valkey 8.1. Every way in which a reply may differ is listed in
//! [`DIFFERENCES`], with its reason.

use std::{
    collections::BTreeMap,
    time::{SystemTime, UNIX_EPOCH},
};

use eagle_resp::Value;
use eagle_shard::spec::{Flags, Run, Spec};
use eagle_tests::{
    grammar::Grammar,
    process::Process,
    seeds,
    wire::{Wire, encode},
};

/// How two replies to the same command compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rule {
    /// They are equal.
    Exact,
    /// Arrays with the same elements in any order, or maps with the same pairs.
    Unordered,
    /// Of the same type and, if arrays, as long.
    Length,
    /// Integers at most so far apart: times are read at two moments.
    Near(i64),
    /// Ours is at most theirs.
    AtMost,
    /// Of the same type: the content is each server's own.
    Kind,
    /// Not compared.
    Not,
}

/// Every way in which a reply may differ from the oracle's: commands, how they are compared, and why not exactly.
const DIFFERENCES: &[(&[&str], Rule, &str)] = &[
    (&["keys"], Rule::Unordered, "the order of a hash table is each server's own"),
    (
        &["hgetall", "hkeys", "hvals"],
        Rule::Unordered,
        "a large hash's order is each server's own (a packed one's is exact: see the transcripts and the model)",
    ),
    (&["hrandfield"], Rule::Length, "by chance"),
    (&["hscan"], Rule::Kind, "a large hash's cursors are each server's own, and how much comes at once"),
    (&["ttl", "expiretime"], Rule::Near(2), "clocks are read at two moments, in seconds"),
    (&["pttl", "pexpiretime"], Rule::Near(2_000), "clocks are read at two moments, in milliseconds"),
    (
        &["dbsize"],
        Rule::AtMost,
        "Redis counts expired keys until it comes across them; a command that looks finds none here",
    ),
    (&["randomkey"], Rule::Not, "by chance, and Redis may find only expired keys"),
    (&["object|freq"], Rule::Kind, "how often a key was used is estimated by chance"),
    (&["object|idletime"], Rule::Not, "Redis shares small integers, and with them their idle time"),
    (&["object|help"], Rule::Not, "a text of our own"),
    (&["object|refcount"], Rule::Not, "Redis shares small integers (2147483647); here nothing is shared"),
    (&["scan"], Rule::Not, "cursors are each server's own; see the test of whole iterations"),
];

fn rule(name: &str) -> Rule {
    DIFFERENCES.iter().find(|(names, ..)| names.contains(&name)).map_or(Rule::Exact, |(_, rule, _)| *rule)
}

fn same(rule: Rule, ours: &Value, theirs: &Value) -> bool {
    match (rule, ours, theirs) {
        (Rule::Not, ..) => true,
        (_, Value::Error(_), _) | (_, _, Value::Error(_)) | (Rule::Exact, ..) => ours == theirs,
        (Rule::Near(most), Value::Integer(a), Value::Integer(b)) => {
            a == b || (*a >= 0 && *b >= 0 && (a - b).abs() <= most)
        }
        (Rule::AtMost, Value::Integer(a), Value::Integer(b)) => a <= b,
        (Rule::Unordered, Value::Array(a), Value::Array(b)) => {
            let sorted = |values: &[Value]| {
                let mut texts: Vec<String> = values.iter().map(|value| format!("{value:?}")).collect();
                texts.sort();
                texts
            };
            sorted(a) == sorted(b)
        }
        (Rule::Unordered, Value::Map(a), Value::Map(b)) => {
            let sorted = |pairs: &[(Value, Value)]| {
                let mut texts: Vec<String> = pairs.iter().map(|pair| format!("{pair:?}")).collect();
                texts.sort();
                texts
            };
            sorted(a) == sorted(b)
        }
        (Rule::Length, Value::Array(a), Value::Array(b)) => a.len() == b.len(),
        (Rule::Kind | Rule::Length, a, b) => std::mem::discriminant(a) == std::mem::discriminant(b),
        _ => ours == theirs,
    }
}

fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis() as u64
}

/// Rows of the shard that an oracle of this version knows and that clients may send.
fn rows(since: fn(&str) -> bool) -> impl Iterator<Item = &'static Spec> {
    eagle_shard::command::rows()
        .flat_map(|row| if row.subcommands.is_empty() { std::slice::from_ref(row) } else { row.subcommands })
        .filter(move |row| matches!(row.run, Run::Shard(_)) && !row.flags.contains(Flags::ADMIN) && since(row.since))
}

fn compare(
    ours: &Process,
    theirs: &Process,
    seed: u64,
    resp3: bool,
    rows: Vec<&'static Spec>,
    counts: &mut BTreeMap<&'static str, usize>,
) {
    let mut rng = fastrand::Rng::with_seed(seed);
    let (mut a, mut b) = (Wire::connect(ours.address()), Wire::connect(theirs.address()));
    for wire in [&mut a, &mut b] {
        if resp3 {
            wire.text(&["HELLO", "3"]);
        }
        assert_eq!(wire.text(&["FLUSHALL"]), Value::Simple(b"OK".to_vec()));
    }
    let grammar = Grammar::new(rows.into_iter(), 12, now_ms());
    for batch in 0..60 {
        let depth = rng.usize(1..=40);
        let commands: Vec<_> = (0..depth).map(|_| grammar.command(&mut rng)).collect();
        let bytes: Vec<u8> = commands
            .iter()
            .flat_map(|(_, words)| encode(&words.iter().map(Vec::as_slice).collect::<Vec<_>>()))
            .collect();
        std::thread::scope(|scope| {
            // Each side reads while it is written to: large replies would fill the sockets.
            let send = |wire: &Wire| wire.stream().try_clone().expect("a socket can be shared");
            for stream in [send(&a), send(&b)] {
                let bytes = &bytes;
                scope.spawn(move || {
                    std::io::Write::write_all(&mut &stream, bytes).expect("the server reads");
                });
            }
            for (index, (row, words)) in commands.iter().enumerate() {
                let text: Vec<String> = words.iter().map(|word| shorten(&word.escape_ascii().to_string())).collect();
                let place =
                    format!("EAGLE_SEED={seed} batch {batch} command {index} resp3 {resp3}: {}", text.join(" "));
                let ours = a.reply().unwrap_or_else(|error| panic!("{place}: our reply: {error}"));
                let theirs = b.reply().unwrap_or_else(|error| panic!("{place}: their reply: {error}"));
                let shown = |value: &Value| shorten(&format!("{value:?}"));
                assert!(
                    same(rule(row.name), &ours, &theirs),
                    "{place}\n  eagledb {}\n  oracle  {}",
                    shown(&ours),
                    shown(&theirs),
                );
                *counts.entry(row.name).or_default() += 1;
            }
        });
    }
}

fn shorten(text: &str) -> String {
    let mut end = text.len().min(300);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].to_owned()
}

#[expect(clippy::print_stdout, reason = "the counts are what the run shows")]
fn run(theirs: &Process, label: &str, since: fn(&str) -> bool) {
    let mut counts = BTreeMap::new();
    for shards in ["1", "2"] {
        let ours = Process::eagledb(&["--shards", shards, "--pool", "none"]);
        for seed in seeds(0..30) {
            compare(&ours, theirs, seed, seed % 2 == 1, rows(since).collect(), &mut counts);
        }
    }
    let mut families: BTreeMap<&str, usize> = BTreeMap::new();
    for row in rows(since) {
        *families.entry(row.group.name()).or_default() += counts.get(row.name).copied().unwrap_or(0);
    }
    println!("{label}: {} commands compared, by family {families:?}: {counts:?}", counts.values().sum::<usize>());
    for (names, rule, reason) in DIFFERENCES {
        println!("{}: {rule:?}: {reason}", names.join(" "));
    }
}

#[test]
fn replies_are_those_of_redis_7_0() {
    // Rows that Redis 7.0 knows, against Debian's redis-server.
    run(&Process::redis(), "redis 7.0", |since| since < "7.1");
}

#[test]
fn replies_are_those_of_valkey_8_1() {
    // All rows, against Valkey 8.1, which has what Redis 7.2 added.
    match Process::valkey() {
        Some(valkey) => run(&valkey, "valkey 8.1", |_| true),
        None => eprintln!("skipped: EAGLE_VALKEY_BIN is not set (deploy/test.sh installs it)"),
    }
}
