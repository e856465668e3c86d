//! The commands under any bytes: a node of one or two cores goes on, every reply is whole, and its shards are sound.
//!
//! The first byte of an input chooses the node ([`Choice`]), the second seeds delays and the pieces in which the bytes arrive; the
//! rest is what a client sent. Its requests are executed by whole cores in the simulator, so the way from bytes to replies
//! is the real one but for the sockets.

use eagle_node::config::Config;
use eagle_resp::{Decoder, Limits, Requests, value};

use crate::{
    sim::{Plan, Sim},
    wire::encode,
};

/// The longest string that a command may make: it bounds the memory of an input, not what is executed.
const STRING_LEN_MAX: usize = 1 << 20;
/// Turns in which a client gets its replies, or never.
const TURNS_MAX: u64 = 20_000;
/// Turns without a new byte after which no more are expected.
const TURNS_QUIET: u64 = 200;

/// What an input's first byte chooses.
struct Choice {
    cores: u16,
    commits: bool,
}

impl Choice {
    fn of(byte: u8) -> Self {
        Self { cores: 1 + u16::from(byte & 1), commits: byte & 2 != 0 }
    }
}

/// Checks the commands with any input.
///
/// # Panics
/// Something that must hold does not.
pub fn command(data: &[u8]) {
    let [choice, seed, bytes @ ..] = data else { return };
    let Choice { cores, commits } = Choice::of(*choice);
    let plan = Plan { seed: u64::from(*seed), cores, credit: 4, ring: 2, commits, delay_max: 3 };
    let config = Config { proto_max_bulk_len: STRING_LEN_MAX as u64, ..Config::default() };
    let mut sim = Sim::with_config(plan, config);
    let client = sim.connect(0);
    sim.send(client, bytes);
    let (mut seen, mut quiet) = (0, 0);
    for _ in 0..TURNS_MAX {
        sim.step();
        let connection = sim.connection(client);
        quiet = if connection.received.len() == seen && connection.is_read() { quiet + 1 } else { 0 };
        seen = connection.received.len();
        if quiet > TURNS_QUIET {
            break;
        }
    }
    let replies = count(&sim.connection(client).received);
    // Who watches is shown what others, and he before, are served: no replies.
    let watches = bytes.windows(7).any(|word| word.eq_ignore_ascii_case(b"monitor"));
    assert!(watches || replies <= requests(bytes), "at most one reply a request, and one to a protocol error");
    let other = sim.connect(usize::from(cores) - 1);
    sim.send(other, &encode(&[b"PING"]));
    assert!(sim.run_until(TURNS_MAX, |sim| count(&sim.connection(other).received) == 1), "the node goes on");
    for core in &sim.cores {
        core.shard().check().unwrap_or_else(|error| panic!("a shard is not sound: {error:?}"));
    }
}

/// How many whole replies these bytes are; they are nothing else.
fn count(mut bytes: &[u8]) -> usize {
    let mut count = 0;
    while !bytes.is_empty() {
        match value::skip(bytes) {
            Ok(Some(len)) => bytes = &bytes[len..],
            // The rest of a reply may still be on its way.
            Ok(None) => return count,
            Err(error) => panic!("no reply: {error:?} in {:?}", String::from_utf8_lossy(bytes)),
        }
        count += 1;
    }
    count
}

/// How many requests these bytes are, one that is none included.
fn requests(bytes: &[u8]) -> usize {
    let mut requests = Requests::new();
    let limits = Limits { bulk_len_max: STRING_LEN_MAX, ..Limits::default() };
    let decoded = Decoder::new().decode(&mut bytes.to_vec(), 0, &limits, usize::MAX, &mut requests);
    requests.len() + usize::from(decoded.error.is_some())
}
