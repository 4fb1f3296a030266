// SPDX-License-Identifier: MIT OR Apache-2.0
//! Running command streams of the open compute ISA: one vm, one queue, one fence.
//!
//! A [`Session`] launches streams in order; each launch raises the session's fence by one, which is
//! the [`Ticket`] to wait for. Buffers are memory, of the guest
//! unless asked for otherwise, that the accelerator reads and writes and that the CPU copies to and
//! from. A buffer must outlive the work that uses it: dropping one
//! earlier ends its binding, and the work then faults (which the vm reports; memory stays safe).

use std::collections::VecDeque;
use std::time::Duration;

use vaccel_isa::CommandStream;

use crate::binding::Binding;
use crate::bo::{Bo, BoOptions};
use crate::deadline::Deadline;
use crate::device::Device;
use crate::error::{Error, ErrorKind, Result};
use crate::fence::Fence;
use crate::flags::{BindFlags, FenceFlags, VmFlags};
use crate::info::Segment;
use crate::mapping::Mapping;
use crate::queue::{Queue, QueueMode, QueueOptions};
use crate::submission::Submission;
use crate::sys;
use crate::vm::{State, Vm};

/// How long a session that is dropped waits for its work.
const DRAIN: Duration = Duration::from_secs(5);

/// Device-visible memory with its address and its CPU mapping.
#[derive(Debug)]
#[must_use = "work that uses the buffer faults once it is dropped"]
pub struct Buffer {
    // In this order: unmapped, unbound, then closed with the binding's object.
    mapping: Mapping,
    binding: Binding,
    bo: Bo,
    bytes: u64,
}

/// Whole pages that hold `bytes`.
fn pages(bytes: u64) -> u64 {
    let page = u64::from(sys::limit::PAGE_SIZE);
    bytes.max(1).div_ceil(page).saturating_mul(page)
}

impl Buffer {
    fn new(vm: &Vm, options: &BoOptions, bytes: u64, access: BindFlags) -> Result<Self> {
        let bo = vm.create_bo(options)?;
        let mapping = bo.map()?;
        let binding = bo.bind(access)?;
        Ok(Self {
            mapping,
            binding,
            bo,
            bytes,
        })
    }

    /// GPU address of the first byte.
    pub const fn gpu_va(&self) -> u64 {
        self.binding.gpu_va()
    }

    /// Bytes that were asked for.
    pub const fn len(&self) -> u64 {
        self.bytes
    }

    /// True for a buffer of no bytes.
    pub const fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// The CPU mapping, whole pages.
    pub const fn mapping(&self) -> &Mapping {
        &self.mapping
    }

    /// The binding.
    pub const fn binding(&self) -> &Binding {
        &self.binding
    }

    /// The object.
    pub const fn bo(&self) -> &Bo {
        &self.bo
    }

    /// Copies floats in, from the start.
    pub fn write_f32(&self, values: &[f32]) -> Result<()> {
        let bytes: Vec<u8> = values
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect();
        self.mapping.write(0, &bytes)
    }

    /// Copies `count` floats out, from the start.
    pub fn read_f32(&self, count: usize) -> Result<Vec<f32>> {
        let words = self.read_u32(count)?;
        Ok(words.into_iter().map(f32::from_bits).collect())
    }

    /// Copies `count` words out, from the start.
    pub fn read_u32(&self, count: usize) -> Result<Vec<u32>> {
        let too_large = || Error::local(ErrorKind::TooLarge, "buffer read", "too many words");
        let length = count.checked_mul(4).ok_or_else(too_large)?;
        if length > self.mapping.len() {
            return Err(too_large());
        }
        let mut bytes = vec![0; length];
        self.mapping.read(0, &mut bytes)?;
        let words = bytes
            .chunks_exact(4)
            .filter_map(|chunk| chunk.first_chunk());
        Ok(words.map(|chunk| u32::from_le_bytes(*chunk)).collect())
    }

    /// Unmaps, unbinds and closes, and reports the outcome.
    pub fn close(self) -> Result<()> {
        let Self {
            mapping,
            binding,
            bo,
            ..
        } = self;
        drop(mapping);
        binding.close()?;
        bo.close()
    }
}

/// A launched stream: the fence value that says it is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[must_use = "the stream is not known to be done until this was waited for"]
pub struct Ticket(u64);

impl Ticket {
    /// The fence value.
    pub const fn value(self) -> u64 {
        self.0
    }
}

/// A vm with a queue and a fence, for streams in order.
#[derive(Debug)]
pub struct Session {
    /// Command buffers by the ticket that frees them.
    streams: VecDeque<(Ticket, Buffer)>,
    launched: u64,
    queue: Queue,
    fence: Fence,
    vm: Vm,
}

impl Session {
    /// A session with a bounded queue.
    pub fn new(device: &Device) -> Result<Self> {
        Self::with_mode(device, QueueMode::Bounded)
    }

    /// A session with a queue of `mode`.
    pub fn with_mode(device: &Device, mode: QueueMode) -> Result<Self> {
        Self::in_vm(&device.create_vm(VmFlags::empty())?, mode)
    }

    /// A session in a vm that exists. Where residency is by hand the session keeps its command
    /// streams resident; buffers are the caller's to keep so.
    pub fn in_vm(vm: &Vm, mode: QueueMode) -> Result<Self> {
        let fence = vm.create_fence(FenceFlags::empty(), 0)?;
        let queue = vm.create_queue(&QueueOptions::new(mode))?;
        Ok(Self {
            streams: VecDeque::new(),
            launched: 0,
            queue,
            fence,
            vm: vm.clone(),
        })
    }

    /// The vm.
    pub const fn vm(&self) -> &Vm {
        &self.vm
    }

    /// The queue.
    pub const fn queue(&self) -> &Queue {
        &self.queue
    }

    /// The fence that launches raise.
    pub const fn fence(&self) -> &Fence {
        &self.fence
    }

    /// Zeroed memory of at least `bytes` for data.
    pub fn buffer(&self, bytes: u64) -> Result<Buffer> {
        self.buffer_with(bytes, &BoOptions::new(pages(bytes)))
    }

    /// Zeroed memory of the host of at least `bytes` for data.
    pub fn host_buffer(&self, bytes: u64, segment: Segment) -> Result<Buffer> {
        self.buffer_with(bytes, &BoOptions::host(pages(bytes)).segment(segment))
    }

    /// Memory for `bytes` of data in an object made as `options` say, which must be large enough.
    pub fn buffer_with(&self, bytes: u64, options: &BoOptions) -> Result<Buffer> {
        Buffer::new(&self.vm, options, bytes, BindFlags::WRITE)
    }

    /// Memory that starts with `values`.
    pub fn buffer_f32(&self, values: &[f32]) -> Result<Buffer> {
        let buffer = self.buffer(values.len() as u64 * 4)?;
        buffer.write_f32(values)?;
        Ok(buffer)
    }

    /// Memory for command streams, resident.
    pub fn code_buffer(&self, bytes: u64) -> Result<Buffer> {
        let options = BoOptions::new(pages(bytes));
        let buffer = Buffer::new(&self.vm, &options, bytes, BindFlags::EXECUTE)?;
        if self.vm.is_manual() {
            let resident = self.vm.make_resident(&[&buffer.bo])?;
            resident.wait(Deadline::after(DRAIN))?;
        }
        Ok(buffer)
    }

    /// Queues a stream and returns at once.
    pub fn launch(&mut self, stream: CommandStream) -> Result<Ticket> {
        let bytes = stream.finish().map_err(|error| {
            Error::local(
                ErrorKind::InvalidArgument,
                "command stream",
                error.to_string(),
            )
        })?;
        let size = u32::try_from(bytes.len())
            .map_err(|_| Error::local(ErrorKind::TooLarge, "command stream", "above 4 GiB"))?;
        let code = self.reuse_or_make(bytes.len() as u64)?;
        code.mapping().write(0, &bytes)?;
        let ticket = Ticket(self.launched + 1);
        let submission = Submission::new()
            .exec(code.gpu_va(), size)
            .done(&self.fence, ticket.0);
        self.queue.submit(&submission)?;
        self.launched = ticket.0;
        self.streams.push_back((ticket, code));
        Ok(ticket)
    }

    /// Waits for a launched stream. An error of the vm names what ended it.
    pub fn wait(&self, ticket: Ticket, deadline: Deadline) -> Result<()> {
        match self.fence.wait(ticket.0, deadline) {
            Ok(_) => Ok(()),
            Err(error) if error.kind() == ErrorKind::VmError => Err(self.explain(error)),
            Err(error) => Err(error),
        }
    }

    /// Launches and waits.
    pub fn run(&mut self, stream: CommandStream, deadline: Deadline) -> Result<()> {
        let ticket = self.launch(stream)?;
        self.wait(ticket, deadline)
    }

    fn explain(&self, error: Error) -> Error {
        match self.vm.query() {
            Ok(state) => match state.fault {
                Some(fault) => error.about(format!("page fault at {:#x}", fault.gpu_va)),
                None if state.state == State::Active => error,
                None => error.about(format!("{:?}", state.state)),
            },
            Err(_) => error,
        }
    }

    /// The oldest command buffer if its stream is done and it is large enough, else a new one.
    fn reuse_or_make(&mut self, bytes: u64) -> Result<Buffer> {
        let done = match self.streams.front() {
            Some((ticket, code)) => {
                code.mapping().len() as u64 >= bytes && self.fence.value()? >= ticket.0
            }
            None => false,
        };
        match self.streams.pop_front() {
            Some((_, code)) if done => Ok(code),
            Some(busy) => {
                self.streams.push_front(busy);
                self.code_buffer(bytes)
            }
            None => self.code_buffer(bytes),
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // Command buffers are unbound below; work must not meet that. If it does not end in time
        // the vm faults, which is for its own processes to see.
        if self.launched > 0 {
            let _ = self.fence.wait(self.launched, Deadline::after(DRAIN));
        }
    }
}
