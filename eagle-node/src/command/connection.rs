//! Commands about the connection itself: who speaks, in which protocol, to which database.

use eagle_resp::{Protocol, number};
use eagle_shard::{
    call::DbId,
    command::args::{self, is},
    error::Error,
    spec::{Categories, Deprecated, Flags, Group, Spec},
};

use super::{NodeRun, refuse};
use crate::{
    REDIS_VERSION,
    acl::{DEFAULT_USER, log::Reason},
    core::{Core, NodeCall, replies::Mute},
};

/// Allowed to everyone at any time.
const ALWAYS: Flags = Flags::NOSCRIPT
    .union(Flags::LOADING)
    .union(Flags::STALE)
    .union(Flags::FAST)
    .union(Flags::NO_AUTH)
    .union(Flags::ALLOW_BUSY);

const CONNECTION: Spec =
    Spec { categories: Categories::CONNECTION, group: Group::Connection, complexity: "O(1)", ..Spec::BLANK };

pub(super) const ROWS: &[Spec] = &[
    Spec {
        name: "auth",
        syntax: "[username@6.0.0] password",
        arity: -2,
        flags: ALWAYS,
        since: "1.0.0",
        complexity: "O(N) where N is the number of passwords defined for the user",
        summary: "Authenticates the connection.",
        history: &[("6.0.0", "Added ACL style (username and password).")],
        ..CONNECTION
    },
    Spec {
        name: "echo",
        syntax: "message",
        arity: 2,
        flags: Flags::LOADING.union(Flags::STALE).union(Flags::FAST),
        since: "1.0.0",
        summary: "Returns the given string.",
        ..CONNECTION
    },
    Spec {
        name: "hello",
        syntax: "[arguments: protover:integer [AUTH {auth: username password}] [SETNAME clientname]]",
        arity: -1,
        flags: ALWAYS,
        since: "6.0.0",
        summary: "Handshakes with the server.",
        history: &[(
            "6.2.0",
            "`protover` made optional; when called without arguments the command reports the current connection's context.",
        )],
        ..CONNECTION
    },
    Spec {
        name: "ping",
        syntax: "[message]",
        arity: -1,
        flags: Flags::FAST,
        tips: &["request_policy:all_shards", "response_policy:all_succeeded"],
        since: "1.0.0",
        summary: "Returns the server's liveliness response.",
        ..CONNECTION
    },
    Spec {
        name: "quit",
        arity: -1,
        flags: ALWAYS,
        since: "1.0.0",
        summary: "Closes the connection.",
        deprecated: Some(Deprecated { since: "7.2.0", replaced_by: "just closing the connection" }),
        ..CONNECTION
    },
    Spec { name: "reset", arity: 1, flags: ALWAYS, since: "6.2.0", summary: "Resets the connection.", ..CONNECTION },
    Spec {
        name: "select",
        syntax: "index:integer",
        arity: 2,
        flags: Flags::LOADING.union(Flags::STALE).union(Flags::FAST),
        since: "1.0.0",
        summary: "Changes the selected database.",
        ..CONNECTION
    },
];

pub(super) const RUNS: &[(&str, NodeRun)] = &[
    ("auth", NodeRun::Here(auth)),
    ("echo", NodeRun::Here(echo)),
    ("hello", NodeRun::Here(hello)),
    ("ping", NodeRun::Here(ping)),
    ("quit", NodeRun::Here(quit)),
    ("reset", NodeRun::Here(reset)),
    ("select", NodeRun::Here(select)),
];

fn ping(_: &mut Core, call: &mut NodeCall<'_>) -> Result<(), Error> {
    match call.args.len() {
        1 => call.reply.simple("PONG"),
        2 => call.reply.bulk(&call.args[1]),
        _ => return Err(Error::Arity(call.spec.name)),
    }
    Ok(())
}

fn echo(_: &mut Core, call: &mut NodeCall<'_>) -> Result<(), Error> {
    call.reply.bulk(&call.args[1]);
    Ok(())
}

fn select(core: &mut Core, call: &mut NodeCall<'_>) -> Result<(), Error> {
    call.session.db = args::database(&call.args[1], core.config().databases)?;
    call.reply.ok();
    Ok(())
}

fn quit(_: &mut Core, call: &mut NodeCall<'_>) -> Result<(), Error> {
    call.session.close_after_replies();
    call.reply.ok();
    Ok(())
}

fn reset(core: &mut Core, call: &mut NodeCall<'_>) -> Result<(), Error> {
    let session = &mut *call.session;
    session.db = DbId(0);
    session.name.clear();
    session.protocol = Protocol::Resp2;
    session.log_out(&core.config().acl);
    session.no_evict = false;
    session.no_touch = false;
    core.unwatch(session);
    session.durability = None;
    session.mute(Mute::Off);
    call.reply.protocol = Protocol::Resp2;
    call.reply.simple("RESET");
    Ok(())
}

fn auth(core: &mut Core, call: &mut NodeCall<'_>) -> Result<(), Error> {
    const NO_PASSWORD: &str = "ERR AUTH <password> called without any password configured for the default user. \
        Are you sure your configuration is correct?";
    let args = call.args;
    match args.len() {
        2 if core.config().acl.default_user().needs_no_password() => return Err(Error::Line(NO_PASSWORD)),
        2 => authenticate(core, call, DEFAULT_USER, &args[1])?,
        3 => authenticate(core, call, &args[1], &args[2])?,
        _ => return Err(Error::Syntax),
    }
    call.reply.ok();
    Ok(())
}

/// Makes the connection one of a user. Who failed too often from its address is not listened to.
fn authenticate(core: &mut Core, call: &mut NodeCall<'_>, user: &[u8], password: &[u8]) -> Result<(), Error> {
    const WRONG: &str = "WRONGPASS invalid username-password pair or user is disabled.";
    const TOO_OFTEN: &str = "ERR too many failed authentications from this address, try again later";
    let config = core.config().clone();
    let (limit, now_us) = (config.auth_failures_per_minute, call.now.mono_us);
    if core.shared().attempts.are_too_many(&call.session.peer, limit, now_us) {
        return Err(Error::Line(TOO_OFTEN));
    }
    match config.acl.user(user) {
        Some(known) if known.admits(password) => {
            call.session.log_in(known);
            Ok(())
        }
        _ => {
            core.shared().attempts.failed(&call.session.peer, limit, now_us);
            core.note_denied(call.session, call.spec, Reason::Auth, [&call.args[0], user], call.now);
            Err(Error::Line(WRONG))
        }
    }
}

fn hello(core: &mut Core, call: &mut NodeCall<'_>) -> Result<(), Error> {
    const UNAUTHENTICATED: &str = "NOAUTH HELLO must be called with the client already authenticated, otherwise the \
        HELLO <proto> AUTH <user> <pass> option can be used to authenticate the client and select the RESP protocol \
        version at the same time";
    let args = call.args;
    let protocol = match args.get(1).map(number::parse_i64) {
        None => call.session.protocol,
        Some(Some(2)) => Protocol::Resp2,
        Some(Some(3)) => Protocol::Resp3,
        Some(Some(_)) => return Err(Error::Line("NOPROTO unsupported protocol version")),
        Some(None) => {
            return Err(Error::Line("ERR Protocol version is not an integer or out of range"));
        }
    };
    let (mut name, mut login) = (None, None);
    let mut at = 2;
    while let Some(option) = args.get(at) {
        match (args.get(at + 1), args.get(at + 2)) {
            (Some(user), Some(password)) if is(option, "AUTH") => {
                login = Some((user, password));
                at += 3;
            }
            (Some(given), _) if is(option, "SETNAME") => {
                name = Some(checked_name(given)?);
                at += 2;
            }
            _ => {
                let quoted = [b"ERR Syntax error in HELLO option '", option, b"'"].concat();
                refuse(core, call, &quoted);
                return Ok(());
            }
        }
    }
    if let Some((user, password)) = login {
        authenticate(core, call, user, password)?;
    }
    if !call.session.authenticated {
        return Err(Error::Line(UNAUTHENTICATED));
    }
    if let Some(name) = name {
        call.session.name = name.to_vec();
    }
    call.session.protocol = protocol;
    call.reply.protocol = protocol;
    describe(call);
    Ok(())
}

fn describe(call: &mut NodeCall<'_>) {
    let reply = &mut call.reply;
    reply.map(7);
    reply.bulk(b"server");
    reply.bulk(b"redis");
    reply.bulk(b"version");
    reply.bulk(REDIS_VERSION.as_bytes());
    reply.bulk(b"proto");
    reply.integer(match reply.protocol {
        Protocol::Resp2 => 2,
        Protocol::Resp3 => 3,
    });
    reply.bulk(b"id");
    reply.integer(call.session.id as i64);
    reply.bulk(b"mode");
    reply.bulk(b"standalone");
    reply.bulk(b"role");
    reply.bulk(b"master");
    reply.bulk(b"modules");
    reply.array(0);
}

/// A name that a client gives itself: printable, without blanks, so that `CLIENT LIST` stays a list of words.
pub(super) fn checked_name(name: &[u8]) -> Result<&[u8], Error> {
    if is_word(name) {
        Ok(name)
    } else {
        Err(Error::Line("ERR Client names cannot contain spaces, newlines or special characters."))
    }
}

/// Printable ASCII without blanks.
pub(super) fn is_word(text: &[u8]) -> bool {
    text.iter().all(u8::is_ascii_graphic)
}

#[cfg(test)]
mod tests {
    use super::super::trial::Trial;
    use crate::config::Config;

    fn check(requests: &[(&str, &str)], config: Config) {
        let mut trial = Trial::new(1, config);
        let client = trial.connect(0);
        for (request, reply) in requests {
            assert_eq!(trial.ask(client, request), format!("{reply}\r\n"), "{request}");
        }
    }

    #[test]
    fn replies_are_those_of_redis() {
        // Recorded from redis-server 7.0.15.
        let greeting = |proto: &str| {
            format!(
                "$6\r\nserver\r\n$5\r\nredis\r\n$7\r\nversion\r\n$5\r\n7.2.4\r\n$5\r\nproto\r\n:{proto}\r\n\
                $2\r\nid\r\n:1\r\n$4\r\nmode\r\n$10\r\nstandalone\r\n$4\r\nrole\r\n$6\r\nmaster\r\n$7\r\nmodules\r\n*0"
            )
        };
        check(
            &[
                ("PING", "+PONG"),
                ("ping a", "$1\r\na"),
                ("PING a b", "-ERR wrong number of arguments for 'ping' command"),
                ("ECHO a", "$1\r\na"),
                ("SELECT 15", "+OK"),
                ("SELECT 16", "-ERR DB index is out of range"),
                ("SELECT -1", "-ERR DB index is out of range"),
                ("SELECT abc", "-ERR value is not an integer or out of range"),
                ("HELLO 4", "-NOPROTO unsupported protocol version"),
                ("HELLO abc", "-ERR Protocol version is not an integer or out of range"),
                ("HELLO 2 AUTH", "-ERR Syntax error in HELLO option 'AUTH'"),
                ("HELLO 2 SETNAME", "-ERR Syntax error in HELLO option 'SETNAME'"),
                ("HELLO 2 FOO", "-ERR Syntax error in HELLO option 'FOO'"),
                ("HELLO 2 AUTH default x", &format!("*14\r\n{}", greeting("2"))),
                ("HELLO 3 SETNAME nm", &format!("%7\r\n{}", greeting("3"))),
                ("HELLO", &format!("%7\r\n{}", greeting("3"))),
                ("CLIENT GETNAME", "$2\r\nnm"),
                ("RESET", "+RESET"),
                ("CLIENT GETNAME", "$-1"),
                ("AUTH a b c", "-ERR syntax error"),
                ("AUTH foo bar", "-WRONGPASS invalid username-password pair or user is disabled."),
                ("AUTH default x", "+OK"),
                (
                    "AUTH x",
                    "-ERR AUTH <password> called without any password configured for the default user. \
                     Are you sure your configuration is correct?",
                ),
            ],
            Config::default(),
        );
    }

    #[test]
    fn a_password_opens_and_reset_closes() {
        // Before it only AUTH, HELLO, QUIT and RESET; HELLO without it says how; RESET forgets it.
        let noauth = "-NOAUTH Authentication required.";
        let hello = "-NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO <proto> \
            AUTH <user> <pass> option can be used to authenticate the client and select the RESP protocol version at \
            the same time";
        let wrong = "-WRONGPASS invalid username-password pair or user is disabled.";
        check(
            &[
                ("PING", noauth),
                ("HELLO 3", hello),
                ("AUTH wrong", wrong),
                ("AUTH default wrong", wrong),
                ("HELLO 3 AUTH default wrong", wrong),
                ("AUTH secret", "+OK"),
                ("PING", "+PONG"),
                ("RESET", "+RESET"),
                ("PING", noauth),
                ("AUTH default secret", "+OK"),
                ("PING", "+PONG"),
            ],
            Config::default().with(&[(b"requirepass", b"secret")], true).unwrap(),
        );
    }

    #[test]
    fn quit_answers_and_closes() {
        // What stands behind it is not executed.
        let mut trial = Trial::new(1, Config::default());
        let client = trial.connect(0);
        assert_eq!(trial.ask(client, "QUIT"), "+OK\r\n");
        assert!(trial.is_closed(client));
    }
}
