//! A server under measurement: started on its own port and folder, on given cores, and stopped at the end.
//!
//! A [`Program`] is how to start one; a [`Server`] is one that runs and has answered a PING. Dropping it ends the
//! process, so a run that fails leaves none behind.

use std::fs::{self, File};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::client::Client;
use crate::process::{self, Core};

/// How long a server may take to answer its first PING, or to end after SIGTERM.
const PATIENCE: Duration = Duration::from_secs(10);

/// The flags that a program understands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// EagleDB, with this many shards.
    Eagle {
        /// `--shards`
        shards: usize,
    },
    /// Redis, Valkey, and what takes their flags.
    Redis,
    /// A bare server that takes a port as its only argument: the floor that no whole server goes below.
    Floor,
}

/// How to start a server.
#[derive(Clone, Debug)]
pub(crate) struct Program {
    /// What tables call it.
    pub(crate) name: String,
    /// What a reader of its figures should know beside the name; may be empty.
    pub(crate) note: String,
    /// The binary.
    pub(crate) path: PathBuf,
    /// Its flags.
    pub(crate) dialect: Dialect,
    /// A library to load before others: the allocator that the server is released with, where the binary lacks it.
    pub(crate) preload: Option<PathBuf>,
    /// Further arguments.
    pub(crate) arguments: Vec<String>,
}

impl Program {
    fn command(&self, port: u16, dir: &Path) -> Command {
        let mut command = Command::new(&self.path);
        let port = port.to_string();
        match self.dialect {
            Dialect::Floor => {
                command.arg(port);
            }
            Dialect::Redis => {
                command
                    .args(["--port", &port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir"])
                    .arg(dir);
            }
            Dialect::Eagle { shards } => {
                command.args(["--port", &port, "--bind", "127.0.0.1", "--admin-port", "0", "--pool", "none"]);
                command.args(["--shards", &shards.to_string(), "--dir"]).arg(dir);
            }
        }
        command.args(&self.arguments);
        if let Some(library) = &self.preload {
            command.env("LD_PRELOAD", library);
        }
        command
    }
}

/// A server that runs.
pub(crate) struct Server {
    /// What tables call it.
    pub(crate) name: String,
    /// The port it serves on.
    pub(crate) port: u16,
    child: Child,
    /// Its folder, removed with the last server in it.
    dir: Rc<TempDir>,
}

/// A new folder for servers, in the one given or where temporary files are.
pub(crate) fn folder(parent: Option<&Path>) -> Result<Rc<TempDir>> {
    let mut builder = tempfile::Builder::new();
    let named = builder.prefix("eagle-bench-");
    let dir = parent.map_or_else(|| named.tempdir(), |parent| named.tempdir_in(parent));
    Ok(Rc::new(dir.context("cannot make a folder for servers")?))
}

impl Server {
    /// Starts a server on these cores and waits until it answers.
    ///
    /// # Errors
    /// It cannot be started, or ends or stays silent for 10 s: then with what it wrote.
    pub(crate) fn start(program: &Program, cores: &[Core]) -> Result<Self> {
        Self::start_in(program, cores, folder(None)?)
    }

    /// The same in a folder where another may have served before.
    pub(crate) fn start_in(program: &Program, cores: &[Core], dir: Rc<TempDir>) -> Result<Self> {
        let mut server = Self::launch(program, cores, dir)?;
        server.wait_until_ready(program.dialect)?;
        Ok(server)
    }

    /// Starts a server and does not wait for it.
    pub(crate) fn launch(program: &Program, cores: &[Core], dir: Rc<TempDir>) -> Result<Self> {
        let port = free_port()?;
        let output = File::create(dir.path().join("output"))?;
        let mut command = program.command(port, dir.path());
        command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        let child =
            spawn_on(&mut command, cores).with_context(|| format!("cannot start {}", program.path.display()))?;
        Ok(Self { name: program.name.clone(), port, child, dir })
    }

    /// Ends it by a signal; how long that took.
    ///
    /// # Errors
    /// It goes on for longer than `most`.
    pub(crate) fn end(&mut self, signal: Signal, most: Duration) -> Result<Duration> {
        let started = Instant::now();
        kill_process(Pid::from_child(&self.child), signal)?;
        while self.child.try_wait()?.is_none() {
            ensure!(started.elapsed() < most, "{} goes on {} s after {signal:?}", self.name, most.as_secs());
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(started.elapsed())
    }

    /// Its folder, to start another in it when this one has ended.
    pub(crate) fn folder(&self) -> Rc<TempDir> {
        Rc::clone(&self.dir)
    }

    /// Whether it has ended.
    pub(crate) fn has_ended(&mut self) -> Result<bool> {
        Ok(self.child.try_wait()?.is_some())
    }

    fn wait_until_ready(&mut self, dialect: Dialect) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait()? {
                bail!("{} ended at start ({status}):\n{}", self.name, self.output());
            }
            let served = match dialect {
                Dialect::Floor => Client::connect(self.port).map(|_| ()),
                _ => Client::connect(self.port).and_then(|mut client| client.call(&["PING"])?.text().map(|_| ())),
            };
            match served {
                Ok(()) => return Ok(()),
                Err(error) if Instant::now() >= deadline => {
                    return Err(error.context(format!("{} does not serve:\n{}", self.name, self.output())));
                }
                Err(_) => std::thread::sleep(Duration::from_millis(20)),
            }
        }
    }

    /// The last lines that the server wrote.
    pub(crate) fn output(&self) -> String {
        let text = fs::read_to_string(self.dir.path().join("output")).unwrap_or_else(|error| error.to_string());
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }

    /// A connection for commands beside the load.
    pub(crate) fn client(&self) -> Result<Client> {
        Client::connect(self.port)
    }

    /// User and system time used since the start, in seconds.
    pub(crate) fn cpu_seconds(&self) -> Result<f64> {
        process::cpu_seconds(self.child.id())
    }

    /// Bytes of memory resident now.
    pub(crate) fn resident_bytes(&self) -> Result<u64> {
        process::resident_bytes(self.child.id())
    }

    /// Bytes of memory resident now, nearly, without keeping anybody waiting.
    pub(crate) fn resident_bytes_roughly(&self) -> Result<u64> {
        process::resident_bytes_roughly(self.child.id())
    }

    /// The most bytes of memory that were ever resident.
    pub(crate) fn peak_resident_bytes(&self) -> Result<u64> {
        process::peak_resident_bytes(self.child.id())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        let pid = Pid::from_child(&self.child);
        // Errors mean that the process has ended already, which is what is wanted here.
        let _ = kill_process(pid, Signal::TERM);
        while Instant::now() < deadline {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        eprintln!("{} did not end on SIGTERM within {} s: killing it", self.name, PATIENCE.as_secs());
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Starts the command from a thread that is pinned: a child inherits where its parent thread may run.
fn spawn_on(command: &mut Command, cores: &[Core]) -> Result<Child> {
    let start = || {
        process::pin_this_thread(cores)?;
        Ok(command.spawn()?)
    };
    std::thread::scope(|scope| match scope.spawn(start).join() {
        Ok(child) => child,
        Err(panic) => std::panic::resume_unwind(panic),
    })
}

/// A port that nobody listens on now.
fn free_port() -> Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_ends_at_start_is_told_with_its_words() {
        // Why a server did not start is in the error.
        let program = Program {
            name: "broken".into(),
            note: String::new(),
            path: "/bin/ls".into(),
            dialect: Dialect::Redis,
            preload: None,
            arguments: vec![],
        };
        let error = Server::start(&program, &[0]).err().unwrap().to_string();
        assert!(error.starts_with("broken ended at start") && error.contains("--port"), "{error}");
    }
}
