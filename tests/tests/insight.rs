//! What RedisInsight asks on its first day, answered in the shape that it reads: as redis-server answers it.
//!
//! The requests are those that it sends when it connects, lists and shows keys, edits a hash and looks at the server (RESP2, as its
//! client speaks). Values are each server's own; kinds, lengths of fixed replies and names of fields are not. What is not there yet is listed in
//! [`MISSING`]: answered by the error that Redis has for commands that it does not know, which RedisInsight takes for a server without them.

use eagle_resp::Value;
use eagle_tests::{process::Process, wire::Wire};

/// Requests in their order, words separated by blanks, `~` for one within a word.
const REQUESTS: &[&str] = &[
    "CLIENT SETNAME redisinsight-common-0123abcd",
    "INFO",
    "INFO server",
    "INFO keyspace",
    "CONFIG GET databases",
    "CONFIG GET maxmemory*",
    "CONFIG GET slowlog*",
    "DBSIZE",
    "COMMAND INFO ft.create json.get",
    "COMMAND INFO get hset",
    "COMMAND COUNT",
    "ACL WHOAMI",
    "ACL CAT",
    "SELECT 0",
    "SET text hello~world",
    "SET number 42 EX 1000",
    "HSET user name Ada born 1815",
    "SCAN 0 MATCH * COUNT 10000",
    "SCAN 0 MATCH * COUNT 10000 TYPE hash",
    "SCAN 0 MATCH user* COUNT 10000 TYPE string",
    "TYPE user",
    "TYPE none",
    "TTL text",
    "TTL number",
    "TTL none",
    "PTTL number",
    "MEMORY USAGE user SAMPLES 0",
    "MEMORY USAGE none SAMPLES 0",
    "OBJECT ENCODING user",
    "OBJECT ENCODING number",
    "OBJECT ENCODING none",
    "OBJECT IDLETIME text",
    "OBJECT REFCOUNT text",
    "OBJECT FREQ text",
    "STRLEN text",
    "GETRANGE text 0 4999",
    "GET text",
    "HLEN user",
    "HSCAN user 0 MATCH * COUNT 500",
    "HSCAN user 0 MATCH na* COUNT 500",
    "HGET user name",
    "HSET user name Countess",
    "HDEL user born none",
    "EXPIRE user 1000",
    "PERSIST user",
    "RENAMENX text title",
    "RENAMENX title user",
    "UNLINK title",
    "DEL none",
    "CLIENT LIST",
    "CLIENT INFO",
    "CLIENT ID",
    "CLIENT GETNAME",
    "MEMORY STATS",
    "MEMORY DOCTOR",
    "TIME",
    "LOLWUT",
    "CONFIG GET no-such-directive",
    "CONFIG SET slowlog-max-len 64",
    "CONFIG SET slowlog-log-slower-than 5000",
    "CONFIG GET slowlog-max-len",
    "MODULE LIST",
    "CONFIG SET slowlog-log-slower-than -1",
    "SLOWLOG RESET",
    "SLOWLOG GET 50",
    "SLOWLOG LEN",
    "CONFIG SET slowlog-log-slower-than 0",
    "SET slow command~that~is~slow",
    "CONFIG SET slowlog-log-slower-than -1",
    "SLOWLOG GET 50",
    "SLOWLOG LEN",
    "SLOWLOG RESET",
    "LATENCY LATEST",
    "LATENCY HISTORY command",
    "SELECT 99",
    "FLUSHDB",
];

/// What it asks and this server does not have yet.
const MISSING: &[&str] =
    &["CLUSTER INFO", "PUBSUB CHANNELS", "DUMP user", "XINFO STREAM user", "FT._LIST", "JSON.GET user"];

/// Of `INFO`, what its overview and its key analysis compute with.
const NUMBERS: [&str; 12] = [
    "uptime_in_seconds",
    "uptime_in_days",
    "connected_clients",
    "used_memory",
    "used_memory_peak",
    "total_system_memory",
    "total_commands_processed",
    "instantaneous_ops_per_sec",
    "keyspace_hits",
    "keyspace_misses",
    "total_connections_received",
    "cluster_enabled",
];

fn words(request: &str) -> Vec<String> {
    request.split(' ').map(|word| word.replace('~', " ")).collect()
}

fn ask(wire: &mut Wire, request: &str) -> Value {
    let words = words(request);
    wire.text(&words.iter().map(String::as_str).collect::<Vec<_>>())
}

/// Kinds and lengths of a reply. What is as long as each server pleases is described by its kinds alone.
fn shape(request: &str, reply: &Value) -> String {
    const ANY_LENGTH: [&str; 2] = ["MEMORY STATS", "CONFIG GET"];
    match reply {
        Value::Integer(_) => "integer".to_owned(),
        Value::Bulk(_) => "bulk".to_owned(),
        Value::Simple(text) => format!("+{}", String::from_utf8_lossy(text)),
        Value::Error(line) => format!("-{}", String::from_utf8_lossy(line)),
        Value::Null => "null".to_owned(),
        Value::Array(items) if ANY_LENGTH.iter().any(|any| request.starts_with(any)) => {
            assert!(items.len().is_multiple_of(2), "{request}: pairs");
            "pairs".to_owned()
        }
        Value::Array(items) => format!("{:?}", items.iter().map(|item| shape(request, item)).collect::<Vec<_>>()),
        other => panic!("{request}: {other:?} is not RESP2"),
    }
}

/// A reply as far as a program may rely on it: its shape, and beyond that what does not depend on the server.
fn relied_upon(request: &str, reply: &Value) -> String {
    let own = [
        "SLOWLOG GET",
        "INFO",
        "CLIENT",
        "MEMORY",
        "OBJECT",
        "TIME",
        "LOLWUT",
        "SCAN",
        "COMMAND COUNT",
        "DBSIZE",
        "TTL",
        "PTTL",
    ];
    let shape = shape(request, reply);
    if let (true, Value::Array(items)) = (request.starts_with("CONFIG GET"), reply) {
        // Their order is that of a hash table.
        let mut pairs: Vec<String> =
            items.chunks_exact(2).map(|pair| format!("{}={}", bulk(&pair[0]), bulk(&pair[1]))).collect();
        pairs.sort();
        return pairs.join(" ");
    }
    if request.starts_with("COMMAND INFO") || own.iter().any(|own| request.starts_with(own)) {
        shape
    } else {
        format!("{shape} {reply:?}")
    }
}

fn bulk(value: &Value) -> String {
    match value {
        Value::Bulk(text) => String::from_utf8(text.clone()).expect("text"),
        other => panic!("a bulk, not {other:?}"),
    }
}

#[test]
fn requests_of_its_first_day_are_answered_in_redis_shapes() {
    // One shard and two, beside redis-server 7.0: kinds, lengths, errors word by word, and values where they are the data's.
    for shards in ["1", "2"] {
        let (node, redis) = (Process::eagledb(&["--shards", shards, "--pool", "none"]), Process::redis());
        let (mut ours, mut theirs) = (Wire::connect(node.address()), Wire::connect(redis.address()));
        for request in REQUESTS {
            let (our, their) = (ask(&mut ours, request), ask(&mut theirs, request));
            if request.starts_with("SCAN") {
                // How many calls an iteration takes is each server's own.
                assert_eq!(scanned(&mut ours, request), scanned(&mut theirs, request), "{request}");
                continue;
            }
            if *request == "COMMAND INFO get hset" {
                // Flags and categories are sets, and versions add to them.
                for reply in [&our, &their] {
                    let Value::Array(rows) = reply else { panic!("{reply:?}") };
                    assert!(
                        rows.iter().all(|row| matches!(row, Value::Array(facts) if facts.len() == 10)),
                        "{reply:?}"
                    );
                }
                continue;
            }
            assert_eq!(relied_upon(request, &our), relied_upon(request, &their), "{request}, {shards} shards");
        }
    }
}

/// All keys of an iteration, sorted.
fn scanned(wire: &mut Wire, request: &str) -> Vec<String> {
    let (mut cursor, mut keys) = ("0".to_owned(), Vec::new());
    loop {
        let mut words = words(request);
        words[1] = cursor;
        let Value::Array(reply) = wire.text(&words.iter().map(String::as_str).collect::<Vec<_>>()) else {
            panic!("{request}")
        };
        let Value::Array(found) = &reply[1] else { panic!("{request}") };
        keys.extend(found.iter().map(bulk));
        cursor = bulk(&reply[0]);
        if cursor == "0" {
            keys.sort();
            return keys;
        }
    }
}

/// Lines of MONITOR, without what is each server's own: the time, and the client's address.
fn watched(wire: &mut Wire, count: usize) -> Vec<String> {
    let line = |wire: &mut Wire| {
        let Value::Simple(line) = wire.reply().expect("a line") else { panic!("a line") };
        let line = String::from_utf8(line).expect("text");
        let (time, rest) = line.split_once(' ').expect("a time");
        assert!(time.len() == 17 && time.parse::<f64>().is_ok(), "{line}");
        let (db, rest) = rest.strip_prefix('[').and_then(|rest| rest.split_once(' ')).expect("a database");
        let (address, words) = rest.split_once("] ").expect("an address");
        assert!(address.parse::<std::net::SocketAddr>().is_ok(), "{line}");
        format!("[{db}] {words}")
    };
    (0..count).map(|_| line(wire)).collect()
}

#[test]
fn its_profiler_sees_what_redis_shows() {
    // Commands of a client beside a watcher: the same lines, whichever shard has the key; nothing of what is for operators or was refused, and no
    // password.
    for shards in ["1", "2"] {
        let (node, redis) = (Process::eagledb(&["--shards", shards, "--pool", "none"]), Process::redis());
        let seen = [&node, &redis].map(|server| {
            let (mut watcher, mut client) = (Wire::connect(server.address()), Wire::connect(server.address()));
            assert_eq!(watcher.text(&["MONITOR"]), Value::Simple(b"OK".to_vec()));
            for request in [
                "SET a 1",
                "get b",
                "SET quoted \"\\~tab\tline\r\n",
                "MGET a b c",
                "INCR quoted",
                "SELECT 3",
                "GET",
                "NOSUCH x",
                "CONFIG GET port",
                "CLIENT LIST",
                "CLIENT SETNAME me",
                "AUTH default secret",
                "AUTH secret",
                "HELLO 2 AUTH default secret SETNAME me",
                "SLOWLOG GET",
                "SLOWLOG HELP",
                "KEYS *",
                "PING",
            ] {
                ask(&mut client, request);
            }
            client.send(&[b"SET", b"bytes\x00\xff\x07\x08", "\u{e9}".as_bytes()]);
            client.reply().expect("a reply");
            watched(&mut watcher, 14)
        });
        assert_eq!(seen[0], seen[1], "{shards} shards");
    }
}

#[test]
fn what_it_reads_of_the_server_is_there() {
    // Numbers of INFO, the line of a database, all of the configuration, the documentation of each command.
    let node = Process::eagledb(&["--shards", "2", "--pool", "none"]);
    let mut wire = Wire::connect(node.address());
    wire.text(&["SET", "k", "v", "EX", "100"]);
    let info = bulk(&ask(&mut wire, "INFO"));
    let field = |name: &str| info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    for name in NUMBERS {
        let value = field(name).unwrap_or_else(|| panic!("{name} is missing"));
        assert!(value.parse::<f64>().is_ok(), "{name}:{value}");
    }
    assert_eq!([field("redis_mode"), field("role")], [Some("standalone"), Some("master")]);
    assert!(field("redis_version").is_some_and(|version| version.starts_with("7.2.")));
    assert!(field("db0").is_some_and(|line| line.starts_with("keys=1,expires=1,avg_ttl=")), "{info}");

    let Value::Array(pairs) = ask(&mut wire, "CONFIG GET *") else { panic!("an array") };
    let names: Vec<String> = pairs.iter().step_by(2).map(bulk).collect();
    for name in ["databases", "maxmemory", "maxmemory-policy", "slowlog-max-len", "slowlog-log-slower-than", "save"] {
        assert!(names.iter().any(|known| known == name), "{name}");
    }

    let Value::Array(docs) = ask(&mut wire, "COMMAND DOCS") else { panic!("an array") };
    assert!(docs.len() > 100, "a name and its documentation in turn");
    for doc in docs.iter().skip(1).step_by(2) {
        let Value::Array(facts) = doc else { panic!("{doc:?}") };
        let names: Vec<String> = facts.iter().step_by(2).map(bulk).collect();
        for name in ["summary", "since", "group"] {
            assert!(names.iter().any(|known| known == name), "{name} of {names:?}");
        }
    }
}

#[test]
fn what_is_missing_is_unknown_and_not_pretended() {
    // The error of a command that does not exist, by which RedisInsight goes on without; none of the list is there by now.
    let (node, redis) = (Process::eagledb(&["--shards", "1", "--pool", "none"]), Process::redis());
    let (mut ours, mut theirs) = (Wire::connect(node.address()), Wire::connect(redis.address()));
    for request in MISSING {
        // The same words behind a name that Redis does not know either.
        let (name, _) = request.split_once(' ').unwrap_or((request, ""));
        let Value::Error(line) = ask(&mut theirs, &request.replacen(name, "NOSUCH", 1)) else { panic!("{request}") };
        let expected = String::from_utf8(line).expect("text").replacen("NOSUCH", name, 1);
        assert_eq!(ask(&mut ours, request), Value::Error(expected.into_bytes()), "{request}");
    }
}
