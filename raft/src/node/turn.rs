//! What a node does in a turn of the loop: inputs to the replica, then its effects.

use kodiak_reactor::TryRecvError;

use super::{
    Node, NodeEvent, Requester, bootstrap::Bootstrap, error_chain, event_log, handle::Call,
    incoming::IncomingEvent, node_loop::NodeLoop, peers::LinkChange, token::TokenKind,
};
use crate::{
    core::{self, BootstrapPhase},
    replica::{AdminRequest, Effect, PeerMessage, ReplicaEvent, Request, RequestId, StateMachine},
    storage::{Completion, StorageError},
    types::{Body, Message, Now, Term},
};

/// Calls of handles taken in one turn.
const CALLS_PER_TURN: usize = 1024;

impl<S: StateMachine> Node<S> {
    pub(super) fn on_readable(&mut self, event_loop: &mut dyn NodeLoop, kind: TokenKind) {
        match kind {
            TokenKind::Completions => self.handle_completions(),
            TokenKind::Machine => self.handle_machine_reports(),
            TokenKind::Calls => self.handle_calls(event_loop),
            TokenKind::Listener => self.incoming.accept(event_loop),
            TokenKind::Incoming(slot) => {
                self.update_admission();
                self.incoming.readable(
                    event_loop,
                    slot,
                    &self.hello,
                    &mut self.admission,
                    &mut self.incoming_events,
                );
                self.handle_incoming(event_loop);
            }
            TokenKind::Peer(slot) => {
                self.update_admission();
                self.peers.readable(event_loop, slot, &self.hello, &mut self.admission);
                self.apply_link_changes();
            }
            TokenKind::Deadline => {}
        }
    }

    pub(super) fn on_writable(&mut self, event_loop: &mut dyn NodeLoop, kind: TokenKind) {
        match kind {
            TokenKind::Incoming(slot) => {
                self.incoming.writable(event_loop, slot, &mut self.incoming_events);
                self.handle_incoming(event_loop);
            }
            TokenKind::Peer(slot) => {
                self.peers.writable(event_loop, slot, &self.hello);
                self.apply_link_changes();
            }
            _ => {}
        }
    }

    pub(super) fn on_timeout(&mut self, event_loop: &mut dyn NodeLoop, kind: TokenKind) {
        match kind {
            TokenKind::Deadline => {
                self.timer = None;
                self.replica.handle_timeout(self.clock.now());
                self.save_peer_records();
                if let Some(warning) = self.admission.bootstrap.warning(event_loop.now()) {
                    tracing::warn!(node = self.identity.node.0, "{warning}");
                }
            }
            TokenKind::Listener => self.incoming.resume(event_loop),
            TokenKind::Incoming(slot) => self.incoming.timeout(event_loop, slot),
            TokenKind::Peer(slot) => {
                self.peers.timeout(event_loop, slot, &self.hello);
                self.apply_link_changes();
            }
            _ => {}
        }
    }

    pub(super) fn on_turn_end(&mut self, event_loop: &mut dyn NodeLoop) {
        if self.admission.peer_records.has_forgetful_peers() {
            self.save_peer_records();
        }
        let now = self.clock.now();
        loop {
            while let Some(effect) = self.replica.poll() {
                match effect {
                    Effect::Machine(job) => {
                        let replica = &mut self.replica;
                        self.machine.push(job, &mut |done| replica.handle_machine_done(now, done));
                    }
                    effect => self.execute(event_loop, effect),
                }
            }
            // The disk and the state machine first: they work while the links are written to.
            self.storage.flush();
            self.machine.flush();
            self.peers.flush(event_loop);
            // A leader that was removed still has a successor to call and answers to give.
            if self.is_removed && !self.replica.core().is_leader() {
                self.peers.clear(event_loop);
            }
            // A link that broke during the flush is an input of the replica, with new effects.
            if !self.apply_link_changes() {
                break;
            }
        }
        self.update_bootstrap();
        self.arm_timer(event_loop);
    }

    fn execute(&mut self, event_loop: &mut dyn NodeLoop, effect: Effect) {
        match effect {
            Effect::Send { to, message } => self.peers.send(event_loop, to, &message),
            Effect::Storage(job) => self.storage.push(job),
            Effect::Reply { id, outcome } => match self.requesters.remove(id.0 as usize) {
                Requester::User(id) => self.replies.push_back((id, outcome)),
                Requester::Handle(reply) => reply(outcome),
                Requester::DiskRecord => self.is_recording_disks = false,
            },
            Effect::Event(event) => self.handle_event(event_loop, &event),
            Effect::Machine(_) => unreachable!("the state machine has it"),
        }
    }

    fn handle_event(&mut self, event_loop: &mut dyn NodeLoop, event: &ReplicaEvent) {
        event_log::log_event(self.identity.node, event);
        self.subscribers.publish_event(event, self.replica.core());
        match event {
            ReplicaEvent::Core(core::Event::MembershipChanged { .. }) => {
                self.apply_configuration(event_loop)
            }
            ReplicaEvent::Core(core::Event::Removed { .. }) => self.mark_removed(),
            _ => {}
        }
        self.record_disks();
    }

    /// Connects to the members of the configuration in force.
    pub(super) fn apply_configuration(&mut self, event_loop: &mut dyn NodeLoop) {
        let configuration = self.replica.core().configuration();
        self.admission.apply(configuration);
        if !self.is_removed {
            self.peers.set_members(event_loop, configuration, &self.hello);
        }
    }

    /// Lets the node wait for the other initial members if it knows no term.
    pub(super) fn begin_bootstrap(&mut self, event_loop: &dyn NodeLoop) {
        let (configuration, us) = (self.replica.core().configuration(), self.identity.node);
        self.admission.bootstrap = Bootstrap::new(configuration, us, event_loop.now());
        self.update_bootstrap();
    }

    /// Ends the wait for the initial members once the node knows a term: then the cluster exists.
    fn update_bootstrap(&mut self) {
        self.hello.is_blank = self.replica.core().term() == Term(0);
        self.hello.has_forgotten = self.replica.core().has_forgotten();
        if !self.hello.is_blank {
            self.admission.bootstrap.end();
        }
        self.replica.set_bootstrap(match self.admission.bootstrap.is_waiting() {
            true => BootstrapPhase::Pending,
            false => BootstrapPhase::Complete,
        });
    }

    /// Gives the replica what was learnt of other nodes' disks; the log's next write includes it.
    ///
    /// Called at every deadline, so at every heartbeat of a leader: often enough, and without work
    /// for each answer.
    fn save_peer_records(&mut self) {
        self.admission.peer_records.report_to(&mut self.replica, self.clock.now());
    }

    /// Brings the admission rules up to date before a handshake is judged.
    fn update_admission(&mut self) {
        self.update_bootstrap();
        let core = self.replica.core();
        let index = core.configuration_index();
        self.admission.set_configuration(core.configuration(), index, index <= core.commit());
    }

    fn mark_removed(&mut self) {
        if !std::mem::replace(&mut self.is_removed, true) {
            self.subscribers.publish(&NodeEvent::Removed);
            tracing::error!(
                node = self.identity.node.0,
                "this node was removed from the cluster and takes part in nothing: stop it. To use \
                 its machine again, let it join with an empty data folder and a new id"
            );
        }
    }

    /// Writes the disks of initial members into the configuration, if this node leads.
    ///
    /// Initial members do not know each other's disks before they have met. Once the configuration
    /// holds a member's disk, every node rejects that member with another disk.
    fn record_disks(&mut self) {
        if self.is_recording_disks || !self.replica.core().is_leader() {
            return;
        }
        let changes = self.admission.unrecorded_disks(&self.hello);
        if !changes.is_empty() {
            self.is_recording_disks = true;
            self.submit_for(
                Requester::DiskRecord,
                Request::Admin(AdminRequest::ChangeMembership(changes)),
            );
        }
    }

    /// Arms the node's one timer at the replica's deadline.
    ///
    /// Every heartbeat moves the deadline later, which costs one store.
    fn arm_timer(&mut self, event_loop: &mut dyn NodeLoop) {
        let wanted = self.replica.poll_timeout();
        match (self.timer, wanted) {
            (Some((_, armed)), Some(wanted)) if armed == wanted => {}
            (Some((timer, _)), Some(wanted)) => {
                let moved = event_loop.reset_timeout_at(timer, self.clock.instant(wanted));
                self.timer = moved.is_ok().then_some((timer, wanted));
            }
            (None, Some(wanted)) => {
                let timer = event_loop.timeout_at(TokenKind::Deadline, self.clock.instant(wanted));
                self.timer = timer.ok().map(|timer| (timer, wanted));
            }
            (Some((timer, _)), None) => {
                event_loop.clear_timeout(timer);
                self.timer = None;
            }
            (None, None) => {}
        }
        assert!(self.timer.is_some() == wanted.is_some(), "the replica's deadline has a timer");
    }

    pub(super) fn submit_for(&mut self, requester: Requester, request: Request) {
        let id = RequestId(self.requesters.insert(requester) as u64);
        self.replica.submit(self.clock.now(), id, request);
    }

    pub(super) fn handle_calls(&mut self, event_loop: &mut dyn NodeLoop) {
        for _ in 0..CALLS_PER_TURN {
            match self.calls.try_recv() {
                Ok(Call::Request(request, reply)) => {
                    self.submit_for(Requester::Handle(reply), request);
                }
                Ok(Call::Status(reply)) => reply(self.status()),
                Ok(Call::Subscribe(capacity, reply)) => reply(self.subscribe(capacity)),
                Ok(Call::Resolved(resolved)) => {
                    self.peers.handle_resolved(event_loop, resolved, &self.hello);
                }
                // The channel cannot close: the node holds a handle itself.
                Err(_) => return,
            }
        }
    }

    fn handle_completions(&mut self) {
        loop {
            let completion = self.completions.try_recv();
            // The clock is read after the completion has arrived.
            let now = self.clock.now();
            match completion {
                Ok(Completion::Done(done)) => self.replica.handle_done(now, done),
                Ok(Completion::Synced { position }) => {
                    self.hello.position = Some(position);
                    self.replica.note_durable_sequence(position.sequence);
                }
                Ok(Completion::SnapshotFailed { index, error }) => {
                    self.replica.handle_snapshot_failure(now, index, &error);
                }
                Ok(Completion::Failed(error)) => self.fail_log(now, &error),
                Err(TryRecvError::Empty) => return,
                Err(_) => {
                    return self.fail_log(now, &StorageError::ThreadPanicked);
                }
            }
        }
    }

    fn handle_machine_reports(&mut self) {
        loop {
            let report = self.machine_reports.try_recv();
            let now = self.clock.now();
            match report {
                Ok(report) => {
                    report
                        .done
                        .into_iter()
                        .for_each(|done| self.replica.handle_machine_done(now, done));
                    self.machine.finish_jobs(report.ended_jobs);
                }
                Err(TryRecvError::Empty) => break,
                // A machine on the loop has no sender. A panic on the machine's thread is
                // contained, so the thread does not end before the node.
                Err(_) => return,
            }
        }
        self.catch_up_log.update(self.identity.node, &self.replica);
    }

    fn fail_log(&mut self, now: Now, error: &StorageError) {
        tracing::error!(
            node = self.identity.node.0,
            error = error_chain(error),
            "this node's log has failed: the node takes part in nothing until it is started again"
        );
        self.replica.handle_storage_failure(now, error);
    }

    fn handle_incoming(&mut self, event_loop: &mut dyn NodeLoop) {
        let now = self.clock.now();
        let mut events = std::mem::take(&mut self.incoming_events);
        for event in events.drain(..) {
            match event {
                IncomingEvent::Message(from, message) => {
                    if is_vote_request(&message) && self.admission.is_removed(from) {
                        // The node has missed its removal. It learns of it in its next handshake.
                        self.incoming.hang_up(
                            event_loop,
                            from,
                            "no longer a member",
                            &mut self.incoming_events,
                        );
                    } else {
                        self.admission.peer_records.observe_message(from, &message);
                        self.replica.handle_message(now, from, message);
                    }
                }
                IncomingEvent::Up(node, address) if !self.is_removed => {
                    self.note_feature_levels();
                    self.peers.incoming_link_up(event_loop, node, address, &self.hello);
                }
                IncomingEvent::Up(..) => {}
                IncomingEvent::Down(node) => {
                    self.peers.incoming_link_down(event_loop, node);
                    // Answers to what this node forwarded came over that link.
                    self.replica.handle_disconnected(now, node);
                    // Forwarding goes on if the link that this node made is up.
                    if self.peers.is_up(node) {
                        self.replica.handle_connected(now, node);
                    }
                }
            }
        }
        let further = std::mem::replace(&mut self.incoming_events, events);
        if !further.is_empty() {
            self.incoming_events.extend(further);
            return self.handle_incoming(event_loop);
        }
        self.apply_link_changes();
    }

    /// Reports changed links to the replica, and returns whether there were any.
    fn apply_link_changes(&mut self) -> bool {
        let mut any = false;
        while let Some(change) = self.peers.poll_change() {
            any = true;
            let now = self.clock.now();
            match change {
                LinkChange::Up(peer) => self.replica.handle_connected(now, peer),
                LinkChange::Down(peer) => self.replica.handle_disconnected(now, peer),
                LinkChange::Removed(by) => {
                    tracing::error!(
                        node = self.identity.node.0,
                        by = by.0,
                        "a peer rejects this node: it was removed from the cluster"
                    );
                    self.replica.handle_removed(now);
                    self.mark_removed();
                }
            }
        }
        if any {
            self.note_feature_levels();
            self.record_disks();
        }
        any
    }

    fn note_feature_levels(&mut self) {
        for (peer, level) in std::mem::take(&mut self.admission.feature_levels) {
            self.replica.note_feature_level(peer, level);
        }
    }
}

fn is_vote_request(message: &PeerMessage) -> bool {
    matches!(
        message,
        PeerMessage::Raft(Message {
            body: Body::RequestPreVote { .. } | Body::RequestVote { .. },
            ..
        })
    )
}
