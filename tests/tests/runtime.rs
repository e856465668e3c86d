//! What the runtime promises of a real process: no wake-up is lost, want of buffers passes, an idle connection
//! costs little, cores are pinned, and the end is bounded.

#![expect(clippy::print_stdout, reason = "seeds and measurements are what a run shows")]

use std::{
    collections::BTreeSet,
    fs, thread,
    time::{Duration, Instant},
};

use eagle_resp::Value;
use eagle_tests::{
    process::Process,
    wire::{Wire, encode},
};

const WAIT: Duration = Duration::from_secs(30);

fn node(arguments: &[&str]) -> Process {
    let all: Vec<&str> = ["--shards", "2"].iter().chain(arguments).copied().collect();
    Process::eagledb(&all)
}

fn ok() -> Value {
    Value::Simple(b"OK".to_vec())
}

fn random() -> fastrand::Rng {
    let seed = std::env::var("EAGLE_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| fastrand::u64(..));
    println!("EAGLE_SEED={seed}");
    fastrand::Rng::with_seed(seed)
}

/// A field of the process' status, in KiB or as it stands there.
fn status(path: &str, field: &str) -> String {
    let text = fs::read_to_string(path).expect("a running process");
    let line = text.lines().find_map(|line| line.strip_prefix(field)).expect("a field");
    line.trim_start_matches(':').trim().to_owned()
}

#[test]
fn no_wake_up_is_lost_whatever_the_pause() {
    // Pauses around the millisecond after which a core sleeps in glommio instead of napping in its ring; half the commands
    // cross to the other core, which mostly sleeps too. A lost wake-up would show as a reply that only the watchdog brings, after
    // up to 100 ms, or never.
    const CLIENTS: u64 = 4;
    const ROUNDS: u64 = 1_500;
    let node = node(&[]);
    let mut random = random();
    let clients = (0..CLIENTS).map(|client| {
        let (address, mut random) = (node.address(), random.fork());
        thread::spawn(move || {
            let mut wire = Wire::connect(address);
            let mut slow = 0;
            for round in 0..ROUNDS {
                let key = format!("{client}:{}", random.u32(0..1_000));
                let value = round.to_string();
                let begun = Instant::now();
                assert_eq!(wire.text(&["SET", &key, &value]), ok());
                assert_eq!(wire.text(&["GET", &key]), Value::Bulk(value.into_bytes()));
                slow += u32::from(begun.elapsed() > Duration::from_millis(90));
                thread::sleep(Duration::from_micros(random.u64(0..2_500)));
            }
            slow
        })
    });
    let clients: Vec<_> = clients.collect();
    let slow: u32 = clients.into_iter().map(|client| client.join().expect("a client")).sum();
    println!("{slow} of {} pairs took more than 90 ms", CLIENTS * ROUNDS);
    assert!(u64::from(slow) < CLIENTS * ROUNDS / 100, "{slow} were slow");
}

#[test]
fn more_input_at_once_than_there_are_buffers_is_all_served() {
    // Six hundred clients send 40 KiB each before any reply is read: some receives find no buffer, and are armed again in turn.
    let node = node(&[]);
    let mut wires: Vec<Wire> = (0..600).map(|_| Wire::connect(node.address())).collect();
    for round in 0..3 {
        for (client, wire) in wires.iter_mut().enumerate() {
            let value = format!("{client}/{round}/").repeat(4_000);
            wire.write(&encode(&[b"SET", format!("k{client}").as_bytes(), value.as_bytes()])).expect("written");
        }
        for wire in &mut wires {
            assert_eq!(wire.reply().expect("a reply"), ok());
        }
    }
    for (client, wire) in wires.iter_mut().enumerate() {
        let value = format!("{client}/2/").repeat(4_000);
        assert_eq!(wire.text(&["GET", &format!("k{client}")]), Value::Bulk(value.into_bytes()));
    }
}

#[test]
fn an_idle_connection_costs_less_than_four_kibibytes() {
    // Resident memory of a node with 2,000 connections that have been served once, against the same node without.
    const CLIENTS: u64 = 2_000;
    let node = node(&[]);
    let path = format!("/proc/{}/status", node.pid());
    let resident_kib = || -> u64 {
        let text = status(&path, "VmRSS");
        text.trim_end_matches(" kB").parse().expect("a number")
    };
    assert_eq!(Wire::connect(node.address()).text(&["PING"]), Value::Simple(b"PONG".to_vec()));
    let before = resident_kib();
    let mut wires: Vec<Wire> = (0..CLIENTS).map(|_| Wire::connect(node.address())).collect();
    for (client, wire) in wires.iter_mut().enumerate() {
        assert_eq!(wire.text(&["SET", &format!("{}", client % 10), "v"]), ok());
    }
    let each = resident_kib().saturating_sub(before) * 1024 / CLIENTS;
    println!("{each} bytes a connection");
    assert!(each < 4096, "{each} bytes a connection");
}

#[test]
fn each_core_is_pinned_to_one_cpu() {
    // Threads are named after their cores, those that the executors keep for blocking calls too, and each may run on one
    // CPU only. One core may answer while another one's thread has its name and not yet its place.
    let node = node(&[]);
    let cores = || -> Vec<(String, String)> {
        let tasks = fs::read_dir(format!("/proc/{}/task", node.pid())).expect("ours");
        let paths = tasks.map(|task| task.expect("a thread").path().join("status"));
        let statuses = paths.map(|path| path.to_str().expect("text").to_owned());
        let named = statuses.map(|path| (status(&path, "Name"), status(&path, "Cpus_allowed_list")));
        named.filter(|(name, _)| name.starts_with("core-")).collect()
    };
    let placed = |cores: &[(String, String)]| {
        let names: BTreeSet<&str> = cores.iter().map(|(name, _)| name.as_str()).collect();
        names.into_iter().eq(["core-0", "core-1"]) && cores.iter().all(|(_, cpus)| cpus.parse::<u32>().is_ok())
    };
    let until = Instant::now() + Duration::from_secs(20);
    let mut seen = cores();
    while !placed(&seen) {
        assert!(Instant::now() < until, "{seen:?}");
        thread::yield_now();
        seen = cores();
    }
}

/// A client that asked for far more than the sockets hold and reads nothing, so that the node cannot drain.
fn never_reading(node: &Process) -> Wire {
    let mut wire = Wire::connect(node.address());
    let value = "x".repeat(8 << 20);
    assert_eq!(wire.text(&["SET", "large", &value]), ok());
    wire.write(&encode(&[b"GET", b"large"]).repeat(8)).expect("written");
    thread::sleep(Duration::from_millis(200));
    wire
}

#[test]
fn the_end_waits_for_slow_readers_no_longer_than_the_timeout() {
    // With a reader that never reads, SIGTERM ends the node after shutdown-timeout, with exit code 0.
    let mut node = node(&["--shutdown-timeout", "1"]);
    let _reader = never_reading(&node);
    let begun = Instant::now();
    node.signal("TERM");
    let status = node.wait(WAIT).expect("it ends");
    assert_eq!(status.code(), Some(0), "{}", node.log());
    assert!(begun.elapsed() >= Duration::from_millis(900), "{:?}", begun.elapsed());
}

#[test]
fn a_second_signal_ends_the_node_at_once() {
    // As in Redis: who insists gets an end with exit code 1.
    let mut node = node(&["--shutdown-timeout", "600"]);
    let _reader = never_reading(&node);
    node.signal("TERM");
    assert!(node.wait(Duration::from_millis(300)).is_none(), "{}", node.log());
    node.signal("TERM");
    let status = node.wait(WAIT).expect("it ends");
    assert_eq!(status.code(), Some(1), "{}", node.log());
}
