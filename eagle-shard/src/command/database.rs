//! Databases as wholes: how many keys, none any more, another one's.

use super::{
    GENERIC,
    args::{self, is},
};
use crate::{
    call::{Call, DbId},
    error::Error,
    shard::Shard,
    spec::{Categories, Flags, Group, Merge, Route, Run, Spec},
};

pub(super) const ROWS: &[Spec] = &[
    Spec {
        name: "dbsize",
        arity: 1,
        flags: Flags::READ_FAST,
        tips: &["request_policy:all_shards", "response_policy:agg_sum"],
        route: Route::Every(Merge::Sum),
        group: Group::Server,
        since: "1.0.0",
        complexity: "O(1)",
        summary: "Returns the number of keys in the database.",
        run: Run::Shard(dbsize),
        ..GENERIC
    },
    Spec {
        name: "flushdb",
        syntax: "[flush-type: ASYNC@4.0.0 | SYNC@6.2.0]",
        arity: -1,
        flags: Flags::WRITE,
        tips: &["request_policy:all_shards", "response_policy:all_succeeded"],
        categories: Categories::KEYSPACE.union(Categories::DANGEROUS),
        route: Route::Every(Merge::Ok),
        group: Group::Server,
        since: "1.0.0",
        complexity: "O(N) where N is the number of keys in the selected database",
        summary: "Remove all keys from the current database.",
        history: &[
            ("4.0.0", "Added the `ASYNC` flushing mode modifier."),
            ("6.2.0", "Added the `SYNC` flushing mode modifier."),
        ],
        run: Run::Shard(flushdb),
        ..GENERIC
    },
    Spec {
        name: "flushall",
        syntax: "[flush-type: ASYNC@4.0.0 | SYNC@6.2.0]",
        arity: -1,
        flags: Flags::WRITE,
        tips: &["request_policy:all_shards", "response_policy:all_succeeded"],
        categories: Categories::KEYSPACE.union(Categories::DANGEROUS),
        route: Route::Every(Merge::Ok),
        group: Group::Server,
        since: "1.0.0",
        complexity: "O(N) where N is the total number of keys in all databases",
        summary: "Removes all keys from all databases.",
        history: &[
            ("4.0.0", "Added the `ASYNC` flushing mode modifier."),
            ("6.2.0", "Added the `SYNC` flushing mode modifier."),
        ],
        run: Run::Shard(flushall),
        ..GENERIC
    },
    Spec {
        name: "swapdb",
        syntax: "index1:integer index2:integer",
        arity: 3,
        flags: Flags::WRITE_FAST,
        categories: Categories::KEYSPACE.union(Categories::DANGEROUS),
        route: Route::Every(Merge::Ok),
        group: Group::Server,
        since: "4.0.0",
        complexity: "O(N) where N is the count of clients watching or blocking on keys from both databases.",
        summary: "Swaps two Redis databases.",
        run: Run::Shard(swapdb),
        ..GENERIC
    },
];

fn dbsize(shard: &mut Shard, call: &mut Call<'_>) -> Result<(), Error> {
    call.reply.integer(shard.len(call.db) as i64);
    Ok(())
}

fn flushdb(shard: &mut Shard, call: &mut Call<'_>) -> Result<(), Error> {
    check_flush(call)?;
    shard.clear(call.db)?;
    call.reply.ok();
    Ok(())
}

fn flushall(shard: &mut Shard, call: &mut Call<'_>) -> Result<(), Error> {
    check_flush(call)?;
    shard.clear_all()?;
    call.reply.ok();
    Ok(())
}

/// `ASYNC` and `SYNC` mean the same here: keys go at once, their memory later.
fn check_flush(call: &Call<'_>) -> Result<(), Error> {
    match call.args.get(1) {
        None => Ok(()),
        Some(word) if call.args.len() == 2 && (is(word, "ASYNC") || is(word, "SYNC")) => Ok(()),
        Some(_) => Err(Error::Syntax),
    }
}

fn swapdb(shard: &mut Shard, call: &mut Call<'_>) -> Result<(), Error> {
    let first = args::int(call.arg(1)?).map_err(|_| Error::InvalidFirstDbIndex)?;
    let second = args::int(call.arg(2)?).map_err(|_| Error::InvalidSecondDbIndex)?;
    let count = shard.config().databases;
    let database = |index: i32| match u8::try_from(index) {
        Ok(index) if index < count => Ok(DbId(index)),
        _ => Err(Error::DbOutOfRange),
    };
    shard.swap(database(first)?, database(second)?)?;
    call.reply.ok();
    Ok(())
}
