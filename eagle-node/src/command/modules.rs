//! MODULE: there are none, and none can be loaded. Tools ask for the list before they ask for anything else.

use eagle_shard::{
    error::Error,
    spec::{Flags, Group, Run, Spec},
};

use super::{NodeRun, help as write_help};
use crate::core::{Core, NodeCall};

const MODULE: Spec = Spec { arity: 2, group: Group::Server, since: "4.0.0", complexity: "O(1)", ..Spec::BLANK };

pub(super) const ROWS: &[Spec] = &[Spec {
    name: "module",
    arity: -2,
    complexity: "Depends on subcommand.",
    summary: "A container for module commands.",
    subcommands: &[
        Spec {
            name: "module|help",
            flags: Flags::LOADING.union(Flags::STALE),
            since: "5.0.0",
            summary: "Returns helpful text about the different subcommands.",
            ..MODULE
        },
        Spec {
            name: "module|list",
            flags: Flags::ADMIN.union(Flags::NOSCRIPT),
            tips: &["nondeterministic_output_order"],
            complexity: "O(N) where N is the number of loaded modules.",
            summary: "Returns all loaded modules.",
            ..MODULE
        },
    ],
    run: Run::Container,
    ..MODULE
}];

pub(super) const RUNS: &[(&str, NodeRun)] =
    &[("module|help", NodeRun::Here(help)), ("module|list", NodeRun::Here(list))];

const HELP: &[&str] = &["LIST", "    Return a list of loaded modules."];

fn help(_: &mut Core, call: &mut NodeCall<'_>) -> Result<(), Error> {
    write_help("MODULE", HELP, &mut call.reply);
    Ok(())
}

fn list(_: &mut Core, call: &mut NodeCall<'_>) -> Result<(), Error> {
    call.reply.array(0);
    Ok(())
}
