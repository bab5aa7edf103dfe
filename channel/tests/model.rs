//! The channel against a `VecDeque`: any sequence of sends, receives, clones and drops.
#![cfg(not(loom))]

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use kodiak_channel::{Notifier, SendError, TryRecvError, Wake, bounded, unbounded};
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Op {
    Send(usize),
    Receive,
    Clone(usize),
    DropSender(usize),
    DropReceiver,
    Arm,
    StayAwake,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        8 => any::<usize>().prop_map(Op::Send),
        6 => Just(Op::Receive),
        2 => any::<usize>().prop_map(Op::Clone),
        2 => any::<usize>().prop_map(Op::DropSender),
        1 => Just(Op::DropReceiver),
        2 => Just(Op::Arm),
        2 => Just(Op::StayAwake),
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
    fn channel_is_a_queue(capacity in prop_oneof![Just(None), (1..6_usize).prop_map(Some)], ops in prop::collection::vec(op(), 0..60)) {
        let wakes = Arc::new(AtomicUsize::new(0));
        let notifier = Notifier::new(Counting(Arc::clone(&wakes)));
        let (sender, receiver) = capacity.map_or_else(|| unbounded(&notifier), |capacity| bounded(capacity, &notifier));
        let (mut senders, mut receiver) = (vec![sender], Some(receiver));
        // The model. Messages are counted references, so that each one's fate shows at the end.
        let (mut queue, mut awake, mut expected_wakes) = (VecDeque::new(), true, 0);
        let (mut sent, message) = (0, Arc::new(()));
        let mut notify = |awake: &mut bool| expected_wakes += usize::from(!std::mem::replace(awake, true));

        for op in ops {
            match op {
                Op::Send(i) if !senders.is_empty() => {
                    sent += 1;
                    let outcome = senders[i % senders.len()].send((sent, Arc::clone(&message)));
                    if receiver.is_none() {
                        prop_assert!(matches!(outcome, Err(SendError::Closed((n, _))) if n == sent));
                    } else {
                        if capacity == Some(queue.len()) {
                            prop_assert!(matches!(outcome, Err(SendError::Full((n, _))) if n == sent));
                        } else {
                            prop_assert!(outcome.is_ok());
                            queue.push_back(sent);
                        }
                        notify(&mut awake);
                    }
                }
                Op::Receive => if let Some(receiver) = &receiver {
                    prop_assert_eq!(receiver.is_ready(), !queue.is_empty() || senders.is_empty());
                    let none = if senders.is_empty() { TryRecvError::Closed } else { TryRecvError::Empty };
                    prop_assert_eq!(receiver.try_recv().map(|(n, _)| n), queue.pop_front().ok_or(none));
                },
                Op::Clone(i) if !senders.is_empty() => senders.push(senders[i % senders.len()].clone()),
                Op::DropSender(i) if !senders.is_empty() => {
                    senders.swap_remove(i % senders.len());
                    if senders.is_empty() {
                        notify(&mut awake);
                    }
                }
                Op::DropReceiver => {
                    receiver = None;
                    queue.clear();
                }
                Op::Arm => {
                    notifier.arm();
                    awake = false;
                }
                Op::StayAwake => {
                    notifier.stay_awake();
                    awake = true;
                }
                Op::Send(_) | Op::Clone(_) | Op::DropSender(_) => {}
            }
            prop_assert_eq!(Arc::strong_count(&message), 1 + queue.len());
            if let Some(receiver) = &receiver {
                prop_assert_eq!((receiver.len(), receiver.is_empty(), receiver.capacity()), (queue.len(), queue.is_empty(), capacity));
            }
        }
        prop_assert_eq!(wakes.load(Ordering::Relaxed), expected_wakes);
    }
}
