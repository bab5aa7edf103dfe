//! The handler: listeners, clients and datagram sockets, distinguished by tokens.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use kodiak_net::{Accept, AcceptError, Acceptor, TcpListener, UnixListener};
use kodiak_reactor::{
    EventLoop, Handler, Interest, ReadHint, Registration, SigInfo, Source, Trigger,
};
use slab::Slab;

use crate::connection::{Connection, Progress, Stream};
use crate::datagrams::Datagrams;
use crate::unix_path::UnixPath;
use crate::{Flags, with_causes};

/// Number of clients that one callback accepts before others are served.
const ACCEPTS_PER_CALLBACK: usize = 64;

/// The subject of a callback; the numbers are indices into the server's tables.
#[derive(Clone, Copy)]
pub(crate) enum Token {
    Listener(usize),
    Datagrams(usize),
    Connection(usize),
}

enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener, UnixPath),
}

impl Listener {
    fn source(&self) -> &dyn Source {
        match self {
            Listener::Tcp(listener) => listener,
            Listener::Unix(listener, _) => listener,
        }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.source().as_fd()
    }
}

impl Source for Listener {
    fn registration(&self) -> &Registration {
        self.source().registration()
    }
}

impl Accept for Listener {
    type Accepted = Box<dyn Stream>;

    fn accept(&self) -> Result<Option<Box<dyn Stream>>, AcceptError> {
        Ok(match self {
            Listener::Tcp(listener) => {
                listener.accept()?.map(|(stream, _)| Box::new(stream) as Box<dyn Stream>)
            }
            Listener::Unix(listener, _) => {
                listener.accept()?.map(|(stream, _)| Box::new(stream) as Box<dyn Stream>)
            }
        })
    }
}

pub(crate) struct Server {
    acceptors: Vec<Acceptor<Listener>>,
    datagrams: Vec<Datagrams>,
    connections: Slab<Connection>,
    max_clients: usize,
    /// Clients disconnected in this turn for lack of descriptors.
    shed: usize,
    /// Clients disconnected in this turn because there were `max_clients`.
    beyond_limit: usize,
}

type Loop = EventLoop<Token, ()>;

impl Server {
    /// Binds and registers everything that the flags name.
    pub(crate) fn bind(event_loop: &mut Loop, flags: &Flags) -> io::Result<Server> {
        let mut listeners = Vec::new();
        for address in &flags.tcp {
            listeners.push(Listener::Tcp(TcpListener::bind(*address)?));
        }
        for path in &flags.unix {
            let (listener, path) = UnixPath::listen(path)?;
            listeners.push(Listener::Unix(listener, path));
        }
        let acceptors: Vec<_> = listeners.into_iter().map(Acceptor::new).collect();
        for (index, acceptor) in acceptors.iter().enumerate() {
            acceptor.register(event_loop, Token::Listener(index))?;
        }
        let mut datagrams = Vec::new();
        for (index, address) in flags.udp.iter().enumerate() {
            let bound = Datagrams::bind(*address)?;
            event_loop.register(bound.socket(), Token::Datagrams(index))?;
            datagrams.push(bound);
        }
        let (connections, max_clients) = (Slab::new(), flags.max_clients);
        Ok(Server { acceptors, datagrams, connections, max_clients, shed: 0, beyond_limit: 0 })
    }

    /// The addresses served, such as `tcp 127.0.0.1:7007`.
    pub(crate) fn addresses(&self) -> io::Result<Vec<String>> {
        let listeners = self.acceptors.iter().map(|acceptor| match acceptor.get_ref() {
            Listener::Tcp(listener) => Ok(format!("tcp {}", listener.local_addr()?)),
            Listener::Unix(_, path) => Ok(format!("unix {}", path.path().display())),
        });
        let datagrams = self
            .datagrams
            .iter()
            .map(|datagrams| Ok(format!("udp {}", datagrams.socket().local_addr()?)));
        listeners.chain(datagrams).collect()
    }

    fn accept(&mut self, event_loop: &mut Loop, index: usize) {
        for _ in 0..ACCEPTS_PER_CALLBACK {
            match self.acceptors[index].accept(event_loop, Token::Listener(index)) {
                Ok(Some(_)) if self.connections.len() >= self.max_clients => self.beyond_limit += 1,
                Ok(Some(stream)) => self.add_client(event_loop, stream),
                Ok(None) => return,
                Err(error) if error.is_shed() => self.shed += 1,
                Err(error) => eprintln!("echo: {}", with_causes(&error)),
            }
        }
    }

    fn add_client(&mut self, event_loop: &mut Loop, stream: Box<dyn Stream>) {
        let entry = self.connections.vacant_entry();
        match event_loop.register(&*stream, Token::Connection(entry.key())) {
            Ok(()) => {
                entry.insert(Connection::new(stream));
            }
            Err(error) => eprintln!("echo: a client was refused: {}", with_causes(&error)),
        }
    }

    /// Serves a connection once. An error closes this connection alone.
    fn serve(&mut self, event_loop: &mut Loop, key: usize) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        let keep = match connection.serve() {
            Ok(Progress::Wait(interest)) => {
                !connection.set_interest(interest)
                    || reregister(event_loop, connection.stream(), Token::Connection(key), interest)
            }
            Ok(Progress::Done) | Err(_) => false,
        };
        if !keep {
            self.connections.remove(key);
        }
    }

    fn serve_datagrams(&mut self, event_loop: &mut Loop, index: usize) {
        let datagrams = &mut self.datagrams[index];
        let interest = datagrams.serve();
        if datagrams.set_interest(interest) {
            reregister(event_loop, datagrams.socket(), Token::Datagrams(index), interest);
        }
    }
}

fn reregister<S: Source + ?Sized>(
    event_loop: &mut Loop,
    source: &S,
    token: Token,
    interest: Interest,
) -> bool {
    match event_loop.reregister(source, token, interest, Trigger::Level) {
        Ok(()) => true,
        Err(error) => {
            eprintln!("echo: {}", with_causes(&error));
            false
        }
    }
}

impl Handler<Token, ()> for Server {
    fn readable(&mut self, event_loop: &mut Loop, token: Token, _: ReadHint) {
        match token {
            Token::Listener(index) => self.accept(event_loop, index),
            Token::Datagrams(index) => self.serve_datagrams(event_loop, index),
            Token::Connection(key) => self.serve(event_loop, key),
        }
    }

    fn writable(&mut self, event_loop: &mut Loop, token: Token) {
        match token {
            Token::Listener(_) => {}
            Token::Datagrams(index) => self.serve_datagrams(event_loop, index),
            Token::Connection(key) => self.serve(event_loop, key),
        }
    }

    /// A listener's pause ends.
    fn timeout(&mut self, event_loop: &mut Loop, token: Token) {
        let Token::Listener(index) = token else { return };
        self.acceptors[index].resume(event_loop, token);
    }

    fn signal(&mut self, event_loop: &mut Loop, _: SigInfo) {
        event_loop.shutdown();
    }

    /// Reports disconnected clients, in one line per turn.
    fn turn_end(&mut self, _: &mut Loop) {
        match std::mem::take(&mut self.shed) {
            0 => {}
            count => {
                eprintln!("echo: hung up on {count} clients: no descriptor is free (ulimit -n)")
            }
        }
        match std::mem::take(&mut self.beyond_limit) {
            0 => {}
            count => {
                eprintln!(
                    "echo: hung up on {count} clients: {} are here already (--max-clients)",
                    self.max_clients
                )
            }
        }
    }
}
