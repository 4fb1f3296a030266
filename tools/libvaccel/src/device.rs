// SPDX-License-Identifier: MIT OR Apache-2.0
//! An open accelerator: parameters, queries, and the way to everything else.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use vaccel_isa::{AdapterInfo, ADAPTER_INFO_BYTES};

use crate::arg::{self, ArgBo};
use crate::bo::Bo;
use crate::deadline::Deadline;
use crate::error::{Error, ErrorKind, Result};
use crate::event::{self, Event};
use crate::flags::{EventMask, Features, VmFlags};
use crate::handle::Node;
use crate::info::{Budget, Info, Segment};
use crate::ioctl;
use crate::syncobj::SyncObj;
use crate::sys;
use crate::vm::Vm;
use crate::wait_many::WaitArgs;

/// Name of the DRM driver whose nodes speak this interface.
pub(crate) const DRIVER_NAME: &str = "vaccel";
/// D3DKMT query type whose answer is the private data of the user-mode driver.
const QUERY_UMD_PRIVATE: u32 = 0;
/// Longest adapter text that is asked for.
const TEXT_BYTES: usize = 512;

/// An open device; clones share the file and its handles.
#[derive(Clone, Debug)]
pub struct Device {
    node: Arc<Node>,
    /// For queries, which are rare: one object, made at the first one.
    queries: Arc<Mutex<Option<ArgBo>>>,
    pub(crate) waits: Arc<WaitArgs>,
}

impl Device {
    /// Opens a node by its path and checks that it is this driver's.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let file = File::options()
            .read(true)
            .write(true)
            .open(path)
            .map_err(|error| Error::from_io("open", &error, path.display().to_string()))?;
        let name = ioctl::drm::driver_name(file.as_fd()).map_err(|errno| {
            Error::from_errno("VERSION", errno, 0).about(path.display().to_string())
        })?;
        if name != DRIVER_NAME {
            return Err(Error::local(
                ErrorKind::Unsupported,
                "open",
                format!("{} belongs to driver \"{name}\"", path.display()),
            ));
        }
        Ok(Self::from_fd(file.into(), path))
    }

    /// Wraps a descriptor of a node of this driver, for instance one that was passed by another
    /// process. `path` is only shown.
    ///
    /// The open file becomes non-blocking (`O_NONBLOCK`), also for others who share it: their reads
    /// of events fail with EAGAIN where there is none. Operations wait as before.
    pub fn from_fd(file: OwnedFd, path: impl AsRef<Path>) -> Self {
        Self::of(Arc::new(Node::new(
            file.into(),
            path.as_ref().to_path_buf(),
        )))
    }

    pub(crate) fn of(node: Arc<Node>) -> Self {
        Self {
            node,
            queries: Arc::default(),
            waits: Arc::default(),
        }
    }

    /// The path it was opened by.
    pub fn path(&self) -> &Path {
        &self.node.path
    }

    pub(crate) const fn node(&self) -> &Arc<Node> {
        &self.node
    }

    /// Reads one parameter ([`sys::PARAM_FEATURES`] and its like).
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidArgument`] for one that the driver does not know.
    pub fn param(&self, param: u32) -> Result<u64> {
        self.param_at(param, 0)
    }

    /// Reads one of a parameter that there are several of, such as [`sys::PARAM_SEGMENT_SIZE`].
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidArgument`] for a parameter or an index that the driver does not know.
    pub fn param_at(&self, param: u32, index: u32) -> Result<u64> {
        let mut arg = sys::GetParam {
            param,
            index,
            ..Default::default()
        };
        self.node.call::<ioctl::GetParam>(&mut arg)?;
        Ok(arg.value)
    }

    /// Reads all parameters; one that the driver does not know is `None`.
    pub fn info(&self) -> Result<Info> {
        Info::read(self)
    }

    /// What the driver provides beyond the basics.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::DeviceLost`] when the adapter is gone.
    pub fn features(&self) -> Result<Features> {
        self.param(sys::PARAM_FEATURES)
            .map(Features::from_bits_retain)
    }

    /// Makes an address space.
    pub fn create_vm(&self, flags: VmFlags) -> Result<Vm> {
        Vm::new(self, flags)
    }

    /// Makes a syncobj, empty or with a signalled fence in it.
    ///
    /// # Errors
    ///
    /// Those of the kernel.
    pub fn create_syncobj(&self, signalled: bool) -> Result<SyncObj> {
        SyncObj::new(&self.node, signalled)
    }

    /// Opens the syncobj of a descriptor, of whatever device.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidArgument`] for a descriptor of anything else.
    pub fn open_syncobj(&self, fd: BorrowedFd<'_>) -> Result<SyncObj> {
        SyncObj::open(&self.node, fd)
    }

    /// Makes an argument object of at least `size` bytes.
    pub fn create_arg_bo(&self, size: u64) -> Result<ArgBo> {
        ArgBo::on(&self.node, ArgBo::size_for(size))
    }

    /// Asks the host for the block of D3DKMT type `query_type`; `block` goes there and the answer,
    /// of the same size, replaces it.
    pub fn query_host(&self, query_type: u32, block: &mut [u8]) -> Result<()> {
        let written = self.query(sys::QUERY_HOST, query_type, block)?;
        if written == block.len() {
            Ok(())
        } else {
            Err(Error::local(
                ErrorKind::Other,
                "ADAPTER_QUERY",
                format!("{written} of {} bytes answered", block.len()),
            ))
        }
    }

    /// The adapter's name.
    pub fn description(&self) -> Result<String> {
        self.text(sys::QUERY_DESCRIPTION)
    }

    /// The adapter's instance id on the host.
    pub fn instance_id(&self) -> Result<String> {
        self.text(sys::QUERY_INSTANCE_ID)
    }

    /// What the open compute ISA offers on this adapter, `None` if the host does not speak it.
    pub fn isa(&self) -> Result<Option<AdapterInfo>> {
        let mut block = [0; ADAPTER_INFO_BYTES];
        match self.query_host(QUERY_UMD_PRIVATE, &mut block) {
            Ok(()) => Ok(AdapterInfo::from_bytes(&block)),
            Err(error) if error.kind() == ErrorKind::HostRefused => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Takes in a dma-buf: of this file, of another one on the same adapter, or of another driver
    /// ([`Features::IMPORT`]). The object belongs to no vm; [`Vm::bind`] gives it addresses in any.
    ///
    /// A dma-buf of an object that this file has already gives a [`Bo`] of the same GEM handle,
    /// whether the object was imported or made here: [`Bo::handle`] is equal, and whatever the kernel
    /// does by handle, one does to the other. The library counts them. [`Bo::close`] of one, or its
    /// drop, leaves the handle to the others, and the last of those that came from this device or a
    /// clone of it closes it. The count does not include what another [`Device`] on the same open
    /// file holds (one made by [`Device::from_fd`], or in another process): the first of them to
    /// count down to nothing closes the handle for all.
    ///
    /// # Errors
    ///
    /// Memory of the host that another adapter's object is made of, and anything that is no dma-buf
    /// or is not made of guest memory pages, is refused. [`ErrorKind::OutOfDeviceMemory`] without a
    /// host status: the file has pinned as much as it may.
    pub fn import(&self, dma_buf: BorrowedFd<'_>) -> Result<Bo> {
        Bo::import(&self.node, dma_buf)
    }

    /// The memory budget of this file. Asking also arms [`Event::Budget`] again.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::HostRefused`] with the host's status.
    pub fn budget(&self, segment: Segment) -> Result<Budget> {
        self.ask_budget(sys::Budget {
            segment: segment.value(),
            ..Default::default()
        })
    }

    /// Asks for `bytes` that the file can count on; 0 gives the reservation back.
    ///
    /// # Errors
    ///
    /// More than [`Budget::available`] is refused.
    pub fn set_reservation(&self, segment: Segment, bytes: u64) -> Result<Budget> {
        self.ask_budget(sys::Budget {
            segment: segment.value(),
            flags: sys::BUDGET_SET_RESERVATION,
            reservation_size: bytes,
            ..Default::default()
        })
    }

    fn ask_budget(&self, mut arg: sys::Budget) -> Result<Budget> {
        self.node.call::<ioctl::Budget>(&mut arg)?;
        Ok(Budget::from(&arg))
    }

    /// Chooses the events that [`Device::next_event`] gives; those asked for before are forgotten.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unsupported`] for events that the driver does not deliver.
    pub fn subscribe(&self, events: EventMask) -> Result<()> {
        let mut arg = sys::Events {
            mask: events.bits(),
            pad: 0,
        };
        self.node.call::<ioctl::Events>(&mut arg)
    }

    /// The next event, or none until `deadline`. With several threads each event goes to one of
    /// them; a process that shares the file takes events away from the others.
    ///
    /// # Errors
    ///
    /// Those of poll(2) and read(2) on the node, and [`ErrorKind::DeviceLost`] when poll(2) says
    /// that the adapter is gone and there is nothing left to read.
    pub fn next_event(&self, deadline: Deadline) -> Result<Option<Event>> {
        event::next(&self.node, deadline)
    }

    fn text(&self, source: u32) -> Result<String> {
        let mut text = vec![0; TEXT_BYTES];
        let written = self.query(source, 0, &mut text)?;
        text.truncate(written);
        Ok(String::from_utf8_lossy(&text).into_owned())
    }

    /// One adapter query through the shared argument object; returns the bytes written, which are
    /// never more than `block` holds.
    fn query(&self, source: u32, query_type: u32, block: &mut [u8]) -> Result<usize> {
        let size = u32::try_from(block.len())
            .map_err(|_| Error::local(ErrorKind::TooLarge, "ADAPTER_QUERY", "block above 4 GiB"))?;
        let mut slot = self.queries.lock().unwrap_or_else(PoisonError::into_inner);
        let bo = arg::at_least(&mut slot, &self.node, u64::from(size))?;
        bo.mapping().write(0, block)?;
        let mut arg = sys::AdapterQuery {
            source,
            r#type: query_type,
            arg_bo: bo.handle(),
            size,
            ..Default::default()
        };
        self.node.call::<ioctl::AdapterQuery>(&mut arg)?;
        bo.mapping().read(0, block)?;
        Ok((arg.size as usize).min(block.len()))
    }
}

impl AsFd for Device {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.node.fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Proves that a missing node is "not found" and names the path.
    #[test]
    fn missing_node() {
        let error = Device::open("/dev/accel/accel999").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert!(error.to_string().contains("/dev/accel/accel999"), "{error}");
    }

    /// Proves that a file of another kind is refused before any operation of ours reaches it.
    #[test]
    fn other_files_are_refused() {
        let error = Device::open("/dev/null").unwrap_err();
        assert_eq!(error.operation(), "VERSION");
        assert_eq!(error.kind(), ErrorKind::Unsupported);
    }
}
