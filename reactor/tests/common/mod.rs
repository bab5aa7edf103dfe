//! What the tests share: a handler made of one closure, and sockets to watch.
#![allow(dead_code, unreachable_pub)]

use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;

use kodiak_reactor::{EventLoop, Handler, Io, ReadHint, SigInfo};

/// Whether the backend is libkqueue, which lacks what only a kernel can do. Prints why the caller
/// skips a test then.
pub fn skip_on_libkqueue(reason: &str) -> bool {
    let skip = cfg!(all(target_os = "linux", kodiak_kqueue));
    if skip {
        println!("skipped: libkqueue {reason}");
    }
    skip
}

pub type Loop = EventLoop<u32, u32>;

/// One callback, as data.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Seen {
    Readable(u32, ReadHint),
    Writable(u32),
    Priority(u32),
    Timeout(u32),
    Notify(u32),
    Signal(SigInfo),
    Interrupted,
    TurnEnd,
}

/// Calls one closure for every callback.
pub struct On<F>(pub F);

impl<F: FnMut(&mut Loop, Seen)> Handler<u32, u32> for On<F> {
    fn readable(&mut self, event_loop: &mut Loop, token: u32, hint: ReadHint) {
        (self.0)(event_loop, Seen::Readable(token, hint));
    }
    fn writable(&mut self, event_loop: &mut Loop, token: u32) {
        (self.0)(event_loop, Seen::Writable(token));
    }
    fn priority(&mut self, event_loop: &mut Loop, token: u32) {
        (self.0)(event_loop, Seen::Priority(token));
    }
    fn timeout(&mut self, event_loop: &mut Loop, token: u32) {
        (self.0)(event_loop, Seen::Timeout(token));
    }
    fn notify(&mut self, event_loop: &mut Loop, message: u32) {
        (self.0)(event_loop, Seen::Notify(message));
    }
    fn signal(&mut self, event_loop: &mut Loop, info: SigInfo) {
        (self.0)(event_loop, Seen::Signal(info));
    }
    fn interrupted(&mut self, event_loop: &mut Loop) {
        (self.0)(event_loop, Seen::Interrupted);
    }
    fn turn_end(&mut self, event_loop: &mut Loop) {
        (self.0)(event_loop, Seen::TurnEnd);
    }
}

/// A pair of sockets: ours, to be watched, and theirs, which stays blocking.
pub fn pair() -> (Io<UnixStream>, UnixStream) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    ours.set_nonblocking(true).unwrap();
    (Io::new(ours), theirs)
}

/// A pair of which ours has a byte to read.
pub fn ready() -> (Io<UnixStream>, UnixStream) {
    let (ours, mut theirs) = pair();
    theirs.write_all(b"x").unwrap();
    (ours, theirs)
}

/// Reads until there is nothing left. Returns how much there was.
pub fn drain(io: &Io<UnixStream>) -> usize {
    let mut total = 0;
    loop {
        match io.get_ref().read(&mut [0; 256]) {
            Ok(0) => return total,
            Ok(n) => total += n,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return total,
            Err(error) => panic!("reading: {error}"),
        }
    }
}

/// The callbacks of one turn that does not wait.
pub fn poll(event_loop: &mut Loop) -> Vec<Seen> {
    let mut seen = Vec::new();
    event_loop
        .run_once(
            &mut On(|_: &mut Loop, call| {
                if call != Seen::TurnEnd {
                    seen.push(call);
                }
            }),
            Some(std::time::Duration::ZERO),
        )
        .unwrap();
    seen
}

/// The tokens of sources that were called readable.
pub fn readable_tokens(seen: &[Seen]) -> Vec<u32> {
    seen.iter()
        .filter_map(|call| if let Seen::Readable(token, _) = call { Some(*token) } else { None })
        .collect()
}
