// SPDX-License-Identifier: MIT OR Apache-2.0
//! Layouts, lengths and names of messages.

use super::*;

/// Layouts have the lengths that the guest's own have.
#[test]
fn lengths() {
    assert_eq!(size_of::<VersionRequest>(), 8);
    assert_eq!(size_of::<D0Entry>(), 16);
    assert_eq!(size_of::<Assigned>(), 8 + 120 + 4 + 16);
    assert_eq!(size_of::<Assigned2>(), 8 + 120 + 4 + 70);
    assert_eq!(size_of::<EjectionComplete>(), 12);
    assert_eq!(size_of::<Description>(), 20);
    assert_eq!(size_of::<Description2>(), 28);
    assert_eq!(answer(1, INTERRUPT_LEN).len(), 24);
    assert_eq!(answer(1, 0), [1, 0, 0, 0]);
}

/// A description has its members where the guest looks for them, in both versions.
#[test]
fn descriptions() {
    let function = Function {
        vendor: 0x1414,
        device: 0x8A,
        class: 0x12_0304,
        serial: 7,
    };
    let old = relations(Version::V1_2, Some(function));
    let bytes = [
        0, 0, 0x49, 0x42, 1, 0, 0, 0, 0x14, 0x14, 0x8A, 0, 0, 4, 3, 0x12, 0, 0, 0, 0, 0, 0, 0, 0,
        7, 0, 0, 0,
    ];
    assert_eq!(old, bytes);
    let new = relations(Version::V1_3, Some(function));
    assert_eq!((new[0], new.len()), (0x19, 36));
    assert_eq!(new[8..28], bytes[8..]);
    assert_eq!(new[28..], [0; 8]);
    assert_eq!(
        relations(Version::V1_4, None),
        [0x19, 0, 0x49, 0x42, 0, 0, 0, 0]
    );
}

/// Every kind of message has its name; a number that is none has none.
#[test]
fn names() {
    assert_eq!(name(kind::BUS_D0_ENTRY), Some("BUS_D0ENTRY"));
    assert_eq!(
        name(kind::CREATE_INTERRUPT3),
        Some("CREATE_INTERRUPT_MESSAGE3")
    );
    for number in [0, BASE - 1, BASE + 2, BASE + 0x1C, u32::MAX] {
        assert_eq!(name(number), None);
    }
}

/// Each message is refused by its length when its last byte is missing, and messages that came later
/// are none of an older version.
#[test]
fn parsing() {
    let newest = Some(Version::V1_4);
    for (kind, len, first) in [
        (kind::QUERY_PROTOCOL_VERSION, 8, None),
        (kind::QUERY_BUS_RELATIONS, 4, None),
        (kind::QUERY_RESOURCE_REQUIREMENTS, 8, None),
        (kind::BUS_D0_ENTRY, 16, None),
        (kind::BUS_D0_EXIT, 4, None),
        (kind::EJECTION_COMPLETE, 12, None),
        (kind::RESOURCES_ASSIGNED, 148, None),
        (kind::RESOURCES_RELEASED, 8, None),
        (kind::CREATE_INTERRUPT, 8, None),
        (kind::DELETE_INTERRUPT, 8, None),
        (kind::RESOURCES_ASSIGNED2, 202, Some(Version::V1_2)),
        (kind::CREATE_INTERRUPT2, 8, Some(Version::V1_2)),
        (kind::DELETE_INTERRUPT2, 8, Some(Version::V1_2)),
        (kind::CREATE_INTERRUPT3, 8, Some(Version::V1_4)),
    ] {
        let mut message = kind.to_le_bytes().to_vec();
        message.resize(len, 0);
        assert!(Request::parse(&message, newest).is_ok(), "{kind:#x}");
        message.pop();
        let error = Request::parse(&message, newest).unwrap_err();
        assert!(matches!(error, ParseError::Short { .. }), "{kind:#x}");
        message.push(0);
        if first.is_some() {
            let error = Request::parse(&message, Some(Version::V1_1)).unwrap_err();
            assert_eq!(error, ParseError::Unknown { kind });
        }
    }
    for kind in [
        0,
        kind::BUS_RELATIONS,
        kind::EJECT,
        kind::BUS_RELATIONS2,
        u32::MAX,
    ] {
        let error = Request::parse(&kind.to_le_bytes(), newest).unwrap_err();
        assert_eq!(error.status(), status::NOT_SUPPORTED);
    }
}
