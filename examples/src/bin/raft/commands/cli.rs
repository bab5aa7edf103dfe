//! `raft commands`.

use std::{
    error::Error,
    io::{self, Write},
};

use super::manual;

/// Flags of `raft commands`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Prints the table of README.md.
    #[arg(long, hide = true)]
    markdown: bool,
}

/// Prints the manual.
pub(crate) fn run(arguments: &Arguments) -> Result<(), Box<dyn Error>> {
    let text = if arguments.markdown { manual::markdown() } else { manual::text() };
    match io::stdout().write_all(text.as_bytes()) {
        // The reader has seen enough: `raft commands | head`.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => Ok(written?),
    }
}
