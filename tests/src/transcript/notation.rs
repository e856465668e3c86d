//! The notation of replies: what `redis-cli` shows, made exact.
//!
//! | reply                                | notation                                      |
//! | ------------------------------------ | --------------------------------------------- |
//! | simple string, error                 | `OK`, `(error) ERR syntax error`              |
//! | integer, double, big number          | `(integer) 1`, `(double) 1.5`, `(big number) 1` |
//! | bulk, verbatim text                  | `"a\r\n\xff"`, `(verbatim txt) "a"`           |
//! | null (`$-1`, `_`), null array (`*-1`) | `(nil)`, `(nil array)`                       |
//! | boolean                              | `(true)`                                      |
//! | array, set, push, one element a line | `1) ...`, `1~ ...`, `1> ...`                  |
//! | map, attribute, one pair a line      | `1# "key" => ...`, `1\| "key" => ...`         |
//! | nothing in one of these              | `(empty array)`                               |
//!
//! Different bytes give different text, so comparing texts compares replies; what is unordered by its nature, a set, is sorted.

use std::fmt::Write as _;

/// Appends a reply, given as bytes of the protocol, and a line end. With `sorted` the innermost arrays are sorted. Panics
/// if the bytes are not exactly one reply: then the server is wrong.
pub fn write(reply: &[u8], sorted: bool, text: &mut String) {
    let mut reader = Reader { bytes: reply, at: 0, sorted };
    text.push_str(&reader.value());
    text.push('\n');
    assert_eq!(reader.at, reply.len(), "more than one reply: {}", reply.escape_ascii());
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    sorted: bool,
}

impl Reader<'_> {
    fn value(&mut self) -> String {
        let (kind, rest) = self.line();
        match (kind, rest.as_str()) {
            (b'+', rest) => rest.to_owned(),
            (b'-', rest) => format!("(error) {rest}"),
            (b':', rest) => format!("(integer) {rest}"),
            (b',', rest) => format!("(double) {rest}"),
            (b'(', rest) => format!("(big number) {rest}"),
            (b'#', "t") => "(true)".to_owned(),
            (b'#', "f") => "(false)".to_owned(),
            (b'_', "") | (b'$', "-1") => "(nil)".to_owned(),
            (b'*', "-1") => "(nil array)".to_owned(),
            (b'$', len) => format!("\"{}\"", self.bulk(len)),
            (b'=', len) => {
                let text = self.bulk(len);
                format!("(verbatim {}) \"{}\"", &text[..3], &text[4..])
            }
            (b'*', n) => self.list(number(n), "array", ')', self.sorted),
            (b'~', n) => self.list(number(n), "set", '~', true),
            (b'>', n) => self.list(number(n), "push", '>', false),
            (b'%', n) => self.pairs(number(n), '#'),
            (b'|', n) => {
                let attributes = self.pairs(number(n), '|');
                format!("{attributes}\n{}", self.value())
            }
            _ => panic!("not a reply: {}{rest}", kind.escape_ascii()),
        }
    }

    /// A list of `n` values, numbered with `mark`.
    fn list(&mut self, n: usize, name: &str, mark: char, sorted: bool) -> String {
        let mut values: Vec<_> = (0..n).map(|_| self.value()).collect();
        let innermost = values.iter().all(|value| !value.contains('\n') && !value.starts_with("1)"));
        if sorted && (innermost || mark == '~') {
            values.sort();
        }
        number_lines(&values, name, mark)
    }

    fn pairs(&mut self, n: usize, mark: char) -> String {
        let pair = |key: String, value: String| match value.contains('\n') || value.starts_with('1') {
            true => format!("{key} =>\n{value}"),
            false => format!("{key} => {value}"),
        };
        let pairs: Vec<_> = (0..n).map(|_| pair(self.value(), self.value())).collect();
        number_lines(&pairs, "map", mark)
    }

    /// The kind of the reply and the rest of its line; what is not text is escaped.
    fn line(&mut self) -> (u8, String) {
        let rest = &self.bytes[self.at..];
        let len = rest.windows(2).position(|end| end == b"\r\n").expect("a line has an end");
        assert!(len > 0, "an empty line is no reply");
        self.at += len + 2;
        let text = std::str::from_utf8(&rest[1..len]);
        (rest[0], text.map_or_else(|_| escape(&rest[1..len]), str::to_owned))
    }

    fn bulk(&mut self, len: &str) -> String {
        let end = self.at + number(len);
        let bulk = escape(&self.bytes[self.at..end]);
        assert_eq!(&self.bytes[end..end + 2], b"\r\n", "a bulk ends with a line end");
        self.at = end + 2;
        bulk
    }
}

fn number(text: &str) -> usize {
    text.parse().expect("a length is a number")
}

/// Numbers values, aligned; further lines of a value are indented behind its number.
fn number_lines(values: &[String], name: &str, mark: char) -> String {
    if values.is_empty() {
        return format!("(empty {name})");
    }
    let width = values.len().to_string().len();
    let indent = " ".repeat(width + 2);
    let mut text = String::new();
    for (i, value) in values.iter().enumerate() {
        let between = if i == 0 { "" } else { "\n" };
        let value = value.replace('\n', &format!("\n{indent}"));
        let _ = write!(text, "{between}{:>width$}{mark} {value}", i + 1);
    }
    text
}

/// Bytes as they stand between double quotes in an inline request.
fn escape(bytes: &[u8]) -> String {
    let mut text = String::new();
    for &byte in bytes {
        let _ = match byte {
            b'"' | b'\\' => write!(text, "\\{}", char::from(byte)),
            b'\n' => write!(text, "\\n"),
            b'\r' => write!(text, "\\r"),
            b'\t' => write!(text, "\\t"),
            b' '..=b'~' => write!(text, "{}", char::from(byte)),
            _ => write!(text, "\\x{byte:02x}"),
        };
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(reply: &[u8]) -> String {
        let mut text = String::new();
        write(reply, false, &mut text);
        text
    }

    #[test]
    fn each_kind_of_reply_has_its_notation() {
        // One of each, in the notation that the table above gives.
        for (reply, expected) in [
            (&b"+OK\r\n"[..], "OK\n"),
            (b"-ERR no\r\n", "(error) ERR no\n"),
            (b":-1\r\n", "(integer) -1\n"),
            (b"$3\r\na\"\xff\r\n", "\"a\\\"\\xff\"\n"),
            (b"$0\r\n\r\n", "\"\"\n"),
            (b"$-1\r\n", "(nil)\n"),
            (b"*-1\r\n", "(nil array)\n"),
            (b"_\r\n", "(nil)\n"),
            (b",inf\r\n", "(double) inf\n"),
            (b"#t\r\n", "(true)\n"),
            (b"=6\r\ntxt:hi\r\n", "(verbatim txt) \"hi\"\n"),
            (b"*0\r\n", "(empty array)\n"),
            (b"*2\r\n*2\r\n:1\r\n:2\r\n$1\r\nx\r\n", "1) 1) (integer) 1\n   2) (integer) 2\n2) \"x\"\n"),
            (b"%1\r\n$1\r\nk\r\n*1\r\n:1\r\n", "1# \"k\" =>\n   1) (integer) 1\n"),
            (b"~2\r\n+b\r\n+a\r\n", "1~ a\n2~ b\n"),
        ] {
            assert_eq!(text(reply), expected);
        }
    }

    #[test]
    fn innermost_arrays_are_sorted_on_demand() {
        // SCAN's reply: the cursor stays in front, the keys are sorted.
        let mut text = String::new();
        write(b"*2\r\n$1\r\n7\r\n*2\r\n$1\r\nb\r\n$1\r\na\r\n", true, &mut text);
        assert_eq!(text, "1) \"7\"\n2) 1) \"a\"\n   2) \"b\"\n");
    }

    #[test]
    #[should_panic(expected = "more than one reply")]
    fn two_replies_are_not_one() {
        text(b"+OK\r\n+OK\r\n");
    }
}
