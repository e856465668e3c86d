//! Strings as numbers: counters.
//!
//! Integers are 64-bit, floats x87's 80 bits, as Redis has them. A key that is not there counts as 0; an expiry stays.

use eagle_resp::number::LongDouble;

use super::{STRING, args, first_key};
use crate::{
    call::Call,
    error::Error,
    shard::Shard,
    spec::{Flags, KeyFlags, KeySpec, Run, Spec},
    value::{Encoding, StringRef},
};

pub(super) const ROWS: &[Spec] = &[
    Spec {
        name: "incr",
        syntax: "key",
        arity: 2,
        flags: Flags::GROW_FAST,
        keys: &[KeySpec::one(1, KeyFlags::CHANGE_SHOWN)],
        since: "1.0.0",
        complexity: "O(1)",
        summary: "Increments the integer value of a key by one. Uses 0 as initial value if the key doesn't exist.",
        run: Run::Shard(incr),
        ..STRING
    },
    Spec {
        name: "decr",
        syntax: "key",
        arity: 2,
        flags: Flags::GROW_FAST,
        keys: &[KeySpec::one(1, KeyFlags::CHANGE_SHOWN)],
        since: "1.0.0",
        complexity: "O(1)",
        summary: "Decrements the integer value of a key by one. Uses 0 as initial value if the key doesn't exist.",
        run: Run::Shard(decr),
        ..STRING
    },
    Spec {
        name: "incrby",
        syntax: "key increment",
        arity: 3,
        flags: Flags::GROW_FAST,
        keys: &[KeySpec::one(1, KeyFlags::CHANGE_SHOWN)],
        since: "1.0.0",
        complexity: "O(1)",
        summary: "Increments the integer value of a key by a number. Uses 0 as initial value if the key doesn't exist.",
        run: Run::Shard(incrby),
        ..STRING
    },
    Spec {
        name: "decrby",
        syntax: "key decrement",
        arity: 3,
        flags: Flags::GROW_FAST,
        keys: &[KeySpec::one(1, KeyFlags::CHANGE_SHOWN)],
        since: "1.0.0",
        complexity: "O(1)",
        summary: "Decrements a number from the integer value of a key. Uses 0 as initial value if the key doesn't exist.",
        run: Run::Shard(decrby),
        ..STRING
    },
    Spec {
        name: "incrbyfloat",
        syntax: "key increment:double",
        arity: 3,
        flags: Flags::GROW_FAST,
        keys: &[KeySpec::one(1, KeyFlags::CHANGE_SHOWN)],
        since: "2.6.0",
        complexity: "O(1)",
        summary: "Increment the floating point value of a key by a number. Uses 0 as initial value if the key doesn't exist.",
        run: Run::Shard(incrbyfloat),
        ..STRING
    },
];

fn incr(shard: &mut Shard, call: &mut Call<'_>) -> Result<(), Error> {
    add(shard, call, 1)
}

fn decr(shard: &mut Shard, call: &mut Call<'_>) -> Result<(), Error> {
    add(shard, call, -1)
}

fn incrby(shard: &mut Shard, call: &mut Call<'_>) -> Result<(), Error> {
    let by = args::integer(call.arg(2)?)?;
    add(shard, call, by)
}

fn decrby(shard: &mut Shard, call: &mut Call<'_>) -> Result<(), Error> {
    let by = args::integer(call.arg(2)?)?;
    add(shard, call, by.checked_neg().ok_or(Error::DecrementOverflow)?)
}

fn add(shard: &mut Shard, call: &mut Call<'_>, by: i64) -> Result<(), Error> {
    let key = first_key(shard, call, 1)?;
    let old = shard.find(call.db, key, call.now);
    let (value, until) = match old {
        Some(found) => {
            let value = shard.string(found)?.integer().ok_or(Error::NotInteger)?;
            (value, shard.expiry(found))
        }
        None => (0, None),
    };
    let sum = value.checked_add(by).ok_or(Error::Overflow)?;
    let mut digits = itoa::Buffer::new();
    let digits = digits.format(sum).as_bytes();
    shard.put_string(call.db, key, old, digits, until, Encoding::Natural)?;
    call.reply.integer(sum);
    Ok(())
}

fn incrbyfloat(shard: &mut Shard, call: &mut Call<'_>) -> Result<(), Error> {
    let key = first_key(shard, call, 1)?;
    let old = shard.find(call.db, key, call.now);
    let (value, until) = match old {
        Some(found) => (Some(float(shard.string(found)?)?), shard.expiry(found)),
        None => (None, None),
    };
    let by = LongDouble::parse(call.arg(2)?).ok_or(Error::NotFloat)?;
    let sum = match value {
        Some(value) => value.checked_add(by),
        None => by.is_finite().then_some(by),
    };
    let sum = sum.ok_or(Error::NanOrInfinity)?;
    let mut digits = Vec::new();
    sum.write(&mut digits);
    shard.put_string(call.db, key, old, &digits, until, Encoding::Text)?;
    call.reply.bulk(&digits);
    Ok(())
}

fn float(string: StringRef<'_>) -> Result<LongDouble, Error> {
    match string {
        StringRef::Whole(text) => LongDouble::parse(text).ok_or(Error::NotFloat),
        StringRef::Chunks(_) => Err(Error::NotFloat),
    }
}
