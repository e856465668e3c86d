//! The log is lines of text on standard output or in a file, from a level on that can be changed while serving.
//!
//! Levels have Redis' names; `notice` is what an operator wants to know. Nothing that a client sent (keys, values,
//! passwords) is logged. The level belongs to the process, as its standard output does.

use std::{
    fmt,
    fs::{File, OpenOptions},
    io,
    sync::{Mutex, OnceLock},
};

use tracing_subscriber::{Registry, filter::LevelFilter, fmt::writer::BoxMakeWriter, prelude::*, reload};

use crate::config::{Config, LogLevel};

/// Set once, by [`start`].
static LEVEL: OnceLock<reload::Handle<LevelFilter, Registry>> = OnceLock::new();

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
    let (filter, handle) = reload::Layer::new(level(config.loglevel));
    let lines = tracing_subscriber::fmt::layer().with_ansi(false).with_target(false).with_writer(writer(config)?);
    let subscriber = tracing_subscriber::registry().with(filter).with(lines);
    tracing::subscriber::set_global_default(subscriber).map_err(|_| LogError::Started)?;
    LEVEL.set(handle).map_err(|_| LogError::Started)
}

/// Logs from another level on. Without effect before [`start`], as in a simulation.
pub fn set_level(level_now: LogLevel) {
    if let Some(handle) = LEVEL.get() {
        // Fails only if the subscriber is gone, and then nothing is logged at all.
        let _ = handle.modify(|filter| *filter = level(level_now));
    }
}

fn writer(config: &Config) -> Result<BoxMakeWriter, LogError> {
    if config.logfile.is_empty() {
        return Ok(BoxMakeWriter::new(io::stdout));
    }
    let file: File = OpenOptions::new()
        .create(true)
        .append(true)
        .open(&config.logfile)
        .map_err(|error| LogError::File(config.logfile.clone(), error))?;
    Ok(BoxMakeWriter::new(Mutex::new(file)))
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
        // Below the level nothing is written; changed while running, everything is. A second log is refused.
        let path = std::env::temp_dir().join(format!("eagle-log-{}", std::process::id()));
        let config = Config { logfile: path.to_string_lossy().into_owned(), ..Config::default() };
        start(&config).unwrap();
        tracing::debug!("one");
        tracing::info!("two");
        set_level(LogLevel::Verbose);
        tracing::debug!("three");
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert!(!text.contains("one") && text.contains("two") && text.contains("three"), "{text}");
        assert!(matches!(start(&config), Err(LogError::Started)));
        let nowhere = Config { logfile: "/nowhere/eagle.log".to_owned(), ..Config::default() };
        assert!(start(&nowhere).unwrap_err().to_string().starts_with("cannot write the log file '/nowhere/eagle.log'"));
    }
}
