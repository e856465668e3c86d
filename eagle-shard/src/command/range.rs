//! Strings as bytes at places: appending, reading and writing ranges.

use super::{STRING, args, first_key};
use crate::{
    call::{Call, Key},
    error::Error,
    keyspace::Found,
    shard::Shard,
    spec::{Deprecated, Flags, KeyFlags, KeySpec, Run, Spec},
    value::Encoding,
};

pub(super) const ROWS: &[Spec] = &[
    Spec {
        name: "append",
        syntax: "key value",
        arity: 3,
        flags: Flags::GROW_FAST,
        keys: &[KeySpec::one(1, KeyFlags::EXTEND)],
        since: "2.0.0",
        complexity: "O(1). The amortized time complexity is O(1) assuming the appended value is small and the already present value is of any size, since the dynamic string library used by Redis will double the free space available on every reallocation.",
        summary: "Appends a string to the value of a key. Creates the key if it doesn't exist.",
        run: Run::Shard(append),
        ..STRING
    },
    Spec {
        name: "strlen",
        syntax: "key",
        arity: 2,
        flags: Flags::READ_FAST,
        keys: &[KeySpec::one(1, KeyFlags::RO)],
        since: "2.2.0",
        complexity: "O(1)",
        summary: "Returns the length of a string value.",
        run: Run::Shard(strlen),
        ..STRING
    },
    Spec {
        name: "getrange",
        syntax: "key start end",
        arity: 4,
        flags: Flags::READONLY,
        keys: &[KeySpec::one(1, KeyFlags::SHOW)],
        since: "2.4.0",
        complexity: "O(N) where N is the length of the returned string. The complexity is ultimately determined by the returned length, but because creating a substring from an existing string is very cheap, it can be considered O(1) for small strings.",
        summary: "Returns a substring of the string stored at a key.",
        run: Run::Shard(getrange),
        ..STRING
    },
    Spec {
        name: "substr",
        syntax: "key start end",
        arity: 4,
        flags: Flags::READONLY,
        keys: &[KeySpec::one(1, KeyFlags::SHOW)],
        since: "1.0.0",
        complexity: "O(N) where N is the length of the returned string. The complexity is ultimately determined by the returned length, but because creating a substring from an existing string is very cheap, it can be considered O(1) for small strings.",
        summary: "Returns a substring from a string value.",
        deprecated: Some(Deprecated { since: "2.0.0", replaced_by: "`GETRANGE`" }),
        run: Run::Shard(substr),
        ..STRING
    },
    Spec {
        name: "setrange",
        syntax: "key offset value",
        arity: 4,
        flags: Flags::GROW,
        keys: &[KeySpec::one(1, KeyFlags::CHANGE)],
        since: "2.2.0",
        complexity: "O(1), not counting the time taken to copy the new string in place. Usually, this string is very small so the amortized complexity is O(1). Otherwise, complexity is O(M) with M being the length of the value argument.",
        summary: "Overwrites a part of a string value with another by an offset. Creates the key if it doesn't exist.",
        run: Run::Shard(setrange),
        ..STRING
    },
];

fn append(shard: &mut Shard, call: &mut Call<'_>) -> Result<(), Error> {
    let key = first_key(shard, call, 1)?;
    let tail = call.arg(2)?;
    let old = shard.find(call.db, key, call.now);
    let len = match old {
        Some(found) if tail.is_empty() => make_raw(shard, call, key, found)?,
        _ => shard.append(call.db, key, old, tail)?,
    };
    call.reply.integer(len as i64);
    Ok(())
}

/// What appending nothing does: the same string, but held as one that was appended to. Returns its length.
fn make_raw(shard: &mut Shard, call: &Call<'_>, key: Key<'_>, found: Found) -> Result<usize, Error> {
    let string = shard.string(found)?;
    if shard.encoding(found) == Encoding::Raw {
        return Ok(string.len());
    }
    let (value, until) = (string.to_vec(), shard.expiry(found));
    shard.put_string(call.db, key, Some(found), &value, until, Encoding::Raw)?;
    Ok(value.len())
}

fn strlen(shard: &mut Shard, call: &mut Call<'_>) -> Result<(), Error> {
    let key = first_key(shard, call, 1)?;
    let len = match shard.find_read(call.db, key, call.now) {
        Some(found) => shard.string_len(found)?,
        None => 0,
    };
    call.reply.integer(len as i64);
    Ok(())
}

fn getrange(shard: &mut Shard, call: &mut Call<'_>) -> Result<(), Error> {
    let key = first_key(shard, call, 1)?;
    let (start, end) = (args::integer(call.arg(2)?)?, args::integer(call.arg(3)?)?);
    let Some(found) = shard.find_read(call.db, key, call.now) else {
        call.reply.bulk(b"");
        return Ok(());
    };
    let string = shard.string(found)?;
    match within(start, end, string.len()) {
        Some((start, end)) => string.slice(start, end).write_bulk(&mut call.reply),
        None => call.reply.bulk(b""),
    }
    Ok(())
}

/// The bytes from `start` to `end`, both included and negative ones counted from the end, of a string of this length: from the
/// first to before the second of these, or none.
fn within(start: i64, end: i64, len: usize) -> Option<(usize, usize)> {
    let len = i64::try_from(len).ok()?;
    if start < 0 && end < 0 && start > end {
        return None;
    }
    let place = |at: i64| {
        if at < 0 { (len + at.max(-len)).max(0) } else { at }
    };
    let (start, end) = (place(start), place(end).min(len - 1));
    if start > end {
        return None;
    }
    Some((usize::try_from(start).ok()?, usize::try_from(end).ok()? + 1))
}

fn substr(shard: &mut Shard, call: &mut Call<'_>) -> Result<(), Error> {
    getrange(shard, call)
}

fn setrange(shard: &mut Shard, call: &mut Call<'_>) -> Result<(), Error> {
    let key = first_key(shard, call, 1)?;
    let (at, bytes) = (args::integer(call.arg(2)?)?, call.arg(3)?);
    let at = usize::try_from(at).map_err(|_| Error::OffsetOutOfRange)?;
    let old = shard.find(call.db, key, call.now);
    let len = shard.set_range(call.db, key, old, at, bytes)?;
    call.reply.integer(len as i64);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_cut_to_the_string() {
        // Redis' rules, case by case, for a string of 5 bytes; `None` is the empty string.
        for (start, end, expected) in [
            (0, -1, Some((0, 5))),
            (1, 3, Some((1, 4))),
            (-3, -2, Some((2, 4))),
            (-100, 1, Some((0, 2))),
            (2, 100, Some((2, 5))),
            (5, 10, None),
            (3, 1, None),
            (-1, -3, None),
            (0, -100, Some((0, 1))),
            (-100, -200, None),
            (-100, -50, Some((0, 1))),
            (i64::MIN, i64::MAX, Some((0, 5))),
        ] {
            assert_eq!(within(start, end, 5), expected, "{start} {end}");
        }
        assert_eq!(within(0, -1, 0), None);
    }
}
