//! Dispatch: from received bytes to the place where each command is executed.
//!
//! Requests are decoded in batches; their keys are hashed once, and the buckets, then the words, then the records of
//! those that are ours are prefetched before the first of them is executed. A batch ends early where the connection has
//! to wait: behind a barrier, for credit, at its end. What was decoded behind that point is decoded again later.

use eagle_resp::{Args, Decoder, Limits, Protocol, Reply, Requests};
use eagle_shard::{
    call::{Call, DbId, Key},
    command::refusal,
    dash::Hashed,
    error::Error,
    shard::Manner,
    spec::{Flags, Route, Run, Spec, Steps},
};

use smallvec::SmallVec;
use tracing::span::EnteredSpan;

use super::{
    BATCH, Core, NodeCall, SHARE_BYTES, SHARE_COMMANDS, SHARE_COMMANDS_CROWDED,
    event::{Actions, ConnId, CoreId, Now, Peer},
    gate::{Level, Promise},
    laps::{EndedBy, Lap},
    message::{Kind, Token},
    session::{Ending, Halt, Session},
    session_mut,
    spikes::Event,
};
use crate::{
    acl::{Denied, log::Reason},
    command::{self, Begin, Found, NodeRun, Row, clients},
    config::Config,
    log,
};

/// Bytes of room for a node command's reply that a core keeps for the next one.
const SCRATCH_KEPT_MAX: usize = 64 << 10;

/// What is known of a request before it is executed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Planned {
    pub(super) found: Found,
    key: Option<Hashed>,
    owner: CoreId,
}

/// Whether the next request of the connection may follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flow {
    /// It may.
    Next,
    /// Not now: this request was the last for a while.
    Stop,
    /// Not now, and this request was not begun.
    Wait,
}

/// How far a run over a connection's bytes came.
struct Ran {
    /// Bytes that are done with.
    done: usize,
    /// There may be whole requests left: the share was used up.
    more: bool,
}

/// One command on its way to the shard: what [`Core::execute`] needs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Order<'a> {
    pub spec: &'static Spec,
    pub args: Args<'a>,
    pub db: DbId,
    pub protocol: Protocol,
    pub key: Option<Hashed>,
    /// Keys are not to count as used (`CLIENT NO-TOUCH`).
    pub no_touch: bool,
    /// How durable what its reply promises must be.
    pub level: Level,
    pub now: Now,
}

/// Why a client that comes from elsewhere is refused: protected mode, as Redis has it.
#[must_use]
pub fn protection(config: &Config, peer: &Peer) -> Option<&'static str> {
    let Peer::Tcp { remote, .. } = peer else {
        return None;
    };
    let is_open = config.acl.default_user().needs_no_password();
    let protected = config.protected_mode && is_open && !remote.ip().to_canonical().is_loopback();
    protected.then_some(command::PROTECTED_MODE_DENIED)
}

impl Core {
    pub(super) fn received(&mut self, conn: ConnId, bytes: &mut [u8], now: Now, actions: &mut Actions) {
        let _ = actions;
        let Some(mut session) = self.take_session(conn) else {
            return;
        };
        session.bytes_in += bytes.len() as u64;
        session.active_us = now.mono_us;
        self.stats.bytes_in += bytes.len() as u64;
        self.stats.reads += 1;
        if session.ending == Ending::Open {
            if session.input.is_empty() && session.runs() {
                let ran = self.run(&mut session, bytes, 0, now);
                if session.ending == Ending::Open {
                    session.input.extend(&bytes[ran.done..]);
                }
                self.more(&mut session, ran.more);
            } else {
                session.input.extend(bytes);
                if session.runs() && !session.backlogged {
                    self.run_input(&mut session, now);
                }
            }
        }
        self.put_back(session);
    }

    /// Goes on with the sessions that had requests left.
    pub(super) fn run_backlog(&mut self, now: Now, actions: &mut Actions) {
        let _ = actions;
        for _ in 0..self.backlog.len() {
            let Some(conn) = self.backlog.pop_front() else {
                break;
            };
            let Some(mut session) = self.take_session(conn) else {
                continue;
            };
            session.backlogged = false;
            if session.runs() && !session.input.is_empty() {
                self.run_input(&mut session, now);
            }
            self.put_back(session);
        }
    }

    fn run_input(&mut self, session: &mut Session, now: Now) {
        let start = session.input.start();
        let mut bytes = session.input.lend();
        let ran = self.run(session, &mut bytes, start, now);
        session.input.give_back(bytes, ran.done);
        self.more(session, ran.more);
    }

    fn more(&mut self, session: &mut Session, more: bool) {
        if more && !session.backlogged && session.runs() {
            session.backlogged = true;
            self.backlog.push_back(session.conn);
        }
    }

    /// A halted session goes on.
    pub(super) fn resume(&mut self, conn: ConnId, halt: Halt) {
        let Some(session) = session_mut(&mut self.sessions, conn) else {
            return;
        };
        if session.halt != halt {
            return;
        }
        session.halt = Halt::None;
        if !session.backlogged && !session.input.is_empty() {
            session.backlogged = true;
            self.backlog.push_back(conn);
        }
        self.list(conn);
    }

    fn take_session(&mut self, conn: ConnId) -> Option<Box<Session>> {
        let place = self.sessions.get_mut(conn.index as usize)?;
        if place.as_ref()?.conn == conn { place.take() } else { None }
    }

    fn put_back(&mut self, mut session: Box<Session>) {
        if !session.listed {
            session.listed = true;
            self.listed.push(session.conn);
        }
        let index = session.conn.index as usize;
        self.sessions[index] = Some(session);
    }

    /// Decodes and executes from `from` on, as far as the session's share goes.
    fn run(&mut self, session: &mut Session, bytes: &mut [u8], from: usize, now: Now) -> Ran {
        let mut done = from;
        let spare = &mut self.spare;
        session.replies.lend(|| spare.pop().unwrap_or_default());
        let mut requests = std::mem::take(&mut self.requests);
        let share = if self.crowded_turns > 0 { SHARE_COMMANDS_CROWDED } else { SHARE_COMMANDS };
        let more = loop {
            let left = share.saturating_sub(session.spent);
            if left == 0 || session.spent_bytes >= SHARE_BYTES {
                break done < bytes.len();
            }
            let limits = Limits {
                bulk_len_max: usize::try_from(self.config.proto_max_bulk_len).unwrap_or(usize::MAX),
                authenticated: session.authenticated,
                ..Limits::default()
            };
            let max = if session.authenticated { BATCH.min(left) } else { 1 };
            requests.clear();
            let decoded = session.decoder.decode(bytes, done, &limits, max, &mut requests);
            let (executed, flow) = self.run_batch(session, &requests, bytes, now);
            let whole = executed == requests.len();
            let end = if whole {
                done + decoded.consumed
            } else if executed > 0 {
                requests.end(executed - 1)
            } else {
                done
            };
            session.spent += executed;
            session.spent_bytes += end - done;
            done = end;
            if !whole || flow != Flow::Next || !session.runs() {
                // What was decoded behind is decoded again when the session goes on.
                if !whole || decoded.error.is_some() {
                    requests.restore(done, bytes);
                    session.decoder = Decoder::new();
                }
                break false;
            }
            if let Some(error) = decoded.error {
                session.replies.now(|out| {
                    error.write_line(out);
                    None
                });
                session.close_after_replies();
                break false;
            }
            if requests.len() < max {
                break false;
            }
        };
        self.requests = requests;
        Ran { done, more }
    }

    /// Executes a batch; returns how many requests were begun.
    fn run_batch(&mut self, session: &mut Session, requests: &Requests, bytes: &[u8], now: Now) -> (usize, Flow) {
        let mut planned = std::mem::take(&mut self.planned);
        planned.clear();
        planned.extend((0..requests.len()).map(|index| self.plan(requests.args(index, bytes))));
        if planned.len() > 1 {
            let own = planned.iter().filter(|plan| plan.owner == self.id);
            self.prefetch(own.filter_map(|plan| Some((session.db, plan.key?))));
        }
        let mut result = (requests.len(), Flow::Next);
        let (planned_, mut from) = (&planned, 0);
        let lap = |from: usize, to: usize| Lap { planned: planned_, requests, bytes, stretch: from..to };
        self.laps.begin(planned.len());
        let is_logged = log::is_of_requests();
        for (index, plan) in planned.iter().enumerate() {
            let args = requests.args(index, bytes);
            let (commands, unsent) = (session.commands, session.unsent_bytes());
            let request = is_logged.then(|| log_request(session, plan));
            let flow = self.dispatch(session, *plan, args, now);
            if let Some(_request) = request
                && session.commands > commands
            {
                tracing::trace!(arguments = args.len(), "executed");
            }
            let goes_on = std::mem::take(&mut self.laps.goes_on);
            if self.monitor.is_watched()
                && session.commands > commands
                && let Found::Row(row) = plan.found
            {
                self.show(session, row.spec, args, now);
            }
            if self.lap_ends(plan, args, session.unsent_bytes().saturating_sub(unsent)) {
                let is_over = session.commands > commands && !goes_on;
                let ended_by = if is_over { EndedBy::Last } else { EndedBy::Other };
                self.end_lap(session, &lap(from, index + 1), ended_by, now);
                from = index + 1;
            }
            match flow {
                Flow::Next if session.runs() => {}
                Flow::Next | Flow::Stop => {
                    result = (index + 1, Flow::Stop);
                    break;
                }
                Flow::Wait => {
                    result = (index, Flow::Wait);
                    break;
                }
            }
        }
        if from < result.0 {
            self.end_lap(session, &lap(from, result.0), EndedBy::Batch, now);
        }
        self.planned = planned;
        result
    }

    /// Prefetches what the shard will read for these keys, a batch at most: first the buckets, then the words, then the
    /// records, so that the misses of all keys overlap.
    pub(super) fn prefetch(&self, keys: impl Iterator<Item = (DbId, Hashed)>) {
        let located: SmallVec<[_; BATCH]> = keys.map(|(db, key)| (db, self.shard.prefetch_bucket(db, key))).collect();
        for (db, at) in &located {
            self.shard.prefetch_words(*db, *at);
        }
        for (db, at) in &located {
            self.shard.prefetch_record(*db, *at);
        }
    }

    fn plan(&self, args: Args<'_>) -> Planned {
        let found = match &self.names {
            None => command::find(args),
            Some(names) => names.find(args),
        };
        let key = match found {
            Found::Row(row) => row.spec.first_key().and_then(|index| args.get(index)),
            _ => None,
        };
        match key {
            None => Planned { found, key: None, owner: self.id },
            Some(bytes) => {
                let key = self.key(bytes);
                Planned { found, key: Some(key.hashed), owner: self.owner(&key) }
            }
        }
    }

    /// Executes one request, or sends it where it is executed.
    fn dispatch(&mut self, session: &mut Session, plan: Planned, args: Args<'_>, now: Now) -> Flow {
        let row = match plan.found {
            Found::Row(row) => row,
            Found::Unknown => return self.refuse_bytes(session, None, &refusal::unknown_command(args)),
            Found::UnknownSubcommand(container) => {
                return self.refuse_bytes(session, Some(container), &refusal::unknown_subcommand(container.spec, args));
            }
        };
        if !row.spec.takes(args.len()) {
            return self.refuse(session, row, Error::Arity(row.spec.name));
        }
        if !session.authenticated && !row.spec.flags.contains(Flags::NO_AUTH) {
            return self.refuse(session, row, Error::Line("NOAUTH Authentication required."));
        }
        if session.is_limited
            && let Err(denied) = session.user.check(row, args)
        {
            return self.deny(session, row, args, denied, now);
        }
        if self.node_loads() && !row.spec.flags.contains(Flags::LOADING) {
            return self.refuse(session, row, Error::Line("LOADING Redis is loading the dataset in memory"));
        }
        if self.pause.now().is_some() && self.waits_for_pause(session, row.spec) {
            return Flow::Wait;
        }
        let order = Order {
            spec: row.spec,
            args,
            db: session.db,
            protocol: session.protocol,
            key: plan.key,
            no_touch: session.no_touch,
            level: self.level_of(session),
            now,
        };
        let flow = match (&row.node, row.spec.run) {
            (Some(run), _) => self.node_command(session, run, args, now, row),
            (None, Run::Shard(_)) => self.data_command(session, order, plan.owner),
            (None, Run::Node | Run::Container) => {
                unreachable!("a row without its function: {}", row.spec.name)
            }
        };
        if flow != Flow::Wait {
            session.last = Some(row.spec);
            session.commands += 1;
            self.stats.count(row);
        }
        flow
    }

    /// Refuses what the session's user may not do.
    #[cold]
    fn deny(&mut self, session: &mut Session, row: &Row, args: Args<'_>, denied: Denied, now: Now) -> Flow {
        let name = session.user.name().to_vec();
        let (reason, object) = match denied {
            Denied::Command => (Reason::Command, row.spec.name.as_bytes()),
            Denied::Key(index) => (Reason::Key, &args[index]),
            Denied::Channel(index) => (Reason::Channel, &args[index]),
        };
        self.note_denied(session, row.spec, reason, [object, &name], now);
        self.stats.rejected_call(row);
        match denied {
            Denied::Command => {
                let command = row.spec.name.as_bytes();
                let line = [b"NOPERM User ", &name[..], b" has no permissions to run the '", command, b"' command"];
                self.refuse_bytes(session, Some(row), &line.concat())
            }
            Denied::Key(_) => self.refuse_bytes(session, Some(row), b"NOPERM No permissions to access a key"),
            Denied::Channel(_) => self.refuse_bytes(session, Some(row), b"NOPERM No permissions to access a channel"),
        }
    }

    pub(super) fn refuse(&mut self, session: &mut Session, row: &Row, error: Error) -> Flow {
        self.stats.rejected_call(row);
        let mut line = String::new();
        error.write(&mut line);
        self.refuse_bytes(session, Some(row), line.as_bytes())
    }

    fn refuse_bytes(&mut self, session: &mut Session, row: Option<&Row>, line: &[u8]) -> Flow {
        self.stats.error(row, line);
        let protocol = session.protocol;
        session.replies.now(|out| {
            Reply::new(out, protocol).error_bytes(line);
            None
        });
        Flow::Next
    }

    fn data_command(&mut self, session: &mut Session, order: Order<'_>, owner: CoreId) -> Flow {
        if self.cores == 1 && order.spec.route != Route::Keys(Steps::Copy) {
            return self.one_shard(session, order, owner);
        }
        match order.spec.route {
            Route::Keys(Steps::Copy) if !self.copies_at_once(&order, owner) => {
                self.begin_steps(session, order, Steps::Copy)
            }
            Route::Keys(Steps::Single) | Route::Home => self.one_shard(session, order, owner),
            Route::Keys(steps) => {
                if self.same_owner(order, owner) {
                    self.one_shard(session, order, owner)
                } else {
                    self.begin_steps(session, order, steps)
                }
            }
            Route::Split(merge) => {
                if !order.spec.keys_are_whole(order.args.len()) || self.same_owner(order, owner) {
                    self.one_shard(session, order, owner)
                } else {
                    self.begin_split(session, order, merge)
                }
            }
            Route::Every(_) if order.spec.writes() => self.begin_everywhere(session, order),
            Route::Every(merge) => self.begin_every(session, order, merge),
            Route::Cursor => self.begin_scan(session, order),
            Route::Random => self.begin_random(session, order),
        }
    }

    /// Whether a COPY is done in one go: what it copies is here, and small. (Where a key is held, or the shard is another core's, one
    /// cannot know.)
    fn copies_at_once(&self, order: &Order<'_>, owner: CoreId) -> bool {
        let is_here = owner == self.id && self.holds.is_empty() && self.same_owner(*order, owner);
        is_here && !self.shard.is_copied_in_slices(order.db, self.key_at(order.args, 1))
    }

    fn same_owner(&self, order: Order<'_>, owner: CoreId) -> bool {
        order.spec.key_indices(order.args.len()).skip(1).all(|index| self.owner(&self.key(&order.args[index])) == owner)
    }

    fn one_shard(&mut self, session: &mut Session, order: Order<'_>, owner: CoreId) -> Flow {
        if owner != self.id {
            if !self.may_ask(owner, session.conn) {
                session.halt = Halt::Credit;
                return Flow::Wait;
            }
            let request = session.replies.later();
            let token = Token::Slot { conn: session.conn, request };
            self.laps.goes_on = true;
            self.ask(owner, token, session.conn, Kind::Run, &order);
            return Flow::Next;
        }
        if !self.holds.is_empty() {
            let asker = (self.id, session.conn);
            let mut keys = order.spec.key_indices(order.args.len()).filter_map(|index| order.args.get(index));
            if self.holds.stops_own(asker, order.spec.writes(), &mut keys) {
                let request = session.replies.later();
                let token = Token::Slot { conn: session.conn, request };
                self.laps.goes_on = true;
                self.wait_for_keys(self.id, token, session.conn, Kind::Run, &order);
                return Flow::Next;
            }
        }
        session.replies.now(|out| self.execute(&order, true, out));
        Flow::Next
    }

    /// Executes a command on this core's shard, if there is memory for it: a part of a command that is done whole is not
    /// to be refused any more. Returns what its reply waits for, if it must.
    pub(super) fn execute(&mut self, order: &Order<'_>, refusable: bool, out: &mut Vec<u8>) -> Option<Promise> {
        let writes = order.spec.writes();
        if self.gate.failed() && (writes || self.promise_of_reading(order).is_some()) {
            Reply::new(out, order.protocol).error_line(
                "MISCONF Errors writing to the pool: nothing is written and what was not committed is not read until \
                 the server is restarted. See its log.",
            );
            return None;
        }
        if order.spec.flags.contains(Flags::DENYOOM)
            && let Err(error) = self.admit_timed(order)
            && refusable
        {
            self.reject(order, error, out);
            return None;
        }
        let mut call = Call {
            spec: order.spec,
            args: order.args,
            db: order.db,
            now: order.now.unix,
            first: order.key,
            reply: Reply::new(out, order.protocol),
        };
        let begin = call.reply.out.len();
        self.shard.manner = Manner {
            touches: !order.no_touch || order.spec.name == "touch",
            removes: writes || self.pause.now().is_none(),
        };
        self.shard.execute(&mut call);
        if out.get(begin) == Some(&b'-') {
            self.count_failure(order.spec, &out[begin + 1..]);
        }
        if !self.gate.waits() {
            return None;
        }
        let promise = if writes {
            self.note_written(order);
            Some(Promise { position: self.shard.position(), level: order.level })
        } else {
            self.promise_of_reading(order)
        };
        if let Some(promise) = promise {
            self.storage.promised(promise, self.gate.reached());
        }
        promise
    }

    /// Lets a command begin that may grow; takes note if keys were evicted for it and that took long.
    fn admit_timed(&mut self, order: &Order<'_>) -> Result<(), Error> {
        let bytes = order.args.bytes_len();
        if self.config.maxmemory == 0 || self.config.latency_threshold_ms == 0 {
            return self.admit(bytes);
        }
        let (evicted, begun_ns) = (self.shard.stats.evicted, self.laps.now_ns());
        let admitted = self.admit(bytes);
        if self.shard.stats.evicted > evicted {
            self.note_spike(Event::EvictionCycle, (self.laps.now_ns() - begun_ns) / 1000, order.now);
        }
        admitted
    }

    /// Replies with an error to a command that is not begun.
    #[cold]
    fn reject(&mut self, order: &Order<'_>, error: Error, out: &mut Vec<u8>) {
        let mut line = String::new();
        error.write(&mut line);
        if let Some(row) = command::find_named(order.spec.name.as_bytes()) {
            self.stats.rejected_call(row);
            self.stats.error(Some(row), &line);
        }
        Reply::new(out, order.protocol).error_line(&line);
    }

    #[cold]
    fn count_failure(&mut self, spec: &Spec, line: &[u8]) {
        // What cores ask of each other within a command is no command of the table.
        if let Some(row) = command::find_named(spec.name.as_bytes()) {
            self.stats.failed_call(row);
            self.stats.error(Some(row), line);
        }
    }

    fn note_written(&mut self, order: &Order<'_>) {
        if order.spec.keys.is_empty() {
            self.gate.wrote_all();
        }
        for index in order.spec.key_indices(order.args.len()) {
            let key = self.key(&order.args[index]);
            self.gate.wrote(key.hashed.hash.raw());
        }
    }

    /// What a reply promises that shows these keys: that what it shows is as durable as its connection asks for.
    fn promise_of_reading(&self, order: &Order<'_>) -> Option<Promise> {
        let level = order.level;
        if !self.gate.dirty(level) {
            return None;
        }
        let now = self.shard.position();
        let position = if order.spec.keys.is_empty() {
            self.gate.shows_any(level, now)
        } else {
            let hashes =
                order.spec.key_indices(order.args.len()).map(|index| self.key(&order.args[index]).hashed.hash.raw());
            hashes.filter_map(|hash| self.gate.shows(hash, level, now)).max()
        };
        position.map(|position| Promise { position, level })
    }

    fn node_command(
        &mut self,
        session: &mut Session,
        run: &'static NodeRun,
        args: Args<'_>,
        now: Now,
        row: &'static Row,
    ) -> Flow {
        // What operators do is logged with who did it; all else is logged at levels that ask for it.
        let _connection = row.spec.flags.contains(Flags::ADMIN).then(|| log_connection(session));
        let mut out = std::mem::take(&mut self.scratch);
        out.clear();
        let protocol = session.protocol;
        let mut call = NodeCall { spec: row.spec, args, session, now, reply: Reply::new(&mut out, protocol) };
        let result = match run {
            NodeRun::Here(function) => function(self, &mut call).map(|()| Begin::Answered),
            NodeRun::Every { begin, .. } => begin(self, &mut call),
        };
        let flow = match result {
            Ok(Begin::Answered) => {
                session.replies.now(|replies| {
                    replies.extend_from_slice(&out);
                    None
                });
                Flow::Next
            }
            Ok(Begin::Gather) => self.begin_reports(session, row, args, 0),
            Ok(Begin::Noted(note)) => self.begin_reports(session, row, args, note),
            Ok(Begin::Configure) => self.begin_configure(session, row, args),
            Err(error) => {
                self.stats.failed_call(row);
                let mut line = String::new();
                error.write(&mut line);
                self.refuse_bytes(session, Some(row), line.as_bytes())
            }
        };
        if out.capacity() <= SCRATCH_KEPT_MAX {
            self.scratch = out;
        }
        flow
    }

    /// A key as the router sees it.
    pub(super) fn key_at<'a>(&self, args: Args<'a>, index: usize) -> Key<'a> {
        self.key(args.get(index).expect("a row's key specification stays within its arguments"))
    }
}

/// Until it is dropped, what is logged is about this connection.
pub(super) fn log_connection(session: &Session) -> EnteredSpan {
    log::connection(session.id, &clients::remote(&session.peer))
}

/// Until it is dropped, what is logged is about this request.
#[cold]
fn log_request(session: &Session, plan: &Planned) -> (EnteredSpan, EnteredSpan) {
    let name = match plan.found {
        Found::Row(row) => row.spec.name,
        Found::Unknown | Found::UnknownSubcommand(_) => "unknown",
    };
    // The later one is left first.
    let connection = log_connection(session);
    (log::request(session.commands + 1, name), connection)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use eagle_shard::shard::ShardConfig;

    use super::*;
    use crate::{
        core::{CoreConfig, event, gate::CommitMode, laps::Stopwatch},
        shared::Shared,
    };

    #[test]
    fn a_large_reply_leaves_no_large_buffer_behind() {
        // Memory of the largest reply of a node command that there ever was is not kept, that of ordinary ones is.
        let shared = Arc::new(Shared::new(Config::default(), 1, 0, 0));
        let shard = ShardConfig { extent_size: 1 << 18, ..ShardConfig::default() };
        let commit = CommitMode::Immediate;
        let (id, watch) = (CoreId(0), Stopwatch::STOPPED);
        let config = CoreConfig { id, cores: 1, shard, commit, credit: 1, message_bytes_max: 100, seed: 1, watch };
        let mut core = Core::new(&config, shared).expect("memory for a shard");
        let (conn, now, mut actions) = (ConnId { index: 0, generation: 0 }, Now::default(), Actions::default());
        core.step(event::Event::Accepted { conn, peer: Peer::Unix { path: String::new() }, fd: 0 }, now, &mut actions);
        for len in [1000, 10 << 20, 1000] {
            let mut bytes = format!("*2\r\n$4\r\nECHO\r\n${len}\r\n{}\r\n", "x".repeat(len)).into_bytes();
            core.step(event::Event::Received { conn, bytes: &mut bytes }, now, &mut actions);
            core.end_turn(now, &mut actions);
            let mut reply = Vec::new();
            assert!(core.take_output(conn, &mut reply) && reply.len() > len);
            core.step(event::Event::Sent { conn, bytes: reply.len() }, now, &mut actions);
            assert!(core.scratch.capacity() <= SCRATCH_KEPT_MAX, "{} bytes after {len}", core.scratch.capacity());
        }
        assert!(core.scratch.capacity() >= 1000);
    }
}
