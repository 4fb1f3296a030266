// SPDX-License-Identifier: MIT OR Apache-2.0
//! The private channel between a guest's driver and the host's (command 13; protocol 3.5, 4.11).
//!
//! Escapes to the driver carry what the driver understands. The engines here have no private
//! commands, so the data comes back as it was; a guest sees the whole way work. Of the escapes that
//! every driver knows those that translate a handle give it back if it is there, as the documents
//! say of guests; a test command buffer is built only with the feature of kernel-mode tests, which
//! this host does not have. Escapes to Windows itself are refused.
//!
//! A reply is the data and nothing else, so a failure is a bare status.

use gpupv::{
    CommandId, Escape, EscapeFlags, EscapeType, Handle, KnownEscapeType, NoFixedReply, NtStatus,
    Request,
};

use crate::call::{Call, Verdict};
use crate::env::Env;
use crate::host::Host;
use crate::process::Process;

impl Host {
    pub(crate) fn escape(
        &mut self,
        call: &Call,
        request: &Request<'_, Escape>,
        _env: &mut dyn Env,
    ) -> Verdict {
        let (body, data) = (request.body(), request.tail());
        call.vgpu.check_adapter(body.adapter)?;
        let process = self.process(call.process)?;
        if let Some(device) = body.device.some() {
            process.device(call.vgpu, device)?;
        }
        if let Some(context) = body.context.some() {
            process.context(call.vgpu, context)?;
        }
        if body.flags.unknown() != 0 {
            return Err(NtStatus::INVALID_PARAMETER);
        }
        if body.kind != EscapeType::DRIVER_PRIVATE {
            tracing::debug!(kind = ?body.kind, "{} refused", CommandId::Escape.name());
            return Err(NtStatus::NOT_SUPPORTED);
        }
        if body.flags.contains(EscapeFlags::DRIVER_KNOWN_ESCAPE) {
            known(process, call, data)?;
        } else if !self.config.choices.escape_echoed {
            return Err(NtStatus::NOT_SUPPORTED);
        }
        call.answer(request, &NoFixedReply, data)
    }
}

/// Checks an escape that every driver knows and whose data comes back unchanged: its number, then a
/// handle.
fn known(process: &Process, call: &Call, data: &[u8]) -> Result<(), NtStatus> {
    let mut words = data.chunks_exact(4).filter_map(|word| {
        let word = word.try_into().ok()?;
        Some(u32::from_le_bytes(word))
    });
    let mut word = || words.next().ok_or(NtStatus::INVALID_PARAMETER);
    match KnownEscapeType::from_raw(word()?) {
        KnownEscapeType::TRANSLATE_ALLOCATION_HANDLE => {
            let handle = Handle::from_raw(word()?);
            process.allocation(call.vgpu, handle).map(drop)
        }
        KnownEscapeType::TRANSLATE_RESOURCE_HANDLE => {
            let handle = Handle::from_raw(word()?);
            process.resource(call.vgpu, handle).map(drop)
        }
        _ => Err(NtStatus::NOT_SUPPORTED),
    }
}
