//! What every sub-command is told alike: which servers, on which cores, and where the figures go.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use crate::peers::Peer;
use crate::process::{self, Core};
use crate::server::{Dialect, Program, Server};

/// Arguments that the sub-commands share.
#[derive(clap::Args)]
pub(crate) struct Setup {
    /// The EagleDB binary [default: release/eagle-node of cargo's target folder]. A redis-server or valkey-server may
    /// stand in for it
    #[arg(long, value_name = "PATH")]
    eagledb: Option<PathBuf>,

    /// A further argument for EagleDB; can be given again
    #[arg(long = "eagledb-arg", value_name = "ARG", allow_hyphen_values = true)]
    eagledb_args: Vec<String>,

    /// The servers to compare with [default: those of redis,valkey,redis8 that are there]
    #[arg(long = "peer", value_name = "PEERS", value_delimiter = ',')]
    peers: Option<Vec<Peer>>,

    /// The folder that `eagle-bench peers` fetches into [default: peers of cargo's target folder]
    #[arg(long, value_name = "DIR")]
    peers_dir: Option<PathBuf>,

    /// The core that servers run on
    #[arg(long, default_value_t = 0)]
    pub(crate) server_core: Core,

    /// The core that the load comes from
    #[arg(long, default_value_t = 1)]
    pub(crate) generator_core: Core,

    /// Writes the figures here as JSON too
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
}

impl Setup {
    /// EagleDB with one shard, and the peers after it.
    pub(crate) fn programs(&self) -> Result<Vec<Program>> {
        let mut programs = vec![self.eagledb(1)?];
        let dir = peers_dir(self.peers_dir.as_deref())?;
        for peer in self.peers.as_deref().unwrap_or(&Peer::USUAL).iter().filter(|peer| **peer != Peer::None) {
            match peer.program(&dir) {
                Ok(program) => programs.push(program),
                Err(error) if self.peers.is_none() => eprintln!("left out: {error}"),
                Err(error) => return Err(error),
            }
        }
        Ok(programs)
    }

    /// EagleDB alone, with this many shards.
    pub(crate) fn eagledb(&self, shards: usize) -> Result<Program> {
        let path = match &self.eagledb {
            Some(path) => path.clone(),
            None => target_dir()?.join("release/eagle-node"),
        };
        let built = "cargo build --release -p eagle-node";
        ensure!(path.is_file(), "there is no {}: build it ({built}) or name it with --eagledb", path.display());
        let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let stands_in = file.starts_with("redis") || file.starts_with("valkey");
        Ok(Program {
            name: if stands_in { format!("{file} as EagleDB") } else { "EagleDB".into() },
            note: String::new(),
            path,
            dialect: if stands_in { Dialect::Redis } else { Dialect::Eagle { shards } },
            preload: None,
            arguments: self.eagledb_args.clone(),
        })
    }

    /// Moves this thread to the generator's core. Call before the load begins.
    pub(crate) fn pin_generator(&self) -> Result<()> {
        process::pin_this_thread(&[self.generator_core])
    }

    /// Starts a server on the servers' core.
    pub(crate) fn start(&self, program: &Program) -> Result<Server> {
        Server::start(program, &[self.server_core])
    }

    /// Both cores, for what is measured on two.
    pub(crate) fn both_cores(&self) -> [Core; 2] {
        [self.server_core, self.generator_core]
    }

    /// One line on the machine, the servers, and who runs where.
    pub(crate) fn describe(&self, programs: &[Program]) -> String {
        let uname = rustix::system::uname();
        let servers = programs.iter().map(|program| match program.note.as_str() {
            "" => program.name.clone(),
            note => format!("{} ({note})", program.name),
        });
        format!(
            "Linux {} on {}; servers on core {}, load from core {}: {}.",
            uname.release().to_string_lossy(),
            uname.machine().to_string_lossy(),
            self.server_core,
            self.generator_core,
            servers.collect::<Vec<_>>().join(", ")
        )
    }
}

/// The folder of peers: the one named, or `peers` of cargo's target folder.
pub(crate) fn peers_dir(named: Option<&Path>) -> Result<PathBuf> {
    match named {
        Some(dir) => Ok(dir.to_owned()),
        None => Ok(target_dir()?.join("peers")),
    }
}

/// Cargo's target folder, in a profile's folder of which this binary was built.
pub(crate) fn target_dir() -> Result<PathBuf> {
    let binary = std::env::current_exe()?;
    let dir = binary.ancestors().nth(2).context("this binary does not lie in a target folder of cargo")?;
    Ok(dir.to_owned())
}
