//! A configuration file is lines of `directive value...` in the grammar of `redis.conf`.
//!
//! Blank lines and those that begin with `#` say nothing. Words are separated by blanks; `"..."` takes the escapes
//! `\n \r \t \b \a \xHH`, `'...'` takes `\'` only. `include path` reads another file in place, or all that a pattern of
//! file names (`conf.d/*.conf`) finds, by name. What comes later replaces what came before. An error names the file, the line, the directive and what to do.

use std::{collections::BTreeMap, fmt, path::Path};

use eagle_shard::glob;

use crate::{
    acl,
    command::names::{NameError, Names},
};

use super::{
    Config,
    form::Wrong,
    table::{self, Place},
};

/// Files that include each other are an error at this depth rather than an endless loop.
const INCLUDE_DEPTH_MAX: u8 = 16;

/// Directives that Redis knows and that must not be overlooked: leaving them out would open what they close.
const REFUSED: [(&str, &str); 3] = [
    ("loadmodule", "modules are not available; remove the line"),
    ("sentinel", "this server is no sentinel; remove the line"),
    ("slave-of", "the directive is called replicaof"),
];

/// Directives that Redis still reads and forgets.
const FORGOTTEN: [&str; 3] = ["list-max-ziplist-entries", "list-max-ziplist-value", "lua-replicate-commands"];

/// What is said of snapshots that are asked for.
const SAVE_NOTE: &str =
    "directive 'save' is kept: no snapshots are taken at these times, as every change is in the pools anyway";

/// Where a setting was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A line of this file (`-`: standard input), counted from 1.
    Line {
        /// The file's path as it was given.
        path: String,
        /// The line.
        number: usize,
    },
    /// The environment variable of this name.
    Variable(String),
    /// The command line.
    Flag,
}

/// Why the configuration cannot be used: one sentence that says what to correct. Values are not repeated in it, as one
/// may be a password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// Where it was written; `None` for the file itself.
    pub source: Option<Source>,
    /// What is wrong, and the remedy.
    pub reason: String,
}

impl std::error::Error for ConfigError {}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line { path, number } if path == "-" => write!(f, "standard input, line {number}"),
            Self::Line { path, number } => write!(f, "{path}, line {number}"),
            Self::Variable(name) => write!(f, "environment variable {name}"),
            Self::Flag => f.write_str("command line"),
        }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(source) = &self.source {
            write!(f, "{source}: ")?;
        }
        f.write_str(&self.reason)
    }
}

/// Settings on their way from text to [`Config`].
#[derive(Debug, Default)]
pub struct Settings {
    /// What was set so far.
    pub config: Config,
    /// What the log should say about it at start.
    pub notes: Vec<String>,
    /// Users with their rules, and where each was described.
    users: Vec<(Vec<Vec<u8>>, Source)>,
    /// Where each directive was set last.
    pub sources: BTreeMap<&'static str, Source>,
}

impl Settings {
    /// Reads the file at `path`.
    pub fn read_file(&mut self, path: &str) -> Result<(), ConfigError> {
        self.read_at_depth(path, 0)
    }

    fn read_at_depth(&mut self, path: &str, depth: u8) -> Result<(), ConfigError> {
        let text = std::fs::read(path).map_err(|error| ConfigError {
            source: None,
            reason: format!(
                "cannot read the configuration file '{path}': {error}; name one that is there and that this user may read"
            ),
        })?;
        self.read_text(&text, path, depth)
    }

    /// Reads lines; `path` names them in errors.
    pub fn read_text(&mut self, text: &[u8], path: &str, depth: u8) -> Result<(), ConfigError> {
        for (index, line) in text.split(|byte| *byte == b'\n').enumerate() {
            let line = line.trim_ascii();
            if line.is_empty() || line.starts_with(b"#") {
                continue;
            }
            let source = Source::Line { path: path.to_owned(), number: index + 1 };
            let Some(words) = split(line) else {
                return Err(ConfigError {
                    source: Some(source),
                    reason: "unbalanced quotes; close each quote, with a blank behind it".to_owned(),
                });
            };
            let [name, values @ ..] = words.as_slice() else {
                continue;
            };
            self.apply(name, values, source, depth)?;
        }
        Ok(())
    }

    /// Carries out a line of a file or a flag: a directive, or `include`.
    pub fn apply(&mut self, name: &[u8], values: &[Vec<u8>], source: Source, depth: u8) -> Result<(), ConfigError> {
        if name.eq_ignore_ascii_case(b"include") {
            self.include(values, source, depth)
        } else {
            self.set(name, values, source)
        }
    }

    fn include(&mut self, values: &[Vec<u8>], source: Source, depth: u8) -> Result<(), ConfigError> {
        let path = match values {
            [path] => str::from_utf8(path).ok(),
            _ => None,
        };
        let Some(path) = path else {
            return Err(ConfigError { source: Some(source), reason: "'include' takes one path".to_owned() });
        };
        if depth == INCLUDE_DEPTH_MAX {
            return Err(ConfigError {
                source: Some(source),
                reason: format!("'include' is nested more than {INCLUDE_DEPTH_MAX} deep; does a file include itself?"),
            });
        }
        included(path).iter().try_for_each(|path| self.read_at_depth(path, depth + 1))
    }

    /// Sets one directive from its words.
    pub fn set(&mut self, name: &[u8], values: &[Vec<u8>], source: Source) -> Result<(), ConfigError> {
        let shown = String::from_utf8_lossy(name).to_ascii_lowercase();
        let wrong =
            |reason: String| ConfigError { source: Some(source.clone()), reason: format!("'{shown}': {reason}") };
        if let Some((_, reason)) = REFUSED.iter().find(|(refused, _)| *refused == shown) {
            return Err(wrong((*reason).to_owned()));
        }
        if shown == "rename-command" {
            return self.rename(values).map_err(|reason| wrong(reason.to_owned()));
        }
        if shown == "user" {
            return self.user(values, wrong);
        }
        if FORGOTTEN.contains(&shown.as_str()) {
            self.notes.push(format!("directive '{shown}' is of the past and has no effect"));
            return Ok(());
        }
        let Some(row) = table::find(name) else {
            return Err(wrong("no such directive; --help lists all".to_owned()));
        };
        let set = match values {
            [value] => row.set(&mut self.config, value),
            [_, ..] if row.form.takes_words() => row.set(&mut self.config, &values.join(&b' ')),
            _ => Err(Wrong::WordCount),
        };
        set.map_err(|refused| wrong(refused.to_string()))?;
        self.sources.insert(row.name, source);
        if row.name == "save" && self.config.kept.contains_key(row.name) {
            self.notes.push(SAVE_NOTE.to_owned());
        } else if matches!(row.place, Place::Kept) && self.config.kept.contains_key(row.name) {
            self.notes.push(format!("directive '{shown}' is accepted but has no effect"));
        }
        Ok(())
    }

    /// Gives a command another name, or none. What there is not needs none.
    fn rename(&mut self, words: &[Vec<u8>]) -> Result<(), &'static str> {
        let [old, new] = words else {
            return Err("wrong number of arguments");
        };
        self.config.renamed.push((old.clone(), new.clone()));
        match Names::new(&self.config.renamed) {
            Ok(_) => {}
            Err(NameError::Taken) => return Err("Target command name already exists"),
            Err(NameError::Unknown) => {
                self.config.renamed.pop();
                let old = String::from_utf8_lossy(old);
                self.notes.push(format!("rename-command: there is no command '{old}' to be renamed"));
            }
        }
        Ok(())
    }

    /// Notes a user. The default user is described anew, others are new.
    fn user(&mut self, words: &[Vec<u8>], wrong: impl Fn(String) -> ConfigError) -> Result<(), ConfigError> {
        let Some(name) = words.first() else {
            return Err(wrong("wrong number of arguments".to_owned()));
        };
        if self.users.iter().any(|(known, _)| known[0] == *name) {
            return Err(wrong("a user can only be defined once".to_owned()));
        }
        self.users.push((words.to_vec(), wrong(String::new()).source.expect("where it was written")));
        Ok(())
    }

    /// Makes the users, when it is known what new ones may do.
    fn make_users(&mut self) -> Result<(), ConfigError> {
        let channels = self.config.new_channels();
        for (words, source) in std::mem::take(&mut self.users) {
            let name = String::from_utf8_lossy(&words[0]).into_owned();
            let wrong = |why: String| ConfigError { source: Some(source), reason: format!("'user' {name}: {why}") };
            if !self.config.aclfile.is_empty() {
                return Err(wrong("users are described either in the aclfile or here, not in both".to_owned()));
            }
            let mut acl = (*self.config.acl).clone();
            if words[0] == acl::DEFAULT_USER {
                acl = acl.with_default_reset(channels);
            }
            let rules: Vec<&[u8]> = words[1..].iter().map(Vec::as_slice).collect();
            let acl = acl.with_user(&words[0], &rules, channels).map_err(|error| {
                wrong(match error {
                    acl::SetError::Name => "a name has no blanks and no zero bytes".to_owned(),
                    acl::SetError::Parenthesis(_) => "unmatched parenthesis in a selector".to_owned(),
                    // Other rules may be passwords.
                    acl::SetError::Rule(rule, error @ acl::RuleError::Unknown) => {
                        format!("{}: {error}", String::from_utf8_lossy(&rule))
                    }
                    acl::SetError::Rule(_, error) => error.to_string(),
                })
            })?;
            if acl.user(&words[0]).is_some_and(|user| user.is_off()) {
                self.notes.push(format!(
                    "The user '{name}' is disabled (there is no 'on' modifier in the user description). Make sure this is \
                     not a configuration error."
                ));
            }
            self.config.acl = acl.into();
        }
        Ok(())
    }

    /// Makes the users and finds, when all is read, what cannot be had together.
    pub fn check(&mut self) -> Result<(), ConfigError> {
        self.make_users()?;
        self.config.check().map_err(|(name, why)| {
            let source = self.sources.get(name).cloned();
            ConfigError { source, reason: format!("'{name}': {why}") }
        })
    }

    /// Ends reading a file: its absolute path is part of the configuration.
    pub fn came_from(&mut self, path: &str) {
        let absolute = std::path::absolute(Path::new(path));
        self.config.config_file = absolute.map_or_else(|_| path.to_owned(), |path| path.to_string_lossy().into_owned());
    }
}

/// The files that an `include` names: one, or in the order of their names those that match a pattern (perhaps none).
fn included(path: &str) -> Vec<String> {
    let (directory, pattern) = path.rsplit_once('/').map_or((".", path), |(directory, name)| (directory, name));
    if !pattern.contains(['*', '?', '[']) {
        return vec![path.to_owned()];
    }
    let Ok(entries) = std::fs::read_dir(if directory.is_empty() { "/" } else { directory }) else {
        return Vec::new();
    };
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let matches = |name: &String| glob::matches(pattern.as_bytes(), name.as_bytes(), glob::Case::Sensitive);
    // As a shell has it, a pattern does not find what begins with a dot.
    let mut names: Vec<String> = names.filter(|name| !name.starts_with('.') && matches(name)).collect();
    names.sort();
    names.iter().map(|name| format!("{directory}/{name}")).collect()
}

/// Splits a line into words; `None` if quotes are unbalanced or something other than a blank follows a closing one.
#[must_use]
pub fn split(line: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut words = Vec::new();
    let mut rest = line.trim_ascii_start();
    while !rest.is_empty() {
        let (word, behind) = split_one(rest)?;
        words.push(word);
        rest = behind.trim_ascii_start();
    }
    Some(words)
}

fn split_one(mut rest: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let mut word = Vec::new();
    loop {
        match rest {
            [] => return Some((word, rest)),
            [blank, ..] if blank.is_ascii_whitespace() || *blank == 0 => return Some((word, rest)),
            [quote @ (b'"' | b'\''), inner @ ..] => {
                rest = unquote(*quote, inner, &mut word)?;
                if rest.first().is_some_and(|byte| !byte.is_ascii_whitespace()) {
                    return None;
                }
            }
            [byte, behind @ ..] => {
                word.push(*byte);
                rest = behind;
            }
        }
    }
}

/// Copies up to the closing quote; returns what is behind it.
fn unquote<'a>(quote: u8, mut rest: &'a [u8], word: &mut Vec<u8>) -> Option<&'a [u8]> {
    loop {
        let (byte, behind) = match rest {
            [] => return None,
            [byte, behind @ ..] if *byte == quote => return Some(behind),
            [b'\\', b'\'', behind @ ..] if quote == b'\'' => (b'\'', behind),
            [b'\\', b'x', high, low, behind @ ..] if quote == b'"' && hex(*high).is_some() && hex(*low).is_some() => {
                (hex(*high)? << 4 | hex(*low)?, behind)
            }
            [b'\\', escaped, behind @ ..] if quote == b'"' => (escape(*escaped), behind),
            [byte, behind @ ..] => (*byte, behind),
        };
        word.push(byte);
        rest = behind;
    }
}

fn escape(byte: u8) -> u8 {
    match byte {
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'b' => 8,
        b'a' => 7,
        other => other,
    }
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Settings, ConfigError> {
        let mut settings = Settings::default();
        settings.read_text(text.as_bytes(), "eagle.conf", 0).map(|()| settings)
    }

    #[test]
    fn words_are_quoted_as_in_redis_conf() {
        // Both quotes, their escapes, and what sdssplitargs refuses.
        let words = |line: &str| {
            split(line.as_bytes())
                .map(|words| words.iter().map(|word| String::from_utf8_lossy(word).into_owned()).collect::<Vec<_>>())
        };
        assert_eq!(words("save \"\"").unwrap(), ["save", ""]);
        assert_eq!(words("a  'b c' \"d\\x41\\n\"\tf").unwrap(), ["a", "b c", "dA\n", "f"]);
        assert_eq!(words(r#"'it\'s' "\"" '\n'"#).unwrap(), ["it's", "\"", "\\n"]);
        for unbalanced in ["\"a", "'a", "\"a\"b", "'a'b"] {
            assert_eq!(words(unbalanced), None, "{unbalanced}");
        }
    }

    #[test]
    fn a_file_sets_what_it_names() {
        // Comments, case, blanks, several words, and the last of two lines wins.
        let settings = read(
            "# EagleDB\n\n  PORT 7000\r\nport 7001\nbind 127.0.0.1 -::1\nmaxmemory 1gb\nsave \"\"\n\
             client-output-buffer-limit normal 1mb 0 0\nrequirepass 'a b'\nzset-max-ziplist-entries 64\n",
        )
        .unwrap();
        assert_eq!(settings.config.port, 7001);
        assert_eq!(settings.config.bind, ["127.0.0.1", "-::1"]);
        assert_eq!(settings.config.maxmemory, 1 << 30);
        assert_eq!(settings.config.client_output_buffer_limit.normal.hard_bytes, 1 << 20);
        assert_eq!(settings.config.client_output_buffer_limit.pubsub.hard_bytes, 32 << 20);
        assert_eq!(settings.config.requirepass.0, b"a b");
        assert_eq!(settings.notes, ["directive 'zset-max-ziplist-entries' is accepted but has no effect"]);
    }

    #[test]
    fn an_error_names_the_line_and_the_remedy() {
        // One sentence each; a password is not repeated.
        for (text, complaint) in [
            ("port 1\nmaxclients 0", "line 2: 'maxclients': argument must be between 1 and 4294967295 inclusive"),
            ("foo bar", "line 1: 'foo': no such directive; --help lists all"),
            ("port \"70", "line 1: unbalanced quotes; close each quote, with a blank behind it"),
            ("port 1 2", "line 1: 'port': wrong number of arguments"),
            ("port", "line 1: 'port': wrong number of arguments"),
            ("requirepass one two", "line 1: 'requirepass': wrong number of arguments"),
            (
                "list-max-ziplist-entries 5\ntls-key-file-pass x",
                "line 2: 'tls-key-file-pass': keys with a passphrase are not supported; write the key without, into a file that nobody \
                 else can read",
            ),
            ("rename-command GET set", "line 1: 'rename-command': Target command name already exists"),
            ("rename-command GET", "line 1: 'rename-command': wrong number of arguments"),
            ("user a on\nuser a off", "line 2: 'user': a user can only be defined once"),
        ] {
            assert_eq!(read(text).unwrap_err().to_string(), format!("eagle.conf, {complaint}"));
        }
    }

    #[test]
    fn users_are_made_when_all_is_read() {
        // Whatever the order of lines: what new users may do, the file instead, and the password of the default user.
        let checked = |text: &str| {
            let mut settings = read(text).unwrap();
            settings.check().map(|()| settings).map_err(|error| error.to_string())
        };
        let users = |text: &str| {
            let lines = checked(text).unwrap().config.acl.lines();
            lines.into_iter().map(|line| String::from_utf8(line).unwrap()).collect::<Vec<_>>()
        };
        let open = "user default on nopass sanitize-payload ~* &* +@all";
        let a = users("user a on nopass (+get ~x)\nacl-pubsub-default allchannels");
        assert_eq!(a, ["user a on nopass sanitize-payload &* -@all (~x &* -@all +get)", open]);
        let default = users("user default on +get\nrequirepass x");
        assert_eq!(default, ["user default on sanitize-payload resetchannels -@all +get"]);
        for (text, complaint) in [
            ("user a on\naclfile x", "users are described either in the aclfile or here, not in both"),
            ("user a +nosuch", "+nosuch: Unknown command or category name in ACL"),
            ("user a (on", "unmatched parenthesis in a selector"),
            ("user a foo", "Syntax error"),
        ] {
            assert_eq!(checked(text).unwrap_err(), format!("eagle.conf, line 1: 'user' a: {complaint}"));
        }
    }

    #[test]
    fn files_include_files_but_not_themselves() {
        // What is included counts in its place; a circle is an error, as is a file that is not there.
        let dir = std::env::temp_dir().join(format!("eagle-config-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let (inner, circle) = (dir.join("inner.conf"), dir.join("circle.conf"));
        std::fs::write(&inner, "port 7002\n").unwrap();
        std::fs::write(&circle, format!("include {}\n", circle.display())).unwrap();
        assert_eq!(read(&format!("port 1\ninclude {}", inner.display())).unwrap().config.port, 7002);
        let circular = read(&format!("include {}", circle.display())).unwrap_err();
        assert!(circular.reason.contains("does a file include itself?"), "{circular}");
        std::fs::write(dir.join("zz.conf"), "port 7003\n").unwrap();
        assert_eq!(read(&format!("include {}/[iz]*.conf", dir.display())).unwrap().config.port, 7003);
        assert_eq!(read(&format!("port 1\ninclude {}/nothing*", dir.display())).unwrap().config.port, 1);
        let missing = read("include /nowhere/at.all").unwrap_err();
        assert!(missing.reason.starts_with("cannot read the configuration file '/nowhere/at.all': "), "{missing}");
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
