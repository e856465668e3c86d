//! Keys as wholes, whatever they hold: deleting, looking, renaming, copying, moving.

use eagle_resp::Args;

use super::{
    GENERIC,
    args::{self, Options, is},
    each_key, first_key, look,
};
use crate::{
    call::{Call, DbId},
    error::Error,
    shard::Shard,
    spec::{Flags, KeyFlags, KeySpec, Merge, Route, Run, Spec, Steps},
};

pub(super) const ROWS: &[Spec] = &[
    Spec {
        name: "del",
        syntax: "key...",
        arity: -2,
        flags: Flags::WRITE,
        keys: &[KeySpec::rest(1, 1, KeyFlags::REMOVE)],
        tips: &["request_policy:multi_shard", "response_policy:agg_sum"],
        route: Route::Split(Merge::Sum),
        since: "1.0.0",
        complexity: "O(N) where N is the number of keys that will be removed. When a key to remove holds a value other than a string, the individual complexity for this key is O(M) where M is the number of elements in the list, set, sorted set or hash. Removing a single key that holds a string value is O(1).",
        summary: "Deletes one or more keys.",
        run: Run::Shard(del),
        ..GENERIC
    },
    Spec {
        name: "unlink",
        syntax: "key...",
        arity: -2,
        flags: Flags::WRITE_FAST,
        keys: &[KeySpec::rest(1, 1, KeyFlags::REMOVE)],
        tips: &["request_policy:multi_shard", "response_policy:agg_sum"],
        route: Route::Split(Merge::Sum),
        since: "4.0.0",
        complexity: "O(1) for each key removed regardless of its size. Then the command does O(N) work in a different thread in order to reclaim memory, where N is the number of allocations the deleted objects where composed of.",
        summary: "Asynchronously deletes one or more keys.",
        run: Run::Shard(unlink),
        ..GENERIC
    },
    Spec {
        name: "exists",
        syntax: "key...",
        arity: -2,
        flags: Flags::READ_FAST,
        keys: &[KeySpec::rest(1, 1, KeyFlags::RO)],
        tips: &["request_policy:multi_shard", "response_policy:agg_sum"],
        route: Route::Split(Merge::Sum),
        since: "1.0.0",
        complexity: "O(N) where N is the number of keys to check.",
        summary: "Determines whether one or more keys exist.",
        history: &[("3.0.3", "Accepts multiple `key` arguments.")],
        run: Run::Shard(exists),
        ..GENERIC
    },
    Spec {
        name: "touch",
        syntax: "key...",
        arity: -2,
        flags: Flags::READ_FAST,
        keys: &[KeySpec::rest(1, 1, KeyFlags::RO)],
        tips: &["request_policy:multi_shard", "response_policy:agg_sum"],
        route: Route::Split(Merge::Sum),
        since: "3.2.1",
        complexity: "O(N) where N is the number of keys that will be touched.",
        summary: "Returns the number of existing keys out of those specified after updating the time they were last accessed.",
        run: Run::Shard(touch),
        ..GENERIC
    },
    Spec {
        name: "type",
        syntax: "key",
        arity: 2,
        flags: Flags::READ_FAST,
        keys: &[KeySpec::one(1, KeyFlags::RO)],
        since: "1.0.0",
        complexity: "O(1)",
        summary: "Determines the type of value stored at a key.",
        run: Run::Shard(type_of),
        ..GENERIC
    },
    Spec {
        name: "rename",
        syntax: "key newkey",
        arity: 3,
        flags: Flags::WRITE,
        keys: &[KeySpec::one(1, KeyFlags::TAKE), KeySpec::one(2, KeyFlags::REPLACE)],
        route: Route::Keys(Steps::Move),
        since: "1.0.0",
        complexity: "O(1)",
        summary: "Renames a key and overwrites the destination.",
        run: Run::Shard(rename),
        ..GENERIC
    },
    Spec {
        name: "renamenx",
        syntax: "key newkey",
        arity: 3,
        flags: Flags::WRITE_FAST,
        keys: &[KeySpec::one(1, KeyFlags::TAKE), KeySpec::one(2, KeyFlags::CREATE)],
        route: Route::Keys(Steps::Move),
        since: "1.0.0",
        complexity: "O(1)",
        summary: "Renames a key only when the target key name doesn't exist.",
        history: &[("3.2.0", "The command no longer returns an error when source and destination names are the same.")],
        run: Run::Shard(renamenx),
        ..GENERIC
    },
    Spec {
        name: "copy",
        syntax: "source destination [DB destination-db] [REPLACE]",
        arity: -3,
        flags: Flags::GROW,
        keys: &[KeySpec::one(1, KeyFlags::SHOW), KeySpec::one(2, KeyFlags::REPLACE)],
        route: Route::Keys(Steps::Copy),
        since: "6.2.0",
        complexity: "O(N) worst case for collections, where N is the number of nested items. O(1) for string values.",
        summary: "Copies the value of a key to a new key.",
        run: Run::Shard(copy),
        ..GENERIC
    },
    Spec {
        name: "move",
        syntax: "key db:integer",
        arity: 3,
        flags: Flags::WRITE_FAST,
        keys: &[KeySpec::one(1, KeyFlags::CHANGE_SHOWN)],
        since: "1.0.0",
        complexity: "O(1)",
        summary: "Moves a key to another database.",
        run: Run::Shard(move_key),
        ..GENERIC
    },
];

fn del(shard: &mut Shard, call: &mut Call<'_>) -> Result<(), Error> {
    let (db, now) = (call.db, call.now);
    let mut count = 0;
    let is_group = call.args.len() > 2;
    if is_group {
        shard.begin_tombstones(call);
    }
    let done = each_key(shard, db, call.args, call.first, 1, |shard, _, key| {
        if let Some(found) = shard.find(db, key, now) {
            shard.remove(db, key, found);
            count += 1;
        }
        Ok(())
    });
    if is_group {
        shard.end_tombstones();
    }
    done?;
    call.reply.integer(count);
    Ok(())
}

fn unlink(shard: &mut Shard, call: &mut Call<'_>) -> Result<(), Error> {
    del(shard, call)
}

fn exists(shard: &mut Shard, call: &mut Call<'_>) -> Result<(), Error> {
    let mut count = 0;
    each_key(shard, call.db, call.args, call.first, 1, |shard, _, key| {
        count += i64::from(look(shard, call, key).is_some());
        Ok(())
    })?;
    call.reply.integer(count);
    Ok(())
}

fn touch(shard: &mut Shard, call: &mut Call<'_>) -> Result<(), Error> {
    let (db, now) = (call.db, call.now);
    let mut count = 0;
    each_key(shard, db, call.args, call.first, 1, |shard, _, key| {
        count += i64::from(shard.find_read(db, key, now).is_some());
        Ok(())
    })?;
    call.reply.integer(count);
    Ok(())
}

fn type_of(shard: &mut Shard, call: &mut Call<'_>) -> Result<(), Error> {
    let key = first_key(shard, call, 1)?;
    match look(shard, call, key) {
        Some(found) => call.reply.simple(shard.value_type(found).name()),
        None => call.reply.simple("none"),
    }
    Ok(())
}

fn rename(shard: &mut Shard, call: &mut Call<'_>) -> Result<(), Error> {
    let (db, key) = (call.db, first_key(shard, call, 1)?);
    let new = shard.key(call.arg(2)?);
    let found = shard.find(db, key, call.now).ok_or(Error::NoSuchKey)?;
    if key.bytes != new.bytes {
        shard.move_key((db, key), found, (db, new))?;
    }
    call.reply.ok();
    Ok(())
}

fn renamenx(shard: &mut Shard, call: &mut Call<'_>) -> Result<(), Error> {
    let (db, key) = (call.db, first_key(shard, call, 1)?);
    let new = shard.key(call.arg(2)?);
    if shard.find(db, key, call.now).is_none() {
        return Err(Error::NoSuchKey);
    }
    let moves = !shard.exists(db, new, call.now);
    if moves && let Some(found) = shard.find(db, key, call.now) {
        shard.move_key((db, key), found, (db, new))?;
    }
    call.reply.integer(i64::from(moves));
    Ok(())
}

/// Where `COPY` copies to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CopyOptions {
    /// The database of the copy.
    pub db: DbId,
    /// Whether it may take the place of another key.
    pub replace: bool,
}

/// The options of `COPY`, of which there are `databases`, on a connection whose database is `db`.
pub fn parse_copy(args: Args<'_>, db: DbId, databases: u8) -> Result<CopyOptions, Error> {
    let mut copy = CopyOptions { db, replace: false };
    let mut options = Options::new(args, 3);
    while let Some(word) = options.next() {
        match word {
            _ if is(word, "REPLACE") => copy.replace = true,
            _ if is(word, "DB") => copy.db = args::database(options.value()?, databases)?,
            _ => return Err(Error::Syntax),
        }
    }
    Ok(copy)
}

fn copy(shard: &mut Shard, call: &mut Call<'_>) -> Result<(), Error> {
    let (db, key) = (call.db, first_key(shard, call, 1)?);
    let new = shard.key(call.arg(2)?);
    let to = parse_copy(call.args, db, shard.config().databases)?;
    if to.db == db && key.bytes == new.bytes {
        return Err(Error::SameObject);
    }
    let free = to.replace || !shard.exists(to.db, new, call.now);
    let found = shard.find_read(db, key, call.now).filter(|_| free);
    if let Some(found) = found {
        shard.copy_key((db, key), found, (to.db, new))?;
    }
    call.reply.integer(i64::from(found.is_some()));
    Ok(())
}

fn move_key(shard: &mut Shard, call: &mut Call<'_>) -> Result<(), Error> {
    let (db, key) = (call.db, first_key(shard, call, 1)?);
    let to = args::database(call.arg(2)?, shard.config().databases)?;
    if to == db {
        return Err(Error::SameObject);
    }
    let free = !shard.exists(to, key, call.now);
    let found = shard.find(db, key, call.now).filter(|_| free);
    if let Some(found) = found {
        shard.move_key((db, key), found, (to, key))?;
    }
    call.reply.integer(i64::from(found.is_some()));
    Ok(())
}
