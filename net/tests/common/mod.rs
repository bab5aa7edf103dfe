//! What several test binaries need.

use kodiak_reactor::{EventLoop, Handler, ReadHint, Source};

/// Blocks until `source` is readable. Even on loopback the kernel may deliver a moment after the sender's call returned.
pub(crate) fn until_readable(source: &impl Source) {
    struct Stop;
    impl Handler<(), ()> for Stop {
        fn readable(&mut self, event_loop: &mut EventLoop<(), ()>, _: (), _: ReadHint) {
            event_loop.shutdown();
        }
    }
    let mut event_loop = EventLoop::new().unwrap();
    event_loop.register(source, ()).unwrap();
    event_loop.run(&mut Stop).unwrap();
    event_loop.deregister(source).unwrap();
}
