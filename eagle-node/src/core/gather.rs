//! A gather is a command in which several shards or cores take part: questions out, answers in, one reply.
//!
//! The connection's reply queue keeps the place of the reply. A gather of one step (MGET, DEL, KEYS) is no barrier: its
//! questions take their place among the connection's others, so commands on each shard stay in order. One of several
//! steps (see [`super::steps`]) and one of the node's own are: the connection goes on when they have ended.

use eagle_resp::{
    Args, OwnedArgs, Protocol, Reply,
    value::{array_header, skip},
};
use eagle_shard::{
    call::DbId,
    spec::{Merge, Spec},
};

use super::{
    Core, MergeCall,
    dispatch::{self, Flow, Order},
    event::{Configure, ConnId, CoreId, Now},
    gate::Level,
    message::{Kind, Outcome, Token},
    session::{Halt, Session},
    session_mut,
    stats::CoreReport,
    steps::Progress,
};
use crate::{
    command::{self, NodeRun, Row},
    config::set::SetError,
};

/// What becomes of the answers.
#[derive(Debug)]
pub(super) enum Plan {
    /// They are merged by the row's policy. `order` names, for each key, the part that has its element.
    Merge { merge: Merge, order: Vec<u16> },
    /// One shard's part of a SCAN.
    Scan { shard: CoreId },
    /// RANDOMKEY: so many sizes of shards, then a key of each.
    Random,
    /// Reports are merged by the node command.
    Reports,
    /// The runtime changes the configuration; reports follow.
    Configure,
    /// A further step is decided.
    Steps(Progress),
}

/// A command in which several cores take part.
#[derive(Debug)]
pub(super) struct Gather {
    pub conn: ConnId,
    pub request: u32,
    pub spec: &'static Spec,
    pub args: OwnedArgs,
    pub db: DbId,
    pub protocol: Protocol,
    pub plan: Plan,
    /// Answers still awaited.
    pub awaited: u32,
    /// Replies, by part.
    pub parts: Vec<Vec<u8>>,
    pub reports: Vec<CoreReport>,
    /// An answer's promise failed: the reply must never be sent.
    pub failed: bool,
    /// Keys are not to count as used.
    pub no_touch: bool,
    /// How durable what the reply promises must be.
    pub level: Level,
    /// The connection waits for it.
    pub barrier: bool,
    /// What a node command that begins has noted for its merge.
    pub note: i64,
    /// Microseconds of its slow parts, if it has any.
    pub slow_us: Option<u64>,
}

impl Gather {
    /// A part of it took long, if it did.
    pub(super) fn add_slow(&mut self, us: Option<u64>) {
        if let Some(us) = us {
            *self.slow_us.get_or_insert(0) += us;
        }
    }
}

/// A gather that has its reply.
#[derive(Debug)]
pub(super) struct Finished {
    pub(super) conn: ConnId,
    request: u32,
    reply: Vec<u8>,
    failed: bool,
    barrier: bool,
}

impl Core {
    /// Registers a gather of `parts` answers; the reply's place is kept.
    pub(super) fn gather(
        &mut self,
        session: &mut Session,
        order: &Order<'_>,
        plan: Plan,
        parts: usize,
        barrier: bool,
    ) -> u32 {
        if barrier {
            session.halt = Halt::Barrier;
        }
        self.laps.goes_on = true;
        let gather = Gather {
            conn: session.conn,
            request: session.replies.later(),
            spec: order.spec,
            args: Self::own(order.args),
            db: order.db,
            protocol: order.protocol,
            plan,
            awaited: parts as u32,
            parts: vec![Vec::new(); parts],
            reports: Vec::new(),
            failed: false,
            no_touch: order.no_touch,
            level: order.level,
            barrier,
            note: 0,
            slow_us: None,
        };
        self.gathers.insert(gather) as u32
    }

    /// Sends keys to their shards, each with the arguments of its step.
    pub(super) fn begin_split(&mut self, session: &mut Session, order: Order<'_>, merge: Merge) -> Flow {
        let step = usize::from(order.spec.keys[0].step);
        let mut parts: Vec<(CoreId, OwnedArgs)> = Vec::new();
        let mut places = Vec::new();
        for index in order.spec.key_indices(order.args.len()) {
            let owner = self.owner(&self.key_at(order.args, index));
            let part = parts.iter().position(|(core, _)| *core == owner).unwrap_or_else(|| {
                let mut args = OwnedArgs::default();
                args.push(&order.args[0]);
                parts.push((owner, args));
                parts.len() - 1
            });
            for argument in index..index + step {
                parts[part].1.push(&order.args[argument]);
            }
            places.push(part as u16);
        }
        let cores: Vec<CoreId> = parts.iter().map(|(core, _)| *core).collect();
        if !self.may_ask_all(session, &cores) {
            return Flow::Wait;
        }
        if let Err(error) = self.admit_whole(order.spec) {
            return self.refuse(session, command::row(order.spec), error);
        }
        let gather = self.gather(session, &order, Plan::Merge { merge, order: places }, parts.len(), false);
        for (part, (core, args)) in parts.iter().enumerate() {
            let key = self.key_at(args.as_args(), usize::from(order.spec.keys[0].first));
            let order = Order { args: args.as_args(), key: Some(key.hashed), ..order };
            self.ask_part(*core, gather, part, session.conn, Kind::RunPart, &order);
        }
        Flow::Next
    }

    /// Sends the whole command to every shard.
    pub(super) fn begin_every(&mut self, session: &mut Session, order: Order<'_>, merge: Merge) -> Flow {
        let cores: Vec<CoreId> = (0..self.cores).map(CoreId).collect();
        if !self.may_ask_all(session, &cores) {
            return Flow::Wait;
        }
        let gather = self.gather(session, &order, Plan::Merge { merge, order: Vec::new() }, cores.len(), false);
        for (part, core) in cores.into_iter().enumerate() {
            self.ask_part(core, gather, part, session.conn, Kind::Run, &order);
        }
        Flow::Next
    }

    /// SCAN: the cursor is `shard cursor * cores + core`.
    pub(super) fn begin_scan(&mut self, session: &mut Session, order: Order<'_>) -> Flow {
        let cores = u64::from(self.cores);
        let Some(cursor) = order.args.get(1).and_then(parse_cursor) else {
            // The shard says what is wrong.
            return self.one_shard_here(session, order);
        };
        let shard = CoreId((cursor % cores) as u16);
        if !self.may_ask_all(session, &[shard]) {
            return Flow::Wait;
        }
        let mut args = OwnedArgs::default();
        args.push(&order.args[0]);
        args.push(itoa::Buffer::new().format(cursor / cores).as_bytes());
        for argument in order.args.iter().skip(2) {
            args.push(argument);
        }
        let gather = self.gather(session, &order, Plan::Scan { shard }, 1, false);
        let order = Order { args: args.as_args(), ..order };
        self.ask_part(shard, gather, 0, session.conn, Kind::Run, &order);
        Flow::Next
    }

    /// RANDOMKEY: every shard says how many keys it has and names one; chance, weighted by the sizes, decides.
    pub(super) fn begin_random(&mut self, session: &mut Session, order: Order<'_>) -> Flow {
        let cores: Vec<CoreId> = (0..self.cores).map(CoreId).collect();
        if !self.may_ask_all(session, &cores) {
            return Flow::Wait;
        }
        let gather = self.gather(session, &order, Plan::Random, 2 * cores.len(), false);
        let size = Order { spec: command::named("dbsize"), ..order };
        for core in &cores {
            self.ask_part(*core, gather, core.index(), session.conn, Kind::Run, &size);
            self.ask_part(*core, gather, cores.len() + core.index(), session.conn, Kind::Run, &order);
        }
        Flow::Next
    }

    fn merge_random(&mut self, parts: &[Vec<u8>], out: &mut Vec<u8>) {
        let (sizes, keys) = parts.split_at(parts.len() / 2);
        // A shard may have keys of which all have expired: then it names none.
        let weight = |at: usize| {
            if bulk(&keys[at]).is_some() { integer(&sizes[at]).max(1) as u64 } else { 0 }
        };
        let weights: Vec<u64> = (0..keys.len()).map(weight).collect();
        let total: u64 = weights.iter().sum();
        let mut left = if total > 0 { self.rng.u64(..total) } else { 0 };
        let chosen = weights.iter().position(|weight| {
            let here = left < *weight;
            left = left.saturating_sub(*weight);
            here
        });
        out.extend_from_slice(&keys[chosen.unwrap_or(0)]);
    }

    /// Asks every core for its report on a node command.
    pub(super) fn begin_reports(
        &mut self,
        session: &mut Session,
        row: &'static Row,
        args: Args<'_>,
        note: i64,
    ) -> Flow {
        let order = node_order(row.spec, args, session.db, session.protocol);
        let gather = self.gather(session, &order, Plan::Reports, usize::from(self.cores), true);
        self.gathers[gather as usize].note = note;
        self.ask_reports(gather, session.conn, &order);
        Flow::Stop
    }

    fn ask_reports(&mut self, gather: u32, asker: ConnId, order: &Order<'_>) {
        for core in 0..self.cores {
            // The own part too goes by message: this session must be back in its place to be counted.
            let token = Token::Gather { gather, part: u32::from(core) };
            self.ask(CoreId(core), token, asker, Kind::Node, order);
        }
    }

    /// Asks the runtime to change the configuration: CONFIG SET of what it acts on.
    pub(super) fn begin_configure(&mut self, session: &mut Session, row: &'static Row, args: Args<'_>) -> Flow {
        let order = node_order(row.spec, args, session.db, session.protocol);
        let gather = self.gather(session, &order, Plan::Configure, 1, true);
        let pairs = args.iter().skip(2).collect();
        self.configure.push(Configure { gather, pairs, is_local: session.peer.is_local() });
        Flow::Stop
    }

    /// The runtime has changed the configuration, or not: all cores are told, or the client why.
    pub(super) fn configured(&mut self, index: u32, result: Result<(), SetError>) {
        if let Err(error) = result {
            let gather = self.gathers.remove(index as usize);
            let line = format!("ERR {error}");
            let row = command::row(gather.spec);
            self.stats.failed_call(row);
            self.stats.error(Some(row), &line);
            let mut reply = Vec::new();
            Reply::new(&mut reply, gather.protocol).error_line(&line);
            return self.end_gather(&gather, reply);
        }
        let gather = &mut self.gathers[index as usize];
        gather.plan = Plan::Reports;
        gather.awaited = u32::from(self.cores);
        let args = std::mem::take(&mut gather.args);
        let (conn, order) = (gather.conn, node_order(gather.spec, args.as_args(), gather.db, gather.protocol));
        {
            let _connection = session_mut(&mut self.sessions, conn).map(|session| dispatch::log_connection(session));
            command::config::log_change(order.args);
        }
        self.ask_reports(index, conn, &order);
        self.gathers[index as usize].args = args;
    }

    /// Asks for one part. Our own part is executed at once, so that it keeps its place among the connection's commands.
    pub(super) fn ask_part(
        &mut self,
        to: CoreId,
        gather: u32,
        part: usize,
        asker: ConnId,
        kind: Kind,
        order: &Order<'_>,
    ) {
        let token = Token::Gather { gather, part: part as u32 };
        if to == self.id && matches!(kind, Kind::Run | Kind::RunPart) {
            let mut own = super::message::Message::default();
            own.ask(token, asker, kind, order);
            self.links[to.index()].outstanding += 1;
            self.serve(to, &own.asks[0], order.args, order.now);
            self.end_lap_of_gather(gather);
        } else {
            self.ask(to, token, asker, kind, order);
        }
    }

    fn may_ask_all(&mut self, session: &mut Session, cores: &[CoreId]) -> bool {
        let own = self.id;
        let may = cores.iter().all(|core| *core == own || self.may_ask(*core, session.conn));
        if !may {
            session.halt = Halt::Credit;
        }
        may
    }

    /// An answer to a gather came.
    pub(super) fn gathered(&mut self, index: u32, part: u32, outcome: Outcome, bytes: &[u8], now: Now) {
        let gather = &mut self.gathers[index as usize];
        match outcome {
            Outcome::Reply { .. } => gather.parts[part as usize] = bytes.to_vec(),
            Outcome::Failed => gather.failed = true,
            Outcome::Report(report) => gather.reports.push(*report),
        }
        gather.awaited -= 1;
        if gather.awaited == 0 {
            self.complete(index, now);
        }
    }

    /// All answers are in: the next step, or the reply.
    fn complete(&mut self, index: u32, now: Now) {
        if let Plan::Steps(progress) = &self.gathers[index as usize].plan {
            if progress.is_slicing() {
                self.sliced.push(index);
            } else {
                self.advance(index, now);
            }
            return;
        }
        let mut gather = self.gathers.remove(index as usize);
        let mut reply = Vec::new();
        self.laps.begin(1);
        match &gather.plan {
            Plan::Merge { merge, order } => {
                merge_parts(*merge, order, &gather.parts, gather.protocol, &mut reply);
            }
            Plan::Scan { shard } => {
                self.merge_scan(*shard, &gather.parts[0], gather.protocol, &mut reply);
            }
            Plan::Random => self.merge_random(&gather.parts, &mut reply),
            Plan::Reports => self.merge_reports(&mut gather, now, &mut reply),
            Plan::Steps(_) => unreachable!("handled above"),
            Plan::Configure => unreachable!("the runtime's answer is none of a core"),
        }
        gather.add_slow(self.end_lap_of_reply());
        self.note_slow_gather(&gather, now);
        self.end_gather(&gather, reply);
    }

    /// The reply of a gather goes to its session at the end of the turn.
    pub(super) fn end_gather(&mut self, gather: &Gather, reply: Vec<u8>) {
        let finished = Finished {
            conn: gather.conn,
            request: gather.request,
            reply,
            failed: gather.failed,
            barrier: gather.barrier,
        };
        match std::mem::take(&mut self.reply_at_us) {
            0 => self.finished.push(finished),
            due_us => self.pause.later.push((due_us, finished)),
        }
    }

    /// Hands a gather's reply to its session.
    pub(super) fn finish(&mut self, finished: &Finished) {
        let Some(session) = session_mut(&mut self.sessions, finished.conn) else {
            return;
        };
        if finished.failed {
            self.kill(finished.conn, false);
            return;
        }
        session.replies.fill(finished.request, &finished.reply, None);
        if finished.barrier {
            self.resume(finished.conn, Halt::Barrier);
        }
        self.list(finished.conn);
    }

    fn merge_scan(&self, shard: CoreId, part: &[u8], protocol: Protocol, out: &mut Vec<u8>) {
        // *2, the cursor as a bulk, the keys.
        let Some((2, cursor_at)) = header(part) else {
            out.extend_from_slice(part);
            return;
        };
        let keys_at = cursor_at + element(&part[cursor_at..]);
        let cursor = bulk_number(&part[cursor_at..keys_at]);
        let cores = u64::from(self.cores);
        let next = if cursor > 0 { cursor * cores + u64::from(shard.0) } else { (u64::from(shard.0) + 1) % cores };
        let mut reply = Reply::new(out, protocol);
        reply.array(2);
        reply.bulk(itoa::Buffer::new().format(next).as_bytes());
        out.extend_from_slice(&part[keys_at..]);
    }

    fn merge_reports(&mut self, gather: &mut Gather, now: Now, out: &mut Vec<u8>) {
        let Some(NodeRun::Every { merge, .. }) = command::row(gather.spec).node else {
            unreachable!("only a command of all cores gathers reports: {}", gather.spec.name);
        };
        let call = MergeCall {
            spec: gather.spec,
            args: gather.args.as_args(),
            conn: gather.conn,
            protocol: gather.protocol,
            now,
            note: gather.note,
        };
        let mut reports = std::mem::take(&mut gather.reports);
        reports.sort_unstable_by_key(|report| report.core);
        merge(self, &call, reports, &mut Reply::new(out, gather.protocol));
    }
}

/// A node command as a question to other cores: its parts have no time of their own, and promise nothing.
fn node_order<'a>(spec: &'static Spec, args: Args<'a>, db: DbId, protocol: Protocol) -> Order<'a> {
    let (no_touch, level, now) = (false, Level::Written, Now::default());
    Order { spec, args, db, protocol, key: None, no_touch, level, now }
}

/// Several shards' replies become one; the first error wins.
fn merge_parts(merge: Merge, order: &[u16], parts: &[Vec<u8>], protocol: Protocol, out: &mut Vec<u8>) {
    if let Some(error) = parts.iter().find(|part| part.first() == Some(&b'-')) {
        out.extend_from_slice(error);
        return;
    }
    let mut reply = Reply::new(out, protocol);
    match merge {
        Merge::Ok => reply.ok(),
        Merge::Sum => reply.integer(parts.iter().map(|part| integer(part)).sum()),
        Merge::PerKey => {
            let mut rest: Vec<&[u8]> = parts.iter().map(|part| &part[header(part).expect("an array").1..]).collect();
            reply.array(order.len());
            for part in order {
                let part = &mut rest[usize::from(*part)];
                let (first, others) = part.split_at(element(part));
                out.extend_from_slice(first);
                *part = others;
            }
        }
        Merge::Concat => {
            let heads: Vec<(usize, usize)> = parts.iter().map(|part| header(part).expect("an array")).collect();
            reply.array(heads.iter().map(|(count, _)| count).sum());
            for (part, (_, start)) in parts.iter().zip(heads) {
                out.extend_from_slice(&part[start..]);
            }
        }
    }
}

// Replies of our own shards are whole and well-formed: what cannot be read is our mistake.

fn header(reply: &[u8]) -> Option<(usize, usize)> {
    array_header(reply).expect("a shard's reply is well-formed")
}

fn element(replies: &[u8]) -> usize {
    skip(replies).expect("a shard's reply is well-formed").expect("a shard's reply is whole")
}

/// The number in `:n\r\n`.
pub(super) fn integer(reply: &[u8]) -> i64 {
    let digits = reply.strip_prefix(b":").and_then(|rest| rest.strip_suffix(b"\r\n"));
    digits.and_then(eagle_resp::number::parse_i64).expect("a shard's reply is an integer")
}

/// The number in `$len\r\nn\r\n`.
fn bulk_number(reply: &[u8]) -> u64 {
    bulk(reply).and_then(eagle_resp::number::parse_u64).expect("a shard's cursor is a number")
}

/// A SCAN cursor as Redis reads it.
fn parse_cursor(text: &[u8]) -> Option<u64> {
    eagle_resp::number::parse_u64(text)
}

/// The bytes of a bulk; `None` for null.
pub(super) fn bulk(reply: &[u8]) -> Option<&[u8]> {
    let (kind, rest) = reply.split_first()?;
    if *kind != b'$' {
        return None;
    }
    let line = rest.iter().position(|byte| *byte == b'\r')?;
    let len = eagle_resp::number::parse_i64(&rest[..line]).and_then(|len| usize::try_from(len).ok())?;
    rest.get(line + 2..line + 2 + len)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn merged(merge: Merge, order: &[u16], parts: &[&[u8]]) -> Vec<u8> {
        let parts: Vec<Vec<u8>> = parts.iter().map(|part| part.to_vec()).collect();
        let mut out = Vec::new();
        merge_parts(merge, order, &parts, Protocol::Resp2, &mut out);
        out
    }

    #[test]
    fn parts_become_one_reply() {
        // Each policy, and an error that wins over all of them.
        assert_eq!(merged(Merge::Ok, &[], &[b"+OK\r\n", b"+OK\r\n"]), b"+OK\r\n");
        assert_eq!(merged(Merge::Sum, &[], &[b":2\r\n", b":40\r\n"]), b":42\r\n");
        assert_eq!(
            merged(Merge::PerKey, &[1, 0, 1], &[b"*1\r\n$1\r\nb\r\n", b"*2\r\n$1\r\na\r\n$-1\r\n"]),
            b"*3\r\n$1\r\na\r\n$1\r\nb\r\n$-1\r\n"
        );
        assert_eq!(merged(Merge::Concat, &[], &[b"*1\r\n+a\r\n", b"*0\r\n"]), b"*1\r\n+a\r\n");
        assert_eq!(merged(Merge::Sum, &[], &[b":2\r\n", b"-ERR no\r\n"]), b"-ERR no\r\n");
    }

    #[test]
    fn bulks_are_read() {
        assert_eq!(bulk(b"$3\r\nabc\r\n"), Some(&b"abc"[..]));
        assert_eq!(bulk(b"$-1\r\n"), None);
        assert_eq!(bulk_number(b"$2\r\n17\r\n"), 17);
    }
}
