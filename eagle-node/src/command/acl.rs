//! ACL: users made, shown and tried, and the log of what was denied them.
//!
//! A change is made to the published configuration once, by the core that is asked; then each core takes it over, and the reply leaves
//! when all have. Reading and writing the file of users blocks its core for that long, as `CONFIG REWRITE` does.

use eagle_resp::Reply;
use eagle_shard::{
    command::args::{self, is},
    error::Error,
    spec::{Flags, Group, Run, Spec},
};

use super::{Asked, Begin, Found, NodeRun, find, help as write_help, refuse, refuse_count, rows};
use crate::{
    acl::{
        self, DEFAULT_USER, Denied, SetError, User,
        log::{Entry, merged},
        selector::{self, Selector},
    },
    config::Config,
    core::{
        Core, MergeCall, NodeCall,
        stats::{CoreReport, Part},
    },
};

/// For everybody.
const ACL: Spec = Spec {
    flags: Flags::NOSCRIPT.union(Flags::LOADING).union(Flags::STALE),
    group: Group::Server,
    complexity: "O(1)",
    ..Spec::BLANK
};

/// For operators.
const ADMIN: Spec = Spec { flags: ACL.flags.union(Flags::ADMIN), ..ACL };

/// Every node of a cluster is to do it.
const EVERYWHERE: &[&str] = &["request_policy:all_nodes", "response_policy:all_succeeded"];
const EACH_USER: &str = "O(N). Where N is the number of configured users.";

pub(super) const ROWS: &[Spec] = &[Spec {
    name: "acl",
    arity: -2,
    flags: Flags::empty(),
    since: "6.0.0",
    complexity: "Depends on subcommand.",
    summary: "A container for Access List Control commands.",
    subcommands: SUBCOMMANDS,
    run: Run::Container,
    ..ACL
}];

const SUBCOMMANDS: &[Spec] = &[
    Spec {
        name: "acl|cat",
        syntax: "[category]",
        arity: -2,
        since: "6.0.0",
        complexity: "O(1) since the categories and commands are a fixed set.",
        summary: "Lists the ACL categories, or the commands inside a category.",
        ..ACL
    },
    Spec {
        name: "acl|deluser",
        syntax: "username...",
        arity: -3,
        tips: EVERYWHERE,
        since: "6.0.0",
        complexity: "O(1) amortized time considering the typical user.",
        summary: "Deletes ACL users, and terminates their connections.",
        ..ADMIN
    },
    Spec {
        name: "acl|dryrun",
        syntax: "username command [arg...]",
        arity: -4,
        since: "7.0.0",
        complexity: "O(1).",
        summary: "Simulates the execution of a command by a user, without executing the command.",
        ..ADMIN
    },
    Spec {
        name: "acl|genpass",
        syntax: "[bits:integer]",
        arity: -2,
        since: "6.0.0",
        summary: "Generates a pseudorandom, secure password that can be used to identify ACL users.",
        ..ACL
    },
    Spec {
        name: "acl|getuser",
        syntax: "username",
        arity: 3,
        since: "6.0.0",
        complexity: "O(N). Where N is the number of password, command and pattern rules that the user has.",
        summary: "Lists the ACL rules of a user.",
        history: &[
            ("6.2.0", "Added Pub/Sub channel patterns."),
            (
                "7.0.0",
                "Added selectors and changed the format of key and channel patterns from a list to their rule representation.",
            ),
        ],
        ..ADMIN
    },
    Spec {
        name: "acl|help",
        arity: 2,
        flags: Flags::LOADING.union(Flags::STALE),
        since: "6.0.0",
        summary: "Returns helpful text about the different subcommands.",
        ..ACL
    },
    Spec {
        name: "acl|list",
        arity: 2,
        since: "6.0.0",
        complexity: EACH_USER,
        summary: "Dumps the effective rules in ACL file format.",
        ..ADMIN
    },
    Spec {
        name: "acl|load",
        arity: 2,
        since: "6.0.0",
        complexity: EACH_USER,
        summary: "Reloads the rules from the configured ACL file.",
        ..ADMIN
    },
    Spec {
        name: "acl|log",
        syntax: "[operation: count:integer | RESET]",
        arity: -2,
        since: "6.0.0",
        complexity: "O(N) with N being the number of entries shown.",
        summary: "Lists recent security events generated due to ACL rules.",
        history: &[("7.2.0", "Added entry ID, timestamp created, and timestamp last updated.")],
        ..ADMIN
    },
    Spec {
        name: "acl|save",
        arity: 2,
        tips: EVERYWHERE,
        since: "6.0.0",
        complexity: EACH_USER,
        summary: "Saves the effective ACL rules in the configured ACL file.",
        ..ADMIN
    },
    Spec {
        name: "acl|setuser",
        syntax: "username [rule...]",
        arity: -3,
        tips: EVERYWHERE,
        since: "6.0.0",
        complexity: "O(N). Where N is the number of rules provided.",
        summary: "Creates and modifies an ACL user and its rules.",
        history: &[
            ("6.2.0", "Added Pub/Sub channel patterns."),
            ("7.0.0", "Added selectors and key based permissions."),
        ],
        ..ADMIN
    },
    Spec {
        name: "acl|users",
        arity: 2,
        since: "6.0.0",
        complexity: EACH_USER,
        summary: "Lists all ACL users.",
        ..ADMIN
    },
    Spec {
        name: "acl|whoami",
        arity: 2,
        since: "6.0.0",
        summary: "Returns the authenticated username of the current connection.",
        ..ACL
    },
];

pub(super) const RUNS: &[(&str, NodeRun)] = &[
    ("acl|cat", NodeRun::Here(cat)),
    ("acl|deluser", NodeRun::Every { begin: deluser_begin, each: follow, merge: deluser_merge }),
    ("acl|dryrun", NodeRun::Here(dryrun)),
    ("acl|genpass", NodeRun::Here(genpass)),
    ("acl|getuser", NodeRun::Here(getuser)),
    ("acl|help", NodeRun::Here(help)),
    ("acl|list", NodeRun::Here(list)),
    ("acl|load", NodeRun::Every { begin: load_begin, each: follow, merge: merge_ok }),
    ("acl|log", NodeRun::Every { begin: log_begin, each: log_each, merge: log_merge }),
    ("acl|save", NodeRun::Here(save)),
    ("acl|setuser", NodeRun::Every { begin: setuser_begin, each: follow, merge: merge_ok }),
    ("acl|users", NodeRun::Here(users)),
    ("acl|whoami", NodeRun::Here(whoami)),
];

const HELP: &[&str] = &[
    "CAT [<category>]",
    "    List all commands that belong to <category>, or all command categories",
    "    when no category is specified.",
    "DELUSER <username> [<username> ...]",
    "    Delete a list of users.",
    "DRYRUN <username> <command> [<arg> ...]",
    "    Returns whether the user can execute the given command without executing the command.",
    "GETUSER <username>",
    "    Get the user's details.",
    "GENPASS [<bits>]",
    "    Generate a secure 256-bit user password. The optional `bits` argument can",
    "    be used to specify a different size.",
    "LIST",
    "    Show users details in config file format.",
    "LOAD",
    "    Reload users from the ACL file.",
    "LOG [<count> | RESET]",
    "    Show the ACL log entries.",
    "SAVE",
    "    Save the current config to the ACL file.",
    "SETUSER <username> <attribute> [<attribute> ...]",
    "    Create or modify a user with the specified attributes.",
    "USERS",
    "    List all the registered usernames.",
    "WHOAMI",
    "    Return the current connection username.",
];

/// Entries that `ACL LOG` shows unless it is told otherwise.
const LOG_COUNT: i64 = 10;

const NO_FILE: &str = "ERR This Redis instance is not configured to use an ACL file. You may want to specify users via the ACL \
    SETUSER command and then issue a CONFIG REWRITE (assuming you have a Redis configuration file set) in order to store \
    users in the Redis configuration.";

fn help(_: &mut Core, call: &mut NodeCall<'_>) -> Result<(), Error> {
    write_help("ACL", HELP, &mut call.reply);
    Ok(())
}

fn whoami(_: &mut Core, call: &mut NodeCall<'_>) -> Result<(), Error> {
    call.reply.bulk(call.session.user.name());
    Ok(())
}

fn users(core: &mut Core, call: &mut NodeCall<'_>) -> Result<(), Error> {
    let users = core.config().acl.users();
    call.reply.array(users.len());
    users.for_each(|user| call.reply.bulk(user.name()));
    Ok(())
}

fn list(core: &mut Core, call: &mut NodeCall<'_>) -> Result<(), Error> {
    let lines = core.config().acl.lines();
    call.reply.array(lines.len());
    lines.iter().for_each(|line| call.reply.bulk(line));
    Ok(())
}

fn cat(core: &mut Core, call: &mut NodeCall<'_>) -> Result<(), Error> {
    let Some(name) = call.args.get(2) else {
        call.reply.array(selector::CATEGORIES.len());
        selector::CATEGORIES.iter().for_each(|name| call.reply.bulk(name.as_bytes()));
        return Ok(());
    };
    if call.args.len() > 3 {
        refuse_count(core, call, "ACL");
        return Ok(());
    }
    let Some(category) = selector::category(name) else {
        let line = [b"ERR Unknown category '", &name[..name.len().min(128)], b"'"].concat();
        refuse(core, call, &line);
        return Ok(());
    };
    let all = rows().flat_map(|row| std::iter::once(row).chain(&row.rows));
    let found: Vec<_> = all.filter(|row| selector::is_in(row.spec, category)).collect();
    call.reply.array(found.len());
    found.iter().for_each(|row| call.reply.bulk(row.spec.name.as_bytes()));
    Ok(())
}

fn getuser(core: &mut Core, call: &mut NodeCall<'_>) -> Result<(), Error> {
    match core.config().acl.user(&call.args[2]) {
        Some(user) => describe(user, &mut call.reply),
        None => call.reply.null(),
    }
    Ok(())
}

fn describe(user: &User, reply: &mut Reply<'_>) {
    reply.map(6);
    reply.bulk(b"flags");
    let flags = user.flags();
    reply.set(flags.len());
    flags.iter().for_each(|flag| reply.bulk(flag.as_bytes()));
    reply.bulk(b"passwords");
    reply.array(user.passwords().len());
    user.passwords().iter().for_each(|hash| reply.bulk(hash.to_string().as_bytes()));
    describe_selector(user.root(), reply);
    reply.bulk(b"selectors");
    reply.array(user.others().len());
    for other in user.others() {
        reply.map(3);
        describe_selector(other, reply);
    }
}

/// Three pairs of a map.
fn describe_selector(selector: &Selector, reply: &mut Reply<'_>) {
    let texts = [selector.commands_text(), selector.keys_text(), selector.channels_text()];
    for (name, text) in ["commands", "keys", "channels"].into_iter().zip(texts) {
        reply.bulk(name.as_bytes());
        reply.bulk(&text);
    }
}

fn genpass(core: &mut Core, call: &mut NodeCall<'_>) -> Result<(), Error> {
    const BITS: i64 = 256;
    const BITS_MAX: i64 = 4096;
    const WRONG: &str = "ERR ACL GENPASS argument must be the number of bits for the output password, a positive number up \
        to 4096";
    if call.args.len() > 3 {
        refuse_count(core, call, "ACL");
        return Ok(());
    }
    let bits = call.args.get(2).map_or(Ok(BITS), args::integer)?;
    if !(1..=BITS_MAX).contains(&bits) {
        return Err(Error::Line(WRONG));
    }
    let digits = (bits as usize).div_ceil(4);
    let mut bytes = vec![0; digits.div_ceil(2)];
    if getrandom::fill(&mut bytes).is_err() {
        return Err(Error::Line("ERR the system has no random bytes"));
    }
    let text: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    call.reply.bulk(&text.as_bytes()[..digits]);
    Ok(())
}

fn dryrun(core: &mut Core, call: &mut NodeCall<'_>) -> Result<(), Error> {
    let Some(user) = core.config().acl.user(&call.args[2]).cloned() else {
        let line = [b"ERR User '", &call.args[2], b"' not found"].concat();
        refuse(core, call, &line);
        return Ok(());
    };
    let args = call.args.from(3);
    let Found::Row(row) = find(args) else {
        let line = [b"ERR Command '", &args[0], b"' not found"].concat();
        refuse(core, call, &line);
        return Ok(());
    };
    if !row.spec.takes(args.len()) {
        return Err(Error::Arity(row.spec.name));
    }
    let user_has_no = [b"User ", user.name(), b" has no permissions to "].concat();
    match user.check(row, args) {
        Ok(()) => call.reply.ok(),
        Err(Denied::Command) => {
            call.reply.bulk_parts(&[&user_has_no, b"run the '", row.spec.name.as_bytes(), b"' command"]);
        }
        Err(Denied::Key(index)) => call.reply.bulk_parts(&[&user_has_no, b"access the '", &args[index], b"' key"]),
        Err(Denied::Channel(index)) => {
            call.reply.bulk_parts(&[&user_has_no, b"access the '", &args[index], b"' channel"]);
        }
    }
    Ok(())
}

fn setuser_begin(core: &mut Core, call: &mut NodeCall<'_>) -> Result<Begin, Error> {
    let rules: Vec<&[u8]> = call.args.iter().skip(3).collect();
    let name = &call.args[2];
    let changed = core.shared().change_config(|present| {
        let acl = present.acl.with_user(name, &rules, present.new_channels())?;
        Ok(Config { acl: acl.into(), ..present.clone() })
    });
    let line = match changed {
        Ok(()) => return Ok(Begin::Gather),
        Err(SetError::Name) => b"ERR Usernames can't contain spaces or null characters".to_vec(),
        Err(SetError::Parenthesis(word)) => {
            [b"ERR Unmatched parenthesis in acl selector starting at '", &word[..], b"'."].concat()
        }
        Err(SetError::Rule(rule, error)) => {
            [b"ERR Error in ACL SETUSER modifier '", &rule[..], b"': ", error.to_string().as_bytes()].concat()
        }
    };
    refuse(core, call, &line);
    Ok(Begin::Answered)
}

fn deluser_begin(core: &mut Core, call: &mut NodeCall<'_>) -> Result<Begin, Error> {
    let names: Vec<&[u8]> = call.args.iter().skip(2).collect();
    if names.contains(&DEFAULT_USER) {
        return Err(Error::Line("ERR The 'default' user cannot be removed"));
    }
    let deleted = std::cell::Cell::new(0);
    let changed = core.shared().change_config(|present| {
        let (acl, count) = present.acl.without(&names);
        deleted.set(count);
        Ok::<_, std::convert::Infallible>(Config { acl: acl.into(), ..present.clone() })
    });
    match changed {
        Ok(()) => Ok(Begin::Noted(deleted.get() as i64)),
        Err(never) => match never {},
    }
}

fn deluser_merge(_: &mut Core, call: &MergeCall<'_>, _: Vec<CoreReport>, reply: &mut Reply<'_>) {
    reply.integer(call.note);
}

fn load_begin(core: &mut Core, call: &mut NodeCall<'_>) -> Result<Begin, Error> {
    if core.config().aclfile.is_empty() {
        return Err(Error::Line(NO_FILE));
    }
    if let Err(complaint) = core.shared().change_config(acl::file::load) {
        refuse(core, call, format!("ERR {complaint}").as_bytes());
        return Ok(Begin::Answered);
    }
    tracing::info!("a client had the users read from {}", core.config().aclfile);
    Ok(Begin::Gather)
}

fn save(core: &mut Core, call: &mut NodeCall<'_>) -> Result<(), Error> {
    const FAILED: &str =
        "ERR There was an error trying to save the ACLs. Please check the server logs for more information";
    let config = core.config();
    if config.aclfile.is_empty() {
        return Err(Error::Line(NO_FILE));
    }
    if let Err(error) = acl::file::save(config) {
        tracing::warn!("the users could not be written to {}: {error}", config.aclfile);
        return Err(Error::Line(FAILED));
    }
    call.reply.ok();
    Ok(())
}

fn follow(core: &mut Core, _: &Asked<'_>) -> CoreReport {
    core.reload_config();
    CoreReport { core: core.id(), part: Part::Done }
}

fn merge_ok(_: &mut Core, _: &MergeCall<'_>, _: Vec<CoreReport>, reply: &mut Reply<'_>) {
    reply.ok();
}

fn log_begin(core: &mut Core, call: &mut NodeCall<'_>) -> Result<Begin, Error> {
    if call.args.len() > 3 {
        refuse_count(core, call, "ACL");
        return Ok(Begin::Answered);
    }
    match call.args.get(2) {
        None => Ok(Begin::Noted(LOG_COUNT)),
        Some(word) if is(word, "RESET") => Ok(Begin::Gather),
        Some(word) => Ok(Begin::Noted(args::integer(word)?)),
    }
}

fn resets(args: eagle_resp::Args<'_>) -> bool {
    args.get(2).is_some_and(|word| is(word, "RESET"))
}

fn log_each(core: &mut Core, asked: &Asked<'_>) -> CoreReport {
    let id = core.id();
    let log = core.denials_mut();
    if resets(asked.args) {
        log.clear();
        return CoreReport { core: id, part: Part::Done };
    }
    CoreReport { core: id, part: Part::Denials(log.entries()) }
}

fn log_merge(core: &mut Core, call: &MergeCall<'_>, reports: Vec<CoreReport>, reply: &mut Reply<'_>) {
    if resets(call.args) {
        return reply.ok();
    }
    let entries = |report: CoreReport| match report.part {
        Part::Denials(entries) => entries,
        other => unreachable!("the log is made of what was denied, not {other:?}"),
    };
    let len_max = usize::try_from(core.config().acllog_max_len).unwrap_or(usize::MAX);
    let count = usize::try_from(call.note).unwrap_or(0).min(len_max);
    let entries = merged(reports.into_iter().map(entries).collect(), count);
    reply.array(entries.len());
    for entry in &entries {
        describe_entry(entry, call.now.unix.0, reply);
    }
}

fn describe_entry(entry: &Entry, now_ms: u64, reply: &mut Reply<'_>) {
    let text = |name: &str, value: &[u8], reply: &mut Reply<'_>| {
        reply.bulk(name.as_bytes());
        reply.bulk(value);
    };
    reply.map(10);
    reply.bulk(b"count");
    reply.integer(entry.count as i64);
    text("reason", entry.reason.name().as_bytes(), reply);
    text("context", b"toplevel", reply);
    text("object", &entry.object, reply);
    text("username", &entry.user, reply);
    reply.bulk(b"age-seconds");
    reply.double(now_ms.saturating_sub(entry.updated_ms) as f64 / 1000.0);
    text("client-info", &entry.client, reply);
    for (name, value) in
        [("entry-id", entry.id), ("timestamp-created", entry.created_ms), ("timestamp-last-updated", entry.updated_ms)]
    {
        reply.bulk(name.as_bytes());
        reply.integer(value as i64);
    }
}

#[cfg(test)]
mod tests {
    use super::super::trial::{Client, Trial};
    use crate::config::Config;

    const DENIED: &str = "-NOPERM User u has no permissions to run the 'get' command\r\n";

    fn all(trial: &mut Trial, client: Client, requests: &[(&str, &str)]) {
        for (request, reply) in requests {
            assert_eq!(trial.ask(client, request), format!("{reply}\r\n"), "{request}");
        }
    }

    #[test]
    fn a_user_is_the_same_on_all_cores() {
        // Made on one core, logged in on the other, changed and deleted while it is there; it is counted and listed by name.
        let mut trial = Trial::new(2, Config::default());
        let (admin, user) = (trial.connect(0), trial.connect(1));
        all(&mut trial, admin, &[("ACL SETUSER u on >pw ~x +get +acl|whoami", "+OK")]);
        all(&mut trial, user, &[("AUTH u pw", "+OK"), ("ACL WHOAMI", "$1\r\nu"), ("GET x", "$-1")]);
        all(&mut trial, user, &[("GET y", "-NOPERM No permissions to access a key"), ("NOSUCH", NOSUCH)]);
        all(&mut trial, admin, &[("ACL SETUSER u -get", "+OK")]);
        assert_eq!(trial.ask(user, "GET x"), DENIED);
        assert!(trial.ask(admin, "CLIENT LIST").contains(" user=u "));
        all(&mut trial, admin, &[("CLIENT KILL USER nobody", "-ERR No such user 'nobody'"), ("ACL DELUSER u", ":1")]);
        assert!(trial.is_closed(user) && !trial.is_closed(admin));
    }

    const NOSUCH: &str = "-ERR unknown command 'NOSUCH', with args beginning with: ";

    #[test]
    fn what_two_cores_deny_is_one_entry() {
        // Counted together, with the newest client; RESET forgets it everywhere.
        let mut trial = Trial::new(2, Config::default());
        let (admin, one, other) = (trial.connect(0), trial.connect(0), trial.connect(1));
        all(&mut trial, admin, &[("ACL SETUSER u on nopass", "+OK")]);
        for client in [one, other, other] {
            all(&mut trial, client, &[("AUTH u x", "+OK")]);
            assert_eq!(trial.ask(client, "GET x"), DENIED);
            trial.advance(10);
        }
        let log = trial.ask(admin, "ACL LOG");
        assert!(log.starts_with("*1\r\n*20\r\n$5\r\ncount\r\n:3\r\n$6\r\nreason\r\n$7\r\ncommand\r\n"), "{log}");
        assert!(
            log.contains("$6\r\nobject\r\n$3\r\nget\r\n") && log.contains("id=3 ") && log.contains("$4\r\n0.01\r\n"),
            "{log}"
        );
        all(&mut trial, admin, &[("ACL LOG RESET", "+OK"), ("ACL LOG", "*0"), ("ACL LOG 0", "*0")]);
    }

    #[test]
    fn who_guesses_is_not_listened_to() {
        // Three failures a minute and address: then not even the right password helps, on any core or connection; who is in goes on.
        let config = Config { auth_failures_per_minute: 3, ..Config::default() };
        let config = config.with(&[(b"requirepass", b"secret")], true).unwrap();
        let mut trial = Trial::new(2, config);
        let (one, other) = (trial.connect(0), trial.connect(1));
        let wrong = "-WRONGPASS invalid username-password pair or user is disabled.";
        let too_often = "-ERR too many failed authentications from this address, try again later";
        all(&mut trial, one, &[("AUTH secret", "+OK")]);
        all(&mut trial, other, &[("AUTH a", wrong), ("AUTH nobody b", wrong), ("HELLO 3 AUTH default c", wrong)]);
        let next = trial.connect(0);
        for client in [other, next] {
            all(&mut trial, client, &[("AUTH secret", too_often)]);
        }
        all(&mut trial, one, &[("PING", "+PONG")]);
        trial.advance(20_001);
        all(&mut trial, next, &[("AUTH secret", "+OK"), ("PING", "+PONG")]);
    }

    #[test]
    fn the_password_of_the_default_user_is_that_of_requirepass() {
        // Set either way; a default user who needs none lets in who has not logged in, and one who is off lets nobody.
        let mut trial = Trial::new(2, Config::default());
        let admin = trial.connect(0);
        all(&mut trial, admin, &[("CONFIG SET requirepass one", "+OK")]);
        let late = trial.connect(1);
        let (noauth, ok) = ("-NOAUTH Authentication required.", "+OK");
        all(&mut trial, late, &[("PING", noauth), ("AUTH one", ok), ("RESET", "+RESET"), ("PING", noauth)]);
        all(&mut trial, admin, &[("ACL SETUSER default >two", ok)]);
        all(&mut trial, late, &[("AUTH two", ok), ("RESET", "+RESET"), ("AUTH one", ok), ("RESET", "+RESET")]);
        all(&mut trial, admin, &[("ACL SETUSER default nopass", ok)]);
        all(&mut trial, late, &[("PING", "+PONG")]);
        all(&mut trial, admin, &[("ACL SETUSER default off", ok)]);
        all(&mut trial, late, &[("PING", noauth)]);
        all(
            &mut trial,
            admin,
            &[("PING", "+PONG"), ("CONFIG GET requirepass", "*2\r\n$11\r\nrequirepass\r\n$3\r\none")],
        );
    }

    #[test]
    fn commands_that_were_renamed_are_called_so() {
        // By clients; rules and errors name them by their own names.
        let renamed = vec![(b"get".to_vec(), b"fetch".to_vec()), (b"FLUSHALL".to_vec(), Vec::new())];
        let mut trial = Trial::new(2, Config { renamed, ..Config::default() });
        let client = trial.connect(0);
        let unknown = |name: &str| format!("-ERR unknown command '{name}', with args beginning with: ");
        all(&mut trial, client, &[("SET x 1", "+OK"), ("Fetch x", "$1\r\n1"), ("FLUSHALL", &unknown("FLUSHALL"))]);
        all(&mut trial, client, &[("ACL SETUSER u on nopass", "+OK"), ("AUTH u x", "+OK")]);
        assert_eq!(trial.ask(client, "fetch x"), DENIED);
    }

    #[test]
    fn without_a_file_there_is_nothing_to_load() {
        // And with one that is wrong nothing is changed.
        let path = std::env::temp_dir().join(format!("eagle-users-{}.acl", std::process::id()));
        let mut trial = Trial::new(2, Config { aclfile: path.display().to_string(), ..Config::default() });
        let admin = trial.connect(0);
        std::fs::write(&path, "user a on nopass ~* +@all\nuser b off\n").unwrap();
        let user = trial.connect(1);
        all(&mut trial, admin, &[("ACL SETUSER c on nopass", "+OK")]);
        all(&mut trial, user, &[("AUTH c x", "+OK")]);
        all(&mut trial, admin, &[("ACL LOAD", "+OK"), ("ACL USERS", "*3\r\n$1\r\na\r\n$1\r\nb\r\n$7\r\ndefault")]);
        assert!(trial.is_closed(user), "its user is not in the file");
        std::fs::write(&path, "user a foo\n").unwrap();
        assert!(trial.ask(admin, "ACL LOAD").starts_with("-ERR "));
        all(&mut trial, admin, &[("ACL SETUSER b +get", "+OK"), ("ACL SAVE", "+OK")]);
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        let b = "user b off sanitize-payload resetchannels -@all +get\n";
        let lines = "user a on nopass sanitize-payload ~* resetchannels +@all\n".to_owned() + b;
        assert_eq!(text, lines + "user default on nopass sanitize-payload ~* &* +@all\n");
    }
}
