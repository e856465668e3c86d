//! Figures are how a core is, taken at one moment: what `INFO`, the metrics and the status page are made of. There is no other
//! source, so that they agree.
//!
//! Taking them costs a core some tens of microseconds, however many keys and connections it has: nothing is looked through.

use eagle_pmem::{Domain, PoolFile};
use eagle_shard::call::DbId;

use super::{
    Core,
    event::Now,
    stats::{DatabaseFigures, Figures, RecoveryFigures},
};

impl Core {
    /// How this core is now.
    #[must_use]
    pub fn figures(&self, now: Now) -> Figures {
        let (storage, syncs_in_flight) = self.storage_counted();
        let largest = self.largest_buffers();
        Figures {
            stats: self.stats().clone(),
            rates: self.stats().rates(),
            shard: self.shard().stats,
            usage: self.shard().usage(),
            databases: self.databases(now),
            clients: self.open_connections() as u64,
            clients_memory: self.clients_bytes(),
            query_bytes_max: largest.query,
            unsent_bytes_max: largest.unsent,
            paused: self.paused(now),
            questions: self.questions_under_way(),
            storage: storage.clone(),
            syncs_in_flight,
            pool_mode: self.pool_mode(),
            keeps: self.keeps(),
            extent_bytes: self.shard().config().extent_size as u64,
            pool_bytes: self.shard().pool_file_bytes(),
            pool_allocated_bytes: self.shard().pool_file().map_or(0, PoolFile::allocated_bytes),
            has_failed: self.has_failed(),
            lacks_space: self.lacks_space(),
            recovery: self.recovery(),
            scrub: self.shard().scrub_stats(),
        }
    }

    fn databases(&self, now: Now) -> Vec<DatabaseFigures> {
        let shard = self.shard();
        let figures = |db| {
            let (keys, expires) = (shard.len(db) as u64, shard.expires(db) as u64);
            let ttl_ms = shard.average_ttl_ms(db, now.unix).unwrap_or(0);
            DatabaseFigures { keys, expires, ttl_ms_total: u128::from(ttl_ms) * u128::from(expires) }
        };
        (0..self.config().databases).map(DbId).map(figures).collect()
    }

    fn pool_mode(&self) -> &'static str {
        match self.shard().domain() {
            Domain::Volatile => "none",
            domain if domain.is_in_place() => "dax",
            _ => "file",
        }
    }

    fn recovery(&self) -> RecoveryFigures {
        let report = self.shard().recovery();
        RecoveryFigures {
            records: report.records,
            bytes: report.bytes,
            torn_bytes: report.torn_bytes,
            damaged: report.damage.len() as u64,
            quarantined_bytes: report.quarantine.as_ref().map_or(0, |(_, bytes)| *bytes),
            keys_lost: self.shard().keys_lost(),
        }
    }
}
