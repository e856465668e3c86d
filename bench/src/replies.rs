//! Counting replies cheaply: a workload knows what its replies look like, so most are compared, not parsed.

use std::fmt;

use memchr::memchr;

/// What every reply to a list of requests looks like.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Expect {
    /// Always the same length, beginning with `head` and ending with a line feed.
    Fixed {
        /// The bytes that each reply begins with.
        head: Vec<u8>,
        /// The bytes of a whole reply.
        length: usize,
    },
    /// An integer reply of whatever value.
    Integer,
}

/// A reply that is not what was expected: its first line, or as much of it as has come.
#[derive(Debug, PartialEq)]
pub(crate) struct Surprise(String);

impl fmt::Display for Surprise {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "unexpected reply: {}", self.0)
    }
}

impl std::error::Error for Surprise {}

/// How many replies some bytes hold, and in how many of the bytes.
#[derive(Debug, PartialEq)]
pub(crate) struct Found {
    /// Whole replies.
    pub(crate) replies: usize,
    /// Bytes that they take; what follows is the beginning of the next.
    pub(crate) bytes: usize,
}

impl Expect {
    /// A simple reply, such as `+OK`.
    pub(crate) fn simple(line: &str) -> Self {
        let head = format!("+{line}\r\n").into_bytes();
        Self::Fixed { length: head.len(), head }
    }

    /// A bulk reply of this many bytes.
    pub(crate) fn bulk(length: usize) -> Self {
        let head = format!("${length}\r\n").into_bytes();
        Self::Fixed { length: head.len() + length + 2, head }
    }

    /// Counts the whole replies at the beginning of the bytes and checks each.
    pub(crate) fn scan(&self, bytes: &[u8]) -> Result<Found, Surprise> {
        match self {
            Expect::Fixed { head, length } => scan_fixed(bytes, head, *length),
            Expect::Integer => scan_integers(bytes),
        }
    }
}

fn scan_fixed(bytes: &[u8], head: &[u8], length: usize) -> Result<Found, Surprise> {
    let whole = bytes.chunks_exact(length);
    let rest = whole.remainder();
    let mut found = Found { replies: 0, bytes: 0 };
    for reply in whole {
        if !reply.starts_with(head) || reply[length - 1] != b'\n' {
            let rest = &bytes[found.bytes..];
            return if is_unfinished_error(rest) { Ok(found) } else { Err(surprise(rest)) };
        }
        found.replies += 1;
        found.bytes += length;
    }
    // An error may be shorter than the reply that should have come: look at the part that has come.
    let compared = rest.len().min(head.len());
    if rest[..compared] != head[..compared] && !is_unfinished_error(rest) {
        return Err(surprise(rest));
    }
    Ok(found)
}

fn scan_integers(bytes: &[u8]) -> Result<Found, Surprise> {
    let mut found = Found { replies: 0, bytes: 0 };
    while let Some(first) = bytes.get(found.bytes) {
        if *first != b':' {
            return Err(surprise(&bytes[found.bytes..]));
        }
        let Some(end) = memchr(b'\n', &bytes[found.bytes..]) else {
            break;
        };
        found.replies += 1;
        found.bytes += end + 1;
    }
    Ok(found)
}

/// Whether the line of an error has no end yet: the rest of it is on its way.
fn is_unfinished_error(bytes: &[u8]) -> bool {
    bytes.first() == Some(&b'-') && memchr(b'\r', bytes).is_none()
}

fn surprise(bytes: &[u8]) -> Surprise {
    let end = memchr(b'\r', bytes).unwrap_or(bytes.len()).min(200);
    Surprise(String::from_utf8_lossy(&bytes[..end]).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_replies_are_counted_and_the_rest_left() {
        let expect = Expect::bulk(3);
        assert_eq!(expect.scan(b"$3\r\nabc\r\n$3\r\nxyz\r\n$3\r"), Ok(Found { replies: 2, bytes: 18 }));
        assert_eq!(Expect::Integer.scan(b":1\r\n:22\r\n:3"), Ok(Found { replies: 2, bytes: 9 }));
        assert_eq!(Expect::simple("OK").scan(b""), Ok(Found { replies: 0, bytes: 0 }));
    }

    #[test]
    fn a_reply_of_another_kind_is_told_by_its_line() {
        // An error in place of a reply ends the measurement with its text.
        let told = |expect: Expect, bytes: &[u8]| expect.scan(bytes).unwrap_err().0;
        assert_eq!(told(Expect::simple("OK"), b"+OK\r\n-OOM full\r\n"), "-OOM full");
        assert_eq!(told(Expect::bulk(64), b"$-1\r\n"), "$-1");
        assert_eq!(told(Expect::Integer, b":1\r\n+OK\r\n"), "+OK");
        assert_eq!(told(Expect::bulk(3), b"$3\r\nabcd\r\n"), "$3");
    }
}
