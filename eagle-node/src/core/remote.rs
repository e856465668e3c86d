//! Conversations between cores: questions out, answers in, and the other way round.
//!
//! What a core has to say to another collects in its outbox ([`super::outbox`]) and leaves as one message at the end of the turn. What it
//! has to say to itself (parts of a gather that are its own) takes the same way, but is read in the same turn.
//!
//! **Credit.** An ordinary command's question spends one of the asker's credits towards that core; its answer returns it.
//! Without credit the connection halts before that command, nothing else does. So what is under way between two cores
//! is bounded, and nobody ever waits for room: a ring that is full leaves the message in the outbox for the next turn.
//!
//! **Commit.** An answer promises what a reply does; one that must wait for a commit is held here by its promise, and
//! those that need not overtake it: the asker's reply queue puts them in order. A report that says whether something is durable
//! is held likewise, but not beyond the time that its asker waits.

use std::{collections::VecDeque, ops::Range};

use eagle_resp::Args;

use super::{
    Core,
    dispatch::Order,
    event::{Actions, ConnId, CoreId, Now},
    gate::{Level, Promise},
    holds::Waiting,
    message::{Answer, Ask, Kind, Message, Outcome, Token},
    outbox::Outbox,
    session::Halt,
    session_mut,
    stats::{CoreReport, Part},
};
use crate::command::{self, NodeRun};

/// Bytes of questions in an outbox above which no ordinary command adds to it: bounds a turn's message, while a single
/// larger command still goes.
const OUTBOX_BYTES_MAX: usize = 4 << 20;

/// One core's end of the conversation with another.
#[derive(Debug)]
pub(super) struct Link {
    /// What is to be said at the end of the turn.
    pub outbox: Outbox,
    /// Questions not answered yet.
    pub outstanding: u32,
    /// Connections that wait for credit.
    waiters: VecDeque<ConnId>,
}

impl Link {
    /// Nothing is said yet; a message is to have at most so many bytes of questions.
    pub(super) fn new(message_bytes_max: usize) -> Self {
        Self { outbox: Outbox::new(message_bytes_max), outstanding: 0, waiters: VecDeque::new() }
    }
}

/// An answer whose promise does not hold yet.
#[derive(Debug)]
pub(super) struct HeldAnswer {
    to: CoreId,
    token: Token,
    promise: Promise,
    bytes: Vec<u8>,
}

/// A report of whether a promise holds, due when it does or when the time is over.
#[derive(Debug)]
pub(super) struct HeldReport {
    to: CoreId,
    token: Token,
    promise: Promise,
    /// When it is made at the earliest and at the latest, monotonic microseconds.
    due_us: Range<u64>,
}

impl Core {
    /// May an ordinary command of `conn` ask `to`? If not, the connection is noted to go on when it may.
    pub(super) fn may_ask(&mut self, to: CoreId, conn: ConnId) -> bool {
        let link = &mut self.links[to.index()];
        let may = link.outstanding < self.credit && link.outbox.question_bytes() < OUTBOX_BYTES_MAX;
        if !may {
            link.waiters.push_back(conn);
        }
        may
    }

    /// Puts a question into the outbox.
    pub(super) fn ask(&mut self, to: CoreId, token: Token, asker: ConnId, kind: Kind, order: &Order<'_>) {
        let link = &mut self.links[to.index()];
        if kind.is_answered() {
            link.outstanding += 1;
        }
        link.outbox.ask(token, asker, kind, order);
    }

    /// Lets a question wait until its keys are released.
    pub(super) fn wait_for_keys(&mut self, from: CoreId, token: Token, asker: ConnId, kind: Kind, order: &Order<'_>) {
        if from == self.id && kind.is_answered() {
            // Answered like any other question, by a message to ourselves.
            self.links[from.index()].outstanding += 1;
        }
        let ask = Ask {
            token,
            asker,
            kind,
            spec: order.spec,
            db: order.db,
            protocol: order.protocol,
            first_key: order.key,
            no_touch: order.no_touch,
            level: order.level,
            first_arg: 0,
            argc: order.args.len() as u32,
        };
        self.holds.wait(Waiting { from, ask, args: Self::own(order.args) });
    }

    /// A message came in: answer its questions, take its answers.
    pub(super) fn message(&mut self, from: CoreId, mut message: Box<Message>, now: Now) {
        if message.posted_us > 0 {
            self.stats.waits.count_us(now.mono_us.saturating_sub(message.posted_us));
        }
        for part in message.slow.drain(..) {
            self.slow_part(part, now);
        }
        if !message.lines.is_empty() {
            let lines = std::mem::take(&mut message.lines);
            self.take_lines(&lines);
        }
        for asks in message.asks.chunks(super::BATCH) {
            if asks.len() > 1 {
                self.prefetch(asks.iter().filter_map(|ask| Some((ask.db, ask.first_key?))));
            }
            self.serve_batch(from, asks, &message, now);
        }
        let mut start = 0;
        for answer in message.answers.drain(..) {
            let bytes = match answer.outcome {
                Outcome::Reply { len } => {
                    let bytes = &message.answer_bytes[start..start + len];
                    start += bytes.len();
                    bytes
                }
                _ => &[],
            };
            self.answered(from, answer, bytes, now);
        }
        self.links[from.index()].outbox.recycle(message);
    }

    fn serve_batch(&mut self, from: CoreId, asks: &[Ask], message: &Message, now: Now) {
        let mut lap = 0;
        self.laps.begin(asks.len());
        for (index, ask) in asks.iter().enumerate() {
            let args = message.args(ask);
            let before = self.links[from.index()].outbox.answer_bytes().len();
            self.serve(from, ask, args, now);
            let bytes = self.links[from.index()].outbox.answer_bytes().len().saturating_sub(before);
            if self.lap_ends_with(ask, args, bytes) {
                self.end_lap_of(from, ask, args);
                lap = index + 1;
            }
        }
        let most = |ask: &&Ask| message.args(ask).bytes_len();
        if let Some(us) = self.laps.lap_if(lap < asks.len())
            && let Some(ask) = asks[lap..].iter().max_by_key(most)
        {
            self.note_part(from, ask, message.args(ask), us);
        }
    }

    /// Carries out one question.
    pub(super) fn serve(&mut self, from: CoreId, ask: &Ask, args: Args<'_>, now: Now) {
        let order = Order {
            spec: ask.spec,
            args,
            db: ask.db,
            protocol: ask.protocol,
            key: ask.first_key,
            no_touch: ask.no_touch,
            level: ask.level,
            now,
        };
        match ask.kind {
            Kind::Release => {
                self.holds.release(args.iter());
                self.serve_waiting(now);
            }
            Kind::ReleaseAll => {
                self.holds.release_everything();
                self.serve_waiting(now);
            }
            Kind::Node => {
                let report = match command::row(ask.spec).node {
                    Some(NodeRun::Every { each, .. }) => {
                        each(self, &command::Asked { args, now, from, asker: ask.asker, db: ask.db })
                    }
                    _ => unreachable!("only a command of all cores asks for reports: {}", ask.spec.name),
                };
                match std::mem::take(&mut self.report_by) {
                    Some((promise, due_us)) => {
                        self.held_reports.push(HeldReport { to: from, token: ask.token, promise, due_us });
                    }
                    None => self.answer(from, ask.token, Outcome::Report(Box::new(report))),
                }
            }
            Kind::Hold | Kind::HoldAll | Kind::Run | Kind::RunPart => {
                if !self.holds.is_empty() && self.holds.stops(ask, from, args) {
                    self.holds.wait(Waiting { from, ask: Ask { first_arg: 0, ..*ask }, args: Self::own(args) });
                } else {
                    self.serve_now(from, ask, &order);
                }
            }
            Kind::RunHolding => {
                self.serve_now(from, ask, &order);
                self.holds.changed();
            }
        }
    }

    fn serve_now(&mut self, from: CoreId, ask: &Ask, order: &Order<'_>) {
        if matches!(ask.kind, Kind::Hold | Kind::HoldAll) {
            match ask.kind {
                Kind::Hold => self.holds.hold(order.args.iter()),
                _ => self.holds.hold_everything(),
            }
            self.answer(from, ask.token, Outcome::Reply { len: 0 });
            return;
        }
        let mut bytes = std::mem::take(self.links[from.index()].outbox.answer_bytes());
        let start = bytes.len();
        let gate = self.execute(order, ask.kind == Kind::Run, &mut bytes);
        self.stats.served += 1;
        match gate {
            Some(promise) if !self.gate.reached().holds(promise) => {
                let held = bytes.split_off(start);
                let answers = &mut self.held_answers[promise.level as usize];
                answers.push_back(HeldAnswer { to: from, token: ask.token, promise, bytes: held });
                *self.links[from.index()].outbox.answer_bytes() = bytes;
            }
            _ => {
                let len = bytes.len() - start;
                *self.links[from.index()].outbox.answer_bytes() = bytes;
                self.answer(from, ask.token, Outcome::Reply { len });
            }
        }
    }

    /// Keys were released: carries out what waited for them.
    pub(super) fn serve_waiting(&mut self, now: Now) {
        while let Some(waiting) = self.holds.next_free() {
            let order = Order {
                spec: waiting.ask.spec,
                args: waiting.args.as_args(),
                db: waiting.ask.db,
                protocol: waiting.ask.protocol,
                key: waiting.ask.first_key,
                no_touch: waiting.ask.no_touch,
                level: waiting.ask.level,
                now,
            };
            self.laps.begin(1);
            self.serve_now(waiting.from, &waiting.ask, &order);
            self.end_lap_of(waiting.from, &waiting.ask, order.args);
        }
    }

    fn answer(&mut self, to: CoreId, token: Token, outcome: Outcome) {
        self.links[to.index()].outbox.answer(Answer { token, outcome });
    }

    /// Takes one answer.
    fn answered(&mut self, from: CoreId, answer: Answer, bytes: &[u8], now: Now) {
        let link = &mut self.links[from.index()];
        link.outstanding -= 1;
        if link.outstanding < self.credit {
            while let Some(conn) = self.links[from.index()].waiters.pop_front() {
                self.resume(conn, Halt::Credit);
            }
        }
        match answer.token {
            Token::Gather { gather, part } => {
                self.gathered(gather, part, answer.outcome, bytes, now);
            }
            Token::Slot { conn, request } => {
                let Some(session) = session_mut(&mut self.sessions, conn) else {
                    return;
                };
                match answer.outcome {
                    Outcome::Reply { .. } => {
                        let spare = &mut self.spare;
                        session.replies.lend(|| spare.pop().unwrap_or_default());
                        session.replies.fill(request, bytes, None);
                        self.list(conn);
                    }
                    Outcome::Failed => self.kill(conn, false),
                    Outcome::Report(_) => unreachable!("reports are for gathers"),
                }
            }
        }
    }

    /// Reads what this core said to itself and hands finished gathers' replies to their sessions, until nothing is left.
    pub(super) fn settle(&mut self, now: Now) {
        loop {
            if let Some(own) = self.links[self.id.index()].outbox.take() {
                self.message(self.id, own, now);
            } else if let Some(finished) = self.finished.pop() {
                self.finish(&finished);
            } else {
                return;
            }
        }
    }

    /// Answers whose promise holds now go into their outboxes.
    pub(super) fn release_answers(&mut self, now: Now) {
        let reached = self.gate.reached();
        for level in [Level::Written, Level::Synced] {
            let answers = level as usize;
            while self.held_answers[answers].front().is_some_and(|held| reached.holds(held.promise)) {
                let held = self.held_answers[answers].pop_front().expect("looked at");
                self.links[held.to.index()].outbox.answer_bytes().extend_from_slice(&held.bytes);
                self.answer(held.to, held.token, Outcome::Reply { len: held.bytes.len() });
            }
        }
        self.release_reports(now);
        self.settle(now);
    }

    fn release_reports(&mut self, now: Now) {
        let (reached, draining) = (self.gate.reached(), self.draining);
        let is_due = |held: &mut HeldReport| {
            let holds = held.due_us.start <= now.mono_us && reached.holds(held.promise);
            holds || held.due_us.end <= now.mono_us || draining
        };
        let due: Vec<HeldReport> = self.held_reports.extract_if(.., is_due).collect();
        for held in due {
            let part = Part::Synced(reached.holds(held.promise));
            let report = Box::new(CoreReport { core: self.id, part });
            self.answer(held.to, held.token, Outcome::Report(report));
        }
    }

    /// The report that this core is being asked for says whether all that it has so far is synced. It is made when that is so, or
    /// else at the end of this time (monotonic microseconds), and not before its beginning. A sync is begun at once.
    pub fn report_synced(&mut self, due_us: Range<u64>) {
        let promise = Promise { position: self.shard.position(), level: Level::Synced };
        if self.gate.waits() {
            self.storage.promised(promise, self.gate.reached());
        }
        self.report_by = Some((promise, due_us));
    }

    /// A commit failed: what waits for it must never be sent.
    pub(super) fn commit_failed(&mut self) {
        self.gate.fail();
        let reached = self.gate.reached();
        let gated: Vec<ConnId> = self
            .sessions
            .iter()
            .flatten()
            .filter(|session| session.replies.gated(reached))
            .map(|session| session.conn)
            .collect();
        for conn in gated {
            self.kill(conn, false);
        }
        for held in self.held_answers.iter_mut().flat_map(std::mem::take).collect::<Vec<_>>() {
            self.answer(held.to, held.token, Outcome::Failed);
        }
        for held in std::mem::take(&mut self.held_reports) {
            self.answer(held.to, held.token, Outcome::Failed);
        }
    }

    /// One message a peer, if there is something to say.
    pub(super) fn flush_links(&mut self, now: Now, actions: &mut Actions) {
        for index in 0..self.links.len() {
            let link = &mut self.links[index];
            if index == self.id.index() {
                continue;
            }
            let Some(mut message) = link.outbox.take() else { continue };
            // What a full ring refused waits since it was first refused.
            message.posted_us = if message.posted_us > 0 { message.posted_us } else { now.mono_us };
            actions.post.push((CoreId(index as u16), message));
            if link.outstanding == 0 {
                // The outbox was full of releases: no answer will tell those who found it so that there is room again.
                for conn in std::mem::take(&mut link.waiters) {
                    self.resume(conn, Halt::Credit);
                }
            }
        }
    }

    /// Questions to other cores that are not answered yet.
    #[must_use]
    pub fn questions_under_way(&self) -> u64 {
        let others = self.links.iter().enumerate().filter(|(index, _)| *index != self.id.index());
        others.map(|(_, link)| u64::from(link.outstanding)).sum()
    }

    /// Takes back a message that the ring had no room for; it leaves with the next turn's.
    pub fn refused(&mut self, to: CoreId, message: Box<Message>) {
        self.links[to.index()].outbox.put_back(message);
    }
}
