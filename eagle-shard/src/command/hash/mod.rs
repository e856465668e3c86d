//! Hashes: fields set, read, looked at and deleted.
//!
//! How a hash lies is the matter of [`crate::value::hash`]; here it is read through a [`HashRef`] and changed by two verbs, so that each
//! handler says what its command does and nothing else. [`counter`] has fields as numbers, [`walk`] what goes over a hash bit by bit or
//! picks from it by chance.

use eagle_resp::Args;

use super::first_key;
use crate::{
    call::{Call, Key},
    error::Error,
    shard::Shard,
    spec::{Categories, Deprecated, Flags, Group, KeyFlags, KeySpec, Route, Run, Spec, Steps},
    value::hash::{HashRef, Pair},
};

pub mod counter;
pub mod walk;

/// What rows of hashes have in common.
const HASH: Spec =
    Spec { categories: Categories::HASH, route: Route::Keys(Steps::Single), group: Group::Hash, ..Spec::BLANK };

pub(super) const ROWS: &[Spec] = &[
    Spec {
        name: "hset",
        syntax: "key {data: field value}...",
        arity: -4,
        flags: Flags::GROW_FAST,
        keys: &[KeySpec::one(1, KeyFlags::CHANGE)],
        since: "2.0.0",
        complexity: "O(1) for each field/value pair added, so O(N) to add N field/value pairs when the command is called with multiple field/value pairs.",
        summary: "Creates or modifies the value of a field in a hash.",
        history: &[("4.0.0", "Accepts multiple `field` and `value` arguments.")],
        run: Run::Shard(hset),
        ..HASH
    },
    Spec {
        name: "hmset",
        syntax: "key {data: field value}...",
        arity: -4,
        flags: Flags::GROW_FAST,
        keys: &[KeySpec::one(1, KeyFlags::CHANGE)],
        since: "2.0.0",
        complexity: "O(N) where N is the number of fields being set.",
        summary: "Sets the values of multiple fields.",
        deprecated: Some(Deprecated { since: "4.0.0", replaced_by: "`HSET` with multiple field-value pairs" }),
        run: Run::Shard(hmset),
        ..HASH
    },
    Spec {
        name: "hsetnx",
        syntax: "key field value",
        arity: 4,
        flags: Flags::GROW_FAST,
        keys: &[KeySpec::one(1, KeyFlags::EXTEND)],
        since: "2.0.0",
        complexity: "O(1)",
        summary: "Sets the value of a field in a hash only when the field doesn't exist.",
        run: Run::Shard(hsetnx),
        ..HASH
    },
    Spec {
        name: "hdel",
        syntax: "key field...",
        arity: -3,
        flags: Flags::WRITE_FAST,
        keys: &[KeySpec::one(1, KeyFlags::RW.union(KeyFlags::DELETE))],
        since: "2.0.0",
        complexity: "O(N) where N is the number of fields to be removed.",
        summary: "Deletes one or more fields and their values from a hash. Deletes the hash if no fields remain.",
        history: &[("2.4.0", "Accepts multiple `field` arguments.")],
        run: Run::Shard(hdel),
        ..HASH
    },
    Spec {
        name: "hget",
        syntax: "key field",
        arity: 3,
        flags: Flags::READ_FAST,
        keys: &[KeySpec::one(1, KeyFlags::SHOW)],
        since: "2.0.0",
        complexity: "O(1)",
        summary: "Returns the value of a field in a hash.",
        run: Run::Shard(hget),
        ..HASH
    },
    Spec {
        name: "hmget",
        syntax: "key field...",
        arity: -3,
        flags: Flags::READ_FAST,
        keys: &[KeySpec::one(1, KeyFlags::SHOW)],
        since: "2.0.0",
        complexity: "O(N) where N is the number of fields being requested.",
        summary: "Returns the values of all fields in a hash.",
        run: Run::Shard(hmget),
        ..HASH
    },
    Spec {
        name: "hgetall",
        syntax: "key",
        arity: 2,
        flags: Flags::READONLY,
        keys: &[KeySpec::one(1, KeyFlags::SHOW)],
        tips: &["nondeterministic_output_order"],
        since: "2.0.0",
        complexity: "O(N) where N is the size of the hash.",
        summary: "Returns all fields and values in a hash.",
        run: Run::Shard(hgetall),
        ..HASH
    },
    Spec {
        name: "hkeys",
        syntax: "key",
        arity: 2,
        flags: Flags::READONLY,
        keys: &[KeySpec::one(1, KeyFlags::SHOW)],
        tips: &["nondeterministic_output_order"],
        since: "2.0.0",
        complexity: "O(N) where N is the size of the hash.",
        summary: "Returns all fields in a hash.",
        run: Run::Shard(hkeys),
        ..HASH
    },
    Spec {
        name: "hvals",
        syntax: "key",
        arity: 2,
        flags: Flags::READONLY,
        keys: &[KeySpec::one(1, KeyFlags::SHOW)],
        tips: &["nondeterministic_output_order"],
        since: "2.0.0",
        complexity: "O(N) where N is the size of the hash.",
        summary: "Returns all values in a hash.",
        run: Run::Shard(hvals),
        ..HASH
    },
    Spec {
        name: "hlen",
        syntax: "key",
        arity: 2,
        flags: Flags::READ_FAST,
        keys: &[KeySpec::one(1, KeyFlags::RO)],
        since: "2.0.0",
        complexity: "O(1)",
        summary: "Returns the number of fields in a hash.",
        run: Run::Shard(hlen),
        ..HASH
    },
    Spec {
        name: "hexists",
        syntax: "key field",
        arity: 3,
        flags: Flags::READ_FAST,
        keys: &[KeySpec::one(1, KeyFlags::RO)],
        since: "2.0.0",
        complexity: "O(1)",
        summary: "Determines whether a field exists in a hash.",
        run: Run::Shard(hexists),
        ..HASH
    },
    Spec {
        name: "hstrlen",
        syntax: "key field",
        arity: 3,
        flags: Flags::READ_FAST,
        keys: &[KeySpec::one(1, KeyFlags::RO)],
        since: "3.2.0",
        complexity: "O(1)",
        summary: "Returns the length of the value of a field.",
        run: Run::Shard(hstrlen),
        ..HASH
    },
];

fn hset(shard: &mut Shard, call: &mut Call<'_>) -> Result<(), Error> {
    let added = set(shard, call)?;
    call.reply.integer(added as i64);
    Ok(())
}

fn hmset(shard: &mut Shard, call: &mut Call<'_>) -> Result<(), Error> {
    set(shard, call)?;
    call.reply.ok();
    Ok(())
}

/// Sets the fields that the arguments name. Returns how many are new.
fn set(shard: &mut Shard, call: &Call<'_>) -> Result<usize, Error> {
    if !call.args.len().is_multiple_of(2) {
        return Err(Error::Arity(call.spec.name));
    }
    let key = first_key(shard, call, 1)?;
    let old = shard.find(call.db, key, call.now);
    shard.set_fields(call.db, key, old, pairs(call.args))
}

/// Fields and values, from the second argument to the last.
fn pairs(args: Args<'_>) -> impl Iterator<Item = Pair<'_>> + Clone {
    (2..args.len()).step_by(2).filter_map(move |at| Some((args.get(at)?, args.get(at + 1)?)))
}

fn hsetnx(shard: &mut Shard, call: &mut Call<'_>) -> Result<(), Error> {
    let key = first_key(shard, call, 1)?;
    let old = shard.find(call.db, key, call.now);
    let absent = match old {
        Some(found) => shard.hash(found)?.get(call.arg(2)?).is_none(),
        None => true,
    };
    if absent {
        shard.set_fields(call.db, key, old, pairs(call.args))?;
    }
    call.reply.integer(i64::from(absent));
    Ok(())
}

fn hdel(shard: &mut Shard, call: &mut Call<'_>) -> Result<(), Error> {
    let key = first_key(shard, call, 1)?;
    let removed = match shard.find(call.db, key, call.now) {
        Some(found) => shard.delete_fields(call.db, key, found, fields(call.args))?,
        None => 0,
    };
    call.reply.integer(removed as i64);
    Ok(())
}

/// Fields, from the second argument to the last.
fn fields(args: Args<'_>) -> impl Iterator<Item = &[u8]> + Clone {
    (2..args.len()).filter_map(move |at| args.get(at))
}

/// The hash that a command shows, if there is one.
fn read<'s>(shard: &'s mut Shard, call: &Call<'_>, key: Key<'_>) -> Result<Option<HashRef<'s>>, Error> {
    match shard.find_read(call.db, key, call.now) {
        Some(found) => shard.hash(found).map(Some),
        None => Ok(None),
    }
}

fn hget(shard: &mut Shard, call: &mut Call<'_>) -> Result<(), Error> {
    match value(shard, call)? {
        Some(value) => call.reply.bulk(value),
        None => call.reply.null(),
    }
    Ok(())
}

/// The value of the field that the second argument names.
fn value<'s>(shard: &'s mut Shard, call: &Call<'_>) -> Result<Option<&'s [u8]>, Error> {
    let (key, field) = (first_key(shard, call, 1)?, call.arg(2)?);
    Ok(read(shard, call, key)?.and_then(|hash| hash.get(field)))
}

fn hmget(shard: &mut Shard, call: &mut Call<'_>) -> Result<(), Error> {
    let key = first_key(shard, call, 1)?;
    let hash = read(shard, call, key)?;
    call.reply.array(call.args.len() - 2);
    let reply = &mut call.reply;
    let mut emit = |value: Option<&[u8]>| match value {
        Some(value) => reply.bulk(value),
        None => reply.null(),
    };
    match hash {
        Some(hash) => hash.get_each(fields(call.args), emit),
        None => fields(call.args).for_each(|_| emit(None)),
    }
    Ok(())
}

fn hgetall(shard: &mut Shard, call: &mut Call<'_>) -> Result<(), Error> {
    let key = first_key(shard, call, 1)?;
    let hash = read(shard, call, key)?;
    let reply = &mut call.reply;
    reply.map(len(hash));
    if let Some(hash) = hash {
        hash.for_each(|(field, value)| {
            reply.bulk(field);
            reply.bulk(value);
        });
    }
    Ok(())
}

fn hkeys(shard: &mut Shard, call: &mut Call<'_>) -> Result<(), Error> {
    list(shard, call, |(field, _)| field)
}

fn hvals(shard: &mut Shard, call: &mut Call<'_>) -> Result<(), Error> {
    list(shard, call, |(_, value)| value)
}

/// Replies with one half of each pair.
fn list(shard: &mut Shard, call: &mut Call<'_>, half: impl Fn(Pair<'_>) -> &[u8]) -> Result<(), Error> {
    let key = first_key(shard, call, 1)?;
    let hash = read(shard, call, key)?;
    call.reply.array(len(hash));
    if let Some(hash) = hash {
        hash.for_each(|pair| call.reply.bulk(half(pair)));
    }
    Ok(())
}

fn hlen(shard: &mut Shard, call: &mut Call<'_>) -> Result<(), Error> {
    let key = first_key(shard, call, 1)?;
    let hash = read(shard, call, key)?;
    call.reply.integer(len(hash) as i64);
    Ok(())
}

/// How many fields a hash has that may not be there.
fn len(hash: Option<HashRef<'_>>) -> usize {
    hash.map_or(0, |hash| hash.len())
}

fn hexists(shard: &mut Shard, call: &mut Call<'_>) -> Result<(), Error> {
    let exists = value(shard, call)?.is_some();
    call.reply.integer(i64::from(exists));
    Ok(())
}

fn hstrlen(shard: &mut Shard, call: &mut Call<'_>) -> Result<(), Error> {
    let len = value(shard, call)?.map_or(0, <[u8]>::len);
    call.reply.integer(len as i64);
    Ok(())
}
