// SPDX-License-Identifier: MIT OR Apache-2.0
//! The file that input is given to.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

use anyhow::Result;
use libvaccel::ioctl::descriptor;
use libvaccel::ring::raw::{Ring, Setup};
use libvaccel::{BoOptions, Deadline};

use super::fields::Pool;
use super::{ioctls, lists, rings, Input, Kind, Outcome};
use crate::numbers::Numbers;
use crate::rig::{os, Rig, SIZE};

/// A file with what can be named in it.
#[derive(Debug)]
pub struct Target {
    kind: Kind,
    /// What can be named.
    pub pool: Pool,
    /// Ring for commands.
    pub ring: Option<Ring>,
    _sync_file: OwnedFd,
    _host_memory: libvaccel::Bo,
    /// The objects.
    pub rig: Rig,
}

impl Target {
    /// Opens the node and makes objects.
    pub fn new(node: &Path, kind: Kind) -> Result<Self> {
        let rig = Rig::new(node)?;
        let sync_file = descriptor::sync_file(rig.fd(), rig.fence.handle(), 0).map_err(os)?;
        let host_memory = rig.session.vm().create_bo(&BoOptions::host(SIZE))?;
        let pool = Pool {
            vms: vec![rig.vm(), rig.manual.handle()],
            queues: vec![rig.queue(), rig.long.handle()],
            fences: vec![rig.fence.handle(), rig.make_fence()?],
            objects: vec![
                rig.bo.handle(),
                host_memory.handle(),
                rig.make_bo(rig.manual.handle())?,
            ],
            arguments: rig.arg.handle(),
            syncobjs: vec![rig.make_syncobj(true)?, rig.make_syncobj(false)?],
            fds: vec![
                rig.event.as_fd().as_raw_fd(),
                rig.fence_fd.as_raw_fd(),
                sync_file.as_raw_fd(),
            ],
            addresses: vec![rig.reservation.gpu_va(), rig.code.gpu_va()],
        };
        Ok(Self {
            kind,
            pool,
            ring: match kind {
                Kind::Ring => Some(Ring::new(&Setup::default())?),
                _ => None,
            },
            _sync_file: sync_file,
            _host_memory: host_memory,
            rig,
        })
    }

    /// New input.
    pub fn make(&self, numbers: &mut Numbers) -> Input {
        match self.kind {
            Kind::Ioctl => ioctls::make(numbers, &self.pool),
            Kind::Ops => lists::make(numbers, &self.pool, self.rig.code_size),
            Kind::Ring => rings::make(numbers, &self.pool),
        }
    }

    /// Input that is a little different.
    pub fn mutate(&self, numbers: &mut Numbers, input: Input) -> Input {
        match self.kind {
            Kind::Ioctl => ioctls::mutate(numbers, &self.pool, input),
            Kind::Ops => lists::mutate(numbers, &self.pool, input),
            Kind::Ring => rings::mutate(numbers, &self.pool, input),
        }
    }

    /// Gives it to the driver.
    pub fn run(&mut self, input: &Input) -> Result<Outcome> {
        match self.kind {
            Kind::Ioctl => ioctls::run(self, input),
            Kind::Ops => lists::run(self, input),
            Kind::Ring => rings::run(self, input),
        }
    }

    /// It, so that it can be read.
    pub fn describe(&self, input: &Input) -> String {
        format!("{} {:x?}", self.kind.name(), input.0)
    }
}

/// A deadline that is soon.
pub fn soon() -> u64 {
    Deadline::after(std::time::Duration::from_millis(1)).as_ns()
}
