//! Messages from other threads to a loop that sleeps when it has none.
//!
//! Three measurements: a message in a stream, with the loop's sleeps and wakes; a send and a
//! receive alone, while the other end is idle; a round trip to a loop that sleeps. The receiver
//! runs on the server's core, the senders on the load's core. A bounded channel holds 4096
//! messages; a sender that finds it full yields.

use std::hint;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Barrier, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use crate::channels::{ALL, Capacity, Channel, MessageSender};
use crate::measure::{Plan, Table, interleave};
use crate::sys;

const STREAM: u64 = 400_000;
const BURST: u64 = 2_000;
const BURSTS: u64 = 100;
const ROUND_TRIPS: usize = 5_000;
const CAPACITY: usize = 4096;
/// The last message of each sender.
const LAST: u64 = u64::MAX;
/// The receiver leaves its queue alone after this message until the sender is done.
const BUSY: u64 = u64::MAX - 1;

/// The column of [`core_to_core`].
const CORE_TO_CORE: &str = "core to core";

const TWO_CORES: [usize; 2] = [sys::SERVER_CORE, sys::LOAD_CORE];
const ONE_CORE: [usize; 2] = [sys::SERVER_CORE; 2];

pub(crate) fn run(plan: &Plan) -> io::Result<()> {
    let chosen: Vec<&dyn Channel> =
        ALL.iter().copied().filter(|channel| plan.includes(channel.name())).collect();
    let names: Vec<&str> = chosen.iter().map(|channel| channel.name()).collect();
    // The machine's own latency in the same rounds: it changes fourfold from one hour to the next.
    let columns: Vec<&str> = names.iter().copied().chain([CORE_TO_CORE]).collect();
    let mut table = Table::new("Channels: a stream of messages, time for each", "ns", &columns);
    for (sender_count, capacity, text) in [
        (1, Capacity::Bounded(CAPACITY), "one sender, bounded"),
        (1, Capacity::Unbounded, "one sender, unbounded"),
        (4, Capacity::Bounded(CAPACITY), "four senders, bounded"),
        (4, Capacity::Unbounded, "four senders, unbounded"),
    ] {
        let measured = interleave(plan.rounds, &columns, |index| {
            let channel = chosen.get(index);
            Ok(channel
                .map_or_else(core_to_core, |channel| stream(*channel, sender_count, capacity)))
        })?;
        table.absolute_row(text, &measured);
    }
    table.print();
    let mut table = Table::new("Channels: one end alone, time for each message", "ns", &names);
    for (capacity, bound) in
        [(Capacity::Bounded(CAPACITY), "bounded"), (Capacity::Unbounded, "unbounded")]
    {
        for (cores, place) in [(TWO_CORES, "two cores"), (ONE_CORE, "one core")] {
            let measured = interleave(plan.rounds, &names, |index| {
                Ok(bursts(chosen[index], capacity, cores))
            })?;
            table.absolute_row(format!("send, {bound}, {place}"), &column(&measured, 0));
            table.absolute_row(format!("receive, {bound}, {place}"), &column(&measured, 1));
        }
    }
    table.print();
    let mut table = Table::new("Channels: a round trip to a loop that sleeps", "µs", &names);
    for (cores, text) in [(TWO_CORES, "two cores"), (ONE_CORE, "one core")] {
        let measured =
            interleave(plan.rounds, &names, |index| Ok(round_trip(chosen[index], cores)))?;
        table.absolute_row(format!("{text}, p50"), &column(&measured, 0));
        table.absolute_row(format!("{text}, p99"), &column(&measured, 1));
    }
    table.print();
    Ok(())
}

/// Nanoseconds until the other core sees a word that this one has written.
///
/// Two threads do nothing but answer each other.
fn core_to_core() -> f64 {
    const TIMES: u64 = 20_000;
    #[derive(Default)]
    #[repr(align(128))]
    struct Word(AtomicU64);
    let (there, back) = (&Word::default(), &Word::default());
    let await_word = |word: &Word, wanted| {
        while word.0.load(Ordering::Acquire) != wanted {
            hint::spin_loop();
        }
    };
    thread::scope(|scope| {
        scope.spawn(move || {
            sys::pin(sys::LOAD_CORE);
            for number in 1..=TIMES {
                await_word(there, number);
                back.0.store(number, Ordering::Release);
            }
        });
        sys::pin(sys::SERVER_CORE);
        there.0.store(1, Ordering::Release);
        await_word(back, 1); // the other thread has started
        let begun = Instant::now();
        for number in 2..=TIMES {
            there.0.store(number, Ordering::Release);
            await_word(back, number);
        }
        begun.elapsed().as_nanos() as f64 / (2 * (TIMES - 1)) as f64
    })
}

/// One of two values that were measured together.
fn column(measured: &[Vec<[f64; 2]>], index: usize) -> Vec<Vec<f64>> {
    measured.iter().map(|rounds| rounds.iter().map(|values| values[index]).collect()).collect()
}

/// Runs one measurement, for `perf` and `strace`.
pub(crate) fn run_single(name: &str, what: &str, count: u64) -> io::Result<()> {
    let found = ALL.iter().find(|channel| channel.name() == name).ok_or_else(crate::usage)?;
    for _ in 0..count {
        match what {
            "stream" => {
                println!("{:.1} ns a message", stream(*found, 1, Capacity::Bounded(CAPACITY)))
            }
            "stream-4" => {
                println!("{:.1} ns a message", stream(*found, 4, Capacity::Bounded(CAPACITY)))
            }
            "stream-unbounded" => {
                println!("{:.1} ns a message", stream(*found, 1, Capacity::Unbounded))
            }
            "bursts" => {
                let [send, receive] = bursts(*found, Capacity::Bounded(CAPACITY), TWO_CORES);
                println!("send {send:.1} ns, receive {receive:.1} ns");
            }
            "round-trips" => {
                let [p50, p99] = round_trip(*found, ONE_CORE);
                println!("p50 {p50:.2} µs, p99 {p99:.2} µs");
            }
            _ => return Err(crate::usage()),
        }
    }
    Ok(())
}

/// Nanoseconds for each message, from the first send to the last receive, with the loop's sleeps.
fn stream(channel: &dyn Channel, sender_count: u64, capacity: Capacity) -> f64 {
    let (handover, senders) = mpsc::channel::<Box<dyn MessageSender>>();
    thread::scope(|scope| {
        let sender_thread = scope.spawn(move || {
            sys::pin(sys::LOAD_CORE);
            let first = senders.recv().expect("a sender");
            let others: Vec<Box<dyn MessageSender>> =
                (1..sender_count).map(|_| first.clone_box()).collect();
            let ready = &Barrier::new(sender_count as usize);
            thread::scope(|scope| {
                let threads = others.into_iter().chain([first]).map(|mut sender| {
                    scope.spawn(move || {
                        sys::pin(sys::LOAD_CORE);
                        ready.wait();
                        let begun = Instant::now();
                        sender.send_many(STREAM / sender_count);
                        sender.send(LAST);
                        begun
                    })
                });
                let threads: Vec<_> = threads.collect();
                threads
                    .into_iter()
                    .map(|thread| thread.join().expect("a sender has not panicked"))
                    .min()
            })
        });
        sys::pin(sys::SERVER_CORE);
        let (mut sum, mut ended) = (0, 0);
        channel.receive(
            capacity,
            &mut |sender| handover.send(sender).expect("the senders' thread waits for it"),
            &mut |message| {
                if message == LAST {
                    ended += 1;
                } else {
                    sum += message;
                }
                ended < sender_count
            },
        );
        let ended_at = Instant::now();
        assert_eq!(sum, STREAM / sender_count * sender_count);
        let begun = sender_thread
            .join()
            .expect("the senders have not panicked")
            .expect("there is a sender");
        ended_at.saturating_duration_since(begun).as_nanos() as f64 / STREAM as f64
    })
}

/// Nanoseconds for each send while the receiver is awake and busy, and for each receive while the
/// sender is idle: the medians of many bursts.
fn bursts(channel: &dyn Channel, capacity: Capacity, cores: [usize; 2]) -> [f64; 2] {
    let (handover, senders) = mpsc::channel::<Box<dyn MessageSender>>();
    // Odd: the receiver is busy, the sender may send. Even: the sender is done.
    let phase = &AtomicU64::new(0);
    let spins = cores[0] != cores[1];
    let await_phase = move |wanted: u64| {
        while phase.load(Ordering::Acquire) != wanted {
            if spins { hint::spin_loop() } else { thread::park() }
        }
    };
    let receiver = thread::current();
    thread::scope(|scope| {
        let sender_thread = scope.spawn(move || {
            sys::pin(cores[1]);
            let mut sender = senders.recv().expect("a sender");
            let mut costs = Vec::with_capacity(BURSTS as usize);
            for burst in 0..BURSTS {
                sender.send(BUSY);
                await_phase(2 * burst + 1);
                let begun = Instant::now();
                sender.send_many(BURST);
                costs.push(begun.elapsed());
                phase.store(2 * burst + 2, Ordering::Release);
                receiver.unpark();
            }
            sender.send(LAST);
            costs
        });
        sys::pin(cores[0]);
        let sender = sender_thread.thread().clone();
        let (mut burst, mut received, mut begun) = (0, 0, Instant::now());
        let mut costs = Vec::with_capacity(BURSTS as usize);
        channel.receive(
            capacity,
            &mut |sender| handover.send(sender).expect("the sender's thread waits for it"),
            &mut |message| {
                match message {
                    BUSY => {
                        phase.store(2 * burst + 1, Ordering::Release);
                        sender.unpark();
                        await_phase(2 * burst + 2);
                        (burst, received, begun) = (burst + 1, 0, Instant::now());
                    }
                    LAST => return false,
                    _ => {
                        received += 1;
                        if received == BURST {
                            costs.push(begun.elapsed());
                        }
                    }
                }
                true
            },
        );
        let sent = sender_thread.join().expect("the sender has not panicked");
        [sent, costs].map(|mut costs| {
            costs.sort();
            costs[costs.len() / 2].as_nanos() as f64 / BURST as f64
        })
    })
}

/// The median and the 99th percentile, in microseconds.
fn round_trip(channel: &dyn Channel, cores: [usize; 2]) -> [f64; 2] {
    let (handover, senders) = mpsc::channel::<Box<dyn MessageSender>>();
    let (back, answers) = mpsc::sync_channel::<u64>(1);
    thread::scope(|scope| {
        let client = scope.spawn(move || {
            sys::pin(cores[1]);
            let mut sender = senders.recv().expect("a sender");
            let mut trips = Vec::with_capacity(ROUND_TRIPS);
            for number in 0..ROUND_TRIPS as u64 {
                let begun = Instant::now();
                sender.send(number);
                assert_eq!(answers.recv(), Ok(number));
                trips.push(begun.elapsed());
            }
            sender.send(LAST);
            trips
        });
        sys::pin(cores[0]);
        channel.receive(
            Capacity::Bounded(CAPACITY),
            &mut |sender| handover.send(sender).expect("the client waits for it"),
            &mut |message| message != LAST && back.send(message).is_ok(),
        );
        let mut trips: Vec<Duration> = client.join().expect("the client has not panicked");
        trips.sort();
        [50, 99].map(|percent| trips[(trips.len() - 1) * percent / 100].as_nanos() as f64 / 1000.0)
    })
}
