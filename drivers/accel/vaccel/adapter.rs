// SPDX-License-Identifier: GPL-2.0-only

//! Adapters: one virtual GPU, opened on the host, and what is known about it.

use core::sync::atomic::{
    AtomicBool,
    AtomicU64,
    AtomicUsize,
    Ordering, //
};

use kernel::device::Bound;
use kernel::prelude::*;
use kernel::sync::Arc;
use kernel::time::{
    delay::fsleep,
    Delta, //
};

use crate::background::Background;
use crate::budget::Watch;
use crate::events::Events;
use crate::global::Global;
use crate::gpupv::{
    self,
    AdapterCaps,
    Handle,
    HostCaps,
    Luid,
    Request, //
};
use crate::host_error::{
    HostError,
    HostResult, //
};
use crate::io_space::IoSpace;
use crate::link::Link;
use crate::memory_charge::{
    MemoryCharge,
    Regions,
    Segment, //
};
use crate::out_fence::OutQueues;
use crate::sync_export::Exports;
use crate::transport::{
    Transport,
    Wait, //
};
use crate::view::Views;
use crate::vmbus;

/// How long an adapter that stops waits for its clients' objects to be given back.
const SETTLE_MS: i64 = 10_000;
const SETTLE_STEP_MS: i64 = 5;

/// The adapter query for the sizes of segment groups, a number of D3DKMT (protocol 3.8): dedicated
/// video memory, dedicated system memory, shared system memory, as three u64.
const QUERY_SEGMENT_SIZE: gpupv::QueryType = gpupv::QueryType::from_raw(3);

/// The first number that names a process to the host.
const FIRST_COOKIE: u64 = 1;

/// What the PCI function of a virtual GPU says (protocol 1.1).
#[derive(Clone, Copy)]
pub(crate) struct Function {
    /// Ties the function to its channel; the adapter's LUID in the guest.
    pub(crate) luid: Luid,
    /// Negotiated interface version.
    pub(crate) version: gpupv::Version,
    /// The host's LUID of the virtual GPU.
    pub(crate) vgpu_luid: Luid,
    pub(crate) host_caps: HostCaps,
    /// Device 1414:008A.
    pub(crate) compute_only: bool,
}

/// What the host says of an adapter.
pub(crate) struct Info {
    pub(crate) host_luid: Luid,
    pub(crate) vgpu_luid: Luid,
    pub(crate) caps: AdapterCaps,
    /// Bytes of the adapter's own memory and of system memory that it uses; 0 if unknown.
    pub(crate) segments: (u64, u64),
    /// UTF-8.
    pub(crate) description: KVec<u8>,
    /// UTF-8.
    pub(crate) instance_id: KVec<u8>,
}

/// An open virtual GPU.
pub(crate) struct Adapter {
    pub(crate) transport: Arc<Transport>,
    pub(crate) events: Arc<Events>,
    pub(crate) io: Arc<IoSpace>,
    pub(crate) function: Function,
    pub(crate) info: Info,
    /// The host's handle.
    pub(crate) handle: Handle,
    /// For numbers that mean something to nobody but must differ.
    pub(crate) next_cookie: AtomicU64,
    /// How often an adapter with this LUID has been opened before.
    pub(crate) resets: u64,
    /// Who works for its clients.
    pub(crate) background: Background,
    /// What is to appear in syncobjs.
    pub(crate) exports: Arc<Exports>,
    /// The queues with dma_fences.
    pub(crate) out_queues: Arc<OutQueues>,
    /// What the CPU sees of the host's memory.
    pub(crate) views: Arc<Views>,
    /// Who wants to know of its budget.
    pub(crate) watch: Arc<Watch>,
    /// What cgroups pay for.
    pub(crate) regions: Arc<Regions>,
    stopping: AtomicBool,
}

impl Adapter {
    /// Charges `bytes` of `segment` to the cgroup of the caller; see [`Regions::charge`].
    ///
    /// # Errors
    ///
    /// `ENOSPC`.
    pub(crate) fn charge(&self, segment: Segment, bytes: u64) -> Result<Option<MemoryCharge>> {
        self.regions.charge(segment, bytes)
    }

    /// Opens the channel of a virtual GPU, and the virtual GPU on the host.
    ///
    /// # Errors
    ///
    /// Those of the channel and of the host.
    pub(crate) fn open(
        device: &vmbus::Device<Bound>,
        global: &Global,
        function: Function,
        resets: u64,
        background: &Background,
    ) -> Result<Arc<Self>> {
        let link = Link::open(device, None)?;
        // From here on the channel must be closed, also if what follows fails.
        Self::introduce(&link, global, function, resets, background).inspect_err(|_| link.close())
    }

    fn introduce(
        link: &Arc<Link>,
        global: &Global,
        function: Function,
        resets: u64,
        background: &Background,
    ) -> Result<Arc<Self>> {
        let way = |vgpu_luid, asynchronous| Transport {
            version: function.version,
            global: global.link.clone(),
            vgpu: link.clone(),
            luid: vgpu_luid,
            asynchronous,
            releases: AtomicUsize::new(0),
        };
        let first = way(function.vgpu_luid, global.asynchronous());
        let open = Request::from(gpupv::OpenAdapter::new(function.version));
        let handle = first.call(Handle::NONE, &open, Wait::Bounded, |answer| {
            Ok(answer.reply.adapter)
        })?;
        let ask = Request::from(gpupv::GetInternalAdapterInfo);
        let mut info = first.call(Handle::NONE, &ask, Wait::Bounded, |answer| {
            read_info(&answer.reply)
        })?;
        info.segments = segments(&first).unwrap_or_default();
        if !function.version.has_ext_header() {
            info.vgpu_luid = function.vgpu_luid;
        }
        let asynchronous = info.caps.contains(AdapterCaps::ASYNC_MSG_ENABLED);
        global.set_asynchronous(asynchronous);
        Ok(Arc::new(
            Self {
                transport: Arc::new(way(info.vgpu_luid, asynchronous), GFP_KERNEL)?,
                events: global.events.clone(),
                io: global.io.clone(),
                function,
                info,
                handle,
                next_cookie: AtomicU64::new(FIRST_COOKIE + 1),
                resets,
                background: background.clone(),
                exports: Arc::pin_init(Exports::new(), GFP_KERNEL)?,
                out_queues: Arc::pin_init(OutQueues::new(), GFP_KERNEL)?,
                views: Arc::pin_init(Views::new(), GFP_KERNEL)?,
                watch: Arc::pin_init(Watch::new(), GFP_KERNEL)?,
                regions: Arc::pin_init(Regions::new(), GFP_KERNEL)?,
                stopping: AtomicBool::new(false),
            },
            GFP_KERNEL,
        )?)
    }

    /// Closes the virtual GPU on the host, if it can still be reached.
    pub(crate) fn close(&self) {
        let request = Request::from(gpupv::CloseAdapter {
            adapter: self.handle,
            _pad: 0,
        });
        // A host that does not answer has nothing to be told.
        let _ = self
            .transport
            .call(Handle::NONE, &request, Wait::Bounded, |_| Ok(()));
    }

    /// Sends everybody home who waits for a fence: the adapter is about to go.
    pub(crate) fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
        self.watch.stop();
        self.events.disturb_all();
    }

    /// Whether the adapter is about to go, or gone.
    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire) || !self.transport.is_open()
    }

    /// Waits, not for ever, until what was given back has reached the host.
    pub(crate) fn settle(&self) {
        for _ in 0..SETTLE_MS / SETTLE_STEP_MS {
            if self.transport.releases.load(Ordering::Acquire) == 0 {
                return;
            }
            fsleep(Delta::from_millis(SETTLE_STEP_MS));
        }
    }

    /// Ends every wait for this adapter; what is left fails with `ENODEV`.
    pub(crate) fn fail(&self) {
        self.transport.vgpu.fail();
        self.events.disturb_all();
    }

    /// Whether guest memory is shared by page lists; otherwise by GPADLs.
    pub(crate) fn takes_page_lists(&self) -> bool {
        self.function.host_caps.maps_guest_memory()
    }
}

fn read_info(reply: &gpupv::AdapterInfo) -> HostResult<Info> {
    Ok(Info {
        host_luid: reply.host_adapter_luid,
        vgpu_luid: reply.host_vgpu_luid,
        caps: reply.caps,
        segments: (0, 0),
        description: utf8(reply.description())?,
        instance_id: utf8(reply.instance_id())?,
    })
}

/// Asks for the sizes of the segment groups, on behalf of a process that is there for that only:
/// adapter queries need one.
fn segments(transport: &Transport) -> HostResult<(u64, u64)> {
    let pid = 0;
    let body = KBox::new(
        gpupv::CreateProcess::new(FIRST_COOKIE, pid, "vaccel"),
        GFP_KERNEL,
    )?;
    let request = Request::from(*body);
    let process = transport.call(Handle::NONE, &request, Wait::Bounded, |answer| {
        Ok(answer.reply.process)
    })?;
    let sizes = segments_of(transport, process);
    let end = Request::from(gpupv::DestroyProcess);
    transport.call(process, &end, Wait::Bounded, |_| Ok(()))?;
    sizes
}

/// The sizes of the adapter's own memory and of system memory that it uses.
fn segments_of(transport: &Transport, process: Handle) -> HostResult<(u64, u64)> {
    const BYTES: usize = 3 * size_of::<u64>();
    let request = Request::new(
        gpupv::QueryAdapterInfo {
            query_type: QUERY_SEGMENT_SIZE,
            ..Default::default()
        },
        &[0; BYTES][..],
    )?;
    transport.call(process, &request, Wait::Bounded, |answer| {
        let word = |at: usize| {
            let bytes = answer.tail.get(at * 8..)?.first_chunk()?;
            Some(u64::from_le_bytes(*bytes))
        };
        let sizes = (|| Some((word(0)?, word(1)?.checked_add(word(2)?)?)))();
        sizes.ok_or(HostError::PROTOCOL)
    })
}

fn utf8(text: impl Iterator<Item = char>) -> Result<KVec<u8>> {
    let mut bytes = KVec::new();
    for character in text {
        bytes.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes(), GFP_KERNEL)?;
    }
    Ok(bytes)
}
