// SPDX-License-Identifier: GPL-2.0-only

//! What works in the background, for all adapters.

use kernel::prelude::*;
use kernel::sync::Arc;

use crate::alarm::Alarms;
use crate::dma_fence;
use crate::kthread::Thread;
use crate::workqueue::{
    Flags,
    OwnedQueue, //
};

/// The background, as adapters know it.
#[derive(Clone)]
pub(crate) struct Background {
    /// Where what is left is given back: may wait for the host for as long as it takes.
    pub(crate) reapers: Arc<OwnedQueue>,
    /// Where dma_fences and imports are looked after. Nothing in it waits without a limit, and it has a
    /// rescuer: dma_fences depend on it.
    pub(crate) workers: Arc<OwnedQueue>,
    /// Where watches are looked after: allocates as usual and waits for the host, so no dma_fence may
    /// depend on it.
    pub(crate) watchers: Arc<OwnedQueue>,
    pub(crate) alarms: Arc<Alarms>,
}

/// The background, as the module keeps it. No adapter is left when it is dropped, and no open file.
pub(crate) struct Running {
    background: Background,
    thread: Option<Thread>,
}

impl Running {
    /// Starts it.
    ///
    /// # Errors
    ///
    /// `ENOMEM`, those of [`Alarms::start`].
    pub(crate) fn start() -> Result<Self> {
        let queue = |name, mem_reclaim| {
            let flags = Flags {
                mem_reclaim,
                unbound: true,
            };
            Ok::<_, Error>(Arc::new(OwnedQueue::new(name, flags, 0)?, GFP_KERNEL)?)
        };
        let (reapers, workers) = (
            queue(c"vaccel-reaper", true)?,
            queue(c"vaccel-fence", true)?,
        );
        let watchers = queue(c"vaccel-watch", false)?;
        let (alarms, thread) = Alarms::start()?;
        Ok(Self {
            background: Background {
                reapers,
                workers,
                watchers,
                alarms,
            },
            thread: Some(thread),
        })
    }

    /// What adapters get.
    pub(crate) fn background(&self) -> Background {
        self.background.clone()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // What rings queues work; what works has watches looked at, and queues what is to be given back.
        drop(self.thread.take());
        self.background.workers.flush();
        self.background.watchers.flush();
        self.background.reapers.flush();
        // Fences that have signalled may still be asked for their names.
        dma_fence::synchronize();
    }
}
