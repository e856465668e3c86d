//! The decoder: received bytes to requests, at any byte boundary.
//!
//! A request is multibulk (`*2\r\n$3\r\nGET\r\n$1\r\nk\r\n`) or inline (`GET k\r\n`, see `decode/inline.rs`). One that lies whole
//! in the buffer, and nearly every one does, is read in one pass straight into the batch (`decode/whole.rs`). What that pass does not
//! take, because bytes are missing or wrong, goes through the resumable one, which alone knows waiting and errors. Its
//! state is the connection's [`Decoder`]: the ranges found so far and how far the line in hand was searched, all relative to the
//! start of the request. So the caller may move the unfinished tail wherever it likes, and no byte is looked at twice.
//!
//! What always holds:
//! - the same bytes give the same requests and the same error, however they were split;
//! - ranges grow with bytes that came, not with numbers that a header claims;
//! - as in Redis, the two bytes after an argument, and the one after the `\r` of a header, are skipped unseen.
//!
//! Where it differs from Redis: a zero byte in a header or an inline line is a byte like any other (Redis' `strchr` does
//! not see past it, and waits); and limits hold exactly, not only when a read happens to end beyond them.
//! Source: Redis 7.2 `networking.c`, `processInputBuffer` and what it calls.

mod inline;
mod whole;

use memchr::{memchr, memchr2};

use crate::error::ProtocolError;
use crate::number::parse_i64;
use crate::request::{ArgRange, Requests};

/// Arguments that a client may send in one request before it has authenticated.
const UNAUTHENTICATED_ARGS_MAX: u32 = 10;
/// Bytes that an argument may have before the client has authenticated.
const UNAUTHENTICATED_BULK_LEN_MAX: usize = 16 * 1024;
/// Ranges that an idle decoder keeps room for: 128 bytes.
const RANGES_KEPT: usize = 16;

/// What a client may send.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of one argument (`proto-max-bulk-len`). A whole request stays below 4 GiB in any case.
    pub bulk_len_max: usize,
    /// Arguments of one request.
    pub args_max: usize,
    /// Bytes of an inline request or of a header line, without the line end.
    pub inline_len_max: usize,
    /// Whether the client has authenticated or need not. While it has not, decode one request at a time: the next may be
    /// `AUTH`, and what follows it be held to these limits.
    pub authenticated: bool,
}

impl Default for Limits {
    /// 512 MiB an argument, 1 Mi arguments, 64 KiB a line, authenticated.
    fn default() -> Self {
        Self { bulk_len_max: 512 * 1024 * 1024, args_max: 1024 * 1024, inline_len_max: 64 * 1024, authenticated: true }
    }
}

/// What one call of [`Decoder::decode`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decoded {
    /// Bytes of whole requests, and of lines that are none, from where decoding began. What follows belongs to a request that is
    /// not whole, or lies beyond the asked number of requests, or is wrong.
    pub consumed: usize,
    /// Bytes that the argument in hand still lacks, its line end included. 0 if none is in hand.
    pub need: usize,
    /// Why the bytes after the consumed ones are no request. Requests before it count.
    pub error: Option<ProtocolError>,
}

/// What a connection keeps of a request of which not all bytes have come.
#[derive(Debug, Default)]
pub struct Decoder {
    /// Arguments whose header was read; the last may end beyond the bytes that came.
    ranges: Vec<ArgRange>,
    /// Where to go on looking for the end of the line in hand.
    at: u32,
    /// Arguments whose header was not yet read; 0 too if their number is not yet known.
    left: u32,
}

const _: () = assert!(size_of::<Decoder>() == 32);

/// One step of the resumable decoder.
enum Step {
    /// More bytes are needed, at least so many if not 0.
    Wait(usize),
    /// A request of this length; its ranges are the decoder's.
    Request(usize),
    /// As many bytes that ask for nothing: an empty line, a multibulk of no arguments.
    Nothing(usize),
}

impl Decoder {
    /// A decoder at the start of a connection. It allocates nothing before a request comes in parts.
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends to `out` up to `max` whole requests of `bytes[from..]`, ranges counting from the start of `bytes`.
    ///
    /// `bytes[from..]` must begin where the last call stopped consuming. Inline requests are unescaped in place, so bytes
    /// that were consumed are no longer what the client sent; to decode them again, [`Requests::restore`] them first.
    /// After an error the connection is over.
    /// Panics if `bytes` has 4 GiB or more.
    pub fn decode(
        &mut self,
        bytes: &mut [u8],
        from: usize,
        limits: &Limits,
        max: usize,
        out: &mut Requests,
    ) -> Decoded {
        assert!(u32::try_from(bytes.len()).is_ok(), "a buffer stays below 4 GiB");
        let mut start = from;
        let mut count = 0;
        let mut need = 0;
        let mut error = None;
        while count < max && start < bytes.len() {
            if self.is_idle()
                && limits.authenticated
                && let Some(end) = whole::multibulk(bytes, start, limits, out)
            {
                start = end;
                count += 1;
                continue;
            }
            match self.step(bytes, start, limits, out) {
                Ok(Step::Request(len)) => {
                    self.hand_over(start, start + len, out);
                    start += len;
                    count += 1;
                }
                Ok(Step::Nothing(len)) => {
                    self.reset();
                    start += len;
                }
                Ok(Step::Wait(missing)) => {
                    need = missing;
                    break;
                }
                Err(wrong) => {
                    self.reset();
                    error = Some(wrong);
                    break;
                }
            }
        }
        Decoded { consumed: start - from, need, error }
    }

    /// Whether no request is in parts.
    pub fn is_idle(&self) -> bool {
        self.at == 0
    }

    /// Heap bytes held.
    pub fn memory(&self) -> usize {
        self.ranges.capacity() * size_of::<ArgRange>()
    }

    /// Goes on with the request that begins at `start`; what it finds counts from there.
    fn step(
        &mut self,
        bytes: &mut [u8],
        start: usize,
        limits: &Limits,
        out: &mut Requests,
    ) -> Result<Step, ProtocolError> {
        let rest = &mut bytes[start..];
        if rest[0] == b'*' { self.multibulk(rest, limits) } else { self.inline(rest, start, limits, out) }
    }

    fn inline(
        &mut self,
        bytes: &mut [u8],
        start: usize,
        limits: &Limits,
        out: &mut Requests,
    ) -> Result<Step, ProtocolError> {
        let newline = match self.find(b'\n', bytes, 0, limits) {
            Found::At(newline) => newline,
            Found::NotYet => return Ok(Step::Wait(0)),
            Found::Never => return Err(ProtocolError::InlineTooBig),
        };
        let line = &mut bytes[..newline];
        let line = match line {
            [line @ .., b'\r'] => line,
            line => line,
        };
        let original = memchr2(b'"', b'\'', line).map(|_| line.to_vec());
        let whole = inline::split(line, &mut self.ranges);
        if let Some(original) = original {
            if whole.is_err() {
                line.copy_from_slice(&original);
            } else {
                out.keep_original(start, original);
            }
        }
        whole.map_err(|inline::Unbalanced| ProtocolError::UnbalancedQuotes)?;
        let len = newline + 1;
        Ok(if self.ranges.is_empty() { Step::Nothing(len) } else { Step::Request(len) })
    }

    fn multibulk(&mut self, bytes: &[u8], limits: &Limits) -> Result<Step, ProtocolError> {
        let mut header = match self.ranges.last() {
            Some(last) => last.end as usize + 2,
            None if self.left > 0 => memchr(b'\r', bytes).expect("the count was read") + 2,
            None => {
                let Some((count, next)) = self.count(bytes, limits)? else {
                    return Ok(Step::Wait(0));
                };
                if count == 0 {
                    return Ok(Step::Nothing(next));
                }
                self.left = count;
                self.at = next as u32;
                next
            }
        };
        while self.left > 0 && header < bytes.len() {
            let Some(range) = self.bulk(bytes, header, limits)? else {
                return Ok(Step::Wait(0));
            };
            self.ranges.push(range);
            self.left -= 1;
            header = range.end as usize + 2;
            self.at = range.end + 2;
        }
        if self.left == 0 && header <= bytes.len() {
            return Ok(Step::Request(header));
        }
        Ok(Step::Wait(header.saturating_sub(bytes.len())))
    }

    /// The number of arguments, and where the first one's header begins. Negative numbers are none.
    fn count(&mut self, bytes: &[u8], limits: &Limits) -> Result<Option<(u32, usize)>, ProtocolError> {
        let end = match self.find(b'\r', bytes, 0, limits) {
            Found::At(end) => end,
            Found::NotYet => return Ok(None),
            Found::Never => return Err(ProtocolError::MultibulkCountTooBig),
        };
        let count = parse_i64(&bytes[1..end])
            .and_then(|count| u32::try_from(count.max(0)).ok())
            .filter(|&count| count as usize <= limits.args_max)
            .ok_or(ProtocolError::MultibulkLength)?;
        if !limits.authenticated && count > UNAUTHENTICATED_ARGS_MAX {
            return Err(ProtocolError::UnauthenticatedMultibulkLength);
        }
        Ok(Some((count, end + 2)))
    }

    /// The place of the argument whose header is at `header`.
    fn bulk(&mut self, bytes: &[u8], header: usize, limits: &Limits) -> Result<Option<ArgRange>, ProtocolError> {
        let end = match self.find(b'\r', bytes, header, limits) {
            Found::At(end) => end,
            Found::NotYet => return Ok(None),
            Found::Never => return Err(ProtocolError::BulkCountTooBig),
        };
        if bytes[header] != b'$' {
            return Err(ProtocolError::ExpectedBulk(bytes[header]));
        }
        let len = parse_i64(&bytes[header + 1..end])
            .and_then(|len| usize::try_from(len).ok())
            .filter(|&len| len <= limits.bulk_len_max)
            .ok_or(ProtocolError::BulkLength)?;
        if !limits.authenticated && len > UNAUTHENTICATED_BULK_LEN_MAX {
            return Err(ProtocolError::UnauthenticatedBulkLength);
        }
        let start = end + 2;
        // A request that would not fit into a buffer of 4 GiB has an argument too long for it.
        let after =
            u32::try_from(start.saturating_add(len).saturating_add(2)).map_err(|_| ProtocolError::BulkLength)?;
        Ok(Some(ArgRange { start: start as u32, end: after - 2 }))
    }

    /// Finds the end of the line that begins at `line`, going on where the last search stopped. The end counts as found
    /// when the byte after a `\r` is there too.
    fn find(&mut self, end: u8, bytes: &[u8], line: usize, limits: &Limits) -> Found {
        let from = self.at.max(line as u32) as usize;
        let limit = bytes.len().min(line + limits.inline_len_max + 1);
        match bytes.get(from..limit).and_then(|rest| memchr(end, rest)) {
            Some(i) if end == b'\r' && from + i + 1 >= bytes.len() => {
                self.at = (from + i) as u32;
                Found::NotYet
            }
            Some(i) => Found::At(from + i),
            None if bytes.len() - line > limits.inline_len_max => Found::Never,
            None => {
                self.at = bytes.len() as u32;
                Found::NotYet
            }
        }
    }

    /// Moves the finished request at `start..end` to `out`.
    fn hand_over(&mut self, start: usize, end: usize, out: &mut Requests) {
        let first = out.begin();
        out.ranges_mut().extend(self.ranges.iter().map(|range| range.shifted(start as u32)));
        out.finish(first, end as u32);
        self.reset();
    }

    /// Ready for another request.
    fn reset(&mut self) {
        self.at = 0;
        self.left = 0;
        if self.ranges.capacity() > RANGES_KEPT {
            self.ranges = Vec::new();
        }
        self.ranges.clear();
    }
}

/// The end of a line.
enum Found {
    /// Is here.
    At(usize),
    /// Has not come.
    NotYet,
    /// Is not within the limit.
    Never,
}

#[cfg(test)]
mod tests;
