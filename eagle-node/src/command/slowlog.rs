//! SLOWLOG: the slow commands of all cores as one log, the newest first.

use eagle_resp::{Reply, number};
use eagle_shard::{
    error::Error,
    spec::{Flags, Group, Run, Spec},
};

use super::{Asked, Begin, NodeRun, help as write_help, refuse_count};
use crate::core::{
    Core, MergeCall, NodeCall,
    slowlog::Entry,
    stats::{CoreReport, Part},
};

/// Entries that GET shows unless it is told how many.
const SHOWN: usize = 10;

const SLOWLOG: Spec = Spec {
    flags: Flags::ADMIN.union(Flags::LOADING).union(Flags::STALE),
    group: Group::Server,
    since: "2.2.12",
    complexity: "O(1)",
    ..Spec::BLANK
};

pub(super) const ROWS: &[Spec] = &[Spec {
    name: "slowlog",
    arity: -2,
    flags: Flags::empty(),
    complexity: "Depends on subcommand.",
    summary: "A container for slow log commands.",
    subcommands: &[
        Spec {
            name: "slowlog|get",
            syntax: "[count:integer]",
            arity: -2,
            tips: &["request_policy:all_nodes", "nondeterministic_output"],
            complexity: "O(N) where N is the number of entries returned",
            summary: "Returns the slow log's entries.",
            history: &[("4.0.0", "Added client IP address, port and name to the reply.")],
            ..SLOWLOG
        },
        Spec {
            name: "slowlog|help",
            arity: 2,
            flags: Flags::LOADING.union(Flags::STALE),
            since: "6.2.0",
            summary: "Show helpful text about the different subcommands",
            ..SLOWLOG
        },
        Spec {
            name: "slowlog|len",
            arity: 2,
            tips: &["request_policy:all_nodes", "response_policy:agg_sum", "nondeterministic_output"],
            summary: "Returns the number of entries in the slow log.",
            ..SLOWLOG
        },
        Spec {
            name: "slowlog|reset",
            arity: 2,
            tips: &["request_policy:all_nodes", "response_policy:all_succeeded"],
            complexity: "O(N) where N is the number of entries in the slowlog",
            summary: "Clears all entries from the slow log.",
            ..SLOWLOG
        },
    ],
    run: Run::Container,
    ..SLOWLOG
}];

pub(super) const RUNS: &[(&str, NodeRun)] = &[
    ("slowlog|get", NodeRun::Every { begin: get_begin, each, merge: get }),
    ("slowlog|help", NodeRun::Here(help)),
    ("slowlog|len", NodeRun::Every { begin, each, merge: len }),
    ("slowlog|reset", NodeRun::Every { begin, each: reset_each, merge: reset }),
];

const HELP: &[&str] = &[
    "GET [<count>]",
    "    Return top <count> entries from the slowlog (default: 10, -1 mean all).",
    "    Entries are made of:",
    "    id, timestamp, time in microseconds, arguments array, client IP and port,",
    "    client name",
    "LEN",
    "    Return the length of the slowlog.",
    "RESET",
    "    Reset the slowlog.",
];

fn help(_: &mut Core, call: &mut NodeCall<'_>) -> Result<(), Error> {
    write_help("SLOWLOG", HELP, &mut call.reply);
    Ok(())
}

fn begin(_: &mut Core, _: &mut NodeCall<'_>) -> Result<Begin, Error> {
    Ok(Begin::Gather)
}

/// How many entries are asked for, if that is a number from -1 (all) on.
fn count(word: Option<&[u8]>) -> Option<usize> {
    match word.map(number::parse_i64) {
        None => Some(SHOWN),
        Some(Some(-1)) => Some(usize::MAX),
        Some(Some(count)) => usize::try_from(count).ok(),
        Some(None) => None,
    }
}

fn get_begin(core: &mut Core, call: &mut NodeCall<'_>) -> Result<Begin, Error> {
    if call.args.len() > 3 {
        refuse_count(core, call, "SLOWLOG");
        return Ok(Begin::Answered);
    }
    if count(call.args.get(2)).is_none() {
        return Err(Error::Line("ERR count should be greater than or equal to -1"));
    }
    Ok(Begin::Gather)
}

fn each(core: &mut Core, _: &Asked<'_>) -> CoreReport {
    CoreReport { core: core.id(), part: Part::SlowLog(core.slowlog().entries().cloned().collect()) }
}

/// The entries of all cores, as many as the log may have, the newest first.
fn together(core: &Core, reports: Vec<CoreReport>) -> Vec<Entry> {
    let entries = reports.into_iter().flat_map(|report| match report.part {
        Part::SlowLog(entries) => entries,
        other => unreachable!("SLOWLOG is made of entries, not {other:?}"),
    });
    let mut entries: Vec<Entry> = entries.collect();
    entries.sort_unstable_by_key(|entry| std::cmp::Reverse(entry.id));
    entries.truncate(usize::try_from(core.config().slowlog_max_len).unwrap_or(usize::MAX));
    entries
}

fn get(core: &mut Core, call: &MergeCall<'_>, reports: Vec<CoreReport>, reply: &mut Reply<'_>) {
    let mut entries = together(core, reports);
    entries.truncate(count(call.args.get(2)).expect("looked at when it began"));
    reply.array(entries.len());
    for entry in entries {
        reply.array(6);
        reply.integer(entry.id as i64);
        reply.integer(entry.unix_s as i64);
        reply.integer(entry.us as i64);
        reply.array(entry.words.len());
        entry.words.iter().for_each(|word| reply.bulk(word));
        reply.bulk(entry.client.as_bytes());
        reply.bulk(&entry.name);
    }
}

fn len(core: &mut Core, _: &MergeCall<'_>, reports: Vec<CoreReport>, reply: &mut Reply<'_>) {
    reply.integer(together(core, reports).len() as i64);
}

fn reset_each(core: &mut Core, _: &Asked<'_>) -> CoreReport {
    core.slowlog_mut().clear();
    CoreReport { core: core.id(), part: Part::Done }
}

fn reset(_: &mut Core, _: &MergeCall<'_>, _: Vec<CoreReport>, reply: &mut Reply<'_>) {
    reply.ok();
}

#[cfg(test)]
mod tests {
    use super::super::trial::Trial;
    use crate::config::Config;

    #[test]
    fn slow_commands_are_named_wherever_they_are_executed() {
        // On two cores: a command that is slow is there once, with its client, whether its key is here or elsewhere, or it has parts
        // on both; a password is not.
        let config = Config { slowlog_slower_than_us: 5000, ..Config::default() };
        let mut trial = Trial::new(2, config);
        let (one, other) = (trial.connect(0), trial.connect(1));
        trial.ask(other, "CLIENT SETNAME them");
        trial.laps_take(6000);
        for key in ["a", "b", "c", "d"] {
            trial.ask(one, &format!("SET {key} v"));
            trial.ask(other, &format!("GET {key}"));
        }
        trial.ask(other, "DEL a b c d");
        trial.ask(one, "HELLO 2 AUTH default secret");
        trial.ask(one, "NOSUCH");
        trial.laps_take(0);
        assert_eq!(trial.ask(one, "SLOWLOG LEN"), ":10\r\n");
        let log = trial.ask(other, "SLOWLOG GET -1");
        for key in ["a", "b", "c", "d"] {
            let set = format!("*3\r\n$3\r\nSET\r\n$1\r\n{key}\r\n$1\r\nv\r\n$15\r\n127.0.0.1:50000\r\n$0\r\n\r\n");
            let get = format!("*2\r\n$3\r\nGET\r\n$1\r\n{key}\r\n$15\r\n127.0.0.1:50001\r\n$4\r\nthem\r\n");
            assert!(log.matches(&set).count() == 1 && log.matches(&get).count() == 1, "{key}: {log}");
        }
        assert!(
            log.contains("$3\r\nDEL\r\n") && !log.contains("secret") && log.contains("$10\r\n(redacted)\r\n"),
            "{log}"
        );
        assert!(log.starts_with("*10\r\n*6\r\n:9\r\n:1700000000\r\n:6000\r\n*5\r\n$5\r\nHELLO\r\n"), "{log}");
        assert_eq!(trial.ask(one, "SLOWLOG GET 1").matches("*6").count(), 1);
        assert_eq!(trial.ask(one, "CONFIG SET slowlog-max-len 3"), "+OK\r\n");
        assert_eq!(trial.ask(one, "SLOWLOG LEN"), ":3\r\n");
        assert_eq!(trial.ask(one, "SLOWLOG RESET"), "+OK\r\n");
        assert_eq!(trial.ask(other, "SLOWLOG GET"), "*0\r\n");
    }

    #[test]
    fn a_sleep_is_a_slow_command() {
        // As long as it slept, and only one entry although all cores took part.
        let config = Config { enable_debug_command: crate::config::Allowed::Yes, ..Config::default() };
        let mut trial = Trial::new(2, config);
        let client = trial.connect(1);
        trial.ask(client, "DEBUG SLEEP 0.02");
        trial.advance(20);
        trial.tick();
        let log = trial.ask(client, "SLOWLOG GET");
        assert!(
            log.contains("*1\r\n*6\r\n:0\r\n:1700000000\r\n:20000\r\n*3\r\n$5\r\nDEBUG\r\n$5\r\nSLEEP\r\n"),
            "{log}"
        );
    }
}
