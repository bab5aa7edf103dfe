//! The channel against a `VecDeque`: any sequence of sends, receives, clones and drops.
#![cfg(not(loom))]

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use kodiak_channel::{Notifier, SendError, TryRecvError, Wake, bounded, unbounded};
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Operation {
    Send(usize),
    Receive,
    Clone(usize),
    DropSender(usize),
    DropReceiver,
    Arm,
    StayAwake,
}

fn operation() -> impl Strategy<Value = Operation> {
    prop_oneof![
        8 => any::<usize>().prop_map(Operation::Send),
        6 => Just(Operation::Receive),
        2 => any::<usize>().prop_map(Operation::Clone),
        2 => any::<usize>().prop_map(Operation::DropSender),
        1 => Just(Operation::DropReceiver),
        2 => Just(Operation::Arm),
        2 => Just(Operation::StayAwake),
    ]
}

struct Counting(Arc<AtomicUsize>);

impl Wake for Counting {
    fn wake(&self) -> io::Result<()> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn channel_is_a_queue(
        capacity in prop_oneof![Just(None), (1..6_usize).prop_map(Some)],
        operations in prop::collection::vec(operation(), 0..60),
    ) {
        let wakes = Arc::new(AtomicUsize::new(0));
        let notifier = Notifier::new(Counting(Arc::clone(&wakes)));
        let (sender, receiver) = match capacity {
            None => unbounded(&notifier),
            Some(capacity) => bounded(capacity, &notifier),
        };
        let (mut senders, mut receiver) = (vec![sender], Some(receiver));
        // The model. The reference count of the messages shows which have been dropped.
        let (mut queue, mut awake, mut expected_wakes) = (VecDeque::new(), true, 0);
        let (mut sent, message) = (0, Arc::new(()));
        let mut notify = |awake: &mut bool| {
            expected_wakes += usize::from(!std::mem::replace(awake, true));
        };

        for operation in operations {
            match operation {
                Operation::Send(i) if !senders.is_empty() => {
                    sent += 1;
                    let result = senders[i % senders.len()].send((sent, Arc::clone(&message)));
                    if receiver.is_none() {
                        prop_assert!(matches!(result, Err(SendError::Closed((n, _))) if n == sent));
                    } else {
                        if capacity == Some(queue.len()) {
                            let returned = result.unwrap_err();
                            prop_assert!(returned.is_full() && returned.into_inner().0 == sent);
                        } else {
                            prop_assert!(result.is_ok());
                            queue.push_back(sent);
                        }
                        notify(&mut awake);
                    }
                }
                Operation::Receive => if let Some(receiver) = &receiver {
                    let is_closed = senders.is_empty();
                    prop_assert_eq!(receiver.is_ready(), !queue.is_empty() || is_closed);
                    let none =
                        if is_closed { TryRecvError::Closed } else { TryRecvError::Empty };
                    let received = receiver.try_recv().map(|(n, _)| n);
                    prop_assert_eq!(received, queue.pop_front().ok_or(none));
                },
                Operation::Clone(i) if !senders.is_empty() => {
                    senders.push(senders[i % senders.len()].clone());
                }
                Operation::DropSender(i) if !senders.is_empty() => {
                    senders.swap_remove(i % senders.len());
                    if senders.is_empty() {
                        notify(&mut awake);
                    }
                }
                Operation::DropReceiver => {
                    receiver = None;
                    queue.clear();
                }
                Operation::Arm => {
                    notifier.arm();
                    awake = false;
                }
                Operation::StayAwake => {
                    notifier.stay_awake();
                    awake = true;
                }
                Operation::Send(_) | Operation::Clone(_) | Operation::DropSender(_) => {}
            }
            prop_assert_eq!(Arc::strong_count(&message), 1 + queue.len());
            if let Some(receiver) = &receiver {
                prop_assert_eq!(receiver.len(), queue.len());
                prop_assert_eq!(receiver.is_empty(), queue.is_empty());
                prop_assert_eq!(receiver.capacity(), capacity);
            }
        }
        prop_assert_eq!(wakes.load(Ordering::Relaxed), expected_wakes);
    }
}
