//! A request: one command and its arguments as ranges into the bytes it came in.
//!
//! [`Args`] is what a command sees: a `Copy` view of bytes and ranges, index 0 being the command's name.
//! [`Requests`] is what the decoder fills: a flat batch, all ranges in one vector and one small head a request, so that a
//! batch that is cleared and filled again allocates nothing. [`OwnedArgs`] owns its bytes: for what is kept
//! (a queued transaction), sent to another core, or rewritten before it is run.
//!
//! What always holds: a range of an `Args` lies within its bytes; positions are below 4 GiB.

use std::fmt;
use std::iter::FusedIterator;
use std::ops::Index;

/// Ranges that [`Requests`] keeps room for when it is cleared (512 KiB); beyond it memory is given back.
const RANGES_KEPT: usize = 64 * 1024;

/// The place of one argument: `start..end` in the bytes of its request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ArgRange {
    /// Position of the first byte.
    pub start: u32,
    /// Position after the last byte.
    pub end: u32,
}

const _: () = assert!(size_of::<ArgRange>() == 8);

impl ArgRange {
    /// The same place in bytes that have `by` more bytes in front.
    pub(crate) fn shifted(self, by: u32) -> Self {
        Self { start: self.start + by, end: self.end + by }
    }

    fn of(self, bytes: &[u8]) -> &[u8] {
        &bytes[self.start as usize..self.end as usize]
    }
}

/// The arguments of one request, the command's name first.
#[derive(Clone, Copy)]
pub struct Args<'a> {
    bytes: &'a [u8],
    ranges: &'a [ArgRange],
}

impl<'a> Args<'a> {
    /// The arguments at `ranges` of `bytes`. A range outside of `bytes` panics when it is looked at.
    pub fn new(bytes: &'a [u8], ranges: &'a [ArgRange]) -> Self {
        Self { bytes, ranges }
    }

    /// How many arguments there are, the name included.
    pub fn len(&self) -> usize {
        self.ranges.len()
    }

    /// Whether there is no argument, not even a name.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// Argument `i`, for as long as the bytes live.
    pub fn get(&self, i: usize) -> Option<&'a [u8]> {
        self.ranges.get(i).map(|range| range.of(self.bytes))
    }

    /// All arguments in order.
    pub fn iter(&self) -> Iter<'a> {
        Iter { bytes: self.bytes, ranges: self.ranges.iter() }
    }

    /// The arguments from `i` on. Panics if there are fewer than `i`.
    pub fn from(&self, i: usize) -> Args<'a> {
        Args { bytes: self.bytes, ranges: &self.ranges[i..] }
    }

    /// The first `n` arguments. Panics if there are fewer than `n`.
    pub fn first(&self, n: usize) -> Args<'a> {
        Args { bytes: self.bytes, ranges: &self.ranges[..n] }
    }

    /// Bytes of all arguments together, without what the protocol puts around them.
    pub fn bytes_len(&self) -> usize {
        self.ranges.iter().map(|range| (range.end - range.start) as usize).sum()
    }
}

impl Index<usize> for Args<'_> {
    type Output = [u8];

    fn index(&self, i: usize) -> &[u8] {
        self.ranges[i].of(self.bytes)
    }
}

impl<'a> IntoIterator for Args<'a> {
    type Item = &'a [u8];
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}

impl PartialEq for Args<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for Args<'_> {}

impl fmt::Debug for Args<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter().map(|arg| arg.escape_ascii().to_string())).finish()
    }
}

/// The arguments of [`Args`] in order.
#[derive(Clone)]
pub struct Iter<'a> {
    bytes: &'a [u8],
    ranges: std::slice::Iter<'a, ArgRange>,
}

impl<'a> Iterator for Iter<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        self.ranges.next().map(|range| range.of(self.bytes))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.ranges.size_hint()
    }
}

impl DoubleEndedIterator for Iter<'_> {
    fn next_back(&mut self) -> Option<Self::Item> {
        self.ranges.next_back().map(|range| range.of(self.bytes))
    }
}

impl ExactSizeIterator for Iter<'_> {}
impl FusedIterator for Iter<'_> {}

/// A request that owns its bytes.
#[derive(Clone, Default)]
pub struct OwnedArgs {
    bytes: Vec<u8>,
    ranges: Vec<ArgRange>,
}

impl OwnedArgs {
    /// No arguments yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends one argument. Panics above 4 GiB of arguments.
    pub fn push(&mut self, arg: &[u8]) {
        let range = append(&mut self.bytes, arg);
        self.ranges.push(range);
    }

    /// Forgets all arguments and keeps the room.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.ranges.clear();
    }

    /// The arguments as commands take them.
    pub fn as_args(&self) -> Args<'_> {
        Args { bytes: &self.bytes, ranges: &self.ranges }
    }

    /// Heap bytes held.
    pub fn memory(&self) -> usize {
        self.bytes.capacity() + self.ranges.capacity() * size_of::<ArgRange>()
    }
}

impl<'a> Extend<&'a [u8]> for OwnedArgs {
    fn extend<I: IntoIterator<Item = &'a [u8]>>(&mut self, args: I) {
        args.into_iter().for_each(|arg| self.push(arg));
    }
}

impl<'a> FromIterator<&'a [u8]> for OwnedArgs {
    fn from_iter<I: IntoIterator<Item = &'a [u8]>>(args: I) -> Self {
        let mut owned = Self::new();
        owned.extend(args);
        owned
    }
}

impl From<Args<'_>> for OwnedArgs {
    fn from(args: Args<'_>) -> Self {
        let mut owned = Self { bytes: Vec::with_capacity(args.bytes_len()), ranges: Vec::with_capacity(args.len()) };
        owned.extend(args);
        owned
    }
}

impl fmt::Debug for OwnedArgs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_args().fmt(f)
    }
}

/// A batch of requests, all in the same bytes.
#[derive(Clone, Debug, Default)]
pub struct Requests {
    ranges: Vec<ArgRange>,
    heads: Vec<Head>,
    /// Lines of inline requests before they were unescaped, and where they begin.
    originals: Vec<(u32, Vec<u8>)>,
}

/// One request of a batch.
#[derive(Clone, Copy, Debug)]
struct Head {
    /// Its first range among those of the batch.
    first: u32,
    /// Number of its ranges.
    argc: u32,
    /// Position of the byte after the request.
    end: u32,
}

const _: () = assert!(size_of::<Head>() == 12);

impl Requests {
    /// An empty batch.
    pub fn new() -> Self {
        Self::default()
    }

    /// Forgets all requests. Keeps the room for further ones, within reason.
    pub fn clear(&mut self) {
        if self.ranges.capacity() > RANGES_KEPT {
            *self = Self::default();
        }
        self.ranges.clear();
        self.heads.clear();
        self.originals.clear();
    }

    /// How many requests there are.
    pub fn len(&self) -> usize {
        self.heads.len()
    }

    /// Whether there is no request.
    pub fn is_empty(&self) -> bool {
        self.heads.is_empty()
    }

    /// The arguments of request `i`, given the bytes that it was decoded from.
    pub fn args<'a>(&'a self, i: usize, bytes: &'a [u8]) -> Args<'a> {
        let head = self.heads[i];
        let first = head.first as usize;
        Args { bytes, ranges: &self.ranges[first..first + head.argc as usize] }
    }

    /// Position in the bytes after request `i`.
    pub fn end(&self, i: usize) -> usize {
        self.heads[i].end as usize
    }

    /// Appends a copy of `args` as one more request, its bytes to the end of `bytes`: how a batch for another core is made.
    pub fn append<'a>(&mut self, bytes: &mut Vec<u8>, args: impl IntoIterator<Item = &'a [u8]>) {
        let first = self.begin();
        for arg in args {
            self.ranges.push(append(bytes, arg));
        }
        self.finish(first, position(bytes.len()));
    }

    /// Makes the bytes from `from` on what the client sent, so that they can be decoded again. `bytes` are those that the batch
    /// was decoded from.
    pub fn restore(&self, from: usize, bytes: &mut [u8]) {
        for (start, line) in self.originals.iter().map(|(start, line)| (*start as usize, line)) {
            if start >= from {
                bytes[start..start + line.len()].copy_from_slice(line);
            }
        }
    }

    /// Heap bytes held.
    pub fn memory(&self) -> usize {
        let lines: usize = self.originals.iter().map(|(_, line)| line.capacity()).sum();
        self.ranges.capacity() * size_of::<ArgRange>()
            + self.heads.capacity() * size_of::<Head>()
            + self.originals.capacity() * size_of::<(u32, Vec<u8>)>()
            + lines
    }

    /// Keeps the line that begins at `start` as it came: it is about to be unescaped.
    pub(crate) fn keep_original(&mut self, start: usize, line: Vec<u8>) {
        self.originals.push((position(start), line));
    }

    /// Where the ranges of the request begin that is about to be pushed.
    pub(crate) fn begin(&self) -> usize {
        self.ranges.len()
    }

    /// Makes a request of the ranges pushed since `first`.
    pub(crate) fn finish(&mut self, first: usize, end: u32) {
        let argc = self.ranges.len() - first;
        self.heads.push(Head { first: position(first), argc: position(argc), end });
    }

    /// Drops the ranges pushed since `first`.
    pub(crate) fn abandon(&mut self, first: usize) {
        self.ranges.truncate(first);
    }

    /// The ranges of the whole batch, to push to.
    pub(crate) fn ranges_mut(&mut self) -> &mut Vec<ArgRange> {
        &mut self.ranges
    }
}

/// Appends `arg` to `bytes`: its place there.
fn append(bytes: &mut Vec<u8>, arg: &[u8]) -> ArgRange {
    let start = position(bytes.len());
    bytes.extend_from_slice(arg);
    ArgRange { start, end: position(bytes.len()) }
}

/// A position or a count as it is stored.
fn position(n: usize) -> u32 {
    u32::try_from(n).expect("requests stay below 4 GiB")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn args_are_looked_at_in_every_way() {
        // Index, get, iteration from both ends, head and tail all show the same arguments.
        let owned: OwnedArgs = [&b"SET"[..], b"k", b"", b"v\n"].into_iter().collect();
        let args = owned.as_args();
        assert_eq!((args.len(), args.is_empty(), args.bytes_len()), (4, false, 6));
        assert_eq!(&args[1], b"k");
        assert_eq!((args.get(2), args.get(4)), (Some(&b""[..]), None));
        assert_eq!(args.iter().rev().collect::<Vec<_>>(), [&b"v\n"[..], b"", b"k", b"SET"]);
        assert_eq!(args.from(2).iter().collect::<Vec<_>>(), [&b""[..], b"v\n"]);
        assert_eq!(args.first(2).into_iter().len(), 2);
        assert!(args.from(4).is_empty());
        assert_eq!(format!("{args:?}"), r#"["SET", "k", "", "v\\n"]"#);
        assert_eq!(OwnedArgs::from(args.from(1)).as_args(), args.from(1));
        assert_ne!(args.first(2), args.from(2));
    }

    #[test]
    fn a_batch_keeps_requests_apart() {
        // Requests appended to a batch come out one by one, also after it was cleared, and then nothing is allocated.
        let (mut batch, mut bytes) = (Requests::new(), Vec::new());
        for _ in 0..3 {
            batch.clear();
            bytes.clear();
            let memory = batch.memory();
            batch.append(&mut bytes, [&b"GET"[..], b"k"]);
            batch.append(&mut bytes, []);
            batch.append(&mut bytes, OwnedArgs::from_iter([&b"PING"[..]]).as_args());
            assert_eq!(batch.len(), 3);
            assert_eq!(batch.args(0, &bytes).iter().collect::<Vec<_>>(), [&b"GET"[..], b"k"]);
            assert_eq!(batch.args(1, &bytes).len(), 0);
            assert_eq!(&batch.args(2, &bytes)[0], b"PING");
            assert_eq!([batch.end(0), batch.end(1), batch.end(2)], [4, 4, 8]);
            assert!(memory == 0 || memory == batch.memory());
        }
    }

    #[test]
    fn a_batch_gives_back_what_is_beyond_reason() {
        // A request of very many arguments does not leave its ranges behind for good.
        let (mut batch, mut bytes) = (Requests::new(), Vec::new());
        batch.append(&mut bytes, std::iter::repeat_n(&b"x"[..], RANGES_KEPT + 1));
        assert!(batch.memory() > RANGES_KEPT * size_of::<ArgRange>());
        batch.clear();
        assert_eq!(batch.memory(), 0);
    }
}
