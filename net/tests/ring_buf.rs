//! `RingBuf` against a model, and the cases that the model does not single out.

use std::collections::VecDeque;
use std::io::{self, BufRead, IoSlice, IoSliceMut, Read, Write};

use kodiak_net::{Fill, RingBuf};
use proptest::prelude::*;

#[derive(Debug, Clone)]
enum Step {
    Write(Vec<u8>),
    Read(usize),
    Consume(usize),
    Peek(usize),
    FillFrom(Vec<u8>),
    DrainTo(usize),
    FreeSlices(Vec<u8>),
    MakeContiguous,
    Clear,
}

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(any::<u8>(), 0..24)
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => bytes().prop_map(Step::Write),
        4 => (0..24usize).prop_map(Step::Read),
        3 => (0..24usize).prop_map(Step::Consume),
        3 => (0..24usize).prop_map(Step::Peek),
        4 => bytes().prop_map(Step::FillFrom),
        4 => (0..24usize).prop_map(Step::DrainTo),
        3 => bytes().prop_map(Step::FreeSlices),
        1 => Just(Step::MakeContiguous),
        1 => Just(Step::Clear),
    ]
}

/// A socket with these bytes to read and room for this number of bytes.
struct Wire {
    incoming: VecDeque<u8>,
    room: usize,
    written: Vec<u8>,
}

impl Wire {
    fn giving(bytes: &[u8]) -> Wire {
        Wire { incoming: bytes.iter().copied().collect(), room: 0, written: Vec::new() }
    }

    fn taking(room: usize) -> Wire {
        Wire { incoming: VecDeque::new(), room, written: Vec::new() }
    }
}

impl Read for Wire {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.read_vectored(&mut [IoSliceMut::new(buffer)])
    }

    fn read_vectored(&mut self, buffers: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        if self.incoming.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let mut count = 0;
        for target in buffers.iter_mut().flat_map(|buffer| buffer.iter_mut()) {
            let Some(byte) = self.incoming.pop_front() else { break };
            *target = byte;
            count += 1;
        }
        Ok(count)
    }
}

impl Write for Wire {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_vectored(&[IoSlice::new(bytes)])
    }

    fn write_vectored(&mut self, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
        if self.room == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let before = self.written.len();
        self.written.extend(buffers.iter().flat_map(|buffer| buffer.iter()).take(self.room));
        let count = self.written.len() - before;
        self.room -= count;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Does the same to both; what they answer must agree.
fn apply(ring: &mut RingBuf, model: &mut VecDeque<u8>, step: Step) {
    let free = ring.capacity() - model.len();
    match step {
        Step::Write(bytes) => {
            let fits = bytes.len().min(free);
            assert_eq!(ring.writer().write(&bytes).unwrap(), fits);
            model.extend(&bytes[..fits]);
        }
        Step::Read(count) => {
            let mut target = vec![0; count];
            let expected: Vec<u8> = model.drain(..count.min(model.len())).collect();
            assert_eq!(ring.reader().read(&mut target).unwrap(), expected.len());
            assert_eq!(target[..expected.len()], expected);
        }
        Step::Consume(count) => {
            let expected = count.min(model.len());
            model.drain(..expected);
            assert_eq!(ring.consume(count), expected);
        }
        Step::Peek(count) => {
            let mut copied = vec![0; count];
            let copied_len = ring.peek_into(&mut copied);
            let expected: Vec<u8> = model.iter().copied().take(count).collect();
            assert_eq!(copied[..copied_len], expected);
            assert_eq!(ring.peek(count), (expected.len() == count).then_some(&expected[..]));
        }
        Step::FillFrom(bytes) => {
            let fits = bytes.len().min(free);
            let expected = match () {
                () if free == 0 => Fill::Full,
                () if fits == 0 => Fill::WouldBlock,
                () => Fill::Bytes(fits),
            };
            assert_eq!(ring.fill_from(&mut Wire::giving(&bytes)).unwrap(), expected);
            model.extend(&bytes[..fits]);
        }
        Step::DrainTo(room) => {
            let mut wire = Wire::taking(room);
            let expected: Vec<u8> = model.iter().copied().take(room).collect();
            let would_block = room == 0 && !model.is_empty();
            assert_eq!(ring.drain_to(&mut wire).unwrap(), (!would_block).then_some(expected.len()));
            assert_eq!(wire.written, expected);
            model.drain(..expected.len());
        }
        Step::FreeSlices(bytes) => {
            let (first, second) = ring.free_slices_mut();
            assert_eq!(first.len() + second.len(), free);
            for (target, byte) in first.iter_mut().chain(second).zip(&bytes) {
                *target = *byte;
            }
            let fits = bytes.len().min(free);
            assert_eq!(ring.commit(bytes.len()), fits);
            model.extend(&bytes[..fits]);
        }
        Step::MakeContiguous => {
            let expected: Vec<u8> = model.iter().copied().collect();
            assert_eq!(ring.make_contiguous(), expected);
        }
        Step::Clear => {
            ring.clear();
            model.clear();
        }
    }
    let (first, second) = ring.as_slices();
    assert!(first.iter().chain(second).eq(model.iter()));
    assert_eq!(ring.len(), model.len());
    assert_eq!(ring.free(), ring.capacity() - model.len());
    assert_eq!(ring.is_empty(), model.is_empty());
    assert_eq!(ring.is_full(), model.len() == ring.capacity());
}

proptest! {
    #[test]
    fn a_ring_buffer_does_what_a_deque_does(
        capacity in 0..20usize,
        steps in proptest::collection::vec(step(), 0..80),
    ) {
        let mut ring = RingBuf::new(capacity);
        let mut model = VecDeque::new();
        for step in steps {
            apply(&mut ring, &mut model, step);
        }
    }
}

#[test]
fn a_closed_stream_and_a_full_buffer_are_distinguished() {
    let mut ring = RingBuf::new(2);
    assert_eq!(ring.fill_from(&mut io::empty()).unwrap(), Fill::Closed);
    assert_eq!(ring.fill_from(&mut &b"abc"[..]).unwrap(), Fill::Bytes(2));
    assert_eq!(ring.fill_from(&mut io::empty()).unwrap(), Fill::Full);
}

#[test]
fn a_sink_that_takes_nothing_is_an_error_not_an_endless_loop() {
    let mut ring = RingBuf::new(8);
    ring.writer().write_all(b"abc").unwrap();
    let error = ring.drain_to(&mut &mut [0; 0][..]).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::WriteZero);
    assert_eq!(ring.len(), 3);
}

#[test]
fn an_interrupted_call_is_repeated() {
    struct Interrupted(bool);
    impl Read for Interrupted {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            if !std::mem::replace(&mut self.0, true) {
                return Err(io::ErrorKind::Interrupted.into());
            }
            buffer[0] = 7;
            Ok(1)
        }
    }
    let mut ring = RingBuf::new(4);
    assert_eq!(ring.fill_from(&mut Interrupted(false)).unwrap(), Fill::Bytes(1));
    assert_eq!(ring.peek(1), Some(&[7][..]));
}

#[test]
fn lines_can_be_read_across_the_wrap() {
    let mut ring = RingBuf::new(8);
    ring.writer().write_all(b"123456").unwrap();
    ring.consume(5);
    ring.writer().write_all(b"78\n9a").unwrap();
    assert!(!ring.as_slices().1.is_empty(), "the line straddles the end of the memory");
    let mut line = String::new();
    ring.reader().read_line(&mut line).unwrap();
    assert_eq!(line, "678\n");
    assert_eq!(ring.len(), 2);
}

#[test]
fn debug_shows_sizes_not_contents() {
    let mut ring = RingBuf::new(16);
    ring.writer().write_all(b"secret").unwrap();
    assert_eq!(format!("{ring:?}"), "RingBuf { len: 6, capacity: 16, .. }");
}

#[test]
fn nothing_allocates_after_new() {
    let mut ring = RingBuf::new(64);
    let counted = allocation_counter::measure(|| {
        for _ in 0..100 {
            ring.writer().write_all(&[1; 40]).unwrap();
            assert!(matches!(ring.fill_from(&mut &[2; 40][..]), Ok(Fill::Bytes(24))));
            assert!(ring.peek(30).is_some());
            ring.consume(10);
            assert_eq!(ring.drain_to(&mut io::sink()).unwrap(), Some(54));
        }
    });
    assert_eq!(counted.count_total, 0);
}
