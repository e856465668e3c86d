//! TLS is a pipe between a socket's bytes and a core's: ciphertext on one side, plain requests and replies on the other. rustls does
//! it without a socket; the rings carry its bytes like any other connection's.
//!
//! ```text
//!  socket ─▶ received ─▶ (handshaking? wait for a turn) ─▶ decrypt ─▶ Core::step(Received)
//!  socket ◀─ flying ◀── encrypt, a slice at a time ◀── plain ◀── Core::take_output
//! ```
//!
//! A handshake costs as much as thousands of requests, so the bytes of one that is not done wait in a queue of which a turn takes a few
//! (`CoreLoop::shake_hands`). What always holds: nothing of the core is encrypted before the handshake is done; the core is told that
//! output was sent when all the ciphertext of it was.

use std::io::{self, Read, Write};

use rustls::{ServerConfig, ServerConnection};

/// Bytes of plain output that are encrypted for one flight.
const SLICE: usize = 64 << 10;
/// Bytes that may wait for their turn while a handshake is not done: more than any handshake has.
const WAITING_MAX: usize = 64 << 10;

/// One connection's TLS.
#[derive(Debug)]
pub(super) struct Tls {
    connection: ServerConnection,
    /// Received while the handshake is not done.
    waiting: Vec<u8>,
    /// It stands in the queue of those that wait.
    pub(super) is_queued: bool,
    /// The client sends no more; it is told behind what waits.
    pub(super) has_ended: bool,
    /// Output that the core handed out.
    plain: Vec<u8>,
    /// How much of it is encrypted.
    encrypted: usize,
    /// How much of it is in the present flight.
    flying: usize,
}

impl Tls {
    /// A connection that has just come.
    ///
    /// # Errors
    /// rustls does not take the configuration.
    pub(super) fn new(config: std::sync::Arc<ServerConfig>) -> Result<Self, rustls::Error> {
        let mut connection = ServerConnection::new(config)?;
        // It is given a slice at a time and emptied at once.
        connection.set_buffer_limit(None);
        let (waiting, plain) = (Vec::new(), Vec::new());
        Ok(Self { connection, waiting, is_queued: false, has_ended: false, plain, encrypted: 0, flying: 0 })
    }

    /// Whether what it receives has to wait for its turn.
    pub(super) fn waits(&self) -> bool {
        self.is_queued || self.connection.is_handshaking()
    }

    /// Whether the handshake is not done.
    pub(super) fn is_handshaking(&self) -> bool {
        self.connection.is_handshaking()
    }

    /// Keeps what was received for its turn; false if it is more than anybody has to say.
    #[must_use]
    pub(super) fn wait(&mut self, bytes: &[u8]) -> bool {
        self.waiting.extend_from_slice(bytes);
        self.waiting.len() <= WAITING_MAX
    }

    /// Whether the end that has come is to be told behind what waits.
    pub(super) fn ends_later(&mut self) -> bool {
        self.has_ended = true;
        self.is_queued
    }

    /// What has waited.
    pub(super) fn take_waiting(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.waiting)
    }

    /// Decrypts what was received behind `plain`; true when the client says that it sends no more.
    ///
    /// # Errors
    /// It is not TLS as agreed; what [`Self::fill`] gives then is the alert.
    pub(super) fn decrypt(&mut self, mut bytes: &[u8], plain: &mut Vec<u8>) -> io::Result<bool> {
        let mut has_ended = false;
        while !bytes.is_empty() && !has_ended {
            self.connection.read_tls(&mut bytes)?;
            let state = self.connection.process_new_packets().map_err(io::Error::other)?;
            let from = plain.len();
            plain.resize(from + state.plaintext_bytes_to_read(), 0);
            self.connection.reader().read_exact(&mut plain[from..])?;
            has_ended = state.peer_has_closed();
        }
        Ok(has_ended)
    }

    /// Whether it takes more output of the core.
    pub(super) fn takes_output(&self) -> bool {
        self.plain.is_empty() && !self.connection.is_handshaking()
    }

    /// Where output of the core goes.
    pub(super) fn output(&mut self) -> &mut Vec<u8> {
        &mut self.plain
    }

    /// Fills an empty flight: with what TLS itself has to say, and the next slice of output.
    ///
    /// # Errors
    /// rustls has failed to encrypt.
    pub(super) fn fill(&mut self, flight: &mut Vec<u8>) -> io::Result<()> {
        if !self.connection.is_handshaking() && self.encrypted < self.plain.len() {
            let slice = &self.plain[self.encrypted..];
            let slice = &slice[..slice.len().min(SLICE)];
            self.connection.writer().write_all(slice)?;
            self.flying = slice.len();
            self.encrypted += slice.len();
        }
        while self.connection.wants_write() {
            self.connection.write_tls(flight)?;
        }
        Ok(())
    }

    /// The flight is over: so many bytes of the core's output were sent with it; and the buffer, if they were the last.
    pub(super) fn flown(&mut self) -> (usize, Option<Vec<u8>>) {
        let sent = std::mem::take(&mut self.flying);
        if sent == 0 || self.encrypted < self.plain.len() {
            return (sent, None);
        }
        self.encrypted = 0;
        (sent, Some(std::mem::take(&mut self.plain)))
    }

    /// The last words: that no more is sent.
    pub(super) fn farewell(&mut self) -> Vec<u8> {
        let mut words = Vec::new();
        self.connection.send_close_notify();
        while self.connection.wants_write() {
            self.connection.write_tls(&mut words).expect("a vector takes all");
        }
        words
    }
}
