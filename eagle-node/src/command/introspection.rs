//! COMMAND: what the table says of commands, told to clients.

use eagle_shard::{
    command::{args::is, describe},
    error::Error,
    glob,
    spec::{Categories, Flags, Group, Spec},
};

use super::{Found, NodeRun, Row, access, all_rows, find, find_named, help as write_help, rows};
use crate::core::{Core, NodeCall};

const COMMAND: Spec = Spec {
    flags: Flags::LOADING.union(Flags::STALE),
    categories: Categories::CONNECTION,
    group: Group::Server,
    ..Spec::BLANK
};

const ANY_ORDER: &[&str] = &["nondeterministic_output_order"];
const EACH_NAMED: &str = "O(N) where N is the number of commands to look up";
const EACH_ARGUMENT: &str = "O(N) where N is the number of arguments to the command";
const EACH_COMMAND: &str = "O(N) where N is the total number of commands";

pub(super) const ROWS: &[Spec] = &[Spec {
    name: "command",
    arity: -1,
    tips: ANY_ORDER,
    since: "2.8.13",
    complexity: EACH_COMMAND,
    summary: "Returns detailed information about all commands.",
    subcommands: SUBCOMMANDS,
    ..COMMAND
}];

const SUBCOMMANDS: &[Spec] = &[
    Spec {
        name: "command|count",
        arity: 2,
        since: "2.8.13",
        complexity: "O(1)",
        summary: "Returns a count of commands.",
        ..COMMAND
    },
    Spec {
        name: "command|docs",
        syntax: "[command-name...]",
        arity: -2,
        tips: ANY_ORDER,
        since: "7.0.0",
        complexity: EACH_NAMED,
        summary: "Returns documentary information about one, multiple or all commands.",
        ..COMMAND
    },
    Spec {
        name: "command|getkeys",
        syntax: "command [arg...]",
        arity: -3,
        since: "2.8.13",
        complexity: EACH_ARGUMENT,
        summary: "Extracts the key names from an arbitrary command.",
        ..COMMAND
    },
    Spec {
        name: "command|getkeysandflags",
        syntax: "command [arg...]",
        arity: -3,
        since: "7.0.0",
        complexity: EACH_ARGUMENT,
        summary: "Extracts the key names and access flags for an arbitrary command.",
        ..COMMAND
    },
    Spec {
        name: "command|help",
        arity: 2,
        since: "5.0.0",
        complexity: "O(1)",
        summary: "Returns helpful text about the different subcommands.",
        ..COMMAND
    },
    Spec {
        name: "command|info",
        syntax: "[command-name...]",
        arity: -2,
        tips: ANY_ORDER,
        since: "2.8.13",
        complexity: EACH_NAMED,
        summary: "Returns information about one, multiple or all commands.",
        history: &[("7.0.0", "Allowed to be called with no argument to get info on all commands.")],
        ..COMMAND
    },
    Spec {
        name: "command|list",
        syntax: "[FILTERBY {filterby: MODULE module-name | ACLCAT category | PATTERN pattern}]",
        arity: -2,
        tips: ANY_ORDER,
        since: "7.0.0",
        complexity: EACH_COMMAND,
        summary: "Returns a list of command names.",
        ..COMMAND
    },
];

pub(super) const RUNS: &[(&str, NodeRun)] = &[
    ("command", NodeRun::Here(info)),
    ("command|count", NodeRun::Here(count)),
    ("command|docs", NodeRun::Here(docs)),
    ("command|getkeys", NodeRun::Here(getkeys)),
    ("command|getkeysandflags", NodeRun::Here(getkeysandflags)),
    ("command|help", NodeRun::Here(help)),
    ("command|info", NodeRun::Here(info)),
    ("command|list", NodeRun::Here(list)),
];

const HELP: &[&str] = &[
    "(no subcommand)",
    "    Return details about all commands.",
    "COUNT",
    "    Return the total number of commands in this server.",
    "LIST",
    "    Return a list of all commands in this server.",
    "INFO [<command-name> ...]",
    "    Return details about multiple commands.",
    "    If no command names are given, documentation details for all",
    "    commands are returned.",
    "DOCS [<command-name> ...]",
    "    Return documentation details about multiple commands.",
    "    If no command names are given, documentation details for all",
    "    commands are returned.",
    "GETKEYS <full-command>",
    "    Return the keys from a full command.",
    "GETKEYSANDFLAGS <full-command>",
    "    Return the keys and the access flags from a full command.",
];

fn help(_: &mut Core, call: &mut NodeCall<'_>) -> Result<(), Error> {
    write_help("COMMAND", HELP, &mut call.reply);
    Ok(())
}

fn count(_: &mut Core, call: &mut NodeCall<'_>) -> Result<(), Error> {
    call.reply.integer(rows().count() as i64);
    Ok(())
}

fn info(_: &mut Core, call: &mut NodeCall<'_>) -> Result<(), Error> {
    let reply = &mut call.reply;
    if call.args.len() <= 2 {
        reply.array(rows().count());
        rows().for_each(|row| describe::info(row.spec, reply));
        return Ok(());
    }
    reply.array(call.args.len() - 2);
    for name in call.args.iter().skip(2) {
        match find_named(name) {
            Some(row) => describe::info(row.spec, reply),
            None => reply.null(),
        }
    }
    Ok(())
}

fn docs(_: &mut Core, call: &mut NodeCall<'_>) -> Result<(), Error> {
    let reply = &mut call.reply;
    let named: Vec<&Row> =
        if call.args.len() == 2 { rows().collect() } else { call.args.iter().skip(2).filter_map(find_named).collect() };
    reply.map(named.len());
    named.into_iter().for_each(|row| describe::docs(row.spec, reply));
    Ok(())
}

fn list(_: &mut Core, call: &mut NodeCall<'_>) -> Result<(), Error> {
    let args = call.args;
    let listed: Vec<&Row> = match (args.len(), args.get(2), args.get(3), args.get(4)) {
        (2, ..) => all_rows().collect(),
        (5, Some(filter), Some(by), Some(value)) if is(filter, "FILTERBY") => match by {
            // There are no modules.
            by if is(by, "MODULE") => Vec::new(),
            by if is(by, "ACLCAT") => all_rows().filter(|row| is_in(row, value)).collect(),
            by if is(by, "PATTERN") => all_rows().filter(|row| matches(value, row)).collect(),
            _ => return Err(Error::Syntax),
        },
        _ => return Err(Error::Syntax),
    };
    call.reply.set(listed.len());
    for row in listed {
        call.reply.bulk(row.spec.name.as_bytes());
    }
    Ok(())
}

fn is_in(row: &Row, category: &[u8]) -> bool {
    describe::categories(row.spec).iter().any(|own| is(category, own))
}

fn matches(pattern: &[u8], row: &Row) -> bool {
    glob::matches(pattern, row.spec.name.as_bytes(), glob::Case::Ignore)
}

/// The command that the arguments from the third on are, if it has keys and they are as many as it takes.
fn command_with_keys(call: &NodeCall<'_>) -> Result<&'static Row, Error> {
    let args = call.args.from(2);
    match find(args) {
        Found::Unknown | Found::UnknownSubcommand(_) => Err(Error::Line("ERR Invalid command specified")),
        Found::Row(row) if row.spec.keys.is_empty() => Err(Error::Line("ERR The command has no key arguments")),
        Found::Row(row) if !row.spec.takes(args.len()) => {
            Err(Error::Line("ERR Invalid number of arguments specified for command"))
        }
        Found::Row(row) => Ok(row),
    }
}

fn getkeys(_: &mut Core, call: &mut NodeCall<'_>) -> Result<(), Error> {
    let row = command_with_keys(call)?;
    let args = call.args.from(2);
    call.reply.array(row.spec.key_indices(args.len()).count());
    for index in row.spec.key_indices(args.len()) {
        call.reply.bulk(&args[index]);
    }
    Ok(())
}

fn getkeysandflags(_: &mut Core, call: &mut NodeCall<'_>) -> Result<(), Error> {
    let row = command_with_keys(call)?;
    let args = call.args.from(2);
    call.reply.array(row.spec.key_indices(args.len()).count());
    for keys in row.spec.keys {
        let access = access(keys, args);
        for index in keys.indices(args.len()) {
            call.reply.array(2);
            call.reply.bulk(&args[index]);
            describe::access(access, &mut call.reply);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{super::trial::Trial, *};
    use crate::config::Config;

    #[test]
    fn keys_are_found_in_any_command() {
        // Recorded from Valkey 8.1.8.
        let mut trial = Trial::new(1, Config::default());
        let client = trial.connect(0);
        for (request, reply) in [
            ("COMMAND GETKEYS get a", "*1\r\n$1\r\na"),
            ("COMMAND GETKEYS mset a 1 b 2", "*2\r\n$1\r\na\r\n$1\r\nb"),
            ("COMMAND GETKEYS object freq a", "*1\r\n$1\r\na"),
            ("COMMAND GETKEYS get", "-ERR Invalid number of arguments specified for command"),
            ("COMMAND GETKEYS ping", "-ERR The command has no key arguments"),
            ("COMMAND GETKEYS nosuch a", "-ERR Invalid command specified"),
            ("COMMAND GETKEYSANDFLAGS set a b", "*1\r\n*2\r\n$1\r\na\r\n*2\r\n+OW\r\n+update"),
            ("COMMAND GETKEYSANDFLAGS set a b get", "*1\r\n*2\r\n$1\r\na\r\n*3\r\n+RW\r\n+access\r\n+update"),
            (
                "COMMAND GETKEYSANDFLAGS copy a b",
                "*2\r\n*2\r\n$1\r\na\r\n*2\r\n+RO\r\n+access\r\n*2\r\n$1\r\nb\r\n*2\r\n+OW\r\n+update",
            ),
        ] {
            assert_eq!(trial.ask(client, request), format!("{reply}\r\n"), "{request}");
        }
    }

    #[test]
    fn the_table_is_counted_listed_and_described() {
        // COUNT is the table's number of rows; filters find by name and category; what is not there is null or left out.
        let mut trial = Trial::new(1, Config::default());
        let client = trial.connect(0);
        let mut ask = |request: &str| trial.ask(client, request);
        let count = rows().count();
        assert_eq!(ask("COMMAND COUNT"), format!(":{count}\r\n"));
        for request in ["COMMAND", "COMMAND INFO"] {
            assert!(ask(request).starts_with(&format!("*{count}\r\n*10\r\n")), "{request}");
        }
        assert!(ask("COMMAND DOCS").starts_with(&format!("*{}\r\n", 2 * count)));
        assert!(ask("COMMAND LIST").starts_with(&format!("*{}\r\n", all_rows().count())));
        assert_eq!(ask("COMMAND LIST FILTERBY PATTERN config|S*"), "*1\r\n$10\r\nconfig|set\r\n");
        assert!(ask("COMMAND LIST FILTERBY ACLCAT String").contains("$6\r\nappend\r\n"));
        assert_eq!(ask("COMMAND LIST FILTERBY ACLCAT nosuch"), "*0\r\n");
        assert_eq!(ask("COMMAND LIST FILTERBY MODULE x"), "*0\r\n");
        assert_eq!(ask("COMMAND LIST FILTERBY FOO bar"), "-ERR syntax error\r\n");
        assert_eq!(ask("COMMAND LIST FOO"), "-ERR syntax error\r\n");
        assert_eq!(ask("COMMAND INFO nosuch config|nosuch"), "*2\r\n$-1\r\n$-1\r\n");
        assert!(ask("COMMAND INFO config|get").starts_with("*1\r\n*10\r\n$10\r\nconfig|get\r\n:-3\r\n"));
        assert_eq!(ask("COMMAND DOCS nosuch"), "*0\r\n");
        assert!(ask("COMMAND DOCS nosuch time").starts_with("*2\r\n$4\r\ntime\r\n"));
        assert_eq!(ask("COMMAND FOO"), "-ERR unknown subcommand 'FOO'. Try COMMAND HELP.\r\n");
    }
}
