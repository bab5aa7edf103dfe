//! Golden files: a script's lines, what each printed, and what it prints now.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use super::cluster::Cluster;
use super::language::Command;

/// Runs a script; returns its text with what every command prints now.
///
/// # Errors
/// Names the file and the line, and says what is wrong there.
pub(crate) fn run(name: &str, text: &str) -> Result<String, String> {
    let (mut cluster, mut output) = (None, String::new());
    for (number, line) in (1..).zip(text.lines()) {
        let at = |what: String| format!("{name}:{number}: {what}");
        let at_end = |what: String, output: &str| {
            format!("{}\nbefore that:\n{}", at(what), last_lines(output))
        };
        if line.starts_with("    ") {
            continue; // What it printed when the file was made.
        }
        writeln!(output, "{}", line.trim_end()).expect("a string takes all");
        if line.trim().is_empty() || line.starts_with('#') {
            continue;
        }
        let printed = match (Command::parse(line.trim_end()).map_err(at)?, &mut cluster) {
            (Command::Cluster { nodes, settings }, None) => {
                cluster = Some(Cluster::new(nodes, &settings).map_err(at)?);
                Vec::new()
            }
            (Command::Cluster { .. }, Some(_)) => {
                return Err(at("there is a cluster already".to_owned()));
            }
            (_, None) => return Err(at("a script begins with `cluster N`".to_owned())),
            (command, Some(cluster)) => {
                cluster.run(&command).map_err(|what| at_end(what, &output))?
            }
        };
        printed.iter().for_each(|line| writeln!(output, "    {line}").expect("a string takes all"));
    }
    Ok(output)
}

/// Where the script was when it failed.
fn last_lines(output: &str) -> String {
    let lines: Vec<&str> = output.lines().collect();
    lines[lines.len().saturating_sub(12)..].join("\n")
}

/// Compares a file with what its script prints now; rewrites it if `update`.
///
/// # Errors
/// Shows the first line that differs, or says what is wrong with the script.
pub(crate) fn check(path: &Path, update: bool) -> Result<(), String> {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let text = fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let now = run(&name, &text)?;
    if now == text {
        return Ok(());
    }
    if update {
        return fs::write(path, now).map_err(|error| format!("{}: {error}", path.display()));
    }
    let (mut was, mut is) = (text.lines(), now.lines());
    for number in 1.. {
        let (old, new) = (was.next(), is.next());
        if old != new || old.is_none() {
            let show = |line: Option<&str>| {
                line.map_or("the end of the file".to_owned(), |line| format!("`{line}`"))
            };
            return Err(format!(
                "{name}:{number}: the file has {}\n  but now there is {}",
                show(old),
                show(new)
            ));
        }
    }
    unreachable!("one of two different texts ends first, or a line differs")
}
