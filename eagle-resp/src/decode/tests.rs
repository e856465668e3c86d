//! The decoder's tests: every boundary, every error, every limit, random requests, and what it may cost.

use super::*;

/// Requests as lists of arguments, the bytes they took, and the error behind them.
#[derive(Debug, PartialEq)]
struct Outcome {
    requests: Vec<Vec<Vec<u8>>>,
    consumed: usize,
    error: Option<ProtocolError>,
}

/// Decodes `bytes` given in pieces of the lengths of `pieces` (and the rest at once), at most `max` requests a call. The unconsumed
/// tail moves to the front of the buffer, or to another place of it, before each piece.
fn decode(bytes: &[u8], limits: &Limits, pieces: impl Iterator<Item = usize>, max: usize) -> Outcome {
    let mut decoder = Decoder::new();
    let mut batch = Requests::new();
    let mut outcome = Outcome { requests: Vec::new(), consumed: 0, error: None };
    let mut rest = bytes;
    let mut buffer = Vec::new();
    for piece in pieces.chain([bytes.len()]) {
        let (piece, behind) = rest.split_at(piece.min(rest.len()));
        rest = behind;
        let mut from = buffer.len() % 3;
        buffer.splice(..0, vec![b'?'; from]);
        buffer.extend_from_slice(piece);
        loop {
            batch.clear();
            let decoded = decoder.decode(&mut buffer, from, limits, max, &mut batch);
            for i in 0..batch.len() {
                outcome.requests.push(batch.args(i, &buffer).iter().map(Vec::from).collect());
            }
            from += decoded.consumed;
            outcome.consumed += decoded.consumed;
            outcome.error = decoded.error;
            if decoded.consumed == 0 || decoded.error.is_some() {
                break;
            }
        }
        if outcome.error.is_some() {
            break;
        }
        buffer.drain(..from);
    }
    outcome
}

fn whole(bytes: &[u8], limits: &Limits) -> Outcome {
    decode(bytes, limits, std::iter::empty(), usize::MAX)
}

fn words(request: &[&[u8]]) -> Vec<Vec<u8>> {
    request.iter().map(|word| word.to_vec()).collect()
}

#[test]
fn every_boundary_gives_the_same_requests() {
    // A pipeline of both kinds gives the same requests when cut once at any byte, and in pieces of any size.
    let bytes = b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$0\r\n\r\n\r\nPING\r\nset 'a b' \"\\x41\\n\"\n*0\r\n*-1\r\n \r\n*12\r\n\
        $3\r\ndel\r\n$1\r\na\r\n$1\r\nb\r\n$1\r\nc\r\n$1\r\nd\r\n$1\r\ne\r\n$1\r\nf\r\n$1\r\ng\r\n$1\r\nh\r\n$1\r\ni\r\n$11\r\n\r\n$1\r\n\r\n\r\n*\r\n$1\r\nk\r\n\
        *1\r\n$4\r\nPING\r\n";
    let limits = Limits::default();
    let all = whole(bytes, &limits);
    assert_eq!(all.requests.len(), 5);
    assert_eq!(all.requests[0], words(&[b"SET", b"k", b""]));
    assert_eq!(all.requests[1], words(&[b"PING"]));
    assert_eq!(all.requests[2], words(&[b"set", b"a b", b"A\n"]));
    assert_eq!(all.requests[3][10], b"\r\n$1\r\n\r\n\r\n*");
    assert_eq!(all.consumed, bytes.len());
    for at in 0..bytes.len() {
        assert_eq!(decode(bytes, &limits, [at].into_iter(), usize::MAX), all, "cut at {at}");
        assert_eq!(decode(bytes, &limits, std::iter::repeat_n(at + 1, bytes.len()), 1), all, "pieces of {at}");
    }
}

#[test]
fn errors_are_those_of_redis() {
    // Bytes that are no request, the error for them, and that requests before it count, however they are cut.
    use ProtocolError::*;
    let long = "1".repeat(64 * 1024 + 1);
    let rows: &[(&[u8], ProtocolError)] = &[
        (b"*\r\n", MultibulkLength),
        (b"*a\r\n", MultibulkLength),
        (b"*+1\r\n", MultibulkLength),
        (b"*01\r\n", MultibulkLength),
        (b"*-0\r\n", MultibulkLength),
        (b"*1 \r\n", MultibulkLength),
        (b"*1\0\r\n", MultibulkLength),
        (b"*1048577\r\n", MultibulkLength),
        (b"*9999999999999999999\r\n", MultibulkLength),
        (b"*99999999999999999999999\r\n", MultibulkLength),
        (b"*1\r\n$\r\n", BulkLength),
        (b"*1\r\n$-1\r\n", BulkLength),
        (b"*1\r\n$01\r\n", BulkLength),
        (b"*1\r\n$+1\r\n", BulkLength),
        (b"*1\r\n$4x\r\n", BulkLength),
        (b"*1\r\n$536870913\r\n", BulkLength),
        (b"*1\r\n$4294967296\r\n", BulkLength),
        (b"*1\r\n$18446744073709551616\r\n", BulkLength),
        (b"*1\r\nfoo\r\n", ExpectedBulk(b'f')),
        (b"*1\r\n\r\n", ExpectedBulk(b'\r')),
        (b"*1\r\n\n\r\n", ExpectedBulk(b'\n')),
        (b"*2\r\n$1\r\nab\r\n$1\r\nc\r\n", ExpectedBulk(b'\n')),
        (b"*2\r\n$1\r\na\r\n*1\r\nb\r\n", ExpectedBulk(b'*')),
        (b"get \"k\r\n", UnbalancedQuotes),
        (b"get 'k\r\n", UnbalancedQuotes),
        (b"get \"a\"b\r\n", UnbalancedQuotes),
        (b"get 'a'b\r\n", UnbalancedQuotes),
        (b"get 'a\\'\r\n", UnbalancedQuotes),
        (long.as_bytes(), InlineTooBig),
        (&[b"*", long.as_bytes()].concat(), MultibulkCountTooBig),
        (&[b"*1\r\n$", long.as_bytes()].concat(), BulkCountTooBig),
        (&[b"*1\r\nx", long.as_bytes(), b"\r\n"].concat(), BulkCountTooBig),
    ];
    let limits = Limits::default();
    for (bytes, error) in rows {
        let shown = bytes[..bytes.len().min(40)].escape_ascii();
        let bytes = [b"PING\r\n*1\r\n$4\r\nPING\r\n", *bytes].concat();
        let outcome = whole(&bytes, &limits);
        assert_eq!(outcome.error, Some(*error), "{shown}");
        assert_eq!(outcome.requests, [words(&[b"PING"]), words(&[b"PING"])], "{shown}");
        assert_eq!(outcome.consumed, 20);
        let step = if bytes.len() < 100 { 1 } else { 997 };
        let cut = decode(&bytes, &limits, std::iter::repeat_n(step, bytes.len()), usize::MAX);
        assert_eq!(cut, outcome, "{shown} in pieces");
    }
}

#[test]
fn limits_hold_to_the_byte() {
    // The longest line, the longest argument and the most arguments are taken; one more is not.
    let limits = Limits { bulk_len_max: 100, args_max: 12, inline_len_max: 50, authenticated: true };
    let inline = |len: usize| [vec![b'x'; len], b"\n".to_vec()].concat();
    assert_eq!(whole(&inline(50), &limits).requests, [words(&[&[b'x'; 50]])]);
    assert_eq!(whole(&inline(51), &limits).error, Some(ProtocolError::InlineTooBig));
    assert_eq!(whole(b"*1\r\n$100\r\n", &limits).error, None);
    assert_eq!(whole(b"*1\r\n$101\r\n", &limits).error, Some(ProtocolError::BulkLength));
    assert_eq!(whole(b"*12\r\n", &limits).error, None);
    assert_eq!(whole(b"*13\r\n", &limits).error, Some(ProtocolError::MultibulkLength));
    let widest = Limits { bulk_len_max: usize::MAX, args_max: usize::MAX, ..limits };
    assert_eq!(whole(b"*4294967295\r\n$4294967282\r\n", &widest).error, Some(ProtocolError::BulkLength));
    assert_eq!(whole(b"*4294967295\r\n$4294967200\r\n", &widest).error, None);
    assert_eq!(whole(b"*4294967296\r\n", &widest).error, Some(ProtocolError::MultibulkLength));
}

#[test]
fn strangers_may_say_little() {
    // Before it has authenticated a client may send 10 arguments of 16 KiB, enough for AUTH; not more.
    let limits = Limits { authenticated: false, ..Limits::default() };
    let mut auth = Vec::new();
    crate::Reply::new(&mut auth, crate::Protocol::Resp2).array(10);
    for _ in 0..10 {
        crate::Reply::new(&mut auth, crate::Protocol::Resp2).bulk(&[b'x'; 16 * 1024]);
    }
    assert_eq!(whole(&auth, &limits).requests.len(), 1);
    let error = |bytes: &[u8]| whole(bytes, &limits).error;
    assert_eq!(error(b"*11\r\n"), Some(ProtocolError::UnauthenticatedMultibulkLength));
    assert_eq!(error(b"*1\r\n$16385\r\n"), Some(ProtocolError::UnauthenticatedBulkLength));
    assert_eq!(error(b"*1048577\r\n"), Some(ProtocolError::MultibulkLength));
    assert_eq!(error(b"*1\r\n$536870913\r\n"), Some(ProtocolError::BulkLength));
}

#[test]
fn random_requests_come_out_as_they_went_in() {
    // Random requests of both kinds, between lines that ask for nothing, cut at random: the same arguments come out.
    let mut random = crate::test_random();
    for _ in 0..1000 {
        let mut bytes = Vec::new();
        let mut expected = Vec::new();
        for _ in 0..random.usize(..12) {
            match random.u8(..8) {
                0 => {
                    bytes
                        .extend_from_slice([&b"\r\n"[..], b"\n", b"*0\r\n", b"*-7\r\n", b" \t\r\n"][random.usize(..5)]);
                }
                1 | 2 => expected.push(push_inline(&mut bytes, &mut random)),
                _ => expected.push(push_multibulk(&mut bytes, &mut random)),
            }
        }
        let outcome = Outcome { requests: expected, consumed: bytes.len(), error: None };
        let limits = Limits::default();
        assert_eq!(whole(&bytes, &limits), outcome);
        let (longest, max) = (random.usize(1..40), random.usize(1..4));
        let mut pieces = random.fork();
        let pieces = (0..bytes.len()).map(|_| pieces.usize(..=longest));
        assert_eq!(decode(&bytes, &limits, pieces, max), outcome);
    }
}

fn push_multibulk(bytes: &mut Vec<u8>, random: &mut fastrand::Rng) -> Vec<Vec<u8>> {
    let argc = if random.u8(..20) == 0 { 300 } else { random.usize(1..14) };
    let args: Vec<Vec<u8>> = (0..argc)
        .map(|_| {
            let len = if random.u8(..20) == 0 { random.usize(..2000) } else { random.usize(..20) };
            (0..len).map(|_| b"\r\n$*019x\0\xff"[random.usize(..10)]).collect()
        })
        .collect();
    let mut reply = crate::Reply::new(bytes, crate::Protocol::Resp2);
    reply.array(argc);
    args.iter().for_each(|arg| reply.bulk(arg));
    args
}

fn push_inline(bytes: &mut Vec<u8>, random: &mut fastrand::Rng) -> Vec<Vec<u8>> {
    let args: Vec<Vec<u8>> = (0..random.usize(1..6))
        .map(|i| {
            (0..random.usize(usize::from(i == 0)..8)).map(|_| b"ab\\ '\"\n\r\t\0\xff"[random.usize(..11)]).collect()
        })
        .collect();
    for (i, arg) in args.iter().enumerate() {
        bytes.extend_from_slice(if i == 0 { b"" } else { [&b" "[..], b"  ", b"\t", b"\x0b "][random.usize(..4)] });
        bytes.push(b'"');
        for byte in arg {
            match byte {
                b'\n' => bytes.extend_from_slice(b"\\n"),
                b'"' | b'\\' => bytes.extend_from_slice(&[b'\\', *byte]),
                0 | 0xff => bytes.extend_from_slice(format!("\\x{byte:02X}").as_bytes()),
                _ => bytes.push(*byte),
            }
        }
        bytes.push(b'"');
    }
    bytes.extend_from_slice(if random.bool() { b"\r\n" } else { b"\n" });
    args
}

#[test]
fn a_byte_at_a_time_takes_linear_time() {
    // A request of 100,000 arguments, a byte a call, is never read twice: quadratic work would be 10^11 steps. What it
    // holds is bounded by the bytes that came, and given back after.
    let mut bytes = b"*100000\r\n".to_vec();
    bytes.extend_from_slice(&b"$1\r\nx\r\n".repeat(100_000));
    let mut decoder = Decoder::new();
    let mut requests = Requests::new();
    for end in 1..=bytes.len() {
        let decoded = decoder.decode(&mut bytes[..end], 0, &Limits::default(), 1, &mut requests);
        assert_eq!(decoded.consumed, if end < 700_009 { 0 } else { end });
        assert!(decoder.memory() <= 32 + 3 * end, "{} bytes after {end}", decoder.memory());
    }
    assert_eq!(requests.args(0, &bytes).len(), 100_000);
    assert!(decoder.is_idle() && decoder.memory() <= 128);
}

#[test]
fn a_length_allocates_nothing() {
    // The largest lengths that are allowed, without the bytes they announce, hold next to no memory.
    let mut decoder = Decoder::new();
    let mut requests = Requests::new();
    let mut bytes = b"*1048576\r\n$536870912\r\nx".to_vec();
    let decoded = decoder.decode(&mut bytes, 0, &Limits::default(), 1, &mut requests);
    assert_eq!(decoded, Decoded { consumed: 0, need: 536_870_912 + 1, error: None });
    assert!(decoder.memory() <= 64 && requests.memory() == 0);
}

#[test]
fn what_is_needed_is_told() {
    // While an argument is in hand, the bytes it lacks are told exactly; else nothing is known.
    let bytes = b"*2\r\n$3\r\nGET\r\n$5\r\nabcde\r\n";
    let needs: Vec<usize> = (0..bytes.len())
        .map(|len| {
            Decoder::new().decode(&mut bytes[..len].to_vec(), 0, &Limits::default(), 1, &mut Requests::new()).need
        })
        .collect();
    assert_eq!(needs, [0, 0, 0, 0, 0, 0, 0, 0, 5, 4, 3, 2, 1, 0, 0, 0, 0, 7, 6, 5, 4, 3, 2, 1]);
}

#[test]
fn unescaped_lines_are_restored_from_a_position_on() {
    // A batch of which only the first request was executed is decoded again, and its quoted lines are the same words; a line
    // that is no request is left as it came at once.
    let sent = b"set a '1 2'\r\nset b \"3\\t4\"\r\nset c '5\"6'\r\nset d '7'8\r\n";
    let mut bytes = sent.to_vec();
    let mut batch = Requests::new();
    let decoded = Decoder::new().decode(&mut bytes, 0, &Limits::default(), usize::MAX, &mut batch);
    assert_eq!((batch.len(), decoded.error), (3, Some(ProtocolError::UnbalancedQuotes)));
    assert_eq!(bytes[decoded.consumed..], sent[decoded.consumed..]);
    let done = batch.end(0);
    batch.restore(done, &mut bytes);
    assert_eq!(bytes[done..], sent[done..]);
    assert_ne!(bytes[..done], sent[..done], "what was executed is left as it is");
    let mut again = Requests::new();
    Decoder::new().decode(&mut bytes, done, &Limits::default(), usize::MAX, &mut again);
    assert_eq!(again.args(0, &bytes).iter().collect::<Vec<_>>(), [b"set".as_slice(), b"b", b"3\t4"]);
    assert_eq!(again.args(1, &bytes).iter().collect::<Vec<_>>(), [b"set".as_slice(), b"c", b"5\"6"]);
}
