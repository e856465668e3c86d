//! Power cuts of a virtual machine with two NUMA nodes and persistent memory on each: nothing acknowledged is lost, and each
//! shard's pool lies on its own node.
//!
//! The machine is emulated by qemu, its memory two files; a part of each is persistent memory to the guest, with an ext4 mounted
//! with DAX. The guest is the ordinary server and a client ([`eagle_tests::cells`]) that says on the serial console what was
//! acknowledged. Killing qemu is the power cut, booting again on the same files what comes after it. What this cannot find is a
//! write-back that was forgotten, as what the guest stored is in the files at once; that is found in `crash.rs`.
//!
//! That a pool lies on a node is told by its device's: the kernel's `numa_maps` names the file, and counts no pages of
//! persistent memory.
//!
//! `deploy/test.sh` installs what it needs, and says in `EAGLE_VM_KERNEL` where a kernel lies (`boot/vmlinuz-*`, `lib/modules`). Without,
//! the test says so and passes. With `EAGLE_LONG`, 20 power cuts.

#![allow(clippy::print_stderr, reason = "a random test prints the seed that repeats it, and what it found")]

use std::{
    collections::BTreeSet,
    env, fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use eagle_tests::{process::eagledb_path, seeds};
use tempfile::TempDir;

/// Memory of the machine: two nodes, each of which gives most of its second half to persistent memory. Regions of it
/// begin and end at multiples of 16 MiB.
const NODE_BYTES: u64 = 1 << 30;
const PERSISTENT: &str = "memmap=512M!512M memmap=496M!1536M";
/// The guest says something at least as often.
const SILENT_MAX: Duration = Duration::from_secs(120);

#[test]
fn nothing_acknowledged_is_lost_when_power_fails() {
    // Power fails while four connections write to two shards, again and again; what comes up has every command that was
    // acknowledged, on DAX, each pool on the node of its core.
    let Some(kernel) = kernel() else { return };
    let cuts = if env::var_os("EAGLE_LONG").is_some() { 20 } else { 1 };
    let seed = seeds(1..2).next().unwrap_or(1);
    let mut rng = fastrand::Rng::with_seed(seed);
    let machine = Machine::build(&kernel);
    let mut count = 0;
    for cut in 0..cuts {
        let task = if cut == 0 { "make" } else { "write" };
        let mut run = machine.boot(task, count);
        let acknowledged = rng.u64(20..100);
        run.wait(|text| acks(text).count() as u64 >= acknowledged);
        run.cut();
        let text = run.text();
        check(&text, &format!("EAGLE_SEED={seed}, power cut {cut}"));
        let before = count;
        count = acks(&text).last().unwrap_or(count);
        eprintln!("power cut {cut}: {} commands acknowledged since the last", 4 * (count - before));
    }
    let mut run = machine.boot("check", count);
    run.wait(|text| text.contains("STOPPED"));
    let text = run.text();
    check(&text, &format!("EAGLE_SEED={seed}, after the last power cut"));
    let facts = ["TOPOLOGY", "THREAD", "MAPS", "NUMA_MAPS", "LOG"];
    text.lines().filter(|line| facts.iter().any(|fact| line.starts_with(fact))).for_each(|line| eprintln!("{line}"));
    assert!(text.contains("STOPPED 0"), "the server ends in order: {text}");
}

/// What the guest says of a boot is as it should be.
fn check(text: &str, when: &str) {
    assert!(!text.contains("FAILED") && !text.contains("LOST"), "{when}: {text}");
    assert!(text.contains("CHECKED cells=6000 lost=0"), "{when}: {text}");
    for node in 0..2 {
        assert!(text.contains(&format!("DEVICE pmem{node} on node {node}")), "{when}: {text}");
        let pool = format!("/pool{node}/shard-0{node}.pool");
        let logged = format!("Pool of core {node}: {pool}, persistent memory (DAX, clwb), NUMA node {node}");
        assert!(text.contains(&logged), "{when}: {text}");
        let mapped = |line: &str| line.starts_with("MAPS") && line.contains("rw-s") && line.ends_with(&pool);
        assert!(text.lines().any(mapped), "{when}: {text}");
        // The CPUs of a node are two.
        let cpus = [2 * node, 2 * node + 1].map(|cpu| format!("THREAD core-{node} on CPU {cpu}"));
        assert!(text.lines().any(|line| cpus.iter().any(|cpu| line == cpu)), "{when}: {text}");
    }
}

/// Numbers of commands of each connection that were acknowledged.
fn acks(text: &str) -> impl Iterator<Item = u64> {
    // A line that is not whole does not count.
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    whole.lines().filter_map(|line| line.strip_prefix("ACKED ")?.parse().ok())
}

/// The folder of the kernel to boot; says what is missing if something is.
fn kernel() -> Option<PathBuf> {
    let tools = ["qemu-system-x86_64", "busybox", "cpio", "mkfs.ext4"];
    let missing: Vec<&str> = tools.into_iter().filter(|tool| find(tool).is_none()).collect();
    match env::var_os("EAGLE_VM_KERNEL") {
        Some(kernel) if missing.is_empty() && cfg!(target_arch = "x86_64") => Some(kernel.into()),
        kernel => {
            let kernel = if kernel.is_none() { "EAGLE_VM_KERNEL is not set; " } else { "" };
            eprintln!("SKIPPED: no virtual machine here: {kernel}missing: {missing:?} (deploy/test.sh prepares all)");
            None
        }
    }
}

/// A program of the path, or of where administrators' programs lie.
fn find(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let dirs = env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]);
    dirs.map(|dir| dir.join(program)).find(|file| file.exists())
}

/// A machine that is switched off.
struct Machine {
    dir: TempDir,
    kernel: PathBuf,
}

impl Machine {
    /// Builds the image that it boots, and its memory.
    fn build(kernel: &Path) -> Self {
        let dir = TempDir::new().expect("a temporary folder");
        let root = dir.path().join("root");
        let version = only_in(&kernel.join("lib/modules"));
        for folder in ["bin", "lib", "lib64", "modules", "dev", "proc", "sys", "tmp", "pool0", "pool1"] {
            fs::create_dir_all(root.join(folder)).expect("a folder");
        }
        let guest = PathBuf::from(env!("CARGO_BIN_EXE_vm-guest"));
        let programs = [eagledb_path(), guest, find("mkfs.ext4").expect("looked for before")];
        for (program, name) in programs.iter().zip(["eagle-node", "vm-guest", "mkfs.ext4"]) {
            fs::copy(program, root.join("bin").join(name)).expect("a program");
        }
        for library in programs.iter().flat_map(|program| libraries(program)).collect::<BTreeSet<_>>() {
            let folder = if library.starts_with("/lib64") { "lib64" } else { "lib" };
            let name = library.file_name().expect("a library has a name");
            fs::copy(&library, root.join(folder).join(name)).expect("a library");
        }
        let busybox = find("busybox").expect("looked for before");
        fs::copy(&busybox, root.join("bin/busybox")).expect("a program");
        for applet in run(Command::new(&busybox).arg("--list")).lines().filter(|applet| *applet != "busybox") {
            if !root.join("bin").join(applet).exists() {
                symlink("busybox", root.join("bin").join(applet)).expect("a link");
            }
        }
        for module in ["libnvdimm", "nd_btt", "nd_pmem", "nd_e820"] {
            let name = format!("{module}.ko");
            let drivers = kernel.join("lib/modules").join(&version).join("kernel/drivers/nvdimm");
            fs::copy(drivers.join(&name), root.join("modules").join(&name)).expect("a module");
        }
        let init = root.join("init");
        fs::write(&init, include_str!("../fixtures/vm-init.sh")).expect("a script");
        fs::set_permissions(&init, fs::Permissions::from_mode(0o755)).expect("it is ours");
        let pack = "find . | cpio --create --format=newc --quiet > ../initrd";
        run(Command::new("sh").args(["-c", pack]).current_dir(&root));
        for node in 0..2 {
            let memory = fs::File::create(dir.path().join(format!("memory{node}"))).expect("a file");
            memory.set_len(NODE_BYTES).expect("room for a file of nothing");
        }
        Self { dir, kernel: kernel.join("boot").join(format!("vmlinuz-{version}")) }
    }

    /// Switches it on.
    fn boot(&self, task: &str, count: u64) -> Run {
        let console = self.dir.path().join("console");
        let _none_before = fs::remove_file(&console);
        let mut qemu = Command::new("qemu-system-x86_64");
        qemu.args(["-accel", "tcg,thread=multi", "-cpu", "max", "-machine", "pc", "-m", "2G"]);
        qemu.args(["-smp", "4,sockets=2,cores=2", "-nographic", "-no-reboot", "-monitor", "none", "-nic", "none"]);
        for node in 0..2 {
            let path = self.dir.path().join(format!("memory{node}"));
            let memory = format!("memory-backend-file,id=m{node},size=1G,share=on,mem-path={}", path.display());
            let cpus = format!("node,nodeid={node},cpus={}-{},memdev=m{node}", 2 * node, 2 * node + 1);
            qemu.args(["-object", &memory, "-numa", &cpus]);
        }
        qemu.args(["-numa", "dist,src=0,dst=1,val=21", "-numa", "dist,src=1,dst=0,val=21"]);
        qemu.arg("-serial").arg(format!("file:{}", console.display()));
        qemu.arg("-kernel").arg(&self.kernel).arg("-initrd").arg(self.dir.path().join("initrd"));
        let words = format!("console=ttyS0 panic=-1 quiet nokaslr {PERSISTENT} task={task} count={count}");
        qemu.arg("-append").arg(words).stdin(Stdio::null());
        Run { qemu: qemu.spawn().expect("qemu starts"), console }
    }
}

/// A machine that runs, until its value ends.
struct Run {
    qemu: Child,
    console: PathBuf,
}

impl Run {
    /// What the guest has said.
    fn text(&self) -> String {
        let bytes = fs::read(&self.console).unwrap_or_default();
        String::from_utf8_lossy(&bytes).replace('\r', "")
    }

    /// Waits until the guest has said something, or cannot any more.
    fn wait(&mut self, is_enough: impl Fn(&str) -> bool) {
        let (mut len, mut since) = (0, Instant::now());
        loop {
            let text = self.text();
            if is_enough(&text) {
                return;
            }
            if text.len() > len {
                (len, since) = (text.len(), Instant::now());
            }
            let has_ended = self.qemu.try_wait().expect("a child can be waited for").is_some();
            assert!(!has_ended && since.elapsed() < SILENT_MAX, "the guest says no more: {text}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// The power fails.
    fn cut(&mut self) {
        self.qemu.kill().expect("a running child can be killed");
        self.qemu.wait().expect("a killed child ends");
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        if self.qemu.try_wait().is_ok_and(|status| status.is_none()) {
            self.cut();
        }
    }
}

/// The libraries that a program is linked with, and what loads them.
fn libraries(program: &Path) -> Vec<PathBuf> {
    let text = run(Command::new("ldd").arg(program));
    text.split_ascii_whitespace().filter(|word| word.starts_with('/')).map(PathBuf::from).collect()
}

/// The name of the only entry of a folder.
fn only_in(folder: &Path) -> String {
    let mut entries = fs::read_dir(folder).expect("a folder");
    let entry = entries.next().expect("it has an entry").expect("it can be read");
    entry.file_name().to_string_lossy().into_owned()
}

/// Runs a program to its end and returns what it printed.
fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}
