//! A floating point number in the digits of a Redis reply.

/// Room that any number needs.
pub const F64_TEXT_MAX: usize = 32;

/// Writes `n` to `text` as Redis 7.2 replies it.
pub fn format_f64(n: f64, text: &mut [u8; F64_TEXT_MAX]) -> &str {
    use std::io::Write as _;
    let mut rest = &mut text[..];
    let written = if n.is_nan() {
        write!(rest, "nan")
    } else if n.is_infinite() || n == 0.0 || n.abs() >= 1e-6 && n.abs() < 1e21 {
        write!(rest, "{n}")
    } else {
        write!(rest, "{n:e}")
    };
    written.expect("room for any number");
    let left = rest.len();
    std::str::from_utf8(&text[..F64_TEXT_MAX - left]).expect("digits are ASCII")
}
