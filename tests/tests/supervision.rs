//! A fake systemd: a socket that is told what a real process says of itself, up to a core that really hangs.

use std::{
    fs,
    os::unix::net::UnixDatagram,
    path::Path,
    time::{Duration, Instant},
};

use eagle_resp::Value;
use eagle_tests::{process::Process, wire::Wire};
use nix::{
    errno::Errno,
    sys::{ptrace, wait},
    unistd::Pid,
};

const WAIT: Duration = Duration::from_secs(60);
/// What the fake systemd waits for a ping.
const WATCHDOG: Duration = Duration::from_secs(3);

/// What a supervisor was told so far.
struct Systemd {
    socket: UnixDatagram,
    dir: tempfile::TempDir,
    told: Vec<String>,
}

impl Systemd {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let socket = UnixDatagram::bind(dir.path().join("notify")).expect("a socket");
        Self { socket, dir, told: Vec::new() }
    }

    fn start(&self, arguments: &[&str]) -> Process {
        let path = self.dir.path().join("notify");
        let usec = WATCHDOG.as_micros().to_string();
        let variables = [("NOTIFY_SOCKET", path.to_str().expect("text")), ("WATCHDOG_USEC", &usec)];
        Process::eagledb_with(&variables, arguments)
    }

    /// What is told next, within this time.
    fn next(&mut self, most: Duration) -> Option<String> {
        self.socket.set_read_timeout(Some(most.max(Duration::from_millis(1)))).expect("a timeout");
        let mut bytes = [0; 1024];
        let len = self.socket.recv(&mut bytes).ok()?;
        let text = String::from_utf8_lossy(&bytes[..len]).into_owned();
        self.told.push(text.clone());
        Some(text)
    }

    /// Waits until it is told something that begins so.
    fn until(&mut self, begin: &str) -> String {
        let end = Instant::now() + WAIT;
        while Instant::now() < end {
            if let Some(text) = self.next(end - Instant::now())
                && text.starts_with(begin)
            {
                return text;
            }
        }
        panic!("'{begin}' is not among {:?}", self.told);
    }
}

#[test]
fn systemd_is_told_of_the_start_the_life_and_the_end() {
    // READY when it serves, pings from then on, STOPPING with the time that it takes; INFO says who watches.
    let mut systemd = Systemd::new();
    let mut node =
        systemd.start(&["--pool", "none", "--shards", "2", "--supervised", "auto", "--shutdown-timeout", "7"]);
    assert_eq!(systemd.until("READY=1"), "READY=1\nSTATUS=Ready to accept connections");
    assert!(systemd.told.iter().all(|told| !told.starts_with("WATCHDOG")), "{:?}", systemd.told);
    for _ in 0..3 {
        systemd.until("WATCHDOG=1");
    }
    let Value::Bulk(info) = Wire::connect(node.address()).text(&["INFO", "server"]) else { panic!("no text") };
    assert!(String::from_utf8_lossy(&info).contains("\r\nprocess_supervised:systemd\r\n"));
    node.signal("TERM");
    assert_eq!(systemd.until("STOPPING=1"), "STOPPING=1\nSTATUS=Ending\nEXTEND_TIMEOUT_USEC=97000000");
    assert_eq!(node.wait(WAIT).expect("it ends").code(), Some(0), "{}", node.log());
}

#[test]
fn nobody_is_told_unless_asked_to() {
    // The socket is there, and `supervised no`, the default, leaves it alone; asked for without a socket it says so and serves.
    let mut systemd = Systemd::new();
    let mut node = systemd.start(&["--pool", "none", "--shards", "1"]);
    node.signal("TERM");
    node.wait(WAIT).expect("it ends");
    assert_eq!(systemd.next(Duration::ZERO), None);
    let node = Process::eagledb(&["--pool", "none", "--shards", "1", "--supervised", "systemd"]);
    assert!(node.log().contains("systemd supervision requested, but NOTIFY_SOCKET not found!"), "{}", node.log());
}

#[test]
fn one_hung_core_stops_the_pings() {
    // Of two cores one thread is stopped as a debugger does it, while the other core and the main thread go on: no ping comes within
    // the time after which systemd would end the process. When the thread goes on, so do the pings.
    let mut systemd = Systemd::new();
    let node = systemd.start(&["--pool", "none", "--shards", "2", "--supervised", "systemd"]);
    systemd.until("WATCHDOG=1");
    let thread = thread_of(node.pid(), "core-1").expect("a thread a core");
    match ptrace::seize(thread, ptrace::Options::empty()) {
        Ok(()) => {}
        Err(Errno::EPERM) => return passed_over("this user may not stop a thread of another process (ptrace)"),
        Err(error) => panic!("ptrace: {error}"),
    }
    ptrace::interrupt(thread).expect("a seized thread can be stopped");
    wait::waitpid(thread, Some(wait::WaitPidFlag::__WALL)).expect("it stops");
    // Those sent before it stopped, and one at most for a tick between the last ping and the stop.
    let mut late = 0;
    let begin = Instant::now();
    while begin.elapsed() < 2 * WATCHDOG {
        let told = systemd.next(2 * WATCHDOG - begin.elapsed());
        late += usize::from(told.is_some_and(|told| told == "WATCHDOG=1"));
    }
    assert!(late <= 2, "{late} pings from a node with a hung core");
    ptrace::detach(thread, None).expect("it goes on");
    systemd.until("WATCHDOG=1");
    assert_eq!(Wire::connect(node.address()).text(&["PING"]), Value::Simple(b"PONG".to_vec()));
}

fn thread_of(pid: u32, name: &str) -> Option<Pid> {
    let tasks = fs::read_dir(Path::new("/proc").join(pid.to_string()).join("task")).expect("a process has threads");
    let is = |path: &Path| fs::read_to_string(path.join("comm")).is_ok_and(|comm| comm.trim() == name);
    let task = tasks.map(|task| task.expect("a thread").path()).find(|path| is(path))?;
    Some(Pid::from_raw(task.file_name()?.to_str()?.parse().ok()?))
}

#[expect(clippy::print_stderr, reason = "why a test is passed over belongs into its output")]
fn passed_over(why: &str) {
    eprintln!("passed over: {why}");
}
