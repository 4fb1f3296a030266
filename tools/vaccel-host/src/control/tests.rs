// SPDX-License-Identifier: MIT OR Apache-2.0
//! Requests and their lines.

use super::*;

/// Every request of the table parses to what it says.
#[test]
fn requests() {
    assert_eq!(parse(r#"{"op":"census"}"#), Ok(Request::Census));
    assert_eq!(parse(r#"{"op":"messages"}"#), Ok(Request::Messages));
    assert_eq!(parse(r#"{"op":"time"}"#), Ok(Request::Time));
    assert_eq!(parse(r#"{"op":"add-vgpu"}"#), Ok(Request::AddVgpu));
    assert_eq!(
        parse(r#"{"op":"exit","code":3}"#),
        Ok(Request::Exit { code: 3 })
    );
    assert_eq!(
        parse(r#"{"op":"engine-fault","job":"flip-one-element"}"#),
        Ok(Request::EngineFault {
            job: EngineFault::FlipOneElement,
            vgpu: 0
        })
    );
    assert_eq!(
        parse(r#"{"op":"rescind","channel":"vgpu","vgpu":2}"#),
        Ok(Request::Rescind(Target::Vgpu { vgpu: 2 }))
    );
    assert_eq!(
        parse(r#"{"op":"offer","channel":"global"}"#),
        Ok(Request::Offer(Target::Global))
    );
    let budget = |segment, bytes| {
        Ok(Request::Budget {
            vgpu: 0,
            segment,
            bytes,
        })
    };
    assert_eq!(
        parse(r#"{"op":"budget","vgpu":0,"segment":"local","bytes":7}"#),
        budget(SegmentGroup::Local, Some(7))
    );
    assert_eq!(
        parse(r#"{"op":"budget","segment":"non-local"}"#),
        budget(SegmentGroup::NonLocal, None)
    );
    assert_eq!(
        parse(r#"{"op":"pressure","vgpu":1,"bytes":9}"#),
        Ok(Request::Pressure { vgpu: 1, bytes: 9 })
    );
}

/// So does every request to misbehave.
#[test]
fn misbehaviour() {
    assert_eq!(
        parse(r#"{"op":"mute","vgpu":1,"milliseconds":500}"#),
        Ok(Request::Mute {
            vgpu: 1,
            milliseconds: 500
        })
    );
    for (name, state, execution) in [
        ("hung", FailedState::Hung, ExecutionState::HUNG),
        ("reset", FailedState::Reset, ExecutionState::RESET),
        (
            "page-fault",
            FailedState::PageFault,
            ExecutionState::ERROR_DMA_PAGE_FAULT,
        ),
        ("stopped", FailedState::Stopped, ExecutionState::STOPPED),
    ] {
        let line = format!(r#"{{"op":"fail-device","vgpu":0,"state":"{name}"}}"#);
        assert_eq!(parse(&line), Ok(Request::FailDevice { vgpu: 0, state }));
        assert_eq!(ExecutionState::from(state), execution);
    }
    let vgpu = 1;
    for (line, request) in [
        (
            r#"{"op":"engine-fault","job":"hang","vgpu":1}"#,
            Request::EngineFault {
                job: EngineFault::Hang,
                vgpu,
            },
        ),
        (
            r#"{"op":"stop-adapter","vgpu":1}"#,
            Request::StopAdapter { vgpu },
        ),
        (
            r#"{"op":"stray-events","seed":4,"count":3}"#,
            Request::StrayEvents { seed: 4, count: 3 },
        ),
        (
            r#"{"op":"remove-function","vgpu":1}"#,
            Request::RemoveFunction { vgpu, how: None },
        ),
        (
            r#"{"op":"remove-function","vgpu":1,"how":"rescind"}"#,
            Request::RemoveFunction {
                vgpu,
                how: Some(Removal::Rescind),
            },
        ),
        (r#"{"op":"functions"}"#, Request::Functions),
        (r#"{"op":"balloon","mib":64}"#, Request::Balloon { mib: 64 }),
        (
            r#"{"op":"balloon-state","mib":64}"#,
            Request::BalloonState { mib: Some(64) },
        ),
        (
            r#"{"op":"rescind","channel":"balloon"}"#,
            Request::Rescind(Target::Balloon),
        ),
        (
            r#"{"op":"rescind","channel":"pci","vgpu":1}"#,
            Request::Rescind(Target::Pci { vgpu }),
        ),
        (
            r#"{"op":"add-function","vgpu":1}"#,
            Request::AddFunction { vgpu },
        ),
    ] {
        assert_eq!(parse(line), Ok(request));
    }
    assert_eq!(
        parse(r#"{"op":"drop-events","count":2}"#),
        Ok(Request::DropEvents { count: 2 })
    );
}

/// Unknown operations and exit codes that no process can have are refused with a reason.
#[test]
fn refusals() {
    assert!(parse(r#"{"op":"dance"}"#).unwrap_err().contains("dance"));
    assert!(parse(r#"{"op":"exit","code":256}"#).is_err());
    assert!(parse("hello").is_err());
    assert!(parse(r#"{"op":"mute","milliseconds":-1}"#).is_err());
    assert!(parse(r#"{"op":"fail-device","state":"active"}"#).is_err());
}

/// Lines reach the mailbox without line ends; empty ones do not.
#[test]
fn lines() {
    let cell = Arc::new(OnceLock::new());
    let mut lines = Lines::new(Arc::clone(&cell));
    let inbox = Arc::new(Inbox::new(&[]).unwrap());
    assert!(cell.set(Arc::clone(&inbox)).is_ok());
    for byte in *b"\r\n{\"op\":1}\r\n" {
        lines.byte(byte);
    }
    assert_eq!(inbox.lock().control, ["{\"op\":1}"]);
}
