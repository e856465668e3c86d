//! The value types: how each lies in records, and what its commands need of it.
//!
//! A key's index entry says by its tag in which *form* the value lies, so that a type is known without reading the record; the
//! record's own tag says in which encoding Redis would hold it.

pub(crate) mod large;
pub mod string;

pub use string::{Encoding, StringRef};

/// What a key holds, as Redis' `TYPE` names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ValueType {
    /// A string.
    String,
}

impl ValueType {
    /// As `TYPE` prints it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::String => "string",
        }
    }
}

/// How a value lies in records: the tag of its index entry, 3 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// A string in one record.
    String,
    /// A string in chunks, the record being their head.
    LargeString,
}

impl Form {
    #[inline]
    pub(crate) const fn tag(self) -> u8 {
        match self {
            Self::String => 0,
            Self::LargeString => 1,
        }
    }

    #[inline]
    pub(crate) fn of_tag(tag: u8) -> Self {
        match tag {
            0 => Self::String,
            1 => Self::LargeString,
            _ => unreachable!("an entry's tag is one of a form"),
        }
    }

    #[inline]
    pub(crate) const fn value_type(self) -> ValueType {
        match self {
            Self::String | Self::LargeString => ValueType::String,
        }
    }
}
