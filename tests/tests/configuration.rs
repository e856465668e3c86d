//! The configuration beside those of real servers: every directive is known, wrong values are refused in the same words,
//! a file is rewritten to the same lines.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use eagle_resp::Value;
use eagle_tests::{
    process::{Process, eagledb_path, run_eagledb},
    wire::Wire,
};

/// Directives whose default is not Redis 7.0's, and why.
const OTHER_DEFAULTS: [(&str, &str); 5] = [
    ("appendonly", "pools keep all data unless asked not to"),
    ("dir", "each server's own"),
    ("port", "each server's own"),
    ("save", "pools keep all data, and there are no snapshots yet"),
    ("timeout", "idle clients are closed after five minutes"),
];

/// Directives that refuse a wrong value otherwise than Redis 7.0, and why.
const OTHER_COMPLAINTS: [(&str, &str); 5] = [
    ("cluster-link-sendbuf-limit", "2^64 and more are too much, not the number that is left over"),
    ("loglevel", "Redis 7.2 knows `nothing`"),
    ("maxmemory", "2^64 and more are too much, not the number that is left over"),
    ("maxmemory-clients", "2^64 and more are the most there is, not the number that is left over"),
    ("maxmemory-samples", "at most 64, as in Redis 7.2"),
];

/// What our refusal of a value says that asks for what is not there yet.
const NOT_YET: [&str; 6] = [
    "not available yet",
    "with 'pool none' nothing is kept",
    "do not name their users yet",
    "are read again by CONFIG SET",
    "are chosen by rustls",
    "with a passphrase are not supported",
];

/// Pairs of `CONFIG GET`.
fn get(wire: &mut Wire, name: &str) -> BTreeMap<String, String> {
    let Value::Array(items) = wire.text(&["CONFIG", "GET", name]) else { panic!("CONFIG GET {name}: no array") };
    items.chunks_exact(2).map(|pair| (text(&pair[0]), text(&pair[1]))).collect()
}

fn text(value: &Value) -> String {
    match value {
        Value::Bulk(bytes) | Value::Simple(bytes) | Value::Error(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        other => panic!("text, not {other:?}"),
    }
}

fn connected(process: &Process) -> Wire {
    Wire::connect(process.address())
}

#[test]
fn every_directive_of_redis_and_valkey_is_known() {
    // By name, so that a file or a tool made for them does not fail; what patterns show there they show here.
    let node = Process::eagledb(&["--shards", "1"]);
    let mut ours = connected(&node);
    let shown = get(&mut ours, "*");
    let mut unknown = BTreeSet::new();
    for peer in [Some(Process::redis()), Process::valkey()].into_iter().flatten() {
        let names = get(&mut connected(&peer), "*").into_keys();
        unknown.extend(names.filter(|name| !shown.contains_key(name)));
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/directives-valkey-9.1.2.txt");
    let recorded = fs::read_to_string(path).expect("a fixture");
    for name in recorded.lines().filter(|line| !line.is_empty() && !line.starts_with("##")) {
        if get(&mut ours, name).is_empty() {
            unknown.insert(name.to_owned());
        }
    }
    assert!(unknown.is_empty(), "unknown: {unknown:?}");
}

#[test]
fn defaults_are_those_of_redis() {
    // All that Redis 7.0 shows, but for those listed; none of the list is stale.
    let (node, redis) = (Process::eagledb(&["--shards", "1"]), Process::start(Path::new("redis-server"), &[]));
    let (mut ours, mut theirs) = (connected(&node), connected(&redis));
    let theirs = get(&mut theirs, "*");
    let mut differs = |name: &str, value: &str| get(&mut ours, name).get(name).is_none_or(|our| our != value);
    let differing: Vec<&str> =
        theirs.iter().filter(|(name, value)| differs(name, value)).map(|(name, _)| name.as_str()).collect();
    let listed: Vec<&str> = OTHER_DEFAULTS.iter().map(|(name, _)| *name).collect();
    assert_eq!(differing, listed);
}

#[test]
fn wrong_values_are_refused_in_redis_words() {
    // Each directive of Redis 7.0 with values that most cannot have: both take it or both complain alike.
    let (node, redis) = (Process::eagledb(&["--shards", "1"]), Process::redis());
    let (mut ours, mut theirs) = (connected(&node), connected(&redis));
    let mut complaints = String::new();
    let mut differing = BTreeSet::new();
    let listed = |name: &str| OTHER_COMPLAINTS.iter().any(|(listed, _)| *listed == name);
    let values = ["zzz zzz", "", "-1", "7%", "101%", "1kbb", "99999999999999999999", "9223372036854775807"];
    for name in get(&mut theirs, "*").into_keys() {
        for value in values {
            let our = text(&ours.text(&["CONFIG", "SET", &name, value]));
            let their = text(&theirs.text(&["CONFIG", "SET", &name, value]));
            let not_yet = NOT_YET.iter().any(|reason| our.contains(reason));
            if our != their && !not_yet {
                differing.insert(name.clone());
                if !listed(&name) {
                    complaints += &format!("CONFIG SET {name} '{value}'\n  ours   {our}\n  theirs {their}\n");
                }
            } else if our == "OK" {
                let shown = (get(&mut ours, &name), get(&mut theirs, &name));
                if shown.0 != shown.1 {
                    differing.insert(name.clone());
                    if !listed(&name) {
                        complaints += &format!("{name} '{value}' is shown as {:?}, not {:?}\n", shown.0, shown.1);
                    }
                }
            }
        }
    }
    assert!(complaints.is_empty(), "\n{complaints}");
    for (name, _) in OTHER_COMPLAINTS {
        assert!(differing.contains(name), "{name}: no difference any more");
    }
}

#[test]
fn what_promises_durability_or_protection_does_not_start() {
    // In the file with its line, as a flag, and in CONFIG SET; what asks for nothing of the kind is taken.
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("eagledb.conf");
    let path = file.to_str().expect("text");
    for line in [
        "replicaof 127.0.0.1 6379",
        "min-replicas-to-write 1",
        "masterauth secret",
        "tls-replication yes",
        "rename-command GET set",
        "cluster-enabled yes",
    ] {
        fs::write(&file, format!("# first\n{line}\n")).expect("written");
        let (code, said) = run_eagledb(&[path]);
        let name = line.split(' ').next().expect("a name");
        assert_eq!(code, 1, "{line}: {said}");
        assert!(said.contains(&format!("{path}, line 2: '{name}': ")), "{line}: {said}");
    }
    for line in ["save 900 1", "appendonly yes"] {
        fs::write(&file, format!("# first\n{line}\npool none\n")).expect("written");
        let (code, said) = run_eagledb(&[path]);
        let name = line.split(' ').next().expect("a name");
        assert_eq!(code, 1, "{line}: {said}");
        assert!(
            said.contains(&format!("{path}, line 2: '{name}': with 'pool none' nothing is kept")),
            "{line}: {said}"
        );
    }
    fs::write(&file, "pool none\nsave \"\"\nappendonly no\ntls-port 0\naclfile \"\"\nnotify-keyspace-events KEA\n")
        .expect("written");
    let node = Process::eagledb(&[path, "--shards", "1"]);
    let mut wire = connected(&node);
    for (name, value) in [("save", "900 1"), ("appendonly", "yes"), ("tls-replication", "yes"), ("primaryauth", "x")] {
        let error = text(&wire.text(&["CONFIG", "SET", "timeout", "9", name, value]));
        let begin = format!("ERR CONFIG SET failed (possibly related to argument '{name}') - ");
        assert!(error.starts_with(&begin) && NOT_YET.iter().any(|reason| error.contains(reason)), "{error}");
    }
    assert_eq!(get(&mut wire, "timeout")["timeout"], "300", "of several pairs none was set");
    assert!(node.says("directive 'notify-keyspace-events' is accepted but has no effect"), "{}", node.log());
}

#[test]
fn the_environment_is_a_source() {
    // A directive of the environment is in force; one that does not exist is one sentence and exit code 1.
    let run = |variable: &str, value: &str| {
        let output = std::process::Command::new(eagledb_path()).env(variable, value).output().expect("the binary runs");
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (code, said) = run("EAGLE_CONF_PORTS", "1");
    assert_eq!(code, Some(1), "{said}");
    assert_eq!(said, "environment variable EAGLE_CONF_PORTS: 'ports': no such directive; --help lists all\n");
    let (code, said) = run("EAGLE_CONF_TLS_REPLICATION", "yes");
    assert_eq!(code, Some(1), "{said}");
    assert!(said.starts_with("environment variable EAGLE_CONF_TLS_REPLICATION: 'tls-replication': "), "{said}");
}

#[test]
fn a_file_is_rewritten_to_the_lines_that_redis_writes() {
    // The same file and the same changes: what stood in the file stays in its place and its words; what is added is the
    // same but for its order and for what only one of the two has to say.
    let dir = tempfile::tempdir().expect("a folder");
    let written = "# comment one\n\n\nmaxmemory 100mb\nhash-max-ziplist-entries 64\nhash-max-listpack-entries 65\n\
        client-output-buffer-limit normal 1mb 0 0\n   save   \"\"\nsave \"\"\n  \n# within\ntimeout    5\n\
        requirepass foo\ninclude INCLUDED\nlatency-tracking-info-percentiles 50\noom-score-adj-values 0 1 2\n\
        notify-keyspace-events Kg\nunixsocketperm 700\nhz 20\n# last\n";
    let included = dir.path().join("included.conf");
    fs::write(&included, "slowlog-max-len 5\n").expect("written");
    let rewritten = |name: &str, start: fn(&[&str]) -> Process| {
        let file = dir.path().join(name);
        fs::write(&file, written.replace("INCLUDED", included.to_str().expect("text"))).expect("written");
        let process = start(&[file.to_str().expect("text")]);
        let mut wire = connected(&process);
        let mut ask = |words: &[&str]| text(&wire.text(words));
        assert_eq!(ask(&["AUTH", "foo"]), "OK");
        let changes = [
            ("timeout", "0"),
            ("requirepass", ""),
            ("maxmemory", "2000000"),
            ("maxclients", "500"),
            ("proto-max-bulk-len", "600mb"),
            ("maxmemory-clients", "5%"),
            ("dynamic-hz", "no"),
            ("slowlog-log-slower-than", "-1"),
            ("client-output-buffer-limit", "normal 2mb 1kb 7 pubsub 0 0 0"),
            ("oom-score-adj-values", "5 6 7"),
            ("zset-max-ziplist-value", "65"),
            ("proc-title-template", "{title} \"quoted\""),
        ];
        for (directive, value) in changes {
            assert_eq!(ask(&["CONFIG", "SET", directive, value]), "OK", "{directive}");
        }
        assert_eq!(ask(&["CONFIG", "REWRITE"]), "OK");
        let text = fs::read_to_string(&file).expect("readable");
        let (before, added) = text.split_once("\n# Generated by CONFIG REWRITE\n").expect("something is added");
        let own = ["dir ", "pidfile ", "user ", "port ", "bind ", "pool ", "shards ", "logfile ", "admin-port "];
        let added = added.lines().filter(|line| !own.iter().any(|begin| line.starts_with(begin)));
        (before.to_owned(), added.map(str::to_owned).collect::<BTreeSet<_>>())
    };
    let ours = rewritten("ours.conf", Process::eagledb);
    let theirs = rewritten("theirs.conf", |arguments| Process::start(Path::new("redis-server"), arguments));
    assert_eq!(ours.0, theirs.0);
    assert_eq!(ours.1, theirs.1);
}
