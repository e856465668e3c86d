//! An account is what a client knows of some keys that nobody else writes: what it sent, in order, and how much of it was
//! acknowledged. So it knows what may be there after the server has died at any moment.
//!
//! ```text
//! sent, in order    SET a 1   APPEND a 2   RENAME a b   DEL b   SET a 3
//!                   └──── acknowledged ────┘            └─ in flight ─┘
//! may be found                             {b}       {}          {a}       the state after one of these, and no other
//! ```
//!
//! The keys of an account lie in one slot, or it has only one: commands on them take effect, and reach the medium, in the order in which
//! they were sent, each whole or not at all. A command over several slots is an entry in several accounts, a key each.

use std::collections::{BTreeMap, VecDeque};

use eagle_resp::Value;

/// What a key holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Held {
    /// A string.
    Text(Vec<u8>),
    /// A hash.
    Hash(BTreeMap<Vec<u8>, Vec<u8>>),
}

/// Keys that are there.
pub type State = BTreeMap<Vec<u8>, Held>;

/// A command's words.
pub type Words = Vec<Vec<u8>>;

/// An account. See the page of this file.
#[derive(Debug, Default)]
pub struct Account {
    keys: Vec<Vec<u8>>,
    /// What was acknowledged has led to this.
    certain: State,
    in_flight: VecDeque<Words>,
    /// What `in_flight` will have led to.
    ahead: State,
}

impl Account {
    /// Of keys that are not there.
    #[must_use]
    pub fn new(keys: Vec<Vec<u8>>) -> Self {
        Self { keys, ..Self::default() }
    }

    /// The keys that it is of.
    #[must_use]
    pub fn keys(&self) -> &[Vec<u8>] {
        &self.keys
    }

    /// What is there once all that was sent has been done.
    #[must_use]
    pub fn ahead(&self) -> &State {
        &self.ahead
    }

    /// What is certainly there, if nothing is in flight.
    #[must_use]
    pub fn certain(&self) -> &State {
        &self.certain
    }

    /// A command is sent; returns the reply that there must be.
    pub fn send(&mut self, words: Words) -> Value {
        let reply = apply(&mut self.ahead, &words);
        self.in_flight.push_back(words);
        reply
    }

    /// The first command in flight is acknowledged.
    ///
    /// # Panics
    /// None is.
    pub fn acknowledge(&mut self) {
        let words = self.in_flight.pop_front().expect("what is acknowledged was sent");
        apply(&mut self.certain, &words);
    }

    /// The server has died and this was found: how many commands of those in flight it had done, which is certain from now on.
    ///
    /// # Errors
    /// It is no state that may be found: what should be there.
    pub fn settle(&mut self, found: &State) -> Result<usize, String> {
        let (mut state, mut done) = (self.certain.clone(), 0);
        while state != *found {
            let Some(words) = self.in_flight.get(done) else {
                return Err(self.describe(found));
            };
            apply(&mut state, words);
            done += 1;
        }
        self.ahead.clone_from(&state);
        self.certain = state;
        self.in_flight.clear();
        Ok(done)
    }

    fn describe(&self, found: &State) -> String {
        let words = |words: &Words| words.iter().map(|word| short(word)).collect::<Vec<_>>().join(" ");
        let commands: Vec<String> = self.in_flight.iter().map(words).collect();
        format!(
            "found {}, acknowledged {}, in flight: {}",
            describe(found),
            describe(&self.certain),
            commands.join("; ")
        )
    }
}

fn describe(state: &State) -> String {
    let held = |held: &Held| match held {
        Held::Text(text) => short(text),
        Held::Hash(fields) => {
            format!("{:?}", fields.iter().map(|(field, value)| (short(field), short(value))).collect::<Vec<_>>())
        }
    };
    format!("{:?}", state.iter().map(|(key, value)| (short(key), held(value))).collect::<Vec<_>>())
}

fn short(bytes: &[u8]) -> String {
    match bytes.len() {
        0..=40 => String::from_utf8_lossy(bytes).into_owned(),
        len => format!(
            "{}..({len} B)..{}",
            String::from_utf8_lossy(&bytes[..12]),
            String::from_utf8_lossy(&bytes[len - 16..])
        ),
    }
}

/// Does what the command does, and says what it replies.
fn apply(state: &mut State, words: &Words) -> Value {
    let ok = Value::Simple(b"OK".to_vec());
    match (words[0].as_slice(), &words[1..]) {
        (b"SET", [key, value]) => {
            state.insert(key.clone(), Held::Text(value.clone()));
            ok
        }
        (b"MSET", pairs) => {
            for pair in pairs.chunks_exact(2) {
                state.insert(pair[0].clone(), Held::Text(pair[1].clone()));
            }
            ok
        }
        (b"APPEND", [key, value]) => {
            let text = text_of(state, key);
            text.extend_from_slice(value);
            Value::Integer(text.len() as i64)
        }
        (b"INCR", [key]) => {
            let text = text_of(state, key);
            let number = String::from_utf8_lossy(text).parse::<i64>().unwrap_or(0) + 1;
            *text = number.to_string().into_bytes();
            Value::Integer(number)
        }
        (b"HSET", [key, field, value]) => {
            let Held::Hash(fields) = state.entry(key.clone()).or_insert_with(|| Held::Hash(BTreeMap::new())) else {
                panic!("{} is a hash", short(key))
            };
            Value::Integer(i64::from(fields.insert(field.clone(), value.clone()).is_none()))
        }
        (b"DEL", [key]) => Value::Integer(i64::from(state.remove(key).is_some())),
        (b"RENAME", [from, to]) => {
            let held = state.remove(from).expect("only what is there is renamed");
            state.insert(to.clone(), held);
            ok
        }
        _ => panic!("no account is kept of {}", short(&words[0])),
    }
}

fn text_of<'a>(state: &'a mut State, key: &[u8]) -> &'a mut Vec<u8> {
    match state.entry(key.to_vec()).or_insert_with(|| Held::Text(Vec::new())) {
        Held::Text(text) => text,
        Held::Hash(_) => panic!("{} is a string", short(key)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Words {
        line.split(' ').map(|word| word.as_bytes().to_vec()).collect()
    }

    fn state(pairs: &[(&str, &str)]) -> State {
        pairs.iter().map(|(key, value)| (key.as_bytes().to_vec(), Held::Text(value.as_bytes().to_vec()))).collect()
    }

    fn account(acknowledged: usize) -> Account {
        let mut account = Account::new(vec![b"a".to_vec(), b"b".to_vec()]);
        for line in ["SET a 1", "APPEND a 2", "RENAME a b", "DEL b", "SET a 3"] {
            account.send(words(line));
        }
        (0..acknowledged).for_each(|_| account.acknowledge());
        account
    }

    #[test]
    fn what_is_in_flight_may_be_done_up_to_anywhere() {
        // The drawing above: three acknowledged, two in flight.
        for (done, found) in [(0, state(&[("b", "12")])), (1, state(&[])), (2, state(&[("a", "3")]))] {
            let mut account = account(3);
            assert_eq!(account.settle(&found), Ok(done));
            assert_eq!((account.certain(), account.ahead()), (&found, &found));
        }
    }

    #[test]
    fn what_was_lost_torn_or_never_sent_is_noticed() {
        // The state before the last acknowledged command, a half of RENAME, a later command without an earlier one, another's value.
        let wrong = [&[("a", "12")][..], &[("a", "12"), ("b", "12")], &[("a", "3"), ("b", "12")], &[("b", "13")]];
        for found in wrong {
            let told = account(3).settle(&state(found)).expect_err("it is noticed");
            assert!(told.contains("acknowledged") && told.contains("DEL b; SET a 3"), "{told}");
        }
        assert_eq!(account(1).settle(&state(&[("a", "12")])), Ok(1));
    }
}
