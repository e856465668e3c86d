//! Tests over the whole table of commands: that it is whole, that its facts are Redis', that the README shows it.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    fmt::Write as _,
    io::{Read, Write as _},
    net::TcpStream,
    path::PathBuf,
};

use eagle_resp::{Protocol, Reply, Value};
use eagle_shard::{
    command::describe,
    spec::{Flags, Group, Route, Run, Spec, Steps},
    syntax::{self, Argument},
};

use super::{Row, all_rows, find_named, row, row_count, rows};

/// Where our facts are not the oracle's: the command, how the differing fact begins (ours or theirs), and why.
const DIFFERENCES: &[(&str, &str, &str)] = &[
    ("append", "complexity: ", OWN_NAME),
    ("swapdb", "summary: ", OWN_NAME),
    ("object|encoding", "summary: ", OWN_NAME),
    ("lolwut", "summary: ", OWN_NAME),
    ("object|freq", "summary: ", OWN_NAME),
    ("object|idletime", "summary: ", OWN_NAME),
    ("memory|malloc-stats", "flag: loading", "Valkey's; Redis 7.0 and 7.2 refuse it while loading"),
    ("memory|purge", "flag: loading", "Valkey's; Redis 7.0 and 7.2 refuse it while loading"),
    ("set", "history: [8.1.0", "IFEQ came after Redis 7.2"),
    ("set", "arguments: (name condition", "IFEQ came after Redis 7.2"),
    ("hscan", "arguments: (name novalues", "NOVALUES came after Redis 7.2"),
    ("hello", "history: [8.1.0", "availability zones came after Redis 7.2"),
    ("client|kill", "history: [8.1.0", "several IDs came after Redis 7.2"),
    (
        "client|kill",
        "arguments: (name filter",
        "several IDs came after Redis 7.2; our notation has no deprecated arguments",
    ),
    ("slowlog", "d", REPLACED),
    ("slowlog", "replaced_by: ", REPLACED),
    ("slowlog|get", "d", REPLACED),
    ("slowlog|get", "replaced_by: ", REPLACED),
    ("slowlog|help", "d", REPLACED),
    ("slowlog|help", "replaced_by: ", REPLACED),
    ("slowlog|len", "d", REPLACED),
    ("slowlog|len", "replaced_by: ", REPLACED),
    ("slowlog|reset", "d", REPLACED),
    ("slowlog|reset", "replaced_by: ", REPLACED),
    ("waitaof", "summary: ", OWN_NAME),
    ("client|list", "history: [8.1.0", "further filters came after Redis 7.2"),
    ("client|list", "arguments: (name addr", "further filters came after Redis 7.2"),
    ("client|list", "arguments: (name laddr", "further filters came after Redis 7.2"),
    ("client|list", "arguments: (name maxage", "further filters came after Redis 7.2"),
    ("client|list", "arguments: (name skipme", "further filters came after Redis 7.2"),
    ("client|list", "arguments: (name username", "further filters came after Redis 7.2"),
];

/// Commands that Redis does not have.
const OWN: &[&str] = &["client|durability"];

const REPLACED: &str = "Valkey 8.1 has COMMANDLOG besides, and so deprecates it";
const OWN_NAME: &str = "the words are those of Redis 7.2; Valkey has taken the name Redis out of them";

fn repository(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

#[test]
fn every_command_has_a_name_a_number_and_what_executes_it() {
    // Names and numbers come once; the node executes exactly the rows that say so.
    let (mut names, mut numbers) = (HashSet::new(), HashSet::new());
    for row in all_rows() {
        assert!(names.insert(row.spec.name), "{} twice", row.spec.name);
        assert!(numbers.insert(row.index) && usize::from(row.index) < row_count());
        assert_eq!(row.node.is_some(), matches!(row.spec.run, Run::Node), "{}", row.spec.name);
        assert_eq!(row.rows.len(), row.spec.subcommands.len());
        assert!(std::ptr::eq(super::row(row.spec), row));
    }
    assert_eq!(numbers.len(), row_count());
}

#[test]
fn the_nodes_rows_are_whole() {
    // What the shards' rows promise about themselves holds for the node's: facts, syntax, keys.
    for row in all_rows().filter(|row| !matches!(row.spec.run, Run::Shard(_))) {
        let spec = row.spec;
        // Redis tells no complexity of LOLWUT, and calls it a reader, nor of MONITOR; nor the arguments of DEBUG.
        let is_lolwut = spec.name == "lolwut";
        let is_simple = is_lolwut || spec.name == "monitor";
        let facts = [spec.since, spec.summary, if is_simple { "-" } else { spec.complexity }];
        assert!(facts.iter().all(|fact| !fact.is_empty()), "{}: a fact is missing", spec.name);
        assert!(matches!(spec.run, Run::Node) || !spec.subcommands.is_empty(), "{}", spec.name);
        if matches!(spec.run, Run::Node) {
            assert!(spec.keys.is_empty() && spec.route == Route::Home, "{}", spec.name);
            assert!(!spec.writes() && (!spec.flags.contains(Flags::READONLY) || is_lolwut), "{}", spec.name);
        }
        // Each condition of CLIENT KILL is optional in Redis' documentation too, although one must be there.
        if spec.subcommands.is_empty() && spec.name != "client|kill" && !spec.is_internal {
            let arguments = syntax::parse(spec.syntax);
            let fewest = i8::try_from(syntax::least(&arguments) + spec.name.split('|').count()).unwrap();
            let varies = arguments.iter().any(Argument::varies);
            // PING and QUIT say -1 where their syntax is exact, as in Redis.
            let arity = if varies || spec.arity == -fewest { -fewest } else { fewest };
            assert_eq!(spec.arity, arity, "{}", spec.name);
        }
    }
}

/// What Redis says of a command, one fact a line. The text that a page shows instead of an argument's name is left
/// out.
fn facts(info: &Value, docs: &Value) -> BTreeSet<String> {
    let Value::Array(info) = info else { panic!("COMMAND INFO is an array, not {info:?}") };
    let mut facts = BTreeSet::new();
    facts.insert(format!("arity: {}", text(&info[1])));
    facts.insert(format!("keys: {} {} {}", text(&info[3]), text(&info[4]), text(&info[5])));
    for (name, list) in [("flag", &info[2]), ("category", &info[6]), ("tip", &info[7]), ("key", &info[8])] {
        facts.extend(items(list).iter().map(|item| format!("{name}: {}", text(item))));
    }
    let Value::Map(docs) = docs else { panic!("COMMAND DOCS is a map, not {docs:?}") };
    for (name, fact) in docs {
        match text(name).as_str() {
            "subcommands" => {}
            name @ ("arguments" | "history" | "doc_flags") => {
                facts.extend(items(fact).iter().map(|item| format!("{name}: {}", text(item))));
            }
            name => {
                facts.insert(format!("{name}: {}", text(fact)));
            }
        }
    }
    facts
}

fn items(value: &Value) -> &[Value] {
    match value {
        Value::Array(items) | Value::Set(items) => items,
        other => panic!("a list, not {other:?}"),
    }
}

fn text(value: &Value) -> String {
    match value {
        Value::Simple(bytes) | Value::Bulk(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        Value::Integer(number) => number.to_string(),
        Value::Array(items) => format!("[{}]", items.iter().map(text).collect::<Vec<_>>().join(", ")),
        Value::Set(items) => {
            let mut items: Vec<_> = items.iter().map(text).collect();
            items.sort();
            format!("{{{}}}", items.join(", "))
        }
        Value::Map(pairs) => {
            let shown = pairs.iter().filter(|(name, _)| text(name) != "display_text");
            let pairs: Vec<_> = shown.map(|(name, value)| format!("{} {}", text(name), text(value))).collect();
            format!("({})", pairs.join(", "))
        }
        other => panic!("no fact is {other:?}"),
    }
}

fn parsed(bytes: &[u8]) -> Value {
    let (value, len) = Value::parse(bytes).expect("well-formed").expect("whole");
    assert_eq!(len, bytes.len());
    value
}

fn our_facts(spec: &Spec) -> BTreeSet<String> {
    let mut info = Vec::new();
    describe::info(spec, &mut Reply::new(&mut info, Protocol::Resp3));
    let mut docs = Vec::new();
    let mut reply = Reply::new(&mut docs, Protocol::Resp3);
    reply.array(2);
    describe::docs(spec, &mut reply);
    let Value::Array(mut pair) = parsed(&docs) else { panic!("two replies") };
    facts(&parsed(&info), &pair.remove(1))
}

/// The recorded facts, by command.
fn recorded() -> BTreeMap<String, BTreeSet<String>> {
    let fixture = std::fs::read_to_string(repository("tests/fixtures/commands-valkey-8.1.8.txt")).unwrap();
    let mut commands: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut command = String::new();
    for line in fixture.lines().filter(|line| !line.is_empty() && !line.starts_with("##")) {
        match line.strip_prefix("# ") {
            Some(name) => command = name.to_owned(),
            None => {
                commands.entry(command.clone()).or_default().insert(line.to_owned());
            }
        }
    }
    commands
}

#[test]
fn facts_are_those_of_redis() {
    // Every fact of every row against what Valkey 8.1.8 says of it; the exceptions are listed, and none is stale.
    let recorded = recorded();
    let mut excused = HashSet::new();
    let mut complaints = String::new();
    for row in all_rows().filter(|row| !OWN.contains(&row.spec.name)) {
        let name = row.spec.name;
        let ours = our_facts(row.spec);
        let Some(theirs) = recorded.get(name) else {
            let _ = writeln!(complaints, "{name}: not recorded; see record_facts");
            continue;
        };
        for fact in ours.symmetric_difference(theirs) {
            let excuse = DIFFERENCES.iter().position(|(command, begin, _)| *command == name && fact.starts_with(begin));
            match excuse {
                Some(index) => {
                    excused.insert(index);
                }
                None => {
                    let whose = if ours.contains(fact) { "only ours" } else { "only theirs" };
                    let _ = writeln!(complaints, "{name}: {whose}: {fact}");
                }
            }
        }
    }
    assert!(complaints.is_empty(), "\n{complaints}");
    for (index, (command, begin, _)) in DIFFERENCES.iter().enumerate() {
        assert!(excused.contains(&index), "{command}, {begin}: no difference any more");
    }
}

/// Asks a Valkey 8.1.8 at the address in EAGLE_ORACLE for the facts of our commands.
#[test]
#[ignore = "records the fixture anew: EAGLE_ORACLE=127.0.0.1:6379 cargo test -p eagle-node record_facts -- --ignored"]
fn record_facts() {
    let mut oracle = TcpStream::connect(std::env::var("EAGLE_ORACLE").expect("EAGLE_ORACLE=host:port")).unwrap();
    let mut ask = |request: &[&str]| {
        let mut bytes = format!("*{}\r\n", request.len());
        for word in request {
            let _ = write!(bytes, "${}\r\n{word}\r\n", word.len());
        }
        oracle.write_all(bytes.as_bytes()).unwrap();
        let (mut reply, mut chunk) = (Vec::new(), [0; 65536]);
        loop {
            if let Some((value, _)) = Value::parse(&reply).unwrap() {
                return value;
            }
            let len = oracle.read(&mut chunk).unwrap();
            assert!(len > 0, "the oracle closed the connection");
            reply.extend_from_slice(&chunk[..len]);
        }
    };
    ask(&["HELLO", "3"]);
    let mut fixture = String::from("## What Valkey 8.1.8 says of our commands; written by the test record_facts.\n");
    for row in all_rows() {
        let name = row.spec.name;
        let info = items(&ask(&["COMMAND", "INFO", name]))[0].clone();
        if info == Value::Null {
            continue;
        }
        let Value::Map(docs) = ask(&["COMMAND", "DOCS", name]) else { panic!("COMMAND DOCS is a map") };
        let _ = writeln!(fixture, "\n# {name}");
        for fact in facts(&info, &docs[0].1) {
            let _ = writeln!(fixture, "{fact}");
        }
    }
    std::fs::write(repository("tests/fixtures/commands-valkey-8.1.8.txt"), fixture).unwrap();
}

const GROUPS: [(Group, &str); 5] = [
    (Group::String, "strings"),
    (Group::Hash, "hashes"),
    (Group::Generic, "keys"),
    (Group::Connection, "connection"),
    (Group::Server, "server"),
];

/// The table of the README, between its marks.
fn compatibility() -> String {
    let mut table = String::from(
        "\nThese commands of Redis 7.2 are there, with its replies and errors; others are unknown yet.\n\n\
         | group | commands |\n| --- | --- |\n",
    );
    for (group, title) in GROUPS {
        let mut rows: Vec<&Row> = rows().filter(|row| row.spec.group == group).collect();
        rows.sort_by_key(|row| row.spec.name);
        let names: Vec<String> = rows.into_iter().map(shown).collect();
        let _ = writeln!(table, "| {title} | {} |", names.join(", "));
    }
    table.push_str("\nA star marks commands that may name keys of several shards.\n");
    table
}

fn shown(row: &Row) -> String {
    let name = row.spec.name.to_uppercase();
    if !row.rows.is_empty() {
        let start = name.len() + 1;
        let names: Vec<String> = row.rows.iter().map(|sub| sub.spec.name[start..].to_uppercase()).collect();
        return format!("{name} ({})", names.join(", "));
    }
    match row.spec.route {
        Route::Split(_) => name + "\\*",
        Route::Keys(steps) if steps != Steps::Single => name + "\\*",
        _ => name,
    }
}

#[test]
fn the_readme_shows_the_table() {
    // Run with UPDATE=1 to write it there.
    const BEGIN: &str = "<!-- compatibility:begin -->\n";
    const END: &str = "<!-- compatibility:end -->";
    let path = repository("README.md");
    let readme = std::fs::read_to_string(&path).unwrap();
    let begin = readme.find(BEGIN).expect("the README has the mark") + BEGIN.len();
    let end = begin + readme[begin..].find(END).expect("the README has both marks");
    let table = compatibility() + "\n";
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, [&readme[..begin], &table, &readme[end..]].concat()).unwrap();
    } else {
        assert_eq!(&readme[begin..end], table, "run this test with UPDATE=1");
    }
}

#[test]
fn names_lead_to_rows() {
    // As COMMAND INFO takes them, in any case.
    assert_eq!(find_named(b"CONFIG|Get").unwrap().spec.name, "config|get");
    assert!(find_named(b"config|nothing").is_none());
    assert!(rows().all(|each| std::ptr::eq(row(each.spec), each)));
}
