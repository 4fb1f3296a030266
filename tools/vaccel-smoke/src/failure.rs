// SPDX-License-Identifier: MIT OR Apache-2.0
//! Ways for a test, and for the program, not to succeed.

use libvaccel::ErrorKind;

use crate::npy::NpyError;

/// Exit status of the program; the numbers are in `main`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Everything was verified.
    Pass,
    /// Something was wrong.
    Fail,
    /// The command line was wrong.
    Usage,
    /// The environment was in the way.
    Environment,
    /// There was nothing to test on.
    NoDevice,
}

/// Why the program ends before it has results.
#[derive(Debug)]
pub struct Stop {
    /// Exit status.
    pub exit: Exit,
    /// One line.
    pub message: String,
    /// What could help, a line each.
    pub advice: Vec<String>,
}

impl Stop {
    /// A stop without advice.
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self {
            exit,
            message: message.into(),
            advice: Vec::new(),
        }
    }
}

impl From<libvaccel::Error> for Stop {
    fn from(error: libvaccel::Error) -> Self {
        let exit = match error.kind() {
            ErrorKind::NotFound => Exit::NoDevice,
            ErrorKind::InvalidArgument | ErrorKind::Ambiguous => Exit::Usage,
            _ => Exit::Environment,
        };
        Self::new(exit, error.to_string())
    }
}

/// Why a test did not pass.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// An operation of the device failed.
    #[error(transparent)]
    Device(#[from] libvaccel::Error),
    /// A result differs from the CPU's.
    #[error(
        "{what}: {count} of {total} outputs differ, first at {index}: {got}, expected {expected}"
    )]
    Wrong {
        /// Which result.
        what: String,
        /// Differing outputs.
        count: usize,
        /// All outputs.
        total: usize,
        /// First that differs.
        index: usize,
        /// What the device said.
        got: String,
        /// What the CPU says.
        expected: String,
    },
    /// Something that is no output behaved otherwise than documented.
    #[error("{0}")]
    Behaviour(String),
    /// The test is not possible here; the others are not concerned.
    #[error("{0}")]
    NotPossible(String),
    /// The data of the test is not usable.
    #[error("{file}: {error}")]
    Data {
        /// Which file.
        file: String,
        /// Why.
        #[source]
        error: NpyError,
    },
}

impl Failure {
    /// Whether the environment, not the accelerator's results, is to blame.
    pub fn is_environment(&self) -> bool {
        match self {
            Self::Device(error) => {
                matches!(error.kind(), ErrorKind::DeviceLost | ErrorKind::Permission)
            }
            Self::Data { .. } => true,
            Self::Wrong { .. } | Self::Behaviour(_) | Self::NotPossible(_) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Proves that a lost device is not reported as a wrong result, nor the other way round.
    #[test]
    fn blame() {
        let lost = libvaccel::Error::local(ErrorKind::DeviceLost, "x", "y");
        assert!(Failure::from(lost).is_environment());
        assert!(!Failure::Behaviour("x".into()).is_environment());
    }
}
