//! The longest common subsequence of two strings (which Redis' documentation calls a substring).
//!
//! The textbook table: row by row the length of the longest common subsequence of every two prefixes, then a walk back from its last
//! corner. Memory is limited as in Redis: four bytes times the product of the lengths, each plus one, within
//! `proto-max-bulk-len`. Where two ways are equally long the walk goes Redis' way, so that ranges agree.
//!
//! Strings of two shards are fetched by the node, which then asks [`lcs_reply`].

use eagle_resp::{Args, Reply};

use super::{
    STRING,
    args::{self, Options, is},
};
use crate::{
    call::{Call, Key},
    error::Error,
    shard::Shard,
    spec::{Flags, KeyFlags, KeySpec, Route, Run, Spec, Steps},
    value::StringRef,
};

pub(super) const ROWS: &[Spec] = &[Spec {
    name: "lcs",
    syntax: "key1 key2 [LEN] [IDX] [MINMATCHLEN min-match-len:integer] [WITHMATCHLEN]",
    arity: -3,
    flags: Flags::READONLY,
    keys: &[KeySpec { last: 1, ..KeySpec::one(1, KeyFlags::SHOW) }],
    route: Route::Keys(Steps::Fetch),
    since: "7.0.0",
    complexity: "O(N*M) where N and M are the lengths of s1 and s2, respectively",
    summary: "Finds the longest common substring.",
    run: Run::Shard(lcs),
    ..STRING
}];

const NOT_STRINGS: Error = Error::Line("ERR The specified keys must contain string values");
const LEN_AND_IDX: Error = Error::Line("ERR If you want both the length and indexes, please just use IDX.");
const TOO_LONG: Error = Error::Line("ERR String too long for LCS");
const TOO_LARGE: Error = Error::Line("ERR Insufficient memory, transient memory for LCS exceeds proto-max-bulk-len");

fn lcs(shard: &mut Shard, call: &mut Call<'_>) -> Result<(), Error> {
    let keys = [shard.key(call.arg(1)?), shard.key(call.arg(2)?)];
    let [a, b] =
        keys.map(|key| find(shard, call, key).map(|string| string.map_or(Vec::new(), |string| string.to_vec())));
    let (a, b) = (a?, b?);
    compare(&a, &b, call.args, shard.config().string_len_max, &mut call.reply)
}

/// The string under a key, if there is one.
pub(super) fn find<'s>(shard: &'s mut Shard, call: &Call<'_>, key: Key<'_>) -> Result<Option<StringRef<'s>>, Error> {
    let found = shard.find_read(call.db, key, call.now);
    let string = found.map(|found| shard.string(found)).transpose();
    string.map_err(|_| NOT_STRINGS)
}

/// Replies to `LCS` with these arguments, its two strings being fetched; what is not there is empty. `string_len_max` is the
/// longest string in bytes.
pub fn lcs_reply(a: &[u8], b: &[u8], args: Args<'_>, string_len_max: usize, reply: &mut Reply<'_>) {
    if let Err(error) = compare(a, b, args, string_len_max, reply) {
        let mut line = String::new();
        error.write(&mut line);
        reply.error_line(&line);
    }
}

/// What of the answer is asked for.
#[derive(Clone, Copy, Debug, Default)]
struct Wanted {
    len: bool,
    ranges: bool,
    range_len_min: usize,
    with_range_len: bool,
}

impl Wanted {
    fn parse(mut options: Options<'_>) -> Result<Self, Error> {
        let mut wanted = Self::default();
        while let Some(word) = options.next() {
            match word {
                _ if is(word, "IDX") => wanted.ranges = true,
                _ if is(word, "LEN") => wanted.len = true,
                _ if is(word, "WITHMATCHLEN") => wanted.with_range_len = true,
                _ if is(word, "MINMATCHLEN") => {
                    let min = args::integer(options.value()?)?;
                    wanted.range_len_min = usize::try_from(min).unwrap_or(0);
                }
                _ => return Err(Error::Syntax),
            }
        }
        if wanted.len && wanted.ranges { Err(LEN_AND_IDX) } else { Ok(wanted) }
    }
}

fn compare(a: &[u8], b: &[u8], args: Args<'_>, string_len_max: usize, reply: &mut Reply<'_>) -> Result<(), Error> {
    let wanted = Wanted::parse(Options::new(args, 3))?;
    let table = Table::new(a, b, string_len_max)?;
    let len = table.at(a.len(), b.len());
    if wanted.len {
        reply.integer(i64::from(len));
        return Ok(());
    }
    let mut subsequence = vec![0; len as usize];
    if !wanted.ranges {
        table.walk_back(a, b, &mut subsequence, |_| {});
        reply.bulk(&subsequence);
        return Ok(());
    }
    reply.map(2);
    reply.bulk(b"matches");
    let matches = reply.deferred();
    let mut count = 0;
    table.walk_back(a, b, &mut subsequence, |range| {
        if range.len >= wanted.range_len_min {
            range.write(wanted.with_range_len, reply);
            count += 1;
        }
    });
    reply.array_at(matches, count);
    reply.bulk(b"len");
    reply.integer(i64::from(len));
    Ok(())
}

/// A stretch of equal bytes: where it begins in both strings.
#[derive(Clone, Copy, Debug)]
struct Match {
    a: usize,
    b: usize,
    len: usize,
}

impl Match {
    fn write(self, with_len: bool, reply: &mut Reply<'_>) {
        reply.array(if with_len { 3 } else { 2 });
        for start in [self.a, self.b] {
            reply.array(2);
            reply.integer(start as i64);
            reply.integer((start + self.len - 1) as i64);
        }
        if with_len {
            reply.integer(self.len as i64);
        }
    }
}

/// Lengths of the longest common subsequences of all prefixes of two strings.
struct Table {
    lens: Vec<u32>,
    width: usize,
}

impl Table {
    fn new(a: &[u8], b: &[u8], string_len_max: usize) -> Result<Self, Error> {
        let len_max = u32::MAX as usize - 1;
        if a.len() >= len_max || b.len() >= len_max {
            return Err(TOO_LONG);
        }
        let width = b.len() + 1;
        // Both factors are below 2^32.
        let cells = (a.len() as u128 + 1) * width as u128;
        if cells * size_of::<u32>() as u128 > string_len_max as u128 {
            return Err(TOO_LARGE);
        }
        let mut lens = vec![0u32; cells as usize];
        for (i, byte) in a.iter().enumerate() {
            let (above, row) = lens[i * width..(i + 2) * width].split_at_mut(width);
            for (j, other) in b.iter().enumerate() {
                row[j + 1] = if byte == other { above[j] + 1 } else { above[j + 1].max(row[j]) };
            }
        }
        Ok(Self { lens, width })
    }

    /// The length for the first `i` bytes of one string and the first `j` of the other.
    fn at(&self, i: usize, j: usize) -> u32 {
        self.lens[i * self.width + j]
    }

    /// Goes from the ends to the beginnings, fills in the subsequence, and tells the stretches of it, the last one first.
    fn walk_back(&self, a: &[u8], b: &[u8], subsequence: &mut [u8], mut tell: impl FnMut(Match)) {
        let (mut i, mut j, mut left) = (a.len(), b.len(), subsequence.len());
        let mut stretch: Option<Match> = None;
        while i > 0 && j > 0 {
            if a[i - 1] == b[j - 1] {
                (i, j, left) = (i - 1, j - 1, left - 1);
                subsequence[left] = a[i];
                let len = stretch.map_or(0, |stretch| stretch.len) + 1;
                stretch = Some(Match { a: i, b: j, len });
            } else {
                if self.at(i - 1, j) > self.at(i, j - 1) {
                    i -= 1;
                } else {
                    j -= 1;
                }
                stretch.take().into_iter().for_each(&mut tell);
            }
        }
        stretch.into_iter().for_each(tell);
    }
}
