//! A sender that stops in the middle of a push, as one does whom the scheduler takes the processor from: how often that stops the
//! receiver too, for as long as the sender is away (crossbeam's issue 997).
//!
//! A sender sends without a pause and is stopped by a signal, at whatever instruction it has got to; the receiver then empties
//! the queue. If that takes until the sender is let go, it was caught in mid-push. And what comes of it in life: the longest
//! single receive while more senders than processors are at work.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use kodiak_channel::{Notifier, Receiver, Sender, bounded, unbounded};

use crate::measure::Plan;
use crate::sys;

const CAPACITY: usize = 4096;
const FREEZES: usize = 300;
/// How long a sender stays frozen. A receive that takes half of it was stopped.
const FROZEN: Duration = Duration::from_millis(10);
const SENDERS: usize = 4;

type Make = fn(&Notifier) -> (Sender<u64>, Receiver<u64>);

pub(crate) fn run(plan: &Plan) -> io::Result<()> {
    sys::freeze_on_signal()?;
    println!("### A sender frozen in the middle of a push\n");
    println!(
        "| | freezes that stopped the receiver, of {FREEZES} | longest receive, {SENDERS} senders on one core, ms | receives over 1 ms |"
    );
    println!("|---|---|---|---|");
    let make: [(&str, Make); 2] = [("bounded", |notifier| bounded(CAPACITY, notifier)), ("unbounded", unbounded)];
    for (name, make) in make {
        let notifier = Notifier::new(thread::current());
        let stopped = freezes(make(&notifier));
        let (longest, long, received) = crowd(make(&notifier), plan.slice * 10);
        println!("| {name} | {stopped} | {:.2} | {long} of {received} |", longest.as_secs_f64() * 1000.0);
    }
    println!();
    Ok(())
}

/// How many of the freezes stopped the receiver.
fn freezes((sender, receiver): (Sender<u64>, Receiver<u64>)) -> usize {
    let stop = &AtomicBool::new(false);
    thread::scope(|scope| {
        let (tell, told) = std::sync::mpsc::channel();
        scope.spawn(move || {
            sys::pin(sys::LOAD_CORE);
            tell.send(sys::this_thread()).expect("somebody wants to know");
            while !stop.load(Ordering::Relaxed) {
                // Looked at seldom, so that nearly every freeze falls on a send; a receiver must be able to keep up.
                if sender.len() < CAPACITY / 4 {
                    for _ in 0..CAPACITY / 4 {
                        let _ = sender.send(1);
                    }
                }
            }
        });
        sys::pin(sys::SERVER_CORE);
        let victim = told.recv().expect("the sender says who it is");
        let mut stopped = 0;
        for freeze in 0..FREEZES {
            // Some time in which the receiver keeps up, not always the same.
            let begun = Instant::now();
            while begun.elapsed() < Duration::from_nanos(200_000 + 7_919 * (freeze as u64 % 64)) {
                let _ = receiver.try_recv();
            }
            let frozen = sys::Frozen::freeze(victim, FROZEN);
            let mut longest = Duration::ZERO;
            loop {
                let begun = Instant::now();
                let received = receiver.try_recv();
                longest = longest.max(begun.elapsed());
                if received.is_err() || longest > FROZEN / 2 {
                    break;
                }
            }
            stopped += usize::from(longest > FROZEN / 2);
            frozen.await_end();
        }
        stop.store(true, Ordering::Relaxed);
        stopped
    })
}

/// The longest receive while senders take turns on one processor, how many took over a millisecond, and of how many.
fn crowd((sender, receiver): (Sender<u64>, Receiver<u64>), time: Duration) -> (Duration, usize, usize) {
    let stop = &AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..SENDERS {
            let sender = sender.clone();
            scope.spawn(move || {
                sys::pin(sys::LOAD_CORE);
                while !stop.load(Ordering::Relaxed) {
                    if sender.len() > CAPACITY / 2 || sender.send(1).is_err() {
                        thread::yield_now();
                    }
                }
            });
        }
        sys::pin(sys::SERVER_CORE);
        let (mut longest, mut long, mut received) = (Duration::ZERO, 0, 0);
        let begun = Instant::now();
        let mut before = begun;
        while before - begun < time {
            let got = receiver.try_recv().is_ok();
            let now = Instant::now();
            longest = longest.max(now - before);
            long += usize::from(now - before > Duration::from_millis(1));
            received += usize::from(got);
            before = now;
        }
        stop.store(true, Ordering::Relaxed);
        (longest, long, received)
    })
}
