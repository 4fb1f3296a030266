// SPDX-License-Identifier: MIT OR Apache-2.0
//! DISPATCH_SPIRV in typed form: a compute shader, its buffers and its constants.

use crate::wire::WireBinding;

/// A compute shader in GPU memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shader<'a> {
    /// GPU virtual address of the first word of the SPIR-V module, a multiple of 4.
    pub va: u64,
    /// Length of the module in bytes, a multiple of 4.
    pub bytes: u32,
    /// Name of the entry point, 1 to [`crate::ENTRY_POINT_BYTES`] bytes without a zero.
    pub entry_point: &'a str,
}

/// What a shader may do with a buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum BindingAccess {
    /// Read it. The shader declares it as not writable.
    Read = 1,
    /// Read and write it. All of it is written back when the dispatch ends, also what the shader
    /// did not change.
    ReadWrite = 2,
}

impl BindingAccess {
    pub(crate) const ALL: [Self; 2] = [Self::Read, Self::ReadWrite];

    pub(crate) fn from_wire(value: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|access| *access as u32 == value)
    }
}

/// A storage buffer of descriptor set 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Binding {
    /// Binding number, below [`crate::MAX_BINDING_NUMBER`].
    pub number: u32,
    /// GPU virtual address of its first byte, a multiple of 4.
    pub va: u64,
    /// Length in bytes, a multiple of 4.
    pub bytes: u64,
    /// What the shader may do with it.
    pub access: BindingAccess,
}

impl From<Binding> for WireBinding {
    fn from(binding: Binding) -> Self {
        Self {
            va: binding.va.into(),
            bytes: binding.bytes.into(),
            binding: binding.number.into(),
            access: (binding.access as u32).into(),
        }
    }
}

/// The buffers of a decoded dispatch, in ascending order of their numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bindings<'a>(&'a [WireBinding]);

impl<'a> Bindings<'a> {
    /// Takes bindings whose access the decoder has checked.
    pub(crate) fn checked(wire: &'a [WireBinding]) -> Self {
        Self(wire)
    }

    /// Each buffer.
    pub fn iter(self) -> impl Iterator<Item = Binding> + 'a {
        self.0.iter().filter_map(|wire| {
            Some(Binding {
                number: wire.binding.get(),
                va: wire.va.get(),
                bytes: wire.bytes.get(),
                access: BindingAccess::from_wire(wire.access.get())?,
            })
        })
    }
}

/// DISPATCH_SPIRV: runs work groups of a compute shader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dispatch<'a> {
    /// What runs.
    pub shader: Shader<'a>,
    /// Work groups in x, y and z.
    pub groups: [u32; 3],
    /// Its buffers.
    pub bindings: Bindings<'a>,
    /// Its push constants, a multiple of 4 bytes and perhaps none.
    pub push_constants: &'a [u8],
}
