// SPDX-License-Identifier: MIT OR Apache-2.0
//! What most cases start from: an open file with one object of each kind.

use std::path::Path;

use libvaccel::compute::Session;
use libvaccel::{
    ArgBo, BindFlags, Binding, Bo, BoOptions, Deadline, Device, Fence, FenceFlags, Queue,
    QueueMode, QueueOptions, Vm, VmFlags,
};
use vaccel_isa::CommandStream;

/// Why a case did not pass.
#[derive(Debug)]
pub enum Problem {
    /// Something is wrong.
    Failed(String),
    /// It is not possible on this driver or host.
    Skipped(String),
}

/// Result of a case, or of a part of one.
pub type Result<T = ()> = std::result::Result<T, Problem>;

impl From<libvaccel::Error> for Problem {
    fn from(error: libvaccel::Error) -> Self {
        Self::Failed(error.to_string())
    }
}

impl From<std::io::Error> for Problem {
    fn from(error: std::io::Error) -> Self {
        Self::Failed(error.to_string())
    }
}

/// A failed case.
pub fn failed<T>(reason: impl Into<String>) -> Result<T> {
    Err(Problem::Failed(reason.into()))
}

/// A condition that must hold.
pub fn ensure(condition: bool, otherwise: impl Into<String>) -> Result {
    if condition {
        Ok(())
    } else {
        failed(otherwise)
    }
}

/// Size of the rig's objects.
pub const SIZE: u64 = 4 * 4096;

/// One object of each kind.
#[derive(Debug)]
pub struct Rig {
    /// Argument object, zeroed.
    pub arg: ArgBo,
    /// The whole of `bo`, writable.
    pub binding: Binding,
    /// Guest memory of [`SIZE`] bytes.
    pub bo: Bo,
    /// Fence at 0.
    pub fence: Fence,
    /// Bounded queue.
    pub queue: Queue,
    /// The vm of all these.
    pub vm: Vm,
    /// The file.
    pub device: Device,
}

impl Rig {
    /// Opens the node and makes the objects.
    pub fn new(node: &Path) -> Result<Self> {
        let device = Device::open(node)?;
        let vm = device.create_vm(VmFlags::empty())?;
        let queue = vm.create_queue(&QueueOptions::new(QueueMode::Bounded))?;
        let fence = vm.create_fence(FenceFlags::empty(), 0)?;
        let bo = vm.create_bo(&BoOptions::new(SIZE))?;
        let binding = bo.bind(BindFlags::WRITE)?;
        let arg = device.create_arg_bo(SIZE)?;
        Ok(Self {
            arg,
            binding,
            bo,
            fence,
            queue,
            vm,
            device,
        })
    }
}

/// Generous, since nested emulation is slow.
pub fn soon() -> Deadline {
    Deadline::after_secs(60)
}

/// Computes something on a fresh session and checks it: the device still works.
pub fn check_device_works(device: &Device) -> Result {
    const WORD: u32 = 0x7e57_ab1e;
    let mut session = Session::new(device)?;
    let buffer = session.buffer(64)?;
    let mut stream = CommandStream::new();
    stream.fill_words(buffer.gpu_va(), 64, WORD);
    session.run(stream, soon())?;
    let words = buffer.read_u32(16)?;
    ensure(
        words == [WORD; 16],
        "the device computes something else afterwards",
    )
}
