//! Goes through a snapshot's file piece by piece and checks each.

use std::io;

use super::format::{
    self, BLOCK_PREFIX_BYTES, Header, MAX_BLOCK_BYTES, PREFIX_BYTES, Prefix, TRAILER_BYTES,
};
use crate::storage::{DiskFile, StorageError};

/// What the next piece of the file was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::storage) enum Step {
    /// The header; [`Scanner::header`] has it.
    Header,
    /// A block; [`Scanner::data`] has what it carries.
    Block,
    /// The trailer: the file is whole.
    End,
    /// The piece goes on past what is there so far.
    More,
}

/// Why there is no next piece.
#[derive(Debug)]
pub(in crate::storage) enum Trouble {
    Io(io::Error),
    /// The file is not what was written.
    Damage {
        offset: u64,
        what: String,
    },
    Version(u8),
}

impl Trouble {
    /// The error for a file of this name, which had to be whole.
    pub(in crate::storage) fn of(self, file: &str) -> StorageError {
        match self {
            Trouble::Io(error) => StorageError::io("read", file, &error),
            Trouble::Damage { offset, what } => StorageError::corrupt(file, offset, what),
            Trouble::Version(version) => {
                StorageError::Unsupported { file: file.to_owned(), version, known: format::VERSION }
            }
        }
    }
}

/// Where in a snapshot's file one is. Everything before has been checked.
#[derive(Debug, Default)]
pub(in crate::storage) struct Scanner {
    header: Option<Header>,
    is_complete: bool,
    /// Where the next piece begins.
    position: u64,
    /// The last piece's.
    checksum: u32,
    content_bytes: u64,
    /// The last piece: a block's data lies behind its prefix.
    piece: Vec<u8>,
}

impl Scanner {
    /// The header, once it has been passed.
    pub(in crate::storage) fn header(&self) -> Option<&Header> {
        self.header.as_ref()
    }

    /// What the block passed last carries.
    pub(in crate::storage) fn data(&self) -> &[u8] {
        self.piece.get(BLOCK_PREFIX_BYTES..).unwrap_or(&[])
    }

    /// Whether the trailer has been passed.
    pub(in crate::storage) fn is_complete(&self) -> bool {
        self.is_complete
    }

    /// Where the next piece begins; once complete, the file's length.
    pub(in crate::storage) fn position(&self) -> u64 {
        self.position
    }

    /// Passes the next piece of a file of which the first `available_bytes` are there.
    pub(in crate::storage) fn step(
        &mut self,
        file: &impl DiskFile,
        available_bytes: u64,
    ) -> Result<Step, Trouble> {
        if self.is_complete {
            return if self.position == available_bytes {
                Ok(Step::End)
            } else {
                Err(self.damage("bytes follow the trailer"))
            };
        }
        if self.header.is_none() {
            self.pass_header(file, available_bytes)
        } else {
            self.pass_block(file, available_bytes)
        }
    }

    /// Goes to the end of a file of this length.
    pub(in crate::storage) fn finish(
        &mut self,
        file: &impl DiskFile,
        total_bytes: u64,
    ) -> Result<(), Trouble> {
        loop {
            match self.step(file, total_bytes)? {
                Step::Header | Step::Block => {}
                Step::End if self.position == total_bytes => return Ok(()),
                Step::End => return Err(self.damage("bytes follow the trailer")),
                Step::More => return Err(self.damage("the file ends before its trailer")),
            }
        }
    }

    fn pass_header(&mut self, file: &impl DiskFile, available_bytes: u64) -> Result<Step, Trouble> {
        if !self.load(file, PREFIX_BYTES, available_bytes)? {
            return Ok(Step::More);
        }
        let Some(prefix) = Prefix::get(&self.piece) else {
            return Err(self.damage("no snapshot begins here"));
        };
        if prefix.body_bytes > MAX_BLOCK_BYTES {
            return Err(self.damage("the header claims to be longer than any is"));
        }
        if !self.load(file, PREFIX_BYTES + prefix.body_bytes, available_bytes)? {
            return Ok(Step::More);
        }
        if crc32c::crc32c(&self.piece[4..]) != prefix.checksum {
            return Err(self.damage("the header's checksum does not match its bytes"));
        }
        if !(format::BASE_VERSION..=format::VERSION).contains(&prefix.version) {
            return Err(Trouble::Version(prefix.version));
        }
        if self.piece[13..PREFIX_BYTES] != [0; 3] {
            return Err(self.damage("the header's reserved bytes are not zero"));
        }
        let header = Header::get(&self.piece[PREFIX_BYTES..], prefix.version)
            .map_err(|error| self.damage(&error.to_string()))?;
        self.header = Some(header);
        self.advance(prefix.checksum);
        Ok(Step::Header)
    }

    fn pass_block(&mut self, file: &impl DiskFile, available_bytes: u64) -> Result<Step, Trouble> {
        if !self.load(file, BLOCK_PREFIX_BYTES, available_bytes)? {
            return Ok(Step::More);
        }
        let length = self.number_at(4) as usize;
        if length > MAX_BLOCK_BYTES {
            return Err(self.damage("a block claims to be longer than any is"));
        }
        let piece_bytes = if length == 0 { TRAILER_BYTES } else { BLOCK_PREFIX_BYTES + length };
        if !self.load(file, piece_bytes, available_bytes)? {
            return Ok(Step::More);
        }
        let checksum = self.number_at(0);
        if format::chained(self.checksum, &self.piece[4..]) != checksum {
            return Err(
                self.damage("a block's checksum does not match its bytes and those before it")
            );
        }
        if length > 0 {
            self.content_bytes += length as u64;
            self.advance(checksum);
            return Ok(Step::Block);
        }
        let claimed =
            u64::from_le_bytes(self.piece[8..TRAILER_BYTES].try_into().expect("eight bytes"));
        if claimed != self.content_bytes {
            return Err(self.damage("the trailer counts other bytes than there are"));
        }
        self.is_complete = true;
        self.advance(checksum);
        self.piece.clear();
        Ok(Step::End)
    }

    fn number_at(&self, at: usize) -> u32 {
        u32::from_le_bytes(self.piece[at..at + 4].try_into().expect("four bytes"))
    }

    fn advance(&mut self, checksum: u32) {
        self.checksum = checksum;
        self.position += self.piece.len() as u64;
    }

    /// Makes `piece` the `bytes` that follow, if they are there.
    fn load(
        &mut self,
        file: &impl DiskFile,
        bytes: usize,
        available_bytes: u64,
    ) -> Result<bool, Trouble> {
        if self.position + bytes as u64 > available_bytes {
            return Ok(false);
        }
        self.piece.resize(bytes, 0);
        let read = file.read_at(&mut self.piece, self.position).map_err(Trouble::Io)?;
        if read < bytes {
            Err(self.damage("the file is shorter than it should be"))
        } else {
            Ok(true)
        }
    }

    fn damage(&self, what: &str) -> Trouble {
        Trouble::Damage { offset: self.position, what: what.to_owned() }
    }
}
