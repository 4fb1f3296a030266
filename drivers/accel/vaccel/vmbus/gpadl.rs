// SPDX-License-Identifier: GPL-2.0-only

//! GPADLs: memory of the guest that the host knows by a handle.
//!
//! C header: [`include/linux/hyperv.h`](srctree/include/linux/hyperv.h)

use core::mem::ManuallyDrop;

use kernel::{
    error::to_result,
    prelude::*,
    sync::Arc, //
};

use super::{
    Channel,
    ChannelCallback, //
};
use crate::{
    bindings,
    mm::KernelBuffer, //
};

/// A buffer the host has access to.
///
/// Dropping it takes the handle back, waits for the host's acknowledgement and then drops the
/// buffer. If the host cannot be told, the buffer is leaked: the host may still write to it. When
/// the channel was closed before, the host has let go.
///
/// # Invariants
///
/// The buffer was given to the host through `channel`, by `raw`.
pub struct Gpadl<B: KernelBuffer, C: ChannelCallback> {
    channel: Arc<Channel<C>>,
    raw: bindings::vmbus_gpadl,
    buffer: ManuallyDrop<B>,
}

impl<B: KernelBuffer, C: ChannelCallback> Gpadl<B, C> {
    /// Gives the host access to `buffer`. Sleeps until the host answers.
    ///
    /// # Errors
    ///
    /// `ENODEV` if the channel is closed or the host took its offer back, `EDQUOT` if it refuses,
    /// `EINVAL` for a buffer of 4 GiB or more, `ENOMEM`.
    pub fn establish(channel: Arc<Channel<C>>, buffer: B) -> Result<Self> {
        let size = u32::try_from(buffer.size()).map_err(|_| EINVAL)?;
        let dev = channel.device().ok_or(ENODEV)?;
        let mut buffer = ManuallyDrop::new(buffer);
        let mut raw = bindings::vmbus_gpadl::default();

        let ret = {
            let _one = channel.gpadls.lock();
            // SAFETY:
            // - The channel lives as long as the device.
            // - The buffer is as `KernelBuffer` promises, and it is dropped only after the host gave
            //   it back.
            to_result(unsafe {
                bindings::vmbus_establish_gpadl(dev.channel(), buffer.as_ptr(), size, &mut raw)
            })
        };
        if let Err(e) = ret {
            // In a confidential VM `decrypted` says that the pages could not be taken back.
            if !raw.decrypted {
                // SAFETY: The buffer is not used after this.
                unsafe { ManuallyDrop::drop(&mut buffer) };
            }
            return Err(e);
        }

        // INVARIANT: The host knows the buffer by `raw`.
        Ok(Self {
            channel,
            raw,
            buffer,
        })
    }

    /// The handle by which the host knows the buffer.
    pub fn handle(&self) -> u32 {
        self.raw.gpadl_handle
    }

    /// The buffer.
    pub fn buffer(&self) -> &B {
        &self.buffer
    }

    /// Whether the host let go of the buffer.
    fn take_back(&mut self) -> bool {
        let Some(dev) = self.channel.device() else {
            return !self.raw.decrypted;
        };
        let _one = self.channel.gpadls.lock();
        // SAFETY: By the type invariants the GPADL belongs to this channel, which lives as long as
        // the device.
        let ret = unsafe { bindings::vmbus_teardown_gpadl(dev.channel(), &mut self.raw) };

        // The function forgets the handle when the host acknowledged; it does not report a message
        // that could not be sent in any other way. After a rescind the host has let go.
        let returned = self.raw.gpadl_handle == 0 || dev.rescinded();
        ret == 0 && returned && !self.raw.decrypted
    }
}

impl<B: KernelBuffer, C: ChannelCallback> Drop for Gpadl<B, C> {
    fn drop(&mut self) {
        if self.take_back() {
            // SAFETY: The buffer is not used after this.
            unsafe { ManuallyDrop::drop(&mut self.buffer) };
        } else {
            pr_err!(
                "GPADL {:#x} could not be taken back, its memory is lost\n",
                self.raw.gpadl_handle
            );
        }
    }
}

// SAFETY: A GPADL belongs to no thread, and the buffer is `Send`.
unsafe impl<B: KernelBuffer, C: ChannelCallback> Send for Gpadl<B, C> {}

// SAFETY: Shared, it gives access to the handle, which does not change, and to the shared buffer.
unsafe impl<B: KernelBuffer + Sync, C: ChannelCallback> Sync for Gpadl<B, C> {}
