//! A server process that answers requests over a connection: a real Redis or Valkey, or our own binary.

use std::{thread, time::Duration};

use eagle_resp::{OwnedArgs, Protocol};

use super::Target;
use crate::{process::Process, wire::Wire};

/// A process with one connection to it.
#[derive(Debug)]
pub struct Server {
    process: Process,
    wire: Wire,
}

impl Server {
    /// Connects to a process that serves.
    #[must_use]
    pub fn new(process: Process) -> Self {
        let wire = Wire::connect(process.address());
        Self { process, wire }
    }

    fn command(&mut self, words: &[&str]) {
        let reply = self.ask(&words.iter().map(|word| word.as_bytes()).collect());
        assert!(!reply.starts_with(b"-"), "{words:?}: {}", reply.escape_ascii());
    }
}

impl Target for Server {
    fn fresh(&mut self) {
        self.wire = Wire::connect(self.process.address());
        self.command(&["FLUSHALL"]);
    }

    fn protocol(&mut self, protocol: Protocol) {
        self.command(&["HELLO", if protocol == Protocol::Resp2 { "2" } else { "3" }]);
    }

    fn database(&mut self, db: u8) {
        self.command(&["SELECT", &db.to_string()]);
    }

    fn advance(&mut self, by: Duration) {
        thread::sleep(by);
    }

    fn ask(&mut self, request: &OwnedArgs) -> Vec<u8> {
        let words: Vec<_> = request.as_args().iter().collect();
        self.wire.raw(&words)
    }
}
