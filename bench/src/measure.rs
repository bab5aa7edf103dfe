//! Rounds, medians, and the Markdown table.

use std::fs;
use std::io;
use std::time::Duration;

use crate::{number, usage};

/// What the options choose.
pub(crate) struct Plan {
    pub(crate) rounds: usize,
    /// How long one measurement lasts, where it is limited by time.
    pub(crate) window: Duration,
    /// Only these are measured; `None`: all.
    only: Option<Vec<String>>,
}

impl Plan {
    pub(crate) fn parse(options: &[&str]) -> io::Result<Plan> {
        let mut plan = Plan { rounds: 9, window: Duration::from_millis(200), only: None };
        for pair in options.chunks(2) {
            match pair {
                ["--rounds", count] => plan.rounds = number::<usize>(count)?.max(1),
                ["--millis", count] => plan.window = Duration::from_millis(number(count)?),
                ["--only", names] => {
                    plan.only = Some(names.split(',').map(str::to_owned).collect());
                }
                _ => return Err(usage()),
            }
        }
        Ok(plan)
    }

    pub(crate) fn includes(&self, name: &str) -> bool {
        self.only.as_ref().is_none_or(|only| only.iter().any(|one| one == name))
    }
}

/// Measures every name once a round, so that a disturbance of the machine affects all of them.
///
/// `measure` gets an index into `names`. The first round warms up and is not counted.
pub(crate) fn interleave<M: Clone>(
    rounds: usize,
    names: &[&str],
    mut measure: impl FnMut(usize) -> io::Result<M>,
) -> io::Result<Vec<Vec<M>>> {
    let mut all: Vec<Vec<M>> = vec![Vec::new(); names.len()];
    for round in 0..=rounds {
        for position in 0..names.len() {
            // Another name is first in each round.
            let index = (position + round) % names.len();
            let measured = measure(index)?;
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
        // Of few values, the outermost: the spread must not look smaller than it is.
        Spread { median: values[last / 2], low: values[last / 4], high: values[last - last / 4] }
    }

    /// The spread of `values / first`, round by round.
    pub(crate) fn of_ratios(values: &[f64], first: &[f64]) -> Spread {
        Spread::of(values.iter().zip(first).map(|(value, first)| value / first).collect())
    }
}

/// A Markdown table with one column for each name.
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

    /// Adds a row with the first column's value, and the others' ratios to it.
    ///
    /// `values` has one value for each column and round; none if the column does not support it.
    pub(crate) fn ratio_row(&mut self, name: impl Into<String>, values: &[Vec<f64>]) {
        let reference =
            values.iter().find(|values| !values.is_empty()).cloned().unwrap_or_default();
        let mut is_first = true;
        let cells = values.iter().map(|values| {
            if values.is_empty() {
                return "–".to_owned();
            }
            let spread = Spread::of(values.clone());
            if std::mem::take(&mut is_first) {
                return format!("{} {}", three_digits(spread.median), self.unit);
            }
            let ratio = Spread::of_ratios(values, &reference);
            format!("{:.2} ({:.2}–{:.2})", ratio.median, ratio.low, ratio.high)
        });
        let cells = cells.collect();
        self.rows.push((name.into(), cells));
    }

    /// Adds a row of values with median and quartiles, in the table's unit.
    pub(crate) fn absolute_row(&mut self, name: impl Into<String>, values: &[Vec<f64>]) {
        let cells = values.iter().map(|values| {
            if values.is_empty() {
                return "–".to_owned();
            }
            let Spread { median, low, high } = Spread::of(values.clone());
            format!("{} ({}–{})", three_digits(median), three_digits(low), three_digits(high))
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

/// A value with about three digits.
pub(crate) fn three_digits(value: f64) -> String {
    match value {
        value if value >= 99.5 => format!("{value:.0}"),
        value if value >= 9.95 => format!("{value:.1}"),
        value => format!("{value:.2}"),
    }
}

/// Prints the processor, the kernel, and the load average.
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
