//! [`Connecting`]: a stream that is not connected yet.

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd};

use kodiak_reactor::{Registration, Source};
use kodiak_sys::socket::{ConnectProgress, connect_progress};

use crate::error::{Address, ConnectError};

/// A stream that is being connected.
///
/// Made by [`TcpStream::connect`](crate::TcpStream::connect) and
/// [`UnixStream::connect`](crate::UnixStream::connect). Register it for *writable*; when the
/// handler is called (in `writable`, or in `readable` with an error hint), ask
/// [`finish`](Connecting::finish). Until then the stream is out of reach, so that no program reads,
/// writes or sets options on a stream that is not connected.
///
/// The registration stays with the socket: the stream that `finish` returns is still registered as
/// the `Connecting` was, with the same loop, token and interest. So the next step is `reregister`,
/// with what the program now waits for, not `register`. Dropping a `Connecting` cancels the
/// attempt.
///
/// ```
/// use kodiak_net::{Connecting, Finish, TcpListener, TcpStream};
/// use kodiak_reactor::{EventLoop, Handler, Interest, Trigger};
///
/// struct Client {
///     connecting: Option<Connecting<TcpStream>>,
///     stream: Option<TcpStream>,
/// }
///
/// impl Handler<(), ()> for Client {
///     fn writable(&mut self, event_loop: &mut EventLoop<(), ()>, token: ()) {
///         let Some(connecting) = self.connecting.take() else { return };
///         match connecting.finish() {
///             Ok(Finish::Connected(stream)) => {
///                 event_loop
///                     .reregister(&stream, token, Interest::READABLE, Trigger::Level)
///                     .expect("it is registered");
///                 self.stream = Some(stream);
///                 event_loop.shutdown();
///             }
///             Ok(Finish::InProgress(connecting)) => self.connecting = Some(connecting),
///             Err(error) => panic!("{error}"), // "connecting to 127.0.0.1:80 failed"
///         }
///     }
/// }
///
/// let listener = TcpListener::bind("127.0.0.1:0".parse()?)?;
/// let connecting = TcpStream::connect(listener.local_addr()?)?;
/// let mut event_loop = EventLoop::new()?;
/// event_loop.register_opt(&connecting, (), Interest::WRITABLE, Trigger::Level)?;
/// let mut client = Client { connecting: Some(connecting), stream: None };
/// event_loop.run(&mut client)?;
/// assert_eq!(client.stream.expect("it connected").peer_addr()?, listener.local_addr()?);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "dropping it cancels the connection"]
pub struct Connecting<S> {
    stream: S,
    address: Address,
}

/// The state of a connection attempt that has not failed, from [`Connecting::finish`].
#[derive(Debug)]
#[must_use = "a connection in progress is cancelled when dropped"]
pub enum Finish<S> {
    /// The connection is established.
    Connected(S),
    /// Not connected yet, and not failed: wait for writable again.
    InProgress(Connecting<S>),
}

impl<S: Source> Connecting<S> {
    pub(crate) fn new(stream: S, address: Address) -> Connecting<S> {
        Connecting { stream, address }
    }

    /// The address of the peer.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Returns the stream if it is connected. Never blocks, and may be called at any time.
    ///
    /// # Errors
    /// [`ConnectError`] if the attempt has failed; the socket is then closed and out of its loop.
    pub fn finish(self) -> Result<Finish<S>, ConnectError> {
        match connect_progress(self.stream.as_fd()) {
            Ok(ConnectProgress::Connected) => Ok(Finish::Connected(self.stream)),
            Ok(ConnectProgress::InProgress) => Ok(Finish::InProgress(self)),
            Err(source) => Err(ConnectError { address: self.address, source }),
        }
    }
}

impl<S: AsFd> AsFd for Connecting<S> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

impl<S: Source> Source for Connecting<S> {
    fn registration(&self) -> &Registration {
        self.stream.registration()
    }
}

impl<S> fmt::Debug for Connecting<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connecting")
            .field("address", &format_args!("{}", self.address))
            .finish_non_exhaustive()
    }
}
