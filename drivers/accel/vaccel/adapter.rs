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
use crate::host_error::HostResult;
use crate::io_space::IoSpace;
use crate::link::Link;
use crate::transport::{
    Transport,
    Wait, //
};
use crate::vmbus;
use crate::workqueue::OwnedQueue;

/// How long an adapter that stops waits for its clients' objects to be given back.
const SETTLE_MS: i64 = 10_000;
const SETTLE_STEP_MS: i64 = 5;

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
    /// Where the reapers of its clients work.
    pub(crate) reapers: Arc<OwnedQueue>,
    stopping: AtomicBool,
}

impl Adapter {
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
        reapers: &Arc<OwnedQueue>,
    ) -> Result<Arc<Self>> {
        let link = Link::open(device, None)?;
        // From here on the channel must be closed, also if what follows fails.
        Self::introduce(&link, global, function, resets, reapers).inspect_err(|_| link.close())
    }

    fn introduce(
        link: &Arc<Link>,
        global: &Global,
        function: Function,
        resets: u64,
        reapers: &Arc<OwnedQueue>,
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
                next_cookie: AtomicU64::new(1),
                resets,
                reapers: reapers.clone(),
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
        self.events.wake_all();
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
        self.events.wake_all();
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
        description: utf8(reply.description())?,
        instance_id: utf8(reply.instance_id())?,
    })
}

fn utf8(text: impl Iterator<Item = char>) -> Result<KVec<u8>> {
    let mut bytes = KVec::new();
    for character in text {
        bytes.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes(), GFP_KERNEL)?;
    }
    Ok(bytes)
}
