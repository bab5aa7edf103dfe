//! The smallest program: one message, sent before the loop starts, arrives in `notify`.
//!
//! ```sh
//! cargo run --bin hello
//! ```
#![forbid(unsafe_code)]

use std::error::Error;

use kodiak_reactor::{EventLoop, Handler};

struct Hello;

impl Handler<(), String> for Hello {
    fn notify(&mut self, event_loop: &mut EventLoop<(), String>, message: String) {
        println!("{message:?}");
        event_loop.shutdown();
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut event_loop = EventLoop::new()?;
    event_loop.channel().send("Hello".to_owned())?;
    event_loop.run(&mut Hello)?;
    Ok(())
}
