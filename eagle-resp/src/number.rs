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
            (digit <= 9)
                .then_some(n)?
                .checked_mul(10)?
                .checked_add(u64::from(digit))
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
        return Some(if is_negative {
            f64::NEG_INFINITY
        } else {
            f64::INFINITY
        });
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
    text.iter()
        .take_while(|byte| !matches!(byte, b'e' | b'E'))
        .all(|byte| !matches!(byte, b'1'..=b'9'))
}

/// Whether `text` is the word for infinity, and if so whether it is the negative one.
fn spelt_infinity(text: &[u8]) -> Option<bool> {
    let word = strip_sign(text);
    let is_infinity = word.eq_ignore_ascii_case(b"inf") || word.eq_ignore_ascii_case(b"infinity");
    is_infinity.then_some(text[0] == b'-')
}

fn strip_sign(text: &[u8]) -> &[u8] {
    match text {
        [b'+' | b'-', rest @ ..] => rest,
        _ => text,
    }
}
