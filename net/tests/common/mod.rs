//! Helpers of several test programs.

use std::time::Duration;

use kodiak_reactor::{EventLoop, Handler, ReadHint, Source};

/// How long a test waits for an event before it fails.
pub(crate) const TEST_TIMEOUT: Duration = Duration::from_secs(20);

/// Whether the backend is libkqueue, which lacks what only a kernel can do. Prints why the caller
/// skips a test then.
#[allow(dead_code)]
pub(crate) fn skip_on_libkqueue(reason: &str) -> bool {
    let skip = cfg!(all(target_os = "linux", kodiak_kqueue));
    if skip {
        println!("skipped: libkqueue {reason}");
    }
    skip
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
    event_loop.timeout((), TEST_TIMEOUT).unwrap();
    event_loop.run(&mut Stop).unwrap();
    event_loop.deregister(source).unwrap();
}
