//! Hexadecimal floating point, `0x1.8p3`, which C's `strtod` takes and so Redis does.

use rustc_apfloat::{Float, Round, Status};

/// Whether `text`, behind its sign, begins as a hexadecimal number does.
pub(super) fn begins(text: &[u8]) -> bool {
    matches!(text, [b'0', b'x' | b'X', ..] | [b'+' | b'-', b'0', b'x' | b'X', ..])
}

/// Reads all of `text`, rounding to nearest. Nothing that overflows, or underflows to zero.
pub(super) fn parse<F: Float>(text: &[u8]) -> Option<F> {
    let text = std::str::from_utf8(text).ok()?;
    let (sign, rest) = match text.strip_prefix(['+', '-']) {
        Some(rest) => (&text[..1], rest),
        None => ("", text),
    };
    let rest = rest.strip_prefix("0x").or_else(|| rest.strip_prefix("0X"))?;
    let (digits, exponent) = rest.split_once(['p', 'P']).unwrap_or((rest, "0"));
    let exponent_digits = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
    if exponent_digits.is_empty() || !exponent_digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let parsed = F::from_str_r(&format!("{sign}0x{digits}p{exponent}"), Round::NearestTiesToEven).ok()?;
    let is_spelt_zero = digits.bytes().all(|byte| matches!(byte, b'0' | b'.'));
    let is_out_of_range = parsed.status.contains(Status::OVERFLOW) || parsed.value.is_zero() && !is_spelt_zero;
    (!is_out_of_range).then_some(parsed.value)
}
