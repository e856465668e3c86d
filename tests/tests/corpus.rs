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

#[test]
fn decode() {
    // The decoder passes on every kept input.
    replay("decode", 30, fuzz::decode);
}
