// SPDX-License-Identifier: MIT OR Apache-2.0
//! A storage buffer in memory that both sides see.

use ash::vk;

use super::{Device, Failure};

/// What the memory of buffers has to be.
const HOST: vk::MemoryPropertyFlags = vk::MemoryPropertyFlags::from_raw(
    vk::MemoryPropertyFlags::HOST_VISIBLE.as_raw()
        | vk::MemoryPropertyFlags::HOST_COHERENT.as_raw(),
);

/// A storage buffer with memory of its own.
pub(super) struct Buffer<'d> {
    device: &'d Device,
    pub(super) raw: vk::Buffer,
    memory: vk::DeviceMemory,
    bytes: usize,
}

impl<'d> Buffer<'d> {
    /// A buffer that is as long as `content` and has it in it.
    pub(super) fn with(device: &'d Device, content: &[u8]) -> Result<Self, Failure> {
        let size = u64::try_from(content.len()).unwrap_or(u64::MAX);
        let info = vk::BufferCreateInfo::default()
            .size(size)
            .usage(vk::BufferUsageFlags::STORAGE_BUFFER)
            .sharing_mode(vk::SharingMode::EXCLUSIVE);
        let mut buffer = Self {
            device,
            // SAFETY: the size is not 0, the host refuses such buffers.
            raw: unsafe { device.raw.create_buffer(&info, None)? },
            memory: vk::DeviceMemory::null(),
            bytes: content.len(),
        };
        // SAFETY: the buffer is the device's.
        let needs = unsafe { device.raw.get_buffer_memory_requirements(buffer.raw) };
        let kind = memory_type(&device.memory, needs.memory_type_bits)
            .ok_or(vk::Result::ERROR_OUT_OF_DEVICE_MEMORY)?;
        let info = vk::MemoryAllocateInfo::default()
            .allocation_size(needs.size)
            .memory_type_index(kind);
        // SAFETY: the type is one of the device's.
        buffer.memory = unsafe { device.raw.allocate_memory(&info, None)? };
        // SAFETY: the memory is large enough, of an allowed type, and bound only once.
        unsafe {
            device
                .raw
                .bind_buffer_memory(buffer.raw, buffer.memory, 0)?
        };
        buffer.mapped(|memory| {
            // SAFETY: the mapping has this length at least and is no Rust object.
            unsafe { memory.copy_from_nonoverlapping(content.as_ptr(), content.len()) };
        })?;
        Ok(buffer)
    }

    /// Copies the content out. `content` is as long as the buffer.
    pub(super) fn read(&self, content: &mut [u8]) -> Result<(), Failure> {
        let bytes = content.len().min(self.bytes);
        self.mapped(|memory| {
            // SAFETY: the mapping has this length at least and is no Rust object.
            unsafe { memory.copy_to_nonoverlapping(content.as_mut_ptr(), bytes) };
        })
    }

    /// Lends the memory, mapped, while the device does not use it.
    fn mapped(&self, with: impl FnOnce(*mut u8)) -> Result<(), Failure> {
        let (all, flags) = (vk::WHOLE_SIZE, vk::MemoryMapFlags::empty());
        // SAFETY: the memory is visible to the host and not mapped, since each mapping ends below.
        let memory = unsafe { self.device.raw.map_memory(self.memory, 0, all, flags)? };
        with(memory.cast());
        // SAFETY: it was mapped above, and nothing keeps the address.
        unsafe { self.device.raw.unmap_memory(self.memory) };
        Ok(())
    }
}

impl Drop for Buffer<'_> {
    fn drop(&mut self) {
        // SAFETY: both are the device's, nothing is pending that uses them, null is allowed.
        unsafe {
            self.device.raw.destroy_buffer(self.raw, None);
            self.device.raw.free_memory(self.memory, None);
        }
    }
}

/// The first type of memory among `allowed` that the host sees without flushing.
fn memory_type(memory: &vk::PhysicalDeviceMemoryProperties, allowed: u32) -> Option<u32> {
    let types = memory.memory_types_as_slice().iter().zip(0_u32..);
    types
        .filter(|(_, index)| allowed & 1_u32.wrapping_shl(*index) != 0)
        .find(|(kind, _)| kind.property_flags.contains(HOST))
        .map(|(_, index)| index)
}
