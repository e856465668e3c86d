//! What lies under `deploy/` is true: generated files are what the table gives, queries name metrics that there are, alerts fire,
//! the unit and the profile allow what the node does.
//!
//! Tools that are not here are passed over with the reason: systemd-analyze, promtool (`EAGLE_PROMETHEUS`), strace, groff.

use std::{
    collections::BTreeSet,
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    time::{Duration, Instant},
};

use eagle_tests::{
    http,
    process::{Process, eagledb_path, free_port, run_eagledb},
    wire::Wire,
};
use serde_json::Value as Json;

fn deploy() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace is above").join("deploy")
}

fn text(path: &str) -> String {
    let path = deploy().join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// Whether a program is there; if not, it is said that the test is passed over.
#[expect(clippy::print_stderr, reason = "why a test is passed over belongs into its output")]
fn have(program: &str) -> bool {
    let there = Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok();
    if !there {
        eprintln!("passed over: {program} is not here");
    }
    there
}

/// The names of all samples that a node gives which has done some of everything.
fn metrics() -> BTreeSet<String> {
    let port = free_port();
    let node = Process::eagledb(&["--shards", "2", "--admin-port", &port.to_string()]);
    let mut wire = Wire::connect(node.address());
    for words in [&["SET", "key", "value"][..], &["GET", "key"], &["INCR", "key"], &["GET"]] {
        wire.text(words);
    }
    let answer = http::get(SocketAddr::from(([127, 0, 0, 1], port)), "/metrics").expect("an answer");
    assert_eq!(answer.status, 200, "{}", answer.body);
    let samples = answer.body.lines().filter(|line| !line.starts_with('#'));
    samples.filter_map(|line| line.split(['{', ' ']).next()).map(str::to_owned).collect()
}

/// Names of EagleDB's metrics in a query.
fn named(query: &str) -> impl Iterator<Item = &str> {
    let words = query.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.filter(|word| word.starts_with("eagle_") || word.starts_with("redis_"))
}

/// Every text under a key of this name.
fn under<'a>(json: &'a Json, key: &str, found: &mut Vec<&'a str>) {
    match json {
        Json::Array(items) => items.iter().for_each(|item| under(item, key, found)),
        Json::Object(fields) => {
            for (name, value) in fields {
                match value {
                    Json::String(text) if name == key => found.push(text),
                    other => under(other, key, found),
                }
            }
        }
        _ => {}
    }
}

#[test]
fn the_configuration_is_what_the_table_gives_and_starts_a_node() {
    // If this fails: eagle-node generate config >deploy/eagledb.conf. The node reads it as its configuration file.
    let (code, generated) = run_eagledb(&["generate", "config"]);
    assert_eq!(code, 0);
    assert!(text("eagledb.conf") == generated, "eagle-node generate config >deploy/eagledb.conf");
    let path = deploy().join("eagledb.conf");
    let node = Process::eagledb(&[path.to_str().expect("text"), "--pool", "none", "--shards", "1"]);
    assert!(!node.log().contains("WARN"), "{}", node.log());
}

#[test]
fn the_man_page_is_clean_and_shells_take_the_completions() {
    // groff has nothing to warn of; bash completes a choice, zsh and fish parse theirs where they are there.
    let dir = tempfile::tempdir().expect("a folder");
    for what in ["man", "bash", "zsh", "fish"] {
        fs::write(dir.path().join(what), run_eagledb(&["generate", what]).1).expect("written");
    }
    let file = |what: &str| dir.path().join(what).display().to_string();
    if have("groff") {
        let output =
            Command::new("groff").args(["-man", "-Tutf8", "-ww", "-z", &file("man")]).output().expect("groff runs");
        assert_eq!(said(&output), "");
    }
    let script = format!(
        "source {}; COMP_WORDS=(eagle-node --maxmemory-policy allkeys-l); COMP_CWORD=2; _eagle__node eagle-node allkeys-l --maxmemory-policy; \
         echo \"${{COMPREPLY[*]}}\"",
        file("bash")
    );
    let output = Command::new("bash").args(["-c", &script]).output().expect("bash runs");
    assert_eq!(said(&output).trim(), "allkeys-lru allkeys-lfu");
    for shell in ["zsh", "fish"] {
        if have(shell) {
            let output = Command::new(shell).args(["-n", &file(shell)]).output().expect("it runs");
            assert!(output.status.success(), "{shell}: {}", said(&output));
        }
    }
}

#[test]
fn dashboard_and_alerts_ask_for_metrics_that_there_are() {
    // Each name in each query is one that a node gives; each panel has a query, and each alert says what to do.
    let metrics = metrics();
    let dashboard: Json = serde_json::from_str(&text("monitoring/dashboard.json")).expect("JSON");
    let mut queries = Vec::new();
    under(&dashboard, "expr", &mut queries);
    under(&dashboard, "query", &mut queries);
    assert!(queries.len() > 30, "{}", queries.len());
    let alerts = text("monitoring/alerts.yml");
    let count = |word: &str| alerts.matches(word).count();
    assert!(count("- alert:") > 10);
    assert_eq!(
        (count("summary:"), count("action:"), count("severity:")),
        (count("- alert:"), count("- alert:"), count("- alert:") + 1)
    );
    queries.extend(alerts.lines().filter_map(|line| line.trim().strip_prefix("expr:")));
    for query in queries {
        for name in named(query) {
            assert!(metrics.contains(name), "{name} of {query}");
        }
    }
    let panels = dashboard["panels"].as_array().expect("panels");
    let is_empty = |panel: &&Json| panel["type"] != "row" && panel["targets"].as_array().is_none_or(Vec::is_empty);
    assert_eq!(panels.iter().filter(is_empty).count(), 0);
}

#[test]
fn alerts_fire_when_they_should() {
    // promtool plays series of each kind of trouble, before and after the time that the alert waits; every alert has its case.
    let (alerts, cases) = (text("monitoring/alerts.yml"), text("monitoring/alerts.test.yml"));
    for name in alerts.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")) {
        assert!(cases.contains(&format!("alertname: {name}\n")), "{name} has no case");
    }
    let Some(folder) = std::env::var_os("EAGLE_PROMETHEUS").map(PathBuf::from) else {
        eprintln!("passed over: no promtool (EAGLE_PROMETHEUS)");
        return;
    };
    for words in [&["check", "config", "prometheus.yml"][..], &["test", "rules", "alerts.test.yml"]] {
        let mut command = Command::new(folder.join("promtool"));
        let output = command.args(words).current_dir(deploy().join("monitoring")).output().expect("promtool runs");
        assert!(output.status.success(), "{words:?}: {}", said(&output));
    }
}

#[test]
fn the_unit_is_sound_and_its_sandbox_tight() {
    // systemd-analyze finds nothing wrong with it, and an exposure of at most 2.0 of 10.
    if !have("systemd-analyze") {
        return;
    }
    let dir = tempfile::tempdir().expect("a folder");
    let unit = dir.path().join("eagledb.service");
    // Not installed: the binary is elsewhere.
    let here = eagledb_path().display().to_string();
    fs::write(&unit, text("systemd/eagledb.service").replace("/usr/bin/eagle-node", &here)).expect("written");
    let output = Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(&unit).output().expect("it runs");
    assert!(output.status.success() && said(&output).is_empty(), "{}", said(&output));
    let security = ["security", "--offline=true", "--threshold=20", "--no-pager"];
    let output = Command::new("systemd-analyze").args(security).arg(&unit).output().expect("it runs");
    assert!(output.status.success(), "{}", said(&output));
}

#[test]
fn profiles_allow_every_system_call_of_a_node() {
    // A node that loads, serves, commits, scrubs, checkpoints and ends under strace: all that it calls is in the container's profile.
    let profile: Json = serde_json::from_str(&text("docker/seccomp.json")).expect("JSON");
    assert_eq!(profile["defaultAction"], "SCMP_ACT_ERRNO");
    let allowed: BTreeSet<&str> = profile["syscalls"]
        .as_array()
        .expect("rules")
        .iter()
        .filter(|rule| rule["action"] == "SCMP_ACT_ALLOW")
        .flat_map(|rule| rule["names"].as_array().expect("names"))
        .map(|name| name.as_str().expect("a name"))
        .collect();
    for needed in ["io_uring_setup", "io_uring_enter", "io_uring_register", "mbind"] {
        assert!(allowed.contains(needed), "{needed}");
    }
    for forbidden in ["ptrace", "mount", "bpf", "keyctl", "setns", "unshare", "init_module", "kexec_load", "reboot"] {
        assert!(!allowed.contains(forbidden), "{forbidden}");
    }
    if !have("strace") {
        return;
    }
    for called in called_by_a_node() {
        assert!(allowed.contains(called.as_str()), "{called} is not in docker/seccomp.json");
    }
}

/// The system calls of a node from its start, through writes, to its end, twice: the second loads what the first has left.
fn called_by_a_node() -> BTreeSet<String> {
    let dir = tempfile::tempdir().expect("a folder");
    let socket = dir.path().join("socket");
    let mut called = BTreeSet::new();
    let admin = free_port();
    for run in 0..2 {
        let trace = dir.path().join(format!("trace-{run}"));
        let mut child = Command::new("strace")
            .args(["-f", "-qq", "-o"])
            .arg(&trace)
            .arg(eagledb_path())
            .args([
                "--port",
                "0",
                "--shards",
                "2",
                "--sync",
                "always",
                "--admin-port",
                &admin.to_string(),
                "--unixsocket",
            ])
            .arg(&socket)
            .arg("--dir")
            .arg(dir.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .expect("strace runs");
        let mut client = connect(&socket);
        let value = "v".repeat(5000);
        for key in 0..200 {
            assert_eq!(ask(&mut client, &format!("SET key{key} {value}")), "+OK");
        }
        assert!(
            http::get(SocketAddr::from(([127, 0, 0, 1], admin)), "/metrics").is_ok_and(|answer| answer.status == 200)
        );
        assert!(ask(&mut client, "CONFIG SET maxclients 5000").starts_with("+OK"));
        std::io::Write::write_all(&mut client, b"SHUTDOWN\r\n").expect("written");
        assert!(child.wait().expect("it ends").success());
        let lines = fs::read_to_string(&trace).expect("a trace");
        // `123 write(1, ...`, but not `123 <... read resumed>`, `123 +++ exited` or `123 --- SIGTERM`.
        let names = lines.lines().filter_map(|line| Some(line.split_once(' ')?.1.trim_start().split_once('(')?.0));
        called.extend(
            names.filter(|name| name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')).map(str::to_owned),
        );
    }
    assert!(called.len() > 20 && called.contains("io_uring_enter"), "{called:?}");
    called
}

fn connect(path: &Path) -> std::os::unix::net::UnixStream {
    let until = Instant::now() + Duration::from_secs(60);
    loop {
        match std::os::unix::net::UnixStream::connect(path) {
            Ok(stream) => return stream,
            Err(error) => assert!(Instant::now() < until, "{error}"),
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A reply of one line; asked again while the node loads.
fn ask(stream: &mut std::os::unix::net::UnixStream, request: &str) -> String {
    loop {
        std::io::Write::write_all(stream, format!("{request}\r\n").as_bytes()).expect("written");
        let mut line = Vec::new();
        while !line.ends_with(b"\r\n") {
            let mut byte = [0];
            std::io::Read::read_exact(stream, &mut byte).expect("a reply");
            line.push(byte[0]);
        }
        let line = String::from_utf8_lossy(&line).trim().to_owned();
        if !line.starts_with("-LOADING") {
            return line;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}
