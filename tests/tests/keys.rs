//! COMMAND GETKEYS beside a real server: the keys of random commands of every row, with what is done with them.

use eagle_shard::spec::{Run, Spec};
use eagle_tests::{grammar::Grammar, process::Process, seeds, wire::Wire};

/// Rows with keys that clients may send, subcommands included.
fn rows() -> impl Iterator<Item = &'static Spec> {
    eagle_shard::command::rows()
        .flat_map(|row| if row.subcommands.is_empty() { std::slice::from_ref(row) } else { row.subcommands })
        .filter(|row| matches!(row.run, Run::Shard(_)) && !row.keys.is_empty())
}

#[test]
fn keys_of_random_commands_are_those_that_valkey_finds() {
    // Well-formed and mangled ones, as the rows' grammar makes them; errors too. Which of several complaints about a mangled
    // command comes first is not compared.
    let Some(valkey) = Process::valkey() else { return };
    let node = Process::eagledb(&["--shards", "1"]);
    let (mut ours, mut theirs) = (Wire::connect(node.address()), Wire::connect(valkey.address()));
    for seed in seeds(0..5) {
        let mut rng = fastrand::Rng::with_seed(seed);
        let grammar = Grammar::new(rows(), 12, 1_700_000_000_000);
        for _ in 0..1_000 {
            let (row, words) = grammar.command(&mut rng);
            for subcommand in [&b"GETKEYS"[..], b"GETKEYSANDFLAGS"] {
                let mut request: Vec<&[u8]> = vec![b"COMMAND", subcommand];
                request.extend(words.iter().map(Vec::as_slice));
                let (our, their) = (ours.raw(&request), theirs.raw(&request));
                let shown = words.iter().map(|word| word.escape_ascii().to_string()).collect::<Vec<_>>().join(" ");
                let both_refuse = our.starts_with(b"-") && their.starts_with(b"-");
                assert!(
                    our == their || both_refuse,
                    "EAGLE_SEED={seed}: {} of {}: {shown}\n  ours   {}\n  theirs {}",
                    String::from_utf8_lossy(subcommand),
                    row.name,
                    our.escape_ascii(),
                    their.escape_ascii()
                );
            }
        }
    }
}
