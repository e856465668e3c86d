//! A client that sees exact replies: blocking, no conversions.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use eagle_resp::{Value, value};

/// No reply takes longer, even on a loaded machine.
const REPLY_MAX: Duration = Duration::from_secs(60);

/// A connection.
#[derive(Debug)]
pub struct Wire {
    stream: TcpStream,
    received: Vec<u8>,
    start: usize,
}

impl Wire {
    /// Connects.
    ///
    /// # Panics
    /// The server does not accept.
    #[must_use]
    pub fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).expect("the server accepts");
        stream.set_nodelay(true).expect("TCP_NODELAY");
        stream.set_read_timeout(Some(REPLY_MAX)).expect("a read timeout");
        Self { stream, received: Vec::new(), start: 0 }
    }

    /// Sends bytes as they are.
    ///
    /// # Errors
    /// The connection is broken.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// The next reply; an error of kind `UnexpectedEof` if the server closed.
    ///
    /// # Errors
    /// The connection is broken, closed, or silent for too long; the reply is malformed.
    pub fn reply(&mut self) -> io::Result<Value> {
        loop {
            let parsed = Value::parse(&self.received[self.start..]).map_err(io::Error::other)?;
            if let Some((value, len)) = parsed {
                self.used(len);
                return Ok(value);
            }
            self.read_more()?;
        }
    }

    /// The next reply as it came, byte by byte.
    ///
    /// # Errors
    /// As [`Self::reply`].
    pub fn reply_bytes(&mut self) -> io::Result<Vec<u8>> {
        loop {
            let received = &self.received[self.start..];
            if let Some(len) = value::skip(received).map_err(io::Error::other)? {
                let bytes = received[..len].to_vec();
                self.used(len);
                return Ok(bytes);
            }
            self.read_more()?;
        }
    }

    /// Bytes that came are done with.
    fn used(&mut self, len: usize) {
        self.start += len;
        if self.start == self.received.len() {
            self.received.clear();
            self.start = 0;
        }
    }

    fn read_more(&mut self) -> io::Result<()> {
        let mut buffer = [0; 64 << 10];
        let count = self.stream.read(&mut buffer)?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.received.extend_from_slice(&buffer[..count]);
        Ok(())
    }

    /// Sends a command and returns its reply.
    ///
    /// # Panics
    /// The connection breaks.
    pub fn command(&mut self, words: &[&[u8]]) -> Value {
        self.write(&encode(words)).expect("the server reads");
        self.reply().expect("the server replies")
    }

    /// Sends a command and returns its reply as it came, byte by byte.
    ///
    /// # Panics
    /// The connection breaks.
    pub fn raw(&mut self, words: &[&[u8]]) -> Vec<u8> {
        self.write(&encode(words)).expect("the server reads");
        self.reply_bytes().expect("the server replies")
    }

    /// [`Self::command`] with text.
    ///
    /// # Panics
    /// The connection breaks.
    pub fn text(&mut self, words: &[&str]) -> Value {
        let words: Vec<&[u8]> = words.iter().map(|word| word.as_bytes()).collect();
        self.command(&words)
    }

    /// Sends one request, whose reply is not waited for.
    ///
    /// # Panics
    /// The connection is broken.
    pub fn send(&mut self, words: &[&[u8]]) {
        self.write(&encode(words)).expect("the server reads");
    }

    /// Whether nothing has come that was not read.
    ///
    /// # Panics
    /// The connection is broken.
    #[must_use]
    pub fn is_silent(&self) -> bool {
        self.stream.set_nonblocking(true).expect("a mode of the socket");
        let peeked = self.stream.peek(&mut [0]);
        self.stream.set_nonblocking(false).expect("a mode of the socket");
        self.start == self.received.len() && peeked.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
    }

    /// The socket itself.
    #[must_use]
    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }
}

/// A command as multibulk.
#[must_use]
pub fn encode(words: &[&[u8]]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        bytes.extend(format!("${}\r\n", word.len()).into_bytes());
        bytes.extend_from_slice(word);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes
}
