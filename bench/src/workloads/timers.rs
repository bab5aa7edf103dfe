//! Timers: four mixes of operations, the longest call, spurious wake-ups, and memory.
//!
//! One thread on one core; the time is the thread's processor time. `timers-10m` has ten million
//! timers and takes minutes; `--only` selects structures. `timers-counts` has only the wake-ups and
//! the memory. `timers.py` runs each measurement in a process of its own.

use std::hint::black_box;
use std::io;
use std::time::Instant;

use crate::measure::{Plan, Spread, Table, interleave, three_digits};
use crate::timers::btree_map::OrderedMap;
use crate::timers::delay_queue::TokioDelayQueue;
use crate::timers::four_ary_heap::FourAryHeap;
use crate::timers::kodiak::Kodiak;
use crate::timers::lazy_heap::LazyHeap;
use crate::timers::nexus_timer::NexusTimer;
use crate::timers::quad_wheel::QuadWheel;
use crate::timers::{NotSupported, Timers};
use crate::{sys, usage};

/// Deadlines are up to this number of ticks ahead: a minute.
const RANGE: u64 = 60_000;
/// The least number of operations.
const OPERATIONS: u64 = 400_000;
/// The number of ticks between two calls of `expire` where each timer fires once.
const STEP: usize = 16;

/// Twice as many operations as timers, so that deferred work is done, too; of ten million as many.
fn operations(count: u32) -> u64 {
    OPERATIONS.max(if count < 10_000_000 { 2 } else { 1 } * u64::from(count))
}

/// What one structure needed in one round.
#[derive(Clone, Copy)]
struct Measured {
    /// Nanoseconds for each operation.
    nanos: f64,
    /// The longest call, where single calls were timed.
    longest_micros: Option<f64>,
    /// The 99.9th percentile of the calls.
    p999_micros: Option<f64>,
}

impl Measured {
    /// Adds the times of single calls, in nanoseconds.
    fn with_calls(self, mut calls: Vec<u64>) -> Measured {
        calls.sort_unstable();
        let micros = |nanos: Option<&u64>| nanos.map(|nanos| *nanos as f64 / 1_000.0);
        Measured {
            longest_micros: micros(calls.last()),
            p999_micros: micros(calls.get(calls.len() - 1 - calls.len() / 1_000)),
            ..self
        }
    }
}

type Run = fn(Mix, u32) -> Measured;

/// Prints a row's medians to standard error at once; the tables come at the end.
fn print_progress(begun: Instant, row: &str, names: &[&str], nanos: &[Vec<f64>]) {
    let cells = names.iter().zip(nanos).filter(|(_, nanos)| !nanos.is_empty());
    let cells: Vec<String> = cells
        .map(|(name, nanos)| format!("{name} {}", three_digits(Spread::of(nanos.clone()).median)))
        .collect();
    eprintln!("{:>4} s  {row}: {} ns", begun.elapsed().as_secs(), cells.join(", "));
}

const STRUCTURES: [(&str, Run); 7] = [
    ("kodiak", measure::<Kodiak>),
    ("lazy BinaryHeap", measure::<LazyHeap>),
    ("4-ary heap", measure::<FourAryHeap>),
    ("BTreeMap", measure::<OrderedMap>),
    ("DelayQueue", measure::<TokioDelayQueue>),
    ("quad wheel", measure::<QuadWheel>),
    ("nexus-timer", measure::<NexusTimer>),
];

#[derive(Clone, Copy)]
enum Mix {
    /// A request's timeout: it is cancelled, and one for the next request is set.
    CancelInsert,
    /// All timers are set and fire. The time is for both together.
    InsertFire,
    /// Heartbeats: a timer that fires is set again, one to two seconds ahead.
    FireRearm,
    /// An election or idle timeout that is deferred by a minute.
    Reschedule,
}

pub(crate) fn run(plan: &Plan) -> io::Result<()> {
    sys::pin(sys::SERVER_CORE);
    let chosen: Vec<(&str, Run)> =
        STRUCTURES.into_iter().filter(|(name, _)| plan.includes(name)).collect();
    let names: Vec<&str> = chosen.iter().map(|(name, _)| *name).collect();
    let title = "Timers (ns for each; the first column absolute, then ratios to it)";
    let mut table = Table::new(title, "ns", &names);
    let mut absolute = Table::new("Timers: the same, ns", "ns", &names);
    let begun = Instant::now();
    let title = "The longest call, µs: one cancel + insert; \
                 one that fires and re-arms (512 timers where it can be limited)";
    let mut longest = Table::new(title, "µs", &names);
    for (mix, name) in [
        (Mix::CancelInsert, "cancel + insert"),
        (Mix::InsertFire, "insert, and fire"),
        (Mix::FireRearm, "fire + re-arm"),
        (Mix::Reschedule, "reschedule later"),
    ] {
        for (count, text) in [(1_000, "1 k"), (100_000, "100 k"), (1_000_000, "1 M")] {
            // A round of a million timers takes seconds, so there are at most three.
            let rounds = plan.rounds.min(if count < 1_000_000 { 5 } else { 3 });
            let measured = interleave(rounds, &names, |index| Ok(chosen[index].1(mix, count)))?;
            let column = |field: fn(&Measured) -> Option<f64>| -> Vec<Vec<f64>> {
                measured.iter().map(|rounds| rounds.iter().filter_map(field).collect()).collect()
            };
            print_progress(
                begun,
                &format!("{name}, {text}"),
                &names,
                &column(|measured| Some(measured.nanos)),
            );
            table.ratio_row(format!("{name}, {text}"), &column(|measured| Some(measured.nanos)));
            absolute
                .absolute_row(format!("{name}, {text}"), &column(|measured| Some(measured.nanos)));
            if matches!(mix, Mix::CancelInsert | Mix::FireRearm) {
                let text = format!("{name}, {text}");
                longest.absolute_row(&text, &column(|measured| measured.longest_micros));
                longest.absolute_row(
                    format!("{text}, 99.9 %"),
                    &column(|measured| measured.p999_micros),
                );
            }
        }
    }
    table.print();
    absolute.print();
    longest.print();
    run_counts();
    println!("Timers took {} s.\n", begun.elapsed().as_secs());
    Ok(())
}

/// Prints the spurious wake-ups and the memory.
pub(crate) fn run_counts() {
    print_spurious_wakeups();
    print_memory();
}

/// Ten million timers: one round without a warm-up, because a round takes minutes.
pub(crate) fn run_large(plan: &Plan) -> io::Result<()> {
    sys::pin(sys::SERVER_CORE);
    let chosen: Vec<(&str, Run)> =
        STRUCTURES.into_iter().filter(|(name, _)| plan.includes(name)).collect();
    let names: Vec<&str> = chosen.iter().map(|(name, _)| *name).collect();
    let begun = Instant::now();
    let mut table = Table::new("Ten million timers, ns for each", "ns", &names);
    for (mix, name) in [(Mix::CancelInsert, "cancel + insert"), (Mix::FireRearm, "fire + re-arm")] {
        let measure = |(structure, run): &(&str, Run)| {
            let nanos = vec![run(mix, 10_000_000).nanos];
            print_progress(begun, name, &[structure], std::slice::from_ref(&nanos));
            nanos
        };
        let measured: Vec<Vec<f64>> = chosen.iter().map(measure).collect();
        table.absolute_row(name, &measured);
    }
    table.print();
    Ok(())
}

/// Measures one structure, mix and number of timers, for callgrind and perf.
pub(crate) fn run_single(structure: &str, mix: &str, count: u32) -> io::Result<()> {
    let run = STRUCTURES.iter().find(|(name, _)| *name == structure).ok_or_else(usage)?.1;
    let mix = match mix {
        "cancel-insert" => Mix::CancelInsert,
        "insert-fire" => Mix::InsertFire,
        "fire-rearm" => Mix::FireRearm,
        "reschedule" => Mix::Reschedule,
        _ => return Err(usage()),
    };
    if count <= 100_000 {
        run(mix, count); // warm-up: otherwise page faults dominate
    }
    let measured = run(mix, count);
    print!("{:.1} ns", measured.nanos);
    if let (Some(longest), Some(p999)) = (measured.longest_micros, measured.p999_micros) {
        print!(", the longest call {longest:.1} µs, 99.9 % of them within {p999:.1} µs");
    }
    println!();
    Ok(())
}

/// xorshift64*: the same numbers for every structure.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        ((u128::from(self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)) * u128::from(limit)) >> 64) as u64
    }
}

fn measure<W: Timers>(mix: Mix, count: u32) -> Measured {
    let mut random = Random(0x9E37_79B9_7F4A_7C15);
    match mix {
        Mix::CancelInsert => cancel_insert::<W>(count, &mut random),
        Mix::InsertFire => insert_fire::<W>(count, &mut random),
        Mix::FireRearm => fire_rearm::<W>(count, &mut random),
        Mix::Reschedule => reschedule::<W>(count, &mut random),
    }
}

fn nanos(begun: u64, operations: u64) -> Measured {
    let nanos = (sys::thread_nanos() - begun) as f64 / operations as f64;
    Measured { nanos, longest_micros: None, p999_micros: None }
}

fn filled<W: Timers>(count: u32, random: &mut Random) -> (W, Vec<Option<W::Handle>>) {
    let mut timers = W::new(count as usize);
    let handles =
        (0..count).map(|name| Some(timers.insert(1 + RANGE + random.below(RANGE), name))).collect();
    (timers, handles)
}

fn cancel_insert<W: Timers>(count: u32, random: &mut Random) -> Measured {
    let (mut timers, mut handles) = filled::<W>(count, random);
    let begun = sys::thread_nanos();
    for step in 0..operations(count) {
        cancel_and_insert(&mut timers, &mut handles, random, step);
    }
    let measured = nanos(begun, operations(count));
    // Reading the clock costs more than a pair, so single pairs are timed in a second pass.
    let mut calls: Vec<u64> = Vec::with_capacity(1 << 20);
    for step in operations(count)..operations(count) + u64::from(count).max(OPERATIONS / 8) {
        let begun = sys::thread_nanos();
        cancel_and_insert(&mut timers, &mut handles, random, step);
        calls.push(sys::thread_nanos() - begun);
    }
    measured.with_calls(calls)
}

/// Cancels and sets one timer, and advances the time now and then.
#[inline(always)] // so that no call is measured
fn cancel_and_insert<W: Timers>(
    timers: &mut W,
    handles: &mut [Option<W::Handle>],
    random: &mut Random,
    step: u64,
) {
    let name = random.below(handles.len() as u64) as u32;
    if let Some(handle) = handles[name as usize].take() {
        timers.cancel(handle);
    }
    handles[name as usize] = Some(timers.insert(1 + RANGE + step / 64 + random.below(RANGE), name));
    if step.is_multiple_of(64) {
        timers.expire(step / 64, handles, |_| None);
    }
}

fn insert_fire<W: Timers>(count: u32, random: &mut Random) -> Measured {
    let mut timers = W::new(count as usize);
    let mut handles: Vec<Option<W::Handle>> = (0..count).map(|_| None).collect();
    let begun = sys::thread_nanos();
    for name in 0..count {
        handles[name as usize] = Some(timers.insert(1 + random.below(RANGE), name));
    }
    let mut fired = 0;
    for now in (0..=RANGE).step_by(STEP) {
        loop {
            let expired = timers.expire(now, &mut handles, |_| None);
            fired += expired.count;
            if !expired.has_more {
                break;
            }
        }
    }
    assert_eq!(fired, count as usize);
    nanos(begun, u64::from(count))
}

fn fire_rearm<W: Timers>(count: u32, random: &mut Random) -> Measured {
    let mut timers = W::new(count as usize);
    let mut handles: Vec<Option<W::Handle>> =
        (0..count).map(|name| Some(timers.insert(1 + random.below(1_000), name))).collect();
    let mut now = 0;
    // Fires at least `limit` timers and returns their number. Every call goes through `around`.
    let mut fire = |limit: u64, around: &mut dyn FnMut(&mut dyn FnMut() -> usize)| {
        let mut fired = 0;
        while fired < limit {
            now += 1;
            let mut has_more = true;
            while has_more {
                around(&mut || {
                    let expired = timers
                        .expire(now, &mut handles, |_| Some(now + 1_000 + random.below(1_000)));
                    has_more = expired.has_more;
                    fired += expired.count as u64;
                    expired.count
                });
            }
        }
        fired
    };
    let begun = sys::thread_nanos();
    let fired = fire(operations(count), &mut |call| {
        call();
    });
    let measured = nanos(begun, fired);
    // As above, single calls are timed in a second pass.
    let mut calls = Vec::with_capacity(1 << 20);
    fire(u64::from(count), &mut |call| {
        let begun = sys::thread_nanos();
        call();
        calls.push(sys::thread_nanos() - begun);
    });
    measured.with_calls(calls)
}

fn reschedule<W: Timers>(count: u32, random: &mut Random) -> Measured {
    let (mut timers, mut handles) = filled::<W>(count, random);
    let begun = sys::thread_nanos();
    for step in 0..operations(count) {
        let name = random.below(u64::from(count)) as u32;
        if let Some(handle) = handles[name as usize].take() {
            handles[name as usize] = Some(timers.reschedule(handle, 2 * RANGE + step / 64, name));
        }
    }
    black_box(&handles);
    nanos(begun, operations(count))
}

/// Prints how often a loop wakes without an expired timer.
///
/// There are 1,000 timers within a minute, every second one cancelled.
fn print_spurious_wakeups() {
    fn wakes<W: Timers>() -> String {
        let mut random = Random(7);
        let mut timers = W::new(1_000);
        let mut handles: Vec<Option<W::Handle>> =
            (0..1_000).map(|name| Some(timers.insert(1 + random.below(RANGE), name))).collect();
        for handle in handles.iter_mut().step_by(2).filter_map(Option::take) {
            timers.cancel(handle);
        }
        let (mut now, mut spurious) = (0, 0);
        loop {
            match timers.next() {
                Err(NotSupported) => return "–".to_owned(),
                Ok(None) => return spurious.to_string(),
                Ok(Some(next)) => {
                    // The clock advances, also if the structure wants to be called at once.
                    now = next.max(now + 1);
                    spurious += u32::from(timers.expire(now, &mut handles, |_| None).count == 0);
                }
            }
        }
    }
    println!("### Spurious wake-ups (1,000 timers, every second one cancelled)\n");
    let all = [
        ("kodiak", wakes::<Kodiak>()),
        ("lazy BinaryHeap", wakes::<LazyHeap>()),
        ("4-ary heap", wakes::<FourAryHeap>()),
        ("BTreeMap", wakes::<OrderedMap>()),
        ("DelayQueue", wakes::<TokioDelayQueue>()),
        ("quad wheel", wakes::<QuadWheel>()),
        ("nexus-timer", wakes::<NexusTimer>()),
    ];
    let cells: Vec<String> = all.iter().map(|(name, wakes)| format!("{name} {wakes}")).collect();
    println!("{}\n", cells.join(", "));
}

/// The bytes that the allocator has allocated.
fn allocated() -> usize {
    // SAFETY: no arguments, and it returns numbers.
    let info = unsafe { libc::mallinfo2() };
    info.uordblks + info.hblkhd
}

/// Prints the bytes for each timer: when all are set, and after each was cancelled and set again
/// four times on average, in random order.
fn print_memory() {
    fn bytes<W: Timers>() -> String {
        const COUNT: u32 = 1_000_000;
        // Not counted: the table of handles.
        let mut handles: Vec<Option<W::Handle>> = (0..COUNT).map(|_| None).collect();
        let before = allocated();
        let mut timers = W::new(COUNT as usize);
        let mut random = Random(7);
        for name in 0..COUNT {
            handles[name as usize] = Some(timers.insert(1 + random.below(RANGE), name));
        }
        let each = |now: usize| {
            three_digits(Spread::of(vec![(now - before) as f64 / f64::from(COUNT)]).median)
        };
        let set = each(allocated());
        for _ in 0..4 * COUNT {
            let name = random.below(COUNT.into()) as u32;
            if let Some(handle) = handles[name as usize].take() {
                timers.cancel(handle);
            }
            handles[name as usize] = Some(timers.insert(1 + random.below(RANGE), name));
        }
        let churned = each(allocated());
        std::mem::forget((timers, handles)); // some structures check the handles when dropped
        format!("{set} / {churned}")
    }
    println!(
        "### Bytes a timer (1 M, value of 4 bytes; without the table of handles): \
         set / cancelled and set again\n"
    );
    let all = [
        ("kodiak", bytes::<Kodiak>()),
        ("lazy BinaryHeap", bytes::<LazyHeap>()),
        ("4-ary heap", bytes::<FourAryHeap>()),
        ("BTreeMap", bytes::<OrderedMap>()),
        ("DelayQueue", bytes::<TokioDelayQueue>()),
        ("quad wheel", bytes::<QuadWheel>()),
        ("nexus-timer", bytes::<NexusTimer>()),
    ];
    let cells: Vec<String> = all.iter().map(|(name, bytes)| format!("{name} {bytes}")).collect();
    println!("{}\n", cells.join(", "));
}
