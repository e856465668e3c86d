//! The file of users, `aclfile`: a line `user name rules...` each, as `ACL LIST` prints them. Read at start and by `ACL LOAD`, written by
//! `ACL SAVE`; all of it is taken over or nothing.
//!
//! As Redis 7.2 (`src/acl.c: ACLLoadFromFile`), words are what stands between single blanks, there are no quotes and no comments, and
//! all mistakes of a file are complained of in one line.

use std::{fs, path::Path};

use super::{
    Acl, RuleError, User,
    selector::{Channels, has_blanks},
    user,
};
use crate::config::{Config, rewrite};

/// What follows the complaints about a file.
const NOTHING_DONE: &str = "WARNING: ACL errors detected, no change to the previously active ACL rules was performed";

/// The configuration with the users of its file, if it has one.
///
/// # Errors
/// What is wrong with the file, in Redis' words.
pub fn load(config: &Config) -> Result<Config, String> {
    let path = &config.aclfile;
    let text = fs::read(path).map_err(|error| {
        let error = error.to_string();
        let error = error.split(" (os error").next().unwrap_or(&error);
        format!("Error loading ACLs, opening file '{path}': {error}")
    })?;
    let read = parse(&text, path, config.new_channels())?;
    Ok(Config { acl: read.replacing(&config.acl).into(), ..config.clone() })
}

/// Writes the users of a configuration to its file.
///
/// # Errors
/// The file system refuses; the old file is then as it was.
pub fn save(config: &Config) -> std::io::Result<()> {
    let text: Vec<u8> = config.acl.lines().into_iter().flat_map(|line| [line, vec![b'\n']].concat()).collect();
    rewrite::replace(Path::new(&config.aclfile), &text)
}

/// The users of a file's text; `path` names it in complaints.
///
/// # Errors
/// All complaints, in one line.
pub(super) fn parse(text: &[u8], path: &str, channels: Channels) -> Result<Acl, String> {
    let mut complaints = String::new();
    let mut acl = Acl { users: Default::default(), next: 0 };
    for (number, line) in (1..).zip(text.split(|byte| *byte == b'\n')) {
        let line = line.trim_ascii();
        if !line.is_empty()
            && let Err(complaint) = add(&mut acl, line, &format!("{path}:{number}"), channels)
        {
            complaints += &complaint;
        }
    }
    if complaints.is_empty() { Ok(acl) } else { Err(complaints + NOTHING_DONE) }
}

/// Adds the user of a line; `place` names the line.
fn add(acl: &mut Acl, line: &[u8], place: &str, channels: Channels) -> Result<(), String> {
    let words: Vec<&[u8]> = line.split(|byte| *byte == b' ').collect();
    let [b"user", name, rules @ ..] = words.as_slice() else {
        return Err(format!("{place} should start with user keyword followed by the username. "));
    };
    let shown = String::from_utf8_lossy(name);
    if has_blanks(name) {
        return Err(format!("'{place}: username '{shown}' contains invalid characters. "));
    }
    if acl.users.contains_key(*name) {
        let number = place.rsplit(':').next().unwrap_or_default();
        return Err(format!("WARNING: Duplicate user '{shown}' found on line {number}. "));
    }
    let mut user = User::new(name, 0, channels);
    let mut complaints = String::new();
    let mut is_said = false;
    match user::merged(rules) {
        Err(_) => complaints = format!("{place}: Unmatched parenthesis in selector definition."),
        Ok(rules) => {
            for rule in rules.iter().map(|rule| rule.trim_ascii()) {
                match user.apply(rule, channels) {
                    Ok(()) => {}
                    // What is not there may be told: it is no secret.
                    Err(error @ RuleError::Unknown) => {
                        let rule = String::from_utf8_lossy(rule);
                        complaints += &format!("{place}: Error in applying operation '{rule}': {error}. ");
                    }
                    // Of other mistakes only the first: the others may follow from it.
                    Err(error) if !is_said => {
                        complaints += &format!("{place}: {error}. ");
                        is_said = true;
                    }
                    Err(_) => {}
                }
            }
        }
    }
    acl.users.insert(name.to_vec(), user.into());
    if complaints.is_empty() { Ok(()) } else { Err(complaints) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_mistakes_are_complained_of_in_one_line() {
        // Recorded from Valkey 8.1.8.
        let text = b"user a on nopass ~x +get +nosuch foo\nuser a on\nfoo\nuser\nuser b (+get\n  user c on \"a\n\n";
        let complaint = parse(text, "users.acl", Channels::None).unwrap_err();
        assert_eq!(
            complaint,
            "users.acl:1: Error in applying operation '+nosuch': Unknown command or category name in ACL. users.acl:1: \
             Syntax error. WARNING: Duplicate user 'a' found on line 2. users.acl:3 should start with user keyword \
             followed by the username. users.acl:4 should start with user keyword followed by the username. users.acl:5: \
             Unmatched parenthesis in selector definition.users.acl:6: Syntax error. WARNING: ACL errors detected, no \
             change to the previously active ACL rules was performed"
        );
    }

    #[test]
    fn what_is_written_is_read_again() {
        // Users of every kind of rule, as lines and back.
        let text = "user a on sanitize-payload #30c952fab122c3f9759f02a6d95c3758b246b4fee239957b2d4fee46e26170c4 ~x* %R~y \
            resetchannels &c -@all +@read -mget +config|get +select|0 (~z resetchannels -@all +set) (&* +@all)\n\
            user b off nopass skip-sanitize-payload ~* &* +@all -@dangerous\n";
        let acl = parse(text.as_bytes(), "users.acl", Channels::None).unwrap();
        let lines: Vec<u8> = acl.lines().into_iter().flat_map(|line| [line, vec![b'\n']].concat()).collect();
        assert_eq!(String::from_utf8(lines).unwrap(), text);
    }
}
