//! The table of patches: the id of a base leads to the record of its newest patch, if it has one.
//!
//! As the tables of elements, an index of words that point at records, which carry what they are found by. What is looked up on the way to
//! a read is the table of all patches of the shard, of which there are no more than bases that were changed lately.

use eagle_pmem::{CheckpointBlocks, CollectionId, Kind, Log, PoolOffset, Record};

use super::{super::packed::Packed, Patched};
use crate::{
    checkpoint::{Cut, PATCHES},
    dash::{Dash, Hashed, KeyHash, Located, Place, Word},
    keyspace::offset_of,
};

/// The newest patch of each base, by the base's id.
pub(crate) struct Patches {
    seed: u64,
    table: Dash,
}

impl Patches {
    pub(crate) fn new(seed: u64) -> Self {
        Self { seed, table: Dash::new() }
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.table.len()
    }

    /// Memory of the table in bytes. O(1).
    pub(crate) fn bytes(&self) -> usize {
        self.table.bytes()
    }

    /// The patch of a base, if it has one.
    #[inline]
    pub(crate) fn get<'l>(&self, log: &'l Log, base: Record<'_>) -> Option<Record<'l>> {
        debug_assert_eq!(base.kind(), Kind::Packed);
        self.offset(log, base.id()?).map(|offset| log.read(offset))
    }

    /// Where the patch of an id lies.
    pub(crate) fn offset(&self, log: &Log, id: CollectionId) -> Option<PoolOffset> {
        self.find(log, id).map(|place| offset_of(self.table.word(place)))
    }

    #[inline]
    fn find(&self, log: &Log, id: CollectionId) -> Option<Place> {
        self.table.find(hashed(self.seed, id), |word| log.read(offset_of(word)).id() == Some(id))
    }

    /// The newest patch of an id lies here. Returns where the one before lies.
    pub(crate) fn set(&mut self, log: &Log, id: CollectionId, offset: PoolOffset) -> Option<PoolOffset> {
        let Some(place) = self.find(log, id) else {
            let seed = self.seed;
            let rehash = |word| hashed(seed, id_of(log.read(offset_of(word)))).hash;
            self.table.insert(hashed(seed, id), Word::new(offset.raw(), 0), rehash);
            return None;
        };
        let word = self.table.word(place);
        self.table.set(place, word.with_offset(offset.raw()));
        Some(offset_of(word))
    }

    /// Forgets the patch of an id; what is returned is to be counted as dead.
    pub(crate) fn remove(&mut self, log: &Log, id: CollectionId) -> Option<PoolOffset> {
        let place = self.find(log, id)?;
        Some(offset_of(self.table.remove(place, hashed(self.seed, id))))
    }

    /// Forgets the patches that are not to be kept, and returns where they lie, as [`crate::flush::Dead`] has it.
    pub(crate) fn retain(&mut self, log: &Log, keep: impl Fn(CollectionId) -> bool) -> Vec<u64> {
        let ids = self.offsets().map(|offset| id_of(log.read(offset)));
        let gone: Vec<CollectionId> = ids.filter(|id| !keep(*id)).collect();
        gone.into_iter().filter_map(|id| self.remove(log, id)).map(PoolOffset::raw).collect()
    }

    /// Where all of them lie.
    pub(crate) fn offsets(&self) -> impl Iterator<Item = PoolOffset> {
        self.table.iter().map(|(_, word)| offset_of(word))
    }

    /// The table, for a checkpoint.
    pub(crate) const fn table(&self) -> &Dash {
        &self.table
    }

    /// As [`Dash::begin_image`].
    pub(crate) fn begin_image(&mut self, cut: Cut) {
        self.table.begin_image(cut.number, PATCHES);
    }

    /// As [`Dash::image_slice`].
    pub(crate) fn image_slice(&mut self, segments: usize, to: &mut CheckpointBlocks) -> usize {
        self.table.image_slice(segments, to)
    }

    /// As [`Dash::is_imaging`].
    pub(crate) fn is_imaging(&self) -> bool {
        self.table.is_imaging()
    }

    /// As [`Dash::end_image`].
    pub(crate) fn end_image(&mut self) {
        self.table.end_image();
    }

    /// Takes over a table that was made of images.
    pub(crate) fn restore(&mut self, table: Dash) {
        self.table = table;
    }

    /// Builds the table anew from the records that it points at.
    pub(crate) fn reload(&mut self, log: &Log) {
        for (_, word) in self.table.clear().iter() {
            let before = self.set(log, id_of(log.read(offset_of(word))), offset_of(word));
            assert_eq!(before, None, "a base has one patch");
        }
    }

    /// Where the entry of a patch would be.
    pub(crate) fn locate(&self, patch: Record<'_>) -> Located {
        self.table.locate(hashed(self.seed, id_of(patch)))
    }

    /// Asks for the entry of what was located.
    pub(crate) fn prefetch_words(&self, at: Located) {
        self.table.prefetch_words(at);
    }

    /// The entry that points at `offset`.
    pub(crate) fn place_of(&self, at: Located, offset: PoolOffset) -> Option<Place> {
        self.table.find_at(at, |word| word.offset() == offset.raw())
    }

    /// The patch at a place lies elsewhere now.
    pub(crate) fn moved(&mut self, place: Place, offset: PoolOffset) {
        let word = self.table.word(place);
        self.table.set(place, word.with_offset(offset.raw()));
    }

    /// Whether the patch of a base, if it has one, can be of that.
    pub(crate) fn fit(&self, log: &Log, base: Record<'_>, step: usize) -> bool {
        let patch = self.get(log, base);
        patch.is_none_or(|patch| Patched::new(Packed::new(base.value()), patch.value()).fits(step))
    }
}

#[inline]
fn hashed(seed: u64, id: CollectionId) -> Hashed {
    Hashed::of_element(KeyHash::of(seed, &id.raw().to_le_bytes()))
}

fn id_of(patch: Record<'_>) -> CollectionId {
    patch.id().expect("a patch carries the id of its base")
}
