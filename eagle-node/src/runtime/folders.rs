//! Where the pools of a node's shards lie: in its folder, or in those of `pool-dirs`.
//!
//! A new pool goes to a folder whose device is attached to the NUMA node that its shard's core runs on, in turn if there are
//! several; to the folders in turn if there is none. It is found again in whichever of the folders it lies, so the
//! order of `pool-dirs` may change, and folders may be added.

use std::path::{Path, PathBuf};

use super::device::Device;
use crate::config::Config;

/// A folder in which pools may be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Folder {
    /// Where it is.
    pub dir: PathBuf,
    /// What it lies on.
    pub device: Device,
}

/// Why a pool goes to a folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// There is no other.
    Only,
    /// Its device is attached to the node that the shard's core runs on.
    SameNode,
    /// None is, or it is not known: it was its turn.
    Turn,
}

/// The folders for new pools.
#[must_use]
pub fn configured(config: &Config) -> Vec<Folder> {
    let dir = Path::new(&config.dir);
    let dirs: Vec<PathBuf> = match config.pool_dirs.as_slice() {
        [] => vec![dir.to_owned()],
        some => some.iter().map(|other| dir.join(other)).collect(),
    };
    dirs.into_iter().map(|dir| Folder { device: Device::of(&dir), dir }).collect()
}

/// The folder of each shard's new pool, by the nodes that their cores run on.
#[must_use]
pub fn choose(cores: &[Option<usize>], folders: &[Folder]) -> Vec<(usize, Why)> {
    let mut chosen: Vec<(usize, Why)> = Vec::new();
    for node in cores {
        let is_near = |folder: &usize| node.is_some() && folders[*folder].device.node == *node;
        let times = |folder: &usize| chosen.iter().filter(|(other, _)| other == folder).count();
        let near = (0..folders.len()).filter(is_near).min_by_key(times);
        let next = (0..folders.len()).min_by_key(times).unwrap_or(0);
        let why = match near {
            _ if folders.len() == 1 => Why::Only,
            Some(_) => Why::SameNode,
            None => Why::Turn,
        };
        chosen.push((near.unwrap_or(next), why));
    }
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folders(nodes: &[Option<usize>]) -> Vec<Folder> {
        let folder = |(nth, node): (usize, &Option<usize>)| Folder {
            dir: PathBuf::from(format!("/{nth}")),
            device: Device { name: String::new(), node: *node },
        };
        nodes.iter().enumerate().map(folder).collect()
    }

    #[test]
    fn a_pool_goes_to_the_node_of_its_core_or_else_where_there_are_few() {
        // Shows the only folder; one a node; two on one node and none on the other; and nothing known.
        let cores = [Some(0), Some(1), Some(0), Some(1)];
        let choose = |nodes: &[Option<usize>]| choose(&cores, &folders(nodes));
        assert_eq!(choose(&[Some(1)]), [(0, Why::Only); 4]);
        let near = [(1, Why::SameNode), (0, Why::SameNode), (1, Why::SameNode), (0, Why::SameNode)];
        assert_eq!(choose(&[Some(1), Some(0)]), near);
        let mixed = [(0, Why::SameNode), (1, Why::Turn), (0, Why::SameNode), (1, Why::Turn)];
        assert_eq!(choose(&[Some(0), None]), mixed);
        let two = [(0, Why::SameNode), (1, Why::Turn), (0, Why::SameNode), (1, Why::Turn)];
        assert_eq!(choose(&[Some(0), Some(0)]), two);
        assert_eq!(choose(&[None, None]).iter().map(|(folder, _)| *folder).collect::<Vec<_>>(), [0, 1, 0, 1]);
    }
}
