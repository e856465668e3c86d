//! Failed logins are counted by the address they come from, so that passwords cannot be guessed at the speed of the server.
//!
//! Counting by connection would slow nobody down who opens another one. An address may fail so often a minute, all at once or spread
//! out; then it is not listened to, even with the right password (or a guess would still be told), until time has passed. Clients that
//! have logged in before go on. Of IPv6 the network (the first 64 bits) is the address, because one host has all of it. Clients of a
//! Unix socket are not counted: the file's mode says who they may be.
//!
//! One number an address, without a lock: the time until which it has used up what it may (GCRA, the leaky bucket of ATM networks). It
//! lies in a table of fixed size by a hash with a secret; two addresses of the same place share their failures, which an attacker
//! cannot aim at.

use std::{
    net::IpAddr,
    sync::atomic::{AtomicU64, Ordering},
};

use ahash::RandomState;

use crate::core::event::Peer;

/// Places in the table: 32 KiB.
const PLACES: usize = 4096;
/// What a number of failures is allowed for.
const MINUTE_US: u64 = 60_000_000;

/// Failed logins of all cores' clients.
#[derive(Debug)]
pub struct Attempts {
    /// Until when an address has used up what it may, monotonic microseconds.
    used_until_us: Box<[AtomicU64]>,
    hasher: RandomState,
}

impl Attempts {
    /// None yet. `secret` decides who shares a place.
    #[must_use]
    pub fn new(secret: u64) -> Self {
        let used_until_us = (0..PLACES).map(|_| AtomicU64::new(0)).collect();
        let hasher = RandomState::with_seeds(secret, !secret, secret.rotate_left(17), secret.rotate_right(17));
        Self { used_until_us, hasher }
    }

    /// Whether this client's address has failed too often to be listened to; `limit` failures a minute, 0 for any number.
    #[must_use]
    pub fn are_too_many(&self, peer: &Peer, limit: u32, now_us: u64) -> bool {
        let Some(place) = self.place(peer).filter(|_| limit > 0) else { return false };
        let used_us = place.load(Ordering::Relaxed).saturating_sub(now_us);
        used_us > MINUTE_US - MINUTE_US / u64::from(limit)
    }

    /// A login of this client has failed.
    pub fn failed(&self, peer: &Peer, limit: u32, now_us: u64) {
        let Some(place) = self.place(peer).filter(|_| limit > 0) else { return };
        let later = |until_us: u64| Some(until_us.max(now_us) + MINUTE_US / u64::from(limit));
        place.fetch_update(Ordering::Relaxed, Ordering::Relaxed, later).expect("there always is a later time");
    }

    fn place(&self, peer: &Peer) -> Option<&AtomicU64> {
        let Peer::Tcp { remote, .. } = peer else { return None };
        let network = match remote.ip().to_canonical() {
            IpAddr::V4(ip) => u64::from(ip.to_bits()),
            IpAddr::V6(ip) => (ip.to_bits() >> 64) as u64,
        };
        Some(&self.used_until_us[self.hasher.hash_one(network) as usize % PLACES])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(ip: &str) -> Peer {
        let remote = (ip.parse::<IpAddr>().unwrap(), 1).into();
        Peer::Tcp { remote, local: remote }
    }

    #[test]
    fn who_fails_too_often_is_not_listened_to_for_a_while() {
        // Three a minute: the fourth is refused, after twenty seconds one more is allowed; another address is not concerned, the
        // same network is.
        let attempts = Attempts::new(1);
        let (one, same, other) = (peer("2001:db8::1"), peer("2001:db8::2"), peer("10.0.0.1"));
        for at_us in 0..3 {
            assert!(!attempts.are_too_many(&one, 3, at_us));
            attempts.failed(&one, 3, at_us);
        }
        assert!(attempts.are_too_many(&one, 3, 10) && attempts.are_too_many(&same, 3, 10));
        assert!(!attempts.are_too_many(&other, 3, 10) && !attempts.are_too_many(&one, 0, 10));
        assert!(!attempts.are_too_many(&one, 3, 20_000_001));
        attempts.failed(&one, 3, 20_000_001);
        assert!(attempts.are_too_many(&one, 3, 20_000_002));
        let unix = Peer::Unix { path: String::new() };
        attempts.failed(&unix, 1, 0);
        assert!(!attempts.are_too_many(&unix, 1, 0));
    }
}
