//! `kill -9` in a loop: the real binary under load, with clients that keep their own account of what was acknowledged.
//!
//! A round: start, look whether everything is there that must be and nothing that was not sent, load with pipelined writes of
//! several connections, and end the server at a random moment, in a random way. Every write mode promises to outlive the
//! process, so all are held to the same. `EAGLE_LONG` makes 200 rounds of each, `EAGLE_SEED` chooses what is sent (when the
//! server dies is up to the machine).

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    net::SocketAddr,
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering::Relaxed},
    },
    time::Duration,
};

use eagle_resp::Value;
use eagle_tests::{
    account::{Account, Held, State, Words},
    process::{NO_ADMIN_PORT, Process, eagledb_path},
    seeds,
    wire::{Wire, encode},
};
use fastrand::Rng;
use tempfile::TempDir;

/// How long the end of a process may take, even on a loaded machine.
const WAIT: Duration = Duration::from_secs(60);
/// Connections that write.
const WRITERS: usize = 4;
/// Slots in which a connection has keys, and keys in many slots that it has beside.
const FAMILIES: usize = 6;
const SINGLES: usize = 12;
/// Counters that all connections count up.
const COUNTERS: usize = 8;
/// Requests in flight on a connection at most.
const IN_FLIGHT_MAX: usize = 64;

/// What all connections write to.
#[derive(Default)]
struct Shared {
    counters: [Counter; COUNTERS],
}

#[derive(Default)]
struct Counter {
    /// What it was when the round began, and how often it was counted up since.
    base: AtomicI64,
    sent: AtomicI64,
    acknowledged: AtomicI64,
    /// The highest that anybody was told.
    told: AtomicI64,
}

/// What is to come for a request in flight.
enum Due {
    /// This reply, which acknowledges something in these accounts.
    Own(Value, Vec<usize>),
    Count(usize),
    Look(usize),
    /// A new field of the hash that all share.
    Field(u64),
}

/// A connection that writes, and what it knows.
struct Writer {
    number: usize,
    rng: Rng,
    accounts: Vec<Account>,
    /// Fields of the shared hash: sent, and whether acknowledged.
    fields: HashMap<u64, bool>,
    due: VecDeque<Due>,
    serial: u64,
    acknowledged: u64,
}

impl Writer {
    fn new(number: usize, seed: u64) -> Self {
        let family = |nth: usize| {
            let names = ["s", "t", "n", "h", "g"];
            Account::new(names.iter().map(|name| format!("{{{number}-{nth}}}{name}").into_bytes()).collect())
        };
        let single = |nth: usize| Account::new(vec![format!("single{number}-{nth}").into_bytes()]);
        Self {
            number,
            rng: Rng::with_seed(seed),
            accounts: (0..FAMILIES).map(family).chain((0..SINGLES).map(single)).collect(),
            fields: HashMap::new(),
            due: VecDeque::new(),
            serial: 0,
            acknowledged: 0,
        }
    }

    /// Writes until the server is gone or takes no more writes.
    fn run(&mut self, address: SocketAddr, durability: Option<&str>, shared: &Shared) {
        let mut wire = Wire::connect(address);
        if let Some(mode) = durability {
            wire.send(&[b"CLIENT", b"DURABILITY", mode.as_bytes()]);
            if wire.reply().is_err() {
                return;
            }
        }
        loop {
            let mut bytes = Vec::new();
            for _ in 0..self.rng.usize(1..=IN_FLIGHT_MAX / 2) {
                bytes.extend(self.next_request(shared));
            }
            // The server may have gone: then what it said before can still be read.
            let is_sent = wire.write(&bytes).is_ok();
            let left = if is_sent { self.rng.usize(0..=IN_FLIGHT_MAX / 2) } else { 0 };
            while self.due.len() > left {
                let Ok(reply) = wire.reply() else { return };
                let is_final = matches!(&reply, Value::Error(line) if line.starts_with(b"MISCONF"));
                if is_final {
                    return;
                }
                self.replied(reply, shared);
            }
            if !is_sent {
                return;
            }
        }
    }

    fn next_request(&mut self, shared: &Shared) -> Vec<u8> {
        let words: Words = match self.rng.u32(0..20) {
            0..=11 => {
                let account = self.rng.usize(0..FAMILIES);
                let words = self.family_command(account);
                let reply = self.accounts[account].send(words.clone());
                self.due.push_back(Due::Own(reply, vec![account]));
                words
            }
            12 | 13 => self.set_several(),
            14 => self.rename_over_slots(),
            15 | 16 => {
                let nth = self.rng.usize(0..COUNTERS);
                shared.counters[nth].sent.fetch_add(1, Relaxed);
                self.due.push_back(Due::Count(nth));
                vec![b"INCR".to_vec(), counter_name(nth)]
            }
            17 => {
                let nth = self.rng.usize(0..COUNTERS);
                self.due.push_back(Due::Look(nth));
                vec![b"GET".to_vec(), counter_name(nth)]
            }
            _ => {
                self.serial += 1;
                self.fields.insert(self.serial, false);
                self.due.push_back(Due::Field(self.serial));
                let field = format!("{}-{}", self.number, self.serial).into_bytes();
                vec![b"HSET".to_vec(), b"fields".to_vec(), field.clone(), field]
            }
        };
        let words: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
        encode(&words)
    }

    /// Something that is never written twice, seldom long.
    fn value(&mut self) -> Vec<u8> {
        self.serial += 1;
        let len = match self.rng.u32(0..200) {
            0 => 70_000,
            1..=9 => self.rng.usize(1000..9000),
            _ => self.rng.usize(0..200),
        };
        let mut value = format!("{}-{}-", self.number, self.serial).into_bytes();
        value.resize(value.len() + len, b'x');
        value.extend(self.serial.to_string().into_bytes());
        value
    }

    /// A command on keys of one slot.
    fn family_command(&mut self, account: usize) -> Words {
        let value = self.value();
        let field = format!("field{}", self.rng.u32(0..30)).into_bytes();
        let account = &self.accounts[account];
        let [s, t, n, h, g] = account.keys() else { panic!("a family has five keys") };
        let there = |key: &[u8]| account.ahead().contains_key(key);
        let words = |words: &[&[u8]]| words.iter().map(|word| word.to_vec()).collect();
        match self.rng.u32(0..16) {
            0..=2 => words(&[b"SET", s, &value]),
            3 | 4 => words(&[b"APPEND", t, &value]),
            5..=7 => words(&[b"INCR", n]),
            8..=10 => words(&[b"HSET", h, &field, &value]),
            11 => words(&[b"MSET", s, &value, t, &value]),
            12 if there(s) => words(&[b"RENAME", s, t]),
            13 if there(t) => words(&[b"RENAME", t, s]),
            14 if there(h) => words(&[b"RENAME", h, g]),
            _ => {
                let keys = [s, t, n, h, g];
                words(&[b"DEL", keys[self.rng.usize(0..5)]])
            }
        }
    }

    /// MSET over slots, each key of which is kept account of by itself.
    fn set_several(&mut self) -> Words {
        let first = self.rng.usize(0..SINGLES / 3);
        // Those of number 2 modulo 3 are only ever renamed to.
        let several: Vec<usize> = (0..3).map(|nth| FAMILIES + (first + nth) % (SINGLES / 3) * 3).collect();
        let mut words = vec![b"MSET".to_vec()];
        for account in &several {
            let (key, value) = (self.accounts[*account].keys()[0].clone(), self.value());
            self.accounts[*account].send(vec![b"SET".to_vec(), key.clone(), value.clone()]);
            words.extend([key, value]);
        }
        self.due.push_back(Due::Own(Value::Simple(b"OK".to_vec()), several));
        words
    }

    /// RENAME from a slot to another; SET of what could be renamed if there is nothing.
    fn rename_over_slots(&mut self) -> Words {
        let from = FAMILIES + self.rng.usize(0..SINGLES / 3) * 3 + 1;
        let to = from + 1;
        let [from_key, to_key] = [from, to].map(|account| self.accounts[account].keys()[0].clone());
        let (words, accounts) = match self.accounts[from].ahead().get(&from_key) {
            Some(Held::Text(text)) => {
                let text = text.clone();
                self.accounts[from].send(vec![b"DEL".to_vec(), from_key.clone()]);
                self.accounts[to].send(vec![b"SET".to_vec(), to_key.clone(), text]);
                (vec![b"RENAME".to_vec(), from_key, to_key], vec![from, to])
            }
            _ => {
                let words = vec![b"SET".to_vec(), from_key, self.value()];
                self.accounts[from].send(words.clone());
                (words, vec![from])
            }
        };
        self.due.push_back(Due::Own(Value::Simple(b"OK".to_vec()), accounts));
        words
    }

    fn replied(&mut self, reply: Value, shared: &Shared) {
        match (self.due.pop_front().expect("a reply is to a request"), reply) {
            (Due::Own(expected, accounts), reply) => {
                assert_eq!(reply, expected, "connection {}", self.number);
                accounts.into_iter().for_each(|account| self.accounts[account].acknowledge());
            }
            (Due::Count(nth), Value::Integer(count)) => {
                shared.counters[nth].acknowledged.fetch_add(1, Relaxed);
                shared.counters[nth].told.fetch_max(count, Relaxed);
            }
            (Due::Look(nth), reply) => {
                shared.counters[nth].told.fetch_max(integer(&reply), Relaxed);
            }
            (Due::Field(serial), Value::Integer(1)) => {
                self.fields.insert(serial, true);
            }
            (_, other) => panic!("connection {}: {other:?}", self.number),
        }
        self.acknowledged += 1;
    }

    /// Looks at all that it wrote, after a start; returns how many writes were done without having been acknowledged.
    fn settle(&mut self, wire: &mut Wire) -> Result<usize, String> {
        self.due.clear();
        let mut done = 0;
        let mut before = Vec::new();
        for account in &mut self.accounts {
            before.push(account.certain().clone());
            let found = read(wire, account.keys());
            done += account.settle(&found).map_err(|wrong| format!("connection {}: {wrong}", self.number))?;
        }
        // RENAME over slots may be found half done, but not what it renames nowhere.
        for from in (FAMILIES..FAMILIES + SINGLES).filter(|nth| (nth - FAMILIES) % 3 == 1) {
            let was_there = before[from].values().next();
            let is_there = [from, from + 1].iter().any(|nth| !self.accounts[*nth].certain().is_empty());
            if was_there.is_some() && !is_there {
                return Err(format!("connection {}: what RENAME moves is lost: {was_there:?}", self.number));
            }
        }
        Ok(done)
    }
}

fn counter_name(nth: usize) -> Vec<u8> {
    format!("counter{nth}").into_bytes()
}

/// A counter that nobody counted yet is 0.
fn integer(reply: &Value) -> i64 {
    match reply {
        Value::Bulk(text) => String::from_utf8_lossy(text).parse().expect("a counter is a number"),
        Value::Null => 0,
        other => panic!("{other:?} is no counter"),
    }
}

fn read(wire: &mut Wire, keys: &[Vec<u8>]) -> State {
    let mut found = State::new();
    for key in keys {
        let held = match wire.command(&[b"TYPE", key]) {
            Value::Simple(kind) if kind == b"string" => match wire.command(&[b"GET", key]) {
                Value::Bulk(text) => Held::Text(text),
                other => panic!("GET: {other:?}"),
            },
            Value::Simple(kind) if kind == b"hash" => Held::Hash(read_hash(wire, key)),
            Value::Simple(kind) if kind == b"none" => continue,
            other => panic!("TYPE: {other:?}"),
        };
        found.insert(key.clone(), held);
    }
    found
}

fn read_hash(wire: &mut Wire, key: &[u8]) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let Value::Array(words) = wire.command(&[b"HGETALL", key]) else { panic!("HGETALL gives an array") };
    let words: Vec<Vec<u8>> = words
        .into_iter()
        .map(|word| match word {
            Value::Bulk(bytes) => bytes,
            other => panic!("{other:?} in a hash"),
        })
        .collect();
    words.chunks_exact(2).map(|pair| (pair[0].clone(), pair[1].clone())).collect()
}

/// How a server ends, under load.
#[derive(Clone, Copy, Debug)]
enum End {
    Kill,
    Term,
    /// By `kill -9`, after this went wrong with its storage for a while.
    Fault(&'static [&'static str]),
}

const FAULTS: [&[&str]; 4] = [&["FAIL-SYNC", "5"], &["FAIL-WRITE", "5"], &["SHORT-WRITE"], &["DELAY-SYNC", "30"]];

/// The loop on one folder.
struct Loop {
    name: String,
    arguments: Vec<String>,
    folder: Arc<TempDir>,
    rng: Rng,
    writers: Vec<Writer>,
    shared: Shared,
    /// Writes done without having been acknowledged.
    unacknowledged: usize,
    ends: BTreeMap<String, u32>,
}

impl Loop {
    fn new(sync: &str, shards: usize, seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let shards = shards.to_string();
        // Checkpoints are written again and again, and cut short.
        let often = ["--checkpoint-bytes", "32kb"];
        let arguments = ["--pool", "file", "--shards", &shards, "--sync", sync, "--enable-debug-command", "yes"];
        let arguments = [&arguments[..], &often[..]].concat();
        Self {
            name: format!("sync {sync}, {shards} shards, EAGLE_SEED={seed}"),
            arguments: arguments.iter().map(ToString::to_string).collect(),
            folder: Arc::new(TempDir::new().expect("a temporary folder")),
            writers: (0..WRITERS).map(|number| Writer::new(number, rng.u64(..))).collect(),
            rng,
            shared: Shared::default(),
            unacknowledged: 0,
            ends: BTreeMap::new(),
        }
    }

    #[expect(clippy::print_stderr, reason = "a random test says what it did and how to repeat it")]
    fn run(&mut self, rounds: usize) {
        for round in 0..rounds {
            let end = match self.rng.u32(0..10) {
                0 => End::Term,
                1 | 2 => End::Fault(FAULTS[self.rng.usize(0..FAULTS.len())]),
                _ => End::Kill,
            };
            *self.ends.entry(format!("{end:?}")).or_default() += 1;
            if self.rng.u32(0..4) == 0 {
                self.kill_at_start();
            }
            let mut server = self.start();
            self.check(&server, round);
            self.load(&mut server, end);
        }
        let server = self.start();
        self.check(&server, rounds);
        let acknowledged: u64 = self.writers.iter().map(|writer| writer.acknowledged).sum();
        eprintln!(
            "{}: {rounds} rounds {:?}, {acknowledged} requests acknowledged, {} more found done",
            self.name, self.ends, self.unacknowledged
        );
    }

    fn start(&self) -> Process {
        let arguments: Vec<&str> = self.arguments.iter().map(String::as_str).collect();
        Process::start_in(&eagledb_path(), &self.folder, &arguments)
    }

    /// Starts a server that dies while it opens its pools, or soon after.
    fn kill_at_start(&mut self) {
        let mut child = Command::new(eagledb_path())
            .env(NO_ADMIN_PORT.0, NO_ADMIN_PORT.1)
            .args(["--port", "0", "--unixsocket"])
            .arg(self.folder.path().join("socket"))
            .arg("--dir")
            .arg(self.folder.path())
            .args(&self.arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the server starts");
        std::thread::sleep(Duration::from_micros(self.rng.u64(0..60_000)));
        child.kill().expect("a running child can be killed");
        child.wait().expect("a killed child ends");
    }

    /// Loads the server until it has come to its end.
    fn load(&mut self, server: &mut Process, end: End) {
        let (address, shared) = (server.address(), &self.shared);
        let moments = [0; 2].map(|_| Duration::from_micros(self.rng.u64(5_000..120_000)));
        // Some ask for more or less than the server's mode.
        let durability = [None, None, None, Some(*self.rng.choice(&["always", "no"]).expect("two"))];
        std::thread::scope(|scope| {
            for (writer, durability) in self.writers.iter_mut().zip(durability) {
                scope.spawn(move || writer.run(address, durability, shared));
            }
            std::thread::sleep(moments[0]);
            if let End::Fault(words) = end {
                let mut all = vec!["DEBUG", "STORAGE"];
                all.extend(words);
                let reply = Wire::connect(address).text(&all);
                assert_eq!(reply, Value::Simple(b"OK".to_vec()));
                std::thread::sleep(moments[1]);
            }
            server.signal(if matches!(end, End::Term) { "TERM" } else { "KILL" });
        });
        let status = server.wait(WAIT).expect("it ends");
        assert!(status.success() == matches!(end, End::Term), "{}: {status}: {}", self.name, server.log());
    }

    /// Compares what is there with what may be.
    fn check(&mut self, server: &Process, round: usize) {
        let mut wire = Wire::connect(server.address());
        let context = format!("{}, after round {round}, {:?}", self.name, self.ends);
        let mut keys = 0;
        for writer in &mut self.writers {
            let settled = writer.settle(&mut wire);
            self.unacknowledged += settled.unwrap_or_else(|wrong| panic!("{context}: {wrong}\n{}", server.log()));
            keys += writer.accounts.iter().map(|account| account.certain().len()).sum::<usize>();
        }
        for (nth, counter) in self.shared.counters.iter().enumerate() {
            let count = integer(&wire.command(&[b"GET", &counter_name(nth)]));
            let base = counter.base.swap(count, Relaxed);
            let (sent, acknowledged) = (counter.sent.swap(0, Relaxed), counter.acknowledged.swap(0, Relaxed));
            let least = (base + acknowledged).max(counter.told.load(Relaxed));
            assert!((least..=base + sent).contains(&count), "{context}: {least} <= {count} <= {base} + {sent}");
            keys += usize::from(count > 0);
        }
        keys += self.check_fields(&mut wire, &context);
        assert_eq!(wire.text(&["DBSIZE"]), Value::Integer(keys as i64), "{context}: nothing else is there");
        wire.text(&["DEL", "fields"]);
    }

    /// The hash that all add fields to has what was acknowledged and nothing that was not sent; whether it is there.
    fn check_fields(&mut self, wire: &mut Wire, context: &str) -> usize {
        let found = read_hash(wire, b"fields");
        let mut known = 0;
        for writer in &mut self.writers {
            for (serial, is_acknowledged) in writer.fields.drain() {
                let field = format!("{}-{serial}", writer.number).into_bytes();
                match found.get(&field) {
                    Some(value) => assert_eq!(value, &field, "{context}"),
                    None => assert!(!is_acknowledged, "{context}: field {} is lost", String::from_utf8_lossy(&field)),
                }
                known += usize::from(found.contains_key(&field));
            }
        }
        assert_eq!(found.len(), known, "{context}: all fields were sent");
        usize::from(!found.is_empty())
    }
}

fn rounds_of(sync: &str) {
    let rounds = if std::env::var_os("EAGLE_LONG").is_some() { 100 } else { 8 };
    let seed = seeds(1..2).next().expect("a seed");
    for shards in [1, 2] {
        Loop::new(sync, shards, seed).run(rounds);
    }
}

#[test]
fn nothing_acknowledged_is_lost_under_sync_always() {
    rounds_of("always");
}

#[test]
fn nothing_acknowledged_is_lost_under_sync_everysec() {
    rounds_of("everysec");
}

#[test]
fn nothing_acknowledged_is_lost_under_sync_no() {
    rounds_of("no");
}
