//! Child processes whose end is a callback.
//!
//! The loop owns a watched [`Child`]: so nobody else can reap it, its process number stays its own
//! until the status is in our hands, and the status is delivered exactly once. It is lent out by
//! handle, for killing and for its pipes, and given back on request.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::process::Child;

use kodiak_sys::ChildExit;

use crate::registration::Standing;
use crate::{EventLoop, Handler, Io, RegisterError, Source};

/// Names a watched child: from [`EventLoop::watch_child`]. Stale once the child's end was told or
/// it was taken back; a stale one never means another child.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct ChildHandle(u64);

/// A child could not be watched. It runs on.
#[derive(Debug, thiserror::Error)]
#[error("cannot watch child process {}: {error}", child.id())]
pub struct WatchChildError {
    /// The child, as it was handed in.
    pub child: Child,
    /// Why.
    #[source]
    pub error: RegisterError,
}

impl From<WatchChildError> for io::Error {
    fn from(error: WatchChildError) -> io::Error {
        error.error.into()
    }
}

/// The loop's children, by the keys of their descriptors.
#[derive(Default)]
pub(crate) struct Children {
    watched: HashMap<u64, Watched>,
}

struct Watched {
    child: Child,
    exit: Io<ChildExit>,
}

impl fmt::Debug for Children {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.watched.values().map(|watched| watched.child.id())).finish()
    }
}

impl<T: Copy, M> EventLoop<T, M> {
    /// Calls [`Handler::child_exit`] with `token` and the status, once, when `child` has ended: in
    /// the next turn if it has already. The loop owns the child until then; take the pipes that you
    /// want (`child.stdout.take()`) beforehand, or reach the child through
    /// [`child_mut`](EventLoop::child_mut).
    ///
    /// It takes no signal (no `SIGCHLD`), reaps no other child, and a child counts as a source. A
    /// child that is still watched when the loop is dropped runs on, as dropping a [`Child`] lets
    /// it.
    ///
    /// ```
    /// use std::process::{Command, ExitStatus};
    /// use kodiak_reactor::{EventLoop, Handler};
    ///
    /// struct Wait(Option<i32>);
    /// impl Handler<(), ()> for Wait {
    ///     fn child_exit(&mut self, event_loop: &mut EventLoop<(), ()>, _: (), status: std::io::Result<ExitStatus>) {
    ///         self.0 = status.ok().and_then(|status| status.code());
    ///         event_loop.shutdown();
    ///     }
    /// }
    ///
    /// let mut event_loop = EventLoop::new()?;
    /// event_loop.watch_child(Command::new("sh").args(["-c", "exit 3"]).spawn()?, ())?;
    /// let mut wait = Wait(None);
    /// event_loop.run(&mut wait)?;
    /// assert_eq!(wait.0, Some(3));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`WatchChildError`] gives the child back: [`RegisterError::TooMany`], or
    /// [`RegisterError::Kernel`] (no descriptors left; Linux before 5.3; another part of the
    /// program has reaped the child).
    pub fn watch_child(
        &mut self,
        mut child: Child,
        token: T,
    ) -> Result<ChildHandle, WatchChildError> {
        let opened = ChildExit::of(&mut child)
            .map_err(|error| RegisterError::Kernel { action: "watch", error });
        let registered = opened.and_then(|exit| {
            let exit = Io::new(exit);
            self.register(&exit, token)?;
            Ok(exit)
        });
        let exit = match registered {
            Ok(exit) => exit,
            Err(error) => return Err(WatchChildError { child, error }),
        };
        let standing = exit.registration().standing(&self.shared);
        let Standing::Here { key } = standing else { unreachable!("it was registered above") };
        if let Some(slot) = self.registry.get_mut(key) {
            slot.make_child();
        }
        self.children.watched.insert(key, Watched { child, exit });
        Ok(ChildHandle(key))
    }

    /// A child that is watched: to kill it, or to use its pipes. Waiting for it here does no harm,
    /// its end is told all the same.
    pub fn child_mut(&mut self, handle: ChildHandle) -> Option<&mut Child> {
        self.children.watched.get_mut(&handle.0).map(|watched| &mut watched.child)
    }

    /// Takes a child back. Its end is then not told; `None` if it was told already.
    pub fn unwatch_child(&mut self, handle: ChildHandle) -> Option<Child> {
        self.forget_child(handle.0).map(|watched| watched.child)
    }

    fn forget_child(&mut self, key: u64) -> Option<Watched> {
        let watched = self.children.watched.remove(&key)?;
        // Not by dropping it: that would leave the key to be found dead in a later turn.
        let _ = self.deregister(&watched.exit);
        Some(watched)
    }

    /// The descriptor of a child says that it has ended.
    pub(crate) fn child_ended<H: Handler<T, M> + ?Sized>(
        &mut self,
        handler: &mut H,
        key: u64,
        token: T,
    ) {
        let Some(watched) = self.children.watched.get_mut(&key) else { return };
        let status = match watched.child.try_wait() {
            Ok(Some(status)) => Ok(status),
            // Not yet, says the kernel: it will report it again.
            Ok(None) => return,
            Err(error) => Err(error),
        };
        self.forget_child(key);
        self.stats.children += 1;
        self.timed(|event_loop| handler.child_exit(event_loop, token, status));
    }
}
