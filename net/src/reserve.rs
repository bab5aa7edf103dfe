//! A reserve descriptor, to accept and close a connection when no other descriptor is free.
//!
//! When a process has no free descriptor, `accept` fails but the connection stays in the queue. A
//! level-triggered listener is then readable again at once, so the program spins and its clients
//! wait without an answer. The usual remedy (described in libev's manual) is a reserve descriptor:
//! close it, accept with the freed descriptor, close the connection, open the reserve again. The
//! client learns at once that it was refused, the queue gets shorter, and the program continues to
//! serve the connections that it has.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::sync::{Mutex, MutexGuard, PoisonError};

use kodiak_sys::is_would_block;
use kodiak_sys::socket::{AcceptFailure, accept_failure, is_out_of_descriptors};

use crate::error::{AcceptError, DescriptorLimit};

/// The system's table of open files is full. The number is the same on every supported Unix; std
/// has no name for it.
const ENFILE: i32 = 23;

/// A descriptor to close when no other is free.
///
/// It is an unbound Unix socket: unlike `/dev/null` it can be opened inside a chroot, and unlike a
/// duplicate of the listener it also counts against the *system's* limit, so that giving it up
/// helps there too.
#[derive(Debug)]
pub(crate) struct Reserve {
    slot: Mutex<Option<OwnedFd>>,
}

impl Reserve {
    /// Opens the descriptor.
    pub(crate) fn new() -> io::Result<Reserve> {
        Ok(Reserve { slot: Mutex::new(Some(spare_descriptor()?)) })
    }

    /// Accepts one connection with `accept`; `Ok(None)` when none waits.
    #[inline]
    pub(crate) fn accept<S, A>(
        &self,
        mut accept: impl FnMut() -> io::Result<(S, A)>,
        peer: impl FnOnce(&A) -> Option<SocketAddr>,
    ) -> Result<Option<(S, A)>, AcceptError> {
        match accept() {
            Ok(accepted) => Ok(Some(accepted)),
            Err(error) if is_would_block(&error) => Ok(None),
            Err(error) => self.accept_after(error, &mut accept, peer),
        }
    }

    /// As [`accept`](Reserve::accept), after a first attempt that failed with `error`.
    #[cold]
    fn accept_after<S, A>(
        &self,
        mut error: io::Error,
        accept: &mut dyn FnMut() -> io::Result<(S, A)>,
        peer: impl FnOnce(&A) -> Option<SocketAddr>,
    ) -> Result<Option<(S, A)>, AcceptError> {
        while accept_failure(&error) == AcceptFailure::Connection {
            match accept() {
                Ok(accepted) => return Ok(Some(accepted)),
                Err(next) => error = next,
            }
        }
        if is_would_block(&error) {
            return Ok(None);
        }
        match descriptor_limit(&error) {
            Some(limit) => self.shed(accept, peer, limit, error),
            None => Err(AcceptError::Failed(error)),
        }
    }

    /// Accepts one connection with the reserve's descriptor and closes it.
    fn shed<S, A>(
        &self,
        accept: &mut dyn FnMut() -> io::Result<(S, A)>,
        peer: impl FnOnce(&A) -> Option<SocketAddr>,
        limit: DescriptorLimit,
        cause: io::Error,
    ) -> Result<Option<(S, A)>, AcceptError> {
        let mut slot = self.slot();
        // The reserve may be missing since an earlier shortage, which may have passed.
        let Some(reserve) = slot.take().or_else(|| spare_descriptor().ok()) else {
            return Err(AcceptError::Exhausted { limit, source: cause });
        };
        drop(reserve);
        let shed = accept_skipping_reset(accept).map(|(connection, address)| {
            drop(connection);
            peer(&address)
        });
        *slot = spare_descriptor().ok();
        match shed {
            Ok(peer) => Err(AcceptError::Shed { peer, limit }),
            // Linux looks for a descriptor before it looks at the queue, which was empty.
            Err(error) if is_would_block(&error) => Ok(None),
            Err(error) => match descriptor_limit(&error) {
                Some(limit) => Err(AcceptError::Exhausted { limit, source: error }),
                None => Err(AcceptError::Failed(error)),
            },
        }
    }

    fn slot(&self) -> MutexGuard<'_, Option<OwnedFd>> {
        // Nothing panics while the lock is held, and an `Option` cannot be half-written.
        self.slot.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Accepts, skipping connections that were reset in the queue. Each such failure removes one from
/// the queue, so the loop ends.
fn accept_skipping_reset<S>(accept: &mut dyn FnMut() -> io::Result<S>) -> io::Result<S> {
    loop {
        match accept() {
            Err(error) if accept_failure(&error) == AcceptFailure::Connection => {}
            outcome => return outcome,
        }
    }
}

fn spare_descriptor() -> io::Result<OwnedFd> {
    UnixDatagram::unbound().map(OwnedFd::from)
}

fn descriptor_limit(error: &io::Error) -> Option<DescriptorLimit> {
    match error.raw_os_error() {
        _ if !is_out_of_descriptors(error) => None,
        Some(ENFILE) => Some(DescriptorLimit::System),
        _ => Some(DescriptorLimit::Process),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EMFILE: i32 = 24;
    const ECONNABORTED: i32 =
        if cfg!(any(target_os = "linux", target_os = "android")) { 103 } else { 53 };
    const EINTR: i32 = 4;

    fn failing(code: i32) -> io::Result<((), ())> {
        Err(io::Error::from_raw_os_error(code))
    }

    #[test]
    fn a_connection_is_shed_and_the_reserve_reopened() {
        let reserve = Reserve::new().unwrap();
        let mut calls = 0;
        let outcome = reserve.accept(
            || {
                calls += 1;
                if calls == 1 { failing(EMFILE) } else { Ok(((), ())) }
            },
            |()| None,
        );
        assert!(matches!(
            outcome,
            Err(AcceptError::Shed { limit: DescriptorLimit::Process, peer: None })
        ));
        assert!(reserve.slot().is_some());
    }

    #[test]
    fn an_empty_queue_under_a_full_table_is_not_an_error() {
        let reserve = Reserve::new().unwrap();
        let mut answers =
            [Err(io::Error::from_raw_os_error(ENFILE)), Err(io::ErrorKind::WouldBlock.into())]
                .into_iter();
        let outcome = reserve.accept(|| answers.next().unwrap().map(|(): ()| ((), ())), |()| None);
        assert!(matches!(outcome, Ok(None)));
        assert!(reserve.slot().is_some());
    }

    #[test]
    fn a_reserve_taken_by_another_thread_is_not_retried() {
        let reserve = Reserve::new().unwrap();
        let mut calls = 0;
        let outcome = reserve.accept(
            || {
                calls += 1;
                failing(EMFILE)
            },
            |()| None,
        );
        assert!(matches!(
            outcome,
            Err(AcceptError::Exhausted { limit: DescriptorLimit::Process, .. })
        ));
        assert_eq!(calls, 2, "once, and once with the reserve's descriptor");
    }

    #[test]
    fn connections_reset_in_the_queue_are_skipped() {
        let reserve = Reserve::new().unwrap();
        let mut answers = [
            Err(io::Error::from_raw_os_error(ECONNABORTED)),
            Err(io::Error::from_raw_os_error(EINTR)),
            Ok((7, ())),
            Err(io::ErrorKind::InvalidInput.into()),
        ]
        .into_iter();
        let mut accept = || answers.next().unwrap();
        assert!(matches!(reserve.accept(&mut accept, |()| None), Ok(Some((7, ())))));
        assert!(matches!(reserve.accept(&mut accept, |()| None), Err(AcceptError::Failed(_))));
    }
}
