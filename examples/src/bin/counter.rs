//! A handler with state: it adds up the messages.
//!
//! ```sh
//! cargo run --bin counter
//! ```
#![forbid(unsafe_code)]

use std::error::Error;

use kodiak_reactor::{EventLoop, Handler};

const MESSAGES: u64 = 5;

#[derive(Default)]
struct Counter {
    received: u64,
    total: u64,
}

impl Handler<(), u64> for Counter {
    fn notify(&mut self, event_loop: &mut EventLoop<(), u64>, message: u64) {
        self.received += 1;
        self.total += message;
        println!("Message: {message}, Total: {}", self.total);
        if self.received == MESSAGES {
            event_loop.shutdown();
        }
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut event_loop = EventLoop::new()?;
    let sender = event_loop.channel();
    for message in 0..MESSAGES {
        sender.send(message)?;
    }
    event_loop.run(&mut Counter::default())?;
    Ok(())
}
