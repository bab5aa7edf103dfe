//! Reads the state machine's snapshot on a thread of its own.
//!
//! The reader is the user's code. However long it takes, no write of the log waits for it.
//!
//! ```text
//!  raft-snapshot   read ... read ... read ...        the user's reader, at most PIECES ahead
//!                    | piece, wake      | end, wake
//!  raft-storage    writes, piece, writes, writes ... the log first, then one piece
//! ```
//!
//! A reader that does not return keeps its thread, and no other snapshot is taken until it does.
//! The node can stop all the same.

use std::{
    io::{self, Read},
    sync::mpsc::{SyncSender, sync_channel},
    thread::Builder,
};

use crate::storage::{SNAPSHOT_PIECE_BYTES, SnapshotSource};

/// Pieces that may wait for the storage thread.
const PIECES: usize = 2;

/// A source whose bytes a thread reads from `source`, with a call of `wake` after each piece.
///
/// If no thread can be started, reading fails, and with it the snapshot.
pub(super) fn read_ahead(
    source: SnapshotSource,
    wake: impl Fn() + Send + 'static,
) -> SnapshotSource {
    let (sender, pieces) = sync_channel(PIECES);
    let failure = sender.clone();
    let thread = Builder::new().name("raft-snapshot".to_owned());
    if let Err(error) = thread.spawn(move || read(source, &sender, wake)) {
        // There is room: no other sender exists.
        let _ = failure.try_send(Err(error));
    }
    SnapshotSource::from_pieces(pieces)
}

fn read(mut source: SnapshotSource, pieces: &SyncSender<io::Result<Vec<u8>>>, wake: impl Fn()) {
    loop {
        let mut piece = Vec::new();
        let read = (&mut source).take(SNAPSHOT_PIECE_BYTES as u64).read_to_end(&mut piece);
        let is_last = read.as_ref().is_ok_and(|&bytes| bytes == 0) || read.is_err();
        // The snapshot may have been abandoned.
        if pieces.send(read.map(|_| piece)).is_err() {
            return;
        }
        wake();
        if is_last {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    #[test]
    fn what_is_read_ahead_is_what_the_reader_gives() {
        let bytes: Vec<u8> = (0..SNAPSHOT_PIECE_BYTES * 3 + 5).map(|at| (at % 251) as u8).collect();
        let (woken, wakes) = channel();
        let source = SnapshotSource::new(io::Cursor::new(bytes.clone()));
        let mut ahead = read_ahead(source, move || woken.send(()).unwrap_or_default());
        let mut found = Vec::new();
        ahead.read_to_end(&mut found).unwrap();
        assert_eq!(found, bytes);
        assert_eq!(wakes.iter().count(), 5, "four pieces and the end");
    }
}
