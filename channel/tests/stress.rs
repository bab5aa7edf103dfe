//! Many threads send to a loop that sleeps in the kernel: every message is counted, and every wake.
#![cfg(not(loom))]

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use kodiak_channel::{
    Notifier, Receiver, SendError, Sender, Topic, TryRecvError, Wake, bounded, unbounded,
};
use kodiak_sys::{Events, Selector, Waker};

/// A loop that checks only the topics that are ready.
struct Loop {
    selector: Selector,
    notifier: Notifier,
    wakes: Arc<AtomicUsize>,
    sleeps: usize,
}

struct Counting(Waker, Arc<AtomicUsize>);

impl Wake for Counting {
    fn wake(&self) -> io::Result<()> {
        self.1.fetch_add(1, Ordering::SeqCst);
        self.0.wake()
    }
}

impl Loop {
    fn new() -> Loop {
        let (selector, wakes) = (Selector::new().unwrap(), Arc::new(AtomicUsize::new(0)));
        let waker = Waker::new(&selector, 7).unwrap();
        let notifier = Notifier::new(Counting(waker, Arc::clone(&wakes)));
        Loop { selector, notifier, wakes, sleeps: 0 }
    }

    /// Receives until every channel is closed. Channel n is on topic n. At most `budget` messages
    /// are received from a channel at a time.
    fn receive<M>(
        &mut self,
        receivers: Vec<Receiver<M>>,
        budget: usize,
        mut each: impl FnMut(usize, M),
    ) {
        let mut open: Vec<_> = receivers.into_iter().map(Some).collect();
        let mut to_check = vec![false; open.len()];
        let mut events = Events::with_capacity(4);
        while open.iter().any(Option::is_some) {
            for (number, slot) in open.iter_mut().enumerate() {
                let Some(receiver) =
                    slot.as_ref().filter(|_| std::mem::take(&mut to_check[number]))
                else {
                    continue;
                };
                for taken in 1.. {
                    match receiver.try_recv() {
                        Ok(message) => each(number, message),
                        Err(TryRecvError::Empty) => break,
                        Err(_) => {
                            *slot = None;
                            break;
                        }
                    }
                    if taken == budget {
                        to_check[number] = true;
                        break;
                    }
                }
            }
            if !to_check.contains(&true)
                && open.iter().any(Option::is_some)
                && self.notifier.prepare_sleep()
            {
                self.sleeps += 1;
                let count = self.selector.wait(&mut events, Some(Duration::from_secs(60))).unwrap();
                assert_ne!(count, 0, "a lost wake-up: slept for a minute");
            }
            let ready = self.notifier.take_ready();
            to_check
                .iter_mut()
                .zip(0..)
                .for_each(|(to_check, number)| *to_check |= ready.has(Topic::new(number)));
        }
        let wakes = self.wakes.load(Ordering::SeqCst);
        assert!(wakes <= self.sleeps, "{wakes} wakes for {} sleeps", self.sleeps);
    }
}

/// Short-lived threads, a few at a time, send over one of three channels. The last one closes the
/// channels.
#[test]
fn messages_of_short_lived_threads_all_arrive() {
    const WAVES: u32 = 60;
    const AT_A_TIME: u32 = 6;
    const EACH: u32 = 25;
    let mut event_loop = Loop::new();
    let notifiers = [0, 1, 2].map(|topic| event_loop.notifier.on(Topic::new(topic)));
    let channels =
        [bounded(2, &notifiers[0]), bounded(64, &notifiers[1]), unbounded(&notifiers[2])];
    let (senders, receivers): (Vec<Sender<(u32, u32)>>, Vec<_>) = channels.into_iter().unzip();
    let spawner = thread::spawn(move || {
        for wave in 0..WAVES {
            let threads: Vec<_> = (0..AT_A_TIME)
                .map(|n| {
                    let (id, sender) =
                        (wave * AT_A_TIME + n, senders[(wave + n) as usize % 3].clone());
                    thread::spawn(move || {
                        (0..EACH).for_each(|n| sender.send_blocking((id, n)).unwrap())
                    })
                })
                .collect();
            threads.into_iter().for_each(|thread| thread.join().unwrap());
        }
    });
    let mut next = vec![0; (WAVES * AT_A_TIME) as usize];
    event_loop.receive(receivers, 8, |_, (id, n)| {
        assert_eq!(next[id as usize], n, "messages of one sender keep their order");
        next[id as usize] += 1;
    });
    spawner.join().unwrap();
    assert!(next.iter().all(|&n| n == EACH), "a message was lost");
}

/// The last sender wakes the loop and is dropped, with every handle of the notifier outside of the
/// channel: the waker's descriptor must stay open until the wake is reported.
#[test]
fn a_wake_outlives_the_last_sender() {
    for round in 0..300 {
        let selector = Selector::new().unwrap();
        let notifier = Notifier::new(Waker::new(&selector, 7).unwrap());
        let (sender, receiver) =
            if round % 2 == 0 { bounded(1, &notifier) } else { unbounded(&notifier) };
        notifier.arm();
        drop(notifier);
        let thread = thread::spawn(move || sender.send(round).unwrap());
        if round % 3 == 0 {
            // The sender was certainly dropped before the wait.
            thread.join().unwrap();
        }
        let mut events = Events::with_capacity(4);
        let count = selector.wait(&mut events, Some(Duration::from_secs(10))).unwrap();
        assert_eq!(count, 1, "round {round}: the wake was lost with the sender");
        assert_eq!(receiver.try_recv(), Ok(round));
    }
}

/// How often each message was dropped.
struct DropCounts {
    drops: Vec<AtomicU8>,
}

struct Message(Arc<DropCounts>, usize);

impl Drop for Message {
    fn drop(&mut self) {
        self.0.drops[self.1].fetch_add(1, Ordering::SeqCst);
    }
}

/// The receiver is dropped while senders send: each message is returned or dropped, once, before
/// the last send returns.
#[test]
fn dropping_the_receiver_counts_every_message_once() {
    const SENDERS: usize = 4;
    const EACH: usize = 50;
    for round in 0..150 {
        let notifier = Notifier::new(thread::current());
        let (sender, receiver) = if round % 3 == 2 {
            unbounded(&notifier)
        } else {
            bounded(1 << (round % 7), &notifier)
        };
        let counts =
            Arc::new(DropCounts { drops: (0..SENDERS * EACH).map(|_| AtomicU8::new(0)).collect() });
        let threads: Vec<_> = (0..SENDERS)
            .map(|id| {
                let (sender, counts) = (sender.clone(), Arc::clone(&counts));
                thread::spawn(move || {
                    let mut back = Vec::new();
                    for n in 0..EACH {
                        let entry = Message(Arc::clone(&counts), id * EACH + n);
                        // Some wait for room, some do not.
                        let sent = if id % 2 == 0 {
                            sender.send(entry)
                        } else {
                            sender.send_blocking(entry)
                        };
                        back.extend(sent.err().map(SendError::into_inner));
                    }
                    back
                })
            })
            .collect();
        let mut received = Vec::new();
        while received.len() < round / 2 && threads.iter().any(|thread| !thread.is_finished()) {
            received.extend(receiver.try_recv().ok());
        }
        drop(receiver);
        let back: Vec<_> = threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
        let dropped = counts.drops.iter().filter(|drops| drops.load(Ordering::SeqCst) == 1).count();
        assert_eq!(
            received.len() + back.len() + dropped,
            SENDERS * EACH,
            "a message lies in a closed queue"
        );
        drop((received, back));
        assert!(
            counts.drops.iter().all(|drops| drops.load(Ordering::SeqCst) == 1),
            "each exactly once"
        );
        drop(sender);
    }
}

/// Senders that do not wait often find the channel full: each gets its own message back, and all
/// messages arrive in the end.
#[test]
fn a_full_channel_returns_the_senders_own_message() {
    const SENDERS: usize = 4;
    const EACH: usize = 3_000;
    let mut event_loop = Loop::new();
    let (sender, receiver) = bounded(2, &event_loop.notifier);
    let full = Arc::new(AtomicUsize::new(0));
    let threads: Vec<_> = (0..SENDERS)
        .map(|id| {
            let (sender, full) = (sender.clone(), Arc::clone(&full));
            thread::spawn(move || {
                for n in 0..EACH {
                    let mut message = (id, n);
                    loop {
                        match sender.send(message) {
                            Ok(()) => break,
                            Err(SendError::Full(back)) => {
                                assert_eq!(back, (id, n), "the message of another sender");
                                full.fetch_add(1, Ordering::Relaxed);
                                message = back;
                                thread::yield_now();
                            }
                            Err(_) => panic!("the receiver exists"),
                        }
                    }
                }
            })
        })
        .collect();
    drop(sender);
    let mut next = [0; SENDERS];
    event_loop.receive(vec![receiver], 1, |_, (id, n)| {
        assert_eq!(next[id], n);
        next[id] += 1;
    });
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    assert_eq!(next, [EACH; SENDERS]);
    assert!(full.load(Ordering::Relaxed) > 0, "the channel was never full, so this tested nothing");
}
