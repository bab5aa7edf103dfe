//! Events of a node for its user: leadership, membership, failures.
//!
//! Events go into a queue, not to a callback: a callback would run on the node's loop, and a slow
//! one would delay heartbeats and cost the node its leadership. The queue is bounded. When it is
//! full the oldest event is dropped and counted, so the last event always shows the present state,
//! and the loop never waits.

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
    replica::{ReplicaEvent, UnappliedLogFull},
    types::{Configuration, Index, NodeId, Term},
};

/// An event of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NodeEvent {
    /// The node's role, its term, or the leader that it follows has changed.
    LeaderChanged {
        /// The leader that it follows, or itself if it leads; `None` while it knows no leader.
        leader: Option<NodeId>,
        /// Its term.
        term: Term,
        /// Its own role.
        role: Role,
    },
    /// A configuration has come into force. While it is not committed, another such event may
    /// replace it.
    MembershipChanged {
        /// The entry that holds it; 0 for the one that bootstrapped the cluster.
        index: Index,
        /// The members.
        configuration: Configuration,
    },
    /// A snapshot from the leader has replaced this node's log and state.
    SnapshotInstalled {
        /// The last index that it includes.
        index: Index,
    },
    /// The node's state differs from that of a majority of the voters. It stops answering and does
    /// not lead.
    StateDiverged {
        /// The entry after which the states were compared.
        index: Index,
    },
    /// The node was removed from the cluster. It takes part in nothing from now on.
    Removed,
    /// The state machine has failed, and the log that it cannot apply exceeds its limit. The node
    /// takes part in nothing until it is started again.
    UnappliedLogFull(UnappliedLogFull),
    /// The leader's state machine lags behind by more than `Config::backlog_bytes` for longer than
    /// `Config::backlog_timeout`.
    Backlogged {
        /// Bytes of the log that are committed and not applied.
        backlog_bytes: usize,
        /// The voter that becomes leader, if one lags less.
        to: Option<NodeId>,
    },
    /// The leader's state machine has been restoring or replaying for longer than
    /// `Config::backlog_timeout`. Meanwhile it answers nothing.
    LeaderLoading {
        /// The voter that becomes leader, if one is known to answer.
        to: Option<NodeId>,
    },
    /// The node's log has failed. The node takes part in nothing until it is started again.
    StorageFailed {
        /// The disk's error.
        reason: String,
    },
}

/// The events of a node, in order. See [`Handle::subscribe`](super::Handle::subscribe).
///
/// The iterator waits for each event, and ends when the node has stopped.
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
    /// A panic cannot leave the queue half changed, so a poisoned lock is ignored.
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the queue, then wakes its reader. A waker is the user's code, so it runs without the
    /// lock.
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
        // Without a representable deadline the wait has no end.
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

    /// Number of events that were dropped because they were not read in time, oldest first.
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

/// The node's side of the subscribers' queues. Its drop closes them.
#[derive(Default)]
pub(super) struct Subscribers(Vec<Weak<Shared>>);

impl Subscribers {
    /// Adds a queue that begins with the present leadership and membership.
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

    /// Publishes an event of the replica, if it is one for users.
    pub(super) fn publish_event(&mut self, event: &ReplicaEvent, core: &Core) {
        if self.0.is_empty() {
            return;
        }
        match event {
            &ReplicaEvent::Core(core::Event::LeadershipChanged { leader, term, role }) => {
                self.publish(&NodeEvent::LeaderChanged { leader, term, role });
            }
            ReplicaEvent::Core(core::Event::MembershipChanged { .. }) => {
                self.publish(&membership(core))
            }
            &ReplicaEvent::Core(core::Event::SnapshotInstalled { index }) => {
                self.publish(&NodeEvent::SnapshotInstalled { index });
            }
            &ReplicaEvent::Core(core::Event::StateDiverged(divergence)) => {
                self.publish(&NodeEvent::StateDiverged { index: divergence.digest.index });
            }
            &ReplicaEvent::Core(core::Event::Backlogged { backlog_bytes, to }) => {
                self.publish(&NodeEvent::Backlogged { backlog_bytes, to });
            }
            &ReplicaEvent::Core(core::Event::LeaderLoading { to }) => {
                self.publish(&NodeEvent::LeaderLoading { to })
            }
            ReplicaEvent::UnappliedLogFull(full) => {
                self.publish(&NodeEvent::UnappliedLogFull(full.clone()))
            }
            ReplicaEvent::StorageFailed { reason } => {
                self.publish(&NodeEvent::StorageFailed { reason: reason.clone() });
            }
            _ => {}
        }
    }

    /// Adds an event to every queue, and forgets queues whose reader is gone.
    pub(super) fn publish(&mut self, event: &NodeEvent) {
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

/// The configuration in force, as an event.
fn membership(core: &Core) -> NodeEvent {
    let configuration = core.configuration().clone();
    NodeEvent::MembershipChanged { index: core.configuration_index(), configuration }
}
