//! Going through the keys of a database: all that match, a piece at a time, one by chance.
//!
//! A shard's cursor has at most 42 bits ([`CURSOR_BITS`]) and 0 is both the beginning and the end. The node puts the shard's number
//! into the cursor that a client sees.

use eagle_resp::Reply;

use super::{
    GENERIC,
    args::{self, Options, is},
};
use crate::{
    call::Call,
    dash::{CURSOR_BITS, Cursor},
    error::Error,
    glob::{self, Case},
    shard::Shard,
    spec::{Categories, Flags, Merge, Route, Run, Spec},
    value::ValueType,
};

// With 11 bits for a shard's number cursors stay exact in clients that know only doubles.
const _: () = assert!(CURSOR_BITS + 11 <= 53);

/// Keys that `SCAN` looks for if it is not said.
const COUNT: usize = 10;

pub(super) const ROWS: &[Spec] = &[
    Spec {
        name: "keys",
        syntax: "pattern",
        arity: 2,
        flags: Flags::READONLY,
        tips: &["nondeterministic_output_order", "request_policy:all_shards"],
        categories: Categories::KEYSPACE.union(Categories::DANGEROUS),
        route: Route::Every(Merge::Concat),
        since: "1.0.0",
        complexity: "O(N) with N being the number of keys in the database, under the assumption that the key names in the database and the given pattern have limited length.",
        summary: "Returns all key names that match a pattern.",
        run: Run::Shard(keys),
        ..GENERIC
    },
    Spec {
        name: "scan",
        syntax: "cursor [MATCH pattern] [COUNT count] [TYPE@6.0.0 type]",
        arity: -2,
        flags: Flags::READONLY,
        tips: &["nondeterministic_output", "request_policy:special", "response_policy:special"],
        route: Route::Cursor,
        since: "2.8.0",
        complexity: "O(1) for every call. O(N) for a complete iteration, including enough command calls for the cursor to return back to 0. N is the number of elements inside the collection.",
        summary: "Iterates over the key names in the database.",
        history: &[("6.0.0", "Added the `TYPE` subcommand.")],
        run: Run::Shard(scan),
        ..GENERIC
    },
    Spec {
        name: "randomkey",
        arity: 1,
        flags: Flags::READONLY,
        tips: &["nondeterministic_output", "request_policy:all_shards", "response_policy:special"],
        route: Route::Random,
        since: "1.0.0",
        complexity: "O(1)",
        summary: "Returns a random key name from the database.",
        run: Run::Shard(randomkey),
        ..GENERIC
    },
];

fn keys(shard: &mut Shard, call: &mut Call<'_>) -> Result<(), Error> {
    let filter = Filter { pattern: pattern(call.arg(1)?), kind: None };
    let reply = &mut call.reply;
    let (header, mut count) = (reply.deferred(), 0);
    shard.for_each_key(call.db, call.now, |key, kind| {
        if filter.takes(key, kind) {
            reply.bulk(key);
            count += 1;
        }
    });
    reply.array_at(header, count);
    Ok(())
}

fn scan(shard: &mut Shard, call: &mut Call<'_>) -> Result<(), Error> {
    let cursor = parse_cursor(call.arg(1)?).ok_or(Error::InvalidCursor)?;
    let (filter, keys_wanted) = Filter::parse(Options::new(call.args, 2))?;
    let mut found = Vec::new();
    let mut keys = Reply::new(&mut found, call.reply.protocol);
    let mut shown = 0;
    let next = visit(cursor, keys_wanted, |cursor, visited| {
        shard.scan(call.db, cursor, call.now, |key, kind| {
            *visited += 1;
            if filter.takes(key, kind) {
                keys.bulk(key);
                shown += 1;
            }
        })
    });
    write_reply(&mut call.reply, next, shown, &found);
    Ok(())
}

/// Goes on with a scan by `step`, which visits one bucket, adds how much it met to its second argument and returns where to go on: until
/// `wanted` are met or all is seen. At most ten times `wanted` buckets are visited, as in Redis. A cursor that no scan returned is at the
/// end, as in Redis one beyond the table is.
pub(super) fn visit(cursor: u64, wanted: usize, mut step: impl FnMut(Cursor, &mut usize) -> Cursor) -> Cursor {
    let (mut cursor, mut visited) = (Cursor::from_raw(cursor), 0);
    for _ in 0..wanted.saturating_mul(10).max(1) {
        let Some(at) = cursor else {
            break;
        };
        cursor = Some(step(at, &mut visited)).filter(|next| *next != Cursor::START);
        if visited >= wanted {
            break;
        }
    }
    cursor.unwrap_or(Cursor::START)
}

/// Replies to a scan: where to go on, and an array of `count` replies that are `found`.
pub(super) fn write_reply(reply: &mut Reply<'_>, next: Cursor, count: usize, found: &[u8]) {
    reply.array(2);
    reply.bulk(itoa::Buffer::new().format(next.raw()).as_bytes());
    reply.array(count);
    reply.out.extend_from_slice(found);
}

/// The cursor that a client sent: digits with or without a sign, as C's `strtoul` takes them, which makes a negative one
/// very large and an empty one 0. `None` if it is none.
#[must_use]
pub fn parse_cursor(arg: &[u8]) -> Option<u64> {
    let (negative, digits) = match arg {
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] => (false, digits),
        digits => (false, digits),
    };
    if digits.is_empty() && !arg.is_empty() {
        return None;
    }
    let next = |cursor: u64, byte: &u8| {
        let digit = char::from(*byte).to_digit(10)?;
        cursor.checked_mul(10)?.checked_add(u64::from(digit))
    };
    let cursor = digits.iter().try_fold(0, next)?;
    Some(if negative { cursor.wrapping_neg() } else { cursor })
}

/// Which keys, fields or members are shown.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Filter<'a> {
    pattern: Option<&'a [u8]>,
    /// The name of a type.
    kind: Option<&'a [u8]>,
}

impl<'a> Filter<'a> {
    /// The options of `HSCAN` and its kin: the filter and the count.
    pub(super) fn parse_elements(options: Options<'a>) -> Result<(Self, usize), Error> {
        let (filter, count) = Self::parse(options)?;
        if filter.kind.is_some() { Err(Error::Syntax) } else { Ok((filter, count)) }
    }

    /// The options of `SCAN`: the filter and the count.
    fn parse(mut options: Options<'a>) -> Result<(Self, usize), Error> {
        let (mut filter, mut count) = (Self::default(), COUNT);
        while let Some(word) = options.next() {
            match word {
                _ if is(word, "COUNT") => {
                    let wanted = args::integer(options.value()?)?;
                    count = usize::try_from(wanted).ok().filter(|count| *count > 0).ok_or(Error::Syntax)?;
                }
                _ if is(word, "MATCH") => filter.pattern = pattern(options.value()?),
                _ if is(word, "TYPE") => filter.kind = Some(options.value()?),
                _ => return Err(Error::Syntax),
            }
        }
        Ok((filter, count))
    }

    fn takes(&self, key: &[u8], kind: ValueType) -> bool {
        let kind_fits = self.kind.is_none_or(|wanted| is(wanted, kind.name()));
        kind_fits && self.takes_name(key)
    }

    pub(super) fn takes_name(&self, name: &[u8]) -> bool {
        self.pattern.is_none_or(|pattern| glob::matches(pattern, name, Case::Sensitive))
    }
}

/// A pattern, or `None` for the one that every key matches, even the empty one.
fn pattern(arg: &[u8]) -> Option<&[u8]> {
    (arg != b"*").then_some(arg)
}

fn randomkey(shard: &mut Shard, call: &mut Call<'_>) -> Result<(), Error> {
    match shard.random(call.db, call.now) {
        Some(key) => call.reply.bulk(key),
        None => call.reply.null(),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursors_are_read_as_strtoul_reads_them() {
        // Asked of a Redis 7.0.15: SCAN with each of these.
        for (text, expected) in [
            ("0", Some(0)),
            ("42", Some(42)),
            ("", Some(0)),
            ("+7", Some(7)),
            ("-0", Some(0)),
            ("-1", Some(u64::MAX)),
            ("18446744073709551615", Some(u64::MAX)),
            ("18446744073709551616", None),
            ("5abc", None),
            (" 1", None),
            ("-", None),
        ] {
            assert_eq!(parse_cursor(text.as_bytes()), expected, "{text:?}");
        }
    }
}
