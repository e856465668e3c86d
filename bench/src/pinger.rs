//! A client that sends a PING now and then and notes how long its PONG takes: what a bystander feels.
//!
//! It never blocks: whoever makes trouble in the same thread polls it between two small steps. A PONG counts as received when the kernel
//! had it (`SO_TIMESTAMPNS`), so that the figures are the server's delays, and such a step is no part of them.

use std::fmt;
use std::io::{ErrorKind, IoSliceMut, Write};
use std::net::TcpStream;
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Result, ensure};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg, setsockopt, sockopt};
use nix::sys::time::TimeSpec;

use crate::client::connect;
use crate::report::quantile;

/// From one PONG to the next PING.
const PAUSE: Duration = Duration::from_micros(200);
const REQUEST: &[u8] = b"*1\r\n$4\r\nPING\r\n";
const REPLY: &[u8] = b"+PONG\r\n";

/// The bystander.
pub(crate) struct Pinger {
    stream: TcpStream,
    /// When the PING was sent that has no PONG yet.
    sent: Option<SystemTime>,
    /// When the next PING is due.
    due: Instant,
    /// What has come of the PONG.
    received: Vec<u8>,
    milliseconds: Vec<f64>,
}

impl Pinger {
    /// A pinger connected to the port.
    pub(crate) fn connect(port: u16) -> Result<Self> {
        let stream = connect(port)?;
        stream.set_nonblocking(true)?;
        setsockopt(&stream, sockopt::ReceiveTimestampns, &true)?;
        Ok(Self { stream, sent: None, due: Instant::now(), received: Vec::new(), milliseconds: Vec::new() })
    }

    /// Sends a PING if one is due, or takes a PONG if one has come.
    pub(crate) fn poll(&mut self) -> Result<()> {
        let Some(sent) = self.sent else {
            if Instant::now() >= self.due {
                self.sent = Some(SystemTime::now());
                self.stream.write_all(REQUEST)?;
            }
            return Ok(());
        };
        let Some(arrived) = self.receive()? else { return Ok(()) };
        if self.received.len() >= REPLY.len() {
            ensure!(self.received == REPLY, "a PING got {}", String::from_utf8_lossy(&self.received));
            self.received.clear();
            self.milliseconds.push(milliseconds(sent, arrived));
            self.sent = None;
            self.due = Instant::now() + PAUSE;
        }
        Ok(())
    }

    /// Receives what is there of a PONG, and when the kernel had it.
    fn receive(&mut self) -> Result<Option<SystemTime>> {
        let mut bytes = [0; REPLY.len()];
        let mut space = nix::cmsg_space!(TimeSpec);
        let mut into = [IoSliceMut::new(&mut bytes)];
        let got = match recvmsg::<()>(self.stream.as_raw_fd(), &mut into, Some(&mut space), MsgFlags::empty()) {
            Ok(got) => got,
            Err(error) if std::io::Error::from(error).kind() == ErrorKind::WouldBlock => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        ensure!(got.bytes > 0, "the server closed the pinger's connection");
        let stamp = got.cmsgs()?.find_map(|message| match message {
            ControlMessageOwned::ScmTimestampns(time) => Some(SystemTime::UNIX_EPOCH + Duration::from(time)),
            _ => None,
        });
        let count = got.bytes;
        self.received.extend_from_slice(&bytes[..count]);
        // The kernel begins to take the time soon after it was asked to, not at once.
        Ok(Some(stamp.unwrap_or_else(SystemTime::now)))
    }

    /// The delays so far, which it forgets. A PING still unanswered counts with the time that it has waited.
    pub(crate) fn take(&mut self) -> Delays {
        let mut sorted = std::mem::take(&mut self.milliseconds);
        sorted.extend(self.sent.map(|sent| milliseconds(sent, SystemTime::now())));
        sorted.sort_by(f64::total_cmp);
        Delays { sorted }
    }
}

/// From one to the other; nothing, should the clock have been set back between.
fn milliseconds(from: SystemTime, to: SystemTime) -> f64 {
    to.duration_since(from).unwrap_or_default().as_secs_f64() * 1e3
}

/// How long PINGs took, in milliseconds.
pub(crate) struct Delays {
    sorted: Vec<f64>,
}

impl Delays {
    /// The delay that 99 of 100 stayed below; without any ping, endless.
    pub(crate) fn p99_ms(&self) -> f64 {
        if self.sorted.is_empty() { f64::INFINITY } else { quantile(&self.sorted, 0.99) }
    }

    /// The longest delay; without any ping, endless.
    pub(crate) fn longest_ms(&self) -> f64 {
        self.sorted.last().copied().unwrap_or(f64::INFINITY)
    }

    /// How many PINGs there were.
    pub(crate) fn len(&self) -> usize {
        self.sorted.len()
    }
}

impl fmt::Display for Delays {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(longest) = self.sorted.last() else {
            return f.write_str("no ping");
        };
        let middle = quantile(&self.sorted, 0.5);
        write!(
            f,
            "{} pings: p50 {middle:.3} ms, p99 {:.3} ms, longest {longest:.1} ms",
            self.sorted.len(),
            self.p99_ms()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::net::TcpListener;

    #[test]
    fn a_delayed_pong_shows_in_the_delays() {
        // A server that takes 5 ms for each PONG is seen to; what was taken is forgotten.
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        std::thread::spawn(move || {
            let mut stream = listener.accept().unwrap().0;
            let mut request = [0; REQUEST.len()];
            while stream.read_exact(&mut request).is_ok() {
                std::thread::sleep(Duration::from_millis(5));
                stream.write_all(REPLY).unwrap();
            }
        });
        let mut pinger = Pinger::connect(port).unwrap();
        while pinger.milliseconds.len() < 3 {
            pinger.poll().unwrap();
        }
        let delays = pinger.take();
        assert!(delays.sorted[0] >= 5.0, "{delays}");
        assert!(pinger.milliseconds.is_empty());
    }
}
