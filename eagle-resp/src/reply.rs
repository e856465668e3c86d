//! A reply: what a command answers, encoded as it is said.
//!
//! [`Reply`] appends to the output buffer of the connection, in the protocol that its client chose with `HELLO`. What RESP2
//! has no type for is said as Redis says it there: a map as a flat array, a set and a push as an array, a double, a
//! big number and a verbatim text as a bulk, a boolean as 0 or 1.
//!
//! What always holds: a reply of n parts is its header ([`Reply::array`] and its kin) followed by exactly n replies, of a map by
//! 2n; the encoder does not count. A line (simple string, error) never holds a line end of its own.
//! Source: Redis 7.2 `networking.c`, the `addReply` family; RESP3 specification.

use crate::number::{F64_TEXT_MAX, format_f64};

/// The version of the protocol that a client speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// What every client speaks until it says `HELLO 3`.
    #[default]
    Resp2,
    /// With maps, sets, doubles, booleans and pushes.
    Resp3,
}

/// The encoder of replies.
#[derive(Debug)]
pub struct Reply<'a> {
    /// Where replies are appended.
    pub out: &'a mut Vec<u8>,
    /// How they are encoded.
    pub protocol: Protocol,
}

/// The place of a header whose number is not yet known; see [`Reply::deferred`].
#[derive(Clone, Copy, Debug)]
#[must_use = "a deferred header must be written"]
pub struct Deferred(usize);

impl<'a> Reply<'a> {
    /// An encoder that appends to `out`.
    pub fn new(out: &'a mut Vec<u8>, protocol: Protocol) -> Self {
        Self { out, protocol }
    }

    /// A simple string, such as `+PONG`. Panics in debug builds if it has a line end: it is ours, not the client's.
    pub fn simple(&mut self, text: &str) {
        debug_assert!(!text.contains(['\r', '\n']), "a simple string is one line");
        self.line(b'+', text.as_bytes());
    }

    /// `+OK`.
    pub fn ok(&mut self) {
        self.out.extend_from_slice(b"+OK\r\n");
    }

    /// An integer.
    pub fn integer(&mut self, n: i64) {
        match n {
            0 => self.out.extend_from_slice(b":0\r\n"),
            1 => self.out.extend_from_slice(b":1\r\n"),
            _ => self.line(b':', itoa::Buffer::new().format(n).as_bytes()),
        }
    }

    /// A bulk string.
    pub fn bulk(&mut self, bytes: &[u8]) {
        self.out.reserve(bytes.len() + HEADER_LEN_MAX + 2);
        self.header(b'$', bytes.len());
        self.out.extend_from_slice(bytes);
        self.out.extend_from_slice(b"\r\n");
    }

    /// A bulk string of `len` bytes, which `write` appends. Panics if it appends another number of bytes.
    pub fn bulk_with(&mut self, len: usize, write: impl FnOnce(&mut Vec<u8>)) {
        self.out.reserve(len + HEADER_LEN_MAX + 2);
        self.header(b'$', len);
        let start = self.out.len();
        write(self.out);
        assert_eq!(self.out.len() - start, len, "a bulk has the length that its header says");
        self.out.extend_from_slice(b"\r\n");
    }

    /// A bulk string put together from `parts`.
    pub fn bulk_parts(&mut self, parts: &[&[u8]]) {
        let len = parts.iter().map(|part| part.len()).sum();
        self.bulk_with(len, |out| {
            for part in parts {
                out.extend_from_slice(part);
            }
        });
    }

    /// An integer as a bulk string, as a string value that is a number is returned.
    pub fn bulk_integer(&mut self, n: i64) {
        self.bulk(itoa::Buffer::new().format(n).as_bytes());
    }

    /// No value.
    pub fn null(&mut self) {
        let null: &[u8] = match self.protocol {
            Protocol::Resp2 => b"$-1\r\n",
            Protocol::Resp3 => b"_\r\n",
        };
        self.out.extend_from_slice(null);
    }

    /// No value, where there would be an array.
    pub fn null_array(&mut self) {
        let null: &[u8] = match self.protocol {
            Protocol::Resp2 => b"*-1\r\n",
            Protocol::Resp3 => b"_\r\n",
        };
        self.out.extend_from_slice(null);
    }

    /// The header of an array of `n` replies.
    pub fn array(&mut self, n: usize) {
        self.header(b'*', n);
    }

    /// The header of a map of `n` pairs: 2n replies, keys and values in turn.
    pub fn map(&mut self, n: usize) {
        match self.protocol {
            Protocol::Resp2 => self.header(b'*', 2 * n),
            Protocol::Resp3 => self.header(b'%', n),
        }
    }

    /// The header of a set of `n` replies.
    pub fn set(&mut self, n: usize) {
        match self.protocol {
            Protocol::Resp2 => self.header(b'*', n),
            Protocol::Resp3 => self.header(b'~', n),
        }
    }

    /// The header of a message of `n` replies that the client did not ask for at this moment.
    pub fn push(&mut self, n: usize) {
        match self.protocol {
            Protocol::Resp2 => self.header(b'*', n),
            Protocol::Resp3 => self.header(b'>', n),
        }
    }

    /// The header of `n` pairs that go before a reply and say something about it. Panics in RESP2, which has no such thing.
    pub fn attribute(&mut self, n: usize) {
        assert_eq!(self.protocol, Protocol::Resp3, "RESP2 has no attributes");
        self.header(b'|', n);
    }

    /// Remembers this place for a header whose number is known only after its parts were written.
    pub fn deferred(&mut self) -> Deferred {
        Deferred(self.out.len())
    }

    /// Writes the header of an array of `n` at `place`, moving what was written since.
    pub fn array_at(&mut self, place: Deferred, n: usize) {
        self.header_at(place, |reply| reply.array(n));
    }

    /// Writes the header of a map of `n` pairs at `place`, moving what was written since.
    pub fn map_at(&mut self, place: Deferred, n: usize) {
        self.header_at(place, |reply| reply.map(n));
    }

    /// Writes the header of a set of `n` at `place`, moving what was written since.
    pub fn set_at(&mut self, place: Deferred, n: usize) {
        self.header_at(place, |reply| reply.set(n));
    }

    /// A floating point number, in the digits of [`format_f64`].
    pub fn double(&mut self, n: f64) {
        let mut text = [0; F64_TEXT_MAX];
        let text = format_f64(n, &mut text);
        match self.protocol {
            Protocol::Resp2 => self.bulk(text.as_bytes()),
            Protocol::Resp3 => self.line(b',', text.as_bytes()),
        }
    }

    /// True or false.
    pub fn boolean(&mut self, yes: bool) {
        let text: &[u8] = match (self.protocol, yes) {
            (Protocol::Resp2, true) => b":1\r\n",
            (Protocol::Resp2, false) => b":0\r\n",
            (Protocol::Resp3, true) => b"#t\r\n",
            (Protocol::Resp3, false) => b"#f\r\n",
        };
        self.out.extend_from_slice(text);
    }

    /// An integer of any size, given as its decimal digits.
    pub fn big_number(&mut self, digits: &str) {
        match self.protocol {
            Protocol::Resp2 => self.bulk(digits.as_bytes()),
            Protocol::Resp3 => self.line(b'(', digits.as_bytes()),
        }
    }

    /// Text for a person to read; `format` is its kind in three letters, `txt` or `mkd`.
    pub fn verbatim(&mut self, format: &str, text: &[u8]) {
        match self.protocol {
            Protocol::Resp2 => self.bulk(text),
            Protocol::Resp3 => {
                assert_eq!(format.len(), 3, "the kind of a verbatim text has three letters");
                self.header(b'=', text.len() + 4);
                self.out.extend_from_slice(format.as_bytes());
                self.out.push(b':');
                self.out.extend_from_slice(text);
                self.out.extend_from_slice(b"\r\n");
            }
        }
    }

    /// An error: code and words, without the leading `-`.
    pub fn error_line(&mut self, line: &str) {
        self.error_bytes(line.as_bytes());
    }

    /// An error that may quote bytes of the client. As in Redis, line ends at its end are dropped and others become blanks.
    pub fn error_bytes(&mut self, line: &[u8]) {
        let is_line_end = |byte: &u8| matches!(byte, b'\r' | b'\n');
        let len = line.iter().rposition(|byte| !is_line_end(byte)).map_or(0, |last| last + 1);
        self.out.push(b'-');
        self.out.extend(line[..len].iter().map(|byte| if is_line_end(byte) { b' ' } else { *byte }));
        self.out.extend_from_slice(b"\r\n");
    }

    fn line(&mut self, kind: u8, text: &[u8]) {
        self.out.reserve(text.len() + 3);
        self.out.push(kind);
        self.out.extend_from_slice(text);
        self.out.extend_from_slice(b"\r\n");
    }

    fn header(&mut self, kind: u8, n: usize) {
        if n < 10 {
            self.out.extend_from_slice(&[kind, b'0' + n as u8, b'\r', b'\n']);
        } else if n < 100 {
            self.out.extend_from_slice(&[kind, b'0' + (n / 10) as u8, b'0' + (n % 10) as u8, b'\r', b'\n']);
        } else {
            self.line(kind, itoa::Buffer::new().format(n).as_bytes());
        }
    }

    fn header_at(&mut self, place: Deferred, header: impl FnOnce(&mut Self)) {
        let end = self.out.len();
        header(self);
        let len = self.out.len() - end;
        self.out[place.0..].rotate_right(len);
    }
}

/// Kind, 20 digits, line end.
const HEADER_LEN_MAX: usize = 23;

#[cfg(test)]
mod tests {
    use super::*;

    /// What `say` says in either protocol, line ends shown as `|`.
    fn both(say: impl Fn(&mut Reply<'_>)) -> [String; 2] {
        [Protocol::Resp2, Protocol::Resp3].map(|protocol| {
            let mut out = b"before".to_vec();
            say(&mut Reply::new(&mut out, protocol));
            let text = String::from_utf8(out.split_off(6)).expect("ASCII");
            assert_eq!(out, b"before");
            text.replace("\r\n", "|")
        })
    }

    /// One reply and what it is in either protocol.
    type Row = (fn(&mut Reply<'_>), [&'static str; 2]);

    #[test]
    fn replies_are_those_of_redis() {
        // Each kind of reply in RESP2 and RESP3.
        let rows: &[Row] = &[
            (|r| r.ok(), ["+OK|"; 2]),
            (|r| r.simple("PONG"), ["+PONG|"; 2]),
            (|r| r.integer(0), [":0|"; 2]),
            (|r| r.integer(1), [":1|"; 2]),
            (|r| r.integer(-1), [":-1|"; 2]),
            (|r| r.integer(i64::MIN), [":-9223372036854775808|"; 2]),
            (|r| r.bulk(b""), ["$0||"; 2]),
            (|r| r.bulk(b"a|b"), ["$3|a|b|"; 2]),
            (|r| r.bulk(&[b'x'; 10]), ["$10|xxxxxxxxxx|"; 2]),
            (|r| r.bulk_parts(&[b"ab", b"", b"cd"]), ["$4|abcd|"; 2]),
            (|r| r.bulk_with(2, |out| out.extend_from_slice(b"ab")), ["$2|ab|"; 2]),
            (|r| r.bulk_integer(-12), ["$3|-12|"; 2]),
            (|r| r.null(), ["$-1|", "_|"]),
            (|r| r.null_array(), ["*-1|", "_|"]),
            (|r| r.array(0), ["*0|"; 2]),
            (|r| r.array(1_048_576), ["*1048576|"; 2]),
            (|r| r.map(2), ["*4|", "%2|"]),
            (|r| r.set(99), ["*99|", "~99|"]),
            (|r| r.push(3), ["*3|", ">3|"]),
            (|r| r.double(0.1), ["$3|0.1|", ",0.1|"]),
            (|r| r.double(1e30), ["$5|1e+30|", ",1e+30|"]),
            (|r| r.double(f64::NEG_INFINITY), ["$4|-inf|", ",-inf|"]),
            (|r| r.double(f64::NAN), ["$3|nan|", ",nan|"]),
            (|r| r.boolean(true), [":1|", "#t|"]),
            (|r| r.boolean(false), [":0|", "#f|"]),
            (|r| r.big_number("-123"), ["$4|-123|", "(-123|"]),
            (|r| r.verbatim("txt", b"hi"), ["$2|hi|", "=6|txt:hi|"]),
            (|r| r.error_line("ERR no"), ["-ERR no|"; 2]),
            (|r| r.error_line("ERR a\r\nb\nc\r\n\n"), ["-ERR a  b c|"; 2]),
            (|r| r.error_line("\n"), ["-|"; 2]),
        ];
        for (say, expected) in rows {
            assert_eq!(both(say), *expected);
        }
        let mut out = Vec::new();
        Reply::new(&mut out, Protocol::Resp3).attribute(1);
        assert_eq!(out, b"|1\r\n");
    }

    #[test]
    fn a_header_may_come_last() {
        // A deferred header stands where it was deferred, before all that was written since, also within another.
        let said = both(|reply| {
            let outer = reply.deferred();
            reply.integer(7);
            let inner = reply.deferred();
            (0..12).for_each(|n| reply.integer(n % 2));
            reply.map_at(inner, 6);
            let none = reply.deferred();
            reply.set_at(none, 0);
            reply.array_at(outer, 3);
        });
        let pairs = ":0|:1|".repeat(6);
        assert_eq!(said, [format!("*3|:7|*12|{pairs}*0|"), format!("*3|:7|%6|{pairs}~0|")]);
    }

    #[test]
    fn lengths_of_every_size_are_right() {
        // A bulk of any length up to 2000 bytes is read back whole.
        let bytes = vec![b'x'; 2000];
        for len in 0..=bytes.len() {
            let mut out = Vec::new();
            Reply::new(&mut out, Protocol::Resp2).bulk(&bytes[..len]);
            assert_eq!(out, [format!("${len}\r\n").as_bytes(), &bytes[..len], b"\r\n"].concat());
        }
    }

    #[test]
    #[should_panic(expected = "a bulk has the length that its header says")]
    fn a_bulk_of_another_length_is_our_mistake() {
        // Writing other than the announced bytes stops the process: the client could not read on.
        both(|reply| reply.bulk_with(3, |out| out.push(b'x')));
    }
}
