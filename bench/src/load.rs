//! The load, the same for all servers: one thread, on the core that the server does not use.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream, UdpSocket};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use libc::{EPOLLIN, EPOLLOUT};

use crate::sys::{self, Epoll};
use crate::{number, usage};

/// When a load ends.
#[derive(Clone, Copy)]
pub(crate) enum Limit {
    Time(Duration),
    Count(u64),
}

impl Limit {
    fn is_reached(self, begun: Instant, done: u64) -> bool {
        match self {
            // The clock is read once in 16 operations.
            Limit::Time(duration) => done.is_multiple_of(16) && begun.elapsed() >= duration,
            Limit::Count(count) => done >= count,
        }
    }
}

struct Client {
    stream: TcpStream,
    to_send: usize,
    to_receive: usize,
    waits_to_send: bool,
}

/// Connections that each send a message, wait for its echo, and send the next.
pub(crate) struct Echo {
    clients: Vec<Client>,
    message: Vec<u8>,
    buffer: Vec<u8>,
    epoll: Epoll,
}

impl Echo {
    pub(crate) fn connect(
        server: SocketAddr,
        connections: usize,
        bytes: usize,
    ) -> io::Result<Echo> {
        let epoll = Epoll::new(256)?;
        let mut clients = Vec::new();
        for index in 0..connections {
            let stream = TcpStream::connect(server)?;
            stream.set_nodelay(true)?;
            if connections > 1 {
                stream.set_nonblocking(true)?;
                epoll.add(stream.as_raw_fd(), EPOLLIN, index as u64)?;
            }
            clients.push(Client { stream, to_send: 0, to_receive: 0, waits_to_send: false });
        }
        Ok(Echo { clients, message: vec![b'k'; bytes], buffer: vec![0; 64 * 1024], epoll })
    }

    /// Runs until the limit. Returns the number of messages that came back. May be called again.
    pub(crate) fn run(&mut self, limit: Limit) -> io::Result<u64> {
        if let [client] = self.clients.as_mut_slice() {
            return one_connection(&mut client.stream, &self.message, &mut self.buffer, limit);
        }
        let begun = Instant::now();
        let mut done = 0;
        for index in 0..self.clients.len() {
            if self.clients[index].to_receive == 0 {
                self.begin(index)?;
            }
        }
        loop {
            for at in 0..self.epoll.wait(-1)? {
                let (index, flags) = self.epoll.event(at);
                let index = index as usize;
                if flags & EPOLLOUT as u32 != 0 {
                    self.send(index)?;
                }
                if flags & !(EPOLLOUT as u32) != 0 && self.receive(index)? {
                    done += 1;
                    self.begin(index)?;
                    if limit.is_reached(begun, done) {
                        return Ok(done);
                    }
                }
            }
        }
    }

    fn begin(&mut self, index: usize) -> io::Result<()> {
        let client = &mut self.clients[index];
        (client.to_send, client.to_receive) = (self.message.len(), self.message.len());
        self.send(index)
    }

    fn send(&mut self, index: usize) -> io::Result<()> {
        let client = &mut self.clients[index];
        match client.stream.write(&self.message[..client.to_send]) {
            Ok(count) => client.to_send -= count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
        if (client.to_send > 0) != client.waits_to_send {
            client.waits_to_send = client.to_send > 0;
            let flags = if client.waits_to_send { EPOLLIN | EPOLLOUT } else { EPOLLIN };
            self.epoll.modify(client.stream.as_raw_fd(), flags, index as u64)?;
        }
        Ok(())
    }

    /// Reads once. Returns whether the echo is complete.
    fn receive(&mut self, index: usize) -> io::Result<bool> {
        let client = &mut self.clients[index];
        match client.stream.read(&mut self.buffer) {
            Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => {
                client.to_receive -= count;
                Ok(client.to_receive == 0)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(error),
        }
    }
}

fn one_connection(
    stream: &mut TcpStream,
    message: &[u8],
    buffer: &mut [u8],
    limit: Limit,
) -> io::Result<u64> {
    let begun = Instant::now();
    let mut done = 0;
    loop {
        stream.write_all(message)?;
        stream.read_exact(&mut buffer[..message.len()])?;
        done += 1;
        if limit.is_reached(begun, done) {
            return Ok(done);
        }
    }
}

/// Connects, has 64 bytes echoed, and closes, one connection after the other.
pub(crate) fn churn(server: SocketAddr, limit: Limit) -> io::Result<u64> {
    let (message, mut answer) = ([b'k'; 64], [0; 64]);
    let begun = Instant::now();
    let mut done = 0_u64;
    loop {
        // A closed connection's port stays in TIME_WAIT, so the server's address varies.
        let host = [127, 0, 1 + (done / 200 % 250) as u8, 1 + (done % 200) as u8];
        let address = SocketAddr::from((host, server.port()));
        let mut stream = TcpStream::connect(address)?;
        stream.write_all(&message)?;
        stream.read_exact(&mut answer)?;
        stream.shutdown(Shutdown::Write)?;
        assert_eq!(stream.read(&mut answer)?, 0, "the server closes its side");
        done += 1;
        if limit.is_reached(begun, done) {
            return Ok(done);
        }
    }
}

/// Sends packets of 64 bytes, 32 of them in flight at any time.
///
/// Loopback loses none, because they fit into the sockets' buffers.
pub(crate) fn udp(server: SocketAddr, limit: Limit) -> io::Result<u64> {
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    socket.connect(server)?;
    socket.set_read_timeout(Some(Duration::from_secs(2)))?;
    let (message, mut answer) = ([b'k'; 64], [0; 64]);
    for _ in 0..32 {
        socket.send(&message)?;
    }
    let begun = Instant::now();
    let mut done = 0;
    loop {
        socket.recv(&mut answer)?;
        done += 1;
        if limit.is_reached(begun, done) {
            break;
        }
        socket.send(&message)?;
    }
    for _ in 1..32 {
        socket.recv(&mut answer)?;
    }
    Ok(done)
}

/// Runs one load for a number of operations, for the scripts that count calls and instructions.
pub(crate) fn run_single(words: &[&str]) -> io::Result<()> {
    sys::pin(sys::LOAD_CORE);
    let address =
        |port: &str| Ok::<_, io::Error>(SocketAddr::from(([127, 0, 0, 1], number(port)?)));
    let done = match words {
        ["echo", port, connections, bytes, count] => {
            let mut echo = Echo::connect(address(port)?, number(connections)?, number(bytes)?)?;
            echo.run(Limit::Count(number(count)?))?
        }
        ["churn", port, count] => churn(address(port)?, Limit::Count(number(count)?))?,
        ["udp", port, count] => udp(address(port)?, Limit::Count(number(count)?))?,
        _ => return Err(usage()),
    };
    println!("{done}");
    Ok(())
}
