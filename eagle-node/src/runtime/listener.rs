//! A listener is a socket on which a core accepts. Each core has its own of each address, all on one port: the kernel spreads
//! the connections over them (`SO_REUSEPORT`).
//!
//! `SO_REUSEPORT` alone would let two servers of one user share a port unnoticed; so the port is first bound without it,
//! which fails if anybody listens there. Options that an accepted socket inherits (no delay, keep-alive) are
//! set here once instead of on each connection. The Unix socket is one for all cores; each accepts on it.
//! From: Redis' `bind`, `tcp-backlog`, `unixsocketperm` (`redis.conf`), socket(7), tcp(7), unix(7).

use std::{
    fmt,
    fs::{self, Permissions},
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs},
    os::{
        fd::{AsFd, BorrowedFd},
        unix::fs::{FileTypeExt, PermissionsExt},
    },
    path::{Path, PathBuf},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use socket2::{Domain, Protocol, SockAddr, Socket, TcpKeepalive, Type};

use super::{listening::Bound, preflight::StartError};

/// How long a port may be taken by a process that has just ended.
const PORT_PATIENCE: Duration = Duration::from_secs(1);

/// Where to listen, from the configuration.
#[derive(Clone, Debug)]
pub(super) struct Wanted<'a> {
    /// Addresses in Redis' words.
    pub(super) bind: &'a [String],
    /// TCP port if any; 0 is one that is free.
    pub(super) port: Option<u16>,
    /// TCP port on which TLS is spoken, if any; 0 is one that is free.
    pub(super) tls_port: Option<u16>,
    /// Path of the Unix socket, empty for none.
    pub(super) unix: &'a str,
    /// Its mode, 0 to leave it.
    pub(super) unix_mode: u32,
    /// Length of the queue of those not yet accepted.
    pub(super) backlog: u32,
    /// Seconds of silence before the kernel asks whether the other end lives, 0 for never.
    pub(super) keepalive_s: u32,
}

/// An address that is listened on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// TCP.
    Tcp(SocketAddr),
    /// TCP on which TLS is spoken.
    Tls(SocketAddr),
    /// A Unix socket at this path.
    Unix(PathBuf),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "tcp {address}"),
            Self::Tls(address) => write!(f, "tls {address}"),
            Self::Unix(path) => write!(f, "unix {}", path.display()),
        }
    }
}

/// One core's socket of an address.
#[derive(Clone, Debug)]
pub(super) struct Listener {
    socket: Arc<Socket>,
    /// TLS is spoken on its connections.
    pub(super) is_tls: bool,
}

impl Listener {
    /// Its descriptor.
    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    pub(super) fn socket(&self) -> &Socket {
        &self.socket
    }

    /// The same socket, with or without TLS on its connections.
    pub(super) fn speaking(self, is_tls: bool) -> Self {
        Self { is_tls, ..self }
    }

    /// Begins to listen, with so long a queue of those not yet accepted.
    pub(super) fn listen(&self, backlog: u32) -> io::Result<()> {
        self.socket.listen(i32::try_from(backlog).unwrap_or(i32::MAX))
    }

    /// Seconds of silence after which connections that are accepted from now on are asked whether they live, 0 for never.
    pub(super) fn keep_alive(&self, seconds: u32) -> io::Result<()> {
        if seconds == 0 { self.socket.set_keepalive(false) } else { self.socket.set_tcp_keepalive(&keepalive(seconds)) }
    }
}

impl PartialEq for Listener {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.socket, &other.socket)
    }
}

/// A word of `bind`, looked up.
#[derive(Clone, Copy, Debug)]
pub(super) struct WantedAddress {
    /// Where to listen.
    pub(super) at: SocketAddr,
    /// It may be of another machine: a leading minus sign.
    is_optional: bool,
}

impl Wanted<'_> {
    /// The TCP addresses of `bind`, at a port if there is one. May take as long as a name takes to be looked up.
    ///
    /// # Errors
    /// A name is unknown.
    pub(super) fn addresses(&self, port: Option<u16>) -> Result<Vec<WantedAddress>, StartError> {
        let Some(port) = port else { return Ok(Vec::new()) };
        let address = |bind: &String| {
            let (name, is_optional) = bind.strip_prefix('-').map_or((bind.as_str(), false), |name| (name, true));
            Ok(WantedAddress { at: resolve(name, port)?, is_optional })
        };
        self.bind.iter().map(address).collect()
    }
}

/// Listens on these addresses, all on one port, each with one listener a core. Those that are listened on already are taken from `kept`.
///
/// # Errors
/// An address is taken, or not of this machine.
pub(super) fn listen_on_all(
    addresses: &[WantedAddress],
    wanted: &Wanted<'_>,
    cores: u16,
    kept: &[&Bound],
) -> Result<Vec<Bound>, StartError> {
    let mut all: Vec<Bound> = Vec::new();
    for WantedAddress { at, is_optional } in addresses {
        let mut address = *at;
        // A free port is the same for all.
        address.set_port(all.first().map_or(at.port(), |first| first.address.port()));
        if all.iter().any(|bound| bound.address == address) {
            return Err(StartError::PortTaken(address));
        }
        if let Some(bound) = kept.iter().find(|bound| bound.address == address) {
            all.push((*bound).clone());
            continue;
        }
        match listen_tcp(address, wanted, cores) {
            Ok((bound, listeners)) => all.push(Bound { address: bound, listeners }),
            Err(error) if is_no_such_family(&error) || *is_optional && is_not_ours(&error) => {
                tracing::debug!(%address, %error, "not listening on an optional address");
            }
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                return Err(StartError::PortTaken(address));
            }
            Err(error) => {
                return Err(StartError::Listen { address: address.to_string(), error });
            }
        }
    }
    Ok(all)
}

/// The address that a word of `bind` means: the first one, if it is a name of several.
pub(super) fn resolve(name: &str, port: u16) -> Result<SocketAddr, StartError> {
    let unknown = |error| StartError::Listen { address: name.to_owned(), error };
    match name {
        "*" => Ok((Ipv4Addr::UNSPECIFIED, port).into()),
        "::*" => Ok((Ipv6Addr::UNSPECIFIED, port).into()),
        name => {
            let mut found = (name, port).to_socket_addrs().map_err(unknown)?;
            found.next().ok_or_else(|| unknown(io::ErrorKind::NotFound.into()))
        }
    }
}

/// A socket of ours alone on the address. A process that was killed lets go of its sockets when the kernel has ended its rings,
/// some milliseconds after it is gone: whoever starts the next one at once finds the port taken and not for long.
pub(super) fn bind_alone(address: SocketAddr) -> io::Result<Socket> {
    let until = Instant::now() + PORT_PATIENCE;
    loop {
        match bind_tcp(address, false) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && Instant::now() < until => {
                thread::sleep(PORT_PATIENCE / 50);
            }
            result => return result,
        }
    }
}

/// One socket a core on the address, which nobody else listens on.
fn listen_tcp(address: SocketAddr, wanted: &Wanted<'_>, cores: u16) -> io::Result<(SocketAddr, Vec<Listener>)> {
    let probe = bind_alone(address)?;
    let bound = probe.local_addr()?.as_socket().expect("bound to one");
    drop(probe);
    let listener = || {
        let socket = bind_tcp(bound, true)?;
        socket.set_tcp_nodelay(true)?;
        let listener = Listener { socket: Arc::new(socket), is_tls: false };
        listener.keep_alive(wanted.keepalive_s)?;
        listener.listen(wanted.backlog)?;
        Ok(listener)
    };
    Ok((bound, (0..cores).map(|_| listener()).collect::<io::Result<_>>()?))
}

fn bind_tcp(address: SocketAddr, share: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    if share {
        socket.set_reuse_port(true)?;
    }
    socket.bind(&address.into())?;
    if !share {
        // With SO_REUSEADDR a bind succeeds beside another that does not listen yet; a listen tells.
        socket.listen(1)?;
    }
    Ok(socket)
}

/// As Redis sets it: asked after the interval, then three times within as much again. Linux takes 32,767 s at most.
fn keepalive(seconds: u32) -> TcpKeepalive {
    const SECONDS_MAX: u32 = 32_767;
    let seconds = seconds.min(SECONDS_MAX);
    let idle = Duration::from_secs(u64::from(seconds));
    let between = Duration::from_secs(u64::from((seconds / 3).max(1)));
    TcpKeepalive::new().with_time(idle).with_interval(between).with_retries(3)
}

/// Listens on a Unix socket.
pub(super) fn listen_unix(path: &Path, wanted: &Wanted<'_>) -> io::Result<Listener> {
    // A socket that lies there is of an earlier run; anything else makes the bind fail.
    if fs::symlink_metadata(path).is_ok_and(|there| there.file_type().is_socket()) {
        fs::remove_file(path)?;
    }
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.bind(&SockAddr::unix(path)?)?;
    if wanted.unix_mode != 0 {
        fs::set_permissions(path, Permissions::from_mode(wanted.unix_mode))?;
    }
    let listener = Listener { socket: Arc::new(socket), is_tls: false };
    listener.listen(wanted.backlog)?;
    Ok(listener)
}

/// This machine has no such kind of address: passed over, as Redis does.
pub(super) fn is_no_such_family(error: &io::Error) -> bool {
    let codes =
        [libc::ENOPROTOOPT, libc::EPROTONOSUPPORT, libc::ESOCKTNOSUPPORT, libc::EPFNOSUPPORT, libc::EAFNOSUPPORT];
    error.raw_os_error().is_some_and(|code| codes.contains(&code))
}

pub(super) fn is_not_ours(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::AddrNotAvailable
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use socket2::SockRef;

    use super::{super::listening::Listening, *};

    fn listen(wanted: &Wanted<'_>, cores: u16) -> Result<(Vec<Address>, Vec<Vec<Listener>>), StartError> {
        let listening = Listening::new(wanted, None, cores)?;
        Ok((listening.addresses(), (0..cores).map(|core| listening.of_core(core)).collect()))
    }

    fn wanted(bind: &[String]) -> Wanted<'_> {
        Wanted { bind, port: Some(0), tls_port: None, unix: "", unix_mode: 0, backlog: 511, keepalive_s: 300 }
    }

    fn accept(listeners: &[Vec<Listener>]) -> Socket {
        let all: Vec<_> = listeners.iter().flatten().collect();
        loop {
            for listener in &all {
                listener.socket.set_nonblocking(true).expect("a flag");
                match listener.socket.accept() {
                    Ok((socket, _)) => return socket,
                    Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
                }
            }
        }
    }

    #[test]
    fn each_core_listens_and_connections_inherit_their_options() {
        // Shows that no delay and keep-alive need no system call a connection.
        let bind = ["127.0.0.1".to_owned()];
        let (addresses, listeners) = listen(&wanted(&bind), 2).expect("a free port");
        let [Address::Tcp(address)] = addresses[..] else { panic!("{addresses:?}") };
        assert!(listeners.len() == 2 && listeners.iter().all(|core| core.len() == 1));
        let _client = TcpStream::connect(address).expect("listening");
        let accepted = accept(&listeners);
        let socket = SockRef::from(&accepted);
        assert!(socket.tcp_nodelay().expect("TCP") && socket.keepalive().expect("TCP"));
        assert_eq!(socket.tcp_keepalive_time().expect("TCP"), Duration::from_secs(300));
        assert_eq!(socket.tcp_keepalive_interval().expect("TCP"), Duration::from_secs(100));
    }

    #[test]
    fn a_port_that_is_listened_on_is_refused() {
        // Shows that neither a stranger's listener nor one of ours with SO_REUSEPORT is shared.
        let bind = ["127.0.0.1".to_owned()];
        let stranger = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let taken = stranger.local_addr().expect("bound").port();
        let refused = listen(&Wanted { port: Some(taken), ..wanted(&bind) }, 1);
        assert!(matches!(refused, Err(StartError::PortTaken(address)) if address.port() == taken), "{refused:?}");
        let (addresses, _ours) = listen(&wanted(&bind), 2).expect("a free port");
        let [Address::Tcp(address)] = addresses[..] else { panic!("{addresses:?}") };
        let refused = listen(&Wanted { port: Some(address.port()), ..wanted(&bind) }, 1);
        assert!(matches!(refused, Err(StartError::PortTaken(_))), "{refused:?}");
    }

    #[test]
    fn an_address_of_another_machine_is_an_error_unless_optional() {
        // Shows the minus sign of `bind`, and that a server without any address does not start.
        let foreign = ["192.0.2.1".to_owned()];
        assert!(matches!(listen(&wanted(&foreign), 1), Err(StartError::Listen { .. })));
        let both = ["-192.0.2.1".to_owned(), "127.0.0.1".to_owned()];
        let (addresses, _) = listen(&wanted(&both), 1).expect("the second is ours");
        assert_eq!(addresses.len(), 1);
        let port = match addresses[0] {
            Address::Tcp(address) => address.port(),
            Address::Tls(_) | Address::Unix(_) => unreachable!("none wanted"),
        };
        let only = ["-192.0.2.1".to_owned()];
        let none = listen(&Wanted { port: Some(port), ..wanted(&only) }, 1);
        assert!(matches!(none, Err(StartError::NoAddress { .. })), "{none:?}");
    }

    #[test]
    fn stars_are_all_addresses_of_a_family_on_one_port() {
        // Shows Redis' default `bind * -::*`, where IPv6 may be missing.
        let bind = ["*".to_owned(), "-::*".to_owned()];
        let (addresses, _) = listen(&wanted(&bind), 1).expect("a free port");
        let Address::Tcp(first) = &addresses[0] else { panic!("{addresses:?}") };
        assert!(first.is_ipv4() && first.ip().is_unspecified());
        for address in &addresses[1..] {
            assert!(matches!(address, Address::Tcp(other) if other.is_ipv6() && other.port() == first.port()));
        }
    }

    #[test]
    fn the_unix_socket_has_its_mode_and_replaces_a_stale_one() {
        // Shows `unixsocket` and `unixsocketperm`, twice at one path.
        let dir = std::env::temp_dir().join(format!("eagle-listener-{}", std::process::id()));
        fs::create_dir_all(&dir).expect("a temporary directory");
        let path = dir.join("node.sock");
        let text = path.to_str().expect("ASCII").to_owned();
        for _ in 0..2 {
            let wanted = Wanted { port: None, unix: &text, unix_mode: 0o700, ..wanted(&[]) };
            let (addresses, listeners) = listen(&wanted, 2).expect("a socket");
            assert_eq!(addresses, [Address::Unix(path.clone())]);
            assert_eq!(fs::metadata(&path).expect("made").permissions().mode() & 0o777, 0o700);
            let _client = std::os::unix::net::UnixStream::connect(&path).expect("listening");
            accept(&listeners);
        }
        fs::remove_dir_all(&dir).expect("ours");
    }
}
