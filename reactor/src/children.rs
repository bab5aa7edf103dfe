//! Child processes whose end is a callback.
//!
//! The loop owns a watched [`Child`]. So no other code can reap it, its process number stays valid
//! until the loop has the status, and the status is delivered exactly once. The program reaches the
//! child through a handle, to kill it or to use its pipes, and can take it back.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::process::Child;

use kodiak_sys::ChildExit;

use crate::registration::Ownership;
use crate::{EventLoop, Handler, Io, RegisterError, Source};

/// A handle to a watched child, from [`EventLoop::watch_child`].
///
/// It is stale once the child's end was delivered or the child was taken back. A stale handle never
/// refers to another child.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct ChildHandle(u64);

/// A child could not be watched. It runs on.
#[derive(Debug, thiserror::Error)]
#[error("cannot watch child process {}", child.id())]
#[non_exhaustive]
pub struct WatchChildError {
    /// The child, as it was handed in.
    pub child: Child,
    /// The reason.
    pub source: RegisterError,
}

impl From<WatchChildError> for io::Error {
    fn from(error: WatchChildError) -> io::Error {
        error.source.into()
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
    /// It uses no signal (no `SIGCHLD`) and reaps no other child. A child counts as a source. A
    /// child that is still watched when the loop is dropped keeps running, as when a [`Child`] is
    /// dropped.
    ///
    /// ```
    /// use std::io;
    /// use std::process::{Command, ExitStatus};
    /// use kodiak_reactor::{EventLoop, Handler};
    ///
    /// type Loop = EventLoop<(), ()>;
    ///
    /// struct Wait(Option<i32>);
    /// impl Handler<(), ()> for Wait {
    ///     fn child_exit(&mut self, event_loop: &mut Loop, _: (), status: io::Result<ExitStatus>) {
    ///         self.0 = status.ok().and_then(|status| status.code());
    ///         event_loop.shutdown();
    ///     }
    /// }
    ///
    /// let mut event_loop = Loop::new()?;
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
            .map_err(|source| RegisterError::Kernel { action: "watch", source });
        let registered = opened.and_then(|exit| {
            let exit = Io::new(exit);
            self.register(&exit, token)?;
            Ok(exit)
        });
        let exit = match registered {
            Ok(exit) => exit,
            Err(source) => return Err(WatchChildError { child, source }),
        };
        let ownership = exit.registration().ownership(&self.shared);
        let Ownership::This { key } = ownership else { unreachable!("it was registered above") };
        if let Some(slot) = self.registry.get_mut(key) {
            slot.set_child();
        }
        self.children.watched.insert(key, Watched { child, exit });
        Ok(ChildHandle(key))
    }

    /// A watched child, to kill it or to use its pipes. Its end is delivered even if it is waited
    /// for here.
    pub fn child_mut(&mut self, handle: ChildHandle) -> Option<&mut Child> {
        self.children.watched.get_mut(&handle.0).map(|watched| &mut watched.child)
    }

    /// Takes a child back; its end is then not delivered. `None` if it was delivered already.
    pub fn unwatch_child(&mut self, handle: ChildHandle) -> Option<Child> {
        self.remove_child(handle.0).map(|watched| watched.child)
    }

    fn remove_child(&mut self, key: u64) -> Option<Watched> {
        let watched = self.children.watched.remove(&key)?;
        // Dropping it would put its key on the drop list for a later turn.
        let _ = self.deregister(&watched.exit);
        Some(watched)
    }

    /// Delivers the end of a child whose descriptor became readable.
    pub(crate) fn deliver_child_exit<H: Handler<T, M> + ?Sized>(
        &mut self,
        handler: &mut H,
        key: u64,
        token: T,
    ) {
        let Some(watched) = self.children.watched.get_mut(&key) else { return };
        let status = match watched.child.try_wait() {
            Ok(Some(status)) => Ok(status),
            // Not ended yet: the kernel reports it again.
            Ok(None) => return,
            Err(error) => Err(error),
        };
        self.remove_child(key);
        self.stats.children += 1;
        self.timed(|event_loop| handler.child_exit(event_loop, token, status));
    }
}
