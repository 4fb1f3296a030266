// SPDX-License-Identifier: MIT OR Apache-2.0
//! Compute shaders: the engine's half, which moves memory, and the trait of the half that runs them.
//!
//! Each dispatch copies the module and the buffers out of GPU memory, has the shader run on the
//! copies, and writes the buffers that it may write back, whole. So a shader sees no memory but its
//! buffers, and nothing is written for one that fails.

#[cfg(test)]
mod tests;

use std::time::Duration;

use vaccel_isa::{AdapterInfo, BindingAccess, Dispatch, Opcode, MAX_DISPATCH_NS};

use crate::built_in::{Run, Stop};
use crate::{AddressSpace, Commands, Engine, Fault, Outcome, Pace};

/// A storage buffer of a dispatch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShaderBuffer {
    /// Binding number.
    pub number: u32,
    /// Whether the shader may write to it.
    pub writable: bool,
    /// Its bytes, before and after.
    pub content: Vec<u8>,
}

/// A dispatch whose memory is here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShaderCall {
    /// The SPIR-V module, as the guest wrote it.
    pub module: Vec<u8>,
    /// Name of the entry point.
    pub entry_point: String,
    /// Work groups in x, y and z.
    pub groups: [u32; 3],
    /// Buffers, in ascending order of their numbers.
    pub buffers: Vec<ShaderBuffer>,
    /// Push constants.
    pub push_constants: Vec<u8>,
}

/// Why a shader did not run to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ShaderStop {
    /// It is not valid, goes beyond a limit, or does not fit its buffers.
    Refused,
    /// What ran it died. It can run others.
    Died,
    /// It was over its limit of time.
    Hung,
    /// The caller lost interest.
    Cancelled,
}

impl From<ShaderStop> for Stop {
    fn from(stop: ShaderStop) -> Self {
        match stop {
            ShaderStop::Refused | ShaderStop::Died => Stop::BadProgram,
            ShaderStop::Hung => Stop::Hung,
            ShaderStop::Cancelled => Stop::Cancelled,
        }
    }
}

/// Runs compute shaders that nobody has looked at.
pub trait Shaders: Send + Sync {
    /// The device they run on, for users.
    fn device(&self) -> &str;

    /// Runs a shader on the buffers of `call`, for at most `limit`. Asks `pace` now and then whether
    /// to stop.
    ///
    /// # Errors
    ///
    /// Fails as [`ShaderStop`] says; buffers are then in an unspecified state.
    fn run(
        &self,
        call: &mut ShaderCall,
        limit: Duration,
        pace: &dyn Pace,
    ) -> Result<(), ShaderStop>;
}

/// The built-in operations and compute shaders.
#[derive(Debug)]
pub struct ShaderEngine<S>(S);

impl<S: Shaders> ShaderEngine<S> {
    /// An engine that gives its shaders to `shaders`.
    pub fn new(shaders: S) -> Self {
        Self(shaders)
    }
}

impl<S: Shaders> Engine for ShaderEngine<S> {
    fn info(&self) -> AdapterInfo {
        AdapterInfo::new(&format!("SPIR-V on {}", self.0.device())).with(Opcode::DispatchSpirv)
    }

    fn run(&self, commands: Commands, space: &dyn AddressSpace, pace: &dyn Pace) -> Outcome {
        let run = Run {
            space,
            pace,
            shaders: Some(&self.0),
        };
        run.commands(commands)
    }
}

/// Runs one dispatch.
pub(crate) fn dispatch(
    run: Run<'_>,
    shaders: &dyn Shaders,
    dispatch: Dispatch<'_>,
) -> Result<(), Stop> {
    let mut call = ShaderCall {
        module: read(run.space, dispatch.shader.va, dispatch.shader.bytes.into())?,
        entry_point: dispatch.shader.entry_point.to_owned(),
        groups: dispatch.groups,
        buffers: Vec::new(),
        push_constants: dispatch.push_constants.to_vec(),
    };
    for binding in dispatch.bindings.iter() {
        run.check()?;
        call.buffers.push(ShaderBuffer {
            number: binding.number,
            writable: binding.access == BindingAccess::ReadWrite,
            content: read(run.space, binding.va, binding.bytes)?,
        });
    }
    shaders.run(&mut call, Duration::from_nanos(MAX_DISPATCH_NS), run.pace)?;
    for (binding, buffer) in dispatch.bindings.iter().zip(&call.buffers) {
        if buffer.writable {
            run.check()?;
            run.space.write(binding.va, &buffer.content)?;
        }
    }
    Ok(())
}

/// Reads memory whose size the decoder has limited.
fn read(space: &dyn AddressSpace, va: u64, bytes: u64) -> Result<Vec<u8>, Fault> {
    let mut content = vec![0; usize::try_from(bytes).unwrap_or(usize::MAX)];
    space.read(va, &mut content)?;
    Ok(content)
}
