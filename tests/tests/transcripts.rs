//! The transcripts under `tests/transcripts` are what EagleDB answers, and what a real Redis answers.
//!
//! One file a command. Played to a shard in this process, with and without overwriting in place; and to a real `redis-server`, so that
//! no reply is there only because somebody believed it. `EAGLE_BLESS=1` writes the replies of the real server into the files, to be
//! looked at one by one.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use eagle_shard::{command, shard::ShardConfig, spec::Spec, syntax};
use eagle_tests::process::Process;
use eagle_tests::transcript::{Play, Target, Transcript, differences, server::Server, shard::ShardTarget};

/// All transcripts with their paths.
fn transcripts() -> Vec<(PathBuf, Transcript)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("transcripts");
    let list = |directory: &Path| -> Vec<PathBuf> {
        let entries = fs::read_dir(directory).expect("a directory of transcripts");
        entries.map(|entry| entry.expect("an entry").path()).collect()
    };
    let mut files: Vec<_> = list(&root).iter().flat_map(|family| list(family)).collect();
    files.sort();
    let read = |path: PathBuf| {
        let text = fs::read_to_string(&path).expect("a readable file");
        let transcript = Transcript::parse(&text).unwrap_or_else(|mistake| panic!("{}: {mistake}", path.display()));
        (path, transcript)
    };
    files.into_iter().map(read).collect()
}

/// Those of commands that a shard executes, by the command's name.
fn of_shard() -> BTreeMap<&'static str, (PathBuf, Transcript)> {
    let mut files: BTreeMap<String, _> =
        transcripts().into_iter().map(|(path, text)| (name(&path), (path, text))).collect();
    let found = command::rows().filter_map(|row| Some((row.name, files.remove(row.name)?)));
    found.collect()
}

/// The name of the command that a file is about.
fn name(path: &Path) -> String {
    path.file_stem().expect("a file has a name").to_string_lossy().into_owned()
}

fn play(target: &mut impl Target, how: Play, files: impl IntoIterator<Item = (PathBuf, Transcript)>) {
    let mut failures = String::new();
    for (path, expected) in files {
        let differences = differences(&expected, &expected.run(target, how));
        if !differences.is_empty() {
            failures += &format!("{}\n{differences}\n", path.display());
        }
    }
    assert!(failures.is_empty(), "\n{failures}");
}

#[test]
fn a_shard_answers_as_the_transcripts_say() {
    // Overwriting records in place, as a volatile pool may.
    play(&mut ShardTarget::new(ShardConfig::default()), Play::OwnClock, of_shard().into_values());
}

#[test]
fn a_shard_that_only_appends_answers_the_same() {
    // With a log that is to be replayed: no record is changed, deletes leave tombstones.
    let config = ShardConfig { in_place: false, ..ShardConfig::default() };
    play(&mut ShardTarget::new(config), Play::OwnClock, of_shard().into_values());
}

#[test]
fn a_node_of_one_shard_answers_as_the_transcripts_say() {
    // The real binary behind a socket, with the node's own commands too.
    let mut node = Server::new(Process::eagledb(&["--pool", "none", "--shards", "1", "--enable-debug-command", "yes"]));
    play(&mut node, Play::RealClock, transcripts());
}

#[test]
fn a_node_of_two_shards_answers_the_same() {
    // Keys cross shards. A whole SCAN takes more than one call then, so its transcript is left out.
    let mut node = Server::new(Process::eagledb(&["--pool", "none", "--shards", "2", "--enable-debug-command", "yes"]));
    let files = transcripts();
    play(&mut node, Play::RealClock, files.into_iter().filter(|(path, _)| name(path) != "scan"));
}

#[test]
fn a_node_with_pools_in_files_answers_the_same() {
    // Replies that wait for commits are the same replies; but WAITAOF has something to wait for.
    let mut node = Server::new(Process::eagledb(&["--pool", "file", "--shards", "2", "--enable-debug-command", "yes"]));
    let files = transcripts();
    let is_same = |path: &Path| !["scan", "waitaof"].contains(&name(path).as_str());
    play(&mut node, Play::RealClock, files.into_iter().filter(|(path, _)| is_same(path)));
}

#[test]
fn a_real_redis_answers_the_same() {
    // Debian's redis-server decides; what Redis 7.2 added is asked of a Valkey 8.1.8 (deploy/test.sh installs it).
    let (newer, older): (Vec<_>, Vec<_>) =
        transcripts().into_iter().partition(|(_, transcript)| transcript.wants_valkey());
    check_or_bless(&mut Server::new(Process::redis()), older);
    match Process::valkey() {
        Some(valkey) => check_or_bless(&mut Server::new(valkey), newer),
        None => assert!(newer.is_empty(), "EAGLE_VALKEY_BIN is not set"),
    }
}

fn check_or_bless(server: &mut Server, files: Vec<(PathBuf, Transcript)>) {
    if std::env::var("EAGLE_BLESS").is_err() {
        return play(server, Play::RealClock, files);
    }
    let bless = |(path, transcript): (PathBuf, Transcript)| -> io::Result<()> {
        fs::write(path, transcript.run(server, Play::RealClock).to_string())
    };
    files.into_iter().try_for_each(bless).expect("the files can be written");
}

#[test]
fn every_command_has_a_transcript() {
    // A file for each row; in it, each subcommand and each option of the row's syntax is asked for.
    let files = of_shard();
    for row in command::rows() {
        let (path, transcript) = files.get(row.name).unwrap_or_else(|| panic!("{} has no transcript", row.name));
        let words: Vec<Vec<String>> = transcript.requests().map(|request| upper_case(&request)).collect();
        for wanted in std::iter::once(row).chain(row.subcommands) {
            let names: Vec<String> = wanted.name.split('|').map(str::to_uppercase).collect();
            let asked: Vec<_> = words.iter().filter(|words| words.starts_with(&names)).collect();
            assert!(!asked.is_empty(), "{} does not ask {}", path.display(), wanted.name);
            for token in tokens(wanted) {
                let is_asked = asked.iter().any(|words| words.iter().any(|word| word == token));
                assert!(is_asked, "{} does not ask {} with {token}", path.display(), wanted.name);
            }
        }
    }
}

#[test]
fn every_command_of_the_node_has_a_transcript() {
    // Each subcommand is asked for in some file; but for the texts of HELP, which are our own, and what Redis does not have.
    const OWN_TEXTS: [&str; 5] = ["client|help", "command|help", "config|help", "module|help", "client|durability"];
    let all: Vec<Vec<String>> = transcripts()
        .iter()
        .flat_map(|(_, text)| text.requests().map(|request| upper_case(&request)).collect::<Vec<_>>())
        .collect();
    let is_node = |row: &&eagle_node::command::Row| !matches!(row.spec.run, eagle_shard::spec::Run::Shard(_));
    for row in eagle_node::command::all_rows().filter(is_node) {
        let names: Vec<String> = row.spec.name.split('|').map(str::to_uppercase).collect();
        let asked = all.iter().any(|words| words.starts_with(&names));
        assert!(asked || OWN_TEXTS.contains(&row.spec.name), "{} is in no transcript", row.spec.name);
    }
}

fn upper_case(request: &eagle_resp::OwnedArgs) -> Vec<String> {
    let words = request.as_args().iter().map(|word| String::from_utf8_lossy(word).to_uppercase());
    words.collect()
}

/// All tokens of a command's syntax.
fn tokens(row: &Spec) -> Vec<&'static str> {
    fn collect(arguments: &[syntax::Argument], tokens: &mut Vec<&'static str>) {
        for argument in arguments {
            tokens.extend(argument.token);
            collect(&argument.within, tokens);
        }
    }
    let mut all = Vec::new();
    collect(&syntax::parse(row.syntax), &mut all);
    all
}
