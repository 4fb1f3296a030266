// SPDX-License-Identifier: MIT OR Apache-2.0
//! Objects that programs of the host can open (command 1021; protocol 4.8).
//!
//! A shareable object gets a handle of the host, a value that means nothing to the guest. Like an NT
//! handle of the guest's it keeps what is shared. Nobody tells when a program of the host is done
//! with it, so it is dropped with the process that asked for it, or with the adapter (inferred).

use gpupv::{Handle, NtStatus, Request, ShareObjectWithHost, ShareObjectWithHostReply};

use crate::call::{Call, Verdict};
use crate::env::{Env, VgpuId};
use crate::handle_table::Full;
use crate::host::Host;
use crate::share::Shared;

/// An object that programs of the host can open.
#[derive(Debug)]
pub struct Exported {
    /// Who asked for it.
    pub process: Handle,
    /// What it keeps.
    pub shared: Shared,
}

impl Host {
    pub(crate) fn share_with_host(
        &mut self,
        call: &Call,
        request: &Request<'_, ShareObjectWithHost>,
        _env: &mut dyn Env,
    ) -> Verdict {
        if !self.config.choices.host_sharing {
            return Err(NtStatus::NOT_SUPPORTED);
        }
        let body = request.body();
        let process = self.process(call.process)?;
        let object = process.objects.get(body.object);
        let object = object.ok_or(NtStatus::INVALID_HANDLE)?;
        process.device(object.vgpu, body.device)?;
        if object.device != body.device {
            return Err(NtStatus::INVALID_HANDLE);
        }
        if self.exported.room() == 0 {
            return Err(NtStatus::NO_MEMORY);
        }
        let exported = Exported {
            process: call.process,
            shared: self.what_is_shared(call.process, body.object)?,
        };
        let handle = self.exported.insert(exported);
        let handle = handle.map_err(|Full| NtStatus::NO_MEMORY)?;
        let reply = ShareObjectWithHostReply {
            status: NtStatus::SUCCESS,
            _pad: 0,
            // Handles of Windows are multiples of four.
            vail_nt_handle: u64::from(handle.raw()) << 2,
        };
        call.answer(request, &reply, ())
    }

    /// Drops what a process shared with the host.
    pub(crate) fn drop_exports_of(&mut self, process: Handle) {
        self.drop_exports(|exported| exported.process == process);
    }

    /// Drops what was shared with the host on a GPU.
    pub(crate) fn drop_exports_on(&mut self, vgpu: VgpuId) {
        self.drop_exports(|exported| exported.shared.vgpu() == vgpu);
    }

    fn drop_exports(&mut self, gone: impl Fn(&Exported) -> bool) {
        let handles = self.exported.iter();
        let handles = handles.filter_map(|(handle, exported)| gone(exported).then_some(handle));
        for handle in handles.collect::<Vec<_>>() {
            if let Some(exported) = self.exported.remove(handle) {
                self.drop_shared(exported.shared);
            }
        }
    }
}
