//! The eviction of clients: while what the clients of all cores take is beyond `maxmemory-clients`, those that take most are
//! disconnected.
//!
//! Looked at at the end of each turn, and by a sleeping core ten times a second, only while there is a limit. A core evicts clients of the highest class
//! that any core has ([`crate::crowd`]), its largest first; if it has none of that class, another core does and will. `CLIENT NO-EVICT` keeps
//! a client out of it, but what it takes counts.
//! From: Redis 7.2, `src/networking.c` (`evictClients`, `getClientEvictionLimit`).

use super::{
    Core,
    event::Actions,
    session::{Ending, Session},
};
use crate::crowd::{Crowd, class_of};

/// What a session is to the crowd.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Share {
    bytes: u64,
    class: Option<u8>,
}

/// A core's part of the crowd.
#[derive(Debug, Default)]
pub(super) struct Part {
    /// Bytes that clients may take, 0 for no bound: then nobody is counted.
    limit: u64,
    /// What its sessions take.
    bytes: u64,
    /// What the crowd was last told of it.
    told: u64,
}

impl Part {
    /// Takes note of what a session takes now.
    pub(super) fn note(&mut self, session: &mut Session, crowd: &Crowd) {
        if self.limit == 0 {
            return;
        }
        let is_counted = session.ending != Ending::Closed;
        let bytes = if is_counted { session.memory() as u64 } else { 0 };
        let class = (is_counted && !session.no_evict).then(|| class_of(bytes));
        self.replace(session, Share { bytes, class }, crowd);
    }

    /// A session goes.
    pub(super) fn forget(&mut self, session: &mut Session, crowd: &Crowd) {
        self.replace(session, Share::default(), crowd);
    }

    fn replace(&mut self, session: &mut Session, share: Share, crowd: &Crowd) {
        crowd.sort(session.share.class, share.class);
        self.bytes = self.bytes - session.share.bytes + share.bytes;
        session.share = share;
    }

    fn tell(&mut self, crowd: &Crowd) {
        crowd.replace(std::mem::replace(&mut self.told, self.bytes), self.bytes);
    }
}

impl Core {
    /// Takes over the limit of the configuration, and counts all sessions if there was none, or none if there is none.
    pub(super) fn limit_clients(&mut self) {
        let limit = self.config.clients_limit();
        let before = std::mem::replace(&mut self.crowd.limit, limit);
        if (before == 0) == (limit == 0) {
            return;
        }
        for session in self.sessions.iter_mut().flatten() {
            if limit == 0 {
                self.crowd.forget(session, &self.shared.crowd);
            } else {
                self.crowd.note(session, &self.shared.crowd);
            }
        }
        self.crowd.tell(&self.shared.crowd);
    }

    /// Disconnects clients of this core while all take too much and it has those that take most.
    pub(super) fn evict_clients(&mut self, actions: &mut Actions) {
        let limit = self.crowd.limit;
        if limit == 0 {
            return;
        }
        let shared = &self.shared;
        self.crowd.tell(&shared.crowd);
        while shared.crowd.exceeds(limit)
            && let Some(top) = shared.crowd.top()
        {
            let mut largest: Vec<&mut Session> = self
                .sessions
                .iter_mut()
                .flatten()
                .map(|session| &mut **session)
                .filter(|session| session.share.class == Some(top))
                .collect();
            if largest.is_empty() {
                return;
            }
            largest.sort_unstable_by_key(|session| std::cmp::Reverse(session.share.bytes));
            for session in largest {
                let bytes = session.share.bytes;
                if !shared.crowd.claim(bytes, limit) {
                    return;
                }
                self.crowd.told -= bytes;
                self.crowd.forget(session, &shared.crowd);
                session.ending = Ending::Closed;
                actions.close.push(session.conn);
                self.stats.evicted_clients += 1;
                tracing::info!("Evicting client: id={} tot-mem={bytes}", session.id);
            }
        }
    }
}
