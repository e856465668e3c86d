//! The table is whole, and what transcripts do not show: hits and misses, questions between shards, running out of memory.

use std::collections::HashSet;

use eagle_resp::{OwnedArgs, Protocol, Reply};

use super::{lookup::Lookup, refusal::Named, *};
use crate::{
    call::UnixMs,
    shard::ShardConfig,
    spec::{Flags, Merge, Run},
    syntax::{self, Argument},
};

/// All rows, those of subcommands too.
fn all() -> Vec<&'static Spec> {
    rows().flat_map(|row| std::iter::once(row).chain(row.subcommands)).collect()
}

#[test]
fn names_are_given_once() {
    // Among all rows, subcommands included, no name comes twice; a subcommand's begins with its container's.
    let mut seen = HashSet::new();
    assert!(all().iter().all(|row| seen.insert(row.name)));
    for row in rows() {
        let prefix = format!("{}|", row.name);
        assert!(row.subcommands.iter().all(|sub| sub.name.starts_with(&prefix)), "{}", row.name);
    }
}

#[test]
fn rows_are_whole() {
    // Every fact that clients can ask for is there, and a row with keys says whether it reads or writes.
    for row in all() {
        let name = row.name;
        let facts = [row.since, row.summary, row.complexity];
        assert!(facts.iter().all(|fact| !fact.is_empty()), "{name}: a fact is missing");
        assert!(row.arity != 0, "{name}: no arity");
        let (reads, writes) = (row.flags.contains(Flags::READONLY), row.writes());
        assert!(!(reads && writes), "{name}: reads and writes");
        assert!(row.keys.is_empty() || reads || writes, "{name}: neither reads nor writes");
        assert_eq!(row.subcommands.is_empty(), !matches!(row.run, Run::Container), "{name}");
        assert!(!matches!(row.run, Run::Node), "{name}: the shard executes its own rows");
        assert_eq!(row.keys.is_empty(), !matches!(row.route, Route::Keys(_) | Route::Split(_)), "{name}");
    }
}

#[test]
fn syntax_agrees_with_arity() {
    // The fewest arguments of the syntax are the arity's, and it is negative exactly where their number varies.
    for row in all().into_iter().filter(|row| row.subcommands.is_empty()) {
        let arguments = syntax::parse(row.syntax);
        let words = row.name.split('|').count();
        let fewest = i8::try_from(syntax::least(&arguments) + words).unwrap();
        let varies = arguments.iter().any(Argument::varies);
        assert_eq!(row.arity, if varies { -fewest } else { fewest }, "{}", row.name);
    }
}

#[test]
fn keys_lie_within_the_fewest_arguments() {
    // A command that passed the arity check has all its keys.
    for row in all() {
        let fewest = usize::from(row.arity.unsigned_abs());
        for range in row.keys {
            assert!(range.indices(fewest).count() > 0, "{}", row.name);
            assert!(usize::from(range.first) < fewest && range.step > 0, "{}", row.name);
        }
        assert!(row.first_key().is_none_or(|first| { row.keys.iter().all(|range| usize::from(range.first) >= first) }));
    }
}

#[test]
fn split_commands_say_so_to_proxies() {
    // The tips of COMMAND INFO follow from the route, but for SWAPDB, of which Redis says nothing.
    for row in all().into_iter().filter(|row| row.name != "swapdb") {
        let (request, response) = match row.route {
            Route::Home | Route::Keys(_) => (None, None),
            Route::Split(merge) | Route::Every(merge) => {
                let split = matches!(row.route, Route::Split(_));
                let request = if split { "request_policy:multi_shard" } else { "request_policy:all_shards" };
                let response = match merge {
                    Merge::Ok => Some("response_policy:all_succeeded"),
                    Merge::Sum => Some("response_policy:agg_sum"),
                    Merge::PerKey | Merge::Concat => None,
                };
                (Some(request), response)
            }
            Route::Cursor => (Some("request_policy:special"), Some("response_policy:special")),
            Route::Random => (Some("request_policy:all_shards"), Some("response_policy:special")),
        };
        let policies: HashSet<_> = row.tips.iter().copied().filter(|tip| tip.contains("policy")).collect();
        assert_eq!(policies, request.into_iter().chain(response).collect(), "{}", row.name);
    }
}

/// A shard in its smallest form that still compacts: a few extents.
fn small_shard() -> Shard {
    let config = ShardConfig { extent_size: 256 << 10, capacity_max: 4 << 20, ..ShardConfig::default() };
    Shard::new(config).unwrap()
}

/// What the shard replies to a command, by its row.
fn execute(shard: &mut Shard, spec: &'static Spec, args: Args<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    let reply = Reply::new(&mut out, Protocol::Resp2);
    shard.execute(&mut Call { spec, args, db: DbId(0), now: UnixMs(1_000_000), first: None, reply });
    out
}

/// What the shard replies to a line of words.
fn ask(shard: &mut Shard, line: &str) -> Vec<u8> {
    let words: OwnedArgs = line.split(' ').map(str::as_bytes).collect();
    let args = words.as_args();
    let Named::Row(spec) = refusal::find(&Lookup::new(rows()), args) else { panic!("no command: {line}") };
    execute(shard, spec, args)
}

#[test]
fn hits_and_misses_are_counted_as_redis_counts_them() {
    // Each line, with hits and misses, was asked of a Redis 7.0.15 and a Valkey 8.1.8 (INFO before and after).
    let lines = [
        ("GET key", 1, 0),
        ("GET none", 0, 1),
        ("SET key v", 0, 0),
        ("SET none v", 0, 0),
        ("SET key v GET", 1, 0),
        ("SET none v GET", 0, 1),
        ("SET key v NX", 0, 0),
        ("SET none v XX", 0, 0),
        ("GETSET key v", 1, 0),
        ("GETSET none v", 0, 1),
        ("GETDEL key", 1, 0),
        ("GETDEL none", 0, 1),
        ("GETEX key", 1, 0),
        ("GETEX none", 0, 1),
        ("SETNX key v", 0, 0),
        ("SETEX key 10 v", 0, 0),
        ("MGET key none key", 2, 1),
        ("MSET key v", 0, 0),
        ("MSETNX key v none v", 0, 0),
        ("INCR n", 0, 0),
        ("INCR none", 0, 0),
        ("INCRBYFLOAT n 1", 0, 0),
        ("APPEND key v", 0, 0),
        ("STRLEN key", 1, 0),
        ("STRLEN none", 0, 1),
        ("GETRANGE key 0 1", 1, 0),
        ("GETRANGE none 0 1", 0, 1),
        ("SETRANGE key 0 x", 0, 0),
        ("LCS key none", 1, 1),
        ("EXPIRE key 10", 0, 0),
        ("EXPIRE none 10", 0, 0),
        ("TTL key", 1, 0),
        ("TTL none", 0, 1),
        ("PEXPIRETIME key", 1, 0),
        ("PERSIST key", 0, 0),
        ("DEL key none", 0, 0),
        ("UNLINK key none", 0, 0),
        ("EXISTS key none key", 2, 1),
        ("TOUCH key none", 1, 1),
        ("TYPE key", 1, 0),
        ("TYPE none", 0, 1),
        ("RENAME key new", 0, 0),
        ("RENAMENX key n", 0, 0),
        ("COPY key new", 1, 0),
        ("COPY none new", 0, 1),
        ("COPY key n", 1, 0),
        ("MOVE key 1", 0, 0),
        ("KEYS *", 0, 0),
        ("SCAN 0", 0, 0),
        ("RANDOMKEY", 0, 0),
        ("DBSIZE", 0, 0),
        ("OBJECT ENCODING key", 1, 0),
        ("OBJECT ENCODING none", 0, 1),
        ("OBJECT FREQ none", 0, 1),
        ("OBJECT IDLETIME key", 1, 0),
    ];
    let mut shard = small_shard();
    for (line, hits, misses) in lines {
        ask(&mut shard, "FLUSHALL");
        ask(&mut shard, "MSET key value n 1");
        let before = shard.stats;
        ask(&mut shard, line);
        let after = shard.stats;
        assert_eq!((after.hits - before.hits, after.misses - before.misses), (hits, misses), "{line}");
    }
}

#[test]
fn a_value_crosses_from_shard_to_shard() {
    // Exported and imported: value, expiry and encoding arrive; what is there is replaced only on demand.
    let (mut from, mut to) = (small_shard(), small_shard());
    for line in ["SET key 1 PX 5000", "APPEND key 2", "SET other x"] {
        ask(&mut from, line);
    }
    let question = |spec: &Spec, words: &[&[u8]]| -> OwnedArgs {
        std::iter::once(spec.name.as_bytes()).chain(words.iter().copied()).collect()
    };
    let export = question(&EXPORT, &[b"key", b"0"]);
    let reply = execute(&mut from, &EXPORT, export.as_args());
    let start = reply.iter().position(|&byte| byte == b'\n').unwrap() + 1;
    let value = &reply[start..reply.len() - 2];
    for (replace, expected) in [(b"0", b":1\r\n"), (b"0", b":0\r\n"), (b"1", b":1\r\n")] {
        let import = question(&IMPORT, &[b"copy", replace, value]);
        assert_eq!(execute(&mut to, &IMPORT, import.as_args()), expected);
    }
    assert_eq!(ask(&mut to, "GET copy"), b"$2\r\n12\r\n");
    assert_eq!(ask(&mut to, "PTTL copy"), b":5000\r\n");
    assert_eq!(ask(&mut to, "OBJECT ENCODING copy"), b"$3\r\nraw\r\n");
    let absent = question(&EXPORT, &[b"absent", b"0"]);
    assert_eq!(execute(&mut from, &EXPORT, absent.as_args()), b"$-1\r\n");
}

#[test]
fn strings_of_two_shards_are_compared() {
    // LCS over shards: both are fetched, the answer is the same as on one.
    let mut shard = small_shard();
    ask(&mut shard, "MSET a ohmytext b mynewtext");
    let fetch: OwnedArgs = [b"#fetch".as_slice(), b"a"].into_iter().collect();
    assert_eq!(execute(&mut shard, &FETCH, fetch.as_args()), b"$8\r\nohmytext\r\n");
    for line in ["LCS a b", "LCS a b IDX WITHMATCHLEN", "LCS a b LEN IDX"] {
        let words: OwnedArgs = line.split(' ').map(str::as_bytes).collect();
        let mut out = Vec::new();
        let reply = &mut Reply::new(&mut out, Protocol::Resp2);
        lcs_reply(b"ohmytext", b"mynewtext", words.as_args(), 1 << 20, reply);
        assert_eq!(out, ask(&mut shard, line), "{line}");
    }
}

#[test]
fn a_command_that_finds_no_room_says_only_so() {
    // Full: what shows the old value before it sets the new one takes it back, and nothing changed.
    const FULL: &[u8] = b"-OOM command not allowed when used memory > 'maxmemory'.\r\n";
    let mut shard = small_shard();
    let value = "v".repeat(10_000);
    ask(&mut shard, "SET key old");
    let full = (0..1000).any(|n| ask(&mut shard, &format!("SET fill:{n} {value}")) == FULL);
    assert!(full, "4 MiB hold no 10 MB");
    for command in ["SET key {} GET", "GETSET key {}", "SET key {}", "MSET key {}", "APPEND key {}"] {
        let line = command.replace("{}", &value);
        assert_eq!(ask(&mut shard, &line), FULL, "{command}");
        assert_eq!(ask(&mut shard, "GET key"), b"$3\r\nold\r\n", "{command}");
    }
    assert_eq!(ask(&mut shard, "DEL key"), b":1\r\n");
}

#[test]
fn a_scan_goes_through_all_keys() {
    // COUNT by COUNT until the cursor is 0 again: each of 1000 keys comes, and a cursor that no scan gave is at the end.
    let mut shard = small_shard();
    for n in 0..1000 {
        ask(&mut shard, &format!("SET key:{n} v"));
    }
    let mut seen = HashSet::new();
    let (mut cursor, mut rounds) = (String::from("0"), 0);
    loop {
        let reply = String::from_utf8(ask(&mut shard, &format!("SCAN {cursor} COUNT 20 MATCH key:*"))).unwrap();
        let mut lines = reply.split("\r\n").skip(2);
        cursor = lines.next().unwrap().to_owned();
        seen.extend(lines.filter(|line| line.starts_with("key:")).map(str::to_owned));
        rounds += 1;
        if cursor == "0" {
            break;
        }
    }
    assert_eq!(seen.len(), 1000);
    assert!(rounds > 10, "{rounds} rounds");
    assert_eq!(ask(&mut shard, "SCAN 18446744073709551615"), b"*2\r\n$1\r\n0\r\n*0\r\n");
}
