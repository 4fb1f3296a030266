// SPDX-License-Identifier: MIT OR Apache-2.0
//! DISPATCH_SPIRV, the one packet whose length varies. The module itself is not looked at here.

use zerocopy::FromBytes;

use super::{range, size, Reason, ELEMENT_BYTES};
use crate::dispatch::{BindingAccess, Bindings, Dispatch, Shader};
use crate::wire::{WireBinding, WireDispatch};
use crate::{
    ENTRY_POINT_BYTES, MAX_BINDINGS, MAX_BINDING_BYTES, MAX_BINDING_NUMBER, MAX_DISPATCH_BYTES,
    MAX_GROUPS, MAX_MODULE_BYTES, MAX_PUSH_BYTES, PACKET_ALIGN,
};

/// Decodes the body of a packet of `length` bytes.
pub(super) fn dispatch(body: &[u8], length: u32) -> Result<Dispatch<'_>, Reason> {
    let wrong_length = Reason::PacketLength(length);
    let (wire, rest) = WireDispatch::ref_from_prefix(body).map_err(|_| wrong_length)?;
    let count = at_most("bindings", wire.binding_count.get(), MAX_BINDINGS)?;
    let push_bytes = at_most("push constants", wire.push_bytes.get(), MAX_PUSH_BYTES)?;
    let (bindings, rest) =
        <[WireBinding]>::ref_from_prefix_with_elems(rest, count).map_err(|_| wrong_length)?;
    let (push_constants, padding) = rest.split_at_checked(push_bytes).ok_or(wrong_length)?;
    if padding.len() >= PACKET_ALIGN {
        return Err(wrong_length);
    }
    if let Some(byte) = padding.iter().find(|byte| **byte != 0) {
        return Err(Reason::Field("padding", u32::from(*byte)));
    }
    words("push constants", u64::from(wire.push_bytes.get()))?;
    let bytes = u64::from(wire.module_bytes.get());
    let bytes = words(
        "module",
        size("module", bytes, u64::from(MAX_MODULE_BYTES))?,
    )?;
    let groups = wire.groups.map(|groups| groups.get());
    for groups in groups {
        size("groups", u64::from(groups), u64::from(MAX_GROUPS))?;
    }
    check_bindings(bindings)?;
    Ok(Dispatch {
        shader: Shader {
            va: range("module", wire.module.get(), bytes, ELEMENT_BYTES)?,
            bytes: wire.module_bytes.get(),
            entry_point: entry_point(&wire.entry_point)?,
        },
        groups,
        bindings: Bindings::checked(bindings),
        push_constants,
    })
}

fn at_most(name: &'static str, value: u32, limit: usize) -> Result<usize, Reason> {
    let count = usize::try_from(value).unwrap_or(usize::MAX);
    if count > limit {
        return Err(Reason::Size(name, u64::from(value)));
    }
    Ok(count)
}

/// Checks that a length is a whole number of words.
fn words(name: &'static str, bytes: u64) -> Result<u64, Reason> {
    if bytes.checked_rem(ELEMENT_BYTES) != Some(0) {
        return Err(Reason::Size(name, bytes));
    }
    Ok(bytes)
}

/// Numbers ascend, so none comes twice.
fn check_bindings(bindings: &[WireBinding]) -> Result<(), Reason> {
    let mut least = 0;
    let mut all = 0_u64;
    for wire in bindings {
        let number = wire.binding.get();
        if number < least || number >= MAX_BINDING_NUMBER {
            return Err(Reason::Field("binding", number));
        }
        least = number.saturating_add(1);
        let access = wire.access.get();
        BindingAccess::from_wire(access).ok_or(Reason::Field("access", access))?;
        let bytes = words(
            "buffer",
            size("buffer", wire.bytes.get(), MAX_BINDING_BYTES)?,
        )?;
        all = all.saturating_add(bytes);
        size("buffers", all, MAX_DISPATCH_BYTES)?;
        range("buffer", wire.va.get(), bytes, ELEMENT_BYTES)?;
    }
    Ok(())
}

/// The name up to its padding, which is zeros.
fn entry_point(field: &[u8; ENTRY_POINT_BYTES]) -> Result<&str, Reason> {
    let end = field.iter().position(|byte| *byte == 0);
    let (name, padding) = field.split_at(end.unwrap_or(ENTRY_POINT_BYTES));
    let bad = Reason::Size("entry point", u64::try_from(name.len()).unwrap_or(u64::MAX));
    if name.is_empty() || padding.iter().any(|byte| *byte != 0) {
        return Err(bad);
    }
    core::str::from_utf8(name).map_err(|_| bad)
}

#[cfg(all(test, feature = "std"))]
mod tests;
