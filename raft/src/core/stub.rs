//! Stands in for membership and transfer until they are there.
use super::*;
use crate::types::{ChangeError, MemberChange};
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
/// Stub.
pub enum TransferError {
    /// Stub.
    #[error("not leader")]
    NotLeader {
        /// Stub.
        leader: Option<NodeId>,
    },
}
impl Core {
    /// Stub.
    pub fn change_membership(&mut self, _: Now, _: &[MemberChange]) -> Result<Proposed, ChangeError> {
        Err(ChangeError::TermNotCommitted)
    }
    /// Stub.
    pub fn transfer_leadership(&mut self, _: Now, _: Option<NodeId>) -> Result<(), TransferError> {
        Err(TransferError::NotLeader { leader: None })
    }
}
