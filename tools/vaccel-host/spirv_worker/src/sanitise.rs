// SPDX-License-Identifier: MIT OR Apache-2.0
//! From a guest's SPIR-V to SPIR-V that a driver may see.
//!
//! naga parses the module into its own form, validates that, and writes the wanted entry point of it
//! anew. What comes out uses no capability but Shader; every index into a buffer, array or vector is
//! clamped, shared memory starts as zeros, no loop is without a bound that a compiler could reason
//! from. What the writer takes from outside for granted, that a buffer is as long as the fixed part of
//! its type, [`Shader::check`] makes sure of for each dispatch. Sizes of what is not in buffers have
//! limits here, since the driver puts them on stacks.

#[cfg(test)]
mod tests;

use naga::back::spv;
use naga::front::spv as front;
use naga::proc::{BoundsCheckPolicies, BoundsCheckPolicy, Layouter};
use naga::valid::{Capabilities, FunctionInfo, GlobalUse, ModuleInfo, ValidationFlags, Validator};
use naga::{AddressSpace, EntryPoint, Module, ShaderStage};
use shader_process::protocol::Request;
use vaccel_isa::{MAX_GROUP_INVOCATIONS, MAX_PRIVATE_BYTES, MAX_PUSH_BYTES, MAX_SHARED_BYTES};

/// Why a shader is not run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("the module does not parse: {0}")]
    Parse(String),
    #[error("the module is not valid: {0}")]
    Invalid(String),
    #[error("no compute entry point {0:?}")]
    EntryPoint(String),
    #[error("specialisation constants are not supported")]
    Specialisation,
    #[error("variable {0:?} is neither a storage buffer of set 0 nor a push constant")]
    Variable(String),
    #[error("work groups of {0:?} invocations, at most {MAX_GROUP_INVOCATIONS} together")]
    GroupSize([u32; 3]),
    #[error("{bytes} bytes of {what}, at most {limit}")]
    Memory {
        what: &'static str,
        bytes: u64,
        limit: u64,
    },
    #[error("the module cannot be written anew: {0}")]
    Write(String),
    #[error("storage buffer {0} is missing")]
    Missing(u32),
    #[error("storage buffer {number} has {bytes} bytes, the shader needs {needed}")]
    Short {
        number: u32,
        bytes: usize,
        needed: u32,
    },
    #[error("the shader writes to storage buffer {0}, which may only be read")]
    ReadOnly(u32),
    #[error("{bytes} bytes of push constants, the shader needs {needed}")]
    PushConstants { bytes: usize, needed: u32 },
}

/// A storage buffer that a shader uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BufferUse {
    pub(crate) number: u32,
    /// Its least length.
    pub(crate) bytes: u32,
    pub(crate) writes: bool,
}

/// A shader that a driver may see.
#[derive(Debug, Clone)]
pub(crate) struct Shader {
    /// The module with only this entry point.
    pub(crate) words: Vec<u32>,
    pub(crate) entry_point: String,
    /// Invocations of a work group in x, y and z.
    pub(crate) group_size: [u32; 3],
    /// Bytes the invocations of a work group share.
    pub(crate) shared_bytes: u32,
    /// Bytes of push constants it uses.
    pub(crate) push_bytes: u32,
    pub(crate) buffers: Vec<BufferUse>,
}

/// Makes a shader from the entry point of that name in a module.
pub(crate) fn sanitise(module: &[u8], entry_point: &str) -> Result<Shader, Refusal> {
    let options = front::Options {
        adjust_coordinate_space: false,
        strict_capabilities: true,
        block_ctx_dump_prefix: None,
    };
    let module = front::parse_u8_slice(module, &options)
        .map_err(|error| Refusal::Parse(error.to_string()))?;
    let info = Validator::new(ValidationFlags::all(), Capabilities::IMMEDIATES)
        .validate(&module)
        .map_err(|error| Refusal::Invalid(error.into_inner().to_string()))?;
    if !module.overrides.is_empty() {
        return Err(Refusal::Specialisation);
    }
    let compute =
        |point: &EntryPoint| point.stage == ShaderStage::Compute && point.name == entry_point;
    let missing = || Refusal::EntryPoint(entry_point.to_owned());
    let at = module.entry_points.iter().position(compute);
    let at = at.ok_or_else(missing)?;
    let point = module.entry_points.get(at).ok_or_else(missing)?;
    let mut shader = interface(&module, info.get_entry_point(at))?;
    shader.entry_point = entry_point.to_owned();
    shader.group_size = group_size(point.workgroup_size)?;
    shader.words = write(&module, &info, entry_point)?;
    Ok(shader)
}

fn group_size(size: [u32; 3]) -> Result<[u32; 3], Refusal> {
    let all = size
        .iter()
        .fold(1_u64, |all, size| all.saturating_mul(u64::from(*size)));
    if all == 0 || all > u64::from(MAX_GROUP_INVOCATIONS) {
        return Err(Refusal::GroupSize(size));
    }
    Ok(size)
}

/// What an entry point uses of the world, and whether that is within the limits.
fn interface(module: &Module, uses: &FunctionInfo) -> Result<Shader, Refusal> {
    let mut layouter = Layouter::default();
    layouter
        .update(module.to_ctx())
        .map_err(|error| Refusal::Invalid(error.to_string()))?;
    let size = |ty| layouter[ty].size;
    let (mut shared, mut private, mut push_bytes) = (0_u64, 0_u64, 0_u64);
    let mut buffers: Vec<BufferUse> = Vec::new();
    for (handle, variable) in module.global_variables.iter() {
        let used = uses[handle];
        if used.is_empty() {
            continue;
        }
        let bytes = size(variable.ty);
        let wide = u64::from(bytes);
        match (variable.space, variable.binding) {
            (AddressSpace::WorkGroup, _) => shared = shared.saturating_add(wide),
            (AddressSpace::Private, _) => private = private.saturating_add(wide),
            (AddressSpace::Immediate, _) => push_bytes = wide,
            (AddressSpace::Storage { .. }, Some(place)) if place.group == 0 => {
                let number = place.binding;
                let writes = used.intersects(GlobalUse::WRITE | GlobalUse::ATOMIC);
                buffers.push(BufferUse {
                    number,
                    bytes,
                    writes,
                });
            }
            _ => return Err(Refusal::Variable(variable.name.clone().unwrap_or_default())),
        }
    }
    // Calls are not followed: the variables of all functions count as if all were running.
    let entries = module.entry_points.iter().map(|point| &point.function);
    let functions = module.functions.iter().map(|(_, function)| function);
    for (_, local) in functions
        .chain(entries)
        .flat_map(|function| function.local_variables.iter())
    {
        private = private.saturating_add(u64::from(size(local.ty)));
    }
    limit(
        "variables of an invocation",
        private,
        MAX_PRIVATE_BYTES.into(),
    )?;
    let limit_of_push = u64::try_from(MAX_PUSH_BYTES).unwrap_or(0);
    Ok(Shader {
        words: Vec::new(),
        entry_point: String::new(),
        group_size: [1; 3],
        shared_bytes: limit("shared memory", shared, MAX_SHARED_BYTES.into())?,
        push_bytes: limit("push constants", push_bytes, limit_of_push)?,
        buffers,
    })
}

fn limit(what: &'static str, bytes: u64, limit: u64) -> Result<u32, Refusal> {
    u32::try_from(bytes)
        .ok()
        .filter(|_| bytes <= limit)
        .ok_or(Refusal::Memory { what, bytes, limit })
}

fn write(module: &Module, info: &ModuleInfo, entry_point: &str) -> Result<Vec<u32>, Refusal> {
    let options = spv::Options {
        lang_version: (1, 3),
        flags: spv::WriterFlags::empty(),
        // A binding that is not in the (empty) map keeps its numbers.
        fake_missing_bindings: true,
        capabilities: Some([spv::Capability::Shader].into_iter().collect()),
        bounds_check_policies: BoundsCheckPolicies {
            index: BoundsCheckPolicy::Restrict,
            buffer: BoundsCheckPolicy::Restrict,
            image_load: BoundsCheckPolicy::Restrict,
            binding_array: BoundsCheckPolicy::Restrict,
        },
        zero_initialize_workgroup_memory: spv::ZeroInitializeWorkgroupMemoryMode::Polyfill,
        force_loop_bounding: true,
        ..spv::Options::default()
    };
    let only = spv::PipelineOptions {
        shader_stage: ShaderStage::Compute,
        entry_point: entry_point.to_owned(),
    };
    spv::write_vec(module, info, &options, Some(&only))
        .map_err(|error| Refusal::Write(error.to_string()))
}

impl Shader {
    /// Whether a request has the buffers and constants that the shader needs. It may have more.
    pub(crate) fn check(&self, request: &Request) -> Result<(), Refusal> {
        for used in &self.buffers {
            let number = used.number;
            let buffer = request.buffers.iter().find(|b| b.number == number);
            let buffer = buffer.ok_or(Refusal::Missing(number))?;
            if u64::try_from(buffer.bytes).unwrap_or(0) < u64::from(used.bytes) {
                return Err(Refusal::Short {
                    number,
                    bytes: buffer.bytes,
                    needed: used.bytes,
                });
            }
            if used.writes && !buffer.writable {
                return Err(Refusal::ReadOnly(number));
            }
        }
        if u64::try_from(request.push_bytes).unwrap_or(0) < u64::from(self.push_bytes) {
            return Err(Refusal::PushConstants {
                bytes: request.push_bytes,
                needed: self.push_bytes,
            });
        }
        Ok(())
    }
}
