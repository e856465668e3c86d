//! The reply queue of a connection: replies leave in the order of their requests, and none before what it promises
//! holds.
//!
//! ```text
//!  requests   1   2   3 │ 4      5      6      7            4 is with another core: what follows is parked
//!             ▼   ▼   ▼ │ wait   ready  wait   ready
//!  out  [ r1  r2  r3 ]  │ slots ───────────────────▶        parked [ r5 r7 ]
//!             ▲         │
//!             gate: from here on nothing leaves before what is promised here holds
//! ```
//!
//! As long as nothing is awaited, a reply is encoded straight into `out`. Once the oldest awaited reply arrives it goes
//! to `out` at once, and what was ready behind it follows. A reply whose promise needs a commit puts a gate before
//! itself, unless the last gate covers it; the first gate that is not passed decides what may leave.
//!
//! Invariants: `slots` is empty or its first is waiting; `parked` is empty when `slots` is, and else at most twice what is
//! parked, beyond a small constant.

use std::collections::VecDeque;

use super::gate::{Promise, Reached};

/// Buffers beyond this capacity in bytes are not kept by a quiet connection.
const KEPT_MAX: usize = 16 << 10;

/// What `CLIENT REPLY` asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mute {
    /// All replies.
    #[default]
    Off,
    /// No reply to this request, nor to the next.
    ThisAndNext,
    /// No reply to the next request.
    Next,
    /// No replies.
    On,
}

#[derive(Debug)]
enum Slot {
    /// Another core or a gather will fill it.
    Waiting,
    /// Filled as well, but with nothing.
    Muted,
    /// Its reply lies in `parked` and promises this.
    Ready { start: usize, end: usize, gate: Option<Promise> },
}

#[derive(Debug)]
struct Gate {
    /// First byte of `out` that waits.
    from: usize,
    /// What it waits for.
    promise: Promise,
}

/// The replies of one connection on their way out.
#[derive(Debug, Default)]
pub struct Replies {
    out: Vec<u8>,
    gates: VecDeque<Gate>,
    slots: VecDeque<Slot>,
    parked: Vec<u8>,
    /// Bytes of `parked` that no slot names any more.
    unparked: usize,
    /// Number of the request that `slots[0]` belongs to.
    first: u32,
    /// Bytes handed out and not yet taken by the kernel.
    in_flight: usize,
    mute: Mute,
}

impl Replies {
    /// Encodes a reply that is known now. `write` gets the buffer to append to and says what the reply promises.
    pub fn now(&mut self, write: impl FnOnce(&mut Vec<u8>) -> Option<Promise>) {
        if self.mute != Mute::Off {
            // Executed all the same.
            write(&mut Vec::new());
            self.spend_mute();
        } else if self.slots.is_empty() {
            let from = self.out.len();
            let gate = write(&mut self.out);
            self.gate(from, gate);
        } else {
            let start = self.parked.len();
            let gate = write(&mut self.parked);
            self.slots.push_back(Slot::Ready { start, end: self.parked.len(), gate });
        }
    }

    /// Adds what was not asked for, behind the replies to what was; it promises nothing.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.slots.is_empty() {
            self.out.extend_from_slice(bytes);
        } else {
            let start = self.parked.len();
            self.parked.extend_from_slice(bytes);
            self.slots.push_back(Slot::Ready { start, end: self.parked.len(), gate: None });
        }
    }

    /// Keeps the place of a reply that comes later; returns the request's number for [`Self::fill`].
    pub fn later(&mut self) -> u32 {
        let request = self.first.wrapping_add(self.slots.len() as u32);
        if self.mute == Mute::Off {
            self.slots.push_back(Slot::Waiting);
        } else {
            self.slots.push_back(Slot::Muted);
            self.spend_mute();
        }
        request
    }

    /// Does without replies from this request on. Who wants none at all cannot skip one.
    pub fn mute(&mut self, mute: Mute) {
        if self.mute != Mute::On || mute != Mute::ThisAndNext {
            self.mute = mute;
        }
    }

    fn spend_mute(&mut self) {
        self.mute = match self.mute {
            Mute::On => Mute::On,
            Mute::ThisAndNext => Mute::Next,
            Mute::Next | Mute::Off => Mute::Off,
        };
    }

    /// Fills the place kept for `request`. The reply is as durable as it promises, but for `gate`.
    pub fn fill(&mut self, request: u32, reply: &[u8], gate: Option<Promise>) {
        let index = request.wrapping_sub(self.first) as usize;
        let (reply, gate) = match self.slots[index] {
            Slot::Waiting => (reply, gate),
            Slot::Muted => (&[][..], None),
            Slot::Ready { .. } => unreachable!("a reply fills a place that waits"),
        };
        if index > 0 {
            let start = self.parked.len();
            self.parked.extend_from_slice(reply);
            self.slots[index] = Slot::Ready { start, end: self.parked.len(), gate };
            return;
        }
        self.pass(gate);
        self.out.extend_from_slice(reply);
        self.advance();
        while let Some(&Slot::Ready { start, end, gate }) = self.slots.front() {
            self.pass(gate);
            self.out.extend_from_slice(&self.parked[start..end]);
            self.unparked += end - start;
            self.advance();
        }
        if self.slots.is_empty() {
            self.parked.clear();
            self.parked.shrink_to(KEPT_MAX);
            self.unparked = 0;
        } else if self.unparked > KEPT_MAX && self.unparked > self.parked.len() / 2 {
            self.park_anew();
        }
    }

    /// Moves what is still parked together: a client that sends on and on may have a reply awaited at any time.
    fn park_anew(&mut self) {
        let mut parked = Vec::with_capacity(self.parked.len() - self.unparked);
        for slot in &mut self.slots {
            if let Slot::Ready { start, end, .. } = slot {
                let from = parked.len();
                parked.extend_from_slice(&self.parked[*start..*end]);
                (*start, *end) = (from, parked.len());
            }
        }
        self.parked = parked;
        self.unparked = 0;
    }

    fn advance(&mut self) {
        self.slots.pop_front();
        self.first = self.first.wrapping_add(1);
    }

    fn pass(&mut self, gate: Option<Promise>) {
        self.gate(self.out.len(), gate);
    }

    fn gate(&mut self, from: usize, promise: Option<Promise>) {
        let Some(promise) = promise else { return };
        if self.gates.back().is_none_or(|last| !last.promise.covers(promise)) {
            self.gates.push_back(Gate { from, promise });
        }
    }

    /// Moves what may leave into `into`, which is empty; false if there is nothing or a send is under way. Call
    /// [`Self::sent`] as the kernel takes it.
    pub fn take(&mut self, reached: Reached, into: &mut Vec<u8>) -> bool {
        debug_assert!(into.is_empty());
        if self.in_flight > 0 {
            return false;
        }
        while self.gates.front().is_some_and(|gate| reached.holds(gate.promise)) {
            self.gates.pop_front();
        }
        match self.gates.front().map(|gate| gate.from) {
            None => std::mem::swap(&mut self.out, into),
            Some(until) => {
                into.extend_from_slice(&self.out[..until]);
                self.out.drain(..until);
                for gate in &mut self.gates {
                    gate.from -= until;
                }
            }
        }
        self.in_flight = into.len();
        self.in_flight > 0
    }

    /// The kernel took `bytes` of what was handed out.
    pub fn sent(&mut self, bytes: usize) {
        self.in_flight -= bytes.min(self.in_flight);
    }

    /// Whether something may be sent now.
    #[must_use]
    pub fn sendable(&self, reached: Reached) -> bool {
        let stops = |gate: &&Gate| !reached.holds(gate.promise);
        self.in_flight == 0 && self.gates.iter().find(stops).map_or(self.out.len(), |gate| gate.from) > 0
    }

    /// Whether replies promise what does not hold yet, in `out` or parked.
    #[must_use]
    pub fn gated(&self, reached: Reached) -> bool {
        let parked = |slot: &Slot| matches!(slot, Slot::Ready { gate: Some(gate), .. } if !reached.holds(*gate));
        self.gates.iter().any(|gate| !reached.holds(gate.promise)) || self.slots.iter().any(parked)
    }

    /// Bytes not yet taken by the kernel, what waits and what is parked included.
    #[must_use]
    pub fn unsent(&self) -> usize {
        self.out.len() + self.parked.len() - self.unparked + self.in_flight
    }

    /// Memory of the buffers in bytes.
    #[must_use]
    pub fn memory(&self) -> usize {
        self.out.capacity() + self.parked.capacity() + self.in_flight
    }

    /// Nothing waits, nothing is unsent.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        self.slots.is_empty() && self.unsent() == 0
    }

    /// Whether replies are awaited from elsewhere.
    #[must_use]
    pub fn awaits(&self) -> bool {
        !self.slots.is_empty()
    }

    /// A buffer to encode into when the own one was handed out; keeps the connection from allocating.
    pub fn lend(&mut self, buffer: impl FnOnce() -> Vec<u8>) {
        if self.out.capacity() == 0 {
            self.out = buffer();
        }
    }

    /// Gives the empty buffer back that nothing was encoded into.
    pub fn reclaim(&mut self) -> Option<Vec<u8>> {
        (self.out.is_empty() && self.out.capacity() > 0).then(|| std::mem::take(&mut self.out))
    }
}

#[cfg(test)]
mod tests {
    use eagle_pmem::Position;

    use super::{super::gate::Level, *};

    fn at(committed: u64) -> Reached {
        Reached::all(Position::from_raw(committed))
    }

    fn take(replies: &mut Replies, committed: u64) -> Vec<u8> {
        let mut bytes = Vec::new();
        replies.take(at(committed), &mut bytes);
        replies.sent(bytes.len());
        bytes
    }

    fn put(replies: &mut Replies, reply: &[u8], gate: Option<u64>) {
        replies.now(|out| {
            out.extend_from_slice(reply);
            gate.map(|raw| Promise { position: Position::from_raw(raw), level: Level::Written })
        });
    }

    #[test]
    fn replies_leave_in_the_order_of_requests() {
        // Two awaited replies arrive in reverse; what was executed here meanwhile stays between them.
        let mut replies = Replies::default();
        put(&mut replies, b"1", None);
        let second = replies.later();
        put(&mut replies, b"3", None);
        let fourth = replies.later();
        put(&mut replies, b"5", None);
        assert_eq!(take(&mut replies, 0), b"1");
        replies.fill(fourth, b"4", None);
        assert_eq!(take(&mut replies, 0), b"");
        replies.fill(second, b"2", None);
        assert_eq!(take(&mut replies, 0), b"2345");
        assert!(replies.is_quiet());
    }

    #[test]
    fn what_has_left_takes_no_room_although_replies_are_always_awaited() {
        // A client that never stops sending: whenever an awaited reply comes, the next is awaited already.
        let mut replies = Replies::default();
        let local = [b'x'; 1000];
        let mut awaited = replies.later();
        for round in 0_u32..1000 {
            put(&mut replies, &local, None);
            let next = replies.later();
            put(&mut replies, b"behind", None);
            replies.fill(awaited, b"remote", None);
            awaited = next;
            let bytes = take(&mut replies, 0);
            let before: &[u8] = if round == 0 { b"" } else { b"behind" };
            // What was parked behind the one before leaves first, then this one's.
            assert!(bytes.starts_with(b"remote") && bytes.ends_with(&local), "round {round}");
            assert_eq!(bytes.len(), 6 + before.len() + local.len(), "round {round}");
            assert_eq!(replies.unsent(), 6, "round {round}");
            assert!(replies.memory() < 100_000, "round {round}: {} bytes", replies.memory());
        }
    }

    #[test]
    fn nothing_leaves_before_its_commit() {
        // A gate holds what is behind it, gates pass in order, and a parked reply brings its gate along.
        let mut replies = Replies::default();
        put(&mut replies, b"a", None);
        put(&mut replies, b"b", Some(10));
        put(&mut replies, b"c", None);
        let remote = replies.later();
        put(&mut replies, b"e", Some(20));
        assert_eq!(take(&mut replies, 9), b"a");
        replies.fill(remote, b"d", None);
        assert!(!replies.sendable(at(9)));
        assert_eq!(take(&mut replies, 10), b"bcd");
        assert!(replies.gated(at(19)));
        assert_eq!(take(&mut replies, 20), b"e");
    }

    #[test]
    fn a_gate_waits_at_its_level() {
        // Synced is more than written. Behind a gate that waits for a sync, what is only to be written waits too; a gate for less
        // than what the last one waits for adds nothing.
        let mut replies = Replies::default();
        let mut put = |reply: &[u8], raw, level| {
            replies.now(|out| {
                out.extend_from_slice(reply);
                Some(Promise { position: Position::from_raw(raw), level })
            });
        };
        put(b"a", 10, Level::Written);
        put(b"b", 20, Level::Synced);
        put(b"c", 15, Level::Synced);
        put(b"d", 30, Level::Written);
        let mut take = |written, synced| {
            let [written, synced] = [written, synced].map(Position::from_raw);
            let mut bytes = Vec::new();
            replies.take(Reached { written, synced }, &mut bytes);
            replies.sent(bytes.len());
            bytes
        };
        assert_eq!(take(10, 0), b"a");
        assert_eq!(take(40, 19), b"");
        assert_eq!(take(29, 20), b"bc");
        assert_eq!(take(30, 20), b"d");
    }

    #[test]
    fn one_send_at_a_time() {
        // While bytes are in flight nothing more is handed out.
        let mut replies = Replies::default();
        put(&mut replies, b"xy", None);
        let mut bytes = Vec::new();
        assert!(replies.take(at(0), &mut bytes));
        put(&mut replies, b"z", None);
        assert!(!replies.take(at(0), &mut Vec::new()));
        replies.sent(1);
        assert!(!replies.sendable(at(0)));
        replies.sent(1);
        assert_eq!(take(&mut replies, 0), b"z");
    }

    #[test]
    fn muted_requests_have_no_reply() {
        // The next one only, or all until it is over; here and from elsewhere, in between awaited ones.
        let mut replies = Replies::default();
        let first = replies.later();
        replies.mute(Mute::ThisAndNext);
        put(&mut replies, b"skip", None);
        let muted = replies.later();
        put(&mut replies, b"3", None);
        replies.mute(Mute::On);
        put(&mut replies, b"off", None);
        let off = replies.later();
        put(&mut replies, b"off", None);
        replies.mute(Mute::Off);
        put(&mut replies, b"4", None);
        replies.fill(off, b"off", None);
        replies.fill(muted, b"muted", None);
        replies.fill(first, b"1", None);
        assert_eq!(take(&mut replies, 0), b"134");
        assert!(replies.is_quiet());
    }
}
