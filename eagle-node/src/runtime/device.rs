//! The block device that a folder lies on, as sysfs tells: its name, and the NUMA node that it is attached to.
//!
//! From: the kernel's `Documentation/ABI/stable/sysfs-devices-node` and `sysfs-bus-pci`; persistent memory says the same of
//! its regions.

use std::{fs, os::unix::fs::MetadataExt, path::Path};

/// Where files of a folder lie.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Device {
    /// As the kernel names it; empty for what is no block device (tmpfs, overlays, networks).
    pub name: String,
    /// The NUMA node that it is attached to, if it is to one.
    pub node: Option<usize>,
}

impl Device {
    /// The device of a folder or file; without name where it cannot be told.
    #[must_use]
    pub fn of(path: &Path) -> Self {
        fs::metadata(path)
            .map_or_else(|_| Self::default(), |metadata| Self::of_number(Path::new("/sys"), metadata.dev()))
    }

    fn of_number(sysfs: &Path, device: u64) -> Self {
        let number = format!("{}:{}", libc::major(device), libc::minor(device));
        let Ok(path) = fs::canonicalize(sysfs.join("dev/block").join(number)) else {
            return Self::default();
        };
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        // A partition's is said by its disk, a disk's by what it is plugged into.
        let node = path.ancestors().find_map(|above| {
            let text = fs::read_to_string(above.join("numa_node"))
                .or_else(|_| fs::read_to_string(above.join("device/numa_node")));
            text.ok()?.trim().parse::<i64>().ok()
        });
        // A negative one: the kernel does not know, or there is only one.
        Self { name, node: node.and_then(|node| usize::try_from(node).ok()) }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_partition_is_where_its_disk_is_plugged_in() {
        // Shows a partition of a disk on node 1, a disk of which nothing is known, and what is no block device.
        let sysfs = std::env::temp_dir().join(format!("eagle-device-{}", std::process::id()));
        let part = sysfs.join("devices/pci0/nvme0/nvme0n1/nvme0n1p2");
        let lone = sysfs.join("devices/virtual/block/loop0");
        for folder in [&part, &lone, &sysfs.join("dev/block")] {
            fs::create_dir_all(folder).unwrap();
        }
        fs::write(sysfs.join("devices/pci0/nvme0/numa_node"), "1\n").unwrap();
        fs::write(sysfs.join("devices/virtual/numa_node"), "-1\n").unwrap();
        symlink(&part, sysfs.join("dev/block/259:2")).unwrap();
        symlink(&lone, sysfs.join("dev/block/7:0")).unwrap();
        let found = |major, minor| Device::of_number(&sysfs, libc::makedev(major, minor));
        assert_eq!(found(259, 2), Device { name: "nvme0n1p2".to_owned(), node: Some(1) });
        assert_eq!(found(7, 0), Device { name: "loop0".to_owned(), node: None });
        assert_eq!(found(0, 40), Device::default());
        fs::remove_dir_all(&sysfs).unwrap();
    }
}
