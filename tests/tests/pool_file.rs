//! Pool files as a whole: one of each format version is opened and holds what it held; `eagle-node check` and the quarantine tell of
//! damage what it is.
//!
//! `tests/fixtures/pool-v1.jsonl` is a pool as lines of the quarantine's format, zeros left out. A change that cannot read it any more
//! needs a new format version. `EAGLE_BLESS=1 cargo nextest run -p eagle-tests --test pool_file` writes the one of the present version
//! where it is missing.

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use eagle_node::check;
use eagle_pmem::{DamageKind, FORMAT_VERSION, PoolFile, SlotMap, Superblock, read_quarantine};
use eagle_resp::{OwnedArgs, Protocol, Reply};
use eagle_shard::{
    ReplayError,
    call::{Call, DbId, UnixMs},
    command::{self, lookup::Lookup, refusal},
    shard::{Shard, ShardConfig},
};

const NOW: UnixMs = UnixMs(1_700_000_000_000);
const EXTENT: u64 = 64 << 10;
const PAGE: usize = 4096;

fn superblock() -> Superblock {
    Superblock {
        generation: 0,
        pool_id: 42,
        shard: 0,
        shards: 1,
        slot_map: SlotMap::Modulo,
        extent_bytes: EXTENT as usize,
        hash_seed: 7,
        boot_id: [9; 16],
        checkpoint: 0,
    }
}

fn execute(shard: &mut Shard, db: u8, words: &[&[u8]]) -> Vec<u8> {
    let lookup = Lookup::new(command::rows());
    let mut args = OwnedArgs::default();
    words.iter().for_each(|word| args.push(word));
    let refusal::Named::Row(spec) = refusal::find(&lookup, args.as_args()) else { panic!("a command") };
    let mut out = Vec::new();
    let reply = Reply::new(&mut out, Protocol::Resp2);
    shard.execute(&mut Call { spec, args: args.as_args(), db: DbId(db), now: NOW, first: None, reply });
    out
}

fn text(shard: &mut Shard, db: u8, line: &str) -> String {
    let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
    String::from_utf8(execute(shard, db, &words)).expect("text")
}

/// Loads a pool's file to its end.
fn load(path: &Path, accept_damage: bool) -> Result<Shard, ReplayError> {
    let pool = PoolFile::open(path).expect("a pool");
    let mut shard = Shard::with_pool(&ShardConfig::default(), pool, None, accept_damage).expect("addresses");
    while shard.loading().is_some_and(|loading| loading.bytes_done < loading.bytes_total) {
        shard.load(NOW, 1000)?;
    }
    shard.load(NOW, 1)?;
    Ok(shard)
}

/// Writes what is due to the file.
fn commit(shard: &mut Shard, path: &Path) {
    use std::os::unix::fs::FileExt;
    let file = fs::File::options().write(true).open(path).expect("a file");
    let due = shard.commit();
    let (position, ranges) = (due.position, due.ranges.to_vec());
    for range in ranges {
        file.write_all_at(shard.pool_bytes(range.clone()), range.start).expect("a write");
    }
    shard.written(position);
    let is_all = position == shard.position();
    let mark = shard.begin_sync();
    shard.end_sync(mark);
    if !is_all {
        commit(shard, path);
    }
}

/// Makes a pool of all that there is in a format.
fn make(path: &Path) {
    PoolFile::create(path, &superblock()).expect("a pool");
    let mut shard = load(path, false).expect("an empty pool");
    while shard.loading().is_some() {
        commit(&mut shard, path);
    }
    let long = "y".repeat(100);
    for line in [
        "SET string value",
        "SET number 12345",
        "SET expires later PXAT 1800000000000",
        "SETRANGE large 70000 end",
        "HSET packed one 1 two 2",
        &format!("HSET hash long {long} short 1 gone 2"),
        "HDEL hash gone",
        "SET gone value",
        "DEL gone",
        "SET renamed value",
        "RENAME renamed name",
    ] {
        text(&mut shard, 0, line);
        commit(&mut shard, path);
    }
    text(&mut shard, 2, "SET flushed value");
    text(&mut shard, 2, "FLUSHDB");
    text(&mut shard, 2, "SET third value");
    text(&mut shard, 0, "SWAPDB 1 2");
    for _ in 0..20 {
        commit(&mut shard, path);
    }
}

/// What the pool above holds.
fn check_contents(shard: &mut Shard) {
    for (db, line, expected) in [
        (0, "GET string", "$5\r\nvalue\r\n"),
        (0, "GET number", "$5\r\n12345\r\n"),
        (0, "OBJECT ENCODING number", "$3\r\nint\r\n"),
        (0, "PEXPIRETIME expires", ":1800000000000\r\n"),
        (0, "STRLEN large", ":70003\r\n"),
        (0, "GETRANGE large 69998 -1", "$5\r\n\0\0end\r\n"),
        (0, "HGETALL packed", "*4\r\n$3\r\none\r\n$1\r\n1\r\n$3\r\ntwo\r\n$1\r\n2\r\n"),
        (0, "HLEN hash", ":2\r\n"),
        (0, "HGET hash short", "$1\r\n1\r\n"),
        (0, "HSTRLEN hash long", ":100\r\n"),
        (0, "EXISTS gone", ":0\r\n"),
        (0, "GET name", "$5\r\nvalue\r\n"),
        (0, "DBSIZE", ":7\r\n"),
        (1, "GET third", "$5\r\nvalue\r\n"),
        (1, "DBSIZE", ":1\r\n"),
        (2, "DBSIZE", ":0\r\n"),
    ] {
        assert_eq!(text(shard, db, line), expected, "{line}");
    }
}

fn fixture(version: u32) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("fixtures/pool-v{version}.jsonl"))
}

/// Writes a pool as a fixture, pages of zeros left out, and of the others the zeros at their ends.
fn bless(pool: &Path, to: &Path) {
    let file = fs::read(pool).expect("a pool");
    let mut text =
        format!("{{\"eagle_quarantine\":1,\"pool\":\"shard-00.pool\",\"pool_id\":42,\"extent_bytes\":{EXTENT}}}\n");
    for (nth, page) in file.chunks(512).enumerate() {
        let len = page.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        if len > 0 {
            let (byte, base64) = (nth * 512, STANDARD.encode(&page[..len]));
            let _ = writeln!(
                text,
                "{{\"byte\":{byte},\"len\":{len},\"extent\":0,\"what\":\"bytes\",\"base64\":\"{base64}\"}}"
            );
        }
    }
    fs::write(to, text).expect("a fixture");
}

/// The fixture of a version as a pool.
fn restore(version: u32, to: &Path) {
    let pieces = read_quarantine(&fixture(version)).expect("a fixture");
    let mut file = vec![0; 8192 + 128 * EXTENT as usize];
    for piece in pieces {
        let start = usize::try_from(piece.byte).expect("64 bits");
        file[start..start + piece.bytes.len()].copy_from_slice(&piece.bytes);
    }
    fs::write(to, file).expect("a file");
}

#[test]
fn pools_of_every_version_hold_what_they_held() {
    // Written by the program that had that format, opened by this one.
    let folder = tempfile::tempdir().expect("a folder");
    if std::env::var_os("EAGLE_BLESS").is_some() && !fixture(FORMAT_VERSION).exists() {
        let path = folder.path().join("new.pool");
        make(&path);
        bless(&path, &fixture(FORMAT_VERSION));
    }
    for version in 1..=FORMAT_VERSION {
        let path = folder.path().join(format!("v{version}.pool"));
        restore(version, &path);
        let mut shard = load(&path, false).unwrap_or_else(|error| panic!("version {version}: {error}"));
        check_contents(&mut shard);
        shard.check().expect("a sound shard");
    }
}

#[test]
fn a_pool_made_now_is_as_it_was_made_then() {
    // Byte for byte but for nothing: who changes the format must say so by a new version.
    let folder = tempfile::tempdir().expect("a folder");
    let (made, kept) = (folder.path().join("made.pool"), folder.path().join("kept.pool"));
    make(&made);
    restore(FORMAT_VERSION, &kept);
    let (made, kept) = (fs::read(&made).expect("a pool"), fs::read(&kept).expect("a pool"));
    let differs = made.iter().zip(&kept).position(|(made, kept)| made != kept);
    assert_eq!(differs, None, "the first byte that is another");
}

/// Runs the subcommand on a folder.
fn check(folder: &Path, words: &[&str]) -> (String, u8) {
    let mut all = vec!["--dir".to_owned(), folder.display().to_string()];
    all.extend(words.iter().map(ToString::to_string));
    check::run(&all)
}

#[test]
fn check_tells_sound_damaged_and_unreadable_apart_and_changes_nothing() {
    // A pool as it should be; one with a flipped bit, whose place is named; one without superblock; a folder without pools, or in use.
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("shard-00.pool");
    let (text, code) = check(folder.path(), &[]);
    assert!(code == 2 && text.contains("no pools"), "{text}");
    restore(FORMAT_VERSION, &path);
    let sound = fs::read(&path).expect("a pool");
    let (text, code) = check(folder.path(), &[]);
    assert!(code == 0 && text.contains("shard-00.pool: sound") && text.contains("keys: 8"), "{text}");
    let (text, code) = check(folder.path(), &["--json"]);
    assert!(code == 0 && text.contains("\"condition\": \"sound\"") && text.contains("\"damage\": []"), "{text}");

    let at = sound.windows(5).position(|bytes| bytes == b"12345").expect("the value");
    let mut damaged = sound.clone();
    damaged[at] ^= 4;
    fs::write(&path, &damaged).expect("a file");
    let (text, code) = check(folder.path(), &["--json"]);
    assert!(
        code == 1 && text.contains("\"condition\": \"damaged\"") && text.contains("\"what\": \"records\""),
        "{text}"
    );
    let place = text.split("\"byte\": ").nth(1).and_then(|rest| rest.split(',').next()).expect("a place");
    let place: usize = place.parse().expect("a number");
    assert!(place < at && at < place + 64, "{place} for {at}");
    assert_eq!(fs::read(&path).expect("a pool"), damaged, "nothing is written");
    assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 1, "no other file either");

    let mut one_copy = sound.clone();
    one_copy[100] ^= 1;
    fs::write(&path, &one_copy).expect("a file");
    assert_eq!(check(folder.path(), &[]).1, 1, "one copy of the superblock");
    load(&path, false).expect("the other copy is as good");
    one_copy[PAGE + 100] ^= 1;
    fs::write(&path, &one_copy).expect("a file");
    let (text, code) = check(folder.path(), &[]);
    assert!(code == 2 && text.contains("checksum"), "{text}");
    let lock = fs::File::create(folder.path().join("eagle.lock")).expect("a file");
    lock.try_lock().expect("a lock");
    assert_eq!(check(folder.path(), &[]).1, 2, "somebody has the folder");
    assert_eq!(check::run(&["--nonsense".to_owned()]).1, 2);
}

#[test]
fn what_was_damaged_is_kept_before_it_is_left_out() {
    // Refused without accept-damage, the file as it was; accepted, the damaged bytes are in a quarantine beside it and counted; what is left
    // is opened again without asking.
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("shard-00.pool");
    restore(FORMAT_VERSION, &path);
    let mut file = fs::read(&path).expect("a pool");
    let at = file.windows(5).position(|bytes| bytes == b"12345").expect("the value");
    file[at] ^= 4;
    fs::write(&path, &file).expect("a file");
    let Err(ReplayError::Damaged(report)) = load(&path, false) else { panic!("damage is refused") };
    let [damage] = report.damage[..] else { panic!("one place") };
    assert!(damage.what == DamageKind::Records && damage.range(u64::MAX).contains(&(at as u64)));
    assert_eq!(fs::read(&path).expect("a pool"), file, "refused, nothing is changed");

    let mut shard = load(&path, true).expect("damage is accepted");
    let (quarantine, bytes) = shard.recovery().quarantine.clone().expect("a quarantine");
    assert!(quarantine.to_string_lossy().ends_with("shard-00.quarantine-1700000000"));
    let kept = read_quarantine(&quarantine).expect("a quarantine");
    let range = damage.range(u64::MAX);
    assert_eq!((kept.len(), kept[0].byte, kept[0].what.as_str()), (1, range.start, "records"));
    assert_eq!(kept[0].bytes, file[range.start as usize..range.end as usize]);
    assert_eq!(bytes, range.end - range.start);
    assert_eq!(fs::read(&path).expect("a pool"), file, "until it is committed, nothing is changed");
    assert_eq!(text(&mut shard, 0, "GET number"), "$-1\r\n");
    while shard.loading().is_some() {
        commit(&mut shard, &path);
    }
    let again = load(&path, false).expect("no damage is left");
    assert_eq!(again.recovery().quarantine, None);
}
