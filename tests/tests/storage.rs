//! Real processes with pools in files: locked, slow, full and broken storage, and what is there after a start.

use std::{path::Path, process::Command, sync::Arc, time::Duration};

use eagle_resp::Value;
use eagle_tests::{
    process::{Process, eagledb_path, run_eagledb},
    wire::Wire,
};
use tempfile::TempDir;

/// How long the end of a process may take, even on a loaded machine.
const WAIT: Duration = Duration::from_secs(60);

fn ok() -> Value {
    Value::Simple(b"OK".to_vec())
}

fn node(arguments: &[&str]) -> (Process, Wire) {
    let all: Vec<&str> = ["--pool", "file", "--enable-debug-command", "yes"].iter().chain(arguments).copied().collect();
    let node = Process::eagledb(&all);
    let wire = Wire::connect(node.address());
    (node, wire)
}

/// Starts anew in the folder of a process that has ended.
fn again(folder: &Arc<TempDir>, arguments: &[&str]) -> (Process, Wire) {
    let all: Vec<&str> = ["--pool", "file"].iter().chain(arguments).copied().collect();
    let node = Process::start_in(&eagledb_path(), folder, &all);
    let wire = Wire::connect(node.address());
    (node, wire)
}

fn info(wire: &mut Wire, field: &str) -> String {
    let Value::Bulk(text) = wire.text(&["INFO", "persistence"]) else { panic!("INFO is text") };
    let text = String::from_utf8(text).expect("text");
    let begin = format!("{field}:");
    let line = text.lines().find_map(|line| line.strip_prefix(&begin));
    line.unwrap_or_else(|| panic!("{field} is in {text}")).to_owned()
}

fn is_misconf(reply: &Value) -> bool {
    matches!(reply, Value::Error(line) if line.starts_with(b"MISCONF"))
}

#[test]
fn a_folder_serves_one_process() {
    // The second one ends at once and names the first; after that has ended, even by kill -9, the folder is free.
    let (mut first, _) = node(&["--shards", "1"]);
    let dir = first.dir().to_str().expect("text").to_owned();
    let (code, text) = run_eagledb(&["--port", "0", "--unixsocket", &format!("{dir}/s"), "--dir", &dir]);
    assert_eq!(code, 1, "{text}");
    assert!(text.contains(&format!("in use by process {}", first.pid())), "{text}");
    let folder = first.folder();
    first.signal("KILL");
    first.wait(WAIT).expect("it ends");
    again(&folder, &[]);
}

/// What DEBUG DIGEST says.
fn digest(wire: &mut Wire) -> Value {
    wire.text(&["DEBUG", "DIGEST"])
}

#[test]
fn keys_are_dealt_out_to_another_number_of_shards() {
    // Strings, one of them long, hashes small and large, expiries, two databases: from 3 shards to 2, to 5 after kill -9, and back, each
    // time everything is there; without being asked for a number, the server takes the pools'.
    let (mut server, mut wire) = node(&["--shards", "3", "--enable-debug-command", "yes"]);
    for number in 0..3000 {
        wire.text(&["SET", &format!("key:{number}"), &format!("value {number}")]);
    }
    wire.text(&["SET", "long", &"long ".repeat(100_000)]);
    wire.text(&["PEXPIREAT", "key:7", "9999999999999"]);
    for number in 0..2000 {
        wire.text(&["HSET", "large", &format!("field:{number}"), "v"]);
    }
    wire.text(&["HSET", "small", "field", "value"]);
    wire.text(&["SELECT", "3"]);
    wire.text(&["SET", "other", "database"]);
    let before = digest(&mut wire);
    for (signal, shards) in [("TERM", "2"), ("KILL", "5"), ("TERM", "3"), ("KILL", "0")] {
        let folder = server.folder();
        server.signal(signal);
        server.wait(WAIT).expect("it ends");
        (server, wire) = again(&folder, &["--shards", shards, "--enable-debug-command", "yes"]);
        assert_eq!(digest(&mut wire), before, "with {shards} shards");
        let Value::Bulk(text) = wire.text(&["INFO", "server"]) else { panic!("INFO is text") };
        let expected = if shards == "0" { "3" } else { shards };
        assert!(String::from_utf8_lossy(&text).contains(&format!("\r\nshards:{expected}\r\n")));
        wire.text(&["SET", "written", shards]);
        wire.text(&["DEL", "written"]);
    }
}

#[test]
fn what_was_acknowledged_is_there_after_kill_9() {
    // Under each mode, several times on the same folder: sets, overwrites, deletes; the last state acknowledged is found.
    for mode in ["always", "everysec", "no"] {
        let (mut node, mut wire) = node(&["--shards", "2", "--sync", mode]);
        let folder = node.folder();
        for round in 0..4 {
            for key in 0..200 {
                let (key, value) = (format!("key{key}"), format!("{mode}-{round}-{key}"));
                wire.send(&[b"SET", key.as_bytes(), value.as_bytes()]);
                let reply = wire.reply().unwrap_or_else(|error| panic!("{error}: {}", node.log()));
                assert_eq!(reply, ok());
            }
            assert_eq!(wire.text(&["DEL", &format!("key{round}")]), Value::Integer(1));
            node.signal("KILL");
            node.wait(WAIT).expect("it ends");
            (node, wire) = again(&folder, &["--sync", mode]);
            assert_eq!(wire.text(&["DBSIZE"]), Value::Integer(199), "{mode}, round {round}: {}", node.log());
            for key in 0..200 {
                let expected =
                    if key == round { Value::Null } else { Value::Bulk(format!("{mode}-{round}-{key}").into_bytes()) };
                assert_eq!(wire.text(&["GET", &format!("key{key}")]), expected, "{mode}, round {round}");
            }
            assert_eq!(info(&mut wire, "loading"), "0");
        }
    }
}

#[test]
fn what_was_acknowledged_is_there_after_an_orderly_end() {
    // SIGTERM and SHUTDOWN, with values of all sizes.
    let (mut node, mut wire) = node(&["--shards", "2"]);
    let folder = node.folder();
    let sizes = [0, 1, 100, 5_000, 100_000, 3_000_000];
    for (nth, size) in sizes.into_iter().enumerate() {
        assert_eq!(wire.text(&["SET", &format!("key{nth}"), &"v".repeat(size)]), ok());
    }
    for end in ["TERM", "SHUTDOWN"] {
        match end {
            "TERM" => node.signal("TERM"),
            _ => wire.send(&[b"SHUTDOWN"]),
        }
        assert!(node.wait(WAIT).expect("it ends").success(), "{}", node.log());
        (node, wire) = again(&folder, &[]);
        for (nth, size) in sizes.into_iter().enumerate() {
            let Value::Bulk(value) = wire.text(&["GET", &format!("key{nth}")]) else { panic!("after {end}: key{nth}") };
            assert_eq!(value.len(), size);
        }
    }
}

#[test]
fn a_slow_sync_keeps_those_waiting_who_asked_for_it() {
    // Syncs take an hour. Writes under everysec, reads, and PING are answered meanwhile; WAITAOF says that it is not synced; a
    // connection that wants its write synced has no reply as long as that is so.
    let (node, mut wire) = node(&["--shards", "2"]);
    assert_eq!(wire.text(&["SET", "before", "1"]), ok());
    assert_eq!(wire.text(&["DEBUG", "STORAGE", "DELAY-SYNC", "3600000"]), ok());
    for key in 0..100 {
        assert_eq!(wire.text(&["SET", &format!("key{key}"), "v"]), ok());
        assert_eq!(wire.text(&["GET", "before"]), Value::Bulk(b"1".to_vec()));
    }
    let mut strict = Wire::connect(node.address());
    assert_eq!(strict.text(&["CLIENT", "DURABILITY", "always"]), ok());
    strict.send(&[b"SET", b"key0", b"w"]);
    assert_eq!(wire.text(&["PING"]), Value::Simple(b"PONG".to_vec()));
    let none = Value::Array(vec![Value::Integer(0), Value::Integer(0)]);
    assert_eq!(wire.text(&["WAITAOF", "1", "0", "100"]), none);
    assert_ne!(info(&mut wire, "aof_pending_bio_fsync"), "0");
    assert!(strict.is_silent(), "what is not synced is not acknowledged to who wants it synced");
}

#[test]
fn short_writes_are_done_in_full() {
    // Each write is done in two pieces; what was acknowledged is there after kill -9, and nobody was told of any error.
    let (mut node, mut wire) = node(&["--shards", "1", "--sync", "always"]);
    assert_eq!(wire.text(&["DEBUG", "STORAGE", "SHORT-WRITE"]), ok());
    for key in 0..50 {
        assert_eq!(wire.text(&["SET", &format!("key{key}"), &"v".repeat(10_000)]), ok());
    }
    let folder = node.folder();
    node.signal("KILL");
    node.wait(WAIT).expect("it ends");
    let (_node, mut wire) = again(&folder, &[]);
    assert_eq!(wire.text(&["DBSIZE"]), Value::Integer(50));
}

#[test]
fn failed_writes_and_syncs_are_final() {
    // Whose reply waited is closed; writers are refused although the medium is well again, readers of what was there are served,
    // INFO says so; the process ends in order, and the next start knows nothing of it.
    for (fault, sync) in [("FAIL-WRITE", "always"), ("FAIL-WRITE", "everysec"), ("FAIL-SYNC", "always")] {
        let (mut node, mut wire) = node(&["--shards", "1", "--sync", sync]);
        assert_eq!(wire.text(&["SET", "before", "1"]), ok());
        assert_eq!(info(&mut wire, "aof_last_write_status"), "ok");
        assert_eq!(wire.text(&["DEBUG", "STORAGE", fault, "5"]), ok());
        let mut writer = Wire::connect(node.address());
        writer.send(&[b"SET", b"key", b"v"]);
        assert!(writer.reply().is_err(), "{fault} under {sync}: nothing is acknowledged");
        assert_eq!(wire.text(&["DEBUG", "STORAGE", "OFF"]), ok());
        assert!(is_misconf(&wire.text(&["SET", "key", "w"])), "{fault} under {sync}");
        assert_eq!(wire.text(&["GET", "before"]), Value::Bulk(b"1".to_vec()));
        assert_eq!(info(&mut wire, "aof_last_write_status"), "err");
        assert!(node.says("Input/output error"), "{}", node.log());
        let folder = node.folder();
        node.signal("TERM");
        assert!(node.wait(WAIT).expect("it ends").success(), "{}", node.log());
        let (_node, mut wire) = again(&folder, &[]);
        assert_eq!(wire.text(&["GET", "before"]), Value::Bulk(b"1".to_vec()), "{fault} under {sync}");
        assert_eq!(wire.text(&["SET", "key", "w"]), ok());
    }
}

/// How many records the server read when it started, as its log says.
fn records_loaded(node: &Process) -> usize {
    assert!(node.says("has loaded "), "it has loaded something");
    let log = node.log();
    let (_, behind) = log.split_once("has loaded ").unwrap_or_else(|| panic!("it has loaded something: {log}"));
    behind.split_once(' ').and_then(|(number, _)| number.parse().ok()).unwrap_or_else(|| panic!("a number: {log}"))
}

#[test]
fn a_start_after_kill_9_reads_what_came_after_the_last_checkpoint() {
    // Keys, hashes and a long string, overwritten and deleted while checkpoints are written; killed, the next start reads a part of
    // the records and has everything, again and again.
    let often = ["--shards", "1", "--checkpoint-bytes", "100kb", "--enable-debug-command", "yes"];
    let (mut server, mut wire) = node(&often);
    let folder = server.folder();
    for round in 0..3 {
        for number in 0..6000 {
            wire.text(&["SET", &format!("key:{number}"), &format!("value {number} of {round}")]);
            if number % 10 == 0 {
                wire.text(&["HSET", "large", &format!("field:{number}"), &round.to_string()]);
                wire.text(&["DEL", &format!("key:{}", number / 2)]);
            }
            if number % 1000 == 0 {
                wire.text(&["SETRANGE", "long", &(number * 300).to_string(), "here"]);
            }
        }
        let path = server.dir().join("shard-00.checkpoint");
        let has_come = (0..600).any(|_| {
            std::thread::sleep(Duration::from_millis(20));
            path.exists() && server.log().contains("wrote a checkpoint")
        });
        assert!(has_come, "{}", server.log());
        let before = digest(&mut wire);
        server.signal("KILL");
        server.wait(WAIT).expect("it ends");
        (server, wire) = again(&folder, &often);
        assert_eq!(digest(&mut wire), before, "round {round}: {}", server.log());
        assert!(records_loaded(&server) < 6000 * (round + 1), "round {round}: {}", server.log());
    }
}

#[test]
fn a_damaged_checkpoint_is_named_and_not_used() {
    // As an orderly end leaves it, it is sound for the check; with a flipped bit anywhere the check says so, the start logs that it is
    // removed, and everything is there.
    let (mut server, mut wire) = node(&["--shards", "1"]);
    let (folder, path) = (server.folder(), server.dir().join("shard-00.checkpoint"));
    for number in 0..500 {
        assert_eq!(wire.text(&["SET", &format!("key:{number}"), "v"]), ok());
    }
    let before = digest(&mut wire);
    for damaged_part in [0, 3, 7, 9] {
        server.signal("TERM");
        assert!(server.wait(WAIT).expect("it ends").success(), "{}", server.log());
        let dir = folder.path().to_str().expect("text");
        let (code, text) = run_eagledb(&["check", "--dir", dir]);
        assert!(code == 0 && text.contains("checkpoint: sound"), "{text}");
        let mut bytes = std::fs::read(&path).expect("a checkpoint");
        // Behind its own padding the end has nothing that could be damaged.
        let at = (bytes.len() - 64) * damaged_part / 10;
        let at = (at..bytes.len()).find(|at| bytes[*at] != 0).expect("not all is zeros");
        bytes[at] ^= 8;
        std::fs::write(&path, bytes).expect("a file");
        let (code, text) = run_eagledb(&["check", "--dir", dir, "--json"]);
        assert!(code == 1 && text.contains("\"checkpoint\": \"damaged\""), "byte {at}: {text}");
        (server, wire) = again(&folder, &["--enable-debug-command", "yes"]);
        assert!(server.says("is damaged, or does not fit"), "{}", server.log());
        assert_eq!(digest(&mut wire), before, "byte {at}");
    }
}

#[test]
fn a_checkpoint_that_cannot_be_written_harms_nobody() {
    // Where its file is to be, there is a folder: that is logged, all is served, and after kill -9 everything is there.
    let (server, _) = node(&["--shards", "1"]);
    let folder = server.folder();
    drop(server);
    let path = folder.path().join("shard-00.checkpoint.new");
    std::fs::create_dir(&path).expect("a folder");
    let (mut server, mut wire) = again(&folder, &["--checkpoint-bytes", "10kb"]);
    let has_come = (0..600).any(|nth| {
        for number in 0..1000 {
            assert_eq!(wire.text(&["SET", &format!("key:{number}"), &nth.to_string()]), ok());
        }
        server.log().contains("cannot write a checkpoint: Is a directory")
    });
    assert!(has_come, "{}", server.log());
    server.signal("KILL");
    server.wait(WAIT).expect("it ends");
    let (_server, mut wire) = again(&folder, &[]);
    assert_eq!(wire.text(&["DBSIZE"]), Value::Integer(1000));
}

/// A file system of so many megabytes in memory, mounted for a test that may.
struct Mount(TempDir);

impl Mount {
    /// None, with the reason printed, where nobody lets us mount.
    #[expect(clippy::print_stderr, reason = "why a test shows nothing belongs into its output")]
    fn new(megabytes: u32) -> Option<Self> {
        let dir = TempDir::new().expect("a temporary folder");
        let size = format!("size={megabytes}m");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(dir.path()).output();
        match mounted {
            Ok(output) if output.status.success() => Some(Self(dir)),
            Ok(output) => {
                eprintln!("skipped, no small file system: {}", String::from_utf8_lossy(&output.stderr).trim());
                None
            }
            Err(error) => {
                eprintln!("skipped, no small file system: {error}");
                None
            }
        }
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg("-l").arg(self.path()).status();
        assert!(unmounted.is_ok_and(|status| status.success()), "what was mounted can be unmounted");
    }
}

#[test]
fn a_full_disk_refuses_writers_and_nobody_else() {
    // Values until there is no room: -OOM, not MISCONF. Reads and deletes go on, and after deletes writes do; after a kill -9
    // everything acknowledged is there.
    let Some(mount) = Mount::new(24) else { return };
    let pools = mount.path().join("pools");
    std::fs::create_dir(&pools).expect("a folder");
    let dir = pools.to_str().expect("text").to_owned();
    let start = || {
        let node = Process::eagledb(&["--pool", "file", "--shards", "1", "--dir", &dir]);
        let wire = Wire::connect(node.address());
        (node, wire)
    };
    let (mut node, mut wire) = start();
    let value = "v".repeat(100_000);
    let mut count = 0;
    let refusal = loop {
        match wire.text(&["SET", &format!("key{count}"), &value]) {
            Value::Simple(_) => count += 1,
            other => break other,
        }
        assert!(count < 1_000, "24 MB hold no 100");
    };
    assert!(matches!(&refusal, Value::Error(line) if line.starts_with(b"OOM")), "after {count}: {refusal:?}");
    assert!(count > 50, "{count} values of 100 KB fit into 24 MB");
    assert_eq!(wire.text(&["GET", "key0"]), Value::Bulk(value.clone().into_bytes()));
    for key in 0..count / 2 {
        assert_eq!(wire.text(&["DEL", &format!("key{key}")]), Value::Integer(1));
    }
    // Space is used again as soon as it is safe, which is after a sync or two.
    let again = (0..600).any(|_| {
        std::thread::sleep(Duration::from_millis(100));
        wire.text(&["SET", "again", &value]) == ok()
    });
    assert!(again, "there is room after deletes: {}", node.log());
    node.signal("KILL");
    node.wait(WAIT).expect("it ends");
    let (_node, mut wire) = start();
    assert_eq!(wire.text(&["DBSIZE"]), Value::Integer(count - count / 2 + 1));
}

#[test]
fn a_page_that_cannot_be_read_ends_the_process_by_its_name() {
    // The file is cut short under a node that has mapped it: who reads a key from there ends the process, which names the pool and
    // the byte; the next start does not take what is left for all there was.
    let (mut server, mut wire) = node(&["--shards", "1"]);
    for key in 0..40 {
        assert_eq!(wire.text(&["SET", &format!("key{key}"), &"v".repeat(1_000_000)]), ok());
    }
    let folder = server.folder();
    server.signal("TERM");
    assert!(server.wait(WAIT).expect("it ends").success(), "{}", server.log());
    let (mut server, mut wire) = again(&folder, &["--scrub-mb-per-second", "0"]);
    let pool = server.dir().join("shard-00.pool");
    let file = std::fs::File::options().write(true).open(&pool).expect("a pool");
    file.set_len(1 << 20).expect("a shorter file");
    for key in 0..40 {
        wire.send(&[b"GET", format!("key{key}").as_bytes()]);
    }
    let status = server.wait(WAIT).expect("it ends");
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(7), "{status}");
    let log = server.log();
    let said = format!("of '{}' can be neither read nor written", pool.display());
    assert!(log.contains("(SIGBUS): byte 0x") && log.contains(&said), "{log}");
    let dir = server.dir().to_str().expect("text").to_owned();
    let (code, text) =
        run_eagledb(&["--port", "0", "--pool", "file", "--unixsocket", &format!("{dir}/s"), "--dir", &dir]);
    assert!(code == 1 && text.contains("damaged places"), "{code}: {text}");
}

#[test]
fn space_that_is_not_needed_goes_back_to_the_file_system() {
    // After FLUSHALL most of the file has no space any more; it is used again, and all of it is there after kill -9;
    // `check` finds nothing wrong with holes.
    let (mut node, mut wire) = node(&["--shards", "1"]);
    let value = "v".repeat(1_000_000);
    let fill = |wire: &mut Wire| {
        for key in 0..100 {
            assert_eq!(wire.text(&["SET", &format!("key{key}"), &value]), ok());
        }
    };
    let allocated = |wire: &mut Wire| info(wire, "eagle_pool_allocated_bytes").parse::<u64>().expect("a number");
    fill(&mut wire);
    assert!(allocated(&mut wire) > 100_000_000);
    assert_eq!(wire.text(&["FLUSHALL"]), ok());
    let is_given_back = (0..600).any(|_| {
        std::thread::sleep(Duration::from_millis(100));
        allocated(&mut wire) < 60_000_000
    });
    assert!(is_given_back, "{} bytes: {}", allocated(&mut wire), node.log());
    assert_ne!(info(&mut wire, "eagle_punched_bytes"), "0");
    let folder = node.folder();
    node.signal("KILL");
    node.wait(WAIT).expect("it ends");
    let dir = node.dir().to_str().expect("text").to_owned();
    let (code, text) = run_eagledb(&["check", "--dir", &dir]);
    assert_eq!(code, 0, "{text}");
    let (mut node, mut wire) = again(&folder, &[]);
    assert!(allocated(&mut wire) < 60_000_000, "it is found with its holes");
    fill(&mut wire);
    node.signal("KILL");
    node.wait(WAIT).expect("it ends");
    let (code, text) = run_eagledb(&["check", "--dir", &dir]);
    assert_eq!(code, 0, "{text}");
    let (_node, mut wire) = again(&folder, &[]);
    for key in 0..100 {
        assert_eq!(wire.text(&["STRLEN", &format!("key{key}")]), Value::Integer(1_000_000));
    }
}

#[test]
fn a_pool_that_cannot_grow_goes_on_with_what_it_has() {
    // No space, by injection: what fits is written, then -OOM; when there is space again, so are writes.
    let (node, mut wire) = node(&["--shards", "1"]);
    assert_eq!(wire.text(&["DEBUG", "STORAGE", "ENOSPC-GROWTH"]), ok());
    let value = "v".repeat(1_000_000);
    let mut count = 0;
    let refusal = loop {
        match wire.text(&["SET", &format!("key{count}"), &value]) {
            Value::Simple(_) => count += 1,
            other => break other,
        }
        assert!(count < 10_000, "a pool that does not grow fills up");
    };
    assert!(matches!(&refusal, Value::Error(line) if line.starts_with(b"OOM")), "after {count}: {refusal:?}");
    assert!(node.log().contains("cannot grow: No space left on device"), "{}", node.log());
    assert_ne!(info(&mut wire, "eagle_growths_failed"), "0");
    assert_eq!(wire.text(&["DEBUG", "STORAGE", "OFF"]), ok());
    let again = (0..600).any(|_| {
        std::thread::sleep(Duration::from_millis(100));
        wire.text(&["SET", "again", &value]) == ok()
    });
    assert!(again, "{}", node.log());
}
