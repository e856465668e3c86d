//! Cells are keys and fields that are written in turn, by commands of which each tells what its cell must be: how many were
//! acknowledged is all that an account of them needs.
//!
//! Each of some connections owns cells, which are keys or fields of hashes, and its commands set or delete them in turn. Whoever
//! knows how many commands of each connection were acknowledged knows what every cell is, but for those that a few
//! commands more may have touched.

use eagle_resp::Value;

/// Connections of a client.
pub const CONNECTIONS: u64 = 4;
/// Commands that are sent together, on each.
pub const BATCH: u64 = 32;
/// Cells that are keys, of each connection.
const KEYS: u64 = 900;
/// Cells that are fields; more of a hash than one packed record has.
const FIELDS: u64 = 600;
const HASHES: u64 = 3;
const CELLS: u64 = KEYS + FIELDS;

/// The command of a connection that comes after `index` others.
#[must_use]
pub fn command(connection: u64, index: u64) -> Vec<Vec<u8>> {
    let cell = index % CELLS;
    let names = names(connection, cell);
    match (value(connection, index), names.as_slice()) {
        (Some(value), [key]) => vec!["SET".into(), key.clone(), value],
        (Some(value), [key, field]) => vec!["HSET".into(), key.clone(), field.clone(), value],
        (None, [key]) => vec!["DEL".into(), key.clone()],
        (None, [key, field]) => vec!["HDEL".into(), key.clone(), field.clone()],
        _ => unreachable!("a cell has one name or two"),
    }
}

/// Commands that read every cell of a connection.
pub fn readers(connection: u64) -> impl Iterator<Item = Vec<Vec<u8>>> {
    (0..CELLS).map(move |cell| {
        let mut words = names(connection, cell);
        words.insert(0, if words.len() == 1 { "GET".into() } else { "HGET".into() });
        words
    })
}

/// Whether a cell, in the order of [`readers`], may be this: what it was after `acknowledged` commands of the connection, or after
/// any of the next `more`.
#[must_use]
pub fn may_be(connection: u64, cell: u64, found: &Value, acknowledged: u64, more: u64) -> bool {
    let found = match found {
        Value::Bulk(bytes) => Some(bytes.as_slice()),
        Value::Null => None,
        _ => return false,
    };
    let last = (acknowledged > cell).then(|| acknowledged - 1 - (acknowledged - 1 - cell) % CELLS);
    let is_last = match last {
        Some(index) => found == value(connection, index).as_deref(),
        None => found.is_none(),
    };
    let mut later = (acknowledged..acknowledged + more).filter(|index| index % CELLS == cell);
    is_last || later.any(|index| found == value(connection, index).as_deref())
}

fn names(connection: u64, cell: u64) -> Vec<Vec<u8>> {
    match cell.checked_sub(KEYS) {
        None => vec![format!("key:{connection}:{cell}").into()],
        Some(field) => vec![format!("hash:{connection}:{}", field % HASHES).into(), format!("field:{field}").into()],
    }
}

/// What a command sets its cell to; `None`: it is deleted. Mostly some hundred bytes, seldom more than an extent has.
fn value(connection: u64, index: u64) -> Option<Vec<u8>> {
    if (index % CELLS + index / CELLS) % 4 == 3 {
        return None;
    }
    let mut value = format!("{connection}:{index}:").into_bytes();
    let len = match index % 8191 {
        7 => 1_500_000,
        nth if nth % 199 == 0 => 30_000,
        nth => 40 + nth % 300,
    };
    value.resize(value.len() + usize::try_from(len).unwrap_or(0), b'a' + (index % 26) as u8);
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_tells_what_is_lost() {
        // Executed in a map, commands leave what may be, whatever of the commands in flight was executed; an older state is found.
        let mut cells = vec![Value::Null; usize::try_from(CELLS).unwrap()];
        let before = cells.clone();
        let run = |cells: &mut Vec<Value>, range: std::ops::Range<u64>| {
            for index in range {
                cells[usize::try_from(index % CELLS).unwrap()] = value(1, index).map_or(Value::Null, Value::Bulk);
            }
        };
        let lost = |cells: &[Value], acknowledged| {
            (0..).zip(cells).filter(|(cell, found)| !may_be(1, *cell, found, acknowledged, 2 * BATCH)).count()
        };
        assert_eq!(lost(&before, 0), 0);
        run(&mut cells, 0..5000);
        assert_eq!(lost(&cells, 5000), 0);
        assert!(lost(&before, 5000) > 900);
        let older = cells.clone();
        run(&mut cells, 5000..5010);
        assert_eq!(lost(&cells, 5000), 0);
        assert_eq!(lost(&older, 5010), 10);
        assert_eq!(command(1, 901)[0], b"HSET");
        assert_eq!(readers(1).count(), cells.len());
    }
}
