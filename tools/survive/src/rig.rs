// SPDX-License-Identifier: MIT OR Apache-2.0
//! One open file with an object of each kind: what the operations are done to.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use anyhow::{ensure, Context as _, Result};
use libvaccel::compute::{Buffer, Session};
use libvaccel::ioctl::{self, call, syncobj, Errno, Operation};
use libvaccel::{
    sys, ArgBo, Bo, BoOptions, Deadline, Device, EventFd, Fence, FenceFlags, Queue, QueueMode,
    QueueOptions, Reservation, ReserveOptions, Vm, VmFlags,
};
use vaccel_isa::{AllocationData, CommandStream, Segment};

/// Bytes of an object, and of the part of the argument object that a row uses.
pub const SIZE: u64 = 4 * 4096;
/// Bytes of the argument object.
const ARG_SIZE: u64 = 64 * 1024;
/// Where in the argument object the driver data of a host allocation is, in bytes.
pub const PRIVATE: u64 = 32 * 1024;

/// The objects. All of them go with the file.
#[derive(Debug)]
pub struct Rig {
    /// Argument object.
    pub arg: ArgBo,
    /// Command stream that runs at once, bound.
    pub code: Buffer,
    /// Its bytes.
    pub code_size: u32,
    /// Guest memory of the first vm.
    pub bo: Bo,
    /// Addresses of the first vm, in which nothing is bound.
    pub reservation: Reservation,
    /// Fence of the first vm, at 0.
    pub fence: Fence,
    /// The same, as a file descriptor.
    pub fence_fd: OwnedFd,
    /// Queue on which anything may be waited for.
    pub long: Queue,
    /// Vm that keeps nothing resident.
    pub manual: Vm,
    /// To be signalled by a fence.
    pub event: EventFd,
    /// The first vm, with a bounded queue.
    pub session: Session,
    /// The file.
    pub device: Device,
}

impl Rig {
    /// Opens the node and makes the objects.
    ///
    /// # Errors
    ///
    /// What a call has failed with; the operations themselves are not judged here.
    pub fn new(node: &Path) -> Result<Self> {
        let device = Device::open(node)?;
        let session = Session::new(&device)?;
        let vm = session.vm().clone();
        let manual = device.create_vm(VmFlags::MANUAL_RESIDENCY)?;
        let long = vm.create_queue(&QueueOptions::new(QueueMode::LongRunning))?;
        let fence = vm.create_fence(FenceFlags::SHAREABLE, 0)?;
        let mut arg = sys::FenceFd {
            fence: fence.handle(),
            ..Default::default()
        };
        let fence_fd = ioctl::descriptor::fence_to_fd(device.as_fd(), &mut arg).map_err(os)?;
        let bo = vm.create_bo(&BoOptions::new(SIZE))?;
        let reservation = vm.reserve(4 * SIZE, &ReserveOptions::new().zero())?;
        let code = session.code_buffer(4096)?;
        let mut stream = CommandStream::new();
        stream.nop();
        let bytes = stream.finish().context("command stream")?;
        code.mapping().write(0, &bytes)?;
        let arg = device.create_arg_bo(ARG_SIZE)?;
        let data = AllocationData {
            size: SIZE,
            segment: Segment::Local,
        };
        arg.mapping().write(PRIVATE as usize, &data.to_bytes())?;
        Ok(Self {
            arg,
            code,
            code_size: u32::try_from(bytes.len())?,
            bo,
            reservation,
            fence,
            fence_fd,
            long,
            manual,
            event: EventFd::new()?,
            session,
            device,
        })
    }

    /// The file.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.device.as_fd()
    }

    /// The first vm.
    pub fn vm(&self) -> u32 {
        self.session.vm().handle()
    }

    /// The bounded queue.
    pub fn queue(&self) -> u32 {
        self.session.queue().handle()
    }

    /// Does an operation that has to succeed.
    ///
    /// # Errors
    ///
    /// Its errno, with its name.
    pub fn call<O: Operation>(&self, mut arg: O::Arg) -> Result<O::Arg> {
        call::<O>(self.fd(), &mut arg)
            .map_err(os)
            .context(O::NAME)?;
        Ok(arg)
    }

    /// Writes to the argument object.
    ///
    /// # Errors
    ///
    /// The bytes do not fit.
    pub fn put(&self, offset: u64, bytes: &[u8]) -> Result<()> {
        self.arg.mapping().write(usize::try_from(offset)?, bytes)?;
        Ok(())
    }

    /// A vm that goes with the file.
    ///
    /// # Errors
    ///
    /// As [`Rig::call`], also of the functions below.
    pub fn make_vm(&self) -> Result<u32> {
        Ok(self.call::<ioctl::VmCreate>(sys::VmCreate::default())?.vm)
    }

    /// A bounded queue of the first vm that goes with the file.
    ///
    /// # Errors
    ///
    /// As [`Rig::call`].
    pub fn make_queue(&self) -> Result<u32> {
        let arg = sys::QueueCreate {
            vm: self.vm(),
            ..Default::default()
        };
        Ok(self.call::<ioctl::QueueCreate>(arg)?.queue)
    }

    /// Guest memory of a vm that goes with the file.
    ///
    /// # Errors
    ///
    /// As [`Rig::call`].
    pub fn make_bo(&self, vm: u32) -> Result<u32> {
        let arg = sys::BoCreate {
            size: SIZE,
            vm,
            ..Default::default()
        };
        Ok(self.call::<ioctl::BoCreate>(arg)?.bo)
    }

    /// A fence of the first vm, at 0, that goes with the file.
    ///
    /// # Errors
    ///
    /// As [`Rig::call`].
    pub fn make_fence(&self) -> Result<u32> {
        let arg = sys::FenceCreate {
            vm: self.vm(),
            flags: sys::FENCE_SHAREABLE,
            ..Default::default()
        };
        Ok(self.call::<ioctl::FenceCreate>(arg)?.fence)
    }

    /// A syncobj that goes with the file.
    ///
    /// # Errors
    ///
    /// Its errno.
    pub fn make_syncobj(&self, signalled: bool) -> Result<u32> {
        syncobj::create(self.fd(), signalled)
            .map_err(os)
            .context("SYNCOBJ_CREATE")
    }

    /// An address where a new object is bound.
    ///
    /// # Errors
    ///
    /// As [`Rig::call`].
    pub fn make_binding(&self) -> Result<u64> {
        let arg = sys::Bind {
            vm: self.vm(),
            bo: self.make_bo(self.vm())?,
            size: SIZE,
            ..Default::default()
        };
        Ok(self.call::<ioctl::Bind>(arg)?.gpu_va)
    }
}

/// An errno as an error with a source.
pub fn os(errno: Errno) -> std::io::Error {
    std::io::Error::from_raw_os_error(errno.0)
}

/// Computes something in a new file and looks at the result: the device still works.
///
/// # Errors
///
/// It does not.
pub fn check_device_works(node: &Path) -> Result<()> {
    const WORD: u32 = 0x7e57_ab1e;
    let device = Device::open(node).context("the device afterwards")?;
    let mut session = Session::new(&device).context("the device afterwards")?;
    let buffer = session.buffer(64)?;
    let mut stream = CommandStream::new();
    stream.fill_words(buffer.gpu_va(), 64, WORD);
    session
        .run(stream, Deadline::after_secs(30))
        .context("a job afterwards")?;
    ensure!(
        buffer.read_u32(16)? == [WORD; 16],
        "the device computes something else afterwards"
    );
    Ok(())
}
