// SPDX-License-Identifier: GPL-2.0-only

//! Over budget: what the driver evicts by itself before it says so.
//!
//! The host's budget is one for a file. A vm that keeps its bindings resident needs them only while it
//! has something to do; so if the host refuses more, what the file's other vms have bound is evicted
//! where they are idle, and the host is asked once more. An evicted vm is made resident again by its
//! next submission. What user space made resident by hand is never touched.

use kernel::prelude::*;
use kernel::sync::Arc;

use crate::allocation::Refusal;
use crate::client::Client;
use crate::progress::Patience;
use crate::vm::Vm;

/// Tries, and if that is over the budget evicts idle vms of `client` other than `vm` and tries once
/// more.
///
/// # Errors
///
/// The [`Refusal`] of the last attempt.
pub(crate) fn retry(
    client: &Client,
    vm: &Arc<Vm>,
    mut attempt: impl FnMut() -> Result<(), Refusal>,
) -> Result<(), Refusal> {
    match attempt() {
        Err(refusal) if refusal.is_over_budget() && evict_idle(client, vm)? => attempt(),
        outcome => outcome,
    }
}

/// Evicts every other vm of the file that is idle; says whether anything went. No vm waits for more
/// than its part of the time, so that a busy one does not keep the next from being looked at.
///
/// # Errors
///
/// `EINTR` if killed, `ENODEV`, `ENOMEM`.
fn evict_idle(client: &Client, vm: &Arc<Vm>) -> Result<bool, Refusal> {
    let mut any = false;
    let vms = client.vms()?;
    let mut patience = Patience::new()?;
    for (at, other) in vms.iter().enumerate() {
        if Arc::ptr_eq(other, vm) {
            continue;
        }
        if !patience.share(vms.len() - at) {
            break;
        }
        match other.evict_if_idle(&patience) {
            Ok(evicted) => any |= evicted,
            // The caller, or everybody, is going.
            Err(error) if error.errno == EINTR || error.errno == ENODEV => return Err(error.into()),
            // It failed: nothing to get there.
            Err(_) => {}
        }
    }
    Ok(any)
}
