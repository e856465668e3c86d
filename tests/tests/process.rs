//! The real binary: sockets, signals, limits, and what it says when it cannot start.

use std::{
    io::{Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    os::unix::net::UnixStream,
    process::Command,
    time::{Duration, Instant},
};

use eagle_resp::Value;
use eagle_tests::{
    process::{Process, eagledb_path, run_eagledb},
    wire::{Wire, encode},
};

const WAIT: Duration = Duration::from_secs(30);

fn node(arguments: &[&str]) -> Process {
    let all: Vec<&str> = ["--pool", "none", "--shards", "2"].iter().chain(arguments).copied().collect();
    Process::eagledb(&all)
}

fn ok() -> Value {
    Value::Simple(b"OK".to_vec())
}

/// All that comes until the server closes.
fn read_to_end(stream: &mut TcpStream) -> Vec<u8> {
    stream.set_read_timeout(Some(WAIT)).expect("a timeout");
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).expect("the server closes");
    bytes
}

#[test]
fn sigterm_serves_what_has_arrived_and_exits_with_0() {
    // Ten thousand requests are on their way when the signal comes; those that were read are answered whole, in order.
    let mut node = node(&[]);
    let mut wire = Wire::connect(node.address());
    assert_eq!(wire.text(&["SET", "k", "v"]), ok());
    let pipeline = encode(&[b"INCR", b"n"]).repeat(10_000);
    wire.write(&pipeline).expect("written");
    assert_eq!(wire.reply().expect("a reply"), Value::Integer(1));
    node.signal("TERM");
    let mut expected = 2;
    while let Ok(reply) = wire.reply() {
        assert_eq!(reply, Value::Integer(expected));
        expected += 1;
    }
    let status = node.wait(WAIT).expect("it ends");
    assert_eq!(status.code(), Some(0), "{}", node.log());
}

#[test]
fn shutdown_ends_the_node() {
    // The command closes the connection without a reply, as Redis does, and the process exits with 0.
    let mut node = node(&[]);
    let mut wire = Wire::connect(node.address());
    wire.write(b"SHUTDOWN NOSAVE\r\n").expect("written");
    assert!(wire.reply().is_err());
    assert_eq!(node.wait(WAIT).expect("it ends").code(), Some(0), "{}", node.log());
}

#[test]
fn what_is_missing_to_start_is_one_sentence() {
    // A taken port, an unknown directive, a bad value, a folder that is none: exit code 1 and the cause by name.
    let taken = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    let port = taken.local_addr().expect("bound").port().to_string();
    let dir = tempfile::tempdir().expect("a folder");
    let dir = dir.path().to_str().expect("text");
    for (arguments, cause) in [
        (vec!["--port", &port, "--bind", "127.0.0.1", "--dir", dir], port.as_str()),
        (vec!["--no-such-directive", "1"], "no-such-directive"),
        (vec!["--port", "99999999"], "port"),
        (vec!["--dir", "/nowhere/at/all", "--port", "0"], "/nowhere/at/all"),
        (vec!["--appendonly", "yes", "--pool", "none"], "appendonly"),
        (vec!["/no/such/file.conf"], "/no/such/file.conf"),
        (vec!["--logfile", "/nowhere/log"], "command line: 'logfile': cannot write the log file '/nowhere/log'"),
    ] {
        let (code, text) = run_eagledb(&arguments);
        assert_eq!(code, 1, "{arguments:?}: {text}");
        assert!(text.contains(cause), "{arguments:?}: {text}");
        assert!(!text.contains("panicked"), "{arguments:?}: {text}");
    }
}

#[test]
fn what_a_machine_refuses_names_the_directive_its_line_and_the_remedy() {
    // A port in use, a folder that is not there, one that cannot be written, a socket that cannot be made: set in a file, found by
    // the start itself. Limits that are too low name what to raise.
    let taken = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    let port = taken.local_addr().expect("bound").port();
    let dir = tempfile::tempdir().expect("a folder");
    let (dir, file) = (dir.path().to_str().expect("text"), dir.path().join("eagledb.conf"));
    let path = file.to_str().expect("text");
    let here = format!("bind 127.0.0.1\ndir {dir}\n");
    for (text, place, remedy) in [
        (format!("{here}port {port}\n"), "line 3: 'port': ", "choose another --port."),
        (format!("{here}\n# a comment\ndir /nowhere/at/all\n"), "line 5: 'dir': ", "set --dir to one that exists."),
        (
            format!("{here}port 0\nunixsocket /nowhere/socket\n"),
            "line 4: 'unixsocket': ",
            "correct --bind, --port or --unixsocket.",
        ),
        (format!("dir {dir}\nport 6379\nbind -192.0.2.1\n"), "line 3: 'bind': ", "correct --bind."),
        (format!("{here}maxclients none\n"), "line 3: 'maxclients': ", "argument couldn't be parsed into an integer"),
    ] {
        std::fs::write(&file, &text).expect("written");
        let (code, said) = run_eagledb(&[path, "--shards", "1"]);
        let line = said.lines().last().expect("a line");
        assert!(code == 1 && line.starts_with(&format!("{path}, {place}")) && line.ends_with(remedy), "{text}: {said}");
    }
    for (limit, directive, remedy) in
        [("-n 20", "open files are needed", "ulimit -n"), ("-l 64", "'shards': ", "LimitMEMLOCK=infinity")]
    {
        // Without capabilities, as limits do not bind who has them.
        let node = format!("{} --port 0 --shards 1 --dir {dir}", eagledb_path().display());
        let bare = "[ $(id -u) -ne 0 ] || bare='setpriv --bounding-set -all --inh-caps -all'";
        let mut shell = Command::new("bash");
        shell.args(["-c", &format!("{bare}; ulimit {limit}; exec $bare {node}")]);
        let output = shell.output().expect("bash runs");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.code() == Some(1) && said.contains(directive) && said.contains(remedy),
            "{limit}: {said}"
        );
    }
}

#[test]
fn a_configuration_file_in_redis_grammar_is_the_first_argument() {
    // Quotes, comments, blank lines; a flag behind it wins.
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("eagledb.conf");
    std::fs::write(&file, "# a comment\n\nmaxclients 17\nrequirepass \"pass word\"\ntimeout 42\n").expect("written");
    let path = file.to_str().expect("text").to_owned();
    let node = Process::eagledb(&[&path, "--pool", "none", "--timeout", "43"]);
    let mut wire = Wire::connect(node.address());
    assert_eq!(wire.text(&["PING"]), Value::Error(b"NOAUTH Authentication required.".to_vec()));
    assert_eq!(wire.text(&["AUTH", "pass word"]), ok());
    let get = |wire: &mut Wire, name: &str| wire.text(&["CONFIG", "GET", name]);
    let pair = |name: &str, value: &str| {
        Value::Array(vec![Value::Bulk(name.as_bytes().to_vec()), Value::Bulk(value.as_bytes().to_vec())])
    };
    assert_eq!(get(&mut wire, "maxclients"), pair("maxclients", "17"));
    assert_eq!(get(&mut wire, "timeout"), pair("timeout", "43"));
}

#[test]
fn a_client_over_the_limit_gets_redis_error() {
    // The eleventh client is told and closed; when one leaves, the next is served.
    let node = node(&["--maxclients", "10"]);
    let mut clients = vec![Wire::connect(node.address())];
    // Who looked whether it serves is gone only when the server has seen it go.
    let is_alone = |client: &mut Wire| match client.text(&["CLIENT", "LIST"]) {
        Value::Bulk(list) => list.iter().filter(|byte| **byte == b'\n').count() == 1,
        other => panic!("{other:?}"),
    };
    while !is_alone(&mut clients[0]) {}
    clients.extend((1..10).map(|_| Wire::connect(node.address())));
    for client in &mut clients {
        assert_eq!(client.text(&["PING"]), Value::Simple(b"PONG".to_vec()));
    }
    let mut late = TcpStream::connect(node.address()).expect("accepted");
    assert_eq!(read_to_end(&mut late), b"-ERR max number of clients reached\r\n");
    drop(clients.pop());
    let until = Instant::now() + WAIT;
    loop {
        let mut next = Wire::connect(node.address());
        if next.write(b"PING\r\n").is_ok() && next.reply().is_ok_and(|reply| reply == Value::Simple(b"PONG".to_vec())) {
            break;
        }
        assert!(Instant::now() < until, "a place is free again");
    }
}

#[test]
fn an_idle_client_is_closed_and_a_busy_one_is_not() {
    // With a timeout of one second.
    let node = node(&["--timeout", "1"]);
    let mut idle = TcpStream::connect(node.address()).expect("accepted");
    let mut busy = Wire::connect(node.address());
    idle.set_nonblocking(true).expect("nonblocking");
    let until = Instant::now() + WAIT;
    loop {
        assert_eq!(busy.text(&["PING"]), Value::Simple(b"PONG".to_vec()));
        match idle.read(&mut [0; 16]) {
            Ok(0) => break,
            Ok(_) => panic!("nothing was asked"),
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock),
        }
        assert!(Instant::now() < until, "the idle client is closed");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_pipeline_is_answered_although_nothing_is_read_meanwhile() {
    // As redis-py does: all requests are written before the first reply is read.
    let node = node(&[]);
    let mut wire = Wire::connect(node.address());
    let value = vec![b'v'; 100];
    assert_eq!(wire.command(&[b"SET", b"key", &value]), ok());
    assert_eq!(wire.command(&[b"SET", b"other", &value]), ok());
    let mut pipeline = Vec::new();
    for index in 0..100_000 {
        pipeline.extend(encode(&[b"GET", if index % 2 == 0 { b"key" } else { b"other" }]));
    }
    wire.write(&pipeline).expect("the server goes on reading");
    for _ in 0..100_000 {
        assert_eq!(wire.reply().expect("a reply"), Value::Bulk(value.clone()));
    }
}

#[test]
fn a_slow_reader_is_cut_off_at_its_output_limit() {
    // It never reads; once its replies exceed the hard limit the connection ends, and others never notice.
    let node = node(&["--client-output-buffer-limit", "normal 1mb 0 0"]);
    let mut other = Wire::connect(node.address());
    assert_eq!(other.command(&[b"SET", b"big", &vec![b'v'; 100_000]]), ok());
    let mut slow = TcpStream::connect(node.address()).expect("accepted");
    slow.set_write_timeout(Some(WAIT)).expect("a timeout");
    let request = encode(&[b"GET", b"big"]);
    let cut = (0..100_000).any(|_| slow.write_all(&request).is_err());
    // What the kernel has taken in both directions may still be read; all replies would be 10 GB.
    slow.set_read_timeout(Some(WAIT)).expect("a timeout");
    let mut left = 100 << 20;
    let mut buffer = vec![0; 1 << 20];
    let mut ended = cut;
    while !ended {
        match slow.read(&mut buffer) {
            Ok(0) => ended = true,
            Ok(count) => left -= count.min(left),
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => ended = true,
            Err(error) => panic!("the connection ends: {error}"),
        }
        assert!(left > 0, "the server closes the connection");
    }
    assert_eq!(other.text(&["PING"]), Value::Simple(b"PONG".to_vec()));
}

#[test]
fn a_byte_at_a_time_is_enough() {
    // Each byte of several requests in a packet of its own, multibulk and inline.
    let node = node(&[]);
    let mut wire = Wire::connect(node.address());
    let mut bytes = encode(&[b"SET", b"k", b"value"]);
    bytes.extend_from_slice(b"get \"k\"\r\n");
    for byte in bytes {
        wire.write(&[byte]).expect("written");
    }
    assert_eq!(wire.reply().expect("a reply"), ok());
    assert_eq!(wire.reply().expect("a reply"), Value::Bulk(b"value".to_vec()));
}

#[test]
fn after_half_close_the_replies_still_come() {
    // The client shuts its sending side; all replies arrive, then the end.
    let node = node(&[]);
    let mut stream = TcpStream::connect(node.address()).expect("accepted");
    stream.write_all(&encode(&[b"INCR", b"n"]).repeat(1000)).expect("written");
    stream.shutdown(Shutdown::Write).expect("half closed");
    let replies = read_to_end(&mut stream);
    let expected: String = (1..=1000).map(|n| format!(":{n}\r\n")).collect();
    assert_eq!(String::from_utf8_lossy(&replies), expected);
}

#[test]
fn a_protocol_error_is_told_in_redis_words_then_the_end() {
    // What was whole before it still is answered.
    let node = node(&[]);
    for (bytes, expected) in [
        (&b"PING\r\n*1\r\n!\r\n"[..], &b"+PONG\r\n-ERR Protocol error: expected '$', got '!'\r\n"[..]),
        (b"*99999999999\r\n", b"-ERR Protocol error: invalid multibulk length\r\n"),
        (b"*1\r\n$-5\r\n", b"-ERR Protocol error: invalid bulk length\r\n"),
        (b"set \"a\r\n", b"-ERR Protocol error: unbalanced quotes in request\r\n"),
    ] {
        let mut stream = TcpStream::connect(node.address()).expect("accepted");
        stream.write_all(bytes).expect("written");
        assert_eq!(String::from_utf8_lossy(&read_to_end(&mut stream)), String::from_utf8_lossy(expected));
    }
}

#[test]
fn a_large_value_goes_in_and_out() {
    // 64 MB; 512 MB, the limit, with EAGLE_LONG. One byte more than the limit is refused.
    let node = node(&["--proto-max-bulk-len", "512mb"]);
    let len = if std::env::var_os("EAGLE_LONG").is_some() { 512 << 20 } else { 64 << 20 };
    let mut wire = Wire::connect(node.address());
    let value: Vec<u8> = (0..len).map(|index: usize| (index / 7) as u8).collect();
    assert_eq!(wire.command(&[b"SET", b"big", &value]), ok());
    assert_eq!(wire.text(&["STRLEN", "big"]), Value::Integer(len as i64));
    assert!(wire.text(&["GET", "big"]) == Value::Bulk(value), "the same bytes");
    wire.write(b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$536870913\r\n").expect("written");
    assert_eq!(wire.reply().expect("a reply"), Value::Error(b"ERR Protocol error: invalid bulk length".to_vec()));
}

#[test]
fn a_unix_socket_serves_too() {
    // With the permissions that were asked for.
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("eagledb.sock");
    let node = node(&["--unixsocket", path.to_str().expect("text"), "--unixsocketperm", "700"]);
    let mut stream = UnixStream::connect(&path).expect("accepted");
    stream.set_read_timeout(Some(WAIT)).expect("a timeout");
    stream.write_all(b"PING\r\n").expect("written");
    let mut reply = [0; 7];
    stream.read_exact(&mut reply).expect("a reply");
    assert_eq!(&reply, b"+PONG\r\n");
    let mode = std::os::unix::fs::PermissionsExt::mode(&path.metadata().expect("there").permissions());
    assert_eq!(mode & 0o777, 0o700);
    drop(node);
}

#[test]
fn two_thousand_connections_are_served() {
    // Held open together, each answered twice; ten thousand with EAGLE_LONG.
    let count = if std::env::var_os("EAGLE_LONG").is_some() { 9_900 } else { 2_000 };
    let node = node(&[]);
    let mut wires: Vec<Wire> = (0..count).map(|_| Wire::connect(node.address())).collect();
    for round in 0..2 {
        for (index, wire) in wires.iter_mut().enumerate() {
            wire.write(&encode(&[b"ECHO", format!("{round}:{index}").as_bytes()])).expect("written");
        }
        for (index, wire) in wires.iter_mut().enumerate() {
            let expected = Value::Bulk(format!("{round}:{index}").into_bytes());
            assert_eq!(wire.reply().expect("a reply"), expected);
        }
    }
}

#[test]
fn scan_finds_every_key_on_all_shards() {
    // A whole iteration over two shards while other keys come and go returns each key that stays.
    let node = node(&[]);
    let mut wire = Wire::connect(node.address());
    for key in 0..3_000 {
        wire.write(&encode(&[b"SET", format!("stays:{key}").as_bytes(), b"v"])).expect("written");
    }
    for _ in 0..3_000 {
        assert_eq!(wire.reply().expect("a reply"), ok());
    }
    let mut found = std::collections::BTreeSet::new();
    let mut cursor = b"0".to_vec();
    for round in 0.. {
        wire.command(&[b"SET", format!("comes:{round}").as_bytes(), b"v"]);
        wire.command(&[b"DEL", format!("comes:{}", round / 2).as_bytes()]);
        let Value::Array(parts) = wire.command(&[b"SCAN", &cursor, b"MATCH", b"stays:*", b"COUNT", b"50"]) else {
            panic!("cursor and keys");
        };
        let [Value::Bulk(next), Value::Array(keys)] = &parts[..] else { panic!("cursor and keys: {parts:?}") };
        found.extend(keys.iter().map(|key| format!("{key:?}")));
        cursor.clone_from(next);
        if cursor == b"0" {
            break;
        }
    }
    assert_eq!(found.len(), 3_000);
}

/// The number of a field of INFO.
fn info_number(wire: &mut Wire, name: &str) -> u64 {
    let Value::Bulk(text) = wire.text(&["INFO", "everything"]) else { panic!("a text") };
    let text = String::from_utf8(text).expect("text");
    let field = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).expect("a field of INFO");
    field.trim().parse().expect("a number")
}

#[test]
fn memory_stays_within_maxmemory_while_ten_times_as_much_is_written() {
    // Both of what is counted and of what the kernel says; 12 MiB are for the rings, heaps and stacks of two cores. Nobody is
    // refused, and a lower limit is reached without a further write.
    const LIMIT: u64 = 48 << 20;
    let node = node(&["--maxmemory", "48mb", "--maxmemory-policy", "allkeys-lru"]);
    let mut wire = Wire::connect(node.address());
    let empty = info_number(&mut wire, "used_memory_rss");
    let (value, batch) = ([b'v'; 1_000], 500);
    for first in (0..10 * LIMIT / 1_000).step_by(batch) {
        let names = (first..first + batch as u64).map(|number| format!("key:{number}"));
        let pipeline: Vec<u8> = names.flat_map(|name| encode(&[b"SET", name.as_bytes(), &value])).collect();
        wire.write(&pipeline).expect("written");
        for _ in 0..batch {
            assert_eq!(wire.reply().expect("a reply"), ok());
        }
    }
    // Now the memory is made use of; a moment later what died of it is compacted away.
    let full = info_number(&mut wire, "used_memory");
    assert!(full < LIMIT * 102 / 100 && full > LIMIT * 8 / 10, "{full} of {LIMIT}");
    std::thread::sleep(Duration::from_millis(1_500));
    let (used, resident) = (info_number(&mut wire, "used_memory"), info_number(&mut wire, "used_memory_rss"));
    assert!(used <= LIMIT, "{used} of {LIMIT}");
    assert!(resident - empty < LIMIT * 102 / 100 + (12 << 20), "{resident} resident, {empty} when it was empty");
    assert!(info_number(&mut wire, "evicted_keys") > 8 * LIMIT / 1_000);
    assert_eq!(info_number(&mut wire, "current_eviction_exceeded_time"), 0);
    assert_eq!(wire.text(&["CONFIG", "SET", "maxmemory", "16mb"]), ok());
    let deadline = Instant::now() + WAIT;
    while info_number(&mut wire, "used_memory") > 16 << 20 {
        assert!(Instant::now() < deadline, "{} is used still", info_number(&mut wire, "used_memory"));
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(matches!(wire.text(&["DBSIZE"]), Value::Integer(keys) if keys > 10_000));
}
