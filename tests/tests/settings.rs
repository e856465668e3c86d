//! Settings of the process changed while it serves: the same `CONFIG SET` to EagleDB and to a real Redis, the same replies, and the
//! same ports that answer afterwards.

use std::{
    fs,
    net::{TcpListener, TcpStream},
};

use eagle_resp::Value;
use eagle_tests::{process::Process, wire::Wire};

/// A server, a connection to it that outlives all its ports, and where it is.
struct Subject {
    process: Process,
    wire: Wire,
}

impl Subject {
    fn new(process: Process) -> Self {
        let wire = Wire::connect(process.address());
        Self { process, wire }
    }

    fn all() -> Vec<Self> {
        let protected = ["--enable-protected-configs", "yes"];
        let ours = ["1", "2"].map(|shards| Process::eagledb(&[&["--shards", shards][..], &protected].concat()));
        let redis = Process::start("redis-server".as_ref(), &[&["--save", ""][..], &protected].concat());
        [redis].into_iter().chain(ours).map(Self::new).collect()
    }

    fn set(&mut self, words: &[&str]) -> String {
        let words: Vec<&str> = ["CONFIG", "SET"].iter().chain(words).copied().collect();
        shown(&self.wire.text(&words))
    }

    fn get(&mut self, name: &str) -> String {
        match self.wire.text(&["CONFIG", "GET", name]) {
            Value::Array(items) => shown(&items[1]),
            other => panic!("{other:?} of CONFIG GET {name}"),
        }
    }
}

fn shown(value: &Value) -> String {
    match value {
        Value::Simple(text) | Value::Error(text) | Value::Bulk(text) => String::from_utf8_lossy(text).into_owned(),
        other => format!("{other:?}"),
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").expect("a free port").local_addr().expect("bound").port()
}

/// Whether a server answers there.
fn answers(port: u16) -> bool {
    TcpStream::connect(("127.0.0.1", port)).is_ok_and(|stream| {
        drop(stream);
        Wire::connect(([127, 0, 0, 1], port).into()).text(&["PING"]) == Value::Simple(b"PONG".to_vec())
    })
}

#[test]
fn ports_and_addresses_change_while_serving() {
    // A port that is taken, addresses of nobody, a name that is none, too many; another port, no port, all addresses, none: what is answered and
    // where is as with Redis, all pairs change or none, and connections of the old port stay.
    const FAILING: [&[&str]; 11] = [
        &["PORT", "{taken}", "timeout", "7"],
        &["timeout", "7", "bind", "127.0.0.1", "port", "{taken}"],
        &["port", "{taken}", "bind", "127.0.0.1"],
        &["bind", "192.0.2.1"],
        &["port", "{old}", "bind", "192.0.2.1"],
        &["bind", "127.0.0.1 192.0.2.1"],
        &["bind", "127.0.0.1 127.0.0.1"],
        &["bind", "nohost.invalid"],
        &["bind", "1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17"],
        &["port", "65536"],
        &["port", "{new}", "timeout", "x"],
    ];
    let stranger = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let taken = stranger.local_addr().expect("bound").port().to_string();
    let mut transcripts = Vec::new();
    for mut subject in Subject::all() {
        let mut transcript = Vec::new();
        let (old, new) = (subject.process.port(), free_port());
        subject.set(&["timeout", "300"]);
        let number = |word: &&str| {
            let word = word.replace("{taken}", &taken);
            word.replace("{new}", &new.to_string()).replace("{old}", &old.to_string())
        };
        for words in FAILING {
            let words: Vec<String> = words.iter().map(number).collect();
            let reply = subject.set(&words.iter().map(String::as_str).collect::<Vec<_>>());
            assert!(reply.starts_with("ERR CONFIG SET failed"), "{words:?}: {reply}");
            assert!(answers(old) && !answers(new), "{words:?}");
            assert_eq!(
                [subject.get("port"), subject.get("bind"), subject.get("timeout")],
                [old.to_string(), "127.0.0.1".to_owned(), "300".to_owned()]
            );
            transcript.push(reply);
        }
        let mut step = |words: &[&str]| {
            let reply = subject.set(words);
            transcript.push(
                format!("{words:?}: {reply}: {} {}", answers(old), answers(new)).replace(&new.to_string(), "new"),
            );
        };
        step(&["port", &new.to_string()]);
        step(&["bind", "*"]);
        step(&["bind", "* -::*"]);
        step(&["bind", ""]);
        step(&["bind", "127.0.0.1 -192.0.2.1"]);
        step(&["port", "0"]);
        step(&["port", &new.to_string(), "timeout", "8"]);
        step(&["port", &new.to_string()]);
        assert_eq!(
            [subject.get("port"), subject.get("bind"), subject.get("timeout")],
            [new.to_string(), "127.0.0.1 -192.0.2.1".to_owned(), "8".to_owned()]
        );
        transcripts.push(transcript);
    }
    for ours in &transcripts[1..] {
        assert_eq!(*ours, transcripts[0]);
    }
    assert!(transcripts[0][11].ends_with("OK: false true"), "{:?}", transcripts[0]);
}

#[test]
fn every_core_accepts_on_a_new_port() {
    // Of 64 connections to a port that came while serving, each of two cores has some; so again after the next change.
    let mut subject = Subject::new(Process::eagledb(&["--shards", "2"]));
    for _ in 0..3 {
        let port = free_port();
        assert_eq!(subject.set(&["port", &port.to_string()]), "OK");
        let mut clients: Vec<Wire> = (0..64).map(|_| Wire::connect(([127, 0, 0, 1], port).into())).collect();
        for client in &mut clients {
            assert_eq!(client.text(&["PING"]), Value::Simple(b"PONG".to_vec()));
        }
        let list = shown(&subject.wire.text(&["CLIENT", "LIST"]));
        let local = format!("laddr=127.0.0.1:{port} ");
        for core in ["core=0", "core=1"] {
            let count = list.lines().filter(|line| line.contains(&local) && line.contains(core)).count();
            assert!(count > 0, "{core} of {list}");
        }
    }
}

#[test]
fn the_working_directory_changes_while_serving() {
    // Where CONFIG GET says and the kernel sees; a folder that is none, or is refused with something else, changes nothing.
    let elsewhere = tempfile::tempdir().expect("a folder");
    let elsewhere = elsewhere.path().canonicalize().expect("it is there");
    let elsewhere = elsewhere.to_str().expect("text");
    let mut transcripts = Vec::new();
    for mut subject in Subject::all() {
        let here = |subject: &mut Subject| {
            let link = fs::read_link(format!("/proc/{}/cwd", subject.process.pid())).expect("a process has a folder");
            let link = link.to_str().expect("text").to_owned();
            assert_eq!(subject.get("dir"), link);
            link
        };
        let before = here(&mut subject);
        let mut transcript = Vec::new();
        for words in [
            &["dir", "/nowhere"][..],
            &["DIR", "/nowhere", "timeout", "x"],
            &["timeout", "x", "dir", "/nowhere"],
            &["dir", ""],
            &["dir", "/etc/passwd"],
            &["dir", elsewhere, "TIMEOUT", "x"],
            &["dir", elsewhere, "bind", "192.0.2.1"],
            &["dir", elsewhere, "bogus", "1"],
            &["dir", elsewhere, "dir", "/"],
        ] {
            transcript.push(subject.set(words));
            assert_eq!(here(&mut subject), before, "{words:?}");
        }
        transcript.push(subject.set(&["dir", elsewhere]));
        assert_eq!(here(&mut subject), elsewhere);
        transcripts.push(transcript);
    }
    for ours in &transcripts[1..] {
        assert_eq!(*ours, transcripts[0]);
    }
    let mut guarded = Subject::new(Process::eagledb(&[]));
    let refused = "ERR CONFIG SET failed (possibly related to argument 'dir') - can't set protected config";
    assert_eq!(guarded.set(&["dir", elsewhere]), refused);
}

/// Whether the kernel's timer for asking a silent client runs on the server's end of a connection.
fn is_kept_alive(client: &Wire) -> bool {
    const KEEPALIVE: &str = "02";
    let stream = client.stream();
    let hex = |address: std::net::SocketAddr| format!("0100007F:{:04X}", address.port());
    let ours = hex(stream.local_addr().expect("bound"));
    let theirs = hex(stream.peer_addr().expect("connected"));
    let table = fs::read_to_string("/proc/net/tcp").expect("the kernel's table");
    let row = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let row = row.into_iter().find(|row| row.len() > 5 && row[1] == theirs && row[2] == ours);
    row.expect("a connection is in the table")[5].starts_with(KEEPALIVE)
}

#[test]
fn keepalive_is_for_those_who_come() {
    // Off, on, and longer than Linux takes: connections that come after it, and not those that were there.
    for mut subject in Subject::all().into_iter().skip(1) {
        let address = subject.process.address();
        let mut seen = Vec::new();
        for seconds in ["300", "0", "60", "1000000"] {
            assert_eq!(subject.set(&["tcp-keepalive", seconds]), "OK");
            let mut client = Wire::connect(address);
            client.text(&["PING"]);
            seen.push(client);
        }
        assert_eq!(seen.iter().map(is_kept_alive).collect::<Vec<_>>(), [true, false, true, true]);
    }
}
