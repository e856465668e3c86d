//! A shard is crashed again and again, and must come back as it was after some command: none acknowledged may be missing, and
//! none may be there without those before it.
//!
//! A second, volatile shard executes the same commands and is the model: after each command its digest is what a recovered
//! shard may show. The medium is simulated: a file, of which every write and every sync can be cut short
//! ([`eagle_tests::medium`]), or memory, of which every drain can ([`eagle_tests::memory`]). The
//! log is small, so that compaction, growth and the reuse of extents go on all the time. Crashes come while commits are
//! written and synced, between them, while recovery writes, and right after it.
//!
//! Checkpoints are taken of a shard at rest, and while it goes on: such a one is a file that grows with each slice and may be cut
//! anywhere by a crash, before or after it took the place of the one before.

#![allow(clippy::print_stderr, reason = "a random test prints the seed that repeats it")]

use eagle_pmem::{Checkpoint, CheckpointWriter, GROWTH_BYTES_MIN, Position};
use eagle_resp::{OwnedArgs, Protocol, Reply};
use eagle_shard::{
    Budget, Digest,
    call::{Call, DbId, UnixMs},
    command::{self, lookup::Lookup, refusal},
    shard::{Shard, ShardConfig},
};
use eagle_tests::{
    medium::Medium,
    memory::{Forgotten, Memory},
    seeds,
};
use fastrand::Rng;
use std::ops::Range;

const NOW: UnixMs = UnixMs(1_700_000_000_000);
const DATABASES: u8 = 3;

/// A command and the database that it is sent to.
type Command = (DbId, Vec<Vec<u8>>);

/// What is asked of the shard.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Load {
    /// Every kind of command.
    All,
    /// For the most part changes of hashes of some KiB, which are written as patches; no values above an extent.
    WideHashes,
    /// Many strings of several chunks, of 64 KiB each, for which an extent is too small or just large enough.
    LargeStrings,
    /// Values of some KiB, all of which are deleted now and then: so space is given back and needed again.
    Tides,
}

/// What is planted, for the test to find.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Bug {
    None,
    /// Replies leave before their commit is written.
    AcknowledgedEarly,
    /// The shard is told of syncs that did not take place.
    SyncLied,
    /// The last page of each commit is not written.
    PageForgotten,
    /// The last line of each commit is not written back.
    LineForgotten,
    /// With the space of an extent goes that of its header.
    HeaderPunched,
    /// Headers of extents do not wait for what was stored before them.
    OrderForgotten,
    /// A checkpoint takes the place of the one before although what it was cut at is not synced.
    CheckpointEarly,
    /// What a commit leaves for after a sync is never written.
    Unannounced,
}

/// What a shard is kept in.
trait Keep {
    /// Something empty.
    fn new(config: ShardConfig, bug: Bug) -> Self;

    /// A shard of what is there, and of a checkpoint.
    fn open(&self, checkpoint: Option<&Checkpoint>) -> Result<Shard, String>;

    /// One commit and, perhaps, a sync, either of which may be cut short.
    fn commit(&mut self, shard: &mut Shard, must_sync: bool, may_crash: bool, rng: &mut Rng) -> Kept;

    /// Lets the next crash come while recovery itself writes, where it does so before its commits.
    fn crash_soon(&mut self, _rng: &mut Rng) {}

    /// These parts lose their space, or are filled with zeros: either ends at once.
    fn zero(&mut self, ranges: &[Range<u64>]);

    /// The process is killed, or else the power is lost.
    fn crash(&mut self, shard: &Shard, is_killed: bool, rng: &mut Rng);
}

/// What has become of a commit.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kept {
    CutShort,
    /// What it covers is written; it or what comes then is cut short.
    WrittenAndCutShort,
    Written,
    Synced,
}

/// In a file, that is written and synced.
struct InFile {
    config: ShardConfig,
    medium: Medium,
    bug: Bug,
}

impl Keep for InFile {
    fn new(config: ShardConfig, bug: Bug) -> Self {
        Self { config, medium: Medium::new(vec![0; 8192]), bug }
    }

    fn open(&self, checkpoint: Option<&Checkpoint>) -> Result<Shard, String> {
        Shard::with_image(&self.config, &self.medium.contents(), checkpoint, false).map_err(|error| error.to_string())
    }

    fn commit(&mut self, shard: &mut Shard, must_sync: bool, may_crash: bool, rng: &mut Rng) -> Kept {
        let commit = shard.commit();
        let (position, mut ranges) = (commit.position, commit.ranges.to_vec());
        if self.bug == Bug::PageForgotten {
            ranges.pop();
        }
        for range in &ranges {
            self.medium.write(range, shard.pool_bytes(range.clone()));
        }
        if may_crash && rng.u8(0..12) == 0 {
            return Kept::CutShort;
        }
        self.medium.complete();
        shard.written(position);
        let is_all = position == shard.position() || self.bug == Bug::Unannounced;
        if is_all && !must_sync && rng.u8(0..3) > 0 {
            return Kept::Written;
        }
        let mark = shard.begin_sync();
        if self.bug == Bug::SyncLied {
            shard.end_sync(mark);
            return Kept::Written;
        }
        self.medium.begin_sync();
        if may_crash && rng.u8(0..8) == 0 {
            return if is_all { Kept::WrittenAndCutShort } else { Kept::CutShort };
        }
        self.medium.end_sync();
        shard.end_sync(mark);
        if is_all { Kept::Synced } else { self.commit(shard, must_sync, may_crash, rng) }
    }

    fn zero(&mut self, ranges: &[Range<u64>]) {
        for range in ranges {
            // The page before is that of the header.
            let start = if self.bug == Bug::HeaderPunched { range.start - 4096 } else { range.start };
            self.medium.zero(&(start..range.end));
        }
    }

    fn crash(&mut self, _shard: &Shard, is_killed: bool, rng: &mut Rng) {
        if is_killed { self.medium.kill(rng) } else { self.medium.lose_power(rng) }
    }
}

/// In memory, that is drained.
struct InMemory(ShardConfig, Memory);

impl Keep for InMemory {
    fn new(config: ShardConfig, bug: Bug) -> Self {
        let forgotten = match bug {
            Bug::LineForgotten => Forgotten::Line,
            Bug::OrderForgotten => Forgotten::Drains,
            _ => Forgotten::Nothing,
        };
        Self(config, Memory::new(vec![0; 8192], forgotten))
    }

    fn open(&self, checkpoint: Option<&Checkpoint>) -> Result<Shard, String> {
        let medium = Box::new(self.1.clone());
        Shard::with_simulated(&self.0, &self.1.contents(), medium, checkpoint, false).map_err(|error| error.to_string())
    }

    fn commit(&mut self, shard: &mut Shard, _must_sync: bool, may_crash: bool, rng: &mut Rng) -> Kept {
        assert!(shard.commits_at_once() && shard.pool_file().is_none());
        if may_crash && rng.u8(0..10) == 0 {
            // Perhaps not in this commit, but while a later command is executed.
            self.1.arm(rng.u32(0..4), rng);
        }
        self.1.in_commit(true);
        shard.commit();
        self.1.in_commit(false);
        if self.1.has_ended() { Kept::CutShort } else { Kept::Synced }
    }

    fn crash_soon(&mut self, rng: &mut Rng) {
        self.1.arm(rng.u32(0..6), rng);
    }

    fn zero(&mut self, _: &[Range<u64>]) {
        unreachable!("memory keeps its space");
    }

    fn crash(&mut self, shard: &Shard, is_killed: bool, rng: &mut Rng) {
        self.1.end(is_killed, shard.pool_bytes(0..shard.pool_file_bytes()), rng);
    }
}

struct Bed<K> {
    config: ShardConfig,
    shard: Shard,
    keep: K,
    model: Shard,
    lookup: Lookup,
    /// All commands since the beginning that the present state is made of.
    history: Vec<Command>,
    /// Commands of the history that survive the process, and the loss of power.
    written: usize,
    synced: usize,
    crashes: u32,
    /// How often space was given back, and how often holes were filled.
    punches: u32,
    fills: u32,
    /// The newest checkpoint's bytes.
    checkpoint: Option<Vec<u8>>,
    checkpoints: u32,
    /// What is written of a checkpoint that is taken while the shard goes on, and how many of those there were.
    running: Vec<u8>,
    finished: u32,
    /// All up to here survives the loss of power.
    synced_to: Position,
    /// Patches that the shards before this one wrote, and folded.
    patches: (u64, u64),
    load: Load,
    folder: tempfile::TempDir,
    rng: Rng,
    bug: Bug,
}

impl Load {
    /// By how much the medium grows at once, and from when on space is given back, depends on the seed, too.
    fn config(self, seed: u64) -> ShardConfig {
        let (extent_size, capacity_max) = match self {
            Self::LargeStrings => ((64 << 10) << (seed % 3 / 2), 12 << 20),
            Self::All | Self::WideHashes | Self::Tides => (64 << 10, 6 << 20),
        };
        let growth_bytes_min = [64 << 10, 128 << 10, 256 << 10, 512 << 10, GROWTH_BYTES_MIN][(seed % 5) as usize];
        ShardConfig { databases: DATABASES, extent_size, capacity_max, growth_bytes_min, ..ShardConfig::default() }
    }
}

fn digest(shard: &Shard) -> Digest {
    let databases = (0..DATABASES).map(DbId).filter(|db| shard.len(*db) > 0);
    Digest::of_databases(databases.map(|db| (db, shard.digest(db, NOW))))
}

fn execute(shard: &mut Shard, lookup: &Lookup, (db, words): &Command) -> Vec<u8> {
    let mut args = OwnedArgs::default();
    words.iter().for_each(|word| args.push(word));
    let refusal::Named::Row(spec) = refusal::find(lookup, args.as_args()) else { panic!("{words:?} is a command") };
    let mut out = Vec::new();
    let reply = Reply::new(&mut out, Protocol::Resp2);
    shard.execute(&mut Call { spec, args: args.as_args(), db: *db, now: NOW, first: None, reply });
    out
}

impl<K: Keep> Bed<K> {
    fn new(seed: u64, load: Load, bug: Bug) -> Self {
        let config = load.config(seed);
        let model = Shard::new(config.clone()).expect("a small shard");
        let keep = K::new(config.clone(), bug);
        let shard = keep.open(None).expect("a small shard");
        let mut bed = Self {
            config,
            shard,
            keep,
            model,
            lookup: Lookup::new(command::rows()),
            history: Vec::new(),
            written: 0,
            synced: 0,
            crashes: 0,
            punches: 0,
            fills: 0,
            checkpoint: None,
            checkpoints: 0,
            running: Vec::new(),
            finished: 0,
            synced_to: Position::default(),
            patches: (0, 0),
            load,
            folder: tempfile::tempdir().expect("a folder"),
            rng: Rng::with_seed(seed),
            bug,
        };
        bed.settle(false);
        bed
    }

    /// A change of a packed hash of up to 120 fields, or of a large one that began as one, or something else that may happen to them.
    fn any_change_of_hash(&mut self) -> Command {
        let rng = &mut self.rng;
        let mut hash = || format!("hash:{}", rng.u8(0..5)).into_bytes();
        let (hash, other) = (hash(), hash());
        let mut field = || format!("field:{}", rng.u8(0..120)).into_bytes();
        let (one, two) = (field(), field());
        let number = rng.u32(0..5000).to_string().into_bytes();
        let words: Vec<Vec<u8>> = match rng.u8(0..100) {
            0..8 => {
                let fields = (0..rng.u8(30..90)).map(|nth| format!("field:{nth}").into_bytes());
                let pairs = fields.flat_map(|field| [field, number.repeat(6)]);
                ["HSET".into(), hash].into_iter().chain(pairs).collect()
            }
            8..40 => vec!["HSET".into(), hash, one, number],
            40..50 => vec!["HSET".into(), hash, one, number.repeat(rng.usize(0..10)), two, number],
            50..65 => vec!["HINCRBY".into(), hash, one, "7".into()],
            65..70 => vec!["HSETNX".into(), hash, one, number],
            70..83 => vec!["HDEL".into(), hash, one, two],
            83..86 => vec!["RENAME".into(), hash, other],
            86..89 => vec!["COPY".into(), hash, other, "REPLACE".into()],
            89..91 => vec!["MOVE".into(), hash, "1".into()],
            91..93 => vec!["PEXPIRE".into(), hash, "5000000".into()],
            93..95 => vec!["PERSIST".into(), hash],
            95 => vec!["DEL".into(), hash],
            96 => vec!["SET".into(), hash, number],
            97 => vec!["HSET".into(), hash, one, vec![b'v'; 70]],
            98 => vec!["SWAPDB".into(), "0".into(), rng.u8(0..DATABASES).to_string().into()],
            _ if rng.u8(0..4) == 0 => vec!["FLUSHDB".into()],
            _ => vec!["HLEN".into(), hash],
        };
        (DbId(self.rng.u8(0..DATABASES)), words)
    }

    /// A string of up to 300 KiB, all of it or a part, and what else may happen to it.
    fn any_change_of_string(&mut self) -> Command {
        let rng = &mut self.rng;
        let mut key = || format!("large:{}", rng.u8(0..6)).into_bytes();
        let (one, other) = (key(), key());
        let long = match rng.u8(0..8) {
            0 => rng.usize(130_000..300_000),
            1..4 => rng.usize(65_000..66_200),
            _ => rng.usize(1..20_000),
        };
        let value = vec![rng.u8(b'a'..=b'z'); long];
        let at = match rng.u8(0..4) {
            0 => rng.usize(0..5) * 65_536,
            1 => (rng.usize(1..5) * 65_536).saturating_sub(rng.usize(1..200)),
            _ => rng.usize(0..200_000),
        };
        let words: Vec<Vec<u8>> = match rng.u8(0..100) {
            0..30 => vec!["SET".into(), one, value],
            30..50 => vec!["SETRANGE".into(), one, at.to_string().into(), value],
            50..64 => vec!["APPEND".into(), one, value],
            64..68 => vec!["SETRANGE".into(), one, at.to_string().into(), "!".into()],
            68..82 => vec!["DEL".into(), one],
            82..86 => vec!["RENAME".into(), one, other],
            86..89 => vec!["COPY".into(), one, other, "REPLACE".into()],
            89..92 => vec!["MSET".into(), one, value.clone(), other, value],
            92..94 => vec!["PEXPIRE".into(), one, "5000000".into()],
            94..96 => vec!["MOVE".into(), one, "1".into()],
            96..98 => vec!["SET".into(), one, "short".into()],
            98 if rng.u8(0..4) == 0 => vec!["FLUSHDB".into()],
            _ => vec!["GETDEL".into(), one],
        };
        (DbId(self.rng.u8(0..DATABASES)), words)
    }

    fn any_command(&mut self) -> Command {
        if self.load == Load::LargeStrings && self.rng.u8(0..5) < 2 {
            return self.any_change_of_string();
        }
        if self.load == Load::WideHashes && self.rng.u8(0..4) > 0 {
            return self.any_change_of_hash();
        }
        if self.load == Load::Tides && self.rng.u8(0..80) == 0 {
            return (DbId(0), vec!["FLUSHALL".into()]);
        }
        let rng = &mut self.rng;
        let mut key = || format!("key:{}", rng.u8(0..60));
        let (one, other) = (key(), key());
        let (field, number) = (format!("field:{}", rng.u16(0..700)), rng.u32(0..5000));
        let long = match rng.u8(0..40) {
            0 if self.load != Load::WideHashes => rng.usize(65_000..200_000),
            1..6 => rng.usize(1000..30_000),
            6..26 if self.load == Load::Tides => rng.usize(10_000..60_000),
            _ => rng.usize(0..150),
        };
        let value = vec![rng.u8(b'a'..=b'z'); long];
        let words: Vec<Vec<u8>> = match rng.u8(0..100) {
            0..32 => vec!["SET".into(), one.into(), value],
            32..35 => vec!["MSET".into(), one.into(), value.clone(), other.into(), value, "both".into(), "v".into()],
            35..40 => vec!["SET".into(), one.into(), value, "PX".into(), "1000000".into()],
            40..48 => vec!["DEL".into(), one.into()],
            48..52 => vec!["APPEND".into(), one.into(), vec![b'+'; long.min(500)]],
            52..55 => vec!["SETRANGE".into(), one.into(), (number * 20).to_string().into(), b"here".to_vec()],
            55..60 => vec!["RENAME".into(), one.into(), other.into()],
            60..63 => vec!["COPY".into(), one.into(), other.into(), "REPLACE".into()],
            63..80 => {
                let mut words = vec!["HSET".into(), format!("hash:{}", rng.u8(0..6)).into_bytes()];
                for nth in 0..rng.u16(1..40) {
                    words.push(format!("{field}:{nth}").into());
                    words.push(number.to_string().into());
                }
                words
            }
            80..86 => vec!["HDEL".into(), format!("hash:{}", rng.u8(0..6)).into(), format!("{field}:0").into()],
            86..89 => vec!["DEL".into(), format!("hash:{}", rng.u8(0..6)).into()],
            89..92 => {
                vec!["RENAME".into(), format!("hash:{}", rng.u8(0..6)).into(), format!("hash:{}", rng.u8(0..6)).into()]
            }
            92..94 => vec!["PERSIST".into(), one.into()],
            94..97 => vec!["PEXPIRE".into(), one.into(), "5000000".into()],
            97 => vec!["MOVE".into(), one.into(), "1".into()],
            98 => vec!["SWAPDB".into(), "0".into(), rng.u8(0..DATABASES).to_string().into()],
            _ if rng.u8(0..4) == 0 => vec!["FLUSHDB".into()],
            _ => vec!["GETDEL".into(), one.into()],
        };
        (DbId(self.rng.u8(0..DATABASES)), words)
    }

    fn command(&mut self) {
        let command = self.any_command();
        let (reply, expected) =
            (execute(&mut self.shard, &self.lookup, &command), execute(&mut self.model, &self.lookup, &command));
        if reply.starts_with(b"-OOM") {
            // The model has room where the shard, with its tombstones and extents waiting to be synced, has none.
            self.model = self.model_of(self.history.len());
            return;
        }
        assert_eq!(reply, expected, "{:?}", command.1);
        self.history.push(command);
        if self.bug == Bug::AcknowledgedEarly {
            (self.written, self.synced) = (self.history.len(), self.history.len());
        }
    }

    /// One commit and, perhaps, a sync, either of which may be cut short. Returns whether nothing was.
    fn commit(&mut self, must_sync: bool, may_crash: bool) -> bool {
        let (commands, position) = (self.history.len(), self.shard.position());
        let kept = self.keep.commit(&mut self.shard, must_sync, may_crash, &mut self.rng);
        if kept != Kept::CutShort {
            self.written = commands;
        }
        if kept == Kept::Synced {
            (self.synced, self.synced_to) = (commands, position);
        }
        matches!(kept, Kept::Written | Kept::Synced)
    }

    /// Takes a checkpoint of what was committed, once that is synced. Sometimes the shard prepares as for its end.
    fn take_checkpoint(&mut self) -> bool {
        if self.rng.bool() {
            self.shard.prepare_to_end();
        }
        if !self.commit(true, true) {
            return false;
        }
        if self.shard.can_checkpoint() {
            let path = self.folder.path().join("shard-00.checkpoint");
            let mut writer = CheckpointWriter::create(&path, self.config.pool_id).expect("a file");
            self.shard.write_checkpoint(&mut writer).expect("room for a file");
            writer.finish().expect("room for a file");
            self.checkpoint = Some(std::fs::read(&path).expect("it is there"));
            self.checkpoints += 1;
        }
        true
    }

    /// Goes on with a checkpoint that is taken while the shard goes on: writes what there is of it, and lets it take the place of the
    /// one before when it may. Sometimes all at once, and sometimes nothing comes behind it: returns whether something does.
    fn go_on_with_checkpoint(&mut self) -> bool {
        let Some(cut) = self.shard.checkpoint_cut() else {
            if self.rng.u8(0..12) == 0 {
                self.shard.want_checkpoint();
            }
            return true;
        };
        self.running.extend(self.shard.take_checkpoint_bytes());
        for _ in 0..if self.rng.u8(0..3) == 0 { 200 } else { 0 } {
            self.shard.background(NOW, Budget { records: 300, is_idle: false });
        }
        self.running.extend(self.shard.take_checkpoint_bytes());
        let is_whole = Checkpoint::of_bytes(&self.running, self.config.pool_id).is_some();
        assert_eq!(is_whole, self.shard.is_checkpoint_complete(), "its last bytes make it whole");
        if self.rng.u8(0..40) == 0 {
            self.shard.give_up_checkpoint();
            self.running.clear();
        } else if is_whole && (cut <= self.synced_to || self.bug == Bug::CheckpointEarly) {
            self.shard.end_checkpoint();
            self.checkpoint = Some(std::mem::take(&mut self.running));
            self.finished += 1;
            return self.rng.bool();
        }
        true
    }

    /// Writes what recovery has to write. Returns whether that was not cut short.
    fn settle(&mut self, may_crash: bool) -> bool {
        loop {
            self.shard.load(NOW, self.rng.usize(1..2000)).expect("nothing is damaged");
            let is_read = self.shard.loading().is_none_or(|loading| loading.bytes_done == loading.bytes_total);
            if self.shard.loading().is_none() {
                return true;
            }
            if is_read && !self.commit(true, may_crash) {
                return false;
            }
        }
    }

    /// A volatile shard in which the first `count` commands were executed.
    fn model_of(&self, count: usize) -> Shard {
        let mut model = Shard::new(self.config.clone()).expect("a small shard");
        for command in &self.history[..count] {
            execute(&mut model, &self.lookup, command);
        }
        model
    }

    /// After how many commands, `least` at least, the model's digest is this one.
    fn state_of(&self, found: Digest, least: usize) -> Option<usize> {
        let mut model = self.model_of(least);
        let mut count = least;
        loop {
            if digest(&model) == found {
                return Some(count);
            }
            execute(&mut model, &self.lookup, self.history.get(count)?);
            count += 1;
        }
    }

    /// Crashes, opens what is left, and finds the state among those that it may be.
    fn crash(&mut self) -> Result<(), String> {
        loop {
            self.crashes += 1;
            let most = self.history.len();
            let has_power = self.rng.bool();
            let least = if has_power { self.written } else { self.synced };
            self.keep.crash(&self.shard, has_power, &mut self.rng);
            // What was written of a checkpoint is there in part, and is not looked at.
            self.running.clear();
            // Positions are those of one opening.
            self.synced_to = Position::default();
            if self.rng.u8(0..8) == 0 {
                // It is lost. One that was passed over once is never used again.
                self.checkpoint = None;
            }
            let checkpoint = self
                .checkpoint
                .clone()
                .map(|bytes| Checkpoint::of_bytes(&bytes, self.config.pool_id).expect("it is whole"));
            let (written, folded) = self.patches;
            self.patches = (written + self.shard.stats.patches, folded + self.shard.stats.folded);
            self.shard = self.keep.open(checkpoint.as_ref())?;
            if self.rng.u8(0..4) == 0 {
                self.keep.crash_soon(&mut self.rng);
            }
            while self.shard.loading().is_some_and(|loading| loading.bytes_done < loading.bytes_total) {
                self.shard.load(NOW, self.rng.usize(1..500)).map_err(|error| error.to_string())?;
                // Usage is looked at between slices too, and makes sense there.
                let usage = self.shard.usage();
                assert!(usage.log_dead_bytes <= usage.log_bytes, "{usage:?}");
            }
            self.shard.load(NOW, 1).map_err(|error| error.to_string())?;
            let Some(count) = self.state_of(digest(&self.shard), least) else {
                return Err(format!(
                    "after {} crashes, the last {}: of {most} commands {least} were promised, and the state is not that after \
                     any of the last ones",
                    self.crashes,
                    if has_power { "a kill" } else { "a loss of power" },
                ));
            };
            self.history.truncate(count);
            self.written = count;
            let may_crash = self.rng.u8(0..4) == 0;
            if self.settle(may_crash) {
                self.shard.check().map_err(|error| error.to_string())?;
                self.model = self.model_of(count);
                (self.written, self.synced) = (count, count);
                return Ok(());
            }
        }
    }

    fn run(&mut self, steps: usize) -> Result<(), String> {
        for _ in 0..steps {
            for _ in 0..self.rng.u8(0..12) {
                self.command();
            }
            let budget = Budget { records: self.rng.usize(0..300), is_idle: self.rng.bool() };
            self.shard.background(NOW, budget);
            let ends = !self.go_on_with_checkpoint();
            if let Some(ranges) = self.shard.next_punch() {
                self.keep.zero(&ranges);
                self.shard.punched(self.rng.u8(0..50) > 0);
                self.punches += 1;
            }
            if let Some(ranges) = self.shard.next_growth() {
                if self.rng.u8(0..10) == 0 {
                    self.shard.growth_failed();
                } else {
                    // New extents begin where extents do; what they grow by is zeros in any case.
                    if !(ranges[0].start - 8192).is_multiple_of(64 << 10) {
                        self.keep.zero(&ranges);
                        self.fills += 1;
                    }
                    self.shard.grown().map_err(|error| error.to_string())?;
                }
            }
            let goes_on = match self.rng.u8(0..30) {
                0 => self.take_checkpoint(),
                // What was done since the last commit is cut short wherever it is.
                1 => false,
                _ => self.commit(false, true),
            };
            if !goes_on || ends || self.rng.u8(0..60) == 0 {
                self.crash()?;
            }
        }
        assert_eq!(digest(&self.shard), digest(&self.model));
        self.shard.check().map_err(|error| error.to_string())
    }
}

fn crash_again_and_again<K: Keep>(name: &str, load: Load, seeds_usual: Range<u64>) -> (u32, u32) {
    let (mut seen, mut crashes, mut checkpoints, mut finished, mut patches) = (0, 0, 0, 0, (0, 0));
    let (mut punches, mut fills) = (0, 0);
    for seed in seeds(seeds_usual) {
        let mut bed = Bed::<K>::new(seed, load, Bug::None);
        if let Err(error) = bed.run(250) {
            panic!("EAGLE_SEED={seed}: {error}");
        }
        assert!(bed.crashes > 0, "EAGLE_SEED={seed}: something happened");
        (seen, crashes) = (seen + 1, crashes + bed.crashes);
        checkpoints += bed.checkpoints;
        (punches, fills) = (punches + bed.punches, fills + bed.fills);
        finished += bed.finished;
        patches = (patches.0 + bed.patches.0, patches.1 + bed.patches.1);
    }
    eprintln!("{name}: {crashes} crashes, {checkpoints} checkpoints, {finished} of a shard that went on");
    eprintln!("{name}: {} patches, {} folded", patches.0, patches.1);
    eprintln!("{name}: space given back {punches} times, holes filled {fills} times");
    // One seed that is repeated need not have it all.
    let are_patched = patches.0 > 1000 && patches.1 > 100 || load != Load::WideHashes;
    let is_repeated = std::env::var_os("EAGLE_SEED").is_some();
    assert!(is_repeated || checkpoints > seen && finished > 0 && are_patched, "much happens between the crashes");
    (punches, fills)
}

#[test]
fn a_crashed_shard_comes_back_as_it_was_promised() {
    // Random commands, commits cut short anywhere, and crashes during recovery too: what was written survives a kill, what
    // was synced the loss of power, and the state is always that after some command.
    crash_again_and_again::<InFile>("a file", Load::All, 0..24);
}

#[test]
fn a_crashed_shard_comes_back_from_space_that_was_given_back() {
    // The same where space goes back to the file system and holes are filled again, in turns.
    let (punches, fills) = crash_again_and_again::<InFile>("a file", Load::Tides, 0..24);
    let is_repeated = std::env::var_os("EAGLE_SEED").is_some();
    assert!(is_repeated || punches > 100 && fills > 30, "space goes and comes: {punches} and {fills} times");
}

#[test]
fn a_crashed_shard_comes_back_from_memory_as_it_was_promised() {
    // The same where memory is the medium: what was committed survives both, wherever between two drains they come.
    crash_again_and_again::<InMemory>("memory", Load::All, 0..24);
}

#[test]
fn a_crashed_shard_comes_back_with_its_patched_hashes() {
    // The same of hashes that change by patches: crashes come between base, patch and fold, with records moved and extents used again.
    crash_again_and_again::<InFile>("a file", Load::WideHashes, 0..24);
    crash_again_and_again::<InMemory>("memory", Load::WideHashes, 0..24);
}

#[test]
fn a_crashed_shard_comes_back_with_its_large_strings() {
    // The same of strings of up to 300 KiB, whose chunks lie in runs or fill an extent: written whole and in part, overwritten, deleted.
    crash_again_and_again::<InFile>("a file", Load::LargeStrings, 0..12);
    crash_again_and_again::<InMemory>("memory", Load::LargeStrings, 0..12);
}

#[test]
fn several_long_strings_are_set_as_one() {
    // The crash comes after MSET of values of several records, without a commit: both keys are there or none, and either happens.
    // Sometimes another long value follows, by which the last records of the first command get their checksums.
    let mut found = [0; 3];
    for seed in seeds(0..40) {
        let mut bed = Bed::<InMemory>::new(seed, Load::All, Bug::None);
        let value = vec![b'v'; 150_000];
        let two = vec!["MSET".into(), "one".into(), value.clone(), "other".into(), value.clone()];
        let commands = [two, vec!["SET".into(), "third".into(), value]];
        for words in commands.into_iter().take(bed.rng.usize(1..=2)) {
            let command = (DbId(0), words);
            assert_eq!(execute(&mut bed.shard, &bed.lookup, &command), b"+OK\r\n");
            bed.history.push(command);
        }
        if let Err(error) = bed.crash() {
            panic!("EAGLE_SEED={seed}: {error}");
        }
        found[bed.history.len()] += 1;
    }
    if std::env::var_os("EAGLE_SEED").is_none() {
        assert!(found[0] > 0 && found[1] > 0, "{found:?}");
    }
}

/// How many of some seeds find a bug.
fn found<K: Keep>(bug: Bug) -> usize {
    let load = match bug {
        Bug::HeaderPunched => Load::Tides,
        Bug::Unannounced => Load::LargeStrings,
        _ => Load::All,
    };
    // A shard that was lied to may also stop at what can never be.
    let run = |seed| std::panic::catch_unwind(|| Bed::<K>::new(seed, load, bug).run(250));
    (0..8).filter(|seed| !run(*seed).is_ok_and(|ran| ran.is_ok())).count()
}

#[test]
fn planted_bugs_are_found() {
    // Canaries: without these being found, the test above would say nothing.
    for (count, name) in [
        (found::<InFile>(Bug::AcknowledgedEarly), "replies leave before their commit"),
        (found::<InFile>(Bug::SyncLied), "extents are used again before what superseded them is synced"),
        (found::<InFile>(Bug::PageForgotten), "the last page of a commit is not written"),
        (found::<InFile>(Bug::HeaderPunched), "what loses its space has no trace of its use"),
        (found::<InMemory>(Bug::AcknowledgedEarly), "replies leave before what they promise is drained"),
        (found::<InMemory>(Bug::LineForgotten), "the last line of a commit is not written back"),
        (found::<InFile>(Bug::CheckpointEarly), "a checkpoint is used before what it was cut at is synced"),
        (found::<InFile>(Bug::Unannounced), "what a commit leaves for after a sync is not written"),
        (found::<InMemory>(Bug::OrderForgotten), "headers do not wait for what was stored before them"),
    ] {
        eprintln!("{name}: found by {count} of 8 seeds");
        assert!(count > 0, "{name}");
    }
}
