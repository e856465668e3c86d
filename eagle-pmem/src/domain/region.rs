//! The region of persistent memory that a file lies in, as sysfs tells: whether the caches before it outlive the loss of power.
//!
//! A block device of persistent memory is `.../ndbusN/regionN/namespaceN.N/block/pmemN`, and a region says in
//! `persistence_domain` what is flushed when power fails: `cpu_cache` (eADR), `memory_controller` (ADR) or nothing.
//!
//! From: the kernel's `Documentation/ABI/testing/sysfs-bus-nvdimm`, and `drivers/nvdimm/region_devs.c`.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Whether what is in the processor's caches of this file's memory outlives the loss of power. What cannot be found out is taken
/// for a no.
pub(super) fn outlives_power_loss(file: &File) -> bool {
    file.metadata().is_ok_and(|metadata| is_of_cache(Path::new("/sys"), metadata.dev()))
}

fn is_of_cache(sysfs: &Path, device: u64) -> bool {
    let number = format!("{}:{}", libc::major(device), libc::minor(device));
    let Ok(device) = fs::canonicalize(sysfs.join("dev/block").join(number)) else {
        return false;
    };
    let is_region = |path: &&Path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("region"));
    let domain = device.ancestors().find(is_region).map(|region| fs::read_to_string(region.join("persistence_domain")));
    domain.is_some_and(|domain| domain.is_ok_and(|domain| domain.trim() == "cpu_cache"))
}

#[cfg(all(test, not(miri)))]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn the_region_above_the_device_tells() {
        // A partition of a device in a region of eADR; the same with ADR, and with nothing said; a disk of another kind.
        let sysfs = tempfile::tempdir().unwrap();
        let region = sysfs.path().join("devices/ndbus0/region3");
        let part = region.join("namespace3.0/block/pmem3/pmem3p1");
        let disk = sysfs.path().join("devices/pci0/block/sda");
        for folder in [&part, &disk, &sysfs.path().join("dev/block")] {
            fs::create_dir_all(folder).unwrap();
        }
        symlink(&part, sysfs.path().join("dev/block/259:1")).unwrap();
        symlink(&disk, sysfs.path().join("dev/block/8:0")).unwrap();
        let says = |domain: &str| {
            fs::write(region.join("persistence_domain"), domain).unwrap();
            is_of_cache(sysfs.path(), libc::makedev(259, 1))
        };
        assert!(says("cpu_cache\n"));
        assert!(!says("memory_controller\n"));
        fs::remove_file(region.join("persistence_domain")).unwrap();
        assert!(!is_of_cache(sysfs.path(), libc::makedev(259, 1)));
        assert!(!is_of_cache(sysfs.path(), libc::makedev(8, 0)));
        assert!(!is_of_cache(sysfs.path(), libc::makedev(9, 9)));
    }
}
