//! Log time and wall clocks in `INFO`.

use kodiak_raft::{
    core::{LogTimeStatus, Status},
    types::Stamp,
};

/// A clock that is wrong by more than this is an alarm.
const OFF_MAX_MS: i64 = 10_000;

/// By how many milliseconds `clock` is ahead of `target`.
fn lead_ms(clock: Stamp, target: Stamp) -> i64 {
    clock.0.cast_signed().wrapping_sub(target.0.cast_signed())
}

/// Log time, and by how much it is ahead of the time that a majority of the wall clocks has
/// reached.
pub(super) fn log_time(core: &Status) -> (String, String) {
    let time = core.log_time.map_or("unknown".to_owned(), |time| time.now.0.to_string());
    let lead = core.log_time.and_then(|time| Some(lead_ms(time.now, time.target?)));
    (time, lead.map_or("unknown".to_owned(), |lead| lead.to_string()))
}

/// By how much a node's wall clock is ahead, for the leader's line about that node.
pub(super) fn peer_lead(core: &Status, wall: Option<Stamp>) -> String {
    let lead = core.log_time.and_then(|time| Some(lead_ms(wall?, time.target?)));
    lead.map_or(String::new(), |lead| format!(",clock_lead_ms={lead}"))
}

/// Alarms about wall clocks that are wrong, and about log time while it is.
pub(super) fn alarms(core: &Status) -> Vec<String> {
    let Some(LogTimeStatus { now, target: Some(target), wall, .. }) = core.log_time else {
        return Vec::new();
    };
    let mut alarms = Vec::new();
    let clocks = core.peers.iter().filter_map(|peer| Some((peer.id, peer.wall?)));
    for (node, wall) in clocks.chain([(core.id, wall)]) {
        if let Some(off) = describe_offset(lead_ms(wall, target)) {
            alarms.push(format!(
                "the wall clock of node {node} is {off} the majority's: set it, and run NTP"
            ));
        }
    }
    let lead = lead_ms(now, target);
    if let Some(off) = describe_offset(lead) {
        let speed = if lead < 0 { "twice" } else { "half" };
        alarms.push(format!(
            "log time, by which keys expire, is {off} the wall clocks: it runs at {speed} the speed"
        ));
    }
    alarms
}

/// By how much a clock is wrong, in words, if it is.
fn describe_offset(lead_ms: i64) -> Option<String> {
    let direction = if lead_ms < 0 { "behind" } else { "ahead of" };
    let is_off = lead_ms.unsigned_abs() > OFF_MAX_MS.unsigned_abs();
    is_off.then(|| format!("{} s {direction}", lead_ms.unsigned_abs() / 1_000))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_clock_is_described_in_seconds() {
        assert_eq!(describe_offset(lead_ms(Stamp(1_000), Stamp(11_000))), None);
        assert_eq!(
            describe_offset(lead_ms(Stamp(0), Stamp(86_400_000))).unwrap(),
            "86400 s behind"
        );
        assert_eq!(
            describe_offset(lead_ms(Stamp(86_400_000), Stamp(0))).unwrap(),
            "86400 s ahead of"
        );
    }
}
