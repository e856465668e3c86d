//! Random commands from the rows of the command table: each argument of a row's syntax drawn from a small pool in which
//! things collide, and now and then something wrong.

use eagle_shard::{
    spec::Spec,
    syntax::{self, Argument, Kind},
};
use fastrand::Rng;

/// Draws commands.
#[derive(Debug)]
pub struct Grammar {
    rows: Vec<(&'static Spec, Vec<Argument>)>,
    keys: Vec<Vec<u8>>,
    /// Present time in Unix milliseconds, for absolute expiries.
    pub now_ms: u64,
}

impl Grammar {
    /// Commands of these rows over so many keys.
    #[must_use]
    pub fn new(rows: impl Iterator<Item = &'static Spec>, keys: usize, now_ms: u64) -> Self {
        Self {
            rows: rows.map(|row| (row, syntax::parse(row.syntax))).collect(),
            keys: (0..keys).map(|key| format!("key:{key}").into_bytes()).collect(),
            now_ms,
        }
    }

    /// A random command and its row.
    pub fn command(&self, rng: &mut Rng) -> (&'static Spec, Vec<Vec<u8>>) {
        let (row, arguments) = &self.rows[rng.usize(..self.rows.len())];
        let mut words: Vec<Vec<u8>> = row.name.split('|').map(|word| case(rng, word)).collect();
        for argument in arguments {
            self.argument(rng, argument, &mut words);
        }
        // A misplaced number must not become an expiry within the test: the two servers' clocks are read at two moments.
        let expires = row.syntax.contains("seconds");
        spoil(rng, &mut words, !expires);
        (row, words)
    }

    fn argument(&self, rng: &mut Rng, argument: &Argument, words: &mut Vec<Vec<u8>>) {
        if argument.optional && rng.u8(0..3) > 0 {
            return;
        }
        let times = if argument.multiple { rng.usize(1..=4) } else { 1 };
        for _ in 0..times {
            if let Some(token) = argument.token {
                words.push(case(rng, token));
            }
            match argument.kind {
                Kind::PureToken => {}
                Kind::OneOf => {
                    let choice = rng.usize(..argument.within.len());
                    self.argument(rng, &argument.within[choice], words);
                }
                Kind::Block => argument.within.iter().for_each(|part| self.argument(rng, part, words)),
                Kind::Key => words.push(self.keys[rng.usize(..self.keys.len())].clone()),
                Kind::Integer => words.push(integer(rng, argument.name)),
                Kind::Double => words.push(double(rng)),
                Kind::UnixTime => words.push(self.time(rng, argument.name)),
                Kind::Pattern => words.push(pattern(rng)),
                Kind::String if argument.name == "field" => words.push(field(rng)),
                Kind::String => words.push(string(rng)),
            }
        }
    }

    /// Times far enough away that both servers agree what has expired.
    fn time(&self, rng: &mut Rng, name: &str) -> Vec<u8> {
        let ms = match rng.u8(0..6) {
            0 => 1,
            1 => self.now_ms - 100_000,
            _ => self.now_ms + rng.u64(1_000_000..10_000_000),
        };
        let value = if name.contains("milliseconds") { ms } else { ms / 1000 };
        value.to_string().into_bytes()
    }
}

/// One time in twelve something is wrong: too few or too many words or, if they may move, misplaced ones.
fn spoil(rng: &mut Rng, words: &mut Vec<Vec<u8>>, may_move: bool) {
    if rng.u8(0..12) > 0 {
        return;
    }
    match rng.u8(0..if may_move { 5 } else { 2 }) {
        0 if words.len() > 1 => {
            words.pop();
        }
        2 => words.push(short(rng)),
        3 if words.len() > 1 => {
            let place = rng.usize(1..words.len());
            words[place] = short(rng);
        }
        4 if words.len() > 2 => {
            let (a, b) = (rng.usize(1..words.len()), rng.usize(1..words.len()));
            words.swap(a, b);
        }
        _ => words.push(b"extra".to_vec()),
    }
}

fn case(rng: &mut Rng, word: &str) -> Vec<u8> {
    match rng.u8(0..3) {
        0 => word.to_ascii_uppercase(),
        1 => word.to_ascii_lowercase(),
        _ => word.chars().map(|c| if rng.bool() { c.to_ascii_uppercase() } else { c.to_ascii_lowercase() }).collect(),
    }
    .into_bytes()
}

fn integer(rng: &mut Rng, name: &str) -> Vec<u8> {
    if name.contains("seconds") {
        // Relative expiries must be as far away as absolute ones, or wrong.
        const WRONG: [&str; 6] = ["0", "-1", "9223372036854775807", "-9223372036854775808", "1.5", "abc"];
        if rng.u8(0..4) == 0 {
            return WRONG[rng.usize(..WRONG.len())].as_bytes().to_vec();
        }
        return rng.u32(2_000_000..9_000_000).to_string().into_bytes();
    }
    if name == "offset" {
        return rng.i32(-2..40).to_string().into_bytes();
    }
    if name == "cursor" {
        // Valkey has ceased to take negative ones, which Redis 7 reads as very large.
        return if rng.u8(0..8) == 0 { b"abc".to_vec() } else { rng.u8(0..40).to_string().into_bytes() };
    }
    match rng.u8(0..14) {
        0 => b"0".to_vec(),
        1 => b"-1".to_vec(),
        2 => i64::MAX.to_string().into_bytes(),
        3 => i64::MIN.to_string().into_bytes(),
        4 => b"9223372036854775808".to_vec(),
        5 => b"1.5".to_vec(),
        6 => b"abc".to_vec(),
        7 => b" 1".to_vec(),
        _ => rng.i32(-20..20).to_string().into_bytes(),
    }
}

fn double(rng: &mut Rng) -> Vec<u8> {
    const ODD: [&str; 10] = ["0", "-0", "1e300", "inf", "-inf", "nan", "0x10", "1e-7", "3.0e3", "abc"];
    if rng.u8(0..3) == 0 {
        return ODD[rng.usize(..ODD.len())].as_bytes().to_vec();
    }
    format!("{}", f64::from(rng.i32(-100_000..100_000)) / 100.0).into_bytes()
}

fn pattern(rng: &mut Rng) -> Vec<u8> {
    const PATTERNS: [&str; 8] = ["*", "key:*", "key:?", "key:[1-3]", "key:[^1-3]", "k\\ey:*", "nothing", "*:1*"];
    PATTERNS[rng.usize(..PATTERNS.len())].as_bytes().to_vec()
}

/// What may stand where it does not belong: errors quote it, and their lines have an end.
fn short(rng: &mut Rng) -> Vec<u8> {
    let mut text = string(rng);
    text.truncate(200);
    text
}

/// One of few fields, so that they meet again; now and then one too long for a packed hash, or any other.
fn field(rng: &mut Rng) -> Vec<u8> {
    match rng.u8(0..30) {
        0 => vec![b'f'; rng.usize(60..70)],
        1 => short(rng),
        _ => format!("field:{}", rng.u8(0..12)).into_bytes(),
    }
}

fn string(rng: &mut Rng) -> Vec<u8> {
    match rng.u8(0..12) {
        0 => Vec::new(),
        1 => b"a\r\nb\0c".to_vec(),
        2 => vec![b'x'; 50],
        3 => vec![b'y'; rng.usize(60_000..140_000)],
        4 => b"3.0".to_vec(),
        5 => b"0012".to_vec(),
        6 | 7 => double(rng),
        8 | 9 => rng.i64(-1000..1000).to_string().into_bytes(),
        _ => (0..rng.usize(1..30)).map(|_| rng.alphanumeric() as u8).collect(),
    }
}
