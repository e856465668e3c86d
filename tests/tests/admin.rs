//! The admin port of real servers: metrics by the names that dashboards ask for, health, readiness, limits; a real Prometheus that scrapes
//! it and a real browser that shows its page.
//!
//! `EAGLE_PROMETHEUS` names a folder that has `prometheus` and `promtool`, `EAGLE_CHROMIUM` a browser; `deploy/test.sh` finds both. Without
//! them the tests that need them say so and pass.

use std::{
    collections::BTreeSet,
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::Arc,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use eagle_resp::Value;
use eagle_tests::{
    http::{self, exchange},
    process::{Process, free_port, run_eagledb},
    wire::Wire,
};

/// No step takes longer, even on a loaded machine.
const WAIT: Duration = Duration::from_secs(60);

/// A server and its admin port.
fn node(arguments: &[&str]) -> (Process, SocketAddr) {
    let port = free_port();
    let named = port.to_string();
    let all = [&["--admin-port", &named, "--enable-debug-command", "yes"], arguments].concat();
    (Process::eagledb(&all), SocketAddr::from(([127, 0, 0, 1], port)))
}

fn get(address: SocketAddr, path: &str) -> http::Answer {
    http::get(address, path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn metrics(address: SocketAddr) -> String {
    let answer = get(address, "/metrics");
    assert_eq!(answer.status, 200, "{}", answer.body);
    answer.body
}

/// The number of a metric with exactly these labels.
fn number(metrics: &str, metric: &str) -> Option<f64> {
    metrics.lines().find_map(|line| line.strip_prefix(metric)?.strip_prefix(' ')?.parse().ok())
}

fn info(wire: &mut Wire) -> String {
    let Value::Bulk(text) = wire.text(&["INFO", "everything"]) else { panic!("a text") };
    String::from_utf8(text).expect("text")
}

fn field<'a>(info: &'a str, name: &str) -> &'a str {
    info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).unwrap_or_else(|| panic!("{name}: {info}"))
}

fn lines(fixture: &str) -> impl Iterator<Item = &str> {
    fixture.lines().filter(|line| !line.starts_with('#') && !line.is_empty())
}

/// Some of everything: writes, hits, misses, expiries, errors of both kinds.
fn some_traffic(wire: &mut Wire) {
    for key in 0..50 {
        let key = format!("key{key}");
        assert_eq!(wire.text(&["SET", &key, "value"]), Value::Simple(b"OK".to_vec()));
        assert_eq!(wire.text(&["GET", &key]), Value::Bulk(b"value".to_vec()));
    }
    assert_eq!(wire.text(&["GET", "none"]), Value::Null);
    assert_eq!(wire.text(&["PEXPIRE", "key7", "100000"]), Value::Integer(1));
    assert!(matches!(wire.text(&["INCR", "key1"]), Value::Error(_)));
    assert!(matches!(wire.text(&["GET"]), Value::Error(_)));
    assert!(matches!(wire.text(&["NOSUCH"]), Value::Error(_)));
}

/// Waits until it holds.
fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + WAIT;
    while !holds() {
        assert!(Instant::now() < end, "not in time: {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

fn ready(address: SocketAddr) -> (u16, serde_json::Value) {
    let answer = get(address, "/ready");
    (answer.status, serde_json::from_str(&answer.body).expect("JSON"))
}

#[test]
fn metrics_have_the_names_that_dashboards_ask_for() {
    // All that redis_exporter has, and all that the queries of its dashboards name; each with help and type, none twice.
    let (node, admin) = node(&["--shards", "2"]);
    some_traffic(&mut Wire::connect(node.address()));
    let text = metrics(admin);
    let sampled: BTreeSet<&str> =
        text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split(['{', ' ']).next()).collect();
    for name in lines(include_str!("../fixtures/redis-exporter-metrics.txt")) {
        assert!(sampled.contains(name), "{name} of {sampled:?}");
    }
    for query in lines(include_str!("../fixtures/dashboard-queries.txt")) {
        let words = query.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        for name in words.filter(|word| word.starts_with("redis_") || word.starts_with("eagle_")) {
            assert!(sampled.contains(name), "{name} of {query}");
        }
    }
    let families: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
    assert_eq!(families.iter().collect::<BTreeSet<_>>().len(), families.len());
    for family in &families {
        assert!(text.contains(&format!("# HELP {family} ")), "{family}");
    }
    let series = text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.rsplit_once(' '));
    let series: Vec<&str> = series.map(|(series, _)| series).collect();
    assert_eq!(series.iter().collect::<BTreeSet<_>>().len(), series.len());
}

#[test]
fn metrics_agree_with_info() {
    // After the same traffic, on two cores: counters, keys, commands, errors, histograms; all that stands still while both are read.
    let (node, admin) = node(&["--shards", "2"]);
    let mut wire = Wire::connect(node.address());
    some_traffic(&mut wire);
    let text = metrics(admin);
    let info = info(&mut wire);
    for (metric, name) in [
        ("redis_keyspace_hits_total", "keyspace_hits"),
        ("redis_keyspace_misses_total", "keyspace_misses"),
        ("redis_connected_clients", "connected_clients"),
        ("redis_connections_received_total", "total_connections_received"),
        ("redis_total_error_replies", "total_error_replies"),
        ("redis_memory_used_dataset_bytes", "used_memory_dataset"),
        ("redis_rdb_changes_since_last_save", "rdb_changes_since_last_save"),
        ("redis_process_id", "process_id"),
        ("eagle_shards", "shards"),
    ] {
        assert_eq!(number(&text, metric), field(&info, name).parse().ok(), "{metric} and {name}");
    }
    assert!(info.contains("db0:keys=50,expires=1,"), "{info}");
    assert_eq!(number(&text, "redis_db_keys{db=\"db0\"}"), Some(50.0));
    assert_eq!(number(&text, "redis_db_keys_expiring{db=\"db0\"}"), Some(1.0));
    let keys = |shard| number(&text, &format!("eagle_keys_total{{shard=\"{shard}\"}}")).expect("a shard");
    assert!(keys(0) > 0.0 && keys(1) > 0.0 && keys(0) + keys(1) == 50.0);
    for cmd in ["get", "set", "incr", "pexpire"] {
        let stats: Vec<(&str, f64)> = field(&info, &format!("cmdstat_{cmd}"))
            .split(',')
            .filter_map(|pair| pair.split_once('='))
            .filter_map(|(name, value)| Some((name, value.parse().ok()?)))
            .collect();
        let stat = |wanted| stats.iter().find(|(name, _)| *name == wanted).map(|(_, value)| *value);
        let of = |metric: &str| number(&text, &format!("{metric}{{cmd=\"{cmd}\"}}"));
        assert_eq!(of("redis_commands_total"), stat("calls"), "{cmd}");
        assert_eq!(of("redis_commands_failed_calls_total"), stat("failed_calls"), "{cmd}");
        assert_eq!(of("redis_commands_rejected_calls_total"), stat("rejected_calls"), "{cmd}");
        assert_eq!(of("eagle_command_duration_seconds_count"), stat("calls"), "{cmd}");
        let us = of("redis_commands_duration_seconds_total").expect("a time") * 1e6;
        assert!((us - stat("usec").expect("a time")).abs() <= 1.0, "{cmd}");
        let summed = of("eagle_command_duration_seconds_sum").expect("a time") * 1e6;
        assert!((us - summed).abs() < 1e-3, "{cmd}: {us} and {summed}");
    }
    let errors = |cmd: &str| number(&text, &format!("eagle_command_errors_total{{cmd=\"{cmd}\",error=\"ERR\"}}"));
    assert_eq!([errors("incr"), errors("get"), errors("")], [Some(1.0); 3]);
    assert_eq!(number(&text, "redis_errors_total{err=\"ERR\"}"), Some(3.0));
    let waits = |core| number(&text, &format!("eagle_core_message_wait_seconds_count{{core=\"{core}\"}}"));
    assert!(waits(0) > Some(0.0) && waits(1) > Some(0.0), "keys of both cores were asked for through one");
    let health: serde_json::Value = serde_json::from_str(&get(admin, "/health").body).expect("JSON");
    assert_eq!((&health["keys"], &health["state"]), (&50.into(), &"ready".into()));
    assert_eq!((&health["totals"]["keyspace_hits"], &health["totals"]["errors"]["ERR"]), (&50.into(), &3.into()));
}

#[test]
fn ready_while_writes_are_taken() {
    // Not after a failed write or sync until a restart; not while the pool cannot grow, but again when it can; alive all the while.
    let (node, admin) = node(&["--shards", "2", "--sync", "always"]);
    let mut wire = Wire::connect(node.address());
    assert_eq!(ready(admin).0, 200);
    assert_eq!(wire.text(&["DEBUG", "STORAGE", "ENOSPC-GROWTH"]), Value::Simple(b"OK".to_vec()));
    let value = "v".repeat(1 << 20);
    let mut count = 0;
    while !matches!(wire.text(&["SET", &format!("key{count}"), &value]), Value::Error(_)) {
        count += 1;
        assert!(count < 10_000, "a pool that does not grow fills up");
    }
    until("it says that there is no space", || ready(admin).0 == 503);
    let (_, said) = ready(admin);
    assert!(said["state"] == "refusing_writes" && said["reasons"].to_string().contains("cannot grow"), "{said}");
    assert_eq!(get(admin, "/live").status, 200);
    assert_eq!(wire.text(&["DEBUG", "STORAGE", "OFF"]), Value::Simple(b"OK".to_vec()));
    until("there is space again", || ready(admin).0 == 200);
    assert_eq!(wire.text(&["DEBUG", "STORAGE", "FAIL-SYNC", "5", "1"]), Value::Simple(b"OK".to_vec()));
    let mut writer = Wire::connect(node.address());
    for key in 0..20 {
        writer.send(&[b"SET", format!("key{key}").as_bytes(), b"v"]);
    }
    until("a sync has failed", || ready(admin).0 == 503);
    let (_, said) = ready(admin);
    assert!(said["reasons"].to_string().contains("core 1 refuses writes"), "{said}");
    assert!(metrics(admin).contains("\neagle_pool_failed{shard=\"1\"} 1\n"));
    assert_eq!([get(admin, "/livez").status, get(admin, "/healthz").status], [200, 200]);
}

#[test]
fn not_ready_while_it_drains_and_while_it_loads() {
    // A client that does not read its reply keeps the node from ending: it says so. The next start loads what is there, and says how
    // far it is.
    let (mut node, admin) = node(&["--shards", "1", "--shutdown-timeout", "3600"]);
    let mut wire = Wire::connect(node.address());
    let value = vec![b'v'; 64 << 20];
    wire.send(&[b"SET", b"key", &value]);
    assert_eq!(wire.reply().expect("a reply"), Value::Simple(b"OK".to_vec()));
    wire.send(&[b"GET", b"key"]);
    let unread = |text: &str| number(text, "redis_client_recent_max_output_buffer_bytes");
    until("the reply is on its way", || unread(&metrics(admin)) > Some(1e6));
    node.signal("TERM");
    until("it drains", || ready(admin).0 == 503);
    let (code, said) = ready(admin);
    assert_eq!((code, &said["state"]), (503, &"draining".into()));
    assert_eq!(get(admin, "/live").status, 200);
    assert!(metrics(admin).contains("\neagle_state{state=\"draining\"} 1\n"));
    assert!(wire.reply().expect("answered before the end") == Value::Bulk(value.clone()));
    node.wait(WAIT).expect("it ends");
    let folder = node.folder();
    let mut seen = BTreeSet::new();
    // Whoever asks from before the start on sees it come up, and never an answer that is none of these.
    let stop = Arc::new(AtomicBool::new(false));
    let asks = thread::spawn({
        let stop = Arc::clone(&stop);
        move || {
            while !stop.load(Ordering::Relaxed) {
                if let Ok(answer) = http::get(admin, "/ready") {
                    let said: serde_json::Value = serde_json::from_str(&answer.body).expect("JSON");
                    seen.insert((answer.status, said["state"].as_str().expect("a text").to_owned()));
                }
            }
            seen
        }
    });
    let port = admin.port().to_string();
    let binary = eagle_tests::process::eagledb_path();
    let again = Process::start_in(&binary, &folder, &["--admin-port", &port, "--shards", "1"]);
    until("it is ready", || ready(admin).0 == 200);
    stop.store(true, Ordering::Relaxed);
    let seen = asks.join().expect("the thread that asks");
    let ok = |(code, state): &(u16, String)| (*code == 200) == (state == "ready");
    assert!(seen.iter().all(ok), "{seen:?}");
    let mut wire = Wire::connect(again.address());
    assert!(wire.text(&["GET", "key"]) == Value::Bulk(value));
    let loading = &serde_json::from_str::<serde_json::Value>(&get(admin, "/health").body).expect("JSON")["loading"];
    assert_eq!((&loading["is_on"], &loading["loaded_bytes"]), (&false.into(), &loading["total_bytes"]));
}

#[test]
fn who_hangs_holds_nobody() {
    // More clients than there are places, that send nothing or the half of a request: others are answered as soon as those have had
    // their time, commands all the while; a head that is too large and other methods are refused.
    let (node, admin) = node(&["--shards", "1"]);
    let mut wire = Wire::connect(node.address());
    assert_eq!(
        exchange(admin, "POST /metrics HTTP/1.1\r\nHost: e\r\nContent-Length: 0\r\n\r\n").expect("405").status,
        405
    );
    let head = format!("GET / HTTP/1.1\r\nHost: e\r\nX: {}\r\n\r\n", "x".repeat(7000));
    assert_eq!(exchange(admin, &head).expect("fits").status, 200);
    let mut large = TcpStream::connect(admin).expect("accepted");
    large.set_read_timeout(Some(WAIT)).expect("a read timeout");
    // It may be closed before all of it is sent.
    let _ = large.write_all(format!("GET / HTTP/1.1\r\nHost: e\r\nX: {}\r\n\r\n", "x".repeat(1 << 20)).as_bytes());
    let mut refusal = Vec::new();
    let _ = large.read_to_end(&mut refusal);
    assert!(refusal.is_empty() || refusal.starts_with(b"HTTP/1.1 431 "), "{}", String::from_utf8_lossy(&refusal));
    let mut hung: Vec<TcpStream> = (0..40).map(|_| TcpStream::connect(admin).expect("accepted")).collect();
    for stream in &mut hung {
        // Those beyond the places are closed already.
        let _ = stream.write_all(b"GET /metrics HTTP/1.1\r\nHos");
    }
    assert_eq!(wire.text(&["PING"]), Value::Simple(b"PONG".to_vec()));
    until("the hung ones are closed", || http::get(admin, "/ready").is_ok_and(|answer| answer.status == 200));
    let head = exchange(admin, "GET / HTTP/1.1\r\nHost: e\r\n\r\n").expect("an answer").head.to_lowercase();
    assert!(
        head.contains("content-security-policy: default-src 'none'") && head.contains("connection: close"),
        "{head}"
    );
}

#[test]
fn a_port_that_is_taken_is_one_sentence() {
    // What is wrong, where, and what to do; 0 turns it off; an address of another machine is named.
    let (_node, admin) = node(&["--shards", "1"]);
    let dir = tempfile::tempdir().expect("a folder");
    let dir = dir.path().to_str().expect("text");
    let port = admin.port().to_string();
    let (code, said) = run_eagledb(&["--port", "0", "--dir", dir, "--admin-port", &port]);
    let last = said.lines().last().unwrap_or_default();
    assert_eq!(code, 1, "{said}");
    let wanted = format!(
        "command line: 'admin-port': Somebody already listens on {admin}, where metrics and health are to be: give each node of a host its own"
    );
    assert!(last.starts_with(&wanted) && last.contains("--admin-port 0"), "{said}");
    let (code, said) = run_eagledb(&["--port", "0", "--dir", dir, "--admin-port", &port, "--admin-bind", "192.0.2.1"]);
    assert!(code == 1 && said.contains("192.0.2.1") && said.contains("correct --admin-bind"), "{said}");
    assert!(!Process::eagledb(&["--admin-port", "0", "--shards", "1"]).log().contains("Status page"));
}

/// What is found by this variable, or why there is none.
#[expect(clippy::print_stderr, reason = "a test that is passed over says so")]
fn installed(variable: &str, what: &str) -> Option<PathBuf> {
    let found = std::env::var_os(variable).map(PathBuf::from);
    if found.is_none() {
        eprintln!("passed over: {variable} names no {what}");
    }
    found
}

/// A process that ends with its value.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended already; then there is nothing to kill.
        if self.0.try_wait().is_ok_and(|status| status.is_none()) {
            self.0.kill().expect("a running child can be killed");
            self.0.wait().expect("a killed child ends");
        }
    }
}

#[test]
fn promtool_reads_the_metrics() {
    // The format is read; what it has against names is only against those that others chose (redis_exporter, and eagle_keys_total).
    let Some(folder) = installed("EAGLE_PROMETHEUS", "folder with promtool") else { return };
    let (node, admin) = node(&["--shards", "2"]);
    some_traffic(&mut Wire::connect(node.address()));
    let mut promtool = Command::new(folder.join("promtool"))
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool runs");
    promtool.stdin.take().expect("piped").write_all(metrics(admin).as_bytes()).expect("it reads");
    let output = promtool.wait_with_output().expect("it ends");
    let said = String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
    assert!(matches!(output.status.code(), Some(0 | 3)), "3: it is read, and there are remarks: {said}");
    for remark in said.lines() {
        assert!(remark.starts_with("redis_") || remark.starts_with("eagle_keys_total "), "{remark}");
    }
}

#[test]
fn prometheus_scrapes_and_answers_the_queries_of_dashboards() {
    // A real one, scraping every second under traffic: each query has an answer that is a number.
    let Some(folder) = installed("EAGLE_PROMETHEUS", "folder with prometheus") else { return };
    let (node, admin) = node(&["--shards", "2", "--maxmemory", "1gb"]);
    let dir = tempfile::tempdir().expect("a folder");
    let config = dir.path().join("prometheus.yml");
    let scrape = format!(
        "global: {{ scrape_interval: 1s }}\nscrape_configs:\n- job_name: eagle\n  static_configs: [ {{ targets: ['{admin}'] }} ]\n"
    );
    fs::write(&config, scrape).expect("written");
    let web = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let log = fs::File::create(dir.path().join("log")).expect("a log");
    let prometheus = Command::new(folder.join("prometheus"))
        .arg(format!("--config.file={}", config.display()))
        .arg(format!("--storage.tsdb.path={}", dir.path().join("data").display()))
        .arg(format!("--web.listen-address={web}"))
        .stdout(Stdio::null())
        .stderr(Stdio::from(log))
        .spawn()
        .expect("prometheus runs");
    let _prometheus = Running(prometheus);
    let mut wire = Wire::connect(node.address());
    let ask = |query: &str| -> Vec<f64> {
        let query = query.replace("$i", &admin.to_string());
        let escaped: String = query.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let Ok(answer) = http::get(web, &format!("/api/v1/query?query={escaped}")) else { return Vec::new() };
        let body: serde_json::Value = serde_json::from_str(&answer.body).unwrap_or_default();
        if answer.status == 503 {
            // It starts.
            return Vec::new();
        }
        assert_eq!(body["status"], "success", "{query}: {body}");
        let value = |one: &serde_json::Value| one["value"][1].as_str().and_then(|number| number.parse().ok());
        body["data"]["result"].as_array().expect("a vector").iter().filter_map(value).collect()
    };
    for query in lines(include_str!("../fixtures/dashboard-queries.txt")) {
        until(query, || {
            some_traffic(&mut wire);
            ask(query).iter().any(|number| number.is_finite())
        });
    }
    assert_eq!(ask("redis_up"), [1.0]);
    assert_eq!(ask("sum(redis_db_keys)"), [50.0]);
}

/// The page's document after some refreshes, in a browser of its own.
fn page(browser: &PathBuf, admin: SocketAddr) -> String {
    let profile = tempfile::tempdir().expect("a folder");
    let output = Command::new(browser)
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"])
        .args(["--disable-sync", "--virtual-time-budget=5000", "--dump-dom"])
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .arg(format!("http://{admin}/"))
        .stdin(Stdio::null())
        .output()
        .expect("the browser runs");
    String::from_utf8(output.stdout).expect("text")
}

/// The text of the element with this id.
fn shown<'a>(page: &'a str, id: &str) -> &'a str {
    let begin = page.find(&format!("id=\"{id}\"")).unwrap_or_else(|| panic!("{id}: {page}"));
    let begin = begin + page[begin..].find('>').expect("a tag ends") + 1;
    &page[begin..begin + page[begin..].find('<').expect("the text ends")]
}

#[test]
fn the_page_shows_the_node_in_a_browser() {
    // Idle, then under load: it refreshes itself, what it shows is how the node is, and the numbers move.
    let Some(browser) = installed("EAGLE_CHROMIUM", "browser") else { return };
    let (node, admin) = node(&["--shards", "2"]);
    // The PING that found it ready counts for a while.
    let health = || serde_json::from_str::<serde_json::Value>(&get(admin, "/health").body).expect("JSON");
    until("it is idle", || health()["throughput"]["commands_per_s"] == 0.0);
    let idle = page(&browser, admin);
    let refreshes = |page: &str| -> u32 {
        let (_, rest) = page.split_once("data-refreshes=\"").expect("the page counts");
        rest.split('"').next().and_then(|count| count.parse().ok()).expect("a count")
    };
    assert!(refreshes(&idle) >= 3, "{idle}");
    assert_eq!(["state", "ops", "keys"].map(|id| shown(&idle, id)), ["ready", "0", "0"]);
    let stop = Arc::new(AtomicBool::new(false));
    let load = thread::spawn({
        let (stop, address) = (Arc::clone(&stop), node.address());
        move || {
            let mut wire = Wire::connect(address);
            while !stop.load(Ordering::Relaxed) {
                some_traffic(&mut wire);
            }
        }
    });
    // Until the node itself says that there is load.
    until("there is load", || get(admin, "/health").body.contains("\"keys\": 50,"));
    let busy = page(&browser, admin);
    stop.store(true, Ordering::Relaxed);
    load.join().expect("the load");
    assert!(refreshes(&busy) >= 3, "{busy}");
    assert_eq!(["state", "keys", "clients"].map(|id| shown(&busy, id)), ["ready", "50", "1"]);
    assert_ne!(shown(&busy, "ops"), "0");
    assert!(
        shown(&busy, "p99").ends_with("s") && busy.contains(">set</td>") && busy.contains("<path class=\"line\""),
        "{busy}"
    );
}
