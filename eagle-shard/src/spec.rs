//! A spec is the row of the command table that says everything about one command.
//!
//! Rows are plain `const` struct literals, in the file of their family, above the handlers they name. What reads them:
//! dispatch and arity errors, key extraction and routing, `CROSSSLOT`, ACL, `COMMAND` and its subcommands, metrics, the
//! table in the README, the generators of the model, differential and fuzz tests. Nothing about a command is written
//! anywhere else. A container (`CLIENT`, `OBJECT`) is a row with `subcommands`; each of these is a row too, named
//! `container|sub`.
//!
//! Source of the facts: <https://redis.io/docs/latest/commands/> and `COMMAND DOCS` of Redis 7.2.

use crate::{call::Call, error::Error, shard::Shard};

/// Everything about one command. A row states what differs from [`Spec::BLANK`].
#[derive(Debug)]
pub struct Spec {
    /// Lower case; `container|sub` for a subcommand.
    pub name: &'static str,
    /// The arguments, without the name, in the notation of [`crate::syntax`]: `key [condition: NX | XX]`. `COMMAND DOCS`
    /// and the tests' generators parse it.
    pub syntax: &'static str,
    /// Number of arguments with the name itself (and the container's); negative: at least so many.
    pub arity: i8,
    /// Behaviour, as `COMMAND INFO` prints it.
    pub flags: Flags,
    /// Where the keys are among the arguments.
    pub keys: &'static [KeySpec],
    /// Hints for clients and proxies, as `COMMAND INFO` prints them.
    pub tips: &'static [&'static str],
    /// ACL categories beyond those that the flags imply.
    pub categories: Categories,
    /// Which shards take part, and how their replies become one.
    pub route: Route,
    /// The page of the command reference that the command is listed on.
    pub group: Group,
    /// Version of Redis that brought it.
    pub since: &'static str,
    /// As in the command reference; empty where that says nothing.
    pub complexity: &'static str,
    /// One sentence, as in the command reference.
    pub summary: &'static str,
    /// What changed since: version and change, as in the command reference.
    pub history: &'static [(&'static str, &'static str)],
    /// Whether `COMMAND DOCS` says that it is for developers (`syscmd`).
    pub is_internal: bool,
    /// Since when and by what it is replaced, if it is.
    pub deprecated: Option<Deprecated>,
    /// Rows of a container's subcommands.
    pub subcommands: &'static [Spec],
    /// What executes it.
    pub run: Run,
}

/// A command that is kept for old clients only.
#[derive(Clone, Copy, Debug)]
pub struct Deprecated {
    /// The version that it is deprecated since.
    pub since: &'static str,
    /// What to use, in the words of the command reference.
    pub replaced_by: &'static str,
}

/// Executes a command on its shard: reads `call.args`, writes exactly one reply unless it returns an error.
pub type Handler = fn(&mut Shard, &mut Call<'_>) -> Result<(), Error>;

/// What executes a command.
#[derive(Clone, Copy, Debug)]
pub enum Run {
    /// A function of the shard.
    Shard(Handler),
    /// The node, which finds its own function by the row's name: connection and server commands.
    Node,
    /// Nothing: one of its subcommands does.
    Container,
}

/// Which shards take part in a command, and how their replies become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// No key: the core that holds the connection answers alone.
    Home,
    /// The shard of the keys. With keys on several shards the steps say what happens.
    Keys(Steps),
    /// Each key (with the arguments of its step) goes to its shard; replies are merged.
    Split(Merge),
    /// Every shard gets the whole command; replies are merged.
    Every(Merge),
    /// `SCAN`: the cursor names the shard.
    Cursor,
    /// `RANDOMKEY`: a shard by chance, weighted by its number of keys.
    Random,
}

/// How replies of several shards become one. The first error reply wins in each case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Merge {
    /// All say OK: one OK.
    Ok,
    /// Integers: their sum.
    Sum,
    /// One element a key: back in the order of the keys.
    PerKey,
    /// Arrays in any order: one behind the other.
    Concat,
}

/// What a command with keys on several shards does; each holds its keys in shard order while it lasts, so that others
/// see it whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Steps {
    /// One key: cannot cross.
    Single,
    /// `RENAME`, `RENAMENX`: copy to the destination, then delete the source.
    Move,
    /// `COPY`.
    Copy,
    /// `MSETNX`: look at all, then set all.
    SetIfNone,
    /// `LCS`: fetch the strings and run where the first key is.
    Fetch,
}

/// A range of keys among the arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeySpec {
    /// Index of the first key; the command's name is 0.
    pub first: u8,
    /// Index of the last: from the first if not negative, counted from the end if negative (-1 is the last argument).
    pub last: i8,
    /// Distance between keys: 2 for `MSET key value`.
    pub step: u8,
    /// What is done with them.
    pub access: KeyFlags,
    /// A remark in `COMMAND INFO`; mostly empty.
    pub notes: &'static str,
}

impl KeySpec {
    /// A single key at `first`.
    #[must_use]
    pub const fn one(first: u8, access: KeyFlags) -> Self {
        Self { first, last: 0, step: 1, access, notes: "" }
    }

    /// With a remark.
    #[must_use]
    pub const fn noted(self, notes: &'static str) -> Self {
        Self { notes, ..self }
    }

    /// Keys from `first` to the end, `step` apart.
    #[must_use]
    pub const fn rest(first: u8, step: u8, access: KeyFlags) -> Self {
        Self { first, last: -1, step, access, notes: "" }
    }

    /// The indices of this range in a command of `argc` arguments (name included); none beyond its end.
    pub fn indices(&self, argc: usize) -> impl Iterator<Item = usize> + use<> {
        let first = usize::from(self.first);
        let last = if self.last >= 0 {
            first + self.last.unsigned_abs() as usize
        } else {
            argc.saturating_sub(self.last.unsigned_abs() as usize)
        };
        (first..=last.max(first)).step_by(usize::from(self.step)).take_while(move |&index| index < argc)
    }
}

bitflags::bitflags! {
    /// Behaviour of a command, as `COMMAND INFO` prints it.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Flags: u32 {
        /// May change data.
        const WRITE = 1 << 0;
        /// Reads data, never changes it.
        const READONLY = 1 << 1;
        /// Refused when memory is short: it may grow.
        const DENYOOM = 1 << 2;
        /// For operators.
        const ADMIN = 1 << 3;
        /// About channels.
        const PUBSUB = 1 << 4;
        /// Not from scripts.
        const NOSCRIPT = 1 << 5;
        /// May wait.
        const BLOCKING = 1 << 6;
        /// Allowed while loading.
        const LOADING = 1 << 7;
        /// Allowed on a stale replica.
        const STALE = 1 << 8;
        /// Not shown by `MONITOR`.
        const SKIP_MONITOR = 1 << 9;
        /// Not in the slow log.
        const SKIP_SLOWLOG = 1 << 10;
        /// Constant or logarithmic time.
        const FAST = 1 << 11;
        /// Allowed before authentication.
        const NO_AUTH = 1 << 12;
        /// Not within `MULTI`.
        const NO_MULTI = 1 << 13;
        /// Keys depend on other arguments.
        const MOVABLEKEYS = 1 << 14;
        /// Allowed while a script keeps the server busy.
        const ALLOW_BUSY = 1 << 15;
        /// Refused asynchronously while loading.
        const NO_ASYNC_LOADING = 1 << 16;
        /// Each key may be absent.
        const NO_MANDATORY_KEYS = 1 << 17;
    }

    /// ACL categories that the flags do not imply.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Categories: u32 {
        /// `@keyspace`
        const KEYSPACE = 1 << 0;
        /// `@string`
        const STRING = 1 << 1;
        /// `@hash`
        const HASH = 1 << 2;
        /// `@list`
        const LIST = 1 << 3;
        /// `@set`
        const SET = 1 << 4;
        /// `@sortedset`
        const SORTEDSET = 1 << 5;
        /// `@connection`
        const CONNECTION = 1 << 6;
        /// `@dangerous` where `ADMIN` does not imply it.
        const DANGEROUS = 1 << 7;
        /// `@transaction`
        const TRANSACTION = 1 << 8;
        /// `@scripting`
        const SCRIPTING = 1 << 9;
    }

    /// What a command does with a key (key specification flags of `COMMAND INFO`).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct KeyFlags: u16 {
        /// Read only.
        const RO = 1 << 0;
        /// Read and written.
        const RW = 1 << 1;
        /// Overwritten.
        const OW = 1 << 2;
        /// Removed.
        const RM = 1 << 3;
        /// Its value is shown to the client.
        const ACCESS = 1 << 4;
        /// Its value is changed.
        const UPDATE = 1 << 5;
        /// Data is added to it.
        const INSERT = 1 << 6;
        /// Content is deleted.
        const DELETE = 1 << 7;
        /// Access depends on the arguments (`SET key value GET`).
        const VARIABLE = 1 << 8;
    }
}

impl Flags {
    /// A quick read.
    pub const READ_FAST: Self = Self::READONLY.union(Self::FAST);
    /// A quick change that needs no memory.
    pub const WRITE_FAST: Self = Self::WRITE.union(Self::FAST);
    /// A change that may need memory.
    pub const GROW: Self = Self::WRITE.union(Self::DENYOOM);
    /// A quick change that may need memory.
    pub const GROW_FAST: Self = Self::GROW.union(Self::FAST);
}

impl KeyFlags {
    /// Its value is read and shown.
    pub const SHOW: Self = Self::RO.union(Self::ACCESS);
    /// Its value is changed, unseen.
    pub const CHANGE: Self = Self::RW.union(Self::UPDATE);
    /// Its value is changed and shown.
    pub const CHANGE_SHOWN: Self = Self::CHANGE.union(Self::ACCESS);
    /// Its value is shown and deleted.
    pub const TAKE: Self = Self::RW.union(Self::ACCESS).union(Self::DELETE);
    /// It is replaced whatever it was.
    pub const REPLACE: Self = Self::OW.union(Self::UPDATE);
    /// It is set where it was not.
    pub const CREATE: Self = Self::OW.union(Self::INSERT);
    /// Its value grows.
    pub const EXTEND: Self = Self::RW.union(Self::INSERT);
    /// It is removed.
    pub const REMOVE: Self = Self::RM.union(Self::DELETE);
}

/// A page of the command reference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Group {
    /// Strings.
    String,
    /// Keys of any type.
    Generic,
    /// Hashes.
    Hash,
    /// Connections.
    Connection,
    /// The server.
    Server,
}

impl Group {
    /// As `COMMAND DOCS` prints it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::String => "string",
            Self::Generic => "generic",
            Self::Hash => "hash",
            Self::Connection => "connection",
            Self::Server => "server",
        }
    }
}

impl Spec {
    /// A row of which nothing is known yet. Tests over the table find what a row left out.
    pub const BLANK: Self = Self {
        name: "",
        syntax: "",
        arity: 0,
        flags: Flags::empty(),
        keys: &[],
        tips: &[],
        categories: Categories::empty(),
        route: Route::Home,
        group: Group::Generic,
        since: "",
        complexity: "",
        summary: "",
        history: &[],
        is_internal: false,
        deprecated: None,
        subcommands: &[],
        run: Run::Node,
    };

    /// Whether `argc` arguments (name included) are as many as the command takes.
    #[must_use]
    pub fn takes(&self, argc: usize) -> bool {
        let bound = self.arity.unsigned_abs() as usize;
        if self.arity >= 0 { argc == bound } else { argc >= bound }
    }

    /// Indices of all keys among `argc` arguments (name included), in the order of the key specifications.
    pub fn key_indices(&self, argc: usize) -> impl Iterator<Item = usize> + '_ {
        self.keys.iter().flat_map(move |range| range.indices(argc))
    }

    /// Whether each key among `argc` arguments has all arguments of its step (`MSET` takes pairs).
    #[must_use]
    pub fn keys_are_whole(&self, argc: usize) -> bool {
        self.keys.iter().all(|range| {
            range.last >= 0 || argc.saturating_sub(usize::from(range.first)).is_multiple_of(usize::from(range.step))
        })
    }

    /// Index of the first key, or `None` for commands without keys.
    #[must_use]
    pub fn first_key(&self) -> Option<usize> {
        self.keys.first().map(|range| usize::from(range.first))
    }

    /// Whether it may change data.
    #[must_use]
    pub const fn writes(&self) -> bool {
        self.flags.contains(Flags::WRITE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_ranges_follow_the_arguments() {
        // MSET k v k v: keys at 1 and 3; GET k: 1; a missing last argument is no key.
        let mset = KeySpec::rest(1, 2, KeyFlags::OW);
        assert_eq!(mset.indices(5).collect::<Vec<_>>(), [1, 3]);
        assert_eq!(KeySpec::one(1, KeyFlags::RO).indices(2).collect::<Vec<_>>(), [1]);
        assert_eq!(KeySpec::one(2, KeyFlags::RO).indices(2).count(), 0);
    }
}
