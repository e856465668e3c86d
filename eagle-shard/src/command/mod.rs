//! Commands: the shard's part of the command table, and the handlers that it names.
//!
//! Each file is a family: its rows first, the handlers below. A handler runs with all its keys on this shard, sees one `now`,
//! and either writes exactly one reply or returns an error before it wrote anything. What crosses shards is the node's: it
//! splits a command key by key, or carries values across by the rows whose names begin with `#`, which no client
//! can call ([`transfer`]).
//!
//! - [`string`], [`many`], [`counter`], [`range`], [`lcs`]: strings;
//! - [`hash`] and its parts: hashes;
//! - [`expiry`], [`key`], [`scan`], [`database`], [`object`]: keys of any type;
//! - [`lookup`]: from a name to its row; [`describe`]: from a row to what `COMMAND` says of it;
//! - [`args`]: options, integers, times.
//!
//! What counts as a hit or a miss is as in Redis: commands that read count, commands that change what they look up do not
//! (`SET` with `GET`, `GETSET`, `GETDEL` and `GETEX` read first, so they count).

use eagle_resp::Args;
use smallvec::SmallVec;

use crate::{
    call::{Call, DbId, Key},
    dash::{Hashed, Located},
    error::Error,
    keyspace::Found,
    shard::Shard,
    spec::{Categories, Group, Route, Spec, Steps},
};

pub mod args;
pub mod counter;
pub mod database;
pub mod describe;
pub mod expiry;
pub mod hash;
pub mod key;
pub mod lcs;
pub mod lookup;
pub mod many;
pub mod memory;
pub mod object;
pub mod range;
pub mod refusal;
pub mod scan;
pub mod string;
pub mod transfer;

pub use key::{CopyOptions, parse_copy};
pub use lcs::lcs_reply;
pub use transfer::{ABANDON, COPY, EXPORT, FETCH, IMPORT};

/// Families in the order of the command reference.
const FAMILIES: [&[Spec]; 13] = [
    string::ROWS,
    many::ROWS,
    counter::ROWS,
    range::ROWS,
    lcs::ROWS,
    hash::ROWS,
    hash::counter::ROWS,
    hash::walk::ROWS,
    expiry::ROWS,
    key::ROWS,
    scan::ROWS,
    database::ROWS,
    object::ROWS,
];

/// The rows of all commands that shards execute; containers once, their subcommands within.
pub fn rows() -> impl Iterator<Item = &'static Spec> {
    FAMILIES.into_iter().flatten()
}

/// `DEL`, for who deletes on behalf of another command.
pub static DEL: &Spec = row(key::ROWS, "del");
/// `EXISTS`, for who looks on behalf of another command.
pub static EXISTS: &Spec = row(key::ROWS, "exists");
/// `MSET`, for who sets on behalf of another command.
pub static MSET: &Spec = row(many::ROWS, "mset");

/// The row of this name, found when the program is compiled.
const fn row(rows: &'static [Spec], name: &str) -> &'static Spec {
    let mut i = 0;
    while i < rows.len() {
        if same(rows[i].name.as_bytes(), name.as_bytes()) {
            return &rows[i];
        }
        i += 1;
    }
    panic!("no row has this name")
}

const fn same(a: &[u8], b: &[u8]) -> bool {
    let mut i = 0;
    while i < a.len() && i < b.len() && a[i] == b[i] {
        i += 1;
    }
    i == a.len() && i == b.len()
}

/// What rows of strings have in common.
const STRING: Spec =
    Spec { categories: Categories::STRING, route: Route::Keys(Steps::Single), group: Group::String, ..Spec::BLANK };

/// What rows of keys of any type have in common.
const GENERIC: Spec =
    Spec { categories: Categories::KEYSPACE, route: Route::Keys(Steps::Single), group: Group::Generic, ..Spec::BLANK };

/// The first key, which is the argument at `index`; its hash comes with the call if the router computed it.
#[inline]
fn first_key<'a>(shard: &Shard, call: &Call<'a>, index: usize) -> Result<Key<'a>, Error> {
    let bytes = call.arg(index)?;
    Ok(match call.first {
        Some(hashed) => Key { bytes, hashed },
        None => shard.key(bytes),
    })
}

/// Looks a key up for a command that reads about it without using it: counts a hit or a miss.
#[inline]
fn look(shard: &mut Shard, call: &Call<'_>, key: Key<'_>) -> Option<Found> {
    let found = shard.find(call.db, key, call.now);
    match found {
        Some(_) => shard.stats.hits += 1,
        None => shard.stats.misses += 1,
    }
    found
}

/// Takes back what was written of a reply since `begin`: the command fails after all.
#[cold]
fn unsay(call: &mut Call<'_>, begin: usize, error: Error) -> Error {
    call.reply.out.truncate(begin);
    error
}

/// Keys that are looked up together.
const ROUND: usize = 16;

/// Calls `act` with the index and the key of arguments 1, 1 + `step`, ... of a command, and asks the memory for what the
/// lookups of a round of keys will touch before the first is made. Ends with the first error.
fn each_key<'a>(
    shard: &mut Shard,
    db: DbId,
    args: Args<'a>,
    first: Option<Hashed>,
    step: usize,
    mut act: impl FnMut(&mut Shard, usize, Key<'a>) -> Result<(), Error>,
) -> Result<(), Error> {
    if args.len() <= 1 + step {
        // A single key has nothing to wait for together with.
        let bytes = args.get(1).ok_or(Error::Syntax)?;
        let hashed = first.unwrap_or_else(|| shard.key(bytes).hashed);
        return act(shard, 1, Key { bytes, hashed });
    }
    let mut keys = args.iter().enumerate().skip(1).step_by(step);
    let mut first = first;
    loop {
        let mut round: SmallVec<[(usize, Key<'a>, Located); ROUND]> = SmallVec::new();
        for (index, bytes) in keys.by_ref().take(ROUND) {
            let hashed = first.take().unwrap_or_else(|| shard.key(bytes).hashed);
            round.push((index, Key { bytes, hashed }, shard.prefetch_bucket(db, hashed)));
        }
        for (_, _, at) in &round {
            shard.prefetch_words(db, *at);
        }
        for (_, _, at) in &round {
            shard.prefetch_record(db, *at);
        }
        for (index, key, _) in &round {
            act(shard, *index, *key)?;
        }
        if round.len() < ROUND {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests;
