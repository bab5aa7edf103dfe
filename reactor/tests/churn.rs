//! Threads that start, send and end while the loop sleeps, wakes, and is finally dropped: every
//! message is delivered, returned or dropped, once.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use kodiak_reactor::{EventLoop, Handler, SendError};

const GENERATIONS: usize = 60;
const THREADS: usize = 4;
const EACH: usize = 25;

#[derive(Default)]
struct Fates {
    received: AtomicUsize,
    handed_back: AtomicUsize,
    /// Number of messages dropped, anywhere.
    dropped: AtomicUsize,
}

struct Message(Arc<Fates>);

impl Drop for Message {
    fn drop(&mut self) {
        self.0.dropped.fetch_add(1, Ordering::Relaxed);
    }
}

/// Stops after this number of messages.
struct Upto(usize);

impl Handler<(), Message> for Upto {
    fn notify(&mut self, event_loop: &mut EventLoop<(), Message>, message: Message) {
        message.0.received.fetch_add(1, Ordering::Relaxed);
        // The turn goes on after the shutdown, and its messages with it.
        self.0 = self.0.saturating_sub(1);
        if self.0 == 0 {
            event_loop.shutdown();
        }
    }
}

/// Runs a loop with room for `capacity` messages for `upto` of them, then drops it, while threads
/// come and go.
fn run_with_short_lived_threads(capacity: usize, upto: usize) {
    let fates = Arc::new(Fates::default());
    let mut event_loop = EventLoop::builder().channel_capacity(capacity).build().unwrap();
    let sender = event_loop.channel();
    let (for_threads, all) = (Arc::clone(&fates), GENERATIONS * THREADS * EACH);
    let crowd = thread::spawn(move || {
        for _ in 0..GENERATIONS {
            // Each thread has a clone of its own, which goes with it, perhaps just after it has
            // woken the loop.
            let threads = [(); THREADS].map(|()| {
                let (sender, fates) = (sender.clone(), Arc::clone(&for_threads));
                thread::spawn(move || {
                    for _ in 0..EACH {
                        // Tries first, so that the channel is met full, and recovers.
                        let mut outcome = sender.send(Message(Arc::clone(&fates)));
                        if let Err(SendError::Full(message)) = outcome {
                            outcome = sender.send_blocking(message);
                        }
                        if let Err(SendError::Closed(_)) = outcome {
                            fates.handed_back.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                })
            });
            threads.into_iter().for_each(|thread| thread.join().unwrap());
        }
    });
    event_loop.run(&mut Upto(upto)).unwrap();
    let stats = event_loop.stats();
    drop(event_loop);
    crowd.join().unwrap();
    let [received, handed_back, dropped] = [&fates.received, &fates.handed_back, &fates.dropped]
        .map(|count| count.load(Ordering::Relaxed));
    assert_eq!(
        dropped, all,
        "each message ends once: {received} received, {handed_back} handed back"
    );
    assert!((upto..=all).contains(&received) && received + handed_back <= all);
    if upto == all {
        assert_eq!((received, handed_back), (all, 0));
    }
    // Once for each time it was about to sleep; when it then found a message after all, it did not
    // sleep.
    assert!(stats.wakes <= stats.turns, "{} wakes in {} turns", stats.wakes, stats.turns);
}

#[test]
fn every_message_of_short_lived_threads_arrives() {
    run_with_short_lived_threads(4096, GENERATIONS * THREADS * EACH);
    run_with_short_lived_threads(2, GENERATIONS * THREADS * EACH);
}

#[test]
fn a_message_to_a_dropped_loop_is_returned_or_dropped_once() {
    for part in 1..=10 {
        run_with_short_lived_threads(
            if part % 2 == 0 { 2 } else { 64 },
            part * GENERATIONS * THREADS * EACH / 12,
        );
    }
}
