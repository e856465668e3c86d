//! The core loop drives one core on one pinned thread: it turns completions into events and carries the core's actions
//! out. It decides nothing about data.
//!
//! ```text
//!  a turn:  connections that are over ─┐
//!           completions ───────────────┼─▶ Core::step ─▶ Core::end_turn ─▶ actions ─▶ messages posted, sends queued
//!           messages, the tick ────────┘                                        │ (and storage begun)
//!  between: work left ──▶ submit, next turn          one io_uring_enter a turn ◀┘
//!           none, but lately it came soon ──▶ spin (`spin-us`)
//!           none ──▶ nap in the ring (at most a millisecond)
//!           none for a millisecond ──▶ sleep in glommio until the ring's eventfd
//! ```
//!
//! The loop is the only busy task of its glommio executor, and `yield_now` does not reach glommio's reactor; so once a millisecond,
//! unless it sleeps anyway, the loop yields deeply: it writes to an eventfd and awaits reading it. Timers and files of other tasks then
//! come within a millisecond or two.
//!
//! To fall asleep and be woken costs some 30 us in a virtual machine, more than a small request: a loop whose last work came within
//! `spin-us` of the work before stays awake for as long, in user space but for a `sched_yield`, by which whoever shares the processor (a
//! client, the kernel's threads that end a commit) has it at once. One connection without pipelining: SET 14 K/s before, 37 K/s after, with
//! less CPU time a request; `sync always` p50 254 us before, 142 after. Where work comes less often nothing spins.
//!
//! A nap is one system call, which submits the turn's sends and waits in the own ring; a sleep goes through glommio and costs two wake-ups, but
//! lets the executor park. Neither loses a wake-up: before either, the core lies down in the mesh ([`super::mesh`]) with its bell
//! armed in the ring, so that a peer's message is a completion like all else; and before a sleep the ring is told to write to
//! the eventfd (`DEFER_TASKRUN`: also when there is only work to do for a completion), a fence is made, and the ring is
//! looked at once more.
//!
//! glommio 0.9.0 can park with a task to run, if the preempt timer fired at the wrong moment. So that timer is long, and a
//! second task, the watchdog, wakes every 100 ms; it ticks for a sleeping loop too, and what it rescued is counted.

mod accepting;
mod secure;

use std::{
    cell::Cell,
    collections::VecDeque,
    fs::File,
    io::{self, Write},
    mem,
    os::fd::{AsFd, FromRawFd, IntoRawFd, OwnedFd},
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
        mpsc::{self, Receiver, Sender},
    },
    time::Duration,
};

use glommio::io::BufferedFile;
use rustls::ServerConfig;
use slab::Slab;

use self::accepting::Accepting;
use super::{
    admin::Inquiry,
    checkpoint::{CHECKPOINT, CheckpointFile},
    clock::Clock,
    connection::{Connections, Receiving},
    listening::Listening,
    mesh::{Mesh, Sleep},
    published::Published,
    ring::{self, Completion, Input, Ring, Tag},
    settings::{Configured, Wish},
    storage::Storage,
};
use crate::core::{
    Core,
    event::{self, Actions, Configure, ConnId, Event, Now},
    message::Message,
    sweep::LINGER_US,
};

/// Completions that one turn looks at; the others wait for the next.
const COMPLETIONS_PER_TURN: usize = 1024;
/// Microseconds between ticks, and between the watchdog's looks.
const TICK_US: u64 = 100_000;
/// Microseconds without work after which the loop sleeps in glommio instead of napping in its ring.
const NAP_US: u64 = 1_000;
/// Microseconds in which the loop looks for the end of a commit without sleeping, if it looks for work so at all.
const SPIN_COMMIT_US: u64 = 250;
/// Microseconds from one deep yield to the next.
const YIELD_US: u64 = 1_000;
/// How long a loop naps that only waits for room in another core's ring.
const REFUSED_NAP: Duration = Duration::from_micros(50);
/// Units of background work in a turn in which something else was done, and in one in which nothing was.
const BACKGROUND_UNITS: [u32; 2] = [64, 512];
/// Microseconds that a slice of loading is to take, about: what a client waits for an answer meanwhile.
const LOAD_US: u64 = 2_000;
/// Records of the first slice, and of one at least and at most.
const LOAD_RECORDS: [usize; 3] = [4096, 64, 1 << 20];

/// How the cores of a node end together.
#[derive(Debug, Default)]
pub(super) struct Ending {
    /// Cores are to serve what has arrived and take nothing new.
    pub(super) draining: AtomicBool,
    /// How many cores have nothing in flight any more.
    pub(super) drained: AtomicUsize,
    /// Times that a watchdog found a sleeping core with work to do, on all cores.
    pub(super) rescues: AtomicU64,
}

/// What a core loop is made of.
pub(super) struct Parts {
    /// The core.
    pub(super) core: Core,
    /// Where the node listens.
    pub(super) listening: Arc<Published<Arc<Listening>>>,
    /// Its end of the mesh.
    pub(super) mesh: Mesh<Box<Message>>,
    /// How many cores there are.
    pub(super) cores: u16,
    /// The node's clock.
    pub(super) clock: Clock,
    /// How the cores end.
    pub(super) ending: Arc<Ending>,
    /// Called when the core asks for the node's end.
    pub(super) ask_end: Box<dyn Fn()>,
    /// Called when the core, which loads, has its data.
    pub(super) loaded: Box<dyn Fn()>,
    /// The file of its pool, if it has one, the same opened again, and where its checkpoints are written.
    pub(super) pool: Option<(OwnedFd, File, CheckpointFile)>,
    /// Called when the core wants settings of the process changed.
    pub(super) wish: Box<dyn Fn(Wish)>,
    /// Where it is asked how it is, if anybody may.
    pub(super) inquiry: Option<Inquiry>,
}

/// Drives a core until the node ends, and hands it back. Runs as a task of the core's executor, and makes its ring there.
///
/// # Errors
/// The ring or an eventfd could not be made; `serving` was not called then.
pub(super) async fn run(parts: Parts, serving: impl FnOnce()) -> io::Result<Core> {
    let mut core_loop = CoreLoop::new(parts)?;
    serving();
    let watchdog = glommio::spawn_local(watch(core_loop.bed.clone())).detach();
    let ran = core_loop.run().await;
    watchdog.cancel();
    core_loop.ring.cancel_all();
    let file_is_busy = core_loop.checkpoint.as_ref().is_some_and(|file| !file.is_quiet());
    if file_is_busy || core_loop.storage.as_ref().is_some_and(|storage| !storage.is_quiet()) {
        // The kernel may still read the log's memory: it is never let go of.
        mem::forget(core_loop);
        return ran.and_then(|()| Err(io::Error::other("an operation on its pool did not end")));
    }
    ran.map(|()| core_loop.core)
}

/// Wakes every 100 ms, so that the executor does and a sleeping loop ticks, come what may.
async fn watch(bed: Rc<Bed>) {
    loop {
        glommio::timer::sleep(Duration::from_micros(TICK_US)).await;
        if bed.asleep.get() {
            bed.by_watchdog.set(true);
            bed.wake();
        }
    }
}

/// Where the loop sleeps, and how it is woken.
struct Bed {
    /// The loop awaits the eventfd.
    asleep: Cell<bool>,
    /// The watchdog woke it.
    by_watchdog: Cell<bool>,
    /// The core's pillow: written by the ring when there is something to do, by other cores, and by the watchdog.
    eventfd: File,
}

impl Bed {
    fn wake(&self) {
        let written = (&self.eventfd).write(&1_u64.to_ne_bytes());
        assert!(matches!(written, Ok(8)), "an eventfd takes 8 bytes: {written:?}");
    }
}

struct CoreLoop {
    core: Core,
    actions: Actions,
    /// Before the connections: dropped first, it lets go of their memory.
    ring: Ring,
    connections: Connections,
    /// By the numbers of their accepts.
    listeners: Slab<Accepting>,
    listening: Arc<Published<Arc<Listening>>>,
    mesh: Mesh<Box<Message>>,
    cores: u16,
    clock: Clock,
    ending: Arc<Ending>,
    ask_end: Box<dyn Fn()>,
    loaded: Box<dyn Fn()>,
    /// The core does not serve yet.
    is_opening: bool,
    /// Of the core's pool, if it has a file.
    storage: Option<Storage>,
    checkpoint: Option<CheckpointFile>,
    /// Records of the next slice of loading.
    load_records: usize,
    /// Why the core cannot go on.
    broken: Option<String>,
    wish: Box<dyn Fn(Wish)>,
    inquiry: Option<Inquiry>,
    /// Wishes that were not answered yet.
    wishes: usize,
    answers: (Sender<Configured>, Receiver<Configured>),
    bed: Rc<Bed>,
    /// glommio's view of the bed's eventfd.
    alarm: BufferedFile,
    /// Connections whose output goes on after the slice that was taken.
    slices: Vec<ConnId>,
    /// What TLS is spoken with.
    acceptor: Option<Arc<ServerConfig>>,
    /// Connections with bytes of a handshake, in turn.
    handshakes: VecDeque<ConnId>,
    /// Connections that speak TLS, and until when they must have agreed on how, in this order.
    deadlines: VecDeque<(ConnId, u64)>,
    /// Decrypted input, used again and again.
    plain: Vec<u8>,
    /// Connections whose flight of ciphertext is over.
    landed: Vec<ConnId>,
    /// Connections that found no buffer for their input, in turn.
    starved: VecDeque<ConnId>,
    /// Sends queued since the last system call.
    sends: usize,
    next_tick_us: u64,
    /// Work has lately come so soon after work that waiting for it awake is worth it.
    spins: bool,
    next_yield_us: u64,
    last_work_us: u64,
    /// A peer's ring was full.
    refused: bool,
    /// The bell is to be armed.
    arm_bell: bool,
    drain_told: bool,
    drain_counted: bool,
}

impl CoreLoop {
    fn new(parts: Parts) -> io::Result<Self> {
        let Parts { core, listening, mesh, cores, clock, ending, ask_end, loaded, pool, wish, inquiry } = parts;
        let is_opening = core.is_opening();
        let (storage, checkpoint) = pool
            .map(|(file, growth_file, checkpoint)| (Storage::new(core.id(), file, growth_file), checkpoint))
            .unzip();
        let mut ring = Ring::new()?;
        // One eventfd for all that ends a sleep: completions, other cores, the watchdog.
        let eventfd = mesh.pillow().try_clone_to_owned()?;
        ring.register(eventfd.as_fd())?;
        let alarm = glommio_file(eventfd.try_clone()?);
        let bed = Bed { asleep: Cell::new(false), by_watchdog: Cell::new(false), eventfd: eventfd.into() };
        let mut core_loop = Self {
            core,
            actions: Actions::default(),
            ring,
            connections: Connections::default(),
            listeners: Slab::new(),
            listening,
            mesh,
            cores,
            clock,
            ending,
            ask_end,
            loaded,
            is_opening,
            storage,
            checkpoint,
            load_records: LOAD_RECORDS[0],
            broken: None,
            wish,
            inquiry,
            wishes: 0,
            answers: mpsc::channel(),
            bed: Rc::new(bed),
            alarm,
            slices: Vec::new(),
            acceptor: None,
            handshakes: VecDeque::new(),
            deadlines: VecDeque::new(),
            plain: Vec::new(),
            landed: Vec::new(),
            starved: VecDeque::new(),
            sends: 0,
            next_tick_us: 0,
            spins: false,
            next_yield_us: 0,
            last_work_us: 0,
            refused: false,
            arm_bell: true,
            drain_told: false,
            drain_counted: false,
        };
        core_loop.take_listeners();
        Ok(core_loop)
    }

    async fn run(&mut self) -> io::Result<()> {
        // When all cores have drained, nobody asks this one for anything any more: what it has is made durable, and it ends.
        let mut prepared = false;
        loop {
            if self.ending.drained.load(Ordering::Acquire) >= usize::from(self.cores) {
                if !mem::replace(&mut prepared, true) {
                    self.core.prepare_to_end();
                }
                if self.core.is_settled() {
                    break;
                }
            }
            let now = self.clock.now();
            let spin_us = self.spin_us();
            let worked = self.turn(now);
            if let Some(why) = self.broken.take() {
                return Err(io::Error::other(why));
            }
            let work_left = self.core.has_work()
                || self.core.loads()
                || self.connections.any_over()
                || !self.handshakes.is_empty()
                || self.ring.has_completions()
                || !self.starved.is_empty();
            if worked {
                // Some virtual machines' monotonic clocks step back.
                self.spins = now.mono_us.saturating_sub(self.last_work_us) < spin_us;
                self.last_work_us = now.mono_us;
                let turn_us = self.clock.mono_us().saturating_sub(now.mono_us);
                self.core.stats_mut().turn_took(1000 * turn_us);
            }
            let idle_us = now.mono_us.saturating_sub(self.last_work_us);
            if !work_left && self.core.lingers() {
                self.nap(Duration::from_micros(LINGER_US));
            } else if !work_left && idle_us >= NAP_US {
                self.sleep().await?;
                self.next_yield_us = self.clock.mono_us() + YIELD_US;
            } else if now.mono_us >= self.next_yield_us {
                self.submit();
                self.yield_deeply().await?;
                self.next_yield_us = now.mono_us + YIELD_US;
            } else if !work_left && self.spins && idle_us < self.spin_us() {
                self.spin();
            } else if !work_left {
                self.nap(Duration::from_micros(NAP_US - idle_us));
            } else if self.refused && !worked {
                self.nap(REFUSED_NAP);
            } else {
                self.submit();
            }
        }
        Ok(())
    }

    /// One turn; true if anything was done in it.
    fn turn(&mut self, now: Now) -> bool {
        let mut worked = self.tell_over(now);
        worked |= self.take_answers(now);
        worked |= self.reap(now);
        worked |= self.shake_hands(now);
        worked |= self.take_messages(now);
        if now.mono_us >= self.next_tick_us {
            self.tick(now);
        }
        if !self.drain_told && self.ending.draining.load(Ordering::Acquire) {
            self.drain(now);
        }
        if self.core.loads() {
            self.load(now);
        }
        if self.core.background_due() {
            let units = BACKGROUND_UNITS[usize::from(!worked)];
            self.core.step(Event::Background { units, idle: !worked }, now, &mut self.actions);
        }
        self.core.end_turn(now, &mut self.actions);
        self.carry_out();
        if self.is_opening && !self.core.is_opening() {
            self.is_opening = false;
            (self.loaded)();
        }
        if self.drain_told && !worked {
            self.count_drained();
        }
        worked
    }

    /// Tells the core of connections that are over, before their places are given out again.
    fn tell_over(&mut self, now: Now) -> bool {
        let mut any = false;
        while let Some(conn) = self.connections.take_over() {
            any = true;
            self.core.step(Event::Gone { conn }, now, &mut self.actions);
        }
        any
    }

    /// Tells the core what the kernel has done.
    fn reap(&mut self, now: Now) -> bool {
        for nth in 0..COMPLETIONS_PER_TURN {
            match self.ring.next() {
                Some(Completion::Receive { tag, result, input, more }) => self.received(tag, result, input, more, now),
                Some(Completion::Send { tag, result }) => self.sent(tag, result, now),
                Some(Completion::Accept { listener, result, more }) => self.accepted(listener, result, more, now),
                Some(Completion::Bell) => self.arm_bell = true,
                Some(Completion::Storage { operation, result }) => self.stored(operation, result, now),
                None => return nth > 0,
            }
        }
        true
    }

    fn stored(&mut self, operation: u32, result: Result<usize, i32>, now: Now) {
        if operation == CHECKPOINT {
            let file = self.checkpoint.as_mut().expect("an operation on a checkpoint needs its file");
            file.completed(result, &mut self.ring);
            if let Some(result) = file.take_ended() {
                self.core.step(Event::Checkpointed { result }, now, &mut self.actions);
            }
            return;
        }
        let storage = self.storage.as_mut().expect("an operation on a pool's file needs one");
        storage.completed(operation, result, &mut self.ring, &self.core.shared().faults);
        while let Some((what, result)) = storage.next_ended() {
            self.core.step(Event::Stored { what, result }, now, &mut self.actions);
        }
    }

    /// Loads a slice, and finds out how large the next is to be.
    fn load(&mut self, now: Now) {
        let begin_us = self.clock.mono_us();
        self.core.step(Event::Load { records: self.load_records }, now, &mut self.actions);
        let took_us = self.clock.mono_us() - begin_us;
        let [_, least, most] = LOAD_RECORDS;
        if took_us > LOAD_US {
            self.load_records = (self.load_records / 2).max(least);
        } else if took_us < LOAD_US / 2 {
            self.load_records = (self.load_records * 2).min(most);
        }
    }

    fn received(&mut self, tag: Tag, result: Result<usize, i32>, input: Option<Input>, more: bool, now: Now) {
        let (conn, connection) = self.connections.of(tag);
        if !more {
            connection.receiving = Receiving::Off;
        }
        let told = !connection.closing;
        connection.hasty &= !matches!(result, Ok(bytes) if bytes < ring::BUFFER_SIZE);
        match result {
            Ok(0) if told && connection.tls.as_mut().is_some_and(|tls| tls.ends_later()) => connection.ended = true,
            Ok(0) if told => {
                connection.ended = true;
                self.core.step(Event::EndOfStream { conn }, now, &mut self.actions);
            }
            Ok(_) => {
                if let Some(input) = input.as_ref().filter(|_| told) {
                    let bytes = self.ring.bytes(input);
                    match &mut connection.tls {
                        None => self.core.step(Event::Received { conn, bytes }, now, &mut self.actions),
                        Some(tls) if tls.waits() => {
                            if !mem::replace(&mut tls.is_queued, true) {
                                self.handshakes.push_back(conn);
                            }
                            if !tls.wait(bytes) {
                                self.connections.close(conn);
                            }
                        }
                        Some(tls) => {
                            let decrypted = tls.decrypt(bytes, &mut self.plain);
                            self.decrypted(conn, decrypted, now);
                        }
                    }
                }
            }
            Err(libc::ENOBUFS) if told => return self.starved.push_back(conn),
            // Paused, or for no reason: armed again below, unless it still is.
            Err(libc::ENOBUFS | libc::ECANCELED | libc::EINTR | libc::EAGAIN) => {}
            Err(_) => self.connections.close(conn),
        }
        if let Some(input) = input {
            self.ring.give_back(input);
        }
        if !more {
            self.receive(conn);
            self.connections.settle(conn);
        }
    }

    fn sent(&mut self, tag: Tag, result: Result<usize, i32>, now: Now) {
        let (conn, connection) = self.connections.of(tag);
        connection.sending = false;
        if connection.closing {
            return self.connections.settle(conn);
        }
        match result {
            Ok(bytes) if bytes > 0 => {
                connection.sent += bytes;
                let is_over = connection.sent >= connection.flying.len();
                let (bytes, buffer) = match &mut connection.tls {
                    None => (bytes, is_over.then(|| mem::take(&mut connection.flying))),
                    Some(tls) if is_over => {
                        connection.flying.clear();
                        connection.sent = 0;
                        self.landed.push(conn);
                        tls.flown()
                    }
                    Some(_) => (0, None),
                };
                if !is_over {
                    self.slices.push(conn);
                }
                if let Some(buffer) = buffer {
                    self.core.give_buffer(buffer);
                }
                if bytes > 0 {
                    self.core.step(Event::Sent { conn, bytes }, now, &mut self.actions);
                }
            }
            Err(libc::EINTR | libc::EAGAIN) => self.slices.push(conn),
            _ => self.connections.close(conn),
        }
    }

    /// Tells the core what became of its wishes.
    fn take_answers(&mut self, now: Now) -> bool {
        let before = self.wishes;
        while self.wishes > 0
            && let Ok((gather, result)) = self.answers.1.try_recv()
        {
            self.wishes -= 1;
            self.core.step(Event::Configured { gather, result }, now, &mut self.actions);
        }
        self.wishes < before
    }

    fn wish(&mut self, configure: Configure) {
        self.wishes += 1;
        (self.wish)(Wish { configure, answer: self.answers.0.clone() });
    }

    fn take_messages(&mut self, now: Now) -> bool {
        let mut any = false;
        for from in self.mesh.peers() {
            while let Some(message) = self.mesh.take(from) {
                any = true;
                self.core.step(Event::Message { from, message }, now, &mut self.actions);
            }
        }
        any
    }

    fn tick(&mut self, now: Now) {
        self.next_tick_us = now.mono_us + TICK_US;
        self.core.shared().pulse.beat(self.core.id());
        self.listeners.iter_mut().for_each(|(_, accepting)| accepting.failed = false);
        self.close_undecided(now);
        self.core.step(Event::Tick, now, &mut self.actions);
        if let Some(inquiry) = &mut self.inquiry {
            inquiry.answer(&self.core, now);
        }
    }

    /// Serves what has arrived and takes nothing new from now on.
    fn drain(&mut self, now: Now) {
        self.drain_told = true;
        for (number, accepting) in &self.listeners {
            if accepting.armed {
                self.ring.stop_accepting(number as u32);
            }
        }
        self.core.step(Event::Drain, now, &mut self.actions);
    }

    /// Once nothing is in flight on this core it stays so, because it begins nothing any more; it goes on answering the others. The
    /// last one tells the others that all are done.
    fn count_drained(&mut self) {
        if self.drain_counted || !self.core.drained() {
            return;
        }
        self.drain_counted = true;
        let before = self.ending.drained.fetch_add(1, Ordering::AcqRel);
        if before + 1 == usize::from(self.cores) {
            self.mesh.alarm().ring();
        }
    }

    /// Carries the core's actions out: what is for the kernel is queued in the ring.
    fn carry_out(&mut self) {
        self.post();
        let mut actions = mem::take(&mut self.actions);
        actions.close.drain(..).for_each(|conn| self.connections.close(conn));
        actions.pause.drain(..).for_each(|conn| self.pause(conn));
        actions.resume.drain(..).for_each(|conn| self.resume(conn));
        actions.send.drain(..).for_each(|conn| self.send(conn));
        actions.storage.drain(..).for_each(|action| self.store(action));
        for action in actions.checkpoint.drain(..) {
            let file = self.checkpoint.as_mut().expect("only a core with a pool's file takes checkpoints");
            file.begin(action, &mut self.ring);
        }
        actions.configure.drain(..).for_each(|configure| self.wish(configure));
        if mem::take(&mut actions.listen) {
            self.take_listeners();
        }
        if mem::take(&mut actions.shutdown) {
            (self.ask_end)();
        }
        self.broken = actions.broken.take();
        self.actions = actions;
        for nth in 0..self.slices.len() {
            self.send_slice(self.slices[nth]);
        }
        self.slices.clear();
        for conn in mem::take(&mut self.landed) {
            self.send(conn);
        }
        self.feed();
        self.arm();
    }

    /// Begins an operation on the pool's file.
    fn store(&mut self, action: event::Storage) {
        let storage = self.storage.as_mut().expect("only a core with a pool's file asks for storage");
        let (shard, faults) = (self.core.shard(), &self.core.shared().faults);
        // SAFETY: the log keeps the bytes of a commit's ranges in place until it is told that the commit is written, which the
        // core does when it is told of the write's end; and the core is not dropped before the storage is quiet.
        unsafe { storage.begin(action, |range| shard.pool_bytes(range), &mut self.ring, faults) };
    }

    fn post(&mut self) {
        self.refused = false;
        for (to, message) in self.actions.post.drain(..) {
            if let Err(message) = self.mesh.post(to, message) {
                self.refused = true;
                self.core.refused(to, message);
            }
        }
        self.mesh.wake();
    }

    fn pause(&mut self, conn: ConnId) {
        let Some(connection) = self.connections.get(conn) else {
            return;
        };
        connection.paused = true;
        connection.hasty = true;
        if connection.receiving == Receiving::On {
            connection.receiving = Receiving::Stopping;
            self.ring.stop_receiving(conn);
        }
    }

    fn resume(&mut self, conn: ConnId) {
        if let Some(connection) = self.connections.get(conn) {
            connection.paused = false;
        }
        self.receive(conn);
    }

    /// Arms a connection's receive if it is off and shall be on.
    fn receive(&mut self, conn: ConnId) {
        if let Some(connection) = self.connections.get(conn)
            && connection.wants_input()
        {
            connection.receiving = Receiving::On;
            if connection.hasty {
                self.ring.receive_once(conn, connection.fd());
            } else {
                self.ring.receive(conn, connection.fd());
            }
        }
    }

    /// Lets those receive that found no buffer, in turn and no more than there are buffers: if all of thousands tried again at
    /// once, most would find none again, and again.
    fn feed(&mut self) {
        for _ in 0..self.starved.len().min(ring::BUFFERS.into()) {
            if let Some(conn) = self.starved.pop_front() {
                self.receive(conn);
            }
        }
    }

    /// Sends what the core lets go, unless a send is under way: then the core asks again.
    fn send(&mut self, conn: ConnId) {
        let Some(connection) = self.connections.get(conn) else {
            return;
        };
        if connection.closing || connection.sending || !connection.flying.is_empty() {
            return;
        }
        connection.sent = 0;
        if self.fill(conn) {
            self.send_slice(conn);
        }
    }

    fn send_slice(&mut self, conn: ConnId) {
        let Some(connection) = self.connections.get(conn) else {
            return;
        };
        if connection.closing {
            return;
        }
        connection.sending = true;
        // SAFETY: `flying` is not touched while `sending`, and the connection stays in its place until the completion.
        unsafe { self.ring.send(conn, connection.fd(), connection.slice()) };
        self.sends += 1;
    }

    /// Arms the listeners and the bell where they are not.
    fn arm(&mut self) {
        for (number, accepting) in &mut self.listeners {
            if !accepting.armed && !accepting.failed && !accepting.left && !self.drain_told {
                accepting.armed = true;
                self.ring.accept(number as u32, accepting.listener.fd());
            }
        }
        if mem::take(&mut self.arm_bell) {
            self.ring.listen(self.mesh.bell());
        }
    }

    fn submit(&mut self) {
        self.sends = 0;
        self.ring.submit();
    }

    /// How long the loop looks for work awake: longer for a commit in flight, which is what replies wait for.
    fn spin_us(&self) -> u64 {
        match self.core.spin_us() {
            0 => 0,
            least if self.storage.as_ref().is_some_and(Storage::is_committing) => least.max(SPIN_COMMIT_US),
            least => least,
        }
    }

    /// Submits, and lets whoever wants this processor have it.
    fn spin(&mut self) {
        self.submit();
        std::thread::yield_now();
    }

    /// Submits, and waits in the ring for something to do. The sends complete at once, mostly, and are not what is waited for.
    fn nap(&mut self, time: Duration) {
        if self.sends > 0 && !self.ring.waits_for_several() {
            return self.submit();
        }
        let sends = mem::take(&mut self.sends);
        if self.mesh.lie_down(Sleep::Nap) {
            self.ring.wait(sends + 1, time);
            self.mesh.get_up();
        }
    }

    /// Lets the executor park until there is something to do or the watchdog comes.
    async fn sleep(&mut self) -> io::Result<()> {
        self.submit();
        self.ring.ring_aloud(true);
        // Lying down fences: what comes after it finds the eventfd enabled, what came before is seen by the look that follows.
        if self.mesh.lie_down(Sleep::Deep) {
            if self.ring.is_quiet() {
                self.bed.asleep.set(true);
                self.alarm.read_at(0, 8).await.map_err(io::Error::from)?;
                self.bed.asleep.set(false);
                if self.bed.by_watchdog.take() && !self.ring.is_quiet() {
                    self.ending.rescues.fetch_add(1, Ordering::Relaxed);
                }
            }
            self.mesh.get_up();
        }
        self.ring.ring_aloud(false);
        Ok(())
    }

    /// Lets the other tasks of this executor and its reactor run.
    async fn yield_deeply(&mut self) -> io::Result<()> {
        self.bed.wake();
        self.alarm.read_at(0, 8).await.map(drop).map_err(io::Error::from)
    }
}

/// glommio's view of a descriptor, on which tasks can await reads.
fn glommio_file(fd: OwnedFd) -> BufferedFile {
    // SAFETY: it is open and becomes the file's own.
    unsafe { BufferedFile::from_raw_fd(fd.into_raw_fd()) }
}
