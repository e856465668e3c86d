//! A client that sends a PING now and then and notes how long its PONG takes: what a bystander feels.
//!
//! It never blocks: whoever makes trouble in the same thread polls it between two small steps, so that its figures are the server's
//! delays, to within one such step.

use std::fmt;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};

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
    sent: Option<Instant>,
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
        Ok(Self { stream, sent: None, due: Instant::now(), received: Vec::new(), milliseconds: Vec::new() })
    }

    /// Sends a PING if one is due, or takes a PONG if one has come.
    pub(crate) fn poll(&mut self) -> Result<()> {
        let Some(sent) = self.sent else {
            if Instant::now() >= self.due {
                self.sent = Some(Instant::now());
                self.stream.write_all(REQUEST)?;
            }
            return Ok(());
        };
        let mut bytes = [0; REPLY.len()];
        match self.stream.read(&mut bytes) {
            Ok(0) => bail!("the server closed the pinger's connection"),
            Ok(count) => self.received.extend_from_slice(&bytes[..count]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error.into()),
        }
        if self.received.len() >= REPLY.len() {
            ensure!(self.received == REPLY, "a PING got {}", String::from_utf8_lossy(&self.received));
            self.received.clear();
            self.milliseconds.push(sent.elapsed().as_secs_f64() * 1e3);
            self.sent = None;
            self.due = Instant::now() + PAUSE;
        }
        Ok(())
    }

    /// The delays so far, which it forgets. A PING still unanswered counts with the time that it has waited.
    pub(crate) fn take(&mut self) -> Delays {
        let mut sorted = std::mem::take(&mut self.milliseconds);
        sorted.extend(self.sent.map(|sent| sent.elapsed().as_secs_f64() * 1e3));
        sorted.sort_by(f64::total_cmp);
        Delays { sorted }
    }
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
