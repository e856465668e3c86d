//! `eagle-bench elements`: bytes of memory an element of a hash costs, its field, its value and its share of the key included.
//!
//! Many hashes of one size are filled field by field, as applications do, and the server's resident memory is compared
//! with that of the empty server.

use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::json;

use crate::client::Reply;
use crate::generator::{Generator, Goal};
use crate::measure::FILL_PIPELINE;
use crate::report::{Report, Table};
use crate::requests::{Requests, key};
use crate::server::{Program, Server};
use crate::setup::Setup;

/// Connections that write; kept open, and warmed up before the empty server is measured.
const CONNECTIONS: usize = 50;
/// Elements of one list of requests: bounds the memory of the generator.
const ELEMENTS_A_LIST: u32 = 250_000;

/// Arguments of `elements`.
#[derive(clap::Args)]
pub(crate) struct Elements {
    #[command(flatten)]
    setup: Setup,
    /// Fields of a hash; their names have 4 bytes, 5 from 1000 fields on
    #[arg(long, value_delimiter = ',', default_value = "100,1000")]
    fields: Vec<u32>,
    /// Bytes of the values
    #[arg(long, default_value_t = 16)]
    value_bytes: usize,
    /// Elements in all
    #[arg(long, default_value_t = 4_000_000)]
    total: u32,
    /// Seconds a server is left alone before its memory is read
    #[arg(long, default_value_t = 1.0)]
    settle: f64,
}

/// Measures all sizes on all servers.
pub(crate) fn run(arguments: &Elements) -> Result<()> {
    let mut report = Report::new("Memory an element of a hash", arguments.setup.json.as_deref());
    arguments.setup.pin_generator()?;
    let programs = arguments.setup.programs()?;
    report.say(&format!(
        "{} Bytes an element, field and value of {} B and a share of the key included; {} elements in all, read {} s after \
         the last write.",
        arguments.setup.describe(&programs),
        arguments.value_bytes,
        arguments.total,
        arguments.settle
    ));
    let mut table = Table::new(&["server", "fields", "encoding", "B an element"]);
    let mut raw = Vec::new();
    for program in &programs {
        for fields in arguments.fields.iter().copied() {
            let (encoding, bytes) = measure(arguments, program, fields)?;
            raw.push(
                json!({"server": program.name, "fields": fields, "encoding": encoding, "bytes_an_element": bytes}),
            );
            table.row(vec![program.name.clone(), fields.to_string(), encoding, format!("{bytes:.1}")]);
        }
    }
    report.table("bytes_an_element", &table);
    report.figures("measurements", raw.into());
    report.finish()
}

fn measure(arguments: &Elements, program: &Program, fields: u32) -> Result<(String, f64)> {
    let server = arguments.setup.start(program)?;
    let mut generator = Generator::connect(server.port, CONNECTIONS)?;
    generator.run(&[&Requests::ping(100_000)], FILL_PIPELINE, Goal::Once)?;
    let empty = server.resident_bytes()?;
    let elements = arguments.total / fields * fields;
    for first in (0..elements).step_by(ELEMENTS_A_LIST as usize) {
        let numbers: Vec<u32> = (first..elements.min(first + ELEMENTS_A_LIST)).collect();
        generator.run(&[&Requests::hset(&numbers, fields, arguments.value_bytes)], FILL_PIPELINE, Goal::Once)?;
    }
    std::thread::sleep(Duration::from_secs_f64(arguments.settle));
    let bytes = server.resident_bytes()?.saturating_sub(empty) as f64 / f64::from(elements);
    check(&server, elements, fields)?;
    let name = String::from_utf8_lossy(&key("hsh", 0)).into_owned();
    let encoding = server.client()?.call(&["OBJECT", "ENCODING", &name])?.text()?;
    Ok((encoding, bytes))
}

/// All hashes are there, the last of them whole.
fn check(server: &Server, elements: u32, fields: u32) -> Result<()> {
    let mut client = server.client()?;
    let hashes = elements / fields;
    let keys = client.call(&["DBSIZE"])?;
    ensure!(keys == Reply::Integer(hashes.into()), "{hashes} hashes were written, DBSIZE says {keys:?}");
    let last = String::from_utf8_lossy(&key("hsh", hashes - 1)).into_owned();
    let len = client.call(&["HLEN", &last])?;
    ensure!(len == Reply::Integer(fields.into()), "{last} has {len:?} fields of {fields}");
    Ok(())
}
