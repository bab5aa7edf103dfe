//! The words that every room of this crate shares: identities, time, entries, configurations,
//! messages.
//!
//! Nothing here decides anything. Names are those of the Raft dissertation (Ongaro, 2014).

mod change;
mod configuration;
mod entries;
mod entry;
mod id;
mod life;
mod message;
mod snapshot;
mod terms;
mod time;
mod version;

pub(crate) use change::ask_leader;
pub use change::{ChangeError, MemberChange};
pub use configuration::{ADDRESS_BYTES_MAX, Configuration, MEMBERS_MAX, Member};
pub(crate) use entries::Run;
pub use entries::{Entries, Iter as EntriesIter};
pub use entry::{Entry, HardState, Payload, Proposal, Saved, SessionCommand, Write};
pub use id::{ClusterId, DiskId, GroupId, Identity, Index, NodeId, SessionId, Term};
pub use life::{Digest, Divergence, Life, LogPosition, PeerRecord};
pub use message::{Append, Body, Echo, FollowerReport, Message};
pub use snapshot::{Chunk, SnapshotMeta};
pub use terms::TermTable;
pub use time::{Now, Stamp, Time};
pub use version::FeatureLevel;
