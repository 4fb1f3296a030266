// SPDX-License-Identifier: MIT OR Apache-2.0
//! Failures of commands whose reply says nothing of them: what tells them from a reply is that they
//! are shorter, which channels hide by padding.

use gpupv::*;

use super::guest::*;
use crate::HostConfig;

fn host(version: u32, value: &str) -> HostConfig {
    let mut config = HostConfig {
        version,
        ..HostConfig::default()
    };
    config.choose("driver-escape", "refused").unwrap();
    config.choose("short-failures", value).unwrap();
    config
}

/// What a refused command was answered with.
fn refused<C: Command>(guest: &mut Guest, body: C, tail: C::Tail<'_>) -> Vec<u8> {
    let request = Request::new(body, tail).unwrap();
    guest.exchange(&request).unwrap()
}

fn escape(guest: &mut Guest, bytes: usize) -> Vec<u8> {
    let body = Escape {
        adapter: GPU.adapter_handle(),
        ..Escape::default()
    };
    refused(guest, body, &vec![0; bytes])
}

fn query(guest: &mut Guest, bytes: usize) -> Vec<u8> {
    let body = QueryAdapterInfo {
        query_type: QueryType::from_raw(9999),
        ..QueryAdapterInfo::default()
    };
    refused(guest, body, &vec![0; bytes])
}

/// A failure is never as long as the reply would be: empty where a bare status is.
#[test]
fn failures_are_shorter() {
    let mut guest = Guest::with_process(host(40, "empty"));
    let none = Evict::default();
    assert!(refused(&mut guest, none, List::EMPTY).is_empty());
    for (bytes, answer) in [(0, 8), (1, 0), (8, 0), (9, 8)] {
        assert_eq!(escape(&mut guest, bytes).len(), answer, "{bytes}");
    }
    assert_eq!(query(&mut guest, 4).len(), 8, "with the status in front");
    guest.finish();
    let mut guest = Guest::with_process(host(27, "empty"));
    for (bytes, answer) in [(4, 0), (8, 0), (9, 8)] {
        assert_eq!(query(&mut guest, bytes).len(), answer, "{bytes}");
    }
    guest.finish();
}

/// Nor is one of a command that ends too early.
#[test]
fn malformed_too() {
    let mut guest = Guest::with_process(host(40, "empty"));
    refused(&mut guest, Evict::default(), List::EMPTY);
    let (channel, mut message) = guest.sent.pop().unwrap();
    // The count of allocations, behind both headers.
    message[16 + 32] = 100;
    let transaction = guest.raw(channel, &message, true);
    assert_eq!(guest.completion(transaction), Some(Vec::new()));
    guest.finish();
}

/// Or it is a bare status always.
#[test]
fn or_a_bare_status() {
    let status = NtStatus::NOT_SUPPORTED.bits().to_le_bytes();
    let mut guest = Guest::with_process(host(27, "status"));
    for answer in [query(&mut guest, 4), escape(&mut guest, 8)] {
        assert_eq!((answer.len(), &answer[..4]), (8, &status[..]));
    }
    guest.finish();
}
