//! What cores say to each other.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Chunk, Digest, Entries, Index, NodeId, SnapshotMeta, Stamp, Term};

/// A message from one core to another.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Message {
    /// The sender.
    pub from: NodeId,
    /// The receiver.
    pub to: NodeId,
    /// The sender's term; in `RequestPreVote` the term it would campaign in.
    pub term: Term,
    /// What it says.
    pub body: Body,
}

/// What a message says.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Body {
    /// "Would you vote for me?" (§9.6). Changes nothing at the receiver.
    RequestPreVote {
        /// The candidate's last index.
        last_index: Index,
        /// The candidate's last term.
        last_term: Term,
    },
    /// Answers `RequestPreVote`. The message's term is the receiver's own, so that a candidate left
    /// behind catches up; `campaign_term` is the term that was asked for.
    PreVote {
        /// The term that was asked for.
        campaign_term: Term,
        /// Whether the receiver would vote for the candidate.
        granted: bool,
    },
    /// "Vote for me" (§3.4).
    RequestVote {
        /// The candidate's last index.
        last_index: Index,
        /// The candidate's last term.
        last_term: Term,
        /// Whether the leader has asked for this campaign: then its followers need not protect it
        /// (§4.2.3).
        is_transfer: bool,
    },
    /// Answers `RequestVote`.
    Vote {
        /// Whether the receiver has voted for the candidate, durably.
        granted: bool,
    },
    /// Replicates entries; without any, a heartbeat (§3.5).
    AppendEntries(Append),
    /// Answers `AppendEntries`: the receiver's log equals the leader's up to `matched`, durably.
    Appended {
        /// Up to here.
        matched: Index,
        /// The round answered, and what else the leader must know of the sender.
        report: FollowerReport,
    },
    /// Answers `AppendEntries` whose previous entry the receiver lacks.
    Rejected {
        /// The previous index of the message answered.
        previous_index: Index,
        /// Where the leader should look next: the greatest index at which the two logs can still
        /// agree, as far as the receiver can tell.
        hint_index: Index,
        /// The receiver's term at `hint_index`.
        hint_term: Term,
        /// As in `Appended`.
        report: FollowerReport,
    },
    /// A piece of a snapshot, for a follower whose next entry the leader no longer holds
    /// (§5). Without data it only asks how far the receiver is.
    InstallSnapshot {
        /// What the snapshot stands for. Boxed because it is rare, and a message would otherwise be
        /// three times as large.
        meta: Box<SnapshotMeta>,
        /// The piece.
        chunk: Chunk,
        /// What the answer repeats.
        echo: Echo,
    },
    /// Answers `InstallSnapshot`, until the snapshot is installed: then `Appended` does.
    SnapshotProgress {
        /// The snapshot's index.
        index: Index,
        /// What the receiver has of the snapshot's file, from its beginning on, in bytes: the next
        /// piece begins here.
        received_bytes: u64,
        /// As in `Appended`, with the latest round that the receiver has seen.
        report: FollowerReport,
    },
    /// The leader hands over: "campaign now, you lack nothing" (§3.10).
    TimeoutNow,
    /// A follower asks for the index that a read must wait for (§6.4).
    RequestReadIndex {
        /// The follower's number for this request, unique in its life.
        request: u64,
        /// Whether the leader's lease is enough. Otherwise, or if it has ended, a majority is
        /// asked.
        may_lease: bool,
    },
    /// Answers `RequestReadIndex`.
    ReadIndex {
        /// The request's number.
        request: u64,
        /// The index to wait for; `None` if the receiver cannot say because it does not lead.
        index: Option<Index>,
    },
    /// The leader has proof that the receiver's disk forgot what it had acknowledged: it must not
    /// vote until a configuration after `last_index` has made it a learner.
    Forgot {
        /// The leader's last index.
        last_index: Index,
    },
    /// Answers entries that contradict what the sender knows to be committed: acknowledged data was
    /// lost elsewhere.
    CommittedConflict {
        /// The first entry that contradicts.
        index: Index,
        /// Its term in the sender's log.
        log_term: Term,
    },
    /// The sender's digest of its state after an entry.
    StateDigest(Digest),
    /// The digests of all members after one entry, as far as the leader has them, from the leader.
    StateDigests(Box<BTreeMap<NodeId, Digest>>),
}

/// The fields of `AppendEntries` (figure 3.1).
///
/// ```
/// use kodiak_raft::types::{Append, Echo, Index, Term};
///
/// let heartbeat = Append::after(Index(7), Term(2)).commit(Index(5)).echo(Echo::of_round(3));
/// assert!(heartbeat.entries.is_empty());
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub struct Append {
    /// The index just before `entries`.
    pub previous_index: Index,
    /// Its term.
    pub previous_term: Term,
    /// The entries, consecutive.
    pub entries: Entries,
    /// The leader's commit index.
    pub commit: Index,
    /// What the answer repeats.
    pub echo: Echo,
}

impl Append {
    /// A message without entries, with commit index 0 and of no round.
    #[must_use]
    pub fn after(previous_index: Index, previous_term: Term) -> Append {
        Append { previous_index, previous_term, ..Append::default() }
    }

    /// Sets the entries.
    #[must_use]
    pub fn entries(self, entries: impl Into<Entries>) -> Append {
        Append { entries: entries.into(), ..self }
    }

    /// Sets the leader's commit index.
    #[must_use]
    pub fn commit(self, commit: Index) -> Append {
        Append { commit, ..self }
    }

    /// Sets what the answer repeats.
    #[must_use]
    pub fn echo(self, echo: Echo) -> Append {
        Append { echo, ..self }
    }
}

impl From<Append> for Body {
    fn from(append: Append) -> Body {
        Body::AppendEntries(append)
    }
}

/// What a leader's message asks its receiver to answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct Echo {
    /// The leader's latest round. [`FollowerReport::round`] repeats it, so that the leader knows
    /// which of its messages a follower had while it still followed (ReadIndex, check-quorum).
    pub round: u64,
    /// Whether the answer is to contain a promise. Only leaders with leases ask for one.
    pub wants_promise: bool,
}

impl Echo {
    /// Of this round, without a promise.
    #[must_use]
    pub const fn of_round(round: u64) -> Echo {
        Echo { round, wants_promise: false }
    }

    /// The same, with a promise.
    #[must_use]
    pub const fn with_promise(self) -> Echo {
        Echo { wants_promise: true, ..self }
    }
}

/// What a follower reports about itself with each answer. What an older version does not report is
/// absent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct FollowerReport {
    /// The round answered; 0 for none.
    pub round: u64,
    /// How long the sender votes for no other candidate, counted from the arrival of that round.
    /// Leases rest on it.
    pub promise: Duration,
    /// The sender's wall clock, which steers log time.
    pub wall: Option<Stamp>,
    /// What the sender's state machine has applied.
    pub applied: Option<Index>,
    /// The number of the last durable frame of the sender's log.
    pub durable_sequence: Option<u64>,
    /// Whether the sender's disk has forgotten what it had acknowledged, and a fence has not been
    /// passed yet.
    pub has_forgotten: bool,
}
