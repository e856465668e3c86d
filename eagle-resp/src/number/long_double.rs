//! A long double: x87's floating point number of 80 bits, in which Redis reckons `INCRBYFLOAT` and `HINCRBYFLOAT`.
//!
//! Reading and adding round to nearest as the processor does; writing is exact, like C's `%.17Lf`, with the zeros at the
//! end cut off. A number is sign, a 64-bit significand and an exponent: value = significand * 2^exponent.
//! Source: Redis 7.2 `util.c`, `string2ld` and `ld2string` (mode `LD_STR_HUMAN`).

use rustc_apfloat::ieee::X87DoubleExtended;
use rustc_apfloat::{Float, Round, Status};

use super::{hex, is_decimal};

/// The longest text that Redis reads a long double from, in bytes.
const TEXT_LEN_MAX: usize = 5 * 1024 - 1;

/// Decimals that are written at most.
const DECIMALS: usize = 17;

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
        if let Some(sign) = super::spelt_infinity(text) {
            return Some(Self(if sign {
                -X87DoubleExtended::INFINITY
            } else {
                X87DoubleExtended::INFINITY
            }));
        }
        if !is_decimal(text) {
            return None;
        }
        let text = std::str::from_utf8(text).expect("digits are ASCII");
        let parsed = X87DoubleExtended::from_str_r(text, Round::NearestTiesToEven).ok()?;
        let is_out_of_range = parsed.status.contains(Status::OVERFLOW)
            || parsed.value.is_zero() && !super::is_spelt_zero(text.as_bytes());
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

    /// Appends the number in decimal, rounded to 17 decimals, without zeros at the end and without exponent. At most 4,952
    /// bytes.
    pub fn write(self, out: &mut Vec<u8>) {
        if self.0.is_negative() && !self.0.is_zero() {
            out.push(b'-');
        }
        if !self.0.is_finite() {
            out.extend_from_slice(b"inf");
            return;
        }
        let bits = self.0.to_bits();
        let significand = bits as u64;
        let exponent = (((bits >> 64) as i32) & 0x7fff).max(1) - 16383 - 63;
        if exponent > 0 {
            write_shifted(significand, exponent as u32, out);
        } else {
            write_fraction(significand, exponent.unsigned_abs(), out);
        }
    }
}

/// Appends `significand * 2^-shift`.
fn write_fraction(significand: u64, shift: u32, out: &mut Vec<u8>) {
    const SCALE: u128 = 10u128.pow(DECIMALS as u32);
    let mut whole = significand.checked_shr(shift).unwrap_or(0);
    let rest = significand - whole.checked_shl(shift).unwrap_or(0);
    let scaled = u128::from(rest) * SCALE;
    let mut decimals = scaled.checked_shr(shift).unwrap_or(0);
    let lost = scaled - decimals.checked_shl(shift).unwrap_or(0);
    let half = if shift == 0 {
        0
    } else {
        1u128.checked_shl(shift - 1).unwrap_or(u128::MAX)
    };
    if lost > half || lost == half && shift > 0 && decimals % 2 == 1 {
        decimals += 1;
    }
    if decimals == SCALE {
        decimals = 0;
        whole += 1;
    }
    out.extend_from_slice(itoa::Buffer::new().format(whole).as_bytes());
    if decimals > 0 {
        let digits = decimals.to_string();
        out.push(b'.');
        out.extend(std::iter::repeat_n(b'0', DECIMALS - digits.len()));
        out.extend_from_slice(digits.trim_end_matches('0').as_bytes());
    }
}

/// Appends the integer `significand * 2^shift`.
fn write_shifted(significand: u64, shift: u32, out: &mut Vec<u8>) {
    const GROUP: u64 = 1_000_000_000;
    let mut limbs = vec![0u32; shift as usize / 32];
    let low = u128::from(significand) << (shift % 32);
    limbs.extend([low as u32, (low >> 32) as u32, (low >> 64) as u32]);
    let mut groups = Vec::new();
    while limbs.iter().any(|limb| *limb != 0) {
        let mut rest = 0;
        for limb in limbs.iter_mut().rev() {
            let n = rest << 32 | u64::from(*limb);
            *limb = (n / GROUP) as u32;
            rest = n % GROUP;
        }
        while limbs.last() == Some(&0) {
            limbs.pop();
        }
        groups.push(rest);
    }
    let (first, rest) = groups.split_last().expect("the significand is not zero");
    out.extend_from_slice(first.to_string().as_bytes());
    for group in rest.iter().rev() {
        out.extend_from_slice(format!("{group:09}").as_bytes());
    }
}
