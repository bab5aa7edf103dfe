//! Accepting that survives running out of descriptors.
//!
//! When a process has no free descriptor, `accept` fails but the connection stays in the queue, so
//! a level-triggered listener is readable again at once: the program spins at full speed and serves
//! nobody, while its clients wait in the dark. The old remedy (libev's manual describes it) is to
//! own one descriptor for nothing: give it up, accept with the slot that this frees, close the
//! connection, take the descriptor back. The client learns at once, the queue gets shorter, and the
//! program goes on serving those it has.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::sync::{Mutex, MutexGuard, PoisonError};

use kodiak_sys::is_would_block;
use kodiak_sys::socket::{AcceptFailure, accept_failure, is_out_of_descriptors};

use crate::error::{AcceptError, DescriptorLimit};

/// The system's table of open files is full. The number is the same on every Unix that we know; std
/// has no name for it.
const ENFILE: i32 = 23;

/// A descriptor kept for the moment when there is no other.
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

    /// The same, after a first attempt that has failed.
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

    /// Takes one connection off the queue with the reserve's slot and closes it.
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
        let turned_away = accept_live(accept).map(|(connection, address)| {
            drop(connection);
            peer(&address)
        });
        *slot = spare_descriptor().ok();
        match turned_away {
            Ok(peer) => Err(AcceptError::Shed { peer, limit }),
            // Linux looks for a descriptor before it looks at the queue: there was nobody to turn
            // away.
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

/// Accepts, passing over connections that died in the queue: each failure of that sort takes one
/// off the queue, so the loop ends with it.
fn accept_live<S>(accept: &mut dyn FnMut() -> io::Result<S>) -> io::Result<S> {
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
    fn a_connection_is_shed_and_the_reserve_taken_back() {
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
    fn a_slot_taken_by_another_thread_is_reported_not_retried() {
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
        assert_eq!(calls, 2, "once, and once with the reserve's slot");
    }

    #[test]
    fn connections_that_died_in_the_queue_are_passed_over() {
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
