//! A long double: x87's floating point number of 80 bits, in which Redis reckons `INCRBYFLOAT` and `HINCRBYFLOAT`.
//!
//! Reading and adding round to nearest as the processor does; writing is exact, like C's `%.17Lf`, with the zeros at the
//! end cut off. A number is sign, a 64-bit significand and an exponent: value = significand * 2^exponent.
//! Source: Redis 7.2 `util.c`, `string2ld` and `ld2string` (mode `LD_STR_HUMAN`).

use rustc_apfloat::ieee::X87DoubleExtended;
use rustc_apfloat::{Float, Round, Status};

use super::{hex, is_decimal, is_spelt_zero, spelt_infinity};

/// The longest text that Redis reads a long double from, in bytes.
const TEXT_LEN_MAX: usize = 5 * 1024 - 1;

/// Ten to the number of decimals that are written at most.
const SCALE: u128 = 10u128.pow(17);

/// An encoded number: sign, 15 bits of exponent, 64 bits of significand.
const EXPONENT_MASK: i32 = 0x7fff;
/// What is added to an exponent to encode it.
const EXPONENT_BIAS: i32 = 16383;

/// A floating point number of 80 bits, not NaN.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LongDouble(X87DoubleExtended);

impl LongDouble {
    /// Reads a number as C's `strtold` does, all of the text, in decimal or hexadecimal. No blanks, no NaN, nothing that
    /// overflows to infinity or underflows to zero; infinity only if spelt so.
    pub fn parse(text: &[u8]) -> Option<Self> {
        if text.len() > TEXT_LEN_MAX {
            return None;
        }
        if hex::begins(text) {
            return hex::parse(text).map(Self);
        }
        if let Some(is_negative) = spelt_infinity(text) {
            let infinity = X87DoubleExtended::INFINITY;
            return Some(Self(if is_negative { -infinity } else { infinity }));
        }
        if !is_decimal(text) {
            return None;
        }
        let text = std::str::from_utf8(text).expect("digits are ASCII");
        let parsed = X87DoubleExtended::from_str_r(text, Round::NearestTiesToEven).ok()?;
        let is_out_of_range =
            parsed.status.contains(Status::OVERFLOW) || parsed.value.is_zero() && !is_spelt_zero(text.as_bytes());
        (!is_out_of_range).then_some(Self(parsed.value))
    }

    /// The sum. `None` if it is infinite or no number.
    pub fn checked_add(self, other: Self) -> Option<Self> {
        let sum = (self.0 + other.0).value;
        sum.is_finite().then_some(Self(sum))
    }

    /// Whether it is neither infinity.
    pub fn is_finite(self) -> bool {
        self.0.is_finite()
    }

    /// Appends the number in decimal, rounded to 17 decimals, without zeros at the end, without exponent and never `-0`. At most
    /// 4,934 bytes.
    pub fn write(self, out: &mut Vec<u8>) {
        let start = out.len();
        if self.0.is_negative() {
            out.push(b'-');
        }
        if !self.0.is_finite() {
            out.extend_from_slice(b"inf");
            return;
        }
        let bits = self.0.to_bits();
        let significand = bits as u64;
        let exponent = ((bits >> 64) as i32 & EXPONENT_MASK).max(1) - EXPONENT_BIAS - 63;
        if exponent > 0 {
            write_integer(significand, exponent.unsigned_abs(), out);
        } else {
            write_fraction(significand, exponent.unsigned_abs(), out);
        }
        if &out[start..] == b"-0" {
            out.remove(start);
        }
    }
}

/// Appends `significand * 2^-shift`, rounded half to even. No product here has more than 121 bits.
fn write_fraction(significand: u64, shift: u32, out: &mut Vec<u8>) {
    let mut whole = significand.checked_shr(shift).unwrap_or(0);
    let fraction = significand - whole.checked_shl(shift).unwrap_or(0);
    let scaled = u128::from(fraction) * SCALE;
    let mut decimals = scaled.checked_shr(shift).unwrap_or(0);
    let lost = scaled - decimals.checked_shl(shift).unwrap_or(0);
    // From 128 on, half of the last decimal is more than any product.
    let half = if shift == 0 { 1 } else { 1u128.checked_shl(shift - 1).unwrap_or(u128::MAX) };
    if lost > half || lost == half && decimals % 2 == 1 {
        decimals += 1;
    }
    if decimals == SCALE {
        decimals = 0;
        whole += 1;
    }
    out.extend_from_slice(itoa::Buffer::new().format(whole).as_bytes());
    if decimals > 0 {
        // With one digit more in front, so that zeros at the start are kept.
        let mut digits = itoa::Buffer::new();
        let digits = digits.format((SCALE + decimals) as u64).trim_end_matches('0');
        out.push(b'.');
        out.extend_from_slice(&digits.as_bytes()[1..]);
    }
}

/// Appends `significand * 2^shift`, a non-zero integer: nine digits at a time are divided off, the last ones first.
fn write_integer(significand: u64, shift: u32, out: &mut Vec<u8>) {
    const GROUP: u64 = 1_000_000_000;
    let mut limbs = vec![0u32; shift as usize / 32];
    let top = u128::from(significand) << (shift % 32);
    limbs.extend([top as u32, (top >> 32) as u32, (top >> 64) as u32]);
    let mut groups = Vec::new();
    while !limbs.is_empty() {
        let mut rest = 0;
        for limb in limbs.iter_mut().rev() {
            let n = rest << 32 | u64::from(*limb);
            *limb = (n / GROUP) as u32;
            rest = n % GROUP;
        }
        groups.push(rest);
        while limbs.last() == Some(&0) {
            limbs.pop();
        }
    }
    let first = groups.pop().expect("an integer has digits");
    out.extend_from_slice(itoa::Buffer::new().format(first).as_bytes());
    for group in groups.iter().rev() {
        out.extend_from_slice(&itoa::Buffer::new().format(GROUP + group).as_bytes()[1..]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(n: LongDouble) -> String {
        let mut out = Vec::new();
        n.write(&mut out);
        String::from_utf8(out).expect("digits")
    }

    #[test]
    fn sums_are_those_of_a_server() {
        // What a Redis server answered to INCRBYFLOAT comes out digit for digit, errors included.
        let rows = include_str!("recorded_sums.txt").lines().filter(|line| !line.starts_with('#'));
        let mut count = 0;
        for row in rows {
            let mut words = row.split(' ');
            let mut word = || words.next().expect("three words");
            let (a, b, expected) = (word(), word(), word());
            let sum = match (LongDouble::parse(a.as_bytes()), LongDouble::parse(b.as_bytes())) {
                (Some(a), Some(b)) => a.checked_add(b).map_or("not-finite".to_owned(), written),
                _ => "not-a-float".to_owned(),
            };
            assert_eq!(sum, expected, "{a} + {b}");
            count += 1;
        }
        assert!(count > 200, "only {count} rows");
    }

    #[test]
    fn the_largest_number_has_all_its_digits() {
        // The largest long double is written in full: (2^64 - 1) * 2^16320 has 4933 digits.
        let text = written(LongDouble::parse(b"1.18973149535723176502e4932").expect("in range"));
        assert_eq!(text.len(), 4933);
        assert!(text.starts_with("118973149535723176502126385303097020516906332229462420044032373389173700"));
        assert!(text.ends_with("8849149662444156604419552086811989770240"));
    }

    #[test]
    fn blanks_and_odd_lengths_are_refused() {
        // Texts that C would read in part, or with blanks, are no numbers; the longest text still read has 5119 bytes.
        for text in [&b""[..], b" 1", b"1 ", b"\t1", b"1\0", b"\xff"] {
            assert_eq!(LongDouble::parse(text), None, "{}", text.escape_ascii());
        }
        assert!(LongDouble::parse(&[b'0'; 5119]).is_some());
        assert!(LongDouble::parse(&[b'0'; 5120]).is_none());
    }

    #[test]
    fn integers_are_exact_to_64_bits() {
        // Integers of 64 bits are written as they were read, and one unit away is told apart.
        let mut random = crate::test_random();
        for _ in 0..10_000 {
            let n = random.u64(..) >> random.u32(..64);
            let parsed = LongDouble::parse(n.to_string().as_bytes()).expect("an integer");
            assert_eq!(written(parsed), n.to_string());
        }
    }
}
