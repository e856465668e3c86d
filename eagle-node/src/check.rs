//! `eagle-node check --dir DIR [--json]`: reads the pools of a folder as an opening would, and says what it finds.
//!
//! Nothing is written, and no server may have the folder meanwhile. The exit code is the worst of all pools':
//!
//! | code | a pool |
//! | --- | --- |
//! | 0 | is sound: a server opens it |
//! | 1 | is damaged: a server opens it with `accept-damage yes` at most; or the checkpoint beside it is: a server reads the pool instead |
//! | 2 | cannot be read, or is none; or the folder cannot be used |
//!
//! All of a pool is read, as if there were no checkpoint. One that is there is *sound* if every checksum of it is right, and the pool
//! opened with it and with what came later shows the same keys and values as without.

use std::{fmt::Write as _, fs::File, io, os::unix::fs::FileExt, path::Path, path::PathBuf};

use clap::Parser;
use eagle_pmem::{
    Checkpoint, ExtentKind, Kind, PoolFile, RecoveryReport, SUPERBLOCK_BYTES, Superblock, SuperblockError,
};
use eagle_shard::{
    Digest, ReplayError,
    call::{DbId, UnixMs},
    databases_of,
    shard::{Shard, ShardConfig},
};
use serde::Serialize;

use crate::runtime::{checkpoint_path, pools_in, share_folder};

/// Records that are read between two looks at how far it has come.
const SLICE_RECORDS: usize = 1 << 16;

/// Verifies the pools of a folder without changing them: exit code 0 if all are sound, 1 if one is damaged, 2 if one cannot be read.
#[derive(Parser)]
#[command(name = "eagle-node check")]
struct Arguments {
    /// The folder of the pools.
    #[arg(long)]
    dir: PathBuf,
    /// Prints JSON.
    #[arg(long)]
    json: bool,
}

/// How a pool is, and the exit code that says so.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
enum Condition {
    Sound = 0,
    Damaged = 1,
    Unreadable = 2,
}

/// What was found in a folder.
#[derive(Serialize)]
struct Findings {
    condition: Condition,
    pools: Vec<Pool>,
}

/// What was found in a pool.
#[derive(Serialize)]
struct Pool {
    path: String,
    condition: Condition,
    /// Why it cannot be read or opened.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    #[serde(flatten)]
    contents: Option<Contents>,
}

/// How the checkpoint beside a pool is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
enum CheckpointIs {
    /// There is none.
    None,
    /// A start uses it, and finds what is there.
    Sound,
    /// It is not whole: a start reads the pool instead.
    Damaged,
    /// It is whole, and shows other keys or values than the pool has.
    Wrong,
}

#[derive(Serialize)]
struct Contents {
    generation: u64,
    pool_id: String,
    shard: u16,
    shards: u16,
    extent_bytes: u64,
    pool_bytes: u64,
    /// Copies of the superblock that are not whole.
    superblocks_damaged: u32,
    extents: Extents,
    records: Records,
    keys: u64,
    keys_lost: u64,
    checkpoint: CheckpointIs,
    damage: Vec<Place>,
}

#[derive(Serialize)]
struct Extents {
    all: u64,
    used: u64,
    unsealed: u64,
    freed: u64,
    kinds: Vec<Count>,
}

#[derive(Serialize)]
struct Records {
    all: u64,
    bytes: u64,
    bytes_live: u64,
    bytes_dead: u64,
    bytes_torn: u64,
    kinds: Vec<Count>,
}

/// How many there are of a kind.
#[derive(Serialize)]
struct Count {
    kind: String,
    count: u64,
}

/// Damaged bytes.
#[derive(Serialize)]
struct Place {
    byte: u64,
    bytes: u64,
    extent: u32,
    what: &'static str,
}

/// Runs the subcommand with the words behind its name. Returns what to print, and the exit code.
#[must_use]
pub fn run(arguments: &[String]) -> (String, u8) {
    let words = std::iter::once("eagle-node check").chain(arguments.iter().map(String::as_str));
    let arguments = match Arguments::try_parse_from(words) {
        Ok(arguments) => arguments,
        Err(error) => return (error.to_string(), if error.use_stderr() { 2 } else { 0 }),
    };
    match check(&arguments.dir) {
        Ok(findings) => {
            let text = if arguments.json { to_json(&findings) } else { to_text(&findings) };
            (text, findings.condition as u8)
        }
        Err(sentence) => (format!("{sentence}\n"), Condition::Unreadable as u8),
    }
}

fn check(dir: &Path) -> Result<Findings, String> {
    let _lock = share_folder(dir).map_err(|error| error.to_string())?;
    let found = pools_in(&[dir.to_path_buf()]).map_err(|error| error.to_string())?;
    if found.is_empty() {
        return Err(format!("there are no pools in '{}'", dir.display()));
    }
    let pools: Vec<Pool> = found.iter().map(|(_, path)| check_pool(path)).collect();
    let condition = pools.iter().map(|pool| pool.condition).max().unwrap_or(Condition::Sound);
    Ok(Findings { condition, pools })
}

fn check_pool(path: &Path) -> Pool {
    let name = path.display().to_string();
    match contents(path) {
        Ok((contents, None)) => {
            let is_usable = matches!(contents.checkpoint, CheckpointIs::None | CheckpointIs::Sound);
            let is_sound = contents.damage.is_empty() && contents.superblocks_damaged == 0 && is_usable;
            let condition = if is_sound { Condition::Sound } else { Condition::Damaged };
            Pool { path: name, condition, error: None, contents: Some(contents) }
        }
        Ok((contents, Some(error))) => {
            Pool { path: name, condition: Condition::Damaged, error: Some(error.to_string()), contents: Some(contents) }
        }
        Err(error) => Pool { path: name, condition: Condition::Unreadable, error: Some(error), contents: None },
    }
}

/// What a pool holds, and why it cannot be opened even if damage is accepted.
fn contents(path: &Path) -> Result<(Contents, Option<ReplayError>), String> {
    let superblocks_damaged = superblocks_damaged(path).map_err(|error| format!("cannot be read: {error}"))?;
    let pool = PoolFile::open_to_read(path).map_err(|error| error.to_string())?;
    let (superblock, pool_bytes) = (*pool.superblock(), pool.bytes());
    let config = ShardConfig { databases: u8::MAX, ..ShardConfig::default() };
    let mut shard = Shard::with_pool(&config, pool, None, true).map_err(|error| error.to_string())?;
    let error = load(&mut shard).err();
    let checkpoint = check_checkpoint(path, &shard)?;
    let (report, live) = (shard.recovery(), shard.usage().log_live_bytes);
    let contents = Contents {
        generation: superblock.generation,
        pool_id: format!("{:016x}", superblock.pool_id),
        shard: superblock.shard,
        shards: superblock.shards,
        extent_bytes: superblock.extent_bytes as u64,
        pool_bytes,
        superblocks_damaged,
        extents: extents(report),
        records: Records {
            all: report.records,
            bytes: report.bytes,
            bytes_live: live,
            bytes_dead: report.bytes.saturating_sub(live),
            bytes_torn: report.torn_bytes,
            kinds: counts(&report.kinds, |number| Kind::from_byte(number).map(|kind| format!("{kind:?}"))),
        },
        keys: shard.usage().keys as u64,
        keys_lost: shard.keys_lost(),
        checkpoint,
        damage: places(report),
    };
    Ok((contents, error))
}

fn load(shard: &mut Shard) -> Result<(), ReplayError> {
    while shard.loading().is_some_and(|loading| loading.bytes_done < loading.bytes_total) {
        shard.load(UnixMs(0), SLICE_RECORDS)?;
    }
    shard.load(UnixMs(0), 1)
}

/// How the checkpoint beside a pool is that was read without it.
fn check_checkpoint(path: &Path, without: &Shard) -> Result<CheckpointIs, String> {
    let place = checkpoint_path(path);
    if !place.exists() {
        return Ok(CheckpointIs::None);
    }
    let pool = PoolFile::open_to_read(path).map_err(|error| error.to_string())?;
    let opened = Checkpoint::open(&place, pool.superblock().pool_id).map_err(|error| error.to_string())?;
    let Some(checkpoint) = opened else { return Ok(CheckpointIs::Damaged) };
    // It says of how many databases it is.
    let config = ShardConfig { databases: databases_of(&checkpoint).unwrap_or(u8::MAX), ..ShardConfig::default() };
    let mut with = Shard::with_pool(&config, pool, Some(&checkpoint), true).map_err(|error| error.to_string())?;
    if !with.took_checkpoint() {
        return Ok(CheckpointIs::Damaged);
    }
    let digest = |shard: &Shard| {
        let databases = (0..config.databases).map(DbId).filter(|db| shard.len(*db) > 0);
        Digest::of_databases(databases.map(|db| (db, shard.digest(db, UnixMs(0)))))
    };
    let is_same = load(&mut with).is_ok() && with.usage().keys == without.usage().keys;
    Ok(if is_same && digest(&with) == digest(without) { CheckpointIs::Sound } else { CheckpointIs::Wrong })
}

/// How many copies of the superblock are neither whole nor blank.
fn superblocks_damaged(path: &Path) -> io::Result<u32> {
    let file = File::open(path)?;
    let mut damaged = 0;
    for copy in 0..2 {
        let mut bytes = [0; SUPERBLOCK_BYTES];
        file.read_exact_at(&mut bytes, copy * SUPERBLOCK_BYTES as u64)?;
        damaged += u32::from(!matches!(Superblock::parse(&bytes), Ok(_) | Err(SuperblockError::Blank)));
    }
    Ok(damaged)
}

fn extents(report: &RecoveryReport) -> Extents {
    let kind = |number| ExtentKind::from_byte(number).map(|kind| format!("{kind:?}"));
    Extents {
        all: report.extents_all,
        used: report.extents,
        unsealed: report.extents_unsealed,
        freed: report.extents_freed,
        kinds: counts(&report.extent_kinds, kind),
    }
}

fn counts(numbers: &[u64], name: impl Fn(u8) -> Option<String>) -> Vec<Count> {
    let named = (0..=u8::MAX).zip(numbers).filter(|(_, count)| **count > 0);
    named.filter_map(|(number, count)| Some(Count { kind: name(number)?.to_lowercase(), count: *count })).collect()
}

fn places(report: &RecoveryReport) -> Vec<Place> {
    let place = |damage: &eagle_pmem::Damage| {
        let range = damage.range(u64::MAX);
        Place { byte: range.start, bytes: range.end - range.start, extent: damage.extent, what: damage.what.name() }
    };
    report.damage.iter().map(place).collect()
}

fn to_json(findings: &Findings) -> String {
    let text = serde_json::to_string_pretty(findings).expect("numbers and strings are JSON");
    format!("{text}\n")
}

fn to_text(findings: &Findings) -> String {
    let mut text = String::new();
    for pool in &findings.pools {
        let condition = format!("{:?}", pool.condition).to_lowercase();
        let _ = writeln!(text, "{}: {condition}", pool.path);
        if let Some(error) = &pool.error {
            let _ = writeln!(text, "  {error}");
        }
        if let Some(contents) = &pool.contents {
            write_contents(contents, &mut text);
        }
    }
    text
}

fn write_contents(contents: &Contents, text: &mut String) {
    let Contents { extents, records, .. } = contents;
    let listed = |counts: &[Count]| {
        let words: Vec<String> = counts.iter().map(|count| format!("{} {}", count.count, count.kind)).collect();
        if words.is_empty() { "none".to_owned() } else { words.join(", ") }
    };
    let _ = writeln!(
        text,
        "  superblock: generation {}, pool {}, shard {} of {}, {} bytes in extents of {}; {} of 2 copies damaged",
        contents.generation,
        contents.pool_id,
        contents.shard,
        contents.shards,
        contents.pool_bytes,
        contents.extent_bytes,
        contents.superblocks_damaged
    );
    let _ = writeln!(
        text,
        "  extents: {} of {} in use ({}), {} without a seal, {} freed",
        extents.used,
        extents.all,
        listed(&extents.kinds),
        extents.unsealed,
        extents.freed
    );
    let _ = writeln!(
        text,
        "  records: {} ({}); bytes: {} live, {} dead, {} torn",
        records.all,
        listed(&records.kinds),
        records.bytes_live,
        records.bytes_dead,
        records.bytes_torn
    );
    let _ = writeln!(text, "  keys: {}, and {} lost", contents.keys, contents.keys_lost);
    let _ = writeln!(text, "  checkpoint: {}", format!("{:?}", contents.checkpoint).to_lowercase());
    for place in &contents.damage {
        let _ = writeln!(
            text,
            "  damage at byte {:#x}: {} bytes of extent {}: {}",
            place.byte, place.bytes, place.extent, place.what
        );
    }
}
