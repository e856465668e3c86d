//! The clients that applications use, against the binary: redis-py, ioredis, the `redis` crate, redis-cli, redis-benchmark.
//!
//! `deploy/test.sh` installs what is missing and says where (`EAGLE_PYTHON`, `EAGLE_NODE_MODULES`). A client that is not
//! installed is skipped, and the test says so.

use std::{
    collections::BTreeMap,
    env,
    ffi::OsString,
    io::{BufRead, BufReader},
    path::Path,
    process::{Command, Output, Stdio},
};

use eagle_tests::process::Process;
use redis::{Commands, ConnectionLike};

/// A node on which keys lie on several shards, and one on which they do not.
fn nodes() -> [Process; 2] {
    ["1", "2"].map(|shards| Process::eagledb(&["--shards", shards]))
}

/// The value of a variable of `deploy/test.sh`; prints what is skipped if there is none.
#[expect(clippy::print_stdout, reason = "a skipped test says so")]
fn installed(variable: &str, what: &str) -> Option<OsString> {
    let value = env::var_os(variable);
    if value.is_none() {
        println!("skipped: {what} is not installed ({variable} is not set; deploy/test.sh sets it)");
    }
    value
}

fn script(name: &str) -> OsString {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("clients").join(name).into_os_string()
}

/// What a command printed; panics with all of it unless it ended well.
fn run(command: &mut Command) -> String {
    let Output { status, stdout, stderr } = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let (stdout, stderr) = (String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    assert!(status.success(), "{command:?}: {status}\n{stdout}\n{stderr}");
    assert!(stderr.is_empty(), "{command:?} complains: {stderr}");
    stdout.into_owned()
}

#[test]
fn redis_py() {
    // Strings, keys, pipelines, errors and the server's own commands, on RESP2 and RESP3.
    let Some(python) = installed("EAGLE_PYTHON", "redis-py") else { return };
    for node in nodes() {
        run(Command::new(&python).arg(script("basic.py")).arg(node.port().to_string()));
    }
}

#[test]
fn ioredis() {
    // The same, with scan streams and automatic pipelines.
    let Some(modules) = installed("EAGLE_NODE_MODULES", "ioredis") else { return };
    for node in nodes() {
        let mut command = Command::new("node");
        run(command.env("NODE_PATH", &modules).arg(script("basic.js")).arg(node.port().to_string()));
    }
}

#[test]
fn the_redis_crate() -> redis::RedisResult<()> {
    // Typed replies, pipelines, scans and errors, on both protocols.
    for node in nodes() {
        for protocol in ["resp2", "resp3"] {
            let client = redis::Client::open(format!("redis://127.0.0.1:{}/?protocol={protocol}", node.port()))?;
            let mut connection = client.get_connection()?;
            let () = redis::cmd("FLUSHALL").query(&mut connection)?;
            let () = connection.set_ex("greeting", "hello", 100)?;
            assert_eq!(connection.get::<_, String>("greeting")?, "hello");
            assert_eq!(connection.get::<_, Option<String>>("none")?, None);
            assert!((1..=100).contains(&connection.ttl::<_, i64>("greeting")?));
            assert_eq!(connection.incr::<_, _, i64>("counter", 42)?, 42);
            let error = connection.incr::<_, _, i64>("greeting", 1).expect_err("no number");
            assert_eq!(error.detail(), Some("value is not an integer or out of range"));
            let mut pipe = redis::pipe();
            for i in 0..100 {
                pipe.set(format!("p:{i}"), i).ignore().get(format!("p:{i}"));
            }
            assert_eq!(pipe.query::<Vec<i64>>(&mut connection)?, (0..100).collect::<Vec<_>>());
            let mut seen: Vec<String> = connection.scan_match("p:*")?.collect::<redis::RedisResult<_>>()?;
            seen.sort();
            seen.dedup();
            assert_eq!(seen.len(), 100);
            assert_eq!(connection.del::<_, i64>(seen)?, 100);
            let () = connection.hset_multiple("user", &[("name", "Ada"), ("born", "1815")])?;
            assert_eq!(connection.hincr::<_, _, _, i64>("user", "visits", 3)?, 3);
            let user: BTreeMap<String, String> = connection.hgetall("user")?;
            assert_eq!(user.into_values().collect::<Vec<_>>(), ["1815", "Ada", "3"]);
            let fields: Vec<(String, String)> = connection.hscan("user")?.collect::<redis::RedisResult<_>>()?;
            assert_eq!(fields.len(), 3);
            assert!(connection.check_connection());
        }
    }
    Ok(())
}

#[test]
fn redis_cli() {
    // Its plain mode, standard input as the last argument, its scan and its statistics of keys.
    for node in nodes() {
        let port = node.port().to_string();
        let cli = |args: &[&str]| run(Command::new("redis-cli").args(["-p", &port]).args(args));
        assert_eq!(cli(&["set", "greeting", "hello"]), "OK\n");
        assert_eq!(cli(&["--no-raw", "get", "greeting"]), "\"hello\"\n");
        assert_eq!(cli(&["-3", "--no-raw", "get", "none"]), "(nil)\n");
        assert_eq!(cli(&["incr", "greeting"]), "ERR value is not an integer or out of range\n\n");
        for key in 0..30 {
            cli(&["set", &format!("key:{key}"), "v"]);
        }
        assert_eq!(cli(&["--scan", "--pattern", "key:*"]).lines().count(), 30);
        cli(&["hset", "user", "name", "Ada", "born", "1815"]);
        assert!(cli(&["--bigkeys"]).contains("Sampled 32 keys in the keyspace!"));
        assert!(cli(&["--memkeys"]).contains("1 hashs with "));
        cli(&["config", "set", "maxmemory-policy", "allkeys-lfu"]);
        for _ in 0..20 {
            cli(&["get", "greeting"]);
        }
        assert!(cli(&["--hotkeys"]).contains("keyname: \"greeting\""));
        // Least, most and mean milliseconds, and how many times: for a second.
        let line = cli(&["--latency"]);
        assert_eq!(line.split_whitespace().filter(|word| word.parse::<f64>().is_ok()).count(), 4, "{line}");
    }
}

#[test]
fn redis_cli_shows_what_goes_on() {
    // Modes that do not end by themselves: its line of statistics each moment, and the commands of others.
    for node in nodes() {
        let mut stat = Shown::by(&node, &["--stat", "-i", "0.01"]);
        assert!(stat.line().starts_with("------- data ------ "));
        assert!(stat.line().starts_with("keys       mem      clients"));
        let numbers = stat.line();
        assert!(numbers.split_whitespace().next().is_some_and(|keys| keys.parse::<u64>().is_ok()), "{numbers}");
        let mut history = Shown::by(&node, &["--latency-history", "-i", "0.05"]);
        while !history.line().contains("seconds range") {}
        let mut monitor = Shown::by(&node, &["monitor"]);
        assert_eq!(monitor.line(), "OK");
        run(Command::new("redis-cli").args(["-p", &node.port().to_string(), "set", "a key", "v\n"]));
        loop {
            // Between them what the statistics ask for.
            let line = monitor.line();
            if line.contains("\"set\"") {
                assert!(line.ends_with("] \"set\" \"a key\" \"v\\n\""), "{line}");
                break;
            }
        }
    }
}

/// What a redis-cli prints that does not end by itself; it ends with this.
struct Shown {
    process: std::process::Child,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Shown {
    fn by(node: &Process, args: &[&str]) -> Self {
        let mut command = Command::new("redis-cli");
        command.args(["-p", &node.port().to_string()]).args(args).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut process = command.spawn().expect("redis-cli");
        let lines = BufReader::new(process.stdout.take().expect("piped")).lines();
        Self { process, lines }
    }

    fn line(&mut self) -> String {
        self.lines.next().expect("it goes on").expect("text")
    }
}

impl Drop for Shown {
    fn drop(&mut self) {
        self.process.kill().expect("it runs");
        self.process.wait().expect("a child");
    }
}

#[test]
fn redis_cli_shows_hints() {
    // In a terminal: what is typed is followed by the arguments that are missing, which it asked the server for.
    let Some(python) = installed("EAGLE_PYTHON", "Python") else { return };
    for node in nodes() {
        let port = node.port().to_string();
        run(Command::new(&python).arg(script("hints.py")).arg(&port));
        let stats = run(Command::new("redis-cli").args(["-p", &port, "info", "commandstats"]));
        assert!(stats.contains("cmdstat_command|docs:calls=1,"), "{stats}");
    }
}

/// Requests a second that redis-benchmark reports for each test it was asked for.
fn rates(csv: &str) -> Vec<(String, f64)> {
    let field = |line: &str, nth: usize| line.split("\",\"").nth(nth).map(|text| text.replace('"', ""));
    csv.lines()
        .filter(|line| !line.contains("rps"))
        .map(|line| {
            let rate = field(line, 1).and_then(|text| text.parse().ok());
            (field(line, 0).unwrap_or_default(), rate.unwrap_or_else(|| panic!("no rate in {line}")))
        })
        .collect()
}

#[test]
fn redis_benchmark() {
    // Every test of the list runs to its end, with and without pipelining, and without a word on standard error.
    for node in nodes() {
        for pipeline in ["1", "16"] {
            let port = node.port().to_string();
            let csv = run(Command::new("redis-benchmark")
                .args(["-p", &port, "-t", "ping,set,get,incr,hset,mset", "-P", pipeline])
                .args(["-c", "50", "-n", "20000", "-r", "1000", "--csv"]));
            let rates = rates(&csv);
            let names: Vec<&str> = rates.iter().map(|(name, _)| name.as_str()).collect();
            assert_eq!(names, ["PING_INLINE", "PING_MBULK", "SET", "GET", "INCR", "HSET", "MSET (10 keys)"]);
            assert!(rates.iter().all(|(_, rate)| *rate > 0.0), "{csv}");
        }
    }
}
