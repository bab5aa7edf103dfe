//! Asking a node with futures: for any executor, since they rest on the standard library alone.

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
    replica::{Admin, Answer, Request},
    types::{MemberChange, NodeId},
};

/// What the node fills in and the future takes.
struct Slot<T> {
    result: Option<Result<T, CallError>>,
    waker: Option<Waker>,
}

/// An answer of the node, as a future. It needs no runtime, and no thread waits for it.
///
/// Every future ends: with [`CallError::StoppedMeanwhile`] if the node stops before it answers.
/// The request was sent when the future was made, whether it is polled or not. To drop it means not
/// to look at the answer; a command may be applied all the same.
#[must_use = "the answer is lost if nobody awaits it"]
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

    /// Once it is ready it stays so: polled again, it gives the same.
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
    /// The call did not reach the node.
    fn failed(error: HandleError) -> Reply<T> {
        let result = Some(Err(CallError::NotSent(error)));
        Reply { slot: Arc::new(Mutex::new(Slot { result, waker: None })) }
    }
}

/// Fills in an answer, once. Dropped before that, it says that the node has stopped.
pub(super) struct Promise<T> {
    slot: Arc<Mutex<Slot<T>>>,
}

impl<T> Promise<T> {
    /// An answer that is still open, and its future.
    pub(super) fn new() -> (Promise<T>, Reply<T>) {
        let slot = Arc::new(Mutex::new(Slot { result: None, waker: None }));
        (Promise { slot: Arc::clone(&slot) }, Reply { slot })
    }

    pub(super) fn fulfil(self, result: Result<T, CallError>) {
        fill(&self.slot, result);
    }
}

impl<T> Drop for Promise<T> {
    fn drop(&mut self) {
        fill(&self.slot, Err(CallError::StoppedMeanwhile));
    }
}

/// The first result counts. Its waker runs user's code, so the lock is free by then.
fn fill<T>(slot: &Mutex<Slot<T>>, result: Result<T, CallError>) {
    let waker = {
        let mut slot = lock(slot);
        slot.result.get_or_insert(result);
        slot.waker.take()
    };
    if let Some(waker) = waker {
        waker.wake();
    }
}

/// Nothing that holds the lock can leave a slot half filled.
fn lock<T>(slot: &Mutex<Slot<T>>) -> std::sync::MutexGuard<'_, Slot<T>> {
    slot.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Asks a node with futures, from any thread and any executor. Cheap to clone.
///
/// Each call sends its request at once and gives a [`Reply`].
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

    /// See [`Handle::take_snapshot`]; the answer has the index that it stands for.
    pub fn take_snapshot(&self) -> Reply {
        self.request(Request::Snapshot)
    }

    /// See [`Handle::change_membership`]; the answer has the index of the configuration.
    pub fn change_membership(&self, changes: impl Into<Vec<MemberChange>>) -> Reply {
        self.request(Request::Admin(Admin::Change(changes.into())))
    }

    /// See [`Handle::transfer_leadership`].
    pub fn transfer_leadership(&self, to: Option<NodeId>) -> Reply {
        self.request(Request::Admin(Admin::Transfer(to)))
    }

    /// Asks for anything. A session that [`Request::OpenSession`] opens has no answer:
    /// [`CallError::SessionOpened`]. For sessions there is [`Handle::open_session`].
    pub fn request(&self, request: Request) -> Reply {
        let (promise, reply) = Promise::new();
        let sent = self.handle.submit(request, move |outcome| promise.fulfil(answer_of(outcome)));
        sent.map_or_else(Reply::failed, |()| reply)
    }

    /// See [`Handle::status`].
    pub fn status(&self) -> Reply<Status> {
        let (promise, reply) = Promise::new();
        let tell = Box::new(move |status| promise.fulfil(Ok(status)));
        self.handle.send(Call::Status(tell)).map_or_else(Reply::failed, |()| reply)
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
        let (promise, mut reply) = Promise::<u32>::new();
        let (first, last) = (counting(), counting());
        for task in [&first, &last] {
            let waker = Waker::from(Arc::clone(task));
            assert!(Pin::new(&mut reply).poll(&mut Context::from_waker(&waker)).is_pending());
        }
        promise.fulfil(Ok(7));
        assert_eq!((first.wakes.load(Ordering::SeqCst), last.wakes.load(Ordering::SeqCst)), (0, 1));
        assert_eq!(block_on(&mut reply), Ok(7));
        assert_eq!(block_on(&mut reply), Ok(7), "and stays ready");
    }

    #[test]
    fn a_reply_from_another_thread_arrives() {
        let (promise, reply) = Promise::<u32>::new();
        let other = thread::spawn(move || promise.fulfil(Ok(7)));
        assert_eq!(block_on(reply), Ok(7));
        other.join().unwrap();
    }

    #[test]
    fn a_promise_that_is_dropped_is_an_error() {
        let (promise, reply) = Promise::<u32>::new();
        drop(promise);
        assert_eq!(block_on(reply), Err(CallError::StoppedMeanwhile));
        let (promise, reply) = Promise::<u32>::new();
        drop(reply);
        promise.fulfil(Ok(1));
    }
}
