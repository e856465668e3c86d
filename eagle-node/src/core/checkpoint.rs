//! Checkpoints while the core serves: when one is taken, and how its bytes get into their file.
//!
//! ```text
//!  enough appended ─▶ wanted ─▶ the shard cuts ─▶ Begin, Write, Write, ... ─▶ what it was cut at is synced ─▶ Finish ─▶ in its place
//!                                                     └──────── error, end of the node ────────▶ Drop
//! ```
//!
//! One is due when as much was appended since the last cut (what compaction moved counts too) as `checkpoint-bytes` says, 48 MiB unless
//! told otherwise: of records of 100 bytes half a million, which a start replays in about 0.1 s. But no sooner than as much
//! was appended as the index is large, so that checkpoints never write more than the log does: with ten million keys that are
//! 140 MB, and a replay of some 0.3 s.
//!
//! What always holds: nothing of this delays or fails a command. What goes wrong is logged, the file is dropped, and another is begun
//! after a while; the checkpoint before it stays as good as it was.

use eagle_pmem::Position;

use super::{
    Core,
    event::{Actions, Checkpoint as Action, Now},
    gate::{Level, Promise},
    opening::Opening,
};

/// Bytes that are written at once, at least, but for the last.
const WRITE_BYTES_MIN: usize = 256 << 10;
/// Microseconds until one is begun again when one has failed.
const AGAIN_US: u64 = 10_000_000;

/// What a core has under way.
#[derive(Debug, Default)]
pub(super) struct Checkpointing {
    stage: Stage,
    in_flight: bool,
    /// Where the last one was cut; `None` before the first, where what the start has read counts too.
    cut: Option<Position>,
    begun_us: u64,
    bytes: u64,
    again_us: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
    #[default]
    Idle,
    /// The shard is asked for one.
    Wanted,
    /// There is a file for it.
    Writing,
    /// It takes the place of the one before.
    Finishing,
    /// It is given up, and its file is to go.
    Dropping,
}

impl Checkpointing {
    /// Nothing is in flight.
    pub(super) fn is_quiet(&self) -> bool {
        !self.in_flight
    }

    fn begin(&mut self, action: Action, actions: &mut Actions) {
        self.in_flight = true;
        actions.checkpoint.push(action);
    }
}

impl Core {
    /// Begins a checkpoint that is due, or goes on with one.
    pub(super) fn tend_checkpoint(&mut self, now: Now, actions: &mut Actions) {
        if self.checkpointing.in_flight || self.opening != Opening::Open {
            return;
        }
        match self.checkpointing.stage {
            Stage::Idle => {
                if self.is_checkpoint_due(now) {
                    self.shard.want_checkpoint();
                    self.background_due = true;
                    (self.checkpointing.stage, self.checkpointing.bytes) = (Stage::Wanted, 0);
                }
            }
            Stage::Wanted if self.draining || !self.shard.is_checkpoint_wanted() => {
                self.shard.give_up_checkpoint();
                self.checkpointing.stage = Stage::Idle;
            }
            Stage::Wanted => {
                if self.shard.checkpoint_cut().is_some() {
                    (self.checkpointing.stage, self.checkpointing.begun_us) = (Stage::Writing, now.mono_us);
                    self.checkpointing.begin(Action::Begin, actions);
                }
            }
            Stage::Writing => self.write_checkpoint(actions),
            Stage::Dropping => self.checkpointing.begin(Action::Drop, actions),
            Stage::Finishing => unreachable!("it is in flight"),
        }
    }

    fn is_checkpoint_due(&self, now: Now) -> bool {
        let (state, least) = (&self.checkpointing, self.config.checkpoint_bytes);
        let appended = self.shard.position().raw() - state.cut.map_or(0, Position::raw);
        let read = if state.cut.is_none() { self.shard.recovery().bytes } else { 0 };
        let appended = appended + read;
        least > 0
            && appended >= least
            && !self.draining
            && now.mono_us >= state.again_us
            && appended >= self.shard.usage().index_bytes as u64
    }

    fn write_checkpoint(&mut self, actions: &mut Actions) {
        let (state, waiting) = (&mut self.checkpointing, self.shard.checkpoint_bytes_waiting());
        let Some(cut) = self.shard.checkpoint_cut().filter(|_| !self.draining) else {
            self.shard.give_up_checkpoint();
            state.stage = Stage::Dropping;
            return state.begin(Action::Drop, actions);
        };
        let is_complete = self.shard.is_checkpoint_complete();
        if waiting >= WRITE_BYTES_MIN || is_complete && waiting > 0 {
            let bytes = self.shard.take_checkpoint_bytes();
            state.bytes += bytes.len() as u64;
            self.background_due = true;
            state.begin(Action::Write(bytes), actions);
        } else if is_complete && self.gate.reached().synced >= cut {
            (state.stage, state.cut) = (Stage::Finishing, Some(cut));
            state.begin(Action::Finish, actions);
        } else if is_complete {
            let promise = Promise { position: cut, level: Level::Synced };
            self.storage.promised(promise, self.gate.reached());
        }
    }

    /// What was begun last has ended.
    pub(super) fn checkpointed(&mut self, result: Result<(), i32>, now: Now) {
        let state = &mut self.checkpointing;
        state.in_flight = false;
        match (state.stage, result) {
            (Stage::Dropping, _) => state.stage = Stage::Idle,
            (Stage::Finishing, Ok(())) => {
                let (bytes, ms) = (state.bytes, now.mono_us.saturating_sub(state.begun_us) / 1000);
                tracing::info!("Core {} wrote a checkpoint of {bytes} bytes in {ms} ms", self.id.0);
                state.stage = Stage::Idle;
                self.shard.end_checkpoint();
            }
            (_, Ok(())) => {}
            (_, Err(code)) => {
                let error = std::io::Error::from_raw_os_error(code);
                tracing::warn!(
                    "Core {} cannot write a checkpoint: {error}. The one before it is kept; another try in {} seconds.",
                    self.id.0,
                    AGAIN_US / 1_000_000
                );
                state.stage = Stage::Dropping;
                state.again_us = now.mono_us + AGAIN_US;
                self.shard.give_up_checkpoint();
            }
        }
    }
}
