//! WAIT and WAITAOF: a client asks how durable what it has written is, and waits until it is durable enough.
//!
//! All cores are asked, because the connection's writes may lie on any; each reports when all that it had is synced, for which it
//! begins a sync at once, or when the time is over. There are no replicas yet: who waits for some waits until the time is over.
//! Texts and order of checks: Redis 7.2 (`src/replication.c: waitCommand, waitaofCommand`).

use eagle_resp::{Args, Reply, number};
use eagle_shard::{
    command::args,
    error::Error,
    spec::{Categories, Flags, Group, Spec},
};

use super::{Asked, Begin, NodeRun};
use crate::core::{
    Core, MergeCall, NodeCall,
    event::Now,
    stats::{CoreReport, Part},
};

const WAITING: Spec = Spec {
    flags: Flags::BLOCKING,
    categories: Categories::CONNECTION,
    group: Group::Generic,
    complexity: "O(1)",
    tips: &["request_policy:all_shards", "response_policy:agg_min"],
    ..Spec::BLANK
};

pub(super) const ROWS: &[Spec] = &[
    Spec {
        name: "wait",
        syntax: "numreplicas:integer timeout:integer",
        arity: 3,
        since: "3.0.0",
        summary: "Blocks until the asynchronous replication of all preceding write commands sent by the connection is completed.",
        ..WAITING
    },
    Spec {
        name: "waitaof",
        syntax: "numlocal:integer numreplicas:integer timeout:integer",
        arity: 4,
        since: "7.2.0",
        summary: "Blocks until all of the preceding write commands sent by the connection are written to the append-only \
            file of the master and/or replicas.",
        ..WAITING
    },
];

pub(super) const RUNS: &[(&str, NodeRun)] = &[
    ("wait", NodeRun::Every { begin: wait_begin, each: wait_each, merge: wait_merge }),
    ("waitaof", NodeRun::Every { begin: waitaof_begin, each: waitaof_each, merge: waitaof_merge }),
];

/// Milliseconds to wait, 0 for ever.
fn timeout(text: &[u8]) -> Result<u64, Error> {
    let ms = number::parse_i64(text).ok_or(Error::Line("ERR timeout is not an integer or out of range"))?;
    let ms = u64::try_from(ms).map_err(|_| Error::Line("ERR timeout is negative"))?;
    // In microseconds it must be a time still.
    if ms > u64::MAX / 2000 { Err(Error::Line("ERR timeout is out of range")) } else { Ok(ms) }
}

/// When a wait of so many milliseconds that begins now is over, on the monotonic clock in microseconds.
fn end_us(ms: u64, now: Now) -> u64 {
    if ms == 0 { u64::MAX } else { now.mono_us.saturating_add(ms * 1000) }
}

fn wait_begin(_: &mut Core, call: &mut NodeCall<'_>) -> Result<Begin, Error> {
    let replicas = args::integer(&call.args[1])?;
    timeout(&call.args[2])?;
    if replicas > 0 {
        return Ok(Begin::Gather);
    }
    call.reply.integer(0);
    Ok(Begin::Answered)
}

fn wait_each(core: &mut Core, _: &Asked<'_>) -> CoreReport {
    CoreReport { core: core.id(), part: Part::Done }
}

fn wait_merge(core: &mut Core, call: &MergeCall<'_>, _: Vec<CoreReport>, reply: &mut Reply<'_>) {
    let ms = timeout(&call.args[2]).expect("checked before cores were asked");
    core.reply_at(end_us(ms, call.now));
    reply.integer(0);
}

/// What WAITAOF is to wait for.
struct Wanted {
    local: bool,
    replicas: bool,
    ms: u64,
}

impl Wanted {
    fn parse(args: Args<'_>) -> Result<Self, Error> {
        const LOCAL: &str = "ERR value is out of range, value must between 0 and 1";
        const REPLICAS: &str = "ERR value is out of range, must be positive";
        let local = args::integer(&args[1])?;
        if !(0..=1).contains(&local) {
            return Err(Error::Line(LOCAL));
        }
        let replicas = number::parse_i64(&args[2]).filter(|count| *count >= 0).ok_or(Error::Line(REPLICAS))?;
        Ok(Self { local: local == 1, replicas: replicas > 0, ms: timeout(&args[3])? })
    }
}

fn waitaof_begin(core: &mut Core, call: &mut NodeCall<'_>) -> Result<Begin, Error> {
    const NO_LOG: &str = "ERR WAITAOF cannot be used when numlocal is set but appendonly is disabled.";
    let wanted = Wanted::parse(call.args)?;
    if wanted.local && !core.keeps() {
        return Err(Error::Line(NO_LOG));
    }
    Ok(Begin::Gather)
}

fn waitaof_each(core: &mut Core, asked: &Asked<'_>) -> CoreReport {
    let wanted = Wanted::parse(asked.args).expect("checked before cores were asked");
    let end_us = end_us(wanted.ms, asked.now);
    match (wanted.local, wanted.replicas) {
        // As many replicas as are wanted there will not be.
        (_, true) => core.report_synced(end_us..end_us),
        (true, false) => core.report_synced(0..end_us),
        (false, false) => core.report_synced(0..0),
    }
    CoreReport { core: core.id(), part: Part::Done }
}

#[expect(clippy::needless_pass_by_value, reason = "the signature of all merges")]
fn waitaof_merge(core: &mut Core, _: &MergeCall<'_>, reports: Vec<CoreReport>, reply: &mut Reply<'_>) {
    let is_synced = reports.iter().all(|report| matches!(report.part, Part::Synced(true)));
    reply.array(2);
    reply.integer(i64::from(is_synced && core.keeps()));
    reply.integer(0);
}

#[cfg(test)]
mod tests {
    use super::super::trial::Trial;
    use crate::config::Config;

    #[test]
    fn replies_without_a_pool_are_those_of_redis_without_a_log() {
        // Recorded from Valkey 8.1.8 with appendonly no, on two shards.
        let mut trial = Trial::new(2, Config::default());
        let client = trial.connect(0);
        for (request, reply) in [
            ("WAITAOF 0 0 0", "*2\r\n:0\r\n:0"),
            ("WAITAOF 1 0 0", "-ERR WAITAOF cannot be used when numlocal is set but appendonly is disabled."),
            ("WAITAOF 2 0 0", "-ERR value is out of range, value must between 0 and 1"),
            ("WAITAOF a 0 0", "-ERR value is not an integer or out of range"),
            ("WAITAOF 0 -1 0", "-ERR value is out of range, must be positive"),
            ("WAITAOF 0 a 0", "-ERR value is out of range, must be positive"),
            ("WAITAOF 0 0 a", "-ERR timeout is not an integer or out of range"),
            ("WAITAOF 0 0 -1", "-ERR timeout is negative"),
            ("WAITAOF 0 0 9223372036854775807", "-ERR timeout is out of range"),
            ("WAITAOF 0 0", "-ERR wrong number of arguments for 'waitaof' command"),
            ("WAIT 0 0", ":0"),
            ("WAIT -1 0", ":0"),
            ("WAIT a 0", "-ERR value is not an integer or out of range"),
            ("WAIT 0 a", "-ERR timeout is not an integer or out of range"),
            ("WAIT 0 -1", "-ERR timeout is negative"),
            ("WAIT 0 9223372036854775807", "-ERR timeout is out of range"),
            ("WAIT 1", "-ERR wrong number of arguments for 'wait' command"),
        ] {
            assert_eq!(trial.ask(client, request), format!("{reply}\r\n"), "{request}");
        }
    }

    #[test]
    fn who_waits_for_replicas_waits_until_the_time_is_over() {
        // What follows on the connection waits as well; others do not. Who waits for ever may leave.
        let mut trial = Trial::new(2, Config::default());
        let (one, two, other) = (trial.connect(0), trial.connect(1), trial.connect(0));
        assert_eq!(trial.ask(one, "WAIT 1 500"), "");
        assert_eq!(trial.ask(two, "WAITAOF 0 1 500"), "");
        assert_eq!(trial.ask(one, "PING"), "");
        assert_eq!(trial.ask(other, "PING"), "+PONG\r\n");
        trial.advance(499);
        trial.tick();
        assert_eq!((trial.read(one), trial.read(two)), (String::new(), String::new()));
        trial.advance(1);
        trial.tick();
        assert_eq!(trial.read(one), ":0\r\n+PONG\r\n");
        assert_eq!(trial.read(two), "*2\r\n:0\r\n:0\r\n");
        assert_eq!(trial.ask(one, "WAIT 1 0"), "");
        let kill = trial.ask(other, "CLIENT KILL SKIPME yes TYPE normal");
        assert!(kill == ":2\r\n" && trial.is_closed(one), "{kill}");
    }
}
