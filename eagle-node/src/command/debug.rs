//! DEBUG: what tests do to a server and what they look at, for those to whom `enable-debug-command` allows it.
//!
//! As far as Redis' own tests use it and it means something here. What works on keys is done by the cores that own them,
//! what concerns the data as a whole by all. `SLEEP` holds all commands of all cores back, as a Redis that sleeps does,
//! while the cores themselves go on ([`crate::core::pause`]). What is not known is refused as Redis refuses it.

use eagle_resp::{Args, Reply, number};
use eagle_shard::{
    Digest,
    call::DbId,
    command::args::{self, is},
    error::Error,
    glob,
    spec::{Flags, Group, Spec},
};

use super::{Asked, Begin, NodeRun, help as write_help, refuse, refuse_count};
use crate::{
    core::{
        Core, MergeCall, NodeCall,
        event::CoreId,
        pause::{Paused, Purpose},
        stats::{CoreReport, Part},
    },
    faults::Fault,
};

/// A sleep is at most this long, in milliseconds: some 30 years.
const SLEEP_MS_MAX: f64 = 1e12;

pub(super) const ROWS: &[Spec] = &[Spec {
    name: "debug",
    arity: -2,
    flags: Flags::ADMIN.union(Flags::NOSCRIPT).union(Flags::LOADING).union(Flags::STALE),
    group: Group::Server,
    since: "1.0.0",
    complexity: "Depends on subcommand.",
    summary: "A container for debugging commands.",
    is_internal: true,
    ..Spec::BLANK
}];

pub(super) const RUNS: &[(&str, NodeRun)] = &[("debug", NodeRun::Every { begin, each, merge })];

const HELP: &[&str] = &[
    "CHANGE-REPL-ID",
    "    Change the replication IDs of the instance.",
    "    Dangerous: should be used only for testing the replication subsystem.",
    "DIGEST",
    "    Output a hex signature representing the current DB content.",
    "DIGEST-VALUE <key> [<key> ...]",
    "    Output a hex signature of the values of all the specified keys.",
    "ERROR <string>",
    "    Return a Redis protocol error with <string> as message. Useful for clients",
    "    unit tests to simulate Redis errors.",
    "LOG <message>",
    "    Write <message> to the server log.",
    "OBJECT <key>",
    "    Show low level info about `key` and associated value.",
    "QUICKLIST-PACKED-THRESHOLD <size>",
    "    Accepted and without effect: lists have no such nodes here.",
    "RELOAD [option ...]",
    "    Build the index anew from the records of the log. The options of Redis,",
    "    MERGE, NOFLUSH and NOSAVE, are known; there is no file to load.",
    "SET-ACTIVE-EXPIRE <0|1>",
    "    Setting it to 0 disables expiring keys in background when they are not",
    "    accessed (otherwise the Redis behavior). Setting it to 1 reenables back the",
    "    default.",
    "SLEEP <seconds>",
    "    Stop the server for <seconds>. Decimals allowed.",
    "STORAGE <fault> [core]",
    "    From now on this goes wrong with the pools' media, of one core or of all:",
    "    DELAY-SYNC <ms>, FAIL-WRITE <errno>, FAIL-SYNC <errno>, SHORT-WRITE,",
    "    ENOSPC-GROWTH. OFF ends it all.",
    "STRINGMATCH-LEN <len> <pattern>",
    "    Whether <pattern> matches a string of <len> times 'a'.",
];

/// What is asked of all cores.
enum Task {
    /// All databases' digest.
    Digest,
    /// These keys' values' digests.
    ValueDigests,
    /// What a key's value is like.
    Object,
    /// The index is built anew.
    Reload,
    /// Whether expired keys leave by themselves.
    ActiveExpire(bool),
    /// So many milliseconds of rest.
    Sleep(u64),
}

impl Task {
    /// What the arguments ask of all cores, if they do.
    fn parse(args: Args<'_>) -> Option<Self> {
        let name = &args[1];
        match args.len() {
            2 if is(name, "DIGEST") => Some(Self::Digest),
            2.. if is(name, "DIGEST-VALUE") => Some(Self::ValueDigests),
            2.. if is(name, "RELOAD") => Some(Self::Reload),
            3 if is(name, "OBJECT") => Some(Self::Object),
            3 if is(name, "SET-ACTIVE-EXPIRE") => Some(Self::ActiveExpire(leading_integer(&args[2]) != 0)),
            3 if is(name, "SLEEP") => {
                let seconds = str::from_utf8(&args[2]).ok().and_then(|text| text.parse::<f64>().ok()).unwrap_or(0.0);
                Some(Self::Sleep((seconds * 1000.0).clamp(0.0, SLEEP_MS_MAX) as u64))
            }
            _ => None,
        }
    }
}

/// The number that a text begins with, 0 if none, as C's `atoi` reads it.
fn leading_integer(text: &[u8]) -> i64 {
    let len = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    number::parse_i64(&text[..len]).unwrap_or(0)
}

fn begin(core: &mut Core, call: &mut NodeCall<'_>) -> Result<Begin, Error> {
    const NOT_ALLOWED: &str = "ERR DEBUG command not allowed. If the enable-debug-command option is set to \"local\", you \
        can run it from a local connection, otherwise you need to set this option in the configuration file, and then \
        restart the server.";
    const OPTIONS: &str = "ERR DEBUG RELOAD only supports the MERGE, NOFLUSH and NOSAVE options.";
    const NO_FILE: &str = "ERR Error trying to load the RDB dump, check server logs.";
    if !core.config().enable_debug_command.to(call.session.peer.is_local()) {
        return Err(Error::Line(NOT_ALLOWED));
    }
    match Task::parse(call.args) {
        Some(Task::Reload) => {
            let known = |option: &[u8]| ["MERGE", "NOFLUSH", "NOSAVE"].iter().any(|word| is(option, word));
            if !call.args.iter().skip(2).all(known) {
                return Err(Error::Line(OPTIONS));
            }
            // Nothing is written to files, so there is none to load instead of what is here.
            if call.args.iter().skip(2).any(|option| is(option, "NOSAVE")) {
                return Err(Error::Line(NO_FILE));
            }
            Ok(Begin::Gather)
        }
        Some(_) => Ok(Begin::Gather),
        None => here(core, call).map(|()| Begin::Answered),
    }
}

/// What the home core does alone.
fn here(core: &mut Core, call: &mut NodeCall<'_>) -> Result<(), Error> {
    let args = call.args;
    match (args.len(), &args[1]) {
        (2, name) if is(name, "HELP") => write_help("DEBUG", HELP, &mut call.reply),
        (2, name) if is(name, "CHANGE-REPL-ID") => {
            tracing::warn!("a client had the replication id changed");
            core.shared().change_replication_id();
            call.reply.ok();
        }
        (3, name) if is(name, "LOG") => {
            tracing::warn!("DEBUG LOG: {}", String::from_utf8_lossy(&args[2]));
            call.reply.ok();
        }
        (3, name) if is(name, "ERROR") => {
            let line: Vec<u8> = args[2].iter().map(|byte| if b"\r\n".contains(byte) { b' ' } else { *byte }).collect();
            refuse(core, call, &line);
        }
        (3, name) if is(name, "QUICKLIST-PACKED-THRESHOLD") => {
            const WRONG: &str = "ERR argument must be a memory value bigger than 1 and smaller than 4gb";
            const MOST: u64 = 4 << 30;
            let bytes = crate::config::form::bytes(&args[2]).ok_or(Error::Line(WRONG))?;
            if bytes >= MOST {
                return Err(Error::Line(WRONG));
            }
            call.reply.ok();
        }
        (3..=5, name) if is(name, "STORAGE") => storage(core, call)?,
        (4, name) if is(name, "STRINGMATCH-LEN") => {
            const LEN_MAX: i64 = 1 << 20;
            let len = args::integer(&args[2])?;
            if !(0..=LEN_MAX).contains(&len) {
                return Err(Error::Line("ERR value is out of range, must be between 0 and 1048576"));
            }
            let text = vec![b'a'; len as usize];
            let matches = glob::matches(&args[3], &text, glob::Case::Sensitive);
            call.reply.integer(i64::from(matches));
        }
        _ => refuse_count(core, call, "DEBUG"),
    }
    Ok(())
}

/// Lets something go wrong with the media of pools, or no longer.
fn storage(core: &mut Core, call: &mut NodeCall<'_>) -> Result<(), Error> {
    let args = call.args;
    let word = &args[2];
    let number = |at: usize| args.get(at).ok_or(Error::Syntax).and_then(args::integer);
    let code = |at| i32::try_from(number(at)?).ok().filter(|code| *code > 0).ok_or(Error::NotInteger);
    let (fault, next) = match word {
        word if is(word, "OFF") => {
            core.shared().faults.clear();
            call.reply.ok();
            return Ok(());
        }
        word if is(word, "DELAY-SYNC") => {
            let ms = u64::try_from(number(3)?).map_err(|_| Error::NotInteger)?;
            (Fault::DelaySync(ms), 4)
        }
        word if is(word, "FAIL-WRITE") => (Fault::FailWrite(code(3)?), 4),
        word if is(word, "FAIL-SYNC") => (Fault::FailSync(code(3)?), 4),
        word if is(word, "SHORT-WRITE") => (Fault::ShortWrite, 3),
        word if is(word, "ENOSPC-GROWTH") => (Fault::NoSpace, 3),
        _ => return Err(Error::Syntax),
    };
    let only = match args.len() - next {
        0 => None,
        1 => Some(CoreId(u16::try_from(number(next)?).map_err(|_| Error::NotInteger)?)),
        _ => return Err(Error::Syntax),
    };
    tracing::warn!(
        "a client had storage go wrong: {fault:?}, of {}",
        only.map_or("all cores".to_owned(), |core| format!("core {}", core.0))
    );
    core.shared().faults.set(fault, only);
    call.reply.ok();
    Ok(())
}

fn each(core: &mut Core, asked: &Asked<'_>) -> CoreReport {
    let now = asked.now;
    let part = match Task::parse(asked.args).expect("checked before cores were asked") {
        Task::Digest => {
            let databases = (0..core.config().databases).map(DbId).filter(|db| core.shard().len(*db) > 0);
            Part::Digests(databases.map(|db| (db, core.shard().digest(db, now.unix))).collect())
        }
        Task::ValueDigests => {
            Part::Texts(texts(core, asked, |core, found| core.shard().value_digest(found).to_string()))
        }
        Task::Object => Part::Texts(texts(core, asked, |core, found| object(core, found, asked))),
        Task::Reload => {
            core.shard_mut().reload();
            Part::Done
        }
        Task::ActiveExpire(on) => {
            core.set_active_expiry(on);
            Part::Done
        }
        Task::Sleep(ms) => {
            core.pause(Purpose::Sleep, Paused::All, ms, now);
            Part::Done
        }
    };
    CoreReport { core: core.id(), part }
}

/// What there is to say of each of the keys from the third argument on that are this core's, by its place.
fn texts(
    core: &mut Core,
    asked: &Asked<'_>,
    say: impl Fn(&Core, eagle_shard::keyspace::Found) -> String,
) -> Vec<(usize, String)> {
    let mut texts = Vec::new();
    for (place, bytes) in asked.args.iter().enumerate().skip(2) {
        if !core.owns(bytes) {
            continue;
        }
        let key = core.shard().key(bytes);
        if let Some(found) = core.shard_mut().find(asked.db, key, asked.now.unix) {
            texts.push((place, say(core, found)));
        }
    }
    texts
}

/// The line of `DEBUG OBJECT`: the address is the record's place in its log, the length that of the value's bytes.
fn object(core: &Core, found: eagle_shard::keyspace::Found, asked: &Asked<'_>) -> String {
    let shard = core.shard();
    // Nothing is known of it where uses are counted instead.
    let idle_s = shard.idle_ms(found, asked.now.unix).unwrap_or(0) / 1000;
    let used_s = asked.now.unix.0 / 1000 - idle_s;
    // Redis' clock has 24 bits.
    const LRU_MASK: u64 = (1 << 24) - 1;
    format!(
        "Value at:{:#x} refcount:1 encoding:{} serializedlength:{} lru:{} lru_seconds_idle:{idle_s}",
        shard.place(found),
        shard.encoding_name(found),
        shard.serialized_bytes(found),
        used_s & LRU_MASK,
    )
}

fn merge(core: &mut Core, call: &MergeCall<'_>, reports: Vec<CoreReport>, reply: &mut Reply<'_>) {
    match Task::parse(call.args).expect("checked before cores were asked") {
        Task::Digest => reply.simple(&whole_digest(reports).to_string()),
        Task::ValueDigests => {
            let texts = gathered(reports);
            reply.array(call.args.len() - 2);
            for place in 2..call.args.len() {
                let text = texts.iter().find(|(at, _)| *at == place).map(|(_, text)| text.clone());
                reply.simple(&text.unwrap_or_else(|| Digest::default().to_string()));
            }
        }
        Task::Object => match gathered(reports).first() {
            Some((_, text)) => reply.simple(text),
            None => {
                let line = "ERR no such key";
                let row = super::row(call.spec);
                core.stats_mut().failed_call(row);
                core.stats_mut().error(Some(row), line);
                reply.error_line(line);
            }
        },
        Task::Reload | Task::ActiveExpire(_) => reply.ok(),
        Task::Sleep(ms) => {
            core.reply_at(call.now.mono_us.saturating_add(ms.saturating_mul(1000)));
            core.sleeps(ms.saturating_mul(1000));
            reply.ok();
        }
    }
}

fn gathered(reports: Vec<CoreReport>) -> Vec<(usize, String)> {
    let texts = |report: CoreReport| match report.part {
        Part::Texts(texts) => texts,
        other => unreachable!("keys are described by texts, not {other:?}"),
    };
    reports.into_iter().flat_map(texts).collect()
}

fn whole_digest(reports: Vec<CoreReport>) -> Digest {
    let mut databases: std::collections::BTreeMap<DbId, Digest> = std::collections::BTreeMap::new();
    for report in reports {
        match report.part {
            Part::Digests(digests) => {
                digests.into_iter().for_each(|(db, digest)| databases.entry(db).or_default().merge(digest));
            }
            other => unreachable!("a digest is made of digests, not {other:?}"),
        }
    }
    Digest::of_databases(databases)
}

#[cfg(test)]
mod tests {
    use super::super::trial::Trial;
    use crate::config::{Allowed, Config};

    fn allowed() -> Config {
        Config { enable_debug_command: Allowed::Local, ..Config::default() }
    }

    #[test]
    fn it_is_for_those_who_may() {
        // Nobody by default; with `local` clients of this host, with `yes` everybody. Texts of redis-server 7.0.15.
        let refusal = "-ERR DEBUG command not allowed. If the enable-debug-command option is set to \"local\", you can run \
            it from a local connection, otherwise you need to set this option in the configuration file, and then \
            restart the server.\r\n";
        for (enable, local, remote) in [
            (Allowed::No, refusal, refusal),
            (Allowed::Local, "+OK\r\n", refusal),
            (Allowed::Yes, "+OK\r\n", "+OK\r\n"),
        ] {
            let config = Config { enable_debug_command: enable, protected_mode: false, ..Config::default() };
            let mut trial = Trial::new(1, config);
            let near = trial.connect(0);
            let far = trial.connect_from(0, "192.0.2.1:5000".parse().unwrap());
            assert_eq!(trial.ask(near, "DEBUG SLEEP 0"), local);
            assert_eq!(trial.ask(far, "DEBUG RELOAD"), remote);
        }
    }

    #[test]
    fn replies_are_those_of_redis() {
        // Recorded from redis-server 7.0.15, on two shards; STRINGMATCH-LEN is of other versions.
        let mut trial = Trial::new(2, allowed());
        let client = trial.connect(0);
        let unknown =
            |name: &str| format!("-ERR unknown subcommand or wrong number of arguments for '{name}'. Try DEBUG HELP.");
        trial.ask(client, "SET k hello");
        trial.ask(client, "SET n 12");
        for (request, reply) in [
            ("DEBUG", "-ERR wrong number of arguments for 'debug' command"),
            ("DEBUG FOO", unknown("FOO").as_str()),
            ("DEBUG JMAP", &unknown("JMAP")),
            ("DEBUG SLEEP", &unknown("SLEEP")),
            ("DEBUG SLEEP abc", "+OK"),
            ("DEBUG SLEEP -1", "+OK"),
            ("DEBUG OBJECT nokey", "-ERR no such key"),
            ("DEBUG OBJECT k fast", &unknown("OBJECT")),
            ("DEBUG SET-ACTIVE-EXPIRE 1", "+OK"),
            ("DEBUG SET-ACTIVE-EXPIRE", &unknown("SET-ACTIVE-EXPIRE")),
            ("DEBUG DIGEST", "+9a8936193228f38027dec6816abd15aa511220ec"),
            (
                "DEBUG DIGEST-VALUE k nokey",
                "*2\r\n+36b23a1456b2dce2c3ed252c456761301dba8060\r\n+0000000000000000000000000000000000000000",
            ),
            ("DEBUG DIGEST-VALUE", "*0"),
            ("DEBUG STRINGMATCH-LEN 10 a*a", ":1"),
            ("DEBUG STRINGMATCH-LEN 10 a*b", ":0"),
            ("DEBUG CHANGE-REPL-ID", "+OK"),
            ("DEBUG QUICKLIST-PACKED-THRESHOLD 100", "+OK"),
            (
                "DEBUG QUICKLIST-PACKED-THRESHOLD 5gb",
                "-ERR argument must be a memory value bigger than 1 and smaller than 4gb",
            ),
            ("DEBUG RELOAD", "+OK"),
            ("DEBUG RELOAD FOO", "-ERR DEBUG RELOAD only supports the MERGE, NOFLUSH and NOSAVE options."),
            ("DEBUG LOG hi", "+OK"),
            ("DEBUG ERROR x", "-x"),
            ("MGET k n", "*2\r\n$5\r\nhello\r\n$2\r\n12"),
        ] {
            assert_eq!(trial.ask(client, request), format!("{reply}\r\n"), "{request}");
        }
        let object = trial.ask(client, "DEBUG OBJECT k");
        assert!(object.starts_with("+Value at:0x") && object.contains(" encoding:embstr "), "{object}");
        assert!(object.ends_with(" lru_seconds_idle:0\r\n"), "{object}");
    }

    #[test]
    fn a_sleeping_server_answers_nobody_until_it_wakes() {
        // The reply comes after the time, and so do those to all who asked meanwhile, on all cores.
        let mut trial = Trial::new(2, allowed());
        let (one, other) = (trial.connect(0), trial.connect(1));
        assert_eq!(trial.ask(one, "DEBUG SLEEP 0.5"), "");
        assert_eq!(trial.ask(other, "PING"), "");
        trial.advance(400);
        trial.tick();
        assert_eq!((trial.read(one), trial.read(other)), (String::new(), String::new()));
        trial.advance(100);
        trial.tick();
        assert_eq!((trial.read(one).as_str(), trial.read(other).as_str()), ("+OK\r\n", "+PONG\r\n"));
    }

    #[test]
    fn expired_keys_stay_until_somebody_asks_if_told_so() {
        // SET-ACTIVE-EXPIRE 0 leaves them; a read still does not show them, and 1 lets them go.
        let mut trial = Trial::new(2, allowed());
        let client = trial.connect(0);
        assert_eq!(trial.ask(client, "DEBUG SET-ACTIVE-EXPIRE 0"), "+OK\r\n");
        for key in ["a", "b", "c"] {
            trial.ask(client, &format!("SET {key} v PX 10"));
        }
        trial.advance(1000);
        trial.tick();
        assert_eq!(trial.ask(client, "DBSIZE"), ":3\r\n");
        assert_eq!(trial.ask(client, "GET a"), "$-1\r\n");
        assert_eq!(trial.ask(client, "DBSIZE"), ":2\r\n");
        assert_eq!(trial.ask(client, "DEBUG SET-ACTIVE-EXPIRE 1"), "+OK\r\n");
        trial.tick();
        assert_eq!(trial.ask(client, "DBSIZE"), ":0\r\n");
    }
}
