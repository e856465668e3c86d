//! Events are what a core is told, actions what it asks for: the whole seam between a core and the world.
//!
//! The runtime turns completions of real rings into events and carries actions out; the simulator does both from a
//! seed. Neither decides anything, and a core waits for nothing: [`super::Core::step`] returns at once, always.

use std::{net::SocketAddr, ops::Range};

use eagle_resp::OwnedArgs;
use eagle_shard::call::UnixMs;

use super::message::Message;
use crate::config::set::SetError;

/// A core of this node, `0..cores`; core k owns shard k.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CoreId(pub u16);

impl CoreId {
    /// Its number, to index with.
    #[must_use]
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// A connection of one core: a place in its table and how often that place was given out, so that what arrives late
/// for a closed connection finds nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnId {
    /// Place in the core's table; places are reused.
    pub index: u32,
    /// How often the place was given out before.
    pub generation: u32,
}

/// The time, read once a turn.
#[derive(Clone, Copy, Debug, Default)]
pub struct Now {
    /// Wall clock, for expiry.
    pub unix: UnixMs,
    /// Microseconds that the wall clock is beyond `unix`, below 1000, for `TIME`.
    pub unix_sub_us: u16,
    /// Monotonic clock in microseconds, for idle times and intervals.
    pub mono_us: u64,
}

impl Now {
    /// Microseconds since the Unix epoch.
    #[must_use]
    pub fn unix_us(&self) -> u64 {
        self.unix.0 * 1000 + u64::from(self.unix_sub_us)
    }
}

/// The other end of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Peer {
    /// TCP: the client's address and ours.
    Tcp {
        /// The client's address.
        remote: SocketAddr,
        /// The address that it connected to.
        local: SocketAddr,
    },
    /// A Unix socket at this path.
    Unix {
        /// The socket's path.
        path: String,
    },
}

impl Peer {
    /// Whether it is a client of this host: by a Unix socket or the loopback interface.
    #[must_use]
    pub fn is_local(&self) -> bool {
        match self {
            Self::Tcp { remote, .. } => remote.ip().to_canonical().is_loopback(),
            Self::Unix { .. } => true,
        }
    }
}

/// What a core is told.
#[derive(Debug)]
pub enum Event<'a> {
    /// A connection was accepted; its place is free in the core's table.
    Accepted {
        /// Its name from now on.
        conn: ConnId,
        /// Who it is.
        peer: Peer,
        /// The descriptor, for `CLIENT LIST`.
        fd: i32,
    },
    /// Bytes came in. They may be changed (inline commands are unquoted in place) and are not kept.
    Received {
        /// From whom.
        conn: ConnId,
        /// What.
        bytes: &'a mut [u8],
    },
    /// The client sends no more; replies in flight still leave.
    EndOfStream {
        /// Which.
        conn: ConnId,
    },
    /// The kernel took output that [`super::Core::take_output`] handed out.
    Sent {
        /// Whose.
        conn: ConnId,
        /// How many bytes.
        bytes: usize,
    },
    /// The connection broke or, after `Actions::close`, all its operations have ended: its place is free now.
    Gone {
        /// Which.
        conn: ConnId,
    },
    /// A message from another core.
    Message {
        /// The sender.
        from: CoreId,
        /// Questions and answers.
        message: Box<Message>,
    },
    /// An operation on the pool's medium has ended, well or with an error number of the system.
    Stored {
        /// Which; at most one of a kind is under way.
        what: Stored,
        /// How.
        result: Result<(), i32>,
    },
    /// What [`Actions::checkpoint`] asked for last has ended, well or with an error number of the system.
    Checkpointed {
        /// How.
        result: Result<(), i32>,
    },
    /// The shard is to load so many records more of its pool; sent while [`super::Core::loads`].
    Load {
        /// About how many.
        records: usize,
    },
    /// About ten times a second.
    Tick,
    /// The turn has time left for background work, about so many units (records looked at).
    Background {
        /// How much may be done.
        units: u32,
        /// Whether the core has nothing else to do.
        idle: bool,
    },
    /// What [`Actions::configure`] asked for was done and published, or nothing of it.
    Configured {
        /// As it was asked.
        gather: u32,
        /// What came of it.
        result: Result<(), SetError>,
    },
    /// The process is asked to end: serve what has arrived, take nothing new.
    Drain,
}

/// What is to be done with the medium of a core's pool. At most one of a kind is under way, and it ends with an
/// [`Event::Stored`]. Nobody waits for it but by that event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Storage {
    /// Write the bytes of these ranges of the pool to the same places of the medium. Their memory stays in place until the end.
    Write {
        /// Which, in any order.
        ranges: Vec<Range<u64>>,
        /// Then make all that was written so far durable; its end is reported after the write's, unless that failed.
        sync: bool,
    },
    /// Make all durable whose writes have ended.
    Sync,
    /// Allocate these ranges of the medium, in order, and write zeros to them. Nothing of them is in use.
    Grow(Vec<Range<u64>>),
    /// Give the space of these ranges back. Nothing of them is in use.
    Punch(Vec<Range<u64>>),
}

/// What is to be done with the file of a checkpoint. At most one is under way, and it ends with an [`Event::Checkpointed`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Checkpoint {
    /// Make the file, under the name of one that is not finished.
    Begin,
    /// Write this behind what was written before.
    Write(Vec<u8>),
    /// Make it durable, and then put it in the place of the one before, durably.
    Finish,
    /// Remove what is not finished, if it is there.
    Drop,
}

/// What of [`Storage`] has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stored {
    /// A write.
    Write,
    /// A sync, by itself or behind a write.
    Sync,
    /// A growth.
    Grow,
    /// The giving back of space.
    Punch,
}

/// What a core asks for. Filled by [`super::Core::step`] and [`super::Core::end_turn`], emptied by the runtime.
#[derive(Debug, Default)]
pub struct Actions {
    /// Connections with output to send: [`super::Core::take_output`] gives the bytes. At most one send of a connection
    /// is in flight; after `Sent` the runtime asks again.
    pub send: Vec<ConnId>,
    /// Connections to close now: shut both directions down, drop what is unsent.
    pub close: Vec<ConnId>,
    /// Connections from which no more is to be received for now.
    pub pause: Vec<ConnId>,
    /// Connections from which to receive again.
    pub resume: Vec<ConnId>,
    /// Messages to other cores, at most one a peer and turn. What a full ring refuses is handed back by
    /// [`super::Core::refused`].
    pub post: Vec<(CoreId, Box<Message>)>,
    /// `CONFIG SET` of what only the runtime can change: answered by [`Event::Configured`].
    pub configure: Vec<Configure>,
    /// Accept where the node listens now: it may have changed.
    pub listen: bool,
    /// What to begin with the pool's medium.
    pub storage: Vec<Storage>,
    /// What to do for a checkpoint.
    pub checkpoint: Vec<Checkpoint>,
    /// The node cannot go on, and why: it is to end at once.
    pub broken: Option<String>,
    /// The node is to end (`SHUTDOWN`): tell all cores to drain.
    pub shutdown: bool,
}

/// A `CONFIG SET` on its way to the runtime.
#[derive(Clone, Debug)]
pub struct Configure {
    /// Whose the answer is.
    pub gather: u32,
    /// Names and values, in turn.
    pub pairs: OwnedArgs,
    /// A client of this host asks.
    pub is_local: bool,
}

impl Configure {
    /// Names, each with its value.
    pub fn pairs(&self) -> Vec<(&[u8], &[u8])> {
        let args = self.pairs.as_args();
        (0..args.len()).step_by(2).map(|at| (args.get(at).expect("counted"), args.get(at + 1).expect("even"))).collect()
    }
}
