//! The channel as its users see it: order, bounds, closing, drops, wakes.
#![cfg(not(loom))]

use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use kodiak_channel::{
    Notifier, Receiver, SendError, Sender, TryRecvError, Wake, bounded, unbounded,
};

/// Counts wakes, and fails them on request.
#[derive(Clone, Default)]
struct Counting(Arc<(AtomicUsize, AtomicBool)>);

impl Counting {
    fn wakes(&self) -> usize {
        self.0.0.load(Ordering::SeqCst)
    }

    fn fail(&self, fail: bool) {
        self.0.1.store(fail, Ordering::SeqCst);
    }
}

impl Wake for Counting {
    fn wake(&self) -> io::Result<()> {
        self.0.0.fetch_add(1, Ordering::SeqCst);
        if self.0.1.load(Ordering::SeqCst) {
            Err(io::Error::other("fails on request"))
        } else {
            Ok(())
        }
    }
}

fn counting_notifier() -> (Counting, Notifier) {
    let wake = Counting::default();
    (wake.clone(), Notifier::new(wake))
}

fn drain<M>(receiver: &Receiver<M>) -> Vec<M> {
    std::iter::from_fn(|| receiver.try_recv().ok()).collect()
}

#[test]
fn types_cross_threads() {
    fn send_sync<T: Send + Sync + Clone>() {}
    fn send<T: Send>() {}
    send_sync::<Notifier>();
    send_sync::<Sender<std::cell::Cell<u8>>>();
    send::<Receiver<std::cell::Cell<u8>>>();
    send_sync::<kodiak_channel::Probe>();
}

#[test]
fn a_full_channel_returns_the_message_and_recovers() {
    let (_, notifier) = counting_notifier();
    let (sender, receiver) = bounded(2, &notifier);
    assert_eq!((sender.capacity(), receiver.capacity()), (Some(2), Some(2)));
    sender.send(1).unwrap();
    sender.send(2).unwrap();
    let full = sender.send(3).unwrap_err();
    assert!(full.is_full() && !full.is_closed());
    assert!(full.to_string().contains("`capacity`"), "names the bound: {full}");
    assert_eq!((receiver.len(), receiver.try_recv()), (2, Ok(1)));
    sender.send(full.into_inner()).unwrap();
    assert_eq!(drain(&receiver), [2, 3]);
    assert!(receiver.is_empty());
}

#[test]
fn a_capacity_of_zero_is_one() {
    let (_, notifier) = counting_notifier();
    let (sender, receiver) = bounded(0, &notifier);
    assert_eq!(sender.capacity(), Some(1));
    sender.send('a').unwrap();
    assert_eq!(sender.send('b'), Err(SendError::Full('b')));
    assert_eq!(drain(&receiver), ['a']);
}

#[test]
fn a_channel_without_a_receiver_is_closed() {
    let (_, notifier) = counting_notifier();
    for (sender, receiver) in [bounded(1, &notifier), unbounded(&notifier)] {
        let probe = receiver.probe();
        sender.send(1).unwrap();
        assert!(probe.is_ready() && !probe.is_gone());
        drop(receiver);
        assert!(!probe.is_ready() && probe.is_gone());
        assert_eq!(sender.send(2), Err(SendError::Closed(2)));
        assert_eq!(sender.send_blocking(3), Err(SendError::Closed(3)));
        assert_eq!(sender.send_deadline(4, Instant::now()), Err(SendError::Closed(4)));
    }
}

#[test]
fn a_channel_closes_after_the_last_message() {
    let (wake, notifier) = counting_notifier();
    let (sender, receiver) = bounded(4, &notifier);
    let probe = receiver.probe();
    let clone = sender.clone();
    clone.send(1).unwrap();
    drop(sender);
    notifier.arm();
    assert_eq!((drain(&receiver), receiver.is_ready()), (vec![1], false));
    drop(clone);
    assert_eq!(wake.wakes(), 1, "the last sender's drop wakes");
    assert!(receiver.is_ready() && receiver.is_empty() && probe.is_ready());
    assert_eq!(receiver.try_recv(), Err(TryRecvError::Closed));
}

/// The wake of the last sender's drop finds the channel closed already, and the notifier outlives
/// the sender.
#[test]
fn the_queue_closes_before_the_notification() {
    #[derive(Default)]
    struct Looks {
        receiver: Mutex<Option<Receiver<u8>>>,
        seen: Mutex<Option<Result<u8, TryRecvError>>>,
    }
    impl Wake for Looks {
        fn wake(&self) -> io::Result<()> {
            let receiver = self.receiver.lock().unwrap().take();
            *self.seen.lock().unwrap() = receiver.map(|receiver| receiver.try_recv());
            Ok(())
        }
    }
    let looks = Arc::new(Looks::default());
    let (sender, receiver) = {
        let notifier = Notifier::new(Arc::clone(&looks));
        notifier.arm();
        bounded(1, &notifier)
    };
    *looks.receiver.lock().unwrap() = Some(receiver);
    drop(sender);
    assert_eq!(*looks.seen.lock().unwrap(), Some(Err(TryRecvError::Closed)));
}

#[test]
fn all_channels_of_a_notifier_share_one_wake_per_sleep() {
    let (wake, notifier) = counting_notifier();
    let (first, from_first) = bounded(100, &notifier);
    let (second, from_second) = unbounded(&notifier);
    first.send(0).unwrap();
    assert_eq!(wake.wakes(), 0, "a new notifier's loop is awake");
    for sleep in 1..=3 {
        assert!(
            notifier.sleep_unless(|| from_first.len() > 1, || second.send("x").unwrap()).is_some()
        );
        for n in 0..10 {
            first.send(n).unwrap();
            second.send("y").unwrap();
        }
        notifier.notify().unwrap();
        assert_eq!(wake.wakes(), sleep);
        drain(&from_first);
        drain(&from_second);
    }
    first.send(0).unwrap();
    assert_eq!(
        notifier.sleep_unless(|| from_first.is_ready(), || unreachable!("something waits")),
        None
    );
    assert_eq!(wake.wakes(), 3);
    // Something else ended that sleep: awake, and nobody had notified.
    drain(&from_first);
    assert!(notifier.sleep_unless(|| from_first.is_ready(), || ()).is_some());
    first.send(0).unwrap();
    assert_eq!(wake.wakes(), 3);
}

#[test]
fn a_failed_wake_is_tried_again_and_kept_for_the_loop() {
    let (wake, notifier) = counting_notifier();
    let (sender, receiver) = bounded(1, &notifier);
    wake.fail(true);
    notifier.arm();
    sender.send(1).expect("queued is Ok, whatever became of the wake");
    assert_eq!(sender.send(2), Err(SendError::Full(2)));
    assert_eq!(wake.wakes(), 2, "a full channel's send tries again too");
    assert!(notifier.notify().is_err(), "a caller of `notify` gets the error");
    wake.fail(false);
    assert_eq!(sender.send(2), Err(SendError::Full(2)));
    assert_eq!(sender.send(2), Err(SendError::Full(2)));
    assert_eq!(wake.wakes(), 4, "once woken, once is enough");
    assert_eq!(drain(&receiver), [1]);
    assert_eq!(notifier.take_wake_error().expect("kept").to_string(), "fails on request");
    assert!(notifier.take_wake_error().is_none());
}

#[test]
fn would_block_and_interrupted_are_not_errors() {
    struct ScriptedErrors(Mutex<Vec<io::ErrorKind>>);
    impl Wake for ScriptedErrors {
        fn wake(&self) -> io::Result<()> {
            self.0.lock().unwrap().pop().map_or(Ok(()), |kind| Err(kind.into()))
        }
    }
    let errors = Arc::new(ScriptedErrors(Mutex::new(vec![
        io::ErrorKind::WouldBlock,
        io::ErrorKind::Interrupted,
    ])));
    let notifier = Notifier::new(Arc::clone(&errors));
    notifier.arm();
    notifier.notify().expect("interrupted is tried again; a full pipe wakes");
    assert!(errors.0.lock().unwrap().is_empty());
}

#[test]
fn after_a_wake_that_panics_the_next_one_tries_again() {
    struct Panics(AtomicUsize);
    impl Wake for Panics {
        fn wake(&self) -> io::Result<()> {
            assert_ne!(self.0.fetch_add(1, Ordering::SeqCst), 0, "the first wake panics");
            Ok(())
        }
    }
    let panics = Arc::new(Panics(AtomicUsize::new(0)));
    let notifier = Notifier::new(Arc::clone(&panics));
    notifier.arm();
    let other = notifier.clone();
    assert!(thread::spawn(move || other.notify()).join().is_err());
    notifier.notify().unwrap();
    assert_eq!(panics.0.load(Ordering::SeqCst), 2);
}

#[test]
fn send_blocking_and_send_deadline_wait_for_room() {
    let (_, notifier) = counting_notifier();
    let (sender, receiver) = bounded(1, &notifier);
    sender.send(0).unwrap();
    assert_eq!(
        sender.send_deadline(9, Instant::now() + Duration::from_millis(1)),
        Err(SendError::Full(9))
    );
    let threads = [1, 2].map(|n| {
        let sender = sender.clone();
        thread::spawn(move || match n {
            1 => sender.send_blocking(n),
            _ => sender.send_deadline(n, Instant::now() + Duration::from_secs(600)),
        })
    });
    let mut received = vec![];
    while received.len() < 3 {
        received.extend(receiver.try_recv());
        thread::yield_now();
    }
    received.sort();
    assert_eq!(received, [0, 1, 2]);
    threads.into_iter().for_each(|thread| thread.join().unwrap().unwrap());
}

#[test]
fn a_blocked_sender_gets_its_message_back_on_close() {
    let (_, notifier) = counting_notifier();
    let (sender, receiver) = bounded(1, &notifier);
    sender.send("first").unwrap();
    let started = Arc::new(Barrier::new(2));
    let blocked = thread::spawn({
        let started = Arc::clone(&started);
        move || {
            started.wait();
            sender.send_blocking("second")
        }
    });
    started.wait();
    drop(receiver); // before or after the other thread blocks
    match blocked.join().unwrap() {
        Err(SendError::Closed(message)) => assert_eq!(message, "second"),
        // It was sent before the drop, and dropped with the queue.
        Ok(()) => {}
        Err(_) => unreachable!("only Closed ends its wait"),
    }
}

/// Counts drops of the messages that share the counter.
struct Dropped(Arc<AtomicUsize>);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn dropping_the_receiver_drops_queued_messages() {
    let (_, notifier) = counting_notifier();
    let drops = Arc::new(AtomicUsize::new(0));
    for (sender, receiver) in [bounded(64, &notifier), unbounded(&notifier)] {
        drops.store(0, Ordering::SeqCst);
        for _ in 0..50 {
            sender.send(Dropped(Arc::clone(&drops))).unwrap();
        }
        drop(receiver.try_recv());
        drop(receiver);
        assert_eq!(drops.load(Ordering::SeqCst), 50, "with the sender still alive");
    }
}

/// A message that holds its own channel's sender does not keep the channel alive.
#[test]
fn a_sender_in_its_own_channel_is_dropped() {
    struct Own(#[expect(dead_code)] Sender<Own>, #[expect(dead_code)] Dropped);
    let (_, notifier) = counting_notifier();
    let drops = Arc::new(AtomicUsize::new(0));
    let (sender, receiver) = bounded(4, &notifier);
    sender.send(Own(sender.clone(), Dropped(Arc::clone(&drops)))).unwrap();
    drop(sender);
    drop(receiver);
    assert_eq!(drops.load(Ordering::SeqCst), 1);
}

/// Senders race with the receiver's drop, many times over: every message is received, handed back
/// or dropped, once.
#[test]
fn a_message_sent_during_the_drop_is_counted_once() {
    const SENDERS: usize = 3;
    const EACH: usize = 40;
    let (_, notifier) = counting_notifier();
    for round in 0..200 {
        let drops = Arc::new(AtomicUsize::new(0));
        let (sender, receiver) =
            if round % 2 == 0 { bounded(8, &notifier) } else { unbounded(&notifier) };
        let start = Arc::new(Barrier::new(SENDERS + 1));
        let threads: Vec<_> = (0..SENDERS)
            .map(|_| {
                let (sender, drops, start) =
                    (sender.clone(), Arc::clone(&drops), Arc::clone(&start));
                thread::spawn(move || {
                    start.wait();
                    (0..EACH)
                        .filter_map(|_| sender.send_blocking(Dropped(Arc::clone(&drops))).err())
                        .collect::<Vec<_>>()
                })
            })
            .collect();
        start.wait();
        let received: Vec<_> = (0..round / 2).filter_map(|_| receiver.try_recv().ok()).collect();
        drop(receiver);
        let handed_back: usize =
            threads.into_iter().map(|thread| thread.join().unwrap().len()).sum();
        drop(received);
        assert_eq!(drops.load(Ordering::SeqCst), SENDERS * EACH, "{handed_back} were handed back");
    }
}

/// Threads against a parking loop: nothing is lost, each sender's order holds, and there are no
/// more wakes than sleeps.
#[test]
fn a_parking_loop_loses_and_reorders_nothing() {
    const SENDERS: u32 = 4;
    const EACH: u32 = 20_000;
    struct Unparks(Counting, thread::Thread);
    impl Wake for Unparks {
        fn wake(&self) -> io::Result<()> {
            self.0.wake()?;
            self.1.wake()
        }
    }
    let wake = Counting::default();
    let notifier = Notifier::new(Unparks(wake.clone(), thread::current()));
    // Two channels on the notifier; a small bound, so that senders meet a full queue all the time.
    let channels = [bounded::<(u32, u32)>(16, &notifier), bounded(1024, &notifier)];
    let threads: Vec<_> = (0..SENDERS)
        .map(|id| {
            let sender = channels[id as usize % 2].0.clone();
            thread::spawn(move || (0..EACH).for_each(|n| sender.send_blocking((id, n)).unwrap()))
        })
        .collect();
    let receivers = channels.map(|(_, receiver)| receiver);
    let mut next = [0; SENDERS as usize];
    let mut open = [true; 2];
    let (mut arms, mut sleeps) = (0, 0);
    while open != [false; 2] {
        let mut left = false;
        for (receiver, open) in receivers.iter().zip(&mut open).filter(|(_, open)| **open) {
            for _ in 0..8 {
                match receiver.try_recv() {
                    Ok((id, n)) => {
                        assert_eq!(next[id as usize], n, "messages of one sender keep their order");
                        next[id as usize] += 1;
                    }
                    Err(TryRecvError::Empty) => break,
                    Err(_) => *open = false,
                }
            }
            left |= receiver.is_ready();
        }
        if !left && open != [false; 2] {
            arms += 1;
            let ready =
                || receivers.iter().zip(&open).any(|(receiver, &open)| open && receiver.is_ready());
            sleeps += usize::from(notifier.sleep_unless(ready, thread::park).is_some());
        }
    }
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    assert_eq!(next, [EACH; SENDERS as usize]);
    let wakes = wake.wakes();
    assert!(wakes <= arms && sleeps <= arms, "{wakes} wakes for {arms} armings");
}

#[test]
fn a_bounded_channel_allocates_nothing() {
    let notifier = Notifier::new(thread::current());
    let (sender, receiver) = bounded::<[u64; 4]>(8, &notifier);
    let probe = receiver.probe();
    let turn = || {
        let clone = sender.clone();
        for n in 0..8 {
            clone.send([n; 4]).unwrap();
        }
        assert!(clone.send([9; 4]).is_err());
        assert!(probe.is_ready());
        while receiver.try_recv().is_ok() {}
        // A send to an armed notifier, which wakes (here: leaves a token for `park` to take at
        // once).
        notifier.sleep_unless(|| receiver.is_ready(), || sender.send([0; 4]).unwrap());
        thread::park();
        receiver.try_recv().unwrap();
    };
    turn();
    let allocations = allocation_counter::measure(|| (0..100).for_each(|_| turn()));
    assert_eq!(allocations.count_total, 0);
}
