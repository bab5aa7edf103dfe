//! Futures of a node's answers, for any executor: they need only the standard library.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, Waker},
};

use bytes::Bytes;

use super::{
    CallError, Handle, HandleError, Status,
    handle::{Call, answer_of},
};
use crate::{
    replica::{AdminRequest, Answer, Request},
    types::{MemberChange, NodeId},
};

/// The result, shared by the node and the future.
struct Slot<T> {
    result: Option<Result<T, CallError>>,
    waker: Option<Waker>,
}

/// A future of the node's answer. It needs no runtime, and no thread waits for it.
///
/// The request is already sent, whether the future is polled or not. Dropping the future does not
/// take the request back: a command may be applied all the same. If the node stops before it
/// answers, the future ends with [`CallError::StoppedMeanwhile`].
#[must_use = "without an await the answer is lost"]
pub struct Reply<T = Answer> {
    slot: Arc<Mutex<Slot<T>>>,
}

impl<T> fmt::Debug for Reply<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_ready = lock(&self.slot).result.is_some();
        f.debug_struct("Reply").field("is_ready", &is_ready).finish_non_exhaustive()
    }
}

impl<T: Clone> Future for Reply<T> {
    type Output = Result<T, CallError>;

    /// A ready future stays ready: polled again, it returns the same result.
    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<T, CallError>> {
        let mut slot = lock(&self.slot);
        if let Some(result) = &slot.result {
            return Poll::Ready(result.clone());
        }
        match &mut slot.waker {
            Some(waker) => waker.clone_from(context.waker()),
            none => *none = Some(context.waker().clone()),
        }
        Poll::Pending
    }
}

impl<T> Reply<T> {
    /// A future of a call that did not reach the node.
    fn failed(error: HandleError) -> Reply<T> {
        let result = Some(Err(CallError::NotSent(error)));
        Reply { slot: Arc::new(Mutex::new(Slot { result, waker: None })) }
    }
}

/// Sends the answer to its future, once. Dropped before that, it reports that the node has stopped.
pub(super) struct ReplySender<T> {
    slot: Arc<Mutex<Slot<T>>>,
}

impl<T> ReplySender<T> {
    /// A sender and its future.
    pub(super) fn new() -> (ReplySender<T>, Reply<T>) {
        let slot = Arc::new(Mutex::new(Slot { result: None, waker: None }));
        (ReplySender { slot: Arc::clone(&slot) }, Reply { slot })
    }

    pub(super) fn send(self, result: Result<T, CallError>) {
        set_result(&self.slot, result);
    }
}

impl<T> Drop for ReplySender<T> {
    fn drop(&mut self) {
        set_result(&self.slot, Err(CallError::StoppedMeanwhile));
    }
}

/// Sets the result if there is none, and wakes the future. A waker is the user's code, so it runs
/// without the lock.
fn set_result<T>(slot: &Mutex<Slot<T>>, result: Result<T, CallError>) {
    let waker = {
        let mut slot = lock(slot);
        slot.result.get_or_insert(result);
        slot.waker.take()
    };
    if let Some(waker) = waker {
        waker.wake();
    }
}

/// A panic cannot leave a slot half written, so a poisoned lock is ignored.
fn lock<T>(slot: &Mutex<Slot<T>>) -> std::sync::MutexGuard<'_, Slot<T>> {
    slot.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Asks a node with futures, from any thread and any executor. Cheap to clone.
///
/// Each call sends its request at once and returns a [`Reply`].
///
/// ```
/// # use std::{future::Future, pin::pin, sync::Arc, task::{Context, Poll, Wake, Waker}, thread};
/// # struct Unpark(thread::Thread);
/// # impl Wake for Unpark {
/// #     fn wake(self: Arc<Self>) {
/// #         self.0.unpark();
/// #     }
/// # }
/// # fn block_on<F: Future>(future: F) -> F::Output {
/// #     let waker = Waker::from(Arc::new(Unpark(thread::current())));
/// #     let mut future = pin!(future);
/// #     loop {
/// #         match future.as_mut().poll(&mut Context::from_waker(&waker)) {
/// #             Poll::Ready(output) => return output,
/// #             Poll::Pending => thread::park(),
/// #         }
/// #     }
/// # }
/// use kodiak_raft::node::{AsyncHandle, CallError};
///
/// async fn deposit(node: &AsyncHandle) -> Result<(), CallError> {
///     let written = node.write("10").await?;
///     let read = node.read("").await?;
///     assert!(read.index >= written.index);
///     Ok(())
/// }
/// ```
#[derive(Clone, Debug)]
pub struct AsyncHandle {
    handle: Handle,
}

impl AsyncHandle {
    pub(super) fn new(handle: Handle) -> AsyncHandle {
        AsyncHandle { handle }
    }

    /// See [`Handle::write`].
    pub fn write(&self, command: impl Into<Bytes>) -> Reply {
        self.request(Request::Write(command.into()))
    }

    /// See [`Handle::read`].
    pub fn read(&self, query: impl Into<Bytes>) -> Reply {
        self.request(Request::Read(query.into()))
    }

    /// See [`Handle::lease_read`].
    pub fn lease_read(&self, query: impl Into<Bytes>) -> Reply {
        self.request(Request::LeaseRead(query.into()))
    }

    /// See [`Handle::stale_read`].
    pub fn stale_read(&self, query: impl Into<Bytes>) -> Reply {
        self.request(Request::StaleRead(query.into()))
    }

    /// See [`Handle::take_snapshot`]; the answer has the snapshot's index.
    pub fn take_snapshot(&self) -> Reply {
        self.request(Request::Snapshot)
    }

    /// See [`Handle::change_membership`]; the answer has the index of the configuration.
    pub fn change_membership(&self, changes: impl Into<Vec<MemberChange>>) -> Reply {
        self.request(Request::Admin(AdminRequest::ChangeMembership(changes.into())))
    }

    /// See [`Handle::transfer_leadership`].
    pub fn transfer_leadership(&self, to: Option<NodeId>) -> Reply {
        self.request(Request::Admin(AdminRequest::TransferLeadership(to)))
    }

    /// Sends any request. [`Request::OpenSession`] has no answer and ends in
    /// [`CallError::SessionOpened`]; for sessions use [`Handle::open_session`].
    pub fn request(&self, request: Request) -> Reply {
        let (sender, reply) = ReplySender::new();
        let sent = self.handle.submit(request, move |outcome| sender.send(answer_of(outcome)));
        sent.map_or_else(Reply::failed, |()| reply)
    }

    /// See [`Handle::status`].
    pub fn status(&self) -> Reply<Status> {
        let (sender, reply) = ReplySender::new();
        let reply_with = Box::new(move |status| sender.send(Ok(status)));
        self.handle.send(Call::Status(reply_with)).map_or_else(Reply::failed, |()| reply)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        pin::pin,
        sync::atomic::{AtomicUsize, Ordering},
        task::Wake,
        thread,
    };

    use super::*;

    /// Counts wakes, and unparks the thread that it was made on.
    struct Counting {
        wakes: AtomicUsize,
        thread: thread::Thread,
    }

    impl Wake for Counting {
        fn wake(self: Arc<Self>) {
            self.wakes.fetch_add(1, Ordering::SeqCst);
            self.thread.unpark();
        }
    }

    fn counting() -> Arc<Counting> {
        Arc::new(Counting { wakes: AtomicUsize::new(0), thread: thread::current() })
    }

    fn block_on<F: Future>(future: F) -> F::Output {
        let waker = Waker::from(counting());
        let mut future = pin!(future);
        loop {
            match future.as_mut().poll(&mut Context::from_waker(&waker)) {
                Poll::Ready(output) => return output,
                Poll::Pending => thread::park(),
            }
        }
    }

    #[test]
    fn a_reply_wakes_its_last_task_once() {
        let (sender, mut reply) = ReplySender::<u32>::new();
        let (first, last) = (counting(), counting());
        for task in [&first, &last] {
            let waker = Waker::from(Arc::clone(task));
            assert!(Pin::new(&mut reply).poll(&mut Context::from_waker(&waker)).is_pending());
        }
        sender.send(Ok(7));
        assert_eq!((first.wakes.load(Ordering::SeqCst), last.wakes.load(Ordering::SeqCst)), (0, 1));
        assert_eq!(block_on(&mut reply), Ok(7));
        assert_eq!(block_on(&mut reply), Ok(7), "and stays ready");
    }

    #[test]
    fn a_reply_from_another_thread_arrives() {
        let (sender, reply) = ReplySender::<u32>::new();
        let other = thread::spawn(move || sender.send(Ok(7)));
        assert_eq!(block_on(reply), Ok(7));
        other.join().unwrap();
    }

    #[test]
    fn a_sender_that_is_dropped_is_an_error() {
        let (sender, reply) = ReplySender::<u32>::new();
        drop(sender);
        assert_eq!(block_on(reply), Err(CallError::StoppedMeanwhile));
        let (sender, reply) = ReplySender::<u32>::new();
        drop(reply);
        sender.send(Ok(1));
    }
}
