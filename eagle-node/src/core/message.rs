//! A message is all that one core has to say to another at the end of a turn: questions and answers, with their bytes.
//!
//! ```text
//!  asks    ┌──────┬──────┬──────┐   each: token, row, database, protocol, hash of the first key,
//!          │ ask  │ ask  │ ask  │         first argument and count
//!          └──┬───┴──────┴──────┘
//!  args       └─▶ ranges ──▶ bytes  (one buffer for all)
//!  answers ┌────────┬────────┐      each: token, outcome, length ──▶ answer_bytes
//!          └────────┴────────┘
//! ```
//!
//! Questions between two cores arrive in the order in which they were asked; answers may come in any order (those that
//! wait for a commit come later), and the token says whose they are. A message's buffers are used again by the core
//! that received it.

use eagle_resp::{ArgRange, Args, Protocol};
use eagle_shard::{call::DbId, dash::Hashed, spec::Spec};

use super::{dispatch::Order, event::ConnId, gate::Level, laps::SlowPart, monitor::Lines, stats::CoreReport};

/// Whose an answer is, at the asker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Token {
    /// The reply of a connection's request of this number.
    Slot {
        /// The connection.
        conn: ConnId,
        /// The request, counted from the connection's first (wraps).
        request: u32,
    },
    /// Part of a command in which several shards take part.
    Gather {
        /// Place in the asker's table of gathers.
        gather: u32,
        /// Which part.
        part: u32,
    },
}

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Execute the command, waiting while others hold its keys.
    Run,
    /// As `Run`, for a part of a command that is done whole: its home has found that there is memory for it.
    RunPart,
    /// Execute the command although its keys are held: by this asker.
    RunHolding,
    /// Hold the keys that the arguments name; answered when they are held.
    Hold,
    /// Hold all keys of the shard; answered when they are held.
    HoldAll,
    /// Release the keys that the arguments name; not answered.
    Release,
    /// Release all keys of the shard; not answered.
    ReleaseAll,
    /// The node's own command: this core's part of it.
    Node,
}

impl Kind {
    /// Whether there will be an answer.
    #[must_use]
    pub fn is_answered(self) -> bool {
        !matches!(self, Self::Release | Self::ReleaseAll)
    }
}

/// One question.
#[derive(Clone, Copy, Debug)]
pub struct Ask {
    /// Whose the answer is.
    pub token: Token,
    /// The asking connection, so that its commands stay in order: what waits makes what follows wait.
    pub asker: ConnId,
    /// What is asked.
    pub kind: Kind,
    /// The command's row.
    pub spec: &'static Spec,
    /// The connection's database.
    pub db: DbId,
    /// The connection's protocol.
    pub protocol: Protocol,
    /// Slot and hash of the first key.
    pub first_key: Option<Hashed>,
    /// Keys are not to count as used.
    pub no_touch: bool,
    /// How durable what the answer promises must be.
    pub level: Level,
    /// Its first argument in the message's `args`.
    pub first_arg: u32,
    /// How many arguments.
    pub argc: u32,
}

/// How a question ended.
#[derive(Debug)]
pub enum Outcome {
    /// A reply of this length, next in `answer_bytes`.
    Reply {
        /// Its length in bytes.
        len: usize,
    },
    /// What the reply would promise could not be made durable: it must never be sent.
    Failed,
    /// A core's part of a node command.
    Report(Box<CoreReport>),
}

/// One answer.
#[derive(Debug)]
pub struct Answer {
    /// Whose.
    pub token: Token,
    /// What came of it.
    pub outcome: Outcome,
}

/// Questions and answers from one core to another.
#[derive(Debug, Default)]
pub struct Message {
    /// Questions.
    pub asks: Vec<Ask>,
    /// Ranges of `bytes` that are the questions' arguments.
    pub args: Vec<ArgRange>,
    /// Bytes of the arguments.
    pub bytes: Vec<u8>,
    /// Answers.
    pub answers: Vec<Answer>,
    /// Bytes of the replies, in the order of `answers`.
    pub answer_bytes: Vec<u8>,
    /// When it was first handed out to be posted, monotonic microseconds; 0: it was not.
    pub posted_us: u64,
    /// Parts of the receiver's commands that took long; each comes before its answer.
    pub slow: Vec<SlowPart>,
    /// What the receiver's watchers are to see.
    pub lines: Lines,
}

/// A position in a message's buffers. The outbox sees to it that 32 bits hold it ([`super::outbox`]).
fn position(at: usize) -> u32 {
    u32::try_from(at).expect("an outbox is split before that")
}

impl Message {
    /// Nothing is said.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.asks.is_empty() && self.answers.is_empty() && self.slow.is_empty() && self.lines.is_empty()
    }

    /// The arguments of a question.
    #[must_use]
    pub fn args(&self, ask: &Ask) -> Args<'_> {
        let first = ask.first_arg as usize;
        Args::new(&self.bytes, &self.args[first..first + ask.argc as usize])
    }

    /// Whether questions of so many bytes and arguments may be added, if it is to have at most `bytes_max` bytes (and as many arguments).
    /// To an empty one, always.
    pub(super) fn has_room(&self, bytes: usize, args: usize, bytes_max: usize) -> bool {
        let fits = self.bytes.len() + bytes <= bytes_max && self.args.len() + args <= bytes_max;
        fits || self.asks.is_empty()
    }

    /// Adds a question.
    pub(super) fn ask(&mut self, token: Token, asker: ConnId, kind: Kind, order: &Order<'_>) {
        let first_arg = position(self.args.len());
        for argument in order.args.iter() {
            let start = position(self.bytes.len());
            self.bytes.extend_from_slice(argument);
            self.args.push(ArgRange { start, end: position(self.bytes.len()) });
        }
        self.asks.push(Ask {
            token,
            asker,
            kind,
            spec: order.spec,
            db: order.db,
            protocol: order.protocol,
            first_key: order.key,
            no_touch: order.no_touch,
            level: order.level,
            first_arg,
            argc: order.args.len() as u32,
        });
    }

    /// Adds what a later message says, if there is room ([`Self::has_room`]). What was added is not in `later` any more.
    pub(super) fn append(&mut self, later: &mut Self) {
        let (first, start) = (position(self.args.len()), position(self.bytes.len()));
        position(self.bytes.len() + later.bytes.len());
        self.asks.extend(later.asks.drain(..).map(|ask| Ask { first_arg: ask.first_arg + first, ..ask }));
        let moved = |range: ArgRange| ArgRange { start: range.start + start, end: range.end + start };
        self.args.extend(later.args.drain(..).map(moved));
        self.bytes.append(&mut later.bytes);
        self.answers.append(&mut later.answers);
        self.answer_bytes.append(&mut later.answer_bytes);
        self.slow.append(&mut later.slow);
        self.lines.append(&mut later.lines);
    }

    /// Empties it, keeping buffers of ordinary size for the next use.
    pub fn clear(&mut self) {
        const KEPT_MAX: usize = 1 << 20;
        self.asks.clear();
        self.args.clear();
        self.answers.clear();
        self.posted_us = 0;
        self.slow.clear();
        for buffer in [&mut self.bytes, &mut self.answer_bytes] {
            buffer.clear();
            buffer.shrink_to(KEPT_MAX);
        }
    }
}
