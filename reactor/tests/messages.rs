//! Channels, remotes and threads: no lost message, no needless wake.

mod common;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use common::{Loop, On, Seen, poll, readable_tokens, ready};
use kodiak_reactor::{EventLoop, Handler, ReadHint, SendError, TryRecvError};

#[test]
fn a_message_sent_before_run_arrives() {
    let mut event_loop = Loop::new().unwrap();
    event_loop.channel().send(5).unwrap();
    let mut got = None;
    let mut handler = On(|event_loop: &mut Loop, call| {
        if let Seen::Notify(n) = call {
            got = Some(n);
            event_loop.shutdown();
        }
    });
    event_loop.run(&mut handler).unwrap();
    assert_eq!(got, Some(5));
}

#[test]
fn a_full_and_a_closed_channel_hand_the_message_back() {
    let event_loop: Loop = Loop::builder().channel_capacity(1).build().unwrap();
    let sender = event_loop.channel();
    sender.send(1).unwrap();
    assert!(matches!(sender.send(2), Err(SendError::Full(2))));
    drop(event_loop);
    assert!(matches!(sender.send(3), Err(SendError::Closed(3))));
}

/// Every answer lets the other side send once more, so nearly every message meets a loop that
/// sleeps or is about to.
#[test]
fn no_wake_up_is_lost_at_a_loop_about_to_sleep() {
    const ROUNDS: u32 = 20_000;
    let mut event_loop = Loop::new().unwrap();
    let sender = event_loop.channel();
    let (answer, answers) = mpsc::channel();
    let thread = thread::spawn(move || {
        for n in 0..ROUNDS {
            sender.send(n).unwrap();
            assert_eq!(answers.recv(), Ok(n));
        }
    });
    let mut handler = On(|event_loop: &mut Loop, call| {
        if let Seen::Notify(n) = call {
            answer.send(n).unwrap();
            if n == ROUNDS - 1 {
                event_loop.shutdown();
            }
        }
    });
    event_loop.run(&mut handler).unwrap();
    thread.join().unwrap();
    let stats = event_loop.stats();
    // A wake may cross a loop that has just found the message itself and does not sleep: so, not
    // `sleeps`.
    assert!(
        stats.wakes <= stats.turns + 1,
        "more wakes than times the loop was about to sleep: {stats:?}"
    );
}

#[test]
fn many_senders_to_a_small_channel_lose_and_reorder_nothing() {
    const EACH: u32 = 10_000;
    let mut event_loop: Loop =
        Loop::builder().channel_capacity(8).messages_per_turn(3).build().unwrap();
    let threads: Vec<_> = (0..3)
        .map(|id| {
            let sender = event_loop.channel();
            thread::spawn(move || {
                (0..EACH).for_each(|n| sender.send_blocking(id << 24 | n).unwrap())
            })
        })
        .collect();
    let mut next = [0; 3];
    let mut handler = On(|event_loop: &mut Loop, call| {
        if let Seen::Notify(message) = call {
            let (id, n) = (message >> 24, message & 0xff_ffff);
            assert_eq!(next[id as usize], n);
            next[id as usize] += 1;
            if next == [EACH; 3] {
                event_loop.shutdown();
            }
        }
    });
    event_loop.run(&mut handler).unwrap();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
}

#[test]
fn a_burst_to_an_awake_loop_costs_no_wake() {
    let mut event_loop = Loop::new().unwrap();
    let sender = event_loop.channel();
    let mut left = 100;
    event_loop.timeout_at(0, event_loop.now()).unwrap();
    let mut handler = On(|event_loop: &mut Loop, call| match call {
        Seen::Timeout(_) => (0..100).for_each(|n| sender.send(n).unwrap()),
        Seen::Notify(_) => {
            left -= 1;
            if left == 0 {
                event_loop.shutdown();
            }
        }
        _ => {}
    });
    event_loop.run(&mut handler).unwrap();
    assert_eq!(event_loop.stats().wakes, 0);
}

#[test]
fn further_channels_call_until_they_are_drained() {
    let mut event_loop = Loop::new().unwrap();
    let (sender, receiver) = event_loop.add_channel::<String>(7, 4).unwrap();
    sender.send("a".into()).unwrap();
    sender.send("b".into()).unwrap();
    let mut got = Vec::new();
    let mut handler = On(|event_loop: &mut Loop, call| {
        if let Seen::Readable(7, hint) = call {
            assert!(hint.is_data());
            got.push(receiver.try_recv().unwrap()); // one a turn: the other is left over
            if got.len() == 2 {
                event_loop.shutdown();
            }
        }
    });
    event_loop.run(&mut handler).unwrap();
    assert_eq!(got, ["a", "b"]);
    assert_eq!(poll(&mut event_loop), []);
    assert!(
        event_loop.stats().sleeps <= 1,
        "the first wait, which the senders' wake had ended beforehand"
    );
}

#[test]
fn a_further_channel_wakes_the_loop_and_reports_its_end_once() {
    let mut event_loop = Loop::new().unwrap();
    let (sender, receiver) = event_loop.add_channel::<u64>(7, 4).unwrap();
    let thread = thread::spawn(move || sender.send(1));
    let mut got = 0;
    let mut handler = On(|event_loop: &mut Loop, call| {
        if let Seen::Readable(7, hint) = call {
            loop {
                match receiver.try_recv() {
                    Ok(n) => got += n,
                    Err(TryRecvError::Empty) => break,
                    Err(_) => {
                        assert!(hint.is_data() || hint.is_hup());
                        return event_loop.shutdown();
                    }
                }
            }
        }
    });
    event_loop.run(&mut handler).unwrap();
    thread.join().unwrap().unwrap();
    assert_eq!(got, 1);
    assert_eq!(event_loop.next_timeout(), None, "an end that was reported is no work");
    assert_eq!(poll(&mut event_loop), []);
}

#[test]
fn a_further_channel_whose_receiver_is_dropped_leaves_the_loop() {
    let mut event_loop = Loop::new().unwrap();
    let (sender, receiver) = event_loop.add_channel::<u64>(7, 4).unwrap();
    sender.send(1).unwrap();
    drop(receiver);
    assert!(matches!(sender.send(2), Err(SendError::Closed(2))));
    assert_eq!(event_loop.next_timeout(), None);
    assert_eq!(poll(&mut event_loop), []);
    assert!(event_loop.add_channel::<u64>(7, 0).is_err());
}

#[test]
fn a_remote_wakes_a_turn_and_shuts_down_after_the_messages() {
    struct Collect {
        got: Vec<u32>,
        turn: mpsc::Sender<()>,
    }
    impl Handler<u32, u32> for Collect {
        fn notify(&mut self, _: &mut Loop, message: u32) {
            self.got.push(message);
        }
        fn turn_end(&mut self, _: &mut Loop) {
            let _ = self.turn.send(());
        }
    }
    let event_loop = Loop::new().unwrap();
    let sender = event_loop.channel();
    let (turn, turns) = mpsc::channel();
    let running = event_loop.start(Collect { got: Vec::new(), turn }).unwrap();
    let remote = running.remote();
    remote.wake().unwrap();
    turns.recv().unwrap();
    (0..50).for_each(|n| sender.send(n).unwrap());
    remote.shutdown().unwrap();
    let handler = running.join().unwrap();
    assert_eq!(handler.got, (0..50).collect::<Vec<_>>());
    remote.wake().unwrap();
    assert!(matches!(sender.send(1), Err(SendError::Closed(1))));
}

#[test]
fn a_panic_on_the_loop_s_thread_is_an_error_of_join() {
    struct Bad(u32);
    impl Handler<(), ()> for Bad {
        fn notify(&mut self, _: &mut EventLoop<(), ()>, (): ()) {
            self.0 += 1;
            panic::resume_unwind(Box::new("on purpose"));
        }
        fn readable(&mut self, _: &mut EventLoop<(), ()>, (): (), _: ReadHint) {}
    }
    use std::panic;
    let event_loop = EventLoop::<(), ()>::new().unwrap();
    event_loop.channel().send(()).unwrap();
    let error = event_loop.start(Bad(6)).unwrap().join().err().unwrap();
    assert!(
        matches!(error, kodiak_reactor::JoinError::Panicked { handler: Bad(7), .. }),
        "the handler comes back"
    );
}

/// A thread that answers each turn's end with a message, `rounds` times. Returns the messages and
/// the loop's counters.
fn answered(spin: Option<Duration>, rounds: u32) -> (Vec<u32>, kodiak_reactor::Stats) {
    let builder = Loop::builder();
    let builder = if let Some(spin) = spin { builder.spin(spin) } else { builder };
    let mut event_loop: Loop = builder.build().unwrap();
    let sender = event_loop.channel();
    let (ask, asked) = mpsc::channel();
    let thread = thread::spawn(move || {
        for (n, ()) in (0..).zip(asked) {
            sender.send(n).unwrap();
        }
    });
    let mut got = Vec::new();
    // The first is asked for inside of the run, when the loop is awake.
    event_loop.timeout_at(0, event_loop.now()).unwrap();
    let mut handler = On(|event_loop: &mut Loop, call| match call {
        Seen::Timeout(_) => ask.send(()).unwrap(),
        Seen::Notify(n) => {
            got.push(n);
            if n == rounds - 1 {
                event_loop.shutdown();
            } else {
                ask.send(()).unwrap();
            }
        }
        _ => {}
    });
    event_loop.run(&mut handler).unwrap();
    drop(ask);
    thread.join().unwrap();
    (got, event_loop.stats())
}

#[test]
fn spinning_is_off_by_default_and_changes_only_who_wakes() {
    const ROUNDS: u32 = 300;
    let (slept, asleep) = answered(None, ROUNDS);
    let (spun, spinning) = answered(Some(Duration::from_secs(600)), ROUNDS);
    assert_eq!((&slept, slept.len()), (&spun, ROUNDS as usize));
    assert_eq!((spinning.sleeps, spinning.wakes), (0, 0), "it found all messages itself");
    assert!(asleep.sleeps > 0, "a loop spins only if configured");
}

#[test]
fn a_spin_ends_by_its_time_a_timeout_or_the_wait_s_limit() {
    let ms = Duration::from_millis(1);
    let mut brief: Loop = Loop::builder().spin(ms).build().unwrap();
    brief.run_once(&mut On(|_: &mut Loop, _| {}), Some(20 * ms)).unwrap();
    assert_eq!(brief.stats().sleeps, 1, "after its time it blocks");

    let mut long: Loop = Loop::builder().spin(Duration::from_secs(600)).build().unwrap();
    let begun = Instant::now();
    long.run_once(&mut On(|_: &mut Loop, _| {}), Some(ms)).unwrap();
    let mut fired = 0;
    long.timeout(1, ms).unwrap();
    long.run_once(&mut On(|_: &mut Loop, call| fired += u32::from(call == Seen::Timeout(1))), None)
        .unwrap();
    assert_eq!(fired, 1);
    assert!(begun.elapsed() >= 2 * ms && begun.elapsed() < Duration::from_secs(300));
}

/// A sender may be interrupted between its push and its notification: the message is received
/// meanwhile, and the notification finds an empty channel. That must not end the spin.
#[test]
fn a_notification_of_a_received_message_ends_no_spin() {
    let mut event_loop: Loop = Loop::builder().spin(Duration::from_secs(600)).build().unwrap();
    let (further, receiver) = event_loop.add_channel::<u32>(7, 4).unwrap();
    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let ended = stop.clone();
    let thread = thread::spawn(move || {
        while !ended.load(std::sync::atomic::Ordering::Relaxed) {
            further.send(1).unwrap();
            receiver.try_recv().unwrap();
            // Rarely enough that the loop spins in between.
            (0..2_000).for_each(|_| std::hint::spin_loop());
        }
    });
    for _ in 0..100 {
        let limit = Some(Duration::from_millis(1));
        event_loop.run_once(&mut On(|_: &mut Loop, _| {}), limit).unwrap();
    }
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    thread.join().unwrap();
    // Each limit ends with a wait of zero, which is no sleep.
    assert_eq!(event_loop.stats().sleeps, 0, "it spun until each limit");
}

/// A spinning loop also serves events, a remote's wake, and sources dropped outside of a run.
#[test]
fn a_spinning_loop_serves_all_its_sources() {
    let mut event_loop: Loop = Loop::builder().spin(Duration::from_secs(600)).build().unwrap();
    let (ours, _theirs) = ready();
    event_loop.register(&ours, 3).unwrap();
    assert_eq!(readable_tokens(&poll(&mut event_loop)), [3]);
    let mut seen = Vec::new();
    event_loop.run_once(&mut On(|_: &mut Loop, call| seen.push(call)), None).unwrap();
    assert_eq!(readable_tokens(&seen), [3]);
    event_loop.deregister(&ours).unwrap();
    let remote = event_loop.remote();
    let thread = thread::spawn(move || remote.wake());
    let mut turns = 0;
    event_loop
        .run_once(&mut On(|_: &mut Loop, call| turns += u32::from(call == Seen::TurnEnd)), None)
        .unwrap();
    thread.join().unwrap().unwrap();
    assert_eq!((turns, event_loop.stats().sleeps), (1, 0));
}

/// A message that was sent after its topic was taken, and received in the same turn, must not cause
/// another turn.
#[test]
fn a_message_received_in_its_own_turn_causes_no_other_turn() {
    let mut event_loop = Loop::new().unwrap();
    let (further, receiver) = event_loop.add_channel::<u32>(7, 4).unwrap();
    let sender = event_loop.channel();
    sender.send(0).unwrap();
    let mut got = Vec::new();
    let mut handler = On(|_: &mut Loop, call| match call {
        Seen::Notify(0) => {
            sender.send(1).unwrap();
            further.send(2).unwrap();
        }
        Seen::Notify(n) => got.push(n),
        Seen::Readable(7, _) => got.push(receiver.try_recv().unwrap()),
        _ => {}
    });
    event_loop.run_once(&mut handler, None).unwrap();
    assert_eq!(event_loop.next_timeout(), None);
    let before = event_loop.stats();
    event_loop.run_once(&mut handler, Some(Duration::from_millis(1))).unwrap();
    assert_eq!(got, [1, 2]);
    let after = event_loop.stats();
    assert_eq!(
        (after.turns, after.sleeps),
        (before.turns + 1, before.sleeps + 1),
        "it slept until its time was over"
    );
}

#[test]
fn a_wake_in_a_turn_causes_one_more_an_earlier_one_does_not() {
    let mut event_loop = Loop::new().unwrap();
    let remote = event_loop.remote();
    remote.wake().unwrap();
    let mut turns = 0;
    let mut handler = On(|_: &mut Loop, call| {
        if call == Seen::TurnEnd {
            turns += 1;
            if turns == 1 {
                (0..2).for_each(|_| remote.wake().unwrap());
            }
        }
    });
    event_loop.run_once(&mut handler, None).unwrap();
    assert_eq!(event_loop.next_timeout(), Some(Duration::ZERO));
    event_loop.run_once(&mut handler, None).unwrap();
    assert_eq!(event_loop.next_timeout(), None);
    assert_eq!((turns, event_loop.stats().sleeps), (2, 1));
}

/// More channels than the notifier has topics: those that share a topic are still distinguished.
#[test]
fn many_further_channels_call_only_those_that_were_sent_to() {
    let mut event_loop = Loop::new().unwrap();
    let channels: Vec<_> =
        (0..100).map(|token| event_loop.add_channel::<u32>(token, 1).unwrap()).collect();
    for sent in [3, 30, 57, 99] {
        channels[sent].0.send(1).unwrap();
        let mut called = Vec::new();
        let mut handler = On(|_: &mut Loop, call| {
            if let Seen::Readable(token, hint) = call {
                assert!(hint.is_data());
                called.push(token);
                channels[token as usize].1.try_recv().unwrap();
            }
        });
        event_loop.run_once(&mut handler, None).unwrap();
        assert_eq!(called, [sent as u32]);
        assert_eq!(event_loop.next_timeout(), None);
    }
}

/// A message that counts its deliveries and drops.
struct Entry(Arc<AtomicUsize>);

impl Drop for Entry {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// The loop is dropped while threads send and messages wait in both of its channels: each is
/// delivered, handed back or dropped, once.
#[test]
fn a_loop_dropped_with_messages_queued_drops_each_once() {
    #[derive(Default)]
    struct Keep(Vec<Entry>);
    impl Handler<(), Entry> for Keep {
        fn notify(&mut self, _: &mut EventLoop<(), Entry>, message: Entry) {
            self.0.push(message);
        }
    }
    const SENDERS: usize = 4;
    const EACH: usize = 50;
    for round in 0..150 {
        let (drops, mut keep) = (Arc::new(AtomicUsize::new(0)), Keep::default());
        let builder = EventLoop::builder()
            .channel_capacity(1 << (round % 7))
            .messages_per_turn(1 + round % 5);
        let mut event_loop: EventLoop<(), Entry> = builder.build().unwrap();
        let (further, receiver) = event_loop.add_channel::<Entry>((), 1 << (round % 7)).unwrap();
        let threads: Vec<_> = (0..SENDERS)
            .map(|id| {
                let sender = if id == 0 { further.clone() } else { event_loop.channel() };
                let drops = Arc::clone(&drops);
                thread::spawn(move || {
                    let send = |n| {
                        let entry = Entry(Arc::clone(&drops));
                        // Some wait for room; most do not, so that the end finds some of them on
                        // their way into the queue.
                        if n % 8 == 0 {
                            sender.send_blocking(entry).err()
                        } else {
                            sender.send(entry).err()
                        }
                    };
                    (0..EACH).filter_map(send).collect::<Vec<_>>()
                })
            })
            .collect();
        // The first one may wait for room that never comes.
        while keep.0.len() < round / 2 && threads[1..].iter().any(|thread| !thread.is_finished()) {
            event_loop.run_once(&mut keep, Some(Duration::ZERO)).unwrap();
        }
        drop(event_loop);
        drop(receiver);
        let back: Vec<_> = threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
        let (kept, handed_back, dropped) = (keep.0.len(), back.len(), drops.load(Ordering::SeqCst));
        assert_eq!(
            kept + handed_back + dropped,
            SENDERS * EACH,
            "{kept} delivered, {handed_back} handed back"
        );
        drop((keep, back));
        assert_eq!(drops.load(Ordering::SeqCst), SENDERS * EACH);
    }
}
