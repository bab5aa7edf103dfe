//! Reads a snapshot's file part by part, and checks each part.

use std::io;

use super::format::{
    self, BLOCK_PREFIX_BYTES, MAX_BLOCK_BYTES, PREFIX_BYTES, Prefix, SnapshotHeader, TRAILER_BYTES,
};
use crate::storage::{DiskFile, StorageError};

/// A part of a snapshot's file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::storage) enum Part {
    /// The header; [`Scanner::header`] has it.
    Header,
    /// A block; [`Scanner::data`] has what it carries.
    Block,
    /// The trailer: the file is whole.
    Trailer,
    /// A part of which not all bytes are available yet.
    Incomplete,
}

/// Why the next part cannot be read.
#[derive(Debug)]
pub(in crate::storage) enum ScanError {
    Io(io::Error),
    /// The file is not what was written.
    Damaged {
        offset: u64,
        what: String,
    },
    /// The file is in a format that this version does not read.
    UnknownVersion(u8),
}

impl ScanError {
    /// The error for a file of this name.
    pub(in crate::storage) fn into_storage_error(self, file: &str) -> StorageError {
        match self {
            ScanError::Io(error) => StorageError::io("read", file, &error),
            ScanError::Damaged { offset, what } => StorageError::corrupt(file, offset, what),
            ScanError::UnknownVersion(version) => StorageError::Unsupported {
                file: file.to_owned(),
                version,
                newest: format::VERSION,
            },
        }
    }
}

/// Reads a snapshot's file, part by part. Everything before `position` has been checked.
#[derive(Debug, Default)]
pub(in crate::storage) struct Scanner {
    header: Option<SnapshotHeader>,
    is_complete: bool,
    /// Where the next part begins.
    position: u64,
    /// The last part's checksum.
    checksum: u32,
    content_bytes: u64,
    /// The last part. A block's data follows its prefix.
    part: Vec<u8>,
}

impl Scanner {
    /// The header, once it has been read.
    pub(in crate::storage) fn header(&self) -> Option<&SnapshotHeader> {
        self.header.as_ref()
    }

    /// The data of the last block read.
    pub(in crate::storage) fn data(&self) -> &[u8] {
        self.part.get(BLOCK_PREFIX_BYTES..).unwrap_or(&[])
    }

    /// Whether the trailer has been read.
    pub(in crate::storage) fn is_complete(&self) -> bool {
        self.is_complete
    }

    /// Where the next part begins; once complete, the file's length.
    pub(in crate::storage) fn position(&self) -> u64 {
        self.position
    }

    /// Reads the next part of a file of which the first `available_bytes` exist.
    pub(in crate::storage) fn next_part(
        &mut self,
        file: &impl DiskFile,
        available_bytes: u64,
    ) -> Result<Part, ScanError> {
        if self.is_complete {
            return if self.position == available_bytes {
                Ok(Part::Trailer)
            } else {
                Err(self.damage("bytes follow the trailer"))
            };
        }
        if self.header.is_none() {
            self.scan_header(file, available_bytes)
        } else {
            self.scan_block(file, available_bytes)
        }
    }

    /// Reads to the end of a file of this length.
    pub(in crate::storage) fn finish(
        &mut self,
        file: &impl DiskFile,
        total_bytes: u64,
    ) -> Result<(), ScanError> {
        loop {
            match self.next_part(file, total_bytes)? {
                Part::Header | Part::Block => {}
                Part::Trailer if self.position == total_bytes => return Ok(()),
                Part::Trailer => return Err(self.damage("bytes follow the trailer")),
                Part::Incomplete => return Err(self.damage("the file ends before its trailer")),
            }
        }
    }

    fn scan_header(
        &mut self,
        file: &impl DiskFile,
        available_bytes: u64,
    ) -> Result<Part, ScanError> {
        if !self.load(file, PREFIX_BYTES, available_bytes)? {
            return Ok(Part::Incomplete);
        }
        let Some(prefix) = Prefix::get(&self.part) else {
            return Err(self.damage("no snapshot begins here"));
        };
        if prefix.body_bytes > MAX_BLOCK_BYTES {
            return Err(self.damage("the header claims more than the longest possible length"));
        }
        if !self.load(file, PREFIX_BYTES + prefix.body_bytes, available_bytes)? {
            return Ok(Part::Incomplete);
        }
        if crc32c::crc32c(&self.part[4..]) != prefix.checksum {
            return Err(self.damage("the header's checksum does not match its bytes"));
        }
        if !(format::BASE_VERSION..=format::VERSION).contains(&prefix.version) {
            return Err(ScanError::UnknownVersion(prefix.version));
        }
        if self.part[13..PREFIX_BYTES] != [0; 3] {
            return Err(self.damage("the header's reserved bytes are not zero"));
        }
        let header = SnapshotHeader::get(&self.part[PREFIX_BYTES..], prefix.version)
            .map_err(|error| self.damage(&error.to_string()))?;
        self.header = Some(header);
        self.advance(prefix.checksum);
        Ok(Part::Header)
    }

    fn scan_block(
        &mut self,
        file: &impl DiskFile,
        available_bytes: u64,
    ) -> Result<Part, ScanError> {
        if !self.load(file, BLOCK_PREFIX_BYTES, available_bytes)? {
            return Ok(Part::Incomplete);
        }
        let length = self.number_at(4) as usize;
        if length > MAX_BLOCK_BYTES {
            return Err(self.damage("a block claims more than the longest possible length"));
        }
        let part_bytes = if length == 0 { TRAILER_BYTES } else { BLOCK_PREFIX_BYTES + length };
        if !self.load(file, part_bytes, available_bytes)? {
            return Ok(Part::Incomplete);
        }
        let checksum = self.number_at(0);
        if format::chained(self.checksum, &self.part[4..]) != checksum {
            return Err(
                self.damage("a block's checksum does not match its bytes and those before it")
            );
        }
        if length > 0 {
            self.content_bytes += length as u64;
            self.advance(checksum);
            return Ok(Part::Block);
        }
        let claimed =
            u64::from_le_bytes(self.part[8..TRAILER_BYTES].try_into().expect("eight bytes"));
        if claimed != self.content_bytes {
            return Err(self.damage("the trailer's count of bytes is not that of the blocks"));
        }
        self.is_complete = true;
        self.advance(checksum);
        self.part.clear();
        Ok(Part::Trailer)
    }

    fn number_at(&self, at: usize) -> u32 {
        u32::from_le_bytes(self.part[at..at + 4].try_into().expect("four bytes"))
    }

    fn advance(&mut self, checksum: u32) {
        self.checksum = checksum;
        self.position += self.part.len() as u64;
    }

    /// Reads the next `bytes` into `part`. Returns whether they exist.
    fn load(
        &mut self,
        file: &impl DiskFile,
        bytes: usize,
        available_bytes: u64,
    ) -> Result<bool, ScanError> {
        if self.position + bytes as u64 > available_bytes {
            return Ok(false);
        }
        self.part.resize(bytes, 0);
        let read = file.read_at(&mut self.part, self.position).map_err(ScanError::Io)?;
        if read < bytes {
            Err(self.damage("the file is shorter than it should be"))
        } else {
            Ok(true)
        }
    }

    fn damage(&self, what: &str) -> ScanError {
        ScanError::Damaged { offset: self.position, what: what.to_owned() }
    }
}
