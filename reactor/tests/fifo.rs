//! A hang-up that ends: in a program of its own, since it starts a child, which for a moment holds
//! duplicates of everything.

mod common;

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::process::Command;

use common::{Loop, poll, readable_tokens};
use kodiak_reactor::Io;

const MANY_TURNS: usize = 20;

/// Its hang-up is ignored until it is suspended; then the other end is opened again.
#[test]
fn a_fifo_that_gets_another_writer_is_level_triggered_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("fifo");
    assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
    let open = OpenOptions::new().read(true).write(true).open(&path).unwrap();
    let reader = File::open(&path).unwrap();
    let mut writer = OpenOptions::new().write(true).open(&path).unwrap();
    drop(open);
    let reader = Io::new(reader);
    let mut event_loop = Loop::new().unwrap();
    event_loop.register(&reader, 1).unwrap();
    for round in 0..3 {
        drop(writer);
        let quiet = (0..MANY_TURNS)
            .find(|_| poll(&mut event_loop).is_empty() && poll(&mut event_loop).is_empty());
        assert!(quiet.is_some(), "still reported after {MANY_TURNS} turns");
        assert_eq!(event_loop.stats().suspensions, round + 1);
        writer = OpenOptions::new().write(true).open(&path).unwrap();
        writer.write_all(b"back").unwrap();
        for _ in 0..MANY_TURNS {
            assert_eq!(readable_tokens(&poll(&mut event_loop)), [1], "level-triggered");
        }
        assert_eq!((&mut reader.get_ref()).read(&mut [0; 16]).unwrap(), 4);
        assert_eq!(poll(&mut event_loop), []);
    }
}
