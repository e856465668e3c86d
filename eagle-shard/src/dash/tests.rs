//! Tests of the index as a whole: against a plain map, under scans, under attack, and what it weighs.

#![allow(clippy::print_stderr, reason = "tests print their seed and what they measured")]

use super::{shape::EMPTY_BYTES_MAX, *};
use std::collections::{HashMap, HashSet};

/// The seed of a random test: `EAGLE_SEED`, or a new one.
pub(super) fn seed() -> u64 {
    std::env::var("EAGLE_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(|| fastrand::u64(..))
}

/// A table beside a plain map: record `n` is key `n`, and its hash is what `hash` makes of it.
struct Bed<H: Fn(u64) -> Hashed> {
    dash: Dash,
    model: HashMap<u64, Word>,
    hash: H,
}

impl<H: Fn(u64) -> Hashed> Bed<H> {
    fn new(hash: H) -> Self {
        Bed { dash: Dash::counting_slots(), model: HashMap::new(), hash }
    }

    fn find(&self, key: u64) -> Option<Place> {
        self.dash.find((self.hash)(key), |word| word.offset() == key)
    }

    fn insert(&mut self, key: u64) {
        let word = Word::new(key, (key % 8) as u8).with_heat((key % 1024) as u16);
        let place = self.dash.insert((self.hash)(key), word, |word| (self.hash)(word.offset()).hash);
        assert_eq!(bare(self.dash.word(place)), word);
        self.model.insert(key, word);
    }

    fn remove(&mut self, key: u64) {
        let place = self.find(key).expect("present");
        assert_eq!(Some(bare(self.dash.remove(place, (self.hash)(key)))), self.model.remove(&key));
    }

    /// Everything in the model is in the table and nothing else; all counters and invariants agree.
    fn check(&self) {
        assert_eq!(self.dash.len(), self.model.len());
        let all: HashMap<u64, Word> = self.dash.iter().map(|(_, word)| (word.offset(), bare(word))).collect();
        assert_eq!(all, self.model);
        let mut slots = HashMap::new();
        for key in self.model.keys() {
            let place = self.find(*key).expect("what was inserted is found");
            assert_eq!(self.dash.word(place).offset(), *key);
            *slots.entry((self.hash)(*key).slot.get()).or_insert(0) += 1;
        }
        for slot in 0..SLOT_COUNT as u16 {
            let slot = SlotId::new(slot).unwrap();
            assert_eq!(self.dash.len_in_slot(slot), slots.get(&slot.get()).copied().unwrap_or(0));
        }
        let heap: usize = self.dash.segments.iter().map(|segment| segment.bytes()).sum();
        assert_eq!(self.dash.segment_bytes, heap);
    }
}

/// A word without what the index keeps in it.
fn bare(word: Word) -> Word {
    word.with_window(0)
}

fn uniform(key: u64) -> Hashed {
    Hashed::of_key(7, format!("key:{key}").as_bytes())
}

/// All in one slot, so that one directory takes everything.
fn one_slot(key: u64) -> Hashed {
    Hashed::of_key(7, format!("{{tag}}:{key}").as_bytes())
}

/// 2000 keys share each hash.
fn clashing(key: u64) -> Hashed {
    Hashed::of_element(KeyHash::of(7, &(key / 2000).to_le_bytes()))
}

fn agrees_with_a_map<H: Fn(u64) -> Hashed>(hash: H, keys: u64, steps: usize) {
    let seed = seed();
    eprintln!("EAGLE_SEED={seed}");
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut bed = Bed::new(hash);
    for phase in 0..6 {
        // Phases that mostly insert and phases that mostly remove let segments split, grow, merge and shrink.
        let inserts_of_8 = [7, 2, 6, 0, 7, 1][phase];
        for _ in 0..steps {
            let key = rng.u64(..keys);
            let located = bed.dash.locate((bed.hash)(key));
            match (bed.find(key), rng.u8(..8) < inserts_of_8) {
                (None, true) => bed.insert(key),
                (None, false) => assert!(!bed.model.contains_key(&key)),
                (Some(place), true) => {
                    let word = Word::new(key, 1).with_heat(rng.u16(..1024)).with_expiry(rng.bool());
                    bed.dash.set(place, word);
                    bed.model.insert(key, word);
                }
                (Some(_), false) => bed.remove(key),
            }
            let found = bed.dash.find_at(located, |word| word.offset() == key);
            assert_eq!(found.is_some(), bed.model.contains_key(&key));
        }
        bed.check();
    }
    let rest: Vec<u64> = bed.model.keys().copied().collect();
    rest.into_iter().for_each(|key| bed.remove(key));
    bed.check();
    assert!(bed.dash.bytes() <= EMPTY_BYTES_MAX + SLOT_COUNT * 4, "memory comes back: {}", bed.dash.bytes());
}

#[test]
fn agrees_with_a_map_on_uniform_keys() {
    // Random histories of insert, replace, find and remove do what a HashMap does.
    agrees_with_a_map(uniform, 60_000, 80_000);
}

#[test]
fn agrees_with_a_map_in_one_slot() {
    // The same when a single directory takes everything, deep enough to renew the windows of words.
    agrees_with_a_map(one_slot, 400_000, 500_000);
}

#[test]
fn agrees_with_a_map_on_clashing_hashes() {
    // The same when 2000 keys at a time have one hash.
    agrees_with_a_map(clashing, 10_000, 10_000);
}

#[test]
fn equal_hashes_end_in_a_larger_stash() {
    // 10,000 keys of one hash all go in, are all found, and cost memory in proportion only.
    let mut bed = Bed::new(|_| Hashed::of_element(KeyHash::from_raw(0x0123_4567_89ab_cdef)));
    for key in 0..10_000 {
        bed.insert(key);
    }
    bed.check();
    let bytes = bed.dash.bytes() - SLOT_COUNT * 4;
    assert!(bytes < 10_000 * 32, "{bytes} bytes");
    for key in 0..10_000 {
        bed.remove(key);
    }
    bed.check();
}

#[test]
fn every_lasting_element_is_scanned() {
    // While a scan runs, others are inserted and removed in bursts that split and merge; what stays is visited.
    let seed = seed();
    eprintln!("EAGLE_SEED={seed}");
    let mut rng = fastrand::Rng::with_seed(seed);
    for round in 0..24 {
        let hash = [uniform, one_slot, clashing][round % 3];
        let mut bed = Bed::new(hash);
        let total = [300, 5_000, 40_000][rng.usize(..3)];
        let lasting: HashSet<u64> = (0..total).filter(|_| rng.u8(..10) == 0).collect();
        (0..total).for_each(|key| bed.insert(key));
        let mut seen = HashSet::new();
        let mut cursor = Cursor::START;
        let mut calls = 0;
        loop {
            cursor = bed.dash.scan(cursor, |word, place| {
                assert_eq!(bed.dash.word(place), word);
                seen.insert(word.offset());
            });
            if cursor == Cursor::START {
                break;
            }
            assert_eq!(Cursor::from_raw(cursor.raw()), Some(cursor));
            calls += 1;
            if calls % 50 == 0 {
                let grow = rng.bool();
                for _ in 0..total / 8 {
                    let key = rng.u64(..total * 2);
                    match bed.model.contains_key(&key) {
                        false if grow => bed.insert(key),
                        true if !grow && !lasting.contains(&key) => bed.remove(key),
                        _ => {}
                    }
                }
            }
        }
        let missed: Vec<_> = lasting.difference(&seen).collect();
        assert!(missed.is_empty(), "round {round} missed {missed:?}, EAGLE_SEED={seed}");
    }
}

#[test]
fn a_quiet_scan_visits_each_once() {
    // Without changes in between a scan returns every element exactly once, and ends.
    for hash in [uniform, one_slot, clashing] {
        let mut bed = Bed::new(hash);
        (0..30_000).for_each(|key| bed.insert(key));
        let mut seen = Vec::new();
        let mut cursor = Cursor::START;
        loop {
            cursor = bed.dash.scan(cursor, |word, _| seen.push(word.offset()));
            if cursor == Cursor::START {
                break;
            }
        }
        seen.sort_unstable();
        assert!(seen.iter().copied().eq(0..30_000));
    }
}

#[test]
fn any_cursor_of_a_client_is_answered() {
    // A client may send any number: it gets some elements or none, and a cursor further on, or the end.
    let mut bed = Bed::new(uniform);
    (0..5_000).for_each(|key| bed.insert(key));
    for _ in 0..10_000 {
        let cursor = Cursor::from_raw(fastrand::u64(..1 << CURSOR_BITS)).unwrap();
        let next = bed.dash.scan(cursor, |_, _| {});
        assert!(next > cursor || next == Cursor::START);
    }
    assert_eq!(Cursor::from_raw(1 << CURSOR_BITS), None);
}

#[test]
fn stages_of_a_lookup_lead_to_the_word() {
    // The candidate of a located key is nearly always its own word, and of an absent key nearly never any.
    let mut bed = Bed::new(uniform);
    (0..100_000).for_each(|key| bed.insert(key));
    let candidate = |key| {
        let at = bed.dash.locate(uniform(key));
        bed.dash.prefetch_words(at);
        bed.dash.candidate(at).map(Word::offset)
    };
    let right = (0..100_000).filter(|key| candidate(*key) == Some(*key)).count();
    let wrong = (100_000..200_000).filter(|key| candidate(*key).is_some()).count();
    eprintln!("candidates: {right} of 100000 right, {wrong} of 100000 absent keys have one");
    assert!(right > 95_000 && wrong < 3_000);
}

#[test]
fn sweeps_see_what_is_due() {
    // An expiry noted is due from its moment on until a sweep says otherwise, wherever inserts and removals move its
    // entry; and a sweep reads few others.
    let seed = seed();
    eprintln!("EAGLE_SEED={seed}");
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut bed = Bed::new(uniform);
    let expiry = |key: u64| 1_000 + key * 7 % 100_000;
    let (mut read, mut expired) = (0, 0);
    for now in (1_000..60_000).step_by(1_000) {
        for _ in 0..1_500 {
            let key = rng.u64(..100_000);
            if bed.find(key).is_none() && expiry(key) > now {
                bed.insert(key);
                let place = bed.find(key).unwrap();
                bed.dash.set(place, bed.dash.word(place).with_expiry(true));
                bed.model.insert(key, bare(bed.dash.word(place)));
                bed.dash.note_expiry(place, expiry(key));
            }
        }
        for _ in 0..500 {
            let key = rng.u64(..100_000);
            if bed.model.contains_key(&key) {
                bed.remove(key);
            }
        }
        let (mut gone, mut from) = (Vec::new(), SegmentId::FIRST);
        while let Some(segment) = bed.dash.next_due(from, now) {
            let due: Vec<Word> = bed.dash.due(segment, now).collect();
            let mut asked = Vec::new();
            bed.dash.settle_due(segment, now, |word| {
                asked.push(word);
                let at = expiry(word.offset());
                if at <= now {
                    gone.push(word.offset());
                }
                (at > now).then_some(at)
            });
            assert_eq!(asked, due);
            read += due.len();
            from = segment.after();
        }
        expired += gone.len();
        assert_eq!(bed.dash.next_due(SegmentId::FIRST, now), None);
        gone.into_iter().for_each(|key| bed.remove(key));
        assert!(bed.model.keys().all(|key| expiry(*key) > now), "all that was due is gone, EAGLE_SEED={seed}");
    }
    bed.check();
    eprintln!("{read} records read to expire {expired}");
    assert!(expired > 1_000 && read < expired * 30);
}

#[test]
fn a_reserved_table_is_not_rebuilt() {
    // Filling a table that was sized for its keys moves next to nothing and takes little more memory; and it is a table
    // like any other.
    let mut bed = Bed::new(uniform);
    bed.dash.reserve(200_000);
    let (reserved, segments) = (bed.dash.bytes(), bed.dash.segments.len());
    (0..200_000).for_each(|key| bed.insert(key));
    bed.check();
    assert_eq!(bed.dash.segments.len(), segments, "no segment was split");
    assert!(bed.dash.bytes() < reserved * 102 / 100, "{reserved} reserved, {} used", bed.dash.bytes());
    assert!(bed.dash.bytes() < 200_000 * 15 + SLOT_COUNT * 4);
    (0..200_000).for_each(|key| bed.remove(key));
    bed.check();
}

#[test]
fn random_entries_are_spread() {
    // Sparse or dense, no entry is drawn far more often than its share, and an empty index has none.
    let mut rng = fastrand::Rng::with_seed(seed());
    assert_eq!(Dash::new().random(&mut rng), None);
    for count in [1, 40, 1_000, 20_000] {
        let mut bed = Bed::new(uniform);
        (0..count).for_each(|key| bed.insert(key));
        let mut draws = HashMap::new();
        for _ in 0..count * 50 {
            let place = bed.dash.random(&mut rng).unwrap();
            *draws.entry(bed.dash.word(place).offset()).or_insert(0) += 1;
        }
        let drawn = draws.len() as u64;
        assert!(drawn * 100 >= count * 99, "{drawn} of {count}");
        assert!(draws.values().all(|times| *times < 50 * 12), "most {:?} of {count}", draws.values().max());
    }
}

#[test]
fn clear_hands_the_entries_out() {
    // After clear the index is empty and small, and what it returned still has everything.
    let mut bed = Bed::new(uniform);
    (0..10_000).for_each(|key| bed.insert(key));
    let located = bed.dash.locate(uniform(1));
    let before = bed.dash.clear();
    assert_eq!((before.len(), bed.dash.len()), (10_000, 0));
    assert_eq!(bed.dash.bytes(), SLOT_COUNT * 4);
    assert_eq!(bed.dash.find_at(located, |_| true), None);
    assert_eq!(bed.dash.candidate(located), None);
}

#[test]
fn an_empty_or_small_table_is_small() {
    // 16 empty databases take nothing, 1,000 keys under 100 KiB, 1,000 elements of a collection under 17 KiB.
    assert_eq!(Dash::new().bytes(), 0);
    let (mut keys, mut elements) = (Dash::new(), Dash::new());
    for n in 0..1_000 {
        let element = KeyHash::of(1, &n.to_string().into_bytes());
        keys.insert(uniform(n), Word::new(n, 0), |word| uniform(word.offset()).hash);
        elements.insert(Hashed::of_element(element), Word::new(n, 0), |_| unreachable!("read at so small a size"));
    }
    eprintln!("1000 keys: {} B, 1000 elements: {} B", keys.bytes(), elements.bytes());
    assert!(keys.bytes() < 100 << 10);
    assert!(elements.bytes() < 17 << 10);
}

#[test]
fn segments_are_full_before_they_split() {
    // Over 500 splits and more, the mean load of a segment of full size with no room for one more is above 95 %.
    let seed = seed();
    eprintln!("EAGLE_SEED={seed}");
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut loads = HashMap::<usize, Vec<f64>>::new();
    for _ in 0..600 {
        let mut segment = Segment::of_root(0);
        loop {
            let hash = KeyHash::from_raw(rng.u64(..));
            if segment.insert(Position::new(0, hash), hash.fingerprint(), Word::new(1, 0)).is_some() {
                continue;
            }
            let load = segment.count() as f64 / segment.capacity() as f64;
            loads.entry(segment.capacity() / ENTRIES).or_default().push(load);
            if segment.is_full_size() {
                break;
            }
            segment = segment.grown();
        }
    }
    let mut stages: Vec<_> = loads.into_iter().collect();
    stages.sort_unstable_by_key(|(buckets, _)| *buckets);
    let mut mean = 0.0;
    for (buckets, loads) in stages {
        mean = loads.iter().sum::<f64>() / loads.len() as f64;
        let worst = loads.iter().copied().fold(1.0, f64::min);
        eprintln!("{buckets:3} buckets: mean {:.1} %, worst {:.1} % of {}", mean * 100.0, worst * 100.0, loads.len());
    }
    assert!(mean > 0.95);
}

#[test]
fn bytes_a_key() {
    // The index weighs at most 13.7 bytes a key in the mean and 17.6 at worst, at sizes spread over a doubling.
    let mut dash = Dash::new();
    let mut rng = fastrand::Rng::with_seed(3);
    let mut weights = Vec::new();
    for thousands in [1_000, 1_200, 1_400, 1_700, 2_000] {
        while dash.len() < thousands * 1_000 {
            let hashed = Hashed::of_key(5, format!("key:{:010}", rng.u64(..10_000_000_000)).as_bytes());
            dash.insert(hashed, Word::new(dash.len() as u64, 0), |_| unreachable!("read at so small a depth"));
        }
        let weight = dash.bytes() as f64 / dash.len() as f64;
        eprintln!("{thousands} K keys: {weight:.2} bytes a key");
        weights.push(weight);
    }
    let mean = weights.iter().sum::<f64>() / weights.len() as f64;
    eprintln!("mean {mean:.2}");
    assert!(mean <= 13.7 && weights.iter().all(|weight| *weight <= 17.6));
}
