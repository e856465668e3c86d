//! A plain blocking client: one command, one reply. For what is asked beside a measurement, never inside one.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, bail};

/// How long a reply may take before the server counts as hung.
const REPLY_WAIT_MAX: Duration = Duration::from_secs(30);

/// A RESP2 reply.
#[derive(Debug, PartialEq)]
pub(crate) enum Reply {
    /// `+OK`
    Simple(String),
    /// `-ERR ...`
    Error(String),
    /// `:1`
    Integer(i64),
    /// `$3`, or nothing.
    Bulk(Option<Vec<u8>>),
    /// `*2`, or nothing.
    Array(Option<Vec<Reply>>),
}

impl Reply {
    /// The text of a simple or bulk reply.
    pub(crate) fn text(self) -> Result<String> {
        match self {
            Reply::Simple(text) => Ok(text),
            Reply::Bulk(Some(bytes)) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
            Reply::Error(line) => bail!("the server says: {line}"),
            other => bail!("expected text and got {other:?}"),
        }
    }
}

/// A connection to a server on this machine.
pub(crate) struct Client {
    stream: BufReader<TcpStream>,
}

impl Client {
    /// Connects to a port of this machine.
    pub(crate) fn connect(port: u16) -> Result<Self> {
        let stream = connect(port)?;
        stream.set_read_timeout(Some(REPLY_WAIT_MAX))?;
        stream.set_write_timeout(Some(REPLY_WAIT_MAX))?;
        Ok(Self { stream: BufReader::new(stream) })
    }

    /// Sends a command and waits for its reply; an error reply is a reply.
    pub(crate) fn call(&mut self, arguments: &[&str]) -> Result<Reply> {
        let mut request = Vec::new();
        encode(&mut request, arguments.iter().map(|argument| argument.as_bytes()));
        self.stream.get_mut().write_all(&request)?;
        self.reply().with_context(|| format!("no reply to {}", arguments.join(" ")))
    }

    /// Sends bytes of requests, whose replies are to be read.
    pub(crate) fn send(&mut self, bytes: &[u8]) -> Result<()> {
        Ok(self.stream.get_mut().write_all(bytes)?)
    }

    /// Whether bytes of a reply have come, so that reading it does not wait for its beginning.
    pub(crate) fn has_reply(&self) -> Result<bool> {
        if !self.stream.buffer().is_empty() {
            return Ok(true);
        }
        let stream = self.stream.get_ref();
        stream.set_nonblocking(true)?;
        let peeked = stream.peek(&mut [0]);
        stream.set_nonblocking(false)?;
        match peeked {
            Ok(0) => bail!("the server closed the connection"),
            Ok(_) => Ok(true),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Sends a command that must answer `+OK`.
    pub(crate) fn expect_ok(&mut self, arguments: &[&str]) -> Result<()> {
        match self.call(arguments)? {
            Reply::Simple(text) if text == "OK" => Ok(()),
            other => bail!("{} answered {other:?}", arguments.join(" ")),
        }
    }

    /// The bare connection. All replies must have been read.
    pub(crate) fn into_stream(self) -> TcpStream {
        assert!(self.stream.buffer().is_empty(), "a reply has not been read");
        self.stream.into_inner()
    }

    /// Waits for one reply.
    pub(crate) fn reply(&mut self) -> Result<Reply> {
        let mut line = String::new();
        self.stream.read_line(&mut line)?;
        let Some(line) = line.strip_suffix("\r\n") else { bail!("the server closed the connection") };
        let (kind, rest) = line.split_at_checked(1).context("an empty line is no reply")?;
        Ok(match kind {
            "+" => Reply::Simple(rest.to_owned()),
            "-" => Reply::Error(rest.to_owned()),
            ":" => Reply::Integer(rest.parse()?),
            "$" => Reply::Bulk(self.bulk(rest.parse()?)?),
            "*" => {
                let count: i64 = rest.parse()?;
                let items = (0..count).map(|_| self.reply()).collect::<Result<_>>()?;
                Reply::Array((count >= 0).then_some(items))
            }
            _ => bail!("not a RESP2 reply: {line:?}"),
        })
    }

    fn bulk(&mut self, length: i64) -> Result<Option<Vec<u8>>> {
        let Ok(length) = usize::try_from(length) else {
            return Ok(None);
        };
        let mut bytes = vec![0; length + 2];
        self.stream.read_exact(&mut bytes)?;
        bytes.truncate(length);
        Ok(Some(bytes))
    }
}

/// A connected socket that sends at once what it is given.
pub(crate) fn connect(port: u16) -> Result<TcpStream> {
    let stream =
        TcpStream::connect((Ipv4Addr::LOCALHOST, port)).with_context(|| format!("cannot connect to port {port}"))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Appends a request to the bytes.
pub(crate) fn encode<'a>(out: &mut Vec<u8>, arguments: impl ExactSizeIterator<Item = &'a [u8]>) {
    // Writing to a Vec cannot fail.
    let _ = write!(out, "*{}\r\n", arguments.len());
    for argument in arguments {
        let _ = write!(out, "${}\r\n", argument.len());
        out.extend_from_slice(argument);
        out.extend_from_slice(b"\r\n");
    }
}

/// The value of a `name:value` line of INFO, if it has the line.
pub(crate) fn info_field<'a>(info: &'a str, name: &str) -> Option<&'a str> {
    info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim_end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_an_array_of_bulks() {
        let mut out = Vec::new();
        encode(&mut out, [b"GET".as_slice(), b"k\r\n"].into_iter());
        assert_eq!(out, b"*2\r\n$3\r\nGET\r\n$3\r\nk\r\n\r\n");
    }

    #[test]
    fn an_info_field_is_found_by_its_whole_name() {
        let info = "# Memory\r\nused_memory_peak:7\r\nused_memory:5\r\n";
        assert_eq!(info_field(info, "used_memory"), Some("5"));
        assert_eq!(info_field(info, "memory"), None);
    }
}
