//! A trial is a node of a few cores in one thread, for tests of its commands: a request in, the reply's bytes out.
//!
//! Messages between cores are carried at once and in order; what may be delayed and lost is the simulator's matter.

use std::{cell::Cell, net::SocketAddr, sync::Arc};

use eagle_resp::OwnedArgs;
use eagle_shard::{call::UnixMs, shard::ShardConfig};

use crate::{
    config::Config,
    core::{
        Core, CoreConfig,
        event::{Actions, ConnId, CoreId, Event, Now, Peer},
        gate::CommitMode,
        laps::Stopwatch,
        outbox::MESSAGE_BYTES_MAX,
    },
    shared::Shared,
};

thread_local! {
    static WATCH_NS: Cell<u64> = const { Cell::new(1) };
    /// What the stopwatch goes on by when it is read.
    static LAP_NS: Cell<u64> = const { Cell::new(0) };
}

/// A connection of a trial's node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Client {
    core: usize,
    conn: ConnId,
}

/// A node in one thread.
pub(super) struct Trial {
    cores: Vec<Core>,
    pub(super) now: Now,
    connected: u32,
    /// Bytes sent to clients and not yet read by the test.
    received: Vec<(Client, Vec<u8>)>,
    closed: Vec<Client>,
    pub(super) shut_down: bool,
}

impl Trial {
    pub(super) fn new(cores: u16, config: Config) -> Self {
        let now = Now { unix: UnixMs(1_700_000_000_123), unix_sub_us: 456, mono_us: 5_000_000 };
        let shared = Arc::new(Shared::new(config, 1, now.unix.0, now.mono_us));
        let core = |index| {
            let shard = ShardConfig { index, count: cores, extent_size: 1 << 18, ..ShardConfig::default() };
            let id = CoreId(index);
            let config = CoreConfig {
                id,
                cores,
                shard,
                commit: CommitMode::Immediate,
                credit: 64,
                message_bytes_max: MESSAGE_BYTES_MAX,
                seed: 1,
                watch: Stopwatch(|| WATCH_NS.with(|now| now.replace(now.get() + LAP_NS.get()))),
            };
            Core::new(&config, Arc::clone(&shared)).expect("memory for a shard")
        };
        Self {
            cores: (0..cores).map(core).collect(),
            now,
            connected: 0,
            received: Vec::new(),
            closed: Vec::new(),
            shut_down: false,
        }
    }

    /// A client of this core, from 127.0.0.1 and a port of its own from 50000 on.
    pub(super) fn connect(&mut self, core: usize) -> Client {
        let port = 50_000 + self.connected as u16;
        let remote = SocketAddr::from(([127, 0, 0, 1], port));
        self.connect_from(core, remote)
    }

    pub(super) fn connect_from(&mut self, core: usize, remote: SocketAddr) -> Client {
        let conn = ConnId { index: self.connected, generation: 0 };
        self.connected += 1;
        let peer = Peer::Tcp { remote, local: SocketAddr::from(([127, 0, 0, 1], 6379)) };
        let client = Client { core, conn };
        self.received.push((client, Vec::new()));
        self.step(core, Event::Accepted { conn, peer, fd: 8 });
        self.run();
        client
    }

    /// Sends a request of words separated by blanks (`""` is an empty one); returns all that came back.
    pub(super) fn ask(&mut self, client: Client, request: &str) -> String {
        let args: OwnedArgs =
            request.split(' ').map(|word| if word == "\"\"" { &b""[..] } else { word.as_bytes() }).collect();
        let mut bytes = format!("*{}\r\n", args.as_args().len()).into_bytes();
        for arg in args.as_args().iter() {
            bytes.extend_from_slice(format!("${}\r\n", arg.len()).as_bytes());
            bytes.extend_from_slice(arg);
            bytes.extend_from_slice(b"\r\n");
        }
        self.step(client.core, Event::Received { conn: client.conn, bytes: &mut bytes });
        self.run();
        self.read(client)
    }

    /// What the client received since it last read.
    pub(super) fn read(&mut self, client: Client) -> String {
        let (_, bytes) = self.received.iter_mut().find(|(known, _)| *known == client).expect("a client of this trial");
        String::from_utf8(std::mem::take(bytes)).expect("replies of these tests are text")
    }

    pub(super) fn is_closed(&self, client: Client) -> bool {
        self.closed.contains(&client)
    }

    /// From now on each lap of a command takes so many microseconds.
    pub(super) fn laps_take(&self, us: u64) {
        LAP_NS.set(1000 * us);
    }

    /// The turn that is over took so many nanoseconds, on each core.
    pub(super) fn turn_takes(&mut self, ns: u64) {
        self.cores.iter_mut().for_each(|core| core.stats_mut().turn_took(ns));
    }

    /// So much time passes.
    pub(super) fn advance(&mut self, ms: u64) {
        self.now.unix.0 += ms;
        self.now.mono_us += ms * 1000;
    }

    /// The time of looking after things comes, on all cores.
    pub(super) fn tick(&mut self) {
        for core in 0..self.cores.len() {
            self.step(core, Event::Tick);
            self.step(core, Event::Background { units: 1000, idle: true });
        }
        self.run();
    }

    fn step(&mut self, core: usize, event: Event<'_>) {
        let mut actions = Actions::default();
        self.cores[core].step(event, self.now, &mut actions);
        self.act(core, actions);
    }

    /// Ends turns of all cores until none has anything to say.
    fn run(&mut self) {
        let mut quiet = 0;
        while quiet < 3 {
            let mut busy = false;
            for core in 0..self.cores.len() {
                let mut actions = Actions::default();
                self.cores[core].end_turn(self.now, &mut actions);
                busy |= !actions.send.is_empty() || !actions.post.is_empty() || !actions.close.is_empty();
                busy |= !actions.configure.is_empty();
                self.act(core, actions);
            }
            quiet = if busy { 0 } else { quiet + 1 };
        }
    }

    fn act(&mut self, core: usize, actions: Actions) {
        for conn in actions.send {
            let mut bytes = Vec::new();
            if self.cores[core].take_output(conn, &mut bytes) {
                let client = Client { core, conn };
                let len = bytes.len();
                let (_, received) = self.received.iter_mut().find(|(known, _)| *known == client).expect("a client");
                received.extend_from_slice(&bytes);
                self.step(core, Event::Sent { conn, bytes: len });
            }
        }
        for configure in actions.configure {
            // There is no process to act on: what is left is to publish.
            let change = |present: &Config| present.with(&configure.pairs(), configure.is_local);
            let result = self.cores[core].shared().change_config(change);
            self.step(core, Event::Configured { gather: configure.gather, result });
        }
        for (to, message) in actions.post {
            self.step(to.index(), Event::Message { from: CoreId(core as u16), message });
        }
        for conn in actions.close {
            self.closed.push(Client { core, conn });
            self.step(core, Event::Gone { conn });
        }
        self.shut_down |= actions.shutdown;
    }
}
