//! A refusal is why a request is not even begun: its name or its number of arguments.
//!
//! One text each, those of Redis 7.2 (`src/server.c: processCommand`), shared by everything that dispatches.

use eagle_resp::Args;

use super::lookup::{Lookup, subcommand};
use crate::{
    error::Error,
    spec::{Run, Spec},
};

/// Bytes of a name or of all arguments that are quoted.
const QUOTED_MAX: usize = 128;

/// What a request's name stands for.
#[derive(Clone, Copy, Debug)]
pub enum Named {
    /// This command.
    Row(&'static Spec),
    /// Nothing.
    Unknown,
    /// Nothing within this container.
    UnknownSubcommand(&'static Spec),
}

/// Finds what a request names, by its first argument or, in a container, by its first two. A container alone is a row, whose
/// arity nothing that short meets.
#[inline]
#[must_use]
pub fn find(lookup: &Lookup, args: Args<'_>) -> Named {
    let Some(row) = args.get(0).and_then(|name| lookup.find(name)) else {
        return Named::Unknown;
    };
    match (row.run, args.get(1)) {
        (Run::Container, Some(name)) => subcommand(row, name).map_or(Named::UnknownSubcommand(row), Named::Row),
        _ => Named::Row(row),
    }
}

/// Refuses a request whose number of arguments its row does not take.
#[inline]
pub fn check_arity(row: &'static Spec, args: Args<'_>) -> Result<(), Error> {
    if row.takes(args.len()) { Ok(()) } else { Err(Error::Arity(row.name)) }
}

/// The line for a name that is of no command, quoting the arguments.
#[must_use]
pub fn unknown_command(args: Args<'_>) -> Vec<u8> {
    let mut line = b"ERR unknown command '".to_vec();
    line.extend(args.get(0).into_iter().flat_map(|name| quoted(name, QUOTED_MAX)));
    line.extend_from_slice(b"', with args beginning with: ");
    let begin = line.len();
    for arg in args.iter().skip(1) {
        let used = line.len() - begin;
        if used >= QUOTED_MAX {
            break;
        }
        line.push(b'\'');
        line.extend(quoted(arg, QUOTED_MAX - used));
        line.extend_from_slice(b"' ");
    }
    line
}

/// The line for a subcommand that its container does not have.
#[must_use]
pub fn unknown_subcommand(container: &Spec, args: Args<'_>) -> Vec<u8> {
    let mut line = b"ERR unknown subcommand '".to_vec();
    line.extend(args.get(1).into_iter().flat_map(|name| quoted(name, QUOTED_MAX)));
    line.extend_from_slice(b"'. Try ");
    line.extend(container.name.bytes().map(|byte| byte.to_ascii_uppercase()));
    line.extend_from_slice(b" HELP.");
    line
}

/// The beginning of `arg`, as C prints it: not beyond a zero byte.
pub(super) fn quoted(arg: &[u8], len_max: usize) -> impl Iterator<Item = u8> {
    arg.iter().copied().take(len_max).take_while(|&byte| byte != 0)
}

#[cfg(test)]
mod tests {
    use eagle_resp::OwnedArgs;

    use super::*;
    use crate::command;

    fn args(line: &str) -> OwnedArgs {
        line.split(' ').map(str::as_bytes).collect()
    }

    #[test]
    fn a_name_leads_to_a_row_or_to_a_reason() {
        // A command, a subcommand, a container alone, and the two ways to be unknown.
        let lookup = Lookup::new(command::rows());
        let name = |line: &str| match find(&lookup, args(line).as_args()) {
            Named::Row(row) => row.name.to_owned(),
            Named::Unknown => "unknown".to_owned(),
            Named::UnknownSubcommand(row) => format!("unknown in {}", row.name),
        };
        assert_eq!(name("GET k"), "get");
        assert_eq!(name("object ENCODING k"), "object|encoding");
        assert_eq!(name("object"), "object");
        assert_eq!(name("object nothing"), "unknown in object");
        assert_eq!(name("nothing"), "unknown");
    }

    #[test]
    fn refusals_are_worded_as_redis_words_them() {
        // Asked of a Redis 7.0.15; names and arguments are cut off after 128 bytes.
        let line = |request: &str| String::from_utf8(unknown_command(args(request).as_args())).unwrap();
        assert_eq!(line("FOO a bc"), "ERR unknown command 'FOO', with args beginning with: 'a' 'bc' ");
        assert_eq!(line("FOO"), "ERR unknown command 'FOO', with args beginning with: ");
        let long = "x".repeat(200);
        let expected = format!("ERR unknown command '{0}', with args beginning with: '{0}' ", &long[..128]);
        assert_eq!(line(&format!("{long} {long} never")), expected);
        let object = args("object foo");
        let container = command::rows().find(|row| row.name == "object").unwrap();
        let line = unknown_subcommand(container, object.as_args());
        assert_eq!(line, b"ERR unknown subcommand 'foo'. Try OBJECT HELP.");
    }
}
