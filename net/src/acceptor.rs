//! A listener that pauses when it cannot accept.

use std::net::SocketAddr;
use std::os::unix::net::SocketAddr as UnixSocketAddr;
use std::time::Duration;

use kodiak_reactor::{EventLoop, RegisterError, Source, Timeout};

use crate::error::AcceptError;
use crate::{TcpListener, TcpStream, UnixListener, UnixStream};

/// How long a listener pauses after accepting has failed.
const PAUSE: Duration = Duration::from_millis(100);

/// What can be accepted from: [`TcpListener`], [`UnixListener`], or a type of your own around one.
pub trait Accept: Source {
    /// A connection, and where it comes from.
    type Accepted;

    /// Accepts the oldest waiting connection; `Ok(None)` when none waits.
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

/// A listener that pauses when it cannot accept, so that it never makes the loop spin.
///
/// When accepting fails for lack of descriptors or memory, the listener leaves the loop for 100 ms,
/// while new connections wait in the kernel's queue. Call [`accept`](Acceptor::accept) until it
/// returns `Ok(None)`, log its errors, and pass the token's timeouts to
/// [`resume`](Acceptor::resume). With a bare listener the program must pause by hand, see
/// [`AcceptError::Exhausted`].
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
///                 Err(error) => eprintln!("{error:?}"), // with its cause
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
    /// The timeout that ends the pause; set while the listener is out of the loop.
    pause_timeout: Option<Timeout>,
}

impl<L: Accept> Acceptor<L> {
    /// Wraps a listener that is in no loop yet.
    pub fn new(listener: L) -> Acceptor<L> {
        Acceptor { listener, pause_timeout: None }
    }

    /// The listener.
    pub fn get_ref(&self) -> &L {
        &self.listener
    }

    /// Registers the listener. A pause is a timeout with the token that
    /// [`accept`](Acceptor::accept) is given, which should be the same one.
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

    /// As the listener's `accept`, and `Ok(None)` while the listener is paused. After an error
    /// other than [`AcceptError::Shed`] the listener pauses.
    ///
    /// # Errors
    /// As [`TcpListener::accept`]. The caller need only log them.
    pub fn accept<T: Copy, M>(
        &mut self,
        event_loop: &mut EventLoop<T, M>,
        token: T,
    ) -> Result<Option<L::Accepted>, AcceptError> {
        if self.is_paused() {
            return Ok(None);
        }
        let answer = self.listener.accept();
        if answer.as_ref().is_err_and(|error| !error.is_shed()) {
            self.pause(event_loop, token);
        }
        answer
    }

    /// Ends the pause: call it for every timeout with the listener's token. Returns whether the
    /// listener is in the loop again; if not, the pause is extended by another timeout.
    pub fn resume<T: Copy, M>(&mut self, event_loop: &mut EventLoop<T, M>, token: T) -> bool {
        if self.pause_timeout.take().is_none() {
            return true; // another timeout with the same token
        }
        let registered = event_loop.register(&self.listener, token).is_ok();
        if !registered {
            self.pause_timeout = event_loop.timeout(token, PAUSE).ok();
        }
        registered
    }

    /// Whether it is out of the loop, until a timeout.
    pub fn is_paused(&self) -> bool {
        self.pause_timeout.is_some()
    }

    /// Returns the listener, registered unless it is paused.
    pub fn into_inner<T: Copy, M>(self, event_loop: &mut EventLoop<T, M>) -> L {
        if let Some(pause_timeout) = self.pause_timeout {
            event_loop.clear_timeout(pause_timeout);
        }
        self.listener
    }

    /// Leaves the loop until a timeout. Sets the timeout first: without it the pause would not end.
    fn pause<T: Copy, M>(&mut self, event_loop: &mut EventLoop<T, M>, token: T) {
        let Ok(pause_timeout) = event_loop.timeout(token, PAUSE) else { return };
        match event_loop.deregister(&self.listener) {
            Ok(()) => self.pause_timeout = Some(pause_timeout),
            Err(_) => {
                event_loop.clear_timeout(pause_timeout);
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

    /// Always readable, like a listener with a queue. Fails `failures` times, then accepts one
    /// connection.
    struct FailingListener {
        io: Io<StdStream>,
        failures: Cell<usize>,
        asked: Cell<usize>,
    }

    impl AsFd for FailingListener {
        fn as_fd(&self) -> BorrowedFd<'_> {
            self.io.as_fd()
        }
    }

    impl Source for FailingListener {
        fn registration(&self) -> &Registration {
            self.io.registration()
        }
    }

    impl Accept for FailingListener {
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
        acceptor: Acceptor<FailingListener>,
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
        let listener = FailingListener {
            io: Io::new(ours),
            failures: Cell::new(failures),
            asked: Cell::new(0),
        };
        (Server { acceptor: Acceptor::new(listener), errors: 0 }, theirs)
    }

    #[test]
    fn a_listener_that_fails_pauses_and_resumes() {
        let (mut server, _theirs) = server(2);
        let mut event_loop = EventLoop::new().unwrap();
        server.acceptor.register(&mut event_loop, ()).unwrap();
        let begun = Instant::now();
        event_loop.run(&mut server).unwrap();
        assert!(begun.elapsed() >= PAUSE * 2);
        assert_eq!((server.errors, server.acceptor.get_ref().asked.get()), (2, 3), "no spin");
        assert_eq!(event_loop.source_count(), 1);
    }

    #[test]
    fn a_paused_listener_is_not_asked_and_into_inner_ends_the_pause() {
        let (mut server, _theirs) = server(9);
        let mut event_loop = EventLoop::new().unwrap();
        server.acceptor.register(&mut event_loop, ()).unwrap();
        event_loop.run_once(&mut server, None).unwrap();
        assert!(server.acceptor.is_paused());
        for _ in 0..10 {
            assert!(matches!(server.acceptor.accept(&mut event_loop, ()), Ok(None)));
            event_loop.run_once(&mut server, Some(Duration::ZERO)).unwrap();
        }
        let listener = server.acceptor.into_inner(&mut event_loop);
        assert_eq!(listener.asked.get(), 1);
        assert_eq!(event_loop.next_timeout(), None);
    }

    #[test]
    fn other_timeouts_with_the_same_token_do_nothing() {
        let (mut server, _theirs) = server(0);
        let mut event_loop = EventLoop::<(), ()>::new().unwrap();
        server.acceptor.register(&mut event_loop, ()).unwrap();
        assert!(server.acceptor.resume(&mut event_loop, ()));
        assert_eq!(event_loop.source_count(), 1);
    }
}
