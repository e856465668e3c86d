//! A form is the grammar of a directive's value: it parses what a user wrote, and prints it as `CONFIG GET` does.
//!
//! The texts of [`Wrong`] are those of Redis 7.2's `src/config.c`, so that a client sees the same complaint.

use std::fmt;

use super::{OutputLimit, OutputLimits, grammar::Grammar};

/// Addresses to listen on, at most.
const ADDRESSES_MAX: usize = 16;

/// What a directive's value may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// `yes` or `no`.
    Flag,
    /// A decimal integer within bounds, both included.
    Integer(i64, i64),
    /// An integer, not negative, that is brought into these bounds silently, as Redis does with `hz`.
    Clamped(i64, i64),
    /// Bytes, with a unit: `512mb`; bounds in bytes, both included.
    Memory(i64, i64),
    /// Bytes, or a percentage of `maxmemory`.
    MemoryOrPercent,
    /// Octal digits up to this value.
    Octal(u32),
    /// One of these words, in any case.
    Choice(&'static [&'static str]),
    /// Any one word, quoted where it has blanks.
    Text,
    /// Any number of words.
    Words,
    /// Words that are addresses, at most 16.
    Addresses,
    /// `class hard soft seconds`, once or several times.
    OutputLimits,
    /// What only one directive has.
    Grammar(Grammar),
}

/// What was written, parsed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// Of a [`Form::Flag`].
    Flag(bool),
    /// Of a number's form; a percentage is negative.
    Number(i64),
    /// Of a [`Form::Choice`]: which.
    Choice(usize),
    /// Of a [`Form::Text`], or of a [`Form::Grammar`] as it is printed.
    Text(Vec<u8>),
    /// Of a [`Form::Words`].
    Words(Vec<String>),
    /// Of a [`Form::OutputLimits`]: the classes that were named.
    OutputLimits(Vec<(OutputClass, OutputLimit)>),
}

/// A class of connections with its own bounds of unread replies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutputClass {
    /// Ordinary clients.
    Normal,
    /// Replicas.
    Replica,
    /// Clients with subscriptions.
    PubSub,
}

impl OutputClass {
    /// This class' bounds.
    pub fn of(self, limits: &mut OutputLimits) -> &mut OutputLimit {
        match self {
            Self::Normal => &mut limits.normal,
            Self::Replica => &mut limits.replica,
            Self::PubSub => &mut limits.pubsub,
        }
    }
}

/// Why a value is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wrong {
    /// Not `yes` or `no`.
    NotFlag,
    /// Not an integer.
    NotInteger,
    /// Not a number of bytes.
    NotMemory,
    /// Neither bytes nor a percentage.
    NotMemoryOrPercent,
    /// Not an octal number.
    NotOctal,
    /// An octal number above this one.
    OctalAbove(u32),
    /// Not between these.
    OutOfRange(i64, i64),
    /// More than 100 %.
    PercentAbove,
    /// None of these.
    NoneOf(&'static [&'static str]),
    /// Not UTF-8, in a path or name.
    NotUtf8,
    /// Words of an output limit are missing or too many.
    LimitWords,
    /// No such class of connections.
    LimitClass,
    /// An output limit that is no number.
    LimitValue,
    /// More than one word, or none.
    WordCount,
    /// More addresses than there may be.
    TooManyAddresses,
    /// Not of a directive's own grammar, which complains like this.
    Grammar(&'static str),
    /// Asks for something that is not available; the text says what the value may be.
    NotAvailable(&'static str),
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotFlag => f.write_str("argument must be 'yes' or 'no'"),
            Self::NotInteger => f.write_str("argument couldn't be parsed into an integer"),
            Self::NotMemory => f.write_str("argument must be a memory value"),
            Self::NotMemoryOrPercent => f.write_str("argument must be a memory or percent value"),
            Self::NotOctal => f.write_str("argument couldn't be parsed as an octal number"),
            Self::OctalAbove(max) => write!(f, "argument must be between 0 and {max:o} inclusive"),
            Self::OutOfRange(min, max) => {
                write!(f, "argument must be between {min} and {max} inclusive")
            }
            Self::PercentAbove => f.write_str("percentage argument must be less or equal to 100"),
            Self::NoneOf(names) => write!(f, "argument(s) must be one of the following: {}", names.join(", ")),
            Self::NotUtf8 => f.write_str("argument must be UTF-8"),
            Self::LimitWords => f.write_str("Wrong number of arguments in buffer limit configuration."),
            Self::LimitClass => f.write_str("Invalid client class specified in buffer limit configuration."),
            Self::LimitValue => {
                f.write_str("Error in hard, soft or soft_seconds setting in buffer limit configuration.")
            }
            Self::WordCount => f.write_str("wrong number of arguments"),
            Self::TooManyAddresses => f.write_str("Too many bind addresses specified."),
            Self::Grammar(text) | Self::NotAvailable(text) => f.write_str(text),
        }
    }
}

impl Form {
    /// Whether a line of the file may hold several words, which are joined by blanks.
    #[must_use]
    pub fn takes_words(self) -> bool {
        match self {
            Self::Words | Self::Addresses | Self::OutputLimits => true,
            Self::Grammar(grammar) => grammar.takes_words(),
            _ => false,
        }
    }

    /// Parses what was written.
    pub fn parse(self, text: &[u8]) -> Result<Value, Wrong> {
        match self {
            Self::Flag if text.eq_ignore_ascii_case(b"yes") => Ok(Value::Flag(true)),
            Self::Flag if text.eq_ignore_ascii_case(b"no") => Ok(Value::Flag(false)),
            Self::Flag => Err(Wrong::NotFlag),
            Self::Integer(min, max) => within(integer(text).ok_or(Wrong::NotInteger)?, min, max),
            Self::Clamped(min, max) => {
                let number = integer(text).ok_or(Wrong::NotInteger)?;
                within(number, 0, i64::from(i32::MAX)).map(|_| Value::Number(number.clamp(min, max)))
            }
            Self::Memory(min, max) => match i64::try_from(memory(text).ok_or(Wrong::NotMemory)?) {
                Ok(bytes) => within(bytes, min, max),
                Err(_) => Err(Wrong::OutOfRange(min, max)),
            },
            Self::MemoryOrPercent => match text.split_last() {
                Some((b'%', digits)) => match integer(digits) {
                    Some(percent @ 0..=100) => Ok(Value::Number(-percent)),
                    Some(101..) => Err(Wrong::PercentAbove),
                    _ => Err(Wrong::NotMemoryOrPercent),
                },
                _ => memory(text).map(|bytes| Value::Number(saturated(bytes))).ok_or(Wrong::NotMemoryOrPercent),
            },
            Self::Octal(max) => {
                let digits = str::from_utf8(text).map_err(|_| Wrong::NotOctal)?;
                let mode = u32::from_str_radix(digits, 8).map_err(|_| Wrong::NotOctal)?;
                if mode > max { Err(Wrong::OctalAbove(max)) } else { Ok(Value::Number(i64::from(mode))) }
            }
            Self::Choice(names) => names
                .iter()
                .position(|name| text.eq_ignore_ascii_case(name.as_bytes()))
                .map(Value::Choice)
                .ok_or(Wrong::NoneOf(names)),
            Self::Text => Ok(Value::Text(text.to_vec())),
            Self::Words | Self::Addresses => {
                let text = str::from_utf8(text).map_err(|_| Wrong::NotUtf8)?;
                let words: Vec<String> = text.split_ascii_whitespace().map(str::to_owned).collect();
                let too_many = self == Self::Addresses && words.len() > ADDRESSES_MAX;
                if too_many { Err(Wrong::TooManyAddresses) } else { Ok(Value::Words(words)) }
            }
            Self::OutputLimits => output_limits(text).map(Value::OutputLimits),
            Self::Grammar(grammar) => grammar.parse(text).map(|text| Value::Text(text.into_bytes())),
        }
    }

    /// Prints a value of this form as `CONFIG GET` shows it.
    #[must_use]
    pub fn print(self, value: &Value) -> Vec<u8> {
        match value {
            Value::Flag(flag) => if *flag { &b"yes"[..] } else { b"no" }.to_vec(),
            Value::Number(mode) if matches!(self, Self::Octal(_)) => format!("{mode:o}").into_bytes(),
            Value::Number(percent @ ..0) if self == Self::MemoryOrPercent => format!("{}%", -percent).into_bytes(),
            Value::Number(number) => number.to_string().into_bytes(),
            Value::Choice(index) => match self {
                Self::Choice(names) => names[*index].as_bytes().to_vec(),
                _ => unreachable!("a choice has names"),
            },
            Value::Text(text) => text.clone(),
            Value::Words(words) => words.join(" ").into_bytes(),
            Value::OutputLimits(limits) => print_output_limits(limits).into_bytes(),
        }
    }

    /// The form in words, for the help.
    #[must_use]
    pub fn describe(self) -> String {
        match self {
            Self::Flag => "yes|no".to_owned(),
            Self::Integer(i64::MIN, _) => "integer".to_owned(),
            Self::Integer(min, i64::MAX) | Self::Clamped(min, i64::MAX) => format!("{min}.."),
            Self::Integer(min, max) | Self::Clamped(min, max) => format!("{min}..{max}"),
            Self::Memory(..) => "memory".to_owned(),
            Self::MemoryOrPercent => "memory|percent".to_owned(),
            Self::Octal(_) => "octal".to_owned(),
            Self::Choice(names) => names.join("|"),
            Self::Text => "text".to_owned(),
            Self::Words => "words".to_owned(),
            Self::Addresses => "addresses".to_owned(),
            Self::OutputLimits => "class hard soft seconds".to_owned(),
            Self::Grammar(grammar) => grammar.describe().to_owned(),
        }
    }
}

fn within(number: i64, min: i64, max: i64) -> Result<Value, Wrong> {
    if (min..=max).contains(&number) { Ok(Value::Number(number)) } else { Err(Wrong::OutOfRange(min, max)) }
}

/// A number of bytes, with a unit or without, as a directive takes it.
#[must_use]
pub fn bytes(text: &[u8]) -> Option<u64> {
    memory(text).map(|bytes| u64::try_from(bytes).unwrap_or(u64::MAX))
}

fn integer(text: &[u8]) -> Option<i64> {
    // Redis takes no leading plus.
    if text.starts_with(b"+") {
        return None;
    }
    str::from_utf8(text).ok()?.parse().ok()
}

/// Bytes with a unit: `k` and `m` and `g` count in thousands, `kb`, `mb` and `gb` in 1024s. More than fits is
/// `i128::MAX`, so that it is out of range rather than no number.
fn memory(text: &[u8]) -> Option<i128> {
    let digits = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let unit = match text[digits..].to_ascii_lowercase().as_slice() {
        b"" | b"b" => 1,
        b"k" => 1000,
        b"kb" => 1 << 10,
        b"m" => 1_000_000,
        b"mb" => 1 << 20,
        b"g" => 1_000_000_000,
        b"gb" => 1 << 30,
        _ => return None,
    };
    // No digits are none of them, as in Redis.
    let digits = str::from_utf8(&text[..digits]).ok()?;
    Some(format!("0{digits}").parse::<i128>().map_or(i128::MAX, |number| number.saturating_mul(unit)))
}

/// A number of bytes that fits, or the nearest that does.
fn saturated(bytes: i128) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

fn output_limits(text: &[u8]) -> Result<Vec<(OutputClass, OutputLimit)>, Wrong> {
    let words: Vec<&[u8]> = text.split(|byte| *byte == b' ').filter(|word| !word.is_empty()).collect();
    if !words.len().is_multiple_of(4) {
        return Err(Wrong::LimitWords);
    }
    words
        .chunks_exact(4)
        .map(|words| {
            let class = match words[0].to_ascii_lowercase().as_slice() {
                b"normal" => OutputClass::Normal,
                b"slave" | b"replica" => OutputClass::Replica,
                b"pubsub" => OutputClass::PubSub,
                _ => return Err(Wrong::LimitClass),
            };
            let number = |word| memory(word).and_then(|number| u64::try_from(number).ok()).ok_or(Wrong::LimitValue);
            let seconds = integer(words[3]).and_then(|seconds| u32::try_from(seconds).ok()).ok_or(Wrong::LimitValue)?;
            Ok((
                class,
                OutputLimit { hard_bytes: number(words[1])?, soft_bytes: number(words[2])?, soft_seconds: seconds },
            ))
        })
        .collect()
}

/// Redis still prints `slave` here.
fn print_output_limits(limits: &[(OutputClass, OutputLimit)]) -> String {
    let texts: Vec<String> = limits
        .iter()
        .map(|(class, limit)| {
            let name = match class {
                OutputClass::Normal => "normal",
                OutputClass::Replica => "slave",
                OutputClass::PubSub => "pubsub",
            };
            format!("{name} {} {} {}", limit.hard_bytes, limit.soft_bytes, limit.soft_seconds)
        })
        .collect();
    texts.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_units_count_as_in_redis() {
        // Without b in thousands, with b in 1024s, in any case; garbage and overflow are refused.
        for (text, bytes) in [
            ("100", Some(100)),
            ("7b", Some(7)),
            ("1k", Some(1000)),
            ("1KB", Some(1024)),
            ("2m", Some(2_000_000)),
            ("512mb", Some(512 << 20)),
            ("1G", Some(1_000_000_000)),
            ("1gB", Some(1 << 30)),
            ("", Some(0)),
            ("mb", Some(0)),
            ("1zb", None),
            ("-1", None),
            ("1.5gb", None),
            ("9999999999999gb", Some(9_999_999_999_999 << 30)),
        ] {
            assert_eq!(memory(text.as_bytes()), bytes, "{text}");
        }
    }

    #[test]
    fn what_is_printed_parses_to_the_same_value() {
        // Each form is its own inverse, whatever spelling was given first.
        for (form, written, shown) in [
            (Form::Flag, "YES", "yes"),
            (Form::Integer(-5, 5), "-5", "-5"),
            (Form::Clamped(1, 500), "0", "1"),
            (Form::Memory(0, i64::MAX), "1kb", "1024"),
            (Form::MemoryOrPercent, "15%", "15%"),
            (Form::Octal(0o777), "700", "700"),
            (Form::Choice(&["one", "two"]), "TWO", "two"),
            (Form::Words, "a   b", "a b"),
            (Form::OutputLimits, "replica 1mb 2kb 3", "slave 1048576 2048 3"),
        ] {
            let value = form.parse(written.as_bytes()).unwrap();
            assert_eq!(String::from_utf8(form.print(&value)).unwrap(), shown);
            assert_eq!(form.parse(shown.as_bytes()), Ok(value));
        }
    }

    #[test]
    fn complaints_read_as_those_of_redis() {
        // Recorded from redis-server 7.0.15.
        for (form, text, complaint) in [
            (Form::Flag, "maybe", "argument must be 'yes' or 'no'"),
            (Form::Integer(1, 4_294_967_295), "0", "argument must be between 1 and 4294967295 inclusive"),
            (Form::Integer(0, 1), "abc", "argument couldn't be parsed into an integer"),
            (Form::Memory(0, i64::MAX), "1zb", "argument must be a memory value"),
            (
                Form::Memory(0, i64::MAX),
                "99999999999999999999",
                "argument must be between 0 and 9223372036854775807 inclusive",
            ),
            (Form::Clamped(1, 500), "-1", "argument must be between 0 and 2147483647 inclusive"),
            (Form::MemoryOrPercent, "200%", "percentage argument must be less or equal to 100"),
            (Form::Choice(&["a", "b"]), "c", "argument(s) must be one of the following: a, b"),
            (Form::OutputLimits, "normal", "Wrong number of arguments in buffer limit configuration."),
            (Form::OutputLimits, "foo 1 1 1", "Invalid client class specified in buffer limit configuration."),
            (
                Form::OutputLimits,
                "normal 1 2 x",
                "Error in hard, soft or soft_seconds setting in buffer limit configuration.",
            ),
        ] {
            assert_eq!(form.parse(text.as_bytes()).unwrap_err().to_string(), complaint);
        }
    }
}
