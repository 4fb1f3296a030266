// SPDX-License-Identifier: MIT OR Apache-2.0
//! Conversations with a guest.

use super::*;

/// Pages of RAM, from 0.
const RAM: u64 = 0x10_0000;

#[derive(Default)]
struct Owner {
    sent: Vec<Vec<u8>>,
    discarded: Vec<Range>,
}

impl Env for Owner {
    fn send(&mut self, payload: &[u8]) {
        self.sent.push(payload.to_vec());
    }

    fn discard(&mut self, range: Range) -> bool {
        self.discarded.push(range);
        range.first + range.count <= RAM
    }
}

fn message(kind: u16, body: &[u32]) -> Vec<u8> {
    let size = 8 + 4 * body.len() as u32;
    let words = [&[u32::from(kind) | size << 16, 1], body].concat();
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

/// Ranges of less than 16 pages, below 4 GiB of pages.
fn given(ranges: &[(u32, u32)], more: bool) -> Vec<u8> {
    let flags = (ranges.len() as u32) << 1 | u32::from(more);
    let mut body = vec![0, flags];
    for (first, count) in ranges {
        body.extend([*first, count << 8]);
    }
    message(kind::BALLOON_RESPONSE, &body)
}

fn connected() -> (Balloon, Owner) {
    let (mut balloon, mut owner) = (Balloon::default(), Owner::default());
    for (kind, body) in [(1, vec![0x2_0000, 1]), (3, vec![3, 0, 0, 0, 0, 0])] {
        balloon.message(&message(kind, &body), &mut owner).unwrap();
    }
    assert_eq!(owner.sent.len(), 2);
    assert!(owner.sent.iter().all(|sent| sent[8] == 1), "accepted");
    owner.sent.clear();
    (balloon, owner)
}

fn kinds(owner: &mut Owner) -> Vec<u8> {
    std::mem::take(&mut owner.sent)
        .iter()
        .map(|sent| sent[0])
        .collect()
}

/// The guest gives what it is asked for in several messages, its pages are taken away, and it gets them back.
#[test]
fn up_and_down() {
    let (mut balloon, mut owner) = connected();
    balloon.set_target(10, &mut owner).unwrap();
    assert_eq!(owner.sent[0][8..12], [10, 0, 0, 0]);
    assert_eq!(kinds(&mut owner), [6]);
    balloon
        .message(&given(&[(16, 4)], true), &mut owner)
        .unwrap();
    assert_eq!(balloon.outcome(), Outcome::Busy);
    balloon
        .message(&given(&[(32, 4), (64, 2)], false), &mut owner)
        .unwrap();
    assert_eq!(balloon.outcome(), Outcome::Done);
    assert_eq!(owner.discarded.len(), 3);
    balloon.set_target(5, &mut owner).unwrap();
    assert_eq!(owner.sent[0][12], 2, "two ranges");
    assert_eq!(kinds(&mut owner), [8]);
    assert_eq!(balloon.state().held_pages, 5);
    assert_eq!(balloon.outcome(), Outcome::Busy);
    balloon.message(&message(9, &[]), &mut owner).unwrap();
    assert_eq!(balloon.outcome(), Outcome::Done);
    balloon.closed();
    assert_eq!(balloon.outcome(), Outcome::NoGuest);
    assert_eq!(balloon.state(), State::default());
    assert_eq!(balloon.set_target(1, &mut owner), Err(NoGuest));
}

/// A guest that gives less is short and is not asked again by itself; a target that changes meanwhile is
/// gone to when the guest is done.
#[test]
fn changes() {
    let (mut balloon, mut owner) = connected();
    balloon.set_target(10, &mut owner).unwrap();
    balloon
        .message(&given(&[(16, 4)], false), &mut owner)
        .unwrap();
    assert_eq!(
        (balloon.outcome(), kinds(&mut owner)),
        (Outcome::Short, vec![6])
    );
    balloon.set_target(8, &mut owner).unwrap();
    assert_eq!(owner.sent[0][8], 4, "only what is missing");
    balloon.set_target(1, &mut owner).unwrap();
    assert_eq!(kinds(&mut owner), [6]);
    balloon
        .message(&given(&[(32, 4)], false), &mut owner)
        .unwrap();
    assert_eq!(kinds(&mut owner), [8]);
    balloon.set_target(3, &mut owner).unwrap();
    balloon.message(&message(9, &[]), &mut owner).unwrap();
    assert_eq!(owner.sent[0][8], 2);
    assert_eq!(balloon.state().held_pages, 1);
}

/// A target that was raised while the guest was giving is gone to when it has given all it was asked for.
#[test]
fn raised_meanwhile() {
    let (mut balloon, mut owner) = connected();
    balloon.set_target(4, &mut owner).unwrap();
    balloon.set_target(10, &mut owner).unwrap();
    assert_eq!(kinds(&mut owner), [6]);
    balloon
        .message(&given(&[(16, 4)], false), &mut owner)
        .unwrap();
    assert_eq!(owner.sent[0][8], 6, "what is missing");
    assert_eq!(balloon.outcome(), Outcome::Busy);
}

/// What a message of the host cannot hold follows when the guest has taken the first part.
#[test]
fn many_ranges() {
    let (mut balloon, mut owner) = connected();
    let count = MAX_RANGES as u32 + 9;
    balloon.set_target(count.into(), &mut owner).unwrap();
    let ranges: Vec<_> = (0..count).map(|page| (2 * page, 1)).collect();
    balloon.message(&given(&ranges, false), &mut owner).unwrap();
    kinds(&mut owner);
    balloon.set_target(0, &mut owner).unwrap();
    assert_eq!(balloon.state().held_pages, 9);
    balloon.message(&message(9, &[]), &mut owner).unwrap();
    assert_eq!(balloon.state().held_pages, 0);
    assert_eq!(balloon.outcome(), Outcome::Busy);
    balloon.message(&message(9, &[]), &mut owner).unwrap();
    assert_eq!(
        (balloon.outcome(), kinds(&mut owner)),
        (Outcome::Done, vec![8, 8])
    );
}

/// Versions that are not spoken, and guests that cannot give, are told so.
#[test]
fn handshake() {
    let (mut balloon, mut owner) = (Balloon::default(), Owner::default());
    for (version, accepted) in [(0x3_0000, 0), (0x1_0000, 1)] {
        let request = message(1, &[version, 0]);
        balloon.message(&request, &mut owner).unwrap();
        assert_eq!(owner.sent.pop().unwrap()[8], accepted);
    }
    let report = message(3, &[2, 0, 0, 0, 0, 0]);
    balloon.message(&report, &mut owner).unwrap();
    assert_eq!(owner.sent.pop().unwrap()[8], 0);
    assert_eq!(balloon.outcome(), Outcome::NoGuest);
}

/// The guest's word on its memory is kept.
#[test]
fn pressure() {
    let (mut balloon, mut owner) = connected();
    let status = message(5, &[7, 0, 8, 0, 0, 0, 0, 0, 0, 0]);
    balloon.message(&status, &mut owner).unwrap();
    let pressure = Pressure {
        available_pages: 7,
        committed_pages: 8,
    };
    assert_eq!(balloon.state().pressure, Some(pressure));
}

/// Pages that were not asked for, are no RAM, or were given before, and messages at the wrong time, break the
/// protocol.
#[test]
fn violations() {
    for ranges in [
        &[(16, 5)][..],
        &[(16, 3), (32, 2)],
        &[(16, 2), (17, 1)],
        &[(16, 0)],
        &[(u32::MAX, 1)],
        &[(RAM as u32 - 1, 2)],
    ] {
        let (mut balloon, mut owner) = connected();
        balloon.set_target(4, &mut owner).unwrap();
        let refused = balloon.message(&given(ranges, false), &mut owner);
        assert!(
            matches!(refused, Err(Violation::Pages { .. })),
            "{ranges:?}"
        );
    }
    let (mut balloon, mut owner) = connected();
    for wrong in [
        given(&[(16, 1)], false),
        message(9, &[]),
        message(1, &[0x2_0000, 1]),
        message(3, &[1, 0, 0, 0, 0, 0]),
    ] {
        let refused = balloon.message(&wrong, &mut owner);
        assert!(matches!(refused, Err(Violation::Time { .. })), "{wrong:?}");
    }
    let hot_add = balloon.message(&message(11, &[1, 1]), &mut owner);
    assert!(matches!(hot_add, Err(Violation::Parse(_))));
    let (mut balloon, mut owner) = (Balloon::default(), Owner::default());
    let early = balloon.message(&message(5, &[0; 10]), &mut owner);
    assert!(matches!(early, Err(Violation::Time { .. })));
}
