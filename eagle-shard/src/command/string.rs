//! Strings as wholes: reading, setting, and both at once.
//!
//! `GET` and plain `SET` are the hottest commands there are: one lookup, the record's bytes straight to the reply or
//! the argument's straight to the record.

use super::{
    STRING,
    args::{Clock, Condition, Expiry, Lifetime, Options, SetOptions, getex_options},
    first_key, unsay,
};
use crate::{
    call::{Call, Key, UnixMs},
    error::Error,
    keyspace::Found,
    shard::Shard,
    spec::{Deprecated, Flags, KeyFlags, KeySpec, Run, Spec},
    value::Encoding,
};

pub(super) const ROWS: &[Spec] = &[
    Spec {
        name: "get",
        syntax: "key",
        arity: 2,
        flags: Flags::READ_FAST,
        keys: &[KeySpec::one(1, KeyFlags::SHOW)],
        since: "1.0.0",
        complexity: "O(1)",
        summary: "Returns the string value of a key.",
        run: Run::Shard(get),
        ..STRING
    },
    Spec {
        name: "set",
        syntax: "key value [condition@2.6.12: NX | XX] [GET@6.2.0] [expiration: EX@2.6.12 seconds | PX@2.6.12 milliseconds | EXAT@6.2.0 unix-time-seconds | PXAT@6.2.0 unix-time-milliseconds | KEEPTTL@6.0.0]",
        arity: -3,
        flags: Flags::GROW,
        keys: &[KeySpec::one(1, KeyFlags::CHANGE_SHOWN.union(KeyFlags::VARIABLE))
            .noted("RW and ACCESS due to the optional `GET` argument")],
        since: "1.0.0",
        complexity: "O(1)",
        summary: "Sets the string value of a key, ignoring its type. The key is created if it doesn't exist.",
        history: &[
            ("2.6.12", "Added the `EX`, `PX`, `NX` and `XX` options."),
            ("6.0.0", "Added the `KEEPTTL` option."),
            ("6.2.0", "Added the `GET`, `EXAT` and `PXAT` option."),
            ("7.0.0", "Allowed the `NX` and `GET` options to be used together."),
        ],
        run: Run::Shard(set),
        ..STRING
    },
    Spec {
        name: "getset",
        syntax: "key value",
        arity: 3,
        flags: Flags::GROW_FAST,
        keys: &[KeySpec::one(1, KeyFlags::CHANGE_SHOWN)],
        since: "1.0.0",
        complexity: "O(1)",
        summary: "Returns the previous string value of a key after setting it to a new value.",
        deprecated: Some(Deprecated { since: "6.2.0", replaced_by: "`SET` with the `!GET` argument" }),
        run: Run::Shard(getset),
        ..STRING
    },
    Spec {
        name: "setnx",
        syntax: "key value",
        arity: 3,
        flags: Flags::GROW_FAST,
        keys: &[KeySpec::one(1, KeyFlags::CREATE)],
        since: "1.0.0",
        complexity: "O(1)",
        summary: "Set the string value of a key only when the key doesn't exist.",
        deprecated: Some(Deprecated { since: "2.6.12", replaced_by: "`SET` with the `NX` argument" }),
        run: Run::Shard(setnx),
        ..STRING
    },
    Spec {
        name: "setex",
        syntax: "key seconds value",
        arity: 4,
        flags: Flags::GROW,
        keys: &[KeySpec::one(1, KeyFlags::REPLACE)],
        since: "2.0.0",
        complexity: "O(1)",
        summary: "Sets the string value and expiration time of a key. Creates the key if it doesn't exist.",
        deprecated: Some(Deprecated { since: "2.6.12", replaced_by: "`SET` with the `EX` argument" }),
        run: Run::Shard(setex),
        ..STRING
    },
    Spec {
        name: "psetex",
        syntax: "key milliseconds value",
        arity: 4,
        flags: Flags::GROW,
        keys: &[KeySpec::one(1, KeyFlags::REPLACE)],
        since: "2.6.0",
        complexity: "O(1)",
        summary: "Sets both string value and expiration time in milliseconds of a key. The key is created if it doesn't exist.",
        deprecated: Some(Deprecated { since: "2.6.12", replaced_by: "`SET` with the `PX` argument" }),
        run: Run::Shard(psetex),
        ..STRING
    },
    Spec {
        name: "getdel",
        syntax: "key",
        arity: 2,
        flags: Flags::WRITE_FAST,
        keys: &[KeySpec::one(1, KeyFlags::TAKE)],
        since: "6.2.0",
        complexity: "O(1)",
        summary: "Returns the string value of a key after deleting the key.",
        run: Run::Shard(getdel),
        ..STRING
    },
    Spec {
        name: "getex",
        syntax: "key [expiration: EX seconds | PX milliseconds | EXAT unix-time-seconds | PXAT unix-time-milliseconds | PERSIST]",
        arity: -2,
        flags: Flags::WRITE_FAST,
        keys: &[KeySpec::one(1, KeyFlags::CHANGE_SHOWN).noted("RW and UPDATE because it changes the TTL")],
        since: "6.2.0",
        complexity: "O(1)",
        summary: "Returns the string value of a key after setting its expiration time.",
        run: Run::Shard(getex),
        ..STRING
    },
];

fn get(shard: &mut Shard, call: &mut Call<'_>) -> Result<(), Error> {
    let key = first_key(shard, call, 1)?;
    match shard.find_read(call.db, key, call.now) {
        Some(found) => shard.string(found)?.write_bulk(&mut call.reply),
        None => call.reply.null(),
    }
    Ok(())
}

fn set(shard: &mut Shard, call: &mut Call<'_>) -> Result<(), Error> {
    let key = first_key(shard, call, 1)?;
    let value = call.arg(2)?;
    if call.args.len() > 3 {
        return set_with_options(shard, call, key, value);
    }
    let old = shard.find(call.db, key, call.now);
    shard.put_string(call.db, key, old, value, None, Encoding::Natural)?;
    call.reply.ok();
    Ok(())
}

fn set_with_options(shard: &mut Shard, call: &mut Call<'_>, key: Key<'_>, value: &[u8]) -> Result<(), Error> {
    let options = SetOptions::parse(Options::new(call.args, 3))?;
    let until = match options.lifetime {
        Lifetime::Until(expiry) => Some(expiry.time(call.now, call.spec)?),
        _ => None,
    };
    let begin = call.reply.out.len();
    let old = if options.get { show(shard, call, key)? } else { shard.find(call.db, key, call.now) };
    let sets = match options.condition {
        Condition::Always => true,
        Condition::IfAbsent => old.is_none(),
        Condition::IfPresent => old.is_some(),
    };
    if !sets {
        if !options.get {
            call.reply.null();
        }
        return Ok(());
    }
    let until = match options.lifetime {
        Lifetime::Keep => old.and_then(|found| shard.expiry(found)),
        _ => until,
    };
    put(shard, call, key, old, value, until).map_err(|error| unsay(call, begin, error))?;
    if !options.get {
        call.reply.ok();
    }
    Ok(())
}

fn getset(shard: &mut Shard, call: &mut Call<'_>) -> Result<(), Error> {
    let key = first_key(shard, call, 1)?;
    let value = call.arg(2)?;
    let begin = call.reply.out.len();
    let old = show(shard, call, key)?;
    put(shard, call, key, old, value, None).map_err(|error| unsay(call, begin, error))
}

fn setnx(shard: &mut Shard, call: &mut Call<'_>) -> Result<(), Error> {
    let key = first_key(shard, call, 1)?;
    let value = call.arg(2)?;
    let absent = shard.find(call.db, key, call.now).is_none();
    if absent {
        put(shard, call, key, None, value, None)?;
    }
    call.reply.integer(i64::from(absent));
    Ok(())
}

fn setex(shard: &mut Shard, call: &mut Call<'_>) -> Result<(), Error> {
    set_until(shard, call, Clock::EX)
}

fn psetex(shard: &mut Shard, call: &mut Call<'_>) -> Result<(), Error> {
    set_until(shard, call, Clock::PX)
}

fn set_until(shard: &mut Shard, call: &mut Call<'_>, clock: Clock) -> Result<(), Error> {
    let key = first_key(shard, call, 1)?;
    let (amount, value) = (call.arg(2)?, call.arg(3)?);
    let until = Expiry { clock, amount }.time(call.now, call.spec)?;
    let old = shard.find(call.db, key, call.now);
    put(shard, call, key, old, value, Some(until))?;
    call.reply.ok();
    Ok(())
}

fn getdel(shard: &mut Shard, call: &mut Call<'_>) -> Result<(), Error> {
    let key = first_key(shard, call, 1)?;
    if let Some(found) = show(shard, call, key)? {
        shard.remove(call.db, key, found);
    }
    Ok(())
}

fn getex(shard: &mut Shard, call: &mut Call<'_>) -> Result<(), Error> {
    let key = first_key(shard, call, 1)?;
    let lifetime = getex_options(Options::new(call.args, 2))?;
    let begin = call.reply.out.len();
    // What is not there or no string says so before an expiry is looked at.
    let Some(found) = show(shard, call, key)? else {
        return Ok(());
    };
    let until = match lifetime {
        Lifetime::Unsaid | Lifetime::Keep => return Ok(()),
        Lifetime::Persist => None,
        Lifetime::Until(expiry) => match expiry.time(call.now, call.spec) {
            Ok(until) => Some(until),
            Err(error) => return Err(unsay(call, begin, error)),
        },
    };
    if until.is_some_and(|until| until <= call.now) {
        shard.remove(call.db, key, found);
        return Ok(());
    }
    shard.set_expiry(call.db, key, found, until).map_err(|error| unsay(call, begin, error))
}

/// Replies with the string under a key, or null, for a command that goes on to change it.
fn show(shard: &mut Shard, call: &mut Call<'_>, key: Key<'_>) -> Result<Option<Found>, Error> {
    let found = shard.find_read(call.db, key, call.now);
    match found {
        Some(found) => shard.string(found)?.write_bulk(&mut call.reply),
        None => call.reply.null(),
    }
    Ok(found)
}

/// Sets a key to what a client sent. An expiry that has come leaves nothing.
fn put(
    shard: &mut Shard,
    call: &Call<'_>,
    key: Key<'_>,
    old: Option<Found>,
    value: &[u8],
    until: Option<UnixMs>,
) -> Result<(), Error> {
    if until.is_some_and(|until| until <= call.now) {
        if let Some(found) = old {
            shard.remove(call.db, key, found);
        }
        return Ok(());
    }
    shard.put_string(call.db, key, old, value, until, Encoding::Natural)
}
