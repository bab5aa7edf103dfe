//! Accepting when the process runs out of descriptors. A test binary of its own: the limit is the
//! whole process's.
//!
//! The test runs itself again, as a server under a small limit, and plays its clients.

use std::env;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use kodiak_net::{
    AcceptError, DescriptorLimit, TcpListener, TcpStream, TryRead, UnixListener, UnixStream,
};
use kodiak_reactor::{EventLoop, Handler, ReadHint, Source};

const SERVER: &str = "KODIAK_TEST_SERVER";
const CLIENTS: usize = 64;

/// How long a client waits for its greeting or its dismissal, before the test fails rather than
/// hang.
const TEST_TIMEOUT: Duration = Duration::from_secs(20);

/// What both kinds of listener can do.
trait Listen: Source {
    type Stream: Source + Read + Write;
    fn accept_stream(&self) -> Result<Option<Self::Stream>, AcceptError>;
}

impl Listen for TcpListener {
    type Stream = TcpStream;
    fn accept_stream(&self) -> Result<Option<TcpStream>, AcceptError> {
        Ok(self.accept()?.map(|(stream, _)| stream))
    }
}

impl Listen for UnixListener {
    type Stream = UnixStream;
    fn accept_stream(&self) -> Result<Option<UnixStream>, AcceptError> {
        Ok(self.accept()?.map(|(stream, _)| stream))
    }
}

/// Greets clients that it can keep, counts those that it cannot, and ends when a client sends `q`.
struct Server<L: Listen> {
    listener: L,
    clients: Vec<Option<L::Stream>>,
    shed: usize,
    callbacks: usize,
}

#[derive(Clone, Copy)]
enum Token {
    Listener,
    Client(usize),
}

impl<L: Listen> Handler<Token, ()> for Server<L> {
    fn readable(&mut self, event_loop: &mut EventLoop<Token, ()>, token: Token, _: ReadHint) {
        match token {
            Token::Listener => self.accept_all(event_loop),
            Token::Client(index) => {
                let mut byte = [0];
                match self.clients[index].as_mut().unwrap().try_read(&mut byte) {
                    Ok(Some(1)) if byte == *b"q" => {
                        println!("shed={} callbacks={}", self.shed, self.callbacks);
                        event_loop.shutdown();
                    }
                    Ok(None) => {}
                    _ => self.clients[index] = None,
                }
            }
        }
    }
}

impl<L: Listen> Server<L> {
    fn accept_all(&mut self, event_loop: &mut EventLoop<Token, ()>) {
        self.callbacks += 1;
        loop {
            match self.listener.accept_stream() {
                Ok(Some(mut stream)) => {
                    event_loop.register(&stream, Token::Client(self.clients.len())).unwrap();
                    stream.write_all(b"k").unwrap();
                    self.clients.push(Some(stream));
                }
                Ok(None) => return,
                Err(AcceptError::Shed { limit, .. }) => {
                    assert_eq!(limit, DescriptorLimit::Process);
                    self.shed += 1;
                }
                Err(error) => panic!("{error}"),
            }
        }
    }

    fn run(listener: L) {
        let mut event_loop = EventLoop::new().unwrap();
        event_loop.register(&listener, Token::Listener).unwrap();
        let mut server = Server { listener, clients: Vec::new(), shed: 0, callbacks: 0 };
        event_loop.run(&mut server).unwrap();
    }
}

/// The server's process; killed if the test fails half-way.
struct ServerProcess(Child);

impl Drop for ServerProcess {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// This test binary again, as a server for which a few descriptors must do.
fn start_server(test: &str, address: &str) -> ServerProcess {
    let server = Command::new("sh")
        .args(["-c", "ulimit -n 32 && exec \"$0\" \"$@\""])
        .arg(env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(SERVER, address)
        .stdout(Stdio::piped())
        .spawn();
    ServerProcess(server.unwrap())
}

/// What follows `key` on the first line of the server's output that has it.
fn line_after(output: &mut impl BufRead, key: &str) -> String {
    let mut line = String::new();
    while output.read_line(&mut line).unwrap() > 0 {
        if let Some(at) = line.find(key) {
            return line[at + key.len()..].trim().to_owned();
        }
        line.clear();
    }
    panic!("the server ended without saying {key}")
}

/// Connects many clients, more than the server has descriptors for; returns how many were turned
/// away. Each is either greeted or hung up on; none waits without an answer, or this would never
/// end.
fn crowd<S: Read + Write>(connect: impl Fn() -> io::Result<S>) -> usize {
    let mut kept = Vec::new();
    let mut turned_away = 0;
    for _ in 0..CLIENTS {
        let mut client = connect().unwrap();
        match client.read(&mut [0]) {
            Ok(1) => kept.push(client),
            Ok(_) => turned_away += 1,
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => turned_away += 1,
            Err(error) => panic!("{error}"),
        }
    }
    assert!(!kept.is_empty() && turned_away > 0, "{} kept, {turned_away} turned away", kept.len());
    turned_away
}

/// Sends `q` once a client is served again, which is when the server has seen that the crowd left.
fn quit<S: Read + Write>(connect: impl Fn() -> io::Result<S>) -> usize {
    let mut turned_away = 0;
    loop {
        let mut client = connect().unwrap();
        if matches!(client.read(&mut [0]), Ok(1)) {
            client.write_all(b"q").unwrap();
            return turned_away;
        }
        turned_away += 1;
    }
}

/// The server counted every client that was turned away, and was not called much more often than
/// there were clients.
fn check(mut server: ServerProcess, output: &mut impl BufRead, turned_away: usize) {
    let counts = line_after(output, "shed=");
    let (shed, callbacks) = counts.split_once(" callbacks=").unwrap();
    assert_eq!(shed.parse::<usize>().unwrap(), turned_away);
    let callbacks: usize = callbacks.parse().unwrap();
    assert!(callbacks <= CLIENTS + turned_away + 1, "{callbacks} callbacks: the listener spins");
    io::copy(output, &mut io::sink()).unwrap();
    assert!(server.0.wait().unwrap().success());
}

#[test]
fn emfile_on_accept_does_not_spin_tcp() {
    if env::var_os(SERVER).is_some() {
        let listener = TcpListener::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        println!("address={}", listener.local_addr().unwrap());
        return Server::run(listener);
    }
    let mut server = start_server("emfile_on_accept_does_not_spin_tcp", "127.0.0.1:0");
    let mut output = BufReader::new(server.0.stdout.take().unwrap());
    let address: SocketAddr = line_after(&mut output, "address=").parse().unwrap();
    let connect = || {
        let client = std::net::TcpStream::connect(address)?;
        client.set_read_timeout(Some(TEST_TIMEOUT)).map(|()| client)
    };
    let turned_away = crowd(connect) + quit(connect);
    check(server, &mut output, turned_away);
}

#[test]
fn emfile_on_accept_does_not_spin_unix() {
    if let Some(path) = env::var_os(SERVER) {
        let listener = UnixListener::bind(Path::new(&path)).unwrap();
        println!("address={}", path.display());
        return Server::run(listener);
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("crowd");
    let mut server = start_server("emfile_on_accept_does_not_spin_unix", path.to_str().unwrap());
    let mut output = BufReader::new(server.0.stdout.take().unwrap());
    line_after(&mut output, "address=");
    let connect = || {
        let client = std::os::unix::net::UnixStream::connect(&path)?;
        client.set_read_timeout(Some(TEST_TIMEOUT)).map(|()| client)
    };
    let turned_away = crowd(connect) + quit(connect);
    check(server, &mut output, turned_away);
}
