//! What happens to a node, for its user: leadership, membership, the end of its part.
//!
//! A queue, not a callback: a callback would run on the node's loop, and a slow one would delay
//! heartbeats and cost the node its leadership. The queue is bounded. When it is full the oldest
//! event goes and is counted, so that what is read last is always what holds now; the loop never
//! waits.

use std::{
    collections::VecDeque,
    fmt,
    future::poll_fn,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak},
    task::{Poll, Waker},
    time::{Duration, Instant},
};

use crate::{
    core::{self, Core, Role},
    replica::{Event, UnappliedLogFull},
    types::{Configuration, Index, NodeId, Term},
};

/// Something that has happened to a node.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NodeEvent {
    /// The node's role, its term, or the leader that it follows has changed.
    LeaderChanged {
        /// Whom it follows, or itself if it leads; `None` while it knows no leader.
        leader: Option<NodeId>,
        /// Its term.
        term: Term,
        /// Its own role.
        role: Role,
    },
    /// A configuration has come into force. One that is not committed may be taken back, by another
    /// of these events.
    MembershipChanged {
        /// The entry that brought it; 0 for the one that bootstrapped the cluster.
        index: Index,
        /// The members.
        configuration: Configuration,
    },
    /// A snapshot of the leader's has taken the place of this node's log and state.
    SnapshotInstalled {
        /// The last index that it includes.
        index: Index,
    },
    /// The node's state is not that of a majority of the voters: it answers nothing more and does
    /// not lead.
    StateDiverged {
        /// The entry after which the states were compared.
        index: Index,
    },
    /// The node was removed from the cluster. It takes part in nothing more.
    Removed,
    /// The state machine has failed, and the log that it cannot apply exceeds its quota. The node
    /// takes part in nothing more until it is started again.
    UnappliedLogFull(UnappliedLogFull),
    /// The leader's state machine lags behind by more than `Config::backlog_bytes` for longer than
    /// `Config::backlog_timeout`.
    Backlogged {
        /// What is committed and not applied, in bytes.
        backlog_bytes: usize,
        /// The voter that leadership goes to, if one is less behind.
        to: Option<NodeId>,
    },
    /// The leader's state machine has been restoring or replaying for longer than
    /// `Config::backlog_timeout`, and answers nothing meanwhile.
    LeaderLoading {
        /// The voter that leadership goes to, if one is known to answer.
        to: Option<NodeId>,
    },
    /// The node's log has failed. It takes part in nothing more until it is started again.
    StorageFailed {
        /// What the disk said.
        reason: String,
    },
}

/// The events of a node, in their order. See [`Handle::subscribe`](super::Handle::subscribe).
///
/// As an iterator it waits for each event and ends when the node has stopped.
pub struct Events {
    shared: Arc<Shared>,
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let queue = self.shared.lock();
        f.debug_struct("Events")
            .field("waiting", &queue.events.len())
            .field("dropped", &queue.dropped)
            .field("is_closed", &queue.is_closed)
            .finish_non_exhaustive()
    }
}

struct Shared {
    queue: Mutex<Queue>,
    changed: Condvar,
}

struct Queue {
    events: VecDeque<NodeEvent>,
    capacity: usize,
    dropped: u64,
    is_closed: bool,
    waker: Option<Waker>,
}

impl Shared {
    /// Nothing that holds the lock can leave the queue in disorder.
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the queue, then wakes its reader, with the lock free: a waker is user's code.
    fn change(&self, change: impl FnOnce(&mut Queue)) {
        let waker = {
            let mut queue = self.lock();
            change(&mut queue);
            queue.waker.take()
        };
        self.changed.notify_all();
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl Events {
    /// The next event; waits for it. `None` when the node has stopped and all were read.
    pub fn recv(&mut self) -> Option<NodeEvent> {
        let mut queue = self.shared.lock();
        loop {
            if let Some(event) = queue.events.pop_front() {
                return Some(event);
            }
            if queue.is_closed {
                return None;
            }
            queue = self.shared.changed.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// The next event, if one comes within this time.
    pub fn recv_timeout(&mut self, timeout: Duration) -> Option<NodeEvent> {
        // Longer than time can say is without end.
        let Some(deadline) = Instant::now().checked_add(timeout) else { return self.recv() };
        let mut queue = self.shared.lock();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match queue.events.pop_front() {
                Some(event) => return Some(event),
                None if queue.is_closed || left.is_zero() => return None,
                None => {}
            }
            let waited = self.shared.changed.wait_timeout(queue, left);
            queue = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// The next event, if there is one now.
    pub fn try_recv(&mut self) -> Option<NodeEvent> {
        self.shared.lock().events.pop_front()
    }

    /// The next event, for any executor. `None` when the node has stopped and all were read.
    pub async fn recv_async(&mut self) -> Option<NodeEvent> {
        poll_fn(|context| {
            let mut queue = self.shared.lock();
            match queue.events.pop_front() {
                Some(event) => Poll::Ready(Some(event)),
                None if queue.is_closed => Poll::Ready(None),
                None => {
                    queue.waker = Some(context.waker().clone());
                    Poll::Pending
                }
            }
        })
        .await
    }

    /// Number of events that were dropped because nobody read them in time. The oldest go first.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.shared.lock().dropped
    }

    /// Whether the node has stopped. Events may still be there to be read.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.shared.lock().is_closed
    }
}

impl Iterator for Events {
    type Item = NodeEvent;

    fn next(&mut self) -> Option<NodeEvent> {
        self.recv()
    }
}

/// The node's end of its users' queues. Dropped with the node, it closes them.
#[derive(Default)]
pub(super) struct Subscribers(Vec<Weak<Shared>>);

impl Subscribers {
    /// A queue for at most `capacity` events, at least one, that begins with what holds now.
    pub(super) fn add(&mut self, capacity: usize, core: &Core) -> Events {
        let status = core.status();
        let (leader, term, role) = (status.leader, status.term, status.role);
        let leadership = NodeEvent::LeaderChanged { leader, term, role };
        let events = VecDeque::from([leadership, membership(core)]);
        let capacity = capacity.max(events.len());
        let queue = Queue { events, capacity, dropped: 0, is_closed: false, waker: None };
        let shared = Arc::new(Shared { queue: Mutex::new(queue), changed: Condvar::new() });
        self.0.push(Arc::downgrade(&shared));
        Events { shared }
    }

    /// The replica has said this.
    pub(super) fn hear(&mut self, event: &Event, core: &Core) {
        if self.0.is_empty() {
            return;
        }
        match event {
            &Event::Core(core::Event::Changed { leader, term, role }) => {
                self.tell(&NodeEvent::LeaderChanged { leader, term, role });
            }
            Event::Core(core::Event::Membership { .. }) => self.tell(&membership(core)),
            &Event::Core(core::Event::Installed { index }) => {
                self.tell(&NodeEvent::SnapshotInstalled { index });
            }
            &Event::Core(core::Event::StateDiverged(divergence)) => {
                self.tell(&NodeEvent::StateDiverged { index: divergence.digest.index });
            }
            &Event::Core(core::Event::Backlogged { backlog_bytes, to }) => {
                self.tell(&NodeEvent::Backlogged { backlog_bytes, to });
            }
            &Event::Core(core::Event::LeaderLoading { to }) => {
                self.tell(&NodeEvent::LeaderLoading { to })
            }
            Event::UnappliedLogFull(full) => self.tell(&NodeEvent::UnappliedLogFull(full.clone())),
            Event::StorageFailed { reason } => {
                self.tell(&NodeEvent::StorageFailed { reason: reason.clone() });
            }
            _ => {}
        }
    }

    /// Tells all that are still there.
    pub(super) fn tell(&mut self, event: &NodeEvent) {
        self.0.retain(|subscriber| {
            let Some(shared) = subscriber.upgrade() else { return false };
            shared.change(|queue| {
                if queue.events.len() >= queue.capacity {
                    queue.events.pop_front();
                    queue.dropped += 1;
                }
                queue.events.push_back(event.clone());
            });
            true
        });
    }
}

impl Drop for Subscribers {
    fn drop(&mut self) {
        for shared in self.0.drain(..).filter_map(|subscriber| subscriber.upgrade()) {
            shared.change(|queue| queue.is_closed = true);
        }
    }
}

/// The configuration in force.
fn membership(core: &Core) -> NodeEvent {
    let configuration = core.configuration().clone();
    NodeEvent::MembershipChanged { index: core.configuration_index(), configuration }
}
