//! Shards near their limit: what is taken stays within it, nothing is lost but what the policy lets go, and dead records go before keys.

#![allow(clippy::print_stderr, reason = "a random test names its seed")]

use std::collections::BTreeMap;

use super::*;
use crate::{
    Budget, Eviction, Order, Policy,
    call::{DbId, UnixMs},
    shard::ShardConfig,
    value::Encoding,
};

const DB: DbId = DbId(0);
const LIMIT: u64 = 3 << 20;

/// A shard that has a limit to itself, driven as a core drives one.
struct Alone {
    shard: Shard,
    limit: u64,
    now: UnixMs,
    most: u64,
}

impl Alone {
    fn new(in_place: bool, policy: Option<Policy>) -> Self {
        let config = ShardConfig { extent_size: 64 << 10, in_place, ..ShardConfig::default() };
        let mut shard = Shard::new(config).expect("a shard");
        shard.set_eviction(Eviction { policy, ..Eviction::default() });
        Self { shard, limit: LIMIT, now: UnixMs(1_700_000_000_000), most: 0 }
    }

    /// The end of a turn: a commit, perhaps a slice of background work, and a look at what is taken.
    fn turn(&mut self, background: bool) {
        if background {
            self.shard.background(self.now, Budget { records: 64, is_idle: false });
        }
        self.shard.commit();
        let taken = self.shard.memory();
        self.most = self.most.max(taken);
        let bytes = self.limit as i64 - taken as i64;
        self.shard.set_room(Some(Room { limit: self.limit, bytes, elsewhere: false }));
    }

    fn set(&mut self, name: &[u8], value: &[u8], expiry: Option<UnixMs>) -> Result<(), Error> {
        self.shard.now = self.now;
        self.shard.admit(name.len() + value.len())?;
        let key = self.shard.key(name);
        let old = self.shard.find(DB, key, self.now);
        self.shard.put_string(DB, key, old, value, expiry, Encoding::Raw)
    }

    fn get(&mut self, name: &[u8]) -> Option<Vec<u8>> {
        let key = self.shard.key(name);
        let found = self.shard.find_read(DB, key, self.now)?;
        Some(self.shard.record(found).value().to_vec())
    }

    fn delete(&mut self, name: &[u8]) -> bool {
        let key = self.shard.key(name);
        let room = self.shard.make_tombstone_room(200);
        let found = self.shard.find(DB, key, self.now);
        if let (Some(found), Ok(())) = (found, room) {
            self.shard.remove(DB, key, found);
            return true;
        }
        false
    }
}

fn seed() -> u64 {
    std::env::var("EAGLE_SEED").map_or_else(|_| fastrand::u64(..), |seed| seed.parse().expect("EAGLE_SEED is a number"))
}

const ORDERS: [Order; 4] = [Order::Recency, Order::Frequency, Order::Chance, Order::Expiry];

#[test]
fn nothing_is_lost_but_what_the_policy_lets_go() {
    // Random histories of ten times the limit: a key that is missing was evicted, which is counted; under a volatile policy it
    // had an expiry. All others have their last value.
    let seed = seed();
    eprintln!("EAGLE_SEED={seed}");
    let mut rng = fastrand::Rng::with_seed(seed);
    for in_place in [true, false] {
        for (volatile, order) in ORDERS.iter().flat_map(|order| [(true, *order), (false, *order)]) {
            if !volatile && order == Order::Expiry {
                continue;
            }
            let mut alone = Alone::new(in_place, Some(Policy { volatile, order }));
            let mut model = BTreeMap::<Vec<u8>, (Vec<u8>, bool)>::new();
            let mut written = 0;
            while written < 10 * LIMIT {
                let name = format!("key:{}", rng.u32(..60_000)).into_bytes();
                if rng.u8(..10) == 0 {
                    alone.delete(&name);
                    model.remove(&name);
                } else {
                    let value = vec![rng.u8(..); rng.usize(..1_000)];
                    // Few without an expiry, so that they fit the limit.
                    let expiry = (rng.u8(..60) > 0).then_some(UnixMs(alone.now.0 + 1_000_000));
                    match alone.set(&name, &value, expiry) {
                        Ok(()) => drop(model.insert(name, (value.clone(), expiry.is_some()))),
                        Err(error) => panic!("{error:?} with {order:?}, volatile {volatile}, in place {in_place}"),
                    }
                    written += value.len() as u64;
                }
                if rng.u8(..8) == 0 {
                    alone.now.0 += 3;
                    alone.turn(rng.bool());
                }
            }
            let mut missing = 0;
            for (name, (value, volatile_key)) in &model {
                match alone.get(name) {
                    Some(found) => assert_eq!(&found, value),
                    None => {
                        missing += 1;
                        assert!(*volatile_key || !volatile, "a key without expiry is gone");
                    }
                }
            }
            let stats = alone.shard.stats;
            assert_eq!(alone.shard.usage().keys + missing, model.len());
            assert!(stats.evicted >= missing as u64 && missing > 0);
            assert!(alone.most < LIMIT + LIMIT / 50, "{} taken of {LIMIT}, {order:?}, in place {in_place}", alone.most);
            alone.shard.check().expect("the log's accounts");
        }
    }
}

#[test]
fn without_a_policy_writers_are_refused_and_dead_records_are_no_reason() {
    // Fills up to the limit; then what is deleted, a third of all, is room again, though it lies scattered and nothing runs in the
    // background.
    for in_place in [true, false] {
        let mut alone = Alone::new(in_place, None);
        let value = [7; 500];
        let name = |number: u32| format!("key:{number}").into_bytes();
        let mut number = 0;
        loop {
            alone.turn(false);
            match alone.set(&name(number), &value, None) {
                Ok(()) => number += 1,
                Err(error) => break assert_eq!(error, Error::OutOfMemory),
            }
        }
        assert!(alone.shard.memory() > LIMIT - 1_000 && alone.most < LIMIT + 1_000, "{} of {LIMIT}", alone.most);
        assert!(u64::from(number) * 540 > LIMIT * 9 / 10, "{number} keys fit");
        (0..number).step_by(3).for_each(|number| assert!(alone.delete(&name(number))));
        let mut more = 0;
        loop {
            alone.turn(false);
            if alone.set(&name(1_000_000 + more), &value, None).is_err() {
                break;
            }
            more += 1;
        }
        assert!(more > number / 3 * 8 / 10, "{more} more after a third of {number} was deleted, in place {in_place}");
        assert!((0..number).all(|number| number.is_multiple_of(3) || alone.get(&name(number)).is_some()));
        alone.shard.check().expect("the log's accounts");
    }
}

#[test]
fn dead_records_go_before_keys() {
    // A keyspace that fits the limit is overwritten ten times with values of other sizes: no key is evicted.
    for in_place in [true, false] {
        let mut alone = Alone::new(in_place, Some(Policy { volatile: false, order: Order::Recency }));
        let mut rng = fastrand::Rng::with_seed(1);
        let keys = (LIMIT * 70 / 100 / 580) as u32;
        for _ in 0..11 * keys {
            let name = format!("key:{}", rng.u32(..keys));
            alone.set(name.as_bytes(), &vec![1; rng.usize(400..600)], None).expect("room");
            alone.turn(true);
        }
        assert_eq!(alone.shard.stats.evicted, 0, "in place {in_place}");
        assert!(alone.most <= LIMIT);
    }
}

#[test]
fn a_lower_limit_is_reached_in_slices() {
    // From 3 MiB to one: no slice does more than its share, and some hundred of them do it.
    let mut alone = Alone::new(true, Some(Policy { volatile: false, order: Order::Recency }));
    for number in 0..20_000_u32 {
        alone.set(&number.to_le_bytes(), &[1; 500], None).expect("room");
        alone.turn(true);
    }
    alone.limit = 1 << 20;
    let (mut slices, mut evicted) = (0, alone.shard.stats.evicted);
    alone.turn(false);
    while alone.shard.wants_room() {
        alone.turn(true);
        let now = alone.shard.stats.evicted;
        assert!(now - evicted <= 64 / EVICTION_WORK as u64 + 1);
        (slices, evicted) = (slices + 1, now);
        assert!(slices < 5_000, "{} left of {}", alone.shard.room_left(), alone.limit);
    }
    assert!(slices > 100 && alone.shard.memory() < 1 << 20);
}

#[test]
fn a_large_value_makes_room_for_itself() {
    // Values of an eighth of the limit among small keys: evicting goes on until they fit, or nearly.
    let mut alone = Alone::new(true, Some(Policy { volatile: false, order: Order::Recency }));
    for number in 0..20_000_u32 {
        alone.set(&number.to_le_bytes(), &[1; 100], None).expect("room");
        alone.turn(true);
    }
    for number in 0..100_u32 {
        alone.set(&[b"large", &number.to_le_bytes()[..]].concat(), &vec![2; LIMIT as usize / 8], None).expect("room");
        alone.turn(true);
        assert!(alone.shard.memory() < LIMIT + LIMIT / 4);
    }
    (0..200).for_each(|_| alone.turn(true));
    assert!(alone.shard.memory() < LIMIT);
    alone.shard.check().expect("the log's accounts");
}
