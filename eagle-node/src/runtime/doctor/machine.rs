//! What the kernel says of the machine: its version, CPUs, memory, huge pages, NUMA, clock and network. Each check reads files of `/proc` and
//! `/sys` through a function, so that tests give it machines of their own.

use super::Finding;

/// Reads a file of `/proc` or `/sys`.
pub(super) type Read<'a> = &'a dyn Fn(&str) -> Option<String>;

/// The kernel whose io_uring has all that a core's ring needs.
const KERNEL_MIN: (u32, u32) = (6, 1);
/// Clocks whose reading is a system call, or a look at a slow device.
const SLOW_CLOCKS: [&str; 5] = ["hpet", "acpi_pm", "xen", "jiffies", "pit"];

fn line(read: Read<'_>, path: &str) -> String {
    read(path).map(|text| text.trim().to_owned()).unwrap_or_default()
}

pub(super) fn kernel(read: Read<'_>) -> Finding {
    let release = line(read, "/proc/sys/kernel/osrelease");
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|number| number.parse().unwrap_or(0));
    let version: (u32, u32) = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    let (major, minor) = KERNEL_MIN;
    if version >= KERNEL_MIN {
        Finding::good("kernel", format!("Linux {release}"))
    } else {
        let found = format!("Linux {release}; its io_uring lacks what a core's ring needs");
        Finding::failure("kernel", found, format!("use Linux {major}.{minor} or newer"))
    }
}

pub(super) fn cpus(shards: u16, count: usize, physical: usize, quota: Option<f64>) -> Finding {
    let found = format!("for {shards} shards {count} CPUs of {physical} physical cores");
    let wanted = usize::from(shards);
    match quota {
        Some(quota) if f64::from(shards) > quota.max(1.0) => Finding::advice(
            "cpus",
            format!(
                "{found}, and the control group grants the time of {quota:.1}: a core that is throttled holds up all others"
            ),
            "raise the CPU limit to whole CPUs, as many as shards, or lower --shards",
        ),
        _ if wanted > count => {
            Finding::advice("cpus", format!("{found}: shards share CPUs"), "lower --shards, or grant more CPUs")
        }
        _ if wanted > physical => Finding::advice(
            "cpus",
            format!("{found}: some shards share a physical core"),
            "lower --shards to the number of physical cores, unless measurements say otherwise",
        ),
        _ => Finding::good("cpus", found),
    }
}

/// `limit` is that of the control groups, in bytes.
pub(super) fn memory(maxmemory: u64, limit: Option<u64>, read: Read<'_>) -> Finding {
    const MIB: u64 = 1 << 20;
    let info = read("/proc/meminfo").unwrap_or_default();
    let total =
        info.lines().find_map(|line| line.strip_prefix("MemTotal:")?.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    let total = total.map(|kib| kib * 1024);
    let (room, whose) = match (limit, total) {
        (Some(limit), total) if total.is_none_or(|total| limit < total) => (limit, "the control group's limit"),
        (_, Some(total)) => (total, "this machine's memory"),
        _ => return Finding::advice("memory", "not known: /proc/meminfo cannot be read", "mount /proc"),
    };
    // Connections, commits under way and the program have to fit beside the data.
    let most = room / 10 * 8;
    let suggestion = format!("set --maxmemory {}mb, which leaves a fifth for connections and commits", most / MIB);
    let found = format!("{} MiB ({whose})", room / MIB);
    if line(read, "/proc/sys/vm/overcommit_memory") == "2" {
        return Finding::advice(
            "memory",
            format!(
                "{found}; the kernel counts address space strictly (vm.overcommit_memory = 2), of which pools reserve much"
            ),
            "sysctl vm.overcommit_memory=0",
        );
    }
    match maxmemory {
        0 => Finding::advice(
            "memory",
            format!("{found}, and maxmemory is not set: at the bound the kernel ends the process"),
            suggestion,
        ),
        some if some > most => {
            Finding::advice("memory", format!("{found}, and maxmemory is {} MiB", some / MIB), suggestion)
        }
        some => Finding::good("memory", format!("{found}, and maxmemory is {} MiB", some / MIB)),
    }
}

pub(super) fn huge_pages(disable_thp: bool, read: Read<'_>) -> Finding {
    let chosen = |path: &str| {
        let text = line(read, path);
        text.split_once('[')
            .and_then(|(_, rest)| rest.split_once(']'))
            .map(|(word, _)| word.to_owned())
            .unwrap_or_default()
    };
    let enabled = chosen("/sys/kernel/mm/transparent_hugepage/enabled");
    let defrag = chosen("/sys/kernel/mm/transparent_hugepage/defrag");
    let shown = if enabled.is_empty() { "not of this kernel" } else { &enabled };
    let found = format!("transparent huge pages: {shown}");
    if disable_thp {
        return Finding::good("huge pages", format!("{found}; records are kept out of them (disable-thp yes)"));
    }
    match (enabled.as_str(), defrag.as_str()) {
        ("always" | "madvise", "always") => Finding::advice(
            "huge pages",
            format!("{found}, made whole while a writer waits (defrag: always): pauses of milliseconds"),
            "echo defer+madvise > /sys/kernel/mm/transparent_hugepage/defrag, or --disable-thp yes",
        ),
        ("always" | "madvise", _) => Finding::good("huge pages", found),
        _ => Finding::advice(
            "huge pages",
            format!("{found}, although disable-thp is 'no'"),
            "echo madvise > /sys/kernel/mm/transparent_hugepage/enabled, or --disable-thp yes",
        ),
    }
}

pub(super) fn numa(read: Read<'_>) -> Finding {
    let online = line(read, "/sys/devices/system/node/online");
    if !online.contains(['-', ',']) {
        return Finding::good("numa", "one node");
    }
    let found = format!("nodes {online}");
    if line(read, "/proc/sys/kernel/numa_balancing").parse::<u32>().is_ok_and(|value| value & 1 == 1) {
        return Finding::advice(
            "numa",
            format!(
                "{found}; the kernel moves pages after threads (numa_balancing), and cores are pinned: faults for nothing"
            ),
            "sysctl kernel.numa_balancing=0",
        );
    }
    if line(read, "/proc/sys/vm/zone_reclaim_mode").parse::<u32>().is_ok_and(|value| value != 0) {
        return Finding::advice(
            "numa",
            format!("{found}; a full node frees its own pages before it takes another's (zone_reclaim_mode): pauses"),
            "sysctl vm.zone_reclaim_mode=0",
        );
    }
    Finding::good("numa", found)
}

pub(super) fn clock(read: Read<'_>) -> Finding {
    let source = line(read, "/sys/devices/system/clocksource/clocksource0/current_clocksource");
    if SLOW_CLOCKS.contains(&source.as_str()) {
        let found = format!("{source}: each look at the time is slow");
        return Finding::advice(
            "clock",
            found,
            "echo tsc > /sys/devices/system/clocksource/clocksource0/current_clocksource",
        );
    }
    Finding::good("clock", if source.is_empty() { "not known".to_owned() } else { source })
}

pub(super) fn backlog(wanted: u32, read: Read<'_>) -> Finding {
    let somaxconn = line(read, "/proc/sys/net/core/somaxconn");
    match somaxconn.parse::<u32>() {
        Ok(most) if most < wanted => Finding::advice(
            "backlog",
            format!("{most} connections may wait to be accepted (somaxconn), not the {wanted} of tcp-backlog"),
            format!("sysctl net.core.somaxconn={wanted}"),
        ),
        _ => Finding::good("backlog", format!("{wanted} connections may wait to be accepted")),
    }
}

#[cfg(test)]
mod tests {
    use super::{super::Verdict, *};

    /// A machine of these files.
    fn machine<'a>(files: &'a [(&'a str, &'a str)]) -> impl Fn(&str) -> Option<String> + 'a {
        |path| files.iter().find(|(name, _)| *name == path).map(|(_, text)| (*text).to_owned())
    }

    #[test]
    fn old_kernels_fail() {
        // By number, not by text; what cannot be read is too old.
        let verdict = |release| kernel(&machine(&[("/proc/sys/kernel/osrelease", release)])).verdict;
        assert_eq!(["6.1.0-13-amd64\n", "6.18.44-x", "10.0"].map(verdict), [Verdict::Good; 3]);
        assert_eq!(["6.0.19\n", "5.15.0", ""].map(verdict), [Verdict::Failure; 3]);
    }

    #[test]
    fn shards_fit_cores_and_quota() {
        // More than CPUs, more than physical cores, more than the quota pays for.
        let verdict = |shards, quota| cpus(shards, 8, 4, quota).verdict;
        assert_eq!([verdict(4, None), verdict(4, Some(4.0)), verdict(1, Some(0.5))], [Verdict::Good; 3]);
        assert_eq!([verdict(5, None), verdict(9, None), verdict(4, Some(3.5))], [Verdict::Advice; 3]);
    }

    #[test]
    fn maxmemory_fits_what_there_is() {
        // Unset, too much and right, on a machine and in a control group with less; strict accounting is told of.
        let files = [("/proc/meminfo", "MemTotal:        8388608 kB\nMemFree: 1 kB\n")];
        let read = machine(&files);
        let found = |maxmemory: u64, limit| memory(maxmemory, limit, &read);
        assert!(found(0, None).remedy.unwrap().contains("--maxmemory 6553mb"));
        assert_eq!(found(6 << 30, None).verdict, Verdict::Good);
        assert_eq!(found(7 << 30, None).verdict, Verdict::Advice);
        let bounded = found(6 << 30, Some(4 << 30));
        assert!(bounded.verdict == Verdict::Advice && bounded.found.contains("4096 MiB (the control group's limit)"));
        assert!(found(6 << 30, Some(64 << 30)).found.contains("this machine's"));
        let strict = [files[0], ("/proc/sys/vm/overcommit_memory", "2\n")];
        assert!(memory(1 << 30, None, &machine(&strict)).remedy.unwrap().contains("overcommit_memory=0"));
    }

    #[test]
    fn huge_pages_are_as_the_directive_says() {
        // They are kept out of, wanted and there, wanted and not there, wanted at the price of pauses.
        let enabled = "/sys/kernel/mm/transparent_hugepage/enabled";
        let defrag = "/sys/kernel/mm/transparent_hugepage/defrag";
        let found = |disable, on, how| huge_pages(disable, &machine(&[(enabled, on), (defrag, how)])).verdict;
        assert_eq!(found(true, "[always] madvise never", "[always] never"), Verdict::Good);
        assert_eq!(found(false, "always [madvise] never", "always [defer+madvise]"), Verdict::Good);
        assert_eq!(found(false, "always madvise [never]", "[defer]"), Verdict::Advice);
        assert_eq!(found(false, "[always] madvise never", "[always] defer"), Verdict::Advice);
    }

    #[test]
    fn nodes_clocks_and_queues() {
        // Several nodes with balancing or reclaim, slow clocks, a queue shorter than asked for; and each as it should be.
        let online = ("/sys/devices/system/node/online", "0-1\n");
        let balancing = "/proc/sys/kernel/numa_balancing";
        let reclaim = "/proc/sys/vm/zone_reclaim_mode";
        assert_eq!(numa(&machine(&[(online.0, "0\n"), (balancing, "1")])).verdict, Verdict::Good);
        assert_eq!(numa(&machine(&[online, (balancing, "1\n")])).verdict, Verdict::Advice);
        assert_eq!(numa(&machine(&[online, (balancing, "0"), (reclaim, "1")])).verdict, Verdict::Advice);
        assert_eq!(numa(&machine(&[online, (balancing, "0"), (reclaim, "0")])).verdict, Verdict::Good);
        let source = "/sys/devices/system/clocksource/clocksource0/current_clocksource";
        let clock = |name| clock(&machine(&[(source, name)])).verdict;
        assert_eq!(
            [clock("tsc\n"), clock("kvm-clock"), clock("hpet\n")],
            [Verdict::Good, Verdict::Good, Verdict::Advice]
        );
        let queue = |most| backlog(511, &machine(&[("/proc/sys/net/core/somaxconn", most)])).verdict;
        assert_eq!([queue("4096\n"), queue("511"), queue("128\n")], [Verdict::Good, Verdict::Good, Verdict::Advice]);
    }
}
