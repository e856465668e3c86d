//! The decoder under any bytes: the same requests however the bytes are split, ranges inside the buffer, memory bounded by the
//! bytes that came.
//!
//! The first byte of an input chooses limits and batch size ([`Choice`]), the second seeds the splits; the rest is what a client sent.

use eagle_resp::{Args, Decoder, Limits, Protocol, ProtocolError, Reply, Requests};

/// Heap bytes that decoding may hold for each byte received. The worst are inline requests of one empty word, `''\n`: a range
/// (8), a head (12) and the line as it came (32 and 2) for three bytes, in vectors up to twice as large as needed.
const MEMORY_PER_BYTE: usize = 36;
/// Heap bytes that the first few elements of a vector may take whatever came.
const MEMORY_BASE: usize = 384;

/// What an input's first byte chooses.
struct Choice {
    limits: Limits,
    /// Requests a call of the decoder may return.
    max: usize,
}

impl Choice {
    fn of(byte: u8) -> Self {
        let authenticated = byte & 1 == 0;
        // Small limits are met by small inputs.
        let limits = if byte & 2 == 0 {
            Limits { authenticated, ..Limits::default() }
        } else {
            Limits { bulk_len_max: 24, args_max: 12, inline_len_max: 16, authenticated }
        };
        Self { limits, max: [usize::MAX, 1, 2, 7][usize::from(byte >> 2 & 3)] }
    }
}

/// All that came of some bytes.
#[derive(Debug, PartialEq)]
struct Outcome {
    requests: Vec<Vec<Vec<u8>>>,
    /// Where each request ended.
    ends: Vec<usize>,
    consumed: usize,
    error: Option<ProtocolError>,
}

/// Checks the decoder with any input.
pub fn decode(data: &[u8]) {
    let [choice, seed, bytes @ ..] = data else {
        return;
    };
    let choice = Choice::of(*choice);
    let whole = run(bytes, &choice, [bytes.len()].into_iter());
    let mut random = fastrand::Rng::with_seed(u64::from(*seed));
    let longest = random.usize(1..40);
    let split = run(bytes, &choice, std::iter::repeat_with(|| random.usize(..=longest)));
    assert_eq!(split, whole, "split otherwise, the same bytes give other requests");
    if bytes.len() < 512 {
        assert_eq!(run(bytes, &choice, std::iter::repeat(1)), whole, "byte by byte");
    }
    for request in &whole.requests {
        assert_eq!(encoded_again(request), *request, "a request does not survive being encoded");
    }
}

/// Decodes `bytes`, given in pieces of these lengths. The tail that is not consumed moves to the front of the buffer.
fn run(bytes: &[u8], choice: &Choice, mut pieces: impl Iterator<Item = usize>) -> Outcome {
    let mut decoder = Decoder::new();
    let mut batch = Requests::new();
    let mut outcome = Outcome { requests: vec![], ends: vec![], consumed: 0, error: None };
    let mut buffer = Vec::new();
    let mut rest = bytes;
    while !rest.is_empty() && outcome.error.is_none() {
        let len = pieces.next().expect("enough pieces").min(rest.len());
        buffer.extend_from_slice(&rest[..len]);
        rest = &rest[len..];
        let mut from = 0;
        loop {
            batch.clear();
            let received = buffer.clone();
            let decoded = decoder.decode(&mut buffer, from, &choice.limits, choice.max, &mut batch);
            let memory = decoder.memory() + batch.memory();
            assert!(memory <= MEMORY_BASE + MEMORY_PER_BYTE * (bytes.len() - rest.len()), "holds {memory} bytes");
            assert!(batch.len() <= choice.max, "more requests than asked for");
            let mut restored = buffer.clone();
            batch.restore(from, &mut restored);
            assert_eq!(restored, received, "what was decoded can be decoded again");
            check_places(&batch, &buffer, from, from + decoded.consumed);
            for i in 0..batch.len() {
                outcome.requests.push(batch.args(i, &buffer).iter().map(Vec::from).collect());
                outcome.ends.push(outcome.consumed + batch.end(i) - from);
            }
            from += decoded.consumed;
            outcome.consumed += decoded.consumed;
            outcome.error = decoded.error;
            if decoded.error.is_some() {
                break;
            }
            if batch.len() < choice.max {
                assert!(decoder.is_idle() == (from == buffer.len()), "idle, and bytes are left");
                break;
            }
        }
        buffer.drain(..from);
    }
    outcome
}

/// Requests lie one behind the other between `from` and `to`, and their arguments inside of them in order.
fn check_places(batch: &Requests, buffer: &[u8], from: usize, to: usize) {
    let place = |arg: &[u8]| arg.as_ptr() as usize - buffer.as_ptr() as usize;
    let mut at = from;
    for i in 0..batch.len() {
        assert!(!batch.args(i, buffer).is_empty(), "a request has a name");
        for arg in batch.args(i, buffer) {
            assert!(place(arg) >= at, "arguments overlap");
            at = place(arg) + arg.len();
        }
        assert!(batch.end(i) >= at && batch.end(i) <= to, "a request ends where it lies");
        at = batch.end(i);
    }
}

/// The request after one more way over the wire, as multibulk.
fn encoded_again(request: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut reply = Reply::new(&mut bytes, Protocol::Resp2);
    reply.array(request.len());
    request.iter().for_each(|arg| reply.bulk(arg));
    let mut batch = Requests::new();
    let decoded = Decoder::new().decode(&mut bytes, 0, &Limits::default(), 1, &mut batch);
    assert_eq!((decoded.consumed, decoded.error), (bytes.len(), None));
    let args: Args<'_> = batch.args(0, &bytes);
    args.iter().map(Vec::from).collect()
}
