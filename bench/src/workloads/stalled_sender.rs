//! A sender that stalls in the middle of a push, as a thread does that the scheduler preempts.
//!
//! How often does that block the receiver until the sender runs again (crossbeam's issue 997)? A
//! sender sends without a pause and is stalled by a signal, at any instruction; then the receiver
//! empties the queue. If that takes until the sender resumes, the sender was stalled in a push.
//! Second, the effect in practice: the longest receive while several senders share one processor.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use kodiak_channel::{Notifier, Receiver, Sender, bounded, unbounded};

use crate::measure::Plan;
use crate::sys;

const CAPACITY: usize = 4096;
const STALLS: usize = 300;
/// How long a sender is stalled. A receive that takes half of it was blocked.
const STALL_TIME: Duration = Duration::from_millis(10);
const SENDERS: usize = 4;

type MakeChannel = fn(&Notifier) -> (Sender<u64>, Receiver<u64>);

pub(crate) fn run(plan: &Plan) -> io::Result<()> {
    sys::stall_on_signal()?;
    println!("### A sender stalled in the middle of a push\n");
    println!(
        "| | stalls that blocked the receiver, of {STALLS} \
         | longest receive, {SENDERS} senders on one core, ms | receives over 1 ms |"
    );
    println!("|---|---|---|---|");
    let make: [(&str, MakeChannel); 2] =
        [("bounded", |notifier| bounded(CAPACITY, notifier)), ("unbounded", unbounded)];
    for (name, make) in make {
        let notifier = Notifier::new(thread::current());
        let blocked = count_blocked(make(&notifier));
        let (longest, long, received) = receive_from_many(make(&notifier), plan.window * 10);
        println!(
            "| {name} | {blocked} | {:.2} | {long} of {received} |",
            longest.as_secs_f64() * 1000.0
        );
    }
    println!();
    Ok(())
}

/// The number of stalls that blocked the receiver.
fn count_blocked((sender, receiver): (Sender<u64>, Receiver<u64>)) -> usize {
    let stop = &AtomicBool::new(false);
    thread::scope(|scope| {
        let (thread_sender, threads) = std::sync::mpsc::channel();
        scope.spawn(move || {
            sys::pin(sys::LOAD_CORE);
            thread_sender.send(sys::this_thread()).expect("the receiver waits for it");
            while !stop.load(Ordering::Relaxed) {
                // The length is read rarely, so that nearly every stall hits a send.
                if sender.len() < CAPACITY / 4 {
                    for _ in 0..CAPACITY / 4 {
                        let _ = sender.send(1);
                    }
                }
            }
        });
        sys::pin(sys::SERVER_CORE);
        let sender_thread = threads.recv().expect("the sender has started");
        let mut blocked = 0;
        for stall in 0..STALLS {
            // First the receiver keeps up for a while, which differs between the stalls.
            let begun = Instant::now();
            while begun.elapsed() < Duration::from_nanos(200_000 + 7_919 * (stall as u64 % 64)) {
                let _ = receiver.try_recv();
            }
            let stalled = sys::StalledThread::stall(sender_thread, STALL_TIME);
            let mut longest = Duration::ZERO;
            loop {
                let begun = Instant::now();
                let received = receiver.try_recv();
                longest = longest.max(begun.elapsed());
                if received.is_err() || longest > STALL_TIME / 2 {
                    break;
                }
            }
            blocked += usize::from(longest > STALL_TIME / 2);
            stalled.wait_until_resumed();
        }
        stop.store(true, Ordering::Relaxed);
        blocked
    })
}

/// Receives while several senders share one processor.
fn receive_from_many(
    (sender, receiver): (Sender<u64>, Receiver<u64>),
    time: Duration,
) -> (Duration, usize, usize) {
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
