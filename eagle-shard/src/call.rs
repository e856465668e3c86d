//! A call is one command on its way through a shard: arguments, database, the time, and where the reply goes.
//!
//! A handler sees one `now` from beginning to end. The first key's hash is computed once, by the router, and travels
//! along, because routing, prefetching and executing all need it.

use eagle_resp::{Args, Reply};

use crate::{dash::Hashed, error::Error, spec::Spec};

/// Milliseconds since the Unix epoch; what Redis' `PEXPIREAT` takes. At most 48 bits on the medium.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct UnixMs(pub u64);

impl UnixMs {
    /// The latest time that a record can carry: 48 bits, the year 10889.
    pub const MAX: Self = Self((1 << 48) - 1);
}

/// A database number, below the configured count (16 by default).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct DbId(pub u8);

/// A key with its slot and hash.
#[derive(Clone, Copy, Debug)]
pub struct Key<'a> {
    /// The key itself, at most 512 MB.
    pub bytes: &'a [u8],
    /// Its slot and hash, under the shard's seed.
    pub hashed: Hashed,
}

/// One command on its way through a shard.
#[derive(Debug)]
pub struct Call<'a> {
    /// Its row.
    pub spec: &'static Spec,
    /// Its arguments; index 0 is the name.
    pub args: Args<'a>,
    /// The connection's selected database.
    pub db: DbId,
    /// The time at which it takes place.
    pub now: UnixMs,
    /// Hash of the first key, if there is one and the router computed it.
    pub first: Option<Hashed>,
    /// Where the reply goes.
    pub reply: Reply<'a>,
}

impl<'a> Call<'a> {
    /// The argument at `index`, or a syntax error if there are fewer.
    pub fn arg(&self, index: usize) -> Result<&'a [u8], Error> {
        self.args.get(index).ok_or(Error::Syntax)
    }
}
