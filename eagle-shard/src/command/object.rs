//! What Redis would tell of the object behind a key.
//!
//! Encodings are those that Redis would choose, although a string lies the same way whatever it is called; references are what they are
//! there: small integers are shared, all else has one.

use super::{GENERIC, first_key, look};
use crate::{
    call::Call,
    error::Error,
    keyspace::Found,
    shard::Shard,
    spec::{Categories, Flags, KeyFlags, KeySpec, Route, Run, Spec},
};

/// Integers below this are shared in Redis (`OBJ_SHARED_INTEGERS`).
const SHARED_INTEGERS: i64 = 10_000;

/// References of what is shared (`OBJ_SHARED_REFCOUNT`).
const SHARED_REFERENCES: i64 = i32::MAX as i64;

const NO_LRU: Error = Error::Line(
    "ERR An LFU maxmemory policy is selected, idle time not tracked. Please note that when switching between policies at runtime LRU and LFU data will take some time to adjust.",
);

const NO_LFU: Error = Error::Line(
    "ERR An LFU maxmemory policy is not selected, access frequency not tracked. Please note that when switching between policies at runtime LRU and LFU data will take some time to adjust.",
);

const HELP: [&str; 15] = [
    "OBJECT <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
    "ENCODING <key>",
    "    Return the kind of internal representation used in order to store the value",
    "    associated with a <key>.",
    "FREQ <key>",
    "    Return the access frequency index of the <key>. The returned integer is",
    "    proportional to the logarithm of the recent access frequency of the key.",
    "IDLETIME <key>",
    "    Return the idle time of the <key>, that is the approximated number of",
    "    seconds elapsed since the last access to the key.",
    "REFCOUNT <key>",
    "    Return the number of references of the value associated with the specified",
    "    <key>.",
    "HELP",
    "    Prints this help.",
];

pub(super) const ROWS: &[Spec] = &[Spec {
    name: "object",
    arity: -2,
    flags: Flags::empty(),
    categories: Categories::empty(),
    route: Route::Home,
    since: "2.2.3",
    complexity: "Depends on subcommand.",
    summary: "A container for object introspection commands.",
    subcommands: &[
        Spec {
            name: "object|refcount",
            syntax: "key",
            arity: 3,
            flags: Flags::READONLY,
            keys: &[KeySpec::one(2, KeyFlags::RO)],
            tips: &["nondeterministic_output"],
            since: "2.2.3",
            complexity: "O(1)",
            summary: "Returns the reference count of a value of a key.",
            run: Run::Shard(refcount),
            ..GENERIC
        },
        Spec {
            name: "object|encoding",
            syntax: "key",
            arity: 3,
            flags: Flags::READONLY,
            keys: &[KeySpec::one(2, KeyFlags::RO)],
            tips: &["nondeterministic_output"],
            since: "2.2.3",
            complexity: "O(1)",
            summary: "Returns the internal encoding of a Redis object.",
            run: Run::Shard(encoding),
            ..GENERIC
        },
        Spec {
            name: "object|idletime",
            syntax: "key",
            arity: 3,
            flags: Flags::READONLY,
            keys: &[KeySpec::one(2, KeyFlags::RO)],
            tips: &["nondeterministic_output"],
            since: "2.2.3",
            complexity: "O(1)",
            summary: "Returns the time since the last access to a Redis object.",
            run: Run::Shard(idletime),
            ..GENERIC
        },
        Spec {
            name: "object|freq",
            syntax: "key",
            arity: 3,
            flags: Flags::READONLY,
            keys: &[KeySpec::one(2, KeyFlags::RO)],
            tips: &["nondeterministic_output"],
            since: "4.0.0",
            complexity: "O(1)",
            summary: "Returns the logarithmic access frequency counter of a Redis object.",
            run: Run::Shard(freq),
            ..GENERIC
        },
        Spec {
            name: "object|help",
            arity: 2,
            flags: Flags::LOADING.union(Flags::STALE),
            route: Route::Home,
            since: "6.2.0",
            complexity: "O(1)",
            summary: "Returns helpful text about the different subcommands.",
            run: Run::Shard(help),
            ..GENERIC
        },
    ],
    run: Run::Container,
    ..GENERIC
}];

fn refcount(shard: &mut Shard, call: &mut Call<'_>) -> Result<(), Error> {
    let Some(found) = object(shard, call)? else {
        return Ok(());
    };
    let is_shared = |n: i64| (0..SHARED_INTEGERS).contains(&n);
    let is_integer = shard.encoding_name(found) == "int";
    let shared = is_integer && shard.string(found)?.integer().is_some_and(is_shared);
    call.reply.integer(if shared { SHARED_REFERENCES } else { 1 });
    Ok(())
}

fn encoding(shard: &mut Shard, call: &mut Call<'_>) -> Result<(), Error> {
    if let Some(found) = object(shard, call)? {
        call.reply.bulk(shard.encoding_name(found).as_bytes());
    }
    Ok(())
}

fn idletime(shard: &mut Shard, call: &mut Call<'_>) -> Result<(), Error> {
    if let Some(found) = object(shard, call)? {
        let idle_ms = shard.idle_ms(found, call.now).ok_or(NO_LRU)?;
        call.reply.integer((idle_ms / 1000) as i64);
    }
    Ok(())
}

fn freq(shard: &mut Shard, call: &mut Call<'_>) -> Result<(), Error> {
    if let Some(found) = object(shard, call)? {
        let count = shard.frequency(found, call.now).ok_or(NO_LFU)?;
        call.reply.integer(i64::from(count));
    }
    Ok(())
}

fn help(_: &mut Shard, call: &mut Call<'_>) -> Result<(), Error> {
    call.reply.array(HELP.len());
    HELP.iter().for_each(|line| call.reply.simple(line));
    Ok(())
}

/// The key that a subcommand is about; if it is not there the reply says so.
fn object(shard: &mut Shard, call: &mut Call<'_>) -> Result<Option<Found>, Error> {
    let key = first_key(shard, call, 2)?;
    let found = look(shard, call, key);
    if found.is_none() {
        call.reply.null();
    }
    Ok(found)
}
