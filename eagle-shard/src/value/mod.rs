//! The value types: how each lies in records, and what its commands need of it.
//!
//! A key's index entry says by its tag in which *form* the value lies, so that a type is known without reading the record; the
//! record's own tag says in which encoding Redis would hold it.

use eagle_pmem::{CollectionId, Kind, Record};

pub(crate) mod by_id;
pub(crate) mod elements;
pub mod hash;
pub(crate) mod large;
pub(crate) mod packed;
pub(crate) mod patch;
pub mod string;

pub use hash::{HashRef, PackedLimits};
pub use string::{Encoding, StringRef};

/// What a key holds, as Redis' `TYPE` names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ValueType {
    /// A string.
    String,
    /// A hash.
    Hash,
}

impl ValueType {
    /// As `TYPE` prints it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::String => "string",
            Self::Hash => "hash",
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
    /// A hash: packed in one record, which may have a patch beside it, or a record that is the head of its elements.
    Hash,
}

/// What the tag of a collection's record, packed or head, is above that of its form: so it is no string's encoding.
const COLLECTION: u8 = 0x10;

impl Form {
    #[inline]
    pub(crate) const fn tag(self) -> u8 {
        match self {
            Self::String => 0,
            Self::LargeString => 1,
            Self::Hash => 2,
        }
    }

    #[inline]
    pub(crate) fn of_tag(tag: u8) -> Self {
        match tag {
            0 => Self::String,
            1 => Self::LargeString,
            2 => Self::Hash,
            _ => unreachable!("an entry's tag is one of a form"),
        }
    }

    /// The form that a record's entry has, as replay must know it; what is no key's record has that of a string. `None` if its tag
    /// is none that a shard writes.
    pub(crate) fn of_record(record: Record<'_>) -> Option<Self> {
        match record.kind() {
            Kind::Packed | Kind::Head if record.tag() & COLLECTION != 0 => {
                [Self::Hash].into_iter().find(|form| form.collection_tag() == record.tag())
            }
            Kind::Head => Some(Self::LargeString),
            Kind::Packed => None,
            _ => Some(Self::String),
        }
    }

    /// The tag of a record of a collection of this form, from which replay knows it.
    #[inline]
    pub(crate) const fn collection_tag(self) -> u8 {
        COLLECTION | self.tag()
    }

    #[inline]
    pub(crate) const fn value_type(self) -> ValueType {
        match self {
            Self::String | Self::LargeString => ValueType::String,
            Self::Hash => ValueType::Hash,
        }
    }
}

/// Whether a record is the head of a large collection.
pub(crate) fn is_collection_head(record: Record<'_>) -> bool {
    record.kind() == Kind::Head && record.tag() & COLLECTION != 0
}

/// The id of the large collection that a record is the head of.
#[inline]
pub(crate) fn collection_of(record: Record<'_>) -> Option<CollectionId> {
    if is_collection_head(record) { record.id() } else { None }
}
