// SPDX-License-Identifier: MIT OR Apache-2.0

//! Every structure of the layout data has a type of the same size, with every field in its place.

mod common;

use std::collections::BTreeSet;
use std::mem::{offset_of, size_of};

use gpupv::*;
use serde_json::Value;

use common::{layout, list, number, text};

/// A type and the structure of the layout data it stands for.
struct Mapping {
    structure: &'static str,
    size: usize,
    /// Where the type starts in the structure: 24 behind a header.
    base: usize,
    fields: Vec<Field>,
    /// The field of the structure at which the type ends, the rest being a variable part.
    tail: Option<&'static str>,
}

struct Field {
    path: &'static str,
    offset: usize,
    size: usize,
    /// Holds more than the one field of that name: only the offset must agree.
    container: bool,
}

fn field_size<T, F>(_get: fn(&T) -> &F) -> usize {
    size_of::<F>()
}

macro_rules! path {
    ($($field:ident).+) => { stringify!($($field).+) };
    ($($field:ident).+ $path:literal) => { $path };
}

/// One line per structure: its name, the type, where the type starts, and the type's fields, each
/// with its name in the layout data where that differs.
macro_rules! mappings {
    ($($structure:literal => $ty:ident at $base:literal {
        $($($field:ident).+ $(= $path:literal)?),* $(,)?
    } $(; tail $tail:literal)? $(; from $rest:ident $rest_path:literal)?;)*) => {
        vec![$({
            #[allow(unused_mut)]
            let mut fields: Vec<Field> = vec![$(Field {
                path: path!($($field).+ $($path)?),
                offset: $base + offset_of!($ty, $($field).+),
                size: field_size(|value: &$ty| &value.$($field).+),
                container: false,
            }),*];
            $(fields.push(Field {
                path: $rest_path,
                offset: $base + offset_of!($ty, $rest),
                size: field_size(|value: &$ty| &value.$rest),
                container: true,
            });)?
            Mapping {
                structure: $structure,
                size: size_of::<$ty>(),
                base: $base,
                fields,
                tail: None$(.or(Some($tail)))?,
            }
        }),*]
    };
}

fn mappings() -> Vec<Mapping> {
    mappings! {
        // Fixed parts of commands and of host-to-guest messages, after the header.
        "dxgkvmb_command_createprocess" => CreateProcess at 24 {
            process, process_id, process_name, kind = "csrss_process",
        };
        "dxgkvmb_command_destroyprocess" => DestroyProcess at 24 {  };
        "dxgkvmb_command_opensyncobject" => OpenSyncObject at 24 {
            device, global_sync_object, engine_affinity, flags,
        };
        "dxgkvmb_command_destroysyncobject" => DestroySyncObject at 24 { sync_object };
        "dxgkvmb_command_createntsharedobject" => CreateNtSharedObject at 24 { object };
        "dxgkvmb_command_destroyntsharedobject" => DestroyNtSharedObject at 24 { shared_handle };
        "dxgkvmb_command_setiospaceregion" => SetIoSpaceRegion at 24 {
            start, length, shared_page_gpadl,
        };
        "dxgkvmb_command_shareobjectwithhost" => ShareObjectWithHost at 24 {
            device = "device_handle", object = "object_handle", reserved,
        };
        "dxgkvmb_command_isfeatureenabled_gbl" => IsFeatureEnabledGlobal at 24 {
            feature = "feature_id",
        };
        "dxgkvmb_command_createdevice" => CreateDevice at 24 { flags, cdd_device, error_code };
        "dxgkvmb_command_destroydevice" => DestroyDevice at 24 { device };
        "dxgkvmb_command_queryadapterinfo" => QueryAdapterInfo at 24 {
            query_type, private_data_size,
        }; tail "private_data";
        "dxgkvmb_command_createallocation" => CreateAllocation at 24 {
            device, resource, private_runtime_data_size, priv_drv_data_size, alloc_count, flags,
            private_runtime_resource_handle, make_resident,
        };
        "dxgkvmb_command_destroyallocation" => DestroyAllocation at 24 {
            device, resource, alloc_count, flags,
        }; tail "allocations";
        "dxgkvmb_command_createcontextvirtual" => CreateContextVirtual at 24 {
            context, device, node_ordinal, engine_affinity, flags, client_hint, priv_drv_data_size,
        }; tail "priv_drv_data";
        "dxgkvmb_command_destroycontext" => DestroyContext at 24 { context };
        "dxgkvmb_command_createsyncobject" => CreateSyncObject at 24 {
            device = "args.device", reserved = "args.reserved", info.kind = "args.info.type",
            info.flags = "args.info.flags", info.args = "args.info.reserved.reserved",
            info.shared_handle = "args.info.shared_handle", sync_object = "args.sync_object",
            reserved1 = "args.reserved1", client_hint,
        };
        "dxgkvmb_command_createpagingqueue" => CreatePagingQueue at 24 {
            device = "args.device", priority = "args.priority", paging_queue = "args.paging_queue",
            sync_object = "args.sync_object",
            fence_cpu_virtual_address = "args.fence_cpu_virtual_address",
            physical_adapter_index = "args.physical_adapter_index",
        };
        "dxgkvmb_command_destroypagingqueue" => DestroyPagingQueue at 24 { paging_queue };
        "dxgkvmb_command_makeresident" => MakeResident at 24 {
            device, paging_queue, flags, alloc_count,
        }; tail "allocations";
        "dxgkvmb_command_evict" => Evict at 24 { device, flags, alloc_count }; tail "allocations";
        "dxgkvmb_command_escape" => Escape at 24 {
            adapter, device, kind = "type", flags, priv_drv_data_size, context,
        }; tail "priv_drv_data";
        "dxgkvmb_command_openadapter" => OpenAdapter at 24 {
            interface_version = "vmbus_interface_version",
            last_compatible_version = "vmbus_last_compatible_interface_version", guest_adapter_luid,
        };
        "dxgkvmb_command_closeadapter" => CloseAdapter at 24 { adapter = "host_handle" };
        "dxgkvmb_command_freegpuvirtualaddress" => FreeGpuVirtualAddress at 24 {
            adapter = "args.adapter", reserved = "args.reserved", base_address = "args.base_address",
            size = "args.size",
        };
        "dxgkvmb_command_mapgpuvirtualaddress" => MapGpuVirtualAddress at 24 {
            paging_queue = "args.paging_queue", base_address = "args.base_address",
            minimum_address = "args.minimum_address", maximum_address = "args.maximum_address",
            allocation = "args.allocation", offset_in_pages = "args.offset_in_pages",
            size_in_pages = "args.size_in_pages", protection = "args.protection",
            driver_protection = "args.driver_protection", reserved0 = "args.reserved0",
            reserved1 = "args.reserved1", virtual_address = "args.virtual_address",
            paging_fence_value = "args.paging_fence_value", device,
        };
        "dxgkvmb_command_reservegpuvirtualaddress" => ReserveGpuVirtualAddress at 24 {
            adapter = "args.adapter", base_address = "args.base_address",
            minimum_address = "args.minimum_address", maximum_address = "args.maximum_address",
            size = "args.size", reservation_type = "args.reservation_type",
            driver_protection = "args.driver_protection", virtual_address = "args.virtual_address",
            paging_fence_value = "args.paging_fence_value",
        };
        "dxgkvmb_command_updategpuvirtualaddress" => UpdateGpuVirtualAddress at 24 {
            fence_value, device, context, fence_object, num_operations, flags,
        }; tail "operations";
        "dxgkvmb_command_submitcommand" => SubmitCommand at 24 {
            command_buffer = "args.command_buffer", command_length = "args.command_length",
            flags = "args.flags", present_history_token = "args.present_history_token",
            broadcast_context_count = "args.broadcast_context_count",
            broadcast_context = "args.broadcast_context", reserved = "args.reserved",
            priv_drv_data = "args.priv_drv_data", priv_drv_data_size = "args.priv_drv_data_size",
            num_primaries = "args.num_primaries", written_primaries = "args.written_primaries",
            num_history_buffers = "args.num_history_buffers", reserved1 = "args.reserved1",
            history_buffer_array = "args.history_buffer_array",
        };
        "dxgkvmb_command_queryvideomemoryinfo" => QueryVideoMemoryInfo at 24 {
            adapter, memory_segment_group, physical_adapter_index,
        };
        "dxgkvmb_command_waitforsyncobjectfromcpu" => WaitForSyncObjectFromCpu at 24 {
            device, object_count, flags, guest_event = "guest_event_pointer", dereference_event,
        };
        "dxgkvmb_command_lock2" => Lock2 at 24 {
            device = "args.device", allocation = "args.allocation", flags = "args.flags",
            reserved = "args.reserved", data = "args.data", use_legacy_lock, legacy_flags = "flags",
            priv_drv_data,
        };
        "dxgkvmb_command_unlock2" => Unlock2 at 24 {
            device = "args.device", allocation = "args.allocation", use_legacy_unlock,
        };
        "dxgkvmb_command_waitforsyncobjectfromgpu" => WaitForSyncObjectFromGpu at 24 {
            context, object_count, legacy_fence_object,
        }; tail "fence_values";
        "dxgkvmb_command_signalsyncobject" => SignalSyncObject at 24 {
            object_count, flags, context_count, fence_value, event_or_device = "cpu_event_handle",
        };
        "dxgkvmb_command_getdevicestate" => GetDeviceState at 24 {
            args.device, args.state_type, args.state = "args.alignment",
        };
        "dxgkvmb_command_markdeviceaserror" => MarkDeviceAsError at 24 {
            device = "args.device", reason = "args.reason",
        };
        "dxgkvmb_command_openresource" => OpenResource at 24 {
            device, nt_security_sharing, global_share, allocation_count, total_priv_drv_data_size,
        };
        "dxgkvmb_command_setcontextschedulingpriority2" => SetContextSchedulingPriority at 24 {
            context, priority, in_process,
        };
        "dxgkvmb_command_getinternaladapterinfo" => GetInternalAdapterInfo at 24 {  };
        "dxgkvmb_command_flushheaptransitions" => FlushHeapTransitions at 24 {  };
        "dxgkvmb_command_getstandardallocprivdata" => GetStandardAllocationDriverData at 24 {
            alloc_type, priv_driver_data_size, priv_driver_resource_size, physical_adapter_index,
            surface.width = "gdi_surface.width", surface.height = "gdi_surface.height",
            surface.format = "gdi_surface.format", surface.kind = "gdi_surface.type",
            surface.flags = "gdi_surface.flags", surface.pitch = "gdi_surface.pitch",
        };
        "dxgkvmb_command_queryallocationresidency" => QueryAllocationResidency at 24 {
            device = "args.device", resource = "args.resource", allocations = "args.allocations",
            allocation_count = "args.allocation_count", reserved = "args.reserved",
            residency_status = "args.residency_status",
        };
        "dxgkvmb_command_flushdevice" => FlushDevice at 24 { device, reason };
        "dxgkvmb_command_setexistingsysmemstore" => SetExistingSysmemStore at 24 {
            device, allocation, gpadl,
        };
        "dxgkvmb_command_querystatistics" => QueryStatistics at 24 {
            kind = "args.type", adapter_luid = "args.adapter_luid", process = "args.process",
            result = "args.result",
        };
        "dxgkvmb_command_changevideomemoryreservation" => ChangeVideoMemoryReservation at 24 {
            process = "args.process", adapter = "args.adapter",
            memory_segment_group = "args.memory_segment_group", reservation = "args.reservation",
            physical_adapter_index = "args.physical_adapter_index",
        };
        "dxgkvmb_command_createhwqueue" => CreateHwQueue at 24 {
            status, hwqueue, progress_fence = "hwqueue_progress_fence",
            progress_fence_address = "hwqueue_progress_fence_cpuva",
            progress_fence_gpuva = "hwqueue_progress_fence_gpuva", context, flags, priv_drv_data_size,
        }; tail "priv_drv_data";
        "dxgkvmb_command_destroyhwqueue" => DestroyHwQueue at 24 { hwqueue };
        "dxgkvmb_command_submitcommandtohwqueue" => SubmitCommandToHwQueue at 24 {
            hwqueue = "args.hwqueue", reserved = "args.reserved",
            hwqueue_progress_fence_id = "args.hwqueue_progress_fence_id",
            command_buffer = "args.command_buffer", command_length = "args.command_length",
            priv_drv_data_size = "args.priv_drv_data_size", priv_drv_data = "args.priv_drv_data",
            num_primaries = "args.num_primaries", reserved1 = "args.reserved1",
            written_primaries = "args.written_primaries",
        };
        "dxgkvmb_command_updateallocationproperty" => UpdateAllocationProperty at 24 {
            paging_queue = "args.paging_queue", allocation = "args.allocation",
            supported_segment_set = "args.supported_segment_set",
            preferred_segment = "args.preferred_segment", flags = "args.flags",
            paging_fence_value = "args.paging_fence_value",
            property_mask = "args.property_mask_value",
        };
        "dxgkvmb_command_offerallocations" => OfferAllocations at 24 {
            device, allocation_count, priority, flags, resources,
        }; tail "allocations";
        "dxgkvmb_command_reclaimallocations" => ReclaimAllocations at 24 {
            device, paging_queue, allocation_count, resources, write_results,
        }; tail "allocations";
        "dxgkvmb_command_setallocationpriority" => SetAllocationPriority at 24 {
            device, resource, allocation_count,
        };
        "dxgkvmb_command_getallocationpriority" => GetAllocationPriority at 24 {
            device, resource, allocation_count,
        };
        "dxgkvmb_command_getcontextschedulingpriority" => GetContextSchedulingPriority at 24 {
            context, in_process,
        };
        "dxgkvmb_command_queryclockcalibration" => QueryClockCalibration at 24 {
            adapter = "args.adapter", node_ordinal = "args.node_ordinal",
            physical_adapter_index = "args.physical_adapter_index",
            clock_data.gpu_frequency = "args.clock_data.gpu_frequency",
            clock_data.gpu_clock_counter = "args.clock_data.gpu_clock_counter",
            clock_data.cpu_clock_counter = "args.clock_data.cpu_clock_counter",
            clock_data.flags = "args.clock_data.flags",
        };
        "dxgkvmb_command_setexistingsysmempages" => SetExistingSysmemPages at 24 {
            device, allocation, num_pages, alloc_offset_in_pages,
        };
        "dxgkvmb_command_invalidatecache" => InvalidateCache at 24 {
            device, allocation, offset, length, reserved,
        };
        "dxgkvmb_command_isfeatureenabled" => IsFeatureEnabled at 24 { feature = "feature_id" };
        "dxgkvmb_command_signalguestevent" => SignalGuestEvent at 24 {
            event, process_id, dereference_event,
        };
        "dxgkvmb_command_setguestdata" => SetGuestData at 24 {
            guest_pointer, data = "data64", form = "dereference",
        };
        // Replies.
        "dxgkvmb_command_createprocess_return" => CreateProcessReply at 0 { process = "hprocess" };
        "dxgkvmb_command_opensyncobject_return" => OpenSyncObjectReply at 0 {
            sync_object, status, gpu_virtual_address, guest_cpu_physical_address,
        };
        "dxgkvmb_command_shareobjectwithhost_return" => ShareObjectWithHostReply at 0 {
            status, _pad = "alignment", vail_nt_handle,
        };
        "dxgkvmb_command_isfeatureenabled_return" => IsFeatureEnabledReply at 0 {
            status, min_supported_version = "descriptor.min_supported_version",
            max_supported_version = "descriptor.max_supported_version",
            flags = "descriptor.supported", version = "result.version", state = "result.value",
        };
        "dxgkvmb_command_createdevice_return" => CreateDeviceReply at 0 { device };
        "dxgkvmb_command_queryadapterinfo_return" => QueryAdapterInfoReply at 0 {
            status,
        }; tail "private_data";
        "dxgkvmb_command_createallocation_return" => CreateAllocationReply at 0 {
            flags, resource, global_share, vgpu_flags,
        }; tail "allocation_info";
        "dxgkvmb_command_createsyncobject_return" => CreateSyncObjectReply at 0 {
            sync_object, global_sync_object, fence_gpu_va, fence_storage_address,
            fence_storage_offset,
        };
        "dxgkvmb_command_createpagingqueue_return" => CreatePagingQueueReply at 0 {
            paging_queue, sync_object, fence_storage_physical_address, fence_storage_offset,
        };
        "dxgkvmb_command_makeresident_return" => MakeResidentReply at 0 {
            paging_fence_value, num_bytes_to_trim, status,
        };
        "dxgkvmb_command_evict_return" => EvictReply at 0 { num_bytes_to_trim };
        "dxgkvmb_command_openadapter_return" => OpenAdapterReply at 0 {
            adapter = "host_adapter_handle", status, interface_version = "vmbus_interface_version",
            last_compatible_version = "vmbus_last_compatible_interface_version",
        };
        "dxgkvmb_command_mapgpuvirtualaddress_return" => MapGpuVirtualAddressReply at 0 {
            virtual_address, paging_fence_value, status,
        };
        "dxgkvmb_command_reservegpuvirtualaddress_return" => ReserveGpuVirtualAddressReply at 0 {
            virtual_address, paging_fence_value,
        };
        "dxgkvmb_command_queryvideomemoryinfo_return" => VideoMemoryInfo at 0 {
            budget, current_usage, current_reservation, available_for_reservation,
        };
        "dxgkvmb_command_lock2_return" => Lock2Reply at 0 {
            status, cpu_visible_address = "cpu_visible_buffer_offset",
        };
        "dxgkvmb_command_getdevicestate_return" => GetDeviceStateReply at 0 {
            args.device, args.state_type, args.state = "args.alignment", status,
        };
        "dxgkvmb_command_openresource_return" => OpenResourceReply at 0 { resource, status };
        "dxgkvmb_command_getinternaladapterinfo_return" => AdapterInfo at 0 {
            device_types, driver_store_copy_mode, driver_ddi_version, caps = "secure_virtual_machine",
            host_adapter_luid, device_description, device_instance_id, host_vgpu_luid,
        };
        "dxgkvmb_command_getstandardallocprivdata_return" => StandardAllocationDriverData at 0 {
            status, priv_driver_data_size, priv_driver_resource_size,
            surface.width = "gdi_surface.width", surface.height = "gdi_surface.height",
            surface.format = "gdi_surface.format", surface.kind = "gdi_surface.type",
            surface.flags = "gdi_surface.flags", surface.pitch = "gdi_surface.pitch",
        };
        "dxgkvmb_command_queryallocationresidency_return" => QueryAllocationResidencyReply at 0 {
            status,
        };
        "dxgkvmb_command_querystatistics_return" => QueryStatisticsReply at 0 {
            status, reserved, result,
        };
        "dxgkvmb_command_updateallocationproperty_return" => UpdateAllocationPropertyReply at 0 {
            paging_fence_value, status,
        };
        "dxgkvmb_command_reclaimallocations_return" => ReclaimAllocationsReply at 0 {
            paging_fence_value, status,
        }; tail "discarded";
        "dxgkvmb_command_getallocationpriority_return" => GetAllocationPriorityReply at 0 { status };
        "dxgkvmb_command_getcontextschedulingpriority_return" => GetContextSchedulingPriorityReply at 0 {
            status, priority,
        };
        "dxgkvmb_command_queryclockcalibration_return" => QueryClockCalibrationReply at 0 {
            status, clock_data.gpu_frequency, clock_data.gpu_clock_counter,
            clock_data.cpu_clock_counter, clock_data.flags,
        };
        // Headers and parts of the above.
        "dxgkvmb_command_vm_to_host" => CommandHeader at 0 {
            command_id, process, channel = "channel_type", command_type,
        };
        "dxgkvmb_command_vgpu_to_host" => CommandHeader at 0 {
            command_id, process, channel = "channel_type", command_type,
        };
        "dxgkvmb_command_host_to_vm" => CommandHeader at 0 {
            command_id, process, channel = "channel_type", command_type,
        };
        "dxgvmb_ext_header" => ExtHeader at 0 { command_offset, reserved, vgpu_luid };
        "winluid" => Luid at 0 { low = "a", high = "b" };
        "dxgkvmb_command_createallocation_allocinfo" => AllocationInfo at 0 {
            flags, priv_drv_data_size, vidpn_source_id,
        };
        "dxgkvmb_command_allocinfo_return" => CreatedAllocation at 0 {
            allocation, priv_drv_data_size, flags = "allocation_flags", size = "allocation_size",
            driver_info.allocation, driver_info.width, driver_info.height, driver_info.format,
            driver_info.multisample_method,
            driver_info.refresh_rate_numerator = "driver_info.refresh_rate.numerator",
            driver_info.refresh_rate_denominator = "driver_info.refresh_rate.denominator",
            driver_info.private_driver_attribute, driver_info.flags, driver_info.rotation,
        };
        "dxgkarg_describeallocation" => AllocationDescription at 0 {
            allocation, width, height, format, multisample_method,
            refresh_rate_numerator = "refresh_rate.numerator",
            refresh_rate_denominator = "refresh_rate.denominator", private_driver_attribute, flags,
            rotation,
        };
        "d3dkmt_devicepagefault_state" => PageFaultState at 0 {
            primitive = "faulted_primitive_api_sequence_number", stage = "faulted_pipeline_stage",
            bind_table_entry = "faulted_bind_table_entry", flags = "page_fault_flags",
            error_code = "fault_error_code", address = "faulted_virtual_address",
        };
        "d3dkmt_getdevicestate" => DeviceState at 0 { device, state_type, state = "alignment" };
        "d3dddi_synchronizationobjectinfo2" => SyncObjectInfo at 0 {
            kind = "type", flags, args = "reserved.reserved", shared_handle,
        };
        "d3dkmdt_gdisurfacedata" => GdiSurface at 0 {
            width, height, format, kind = "type", flags, pitch,
        };
        "d3dddi_buildtestcommandbuffer" => BuildTestCommandBuffer at 0 {
            escape_type, device, context, flags, command = "command.buffer", dma_buffer,
            dma_buffer_priv_data, dma_buffer_size, dma_buffer_priv_data_size,
        };
        "d3dkmt_createstandardallocation" => StandardAllocation at 0 {
            kind = "type", reserved, size = "existing_heap_data.size", flags, reserved1,
        };
        "d3dddi_updategpuvirtualaddress_operation" => GpuVaOperation at 0 {
            operation,
        }; from words "map.base_address";
        "dxgk_gpuclockdata" => ClockData at 0 {
            gpu_frequency, gpu_clock_counter, cpu_clock_counter, flags,
        };
    }
}

/// Structures that are words with bits, or that were expanded where they are used.
const NOT_MAPPED: &[&str] = &[
    // Words: see the tests of flags and handles.
    "d3dddi_createcontextflags",
    "d3dddi_createhwqueueflags",
    "d3dddi_escapeflags",
    "d3dddi_evict_flags",
    "d3dddi_makeresident_flags",
    "d3dddi_segmentpreference",
    "d3dddi_synchronizationobject_flags",
    "d3dddi_updateallocproperty_flags",
    "d3dddi_waitforsynchronizationobjectfromcpu_flags",
    "d3dddicb_destroyallocation2flags",
    "d3dddicb_lock2flags",
    "d3dddicb_signalflags",
    "d3dddigpuva_protection_type",
    "d3dkmt_adaptertype",
    "d3dkmt_createallocationflags",
    "d3dkmt_createdeviceflags",
    "d3dkmt_createstandardallocationflags",
    "d3dkmt_devicereset_state",
    "d3dkmt_offer_flags",
    "d3dkmt_submitcommandflags",
    "d3dkmthandle",
    "dxgk_device_types",
    "dxgk_fault_error_code",
    "dxgk_gpuclockdata_flags",
    "dxgk_vmbus_guestcaps",
    "dxgk_vmbus_hostcaps",
    "dxgkvmb_allocflags",
    "ntstatus",
    // Expanded where they are used.
    "d3dddi_mapgpuvirtualaddress",
    "d3dddi_rational",
    "d3dddi_reservegpuvirtualaddress",
    "d3dddi_testcommand",
    "d3dddi_updateallocproperty",
    "d3dkmt_changevideomemoryreservation",
    "d3dkmt_createpagingqueue",
    "d3dkmt_createsynchronizationobject2",
    "d3dkmt_freegpuvirtualaddress",
    "d3dkmt_lock2",
    "d3dkmt_markdeviceaserror",
    "d3dkmt_queryallocationresidency",
    "d3dkmt_queryclockcalibration",
    "d3dkmt_querystatistics",
    "d3dkmt_querystatistics_result",
    "d3dkmt_standardallocation_existingheap",
    "d3dkmt_submitcommand",
    "d3dkmt_submitcommandtohwqueue",
    "d3dkmt_unlock2",
    "dxgk_feature_desc",
    "dxgk_isfeatureenabled_result",
    // Surfaces a guest never asks about; the union they are in is as large as the one it does.
    "d3dkmdt_shadowsurfacedata",
    "d3dkmdt_sharedprimarysurfacedata",
    "d3dkmdt_stagingsurfacedata",
    // The VMBus packet is the ring's business.
    "vmpacket_descriptor",
];

/// Offset and size of a field, or of all that is inside it.
fn place(structure: &Value, path: &str) -> Option<(usize, usize)> {
    let inside = format!("{path}.");
    let parts = list(structure, "flat").iter().filter(|field| {
        let name = text(field, "name");
        name == path || name.starts_with(&inside)
    });
    let ends: Vec<_> = parts
        .map(|field| {
            let offset = number(field, "offset");
            (offset, offset + number(field, "size"))
        })
        .collect();
    let start = ends.iter().map(|(start, _)| *start).min()?;
    let end = ends.iter().map(|(_, end)| *end).max()?;
    Some((start, end - start))
}

fn structure<'a>(layout: &'a Value, name: &str) -> &'a Value {
    list(layout, "structs")
        .iter()
        .find(|structure| text(structure, "name") == name)
        .unwrap_or_else(|| panic!("no structure {name} in the layout data"))
}

/// Each type ends where its structure ends, or where its variable part starts.
#[test]
fn sizes_agree() {
    let layout = layout();
    for mapping in mappings() {
        let structure = structure(&layout, mapping.structure);
        let end = match mapping.tail {
            Some(tail) => place(structure, tail).unwrap().0,
            None => number(structure, "size"),
        };
        assert_eq!(mapping.base + mapping.size, end, "{}", mapping.structure);
    }
}

/// Each field of a type is where the layout data has it, and as large.
#[test]
fn fields_are_in_their_places() {
    let layout = layout();
    for mapping in mappings() {
        let structure = structure(&layout, mapping.structure);
        for field in &mapping.fields {
            let name = format!("{}.{}", mapping.structure, field.path);
            let (offset, size) =
                place(structure, field.path).unwrap_or_else(|| panic!("no field {name}"));
            assert_eq!(field.offset, offset, "offset of {name}");
            if !field.container {
                assert_eq!(field.size, size, "size of {name}");
            }
        }
    }
}

/// No field of a structure was forgotten: each is a field of the type, lies inside one (bits and
/// alternatives of a union), belongs to the header, starts the variable part, or is another name
/// for the whole.
#[test]
fn no_field_is_missing() {
    let layout = layout();
    for mapping in mappings() {
        let structure = structure(&layout, mapping.structure);
        let whole = number(structure, "size") - mapping.base;
        for field in list(structure, "flat") {
            let (name, offset) = (text(field, "name"), number(field, "offset"));
            let size = number(field, "size");
            let inside = |known: &Field| {
                known.offset <= offset && offset + size <= known.offset + known.size
            };
            let in_tail = mapping.tail.is_some_and(|tail| name.starts_with(tail));
            let known = name.starts_with("hdr.")
                || in_tail
                || (offset == mapping.base && size == whole)
                || mapping.fields.iter().any(inside);
            assert!(known, "{}.{name} is not covered", mapping.structure);
        }
    }
}

/// Every structure of the layout data has a type, or is listed with the reason why not.
#[test]
fn no_structure_is_missing() {
    let layout = layout();
    let all: BTreeSet<_> = list(&layout, "structs")
        .iter()
        .map(|structure| text(structure, "name"))
        .collect();
    let mapped: BTreeSet<_> = mappings().iter().map(|mapping| mapping.structure).collect();
    let excused: BTreeSet<_> = NOT_MAPPED.iter().copied().collect();
    assert_eq!(mapped.intersection(&excused).count(), 0);
    assert_eq!(all, mapped.union(&excused).copied().collect());
    for command in list(&layout, "commands") {
        let request = text(command, "request");
        assert!(mapped.contains(request), "{request} has no type");
        let reply = text(command, "reply");
        let bare = ["ntstatus", "d3dkmthandle", "ignored", "raw", "none"].contains(&reply);
        assert!(bare || mapped.contains(reply), "{reply} has no type");
    }
}

/// Replies that repeat the request have it behind a header.
#[test]
fn echoed_requests_follow_a_header() {
    assert_eq!(offset_of!(CreateContextVirtualReply, body), 24);
    assert_eq!(size_of::<CreateContextVirtualReply>(), 52);
    assert_eq!(offset_of!(CreateHwQueueReply, body), 24);
    assert_eq!(size_of::<CreateHwQueueReply>(), 68);
}

/// The arguments that share the bytes of a union are laid out as their alternatives are.
#[test]
fn union_members_are_in_their_places() {
    let layout = layout();
    let info = structure(&layout, "d3dddi_synchronizationobjectinfo2");
    let base = offset_of!(SyncObjectInfo, args);
    let fence = |field| place(info, &format!("monitored_fence.{field}"));
    let periodic = |field| place(info, &format!("periodic_monitored_fence.{field}"));
    let at = |offset, size| Some((base + offset, size));
    for (expected, found) in [
        (at(0, 4), place(info, "synchronization_mutex.initial_state")),
        (at(0, 8), place(info, "fence.fence_value")),
        (at(0, 8), place(info, "cpu_notification.event")),
        (
            at(offset_of!(Semaphore, max_count), 4),
            place(info, "semaphore.max_count"),
        ),
        (
            at(offset_of!(Semaphore, initial_count), 4),
            place(info, "semaphore.initial_count"),
        ),
        (
            at(offset_of!(MonitoredFence, initial_value), 8),
            fence("initial_fence_value"),
        ),
        (
            at(offset_of!(MonitoredFence, fence_cpu_virtual_address), 8),
            fence("fence_cpu_virtual_address"),
        ),
        (
            at(offset_of!(MonitoredFence, fence_gpu_virtual_address), 8),
            fence("fence_gpu_virtual_address"),
        ),
        (
            at(offset_of!(MonitoredFence, engine_affinity), 4),
            fence("engine_affinity"),
        ),
        (
            at(offset_of!(PeriodicMonitoredFence, adapter), 4),
            periodic("adapter"),
        ),
        (
            at(offset_of!(PeriodicMonitoredFence, vidpn_target_id), 4),
            periodic("vidpn_target_id"),
        ),
        (
            at(offset_of!(PeriodicMonitoredFence, time), 8),
            periodic("time"),
        ),
        (
            at(
                offset_of!(PeriodicMonitoredFence, fence_cpu_virtual_address),
                8,
            ),
            periodic("fence_cpu_virtual_address"),
        ),
        (
            at(
                offset_of!(PeriodicMonitoredFence, fence_gpu_virtual_address),
                8,
            ),
            periodic("fence_gpu_virtual_address"),
        ),
        (
            at(offset_of!(PeriodicMonitoredFence, engine_affinity), 4),
            periodic("engine_affinity"),
        ),
    ] {
        assert_eq!(found, expected);
    }
}

/// An operation on GPU addresses has its arguments where the layout data has them.
#[test]
fn gpu_address_operations_are_laid_out_as_their_alternatives() {
    let layout = layout();
    let operation = structure(&layout, "d3dddi_updategpuvirtualaddress_operation");
    let value = |change: GpuVaChange, path: &str| {
        let operation_bytes = GpuVaOperation::from(change);
        assert_eq!(operation_bytes.change(), Some(change));
        let (offset, size) = place(operation, path).unwrap();
        let mut bytes = [0; 8];
        bytes[..size].copy_from_slice(&operation_bytes.bytes()[offset..offset + size]);
        u64::from_le_bytes(bytes)
    };
    let map = GpuVaChange::Map {
        base: 0x1000,
        size: 0x2000,
        allocation: Handle::from_raw(0x40),
        allocation_offset: 0x3000,
        allocation_size: 0x4000,
        protection: None,
    };
    assert_eq!(value(map, "operation"), 0);
    assert_eq!(value(map, "map.base_address"), 0x1000);
    assert_eq!(value(map, "map.size"), 0x2000);
    assert_eq!(value(map, "map.allocation"), 0x40);
    assert_eq!(value(map, "map.allocation_offset"), 0x3000);
    assert_eq!(value(map, "map.allocation_size"), 0x4000);
    let protect = GpuVaChange::Map {
        base: 0x1000,
        size: 0x2000,
        allocation: Handle::from_raw(0x40),
        allocation_offset: 0x3000,
        allocation_size: 0x4000,
        protection: Some((Protection::WRITE, 0x77)),
    };
    assert_eq!(value(protect, "operation"), 3);
    assert_eq!(value(protect, "map_protect.protection"), 1);
    assert_eq!(value(protect, "map_protect.driver_protection"), 0x77);
    let unmap = GpuVaChange::Unmap {
        base: 0x1000,
        size: 0x2000,
        protection: Protection::NO_ACCESS,
    };
    assert_eq!(value(unmap, "operation"), 1);
    assert_eq!(value(unmap, "unmap.base_address"), 0x1000);
    assert_eq!(value(unmap, "unmap.size"), 0x2000);
    assert_eq!(value(unmap, "unmap.protection"), 8);
    let copy = GpuVaChange::Copy {
        source: 0x1000,
        size: 0x2000,
        destination: 0x9000,
    };
    assert_eq!(value(copy, "operation"), 2);
    assert_eq!(value(copy, "copy.source_address"), 0x1000);
    assert_eq!(value(copy, "copy.size"), 0x2000);
    assert_eq!(value(copy, "copy.dest_address"), 0x9000);
}
