//! The placement says on which CPU each core of the node runs: physical cores first, their siblings (hyper-threads) last,
//! within the process' affinity mask; one of each NUMA node in turn, so that few shards have the memory of all nodes.
//!
//! By default there is one shard a physical core of the mask, but no more than the control group's CPU quota pays for:
//! a pinned thread that is throttled stalls everybody who waits for its shard. More shards than CPUs are allowed (tests,
//! trials); they then share CPUs in turn.
//!
//! Memory is first touched by the pinned thread of the core that it is of, so the kernel takes it from that thread's NUMA node.
//! The thread says so besides ([`Cpus::bind_memory`]), as `numactl --interleave` around the process or a container's policy
//! would have it otherwise: it prefers its node, and takes memory of another rather than none.

use std::{fs, path::Path, sync::Arc};

use hwlocality::{
    Topology,
    cpu::{binding::CpuBindingFlags, cpuset::CpuSet},
    memory::{
        binding::{MemoryBindingFlags, MemoryBindingPolicy},
        nodeset::NodeSet,
    },
    object::types::ObjectType,
};

use super::preflight::StartError;

/// A CPU as the system numbers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cpu(pub usize);

/// The CPUs that the process may use, in the order in which cores of the node take them.
#[derive(Clone, Debug)]
pub struct Cpus {
    order: Vec<Cpu>,
    /// The NUMA node of each, where there is one.
    nodes: Vec<Option<usize>>,
    /// How many of them, the first, are on different physical cores.
    physical: usize,
    /// What to bind memory by.
    topology: Option<Arc<Topology>>,
}

/// The CPUs of a physical core, and its NUMA node.
type PhysicalCore = (Option<usize>, Vec<Cpu>);

impl Cpus {
    /// Asks hwloc for the machine and the system for this thread's mask.
    ///
    /// # Errors
    /// The topology cannot be read.
    pub fn of_this_process() -> Result<Self, StartError> {
        let unreadable = |error: &dyn std::fmt::Display| StartError::Topology(error.to_string());
        let topology = Topology::new().map_err(|error| unreadable(&error))?;
        let mask = topology.cpu_binding(CpuBindingFlags::THREAD).map_err(|error| unreadable(&error))?;
        let cores = topology.objects_with_type(ObjectType::Core).filter_map(|core| {
            let usable: CpuSet = core.cpuset()? & &mask;
            let node = core.nodeset().and_then(|nodes| nodes.iter_set().next()).map(usize::from);
            Some((node, usable.iter_set().map(|cpu| Cpu(usize::from(cpu))).collect()))
        });
        let mut cpus = Self::in_order(cores.collect());
        cpus.topology = Some(Arc::new(topology));
        if cpus.order.is_empty() { Err(StartError::Topology("no CPU may be used".to_owned())) } else { Ok(cpus) }
    }

    /// First CPUs of all physical cores, then the second ones, and so on; the cores of the NUMA nodes in turn.
    fn in_order(cores: Vec<PhysicalCore>) -> Self {
        let mut of_nodes: Vec<(Option<usize>, usize)> = Vec::new();
        let mut in_turn: Vec<(usize, PhysicalCore)> = Vec::new();
        for core in cores.into_iter().filter(|(_, cpus)| !cpus.is_empty()) {
            let nth = match of_nodes.iter_mut().find(|(node, _)| *node == core.0) {
                Some((_, count)) => {
                    *count += 1;
                    *count
                }
                None => {
                    of_nodes.push((core.0, 0));
                    0
                }
            };
            in_turn.push((nth, core));
        }
        in_turn.sort_by_key(|(nth, _)| *nth);
        let most = in_turn.iter().map(|(_, (_, cpus))| cpus.len()).max().unwrap_or(0);
        let nth_of_all =
            |nth: usize| in_turn.iter().filter_map(move |(_, (node, cpus))| cpus.get(nth).map(|cpu| (*cpu, *node)));
        let (order, nodes) = (0..most).flat_map(nth_of_all).unzip();
        Self { order, nodes, physical: in_turn.len(), topology: None }
    }

    /// Lets what this thread allocates lie on the NUMA node of a core of the node, where there is more than one.
    ///
    /// # Errors
    /// The system does not let it: in one sentence.
    pub fn bind_memory(&self, core: u16) -> Result<(), String> {
        let (Some(topology), Some(node)) = (&self.topology, self.node_of_core(core)) else {
            return Ok(());
        };
        if self.nodes_used() < 2 {
            return Ok(());
        }
        let nodes = NodeSet::from(
            hwlocality::bitmap::BitmapIndex::try_from(node).map_err(|_| format!("there is no node {node}"))?,
        );
        topology
            .bind_memory(&nodes, MemoryBindingPolicy::Bind, MemoryBindingFlags::THREAD)
            .map_err(|error| error.to_string())
    }

    /// The NUMA node of a core of the node.
    #[must_use]
    pub fn node_of_core(&self, core: u16) -> Option<usize> {
        self.nodes[usize::from(core) % self.nodes.len()]
    }

    /// How many NUMA nodes have CPUs that may be used.
    #[must_use]
    pub fn nodes_used(&self) -> usize {
        let mut nodes = self.nodes.clone();
        nodes.sort_unstable();
        nodes.dedup();
        nodes.len()
    }

    /// How many physical cores have CPUs that may be used.
    #[must_use]
    pub const fn physical(&self) -> usize {
        self.physical
    }

    /// How many shards there are unless configured: one a physical core, as far as `quota` (CPUs' worth of time) goes.
    #[must_use]
    pub fn default_shards(&self, quota: Option<f64>) -> u16 {
        // At least one, at most all: the cast rounds down what is in range.
        let paid = quota.map_or(self.physical, |cpus| cpus.max(1.0) as usize);
        u16::try_from(self.physical.min(paid)).unwrap_or(u16::MAX)
    }

    /// The CPU of a core of the node.
    #[must_use]
    pub fn of_core(&self, core: u16) -> Cpu {
        self.order[usize::from(core) % self.order.len()]
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.order.len()
    }
}

/// How many CPUs' worth of time the control groups of this process grant, if they bound it.
#[must_use]
pub fn cpu_quota() -> Option<f64> {
    let read = |path: &Path| fs::read_to_string(path).ok();
    quota_of(&read(Path::new("/proc/self/cgroup"))?, read)
}

/// Bytes of memory that the control groups of this process grant it, if they bound it.
#[must_use]
pub fn memory_limit() -> Option<u64> {
    let read = |path: &Path| fs::read_to_string(path).ok();
    memory_limit_of(&read(Path::new("/proc/self/cgroup"))?, read)
}

fn memory_limit_of(groups: &str, read: impl Fn(&Path) -> Option<String>) -> Option<u64> {
    // What version 1 says where there is no bound: all pages that there could be.
    const UNBOUND: u64 = 1 << 62;
    let number = |text: String| text.trim().parse::<u64>().ok().filter(|&bytes| bytes < UNBOUND);
    let at = |group: &Path| {
        let files = ["memory.max", "memory.limit_in_bytes"].into_iter();
        files.filter_map(|file| number(read(&group.join(file))?)).min()
    };
    least_of(groups, "memory", &["/sys/fs/cgroup/memory"], u64::min, at)
}

/// The least quota of the process' groups and all groups above them, of both versions of control groups.
fn quota_of(groups: &str, read: impl Fn(&Path) -> Option<String>) -> Option<f64> {
    least_of(groups, "cpu", &["/sys/fs/cgroup/cpu", "/sys/fs/cgroup/cpu,cpuacct"], f64::min, |group| {
        quota_at(group, &read)
    })
}

/// The least that any of the groups or those above them states; `old` is where version 1 mounts the controller.
fn least_of<T>(
    groups: &str,
    controller: &str,
    old: &[&str],
    lesser: fn(T, T) -> T,
    at: impl Fn(&Path) -> Option<T>,
) -> Option<T> {
    let mut least = None;
    for line in groups.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (controllers, path) = (fields.next().unwrap_or(""), fields.next().unwrap_or("/"));
        let mounts: &[&str] = match controllers {
            "" => &["/sys/fs/cgroup", "/sys/fs/cgroup/unified"],
            some if some.split(',').any(|name| name == controller) => old,
            _ => &[],
        };
        // A container sees its own group at the root although the path is the host's; so all up to the root are tried.
        for group in Path::new(path.trim_start_matches('/')).ancestors() {
            let found = mounts.iter().filter_map(|mount| at(&Path::new(mount).join(group)));
            least = found.chain(least).reduce(lesser);
        }
    }
    least
}

/// The quota that one group's directory states.
fn quota_at(group: &Path, read: &impl Fn(&Path) -> Option<String>) -> Option<f64> {
    let number = |text: &str| text.trim().parse::<f64>().ok().filter(|&number| number > 0.0);
    if let Some(both) = read(&group.join("cpu.max")) {
        let (quota, period) = both.trim().split_once(' ')?;
        return Some(number(quota)? / number(period)?);
    }
    Some(number(&read(&group.join("cpu.cfs_quota_us"))?)? / number(&read(&group.join("cpu.cfs_period_us"))?)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cpus(numbers: &[usize]) -> Vec<Cpu> {
        numbers.iter().copied().map(Cpu).collect()
    }

    #[test]
    fn siblings_come_last_and_more_shards_than_cpus_share() {
        // Shows the order on two physical cores with two threads each, of which one CPU is not in the mask.
        let one_node = [cpus(&[0, 4]), cpus(&[1, 5]), cpus(&[]), cpus(&[3])].map(|cpus| (Some(0), cpus));
        let found = Cpus::in_order(one_node.to_vec());
        assert_eq!(found.order, cpus(&[0, 1, 3, 4, 5]));
        assert_eq!(found.default_shards(None), 3);
        assert_eq!((found.of_core(4), found.of_core(5)), (Cpu(5), Cpu(0)));
    }

    #[test]
    fn cores_of_the_nodes_take_turns() {
        // Shows the order where node 0 has two cores with two threads each, and node 1 three with one each.
        let cores = [(0, &[0, 1][..]), (0, &[2, 3]), (1, &[4]), (1, &[5]), (1, &[6])];
        let found = Cpus::in_order(cores.iter().map(|(node, numbers)| (Some(*node), cpus(numbers))).collect());
        assert_eq!(found.order, cpus(&[0, 4, 2, 5, 6, 1, 3]));
        let nodes: Vec<usize> = (0..8).filter_map(|core| found.node_of_core(core)).collect();
        assert_eq!((nodes, found.nodes_used(), found.physical()), (vec![0, 1, 0, 1, 1, 0, 0, 0], 2, 5));
    }

    #[test]
    fn the_default_stays_within_the_quota() {
        // Shows rounding down, and that there is always one shard.
        let found = Cpus::in_order((0..8).map(|cpu| (None, cpus(&[cpu]))).collect());
        let shards = [None, Some(0.5), Some(1.9), Some(2.0), Some(64.0)].map(|quota| found.default_shards(quota));
        assert_eq!(shards, [8, 1, 1, 2, 8]);
    }

    #[test]
    fn this_machine_has_the_cpus_of_the_mask() {
        // Shows that hwloc and the affinity mask are read: each CPU once, all usable.
        let found = Cpus::of_this_process().expect("a topology");
        let usable = std::thread::available_parallelism().expect("known").get();
        assert!(found.count() >= usable, "{found:?}");
        let mut numbers: Vec<usize> = found.order.iter().map(|cpu| cpu.0).collect();
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), found.count());
        assert!((1..=found.count()).contains(&usize::from(found.default_shards(None))));
        assert!((0..4).all(|core| found.bind_memory(core).is_ok()), "this thread may say where its memory is to lie");
    }

    #[test]
    fn the_least_limit_of_memory_counts_in_both_versions() {
        // Shows the parent's limit, version 1, where no bound is a huge number, and none at all.
        let files = |path: &Path| {
            let text = match path.to_str()? {
                "/sys/fs/cgroup/a/b/memory.max" => "max\n",
                "/sys/fs/cgroup/a/memory.max" => "4294967296\n",
                "/sys/fs/cgroup/memory/old/memory.limit_in_bytes" => "1073741824\n",
                "/sys/fs/cgroup/memory/memory.limit_in_bytes" => "9223372036854771712\n",
                _ => return None,
            };
            Some(text.to_owned())
        };
        assert_eq!(memory_limit_of("0::/a/b\n", files), Some(4 << 30));
        assert_eq!(memory_limit_of("5:memory:/old\n3:cpu:/a\n", files), Some(1 << 30));
        assert_eq!(memory_limit_of("5:memory:/\n0::/c\n", files), None);
    }

    #[test]
    fn quotas_of_both_versions_are_found_and_the_least_counts() {
        // Shows version 2 (own and parent group), version 1, a container's view, and no bound at all.
        let files = |path: &Path| {
            let text = match path.to_str()? {
                "/sys/fs/cgroup/a/b/cpu.max" => "max 100000\n",
                "/sys/fs/cgroup/a/cpu.max" => "150000 100000\n",
                "/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us" => "50000\n",
                "/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us" => "100000\n",
                "/sys/fs/cgroup/cpu/free/cpu.cfs_quota_us" => "-1\n",
                "/sys/fs/cgroup/cpu/free/cpu.cfs_period_us" => "100000\n",
                _ => return None,
            };
            Some(text.to_owned())
        };
        assert_eq!(quota_of("0::/a/b\n", files), Some(1.5));
        assert_eq!(quota_of("4:cpu,cpuacct:/docker/c0ffee\n0::/\n", files), Some(0.5));
        assert_eq!(
            quota_of("1:cpu:/free\n5:memory:/a\n", |path| files(path)
                .filter(|_| path.starts_with("/sys/fs/cgroup/cpu/"))),
            None
        );
        assert_eq!(quota_of("0::/\n", files), None);
    }
}
