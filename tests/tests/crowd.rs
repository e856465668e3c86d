//! `maxmemory-clients` beside a real Redis: the same clients are disconnected.

use std::{io::Read, time::Duration};

use eagle_resp::Value;
use eagle_tests::{process::Process, wire::Wire};

/// A client whose unfinished request takes so many MiB.
fn heavy(process: &Process, mb: usize, no_evict: bool) -> Wire {
    let mut wire = Wire::connect(process.address());
    if no_evict {
        assert_eq!(wire.text(&["CLIENT", "NO-EVICT", "ON"]), ok());
    }
    let bytes = mb << 20;
    wire.write(format!("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n${bytes}\r\n").as_bytes()).expect("written");
    wire.write(&vec![b'x'; bytes - 1]).expect("written");
    wire
}

fn ok() -> Value {
    Value::Simple(b"OK".to_vec())
}

/// The memory of all clients but the asker, by `CLIENT LIST`.
fn taken(operator: &mut Wire) -> usize {
    let Value::Bulk(list) = operator.text(&["CLIENT", "LIST"]) else { panic!("a list") };
    let list = String::from_utf8(list).expect("text");
    let others = list.lines().filter(|line| !line.contains("cmd=client|list"));
    let memory = others.map(|line| {
        let field = line.split(' ').find_map(|field| field.strip_prefix("tot-mem="));
        field.expect("a field").parse::<usize>().expect("a number")
    });
    memory.sum()
}

fn evicted(operator: &mut Wire) -> String {
    let Value::Bulk(info) = operator.text(&["INFO", "stats"]) else { panic!("a text") };
    let info = String::from_utf8(info).expect("text");
    info.lines().find_map(|line| line.strip_prefix("evicted_clients:")).expect("a field").to_owned()
}

/// Whether the server has disconnected a client, at once or while it is waited for.
fn is_gone(wire: &Wire, patience: Duration) -> bool {
    let mut stream = wire.stream().try_clone().expect("a socket can be shared");
    stream.set_read_timeout(Some(patience)).expect("a timeout");
    match stream.read(&mut [0]) {
        Ok(0) => true,
        Ok(_) => panic!("nobody replies to half a request"),
        Err(error) => !matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut),
    }
}

/// Which of the clients are gone after each limit, and how many were counted.
fn transcript(process: &Process) -> Vec<(Vec<bool>, String)> {
    let mut operator = Wire::connect(process.address());
    assert_eq!(operator.text(&["CLIENT", "NO-EVICT", "ON"]), ok());
    let sizes = [(1, false), (4, false), (16, false), (1, false), (8, true)];
    let clients: Vec<Wire> = sizes.into_iter().map(|(mb, no_evict)| heavy(process, mb, no_evict)).collect();
    // All of it has arrived.
    let until = std::time::Instant::now() + Duration::from_secs(60);
    while taken(&mut operator) < 30 << 20 {
        assert!(std::time::Instant::now() < until, "the server reads");
    }
    let mut seen = Vec::new();
    for (limit, expected) in [("0", 0), ("1gb", 0), ("30%", 0), ("less", 1), ("less", 2), ("1mb", 4)] {
        // What a client takes for its request is each server's own: less than all take is too little for the largest.
        let less = (taken(&mut operator) - 1).to_string();
        let set = ["CONFIG", "SET", "maxmemory-clients", if limit == "less" { &less } else { limit }];
        assert_eq!(operator.text(&set), ok());
        let until = std::time::Instant::now() + Duration::from_secs(60);
        while evicted(&mut operator) != expected.to_string() {
            assert!(std::time::Instant::now() < until, "{limit}: {} evicted, not {expected}", evicted(&mut operator));
        }
        let gone = clients.iter().map(|client| is_gone(client, Duration::from_millis(50))).collect();
        seen.push((gone, evicted(&mut operator)));
    }
    seen
}

#[test]
fn clients_that_take_most_are_disconnected() {
    // Half-sent arguments of 16, 4, 1 and 1 MB, and of 8 MB by one with NO-EVICT: the largest goes first, then the next, then all but the
    // protected one although it alone takes too much; counted alike. A percentage of no limit is none.
    let redis = transcript(&Process::start("redis-server".as_ref(), &["--save", ""]));
    let [no, yes] = [false, true];
    assert_eq!(redis[3].0, [no, no, yes, no, no]);
    assert_eq!(redis[4].0, [no, yes, yes, no, no]);
    assert_eq!(redis[5].0, [yes, yes, yes, yes, no]);
    for shards in ["1", "2"] {
        let ours = transcript(&Process::eagledb(&["--shards", shards, "--pool", "none"]));
        assert_eq!(ours, redis, "{shards} shards");
    }
}
