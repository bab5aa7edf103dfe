//! The common part of workloads with a server: start, warm up, run the load, measure the cost.

use std::io;
use std::time::Instant;

use crate::io_stacks::{self, IoStack};
use crate::load::Limit;
use crate::measure::{Plan, Table, interleave};
use crate::server::Server;
use crate::sys;

/// The cost of one operation: the elapsed time, and the server's processor time.
#[derive(Clone, Copy)]
struct Cost {
    nanos: f64,
    processor_nanos: f64,
}

/// A table of elapsed time and a table of processor time.
pub(crate) struct ServerCost<'a> {
    plan: &'a Plan,
    service: &'static str,
    chosen: Vec<&'static dyn IoStack>,
    elapsed: Table,
    processor: Table,
}

impl<'a> ServerCost<'a> {
    pub(crate) fn new(plan: &'a Plan, what: &str, service: &'static str) -> ServerCost<'a> {
        sys::pin(sys::LOAD_CORE);
        let chosen: Vec<_> =
            io_stacks::ALL.iter().copied().filter(|stack| plan.includes(stack.name())).collect();
        let names: Vec<&str> = chosen.iter().map(|stack| stack.name()).collect();
        let elapsed = Table::new(format!("{what}: time per operation"), "µs", &names);
        let processor =
            Table::new(format!("{what}: the server's processor time per operation"), "µs", &names);
        ServerCost { plan, service, chosen, elapsed, processor }
    }

    /// Measures one row. `prepare` makes the load for a server; the load runs until a limit and
    /// returns the number of operations.
    pub(crate) fn row<L: FnMut(Limit) -> io::Result<u64>>(
        &mut self,
        name: &str,
        mut prepare: impl FnMut(&Server) -> io::Result<L>,
    ) -> io::Result<()> {
        let names: Vec<&str> = self.chosen.iter().map(|stack| stack.name()).collect();
        let window = self.plan.window;
        let measured = interleave(self.plan.rounds, &names, |index| {
            let server = Server::start(self.chosen[index], self.service)?;
            let mut load = prepare(&server)?;
            load(Limit::Time(window / 4))?;
            let (before, begun) = (sys::processor_nanos(server.pid())?, Instant::now());
            let done = load(Limit::Time(window))? as f64;
            let nanos = begun.elapsed().as_nanos() as f64 / done;
            let processor_nanos = (sys::processor_nanos(server.pid())? - before) as f64 / done;
            Ok(Cost { nanos, processor_nanos })
        });
        let measured = measured.map_err(|error| {
            let text = format!("{name}: {}", kodiak_raft::error_chain(&error));
            io::Error::new(error.kind(), text)
        })?;
        let column = |field: fn(&Cost) -> f64| -> Vec<Vec<f64>> {
            measured
                .iter()
                .map(|rounds| rounds.iter().map(|cost| field(cost) / 1000.0).collect())
                .collect()
        };
        self.elapsed.ratio_row(name, &column(|cost| cost.nanos));
        self.processor.ratio_row(name, &column(|cost| cost.processor_nanos));
        Ok(())
    }

    pub(crate) fn print(&self) {
        self.processor.print();
        self.elapsed.print();
    }
}
