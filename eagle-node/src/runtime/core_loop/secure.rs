//! TLS in the core loop: which connections speak it, how much of a turn handshakes may take, what is told of decrypted bytes, and what is
//! encrypted.

use std::io;

use super::{super::tls::Tls, CoreLoop};
use crate::core::event::{ConnId, Event, Now};

/// Microseconds of a turn in which handshakes are gone on with, about; at least one is.
const HANDSHAKES_US: u64 = 500;
/// How long a handshake may take before its connection is closed, in microseconds.
pub(super) const HANDSHAKE_MAX_US: u64 = 30_000_000;
/// Bytes of decrypted input for which room is kept.
const PLAIN_KEPT_MAX: usize = 64 << 10;

/// The connection is not to be taken.
pub(super) struct TurnedAway;

impl CoreLoop {
    /// What a connection that has just come speaks TLS with, if it does.
    ///
    /// # Errors
    /// It is turned away.
    pub(super) fn secure(&mut self, is_tls: bool) -> Result<Option<Box<Tls>>, TurnedAway> {
        if !is_tls {
            return Ok(None);
        }
        if self.core.is_full() {
            // Without a handshake it cannot be told why, and one would be work for nothing.
            self.core.turn_away();
            return Err(TurnedAway);
        }
        // None: the port was left while it came.
        let acceptor = self.acceptor.clone().ok_or(TurnedAway)?;
        match Tls::new(acceptor) {
            Ok(tls) => Ok(Some(Box::new(tls))),
            Err(error) => {
                tracing::warn!(%error, "no TLS with a client");
                Err(TurnedAway)
            }
        }
    }

    /// Closes connections whose handshakes take too long.
    pub(super) fn close_undecided(&mut self, now: Now) {
        while let Some(&(conn, until_us)) = self.deadlines.front()
            && until_us <= now.mono_us
        {
            self.deadlines.pop_front();
            if self.connections.get(conn).is_some_and(|connection| connection.is_handshaking()) {
                self.connections.close(conn);
            }
        }
    }

    /// Goes on with handshakes in turn, for so long a part of this turn of the loop that nobody else notices.
    pub(super) fn shake_hands(&mut self, now: Now) -> bool {
        if self.handshakes.is_empty() {
            return false;
        }
        let until_us = self.clock.mono_us() + HANDSHAKES_US;
        for _ in 0..self.handshakes.len() {
            let Some(conn) = self.handshakes.pop_front() else { break };
            if let Some(connection) = self.connections.get(conn)
                && !connection.closing
                && let Some(tls) = &mut connection.tls
            {
                tls.is_queued = false;
                let waiting = tls.take_waiting();
                let mut decrypted = tls.decrypt(&waiting, &mut self.plain);
                if let Ok(ended) = &mut decrypted {
                    *ended |= tls.has_ended;
                }
                self.decrypted(conn, decrypted, now);
                if self.clock.mono_us() >= until_us {
                    break;
                }
            }
        }
        true
    }

    /// Tells the core what was decrypted, and whether it was the last; or closes what speaks no TLS.
    pub(super) fn decrypted(&mut self, conn: ConnId, result: io::Result<bool>, now: Now) {
        if !self.plain.is_empty() {
            let bytes = &mut self.plain[..];
            self.core.step(Event::Received { conn, bytes }, now, &mut self.actions);
            self.plain.clear();
            self.plain.shrink_to(PLAIN_KEPT_MAX);
        }
        match result {
            Ok(false) => {}
            Ok(true) => {
                if let Some(connection) = self.connections.get(conn) {
                    connection.ended = true;
                }
                self.core.step(Event::EndOfStream { conn }, now, &mut self.actions);
            }
            // The client is told with the last words.
            Err(error) => {
                tracing::debug!(%error, "a client does not speak TLS");
                self.connections.close(conn);
                return;
            }
        }
        // What TLS has to say itself.
        self.landed.push(conn);
    }

    /// Fills a connection's flight with what the core lets go, and with what TLS has to say; false if there is nothing.
    pub(super) fn fill(&mut self, conn: ConnId) -> bool {
        let Some(connection) = self.connections.get(conn) else { return false };
        let Some(tls) = &mut connection.tls else {
            return self.core.take_output(conn, &mut connection.flying);
        };
        if tls.takes_output() {
            self.core.take_output(conn, tls.output());
        }
        let filled = tls.fill(&mut connection.flying);
        let is_filled = !connection.flying.is_empty();
        if let Err(error) = filled {
            tracing::warn!(%error, "nothing can be encrypted for a client");
            self.connections.close(conn);
            return false;
        }
        is_filled
    }
}
