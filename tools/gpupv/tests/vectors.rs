// SPDX-License-Identifier: MIT OR Apache-2.0

//! The example messages of the layout data: encoding gives exactly these bytes, decoding what they
//! say.

mod common;

use std::collections::BTreeMap;

use gpupv::*;

use common::{hex, layout, list, number, text};

const VERSION: Version = Version::CURRENT;
const VGPU: Luid = Luid::new(0x1122_3344, 0x5566_7788);

fn process() -> Handle {
    Handle::from_raw(0x4000_0040)
}

fn vectors() -> BTreeMap<String, Vec<u8>> {
    let layout = layout();
    list(&layout, "vectors")
        .iter()
        .map(|vector| {
            let bytes = hex(text(vector, "hex"));
            assert_eq!(bytes.len(), number(vector, "length"));
            (text(vector, "name").to_owned(), bytes)
        })
        .collect()
}

fn vector(name: &str) -> Vec<u8> {
    vectors()
        .remove(name)
        .unwrap_or_else(|| panic!("no vector {name}"))
}

/// Encodes into a dirty buffer, compares, and decodes the expected bytes again.
fn check<C: Command + PartialEq>(name: &str, request: &Request<'_, C>, route: &Route) {
    let expected = vector(name);
    let mut buffer = vec![0xff; expected.len() + 8];
    let len = request.encode(route, &mut buffer).unwrap();
    assert_eq!(buffer[..len], expected, "{name}");

    let message = Message::decode(route.version, &expected).unwrap();
    assert_eq!(message.id(), Ok(C::ID));
    assert_eq!(message.is_async(), route.asynchronous);
    let process = if C::ID.has_process() {
        route.process
    } else {
        Handle::NONE
    };
    assert_eq!(message.process(), process);
    let received = message.parse::<C>().unwrap();
    assert_eq!(received.body(), request.body());
    assert_eq!(format!("{received:?}"), format!("{request:?}"));
}

/// Every vector is used by a test of this file.
#[test]
fn every_vector_is_tested() {
    let names: Vec<_> = vectors().into_keys().collect();
    let source = include_str!("vectors.rs");
    assert_eq!(names.len(), 12);
    for name in names {
        assert!(source.contains(&format!("\"{name}\"")), "{name}");
    }
}

/// Global commands carry neither a LUID nor, these two, a process.
#[test]
fn global_commands() {
    let route = Route::adapter(VERSION, VGPU).with_process(process());
    let region = SetIoSpaceRegion::new(0xf_e000_0000, 0x2000_0000);
    check("setiospaceregion_v40", &Request::from(region), &route);
    let created = CreateProcess::new(0xffff_8880_1234_5600, 4242, "vtest");
    assert!(created.name().eq("vtest".chars()));
    check("createprocess_v40", &Request::from(created), &route);
}

/// Opening an adapter, with an extended header and without.
#[test]
fn open_adapter() {
    let current = Request::from(OpenAdapter::new(VERSION));
    check("openadapter_v40", &current, &Route::adapter(VERSION, VGPU));
    let legacy = Request::from(OpenAdapter::new(Version::LEGACY));
    let route = Route::adapter(Version::LEGACY, VGPU);
    check("openadapter_v27", &legacy, &route);

    let bytes = vector("openadapter_reply");
    let reply = OpenAdapterReply {
        adapter: Handle::from_raw(0x4000_0040),
        status: NtStatus::SUCCESS,
        interface_version: 40,
        last_compatible_version: 16,
    };
    let answer = current.parse_reply(VERSION, &bytes).unwrap().ok().unwrap();
    assert_eq!(answer.reply, reply);
    let mut out = [0xff; 16];
    assert_eq!(current.encode_reply(VERSION, &reply, (), &mut out), Ok(16));
    assert_eq!(out.to_vec(), bytes);
}

/// A command of a process on a virtual GPU.
#[test]
fn create_device() {
    let body = CreateDevice {
        flags: CreateDeviceFlags::DISABLE_GPU_TIMEOUT,
        error_code: 0xffff_ffff_c0ab_1234,
        ..Default::default()
    };
    let route = Route::adapter(VERSION, VGPU).with_process(process());
    check("createdevice_v40", &Request::from(body), &route);
}

/// Waits, with values before the handles and after them; one of them wants no reply.
#[test]
fn waits() {
    let route = Route::adapter(VERSION, VGPU).with_process(process());
    let (fences, values) = ([Handle::from_raw(0x4000_0140)], [7]);
    let (objects, fence_values) = (List::new(&fences), List::new(&values));
    let body = WaitForSyncObjectFromGpu::new(Handle::from_raw(0x4000_0100));
    let tail = GpuWaitTail {
        objects,
        fence_values,
    };
    let request = Request::new(body, tail).unwrap();
    check(
        "wait_gpu_async_1object_v40",
        &request,
        &route.without_reply(),
    );
    let device = Handle::from_raw(0x4000_0080);
    let body = WaitForSyncObjectFromCpu::new(device, WaitFromCpuFlags::EMPTY, 2);
    let tail = CpuWaitTail {
        objects,
        fence_values,
    };
    let request = Request::new(body, tail).unwrap();
    check("wait_cpu_1object_v40", &request, &route);
}

/// Messages from the host.
#[test]
fn events() {
    for (name, event) in [
        ("signalguestevent", Event::Signal(SignalGuestEvent::new(2))),
        (
            "setguestdata_dword",
            Event::SetGuestData(SetGuestData::new(0xffff_ffff_c0ab_1234, 1)),
        ),
    ] {
        let expected = vector(name);
        let mut out = [0xff; Event::LEN];
        assert_eq!(event.encode(&mut out), Ok(Event::LEN), "{name}");
        assert_eq!(out.to_vec(), expected, "{name}");
        assert_eq!(Event::decode(&expected), Ok(event), "{name}");
        for len in 0..expected.len() {
            assert!(
                Event::decode(&expected[..len]).is_err(),
                "{name}, {len} bytes"
            );
            assert!(
                event.encode(&mut out[..len]).is_err(),
                "{name}, {len} bytes"
            );
        }
    }
    let mut passive = vector("signalguestevent");
    passive[16] = 3;
    let event = Event::SignalPassive(SignalGuestEvent::new(2));
    assert_eq!(Event::decode(&passive), Ok(event));
    passive[16] = 4;
    assert_eq!(Event::decode(&passive), Ok(Event::Other(4)));
}

/// A reply without a status.
#[test]
fn create_sync_object_reply() {
    let bytes = vector("createsyncobject_reply");
    let fence = SyncObjectInfo::monitored_fence(SyncObjectFlags::EMPTY, &Default::default());
    let request = Request::from(CreateSyncObject::new(process(), fence));
    let reply = CreateSyncObjectReply {
        sync_object: Handle::from_raw(0x4000_0140),
        fence_gpu_va: 0x20_0000,
        fence_storage_address: 0xf_e000_1000,
        ..Default::default()
    };
    let answer = request.parse_reply(VERSION, &bytes).unwrap();
    assert_eq!(answer.reply, reply);
    let mut out = [0xff; 32];
    assert_eq!(request.encode_reply(VERSION, &reply, (), &mut out), Ok(32));
    assert_eq!(out.to_vec(), bytes);
}

/// The three parts of a handle.
#[test]
fn handles() {
    let bytes = vector("handle_instance3_index0x123456_unique2");
    let handle = Handle::pack(3, 0x12_3456, 2);
    assert_eq!(handle.bytes(), bytes);
    let parts = (handle.instance(), handle.index(), handle.unique());
    assert_eq!(parts, (3, 0x12_3456, 2));
    assert_eq!(Handle::from_raw(handle.raw()), handle);
    assert_eq!(handle.some(), Some(handle));
    assert_eq!(Handle::NONE.some(), None);
    assert_eq!(Handle::NONE.non_zero(), None);
    assert_eq!(Handle::from(None), Handle::NONE);
    assert_eq!(Handle::pack(u32::MAX, u32::MAX, u32::MAX).raw(), u32::MAX);
}
