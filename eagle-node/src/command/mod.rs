//! The table of all commands: the shards' rows and the node's own, found by name.
//!
//! The shards' rows come from [`eagle_shard::command`]. The node's own (PING, CLIENT, CONFIG, ...) are rows of the same
//! type, one file a family: first its rows, then the functions that execute them ([`NodeRun`]), by name. Each row,
//! subcommands included, has a number, by which statistics are kept.

pub mod acl;
pub mod client;
pub mod clients;
pub mod config;
pub mod connection;
pub mod debug;
pub mod info;
pub mod introspection;
pub mod latency;
pub mod lolwut;
pub mod memory;
pub mod modules;
pub mod monitor;
pub mod names;
pub mod pausing;
mod sections;
pub mod server;
pub mod slowlog;
pub mod waiting;

#[cfg(test)]
mod tests;
#[cfg(test)]
mod trial;

use std::sync::LazyLock;

use eagle_resp::{Args, Reply};
use eagle_shard::{
    call::DbId,
    command::{lookup::Lookup, refusal},
    error::Error,
    spec::{KeyFlags, KeySpec, Run, Spec},
};

use crate::core::{
    Core, MergeCall, NodeCall,
    event::{ConnId, CoreId, Now},
    stats::CoreReport,
};

/// What a client of another host is told while nothing protects the server.
pub const PROTECTED_MODE_DENIED: &str = "DENIED EagleDB is running in protected mode because protected mode is enabled \
    and no password is set for the default user. In this mode connections are only accepted from the loopback \
    interface. If you want to connect from external computers, either set a password (directive requirepass), or, if \
    the server cannot be reached by those you do not trust, disable protected mode: send 'CONFIG SET protected-mode \
    no' from the loopback interface, or start the server with '--protected-mode no'.";

/// What executes one of the node's own commands.
#[derive(Clone, Copy, Debug)]
pub enum NodeRun {
    /// The home core alone: writes one reply unless it returns an error.
    Here(fn(&mut Core, &mut NodeCall<'_>) -> Result<(), Error>),
    /// All cores: the home core begins, each core reports (the home core too, its sessions all in place), the home
    /// core merges the reports, in the order of the cores, to one reply.
    Every {
        /// Checks arguments and does what is to be done once.
        begin: fn(&mut Core, &mut NodeCall<'_>) -> Result<Begin, Error>,
        /// A core's part.
        each: fn(&mut Core, &Asked<'_>) -> CoreReport,
        /// Writes the reply.
        merge: fn(&mut Core, &MergeCall<'_>, Vec<CoreReport>, &mut Reply<'_>),
    },
}

/// What `begin` of a command of all cores decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begin {
    /// All cores are to report.
    Gather,
    /// All cores are to report, and the merge gets this number.
    Noted(i64),
    /// The runtime is to change the configuration as the arguments behind the subcommand say, then all cores are to report.
    Configure,
    /// The reply is written already.
    Answered,
}

/// What a core is asked as its part of a command of all cores.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// The command's arguments; index 0 is the name.
    pub args: Args<'a>,
    /// The time here.
    pub now: Now,
    /// The core that asks.
    pub from: CoreId,
    /// The connection that sent the command, one of that core's.
    pub asker: ConnId,
    /// That connection's database.
    pub db: DbId,
}

/// A command as dispatch finds it.
#[derive(Debug)]
pub struct Row {
    /// Its facts.
    pub spec: &'static Spec,
    /// Its number in the table, below [`row_count`].
    pub index: u16,
    /// What executes it, if it is the node's own.
    pub node: Option<NodeRun>,
    /// A container's subcommands.
    pub rows: Vec<Row>,
}

impl Row {
    fn subcommand(&self, name: &[u8]) -> Option<&Self> {
        // Behind the container's name and the bar.
        let start = self.spec.name.len() + 1;
        self.rows.iter().find(|row| row.spec.name.as_bytes()[start..].eq_ignore_ascii_case(name))
    }
}

/// What a request's name leads to.
#[derive(Clone, Copy, Debug)]
pub enum Found {
    /// This command.
    Row(&'static Row),
    /// No command.
    Unknown,
    /// A container, but none of its subcommands.
    UnknownSubcommand(&'static Row),
}

/// The node's own rows, a family a slice.
const ROWS: [&[Spec]; 13] = [
    acl::ROWS,
    connection::ROWS,
    client::ROWS,
    introspection::ROWS,
    latency::ROWS,
    config::ROWS,
    debug::ROWS,
    memory::ROWS,
    modules::ROWS,
    monitor::ROWS,
    server::ROWS,
    slowlog::ROWS,
    waiting::ROWS,
];

/// What executes them.
const RUNS: [&[(&str, NodeRun)]; 13] = [
    acl::RUNS,
    connection::RUNS,
    client::RUNS,
    introspection::RUNS,
    latency::RUNS,
    config::RUNS,
    debug::RUNS,
    memory::RUNS,
    modules::RUNS,
    monitor::RUNS,
    server::RUNS,
    slowlog::RUNS,
    waiting::RUNS,
];

struct Table {
    rows: Vec<Row>,
    count: u16,
    lookup: Lookup,
}

static TABLE: LazyLock<Table> = LazyLock::new(Table::new);

impl Table {
    fn new() -> Self {
        let specs = || eagle_shard::command::rows().chain(ROWS.into_iter().flatten());
        let mut table = Self { rows: Vec::new(), count: 0, lookup: Lookup::new(specs()) };
        for spec in specs() {
            let mut row = table.row(spec);
            row.rows = spec.subcommands.iter().map(|sub| table.row(sub)).collect();
            table.rows.push(row);
        }
        table
    }

    fn row(&mut self, spec: &'static Spec) -> Row {
        let node = RUNS.into_iter().flatten().find(|(name, _)| *name == spec.name).map(|(_, run)| *run);
        assert_eq!(matches!(spec.run, Run::Node), node.is_some(), "what executes {}?", spec.name);
        self.count += 1;
        Row { spec, index: self.count - 1, node, rows: Vec::new() }
    }
}

/// All commands; a container's subcommands are within it.
pub fn rows() -> impl Iterator<Item = &'static Row> {
    TABLE.rows.iter()
}

/// All commands and subcommands.
pub fn all_rows() -> impl Iterator<Item = &'static Row> {
    rows().flat_map(|row| std::iter::once(row).chain(&row.rows))
}

/// How many rows there are, subcommands included: one more than the highest [`Row::index`].
#[must_use]
pub fn row_count() -> usize {
    usize::from(TABLE.count)
}

/// What a request means, by its first argument or, in a container, its first two.
#[inline]
#[must_use]
pub fn find(args: Args<'_>) -> Found {
    let table = &*TABLE;
    let Some(row) = args.get(0).and_then(|name| table.lookup.position(name)).map(|index| &table.rows[index]) else {
        return Found::Unknown;
    };
    within(row, args)
}

/// What a request of this command or container means.
#[inline]
fn within(row: &'static Row, args: Args<'_>) -> Found {
    match args.get(1) {
        Some(name) if !row.rows.is_empty() => row.subcommand(name).map_or(Found::UnknownSubcommand(row), Found::Row),
        _ => Found::Row(row),
    }
}

/// The row of a full name as `COMMAND INFO` takes it: `get`, `config|set`.
#[must_use]
pub fn find_named(name: &[u8]) -> Option<&'static Row> {
    all_rows().find(|row| name.eq_ignore_ascii_case(row.spec.name.as_bytes()))
}

/// The facts of the command of this name, lower case.
///
/// # Panics
///
/// If there is none.
#[must_use]
pub fn named(name: &str) -> &'static Spec {
    find_named(name.as_bytes()).expect("a command of the table").spec
}

/// The row with these facts.
///
/// # Panics
///
/// If there is none: only specs of the table come here.
#[must_use]
pub fn row(spec: &Spec) -> &'static Row {
    all_rows().find(|row| row.spec.name == spec.name).expect("a spec of the table")
}

/// What a request does with the keys of one range, where that depends on its other arguments too: SET reads the key only with GET.
#[must_use]
pub fn access(keys: &KeySpec, args: Args<'_>) -> KeyFlags {
    match keys.access.contains(KeyFlags::VARIABLE) {
        false => keys.access,
        true if args.iter().skip(1).any(|arg| arg.eq_ignore_ascii_case(b"GET")) => {
            KeyFlags::RW.union(KeyFlags::ACCESS).union(KeyFlags::UPDATE)
        }
        true => KeyFlags::OW.union(KeyFlags::UPDATE),
    }
}

/// Redis' line for a name that is of no command.
#[must_use]
pub fn unknown_command(args: Args<'_>) -> Vec<u8> {
    refusal::unknown_command(args)
}

/// Redis' line for a subcommand that its container does not have.
#[must_use]
pub fn unknown_subcommand(container: &Row, args: Args<'_>) -> Vec<u8> {
    refusal::unknown_subcommand(container.spec, args)
}

/// Replies with an error that is not the same every time, and counts it.
fn refuse(core: &mut Core, call: &mut NodeCall<'_>, line: &[u8]) {
    let stats = core.stats_mut();
    stats.failed_call(row(call.spec));
    stats.error(Some(row(call.spec)), line);
    call.reply.error_bytes(line);
}

/// Replies that a subcommand of a container has words too many, in the words that Redis 7 has for those that it counts itself.
fn refuse_count(core: &mut Core, call: &mut NodeCall<'_>, container: &str) {
    let name = &call.args[1];
    let shown = String::from_utf8_lossy(&name[..name.len().min(128)]).into_owned();
    let line = format!("ERR unknown subcommand or wrong number of arguments for '{shown}'. Try {container} HELP.");
    refuse(core, call, line.as_bytes());
}

/// Replies with the help of a container, as Redis lays it out.
fn help(container: &str, lines: &[&str], reply: &mut Reply<'_>) {
    reply.array(lines.len() + 3);
    reply.simple(&format!("{container} <subcommand> [<arg> [value] [opt] ...]. Subcommands are:"));
    for line in lines {
        reply.simple(line);
    }
    reply.simple("HELP");
    reply.simple("    Prints this help.");
}
