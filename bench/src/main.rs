//! The `eagle-bench` binary: drives whole servers, EagleDB's and its peers', and draws the report.
//!
//! Nothing here knows a server from inside: it starts processes, sends them requests, and reads what the kernel says of
//! their CPU time and memory. The server runs on one core and the load comes from another, so that the server is
//! what is measured.
//!
//! ```text
//! compare  memory  elements  large  eviction  overwrite  crossing  connections  hostile  durable  restart   one sub-command,
//!    └────────┴───────┴───────┴──────┬─┴───────────┴─────────┴─────────┴────────┴────────┘                  one question
//!    setup ─▶ server ─▶ process     start, pin, CPU time, memory   (peers: where their binaries are)
//!    requests ─▶ generator ─▶ replies                              the load
//!    measure ─▶ report                                             the figures
//! ```
//!
//! ```text
//! cargo build --release -p eagle-node -p eagle-bench
//! target/release/eagle-bench peers        # once
//! target/release/eagle-bench compare
//! ```

#![forbid(unsafe_code)]
#![allow(clippy::print_stdout, reason = "the report is this program's output")]
#![allow(clippy::print_stderr, reason = "progress goes beside the report")]

mod client;
mod compare;
mod connections;
mod crossing;
mod durable;
mod elements;
mod eviction;
mod generator;
mod hostile;
mod large;
mod measure;
mod memory;
mod overwrite;
mod peers;
mod pinger;
mod process;
mod redis_benchmark;
mod replies;
mod report;
mod requests;
mod restart;
mod security;
mod server;
mod setup;

use std::path::PathBuf;

use anyhow::Result;
use clap::Parser;

/// Measures EagleDB beside Redis and Valkey, from outside.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Throughput and CPU time a request, beside the peers
    Compare(compare::Compare),
    /// Bytes of memory a key
    Memory(memory::Memory),
    /// Bytes of memory an element of a hash
    Elements(elements::Elements),
    /// What a hash of ten million fields costs whom: RENAME, COPY, expiry, DEL, and PINGs beside them
    Large(large::Large),
    /// SET throughput, fresh and after the keyspace was overwritten ten times
    Overwrite(overwrite::Overwrite),
    /// CPU time of commands whose key is another core's (EagleDB on two cores)
    Crossing(crossing::Crossing),
    /// Ten thousand connections: each served, bytes each
    Connections(connections::Connections),
    /// Memory and hit ratio of a server that evicts
    Eviction(eviction::Eviction),
    /// Clients that mean no good, and what others notice of them
    Hostile(hostile::Hostile),
    /// What durability costs: throughput, delays, CPU time and bytes written under each mode, beside the peers' logs
    Durable(durable::Durable),
    /// How long a server takes to end and to start again with its keys
    Restart(restart::Restart),
    /// What access control and TLS cost: CPU time a request
    Security(security::Security),
    /// Fetches the peers that are no Debian packages (Valkey 9.1.2, Redis 8.2.3, Valkey 8.1.8) with pip
    Peers {
        /// Where to [default: peers of cargo's target folder]
        #[arg(long, value_name = "DIR")]
        peers_dir: Option<PathBuf>,
    },
}

fn main() -> Result<()> {
    match Arguments::parse().command {
        Command::Compare(arguments) => compare::run(&arguments),
        Command::Memory(arguments) => memory::run(&arguments),
        Command::Elements(arguments) => elements::run(&arguments),
        Command::Large(arguments) => large::run(&arguments),
        Command::Overwrite(arguments) => overwrite::run(&arguments),
        Command::Crossing(arguments) => crossing::run(&arguments),
        Command::Connections(arguments) => connections::run(&arguments),
        Command::Eviction(arguments) => eviction::run(&arguments),
        Command::Hostile(arguments) => hostile::run(&arguments),
        Command::Durable(arguments) => durable::run(&arguments),
        Command::Restart(arguments) => restart::run(&arguments),
        Command::Security(arguments) => security::run(&arguments),
        Command::Peers { peers_dir } => peers::fetch(&setup::peers_dir(peers_dir.as_deref())?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        // clap's own checks: no flag twice, defaults that parse.
        Arguments::command().debug_assert();
    }
}
