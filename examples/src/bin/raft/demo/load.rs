//! The demo's writers: one for each node, all at the same time.

use std::{error::Error, net::SocketAddr, sync::mpsc, thread, time::Duration};

use redis_protocol::resp2::types::BytesFrame;

use crate::client::BlockingClient;

/// Requests that a writer has in flight.
const PIPELINE: usize = 50;

/// The outcomes of the writes.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// Keys whose write was acknowledged: these must never be lost.
    pub(super) acknowledged: Vec<String>,
    /// Writes that were answered with an error, or not at all. They may have been applied or not.
    pub(super) unknown: usize,
}

impl Tally {
    /// The value that belongs to a key.
    pub(super) fn value_of(key: &str) -> String {
        format!("value-of-{key}")
    }

    pub(super) fn add(&mut self, other: Tally) {
        self.acknowledged.extend(other.acknowledged);
        self.unknown += other.unknown;
    }
}

/// Keys to be written.
#[derive(Clone, Copy, Debug)]
pub(super) struct Load {
    pub(super) prefix: &'static str,
    pub(super) keys: usize,
}

impl Load {
    /// Writes the keys, a share through each of `addresses`. After each outcome, calls `watch` with
    /// the number of acknowledged keys.
    pub(super) fn run(
        self,
        addresses: &[SocketAddr],
        timeout: Duration,
        mut watch: impl FnMut(usize),
    ) -> Result<Tally, Box<dyn Error>> {
        let (done, results) = mpsc::channel();
        let mut tally = Tally::default();
        thread::scope(|scope| {
            for (at, &address) in addresses.iter().enumerate() {
                let share: Vec<String> = (at..self.keys)
                    .step_by(addresses.len())
                    .map(|number| format!("{}-{number}", self.prefix))
                    .collect();
                let done = done.clone();
                scope.spawn(move || write(address, &share, timeout, &done));
            }
            drop(done);
            for (key, acknowledged) in results {
                if acknowledged {
                    tally.acknowledged.push(key)
                } else {
                    tally.unknown += 1
                }
                watch(tally.acknowledged.len());
            }
        });
        if tally.acknowledged.is_empty() {
            return Err("not one write was acknowledged".into());
        }
        Ok(tally)
    }
}

/// Writes `keys` through one node. When its connection fails, the outcomes of the keys in flight
/// and of the rest are reported as unknown: the node was killed.
fn write(
    address: SocketAddr,
    keys: &[String],
    timeout: Duration,
    done: &mpsc::Sender<(String, bool)>,
) {
    let mut client = BlockingClient::connect(address, timeout).ok();
    for batch in keys.chunks(PIPELINE) {
        if let Some(client) = &mut client {
            batch.iter().for_each(|key| client.push_request(&["SET", key, &Tally::value_of(key)]));
        }
        let mut broken = client.as_mut().is_none_or(|client| client.flush().is_err());
        for key in batch {
            let reply = if broken {
                None
            } else {
                client.as_mut().and_then(|client| client.read_reply().ok())
            };
            broken |= reply.is_none();
            let acknowledged = matches!(reply, Some(BytesFrame::SimpleString(ok)) if ok == "OK");
            // The receiver lives as long as the scope.
            let _ = done.send((key.clone(), acknowledged));
        }
        if broken {
            client = None;
        }
    }
}
