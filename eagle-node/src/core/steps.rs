//! Commands of several steps: RENAME, COPY, MSETNX and LCS over keys of several shards; FLUSHALL, FLUSHDB and SWAPDB, which write
//! to all of them.
//!
//! ```text
//!  hold the keys, shard by shard in ascending order (so no two such commands wait for each other)
//!   ├─ RENAME, RENAMENX   export source ─▶ import at destination ─▶ (committed) ─▶ delete source
//!   │                        ▲── more? ◀──────────┘
//!   ├─ COPY               export source ─▶ import at destination, slice by slice
//!   │  within a shard     copy, slice by slice, one a turn
//!   ├─ MSETNX             EXISTS at all ─▶ none? MSET at all
//!   ├─ LCS                fetch both ─▶ compute
//!   └─ FLUSHALL ...       (all keys are held) do it everywhere
//!  release, reply
//! ```
//!
//! An answer comes only when what it promises is committed, so RENAME's destination is safe before its source goes: a
//! crash between may leave both, never none. Nobody else sees the keys meanwhile.

use ahash::AHashSet;
use eagle_resp::{Args, OwnedArgs, Reply};
use eagle_shard::{
    ExportCursor, Exported,
    call::DbId,
    command as data,
    error::Error,
    spec::{Spec, Steps},
};

use super::{
    Core,
    dispatch::{Flow, Order},
    event::{CoreId, Now},
    gather::{Plan, bulk, integer},
    message::Kind,
    session::Session,
};
use crate::command;

/// How far a command of several steps is.
#[derive(Debug)]
pub(super) struct Progress {
    /// None: all keys of every shard are held, and the command is done on each.
    steps: Option<Steps>,
    /// Keys by the shard that holds them, ascending.
    holding: Vec<(CoreId, OwnedArgs)>,
    stage: Stage,
    /// The destination's database and whether it may be overwritten (COPY).
    target: DbId,
    replace: bool,
}

impl Progress {
    /// Whether what comes next is another slice of work on one shard, to which nothing but the end of the turn leads.
    pub(super) fn is_slicing(&self) -> bool {
        self.stage == Stage::Copying
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// So many shards hold their keys.
    Holding(usize),
    /// A slice is read: the first, or another.
    Exporting {
        is_first: bool,
    },
    /// A slice is written; behind it comes the one at this cursor, if any.
    Importing {
        next: Option<ExportCursor>,
    },
    /// A slice is copied within the shard that has both keys.
    Copying,
    /// The source went before all of it had arrived.
    Abandoning,
    Deleting,
    Looking,
    Setting,
    Fetching,
    Everywhere,
}

impl Progress {
    fn hold(&self) -> Kind {
        if self.steps.is_some() { Kind::Hold } else { Kind::HoldAll }
    }

    fn release(&self) -> Kind {
        if self.steps.is_some() { Kind::Release } else { Kind::ReleaseAll }
    }
}

/// One question of a step.
struct Question {
    to: CoreId,
    spec: &'static Spec,
    db: DbId,
    args: OwnedArgs,
}

/// What follows from a step's answers.
enum Next {
    Ask(Stage, Vec<Question>),
    End(Vec<u8>),
}

impl Core {
    /// Begins a command of several steps by holding its keys.
    pub(super) fn begin_steps(&mut self, session: &mut Session, order: Order<'_>, steps: Steps) -> Flow {
        let (target, replace) = match self.target(&order, steps) {
            Ok(target) => target,
            Err(_) => return self.one_shard_here(session, order),
        };
        if !order.spec.keys_are_whole(order.args.len()) {
            return self.one_shard_here(session, order);
        }
        if let Err(error) = self.admit_whole(order.spec) {
            return self.refuse(session, command::row(order.spec), error);
        }
        let mut holding: Vec<(CoreId, OwnedArgs)> = Vec::new();
        let mut seen: AHashSet<&[u8]> = AHashSet::new();
        for index in order.spec.key_indices(order.args.len()) {
            let key = self.key_at(order.args, index);
            if !seen.insert(key.bytes) {
                continue;
            }
            let owner = self.owner(&key);
            let place = holding.iter().position(|(core, _)| *core == owner).unwrap_or_else(|| {
                holding.push((owner, OwnedArgs::default()));
                holding.len() - 1
            });
            holding[place].1.push(key.bytes);
        }
        holding.sort_by_key(|(core, _)| *core);
        let progress = Progress { steps: Some(steps), holding, stage: Stage::Holding(0), target, replace };
        let gather = self.gather(session, &order, Plan::Steps(progress), 0, true);
        self.advance(gather, order.now);
        Flow::Stop
    }

    /// Begins a command that writes to all keys, by holding all shards: between two steps of another command it would leave behind what
    /// neither order of the two explains.
    pub(super) fn begin_everywhere(&mut self, session: &mut Session, order: Order<'_>) -> Flow {
        let holding = (0..self.cores).map(|core| (CoreId(core), OwnedArgs::default())).collect();
        let progress = Progress { steps: None, holding, stage: Stage::Holding(0), target: order.db, replace: false };
        let gather = self.gather(session, &order, Plan::Steps(progress), 0, true);
        self.advance(gather, order.now);
        Flow::Stop
    }

    /// Lets this core's shard execute a command that touches no key: it says what is wrong with the arguments.
    pub(super) fn one_shard_here(&mut self, session: &mut Session, order: Order<'_>) -> Flow {
        session.replies.now(|out| self.execute(&order, true, out));
        Flow::Next
    }

    /// Where the value goes, and whether it may overwrite.
    fn target(&self, order: &Order<'_>, steps: Steps) -> Result<(DbId, bool), Error> {
        match steps {
            Steps::Copy => {
                let options = data::key::parse_copy(order.args, order.db, self.shard.config().databases)?;
                if options.db == order.db && order.args.get(1) == order.args.get(2) {
                    return Err(Error::SameObject);
                }
                Ok((options.db, options.replace))
            }
            Steps::Move => Ok((order.db, order.spec.name == "rename")),
            _ => Ok((order.db, true)),
        }
    }

    /// Takes the answers of a step and begins the next, or ends.
    pub(super) fn advance(&mut self, index: u32, now: Now) {
        let gather = &mut self.gathers[index as usize];
        let Plan::Steps(mut progress) = std::mem::replace(&mut gather.plan, Plan::Reports) else {
            unreachable!("only commands of several steps advance");
        };
        let args = std::mem::take(&mut gather.args);
        let parts = std::mem::take(&mut gather.parts);
        let (conn, protocol, db, spec) = (gather.conn, gather.protocol, gather.db, gather.spec);
        let (no_touch, level) = (gather.no_touch, gather.level);
        let order = Order { spec, args: args.as_args(), db, protocol, key: None, no_touch, level, now };

        if let Stage::Holding(held) = progress.stage
            && let Some((core, keys)) = progress.holding.get(held)
            && !self.gathers[index as usize].failed
        {
            self.expect(index, 1);
            self.ask_part(*core, index, 0, conn, progress.hold(), &Order { args: keys.as_args(), ..order });
            progress.stage = Stage::Holding(held + 1);
        } else {
            let error = parts.iter().find(|part| part.first() == Some(&b'-'));
            let next = match error {
                Some(error) => Next::End(error.clone()),
                None if self.gathers[index as usize].failed => Next::End(Vec::new()),
                None => self.next_step(&progress, &order, &parts),
            };
            match next {
                Next::Ask(stage, questions) => {
                    progress.stage = stage;
                    self.expect(index, questions.len());
                    for (part, question) in questions.iter().enumerate() {
                        let args = question.args.as_args();
                        let key = args.get(1).map(|key| self.key(key).hashed);
                        let order = Order { spec: question.spec, args, db: question.db, key, ..order };
                        self.ask_part(question.to, index, part, conn, Kind::RunHolding, &order);
                    }
                }
                Next::End(reply) => {
                    for (core, keys) in &progress.holding {
                        self.ask_part(
                            *core,
                            index,
                            0,
                            conn,
                            progress.release(),
                            &Order { args: keys.as_args(), ..order },
                        );
                    }
                    let gather = self.gathers.remove(index as usize);
                    self.note_slow_gather(&gather, order.now);
                    self.end_gather(&gather, reply);
                    return;
                }
            }
        }
        let gather = &mut self.gathers[index as usize];
        gather.args = args;
        gather.plan = Plan::Steps(progress);
    }

    fn expect(&mut self, index: u32, answers: usize) {
        let gather = &mut self.gathers[index as usize];
        gather.awaited = answers as u32;
        gather.parts = vec![Vec::new(); answers];
    }

    fn next_step(&self, progress: &Progress, order: &Order<'_>, parts: &[Vec<u8>]) -> Next {
        let args = order.args;
        let at = |index: usize| self.owner(&self.key_at(args, index));
        let ask = |to: CoreId, spec: &'static Spec, db: DbId, rest: &[&[u8]]| {
            let mut args = OwnedArgs::default();
            args.push(spec.name.as_bytes());
            for argument in rest {
                args.push(argument);
            }
            Question { to, spec, db, args }
        };
        let export = |is_first: bool, cursor: ExportCursor| {
            let number = cursor.raw().to_string();
            let question = ask(at(1), &data::EXPORT, order.db, &[&args[1], number.as_bytes()]);
            Next::Ask(Stage::Exporting { is_first }, vec![question])
        };
        let Some(steps) = progress.steps else {
            return match progress.stage {
                Stage::Holding(_) => {
                    let rest: Vec<&[u8]> = args.iter().skip(1).collect();
                    let each = |(core, _): &(CoreId, OwnedArgs)| ask(*core, order.spec, order.db, &rest);
                    Next::Ask(Stage::Everywhere, progress.holding.iter().map(each).collect())
                }
                _ => Next::End(parts[0].clone()),
            };
        };
        let replace: &[u8] = if progress.replace { b"1" } else { b"0" };
        let copy = |cursor: &[u8]| {
            let db = progress.target.0.to_string();
            let rest: [&[u8]; 5] = [&args[1], &args[2], db.as_bytes(), replace, cursor];
            Next::Ask(Stage::Copying, vec![ask(at(1), &data::COPY, order.db, &rest)])
        };
        match (steps, progress.stage) {
            (Steps::Copy, Stage::Holding(_)) if at(1) == at(2) => copy(b"0"),
            (_, Stage::Copying) => match bulk(&parts[0]) {
                Some(cursor) => copy(cursor),
                None => Next::End(parts[0].clone()),
            },
            (Steps::Move | Steps::Copy, Stage::Holding(_)) => export(true, ExportCursor::START),
            (_, Stage::Exporting { is_first: false }) if bulk(&parts[0]).is_none() => {
                Next::Ask(Stage::Abandoning, vec![ask(at(2), &data::ABANDON, progress.target, &[&args[2]])])
            }
            (steps, Stage::Exporting { .. } | Stage::Abandoning) => match bulk(&parts[0]) {
                None if steps == Steps::Move => Next::End(line(order, |reply| reply.error_line("ERR no such key"))),
                None => Next::End(line(order, |reply| reply.integer(0))),
                Some(value) => Next::Ask(
                    Stage::Importing { next: Exported::next_slice(value) },
                    vec![ask(at(2), &data::IMPORT, progress.target, &[&args[2], replace, value])],
                ),
            },
            (_, Stage::Importing { .. }) if integer(&parts[0]) == 0 => Next::End(parts[0].clone()),
            (_, Stage::Importing { next: Some(cursor) }) => export(false, cursor),
            (Steps::Copy, Stage::Importing { .. }) => Next::End(parts[0].clone()),
            (_, Stage::Importing { .. }) => {
                Next::Ask(Stage::Deleting, vec![ask(at(1), command::named("del"), order.db, &[&args[1]])])
            }
            (_, Stage::Deleting) if progress.replace => Next::End(line(order, |reply| reply.ok())),
            (_, Stage::Deleting) => Next::End(line(order, |reply| reply.integer(1))),

            (Steps::SetIfNone, Stage::Holding(_)) => {
                let look = |(core, keys): &(CoreId, OwnedArgs)| {
                    ask(*core, command::named("exists"), order.db, &keys.as_args().iter().collect::<Vec<_>>())
                };
                Next::Ask(Stage::Looking, progress.holding.iter().map(look).collect())
            }
            (_, Stage::Looking) if parts.iter().any(|part| integer(part) > 0) => {
                Next::End(line(order, |reply| reply.integer(0)))
            }
            (_, Stage::Looking) => {
                let set = |(core, _): &(CoreId, OwnedArgs)| {
                    ask(*core, command::named("mset"), order.db, &pairs_of(self, args, *core))
                };
                Next::Ask(Stage::Setting, progress.holding.iter().map(set).collect())
            }
            (_, Stage::Setting) => Next::End(line(order, |reply| reply.integer(1))),

            (Steps::Fetch, Stage::Holding(_)) => {
                let fetch = |index: usize| ask(at(index), &data::FETCH, order.db, &[&args[index]]);
                Next::Ask(Stage::Fetching, vec![fetch(1), fetch(2)])
            }
            (_, Stage::Fetching) => {
                let of = |index: usize| bulk(&parts[index]).unwrap_or_default();
                Next::End(line(order, |reply| {
                    data::lcs::lcs_reply(of(0), of(1), args, self.shard.config().string_len_max, reply);
                }))
            }
            (steps, stage) => unreachable!("{steps:?} has no stage {stage:?}"),
        }
    }
}

/// The keys and values of one shard.
fn pairs_of<'a>(core: &Core, args: Args<'a>, owner: CoreId) -> Vec<&'a [u8]> {
    (1..args.len())
        .step_by(2)
        .filter(|index| core.owner(&core.key_at(args, *index)) == owner)
        .flat_map(|index| [args.get(index), args.get(index + 1)])
        .flatten()
        .collect()
}

fn line(order: &Order<'_>, write: impl FnOnce(&mut Reply<'_>)) -> Vec<u8> {
    let mut out = Vec::new();
    write(&mut Reply::new(&mut out, order.protocol));
    out
}
