//! A patch in the making: that of a base so far, written anew with one more change.
//!
//! The items are gone through in the order that they have with the patch so far: runs of the base, and what splices put. A change cuts
//! some of them out and puts others there; what is left is written as splices again, as few as there can be.

use std::ops::Range;

use super::{
    super::packed::{ITEMS_MAX, Packed, write_item},
    ITEMS_AT, PATCHED_PART, Patched, SPLICE_BYTES, SPLICES, SPLICES_AT, splices,
};

/// A patch that is being made.
#[derive(Default)]
pub(crate) struct Patching {
    pub(super) bytes: Vec<u8>,
    /// What it was before the last change; kept for its memory.
    before: Vec<u8>,
}

impl Patching {
    /// Begins with a patch of `base`, or with none.
    pub(crate) fn begin(&mut self, base: Packed<'_>, patch: Option<&[u8]>) {
        self.bytes.clear();
        match patch {
            Some(patch) => self.bytes.extend_from_slice(patch),
            None => {
                let len = u16::try_from(base.len()).expect("items are counted in 2 bytes");
                self.bytes.resize(SPLICES, 0);
                self.bytes[ITEMS_AT..SPLICES_AT].copy_from_slice(&len.to_le_bytes());
            }
        }
    }

    /// The base with the patch as it is now.
    pub(crate) fn patched<'p>(&'p self, base: Packed<'p>) -> Patched<'p> {
        Patched::new(base, &self.bytes)
    }

    /// Bytes of the patch.
    pub(crate) const fn bytes_len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether the patch is larger than one of `base` may be.
    pub(crate) fn is_too_large(&self, base: Packed<'_>) -> bool {
        self.bytes.len() > base.bytes_len() / PATCHED_PART
    }

    /// Takes `taken` items out of the patched `base`, from the one numbered `at` on, and puts others there.
    ///
    /// # Panics
    /// If there are more than [`ITEMS_MAX`] items then.
    pub(crate) fn splice(&mut self, base: Packed<'_>, at: usize, taken: usize, items: &[&[u8]]) {
        std::mem::swap(&mut self.bytes, &mut self.before);
        let (mut change, mut kept) = (Change::new(&mut self.bytes, at..at + taken, items), 0);
        for (splice, put) in splices(&self.before) {
            change.keep(kept..splice.at);
            put.take(splice.put).for_each(|item| change.put(item));
            kept = splice.at + splice.taken;
        }
        change.keep(kept..base.len());
        change.end(base.len());
        self.bytes[..ITEMS_AT].copy_from_slice(&self.before[..ITEMS_AT]);
    }

    /// Bytes of the records of patches since the base was written, as noted in it.
    pub(super) fn written(&self) -> usize {
        u32::from_le_bytes(*self.bytes.first_chunk().expect("a patch has a head")) as usize
    }

    pub(super) fn set_written(&mut self, bytes: usize) {
        let bytes = u32::try_from(bytes).expect("patches come to no more than a base");
        self.bytes[..ITEMS_AT].copy_from_slice(&bytes.to_le_bytes());
    }
}

/// A patch that is being written anew with one more change.
struct Change<'a> {
    out: &'a mut Vec<u8>,
    /// Items that are taken out, by their numbers with the patch before, and those that are put there until they are.
    range: Range<usize>,
    put: Option<&'a [&'a [u8]]>,
    /// Items before that were gone through.
    passed: usize,
    /// Items of the base that were kept, or are taken by splices that are ended.
    dealt: usize,
    /// Where the splice that has not ended begins in `out`, and how many items it has put.
    open: Option<(usize, usize)>,
    splices: usize,
    items: usize,
}

impl<'a> Change<'a> {
    fn new(out: &'a mut Vec<u8>, range: Range<usize>, put: &'a [&'a [u8]]) -> Self {
        out.clear();
        out.resize(SPLICES, 0);
        Self { out, range, put: Some(put), passed: 0, dealt: 0, open: None, splices: 0, items: 0 }
    }

    /// The next items are these of the base.
    fn keep(&mut self, base: Range<usize>) {
        let head = self.range.start.saturating_sub(self.passed).min(base.len());
        let tail = self.range.end.saturating_sub(self.passed).clamp(head, base.len());
        self.write_kept(base.start..base.start + head);
        self.passed += head;
        self.put_what_is_due();
        self.write_kept(base.start + tail..base.end);
        self.passed += base.len() - head;
    }

    /// The next item is one that was put before.
    fn put(&mut self, item: &[u8]) {
        self.put_what_is_due();
        if !self.range.contains(&self.passed) {
            self.write_put(item);
        }
        self.passed += 1;
    }

    fn put_what_is_due(&mut self) {
        if self.passed == self.range.start {
            for item in self.put.take().unwrap_or_default() {
                self.write_put(item);
            }
        }
    }

    fn write_kept(&mut self, base: Range<usize>) {
        if base.is_empty() {
            return;
        }
        self.end_splice(base.start);
        self.items += base.len();
        self.dealt = base.end;
    }

    fn write_put(&mut self, item: &[u8]) {
        let open = self.open.get_or_insert_with(|| {
            let at = self.out.len();
            self.out.resize(at + SPLICE_BYTES, 0);
            (at, 0)
        });
        open.1 += 1;
        self.items += 1;
        write_item(self.out, item);
    }

    /// All items of the base up to here are kept or taken out.
    fn end_splice(&mut self, base: usize) {
        if base > self.dealt && self.open.is_none() {
            self.open = Some((self.out.len(), 0));
            self.out.resize(self.out.len() + SPLICE_BYTES, 0);
        }
        if let Some((at, put)) = self.open.take() {
            set_half_word(self.out, at, self.dealt);
            set_half_word(self.out, at + 2, base - self.dealt);
            set_half_word(self.out, at + 4, put);
            self.splices += 1;
        }
    }

    fn end(mut self, base: usize) {
        self.put_what_is_due();
        self.end_splice(base);
        assert!(self.put.is_none() && self.items <= ITEMS_MAX, "a change is within what is there");
        set_half_word(self.out, ITEMS_AT, self.items);
        set_half_word(self.out, SPLICES_AT, self.splices);
    }
}

fn set_half_word(bytes: &mut [u8], at: usize, number: usize) {
    let number = u16::try_from(number).expect("items are counted in 2 bytes");
    bytes[at..at + 2].copy_from_slice(&number.to_le_bytes());
}
