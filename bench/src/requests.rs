//! Requests, encoded before the clock starts: the generator only picks a range of them and sends it.
//!
//! Keys are numbers in 14 bytes (`key:0000001234`). A list goes through its keys in a shuffled order, never in the
//! order in which they were written before: a log-structured server would otherwise read and free its
//! records in sequence, which no real load lets it do.

use std::ops::Range;

use fastrand::Rng;

use crate::client::encode;
use crate::replies::Expect;

/// Keys that one MSET sets, as redis-benchmark has it.
pub(crate) const MSET_KEYS: usize = 10;
/// Fields of a hash in the workloads of hashes.
const HASH_FIELDS: u32 = 10;
/// Bytes of a key.
pub(crate) const KEY_BYTES: usize = 14;

/// The kinds of load that `compare` knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Workload {
    /// `SET key value`
    Set,
    /// `GET key`, every key present
    Get,
    /// `INCR key`, on keys of its own
    Incr,
    /// `MSET` of ten keys
    Mset,
    /// `HSET key field value`, on hashes of ten fields
    Hset,
    /// `HGETALL key` of such hashes
    Hgetall,
    /// `HINCRBY key field 1`, on hashes of its own
    Hincrby,
}

impl Workload {
    /// The command's name as Redis writes it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Workload::Set => "SET",
            Workload::Get => "GET",
            Workload::Incr => "INCR",
            Workload::Mset => "MSET",
            Workload::Hset => "HSET",
            Workload::Hgetall => "HGETALL",
            Workload::Hincrby => "HINCRBY",
        }
    }

    /// The workload that writes what this one finds.
    pub(crate) fn writer(self) -> Self {
        match self {
            Workload::Get => Workload::Set,
            Workload::Hgetall => Workload::Hset,
            other => other,
        }
    }

    /// Requests for each of `keys` keys once, shuffled.
    pub(crate) fn requests(self, keys: u32, value_bytes: usize, rng: &mut Rng) -> Requests {
        let order = shuffled(0..keys, rng);
        match self {
            Workload::Set => Requests::set(&order, |_| value_bytes, None),
            Workload::Get => Requests::get(&order, value_bytes),
            Workload::Incr => Requests::incr(&order),
            Workload::Mset => Requests::mset(&order, value_bytes),
            Workload::Hset => Requests::hset(&order, HASH_FIELDS, value_bytes),
            Workload::Hgetall => Requests::hgetall(&shuffled(0..keys / HASH_FIELDS, rng), value_bytes),
            Workload::Hincrby => Requests::hincrby(&order),
        }
    }
}

/// Encoded requests that stand one behind the other, all with the same kind of reply.
pub(crate) struct Requests {
    bytes: Vec<u8>,
    /// Where each request begins, and behind the last where it ends.
    bounds: Vec<usize>,
    /// What the reply to each looks like.
    pub(crate) expect: Expect,
}

impl Requests {
    fn new(expect: Expect) -> Self {
        Self { bytes: Vec::new(), bounds: vec![0], expect }
    }

    fn push(&mut self, arguments: &[&[u8]]) {
        encode(&mut self.bytes, arguments.iter().copied());
        self.bounds.push(self.bytes.len());
    }

    /// SET of each key, to a value of as many bytes as `size` says, with an expiry in seconds if wanted.
    pub(crate) fn set(keys: &[u32], size: impl Fn(u32) -> usize, expiry_s: Option<u32>) -> Self {
        let mut requests = Self::new(Expect::simple("OK"));
        let largest = keys.iter().map(|number| size(*number)).max().unwrap_or(0);
        let filler = vec![b'x'; largest];
        let expiry = expiry_s.map(|seconds| seconds.to_string());
        for number in keys {
            let key = key("key", *number);
            let value = &filler[..size(*number)];
            match &expiry {
                None => requests.push(&[b"SET", &key, value]),
                Some(seconds) => requests.push(&[b"SET", &key, value, b"EX", seconds.as_bytes()]),
            }
        }
        requests
    }

    /// GET of each key; all of them must be there with values of this many bytes.
    pub(crate) fn get(keys: &[u32], value_bytes: usize) -> Self {
        let mut requests = Self::new(Expect::bulk(value_bytes));
        keys.iter().for_each(|number| requests.push(&[b"GET", &key("key", *number)]));
        requests
    }

    /// INCR of each key.
    pub(crate) fn incr(keys: &[u32]) -> Self {
        let mut requests = Self::new(Expect::Integer);
        keys.iter().for_each(|number| requests.push(&[b"INCR", &key("ctr", *number)]));
        requests
    }

    /// MSET of ten keys at a time; a rest of fewer than ten is left out.
    fn mset(keys: &[u32], value_bytes: usize) -> Self {
        let mut requests = Self::new(Expect::simple("OK"));
        let value = vec![b'x'; value_bytes];
        for ten in keys.chunks_exact(MSET_KEYS) {
            let names: Vec<Vec<u8>> = ten.iter().map(|number| key("key", *number)).collect();
            let mut arguments: Vec<&[u8]> = vec![b"MSET"];
            names.iter().for_each(|name| arguments.extend([name.as_slice(), &value]));
            requests.push(&arguments);
        }
        requests
    }

    /// HSET of each number's field: hashes have `fields` fields of 4 bytes (5, from 1000 on).
    pub(crate) fn hset(numbers: &[u32], fields: u32, value_bytes: usize) -> Self {
        let mut requests = Self::new(Expect::Integer);
        let value = vec![b'x'; value_bytes];
        for number in numbers {
            requests.push(&[b"HSET", &key("hsh", number / fields), &field(number % fields, fields), &value]);
        }
        requests
    }

    /// HGETALL of each hash, of [`HASH_FIELDS`] fields.
    fn hgetall(hashes: &[u32], value_bytes: usize) -> Self {
        let bulk = |bytes: usize| format!("${bytes}\r\n").len() + bytes + 2;
        let field_bytes = field(0, HASH_FIELDS).len();
        let head = format!("*{}\r\n${field_bytes}\r\n", 2 * HASH_FIELDS).into_bytes();
        let array = format!("*{}\r\n", 2 * HASH_FIELDS).len();
        let length = array + HASH_FIELDS as usize * (bulk(field_bytes) + bulk(value_bytes));
        let mut requests = Self::new(Expect::Fixed { head, length });
        hashes.iter().for_each(|number| requests.push(&[b"HGETALL", &key("hsh", *number)]));
        requests
    }

    /// HINCRBY of each number's field, in hashes of [`HASH_FIELDS`] fields.
    fn hincrby(numbers: &[u32]) -> Self {
        let mut requests = Self::new(Expect::Integer);
        for number in numbers {
            let field = field(number % HASH_FIELDS, HASH_FIELDS);
            requests.push(&[b"HINCRBY", &key("hct", number / HASH_FIELDS), &field, b"1"]);
        }
        requests
    }

    /// PING, this many times.
    pub(crate) fn ping(count: usize) -> Self {
        let mut requests = Self::new(Expect::simple("PONG"));
        (0..count).for_each(|_| requests.push(&[b"PING"]));
        requests
    }

    /// How many requests there are.
    pub(crate) fn len(&self) -> usize {
        self.bounds.len() - 1
    }

    /// Where `count` requests from number `first` on stand in the bytes.
    pub(crate) fn range(&self, first: usize, count: usize) -> Range<usize> {
        self.bounds[first]..self.bounds[first + count]
    }

    /// The encoded bytes of all.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// The key of a number: four characters of kind, ten digits.
pub(crate) fn key(kind: &str, number: u32) -> Vec<u8> {
    let key = format!("{kind}:{number:010}").into_bytes();
    debug_assert_eq!(key.len(), KEY_BYTES);
    key
}

/// A field of a hash of so many fields.
fn field(number: u32, fields: u32) -> Vec<u8> {
    if fields < 1000 { format!("f{number:03}") } else { format!("f{number:04}") }.into_bytes()
}

/// The numbers in random order.
pub(crate) fn shuffled(numbers: Range<u32>, rng: &mut Rng) -> Vec<u32> {
    let mut order: Vec<u32> = numbers.collect();
    rng.shuffle(&mut order);
    order
}

/// The bytes of a key's value after `generation` overwrites when sizes vary: within a quarter of `mean` either way,
/// another one each time, and the same for the same arguments.
pub(crate) fn varied_size(mean: usize, number: u32, generation: u32) -> usize {
    let mut rng = Rng::with_seed((u64::from(number) << 32) | u64::from(generation));
    rng.usize(mean - mean / 4..=mean + mean / 4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_of_a_pass_is_requested_once() {
        // A shuffled pass neither skips nor repeats a key.
        let mut rng = Rng::with_seed(1);
        let requests = Workload::Get.requests(100, 8, &mut rng);
        assert_eq!(requests.len(), 100);
        let mut seen: Vec<&[u8]> = (0..100).map(|n| &requests.bytes()[requests.range(n, 1)]).collect();
        assert_ne!(
            seen[..2],
            [b"*2\r\n$3\r\nGET\r\n$14\r\nkey:0000000000\r\n", b"*2\r\n$3\r\nGET\r\n$14\r\nkey:0000000001\r\n"]
        );
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), 100);
    }

    #[test]
    fn a_range_covers_whole_requests() {
        let requests = Requests::set(&[7, 8, 9], |number| number as usize, Some(60));
        let expected = b"*5\r\n$3\r\nSET\r\n$14\r\nkey:0000000008\r\n$8\r\nxxxxxxxx\r\n$2\r\nEX\r\n$2\r\n60\r\n";
        assert_eq!(&requests.bytes()[requests.range(1, 1)], expected);
        assert_eq!(requests.range(0, 3), 0..requests.bytes().len());
    }

    #[test]
    fn an_mset_sets_ten_keys_and_leaves_a_rest_out() {
        let requests = Requests::mset(&(0..25).collect::<Vec<_>>(), 2);
        assert_eq!(requests.len(), 2);
        assert!(requests.bytes().starts_with(b"*21\r\n$4\r\nMSET\r\n$14\r\nkey:0000000000\r\n$2\r\nxx\r\n"));
    }

    #[test]
    fn varied_sizes_stay_within_a_quarter_and_change() {
        // Sizes keep their mean, so the payload does too.
        let sizes: Vec<usize> = (0..1000).map(|generation| varied_size(64, 5, generation)).collect();
        assert!(sizes.iter().all(|size| (48..=80).contains(size)));
        let mean = sizes.iter().sum::<usize>() as f64 / 1000.0;
        assert!((60.0..68.0).contains(&mean), "mean {mean}");
        assert_eq!(varied_size(64, 5, 3), sizes[3]);
    }

    #[test]
    fn all_fields_of_a_hash_are_expected() {
        // The reply as a server would write it, byte for byte, is one reply of the expected length.
        let requests = Requests::hgetall(&[3], 2);
        let mut reply = b"*20\r\n".to_vec();
        for number in 0..10 {
            reply.extend_from_slice(format!("$4\r\nf{number:03}\r\n$2\r\nxx\r\n").as_bytes());
        }
        let found = requests.expect.scan(&reply).unwrap();
        assert_eq!((found.replies, found.bytes), (1, reply.len()));
    }
}
