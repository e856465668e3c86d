//! The mesh is how cores talk: a single-producer single-consumer ring from each core to each other core, and a bell a core
//! to wake it.
//!
//! ```text
//!            to 0   to 1   to 2        each ──▶ holds up to CAPACITY messages; a push and a pop are a few
//! core 0             ──▶    ──▶        nanoseconds and no system call
//! core 1      ──▶           ──▶
//! core 2      ──▶    ──▶               bed k: { sleep, bell, pillow }: eventfds that core k's ring and executor read
//! ```
//!
//! No wake-up is lost. The sender pushes, fences, and looks whether the receiver is asleep; the receiver lies down
//! (`sleep` says how), fences, and looks whether anything was pushed. Both fences are `SeqCst`, so one of them comes first in
//! their single order: if the sender's, the receiver's look afterwards sees the push; if the receiver's, the sender's look
//! sees it asleep and rings. Either way a sleeper with a message has a ringing bell, and a bell that rang before
//! the receiver listens still rings then, because an eventfd counts. `sleep` is taken down by one sender with a `swap`, so
//! that a burst rings once. A core that naps waits in its own ring, which reads the bell. One that sleeps has parked its
//! executor, which reads the pillow, the eventfd that the ring signals too. A sleeper is not rung by the bell: an eventfd
//! that is signalled because another one was written to is put off by the kernel to the next RCU grace period (tens of
//! milliseconds on an idle machine), lest eventfds wake each other for ever. A bell may ring for nothing (the receiver saw the push itself); it costs a turn, no more.

use std::{
    fs::File,
    io::{self, Write},
    os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering, fence},
    },
};

use rtrb::{Consumer, Producer, PushError, RingBuffer};

use crate::core::event::CoreId;

/// Messages that a ring holds. A core sends a peer at most one a turn, so a receiver may fall this many turns behind
/// before the sender has to keep its own.
pub const CAPACITY: usize = 256;

/// Makes the ends of a mesh of `cores` cores, in their order.
///
/// # Errors
/// An eventfd could not be made (too many open files).
pub fn mesh<T>(cores: u16) -> io::Result<Vec<Mesh<T>>> {
    let beds: Arc<[Bed]> = (0..cores).map(|_| Bed::new()).collect::<io::Result<_>>()?;
    let ends = |id| Mesh { id: CoreId(id), to: Vec::new(), from: Vec::new(), beds: beds.clone(), rung: Vec::new() };
    let mut meshes: Vec<Mesh<T>> = (0..cores).map(ends).collect();
    for sender in 0..meshes.len() {
        for receiver in 0..meshes.len() {
            // A core's ring to itself stays empty; it keeps the indexes plain.
            let (producer, consumer) = RingBuffer::new(if sender == receiver { 0 } else { CAPACITY });
            meshes[sender].to.push(producer);
            meshes[receiver].from.push(consumer);
        }
    }
    Ok(meshes)
}

/// One core's end of the mesh.
#[derive(Debug)]
pub struct Mesh<T> {
    id: CoreId,
    to: Vec<Producer<T>>,
    from: Vec<Consumer<T>>,
    beds: Arc<[Bed]>,
    /// Who was sent something since the last [`Mesh::wake`].
    rung: Vec<CoreId>,
}

impl<T> Mesh<T> {
    /// Puts a message into the ring to another core, which learns of it at the next [`Mesh::wake`].
    ///
    /// # Errors
    /// The ring is full: the message comes back.
    pub fn post(&mut self, to: CoreId, message: T) -> Result<(), T> {
        debug_assert_ne!(to, self.id, "a core does not write to itself");
        self.to[to.index()].push(message).map_err(|PushError::Full(message)| message)?;
        if !self.rung.contains(&to) {
            self.rung.push(to);
        }
        Ok(())
    }

    /// Wakes those who were sent something and sleep. Once a turn, after the last [`Mesh::post`].
    pub fn wake(&mut self) {
        if self.rung.is_empty() {
            return;
        }
        fence(Ordering::SeqCst);
        for to in self.rung.drain(..) {
            self.beds[to.index()].wake();
        }
    }

    /// The next message from a core, in the order in which it sent them.
    pub fn take(&mut self, from: CoreId) -> Option<T> {
        self.from[from.index()].pop().ok()
    }

    /// All cores but this one.
    pub fn peers(&self) -> impl Iterator<Item = CoreId> + use<T> {
        let me = self.id;
        let cores = u16::try_from(self.beds.len()).expect("made from a u16");
        (0..cores).map(CoreId).filter(move |&core| core != me)
    }

    /// Lies down: whoever sends from now on rings. False, and awake again, if something is there already.
    pub fn lie_down(&mut self, sleep: Sleep) -> bool {
        let bed = &self.beds[self.id.index()];
        bed.sleep.store(sleep as u8, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        let quiet = self.from.iter().all(Consumer::is_empty);
        if !quiet {
            self.get_up();
        }
        quiet
    }

    /// Gets up: from now on senders need not ring.
    pub fn get_up(&self) {
        self.beds[self.id.index()].sleep.store(AWAKE, Ordering::Relaxed);
    }

    /// The eventfd that wakes this core from a nap.
    pub fn bell(&self) -> BorrowedFd<'_> {
        self.beds[self.id.index()].bell.as_fd()
    }

    /// The eventfd that wakes this core from its sleep.
    pub fn pillow(&self) -> BorrowedFd<'_> {
        self.beds[self.id.index()].pillow.as_fd()
    }

    /// Rings all cores, for those that are no core themselves.
    pub fn alarm(&self) -> Alarm {
        Alarm { beds: self.beds.clone() }
    }
}

/// Wakes all cores from outside, for instance to tell them that the node is to end.
#[derive(Clone, Debug)]
pub struct Alarm {
    beds: Arc<[Bed]>,
}

impl Alarm {
    /// Rings every core's bell, asleep or not: what was stored before is seen by each core's next turn.
    pub fn ring(&self) {
        fence(Ordering::SeqCst);
        for bed in &*self.beds {
            ring(&bed.bell);
            ring(&bed.pillow);
        }
    }
}

/// How a core waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Sleep {
    /// In its own ring, which reads the bell.
    Nap = 1,
    /// With its executor parked, which reads the pillow.
    Deep = 2,
}

/// Not waiting.
const AWAKE: u8 = 0;

/// Where a core sleeps. On cache lines of its own: senders of all cores read `sleep` each turn.
#[derive(Debug)]
#[repr(align(128))]
struct Bed {
    /// [`AWAKE`] or a [`Sleep`].
    sleep: AtomicU8,
    bell: File,
    pillow: File,
}

impl Bed {
    fn new() -> io::Result<Self> {
        Ok(Self { sleep: AtomicU8::new(AWAKE), bell: File::from(eventfd()?), pillow: File::from(eventfd()?) })
    }

    fn wake(&self) {
        if self.sleep.load(Ordering::Relaxed) == AWAKE {
            return;
        }
        match self.sleep.swap(AWAKE, Ordering::AcqRel) {
            AWAKE => {}
            sleep if sleep == Sleep::Nap as u8 => ring(&self.bell),
            _ => ring(&self.pillow),
        }
    }
}

fn ring(mut eventfd: &File) {
    let written = eventfd.write(&1_u64.to_ne_bytes());
    assert!(matches!(written, Ok(8)), "an eventfd takes 8 bytes: {written:?} on {}", eventfd.as_raw_fd());
}

/// A new eventfd at 0, blocking: io_uring waits for one by itself, and fails with EAGAIN on one that does not block.
pub(super) fn eventfd() -> io::Result<OwnedFd> {
    // SAFETY: takes numbers, touches no memory.
    let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: just made, nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    /// Sleeps as a core does: only if nothing is there, until the bell rings. Panics if it does not ring in time.
    fn sleep(mesh: &mut Mesh<u64>) -> bool {
        if !mesh.lie_down(Sleep::Nap) {
            return false;
        }
        assert!(rings(mesh, 5_000), "lost wake-up: core {:?} slept on", mesh.id);
        let mut count = [0; 8];
        (&mesh.beds[mesh.id.index()].bell).read_exact(&mut count).expect("it rang");
        mesh.get_up();
        true
    }

    fn rings(mesh: &Mesh<u64>, timeout_ms: i32) -> bool {
        let mut poll = libc::pollfd { fd: mesh.bell().as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one pollfd, alive during the call.
        unsafe { libc::poll(&raw mut poll, 1, timeout_ms) == 1 }
    }

    fn random() -> fastrand::Rng {
        let seed =
            std::env::var("EAGLE_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(|| fastrand::u64(..));
        println!("EAGLE_SEED={seed}");
        fastrand::Rng::with_seed(seed)
    }

    /// Answers each number with its successor until told to stop by `u64::MAX`; returns how often it slept.
    fn echo(mut mesh: Mesh<u64>, mut random: fastrand::Rng) -> u64 {
        let mut sleeps = 0;
        loop {
            let mut any = false;
            while let Some(number) = mesh.take(CoreId(0)) {
                any = true;
                if number == u64::MAX {
                    return sleeps;
                }
                let mut answer = number + 1;
                while let Err(back) = mesh.post(CoreId(0), answer) {
                    mesh.wake();
                    answer = back;
                }
            }
            mesh.wake();
            (0..random.u32(0..64)).for_each(|_| std::hint::spin_loop());
            sleeps += u64::from(!any && sleep(&mut mesh));
        }
    }

    #[test]
    fn no_wake_up_is_lost_in_a_hundred_thousand_rounds() {
        // Shows that two threads that sleep whenever nothing is there, at all distances in time from each other's sending,
        // are woken every time: each burst is answered whole and in order. A lost wake-up ends in a panic of `sleep`.
        const ROUNDS: u64 = 100_000;
        let mut random = random();
        let mut ends = mesh::<u64>(2).expect("two eventfds");
        let (peer, mut me) = (ends.pop().expect("core 1"), ends.pop().expect("core 0"));
        let fork = random.fork();
        let peer = std::thread::spawn(move || echo(peer, fork));
        let (mut next, mut sleeps) = (0, 0);
        for _ in 0..ROUNDS {
            let burst = if random.u8(..) == 0 { 200 } else { random.u64(1..4) };
            for number in next..next + burst {
                me.post(CoreId(1), number).expect("a burst fits");
            }
            me.wake();
            (0..random.u32(0..64)).for_each(|_| std::hint::spin_loop());
            let end = next + burst;
            while next < end {
                match me.take(CoreId(1)) {
                    Some(answer) => {
                        assert_eq!(answer, next + 1);
                        next += 1;
                    }
                    None => sleeps += u64::from(sleep(&mut me)),
                }
            }
        }
        me.post(CoreId(1), u64::MAX).expect("empty");
        me.wake();
        let slept = (sleeps, peer.join().expect("the peer ends"));
        println!("slept {slept:?} times in {ROUNDS} rounds");
        assert!(slept.0 > 1_000 && slept.1 > 1_000, "too few sleeps to show anything: {slept:?}");
    }

    #[test]
    fn a_full_ring_hands_the_message_back() {
        // Shows that nothing is dropped or reordered when the receiver is behind.
        let mut ends = mesh::<u64>(2).expect("two eventfds");
        let (mut peer, mut me) = (ends.pop().expect("core 1"), ends.pop().expect("core 0"));
        for number in 0..CAPACITY as u64 {
            assert_eq!(me.post(CoreId(1), number), Ok(()));
        }
        assert_eq!(me.post(CoreId(1), 9_999), Err(9_999));
        assert_eq!(peer.take(CoreId(0)), Some(0));
        assert_eq!(me.post(CoreId(1), 9_999), Ok(()));
        let rest: Vec<u64> = std::iter::from_fn(|| peer.take(CoreId(0))).collect();
        assert_eq!(rest.len(), CAPACITY);
        assert_eq!((rest[0], rest[CAPACITY - 1]), (1, 9_999));
    }

    #[test]
    fn who_has_mail_does_not_lie_down() {
        // Shows the receiver's half of the protocol, and that the sender's rings only for a sleeper.
        let mut ends = mesh::<u64>(2).expect("two eventfds");
        let (mut peer, mut me) = (ends.pop().expect("core 1"), ends.pop().expect("core 0"));
        let asleep = |mesh: &Mesh<u64>| mesh.beds[1].sleep.load(Ordering::Relaxed) != AWAKE;
        me.post(CoreId(1), 1).expect("room");
        assert!(!peer.lie_down(Sleep::Nap) && !asleep(&peer));
        assert_eq!(peer.take(CoreId(0)), Some(1));
        assert!(peer.lie_down(Sleep::Nap) && asleep(&peer));
        me.post(CoreId(1), 2).expect("room");
        me.wake();
        assert!(!asleep(&peer), "taken down by the sender");
        assert!(rings(&peer, 0), "and the bell rang");
        assert_eq!(peer.take(CoreId(0)), Some(2));
        me.post(CoreId(1), 3).expect("room");
        me.wake();
        let mut count = [0; 8];
        (&peer.beds[1].bell).read_exact(&mut count).expect("it rang");
        assert_eq!(u64::from_ne_bytes(count), 1, "who is up is not rung for");
    }
}
