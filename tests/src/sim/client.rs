//! A simulated client: pipelines random commands on keys of its own and knows each reply beforehand.
//!
//! Its keys are spread over all shards, so nearly every command of several keys crosses. Because nobody else uses them,
//! a plain map tells the exact reply to each command, and the order of the replies must be that of the commands.

use std::collections::{BTreeMap, VecDeque};

use eagle_node::core::event::ConnId;
use eagle_resp::Value;

use super::Sim;
use crate::wire::encode;

/// A client and what it expects.
#[derive(Debug)]
pub struct Client {
    /// Its connection.
    pub at: (usize, ConnId),
    name: usize,
    keys: usize,
    model: BTreeMap<Vec<u8>, Vec<u8>>,
    expected: VecDeque<(String, Value)>,
    checked: usize,
    /// Commands sent.
    pub sent: usize,
}

fn bulk(value: Option<&Vec<u8>>) -> Value {
    value.map_or(Value::Null, |value| Value::Bulk(value.clone()))
}

fn ok() -> Value {
    Value::Simple(b"OK".to_vec())
}

impl Client {
    /// A client on `core` with `keys` keys of its own.
    pub fn new(sim: &mut Sim, core: usize, name: usize, keys: usize) -> Self {
        let at = sim.connect(core);
        Self { at, name, keys, model: BTreeMap::new(), expected: VecDeque::new(), checked: 0, sent: 0 }
    }

    /// Whether all replies have come.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        self.expected.is_empty()
    }

    /// Sends a pipeline of `count` random commands.
    pub fn pipeline(&mut self, sim: &mut Sim, count: usize) {
        let mut bytes = Vec::new();
        for _ in 0..count {
            let (command, reply) = self.command(&mut sim.rng);
            let words: Vec<&[u8]> = command.iter().map(Vec::as_slice).collect();
            bytes.extend(encode(&words));
            let text = words.iter().map(|word| String::from_utf8_lossy(word)).collect::<Vec<_>>().join(" ");
            self.expected.push_back((text, reply));
            self.sent += 1;
        }
        sim.send(self.at, &bytes);
    }

    fn key(&self, rng: &mut fastrand::Rng) -> Vec<u8> {
        format!("c{}:k{}", self.name, rng.usize(0..self.keys)).into_bytes()
    }

    /// A random command and its reply.
    fn command(&mut self, rng: &mut fastrand::Rng) -> (Vec<Vec<u8>>, Value) {
        let word = |text: &str| text.as_bytes().to_vec();
        let (a, b, c) = (self.key(rng), self.key(rng), self.key(rng));
        let value = format!("v{}", rng.u32(..)).into_bytes();
        match rng.u8(0..12) {
            0 | 1 => {
                self.model.insert(a.clone(), value.clone());
                (vec![word("SET"), a, value], ok())
            }
            2 | 3 => {
                let reply = bulk(self.model.get(&a));
                (vec![word("GET"), a], reply)
            }
            4 => {
                let reply = Value::Array([&a, &b, &c].map(|key| bulk(self.model.get(key))).to_vec());
                (vec![word("MGET"), a, b, c], reply)
            }
            5 => {
                for key in [&a, &b, &c] {
                    self.model.insert(key.clone(), value.clone());
                }
                (vec![word("MSET"), a, value.clone(), b, value.clone(), c, value], ok())
            }
            6 => {
                let gone = [&a, &b].iter().filter(|key| self.model.remove(**key).is_some()).count();
                (vec![word("DEL"), a, b], Value::Integer(gone as i64))
            }
            7 => {
                let there = [&a, &b, &c].iter().filter(|key| self.model.contains_key(**key)).count();
                (vec![word("EXISTS"), a, b, c], Value::Integer(there as i64))
            }
            8 => {
                let reply = match self.model.remove(&a) {
                    None => Value::Error(b"ERR no such key".to_vec()),
                    Some(moved) => {
                        self.model.insert(b.clone(), moved);
                        ok()
                    }
                };
                (vec![word("RENAME"), a, b], reply)
            }
            9 => {
                let free = ![&a, &b, &c].iter().any(|key| self.model.contains_key(*key));
                if free {
                    for key in [&a, &b, &c] {
                        self.model.insert(key.clone(), value.clone());
                    }
                }
                let command = vec![word("MSETNX"), a, value.clone(), b, value.clone(), c, value];
                (command, Value::Integer(i64::from(free)))
            }
            10 if a != b => {
                let copied = match self.model.get(&a) {
                    Some(value) if !self.model.contains_key(&b) => {
                        let value = value.clone();
                        self.model.insert(b.clone(), value);
                        true
                    }
                    _ => false,
                };
                (vec![word("COPY"), a, b], Value::Integer(i64::from(copied)))
            }
            _ => {
                let entry = self.model.entry(a.clone()).or_default();
                entry.extend_from_slice(&value);
                let len = entry.len();
                (vec![word("APPEND"), a, value], Value::Integer(len as i64))
            }
        }
    }

    /// Compares what has come with what was expected.
    ///
    /// # Panics
    /// On the first reply that differs, with the command.
    pub fn check(&mut self, sim: &Sim) {
        let received = &sim.connection(self.at).received;
        loop {
            let parsed = Value::parse(&received[self.checked..]).expect("replies are well-formed");
            let Some((reply, len)) = parsed else { return };
            self.checked += len;
            let (command, expected) = self.expected.pop_front().expect("no reply without a request");
            assert_eq!(reply, expected, "seed {}: client {}: {command}", sim.plan.seed, self.name);
        }
    }
}
