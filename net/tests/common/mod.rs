//! What several test binaries need.

use std::time::Duration;

use kodiak_reactor::{EventLoop, Handler, ReadHint, Source};

/// How long a test waits for an event that must come, before it fails rather than hang.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Whether the backend is libkqueue, which cannot do all that a kernel can; who asks is about to
/// skip something, for a printed reason.
#[allow(dead_code)]
pub(crate) fn libkqueue_lacks(what: &str) -> bool {
    let lacks = cfg!(all(target_os = "linux", kodiak_kqueue));
    if lacks {
        println!("skipped: libkqueue {what}");
    }
    lacks
}

/// Blocks until `source` is readable. Even on loopback the kernel may deliver a moment after the
/// sender's call returned.
pub(crate) fn until_readable(source: &impl Source) {
    struct Stop;
    impl Handler<(), ()> for Stop {
        fn readable(&mut self, event_loop: &mut EventLoop<(), ()>, _: (), _: ReadHint) {
            event_loop.shutdown();
        }

        fn timeout(&mut self, _: &mut EventLoop<(), ()>, _: ()) {
            panic!("the source did not become readable");
        }
    }
    let mut event_loop = EventLoop::new().unwrap();
    event_loop.register(source, ()).unwrap();
    event_loop.timeout((), PATIENCE).unwrap();
    event_loop.run(&mut Stop).unwrap();
    event_loop.deregister(source).unwrap();
}
