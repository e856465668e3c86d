//! Several strings at once.
//!
//! Across shards the node splits `MGET` and `MSET` key by key; here their keys lie on one, and rounds of them are looked up together.

use super::{STRING, each_key};
use crate::{
    call::Call,
    error::Error,
    shard::Shard,
    spec::{Flags, KeyFlags, KeySpec, Merge, Route, Run, Spec, Steps},
    value::Encoding,
};

pub(super) const ROWS: &[Spec] = &[
    Spec {
        name: "mget",
        syntax: "key...",
        arity: -2,
        flags: Flags::READ_FAST,
        keys: &[KeySpec::rest(1, 1, KeyFlags::SHOW)],
        tips: &["request_policy:multi_shard"],
        route: Route::Split(Merge::PerKey),
        since: "1.0.0",
        complexity: "O(N) where N is the number of keys to retrieve.",
        summary: "Atomically returns the string values of one or more keys.",
        run: Run::Shard(mget),
        ..STRING
    },
    Spec {
        name: "mset",
        syntax: "{data: key value}...",
        arity: -3,
        flags: Flags::GROW,
        keys: &[KeySpec::rest(1, 2, KeyFlags::REPLACE)],
        tips: &["request_policy:multi_shard", "response_policy:all_succeeded"],
        route: Route::Split(Merge::Ok),
        since: "1.0.1",
        complexity: "O(N) where N is the number of keys to set.",
        summary: "Atomically creates or modifies the string values of one or more keys.",
        run: Run::Shard(mset),
        ..STRING
    },
    Spec {
        name: "msetnx",
        syntax: "{data: key value}...",
        arity: -3,
        flags: Flags::GROW,
        keys: &[KeySpec::rest(1, 2, KeyFlags::CREATE)],
        route: Route::Keys(Steps::SetIfNone),
        since: "1.0.1",
        complexity: "O(N) where N is the number of keys to set.",
        summary: "Atomically modifies the string values of one or more keys only when all keys don't exist.",
        run: Run::Shard(msetnx),
        ..STRING
    },
];

fn mget(shard: &mut Shard, call: &mut Call<'_>) -> Result<(), Error> {
    let (db, now) = (call.db, call.now);
    let reply = &mut call.reply;
    reply.array(call.args.len() - 1);
    each_key(shard, db, call.args, call.first, 1, |shard, _, key| {
        // What is no string counts as not there.
        match shard.find_read(db, key, now).map(|found| shard.string(found)) {
            Some(Ok(string)) => string.write_bulk(reply),
            Some(Err(_)) | None => reply.null(),
        }
        Ok(())
    })
}

fn mset(shard: &mut Shard, call: &mut Call<'_>) -> Result<(), Error> {
    check_pairs(call)?;
    set_all(shard, call)?;
    call.reply.ok();
    Ok(())
}

fn msetnx(shard: &mut Shard, call: &mut Call<'_>) -> Result<(), Error> {
    check_pairs(call)?;
    let (db, now) = (call.db, call.now);
    let mut absent = true;
    each_key(shard, db, call.args, call.first, 2, |shard, _, key| {
        absent &= !shard.exists(db, key, now);
        Ok(())
    })?;
    if absent {
        set_all(shard, call)?;
    }
    call.reply.integer(i64::from(absent));
    Ok(())
}

fn check_pairs(call: &Call<'_>) -> Result<(), Error> {
    if call.spec.keys_are_whole(call.args.len()) { Ok(()) } else { Err(Error::Arity(call.spec.name)) }
}

/// Sets all keys: after a crash all of them are there or none, however long the values are.
fn set_all(shard: &mut Shard, call: &Call<'_>) -> Result<(), Error> {
    let (db, now, args) = (call.db, call.now, call.args);
    let pairs = (1..args.len()).step_by(2).filter_map(|at| Some((args.get(at)?, args.get(at + 1)?)));
    if shard.begin_strings(pairs)? {
        let done = each_key(shard, db, args, call.first, 2, |shard, index, key| {
            let old = shard.find(db, key, now);
            shard.put_string_of_group(db, key, old, &args[index + 1]);
            Ok(())
        });
        shard.end_strings();
        return done;
    }
    each_key(shard, db, args, call.first, 2, |shard, index, key| {
        let old = shard.find(db, key, now);
        shard.put_string(db, key, old, &args[index + 1], None, Encoding::Natural)
    })
}
