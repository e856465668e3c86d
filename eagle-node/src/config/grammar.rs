//! A grammar is the form of a value that one directive has for itself. Each brings what was written to the spelling that
//! `CONFIG GET` shows; texts are Redis 7.2's.

use super::form::Wrong;

/// Which directive's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grammar {
    /// `save`: pairs of seconds and changes.
    SavePoints,
    /// `notify-keyspace-events`: letters that stand for classes of events.
    Events,
    /// `latency-tracking-info-percentiles`: numbers between 0 and 100.
    Percentiles,
    /// `oom-score-adj-values`: three numbers between -2000 and 2000.
    OomScores,
    /// `shutdown-on-sigterm`: options of `SHUTDOWN`.
    ShutdownOptions,
    /// `proc-title-template`: text with names of variables in braces.
    Title,
    /// `cluster-announce-hostname`.
    Hostname,
    /// `cluster-announce-human-nodename`.
    NodeName,
    /// `cluster-announce-client-ipv4`.
    Ipv4,
    /// `cluster-announce-client-ipv6`.
    Ipv6,
}

/// Letters of events in the order in which Redis prints them; `A` stands for all of the first ten.
const EVENTS: [u8; 14] = *b"g$lshzxetdnKEm";
const ALL_EVENTS: usize = 10;

/// What the nodes of a cluster could not tell each other within a name.
const NOT_IN_NODE_NAMES: &[u8] = b"!#$%&()*+;<>?@[]^{|}~";

const SHUTDOWN_OPTIONS: &[&str] = &["default", "save", "nosave", "now", "force"];

const TITLE_VARIABLES: [&str; 7] =
    ["title", "listen-addr", "server-mode", "port", "tls-port", "unixsocket", "config-file"];

impl Grammar {
    /// Parses what was written, to what is printed.
    pub fn parse(self, text: &[u8]) -> Result<String, Wrong> {
        let text = str::from_utf8(text).map_err(|_| Wrong::NotUtf8)?;
        let words: Vec<&str> = text.split_ascii_whitespace().collect();
        match self {
            Self::SavePoints => save_points(&words),
            Self::Events => events(text),
            Self::Percentiles => percentiles(&words),
            Self::OomScores => oom_scores(&words),
            Self::ShutdownOptions => shutdown_options(&words),
            Self::Title => title(text),
            Self::Hostname => hostname(text),
            Self::NodeName if text.bytes().any(|byte| NOT_IN_NODE_NAMES.contains(&byte)) => {
                Err(Wrong::Grammar("Announced human node name contained invalid character"))
            }
            Self::NodeName => Ok(text.to_owned()),
            Self::Ipv4 if text.is_empty() || text.parse::<std::net::Ipv4Addr>().is_ok() => Ok(text.to_owned()),
            Self::Ipv4 => Err(Wrong::Grammar("Invalid IPv4 address")),
            Self::Ipv6 if text.is_empty() || text.parse::<std::net::Ipv6Addr>().is_ok() => Ok(text.to_owned()),
            Self::Ipv6 => Err(Wrong::Grammar("Invalid IPv6 address")),
        }
    }

    /// Whether a line of the file may hold several words.
    #[must_use]
    pub fn takes_words(self) -> bool {
        matches!(self, Self::SavePoints | Self::Percentiles | Self::OomScores | Self::ShutdownOptions)
    }

    /// In words, for the help.
    #[must_use]
    pub fn describe(self) -> &'static str {
        match self {
            Self::SavePoints => "seconds changes",
            Self::Events => "letters of events",
            Self::Percentiles => "percentiles",
            Self::OomScores => "three numbers",
            Self::ShutdownOptions => "options of SHUTDOWN",
            Self::Title => "template",
            Self::Hostname => "host name",
            Self::NodeName => "name",
            Self::Ipv4 => "IPv4 address",
            Self::Ipv6 => "IPv6 address",
        }
    }

    /// A value, as it is printed: for tests.
    #[must_use]
    pub fn example(self) -> &'static str {
        match self {
            Self::SavePoints => "3600 1 300 100",
            Self::Events => "AKE",
            Self::Percentiles => "50 99.5",
            Self::OomScores => "-1 0 2000",
            Self::ShutdownOptions => "nosave force",
            Self::Title => "{title} {port}",
            Self::Hostname => "node-1.example",
            Self::NodeName => "node-1",
            Self::Ipv4 => "192.0.2.1",
            Self::Ipv6 => "2001:db8::1",
        }
    }
}

fn save_points(words: &[&str]) -> Result<String, Wrong> {
    let number = |word: &&str| word.parse::<i64>().ok();
    let right = |pair: &[&str]| {
        number(&pair[0]).is_some_and(|seconds| seconds >= 1) && number(&pair[1]).is_some_and(|changes| changes >= 0)
    };
    if words.len().is_multiple_of(2) && words.chunks_exact(2).all(right) {
        Ok(words.join(" "))
    } else {
        Err(Wrong::Grammar("Invalid save parameters"))
    }
}

fn events(text: &str) -> Result<String, Wrong> {
    let mut chosen = [false; EVENTS.len()];
    for letter in text.bytes() {
        match EVENTS.iter().position(|known| *known == letter) {
            Some(index) => chosen[index] = true,
            None if letter == b'A' => chosen[..ALL_EVENTS].fill(true),
            None => return Err(Wrong::Grammar("Invalid event class character. Use 'Ag$lshzxeKEtmdn'.")),
        }
    }
    let all = chosen[..ALL_EVENTS].iter().all(|is| *is);
    let from = if all { ALL_EVENTS } else { 0 };
    let letters = EVENTS.iter().zip(chosen).skip(from).filter(|(_, is)| *is).map(|(letter, _)| char::from(*letter));
    Ok(all.then_some('A').into_iter().chain(letters).collect())
}

fn percentiles(words: &[&str]) -> Result<String, Wrong> {
    for word in words {
        match word.parse::<f64>() {
            Ok(percentile) if (0.0..=100.0).contains(&percentile) => {}
            Ok(_) => {
                return Err(Wrong::Grammar(
                    "latency-tracking-info-percentiles parameters should sit between [0.0,100.0]",
                ));
            }
            Err(_) => return Err(Wrong::Grammar("Invalid latency-tracking-info-percentiles parameters")),
        }
    }
    Ok(words.join(" "))
}

fn oom_scores(words: &[&str]) -> Result<String, Wrong> {
    if words.len() != 3 {
        return Err(Wrong::WordCount);
    }
    let right = |word: &&str| word.parse::<i64>().is_ok_and(|score| (-2000..=2000).contains(&score));
    if words.iter().all(right) {
        Ok(words.join(" "))
    } else {
        Err(Wrong::Grammar("Invalid oom-score-adj-values, elements must be between -2000 and 2000."))
    }
}

fn shutdown_options(words: &[&str]) -> Result<String, Wrong> {
    let mut chosen = [false; SHUTDOWN_OPTIONS.len()];
    for word in words {
        let index = SHUTDOWN_OPTIONS.iter().position(|option| option.eq_ignore_ascii_case(word));
        chosen[index.ok_or(Wrong::NoneOf(SHUTDOWN_OPTIONS))?] = true;
    }
    if words.is_empty() {
        return Err(Wrong::NoneOf(SHUTDOWN_OPTIONS));
    }
    if chosen[1] && chosen[2] {
        return Err(Wrong::Grammar("shutdown options SAVE and NOSAVE can't be used simultaneously"));
    }
    let options: Vec<&str> =
        SHUTDOWN_OPTIONS.iter().zip(chosen).skip(1).filter(|(_, is)| *is).map(|(option, _)| *option).collect();
    Ok(if options.is_empty() { "default".to_owned() } else { options.join(" ") })
}

fn title(text: &str) -> Result<String, Wrong> {
    const WRONG: Wrong = Wrong::Grammar("template format is invalid or contains unknown variables");
    let mut rest = text;
    while let Some((_, behind)) = rest.split_once('{') {
        let (variable, behind) = behind.split_once('}').ok_or(WRONG)?;
        if !TITLE_VARIABLES.contains(&variable) {
            return Err(WRONG);
        }
        rest = behind;
    }
    if text.is_empty() { Err(WRONG) } else { Ok(text.to_owned()) }
}

fn hostname(text: &str) -> Result<String, Wrong> {
    if text.len() >= 256 {
        return Err(Wrong::Grammar("Hostnames must be less than 256 characters"));
    }
    if text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-.".contains(&byte)) {
        Ok(text.to_owned())
    } else {
        Err(Wrong::Grammar("Hostnames may only contain alphanumeric characters, hyphens or dots"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_shown_as_redis_shows_them() {
        // Recorded from redis-server 7.0.15: letters and options in an order of their own, what is all of them in short.
        for (grammar, written, shown) in [
            (Grammar::Events, "KEA", "AKE"),
            (Grammar::Events, "Kn", "nK"),
            (Grammar::Events, "Agx", "A"),
            (Grammar::Events, "m$", "$m"),
            (Grammar::Events, "KE$lshzxetdn", "$lshzxetdnKE"),
            (Grammar::Events, "$lshgzxetd", "A"),
            (Grammar::Events, "", ""),
            (Grammar::Percentiles, "50 50  1.123456", "50 50 1.123456"),
            (Grammar::Percentiles, "", ""),
            (Grammar::OomScores, "5 1 9", "5 1 9"),
            (Grammar::ShutdownOptions, "now SAVE", "save now"),
            (Grammar::ShutdownOptions, "default save", "save"),
            (Grammar::SavePoints, "900 1", "900 1"),
            (Grammar::Title, "{title} {port}", "{title} {port}"),
        ] {
            assert_eq!(grammar.parse(written.as_bytes()).as_deref(), Ok(shown), "{grammar:?} {written}");
        }
    }

    #[test]
    fn complaints_read_as_those_of_redis() {
        // Recorded from redis-server 7.0.15 and Valkey 9.1.2.
        for (grammar, text, complaint) in [
            (Grammar::Events, "q", "Invalid event class character. Use 'Ag$lshzxeKEtmdn'."),
            (Grammar::Percentiles, "abc", "Invalid latency-tracking-info-percentiles parameters"),
            (
                Grammar::Percentiles,
                "101",
                "latency-tracking-info-percentiles parameters should sit between [0.0,100.0]",
            ),
            (Grammar::OomScores, "0 1", "wrong number of arguments"),
            (Grammar::OomScores, "0 1 x", "Invalid oom-score-adj-values, elements must be between -2000 and 2000."),
            (Grammar::Title, "{foo}", "template format is invalid or contains unknown variables"),
            (Grammar::Title, "{title", "template format is invalid or contains unknown variables"),
            (Grammar::Title, "", "template format is invalid or contains unknown variables"),
            (
                Grammar::ShutdownOptions,
                "",
                "argument(s) must be one of the following: default, save, nosave, now, force",
            ),
            (Grammar::ShutdownOptions, "save nosave", "shutdown options SAVE and NOSAVE can't be used simultaneously"),
            (Grammar::SavePoints, "900", "Invalid save parameters"),
            (Grammar::SavePoints, "0 1", "Invalid save parameters"),
            (Grammar::SavePoints, "1 -1", "Invalid save parameters"),
            (Grammar::NodeName, "50%", "Announced human node name contained invalid character"),
            (Grammar::Hostname, "a b", "Hostnames may only contain alphanumeric characters, hyphens or dots"),
            (Grammar::Ipv4, "zzz", "Invalid IPv4 address"),
            (Grammar::Ipv6, "127.0.0.1", "Invalid IPv6 address"),
        ] {
            assert_eq!(grammar.parse(text.as_bytes()).unwrap_err().to_string(), complaint, "{grammar:?} {text}");
        }
    }
}
