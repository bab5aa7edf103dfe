//! Rounds, medians, and the Markdown table.

use std::fs;
use std::io;
use std::time::Duration;

use crate::{number, usage};

/// How long and how often, and who.
pub(crate) struct Plan {
    pub(crate) rounds: usize,
    pub(crate) slice: Duration,
    peers: Option<Vec<String>>,
}

impl Plan {
    pub(crate) fn parse(options: &[&str]) -> io::Result<Plan> {
        let mut plan = Plan { rounds: 9, slice: Duration::from_millis(200), peers: None };
        for pair in options.chunks(2) {
            match pair {
                ["--rounds", count] => plan.rounds = number::<usize>(count)?.max(1),
                ["--millis", count] => plan.slice = Duration::from_millis(number(count)?),
                ["--peers", names] => plan.peers = Some(names.split(',').map(str::to_owned).collect()),
                _ => return Err(usage()),
            }
        }
        Ok(plan)
    }

    pub(crate) fn wants(&self, peer: &str) -> bool {
        self.peers.as_ref().is_none_or(|peers| peers.iter().any(|name| name == peer))
    }
}

/// Measures every name once a round, in turn, so that what disturbs the machine disturbs all. `one` is given an index
/// into `names`. A first round that is thrown away warms everything up.
pub(crate) fn alternate<M: Clone>(
    rounds: usize,
    names: &[&str],
    mut one: impl FnMut(usize) -> io::Result<M>,
) -> io::Result<Vec<Vec<M>>> {
    let mut all: Vec<Vec<M>> = vec![Vec::new(); names.len()];
    for round in 0..=rounds {
        for place in 0..names.len() {
            // Somebody else begins in each round: to come after a given peer may be good or bad luck.
            let index = (place + round) % names.len();
            let measured = one(index)?;
            if round > 0 {
                all[index].push(measured);
            }
        }
    }
    Ok(all)
}

/// Median and quartiles.
#[derive(Clone, Copy)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    low: f64,
    high: f64,
}

impl Spread {
    pub(crate) fn of(mut values: Vec<f64>) -> Spread {
        values.sort_by(f64::total_cmp);
        let last = values.len() - 1;
        // Of few values the outer ones: a spread should not look smaller than it is.
        Spread { median: values[last / 2], low: values[last / 4], high: values[last - last / 4] }
    }

    /// Of the values divided, round by round, by those of the first.
    pub(crate) fn of_ratios(values: &[f64], first: &[f64]) -> Spread {
        Spread::of(values.iter().zip(first).map(|(value, first)| value / first).collect())
    }
}

/// A table whose first column is the row's name, whose second says the first peer's value and whose others are ratios.
pub(crate) struct Table {
    title: String,
    unit: &'static str,
    names: Vec<String>,
    rows: Vec<(String, Vec<String>)>,
}

impl Table {
    pub(crate) fn new(title: impl Into<String>, unit: &'static str, names: &[&str]) -> Table {
        Table {
            title: title.into(),
            unit,
            names: names.iter().map(|name| (*name).to_owned()).collect(),
            rows: Vec::new(),
        }
    }

    /// A row of what was measured: for each peer one value a round; empty if it has no such thing.
    pub(crate) fn row(&mut self, name: impl Into<String>, values: &[Vec<f64>]) {
        let reference = values.iter().find(|values| !values.is_empty()).cloned().unwrap_or_default();
        let mut is_first = true;
        let cells = values.iter().map(|values| {
            if values.is_empty() {
                return "–".to_owned();
            }
            let own = Spread::of(values.clone());
            if std::mem::take(&mut is_first) {
                return format!("{} {}", short(own.median), self.unit);
            }
            let ratio = Spread::of_ratios(values, &reference);
            format!("{:.2} ({:.2}–{:.2})", ratio.median, ratio.low, ratio.high)
        });
        let cells = cells.collect();
        self.rows.push((name.into(), cells));
    }

    /// A row of plain values: median and quartiles in the table's unit.
    pub(crate) fn plain_row(&mut self, name: impl Into<String>, values: &[Vec<f64>]) {
        let cells = values.iter().map(|values| {
            if values.is_empty() {
                return "–".to_owned();
            }
            let own = Spread::of(values.clone());
            format!("{} ({}–{})", short(own.median), short(own.low), short(own.high))
        });
        let cells = cells.collect();
        self.rows.push((name.into(), cells));
    }

    pub(crate) fn print(&self) {
        println!("### {}\n", self.title);
        println!("| | {} |", self.names.join(" | "));
        println!("|---|{}", "---|".repeat(self.names.len()));
        for (name, cells) in &self.rows {
            println!("| {name} | {} |", cells.join(" | "));
        }
        println!();
    }
}

/// Three digits or so.
pub(crate) fn short(value: f64) -> String {
    match value {
        value if value >= 99.5 => format!("{value:.0}"),
        value if value >= 9.95 => format!("{value:.1}"),
        value => format!("{value:.2}"),
    }
}

/// What this runs on and how busy it is.
pub(crate) fn print_machine() {
    let cpus = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpus.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or(": ?");
    let count = cpus.lines().filter(|line| line.starts_with("processor")).count();
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load: Vec<&str> = load.split(' ').take(3).collect();
    println!(
        "{count} × {}, Linux {}, load at the start {}\n",
        model.trim_start_matches([':', ' ', '\t']),
        kernel.trim(),
        load.join(" ")
    );
}
