//! What the workloads with a server have in common: start it, warm it up, run the load, see what both cost.

use std::io;
use std::time::Instant;

use crate::load::Enough;
use crate::measure::{Plan, Table, alternate};
use crate::peers::{self, Peer};
use crate::server::Server;
use crate::sys;

/// Of one operation: time that passed, and the server's processor time.
#[derive(Clone, Copy)]
struct Cost {
    nanos: f64,
    processor_nanos: f64,
}

/// Two tables, filled row by row.
pub(crate) struct Served<'a> {
    plan: &'a Plan,
    service: &'static str,
    chosen: Vec<&'static dyn Peer>,
    passed: Table,
    processor: Table,
}

impl<'a> Served<'a> {
    pub(crate) fn new(plan: &'a Plan, what: &str, service: &'static str) -> Served<'a> {
        sys::pin(sys::LOAD_CORE);
        let chosen: Vec<_> = peers::ALL.iter().copied().filter(|peer| plan.wants(peer.name())).collect();
        let names: Vec<&str> = chosen.iter().map(|peer| peer.name()).collect();
        let passed = Table::new(format!("{what}: time per operation"), "µs", &names);
        let processor = Table::new(format!("{what}: the server's processor time per operation"), "µs", &names);
        Served { plan, service, chosen, passed, processor }
    }

    /// Measures one row. `prepare` makes the load ready for a server; what it returns runs until it is enough and says how
    /// many operations that was.
    pub(crate) fn row<L: FnMut(Enough) -> io::Result<u64>>(
        &mut self,
        name: &str,
        mut prepare: impl FnMut(&Server) -> io::Result<L>,
    ) -> io::Result<()> {
        let names: Vec<&str> = self.chosen.iter().map(|peer| peer.name()).collect();
        let slice = self.plan.slice;
        let measured = alternate(self.plan.rounds, &names, |index| {
            let server = Server::start(self.chosen[index], self.service)?;
            let mut load = prepare(&server)?;
            load(Enough::Time(slice / 4))?;
            let (before, begun) = (sys::processor_nanos(server.pid())?, Instant::now());
            let done = load(Enough::Time(slice))? as f64;
            let nanos = begun.elapsed().as_nanos() as f64 / done;
            let processor_nanos = (sys::processor_nanos(server.pid())? - before) as f64 / done;
            Ok(Cost { nanos, processor_nanos })
        });
        let measured = measured.map_err(|error| io::Error::new(error.kind(), format!("{name}: {error}")))?;
        let column = |of: fn(&Cost) -> f64| -> Vec<Vec<f64>> {
            measured.iter().map(|rounds| rounds.iter().map(|cost| of(cost) / 1000.0).collect()).collect()
        };
        self.passed.row(name, &column(|cost| cost.nanos));
        self.processor.row(name, &column(|cost| cost.processor_nanos));
        Ok(())
    }

    pub(crate) fn print(&self) {
        self.processor.print();
        self.passed.print();
    }
}
