//! A selector is one set of permissions: commands, and what they may be used with. A user has a first one, its root, and any number
//! of others; a command is allowed if one of them allows all of it.
//!
//! Commands are bits by the number of their row. What was said of them is kept beside the bits, as Redis 7.2 does, so that a user is
//! described by the rules that made it: a rule that a later one overrides is dropped, `+@all` and `-@all` drop all.

use eagle_resp::Args;
use eagle_shard::{
    command::describe,
    glob,
    spec::{Flags, KeyFlags, Spec},
};

use super::RuleError;
use crate::{
    command::{self, Row},
    config::file::split,
};

/// The categories of commands, in Redis' order.
pub const CATEGORIES: [&str; 21] = [
    "keyspace",
    "read",
    "write",
    "set",
    "sortedset",
    "list",
    "hash",
    "string",
    "bitmap",
    "hyperloglog",
    "geo",
    "stream",
    "pubsub",
    "admin",
    "fast",
    "slow",
    "blocking",
    "dangerous",
    "connection",
    "transaction",
    "scripting",
];

/// The category of this name, in any case.
#[must_use]
pub fn category(name: &[u8]) -> Option<&'static str> {
    CATEGORIES.into_iter().find(|category| name.eq_ignore_ascii_case(category.as_bytes()))
}

/// Whether a command is of a category.
#[must_use]
pub fn is_in(spec: &Spec, category: &str) -> bool {
    describe::categories(spec).contains(&category)
}

/// What of a request is not allowed. Later ones outweigh earlier ones where several selectors deny.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Denied {
    /// The command.
    Command,
    /// The key that is the argument at this index.
    Key(usize),
    /// The channel that is the argument at this index.
    Channel(usize),
}

/// What a new selector may do with channels: `acl-pubsub-default`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Channels {
    /// Nothing.
    #[default]
    None,
    /// Everything.
    All,
}

bitflags::bitflags! {
    /// What is done with a key.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    struct Access: u8 {
        const READ = 1;
        const WRITE = 2;
    }
}

impl Access {
    fn of(flags: KeyFlags) -> Self {
        let mut access = Self::empty();
        access.set(Self::READ, flags.contains(KeyFlags::ACCESS));
        let changes = KeyFlags::INSERT.union(KeyFlags::DELETE).union(KeyFlags::UPDATE);
        access.set(Self::WRITE, flags.intersects(changes));
        access
    }
}

/// A pattern, and a shorter way to match it if it is a plain beginning.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Pattern {
    text: Vec<u8>,
    /// `text` is so many plain bytes and one star.
    prefix_len: Option<usize>,
}

impl Pattern {
    fn new(text: &[u8]) -> Self {
        let prefix_len = text.strip_suffix(b"*").filter(|plain| !plain.iter().any(|byte| b"*?[\\".contains(byte)));
        // A lone star does not match an empty key: that is the glob's matter.
        let prefix_len = prefix_len.map(<[u8]>::len).filter(|len| *len > 0);
        Self { text: text.to_vec(), prefix_len }
    }

    fn matches(&self, key: &[u8]) -> bool {
        match self.prefix_len {
            Some(len) => key.starts_with(&self.text[..len]),
            None => glob::matches(&self.text, key, glob::Case::Sensitive),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct KeyPattern {
    access: Access,
    pattern: Pattern,
}

impl KeyPattern {
    fn write(&self, text: &mut Vec<u8>) {
        match self.access {
            access if access == Access::READ => text.extend(b"%R~"),
            access if access == Access::WRITE => text.extend(b"%W~"),
            _ => text.push(b'~'),
        }
        text.extend_from_slice(&self.pattern.text);
    }
}

/// What was said of a command or category.
#[derive(Clone, Debug, PartialEq, Eq)]
struct CommandRule {
    allows: bool,
    /// In lower case: `get`, `config|set`, `@read`, `select|0`.
    name: Vec<u8>,
}

/// One set of permissions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selector {
    /// By [`Row::index`].
    commands: Vec<u64>,
    /// All commands, unseen.
    all_commands: bool,
    /// It was made by taking from all commands.
    from_all: bool,
    rules: Vec<CommandRule>,
    /// First arguments with which a command is allowed that is not, by its row.
    first_args: Vec<(u16, Vec<u8>)>,
    all_keys: bool,
    keys: Vec<KeyPattern>,
    all_channels: bool,
    channels: Vec<Vec<u8>>,
}

impl Selector {
    /// One that allows nothing, but channels if that is the default.
    #[must_use]
    pub fn new(channels: Channels) -> Self {
        Self {
            commands: vec![0; command::row_count().div_ceil(64)],
            all_commands: false,
            from_all: false,
            rules: Vec::new(),
            first_args: Vec::new(),
            all_keys: false,
            keys: Vec::new(),
            all_channels: channels == Channels::All,
            channels: Vec::new(),
        }
    }

    /// One made of rules within parentheses.
    ///
    /// # Errors
    /// What is wrong with the first one that is.
    pub fn parse(inner: &[u8], channels: Channels) -> Result<Self, RuleError> {
        let mut selector = Self::new(channels);
        // As in Redis, unbalanced quotes leave no words at all.
        for word in split(inner).unwrap_or_default() {
            selector.apply(&word)?;
        }
        Ok(selector)
    }

    /// Whether it allows everything, so that nothing needs to be looked at.
    #[must_use]
    pub fn is_unrestricted(&self) -> bool {
        self.all_commands && self.all_keys && self.all_channels
    }

    /// Applies a rule about commands, keys or channels.
    ///
    /// # Errors
    /// It is none, or names what there is not; nothing is changed then.
    pub fn apply(&mut self, rule: &[u8]) -> Result<(), RuleError> {
        let is = |word: &str| rule.eq_ignore_ascii_case(word.as_bytes());
        match rule {
            _ if is("allkeys") || is("~*") => (self.all_keys, self.keys) = (true, Vec::new()),
            _ if is("resetkeys") => (self.all_keys, self.keys) = (false, Vec::new()),
            _ if is("allchannels") || is("&*") => (self.all_channels, self.channels) = (true, Vec::new()),
            _ if is("resetchannels") => (self.all_channels, self.channels) = (false, Vec::new()),
            _ if is("allcommands") || is("+@all") => self.all(true),
            _ if is("nocommands") || is("-@all") => self.all(false),
            [b'~' | b'%', ..] => self.add_keys(rule)?,
            [b'&', pattern @ ..] => self.add_channels(pattern)?,
            [sign @ (b'+' | b'-'), b'@', name @ ..] => {
                let category = category(name).ok_or(RuleError::Unknown)?;
                self.change_category(category, *sign == b'+');
            }
            [b'+', name @ ..] if name.contains(&b'|') => self.allow_part(name)?,
            [sign @ (b'+' | b'-'), name @ ..] => {
                let row = command::find_named(name).ok_or(RuleError::Unknown)?;
                self.change(row, *sign == b'+');
                self.said(row.spec.name.as_bytes(), *sign == b'+');
            }
            _ => return Err(RuleError::Syntax),
        }
        Ok(())
    }

    fn all(&mut self, allows: bool) {
        self.commands.fill(if allows { u64::MAX } else { 0 });
        (self.all_commands, self.from_all) = (allows, allows);
        self.rules.clear();
        self.first_args.clear();
    }

    fn add_keys(&mut self, rule: &[u8]) -> Result<(), RuleError> {
        if self.all_keys {
            return Err(RuleError::AllKeys);
        }
        let (access, pattern) = key_rule(rule)?;
        if has_blanks(pattern) {
            return Err(RuleError::Syntax);
        }
        match self.keys.iter_mut().find(|known| known.pattern.text == pattern) {
            Some(known) => known.access |= access,
            None => self.keys.push(KeyPattern { access, pattern: Pattern::new(pattern) }),
        }
        Ok(())
    }

    fn add_channels(&mut self, pattern: &[u8]) -> Result<(), RuleError> {
        if self.all_channels {
            return Err(RuleError::AllChannels);
        }
        if has_blanks(pattern) {
            return Err(RuleError::Syntax);
        }
        if !self.channels.iter().any(|known| known == pattern) {
            self.channels.push(pattern.to_vec());
        }
        Ok(())
    }

    /// Allows a subcommand, or a command with one first argument.
    fn allow_part(&mut self, name: &[u8]) -> Result<(), RuleError> {
        let bar = name.iter().rposition(|byte| *byte == b'|').expect("asked for");
        let (container, part) = (&name[..bar], &name[bar + 1..]);
        let row = command::find_named(container).ok_or(RuleError::Unknown)?;
        if container.contains(&b'|') {
            return Err(RuleError::FirstArgument);
        }
        if part.is_empty() {
            return Err(RuleError::Syntax);
        }
        if row.rows.is_empty() {
            let known = |(index, word): &(u16, Vec<u8>)| *index == row.index && word.eq_ignore_ascii_case(part);
            if !self.first_args.iter().any(known) {
                self.first_args.push((row.index, part.to_vec()));
            }
            self.said(name, true);
        } else {
            let row = command::find_named(name).ok_or(RuleError::Unknown)?;
            self.change(row, true);
            self.said(row.spec.name.as_bytes(), true);
        }
        Ok(())
    }

    /// Allows or forbids a command, a container with all its subcommands.
    fn change(&mut self, row: &Row, allows: bool) {
        self.first_args.retain(|(index, _)| *index != row.index);
        for row in std::iter::once(row).chain(&row.rows) {
            let (word, bit) = place(row);
            if allows {
                self.commands[word] |= bit;
            } else {
                self.commands[word] &= !bit;
            }
        }
        self.all_commands &= allows;
    }

    fn change_category(&mut self, category: &str, allows: bool) {
        for row in command::rows() {
            if is_in(row.spec, category) {
                self.change(row, allows);
            }
            for sub in row.rows.iter().filter(|sub| is_in(sub.spec, category)) {
                self.change(sub, allows);
            }
        }
        self.said(format!("@{category}").as_bytes(), allows);
    }

    /// Notes a rule; what it overrides is forgotten: the same, and with a container its subcommands and first arguments.
    fn said(&mut self, name: &[u8], allows: bool) {
        let name = name.to_ascii_lowercase();
        let overrides = |rule: &CommandRule| {
            let rest = rule.name.strip_prefix(name.as_slice());
            rest.is_some_and(|rest| rest.is_empty() || rest[0] == b'|')
        };
        self.rules.retain(|rule| !overrides(rule));
        self.rules.push(CommandRule { allows, name });
    }

    /// Whether it allows a request.
    ///
    /// # Errors
    /// What it does not allow.
    pub fn check(&self, row: &Row, args: Args<'_>) -> Result<(), Denied> {
        if !self.all_commands && !row.spec.flags.contains(Flags::NO_AUTH) && !self.allows_command(row, args) {
            return Err(Denied::Command);
        }
        if !self.all_keys {
            for keys in row.spec.keys {
                let access = Access::of(command::access(keys, args));
                let denied = |index: &usize| !self.allows_key(&args[*index], access);
                if let Some(index) = keys.indices(args.len()).find(denied) {
                    return Err(Denied::Key(index));
                }
            }
        }
        Ok(())
    }

    fn allows_command(&self, row: &Row, args: Args<'_>) -> bool {
        let (word, bit) = place(row);
        if self.commands[word] & bit != 0 {
            return true;
        }
        let is_it = |(index, word): &(u16, Vec<u8>)| {
            *index == row.index && args.get(1).is_some_and(|first| first.eq_ignore_ascii_case(word))
        };
        !self.first_args.is_empty() && self.first_args.iter().any(is_it)
    }

    fn allows_key(&self, key: &[u8], access: Access) -> bool {
        self.keys.iter().any(|known| known.access.contains(access) && known.pattern.matches(key))
    }

    /// Whether it allows a channel, or if that is a pattern to subscribe to, exactly that pattern.
    #[must_use]
    pub fn allows_channel(&self, channel: &[u8], is_pattern: bool) -> bool {
        let matches = |known: &Vec<u8>| match is_pattern {
            true => known == channel,
            false => glob::matches(known, channel, glob::Case::Sensitive),
        };
        self.all_channels || self.channels.iter().any(matches)
    }

    /// What it says of commands: `-@all +get`.
    #[must_use]
    pub fn commands_text(&self) -> Vec<u8> {
        let mut text = if self.from_all { b"+@all".to_vec() } else { b"-@all".to_vec() };
        for rule in &self.rules {
            text.extend_from_slice(if rule.allows { b" +" } else { b" -" });
            text.extend_from_slice(&rule.name);
        }
        text
    }

    /// Its patterns of keys, with a blank between them.
    #[must_use]
    pub fn keys_text(&self) -> Vec<u8> {
        if self.all_keys {
            return b"~*".to_vec();
        }
        let mut text = Vec::new();
        for keys in &self.keys {
            if !text.is_empty() {
                text.push(b' ');
            }
            keys.write(&mut text);
        }
        text
    }

    /// Its patterns of channels, with a blank between them.
    #[must_use]
    pub fn channels_text(&self) -> Vec<u8> {
        if self.all_channels {
            return b"&*".to_vec();
        }
        let mut text = Vec::new();
        for channel in &self.channels {
            text.extend_from_slice(if text.is_empty() { b"&" } else { b" &" });
            text.extend_from_slice(channel);
        }
        text
    }

    /// The rules that make it.
    #[must_use]
    pub fn text(&self) -> Vec<u8> {
        let mut text = self.keys_text();
        if !text.is_empty() {
            text.push(b' ');
        }
        if !self.all_channels {
            text.extend_from_slice(b"resetchannels ");
        }
        let channels = self.channels_text();
        text.extend_from_slice(&channels);
        if !channels.is_empty() {
            text.push(b' ');
        }
        text.extend_from_slice(&self.commands_text());
        text
    }
}

/// The word and bit of a command.
fn place(row: &Row) -> (usize, u64) {
    (usize::from(row.index) / 64, 1 << (row.index % 64))
}

/// What `~pattern` or `%RW~pattern` says.
fn key_rule(rule: &[u8]) -> Result<(Access, &[u8]), RuleError> {
    if let [b'~', pattern @ ..] = rule {
        return Ok((Access::all(), pattern));
    }
    let mut access = Access::empty();
    for (at, byte) in rule.iter().enumerate().skip(1) {
        let granted = match byte.to_ascii_uppercase() {
            b'R' => Access::READ,
            b'W' => Access::WRITE,
            b'~' if !access.is_empty() => return Ok((access, &rule[at + 1..])),
            _ => return Err(RuleError::Syntax),
        };
        if access.contains(granted) {
            return Err(RuleError::Syntax);
        }
        access |= granted;
    }
    // Without a tilde the pattern is nothing.
    if access.is_empty() { Err(RuleError::Syntax) } else { Ok((access, b"")) }
}

/// Whether a name or pattern has what would not survive a file: blanks or zero bytes.
#[must_use]
pub fn has_blanks(text: &[u8]) -> bool {
    text.iter().any(|byte| byte.is_ascii_whitespace() || matches!(byte, 0 | 0x0b))
}

#[cfg(test)]
mod tests {
    use eagle_resp::OwnedArgs;

    use super::*;

    fn selector(rules: &str) -> Selector {
        Selector::parse(rules.as_bytes(), Channels::None).unwrap()
    }

    fn check(selector: &Selector, request: &str) -> Result<(), Denied> {
        let args: OwnedArgs = request.split(' ').map(str::as_bytes).collect();
        let command::Found::Row(row) = command::find(args.as_args()) else { panic!("{request}") };
        selector.check(row, args.as_args())
    }

    #[test]
    fn what_is_described_is_what_was_said_last() {
        // Recorded from Valkey 8.1.8: a rule goes when it is overridden, a container's takes its subcommands' along.
        for (rules, text) in [
            ("+get -get +@string -set", "resetchannels -@all -get +@string -set"),
            ("-config +config|get +config|set -config|get", "resetchannels -@all -config +config|set -config|get"),
            ("+config|get +select|0 +config -@hash", "resetchannels -@all +select|0 +config -@hash"),
            ("+@all -@admin +GET +select|0 +select", "resetchannels +@all -@admin +get +select"),
            ("~a %R~b %W~b %w~c &x &x &y", "~a ~b %W~c resetchannels &x &y -@all"),
            ("allkeys allchannels allcommands nocommands", "~* &* -@all"),
        ] {
            assert_eq!(String::from_utf8(selector(rules).text()).unwrap(), text, "{rules}");
        }
    }

    #[test]
    fn commands_are_allowed_one_by_one() {
        // Bits, categories, subcommands, first arguments; those that are for everybody are not asked.
        let some = selector("~* +@read -mget +config|get +select|0");
        for request in ["GET a", "CONFIG GET x", "select 0", "AUTH x"] {
            assert_eq!(check(&some, request), Ok(()), "{request}");
        }
        for request in ["MGET a", "SET a b", "CONFIG SET x y", "SELECT 1", "PING"] {
            assert_eq!(check(&some, request), Err(Denied::Command), "{request}");
        }
    }

    #[test]
    fn keys_are_allowed_by_what_is_done_with_them() {
        // SET reads only with GET; COPY reads its source and writes its destination.
        let some = selector("+@all %R~r* %W~w* ~x? ~*");
        assert_eq!(check(&some, "GET anything"), Ok(()));
        let some = selector("+@all %R~r* %W~w* ~x?");
        for request in ["GET r1", "SET w1 a", "SET xy a GET", "COPY r w", "MSET w a xy b"] {
            assert_eq!(check(&some, request), Ok(()), "{request}");
        }
        for (request, index) in [("GET w1", 1), ("SET w1 a GET", 1), ("COPY r r", 2), ("MSET w a r b", 3), ("GET x", 1)]
        {
            assert_eq!(check(&some, request), Err(Denied::Key(index)), "{request}");
        }
    }

    #[test]
    fn channels_are_allowed_by_pattern_and_patterns_as_they_are() {
        let some = selector("&news.* &exact");
        assert!(some.allows_channel(b"news.today", false) && some.allows_channel(b"exact", false));
        assert!(!some.allows_channel(b"old", false) && !some.allows_channel(b"news.today", true));
        assert!(some.allows_channel(b"news.*", true));
    }

    #[test]
    fn a_short_way_to_match_a_pattern_says_what_the_glob_says() {
        // Patterns of few letters, of which stars and classes are some, against keys of them.
        let mut rng = fastrand::Rng::with_seed(7);
        let mut word =
            |letters: &[u8]| -> Vec<u8> { (0..rng.usize(0..5)).map(|_| letters[rng.usize(..letters.len())]).collect() };
        for _ in 0..20_000 {
            let (pattern, key) = (word(b"ab*?[\\"), word(b"ab*"));
            let long = glob::matches(&pattern, &key, glob::Case::Sensitive);
            assert_eq!(Pattern::new(&pattern).matches(&key), long, "{pattern:?} {key:?}");
        }
    }
}
