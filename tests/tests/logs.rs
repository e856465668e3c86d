//! The log of a real process: what is in it, where it goes, and that nobody waits for it.

use std::{
    fs,
    io::Read,
    process::{Command, Stdio},
};

use eagle_resp::Value;
use eagle_tests::{
    process::{NO_ADMIN_PORT, Process, eagledb_path, free_port},
    wire::Wire,
};

fn ok() -> Value {
    Value::Simple(b"OK".to_vec())
}

#[test]
fn lines_say_whose_they_are_and_nothing_secret() {
    // JSON in a file: what a client did carries its number and address, at debug each request its number and command, changed while serving; no
    // key, value, password, name or mistake of a client is there. The file may be moved away meanwhile.
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("eagle.log");
    let mut node = Process::eagledb(&[
        "--pool",
        "none",
        "--shards",
        "2",
        "--log-file",
        path.to_str().expect("text"),
        "--log-json",
        "yes",
        "--log-level",
        "verbose",
    ]);
    let mut wire = Wire::connect(node.address());
    let Value::Integer(id) = wire.text(&["CLIENT", "ID"]) else { panic!("an id") };
    let words: [&[&str]; 8] = [
        &["SET", "hush1", "hush2"],
        &["CONFIG", "SET", "requirepass", "hush3"],
        &["AUTH", "hush3"],
        &["AUTH", "hush4", "hush5"],
        &["HELLO", "2", "AUTH", "default", "hush3", "SETNAME", "hush6"],
        &["hush7", "hush8"],
        &["GET", "hush1", "hush9"],
        &["MGET", "hush1", "hush2"],
    ];
    words.iter().for_each(|request| drop(wire.text(request)));
    assert_eq!(wire.text(&["CONFIG", "SET", "loglevel", "debug"]), ok());
    words.iter().for_each(|request| drop(wire.text(request)));
    let moved = dir.path().join("eagle.log.1");
    fs::rename(&path, &moved).expect("moved");
    assert_eq!(wire.text(&["CONFIG", "SET", "loglevel", "notice"]), ok());
    wire.text(&["SET", "hush1", "hush2"]);
    let address = wire.stream().local_addr().expect("bound").to_string();
    node.signal("TERM");
    assert!(node.wait(std::time::Duration::from_secs(60)).expect("it ends").success());
    let read = |path| fs::read_to_string(path).expect("a log");
    let (before, after) = (read(&moved), read(&path));
    let lines: Vec<serde_json::Value> =
        before.lines().chain(after.lines()).map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let said = |message: &'static str| lines.iter().filter(move |line| line["fields"]["message"] == message);
    let requests = |command: &str| said("executed").filter(|line| line["span"]["command"] == command).count();
    assert_eq!([requests("set"), requests("mget"), requests("auth")], [1, 1, 2], "only while they were asked for");
    let of_us = |line: &serde_json::Value| {
        let spans = line["spans"].as_array().expect("spans");
        spans.iter().any(|span| span["name"] == "connection" && span["id"] == id && span["addr"] == address)
    };
    assert!(said("executed").all(of_us) && said("Accepted").filter(|line| of_us(line)).count() == 1);
    assert!(said("a client changed the configuration: loglevel").count() == 2);
    assert!(said("a client changed the configuration: loglevel").all(of_us));
    assert!(!before.contains("hush") && !after.contains("hush"), "{before}{after}");
    assert!(after.contains("bye bye"), "what is said last is written: {after}");
}

#[test]
fn nobody_waits_for_a_log_that_nobody_reads() {
    // Standard output is a full pipe: commands are answered all the same, and what was dropped is counted.
    let port = free_port().to_string();
    let mut node = Command::new(eagledb_path())
        .env(NO_ADMIN_PORT.0, NO_ADMIN_PORT.1)
        .args(["--port", &port, "--bind", "127.0.0.1", "--pool", "none", "--shards", "1", "--loglevel", "debug"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .expect("it starts");
    let address = format!("127.0.0.1:{port}").parse().expect("an address");
    while std::net::TcpStream::connect(address).is_err() {
        assert!(node.try_wait().expect("a child").is_none(), "it runs");
        std::thread::yield_now();
    }
    let mut wire = Wire::connect(address);
    let lost = |wire: &mut Wire| {
        let Value::Bulk(info) = wire.text(&["INFO", "server"]) else { panic!("text") };
        let info = String::from_utf8(info).expect("text");
        let line = info.lines().find_map(|line| line.strip_prefix("eagle_log_lines_lost:")).expect("a line");
        line.parse::<u64>().expect("a number")
    };
    assert_eq!(lost(&mut wire), 0);
    let requests: Vec<u8> = b"PING\r\n".repeat(1000);
    let mut rounds = 0;
    while lost(&mut wire) == 0 {
        wire.write(&requests).expect("it reads");
        (0..1000).for_each(|_| assert_eq!(wire.reply().expect("a reply"), Value::Simple(b"PONG".to_vec())));
        rounds += 1;
        assert!(rounds < 1000, "a pipe and a queue hold less than that");
    }
    assert_eq!(wire.text(&["CONFIG", "SET", "loglevel", "nothing"]), ok());
    node.kill().expect("it runs");
    let mut said = Vec::new();
    node.stdout.take().expect("piped").read_to_end(&mut said).expect("read");
    node.wait().expect("a child");
    assert!(String::from_utf8_lossy(&said).contains("connection{id="));
}
