//! A server is another process behind a Unix socket that answers requests: a real Redis or Valkey, or our own binary.

use std::{
    io::{self, Read, Write},
    os::unix::net::UnixStream,
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use eagle_resp::{OwnedArgs, Protocol, value};

use super::Target;

/// How long a server may take to open its socket, or to answer a request.
const PATIENCE: Duration = Duration::from_secs(20);

/// A server process with one connection. It ends with this value.
#[derive(Debug)]
pub struct Server {
    process: Child,
    /// Holds its socket.
    directory: tempfile::TempDir,
    connection: UnixStream,
    /// Bytes that came and were not yet used.
    received: Vec<u8>,
}

impl Server {
    /// Starts `program`, which takes the options of `redis-server`, without persistence and port. An error if it is not
    /// installed; panics if it does not open its socket in time.
    pub fn start(program: &Path) -> io::Result<Self> {
        let directory = tempfile::tempdir()?;
        let socket = directory.path().join("socket");
        let process = Command::new(program)
            .args(["--port", "0", "--save", "", "--unixsocket"])
            .arg(&socket)
            .current_dir(directory.path())
            .stdout(Stdio::null())
            .spawn()?;
        let begun = Instant::now();
        let connection = loop {
            match UnixStream::connect(&socket) {
                Ok(connection) => break connection,
                Err(error) => assert!(
                    begun.elapsed() < PATIENCE,
                    "{} does not answer: {error}",
                    program.display()
                ),
            }
            thread::sleep(Duration::from_millis(5));
        };
        connection.set_read_timeout(Some(PATIENCE))?;
        Ok(Self {
            process,
            directory,
            connection,
            received: Vec::new(),
        })
    }

    fn command(&mut self, words: &[&str]) {
        let request = words.iter().map(|word| word.as_bytes()).collect();
        let reply = self.ask(&request);
        assert!(
            !reply.starts_with(b"-"),
            "{words:?}: {}",
            reply.escape_ascii()
        );
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Target for Server {
    fn fresh(&mut self) {
        self.connection = UnixStream::connect(self.directory.path().join("socket"))
            .expect("the server still listens");
        self.connection
            .set_read_timeout(Some(PATIENCE))
            .expect("a timeout above zero");
        self.command(&["FLUSHALL"]);
    }

    fn protocol(&mut self, protocol: Protocol) {
        self.command(&[
            "HELLO",
            if protocol == Protocol::Resp2 {
                "2"
            } else {
                "3"
            },
        ]);
    }

    fn database(&mut self, db: u8) {
        self.command(&["SELECT", &db.to_string()]);
    }

    fn advance(&mut self, by: Duration) {
        thread::sleep(by);
    }

    fn ask(&mut self, request: &OwnedArgs) -> Vec<u8> {
        let args = request.as_args();
        let mut bytes = format!("*{}\r\n", args.len()).into_bytes();
        for arg in args {
            bytes.extend_from_slice(format!("${}\r\n", arg.len()).as_bytes());
            bytes.extend_from_slice(arg);
            bytes.extend_from_slice(b"\r\n");
        }
        self.connection.write_all(&bytes).expect("the server reads");
        let mut chunk = [0; 16 * 1024];
        loop {
            if let Some(len) = value::skip(&self.received).expect("a reply of the protocol") {
                return self.received.drain(..len).collect();
            }
            let read = self
                .connection
                .read(&mut chunk)
                .expect("the server answers in time");
            assert!(read > 0, "the server closed the connection at {args:?}");
            self.received.extend_from_slice(&chunk[..read]);
        }
    }
}
