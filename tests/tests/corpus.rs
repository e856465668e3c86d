//! The fuzz targets' corpora, replayed: what the fuzzers once found worth keeping holds on every build.

use std::fs;
use std::path::Path;

use eagle_tests::fuzz;

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

#[test]
fn decode() {
    // The decoder passes on every kept input.
    replay("decode", 30, fuzz::decode);
}
