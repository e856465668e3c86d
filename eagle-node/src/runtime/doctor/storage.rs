//! The folders of pools: whether they are there and can be written, what they lie on, and whether that keeps what a reply promises.

use std::{
    ffi::CString,
    io,
    mem::MaybeUninit,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use eagle_pmem::write_back_in;

use super::Finding;
use crate::{
    config::{Config, PoolMode},
    runtime::{
        device::Device,
        folders,
        placement::Cpus,
        preflight::{StartError, is_writable},
    },
};

const CHECK: &str = "folder";
/// Free bytes below which a pool soon cannot grow.
const FREE_MIN: u64 = 1 << 30;

/// File systems that do not keep what is synced, or are slow at it, by their number (`statfs(2)`).
const UNFIT: [(i64, &str); 5] = [
    (0x0102_1994, "tmpfs: it is gone with the machine's power"),
    (0x8584_58f6, "ramfs: it is gone with the machine's power"),
    (0x794c_7630, "an overlay, as of a container's own layer: it is gone with the container"),
    (0x6969, "NFS: each commit waits for the network, and locks are the server's"),
    (0x6573_5546, "FUSE: each commit goes through another process"),
];

/// A finding a folder.
pub(super) fn folders(config: &Config, cpus: Option<&Cpus>, shards: u16) -> Vec<Finding> {
    let dir = Path::new(&config.dir);
    if !dir.is_dir() {
        let error = io::Error::from(io::ErrorKind::NotFound);
        return vec![Finding::refusal(CHECK, &StartError::NoDirectory { dir: dir.to_owned(), error })];
    }
    let folders: Vec<PathBuf> = folders::configured(config).into_iter().map(|folder| folder.dir).collect();
    let mut findings: Vec<Finding> = folders.iter().map(|folder| look(config.pool, folder)).collect();
    if let Some(cpus) = cpus.filter(|cpus| cpus.nodes_used() > 1) {
        findings.extend(distance(&folders, cpus, shards));
    }
    findings
}

fn look(mode: PoolMode, folder: &Path) -> Finding {
    let shown = folder.display();
    if !folder.is_dir() {
        let error = io::Error::from(io::ErrorKind::NotFound);
        return Finding::failure(CHECK, format!("'{shown}': {error}"), "create it, or correct --pool-dirs");
    }
    if !is_writable(folder) {
        return Finding::refusal(CHECK, &StartError::NotWritable { dir: folder.to_owned() });
    }
    let device = Device::of(folder);
    let (file_system, free) = match file_system(folder) {
        Ok(known) => known,
        Err(error) => return Finding::failure(CHECK, format!("'{shown}': {error}"), "see the words of the system"),
    };
    match (mode, write_back_in(folder)) {
        (_, Err(error)) => {
            return Finding::failure(
                CHECK,
                format!("'{shown}': no file can be made there: {error}"),
                "mount it for writing",
            );
        }
        (PoolMode::Dax, Ok(None)) => {
            let remedy = "mount a file system of a pmem device with -o dax=always, or set --pool auto";
            return Finding::failure(CHECK, format!("'{shown}': no DAX there, which 'pool dax' insists on"), remedy);
        }
        (PoolMode::Auto, Ok(None)) if device.name.starts_with("pmem") => {
            let found = format!("'{shown}': persistent memory ({}) that is used as a disk", device.name);
            return Finding::advice(
                CHECK,
                found,
                "mount it with -o dax=always (ext4, xfs) from a namespace of mode fsdax",
            );
        }
        (PoolMode::Auto | PoolMode::Dax, Ok(Some(write_back))) if free >= FREE_MIN => {
            return Finding::good(
                CHECK,
                format!("'{shown}': DAX on {}, made durable by {}", device.name, write_back.name()),
            );
        }
        _ => {}
    }
    if let Some((_, why)) = UNFIT.iter().find(|(number, _)| *number == file_system) {
        return Finding::advice(
            CHECK,
            format!("'{shown}': {why}"),
            "set --dir to a local file system (ext4, xfs), or --pool none",
        );
    }
    if free < FREE_MIN {
        let found = format!("'{shown}': {} MiB are free", free >> 20);
        return Finding::advice(CHECK, found, "make room, or bound the pools with --pool-size-max");
    }
    let name = if device.name.is_empty() { "no block device of its own" } else { &device.name };
    Finding::good(CHECK, format!("'{shown}': on {name}, {} MiB free", free >> 20))
}

/// Whether shards find a folder on a device of their own node, where devices have nodes.
fn distance(dirs: &[PathBuf], cpus: &Cpus, shards: u16) -> Option<Finding> {
    let nodes: Vec<Option<usize>> = dirs.iter().map(|dir| Device::of(dir).node).collect();
    let far = (0..shards).filter(|core| !nodes.contains(&cpus.node_of_core(*core))).count();
    let known = nodes.iter().any(Option::is_some);
    (known && far > 0).then(|| {
        let found = format!("{far} of {shards} shards have no folder on a device of their NUMA node");
        Finding::advice(
            "distance",
            found,
            "name a folder on a device of each node in --pool-dirs; `eagle-node topology` shows them",
        )
    })
}

/// The number of a folder's file system, and the bytes that are free there.
fn file_system(folder: &Path) -> io::Result<(i64, u64)> {
    let path = CString::new(folder.as_os_str().as_bytes())?;
    let mut about = MaybeUninit::<libc::statfs>::zeroed();
    // SAFETY: a string that ends in zero, and a place for the answer; its fields are integers, for which zeros are a value.
    let (code, about) = unsafe { (libc::statfs(path.as_ptr(), about.as_mut_ptr()), about.assume_init()) };
    if code != 0 {
        return Err(io::Error::last_os_error());
    }
    let block = u64::try_from(about.f_bsize).unwrap_or(0);
    Ok((about.f_type, about.f_bavail.saturating_mul(block)))
}

#[cfg(test)]
mod tests {
    use super::{super::Verdict, *};

    #[test]
    fn folders_that_are_not_there_fail_and_memory_is_advised_against() {
        // A folder of pool-dirs that is missing; /dev/shm is gone with the power; what insists on DAX fails where there is none.
        let missing = look(PoolMode::Auto, Path::new("/nowhere/at/all"));
        assert!(missing.verdict == Verdict::Failure && missing.found.contains("/nowhere/at/all"), "{missing:?}");
        let shm = Path::new("/dev/shm");
        if file_system(shm).is_ok_and(|(number, _)| number == UNFIT[0].0) {
            let found = look(PoolMode::File, shm);
            assert!(found.verdict == Verdict::Advice && found.found.contains("tmpfs"), "{found:?}");
            assert_eq!(look(PoolMode::Dax, shm).verdict, Verdict::Failure);
        }
    }
}
