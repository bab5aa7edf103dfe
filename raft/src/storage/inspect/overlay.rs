//! A copy of a folder in memory: changes do not reach the files.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use crate::storage::real_disk::RealFile;
use crate::storage::special_file::open_to_read;
use crate::storage::{Disk, DiskFile};

/// A file's content: unchanged, or a changed copy.
#[derive(Debug)]
enum Content {
    Real(PathBuf),
    Changed(Vec<u8>),
}

type Shared = Rc<RefCell<Content>>;

/// A folder whose changes stay in memory.
#[derive(Debug)]
pub(in crate::storage) struct Overlay {
    names: BTreeMap<String, Shared>,
}

impl Overlay {
    /// The folder with files of these names.
    pub(super) fn new(path: &Path, names: &[String]) -> Overlay {
        let shared = |name: &String| Rc::new(RefCell::new(Content::Real(path.join(name))));
        Overlay { names: names.iter().map(|name| (name.clone(), shared(name))).collect() }
    }

    fn find(&self, name: &str) -> io::Result<&Shared> {
        self.names
            .get(name)
            .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "there is no such file"))
    }
}

impl Disk for Overlay {
    type File = OverlayFile;

    fn create(&mut self, name: &str, preallocate_bytes: u64) -> io::Result<OverlayFile> {
        if self.names.contains_key(name) {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, "the file exists already"));
        }
        let bytes = usize::try_from(preallocate_bytes).map_err(io::Error::other)?;
        let content = Rc::new(RefCell::new(Content::Changed(vec![0; bytes])));
        self.names.insert(name.to_owned(), Rc::clone(&content));
        Ok(OverlayFile { content, real: None })
    }

    fn open(&mut self, name: &str) -> io::Result<OverlayFile> {
        let content = Rc::clone(self.find(name)?);
        let real = match &*content.borrow() {
            Content::Real(path) => Some(RealFile::read_only(open_to_read(path)?)),
            Content::Changed(_) => None,
        };
        Ok(OverlayFile { content, real })
    }

    fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        let content = Rc::clone(self.find(from)?);
        self.names.remove(from);
        self.names.insert(to.to_owned(), content);
        Ok(())
    }

    fn remove(&mut self, name: &str) -> io::Result<()> {
        self.find(name)?;
        self.names.remove(name);
        Ok(())
    }

    fn list(&mut self) -> io::Result<Vec<String>> {
        Ok(self.names.keys().cloned().collect())
    }

    fn sync_directory(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A file of an [`Overlay`].
#[derive(Debug)]
pub(in crate::storage) struct OverlayFile {
    content: Shared,
    /// The file itself, until the content is changed.
    real: Option<RealFile>,
}

impl DiskFile for OverlayFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        match (&self.real, &*self.content.borrow()) {
            (_, Content::Changed(bytes)) => {
                let from = bytes.len().min(usize::try_from(offset).map_err(io::Error::other)?);
                let read = buffer.len().min(bytes.len() - from);
                buffer[..read].copy_from_slice(&bytes[from..from + read]);
                Ok(read)
            }
            (Some(real), Content::Real(_)) => real.read_at(buffer, offset),
            (None, Content::Real(_)) => unreachable!("a file is opened with its content"),
        }
    }

    fn write_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()> {
        if let Some(real) = self.real.take() {
            let mut copy = vec![0; usize::try_from(real.len()?).map_err(io::Error::other)?];
            let read = real.read_at(&mut copy, 0)?;
            copy.truncate(read);
            *self.content.borrow_mut() = Content::Changed(copy);
        }
        if let Content::Changed(content) = &mut *self.content.borrow_mut() {
            let from = usize::try_from(offset).map_err(io::Error::other)?;
            if content.len() < from + bytes.len() {
                content.resize(from + bytes.len(), 0);
            }
            content[from..from + bytes.len()].copy_from_slice(bytes);
        }
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        match (&self.real, &*self.content.borrow()) {
            (_, Content::Changed(bytes)) => Ok(bytes.len() as u64),
            (Some(real), Content::Real(_)) => real.len(),
            (None, Content::Real(_)) => unreachable!("a file is opened with its content"),
        }
    }
}
