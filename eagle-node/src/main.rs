//! The `eagle-node` binary: a subcommand, or arguments to configuration, configuration to a running node.
//!
//! What is missing to start is one sentence on the standard error and exit code 1.

use std::process::ExitCode;

use eagle_node::{
    check,
    config::{Config, Start},
    log, runtime,
};

#[expect(clippy::print_stdout, clippy::print_stderr, reason = "what a program says at its start goes to its terminal")]
fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned()).collect();
    let environment: Vec<(String, String)> = std::env::vars_os()
        .map(|(name, value)| (name.to_string_lossy().into_owned(), value.to_string_lossy().into_owned()))
        .collect();
    if let Some(("check", rest)) = arguments.split_first().map(|(first, rest)| (first.as_str(), rest)) {
        let (text, code) = check::run(rest);
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
        Ok(Start::Serve { config, notes }) => match serve(*config, &notes) {
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

fn serve(config: Config, notes: &[String]) -> Result<(), String> {
    log::start(&config).map_err(|error| error.to_string())?;
    for note in notes {
        tracing::warn!("{note}");
    }
    let ran = runtime::run(config).map_err(|error| error.to_string());
    log::end();
    ran
}
