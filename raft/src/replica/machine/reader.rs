//! The reader of a state machine's snapshot: user's code, called on any thread.

use std::fmt;
use std::io::{self, Read};
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::error_chain::error_chain;
use crate::panic_message::panic_message;

/// A state machine's reader, whose panics become errors and whose errors name it.
pub(in crate::replica) struct MachineReader {
    /// `None` once it has failed: a panic may leave it in an inconsistent state.
    reader: Option<Box<dyn Read + Send>>,
}

impl MachineReader {
    pub(in crate::replica) fn new(reader: Box<dyn Read + Send>) -> MachineReader {
        MachineReader { reader: Some(reader) }
    }
}

impl Read for MachineReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(reader) = &mut self.reader else {
            return Err(io::Error::other("the state machine's snapshot failed before"));
        };
        let length = buffer.len();
        let error = match catch_unwind(AssertUnwindSafe(|| reader.read(buffer))) {
            Ok(Ok(read)) if read <= length => return Ok(read),
            Ok(Ok(read)) => io::Error::other(format!(
                "the reader of the state machine's snapshot claims that it put {read} bytes into \
                 a buffer of {length}"
            )),
            Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => return Err(error),
            Ok(Err(error)) => {
                let cause = error_chain(&error);
                io::Error::new(error.kind(), format!("the state machine's reader failed: {cause}"))
            }
            Err(panic) => io::Error::other(format!(
                "the state machine panicked while its snapshot was read: {}",
                panic_message(&*panic)
            )),
        };
        self.discard();
        Err(error)
    }
}

impl MachineReader {
    /// Drops the reader; its destructor is user's code and may panic, too.
    fn discard(&mut self) {
        if let Some(reader) = self.reader.take() {
            let _ = catch_unwind(AssertUnwindSafe(|| drop(reader)));
        }
    }
}

impl Drop for MachineReader {
    fn drop(&mut self) {
        self.discard();
    }
}

impl fmt::Debug for MachineReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MachineReader").field("has_failed", &self.reader.is_none()).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::panic::resume_unwind;

    use super::*;

    struct Faulty(fn() -> io::Result<usize>);

    impl Read for Faulty {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            (self.0)()
        }
    }

    impl Drop for Faulty {
        fn drop(&mut self) {
            // Like `panic!`, without a message on stderr.
            resume_unwind(Box::new("a bug at the end"));
        }
    }

    #[test]
    fn a_readers_faults_are_errors_that_name_it() {
        type Fault = fn() -> io::Result<usize>;
        let faults: [(Fault, &str); 3] = [
            (|| resume_unwind(Box::new("a bug")), "panicked while its snapshot was read: a bug"),
            (|| Err(io::Error::other("no memory")), "the state machine's reader failed: no memory"),
            (|| Ok(9), "put 9 bytes into a buffer of 4"),
        ];
        for (fault, words) in faults {
            let mut reader = MachineReader::new(Box::new(Faulty(fault)));
            let error = reader.read(&mut [0; 4]).unwrap_err();
            assert!(error.to_string().contains(words), "{error}");
            assert!(reader.read(&mut [0; 4]).is_err(), "it is not asked again");
        }
        drop(MachineReader::new(Box::new(Faulty(|| Ok(0)))));
    }
}
