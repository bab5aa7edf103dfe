//! Well-formed messages of a broken peer, with a term that no cluster reaches.

use std::time::Duration;

use super::checks::{CheckResult, check};
use super::event::SimEvent;
use super::fault_counters::FaultCounter;
use super::world::{World, node_id};
use crate::types::{Append, Body, Echo, Index, Message, Term};

impl World {
    /// One run in eight has a broken peer.
    pub(super) fn schedule_term_out_of_range(&mut self, seed: u64) {
        if seed % 8 == 3 {
            self.schedule_after(self.plan.election_timeout.max, SimEvent::TermOutOfRange);
        }
    }

    /// Delivers such a message, which must change nothing but the counter of ignored terms.
    pub(super) fn send_term_out_of_range(&mut self) -> CheckResult {
        if self.faults_ended {
            return Ok(());
        }
        let pause = self.random.duration(Duration::from_millis(5), Duration::from_millis(300));
        self.schedule_after(pause, SimEvent::TermOutOfRange);
        let (from, to) =
            (self.random.below(self.plan.nodes as u64), self.random.below(self.plan.nodes as u64));
        let (from, to) = (from as usize, to as usize);
        let Some(running) = self.processes[to].running.as_ref().filter(|running| {
            from != to
                && running.replica.failure().is_none()
                && running.replica.core().term() > Term(0)
        }) else {
            return Ok(());
        };
        let own = running.replica.core().term();
        let first_too_far = Term(own.0.saturating_add(Term::JUMP_MAX + 1));
        let term = self.random.pick(&[
            Term(u64::MAX),
            Term(u64::MAX - 1),
            Term(Term::MAX.0 + 1),
            first_too_far,
        ]);
        let body = self.draw_body();
        let message = Message { from: node_id(from), to: node_id(to), term, body };
        self.trace.record(self.now, &message, || {
            format!("node {} is sent an out-of-range {message:?}", to + 1)
        });
        self.count_fault(FaultCounter::TermOutOfRange);
        let seen = |world: &World| {
            let core = world.processes[to].running.as_ref()?.replica.core();
            Some((core.hard_state(), core.role(), core.poll_timeout(), core.status().ignored_terms))
        };
        let before = seen(self);
        let now = self.clock(to);
        if let Some(running) = &mut self.processes[to].running {
            running.replica.handle_message(
                now,
                node_id(from),
                crate::replica::PeerMessage::Raft(message),
            );
        }
        let expected =
            before.map(|(state, role, timeout, ignored)| (state, role, timeout, ignored + 1));
        let found = seen(self);
        check(found == expected, "a term that no cluster reaches changes nothing", || {
            format!("node {} went from {before:?} to {found:?}", to + 1)
        })?;
        self.input(to, |_, _| {})
    }

    fn draw_body(&mut self) -> Body {
        let (last_index, last_term) = (Index(1 << 40), Term(1 << 40));
        match self.random.below(5) {
            0 => Body::RequestPreVote { last_index, last_term },
            1 => Body::RequestVote { last_index, last_term, is_transfer: true },
            2 => Body::Vote { granted: true },
            3 => Body::TimeoutNow,
            _ => Append::default().echo(Echo::of_round(1).with_promise()).into(),
        }
    }
}
