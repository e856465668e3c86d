//! Dealing keys out anew: pools of one number of shards become pools of another, before the node serves.
//!
//! ```text
//!  shard-NN.pool ──▶ shard-NN.pool.dealt, written and synced ──▶ eagle.dealt ──▶ old pools removed, new ones renamed ──▶ it is removed
//!  └─ until here the old pools are what counts ─────────────┘   └─ from here on the new ones are ────────────────────────────────┘
//! ```
//!
//! Whatever ends the process on the way, the next start does one of two things: without the mark it removes what was dealt and
//! begins again, with it it goes on renaming. So there is never a moment without whole pools of one kind.
//!
//! All of this is done on the main thread and waits for the disk: nobody is served before it is over. It takes the time of
//! reading all and writing all once, and as much space again as the data.

use std::{
    fs::{self, File},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use eagle_pmem::{Checkpoint, PoolFile, Superblock};
use eagle_shard::{
    ExportCursor, Exported,
    call::{DbId, UnixMs},
    shard::{Shard, ShardConfig},
};

use super::{
    pools::{checkpoint_path, file_error, pool_error},
    preflight::StartError,
};

/// There once the new pools are whole.
const DEALT: &str = "eagle.dealt";
/// What the names of new pools end in until they are in their places.
const SUFFIX: &str = "dealt";
/// Bytes written to a new pool between two syncs, so that the last one is short.
const SYNC_BYTES: u64 = 64 << 20;
/// Keys between two commits of the new pools.
const COMMIT_KEYS: usize = 4096;
/// Records read between two looks at the clock.
const LOAD_RECORDS: usize = 100_000;

/// What is to be dealt out, and to whom.
pub(super) struct Deal<'a> {
    /// The folder that has the mark.
    pub(super) dir: &'a Path,
    /// The pools there are, in the order of their shards.
    pub(super) from: Vec<PathBuf>,
    /// Where the new ones go, in that order.
    pub(super) to: Vec<PathBuf>,
    /// What the new pools' superblocks say, but for the shards.
    pub(super) superblock: Superblock,
    /// How shards are made, but for what the pools say.
    pub(super) config: ShardConfig,
    /// Whether damage of the pools there are is accepted.
    pub(super) accept_damage: bool,
}

/// A new pool and its shard.
struct Dealt {
    shard: Shard,
    file: File,
    unsynced: u64,
}

/// Ends what a process that died has left: goes on if the new pools were whole, else removes them. `pools` are all that were found, and
/// those on their way.
///
/// # Errors
/// A file cannot be renamed or removed.
pub(super) fn end_interrupted(dir: &Path, folders: &[PathBuf]) -> Result<(), StartError> {
    let mark = dir.join(DEALT);
    let Ok(text) = fs::read_to_string(&mark) else {
        for folder in folders {
            for path in dealt_in(folder)? {
                fs::remove_file(&path).map_err(|error| file_error(&path, &error))?;
            }
        }
        return Ok(());
    };
    tracing::warn!("Keys were being dealt out anew when that process ended: the new pools are whole and take over");
    take_over(dir, text.lines().map(PathBuf::from).collect())
}

impl Deal<'_> {
    /// Deals all keys out.
    ///
    /// # Errors
    /// A pool cannot be read or written; then those there were are as they were.
    pub(super) fn run(self) -> Result<(), StartError> {
        let begun = Instant::now();
        let (from, to) = (self.from.len(), self.to.len());
        tracing::warn!("Dealing the keys of {from} shards out to {to}: nobody is served before that is done");
        let mut dealt =
            (0..).zip(&self.to).map(|(shard, path)| self.begin(shard, path)).collect::<Result<Vec<_>, _>>()?;
        let mut keys = 0;
        for path in &self.from {
            keys += self.deal(path, &mut dealt)?;
            tracing::info!("{keys} keys are dealt out, {} of {from} pools read", path.display());
        }
        for (dealt, path) in dealt.iter_mut().zip(&self.to) {
            dealt.end().map_err(|error| file_error(&on_the_way(path), &error))?;
        }
        drop(dealt);
        let text: String = self.from.iter().map(|path| format!("-{}\n", path.display())).collect();
        let text = text + &self.to.iter().map(|path| format!("+{}\n", path.display())).collect::<String>();
        write_mark(self.dir, &text)?;
        take_over(self.dir, text.lines().map(PathBuf::from).collect())?;
        tracing::warn!("{keys} keys are dealt out to {to} shards, in {:.1} s", begun.elapsed().as_secs_f64());
        Ok(())
    }

    fn begin(&self, shard: u16, path: &Path) -> Result<Dealt, StartError> {
        let shards = u16::try_from(self.to.len()).expect("fewer shards than that are configured");
        let pool_id = self.superblock.pool_id.wrapping_add(u64::from(shard));
        let superblock = Superblock { shard, shards, pool_id, generation: 0, ..self.superblock };
        let path = on_the_way(path);
        let pool = PoolFile::create(&path, &superblock).map_err(|error| pool_error(&path, &error))?;
        let config = ShardConfig { index: shard, count: shards, ..self.config.clone() };
        let shard = Shard::with_pool(&config, pool, None, true).map_err(|error| pool_error(&path, &error))?;
        let file = File::options().write(true).open(&path).map_err(|error| file_error(&path, &error))?;
        let mut dealt = Dealt { shard, file, unsynced: 0 };
        dealt.open().map_err(|error| file_error(&path, &error))?;
        Ok(dealt)
    }

    /// Deals the keys of one pool out. Returns how many.
    fn deal(&self, path: &Path, dealt: &mut [Dealt]) -> Result<usize, StartError> {
        let pool = PoolFile::open(path).map_err(|error| pool_error(path, &error))?;
        let checkpoint = checkpoint_path(path);
        let checkpoint =
            Checkpoint::open(&checkpoint, pool.superblock().pool_id).map_err(|error| pool_error(path, &error))?;
        let now = now();
        let mut shard = Shard::with_pool(&self.config, pool, checkpoint.as_ref(), self.accept_damage)
            .map_err(|error| pool_error(path, &error))?;
        while shard.loading().is_some_and(|loading| loading.bytes_done < loading.bytes_total) {
            shard.load(now, LOAD_RECORDS).map_err(|error| pool_error(path, &error))?;
        }
        shard.load(now, LOAD_RECORDS).map_err(|error| pool_error(path, &error))?;
        let mut keys = 0;
        for db in (0..self.config.databases).map(DbId) {
            shard.try_for_each_key(db, |key, found| {
                let to = usize::from(shard.key(key).hashed.slot.get()) % dealt.len();
                let target = &mut dealt[to].shard;
                let mut next = Some(ExportCursor::START);
                while let Some(cursor) = next {
                    let exported = shard.export(found, cursor);
                    next = Exported::next_slice(exported.as_bytes());
                    let key = target.key(key);
                    target.import(db, key, &exported, true, now).map_err(|_| no_room(&self.to[to]))?;
                }
                keys += 1;
                if keys % COMMIT_KEYS == 0 { commit_all(dealt, &self.to) } else { Ok(()) }
            })?;
        }
        commit_all(dealt, &self.to)?;
        Ok(keys)
    }
}

fn no_room(path: &Path) -> StartError {
    StartError::Pools(format!(
        "'{}' has no room for all the keys that it is to get: raise pool-size-max or free space.",
        path.display()
    ))
}

fn commit_all(dealt: &mut [Dealt], paths: &[PathBuf]) -> Result<(), StartError> {
    for (dealt, path) in dealt.iter_mut().zip(paths) {
        dealt.commit().map_err(|error| file_error(&on_the_way(path), &error))?;
    }
    Ok(())
}

impl Dealt {
    /// Comes to serve, as a core does: loaded, committed, synced.
    fn open(&mut self) -> std::io::Result<()> {
        while self.shard.loading().is_some() {
            self.shard.load(now(), LOAD_RECORDS).expect("a pool just made is whole");
            self.commit()?;
            self.sync()?;
        }
        Ok(())
    }

    fn commit(&mut self) -> std::io::Result<()> {
        while !self.write()? {
            self.sync()?;
        }
        Ok(())
    }

    /// Writes what may be written before a sync, and returns whether that is all.
    fn write(&mut self) -> std::io::Result<bool> {
        let commit = self.shard.commit();
        let (position, ranges) = (commit.position, commit.ranges.to_vec());
        let is_all = position == self.shard.position();
        for range in ranges {
            let start = range.start;
            self.unsynced += range.end - start;
            self.file.write_all_at(self.shard.pool_bytes(range), start)?;
        }
        self.shard.written(position);
        if self.unsynced >= SYNC_BYTES {
            self.sync()?;
        }
        Ok(is_all)
    }

    fn sync(&mut self) -> std::io::Result<()> {
        let mark = self.shard.begin_sync();
        self.file.sync_data()?;
        self.shard.end_sync(mark);
        self.unsynced = 0;
        Ok(())
    }

    fn end(&mut self) -> std::io::Result<()> {
        self.shard.prepare_to_end();
        self.commit()?;
        self.sync()
    }
}

/// Removes the old pools and puts the new ones in their places: the lines of the mark, `-` old and `+` new. Can be done again.
fn take_over(dir: &Path, lines: Vec<PathBuf>) -> Result<(), StartError> {
    let lines: Vec<String> = lines.into_iter().map(|line| line.to_string_lossy().into_owned()).collect();
    for path in lines.iter().filter_map(|line| line.strip_prefix('+')).map(Path::new) {
        let from = on_the_way(path);
        if from.exists() {
            remove(&checkpoint_path(path))?;
            fs::rename(&from, path).map_err(|error| file_error(path, &error))?;
            sync_folder(path)?;
        }
    }
    let new: Vec<&str> = lines.iter().filter_map(|line| line.strip_prefix('+')).collect();
    for path in lines.iter().filter_map(|line| line.strip_prefix('-')).filter(|path| !new.contains(path)) {
        remove(&checkpoint_path(Path::new(path)))?;
        remove(Path::new(path))?;
        sync_folder(Path::new(path))?;
    }
    remove(&dir.join(DEALT))?;
    sync_folder(&dir.join(DEALT))
}

fn write_mark(dir: &Path, text: &str) -> Result<(), StartError> {
    let (path, unfinished) = (dir.join(DEALT), dir.join(DEALT).with_extension("new"));
    fs::write(&unfinished, text)
        .and_then(|()| File::open(&unfinished)?.sync_all())
        .and_then(|()| fs::rename(&unfinished, &path))
        .map_err(|error| file_error(&path, &error))?;
    sync_folder(&path)
}

fn remove(path: &Path) -> Result<(), StartError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(file_error(path, &error)),
        _ => Ok(()),
    }
}

fn sync_folder(path: &Path) -> Result<(), StartError> {
    let folder = path.parent().unwrap_or(Path::new("."));
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(|error| file_error(folder, &error))
}

/// The name of a new pool until it is in its place.
fn on_the_way(path: &Path) -> PathBuf {
    path.with_extension(SUFFIX)
}

fn dealt_in(folder: &Path) -> Result<Vec<PathBuf>, StartError> {
    let entries = fs::read_dir(folder).map_err(|error| file_error(folder, &error))?;
    let paths = entries.map(|entry| entry.map(|entry| entry.path())).collect::<Result<Vec<_>, _>>();
    let paths = paths.map_err(|error| file_error(folder, &error))?;
    let is_dealt = |path: &PathBuf| path.extension().is_some_and(|extension| extension == SUFFIX);
    let is_pool = |path: &PathBuf| path.file_stem().is_some_and(|stem| stem.to_string_lossy().starts_with("shard-"));
    Ok(paths.into_iter().filter(|path| is_dealt(path) && is_pool(path)).collect())
}

fn now() -> UnixMs {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    UnixMs(since.as_millis() as u64)
}
