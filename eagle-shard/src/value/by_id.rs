//! Values by the ids of their collections, in an order that depends on nothing but the ids: a random test that repeats its seed repeats
//! what happens. The ids are the shard's own, so nobody can choose them to collide.

use std::{collections::HashMap, hash::BuildHasher};

use ahash::{AHasher, RandomState};
use eagle_pmem::CollectionId;

/// A map by ids.
pub(crate) type ById<V> = HashMap<CollectionId, V, SameSeeds>;

/// Hashes as any other process does.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct SameSeeds;

impl BuildHasher for SameSeeds {
    type Hasher = AHasher;

    #[inline]
    fn build_hasher(&self) -> AHasher {
        RandomState::with_seeds(1, 2, 3, 4).build_hasher()
    }
}
