//! A whole request: a multibulk request that lies in the buffer to its last byte is read in one pass, some 5 ns an argument.
//!
//! Whatever is unusual (bytes missing or wrong, a limit passed, a number of ten digits) is left to the resumable decoder, which
//! alone knows what to do about it. So there is one decision here: yes, or not me.

use super::Limits;
use crate::request::{ArgRange, Requests};

/// The shortest argument on the wire, `$0\r\n\r\n`.
const BULK_WIRE_LEN_MIN: usize = 6;

/// Reads the multibulk request at `start` if it is there to the last byte and nothing is unusual about it; the position
/// after it. Otherwise `out` is as it was.
pub(super) fn multibulk(bytes: &[u8], start: usize, limits: &Limits, out: &mut Requests) -> Option<usize> {
    let (argc, mut at) = header(bytes, start, b'*')?;
    if argc == 0 || argc > limits.args_max || argc > (bytes.len() - at) / BULK_WIRE_LEN_MIN {
        return None;
    }
    let first = out.begin();
    let ranges = out.ranges_mut();
    ranges.reserve(argc);
    for _ in 0..argc {
        let place =
            header(bytes, at, b'$').filter(|&(len, data)| len <= limits.bulk_len_max && data + len + 2 <= bytes.len());
        let Some((len, data)) = place else {
            out.abandon(first);
            return None;
        };
        ranges.push(ArgRange { start: data as u32, end: (data + len) as u32 });
        at = data + len + 2;
    }
    out.finish(first, at as u32);
    Some(at)
}

/// The number in a header that begins with `kind`, of up to nine digits, and where what follows it begins.
fn header(bytes: &[u8], at: usize, kind: u8) -> Option<(usize, usize)> {
    let line = bytes.get(at..)?;
    if *line.first()? != kind {
        return None;
    }
    let mut number = 0;
    for (i, &byte) in line.iter().enumerate().skip(1).take(10) {
        let digit = byte.wrapping_sub(b'0');
        if digit <= 9 {
            number = number * 10 + usize::from(digit);
        } else if byte == b'\r' && i > 1 && (line[1] != b'0' || i == 2) && i + 1 < line.len() {
            return Some((number, at + i + 2));
        } else {
            return None;
        }
    }
    None
}
