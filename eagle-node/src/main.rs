//! The `eagle-node` binary: a subcommand, or arguments to configuration, configuration to a running node.
//!
//! What is missing to start is one sentence on the standard error and exit code 1.

use std::process::ExitCode;

use eagle_node::{
    check,
    config::{Config, Start, args::Sources},
    generate, log,
    runtime::{self, doctor},
};

#[expect(clippy::print_stdout, clippy::print_stderr, reason = "what a program says at its start goes to its terminal")]
fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned()).collect();
    let environment: Vec<(String, String)> = std::env::vars_os()
        .map(|(name, value)| (name.to_string_lossy().into_owned(), value.to_string_lossy().into_owned()))
        .collect();
    if let Some((first, rest)) = arguments.split_first()
        && let Some((text, code)) = match first.as_str() {
            "check" => Some(check::run(rest)),
            "doctor" => Some(doctor::run(rest, &environment)),
            "generate" => Some(generate::run(rest)),
            _ => None,
        }
    {
        print!("{text}");
        return ExitCode::from(code);
    }
    match Config::from_args(&arguments, &environment) {
        Ok(Start::Print(text)) => {
            print!("{text}");
            ExitCode::SUCCESS
        }
        Ok(Start::Topology(config)) => match runtime::topology::describe(&config) {
            Ok(text) => {
                print!("{text}");
                ExitCode::SUCCESS
            }
            Err(error) => {
                eprintln!("{error}");
                ExitCode::FAILURE
            }
        },
        Ok(Start::Serve { config, notes, sources }) => match serve(*config, &notes, &sources) {
            Ok(()) => ExitCode::SUCCESS,
            Err(sentence) => {
                eprintln!("{sentence}");
                ExitCode::FAILURE
            }
        },
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn serve(config: Config, notes: &[String], sources: &Sources) -> Result<(), String> {
    // Before the log's thread.
    runtime::hold_signals_back();
    log::start(&config).map_err(|error| blamed(Some("logfile"), &error, sources))?;
    for note in notes {
        tracing::warn!("{note}");
    }
    let ran = runtime::run(config).map_err(|error| blamed(error.directive(), &error, sources));
    log::end();
    ran
}

/// The sentence, behind the directive that it is about and where that was set.
fn blamed(directive: Option<&'static str>, error: &dyn std::error::Error, sources: &Sources) -> String {
    match directive.map(|name| (name, sources.get(name))) {
        Some((name, Some(source))) => format!("{source}: '{name}': {error}"),
        Some((name, None)) => format!("by default: '{name}': {error}"),
        None => error.to_string(),
    }
}
