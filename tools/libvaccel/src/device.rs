// SPDX-License-Identifier: MIT OR Apache-2.0
//! An open accelerator: parameters, queries, and the way to everything else.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use vaccel_isa::{AdapterInfo, ADAPTER_INFO_BYTES};

use crate::arg::{self, ArgBo};
use crate::error::{Error, ErrorKind, Result};
use crate::flags::VmFlags;
use crate::handle::Node;
use crate::info::{BudgetInfo, Info, Segment};
use crate::ioctl;
use crate::sys;
use crate::vm::Vm;

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
    pub fn from_fd(file: OwnedFd, path: impl AsRef<Path>) -> Self {
        Self {
            node: Arc::new(Node {
                file,
                path: path.as_ref().to_path_buf(),
            }),
            queries: Arc::default(),
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
    pub fn param(&self, param: u32) -> Result<u64> {
        let mut arg = sys::GetParam {
            param,
            ..Default::default()
        };
        self.node.call::<ioctl::GetParam>(&mut arg)?;
        Ok(arg.value)
    }

    /// Reads all parameters; one that the driver does not know is `None`.
    pub fn info(&self) -> Result<Info> {
        Info::read(self)
    }

    /// Makes an address space.
    pub fn create_vm(&self, flags: VmFlags) -> Result<Vm> {
        Vm::new(self, flags)
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

    /// The memory budget of this file.
    pub fn budget(&self, segment: Segment) -> Result<BudgetInfo> {
        let mut arg = sys::Budget {
            segment: segment.value(),
            ..Default::default()
        };
        self.node.call::<ioctl::Budget>(&mut arg)?;
        Ok(BudgetInfo::from(&arg))
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
