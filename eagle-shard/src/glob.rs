//! A glob is Redis' pattern for keys: `*`, `?`, `[class]`, `\escape`.
//!
//! It answers exactly as Redis 7.2 does (`src/util.c: stringmatchlen`), oddities included, because clients came to
//! depend on them:
//!
//! - an unclosed class ends with the pattern: `[ab` is `[ab]`; `[]` holds nothing and `[^]` everything;
//! - `-` makes a range of whatever stands on its sides, `]` included; ends in the wrong order are swapped;
//! - bytes of a range compare as signed, so that `[a-\xff]` is `[\xff-a]`;
//! - a backslash at the end stands for itself;
//! - `*` does not match the empty key (`KEYS` and `SCAN` do not ask when the pattern is `*` alone);
//! - more than 1000 stars that are not the last match nothing.
//!
//! Redis recurses at each star and, when the rest of the pattern is nowhere in the rest of the key, tells the stars
//! before to give up. That is the same as going back to the last star only, which is what the loop below does: time is
//! at most the product of the lengths, and no memory is needed.

/// Stars followed by something that a pattern may have (`nesting` in Redis).
const STARS_MAX: usize = 1000;

/// Whether letters of different case are the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Case {
    /// They are not: keys, channels.
    Sensitive,
    /// They are: names of configuration directives and commands.
    Ignore,
}

/// Whether `pattern` matches all of `text`.
#[must_use]
pub fn matches(pattern: &[u8], text: &[u8], case: Case) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut stars = 0;
    // Where to go on after a mismatch: behind the last star, and the next place in the text to try.
    let mut retry: Option<(usize, usize)> = None;
    // Redis does not look at the pattern of an empty text.
    if text.is_empty() {
        return pattern.is_empty();
    }
    loop {
        if p < pattern.len() && t < text.len() {
            if pattern[p] == b'*' {
                p += pattern[p..].iter().take_while(|&&byte| byte == b'*').count();
                if p == pattern.len() {
                    return true;
                }
                stars += 1;
                if stars > STARS_MAX {
                    return false;
                }
                retry = Some((p, t));
                continue;
            }
            let (matched, next) = one(&pattern[p..], text[t], case);
            if matched {
                p += next;
                t += 1;
                continue;
            }
        } else if t == text.len() {
            // A later start leaves less text for the same pattern: no need to try.
            return pattern[p..].iter().all(|&byte| byte == b'*');
        }
        match &mut retry {
            Some((behind_star, start)) if *start + 1 < text.len() => {
                *start += 1;
                (p, t) = (*behind_star, *start);
            }
            _ => return false,
        }
    }
}

/// Whether the element that `pattern` begins with (not a star) matches `byte`, and the element's length.
fn one(pattern: &[u8], byte: u8, case: Case) -> (bool, usize) {
    match pattern {
        [b'?', ..] => (true, 1),
        [b'[', ..] => class(pattern, byte, case),
        [b'\\', escaped, ..] => (same(*escaped, byte, case), 2),
        _ => (same(pattern[0], byte, case), 1),
    }
}

/// As [`one`] for a class; `pattern` begins with its bracket.
fn class(pattern: &[u8], byte: u8, case: Case) -> (bool, usize) {
    let inverted = pattern.get(1) == Some(&b'^');
    let mut at = if inverted { 2 } else { 1 };
    let mut found = false;
    loop {
        match &pattern[at..] {
            // An escaped byte is itself, case included.
            [b'\\', escaped, ..] => {
                found |= *escaped == byte;
                at += 2;
            }
            [b']', ..] => {
                at += 1;
                break;
            }
            [] => break,
            [first, b'-', last, ..] => {
                found |= in_range(*first, *last, byte, case);
                at += 3;
            }
            [single, ..] => {
                found |= same(*single, byte, case);
                at += 1;
            }
        }
    }
    (found != inverted, at)
}

fn in_range(first: u8, last: u8, byte: u8, case: Case) -> bool {
    let signed = |byte: u8| byte.cast_signed();
    let fold = |byte: i8| match case {
        Case::Sensitive => byte,
        Case::Ignore => signed(byte.cast_unsigned().to_ascii_lowercase()),
    };
    // The ends are put in order before their case is folded.
    let (low, high) = (signed(first).min(signed(last)), signed(first).max(signed(last)));
    (fold(low)..=fold(high)).contains(&fold(signed(byte)))
}

fn same(a: u8, b: u8, case: Case) -> bool {
    match case {
        Case::Sensitive => a == b,
        Case::Ignore => a.eq_ignore_ascii_case(&b),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn yes(pattern: &(impl AsRef<[u8]> + ?Sized), text: &(impl AsRef<[u8]> + ?Sized)) -> bool {
        matches(pattern.as_ref(), text.as_ref(), Case::Sensitive)
    }

    #[test]
    fn answers_as_redis_does() {
        // Each line was asked of a Redis 7.0.15 and a Valkey 8.1.8 (`KEYS pattern` with the one key).
        let cases: [(&[u8], &[u8], bool); 40] = [
            (b"hello", b"hello", true),
            (b"h?llo", b"hello", true),
            (b"h*llo", b"heeeello", true),
            (b"h[ae]llo", b"hallo", true),
            (b"h[^e]llo", b"hello", false),
            (b"h[a-b]llo", b"hbllo", true),
            (b"a*b*c", b"aXbXbXc", true),
            (b"a*b*c", b"aXbXbX", false),
            (b"**", b"", false),
            (b"a*", b"", false),
            (b"", b"", true),
            (b"", b"a", false),
            (b"a*", b"a", true),
            (b"[", b"[", false),
            (b"[^", b"x", true),
            (b"[abc", b"a", true),
            (b"x[a-z", b"xz", true),
            (b"[a-]", b"]", true),
            (b"[a-]", b"b", false),
            (b"[a-]", b"-", false),
            (b"[a-]", b"a", true),
            (b"[a-]", b"_", true),
            (b"\\", b"\\", true),
            (b"a\\", b"a\\", true),
            (b"a\\*", b"a*", true),
            (b"a\\*", b"ab", false),
            (b"[\\]]", b"]", true),
            (b"[\\", b"\\", true),
            (b"[c-a]", b"b", true),
            (b"[a-\xff]", b"z", false),
            (b"[a-\xff]", b"A", true),
            (b"[\x80-\xff]", b"\x90", true),
            (b"[a-\xff]", b"\xff", true),
            (b"[]a]", b"a", false),
            (b"[]", b"x", false),
            (b"[^]", b"x", true),
            (b"[^]", b"]", true),
            (b"[\\a-z]", b"b", false),
            (b"[\\a-z]", b"-", true),
            (b"[\\a-z]", b"z", true),
        ];
        for (pattern, text, expected) in cases {
            assert_eq!(yes(pattern, text), expected, "{} on {}", pattern.escape_ascii(), text.escape_ascii());
        }
    }

    #[test]
    fn too_many_stars_match_nothing() {
        // 1000 stars may be followed by something; one more matches nothing, unless it is the last thing.
        for (pattern, text, expected) in [
            ("*a".repeat(1000), "a".repeat(1000), true),
            ("*a".repeat(1001), "a".repeat(1001), false),
            ("a*".repeat(1001), "a".repeat(1001), true),
            ("a*".repeat(1002), "a".repeat(1002), false),
        ] {
            assert_eq!(yes(&pattern, &text), expected, "{} elements", pattern.len());
        }
    }

    #[test]
    fn case_is_ignored_when_asked() {
        // CONFIG GET's patterns: letters and ranges fold, escapes within a class do not.
        let folded = |pattern: &str, text: &str| matches(pattern.as_bytes(), text.as_bytes(), Case::Ignore);
        assert!(folded("MAX*", "maxmemory"));
        assert!(folded("[A-C]x", "bX"));
        assert!(!folded("[\\A]", "a"));
        assert!(!yes("MAX*", "maxmemory"));
    }

    #[test]
    fn a_hostile_pattern_takes_no_exponential_time() {
        // Plain backtracking would take 2^50 steps; this is at most a product of the lengths.
        let pattern = format!("{}b", "a*".repeat(50));
        assert!(!yes(&pattern, &"a".repeat(20_000)));
    }

    /// Redis' recursion, in its own shape, without the protection against many stars.
    fn by_recursion(pattern: &[u8], text: &[u8]) -> bool {
        let (mut p, mut t) = (pattern, text);
        while !p.is_empty() && !t.is_empty() {
            if p[0] == b'*' {
                let rest = &p[p.iter().take_while(|&&byte| byte == b'*').count()..];
                return rest.is_empty() || (0..t.len()).any(|start| by_recursion(rest, &t[start..]));
            }
            let (matched, next) = one(p, t[0], Case::Sensitive);
            if !matched {
                return false;
            }
            (p, t) = (&p[next..], &t[1..]);
            if t.is_empty() {
                p = &p[p.iter().take_while(|&&byte| byte == b'*').count()..];
            }
        }
        p.is_empty() && t.is_empty()
    }

    #[test]
    fn going_back_to_the_last_star_is_enough() {
        // Random patterns over a small alphabet: the loop answers as full backtracking does.
        let seed = std::env::var("EAGLE_SEED").map_or_else(|_| fastrand::u64(..), |seed| seed.parse().unwrap());
        let mut random = fastrand::Rng::with_seed(seed);
        let mut pick = |alphabet: &[u8], most: usize| -> Vec<u8> {
            (0..random.usize(..=most)).map(|_| alphabet[random.usize(..alphabet.len())]).collect()
        };
        for _ in 0..200_000 {
            let (pattern, text) = (pick(b"ab*?[]^-\\c", 9), pick(b"abc-]\\", 8));
            assert_eq!(
                yes(&pattern, &text),
                by_recursion(&pattern, &text),
                "{} on {}; EAGLE_SEED={seed} repeats",
                pattern.escape_ascii(),
                text.escape_ascii()
            );
        }
    }
}
