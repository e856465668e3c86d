//! A checkpoint that is taken while the shard goes on serving: as of one moment, the *cut*, and written out by and by.
//!
//! ```text
//!  wanted ─▶ a walk of the compactor ends, what was flushed is swept ─▶ cut ─▶ tables in slices ─▶ all taken
//!                                                                       │      and each segment before it changes
//!                                                                       └ log's state, marks
//! ```
//!
//! At the cut the log's accounts are written, which takes some 30 ns an extent and 10 ns a large collection; then segments of the index are,
//! each as it was at the cut: in slices of background work, or ahead of their turn when a command is about to change one (see
//! `dash::image`). What is made after the cut is not part of it: new segments are marked, and new collections have ids above those
//! given out by then. A table that is flushed, and a collection that is deleted, are written from the heap of what is gone.
//!
//! So the file is, byte for byte, what an orderly end at the cut would have left (but for the order of blocks, and heat), and
//! is opened by the same rules. It may take the place of the one before only when what was appended up to the cut is synced
//! ([`Shard::checkpoint_cut`]): else the index would point at what power loss takes away.

use eagle_pmem::{CheckpointBlocks, CollectionId, Position};

use super::{LOG, SHARD};
use crate::{compact::Urgency, dash::Remains, shard::Shard};

/// Records of a background budget that a segment written counts as: copy and checksum of 16 KiB, some 4 us.
const RECORDS_A_SEGMENT: usize = 16;
/// Bytes that wait to be taken above which no slice adds to them.
const WAITING_BYTES_MAX: usize = 1 << 20;

/// What is part of the checkpoint under way.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cut {
    /// The number of the checkpoint, above 0.
    pub(crate) number: u32,
    /// The highest id that was given out.
    pub(crate) ids: u64,
}

/// A checkpoint under way.
pub(crate) struct Taking {
    cut: Position,
    blocks: CheckpointBlocks,
    /// Whose turn is still to come.
    collections: Vec<CollectionId>,
    strings: Vec<CollectionId>,
    is_complete: bool,
}

impl Taking {
    /// Takes what was written of a table of which nothing else is left.
    pub(crate) fn take_over(&mut self, remains: &mut Remains) {
        remains.image_slice(1, &mut self.blocks);
    }
}

impl Shard {
    /// Asks for a checkpoint, to be begun by background work as soon as nothing is half done.
    pub fn want_checkpoint(&mut self) {
        self.wants_checkpoint = true;
    }

    /// Whether one is wanted or under way.
    #[must_use]
    pub fn is_checkpoint_wanted(&self) -> bool {
        self.wants_checkpoint || self.taking.is_some()
    }

    /// The position at which the checkpoint under way was cut: it may be used when all up to there is synced. `None` as long as there
    /// is none.
    #[must_use]
    pub fn checkpoint_cut(&self) -> Option<Position> {
        self.taking.as_ref().map(|taking| taking.cut)
    }

    /// Bytes of the checkpoint under way that wait to be taken.
    #[must_use]
    pub fn checkpoint_bytes_waiting(&self) -> usize {
        self.taking.as_ref().map_or(0, |taking| taking.blocks.len())
    }

    /// Takes bytes of the checkpoint under way, to be written behind those before.
    pub fn take_checkpoint_bytes(&mut self) -> Vec<u8> {
        self.taking.as_mut().map_or_else(Vec::new, |taking| taking.blocks.take())
    }

    /// Whether the checkpoint under way is complete, but for what waits to be taken.
    #[must_use]
    pub fn is_checkpoint_complete(&self) -> bool {
        self.taking.as_ref().is_some_and(|taking| taking.is_complete)
    }

    /// The checkpoint under way is written and in its place: forgets it.
    pub fn end_checkpoint(&mut self) {
        self.taking = None;
    }

    /// Gives up the checkpoint under way, or that was wanted.
    pub fn give_up_checkpoint(&mut self) {
        self.wants_checkpoint = false;
        if self.taking.take().is_some_and(|taking| !taking.is_complete) {
            self.databases.iter_mut().for_each(|database| database.dash.end_image());
            self.patches.end_image();
            self.collections.give_up_image();
            self.flushed.end_image();
            self.large.end_image(&mut CheckpointBlocks::default());
        }
    }

    /// Whether the next slice of background work has something to do for a checkpoint.
    pub(crate) fn checkpoint_has_more(&self) -> bool {
        match &self.taking {
            Some(taking) => !taking.is_complete && taking.blocks.len() < WAITING_BYTES_MAX,
            // What it waits for uses up the budget of a slice, or cannot go on.
            None => false,
        }
    }

    /// A slice of the checkpoint under way, or of what one that is wanted waits for. Returns what it used of the budget.
    pub(crate) fn go_on_with_checkpoint(&mut self, records: usize) -> usize {
        let mut done = 0;
        if self.taking.is_none() && self.wants_checkpoint && self.can_cut_soon() {
            while done < records && self.compactor.is_under_way() {
                if self.reclaim(records - done, Urgency::Later).is_none() {
                    break;
                }
                done += RECORDS_A_SEGMENT;
            }
            if self.can_checkpoint() && self.flushed.is_empty() {
                self.cut();
            }
        }
        while done < records && self.taking.is_some() && self.checkpoint_has_more() {
            done += RECORDS_A_SEGMENT * self.image_next((records - done).div_ceil(RECORDS_A_SEGMENT)).max(1);
        }
        done.min(records)
    }

    /// Whether only background work stands between now and a checkpoint.
    fn can_cut_soon(&self) -> bool {
        !self.config.in_place && self.replay.is_none() && self.arrivals.is_empty() && self.log.is_settled()
    }

    /// Begins a checkpoint of what there is now.
    fn cut(&mut self) {
        self.wants_checkpoint = false;
        self.checkpoints += 1;
        let cut = Cut { number: self.checkpoints, ids: self.ids_used };
        let mut blocks = CheckpointBlocks::begin(self.config.pool_id);
        blocks.block(LOG, &[&self.log.log_state().to_bytes()]);
        blocks.block(SHARD, &[&self.shard_block()]);
        for (owner, database) in (0_u64..).zip(&mut self.databases) {
            database.dash.begin_image(cut.number, owner);
        }
        self.patches.begin_image(cut);
        let (collections, strings) = (self.collections.begin_image(cut), self.large.begin_image(cut));
        let cut = self.log.position();
        self.taking = Some(Box::new(Taking { cut, blocks, collections, strings, is_complete: false }));
    }

    /// Writes up to `segments` of the next table, or a string. Returns how many segments it was, or 1.
    fn image_next(&mut self, segments: usize) -> usize {
        let Some(taking) = &mut self.taking else {
            return 0;
        };
        let mut databases = self.databases.iter_mut();
        if let Some(database) = databases.find(|database| database.dash.is_imaging()) {
            database.dash.image_slice(segments, &mut taking.blocks)
        } else if self.patches.is_imaging() {
            self.patches.image_slice(segments, &mut taking.blocks)
        } else if let Some(id) = taking.collections.last() {
            let done = self.collections.image_slice(*id, segments, &mut taking.blocks);
            if done < segments {
                taking.collections.pop();
            }
            done
        } else if let Some(id) = taking.strings.pop() {
            self.large.image(id, &mut taking.blocks);
            1
        } else if self.flushed.is_imaging() {
            self.flushed.image_slice(segments, &mut taking.blocks)
        } else {
            self.collections.end_image();
            self.large.end_image(&mut taking.blocks);
            taking.blocks.end();
            taking.is_complete = true;
            0
        }
    }
}
