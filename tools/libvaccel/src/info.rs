// SPDX-License-Identifier: MIT OR Apache-2.0
//! What an adapter says about itself.

use crate::device::Device;
use crate::error::{ErrorKind, Result};
use crate::flags::{names, Features, HostCaps};
use crate::sys;

/// The parameters of an adapter. A parameter that the driver does not know is `None`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Info {
    /// Optional parts of the interface.
    pub features: Option<Features>,
    /// GPU-PV interface version in use.
    pub interface_version: Option<u64>,
    /// LUID of the virtual GPU as the guest knows it.
    pub luid: Option<u64>,
    /// LUID of the physical adapter on the host.
    pub host_adapter_luid: Option<u64>,
    /// LUID of the virtual GPU on the host.
    pub host_vgpu_luid: Option<u64>,
    /// The host offers a compute accelerator.
    pub compute_only: Option<bool>,
    /// What the host provides.
    pub host_caps: Option<HostCaps>,
    /// Bytes of I/O space.
    pub io_space_size: Option<u64>,
    /// Largest buffer object in bytes.
    pub bo_size_max: Option<u64>,
    /// Times the adapter was lost and came back.
    pub resets: Option<u64>,
    /// Bytes of the adapter's own memory; 0 if the host does not say.
    pub local_size: Option<u64>,
    /// Bytes of system memory that the adapter can use; 0 if the host does not say.
    pub non_local_size: Option<u64>,
    /// Bytes of guest memory that one file may pin.
    pub pin_limit: Option<u64>,
    /// Milliseconds that work on a bounded queue may make no progress.
    pub watchdog_ms: Option<u64>,
}

impl Info {
    pub(crate) fn read(device: &Device) -> Result<Self> {
        let get_at = |param, index| match device.param_at(param, index) {
            Ok(value) => Ok(Some(value)),
            Err(error) if error.kind() == ErrorKind::InvalidArgument => Ok(None),
            Err(error) => Err(error),
        };
        let get = |param| get_at(param, 0);
        let segment_size = |segment: Segment| get_at(sys::PARAM_SEGMENT_SIZE, segment.value());
        Ok(Self {
            features: get(sys::PARAM_FEATURES)?.map(Features::from_bits_retain),
            interface_version: get(sys::PARAM_INTERFACE_VERSION)?,
            luid: get(sys::PARAM_ADAPTER_LUID)?,
            host_adapter_luid: get(sys::PARAM_HOST_ADAPTER_LUID)?,
            host_vgpu_luid: get(sys::PARAM_HOST_VGPU_LUID)?,
            compute_only: get(sys::PARAM_COMPUTE_ONLY)?.map(|value| value != 0),
            host_caps: get(sys::PARAM_HOST_CAPS)?.map(HostCaps::from_bits_retain),
            io_space_size: get(sys::PARAM_IO_SPACE_SIZE)?,
            bo_size_max: get(sys::PARAM_BO_SIZE_MAX)?,
            resets: get(sys::PARAM_RESETS)?,
            local_size: segment_size(Segment::Local)?,
            non_local_size: segment_size(Segment::NonLocal)?,
            pin_limit: get(sys::PARAM_PIN_LIMIT)?,
            watchdog_ms: get(sys::PARAM_WATCHDOG_MS)?,
        })
    }

    /// The features as words.
    pub fn feature_names(&self) -> Option<Vec<String>> {
        self.features.as_ref().map(names)
    }

    /// The host capabilities as words.
    pub fn host_cap_names(&self) -> Option<Vec<String>> {
        self.host_caps.as_ref().map(names)
    }
}

/// A group of memory segments.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Segment {
    /// The adapter's own memory.
    #[default]
    Local,
    /// System memory the adapter uses.
    NonLocal,
}

impl Segment {
    pub(crate) const fn value(self) -> u32 {
        match self {
            Self::Local => sys::SEGMENT_LOCAL,
            Self::NonLocal => sys::SEGMENT_NON_LOCAL,
        }
    }

    pub(crate) const fn from_value(value: u32) -> Option<Self> {
        match value {
            sys::SEGMENT_LOCAL => Some(Self::Local),
            sys::SEGMENT_NON_LOCAL => Some(Self::NonLocal),
            _ => None,
        }
    }
}

/// A file's memory budget on one segment group, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// What the host would like this client to stay below.
    pub budget: u64,
    /// What it uses.
    pub usage: u64,
    /// What it can count on.
    pub reservation: u64,
    /// What could be reserved.
    pub available: u64,
}

impl From<&sys::Budget> for Budget {
    fn from(arg: &sys::Budget) -> Self {
        Self {
            budget: arg.budget_size,
            usage: arg.usage_size,
            reservation: arg.reservation_size,
            available: arg.available_size,
        }
    }
}
