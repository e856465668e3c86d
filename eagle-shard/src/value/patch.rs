//! A patch: the changes to a packed collection since it was written whole, all of them in one small record beside it.
//!
//! ```text
//!  index entry ─▶ base: key, id, items          Patches: id ─▶ offset
//!                            ▲                                   │
//!                            │ same id                           ▼
//!                 patch: id, splices of the base's items ◀───────┘
//!
//!  0         4       6         8                                     the value's end
//!  ├─────────┼───────┼─────────┼──────────┬──────────┬ ┄ ┬──────────┤
//!  │ written │ items │ splices │ splice 0 │ splice 1 │   │ splice n │
//!  └─────────┴───────┴─────────┴──────────┴──────────┴ ┄ ┴──────────┘
//!  splice:   │ at 2  │ taken 2 │ put 2    │ items put, each as in a packed collection
//! ```
//!
//! A splice takes `taken` of the base's items out from the one numbered `at` on, and puts others there. They follow each other, with
//! one of the base's items left between at least. So whatever changes packed items is told in one way, for every collection; `items`
//! is how many there are with the patch.
//!
//! **One patch, not a chain.** A change writes a patch with all that changed since the base, and the one before is dead. A read is of
//! two records, whatever happened; a patch in any extent, found in any order, is right if it is the newest of its id; each state that
//! damage may bring back is one that was.
//!
//! **Folding.** Each record of a base has an id that none had before, so a patch cannot meet another base than its own. When the patches written
//! since (`written`, in bytes of records) would come to more than the base takes, the whole is written anew, under a new id: so at
//! most as much is spent on patches as on the base, and that is the best a bound on their sum can do. With changes of `e` bytes each to
//! different places of a base of `b`, about √(2b/e) patches are written for each base and 2·√(be/2) bytes a change, in place of `b`:
//! of 100 fields of 4 + 16 bytes 340 in place of 2150, and 100 where one field changes over and over. A patch above a
//! [`PATCHED_PART`]th of the base is not written but folded: a read goes over base and patch at once, and each change writes the patch anew.
//! Below [`BASE_BYTES_MIN`] the whole is as cheap to write as the patch with what it costs to look it up.
//!
//! The first change above that writes the whole under an id; what is written once and never changed has none. Whatever else writes the
//! base anew (another key, another expiry) folds it too: if damage then takes the new record and the old one comes back, it comes with the
//! patches that it had, and shows what was under that key. Compaction moves base and patch each by itself. A base without a patch is
//! whole; a patch without a base is dead. Nothing of this where records are changed in place.
//!
//! What always holds: the patches in the table are those of bases that an index entry points at, or that were flushed and are not swept.

mod making;
mod table;

use eagle_pmem::{CollectionId, Kind, PoolOffset, RecordParts};

use super::packed::{Items, Packed, half_word, is_items, write_item};
use crate::{
    call::{DbId, Key, UnixMs},
    error::Error,
    keyspace::{Found, NewValue},
    shard::Shard,
};

pub(crate) use making::Patching;
pub(crate) use table::Patches;

/// Packed bytes above which changes are written as patches.
pub(crate) const BASE_BYTES_MIN: usize = 1 << 10;

/// A patch takes at most this part of what the base has packed: a quarter.
const PATCHED_PART: usize = 4;

/// Ids above are for large collections and strings alone: bases use one at each fold, and without one they are written whole.
const ID_MAX: u64 = 3 << (CollectionId::BITS - 2);

const ITEMS_AT: usize = 4;
const SPLICES_AT: usize = 6;
const SPLICES: usize = 8;

/// Bytes of a splice before what it puts.
const SPLICE_BYTES: usize = 6;

/// A packed collection with a patch.
#[derive(Clone, Copy)]
pub struct Patched<'a> {
    base: Packed<'a>,
    patch: &'a [u8],
}

impl<'a> Patched<'a> {
    pub(crate) const fn new(base: Packed<'a>, patch: &'a [u8]) -> Self {
        Self { base, patch }
    }

    /// How many items there are.
    #[inline]
    pub(crate) fn len(self) -> usize {
        half_word(self.patch, ITEMS_AT)
    }

    /// The items in their order.
    #[inline]
    pub(crate) fn items(self) -> PatchedItems<'a> {
        let mut items = PatchedItems {
            base: self.base.items(),
            until: 0,
            passed: 0,
            splice: Splice::default(),
            splices: half_word(self.patch, SPLICES_AT),
            put: Items::from(self.patch, SPLICES),
            left: 0,
        };
        items.look_ahead();
        items
    }

    /// The number of the item that is equal to `wanted` among every `step`th from the first on, and the item behind it if that is of the
    /// same entry. Only for collections whose entries come once, and whose splices keep them whole.
    #[inline]
    pub(crate) fn find(self, wanted: &[u8], step: usize) -> Option<(usize, Option<&'a [u8]>)> {
        self.find_in_base(wanted, step).or_else(|| self.find_put(wanted, step))
    }

    /// The same among what is left of the base: it is searched as it lies, and what the splices make of the place is seen then.
    fn find_in_base(self, wanted: &[u8], step: usize) -> Option<(usize, Option<&'a [u8]>)> {
        let (number, spot) = self.base.find_numbered(wanted, step)?;
        let (mut moved, mut behind) = (number, None);
        for (splice, mut put) in splices(self.patch) {
            if splice.at > number {
                behind = (splice.at == number + 1 && splice.taken > 0).then(|| put.next()).flatten();
                break;
            }
            if number < splice.at + splice.taken {
                return None;
            }
            moved = moved + splice.put - splice.taken;
        }
        let behind = behind.or_else(|| (step > 1).then(|| self.base.item(self.base.behind(spot))));
        Some((moved, behind))
    }

    /// The same among what the splices put.
    fn find_put(self, wanted: &[u8], step: usize) -> Option<(usize, Option<&'a [u8]>)> {
        let (mut kept, mut passed) = (0, 0);
        for (splice, mut put) in splices(self.patch) {
            passed += splice.at - kept;
            kept = splice.at + splice.taken;
            let first = passed;
            passed += splice.put;
            for number in first..passed {
                let item = put.next()?;
                if item == wanted && number.is_multiple_of(step) {
                    let behind = if number + 1 < passed { put.next() } else { None };
                    return Some((number, behind));
                }
            }
        }
        None
    }

    /// Appends it to `out` as a packed collection without a patch.
    pub(crate) fn write(self, out: &mut Vec<u8>) {
        let count = u16::try_from(self.len()).expect("items are counted in 2 bytes");
        out.extend_from_slice(&[count.to_le_bytes(), [0; 2]].concat());
        self.items().for_each(|item| write_item(out, item));
    }

    /// Whether the patch, which is sound, is one of this base.
    fn fits(self, step: usize) -> bool {
        let (mut taken, mut put) = (0, 0);
        let ends_within = splices(self.patch).all(|(splice, _)| {
            (taken, put) = (taken + splice.taken, put + splice.put);
            splice.at + splice.taken <= self.base.len()
        });
        ends_within && self.base.len() + put == self.len() + taken && self.len() > 0 && self.len().is_multiple_of(step)
    }
}

/// What one splice does.
#[derive(Clone, Copy, Default)]
struct Splice {
    at: usize,
    taken: usize,
    put: usize,
}

impl Splice {
    #[inline]
    fn read(bytes: &[u8], at: usize) -> Self {
        Self { at: half_word(bytes, at), taken: half_word(bytes, at + 2), put: half_word(bytes, at + 4) }
    }
}

/// The splices of a sound patch, each with the items that it puts.
fn splices(patch: &[u8]) -> impl Iterator<Item = (Splice, Items<'_>)> {
    let mut next = SPLICES;
    (0..half_word(patch, SPLICES_AT)).map(move |_| {
        let splice = Splice::read(patch, next);
        let items = Items::from(patch, next + SPLICE_BYTES);
        let mut behind = items.clone();
        behind.by_ref().take(splice.put).for_each(drop);
        next = behind.at();
        (splice, items)
    })
}

/// Whether a record's value is a patch, of whichever base.
pub(crate) fn is_sound(patch: &[u8]) -> bool {
    if patch.len() < SPLICES {
        return false;
    }
    let (mut next, mut free) = (SPLICES, 0);
    for _ in 0..half_word(patch, SPLICES_AT) {
        if patch.len() - next < SPLICE_BYTES {
            return false;
        }
        let splice = Splice::read(patch, next);
        let items = is_items(patch, next + SPLICE_BYTES, splice.put);
        let Some(end) = items.filter(|_| splice.at >= free && splice.taken + splice.put > 0) else {
            return false;
        };
        (next, free) = (end, splice.at + splice.taken + 1);
    }
    next == patch.len()
}

/// The items of a patched collection, one after the other.
#[derive(Clone)]
pub(crate) struct PatchedItems<'a> {
    base: Items<'a>,
    /// Items of the base before the next splice; all behind the last.
    until: usize,
    /// Items of the base before `until`, and those that the next splice takes, in all.
    passed: usize,
    /// The next splice.
    splice: Splice,
    /// Splices behind it.
    splices: usize,
    /// What splices put, and how much is left of the one at hand.
    put: Items<'a>,
    left: usize,
}

impl<'a> PatchedItems<'a> {
    /// The next item where a splice is, or ends with nothing put.
    #[inline(never)]
    fn next_of_splice(&mut self) -> Option<&'a [u8]> {
        while self.until == 0 {
            if self.left > 0 {
                self.left -= 1;
                let item = self.put.next();
                if self.left == 0 {
                    self.look_ahead();
                }
                return item;
            }
            self.base.by_ref().take(self.splice.taken).for_each(drop);
            self.left = self.splice.put;
            if self.left == 0 {
                self.look_ahead();
            }
        }
        self.next()
    }

    /// Reads the next splice.
    #[inline]
    fn look_ahead(&mut self) {
        if self.splices == 0 {
            self.until = usize::MAX;
            return;
        }
        self.splices -= 1;
        self.splice = self.put.splice();
        self.until = self.splice.at - self.passed;
        self.passed = self.splice.at + self.splice.taken;
    }
}

impl<'a> Items<'a> {
    /// Reads the splice that begins here, and goes to what it puts.
    #[inline]
    fn splice(&mut self) -> Splice {
        let splice = Splice::read(self.bytes(), self.at());
        *self = Items::from(self.bytes(), self.at() + SPLICE_BYTES);
        splice
    }
}

impl<'a> Iterator for PatchedItems<'a> {
    type Item = &'a [u8];

    #[inline]
    fn next(&mut self) -> Option<&'a [u8]> {
        if self.until > 0 {
            self.until -= 1;
            return self.base.next();
        }
        self.next_of_splice()
    }
}

impl Shard {
    /// The id for a packed collection of so many bytes that is written because it was changed: `None` if the next change is to
    /// write it whole too.
    pub(crate) fn new_base(&mut self, bytes: usize) -> Option<CollectionId> {
        let is_base = !self.config.in_place && bytes > BASE_BYTES_MIN && self.ids_used < ID_MAX;
        is_base.then(|| self.new_id())
    }

    /// Begins a patch of what was found, a packed collection, with the one that it has. Returns its items, or `None` if it takes no patches.
    pub(crate) fn begin_patch(&self, found: Found, patching: &mut Patching) -> Option<Packed<'_>> {
        let record = self.record(found);
        record.id()?;
        let base = Packed::new(record.value());
        patching.begin(base, self.patches.get(&self.log, record).map(|patch| patch.value()));
        Some(base)
    }

    /// Writes a patch of what was found, in place of the one before. False, and nothing was changed, if it is to be folded: written whole.
    ///
    /// # Errors
    /// Out of memory. Nothing was changed.
    pub(crate) fn put_patch(
        &mut self,
        db: DbId,
        key: Key<'_>,
        found: Found,
        patching: &mut Patching,
        make_room: impl FnOnce(&mut Self, usize) -> Result<bool, Error>,
    ) -> Result<bool, Error> {
        let (base, form) = (self.record(found), found.form());
        let id = base.id().expect("a base has an id");
        let parts = RecordParts { id: Some(id), tag: form.collection_tag(), ..RecordParts::new(Kind::Patch, &[], &[]) };
        let value: &[&[u8]] = &[&patching.bytes];
        let written = patching.written() + RecordParts { value, ..parts }.bytes();
        if written > base.bytes_on_medium() || patching.is_too_large(Packed::new(base.value())) {
            return Ok(false);
        }
        patching.set_written(written);
        let value: &[&[u8]] = &[&patching.bytes];
        let parts = RecordParts { value, ..parts };
        let moved = make_room(self, parts.bytes())?;
        let found = if moved { self.find_again(db, key) } else { found };
        let offset = self.log.append(&parts);
        if let Some(before) = self.patches.set(&self.log, id, offset) {
            self.log.kill(before);
        }
        self.stats.patches += 1;
        self.touch(db, found, self.now);
        Ok(true)
    }

    /// The patch of this base is dead, if it has any.
    pub(crate) fn drop_patch(&mut self, base: PoolOffset) {
        if let Some(id) = self.log.read(base).id()
            && let Some(patch) = self.patches.remove(&self.log, id)
        {
            self.log.kill(patch);
        }
    }

    /// Whether what was found is a packed collection whose changes are patches.
    #[inline]
    pub(crate) fn takes_patches(&self, found: Found) -> bool {
        let record = self.record(found);
        record.kind() == Kind::Packed && record.id().is_some()
    }

    /// Writes what was found, which takes patches, whole under a key in place of `old`.
    ///
    /// # Errors
    /// Out of memory. Nothing was changed.
    pub(crate) fn put_folded(
        &mut self,
        found: Found,
        to: (DbId, Key<'_>),
        old: Option<Found>,
        expiry: Option<UnixMs>,
    ) -> Result<(), Error> {
        let mut packing = std::mem::take(&mut self.packing);
        self.begin_packing(&mut packing, Some(found));
        let done = self.put_packed(to.0, to.1, old, found.form(), &mut packing, expiry);
        self.packing = packing;
        done
    }

    /// Appends what was found, which takes patches, as a whole of another key, with room that was made, and drops its patch.
    pub(crate) fn append_folded(&mut self, found: Found, to: (DbId, Key<'_>), expiry: Option<UnixMs>) -> PoolOffset {
        let mut packing = std::mem::take(&mut self.packing);
        self.begin_packing(&mut packing, Some(found));
        let (form, id, value) = (found.form(), self.new_base(packing.value().len()), packing.value());
        let new = NewValue { form, kind: Kind::Packed, tag: form.collection_tag(), expiry, id, value: &[value] };
        let parts = self.parts(to.0, to.1, new);
        let offset = self.log.append(&parts);
        self.packing = packing;
        self.drop_patch(found.offset());
        offset
    }

    /// Bytes of the record of the patch of what was found, if it is a packed collection that has one.
    pub(crate) fn patch_bytes(&self, found: Found) -> usize {
        let base = self.record(found);
        let patch = if base.kind() == Kind::Packed { self.patches.get(&self.log, base) } else { None };
        patch.map_or(0, |patch| patch.bytes_on_medium())
    }
}

#[cfg(test)]
mod tests;
