//! The supervisor is what has started the node and watches over it: systemd, or Upstart. The main thread tells it that the node is
//! ready, how far it is, that it ends, and that all its cores live.
//!
//! ```text
//!  begin ── STATUS=Loading: 12.5 % of 4096 MB ── READY=1 ── WATCHDOG=1, WATCHDOG=1, ... ── STOPPING=1 ── the end
//!                                                           only if each core has ticked since the one before
//! ```
//!
//! What always holds:
//! - `READY=1` comes when all pools are loaded, as with Redis: who is ordered after the unit finds the data. A node that loads
//!   answers already, `-LOADING`, and its `STATUS=` says how far it is.
//! - A core that is stuck in one turn stops the pings ([`crate::pulse`]), and systemd restarts the node after `WatchdogSec`.
//! - `RELOADING=1` is never said: nothing is reloaded as a whole, `CONFIG SET` changes one value at a time.
//! - A supervisor that does not listen costs a line in the log, never the service.
//!
//! From: `sd_notify(3)`, `sd_watchdog_enabled(3)`; Redis 7.2, `redisIsSupervised`. The protocol is one datagram of lines, which the
//! standard library sends; a crate for it would be longer than this.

use std::{
    io,
    os::{linux::net::SocketAddrExt, unix::net::SocketAddr, unix::net::UnixDatagram},
    time::{Duration, Instant},
};

use crate::{config::Supervision, pulse::Pulse};

/// Pings within the time after which systemd gives up, so that one that comes late does no harm.
const PINGS: u32 = 3;
/// How much longer than `shutdown-timeout` an end may take: writing the last commits and the checkpoints.
const END_MORE: Duration = Duration::from_secs(90);

/// Who watches, and how it is told.
#[derive(Debug, Default)]
pub(super) struct Supervisor {
    kind: Option<Kind>,
    socket: Option<UnixDatagram>,
    watch: Option<Watch>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Systemd,
    Upstart,
}

/// When to ping.
#[derive(Debug)]
struct Watch {
    every: Duration,
    next: Instant,
    seen: Vec<u64>,
    /// The node ends: cores do so one by one, and the end has a bound of its own.
    ends: bool,
}

impl Watch {
    fn new(within: Duration, now: Instant) -> Self {
        let every = within / PINGS;
        Self { every, next: now, seen: Vec::new(), ends: false }
    }

    /// Whether it is time to ping and all cores live. `counts` are those of the [`Pulse`].
    fn is_due(&mut self, counts: Vec<u64>, now: Instant) -> bool {
        if now < self.next {
            return false;
        }
        let live = self.seen.len() != counts.len() || counts.iter().zip(&self.seen).all(|(new, old)| new != old);
        if !live && !self.ends {
            return false;
        }
        self.seen = counts;
        self.next = now + self.every;
        true
    }
}

impl Supervisor {
    /// The supervisor that the configuration asks for, as the environment tells of it. Where there is none, the log says so, as with
    /// Redis, and nobody is told anything.
    pub(super) fn find(wanted: Supervision) -> Self {
        let variable = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
        let (notify, upstart) = (variable("NOTIFY_SOCKET"), variable("UPSTART_JOB"));
        match (wanted, notify, upstart) {
            (Supervision::Auto | Supervision::Systemd, Some(path), _) => {
                let within = watchdog(variable("WATCHDOG_USEC").as_deref(), variable("WATCHDOG_PID").as_deref());
                Self::systemd(&path, within)
            }
            (Supervision::Auto | Supervision::Upstart, _, Some(_)) => {
                tracing::info!("supervised by upstart, will stop to signal readiness");
                Self { kind: Some(Kind::Upstart), ..Self::default() }
            }
            (Supervision::Systemd, None, _) => {
                tracing::warn!("systemd supervision requested, but NOTIFY_SOCKET not found!");
                Self::default()
            }
            (Supervision::Upstart, _, None) => {
                tracing::warn!("upstart supervision requested, but UPSTART_JOB not found!");
                Self::default()
            }
            _ => Self::default(),
        }
    }

    fn systemd(path: &str, within: Option<Duration>) -> Self {
        match connect(path) {
            Ok(socket) => {
                tracing::info!(
                    "supervised by systemd. Please make sure you set appropriate values for TimeoutStartSec and TimeoutStopSec in your service unit."
                );
                let watch = within.map(|within| Watch::new(within, Instant::now()));
                Self { kind: Some(Kind::Systemd), socket: Some(socket), watch }
            }
            Err(error) => {
                tracing::warn!("systemd can't be told anything at NOTIFY_SOCKET '{path}': {error}");
                Self::default()
            }
        }
    }

    /// Its name, for `INFO`.
    pub(super) fn name(&self) -> &'static str {
        match self.kind {
            Some(Kind::Systemd) => "systemd",
            Some(Kind::Upstart) => "upstart",
            None => "no",
        }
    }

    /// How long the main thread may do nothing else at most, if it is to ping.
    pub(super) fn patience(&self) -> Duration {
        self.watch.as_ref().map_or(Duration::MAX, |watch| watch.every)
    }

    /// The node serves.
    pub(super) fn ready(&self) {
        match self.kind {
            Some(Kind::Systemd) => self.tell("READY=1\nSTATUS=Ready to accept connections"),
            // SAFETY: sends a signal to this process, which Upstart waits for (`expect stop`) and continues it after.
            Some(Kind::Upstart) => assert_eq!(unsafe { libc::raise(libc::SIGSTOP) }, 0, "a valid signal"),
            None => {}
        }
    }

    /// How far it is, for who asks `systemctl status`.
    pub(super) fn status(&self, what: &str) {
        if self.socket.is_some() {
            self.tell(&format!("STATUS={what}"));
        }
    }

    /// The node ends, within `most` and what the last writes take.
    pub(super) fn stopping(&mut self, most: Duration) {
        if let Some(watch) = &mut self.watch {
            watch.ends = true;
        }
        let most_us = (most + END_MORE).as_micros();
        self.tell(&format!("STOPPING=1\nSTATUS=Ending\nEXTEND_TIMEOUT_USEC={most_us}"));
    }

    /// Pings if it is time and all cores live.
    pub(super) fn ping(&mut self, pulse: &Pulse) {
        if let Some(watch) = &mut self.watch
            && watch.is_due(pulse.counts(), Instant::now())
        {
            self.tell("WATCHDOG=1");
        }
    }

    fn tell(&self, lines: &str) {
        if let Some(socket) = &self.socket
            && let Err(error) = socket.send(lines.as_bytes())
        {
            // A full queue of a busy systemd: the next line comes anyway.
            tracing::debug!("systemd was not told '{}': {error}", lines.replace('\n', ", "));
        }
    }
}

/// A path, or after `@` a name in the abstract namespace.
fn connect(path: &str) -> io::Result<UnixDatagram> {
    let address = match path.strip_prefix('@') {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(path)?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.connect_addr(&address)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// The time after which systemd gives up, if it is this process that it watches.
fn watchdog(usec: Option<&str>, pid: Option<&str>) -> Option<Duration> {
    let meant = pid.is_none_or(|pid| pid.parse() == Ok(std::process::id()));
    let within = usec?.parse().ok().filter(|usec| *usec > 0).map(Duration::from_micros)?;
    meant.then_some(within)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stuck_core_stops_the_pings_until_it_goes_on() {
        // Three cores, pings every second: the first at once, none early, none while the last core stands still, but at the end all the same.
        let begin = Instant::now();
        let at = |ms| begin + Duration::from_millis(ms);
        let mut watch = Watch::new(Duration::from_secs(3), begin);
        assert!(watch.is_due(vec![0, 0, 0], at(0)));
        assert!(!watch.is_due(vec![9, 9, 9], at(999)));
        assert!(watch.is_due(vec![10, 10, 10], at(1000)));
        assert!(!watch.is_due(vec![20, 20, 10], at(2000)));
        assert!(!watch.is_due(vec![30, 30, 10], at(3000)));
        assert!(watch.is_due(vec![31, 31, 11], at(3100)), "it goes on");
        assert!(!watch.is_due(vec![40, 40, 11], at(4200)));
        watch.ends = true;
        assert!(watch.is_due(vec![40, 40, 11], at(4200)), "a core that has ended ticks no more");
    }

    #[test]
    fn the_watchdog_is_for_whom_it_is_meant() {
        // Of the process that systemd has started, not of one that inherited its variables; 0 and nonsense are none.
        let own = std::process::id().to_string();
        assert_eq!(watchdog(Some("3000000"), Some(&own)), Some(Duration::from_secs(3)));
        assert_eq!(watchdog(Some("3000000"), None), Some(Duration::from_secs(3)));
        assert_eq!(watchdog(Some("3000000"), Some("1")), None);
        assert_eq!([Some("0"), Some("x"), None].map(|usec| watchdog(usec, None)), [None; 3]);
    }

    #[test]
    fn it_is_told_in_datagrams_of_lines() {
        // At a path and in the abstract namespace; where nobody listens the node goes on without.
        let dir = std::env::temp_dir().join(format!("eagle-supervisor-{}", std::process::id()));
        std::fs::create_dir(&dir).unwrap();
        let path = dir.join("notify");
        let name = format!("eagle-supervisor-{}", std::process::id());
        let abstract_name = SocketAddr::from_abstract_name(&name).unwrap();
        let sockets = [
            (path.display().to_string(), UnixDatagram::bind(&path).unwrap()),
            (format!("@{name}"), UnixDatagram::bind_addr(&abstract_name).unwrap()),
        ];
        for (path, socket) in sockets {
            let mut supervisor = Supervisor::systemd(&path, Some(Duration::from_secs(3)));
            assert_eq!(supervisor.name(), "systemd");
            let told = || {
                let mut bytes = [0; 200];
                let len = socket.recv(&mut bytes).unwrap();
                String::from_utf8(bytes[..len].to_vec()).unwrap()
            };
            supervisor.status("Loading");
            assert_eq!(told(), "STATUS=Loading");
            supervisor.ready();
            assert_eq!(told(), "READY=1\nSTATUS=Ready to accept connections");
            supervisor.ping(&Pulse::of(1));
            assert_eq!(told(), "WATCHDOG=1");
            supervisor.stopping(Duration::from_secs(10));
            assert_eq!(told(), "STOPPING=1\nSTATUS=Ending\nEXTEND_TIMEOUT_USEC=100000000");
        }
        let gone = Supervisor::systemd(&dir.join("nobody").display().to_string(), None);
        gone.ready();
        assert_eq!(gone.name(), "no");
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
