//! The checks themselves. Each drives its sockets from one thread in small steps, and polls a pinger between them.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use fastrand::Rng;

use super::Outcome;
use crate::client::{connect, encode};
use crate::pinger::{Delays, Pinger};
use crate::replies::Expect;
use crate::requests::{Requests, shuffled};
use crate::server::Server;

/// How often the p99 of others may be what it is without the trouble.
pub(super) const TIMES_MAX: f64 = 2.0;
/// How long a socket may neither take nor give a byte before the server counts as hung.
const STALL_MAX: Duration = Duration::from_secs(60);
/// Bytes sent or read between two looks at the pinger.
const STEP_BYTES: usize = 16 << 10;

/// Readers that never read ask for four times the output limit, one after the other; each must be cut.
pub(super) fn slow_reader(server: &Server) -> Result<Outcome> {
    const LIMIT_BYTES: usize = 32 << 20;
    const VALUE_BYTES: usize = 64 << 10;
    const DURATION: Duration = Duration::from_secs(4);
    let mut client = server.client()?;
    client.expect_ok(&["CONFIG", "SET", "client-output-buffer-limit", &format!("normal {LIMIT_BYTES} 0 0")])?;
    client.expect_ok(&["SET", "value", &"x".repeat(VALUE_BYTES)])?;
    let mut request = Vec::new();
    for _ in 0..4 * LIMIT_BYTES / VALUE_BYTES {
        encode(&mut request, [b"GET".as_slice(), b"value"].into_iter());
    }

    let mut pinger = Pinger::connect(server.port)?;
    let alone = ping_alone(&mut pinger)?;
    let before = server.resident_bytes()?;
    let (mut cut, mut readers) = (0, 0);
    let started = Instant::now();
    while started.elapsed() < DURATION {
        readers += 1;
        cut += usize::from(is_cut(server.port, &request, &mut pinger)?);
    }
    let beside = pinger.take();
    let growth = server.peak_resident_bytes()?.saturating_sub(before);
    let bounded = growth < 4 * LIMIT_BYTES as u64;
    Ok(Outcome::new(
        cut == readers && bounded && beside.p99_ms() <= TIMES_MAX * alone.p99_ms(),
        format!(
            "{cut} of {readers} cut at a limit of {} MB, server grew by {} MB; {beside} ({})",
            LIMIT_BYTES >> 20,
            growth >> 20,
            times(&beside, &alone)
        ),
    ))
}

/// Sends the requests, reads nothing for a while, and then looks whether the connection still lives.
fn is_cut(port: u16, request: &[u8], pinger: &mut Pinger) -> Result<bool> {
    const UNREAD: Duration = Duration::from_millis(300);
    const SILENCE: Duration = Duration::from_secs(2);
    let mut stream = connect(port)?;
    stream.set_nonblocking(true)?;
    let mut sent = 0;
    let started = Instant::now();
    while started.elapsed() < UNREAD {
        match stream.write(&request[sent..]) {
            Ok(count) => sent += count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) if ended(&error) => return Ok(true),
            Err(error) => return Err(error.into()),
        }
        pinger.poll()?;
    }
    // What the kernel still holds comes first; then either the end, or the replies of a server that did not cut.
    let mut last = Instant::now();
    let mut bytes = [0; STEP_BYTES];
    while last.elapsed() < SILENCE {
        match stream.read(&mut bytes) {
            Ok(0) => return Ok(true),
            Ok(_) => last = Instant::now(),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) if ended(&error) => return Ok(true),
            Err(error) => return Err(error.into()),
        }
        pinger.poll()?;
    }
    Ok(false)
}

pub(super) fn ended(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset)
}

/// A second of pings with nothing beside them.
pub(super) fn ping_alone(pinger: &mut Pinger) -> Result<Delays> {
    let started = Instant::now();
    while started.elapsed() < Duration::from_secs(1) {
        pinger.poll()?;
    }
    Ok(pinger.take())
}

/// How many times what it was alone the p99 is.
pub(super) fn times(beside: &Delays, alone: &Delays) -> String {
    format!("p99 {:.1} times the {:.3} ms alone", beside.p99_ms() / alone.p99_ms(), alone.p99_ms())
}

/// As redis-py does with a pipeline: everything is written before anything is read.
pub(super) fn write_first(server: &Server) -> Result<Outcome> {
    const REQUESTS: u32 = 1_000_000;
    const KEYS: u32 = 1000;
    let order: Vec<u32> =
        shuffled(0..REQUESTS, &mut Rng::with_seed(1)).into_iter().map(|number| number % KEYS).collect();
    let keys: Vec<u32> = (0..KEYS).collect();
    let fill = Requests::set(&keys, |_| 64, None);
    let mut stream = connect(server.port)?;
    exchange(&mut stream, &fill)?;

    let started = Instant::now();
    exchange(&mut stream, &Requests::get(&order, 64))?;
    let seconds = started.elapsed().as_secs_f64();
    let peak = server.peak_resident_bytes()? >> 20;
    Ok(Outcome::new(true, format!("all answered in {seconds:.1} s, server's memory at most {peak} MB")))
}

/// Writes all requests, then reads all replies.
fn exchange(stream: &mut TcpStream, requests: &Requests) -> Result<()> {
    stream.set_write_timeout(Some(STALL_MAX))?;
    stream.set_read_timeout(Some(STALL_MAX))?;
    stream.write_all(requests.bytes()).context("the server stopped reading requests")?;
    let mut replies = ReplyReader::new(&requests.expect);
    while replies.count < requests.len() {
        ensure!(replies.read(stream)?, "no reply for {} s after {} of them", STALL_MAX.as_secs(), replies.count);
    }
    Ok(())
}

/// Reads and counts replies of one kind.
struct ReplyReader<'a> {
    expect: &'a Expect,
    buffer: Vec<u8>,
    filled: usize,
    count: usize,
}

impl<'a> ReplyReader<'a> {
    fn new(expect: &'a Expect) -> Self {
        Self { expect, buffer: vec![0; STEP_BYTES], filled: 0, count: 0 }
    }

    /// Reads once; false if there was nothing to read (in the socket's time).
    fn read(&mut self, stream: &mut TcpStream) -> Result<bool> {
        match stream.read(&mut self.buffer[self.filled..]) {
            Ok(0) => bail!("the server closed the connection after {} replies", self.count),
            Ok(count) => self.filled += count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
            Err(error) => return Err(error.into()),
        }
        let found = self.expect.scan(&self.buffer[..self.filled])?;
        self.count += found.replies;
        self.buffer.copy_within(found.bytes..self.filled, 0);
        self.filled -= found.bytes;
        Ok(true)
    }
}

/// One connection sends 100 MB of SETs as fast as they are taken, reading its replies, while another pings.
pub(super) fn pipeline(server: &Server) -> Result<Outcome> {
    const TOTAL_BYTES: usize = 100 << 20;
    let keys: Vec<u32> = shuffled(0..1_000_000, &mut Rng::with_seed(1));
    let requests = Requests::set(&keys, |_| 64, None);
    ensure!(requests.bytes().len() >= TOTAL_BYTES, "the pipeline has only {} bytes", requests.bytes().len());
    let mut pinger = Pinger::connect(server.port)?;
    let alone = ping_alone(&mut pinger)?;

    let mut stream = connect(server.port)?;
    stream.set_nonblocking(true)?;
    let mut replies = ReplyReader::new(&requests.expect);
    let (mut sent, started, mut moved) = (0, Instant::now(), Instant::now());
    while replies.count < requests.len() {
        let step = &requests.bytes()[sent..requests.bytes().len().min(sent + STEP_BYTES)];
        match stream.write(step) {
            Ok(count) => sent += count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(error.into()),
        }
        pinger.poll()?;
        if replies.read(&mut stream)? {
            moved = Instant::now();
        }
        ensure!(moved.elapsed() < STALL_MAX, "no reply for {} s after {} of them", STALL_MAX.as_secs(), replies.count);
        pinger.poll()?;
    }
    let seconds = started.elapsed().as_secs_f64();
    let beside = pinger.take();
    let megabytes = requests.bytes().len() >> 20;
    Ok(Outcome::new(
        beside.p99_ms() <= TIMES_MAX * alone.p99_ms(),
        format!("{megabytes} MB in {seconds:.2} s; {beside} ({})", times(&beside, &alone)),
    ))
}

/// Every byte is a packet of its own, in both grammars of requests.
pub(super) fn byte_wise(server: &Server) -> Result<Outcome> {
    let mut request = Vec::new();
    encode(&mut request, [b"SET".as_slice(), b"key", b"line\r\nbreak"].into_iter());
    encode(&mut request, [b"GET".as_slice(), b"key"].into_iter());
    encode(&mut request, [b"INCR".as_slice(), b"counter"].into_iter());
    request.extend_from_slice(b"SET other \"quoted \\x41\"\r\nGET other\r\nPING\r\n");
    let expected: &[u8] = b"+OK\r\n$11\r\nline\r\nbreak\r\n:1\r\n+OK\r\n$8\r\nquoted A\r\n+PONG\r\n";

    let mut stream = connect(server.port)?;
    stream.set_read_timeout(Some(STALL_MAX))?;
    let started = Instant::now();
    for byte in &request {
        stream.write_all(std::slice::from_ref(byte))?;
        std::thread::sleep(Duration::from_micros(100));
    }
    let mut reply = vec![0; expected.len()];
    stream.read_exact(&mut reply)?;
    let milliseconds = started.elapsed().as_millis();
    let figures = if reply == expected {
        format!("{} bytes, all replies right, in {milliseconds} ms", request.len())
    } else {
        format!("replies differ: {}", reply.escape_ascii())
    };
    Ok(Outcome::new(reply == expected, figures))
}

/// SET and GET of the largest value that Redis allows.
pub(super) fn huge_value(server: &Server) -> Result<Outcome> {
    const BLOCK_BYTES: usize = 1 << 20;
    const BLOCKS: usize = 512;
    let mut rng = Rng::with_seed(1);
    let block: Vec<u8> = std::iter::repeat_with(|| rng.u8(..)).take(BLOCK_BYTES).collect();
    let mut stream = connect(server.port)?;
    stream.set_write_timeout(Some(STALL_MAX))?;
    stream.set_read_timeout(Some(STALL_MAX))?;

    let started = Instant::now();
    stream.write_all(format!("*3\r\n$3\r\nSET\r\n$4\r\nhuge\r\n${}\r\n", BLOCKS * BLOCK_BYTES).as_bytes())?;
    for _ in 0..BLOCKS {
        stream.write_all(&block)?;
    }
    stream.write_all(b"\r\n")?;
    expect_bytes(&mut stream, b"+OK\r\n")?;
    let there = started.elapsed().as_secs_f64();

    let started = Instant::now();
    stream.write_all(b"*2\r\n$3\r\nGET\r\n$4\r\nhuge\r\n")?;
    expect_bytes(&mut stream, format!("${}\r\n", BLOCKS * BLOCK_BYTES).as_bytes())?;
    for _ in 0..BLOCKS {
        expect_bytes(&mut stream, &block)?;
    }
    expect_bytes(&mut stream, b"\r\n")?;
    let back = started.elapsed().as_secs_f64();
    let peak = server.peak_resident_bytes()? >> 20;
    Ok(Outcome::new(true, format!("same bytes; SET {there:.2} s, GET {back:.2} s, server's memory at most {peak} MB")))
}

fn expect_bytes(stream: &mut TcpStream, expected: &[u8]) -> Result<()> {
    let mut bytes = vec![0; expected.len()];
    // An error reply is shorter than a block: read its line before waiting for more.
    let first = stream.read(&mut bytes)?;
    ensure!(first > 0, "the server closed the connection");
    let told = || bytes[..first.min(80)].escape_ascii().to_string();
    ensure!(bytes[..first] == expected[..first], "other bytes came than were expected: {}", told());
    stream.read_exact(&mut bytes[first..])?;
    ensure!(bytes == expected, "other bytes came than were sent");
    Ok(())
}
