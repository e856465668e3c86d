//! The simulator: the cores of a node without a machine. One seed decides everything.
//!
//! It carries out what cores ask for, as the runtime does, but slowly, unevenly and, where told to, wrongly: messages
//! between two cores stay in order and are delayed by chance, rings are small, commits take their time and may fail,
//! clients' bytes come in pieces. A core cannot tell the difference: it sees events and returns actions.
//!
//! What may happen, and what may not: a pair's messages are never lost or reordered (they are memory); commits of
//! different shards end in any order; time only goes forward.

pub mod client;

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use eagle_node::{
    config::Config,
    core::{
        Core, CoreConfig,
        event::{Actions, ConnId, CoreId, Event, Now, Peer},
        gate::CommitMode,
        message::Message,
        outbox::MESSAGE_BYTES_MAX,
    },
    shared::Shared,
};
use eagle_pmem::Position;
use eagle_shard::{call::UnixMs, shard::ShardConfig};

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
    /// Whether replies wait for commits; commits then end when the simulator says so.
    pub commits: bool,
    /// Turns that a message or a commit is delayed at most.
    pub delay_max: u64,
}

/// Messages on their way between two cores, each with the turn in which it arrives.
type Link = VecDeque<(u64, Box<Message>)>;

/// A commit under way.
#[derive(Debug)]
struct UnderWay {
    position: Position,
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
    commits: Vec<Option<UnderWay>>,
    /// Commits of these cores never end.
    pub stalled: Vec<bool>,
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
    #[must_use]
    pub fn with_config(plan: Plan, config: Config) -> Self {
        let string_len_max = usize::try_from(config.proto_max_bulk_len).expect("64 bits");
        let shared = Arc::new(Shared::new(config, plan.seed, 1_700_000_000_000, 0));
        let commit = if plan.commits { CommitMode::Reported } else { CommitMode::Immediate };
        let core = |index: u16| {
            let config = CoreConfig {
                id: CoreId(index),
                cores: plan.cores,
                shard: ShardConfig {
                    index,
                    count: plan.cores,
                    extent_size: 1 << 16,
                    capacity_max: 1 << 30,
                    in_place: !plan.commits,
                    string_len_max,
                    ..ShardConfig::default()
                },
                commit,
                credit: plan.credit,
                // Every other seed's messages are split all the time.
                message_bytes_max: if plan.seed.is_multiple_of(2) { 64 } else { MESSAGE_BYTES_MAX },
                seed: plan.seed,
            };
            Core::new(&config, Arc::clone(&shared)).expect("a small shard fits")
        };
        let count = usize::from(plan.cores);
        Self {
            cores: (0..plan.cores).map(core).collect(),
            turn: 0,
            rng: fastrand::Rng::with_seed(plan.seed),
            links: HashMap::new(),
            commits: (0..count).map(|_| None).collect(),
            stalled: vec![false; count],
            connections: HashMap::new(),
            next_conn: 0,
            actions: Actions::default(),
            plan,
        }
    }

    /// The time: a turn is a millisecond.
    #[must_use]
    pub fn now(&self) -> Now {
        Now { unix: UnixMs(1_700_000_000_000 + self.turn), unix_sub_us: 0, mono_us: self.turn * 1000 }
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

    /// Ends the commit under way on a core by a failure.
    pub fn fail_commit(&mut self, core: usize) -> bool {
        if self.commits[core].take().is_none() {
            return false;
        }
        let now = self.now();
        self.cores[core].step(Event::CommitFailed, now, &mut self.actions);
        true
    }

    /// One turn of one core, chosen by chance.
    pub fn step(&mut self) {
        self.turn += 1;
        let core = self.rng.usize(0..self.cores.len());
        self.deliver_messages(core);
        self.deliver_bytes(core);
        self.end_commit(core);
        let now = self.now();
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

    fn end_commit(&mut self, core: usize) {
        let due = self.commits[core].as_ref().is_some_and(|commit| commit.due <= self.turn);
        if due && !self.stalled[core] {
            let commit = self.commits[core].take().expect("looked at");
            let now = self.now();
            self.cores[core].step(Event::Committed { position: commit.position }, now, &mut self.actions);
        }
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
        for configure in actions.configure.drain(..) {
            // There is no process to act on: what is left is to publish.
            let change = |present: &Config| present.with(&configure.pairs(), configure.is_local);
            let result = self.cores[core].shared().change_config(change);
            let now = self.now();
            self.cores[core].step(Event::Configured { gather: configure.gather, result }, now, &mut self.actions);
        }
        if let Some(position) = actions.commit.take() {
            let due = self.delay();
            assert!(self.commits[core].is_none(), "one commit is in flight a shard");
            self.commits[core] = Some(UnderWay { position, due });
        }
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
