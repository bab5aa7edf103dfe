//! The channels: what sends and what receives, each with the wait that belongs to it. `bare` ones sleep in the channel's own
//! blocking receive (nothing else can wake them); the others sleep in a loop that could also serve sockets.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

/// How many messages may wait.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bound {
    Of(usize),
    None,
}

/// A sender on its thread.
pub(crate) trait Sending: Send {
    fn another(&self) -> Box<dyn Sending>;

    /// Sends, yielding while there is no room.
    fn send(&mut self, message: u64);

    /// Sends ones: inside, so that the call through this trait is not what is measured.
    fn send_many(&mut self, count: u64);
}

/// A channel and its receiver's way of waiting.
pub(crate) trait Channel: Sync {
    fn name(&self) -> &'static str;

    /// Makes a channel, lends a sender, and gives each message to `each` until that says `false`.
    fn receive(&self, bound: Bound, lend: &mut dyn FnMut(Box<dyn Sending>), each: &mut dyn FnMut(u64) -> bool);
}

pub(crate) const ALL: &[&dyn Channel] =
    &[&Kodiak, &Spinning, &MioCrossbeam, &MioStd, &MioExtras, &Calloop, &Tokio, &Crossbeam, &Flume, &Kanal];

/// A sender that is a closure: `true` if there was room.
struct Sender<F>(F);

impl<F: FnMut(u64) -> bool + Clone + Send + 'static> Sending for Sender<F> {
    fn another(&self) -> Box<dyn Sending> {
        Box::new(Sender(self.0.clone()))
    }

    fn send(&mut self, message: u64) {
        while !(self.0)(message) {
            thread::yield_now();
        }
    }

    fn send_many(&mut self, count: u64) {
        for _ in 0..count {
            self.send(1);
        }
    }
}

fn sender(send: impl FnMut(u64) -> bool + Clone + Send + 'static) -> Box<dyn Sending> {
    Box::new(Sender(send))
}

/// Ours: the loop, its channel, its handler. (The loop's own channel is always bounded; unbounded is the bare crate with the
/// same notifier over a kernel waker.)
struct Kodiak;

impl Channel for Kodiak {
    fn name(&self) -> &'static str {
        "kodiak"
    }

    fn receive(&self, bound: Bound, lend: &mut dyn FnMut(Box<dyn Sending>), each: &mut dyn FnMut(u64) -> bool) {
        match bound {
            Bound::Of(capacity) => in_a_loop(capacity, Duration::ZERO, lend, each),
            Bound::None => unbounded(lend, each),
        }
    }
}

/// Ours, told to spin before it blocks.
struct Spinning;

impl Channel for Spinning {
    fn name(&self) -> &'static str {
        "kodiak spinning"
    }

    fn receive(&self, bound: Bound, lend: &mut dyn FnMut(Box<dyn Sending>), each: &mut dyn FnMut(u64) -> bool) {
        match bound {
            Bound::Of(capacity) => in_a_loop(capacity, SPIN, lend, each),
            Bound::None => unbounded(lend, each),
        }
    }
}

/// How long: on one core each round trip takes as long as that.
const SPIN: Duration = Duration::from_micros(50);

fn in_a_loop(
    capacity: usize,
    spin: Duration,
    lend: &mut dyn FnMut(Box<dyn Sending>),
    each: &mut dyn FnMut(u64) -> bool,
) {
    use kodiak_reactor::{EventLoop, Handler};

    struct Each<'a>(&'a mut dyn FnMut(u64) -> bool);

    impl Handler<(), u64> for Each<'_> {
        fn notify(&mut self, event_loop: &mut EventLoop<(), u64>, message: u64) {
            if !(self.0)(message) {
                event_loop.shutdown();
            }
        }
    }

    let mut event_loop = EventLoop::builder().channel_capacity(capacity).spin(spin).build().expect("a loop");
    let ours = event_loop.channel();
    lend(sender(move |message| ours.send(message).is_ok()));
    event_loop.run(&mut Each(each)).expect("the loop runs");
}

fn unbounded(lend: &mut dyn FnMut(Box<dyn Sending>), each: &mut dyn FnMut(u64) -> bool) {
    use kodiak_channel::{Notifier, unbounded};
    use kodiak_sys::{Events, Selector, Waker};

    let selector = Selector::new().expect("a selector");
    let notifier = Notifier::new(Waker::new(&selector, 7).expect("a waker"));
    let (ours, receiver) = unbounded(&notifier);
    lend(sender(move |message| ours.send(message).is_ok()));
    let mut events = Events::with_capacity(8);
    loop {
        while let Ok(message) = receiver.try_recv() {
            if !each(message) {
                return;
            }
        }
        notifier.sleep_unless(|| receiver.is_ready(), || selector.wait(&mut events, None).expect("the wait works"));
    }
}

/// The usual thing with mio: push, then wake, each time.
struct MioCrossbeam;

impl Channel for MioCrossbeam {
    fn name(&self) -> &'static str {
        "mio + crossbeam"
    }

    fn receive(&self, bound: Bound, lend: &mut dyn FnMut(Box<dyn Sending>), each: &mut dyn FnMut(u64) -> bool) {
        let (ours, receiver) = match bound {
            Bound::Of(capacity) => crossbeam_channel::bounded(capacity),
            Bound::None => crossbeam_channel::unbounded(),
        };
        with_mio(
            |waker| lend(sender(move |message| ours.try_send(message).is_ok() && waker.wake().is_ok())),
            || receiver.try_recv().ok(),
            each,
        );
    }
}

struct MioStd;

impl Channel for MioStd {
    fn name(&self) -> &'static str {
        "mio + std"
    }

    fn receive(&self, bound: Bound, lend: &mut dyn FnMut(Box<dyn Sending>), each: &mut dyn FnMut(u64) -> bool) {
        use std::sync::mpsc;
        match bound {
            Bound::Of(capacity) => {
                let (ours, receiver) = mpsc::sync_channel(capacity);
                with_mio(
                    |waker| lend(sender(move |message| ours.try_send(message).is_ok() && waker.wake().is_ok())),
                    || receiver.try_recv().ok(),
                    each,
                );
            }
            Bound::None => {
                let (ours, receiver) = mpsc::channel();
                with_mio(
                    |waker| lend(sender(move |message| ours.send(message).is_ok() && waker.wake().is_ok())),
                    || receiver.try_recv().ok(),
                    each,
                );
            }
        }
    }
}

fn with_mio(
    lend: impl FnOnce(Arc<mio::Waker>),
    mut receive: impl FnMut() -> Option<u64>,
    each: &mut dyn FnMut(u64) -> bool,
) {
    let mut poll = mio::Poll::new().expect("a poll");
    // The receiver keeps the waker too: if the last sender's drop closed it, its last wake would be lost with it.
    let waker = Arc::new(mio::Waker::new(poll.registry(), mio::Token(7)).expect("a waker"));
    lend(Arc::clone(&waker));
    let mut events = mio::Events::with_capacity(8);
    loop {
        while let Some(message) = receive() {
            if !each(message) {
                return;
            }
        }
        poll.poll(&mut events, None).expect("the wait works");
    }
}

/// The channel of mio-extras, which keeps a count beside the queue and writes to a pipe of its own if that was zero.
struct MioExtras;

impl Channel for MioExtras {
    fn name(&self) -> &'static str {
        "mio-extras"
    }

    fn receive(&self, bound: Bound, lend: &mut dyn FnMut(Box<dyn Sending>), each: &mut dyn FnMut(u64) -> bool) {
        use mio_06::{Events, Poll, PollOpt, Ready, Token};
        use mio_extras::channel::{channel, sync_channel};

        let receiver = match bound {
            Bound::Of(capacity) => {
                let (ours, receiver) = sync_channel(capacity);
                lend(sender(move |message| ours.try_send(message).is_ok()));
                receiver
            }
            Bound::None => {
                let (ours, receiver) = channel();
                lend(sender(move |message| ours.send(message).is_ok()));
                receiver
            }
        };
        let poll = Poll::new().expect("a poll");
        poll.register(&receiver, Token(7), Ready::readable(), PollOpt::edge()).expect("it can be watched");
        let mut events = Events::with_capacity(8);
        loop {
            while let Ok(message) = receiver.try_recv() {
                if !each(message) {
                    return;
                }
            }
            poll.poll(&mut events, None).expect("the wait works");
        }
    }
}

struct Calloop;

impl Channel for Calloop {
    fn name(&self) -> &'static str {
        "calloop"
    }

    fn receive(&self, bound: Bound, lend: &mut dyn FnMut(Box<dyn Sending>), each: &mut dyn FnMut(u64) -> bool) {
        use calloop::EventLoop;
        use calloop::channel::{Event, channel, sync_channel};

        let mut event_loop: EventLoop<'_, bool> = EventLoop::try_new().expect("a loop");
        let source = match bound {
            Bound::Of(capacity) => {
                let (ours, source) = sync_channel(capacity);
                lend(sender(move |message| ours.try_send(message).is_ok()));
                source
            }
            Bound::None => {
                let (ours, source) = channel();
                lend(sender(move |message| ours.send(message).is_ok()));
                source
            }
        };
        let inserted = event_loop.handle().insert_source(source, |event, (), goes_on| {
            if let Event::Msg(message) = event {
                *goes_on &= each(message);
            }
        });
        assert!(inserted.is_ok());
        let mut goes_on = true;
        while goes_on {
            event_loop.dispatch(None, &mut goes_on).expect("the loop runs");
        }
    }
}

/// tokio's channel, awaited in a current-thread runtime with I/O.
struct Tokio;

impl Channel for Tokio {
    fn name(&self) -> &'static str {
        "tokio"
    }

    fn receive(&self, bound: Bound, lend: &mut dyn FnMut(Box<dyn Sending>), each: &mut dyn FnMut(u64) -> bool) {
        use tokio::sync::mpsc;

        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().expect("a runtime");
        match bound {
            Bound::Of(capacity) => {
                let (ours, mut receiver) = mpsc::channel(capacity);
                lend(sender(move |message| ours.try_send(message).is_ok()));
                runtime.block_on(async { while receiver.recv().await.is_some_and(&mut *each) {} });
            }
            Bound::None => {
                let (ours, mut receiver) = mpsc::unbounded_channel();
                lend(sender(move |message| ours.send(message).is_ok()));
                runtime.block_on(async { while receiver.recv().await.is_some_and(&mut *each) {} });
            }
        }
    }
}

struct Crossbeam;

impl Channel for Crossbeam {
    fn name(&self) -> &'static str {
        "bare crossbeam"
    }

    fn receive(&self, bound: Bound, lend: &mut dyn FnMut(Box<dyn Sending>), each: &mut dyn FnMut(u64) -> bool) {
        let (ours, receiver) = match bound {
            Bound::Of(capacity) => crossbeam_channel::bounded(capacity),
            Bound::None => crossbeam_channel::unbounded(),
        };
        lend(sender(move |message| ours.try_send(message).is_ok()));
        while receiver.recv().is_ok_and(&mut *each) {}
    }
}

struct Flume;

impl Channel for Flume {
    fn name(&self) -> &'static str {
        "bare flume"
    }

    fn receive(&self, bound: Bound, lend: &mut dyn FnMut(Box<dyn Sending>), each: &mut dyn FnMut(u64) -> bool) {
        let (ours, receiver) = match bound {
            Bound::Of(capacity) => flume::bounded(capacity),
            Bound::None => flume::unbounded(),
        };
        lend(sender(move |message| ours.try_send(message).is_ok()));
        while receiver.recv().is_ok_and(&mut *each) {}
    }
}

struct Kanal;

impl Channel for Kanal {
    fn name(&self) -> &'static str {
        "bare kanal"
    }

    fn receive(&self, bound: Bound, lend: &mut dyn FnMut(Box<dyn Sending>), each: &mut dyn FnMut(u64) -> bool) {
        let (ours, receiver) = match bound {
            Bound::Of(capacity) => kanal::bounded(capacity),
            Bound::None => kanal::unbounded(),
        };
        lend(sender(move |message| ours.try_send(message) == Ok(true)));
        while receiver.recv().is_ok_and(&mut *each) {}
    }
}
