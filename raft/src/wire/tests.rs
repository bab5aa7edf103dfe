//! Round trips, noise, and the bytes themselves.

use std::fmt::Write as _;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use proptest::prelude::*;

use super::*;
use crate::replica::{AdminRequest, Answer, Bound, Doubt, Outcome, PeerMessage, Refusal};
use crate::storage::tests::codec::{entry, proposal};
use crate::types::{
    Append, Body, Chunk, ClusterId, Configuration, Digest, DiskId, Echo, Entry, FeatureLevel,
    FollowerReport, GroupId, Index, Life, LogPosition, Member, MemberChange, Message, NodeId,
    Payload, Proposal, SessionCommand, SessionId, SnapshotMeta, Stamp, Term,
};

const GROUP: GroupId = GroupId(2);

const PROMISE: Duration = Duration::from_nanos(9);

fn promise() -> impl Strategy<Value = Duration> {
    any::<u64>().prop_map(Duration::from_nanos)
}

fn report() -> impl Strategy<Value = FollowerReport> {
    let known = any::<(Option<u64>, Option<u64>, Option<u64>, bool)>();
    (any::<u64>(), promise(), known).prop_map(|(round, promise, known)| {
        let (wall, applied, durable_sequence, has_forgotten) = known;
        let (wall, applied) = (wall.map(Stamp), applied.map(Index));
        FollowerReport { round, promise, wall, applied, durable_sequence, has_forgotten }
    })
}

fn digest() -> impl Strategy<Value = Digest> {
    any::<(u64, u32, u64)>().prop_map(|(index, version, value)| Digest {
        index: Index(index),
        version,
        value,
    })
}

/// What an older version says of a round.
fn round(round: u64) -> FollowerReport {
    FollowerReport { round, promise: PROMISE, ..FollowerReport::default() }
}

fn index() -> impl Strategy<Value = Index> {
    any::<u64>().prop_map(Index)
}

fn term() -> impl Strategy<Value = Term> {
    any::<u64>().prop_map(Term)
}

fn payload() -> impl Strategy<Value = Bytes> {
    prop::collection::vec(any::<u8>(), 0..200).prop_map(Bytes::from)
}

fn body() -> impl Strategy<Value = Body> {
    prop_oneof![
        (index(), term())
            .prop_map(|(last_index, last_term)| Body::RequestPreVote { last_index, last_term }),
        (term(), any::<bool>())
            .prop_map(|(campaign_term, granted)| Body::PreVote { campaign_term, granted }),
        (index(), term(), any::<bool>()).prop_map(|(last_index, last_term, is_transfer)| {
            Body::RequestVote { last_index, last_term, is_transfer }
        }),
        any::<bool>().prop_map(|granted| Body::Vote { granted }),
        Just(Body::TimeoutNow),
        (
            index(),
            term(),
            prop::collection::vec(entry(), 0..4),
            index(),
            any::<u64>(),
            any::<bool>()
        )
            .prop_map(
                |(previous_index, previous_term, entries, commit, round, wants_promise)| {
                    let append = Append::after(previous_index, previous_term).entries(entries);
                    append.commit(commit).echo(Echo { round, wants_promise }).into()
                }
            ),
        (index(), report()).prop_map(|(matched, report)| Body::Appended { matched, report }),
        (index(), index(), term(), report()).prop_map(
            |(previous_index, hint_index, hint_term, report)| {
                Body::Rejected { previous_index, hint_index, hint_term, report }
            }
        ),
        (index(), term(), any::<u64>(), any::<u64>(), payload()).prop_map(
            |(index, term, round, offset, data)| {
                let configuration = Configuration::of_voters([(NodeId(3), Member::default())]);
                let digest =
                    (round % 2 == 0).then_some(Digest { index, version: 1, value: offset });
                let meta = Box::new(SnapshotMeta {
                    index,
                    term,
                    stamp: Stamp(offset),
                    configuration,
                    digest,
                });
                let wants_promise = offset % 2 == 0;
                let chunk = Chunk { offset, total_bytes: round, data };
                Body::InstallSnapshot { meta, chunk, echo: Echo { round, wants_promise } }
            }
        ),
        (index(), any::<u64>(), report()).prop_map(|(index, received_bytes, report)| {
            Body::SnapshotProgress { index, received_bytes, report }
        }),
        index().prop_map(|last_index| Body::Forgot { last_index }),
        (index(), term()).prop_map(|(index, log_term)| Body::CommittedConflict { index, log_term }),
        digest().prop_map(Body::StateDigest),
        prop::collection::btree_map(any::<u64>().prop_map(NodeId), digest(), 0..4)
            .prop_map(|digests| Body::StateDigests(Box::new(digests))),
        (any::<u64>(), any::<bool>())
            .prop_map(|(request, may_lease)| Body::RequestReadIndex { request, may_lease }),
        (any::<u64>(), prop::option::of(index()))
            .prop_map(|(request, index)| Body::ReadIndex { request, index }),
    ]
}

fn outcome() -> impl Strategy<Value = Outcome> {
    let refusal = prop_oneof![
        Just(Refusal::NoLeader),
        prop::option::of(1u64..)
            .prop_map(|leader| Refusal::NotLeader { leader: leader.map(NodeId) }),
        Just(Refusal::TimedOut),
        Just(Refusal::Superseded),
        (
            prop::sample::select(vec![
                Bound::PendingRequests,
                Bound::PendingBytes,
                Bound::ForwardedRequests,
                Bound::Sessions,
                Bound::AnswersPerSession,
            ]),
            any::<u64>()
        )
            .prop_map(|(bound, limit)| Refusal::Full { bound, limit }),
        (any::<u64>(), any::<u64>())
            .prop_map(|(size_bytes, limit_bytes)| Refusal::TooLarge { size_bytes, limit_bytes }),
        Just(Refusal::StorageFailed),
        Just(Refusal::Removed),
        (".{0,20}", any::<bool>())
            .prop_map(|(reason, is_final)| Refusal::Declined { reason, is_final }),
        Just(Refusal::NoSession),
        Just(Refusal::AnswerNotKept),
        any::<u64>().prop_map(|up_to| Refusal::Acknowledged { up_to }),
        any::<u64>().prop_map(|ttl_ms| Refusal::TtlOutOfRange { ttl_ms }),
    ];
    let doubt = prop::sample::select(vec![
        Doubt::TimedOut,
        Doubt::LinkBroken,
        Doubt::StorageFailed,
        Doubt::LogReplaced,
    ]);
    prop_oneof![
        (payload(), prop::option::of((1u64..).prop_map(Index)))
            .prop_map(|(bytes, index)| Outcome::Answer(Answer::new(bytes, index))),
        any::<u64>().prop_map(|session| Outcome::Opened(SessionId(session))),
        refusal.prop_map(Outcome::Refused),
        doubt.prop_map(Outcome::Unknown)
    ]
}

fn admin() -> impl Strategy<Value = AdminRequest> {
    let node = || any::<u64>().prop_map(NodeId);
    let disk = || any::<u128>().prop_map(DiskId);
    let change = prop_oneof![
        (node(), disk(), ".{0,20}", any::<u8>(), 1u16..).prop_map(
            |(node, disk, address, priority, level)| {
                let member = Member { disk, address, priority, feature_level: FeatureLevel(level) };
                MemberChange::AddLearner { node, member }
            }
        ),
        node().prop_map(MemberChange::Promote),
        node().prop_map(MemberChange::Demote),
        node().prop_map(MemberChange::Remove),
        (node(), prop::option::of(disk()), prop::option::of(".{0,20}"), any::<Option<u8>>())
            .prop_map(|(node, disk, address, priority)| MemberChange::Update {
                node,
                disk,
                address,
                priority,
                feature_level: priority.map(|priority| FeatureLevel(1 + u16::from(priority))),
            }),
        (1u16..).prop_map(|level| MemberChange::EnableFeatures(FeatureLevel(level))),
    ];
    prop_oneof![
        prop::collection::vec(change, 0..4).prop_map(AdminRequest::ChangeMembership),
        prop::option::of(1u64..).prop_map(|to| AdminRequest::TransferLeadership(to.map(NodeId))),
    ]
}

fn message() -> impl Strategy<Value = PeerMessage> {
    let raft = (any::<u64>(), any::<u64>(), term(), body()).prop_map(|(from, to, term, body)| {
        PeerMessage::Raft(Message { from: NodeId(from), to: NodeId(to), term, body })
    });
    prop_oneof![
        6 => raft,
        1 => (any::<u64>(), admin())
            .prop_map(|(request, admin)| PeerMessage::ForwardAdmin { request, admin }),
        1 => (any::<u64>(), proposal())
            .prop_map(|(request, proposal)| PeerMessage::Forward { request, proposal }),
        1 => (any::<u64>(), outcome())
            .prop_map(|(request, outcome)| PeerMessage::Forwarded { request, outcome }),
    ]
}

fn hello() -> Hello {
    Hello {
        cluster: ClusterId(1),
        group: GroupId(2),
        node: NodeId(3),
        disk: DiskId(4),
        life: Life { count: 7, nonce: 5 },
        versions: Version::V2..=Version::V3,
        feature_level: FeatureLevel(2),
        position: Some(LogPosition { sequence: 8, term: Term(9), index: Index(10) }),
        has_forgotten: false,
        is_blank: true,
        address: "a:9".to_owned(),
        metadata: Bytes::from_static(b"client=6"),
    }
}

fn encoded(message: &PeerMessage) -> BytesMut {
    let mut out = BytesMut::new();
    encode(GROUP, message, Version::NEWEST, &mut out).unwrap();
    out
}

fn decoded_all(input: &mut BytesMut) -> Result<Vec<PeerMessage>, WireError> {
    let mut messages = Vec::new();
    while let Some((_, message)) = decode(Version::NEWEST, input)? {
        messages.push(message);
    }
    Ok(messages)
}

proptest! {
    #[test]
    fn messages_return_however_they_are_cut(
        messages in prop::collection::vec(message(), 1..6),
        piece in 1usize..200,
    ) {
        let mut sent = BytesMut::new();
        for message in &messages {
            encode(GROUP, message, Version::NEWEST, &mut sent).unwrap();
        }
        let (mut input, mut received) = (BytesMut::new(), Vec::new());
        for piece in sent.chunks(piece) {
            input.extend_from_slice(piece);
            received.extend(decoded_all(&mut input).unwrap());
        }
        prop_assert_eq!(received, messages);
        prop_assert!(input.is_empty());
    }

    #[test]
    fn a_changed_byte_is_refused(
        message in message(),
        at in any::<prop::sample::Index>(),
        change in 1u8..,
    ) {
        let mut sent = encoded(&message);
        let at = at.index(sent.len());
        sent[at] ^= change;
        let longer = at < 4;
        match decode(Version::NEWEST, &mut sent) {
            Err(_) => {}
            Ok(None) => prop_assert!(longer, "only a changed length can make a frame wait for \
                more"),
            Ok(Some(other)) => prop_assert!(false, "{:?} became {:?}", message, other),
        }
    }

    #[test]
    fn noise_is_no_panic(noise in prop::collection::vec(any::<u8>(), 0..300), kind in any::<u8>()) {
        let _ = decoded_all(&mut BytesMut::from(&noise[..]));
        let _ = decode_hello(&mut BytesMut::from(&noise[..]));
        // With a length and a checksum that are right, so that the noise is looked at.
        let mut frame = BytesMut::new();
        let length = (noise.len() as u32 + 1).to_le_bytes();
        let body: Vec<u8> = std::iter::once(kind % 24).chain(noise).collect();
        frame.extend_from_slice(&length);
        let checksum = crc32c::crc32c_append(crc32c::crc32c(&length), &body);
        frame.extend_from_slice(&checksum.to_le_bytes());
        frame.extend_from_slice(&body);
        let _ = decoded_all(&mut frame);
    }

    #[test]
    fn a_mutated_body_with_a_right_checksum_is_no_panic(
        message in message(),
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
    ) {
        let mut sent = encoded(&message);
        let at = 8 + at.index(sent.len() - 8);
        sent[at] = byte;
        let checksum = crc32c::crc32c_append(crc32c::crc32c(&sent[..4]), &sent[8..]);
        sent[4..8].copy_from_slice(&checksum.to_le_bytes());
        let _ = decode(Version::NEWEST, &mut sent);
    }

    #[test]
    fn hellos_return_or_are_refused(
        numbers in any::<(u128, u64, u64, u128, u64, bool)>(),
        life in any::<(u64, u16, u16, u16, u64, u64, u64, bool)>(),
        metadata in prop::collection::vec(any::<u8>(), 0..=HELLO_METADATA_BYTES_MAX),
        address in "[a-z0-9.:]{0,40}",
        at in any::<prop::sample::Index>(),
        change in 1u8..,
    ) {
        let (cluster, group, node, disk, nonce, is_blank) = numbers;
        let (count, oldest, newest, level, sequence, term, index, has_forgotten) = life;
        let hello = Hello {
            cluster: ClusterId(cluster),
            group: GroupId(group),
            node: NodeId(node),
            disk: DiskId(disk),
            life: Life { count, nonce },
            versions: Version(oldest)..=Version(newest),
            feature_level: FeatureLevel(level),
            position: Some(LogPosition { sequence, term: Term(term), index: Index(index) }),
            has_forgotten,
            is_blank,
            address,
            metadata: Bytes::from(metadata),
        };
        let mut sent = BytesMut::new();
        encode_hello(&hello, Version::NEWEST, &mut sent).unwrap();
        let at = at.index(sent.len());
        let mut partial = BytesMut::from(&sent[..at]);
        prop_assert_eq!(decode_hello(&mut partial), Ok(None));
        let mut changed = sent.clone();
        changed[at] ^= change;
        prop_assert!(matches!(decode_hello(&mut changed), Err(_) | Ok(None)));
        sent.extend_from_slice(b"frames");
        prop_assert_eq!(decode_hello(&mut sent), Ok(Some((Version::NEWEST, hello))));
        prop_assert_eq!(&sent[..], b"frames");
    }
}

#[test]
fn refused_nodes_receive_the_reason() {
    let error = |bytes: &[u8]| decode_hello(&mut BytesMut::from(bytes)).unwrap_err().to_string();
    assert!(
        error(b"*1\r\n$4\r\nPING\r\n")
            .contains(r#"not a Kodiak peer: it began with "*1\r\n$4\r\n""#)
    );
    assert!(error(b"G").contains("not a Kodiak peer"), "from the first byte on");
    let mut later = BytesMut::new();
    encode_hello(&hello(), Version::NEWEST, &mut later).unwrap();
    later[8] = 4;
    assert_eq!(decode_hello(&mut later), Err(WireError::Version { theirs: Version(4) }));
    for (reason, is_removed) in
        [("node 2 was removed: é".to_owned(), true), ("é".repeat(2000), false)]
    {
        let mut refusal = BytesMut::new();
        let said = super::HandshakeRefusal { reason: &reason, is_removed, removed_at: Index(9) };
        encode_refusal(&said, Version::NEWEST, &mut refusal);
        for end in 0..refusal.len() {
            assert_eq!(decode_hello(&mut BytesMut::from(&refusal[..end])), Ok(None));
        }
        let told = decode_hello(&mut refusal).unwrap_err();
        assert!(told.to_string().starts_with(&format!("rejected: {}", &reason[..20])), "{told}");
        let WireError::Refused { is_removed: read, removed_at, .. } = told else { unreachable!() };
        assert_eq!((read, removed_at), (is_removed, Some(Index(9))));
    }
}

#[test]
fn limits_are_named_before_anything_is_reserved() {
    let limit = "exceeds FRAME_BYTES_MAX (67108864 bytes)";
    let claim = &[0xFF, 0xFF, 0xFF, 0x7F];
    assert!(
        decode(Version::NEWEST, &mut BytesMut::from(&claim[..]))
            .unwrap_err()
            .to_string()
            .ends_with(limit)
    );
    let command = Bytes::from(vec![0; FRAME_BYTES_MAX]);
    let mut out = BytesMut::from(&b"before"[..]);
    let proposal = command.clone().into();
    let error =
        encode(GROUP, &PeerMessage::Forward { request: 1, proposal }, Version::NEWEST, &mut out)
            .unwrap_err();
    assert!(error.to_string().ends_with(limit), "{error}");
    assert_eq!(&out[..], b"before");
    // As large as may be: group, kind and number take seventeen bytes.
    let largest = PeerMessage::Forward { request: 1, proposal: command.slice(18..).into() };
    assert_eq!(decode(Version::NEWEST, &mut encoded(&largest)), Ok(Some((GROUP, largest))));
    let hello = Hello { metadata: Bytes::from(vec![0; HELLO_METADATA_BYTES_MAX + 1]), ..hello() };
    let error = encode_hello(&hello, Version::NEWEST, &mut out).unwrap_err().to_string();
    assert!(error.contains("HELLO_METADATA_BYTES_MAX (1024 bytes)"), "{error}");
    let error = encode_hello(
        &Hello { address: "a".repeat(256), ..self::hello() },
        Version::NEWEST,
        &mut out,
    )
    .unwrap_err()
    .to_string();
    assert!(error.contains("ADDRESS_BYTES_MAX (255 bytes)"), "{error}");
    assert_eq!(&out[..], b"before");
}

fn raft(body: Body) -> PeerMessage {
    PeerMessage::Raft(Message { from: NodeId(1), to: NodeId(2), term: Term(3), body })
}

fn append(entries: Vec<Entry>) -> PeerMessage {
    let append = Append::after(Index(4), Term(5)).entries(entries).commit(Index(6));
    raft(append.echo(Echo::of_round(7).with_promise()).into())
}

fn command(bytes: &'static [u8]) -> Entry {
    let payload = Payload::Command(Bytes::from_static(bytes));
    Entry { index: Index(5), term: Term(3), stamp: Stamp(9), payload }
}

#[test]
fn a_warm_link_carries_heartbeats_without_allocating() {
    let heartbeat = append(Vec::new());
    let answer = raft(Body::Appended { matched: Index(4), report: round(7) });
    let mut link = BytesMut::new();
    let mut round = || {
        for message in [&heartbeat, &answer] {
            encode(GROUP, message, Version::NEWEST, &mut link).unwrap();
        }
        let both = (
            decode(Version::NEWEST, &mut link).unwrap(),
            decode(Version::NEWEST, &mut link).unwrap(),
        );
        assert!(both == (Some((GROUP, heartbeat.clone())), Some((GROUP, answer.clone()))));
        assert_eq!(decode(Version::NEWEST, &mut link), Ok(None));
    };
    (0..10).for_each(|_| round());
    let counted = allocation_counter::measure(|| (0..1000).for_each(|_| round()));
    assert_eq!(counted.count_total, 0);
}

#[test]
fn commands_are_not_copied() {
    let mut link = encoded(&append(vec![command(b"first"), command(b"second")]));
    let memory = link.as_ptr_range();
    let Ok(Some((
        _,
        PeerMessage::Raft(Message { body: Body::AppendEntries(Append { entries, .. }), .. }),
    ))) = decode(Version::NEWEST, &mut link)
    else {
        panic!("an append")
    };
    for entry in &entries {
        let Payload::Command(command) = &entry.payload else { panic!("a command") };
        assert!(memory.contains(&command.as_ptr()));
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// One message of each kind that version 2 has, made of what version 2 says.
fn messages_of_version_2() -> Vec<PeerMessage> {
    let command_bytes = Bytes::from_static(b"abc");
    let in_session = SessionCommand {
        session: SessionId(5),
        sequence: 6,
        acknowledged: 7,
        command: command_bytes,
    };
    vec![
        raft(Body::RequestPreVote { last_index: Index(4), last_term: Term(5) }),
        raft(Body::PreVote { campaign_term: Term(4), granted: true }),
        raft(Body::RequestVote { last_index: Index(4), last_term: Term(5), is_transfer: true }),
        raft(Body::Vote { granted: false }),
        append(Vec::new()),
        append(vec![command(b"abc")]),
        raft(Body::Appended { matched: Index(4), report: round(7) }),
        raft(Body::Rejected {
            previous_index: Index(4),
            hint_index: Index(5),
            hint_term: Term(6),
            report: round(7),
        }),
        raft(Body::RequestReadIndex { request: 4, may_lease: true }),
        raft(Body::ReadIndex { request: 4, index: Some(Index(5)) }),
        raft(Body::InstallSnapshot {
            meta: Box::new(SnapshotMeta {
                index: Index(4),
                term: Term(5),
                stamp: Stamp(6),
                configuration: Configuration::of_voters([(
                    NodeId(7),
                    Member {
                        disk: DiskId(8),
                        address: "a:9".into(),
                        priority: 10,
                        ..Member::default()
                    },
                )]),
                digest: None,
            }),
            chunk: Chunk { offset: 10, total_bytes: 13, data: Bytes::from_static(b"abc") },
            echo: Echo::of_round(7).with_promise(),
        }),
        raft(Body::SnapshotProgress { index: Index(4), received_bytes: 5, report: round(7) }),
        raft(Body::TimeoutNow),
        PeerMessage::Forward { request: 4, proposal: Bytes::from_static(b"abc").into() },
        PeerMessage::Forwarded { request: 4, outcome: Outcome::Answer(Answer::new("abc", None)) },
        PeerMessage::Forwarded {
            request: 4,
            outcome: Outcome::Refused(Refusal::NotLeader { leader: Some(NodeId(5)) }),
        },
        PeerMessage::Forwarded { request: 4, outcome: Outcome::Unknown(Doubt::LinkBroken) },
        PeerMessage::Forwarded {
            request: 4,
            outcome: Outcome::Refused(Refusal::Declined {
                reason: "no".to_owned(),
                is_final: true,
            }),
        },
        PeerMessage::ForwardAdmin {
            request: 4,
            admin: AdminRequest::TransferLeadership(Some(NodeId(5))),
        },
        PeerMessage::ForwardAdmin {
            request: 4,
            admin: AdminRequest::ChangeMembership(vec![
                MemberChange::AddLearner {
                    node: NodeId(5),
                    member: Member {
                        disk: DiskId(6),
                        address: "a:9".into(),
                        priority: 7,
                        ..Member::default()
                    },
                },
                MemberChange::Update {
                    node: NodeId(5),
                    disk: None,
                    address: None,
                    priority: Some(7),
                    feature_level: None,
                },
            ]),
        },
        PeerMessage::Forward { request: 4, proposal: Proposal::OpenSession { ttl_ms: 5, salt: 6 } },
        PeerMessage::Forward { request: 4, proposal: Proposal::SessionCommand(in_session.into()) },
        PeerMessage::Forward {
            request: 4,
            proposal: Proposal::CloseSession { session: SessionId(5) },
        },
        PeerMessage::Forwarded { request: 4, outcome: Outcome::Opened(SessionId(5)) },
    ]
}

/// What only version 3 says.
fn messages_of_version_3() -> Vec<PeerMessage> {
    let report = FollowerReport {
        wall: Some(Stamp(8)),
        applied: Some(Index(3)),
        durable_sequence: Some(9),
        has_forgotten: true,
        ..round(7)
    };
    let digest = Digest { index: Index(4), version: 5, value: 6 };
    let changes = vec![
        MemberChange::Update {
            node: NodeId(5),
            disk: None,
            address: None,
            priority: None,
            feature_level: Some(FeatureLevel(2)),
        },
        MemberChange::EnableFeatures(FeatureLevel(2)),
    ];
    vec![
        raft(Body::Appended { matched: Index(4), report }),
        raft(Body::Forgot { last_index: Index(4) }),
        raft(Body::CommittedConflict { index: Index(4), log_term: Term(2) }),
        raft(Body::StateDigest(digest)),
        raft(Body::StateDigests(Box::new([(NodeId(1), digest)].into()))),
        PeerMessage::ForwardAdmin { request: 4, admin: AdminRequest::ChangeMembership(changes) },
    ]
}

fn in_version(version: Version, messages: &[PeerMessage]) -> String {
    let mut out = BytesMut::new();
    encode_hello(&hello(), version, &mut out).unwrap();
    let refusal = super::HandshakeRefusal { reason: "no", is_removed: true, removed_at: Index(9) };
    let mut all = format!("Hello {}\n", hex(&out));
    if version >= Version::V3 {
        out.clear();
        encode_refusal(&refusal, version, &mut out);
        writeln!(all, "Refusal {}", hex(&out)).unwrap();
    }
    for message in messages {
        out.clear();
        encode(GROUP, message, version, &mut out).unwrap();
        writeln!(all, "{} {}", variant(message), hex(&out)).unwrap();
    }
    all
}

/// The name of a message's variant, as `{:?}` begins with it.
fn variant(message: &PeerMessage) -> String {
    let text = match message {
        PeerMessage::Raft(Message { body, .. }) => format!("{body:?}"),
        message => format!("{message:?}"),
    };
    text.chars().take_while(|character| character.is_alphanumeric()).collect()
}

/// A change to any of these bytes needs a new [`Version`]. While a version is unreleased, its file
/// is written again by running this test with `KODIAK_UPDATE_GOLDEN=1`.
#[test]
fn the_bytes_on_the_wire() {
    let mut messages = messages_of_version_2();
    check_golden("golden_v2.txt", &in_version(Version::V2, &messages));
    messages.extend(messages_of_version_3());
    check_golden("golden_v3.txt", &in_version(Version::V3, &messages));
}

fn check_golden(name: &str, bytes: &str) {
    let path = format!("{}/src/wire/{name}", env!("CARGO_MANIFEST_DIR"));
    if std::env::var_os("KODIAK_UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, bytes).unwrap();
    }
    let golden = std::fs::read_to_string(&path).unwrap();
    for (is, should_be) in bytes.lines().zip(golden.lines()) {
        let advice = "a release reads these bytes: give the change a new version";
        assert_eq!(is, should_be, "{name}: {advice}");
    }
    assert_eq!(bytes.lines().count(), golden.lines().count(), "{name}: other messages");
}

#[test]
fn version_2_says_what_it_can() {
    let mut link = BytesMut::new();
    for message in messages_of_version_2() {
        encode(GROUP, &message, Version::V2, &mut link).unwrap();
        assert_eq!(decode(Version::V2, &mut link), Ok(Some((GROUP, message))));
    }
    for message in &messages_of_version_3()[1..] {
        assert!(!can_encode(Version::V2, message), "{message:?}");
        let refused = Err(WireError::UnsupportedMessage { version: Version::V2 });
        assert_eq!(encode(GROUP, message, Version::V2, &mut link), refused);
        assert!(link.is_empty());
        encode(GROUP, message, Version::V3, &mut link).unwrap();
        assert!(decode(Version::V2, &mut link).is_err(), "{message:?}");
        link.clear();
    }
    let mut reduced = BytesMut::new();
    encode_hello(&hello(), Version::V2, &mut reduced).unwrap();
    let told = Hello {
        life: Life { count: 0, nonce: 5 },
        versions: Version::V2..=Version::V2,
        feature_level: FeatureLevel::BASE,
        position: None,
        ..hello()
    };
    assert_eq!(decode_hello(&mut reduced), Ok(Some((Version::V2, told))));
}
