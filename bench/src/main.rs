//! The same work on kodiak and on other libraries, pinned, in interleaved rounds. See README.md.

mod channels;
mod cores;
mod io_stacks;
mod load;
mod measure;
mod server;
mod sys;
mod timers;
mod workloads;

use std::io;
use std::process::ExitCode;

use measure::Plan;

const USAGE: &str = "usage: kodiak-bench WORKLOAD.. [--rounds N] [--millis N] [--only NAME,NAME,..]
workloads: turn echo churn udp idle timers channel clock core groups stalled-sender, or all;
           not in all: timers-10m timers-counts
single measurements, for strace and callgrind:
           serve LIBRARY tcp|udp     (prints its port, serves until it is killed)
           turns LIBRARY wake|event COUNT
           timer STRUCTURE cancel-insert|insert-fire|fire-rearm|reschedule COUNT
           send CHANNEL stream|stream-4|stream-unbounded|bursts|round-trips COUNT
           commit CORE BYTES BATCH BATCHES
           load echo PORT CONNECTIONS BYTES COUNT | load churn PORT COUNT | load udp PORT COUNT";

fn main() -> ExitCode {
    sys::raise_descriptor_limit();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("kodiak-bench: {}", kodiak_raft::error_chain(&error));
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[String]) -> io::Result<()> {
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["serve", library, service] => server::serve(library, service),
        ["turns", library, turn, count] => {
            workloads::turn::run_single(library, turn, number(count)?)
        }
        ["timer", structure, mix, count] => {
            workloads::timers::run_single(structure, mix, number(count)?)
        }
        ["send", channel, what, count] => {
            workloads::channel::run_single(channel, what, number(count)?)
        }
        ["commit", core, bytes, batch, batches] => {
            workloads::core::run_single(core, number(bytes)?, number(batch)?, number(batches)?)
        }
        ["load", words @ ..] => load::run_single(words),
        words => {
            let options_start =
                words.iter().position(|word| word.starts_with("--")).unwrap_or(words.len());
            let (chosen, options) = words.split_at(options_start);
            let plan = Plan::parse(options)?;
            workloads::check(chosen)?;
            measure::print_machine();
            io_stacks::print_missing();
            chosen.iter().try_for_each(|workload| workloads::run(workload, &plan))
        }
    }
}

pub(crate) fn usage() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, USAGE)
}

pub(crate) fn number<N: std::str::FromStr>(word: &str) -> io::Result<N> {
    word.parse().map_err(|_| {
        io::Error::new(io::ErrorKind::InvalidInput, format!("{word:?} is not a number\n{USAGE}"))
    })
}
