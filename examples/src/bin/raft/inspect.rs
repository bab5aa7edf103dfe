//! `raft inspect`: what a data folder holds, damaged or not.

use std::{
    error::Error,
    io::{self, BufWriter, Write},
    path::PathBuf,
};

use kodiak_raft::{
    storage::{
        Recovered, StorageError,
        inspect::{Damage, Folder, FrameContent, FrameReport, OpeningReport, Rest, SegmentReport, SnapshotReport},
    },
    types::{self, Configuration, Entries, Entry, HardState, Payload, SessionCommand},
};

/// Flags of `raft inspect`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// A node's data folder. It is only read.
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    /// Prints every entry, commands as escaped text.
    #[arg(long)]
    entries: bool,
}

/// Prints the folder. An error at the end if anything is damaged: the program's exit code tells it.
pub(crate) fn run(arguments: &Arguments) -> Result<(), Box<dyn Error>> {
    let mut out = BufWriter::new(io::stdout().lock());
    let damaged = print(&mut out, arguments);
    match out.flush().and(damaged) {
        Ok(0) => Ok(()),
        Ok(1) => Err("one place is damaged (\"DAMAGED\" above)".into()),
        Ok(damaged) => Err(format!("{damaged} places are damaged (\"DAMAGED\" above)").into()),
        // Whoever reads has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Prints everything; returns how many places are damaged.
fn print(out: &mut impl Write, arguments: &Arguments) -> io::Result<u64> {
    let folder = Folder::open(&arguments.folder)?;
    writeln!(out, "data folder {}", arguments.folder.display())?;
    if folder.is_locked() {
        writeln!(out, "A node is running on it: what follows is a picture in motion, and its end may look torn.")?;
    }
    let mut damaged = 0;
    for file in folder.snapshots() {
        damaged += print_snapshot(out, &folder.snapshot(&file)?)?;
    }
    for file in folder.segments() {
        damaged += print_segment(out, &folder.segment(&file)?, arguments.entries)?;
    }
    for (files, what) in [(folder.spares(), "room for a later segment"), (folder.unfinished(), "cut short by a crash")]
    {
        for file in files {
            writeln!(out, "\n{file}: {what}")?;
        }
    }
    Ok(damaged + print_outcome(out, folder.recover())?)
}

fn print_snapshot(out: &mut impl Write, report: &SnapshotReport) -> io::Result<u64> {
    let SnapshotReport { file, bytes, header, content_bytes, damage } = report;
    writeln!(out, "\n{file}: snapshot, {bytes} bytes, {content_bytes} of the state machine's own")?;
    if let Some((cluster, group, meta)) = header {
        writeln!(
            out,
            "  cluster {cluster}, group {group}; up to entry {} of term {}, stamp {}",
            meta.index, meta.term, meta.stamp.0
        )?;
        writeln!(out, "  configuration: {}", configuration(&meta.configuration))?;
    }
    print_damage(out, damage.as_slice())
}

fn print_segment(out: &mut impl Write, report: &SegmentReport, with_entries: bool) -> io::Result<u64> {
    writeln!(out, "\n{}: segment, {} bytes, frames up to byte {}", report.file, report.bytes, report.end)?;
    if let Some(opening) = &report.opening {
        print_opening(out, opening)?;
    }
    writeln!(out, "  {:>10} {:>10} {:>10} {:>10}  content", "byte", "length", "sequence", "synced")?;
    let mut damage = report.damage.iter().peekable();
    for frame in &report.frames {
        while let Some(before) = damage.next_if(|damage| damage.offset <= frame.offset) {
            print_damage(out, std::slice::from_ref(before))?;
        }
        print_frame(out, frame, with_entries)?;
    }
    print_damage(out, &damage.cloned().collect::<Vec<_>>())?;
    match &report.rest {
        Rest::Zeros => {}
        Rest::Leftovers => writeln!(out, "  {:>10} what the file's life before has left", report.end)?,
        Rest::Torn(why) => writeln!(out, "  {:>10} torn: {why}", report.end)?,
    }
    Ok(report.damage.len() as u64)
}

fn print_opening(out: &mut impl Write, opening: &OpeningReport) -> io::Result<()> {
    let types::Identity { cluster, group, node, disk } = opening.identity;
    writeln!(out, "  cluster {cluster}, group {group}, node {node}, disk {disk}")?;
    writeln!(
        out,
        "  after entry {} of term {}; {}; the log begins with segment {}{}",
        opening.last_index,
        opening.last_term,
        hard_state(&opening.hard_state),
        opening.origin,
        if opening.is_recycled { "; the file had another life" } else { "" },
    )?;
    writeln!(out, "  founding configuration: {}", configuration(&opening.founding))?;
    let (since, now) = &opening.configuration;
    writeln!(out, "  configuration, since entry {since}: {}", configuration(now))
}

fn print_frame(out: &mut impl Write, frame: &FrameReport, with_entries: bool) -> io::Result<()> {
    let FrameReport { offset, bytes, sequence, synced, content } = frame;
    write!(out, "  {offset:>10} {bytes:>10} {sequence:>10} {synced:>10}  ")?;
    match content {
        FrameContent::Opening => writeln!(out, "opening"),
        FrameContent::Mark => writeln!(out, "mark"),
        FrameContent::Unreadable(_) => writeln!(out, "unreadable"),
        FrameContent::Step(write) => {
            let mut parts = Vec::new();
            parts.extend(write.hard_state.as_ref().map(hard_state));
            parts.extend(write.truncate_from.map(|from| format!("truncate from {from}")));
            parts.extend(summary(&write.entries));
            writeln!(out, "{}", parts.join("; "))?;
            write.entries.iter().filter(|_| with_entries).try_for_each(|entry| print_entry(out, entry))
        }
    }
}

/// `entries 3 to 7 of term 2: 4 commands (120 bytes), 1 configuration`
fn summary(entries: &Entries) -> Option<String> {
    let (first, last) = (entries.first()?, entries.last()?);
    let mut text = if first.index == last.index {
        format!("entry {} of term {}", first.index, first.term)
    } else if first.term == last.term {
        format!("entries {} to {} of term {}", first.index, last.index, first.term)
    } else {
        format!("entries {} to {} of terms {} to {}", first.index, last.index, first.term, last.term)
    };
    let count = |kind: fn(&Payload) -> bool| entries.iter().filter(|entry| kind(&entry.payload)).count();
    let bytes: usize = entries.iter().map(|entry| entry.payload.size_bytes()).sum();
    let kinds = [
        ("command", count(|payload| matches!(payload, Payload::Command(_)))),
        ("configuration", count(|payload| matches!(payload, Payload::Configuration(_)))),
        ("session", count(|payload| matches!(payload, Payload::OpenSession { .. } | Payload::CloseSession { .. }))),
        ("command in a session", count(|payload| matches!(payload, Payload::SessionCommand(_)))),
        ("empty", count(|payload| matches!(payload, Payload::Noop))),
    ];
    let kinds: Vec<String> =
        kinds.iter().filter(|(_, count)| *count > 0).map(|(kind, count)| format!("{count} {kind}")).collect();
    text.push_str(&format!(": {}, {bytes} bytes", kinds.join(", ")));
    Some(text)
}

fn print_entry(out: &mut impl Write, entry: &Entry) -> io::Result<()> {
    let Entry { index, term, stamp, payload } = entry;
    write!(out, "{:>14} term {term} stamp {} ", index.0, stamp.0)?;
    match payload {
        Payload::Noop => writeln!(out, "empty"),
        Payload::Command(command) => writeln!(out, "command \"{}\"", command.escape_ascii()),
        Payload::Configuration(new) => writeln!(out, "configuration: {}", configuration(new)),
        Payload::OpenSession { ttl_ms, salt } => {
            writeln!(out, "opens session {} for {ttl_ms} ms", types::SessionId::opened(entry.index, *salt))
        }
        Payload::SessionCommand(in_session) => {
            let SessionCommand { session, sequence, acknowledged, command } = &**in_session;
            let command = command.escape_ascii();
            writeln!(out, "command {sequence} of session {session}, {acknowledged} acknowledged \"{command}\"")
        }
        Payload::CloseSession { session } => writeln!(out, "closes session {session}"),
    }
}

fn print_damage(out: &mut impl Write, damage: &[Damage]) -> io::Result<u64> {
    for Damage { offset, what } in damage {
        writeln!(out, "  {offset:>10} DAMAGED: {what}")?;
    }
    Ok(damage.len() as u64)
}

/// What a node that starts would do; returns 1 if it would refuse.
fn print_outcome(out: &mut impl Write, outcome: Result<Recovered, StorageError>) -> io::Result<u64> {
    writeln!(out)?;
    let recovered = match outcome {
        Ok(recovered) => recovered,
        Err(StorageError::NoLog) => {
            writeln!(out, "There is no log here.")?;
            return Ok(0);
        }
        Err(error) => {
            writeln!(out, "A node would refuse to start: DAMAGED: {error}")?;
            return Ok(1);
        }
    };
    let saved = &recovered.saved;
    writeln!(out, "A node that starts would have {}", hard_state(&saved.hard_state))?;
    match &saved.snapshot {
        Some(meta) => writeln!(out, "  a snapshot up to entry {} of term {}", meta.index, meta.term)?,
        None => writeln!(out, "  no snapshot")?,
    }
    let (base, last) = (saved.terms.base(), saved.terms.last_index());
    if base == last {
        writeln!(out, "  no entries after entry {base}")?;
    } else {
        writeln!(out, "  entries {} to {last}", base.next())?;
    }
    if recovered.rewritten > 0 {
        writeln!(out, "  writing {} writes anew that are whole but not known to be on disk", recovered.rewritten)?;
    }
    if let Some(torn) = &recovered.torn {
        writeln!(out, "  cutting {} at byte {}: what follows was never acknowledged", torn.file, torn.offset)?;
    }
    for damaged in &recovered.damaged_snapshots {
        writeln!(out, "  doing without {}", damaged.file)?;
    }
    Ok(0)
}

fn hard_state(state: &HardState) -> String {
    match state.vote {
        Some(node) => format!("term {}, vote for node {node}", state.term),
        None => format!("term {}, no vote", state.term),
    }
}

/// `voters 1, 2, 3` and, where there are any, outgoing voters and learners, with disks and addresses.
fn configuration(configuration: &Configuration) -> String {
    let Configuration { voters, outgoing, learners, members, .. } = configuration;
    let mut parts = Vec::new();
    for (kind, nodes) in [("voters", voters), ("outgoing", outgoing), ("learners", learners)] {
        let nodes: Vec<String> = nodes
            .iter()
            .map(|node| match members.get(node).filter(|member| !member.address.is_empty()) {
                Some(member) => format!("{node} ({})", member.address.escape_default()),
                None => node.to_string(),
            })
            .collect();
        if !nodes.is_empty() {
            parts.push(format!("{kind} {}", nodes.join(", ")));
        }
    }
    if parts.is_empty() { "nobody".to_owned() } else { parts.join("; ") }
}

#[cfg(test)]
mod tests;
