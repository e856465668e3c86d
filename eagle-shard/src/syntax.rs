//! Syntax is what a command's row says about its arguments, parsed to the tree that `COMMAND DOCS` prints.
//!
//! The text is the notation of the command pages with what they leave out: the names of groups, types and versions.
//!
//! ```text
//! key value [condition@2.6.12: NX | XX] [GET@6.2.0] [expiration: EX@2.6.12 seconds | KEEPTTL@6.0.0]
//! ```
//!
//! | notation           | argument                                                                          |
//! | ------------------ | --------------------------------------------------------------------------------- |
//! | `word`             | a value of that name; its type is `:type` behind it, or else that of its name   |
//! | `TOKEN`            | the token itself (`pure-token`)                                                   |
//! | `TOKEN word`       | a value behind its token                                                          |
//! | `[...]`            | may be left out                                                                   |
//! | `{name: a b}`      | a block of arguments that come together                                           |
//! | `{name: a \| b}`   | one of them; `[name: ...]` is such a group that may be left out                   |
//! | `TOKEN {...}`      | a group behind its token                                                          |
//! | `argument...`      | may be repeated                                                                   |
//! | `@1.2.3`           | behind a word, token or group's name: the version that brought it                 |
//!
//! [`page`] writes a tree back in the plain notation of the command pages,
//! [`crate::command::describe::docs`] as `COMMAND DOCS` has it, and generators of random commands walk over it.
//! Rows are ours, so a mistake in one is a panic, and a test parses them all.

use std::fmt::Write as _;

/// Types of words that mean the same wherever they stand; other words are strings.
const KINDS: [(&str, Kind); 19] = [
    ("key", Kind::Key),
    ("key1", Kind::Key),
    ("key2", Kind::Key),
    ("newkey", Kind::Key),
    ("source", Kind::Key),
    ("destination", Kind::Key),
    ("seconds", Kind::Integer),
    ("milliseconds", Kind::Integer),
    ("unix-time-seconds", Kind::UnixTime),
    ("unix-time-milliseconds", Kind::UnixTime),
    ("increment", Kind::Integer),
    ("decrement", Kind::Integer),
    ("start", Kind::Integer),
    ("end", Kind::Integer),
    ("offset", Kind::Integer),
    ("count", Kind::Integer),
    ("cursor", Kind::Integer),
    ("pattern", Kind::Pattern),
    ("destination-db", Kind::Integer),
];

/// What an argument is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The name of a key.
    Key,
    /// Any bytes.
    String,
    /// A whole number.
    Integer,
    /// A floating point number.
    Double,
    /// A time as seconds or milliseconds of the Unix epoch.
    UnixTime,
    /// A glob.
    Pattern,
    /// A token and nothing else.
    PureToken,
    /// One of the arguments within.
    OneOf,
    /// All arguments within.
    Block,
}

impl Kind {
    const ALL: [Self; 9] = [
        Self::Key,
        Self::String,
        Self::Integer,
        Self::Double,
        Self::UnixTime,
        Self::Pattern,
        Self::PureToken,
        Self::OneOf,
        Self::Block,
    ];

    /// As `COMMAND DOCS` prints it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Key => "key",
            Self::String => "string",
            Self::Integer => "integer",
            Self::Double => "double",
            Self::UnixTime => "unix-time",
            Self::Pattern => "pattern",
            Self::PureToken => "pure-token",
            Self::OneOf => "oneof",
            Self::Block => "block",
        }
    }
}

/// An argument of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Argument {
    /// Lower case, but a pure token's is its token (`COMMAND DOCS` prints it in lower case).
    pub name: &'static str,
    /// What it is.
    pub kind: Kind,
    /// What stands before it, or for a pure token all of it; upper case.
    pub token: Option<&'static str>,
    /// The version that brought it, if not that of the command.
    pub since: Option<&'static str>,
    /// Whether it may be left out.
    pub optional: bool,
    /// Whether it may be repeated.
    pub multiple: bool,
    /// Arguments of a block, or the choices of a one-of.
    pub within: Vec<Argument>,
}

impl Argument {
    /// The fewest arguments that it takes in a request.
    #[must_use]
    pub fn least(&self) -> usize {
        if self.optional {
            return 0;
        }
        let own = match self.kind {
            Kind::PureToken => return 1,
            Kind::OneOf => self.within.iter().map(Self::least).min().unwrap_or(0),
            Kind::Block => least(&self.within),
            _ => 1,
        };
        own + usize::from(self.token.is_some())
    }

    /// Whether requests differ in the number of arguments that they spend on it.
    #[must_use]
    pub fn varies(&self) -> bool {
        let own = match self.kind {
            Kind::OneOf => self.within.iter().any(|choice| choice.varies() || choice.least() != self.within[0].least()),
            Kind::Block => self.within.iter().any(Self::varies),
            _ => false,
        };
        self.optional || self.multiple || own
    }
}

/// The fewest arguments that a request with this syntax has, its name aside.
#[must_use]
pub fn least(arguments: &[Argument]) -> usize {
    arguments.iter().map(Argument::least).sum()
}

/// Parses a row's syntax. Panics if it is none: rows are part of the program.
#[must_use]
pub fn parse(syntax: &'static str) -> Vec<Argument> {
    let mut parser = Parser { rest: syntax, whole: syntax };
    let arguments = parser.sequence();
    parser.expect(parser.rest.is_empty(), "something is left");
    arguments
}

struct Parser {
    rest: &'static str,
    whole: &'static str,
}

impl Parser {
    /// Arguments one behind the other, up to the end, a bar or a closing bracket.
    fn sequence(&mut self) -> Vec<Argument> {
        let mut arguments = Vec::new();
        loop {
            self.rest = self.rest.trim_start();
            if self.rest.is_empty() || self.rest.starts_with(['|', ']', '}']) {
                return arguments;
            }
            arguments.push(self.argument());
        }
    }

    /// An argument with what may stand behind it.
    fn argument(&mut self) -> Argument {
        let mut argument = if self.skip("[") {
            let inner = self.group("]");
            Argument { optional: true, ..inner }
        } else if self.skip("{") {
            self.group("}")
        } else {
            self.word()
        };
        argument.multiple |= self.skip("...");
        argument
    }

    /// What stands within brackets, up to the closing one: a named group, or one argument.
    fn group(&mut self, close: &str) -> Argument {
        let named = self.rest.find([':', '[', ']', '{', '}', '|', ' ']).filter(|&at| self.rest[at..].starts_with(": "));
        let label = named.map(|at| {
            let label = &self.rest[..at];
            self.rest = &self.rest[at + 1..];
            label
        });
        let mut choices = vec![self.sequence()];
        while self.skip("|") {
            choices.push(self.sequence());
        }
        let closed = self.skip(close);
        self.expect(closed, "a bracket is not closed");
        let one_of = choices.len() > 1;
        let single = choices.iter().all(|choice| choice.len() == 1);
        self.expect(single || !one_of, "a choice of several needs its own braces");
        let mut within: Vec<_> = choices.into_iter().flatten().collect();
        let Some(label) = label else {
            self.expect(within.len() == 1, "a group of several needs a name");
            return within.remove(0);
        };
        let (name, since) = split(label, '@');
        let kind = if one_of { Kind::OneOf } else { Kind::Block };
        Argument { name, kind, token: None, since, optional: false, multiple: false, within }
    }

    /// A word, a token, or a token with what it stands before.
    fn word(&mut self) -> Argument {
        let end = self.rest.find([' ', '[', ']', '{', '}', '|']).unwrap_or(self.rest.len());
        let end = self.rest[..end].find("...").unwrap_or(end);
        let (word, rest) = self.rest.split_at(end);
        self.expect(!word.is_empty(), "a word is missing");
        self.rest = rest;
        let (word, since) = split(word, '@');
        if !word.starts_with(|first: char| first.is_ascii_uppercase()) {
            return self.value(word, since);
        }
        let behind = rest.strip_prefix(' ').unwrap_or("");
        if behind.starts_with(|first: char| first == '{' || first.is_ascii_lowercase()) {
            self.rest = behind;
            let valued = self.argument();
            self.expect(valued.token.is_none(), "two tokens before one value");
            return Argument { token: Some(word), since, ..valued };
        }
        Argument {
            name: word,
            kind: Kind::PureToken,
            token: Some(word),
            since,
            optional: false,
            multiple: false,
            within: Vec::new(),
        }
    }

    fn value(&self, word: &'static str, since: Option<&'static str>) -> Argument {
        let (name, kind) = split(word, ':');
        let kind = match kind {
            Some(wanted) => Kind::ALL.into_iter().find(|kind| kind.name() == wanted),
            None => Some(KINDS.into_iter().find(|(known, _)| *known == name).map_or(Kind::String, |(_, kind)| kind)),
        };
        self.expect(kind.is_some(), "a type is unknown");
        let kind = kind.unwrap_or(Kind::String);
        Argument { name, kind, token: None, since, optional: false, multiple: false, within: Vec::new() }
    }

    fn skip(&mut self, what: &str) -> bool {
        let rest = self.rest.strip_prefix(what);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    fn expect(&self, holds: bool, complaint: &str) {
        assert!(holds, "{complaint} at `{}` of syntax `{}`", self.rest, self.whole);
    }
}

fn split(text: &'static str, at: char) -> (&'static str, Option<&'static str>) {
    text.split_once(at).map_or((text, None), |(before, behind)| (before, Some(behind)))
}

/// The arguments in the notation of the command pages: `key value [NX | XX] [EX seconds | KEEPTTL]`.
#[must_use]
pub fn page(arguments: &[Argument]) -> String {
    let mut text = String::new();
    write_page(&mut text, arguments, " ");
    text
}

fn write_page(text: &mut String, arguments: &[Argument], between: &str) {
    for (i, argument) in arguments.iter().enumerate() {
        if i > 0 {
            text.push_str(between);
        }
        let mut plain = String::new();
        match (argument.token, argument.kind) {
            (Some(token), Kind::PureToken) => plain.push_str(token),
            (token, kind) => {
                if let Some(token) = token {
                    let _ = write!(plain, "{token} ");
                }
                match kind {
                    Kind::OneOf => {
                        let bare = argument.optional && argument.token.is_none();
                        plain.push_str(if bare { "" } else { "<" });
                        write_page(&mut plain, &argument.within, " | ");
                        plain.push_str(if bare { "" } else { ">" });
                    }
                    Kind::Block => write_page(&mut plain, &argument.within, " "),
                    _ => plain.push_str(argument.name),
                }
            }
        }
        let _ = match (argument.optional, argument.multiple) {
            (false, false) => write!(text, "{plain}"),
            (false, true) => write!(text, "{plain} [{plain} ...]"),
            (true, false) => write!(text, "[{plain}]"),
            (true, true) => write!(text, "[{plain} [{plain} ...]]"),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn word(name: &'static str, kind: Kind) -> Argument {
        Argument { name, kind, token: None, since: None, optional: false, multiple: false, within: Vec::new() }
    }

    #[test]
    fn set_is_parsed_as_redis_documents_it() {
        // The tree that Redis' COMMAND DOCS shows for SET, shortened: values, a one-of, tokens with values, versions.
        let syntax =
            "key value [condition@2.6.12: NX | XX] [GET@6.2.0] [expiration: EX@2.6.12 seconds | KEEPTTL@6.0.0]";
        let token = |name, since| Argument { token: Some(name), since, ..word(name, Kind::PureToken) };
        let expected = [
            word("key", Kind::Key),
            word("value", Kind::String),
            Argument {
                optional: true,
                since: Some("2.6.12"),
                within: vec![token("NX", None), token("XX", None)],
                ..word("condition", Kind::OneOf)
            },
            Argument { optional: true, ..token("GET", Some("6.2.0")) },
            Argument {
                optional: true,
                within: vec![
                    Argument { token: Some("EX"), since: Some("2.6.12"), ..word("seconds", Kind::Integer) },
                    token("KEEPTTL", Some("6.0.0")),
                ],
                ..word("expiration", Kind::OneOf)
            },
        ];
        assert_eq!(parse(syntax), expected);
    }

    #[test]
    fn repetition_blocks_and_types_are_parsed() {
        // MSET's repeated block, a type that the vocabulary does not give, a token before a block.
        let [data] = &parse("{data: key value}...")[..] else { panic!("one argument") };
        assert!(data.multiple && data.kind == Kind::Block && data.name == "data" && data.within.len() == 2);
        assert_eq!(parse("increment:double"), [word("increment", Kind::Double)]);
        let [limit] = &parse("[LIMIT {limit: offset count}]")[..] else { panic!("one argument") };
        assert!(limit.optional && limit.token == Some("LIMIT") && limit.kind == Kind::Block);
        let [get] = &parse("[GET pattern...]")[..] else { panic!("one argument") };
        assert!(get.optional && get.multiple && get.token == Some("GET"));
    }

    #[test]
    fn the_page_notation_is_that_of_the_command_pages() {
        // As redis.io writes these commands.
        for (syntax, expected) in [
            ("key [condition@7.0.0: NX | XX]", "key [NX | XX]"),
            ("key...", "key [key ...]"),
            ("{data: key value}...", "key value [key value ...]"),
            ("source destination [DB destination-db] [REPLACE]", "source destination [DB destination-db] [REPLACE]"),
            ("key {where: LEFT | RIGHT} [LIMIT {limit: offset count}]", "key <LEFT | RIGHT> [LIMIT offset count]"),
        ] {
            assert_eq!(page(&parse(syntax)), expected);
        }
    }

    #[test]
    fn the_fewest_arguments_are_counted() {
        // What is optional counts nothing, what is repeated once, a token one more; `varies` tells exact from at least.
        for (syntax, fewest, varies) in [
            ("", 0, false),
            ("key value", 2, false),
            ("key [GET] [COUNT count]", 1, true),
            ("{data: key value}...", 2, true),
            ("key COUNT count {where: LEFT | RIGHT}", 4, false),
            ("{what: key | AT offset}", 1, true),
        ] {
            let arguments = parse(syntax);
            assert_eq!((least(&arguments), arguments.iter().any(Argument::varies)), (fewest, varies), "{syntax}");
        }
    }

    #[test]
    #[should_panic(expected = "a bracket is not closed")]
    fn an_open_bracket_is_a_mistake_of_ours() {
        let _ = parse("key [NX");
    }
}
