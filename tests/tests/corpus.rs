//! The fuzz targets' corpora, replayed: what the fuzzers once found worth keeping holds on every build.

use std::{collections::BTreeSet, fs, path::Path};

use eagle_node::command;
use eagle_tests::{fuzz, grammar::Grammar, wire::encode};

/// Runs `target` on each file of its corpus, at least `count_min` of them.
#[expect(clippy::print_stdout, reason = "a failed test shows the input it had in hand")]
fn replay(name: &str, count_min: usize, target: fn(&[u8])) {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(name);
    let entries = fs::read_dir(&directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    let mut count = 0;
    for entry in entries {
        let path = entry.expect("a directory entry").path();
        let data = fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        println!("{}", path.display());
        target(&data);
        count += 1;
    }
    assert!(count >= count_min, "only {count} inputs in {}", directory.display());
}

/// Random commands of each row's grammar, as one input each: what the corpus of `command` began with.
/// `EAGLE_BLESS=1 cargo nextest run -p eagle-tests --test corpus` writes those that are missing, and the dictionary.
fn seeds_of_commands() -> Vec<(String, Vec<u8>)> {
    let rows = || command::all_rows().map(|row| row.spec).filter(|spec| !spec.name.starts_with("shutdown"));
    let every = Grammar::new(rows(), 4, 1_700_000_000_000);
    let mut rng = fastrand::Rng::with_seed(1);
    let mut inputs = Vec::new();
    for spec in rows() {
        let own = Grammar::new(std::iter::once(spec), 4, 1_700_000_000_000);
        let mut input = vec![rng.u8(..4), rng.u8(..)];
        for grammar in [&every, &own, &every, &own, &own] {
            let (_, words) = grammar.command(&mut rng);
            if words.iter().map(Vec::len).sum::<usize>() < 1000 {
                input.extend(encode(&words.iter().map(Vec::as_slice).collect::<Vec<_>>()));
            }
        }
        inputs.push((spec.name.replace('|', "-"), input));
    }
    inputs
}

/// The words of the table, for the fuzzer to try.
fn dictionary() -> String {
    let mut words = BTreeSet::new();
    for row in command::all_rows() {
        words.extend(row.spec.name.split('|').map(str::to_ascii_uppercase));
        let capitals = |word: &&str| word.len() > 1 && word.chars().all(|c| c.is_ascii_uppercase());
        words.extend(row.spec.syntax.split(|c: char| !c.is_ascii_alphabetic()).filter(capitals).map(str::to_string));
    }
    words.iter().map(|word| format!("\"{word}\"\n")).collect()
}

#[test]
fn command() {
    // Nodes live through every kept input, and through random commands of each row.
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
    let seeds = seeds_of_commands();
    if std::env::var_os("EAGLE_BLESS").is_some() {
        let corpus = fuzz.join("corpus/command");
        fs::create_dir_all(&corpus).expect("a folder");
        for (name, input) in &seeds {
            fs::write(corpus.join(name), input).expect("an input");
        }
        fs::write(fuzz.join("command.dict"), dictionary()).expect("a dictionary");
    }
    replay("command", 50, fuzz::command);
    seeds.iter().for_each(|(_, input)| fuzz::command(input));
}

/// Programs for pools: extents of records of each kind, sealed or not, with odd numbers here and there.
fn seeds_of_pools() -> Vec<(String, Vec<u8>)> {
    let mut rng = fastrand::Rng::with_seed(2);
    let packed = b"\x02\0\0\0\x01f\x01v";
    let mut inputs = Vec::new();
    for nth in 0..40_u8 {
        let mut input = Vec::new();
        for sequence in 1..=rng.u8(1..4) {
            let kind = if sequence == 3 { 2 } else { 1 };
            input.extend([
                b'E',
                sequence,
                kind,
                1,
                sequence,
                30 * sequence,
                rng.u8(0..4),
                0,
                sequence - 1,
                sequence - 1,
            ]);
            for _ in 0..rng.u8(1..12) {
                let kind = if rng.bool() { nth % 14 } else { rng.u8(1..13) };
                let kind = if kind == 7 || rng.u8(0..3) > 0 { kind } else { 7 };
                let tag = *rng.choice(&[0, 1, 2, 4, 5, 0x12]).expect("some");
                let value: &[u8] = match kind {
                    2 => packed,
                    4 if tag == 0x12 => b"",
                    4 => &[0; 16],
                    10 => &[1, 0, 0, 0, 2, 0],
                    _ => b"value",
                };
                let flags = match kind {
                    4 | 5 | 8 => 0x10,
                    _ => *rng.choice(&[0, 0, 8, 2, 0x20]).expect("some"),
                };
                let key: &[u8] = if kind == 8 { &[0, 0, 0, 0] } else { &[b'k', rng.u8(b'0'..b'4')] };
                let tag = if kind == 2 { 0x12 } else { tag };
                input.extend([
                    b'R',
                    kind,
                    flags,
                    tag,
                    rng.u8(0..3),
                    rng.u8(0..3),
                    0,
                    0,
                    0,
                    0,
                    rng.u8(0..90),
                    rng.u8(..),
                ]);
                input.extend([key.len() as u8, value.len() as u8, 0]);
                input.extend(key);
                input.extend(value);
                if rng.u8(0..8) == 0 {
                    input.push(b'G');
                }
            }
            if rng.u8(0..4) > 0 {
                input.extend([b'S', 0]);
            } else {
                input.extend([b'M', sequence + 1, sequence, rng.u8(..), 0, 0, 0, 0]);
            }
        }
        if rng.bool() {
            input.extend([b'O', rng.u8(..), rng.u8(0x20..0x24), rng.u8(0..3), 2, rng.u8(..), rng.u8(..)]);
        }
        inputs.push((format!("pool-{nth:02}"), input));
    }
    inputs
}

#[test]
fn open() {
    // Every kept pool, and random ones of records whose checksums are right, are refused or opened and used.
    let seeds = seeds_of_pools();
    if std::env::var_os("EAGLE_BLESS").is_some() {
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/open");
        fs::create_dir_all(&corpus).expect("a folder");
        for (name, input) in &seeds {
            fs::write(corpus.join(name), input).expect("an input");
        }
    }
    replay("open", 30, fuzz::open);
    for seed in eagle_tests::seeds(0..300) {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut input = rng.choice(&seeds).expect("some").1.clone();
        for _ in 0..rng.u8(0..4) {
            let at = rng.usize(..input.len());
            input[at] = if rng.bool() { rng.u8(..) } else { input[at] ^ 1 << rng.u8(0..8) };
        }
        println!("EAGLE_SEED={seed}");
        fuzz::open(&input);
    }
}

#[test]
fn decode() {
    // The decoder passes on every kept input.
    replay("decode", 30, fuzz::decode);
}
