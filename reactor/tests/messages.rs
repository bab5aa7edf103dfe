//! Channels, remotes and threads: nothing lost, nobody woken for nothing.

mod common;

use std::sync::mpsc;
use std::thread;

use common::{Loop, On, Seen, poll};
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

/// Every answer lets the other side send once more, so nearly every message meets a loop that sleeps or is about to.
#[test]
fn no_wake_up_is_lost_between_a_sender_and_a_loop_about_to_sleep() {
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
    // A wake may cross a loop that has just found the message itself and does not sleep: so, not `sleeps`.
    assert!(stats.wakes <= stats.turns + 1, "more wakes than times the loop was about to sleep: {stats:?}");
}

#[test]
fn many_senders_through_a_small_channel_lose_and_reorder_nothing() {
    const EACH: u32 = 10_000;
    let mut event_loop: Loop = Loop::builder().channel_capacity(8).messages_per_turn(3).build().unwrap();
    let threads: Vec<_> = (0..3)
        .map(|id| {
            let sender = event_loop.channel();
            thread::spawn(move || (0..EACH).for_each(|n| sender.send_blocking(id << 24 | n).unwrap()))
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
fn further_channels_call_with_their_token_until_they_are_drained() {
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
    assert!(event_loop.stats().sleeps <= 1, "the first wait, which the senders' wake had ended beforehand");
}

#[test]
fn a_further_channel_wakes_the_loop_and_tells_its_end_once() {
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
                    Err(TryRecvError::Closed) => {
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
    assert_eq!(event_loop.next_timeout(), None, "an end that was told is no work");
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
fn a_remote_s_wake_is_a_turn_and_its_shutdown_ends_the_thread_after_what_was_sent() {
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
fn a_callback_s_panic_on_the_loop_s_thread_is_an_error_of_join() {
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
    assert!(matches!(error, kodiak_reactor::JoinError::Panicked { handler: Bad(7), .. }), "the handler comes back");
}
