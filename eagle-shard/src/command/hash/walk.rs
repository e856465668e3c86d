//! Going over a hash: bit by bit, or by chance.
//!
//! A packed hash is shown whole by one `HSCAN`, whatever its cursor and `COUNT`, as in Redis. A large one is gone through by the
//! buckets of its table; a cursor that no scan gave is at the end.

use std::collections::HashSet;

use eagle_resp::{Protocol, Reply};

use super::{super::scan, HASH, first_key, read};
use crate::{
    call::Call,
    command::args::{self, Options, is},
    dash::Cursor,
    error::Error,
    shard::Shard,
    spec::{Flags, KeyFlags, KeySpec, Run, Spec},
    value::hash::{HashRef, Pair},
};

const COUNT_RANGE: Error =
    Error::Line("ERR value is out of range, value must between -9223372036854775807 and 9223372036854775807");

pub(in crate::command) const ROWS: &[Spec] = &[
    Spec {
        name: "hrandfield",
        syntax: "key [options: count [WITHVALUES]]",
        arity: -2,
        flags: Flags::READONLY,
        keys: &[KeySpec::one(1, KeyFlags::SHOW)],
        tips: &["nondeterministic_output"],
        since: "6.2.0",
        complexity: "O(N) where N is the number of fields returned",
        summary: "Returns one or more random fields from a hash.",
        run: Run::Shard(hrandfield),
        ..HASH
    },
    Spec {
        name: "hscan",
        syntax: "key cursor [MATCH pattern] [COUNT count]",
        arity: -3,
        flags: Flags::READONLY,
        keys: &[KeySpec::one(1, KeyFlags::SHOW)],
        tips: &["nondeterministic_output"],
        since: "2.8.0",
        complexity: "O(1) for every call. O(N) for a complete iteration, including enough command calls for the cursor to return back to 0. N is the number of elements inside the collection.",
        summary: "Iterates over fields and values of a hash.",
        run: Run::Shard(hscan),
        ..HASH
    },
];

fn hscan(shard: &mut Shard, call: &mut Call<'_>) -> Result<(), Error> {
    let key = first_key(shard, call, 1)?;
    let cursor = scan::parse_cursor(call.arg(2)?).ok_or(Error::InvalidCursor)?;
    let Some(hash) = read(shard, call, key)? else {
        scan::write_reply(&mut call.reply, Cursor::START, 0, &[]);
        return Ok(());
    };
    let (filter, wanted) = scan::Filter::parse_elements(Options::new(call.args, 3))?;
    let cursor = if matches!(hash, HashRef::Large(..)) { cursor } else { 0 };
    let mut found = Vec::new();
    let mut pairs = Reply::new(&mut found, call.reply.protocol);
    let mut shown = 0;
    let next = scan::visit(cursor, wanted, |cursor, visited| {
        hash.scan(cursor, |(field, value)| {
            *visited += 1;
            if filter.takes_name(field) {
                pairs.bulk(field);
                pairs.bulk(value);
                shown += 2;
            }
        })
    });
    scan::write_reply(&mut call.reply, next, shown, &found);
    Ok(())
}

fn hrandfield(shard: &mut Shard, call: &mut Call<'_>) -> Result<(), Error> {
    let key = first_key(shard, call, 1)?;
    let picked = Picked::parse(call)?;
    let mut rng = shard.rng.fork();
    let hash = read(shard, call, key)?;
    let reply = &mut call.reply;
    match (hash, picked) {
        (None, None) => reply.null(),
        (None, Some(_)) => reply.array(0),
        (Some(hash), None) => reply.bulk(hash.random(&mut rng).0),
        (Some(hash), Some(picked)) => picked.write(hash, &mut rng, reply),
    }
    Ok(())
}

/// How many fields `HRANDFIELD` picks, and what it shows of them.
#[derive(Clone, Copy)]
struct Picked {
    /// So many different ones; if negative, so many of which some may be the same.
    count: i64,
    with_values: bool,
}

impl Picked {
    /// `None` where one field is asked for.
    fn parse(call: &Call<'_>) -> Result<Option<Self>, Error> {
        let Some(count) = call.args.get(2) else {
            return Ok(None);
        };
        let count = args::integer(count)?;
        if count == i64::MIN {
            return Err(COUNT_RANGE);
        }
        let with_values = match (call.args.get(3), call.args.len()) {
            (None, _) => false,
            (Some(word), 4) if is(word, "WITHVALUES") => true,
            _ => return Err(Error::Syntax),
        };
        if with_values && count.unsigned_abs() > i64::MAX as u64 / 2 {
            return Err(Error::OutOfRange);
        }
        Ok(Some(Self { count, with_values }))
    }

    fn write(self, hash: HashRef<'_>, rng: &mut fastrand::Rng, reply: &mut Reply<'_>) {
        let wanted = usize::try_from(self.count.unsigned_abs()).unwrap_or(usize::MAX);
        if self.count < 0 {
            self.header(wanted, reply);
            (0..wanted).for_each(|_| self.pair(hash.random(rng), reply));
            return;
        }
        let (len, count) = (hash.len(), wanted.min(hash.len()));
        self.header(count, reply);
        if matches!(hash, HashRef::Large(..)) && count < len / 3 {
            let mut seen = HashSet::with_capacity(count);
            while seen.len() < count {
                let pair = hash.random(rng);
                if seen.insert(pair.0) {
                    self.pair(pair, reply);
                }
            }
            return;
        }
        // Each field is taken with the chance that as many as are still wanted have among those still to come.
        let (mut wanted, mut left) = (count, len);
        hash.for_each(|pair| {
            if rng.usize(..left) < wanted {
                self.pair(pair, reply);
                wanted -= 1;
            }
            left -= 1;
        });
    }

    fn header(self, count: usize, reply: &mut Reply<'_>) {
        let nested = reply.protocol == Protocol::Resp3;
        reply.array(if self.with_values && !nested { 2 * count } else { count });
    }

    fn pair(self, (field, value): Pair<'_>, reply: &mut Reply<'_>) {
        if self.with_values && reply.protocol == Protocol::Resp3 {
            reply.array(2);
        }
        reply.bulk(field);
        if self.with_values {
            reply.bulk(value);
        }
    }
}
