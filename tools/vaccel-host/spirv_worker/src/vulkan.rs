// SPDX-License-Identifier: MIT OR Apache-2.0
//! Compute by Vulkan 1.1: a device, shaders made ready for it, buffers.
//!
//! All of the crate's `unsafe` is below here. What its blocks rely on:
//!
//! - one thread uses the device, so access to handles that Vulkan wants synchronised is;
//! - every object is owned by a Rust value that borrows what it was made from, and destroys it when
//!   dropped, so handles are valid and belong to the device they are used with;
//! - [`Device::submit_and_wait`] returns when the device is done, or fails; after a failure the
//!   process ends without touching the device again ([`Failure::Vulkan`]);
//! - structures that are passed live until the call returns, and their lengths come from slices;
//! - shaders come from naga, which writes valid modules, and are checked against each request.
#![expect(unsafe_code, reason = "Vulkan is a C interface")]

mod buffer;
mod device;
mod pipeline;

use ash::vk;

pub(crate) use device::Device;
pub(crate) use pipeline::Pipeline;

use crate::sanitise::Refusal;

/// Why a shader did not run.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// It is the shader's or the request's fault.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// Vulkan failed. The device is not to be used any more.
    #[error("Vulkan: {0}")]
    Vulkan(#[from] vk::Result),
}

/// Why there is no device.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpenError {
    #[error("no Vulkan loader on this machine: {0} (Debian package libvulkan1)")]
    Loader(#[from] ash::LoadingError),
    #[error("no Vulkan device for compute on this machine (Debian package mesa-vulkan-drivers has one in software)")]
    NoDevice,
    #[error("the Vulkan device cannot be used: {0}")]
    Vulkan(vk::Result),
}

impl From<vk::Result> for OpenError {
    fn from(error: vk::Result) -> Self {
        match error {
            // The loader's word for a machine without drivers.
            vk::Result::ERROR_INCOMPATIBLE_DRIVER => Self::NoDevice,
            error => Self::Vulkan(error),
        }
    }
}
