// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a program does while the host misbehaves: between them these operations have the driver send
//! each of its commands.
//!
//! Each opens the node anew, ends at the first error, and gives back what it has. Nothing in them waits
//! for longer than [`PATIENCE`] but for the driver itself.

use std::os::fd::AsFd;
use std::path::Path;
use std::time::Duration;

use libvaccel::{
    BindFlags, BindOptions, Binding, Bo, BoOptions, Deadline, Device, Error, ErrorKind, Fence,
    FenceFlags, OfferPriority, Priority, QueueMode, QueueOptions, ReserveOptions, Result, Segment,
    Submission, SyncFlags, SyncObjWait, Vm, VmFlags,
};
use vaccel_isa::{CommandStream, ADAPTER_INFO_BYTES};

use crate::rig::SIZE;

/// How long an operation waits for a fence.
const PATIENCE: Duration = Duration::from_secs(3);
/// How long a job runs that is given up.
const HANG_NS: u64 = 2_000_000_000;
/// After how long it is.
const GIVEN_UP: Duration = Duration::from_millis(100);
/// D3DKMT type of the adapter query that tells the ISA.
const UMD_PRIVATE: u32 = 0;
/// What jobs write.
const WORD: u32 = 0x7e57_ab1e;

/// Something that a program does with a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// A job, from opening the node to its verified result.
    Job,
    /// Waits and signals, by CPU and by queue.
    Fences,
    /// A fence that is shared with another file.
    SharedFence,
    /// Memory of the host: mapped, made coherent, shared with another file.
    HostMemory,
    /// Memory that is made resident, evicted, offered and reclaimed by hand.
    Residency,
    /// Reserved addresses, bound and unbound by queue.
    Addresses,
    /// Budget, reservation of memory, adapter queries, an escape.
    Queries,
    /// A job that hangs, and is given up by the watchdog.
    Hang,
}

impl Operation {
    /// All of them.
    pub const ALL: &[Self] = &[
        Self::Job,
        Self::Fences,
        Self::SharedFence,
        Self::HostMemory,
        Self::Residency,
        Self::Addresses,
        Self::Queries,
        Self::Hang,
    ];

    /// Does it, up to the first error.
    pub fn run(self, node: &Path) -> Result<()> {
        let device = Device::open(node)?;
        match self {
            Self::Job => job(&device),
            Self::Fences => fences(&device),
            Self::SharedFence => shared_fence(&device, node),
            Self::HostMemory => host_memory(&device, node),
            Self::Residency => residency(&device),
            Self::Addresses => addresses(&device),
            Self::Queries => queries(&device),
            Self::Hang => hang(&device),
        }
    }
}

fn soon() -> Deadline {
    Deadline::after(PATIENCE)
}

/// A result that is not the right one.
fn wrong(what: &'static str) -> Error {
    Error::local(ErrorKind::Other, what, "the result is wrong")
}

fn ensure(right: bool, what: &'static str) -> Result<()> {
    if right {
        Ok(())
    } else {
        Err(wrong(what))
    }
}

/// A command stream in memory of a vm.
struct Code {
    binding: Binding,
    size: u32,
}

impl Code {
    fn new(vm: &Vm, stream: CommandStream) -> Result<Self> {
        let bytes = stream.finish().map_err(|_| wrong("command stream"))?;
        let bo = vm.create_bo(&BoOptions::new(SIZE))?;
        bo.map()?.write(0, &bytes)?;
        let binding = bo.bind(BindFlags::EXECUTE)?;
        // CAST: the stream fits the object, or the copy above failed.
        let size = bytes.len() as u32;
        Ok(Self { binding, size })
    }

    fn run(&self) -> Submission {
        Submission::new().exec(self.binding.gpu_va(), self.size)
    }
}

fn vm(device: &Device) -> Result<Vm> {
    device.create_vm(VmFlags::empty())
}

fn fence(vm: &Vm) -> Result<Fence> {
    vm.create_fence(FenceFlags::empty(), 0)
}

/// Has a job write [`WORD`] to an address, and waits for it.
fn write_word(vm: &Vm, gpu_va: u64) -> Result<()> {
    let queue = vm.create_queue(&QueueOptions::new(QueueMode::Bounded))?;
    let done = fence(vm)?;
    let mut stream = CommandStream::new();
    stream.fill_words(gpu_va, 4, WORD);
    let code = Code::new(vm, stream)?;
    queue.submit(&code.run().done(&done, 1))?;
    done.wait(1, soon())?;
    ensure(vm.query()?.fault.is_none(), "VM_QUERY")?;
    queue.close()
}

fn has_word(bo: &Bo) -> Result<bool> {
    let mut bytes = [0; 4];
    bo.map()?.read(0, &mut bytes)?;
    Ok(bytes == WORD.to_le_bytes())
}

fn job(device: &Device) -> Result<()> {
    let vm = vm(device)?;
    let bo = vm.create_bo(&BoOptions::new(SIZE))?;
    let binding = bo.bind(BindFlags::WRITE)?;
    write_word(&vm, binding.gpu_va())?;
    ensure(has_word(&bo)?, "a job")?;
    binding.close()?;
    bo.close()?;
    vm.close()
}

fn fences(device: &Device) -> Result<()> {
    let vm = vm(device)?;
    // Long, so that the wait travels to the host as well.
    let queue = vm.create_queue(&QueueOptions::new(QueueMode::LongRunning).priority(1))?;
    let (gate, done) = (fence(&vm)?, fence(&vm)?);
    queue.submit(&Submission::new().wait(&gate, 1).signal(&done, 1))?;
    let waited = std::thread::scope(|scope| {
        // It sleeps before the gate is opened, and so has to be told.
        let waiter = scope.spawn(|| done.wait(1, soon()));
        std::thread::sleep(Duration::from_millis(20));
        gate.signal(1)?;
        waiter.join().map_err(|_| wrong("FENCE_WAIT"))?
    })?;
    ensure(waited.value == 1, "FENCE_WAIT")?;
    done.close()?;
    gate.close()?;
    queue.close()?;
    vm.close()
}

fn shared_fence(device: &Device, node: &Path) -> Result<()> {
    let vm = vm(device)?;
    let ours = vm.create_fence(FenceFlags::SHAREABLE, 0)?;
    let descriptor = ours.to_fd(false)?;
    let other = Device::open(node)?;
    let other_vm = self::vm(&other)?;
    let theirs = other_vm.open_fence(descriptor.as_fd())?;
    theirs.signal(1)?;
    ours.wait(1, soon())?;
    theirs.close()?;
    ours.close()
}

fn host_memory(device: &Device, node: &Path) -> Result<()> {
    let vm = vm(device)?;
    let bo = vm.create_bo(&BoOptions::host(SIZE).shareable())?;
    let binding = bo.bind(BindFlags::WRITE)?;
    write_word(&vm, binding.gpu_va())?;
    bo.sync(SyncFlags::FOR_CPU, 0..SIZE)?;
    ensure(has_word(&bo)?, "a job on memory of the host")?;
    let dma_buf = bo.export()?;
    let other = Device::open(node)?;
    let theirs = other.import(dma_buf.as_fd())?;
    let other_vm = self::vm(&other)?;
    let bound = other_vm.bind(&theirs, &BindOptions::new(BindFlags::empty()))?;
    bound.close()?;
    theirs.close()?;
    binding.close()?;
    bo.close()
}

fn residency(device: &Device) -> Result<()> {
    let vm = device.create_vm(VmFlags::MANUAL_RESIDENCY)?;
    let bo = vm.create_bo(&BoOptions::new(SIZE))?;
    vm.make_resident(&[&bo])?.wait(soon())?;
    vm.evict(&[&bo])?;
    vm.set_priority(&[&bo], Priority::HIGH)?;
    vm.offer(&[&bo], OfferPriority::Normal, false)?;
    vm.reclaim(&[&bo])?;
    bo.close()?;
    vm.close()
}

fn addresses(device: &Device) -> Result<()> {
    let vm = vm(device)?;
    let reservation = vm.reserve(2 * SIZE, &ReserveOptions::new().zero())?;
    let bo = vm.create_bo(&BoOptions::new(SIZE))?;
    reservation.bind(0, &bo, 0..SIZE, BindFlags::WRITE)?;
    write_word(&vm, reservation.gpu_va())?;
    ensure(has_word(&bo)?, "a job on a reservation")?;
    reservation.unbind(0..SIZE)?;
    let queue = vm.create_queue(&QueueOptions::new(QueueMode::Bounded))?;
    let done = fence(&vm)?;
    let list = Submission::new()
        .bind(&reservation, SIZE, &bo, 0..SIZE, BindFlags::WRITE)
        .unbind(&reservation, SIZE..2 * SIZE);
    queue.submit(&list.signal(&done, 1))?;
    done.wait(1, soon())?;
    queue.close()?;
    reservation.close()?;
    done.close()?;
    bo.close()?;
    vm.close()
}

fn queries(device: &Device) -> Result<()> {
    // Not `Device::isa`, which takes a refusal for a host that does not speak the ISA.
    device.query_host(UMD_PRIVATE, &mut [0; ADAPTER_INFO_BYTES])?;
    device.escape(0, &mut [0; 64])?;
    for segment in [Segment::Local, Segment::NonLocal] {
        device.budget(segment)?;
        device.set_reservation(segment, 0)?;
    }
    Ok(())
}

fn hang(device: &Device) -> Result<()> {
    let vm = vm(device)?;
    let queue = vm.create_queue(&QueueOptions::new(QueueMode::Bounded).timeout(GIVEN_UP))?;
    let mut stream = CommandStream::new();
    stream.spin(HANG_NS);
    let code = Code::new(&vm, stream)?;
    let syncobj = device.create_syncobj(false)?;
    queue.submit(&code.run().out_syncobj(&syncobj, 0))?;
    syncobj.wait(0, Deadline::after(2 * PATIENCE), SyncObjWait::empty())
}
