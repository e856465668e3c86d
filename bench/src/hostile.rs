//! `eagle-bench hostile`: clients that mean no good or know no better, and what the others notice of them.
//!
//! Each check runs on a fresh server and ends as one row: what was seen, and whether it is within bounds. They do not
//! stop at the first failure, so that one run shows all.

mod checks;
mod idlers;

use std::fmt;

use anyhow::Result;

use crate::report::{Report, Table};
use crate::server::Server;
use crate::setup::Setup;

/// Arguments of `hostile`.
#[derive(clap::Args)]
pub(crate) struct Hostile {
    #[command(flatten)]
    setup: Setup,
    /// Checks to run [default: all]
    #[arg(long, value_delimiter = ',')]
    checks: Option<Vec<Check>>,
}

/// One kind of trouble.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Check {
    /// Two thousand clients that begin a request and send a byte of it now and then
    Slowloris,
    /// Clients that declare the largest requests there may be and send nothing of them
    Declared,
    /// Clients that never read their replies are cut off at the output limit
    SlowReader,
    /// A million GETs written before any reply is read
    WriteFirst,
    /// A pinger beside a pipeline of 100 MB
    Pipeline,
    /// A client that sends byte by byte
    ByteWise,
    /// A value of 512 MB there and back
    HugeValue,
}

impl Check {
    const ALL: [Check; 7] = [
        Check::Slowloris,
        Check::Declared,
        Check::SlowReader,
        Check::WriteFirst,
        Check::Pipeline,
        Check::ByteWise,
        Check::HugeValue,
    ];

    fn name(self) -> &'static str {
        match self {
            Check::Slowloris => "2000 clients that never end a request",
            Check::Declared => "huge declared lengths",
            Check::SlowReader => "slow readers are cut, nobody else is slowed",
            Check::WriteFirst => "1 M GETs written before a reply is read",
            Check::Pipeline => "pinger beside a 100 MB pipeline",
            Check::ByteWise => "client that sends byte by byte",
            Check::HugeValue => "value of 512 MB, there and back",
        }
    }

    fn run(self, server: &Server) -> Result<Outcome> {
        match self {
            Check::Slowloris => idlers::slowloris(server),
            Check::Declared => idlers::declared(server),
            Check::SlowReader => checks::slow_reader(server),
            Check::WriteFirst => checks::write_first(server),
            Check::Pipeline => checks::pipeline(server),
            Check::ByteWise => checks::byte_wise(server),
            Check::HugeValue => checks::huge_value(server),
        }
    }
}

/// What a check saw.
struct Outcome {
    figures: String,
    within_bounds: bool,
}

impl Outcome {
    fn new(within_bounds: bool, figures: impl fmt::Display) -> Self {
        Self { figures: figures.to_string(), within_bounds }
    }
}

/// Runs the checks on all servers.
pub(crate) fn run(arguments: &Hostile) -> Result<()> {
    let mut report = Report::new("Hostile clients", arguments.setup.json.as_deref());
    arguments.setup.pin_generator()?;
    let programs = arguments.setup.programs()?;
    report.say(&arguments.setup.describe(&programs));
    let mut table = Table::new(&["check", "server", "seen", "verdict"]);
    for check in arguments.checks.as_deref().unwrap_or(&Check::ALL) {
        for program in &programs {
            eprintln!("{}: {}", program.name, check.name());
            let server = arguments.setup.start(program)?;
            let outcome = check.run(&server).unwrap_or_else(|error| Outcome::new(false, format!("{error:#}")));
            let verdict = if outcome.within_bounds { "PASS" } else { "FAIL" };
            table.row(vec![check.name().into(), program.name.clone(), outcome.figures, verdict.into()]);
        }
    }
    report.table("checks", &table);
    report.finish()
}
