//! The state is what a node is doing, in one word and the reasons for it: whether it may be sent commands, whether it is alive.

use std::time::Duration;

use super::View;
use crate::budget::Part;

/// How long a core may be silent before it counts as hung: far beyond the longest command that anybody would want to wait for.
const SILENT_MAX: Duration = Duration::from_secs(60);

/// What a node is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// It comes up; its cores do not say anything yet.
    Starting,
    /// It reads its pools.
    Loading,
    /// It answers what has arrived and takes nothing new.
    Draining,
    /// It serves, but not all writes.
    RefusingWrites,
    /// It serves.
    Ready,
}

impl State {
    /// All there are.
    pub(super) const ALL: [Self; 5] =
        [Self::Starting, Self::Loading, Self::Draining, Self::RefusingWrites, Self::Ready];

    /// Its name in JSON and metrics.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Loading => "loading",
            Self::Draining => "draining",
            Self::RefusingWrites => "refusing_writes",
            Self::Ready => "ready",
        }
    }
}

/// What it is doing, and why it is not ready.
pub(super) fn state(view: Option<&View>) -> (State, Vec<String>) {
    let Some(view) = view else { return (State::Starting, vec!["the node starts".to_owned()]) };
    if view.is_draining {
        return (State::Draining, vec!["the node was asked to end".to_owned()]);
    }
    let loading = &view.shared.loading;
    if loading.is_on() {
        let bytes = loading.bytes();
        let why = format!("{} of {} bytes of the pools are loaded", bytes.bytes_done, bytes.bytes_total);
        return (State::Loading, vec![why]);
    }
    let silent: Vec<usize> = (0..view.cores.len()).filter(|core| view.cores[*core].figures.is_none()).collect();
    if !silent.is_empty() {
        return (State::Starting, silent.iter().map(|core| format!("core {core} has not said anything yet")).collect());
    }
    let refusals = refusals(view);
    (if refusals.is_empty() { State::Ready } else { State::RefusingWrites }, refusals)
}

fn refusals(view: &View) -> Vec<String> {
    let mut reasons = Vec::new();
    for (core, figures) in view.cores.iter().enumerate().filter_map(|(core, view)| Some((core, view.figures.as_ref()?)))
    {
        if figures.has_failed {
            let what = "a write or sync of its pool failed, and only a restart clears that";
            reasons.push(format!("core {core} refuses writes: {what}"));
        } else if figures.lacks_space {
            let what = "its pool cannot grow, the space of its file system or 'pool-size-max' is used up";
            reasons.push(format!("core {core} refuses what does not fit: {what}"));
        }
    }
    let (budget, limit) = (&view.shared.budget, view.config.maxmemory);
    if limit > 0 && budget.used() > limit && !budget.relief_beside(Part::default()) {
        let used = budget.used();
        reasons.push(format!("{used} bytes are used, 'maxmemory' is {limit}, and no key may be evicted"));
    }
    reasons
}

/// Cores that have been silent for so long that they must be taken for hung. At its end a core is silent, and is not.
pub(super) fn silent_cores(view: &View) -> Vec<usize> {
    let is_silent = |core: &usize| !view.is_draining && view.cores[*core].silent > SILENT_MAX;
    (0..view.cores.len()).filter(is_silent).collect()
}
