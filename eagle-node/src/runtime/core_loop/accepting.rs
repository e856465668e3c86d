//! Accepting in the core loop: on which listeners, and what becomes of who comes.

use std::{
    io,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
};

use super::{
    super::{connection::peer_of, listener::Listener},
    CoreLoop,
    secure::HANDSHAKE_MAX_US,
};
use crate::core::event::{Event, Now};

/// A listener and what the ring does about it.
pub(super) struct Accepting {
    pub(super) listener: Listener,
    pub(super) armed: bool,
    /// It failed, mostly for want of descriptors; armed again by the next tick.
    pub(super) failed: bool,
    /// The node does not listen there any more; it goes with the accept's last completion.
    pub(super) left: bool,
}

impl CoreLoop {
    pub(super) fn accepted(&mut self, listener: u32, result: Result<i32, i32>, more: bool, now: Now) {
        let accepting = &mut self.listeners[listener as usize];
        accepting.armed = more;
        let left = accepting.left && !more;
        let is_tls = accepting.listener.is_tls;
        match result {
            Ok(fd) => {
                accepting.failed = false;
                // SAFETY: the kernel just made it for us, nobody else has it.
                self.welcome(unsafe { OwnedFd::from_raw_fd(fd) }, is_tls, now);
            }
            Err(libc::ECANCELED | libc::ECONNABORTED | libc::EINTR) => {}
            // It listens no more: it is about to go, or to listen again.
            Err(libc::EINVAL) => accepting.failed = true,
            Err(code) => {
                accepting.failed = true;
                let error = io::Error::from_raw_os_error(code);
                tracing::warn!("Error accepting a client connection: {error}");
            }
        }
        if left {
            self.listeners.remove(listener as usize);
        }
    }

    /// Accepts where the node listens now, and nowhere else.
    pub(super) fn take_listeners(&mut self) {
        let listening = (*self.listening.load()).clone();
        self.acceptor = listening.acceptor();
        let mut wanted = listening.of_core(self.core.id().0);
        let mut gone = Vec::new();
        for (number, accepting) in &mut self.listeners {
            if let Some(at) = wanted.iter().position(|listener| *listener == accepting.listener) {
                wanted.swap_remove(at);
            } else if accepting.armed && !accepting.left {
                accepting.left = true;
                self.ring.stop_accepting(number as u32);
            } else if !accepting.armed {
                gone.push(number);
            }
        }
        for number in gone {
            self.listeners.remove(number);
        }
        for listener in wanted {
            self.listeners.insert(Accepting { listener, armed: false, failed: false, left: false });
        }
    }

    fn welcome(&mut self, socket: OwnedFd, is_tls: bool, now: Now) {
        if self.drain_told {
            return;
        }
        // Without a peer, it has gone again.
        let Ok(peer) = peer_of(&socket) else { return };
        let fd = socket.as_raw_fd();
        let Ok(tls) = self.secure(is_tls) else { return };
        let conn = self.connections.insert(socket, tls);
        if is_tls {
            self.deadlines.push_back((conn, now.mono_us + HANDSHAKE_MAX_US));
        }
        self.core.step(Event::Accepted { conn, peer, fd }, now, &mut self.actions);
        self.receive(conn);
    }
}
