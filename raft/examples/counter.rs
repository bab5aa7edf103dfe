//! A replicated counter: three nodes in one process, on ports that the kernel chooses.
//!
//! The program writes with futures, while another thread prints each change of leader. It uses only
//! the public API.
//!
//! `cargo run --release -p kodiak-raft --example counter`
#![forbid(unsafe_code)]

use std::{
    collections::BTreeMap,
    error::Error,
    future::Future,
    io::{self, Read},
    net::TcpListener,
    path::Path,
    pin::pin,
    sync::Arc,
    task::{Context, Poll, Wake, Waker},
    thread,
};

use bytes::Bytes;
use kodiak_raft::{
    node::{CallError, NodeEvent, Options, Running, start_listening},
    replica::{Committed, MachineError, Query, StateMachine},
    types::NodeId,
};

/// Adds up numbers.
#[derive(Default)]
struct Counter(u64);

impl StateMachine for Counter {
    fn apply(&mut self, entry: &Committed<'_>) -> Result<Bytes, MachineError> {
        let number = entry.command.try_into().map_or(0, u64::from_le_bytes);
        self.0 = self.0.wrapping_add(number);
        Ok(Bytes::copy_from_slice(&self.0.to_le_bytes()))
    }

    fn query(&self, _: &Query<'_>) -> Bytes {
        Bytes::copy_from_slice(&self.0.to_le_bytes())
    }

    fn snapshot(&self) -> Box<dyn Read + Send> {
        Box::new(io::Cursor::new(self.0.to_le_bytes()))
    }

    fn restore(&mut self, snapshot: &mut dyn Read) -> io::Result<()> {
        let mut bytes = [0; 8];
        snapshot.read_exact(&mut bytes)?;
        self.0 = u64::from_le_bytes(bytes);
        Ok(())
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let nodes = start_three(folder.path())?;
    let events = nodes[0].subscribe(64)?;
    let watcher = thread::spawn(move || {
        // Ends when the node stops.
        for event in events {
            if let NodeEvent::LeaderChanged { leader: Some(leader), term, .. } = event {
                println!("node {leader} leads term {term}");
            }
        }
    });
    for (place, node) in nodes.iter().enumerate() {
        let node = node.handle().to_async();
        let (total, index) = block_on(async {
            let number = Bytes::copy_from_slice(&(place as u64 + 1).to_le_bytes());
            let _written = loop {
                match node.write(number.clone()).await {
                    // Certainly without effect: there may be no leader yet.
                    Err(CallError::Refused(_)) => {}
                    other => break other?,
                }
            };
            // Linearizable: through any node, it includes the writes above.
            let read = node.read("").await?;
            Ok::<_, CallError>((read.bytes, read.index))
        })?;
        let total = total[..].try_into().map_or(0, u64::from_le_bytes);
        println!("the counter is {total} at index {}", index.unwrap_or_default());
    }
    for node in nodes {
        node.stop()?;
    }
    watcher.join().map_err(|_| "the watcher has panicked")?;
    Ok(())
}

fn start_three(folder: &Path) -> Result<Vec<Running>, Box<dyn Error>> {
    let mut listeners = BTreeMap::new();
    for id in (1..=3).map(NodeId) {
        listeners.insert(id, TcpListener::bind("127.0.0.1:0")?);
    }
    let mut addresses = BTreeMap::new();
    for (&id, listener) in &listeners {
        addresses.insert(id, listener.local_addr()?.to_string());
    }
    let mut nodes = Vec::new();
    for (id, listener) in listeners {
        let data = folder.join(format!("node-{id}"));
        let mut options = Options::new(id, data, listener.local_addr()?);
        options.peers = addresses.clone();
        options.peers.remove(&id);
        nodes.push(start_listening(&options, listener, Counter::default())?);
    }
    Ok(nodes)
}

/// The smallest possible executor. Any other works, too.
fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(thread::Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park(),
        }
    }
}
