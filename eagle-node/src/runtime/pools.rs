//! The pools of a node: a file a shard, in the node's folder or in others ([`super::folders`]), each of which one process has
//! at a time.
//!
//! ```text
//!  DIR/eagle.lock       held (flock) by the process that serves from DIR; its text is that process' id. In each folder
//!  DIR/shard-00.pool    what shard 0 keeps, and so on up to the last one
//!  DIR/shard-00.checkpoint   beside it, its index as of some moment: spares the next start the reading of what came before; with
//!                       '.new' behind it, one that was not finished
//!  DIR/eagle.dealt      while keys are dealt out to another number of shards ([`super::reshard`])
//!  DIR/eagle.creating   there, in the node's folder, while pools are made for the first time: those that it names were never
//!                       used. Paths, each ended by a zero byte
//! ```
//!
//! All pools of a node say in their superblocks how many shards it has and with which seed keys are hashed; they are opened
//! only if they agree with each other, with their names and with the number of shards that is asked for.

use std::{
    ffi::OsString,
    fs::{self, File, TryLockError},
    io::{self, Read, Write as _},
    os::unix::ffi::{OsStrExt, OsStringExt},
    path::{Path, PathBuf},
    time::Instant,
};

use eagle_pmem::{Checkpoint, CheckpointWriter, MapMode, PoolError, PoolFile, SlotMap, Superblock};
use eagle_shard::shard::{Shard, ShardConfig};

use super::{
    folders::{self, Folder},
    preflight::StartError,
    reshard::{self, Deal},
};
use crate::config::{Config, PoolMode};

const LOCK: &str = "eagle.lock";
const CREATING: &str = "eagle.creating";

/// The pools of a node, and the locks on their folders.
#[derive(Debug)]
pub(super) struct Pools {
    dir: PathBuf,
    /// All folders that pools may lie in.
    dirs: Vec<PathBuf>,
    /// Held as long as they are open.
    _locks: Vec<File>,
    /// Where new ones may be made.
    folders: Vec<Folder>,
    /// Whether they are to be on persistent memory.
    wants_dax: bool,
    /// Those there are, by their shards' numbers, in order.
    found: Vec<(u16, PathBuf)>,
}

/// A shard's pool.
pub(super) struct Pool {
    /// The pool.
    pub(super) file: PoolFile,
    /// The same file, opened again.
    pub(super) growth_file: File,
}

impl Pool {
    /// Opens a shard over the pool, with the checkpoint beside it if there is one that fits. One that does not is removed: it would
    /// not fit what is written from now on.
    ///
    /// # Errors
    /// The shard cannot be made, or the checkpoint can be neither used nor removed.
    pub(super) fn into_shard(self, config: &ShardConfig, accept_damage: bool) -> Result<(Shard, File), PoolError> {
        let path = checkpoint_path(self.file.path());
        let checkpoint = Checkpoint::open(&path, self.file.superblock().pool_id)?;
        let shard = Shard::with_pool(config, self.file, checkpoint.as_ref(), accept_damage)?;
        drop(checkpoint);
        if !shard.took_checkpoint() {
            if path.exists() {
                tracing::warn!(
                    "{} is damaged, or does not fit: it is removed, and the whole pool is read",
                    path.display()
                );
            }
            Checkpoint::remove(&path)?;
        }
        Ok((shard, self.growth_file))
    }
}

/// Writes a checkpoint of a shard that has ended in order, all of it being durable; without a pool there is nothing to do. Without
/// one the next start takes longer, and that is all.
pub(super) fn write_checkpoint(shard: &Shard) {
    let Some(pool) = shard.pool_file().filter(|_| shard.can_checkpoint()) else {
        return;
    };
    let begun = Instant::now();
    let path = checkpoint_path(pool.path());
    let written = CheckpointWriter::create(&path, pool.superblock().pool_id).and_then(|mut writer| {
        shard.write_checkpoint(&mut writer)?;
        writer.finish()
    });
    match written {
        Ok(()) => tracing::info!("Wrote {} in {} ms", path.display(), begun.elapsed().as_millis()),
        Err(error) => tracing::warn!("No checkpoint, so the next start reads the whole pool: {error}"),
    }
}

/// Where the checkpoint of the pool at this path lies.
pub(crate) fn checkpoint_path(pool: &Path) -> PathBuf {
    pool.with_extension("checkpoint")
}

/// What new pools are made with.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fresh {
    /// Seed of the hashes of keys.
    pub(super) hash_seed: u64,
    /// Told apart from others by this, each by its own.
    pub(super) pool_id: u64,
    /// Size of an extent.
    pub(super) extent_bytes: usize,
}

impl Pools {
    /// Takes the configured folders for this process; none if there are to be no pools.
    ///
    /// # Errors
    /// Another process has one, one cannot be used, or what is asked for is not to be had there.
    pub(super) fn take(config: &Config) -> Result<Option<Self>, StartError> {
        let dir = PathBuf::from(&config.dir);
        let dirs = all_dirs(config)?;
        if config.pool == PoolMode::None {
            if let Some((_, path)) = found_in(&dirs)?.first() {
                tracing::warn!(
                    "There are pools in this folder ({}, ...): with 'pool none' they are neither read nor written",
                    path.display()
                );
            }
            return Ok(None);
        }
        let locks = dirs.iter().map(|dir| lock(dir)).collect::<Result<_, _>>()?;
        let creating = dir.join(CREATING);
        if creating.exists() {
            tracing::warn!("Pools were being made in {} when that process ended: they are made anew", dir.display());
            let names = fs::read(&creating).map_err(|error| file_error(&creating, &error))?;
            for name in names.split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
                let path = PathBuf::from(OsString::from_vec(name.to_vec()));
                match fs::remove_file(&path) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(file_error(&path, &error)),
                    _ => {}
                }
            }
        }
        reshard::end_interrupted(&dir, &dirs)?;
        let (folders, wants_dax) = (folders::configured(config), config.pool == PoolMode::Dax);
        let found = found_in(&dirs)?;
        Ok(Some(Self { dir, dirs, _locks: locks, folders, wants_dax, found }))
    }

    /// How many shards the node gets by its pools: as many as are asked for (0: any), else as they are of; `None` if there are no
    /// pools.
    ///
    /// # Errors
    /// The pools cannot be read.
    pub(super) fn shards(&self, asked: u16) -> Result<Option<u16>, StartError> {
        let Some((_, first)) = self.found.first() else {
            return Ok(None);
        };
        let shards = open(first)?.superblock().shards;
        Ok(Some(if asked == 0 { shards } else { asked }))
    }

    /// Deals the keys out anew if the pools are of another number of shards than cores run on these NUMA nodes. `config` is that
    /// of a shard of the node.
    ///
    /// # Errors
    /// Pools are missing, or cannot be read or written; then those there were are as they were.
    pub(super) fn deal_out(
        &mut self,
        nodes: &[Option<usize>],
        fresh: Fresh,
        config: &ShardConfig,
        accept_damage: bool,
    ) -> Result<(), StartError> {
        let Some((_, first)) = self.found.first() else {
            return Ok(());
        };
        let superblock = *open(first)?.superblock();
        if usize::from(superblock.shards) == nodes.len() {
            return Ok(());
        }
        // Opened as they are, they are found to belong together.
        self.open(&vec![None; superblock.shards.into()], fresh)?;
        let to = (0..).zip(folders::choose(nodes, &self.folders));
        let to = to.map(|(shard, (folder, _))| self.folders[folder].dir.join(name(shard))).collect();
        let from = self.found.iter().map(|(_, path)| path.clone()).collect();
        let superblock = Superblock { pool_id: fresh.pool_id, boot_id: boot_id(), checkpoint: 0, ..superblock };
        let config = ShardConfig { map: MapMode::File, ..config.clone() };
        Deal { dir: &self.dir, from, to, superblock, config, accept_damage }.run()?;
        self.found = found_in(&self.dirs)?;
        Ok(())
    }

    /// Opens the pools of the shards whose cores run on these NUMA nodes, or makes them.
    ///
    /// # Errors
    /// They cannot be made or read, or do not belong together.
    pub(super) fn open(&self, nodes: &[Option<usize>], fresh: Fresh) -> Result<Vec<Pool>, StartError> {
        if self.found.is_empty() {
            return self.create(nodes, fresh);
        }
        let shards = u16::try_from(nodes.len()).unwrap_or(u16::MAX);
        let mut pools: Vec<Pool> = Vec::new();
        for shard in 0..shards {
            let Some((_, path)) = self.found.iter().find(|(number, _)| *number == shard) else {
                return Err(StartError::Pools(format!(
                    "'{}' is missing, of the pools of {shards} shards: put it back, or move the others away to begin \
                     with nothing.",
                    self.folders[0].dir.join(name(shard)).display()
                )));
            };
            let file = open(path)?;
            let superblock = file.superblock();
            let first = pools.first().map_or(superblock, |pool| pool.file.superblock());
            let differs = |what: &str, found: String, wanted: String| {
                Err(StartError::Pools(format!(
                    "'{}' is of {what} {found} and not {wanted}: it does not belong to the other pools of this folder.",
                    path.display()
                )))
            };
            if superblock.shard != shard {
                return differs("shard", superblock.shard.to_string(), shard.to_string());
            }
            if superblock.shards != shards {
                return differs("a node with shards", superblock.shards.to_string(), shards.to_string());
            }
            if superblock.hash_seed != first.hash_seed {
                return differs("seed", format!("{:#x}", superblock.hash_seed), format!("{:#x}", first.hash_seed));
            }
            pools.push(Pool { file, growth_file: reopen(path)? });
        }
        if self.found.len() > usize::from(shards) {
            return Err(StartError::Pools(format!(
                "There are {} pools in '{}', but they say that they are of {shards} shards: move away what does not belong \
                 there.",
                self.found.len(),
                self.dir.display()
            )));
        }
        Ok(pools)
    }

    fn create(&self, nodes: &[Option<usize>], fresh: Fresh) -> Result<Vec<Pool>, StartError> {
        let shards = u16::try_from(nodes.len()).unwrap_or(u16::MAX);
        let chosen = folders::choose(nodes, &self.folders);
        let paths: Vec<PathBuf> =
            (0..shards).zip(chosen).map(|(shard, (folder, _))| self.folders[folder].dir.join(name(shard))).collect();
        if self.wants_dax {
            paths.iter().try_for_each(|path| check_dax(path.parent().unwrap_or(Path::new("."))))?;
        }
        let creating = self.dir.join(CREATING);
        let sync_dir = || File::open(&self.dir).and_then(|dir| dir.sync_all());
        let names: Vec<u8> = paths.iter().flat_map(|path| [path.as_os_str().as_bytes(), b"\0"].concat()).collect();
        File::create(&creating)
            .and_then(|mut file| file.write_all(&names).and_then(|()| file.sync_all()))
            .and_then(|()| sync_dir())
            .map_err(|error| file_error(&creating, &error))?;
        let boot_id = boot_id();
        let mut pools = Vec::new();
        for (shard, path) in (0..shards).zip(paths) {
            let superblock = Superblock {
                generation: 0,
                pool_id: fresh.pool_id.wrapping_add(u64::from(shard)),
                shard,
                shards,
                slot_map: SlotMap::Modulo,
                extent_bytes: fresh.extent_bytes,
                hash_seed: fresh.hash_seed,
                boot_id,
                checkpoint: 0,
            };
            let file = PoolFile::create(&path, &superblock).map_err(|error| pool_error(&path, &error))?;
            pools.push(Pool { file, growth_file: reopen(&path)? });
        }
        fs::remove_file(&creating).and_then(|()| sync_dir()).map_err(|error| file_error(&creating, &error))?;
        Ok(pools)
    }
}

pub(super) fn name(shard: u16) -> String {
    format!("shard-{shard:02}.pool")
}

/// The node's folder and those that its pools may lie in, each once.
fn all_dirs(config: &Config) -> Result<Vec<PathBuf>, StartError> {
    let mut dirs: Vec<PathBuf> = Vec::new();
    for dir in std::iter::once(PathBuf::from(&config.dir))
        .chain(folders::configured(config).into_iter().map(|folder| folder.dir))
    {
        let dir = fs::canonicalize(&dir).map_err(|error| file_error(&dir, &error))?;
        if !dirs.contains(&dir) {
            dirs.push(dir);
        }
    }
    Ok(dirs)
}

/// The pools that a node finds, by their shards' numbers, in order.
///
/// # Errors
/// A folder cannot be read, or two have a pool of one shard.
pub(super) fn find(config: &Config) -> Result<Vec<(u16, PathBuf)>, StartError> {
    found_in(&all_dirs(config)?)
}

/// The pools in these folders, by their shards' numbers, in order.
///
/// # Errors
/// As [`find`].
pub(crate) fn found_in(dirs: &[PathBuf]) -> Result<Vec<(u16, PathBuf)>, StartError> {
    let mut found: Vec<(u16, PathBuf)> = Vec::new();
    for dir in dirs {
        for entry in fs::read_dir(dir).map_err(|error| file_error(dir, &error))? {
            let path = entry.map_err(|error| file_error(dir, &error))?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let number = name.strip_prefix("shard-").and_then(|name| name.strip_suffix(".pool"));
            if let Some(Ok(number)) = number.map(str::parse) {
                found.push((number, path));
            }
        }
    }
    found.sort();
    match found.windows(2).find(|two| two[0].0 == two[1].0) {
        Some(two) => Err(StartError::Pools(format!(
            "'{}' and '{}' are of the same shard: move away the one that does not belong there.",
            two[0].1.display(),
            two[1].1.display()
        ))),
        None => Ok(found),
    }
}

/// Sees that pools in a folder can lie on persistent memory.
fn check_dax(dir: &Path) -> Result<(), StartError> {
    match eagle_pmem::write_back_in(dir).map_err(|error| file_error(dir, &error))? {
        Some(_) => Ok(()),
        None => Err(StartError::Pools(format!(
            "'pool dax': the file system of '{}' does not map files as persistent memory (MAP_SYNC): mount one with DAX \
             there, or say 'pool file'.",
            dir.display()
        ))),
    }
}

/// Keeps servers away from a folder without writing to it, as long as what is returned is open; there is none where none was ever.
pub(crate) fn share(dir: &Path) -> Result<Option<File>, StartError> {
    let path = dir.join(LOCK);
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(file_error(&path, &error)),
    };
    match file.try_lock_shared() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Err(held(dir, file)),
        Err(TryLockError::Error(error)) => Err(file_error(&path, &error)),
    }
}

/// Somebody else has the folder: the lock's text says who.
fn held(dir: &Path, mut lock: File) -> StartError {
    let mut text = String::new();
    // What cannot be read says nothing of who has it.
    let _ = lock.read_to_string(&mut text);
    StartError::Locked { dir: dir.to_path_buf(), pid: text.trim().parse().ok() }
}

/// Takes the folder's lock, and says in it who has it.
fn lock(dir: &Path) -> Result<File, StartError> {
    let path = dir.join(LOCK);
    let failed = |error: &io::Error| file_error(&path, error);
    let mut file = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .map_err(|error| failed(&error))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(held(dir, file)),
        Err(TryLockError::Error(error)) => return Err(failed(&error)),
    }
    file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id())).map_err(|error| failed(&error))?;
    Ok(file)
}

fn open(path: &Path) -> Result<PoolFile, StartError> {
    PoolFile::open(path).map_err(|error| pool_error(path, &error))
}

fn reopen(path: &Path) -> Result<File, StartError> {
    File::options().write(true).open(path).map_err(|error| file_error(path, &error))
}

pub(super) fn pool_error(path: &Path, error: &dyn std::error::Error) -> StartError {
    StartError::Pools(format!("The pool '{}' cannot be used: {error}.", path.display()))
}

pub(super) fn file_error(path: &Path, error: &io::Error) -> StartError {
    StartError::Pools(format!("'{}' cannot be used: {error}.", path.display()))
}

/// The kernel's boot id; zeros where there is none to be read, so that every boot is another.
fn boot_id() -> [u8; 16] {
    let text = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let digits: String = text.chars().filter(char::is_ascii_hexdigit).collect();
    u128::from_str_radix(&digits, 16).map_or([0; 16], u128::to_be_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRESH: Fresh = Fresh { hash_seed: 7, pool_id: 1, extent_bytes: 1 << 20 };

    fn config(dir: &Path, pool: PoolMode) -> Config {
        Config { dir: dir.to_string_lossy().into_owned(), pool, ..Config::default() }
    }

    /// A folder of its own, removed with it.
    struct Temporary(PathBuf);

    impl Temporary {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("eagle-pools-{}-{name}", std::process::id()));
            fs::create_dir(&path).unwrap();
            Self(path)
        }
    }

    impl Drop for Temporary {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).unwrap();
        }
    }

    fn take(dir: &Path) -> Pools {
        Pools::take(&config(dir, PoolMode::File)).unwrap().unwrap()
    }

    fn sentence<T>(result: Result<T, StartError>) -> String {
        result.err().unwrap().to_string()
    }

    #[test]
    fn one_process_has_a_folder_and_is_named() {
        // Who comes second is told who came first; after that one has gone, the folder is free.
        let dir = Temporary::new("lock");
        let first = take(&dir.0);
        let refused = sentence(Pools::take(&config(&dir.0, PoolMode::Auto)));
        assert!(refused.contains(&format!("process {}", std::process::id())), "{refused}");
        assert!(Pools::take(&config(&dir.0, PoolMode::None)).unwrap().is_none(), "who keeps nothing needs no lock");
        drop(first);
        drop(take(&dir.0));
        if eagle_pmem::write_back_in(&dir.0).unwrap().is_none() {
            let dax = Pools::take(&config(&dir.0, PoolMode::Dax)).unwrap().unwrap();
            assert!(sentence(dax.open(&[None], FRESH)).contains("MAP_SYNC"));
        }
    }

    #[test]
    fn pools_are_found_again_and_only_together() {
        // Made for two shards: opened for two, for as many as there are, and not for three; not with one missing, renamed, or of
        // another node.
        let dir = Temporary::new("together");
        let folder = take(&dir.0);
        assert_eq!(folder.shards(0).unwrap(), None);
        assert!(folder.open(&[None; 2], FRESH).unwrap().iter().all(|pool| pool.file.is_new()));
        drop(folder);
        let folder = take(&dir.0);
        assert_eq!((folder.shards(0).unwrap(), folder.shards(2).unwrap()), (Some(2), Some(2)));
        assert_eq!(folder.shards(3).unwrap(), Some(3), "keys are dealt out for that");
        let pools = folder.open(&[None; 2], Fresh { hash_seed: 8, ..FRESH }).unwrap();
        assert!(pools.iter().all(|pool| !pool.file.is_new() && pool.file.superblock().hash_seed == 7));
        let (first, second) = (dir.0.join(name(0)), dir.0.join(name(1)));
        let kept = fs::read(&second).unwrap();
        fs::remove_file(&second).unwrap();
        drop(folder);
        let folder = take(&dir.0);
        assert!(sentence(folder.open(&[None; 2], FRESH)).contains("shard-01.pool' is missing"));
        fs::copy(&first, &second).unwrap();
        drop(folder);
        let folder = take(&dir.0);
        assert!(sentence(folder.open(&[None; 2], FRESH)).contains("is of shard 0 and not 1"));
        let other = Temporary::new("other");
        take(&other.0).open(&[None; 2], Fresh { hash_seed: 8, ..FRESH }).unwrap();
        fs::copy(other.0.join("shard-01.pool"), &second).unwrap();
        assert!(sentence(folder.open(&[None; 2], FRESH)).contains("is of seed 0x8 and not 0x7"));
        fs::write(&second, b"not a pool").unwrap();
        assert!(sentence(folder.open(&[None; 2], FRESH)).contains("cannot be used"));
        fs::write(&second, kept).unwrap();
        folder.open(&[None; 2], FRESH).unwrap();
    }

    #[test]
    fn pools_that_were_never_finished_are_made_anew() {
        // The process ended after the first of two: nothing was acknowledged yet, and the next start makes both.
        let dir = Temporary::new("creating");
        take(&dir.0).open(&[None; 2], FRESH).unwrap();
        fs::remove_file(dir.0.join("shard-01.pool")).unwrap();
        let names = format!("{}\0{}\0", dir.0.join(name(0)).display(), dir.0.join(name(1)).display());
        fs::write(dir.0.join(CREATING), names).unwrap();
        let folder = take(&dir.0);
        assert_eq!(folder.shards(0).unwrap(), None);
        assert!(folder.open(&[None; 2], FRESH).unwrap().iter().all(|pool| pool.file.is_new()));
        assert!(!dir.0.join(CREATING).exists());
    }

    #[test]
    fn pools_of_several_folders_are_found_wherever_they_lie() {
        // Dealt out in turn, found again when one was moved and the folders are named in another order, and locked; two of one
        // shard are refused.
        let (dir, one, two) = (Temporary::new("node"), Temporary::new("one"), Temporary::new("two"));
        let names = |dirs: [&Temporary; 2]| dirs.map(|dir| dir.0.to_string_lossy().into_owned()).to_vec();
        let config = |dirs| Config { pool_dirs: names(dirs), ..config(&dir.0, PoolMode::File) };
        let pools = Pools::take(&config([&one, &two])).unwrap().unwrap();
        assert_eq!(pools.open(&[None; 2], FRESH).unwrap().len(), 2);
        assert!(one.0.join(name(0)).exists() && two.0.join(name(1)).exists());
        let other = Temporary::new("another");
        let refused = Config { pool_dirs: names([&two, &two]), ..config([&one, &two]) };
        let refused = sentence(Pools::take(&Config { dir: other.0.to_string_lossy().into_owned(), ..refused }));
        assert!(refused.contains("in use by process"), "{refused}");
        drop(pools);
        fs::rename(one.0.join(name(0)), dir.0.join(name(0))).unwrap();
        let pools = Pools::take(&config([&two, &one])).unwrap().unwrap();
        assert_eq!(pools.shards(0).unwrap(), Some(2));
        assert!(pools.open(&[None; 2], FRESH).unwrap().iter().all(|pool| !pool.file.is_new()));
        drop(pools);
        fs::copy(dir.0.join(name(0)), one.0.join(name(0))).unwrap();
        assert!(sentence(Pools::take(&config([&two, &one]))).contains("are of the same shard"));
    }
}
