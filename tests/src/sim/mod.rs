//! The simulator: the cores of a node without a machine. One seed decides everything.
//!
//! It carries out what cores ask for, as the runtime does, but slowly, unevenly and, where told to, wrongly: messages
//! between two cores stay in order and are delayed by chance, rings are small, writes and syncs take their time and may fail,
//! clients' bytes come in pieces. A core cannot tell the difference: it sees events and returns actions.
//!
//! What may happen, and what may not: a pair's messages are never lost or reordered (they are memory); commits of
//! different shards end in any order; time only goes forward. At any moment there is for each core what its pool would hold if the
//! process ended or the power failed now ([`Sim::process_image`], [`Sim::crash_image`]).

pub mod client;

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use eagle_node::{
    config::Config,
    core::{
        Core, CoreConfig,
        event::{Actions, ConnId, CoreId, Event, Now, Peer, Storage, Stored},
        gate::CommitMode,
        laps::Stopwatch,
        message::Message,
        outbox::MESSAGE_BYTES_MAX,
    },
    loading::Loading,
    shared::Shared,
};
use eagle_pmem::layout::SUPERBLOCKS_BYTES;
use eagle_resp::Value;
use eagle_shard::{
    call::UnixMs,
    shard::{Shard, ShardConfig},
};

use crate::{medium::Medium, wire::encode};

/// When a simulation starts.
const STARTED_UNIX_MS: u64 = 1_700_000_000_000;

/// What a simulation is made with.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Decides everything.
    pub seed: u64,
    /// Cores of the node.
    pub cores: u16,
    /// Questions between two cores under way.
    pub credit: u32,
    /// Messages that a ring between two cores takes.
    pub ring: usize,
    /// Whether there is a medium and replies wait for it; writes and syncs then end when the simulator says so.
    pub commits: bool,
    /// Turns that a message, a write or a sync is delayed at most.
    pub delay_max: u64,
}

/// Messages on their way between two cores, each with the turn in which it arrives.
type Link = VecDeque<(u64, Box<Message>)>;

/// An operation on a medium under way.
#[derive(Debug)]
struct UnderWay {
    action: Storage,
    due: u64,
}

/// A client's connection as the simulator sees it.
#[derive(Debug, Default)]
pub struct Connection {
    /// Replies received so far.
    pub received: Vec<u8>,
    /// The core closed it.
    pub closed: bool,
    paused: bool,
    pending: VecDeque<u8>,
    /// The client reads only when told to; what it has not read yet.
    unread: Option<usize>,
}

impl Connection {
    /// All that the client sent has arrived, or will not.
    #[must_use]
    pub fn is_read(&self) -> bool {
        self.pending.is_empty() || self.closed
    }
}

/// A node's cores and what is between them.
pub struct Sim {
    /// The plan.
    pub plan: Plan,
    /// The cores.
    pub cores: Vec<Core>,
    /// Turns so far.
    pub turn: u64,
    /// Chance.
    pub rng: fastrand::Rng,
    links: HashMap<(usize, usize), Link>,
    storage: Vec<Vec<UnderWay>>,
    media: Vec<Medium>,
    /// Writes and syncs of these cores never end.
    pub stalled: Vec<bool>,
    /// Syncs of these cores never end.
    pub syncs_stalled: Vec<bool>,
    /// Syncs that have begun, by core.
    pub syncs: Vec<usize>,
    /// Why the node could not go on.
    pub broken: Option<String>,
    connections: HashMap<(usize, ConnId), Connection>,
    next_conn: u32,
    actions: Actions,
}

impl Sim {
    /// A node of fresh cores.
    #[must_use]
    pub fn new(plan: Plan) -> Self {
        Self::with_config(plan, Config::default())
    }

    /// A node of fresh cores with this configuration.
    ///
    /// # Panics
    /// There is no memory for a small shard.
    #[must_use]
    pub fn with_config(plan: Plan, config: Config) -> Self {
        let shard = |index| {
            let config = shard_config(&plan, &config, index);
            let mut medium = Medium::new(vec![0; SUPERBLOCKS_BYTES]);
            let shard = if plan.commits {
                new_pool(&config, &mut medium)
            } else {
                Shard::new(config).expect("a small shard fits")
            };
            (shard, medium)
        };
        let shards = (0..plan.cores).map(shard).collect();
        Self::with_shards(plan, config, shards)
    }

    /// A node that opens what is on these media, such as a crash has left.
    ///
    /// # Panics
    /// There is no memory for a small shard.
    #[must_use]
    pub fn open(plan: Plan, config: Config, images: Vec<Vec<u8>>) -> Self {
        let shard = |(index, image): (u16, Vec<u8>)| {
            let shard = Shard::with_image(&shard_config(&plan, &config, index), &image, None, false);
            (shard.expect("a small shard fits"), Medium::new(image))
        };
        let shards = (0..).zip(images).map(shard).collect();
        Self::with_shards(plan, config, shards)
    }

    fn with_shards(plan: Plan, config: Config, shards: Vec<(Shard, Medium)>) -> Self {
        let loads: Vec<bool> = shards.iter().map(|(shard, _)| shard.loading().is_some()).collect();
        let mut shared = Shared::new(config, plan.seed, STARTED_UNIX_MS, 0);
        shared.loading = Loading::begin(&loads, STARTED_UNIX_MS);
        let shared = Arc::new(shared);
        let commit = if plan.commits { CommitMode::Reported } else { CommitMode::Immediate };
        let (mut cores, mut media) = (Vec::new(), Vec::new());
        for (index, (over, medium)) in (0..).zip(shards) {
            let (id, shard) = (CoreId(index), over.config().clone());
            let (count, credit, seed) = (plan.cores, plan.credit, plan.seed);
            // Every other seed's messages are split all the time.
            let message_bytes_max = if plan.seed.is_multiple_of(2) { 64 } else { MESSAGE_BYTES_MAX };
            let watch = Stopwatch::STOPPED;
            let config = CoreConfig { id, cores: count, shard, commit, credit, message_bytes_max, seed, watch };
            cores.push(Core::with_shard(&config, Arc::clone(&shared), over));
            media.push(medium);
        }
        let count = usize::from(plan.cores);
        Self {
            cores,
            turn: 0,
            rng: fastrand::Rng::with_seed(plan.seed),
            links: HashMap::new(),
            storage: (0..count).map(|_| Vec::new()).collect(),
            media,
            stalled: vec![false; count],
            syncs_stalled: vec![false; count],
            syncs: vec![0; count],
            broken: None,
            connections: HashMap::new(),
            next_conn: 0,
            actions: Actions::default(),
            plan,
        }
    }

    /// The time: a turn is a millisecond.
    #[must_use]
    pub fn now(&self) -> Now {
        Now { unix: UnixMs(STARTED_UNIX_MS + self.turn), unix_sub_us: 0, mono_us: self.turn * 1000 }
    }

    /// A client connects to a core.
    pub fn connect(&mut self, core: usize) -> (usize, ConnId) {
        let conn = ConnId { index: self.next_conn, generation: 0 };
        self.next_conn += 1;
        self.connections.insert((core, conn), Connection::default());
        let peer = Peer::Unix { path: "sim".into() };
        let now = self.now();
        self.cores[core].step(Event::Accepted { conn, peer, fd: 0 }, now, &mut self.actions);
        (core, conn)
    }

    /// A client sends bytes; they arrive in pieces.
    pub fn send(&mut self, at: (usize, ConnId), bytes: &[u8]) {
        self.connections.get_mut(&at).expect("connected").pending.extend(bytes);
    }

    /// A client sends one command; returns its reply, which comes within 20,000 turns.
    ///
    /// # Panics
    /// It does not.
    pub fn ask(&mut self, at: (usize, ConnId), words: &[&str]) -> Value {
        let words: Vec<&[u8]> = words.iter().map(|word| word.as_bytes()).collect();
        let before = self.connection(at).received.len();
        self.send(at, &encode(&words));
        let reply = |sim: &Self| Value::parse(&sim.connection(at).received[before..]).expect("well-formed");
        assert!(self.run_until(20_000, |sim| reply(sim).is_some()), "seed {}: {words:?} is answered", self.plan.seed);
        reply(self).expect("whole").0
    }

    /// A client's bytes arrive, all at once.
    pub fn deliver(&mut self, (core, conn): (usize, ConnId), bytes: &[u8]) {
        let now = self.now();
        let event = Event::Received { conn, bytes: &mut bytes.to_vec() };
        self.cores[core].step(event, now, &mut self.actions);
    }

    /// A client reads no more by itself: what is sent to it stays in flight.
    pub fn stop_reading(&mut self, at: (usize, ConnId)) {
        self.connections.get_mut(&at).expect("connected").unread = Some(0);
    }

    /// A client that has stopped reading reads so many bytes, if there are.
    pub fn read_some(&mut self, at: (usize, ConnId), bytes: usize) {
        let unread = self.connections.get_mut(&at).expect("connected").unread.as_mut().expect("it has stopped");
        let bytes = bytes.min(*unread);
        *unread -= bytes;
        let now = self.now();
        if bytes > 0 {
            self.cores[at.0].step(Event::Sent { conn: at.1, bytes }, now, &mut self.actions);
        }
    }

    /// A client's connection.
    #[must_use]
    pub fn connection(&self, at: (usize, ConnId)) -> &Connection {
        &self.connections[&at]
    }

    /// Tells every core something.
    pub fn tell_all(&mut self, event: impl Fn() -> Event<'static>) {
        for core in 0..self.cores.len() {
            let now = self.now();
            self.cores[core].step(event(), now, &mut self.actions);
            self.carry_out(core);
        }
    }

    /// Ends an operation under way on a core's medium by a failure; false if there is none of this kind.
    pub fn fail(&mut self, core: usize, what: Stored, code: i32) -> bool {
        let Some(at) = self.storage[core].iter().position(|under_way| kind(&under_way.action) == what) else {
            return false;
        };
        self.storage[core].remove(at);
        match what {
            Stored::Write => self.media[core].fail_writes(&mut self.rng),
            Stored::Sync => self.media[core].fail_sync(),
            Stored::Grow | Stored::Punch => {}
        }
        self.tell(core, what, Err(code));
        true
    }

    /// What a core's pool would hold after a loss of power now: any of many possible images.
    #[must_use]
    pub fn crash_image(&self, core: usize, rng: &mut fastrand::Rng) -> Vec<u8> {
        let mut medium = self.media[core].clone();
        medium.lose_power(rng);
        medium.contents()
    }

    /// What a core's pool would hold after the end of the process now: all that is written, and any part of what is being
    /// written.
    #[must_use]
    pub fn process_image(&self, core: usize, rng: &mut fastrand::Rng) -> Vec<u8> {
        let mut medium = self.media[core].clone();
        medium.kill(rng);
        medium.contents()
    }

    /// One turn of one core, chosen by chance.
    pub fn step(&mut self) {
        self.turn += 1;
        let core = self.rng.usize(0..self.cores.len());
        self.deliver_messages(core);
        self.deliver_bytes(core);
        self.end_storage(core);
        let now = self.now();
        if self.cores[core].loads() {
            let records = self.rng.usize(1..200);
            self.cores[core].step(Event::Load { records }, now, &mut self.actions);
        }
        if self.rng.u8(0..20) == 0 {
            self.cores[core].step(Event::Tick, now, &mut self.actions);
        }
        if self.rng.u8(0..4) == 0 {
            self.cores[core].step(Event::Background { units: 64, idle: false }, now, &mut self.actions);
        }
        self.cores[core].end_turn(now, &mut self.actions);
        self.carry_out(core);
    }

    /// Steps until `done` or, as a bound against waiting for ever, `turns` have passed; says whether it was done.
    pub fn run_until(&mut self, turns: u64, mut done: impl FnMut(&Self) -> bool) -> bool {
        for _ in 0..turns {
            if done(self) {
                return true;
            }
            self.step();
        }
        done(self)
    }

    fn delay(&mut self) -> u64 {
        self.turn + self.rng.u64(0..=self.plan.delay_max)
    }

    fn deliver_messages(&mut self, core: usize) {
        let now = self.now();
        for from in 0..self.cores.len() {
            let Some(link) = self.links.get_mut(&(from, core)) else {
                continue;
            };
            while link.front().is_some_and(|(due, _)| *due <= self.turn) {
                let (_, message) = link.pop_front().expect("looked at");
                let event = Event::Message { from: CoreId(from as u16), message };
                self.cores[core].step(event, now, &mut self.actions);
            }
        }
    }

    fn deliver_bytes(&mut self, core: usize) {
        let now = self.now();
        let mut waiting: Vec<ConnId> = self
            .connections
            .iter()
            .filter(|((at, _), connection)| *at == core && !connection.pending.is_empty() && !connection.paused)
            .map(|((_, conn), _)| *conn)
            .collect();
        waiting.sort_unstable();
        for conn in waiting {
            let connection = self.connections.get_mut(&(core, conn)).expect("listed");
            let most = connection.pending.len().min(if self.rng.bool() { 7 } else { 4096 });
            let count = self.rng.usize(0..=most);
            let mut bytes: Vec<u8> = connection.pending.drain(..count).collect();
            if !bytes.is_empty() && !connection.closed {
                self.cores[core].step(Event::Received { conn, bytes: &mut bytes }, now, &mut self.actions);
            }
        }
    }

    fn tell(&mut self, core: usize, what: Stored, result: Result<(), i32>) {
        let now = self.now();
        self.cores[core].step(Event::Stored { what, result }, now, &mut self.actions);
    }

    /// Ends what is due on a core's medium.
    fn end_storage(&mut self, core: usize) {
        let (stalled, syncs_stalled) = (self.stalled[core], self.syncs_stalled[core]);
        let is_due = |under_way: &mut UnderWay| {
            let holds = stalled || syncs_stalled && under_way.action == Storage::Sync;
            under_way.due <= self.turn && !holds
        };
        let ended: Vec<UnderWay> = self.storage[core].extract_if(.., is_due).collect();
        for under_way in ended {
            let what = kind(&under_way.action);
            match under_way.action {
                Storage::Write { ranges, sync } => {
                    // The system has copied each page at some moment since the beginning.
                    for range in ranges.iter().filter(|_| self.rng.bool()) {
                        self.media[core].write(range, self.cores[core].shard().pool_bytes(range.clone()));
                    }
                    self.media[core].complete();
                    if sync {
                        self.begin(core, Storage::Sync);
                    }
                }
                Storage::Sync => self.media[core].end_sync(),
                Storage::Grow(ranges) | Storage::Punch(ranges) => {
                    for range in ranges {
                        self.media[core].zero(&range);
                    }
                }
            }
            self.tell(core, what, Ok(()));
        }
    }

    /// Begins an operation on a core's medium.
    fn begin(&mut self, core: usize, action: Storage) {
        let what = kind(&action);
        let of_its_kind = |under_way: &UnderWay| kind(&under_way.action) == what;
        assert!(!self.storage[core].iter().any(of_its_kind), "one {what:?} is under way a core");
        match &action {
            Storage::Write { ranges, .. } => {
                for range in ranges {
                    self.media[core].write(range, self.cores[core].shard().pool_bytes(range.clone()));
                }
            }
            Storage::Sync => {
                self.syncs[core] += 1;
                self.media[core].begin_sync();
            }
            Storage::Grow(_) | Storage::Punch(_) => {}
        }
        let due = self.delay();
        self.storage[core].push(UnderWay { action, due });
    }

    fn carry_out(&mut self, core: usize) {
        let mut actions = std::mem::take(&mut self.actions);
        for (to, message) in actions.post.drain(..) {
            let due = self.delay();
            let link = self.links.entry((core, to.index())).or_default();
            if link.len() >= self.plan.ring {
                self.cores[core].refused(to, message);
            } else {
                // In order: never due before the one in front of it.
                let due = link.back().map_or(due, |(last, _)| due.max(*last));
                link.push_back((due, message));
            }
        }
        for action in actions.storage.drain(..) {
            self.begin(core, action);
        }
        self.broken = self.broken.take().or(actions.broken.take());
        for conn in actions.send.drain(..) {
            let mut bytes = Vec::new();
            if self.cores[core].take_output(conn, &mut bytes) {
                let count = bytes.len();
                let connection = self.connections.get_mut(&(core, conn)).expect("connected");
                connection.received.extend(bytes);
                if let Some(unread) = &mut connection.unread {
                    *unread += count;
                    continue;
                }
                let now = self.now();
                self.cores[core].step(Event::Sent { conn, bytes: count }, now, &mut self.actions);
            }
        }
        for conn in actions.pause.drain(..) {
            self.connections.get_mut(&(core, conn)).expect("connected").paused = true;
        }
        for conn in actions.resume.drain(..) {
            self.connections.get_mut(&(core, conn)).expect("connected").paused = false;
        }
        for conn in actions.close.drain(..) {
            let connection = self.connections.get_mut(&(core, conn)).expect("connected");
            connection.closed = true;
            let now = self.now();
            self.cores[core].step(Event::Gone { conn }, now, &mut self.actions);
        }
    }
}

/// What an operation's end is called.
fn kind(action: &Storage) -> Stored {
    match action {
        Storage::Write { .. } => Stored::Write,
        Storage::Sync => Stored::Sync,
        Storage::Grow(_) => Stored::Grow,
        Storage::Punch(_) => Stored::Punch,
    }
}

/// A shard over a medium on which there was nothing, ready to serve.
fn new_pool(config: &ShardConfig, medium: &mut Medium) -> Shard {
    let mut shard = Shard::with_image(config, &medium.contents(), None, false).expect("a small shard fits");
    while shard.loading().is_some() {
        shard.load(UnixMs(STARTED_UNIX_MS), 1).expect("there is nothing to be damaged");
        let commit = shard.commit();
        let (position, ranges) = (commit.position, commit.ranges.to_vec());
        for range in ranges {
            medium.write_now(&range, shard.pool_bytes(range.clone()));
        }
        shard.written(position);
        let mark = shard.begin_sync();
        medium.begin_sync();
        medium.end_sync();
        shard.end_sync(mark);
    }
    shard
}

/// What a simulated core's shard is made with.
fn shard_config(plan: &Plan, config: &Config, index: u16) -> ShardConfig {
    ShardConfig {
        index,
        count: plan.cores,
        extent_size: 1 << 16,
        capacity_max: 1 << 30,
        in_place: !plan.commits,
        string_len_max: usize::try_from(config.proto_max_bulk_len).unwrap_or(usize::MAX),
        ..ShardConfig::default()
    }
}
