//! Numbers as Redis reads and writes them.
//!
//! Integers are strict: what Redis stores as an integer must print as the very same text (`util.c`, `string2ll`). Floating
//! point numbers are what C's `strtod` takes in whole ([`parse_f64`]) and are written with the digits of Redis 7.2
//! ([`format_f64`]). `INCRBYFLOAT` and `HINCRBYFLOAT` reckon in x87's 80 bits ([`LongDouble`]).

use rustc_apfloat::Float;
use rustc_apfloat::ieee::Double;

mod hex;
mod long_double;
mod shortest;

pub use long_double::LongDouble;
pub use shortest::{F64_TEXT_MAX, format_f64};

/// Reads a signed integer: decimal digits with an optional `-`. No `+`, blanks, leading zeros or `-0`.
pub fn parse_i64(text: &[u8]) -> Option<i64> {
    match text {
        [b'-', digits @ ..] => match parse_u64(digits)? {
            0 => None,
            n if n <= i64::MIN.unsigned_abs() => Some((n as i64).wrapping_neg()),
            _ => None,
        },
        digits => i64::try_from(parse_u64(digits)?).ok(),
    }
}

/// Reads an unsigned integer: decimal digits. No sign, blanks or leading zeros.
pub fn parse_u64(text: &[u8]) -> Option<u64> {
    match text {
        [b'0'] => Some(0),
        [b'1'..=b'9', ..] if text.len() <= 20 => text.iter().try_fold(0u64, |n, byte| {
            let digit = byte.wrapping_sub(b'0');
            (digit <= 9).then_some(n)?.checked_mul(10)?.checked_add(u64::from(digit))
        }),
        _ => None,
    }
}

/// Reads a floating point number as Redis does for scores and floats: all that C's `strtod` takes (`1e3`, `.5`, `+7`, `0x1p-3`,
/// `inf`, `-Infinity`), and all of the text. No blanks, no NaN, nothing that overflows to infinity or underflows to zero.
pub fn parse_f64(text: &[u8]) -> Option<f64> {
    if hex::begins(text) {
        return hex::parse::<Double>(text).map(|n| f64::from_bits(n.to_bits() as u64));
    }
    if let Some(is_negative) = spelt_infinity(text) {
        return Some(if is_negative { f64::NEG_INFINITY } else { f64::INFINITY });
    }
    if !is_decimal(text) {
        return None;
    }
    let n: f64 = std::str::from_utf8(text).ok()?.parse().ok()?;
    (n.is_finite() && (n != 0.0 || is_spelt_zero(text))).then_some(n)
}

/// Whether all of `text` is a decimal number, with or without sign, point and exponent.
fn is_decimal(text: &[u8]) -> bool {
    let digits = |text: &[u8]| text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let unsigned = strip_sign(text);
    let whole = digits(unsigned);
    let mut rest = &unsigned[whole..];
    let mut fraction = 0;
    if let [b'.', behind @ ..] = rest {
        fraction = digits(behind);
        rest = &behind[fraction..];
    }
    if let [b'e' | b'E', exponent @ ..] = rest {
        let exponent = strip_sign(exponent);
        if exponent.is_empty() {
            return false;
        }
        rest = &exponent[digits(exponent)..];
    }
    whole + fraction > 0 && rest.is_empty()
}

/// Whether a decimal number has no digit but zero before its exponent.
fn is_spelt_zero(text: &[u8]) -> bool {
    text.iter().take_while(|byte| !matches!(byte, b'e' | b'E')).all(|byte| !matches!(byte, b'1'..=b'9'))
}

/// Whether `text` is the word for infinity, and if so whether it is the negative one.
fn spelt_infinity(text: &[u8]) -> Option<bool> {
    let word = strip_sign(text);
    let is_infinity = word.eq_ignore_ascii_case(b"inf") || word.eq_ignore_ascii_case(b"infinity");
    is_infinity.then(|| text[0] == b'-')
}

fn strip_sign(text: &[u8]) -> &[u8] {
    match text {
        [b'+' | b'-', rest @ ..] => rest,
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_are_only_what_prints_the_same() {
        // Redis' own cases, and that a text is an integer exactly if the integer prints as that text.
        let rows: &[(&str, Option<i64>)] = &[
            ("", None),
            ("-", None),
            (" 1", None),
            ("1 ", None),
            ("+1", None),
            ("01", None),
            ("-01", None),
            ("-0", None),
            ("00", None),
            ("1a", None),
            ("--1", None),
            ("0", Some(0)),
            ("-1", Some(-1)),
            ("10", Some(10)),
            ("99", Some(99)),
            ("-99", Some(-99)),
            ("9223372036854775807", Some(i64::MAX)),
            ("9223372036854775808", None),
            ("-9223372036854775808", Some(i64::MIN)),
            ("-9223372036854775809", None),
            ("18446744073709551616", None),
            ("99999999999999999999", None),
            ("100000000000000000000", None),
        ];
        for &(text, expected) in rows {
            assert_eq!(parse_i64(text.as_bytes()), expected, "{text:?}");
        }
        let mut random = crate::test_random();
        for _ in 0..100_000 {
            let len = random.usize(..6);
            let text: Vec<u8> = (0..len).map(|_| b"-+0129 "[random.usize(..7)]).collect();
            let prints_same = std::str::from_utf8(&text)
                .ok()
                .and_then(|text| text.parse::<i64>().ok())
                .filter(|n| n.to_string().as_bytes() == text);
            assert_eq!(parse_i64(&text), prints_same, "{}", text.escape_ascii());
        }
        for n in (0..10_000).map(|_| random.i64(..) >> random.u32(..64)) {
            assert_eq!(parse_i64(n.to_string().as_bytes()), Some(n));
        }
    }

    #[test]
    fn unsigned_integers_reach_64_bits() {
        // The largest unsigned integer is read, the next is not.
        assert_eq!(parse_u64(b"18446744073709551615"), Some(u64::MAX));
        assert_eq!(parse_u64(b"18446744073709551616"), None);
        assert_eq!(parse_u64(b"0"), Some(0));
        assert_eq!(parse_u64(b"-1"), None);
        assert_eq!(parse_u64(b"00"), None);
    }

    #[test]
    fn floats_are_what_strtod_takes_whole() {
        // The texts that Redis takes as a score and those it refuses, as found on a server.
        let infinity = f64::INFINITY;
        let rows: &[(&str, Option<f64>)] = &[
            ("1", Some(1.0)),
            ("+1", Some(1.0)),
            ("007", Some(7.0)),
            ("-1.5", Some(-1.5)),
            ("1.", Some(1.0)),
            (".5", Some(0.5)),
            ("5e-1", Some(0.5)),
            ("1E+2", Some(100.0)),
            ("0e99999", Some(0.0)),
            ("5e-324", Some(5e-324)),
            ("0x10", Some(16.0)),
            ("-0X1.8p1", Some(-3.0)),
            ("0x.8", Some(0.5)),
            ("0x1P-1074", Some(5e-324)),
            ("0x0p999999", Some(0.0)),
            ("inf", Some(infinity)),
            ("+INF", Some(infinity)),
            ("-Infinity", Some(-infinity)),
            ("", None),
            ("-", None),
            (".", None),
            ("e5", None),
            ("1e", None),
            ("1e+", None),
            ("1e5.", None),
            (" 1", None),
            ("1 ", None),
            ("1_0", None),
            ("1f", None),
            ("+-1", None),
            ("0x", None),
            ("0x.", None),
            ("0x1p", None),
            ("0x1p+", None),
            ("0x+1", None),
            ("0x1g", None),
            ("infinit", None),
            ("nan", None),
            ("nan(1)", None),
            ("1e400", None),
            ("-1e400", None),
            ("1e-400", None),
            ("0x1p99999999999999999999", None),
            ("0x1p-1076", None),
        ];
        for &(text, expected) in rows {
            assert_eq!(parse_f64(text.as_bytes()), expected, "{text:?}");
        }
        assert_eq!(parse_f64(b"-0").map(f64::to_bits), Some((-0.0f64).to_bits()));
        assert_eq!(parse_f64(b"\xff"), None);
        assert_eq!(parse_f64(b"1\0"), None);
    }
}
