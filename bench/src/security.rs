//! `eagle-bench security`: what access control and TLS cost, as the server's CPU time a request.
//!
//! One server, one set of keys, four kinds of connections that take turns: as a server without passwords has them; of a user with a
//! password who may do everything; of a user who may use some commands and keys of some patterns; and of the first kind over TLS 1.3
//! (ECDSA P-256, the cipher that rustls prefers).

use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use fastrand::Rng;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serde_json::json;

use crate::client::{Client, connect};
use crate::generator::{Generator, Goal, Wire};
use crate::measure::{FILL_PIPELINE, Measure, measure, write_keys};
use crate::report::{Report, Table, median};
use crate::requests::{Requests, Workload, shuffled};
use crate::server::{Server, folder};
use crate::setup::Setup;

/// The kinds of connections, the one that the others are compared with first.
const KINDS: [&str; 4] = ["no password", "user, everything", "user, key patterns", "TLS"];
const PASSWORD: &str = "benchmark";

/// Arguments of `security`.
#[derive(clap::Args)]
pub(crate) struct Security {
    #[command(flatten)]
    setup: Setup,
    /// Commands to measure
    #[arg(long, value_delimiter = ',', default_value = "set,get")]
    workloads: Vec<Workload>,
    /// Requests in flight on each connection
    #[arg(long, value_delimiter = ',', default_value = "1,16")]
    pipelines: Vec<usize>,
    /// Connections of each kind
    #[arg(long, default_value_t = 50)]
    connections: usize,
    /// Bytes of a value
    #[arg(long, default_value_t = 64)]
    value_bytes: usize,
    /// Keys, used at random
    #[arg(long, default_value_t = 200_000)]
    keys: u32,
    /// Measurements of each kind; the median counts
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Seconds of each measurement
    #[arg(long, default_value_t = 1.0)]
    seconds: f64,
}

/// Measures all kinds in turns.
pub(crate) fn run(arguments: &Security) -> Result<()> {
    let mut report = Report::new("Access control and TLS", arguments.setup.json.as_deref());
    arguments.setup.pin_generator()?;
    let secrets = Secrets::new()?;
    let mut program = arguments.setup.eagledb(1)?;
    program.arguments.extend(secrets.arguments.iter().cloned());
    let server = arguments.setup.start(&program)?;
    report.say(&arguments.setup.describe(std::slice::from_ref(&program)));
    report.say(&format!(
        "{} connections of each kind, {} keys, values of {} B, median of {} rounds of {} s.",
        arguments.connections, arguments.keys, arguments.value_bytes, arguments.rounds, arguments.seconds
    ));
    let mut generators = secrets.generators(&server, arguments.connections)?;
    let mut rng = Rng::with_seed(1);
    let order = shuffled(0..arguments.keys, &mut rng);
    write_keys(&mut generators[0], &order, |_| arguments.value_bytes, None, FILL_PIPELINE)?;
    let mut table = Table::new(&["command", "pipeline", "connection", "CPU us/req", "more", "ratio", "K req/s"]);
    for workload in arguments.workloads.iter().copied() {
        let requests = match workload {
            Workload::Set => Requests::set(&order, |_| arguments.value_bytes, None),
            Workload::Get => Requests::get(&order, arguments.value_bytes),
            _ => bail!("security measures set and get"),
        };
        for pipeline in arguments.pipelines.iter().copied() {
            eprintln!("{} at pipeline {pipeline}", workload.name());
            let goal = Goal::For(Duration::from_secs_f64(arguments.seconds));
            let mut measures: [Vec<Measure>; KINDS.len()] = Default::default();
            for _ in 0..arguments.rounds {
                for (generator, measures) in generators.iter_mut().zip(&mut measures) {
                    measures.push(measure(&server, || generator.run(&[&requests], pipeline, goal))?);
                }
            }
            let name = format!("{} at pipeline {pipeline}", workload.name());
            report.figures(&name, json!(KINDS.iter().zip(&measures).collect::<Vec<_>>()));
            add_rows(&mut table, workload, pipeline, &measures);
        }
    }
    report.table("medians", &table);
    report.finish()
}

fn add_rows(table: &mut Table, workload: Workload, pipeline: usize, all: &[Vec<Measure>]) {
    let cpu = |measures: &[Measure]| median(measures.iter().map(|measure| measure.cpu_us));
    let plain = cpu(&all[0]);
    for (name, measures) in KINDS.iter().zip(all) {
        let (cpu, rate) = (cpu(measures), median(measures.iter().map(|measure| measure.rate)));
        // Of the same round: the machine's mood is the same for both then.
        let ratio = median(measures.iter().zip(&all[0]).map(|(with, without)| with.cpu_us / without.cpu_us));
        table.row(vec![
            workload.name().into(),
            pipeline.to_string(),
            (*name).into(),
            format!("{cpu:.3}"),
            format!("{:+.3}", cpu - plain),
            format!("{ratio:.2}"),
            format!("{:.1}", rate / 1e3),
        ]);
    }
}

/// What the server is told of users and certificates, and what a client has to know.
struct Secrets {
    arguments: Vec<String>,
    tls_port: u16,
    certificate: CertificateDer<'static>,
    /// Where the certificate lies.
    _dir: std::rc::Rc<tempfile::TempDir>,
}

impl Secrets {
    fn new() -> Result<Self> {
        let dir = folder(None)?;
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()])?;
        let [cert, key] = ["server.crt", "server.key"].map(|name| dir.path().join(name).display().to_string());
        std::fs::write(&cert, made.cert.pem())?;
        std::fs::write(&key, made.signing_key.serialize_pem())?;
        let tls_port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        let arguments = ["--tls-port", &tls_port.to_string(), "--tls-auth-clients", "no"].map(str::to_owned);
        let files = ["--tls-cert-file".to_owned(), cert, "--tls-key-file".to_owned(), key];
        let arguments = arguments.into_iter().chain(files).collect();
        Ok(Self { arguments, tls_port, certificate: made.cert.der().clone(), _dir: dir })
    }

    fn generators(&self, server: &Server, connections: usize) -> Result<[Generator; KINDS.len()]> {
        let mut client = server.client()?;
        let password = format!(">{PASSWORD}");
        client.expect_ok(&["ACL", "SETUSER", "all", "on", &password, "~*", "&*", "+@all"])?;
        let rules = ["on", &password, "+@read", "+@write", "~user:*", "%R~shared:*", "~key:*"];
        client.expect_ok(&[&["ACL", "SETUSER", "some"], &rules[..]].concat())?;
        let wires = |make: &dyn Fn() -> Result<Wire>| {
            let wires = (0..connections).map(|_| make()).collect::<Result<_>>()?;
            Generator::over_wires(wires, |_| 0)
        };
        let user = |name: &str| {
            let mut client = Client::connect(server.port)?;
            client.expect_ok(&["AUTH", name, PASSWORD])?;
            Ok(Wire::Plain(client.into_stream()))
        };
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone())?;
        let config = Arc::new(ClientConfig::builder().with_root_certificates(roots).with_no_client_auth());
        let tls = || {
            let connection = ClientConnection::new(config.clone(), ServerName::try_from("localhost")?)?;
            let mut stream: StreamOwned<_, TcpStream> = StreamOwned::new(connection, connect(self.tls_port)?);
            stream.conn.complete_io(&mut stream.sock).context("no handshake")?;
            Ok(Wire::Tls(Box::new(stream)))
        };
        Ok([
            wires(&|| Ok(Wire::Plain(connect(server.port)?)))?,
            wires(&|| user("all"))?,
            wires(&|| user("some"))?,
            wires(&tls)?,
        ])
    }
}
