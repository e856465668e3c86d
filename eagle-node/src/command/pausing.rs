//! CLIENT PAUSE and CLIENT UNPAUSE: all cores hold commands back ([`crate::core::pause`]) before the reply leaves.

use eagle_resp::{Args, Reply, number};
use eagle_shard::{command::args::is, error::Error};

use super::{Asked, Begin, NodeRun, refuse_count};
use crate::core::{
    Core, MergeCall, NodeCall,
    pause::{Paused, Purpose},
    stats::{CoreReport, Part},
};

pub(super) const PAUSE: NodeRun = NodeRun::Every { begin: pause_begin, each: pause_each, merge: merge_ok };
pub(super) const UNPAUSE: NodeRun = NodeRun::Every { begin: unpause_begin, each: unpause_each, merge: merge_ok };

/// What is to wait, and for how many milliseconds.
fn parse(args: Args<'_>) -> Result<(Paused, u64), Error> {
    let what = match args.get(3) {
        None => Paused::All,
        Some(mode) if is(mode, "ALL") => Paused::All,
        Some(mode) if is(mode, "WRITE") => Paused::Writes,
        Some(_) => return Err(Error::Line("ERR CLIENT PAUSE mode must be WRITE or ALL")),
    };
    let ms = number::parse_i64(&args[2]).ok_or(Error::Line("ERR timeout is not an integer or out of range"))?;
    let ms = u64::try_from(ms).map_err(|_| Error::Line("ERR timeout is negative"))?;
    // In microseconds it must be a time still.
    if ms > u64::MAX / 2000 {
        return Err(Error::Line("ERR timeout is out of range"));
    }
    Ok((what, ms))
}

fn pause_begin(core: &mut Core, call: &mut NodeCall<'_>) -> Result<Begin, Error> {
    if call.args.len() > 4 {
        refuse_count(core, call, "CLIENT");
        return Ok(Begin::Answered);
    }
    parse(call.args).map(|_| Begin::Gather)
}

fn pause_each(core: &mut Core, asked: &Asked<'_>) -> CoreReport {
    let (what, ms) = parse(asked.args).expect("checked before cores were asked");
    core.pause(Purpose::Client, what, ms, asked.now);
    CoreReport { core: core.id(), part: Part::Done }
}

fn unpause_begin(_: &mut Core, _: &mut NodeCall<'_>) -> Result<Begin, Error> {
    Ok(Begin::Gather)
}

fn unpause_each(core: &mut Core, asked: &Asked<'_>) -> CoreReport {
    core.unpause(Purpose::Client, asked.now);
    CoreReport { core: core.id(), part: Part::Done }
}

fn merge_ok(_: &mut Core, _: &MergeCall<'_>, _: Vec<CoreReport>, reply: &mut Reply<'_>) {
    reply.ok();
}

#[cfg(test)]
mod tests {
    use super::super::trial::Trial;
    use crate::config::Config;

    #[test]
    fn writes_wait_on_all_cores_and_reads_do_not() {
        // Until UNPAUSE: each client's commands behind a write wait as well, and replies come in their order.
        let mut trial = Trial::new(2, Config::default());
        let (one, other) = (trial.connect(0), trial.connect(1));
        for key in ["a", "b", "c", "d"] {
            trial.ask(one, &format!("SET {key} old"));
        }
        assert_eq!(trial.ask(one, "CLIENT PAUSE 100000 WRITE"), "+OK\r\n");
        for key in ["a", "b", "c", "d"] {
            assert_eq!(trial.ask(one, &format!("GET {key}")), "$3\r\nold\r\n");
            assert_eq!(trial.ask(other, &format!("SET {key} new")), "");
            assert_eq!(trial.ask(other, &format!("GET {key}")), "");
        }
        trial.advance(99_000);
        assert_eq!(trial.ask(one, "MGET a b"), "*2\r\n$3\r\nold\r\n$3\r\nold\r\n");
        assert_eq!(trial.ask(one, "CLIENT UNPAUSE"), "+OK\r\n");
        assert_eq!(trial.read(other), "+OK\r\n$3\r\nnew\r\n".repeat(4));
        assert_eq!(trial.ask(one, "MGET a b"), "*2\r\n$3\r\nnew\r\n$3\r\nnew\r\n");
    }

    #[test]
    fn everything_waits_until_its_time_is_over() {
        // ALL is the default and holds back UNPAUSE too; a second, shorter pause does not shorten it.
        let mut trial = Trial::new(2, Config::default());
        let (one, other) = (trial.connect(0), trial.connect(1));
        assert_eq!(trial.ask(one, "CLIENT PAUSE 500"), "+OK\r\n");
        assert_eq!(trial.ask(one, "PING"), "");
        assert_eq!(trial.ask(other, "CLIENT UNPAUSE"), "");
        trial.advance(400);
        trial.tick();
        assert_eq!((trial.read(one), trial.read(other)), (String::new(), String::new()));
        trial.advance(100);
        trial.tick();
        assert_eq!((trial.read(one).as_str(), trial.read(other).as_str()), ("+PONG\r\n", "+OK\r\n"));
        assert_eq!(trial.ask(one, "CLIENT PAUSE 500 WRITE"), "+OK\r\n");
        assert_eq!(trial.ask(one, "CLIENT PAUSE 100 ALL"), "+OK\r\n");
        trial.advance(300);
        trial.tick();
        assert_eq!(trial.ask(other, "PING"), "");
        trial.advance(200);
        trial.tick();
        assert_eq!(trial.read(other), "+PONG\r\n");
    }

    #[test]
    fn expired_keys_stay_while_writes_wait() {
        // They are not shown, and not removed either, by nobody; afterwards they go.
        let mut trial = Trial::new(1, Config::default());
        let client = trial.connect(0);
        trial.ask(client, "SET k v PX 100");
        trial.ask(client, "CLIENT PAUSE 10000 WRITE");
        trial.advance(5000);
        trial.tick();
        assert_eq!(trial.ask(client, "GET k"), "$-1\r\n");
        assert_eq!(trial.ask(client, "DBSIZE"), ":1\r\n");
        trial.ask(client, "CLIENT UNPAUSE");
        trial.tick();
        assert_eq!(trial.ask(client, "DBSIZE"), ":0\r\n");
    }

    #[test]
    fn wrong_arguments_are_refused_as_in_redis() {
        // Recorded from redis-server 7.0.15 and Valkey 9.1.2.
        let mut trial = Trial::new(2, Config::default());
        let client = trial.connect(0);
        for (request, reply) in [
            ("CLIENT PAUSE", "-ERR wrong number of arguments for 'client|pause' command"),
            ("CLIENT PAUSE abc", "-ERR timeout is not an integer or out of range"),
            ("CLIENT PAUSE 1.5", "-ERR timeout is not an integer or out of range"),
            ("CLIENT PAUSE -1", "-ERR timeout is negative"),
            ("CLIENT PAUSE 9223372036854775807", "-ERR timeout is out of range"),
            ("CLIENT PAUSE 10 FOO", "-ERR CLIENT PAUSE mode must be WRITE or ALL"),
            ("CLIENT UNPAUSE x", "-ERR wrong number of arguments for 'client|unpause' command"),
            ("CLIENT UNPAUSE", "+OK"),
            ("CLIENT PAUSE 0", "+OK"),
            ("CLIENT UNBLOCK 1", ":0"),
            ("CLIENT UNBLOCK 1 timeout", ":0"),
            ("CLIENT UNBLOCK abc", "-ERR value is not an integer or out of range"),
            ("CLIENT UNBLOCK 1 FOO", "-ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR"),
            ("CLIENT GETREDIR", ":-1"),
            (
                "CLIENT TRACKINGINFO",
                "*6\r\n$5\r\nflags\r\n*1\r\n$3\r\noff\r\n$8\r\nredirect\r\n:-1\r\n$8\r\nprefixes\r\n*0",
            ),
            ("CLIENT TRACKING on", "-ERR unknown subcommand 'TRACKING'. Try CLIENT HELP."),
        ] {
            assert_eq!(trial.ask(client, request), format!("{reply}\r\n"), "{request}");
        }
    }
}
