//! TLS against the binary: requests of every size on one and two shards, clients' certificates, certificates that are replaced while
//! serving, and the clients that applications use, with users of their own.
//!
//! Certificates are made by each test. redis-py and ioredis are skipped where `deploy/test.sh` has not installed them.

use std::{
    env,
    ffi::OsString,
    io::{Read, Write},
    net::TcpStream,
    path::Path,
    process::Command,
    sync::Arc,
    time::Duration,
};

use eagle_tests::{
    process::{Process, eagledb_path, free_port},
    wire::encode,
};
use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
};
use tempfile::TempDir;

type Tls = StreamOwned<ClientConnection, TcpStream>;

/// Who signs, and where its certificate and those that it has signed lie.
struct Authority {
    dir: TempDir,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let dir = TempDir::new().expect("a temporary folder");
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        // Who signs must not be called as who is signed, or OpenSSL takes that for signed by itself.
        params.distinguished_name.push(DnType::CommonName, "authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).expect("signed");
        std::fs::write(dir.path().join("ca.crt"), certificate.pem()).expect("written");
        Self { dir, issuer: Issuer::new(params, key) }
    }

    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).display().to_string()
    }

    /// Makes `name.crt` and `name.key`.
    fn sign(&self, name: &str, usage: ExtendedKeyUsagePurpose) {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(vec!["localhost".to_owned(), "127.0.0.1".to_owned()]).expect("names");
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages = vec![usage];
        let certificate = params.signed_by(&key, &self.issuer).expect("signed");
        std::fs::write(self.path(&format!("{name}.crt")), certificate.pem()).expect("written");
        std::fs::write(self.path(&format!("{name}.key")), key.serialize_pem()).expect("written");
    }

    fn certificates(&self, name: &str) -> Vec<CertificateDer<'static>> {
        let file = CertificateDer::pem_file_iter(self.path(&format!("{name}.crt"))).expect("a file");
        file.collect::<Result<_, _>>().expect("certificates")
    }

    /// A server whose certificate is `server`, and its TLS port.
    fn server(&self, arguments: &[&str]) -> (Process, u16) {
        self.sign("server", ExtendedKeyUsagePurpose::ServerAuth);
        let port = free_port();
        let files = [self.path("server.crt"), self.path("server.key"), self.path("ca.crt")];
        let mut all = vec!["--pool", "none", "--tls-cert-file", &files[0], "--tls-key-file", &files[1]];
        let text = port.to_string();
        all.extend(["--tls-ca-cert-file", &files[2], "--tls-port", &text]);
        all.extend(arguments);
        (Process::eagledb(&all), port)
    }

    /// A client who trusts this authority, with the certificate of this name or none.
    fn client(&self, certificate: Option<&str>) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        for root in self.certificates("ca") {
            roots.add(root).expect("an authority");
        }
        let builder = ClientConfig::builder().with_root_certificates(roots);
        let config = match certificate {
            None => builder.with_no_client_auth(),
            Some(name) => {
                let key = PrivateKeyDer::from_pem_file(self.path(&format!("{name}.key"))).expect("a key");
                builder.with_client_auth_cert(self.certificates(name), key).expect("a pair")
            }
        };
        Arc::new(config)
    }
}

fn connect(port: u16, config: &Arc<ClientConfig>) -> Tls {
    let socket = TcpStream::connect(("127.0.0.1", port)).expect("listening");
    socket.set_read_timeout(Some(Duration::from_secs(60))).expect("a socket");
    let name = ServerName::try_from("localhost").expect("a name");
    StreamOwned::new(ClientConnection::new(config.clone(), name).expect("a configuration"), socket)
}

/// The reply to a request, of which the length is known.
fn ask(tls: &mut Tls, words: &[&[u8]], reply: &[u8]) {
    tls.write_all(&encode(words)).expect("sent");
    expect(tls, reply);
}

fn expect(tls: &mut Tls, reply: &[u8]) {
    let mut bytes = vec![0; reply.len()];
    tls.read_exact(&mut bytes).expect("a reply");
    assert!(bytes == reply, "{:?}", String::from_utf8_lossy(&bytes[..bytes.len().min(200)]));
}

/// Whether the server talks to this client.
fn talks(port: u16, config: &Arc<ClientConfig>) -> bool {
    let mut tls = connect(port, config);
    let mut reply = [0; 7];
    tls.write_all(b"PING\r\n").and_then(|()| tls.read_exact(&mut reply)).is_ok_and(|()| reply == *b"+PONG\r\n")
}

#[test]
fn requests_and_replies_of_every_size_pass() {
    // Beside each other on one and two shards: a long pipeline, values beyond a TLS record and a socket's buffers, and an orderly end.
    let authority = Authority::new();
    for shards in ["1", "2"] {
        let (_server, port) = authority.server(&["--tls-auth-clients", "no", "--shards", shards]);
        let config = authority.client(None);
        let mut tls = connect(port, &config);
        ask(&mut tls, &[b"PING"], b"+PONG\r\n");
        for len in [0, 1, 16_383, 16_384, 16_385, 1 << 20, 5_000_000] {
            let value = vec![b'v'; len];
            ask(&mut tls, &[b"SET", b"key", &value], b"+OK\r\n");
            let reply = [format!("${len}\r\n").as_bytes(), &value, b"\r\n"].concat();
            ask(&mut tls, &[b"GET", b"key"], &reply);
        }
        let mut pipeline = Vec::new();
        for number in 0..20_000 {
            pipeline.extend(encode(&[b"SET", format!("key{number}").as_bytes(), b"x"]));
        }
        tls.write_all(&pipeline).expect("sent");
        expect(&mut tls, &b"+OK\r\n".repeat(20_000));
        ask(&mut tls, &[b"QUIT"], b"+OK\r\n");
        // Not only the end of the socket, but that of TLS: anything else would be an error.
        assert_eq!(tls.read(&mut [0; 8]).expect("an orderly end"), 0);
    }
}

#[test]
fn clients_certificates_are_asked_for_as_configured() {
    // Needed, or not, or only right if shown; one of another authority never is.
    let authority = Authority::new();
    let stranger = Authority::new();
    authority.sign("client", ExtendedKeyUsagePurpose::ClientAuth);
    stranger.sign("client", ExtendedKeyUsagePurpose::ClientAuth);
    std::fs::copy(authority.path("ca.crt"), stranger.path("ca.crt")).expect("copied");
    let clients = [authority.client(None), authority.client(Some("client")), stranger.client(Some("client"))];
    for (wanted, served) in
        [("yes", [false, true, false]), ("optional", [true, true, false]), ("no", [true, true, true])]
    {
        let (_server, port) = authority.server(&["--tls-auth-clients", wanted]);
        assert_eq!([0, 1, 2].map(|at| talks(port, &clients[at])), served, "{wanted}");
    }
}

#[test]
fn certificates_are_replaced_while_serving() {
    // A new one for those who come, the old for those who are there; one that cannot be used changes nothing.
    let authority = Authority::new();
    let (server, port) = authority.server(&["--tls-auth-clients", "no"]);
    let config = authority.client(None);
    let shown = |tls: &Tls| tls.conn.peer_certificates().expect("after the handshake")[0].clone();
    let mut old = connect(port, &config);
    ask(&mut old, &[b"PING"], b"+PONG\r\n");
    let set = |name: &str, value: &str| {
        let mut wire = eagle_tests::wire::Wire::connect(server.address());
        format!("{:?}", wire.text(&["CONFIG", "SET", name, value]))
    };
    authority.sign("server", ExtendedKeyUsagePurpose::ServerAuth);
    assert!(set("tls-cert-file", &authority.path("server.crt")).contains("Simple"));
    let mut new = connect(port, &config);
    ask(&mut new, &[b"PING"], b"+PONG\r\n");
    assert_ne!(shown(&old), shown(&new));
    assert_eq!(shown(&new), authority.certificates("server")[0]);
    ask(&mut old, &[b"PING"], b"+PONG\r\n");
    for (name, value) in [("tls-cert-file", "/nowhere"), ("tls-key-file", "/dev/null"), ("tls-protocols", "TLSv1")] {
        assert!(set(name, value).contains("Error"), "{name}");
    }
    assert!(talks(port, &config));
    // To another port and away, while those who are there go on.
    let other = free_port();
    assert!(set("tls-port", &other.to_string()).contains("Simple"));
    assert!(talks(other, &config) && TcpStream::connect(("127.0.0.1", port)).is_err());
    assert!(set("tls-port", "0").contains("Simple"));
    assert!(TcpStream::connect(("127.0.0.1", other)).is_err());
    ask(&mut new, &[b"PING"], b"+PONG\r\n");
}

#[test]
fn who_speaks_no_tls_is_closed_and_hinders_nobody() {
    // Plain requests, noise, and handshakes that are never gone on with, beside a client that is served.
    let authority = Authority::new();
    let (_server, port) = authority.server(&["--tls-auth-clients", "no"]);
    let idle: Vec<TcpStream> = (0..50).map(|_| TcpStream::connect(("127.0.0.1", port)).expect("listening")).collect();
    for mut socket in &idle {
        socket.write_all(&[22, 3, 1]).expect("the beginning of a record");
    }
    for noise in [b"PING\r\n".repeat(10), vec![0; 100], vec![22, 3, 1, 0xff, 0xff, 1, 2, 3]] {
        let mut socket = TcpStream::connect(("127.0.0.1", port)).expect("listening");
        socket.write_all(&noise).expect("sent");
        let mut heard = Vec::new();
        // An alert, and the end; if there was more to say than was read, a reset.
        let _ = socket.read_to_end(&mut heard);
        assert!(heard.first().is_none_or(|kind| *kind == 21), "{heard:?}");
    }
    assert!(talks(port, &authority.client(None)));
}

#[test]
fn what_cannot_be_used_is_refused_at_start() {
    // The sentence says what is missing; a key with a passphrase is one.
    let authority = Authority::new();
    authority.sign("server", ExtendedKeyUsagePurpose::ServerAuth);
    std::fs::write(
        authority.path("locked.key"),
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n",
    )
    .expect("written");
    let [cert, key, locked] = ["server.crt", "server.key", "locked.key"].map(|name| authority.path(name));
    for (arguments, complaint) in [
        (vec!["--tls-key-file", &key], "tls-port needs tls-cert-file."),
        (vec!["--tls-cert-file", &cert, "--tls-key-file", &locked], "has a passphrase, which is not supported"),
        (vec!["--tls-cert-file", &cert, "--tls-key-file", &key], "tls-auth-clients needs tls-ca-cert-file"),
        (vec!["--tls-cert-file", &cert, "--tls-key-file", &cert], "There is no private key in"),
    ] {
        let dir = TempDir::new().expect("a folder");
        let port = free_port().to_string();
        let output = Command::new(eagledb_path())
            .args(["--port", "0", "--pool", "none", "--tls-port", &port, "--dir"])
            .arg(dir.path())
            .args(&arguments)
            .output()
            .expect("it starts");
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        assert!(!output.status.success() && said.contains(complaint), "{arguments:?}: {said}");
    }
}

fn script(name: &str) -> OsString {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("clients").join(name).into_os_string()
}

fn run(command: &mut Command) -> String {
    let output = command.output().expect("it runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{command:?}: {}\n{stdout}\n{stderr}", output.status);
    stdout
}

#[test]
fn clients_of_applications_use_tls_and_users() {
    // redis-cli, redis-py and ioredis with a certificate, as users who may do some of it.
    let authority = Authority::new();
    authority.sign("client", ExtendedKeyUsagePurpose::ClientAuth);
    for shards in ["1", "2"] {
        let (_server, port) = authority.server(&["--shards", shards]);
        let port = port.to_string();
        let files = [authority.path("ca.crt"), authority.path("client.crt"), authority.path("client.key")];
        let cli = |words: &[&str]| {
            let tls = ["-p", &port, "--tls", "--cacert", &files[0], "--cert", &files[1], "--key", &files[2]];
            run(Command::new("redis-cli").args(tls).args(words)).trim().to_owned()
        };
        assert_eq!(cli(&["SET", "a", "1"]), "OK");
        assert_eq!(cli(&["ACL", "SETUSER", "app", "on", ">pw", "~app:*", "%R~shared:*", "+@all", "-@dangerous"]), "OK");
        assert_eq!(cli(&["--user", "app", "--pass", "pw", "--no-auth-warning", "ACL", "WHOAMI"]), "app");
        let arguments = [&port, &files[0], &files[1], &files[2]];
        match env::var_os("EAGLE_PYTHON") {
            Some(python) => drop(run(Command::new(python).arg(script("secure.py")).args(arguments))),
            None => eprintln!("skipped: redis-py is not installed (EAGLE_PYTHON is not set)"),
        }
        match env::var_os("EAGLE_NODE_MODULES") {
            Some(modules) => {
                drop(run(Command::new("node").env("NODE_PATH", modules).arg(script("secure.js")).args(arguments)));
            }
            None => eprintln!("skipped: ioredis is not installed (EAGLE_NODE_MODULES is not set)"),
        }
    }
}
