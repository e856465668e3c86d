//! CONFIG: the configuration read and changed while serving, and the statistics reset.

use std::{io::ErrorKind, path::Path, sync::Arc};

use eagle_resp::{Args, Reply};
use eagle_shard::{
    error::Error,
    shard::Stats,
    spec::{Flags, Group, Run, Spec},
};

use super::{Asked, Begin, NodeRun, help as write_help, refuse};
use crate::{
    config::{Config, rewrite},
    core::{
        Core, MergeCall, NodeCall,
        stats::{CoreReport, Part},
    },
    log,
};

const CONFIG: Spec = Spec {
    flags: Flags::ADMIN.union(Flags::NOSCRIPT).union(Flags::LOADING).union(Flags::STALE),
    group: Group::Server,
    complexity: "O(1)",
    ..Spec::BLANK
};

const EACH_DIRECTIVE: &str = "O(N) when N is the number of configuration parameters provided";

/// Every node of a cluster is to do it.
const EVERYWHERE: &[&str] = &["request_policy:all_nodes", "response_policy:all_succeeded"];

pub(super) const ROWS: &[Spec] = &[Spec {
    name: "config",
    arity: -2,
    flags: Flags::empty(),
    since: "2.0.0",
    complexity: "Depends on subcommand.",
    summary: "A container for server configuration commands.",
    subcommands: SUBCOMMANDS,
    run: Run::Container,
    ..CONFIG
}];

const SUBCOMMANDS: &[Spec] = &[
    Spec {
        name: "config|get",
        syntax: "parameter...",
        arity: -3,
        since: "2.0.0",
        complexity: EACH_DIRECTIVE,
        summary: "Returns the effective values of configuration parameters.",
        history: &[("7.0.0", "Added the ability to pass multiple pattern parameters in one call")],
        ..CONFIG
    },
    Spec {
        name: "config|help",
        arity: 2,
        flags: Flags::LOADING.union(Flags::STALE),
        since: "5.0.0",
        summary: "Returns helpful text about the different subcommands.",
        ..CONFIG
    },
    Spec {
        name: "config|resetstat",
        arity: 2,
        tips: EVERYWHERE,
        since: "2.0.0",
        summary: "Resets the server's statistics.",
        ..CONFIG
    },
    Spec {
        name: "config|rewrite",
        arity: 2,
        tips: EVERYWHERE,
        since: "2.8.0",
        summary: "Persists the effective configuration to file.",
        ..CONFIG
    },
    Spec {
        name: "config|set",
        syntax: "{data: parameter value}...",
        arity: -4,
        tips: EVERYWHERE,
        since: "2.0.0",
        complexity: EACH_DIRECTIVE,
        summary: "Sets configuration parameters in-flight.",
        history: &[("7.0.0", "Added the ability to set multiple parameters in one call.")],
        ..CONFIG
    },
];

pub(super) const RUNS: &[(&str, NodeRun)] = &[
    ("config|get", NodeRun::Here(get)),
    ("config|help", NodeRun::Here(help)),
    ("config|resetstat", NodeRun::Every { begin: resetstat_begin, each: resetstat_each, merge: merge_ok }),
    ("config|rewrite", NodeRun::Here(rewrite)),
    ("config|set", NodeRun::Every { begin: set_begin, each: set_each, merge: merge_ok }),
];

const HELP: &[&str] = &[
    "GET <pattern>",
    "    Return parameters matching the glob-like <pattern> and their values.",
    "SET <directive> <value>",
    "    Set the configuration <directive> to <value>.",
    "RESETSTAT",
    "    Reset statistics reported by the INFO command.",
    "REWRITE",
    "    Rewrite the configuration file.",
];

fn help(_: &mut Core, call: &mut NodeCall<'_>) -> Result<(), Error> {
    write_help("CONFIG", HELP, &mut call.reply);
    Ok(())
}

fn get(core: &mut Core, call: &mut NodeCall<'_>) -> Result<(), Error> {
    let patterns: Vec<&[u8]> = call.args.iter().skip(2).collect();
    let found = core.config().matching(&patterns);
    call.reply.map(found.len());
    for (name, value) in found {
        call.reply.bulk(&name);
        call.reply.bulk(&value);
    }
    Ok(())
}

fn set_begin(core: &mut Core, call: &mut NodeCall<'_>) -> Result<Begin, Error> {
    let words: Vec<&[u8]> = call.args.iter().skip(2).collect();
    if !words.len().is_multiple_of(2) {
        return Err(Error::Syntax);
    }
    let pairs: Vec<(&[u8], &[u8])> = words.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect();
    if Config::concerns_runtime(&pairs) {
        return Ok(Begin::Configure);
    }
    // Others may change the configuration at the same time: ours is applied to what is there then.
    let is_local = call.session.peer.is_local();
    let changed = core.shared().change_config(|present| present.with(&pairs, is_local));
    if let Err(error) = changed {
        refuse(core, call, format!("ERR {error}").as_bytes());
        return Ok(Begin::Answered);
    }
    log_change(call.args);
    Ok(Begin::Gather)
}

/// Tells the log what a `CONFIG SET` of these arguments has changed.
pub(crate) fn log_change(args: Args<'_>) {
    let named: Vec<&[u8]> = args.iter().skip(2).step_by(2).collect();
    let names: Vec<_> = named.iter().map(|name| String::from_utf8_lossy(name).to_ascii_lowercase()).collect();
    tracing::info!("a client changed the configuration: {}", names.join(", "));
    for name in Config::without_effect(&named) {
        tracing::warn!("directive '{name}' is accepted but has no effect");
    }
}

fn set_each(core: &mut Core, _: &Asked<'_>) -> CoreReport {
    core.reload_config();
    log::set_level(Arc::clone(core.config()).loglevel);
    CoreReport { core: core.id(), part: Part::Done }
}

fn resetstat_begin(_: &mut Core, _: &mut NodeCall<'_>) -> Result<Begin, Error> {
    Ok(Begin::Gather)
}

fn resetstat_each(core: &mut Core, _: &Asked<'_>) -> CoreReport {
    core.stats_mut().reset();
    core.shard_mut().stats = Stats::default();
    CoreReport { core: core.id(), part: Part::Done }
}

fn merge_ok(_: &mut Core, _: &MergeCall<'_>, _: Vec<CoreReport>, reply: &mut Reply<'_>) {
    reply.ok();
}

fn rewrite(core: &mut Core, call: &mut NodeCall<'_>) -> Result<(), Error> {
    let config = Arc::clone(core.config());
    if config.config_file.is_empty() {
        return Err(Error::Line("ERR The server is running without a config file"));
    }
    let path = Path::new(&config.config_file);
    let replaced = match std::fs::read(path) {
        // A file that is gone is written anew.
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        old => rewrite::replace(path, &rewrite::rewritten(&old.unwrap_or_default(), &config)),
    };
    if let Err(error) = replaced {
        let text = error.to_string();
        let text = text.split(" (os error").next().unwrap_or(&text);
        tracing::warn!("CONFIG REWRITE of {} failed: {text}", path.display());
        refuse(core, call, format!("ERR Rewriting config file: {text}").as_bytes());
        return Ok(());
    }
    tracing::info!("a client had the configuration written to {}", path.display());
    call.reply.ok();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{super::trial::Trial, *};
    use crate::config::PoolMode;

    #[test]
    fn a_change_is_seen_by_every_core_before_the_answer() {
        // Set on one core, read on the other; a password that is set keeps new clients out but not old ones.
        let mut trial = Trial::new(2, Config::default());
        let (one, other) = (trial.connect(0), trial.connect(1));
        assert_eq!(trial.ask(one, "CONFIG SET maxclients 77 timeout 5"), "+OK\r\n");
        assert_eq!(trial.ask(other, "CONFIG GET maxclients timeou?"), {
            "*4\r\n$10\r\nmaxclients\r\n$2\r\n77\r\n$7\r\ntimeout\r\n$1\r\n5\r\n"
        });
        assert_eq!(trial.ask(one, "CONFIG SET requirepass secret"), "+OK\r\n");
        let late = trial.connect(1);
        assert_eq!(trial.ask(late, "PING"), "-NOAUTH Authentication required.\r\n");
        assert_eq!(trial.ask(other, "PING"), "+PONG\r\n");
    }

    #[test]
    fn a_longer_string_needs_a_higher_limit() {
        // proto-max-bulk-len reaches every shard, down and up again.
        let mut trial = Trial::new(2, Config::default());
        let client = trial.connect(0);
        let too_long = "-ERR string exceeds maximum allowed size (proto-max-bulk-len)\r\n";
        for key in ["a", "b", "c", "d"] {
            let longer = format!("SETRANGE {key} 1048576 x");
            assert_eq!(trial.ask(client, "CONFIG SET proto-max-bulk-len 1mb"), "+OK\r\n");
            assert_eq!(trial.ask(client, &longer), too_long);
            assert_eq!(trial.ask(client, "CONFIG SET proto-max-bulk-len 2mb"), "+OK\r\n");
            assert_eq!(trial.ask(client, &longer), ":1048577\r\n");
        }
    }

    #[test]
    fn what_cannot_be_set_changes_nothing() {
        // One wrong pair of two; texts recorded from redis-server 7.0.15, but for what needs a pool.
        let mut trial = Trial::new(2, Config { pool: PoolMode::None, ..Config::default() });
        let client = trial.connect(0);
        for (request, line) in [
            (
                "CONFIG SET timeout 5 maxclients 0",
                "CONFIG SET failed (possibly related to argument 'maxclients') - \
                 argument must be between 1 and 4294967295 inclusive",
            ),
            ("CONFIG SET timeout 5 bogus 1", "Unknown option or number of arguments for CONFIG SET - 'bogus'"),
            (
                "CONFIG SET appendonly yes",
                "CONFIG SET failed (possibly related to argument 'appendonly') - \
                 with 'pool none' nothing is kept, so the only value is 'no'",
            ),
            ("CONFIG SET timeout 5 maxclients", "syntax error"),
            ("CONFIG SET timeout", "wrong number of arguments for 'config|set' command"),
            ("CONFIG REWRITE", "The server is running without a config file"),
        ] {
            assert_eq!(trial.ask(client, request), format!("-ERR {line}\r\n"), "{request}");
        }
        assert_eq!(trial.ask(client, "CONFIG GET timeout"), "*2\r\n$7\r\ntimeout\r\n$3\r\n300\r\n");
    }

    #[test]
    fn the_file_is_rewritten_as_the_configuration_is() {
        // What was set is in the file, comments too; where the file cannot be, the error is Redis'.
        let path = std::env::temp_dir().join(format!("eagle-config-rewrite-{}.conf", std::process::id()));
        std::fs::write(&path, "# ours\ntimeout 300\n").unwrap();
        let named = |path: String| Config { config_file: path, ..Config::default() };
        let mut trial = Trial::new(2, named(path.display().to_string()));
        let client = trial.connect(1);
        assert_eq!(trial.ask(client, "CONFIG SET timeout 7 maxclients 50 hz 20"), "+OK\r\n");
        assert_eq!(trial.ask(client, "CONFIG REWRITE"), "+OK\r\n");
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert_eq!(text, "# ours\ntimeout 7\n\n# Generated by CONFIG REWRITE\nmaxclients 50\nhz 20\n");
        let mut trial = Trial::new(1, named("/proc/nowhere/eagle.conf".to_owned()));
        let client = trial.connect(0);
        let line = "-ERR Rewriting config file: No such file or directory\r\n";
        assert_eq!(trial.ask(client, "CONFIG REWRITE"), line);
    }

    #[test]
    fn resetstat_begins_counting_anew_on_all_cores() {
        // Afterwards INFO knows of nothing but the reset itself and what followed.
        let mut trial = Trial::new(2, Config::default());
        let (one, other) = (trial.connect(0), trial.connect(1));
        for key in 0..20 {
            trial.ask(other, &format!("GET key{key}"));
        }
        assert!(trial.ask(one, "INFO stats").contains("keyspace_misses:20\r\n"));
        assert_eq!(trial.ask(one, "CONFIG RESETSTAT"), "+OK\r\n");
        let stats = trial.ask(one, "INFO all");
        for line in ["keyspace_misses:0", "total_connections_received:0"] {
            assert!(stats.contains(&format!("{line}\r\n")), "{line} of {stats}");
        }
        assert!(!stats.contains("cmdstat_get:"), "{stats}");
    }
}
