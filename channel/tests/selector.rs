//! The channel with a loop that sleeps in the kernel.
#![cfg(not(loom))]

use std::time::Duration;

use kodiak_channel::{Notifier, TryRecvError, bounded};
use kodiak_sys::{Events, Selector, Waker};

/// The last sender sends, wakes the loop, and is dropped. The sleeping loop gets the message and
/// the close. Only the notifier owns the waker, and the receiver keeps the notifier.
#[test]
fn the_last_sender_wakes_a_sleeping_selector() {
    const WAKER: u64 = u64::MAX;
    let selector = Selector::new().unwrap();
    let notifier = Notifier::new(Waker::new(&selector, WAKER).unwrap());
    let mut events = Events::with_capacity(4);
    for round in 0..100 {
        let (sender, receiver) = bounded(1, &notifier);
        let thread = std::thread::spawn(move || sender.send(round).unwrap());
        let mut received = None;
        loop {
            match receiver.try_recv() {
                Ok(message) => received = Some(message),
                Err(TryRecvError::Closed) => break,
                Err(_) => {
                    let slept = notifier.sleep_unless(
                        || receiver.is_ready(),
                        || selector.wait(&mut events, Some(Duration::from_secs(60))),
                    );
                    match slept {
                        Some(Ok(0)) => panic!("a lost wake-up: slept for a minute"),
                        Some(Ok(_)) => assert!(events.iter().all(|event| event.key == WAKER)),
                        Some(Err(error)) => {
                            assert_eq!(error.kind(), std::io::ErrorKind::Interrupted)
                        }
                        None => {}
                    }
                }
            }
        }
        assert_eq!(received, Some(round));
        thread.join().unwrap();
    }
}
