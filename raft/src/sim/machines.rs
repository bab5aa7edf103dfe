//! A node's state machine: at once, or on a thread of its own.

use super::checks::Verdict;
use super::happening::Happening;
use super::world::World;
use crate::replica::Effect;

impl World {
    pub(super) fn hand_to_machine(&mut self, node: usize, effect: Effect) -> Verdict {
        let process = &mut self.processes[node];
        let life = process.life;
        let Some(running) = &mut process.running else { return Ok(()) };
        running.to_apply.push_back(effect);
        let Some(delay) = self.plan.apply_delay else { return self.run_machine(node) };
        if running.to_apply.len() == 1 {
            let delay = self.random.duration(delay);
            self.after(delay, Happening::Apply { node, life });
        }
        Ok(())
    }

    pub(super) fn apply(&mut self, node: usize) -> Verdict {
        self.run_machine(node)?;
        self.drain(node)
    }

    /// The state machine does everything that it was asked for.
    fn run_machine(&mut self, node: usize) -> Verdict {
        let now = self.clock(node);
        loop {
            let Some(running) = &mut self.processes[node].running else { return Ok(()) };
            let Some(effect) = running.to_apply.pop_front() else { return Ok(()) };
            if let Effect::TakeSnapshot(meta) = &effect {
                self.checks.is_state_of(node, meta, &running.machine)?;
            }
            match running.machine.run(now, &mut running.replica, effect) {
                Some(Effect::Storage(job)) => self.store(node, job)?,
                Some(Effect::Restore(meta)) => {
                    if !running.restore(now, &meta) {
                        // The replica has failed with it, and a node carries nothing more out.
                        running.to_apply.clear();
                        return Ok(());
                    }
                    self.checks.is_state_of(node, &meta, &running.machine)?;
                }
                _ => {}
            }
        }
    }
}
