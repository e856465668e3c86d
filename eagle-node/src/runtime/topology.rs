//! What a node of a configuration would use of this machine, and why: the text of `eagle-node topology`.
//!
//! It asks what a start asks, in the same order, and changes nothing: no lock is taken and no pool is opened but to read what it
//! says of itself.

use std::{
    fmt::Write as _,
    path::{Path, PathBuf},
};

use eagle_pmem::{PoolFile, write_back_in};

use super::{
    StartError,
    device::Device,
    folders::{self, Why},
    placement::{self, Cpus},
    pools,
};
use crate::config::{Config, PoolMode};

/// Describes it.
///
/// # Errors
/// The machine's CPUs or the configured folders cannot be told.
pub fn describe(config: &Config) -> Result<String, StartError> {
    let cpus = Cpus::of_this_process()?;
    let found = if config.pool == PoolMode::None { Vec::new() } else { pools::find(config)? };
    let (shards, why) = shards(config, &cpus, &found);
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = writeln!(
        text,
        "machine: this process may use {} CPUs on {} physical cores of {} NUMA {}",
        cpus.count(),
        cpus.physical(),
        cpus.nodes_used(),
        if cpus.nodes_used() == 1 { "node" } else { "nodes" }
    );
    if let Some(quota) = placement::cpu_quota() {
        let _ = writeln!(text, "quota:   its control group grants the time of {quota:.1} CPUs");
    }
    let _ = writeln!(text, "shards:  {shards}, {why}");
    let nodes: Vec<Option<usize>> = (0..shards).map(|core| cpus.node_of_core(core)).collect();
    let folders = folders::configured(config);
    let chosen = folders::choose(&nodes, &folders);
    for (core, (folder, why)) in (0..shards).zip(chosen) {
        let node = nodes[usize::from(core)];
        let _ = writeln!(text, "core {core}:  CPU {}, {}", cpus.of_core(core).0, node_name(node));
        let _ = match (config.pool, found.iter().find(|(shard, _)| *shard == core)) {
            (PoolMode::None, _) => writeln!(text, "         no pool ('pool none')"),
            (_, Some((_, path))) => pool(&mut text, config, path, node, "it is there"),
            (_, None) => {
                let path = folders[folder].dir.join(pools::name(core));
                let why = match why {
                    Why::Only => "to be made in the only folder",
                    Why::SameNode => "to be made in a folder whose device is on the core's node",
                    Why::Turn => "to be made in the folder whose turn it is, none being known to be on the core's node",
                };
                pool(&mut text, config, &path, node, why)
            }
        };
    }
    Ok(text)
}

fn shards(config: &Config, cpus: &Cpus, found: &[(u16, PathBuf)]) -> (u16, String) {
    let in_pools = found.first().and_then(|(_, path)| PoolFile::open(path).ok()).map(|file| file.superblock().shards);
    let quota = placement::cpu_quota();
    match (in_pools, config.shards) {
        (Some(shards), asked) if asked == 0 || asked == shards => (shards, "as many as the pools are of".to_owned()),
        (Some(shards), asked) => (asked, format!("as 'shards' says; a start is refused, as the pools are of {shards}")),
        (None, 0) => {
            let shards = cpus.default_shards(quota);
            let by_quota = usize::from(shards) < cpus.physical();
            (shards, if by_quota { "as many as the quota pays for" } else { "one a physical core" }.to_owned())
        }
        (None, asked) => (asked, "as 'shards' says".to_owned()),
    }
}

fn pool(text: &mut String, config: &Config, path: &Path, core: Option<usize>, why: &str) -> std::fmt::Result {
    let dir = path.parent().unwrap_or(Path::new("."));
    let device = Device::of(dir);
    let name = if device.name.is_empty() { "no block device" } else { &device.name };
    let far = if device.node.is_some() && core.is_some() && device.node != core { " (not the core's)" } else { "" };
    writeln!(text, "         pool {}: {why}", path.display())?;
    writeln!(text, "         on {name}, {}{far}; {}", node_name(device.node), kept(config.pool, dir))
}

fn kept(mode: PoolMode, dir: &Path) -> String {
    match (mode, write_back_in(dir)) {
        (PoolMode::File, _) => "an ordinary file, as 'pool file' says".to_owned(),
        (_, Ok(Some(write_back))) => format!("DAX, stores made durable by {}", write_back.name()),
        (PoolMode::Dax, Ok(None)) => "no DAX there, so that 'pool dax' is refused".to_owned(),
        (_, Ok(None)) => "an ordinary file, as there is no DAX".to_owned(),
        (_, Err(error)) => format!("no file can be made there: {error}"),
    }
}

fn node_name(node: Option<usize>) -> String {
    node.map_or_else(|| "NUMA node not known".to_owned(), |node| format!("NUMA node {node}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_is_described_and_nothing_is_changed() {
        // Shows two shards in a folder where there is nothing yet, and that there is nothing in it afterwards.
        let dir = std::env::temp_dir().join(format!("eagle-topology-{}", std::process::id()));
        std::fs::create_dir(&dir).unwrap();
        let config = Config { dir: dir.display().to_string(), shards: 2, pool: PoolMode::File, ..Config::default() };
        let text = describe(&config).unwrap();
        for part in ["shards:  2, as 'shards' says", "core 1:  CPU ", "shard-01.pool: to be made in the only folder"] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(text.contains("an ordinary file, as 'pool file' says"), "{text}");
        assert!(describe(&Config { pool: PoolMode::None, ..config }).unwrap().contains("no pool"));
        assert_eq!(std::fs::read_dir(&dir).unwrap().count(), 0);
        std::fs::remove_dir(&dir).unwrap();
    }
}
