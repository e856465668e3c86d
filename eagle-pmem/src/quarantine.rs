//! The quarantine: what was damaged in a pool, kept beside it before the pool is mended by leaving it out.
//!
//! A file `shard-NN.quarantine-<unix seconds>` of lines of JSON. The first says of which pool it is, each other is a range of bytes:
//!
//! ```text
//! {"eagle_quarantine":1,"pool":"shard-00.pool","pool_id":7,"extent_bytes":8388608}
//! {"byte":16789504,"len":88,"extent":2,"what":"records","base64":"..."}
//! ```
//!
//! It is synced, its name too, before the log changes anything. Ranges are at most an extent each; a range of several is several lines.

use crate::log::{Damage, Log};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize};
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};

/// The version of the format.
const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
struct Head {
    eagle_quarantine: u32,
    pool: String,
    pool_id: u64,
    extent_bytes: u64,
}

#[derive(Serialize, Deserialize)]
struct Line {
    byte: u64,
    len: u64,
    extent: u32,
    what: String,
    base64: String,
}

/// A range of a pool's bytes out of a quarantine.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Quarantined {
    /// Where in the pool they lay, in bytes.
    pub byte: u64,
    /// What they were to be.
    pub what: String,
    /// They.
    pub bytes: Vec<u8>,
}

impl Log {
    /// Copies what is damaged to a file beside the pool's own, durably: its path, and how many bytes they are. `None` for a log that
    /// has no file, or one that is only read.
    ///
    /// # Errors
    /// The system refuses.
    pub fn quarantine(&self, damage: &[Damage], unix_seconds: u64) -> io::Result<Option<(PathBuf, u64)>> {
        let Some(pool) = self.file().filter(|pool| pool.may_write()) else {
            return Ok(None);
        };
        let (path, file) = create_beside(pool.path(), unix_seconds)?;
        let mut out = BufWriter::new(file);
        let name = pool.path().file_name().unwrap_or_default().to_string_lossy().into_owned();
        let superblock = pool.superblock();
        let extent_bytes = superblock.extent_bytes as u64;
        let head = Head { eagle_quarantine: VERSION, pool: name, pool_id: superblock.pool_id, extent_bytes };
        writeln!(out, "{}", serde_json::to_string(&head)?)?;
        let mut total = 0;
        for damage in damage {
            let range = damage.range(self.medium_bytes());
            for byte in range.clone().step_by(superblock.extent_bytes) {
                let piece = byte..range.end.min(byte + extent_bytes);
                let len = piece.end - piece.start;
                let base64 = STANDARD.encode(self.bytes(piece));
                let line = Line { byte, len, extent: damage.extent, what: damage.what.name().to_owned(), base64 };
                writeln!(out, "{}", serde_json::to_string(&line)?)?;
                total += len;
            }
        }
        out.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
        crate::pool::sync_folder_of(&path)?;
        Ok(Some((path, total)))
    }
}

/// A new file, of this second's name or the next one's that is free.
fn create_beside(pool: &Path, unix_seconds: u64) -> io::Result<(PathBuf, File)> {
    let mut seconds = unix_seconds;
    loop {
        let path = pool.with_extension(format!("quarantine-{seconds}"));
        match OpenOptions::new().write(true).create_new(true).open(&path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => seconds += 1,
            Err(error) => return Err(error),
            Ok(file) => return Ok((path, file)),
        }
    }
}

/// Reads a quarantine.
///
/// # Errors
/// It cannot be read, or is none.
pub fn read_quarantine(path: &Path) -> io::Result<Vec<Quarantined>> {
    let mut lines = BufReader::new(File::open(path)?).lines();
    let invalid = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
    let head: Head = serde_json::from_str(&lines.next().ok_or_else(|| invalid("an empty quarantine"))??)?;
    if head.eagle_quarantine != VERSION {
        return Err(invalid("another version of the format"));
    }
    lines
        .map(|line| {
            let line: Line = serde_json::from_str(&line?)?;
            let bytes = STANDARD.decode(line.base64).map_err(|error| invalid(&error.to_string()))?;
            Ok(Quarantined { byte: line.byte, what: line.what, bytes })
        })
        .collect()
}
