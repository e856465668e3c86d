//! Random CLIENT and CONFIG commands to EagleDB and to a real Redis, the same replies and the same connections left: both protocols,
//! one and two shards, several clients that name, list, pause and kill each other.
//!
//! As in the differential test of data commands, the oracle is Debian's Redis 7.0, and Valkey 8.1 for what 7.2 added. Ids and addresses
//! are each server's own: commands name a client by its place, and lists are compared by it. Every way in which a reply may differ is listed in
//! [`DIFFERENCES`] and [`OWN`], with its reason.

use std::collections::{BTreeMap, BTreeSet};

use eagle_node::config::{
    form::Form,
    table::{Place, TABLE},
};
use eagle_resp::Value;
use eagle_tests::{
    process::Process,
    seeds,
    wire::{Wire, encode},
};
use fastrand::Rng;

/// How replies to a command compare that are not equal, and why.
const DIFFERENCES: &[(&str, Rule, &str)] = &[
    ("hello", Rule::Kind, "names and versions of servers, and ids"),
    ("client|id", Rule::Kind, "ids are each server's own"),
    (
        "client|info",
        Rule::Fields,
        "ids, addresses, times and memory are each server's own; versions know different fields",
    ),
    (
        "client|list",
        Rule::Fields,
        "as CLIENT INFO; the clients are compared one by one, in any order. Wrong ids are sent to Redis alone: Valkey 8.1 has another \
         grammar and other errors for them",
    ),
    (
        "client|kill",
        Rule::Exact,
        "equal, but several ids, what is no number, and words too many or too few are sent to Redis alone: Valkey 8.1 has another grammar",
    ),
    ("client|pause", Rule::Exact, "equal, but words too many are sent to Redis alone: Valkey 8.1 passes them over"),
    ("client|unblock", Rule::Exact, "as CLIENT PAUSE"),
    ("client|help", Rule::Kind, "each version's own text; transcripts have ours"),
    ("config|help", Rule::Kind, "each version's own text; transcripts have ours"),
    ("config|get", Rule::Common, "an order of a hash table, and each version's own directives"),
];

/// Directives that are not set at random, and why.
const OWN: &[(&[&str], &str)] = &[
    (&["appendonly", "save"], "the node runs with 'pool none' and refuses what promises to keep data"),
    (&["tls-port"], "which library speaks TLS decides what of it can be had"),
    (&["bind", "dir", "port"], "each server's own; compared by the test of settings"),
    (&["maxclients", "oom-score-adj", "oom-score-adj-values"], "what the system allows decides"),
    (
        &["activedefrag", "jemalloc-bg-thread", "rdma-bind", "rdma-port", "rdma-rx-size", "rdma-completion-vector"],
        "what the peer was built with decides",
    ),
    (&["locale-collate"], "which locales are installed decides"),
    (&["cluster-blacklist-ttl"], "Valkey takes -1 for the largest number"),
    (&["requirepass"], "clients that are killed come again"),
    (&["watchdog-period"], "prints the peer's stack into its log"),
    (&["maxmemory-clients"], "what a client takes is each server's own; compared by the test of the crowd"),
    (
        &["maxmemory-samples", "hash-max-listpack-entries", "hash-max-ziplist-entries"],
        "bounds and defaults are those of Redis 7.2, Valkey has its own",
    ),
    (&["logfile", "loglevel", "syslog-enabled"], "where the peer complains"),
    (&["syslog-ident", "repl-diskless-load", "log-format"], "versions of Valkey have values of their own"),
];

/// Fields of a client that are compared.
const FIELDS: [&str; 13] =
    ["name", "flags", "db", "sub", "psub", "ssub", "multi", "cmd", "user", "redir", "resp", "lib-name", "lib-ver"];

/// How two replies to the same command compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rule {
    /// They are equal.
    Exact,
    /// Of the same type.
    Kind,
    /// Lines about clients: the compared fields that both have are equal, for each client of ours.
    Fields,
    /// Pairs: those of directives that both have and that are not each server's own.
    Common,
}

/// A word of a command.
#[derive(Clone, Debug)]
enum Word {
    Text(String),
    /// The id of the client at this place.
    Id(usize),
    /// Its address.
    Address(usize),
}

type Command = Vec<Word>;

/// A server and the clients that talk to it.
struct Side<'a> {
    process: &'a Process,
    clients: Vec<Client>,
}

struct Client {
    wire: Wire,
    id: i64,
}

/// What a client got for what it sent.
#[derive(Debug)]
struct Got {
    replies: Vec<Value>,
    closed: bool,
}

impl Client {
    fn new(process: &Process, resp3: bool) -> Self {
        let mut wire = Wire::connect(process.address());
        if resp3 {
            wire.text(&["HELLO", "3"]);
        }
        let Value::Integer(id) = wire.text(&["CLIENT", "ID"]) else { panic!("an id") };
        Self { wire, id }
    }
}

impl Side<'_> {
    fn bytes(&self, command: &Command) -> Vec<u8> {
        let word = |word: &Word| match word {
            Word::Text(text) => text.clone(),
            Word::Id(place) => self.clients[*place].id.to_string(),
            Word::Address(place) => self.clients[*place].wire.stream().local_addr().expect("bound").to_string(),
        };
        let words: Vec<String> = command.iter().map(word).collect();
        encode(&words.iter().map(String::as_bytes).collect::<Vec<_>>())
    }

    /// Sends commands and reads what comes until the last of them, which always replies, or the end.
    fn say(&mut self, place: usize, commands: &[Command]) -> Got {
        const LAST: &[u8] = b"that was all";
        let mut bytes: Vec<u8> = commands.iter().flat_map(|command| self.bytes(command)).collect();
        bytes.extend(encode(&[b"CLIENT", b"REPLY", b"ON"]));
        bytes.extend(encode(&[b"ECHO", LAST]));
        let wire = &mut self.clients[place].wire;
        let mut got = Got { replies: Vec::new(), closed: wire.write(&bytes).is_err() };
        while !got.closed {
            match wire.reply() {
                Ok(Value::Bulk(text)) if text == LAST => break,
                Ok(reply) => got.replies.push(reply),
                Err(error) => {
                    let patience = [std::io::ErrorKind::WouldBlock, std::io::ErrorKind::TimedOut];
                    assert!(!patience.contains(&error.kind()), "no reply to {commands:?}");
                    got.closed = true;
                }
            }
        }
        got
    }

    /// Waits until the server has forgotten everybody but these clients.
    fn settle(&mut self) {
        loop {
            match self.clients[0].wire.text(&["CLIENT", "LIST"]) {
                Value::Bulk(list) | Value::Verbatim { text: list, .. } => {
                    if list.iter().filter(|byte| **byte == b'\n').count() == self.clients.len() {
                        return;
                    }
                }
                other => panic!("{other:?} of CLIENT LIST"),
            }
        }
    }

    /// What is compared of each client in a list, by its place; `None` if this is no list.
    fn described(&self, list: &[u8]) -> Option<BTreeMap<usize, BTreeMap<String, String>>> {
        let text = String::from_utf8(list.to_vec()).expect("text");
        let line = |line: &str| {
            let fields: BTreeMap<String, String> = line
                .split(' ')
                .filter_map(|field| field.split_once('='))
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .collect();
            let id = fields.get("id")?;
            let place = self.clients.iter().position(|client| client.id.to_string() == *id);
            let fields = fields.into_iter().filter(|(name, _)| FIELDS.contains(&name.as_str())).collect();
            Some((place.expect("a client of this test"), fields))
        };
        text.lines().filter(|line| !line.is_empty()).map(line).collect()
    }
}

/// Both servers.
struct Pair<'a> {
    ours: Side<'a>,
    theirs: Side<'a>,
    own: BTreeSet<&'static str>,
}

impl Pair<'_> {
    fn same(&self, rule: Rule, ours: &Value, theirs: &Value) -> bool {
        match (rule, ours, theirs) {
            (_, Value::Error(_), _) | (_, _, Value::Error(_)) | (Rule::Exact, ..) => ours == theirs,
            (Rule::Common, a, b) => self.differing(a, b).is_some_and(|differing| differing.is_empty()),
            (Rule::Kind, a, b) => std::mem::discriminant(a) == std::mem::discriminant(b),
            (
                Rule::Fields,
                Value::Bulk(a) | Value::Verbatim { text: a, .. },
                Value::Bulk(b) | Value::Verbatim { text: b, .. },
            ) => {
                let (Some(a), Some(b)) = (self.ours.described(a), self.theirs.described(b)) else { return false };
                let alike = |(place, fields): (&usize, &BTreeMap<String, String>)| {
                    b.get(place).is_some_and(|other| {
                        fields.iter().all(|(name, value)| other.get(name).is_none_or(|other| other == value))
                    })
                };
                a.len() == b.len() && a.iter().all(alike)
            }
            _ => false,
        }
    }

    /// Directives of both whose values differ, those left out that are each server's own; `None` if these are not such replies.
    fn differing(&self, ours: &Value, theirs: &Value) -> Option<Vec<String>> {
        let (ours, theirs) = (pairs(ours)?, pairs(theirs)?);
        let is_own = |name: &str| self.own.contains(name.to_ascii_lowercase().as_str());
        let differs = |(name, value): &(&String, &Value)| !is_own(name) && ours.get(*name) != Some(*value);
        let line =
            |(name, value): (&String, &Value)| format!("{name}: {:?} for {}", ours.get(name).map(shown), shown(value));
        Some(theirs.iter().filter(differs).map(line).collect())
    }

    fn reconnect(&mut self, place: usize, resp3: bool) {
        for side in [&mut self.ours, &mut self.theirs] {
            side.clients[place] = Client::new(side.process, resp3);
        }
    }
}

/// Names and values of `CONFIG GET`, if this is a reply to it.
fn pairs(reply: &Value) -> Option<BTreeMap<String, Value>> {
    let pair = |(name, value): (&Value, &Value)| match name {
        Value::Bulk(name) => Some((String::from_utf8_lossy(name).into_owned(), value.clone())),
        _ => None,
    };
    match reply {
        Value::Array(items) => items.chunks_exact(2).map(|items| pair((&items[0], &items[1]))).collect(),
        Value::Map(items) => items.iter().map(|(name, value)| pair((name, value))).collect(),
        _ => None,
    }
}

/// A reply for a reader.
fn shown(value: &Value) -> String {
    match value {
        Value::Bulk(text) | Value::Simple(text) | Value::Error(text) | Value::Verbatim { text, .. } => {
            format!("\"{}\"", text.escape_ascii())
        }
        Value::Array(items) => format!("{:?}", items.iter().map(shown).collect::<Vec<_>>()),
        Value::Map(_) => {
            pairs(value).iter().flatten().map(|(name, value)| format!("{name}={} ", shown(value))).collect()
        }
        other => format!("{other:?}"),
    }
}

/// Draws commands for a number of clients.
struct Talk {
    clients: usize,
    /// Directives that both servers have and that may be set at random.
    directives: Vec<&'static str>,
    /// The oracle has what Redis 7.2 added.
    is_new: bool,
}

fn text(word: &str) -> Word {
    Word::Text(word.to_owned())
}

fn one_of<'a>(rng: &mut Rng, words: &[&'a str]) -> &'a str {
    words[rng.usize(..words.len())]
}

impl Talk {
    fn command(&self, rng: &mut Rng) -> Command {
        let mut words = match rng.u8(0..10) {
            0..=4 => self.client(rng),
            5..=7 => self.config(rng),
            _ => self.other(rng),
        };
        let is = |name: &String| ["LIST", "KILL", "PAUSE", "UNBLOCK"].contains(&name.as_str());
        let is_theirs = self.is_new && matches!(&words[..], [_, Word::Text(name), _, ..] if is(name));
        match rng.u8(0..24) {
            _ if is_theirs => {}
            0 if words.len() > 2 => {
                words.pop();
            }
            1 => words.push(text("extra")),
            2 if words.len() > 1 => words[1] = text("bogus"),
            _ => {}
        }
        words
    }

    /// What changes how a client is listed.
    fn other(&self, rng: &mut Rng) -> Command {
        let line = match rng.u8(0..5) {
            0 => "HELLO 2".to_owned(),
            1 => "HELLO 3".to_owned(),
            2 => format!("SELECT {}", rng.i8(-1..18)),
            3 => "GET nothing".to_owned(),
            _ => "PING".to_owned(),
        };
        line.split(' ').map(text).collect()
    }

    fn id(&self, rng: &mut Rng) -> Word {
        match rng.u8(0..8) {
            0 if self.is_new => text(one_of(rng, &["0", "-1", "99999999"])),
            0 => text(one_of(rng, &["0", "-1", "99999999", "abc", "9223372036854775807"])),
            _ => Word::Id(rng.usize(..self.clients)),
        }
    }

    fn client(&self, rng: &mut Rng) -> Command {
        let name = one_of(rng, &["", "a", "worker", "with blank", "line\nbreak", "ünicode", "tilde~"]);
        let mut words = vec![text("CLIENT")];
        let choice = rng.u8(0..if self.is_new { 16 } else { 14 });
        let rest: Vec<Word> = match choice {
            0 => vec![text("GETNAME")],
            1 | 2 => vec![text("SETNAME"), text(name)],
            3 => vec![text("ID")],
            4 => vec![text("INFO")],
            5 => vec![text("LIST")],
            6 => {
                let kinds = ["normal", "NORMAL", "master", "replica", "slave", "pubsub", "bogus"];
                vec![text("LIST"), text("TYPE"), text(one_of(rng, &kinds))]
            }
            7 => {
                let mut words = vec![text("LIST"), text("ID")];
                words.extend((0..rng.usize(1..4)).map(|_| self.id(rng)));
                if self.is_new {
                    words.truncate(2);
                    words.push(Word::Id(rng.usize(..self.clients)));
                }
                words
            }
            8 => self.kill(rng),
            9 => {
                let time = one_of(rng, &["0", "1", "10", "20", "-1", "abc", "99999999999999999999"]);
                let mut words = vec![text("PAUSE"), text(time)];
                if rng.bool() {
                    words.push(text(one_of(rng, &["ALL", "write", "bogus"])));
                }
                words
            }
            10 => vec![text("UNPAUSE")],
            11 => vec![text("REPLY"), text(one_of(rng, &["ON", "OFF", "SKIP", "bogus"]))],
            12 => {
                let mut words = vec![text("UNBLOCK"), self.id(rng)];
                if rng.bool() {
                    words.push(text(one_of(rng, &["TIMEOUT", "error", "bogus"])));
                }
                words
            }
            13 => match rng.u8(0..4) {
                0 => vec![text("NO-EVICT"), text(one_of(rng, &["ON", "off", "bogus"]))],
                1 => vec![text("GETREDIR")],
                2 => vec![text("TRACKINGINFO")],
                _ => vec![text("HELP")],
            },
            14 => vec![text("NO-TOUCH"), text(one_of(rng, &["ON", "off", "bogus"]))],
            _ => vec![text("SETINFO"), text(one_of(rng, &["LIB-NAME", "lib-ver", "bogus"])), text(name)],
        };
        words.extend(rest);
        words
    }

    fn kill(&self, rng: &mut Rng) -> Command {
        if rng.u8(0..4) == 0 {
            let address = if rng.bool() { Word::Address(rng.usize(..self.clients)) } else { text("1.2.3.4:5") };
            return vec![text("KILL"), address];
        }
        let mut words = vec![text("KILL")];
        for _ in 0..rng.usize(1..4) {
            let (filter, value) = match rng.u8(0..12) {
                0..=4 => ("ID", self.id(rng)),
                5..=6 => ("ADDR", Word::Address(rng.usize(..self.clients))),
                7 => ("TYPE", text(one_of(rng, &["normal", "master", "replica", "pubsub", "bogus"]))),
                8 => ("USER", text(one_of(rng, &["default", "nobody"]))),
                9 | 10 => ("SKIPME", text(one_of(rng, &["yes", "NO", "bogus"]))),
                _ => ("LADDR", text("1.2.3.4:5")),
            };
            // Valkey 8.1 takes several ids at once; to Redis the last is meant.
            let is_again = words.iter().any(|word| matches!(word, Word::Text(text) if text == filter));
            if !(self.is_new && is_again) {
                words.extend([text(filter), value]);
            }
        }
        words
    }

    fn config(&self, rng: &mut Rng) -> Command {
        let mut words = vec![text("CONFIG")];
        match rng.u8(0..12) {
            0..=3 => {
                words.push(text("GET"));
                for _ in 0..rng.usize(1..4) {
                    let patterns = ["*", "*max*", "client-*", "nothing", "?z", "h[z]", "*-E*"];
                    let name = self.directives[rng.usize(..self.directives.len())];
                    words.push(text(if rng.bool() { name } else { one_of(rng, &patterns) }));
                }
            }
            4..=9 => {
                words.push(text("SET"));
                for _ in 0..rng.usize(1..4) {
                    let name = self.directives[rng.usize(..self.directives.len())];
                    let shown = if rng.u8(0..4) == 0 { name.to_ascii_uppercase() } else { name.to_owned() };
                    words.extend([Word::Text(shown), Word::Text(value(rng, name))]);
                }
            }
            10 => words.push(text(one_of(rng, &["RESETSTAT", "REWRITE", "HELP"]))),
            _ => words.extend([text("SET"), text("no-such-directive"), text("1")]),
        }
        words
    }
}

/// A value for a directive: mostly one that it may have, else none or one beyond its bounds.
fn value(rng: &mut Rng, name: &str) -> String {
    let form = TABLE.iter().find(|row| row.name == name || row.alias == Some(name)).expect("of the table").form;
    if rng.u8(0..6) == 0 {
        return one_of(rng, &["", "abc", "-1", "1.5", "7%", "yes no", "1kb2"]).to_owned();
    }
    match form {
        Form::Flag => one_of(rng, &["yes", "no", "YES", "nO"]).to_owned(),
        Form::Integer(min, max) => {
            let within = min.max(0).saturating_add(rng.i64(100..1000)).min(max);
            let beyond = if rng.bool() { max.saturating_add(1) } else { min.saturating_sub(1) };
            [min, max, within, within, beyond][rng.usize(..5)].to_string()
        }
        Form::Clamped(..) => rng.i64(0..1000).to_string(),
        // Enough for all that is there: what is beyond is each server's own.
        Form::Memory(..) => one_of(rng, &["1gb", "2000mb", "1073741824", "4G", "3000000k", "1024MB", "0"]).to_owned(),
        Form::MemoryOrPercent => one_of(rng, &["1gb", "50%", "101%", "0"]).to_owned(),
        Form::Octal(_) => "700".to_owned(),
        Form::Choice(names) => {
            let name = one_of(rng, names);
            if rng.bool() { name.to_ascii_uppercase() } else { name.to_owned() }
        }
        Form::Text => one_of(rng, &["word", "two words", "\"quoted\""]).to_owned(),
        Form::Words | Form::Addresses => one_of(rng, &["word", "two  words"]).to_owned(),
        Form::OutputLimits => {
            let limits =
                ["replica 1mb 2kb 3", "pubsub 0 0 0", "slave 1gb 1 1 pubsub 5 6 7", "bogus 1 2 3", "pubsub 1 2"];
            one_of(rng, &limits).to_owned()
        }
        Form::Grammar(grammar) => grammar.example().to_owned(),
    }
}

/// The command's name as the table of differences has it.
fn name(command: &Command) -> String {
    let word = |word: &Word| if let Word::Text(text) = word { text.to_ascii_lowercase() } else { "?".to_owned() };
    let first = word(&command[0]);
    if ["client", "config"].contains(&first.as_str()) && command.len() > 1 {
        format!("{first}|{}", word(&command[1]))
    } else {
        first
    }
}

fn compare(pair: &mut Pair<'_>, talk: &Talk, seed: u64, resp3: bool, counts: &mut BTreeMap<String, usize>) {
    let mut rng = Rng::with_seed(seed);
    pair.ours.settle();
    pair.theirs.settle();
    for step in 0..150 {
        let place = rng.usize(..talk.clients);
        let commands: Vec<Command> = (0..rng.usize(1..4)).map(|_| talk.command(&mut rng)).collect();
        let (ours, theirs) = (pair.ours.say(place, &commands), pair.theirs.say(place, &commands));
        let failed = || format!("EAGLE_SEED={seed} step {step} resp3 {resp3} client {place}: {commands:?}");
        assert_eq!(
            (ours.closed, ours.replies.len()),
            (theirs.closed, theirs.replies.len()),
            "{}\n  eagledb {:?}\n  oracle  {:?}",
            failed(),
            ours.replies.iter().map(shown).collect::<Vec<_>>(),
            theirs.replies.iter().map(shown).collect::<Vec<_>>()
        );
        let mutes = commands.iter().any(|command| name(command) == "client|reply");
        for (nth, (ours, theirs)) in ours.replies.iter().zip(&theirs.replies).enumerate() {
            // Where replies may be missing, all that can be told is by their kind.
            let names: Vec<String> = commands.iter().map(name).collect();
            let rules = DIFFERENCES.iter().filter(|(name, ..)| names.iter().any(|of| of == name));
            let mut rules: Vec<Rule> = if mutes || nth >= names.len() {
                rules.map(|(_, rule, _)| *rule).collect()
            } else {
                rules.filter(|(name, ..)| *name == names[nth]).map(|(_, rule, _)| *rule).collect()
            };
            rules.push(Rule::Exact);
            assert!(
                rules.iter().any(|rule| pair.same(*rule, ours, theirs)),
                "{}: reply {nth}\n  eagledb {}\n  oracle  {}\n  {:?}",
                failed(),
                shown(ours),
                shown(theirs),
                pair.differing(ours, theirs)
            );
        }
        commands.iter().for_each(|command| *counts.entry(name(command)).or_default() += 1);
        if commands.iter().any(|command| name(command) == "client|kill") || ours.closed {
            for place in 0..talk.clients {
                let closed = [&mut pair.ours, &mut pair.theirs].map(|side| side.say(place, &[]).closed);
                assert_eq!(closed[0], closed[1], "{}: client {place} is closed", failed());
                if closed[0] {
                    pair.reconnect(place, resp3);
                }
            }
        }
    }
}

#[expect(clippy::print_stdout, reason = "the counts are what the run shows")]
fn run(theirs: &Process, label: &str, is_new: bool) {
    const CLIENTS: usize = 3;
    let mut counts = BTreeMap::new();
    let own: BTreeSet<&'static str> = OWN.iter().flat_map(|(names, _)| names.iter().copied()).collect();
    let known = pairs(&Wire::connect(theirs.address()).text(&["CONFIG", "GET", "*"])).expect("pairs");
    let acts = TABLE.iter().filter(|row| !matches!(row.place, Place::Only(_)) && !row.hidden);
    let names = acts.flat_map(|row| std::iter::once(row.name).chain(row.alias));
    let directives: Vec<&str> = names.filter(|name| known.contains_key(*name) && !own.contains(name)).collect();
    let talk = Talk { clients: CLIENTS, directives, is_new };
    for shards in ["1", "2"] {
        let ours = Process::eagledb(&["--shards", shards, "--pool", "none", "--enable-debug-command", "yes"]);
        // Both begin alike, whatever was set before.
        for name in &talk.directives {
            let Value::Array(items) = Wire::connect(theirs.address()).text(&["CONFIG", "GET", name]) else {
                panic!("{name}")
            };
            let Value::Bulk(value) = &items[1] else { panic!("{name}") };
            Wire::connect(ours.address()).command(&[b"CONFIG", b"SET", name.as_bytes(), value]);
        }
        for seed in seeds(0..20) {
            let resp3 = seed % 2 == 1;
            let side = |process| Side { process, clients: (0..CLIENTS).map(|_| Client::new(process, resp3)).collect() };
            let mut pair = Pair { ours: side(&ours), theirs: side(theirs), own: own.clone() };
            compare(&mut pair, &talk, seed, resp3, &mut counts);
        }
    }
    println!("{label}: {} commands compared: {counts:?}", counts.values().sum::<usize>());
    println!("{} directives set at random", talk.directives.len());
    for (name, rule, reason) in DIFFERENCES {
        println!("{name}: {rule:?}: {reason}");
    }
    for (names, reason) in OWN {
        println!("CONFIG SET {}: not at random: {reason}", names.join(" "));
    }
}

#[test]
fn clients_and_configuration_are_those_of_redis_7_0() {
    // What Redis 7.0 knows, against Debian's redis-server.
    run(&Process::redis(), "redis 7.0", false);
}

#[test]
fn clients_and_configuration_are_those_of_valkey_8_1() {
    // With what Redis 7.2 added, against Valkey 8.1.
    match Process::valkey() {
        Some(valkey) => run(&valkey, "valkey 8.1", true),
        None => eprintln!("skipped: EAGLE_VALKEY_BIN is not set (deploy/test.sh installs it)"),
    }
}
