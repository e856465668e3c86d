//! Real processes: the EagleDB binary and its peers, each with a port and a folder of its own.
//!
//! A process ends with its value: whatever a test does, nothing is left running. A port is found by binding port 0 and
//! letting go of it; another process may take it in between, so a start that finds its port taken is tried again.
//! EagleDB's admin port is off, so that servers stand side by side, unless `--admin-port` says otherwise.

use std::{
    io::{self, Read},
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use tempfile::TempDir;

/// How long a server may take to answer, even on a loaded machine, before the test gives up.
const START_MAX: Duration = Duration::from_secs(60);

/// The variable, and its value, by which an EagleDB has no admin port: flags win over it.
pub const NO_ADMIN_PORT: (&str, &str) = ("EAGLE_CONF_ADMIN_PORT", "0");

/// A running server.
#[derive(Debug)]
pub struct Process {
    child: Child,
    port: u16,
    dir: Arc<TempDir>,
}

impl Process {
    /// Starts the EagleDB under test with further arguments.
    ///
    /// # Panics
    /// It does not start.
    #[must_use]
    pub fn eagledb(arguments: &[&str]) -> Self {
        Self::start(&eagledb_path(), arguments)
    }

    /// Starts the EagleDB under test with variables in its environment.
    ///
    /// # Panics
    /// It does not start.
    #[must_use]
    pub fn eagledb_with(variables: &[(&str, &str)], arguments: &[&str]) -> Self {
        let dir = Arc::new(TempDir::new().expect("a temporary folder"));
        Self::start_with(&eagledb_path(), &dir, variables, arguments)
    }

    /// Starts a server that takes `--port`, `--bind` and `--dir` as Redis does.
    ///
    /// # Panics
    /// It does not start.
    #[must_use]
    pub fn start(binary: &Path, arguments: &[&str]) -> Self {
        Self::start_in(binary, &Arc::new(TempDir::new().expect("a temporary folder")), arguments)
    }

    /// Starts a server in a folder, in which another may have served before.
    ///
    /// # Panics
    /// It does not start.
    #[must_use]
    pub fn start_in(binary: &Path, dir: &Arc<TempDir>, arguments: &[&str]) -> Self {
        Self::start_with(binary, dir, &[], arguments)
    }

    fn start_with(binary: &Path, dir: &Arc<TempDir>, variables: &[(&str, &str)], arguments: &[&str]) -> Self {
        for _ in 0..5 {
            let dir = Arc::clone(dir);
            let port = free_port();
            // A configuration file comes first, as Redis wants it.
            let file = arguments.iter().take_while(|word| !word.starts_with("--")).count();
            let mut child = Command::new(binary)
                .env(NO_ADMIN_PORT.0, NO_ADMIN_PORT.1)
                .envs(variables.iter().copied())
                .args(&arguments[..file])
                .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--dir"])
                .arg(dir.path())
                .args(&arguments[file..])
                .stdin(Stdio::null())
                .stdout(Stdio::from(log_file(dir.path())))
                .stderr(Stdio::from(log_file(dir.path())))
                .spawn()
                .unwrap_or_else(|error| panic!("{} starts: {error}", binary.display()));
            if answers(&mut child, port) {
                return Self { child, port, dir };
            }
            let log = std::fs::read_to_string(dir.path().join("log")).unwrap_or_default();
            eprintln_log(binary, &log);
        }
        panic!("{} does not start", binary.display());
    }

    /// Debian's Redis, the oracle for what Redis 7.0 has.
    #[must_use]
    pub fn redis() -> Self {
        Self::start(Path::new("redis-server"), &["--save", "", "--appendonly", "no", "--enable-debug-command", "yes"])
    }

    /// Valkey 8.1.8, the oracle for what 7.2 added; `None` where it is not installed (`deploy/test.sh` does).
    #[must_use]
    pub fn valkey() -> Option<Self> {
        let path = std::env::var_os("EAGLE_VALKEY_BIN").map(PathBuf::from)?;
        Some(Self::start(&path, &["--save", "", "--appendonly", "no", "--enable-debug-command", "yes"]))
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    /// Its port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its folder.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Its folder, to start another in it when this one has ended.
    #[must_use]
    pub fn folder(&self) -> Arc<TempDir> {
        Arc::clone(&self.dir)
    }

    /// What it has printed.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    /// Whether it prints this, now or soon: what it logs is written by a thread of its own.
    #[must_use]
    pub fn says(&self, words: &str) -> bool {
        let until = Instant::now() + START_MAX;
        while Instant::now() < until {
            if self.log().contains(words) {
                return true;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        false
    }

    /// Sends it a signal by name (`TERM`, `KILL`, `STOP`, `CONT`).
    ///
    /// # Panics
    /// `kill` fails.
    pub fn signal(&self, name: &str) {
        let pid = self.pid().to_string();
        let status = Command::new("kill").args([&format!("-{name}"), &pid]).status().expect("kill runs");
        assert!(status.success(), "kill -{name} {pid}");
    }

    /// Waits for its end; `None` if it does not end in time.
    pub fn wait(&mut self, most: Duration) -> Option<std::process::ExitStatus> {
        let until = Instant::now() + most;
        while Instant::now() < until {
            if let Some(status) = self.child.try_wait().expect("a child can be waited for") {
                return Some(status);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        None
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already; then there is nothing to kill and the status is all that is left to collect.
        if self.child.try_wait().is_ok_and(|status| status.is_none()) {
            self.child.kill().expect("a running child can be killed");
            self.child.wait().expect("a killed child ends");
        }
    }
}

/// Runs the binary under test to its end: exit code, and what it printed on both streams.
///
/// # Panics
/// It cannot be run.
#[must_use]
pub fn run_eagledb(arguments: &[&str]) -> (i32, String) {
    let mut command = Command::new(eagledb_path());
    command.env(NO_ADMIN_PORT.0, NO_ADMIN_PORT.1).args(arguments).stdin(Stdio::null());
    let output = command.output().expect("the binary runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    (output.status.code().unwrap_or(-1), text)
}

/// The binary under test: `EAGLE_NODE_BIN`, else the newest of this workspace's builds.
///
/// # Panics
/// There is none.
#[must_use]
pub fn eagledb_path() -> PathBuf {
    if let Some(path) = std::env::var_os("EAGLE_NODE_BIN") {
        return PathBuf::from(path);
    }
    let test = std::env::current_exe().expect("a test knows its file");
    let target = test.ancestors().find(|dir| dir.join("CACHEDIR.TAG").exists()).expect("tests lie in a target folder");
    ["checked", "release", "debug"]
        .iter()
        .map(|profile| target.join(profile).join("eagle-node"))
        .filter_map(|path| Some((path.metadata().ok()?.modified().ok()?, path)))
        .max()
        .map(|(_, path)| path)
        .expect("build the server first: cargo build --profile checked -p eagle-node")
}

/// A port that was free a moment ago.
///
/// # Panics
/// There is none.
#[must_use]
pub fn free_port() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    listener.local_addr().expect("a bound socket has an address").port()
}

fn log_file(dir: &Path) -> std::fs::File {
    std::fs::OpenOptions::new().create(true).append(true).open(dir.join("log")).expect("a log file")
}

fn answers(child: &mut Child, port: u16) -> bool {
    let until = Instant::now() + START_MAX;
    while Instant::now() < until {
        if child.try_wait().expect("a child can be waited for").is_some() {
            return false;
        }
        if pings(port).is_ok() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    child.kill().expect("a running child can be killed");
    child.wait().expect("a killed child ends");
    false
}

fn pings(port: u16) -> io::Result<()> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_secs(1)))?;
    io::Write::write_all(&mut stream, b"PING\r\n")?;
    // +PONG, or -NOAUTH where a password is set; -LOADING while it is not ready.
    let mut reply = [0; 5];
    stream.read_exact(&mut reply)?;
    if &reply == b"-LOAD" { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(()) }
}

#[expect(clippy::print_stderr, reason = "why a server does not start belongs into the test's output")]
fn eprintln_log(binary: &Path, log: &str) {
    eprintln!("{} ended at start:\n{log}", binary.display());
}
