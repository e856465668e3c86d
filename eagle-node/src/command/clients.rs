//! CLIENT LIST and CLIENT KILL: commands about all connections of the node, in which every core takes part.

use std::{fmt::Write as _, net::SocketAddr};

use ahash::AHashMap;
use eagle_resp::{Args, Reply, number};
use eagle_shard::{command::args::is, error::Error, spec::Spec};

use super::{Asked, Begin, NodeRun, refuse};
use crate::acl::Acl;
use crate::core::{
    Core, MergeCall, NodeCall,
    event::{Now, Peer},
    session::Session,
    stats::{CoreReport, Part, seconds_since},
};

pub(super) const LIST: NodeRun = NodeRun::Every { begin: list_begin, each: list_each, merge: list_merge };
pub(super) const KILL: NodeRun = NodeRun::Every { begin: kill_begin, each: kill_each, merge: kill_merge };

/// Why the options of a command are wrong: a constant line, or one that quotes the client.
#[derive(Debug)]
enum Wrong {
    Error(Error),
    Line(Vec<u8>),
}

impl From<Error> for Wrong {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

/// Turns options' mistake into a reply, or begins to gather.
fn begin(core: &mut Core, call: &mut NodeCall<'_>, checked: Result<(), Wrong>) -> Result<Begin, Error> {
    match checked {
        Ok(()) => Ok(Begin::Gather),
        Err(Wrong::Error(error)) => Err(error),
        Err(Wrong::Line(line)) => {
            refuse(core, call, &line);
            Ok(Begin::Answered)
        }
    }
}

/// What a client is to the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ClientType {
    Normal,
    /// Its replication source.
    Primary,
    Replica,
    PubSub,
}

impl ClientType {
    fn parse(word: &[u8]) -> Result<Self, Wrong> {
        match word {
            word if is(word, "normal") => Ok(Self::Normal),
            word if is(word, "master") || is(word, "primary") => Ok(Self::Primary),
            word if is(word, "slave") || is(word, "replica") => Ok(Self::Replica),
            word if is(word, "pubsub") => Ok(Self::PubSub),
            _ => Err(Wrong::Line([b"ERR Unknown client type '", word, b"'"].concat())),
        }
    }

    /// Without replication and channels every client is an ordinary one.
    fn is(self, _: &Session) -> bool {
        self == Self::Normal
    }
}

/// Which clients `CLIENT LIST` shows.
#[derive(Debug, PartialEq, Eq)]
enum Listed {
    All,
    Type(ClientType),
    /// Each with its place in the list.
    Ids(AHashMap<u64, usize>),
}

impl PartialEq for Wrong {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Error(a), Self::Error(b)) => a == b,
            (Self::Line(a), Self::Line(b)) => a == b,
            _ => false,
        }
    }
}

impl Listed {
    fn parse(args: Args<'_>) -> Result<Self, Wrong> {
        match (args.get(2), args.get(3)) {
            (None, _) => Ok(Self::All),
            (Some(option), Some(word)) if is(option, "TYPE") && args.len() == 4 => {
                Ok(Self::Type(ClientType::parse(word)?))
            }
            (Some(option), Some(_)) if is(option, "ID") => {
                let mut ids = AHashMap::new();
                for (place, word) in args.iter().enumerate().skip(3) {
                    let id = number::parse_i64(word).ok_or(Error::Line("ERR Invalid client ID"))?;
                    // Nobody has one below 1.
                    ids.entry(u64::try_from(id).unwrap_or(0)).or_insert(place);
                }
                Ok(Self::Ids(ids))
            }
            _ => Err(Wrong::Error(Error::Syntax)),
        }
    }

    fn shows(&self, session: &Session) -> bool {
        match self {
            Self::All => true,
            Self::Type(wanted) => wanted.is(session),
            Self::Ids(ids) => ids.contains_key(&session.id),
        }
    }
}

fn list_begin(core: &mut Core, call: &mut NodeCall<'_>) -> Result<Begin, Error> {
    let checked = Listed::parse(call.args).map(|_| ());
    begin(core, call, checked)
}

fn list_each(core: &mut Core, asked: &Asked<'_>) -> CoreReport {
    let listed = Listed::parse(asked.args).expect("checked before cores were asked");
    let shown = core.sessions().filter(|session| listed.shows(session));
    let lines = shown.map(|session| (session.id, last_line(session, asked.now))).collect();
    CoreReport { core: core.id(), part: Part::Clients(lines) }
}

fn list_merge(_: &mut Core, call: &MergeCall<'_>, reports: Vec<CoreReport>, reply: &mut Reply<'_>) {
    let mut lines: Vec<(u64, String)> = Vec::new();
    for report in reports {
        match report.part {
            Part::Clients(part) => lines.extend(part),
            other => unreachable!("a list is made of clients, not {other:?}"),
        }
    }
    match Listed::parse(call.args).expect("checked before cores were asked") {
        Listed::Ids(ids) => lines.sort_by_key(|(id, _)| ids.get(id).copied()),
        _ => lines.sort_by_key(|(id, _)| *id),
    }
    let text: String = lines.into_iter().map(|(_, line)| line).collect();
    reply.verbatim("txt", text.as_bytes());
}

/// Which clients `CLIENT KILL` closes: those that meet every condition.
#[derive(Debug, Default, PartialEq)]
struct Filter<'a> {
    id: Option<u64>,
    kind: Option<ClientType>,
    addr: Option<&'a [u8]>,
    laddr: Option<&'a [u8]>,
    age_s_min: Option<u64>,
    user: Option<&'a [u8]>,
    /// The old form, `CLIENT KILL addr`: one client, which must be there.
    old: bool,
    /// Not the client that asks.
    skip_me: bool,
}

impl<'a> Filter<'a> {
    /// With the users that there are, if they are to be there.
    fn parse(args: Args<'a>, acl: Option<&Acl>) -> Result<Self, Wrong> {
        if args.len() == 3 {
            return Ok(Self { addr: args.get(2), old: true, ..Self::default() });
        }
        let mut filter = Self { skip_me: true, ..Self::default() };
        let mut at = 2;
        while let Some(option) = args.get(at) {
            let value = args.get(at + 1).ok_or(Error::Syntax)?;
            filter.condition(option, value, acl)?;
            at += 2;
        }
        Ok(filter)
    }

    fn condition(&mut self, option: &[u8], value: &'a [u8], acl: Option<&Acl>) -> Result<(), Wrong> {
        match option {
            option if is(option, "ID") => {
                let id = number::parse_i64(value).and_then(|id| u64::try_from(id).ok()).filter(|id| *id > 0);
                self.id = Some(id.ok_or(Error::Line("ERR client-id should be greater than 0"))?);
            }
            option if is(option, "MAXAGE") => {
                let age = number::parse_i64(value);
                let age = age.ok_or(Error::Line("ERR maxage is not an integer or out of range"))?;
                let age = u64::try_from(age).ok().filter(|age| *age > 0);
                self.age_s_min = Some(age.ok_or(Error::Line("ERR maxage should be greater than 0"))?);
            }
            option if is(option, "TYPE") => self.kind = Some(ClientType::parse(value)?),
            option if is(option, "ADDR") => self.addr = Some(value),
            option if is(option, "LADDR") => self.laddr = Some(value),
            option if is(option, "USER") && acl.is_none_or(|acl| acl.user(value).is_some()) => self.user = Some(value),
            option if is(option, "USER") => {
                return Err(Wrong::Line([b"ERR No such user '", value, b"'"].concat()));
            }
            option if is(option, "SKIPME") && is(value, "YES") => self.skip_me = true,
            option if is(option, "SKIPME") && is(value, "NO") => self.skip_me = false,
            _ => return Err(Wrong::Error(Error::Syntax)),
        }
        Ok(())
    }

    fn meets(&self, session: &Session, is_asker: bool, now: Now) -> bool {
        self.id.is_none_or(|id| session.id == id)
            && self.kind.is_none_or(|kind| kind.is(session))
            && self.addr.is_none_or(|addr| remote(&session.peer).as_bytes() == addr)
            && self.laddr.is_none_or(|addr| local(&session.peer).as_bytes() == addr)
            && self.user.is_none_or(|user| session.user.name() == user)
            && self.age_s_min.is_none_or(|age| seconds_since(session.created_us, now) >= age)
            && !(self.skip_me && is_asker)
    }
}

fn kill_begin(core: &mut Core, call: &mut NodeCall<'_>) -> Result<Begin, Error> {
    let checked = Filter::parse(call.args, Some(&core.config().acl)).map(|_| ());
    begin(core, call, checked)
}

fn kill_each(core: &mut Core, asked: &Asked<'_>) -> CoreReport {
    let filter = Filter::parse(asked.args, None).expect("checked before cores were asked");
    let here = asked.from == core.id();
    let met = |session: &&Session| filter.meets(session, here && session.conn == asked.asker, asked.now);
    let killed: Vec<_> = core.sessions().filter(met).map(|session| session.conn).collect();
    for conn in &killed {
        // The client that asks still gets its answer.
        core.kill(*conn, here && *conn == asked.asker);
    }
    CoreReport { core: core.id(), part: Part::Killed(killed.len() as u64) }
}

fn kill_merge(core: &mut Core, call: &MergeCall<'_>, reports: Vec<CoreReport>, reply: &mut Reply<'_>) {
    let mut killed = 0;
    for report in reports {
        match report.part {
            Part::Killed(count) => killed += count,
            other => unreachable!("the killed are counted, not {other:?}"),
        }
    }
    let old = Filter::parse(call.args, None).expect("checked before cores were asked").old;
    match (old, killed) {
        (true, 0) => {
            let line = "ERR No such client";
            let row = super::row(call.spec);
            core.stats_mut().failed_call(row);
            core.stats_mut().error(Some(row), line);
            reply.error_line(line);
        }
        (true, _) => reply.ok(),
        (false, killed) => reply.integer(killed as i64),
    }
}

/// The client's own address, as Redis writes it.
pub(crate) fn remote(peer: &Peer) -> String {
    match peer {
        Peer::Tcp { remote, .. } => address(*remote),
        Peer::Unix { path } => format!("{path}:0"),
    }
}

/// The address that the client connected to.
fn local(peer: &Peer) -> String {
    match peer {
        Peer::Tcp { local, .. } => address(*local),
        Peer::Unix { path } => format!("{path}:0"),
    }
}

/// An IPv4 client of a socket for both is shown by its IPv4 address.
fn address(socket: SocketAddr) -> String {
    SocketAddr::new(socket.ip().to_canonical(), socket.port()).to_string()
}

fn last_line(session: &Session, now: Now) -> String {
    line_of(session, session.last.map_or("NULL", |spec| spec.name), now)
}

/// One line of `CLIENT LIST` about a client that is executing `spec`.
pub(crate) fn line(session: &Session, spec: &Spec, now: Now) -> String {
    line_of(session, spec.name, now)
}

/// Fields in the order of Redis 7.2, behind them Redis 8's traffic counters. A connection at rest holds no buffers: what
/// Redis reports of them is 0.
fn line_of(session: &Session, command: &str, now: Now) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let mut line = String::with_capacity(400);
    let _ = writeln!(
        line,
        "id={} addr={} laddr={} fd={} name={} age={} idle={} flags={} db={} sub=0 psub=0 ssub=0 multi=-1 qbuf={} \
         qbuf-free=0 argv-mem=0 multi-mem=0 rbs=0 rbp=0 obl={} oll=0 omem={} tot-mem={} events=r cmd={} \
         user={} redir=-1 resp={} lib-name={} lib-ver={} tot-net-in={} tot-net-out={} tot-cmds={} core={}",
        session.id,
        remote(&session.peer),
        local(&session.peer),
        session.fd,
        text(&session.name),
        seconds_since(session.created_us, now),
        seconds_since(session.active_us, now),
        flags(session),
        session.db.0,
        session.query_bytes(),
        session.unsent_bytes(),
        session.unsent_bytes(),
        session.memory(),
        command,
        text(session.user.name()),
        match session.protocol {
            eagle_resp::Protocol::Resp2 => 2,
            eagle_resp::Protocol::Resp3 => 3,
        },
        text(&session.lib_name),
        text(&session.lib_ver),
        session.bytes_in,
        session.bytes_out,
        session.commands,
        session.core.0,
    );
    line
}

fn flags(session: &Session) -> String {
    let all = [
        (session.watches(), 'O'),
        (matches!(session.peer, Peer::Unix { .. }), 'U'),
        (session.no_evict, 'e'),
        (session.no_touch, 'T'),
    ];
    let flags: String = all.into_iter().filter(|(is, _)| *is).map(|(_, flag)| flag).collect();
    if flags.is_empty() { "N".to_owned() } else { flags }
}

#[cfg(test)]
mod tests {
    use super::super::trial::{Client, Trial};
    use crate::config::Config;

    /// Two cores with two clients each; their ids are 1 to 4 in turn of the cores.
    fn trial() -> (Trial, [Client; 4]) {
        let mut trial = Trial::new(2, Config::default());
        let clients = [0, 1, 0, 1].map(|core| trial.connect(core));
        (trial, clients)
    }

    fn ids(reply: &str) -> Vec<u64> {
        let id = |line: &str| line.strip_prefix("id=")?.split(' ').next()?.parse().ok();
        reply.lines().filter_map(id).collect()
    }

    #[test]
    fn all_cores_clients_are_listed() {
        // In the order in which they came; by type and by id, ids in the order asked for.
        let (mut trial, clients) = trial();
        assert_eq!(ids(&trial.ask(clients[1], "CLIENT LIST")), [1, 2, 3, 4]);
        assert_eq!(ids(&trial.ask(clients[0], "CLIENT LIST TYPE normal")), [1, 2, 3, 4]);
        assert_eq!(ids(&trial.ask(clients[0], "CLIENT LIST ID 4 7 2")), [4, 2]);
        assert_eq!(trial.ask(clients[0], "CLIENT LIST TYPE pubsub"), "$0\r\n\r\n");
        for (request, reply) in [
            ("CLIENT LIST TYPE foo", "-ERR Unknown client type 'foo'\r\n"),
            ("CLIENT LIST TYPE", "-ERR syntax error\r\n"),
            ("CLIENT LIST ID", "-ERR syntax error\r\n"),
            ("CLIENT LIST ID abc", "-ERR Invalid client ID\r\n"),
            ("CLIENT LIST FOO bar", "-ERR syntax error\r\n"),
        ] {
            assert_eq!(trial.ask(clients[0], request), reply, "{request}");
        }
    }

    #[test]
    fn clients_of_all_cores_are_killed_by_what_they_are() {
        // The asking client is spared unless it says otherwise; then it still gets its answer.
        let (mut trial, clients) = trial();
        assert_eq!(trial.ask(clients[0], "CLIENT KILL ID 2"), ":1\r\n");
        assert_eq!(trial.ask(clients[0], "CLIENT KILL ID 2"), ":0\r\n");
        assert!(trial.is_closed(clients[1]));
        assert_eq!(trial.ask(clients[0], "CLIENT KILL 127.0.0.1:50003"), "+OK\r\n");
        assert!(trial.is_closed(clients[3]));
        assert_eq!(trial.ask(clients[0], "CLIENT KILL TYPE normal"), ":1\r\n");
        assert!(trial.is_closed(clients[2]) && !trial.is_closed(clients[0]));
        assert_eq!(trial.ask(clients[0], "CLIENT KILL LADDR 127.0.0.1:6379 SKIPME no"), ":1\r\n");
        assert!(trial.is_closed(clients[0]));
    }

    #[test]
    fn age_is_counted_in_seconds() {
        // Only who has been connected long enough.
        let (mut trial, clients) = trial();
        trial.advance(5000);
        let young = trial.connect(1);
        assert_eq!(trial.ask(young, "CLIENT KILL MAXAGE 6"), ":0\r\n");
        assert_eq!(trial.ask(young, "CLIENT KILL MAXAGE 5 ID 1"), ":1\r\n");
        assert!(trial.is_closed(clients[0]) && !trial.is_closed(clients[1]));
    }

    #[test]
    fn wrong_conditions_are_refused_as_in_redis() {
        // Recorded from redis-server 7.0.15; MAXAGE from Valkey 8.1.8.
        let (mut trial, clients) = trial();
        for (request, line) in [
            ("CLIENT KILL", "wrong number of arguments for 'client|kill' command"),
            ("CLIENT KILL 1.2.3.4:5", "No such client"),
            ("CLIENT KILL ID abc", "client-id should be greater than 0"),
            ("CLIENT KILL ID 0", "client-id should be greater than 0"),
            ("CLIENT KILL FOO x", "syntax error"),
            ("CLIENT KILL TYPE foo", "Unknown client type 'foo'"),
            ("CLIENT KILL USER nope", "No such user 'nope'"),
            ("CLIENT KILL SKIPME maybe", "syntax error"),
            ("CLIENT KILL ADDR 1:1 LADDR", "syntax error"),
            ("CLIENT KILL MAXAGE abc", "maxage is not an integer or out of range"),
            ("CLIENT KILL MAXAGE 0 ID 9", "maxage should be greater than 0"),
        ] {
            assert_eq!(trial.ask(clients[0], request), format!("-ERR {line}\r\n"), "{request}");
        }
    }
}
