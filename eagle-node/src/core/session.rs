//! A session is the state of one connection: what it said of itself, the bytes not yet executed, the replies not yet
//! sent.
//!
//! Bytes that were received are decoded where they lie; only what cannot be executed now (a partial request, what is
//! behind a barrier or beyond the turn's share) is copied to `input`. A quiet connection holds no buffers.

use std::sync::Arc;

use eagle_resp::{Decoder, Protocol};
use eagle_shard::{call::DbId, spec::Spec};

use crate::{
    acl::{Acl, User},
    config::SyncMode,
};

use super::{
    event::{ConnId, CoreId, Now, Peer},
    eviction::Share,
    replies::{Mute, Replies},
};

/// Why a session does not execute what it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Halt {
    /// It does.
    None,
    /// A command of several steps is under way: what follows waits for it.
    Barrier,
    /// Too much is under way to another core.
    Credit,
    /// Commands are paused.
    Paused,
}

/// How a session ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// It does not.
    Open,
    /// No more requests; closed when the replies have left.
    AfterReplies,
    /// Closed at the end of the turn, whatever is unsent.
    Now,
    /// The runtime was told to close it.
    Closed,
}

/// The state of one connection.
#[derive(Debug)]
pub struct Session {
    /// Its place on this core.
    pub conn: ConnId,
    /// The core that holds it: `core` of `CLIENT LIST`, a field of ours.
    pub core: CoreId,
    /// Unique on this node, growing: `CLIENT ID`.
    pub id: u64,
    /// The other end.
    pub peer: Peer,
    /// Its descriptor, for `CLIENT LIST`.
    pub fd: i32,
    /// `CLIENT SETNAME`.
    pub name: Vec<u8>,
    /// `CLIENT SETINFO LIB-NAME`.
    pub lib_name: Vec<u8>,
    /// `CLIENT SETINFO LIB-VER`.
    pub lib_ver: Vec<u8>,
    /// Selected database.
    pub db: DbId,
    /// RESP2 until `HELLO 3`.
    pub protocol: Protocol,
    /// Who it is.
    pub user: Arc<User>,
    /// Whether it has said so rightly, or the default user needed no password when it came.
    has_logged_in: bool,
    /// Whether it may run commands: it has logged in, or need not.
    pub authenticated: bool,
    /// Whether there is anything that its user may not do: then each command is checked.
    pub is_limited: bool,
    /// `CLIENT NO-TOUCH`.
    pub no_touch: bool,
    /// `CLIENT NO-EVICT`.
    pub no_evict: bool,
    /// Sees the commands of all (`MONITOR`).
    pub(super) watches: bool,
    /// `CLIENT DURABILITY`: what its replies promise, if not what is configured.
    pub durability: Option<SyncMode>,
    /// When it came, monotonic microseconds.
    pub created_us: u64,
    /// When it last sent something or took something sent to it, monotonic microseconds.
    pub active_us: u64,
    /// Its last command.
    pub last: Option<&'static Spec>,
    /// Commands executed for it.
    pub commands: u64,
    /// Bytes received from it.
    pub bytes_in: u64,
    /// Bytes sent to it.
    pub bytes_out: u64,
    /// Since when its output is above the soft limit, monotonic microseconds.
    pub above_soft_since_us: Option<u64>,
    /// Until when its replies wait for those behind them, monotonic microseconds; 0: they do not.
    pub(super) linger_until_us: u64,
    /// Its memory as it counts towards the limit.
    pub(super) memory_noted: usize,
    /// What it is to the limit of all clients.
    pub(super) share: Share,
    pub(super) halt: Halt,
    pub(super) ending: Ending,
    pub(super) paused: bool,
    /// Commands executed this turn.
    pub(super) spent: usize,
    /// Bytes of requests executed this turn.
    pub(super) spent_bytes: usize,
    /// The client sends no more.
    pub(super) ended: bool,
    /// In the core's list of sessions to look after at the end of the turn.
    pub(super) listed: bool,
    /// In the core's list of sessions with requests left.
    pub(super) backlogged: bool,
    pub(super) decoder: Decoder,
    pub(super) input: Input,
    pub(super) replies: Replies,
}

impl Session {
    /// A new connection's state.
    #[must_use]
    pub fn new(conn: ConnId, id: u64, peer: Peer, fd: i32, acl: &Acl, now: Now) -> Self {
        let mut session = Self {
            conn,
            core: CoreId(0),
            id,
            peer,
            fd,
            name: Vec::new(),
            lib_name: Vec::new(),
            lib_ver: Vec::new(),
            db: DbId(0),
            protocol: Protocol::Resp2,
            user: acl.default_user().clone(),
            has_logged_in: false,
            authenticated: false,
            is_limited: true,
            no_touch: false,
            no_evict: false,
            watches: false,
            durability: None,
            created_us: now.mono_us,
            active_us: now.mono_us,
            last: None,
            commands: 0,
            bytes_in: 0,
            bytes_out: 0,
            above_soft_since_us: None,
            linger_until_us: 0,
            memory_noted: 0,
            share: Share::default(),
            halt: Halt::None,
            ending: Ending::Open,
            paused: false,
            spent: 0,
            spent_bytes: 0,
            ended: false,
            listed: false,
            backlogged: false,
            decoder: Decoder::default(),
            input: Input::default(),
            replies: Replies::default(),
        };
        session.log_out(acl);
        session
    }

    /// Becomes a user.
    pub fn log_in(&mut self, user: &Arc<User>) {
        self.user = user.clone();
        (self.has_logged_in, self.authenticated) = (true, true);
        self.is_limited = !user.is_unrestricted();
    }

    /// Becomes the default user, as a new connection is.
    pub fn log_out(&mut self, acl: &Acl) {
        let user = acl.default_user();
        self.log_in(user);
        (self.has_logged_in, self.authenticated) = (user.is_open(), user.is_open());
    }

    /// Takes over what has become of its user; false if that is gone.
    #[must_use]
    pub fn follow(&mut self, acl: &Acl) -> bool {
        let Some(user) = acl.again(&self.user) else {
            self.log_out(acl);
            self.authenticated = false;
            return false;
        };
        self.is_limited = !user.is_unrestricted();
        self.authenticated = self.has_logged_in || acl.default_user().is_open();
        self.user = user.clone();
        true
    }

    /// Takes no more requests and closes once its replies have left.
    pub fn close_after_replies(&mut self) {
        if self.ending == Ending::Open {
            self.ending = Ending::AfterReplies;
        }
    }

    /// Does without replies, as `CLIENT REPLY` asks.
    pub fn mute(&mut self, mute: Mute) {
        self.replies.mute(mute);
    }

    /// Whether it may run commands now.
    #[must_use]
    pub fn runs(&self) -> bool {
        self.halt == Halt::None && self.ending == Ending::Open
    }

    /// Whether it sees the commands of all (`MONITOR`).
    #[must_use]
    pub fn watches(&self) -> bool {
        self.watches
    }

    /// Bytes received and not executed yet (`qbuf` of `CLIENT LIST`).
    #[must_use]
    pub fn query_bytes(&self) -> usize {
        self.input.pending().len()
    }

    /// Bytes of replies not yet taken by the kernel (`obl` and `oll` of `CLIENT LIST`).
    #[must_use]
    pub fn unsent_bytes(&self) -> usize {
        self.replies.unsent()
    }

    /// Memory of its buffers and state in bytes (`tot-mem`).
    #[must_use]
    pub fn memory(&self) -> usize {
        size_of::<Self>() + self.input.bytes.capacity() + self.replies.memory()
    }
}

/// Bytes received and not executed yet.
#[derive(Debug, Default)]
pub struct Input {
    bytes: Vec<u8>,
    /// What was executed of `bytes`.
    done: usize,
}

impl Input {
    /// What waits.
    #[must_use]
    pub fn pending(&self) -> &[u8] {
        &self.bytes[self.done..]
    }

    /// Nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.done == self.bytes.len()
    }

    /// Adds what came in.
    pub fn extend(&mut self, bytes: &[u8]) {
        if self.done > 0 && self.done >= self.bytes.len() / 2 {
            self.bytes.drain(..self.done);
            self.done = 0;
        }
        self.bytes.extend_from_slice(bytes);
    }

    /// Gives the buffer away to be decoded and executed from [`Self::start`] on; until it comes back, nothing waits.
    #[must_use]
    pub fn lend(&mut self) -> Vec<u8> {
        self.done = 0;
        std::mem::take(&mut self.bytes)
    }

    /// Where in the lent buffer the pending bytes begin.
    #[must_use]
    pub fn start(&self) -> usize {
        self.done
    }

    /// Takes the buffer back, executed up to `done`.
    pub fn give_back(&mut self, bytes: Vec<u8>, done: usize) {
        if done == bytes.len() {
            // Nothing waits: a quiet connection holds no buffer.
            *self = Self::default();
        } else {
            self.bytes = bytes;
            self.done = done;
        }
    }
}
