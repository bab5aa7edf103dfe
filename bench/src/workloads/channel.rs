//! Messages from other threads to a loop that sleeps when it has none: what a message costs in a stream, the wakes included;
//! what a send and a receive cost alone, with nobody at the other end; and a round trip to a loop that sleeps.
//!
//! Receiver on the server's core, senders on the load's core. A bounded channel holds 4096; who finds it full yields.

use std::hint;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Barrier, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use crate::channels::{ALL, Bound, Channel, Sending};
use crate::measure::{Plan, Table, alternate};
use crate::sys;

const STREAM: u64 = 400_000;
const BURST: u64 = 2_000;
const BURSTS: u64 = 100;
const ROUND_TRIPS: usize = 5_000;
const CAPACITY: usize = 4096;
/// The last message of each sender.
const LAST: u64 = u64::MAX;
/// Tells the receiver to stay away from its queue until it is called back.
const BUSY: u64 = u64::MAX - 1;

/// The column of [`word`].
const THE_WORD: &str = "a word to the other core";

const TWO_CORES: [usize; 2] = [sys::SERVER_CORE, sys::LOAD_CORE];
const ONE_CORE: [usize; 2] = [sys::SERVER_CORE; 2];

pub(crate) fn run(plan: &Plan) -> io::Result<()> {
    let chosen: Vec<&dyn Channel> = ALL.iter().copied().filter(|channel| plan.wants(channel.name())).collect();
    let names: Vec<&str> = chosen.iter().map(|channel| channel.name()).collect();
    // What the machine's cores ask for a word, in the same rounds: it differs fourfold from one hour to the next.
    let with_the_word: Vec<&str> = names.iter().copied().chain([THE_WORD]).collect();
    let mut table = Table::new("Channels: a stream of messages, time for each", "ns", &with_the_word);
    for (senders, bound, text) in [
        (1, Bound::Of(CAPACITY), "one sender, bounded"),
        (1, Bound::None, "one sender, unbounded"),
        (4, Bound::Of(CAPACITY), "four senders, bounded"),
        (4, Bound::None, "four senders, unbounded"),
    ] {
        let measured = alternate(plan.rounds, &with_the_word, |index| {
            Ok(chosen.get(index).map_or_else(word, |channel| stream(*channel, senders, bound)))
        })?;
        table.plain_row(text, &measured);
    }
    table.print();
    let mut table =
        Table::new("Channels: one end alone, the other being busy elsewhere, time for each message", "ns", &names);
    for (bound, text) in [(Bound::Of(CAPACITY), "bounded"), (Bound::None, "unbounded")] {
        for (cores, place) in [(TWO_CORES, "two cores"), (ONE_CORE, "one core")] {
            let measured = alternate(plan.rounds, &names, |index| Ok(bursts(chosen[index], bound, cores)))?;
            table.plain_row(format!("send, {bound}, {place}", bound = text), &column(&measured, 0));
            table.plain_row(format!("receive, {bound}, {place}", bound = text), &column(&measured, 1));
        }
    }
    table.print();
    let mut table = Table::new("Channels: a round trip to a loop that sleeps", "µs", &names);
    for (cores, text) in [(TWO_CORES, "two cores"), (ONE_CORE, "one core")] {
        let measured = alternate(plan.rounds, &names, |index| Ok(round_trip(chosen[index], cores)))?;
        table.plain_row(format!("{text}, p50"), &column(&measured, 0));
        table.plain_row(format!("{text}, p99"), &column(&measured, 1));
    }
    table.print();
    Ok(())
}

/// Nanoseconds until the other core sees a word that this one has written: two threads that do nothing but answer each other.
fn word() -> f64 {
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
        await_word(back, 1); // The other one is there.
        let begun = Instant::now();
        for number in 2..=TIMES {
            there.0.store(number, Ordering::Release);
            await_word(back, number);
        }
        begun.elapsed().as_nanos() as f64 / (2 * (TIMES - 1)) as f64
    })
}

/// One of two figures that were measured together.
fn column(measured: &[Vec<[f64; 2]>], part: usize) -> Vec<Vec<f64>> {
    measured.iter().map(|rounds| rounds.iter().map(|both| both[part]).collect()).collect()
}

/// One measurement alone, for `perf` and `strace`.
pub(crate) fn alone(name: &str, what: &str, count: u64) -> io::Result<()> {
    let found = ALL.iter().find(|channel| channel.name() == name).ok_or_else(crate::usage)?;
    for _ in 0..count {
        match what {
            "stream" => println!("{:.1} ns a message", stream(*found, 1, Bound::Of(CAPACITY))),
            "stream-4" => println!("{:.1} ns a message", stream(*found, 4, Bound::Of(CAPACITY))),
            "stream-unbounded" => println!("{:.1} ns a message", stream(*found, 1, Bound::None)),
            "bursts" => {
                let [send, receive] = bursts(*found, Bound::Of(CAPACITY), TWO_CORES);
                println!("send {send:.1} ns, receive {receive:.1} ns");
            }
            "trips" => {
                let [p50, p99] = round_trip(*found, ONE_CORE);
                println!("p50 {p50:.2} µs, p99 {p99:.2} µs");
            }
            _ => return Err(crate::usage()),
        }
    }
    Ok(())
}

/// Nanoseconds a message, from the first send to the last receive, sleeps and wakes of the loop included.
fn stream(channel: &dyn Channel, senders: u64, bound: Bound) -> f64 {
    let (handles, lent) = mpsc::channel::<Box<dyn Sending>>();
    thread::scope(|scope| {
        let sending = scope.spawn(move || {
            sys::pin(sys::LOAD_CORE);
            let first = lent.recv().expect("a sender");
            let others: Vec<Box<dyn Sending>> = (1..senders).map(|_| first.another()).collect();
            let ready = &Barrier::new(senders as usize);
            thread::scope(|scope| {
                let threads = others.into_iter().chain([first]).map(|mut sender| {
                    scope.spawn(move || {
                        sys::pin(sys::LOAD_CORE);
                        ready.wait();
                        let begun = Instant::now();
                        sender.send_many(STREAM / senders);
                        sender.send(LAST);
                        begun
                    })
                });
                let threads: Vec<_> = threads.collect();
                threads.into_iter().map(|thread| thread.join().expect("a sender ended well")).min()
            })
        });
        sys::pin(sys::SERVER_CORE);
        let (mut sum, mut ended) = (0, 0);
        channel.receive(
            bound,
            &mut |sender| handles.send(sender).expect("the senders' thread waits for it"),
            &mut |message| {
                if message == LAST {
                    ended += 1;
                } else {
                    sum += message;
                }
                ended < senders
            },
        );
        let over = Instant::now();
        assert_eq!(sum, STREAM / senders * senders);
        let begun = sending.join().expect("the senders ended well").expect("there was a sender");
        over.saturating_duration_since(begun).as_nanos() as f64 / STREAM as f64
    })
}

/// Nanoseconds a send while the receiver is awake and busy with something else, and nanoseconds a receive while nobody
/// sends: the middle ones of many bursts.
fn bursts(channel: &dyn Channel, bound: Bound, cores: [usize; 2]) -> [f64; 2] {
    let (handles, lent) = mpsc::channel::<Box<dyn Sending>>();
    // Odd: the receiver has turned to something else. Even: the sender is done, the receiver may look at its queue.
    let phase = &AtomicU64::new(0);
    let spins = cores[0] != cores[1];
    let await_phase = move |wanted: u64| {
        while phase.load(Ordering::Acquire) != wanted {
            if spins { hint::spin_loop() } else { thread::park() }
        }
    };
    let receiver = thread::current();
    thread::scope(|scope| {
        let sending = scope.spawn(move || {
            sys::pin(cores[1]);
            let mut sender = lent.recv().expect("a sender");
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
        let sender = sending.thread().clone();
        let (mut burst, mut received, mut begun) = (0, 0, Instant::now());
        let mut costs = Vec::with_capacity(BURSTS as usize);
        channel.receive(
            bound,
            &mut |sender| handles.send(sender).expect("the sender's thread waits for it"),
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
        let sent = sending.join().expect("the sender ended well");
        [sent, costs].map(|mut costs| {
            costs.sort();
            costs[costs.len() / 2].as_nanos() as f64 / BURST as f64
        })
    })
}

/// Microseconds: the middle one and the 99th of a hundred.
fn round_trip(channel: &dyn Channel, cores: [usize; 2]) -> [f64; 2] {
    let (handles, lent) = mpsc::channel::<Box<dyn Sending>>();
    let (back, answers) = mpsc::sync_channel::<u64>(1);
    thread::scope(|scope| {
        let asker = scope.spawn(move || {
            sys::pin(cores[1]);
            let mut sender = lent.recv().expect("a sender");
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
            Bound::Of(CAPACITY),
            &mut |sender| handles.send(sender).expect("the asker waits for it"),
            &mut |message| message != LAST && back.send(message).is_ok(),
        );
        let mut trips: Vec<Duration> = asker.join().expect("the asker ended well");
        trips.sort();
        [50, 99].map(|percent| trips[(trips.len() - 1) * percent / 100].as_nanos() as f64 / 1000.0)
    })
}
