//! A protocol error: the way in which a client's bytes are no request, after which Redis answers one line and closes.
//!
//! The value is small and `Copy`; [`ProtocolError::write_line`] turns it into the exact line of Redis 7.2
//! (`networking.c`, `processInlineBuffer` and `processMultibulkBuffer`). There is no way to go on after one: where the
//! next request begins is not known.

use std::fmt;

/// What is wrong with the bytes a client sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ProtocolError {
    /// The number after `*` is no number or above the limit.
    MultibulkLength,
    /// The number after `$` is no number, negative or above the limit.
    BulkLength,
    /// An argument of a multibulk request begins with this byte and not with `$`.
    ExpectedBulk(u8),
    /// An inline request has a quote that is not closed, or closed in the middle of a word.
    UnbalancedQuotes,
    /// An inline request does not end within its limit.
    InlineTooBig,
    /// The line of `*` does not end within the limit of a line.
    MultibulkCountTooBig,
    /// The line of `$` does not end within the limit of a line.
    BulkCountTooBig,
    /// More arguments than a client may send before it has authenticated.
    UnauthenticatedMultibulkLength,
    /// A longer argument than a client may send before it has authenticated.
    UnauthenticatedBulkLength,
}

impl ProtocolError {
    /// Appends the error reply, `-ERR Protocol error: ...` with its line end.
    pub fn write_line(self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"-ERR Protocol error: ");
        match self {
            Self::ExpectedBulk(got) => {
                let shown = if matches!(got, b'\r' | b'\n') { b' ' } else { got };
                out.extend_from_slice(b"expected '$', got '");
                out.push(shown);
                out.push(b'\'');
            }
            fixed => out.extend_from_slice(fixed.words().as_bytes()),
        }
        out.extend_from_slice(b"\r\n");
    }

    /// What Redis says after "Protocol error: "; for an argument that does not begin with `$`, without the byte.
    fn words(self) -> &'static str {
        match self {
            Self::MultibulkLength => "invalid multibulk length",
            Self::BulkLength => "invalid bulk length",
            Self::ExpectedBulk(_) => "expected '$'",
            Self::UnbalancedQuotes => "unbalanced quotes in request",
            Self::InlineTooBig => "too big inline request",
            Self::MultibulkCountTooBig => "too big mbulk count string",
            Self::BulkCountTooBig => "too big bulk count string",
            Self::UnauthenticatedMultibulkLength => "unauthenticated multibulk length",
            Self::UnauthenticatedBulkLength => "unauthenticated bulk length",
        }
    }
}

impl fmt::Display for ProtocolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Protocol error: {}", self.words())?;
        match self {
            Self::ExpectedBulk(got) => write!(f, ", got '{}'", got.escape_ascii()),
            _ => Ok(()),
        }
    }
}

impl std::error::Error for ProtocolError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_error_has_its_line() {
        // The lines are those of Redis, to the byte; a line end that is quoted becomes a blank.
        let rows: &[(ProtocolError, &[u8])] = &[
            (ProtocolError::MultibulkLength, b"invalid multibulk length"),
            (ProtocolError::BulkLength, b"invalid bulk length"),
            (ProtocolError::ExpectedBulk(b'x'), b"expected '$', got 'x'"),
            (ProtocolError::ExpectedBulk(b'\r'), b"expected '$', got ' '"),
            (ProtocolError::ExpectedBulk(b'\n'), b"expected '$', got ' '"),
            (ProtocolError::ExpectedBulk(0xff), b"expected '$', got '\xff'"),
            (ProtocolError::UnbalancedQuotes, b"unbalanced quotes in request"),
            (ProtocolError::InlineTooBig, b"too big inline request"),
            (ProtocolError::MultibulkCountTooBig, b"too big mbulk count string"),
            (ProtocolError::BulkCountTooBig, b"too big bulk count string"),
            (ProtocolError::UnauthenticatedMultibulkLength, b"unauthenticated multibulk length"),
            (ProtocolError::UnauthenticatedBulkLength, b"unauthenticated bulk length"),
        ];
        for (error, words) in rows {
            let mut line = Vec::new();
            error.write_line(&mut line);
            assert_eq!(line, [b"-ERR Protocol error: ", *words, b"\r\n"].concat());
        }
        assert_eq!(ProtocolError::ExpectedBulk(0).to_string(), "Protocol error: expected '$', got '\\x00'");
    }
}
