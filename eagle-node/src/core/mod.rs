//! A core is one pinned thread's whole state: its shard, the sessions of its connections, its half of the conversations
//! with the other cores. A pure state machine: told events, it returns actions (see [`event`]).
//!
//! ```text
//!  Received ─▶ decode a batch ─▶ prefetch ─▶ dispatch each ─┬─ here ──▶ Shard::execute ─▶ Replies
//!  (session)                     (batch)      (dispatch)    ├─ there ─▶ ask in that core's outbox (remote)
//!                                                           └─ several ▶ gather: asks, then a merge (gather, steps)
//!  Message ─▶ asks: prefetch, execute, answer when committed; answers: fill the place kept (remote)
//!  end of turn ─▶ commit; answers and replies whose promise holds leave; one message a peer
//! ```
//!
//! What always holds:
//! - a core never waits: what cannot go on is kept in a table and goes on by a later event;
//! - commands of one connection on one shard take effect in order; replies leave in the order of requests;
//! - no reply leaves before what it promises holds ([`gate`], [`storage`]);
//! - at most `credit` questions of ordinary commands are under way between two cores, so buffers are bounded;
//! - a connection executes at most [`SHARE_COMMANDS`] commands ([`SHARE_COMMANDS_CROWDED`] beside who asks for little) and [`SHARE_BYTES`] a turn.

mod checkpoint;
pub mod dispatch;
pub mod event;
mod eviction;
mod figures;
pub mod gate;
pub mod gather;
pub mod holds;
pub mod laps;
pub mod latency;
mod memory;
pub mod message;
pub mod monitor;
mod opening;
pub mod outbox;
pub mod pause;
pub mod remote;
pub mod replies;
pub mod session;
pub mod slowlog;
pub mod spikes;
pub mod stats;
pub mod steps;
pub mod storage;
pub mod sweep;

use std::{collections::VecDeque, ops::Range, sync::Arc};

use eagle_pmem::PoolError;
use eagle_resp::{Args, OwnedArgs, Protocol, Reply, Requests};
use eagle_shard::{
    Budget,
    call::Key,
    shard::{Shard, ShardConfig},
    spec::Spec,
};
use slab::Slab;

use self::{
    checkpoint::Checkpointing,
    dispatch::Planned,
    event::{Actions, Configure, ConnId, CoreId, Event, Now, Peer},
    gate::{CommitMode, Gate, Promise, Reached},
    gather::{Finished, Gather},
    holds::Holds,
    laps::{Laps, Stopwatch},
    memory::Memory,
    monitor::Monitor,
    opening::Opening,
    pause::Pause,
    remote::{HeldAnswer, HeldReport, Link},
    session::{Ending, Halt, Session},
    slowlog::SlowLog,
    spikes::Spikes,
    stats::CoreStats,
    storage::Storage,
    sweep::Buffers,
};
use crate::{
    acl,
    command::{self, names::Names},
    config::{Config, SyncMode},
    shared::Shared,
};

/// Commands of one connection executed in one turn, at most: keeps a turn within some 100 us for what comes meanwhile.
pub const SHARE_COMMANDS: usize = 256;
/// The same while as many others at least ask for little as send ahead: replies leave at the end of a turn, and shorter turns halve the p99 of
/// a PING beside a pipeline of 100 MB. Where nobody waits for so little, they would only cost throughput (a fifth at pipelines of 256).
pub const SHARE_COMMANDS_CROWDED: usize = 64;
/// Who has executed so many commands in a turn at most asks for little.
pub(crate) const BRIEF_COMMANDS: usize = 4;
/// For so many turns a core remembers that it was so: some ten milliseconds of them.
pub(crate) const CROWDED_TURNS: u32 = 256;
/// Bytes of one connection's requests executed in one turn, but for a single larger request.
pub const SHARE_BYTES: usize = 64 << 10;
/// Commands decoded, prefetched and executed together: enough to overlap cache misses, few enough to stay in L1.
pub(crate) const BATCH: usize = 32;
/// Output buffers that are kept for the next connection that needs one.
const SPARE_MAX: usize = 64;
/// Bytes of capacity of one of them, at most.
const SPARE_BYTES_MAX: usize = 64 << 10;
/// Pending input at which a connection is read no further, unless it is one unfinished request.
pub(crate) const PENDING_MAX: usize = 1 << 20;

/// What a core is made with.
#[derive(Clone, Debug)]
pub struct CoreConfig {
    /// Which core of the node.
    pub id: CoreId,
    /// How many cores the node has.
    pub cores: u16,
    /// Its shard.
    pub shard: ShardConfig,
    /// Who reports commits.
    pub commit: CommitMode,
    /// Questions under way to one other core at most (ordinary commands; steps of a begun one are beyond it). At least 1.
    pub credit: u32,
    /// Bytes of questions in a message to another core at most: [`outbox::MESSAGE_BYTES_MAX`], or less to see it happen.
    pub message_bytes_max: usize,
    /// Seed of chance (`RANDOMKEY`).
    pub seed: u64,
    /// By what slow commands are found.
    pub watch: Stopwatch,
}

/// One core's state.
pub struct Core {
    id: CoreId,
    cores: u16,
    shared: Arc<Shared>,
    config: Arc<Config>,
    config_version: u64,
    shard: Shard,
    hash_seed: u64,
    sessions: Vec<Option<Box<Session>>>,
    open: usize,
    /// Sessions that something happened to this turn.
    listed: Vec<ConnId>,
    /// Sessions whose replies wait a moment for those behind them, and until when (monotonic microseconds), in this order.
    lingering: VecDeque<(ConnId, u64)>,
    /// Sessions with requests left, in turn.
    backlog: VecDeque<ConnId>,
    /// Sessions whose replies wait for a commit.
    gated: Vec<ConnId>,
    links: Vec<Link>,
    credit: u32,
    gathers: Slab<Gather>,
    /// Gathers of which another slice is done: they go on at the end of the next turn.
    sliced: Vec<u32>,
    /// Gathers and steps done: their replies go to sessions at the end of the turn.
    finished: Vec<Finished>,
    holds: Holds,
    pause: Pause,
    /// When the reply that is being merged leaves, monotonic microseconds; 0: at once.
    reply_at_us: u64,
    /// Whether expired keys leave by themselves when nothing is paused.
    active_expiry: bool,
    gate: Gate,
    storage: Storage,
    checkpointing: Checkpointing,
    /// Whether what was acknowledged outlives the process.
    has_medium: bool,
    /// When commits are synced, as configured.
    sync: SyncMode,
    opening: Opening,
    /// Some core of the node still loads.
    node_loads: bool,
    /// Turns for which others count as asking for little beside connections that send ahead.
    crowded_turns: u32,
    /// By level.
    held_answers: [VecDeque<HeldAnswer>; 2],
    held_reports: Vec<HeldReport>,
    /// What the report waits for that is being made, and when it is due (monotonic microseconds).
    report_by: Option<(Promise, Range<u64>)>,
    /// Up to where held answers and gated replies were released.
    released: Reached,
    stats: CoreStats,
    denials: acl::log::Log,
    /// Where clients do not call commands as the table does.
    names: Option<Names>,
    laps: Laps,
    monitor: Monitor,
    slowlog: SlowLog,
    spikes: Spikes,
    memory: Memory,
    crowd: eviction::Part,
    rng: fastrand::Rng,
    draining: bool,
    background_due: bool,
    sweep_at: usize,
    /// The largest buffers of this round of the sweep and of the last.
    largest: [Buffers; 2],
    /// Reused each batch.
    requests: Requests,
    planned: Vec<Planned>,
    scratch: Vec<u8>,
    /// Output buffers that connections share.
    spare: Vec<Vec<u8>>,
    /// What the runtime is to be asked.
    configure: Vec<Configure>,
    listen: bool,
    shutdown: bool,
}

/// A node command on its way: what its function gets.
#[derive(Debug)]
pub struct NodeCall<'a> {
    /// Its row.
    pub spec: &'static Spec,
    /// Its arguments; index 0 is the name.
    pub args: Args<'a>,
    /// The connection that sent it.
    pub session: &'a mut Session,
    /// The time.
    pub now: Now,
    /// Where the reply goes.
    pub reply: Reply<'a>,
}

/// A node command of all cores whose reports are in: what its merge gets.
#[derive(Debug)]
pub struct MergeCall<'a> {
    /// Its row.
    pub spec: &'static Spec,
    /// Its arguments; index 0 is the name.
    pub args: Args<'a>,
    /// The connection that sent it.
    pub conn: ConnId,
    /// That connection's protocol.
    pub protocol: Protocol,
    /// The time.
    pub now: Now,
    /// What `begin` noted for it.
    pub note: i64,
}

impl Core {
    /// A core with an empty shard, without a pool.
    ///
    /// # Errors
    /// The shard's memory cannot be had.
    pub fn new(config: &CoreConfig, shared: Arc<Shared>) -> Result<Self, PoolError> {
        Ok(Self::with_shard(config, shared, Shard::new(config.shard.clone())?))
    }

    /// A core with this shard, made with the shard's part of the configuration.
    #[must_use]
    pub fn with_shard(config: &CoreConfig, shared: Arc<Shared>, mut shard: Shard) -> Self {
        let position = shard.position();
        if shard.loading().is_none() {
            shared.loading.core_ends(config.id, shared.started_unix_ms);
        }
        let (version, settings) = shared.config();
        shard.set_eviction(settings.eviction());
        let mut stats = CoreStats::default();
        stats.track_latency(settings.latency_tracking);
        let laps = Laps::new(config.watch, &settings);
        let mut core = Self {
            id: config.id,
            cores: config.cores,
            sync: settings.sync(),
            config_version: version,
            hash_seed: shard.config().seed,
            has_medium: config.commit == CommitMode::Reported || shard.pool_file().is_some(),
            opening: if shard.loading().is_some() { Opening::Loading } else { Opening::Open },
            node_loads: shared.loading.is_on(),
            crowded_turns: 0,
            shard,
            sessions: Vec::new(),
            open: 0,
            listed: Vec::new(),
            lingering: VecDeque::new(),
            backlog: VecDeque::new(),
            gated: Vec::new(),
            links: (0..config.cores).map(|_| Link::new(config.message_bytes_max)).collect(),
            credit: config.credit.max(1),
            gathers: Slab::new(),
            sliced: Vec::new(),
            finished: Vec::new(),
            holds: Holds::default(),
            pause: Pause::default(),
            reply_at_us: 0,
            active_expiry: true,
            gate: Gate::new(config.commit, position),
            storage: Storage::default(),
            checkpointing: Checkpointing::default(),
            held_answers: Default::default(),
            held_reports: Vec::new(),
            report_by: None,
            released: Reached::all(position),
            stats,
            denials: acl::log::Log::default(),
            names: Names::new(&settings.renamed)
                .unwrap_or_else(|error| unreachable!("checked when it was read: {error:?}")),
            laps,
            monitor: Monitor::default(),
            slowlog: SlowLog::default(),
            spikes: Spikes::default(),
            memory: Memory::default(),
            crowd: eviction::Part::default(),
            rng: fastrand::Rng::with_seed(config.seed),
            draining: false,
            background_due: false,
            sweep_at: 0,
            largest: Default::default(),
            requests: Requests::default(),
            planned: Vec::with_capacity(BATCH),
            scratch: Vec::new(),
            spare: Vec::new(),
            configure: Vec::new(),
            listen: false,
            shutdown: false,
            shared,
            config: settings,
        };
        core.limit_clients();
        core
    }

    /// Tells the core what happened. What follows from it is in `actions`, more of it after [`Self::end_turn`].
    pub fn step(&mut self, event: Event<'_>, now: Now, actions: &mut Actions) {
        if !matches!(event, Event::Received { .. } | Event::Message { .. }) {
            self.laps.rest();
        }
        match event {
            Event::Received { conn, bytes } => self.received(conn, bytes, now, actions),
            Event::Message { from, message } => self.message(from, message, now),
            Event::Sent { conn, bytes } => self.sent(conn, bytes, now),
            Event::Accepted { conn, peer, fd } => self.accepted(conn, peer, fd, now),
            Event::EndOfStream { conn } => self.end_of_stream(conn),
            Event::Gone { conn } => self.gone(conn),
            Event::Stored { what, result } => self.stored(what, result, now),
            Event::Checkpointed { result } => self.checkpointed(result, now),
            Event::Load { records } => self.load(records, now, actions),
            Event::Tick => self.tick(now, actions),
            Event::Background { units, idle } => self.background(units, idle, now),
            Event::Configured { gather, result } => self.configured(gather, result),
            Event::Drain => {
                self.draining = true;
                self.end_pauses(true, now);
            }
        }
    }

    /// Ends a turn: executes what was left over, commits, and lets go what may leave.
    pub fn end_turn(&mut self, now: Now, actions: &mut Actions) {
        self.end_pauses(self.draining, now);
        self.run_backlog(now, actions);
        for gather in std::mem::take(&mut self.sliced) {
            self.advance(gather, now);
        }
        self.settle(now);
        self.commit(now, actions);
        self.laps.rest();
        self.release_answers(now);
        self.hand_out_lines();
        self.look_after_sessions(now, actions);
        self.end_of_turn_memory(now);
        self.evict_clients(actions);
        self.flush_links(now, actions);
        self.node_loads = self.node_loads && self.shared.loading.is_on();
        actions.configure.append(&mut self.configure);
        actions.listen |= std::mem::take(&mut self.listen);
        if std::mem::take(&mut self.shutdown) {
            actions.shutdown = true;
        }
    }

    /// Hands out what may leave on a connection, into an empty buffer; false if there is nothing, or if what was handed
    /// out before is not all sent.
    pub fn take_output(&mut self, conn: ConnId, into: &mut Vec<u8>) -> bool {
        let reached = self.gate.reached();
        let spare = &mut self.spare;
        let Some(session) = session_mut(&mut self.sessions, conn) else {
            return false;
        };
        let taken = session.replies.take(reached, into);
        if taken {
            session.bytes_out += into.len() as u64;
            self.stats.bytes_out += into.len() as u64;
            self.stats.writes += 1;
        } else if let Some(buffer) = session.replies.reclaim() {
            keep(spare, buffer);
        }
        taken
    }

    /// Takes back an output buffer that was sent, for the next reply.
    pub fn give_buffer(&mut self, buffer: Vec<u8>) {
        keep(&mut self.spare, buffer);
    }

    /// Wants another turn at once.
    #[must_use]
    pub fn has_work(&self) -> bool {
        !self.backlog.is_empty()
            || !self.finished.is_empty()
            || !self.sliced.is_empty()
            || self.links.iter().any(|link| !link.outbox.is_empty())
            || self.background_due
    }

    /// Wants another turn within `sweep::LINGER_US`.
    #[must_use]
    pub fn lingers(&self) -> bool {
        !self.lingering.is_empty()
    }

    /// Background work is due: the runtime may send `Event::Background`.
    #[must_use]
    pub fn background_due(&self) -> bool {
        self.background_due
    }

    /// After `Event::Drain`: all that had arrived is served and its replies have left.
    #[must_use]
    pub fn drained(&self) -> bool {
        self.draining
            && self.backlog.is_empty()
            && self.gathers.is_empty()
            && self.finished.is_empty()
            && self.holds.is_empty()
            && self.pause.later.is_empty()
            && self.held_answers.iter().all(VecDeque::is_empty)
            && self.held_reports.is_empty()
            && self.links.iter().all(|link| link.outbox.is_empty() && link.outstanding == 0)
            && self
                .sessions
                .iter()
                .flatten()
                .all(|session| session.ending == Ending::Closed || session.replies.is_quiet())
    }

    /// Which core it is.
    #[must_use]
    pub fn id(&self) -> CoreId {
        self.id
    }

    /// Its shard.
    #[must_use]
    pub fn shard(&self) -> &Shard {
        &self.shard
    }

    /// Its shard, for node commands.
    pub fn shard_mut(&mut self) -> &mut Shard {
        &mut self.shard
    }

    /// What all cores share.
    #[must_use]
    pub fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// The configuration as this core last saw it.
    #[must_use]
    pub fn config(&self) -> &Arc<Config> {
        &self.config
    }

    /// Its counters.
    #[must_use]
    pub fn stats(&self) -> &CoreStats {
        &self.stats
    }

    /// Its counters, to be reset.
    pub fn stats_mut(&mut self) -> &mut CoreStats {
        &mut self.stats
    }

    /// Its sessions; the one whose command is being executed is not among them, nor those that were killed and are about to be closed.
    pub fn sessions(&self) -> impl Iterator<Item = &Session> {
        let sessions = self.sessions.iter().flatten().map(|session| &**session);
        sessions.filter(|session| !matches!(session.ending, Ending::Now | Ending::Closed))
    }

    /// Microseconds that the core is to look for work without sleeping.
    #[must_use]
    pub fn spin_us(&self) -> u64 {
        u64::from(self.config.spin_us)
    }

    /// Whether there are as many clients as there may be.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.shared.clients() >= self.config.maxclients as usize
    }

    /// Counts a client that was turned away before it was one.
    pub fn turn_away(&mut self) {
        self.stats.connections += 1;
        self.stats.rejected += 1;
    }

    /// The slow commands of its connections.
    #[must_use]
    pub fn slowlog(&self) -> &SlowLog {
        &self.slowlog
    }

    /// The slow commands of its connections, to be forgotten.
    pub fn slowlog_mut(&mut self) -> &mut SlowLog {
        &mut self.slowlog
    }

    /// What took long here.
    #[must_use]
    pub fn spikes(&self) -> &Spikes {
        &self.spikes
    }

    /// What took long here, to be forgotten.
    pub fn spikes_mut(&mut self) -> &mut Spikes {
        &mut self.spikes
    }

    /// How many connections are open.
    #[must_use]
    pub fn open_connections(&self) -> usize {
        self.open
    }

    /// Takes over a newly published configuration.
    pub fn reload_config(&mut self) {
        let before = self.config.acl.clone();
        (self.config_version, self.config) = self.shared.config();
        if !Arc::ptr_eq(&before, &self.config.acl) {
            self.follow_users();
        }
        self.laps.configure(&self.config);
        self.slowlog.trim(self.config.slowlog_max_len);
        let string_len_max = usize::try_from(self.config.proto_max_bulk_len).unwrap_or(usize::MAX);
        self.shard.set_string_len_max(string_len_max);
        self.shard.set_scrub_rate(u64::from(self.config.scrub_mb_per_second) << 20);
        self.shard.set_eviction(self.config.eviction());
        self.sync = self.config.sync();
        self.stats.track_latency(self.config.latency_tracking);
        self.measure_memory();
        self.shard.set_packed_hash(self.config.packed_hash());
        self.limit_clients();
        self.listen = true;
    }

    /// Gives each session what its user is now; who is nobody any more is closed. One that waits for its reply gets that first: it may be
    /// the one that has deleted its own user.
    fn follow_users(&mut self) {
        let acl = self.config.acl.clone();
        let mut gone: Vec<(ConnId, bool)> = Vec::new();
        for session in self.sessions.iter_mut().flatten() {
            if !session.follow(&acl) {
                gone.push((session.conn, session.halt == Halt::Barrier));
            }
        }
        for (conn, after_replies) in gone {
            self.kill(conn, after_replies);
        }
    }

    /// Notes in the log of what is denied.
    pub fn note_denied(
        &mut self,
        session: &Session,
        spec: &Spec,
        denied: acl::log::Reason,
        what: [&[u8]; 2],
        now: Now,
    ) {
        self.stats.denied[denied as usize] += 1;
        let [object, user] = what;
        let (id, at_ms) = (self.shared.next_denial(), now.unix.0);
        let entry = acl::log::Entry {
            count: 1,
            reason: denied,
            object: object.to_vec(),
            user: user.to_vec(),
            client: command::clients::line(session, spec, now).trim_end().into(),
            id,
            created_ms: at_ms,
            updated_ms: at_ms,
        };
        let len_max = usize::try_from(self.config.acllog_max_len).unwrap_or(usize::MAX);
        self.denials.note(entry, len_max);
    }

    /// The log of what was denied here.
    pub fn denials_mut(&mut self) -> &mut acl::log::Log {
        &mut self.denials
    }

    /// Ends the node once all that has arrived is served.
    pub fn shut_down(&mut self) {
        self.shutdown = true;
    }

    /// Closes a connection: after its replies have left, or at once with what is unsent.
    pub fn kill(&mut self, conn: ConnId, after_replies: bool) {
        if let Some(session) = session_mut(&mut self.sessions, conn) {
            match session.ending {
                Ending::Closed => return,
                _ if !after_replies => session.ending = Ending::Now,
                _ => session.close_after_replies(),
            }
            self.list(conn);
        }
    }

    /// Whether a key is this core's.
    #[must_use]
    pub fn owns(&self, key: &[u8]) -> bool {
        self.owner(&self.key(key)) == self.id
    }

    fn owner(&self, key: &Key<'_>) -> CoreId {
        CoreId(key.hashed.slot.get() % self.cores)
    }

    fn key<'a>(&self, bytes: &'a [u8]) -> Key<'a> {
        Key { bytes, hashed: eagle_shard::shard::hash_key(self.hash_seed, bytes) }
    }

    /// Puts a session on the list of those to look after at the end of the turn.
    fn list(&mut self, conn: ConnId) {
        if let Some(session) = session_mut(&mut self.sessions, conn)
            && !session.listed
        {
            session.listed = true;
            self.listed.push(conn);
        }
    }

    fn sent(&mut self, conn: ConnId, bytes: usize, now: Now) {
        if let Some(session) = session_mut(&mut self.sessions, conn) {
            session.replies.sent(bytes);
            session.active_us = now.mono_us;
            self.list(conn);
        }
    }

    fn accepted(&mut self, conn: ConnId, peer: Peer, fd: i32, now: Now) {
        let index = conn.index as usize;
        if self.sessions.len() <= index {
            self.sessions.resize_with(index + 1, || None);
        }
        assert!(self.sessions[index].is_none(), "a connection gets a free place");
        let id = self.shared.next_client_id();
        let mut session = Box::new(Session::new(conn, id, peer, fd, &self.config.acl, now));
        session.core = self.id;
        if tracing::enabled!(tracing::Level::DEBUG) {
            let _connection = dispatch::log_connection(&session);
            tracing::debug!(core = self.id.0, "Accepted");
        }
        self.open += 1;
        self.stats.connections += 1;
        let refusal = if self.shared.client_came() > self.config.maxclients as usize {
            self.stats.rejected += 1;
            Some("ERR max number of clients reached")
        } else {
            dispatch::protection(&self.config, &session.peer)
        };
        if let Some(line) = refusal {
            session.replies.now(|out| {
                Reply::new(out, Protocol::Resp2).error_line(line);
                None
            });
            session.close_after_replies();
        }
        self.sessions[index] = Some(session);
        self.list(conn);
    }

    fn end_of_stream(&mut self, conn: ConnId) {
        if let Some(session) = session_mut(&mut self.sessions, conn) {
            // What was received whole still is executed; its replies still leave.
            session.ended = true;
            self.list(conn);
        }
    }

    fn gone(&mut self, conn: ConnId) {
        if let Some(session) = session_mut(&mut self.sessions, conn) {
            self.memory.forget(session);
            self.pause.later.retain(|(_, finished)| finished.conn != conn);
            self.crowd.forget(session, &self.shared.crowd);
            if tracing::enabled!(tracing::Level::DEBUG) {
                let _connection = dispatch::log_connection(session);
                tracing::debug!(commands = session.commands, "Client closed connection");
            }
            let watches = session.watches;
            self.sessions[conn.index as usize] = None;
            if watches {
                self.forget_watcher(conn);
            }
            self.open -= 1;
            self.shared.client_left();
        }
    }

    fn background(&mut self, units: u32, idle: bool, now: Now) {
        // While it loads, at the end, and after a failure nothing more is begun.
        if self.opening != Opening::Open || self.draining || self.gate.failed() {
            self.background_due = false;
            return;
        }
        let before = (self.shard.stats.expired, self.shard.stats.evicted);
        self.begin_interval();
        let progress = self.shard.background(now.unix, Budget { records: units as usize, is_idle: idle });
        let event = match (self.shard.stats.expired > before.0, self.shard.stats.evicted > before.1) {
            (true, _) => spikes::Event::ExpireCycle,
            (_, true) => spikes::Event::EvictionCycle,
            _ => spikes::Event::Background,
        };
        self.end_interval(event, now);
        self.background_due = progress.more;
        for (byte, what) in self.shard.take_scrub_damage() {
            tracing::error!("Core {} has found damage at byte {byte:#x} of its pool: {what}", self.id.0);
        }
    }

    /// Copies the arguments of a command that goes on later.
    fn own(args: Args<'_>) -> OwnedArgs {
        let mut owned = OwnedArgs::default();
        for argument in args.iter() {
            owned.push(argument);
        }
        owned
    }
}

/// Keeps an output buffer for other connections, if there are few and it is of ordinary size.
fn keep(spare: &mut Vec<Vec<u8>>, mut buffer: Vec<u8>) {
    if spare.len() < SPARE_MAX && (1..=SPARE_BYTES_MAX).contains(&buffer.capacity()) {
        buffer.clear();
        spare.push(buffer);
    }
}

/// The session of a connection, if that connection still is.
fn session_mut(sessions: &mut [Option<Box<Session>>], conn: ConnId) -> Option<&mut Session> {
    sessions.get_mut(conn.index as usize)?.as_deref_mut().filter(|session| session.conn == conn)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_buffers_of_ordinary_size_are_kept() {
        // Whatever comes back: at most 64 buffers of at most 64 KiB, and none without memory.
        let mut spare = Vec::new();
        keep(&mut spare, Vec::new());
        keep(&mut spare, Vec::with_capacity(1 << 20));
        assert!(spare.is_empty());
        for len in 0..200 {
            keep(&mut spare, vec![0; len + 1]);
        }
        assert!(spare.len() == SPARE_MAX && spare.iter().all(Vec::is_empty));
    }
}
