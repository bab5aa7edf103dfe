//! `raft inspect`: what a data folder holds, damaged or not.

use std::{
    error::Error,
    io::{self, BufWriter, Write},
    path::PathBuf,
};

use kodiak_raft::{
    node::error_chain,
    storage::{
        DivergedMark, Recovered, StorageError,
        inspect::{
            Damage, Folder, FrameContent, FrameReport, Rest, SegmentHeaderReport, SegmentReport,
            SnapshotHeaderReport, SnapshotReport,
        },
    },
    types::{
        self, Configuration, Divergence, Entries, Entry, HardState, Index, Payload, SessionCommand,
    },
};

use crate::kv::operation::describe;

/// Flags of `raft inspect`.
///
/// Prints the snapshots, then the segments of the log, frame by frame, and last the state with
/// which a node would start here.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// A node's data folder. It is only read.
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    /// Prints every entry, too, with its stamp (milliseconds since 1970) and its content.
    #[arg(long)]
    entries: bool,
}

/// Prints the folder. If anything is damaged, the error sets the exit code.
pub(crate) fn run(arguments: &Arguments) -> Result<(), Box<dyn Error>> {
    let mut out = BufWriter::new(io::stdout().lock());
    let damaged = print(&mut out, arguments);
    match out.flush().and(damaged) {
        Ok(0) => Ok(()),
        Ok(1) => Err("one place is damaged (\"DAMAGED\" above)".into()),
        Ok(damaged) => Err(format!("{damaged} places are damaged (\"DAMAGED\" above)").into()),
        // The reader has seen enough: `raft inspect DIR | head`.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Prints everything, and returns the number of damaged places.
fn print(out: &mut impl Write, arguments: &Arguments) -> io::Result<u64> {
    let folder = Folder::open(&arguments.folder)?;
    writeln!(out, "data folder {}", arguments.folder.display())?;
    if folder.is_locked() {
        writeln!(
            out,
            "A node is running on it: its files change while they are read, and the end may look \
             torn."
        )?;
    }
    let mut damaged = 0;
    for file in folder.snapshots() {
        damaged += match folder.snapshot(&file) {
            Ok(report) => print_snapshot(out, &report)?,
            Err(error) => print_unread(out, &error)?,
        };
    }
    for file in folder.segments() {
        damaged += match folder.segment(&file) {
            Ok(report) => print_segment(out, &report, arguments.entries)?,
            Err(error) => print_unread(out, &error)?,
        };
    }
    for (files, what) in [
        (folder.spare_segment_files(), "room for a later segment"),
        (folder.unfinished(), "cut short by a crash"),
    ] {
        for file in files {
            writeln!(out, "\n{file}: {what}")?;
        }
    }
    match folder.synced() {
        Err(error) => damaged += print_unread(out, &io::Error::other(error))?,
        Ok(Some(mark)) => writeln!(
            out,
            "\nSYNCED: on disk up to frame {} of segment {} (byte {}), entry {}",
            mark.sequence, mark.segment, mark.end, mark.last_index
        )?,
        Ok(None) => {
            writeln!(out, "\nSYNCED: no mark; the end of the log is known by its own marks only")?
        }
    }
    let outcome = folder.dry_run_open();
    match folder.diverged() {
        Err(error) => damaged += print_unread(out, &io::Error::other(error))?,
        Ok(Some(mark)) => damaged += print_diverged(out, &mark, outcome.as_ref().ok())?,
        Ok(None) => {}
    }
    Ok(damaged + print_outcome(out, outcome)?)
}

/// Prints the meaning of the file `DIVERGED`, and what to do about it.
fn print_diverged(
    out: &mut impl Write,
    mark: &DivergedMark,
    recovered: Option<&Recovered>,
) -> io::Result<u64> {
    match mark {
        DivergedMark::Whole(Divergence { digest, majority, agreed }) => writeln!(
            out,
            "\nDIVERGED: after entry {} the state of this node has digest {:016x}, and a majority \
             of the voters has {majority:016x} (version {}). They last agreed after entry {agreed}",
            digest.index, digest.value, digest.version
        )?,
        DivergedMark::Damaged => {
            writeln!(
                out,
                "\nDAMAGED: DIVERGED cannot be read: no snapshot of this folder is known to be \
                right"
            )?;
        }
    }
    let snapshot =
        recovered.and_then(|recovered| recovered.saved.snapshot.as_ref()).map(|meta| meta.index);
    match snapshot.filter(|index| *index > mark.agreed()) {
        Some(index) => writeln!(
            out,
            "  The log is right, and the snapshot of entry {index} may be wrong. Leave the file: a \
             node that starts votes and acknowledges, and answers once the leader has sent another \
             snapshot. Take another member's folder for 'raft recover'"
        )?,
        None => writeln!(
            out,
            "  No snapshot here is of a later entry. Leave the file: a node that starts builds its \
             state from the log, and removes the file"
        )?,
    }
    Ok(u64::from(*mark == DivergedMark::Damaged))
}

/// Prints that a file cannot be read or is malformed; the error names it.
fn print_unread(out: &mut impl Write, error: &io::Error) -> io::Result<u64> {
    writeln!(out, "\nDAMAGED: {}", error_chain(error))?;
    Ok(1)
}

fn print_snapshot(out: &mut impl Write, report: &SnapshotReport) -> io::Result<u64> {
    let SnapshotReport { file, bytes, header, content_bytes, damage, .. } = report;
    writeln!(out, "\n{file}: snapshot, {bytes} bytes, {content_bytes} of the state machine's own")?;
    if let Some(SnapshotHeaderReport { cluster, group, meta, .. }) = header {
        writeln!(
            out,
            "  cluster {cluster}, group {group}; up to entry {} of term {}, stamp {}",
            meta.index, meta.term, meta.stamp.0
        )?;
        writeln!(out, "  configuration: {}", configuration(&meta.configuration))?;
    }
    print_damage(out, damage.as_slice())
}

fn print_segment(
    out: &mut impl Write,
    report: &SegmentReport,
    with_entries: bool,
) -> io::Result<u64> {
    writeln!(
        out,
        "\n{}: segment, {} bytes, frames up to byte {}",
        report.file, report.bytes, report.end
    )?;
    if let Some(header) = &report.header {
        print_segment_header(out, header)?;
    }
    writeln!(
        out,
        "  {:>10} {:>10} {:>10} {:>10}  content",
        "byte", "length", "frame", "synced to"
    )?;
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
        Rest::Leftovers => {
            writeln!(out, "  {:>10} the rest is left from the older segment", report.end)?
        }
        Rest::Torn(why) => writeln!(out, "  {:>10} torn: {why}", report.end)?,
    }
    Ok(report.damage.len() as u64)
}

fn print_segment_header(out: &mut impl Write, header: &SegmentHeaderReport) -> io::Result<()> {
    let types::Identity { cluster, group, node, disk } = header.identity;
    writeln!(out, "  cluster {cluster}, group {group}, node {node}, disk {disk}")?;
    let before = match header.last_index.0 {
        0 => "begins where the log begins".to_owned(),
        index => format!("follows entry {index} of term {}", header.last_term),
    };
    let reused =
        if header.is_recycled { "; the file was recycled from an older segment" } else { "" };
    writeln!(
        out,
        "  {before}; {} then; segment {} is the log's first{reused}",
        hard_state(&header.hard_state),
        header.origin
    )?;
    writeln!(out, "  bootstrap configuration: {}", configuration(&header.initial_configuration))?;
    match header.configuration_index {
        Index(0) => Ok(()),
        since => {
            writeln!(
                out,
                "  configuration then, that of entry {since}: {}",
                configuration(&header.configuration)
            )
        }
    }
}

fn print_frame(out: &mut impl Write, frame: &FrameReport, with_entries: bool) -> io::Result<()> {
    let FrameReport { offset, bytes, sequence, synced, content, .. } = frame;
    write!(out, "  {offset:>10} {bytes:>10} {sequence:>10} {synced:>10}  ")?;
    match content {
        FrameContent::SegmentHeader => writeln!(out, "segment header"),
        FrameContent::Mark => writeln!(out, "mark: everything before it is on disk"),
        FrameContent::Unreadable(_) => writeln!(out, "unreadable"),
        FrameContent::Write(write) => {
            let mut parts = Vec::new();
            parts.extend(write.hard_state.as_ref().map(hard_state));
            parts.extend(write.truncate_from.map(|from| format!("truncate from {from}")));
            parts.extend(summary(&write.entries));
            writeln!(out, "{}", parts.join("; "))?;
            write
                .entries
                .iter()
                .filter(|_| with_entries)
                .try_for_each(|entry| print_entry(out, entry))
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
        format!(
            "entries {} to {} of terms {} to {}",
            first.index, last.index, first.term, last.term
        )
    };
    let count =
        |kind: fn(&Payload) -> bool| entries.iter().filter(|entry| kind(&entry.payload)).count();
    let bytes: usize = entries.iter().map(|entry| entry.payload.size_bytes()).sum();
    let kinds = [
        ("command", count(|payload| matches!(payload, Payload::Command(_)))),
        ("configuration", count(|payload| matches!(payload, Payload::Configuration(_)))),
        (
            "session",
            count(|payload| {
                matches!(payload, Payload::OpenSession { .. } | Payload::CloseSession { .. })
            }),
        ),
        ("command in a session", count(|payload| matches!(payload, Payload::SessionCommand(_)))),
        ("empty", count(|payload| matches!(payload, Payload::Noop))),
    ];
    let kinds: Vec<String> = kinds
        .iter()
        .filter(|(_, count)| *count > 0)
        .map(|(kind, count)| format!("{count} {kind}"))
        .collect();
    text.push_str(&format!(": {}, {bytes} bytes", kinds.join(", ")));
    Some(text)
}

fn print_entry(out: &mut impl Write, entry: &Entry) -> io::Result<()> {
    let Entry { index, term, stamp, payload } = entry;
    write!(out, "{:>14} term {term} stamp {} ", index.0, stamp.0)?;
    match payload {
        Payload::Noop => writeln!(out, "empty"),
        Payload::Command(command) => writeln!(out, "command {}", describe(command)),
        Payload::Configuration(new) => writeln!(out, "configuration: {}", configuration(new)),
        Payload::OpenSession { ttl_ms, salt } => {
            writeln!(
                out,
                "opens session {} for {ttl_ms} ms",
                types::SessionId::opened(entry.index, *salt)
            )
        }
        Payload::SessionCommand(in_session) => {
            let SessionCommand { session, sequence, acknowledged, command } = &**in_session;
            let command = describe(command);
            writeln!(
                out,
                "command {sequence} of session {session}, {acknowledged} acknowledged: {command}"
            )
        }
        Payload::CloseSession { session } => writeln!(out, "closes session {session}"),
    }
}

fn print_damage(out: &mut impl Write, damage: &[Damage]) -> io::Result<u64> {
    for Damage { offset, what, .. } in damage {
        writeln!(out, "  {offset:>10} DAMAGED: {what}")?;
    }
    Ok(damage.len() as u64)
}

/// What a node that starts would do; returns 1 if it would refuse.
fn print_outcome(
    out: &mut impl Write,
    outcome: Result<Recovered, StorageError>,
) -> io::Result<u64> {
    writeln!(out)?;
    let recovered = match outcome {
        Ok(recovered) => recovered,
        Err(StorageError::NoLog) => {
            writeln!(out, "There is no log here. A node that starts would be a new one.")?;
            return Ok(0);
        }
        Err(error) => {
            writeln!(out, "A node would refuse to start: DAMAGED: {}", error_chain(&error))?;
            return Ok(1);
        }
    };
    print_recovered(out, &recovered)?;
    Ok(0)
}

fn print_recovered(out: &mut impl Write, recovered: &Recovered) -> io::Result<()> {
    let saved = &recovered.saved;
    writeln!(out, "A node that starts would have")?;
    writeln!(out, "  {}", hard_state(&saved.hard_state))?;
    match &saved.snapshot {
        Some(meta) => {
            writeln!(out, "  a snapshot up to entry {} of term {}", meta.index, meta.term)?
        }
        None => writeln!(out, "  no snapshot")?,
    }
    let (base, last) = (saved.terms.base(), saved.terms.last_index());
    let (first, term) = (base.next(), saved.terms.last_term());
    match (base == last, base.0) {
        (true, 0) => writeln!(out, "  no entries")?,
        (true, _) => writeln!(out, "  no entries after entry {base}")?,
        (false, _) if first == last => writeln!(out, "  entry {last} of term {term}")?,
        (false, _) => writeln!(out, "  entries {first} to {last}, the last one of term {term}")?,
    }
    writeln!(out, "  configuration: {}", configuration(saved.configuration()))?;
    let mut repairs = Vec::new();
    match recovered.rewritten {
        0 => {}
        1 => repairs.push(
            "copy the last write to a new segment and sync that: it can be read, but no mark says \
             that it has reached the disk"
                .to_owned(),
        ),
        rewritten => repairs.push(format!(
            "copy the last {rewritten} writes to a new segment and sync that: they can be read, \
             but no mark says that they have reached the disk"
        )),
    }
    if let Some(torn) = &recovered.torn {
        let (file, offset) = (&torn.file, torn.offset);
        repairs.push(format!(
            "cut {file} off at byte {offset}: the rest is half a write, never acknowledged"
        ));
    }
    for damaged in &recovered.damaged_snapshots {
        if recovered.lacks_snapshot {
            repairs.push(format!(
                "ask the leader for a snapshot to replace {}, which is damaged",
                damaged.file
            ));
            continue;
        }
        repairs.push(format!(
            "ignore {}, which is damaged: the log goes back far enough",
            damaged.file
        ));
    }
    if saved.divergence.is_some() {
        repairs.push(
            "ask the leader for a snapshot: the one here may hold a state that differs (DIVERGED)"
                .to_owned(),
        );
    }
    if let Some(damaged) = &recovered.damaged_segment {
        repairs.push(format!(
            "begin after {}, which is damaged: the snapshot covers its entries",
            damaged.file
        ));
    }
    if !repairs.is_empty() {
        writeln!(out, "and would")?;
    }
    repairs.iter().try_for_each(|repair| writeln!(out, "  {repair}"))
}

fn hard_state(state: &HardState) -> String {
    match state.vote {
        Some(node) => format!("term {}, vote for node {node}", state.term),
        None => format!("term {}, no vote", state.term),
    }
}

/// `voters 1, 2, 3` and, where there are any, outgoing voters and learners, with disks and
/// addresses.
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
    if parts.is_empty() { "no members".to_owned() } else { parts.join("; ") }
}

#[cfg(test)]
pub(crate) mod tests;
