//! Messages from other threads to a loop that sleeps when it has none, the wakes included; and a round trip to such a loop.
//!
//! Receiver on the server's core, senders on the load's core. A bounded channel holds 4096; who finds it full yields.

use std::io;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use crate::channels::{ALL, Bound, Channel, Sending};
use crate::measure::{Plan, Table, alternate};
use crate::sys;

const MESSAGES: u64 = 100_000;
const ROUND_TRIPS: usize = 2_000;
/// The last message of each sender.
const LAST: u64 = u64::MAX;

pub(crate) fn run(plan: &Plan) -> io::Result<()> {
    let chosen: Vec<&dyn Channel> = ALL.iter().copied().filter(|channel| plan.wants(channel.name())).collect();
    let names: Vec<&str> = chosen.iter().map(|channel| channel.name()).collect();
    let mut table = Table::new("Channels: time for each message", "ns", &names);
    for (senders, bound, text) in [
        (1, Bound::Of(4096), "one sender, bounded"),
        (1, Bound::None, "one sender, unbounded"),
        (4, Bound::Of(4096), "four senders, bounded"),
        (4, Bound::None, "four senders, unbounded"),
    ] {
        let measured = alternate(plan.rounds, &names, |index| Ok(stream(chosen[index], senders, bound)))?;
        table.plain_row(text, &measured);
    }
    table.print();
    let mut table = Table::new("Channels: a round trip to a loop that sleeps", "µs", &names);
    for (cores, text) in [([sys::SERVER_CORE, sys::LOAD_CORE], "two cores"), ([sys::SERVER_CORE; 2], "one core")] {
        let measured = alternate(plan.rounds, &names, |index| Ok(round_trip(chosen[index], cores)))?;
        for (part, percent) in [(0, "p50"), (1, "p99")] {
            let column = measured.iter().map(|rounds| rounds.iter().map(|trip: &[f64; 2]| trip[part]).collect());
            table.plain_row(format!("{text}, {percent}"), &column.collect::<Vec<_>>());
        }
    }
    table.print();
    Ok(())
}

/// Nanoseconds a message.
fn stream(channel: &dyn Channel, senders: u64, bound: Bound) -> f64 {
    let (handles, lent) = mpsc::channel::<Box<dyn Sending>>();
    let begun = Instant::now();
    thread::scope(|scope| {
        scope.spawn(move || {
            sys::pin(sys::LOAD_CORE);
            let Ok(first) = lent.recv() else { return };
            let others: Vec<Box<dyn Sending>> = (1..senders).map(|_| first.another()).collect();
            thread::scope(|scope| {
                for mut sender in others.into_iter().chain([first]) {
                    scope.spawn(move || {
                        sys::pin(sys::LOAD_CORE);
                        sender.send_many(MESSAGES / senders);
                        sender.send(LAST);
                    });
                }
            });
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
        assert_eq!(sum, MESSAGES / senders * senders);
    });
    begun.elapsed().as_nanos() as f64 / MESSAGES as f64
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
            Bound::Of(4096),
            &mut |sender| handles.send(sender).expect("the asker waits for it"),
            &mut |message| message != LAST && back.send(message).is_ok(),
        );
        let mut trips: Vec<Duration> = asker.join().expect("the asker ended well");
        trips.sort();
        [50, 99].map(|percent| trips[(trips.len() - 1) * percent / 100].as_nanos() as f64 / 1000.0)
    })
}
