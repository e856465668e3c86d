//! A transcript is a conversation as text: requests, each with its exact reply.
//!
//! ```text
//! # What it shows.
//! > SET greeting "hello\r\n" EX 10
//! OK
//! > GET greeting
//! "hello\r\n"
//!
//! @advance 10s
//! > GET greeting
//! (nil)
//! ```
//!
//! A request is a line that begins with `> `, in the words and quotes of an inline request; the lines below are its reply in the
//! [`notation`]. Requests that follow each other are a step. Between steps stand remarks (`#`), empty lines and directives:
//!
//! | directive          | meaning                                                                           |
//! | ------------------ | --------------------------------------------------------------------------------- |
//! | `@fresh`           | all data is gone, the connection is new; so each file begins                      |
//! | `@resp 3`          | the connection speaks RESP3 (or 2)                                                |
//! | `@db 1`            | the connection is on that database                                                |
//! | `@advance 1500ms`  | so much time has passed (`ms` or `s`)                                             |
//! | `@sorted`          | the next step's replies are compared with innermost arrays sorted                 |
//! | `@only reason`     | the next step is only for a shard in this process: the clock, or where Redis differs |
//! | `@oracle valkey`   | first in a file: Redis 7.0.15 does not know it yet, Valkey 8.1.8 decides          |
//!
//! Behind a socket the clock runs on: there a `TTL` may be up to a minute less than the transcript says.
//!
//! [`Transcript::run`] plays one to whatever answers requests ([`Target`]): a shard in this process, a server behind a
//! socket, a real Redis. The same text serves them all.

use std::{fmt::Write as _, time::Duration};

use eagle_resp::{Decoder, Limits, OwnedArgs, Protocol, Requests};

pub mod notation;
pub mod server;
pub mod shard;

/// What answers requests.
pub trait Target {
    /// All data is gone, the connection is new.
    fn fresh(&mut self);
    /// The connection speaks this protocol from now on.
    fn protocol(&mut self, protocol: Protocol);
    /// The connection is on this database from now on.
    fn database(&mut self, db: u8);
    /// So much time passes.
    fn advance(&mut self, by: Duration);
    /// The one reply to a request, as bytes of the protocol.
    fn ask(&mut self, request: &OwnedArgs) -> Vec<u8>;
}

/// A conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transcript {
    /// What it consists of, in order, remarks and empty lines included.
    pub items: Vec<Item>,
}

/// A part of a transcript.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item {
    /// A remark or an empty line.
    Remark(String),
    /// A directive.
    Directive(Directive),
    /// Requests with their replies.
    Step(Step),
}

/// Requests that follow each other, with their replies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step(pub Vec<Exchange>);

/// A request with its reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exchange {
    /// Number of its line in its file, from 1.
    pub line: usize,
    /// The request as it stands there.
    pub request: String,
    /// The reply in the notation, with line ends.
    pub reply: String,
}

/// An instruction to the one who plays the transcript.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Directive {
    /// `@fresh`
    Fresh,
    /// `@resp`
    Resp(Protocol),
    /// `@db`
    Database(u8),
    /// `@advance`
    Advance(Duration),
    /// `@sorted`
    Sorted,
    /// `@only`
    Only(String),
    /// `@oracle valkey`
    Valkey,
}

/// How a transcript is played.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Play {
    /// All of it, to an EagleDB whose clock goes as the transcript says.
    OwnClock,
    /// Without what is marked `@only`; a `TTL` may have run down meanwhile.
    RealClock,
}

impl Transcript {
    /// Reads a transcript. An error says which line is not one's.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut items = Vec::new();
        let mut lines = text.lines().enumerate().map(|(i, line)| (i + 1, line)).peekable();
        while let Some((number, line)) = lines.next() {
            if line.is_empty() || line.starts_with('#') {
                items.push(Item::Remark(line.to_owned()));
            } else if let Some(directive) = line.strip_prefix('@') {
                let directive = Directive::parse(directive);
                let unknown = || format!("line {number}: unknown directive {line}");
                items.push(Item::Directive(directive.ok_or_else(unknown)?));
            } else if let Some(request) = line.strip_prefix(REQUEST) {
                let belongs =
                    |line: &str| !line.is_empty() && !line.starts_with(['@', '#']) && !line.starts_with(REQUEST);
                let mut reply = String::new();
                while let Some((_, line)) = lines.next_if(|(_, line)| belongs(line)) {
                    reply.push_str(line);
                    reply.push('\n');
                }
                let exchange = Exchange { line: number, request: request.to_owned(), reply };
                match items.last_mut() {
                    Some(Item::Step(Step(step))) => step.push(exchange),
                    _ => items.push(Item::Step(Step(vec![exchange]))),
                }
            } else {
                return Err(format!("line {number}: neither request nor reply: {line}"));
            }
        }
        Ok(Self { items })
    }

    /// Whether Valkey decides about it, because Redis 7.0.15 does not know it yet.
    #[must_use]
    pub fn wants_valkey(&self) -> bool {
        self.items.contains(&Item::Directive(Directive::Valkey))
    }

    /// All requests of all steps, as arguments.
    pub fn requests(&self) -> impl Iterator<Item = OwnedArgs> {
        self.exchanges().map(|exchange| arguments(&exchange.request))
    }

    fn exchanges(&self) -> impl Iterator<Item = &Exchange> {
        let steps = self.items.iter().map(|item| if let Item::Step(Step(step)) = item { &step[..] } else { &[] });
        steps.flatten()
    }

    /// Plays it to `target`, beginning afresh: the same transcript with the replies that came.
    pub fn run(&self, target: &mut impl Target, play: Play) -> Self {
        target.fresh();
        let mut skip = false;
        let mut sorted = false;
        let mut items = self.items.clone();
        for item in &mut items {
            match item {
                Item::Remark(_) => {}
                Item::Directive(Directive::Fresh) => target.fresh(),
                Item::Directive(Directive::Resp(protocol)) => target.protocol(*protocol),
                Item::Directive(Directive::Database(db)) => target.database(*db),
                Item::Directive(Directive::Advance(by)) => target.advance(*by),
                Item::Directive(Directive::Sorted) => sorted = true,
                Item::Directive(Directive::Only(_)) => skip = play == Play::RealClock,
                Item::Directive(Directive::Valkey) => {}
                Item::Step(step) => {
                    if !std::mem::take(&mut skip) {
                        step.run(target, sorted, play);
                    }
                    sorted = false;
                }
            }
        }
        Self { items }
    }
}

impl Step {
    fn run(&mut self, target: &mut impl Target, sorted: bool, play: Play) {
        for Exchange { request, reply, .. } in &mut self.0 {
            let arguments = arguments(request);
            let mut found = String::new();
            notation::write(&target.ask(&arguments), sorted, &mut found);
            let is_ttl = arguments.as_args()[0].eq_ignore_ascii_case(b"TTL");
            if play == Play::OwnClock || !is_ttl || !ran_down(reply, &found) {
                *reply = found;
            }
        }
    }
}

/// Whether `found` is the number of seconds `expected` after up to a minute.
fn ran_down(expected: &str, found: &str) -> bool {
    let seconds = |reply: &str| reply.trim_end().strip_prefix("(integer) ")?.parse::<i64>().ok();
    match (seconds(expected), seconds(found)) {
        (Some(expected), Some(found)) => found > 0 && (0..60).contains(&(expected - found)),
        _ => false,
    }
}

/// What a request begins with.
const REQUEST: &str = "> ";

impl Directive {
    fn parse(text: &str) -> Option<Self> {
        let (name, value) = text.split_once(' ').unwrap_or((text, ""));
        Some(match (name, value) {
            ("fresh", "") => Self::Fresh,
            ("resp", "2") => Self::Resp(Protocol::Resp2),
            ("resp", "3") => Self::Resp(Protocol::Resp3),
            ("db", db) => Self::Database(db.parse().ok()?),
            ("advance", time) => {
                let ms = time.strip_suffix("ms").map(str::parse::<u64>);
                let seconds = || time.strip_suffix('s').map(str::parse::<u64>);
                match ms {
                    Some(ms) => Self::Advance(Duration::from_millis(ms.ok()?)),
                    None => Self::Advance(Duration::from_secs(seconds()?.ok()?)),
                }
            }
            ("sorted", "") => Self::Sorted,
            ("only", reason) if !reason.is_empty() => Self::Only(reason.to_owned()),
            ("oracle", "valkey") => Self::Valkey,
            _ => return None,
        })
    }
}

impl std::fmt::Display for Transcript {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for item in &self.items {
            match item {
                Item::Remark(line) => writeln!(f, "{line}")?,
                Item::Directive(directive) => writeln!(f, "@{directive}")?,
                Item::Step(Step(step)) => {
                    for Exchange { request, reply, .. } in step {
                        write!(f, "{REQUEST}{request}\n{reply}")?;
                    }
                }
            }
        }
        Ok(())
    }
}

impl std::fmt::Display for Directive {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Fresh => write!(f, "fresh"),
            Self::Resp(Protocol::Resp2) => write!(f, "resp 2"),
            Self::Resp(Protocol::Resp3) => write!(f, "resp 3"),
            Self::Database(db) => write!(f, "db {db}"),
            Self::Advance(by) if by.subsec_millis() == 0 => write!(f, "advance {}s", by.as_secs()),
            Self::Advance(by) => write!(f, "advance {}ms", by.as_millis()),
            Self::Sorted => write!(f, "sorted"),
            Self::Only(reason) => write!(f, "only {reason}"),
            Self::Valkey => write!(f, "oracle valkey"),
        }
    }
}

/// The arguments of a request as a line has them: an inline request. Panics if the line is none.
#[must_use]
pub fn arguments(line: &str) -> OwnedArgs {
    let mut bytes = format!("{line}\r\n").into_bytes();
    let mut requests = Requests::new();
    let decoded = Decoder::new().decode(&mut bytes, 0, &Limits::default(), 1, &mut requests);
    assert!(decoded.error.is_none() && requests.len() == 1, "not a request: {line}");
    OwnedArgs::from(requests.args(0, &bytes))
}

/// How `found` differs from `expected`, exchange by exchange, or nothing if it does not.
#[must_use]
pub fn differences(expected: &Transcript, found: &Transcript) -> String {
    let mut text = String::new();
    for (expected, found) in expected.exchanges().zip(found.exchanges()) {
        if expected.reply != found.reply {
            let Exchange { line, request, reply } = expected;
            let _ = writeln!(text, "line {line}: {request}\n  expected\n{reply}  found\n{}", found.reply);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"# Remark.
@resp 3
@advance 1500ms
> SET k "a b"
OK
> GET k
"a b"

@sorted
> KEYS *
1) "k"
"#;

    #[test]
    fn a_transcript_is_read_and_written_back() {
        // Remarks, directives, steps with several requests: the same text again.
        let transcript = Transcript::parse(TEXT).unwrap();
        assert_eq!(transcript.to_string(), TEXT);
        assert_eq!(transcript.requests().count(), 3);
        let Item::Step(Step(step)) = &transcript.items[3] else { panic!("a step") };
        assert_eq!((step.len(), step[1].line, step[1].reply.as_str()), (2, 6, "\"a b\"\n"));
        assert!(Transcript::parse("@unknown\n").is_err());
        assert!(Transcript::parse("GET k\n").is_err());
    }

    #[test]
    fn requests_are_quoted_as_inline_requests_are() {
        // Double quotes with escapes, single quotes without, as redis-cli takes them.
        let owned = arguments(r#"SET "a\x00\n" 'b\n' """#);
        let expected: [&[u8]; 4] = [b"SET", b"a\0\n", b"b\\n", b""];
        assert!(owned.as_args().iter().eq(expected));
    }
}
