//! The annotated default configuration: every directive that acts, with its documentation, what its value may be and its default, in a
//! line that is commented out. So a file that was installed once follows the defaults of the version that reads it.
//!
//! A comment of words begins with `# `, a directive that is commented out with `#` alone. Without these all lines together are
//! the defaults again (a test says so).

use super::{
    rewrite::quoted,
    table::{Directive, Place, TABLE},
};

/// Bytes of a line of comment, at most.
const WIDTH: usize = 100;

const HEAD: &str = "\
# The configuration of EagleDB: every directive that acts, at its default. Remove the # in front of one to change it.
#
# Lines are `directive value...` as in redis.conf; sizes take kb, mb and gb. A later line wins over an earlier one, the environment
# (EAGLE_CONF_MAXMEMORY=2gb) over this file, flags (--maxmemory 2gb) over both. `CONFIG SET` changes what is not marked \"only at
# start\" while serving. `include FILE` reads another file in place.
#
# Made by `eagle-node generate config`; `eagle-node doctor FILE` says whether this machine is fit for it.
";

/// The whole file.
#[must_use]
pub fn annotated() -> String {
    let mut text = HEAD.to_owned();
    for row in TABLE.iter().filter(|row| row.acts() && !row.hidden) {
        let when = if row.live { "" } else { ", only at start" };
        let alias = row.alias.map(|alias| format!(" Redis' name for it is {alias}.")).unwrap_or_default();
        let doc = format!("{} ({}{when}).{alias}", capitalised(row.doc), row.form.describe());
        text.push('\n');
        text.push_str(&commented(&doc));
        text.push_str(&format!("#{} {}\n", row.name, value(row)));
    }
    let waiting = TABLE.iter().filter(|row| matches!(row.place, Place::Only(_))).map(|row| row.name);
    text.push_str("\n# These wait for a part of EagleDB that is not there yet, and are refused until then:\n");
    text.push_str(&commented(&waiting.collect::<Vec<_>>().join(" ")));
    let kept = TABLE.iter().filter(|row| matches!(row.place, Place::Kept) && !row.hidden).map(|row| row.name);
    text.push_str("\n# These of Redis are accepted, shown by CONFIG GET, and have no effect:\n");
    text.push_str(&commented(&kept.collect::<Vec<_>>().join(" ")));
    text
}

/// The default as a line of a file has it.
fn value(row: &Directive) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./:".contains(&byte);
    if !row.default.is_empty() && (row.form.takes_words() || row.default.bytes().all(is_plain)) {
        return row.default.to_owned();
    }
    String::from_utf8(quoted(row.default.as_bytes())).expect("defaults are text")
}

fn capitalised(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}

/// Words as lines of comment.
fn commented(text: &str) -> String {
    let mut lines = String::new();
    let mut line = String::from("#");
    for word in text.split(' ') {
        if line.len() > 1 && line.len() + 1 + word.len() > WIDTH {
            lines.push_str(&line);
            lines.push('\n');
            line.truncate(1);
        }
        line.push(' ');
        line.push_str(word);
    }
    lines + &line + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, file::Settings};

    #[test]
    fn its_lines_are_the_defaults() {
        // As it is, and with every directive in force; each that acts is there once.
        let text = annotated();
        let mut settings = Settings::default();
        settings.read_text(text.as_bytes(), "eagledb.conf", 0).unwrap();
        assert_eq!(settings.config, Config::default());
        let active =
            |line: &str| line.strip_prefix('#').filter(|rest| rest.starts_with(char::is_alphabetic)).map(str::to_owned);
        let lines: Vec<String> = text.lines().filter_map(active).collect();
        let wanted = TABLE.iter().filter(|row| row.acts() && !row.hidden).count();
        assert_eq!(lines.len(), wanted);
        settings.read_text(lines.join("\n").as_bytes(), "eagledb.conf", 0).unwrap();
        settings.check().unwrap();
        // Said or not, they are what holds without.
        (settings.config.sync, settings.config.appendonly) = (None, None);
        assert_eq!(settings.config, Config::default());
        assert!(settings.notes.is_empty(), "{:?}", settings.notes);
    }
}
