// SPDX-License-Identifier: MIT OR Apache-2.0
//! What most cases start from: an open file with one object of each kind.

use std::path::Path;
use std::time::{Duration, Instant};

use libvaccel::compute::Session;
use libvaccel::{
    ArgBo, BindFlags, Binding, Bo, BoOptions, Deadline, Device, ErrorKind, Features, Fence,
    FenceFlags, Mapping, Queue, QueueMode, QueueOptions, Vm, VmFlags,
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

/// An operation that must fail, and how.
pub fn fails<T>(what: &str, outcome: libvaccel::Result<T>, kind: ErrorKind) -> Result {
    match outcome {
        Err(error) if error.kind() == kind => Ok(()),
        Err(error) => failed(format!("{what}: {error}, expected {kind:?}")),
        Ok(_) => failed(format!("{what}: accepted, expected {kind:?}")),
    }
}

/// Skips unless the driver announces all of `features`.
pub fn needs(device: &Device, features: Features) -> Result {
    let missing = features.difference(device.features()?);
    if missing.is_empty() {
        return Ok(());
    }
    let names: Vec<&str> = missing.iter_names().map(|(name, _)| name).collect();
    Err(Problem::Skipped(format!(
        "the driver lacks {}",
        names.join(", ")
    )))
}

/// Opens a node, and skips unless the driver announces all of `features`.
pub fn open_with(node: &Path, features: Features) -> Result<Device> {
    let device = Device::open(node)?;
    needs(&device, features)?;
    Ok(device)
}

/// A condition that must come true soon: what is given up may still be on its way out.
pub fn eventually(otherwise: &str, mut condition: impl FnMut() -> Result<bool>) -> Result {
    let end = Instant::now() + Duration::from_secs(10);
    while !condition()? {
        if Instant::now() >= end {
            return failed(otherwise);
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

/// Numbers without a pattern that are the same in every run.
#[derive(Clone, Copy, Debug)]
pub struct Numbers(pub u64);

impl Numbers {
    /// The next one, below `limit`.
    pub fn below(&mut self, limit: u64) -> u64 {
        // Knuth's MMIX generator; its high bits are the good ones.
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit.max(1)
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

/// The word at each address, as a job sees it.
pub fn gpu_words(session: &mut Session, addresses: &[u64]) -> Result<Vec<u32>> {
    let out = session.buffer(addresses.len() as u64 * 4)?;
    if session.vm().is_manual() {
        session.vm().make_resident(&[out.bo()])?.wait(soon())?;
    }
    let mut stream = CommandStream::new();
    for (place, address) in (out.gpu_va()..).step_by(4).zip(addresses) {
        stream.copy(place, *address, 4);
    }
    session.run(stream, soon())?;
    let words = out.read_u32(addresses.len())?;
    out.close()?;
    Ok(words)
}

/// Writes `word` at an address, by a job.
pub fn gpu_set(session: &mut Session, address: u64, word: u32) -> Result {
    let mut stream = CommandStream::new();
    stream.fill_words(address, 4, word);
    session.run(stream, soon())?;
    Ok(())
}

/// Marks each page of a mapping with a number of its own: `first`, `first + 1`, and so on.
pub fn mark_pages(mapping: &Mapping, first: u32) -> Result {
    for (offset, word) in (0..mapping.len()).step_by(4096).zip(first..) {
        mapping.write(offset, &word.to_le_bytes())?;
    }
    Ok(())
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
