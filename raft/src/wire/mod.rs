//! stub
#![allow(missing_docs, clippy::todo)]
use crate::replica::PeerMessage;
use crate::types::*;
use bytes::*;
pub const HELLO_METADATA_BYTES_MAX: usize = 1024;
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    pub cluster: ClusterId,
    pub group: GroupId,
    pub node: NodeId,
    pub disk: DiskId,
    pub incarnation: u64,
    pub metadata: Bytes,
}
#[derive(Debug)]
pub struct WireError;
impl std::fmt::Display for WireError {
    fn fmt(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        Ok(())
    }
}
pub fn encode(_: &PeerMessage, _: &mut BytesMut) {}
pub fn encode_hello(_: &Hello, _: &mut BytesMut) {}
pub fn decode_hello(_: &mut BytesMut) -> Result<Option<Hello>, WireError> {
    todo!()
}
pub fn decode(_: &mut BytesMut) -> Result<Option<PeerMessage>, WireError> {
    todo!()
}
