//! Clients that ask for nothing and hold on: what they cost in memory, and what others notice of them.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::Outcome;
use super::checks::{TIMES_MAX, ended, ping_alone, times};
use crate::client::connect;
use crate::pinger::Pinger;
use crate::server::Server;

/// How long the others are asked.
const DURATION: Duration = Duration::from_secs(4);

/// Each begins a request of many arguments and sends another byte of it whenever its turn comes, some 500 of them a second.
pub(super) fn slowloris(server: &Server) -> Result<Outcome> {
    const CLIENTS: usize = 2000;
    const BYTES_MAX: u64 = 4096;
    let mut pinger = Pinger::connect(server.port)?;
    let alone = ping_alone(&mut pinger)?;
    let before = server.resident_bytes()?;
    let mut clients = Vec::with_capacity(CLIENTS);
    for _ in 0..CLIENTS {
        let mut stream = connect(server.port)?;
        stream.write_all(b"*1000\r\n$3\r\nSET\r\n$100000\r\n")?;
        clients.push(stream);
        pinger.poll()?;
    }
    pinger.take();
    let (mut turn, mut due, started) = (0, Instant::now(), Instant::now());
    while started.elapsed() < DURATION {
        if Instant::now() >= due {
            clients[turn % CLIENTS].write_all(b"x")?;
            turn += 1;
            due += Duration::from_millis(2);
        }
        pinger.poll()?;
    }
    let beside = pinger.take();
    let each = server.resident_bytes()?.saturating_sub(before) / CLIENTS as u64;
    Ok(Outcome::new(
        each <= BYTES_MAX && beside.p99_ms() <= TIMES_MAX * alone.p99_ms(),
        format!("{each} bytes a client; {beside} ({})", times(&beside, &alone)),
    ))
}

/// What may be declared: a million arguments, an argument of 512 MB, a line without an end; and what may not, from a new connection each
/// time, 2000 a second.
pub(super) fn declared(server: &Server) -> Result<Outcome> {
    const CLIENTS: usize = 1000;
    const BYTES_MAX: u64 = 8192;
    let endless = [b'x'; 60 << 10];
    let beginnings: [&[u8]; 3] =
        [b"*1048576\r\n$3\r\nDEL\r\n", b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$536870912\r\n", b"*2\r\n"];
    let refused: [&[u8]; 4] =
        [b"*2147483648\r\n", b"*1\r\n$536870913\r\n", b"*1\r\n$-5\r\n", b"*99999999999999999999\r\n"];
    let mut pinger = Pinger::connect(server.port)?;
    let alone = ping_alone(&mut pinger)?;
    let before = server.resident_bytes()?;
    let mut waiting = Vec::new();
    for number in 0..CLIENTS {
        let mut stream = connect(server.port)?;
        stream.write_all(beginnings[number % beginnings.len()])?;
        waiting.push(stream);
        pinger.poll()?;
    }
    pinger.take();
    let (mut closed, mut tried, mut due, started) = (0, 0, Instant::now(), Instant::now());
    while started.elapsed() < DURATION {
        pinger.poll()?;
        if Instant::now() < due {
            continue;
        }
        due += Duration::from_micros(500);
        let mut stream = connect(server.port)?;
        // It may be closed before all of it was sent.
        let _ = stream.write_all(refused[tried % refused.len()]);
        if tried % refused.len() == 3 {
            let _ = stream.write_all(&endless);
        }
        closed += usize::from(is_closed(&mut stream, &mut pinger)?);
        tried += 1;
    }
    let beside = pinger.take();
    let each = server.resident_bytes()?.saturating_sub(before) / CLIENTS as u64;
    Ok(Outcome::new(
        each <= BYTES_MAX && closed == tried && beside.p99_ms() <= TIMES_MAX * alone.p99_ms(),
        format!(
            "{each} bytes for what was declared; {closed} of {tried} with what may not be were closed; {beside} ({})",
            times(&beside, &alone)
        ),
    ))
}

/// Whether the server says what is wrong and closes.
fn is_closed(stream: &mut TcpStream, pinger: &mut Pinger) -> Result<bool> {
    const PATIENCE: Duration = Duration::from_secs(2);
    stream.set_nonblocking(true)?;
    let (started, mut bytes) = (Instant::now(), [0; 256]);
    while started.elapsed() < PATIENCE {
        match stream.read(&mut bytes) {
            Ok(0) => return Ok(true),
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) if ended(&error) => return Ok(true),
            Err(error) => return Err(error.into()),
        }
        pinger.poll()?;
    }
    Ok(false)
}
