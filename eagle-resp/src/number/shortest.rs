//! A floating point number in the digits of a Redis reply.
//!
//! Redis 7.2 prints integers in full while they are surely exact and all else by Grisu2: nearly always the fewest digits that read back as
//! the same number, once in a thousand one more. That one is why this is not `{}`: a reply must have Redis' very digits.
//! So choices that the algorithm leaves open (which cached power, how to round) are made as Redis' copy of `fpconv` makes
//! them.
//!
//! Sources: F. Loitsch, "Printing Floating-Point Numbers Quickly and Accurately with Integers", PLDI 2010, section 5; Redis 7.2
//! `util.c`, `d2string`.

/// Room that any number needs, in bytes.
pub const F64_TEXT_MAX: usize = 32;

/// Integers up to this size are printed in full: half of what an `i64` holds.
const INTEGER_MAX: f64 = (i64::MAX / 2) as f64;
/// Significant digits of Grisu2 at most.
const DIGITS_MAX: usize = 17;
const HIDDEN_BIT: u64 = 1 << 52;

/// Writes `n` as Redis 7.2 replies it: `3`, `0.1`, `1e+30`, `-0`, `inf`, `-inf`, `nan`.
pub fn format_f64(n: f64, text: &mut [u8; F64_TEXT_MAX]) -> &str {
    let mut text = Text { bytes: text, len: 0 };
    if n.is_nan() {
        text.push(b"nan");
    } else {
        if n.is_sign_negative() {
            text.push(b"-");
        }
        let n = n.abs();
        if n.is_infinite() {
            text.push(b"inf");
        } else if n <= INTEGER_MAX && n.fract() == 0.0 {
            text.push(itoa::Buffer::new().format(n as u64).as_bytes());
        } else {
            lay_out(&Digits::of(n), &mut text);
        }
    }
    text.finish()
}

/// Puts the point where it belongs: plain if that is not much longer, else with an exponent.
fn lay_out(digits: &Digits, text: &mut Text<'_>) {
    let power = digits.power;
    let digits = &digits.digits[..digits.len];
    let len = digits.len() as i32;
    // Exponent of the first digit.
    let exponent = power + len - 1;
    if power >= 0 && exponent < len + 7 {
        text.push(digits);
        text.zeros(power as usize);
    } else if power < 0 && (power > -7 || exponent.abs() < 4) {
        let whole = len + power;
        if whole > 0 {
            let (whole, fraction) = digits.split_at(whole as usize);
            text.push(whole);
            text.push(b".");
            text.push(fraction);
        } else {
            text.push(b"0.");
            text.zeros(whole.unsigned_abs() as usize);
            text.push(digits);
        }
    } else {
        text.push(&digits[..1]);
        if len > 1 {
            text.push(b".");
            text.push(&digits[1..]);
        }
        text.push(if exponent < 0 { b"e-" } else { b"e+" });
        text.push(itoa::Buffer::new().format(exponent.unsigned_abs()).as_bytes());
    }
}

/// A decimal number: `digits` (ASCII) times ten to the `power`.
struct Digits {
    digits: [u8; DIGITS_MAX + 1],
    len: usize,
    power: i32,
}

/// A binary number, `significand` * 2^`exponent`: the paper's "do-it-yourself floating point".
#[derive(Clone, Copy)]
struct Binary {
    significand: u64,
    exponent: i32,
}

impl Binary {
    /// Shifted so that the highest bit is set.
    fn normalised(self) -> Self {
        let shift = self.significand.leading_zeros();
        Self { significand: self.significand << shift, exponent: self.exponent - shift as i32 }
    }

    /// The product, its significand rounded to 64 bits.
    fn times(self, other: Self) -> Self {
        let product = u128::from(self.significand) * u128::from(other.significand) + (1 << 63);
        Self { significand: (product >> 64) as u64, exponent: self.exponent + other.exponent + 64 }
    }
}

impl Digits {
    /// The digits of a positive finite number.
    fn of(n: f64) -> Self {
        let bits = n.to_bits();
        let fraction = bits & (HIDDEN_BIT - 1);
        let value = match (bits >> 52) as i32 {
            0 => Binary { significand: fraction, exponent: 1 - 1075 },
            biased => Binary { significand: fraction | HIDDEN_BIT, exponent: biased - 1075 },
        };
        // Half way to the next numbers above and below, both with the exponent of the upper one. Below a power of two the
        // next one is half as far.
        let upper = Binary { significand: (value.significand << 1) + 1, exponent: value.exponent - 1 }.normalised();
        let closer = if value.significand == HIDDEN_BIT { 2 } else { 1 };
        let lower_exponent = value.exponent - closer;
        let lower = Binary {
            significand: ((value.significand << closer) - 1) << (lower_exponent - upper.exponent),
            exponent: upper.exponent,
        };
        let (scale, power) = cached_power(upper.exponent);
        let mut upper = upper.times(scale);
        let mut lower = lower.times(scale);
        upper.significand -= 1;
        lower.significand += 1;
        let mut digits = Self { digits: [0; DIGITS_MAX + 1], len: 0, power: -power };
        digits.generate(value.normalised().times(scale), upper, lower);
        digits
    }

    /// Digits of `upper`, as many as are needed to come below it by no more than the distance to `lower`; then moves the last one
    /// towards `value`.
    fn generate(&mut self, value: Binary, upper: Binary, lower: Binary) {
        let shift = upper.exponent.unsigned_abs();
        let one = 1u64 << shift;
        let mut delta = upper.significand - lower.significand;
        let mut distance = upper.significand - value.significand;
        // The exponent is -32 at most, so the whole part has 32 bits.
        let mut whole = (upper.significand >> shift) as u32;
        let mut fraction = upper.significand & (one - 1);
        let mut unit = 1_000_000_000;
        for place in (0..10).rev() {
            self.push(u64::from(whole / unit));
            whole %= unit;
            let rest = (u64::from(whole) << shift) + fraction;
            if rest <= delta {
                self.power += place;
                return self.round(delta, rest, u64::from(unit) << shift, distance);
            }
            unit /= 10;
        }
        loop {
            fraction *= 10;
            delta *= 10;
            distance = distance.wrapping_mul(10);
            self.power -= 1;
            self.push(fraction >> shift);
            fraction &= one - 1;
            if fraction < delta {
                return self.round(delta, fraction, one, distance);
            }
        }
    }

    /// Lowers the last digit while that brings the number nearer to the value, `distance` below the upper bound.
    fn round(&mut self, delta: u64, mut rest: u64, unit: u64, distance: u64) {
        while rest < distance
            && delta - rest >= unit
            && (rest + unit < distance || distance - rest > rest + unit - distance)
        {
            self.digits[self.len - 1] -= 1;
            rest += unit;
        }
    }

    /// Appends a digit, if it is not a leading zero.
    fn push(&mut self, digit: u64) {
        if digit > 0 || self.len > 0 {
            self.digits[self.len] = b'0' + digit as u8;
            self.len += 1;
        }
    }
}

/// The power of ten that brings a number of this binary exponent to one between -60 and -32, and which power it is.
fn cached_power(exponent: i32) -> (Binary, i32) {
    let estimate = (f64::from(-(exponent + POWERS.len() as i32)) * std::f64::consts::LOG10_2) as i32;
    let mut i = (estimate - POWER_FIRST) / POWER_STEP;
    loop {
        let power = POWER_FIRST + i * POWER_STEP;
        let scale = Binary { significand: POWERS[i as usize], exponent: power_exponent(power) };
        match exponent + scale.exponent + 64 {
            ..-60 => i += 1,
            -31.. => i -= 1,
            _ => return (scale, power),
        }
    }
}

/// The binary exponent of a power of ten whose significand has 64 bits: the floor of its logarithm, less 63.
fn power_exponent(power: i32) -> i32 {
    ((power * 217_706) >> 16) - 63
}

/// Text in the making.
struct Text<'a> {
    bytes: &'a mut [u8; F64_TEXT_MAX],
    len: usize,
}

impl<'a> Text<'a> {
    fn push(&mut self, more: &[u8]) {
        self.bytes[self.len..self.len + more.len()].copy_from_slice(more);
        self.len += more.len();
    }

    fn zeros(&mut self, n: usize) {
        self.bytes[self.len..self.len + n].fill(b'0');
        self.len += n;
    }

    fn finish(self) -> &'a str {
        std::str::from_utf8(&self.bytes[..self.len]).expect("digits are ASCII")
    }
}

/// The first power of ten in the table.
const POWER_FIRST: i32 = -348;
/// From one power of ten in the table to the next.
const POWER_STEP: i32 = 8;

/// Significands of 10^-348, 10^-340, ... 10^340, rounded to 64 bits.
#[rustfmt::skip]
const POWERS: [u64; 87] = [
    0xfa8f_d5a0_081c_0288, 0xbaae_e17f_a23e_bf76, 0x8b16_fb20_3055_ac76,
    0xcf42_894a_5dce_35ea, 0x9a6b_b0aa_5565_3b2d, 0xe61a_cf03_3d1a_45df,
    0xab70_fe17_c79a_c6ca, 0xff77_b1fc_bebc_dc4f, 0xbe56_91ef_416b_d60c,
    0x8dd0_1fad_907f_fc3c, 0xd351_5c28_3155_9a83, 0x9d71_ac8f_ada6_c9b5,
    0xea9c_2277_23ee_8bcb, 0xaecc_4991_4078_536d, 0x823c_1279_5db6_ce57,
    0xc210_9436_4dfb_5637, 0x9096_ea6f_3848_984f, 0xd774_85cb_2582_3ac7,
    0xa086_cfcd_97bf_97f4, 0xef34_0a98_172a_ace5, 0xb238_67fb_2a35_b28e,
    0x84c8_d4df_d2c6_3f3b, 0xc5dd_4427_1ad3_cdba, 0x936b_9fce_bb25_c996,
    0xdbac_6c24_7d62_a584, 0xa3ab_6658_0d5f_daf6, 0xf3e2_f893_dec3_f126,
    0xb5b5_ada8_aaff_80b8, 0x8762_5f05_6c7c_4a8b, 0xc9bc_ff60_34c1_3053,
    0x964e_858c_91ba_2655, 0xdff9_7724_7029_7ebd, 0xa6df_bd9f_b8e5_b88f,
    0xf8a9_5fcf_8874_7d94, 0xb944_7093_8fa8_9bcf, 0x8a08_f0f8_bf0f_156b,
    0xcdb0_2555_6531_31b6, 0x993f_e2c6_d07b_7fac, 0xe45c_10c4_2a2b_3b06,
    0xaa24_2499_6973_92d3, 0xfd87_b5f2_8300_ca0e, 0xbce5_0864_9211_1aeb,
    0x8cbc_cc09_6f50_88cc, 0xd1b7_1758_e219_652c, 0x9c40_0000_0000_0000,
    0xe8d4_a510_0000_0000, 0xad78_ebc5_ac62_0000, 0x813f_3978_f894_0984,
    0xc097_ce7b_c907_15b3, 0x8f7e_32ce_7bea_5c70, 0xd5d2_38a4_abe9_8068,
    0x9f4f_2726_179a_2245, 0xed63_a231_d4c4_fb27, 0xb0de_6538_8cc8_ada8,
    0x83c7_088e_1aab_65db, 0xc45d_1df9_4271_1d9a, 0x924d_692c_a61b_e758,
    0xda01_ee64_1a70_8dea, 0xa26d_a399_9aef_774a, 0xf209_787b_b47d_6b85,
    0xb454_e4a1_79dd_1877, 0x865b_8692_5b9b_c5c2, 0xc835_53c5_c896_5d3d,
    0x952a_b45c_fa97_a0b3, 0xde46_9fbd_99a0_5fe3, 0xa59b_c234_db39_8c25,
    0xf6c6_9a72_a398_9f5c, 0xb7dc_bf53_54e9_bece, 0x88fc_f317_f222_41e2,
    0xcc20_ce9b_d35c_78a5, 0x9816_5af3_7b21_53df, 0xe2a0_b5dc_971f_303a,
    0xa8d9_d153_5ce3_b396, 0xfb9b_7cd9_a4a7_443c, 0xbb76_4c4c_a7a4_4410,
    0x8bab_8eef_b640_9c1a, 0xd01f_ef10_a657_842c, 0x9b10_a4e5_e991_3129,
    0xe710_9bfb_a19c_0c9d, 0xac28_20d9_623b_f429, 0x8044_4b5e_7aa7_cf85,
    0xbf21_e440_03ac_dd2d, 0x8e67_9c2f_5e44_ff8f, 0xd433_179d_9c8c_b841,
    0x9e19_db92_b4e3_1ba9, 0xeb96_bf6e_badf_77d9, 0xaf87_023b_9bf0_ee6b,
];

#[cfg(test)]
mod tests {
    use super::*;

    fn text(n: f64) -> String {
        format_f64(n, &mut [0; F64_TEXT_MAX]).to_owned()
    }

    #[test]
    fn digits_are_those_of_a_server() {
        // The recorded replies of a server, forty of them longer than need be, come out digit for digit.
        let rows = include_str!("recorded_doubles.txt").lines().filter(|line| !line.starts_with('#'));
        let mut count = 0;
        for row in rows {
            let (bits, expected) = row.split_once(' ').expect("bits and text");
            let n = f64::from_bits(u64::from_str_radix(bits, 16).expect("bits in hex"));
            assert_eq!(text(n), expected, "{bits}");
            count += 1;
        }
        assert!(count > 150, "only {count} rows");
        assert_eq!(text(f64::NAN), "nan");
        assert_eq!(text(-f64::NAN), "nan");
    }

    #[test]
    fn every_number_reads_back_as_itself() {
        // A hundred thousand random numbers, of all magnitudes, survive being written and read.
        let mut random = crate::test_random();
        for _ in 0..100_000 {
            let n = match random.u8(..3) {
                0 => f64::from_bits(random.u64(..)),
                1 => random.i64(-1_000_000_000..1_000_000_000) as f64 / 10f64.powi(random.i32(0..12)),
                _ => random.f64() * 10f64.powi(random.i32(-30..30)),
            };
            if !n.is_nan() {
                let text = text(n);
                assert_eq!(text.parse::<f64>().map(f64::to_bits), Ok(n.to_bits()), "{text}");
            }
        }
    }

    #[test]
    fn powers_multiply_to_one() {
        // Each power of the table times its opposite is one, but for the rounding of the three significands.
        for i in 1..POWERS.len() as i32 {
            let scale = |i: i32| Binary {
                significand: POWERS[i as usize],
                exponent: power_exponent(POWER_FIRST + i * POWER_STEP),
            };
            let one = scale(i).times(scale(POWERS.len() as i32 - i)).normalised();
            let (below, above) = (u64::MAX - one.significand, one.significand - (1 << 63));
            let (error, exponent) = if below < above { (below, -64) } else { (above, -63) };
            assert!(error <= 4, "10^{} is off by {error}", POWER_FIRST + i * POWER_STEP);
            assert_eq!(one.exponent, exponent);
        }
    }
}
