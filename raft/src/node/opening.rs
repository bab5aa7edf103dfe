//! Opens a node: its data folder, its threads, its channels and its listener.

use std::{collections::VecDeque, sync::Arc};

use slab::Slab;

use super::{
    Handle, MachinePlacement, Node, NodeError, Options,
    admission::Admission,
    catch_up::CatchUpLog,
    clock::Clock,
    data_folder,
    events::Subscribers,
    incoming::Incoming,
    machine::{Gauges, NodeMachine},
    node_loop::NodeLoop,
    peers::Peers,
    storage_thread::StorageThread,
};
use crate::{
    replica::{Replica, StateMachine},
    types::{ADDRESS_BYTES_MAX, FeatureLevel, Life},
    wire::{Hello, Version},
};

/// Completions that may wait for the loop. The storage thread blocks when they are full.
const COMPLETIONS: usize = 1024;
/// Reports of the state machine's thread that may wait for the loop. The thread blocks when they
/// are full.
const MACHINE_REPORTS: usize = 1024;

impl<S: StateMachine> Node<S> {
    pub(super) fn open_with(
        options: &Options,
        incoming: Incoming,
        state_machine: S,
        event_loop: &mut dyn NodeLoop,
    ) -> Result<Node<S>, NodeError>
    where
        S: Send + 'static,
    {
        let address = advertised_address(options, &incoming)?;
        let mut opened = data_folder::open(options, &address)?;

        // One draw for the two values that must differ between two lives of a node: its nonce and
        // the seed of its jitter.
        let draw = data_folder::random_u128()?;
        let (seed, nonce) = (draw as u64, (draw >> 64) as u64);
        let hello = Hello {
            cluster: opened.identity.cluster,
            group: opened.identity.group,
            node: opened.identity.node,
            disk: opened.identity.disk,
            life: Life { count: opened.saved.life, nonce },
            versions: Version::OLDEST..=Version::NEWEST,
            feature_level: FeatureLevel::CURRENT,
            position: (opened.saved.life > 0).then_some(opened.saved.position),
            has_forgotten: opened.saved.hard_state.forgot.is_some(),
            is_blank: true,
            address,
            metadata: options.metadata.clone(),
        };
        let clock = Clock::new();
        let admission = Admission::new(std::mem::take(&mut opened.saved.peer_records));
        let replica = Replica::new(options.replica_config(seed), opened.saved, clock.now())?;

        let (completion_sender, completions) = event_loop
            .add_completions(COMPLETIONS)
            .map_err(NodeError::setup("channel of completions"))?;
        let (call_sender, calls) = event_loop
            .add_calls(options.handle_calls)
            .map_err(NodeError::setup("channel of calls"))?;
        let storage = StorageThread::start(opened.log, completion_sender)
            .map_err(NodeError::setup("storage thread"))?;
        let (report_sender, machine_reports) = event_loop
            .add_machine_reports(MACHINE_REPORTS)
            .map_err(NodeError::setup("channel of the state machine"))?;
        let gauges = Arc::new(Gauges::new());
        let (folder, id) = (&options.data, options.id);
        let machine = match options.machine {
            MachinePlacement::Inline => {
                NodeMachine::inline(state_machine, folder, id, Arc::clone(&gauges))
            }
            MachinePlacement::Thread => {
                NodeMachine::thread(state_machine, folder, id, Arc::clone(&gauges), report_sender)
                    .map_err(NodeError::setup("state machine's thread"))?
            }
        };
        incoming.register(event_loop)?;
        let handle = Handle::new(call_sender, options.handle_calls);
        let peers = Peers::new(opened.identity.group, options, handle.clone());
        let mut node = Node {
            identity: opened.identity,
            hello,
            clock,
            replica,
            placement: options.machine,
            gauges,
            machine_reports,
            machine,
            catch_up_log: CatchUpLog::default(),
            peers,
            incoming,
            admission,
            completions,
            storage,
            calls,
            handle,
            requesters: Slab::new(),
            subscribers: Subscribers::default(),
            replies: VecDeque::new(),
            incoming_events: Vec::new(),
            timer: None,
            is_recording_disks: false,
            is_removed: false,
        };
        node.begin_bootstrap(event_loop);
        // The log knows the members; the options only name those that bootstrap the cluster.
        node.apply_configuration(event_loop);
        node.on_turn_end(event_loop);
        Ok(node)
    }
}

/// The address that the node gives to the other nodes. The cluster's configuration will hold it.
fn advertised_address(options: &Options, incoming: &Incoming) -> Result<String, NodeError> {
    let listening_on = incoming
        .local_addr()
        .map_err(|source| NodeError::Listen { address: options.listen, source })?;
    if options.advertise.is_none() && listening_on.ip().is_unspecified() {
        return Err(NodeError::Unreachable { id: options.id, address: listening_on });
    }
    let address = options.advertise.clone().unwrap_or_else(|| listening_on.to_string());
    if address.len() > ADDRESS_BYTES_MAX {
        return Err(NodeError::AddressTooLong { len_bytes: address.len() });
    }
    Ok(address)
}
