//! MONITOR: the commands of all clients, as they come ([`crate::core::monitor`]).

use eagle_resp::Reply;
use eagle_shard::{
    error::Error,
    spec::{Flags, Group, Spec},
};

use super::{Asked, Begin, NodeRun};
use crate::core::{
    Core, MergeCall, NodeCall,
    stats::{CoreReport, Part},
};

pub(super) const ROWS: &[Spec] = &[Spec {
    name: "monitor",
    arity: 1,
    flags: Flags::ADMIN.union(Flags::NOSCRIPT).union(Flags::LOADING).union(Flags::STALE),
    group: Group::Server,
    since: "1.0.0",
    summary: "Listens for all requests received by the server in real-time.",
    ..Spec::BLANK
}];

pub(super) const RUNS: &[(&str, NodeRun)] = &[("monitor", NodeRun::Every { begin, each, merge })];

/// Who watches already gets no reply, as in Redis.
fn begin(core: &mut Core, call: &mut NodeCall<'_>) -> Result<Begin, Error> {
    Ok(if core.watch(call.session) { Begin::Gather } else { Begin::Answered })
}

fn each(core: &mut Core, _: &Asked<'_>) -> CoreReport {
    core.look_for_watchers();
    CoreReport { core: core.id(), part: Part::Done }
}

fn merge(_: &mut Core, _: &MergeCall<'_>, _: Vec<CoreReport>, reply: &mut Reply<'_>) {
    reply.ok();
}

#[cfg(test)]
mod tests {
    use super::super::trial::Trial;
    use crate::config::Config;

    #[test]
    fn commands_of_all_cores_are_shown() {
        // A watcher on each core; commands of clients of both, for keys of both; not those for operators, nor what was refused, nor passwords;
        // its own too. After RESET and after it is gone nothing more.
        let mut trial = Trial::new(2, Config::default());
        let (one, other) = (trial.connect(0), trial.connect(1));
        let (near, far) = (trial.connect(0), trial.connect(1));
        trial.ask(one, "SET unseen v");
        assert_eq!(trial.ask(near, "MONITOR"), "+OK\r\n");
        assert_eq!(trial.ask(far, "MONITOR"), "+OK\r\n");
        assert_eq!(trial.ask(near, "MONITOR"), "");
        for request in
            ["SET a 1", "SET b 2", "MGET a b", "CONFIG GET port", "NOSUCH", "GET", "INCR nonumber\"", "SELECT 3"]
        {
            trial.ask(one, request);
        }
        trial.ask(other, "AUTH default secret");
        trial.ask(far, "PING");
        let line = |db: u16, port: u16, words: &str| format!("+1700000000.123456 [{db} 127.0.0.1:{port}] {words}\r\n");
        let expected = [
            line(0, 50000, r#""SET" "a" "1""#),
            line(0, 50000, r#""SET" "b" "2""#),
            line(0, 50000, r#""MGET" "a" "b""#),
            line(0, 50000, r#""INCR" "nonumber\"""#),
            line(3, 50000, r#""SELECT" "3""#),
            line(0, 50001, r#""AUTH" "(redacted)" "(redacted)""#),
            line(0, 50003, r#""PING""#),
        ];
        assert_eq!(trial.read(near), expected.concat());
        // The reply to its own command was read by then, with what had come before it.
        assert_eq!(trial.ask(far, "PING"), "+PONG\r\n".to_owned() + &line(0, 50003, r#""PING""#));
        trial.read(near);
        assert!(trial.ask(one, "CLIENT LIST").matches(" flags=O ").count() == 2);
        assert_eq!(trial.ask(near, "RESET"), "+RESET\r\n");
        trial.ask(other, "PING");
        assert_eq!(trial.read(near), "");
        assert_eq!(trial.read(far).lines().count(), 2, "the reset, then the ping");
        trial.ask(far, "QUIT");
        trial.ask(one, "PING");
        assert!(trial.is_closed(far) && !trial.ask(one, "CLIENT LIST").contains(" flags=O "));
    }

    #[test]
    fn who_does_not_read_is_cut_off() {
        // By the bounds of clients with subscriptions; the client that is watched does not notice. (A trial takes all output at once, so a
        // line longer than the bound has to do.)
        let config = Config::default().with(&[(b"client-output-buffer-limit", b"pubsub 1000 0 0")], true).unwrap();
        let mut trial = Trial::new(2, config);
        let (client, watcher) = (trial.connect(0), trial.connect(1));
        assert_eq!(trial.ask(watcher, "MONITOR"), "+OK\r\n");
        assert_eq!(trial.ask(client, &format!("SET a {}", "x".repeat(900))), "+OK\r\n");
        assert!(!trial.is_closed(watcher));
        assert_eq!(trial.ask(client, &format!("SET a {}", "x".repeat(1000))), "+OK\r\n");
        assert!(trial.is_closed(watcher));
        assert_eq!(trial.ask(client, "PING"), "+PONG\r\n");
    }
}
