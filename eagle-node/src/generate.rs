//! `eagle-node generate WHAT`: prints what is made of the one table of directives: the annotated configuration, the man page, and the
//! completions of shells.
//!
//! The table and [`SUBCOMMANDS`] are told to clap as if it read the command line, for its generators. It does not: the grammar of flags is
//! Redis', in which one takes all words up to the next (`config::args`).

use clap::{Arg, ArgAction, Command, builder::PossibleValuesParser};
use clap_complete::Shell;
use clap_mangen::{
    Man,
    roff::{Roff, bold, roman},
};

use crate::config::{
    args::SUBCOMMANDS,
    form::Form,
    sample,
    table::{Directive, Place, TABLE},
};

/// What can be generated.
pub const WHAT: [&str; 5] = ["config", "man", "bash", "zsh", "fish"];

/// Runs the subcommand with the words behind its name. Returns what to print, and the exit code.
#[must_use]
pub fn run(words: &[String]) -> (String, u8) {
    let shell = |shell| (completions(shell), 0);
    match words {
        [what] => match what.as_str() {
            "config" => (sample::annotated(), 0),
            "man" => (man(), 0),
            "bash" => shell(Shell::Bash),
            "zsh" => shell(Shell::Zsh),
            "fish" => shell(Shell::Fish),
            "-h" | "--help" => (usage(), 0),
            _ => (usage(), 2),
        },
        _ => (usage(), 2),
    }
}

fn usage() -> String {
    format!("Usage: eagle-node generate {}\n", WHAT.join("|"))
}

fn completions(shell: Shell) -> String {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut command(), "eagle-node", &mut text);
    String::from_utf8(text).expect("completions are text")
}

/// The command line, as far as clap can say it.
fn command() -> Command {
    let mut command = Command::new("eagle-node")
        .version(env!("CARGO_PKG_VERSION"))
        .about("Redis-compatible key-value server, one shard a core")
        .disable_help_subcommand(true)
        .arg(
            Arg::new("FILE")
                .help("Configuration in the grammar of redis.conf; - reads it from standard input")
                .value_hint(clap::ValueHint::FilePath),
        )
        .args(flags());
    for one in SUBCOMMANDS {
        let mut subcommand = Command::new(one.name).about(one.what).disable_help_flag(true);
        subcommand = match one.name {
            "generate" => subcommand.arg(Arg::new("WHAT").value_parser(WHAT)),
            "check" => subcommand.arg(directory()).arg(json()),
            "doctor" => subcommand.arg(json()).args(flags()),
            _ => subcommand.args(flags()),
        };
        command = command.subcommand(subcommand);
    }
    command
}

fn json() -> Arg {
    Arg::new("json").long("json").help("Print JSON").action(ArgAction::SetTrue)
}

fn directory() -> Arg {
    Arg::new("dir").long("dir").value_name("dir").help("The folder of the pools").value_hint(clap::ValueHint::DirPath)
}

fn flags() -> impl Iterator<Item = Arg> {
    TABLE.iter().filter(|row| row.acts() && !row.hidden).map(flag)
}

fn flag(row: &Directive) -> Arg {
    let when = if row.live { "" } else { "; only at start" };
    let default = if row.default.is_empty() { "\"\"" } else { row.default };
    let arg = Arg::new(row.name)
        .long(row.name)
        .value_name(row.form.describe())
        .help(format!("{} [default: {default}{when}]", row.doc));
    let arg = match row.form {
        Form::Flag => arg.value_parser(["yes", "no"]).hide_possible_values(true),
        Form::Choice(names) => arg.value_parser(PossibleValuesParser::new(names)).hide_possible_values(true),
        _ => arg,
    };
    match row.name {
        "dir" | "pool-dirs" => arg.value_hint(clap::ValueHint::DirPath),
        name if name.ends_with("file") || name == "unixsocket" => arg.value_hint(clap::ValueHint::FilePath),
        _ => arg,
    }
}

/// The man page.
fn man() -> String {
    let mut page = Roff::default();
    let mut text = Vec::new();
    let command = command();
    let man = Man::new(command).title("EAGLE-NODE").section("8").source(concat!("EagleDB ", env!("CARGO_PKG_VERSION")));
    let written = [Man::render_title, Man::render_name_section, Man::render_description_section]
        .iter()
        .try_for_each(|render| render(&man, &mut text));
    written.expect("memory takes what is written");
    synopsis(&mut page);
    operation(&mut page);
    let mut rest = Vec::new();
    page.to_writer(&mut text).expect("memory takes what is written");
    man.render_options_section(&mut rest).expect("memory takes what is written");
    text.extend(rest);
    let mut end = Roff::default();
    without_effect(&mut end);
    end.to_writer(&mut text).expect("memory takes what is written");
    String::from_utf8(text).expect("a page is text")
}

fn synopsis(page: &mut Roff) {
    page.control("SH", ["SYNOPSIS"]);
    page.text([bold("eagle-node"), roman(" [FILE] [--DIRECTIVE VALUE...]... [-]")]);
    for one in SUBCOMMANDS {
        page.control("br", []);
        page.text([bold(format!("eagle-node {}", one.name)), roman(format!(" {}", one.arguments))]);
    }
    page.control("SH", ["COMMANDS"]);
    page.text([roman(
        "Without a command it serves, until SIGTERM or SIGINT asks for the end; a second one ends it at once. FILE has the \
         grammar of redis.conf; each of its directives is an option as well.",
    )]);
    for one in SUBCOMMANDS {
        page.control("TP", []);
        page.text([bold(one.name)]);
        page.text([roman(one.what)]);
    }
}

fn operation(page: &mut Roff) {
    page.control("SH", ["ENVIRONMENT"]);
    page.text([
        roman("Every directive is a variable too: "),
        bold("EAGLE_CONF_"),
        roman(" and its name in upper case, with _ for -. Variables win over the file, flags over both. "),
        bold("NOTIFY_SOCKET"),
        roman(", "),
        bold("WATCHDOG_USEC"),
        roman(" and "),
        bold("UPSTART_JOB"),
        roman(" are read as the directive supervised asks."),
    ]);
    page.control("SH", ["FILES"]);
    for (path, what) in [
        ("/etc/eagledb/eagledb.conf", "the configuration of the packaged service"),
        (
            "/var/lib/eagledb/shard-NN.pool",
            "its data, one pool a shard; shard-NN.checkpoint beside it is made anew when missing",
        ),
    ] {
        page.control("TP", []);
        page.text([bold(path)]);
        page.text([roman(what)]);
    }
    page.control("SH", ["EXIT STATUS"]);
    page.text([roman(
        "0 after an orderly end, 1 if it cannot start or go on: the last line on the standard error names the directive, where it was \
         written, and the remedy. check and doctor: 0 nothing to do, 1 damaged, or something to change, 2 unreadable, or no start.",
    )]);
}

fn without_effect(page: &mut Roff) {
    page.control("SH", ["DIRECTIVES WITHOUT EFFECT"]);
    let names = |wanted: fn(&Place) -> bool| -> String {
        let rows = TABLE.iter().filter(|row| wanted(&row.place) && !row.hidden);
        rows.map(|row| row.name).collect::<Vec<_>>().join(", ")
    };
    page.text([roman(format!(
        "Accepted as of Redis, kept and shown: {}.",
        names(|place| matches!(place, Place::Kept))
    ))]);
    page.control("PP", []);
    page.text([roman(format!(
        "Refused until a part of EagleDB is there: {}.",
        names(|place| matches!(place, Place::Only(_)))
    ))]);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn generated(what: &str) -> String {
        let (text, code) = run(&[what.to_owned()]);
        assert_eq!(code, 0, "{what}");
        text
    }

    #[test]
    fn everything_names_every_directive_that_acts() {
        // In all five; a word that is none of them is answered by the usage.
        for what in WHAT {
            let text = generated(what).replace("\\-", "-");
            for row in TABLE.iter().filter(|row| row.acts() && !row.hidden) {
                assert!(text.contains(row.name), "{what}: {}", row.name);
            }
        }
        assert_eq!(
            run(&["nonsense".to_owned()]),
            ("Usage: eagle-node generate config|man|bash|zsh|fish\n".to_owned(), 2)
        );
        assert_eq!(run(&[]).1, 2);
    }

    #[test]
    fn choices_are_completed_and_the_page_has_its_sections() {
        // The values of a choice in each shell; the sections that readers of man pages look for, each once.
        for shell in ["bash", "zsh", "fish"] {
            let text = generated(shell);
            assert!(text.contains("allkeys-lru") && text.contains("everysec") && text.contains("doctor"), "{shell}");
        }
        let page = generated("man");
        for section in ["NAME", "SYNOPSIS", "DESCRIPTION", "COMMANDS", "ENVIRONMENT", "FILES", "EXIT STATUS", "OPTIONS"]
        {
            let heads = [format!(".SH {section}\n"), format!(".SH \"{section}\"\n")];
            let count: usize = heads.iter().map(|head| page.matches(head.as_str()).count()).sum();
            assert_eq!(count, 1, "{section}: {page}");
        }
    }
}
