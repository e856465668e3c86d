//! `eagle-bench crossing`: what a command costs that arrives on another core than its key's.
//!
//! EagleDB runs two shards on two cores. Each connection is asked for its home core (`core=` in CLIENT INFO). With *none*
//! crossing, a connection requests only keys of its home's shard (slot modulo the number of shards); with
//! *half* crossing, any keys, of which half belong to the other core. The load shares the cores with
//! the server, so throughput says little: the server's CPU time a request is what is compared.

use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use fastrand::Rng;
use serde_json::json;

use crate::client::Client;
use crate::generator::{Generator, Goal};
use crate::measure::{FILL_PIPELINE, Measure, measure, write_keys};
use crate::process;
use crate::report::{Report, Table, median};
use crate::requests::{Requests, Workload, key, shuffled};
use crate::server::Server;
use crate::setup::Setup;

/// Cores, and shards of the server.
const CORES: usize = 2;
/// Hash slots of the Redis cluster specification.
const SLOTS: u16 = 16_384;

/// Arguments of `crossing`.
#[derive(clap::Args)]
pub(crate) struct Crossing {
    #[command(flatten)]
    setup: Setup,
    /// Commands to measure
    #[arg(long, value_delimiter = ',', default_value = "set,get")]
    workloads: Vec<Workload>,
    /// Requests in flight on each connection
    #[arg(long, value_delimiter = ',', default_value = "1,16")]
    pipelines: Vec<usize>,
    /// Connections, half of them at home on each core
    #[arg(long, default_value_t = 50)]
    connections: usize,
    /// Bytes of a value
    #[arg(long, default_value_t = 64)]
    value_bytes: usize,
    /// Keys, used at random
    #[arg(long, default_value_t = 1_000_000)]
    keys: u32,
    /// Measurements of each kind; the median counts
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Seconds of each measurement
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
}

/// Measures EagleDB with none and with half of the commands crossing, in turns.
pub(crate) fn run(arguments: &Crossing) -> Result<()> {
    let mut report = Report::new("Commands that cross cores", arguments.setup.json.as_deref());
    let cores = arguments.setup.both_cores();
    process::pin_this_thread(&cores)?;
    let server = Server::start(&arguments.setup.eagledb(CORES)?, &cores)?;
    let (mut home, mut anywhere) = (
        connections_at_home(server.port, arguments.connections)?,
        Generator::connect(server.port, arguments.connections)?,
    );
    report.say(&format!(
        "{} shards and the load on cores {} and {}; {} connections, {} keys, values of {} B, median of {} rounds of {} s.",
        CORES, cores[0], cores[1], arguments.connections, arguments.keys, arguments.value_bytes, arguments.rounds, arguments.seconds
    ));

    let mut rng = Rng::with_seed(1);
    let order = shuffled(0..arguments.keys, &mut rng);
    write_keys(&mut anywhere, &order, |_| arguments.value_bytes, None, FILL_PIPELINE)?;
    let mut table = Table::new(&["command", "pipeline", "crossing", "CPU us/req", "ratio", "K req/s"]);
    for workload in arguments.workloads.iter().copied() {
        let lists = Lists::new(workload, arguments.keys, arguments.value_bytes, &mut rng)?;
        for pipeline in arguments.pipelines.iter().copied() {
            eprintln!("{} at pipeline {pipeline}", workload.name());
            let goal = Goal::For(Duration::from_secs_f64(arguments.seconds));
            let (mut none, mut half) = (Vec::new(), Vec::new());
            for _ in 0..arguments.rounds {
                none.push(measure(&server, || home.run(&[&lists.by_shard[0], &lists.by_shard[1]], pipeline, goal))?);
                half.push(measure(&server, || anywhere.run(&[&lists.all], pipeline, goal))?);
            }
            let name = format!("{} at pipeline {pipeline}", workload.name());
            report.figures(&name, json!({"none": none, "half": half}));
            add_rows(&mut table, workload, pipeline, &none, &half);
        }
    }
    report.table("medians", &table);
    report.finish()
}

fn add_rows(table: &mut Table, workload: Workload, pipeline: usize, none: &[Measure], half: &[Measure]) {
    let cpu = |measures: &[Measure]| median(measures.iter().map(|measure| measure.cpu_us));
    for (name, measures) in [("none", none), ("half", half)] {
        let rate = median(measures.iter().map(|measure| measure.rate));
        table.row(vec![
            workload.name().into(),
            pipeline.to_string(),
            name.into(),
            format!("{:.3}", cpu(measures)),
            format!("{:.2}", cpu(measures) / cpu(none)),
            format!("{:.1}", rate / 1e3),
        ]);
    }
}

/// The requests of a workload: over all keys, and over each shard's.
struct Lists {
    all: Requests,
    by_shard: [Requests; CORES],
}

impl Lists {
    fn new(workload: Workload, keys: u32, value_bytes: usize, rng: &mut Rng) -> Result<Self> {
        let order = shuffled(0..keys, rng);
        let of = |keys: &[u32]| match workload {
            Workload::Set => Ok(Requests::set(keys, |_| value_bytes, None)),
            Workload::Get => Ok(Requests::get(keys, value_bytes)),
            _ => bail!("crossing measures set and get"),
        };
        let (first, second): (Vec<u32>, Vec<u32>) = order.iter().partition(|number| shard(&key("key", **number)) == 0);
        Ok(Self { all: of(&order)?, by_shard: [of(&first)?, of(&second)?] })
    }
}

/// Opens connections until half of those wanted are at home on each core; each sends from the list of its core.
fn connections_at_home(port: u16, connections: usize) -> Result<Generator> {
    let wanted = (connections / CORES).max(1);
    let mut at: [Vec<TcpStream>; CORES] = Default::default();
    for _ in 0..wanted * 40 {
        if at.iter().all(|streams| streams.len() == wanted) {
            break;
        }
        let mut client = Client::connect(port)?;
        let info = client.call(&["CLIENT", "INFO"])?.text()?;
        let core = home_core(&info).with_context(|| format!("CLIENT INFO tells no core=: {info}"))?;
        ensure!(core < CORES, "a connection is at home on core {core} of a server with {CORES} shards");
        if at[core].len() < wanted {
            at[core].push(client.into_stream());
        }
    }
    let [first, second] = at;
    ensure!(first.len() == wanted && second.len() == wanted, "all connections land on one core");
    Generator::over(first.into_iter().chain(second).collect(), |number| number / wanted)
}

/// The number behind `core=` in a CLIENT INFO line.
fn home_core(info: &str) -> Option<usize> {
    info.split_ascii_whitespace().find_map(|field| field.strip_prefix("core="))?.parse().ok()
}

/// The shard that a key belongs to.
fn shard(key: &[u8]) -> usize {
    usize::from(crc16(key) % SLOTS) % CORES
}

/// CRC-16/XMODEM, as the Redis cluster specification has it.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, byte| {
        (0..8).fold(crc ^ (u16::from(*byte) << 8), |crc, _| (crc << 1) ^ if crc & 0x8000 == 0 { 0 } else { 0x1021 })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead, BufReader, Write};
    use std::net::TcpListener;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

    #[test]
    fn slots_are_those_of_the_cluster_specification() {
        // The check value of CRC-16/XMODEM, and a slot that `CLUSTER KEYSLOT foo` gives.
        assert_eq!(crc16(b"123456789"), 0x31c3);
        assert_eq!(crc16(b"foo") % SLOTS, 12182);
    }

    #[test]
    fn the_home_core_is_a_field_of_client_info() {
        assert_eq!(home_core("id=3 addr=127.0.0.1:5 core=1 name=\n"), Some(1));
        assert_eq!(home_core("id=3 addr=127.0.0.1:5 score=1\n"), None);
    }

    #[test]
    fn with_none_crossing_a_connection_requests_only_keys_of_its_core() {
        // A server of two cores, on which connections land in turns, counts the keys that come to the wrong one.
        let strays = Arc::new(AtomicUsize::new(0));
        let port = serve_on_two_cores(Arc::clone(&strays));
        let lists = Lists::new(Workload::Get, 1000, 0, &mut Rng::with_seed(1)).unwrap();
        let mut home = connections_at_home(port, 6).unwrap();
        let tally = home.run(&[&lists.by_shard[0], &lists.by_shard[1]], 4, Goal::Once).unwrap();
        assert_eq!((tally.requests, strays.load(Relaxed)), (1000, 0));

        let mut anywhere = Generator::connect(port, 6).unwrap();
        let tally = anywhere.run(&[&lists.all], 4, Goal::Once).unwrap();
        let crossed = strays.load(Relaxed);
        assert_eq!(tally.requests, 1000);
        assert!((400..600).contains(&crossed), "{crossed} of 1000 crossed");
    }

    fn serve_on_two_cores(strays: Arc<AtomicUsize>) -> u16 {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        std::thread::spawn(move || {
            for (number, stream) in listener.incoming().enumerate() {
                let (stream, strays) = (stream.unwrap(), Arc::clone(&strays));
                std::thread::spawn(move || serve(BufReader::new(stream), number % CORES, &strays));
            }
        });
        port
    }

    /// Answers CLIENT INFO with the core, and every GET with an empty value.
    fn serve(mut stream: BufReader<TcpStream>, core: usize, strays: &AtomicUsize) {
        let mut line = String::new();
        while stream.read_line(&mut line).is_ok_and(|bytes| bytes > 0) {
            let reply = match line.trim_end() {
                "INFO" => "$6\r\ncore=C\r\n".replace('C', &core.to_string()),
                key if key.starts_with("key:") => {
                    strays.fetch_add(usize::from(shard(key.as_bytes()) != core), Relaxed);
                    "$0\r\n\r\n".to_owned()
                }
                _ => String::new(),
            };
            if stream.get_mut().write_all(reply.as_bytes()).is_err() {
                return;
            }
            line.clear();
        }
    }
}
