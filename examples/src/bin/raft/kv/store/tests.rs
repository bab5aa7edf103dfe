//! What the store answers, and when keys expire.

use std::collections::BTreeMap;

use kodiak_raft::types::{Index, Stamp, Term};
use proptest::prelude::*;

use super::{super::operation::encode, *};

fn write(store: &mut Store, operation: Operation, arguments: &[&[u8]]) -> Bytes {
    let command = encode(operation, arguments.iter().copied());
    store
        .apply(&Committed { index: Index(1), term: Term(1), stamp: Stamp(0), command: &command })
        .unwrap()
}

fn read(store: &Store, operation: Operation, arguments: &[&[u8]]) -> Bytes {
    ask(store, &encode(operation, arguments.iter().copied()))
}

fn ask(store: &Store, query: &[u8]) -> Bytes {
    store.query(&Query { applied: Index(1), bytes: query })
}

proptest! {
    #[test]
    fn the_store_agrees_with_a_map(
        steps in prop::collection::vec((0u8..5, 0u8..4, -3i64..9), 0..60),
    ) {
        let (mut store, mut model) = (Store::default(), BTreeMap::<u8, i64>::new());
        for (what, key, number) in steps {
            let (name, text) = ([key], number.to_string());
            let (reply, expected) = match what {
                0 => {
                    model.insert(key, number);
                    let reply = write(&mut store, Operation::Set, &[&name, text.as_bytes(), &[0]]);
                    (reply, "+OK\r\n".to_owned())
                }
                1 => {
                    let sum = model.get(&key).copied().unwrap_or(0) + number;
                    model.insert(key, sum);
                    let reply = write(&mut store, Operation::IncrBy, &[&name, text.as_bytes()]);
                    (reply, format!(":{sum}\r\n"))
                }
                2 => {
                    let had = i64::from(model.remove(&key).is_some());
                    (write(&mut store, Operation::Del, &[&name]), format!(":{had}\r\n"))
                }
                3 => {
                    let had = model.contains_key(&key);
                    model.entry(key).or_insert(number);
                    let flags = [set_flags::IF_ABSENT | set_flags::AS_NUMBER];
                    let arguments = [&name[..], text.as_bytes(), &flags];
                    let reply = write(&mut store, Operation::Set, &arguments);
                    (reply, format!(":{}\r\n", i64::from(!had)))
                }
                _ => {
                    let expected = model.get(&key).map_or("$-1\r\n".to_owned(), |value| {
                        let value = value.to_string();
                        format!("${}\r\n{value}\r\n", value.len())
                    });
                    (read(&store, Operation::Get, &[&name]), expected)
                }
            };
            prop_assert_eq!(str::from_utf8(&reply).unwrap(), expected);
            prop_assert_eq!(read(&store, Operation::DbSize, &[]), integer(model.len() as i64));
        }
    }

    #[test]
    fn no_bytes_cause_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
        let mut store = Store::default();
        let (index, term, stamp) = (Index(1), Term(1), Stamp(0));
        let applied = store.apply(&Committed { index, term, stamp, command: &bytes });
        let is_refused = |error: MachineError| error.to_string().contains("upgrade this node");
        prop_assert!(applied.is_ok() || applied.is_err_and(is_refused));
        ask(&store, &bytes);
    }
}

#[test]
fn increments_refuse_text_and_overflow() {
    let mut store = Store::default();
    write(&mut store, Operation::Set, &[b"k", b"abc", &[0]]);
    assert!(
        write(&mut store, Operation::IncrBy, &[b"k", b"1"])
            .starts_with(b"-ERR value is not an integer")
    );
    write(&mut store, Operation::Set, &[b"k", i64::MAX.to_string().as_bytes(), &[0]]);
    assert!(
        write(&mut store, Operation::IncrBy, &[b"k", b"1"])
            .starts_with(b"-ERR increment or decrement would overflow")
    );
}

#[test]
fn set_honours_conditions_and_returns_the_value_before() {
    let mut store = Store::default();
    let set = |store: &mut Store, value: &[u8], flags| {
        write(store, Operation::Set, &[b"k", value, &[flags]])
    };
    assert_eq!(set(&mut store, b"1", set_flags::IF_PRESENT), NIL);
    assert_eq!(set(&mut store, b"1", set_flags::IF_ABSENT | set_flags::GET), NIL);
    assert_eq!(set(&mut store, b"2", set_flags::IF_ABSENT), NIL);
    assert_eq!(set(&mut store, b"3", set_flags::IF_PRESENT | set_flags::GET), bulk(b"1"));
    assert_eq!(read(&store, Operation::MGet, &[b"k", b"none"]), "*2\r\n$1\r\n3\r\n$-1\r\n");
}

#[test]
fn a_transaction_answers_each_of_its_operations() {
    let mut store = Store::default();
    let set = encode(Operation::Set, [&b"k"[..], b"1", &[0]].into_iter());
    let increment = encode(Operation::IncrBy, [&b"k"[..], b"2"].into_iter());
    let get = encode(Operation::Get, [&b"k"[..]].into_iter());
    let nested = encode(Operation::Exec, [&get[..]].into_iter());
    let reply = write(&mut store, Operation::Exec, &[&set, &increment, &get, &nested, b"?"]);
    let reply = str::from_utf8(&reply).unwrap();
    assert!(reply.starts_with("*5\r\n+OK\r\n:3\r\n$1\r\n3\r\n-ERR "), "{reply}");
    assert_eq!(reply.matches("-ERR ").count(), 2, "{reply}");
}

#[test]
fn append_extends_and_get_del_removes() {
    let mut store = Store::default();
    assert_eq!(write(&mut store, Operation::Append, &[b"k", b"ab"]), ":2\r\n");
    assert_eq!(write(&mut store, Operation::Append, &[b"k", b"c"]), ":3\r\n");
    assert_eq!(read(&store, Operation::StrLen, &[b"k"]), ":3\r\n");
    assert_eq!(write(&mut store, Operation::GetDel, &[b"k"]), bulk(b"abc"));
    assert_eq!(write(&mut store, Operation::GetDel, &[b"k"]), NIL);
}

/// Applies a write at a stamp.
fn write_at(store: &mut Store, stamp: u64, operation: Operation, arguments: &[&[u8]]) -> Bytes {
    let command = encode(operation, arguments.iter().copied());
    store
        .apply(&Committed {
            index: Index(1),
            term: Term(1),
            stamp: Stamp(stamp),
            command: &command,
        })
        .unwrap()
}

fn set_at(store: &mut Store, stamp: u64, value: &[u8], when: Expiration) -> Bytes {
    write_at(store, stamp, Operation::SetExpiring, &[b"k", value, &[0], &when.encode()])
}

fn ask_at(store: &Store, clock: u64, operation: Operation, arguments: &[&[u8]]) -> Bytes {
    store.query_at(&encode(operation, arguments.iter().copied()), clock, clock)
}

/// The same after a time entry that has not advanced log time far enough.
fn ask_at_log_time(store: &Store, clock: u64, operation: Operation, arguments: &[&[u8]]) -> Bytes {
    let query = encode(operation, arguments.iter().copied());
    store.query_at(&encode(Operation::AtLogTime, [&query[..]].into_iter()), clock, clock)
}

/// One step of a history: the kind of operation, its key, its number, and the time since the last.
type Step = (u8, u8, i64, u64);

/// Runs a step on a store, and returns its answer.
fn step(store: &mut Store, stamp: u64, &(what, key, number, _): &Step) -> Bytes {
    let (key, text) = ([key], number.to_string());
    let when = |when: Expiration| when.encode();
    match what {
        0 => write_at(store, stamp, Operation::Set, &[&key, text.as_bytes(), &[0]]),
        1 => {
            let when = when(Expiration::After(number * 3));
            write_at(
                store,
                stamp,
                Operation::SetExpiring,
                &[&key, text.as_bytes(), &[set_flags::GET], &when],
            )
        }
        2 => write_at(
            store,
            stamp,
            Operation::SetExpiring,
            &[&key, text.as_bytes(), &[0], &when(Expiration::Keep)],
        ),
        3 => write_at(
            store,
            stamp,
            Operation::Expire,
            &[&key, &when(Expiration::After(number)), &[0]],
        ),
        4 => write_at(store, stamp, Operation::Persist, &[&key]),
        5 => write_at(store, stamp, Operation::IncrBy, &[&key, text.as_bytes()]),
        6 => write_at(store, stamp, Operation::Del, &[&key]),
        7 => write_at(store, stamp, Operation::Rename, &[&key, &[(number * 5) as u8 % KEYS], &[0]]),
        8 => write_at(store, stamp, Operation::AdvanceTime, &[]),
        _ => write_at(
            store,
            stamp,
            Operation::GetEx,
            &[&key, &when(Expiration::At(stamp as i64 + number))],
        ),
    }
}

/// The same on a map from keys to values and deadlines, from which expired keys are removed before
/// every step.
fn model_step(
    model: &mut BTreeMap<u8, (i64, Option<u64>)>,
    now: u64,
    &(what, key, number, _): &Step,
) -> String {
    model.retain(|_, (_, deadline)| deadline.is_none_or(|deadline| deadline > now));
    let show = |value: Option<i64>| {
        value.map_or("$-1\r\n".to_owned(), |value| {
            format!("${}\r\n{value}\r\n", value.to_string().len())
        })
    };
    let before = model.get(&key).copied();
    let ok = "+OK\r\n".to_owned();
    let later = |ms: i64| Some(now.saturating_add_signed(ms));
    let reply = match what {
        0 => (model.insert(key, (number, None)), ok).1,
        1 => {
            (model.insert(key, (number, later(number * 3))), show(before.map(|(value, _)| value))).1
        }
        2 => (model.insert(key, (number, before.and_then(|(_, deadline)| deadline))), ok).1,
        3 => {
            model.entry(key).and_modify(|(_, deadline)| *deadline = later(number));
            format!(":{}\r\n", i64::from(before.is_some()))
        }
        4 => {
            model.entry(key).and_modify(|(_, deadline)| *deadline = None);
            format!(":{}\r\n", i64::from(before.is_some_and(|(_, deadline)| deadline.is_some())))
        }
        5 => {
            let entry = model.entry(key).or_insert((0, None));
            entry.0 += number;
            format!(":{}\r\n", entry.0)
        }
        6 => format!(":{}\r\n", i64::from(model.remove(&key).is_some())),
        7 => match model.remove(&key) {
            Some(value) => (model.insert((number * 5) as u8 % KEYS, value), ok).1,
            None => "-ERR no such key\r\n".to_owned(),
        },
        8 => ok,
        _ => {
            model.entry(key).and_modify(|(_, deadline)| *deadline = later(number));
            show(before.map(|(value, _)| value))
        }
    };
    model.retain(|_, (_, deadline)| deadline.is_none_or(|deadline| deadline > now));
    reply
}

/// More than an operation removes, so that some expired keys are still in the store.
const KEYS: u8 = 16;

/// Checks that the same keys exist, with the same time left.
fn check(
    store: &Store,
    model: &BTreeMap<u8, (i64, Option<u64>)>,
    now: u64,
) -> Result<(), TestCaseError> {
    for key in 0..KEYS {
        let known = model.get(&key);
        let ttl = match known {
            None => -2,
            Some((_, None)) => -1,
            Some((_, Some(deadline))) => (deadline - now) as i64,
        };
        prop_assert_eq!(
            ask_at(store, now, Operation::Ttl, &[&[key], &[ttl_form::MS]]),
            integer(ttl)
        );
        prop_assert_eq!(
            ask_at(store, now, Operation::Exists, &[&[key]]),
            integer(i64::from(known.is_some()))
        );
    }
    Ok(())
}

proptest! {
    /// A store that is restored from a snapshot between two steps agrees, and is afterwards the
    /// same as one that never was.
    #[test]
    fn keys_expire_as_in_a_model_and_after_a_snapshot(
        // Many keys get a deadline; then time jumps.
        set in prop::collection::vec((1u8..2, 0..KEYS, 1i64..9, 0u64..1), 0..60),
        jump in 0u64..30,
        steps in prop::collection::vec((0u8..10, 0..KEYS, 0i64..9, 0u64..6), 0..60),
        restored_after in 0usize..6,
    ) {
        let (mut store, mut model, mut now) = (Store::default(), BTreeMap::new(), 1000);
        let mut never_restored = Store::default();
        let jump = (0, 0, 0, jump);
        for (at, step_taken) in set.iter().chain([&jump]).chain(&steps).enumerate() {
            if at == set.len() + restored_after {
                let mut content = store.snapshot();
                store = Store::default();
                store.restore(&mut content).unwrap();
                check(&store, &model, now)?;
                prop_assert_eq!(store.now, never_restored.now);
            }
            now += step_taken.3;
            let expected = model_step(&mut model, now, step_taken);
            let reply = step(&mut store, now, step_taken);
            prop_assert_eq!(str::from_utf8(&reply).unwrap(), expected, "step {} at {}", at, now);
            check(&store, &model, now)?;
            // The same expired keys are still in the store, too.
            prop_assert_eq!(step(&mut never_restored, now, step_taken), reply);
            prop_assert_eq!(scan::all_keys(&store.map), scan::all_keys(&never_restored.map));
            prop_assert!(store.deadlines.map() == never_restored.deadlines.map());
            prop_assert_eq!(store.digest(), never_restored.digest());
        }
    }
}

#[test]
fn the_digest_depends_on_the_state_alone() {
    let digest_of = |operations: &[(Operation, &[&[u8]])]| {
        let mut store = Store::default();
        for (operation, arguments) in operations {
            write(&mut store, *operation, arguments);
        }
        let mut restored = Store::default();
        restored.restore(&mut store.snapshot()).unwrap();
        assert_eq!(restored.digest(), store.digest());
        store.digest().unwrap().value
    };
    let set = |key: &'static [u8], value: &'static [u8]| (Operation::Set, [key, value, &[0]]);
    let (a, b, c) = (set(b"a", b"12"), set(b"b", b"3"), set(b"a", b"1"));
    let one = digest_of(&[(a.0, &a.1), (b.0, &b.1)]);
    assert_eq!(digest_of(&[(b.0, &b.1), (c.0, &c.1), (Operation::Append, &[b"a", b"2"])]), one);
    assert_eq!(digest_of(&[(b.0, &b.1), (c.0, &c.1), (Operation::IncrBy, &[b"a", b"11"])]), one);
    assert_ne!(digest_of(&[(b.0, &b.1), (c.0, &c.1)]), one);
    let gone: &[(Operation, &[&[u8]])] = &[(a.0, &a.1), (Operation::Del, &[b"a"])];
    assert_eq!(digest_of(gone), digest_of(&[]));
    assert_eq!(digest_of(&[(a.0, &a.1), (b.0, &b.1), (Operation::FlushAll, &[])]), digest_of(&[]));
    let expires: &[(Operation, &[&[u8]])] = &[
        (a.0, &a.1),
        (b.0, &b.1),
        (Operation::Expire, &[b"a", &Expiration::After(9).encode(), &[0]]),
    ];
    assert_ne!(digest_of(expires), one);
}

#[test]
fn a_key_expires_at_the_entry_that_reaches_its_deadline() {
    let mut store = Store::default();
    set_at(&mut store, 1000, b"7", Expiration::After(100));
    assert_eq!(
        write_at(&mut store, 1099, Operation::IncrBy, &[b"k", b"1"]),
        ":8\r\n",
        "it keeps its deadline"
    );
    assert_eq!(
        write_at(&mut store, 1100, Operation::IncrBy, &[b"k", b"1"]),
        ":1\r\n",
        "it is a new key"
    );
    assert_eq!(ask_at(&store, 9999, Operation::Ttl, &[b"k", &[0]]), ":-1\r\n");
    // A deadline that has passed, however it is stated.
    for when in [Expiration::At(5), Expiration::At(1100), Expiration::At(-5)] {
        assert_eq!(set_at(&mut store, 1100, b"v", when), "+OK\r\n");
        assert_eq!(ask_at(&store, 1100, Operation::Get, &[b"k"]), NIL, "{when:?}");
    }
    // Log time never runs backwards.
    set_at(&mut store, 1100, b"v", Expiration::After(10));
    write_at(&mut store, 2000, Operation::AdvanceTime, &[]);
    assert_eq!(set_at(&mut store, 500, b"w", Expiration::At(1500)), "+OK\r\n");
    assert_eq!(ask_at(&store, 500, Operation::Get, &[b"k"]), NIL);
}

#[test]
fn a_read_waits_for_the_log_where_expiration_is_undecided() {
    let mut store = Store::default();
    set_at(&mut store, 1000, b"v", Expiration::After(100));
    for (operation, arguments) in [
        (Operation::Get, &[&b"k"[..]][..]),
        (Operation::Ttl, &[b"k", &[0]]),
        (Operation::MGet, &[b"other", b"k"]),
        (Operation::Exists, &[b"other", b"k"]),
        (Operation::StrLen, &[b"k"]),
        (Operation::DbSize, &[]),
    ] {
        assert!(!is_undecided(&ask_at(&store, 1099, operation, arguments)), "{operation:?}");
        assert!(is_undecided(&ask_at(&store, 1100, operation, arguments)), "{operation:?}");
        assert!(
            !is_undecided(&ask_at_log_time(&store, 1100, operation, arguments)),
            "{operation:?}"
        );
    }
    assert!(!is_undecided(&ask_at(&store, 1100, Operation::Get, &[b"other"])));
    // If the clock is ahead of the leader's, the key exists for as long as the log says.
    assert_eq!(ask_at_log_time(&store, 1100, Operation::Get, &[b"k"]), bulk(b"v"));
    assert_eq!(ask_at_log_time(&store, 5000, Operation::Ttl, &[b"k", &[ttl_form::MS]]), ":100\r\n");
    write_at(&mut store, 1100, Operation::AdvanceTime, &[]);
    assert_eq!(ask_at(&store, 1100, Operation::Get, &[b"k"]), NIL);
    assert_eq!(ask_at(&store, 1100, Operation::DbSize, &[]), ":0\r\n");
}

#[test]
fn a_wrong_wall_clock_hides_no_key() {
    let mut store = Store::default();
    set_at(&mut store, 1000, b"v", Expiration::After(100));
    let get = encode(Operation::Get, [&b"k"[..]].into_iter());
    assert!(is_undecided(&store.query_at(&get, 1100, 0)), "log time has reached it");
    assert!(is_undecided(&store.query_at(&get, 1000, 1100)), "the node may have just started");
    assert_eq!(store.query_at(&get, 1099, 1099), bulk(b"v"));
    let left = encode(Operation::Ttl, [&b"k"[..], &[ttl_form::MS]].into_iter());
    assert_eq!(store.query_at(&left, 1010, 1090), ":90\r\n", "it counts in log time");
}

#[test]
fn ttl_answers_in_seconds_and_milliseconds() {
    let mut store = Store::default();
    set_at(&mut store, 10_000, b"v", Expiration::After(2_600));
    for (form, expected) in [
        (0, ":2\r\n"),
        (ttl_form::MS, ":2400\r\n"),
        (ttl_form::ABSOLUTE, ":13\r\n"),
        (ttl_form::ABSOLUTE | ttl_form::MS, ":12600\r\n"),
    ] {
        assert_eq!(ask_at(&store, 10_200, Operation::Ttl, &[b"k", &[form]]), expected, "{form}");
    }
    // A clock that is behind the log is ignored.
    assert_eq!(ask_at(&store, 9_000, Operation::Ttl, &[b"k", &[ttl_form::MS]]), ":2600\r\n");
}

#[test]
fn later_writes_remove_expired_keys_a_few_at_a_time() {
    let mut store = Store::default();
    for number in 0..50_u8 {
        write_at(
            &mut store,
            1000,
            Operation::SetExpiring,
            &[&[number], b"v", &[0], &Expiration::After(1).encode()],
        );
    }
    for writes in 1..=14_usize {
        write_at(&mut store, 2000, Operation::Set, &[b"k", b"v", &[0]]);
        let left = 50_usize.saturating_sub(writes * REMOVALS_MAX);
        assert_eq!((store.map.len(), store.deadlines.map().len()), (left + 1, left));
    }
    for (operation, stamp) in [(Operation::FlushAll, 3000), (Operation::AdvanceTime, 4000)] {
        set_at(&mut store, stamp, b"v", Expiration::After(1));
        write_at(&mut store, stamp + 500, operation, &[]);
        assert_eq!(store.deadlines.map().len(), 0);
    }
}

#[test]
fn a_transaction_sees_the_time_of_its_entry() {
    let mut store = Store::default();
    set_at(&mut store, 1000, b"v", Expiration::After(100));
    let ttl = encode(Operation::Ttl, [&b"k"[..], &[ttl_form::MS]].into_iter());
    let get = encode(Operation::Get, [&b"k"[..]].into_iter());
    assert_eq!(
        write_at(&mut store, 1040, Operation::Exec, &[&ttl, &get]),
        "*2\r\n:60\r\n$1\r\nv\r\n"
    );
    assert_eq!(write_at(&mut store, 1100, Operation::Exec, &[&ttl, &get]), "*2\r\n:-2\r\n$-1\r\n");
}

#[test]
fn mset_nx_sets_all_or_none_and_rename_moves_values() {
    let mut store = Store::default();
    assert_eq!(write(&mut store, Operation::MSetNx, &[b"a", b"1", b"b", b"2"]), ":1\r\n");
    assert_eq!(write(&mut store, Operation::MSetNx, &[b"c", b"1", b"b", b"3"]), ":0\r\n");
    assert_eq!(
        read(&store, Operation::MGet, &[b"a", b"b", b"c"]),
        "*3\r\n$1\r\n1\r\n$1\r\n2\r\n$-1\r\n"
    );
    let if_absent = [set_flags::IF_ABSENT];
    assert_eq!(write(&mut store, Operation::Rename, &[b"a", b"b", &if_absent]), ":0\r\n");
    assert_eq!(write(&mut store, Operation::Rename, &[b"a", b"c", &if_absent]), ":1\r\n");
    assert_eq!(write(&mut store, Operation::Rename, &[b"b", b"b", &[0]]), "+OK\r\n");
    assert!(
        write(&mut store, Operation::Rename, &[b"a", b"b", &[0]]).starts_with(b"-ERR no such key")
    );
    assert_eq!(
        read(&store, Operation::MGet, &[b"a", b"b", b"c"]),
        "*3\r\n$-1\r\n$1\r\n2\r\n$1\r\n1\r\n"
    );
    assert_eq!(read(&store, Operation::Type, &[b"b"]), "+string\r\n");
    assert_eq!(read(&store, Operation::Type, &[b"a"]), "+none\r\n");
}

#[test]
fn a_full_transaction_still_applies_its_writes() {
    let mut store = Store::default();
    write_at(
        &mut store,
        1000,
        Operation::Set,
        &[b"big", &vec![b'x'; VALUE_BYTES_MAX / 2 + 1], &[0]],
    );
    let get = encode(Operation::Get, [&b"big"[..]].into_iter());
    let until = Expiration::At(5000).encode();
    let get_ex = encode(Operation::GetEx, [&b"big"[..], &until].into_iter());
    let refused = encode(
        Operation::Set,
        [&b"big"[..], b"v", &[set_flags::IF_ABSENT | set_flags::GET]].into_iter(),
    );
    let set =
        encode(Operation::SetExpiring, [&b"k"[..], b"v", &[set_flags::GET], &until].into_iter());
    let increment = encode(Operation::IncrBy, [&b"n"[..], b"1"].into_iter());
    let reply = write_at(
        &mut store,
        1000,
        Operation::Exec,
        &[&get, &get, &get_ex, &refused, &set, &increment, &get],
    );
    let tail = String::from_utf8_lossy(&reply[reply.len() - 800..]);
    let replies: Vec<&str> = tail.trim_start_matches('x').trim().split("\r\n").collect();
    assert_eq!(replies.len(), 6, "{replies:?}");
    assert!(
        replies.iter().enumerate().all(|(at, reply)| reply.starts_with("-ERR done") == (at != 4)),
        "{replies:?}"
    );
    assert_eq!(replies[4], ":1");
    for key in [&b"big"[..], b"k"] {
        assert_eq!(ask_at(&store, 1000, Operation::Ttl, &[key, &[ttl_form::MS]]), ":4000\r\n");
    }
    assert_eq!(
        ask_at(&store, 1000, Operation::StrLen, &[b"big"]),
        integer(VALUE_BYTES_MAX as i64 / 2 + 1)
    );
}

#[test]
fn very_long_keys_are_listed_a_few_at_a_time_or_refused() {
    let mut store = Store::default();
    for number in 0..40_u8 {
        write(
            &mut store,
            Operation::Set,
            &[&[&[number][..], &vec![b'x'; 1 << 20]].concat(), b"v", &[0]],
        );
    }
    assert!(read(&store, Operation::Keys, &[b"*"]).starts_with(b"-ERR the keys exceed"));
    assert!(read(&store, Operation::Keys, &[b"\x07*"]).starts_with(b"*1\r\n$1048577\r\n"));
    assert!(
        read(&store, Operation::Keys, &[b"*xxxxxxxxy"])
            .starts_with(b"-ERR the pattern takes too long")
    );
    let (cursor, count) = (0_u64.to_le_bytes(), 10_000_u32.to_le_bytes());
    let step = read(&store, Operation::Scan, &[&cursor, &count, b"*"]);
    assert!(step.starts_with(b"*2\r\n") && step.len() < 5 << 20, "{} bytes", step.len());
}
