//! The same work on kodiak and on its peers: in one run, alternating, several rounds, pinned. See README.md.

mod channels;
mod cores;
mod load;
mod measure;
mod peers;
mod server;
mod sys;
mod timers;
mod workloads;

use std::io;
use std::process::ExitCode;

use measure::Plan;

const USAGE: &str = "usage: kodiak-bench WORKLOAD.. [--rounds N] [--millis N] [--peers A,B,..]
workloads: turn echo churn udp idle timers channel clock core groups frozen, or all; timers-10m timers-counts
one measurement alone, for strace and callgrind:
           serve PEER tcp|udp        (prints its port, serves until killed)
           turns PEER wake|event COUNT
           timed STRUCTURE cancel-insert|insert-fire|fire-rearm|reschedule COUNT
           sent CHANNEL stream|stream-4|stream-unbounded|bursts|trips COUNT
           commit PEER BYTES BATCH BATCHES   (a consensus core)
           load echo PORT CONNECTIONS BYTES COUNT | load churn PORT COUNT | load udp PORT COUNT";

fn main() -> ExitCode {
    sys::raise_descriptor_limit();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("kodiak-bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[String]) -> io::Result<()> {
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["serve", peer, service] => server::serve(peer, service),
        ["turns", peer, turn, count] => workloads::turn::alone(peer, turn, number(count)?),
        ["timed", peer, mix, count] => workloads::timers::alone(peer, mix, number(count)?),
        ["sent", channel, what, count] => workloads::channel::alone(channel, what, number(count)?),
        ["commit", peer, bytes, batch, batches] => {
            workloads::core::alone(peer, number(bytes)?, number(batch)?, number(batches)?)
        }
        ["load", rest @ ..] => load::alone(rest),
        words => {
            let options = words.iter().position(|word| word.starts_with("--")).unwrap_or(words.len());
            let (chosen, options) = words.split_at(options);
            let plan = Plan::parse(options)?;
            workloads::check(chosen)?;
            measure::print_machine();
            peers::print_missing();
            chosen.iter().try_for_each(|workload| workloads::run(workload, &plan))
        }
    }
}

pub(crate) fn usage() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, USAGE)
}

pub(crate) fn number<N: std::str::FromStr>(word: &str) -> io::Result<N> {
    word.parse().map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, format!("{word:?} is not a number\n{USAGE}")))
}
