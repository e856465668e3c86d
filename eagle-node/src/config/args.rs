//! The command line is a configuration file's path and directives as flags: `eagle-node node.conf --port 7000`.
//!
//! A flag takes all words up to the next `--`; a lone `-` reads the configuration from standard input. Environment
//! variables override both: `EAGLE_CONF_` and the directive in upper case, with `_` for `-`
//! (`EAGLE_CONF_MAXMEMORY_POLICY=allkeys-lru`). The prefix is one that no orchestrator invents: Kubernetes gives a
//! service's neighbours variables like `EAGLE_PORT`. Flags are applied last. The help is the table of directives.

use std::{collections::BTreeMap, io::Read};

/// What the name of an environment variable begins with that is a directive.
const VARIABLE: &str = "EAGLE_CONF_";

use super::{
    Config, ConfigError,
    file::{Settings, Source, split},
    table::{Place, TABLE, find},
};

/// Where directives were set last, by their names.
pub type Sources = BTreeMap<&'static str, Source>;

/// A word that comes first and asks for something else than to serve.
#[derive(Clone, Copy, Debug)]
pub struct Subcommand {
    /// The word.
    pub name: &'static str,
    /// What may follow it.
    pub arguments: &'static str,
    /// What it does.
    pub what: &'static str,
}

/// All of them.
pub const SUBCOMMANDS: &[Subcommand] = &[
    Subcommand {
        name: "topology",
        arguments: "[FILE] [--DIRECTIVE VALUE...]...",
        what: "prints which cores, NUMA nodes and folders a node of these options would use, and why",
    },
    Subcommand {
        name: "doctor",
        arguments: "[--json] [FILE] [--DIRECTIVE VALUE...]...",
        what: "says what to change on this machine for a node of these options: exit code 0 nothing, 1 something, 2 it would not start",
    },
    Subcommand {
        name: "check",
        arguments: "--dir DIR [--json]",
        what: "verifies the pools of a folder that no server has, without changing them: exit code 0 sound, 1 damaged, 2 unreadable",
    },
    Subcommand {
        name: "generate",
        arguments: "config|man|bash|zsh|fish",
        what: "prints the annotated default configuration, the man page, or the completions of a shell",
    },
];

/// What the command line asks for.
#[derive(Debug)]
pub enum Start {
    /// To serve.
    Serve {
        /// With this configuration.
        config: Box<Config>,
        /// Having logged this first.
        notes: Vec<String>,
        /// Where its directives were set.
        sources: Sources,
    },
    /// To print what a node of this configuration would use of the machine, and end.
    Topology(Box<Config>),
    /// To print this text and end.
    Print(String),
}

impl Config {
    /// Reads the arguments (without the program's name), the file that they name, standard input if they ask so, and
    /// of the environment's variables those that are directives.
    ///
    /// # Errors
    ///
    /// With one sentence that says what to correct.
    pub fn from_args(args: &[String], environment: &[(String, String)]) -> Result<Start, ConfigError> {
        match args.first().map(String::as_str) {
            Some("-v" | "--version") => return Ok(Start::Print(version())),
            Some("-h" | "--help") => return Ok(Start::Print(help())),
            Some("topology") => {
                return match Self::from_args(&args[1..], environment)? {
                    Start::Serve { config, .. } => Ok(Start::Topology(config)),
                    other => Ok(other),
                };
            }
            _ => {}
        }
        let line = CommandLine::parse(args)?;
        let mut settings = Settings::default();
        if let Some(path) = line.file {
            settings.read_file(path)?;
            settings.came_from(path);
        }
        if line.stdin {
            let mut text = Vec::new();
            std::io::stdin().read_to_end(&mut text).map_err(|error| ConfigError {
                source: None,
                reason: format!("cannot read the configuration from standard input: {error}"),
            })?;
            settings.read_text(&text, "-", 0)?;
        }
        for (variable, value) in environment {
            if let Some(name) = variable.strip_prefix(VARIABLE) {
                let name = directive_of(name);
                settings.apply(
                    name.as_bytes(),
                    &[value.clone().into_bytes()],
                    Source::Variable(variable.clone()),
                    0,
                )?;
            }
        }
        for (name, values) in &line.flags {
            settings.apply(name, values, Source::Flag, 0)?;
        }
        settings.check()?;
        let maxmemory = settings.config.maxmemory;
        if (1..MAXMEMORY_ODD).contains(&maxmemory) {
            settings.notes.push(format!(
                "WARNING: You specified a maxmemory value that is less than 1MB (current value is {maxmemory} bytes). \
                 Are you sure this is what you really want?"
            ));
        }
        let Settings { config, notes, sources, .. } = settings;
        Ok(Start::Serve { config: Box::new(config), notes, sources })
    }
}

/// Below this `maxmemory` is taken as it is, but hardly meant.
const MAXMEMORY_ODD: u64 = 1 << 20;

/// The directive that a variable names. A few have an underscore of their own.
fn directive_of(variable: &str) -> String {
    let name = variable.to_ascii_lowercase();
    if find(name.as_bytes()).is_some() { name } else { name.replace('_', "-") }
}

/// A flag's name and its words.
type Flag = (Vec<u8>, Vec<Vec<u8>>);

/// The arguments by what they are.
#[derive(Debug, Default)]
struct CommandLine<'a> {
    file: Option<&'a str>,
    stdin: bool,
    flags: Vec<Flag>,
}

impl<'a> CommandLine<'a> {
    fn parse(args: &'a [String]) -> Result<Self, ConfigError> {
        let wrong = |reason: String| ConfigError { source: Some(Source::Flag), reason };
        let mut line = Self::default();
        for (index, arg) in args.iter().enumerate() {
            if arg == "-" && (index == 0 || index + 1 == args.len()) {
                line.stdin = true;
            } else if let Some(flag) = arg.strip_prefix("--") {
                line.flags.push(split_flag(flag).ok_or_else(|| wrong(format!("'{arg}': unbalanced quotes")))?);
            } else if let Some((_, words)) = line.flags.last_mut() {
                words.push(arg.clone().into_bytes());
            } else if index == 0 && !arg.starts_with('-') {
                line.file = Some(arg);
            } else {
                return Err(wrong(format!("'{arg}' is neither a file nor a flag; flags begin with --, see --help")));
            }
        }
        for (name, words) in &mut line.flags {
            // `--save` alone means `--save ""`, as in Redis.
            if words.is_empty() && name.eq_ignore_ascii_case(b"save") {
                words.push(Vec::new());
            }
        }
        Ok(line)
    }
}

/// `--port`, `--port=7000` and `"--port 7000"` as one argument are all understood.
fn split_flag(flag: &str) -> Option<Flag> {
    if let Some((name, value)) = flag.split_once('=')
        && !name.contains(' ')
    {
        return Some((name.as_bytes().to_vec(), vec![value.as_bytes().to_vec()]));
    }
    let mut words = split(flag.as_bytes())?;
    if words.is_empty() { Some((Vec::new(), words)) } else { Some((words.remove(0), words)) }
}

/// One line, in the form that tools look for in `redis-server --version`.
fn version() -> String {
    format!("EagleDB server v={} (as Redis {})\n", env!("CARGO_PKG_VERSION"), crate::REDIS_VERSION)
}

fn help() -> String {
    let mut text = String::from(
        "Usage: eagle-node [FILE] [--DIRECTIVE VALUE...]... [-]\n\n\
         FILE has the grammar of redis.conf; - reads it from standard input. Every directive is also a flag:\n\
         eagle-node --port 7000 --bind 127.0.0.1 --shards 2\n\
         and an environment variable, which overrides the file: EAGLE_CONF_PORT=7000 EAGLE_CONF_MAXMEMORY_POLICY=allkeys-lru\n\n\
         -v, --version   print the version\n\
         -h, --help      print this text\n\n",
    );
    for one in SUBCOMMANDS {
        text.push_str(&format!("eagle-node {} {}\n  {}\n", one.name, one.arguments, one.what));
    }
    text.push_str("\nDirectives (a star: only at start):\n\n");
    for row in TABLE.iter().filter(|row| row.acts()) {
        let name = format!("{}{}", row.name, if row.live { "" } else { " *" });
        let default = if row.default.is_empty() { "\"\"" } else { row.default };
        text.push_str(&format!("  {name:<28} {}\n  {:28} {}; default {default}\n", row.doc, "", row.form.describe()));
    }
    text.push_str("\nThese wait for a part of EagleDB that is not there yet:\n\n");
    for row in TABLE {
        if let Place::Only(why) = row.place {
            text.push_str(&format!("  {:<28} {why}\n", row.name));
        }
    }
    text.push_str("\nThese of Redis are accepted and have no effect:\n\n");
    let names: Vec<&str> = TABLE.iter().filter(|row| matches!(row.place, Place::Kept)).map(|row| row.name).collect();
    text.push_str(&wrap(&names, 110));
    text
}

/// Words in indented lines of at most `width` bytes.
fn wrap(words: &[&str], width: usize) -> String {
    let mut text = String::new();
    let mut column = 0;
    for word in words {
        if column == 0 || column + 1 + word.len() > width {
            text.push_str(if column == 0 { "  " } else { "\n  " });
            column = 2;
        } else {
            text.push(' ');
            column += 1;
        }
        text.push_str(word);
        column += word.len();
    }
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start(args: &[&str]) -> Result<Start, ConfigError> {
        start_in(args, &[])
    }

    fn start_in(args: &[&str], environment: &[(&str, &str)]) -> Result<Start, ConfigError> {
        let args: Vec<_> = args.iter().map(|&arg| arg.to_owned()).collect();
        let environment: Vec<_> =
            environment.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect();
        Config::from_args(&args, &environment)
    }

    fn config(args: &[&str]) -> Config {
        match start(args).unwrap() {
            Start::Serve { config, .. } => *config,
            other => panic!("it does not serve: {other:?}"),
        }
    }

    #[test]
    fn every_directive_is_a_flag() {
        // Several words reach to the next flag; the file comes first, whatever it says flags override.
        let file = std::env::temp_dir().join(format!("eagle-args-{}.conf", std::process::id()));
        std::fs::write(&file, "port 1\nmaxclients 7\n").unwrap();
        let config = config(&[
            file.to_str().unwrap(),
            "--port",
            "7000",
            "--bind",
            "127.0.0.1",
            "::1",
            "--save",
            "--timeout=0",
            "--databases 4",
        ]);
        std::fs::remove_file(&file).unwrap();
        assert_eq!((config.port, config.maxclients, config.timeout, config.databases), (7000, 7, 0, 4));
        assert_eq!(config.bind, ["127.0.0.1", "::1"]);
        assert_eq!(config.config_file, file.to_str().unwrap());
    }

    #[test]
    fn the_environment_stands_between_file_and_flags() {
        // Over the file, under flags; others' variables are none of ours, a directive that does not exist is an error.
        let file = std::env::temp_dir().join(format!("eagle-environment-{}.conf", std::process::id()));
        std::fs::write(&file, "port 1\nmaxclients 7\ntimeout 5\n").unwrap();
        let environment = [
            ("EAGLE_CONF_PORT", "2"),
            ("EAGLE_CONF_MAXCLIENTS", "8"),
            ("EAGLE_CONF_BIND", "127.0.0.1 ::1"),
            ("EAGLE_CONF_REQUIREPASS", "pass word"),
            ("EAGLE_CONF_AOF_REWRITE_CPULIST", "1"),
            ("EAGLE_CONF_BIO_CPULIST", "2"),
            ("EAGLE_PORT", "tcp://10.0.0.1:6379"),
        ];
        let started = start_in(&[file.to_str().unwrap(), "--port", "3"], &environment);
        let flagged = start(&["--port", "9", "--include", file.to_str().unwrap()]);
        std::fs::remove_file(&file).unwrap();
        let Ok(Start::Serve { config, .. }) = started else { panic!("{started:?}") };
        assert_eq!((config.port, config.maxclients, config.timeout), (3, 8, 5));
        assert_eq!(config.bind, ["127.0.0.1", "::1"]);
        assert_eq!(config.requirepass.0, b"pass word");
        assert_eq!((config.kept["aof_rewrite_cpulist"].as_str(), config.kept["bio_cpulist"].as_str()), ("1", "2"));
        let Ok(Start::Serve { config, .. }) = flagged else { panic!("{flagged:?}") };
        assert_eq!((config.port, config.maxclients), (1, 7), "a file is included where the flag stands");
        for (name, value, complaint) in [
            ("EAGLE_CONF_PORTS", "1", "'ports': no such directive; --help lists all"),
            ("EAGLE_CONF_TIMEOUT", "x", "'timeout': argument couldn't be parsed into an integer"),
        ] {
            let error = start_in(&[], &[(name, value)]).unwrap_err();
            assert_eq!(error.to_string(), format!("environment variable {name}: {complaint}"));
        }
    }

    #[test]
    fn a_wrong_command_line_is_one_sentence() {
        // Names the flag and what would be right.
        for (args, complaint) in [
            (&["--port", "70000"][..], "command line: 'port': argument must be between 0 and 65535 inclusive"),
            (&["--nosuch", "1"], "command line: 'nosuch': no such directive; --help lists all"),
            (&["--port"], "command line: 'port': wrong number of arguments"),
            (&["--"], "command line: '': no such directive; --help lists all"),
            (&["-p", "1"], "command line: '-p' is neither a file nor a flag; flags begin with --, see --help"),
            (
                &["--appendonly", "yes", "--pool", "none"],
                "command line: 'appendonly': with 'pool none' nothing is kept, so the only value is 'no'",
            ),
        ] {
            assert_eq!(start(args).unwrap_err().to_string(), complaint);
        }
    }

    #[test]
    fn help_and_version_are_printed() {
        // The help names every directive of the table.
        let Ok(Start::Print(help)) = start(&["--help"]) else { panic!("no help") };
        for row in TABLE {
            assert!(help.contains(row.name), "{}", row.name);
        }
        assert!(matches!(start(&["-v"]), Ok(Start::Print(text)) if text.contains(env!("CARGO_PKG_VERSION"))));
    }

    #[test]
    fn a_tiny_maxmemory_is_noted_as_odd() {
        // Redis' own words; 1 MB and no limit are nothing to remark on.
        let notes = |text| match start(&["--maxmemory", text]) {
            Ok(Start::Serve { notes, .. }) => notes,
            _ => panic!("does not start"),
        };
        assert!(notes("1mb").is_empty() && notes("0").is_empty());
        let notes = notes("1000");
        assert!(notes[0].starts_with("WARNING: You specified a maxmemory value that is less than 1MB"));
    }
}
