//! The load generator: one thread, many connections, each with one pipeline of requests in flight at a time.
//!
//! It must cost much less than the server, else it is what gets measured. So requests are encoded before (see
//! [`crate::requests`]), a batch is one write, sockets are registered with epoll once (edge-triggered, both
//! directions), and replies are counted by [`Expect::scan`](crate::replies::Expect::scan) where they were read. It sleeps when
//! there is nothing to do, as real clients do, so that the server pays for waking it.
//!
//! What always holds: a connection has either no request in flight or one batch; `awaiting` counts its
//! unanswered requests, and every reply was of the kind that the request asked for, or the run fails.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use fastrand::Rng;
use hdrhistogram::Histogram;
use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};

use crate::client::connect;
use crate::requests::Requests;

/// Bytes read at once from a connection.
const READ_BYTES: usize = 256 << 10;
/// How long all connections may stay silent before the run counts as hung.
const SILENCE_MAX: Timespec = Timespec { tv_sec: 30, tv_nsec: 0 };

/// When a run ends.
#[derive(Clone, Copy)]
pub(crate) enum Goal {
    /// When every request of every list was answered once, in order.
    Once,
    /// After this time; each batch begins at a random request of its list.
    For(Duration),
}

/// What a run did.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tally {
    /// Requests answered.
    pub(crate) requests: u64,
    /// From the first request to the last reply.
    pub(crate) seconds: f64,
}

impl Tally {
    /// Requests a second.
    pub(crate) fn rate(self) -> f64 {
        self.requests as f64 / self.seconds
    }
}

/// Open connections to one server.
pub(crate) struct Generator {
    epoll: OwnedFd,
    connections: Vec<Connection>,
    incoming: Vec<u8>,
    /// Nanoseconds from a batch's first byte to its last reply.
    delays: Histogram<u64>,
}

struct Connection {
    stream: Wire,
    /// Which list its requests are taken from.
    list: usize,
    /// Bytes of the list that are not sent yet.
    unsent: Range<usize>,
    /// Requests without a reply.
    awaiting: usize,
    /// When its batch began.
    begun: Instant,
    /// The beginning of a reply whose end has not come yet.
    carry: Vec<u8>,
}

impl Generator {
    /// Opens this many connections to a port of this machine.
    pub(crate) fn connect(port: u16, connections: usize) -> Result<Self> {
        let streams = (0..connections).map(|_| connect(port)).collect::<Result<_>>()?;
        Self::over(streams, |_| 0)
    }

    /// Takes connections that are open; `list` says for each by its number which list it sends from.
    pub(crate) fn over(streams: Vec<TcpStream>, list: impl Fn(usize) -> usize) -> Result<Self> {
        Self::over_wires(streams.into_iter().map(Wire::Plain).collect(), list)
    }

    /// The same of connections of any kind.
    pub(crate) fn over_wires(streams: Vec<Wire>, list: impl Fn(usize) -> usize) -> Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let mut connections = Vec::with_capacity(streams.len());
        for (number, stream) in streams.into_iter().enumerate() {
            stream.socket().set_nonblocking(true)?;
            let flags = epoll::EventFlags::IN | epoll::EventFlags::OUT | epoll::EventFlags::ET;
            epoll::add(&epoll, stream.socket(), epoll::EventData::new_u64(number as u64), flags)?;
            let (list, begun) = (list(number), Instant::now());
            connections.push(Connection { stream, list, unsent: 0..0, awaiting: 0, begun, carry: Vec::new() });
        }
        Ok(Self { epoll, connections, incoming: vec![0; READ_BYTES], delays: no_delays() })
    }

    /// How many nanoseconds each batch took since this was asked last.
    pub(crate) fn take_delays(&mut self) -> Histogram<u64> {
        std::mem::replace(&mut self.delays, no_delays())
    }

    /// Sends requests from the lists, `pipeline` at a time on each connection, and waits for every reply.
    ///
    /// # Errors
    /// An unexpected reply, a closed connection, or silence of all connections for 30 s.
    pub(crate) fn run(&mut self, lists: &[&Requests], pipeline: usize, goal: Goal) -> Result<Tally> {
        let started = Instant::now();
        let mut feed = Feed::new(lists, pipeline, goal);
        let mut busy = 0;
        for connection in &mut self.connections {
            busy += usize::from(connection.begin(&mut feed)?);
        }
        let mut events = Vec::with_capacity(self.connections.len().max(1));
        let mut requests = 0;
        while busy > 0 {
            let ready = epoll::wait(&self.epoll, spare_capacity(&mut events), Some(&SILENCE_MAX))?;
            ensure!(ready > 0, "the server has been silent for {} s", SILENCE_MAX.tv_sec);
            if let Goal::For(duration) = goal {
                feed.over = started.elapsed() >= duration;
            }
            for event in events.drain(..) {
                let connection = &mut self.connections[event.data.u64() as usize];
                connection.flush(feed.lists[connection.list])?;
                if connection.awaiting == 0 {
                    continue;
                }
                let list = feed.lists[connection.list];
                requests += connection.receive(list, &mut self.incoming)?;
                if connection.awaiting == 0 {
                    self.delays.saturating_record(connection.begun.elapsed().as_nanos() as u64);
                    busy -= usize::from(!connection.begin(&mut feed)?);
                }
            }
        }
        Ok(Tally { requests, seconds: started.elapsed().as_secs_f64() })
    }
}

/// A connection, as plain as it is or within TLS.
pub(crate) enum Wire {
    /// The bare socket.
    Plain(TcpStream),
    /// TLS on it.
    Tls(Box<rustls::StreamOwned<rustls::ClientConnection, TcpStream>>),
}

impl Wire {
    fn socket(&self) -> &TcpStream {
        match self {
            Wire::Plain(stream) => stream,
            Wire::Tls(stream) => stream.get_ref(),
        }
    }
}

impl Read for Wire {
    fn read(&mut self, bytes: &mut [u8]) -> std::io::Result<usize> {
        match self {
            Wire::Plain(stream) => stream.read(bytes),
            Wire::Tls(stream) => stream.read(bytes),
        }
    }
}

impl Write for Wire {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        match self {
            Wire::Plain(stream) => stream.write(bytes),
            Wire::Tls(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        match self {
            Wire::Plain(stream) => stream.flush(),
            Wire::Tls(stream) => stream.flush(),
        }
    }
}

/// A minute at most, to the thousandth.
pub(crate) fn no_delays() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 60_000_000_000, 3).expect("bounds that a histogram can have")
}

impl Connection {
    /// Takes the next batch of its list and sends it; false if there is none.
    fn begin(&mut self, feed: &mut Feed<'_>) -> Result<bool> {
        let Some((range, count)) = feed.next(self.list) else {
            return Ok(false);
        };
        self.unsent = range;
        self.awaiting = count;
        self.begun = Instant::now();
        self.flush(feed.lists[self.list])?;
        Ok(true)
    }

    /// Sends as much as the socket takes.
    fn flush(&mut self, list: &Requests) -> Result<()> {
        while !self.unsent.is_empty() {
            match self.stream.write(&list.bytes()[self.unsent.clone()]) {
                Ok(sent) => self.unsent.start += sent,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error).context("sending to the server"),
            }
        }
        match self.stream.flush() {
            Err(error) if error.kind() != ErrorKind::WouldBlock => Err(error).context("sending to the server"),
            _ => Ok(()),
        }
    }

    /// Reads what has come; returns the number of replies in it.
    fn receive(&mut self, list: &Requests, incoming: &mut [u8]) -> Result<u64> {
        let before = self.awaiting;
        loop {
            let kept = self.carry.len();
            incoming[..kept].copy_from_slice(&self.carry);
            let count = match self.stream.read(&mut incoming[kept..]) {
                Ok(0) => bail!("the server closed a connection with {} replies to come", self.awaiting),
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(error).context("reading from the server"),
            };
            let found = list.expect.scan(&incoming[..kept + count])?;
            ensure!(found.replies <= self.awaiting, "more replies came than requests were sent");
            self.awaiting -= found.replies;
            self.carry.clear();
            self.carry.extend_from_slice(&incoming[found.bytes..kept + count]);
            // A read that was not filled has emptied the socket; what comes later is a new event. TLS gives a record at a time.
            if kept + count < incoming.len() && matches!(self.stream, Wire::Plain(_)) {
                break;
            }
        }
        Ok((before - self.awaiting) as u64)
    }
}

/// Deals out batches: from each list in order, or from random places until the time is over.
struct Feed<'a> {
    lists: &'a [&'a Requests],
    pipeline: usize,
    goal: Goal,
    next: Vec<usize>,
    over: bool,
    rng: Rng,
}

impl<'a> Feed<'a> {
    fn new(lists: &'a [&'a Requests], pipeline: usize, goal: Goal) -> Self {
        // The seed is fixed: every server gets the same kind of sequence.
        Self { lists, pipeline, goal, next: vec![0; lists.len()], over: false, rng: Rng::with_seed(0x0ea9_1edb) }
    }

    /// Where the next batch of a list stands in its bytes, and how many requests it has.
    fn next(&mut self, list: usize) -> Option<(Range<usize>, usize)> {
        let requests = self.lists[list];
        let (first, count) = match self.goal {
            Goal::Once => {
                let first = self.next[list];
                let count = self.pipeline.min(requests.len() - first);
                self.next[list] += count;
                (first, count)
            }
            Goal::For(_) if self.over => return None,
            Goal::For(_) => {
                let count = self.pipeline.min(requests.len());
                (self.rng.usize(0..=requests.len() - count), count)
            }
        };
        (count > 0).then(|| (requests.range(first, count), count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn once_deals_each_request_out_once_whatever_the_pipeline() {
        // Shared out over connections, each request of a pass is sent exactly once.
        let requests = Requests::ping(10);
        let lists = [&requests];
        let mut feed = Feed::new(&lists, 4, Goal::Once);
        let counts: Vec<usize> = std::iter::from_fn(|| feed.next(0)).map(|(_, count)| count).collect();
        assert_eq!(counts, [4, 4, 2]);
    }

    #[test]
    fn every_request_is_answered_over_a_server_that_answers_in_pieces() {
        // The server echoes one +PONG a request, in writes that end anywhere.
        let port = serve(|request_count| "+PONG\r\n".repeat(request_count).into_bytes());
        let mut generator = Generator::connect(port, 3).unwrap();
        let requests = Requests::ping(1000);
        let tally = generator.run(&[&requests], 7, Goal::Once).unwrap();
        assert_eq!(tally.requests, 1000);
    }

    #[test]
    fn an_error_reply_ends_the_run_with_its_text() {
        let port = serve(|_| b"-OOM out of memory\r\n".to_vec());
        let mut generator = Generator::connect(port, 1).unwrap();
        let error = generator.run(&[&Requests::ping(1)], 1, Goal::Once).unwrap_err();
        assert_eq!(error.to_string(), "unexpected reply: -OOM out of memory");
    }

    /// A server on a port of its own that answers PINGs with what `answer` makes of their number, ten bytes a write.
    fn serve(answer: fn(usize) -> Vec<u8>) -> u16 {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                std::thread::spawn(move || {
                    let mut stream = stream.unwrap();
                    let (mut bytes, mut buffer) = (0, [0; 4096]);
                    let request_bytes = Requests::ping(1).bytes().len();
                    while let Ok(count @ 1..) = stream.read(&mut buffer) {
                        bytes += count;
                        for piece in answer(bytes / request_bytes).chunks(10) {
                            if stream.write_all(piece).is_err() {
                                return;
                            }
                        }
                        bytes %= request_bytes;
                    }
                });
            }
        });
        port
    }
}
