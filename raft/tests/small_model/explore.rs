//! Visits every state within a scope, depth first: the way to the present state is the stack, so
//! that nothing but the fingerprints of what was visited needs to be kept.

use std::fmt;
use std::panic::{self, AssertUnwindSafe};
use std::time::Instant;

use crate::fingerprint::Fingerprints;
use crate::scope::Scope;
use crate::show;
use crate::state::{CHANGES, ClusterState, Step, Violation};

/// What an exploration went through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Extent {
    /// Different states.
    pub(crate) states: usize,
    /// Steps between them.
    pub(crate) steps: usize,
    /// The longest path without a return to a known state.
    pub(crate) depth: usize,
    /// Whether all of the scope was visited.
    pub(crate) is_exhausted: bool,
}

/// A promise was broken.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    pub(crate) promise: &'static str,
    pub(crate) details: String,
    /// What led to it.
    pub(crate) steps: Vec<String>,
    /// How much had been visited.
    pub(crate) extent: Extent,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "broken after {} states: {}: {}",
            self.extent.states, self.promise, self.details
        )?;
        self.steps
            .iter()
            .enumerate()
            .try_for_each(|(number, step)| writeln!(f, "{:>4}  {step}", number + 1))
    }
}

/// The number of states between two lines that report how far the exploration is.
const REPORT_INTERVAL: usize = 5_000_000;

struct Frame {
    state: ClusterState,
    steps: Vec<Step>,
    next: usize,
}

impl Frame {
    fn new(state: ClusterState, scope: &Scope) -> Frame {
        let steps = state.steps(scope);
        Frame { state, steps, next: 0 }
    }
}

/// Visits every state, or `limit` of them. Prints after every few million how far it is.
///
/// # Errors
/// With the first broken promise, and the way to it.
pub(crate) fn explore(scope: &Scope, limit: usize) -> Result<Extent, Box<Failure>> {
    let (begin, initial) = (Instant::now(), ClusterState::initial(scope));
    let mut visited = Fingerprints::default();
    visited.insert(initial.fingerprint());
    let mut extent = Extent { states: 1, ..Extent::default() };
    let mut stack = vec![Frame::new(initial, scope)];
    while let Some(frame) = stack.last_mut() {
        let Some(&step) = frame.steps.get(frame.next) else {
            stack.pop();
            continue;
        };
        frame.next += 1;
        extent.steps += 1;
        let state = match take_step(&frame.state, step, scope) {
            Ok(state) => state,
            Err((promise, details)) => {
                let way = |frame: &Frame| describe(&frame.state, frame.steps[frame.next - 1]);
                let steps = stack.iter().map(way).collect();
                return Err(Box::new(Failure { promise, details, steps, extent }));
            }
        };
        if visited.insert(state.fingerprint()) {
            extent.states += 1;
            stack.push(Frame::new(state, scope));
            extent.depth = extent.depth.max(stack.len() - 1);
            if extent.states == limit {
                return Ok(extent);
            }
            if extent.states.is_multiple_of(REPORT_INTERVAL) {
                let seconds = begin.elapsed().as_secs();
                println!(
                    "  {} million states, {} million steps, {seconds} s",
                    extent.states / 1_000_000,
                    extent.steps / 1_000_000
                );
            }
        }
    }
    Ok(Extent { is_exhausted: true, ..extent })
}

/// Takes a step; the core's own assertions count as promises.
fn take_step(state: &ClusterState, step: Step, scope: &Scope) -> Result<ClusterState, Violation> {
    panic::catch_unwind(AssertUnwindSafe(|| state.after(step, scope))).unwrap_or_else(|panicked| {
        let text = panicked.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panicked.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        Err(("the core's own assertions", text.unwrap_or_default()))
    })
}

fn describe(state: &ClusterState, step: Step) -> String {
    let mut read_requests = show::ReadRequests::default();
    match step {
        Step::Deliver { place } => {
            format!("arrives {}", show::message(&state.wire[place].message, &mut read_requests))
        }
        Step::Repeat { place } => {
            format!(
                "arrives, and stays {}",
                show::message(&state.wire[place].message, &mut read_requests)
            )
        }
        Step::Lose { place } => {
            format!("lost    {}", show::message(&state.wire[place].message, &mut read_requests))
        }
        Step::Written { node } => {
            format!("written {} {}", node + 1, show::write(&state.nodes[node].writes[0]))
        }
        Step::Timeout { node } => format!("timeout of {}", node + 1),
        Step::Tick { node } => format!("leader {} looks at its clock", node + 1),
        Step::Propose { node } => format!("a command for {}", node + 1),
        Step::Change { node, place } => {
            format!("leader {} is asked for {:?}", node + 1, CHANGES[place])
        }
        Step::Transfer { node, to } => {
            format!("leader {} is asked to hand over to {to}", node + 1)
        }
        Step::Forget { node, leader } => {
            format!(
                "{}'s disk is put back to what it was at first; leader {} meets it",
                node + 1,
                leader + 1
            )
        }
        Step::Crash { node, written } => {
            format!("{} crashes and restarts with {written} of its writes", node + 1)
        }
    }
}
