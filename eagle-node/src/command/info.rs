//! INFO: how the node is, in sections of lines that tools read.
//!
//! Every core reports its figures; the home core adds them up and writes the sections that were asked for
//! (`sections`). Names and order are those of Redis 7.2; behind them stand EagleDB's own.

use std::fmt::Write as _;

use eagle_resp::{Args, Reply};
use eagle_shard::{command::args::is, error::Error};

use super::{Asked, Begin, NodeRun, sections::SECTIONS};
use crate::{
    config::Config,
    core::{
        Core, MergeCall, NodeCall,
        event::Now,
        stats::{CoreReport, Figures, Part},
    },
    shared::Shared,
};

pub(super) const RUN: NodeRun = NodeRun::Every { begin, each, merge };

/// What a section is written from: the whole node as it is now.
#[derive(Debug)]
pub struct Node<'a> {
    /// What its cores share.
    pub shared: &'a Shared,
    /// Its configuration.
    pub config: &'a Config,
    /// The figures of all cores, added up.
    pub figures: Figures,
    /// How many cores there are.
    pub cores: usize,
    /// The time.
    pub now: Now,
}

/// A section: its name, whether it is shown when none is asked for, and what writes its lines.
pub(super) struct Section {
    pub(super) name: &'static str,
    pub(super) title: &'static str,
    pub(super) by_default: bool,
    pub(super) write: fn(&Node<'_>, &mut String),
}

/// The sections that the arguments ask for, in the order of the table.
fn selected(args: Args<'_>) -> impl Iterator<Item = &'static Section> {
    let asked: Vec<&[u8]> = args.iter().skip(1).collect();
    let all = asked.iter().any(|name| is(name, "all") || is(name, "everything"));
    let default = asked.is_empty() || asked.iter().any(|name| is(name, "default"));
    let named: Vec<bool> = SECTIONS.iter().map(|section| asked.iter().any(|name| is(name, section.name))).collect();
    let chosen = move |(index, section): &(usize, &Section)| all || default && section.by_default || named[*index];
    SECTIONS.iter().enumerate().filter(chosen).map(|(_, section)| section)
}

fn begin(_: &mut Core, _: &mut NodeCall<'_>) -> Result<Begin, Error> {
    Ok(Begin::Gather)
}

pub(super) fn each(core: &mut Core, asked: &Asked<'_>) -> CoreReport {
    CoreReport { core: core.id(), part: Part::Figures(Box::new(core.figures(asked.now))) }
}

fn merge(core: &mut Core, call: &MergeCall<'_>, reports: Vec<CoreReport>, reply: &mut Reply<'_>) {
    let cores = reports.len();
    let figures = Figures::together(reports);
    let node = Node { shared: core.shared(), config: core.config(), figures, cores, now: call.now };
    reply.verbatim("txt", node.text(selected(call.args)).as_bytes());
}

impl Node<'_> {
    /// All sections.
    #[must_use]
    pub fn everything(&self) -> String {
        self.text(SECTIONS.iter())
    }

    fn text(&self, sections: impl Iterator<Item = &'static Section>) -> String {
        let mut text = String::with_capacity(4096);
        for section in sections {
            if !text.is_empty() {
                text.push_str("\r\n");
            }
            let _ = write!(text, "# {}\r\n", section.title);
            (section.write)(self, &mut text);
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use eagle_resp::OwnedArgs;

    use super::{super::trial::Trial, *};
    use crate::config::Config;

    #[test]
    fn figures_of_all_cores_are_added_up() {
        // Keys, hits, clients, calls and errors, from commands on both cores to keys on both shards.
        let mut trial = Trial::new(2, Config::default());
        let (one, other) = (trial.connect(0), trial.connect(1));
        for key in 0..20 {
            assert_eq!(trial.ask(one, &format!("SET key{key} value")), "+OK\r\n");
            assert_eq!(trial.ask(other, &format!("GET key{key}")), "$5\r\nvalue\r\n");
        }
        trial.ask(one, "GET nothing");
        trial.ask(one, "GET");
        trial.ask(other, "NOSUCH");
        trial.ask(other, "SELECT x");
        for key in 0..4 {
            trial.ask(other, &format!("INCR key{key}"));
        }
        trial.ask(other, "SET key0 value EX 100");
        let info = trial.ask(one, "INFO everything");
        for line in [
            "redis_version:7.2.4",
            "connected_clients:2",
            "total_connections_received:2",
            "keyspace_hits:20",
            "keyspace_misses:1",
            "db0:keys=20,expires=1,avg_ttl=100000",
            "errorstat_ERR:count=7",
            "total_error_replies:7",
            "role:master",
            "cluster_enabled:0",
            "shards:2",
        ] {
            assert!(info.contains(&format!("\r\n{line}\r\n")), "{line} of {info}");
        }
        assert!(info.contains("cmdstat_get:calls=21,usec="), "{info}");
        assert!(info.contains(",rejected_calls=1,failed_calls=0\r\n"), "{info}");
        assert!(info.contains("cmdstat_select:calls=1,") && info.contains(",failed_calls=1\r\n"), "{info}");
        assert!(info.contains("cmdstat_incr:calls=4,") && info.contains(",failed_calls=4\r\n"));
        assert!(!info.contains("used_memory:0\r\n") && !info.contains("index_bytes:0\r\n"), "{info}");
    }

    #[test]
    fn sections_are_selected_as_in_redis() {
        // None: the defaults; several; all; an unknown one is nothing.
        let names = |request: &str| {
            let args: OwnedArgs = request.split(' ').map(str::as_bytes).collect();
            selected(args.as_args()).map(|section| section.name).collect::<Vec<_>>()
        };
        assert!(names("INFO").len() > 8 && !names("INFO").contains(&"commandstats"));
        assert_eq!(names("INFO"), names("INFO DEFAULT"));
        assert_eq!(names("INFO keyspace SERVER"), ["server", "keyspace"]);
        assert_eq!(names("INFO all").len(), SECTIONS.len());
        assert!(names("INFO default commandstats").contains(&"commandstats"));
        assert!(names("INFO nothing").is_empty());
    }
}
