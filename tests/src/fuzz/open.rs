//! The opener under any bytes: an error, or a sound shard that can be used, compacted and opened again.
//!
//! An input is a program that writes a pool (a fuzzer would never guess a checksum): extents with headers, records with any
//! fields, each of them whole unless it says otherwise, and bytes written over all that in the end.
//!
//! ```text
//!  extent: 'E', place, kind, run, sequence, version base, what was whole before, except, before (sequence, place)
//!  record: 'R', kind, flags, tag, db, id (5), version (2), expiry, lengths of key and value (up to 255 and 65535), their bytes
//!  seal:   'S', how many records more than there are       marker: 'M', its numbers
//!  group:  'G', a bit of its own in the last record's flags: more follows
//!  over:   'O', place (3), how many bytes, the bytes
//! ```
//! Numbers are single bytes where nothing else is said, so that small changes of an input are small changes of the pool.

use eagle_pmem::{ExtentSeed, PoolOffset, layout};
use eagle_resp::{OwnedArgs, Protocol, Reply};
use eagle_shard::{
    Budget,
    call::{Call, DbId, UnixMs},
    command::{self, lookup::Lookup, refusal},
    shard::{Shard, ShardConfig},
};
use layout::{extent_header, record_header};

const NOW: UnixMs = UnixMs(1_700_000_000_000);
const EXTENT: usize = 64 << 10;
const SUPERBLOCKS: usize = 8192;
const EXTENTS_MAX: usize = 6;
const DATABASES: u8 = 3;

/// The bytes of an input that are not yet used; zeros behind its end.
struct Input<'d>(&'d [u8]);

impl<'d> Input<'d> {
    fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    fn number(&mut self, bytes: u32) -> u64 {
        (0..bytes).fold(0, |number, nth| number | u64::from(self.byte()) << (8 * nth))
    }

    fn bytes(&mut self, len: usize) -> &'d [u8] {
        let (bytes, rest) = self.0.split_at(len.min(self.0.len()));
        self.0 = rest;
        bytes
    }

    /// A small number, or, where the byte is its highest, one that no pool comes to.
    fn large(&mut self) -> u64 {
        match self.byte() {
            255 => self.number(8),
            small => small.into(),
        }
    }
}

/// The pool being written.
struct Writer {
    file: Vec<u8>,
    start: usize,
    end: usize,
    next: usize,
    seed: ExtentSeed,
    records: u32,
    last: Option<usize>,
}

impl Writer {
    fn new() -> Self {
        let file = vec![0; SUPERBLOCKS + EXTENTS_MAX * EXTENT];
        let seed = ExtentSeed::new(1, 0);
        Self { file, start: SUPERBLOCKS, end: SUPERBLOCKS, next: SUPERBLOCKS, seed, records: 0, last: None }
    }

    fn extent(&mut self, input: &mut Input<'_>) {
        let place = usize::from(input.byte()) % EXTENTS_MAX;
        let (kind, run) = (input.byte(), u32::from(input.byte()));
        let (sequence, base) = (input.large(), input.large());
        let mut header = [0; extent_header::BYTES];
        let mut put = |at: usize, field: &[u8]| header[at..at + field.len()].copy_from_slice(field);
        put(extent_header::MAGIC, &layout::EXTENT_MAGIC.to_le_bytes());
        put(extent_header::POOL_ID, &1_u64.to_le_bytes());
        put(extent_header::SEQUENCE, &sequence.to_le_bytes());
        put(extent_header::VERSION_BASE, &base.to_le_bytes());
        put(extent_header::KIND, &[kind]);
        put(extent_header::RUN, &run.to_le_bytes());
        put(extent_header::WHOLE_BEFORE, &input.large().to_le_bytes());
        put(extent_header::EXCEPT, &input.large().to_le_bytes());
        put(extent_header::BEFORE, &input.large().to_le_bytes());
        put(extent_header::BEFORE_EXTENT, &u32::from(input.byte()).to_le_bytes());
        let checksum = crc32fast::hash(&header[..extent_header::CHECKSUM]);
        header[extent_header::CHECKSUM..].copy_from_slice(&checksum.to_le_bytes());
        self.start = SUPERBLOCKS + place * EXTENT;
        self.end = (self.start + EXTENT * (run as usize).max(1)).min(self.file.len());
        self.next = self.start + extent_header::BYTES;
        self.file[self.start..self.next].copy_from_slice(&header);
        (self.seed, self.records, self.last) = (ExtentSeed::new(1, sequence), 0, None);
    }

    fn record(&mut self, fields: &[u8]) {
        let len = (record_header::KIND + fields.len()).next_multiple_of(layout::RECORD_ALIGN);
        if self.next + len > self.end {
            return;
        }
        let record = &mut self.file[self.next..self.next + len];
        record.fill(0);
        record[record_header::KIND..record_header::KIND + fields.len()].copy_from_slice(fields);
        self.last = Some(self.next);
        self.sum(self.next, len);
        self.next += len;
        self.records += 1;
    }

    fn sum(&mut self, at: usize, len: usize) {
        let offset = PoolOffset::from_raw(at as u64 / 8);
        let crc = self.seed.checksum(&self.file[at + record_header::KIND..at + len], offset);
        self.file[at..at + record_header::KIND].copy_from_slice(&crc.to_le_bytes());
    }

    fn any_record(&mut self, input: &mut Input<'_>) {
        let (kind, flags, tag) = (input.byte(), input.byte(), input.byte());
        let (db, id, version) = (u16::from(input.byte()), input.number(5), input.large());
        let (expiry, key_len, value_len) = (input.byte(), input.byte(), input.number(2) as u16);
        let mut fields = vec![kind, flags, tag];
        let is_long = flags & record_header::LONG != 0;
        let lens = if is_long { (0, 0) } else { (key_len, value_len) };
        fields.push(lens.0);
        fields.extend(lens.1.to_le_bytes());
        if flags & record_header::EXPIRY != 0 {
            let at = NOW.0 + u64::from(expiry) - 100;
            fields.extend(&at.to_le_bytes()[..record_header::EXPIRY_BYTES]);
        }
        let value_len = if is_long { usize::from(value_len) + 65_536 } else { value_len.into() };
        if is_long {
            fields.extend(u32::from(key_len).to_le_bytes());
            fields.extend((value_len as u32).to_le_bytes());
        }
        if flags & record_header::DB != 0 {
            fields.extend(db.to_le_bytes());
        }
        if flags & record_header::ID != 0 {
            fields.extend(&id.to_le_bytes()[..record_header::ID_BYTES]);
        }
        if flags & record_header::VERSION != 0 {
            fields.extend(&version.to_le_bytes()[..record_header::VERSION_BYTES]);
        }
        let end = fields.len() + usize::from(key_len) + value_len;
        fields.extend(input.bytes(usize::from(key_len)));
        fields.extend(input.bytes(value_len));
        fields.resize(end, 0);
        self.record(&fields);
    }

    /// A record of the log's own.
    fn meta(&mut self, tag: u8, value: &[u8]) {
        let mut fields = vec![13, 0, tag, 0];
        fields.extend((value.len() as u16).to_le_bytes());
        fields.extend(value);
        self.record(&fields);
    }
}

/// The pool that an input describes.
fn pool(data: &[u8]) -> Vec<u8> {
    let (mut input, mut writer) = (Input(data), Writer::new());
    while !input.0.is_empty() {
        match input.byte() {
            b'E' => writer.extent(&mut input),
            b'R' => writer.any_record(&mut input),
            b'S' => {
                let count = writer.records.wrapping_add(input.byte().into());
                writer.meta(layout::meta::SEAL, &count.to_le_bytes());
            }
            b'M' => {
                let mut value = input.large().to_le_bytes().to_vec();
                for _ in 0..2 {
                    value.extend(input.large().to_le_bytes());
                    value.extend((input.number(2) as u32).to_le_bytes());
                }
                writer.meta(layout::meta::MARKER, &value);
            }
            b'F' => {
                let (count, len) = (input.number(4) as u32, usize::from(input.byte()));
                let mut value = count.to_le_bytes().to_vec();
                value.resize(4 + len, 0);
                writer.meta(layout::meta::FILLER, &value);
            }
            b'G' => {
                if let Some(last) = writer.last {
                    let (next, flags) = (writer.next, last + record_header::FLAGS);
                    writer.file[flags] |= record_header::MORE;
                    writer.sum(last, next - last);
                }
            }
            b'O' => {
                let (at, len) = (input.number(3) as usize % writer.file.len(), usize::from(input.byte()));
                let bytes = input.bytes(len);
                let end = (at + bytes.len()).min(writer.file.len());
                writer.file[at..end].copy_from_slice(&bytes[..end - at]);
            }
            _ => {}
        }
    }
    writer.file
}

/// Opens any pool.
///
/// # Panics
/// Something that must hold does not.
pub fn open(data: &[u8]) {
    let file = pool(data);
    for accept_damage in [false, true] {
        let Some(mut shard) = load(&file, accept_damage) else { continue };
        let mut written = file.clone();
        while shard.loading().is_some() {
            commit(&mut shard, &mut written);
        }
        commit(&mut shard, &mut written);
        shard.check().expect("what is opened is sound");
        use_all(&mut shard);
        let keys = keys(&shard);
        commit(&mut shard, &mut written);
        for _ in 0..4 {
            shard.background(NOW, Budget { records: 500, is_idle: true });
            commit(&mut shard, &mut written);
        }
        shard.check().expect("what is used is sound");
        let again = load(&written, false).expect("what was opened and written is opened again");
        assert_eq!(self::keys(&again), keys, "with as many keys");
    }
}

fn keys(shard: &Shard) -> Vec<usize> {
    (0..DATABASES).map(|db| shard.len(DbId(db))).collect()
}

fn load(file: &[u8], accept_damage: bool) -> Option<Shard> {
    let config =
        ShardConfig { databases: DATABASES, extent_size: EXTENT, capacity_max: 2 << 20, ..ShardConfig::default() };
    let mut shard = Shard::with_image(&config, file, None, accept_damage).expect("a small shard");
    while shard.loading().is_some_and(|loading| loading.bytes_done < loading.bytes_total) {
        shard.load(NOW, 100).ok()?;
    }
    shard.load(NOW, 1).ok()?;
    Some(shard)
}

fn commit(shard: &mut Shard, file: &mut Vec<u8>) {
    let due = shard.commit();
    let (position, ranges) = (due.position, due.ranges.to_vec());
    for range in &ranges {
        let (start, end) = (range.start as usize, range.end as usize);
        if file.len() < end {
            file.resize(end, 0);
        }
        file[start..end].copy_from_slice(shard.pool_bytes(range.clone()));
    }
    shard.written(position);
    let is_all = position == shard.position();
    let mark = shard.begin_sync();
    shard.end_sync(mark);
    if !is_all {
        return commit(shard, file);
    }
    if let Some(ranges) = shard.next_punch() {
        for range in ranges {
            let end = (range.end as usize).min(file.len());
            file[end.min(range.start as usize)..end].fill(0);
        }
        shard.punched(true);
    }
    if shard.next_growth().is_some() {
        // What it fills is zeros: new, or punched.
        shard.grown().expect("an image grows");
    }
}

/// Reads and changes every key.
fn use_all(shard: &mut Shard) {
    let lookup = Lookup::new(command::rows());
    for db in (0..DATABASES).map(DbId) {
        let listed = execute(shard, &lookup, db, &[b"KEYS", b"*"]);
        for key in bulks(&listed) {
            for command in
                ["OBJECT ENCODING", "MEMORY USAGE", "STRLEN", "GET", "HGETALL", "HSCAN", "APPEND", "HDEL", "PERSIST"]
            {
                let mut words: Vec<&[u8]> = command.split(' ').map(str::as_bytes).collect();
                words.push(key);
                match command {
                    "HSCAN" => words.push(b"0"),
                    "APPEND" => words.push(b"tail"),
                    "HDEL" => words.push(b"f"),
                    _ => {}
                }
                execute(shard, &lookup, db, &words);
            }
        }
    }
    execute(shard, &lookup, DbId(0), &[b"SET", b"new", b"value"]);
    execute(shard, &lookup, DbId(0), &[b"HSET", b"new hash", b"field", b"value"]);
}

fn execute(shard: &mut Shard, lookup: &Lookup, db: DbId, words: &[&[u8]]) -> Vec<u8> {
    let mut args = OwnedArgs::default();
    words.iter().for_each(|word| args.push(word));
    let refusal::Named::Row(spec) = refusal::find(lookup, args.as_args()) else { return Vec::new() };
    let mut out = Vec::new();
    let reply = Reply::new(&mut out, Protocol::Resp2);
    shard.execute(&mut Call { spec, args: args.as_args(), db, now: NOW, first: None, reply });
    out
}

/// The bulks of an array of them.
fn bulks(mut reply: &[u8]) -> Vec<&[u8]> {
    let mut found = Vec::new();
    while let Some(end) = reply.windows(2).position(|pair| pair == b"\r\n") {
        let (kind, number) = (reply[0], std::str::from_utf8(&reply[1..end]).unwrap_or_default());
        reply = &reply[end + 2..];
        if kind == b'$' {
            let len = number.parse::<usize>().expect("a length");
            found.push(&reply[..len]);
            reply = &reply[len + 2..];
        }
    }
    found
}
