//! A listener that rests when it cannot accept.

use std::net::SocketAddr;
use std::os::unix::net::SocketAddr as UnixSocketAddr;
use std::time::Duration;

use kodiak_reactor::{EventLoop, RegisterError, Source, Timeout};

use crate::error::AcceptError;
use crate::{TcpListener, TcpStream, UnixListener, UnixStream};

/// How long a listener rests after accepting has failed.
const REST: Duration = Duration::from_millis(100);

/// What can be accepted from: [`TcpListener`], [`UnixListener`], or a type of your own around one.
pub trait Accept: Source {
    /// A connection, and where it comes from.
    type Accepted;

    /// Accepts the connection that has waited longest; `Ok(None)` when none waits.
    ///
    /// # Errors
    /// As [`TcpListener::accept`].
    fn accept(&self) -> Result<Option<Self::Accepted>, AcceptError>;
}

impl Accept for TcpListener {
    type Accepted = (TcpStream, SocketAddr);

    fn accept(&self) -> Result<Option<Self::Accepted>, AcceptError> {
        TcpListener::accept(self)
    }
}

impl Accept for UnixListener {
    type Accepted = (UnixStream, UnixSocketAddr);

    fn accept(&self) -> Result<Option<Self::Accepted>, AcceptError> {
        UnixListener::accept(self)
    }
}

/// A listener that cannot make the loop spin: when accepting fails for want of descriptors or
/// memory, it leaves the loop for 100 ms, while those who connect wait in the kernel's queue.
///
/// Nobody has to remember the rest: call [`accept`](Acceptor::accept) until it says `Ok(None)`, log
/// what it reports, and hand the token's timeouts to [`resume`](Acceptor::resume). (With a bare
/// listener it is [`AcceptError::Exhausted`] that asks for the same by hand.)
///
/// ```
/// use kodiak_net::{Acceptor, TcpListener, TcpStream};
/// use kodiak_reactor::{EventLoop, Handler, ReadHint};
///
/// struct Server { acceptor: Acceptor<TcpListener>, clients: Vec<TcpStream> }
///
/// impl Handler<(), ()> for Server {
///     fn readable(&mut self, event_loop: &mut EventLoop<(), ()>, token: (), _: ReadHint) {
///         loop {
///             match self.acceptor.accept(event_loop, token) {
///                 Ok(Some((stream, _peer))) => self.clients.push(stream), // and register it
///                 Ok(None) => break,
///                 Err(error) => eprintln!("{error}"),
///             }
///         }
///         event_loop.shutdown();
///     }
///     fn timeout(&mut self, event_loop: &mut EventLoop<(), ()>, token: ()) {
///         self.acceptor.resume(event_loop, token);
///     }
/// }
///
/// let acceptor = Acceptor::new(TcpListener::bind("127.0.0.1:0".parse()?)?);
/// let _client = std::net::TcpStream::connect(acceptor.get_ref().local_addr()?)?;
/// let mut event_loop = EventLoop::new()?;
/// acceptor.register(&mut event_loop, ())?;
/// let mut server = Server { acceptor, clients: Vec::new() };
/// event_loop.run(&mut server)?;
/// assert_eq!(server.clients.len(), 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Acceptor<L> {
    listener: L,
    /// Set while it is out of the loop.
    rest: Option<Timeout>,
}

impl<L: Accept> Acceptor<L> {
    /// Takes over a listener that is in no loop yet.
    pub fn new(listener: L) -> Acceptor<L> {
        Acceptor { listener, rest: None }
    }

    /// The listener.
    pub fn get_ref(&self) -> &L {
        &self.listener
    }

    /// Registers the listener. Its rests will be timeouts with the token that
    /// [`accept`](Acceptor::accept) is given; this one, then.
    ///
    /// # Errors
    /// As [`EventLoop::register`].
    pub fn register<T: Copy, M>(
        &self,
        event_loop: &mut EventLoop<T, M>,
        token: T,
    ) -> Result<(), RegisterError> {
        event_loop.register(&self.listener, token)
    }

    /// As the listener's `accept`; `Ok(None)` while it rests, too. After an error it rests, unless
    /// that was [`AcceptError::Shed`].
    ///
    /// # Errors
    /// As [`TcpListener::accept`]. None of them asks for anything but, perhaps, a line in a log.
    pub fn accept<T: Copy, M>(
        &mut self,
        event_loop: &mut EventLoop<T, M>,
        token: T,
    ) -> Result<Option<L::Accepted>, AcceptError> {
        if self.is_resting() {
            return Ok(None);
        }
        let answer = self.listener.accept();
        if answer.as_ref().is_err_and(|error| !error.is_shed()) {
            self.pause(event_loop, token);
        }
        answer
    }

    /// Ends the rest: call it for every timeout with the listener's token. Whether the listener is
    /// in the loop again; if not, it rests on, and there will be another timeout.
    pub fn resume<T: Copy, M>(&mut self, event_loop: &mut EventLoop<T, M>, token: T) -> bool {
        if self.rest.take().is_none() {
            return true; // a timeout of somebody else's with the same token
        }
        let back = event_loop.register(&self.listener, token).is_ok();
        if !back {
            self.rest = event_loop.timeout(token, REST).ok();
        }
        back
    }

    /// Whether it is out of the loop for now.
    pub fn is_resting(&self) -> bool {
        self.rest.is_some()
    }

    /// Gives the listener back, registered unless it rests.
    pub fn into_inner<T: Copy, M>(self, event_loop: &mut EventLoop<T, M>) -> L {
        if let Some(rest) = self.rest {
            event_loop.clear_timeout(rest);
        }
        self.listener
    }

    /// The timeout first: without one nobody would end the rest, so then there is none.
    fn pause<T: Copy, M>(&mut self, event_loop: &mut EventLoop<T, M>, token: T) {
        let Ok(rest) = event_loop.timeout(token, REST) else { return };
        match event_loop.deregister(&self.listener) {
            Ok(()) => self.rest = Some(rest),
            Err(_) => {
                event_loop.clear_timeout(rest);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kodiak_reactor::{Handler, Io, ReadHint, Registration};
    use std::cell::Cell;
    use std::os::fd::{AsFd, BorrowedFd};
    use std::os::unix::net::UnixStream as StdStream;
    use std::time::Instant;

    /// Always readable, like a listener with a queue; fails as often as it is told to, and then has
    /// one connection.
    struct Broken {
        io: Io<StdStream>,
        failures: Cell<usize>,
        asked: Cell<usize>,
    }

    impl AsFd for Broken {
        fn as_fd(&self) -> BorrowedFd<'_> {
            self.io.as_fd()
        }
    }

    impl Source for Broken {
        fn registration(&self) -> &Registration {
            self.io.registration()
        }
    }

    impl Accept for Broken {
        type Accepted = ();
        fn accept(&self) -> Result<Option<()>, AcceptError> {
            self.asked.set(self.asked.get() + 1);
            match self.failures.get() {
                0 => Ok(Some(())),
                left => {
                    self.failures.set(left - 1);
                    Err(AcceptError::Failed(std::io::ErrorKind::OutOfMemory.into()))
                }
            }
        }
    }

    struct Server {
        acceptor: Acceptor<Broken>,
        errors: usize,
    }

    impl Handler<(), ()> for Server {
        fn readable(&mut self, event_loop: &mut EventLoop<(), ()>, token: (), _: ReadHint) {
            loop {
                match self.acceptor.accept(event_loop, token) {
                    Ok(Some(_)) => return event_loop.shutdown(),
                    Ok(None) => return,
                    Err(_) => self.errors += 1,
                }
            }
        }
        fn timeout(&mut self, event_loop: &mut EventLoop<(), ()>, token: ()) {
            assert!(self.acceptor.resume(event_loop, token));
        }
    }

    fn server(failures: usize) -> (Server, StdStream) {
        let (ours, theirs) = StdStream::pair().unwrap();
        std::io::Write::write_all(&mut &theirs, b"x").unwrap();
        let broken =
            Broken { io: Io::new(ours), failures: Cell::new(failures), asked: Cell::new(0) };
        (Server { acceptor: Acceptor::new(broken), errors: 0 }, theirs)
    }

    #[test]
    fn a_listener_that_fails_rests_and_comes_back() {
        let (mut server, _theirs) = server(2);
        let mut event_loop = EventLoop::new().unwrap();
        server.acceptor.register(&mut event_loop, ()).unwrap();
        let begun = Instant::now();
        event_loop.run(&mut server).unwrap();
        assert!(begun.elapsed() >= REST * 2);
        assert_eq!((server.errors, server.acceptor.get_ref().asked.get()), (2, 3), "no spin");
        assert_eq!(event_loop.source_count(), 1);
    }

    #[test]
    fn while_it_rests_it_is_not_asked_and_taking_it_apart_ends_the_rest() {
        let (mut server, _theirs) = server(9);
        let mut event_loop = EventLoop::new().unwrap();
        server.acceptor.register(&mut event_loop, ()).unwrap();
        event_loop.run_once(&mut server, None).unwrap();
        assert!(server.acceptor.is_resting());
        for _ in 0..10 {
            assert!(matches!(server.acceptor.accept(&mut event_loop, ()), Ok(None)));
            event_loop.run_once(&mut server, Some(Duration::ZERO)).unwrap();
        }
        let listener = server.acceptor.into_inner(&mut event_loop);
        assert_eq!(listener.asked.get(), 1);
        assert_eq!(event_loop.next_timeout(), None);
    }

    #[test]
    fn strangers_timeouts_with_the_same_token_do_nothing() {
        let (mut server, _theirs) = server(0);
        let mut event_loop = EventLoop::<(), ()>::new().unwrap();
        server.acceptor.register(&mut event_loop, ()).unwrap();
        assert!(server.acceptor.resume(&mut event_loop, ()));
        assert_eq!(event_loop.source_count(), 1);
    }
}
