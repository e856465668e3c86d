//! A record met in a replay: whose it is, and whether it can be one that a shard wrote.
//!
//! Its checksum is right; but a pool may be of another program, or made by hand, and what is served later is read without any
//! check. So what a command relies on is checked here: forms, ids, the encoding of what is packed, lengths.

use eagle_pmem::{CollectionId, Found, Kind, Record, layout::NUMBER_MAX};

use super::{Met, Owner, ReplayError, TOMBSTONE};
use crate::{
    dash::Hashed,
    value::{Encoding, Form, is_collection_head, large, packed::Packed, patch},
};

/// The highest id of a collection that is believed: there are enough above it to go on for a long time.
const ID_MAX: u64 = (1 << CollectionId::BITS) - (1 << 32);

/// Whose a record is, and where its entry would be.
pub(super) fn meet(found: &Found<'_>, seed: u64, databases: usize) -> Result<Met, ReplayError> {
    let &Found { offset, version, record } = found;
    let wrong = |what| ReplayError::Record { byte: offset.byte(), what };
    if version > NUMBER_MAX {
        return Err(wrong("an impossible version"));
    }
    if record.id().is_some_and(|id| id.raw() > ID_MAX) {
        return Err(wrong("an impossible id of a collection"));
    }
    let space = record.db();
    if usize::from(space) >= databases {
        let databases = u8::try_from(databases).unwrap_or(u8::MAX);
        return Err(ReplayError::Database { number: space, databases });
    }
    let is_tombstone = record.kind() == Kind::Tombstone;
    let kind = if is_tombstone {
        let killed = Kind::from_byte(record.tag()).filter(|kind| has_tombstones(*kind));
        killed.ok_or(wrong("a tombstone of what has none"))?
    } else {
        if let Some(what) = fault(record) {
            return Err(wrong(what));
        }
        record.kind()
    };
    let (owner, hashed) = match kind {
        Kind::String | Kind::Packed | Kind::Head => {
            (Owner::Database(usize::from(space)), Some(Hashed::of_key(seed, record.key())))
        }
        Kind::Element => (Owner::Collection(record.id().ok_or(wrong("no collection"))?), None),
        Kind::Chunk => {
            let (id, index) = large::place_of(record).ok_or(wrong("no place in its string"))?;
            (Owner::LargeString(id, index), None)
        }
        Kind::Patch => (Owner::Patches(record.id().ok_or(wrong("no base"))?), None),
        Kind::Flush => (Owner::Flush(space), None),
        Kind::Swap => (Owner::Swap, None),
        _ => return Err(wrong("a kind that shards do not write")),
    };
    let form = if is_tombstone { None } else { Some(Form::of_record(record).ok_or(wrong("an unknown form"))?) };
    let tag = form.map_or(TOMBSTONE, Form::tag);
    let is_head = kind == Kind::Head;
    Ok(Met { offset, version, owner, hashed, located: None, tag, is_head, expiry: record.expiry() })
}

const fn has_tombstones(kind: Kind) -> bool {
    matches!(kind, Kind::String | Kind::Packed | Kind::Head | Kind::Element)
}

/// What is wrong with a record that is no tombstone.
fn fault(record: Record<'_>) -> Option<&'static str> {
    let what = match record.kind() {
        Kind::String if record.id().is_some() => "a string and the id of a collection",
        Kind::String if Encoding::from_byte(record.tag()).is_none() => "a string in an unknown encoding",
        Kind::Packed if Form::of_record(record).is_none() => "an unknown form",
        Kind::Packed if !Packed::is_sound(record.value(), 2) => "a packed collection that is not one",
        Kind::Patch if record.expiry().is_some() => "a patch that expires",
        Kind::Patch if !patch::is_sound(record.value()) => "a patch that is not one",
        Kind::Head if record.id().is_none() => "a head and no id",
        Kind::Head if is_collection_head(record) && !record.value().is_empty() => "a head with a value",
        Kind::Head if !is_collection_head(record) && !large::is_head(record) => "an impossible head of a large string",
        Kind::Element if record.expiry().is_some() => "an element that expires",
        Kind::Chunk if !large::is_chunk(record) => "an impossible chunk of a large string",
        Kind::Swap if !is_permutation(record.value()) => "a swap that loses a database",
        _ => return None,
    };
    Some(what)
}

/// Whether the spaces that a swap gives to the databases are all of them, each once.
fn is_permutation(value: &[u8]) -> bool {
    let (spaces, rest) = value.as_chunks::<2>();
    let mut spaces: Vec<usize> = spaces.iter().map(|bytes| usize::from(u16::from_le_bytes(*bytes))).collect();
    spaces.sort_unstable();
    rest.is_empty() && spaces.iter().enumerate().all(|(at, space)| at == *space)
}
