/* SPDX-License-Identifier: MIT */
/*
 * vaccel: compute on a paravirtualised GPU (Hyper-V GPU-PV).
 *
 * The interface of /dev/accel/accelN nodes whose DRM driver name is "vaccel".
 */
#ifndef _UAPI_VACCEL_ACCEL_H_
#define _UAPI_VACCEL_ACCEL_H_

#include "drm.h"

#if defined(__cplusplus)
extern "C" {
#endif

/**
 * DOC: Rules of this interface
 *
 * - **No CPU pointers.** No field holds a CPU address, in or out. Bulk data (operation lists,
 *   handle lists, opaque driver data) lives in an argument object (&VACCEL_BO_KIND_ARG) and is
 *   named by {handle, offset, size}; the kernel copies it once, then validates and uses only its
 *   copy.
 * - **One descriptor, two doors.** Every structure is at most 80 bytes, a multiple of 8, without
 *   implicit padding, and the same for 32-bit and 64-bit callers. The same bytes are the argument
 *   of the ioctl and the command area of a 128-byte io_uring entry.
 * - **Handles** are 32-bit, per open file, never 0, and of one kind: vm, queue, fence, or buffer
 *   object (a GEM handle). They are the kernel's, never the host's. Whoever shares the file
 *   descriptor shares the handles; nothing depends on the calling process.
 * - **Everything unknown is refused**: unknown flag bits and non-zero reserved or padding fields
 *   give -EINVAL. Output fields are ignored on input.
 * - **Errors** are errno values. Where the host refused, @host_status holds its NTSTATUS; it is
 *   written also when the call fails, and 0 when the host was not asked or agreed.
 * - **Time** is in nanoseconds of CLOCK_MONOTONIC and absolute. 0 means "do not wait",
 *   &VACCEL_TIME_FOREVER means no deadline (the wait still ends when the device is lost).
 * - **Growth**: new fields take reserved space and are announced by a feature bit
 *   (&VACCEL_PARAM_FEATURES), so an old kernel refuses what it does not know.
 *
 * Errors that any operation may return:
 *
 * ============== =====================================================================
 * -EINVAL        unknown flag, non-zero reserved field, value out of range, an object of a kind
 *                that cannot serve here (an argument object to bind, any other as @arg_bo)
 * -ENOENT        no object of the expected kind has this handle
 * -EOVERFLOW     offset + length does not fit 64 bits
 * -EFBIG         a size or count above its documented limit
 * -EACCES        the caller lacks a capability (@priority of a queue), or writing to what is read-only
 * -EOPNOTSUPP    part of the interface that this driver or host does not provide
 * -ENOMEM        no guest memory
 * -EMFILE        the file has too many handles
 * -ENOSPC        the host is out of device memory or over budget, or the cgroup's dmem limit or the
 *                limit of pinned memory is reached (@host_status is 0 then)
 * -EBUSY         the object or range is in a state in which this cannot be done
 * -EIO           the vm is in error (&DRM_IOCTL_VACCEL_VM_QUERY says why), or the host broke
 *                the protocol
 * -EREMOTEIO     the host refused; @host_status says why
 * -ENODEV        the adapter is gone
 * -ETIMEDOUT     the host did not take the message or did not answer; as -EINTR
 * -EINTR         the caller was killed while it waited for the host: whether the host did it is not
 *                known, what it makes is cleaned up by the driver, and what was taken away is gone
 * ============== =====================================================================
 */

/** define VACCEL_TIME_FOREVER - Deadline that never comes. */
#define VACCEL_TIME_FOREVER	0x7fffffffffffffffULL

/**
 * define VACCEL_ARG_SIZE_MAX - Largest argument object, in bytes. It bounds what one operation can
 * make the kernel copy.
 */
#define VACCEL_ARG_SIZE_MAX	(1u << 20)

/** define VACCEL_OPS_MAX - Most operations in one submission. */
#define VACCEL_OPS_MAX		1024

/** define VACCEL_PRIV_SIZE_MAX - Most bytes of opaque driver data in one operation. */
#define VACCEL_PRIV_SIZE_MAX	65536

/** define VACCEL_WAIT_MANY_MAX - Most fences in one &DRM_IOCTL_VACCEL_FENCE_WAIT_MANY. */
#define VACCEL_WAIT_MANY_MAX	64

/** define VACCEL_RESIDENCY_MAX - Most objects in one &DRM_IOCTL_VACCEL_RESIDENCY. */
#define VACCEL_RESIDENCY_MAX	10240

/** define VACCEL_PAGE_SIZE - Unit of object sizes and of GPU virtual addresses, in bytes. */
#define VACCEL_PAGE_SIZE	4096

/*
 * Operation numbers. An ioctl is DRM_COMMAND_BASE + number; an io_uring command has the number
 * itself as its cmd_op.
 */
#define DRM_VACCEL_GET_PARAM		0x00
#define DRM_VACCEL_ADAPTER_QUERY	0x01
#define DRM_VACCEL_VM_CREATE		0x02
#define DRM_VACCEL_VM_DESTROY		0x03
#define DRM_VACCEL_VM_QUERY		0x04
#define DRM_VACCEL_QUEUE_CREATE		0x05
#define DRM_VACCEL_QUEUE_DESTROY	0x06
#define DRM_VACCEL_QUEUE_QUERY		0x07
#define DRM_VACCEL_BO_CREATE		0x08
#define DRM_VACCEL_BO_INFO		0x09
#define DRM_VACCEL_BO_SYNC		0x0a
#define DRM_VACCEL_VA_RESERVE		0x0b
#define DRM_VACCEL_VA_RELEASE		0x0c
#define DRM_VACCEL_BIND			0x0d
#define DRM_VACCEL_UNBIND		0x0e
#define DRM_VACCEL_RESIDENCY		0x0f
#define DRM_VACCEL_FENCE_CREATE		0x10
#define DRM_VACCEL_FENCE_DESTROY	0x11
#define DRM_VACCEL_FENCE_SIGNAL		0x12
#define DRM_VACCEL_FENCE_QUERY		0x13
#define DRM_VACCEL_FENCE_WAIT		0x14
#define DRM_VACCEL_FENCE_WAIT_MANY	0x15
#define DRM_VACCEL_FENCE_EVENTFD	0x16
#define DRM_VACCEL_FENCE_TO_FD		0x17
#define DRM_VACCEL_FENCE_FROM_FD	0x18
#define DRM_VACCEL_SYNC_EXPORT		0x19
#define DRM_VACCEL_SYNC_IMPORT		0x1a
#define DRM_VACCEL_SUBMIT		0x1b
#define DRM_VACCEL_BUDGET		0x1c
#define DRM_VACCEL_EVENTS		0x1d
#define DRM_VACCEL_ESCAPE		0x1e
#define DRM_VACCEL_CANCEL		0x1f

/* ------------------------------------------------------------------ parameters */

/** define VACCEL_PARAM_FEATURES - Bit mask of &VACCEL_FEATURE_ARG_SUBMIT and its like. */
#define VACCEL_PARAM_FEATURES		0
/** define VACCEL_PARAM_INTERFACE_VERSION - GPU-PV interface version in use (27 or 40). */
#define VACCEL_PARAM_INTERFACE_VERSION	1
/**
 * define VACCEL_PARAM_ADAPTER_LUID - LUID of the virtual GPU as the guest knows it: low word in
 * bits 0..31. Stable while the virtual GPU stays attached.
 */
#define VACCEL_PARAM_ADAPTER_LUID	2
/** define VACCEL_PARAM_HOST_ADAPTER_LUID - LUID of the physical adapter on the host. */
#define VACCEL_PARAM_HOST_ADAPTER_LUID	3
/** define VACCEL_PARAM_HOST_VGPU_LUID - LUID of the virtual GPU on the host. */
#define VACCEL_PARAM_HOST_VGPU_LUID	4
/** define VACCEL_PARAM_COMPUTE_ONLY - 1 if the host offers a compute accelerator (1414:008A). */
#define VACCEL_PARAM_COMPUTE_ONLY	5
/** define VACCEL_PARAM_HOST_CAPS - Bit mask of &VACCEL_HOST_CAP_PAGE_LISTS and its like. */
#define VACCEL_PARAM_HOST_CAPS		6
/** define VACCEL_PARAM_IO_SPACE_SIZE - Bytes of I/O space (fence pages, CPU windows). */
#define VACCEL_PARAM_IO_SPACE_SIZE	7
/** define VACCEL_PARAM_BO_SIZE_MAX - Largest buffer object, in bytes. */
#define VACCEL_PARAM_BO_SIZE_MAX	8
/** define VACCEL_PARAM_RESETS - Times the adapter was lost and came back since driver load. */
#define VACCEL_PARAM_RESETS		9
/**
 * define VACCEL_PARAM_SEGMENT_SIZE - Bytes of a segment group; @index is &VACCEL_SEGMENT_LOCAL or
 * &VACCEL_SEGMENT_NON_LOCAL. 0 if the host does not say.
 */
#define VACCEL_PARAM_SEGMENT_SIZE	10
/**
 * define VACCEL_PARAM_PIN_LIMIT - Bytes of guest memory that one file may pin with its guest and
 * imported objects.
 */
#define VACCEL_PARAM_PIN_LIMIT		11
/**
 * define VACCEL_PARAM_WATCHDOG_MS - Milliseconds that work on a bounded queue may make no progress
 * unless the queue was made with a shorter time (module parameter watchdog_ms).
 */
#define VACCEL_PARAM_WATCHDOG_MS	12

/** define VACCEL_FEATURE_ARG_SUBMIT - Argument objects and &DRM_IOCTL_VACCEL_SUBMIT. */
#define VACCEL_FEATURE_ARG_SUBMIT	(1ULL << 0)
/** define VACCEL_FEATURE_FENCE_MMAP - Fence values can be mapped read-only. */
#define VACCEL_FEATURE_FENCE_MMAP	(1ULL << 1)
/** define VACCEL_FEATURE_HOST_MEMORY - &VACCEL_BO_KIND_HOST objects. */
#define VACCEL_FEATURE_HOST_MEMORY	(1ULL << 2)
/** define VACCEL_FEATURE_MANUAL_RESIDENCY - &VACCEL_VM_MANUAL_RESIDENCY. */
#define VACCEL_FEATURE_MANUAL_RESIDENCY	(1ULL << 3)
/** define VACCEL_FEATURE_FENCE_SHARING - Fences as file descriptors. */
#define VACCEL_FEATURE_FENCE_SHARING	(1ULL << 4)
/**
 * define VACCEL_FEATURE_SYNC_BRIDGE - Monitored fences to and from drm_syncobj and sync_file,
 * dma_fences of submissions (&VACCEL_SUBMIT_OUT_SYNCOBJ, &VACCEL_OP_SYNCOBJ_WAIT,
 * &VACCEL_OP_SYNCOBJ_SIGNAL, &VACCEL_OP_BO_ACCESS), &DRM_IOCTL_VACCEL_FENCE_WAIT_MANY and
 * &DRM_IOCTL_VACCEL_FENCE_EVENTFD.
 */
#define VACCEL_FEATURE_SYNC_BRIDGE	(1ULL << 5)
/** define VACCEL_FEATURE_URING - Operations as io_uring commands: &VACCEL_URING_CMD_SUBMIT and on. */
#define VACCEL_FEATURE_URING		(1ULL << 6)
/** define VACCEL_FEATURE_EVENTS - Events by read() on the file. */
#define VACCEL_FEATURE_EVENTS		(1ULL << 7)
/** define VACCEL_FEATURE_IMPORT - dma-bufs of other drivers as &VACCEL_BO_KIND_IMPORT objects. */
#define VACCEL_FEATURE_IMPORT		(1ULL << 8)
/**
 * define VACCEL_FEATURE_VA_RESERVE - &DRM_IOCTL_VACCEL_VA_RESERVE and what may be done in there.
 */
#define VACCEL_FEATURE_VA_RESERVE	(1ULL << 9)
/** define VACCEL_FEATURE_OFFER - OFFER, RECLAIM and PRIORITY of &DRM_IOCTL_VACCEL_RESIDENCY. */
#define VACCEL_FEATURE_OFFER		(1ULL << 10)
/** define VACCEL_FEATURE_QUEUED_BIND - &VACCEL_OP_BIND, &VACCEL_OP_UNBIND, &VACCEL_OP_RESIDENCY. */
#define VACCEL_FEATURE_QUEUED_BIND	(1ULL << 11)
/** define VACCEL_FEATURE_ESCAPE - &DRM_IOCTL_VACCEL_ESCAPE. */
#define VACCEL_FEATURE_ESCAPE		(1ULL << 12)

/** define VACCEL_HOST_CAP_PAGE_LISTS - The host takes guest memory as page lists. */
#define VACCEL_HOST_CAP_PAGE_LISTS	(1ULL << 0)
/** define VACCEL_HOST_CAP_ASYNC - The host takes asynchronous submissions. */
#define VACCEL_HOST_CAP_ASYNC		(1ULL << 1)
/** define VACCEL_HOST_CAP_HW_QUEUES - The host schedules hardware queues. */
#define VACCEL_HOST_CAP_HW_QUEUES	(1ULL << 2)

/**
 * struct drm_vaccel_get_param - Read one number about the adapter or the driver.
 *
 * Never asks the host. Unknown @param: -EINVAL.
 */
struct drm_vaccel_get_param {
	/** @param: In: &VACCEL_PARAM_FEATURES and its like. */
	__u32 param;
	/** @index: In: which one, for parameters that have several; else 0. */
	__u32 index;
	/** @value: Out: the value. */
	__u64 value;
};

/** define VACCEL_QUERY_HOST - Adapter information of D3DKMT type @type, answered by the host. */
#define VACCEL_QUERY_HOST		0
/** define VACCEL_QUERY_DESCRIPTION - Adapter name as UTF-8 without a terminator; @type is 0. */
#define VACCEL_QUERY_DESCRIPTION	1
/** define VACCEL_QUERY_INSTANCE_ID - Host device instance id, likewise. */
#define VACCEL_QUERY_INSTANCE_ID	2

/**
 * struct drm_vaccel_adapter_query - Read a block of information about the adapter.
 *
 * With &VACCEL_QUERY_HOST the @size bytes at @arg_offset go to the host and its answer, of the same
 * size, replaces them. The content is opaque to the driver, except that it corrects the adapter
 * type flags (types 15 and 57) for a guest: paravirtualised, no display.
 *
 * Errors: -EREMOTEIO with @host_status for a type the host does not answer; -EMSGSIZE if the text
 * is longer than @size (@size then holds what is needed).
 */
struct drm_vaccel_adapter_query {
	/** @source: In: &VACCEL_QUERY_HOST, _DESCRIPTION or _INSTANCE_ID. */
	__u32 source;
	/** @type: In: D3DKMT query-adapter-info type for &VACCEL_QUERY_HOST, else 0. */
	__u32 type;
	/** @arg_bo: In: argument object that holds the block. */
	__u32 arg_bo;
	/** @pad: Must be 0. */
	__u32 pad;
	/** @arg_offset: In: byte offset of the block in @arg_bo, a multiple of 8. */
	__u64 arg_offset;
	/** @size: In: bytes of the block, 1 to &VACCEL_PRIV_SIZE_MAX. Out: bytes written. */
	__u32 size;
	/** @host_status: Out: the host's NTSTATUS. */
	__u32 host_status;
};

/* ------------------------------------------------------------------ vm */

/**
 * define VACCEL_VM_MANUAL_RESIDENCY - User space keeps its objects resident by itself
 * (&DRM_IOCTL_VACCEL_RESIDENCY). Without it a bound object is resident.
 */
#define VACCEL_VM_MANUAL_RESIDENCY	(1u << 0)

/**
 * struct drm_vaccel_vm_create - Make a GPU address space with everything that belongs to it.
 *
 * A vm is a device on the host (WDDM's term): queues, fences and bindings live in it, and an error
 * of one of its jobs ends all of them. It has a paging queue whose progress is a monitored fence
 * that user space may wait for like for any other (@paging_fence; to signal or destroy it:
 * -EINVAL).
 */
struct drm_vaccel_vm_create {
	/** @flags: In: &VACCEL_VM_MANUAL_RESIDENCY. */
	__u32 flags;
	/** @vm: Out: handle. */
	__u32 vm;
	/** @paging_fence: Out: fence handle, closed with the vm. */
	__u32 paging_fence;
	/** @host_status: Out: the host's NTSTATUS. */
	__u32 host_status;
	/** @reserved: Must be 0. */
	__u64 reserved[4];
};

/**
 * struct drm_vaccel_destroy - Give up a handle.
 *
 * Argument of VM_DESTROY, QUEUE_DESTROY and FENCE_DESTROY. The handle is free at once. What the
 * object is made of goes when nothing uses it any more: a vm outlives its queues, fences and
 * bindings. With a queue goes the work that it has not done: what has not begun is dropped, and
 * what runs is stopped where the host can. Fences it would have signalled stay as they are.
 */
struct drm_vaccel_destroy {
	/** @handle: In: handle of the kind that the operation names. */
	__u32 handle;
	/** @pad: Must be 0. */
	__u32 pad;
};

/** define VACCEL_STATE_ACTIVE - No error. */
#define VACCEL_STATE_ACTIVE		1
/** define VACCEL_STATE_RESET - The host reset the adapter or an engine. */
#define VACCEL_STATE_RESET		2
/** define VACCEL_STATE_HUNG - A job did not end in time. */
#define VACCEL_STATE_HUNG		3
/** define VACCEL_STATE_STOPPED - The adapter was stopped or removed. */
#define VACCEL_STATE_STOPPED		4
/** define VACCEL_STATE_OUT_OF_MEMORY - The host ran out of memory under a job. */
#define VACCEL_STATE_OUT_OF_MEMORY	5
/** define VACCEL_STATE_DMA_FAULT - A command buffer was malformed. */
#define VACCEL_STATE_DMA_FAULT		6
/** define VACCEL_STATE_PAGE_FAULT - A job touched memory that is not mapped or not resident. */
#define VACCEL_STATE_PAGE_FAULT		7

/**
 * struct drm_vaccel_vm_query - State of a vm.
 *
 * The fault fields describe the first page fault and are 0 in any other state.
 */
struct drm_vaccel_vm_query {
	/** @vm: In: handle. */
	__u32 vm;
	/** @state: Out: &VACCEL_STATE_ACTIVE and its like. */
	__u32 state;
	/** @fault_gpu_va: Out: GPU address of the fault. */
	__u64 fault_gpu_va;
	/** @fault_flags: Out: page fault flags as the host reports them (bit 0: write). */
	__u32 fault_flags;
	/** @host_status: Out: the host's NTSTATUS. */
	__u32 host_status;
	/** @paging_value: Out: value of the paging fence that the last operation asked for. */
	__u64 paging_value;
	/** @reserved: Must be 0. */
	__u64 reserved[2];
};

/* ------------------------------------------------------------------ queues */

/**
 * define VACCEL_QUEUE_BOUNDED - Work ends in bounded time: it may carry dma_fences and has a
 * watchdog. It may wait only for what is sure to come: a dma_fence, a fence value that is already
 * reached, or one that work on a bounded queue or an import of a dma_fence was queued to signal. Any
 * other wait: -EDEADLK.
 */
#define VACCEL_QUEUE_BOUNDED		0
/**
 * define VACCEL_QUEUE_LONG_RUNNING - Work may run without end and wait for any fence value. It
 * never carries a dma_fence.
 */
#define VACCEL_QUEUE_LONG_RUNNING	1

/**
 * struct drm_vaccel_queue_create - Make a queue in a vm.
 *
 * A queue runs its operations in order. The mode cannot change.
 */
struct drm_vaccel_queue_create {
	/** @vm: In: handle. */
	__u32 vm;
	/** @mode: In: &VACCEL_QUEUE_BOUNDED or &VACCEL_QUEUE_LONG_RUNNING. */
	__u32 mode;
	/** @flags: In: must be 0. */
	__u32 flags;
	/** @node: In: engine node of the adapter. */
	__u32 node;
	/** @engine_affinity: In: engines of the node, as a bit mask; 0: any. */
	__u32 engine_affinity;
	/** @priority: In: -7 to 7; above 0 needs CAP_SYS_NICE. */
	__s32 priority;
	/** @arg_bo: In: argument object with opaque driver data, or 0 if @priv_size is 0. */
	__u32 arg_bo;
	/** @priv_size: In: bytes of driver data, at most &VACCEL_PRIV_SIZE_MAX. */
	__u32 priv_size;
	/** @arg_offset: In: byte offset of the driver data; the host's version replaces it. */
	__u64 arg_offset;
	/** @queue: Out: handle. */
	__u32 queue;
	/** @host_status: Out: the host's NTSTATUS. */
	__u32 host_status;
	/**
	 * @timeout_ms: In: bounded queues: milliseconds that work whose end a dma_fence stands for may
	 * make no progress before its vm is given up, 10 to &VACCEL_PARAM_WATCHDOG_MS; 0: that many.
	 * Long-running queues: 0.
	 */
	__u32 timeout_ms;
	/** @pad: Must be 0. */
	__u32 pad;
	/** @reserved: Must be 0. */
	__u64 reserved;
};

/** struct drm_vaccel_queue_query - Progress of a queue. */
struct drm_vaccel_queue_query {
	/** @queue: In: handle. */
	__u32 queue;
	/** @state: Out: state of its vm, &VACCEL_STATE_ACTIVE and its like. */
	__u32 state;
	/** @submitted_seq: Out: sequence number of the last accepted submission; 0: none yet. */
	__u64 submitted_seq;
	/** @reserved: Must be 0. */
	__u64 reserved[2];
};

/* ------------------------------------------------------------------ buffer objects */

/** define VACCEL_BO_KIND_GUEST - Guest memory shared with the host. */
#define VACCEL_BO_KIND_GUEST		0
/**
 * define VACCEL_BO_KIND_HOST - Memory of the host's choice, the adapter's own above all; the CPU
 * sees it through a window.
 */
#define VACCEL_BO_KIND_HOST		1
/**
 * define VACCEL_BO_KIND_IMPORT - A dma-buf of another driver or of another adapter. Made by
 * DRM_IOCTL_PRIME_FD_TO_HANDLE, not by &DRM_IOCTL_VACCEL_BO_CREATE.
 */
#define VACCEL_BO_KIND_IMPORT		2
/**
 * define VACCEL_BO_KIND_ARG - Memory for arguments and results of operations. Never seen by the
 * host or the GPU, not exportable, at most &VACCEL_ARG_SIZE_MAX bytes.
 */
#define VACCEL_BO_KIND_ARG		3

/** define VACCEL_BO_CACHED - CPU mappings are cached and coherent with the GPU. */
#define VACCEL_BO_CACHED		0
/**
 * define VACCEL_BO_WRITE_COMBINED - CPU mappings are write-combined. &VACCEL_BO_KIND_HOST only:
 * guest memory is coherent, and mapping it in two ways would be an error (-EOPNOTSUPP).
 */
#define VACCEL_BO_WRITE_COMBINED	1

/** define VACCEL_BO_READ_ONLY - The GPU may only read the object. */
#define VACCEL_BO_READ_ONLY		(1u << 0)
/**
 * define VACCEL_BO_SHAREABLE - &VACCEL_BO_KIND_HOST: may be exported as a dma-buf, which the host
 * has to know from the start. Guest memory always may: -EINVAL there.
 */
#define VACCEL_BO_SHAREABLE		(1u << 1)

/**
 * struct drm_vaccel_bo_create - Make a buffer object.
 *
 * The content starts as zeros. The object is closed with DRM_IOCTL_GEM_CLOSE; the kernel gives its
 * memory back only after the host has let go of it.
 *
 * An object may be bound in any vm of any file of its adapter that has a handle to it: each vm gets
 * an allocation of its own on the host, over the same memory. @vm names the first, and the only one
 * for &VACCEL_BO_KIND_HOST without &VACCEL_BO_SHAREABLE (else -EINVAL).
 *
 * &VACCEL_BO_KIND_HOST: what the memory is for stands in the opaque driver data, which the host's
 * version replaces. Without driver data -EINVAL. A host that makes less than @size: -EREMOTEIO.
 */
struct drm_vaccel_bo_create {
	/**
	 * @size: In: bytes, a multiple of &VACCEL_PAGE_SIZE, not 0. Out: bytes of the object, which
	 * is more if the host made more.
	 */
	__u64 size;
	/** @kind: In: &VACCEL_BO_KIND_GUEST, _HOST or _ARG. */
	__u32 kind;
	/** @caching: In: &VACCEL_BO_CACHED or &VACCEL_BO_WRITE_COMBINED. */
	__u32 caching;
	/** @flags: In: &VACCEL_BO_READ_ONLY, &VACCEL_BO_SHAREABLE. */
	__u32 flags;
	/**
	 * @vm: In: vm whose host device owns the memory on the host; 0 for &VACCEL_BO_KIND_ARG,
	 * which has none.
	 */
	__u32 vm;
	/** @arg_bo: In: argument object with opaque driver data, or 0. */
	__u32 arg_bo;
	/** @priv_size: In: bytes of driver data (&VACCEL_BO_KIND_HOST only). */
	__u32 priv_size;
	/** @arg_offset: In: byte offset of the driver data. */
	__u64 arg_offset;
	/** @mmap_offset: Out: offset for mmap() on the node; mappings begin there. */
	__u64 mmap_offset;
	/** @bo: Out: GEM handle. */
	__u32 bo;
	/** @host_status: Out: the host's NTSTATUS. */
	__u32 host_status;
	/** @reserved: Must be 0. */
	__u64 reserved[2];
};

/** struct drm_vaccel_bo_info - What an object is. Never asks the host. */
struct drm_vaccel_bo_info {
	/** @bo: In: GEM handle. */
	__u32 bo;
	/** @kind: Out: &VACCEL_BO_KIND_GUEST and its like. */
	__u32 kind;
	/** @caching: Out: caching mode. */
	__u32 caching;
	/** @flags: Out: flags of creation. */
	__u32 flags;
	/** @size: Out: bytes. */
	__u64 size;
	/** @mmap_offset: Out: offset for mmap() on the node; mappings begin there. */
	__u64 mmap_offset;
	/** @reserved: Must be 0. */
	__u64 reserved[2];
};

/** define VACCEL_SYNC_FOR_CPU - The CPU is about to read or write. */
#define VACCEL_SYNC_FOR_CPU		(1u << 0)
/** define VACCEL_SYNC_FOR_DEVICE - The GPU is about to read or write. */
#define VACCEL_SYNC_FOR_DEVICE		(1u << 1)

/**
 * struct drm_vaccel_bo_sync - Cache maintenance for objects that are not coherent.
 *
 * Needed for &VACCEL_BO_KIND_HOST and &VACCEL_BO_KIND_IMPORT objects; does nothing for guest
 * memory. An object that is in no vm yet has nothing to be synchronised with. Argument objects:
 * -EINVAL. Of an import all is synchronised, whatever the range: for the CPU begins an access of its
 * exporter's, which also ends one that began before; for the device ends it.
 */
struct drm_vaccel_bo_sync {
	/** @bo: In: GEM handle. */
	__u32 bo;
	/** @flags: In: &VACCEL_SYNC_FOR_CPU, &VACCEL_SYNC_FOR_DEVICE. */
	__u32 flags;
	/** @bo_offset: In: first byte. */
	__u64 bo_offset;
	/** @size: In: bytes. */
	__u64 size;
	/** @host_status: Out: the host's NTSTATUS. */
	__u32 host_status;
	/** @pad: Must be 0. */
	__u32 pad;
};

/* ------------------------------------------------------------------ GPU addresses */

/**
 * define VACCEL_VA_ZERO - Where nothing is bound reads give zeros and writes are dropped (sparse
 * memory). Without it the GPU faults there.
 */
#define VACCEL_VA_ZERO			(1u << 0)

/**
 * struct drm_vaccel_va_range - Reserve or release GPU addresses (VA_RESERVE, VA_RELEASE).
 *
 * RESERVE takes addresses that are free (else -EEXIST) out of the host's choice. Inside of a
 * reservation anything may be bound over anything and any part unbound, see
 * &struct drm_vaccel_bind.
 *
 * RELEASE names a whole reservation by @gpu_va and @size (else -EINVAL) in which nothing is bound
 * and that no queue has yet to change (else -EBUSY). After any other error, -ENOMEM and those of the
 * host, it is released all the same, only later: it is not there any more.
 */
struct drm_vaccel_va_range {
	/** @vm: In: handle. */
	__u32 vm;
	/** @flags: In, RESERVE: &VACCEL_VA_ZERO. */
	__u32 flags;
	/** @gpu_va: In: first address; 0 for RESERVE: the host chooses. Out: first address. */
	__u64 gpu_va;
	/** @size: In: bytes, a multiple of &VACCEL_PAGE_SIZE, not 0. */
	__u64 size;
	/** @host_status: Out: the host's NTSTATUS. */
	__u32 host_status;
	/** @pad: Must be 0. */
	__u32 pad;
	/** @reserved: Must be 0. */
	__u64 reserved[2];
};

/** define VACCEL_BIND_WRITE - The GPU may write through this binding. */
#define VACCEL_BIND_WRITE		(1u << 0)
/** define VACCEL_BIND_EXECUTE - The GPU may fetch code through this binding. */
#define VACCEL_BIND_EXECUTE		(1u << 1)
/** define VACCEL_BIND_NULL - No object: reads give zeros, writes are dropped. */
#define VACCEL_BIND_NULL		(1u << 2)
/** define VACCEL_BIND_FIXED - @gpu_va is where it has to be. Otherwise the host chooses. */
#define VACCEL_BIND_FIXED		(1u << 3)

/**
 * struct drm_vaccel_bind - Bind part of an object to GPU addresses, or end a binding.
 *
 * Argument of BIND and UNBIND. Submissions to queues of the vm made after BIND returned wait for
 * the binding on the GPU; @paging_value is for those who want to wait by hand.
 *
 * Outside of reservations a fixed range must be free: -EEXIST if it overlaps a binding or, in part,
 * a reservation. UNBIND names the whole range of one BIND (@gpu_va and @size as bound, the rest 0);
 * anything else: -EINVAL. After any other error, -ENOMEM and those of the host, the binding ends
 * all the same, only later: it is not there any more.
 *
 * Inside of a reservation (the whole range is) a fixed BIND replaces what it covers, and cuts what
 * it covers in part; UNBIND names any pages, bound or not, and leaves them as the reservation is.
 * One operation changes a reservation at a time, in the order of the calls; -EBUSY while a queue
 * has yet to change some of the range.
 *
 * A range that is unbound or replaced must not be in use by the GPU: a job that still touches it
 * faults. The memory stays the object's; it is given back when nothing refers to it.
 *
 * Address 0 is never bound: with &VACCEL_BIND_FIXED -EINVAL. Writing through a binding of a
 * &VACCEL_BO_READ_ONLY object: -EACCES. Binding an object that is offered: -EBUSY.
 *
 * In a vm without &VACCEL_VM_MANUAL_RESIDENCY BIND makes the object resident. Over budget the
 * driver evicts what the file's other such vms have bound, if they are idle, and tries once more;
 * they become resident again with their next submission. Then: -ENOSPC, and @bytes_to_trim.
 */
struct drm_vaccel_bind {
	/** @vm: In: handle. */
	__u32 vm;
	/** @bo: In: GEM handle, 0 with &VACCEL_BIND_NULL. */
	__u32 bo;
	/** @flags: In: &VACCEL_BIND_WRITE and its like. */
	__u32 flags;
	/** @host_status: Out: the host's NTSTATUS. */
	__u32 host_status;
	/** @gpu_va: In: address with &VACCEL_BIND_FIXED, else 0. Out: address. */
	__u64 gpu_va;
	/** @bo_offset: In: first byte in the object, a multiple of &VACCEL_PAGE_SIZE. */
	__u64 bo_offset;
	/** @size: In: bytes, a multiple of &VACCEL_PAGE_SIZE, not 0. */
	__u64 size;
	/** @paging_value: Out: value of the vm's paging fence at which the binding holds. */
	__u64 paging_value;
	/** @bytes_to_trim: Out, BIND: with -ENOSPC, how much has to go first; else 0. */
	__u64 bytes_to_trim;
	/** @reserved: Must be 0. */
	__u64 reserved;
};

/**
 * define VACCEL_RESIDENCY_RESIDENT - Make resident; counted per object. With -EINTR or -ETIMEDOUT the
 * objects may stay resident, uncounted, until their handles are closed.
 */
#define VACCEL_RESIDENCY_RESIDENT	0
/** define VACCEL_RESIDENCY_EVICT - Undo one RESIDENT, else -EINVAL. */
#define VACCEL_RESIDENCY_EVICT		1
/**
 * define VACCEL_RESIDENCY_OFFER - The host may drop the content. -EBUSY if the object is offered
 * already, resident by hand, or bound in a vm without &VACCEL_VM_MANUAL_RESIDENCY; -EINVAL for a
 * &VACCEL_BO_SHAREABLE one, which others may be using. The offer ends with the handle or the vm.
 */
#define VACCEL_RESIDENCY_OFFER		2
/**
 * define VACCEL_RESIDENCY_RECLAIM - Take back an offered object, with an outcome for each. An
 * object that is not offered is kept; -EBUSY if it was offered in another vm, -EINVAL if it was
 * never used in this one.
 */
#define VACCEL_RESIDENCY_RECLAIM	3
/** define VACCEL_RESIDENCY_PRIORITY - Set the priority by which the host keeps objects. */
#define VACCEL_RESIDENCY_PRIORITY	4

/**
 * define VACCEL_RESIDENT_CANT_TRIM - RESIDENT: the caller has nothing left to evict; take it over
 * its budget if there is memory. Without it the driver first evicts what idle vms of the file have
 * bound.
 */
#define VACCEL_RESIDENT_CANT_TRIM	(1u << 0)
/** define VACCEL_OFFER_ALLOW_DECOMMIT - OFFER: the memory itself may go, not only the content. */
#define VACCEL_OFFER_ALLOW_DECOMMIT	(1u << 1)

/** define VACCEL_OFFER_PRIORITY_LOW - Dropped first. */
#define VACCEL_OFFER_PRIORITY_LOW	1
/** define VACCEL_OFFER_PRIORITY_NORMAL - Dropped next. */
#define VACCEL_OFFER_PRIORITY_NORMAL	2
/** define VACCEL_OFFER_PRIORITY_HIGH - Dropped last. */
#define VACCEL_OFFER_PRIORITY_HIGH	3
/** define VACCEL_OFFER_PRIORITY_AUTO - By the priority of the object. */
#define VACCEL_OFFER_PRIORITY_AUTO	4

/** define VACCEL_PRIORITY_MINIMUM - Lowest priority of an object. */
#define VACCEL_PRIORITY_MINIMUM		0x28000000
/** define VACCEL_PRIORITY_LOW - Low priority. */
#define VACCEL_PRIORITY_LOW		0x50000000
/** define VACCEL_PRIORITY_NORMAL - Priority of a new object. */
#define VACCEL_PRIORITY_NORMAL		0x78000000
/** define VACCEL_PRIORITY_HIGH - High priority. */
#define VACCEL_PRIORITY_HIGH		0xa0000000
/** define VACCEL_PRIORITY_MAXIMUM - Highest priority of an object. */
#define VACCEL_PRIORITY_MAXIMUM		0xc8000000

/** define VACCEL_RECLAIMED_KEPT - The content survived. */
#define VACCEL_RECLAIMED_KEPT		0
/** define VACCEL_RECLAIMED_DISCARDED - The content is lost. */
#define VACCEL_RECLAIMED_DISCARDED	1
/**
 * define VACCEL_RECLAIMED_NOT_COMMITTED - The memory itself is gone: the object stays offered and
 * is of no use any more.
 */
#define VACCEL_RECLAIMED_NOT_COMMITTED	2

/** struct drm_vaccel_residency_entry - One object of a residency list in an argument object. */
struct drm_vaccel_residency_entry {
	/** @bo: In: GEM handle. */
	__u32 bo;
	/** @result: Out, RECLAIM: &VACCEL_RECLAIMED_KEPT and its like. */
	__u32 result;
};

/**
 * struct drm_vaccel_residency - Residency of a list of objects.
 *
 * All or nothing. Over budget: -ENOSPC, and @bytes_to_trim says how much has to go first. An object
 * that is offered cannot be made resident: -EBUSY. An object that is twice in the list counts twice
 * for RESIDENT and EVICT; OFFER refuses it: -EBUSY.
 */
struct drm_vaccel_residency {
	/** @vm: In: handle. */
	__u32 vm;
	/** @op: In: &VACCEL_RESIDENCY_RESIDENT and its like. */
	__u32 op;
	/**
	 * @flags: In: &VACCEL_RESIDENT_CANT_TRIM with RESIDENT, &VACCEL_OFFER_ALLOW_DECOMMIT with
	 * OFFER.
	 */
	__u32 flags;
	/**
	 * @priority: In: &VACCEL_OFFER_PRIORITY_LOW and its like for OFFER; for PRIORITY a number
	 * up to &VACCEL_PRIORITY_MAXIMUM; else 0.
	 */
	__u32 priority;
	/** @arg_bo: In: argument object with the list. */
	__u32 arg_bo;
	/** @count: In: entries, 1 to &VACCEL_RESIDENCY_MAX. */
	__u32 count;
	/** @arg_offset: In: byte offset of the first &struct drm_vaccel_residency_entry. */
	__u64 arg_offset;
	/** @paging_value: Out: value of the vm's paging fence at which it holds. */
	__u64 paging_value;
	/**
	 * @bytes_to_trim: Out: see above; after EVICT, how much more the host would like to have
	 * evicted.
	 */
	__u64 bytes_to_trim;
	/** @host_status: Out: the host's NTSTATUS. */
	__u32 host_status;
	/** @pad: Must be 0. */
	__u32 pad;
	/** @reserved: Must be 0. */
	__u64 reserved[2];
};

/* ------------------------------------------------------------------ monitored fences */

/** define VACCEL_FENCE_SHAREABLE - May be turned into a file descriptor. */
#define VACCEL_FENCE_SHAREABLE		(1u << 0)
/** define VACCEL_FENCE_NO_MMAP - No mapping; &DRM_IOCTL_VACCEL_FENCE_QUERY reads the value. */
#define VACCEL_FENCE_NO_MMAP		(1u << 1)

/**
 * struct drm_vaccel_fence_create - Make a monitored fence: a 64-bit value that the GPU and the CPU
 * signal by raising it, and wait for.
 *
 * When the vm fails, its fences are not signalled any more; waits for values not reached end with
 * -EIO. The host may then set the value to the highest there is, so a value read from the page is
 * no proof of success while the vm's state is not known. That value can be signalled like any other.
 * Fences that tick by themselves (periodic ones) are not part of this interface.
 */
struct drm_vaccel_fence_create {
	/** @vm: In: handle. */
	__u32 vm;
	/** @flags: In: &VACCEL_FENCE_SHAREABLE, &VACCEL_FENCE_NO_MMAP. */
	__u32 flags;
	/** @initial_value: In: first value. */
	__u64 initial_value;
	/** @gpu_va: Out: GPU address of the value, 0 if there is none. */
	__u64 gpu_va;
	/**
	 * @mmap_offset: Out: offset for a read-only, one-page mmap() on the node, the value being
	 * its first 8 bytes; 0 with &VACCEL_FENCE_NO_MMAP.
	 */
	__u64 mmap_offset;
	/** @fence: Out: handle. */
	__u32 fence;
	/** @host_status: Out: the host's NTSTATUS. */
	__u32 host_status;
	/** @reserved: Must be 0. */
	__u64 reserved[2];
};

/** define VACCEL_SIGNAL_REWIND - @value may be lower than the present value. */
#define VACCEL_SIGNAL_REWIND		(1u << 0)

/**
 * struct drm_vaccel_fence_signal - Set the value of a fence from the CPU.
 *
 * With &VACCEL_HOST_CAP_ASYNC the host is told without being asked for an answer, so the value may be
 * seen a moment later; a rewind is seen when the call is back.
 */
struct drm_vaccel_fence_signal {
	/** @fence: In: handle. */
	__u32 fence;
	/** @flags: In: &VACCEL_SIGNAL_REWIND. */
	__u32 flags;
	/** @value: In: new value; lower than the present one without the flag: -EINVAL. */
	__u64 value;
	/** @host_status: Out: the host's NTSTATUS. */
	__u32 host_status;
	/** @pad: Must be 0. */
	__u32 pad;
};

/** struct drm_vaccel_fence_query - Read a fence. Never asks the host. */
struct drm_vaccel_fence_query {
	/** @fence: In: handle. */
	__u32 fence;
	/**
	 * @error: Out: first error recorded on the fence, a negative errno, or 0: that of a dma_fence
	 * that was imported, or -ETIME if its point did not come in time, -ENOENT if the handle of
	 * its syncobj went before, -ECANCELED if whoever was to bring it went away. The error stays.
	 */
	__s32 error;
	/** @value: Out: present value. */
	__u64 value;
	/** @gpu_va: Out: GPU address of the value, or 0. */
	__u64 gpu_va;
	/** @mmap_offset: Out: as &struct drm_vaccel_fence_create. */
	__u64 mmap_offset;
	/** @reserved: Must be 0. */
	__u64 reserved[2];
};

/**
 * struct drm_vaccel_fence_wait - Wait until a fence has reached a value.
 *
 * A value that was reached while it is waited for counts, also if the fence is rewound then. The host is
 * asked only for a value that is not.
 *
 * Errors: -ETIME at the deadline, -EIO if the vm is in error, -ENODEV if the adapter is gone.
 */
struct drm_vaccel_fence_wait {
	/** @fence: In: handle. */
	__u32 fence;
	/** @flags: In: must be 0. */
	__u32 flags;
	/** @value: In: value to wait for. */
	__u64 value;
	/** @deadline_ns: In: absolute time. */
	__u64 deadline_ns;
	/** @observed_value: Out: value seen last. */
	__u64 observed_value;
	/** @host_status: Out: the host's NTSTATUS. */
	__u32 host_status;
	/** @error: Out: first error recorded on the fence, a negative errno, or 0. */
	__s32 error;
	/** @reserved: Must be 0. */
	__u64 reserved[2];
};

/** define VACCEL_WAIT_ANY - One of the fences is enough. */
#define VACCEL_WAIT_ANY			(1u << 0)

/** struct drm_vaccel_wait_entry - One fence of a list in an argument object. */
struct drm_vaccel_wait_entry {
	/** @fence: In: handle. */
	__u32 fence;
	/** @pad: Must be 0. */
	__u32 pad;
	/** @value: In: value to wait for. */
	__u64 value;
};

/**
 * struct drm_vaccel_fence_wait_many - Wait for all, or any, of several fences.
 *
 * The fences may be of several vms. Errors: as &struct drm_vaccel_fence_wait, with -EIO and -ENODEV
 * as soon as one of the fences cannot be reached any more (with &VACCEL_WAIT_ANY: none of them can).
 */
struct drm_vaccel_fence_wait_many {
	/** @arg_bo: In: argument object with the list. */
	__u32 arg_bo;
	/** @count: In: entries, 1 to &VACCEL_WAIT_MANY_MAX. */
	__u32 count;
	/** @arg_offset: In: byte offset of the first &struct drm_vaccel_wait_entry. */
	__u64 arg_offset;
	/** @deadline_ns: In: absolute time. */
	__u64 deadline_ns;
	/** @observed_value: Out: with &VACCEL_WAIT_ANY, value of the fence named by @index. */
	__u64 observed_value;
	/** @flags: In: &VACCEL_WAIT_ANY. */
	__u32 flags;
	/** @index: Out: with &VACCEL_WAIT_ANY, which entry was seen reached. */
	__u32 index;
	/** @host_status: Out: the host's NTSTATUS. */
	__u32 host_status;
	/**
	 * @error: Out: first error recorded on the fence named by @index, or, if all are waited for, on
	 * the first of them that has one; a negative errno, or 0.
	 */
	__s32 error;
	/** @reserved: Must be 0. */
	__u64 reserved[2];
};

/**
 * struct drm_vaccel_fence_eventfd - Have an eventfd signalled once when a value is reached.
 *
 * A value that is reached signals it at once. It is also signalled when the value cannot be reached
 * any more: vm in error, adapter gone, this file closed; &DRM_IOCTL_VACCEL_FENCE_WAIT with
 * @deadline_ns 0 tells which. If that is so already: -EIO or -ENODEV, and it is not signalled.
 */
struct drm_vaccel_fence_eventfd {
	/** @fence: In: handle. */
	__u32 fence;
	/** @fd: In: eventfd. */
	__s32 fd;
	/** @value: In: value. */
	__u64 value;
	/** @flags: In: must be 0. */
	__u32 flags;
	/** @host_status: Out: the host's NTSTATUS. */
	__u32 host_status;
	/** @reserved: Must be 0. */
	__u64 reserved;
};

/** define VACCEL_FENCE_WAIT_ONLY - The receiver can wait for the fence, not signal it. */
#define VACCEL_FENCE_WAIT_ONLY		(1u << 0)

/**
 * struct drm_vaccel_fence_fd - A fence to a file descriptor or back (TO_FD, FROM_FD).
 *
 * The file descriptor keeps the fence, may be passed to other processes and opened any number of
 * times, in any vm of the same adapter. It outlives the vm of the fence. What is opened is a fence of
 * its own with the same value.
 *
 * TO_FD: -EINVAL without &VACCEL_FENCE_SHAREABLE; -EACCES to pass on a fence that can only be waited
 * for without &VACCEL_FENCE_WAIT_ONLY. FROM_FD: -EBADF if @fd is none, -EINVAL if it is no fence,
 * -EXDEV if it is one of another adapter. To signal what can only be waited for: -EACCES.
 */
struct drm_vaccel_fence_fd {
	/** @fence: In (TO_FD) or out (FROM_FD): handle. */
	__u32 fence;
	/** @fd: Out (TO_FD) or in (FROM_FD): file descriptor, close-on-exec. */
	__s32 fd;
	/** @vm: In, FROM_FD: vm that opens the fence. TO_FD: must be 0. */
	__u32 vm;
	/** @flags: In, TO_FD: &VACCEL_FENCE_WAIT_ONLY. */
	__u32 flags;
	/** @gpu_va: Out, FROM_FD: GPU address of the value, or 0. */
	__u64 gpu_va;
	/** @mmap_offset: Out, FROM_FD: as &struct drm_vaccel_fence_create. */
	__u64 mmap_offset;
	/** @host_status: Out: the host's NTSTATUS. */
	__u32 host_status;
	/** @pad: Must be 0. */
	__u32 pad;
};

/* ------------------------------------------------------------------ bridges */

/** define VACCEL_SYNC_TIMELINE - @point is a timeline point; otherwise the syncobj is binary. */
#define VACCEL_SYNC_TIMELINE		(1u << 0)
/** define VACCEL_SYNC_WAIT_FOR_SUBMIT - IMPORT: a point that is still missing is waited for. */
#define VACCEL_SYNC_WAIT_FOR_SUBMIT	(1u << 1)
/** define VACCEL_SYNC_FILE - @fd is a sync_file; @syncobj and @point are 0. */
#define VACCEL_SYNC_FILE		(1u << 2)

/**
 * struct drm_vaccel_sync - Tie a monitored fence to a syncobj or sync_file.
 *
 * SYNC_EXPORT: when @fence has reached @value the syncobj gets a signalled dma_fence at @point; until
 * then it has none, which is what WAIT_FOR_SUBMIT, WAIT_AVAILABLE and DRM_IOCTL_SYNCOBJ_EVENTFD
 * wait for. Points are asked for in rising order (else -EINVAL) and appear in that order. A value
 * that cannot be reached any more gives a dma_fence with an error: -EIO (the vm is in error), -ENODEV
 * (the adapter is gone), -ECANCELED (this file was closed). If that is so already the call fails, and
 * gives none. A sync_file is made only of a value that is already reached; otherwise -EBUSY.
 *
 * SYNC_IMPORT: when the syncobj's point (or the sync_file) has signalled, @fence is raised to @value;
 * the call does not wait for it. An error of the dma_fence is recorded on the fence, which is signalled
 * all the same. A point that is missing: -EINVAL, or with &VACCEL_SYNC_WAIT_FOR_SUBMIT it is waited for
 * until @deadline_ns, after which the error is -ETIME. @value has to be higher than with the import
 * into the same fence before (else -EINVAL): imports signal in that order.
 *
 * -EBUSY: too many exports or imports of the file have yet to happen.
 */
struct drm_vaccel_sync {
	/** @fence: In: handle. */
	__u32 fence;
	/** @flags: In: &VACCEL_SYNC_TIMELINE and its like. */
	__u32 flags;
	/** @value: In: fence value. */
	__u64 value;
	/** @syncobj: In: syncobj handle of this file. */
	__u32 syncobj;
	/** @fd: In (IMPORT) or out (EXPORT): sync_file with &VACCEL_SYNC_FILE, else 0. */
	__s32 fd;
	/** @point: In: timeline point. */
	__u64 point;
	/** @deadline_ns: In: until when a missing point is waited for. */
	__u64 deadline_ns;
	/** @reserved: Must be 0. */
	__u64 reserved[2];
};

/* ------------------------------------------------------------------ submission */

/** define VACCEL_OP_EXEC - Run a command buffer: &struct drm_vaccel_op_exec. */
#define VACCEL_OP_EXEC			1
/** define VACCEL_OP_FENCE_WAIT - The queue waits on the GPU: &struct drm_vaccel_op_fence. */
#define VACCEL_OP_FENCE_WAIT		2
/** define VACCEL_OP_FENCE_SIGNAL - The queue signals: &struct drm_vaccel_op_fence. */
#define VACCEL_OP_FENCE_SIGNAL		3
/** define VACCEL_OP_SYNCOBJ_WAIT - The queue waits for a syncobj: &struct drm_vaccel_op_syncobj. */
#define VACCEL_OP_SYNCOBJ_WAIT		4
/** define VACCEL_OP_SYNCOBJ_SIGNAL - The queue signals a syncobj: &struct drm_vaccel_op_syncobj. */
#define VACCEL_OP_SYNCOBJ_SIGNAL	5
/** define VACCEL_OP_BIND - As BIND, in queue order: &struct drm_vaccel_op_bind. */
#define VACCEL_OP_BIND			6
/** define VACCEL_OP_UNBIND - As UNBIND, in queue order: &struct drm_vaccel_op_bind. */
#define VACCEL_OP_UNBIND		7
/** define VACCEL_OP_RESIDENCY - As RESIDENCY for one object: &struct drm_vaccel_op_residency. */
#define VACCEL_OP_RESIDENCY		8
/** define VACCEL_OP_BO_ACCESS - Implicit synchronisation: &struct drm_vaccel_op_bo_access. */
#define VACCEL_OP_BO_ACCESS		9

/** struct drm_vaccel_op_exec - Run a command buffer. */
struct drm_vaccel_op_exec {
	/** @opcode: &VACCEL_OP_EXEC. */
	__u32 opcode;
	/** @flags: Must be 0. */
	__u32 flags;
	/** @gpu_va: GPU address of the command buffer. */
	__u64 gpu_va;
	/** @size: Its length in bytes, not 0. */
	__u32 size;
	/** @priv_size: Bytes of opaque driver data, at most &VACCEL_PRIV_SIZE_MAX. */
	__u32 priv_size;
	/** @priv_offset: Byte offset of the driver data in the submission's argument object. */
	__u64 priv_offset;
	/** @reserved: Must be 0. */
	__u64 reserved[4];
};

/** struct drm_vaccel_op_fence - Wait for or signal a monitored fence in queue order. */
struct drm_vaccel_op_fence {
	/** @opcode: &VACCEL_OP_FENCE_WAIT or &VACCEL_OP_FENCE_SIGNAL. */
	__u32 opcode;
	/** @flags: Must be 0. */
	__u32 flags;
	/** @fence: Handle. */
	__u32 fence;
	/** @pad: Must be 0. */
	__u32 pad;
	/** @value: Value. */
	__u64 value;
	/** @reserved: Must be 0. */
	__u64 reserved[5];
};

/**
 * struct drm_vaccel_op_syncobj - Wait for or signal a syncobj in queue order.
 *
 * WAIT: for the dma_fence that the syncobj has when the operation is submitted. None: -EINVAL, or
 * with &VACCEL_SYNC_WAIT_FOR_SUBMIT the queue waits until it has one and that has signalled; on a
 * bounded queue: -EDEADLK. Errors of dma_fences are ignored: the work behind runs.
 *
 * SIGNAL: bounded queues put a dma_fence into the syncobj when the submission is accepted, as
 * &VACCEL_SUBMIT_OUT_SYNCOBJ does, which signals when the queue gets to the operation. Long-running
 * queues put a signalled one there when the queue got so far, as SYNC_EXPORT does. Points have to rise
 * (else -EINVAL). Bounded queues: -EBUSY while the syncobj has exports to come, or if too many
 * dma_fences of the queue have not signalled.
 */
struct drm_vaccel_op_syncobj {
	/** @opcode: &VACCEL_OP_SYNCOBJ_WAIT or &VACCEL_OP_SYNCOBJ_SIGNAL. */
	__u32 opcode;
	/** @flags: &VACCEL_SYNC_TIMELINE; WAIT: &VACCEL_SYNC_WAIT_FOR_SUBMIT. */
	__u32 flags;
	/** @syncobj: Handle. */
	__u32 syncobj;
	/** @pad: Must be 0. */
	__u32 pad;
	/** @point: Timeline point, not 0; 0 for a binary one. */
	__u64 point;
	/** @reserved: Must be 0. */
	__u64 reserved[5];
};

/** define VACCEL_ACCESS_WRITE - The work writes to the object; otherwise it reads. */
#define VACCEL_ACCESS_WRITE		(1u << 0)
/** define VACCEL_ACCESS_WAIT - The queue waits until the object may be accessed that way. */
#define VACCEL_ACCESS_WAIT		(1u << 1)

/**
 * struct drm_vaccel_op_bo_access - Say that the submission uses an object that others use too.
 *
 * Others are those who share it as a dma-buf and synchronise implicitly. With &VACCEL_ACCESS_WAIT the
 * queue waits at this place for the dma_fences that the object's reservation holds against such an
 * access: of writers, and for a write of readers. On a bounded queue the dma_fence of the whole
 * submission joins them when the submission is accepted. A long-running queue only waits: without
 * &VACCEL_ACCESS_WAIT -EINVAL.
 */
struct drm_vaccel_op_bo_access {
	/** @opcode: &VACCEL_OP_BO_ACCESS. */
	__u32 opcode;
	/** @flags: &VACCEL_ACCESS_WRITE, &VACCEL_ACCESS_WAIT. */
	__u32 flags;
	/** @bo: GEM handle. */
	__u32 bo;
	/** @pad: Must be 0. */
	__u32 pad;
	/** @reserved: Must be 0. */
	__u64 reserved[6];
};

/**
 * struct drm_vaccel_op_bind - Change a binding in queue order.
 *
 * Happens behind the operations before it in the queue and ahead of those after it; other queues
 * and the CPU wait for it by a fence that is signalled behind it. The range has to be inside of a
 * reservation of the vm. BIND replaces what it covers, UNBIND leaves it as the reservation is.
 * Residency follows as with the operations of the same names; memory that is unbound stays in use
 * until the operation has happened. -EBUSY: too many of the queue or the reservation have yet to
 * happen.
 */
struct drm_vaccel_op_bind {
	/** @opcode: &VACCEL_OP_BIND or &VACCEL_OP_UNBIND. */
	__u32 opcode;
	/** @flags: BIND: &VACCEL_BIND_FIXED, with _WRITE, _EXECUTE, _NULL as wanted. UNBIND: 0. */
	__u32 flags;
	/** @bo: GEM handle; 0 with UNBIND and with &VACCEL_BIND_NULL. */
	__u32 bo;
	/** @pad: Must be 0. */
	__u32 pad;
	/** @gpu_va: Address. */
	__u64 gpu_va;
	/** @bo_offset: BIND: first byte in the object, a multiple of &VACCEL_PAGE_SIZE. */
	__u64 bo_offset;
	/** @size: Bytes. */
	__u64 size;
	/** @reserved: Must be 0. */
	__u64 reserved[3];
};

/**
 * struct drm_vaccel_op_residency - Change the residency of one object ahead of later operations.
 *
 * RESIDENT and RECLAIM: the queue waits on the GPU until it holds. RECLAIM of content that was lost
 * fails with -ENODATA. EVICT, OFFER and PRIORITY have no place in a queue: -EOPNOTSUPP.
 */
struct drm_vaccel_op_residency {
	/** @opcode: &VACCEL_OP_RESIDENCY. */
	__u32 opcode;
	/** @flags: Must be 0. */
	__u32 flags;
	/** @bo: GEM handle. */
	__u32 bo;
	/** @op: &VACCEL_RESIDENCY_RESIDENT or &VACCEL_RESIDENCY_RECLAIM. */
	__u32 op;
	/** @priority: Must be 0. */
	__u32 priority;
	/** @pad: Must be 0. */
	__u32 pad;
	/** @reserved: Must be 0. */
	__u64 reserved[5];
};

/** struct drm_vaccel_op_result - What became of one operation of a submission. */
struct drm_vaccel_op_result {
	/** @error: 0 if the host took it, a negative errno, or 1 if it was not tried. */
	__s32 error;
	/** @host_status: The host's NTSTATUS. */
	__u32 host_status;
	/**
	 * @value: RESIDENCY: value of the paging fence, or bytes to trim with -ENOSPC; BIND: bytes
	 * to trim with -ENOSPC; else 0.
	 */
	__u64 value;
};

/** define VACCEL_SUBMIT_RESULTS - Write a &struct drm_vaccel_op_result per operation. */
#define VACCEL_SUBMIT_RESULTS		(1u << 0)
/** define VACCEL_SUBMIT_DONE_FENCE - Set @done_fence to @done_value behind the last operation. */
#define VACCEL_SUBMIT_DONE_FENCE	(1u << 1)
/**
 * define VACCEL_SUBMIT_OUT_SYNCOBJ - Bounded queues: put a dma_fence into @out_syncobj that signals
 * when the whole submission is done. On a long-running queue: -EINVAL.
 *
 * It signals within bounded time, with an error if the work was not done: -ETIME, the work made no
 * progress for too long and its vm was given up; -EIO, the vm failed while the work was the first in
 * its queue; -ECANCELED, the work was behind such work, or its vm was given up for work on another
 * queue, or its queue was destroyed; -ENODEV, the adapter is gone.
 */
#define VACCEL_SUBMIT_OUT_SYNCOBJ	(1u << 2)
/** define VACCEL_SUBMIT_EXPECT_SEQ - Refuse with -ESTALE if @seq is not the next number. */
#define VACCEL_SUBMIT_EXPECT_SEQ	(1u << 3)
/**
 * define VACCEL_SUBMIT_NO_PAGING_WAIT - Do not wait on the GPU for earlier BINDs of the vm. What the
 * driver itself had evicted is waited for all the same.
 */
#define VACCEL_SUBMIT_NO_PAGING_WAIT	(1u << 4)
/**
 * define VACCEL_SUBMIT_CQE_ON_DONE - By io_uring only, with &VACCEL_SUBMIT_DONE_FENCE: the command
 * completes when @done_value is reached, not when the operations are queued. By ioctl: -EINVAL.
 */
#define VACCEL_SUBMIT_CQE_ON_DONE	(1u << 5)

/**
 * struct drm_vaccel_submit - Queue operations.
 *
 * The @nr_ops records of @op_stride bytes at @arg_offset are copied once and checked as a whole:
 * nothing is queued unless every record is valid (all handles known, all reserved fields 0, every
 * wait allowed on this kind of queue). They then run in order. A record longer than the kernel
 * knows is taken if what it does not know is 0 (else -E2BIG), a shorter one is taken as if padded
 * with zeros.
 *
 * If the host refuses an operation after earlier ones were queued, the call fails, the rest is not
 * tried, the vm's state says whether it can go on, and with &VACCEL_SUBMIT_RESULTS the results
 * tell how far it got. The same when an operation that was just queued ends the vm: -EIO. Hosts
 * with asynchronous messages report failures only through the vm's state.
 *
 * Fences of another vm than the queue's: -EINVAL. The results are written when the operations have
 * been queued and may lie anywhere in @arg_bo, over the records too.
 */
struct drm_vaccel_submit {
	/** @queue: In: handle. */
	__u32 queue;
	/** @flags: In: &VACCEL_SUBMIT_RESULTS and its like. */
	__u32 flags;
	/** @arg_bo: In: argument object. */
	__u32 arg_bo;
	/** @nr_ops: In: records, 1 to &VACCEL_OPS_MAX. */
	__u32 nr_ops;
	/** @arg_offset: In: byte offset of the first record, a multiple of 8. */
	__u64 arg_offset;
	/** @op_stride: In: bytes per record, a multiple of 8, 16 to 256. */
	__u32 op_stride;
	/** @host_status: Out: the host's NTSTATUS of the operation that failed. */
	__u32 host_status;
	/** @result_offset: In: byte offset of the first &struct drm_vaccel_op_result, or 0. */
	__u64 result_offset;
	/** @seq: In: with &VACCEL_SUBMIT_EXPECT_SEQ, else 0. Out: number of this submission. */
	__u64 seq;
	/** @done_fence: In: handle with &VACCEL_SUBMIT_DONE_FENCE, else 0. */
	__u32 done_fence;
	/** @out_syncobj: In: handle with &VACCEL_SUBMIT_OUT_SYNCOBJ, else 0. */
	__u32 out_syncobj;
	/** @done_value: In: value for @done_fence. */
	__u64 done_value;
	/** @out_point: In: timeline point for @out_syncobj, 0 if it is binary. */
	__u64 out_point;
};

/* ------------------------------------------------------------------ memory budget, events */

/** define VACCEL_SEGMENT_LOCAL - The adapter's own memory. */
#define VACCEL_SEGMENT_LOCAL		0
/** define VACCEL_SEGMENT_NON_LOCAL - System memory that the adapter uses. */
#define VACCEL_SEGMENT_NON_LOCAL	1

/** define VACCEL_BUDGET_SET_RESERVATION - Ask for @reservation_size before reading. */
#define VACCEL_BUDGET_SET_RESERVATION	(1u << 0)

/**
 * struct drm_vaccel_budget - Memory budget of this file on one segment group.
 *
 * &VACCEL_BO_KIND_HOST objects count as local, guest memory that the adapter uses as non-local.
 */
struct drm_vaccel_budget {
	/** @segment: In: &VACCEL_SEGMENT_LOCAL or &VACCEL_SEGMENT_NON_LOCAL. */
	__u32 segment;
	/** @flags: In: &VACCEL_BUDGET_SET_RESERVATION. */
	__u32 flags;
	/** @budget_size: Out: bytes the host would like this client to stay below. */
	__u64 budget_size;
	/** @usage_size: Out: bytes it uses. */
	__u64 usage_size;
	/** @reservation_size: In with the flag, out: bytes it can count on. */
	__u64 reservation_size;
	/** @available_size: Out: bytes that could be reserved. */
	__u64 available_size;
	/** @host_status: Out: the host's NTSTATUS. */
	__u32 host_status;
	/** @pad: Must be 0. */
	__u32 pad;
	/** @reserved: Must be 0. */
	__u64 reserved[2];
};

/**
 * define VACCEL_EVENT_BUDGET - The budget of a segment group changed, or usage crossed it; value:
 * bytes to trim, 0 if none. One is delivered at most, for whichever group, until
 * &DRM_IOCTL_VACCEL_BUDGET is asked again, also if &DRM_IOCTL_VACCEL_EVENTS is; if unread events
 * fill the file's room for them, none until they are read and it is asked again. The protocol has no
 * notice of it: while the event is asked for, the driver looks twice a second. The last one, with
 * value 0, comes when the adapter goes: what is asked then gives -ENODEV.
 */
#define VACCEL_EVENT_BUDGET		0x80000000u
/** define VACCEL_EVENT_VM_STATE - A vm changed state; value: the state. Planned: -EOPNOTSUPP. */
#define VACCEL_EVENT_VM_STATE		0x80000001u

/** struct drm_vaccel_events - Choose the events that read() on the file delivers. */
struct drm_vaccel_events {
	/** @mask: In: bit n asks for event type 0x80000000 + n. */
	__u32 mask;
	/** @pad: Must be 0. */
	__u32 pad;
};

/** struct drm_vaccel_event - What read() delivers. */
struct drm_vaccel_event {
	/** @base: Type and length. */
	struct drm_event base;
	/** @vm: Handle, or 0. */
	__u32 vm;
	/** @segment: Segment group, or 0. */
	__u32 segment;
	/** @value: See the event type. */
	__u64 value;
};

/**
 * struct drm_vaccel_escape - Opaque exchange between a user-mode driver and its host driver.
 *
 * The @size bytes at @arg_offset go to the host's driver; its answer, of the same size, replaces
 * them. Neither is looked into: handles of this interface mean nothing in there.
 *
 * Only escapes to the driver are passed on, and no known ones (flag bit 6), in whose data a guest
 * would have to translate handles: else -EOPNOTSUPP. An answer has no place for a status: where
 * @size is 4 or less, a refusal of the host cannot be told from an answer.
 */
struct drm_vaccel_escape {
	/** @vm: In: handle, or 0. */
	__u32 vm;
	/** @queue: In: handle of a queue of @vm, or 0. */
	__u32 queue;
	/** @type: In: D3DKMT escape type: 0, driver private. */
	__u32 type;
	/** @escape_flags: In: D3DDDI escape flags; not bit 6, known escapes. Unknown ones: -EINVAL. */
	__u32 escape_flags;
	/** @arg_bo: In: argument object. */
	__u32 arg_bo;
	/** @size: In: bytes, not 0, at most &VACCEL_PRIV_SIZE_MAX (else -EFBIG). */
	__u32 size;
	/** @arg_offset: In: byte offset. */
	__u64 arg_offset;
	/** @host_status: Out: the host's NTSTATUS. */
	__u32 host_status;
	/** @pad: Must be 0. */
	__u32 pad;
};

/** struct drm_vaccel_cancel - io_uring only: cancel a pending command of this file. */
struct drm_vaccel_cancel {
	/** @user_value: In: user_data of the commands; 0 is as good as any. */
	__u64 user_value;
	/** @reserved: Must be 0. */
	__u64 reserved;
};

#define VACCEL_IOCTL(dir, nr, type) dir(DRM_COMMAND_BASE + (nr), struct type)

/*
 * An enumeration, so that the values are constants for every binding generator.
 * Operations marked "planned" return -EOPNOTSUPP until a feature bit announces them.
 */
enum {
	DRM_IOCTL_VACCEL_GET_PARAM =
		VACCEL_IOCTL(DRM_IOWR, DRM_VACCEL_GET_PARAM, drm_vaccel_get_param),
	DRM_IOCTL_VACCEL_ADAPTER_QUERY =
		VACCEL_IOCTL(DRM_IOWR, DRM_VACCEL_ADAPTER_QUERY, drm_vaccel_adapter_query),
	DRM_IOCTL_VACCEL_VM_CREATE =
		VACCEL_IOCTL(DRM_IOWR, DRM_VACCEL_VM_CREATE, drm_vaccel_vm_create),
	DRM_IOCTL_VACCEL_VM_DESTROY =
		VACCEL_IOCTL(DRM_IOWR, DRM_VACCEL_VM_DESTROY, drm_vaccel_destroy),
	DRM_IOCTL_VACCEL_VM_QUERY =
		VACCEL_IOCTL(DRM_IOWR, DRM_VACCEL_VM_QUERY, drm_vaccel_vm_query),
	DRM_IOCTL_VACCEL_QUEUE_CREATE =
		VACCEL_IOCTL(DRM_IOWR, DRM_VACCEL_QUEUE_CREATE, drm_vaccel_queue_create),
	DRM_IOCTL_VACCEL_QUEUE_DESTROY =
		VACCEL_IOCTL(DRM_IOWR, DRM_VACCEL_QUEUE_DESTROY, drm_vaccel_destroy),
	DRM_IOCTL_VACCEL_QUEUE_QUERY =
		VACCEL_IOCTL(DRM_IOWR, DRM_VACCEL_QUEUE_QUERY, drm_vaccel_queue_query),
	DRM_IOCTL_VACCEL_BO_CREATE =
		VACCEL_IOCTL(DRM_IOWR, DRM_VACCEL_BO_CREATE, drm_vaccel_bo_create),
	DRM_IOCTL_VACCEL_BO_INFO =
		VACCEL_IOCTL(DRM_IOWR, DRM_VACCEL_BO_INFO, drm_vaccel_bo_info),
	DRM_IOCTL_VACCEL_BO_SYNC =
		VACCEL_IOCTL(DRM_IOWR, DRM_VACCEL_BO_SYNC, drm_vaccel_bo_sync),
	DRM_IOCTL_VACCEL_VA_RESERVE =
		VACCEL_IOCTL(DRM_IOWR, DRM_VACCEL_VA_RESERVE, drm_vaccel_va_range),
	DRM_IOCTL_VACCEL_VA_RELEASE =
		VACCEL_IOCTL(DRM_IOWR, DRM_VACCEL_VA_RELEASE, drm_vaccel_va_range),
	DRM_IOCTL_VACCEL_BIND =
		VACCEL_IOCTL(DRM_IOWR, DRM_VACCEL_BIND, drm_vaccel_bind),
	DRM_IOCTL_VACCEL_UNBIND =
		VACCEL_IOCTL(DRM_IOWR, DRM_VACCEL_UNBIND, drm_vaccel_bind),
	DRM_IOCTL_VACCEL_RESIDENCY =
		VACCEL_IOCTL(DRM_IOWR, DRM_VACCEL_RESIDENCY, drm_vaccel_residency),
	DRM_IOCTL_VACCEL_FENCE_CREATE =
		VACCEL_IOCTL(DRM_IOWR, DRM_VACCEL_FENCE_CREATE, drm_vaccel_fence_create),
	DRM_IOCTL_VACCEL_FENCE_DESTROY =
		VACCEL_IOCTL(DRM_IOWR, DRM_VACCEL_FENCE_DESTROY, drm_vaccel_destroy),
	DRM_IOCTL_VACCEL_FENCE_SIGNAL =
		VACCEL_IOCTL(DRM_IOWR, DRM_VACCEL_FENCE_SIGNAL, drm_vaccel_fence_signal),
	DRM_IOCTL_VACCEL_FENCE_QUERY =
		VACCEL_IOCTL(DRM_IOWR, DRM_VACCEL_FENCE_QUERY, drm_vaccel_fence_query),
	DRM_IOCTL_VACCEL_FENCE_WAIT =
		VACCEL_IOCTL(DRM_IOWR, DRM_VACCEL_FENCE_WAIT, drm_vaccel_fence_wait),
	DRM_IOCTL_VACCEL_FENCE_WAIT_MANY =
		VACCEL_IOCTL(DRM_IOWR, DRM_VACCEL_FENCE_WAIT_MANY, drm_vaccel_fence_wait_many),
	DRM_IOCTL_VACCEL_FENCE_EVENTFD =
		VACCEL_IOCTL(DRM_IOWR, DRM_VACCEL_FENCE_EVENTFD, drm_vaccel_fence_eventfd),
	DRM_IOCTL_VACCEL_FENCE_TO_FD =
		VACCEL_IOCTL(DRM_IOWR, DRM_VACCEL_FENCE_TO_FD, drm_vaccel_fence_fd),
	DRM_IOCTL_VACCEL_FENCE_FROM_FD =
		VACCEL_IOCTL(DRM_IOWR, DRM_VACCEL_FENCE_FROM_FD, drm_vaccel_fence_fd),
	DRM_IOCTL_VACCEL_SYNC_EXPORT =
		VACCEL_IOCTL(DRM_IOWR, DRM_VACCEL_SYNC_EXPORT, drm_vaccel_sync),
	DRM_IOCTL_VACCEL_SYNC_IMPORT =
		VACCEL_IOCTL(DRM_IOWR, DRM_VACCEL_SYNC_IMPORT, drm_vaccel_sync),
	DRM_IOCTL_VACCEL_SUBMIT =
		VACCEL_IOCTL(DRM_IOWR, DRM_VACCEL_SUBMIT, drm_vaccel_submit),
	DRM_IOCTL_VACCEL_BUDGET =
		VACCEL_IOCTL(DRM_IOWR, DRM_VACCEL_BUDGET, drm_vaccel_budget),
	DRM_IOCTL_VACCEL_EVENTS =
		VACCEL_IOCTL(DRM_IOWR, DRM_VACCEL_EVENTS, drm_vaccel_events),
	DRM_IOCTL_VACCEL_ESCAPE =
		VACCEL_IOCTL(DRM_IOWR, DRM_VACCEL_ESCAPE, drm_vaccel_escape),
};

/*
 * Operations as io_uring commands (IORING_OP_URING_CMD, or IORING_OP_URING_CMD128 in a ring of mixed
 * sizes): cmd_op is the operation number, the command area of the entry holds the structure. It has
 * to hold all of it (an entry of 64 bytes has 16), else -EINVAL; uring_cmd_flags have to be 0. The
 * structure is copied when the command is issued; nothing is written back to it. What it names, by
 * handle or in an argument object, has to stay as it is until the completion.
 *
 * cqe->res is negative (an errno as of the ioctl), 0, or &VACCEL_URING_RECORDED. The 64-bit extra of
 * a 32-byte completion (big_cqe[0]) is what the command says below; with an error it is @host_status,
 * except after -ENOSPC of RESIDENCY and BIND: there it is @bytes_to_trim. Rings with completions of
 * 16 bytes work, without the extra.
 *
 * No command waits inside of io_uring_enter(). The order among SUBMITs to one queue from one ring is
 * the one of their entries, unless IOSQE_ASYNC or links change it (&VACCEL_SUBMIT_EXPECT_SEQ tells);
 * there is no order to the same operation by ioctl before the completion.
 *
 * A pending command ends with -ECANCELED when it is cancelled, or its task or ring ends; with -ENODEV
 * when the adapter goes. It keeps the file open. Unknown cmd_op: -EOPNOTSUPP.
 */

/**
 * define VACCEL_URING_RECORDED - Completion of a wait for a fence that has an error recorded
 *
 * The value was reached; what the error is tells &DRM_IOCTL_VACCEL_FENCE_QUERY.
 */
#define VACCEL_URING_RECORDED		1

enum {
	/**
	 * @VACCEL_URING_CMD_SUBMIT: &struct drm_vaccel_submit. Completes when the operations are
	 * queued, or, with &VACCEL_SUBMIT_CQE_ON_DONE, when @done_value is reached (then it may be
	 * &VACCEL_URING_RECORDED). Extra: @seq.
	 *
	 * -ENOBUFS: too many submissions of the queue wait to be queued. -EAGAIN: the list has to
	 * make memory resident (BIND, RESIDENT, or after the driver evicted something of the vm);
	 * submit again with IOSQE_ASYNC or by ioctl.
	 *
	 * If the host then reads nothing for as long as it has for an answer, what was queued is
	 * lost, and the vm becomes &VACCEL_STATE_HUNG.
	 */
	VACCEL_URING_CMD_SUBMIT = DRM_VACCEL_SUBMIT,
	/**
	 * @VACCEL_URING_CMD_FENCE_WAIT: &struct drm_vaccel_fence_wait. Completes when the value is
	 * reached, the deadline has passed (-ETIME), or the value cannot be reached any more.
	 * Extra: @observed_value.
	 */
	VACCEL_URING_CMD_FENCE_WAIT = DRM_VACCEL_FENCE_WAIT,
	/**
	 * @VACCEL_URING_CMD_FENCE_WAIT_MANY: &struct drm_vaccel_fence_wait_many. Extra: @index.
	 */
	VACCEL_URING_CMD_FENCE_WAIT_MANY = DRM_VACCEL_FENCE_WAIT_MANY,
	/**
	 * @VACCEL_URING_CMD_RESIDENCY: &struct drm_vaccel_residency. Completes when the memory is
	 * where it shall be: @paging_value is reached. Extra: @bytes_to_trim.
	 */
	VACCEL_URING_CMD_RESIDENCY = DRM_VACCEL_RESIDENCY,
	/**
	 * @VACCEL_URING_CMD_BIND: &struct drm_vaccel_bind. Completes when the binding can be used:
	 * @paging_value is reached. Extra: @gpu_va.
	 */
	VACCEL_URING_CMD_BIND = DRM_VACCEL_BIND,
	/** @VACCEL_URING_CMD_UNBIND: &struct drm_vaccel_bind. Likewise. Extra: 0. */
	VACCEL_URING_CMD_UNBIND = DRM_VACCEL_UNBIND,
	/**
	 * @VACCEL_URING_CMD_SYNC_EXPORT: &struct drm_vaccel_sync, without &VACCEL_SYNC_FILE (-EINVAL:
	 * no command makes a file descriptor). Completes when the dma_fence is in the syncobj, with
	 * the error that it has if the value cannot be reached any more; also if that was so before.
	 * Extra: @value.
	 */
	VACCEL_URING_CMD_SYNC_EXPORT = DRM_VACCEL_SYNC_EXPORT,
	/**
	 * @VACCEL_URING_CMD_SYNC_IMPORT: &struct drm_vaccel_sync, likewise without
	 * &VACCEL_SYNC_FILE. Completes when the fence has @value. Extra: @value.
	 */
	VACCEL_URING_CMD_SYNC_IMPORT = DRM_VACCEL_SYNC_IMPORT,
	/**
	 * @VACCEL_URING_CMD_CANCEL: &struct drm_vaccel_cancel, which fits an entry of 64 bytes too.
	 * Ends all pending commands of the file that have this user_data, whatever ring they came
	 * by. -ENOENT: there is none. -EALREADY: each is completing or, a SUBMIT, being queued.
	 * Extra: how many were ended.
	 */
	VACCEL_URING_CMD_CANCEL = DRM_VACCEL_CANCEL,
};

#if defined(__cplusplus)
}
#endif

#endif /* _UAPI_VACCEL_ACCEL_H_ */
