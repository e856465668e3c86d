//! Names are what clients call commands by: those of the table, but for what `rename-command` has given another name or none.
//!
//! Only clients' requests are concerned. ACL rules, COMMAND, statistics and cores among themselves speak of commands by their own
//! names.

use eagle_resp::Args;

use super::{Found, Row, find, rows, within};

/// Names that are not those of the table.
#[derive(Debug)]
pub struct Names {
    /// A name, and what it is of now. Few, so looking through them is quick.
    changed: Vec<(Vec<u8>, Option<&'static Row>)>,
}

/// Why a command cannot be renamed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameError {
    /// No command has the old name.
    Unknown,
    /// A command has the new name.
    Taken,
}

impl Names {
    /// The names after each of these commands got another one, or none at all if that is empty; `None` if all are as in the table.
    ///
    /// # Errors
    /// The last one cannot be given.
    pub fn new(renamed: &[(Vec<u8>, Vec<u8>)]) -> Result<Option<Self>, NameError> {
        let mut names = Self { changed: Vec::new() };
        for (old, new) in renamed {
            let row = names.row(old).ok_or(NameError::Unknown)?;
            if !new.is_empty() && names.row(new).is_some() {
                return Err(NameError::Taken);
            }
            names.set(old, None);
            if !new.is_empty() {
                names.set(new, Some(row));
            }
        }
        Ok(Some(names).filter(|names| !names.changed.is_empty()))
    }

    fn set(&mut self, name: &[u8], row: Option<&'static Row>) {
        self.changed.retain(|(known, _)| !known.eq_ignore_ascii_case(name));
        self.changed.push((name.to_vec(), row));
    }

    fn row(&self, name: &[u8]) -> Option<&'static Row> {
        let is_it = |own: &[u8]| own.eq_ignore_ascii_case(name);
        match self.changed.iter().find(|(known, _)| is_it(known)) {
            Some((_, row)) => *row,
            None => rows().find(|row| is_it(row.spec.name.as_bytes())),
        }
    }

    /// What a request means.
    #[must_use]
    pub fn find(&self, args: Args<'_>) -> Found {
        let name = args.get(0).unwrap_or_default();
        match self.changed.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)) {
            None => find(args),
            Some((_, None)) => Found::Unknown,
            Some((_, Some(row))) => within(row, args),
        }
    }
}

#[cfg(test)]
mod tests {
    use eagle_resp::OwnedArgs;

    use super::*;

    fn names(renamed: &[(&str, &str)]) -> Result<Option<Names>, NameError> {
        let bytes = |(old, new): &(&str, &str)| (old.as_bytes().to_vec(), new.as_bytes().to_vec());
        Names::new(&renamed.iter().map(bytes).collect::<Vec<_>>())
    }

    #[test]
    fn commands_have_other_names_or_none() {
        // A name that was given away is free for another; a container's subcommands go with it.
        let names =
            names(&[("flushall", ""), ("CONFIG", "secret"), ("get", "config"), ("GETDEL", "get")]).unwrap().unwrap();
        let found = |request: &str| {
            let args: OwnedArgs = request.split(' ').map(str::as_bytes).collect();
            match names.find(args.as_args()) {
                Found::Row(row) => row.spec.name,
                Found::Unknown => "?",
                Found::UnknownSubcommand(_) => "??",
            }
        };
        let requests = ["FLUSHALL", "Secret SET a b", "secret nosuch", "config a", "GET a", "getdel a", "set a b"];
        assert_eq!(requests.map(found), ["?", "config|set", "??", "get", "getdel", "?", "set"]);
    }

    #[test]
    fn a_name_is_of_one_command() {
        assert!(matches!(names(&[]), Ok(None)));
        assert_eq!(names(&[("nosuch", "")]).unwrap_err(), NameError::Unknown);
        assert_eq!(names(&[("get", ""), ("get", "a")]).unwrap_err(), NameError::Unknown);
        assert_eq!(names(&[("get", "SET")]).unwrap_err(), NameError::Taken);
    }
}
