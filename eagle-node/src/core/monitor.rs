//! MONITOR: every core shows the commands of its connections to the clients that watch, on whichever core they are.
//!
//! ```text
//!  MONITOR ─▶ Shared::watchers: how many watch, by core ─▶ each core looks at its version once a turn
//!  a command was begun ─▶ its line, once a turn and core ─┬─▶ own watchers' replies
//!                                                         └─▶ `Message::lines` ─▶ watchers of that core
//! ```
//!
//! While nobody watches, a command costs a look at a flag. Lines of one core are in the order of its commands; those of several cores
//! mingle as they come. A watcher that does not read is cut off by the bounds of `client-output-buffer-limit pubsub`, whose clients too are
//! sent what they have not asked for (`normal` is unbounded by default). So are all watchers of a core that has not taken `LINES_BYTES_MAX`
//! yet: nobody sees a gap, and no core waits or grows.
//!
//! What is shown is what Redis shows (`src/replication.c: replicationFeedMonitors`): commands that were executed, by what they were called, after
//! they were; none for operators (`ADMIN`), no secret ([`super::slowlog::is_secret`]).

use std::{
    io::Write as _,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use eagle_resp::Args;
use eagle_shard::spec::{Flags, Spec};

use super::{
    Core,
    event::{ConnId, CoreId, Now, Peer},
    session::{Ending, Session},
    session_mut, slowlog,
};
use crate::{command::clients, runtime::published::Published};

/// Bytes of lines that wait for a core, at most.
const LINES_BYTES_MAX: usize = 64 << 20;

/// How many clients watch, by core.
#[derive(Debug)]
pub struct Watchers {
    by_core: Published<Arc<Vec<u32>>>,
    version: AtomicU64,
}

impl Default for Watchers {
    fn default() -> Self {
        Self { by_core: Published::new(Arc::default()), version: AtomicU64::new(0) }
    }
}

impl Watchers {
    fn change(&self, core: CoreId, change: impl Fn(u32) -> u32) {
        let changed: Result<(), std::convert::Infallible> = self.by_core.update(|present| {
            let mut counts = Vec::clone(present);
            counts.resize(counts.len().max(core.index() + 1), 0);
            counts[core.index()] = change(counts[core.index()]);
            Ok(Arc::new(counts))
        });
        match changed {
            Ok(()) => self.version.fetch_add(1, Ordering::AcqRel),
            Err(never) => match never {},
        };
    }

    /// The cores with watchers, and the version of that.
    fn cores(&self) -> (u64, Vec<CoreId>) {
        let version = self.version.load(Ordering::Acquire);
        let counts = self.by_core.load();
        let watched = counts.iter().enumerate().filter(|(_, count)| **count > 0);
        (version, watched.map(|(core, _)| CoreId(core as u16)).collect())
    }
}

/// A core's part of it.
#[derive(Debug, Default)]
pub(super) struct Monitor {
    /// Its connections that watch.
    watching: Vec<ConnId>,
    /// Cores with watchers, as of this version.
    cores: Vec<CoreId>,
    version: u64,
    /// Lines of this turn.
    lines: Vec<u8>,
}

impl Monitor {
    /// Whether anybody watches.
    #[inline]
    pub(super) fn is_watched(&self) -> bool {
        !self.cores.is_empty()
    }
}

/// Lines for the watchers of another core.
#[derive(Debug, Default)]
pub struct Lines {
    pub(super) bytes: Vec<u8>,
    /// There were too many: who watches is to be cut off.
    pub(super) is_cut: bool,
}

impl Lines {
    /// There is nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty() && !self.is_cut
    }

    fn add(&mut self, bytes: &[u8]) {
        self.is_cut |= self.bytes.len() + bytes.len() > LINES_BYTES_MAX;
        if self.is_cut {
            self.bytes = Vec::new();
        } else {
            self.bytes.extend_from_slice(bytes);
        }
    }

    /// Adds those of a later message.
    pub(super) fn append(&mut self, later: &mut Self) {
        self.is_cut |= later.is_cut;
        self.add(&later.bytes);
        *later = Self::default();
    }
}

impl Core {
    /// The session watches from now on, if it does not yet. Others know when [`Self::look_for_watchers`] ran on their core.
    pub fn watch(&mut self, session: &mut Session) -> bool {
        let begins = !session.watches;
        if begins {
            session.watches = true;
            self.monitor.watching.push(session.conn);
            self.shared.watchers.change(self.id, |count| count + 1);
        }
        begins
    }

    /// The session does not watch any more.
    pub fn unwatch(&mut self, session: &mut Session) {
        if std::mem::take(&mut session.watches) {
            self.forget_watcher(session.conn);
        }
    }

    pub(super) fn forget_watcher(&mut self, conn: ConnId) {
        self.monitor.watching.retain(|watching| *watching != conn);
        self.shared.watchers.change(self.id, |count| count - 1);
        self.look_for_watchers();
    }

    /// Looks who watches.
    #[inline]
    pub fn look_for_watchers(&mut self) {
        if self.shared.watchers.version.load(Ordering::Acquire) != self.monitor.version {
            (self.monitor.version, self.monitor.cores) = self.shared.watchers.cores();
        }
    }

    /// A command was executed, or is on its way to where it is.
    #[cold]
    pub(super) fn show(&mut self, session: &Session, spec: &Spec, args: Args<'_>, now: Now) {
        if !spec.flags.intersects(Flags::ADMIN | Flags::SKIP_MONITOR) && self.monitor.lines.len() <= LINES_BYTES_MAX {
            write_line(&mut self.monitor.lines, session, spec, args, now);
        }
    }

    /// Hands out what was shown in this turn.
    pub(super) fn hand_out_lines(&mut self) {
        self.look_for_watchers();
        if self.monitor.lines.is_empty() {
            return;
        }
        let mut lines = Lines::default();
        lines.add(&std::mem::take(&mut self.monitor.lines));
        for core in self.monitor.cores.clone() {
            if core == self.id {
                self.take_lines(&lines);
            } else {
                let waiting = self.links[core.index()].outbox.lines();
                waiting.is_cut |= lines.is_cut;
                waiting.add(&lines.bytes);
            }
        }
    }

    /// Lines of a core for those who watch here.
    pub(super) fn take_lines(&mut self, lines: &Lines) {
        for conn in self.monitor.watching.clone() {
            let Some(session) = session_mut(&mut self.sessions, conn) else {
                continue;
            };
            if lines.is_cut {
                self.stats.closed_by_output += 1;
                session.ending = Ending::Now;
            } else if session.ending == Ending::Open {
                session.replies.push(&lines.bytes);
            }
            self.list(conn);
        }
    }
}

fn write_line(out: &mut Vec<u8>, session: &Session, spec: &Spec, args: Args<'_>, now: Now) {
    let us = now.unix_us();
    let _ = write!(out, "+{}.{:06} [{} ", us / 1_000_000, us % 1_000_000, session.db.0);
    match &session.peer {
        Peer::Tcp { .. } => out.extend_from_slice(clients::remote(&session.peer).as_bytes()),
        Peer::Unix { path } => {
            let _ = write!(out, "unix:{path}");
        }
    }
    out.push(b']');
    for (index, word) in args.iter().enumerate() {
        out.push(b' ');
        quote(out, if slowlog::is_secret(spec, args, index) { slowlog::REDACTED } else { word });
    }
    out.extend_from_slice(b"\r\n");
}

/// A word as Redis quotes it (`sdscatrepr`).
fn quote(out: &mut Vec<u8>, word: &[u8]) {
    out.push(b'"');
    for byte in word {
        match byte {
            b'\\' | b'"' => out.extend_from_slice(&[b'\\', *byte]),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            0x07 => out.extend_from_slice(b"\\a"),
            0x08 => out.extend_from_slice(b"\\b"),
            b' '..=b'~' => out.push(*byte),
            _ => {
                const DIGITS: &[u8; 16] = b"0123456789abcdef";
                out.extend_from_slice(&[b'\\', b'x', DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
            }
        }
    }
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted_as_redis_quotes_them() {
        // Every byte has a form, and no line break is in any.
        let mut out = Vec::new();
        quote(&mut out, b"a \"\\\n\r\t\x07\x08\0\x7f\xff~");
        assert_eq!(out, br#""a \"\\\n\r\t\a\b\x00\x7f\xff~""#);
        let all: Vec<u8> = (0..=255).collect();
        out.clear();
        quote(&mut out, &all);
        assert!(out.iter().all(|byte| (b' '..=b'~').contains(byte)));
    }

    #[test]
    fn lines_that_nobody_takes_do_not_grow() {
        // Beyond the bound nothing is kept, and whoever watches is to be cut off.
        let mut lines = Lines::default();
        lines.add(&vec![b'x'; LINES_BYTES_MAX]);
        assert!(!lines.is_cut && !lines.is_empty());
        lines.add(b"x");
        lines.add(b"y");
        assert!(lines.is_cut && lines.bytes.is_empty() && !lines.is_empty());
        let mut other = Lines::default();
        other.append(&mut lines);
        assert!(other.is_cut && lines.is_empty());
    }
}
