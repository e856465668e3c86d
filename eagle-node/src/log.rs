//! The log is lines of text or JSON on standard output or in a file, from a level on that can be changed while serving.
//!
//! ```text
//!  a core ─▶ formats its line ─▶ a queue of [`LINES_MAX`] ─▶ a thread writes; asks first whether its file is still that of its path
//! ```
//!
//! Levels have Redis' names; `notice` is what an operator wants to know. Nothing that a client sent (keys, values,
//! passwords) is logged. The level belongs to the process, as its standard output does.
//!
//! No core waits for whoever reads the log: what the queue has no room for is dropped, and counted ([`lost`]). What is queued at the end is written
//! ([`end`]). A file that was moved or removed is made anew for the next line, so it may be rotated at any time.
//!
//! What is logged for a connection carries its number and address (`connection{id=3 addr=...}`, [`connection`]), and at `debug` each request its
//! number in the connection and its command's name.

use std::{
    fmt,
    fs::{File, OpenOptions},
    io::{self, Write},
    os::unix::fs::MetadataExt,
    sync::{Mutex, OnceLock, PoisonError},
};

use tracing::{Level, span::EnteredSpan};
use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::{Registry, filter::LevelFilter, prelude::*, reload};

use crate::config::{Config, LogLevel};

/// Lines that wait to be written, at most.
const LINES_MAX: usize = 16_384;

/// What there is of the log of this process.
struct Log {
    level: reload::Handle<LevelFilter, Registry>,
    lost: ErrorCounter,
    /// Taken at the end: until then the queue is written.
    guard: Mutex<Option<WorkerGuard>>,
}

/// Set once, by [`start`].
static LOG: OnceLock<Log> = OnceLock::new();

/// Why there is no log.
#[derive(Debug)]
pub enum LogError {
    /// The file of this path cannot be appended to.
    File(String, io::Error),
    /// A log was started before in this process.
    Started,
}

impl std::error::Error for LogError {}

impl fmt::Display for LogError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path, error) => write!(f, "cannot write the log file '{path}': {error}; see directive logfile"),
            Self::Started => f.write_str("the log was started before"),
        }
    }
}

/// Starts the process' log where `config` wants it.
///
/// # Errors
///
/// The file cannot be opened, or this is not the first call.
pub fn start(config: &Config) -> Result<(), LogError> {
    let sink: Box<dyn Write + Send> = match config.logfile.as_str() {
        "" => Box::new(io::stdout()),
        path => Box::new(LogFile::open(path).map_err(|error| LogError::File(path.to_owned(), error))?),
    };
    let (queue, guard) =
        NonBlockingBuilder::default().buffered_lines_limit(LINES_MAX).lossy(true).thread_name("log").finish(sink);
    let lost = queue.error_counter();
    let (filter, handle) = reload::Layer::new(level(config.loglevel));
    let lines = tracing_subscriber::fmt::layer().with_ansi(false).with_target(false).with_writer(queue);
    let lines = if config.log_json { lines.json().boxed() } else { lines.boxed() };
    let subscriber = tracing_subscriber::registry().with(filter).with(lines);
    tracing::subscriber::set_global_default(subscriber).map_err(|_| LogError::Started)?;
    LOG.set(Log { level: handle, lost, guard: Mutex::new(Some(guard)) }).map_err(|_| LogError::Started)
}

/// Logs from another level on. Without effect before [`start`], as in a simulation.
pub fn set_level(level_now: LogLevel) {
    if let Some(log) = LOG.get() {
        // Fails only if the subscriber is gone, and then nothing is logged at all.
        let _ = log.level.modify(|filter| *filter = level(level_now));
    }
}

/// Lines that were dropped because the log is slow.
#[must_use]
pub fn lost() -> usize {
    LOG.get().map_or(0, |log| log.lost.dropped_lines())
}

/// Writes what is queued, a second at most. The process is about to end: what is logged from now on is lost.
pub fn end() {
    if let Some(log) = LOG.get() {
        drop(log.guard.lock().unwrap_or_else(PoisonError::into_inner).take());
    }
}

/// Until it is dropped, what is logged is about this connection.
pub fn connection(id: u64, address: &str) -> EnteredSpan {
    tracing::error_span!("connection", id, addr = address).entered()
}

/// Whether each request is logged.
#[must_use]
pub fn is_of_requests() -> bool {
    tracing::enabled!(Level::TRACE)
}

/// Until it is dropped, what is logged is about this request of a connection.
pub fn request(number: u64, command: &str) -> EnteredSpan {
    tracing::trace_span!("request", number, command).entered()
}

/// A file that lines are appended to.
struct LogFile {
    path: String,
    file: File,
    /// Its device and number there.
    identity: (u64, u64),
}

impl LogFile {
    fn open(path: &str) -> io::Result<Self> {
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        let metadata = file.metadata()?;
        Ok(Self { path: path.to_owned(), file, identity: (metadata.dev(), metadata.ino()) })
    }

    /// Follows the path, if another file or none is there now; goes on with the old one if there can be none.
    fn follow(&mut self) {
        let present = std::fs::metadata(&self.path).map(|metadata| (metadata.dev(), metadata.ino()));
        if present.ok() != Some(self.identity)
            && let Ok(file) = Self::open(&self.path)
        {
            *self = file;
        }
    }
}

impl Write for LogFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.follow();
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

fn level(level: LogLevel) -> LevelFilter {
    match level {
        LogLevel::Debug => LevelFilter::TRACE,
        LogLevel::Verbose => LevelFilter::DEBUG,
        LogLevel::Notice => LevelFilter::INFO,
        LogLevel::Warning => LevelFilter::WARN,
        LogLevel::Nothing => LevelFilter::OFF,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_go_to_the_file_from_the_level_on() {
        // Below the level nothing is written; changed while running, everything is; what is logged of a connection says so. At the end
        // all is there. A second log is refused.
        let path = std::env::temp_dir().join(format!("eagle-log-{}", std::process::id()));
        let config = Config { logfile: path.to_string_lossy().into_owned(), log_json: true, ..Config::default() };
        start(&config).unwrap();
        tracing::debug!("one");
        tracing::info!("two");
        set_level(LogLevel::Verbose);
        {
            let _connection = connection(7, "1.2.3.4:5");
            tracing::debug!("three");
        }
        end();
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        let lines: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let messages: Vec<&str> = lines.iter().filter_map(|line| line["fields"]["message"].as_str()).collect();
        assert_eq!(messages, ["two", "three"]);
        assert!(
            lines[0].get("span").is_none() && lines[1]["span"]["id"] == 7 && lines[1]["span"]["addr"] == "1.2.3.4:5"
        );
        assert_eq!(lost(), 0);
        assert!(matches!(start(&config), Err(LogError::Started)));
        let nowhere = Config { logfile: "/nowhere/eagle.log".to_owned(), ..Config::default() };
        assert!(start(&nowhere).unwrap_err().to_string().starts_with("cannot write the log file '/nowhere/eagle.log'"));
    }

    #[test]
    fn a_file_that_was_moved_is_made_anew() {
        // As logrotate does it, without telling anybody; and when it was removed.
        let path = std::env::temp_dir().join(format!("eagle-rotated-{}", std::process::id()));
        let moved = path.with_extension("1");
        let mut file = LogFile::open(path.to_str().unwrap()).unwrap();
        file.write_all(b"one\n").unwrap();
        std::fs::rename(&path, &moved).unwrap();
        file.write_all(b"two\n").unwrap();
        assert_eq!(std::fs::read_to_string(&moved).unwrap(), "one\n");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "two\n");
        std::fs::remove_file(&path).unwrap();
        file.write_all(b"three\n").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "three\n");
        std::fs::remove_file(&path).unwrap();
        std::fs::remove_file(&moved).unwrap();
    }
}
