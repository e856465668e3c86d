//! Arguments of a command as what they stand for: integers, options, expiry times.
//!
//! What is accepted, the order in which mistakes are found and their words are those of Redis 7.2. A word may be in any case. An
//! option said twice counts once, or, with a value, the last; two that exclude each other are a syntax error.

use eagle_resp::{Args, number};

use crate::{
    call::{DbId, UnixMs},
    error::Error,
    spec::Spec,
};

/// Whether an argument is this word, in any case.
#[must_use]
pub fn is(arg: &[u8], word: &str) -> bool {
    arg.eq_ignore_ascii_case(word.as_bytes())
}

/// A 64-bit integer.
pub fn integer(arg: &[u8]) -> Result<i64, Error> {
    number::parse_i64(arg).ok_or(Error::NotInteger)
}

/// A 32-bit integer, for what is an `int` in Redis.
pub fn int(arg: &[u8]) -> Result<i32, Error> {
    const RANGE: &str = "ERR value is out of range, value must between -2147483648 and 2147483647";
    i32::try_from(integer(arg)?).map_err(|_| Error::Line(RANGE))
}

/// A database, of `count`.
pub fn database(arg: &[u8], count: u8) -> Result<DbId, Error> {
    let index = u8::try_from(int(arg)?).map_err(|_| Error::DbOutOfRange)?;
    if index < count { Ok(DbId(index)) } else { Err(Error::DbOutOfRange) }
}

/// The arguments behind the fixed ones, one after the other.
#[derive(Clone, Copy, Debug)]
pub struct Options<'a> {
    args: Args<'a>,
    next: usize,
}

impl<'a> Options<'a> {
    /// The options from index `first` on.
    #[must_use]
    pub fn new(args: Args<'a>, first: usize) -> Self {
        Self { args, next: first }
    }

    /// The value of the option that was read last; a syntax error if there is none.
    pub fn value(&mut self) -> Result<&'a [u8], Error> {
        self.next().ok_or(Error::Syntax)
    }
}

impl<'a> Iterator for Options<'a> {
    type Item = &'a [u8];

    #[inline]
    fn next(&mut self) -> Option<&'a [u8]> {
        let arg = self.args.get(self.next)?;
        self.next += 1;
        Some(arg)
    }
}

/// What an expiry is counted in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unit {
    Seconds,
    Milliseconds,
}

/// What an expiry is counted from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Since {
    Now,
    Epoch,
}

/// How an expiry is said: its unit and what it is counted from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Clock {
    pub(super) unit: Unit,
    pub(super) since: Since,
}

impl Clock {
    /// `EX`
    pub(super) const EX: Self = Self { unit: Unit::Seconds, since: Since::Now };
    /// `PX`
    pub(super) const PX: Self = Self { unit: Unit::Milliseconds, since: Since::Now };
    /// `EXAT`
    pub(super) const EXAT: Self = Self { unit: Unit::Seconds, since: Since::Epoch };
    /// `PXAT`
    pub(super) const PXAT: Self = Self { unit: Unit::Milliseconds, since: Since::Epoch };

    fn of(word: &[u8]) -> Option<Self> {
        let words = [("EX", Self::EX), ("PX", Self::PX), ("EXAT", Self::EXAT), ("PXAT", Self::PXAT)];
        words.into_iter().find(|(known, _)| is(word, known)).map(|(_, clock)| clock)
    }

    /// The time that lies `amount` on this clock, in milliseconds of the epoch, or `None` beyond 64 bits.
    pub(super) fn time(self, amount: i64, now: UnixMs) -> Option<i64> {
        let ms = match self.unit {
            Unit::Seconds => amount.checked_mul(1000)?,
            Unit::Milliseconds => amount,
        };
        match self.since {
            Since::Now => ms.checked_add_unsigned(now.0),
            Since::Epoch => Some(ms),
        }
    }
}

/// An expiry as `SET`, `SETEX` and `GETEX` take it: not yet looked at, because they look at other things first.
#[derive(Clone, Copy, Debug)]
pub(super) struct Expiry<'a> {
    pub(super) clock: Clock,
    pub(super) amount: &'a [u8],
}

impl Expiry<'_> {
    /// When it is: after the epoch, and at most the latest time that a record can carry.
    pub(super) fn time(self, now: UnixMs, spec: &Spec) -> Result<UnixMs, Error> {
        let amount = integer(self.amount)?;
        let time = if amount > 0 { self.clock.time(amount, now) } else { None };
        time.map(unix_ms).ok_or(Error::InvalidExpire(spec.name))
    }
}

/// A time as records carry it: what lies before the epoch is the epoch, what lies beyond their 48 bits their latest.
pub(super) fn unix_ms(ms: i64) -> UnixMs {
    UnixMs(u64::try_from(ms).unwrap_or(0)).min(UnixMs::MAX)
}

/// What becomes of a key's expiry.
#[derive(Clone, Copy, Debug, Default)]
pub(super) enum Lifetime<'a> {
    /// Not said.
    #[default]
    Unsaid,
    /// `KEEPTTL`.
    Keep,
    /// `PERSIST`.
    Persist,
    /// `EX` and its like.
    Until(Expiry<'a>),
}

impl<'a> Lifetime<'a> {
    /// Takes `word` for one of `EX`, `PX`, `EXAT` and `PXAT`, with its value.
    fn until(self, word: &[u8], options: &mut Options<'a>) -> Result<Self, Error> {
        let clock = Clock::of(word).ok_or(Error::Syntax)?;
        match self {
            Self::Unsaid => {}
            Self::Until(before) if before.clock == clock => {}
            _ => return Err(Error::Syntax),
        }
        Ok(Self::Until(Expiry { clock, amount: options.value()? }))
    }
}

/// On what a key is set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Condition {
    /// In any case.
    #[default]
    Always,
    /// `NX`: it is not there.
    IfAbsent,
    /// `XX`: it is there.
    IfPresent,
}

/// The options of `SET`.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct SetOptions<'a> {
    pub(super) condition: Condition,
    pub(super) get: bool,
    pub(super) lifetime: Lifetime<'a>,
}

impl<'a> SetOptions<'a> {
    pub(super) fn parse(mut options: Options<'a>) -> Result<Self, Error> {
        let mut set = Self::default();
        while let Some(word) = options.next() {
            match set.lifetime {
                _ if is(word, "NX") && set.condition != Condition::IfPresent => {
                    set.condition = Condition::IfAbsent;
                }
                _ if is(word, "XX") && set.condition != Condition::IfAbsent => {
                    set.condition = Condition::IfPresent;
                }
                _ if is(word, "GET") => set.get = true,
                Lifetime::Unsaid | Lifetime::Keep if is(word, "KEEPTTL") => {
                    set.lifetime = Lifetime::Keep;
                }
                lifetime => set.lifetime = lifetime.until(word, &mut options)?,
            }
        }
        Ok(set)
    }
}

/// The options of `GETEX`.
pub(super) fn getex_options(mut options: Options<'_>) -> Result<Lifetime<'_>, Error> {
    let mut lifetime = Lifetime::Unsaid;
    while let Some(word) = options.next() {
        lifetime = match lifetime {
            Lifetime::Unsaid | Lifetime::Persist if is(word, "PERSIST") => Lifetime::Persist,
            lifetime => lifetime.until(word, &mut options)?,
        };
    }
    Ok(lifetime)
}

#[cfg(test)]
mod tests {
    use eagle_resp::OwnedArgs;

    use super::*;

    #[test]
    fn expiries_are_checked_before_and_after_they_are_added_up() {
        // Zero, negative and overflowing amounts are refused, far ones end at the latest time of a record.
        let now = UnixMs(1_000_000);
        let time = |clock, amount: &str| Expiry { clock, amount: amount.as_bytes() }.time(now, &Spec::BLANK);
        let refused = Err(Error::InvalidExpire(""));
        assert_eq!(time(Clock::EX, "10"), Ok(UnixMs(1_010_000)));
        assert_eq!(time(Clock::PX, "10"), Ok(UnixMs(1_000_010)));
        assert_eq!(time(Clock::EXAT, "10"), Ok(UnixMs(10_000)));
        assert_eq!(time(Clock::PXAT, "10"), Ok(UnixMs(10)));
        assert_eq!(time(Clock::EX, "0"), refused);
        assert_eq!(time(Clock::PXAT, "-1"), refused);
        assert_eq!(time(Clock::EX, "9223372036854775"), refused);
        assert_eq!(time(Clock::PX, "9223372036854775807"), refused);
        assert_eq!(time(Clock::PXAT, "9223372036854775807"), Ok(UnixMs::MAX));
        assert_eq!(time(Clock::PX, "x"), Err(Error::NotInteger));
    }

    #[test]
    fn options_that_exclude_each_other_are_refused() {
        // The same option twice is fine, two of a kind are not, a value may be missing.
        let parse = |line: &str| {
            let owned: OwnedArgs = line.split(' ').map(str::as_bytes).collect();
            SetOptions::parse(Options::new(owned.as_args(), 0)).map(|_| ())
        };
        for fine in ["NX", "nx NX", "NX GET", "EX 1 EX 2", "KEEPTTL XX KEEPTTL", "get get px 7"] {
            assert_eq!(parse(fine), Ok(()), "{fine}");
        }
        for wrong in ["NX XX", "EX", "EX 1 PX 2", "EX 1 EXAT 2", "KEEPTTL EX 1", "PXAT 1 KEEPTTL", "PERSIST", ""] {
            assert_eq!(parse(wrong), Err(Error::Syntax), "{wrong}");
        }
    }
}
