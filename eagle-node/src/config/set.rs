//! `CONFIG GET` and `CONFIG SET` on a configuration value: patterns in, pairs out; pairs in, all or none.
//!
//! Pure: the command of that name brings the arguments and publishes the result. Texts are Redis 7.2's.

use std::{fmt, io};

use eagle_shard::glob;

use super::{
    Config,
    form::Wrong,
    table::{self, Directive, Place, TABLE},
};

/// Why `CONFIG SET` changed nothing. Prints as the error line behind `ERR `.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SetError {
    /// No directive of this name.
    Unknown(Vec<u8>),
    /// The directive of this name (as it was given) cannot take its value.
    Refused(Vec<u8>, Refusal),
}

/// Why a directive cannot take its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It is read at start only.
    Immutable,
    /// This client may not set it.
    Protected,
    /// It is named twice.
    Duplicate,
    /// The value is wrong.
    Wrong(Wrong),
    /// Nobody can listen on this port.
    Port,
    /// Nobody can listen on these addresses.
    Bind,
    /// TLS cannot be spoken so.
    Tls,
    /// The system refuses it, with this error number.
    System(i32),
}

impl fmt::Display for SetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown(name) => {
                let name = String::from_utf8_lossy(name);
                write!(f, "Unknown option or number of arguments for CONFIG SET - '{name}'")
            }
            Self::Refused(name, refusal) => {
                let name = String::from_utf8_lossy(name);
                write!(f, "CONFIG SET failed (possibly related to argument '{name}') - ")?;
                match refusal {
                    Refusal::Immutable => f.write_str("can't set immutable config"),
                    Refusal::Protected => f.write_str("can't set protected config"),
                    Refusal::Duplicate => f.write_str("duplicate parameter"),
                    Refusal::Wrong(wrong) => write!(f, "{wrong}"),
                    Refusal::Port => f.write_str("Unable to listen on this port. Check server logs."),
                    Refusal::Bind => f.write_str("Failed to bind to specified addresses."),
                    Refusal::Tls => f.write_str("Unable to update TLS configuration. Check server logs."),
                    Refusal::System(code) => {
                        let text = io::Error::from_raw_os_error(*code).to_string();
                        f.write_str(text.split(" (os error").next().unwrap_or(&text))
                    }
                }
            }
        }
    }
}

impl Config {
    /// A configuration with these directives changed: all of them, or an error. `is_local`: a client of this host asks.
    ///
    /// # Errors
    ///
    /// Names the directive as the client wrote it, or if its value is wrong in lower case, as Redis does.
    pub fn with(&self, pairs: &[(&[u8], &[u8])], is_local: bool) -> Result<Self, SetError> {
        let mut rows: Vec<&'static Directive> = Vec::with_capacity(pairs.len());
        for (at, (name, _)) in pairs.iter().enumerate() {
            let refused = |refusal| Err(SetError::Refused(name.to_vec(), refusal));
            let Some(row) = table::find(name) else {
                return Err(SetError::Unknown(name.to_vec()));
            };
            if row.protected && !self.enable_protected_configs.to(is_local) {
                return refused(Refusal::Protected);
            }
            if !row.live {
                return refused(Refusal::Immutable);
            }
            // An alias is a name of its own: both are set, in their order.
            if pairs[..at].iter().any(|(earlier, _)| earlier.eq_ignore_ascii_case(name)) {
                return refused(Refusal::Duplicate);
            }
            rows.push(row);
        }
        let mut changed = self.clone();
        for (row, (name, value)) in rows.iter().zip(pairs) {
            let refused = |wrong| SetError::Refused(name.to_ascii_lowercase(), Refusal::Wrong(wrong));
            row.set(&mut changed, value).map_err(refused)?;
        }
        changed.check().map_err(|(name, why)| {
            SetError::Refused(name.as_bytes().to_vec(), Refusal::Wrong(Wrong::NotAvailable(why)))
        })?;
        Ok(changed)
    }

    /// Whether the runtime has to act for one of these, before it is published.
    #[must_use]
    pub fn concerns_runtime(pairs: &[(&[u8], &[u8])]) -> bool {
        pairs.iter().any(|(name, _)| table::find(name).is_some_and(|row| row.by_runtime))
    }

    /// Names and values of the directives that one of the patterns names, each once. A plain name is answered as it
    /// was written, in its case; patterns match without regard to case.
    #[must_use]
    pub fn matching(&self, patterns: &[&[u8]]) -> Vec<(Vec<u8>, Vec<u8>)> {
        let mut config = self.clone();
        let mut found: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
        let mut add = |name: &[u8], row: &Directive| {
            if !found.iter().any(|(earlier, _)| earlier.eq_ignore_ascii_case(name)) {
                found.push((name.to_vec(), row.get(&mut config)));
            }
        };
        for pattern in patterns {
            if !pattern.iter().any(|byte| b"*?[".contains(byte)) {
                if let Some(row) = table::find(pattern) {
                    add(pattern, row);
                }
                continue;
            }
            let matches = |name: &&str| glob::matches(pattern, name.as_bytes(), glob::Case::Ignore);
            for row in TABLE.iter().filter(|row| !row.hidden) {
                for name in std::iter::once(row.name).chain(row.alias).filter(matches) {
                    add(name.as_bytes(), row);
                }
            }
        }
        found
    }

    /// The value of the directive of this name, as `CONFIG GET` shows it.
    ///
    /// # Panics
    ///
    /// If there is no such directive.
    #[must_use]
    pub fn value(&self, name: &str) -> String {
        let row = table::find(name.as_bytes()).expect("a directive of the table");
        String::from_utf8_lossy(&row.get(&mut self.clone())).into_owned()
    }

    /// Which of the names are of a directive that has no effect, for the log.
    #[must_use]
    pub fn without_effect(names: &[&[u8]]) -> Vec<&'static str> {
        let without = |row: &&Directive| matches!(row.place, Place::Kept) && row.name != "save";
        names.iter().filter_map(|name| table::find(name)).filter(without).map(|row| row.name).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::{super::Allowed, *};

    fn set(pairs: &[(&str, &str)]) -> Result<Config, String> {
        let pairs: Vec<(&[u8], &[u8])> = pairs.iter().map(|(a, b)| (a.as_bytes(), b.as_bytes())).collect();
        Config::default().with(&pairs, true).map_err(|error| error.to_string())
    }

    #[test]
    fn several_pairs_change_all_or_none() {
        // The second pair's error leaves the first without effect: there is no new configuration at all.
        let changed = set(&[("timeout", "7"), ("MaxClients", "8")]).unwrap();
        assert_eq!((changed.timeout, changed.maxclients), (7, 8));
        let both = set(&[("hash-max-ziplist-value", "7"), ("hash-max-listpack-value", "8")]).unwrap();
        assert_eq!(both.hash_max_listpack_value, 8, "an alias is another name");
        assert!(set(&[("timeout", "7"), ("maxclients", "x")]).is_err());
    }

    #[test]
    fn errors_read_as_those_of_redis() {
        // Recorded from redis-server 7.0.15.
        for (pairs, complaint) in [
            (
                &[("maxclients", "0")][..],
                "CONFIG SET failed (possibly related to argument 'maxclients') - \
                 argument must be between 1 and 4294967295 inclusive",
            ),
            (&[("nosuch", "1")], "Unknown option or number of arguments for CONFIG SET - 'nosuch'"),
            (
                &[("databases", "3"), ("bogus", "1")],
                "CONFIG SET failed (possibly related to argument 'databases') - can't set immutable config",
            ),
            (
                &[("dbfilename", "other")],
                "CONFIG SET failed (possibly related to argument 'dbfilename') - can't set protected config",
            ),
            (&[("timeout", "x"), ("bogus", "1")], "Unknown option or number of arguments for CONFIG SET - 'bogus'"),
            (
                &[("databases", "3")],
                "CONFIG SET failed (possibly related to argument 'databases') - can't set immutable config",
            ),
            (
                &[("hz", "10"), ("HZ", "10")],
                "CONFIG SET failed (possibly related to argument 'HZ') - duplicate parameter",
            ),
        ] {
            assert_eq!(set(pairs).unwrap_err(), complaint);
        }
    }

    #[test]
    fn protected_directives_are_set_by_those_who_may() {
        // With `local` by clients of this host, with `yes` by all, and never otherwise.
        let pair: &[(&[u8], &[u8])] = &[(b"dbfilename", b"other")];
        for (allowed, remote, local) in
            [(Allowed::No, false, false), (Allowed::Local, false, true), (Allowed::Yes, true, true)]
        {
            let config = Config { enable_protected_configs: allowed, ..Config::default() };
            assert_eq!(config.with(pair, false).is_ok(), remote);
            assert_eq!(config.with(pair, true).is_ok(), local);
        }
    }

    #[test]
    fn patterns_and_names_find_directives_once() {
        // A plain name keeps its case, an alias is a name of its own, and nothing comes twice.
        let found = Config::default().matching(&[b"HZ", b"hz", b"*-max-ziplist-VALUE", b"nosuch", b"*exit-on-panic"]);
        let names: Vec<_> = found.iter().map(|(name, _)| str::from_utf8(name).unwrap()).collect();
        assert_eq!(names, ["HZ", "hash-max-ziplist-value", "zset-max-ziplist-value"]);
        assert_eq!(found[0].1, b"10");
        assert_eq!(Config::default().matching(&[b"use-exit-on-panic"]).len(), 1, "what is hidden has to be named");
    }
}
