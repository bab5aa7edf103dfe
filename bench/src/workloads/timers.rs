//! Timers: four mixes, the longest single call, wake-ups for nothing, and memory. One thread, one core, its processor time.
//!
//! Ten million timers (`timers-10m`) take minutes; `--peers` chooses. Wake-ups and memory alone: `timers-counts`. One mix and number
//! of timers after the other, each measurement in a process of its own: `timers.py`.

use std::hint::black_box;
use std::io;
use std::time::Instant;

use crate::measure::{Plan, Spread, Table, alternate, short};
use crate::timers::btree::BTree;
use crate::timers::four_ary::FourAry;
use crate::timers::kodiak::Kodiak;
use crate::timers::lazy_heap::LazyHeap;
use crate::timers::nexus::Nexus;
use crate::timers::quad::Quad;
use crate::timers::tokio_util::Delays;
use crate::timers::{Timers, Unknown};
use crate::{sys, usage};

/// Deadlines lie up to so many ticks ahead: a minute.
const RANGE: u64 = 60_000;
/// At least so many, and twice as many as there are timers (of ten million as many), so that what is put off comes due.
const OPERATIONS: u64 = 400_000;
/// How far time moves at once where a timer fires once.
const STEP: usize = 16;

fn operations(count: u32) -> u64 {
    OPERATIONS.max(if count < 10_000_000 { 2 } else { 1 } * u64::from(count))
}

/// What one peer did in one round: ns an operation, and of the calls that expire the longest, and one that 999 of 1000 do not
/// exceed, where that was timed.
#[derive(Clone, Copy)]
struct Measured {
    nanos: f64,
    longest_micros: Option<f64>,
    p999_micros: Option<f64>,
}

impl Measured {
    /// With so many nanoseconds for each of the calls.
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

/// Says at once, beside the tables that come at the end, what a row is like: the medians.
fn progress(begun: Instant, row: &str, names: &[&str], nanos: &[Vec<f64>]) {
    let cells = names.iter().zip(nanos).filter(|(_, nanos)| !nanos.is_empty());
    let cells: Vec<String> =
        cells.map(|(name, nanos)| format!("{name} {}", short(Spread::of(nanos.clone()).median))).collect();
    eprintln!("{:>4} s  {row}: {} ns", begun.elapsed().as_secs(), cells.join(", "));
}

const PEERS: [(&str, Run); 7] = [
    ("kodiak", measure::<Kodiak>),
    ("lazy BinaryHeap", measure::<LazyHeap>),
    ("4-ary heap", measure::<FourAry>),
    ("BTreeMap", measure::<BTree>),
    ("DelayQueue", measure::<Delays>),
    ("quad wheel", measure::<Quad>),
    ("nexus-timer", measure::<Nexus>),
];

#[derive(Clone, Copy)]
enum Mix {
    /// A request's timeout: cancelled, and set for the next request.
    CancelInsert,
    /// All are set, all fire; for each timer both.
    InsertFire,
    /// Heartbeats: each that fires is set again, one to two seconds ahead.
    FireRearm,
    /// An election or idle timeout that is pushed back a minute.
    Reschedule,
}

pub(crate) fn run(plan: &Plan) -> io::Result<()> {
    sys::pin(sys::SERVER_CORE);
    let chosen: Vec<(&str, Run)> = PEERS.into_iter().filter(|(name, _)| plan.wants(name)).collect();
    let names: Vec<&str> = chosen.iter().map(|(name, _)| *name).collect();
    let mut table = Table::new("Timers (ns for each; the first column absolute, then ratios to it)", "ns", &names);
    let mut plain = Table::new("Timers: the same, ns", "ns", &names);
    let begun = Instant::now();
    let title = "The longest single call, µs: one cancel + insert; one that fires and re-arms (512 timers where it can be limited)";
    let mut longest = Table::new(title, "µs", &names);
    for (mix, name) in [
        (Mix::CancelInsert, "cancel + insert"),
        (Mix::InsertFire, "insert, and fire"),
        (Mix::FireRearm, "fire + re-arm"),
        (Mix::Reschedule, "reschedule later"),
    ] {
        for (count, text) in [(1_000, "1 k"), (100_000, "100 k"), (1_000_000, "1 M")] {
            // A million takes seconds a round: three of them, so that all takes some minutes.
            let rounds = plan.rounds.min(if count < 1_000_000 { 5 } else { 3 });
            let measured = alternate(rounds, &names, |index| Ok(chosen[index].1(mix, count)))?;
            let column = |of: fn(&Measured) -> Option<f64>| -> Vec<Vec<f64>> {
                measured.iter().map(|rounds| rounds.iter().filter_map(of).collect()).collect()
            };
            progress(begun, &format!("{name}, {text}"), &names, &column(|measured| Some(measured.nanos)));
            table.row(format!("{name}, {text}"), &column(|measured| Some(measured.nanos)));
            plain.plain_row(format!("{name}, {text}"), &column(|measured| Some(measured.nanos)));
            if matches!(mix, Mix::CancelInsert | Mix::FireRearm) {
                let text = format!("{name}, {text}");
                longest.plain_row(&text, &column(|measured| measured.longest_micros));
                longest.plain_row(format!("{text}, 99.9 %"), &column(|measured| measured.p999_micros));
            }
        }
    }
    table.print();
    plain.print();
    longest.print();
    run_counts();
    println!("Timers took {} s.\n", begun.elapsed().as_secs());
    Ok(())
}

/// Wake-ups for nothing, and memory.
pub(crate) fn run_counts() {
    spurious();
    memory();
}

/// Ten million timers: one round without a first one, for its length.
pub(crate) fn run_large(plan: &Plan) -> io::Result<()> {
    sys::pin(sys::SERVER_CORE);
    let chosen: Vec<(&str, Run)> = PEERS.into_iter().filter(|(name, _)| plan.wants(name)).collect();
    let names: Vec<&str> = chosen.iter().map(|(name, _)| *name).collect();
    let begun = Instant::now();
    let mut table = Table::new("Ten million timers, ns for each", "ns", &names);
    for (mix, name) in [(Mix::CancelInsert, "cancel + insert"), (Mix::FireRearm, "fire + re-arm")] {
        let one = |(peer, run): &(&str, Run)| {
            let nanos = vec![run(mix, 10_000_000).nanos];
            progress(begun, name, &[peer], std::slice::from_ref(&nanos));
            nanos
        };
        let measured: Vec<Vec<f64>> = chosen.iter().map(one).collect();
        table.plain_row(name, &measured);
    }
    table.print();
    Ok(())
}

/// One peer, one mix, one number of timers: for callgrind and perf.
pub(crate) fn alone(peer: &str, mix: &str, count: u32) -> io::Result<()> {
    let run = PEERS.iter().find(|(name, _)| *name == peer).ok_or_else(usage)?.1;
    let mix = match mix {
        "cancel-insert" => Mix::CancelInsert,
        "insert-fire" => Mix::InsertFire,
        "fire-rearm" => Mix::FireRearm,
        "reschedule" => Mix::Reschedule,
        _ => return Err(usage()),
    };
    if count <= 100_000 {
        run(mix, count); // or what is measured is how the kernel hands out memory
    }
    let measured = run(mix, count);
    print!("{:.1} ns", measured.nanos);
    if let (Some(longest), Some(p999)) = (measured.longest_micros, measured.p999_micros) {
        print!(", the longest call {longest:.1} µs, 99.9 % of them within {p999:.1} µs");
    }
    println!();
    Ok(())
}

/// xorshift64*: the same numbers for everybody.
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
    let handles = (0..count).map(|name| Some(timers.insert(1 + RANGE + random.below(RANGE), name))).collect();
    (timers, handles)
}

fn cancel_insert<W: Timers>(count: u32, random: &mut Random) -> Measured {
    let (mut timers, mut handles) = filled::<W>(count, random);
    let begun = sys::thread_nanos();
    for step in 0..operations(count) {
        pair(&mut timers, &mut handles, random, step);
    }
    let measured = nanos(begun, operations(count));
    // The clock around each pair would cost more than the pair: a second time round for the longest.
    let mut calls: Vec<u64> = Vec::with_capacity(1 << 20);
    for step in operations(count)..operations(count) + u64::from(count).max(OPERATIONS / 8) {
        let begun = sys::thread_nanos();
        pair(&mut timers, &mut handles, random, step);
        calls.push(sys::thread_nanos() - begun);
    }
    measured.with_calls(calls)
}

/// A timer is cancelled and set anew; time goes on.
#[inline(always)] // or it is called, and the call measured
fn pair<W: Timers>(timers: &mut W, handles: &mut [Option<W::Handle>], random: &mut Random, step: u64) {
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
            if !expired.more {
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
    // Fires so many and says how many it were; `around` is given each call.
    let mut fire = |enough: u64, around: &mut dyn FnMut(&mut dyn FnMut() -> usize)| {
        let mut fired = 0;
        while fired < enough {
            now += 1;
            let mut more = true;
            while more {
                around(&mut || {
                    let expired = timers.expire(now, &mut handles, |_| Some(now + 1_000 + random.below(1_000)));
                    more = expired.more;
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
    // As above, a second time round for the longest.
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

/// A thousand timers within a minute, every second one cancelled, and a loop that sleeps until the structure says.
fn spurious() {
    fn wakes<W: Timers>() -> String {
        let mut random = Random(7);
        let mut timers = W::new(1_000);
        let mut handles: Vec<Option<W::Handle>> =
            (0..1_000).map(|name| Some(timers.insert(1 + random.below(RANGE), name))).collect();
        for handle in handles.iter_mut().step_by(2).filter_map(Option::take) {
            timers.cancel(handle);
        }
        let (mut now, mut for_nothing) = (0, 0);
        loop {
            match timers.next() {
                Err(Unknown) => return "–".to_owned(),
                Ok(None) => return for_nothing.to_string(),
                Ok(Some(next)) => {
                    // The clock goes on, also for one who asks to be called at once.
                    now = next.max(now + 1);
                    for_nothing += u32::from(timers.expire(now, &mut handles, |_| None).count == 0);
                }
            }
        }
    }
    println!("### Wake-ups for nothing (1,000 timers, every second one cancelled)\n");
    let all = [
        ("kodiak", wakes::<Kodiak>()),
        ("lazy BinaryHeap", wakes::<LazyHeap>()),
        ("4-ary heap", wakes::<FourAry>()),
        ("BTreeMap", wakes::<BTree>()),
        ("DelayQueue", wakes::<Delays>()),
        ("quad wheel", wakes::<Quad>()),
        ("nexus-timer", wakes::<Nexus>()),
    ];
    let cells: Vec<String> = all.iter().map(|(name, wakes)| format!("{name} {wakes}")).collect();
    println!("{}\n", cells.join(", "));
}

/// What the allocator has handed out.
fn allocated() -> usize {
    // SAFETY: no arguments, plain numbers back.
    let info = unsafe { libc::mallinfo2() };
    info.uordblks + info.hblkhd
}

/// Bytes a timer: when all have been set, and when each was cancelled and set again four times, in any order.
fn memory() {
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
        let each = |now: usize| short(Spread::of(vec![(now - before) as f64 / f64::from(COUNT)]).median);
        let set = each(allocated());
        for _ in 0..4 * COUNT {
            let name = random.below(COUNT.into()) as u32;
            if let Some(handle) = handles[name as usize].take() {
                timers.cancel(handle);
            }
            handles[name as usize] = Some(timers.insert(1 + random.below(RANGE), name));
        }
        let churned = each(allocated());
        std::mem::forget((timers, handles)); // some insist on the handles
        format!("{set} / {churned}")
    }
    println!(
        "### Bytes a timer (1 M, value of 4 bytes; the table of handles not counted): set / cancelled and set again\n"
    );
    let all = [
        ("kodiak", bytes::<Kodiak>()),
        ("lazy BinaryHeap", bytes::<LazyHeap>()),
        ("4-ary heap", bytes::<FourAry>()),
        ("BTreeMap", bytes::<BTree>()),
        ("DelayQueue", bytes::<Delays>()),
        ("quad wheel", bytes::<Quad>()),
        ("nexus-timer", bytes::<Nexus>()),
    ];
    let cells: Vec<String> = all.iter().map(|(name, bytes)| format!("{name} {bytes}")).collect();
    println!("{}\n", cells.join(", "));
}
