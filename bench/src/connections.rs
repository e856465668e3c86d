//! `eagle-bench connections`: many connections held open, each of them served, and the memory that an idle one costs.
//!
//! Buffers of the kernel's sockets are not in the figure: they belong to no process.

use std::time::Duration;

use anyhow::{Result, ensure};

use crate::client::{Client, Reply};
use crate::process;
use crate::report::{Report, Table};
use crate::server::Program;
use crate::setup::Setup;

/// Files that this process has open beside its connections, amply.
const OTHER_FILES: u64 = 64;

/// Arguments of `connections`.
#[derive(clap::Args)]
pub(crate) struct Connections {
    #[command(flatten)]
    setup: Setup,
    /// Connections to open: as many as the server admits by default
    #[arg(long, default_value_t = 10_000)]
    count: usize,
    /// Seconds that connections are left idle before memory is read: Redis gives buffers back after two
    #[arg(long, default_value_t = 5.0)]
    settle: f64,
    /// Bytes that an idle connection may cost
    #[arg(long, default_value_t = 4096)]
    bytes_max: u64,
}

/// Measures all servers.
pub(crate) fn run(arguments: &Connections) -> Result<()> {
    let mut report = Report::new("Idle connections", arguments.setup.json.as_deref());
    arguments.setup.pin_generator()?;
    let files = process::raise_open_files_limit()?;
    ensure!(
        files > arguments.count as u64 + OTHER_FILES,
        "only {files} files may be open: raise the limit (ulimit -Hn)"
    );
    let programs = arguments.setup.programs()?;
    report.say(&arguments.setup.describe(&programs));
    let mut table = Table::new(&["server", "open", "served twice", "bytes each", "one more", "verdict"]);
    for program in &programs {
        table.row(hold_open(arguments, program)?);
    }
    report.table("connections", &table);
    report.finish()
}

fn hold_open(arguments: &Connections, program: &Program) -> Result<Vec<String>> {
    let server = arguments.setup.start(program)?;
    // What the server allocates once, on its first connections, is no cost of an idle one.
    let mut clients = vec![served(Client::connect(server.port)?)?];
    let before = server.resident_bytes()?;
    while clients.len() < arguments.count {
        clients.push(served(Client::connect(server.port)?)?);
    }
    let clients = clients.into_iter().map(served).collect::<Result<Vec<_>>>()?;
    std::thread::sleep(Duration::from_secs_f64(arguments.settle));
    let each = server.resident_bytes()?.saturating_sub(before) / clients.len() as u64;
    let verdict = if each <= arguments.bytes_max { "PASS" } else { "FAIL" };
    let count = clients.len().to_string();
    Ok(vec![server.name.clone(), count.clone(), count, each.to_string(), one_more(server.port), verdict.into()])
}

/// The client, after it was served a PING.
fn served(mut client: Client) -> Result<Client> {
    let reply = client.call(&["PING"])?;
    ensure!(reply == Reply::Simple("PONG".into()), "a connection got {reply:?} to its PING");
    Ok(client)
}

/// What the connection after the last gets.
fn one_more(port: u16) -> String {
    match Client::connect(port).and_then(|mut client| client.call(&["PING"])) {
        Ok(Reply::Error(line)) => line,
        Ok(_) => "served".into(),
        Err(error) => format!("{error:#}"),
    }
}
