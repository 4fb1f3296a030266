// SPDX-License-Identifier: MIT OR Apache-2.0

//! Constants, flags, enumerations and statuses are those of the layout data.

mod common;

use std::collections::{BTreeMap, BTreeSet};

use gpupv::*;
use serde_json::Value;

use common::{hex, layout, list, number, text};

/// A name without what differs by convention.
fn plain(name: &str) -> String {
    name.replace('_', "").to_uppercase()
}

/// Names and numbers of a flag type or an enumeration.
macro_rules! named {
    ($type:ident, $value:ident) => {
        $type::NAMED
            .iter()
            .map(|(name, value)| (plain(name), i64::try_from(value.$value()).unwrap()))
            .collect::<BTreeMap<String, i64>>()
    };
}

/// Single bits of a structure of the layout data, by name, in the word at `offset`.
fn bits(layout: &Value, structure: &str, offset: usize) -> BTreeMap<String, i64> {
    let structure = list(layout, "structs")
        .iter()
        .find(|candidate| text(candidate, "name") == structure)
        .unwrap();
    list(structure, "flat")
        .iter()
        .filter(|field| field["bit_size"].as_u64() == Some(1))
        .filter(|field| number(field, "offset") == offset)
        .map(|field| {
            let name = text(field, "name").rsplit('.').next().unwrap();
            (plain(name), 1 << number(field, "bit_offset"))
        })
        .filter(|(name, _)| !name.starts_with("RESERVED"))
        .collect()
}

/// Every flag has the bit of the layout data, and none is missing.
#[test]
fn flags_agree() {
    let layout = layout();
    for (structure, offset, flags) in [
        ("dxgk_vmbus_guestcaps", 0, named!(GuestCaps, bits)),
        ("dxgk_vmbus_hostcaps", 0, named!(HostCaps, bits)),
        ("dxgk_device_types", 0, named!(DeviceTypes, bits)),
        (
            "dxgkvmb_command_getinternaladapterinfo_return",
            12,
            named!(AdapterCaps, bits),
        ),
        ("d3dkmt_adaptertype", 0, named!(AdapterTypeFlags, bits)),
        (
            "d3dkmt_createdeviceflags",
            0,
            named!(CreateDeviceFlags, bits),
        ),
        (
            "d3dkmt_devicereset_state",
            0,
            named!(DeviceResetState, bits),
        ),
        (
            "d3dddi_createcontextflags",
            0,
            named!(CreateContextFlags, bits),
        ),
        (
            "d3dddi_createhwqueueflags",
            0,
            named!(CreateHwQueueFlags, bits),
        ),
        (
            "d3dkmt_createallocationflags",
            0,
            named!(CreateAllocationFlags, bits),
        ),
        ("dxgkvmb_allocflags", 0, named!(AllocationFlags, bits)),
        (
            "d3dkmt_createstandardallocationflags",
            0,
            named!(StandardAllocationFlags, bits),
        ),
        (
            "d3dddicb_destroyallocation2flags",
            0,
            named!(DestroyAllocationFlags, bits),
        ),
        (
            "d3dddi_makeresident_flags",
            0,
            named!(MakeResidentFlags, bits),
        ),
        ("d3dddi_evict_flags", 0, named!(EvictFlags, bits)),
        ("d3dkmt_offer_flags", 0, named!(OfferFlags, bits)),
        (
            "d3dddi_updateallocproperty_flags",
            0,
            named!(UpdatePropertyFlags, bits),
        ),
        ("d3dddicb_lock2flags", 0, named!(Lock2Flags, bits)),
        ("d3dddigpuva_protection_type", 0, named!(Protection, bits)),
        (
            "d3dddi_synchronizationobject_flags",
            0,
            named!(SyncObjectFlags, bits),
        ),
        (
            "d3dddi_waitforsynchronizationobjectfromcpu_flags",
            0,
            named!(WaitFromCpuFlags, bits),
        ),
        ("d3dkmt_submitcommandflags", 0, named!(SubmitFlags, bits)),
        ("d3dddi_escapeflags", 0, named!(EscapeFlags, bits)),
        ("dxgk_gpuclockdata_flags", 0, named!(ClockFlags, bits)),
        ("dxgk_feature_desc", 4, named!(FeatureFlags, bits)),
        (
            "dxgk_isfeatureenabled_result",
            2,
            named!(FeatureState, bits),
        ),
    ] {
        assert_eq!(flags, bits(&layout, structure, offset), "{structure}");
    }
}

/// Flags whose names differ from the layout data's have its bits all the same.
#[test]
fn flags_of_other_names_agree() {
    let layout = layout();
    let values = |structure, offset| -> BTreeSet<i64> {
        bits(&layout, structure, offset).into_values().collect()
    };
    let ours: BTreeSet<_> = named!(SignalFlags, bits).into_values().collect();
    assert_eq!(ours, values("d3dddicb_signalflags", 0));
    let ours: BTreeSet<_> = named!(PropertyMask, bits).into_values().collect();
    assert_eq!(ours, values("d3dddi_updateallocproperty", 32));
    let error = bits(&layout, "dxgk_fault_error_code", 0);
    assert_eq!(error["ISDEVICESPECIFICCODE"], 1);
    assert_eq!(FaultErrorCode::from_bits(0x15).code(), 0xa);
    assert!(FaultErrorCode::from_bits(0x15).contains(FaultErrorCode::IS_DEVICE_SPECIFIC));
}

/// Numbers inside flag words are read from their bits.
#[test]
fn numbers_inside_words_are_read() {
    assert_eq!(AdapterCaps::from_bits(3 << 7).hw_support_state(), 3);
    assert_eq!(AdapterCaps::from_bits(!(3 << 7)).hw_support_state(), 0);
    assert_eq!(FeatureFlags::from_bits(0b1110).virtualization_mode(), 7);
    let preference = SegmentPreference::from_bits(0x21 | 0x02 << 6 | 0x3f << 24);
    assert_eq!(preference.choice(0), Some((1, true)));
    assert_eq!(preference.choice(1), Some((2, false)));
    assert_eq!(preference.choice(4), Some((0x1f, true)));
    assert_eq!(preference.choice(5), None);
    let data = SetGuestData {
        form: 1 << 1 | 1,
        ..Default::default()
    };
    assert_eq!(data.data_type(), GuestDataType::UINT64);
    assert_eq!(data.data32(), None);
    assert_eq!(CreateDeviceFlags::from_bits(0xf4).unknown(), 0xf0);
}

/// Every value of an enumeration is that of the layout data, and none is missing.
#[test]
fn enumerations_agree() {
    let layout = layout();
    for (enumeration, values) in [
        ("dxgdevice_flushschedulerreason", named!(FlushReason, raw)),
        ("d3dkmt_devicestate_type", named!(DeviceStateType, raw)),
        ("d3dkmt_deviceexecution_state", named!(ExecutionState, raw)),
        ("d3dkmt_device_error_reason", named!(DeviceErrorReason, raw)),
        ("dxgk_render_pipeline_stage", named!(PipelineStage, raw)),
        ("dxgk_page_fault_flags", named!(PageFaultFlags, bits)),
        ("dxgk_general_error_code", named!(GeneralErrorCode, raw)),
        ("d3dkmt_clienthint", named!(ClientHint, raw)),
        (
            "d3dddi_pagingqueue_priority",
            named!(PagingQueuePriority, raw),
        ),
        ("d3dkmt_escapetype", named!(EscapeType, raw)),
        ("d3dddi_knownescapetype", named!(KnownEscapeType, raw)),
        ("d3dkmdt_gdisurfacetype", named!(GdiSurfaceType, raw)),
        ("d3dddiformat", named!(SurfaceFormat, raw)),
        (
            "d3dkmdt_standardallocationtype",
            named!(DriverStandardAllocationType, raw),
        ),
        (
            "d3dkmt_standardallocationtype",
            named!(StandardAllocationType, raw),
        ),
        (
            "d3dddi_synchronizationobject_type",
            named!(SyncObjectType, raw),
        ),
        (
            "d3dkmt_allocationresidencystatus",
            named!(ResidencyStatus, raw),
        ),
        (
            "d3dddi_updategpuvirtualaddress_operation_type",
            named!(GpuVaOperationType, raw),
        ),
        ("d3dddigpuva_reservation_type", named!(ReservationType, raw)),
        (
            "d3dkmt_memory_segment_group",
            named!(MemorySegmentGroup, raw),
        ),
        ("kmtqueryadapterinfotype", named!(QueryType, raw)),
        ("d3dkmt_offer_priority", named!(OfferPriority, raw)),
        ("d3dddi_reclaim_result", named!(ReclaimResult, raw)),
        ("d3dkmt_querystatistics_type", named!(StatisticsType, raw)),
        ("dxgk_feature_id", named!(FeatureId, raw)),
        ("set_guestdata_type", named!(GuestDataType, raw)),
    ] {
        let expected: BTreeMap<String, i64> = layout["enums"][enumeration]
            .as_object()
            .unwrap_or_else(|| panic!("no enumeration {enumeration}"))
            .iter()
            .map(|(name, value)| (plain(name), value.as_i64().unwrap()))
            .filter(|(name, _)| !name.ends_with("TYPELIMIT") && name != "DXGKFEATUREMAX")
            .collect();
        assert_eq!(values.len(), expected.len(), "{enumeration}");
        for (name, value) in &values {
            let found = expected
                .iter()
                .any(|(known, number)| known.ends_with(name.as_str()) && number == value);
            assert!(
                found,
                "{name} = {value} is not in {enumeration}: {expected:?}"
            );
        }
    }
}

/// The layout data has no enumeration that is not looked at here or in the list of commands.
#[test]
fn no_enumeration_is_missing() {
    let layout = layout();
    let elsewhere = [
        "dxgkvmb_commandchanneltype",
        "dxgkvmb_commandtype_global",
        "dxgkvmb_commandtype",
        "dxgkvmb_commandtype_host_to_vm",
    ];
    let all = layout["enums"].as_object().unwrap();
    assert_eq!(all.len(), 26 + elsewhere.len());
    for enumeration in elsewhere {
        assert!(all.contains_key(enumeration), "{enumeration}");
    }
}

/// Every status has the bits and the error number of the layout data.
#[test]
fn statuses_agree() {
    let layout = layout();
    let errno = |name: &str| match name {
        "EPERM" => 1,
        "ENOENT" => 2,
        "EBADF" => 9,
        "ENOMEM" => 12,
        "EACCES" => 13,
        "EEXIST" => 17,
        "ENODEV" => 19,
        "EINVAL" => 22,
        "EOVERFLOW" => 75,
        "EPROTOTYPE" => 91,
        "EOPNOTSUPP" => 95,
        "EINPROGRESS" => 115,
        other => panic!("{other} is not in this table"),
    };
    for (name, status) in layout["constants"]["ntstatus"].as_object().unwrap() {
        let ours = NtStatus::NAMED
            .iter()
            .find(|(known, _)| known == name)
            .unwrap_or_else(|| panic!("no status {name}"))
            .1;
        let bits = u32::from_str_radix(&text(status, "value")[2..], 16).unwrap();
        assert_eq!(ours.bits(), bits, "{name}");
        assert_eq!(ours.name(), Some(name.as_str()));
        assert_eq!(ours.errno(), status["errno"].as_str().map(errno), "{name}");
        assert_eq!(ours.is_error(), status["errno"].is_string(), "{name}");
        assert_eq!(ours.ok().is_err(), ours.is_error());
    }
    assert_eq!(NtStatus::from_bits(0xc123_4567).errno(), Some(22));
    assert_eq!(NtStatus::from_raw(-1).bits(), u32::MAX);
    assert_eq!(NtStatus::UNSUCCESSFUL.errno(), Some(22));
}

/// Limits, versions and addresses in the configuration window are those of the layout data.
#[test]
fn constants_agree() {
    let layout = layout();
    let constants = &layout["constants"];
    let check = |group: &str, name: &str, value: u64| {
        assert_eq!(
            constants[group][name].as_u64(),
            Some(value),
            "{group}.{name}"
        );
    };
    let size = |value: usize| u64::try_from(value).unwrap();
    check("pci", "vendor_id", PCI_VENDOR.into());
    check("pci", "device_id_virtual_render", PCI_DEVICE_RENDER.into());
    check(
        "pci",
        "device_id_compute_accelerator",
        PCI_DEVICE_COMPUTE.into(),
    );
    check("pci", "config_channel_guid_offset", size(PCI_CHANNEL_GUID));
    check("pci", "config_channel_guid_size", size(size_of::<Guid>()));
    check("pci", "config_version_offset", size(PCI_VERSION));
    check("pci", "config_vgpu_luid_offset", size(PCI_VGPU_LUID));
    check("pci", "config_vgpu_luid_size", size(size_of::<Luid>()));
    check("pci", "config_guest_caps_offset", size(PCI_GUEST_CAPS));
    check("pci", "config_host_caps_offset", size(PCI_HOST_CAPS));
    check("pci", "guest_caps_wsl2", GuestCaps::WSL2.bits().into());
    let caps = HostCaps::MAP_GUEST_MEMORY.bits();
    check("pci", "host_caps_map_guest_memory", caps.into());
    assert_eq!(PCI_WINDOW_END, PCI_HOST_CAPS + 4);
    check(
        "versions",
        "interface_version",
        Version::CURRENT.raw().into(),
    );
    let legacy = Version::LEGACY.raw();
    check(
        "versions",
        "interface_version_legacy_default",
        legacy.into(),
    );
    let last = Version::LAST_COMPATIBLE.raw();
    check("versions", "last_compatible_interface_version", last.into());
    check("vmbus", "ring_size_each_direction", size(RING_SIZE));
    check("vmbus", "max_packet_size", size(MAX_MESSAGE));
    check(
        "limits",
        "max_message_bytes_with_ext_header",
        size(MAX_MESSAGE),
    );
    check("limits", "ext_header_size", size(size_of::<ExtHeader>()));
    check(
        "limits",
        "command_header_size",
        size(size_of::<CommandHeader>()),
    );
    check("limits", "process_name_units", size(PROCESS_NAME_UNITS));
    check(
        "limits",
        "create_allocation_max",
        MAX_CREATE_ALLOCATIONS.into(),
    );
    check(
        "limits",
        "make_resident_max",
        MAX_RESIDENCY_ALLOCATIONS.into(),
    );
    check(
        "limits",
        "broadcast_context_max",
        size(MAX_BROADCAST_CONTEXTS),
    );
    check("limits", "objects_waited_on_max", MAX_WAIT_OBJECTS.into());
    check("limits", "objects_signaled_max", MAX_SIGNAL_OBJECTS.into());
    check(
        "limits",
        "written_primaries_max",
        size(MAX_WRITTEN_PRIMARIES),
    );
    check("limits", "history_buffers_max", MAX_HISTORY_BUFFERS.into());
    check("limits", "pfns_per_message", size(MAX_PAGES_PER_MESSAGE));
    check("limits", "test_buffer_max", MAX_TEST_BUFFER.into());
    check(
        "limits",
        "test_buffer_private_max",
        MAX_TEST_BUFFER_PRIVATE.into(),
    );
    check("limits", "page_size", PAGE_SIZE);
    check("limits", "io_space_alignment", IO_SPACE_ALIGNMENT);
    check(
        "limits",
        "adapter_info_reply_v40",
        size(size_of::<AdapterInfo>()),
    );
    let hint = ClientHint::OPENGL.raw();
    check("values", "createsyncobject_client_hint", hint.into());
    let reason = FlushReason::DEVICE_TERMINATE.raw();
    check("values", "flush_reason_device_terminate", reason.into());
    let flags =
        SyncObjectFlags::SHARED | SyncObjectFlags::NT_SECURITY_SHARING | SyncObjectFlags::NO_SIGNAL;
    check(
        "values",
        "opensyncobject_syncfile_flags",
        flags.bits().into(),
    );
    check("values", "first_guest_event_id", FIRST_GUEST_EVENT);
    check(
        "values",
        "handle_max_usable_index",
        Handle::MAX_INDEX.into(),
    );
    let first = Handle::pack(0, 0, 1).raw();
    check("values", "first_guest_adapter_handle", first.into());
}

/// The classes of the channels travel as the layout data has them, and print as people write them.
#[test]
fn channel_classes_agree() {
    let layout = layout();
    for (name, guid) in [
        ("global_channel", GLOBAL_CHANNEL),
        ("vgpu_channel", VGPU_CHANNEL),
    ] {
        let expected = &layout["constants"]["guids"][name];
        assert_eq!(guid.to_bytes().to_vec(), hex(text(expected, "wire_hex")));
        assert_eq!(guid.to_string(), text(expected, "text"));
        let low = u32::from_le_bytes(guid.to_bytes()[..4].try_into().unwrap());
        let high = u32::from_le_bytes(guid.to_bytes()[4..8].try_into().unwrap());
        assert_eq!(guid.luid(), Luid::new(low, high));
        assert_eq!(Guid::from_bytes(guid.to_bytes()), guid);
    }
}

/// A host that offers nothing is a legacy host; one that offers too much is taken at what we know.
#[test]
fn versions_are_negotiated() {
    assert_eq!(Version::negotiate(0), Version::LEGACY);
    assert_eq!(Version::negotiate(39).raw(), 39);
    assert_eq!(Version::negotiate(40), Version::CURRENT);
    assert_eq!(Version::negotiate(u32::MAX), Version::CURRENT);
    assert!(Version::CURRENT.has_ext_header());
    assert!(!Version::negotiate(39).has_ext_header());
}

/// LUIDs and 64-bit numbers say the same.
#[test]
fn luids_are_numbers() {
    let luid = Luid::new(0x5566_7788, 0x1122_3344);
    assert_eq!(luid.as_u64(), 0x1122_3344_5566_7788);
    assert_eq!(Luid::from_u64(luid.as_u64()), luid);
    assert_eq!(luid.to_string(), "11223344-55667788");
}
