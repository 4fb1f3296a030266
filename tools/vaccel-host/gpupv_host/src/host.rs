// SPDX-License-Identifier: MIT OR Apache-2.0
//! The host as its user sees it: GPUs, channels, messages, finished jobs.
//!
//! Channels may open and close at any time and in any order. A closed vGPU channel closes its
//! adapter; a closed global channel ends everything, because the I/O space went with it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use gpupv::{ExecutionState, Handle, NtStatus, PageFaultState, Version, PAGE_SIZE};

use crate::backing::Backing;
use crate::call::{bare, Completion, Forced};
use crate::config::{HostConfig, VgpuConfig, MAX_PROCESSES, MAX_SHARED_OBJECTS, MAX_VGPUS};
use crate::env::{Channel, Env, MessageIn, VgpuId};
use crate::fence::FenceValue;
use crate::gpu_memory::{Content, GpuMemory};
use crate::handle_table::HandleTable;
use crate::host_share::Exported;
use crate::io_pages::IoPages;
use crate::job::{Cancel, JobId, JobOutcome};
use crate::messages::MessageCounts;
use crate::mute::{Mute, Unheard};
use crate::object::Kind;
use crate::offer::Offers;
use crate::outlet::Outlet;
use crate::pci::{Negotiation, PciWindow};
use crate::process::Process;
use crate::segment::PerSegment;
use crate::share::Shared;
use crate::statistics::EngineUse;
use crate::va::VaTable;

/// No more virtual GPUs can be added.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a VM has at most {MAX_VGPUS} virtual GPUs")]
pub struct TooManyVgpus;

/// A virtual GPU.
pub(crate) struct Vgpu {
    pub(crate) config: VgpuConfig,
    /// The guest opened it (OPENADAPTER).
    pub(crate) open: bool,
    /// The job its engine runs.
    pub(crate) running: Option<Running>,
    /// Queue that ran last (bits of process and queue handle), for fairness among equals.
    pub(crate) last: (u32, u32),
    /// The next job gives a wrong result.
    pub(crate) flip: bool,
    /// The next job never ends by itself.
    pub(crate) hang: bool,
    /// Budgets set since it was configured.
    pub(crate) set_budget: PerSegment<Option<u64>>,
    /// Contents that can be dropped.
    pub(crate) offers: Offers,
    /// Where its allocations lie.
    pub(crate) memory: GpuMemory,
    /// What its engine did.
    pub(crate) engine_use: EngineUse,
    /// Jobs that ran for too long.
    pub(crate) hangs: u32,
}

/// A job on an engine.
pub(crate) struct Running {
    pub(crate) job: JobId,
    /// Whose it is; `None` once its queue is gone.
    pub(crate) owner: Option<Owner>,
    /// The address space it sees.
    pub(crate) table: Arc<VaTable>,
    pub(crate) cancel: Cancel,
    /// When it began, by the host's clock.
    pub(crate) started: u64,
    /// It was to give a wrong result.
    pub(crate) flip: bool,
    /// When it is over the limit of time, by the host's clock.
    pub(crate) deadline: Option<u64>,
}

/// Where a job came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Owner {
    pub(crate) process: Handle,
    pub(crate) device: Handle,
    /// A context or a hardware queue.
    pub(crate) queue: Handle,
}

/// A CPU wait that has not been answered.
pub(crate) struct CpuWait {
    pub(crate) process: Handle,
    /// With the handles by which they are waited for.
    pub(crate) fences: Vec<(Handle, FenceValue)>,
    pub(crate) any: bool,
    pub(crate) event: u64,
}

/// A completion held back until jobs end.
pub(crate) struct Held {
    pub(crate) completion: Option<Completion>,
    pub(crate) bytes: Vec<u8>,
    pub(crate) jobs: Vec<JobId>,
    pub(crate) backings: Vec<Arc<Backing>>,
}

/// The GPU-PV host of one VM.
pub struct Host {
    pub(crate) config: HostConfig,
    pub(crate) negotiation: Arc<Negotiation>,
    pub(crate) vgpus: Vec<Vgpu>,
    pub(crate) processes: HandleTable<Process>,
    /// What the guest sees of the host, once it has said where.
    pub(crate) io: Option<IoPages>,
    pub(crate) cpu_waits: Vec<CpuWait>,
    pub(crate) held: Vec<Held>,
    /// Contexts and hardware queues that have work, by the bits of process and queue handle.
    pub(crate) active: BTreeMap<(u32, u32), (VgpuId, Owner)>,
    /// Allocations whose pages came from a GPADL: that, and the bits of process and allocation.
    pub(crate) by_gpadl: BTreeSet<(u32, u32, u32)>,
    /// Handles of the whole VM: what processes share.
    pub(crate) shared: HandleTable<Shared>,
    /// What programs of the host can open.
    pub(crate) exported: HandleTable<Exported>,
    /// Fences to signal once the command being handled has been completed.
    pub(crate) after: Vec<FenceValue>,
    pub(crate) out: Outlet,
    pub(crate) mute: Mute,
    pub(crate) messages: MessageCounts,
    pub(crate) pinned_pages: u64,
    pub(crate) next_job: u64,
}

impl Host {
    /// A host without GPUs.
    pub fn new(config: HostConfig) -> Self {
        Self {
            negotiation: Arc::new(Negotiation::new(&config)),
            vgpus: Vec::new(),
            processes: HandleTable::new(MAX_PROCESSES),
            io: None,
            cpu_waits: Vec::new(),
            held: Vec::new(),
            active: BTreeMap::new(),
            by_gpadl: BTreeSet::new(),
            shared: HandleTable::new(MAX_SHARED_OBJECTS),
            exported: HandleTable::new(MAX_SHARED_OBJECTS),
            after: Vec::new(),
            out: Outlet::new(config.choices.passive_events),
            mute: Mute::default(),
            messages: MessageCounts::default(),
            pinned_pages: 0,
            next_job: 0,
            config,
        }
    }

    /// Adds a virtual GPU.
    ///
    /// # Errors
    ///
    /// [`TooManyVgpus`] at [`MAX_VGPUS`].
    pub fn add_vgpu(&mut self, config: VgpuConfig) -> Result<VgpuId, TooManyVgpus> {
        if self.vgpus.len() >= MAX_VGPUS {
            return Err(TooManyVgpus);
        }
        let id = VgpuId(self.vgpus.len());
        self.vgpus.push(Vgpu {
            memory: GpuMemory::new(id, config.commit_limit),
            config,
            open: false,
            running: None,
            last: (0, 0),
            flip: false,
            hang: false,
            offers: Offers::default(),
            set_budget: PerSegment::default(),
            engine_use: EngineUse::default(),
            hangs: 0,
        });
        Ok(id)
    }

    /// How the host was configured.
    pub fn config(&self) -> &HostConfig {
        &self.config
    }

    /// The version that messages have now.
    pub fn version(&self) -> Version {
        self.negotiation.version()
    }

    /// The virtual GPUs.
    pub fn vgpus(&self) -> impl Iterator<Item = (VgpuId, &VgpuConfig)> {
        let number = |(id, vgpu): (usize, _)| (VgpuId(id), vgpu);
        self.vgpus
            .iter()
            .map(|vgpu| &vgpu.config)
            .enumerate()
            .map(number)
    }

    /// The configuration window of a virtual GPU, for use on any thread.
    pub fn pci_window(&self, vgpu: VgpuId) -> Option<PciWindow> {
        let config = &self.vgpus.get(vgpu.0)?.config;
        Some(PciWindow::new(
            Arc::clone(&self.negotiation),
            &self.config,
            config,
        ))
    }

    /// Makes the next job of a GPU that writes anything leave one wrong element in the last thing
    /// it wrote. Whether there is such a GPU.
    pub fn arm_wrong_result(&mut self, vgpu: VgpuId) -> bool {
        let vgpu = self.vgpus.get_mut(vgpu.0);
        vgpu.map(|vgpu| vgpu.flip = true).is_some()
    }

    /// Makes the next job of a GPU one that does nothing and never ends by itself. Whether there is
    /// such a GPU.
    pub fn arm_hang(&mut self, vgpu: VgpuId) -> bool {
        let vgpu = self.vgpus.get_mut(vgpu.0);
        vgpu.map(|vgpu| vgpu.hang = true).is_some()
    }

    /// Stops a GPU: its devices fail as stopped, what it had for the guest goes, and its commands are
    /// refused until the guest opens it again. Whether there is such a GPU.
    pub fn stop_adapter(&mut self, vgpu: VgpuId, env: &mut dyn Env) -> bool {
        if !self.fail_devices(vgpu, ExecutionState::STOPPED, env) {
            return false;
        }
        self.close_adapter(vgpu);
        self.settle(env);
        true
    }

    /// Puts every device of a GPU that has not failed in this state, as if its job had failed so.
    /// Whether there is such a GPU.
    pub fn fail_devices(&mut self, vgpu: VgpuId, state: ExecutionState, env: &mut dyn Env) -> bool {
        if self.vgpus.get(vgpu.0).is_none() {
            return false;
        }
        if self.is_mute() {
            self.mute.keep(Unheard::Fail(vgpu, state));
            return true;
        }
        let processes = self.processes.iter();
        let devices = processes.flat_map(|(process, p)| {
            let devices = p.devices(vgpu).into_iter();
            devices.map(move |device| (process, device))
        });
        for (process, device) in devices.collect::<Vec<_>>() {
            self.fail_device(process, device, state, PageFaultState::default(), env);
        }
        self.settle(env);
        true
    }

    /// A channel was opened by the guest.
    pub fn channel_opened(&mut self, channel: Channel) {
        tracing::debug!(?channel, "channel opened");
    }

    /// A channel was closed by the guest, or rescinded. Guest memory that was shared through it is
    /// not touched any more when this returns.
    pub fn channel_closed(&mut self, channel: Channel, env: &mut dyn Env) {
        tracing::debug!(?channel, "channel closed");
        self.mute.forget(channel);
        self.out.faults.forget(channel);
        for held in &mut self.held {
            if held.completion.is_some_and(|at| at.channel == channel) {
                held.completion = None;
                held.backings.iter().for_each(|backing| backing.revoke());
            }
        }
        match channel {
            Channel::Global => {
                for vgpu in &mut self.vgpus {
                    vgpu.open = false;
                }
                self.remove_everything();
                for held in &self.held {
                    held.backings.iter().for_each(|backing| backing.revoke());
                }
                if self.io.take().is_some() {
                    env.unmap_io_space();
                }
            }
            Channel::Vgpu(vgpu) => self.close_adapter(vgpu),
        }
        self.settle(env);
    }

    /// The VM was reset: as if every channel was closed, and nothing was negotiated.
    pub fn reset(&mut self, env: &mut dyn Env) {
        self.channel_closed(Channel::Global, env);
        self.negotiation.reset();
    }

    /// The guest took back a GPADL, or it was revoked. Its memory is not touched any more when this
    /// returns; what was backed by it faults.
    pub fn gpadl_revoked(&mut self, gpadl: u32) {
        let users = self
            .by_gpadl
            .range((gpadl, 0, 0)..=(gpadl, u32::MAX, u32::MAX));
        for (_, process, handle) in users {
            let process = self.processes.get(Handle::from_raw(*process));
            let object = process.and_then(|p| p.objects.get(Handle::from_raw(*handle)));
            if let Some(Kind::Allocation(allocation)) = object.map(|object| &object.kind) {
                allocation.backing.revoke();
            }
        }
    }

    /// A message of the guest arrived on a channel.
    pub fn message(&mut self, channel: Channel, message: MessageIn<'_>, env: &mut dyn Env) {
        if self.is_mute() {
            return self.mute.keep(Unheard::Message {
                channel,
                transaction_id: message.transaction_id,
                completion_requested: message.completion_requested,
                payload: message.payload.to_vec(),
            });
        }
        if self.out.faults.is_idle() {
            self.handle(channel, message, None, env);
        } else {
            self.message_by_rules(channel, message, env);
        }
    }

    /// Handles a message that may be handled now, and does all that follows from it.
    pub(crate) fn handle(
        &mut self,
        channel: Channel,
        message: MessageIn<'_>,
        forced: Option<Forced>,
        env: &mut dyn Env,
    ) {
        self.dispatch(channel, message, forced, env);
        for signal in std::mem::take(&mut self.after) {
            signal.fence.signal(signal.value, false);
        }
        self.settle(env);
    }

    /// A job ended.
    pub fn engine_done(&mut self, job: JobId, outcome: JobOutcome, env: &mut dyn Env) {
        if self.is_mute() {
            return self.mute.keep(Unheard::Done(job, outcome));
        }
        self.job_done(job, outcome, env);
        self.settle(env);
    }

    /// Completes a message that has no reply of its own.
    pub(crate) fn refuse(
        &mut self,
        completion: Option<Completion>,
        status: NtStatus,
        env: &mut dyn Env,
    ) {
        if let Some(to) = completion {
            self.reply(to, &bare(status), env);
        }
    }

    /// A process.
    pub(crate) fn process(&self, handle: Handle) -> Result<&Process, NtStatus> {
        self.processes.get(handle).ok_or(NtStatus::INVALID_HANDLE)
    }

    /// A process, to change it.
    pub(crate) fn process_mut(&mut self, handle: Handle) -> Result<&mut Process, NtStatus> {
        self.processes
            .get_mut(handle)
            .ok_or(NtStatus::INVALID_HANDLE)
    }

    /// A virtual GPU.
    pub(crate) fn vgpu(&self, id: VgpuId) -> Result<&Vgpu, NtStatus> {
        self.vgpus.get(id.0).ok_or(NtStatus::DEVICE_REMOVED)
    }

    /// A virtual GPU that the guest opened.
    pub(crate) fn open_vgpu(&self, id: VgpuId) -> Result<&Vgpu, NtStatus> {
        self.vgpu(id)?.opened()
    }

    /// Bytes resident on a GPU, of all processes.
    pub(crate) fn resident_on(&self, vgpu: VgpuId) -> PerSegment<u64> {
        let used = self.processes.iter().map(|(_, process)| process.used(vgpu));
        used.fold(PerSegment::default(), |sum, used| {
            sum.zip(used, u64::saturating_add)
        })
    }

    /// Gives up the memory of an allocation that is gone: guest pages are no longer accessible,
    /// content in host memory goes with its last user. Done once for each.
    pub(crate) fn release(&mut self, backing: &Backing) {
        match backing.release() {
            Some(content) => self.release_content(content),
            None => {
                let pages = backing.guest_pages();
                self.pinned_pages = self.pinned_pages.saturating_sub(pages);
            }
        }
    }

    /// Gives up one use of content in host memory.
    pub(crate) fn release_content(&mut self, content: Arc<Content>) {
        if let Some(content) = Arc::into_inner(content) {
            if let Some(vgpu) = self.vgpus.get_mut(content.vgpu().index()) {
                vgpu.memory.destroy(&content);
            }
        }
    }
}

impl Vgpu {
    /// This GPU, if the guest opened it.
    pub(crate) fn opened(&self) -> Result<&Self, NtStatus> {
        if self.open {
            Ok(self)
        } else {
            Err(NtStatus::DEVICE_REMOVED)
        }
    }
}

impl VgpuId {
    /// The host's handle of the adapter. Its index is far above those of objects.
    pub(crate) fn adapter_handle(self) -> Handle {
        const FIRST_INDEX: usize = 0x0080_0000;
        let index = u32::try_from(self.0.saturating_add(FIRST_INDEX)).unwrap_or(Handle::MAX_INDEX);
        Handle::pack(0, index, 1)
    }

    /// Checks that a command names this adapter.
    pub(crate) fn check_adapter(self, handle: Handle) -> Result<(), NtStatus> {
        if handle == self.adapter_handle() {
            Ok(())
        } else {
            Err(NtStatus::INVALID_HANDLE)
        }
    }
}

/// Bytes as whole pages; `None` if they are none or not whole.
pub(crate) fn whole_pages(bytes: u64) -> Option<u64> {
    let pages = bytes.checked_div(PAGE_SIZE)?;
    (pages != 0 && bytes.checked_rem(PAGE_SIZE) == Some(0)).then_some(pages)
}
