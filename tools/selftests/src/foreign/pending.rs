// SPDX-License-Identifier: MIT OR Apache-2.0
//! Fences of other drivers that have not signalled, whatever there is on this kernel.

use super::sw_sync::SwSync;
use super::sync_file::SyncFile;
use super::{export_sync_file, Vgem, Waits};
use crate::rig::{Problem, Result};

/// A fence that signals when it is told to.
#[derive(Debug)]
pub struct Pending {
    file: SyncFile,
    source: Source,
}

#[derive(Debug)]
enum Source {
    SwSync(SwSync),
    /// A fence on an object of vgem, which signals by itself after 10 s or when the node is closed.
    Vgem(u32, Vgem),
}

impl Pending {
    /// One of sw_sync.
    pub fn of_sw_sync() -> Result<Self> {
        let timeline = SwSync::open()?;
        Ok(Self {
            file: timeline.fence(1)?,
            source: Source::SwSync(timeline),
        })
    }

    /// One of vgem.
    pub fn of_vgem() -> Result<Self> {
        let vgem = Vgem::open()?;
        let buffer = vgem.buffer(4096)?;
        let fence = vgem.attach(buffer.handle, true)?;
        Ok(Self {
            file: export_sync_file(buffer.dma_buf(), Waits::ForWriters)?,
            source: Source::Vgem(fence, vgem),
        })
    }

    /// One of each kind that there is; skips where there is none.
    pub fn each() -> Result<Vec<Self>> {
        let mut all = Vec::new();
        for made in [Self::of_vgem(), Self::of_sw_sync()] {
            match made {
                Ok(fence) => all.push(fence),
                Err(Problem::Skipped(_)) => {}
                Err(problem) => return Err(problem),
            }
        }
        if all.is_empty() {
            let reason = "neither vgem nor sw_sync is there to make a fence";
            return Err(Problem::Skipped(reason.into()));
        }
        Ok(all)
    }

    /// One of any kind.
    pub fn any() -> Result<Self> {
        match Self::of_vgem() {
            Err(Problem::Skipped(_)) => Self::of_sw_sync(),
            made => made,
        }
    }

    /// The fence.
    pub const fn file(&self) -> &SyncFile {
        &self.file
    }

    /// Signals it.
    pub fn signal(&self) -> Result {
        match &self.source {
            Source::SwSync(timeline) => timeline.advance(1),
            Source::Vgem(fence, vgem) => vgem.signal(*fence),
        }
    }
}
