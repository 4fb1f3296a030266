// SPDX-License-Identifier: MIT OR Apache-2.0
//! How a ring is made.

/// How the kernel is asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Backend {
    /// By io_uring where that is possible, else by ioctls.
    #[default]
    Auto,
    /// By io_uring.
    IoUring,
    /// By ioctls.
    Ioctl,
}

/// What kind of ring to make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    pub(super) backend: Backend,
    pub(super) entries: u32,
}

impl Default for Options {
    fn default() -> Self {
        Self::new()
    }
}

impl Options {
    /// Any way to ask, and 128 entries.
    pub const fn new() -> Self {
        Self {
            backend: Backend::Auto,
            entries: 128,
        }
    }

    /// Chooses the way.
    #[must_use]
    pub const fn backend(mut self, backend: Backend) -> Self {
        self.backend = backend;
        self
    }

    /// Sets how many operations go to the kernel at once, at most 32768. Any number may be pending.
    #[must_use]
    pub const fn entries(mut self, entries: u32) -> Self {
        self.entries = entries;
        self
    }
}

/// The variable that keeps libraries off io_uring: "0".
const VARIABLE: &str = "VACCEL_URING";

/// Whether the environment allows io_uring.
pub(super) fn allowed() -> bool {
    std::env::var_os(VARIABLE).is_none_or(|value| value != "0")
}
