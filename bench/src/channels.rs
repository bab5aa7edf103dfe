//! The channels, each with its receiver's way of waiting.
//!
//! The `bare` ones sleep in the channel's own blocking receive, so only a message can wake them.
//! The others sleep in a loop that could also serve sockets.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

/// How many messages a channel may hold.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Capacity {
    Bounded(usize),
    Unbounded,
}

/// A channel's sender, on a thread of its own.
pub(crate) trait MessageSender: Send {
    fn clone_box(&self) -> Box<dyn MessageSender>;

    /// Sends; yields while the channel is full.
    fn send(&mut self, message: u64);

    /// Sends the message 1 `count` times, so that the virtual call is not measured.
    fn send_many(&mut self, count: u64);
}

/// Gets the first sender of a channel.
pub(crate) type OnSender<'a> = &'a mut dyn FnMut(Box<dyn MessageSender>);

/// Gets each message; returns whether to go on.
pub(crate) type OnMessage<'a> = &'a mut dyn FnMut(u64) -> bool;

/// A channel, and its receiver's way of waiting.
pub(crate) trait Channel: Sync {
    fn name(&self) -> &'static str;

    /// Makes a channel, passes its sender to `on_sender`, and passes each message to `on_message`
    /// until that returns `false`.
    fn receive(&self, capacity: Capacity, on_sender: OnSender<'_>, on_message: OnMessage<'_>);
}

pub(crate) const ALL: &[&dyn Channel] = &[
    &Kodiak,
    &KodiakSpinning,
    &MioCrossbeam,
    &MioStd,
    &MioExtras,
    &Calloop,
    &Tokio,
    &Crossbeam,
    &Flume,
    &Kanal,
];

/// A sender made of a closure that returns whether the message was sent.
struct ClosureSender<F>(F);

impl<F: FnMut(u64) -> bool + Clone + Send + 'static> MessageSender for ClosureSender<F> {
    fn clone_box(&self) -> Box<dyn MessageSender> {
        Box::new(ClosureSender(self.0.clone()))
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

fn boxed(send: impl FnMut(u64) -> bool + Clone + Send + 'static) -> Box<dyn MessageSender> {
    Box::new(ClosureSender(send))
}

/// The reactor's loop, with its channel and a handler.
///
/// The loop's channel is always bounded. Unbounded, it is the channel crate with a selector.
struct Kodiak;

impl Channel for Kodiak {
    fn name(&self) -> &'static str {
        "kodiak"
    }

    fn receive(&self, capacity: Capacity, on_sender: OnSender<'_>, on_message: OnMessage<'_>) {
        match capacity {
            Capacity::Bounded(capacity) => {
                run_in_loop(capacity, Duration::ZERO, on_sender, on_message)
            }
            Capacity::Unbounded => run_unbounded(on_sender, on_message),
        }
    }
}

/// The same, with a loop that spins before it blocks.
struct KodiakSpinning;

impl Channel for KodiakSpinning {
    fn name(&self) -> &'static str {
        "kodiak spinning"
    }

    fn receive(&self, capacity: Capacity, on_sender: OnSender<'_>, on_message: OnMessage<'_>) {
        match capacity {
            Capacity::Bounded(capacity) => run_in_loop(capacity, SPIN, on_sender, on_message),
            Capacity::Unbounded => run_unbounded(on_sender, on_message),
        }
    }
}

/// How long it spins. On one core every round trip takes as long.
const SPIN: Duration = Duration::from_micros(50);

fn run_in_loop(
    capacity: usize,
    spin: Duration,
    on_sender: OnSender<'_>,
    on_message: OnMessage<'_>,
) {
    use kodiak_reactor::{EventLoop, Handler};

    struct MessageHandler<'a>(OnMessage<'a>);

    impl Handler<(), u64> for MessageHandler<'_> {
        fn notify(&mut self, event_loop: &mut EventLoop<(), u64>, message: u64) {
            if !(self.0)(message) {
                event_loop.shutdown();
            }
        }
    }

    let mut event_loop =
        EventLoop::builder().channel_capacity(capacity).spin(spin).build().expect("a loop");
    let sender = event_loop.channel();
    on_sender(boxed(move |message| sender.send(message).is_ok()));
    event_loop.run(&mut MessageHandler(on_message)).expect("the loop runs");
}

fn run_unbounded(on_sender: OnSender<'_>, on_message: OnMessage<'_>) {
    use kodiak_channel::{Notifier, unbounded};
    use kodiak_sys::{Events, Selector, Waker};

    let selector = Selector::new().expect("a selector");
    let notifier = Notifier::new(Waker::new(&selector, 7).expect("a waker"));
    let (sender, receiver) = unbounded(&notifier);
    on_sender(boxed(move |message| sender.send(message).is_ok()));
    let mut events = Events::with_capacity(8);
    loop {
        while let Ok(message) = receiver.try_recv() {
            if !on_message(message) {
                return;
            }
        }
        notifier.sleep_unless(
            || receiver.is_ready(),
            || selector.wait(&mut events, None).expect("the wait works"),
        );
    }
}

/// The usual combination with mio: every send pushes, then wakes.
struct MioCrossbeam;

impl Channel for MioCrossbeam {
    fn name(&self) -> &'static str {
        "mio + crossbeam"
    }

    fn receive(&self, capacity: Capacity, on_sender: OnSender<'_>, on_message: OnMessage<'_>) {
        let (sender, receiver) = match capacity {
            Capacity::Bounded(capacity) => crossbeam_channel::bounded(capacity),
            Capacity::Unbounded => crossbeam_channel::unbounded(),
        };
        with_mio(
            |waker| {
                on_sender(boxed(move |message| {
                    sender.try_send(message).is_ok() && waker.wake().is_ok()
                }))
            },
            || receiver.try_recv().ok(),
            on_message,
        );
    }
}

struct MioStd;

impl Channel for MioStd {
    fn name(&self) -> &'static str {
        "mio + std"
    }

    fn receive(&self, capacity: Capacity, on_sender: OnSender<'_>, on_message: OnMessage<'_>) {
        use std::sync::mpsc;
        match capacity {
            Capacity::Bounded(capacity) => {
                let (sender, receiver) = mpsc::sync_channel(capacity);
                with_mio(
                    |waker| {
                        on_sender(boxed(move |message| {
                            sender.try_send(message).is_ok() && waker.wake().is_ok()
                        }))
                    },
                    || receiver.try_recv().ok(),
                    on_message,
                );
            }
            Capacity::Unbounded => {
                let (sender, receiver) = mpsc::channel();
                with_mio(
                    |waker| {
                        on_sender(boxed(move |message| {
                            sender.send(message).is_ok() && waker.wake().is_ok()
                        }))
                    },
                    || receiver.try_recv().ok(),
                    on_message,
                );
            }
        }
    }
}

fn with_mio(
    on_sender: impl FnOnce(Arc<mio::Waker>),
    mut receive: impl FnMut() -> Option<u64>,
    on_message: OnMessage<'_>,
) {
    let mut poll = mio::Poll::new().expect("a poll");
    // The receiver keeps the waker open: if the last sender's drop closed it, the last wake would
    // be lost.
    let waker = Arc::new(mio::Waker::new(poll.registry(), mio::Token(7)).expect("a waker"));
    on_sender(Arc::clone(&waker));
    let mut events = mio::Events::with_capacity(8);
    loop {
        while let Some(message) = receive() {
            if !on_message(message) {
                return;
            }
        }
        poll.poll(&mut events, None).expect("the wait works");
    }
}

/// The channel of mio-extras, which counts its messages and writes to a pipe if it was empty.
struct MioExtras;

impl Channel for MioExtras {
    fn name(&self) -> &'static str {
        "mio-extras"
    }

    fn receive(&self, capacity: Capacity, on_sender: OnSender<'_>, on_message: OnMessage<'_>) {
        use mio_06::{Events, Poll, PollOpt, Ready, Token};
        use mio_extras::channel::{channel, sync_channel};

        let receiver = match capacity {
            Capacity::Bounded(capacity) => {
                let (sender, receiver) = sync_channel(capacity);
                on_sender(boxed(move |message| sender.try_send(message).is_ok()));
                receiver
            }
            Capacity::Unbounded => {
                let (sender, receiver) = channel();
                on_sender(boxed(move |message| sender.send(message).is_ok()));
                receiver
            }
        };
        let poll = Poll::new().expect("a poll");
        poll.register(&receiver, Token(7), Ready::readable(), PollOpt::edge())
            .expect("it can be watched");
        let mut events = Events::with_capacity(8);
        loop {
            while let Ok(message) = receiver.try_recv() {
                if !on_message(message) {
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

    fn receive(&self, capacity: Capacity, on_sender: OnSender<'_>, on_message: OnMessage<'_>) {
        use calloop::EventLoop;
        use calloop::channel::{Event, channel, sync_channel};

        let mut event_loop: EventLoop<'_, bool> = EventLoop::try_new().expect("a loop");
        let source = match capacity {
            Capacity::Bounded(capacity) => {
                let (sender, source) = sync_channel(capacity);
                on_sender(boxed(move |message| sender.try_send(message).is_ok()));
                source
            }
            Capacity::Unbounded => {
                let (sender, source) = channel();
                on_sender(boxed(move |message| sender.send(message).is_ok()));
                source
            }
        };
        let inserted = event_loop.handle().insert_source(source, |event, (), is_running| {
            if let Event::Msg(message) = event {
                *is_running &= on_message(message);
            }
        });
        assert!(inserted.is_ok());
        let mut is_running = true;
        while is_running {
            event_loop.dispatch(None, &mut is_running).expect("the loop runs");
        }
    }
}

/// tokio's channel, in a current-thread runtime with I/O.
struct Tokio;

impl Channel for Tokio {
    fn name(&self) -> &'static str {
        "tokio"
    }

    fn receive(&self, capacity: Capacity, on_sender: OnSender<'_>, on_message: OnMessage<'_>) {
        use tokio::sync::mpsc;

        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_io().build().expect("a runtime");
        match capacity {
            Capacity::Bounded(capacity) => {
                let (sender, mut receiver) = mpsc::channel(capacity);
                on_sender(boxed(move |message| sender.try_send(message).is_ok()));
                runtime.block_on(async {
                    while receiver.recv().await.is_some_and(&mut *on_message) {}
                });
            }
            Capacity::Unbounded => {
                let (sender, mut receiver) = mpsc::unbounded_channel();
                on_sender(boxed(move |message| sender.send(message).is_ok()));
                runtime.block_on(async {
                    while receiver.recv().await.is_some_and(&mut *on_message) {}
                });
            }
        }
    }
}

struct Crossbeam;

impl Channel for Crossbeam {
    fn name(&self) -> &'static str {
        "bare crossbeam"
    }

    fn receive(&self, capacity: Capacity, on_sender: OnSender<'_>, on_message: OnMessage<'_>) {
        let (sender, receiver) = match capacity {
            Capacity::Bounded(capacity) => crossbeam_channel::bounded(capacity),
            Capacity::Unbounded => crossbeam_channel::unbounded(),
        };
        on_sender(boxed(move |message| sender.try_send(message).is_ok()));
        while receiver.recv().is_ok_and(&mut *on_message) {}
    }
}

struct Flume;

impl Channel for Flume {
    fn name(&self) -> &'static str {
        "bare flume"
    }

    fn receive(&self, capacity: Capacity, on_sender: OnSender<'_>, on_message: OnMessage<'_>) {
        let (sender, receiver) = match capacity {
            Capacity::Bounded(capacity) => flume::bounded(capacity),
            Capacity::Unbounded => flume::unbounded(),
        };
        on_sender(boxed(move |message| sender.try_send(message).is_ok()));
        while receiver.recv().is_ok_and(&mut *on_message) {}
    }
}

struct Kanal;

impl Channel for Kanal {
    fn name(&self) -> &'static str {
        "bare kanal"
    }

    fn receive(&self, capacity: Capacity, on_sender: OnSender<'_>, on_message: OnMessage<'_>) {
        let (sender, receiver) = match capacity {
            Capacity::Bounded(capacity) => kanal::bounded(capacity),
            Capacity::Unbounded => kanal::unbounded(),
        };
        on_sender(boxed(move |message| sender.try_send(message) == Ok(true)));
        while receiver.recv().is_ok_and(&mut *on_message) {}
    }
}
