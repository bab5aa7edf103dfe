//! Pipes and children's standard streams in the loop.

mod common;

use std::io::{ErrorKind, IoSlice, IoSliceMut, Read, Write};
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};

use common::{TEST_TIMEOUT, until_readable};
use kodiak_net::pipe::{self, Receiver, Sender};
use kodiak_net::{TryRead, TryWrite};
use kodiak_reactor::{EventLoop, Handler, Interest, ReadHint, Trigger};

#[derive(Clone, Copy, PartialEq, Debug)]
enum End {
    Input,
    Output,
    Errors,
}

/// Feeds a child and collects what it says.
struct Parent {
    input: Option<Sender>,
    left: Vec<u8>,
    output: Receiver,
    errors: Receiver,
    said: Vec<u8>,
    complained: Vec<u8>,
    ends: usize,
}

impl Handler<End, ()> for Parent {
    fn writable(&mut self, _: &mut EventLoop<End, ()>, end: End) {
        assert_eq!(end, End::Input);
        while let Some(count) = self.input.as_mut().unwrap().try_write(&self.left).unwrap() {
            self.left.drain(..count);
            if self.left.is_empty() {
                self.input = None; // out of the loop, then closed: the child sees the end
                return;
            }
        }
    }

    fn readable(&mut self, event_loop: &mut EventLoop<End, ()>, end: End, _: ReadHint) {
        let (pipe, collected) = match end {
            End::Input => panic!("the child reads to the end"),
            End::Output => (&mut self.output, &mut self.said),
            End::Errors => (&mut self.errors, &mut self.complained),
        };
        let mut buffer = [0; 4096];
        match pipe.try_read(&mut buffer).unwrap() {
            Some(0) => {
                self.ends += 1;
                event_loop.deregister(&*pipe).unwrap();
                if self.ends == 2 {
                    event_loop.shutdown();
                }
            }
            Some(count) => collected.extend_from_slice(&buffer[..count]),
            None => {}
        }
    }

    fn timeout(&mut self, _: &mut EventLoop<End, ()>, _: End) {
        panic!("the child does not end");
    }
}

#[test]
fn a_child_is_written_to_and_read_from_in_the_loop() {
    // More than a pipe holds, in both directions.
    let text: Vec<u8> = (0..300_000).map(|index| (index % 251) as u8).collect();
    let mut child = Command::new("sh")
        .args(["-c", "cat; echo done >&2"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let input = Sender::try_from(child.stdin.take().unwrap()).unwrap();
    let output = Receiver::try_from(child.stdout.take().unwrap()).unwrap();
    let errors = Receiver::try_from(child.stderr.take().unwrap()).unwrap();
    let mut event_loop = EventLoop::new().unwrap();
    event_loop.register_opt(&input, End::Input, Interest::WRITABLE, Trigger::Level).unwrap();
    event_loop.register(&output, End::Output).unwrap();
    event_loop.register(&errors, End::Errors).unwrap();
    event_loop.timeout(End::Input, TEST_TIMEOUT).unwrap();
    let mut parent = Parent {
        input: Some(input),
        left: text.clone(),
        output,
        errors,
        said: Vec::new(),
        complained: Vec::new(),
        ends: 0,
    };
    event_loop.run(&mut parent).unwrap();
    assert!(parent.said == text, "cat gives back what it was given");
    assert_eq!(parent.complained, b"done\n");
    assert!(child.wait().unwrap().success());
}

#[test]
fn a_pipe_blocks_at_neither_end() {
    let (mut sender, mut receiver) = pipe::new().unwrap();
    let mut buffer = [0; 4096];
    assert_eq!(receiver.try_read(&mut buffer).unwrap(), None);
    let mut written = 0;
    while let Some(count) = sender.try_write(&[7; 4096]).unwrap() {
        written += count;
    }
    assert!(written >= 4096);
    drop(sender);
    let mut read = 0;
    while let Some(count) = receiver.try_read(&mut buffer).unwrap().filter(|count| *count > 0) {
        read += count;
    }
    assert_eq!(read, written);
}

#[test]
fn vectored_calls_work_and_a_lost_reader_is_an_error() {
    let (mut sender, mut receiver) = pipe::new().unwrap();
    assert_eq!(sender.write_vectored(&[IoSlice::new(b"ab"), IoSlice::new(b"cde")]).unwrap(), 5);
    let (mut first, mut second) = ([0; 3], [0; 3]);
    let mut buffers = [IoSliceMut::new(&mut first), IoSliceMut::new(&mut second)];
    assert_eq!(receiver.try_read_vectored(&mut buffers).unwrap(), Some(5));
    assert_eq!((&first, &second[..2]), (b"abc", &b"de"[..]));
    // Both ends also work through a reference.
    (&sender).write_all(b"x").unwrap();
    assert_eq!((&receiver).read(&mut first).unwrap(), 1);
    drop(receiver);
    assert_eq!(sender.try_write(b"x").unwrap_err().kind(), ErrorKind::BrokenPipe);
}

#[test]
fn an_end_given_to_a_child_blocks_again() {
    let (sender, receiver) = pipe::new().unwrap();
    // `cat` does not expect a standard input that would block: it would end with an error instead
    // of waiting.
    let child = Command::new("cat")
        .stdin(Stdio::from(receiver.into_blocking().unwrap()))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let writer = std::thread::spawn(move || {
        let mut sender = std::fs::File::from(sender.into_blocking().unwrap());
        for _ in 0..100 {
            sender.write_all(&[1; 4096]).unwrap();
        }
    });
    assert_eq!(child.wait_with_output().unwrap().stdout.len(), 100 * 4096);
    writer.join().unwrap();
}

#[test]
fn conversions_leave_the_loop_and_make_non_blocking() {
    let (reader, mut writer) = std::io::pipe().unwrap();
    let mut receiver = Receiver::try_from(reader).unwrap();
    assert_eq!(receiver.try_read(&mut [0; 4]).unwrap(), None, "std's was blocking");
    writer.write_all(b"x").unwrap();
    until_readable(&receiver);
    let mut event_loop = EventLoop::<(), ()>::new().unwrap();
    event_loop.register(&receiver, ()).unwrap();
    let descriptor = OwnedFd::from(receiver);
    struct Silent;
    impl Handler<(), ()> for Silent {
        fn readable(&mut self, _: &mut EventLoop<(), ()>, _: (), _: ReadHint) {
            panic!("it has left the loop");
        }
    }
    event_loop.run_once(&mut Silent, Some(std::time::Duration::ZERO)).unwrap();
    assert_eq!(event_loop.source_count(), 0);
    assert_eq!(Receiver::try_from(descriptor).unwrap().try_read(&mut [0; 4]).unwrap(), Some(1));
}
