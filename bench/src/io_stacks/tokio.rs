//! tokio's current-thread runtime, with a task for each connection.
//!
//! All tasks share one buffer. A buffer in each task is more usual, and slower and larger.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::net::{TcpListener, UdpSocket};
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncWriteExt, Interest, ReadBuf};
use tokio::net::TcpStream;
use tokio::runtime::{Builder, Runtime};

use super::{BUFFER_BYTES, EVENTS_PER_WAIT, IoStack, PACKETS_PER_EVENT, Turn};
use crate::sys;

pub(crate) struct Tokio;

thread_local! {
    static LOOP_BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; BUFFER_BYTES]);
}

fn runtime() -> io::Result<Runtime> {
    Builder::new_current_thread().enable_io().max_io_events_per_tick(EVENTS_PER_WAIT).build()
}

impl IoStack for Tokio {
    fn name(&self) -> &'static str {
        "tokio"
    }

    fn serve_tcp(&self, listener: TcpListener) -> io::Result<()> {
        runtime()?.block_on(async {
            let listener = tokio::net::TcpListener::from_std(listener)?;
            loop {
                let (mut stream, _) = listener.accept().await?;
                stream.set_nodelay(true)?;
                tokio::spawn(async move { while let Ok(true) = echo(&mut stream).await {} });
            }
        })
    }

    fn serve_udp(&self, socket: UdpSocket) -> io::Result<()> {
        runtime()?.block_on(async {
            let socket = tokio::net::UdpSocket::from_std(socket)?;
            let mut buffer = vec![0; BUFFER_BYTES];
            loop {
                socket.readable().await?;
                for _ in 0..PACKETS_PER_EVENT {
                    let Ok((count, sender)) = socket.try_recv_from(&mut buffer) else { break };
                    let _ = socket.try_send_to(&buffer[..count], sender);
                }
            }
        })
    }

    fn turns(&self, turn: Turn, count: u64) -> Option<io::Result<Duration>> {
        (turn == Turn::Event).then(|| turns(count))
    }
}

/// One read and its answer; `false` at the end of the stream.
async fn echo(stream: &mut TcpStream) -> io::Result<bool> {
    match poll_fn(|context| read_and_write(stream, context)).await? {
        None => Ok(false),
        Some(unsent) if unsent.is_empty() => Ok(true),
        Some(unsent) => {
            stream.write_all(&unsent).await?;
            Ok(true)
        }
    }
}

/// Reads once and writes back at once. Returns the bytes that the kernel did not take.
fn read_and_write(
    stream: &mut TcpStream,
    context: &mut Context<'_>,
) -> Poll<io::Result<Option<Vec<u8>>>> {
    LOOP_BUFFER.with_borrow_mut(|buffer| {
        let mut buffer = ReadBuf::new(buffer);
        ready!(Pin::new(&mut *stream).poll_read(context, &mut buffer))?;
        let bytes = buffer.filled();
        if bytes.is_empty() {
            return Poll::Ready(Ok(None));
        }
        let written = match stream.try_write(bytes) {
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
            Err(error) => return Poll::Ready(Err(error)),
        };
        Poll::Ready(Ok(Some(bytes[written..].to_vec())))
    })
}

fn turns(count: u64) -> io::Result<Duration> {
    runtime()?.block_on(async {
        // SAFETY: an owned descriptor, which stays open until the `AsyncFd` is dropped.
        let eventfd: AsyncFd<OwnedFd> =
            unsafe { AsyncFd::register_with_interest(sys::eventfd()?, Interest::READABLE)? };
        let begun = Instant::now();
        for _ in 0..count {
            sys::add_one(eventfd.get_ref());
            eventfd.readable().await?.clear_ready();
        }
        Ok(begun.elapsed())
    })
}
