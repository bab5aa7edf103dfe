//! A small blocking client, for subcommands that ask a server.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use bytes::BytesMut;
use redis_protocol::resp2::{
    decode::decode_bytes_mut,
    types::{BorrowedFrame, BytesFrame},
};

use crate::{address::Address, resp};

/// The error for a peer that answers in another protocol.
const NOT_REDIS: &str =
    "what answers there does not speak the Redis protocol: give a node's --client address";

fn is_hang_up(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    matches!(error.kind(), UnexpectedEof | ConnectionReset | ConnectionAborted | BrokenPipe)
}

/// Names a timeout, which the system calls a resource that is temporarily unavailable.
fn name_timeout(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
            io::Error::new(io::ErrorKind::TimedOut, "no answer in time (--timeout)")
        }
        _ => error,
    }
}

/// A connection to a server.
#[derive(Debug)]
pub(crate) struct BlockingClient {
    stream: TcpStream,
    output: BytesMut,
    input: BytesMut,
    chunk: Box<[u8]>,
}

impl BlockingClient {
    /// Connects to the first address of a name that answers, and checks that it is a server for
    /// clients. Nothing else has been requested then, so an error has had no effect.
    pub(crate) fn connect_to_node(
        address: &Address,
        timeout: Duration,
    ) -> io::Result<BlockingClient> {
        let mut last = None;
        for found in address.resolve()? {
            match BlockingClient::connect(found, timeout) {
                Ok(mut client) => return client.check_protocol().map(|()| client),
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(|| io::ErrorKind::NotFound.into()))
    }

    fn check_protocol(&mut self) -> io::Result<()> {
        match self.ask(&["PING"]) {
            Ok(BytesFrame::SimpleString(_)) => Ok(()),
            Ok(BytesFrame::Error(error)) => Err(io::Error::other(error.to_string())),
            Err(error) if is_hang_up(&error) => Err(io::Error::new(
                error.kind(),
                "it hangs up on clients, as a node does on its --raft port: give the node's \
                 --client address",
            )),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                Err(io::Error::new(error.kind(), NOT_REDIS))
            }
            Ok(_) => Err(io::Error::new(io::ErrorKind::InvalidData, NOT_REDIS)),
            Err(error) => Err(name_timeout(error)),
        }
    }

    /// Connects. Each later read or write may take `timeout`, too.
    pub(crate) fn connect(address: SocketAddr, timeout: Duration) -> io::Result<BlockingClient> {
        let stream = TcpStream::connect_timeout(&address, timeout)?;
        stream.set_read_timeout(Some(timeout))?;
        stream.set_write_timeout(Some(timeout))?;
        stream.set_nodelay(true)?;
        let chunk = vec![0; 64 << 10].into_boxed_slice();
        Ok(BlockingClient { stream, output: BytesMut::new(), input: BytesMut::new(), chunk })
    }

    /// Adds a request to the pipeline.
    pub(crate) fn push_request(&mut self, request: &[&str]) {
        let arguments: Vec<_> =
            request.iter().map(|argument| BorrowedFrame::BulkString(argument.as_bytes())).collect();
        resp::put(&mut self.output, &BorrowedFrame::Array(&arguments));
    }

    /// Sends the pipeline.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        self.stream.write_all(&self.output)?;
        self.output.clear();
        Ok(())
    }

    /// Waits for the next reply.
    pub(crate) fn read_reply(&mut self) -> io::Result<BytesFrame> {
        loop {
            let decoded = decode_bytes_mut(&mut self.input);
            let decoded = decoded
                .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.to_string()))?;
            if let Some((frame, ..)) = decoded {
                return Ok(frame);
            }
            match self.stream.read(&mut self.chunk).map_err(name_timeout)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                len => self.input.extend_from_slice(&self.chunk[..len]),
            }
        }
    }

    /// Sends one request and waits for its reply.
    pub(crate) fn ask(&mut self, request: &[&str]) -> io::Result<BytesFrame> {
        self.push_request(request);
        self.flush()?;
        self.read_reply()
    }

    /// The fields of a section of `INFO`.
    pub(crate) fn info(&mut self, section: &str) -> io::Result<Info> {
        self.fields(&["INFO", section])
    }

    /// The members of the cluster, as the asked node knows them.
    pub(crate) fn members(&mut self) -> io::Result<Info> {
        self.fields(&["RAFT", "MEMBERS"])
    }

    fn fields(&mut self, request: &[&str]) -> io::Result<Info> {
        match self.ask(request)? {
            BytesFrame::BulkString(text) => Ok(Info(String::from_utf8_lossy(&text).into_owned())),
            BytesFrame::Error(error) => Err(io::Error::other(error.to_string())),
            other => Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("{request:?} was answered with {other:?}"),
            )),
        }
    }
}

/// Lines of `name:value`, as `INFO` and `RAFT MEMBERS` answer them.
#[derive(Clone, Debug)]
pub(crate) struct Info(String);

impl From<String> for Info {
    fn from(text: String) -> Info {
        Info(text)
    }
}

impl Info {
    /// A field's value.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        self.fields().find(|(field, _)| *field == name).map(|(_, value)| value)
    }

    /// All fields, in their order.
    pub(crate) fn fields(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.lines().filter_map(|line| line.trim_end().split_once(':'))
    }
}
