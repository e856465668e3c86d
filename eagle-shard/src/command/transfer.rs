//! Rows for what crosses shards or is done in slices: a node's own questions to a shard, which no client can ask.
//!
//! | command                           | reply                                                   | for                 |
//! | --------------------------------- | ------------------------------------------------------- | ------------------- |
//! | `#export key cursor`              | the value with its expiry as bytes, or a slice, or null | `RENAME`, `COPY`    |
//! | `#import key replace value`       | 1, or 0 if the key is there and `replace` is not `1`    | `RENAME`, `COPY`    |
//! | `#abandon key`                    | OK: slices that came are forgotten                      | `RENAME`, `COPY`    |
//! | `#copy key new db replace cursor` | 1 or 0 as of `COPY`, or the cursor of the next slice    | `COPY` on one shard |
//! | `#fetch key`                      | the string, or null                                     | `LCS`               |
//!
//! Names begin with `#`, are in no lookup, and the rows carry what routing and accounting read: keys and flags.

use super::{GENERIC, args, first_key, lcs};
use crate::{
    Copied, ExportCursor, Exported,
    call::Call,
    error::Error,
    shard::Shard,
    spec::{Flags, KeyFlags, KeySpec, Run, Spec},
};

/// `#export key cursor`
pub static EXPORT: Spec = Spec {
    name: "#export",
    syntax: "key cursor",
    arity: 3,
    flags: Flags::READONLY,
    keys: &[KeySpec::one(1, KeyFlags::SHOW)],
    run: Run::Shard(export),
    ..GENERIC
};

/// `#import key replace value`
pub static IMPORT: Spec = Spec {
    name: "#import",
    syntax: "key replace value",
    arity: 4,
    flags: Flags::GROW,
    keys: &[KeySpec::one(1, KeyFlags::REPLACE)],
    run: Run::Shard(import),
    ..GENERIC
};

/// `#copy key new db replace cursor`
pub static COPY: Spec = Spec {
    name: "#copy",
    syntax: "key new db replace cursor",
    arity: 6,
    flags: Flags::GROW,
    keys: &[KeySpec::one(1, KeyFlags::SHOW), KeySpec::one(2, KeyFlags::REPLACE)],
    run: Run::Shard(copy),
    ..GENERIC
};

/// `#abandon key`
pub static ABANDON: Spec = Spec {
    name: "#abandon",
    syntax: "key",
    arity: 2,
    flags: Flags::WRITE,
    keys: &[KeySpec::one(1, KeyFlags::REMOVE)],
    run: Run::Shard(abandon),
    ..GENERIC
};

/// `#fetch key`
pub static FETCH: Spec = Spec {
    name: "#fetch",
    syntax: "key",
    arity: 2,
    flags: Flags::READONLY,
    keys: &[KeySpec::one(1, KeyFlags::SHOW)],
    run: Run::Shard(fetch),
    ..GENERIC
};

fn export(shard: &mut Shard, call: &mut Call<'_>) -> Result<(), Error> {
    let key = first_key(shard, call, 1)?;
    let cursor = cursor(call.arg(2)?)?;
    match shard.find(call.db, key, call.now) {
        Some(found) => call.reply.bulk(shard.export(found, cursor).as_bytes()),
        None => call.reply.null(),
    }
    Ok(())
}

fn import(shard: &mut Shard, call: &mut Call<'_>) -> Result<(), Error> {
    let key = first_key(shard, call, 1)?;
    let replace = call.arg(2)? == b"1";
    let exported = Exported::from_bytes(call.arg(3)?.to_vec()).expect("another shard of this node exported it");
    let done = shard.import(call.db, key, &exported, replace, call.now)?;
    call.reply.integer(i64::from(done));
    Ok(())
}

fn copy(shard: &mut Shard, call: &mut Call<'_>) -> Result<(), Error> {
    let (key, new) = (first_key(shard, call, 1)?, shard.key(call.arg(2)?));
    let db = args::database(call.arg(3)?, shard.config().databases)?;
    let (replace, cursor) = (call.arg(4)? == b"1", cursor(call.arg(5)?)?);
    match shard.copy_slice((call.db, key), (db, new), replace, cursor, call.now)? {
        Copied::Nothing => call.reply.integer(0),
        Copied::Whole => call.reply.integer(1),
        Copied::Until(next) => call.reply.bulk(next.raw().to_string().as_bytes()),
    }
    Ok(())
}

fn cursor(text: &[u8]) -> Result<ExportCursor, Error> {
    args::integer(text)?.try_into().ok().and_then(ExportCursor::from_raw).ok_or(Error::InvalidCursor)
}

fn abandon(shard: &mut Shard, call: &mut Call<'_>) -> Result<(), Error> {
    let key = first_key(shard, call, 1)?;
    shard.abandon(call.db, key);
    call.reply.ok();
    Ok(())
}

fn fetch(shard: &mut Shard, call: &mut Call<'_>) -> Result<(), Error> {
    let key = first_key(shard, call, 1)?;
    match lcs::find(shard, call, key)? {
        Some(string) => string.write_bulk(&mut call.reply),
        None => call.reply.null(),
    }
    Ok(())
}
