//! The slow log of a core: the last commands of its connections that took longer than `slowlog-log-slower-than`.
//!
//! Each core keeps its own, as many entries as the whole log may have; `SLOWLOG` puts them together. Numbers are the node's, so that
//! they grow over all cores. What a log shows of a command is cut as in Redis (`src/slowlog.c`), and what is secret in it is not shown.

use std::collections::VecDeque;

use eagle_resp::Args;
use eagle_shard::{command::args::is, spec::Spec};

/// Words of a command that are kept.
const WORDS_MAX: usize = 32;
/// Bytes of a word that are kept.
const WORD_BYTES_MAX: usize = 128;
/// What is shown of a secret.
pub const REDACTED: &[u8] = b"(redacted)";
/// Directives whose values are secret.
const SECRETS: [&str; 7] = [
    "requirepass",
    "masterauth",
    "primaryauth",
    "masteruser",
    "primaryuser",
    "tls-key-file-pass",
    "tls-client-key-file-pass",
];

/// A command that took long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Unique on this node, growing.
    pub id: u64,
    /// When it was executed, Unix seconds.
    pub unix_s: u64,
    /// How long it took, in microseconds.
    pub us: u64,
    /// Its words, as [`words`] cuts them.
    pub words: Vec<Vec<u8>>,
    /// The client's address; empty if it was gone.
    pub client: String,
    /// The client's name.
    pub name: Vec<u8>,
}

/// The slow log of a core.
#[derive(Debug, Default)]
pub struct SlowLog {
    /// The newest first.
    entries: VecDeque<Entry>,
}

impl SlowLog {
    /// Adds the newest; the oldest beyond `len_max` go.
    pub fn push(&mut self, entry: Entry, len_max: u64) {
        self.entries.push_front(entry);
        self.trim(len_max);
    }

    /// Drops the oldest beyond `len_max`.
    pub fn trim(&mut self, len_max: u64) {
        self.entries.truncate(usize::try_from(len_max).unwrap_or(usize::MAX));
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        self.entries = VecDeque::new();
    }

    /// The newest first.
    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter()
    }
}

/// What a log shows of a command: at most 32 words of at most 128 bytes, secrets redacted.
#[must_use]
pub fn words(spec: &Spec, args: Args<'_>) -> Vec<Vec<u8>> {
    let shown = args.len().min(WORDS_MAX);
    let word = |index: usize| {
        if shown < args.len() && index == shown - 1 {
            return format!("... ({} more arguments)", args.len() - shown + 1).into_bytes();
        }
        let word = if is_secret(spec, args, index) { REDACTED } else { &args[index] };
        if word.len() <= WORD_BYTES_MAX {
            return word.to_vec();
        }
        let more = format!("... ({} more bytes)", word.len() - WORD_BYTES_MAX);
        [&word[..WORD_BYTES_MAX], more.as_bytes()].concat()
    };
    (0..shown).map(word).collect()
}

/// Whether a word of a command is nobody's business: passwords, and all of users. As in Redis, but where that shows what follows a mistake.
#[must_use]
pub fn is_secret(spec: &Spec, args: Args<'_>, index: usize) -> bool {
    let follows = |word: &str, distance: usize| index > distance && is(&args[index - distance], word);
    match spec.name {
        "auth" => index > 0,
        "hello" => index > 2 && (follows("AUTH", 1) || follows("AUTH", 2) && index > 3),
        "acl|setuser" | "acl|deluser" | "acl|getuser" => index > 1,
        "config|set" => index > 2 && index % 2 == 1 && SECRETS.iter().any(|name| is(&args[index - 1], name)),
        "migrate" => index > 5 && (follows("AUTH", 1) || follows("AUTH2", 1) || follows("AUTH2", 2)),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use eagle_resp::OwnedArgs;

    use super::*;
    use crate::command;

    fn shown(name: &str, request: &str) -> String {
        let args: OwnedArgs = request.split(' ').map(str::as_bytes).collect();
        let spec = command::find_named(name.as_bytes()).map_or_else(|| command::named("get"), |row| row.spec);
        let words = words(spec, args.as_args());
        words.iter().map(|word| String::from_utf8_lossy(word)).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn words_are_cut_as_redis_cuts_them() {
        // 32 of them, the last of which says how many more there are; 128 bytes of one.
        assert_eq!(shown("mget", "MGET a b"), "MGET a b");
        let request = format!("MGET{}", " k".repeat(40));
        assert_eq!(shown("mget", &request), format!("MGET{} ... (10 more arguments)", " k".repeat(30)));
        assert_eq!(shown("mget", &format!("MGET{}", " k".repeat(31))), format!("MGET{}", " k".repeat(31)));
        let long = "x".repeat(130);
        assert_eq!(shown("get", &format!("GET {long}")), format!("GET {}... (2 more bytes)", &long[..128]));
    }

    #[test]
    fn secrets_are_not_shown() {
        // Passwords wherever they are given, also where the command is wrong; the words around them stay.
        for (name, request, expected) in [
            ("auth", "AUTH pw", "AUTH (redacted)"),
            ("auth", "auth user pw", "auth (redacted) (redacted)"),
            ("auth", "auth user pw more", "auth (redacted) (redacted) (redacted)"),
            ("hello", "HELLO 3 AUTH user pw SETNAME me", "HELLO 3 AUTH (redacted) (redacted) SETNAME me"),
            ("hello", "HELLO 3 SETNAME me AUTH user pw", "HELLO 3 SETNAME me AUTH (redacted) (redacted)"),
            ("hello", "HELLO 3 SETNAME me", "HELLO 3 SETNAME me"),
            ("config|set", "CONFIG SET port 1 requirepass pw", "CONFIG SET port 1 requirepass (redacted)"),
            ("config|set", "CONFIG SET MasterAuth pw dir x", "CONFIG SET MasterAuth (redacted) dir x"),
        ] {
            assert_eq!(shown(name, request), expected);
        }
    }

    #[test]
    fn the_oldest_go() {
        // Beyond the length, when one is added and when the length is changed.
        let entry = |id| Entry { id, unix_s: 0, us: 0, words: Vec::new(), client: String::new(), name: Vec::new() };
        let mut log = SlowLog::default();
        (0..5).for_each(|id| log.push(entry(id), 3));
        assert_eq!(log.entries().map(|entry| entry.id).collect::<Vec<_>>(), [4, 3, 2]);
        log.trim(1);
        assert_eq!(log.entries().count(), 1);
        log.clear();
        assert_eq!(log.entries().count(), 0);
    }
}
