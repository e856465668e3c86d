//! Fields as numbers: counters.
//!
//! As the counters of strings ([`crate::command::counter`]): integers are 64-bit, floats x87's 80 bits; a field that is not there counts
//! as 0. The errors have words of their own.

use eagle_resp::number::{self, LongDouble};

use super::{super::args, HASH, first_key};
use crate::{
    call::{Call, Key},
    error::Error,
    keyspace::Found,
    shard::Shard,
    spec::{Flags, KeyFlags, KeySpec, Run, Spec},
};

const NOT_INTEGER: Error = Error::Line("ERR hash value is not an integer");
const NOT_FLOAT: Error = Error::Line("ERR hash value is not a float");
const NAN_OR_INFINITY: Error = Error::Line("ERR value is NaN or Infinity");

pub(in crate::command) const ROWS: &[Spec] = &[
    Spec {
        name: "hincrby",
        syntax: "key field increment",
        arity: 4,
        flags: Flags::GROW_FAST,
        keys: &[KeySpec::one(1, KeyFlags::CHANGE_SHOWN)],
        since: "2.0.0",
        complexity: "O(1)",
        summary: "Increments the integer value of a field in a hash by a number. Uses 0 as initial value if the field doesn't exist.",
        run: Run::Shard(hincrby),
        ..HASH
    },
    Spec {
        name: "hincrbyfloat",
        syntax: "key field increment:double",
        arity: 4,
        flags: Flags::GROW_FAST,
        keys: &[KeySpec::one(1, KeyFlags::CHANGE_SHOWN)],
        since: "2.6.0",
        complexity: "O(1)",
        summary: "Increments the floating point value of a field by a number. Uses 0 as initial value if the field doesn't exist.",
        run: Run::Shard(hincrbyfloat),
        ..HASH
    },
];

fn hincrby(shard: &mut Shard, call: &mut Call<'_>) -> Result<(), Error> {
    let (key, field) = (first_key(shard, call, 1)?, call.arg(2)?);
    let by = args::integer(call.arg(3)?)?;
    let (old, value) = look_up(shard, call, key, field)?;
    let value = value.map_or(Ok(0), |text| number::parse_i64(text).ok_or(NOT_INTEGER))?;
    let sum = value.checked_add(by).ok_or(Error::Overflow)?;
    let mut digits = itoa::Buffer::new();
    let digits = digits.format(sum).as_bytes();
    shard.set_fields(call.db, key, old, std::iter::once((field, digits)))?;
    call.reply.integer(sum);
    Ok(())
}

fn hincrbyfloat(shard: &mut Shard, call: &mut Call<'_>) -> Result<(), Error> {
    let (key, field) = (first_key(shard, call, 1)?, call.arg(2)?);
    let by = LongDouble::parse(call.arg(3)?).ok_or(Error::NotFloat)?;
    if !by.is_finite() {
        return Err(NAN_OR_INFINITY);
    }
    let (old, value) = look_up(shard, call, key, field)?;
    let sum = match value {
        Some(text) => LongDouble::parse(text).ok_or(NOT_FLOAT)?.checked_add(by).ok_or(Error::NanOrInfinity)?,
        None => by,
    };
    let mut digits = Vec::new();
    sum.write(&mut digits);
    shard.set_fields(call.db, key, old, std::iter::once((field, digits.as_slice())))?;
    call.reply.bulk(&digits);
    Ok(())
}

/// The key of a hash that is to be changed, and what it has under a field.
fn look_up<'s>(
    shard: &'s mut Shard,
    call: &Call<'_>,
    key: Key<'_>,
    field: &[u8],
) -> Result<(Option<Found>, Option<&'s [u8]>), Error> {
    let old = shard.find(call.db, key, call.now);
    let value = match old {
        Some(found) => shard.hash(found)?.get(field),
        None => None,
    };
    Ok((old, value))
}
