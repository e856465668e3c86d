//! CLIENT: what a connection says of itself and what is known of it. Those of all connections are in [`super::clients`].

use eagle_shard::{
    command::args::{self, is},
    error::Error,
    spec::{Categories, Flags, Group, Run, Spec},
};

use super::{
    NodeRun, clients,
    connection::{checked_name, is_word},
    help as write_help, pausing, refuse, refuse_count,
};
use crate::{
    config::SyncMode,
    core::{Core, NodeCall, replies::Mute},
};

const OWN: Flags = Flags::NOSCRIPT.union(Flags::LOADING).union(Flags::STALE);
const OTHERS: Flags = Flags::ADMIN.union(OWN);

const CLIENT: Spec = Spec {
    flags: OWN,
    categories: Categories::CONNECTION,
    group: Group::Connection,
    complexity: "O(1)",
    ..Spec::BLANK
};

/// Every node of a cluster is to know it.
const EVERYWHERE: &[&str] = &["request_policy:all_nodes", "response_policy:all_succeeded"];

pub(super) const ROWS: &[Spec] = &[Spec {
    name: "client",
    arity: -2,
    flags: Flags::empty(),
    categories: Categories::empty(),
    since: "2.4.0",
    complexity: "Depends on subcommand.",
    summary: "A container for client connection commands.",
    subcommands: SUBCOMMANDS,
    run: Run::Container,
    ..CLIENT
}];

const SUBCOMMANDS: &[Spec] = &[
    Spec {
        name: "client|durability",
        syntax: "{mode: ALWAYS | EVERYSEC | NO | DEFAULT}",
        arity: 3,
        since: "7.2.0",
        summary: "Sets how durable replies to the connection promise their effects to be, in place of what is configured.",
        ..CLIENT
    },
    Spec {
        name: "client|getredir",
        arity: 2,
        since: "6.0.0",
        summary: "Returns the client ID to which the connection's tracking notifications are redirected.",
        ..CLIENT
    },
    Spec { name: "client|getname", arity: 2, since: "2.6.9", summary: "Returns the name of the connection.", ..CLIENT },
    Spec {
        name: "client|help",
        arity: 2,
        flags: Flags::LOADING.union(Flags::STALE),
        since: "5.0.0",
        summary: "Returns helpful text about the different subcommands.",
        ..CLIENT
    },
    Spec {
        name: "client|id",
        arity: 2,
        since: "5.0.0",
        summary: "Returns the unique client ID of the connection.",
        ..CLIENT
    },
    Spec {
        name: "client|info",
        arity: 2,
        tips: &["nondeterministic_output"],
        since: "6.2.0",
        summary: "Returns information about the connection.",
        ..CLIENT
    },
    Spec {
        name: "client|kill",
        syntax: "{filter: old-format | {new-format: [ID@2.8.12 client-id:integer] \
            | [TYPE@2.8.12 {client-type: NORMAL | MASTER@3.2.0 | PRIMARY@8.0.0 | SLAVE | REPLICA@5.0.0 | PUBSUB}] \
            | [USER username] | [ADDR addr] | [LADDR@6.2.0 laddr] | [SKIPME {skipme: YES | NO}] \
            | [MAXAGE@8.0.0 maxage:integer]}...}",
        arity: -3,
        flags: OTHERS,
        since: "2.4.0",
        complexity: "O(N) where N is the number of client connections",
        summary: "Terminates open connections.",
        history: &[
            ("2.8.12", "Added new filter format."),
            ("2.8.12", "`ID` option."),
            ("3.2.0", "Added `master` type in for `TYPE` option."),
            ("5.0.0", "Replaced `slave` `TYPE` with `replica`. `slave` still supported for backward compatibility."),
            ("6.2.0", "`LADDR` option."),
            ("8.0.0", "`MAXAGE` option."),
            ("8.0.0", "Replaced `master` `TYPE` with `primary`. `master` still supported for backward compatibility."),
        ],
        ..CLIENT
    },
    Spec {
        name: "client|list",
        syntax: "[TYPE@5.0.0 {client-type: NORMAL | MASTER | REPLICA | PUBSUB}] [ID@6.2.0 client-id:integer...]",
        arity: -2,
        flags: OTHERS,
        tips: &["nondeterministic_output"],
        since: "2.4.0",
        complexity: "O(N) where N is the number of client connections",
        summary: "Lists open connections.",
        history: &[
            ("2.8.12", "Added unique client `id` field."),
            ("5.0.0", "Added optional `TYPE` filter."),
            ("6.0.0", "Added `user` field."),
            ("6.2.0", "Added `argv-mem`, `tot-mem`, `laddr` and `redir` fields and the optional `ID` filter."),
            ("7.0.0", "Added `resp`, `multi-mem`, `rbs` and `rbp` fields."),
            ("7.0.3", "Added `ssub` field."),
            ("8.0.0", "Replaced `master` `TYPE` with `primary`. `master` still supported for backward compatibility."),
        ],
        ..CLIENT
    },
    Spec {
        name: "client|no-evict",
        syntax: "{enabled: ON | OFF}",
        arity: 3,
        flags: OTHERS,
        since: "7.0.0",
        summary: "Sets the client eviction mode of the connection.",
        ..CLIENT
    },
    Spec {
        name: "client|no-touch",
        syntax: "{enabled: ON | OFF}",
        arity: 3,
        since: "7.2.0",
        summary: "Controls whether commands sent by the client affect the LRU/LFU of accessed keys.",
        ..CLIENT
    },
    Spec {
        name: "client|pause",
        syntax: "timeout:integer [mode@6.2.0: WRITE | ALL]",
        arity: -3,
        flags: OTHERS,
        since: "3.0.0",
        summary: "Suspends commands processing.",
        history: &[("6.2.0", "`CLIENT PAUSE WRITE` mode added along with the `mode` option.")],
        ..CLIENT
    },
    Spec {
        name: "client|reply",
        syntax: "{action: ON | OFF | SKIP}",
        arity: 3,
        since: "3.2.0",
        summary: "Instructs the server whether to reply to commands.",
        ..CLIENT
    },
    Spec {
        name: "client|setinfo",
        syntax: "{attr: LIB-NAME libname | LIB-VER libver}",
        arity: 4,
        tips: EVERYWHERE,
        since: "7.2.0",
        summary: "Sets information specific to the client or connection.",
        ..CLIENT
    },
    Spec {
        name: "client|setname",
        syntax: "connection-name",
        arity: 3,
        tips: EVERYWHERE,
        since: "2.6.9",
        summary: "Sets the connection name.",
        ..CLIENT
    },
    Spec {
        name: "client|trackinginfo",
        arity: 2,
        since: "6.2.0",
        summary: "Returns information about server-assisted client-side caching for the connection.",
        ..CLIENT
    },
    Spec {
        name: "client|unblock",
        syntax: "client-id:integer [unblock-type: TIMEOUT | ERROR]",
        arity: -3,
        flags: OTHERS,
        since: "5.0.0",
        complexity: "O(log N) where N is the number of client connections",
        summary: "Unblocks a client blocked by a blocking command from a different connection.",
        ..CLIENT
    },
    Spec {
        name: "client|unpause",
        arity: 2,
        flags: OTHERS,
        since: "6.2.0",
        complexity: "O(N) Where N is the number of paused clients",
        summary: "Resumes processing commands from paused clients.",
        ..CLIENT
    },
];

pub(super) const RUNS: &[(&str, NodeRun)] = &[
    ("client|durability", NodeRun::Here(durability)),
    ("client|getredir", NodeRun::Here(getredir)),
    ("client|getname", NodeRun::Here(getname)),
    ("client|help", NodeRun::Here(help)),
    ("client|id", NodeRun::Here(id)),
    ("client|info", NodeRun::Here(info)),
    ("client|kill", clients::KILL),
    ("client|list", clients::LIST),
    ("client|no-evict", NodeRun::Here(no_evict)),
    ("client|no-touch", NodeRun::Here(no_touch)),
    ("client|pause", pausing::PAUSE),
    ("client|reply", NodeRun::Here(reply)),
    ("client|setinfo", NodeRun::Here(setinfo)),
    ("client|setname", NodeRun::Here(setname)),
    ("client|trackinginfo", NodeRun::Here(trackinginfo)),
    ("client|unblock", NodeRun::Here(unblock)),
    ("client|unpause", pausing::UNPAUSE),
];

const HELP: &[&str] = &[
    "DURABILITY (ALWAYS|EVERYSEC|NO|DEFAULT)",
    "    Set what replies to this connection promise of the pool, as 'sync' does for all.",
    "GETREDIR",
    "    Return the client ID we are redirecting to when tracking is enabled.",
    "GETNAME",
    "    Return the name of the current connection.",
    "ID",
    "    Return the ID of the current connection.",
    "INFO",
    "    Return information about the current client connection.",
    "KILL <ip:port>",
    "    Kill connection made from <ip:port>.",
    "KILL <option> <value> [<option> <value> [...]]",
    "    Kill connections. Options are:",
    "    * ADDR (<ip:port>|<unixsocket>:0)",
    "      Kill connections made from the specified address",
    "    * LADDR (<ip:port>|<unixsocket>:0)",
    "      Kill connections made to specified local address",
    "    * TYPE (NORMAL|PRIMARY|REPLICA|PUBSUB)",
    "      Kill connections by type.",
    "    * USER <username>",
    "      Kill connections authenticated by <username>.",
    "    * SKIPME (YES|NO)",
    "      Skip killing current connection (default: yes).",
    "    * ID <client-id>",
    "      Kill connections by client id.",
    "    * MAXAGE <maxage>",
    "      Kill connections older than the specified age.",
    "LIST [options ...]",
    "    Return information about client connections. Options:",
    "    * TYPE (NORMAL|PRIMARY|REPLICA|PUBSUB)",
    "      Return clients of specified type.",
    "    * ID <client-id> [<client-id> ...]",
    "      Return clients of specified IDs only.",
    "NO-EVICT (ON|OFF)",
    "    Protect current client connection from eviction.",
    "NO-TOUCH (ON|OFF)",
    "    Will not touch LRU/LFU stats when this mode is on.",
    "PAUSE <timeout> [WRITE|ALL]",
    "    Suspend all, or just write, clients for <timeout> milliseconds.",
    "REPLY (ON|OFF|SKIP)",
    "    Control the replies sent to the current connection.",
    "SETINFO <option> <value>",
    "    Set client meta attr. Options are:",
    "    * LIB-NAME: the client lib name.",
    "    * LIB-VER: the client lib version.",
    "SETNAME <name>",
    "    Assign the name <name> to the current connection.",
    "TRACKINGINFO",
    "    Report tracking status for the current connection.",
    "UNBLOCK <clientid> [TIMEOUT|ERROR]",
    "    Unblock the specified blocked client.",
    "UNPAUSE",
    "    Stop the current client pause, resuming traffic.",
];

fn help(_: &mut Core, call: &mut NodeCall<'_>) -> Result<(), Error> {
    write_help("CLIENT", HELP, &mut call.reply);
    Ok(())
}

fn durability(core: &mut Core, call: &mut NodeCall<'_>) -> Result<(), Error> {
    const NO_POOL: &str = "ERR nothing is kept without a pool, so no reply can promise it";
    let word = &call.args[2];
    let named = SyncMode::ALL.into_iter().find(|mode| is(word, mode.name()));
    if named.is_none() && !is(word, "DEFAULT") {
        return Err(Error::Syntax);
    }
    if !core.keeps() && named.is_some_and(|mode| mode != SyncMode::No) {
        return Err(Error::Line(NO_POOL));
    }
    call.session.durability = named;
    call.reply.ok();
    Ok(())
}

fn id(_: &mut Core, call: &mut NodeCall<'_>) -> Result<(), Error> {
    call.reply.integer(call.session.id as i64);
    Ok(())
}

fn getname(_: &mut Core, call: &mut NodeCall<'_>) -> Result<(), Error> {
    if call.session.name.is_empty() {
        call.reply.null();
    } else {
        call.reply.bulk(&call.session.name);
    }
    Ok(())
}

/// Nobody tracks keys.
fn getredir(_: &mut Core, call: &mut NodeCall<'_>) -> Result<(), Error> {
    call.reply.integer(-1);
    Ok(())
}

fn trackinginfo(_: &mut Core, call: &mut NodeCall<'_>) -> Result<(), Error> {
    let reply = &mut call.reply;
    reply.map(3);
    reply.bulk(b"flags");
    reply.set(1);
    reply.bulk(b"off");
    reply.bulk(b"redirect");
    reply.integer(-1);
    reply.bulk(b"prefixes");
    reply.array(0);
    Ok(())
}

/// No command waits for another client's, so there is never anybody to unblock.
fn unblock(core: &mut Core, call: &mut NodeCall<'_>) -> Result<(), Error> {
    const WRONG: &str = "ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR";
    if call.args.len() > 4 {
        refuse_count(core, call, "CLIENT");
        return Ok(());
    }
    if call.args.get(3).is_some_and(|reason| !is(reason, "TIMEOUT") && !is(reason, "ERROR")) {
        return Err(Error::Line(WRONG));
    }
    args::integer(&call.args[2])?;
    call.reply.integer(0);
    Ok(())
}

fn setname(_: &mut Core, call: &mut NodeCall<'_>) -> Result<(), Error> {
    call.session.name = checked_name(&call.args[2])?.to_vec();
    call.reply.ok();
    Ok(())
}

fn setinfo(core: &mut Core, call: &mut NodeCall<'_>) -> Result<(), Error> {
    let (option, value) = (&call.args[2], &call.args[3]);
    let field = if is(option, "lib-name") {
        &mut call.session.lib_name
    } else if is(option, "lib-ver") {
        &mut call.session.lib_ver
    } else {
        let line = [b"ERR Unrecognized option '", option, b"'"].concat();
        refuse(core, call, &line);
        return Ok(());
    };
    if !is_word(value) {
        let line = [option, &b" cannot contain spaces, newlines or special characters."[..]].concat();
        refuse(core, call, &[b"ERR ", &line[..]].concat());
        return Ok(());
    }
    *field = value.to_vec();
    call.reply.ok();
    Ok(())
}

fn info(_: &mut Core, call: &mut NodeCall<'_>) -> Result<(), Error> {
    let line = clients::line(call.session, call.spec, call.now);
    call.reply.verbatim("txt", line.as_bytes());
    Ok(())
}

fn no_evict(_: &mut Core, call: &mut NodeCall<'_>) -> Result<(), Error> {
    call.session.no_evict = on_or_off(&call.args[2])?;
    call.reply.ok();
    Ok(())
}

fn no_touch(_: &mut Core, call: &mut NodeCall<'_>) -> Result<(), Error> {
    call.session.no_touch = on_or_off(&call.args[2])?;
    call.reply.ok();
    Ok(())
}

fn on_or_off(word: &[u8]) -> Result<bool, Error> {
    match word {
        word if is(word, "ON") => Ok(true),
        word if is(word, "OFF") => Ok(false),
        _ => Err(Error::Syntax),
    }
}

/// Only ON is answered.
fn reply(_: &mut Core, call: &mut NodeCall<'_>) -> Result<(), Error> {
    match &call.args[2] {
        word if is(word, "ON") => {
            call.session.mute(Mute::Off);
            call.reply.ok();
        }
        word if is(word, "OFF") => call.session.mute(Mute::On),
        word if is(word, "SKIP") => call.session.mute(Mute::ThisAndNext),
        _ => return Err(Error::Syntax),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::trial::Trial;
    use crate::config::Config;

    #[test]
    fn replies_are_those_of_redis() {
        // Recorded from redis-server 7.0.15 and, what it does not have, from Valkey 8.1.8.
        let mut trial = Trial::new(1, Config::default());
        let client = trial.connect(0);
        let arity = |name: &str| format!("-ERR wrong number of arguments for '{name}' command");
        for (request, reply) in [
            ("CLIENT", arity("client").as_str()),
            ("CLIENT FOO", "-ERR unknown subcommand 'FOO'. Try CLIENT HELP."),
            ("CLIENT ID", ":1"),
            ("CLIENT ID x", &arity("client|id")),
            ("CLIENT GETNAME", "$-1"),
            ("CLIENT SETNAME hi", "+OK"),
            ("CLIENT GETNAME", "$2\r\nhi"),
            ("CLIENT SETNAME a\u{1}b", "-ERR Client names cannot contain spaces, newlines or special characters."),
            ("CLIENT SETNAME \"\"", "+OK"),
            ("CLIENT GETNAME", "$-1"),
            ("CLIENT SETINFO lib-name foo", "+OK"),
            ("CLIENT SETINFO LIB-VER 1", "+OK"),
            ("CLIENT SETINFO lib-foo 1", "-ERR Unrecognized option 'lib-foo'"),
            ("CLIENT SETINFO lib-name a\u{1}b", "-ERR lib-name cannot contain spaces, newlines or special characters."),
            ("CLIENT NO-EVICT on", "+OK"),
            ("CLIENT NO-EVICT x", "-ERR syntax error"),
            ("CLIENT NO-TOUCH on", "+OK"),
            ("CLIENT REPLY ON", "+OK"),
            ("CLIENT REPLY x", "-ERR syntax error"),
        ] {
            assert_eq!(trial.ask(client, request), format!("{reply}\r\n"), "{request}");
        }
        assert!(trial.ask(client, "CLIENT HELP").contains("+    Prints this help.\r\n"));
    }

    #[test]
    fn replies_are_left_out_on_request() {
        // The next one only, or all until ON; errors and replies of other shards too, and RESET ends it.
        let mut trial = Trial::new(2, Config::default());
        let client = trial.connect(0);
        for (request, reply) in [
            ("CLIENT REPLY SKIP", ""),
            ("PING", ""),
            ("PING", "+PONG\r\n"),
            ("CLIENT REPLY OFF", ""),
            ("NOSUCH", ""),
            ("CLIENT REPLY SKIP", ""),
            ("SET a 1", ""),
            ("SET b 1", ""),
            ("MGET a b", ""),
            ("CLIENT LIST", ""),
            ("CLIENT REPLY ON", "+OK\r\n"),
            ("MGET a b", "*2\r\n$1\r\n1\r\n$1\r\n1\r\n"),
            ("CLIENT REPLY OFF", ""),
            ("RESET", "+RESET\r\n"),
        ] {
            assert_eq!(trial.ask(client, request), reply, "{request}");
        }
    }

    #[test]
    fn a_client_that_does_not_touch_leaves_keys_as_idle_as_they_were() {
        // On both shards, by reads and by changes in place; TOUCH touches all the same, as does everybody else.
        let mut trial = Trial::new(2, Config::default());
        let (quiet, other) = (trial.connect(0), trial.connect(0));
        for key in ["a", "b", "c", "d"] {
            trial.ask(other, &format!("SET {key} 1"));
        }
        assert_eq!(trial.ask(quiet, "CLIENT NO-TOUCH on"), "+OK\r\n");
        trial.advance(10_000);
        for key in ["a", "b", "c", "d"] {
            trial.ask(quiet, &format!("GET {key}"));
            trial.ask(quiet, &format!("INCR {key}"));
            trial.ask(quiet, "MGET a b c d");
            let idle = format!("OBJECT IDLETIME {key}");
            assert_eq!(trial.ask(quiet, &idle), ":10\r\n", "{key}");
            trial.ask(quiet, &format!("TOUCH {key}"));
            assert_eq!(trial.ask(quiet, &idle), ":0\r\n", "{key}");
        }
        trial.advance(10_000);
        trial.ask(other, "MGET a b c d");
        assert_eq!(trial.ask(quiet, "OBJECT IDLETIME a"), ":0\r\n");
        trial.ask(quiet, "CLIENT NO-TOUCH off");
        trial.advance(10_000);
        trial.ask(quiet, "GET b");
        assert_eq!(trial.ask(quiet, "OBJECT IDLETIME b"), ":0\r\n");
    }

    #[test]
    fn info_is_the_connections_line() {
        // All fields of Redis 7.2 in its order, with what the connection said of itself.
        let mut trial = Trial::new(1, Config::default());
        let client = trial.connect(0);
        trial.ask(client, "CLIENT SETINFO lib-name eagle");
        trial.ask(client, "SELECT 3");
        trial.advance(2500);
        let reply = trial.ask(client, "CLIENT INFO");
        let (_, line) = reply.split_once("\r\n").unwrap();
        let begin = "id=1 addr=127.0.0.1:50000 laddr=127.0.0.1:6379 fd=8 name= age=2 idle=0 flags=N db=3 sub=0 psub=0 \
            ssub=0 multi=-1 qbuf=0 qbuf-free=0 argv-mem=0 multi-mem=0 rbs=0 rbp=0 obl=0 oll=0 omem=0 tot-mem=";
        assert!(line.starts_with(begin), "{line}");
        let end = " events=r cmd=client|info user=default redir=-1 resp=2 lib-name=eagle lib-ver=";
        assert!(line.contains(end) && line.ends_with("\n\r\n"), "{line}");
    }
}
