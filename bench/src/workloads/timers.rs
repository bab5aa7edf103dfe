//! Timers: four mixes, the longest single call, and memory. One thread, one core, its processor time.

use std::hint::black_box;
use std::io;

use crate::measure::{Plan, Spread, Table, alternate, short};
use crate::timers::Timers;
use crate::timers::btree::BTree;
use crate::timers::four_ary::FourAry;
use crate::timers::kodiak::Kodiak;
use crate::timers::lazy_heap::LazyHeap;
use crate::timers::nexus::Nexus;
use crate::timers::quad::Quad;
use crate::timers::tokio_util::Delays;
use crate::{sys, usage};

/// Deadlines lie up to so many ticks ahead: a minute.
const RANGE: u64 = 60_000;
/// At least so many, and twice as many as there are timers, so that what is put off comes due.
const OPERATIONS: u64 = 400_000;
/// How far time moves at once where a timer fires once.
const STEP: usize = 16;

fn operations(count: u32) -> u64 {
    OPERATIONS.max(2 * u64::from(count))
}

/// What one peer did in one round: ns an operation (`None`: it cannot), and the longest call where that was timed.
#[derive(Clone, Copy, Default)]
struct Measured {
    nanos: Option<f64>,
    longest_micros: Option<f64>,
}

type Run = fn(Mix, u32) -> Measured;

const PEERS: [(&str, Run); 7] = [
    ("kodiak", measure::<Kodiak>),
    ("BinaryHeap, lazy", measure::<LazyHeap>),
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
    let mut longest = Table::new(
        "The longest single call that expires and re-arms, µs (512 timers where it can be limited)",
        "µs",
        &names,
    );
    for (mix, name) in [
        (Mix::CancelInsert, "cancel + insert"),
        (Mix::InsertFire, "insert, and fire"),
        (Mix::FireRearm, "fire + re-arm"),
        (Mix::Reschedule, "reschedule later"),
    ] {
        for (count, text) in [(1_000, "1 k"), (100_000, "100 k"), (1_000_000, "1 M")] {
            let measured = alternate(plan.rounds.min(5), &names, |index| Ok(chosen[index].1(mix, count)))?;
            let column = |of: fn(&Measured) -> Option<f64>| -> Vec<Vec<f64>> {
                measured.iter().map(|rounds| rounds.iter().filter_map(of).collect()).collect()
            };
            table.row(format!("{name}, {text}"), &column(|measured| measured.nanos));
            plain.plain_row(format!("{name}, {text}"), &column(|measured| measured.nanos));
            if matches!(mix, Mix::FireRearm) {
                longest.plain_row(text, &column(|measured| measured.longest_micros));
            }
        }
    }
    table.print();
    plain.print();
    longest.print();
    memory();
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
    println!("{:.1} ns", run(mix, count).nanos.unwrap_or(f64::NAN));
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
        Mix::InsertFire if W::EXPIRES => insert_fire::<W>(count, &mut random),
        Mix::FireRearm if W::EXPIRES => fire_rearm::<W>(count, &mut random),
        Mix::Reschedule => reschedule::<W>(count, &mut random),
        Mix::InsertFire | Mix::FireRearm => Measured::default(),
    }
}

fn nanos(begun: u64, operations: u64) -> Measured {
    Measured { nanos: Some((sys::thread_nanos() - begun) as f64 / operations as f64), longest_micros: None }
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
        let name = random.below(u64::from(count)) as u32;
        if let Some(handle) = handles[name as usize].take() {
            timers.cancel(handle);
        }
        handles[name as usize] = Some(timers.insert(1 + RANGE + step / 64 + random.below(RANGE), name));
        if step % 64 == 0 && W::EXPIRES {
            timers.expire(step / 64, &mut handles, |_| None);
        }
    }
    nanos(begun, operations(count))
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
    // The clock around each call would cost more than the call: a second time round for the longest.
    let mut longest = 0;
    fire(u64::from(count), &mut |call| {
        let begun = sys::thread_nanos();
        call();
        longest = longest.max(sys::thread_nanos() - begun);
    });
    Measured { longest_micros: Some(longest as f64 / 1_000.0), ..measured }
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

/// What the allocator has handed out.
fn allocated() -> usize {
    // SAFETY: no arguments, plain numbers back.
    let info = unsafe { libc::mallinfo2() };
    info.uordblks + info.hblkhd
}

fn memory() {
    fn bytes<W: Timers>() -> f64 {
        const COUNT: u32 = 1_000_000;
        let before = allocated();
        let mut timers = W::new(COUNT as usize);
        let mut random = Random(7);
        for name in 0..COUNT {
            // A handle that may not be dropped belongs to the table, which is not counted.
            std::mem::forget(timers.insert(1 + random.below(RANGE), name));
        }
        let bytes = (allocated() - before) as f64 / f64::from(COUNT);
        std::mem::forget(timers); // some insist on the handles
        bytes
    }
    println!("### Bytes a timer (1 M, value of 4 bytes; the table of handles not counted)\n");
    let all = [
        ("kodiak", bytes::<Kodiak>()),
        ("BinaryHeap, lazy", bytes::<LazyHeap>()),
        ("4-ary heap", bytes::<FourAry>()),
        ("BTreeMap", bytes::<BTree>()),
        ("DelayQueue", bytes::<Delays>()),
        ("quad wheel", bytes::<Quad>()),
        ("nexus-timer", bytes::<Nexus>()),
    ];
    let cells: Vec<String> =
        all.iter().map(|(name, bytes)| format!("{name} {}", short(Spread::of(vec![*bytes]).median))).collect();
    println!("{}\n", cells.join(", "));
}
