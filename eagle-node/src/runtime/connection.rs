//! A connection, as the runtime sees it, is a socket with at most one receive and one send under way.
//!
//! ```text
//!  receiving:   Off ──arm──▶ On ──pause or close──▶ Stopping ──last completion──▶ Off
//!                            └──────last completion (no buffers, end of stream, error, one piece only)──▶ Off
//!  sending:     nothing ──take_output──▶ flying[sent..] ──completions──▶ nothing
//!  closing:     set once; shuts the socket down, so that both operations end; then the place is free
//! ```
//!
//! What always holds: `flying` neither changes nor moves while a send is under way; the descriptor is closed and the place
//! given out again only after the last completion, and with a new generation.

use std::{
    io,
    net::Shutdown,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use socket2::SockRef;

use super::{ring::Tag, tls::Tls};
use crate::core::event::{ConnId, Peer};

/// Bytes handed to the kernel by one send, so that a reply of hundreds of megabytes does not hold up the others.
pub(super) const SLICE: usize = 256 << 10;

/// Whether input is being received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Receiving {
    /// No receive is under way.
    Off,
    /// A multishot receive is.
    On,
    /// It was told to stop; its last completion is still to come.
    Stopping,
}

/// One connection.
#[derive(Debug)]
pub(super) struct Connection {
    socket: OwnedFd,
    /// What the ring is doing about its input.
    pub(super) receiving: Receiving,
    /// The core wants no input for now.
    pub(super) paused: bool,
    /// It sends faster than its share is executed: it gets one buffer of input a turn, until it has caught up. A receive that
    /// goes on by itself would take all that the socket holds, megabytes, and with it every buffer from the others.
    pub(super) hasty: bool,
    /// The client sends no more.
    pub(super) ended: bool,
    /// It is being closed: nothing of it is told to the core any more.
    pub(super) closing: bool,
    /// A send of `flying[sent..]` is under way, or of its first slice.
    pub(super) sending: bool,
    /// Output that the core handed out.
    pub(super) flying: Vec<u8>,
    /// How much of it the kernel took.
    pub(super) sent: usize,
    /// What stands between these bytes and the core's, if TLS is spoken: then `flying` is ciphertext.
    pub(super) tls: Option<Box<Tls>>,
}

impl Connection {
    fn new(socket: OwnedFd, tls: Option<Box<Tls>>) -> Self {
        let receiving = Receiving::Off;
        Self {
            socket,
            receiving,
            paused: false,
            hasty: false,
            ended: false,
            closing: false,
            sending: false,
            flying: Vec::new(),
            sent: 0,
            tls,
        }
    }

    /// Its descriptor, for operations.
    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// A receive is to be armed.
    pub(super) fn wants_input(&self) -> bool {
        self.receiving == Receiving::Off && !self.paused && !self.ended && !self.closing
    }

    /// It speaks TLS, and has not agreed yet on how.
    pub(super) fn is_handshaking(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.is_handshaking())
    }

    /// The piece of the output that the next send takes.
    pub(super) fn slice(&self) -> &[u8] {
        let rest = &self.flying[self.sent..];
        &rest[..rest.len().min(SLICE)]
    }

    /// Tells a client that speaks TLS that no more comes, if nothing else is on its way to it: otherwise it could not tell this end from
    /// one that somebody else has made. If the socket takes it at once; it is about to be shut down.
    fn say_farewell(&mut self) {
        let is_idle = !self.sending && self.sent == self.flying.len();
        if let Some(tls) = self.tls.as_mut().filter(|_| is_idle) {
            let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
            // Who does not hear it is gone already.
            let _ = SockRef::from(&self.socket).send_with_flags(&tls.farewell(), flags);
        }
    }

    /// The last completion has come: nothing of the kernel points here.
    fn is_over(&self) -> bool {
        self.closing && !self.sending && self.receiving == Receiving::Off
    }
}

/// Who is at the other end of a socket.
///
/// # Errors
/// The other end has already gone.
pub(super) fn peer_of(socket: &OwnedFd) -> io::Result<Peer> {
    let socket = SockRef::from(socket);
    let local = socket.local_addr()?;
    if let Some(local) = local.as_socket() {
        let remote = socket.peer_addr()?.as_socket().ok_or(io::ErrorKind::InvalidData)?;
        return Ok(Peer::Tcp { remote, local });
    }
    let path = local.as_pathname().map(|path| path.to_string_lossy().into_owned());
    Ok(Peer::Unix { path: path.unwrap_or_default() })
}

/// The connections of one core.
#[derive(Debug, Default)]
pub(super) struct Connections {
    places: Vec<Place>,
    free: Vec<u32>,
    /// Closed, and the kernel is done with them, but the core was not told yet; their places are not free before.
    over: Vec<ConnId>,
}

#[derive(Debug, Default)]
struct Place {
    generation: u32,
    connection: Option<Connection>,
}

impl Connections {
    /// Gives a place to a socket.
    pub(super) fn insert(&mut self, socket: OwnedFd, tls: Option<Box<Tls>>) -> ConnId {
        let index = self.free.pop().unwrap_or_else(|| {
            self.places.push(Place::default());
            u32::try_from(self.places.len() - 1).expect("fewer descriptors than that")
        });
        let place = &mut self.places[index as usize];
        debug_assert!(place.connection.is_none());
        place.connection = Some(Connection::new(socket, tls));
        ConnId { index, generation: place.generation }
    }

    /// A connection by the name that the core has for it; none if it is gone.
    pub(super) fn get(&mut self, conn: ConnId) -> Option<&mut Connection> {
        let place = self.places.get_mut(conn.index as usize)?;
        if place.generation == conn.generation { place.connection.as_mut() } else { None }
    }

    /// The connection that an operation belongs to. It is always there: a place is not given out again before.
    pub(super) fn of(&mut self, tag: Tag) -> (ConnId, &mut Connection) {
        let place = &mut self.places[tag.index as usize];
        let conn = ConnId { index: tag.index, generation: place.generation };
        assert!(tag.is(conn), "a completion came after the last one");
        (conn, place.connection.as_mut().expect("it lives until its last completion"))
    }

    /// Begins to close a connection: shuts it down, so that its operations end.
    pub(super) fn close(&mut self, conn: ConnId) {
        let Some(connection) = self.get(conn) else {
            return;
        };
        if connection.closing {
            return;
        }
        connection.closing = true;
        connection.say_farewell();
        // It may be shut down already by the other end; that is as well.
        let _ = SockRef::from(&connection.socket).shutdown(Shutdown::Both);
        self.settle(conn);
    }

    /// After a completion of a connection that is being closed: if it was the last, the connection is over.
    pub(super) fn settle(&mut self, conn: ConnId) {
        if self.get(conn).is_some_and(|connection| connection.is_over()) {
            self.places[conn.index as usize].connection = None;
            self.over.push(conn);
        }
    }

    /// A connection that is over, for the core to be told; then its place is free.
    pub(super) fn take_over(&mut self) -> Option<ConnId> {
        let conn = self.over.pop()?;
        let place = &mut self.places[conn.index as usize];
        place.generation = place.generation.wrapping_add(1);
        self.free.push(conn.index);
        Some(conn)
    }

    /// There are connections that are over.
    pub(super) fn any_over(&self) -> bool {
        !self.over.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn a_place_is_given_out_again_only_after_the_last_completion_was_told() {
        // Shows the way of a closed connection with both operations under way, and that its old name finds nobody.
        let mut connections = Connections::default();
        let (ours, _theirs) = UnixStream::pair().expect("a pair");
        let conn = connections.insert(ours.into(), None);
        let connection = connections.get(conn).expect("just made");
        connection.receiving = Receiving::On;
        connection.sending = true;
        connections.close(conn);
        assert!(!connections.any_over(), "two operations are under way");
        connections.get(conn).expect("still there").sending = false;
        connections.settle(conn);
        assert!(!connections.any_over(), "one is");
        let (_, connection) = connections.of(Tag::from(conn));
        assert!(connection.closing && !connection.wants_input());
        connection.receiving = Receiving::Off;
        connections.settle(conn);
        assert!(connections.any_over() && connections.get(conn).is_none());
        let (next, _theirs) = UnixStream::pair().expect("a pair");
        assert_ne!(connections.insert(next.into(), None).index, conn.index, "not told yet");
        assert_eq!(connections.take_over(), Some(conn));
        let (next, _theirs) = UnixStream::pair().expect("a pair");
        let again = connections.insert(next.into(), None);
        assert_eq!(again.index, conn.index);
        assert_ne!(again.generation, conn.generation);
        assert!(connections.get(conn).is_none() && connections.get(again).is_some());
    }

    #[test]
    fn closing_shuts_the_socket_down_before_its_descriptor_closes() {
        // Shows that the other end sees the end of the stream although an operation still holds the socket.
        let mut connections = Connections::default();
        let (ours, mut theirs) = UnixStream::pair().expect("a pair");
        let conn = connections.insert(ours.into(), None);
        connections.get(conn).expect("just made").receiving = Receiving::On;
        connections.close(conn);
        connections.close(conn);
        assert_eq!(io::Read::read(&mut theirs, &mut [0; 8]).expect("an end"), 0);
    }

    #[test]
    fn a_large_output_flies_in_slices() {
        // Shows the bounds of what one send takes, at the beginning and at the end.
        let (ours, _theirs) = UnixStream::pair().expect("a pair");
        let mut connection = Connection::new(ours.into(), None);
        connection.flying = vec![1; SLICE + 10];
        assert_eq!(connection.slice().len(), SLICE);
        connection.sent = SLICE;
        assert_eq!(connection.slice().len(), 10);
    }
}
