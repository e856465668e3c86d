//! A lookup finds a command's row by the name that a client sent, in any case.
//!
//! ```text
//!            name, lower case       hash of head and length       entry: head │ row
//!  "GeTrAnGe" ───────────────▶ head "getrange", length 8 ───────────▶ first free or equal place
//! ```
//!
//! The first eight bytes of the name in lower case are its head, one word; with the length they decide the place in
//! an open-addressed table that is at most a quarter full. Only a row with the same head has its name compared.
//! A name is found in a few nanoseconds, without a copy. A container's subcommands are few and are gone
//! through one by one.

use crate::spec::Spec;

/// Longer names are of no command.
const NAME_LEN_MAX: usize = 32;

/// Rows by name.
#[derive(Debug)]
pub struct Lookup {
    /// A power of two of places.
    places: Box<[Place]>,
    /// What [`place`] shifts a hash by, for a table of this size.
    shift: u32,
}

/// A row and the head of its name; no row is an empty place.
#[derive(Clone, Copy, Debug)]
struct Place {
    head: u64,
    row: Option<&'static Spec>,
    /// The row's number among all.
    index: u16,
}

impl Lookup {
    /// A lookup over these rows. Panics if two have the same name, or one's is longer than 32 bytes or not lower case:
    /// rows are part of the program.
    #[must_use]
    pub fn new(rows: impl IntoIterator<Item = &'static Spec>) -> Self {
        let rows: Vec<_> = rows.into_iter().collect();
        let len = (rows.len() * 4).next_power_of_two().max(2);
        let mut lookup = Self {
            places: vec![Place { head: 0, row: None, index: 0 }; len].into_boxed_slice(),
            shift: u64::BITS - len.ilog2(),
        };
        for (index, row) in rows.into_iter().enumerate() {
            let name = row.name.as_bytes();
            assert!(!name.is_empty() && name.len() <= NAME_LEN_MAX, "name of a command: {}", row.name);
            assert!(name.iter().all(|byte| !byte.is_ascii_uppercase()), "lower case: {}", row.name);
            assert!(lookup.find(name).is_none(), "two commands are named {}", row.name);
            let head = head(name);
            let mut at = place(head, name.len(), lookup.shift);
            while lookup.places[at].row.is_some() {
                at = (at + 1) % len;
            }
            lookup.places[at] = Place { head, row: Some(row), index: index as u16 };
        }
        lookup
    }

    /// The row of the command that is called `name`, in any case.
    #[inline]
    #[must_use]
    pub fn find(&self, name: &[u8]) -> Option<&'static Spec> {
        self.place(name)?.row
    }

    /// The number of the command that is called `name`, in any case, among the rows that [`Self::new`] was given.
    #[inline]
    #[must_use]
    pub fn position(&self, name: &[u8]) -> Option<usize> {
        self.place(name).map(|place| usize::from(place.index))
    }

    #[inline]
    fn place(&self, name: &[u8]) -> Option<&Place> {
        if name.len() > NAME_LEN_MAX {
            return None;
        }
        let head = head(name);
        let mut at = place(head, name.len(), self.shift);
        loop {
            let found = &self.places[at];
            let row = found.row?;
            // Names up to eight bytes are all head.
            let same = found.head == head && row.name.len() == name.len();
            if same && (name.len() <= 8 || row.name.as_bytes()[8..].eq_ignore_ascii_case(&name[8..])) {
                return Some(found);
            }
            at = (at + 1) % self.places.len();
        }
    }
}

/// The row of a container's subcommand that is called `name`, in any case.
#[must_use]
pub fn subcommand(container: &'static Spec, name: &[u8]) -> Option<&'static Spec> {
    // Behind the container's name and the bar.
    let start = container.name.len() + 1;
    container.subcommands.iter().find(|row| row.name.as_bytes()[start..].eq_ignore_ascii_case(name))
}

/// The first eight bytes, in lower case, filled up with zeros.
#[inline]
fn head(name: &[u8]) -> u64 {
    let head = match (name, name.len()) {
        ([a, b, c, d, e, f, g, h, ..], _) => u64::from_le_bytes([*a, *b, *c, *d, *e, *f, *g, *h]),
        // Two halves that overlap: where they do they agree.
        ([a, b, c, d, ..], len) => {
            let first = u32::from_le_bytes([*a, *b, *c, *d]);
            let [.., a, b, c, d] = name else { unreachable!("at least four") };
            let last = u32::from_le_bytes([*a, *b, *c, *d]);
            u64::from(first) | u64::from(last) << (8 * (len - 4))
        }
        ([a, b, c], _) => u64::from_le_bytes([*a, *b, *c, 0, 0, 0, 0, 0]),
        ([a, b], _) => u64::from_le_bytes([*a, *b, 0, 0, 0, 0, 0, 0]),
        ([a], _) => u64::from(*a),
        ([], _) => 0,
    };
    lower_case(head)
}

/// Eight bytes with `A` to `Z` in lower case, all at once.
#[inline]
const fn lower_case(bytes: u64) -> u64 {
    const ONES: u64 = 0x0101_0101_0101_0101;
    // Adding carries into a byte's highest bit where its lower seven are at least `A`, or beyond `Z`.
    let seven = bytes & (0x7f * ONES);
    let from_a = seven + (0x80 - b'A' as u64) * ONES;
    let beyond_z = seven + (0x7f - b'Z' as u64) * ONES;
    let is_upper = (from_a ^ beyond_z) & !bytes & (0x80 * ONES);
    bytes | is_upper >> 2
}

/// Where to look first.
#[inline]
fn place(head: u64, len: usize, shift: u32) -> usize {
    // Fibonacci hashing: the high bits of the product depend on all bits of the word.
    ((head ^ len as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> shift) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    static ROWS: [Spec; 5] = [
        Spec { name: "get", ..Spec::BLANK },
        Spec { name: "incrby", ..Spec::BLANK },
        Spec { name: "incrbyfloat", ..Spec::BLANK },
        Spec { name: "pexpiretime", ..Spec::BLANK },
        Spec { name: "object", subcommands: &[Spec { name: "object|freq", ..Spec::BLANK }], ..Spec::BLANK },
    ];

    #[test]
    fn names_are_found_in_any_case() {
        // Every row by its name in lower, upper and mixed case; names that share a head or are too long are told apart.
        let lookup = Lookup::new(&ROWS);
        let find = |name: &str| lookup.find(name.as_bytes()).map(|row| row.name);
        for row in &ROWS {
            assert_eq!(find(row.name), Some(row.name));
            assert_eq!(find(&row.name.to_uppercase()), Some(row.name));
        }
        assert_eq!(find("gEt"), Some("get"));
        for unknown in ["", "ge", "gets", "incrbyflo", "incrbyfloaT2", "pexpirexxxx", "get\0"] {
            assert_eq!(find(unknown), None, "{unknown}");
        }
        assert_eq!(find(&"x".repeat(1000)), None);
    }

    #[test]
    fn eight_bytes_are_put_in_lower_case_as_each_would_be() {
        // Every byte in every place, among others.
        for byte in 0..=u8::MAX {
            for place in 0..8 {
                let mut bytes = *b"aZ\x80[@z\xc1A";
                bytes[place] = byte;
                let expected = bytes.map(|byte| byte.to_ascii_lowercase());
                assert_eq!(lower_case(u64::from_le_bytes(bytes)).to_le_bytes(), expected);
            }
        }
    }

    #[test]
    fn subcommands_are_found_by_their_own_name() {
        // OBJECT FREQ by `freq`; not by a part of it, and not by the full name.
        let object = &ROWS[4];
        assert_eq!(subcommand(object, b"FrEq").map(|row| row.name), Some("object|freq"));
        assert!(subcommand(object, b"fre").is_none());
        assert!(subcommand(object, b"object|freq").is_none());
    }

    #[test]
    #[should_panic(expected = "two commands are named get")]
    fn a_name_is_given_once() {
        let _ = Lookup::new(ROWS.iter().chain(&ROWS));
    }
}
