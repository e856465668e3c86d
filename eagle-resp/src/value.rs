//! A value: a reply, decoded; for clients, for tests, and for merging the replies of several shards.
//!
//! [`Value::parse`] builds an owned tree; [`skip`] only finds where a reply ends, without allocating or recursing, so that
//! array replies of several shards can be joined as bytes: [`array_header`] of each, then the parts as they are.
//!
//! All three take bytes that may stop anywhere: `Ok(None)` says that more are needed.
//! Source: RESP3 specification, without streamed values, which Redis does not send.

use std::fmt;

use memchr::memchr;

use crate::number::parse_i64;

/// How deep values may nest; Redis' own deepest reply (`COMMAND DOCS`) needs about ten.
pub const DEPTH_MAX: usize = 128;
/// Bytes of a line at most: errors may quote what was sent, and a big number may be long.
const LINE_LEN_MAX: usize = 1024 * 1024;

/// A reply of RESP2 or RESP3.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// `+`: a short text.
    Simple(Vec<u8>),
    /// `-` or `!`: an error, code and words.
    Error(Vec<u8>),
    /// `:`
    Integer(i64),
    /// `$`
    Bulk(Vec<u8>),
    /// `_`, `$-1` or `*-1`: no value.
    Null,
    /// `*`
    Array(Vec<Value>),
    /// `%`: pairs in the order they came.
    Map(Vec<(Value, Value)>),
    /// `~`
    Set(Vec<Value>),
    /// `>`: a message that was not asked for.
    Push(Vec<Value>),
    /// `,`
    Double(f64),
    /// `#`
    Boolean(bool),
    /// `(`: decimal digits.
    BigNumber(Vec<u8>),
    /// `=`: text for a person.
    Verbatim {
        /// Three letters, `txt` or `mkd`.
        format: [u8; 3],
        /// The text itself.
        text: Vec<u8>,
    },
    /// `|`: pairs that say something about the value behind them.
    Attribute(Vec<(Value, Value)>, Box<Value>),
}

/// Bytes that are no reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ValueError {
    /// No reply begins with this byte.
    Kind(u8),
    /// The line of a header or a short value does not say what its kind needs, or has no end.
    Line,
    /// A bulk is not followed by a line end.
    BulkEnd,
    /// Nested deeper than [`DEPTH_MAX`].
    TooDeep,
}

impl fmt::Display for ValueError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kind(byte) => write!(f, "no reply begins with '{}'", byte.escape_ascii()),
            Self::Line => write!(f, "malformed line in a reply"),
            Self::BulkEnd => write!(f, "a bulk string is not followed by a line end"),
            Self::TooDeep => write!(f, "a reply is nested deeper than {DEPTH_MAX}"),
        }
    }
}

impl std::error::Error for ValueError {}

impl Value {
    /// Reads the reply at the start of `bytes`: it and its length, or `None` if it is not whole.
    pub fn parse(bytes: &[u8]) -> Result<Option<(Self, usize)>, ValueError> {
        let mut at = 0;
        let value = parse_at(bytes, &mut at, 0)?;
        Ok(value.map(|value| (value, at)))
    }
}

/// Length of the reply at the start of `bytes`, or `None` if it is not whole. Any depth.
pub fn skip(bytes: &[u8]) -> Result<Option<usize>, ValueError> {
    let mut at = 0;
    let mut left = 1usize;
    while left > 0 {
        let Some(item) = item(bytes, &mut at)? else {
            return Ok(None);
        };
        left = match item {
            Item::Parts(_, n) => (left - 1).saturating_add(n),
            Item::Attribute(n) => left.saturating_add(n),
            _ => left - 1,
        };
    }
    Ok(Some(at))
}

/// If a reply is an array (or a set or a push): the number of its parts and the length of its header. `None` if it is
/// another reply, null, or its header is not whole.
pub fn array_header(bytes: &[u8]) -> Result<Option<(usize, usize)>, ValueError> {
    let mut at = 0;
    Ok(match bytes.first() {
        Some(b'*' | b'~' | b'>') => match item(bytes, &mut at)? {
            Some(Item::Parts(_, n)) => Some((n, at)),
            _ => None,
        },
        _ => None,
    })
}

/// One header with what belongs to it directly.
enum Item<'a> {
    Leaf(u8, &'a [u8]),
    Null,
    /// Kind and number of the replies that follow as parts.
    Parts(u8, usize),
    /// Number of the replies that follow, before the one they are about.
    Attribute(usize),
}

fn item<'a>(bytes: &'a [u8], at: &mut usize) -> Result<Option<Item<'a>>, ValueError> {
    let Some(&kind) = bytes.get(*at) else {
        return Ok(None);
    };
    if !b"+-:$*%~>,#(=!|_".contains(&kind) {
        return Err(ValueError::Kind(kind));
    }
    let rest = &bytes[*at + 1..];
    let Some(len) = memchr(b'\r', &rest[..rest.len().min(LINE_LEN_MAX)]) else {
        return if rest.len() >= LINE_LEN_MAX { Err(ValueError::Line) } else { Ok(None) };
    };
    match rest.get(len + 1) {
        None => return Ok(None),
        Some(b'\n') => {}
        Some(_) => return Err(ValueError::Line),
    }
    let line = &rest[..len];
    let next = *at + 1 + len + 2;
    let number = || parse_i64(line).ok_or(ValueError::Line);
    let found = match kind {
        b'$' | b'=' | b'!' => match usize::try_from(number()?) {
            Ok(len) => {
                let Some(behind) = bytes[next..].get(len..) else {
                    return Ok(None);
                };
                if behind.len() < 2 {
                    return Ok(None);
                }
                if !behind.starts_with(b"\r\n") {
                    return Err(ValueError::BulkEnd);
                }
                *at = next + len + 2;
                return Ok(Some(Item::Leaf(kind, &bytes[next..next + len])));
            }
            Err(_) if line == b"-1" && kind == b'$' => Item::Null,
            Err(_) => return Err(ValueError::Line),
        },
        b'*' | b'~' | b'>' | b'%' | b'|' => match usize::try_from(number()?) {
            Ok(n) if kind == b'%' => Item::Parts(kind, n.saturating_mul(2)),
            Ok(n) if kind == b'|' => Item::Attribute(n.saturating_mul(2)),
            Ok(n) => Item::Parts(kind, n),
            Err(_) if line == b"-1" && kind == b'*' => Item::Null,
            Err(_) => return Err(ValueError::Line),
        },
        b'_' if line.is_empty() => Item::Null,
        b'_' => return Err(ValueError::Line),
        _ => Item::Leaf(kind, line),
    };
    *at = next;
    Ok(Some(found))
}

fn parse_at(bytes: &[u8], at: &mut usize, depth: usize) -> Result<Option<Value>, ValueError> {
    if depth > DEPTH_MAX {
        return Err(ValueError::TooDeep);
    }
    let Some(item) = item(bytes, at)? else {
        return Ok(None);
    };
    Ok(Some(match item {
        Item::Null => Value::Null,
        Item::Leaf(kind, text) => leaf(kind, text)?,
        Item::Parts(b'%', n) => match pairs(bytes, at, depth, n)? {
            Some(pairs) => Value::Map(pairs),
            None => return Ok(None),
        },
        Item::Attribute(n) => {
            let Some(pairs) = pairs(bytes, at, depth, n)? else {
                return Ok(None);
            };
            let Some(value) = parse_at(bytes, at, depth + 1)? else {
                return Ok(None);
            };
            Value::Attribute(pairs, Box::new(value))
        }
        Item::Parts(kind, n) => {
            let mut parts = Vec::new();
            for _ in 0..n {
                let Some(part) = parse_at(bytes, at, depth + 1)? else {
                    return Ok(None);
                };
                parts.push(part);
            }
            match kind {
                b'*' => Value::Array(parts),
                b'~' => Value::Set(parts),
                _ => Value::Push(parts),
            }
        }
    }))
}

/// `n` replies as pairs.
fn pairs(bytes: &[u8], at: &mut usize, depth: usize, n: usize) -> Result<Option<Vec<(Value, Value)>>, ValueError> {
    let mut pairs = Vec::new();
    for _ in 0..n / 2 {
        let Some(key) = parse_at(bytes, at, depth + 1)? else {
            return Ok(None);
        };
        let Some(value) = parse_at(bytes, at, depth + 1)? else {
            return Ok(None);
        };
        pairs.push((key, value));
    }
    Ok(Some(pairs))
}

fn leaf(kind: u8, text: &[u8]) -> Result<Value, ValueError> {
    Ok(match kind {
        b'+' => Value::Simple(text.to_vec()),
        b'-' | b'!' => Value::Error(text.to_vec()),
        b':' => Value::Integer(parse_i64(text.strip_prefix(b"+").unwrap_or(text)).ok_or(ValueError::Line)?),
        b'$' => Value::Bulk(text.to_vec()),
        b',' => {
            let text = std::str::from_utf8(text).map_err(|_| ValueError::Line)?;
            Value::Double(text.parse().map_err(|_| ValueError::Line)?)
        }
        b'#' => match text {
            b"t" => Value::Boolean(true),
            b"f" => Value::Boolean(false),
            _ => return Err(ValueError::Line),
        },
        b'(' => {
            let digits = text.strip_prefix(b"-").or_else(|| text.strip_prefix(b"+")).unwrap_or(text);
            if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
                return Err(ValueError::Line);
            }
            Value::BigNumber(text.to_vec())
        }
        _ => match text {
            [a, b, c, b':', text @ ..] => Value::Verbatim { format: [*a, *b, *c], text: text.to_vec() },
            _ => return Err(ValueError::Line),
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Protocol, Reply};

    fn bulk(text: &str) -> Value {
        Value::Bulk(text.into())
    }

    /// Replies as bytes, and what they are.
    fn samples() -> Vec<(&'static [u8], Value)> {
        use Value::*;
        vec![
            (b"+OK\r\n", Simple(b"OK".to_vec())),
            (b"+\r\n", Simple(b"".to_vec())),
            (b"-ERR no\r\n", Error(b"ERR no".to_vec())),
            (b"!6\r\nERR\r\nx\r\n", Error(b"ERR\r\nx".to_vec())),
            (b":-12\r\n", Integer(-12)),
            (b"$0\r\n\r\n", bulk("")),
            (b"$4\r\n\r\n\r\n\r\n", bulk("\r\n\r\n")),
            (b"$-1\r\n", Null),
            (b"*-1\r\n", Null),
            (b"_\r\n", Null),
            (b"*0\r\n", Array(vec![])),
            (b"*2\r\n*1\r\n:1\r\n$1\r\na\r\n", Array(vec![Array(vec![Integer(1)]), bulk("a")])),
            (b"%1\r\n+k\r\n~1\r\n:1\r\n", Map(vec![(Simple(b"k".to_vec()), Set(vec![Integer(1)]))])),
            (b">2\r\n+m\r\n#t\r\n", Push(vec![Simple(b"m".to_vec()), Boolean(true)])),
            (b",1.5\r\n", Double(1.5)),
            (b",-inf\r\n", Double(f64::NEG_INFINITY)),
            (b",1e+30\r\n", Double(1e30)),
            (b"(-123456789012345678901234567890\r\n", BigNumber(b"-123456789012345678901234567890".to_vec())),
            (b"=6\r\ntxt:hi\r\n", Verbatim { format: *b"txt", text: b"hi".to_vec() }),
            (
                b"|1\r\n+ttl\r\n:5\r\n*1\r\n_\r\n",
                Attribute(vec![(Simple(b"ttl".to_vec()), Integer(5))], Box::new(Array(vec![Null]))),
            ),
        ]
    }

    #[test]
    fn every_kind_is_read_and_skipped() {
        // Each reply is read and skipped to its last byte when whole, whatever follows, and to nothing when a byte is missing.
        for (bytes, value) in samples() {
            let shown = bytes.escape_ascii();
            for follows in [&b""[..], b"+next\r\n", b"\xff"] {
                let more = [bytes, follows].concat();
                assert_eq!(Value::parse(&more), Ok(Some((value.clone(), bytes.len()))), "{shown}");
                assert_eq!(skip(&more), Ok(Some(bytes.len())), "{shown}");
            }
            for len in 0..bytes.len() {
                assert_eq!(Value::parse(&bytes[..len]), Ok(None), "{len} bytes of {shown}");
                assert_eq!(skip(&bytes[..len]), Ok(None), "{len} bytes of {shown}");
            }
        }
    }

    #[test]
    fn malformed_replies_are_told() {
        // Bytes that no server should send are an error, never a panic, and never more memory than they have bytes.
        use ValueError::*;
        let rows: &[(&[u8], ValueError)] = &[
            (b"x\r\n", Kind(b'x')),
            (b"\r\n", Kind(b'\r')),
            (b":\r\n", Line),
            (b":1x\r\n", Line),
            (b"+a\rb\r\n", Line),
            (b"$-2\r\n", Line),
            (b"$x\r\n", Line),
            (b"$1\r\nabc\r\n", BulkEnd),
            (b"*-2\r\n", Line),
            (b"~-1\r\n", Line),
            (b"%-1\r\n", Line),
            (b"_x\r\n", Line),
            (b"#x\r\n", Line),
            (b",x\r\n", Line),
            (b"(12x\r\n", Line),
            (b"(-\r\n", Line),
            (b"=3\r\ntxt\r\n", Line),
            (b"*1\r\nx\r\n", Kind(b'x')),
        ];
        for (bytes, error) in rows {
            assert_eq!(Value::parse(bytes), Err(*error), "{}", bytes.escape_ascii());
        }
        assert_eq!(Value::parse(&[b'+'; LINE_LEN_MAX + 1]), Err(Line));
        assert_eq!(Value::parse(b"*9223372036854775807\r\n:1\r\n"), Ok(None));
        assert_eq!(skip(b"%9223372036854775807\r\n%9223372036854775807\r\n"), Ok(None));
        assert_eq!(skip(b"$9223372036854775807\r\n"), Ok(None));
    }

    #[test]
    fn depth_is_bounded() {
        // The deepest value allowed is read, one deeper is refused, and skipping takes any depth.
        let nested = |depth: usize| [b"*1\r\n".repeat(depth), b":1\r\n".to_vec()].concat();
        assert!(matches!(Value::parse(&nested(DEPTH_MAX)), Ok(Some(_))));
        assert_eq!(Value::parse(&nested(DEPTH_MAX + 1)), Err(ValueError::TooDeep));
        let deep = nested(100_000);
        assert_eq!(skip(&deep), Ok(Some(deep.len())));
    }

    #[test]
    fn array_headers_are_found() {
        // Arrays, sets and pushes tell their parts and where these begin; nothing else does.
        assert_eq!(array_header(b"*2\r\n:1\r\n"), Ok(Some((2, 4))));
        assert_eq!(array_header(b"~10\r\n"), Ok(Some((10, 5))));
        assert_eq!(array_header(b">0\r\n"), Ok(Some((0, 4))));
        for other in [&b"*-1\r\n"[..], b"*1\r", b"%1\r\n", b"$1\r\na\r\n", b""] {
            assert_eq!(array_header(other), Ok(None), "{}", other.escape_ascii());
        }
    }

    #[test]
    fn what_reply_writes_value_reads() {
        // Random trees written by the encoder are read back the same.
        let mut random = crate::test_random();
        for _ in 0..2000 {
            let value = random_value(&mut random, 4);
            let mut out = Vec::new();
            write(&value, &mut Reply::new(&mut out, Protocol::Resp3));
            assert_eq!(skip(&out), Ok(Some(out.len())));
            assert_eq!(Value::parse(&out), Ok(Some((value, out.len()))));
        }
    }

    fn random_value(random: &mut fastrand::Rng, depth: u32) -> Value {
        let mut text = |n| (0..random.usize(..n)).map(|_| random.u8(b' '..b'~')).collect::<Vec<u8>>();
        let text = text(30);
        let parts = if depth == 0 { 0 } else { random.usize(..4) };
        let part = |random: &mut fastrand::Rng| random_value(random, depth.saturating_sub(1));
        match random.u8(..13) {
            0 => Value::Simple(text),
            1 => Value::Error(text),
            2 => Value::Integer(random.i64(..) >> random.u32(..64)),
            3 => Value::Bulk(text),
            4 => Value::Null,
            5 => Value::Array((0..parts).map(|_| part(random)).collect()),
            6 => Value::Map((0..parts).map(|_| (part(random), part(random))).collect()),
            7 => Value::Set((0..parts).map(|_| part(random)).collect()),
            8 => Value::Push((0..parts).map(|_| part(random)).collect()),
            9 => Value::Double(random.f64() * 1e6),
            10 => Value::Boolean(random.bool()),
            11 => Value::BigNumber(random.u64(..).to_string().into_bytes()),
            _ => Value::Verbatim { format: *b"mkd", text },
        }
    }

    fn write(value: &Value, reply: &mut Reply<'_>) {
        let utf8 = |text: &[u8]| String::from_utf8(text.to_vec()).expect("ASCII");
        match value {
            Value::Simple(text) => reply.simple(&utf8(text)),
            Value::Error(text) => reply.error_bytes(text),
            Value::Integer(n) => reply.integer(*n),
            Value::Bulk(text) => reply.bulk(text),
            Value::Null => reply.null(),
            Value::Array(parts) => {
                reply.array(parts.len());
                parts.iter().for_each(|part| write(part, reply));
            }
            Value::Set(parts) => {
                reply.set(parts.len());
                parts.iter().for_each(|part| write(part, reply));
            }
            Value::Push(parts) => {
                reply.push(parts.len());
                parts.iter().for_each(|part| write(part, reply));
            }
            Value::Map(pairs) => {
                reply.map(pairs.len());
                for (key, value) in pairs {
                    write(key, reply);
                    write(value, reply);
                }
            }
            Value::Double(n) => reply.double(*n),
            Value::Boolean(yes) => reply.boolean(*yes),
            Value::BigNumber(digits) => reply.big_number(&utf8(digits)),
            Value::Verbatim { format, text } => reply.verbatim(&utf8(format), text),
            Value::Attribute(..) => unreachable!("not generated"),
        }
    }
}
