//! An error is a client's mistake, as a small value that becomes the exact Redis line in one place.
//!
//! Texts are those of Redis 7.2 (`src/server.c: createSharedObjects` and the commands' own). What the world did wrong
//! (storage) carries its facts in `eagle_pmem`; our own mistakes are assertions.

/// A client's mistake, or what the shard must refuse.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// The key holds another type.
    WrongType,
    /// Arguments out of order or unknown.
    Syntax,
    /// Not a 64-bit integer.
    NotInteger,
    /// Not a float.
    NotFloat,
    /// An integer argument outside of its range.
    OutOfRange,
    /// `INCR` and relatives beyond 64 bits.
    Overflow,
    /// `DECRBY` of the smallest integer.
    DecrementOverflow,
    /// `INCRBYFLOAT` to something that is no number.
    NanOrInfinity,
    /// A string would exceed `proto-max-bulk-len`.
    StringTooLong,
    /// A negative or too large offset.
    OffsetOutOfRange,
    /// The key is not there (`RENAME`, `OBJECT`).
    NoSuchKey,
    /// An expiry that is zero, negative or beyond range, in the command of this (lower case) name.
    InvalidExpire(&'static str),
    /// `MOVE`, `COPY` onto itself.
    SameObject,
    /// A database index beyond the configured count.
    DbOutOfRange,
    /// A database index that is not an integer.
    InvalidDbIndex,
    /// `SWAPDB` with a bad first index.
    InvalidFirstDbIndex,
    /// `SWAPDB` with a bad second index.
    InvalidSecondDbIndex,
    /// `SCAN` with a bad cursor.
    InvalidCursor,
    /// Memory or pool is exhausted.
    OutOfMemory,
    /// A wrong number of arguments for the command of this (lower case) name.
    Arity(&'static str),
    /// Any other line, code included (`ERR ...`), for errors that one command alone gives.
    Line(&'static str),
}

impl Error {
    /// Writes the line as Redis sends it, without `-` and line end.
    pub fn write(self, line: &mut String) {
        let text = match self {
            Self::WrongType => "WRONGTYPE Operation against a key holding the wrong kind of value",
            Self::Syntax => "ERR syntax error",
            Self::NotInteger => "ERR value is not an integer or out of range",
            Self::NotFloat => "ERR value is not a valid float",
            Self::OutOfRange => "ERR value is out of range",
            Self::Overflow => "ERR increment or decrement would overflow",
            Self::DecrementOverflow => "ERR decrement would overflow",
            Self::NanOrInfinity => "ERR increment would produce NaN or Infinity",
            Self::StringTooLong => "ERR string exceeds maximum allowed size (proto-max-bulk-len)",
            Self::OffsetOutOfRange => "ERR offset is out of range",
            Self::NoSuchKey => "ERR no such key",
            Self::InvalidExpire(name) => {
                line.push_str("ERR invalid expire time in '");
                line.push_str(name);
                "' command"
            }
            Self::SameObject => "ERR source and destination objects are the same",
            Self::DbOutOfRange => "ERR DB index is out of range",
            Self::InvalidDbIndex => "ERR invalid DB index",
            Self::InvalidFirstDbIndex => "ERR invalid first DB index",
            Self::InvalidSecondDbIndex => "ERR invalid second DB index",
            Self::InvalidCursor => "ERR invalid cursor",
            Self::OutOfMemory => "OOM command not allowed when used memory > 'maxmemory'.",
            Self::Arity(name) => {
                line.push_str("ERR wrong number of arguments for '");
                line.push_str(name);
                "' command"
            }
            Self::Line(text) => text,
        };
        line.push_str(text);
    }
}
