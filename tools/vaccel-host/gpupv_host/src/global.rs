// SPDX-License-Identifier: MIT OR Apache-2.0
//! Commands to the host as a whole: processes and the I/O space (protocol 3.2).

use gpupv::{
    CreateProcess, CreateProcessReply, DestroyProcess, NtStatus, Request, SetIoSpaceRegion,
    IO_SPACE_ALIGNMENT,
};

use crate::call::{Call, Hold, Verdict};
use crate::env::Env;
use crate::handle_table::Full;
use crate::host::Host;
use crate::io_pages::IoPages;
use crate::process::Process;

/// Bytes of a mebibyte.
const MIB: u64 = 1 << 20;

impl Host {
    pub(crate) fn create_process(
        &mut self,
        call: &Call,
        request: &Request<'_, CreateProcess>,
        _env: &mut dyn Env,
    ) -> Verdict {
        let process = self
            .processes
            .insert(Process::new())
            .map_err(|Full| NtStatus::NO_MEMORY)?;
        tracing::debug!(%process, name = request.body().name().collect::<String>(), "process");
        call.answer(request, &CreateProcessReply { process }, ())
    }

    pub(crate) fn destroy_process(
        &mut self,
        call: &Call,
        request: &Request<'_, DestroyProcess>,
        _env: &mut dyn Env,
    ) -> Verdict {
        let jobs = self.remove_process(call.process);
        let hold = Hold {
            jobs,
            backings: Vec::new(),
        };
        Ok(call.done(request)?.held(hold))
    }

    /// The region can be set once until the global channel closes.
    pub(crate) fn set_io_space_region(
        &mut self,
        call: &Call,
        request: &Request<'_, SetIoSpaceRegion>,
        env: &mut dyn Env,
    ) -> Verdict {
        let SetIoSpaceRegion { start, length, .. } = *request.body();
        let most = u64::from(self.config.mmio_megabytes).saturating_mul(MIB);
        let aligned = start.checked_rem(IO_SPACE_ALIGNMENT) == Some(0);
        let whole = length.checked_rem(MIB) == Some(0);
        let ends = start.checked_add(length).is_some();
        if self.io.is_some() || !aligned || !whole || !ends || length == 0 || length > most {
            return Err(NtStatus::INVALID_PARAMETER);
        }
        let io = env.map_io_space(start, length).map_err(|error| {
            tracing::debug!(%error, "I/O space refused");
            NtStatus::INVALID_PARAMETER
        })?;
        let window = self.config.lock_window.unwrap_or(length);
        self.io = Some(IoPages::new(io, start, length, window));
        call.done(request)
    }
}
