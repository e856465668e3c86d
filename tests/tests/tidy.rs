//! Rules of the repository that no compiler knows, checked over all of its files.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// What may lie at the top.
const TOP: [&str; 10] = [
    "Cargo.lock",
    "Cargo.toml",
    "README.md",
    "bench",
    "deploy",
    "eagle-node",
    "eagle-pmem",
    "eagle-resp",
    "eagle-shard",
    "tests",
];
/// Where `unsafe` may stand, each block with its SAFETY comment (a lint).
const UNSAFE: [&str; 3] = ["eagle-pmem/", "eagle-shard/src/dash/bucket.rs", "eagle-node/src/runtime/"];
/// Lines of a file at which it surely holds two concepts.
const LINES_MAX: usize = 800;
/// What stands for work not done, or for a name that says nothing.
const WORDS: [&str; 6] = ["todo!", "unimplemented!", "TODO", "FIXME", "XXX", "dbg!"];
const NAMES: [&str; 4] = ["util", "utils", "helper", "helpers"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace is above")
}

/// Every file but those of git and of builds, by its path from the top.
fn files() -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![root().to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder of the repository") {
            let path = entry.expect("an entry").path();
            let name = path.file_name().expect("a name").to_string_lossy().into_owned();
            let at_top = folder == root();
            if path.is_dir() {
                if !(name == ".git" || name == "target" || name == "node_modules" || at_top && name == "data") {
                    folders.push(path);
                }
            } else {
                found.push(path.strip_prefix(root()).expect("below the top").to_path_buf());
            }
        }
    }
    found.sort();
    assert!(found.len() > 100, "the repository has files");
    found
}

/// The Rust files with their text.
fn sources() -> Vec<(String, String)> {
    let rust = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "rs");
    let text = |path: PathBuf| {
        let text = fs::read_to_string(root().join(&path)).expect("text");
        (path.to_string_lossy().into_owned(), text)
    };
    // Not this file: it spells out what it looks for.
    files().into_iter().filter(rust).filter(|path| !path.ends_with("tests/tidy.rs")).map(text).collect()
}

/// Fails with everything found, not with the first of it.
fn none(what: &str, found: &[String]) {
    assert!(found.is_empty(), "{what}:\n{}", found.join("\n"));
}

#[test]
fn the_top_level_is_fixed() {
    // Dotfiles that tools need are fine; builds and data are not part of the repository.
    let odd = fs::read_dir(root()).expect("the top").map(|entry| entry.expect("an entry").file_name());
    let odd = odd.map(|name| name.to_string_lossy().into_owned());
    let known = |name: &String| TOP.contains(&&**name) || name.starts_with('.') || name == "target" || name == "data";
    none("not of the fixed top level", &odd.filter(|name| !known(name)).collect::<Vec<_>>());
}

#[test]
fn each_file_says_what_it_is_and_is_about_one_thing() {
    // The page of a file stands first, and no file is so long that it surely holds two.
    let mut found = Vec::new();
    for (path, text) in sources() {
        if !text.starts_with("//!") {
            found.push(format!("{path}: does not begin with its page (//!)"));
        }
        let lines = text.lines().count();
        if lines > LINES_MAX {
            found.push(format!("{path}: {lines} lines"));
        }
        let stem = Path::new(&path).file_stem().expect("a name").to_string_lossy().into_owned();
        if NAMES.contains(&&*stem) {
            found.push(format!("{path}: a name for no noun"));
        }
    }
    none("files", &found);
}

#[test]
fn nothing_is_left_undone() {
    // No marker of work to do, and nothing left from debugging.
    let mut found = Vec::new();
    for (path, text) in sources() {
        for (number, line) in (1..).zip(text.lines()) {
            let hits =
                |word: &str| line.split(|c: char| !(c.is_alphanumeric() || "_!".contains(c))).any(|part| part == word);
            if WORDS.iter().any(|word| hits(word)) {
                found.push(format!("{path}:{number}: {}", line.trim()));
            }
        }
    }
    none("left undone", &found);
}

#[test]
fn unsafe_stands_where_it_may() {
    // In the pool, the SIMD probe and the runtime; tests of the runtime look at processes from outside and need none.
    let begins = |line: &str| ["unsafe {", "unsafe fn", "unsafe impl"].iter().any(|form| line.contains(form));
    let mut found = Vec::new();
    for (path, text) in sources() {
        if UNSAFE.iter().any(|place| path.starts_with(place)) || path.starts_with("bench/") {
            continue;
        }
        let lines = (1..).zip(text.lines()).filter(|(_, line)| begins(line) && !line.trim_start().starts_with("//"));
        found.extend(lines.map(|(number, line)| format!("{path}:{number}: {}", line.trim())));
    }
    none("unsafe", &found);
}

#[test]
fn tests_say_what_they_show() {
    // The first line of a test is a comment, unless its body is so short that it needs none; an ignored one says why.
    let mut found = Vec::new();
    for (path, text) in sources() {
        let lines: Vec<&str> = text.lines().map(str::trim).collect();
        for (number, _) in lines.iter().enumerate().filter(|(_, line)| **line == "#[test]") {
            let Some(opening) = (number..lines.len()).find(|&at| lines[at].ends_with('{')) else { continue };
            let ignored = lines[number..opening].iter().any(|line| line.starts_with("#[ignore"));
            let said = ignored || lines.get(opening + 1).is_some_and(|line| line.starts_with("//"));
            let short = lines[opening..].iter().take(6).any(|line| *line == "}");
            if !said && !short {
                found.push(format!("{path}:{}: {}", opening + 1, lines[opening]));
            }
        }
    }
    none("tests without a word on what they show", &found);
}
