//! Listening is where the node listens: its addresses, and each core's listener of each of them, and what TLS is spoken with. `CONFIG SET`
//! of `port`, `bind`, `tcp-keepalive` and `tls-*` changes it while the node serves.
//!
//! ```text
//!  main thread:  Listening::change ─▶ listens anew ─▶ publishes ─▶ Listening::leave: the old listen no more
//!  each core:    told by CONFIG SET's own round ─▶ accepts on what is published, lets go of the rest
//! ```
//!
//! The main thread does it because names are looked up and sockets made, and because there is one: changes come one after the other.
//! What is wanted and listened on already stays as it is. What is new is listened on before the old is left, so that a port
//! that cannot be had changes nothing; only where an old address is in the way of a new one (`127.0.0.1` of `*` on one port) it is
//! silenced before, and listens again if the change fails. A silenced socket (`shutdown`) is known to nobody outside at once, however
//! long a core still has it.
//! From: Redis 7.2, `src/config.c` (`updatePort`, `applyBind`) and `src/server.c` (`changeListener`), which closes first.

use std::{
    io,
    net::{Shutdown, SocketAddr},
    path::{self, Path, PathBuf},
    sync::Arc,
};

use rustls::ServerConfig;

use super::{
    listener::{self, Address, Listener, Wanted},
    preflight::StartError,
};

/// An address and one listener of it a core.
#[derive(Clone, Debug)]
pub(super) struct Bound {
    /// The address.
    pub(super) address: SocketAddr,
    /// By core.
    pub(super) listeners: Vec<Listener>,
}

/// Where the node listens.
#[derive(Clone, Debug)]
pub(super) struct Listening {
    tcp: Vec<Bound>,
    /// Where TLS is spoken.
    tls: Vec<Bound>,
    /// With what.
    acceptor: Option<Arc<ServerConfig>>,
    /// One for all cores.
    unix: Option<(PathBuf, Listener)>,
}

impl Listening {
    /// Listens everywhere that is wanted.
    ///
    /// # Errors
    /// An address is taken or not of this machine, the Unix socket cannot be made, or there are addresses and none of them is this machine's.
    pub(super) fn new(
        wanted: &Wanted<'_>,
        acceptor: Option<Arc<ServerConfig>>,
        cores: u16,
    ) -> Result<Self, StartError> {
        let [tcp, tls] = [wanted.port, wanted.tls_port].map(|port| {
            let bound = listener::listen_on_all(&wanted.addresses(port)?, wanted, cores, &[])?;
            match port {
                Some(port) if bound.is_empty() && !wanted.bind.is_empty() => Err(StartError::NoAddress { port }),
                _ => Ok(bound),
            }
        });
        let (tcp, tls) = (tcp?, tls?);
        if wanted.unix.is_empty() {
            return Ok(Self { tcp, tls, acceptor, unix: None });
        }
        let failed = |error| StartError::Listen { address: wanted.unix.to_owned(), error };
        // It is removed at the end, wherever the process is then.
        let path = path::absolute(Path::new(wanted.unix)).map_err(failed)?;
        let listener = listener::listen_unix(&path, wanted).map_err(failed)?;
        Ok(Self { tcp, tls, acceptor, unix: Some((path, listener)) })
    }

    /// The addresses.
    pub(super) fn addresses(&self) -> Vec<Address> {
        let unix = self.unix.iter().map(|(path, _)| Address::Unix(path.clone()));
        let tls = self.tls.iter().map(|bound| Address::Tls(bound.address));
        self.tcp.iter().map(|bound| Address::Tcp(bound.address)).chain(tls).chain(unix).collect()
    }

    /// A core's listeners.
    pub(super) fn of_core(&self, core: u16) -> Vec<Listener> {
        let unix = self.unix.iter().map(|(_, listener)| listener.clone());
        let of = |bound: &Bound, is_tls: bool| bound.listeners[usize::from(core)].clone().speaking(is_tls);
        let tcp = self.tcp.iter().map(|bound| of(bound, false));
        tcp.chain(self.tls.iter().map(|bound| of(bound, true))).chain(unix).collect()
    }

    /// What connections of the TLS port are accepted with, if there is one.
    pub(super) fn acceptor(&self) -> Option<Arc<ServerConfig>> {
        self.acceptor.clone()
    }

    /// The same addresses, with TLS spoken so from now on.
    pub(super) fn accepting(&self, acceptor: Option<Arc<ServerConfig>>) -> Self {
        Self { acceptor, ..self.clone() }
    }

    /// Listens where it is wanted now. The TCP addresses that are wanted no more are still listened on: see [`Self::leave`]. The Unix socket
    /// stays.
    ///
    /// # Errors
    /// As [`Self::new`], but that it may be nowhere; what was listened on still is.
    pub(super) fn change(&self, wanted: &Wanted<'_>, cores: u16) -> Result<Self, StartError> {
        let addresses = [wanted.addresses(wanted.port)?, wanted.addresses(wanted.tls_port)?];
        let split = |bounds: &'_ [Bound], at: usize| -> (Vec<Bound>, Vec<Bound>) {
            let is_wanted = |bound: &Bound| addresses[at].iter().any(|wanted| wanted.at == bound.address);
            bounds.iter().cloned().partition(is_wanted)
        };
        let (kept_tcp, mut old) = split(&self.tcp, 0);
        let (kept_tls, old_tls) = split(&self.tls, 1);
        old.extend(old_tls);
        let overlaps = |bound: &&Bound| addresses.iter().flatten().any(|wanted| overlap(wanted.at, bound.address));
        let in_the_way: Vec<&Bound> = old.iter().filter(overlaps).collect();
        in_the_way.iter().for_each(|bound| bound.silence());
        let listen = |at: usize, kept: &[Bound]| {
            listener::listen_on_all(&addresses[at], wanted, cores, &kept.iter().collect::<Vec<_>>())
        };
        let listened = listen(0, &kept_tcp).and_then(|tcp| Ok((tcp, listen(1, &kept_tls)?)));
        if listened.is_err() {
            in_the_way.iter().for_each(|bound| bound.listen_again(wanted.backlog));
        }
        let (tcp, tls) = listened?;
        Ok(Self { tcp, tls, acceptor: self.acceptor.clone(), unix: self.unix.clone() })
    }

    /// Ends listening where `next` does not: from now on connections are refused there.
    pub(super) fn leave(&self, next: &Self) {
        for (old, next) in [(&self.tcp, &next.tcp), (&self.tls, &next.tls)] {
            let old = old.iter().filter(|bound| !next.iter().any(|next| next.address == bound.address));
            old.for_each(Bound::silence);
        }
    }

    /// Sets what connections that come from now on inherit: seconds of silence after which they are asked whether they live, 0 for never.
    pub(super) fn keep_alive(&self, seconds: u32) {
        for listener in self.tcp.iter().chain(&self.tls).flat_map(|bound| &bound.listeners) {
            if let Err(error) = listener.keep_alive(seconds) {
                tracing::warn!(%error, "tcp-keepalive could not be set");
            }
        }
    }
}

impl Bound {
    fn silence(&self) {
        for listener in &self.listeners {
            // It may have made way already.
            if let Err(error) = listener.socket().shutdown(Shutdown::Read)
                && error.kind() != io::ErrorKind::NotConnected
            {
                tracing::warn!(%error, address = %self.address, "could not stop listening");
            }
        }
    }

    fn listen_again(&self, backlog: u32) {
        for listener in &self.listeners {
            if let Err(error) = listener.listen(backlog) {
                tracing::error!(%error, address = %self.address, "could not listen again");
            }
        }
    }
}

/// Whether one address cannot be listened on beside the other.
fn overlap(a: SocketAddr, b: SocketAddr) -> bool {
    let any = a.ip().is_unspecified() || b.ip().is_unspecified();
    a.port() == b.port() && a.is_ipv4() == b.is_ipv4() && (any || a.ip() == b.ip())
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    fn wanted(bind: &[String], port: u16) -> Wanted<'_> {
        Wanted { bind, port: Some(port), tls_port: None, unix: "", unix_mode: 0, backlog: 16, keepalive_s: 300 }
    }

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    fn port_of(listening: &Listening) -> u16 {
        listening.tcp[0].address.port()
    }

    fn connects(port: u16) -> bool {
        TcpStream::connect(("127.0.0.1", port)).is_ok()
    }

    #[test]
    fn a_change_listens_anew_and_leaves_the_old() {
        // From one port to another: both answer until the old is left, then only the new does, although the old sockets still are.
        let bind = words("127.0.0.1");
        let old = Listening::new(&wanted(&bind, 0), None, 2).expect("a free port");
        let new = old.change(&wanted(&bind, 0), 2).expect("another");
        assert_eq!((connects(port_of(&old)), connects(port_of(&new))), (true, true));
        old.leave(&new);
        assert_eq!((connects(port_of(&old)), connects(port_of(&new))), (false, true));
    }

    #[test]
    fn what_is_wanted_still_is_left_alone() {
        // The same sockets listen on; an address that overlaps with them makes way, and comes back if the change fails.
        let (one, all) = (words("127.0.0.1"), words("*"));
        let old = Listening::new(&wanted(&one, 0), None, 2).expect("a free port");
        let port = port_of(&old);
        let same = old.change(&wanted(&one, port), 2).expect("no change");
        assert_eq!(same.of_core(1), old.of_core(1), "the same sockets");
        let wide = same.change(&wanted(&all, port), 2).expect("ours are not in the way");
        same.leave(&wide);
        assert!(connects(port));
        let failing = words("127.0.0.1 192.0.2.1");
        assert!(wide.change(&wanted(&failing, port), 2).is_err(), "an address of nobody");
        assert!(connects(port), "the old listener listens again");
        let twice = words("127.0.0.1 127.0.0.1");
        assert!(wide.change(&wanted(&twice, port), 2).is_err(), "one address twice");
        assert!(connects(port));
    }

    #[test]
    fn a_port_of_somebody_else_changes_nothing() {
        // Neither alone nor as the second address; nowhere at all is allowed, by port 0 and by addresses that are optional.
        let bind = words("127.0.0.1");
        let old = Listening::new(&wanted(&bind, 0), None, 2).expect("a free port");
        let stranger = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let taken = stranger.local_addr().expect("bound").port();
        assert!(matches!(old.change(&wanted(&bind, taken), 2), Err(StartError::PortTaken(_))));
        assert!(connects(port_of(&old)));
        let optional = words("-192.0.2.1");
        for nowhere in [Wanted { port: None, ..wanted(&bind, 0) }, wanted(&optional, taken), wanted(&[], taken)] {
            assert!(old.change(&nowhere, 2).expect("nowhere").addresses().is_empty());
        }
    }
}
