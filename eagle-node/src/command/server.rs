//! Commands about the server as a whole: the time, its end, and what it knows of itself.

use eagle_shard::{
    command::args::is,
    error::Error,
    spec::{Categories, Flags, Group, Spec},
};

use super::{NodeRun, info, lolwut};
use crate::core::{Core, NodeCall};

const SERVER: Spec = Spec { group: Group::Server, complexity: "O(1)", ..Spec::BLANK };

pub(super) const ROWS: &[Spec] = &[
    Spec {
        name: "info",
        syntax: "[section...]",
        arity: -1,
        flags: Flags::LOADING.union(Flags::STALE),
        categories: Categories::DANGEROUS,
        tips: &["nondeterministic_output", "request_policy:all_shards", "response_policy:special"],
        since: "1.0.0",
        summary: "Returns information and statistics about the server.",
        history: &[("7.0.0", "Added support for taking multiple section arguments.")],
        ..SERVER
    },
    lolwut::ROW,
    Spec {
        name: "shutdown",
        syntax: "[abort-selector: {save-selector-block: [save-selector: NOSAVE | SAVE] [NOW@7.0.0] [FORCE@7.0.0]} | ABORT@7.0.0]",
        arity: -1,
        flags: Flags::ADMIN
            .union(Flags::NOSCRIPT)
            .union(Flags::LOADING)
            .union(Flags::STALE)
            .union(Flags::NO_MULTI)
            .union(Flags::ALLOW_BUSY),
        since: "1.0.0",
        complexity: "O(N) when saving, where N is the total number of keys in all databases when saving data, otherwise O(1)",
        summary: "Synchronously saves the database(s) to disk and shuts down the server.",
        history: &[("7.0.0", "Added the `NOW`, `FORCE` and `ABORT` modifiers.")],
        ..SERVER
    },
    Spec {
        name: "time",
        arity: 1,
        flags: Flags::LOADING.union(Flags::STALE).union(Flags::FAST),
        tips: &["nondeterministic_output"],
        since: "2.6.0",
        summary: "Returns the server time.",
        ..SERVER
    },
];

pub(super) const RUNS: &[(&str, NodeRun)] = &[
    ("info", info::RUN),
    ("lolwut", lolwut::RUN),
    ("shutdown", NodeRun::Here(shutdown)),
    ("time", NodeRun::Here(time)),
];

fn time(_: &mut Core, call: &mut NodeCall<'_>) -> Result<(), Error> {
    let unix_us = call.now.unix_us();
    call.reply.array(2);
    call.reply.bulk_integer((unix_us / 1_000_000) as i64);
    call.reply.bulk_integer((unix_us % 1_000_000) as i64);
    Ok(())
}

/// Ends the node after what has arrived is served. No reply: the client sees the connection close.
fn shutdown(core: &mut Core, call: &mut NodeCall<'_>) -> Result<(), Error> {
    const NOTHING_KEPT: &str = "ERR Errors trying to SHUTDOWN: nothing is kept on disk yet, so there is no SAVE. Use \
        SHUTDOWN NOSAVE.";
    let (mut save, mut no_save, mut others, mut abort) = (false, false, false, false);
    for option in call.args.iter().skip(1) {
        match option {
            option if is(option, "SAVE") => save = true,
            option if is(option, "NOSAVE") => no_save = true,
            option if is(option, "NOW") || is(option, "FORCE") => others = true,
            option if is(option, "ABORT") => abort = true,
            _ => return Err(Error::Syntax),
        }
    }
    if save && no_save || abort && (save || no_save || others) {
        return Err(Error::Syntax);
    }
    if abort {
        return Err(Error::Line("ERR No shutdown in progress."));
    }
    if save {
        return Err(Error::Line(NOTHING_KEPT));
    }
    tracing::warn!("ending: a client asked for SHUTDOWN");
    call.session.close_after_replies();
    core.shut_down();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::trial::Trial;
    use crate::config::Config;

    #[test]
    fn the_time_is_the_turns() {
        // Seconds and microseconds of the clock that the turn was given.
        let mut trial = Trial::new(1, Config::default());
        let client = trial.connect(0);
        assert_eq!(trial.ask(client, "TIME"), "*2\r\n$10\r\n1700000000\r\n$6\r\n123456\r\n");
    }

    #[test]
    fn shutdown_ends_the_node_unless_its_options_are_wrong() {
        // Texts recorded from redis-server 7.0.15; SAVE would promise what is not kept.
        let mut trial = Trial::new(2, Config::default());
        let client = trial.connect(1);
        for (request, reply) in [
            ("SHUTDOWN foo", "-ERR syntax error\r\n"),
            ("SHUTDOWN NOSAVE SAVE", "-ERR syntax error\r\n"),
            ("SHUTDOWN ABORT NOW", "-ERR syntax error\r\n"),
            ("SHUTDOWN ABORT", "-ERR No shutdown in progress.\r\n"),
        ] {
            assert_eq!(trial.ask(client, request), reply, "{request}");
        }
        assert!(trial.ask(client, "SHUTDOWN SAVE").starts_with("-ERR Errors trying to SHUTDOWN: nothing is kept"));
        assert!(!trial.shut_down);
        assert_eq!(trial.ask(client, "SHUTDOWN NOSAVE NOW"), "");
        assert!(trial.shut_down && trial.is_closed(client));
    }
}
