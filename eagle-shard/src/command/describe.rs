//! Describing is telling a client what a row says: the replies of `COMMAND INFO` and `COMMAND DOCS`.
//!
//! Everything is read from the row; the only names made here are those of the ACL categories that
//! follow from flags. Field order and types are those of Redis 7.2 (`src/server.c:
//! addReplyCommandInfo`, `addReplyCommandDocs`). Names of flags are those of their constants in
//! lower case, which `bitflags` keeps.

use eagle_resp::Reply;

use crate::{
    spec::{Categories, Flags, KeyFlags, KeySpec, Spec},
    syntax::{self, Argument, Kind},
};

/// Writes what `COMMAND INFO` says of one command.
pub fn info(spec: &Spec, reply: &mut Reply<'_>) {
    reply.array(10);
    reply.bulk(spec.name.as_bytes());
    reply.integer(i64::from(spec.arity));
    reply.set(spec.flags.iter_names().count());
    for (name, _) in spec.flags.iter_names() {
        reply.simple(&name.to_ascii_lowercase());
    }
    let (first, last, step) = key_range(spec.keys);
    reply.integer(first);
    reply.integer(last);
    reply.integer(step);
    let categories = categories(spec);
    reply.set(categories.len());
    for category in categories {
        reply.simple(&format!("@{category}"));
    }
    reply.set(spec.tips.len());
    for tip in spec.tips {
        reply.bulk(tip.as_bytes());
    }
    reply.set(spec.keys.len());
    for keys in spec.keys {
        key_spec(keys, reply);
    }
    if spec.subcommands.is_empty() {
        return reply.set(0);
    }
    reply.array(spec.subcommands.len());
    for subcommand in spec.subcommands {
        info(subcommand, reply);
    }
}

/// Writes what `COMMAND DOCS` says of one command: its name and the map of its facts, a pair of
/// the reply's own map.
pub fn docs(spec: &Spec, reply: &mut Reply<'_>) {
    let arguments = syntax::parse(spec.syntax);
    let has =
        [!spec.complexity.is_empty(), !spec.history.is_empty(), !arguments.is_empty(), !spec.subcommands.is_empty()];
    let flags = [(spec.deprecated.is_some(), "deprecated"), (spec.is_internal, "syscmd")];
    let flags: Vec<&str> = flags.into_iter().filter(|(is, _)| *is).map(|(_, flag)| flag).collect();
    let deprecated = usize::from(!flags.is_empty()) + if spec.deprecated.is_some() { 2 } else { 0 };
    reply.bulk(spec.name.as_bytes());
    reply.map(3 + deprecated + has.iter().filter(|&&has| has).count());
    text("summary", spec.summary, reply);
    text("since", spec.since, reply);
    text("group", spec.group.name(), reply);
    if !spec.complexity.is_empty() {
        text("complexity", spec.complexity, reply);
    }
    if !flags.is_empty() {
        reply.bulk(b"doc_flags");
        reply.set(flags.len());
        flags.iter().for_each(|flag| reply.simple(flag));
    }
    if let Some(deprecated) = spec.deprecated {
        text("deprecated_since", deprecated.since, reply);
        text("replaced_by", deprecated.replaced_by, reply);
    }
    if !spec.history.is_empty() {
        reply.bulk(b"history");
        reply.set(spec.history.len());
        for (version, change) in spec.history {
            reply.array(2);
            text(version, change, reply);
        }
    }
    if !arguments.is_empty() {
        reply.bulk(b"arguments");
        let mut keys = NextKey::new(spec);
        argument_list(&arguments, &mut keys, reply);
    }
    if !spec.subcommands.is_empty() {
        reply.bulk(b"subcommands");
        reply.map(spec.subcommands.len());
        for subcommand in spec.subcommands {
            docs(subcommand, reply);
        }
    }
}

/// The ACL categories of a command, without `@`, in Redis' order.
#[must_use]
pub fn categories(spec: &Spec) -> Vec<&'static str> {
    let has = |flag: Flags| spec.flags.contains(flag);
    let own = |category: Categories| spec.categories.contains(category);
    let all = [
        ("keyspace", own(Categories::KEYSPACE)),
        ("read", has(Flags::READONLY) && !own(Categories::SCRIPTING)),
        ("write", has(Flags::WRITE)),
        ("set", own(Categories::SET)),
        ("sortedset", own(Categories::SORTEDSET)),
        ("list", own(Categories::LIST)),
        ("hash", own(Categories::HASH)),
        ("string", own(Categories::STRING)),
        ("pubsub", has(Flags::PUBSUB)),
        ("admin", has(Flags::ADMIN)),
        ("fast", has(Flags::FAST)),
        ("slow", !has(Flags::FAST)),
        ("blocking", has(Flags::BLOCKING)),
        ("dangerous", has(Flags::ADMIN) || own(Categories::DANGEROUS)),
        ("connection", own(Categories::CONNECTION)),
        ("transaction", own(Categories::TRANSACTION)),
        ("scripting", own(Categories::SCRIPTING)),
    ];
    let those = all.into_iter().filter(|(_, is)| *is);
    those.map(|(name, _)| name).collect()
}

/// First, last and step as `COMMAND INFO` gives them beside the key specifications, for clients
/// that know no others; several ranges become the one that spans them.
fn key_range(keys: &[KeySpec]) -> (i64, i64, i64) {
    let Some(first) = keys.iter().map(|range| range.first).min() else {
        return (0, 0, 0);
    };
    let last = |range: &KeySpec| match range.last {
        from_end @ ..0 => i64::from(from_end),
        from_first => i64::from(range.first) + i64::from(from_first),
    };
    let last = keys.iter().map(last).max().unwrap_or(0);
    (i64::from(first), last, i64::from(keys[0].step))
}

/// Writes what is done with a key, as `COMMAND INFO` and `COMMAND GETKEYSANDFLAGS` name it.
pub fn access(access: KeyFlags, reply: &mut Reply<'_>) {
    let kinds = KeyFlags::RO | KeyFlags::RW | KeyFlags::OW | KeyFlags::RM;
    reply.set(access.iter_names().count());
    for (name, flag) in access.iter_names() {
        match flag {
            KeyFlags::VARIABLE => reply.simple("variable_flags"),
            kind if kinds.contains(kind) => reply.simple(name),
            _ => reply.simple(&name.to_ascii_lowercase()),
        }
    }
}

fn key_spec(keys: &KeySpec, reply: &mut Reply<'_>) {
    reply.map(if keys.notes.is_empty() { 3 } else { 4 });
    if !keys.notes.is_empty() {
        text("notes", keys.notes, reply);
    }
    reply.bulk(b"flags");
    access(keys.access, reply);
    reply.bulk(b"begin_search");
    reply.map(2);
    text("type", "index", reply);
    reply.bulk(b"spec");
    reply.map(1);
    number("index", i64::from(keys.first), reply);
    reply.bulk(b"find_keys");
    reply.map(2);
    text("type", "range", reply);
    reply.bulk(b"spec");
    reply.map(3);
    number("lastkey", i64::from(keys.last), reply);
    number("keystep", i64::from(keys.step), reply);
    number("limit", 0, reply);
}

/// Finds the key specification of each key argument, going through the arguments in order.
struct NextKey<'a> {
    spec: &'a Spec,
    /// Index of the next argument in a request, as long as none before it may be left out.
    position: usize,
}

impl<'a> NextKey<'a> {
    fn new(spec: &'a Spec) -> Self {
        // Behind the name, of which a subcommand has two.
        let position = spec.name.split('|').count();
        Self { spec, position }
    }

    /// Index of the specification that the key argument at the current position belongs to.
    fn index(&self) -> Option<i64> {
        let begun = |range: &KeySpec| usize::from(range.first) <= self.position;
        let found = self.spec.keys.iter().rposition(begun)?;
        i64::try_from(found).ok()
    }
}

fn argument_list(arguments: &[Argument], keys: &mut NextKey<'_>, reply: &mut Reply<'_>) {
    reply.array(arguments.len());
    for argument in arguments {
        describe_argument(argument, keys, reply);
    }
}

fn describe_argument(argument: &Argument, keys: &mut NextKey<'_>, reply: &mut Reply<'_>) {
    let is_group = matches!(argument.kind, Kind::OneOf | Kind::Block);
    let key = match argument.kind {
        Kind::Key => keys.index(),
        _ => None,
    };
    let name = match argument.kind {
        Kind::PureToken => argument.name.to_ascii_lowercase(),
        _ => argument.name.to_owned(),
    };
    let flags = [(argument.optional, "optional"), (argument.multiple, "multiple")];
    let flags: Vec<_> = flags.into_iter().filter(|(is, _)| *is).collect();
    // Name, type, and either a text to display or the arguments within.
    let has = [key.is_some(), argument.token.is_some(), argument.since.is_some(), !flags.is_empty()];
    reply.map(3 + has.iter().filter(|&&has| has).count());
    text("name", &name, reply);
    text("type", argument.kind.name(), reply);
    if !is_group {
        text("display_text", &name, reply);
    }
    if let Some(key) = key {
        number("key_spec_index", key, reply);
    }
    if let Some(token) = argument.token {
        text("token", token, reply);
    }
    if let Some(since) = argument.since {
        text("since", since, reply);
    }
    if !flags.is_empty() {
        reply.bulk(b"flags");
        reply.set(flags.len());
        flags.iter().for_each(|(_, flag)| reply.simple(flag));
    }
    if is_group {
        reply.bulk(b"arguments");
        argument_list(&argument.within, keys, reply);
    } else {
        keys.position += 1;
    }
}

fn text(name: &str, fact: &str, reply: &mut Reply<'_>) {
    reply.bulk(name.as_bytes());
    reply.bulk(fact.as_bytes());
}

fn number(name: &str, fact: i64, reply: &mut Reply<'_>) {
    reply.bulk(name.as_bytes());
    reply.integer(fact);
}

#[cfg(test)]
mod tests {
    use eagle_resp::Protocol;

    use super::*;
    use crate::command;

    /// What a function says of a command, in RESP3, with blanks for line ends.
    fn said(name: &str, say: fn(&Spec, &mut Reply<'_>)) -> String {
        let row = command::rows().find(|row| row.name == name).unwrap();
        let mut out = Vec::new();
        say(row, &mut Reply::new(&mut out, Protocol::Resp3));
        String::from_utf8(out).unwrap().replace("\r\n", " ")
    }

    #[test]
    fn docs_are_those_of_redis() {
        // As a Redis 8.2.3 replies to COMMAND DOCS: keys with their specifications, an option with a value, a bare one.
        let expected = "$4 copy %5 $7 summary $39 Copies the value of a key to a new key. $5 since $5 6.2.0 \
            $5 group $7 generic $10 complexity $95 O(N) worst case for collections, where N is the number of \
            nested items. O(1) for string values. $9 arguments *4 \
            %4 $4 name $6 source $4 type $3 key $12 display_text $6 source $14 key_spec_index :0 \
            %4 $4 name $11 destination $4 type $3 key $12 display_text $11 destination $14 key_spec_index :1 \
            %5 $4 name $14 destination-db $4 type $7 integer $12 display_text $14 destination-db $5 token $2 DB \
            $5 flags ~1 +optional \
            %5 $4 name $7 replace $4 type $10 pure-token $12 display_text $7 replace $5 token $7 REPLACE \
            $5 flags ~1 +optional ";
        assert_eq!(said("copy", docs), expected);
    }

    #[test]
    fn docs_tell_history_groups_and_deprecation() {
        // FLUSHALL's one-of with versions and its history, SUBSTR's successor, OBJECT's subcommands.
        let flushall = said("flushall", docs);
        assert!(
            flushall.contains("$7 history ~2 *2 $5 4.0.0 $41 Added the `ASYNC` flushing mode modifier. *2 $5 6.2.0 ")
        );
        assert!(flushall.contains("%4 $4 name $10 flush-type $4 type $5 oneof $5 flags ~1 +optional $9 arguments *2 "));
        assert!(flushall.contains("$5 token $5 ASYNC $5 since $5 4.0.0 "));
        let deprecated = "$9 doc_flags ~1 +deprecated $16 deprecated_since $5 2.0.0 $11 replaced_by $10 `GETRANGE` ";
        assert!(said("substr", docs).contains(deprecated));
        let object = said("object", docs);
        assert!(object.contains("$11 subcommands %5 $15 object|refcount %5 "));
        assert!(object.contains("$4 name $3 key $4 type $3 key $12 display_text $3 key $14 key_spec_index :0 "));
    }

    #[test]
    fn info_is_that_of_redis() {
        // As a Redis 8.2.3 replies to COMMAND INFO: flags, range of keys, categories, tips, specifications.
        let expected = "*10 $3 set :-3 ~2 +write +denyoom :1 :1 :1 ~3 +@write +@string +@slow ~0 \
            ~1 %4 $5 notes $48 RW and ACCESS due to the optional `GET` argument \
            $5 flags ~4 +RW +access +update +variable_flags \
            $12 begin_search %2 $4 type $5 index $4 spec %1 $5 index :1 \
            $9 find_keys %2 $4 type $5 range $4 spec %3 $7 lastkey :0 $7 keystep :1 $5 limit :0 ~0 ";
        assert_eq!(said("set", info), expected);
        let head = |name: &str| said(name, info).split(" ~").next().unwrap().to_owned();
        assert_eq!(head("object"), "*10 $6 object :-2");
        let mset = said("mset", info);
        assert!(mset.contains(" :1 :-1 :2 ~3 "), "{mset}");
        assert!(said("rename", info).contains(" :1 :2 :1 ~3 +@keyspace +@write +@slow ~0 ~2 %3 "));
        assert!(said("dbsize", info).contains(" ~2 $25 request_policy:all_shards $23 response_policy:agg_sum ~0 ~0 "));
    }
}
