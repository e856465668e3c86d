//! An inline request: a line of words, as one types it into telnet, with Redis' quotes (`sds.c`, `sdssplitargs`).
//!
//! Words are separated by blanks. `"..."` knows `\xHH`, `\n`, `\r`, `\t`, `\b`, `\a` and takes any other escaped byte as
//! itself; `'...'` knows `\'` only. A quote may open within a word; the byte after a closing quote must be a blank or the
//! end. What a word stands for is never longer than the word, so it is unescaped where it lies.

use crate::request::ArgRange;

/// The line has a quote that is not closed, or closed in the middle of a word.
#[derive(Debug)]
pub(crate) struct Unbalanced;

/// Splits `line`, which has no line end, into words; pushes where each now lies.
pub(crate) fn split(line: &mut [u8], words: &mut Vec<ArgRange>) -> Result<(), Unbalanced> {
    let mut at = 0;
    loop {
        while at < line.len() && is_space(line[at]) {
            at += 1;
        }
        if at == line.len() {
            return Ok(());
        }
        let start = at;
        let mut end = at;
        at = word(line, at, &mut end)?;
        words.push(ArgRange {
            start: start as u32,
            end: end as u32,
        });
    }
}

/// Reads the word at `at`, writing what it stands for up to `end`; the position after the word.
fn word(line: &mut [u8], mut at: usize, end: &mut usize) -> Result<usize, Unbalanced> {
    let mut put = |line: &mut [u8], byte: u8| {
        line[*end] = byte;
        *end += 1;
    };
    loop {
        match line.get(at) {
            None | Some(b' ' | b'\n' | b'\r' | b'\t') => return Ok(at),
            Some(&quote @ (b'"' | b'\'')) => {
                at += 1;
                while let Some((byte, len)) = quoted(&line[at..], quote)? {
                    put(line, byte);
                    at += len;
                }
                at += 1;
                return match line.get(at) {
                    Some(&next) if !is_space(next) => Err(Unbalanced),
                    _ => Ok(at),
                };
            }
            Some(&byte) => {
                put(line, byte);
                at += 1;
            }
        }
    }
}

/// The next byte between quotes and the length of its spelling; `None` at the closing quote.
fn quoted(rest: &[u8], quote: u8) -> Result<Option<(u8, usize)>, Unbalanced> {
    Ok(Some(match (quote, rest) {
        (b'"', [b'\\', b'x', high, low, ..])
            if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() =>
        {
            (hex(*high) << 4 | hex(*low), 4)
        }
        (b'"', [b'\\', escaped, ..]) => (unescape(*escaped), 2),
        (b'\'', [b'\\', b'\'', ..]) => (b'\'', 2),
        (_, [byte, ..]) if *byte == quote => return Ok(None),
        (_, [byte, ..]) => (*byte, 1),
        (_, []) => return Err(Unbalanced),
    }))
}

fn unescape(escaped: u8) -> u8 {
    match escaped {
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'b' => 0x08,
        b'a' => 0x07,
        other => other,
    }
}

fn hex(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        _ => (digit | 0x20) - b'a' + 10,
    }
}

/// C's `isspace`.
fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t'..=b'\r')
}
