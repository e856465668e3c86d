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
        words.push(ArgRange { start: start as u32, end: end as u32 });
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
        (b'"', [b'\\', b'x', high, low, ..]) if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &[u8]) -> Option<Vec<Vec<u8>>> {
        let mut line = line.to_vec();
        let mut ranges = Vec::new();
        split(&mut line, &mut ranges).ok()?;
        Some(ranges.iter().map(|range| line[range.start as usize..range.end as usize].to_vec()).collect())
    }

    /// A line and its words.
    type Row = (&'static [u8], Option<&'static [&'static [u8]]>);

    #[test]
    fn lines_split_as_on_a_server() {
        // Lines and the words that Redis 7.0.15 made of them, `None` where it found the quotes unbalanced.
        let rows: &[Row] = &[
            (b"", Some(&[])),
            (b" \t\r\x0b\x0c ", Some(&[])),
            (b"PING", Some(&[b"PING"])),
            (b"  GET   k\t", Some(&[b"GET", b"k"])),
            (b"\x0bPING\x0b", Some(&[b"PING\x0b"])),
            (b"a\x0bb c", Some(&[b"a\x0bb", b"c"])),
            (b"a\rb", Some(&[b"a", b"b"])),
            (b"\"\" ''", Some(&[b"", b""])),
            (b"\"a b\" 'c d'", Some(&[b"a b", b"c d"])),
            (b"a\"b c\" d'e f'", Some(&[b"ab c", b"de f"])),
            (b"\"a\"\x0b'b'\x0c", Some(&[b"a", b"b"])),
            (br#""\x41\x4a\x4B\xff""#, Some(&[b"AJK\xff"])),
            (br#""\x4\xg1\x""#, Some(&[b"x4xg1x"])),
            (br#""\n\r\t\b\a\q\"\\""#, Some(&[b"\n\r\t\x08\x07q\"\\"])),
            (br"'\n\'\\ '", Some(&[br"\n'\\ "])),
            (br"'\\'", None),
            (br"a\nb\", Some(&[br"a\nb\"])),
            (b"a\0b \0", Some(&[b"a\0b", b"\0"])),
            (b"\"", None),
            (b"'", None),
            (b"\"a", None),
            (b"'a", None),
            (br#""a\""#, None),
            (br"'a\'", None),
            (b"\"a\"b", None),
            (b"'a'b", None),
            (b"\"a\"\"b\"", None),
            (b"'a'\"b\"", None),
            (b"k \"a\"\0", None),
        ];
        for (line, expected) in rows {
            let expected = expected.map(|words| words.iter().map(|word| word.to_vec()).collect());
            assert_eq!(words(line), expected, "{}", line.escape_ascii());
        }
    }
}
