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
        assert_eq!(
            self.out.len() - start,
            len,
            "a bulk has the length that its header says"
        );
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
                assert_eq!(
                    format.len(),
                    3,
                    "the kind of a verbatim text has three letters"
                );
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
        let len = line
            .iter()
            .rposition(|byte| !is_line_end(byte))
            .map_or(0, |last| last + 1);
        self.out.push(b'-');
        self.out.extend(
            line[..len]
                .iter()
                .map(|byte| if is_line_end(byte) { b' ' } else { *byte }),
        );
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
            self.out
                .extend_from_slice(&[kind, b'0' + n as u8, b'\r', b'\n']);
        } else if n < 100 {
            self.out.extend_from_slice(&[
                kind,
                b'0' + (n / 10) as u8,
                b'0' + (n % 10) as u8,
                b'\r',
                b'\n',
            ]);
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
