// SPDX-License-Identifier: MIT OR Apache-2.0
//! The Vulkan device and its one queue.

use ash::vk;
use vaccel_isa::{MAX_BINDINGS, MAX_BINDING_BYTES};

use super::{Failure, OpenError};

/// The Vulkan version that is asked for.
const API: u32 = vk::API_VERSION_1_1;

/// A device with a queue for compute, and a command buffer for one dispatch at a time.
pub(crate) struct Device {
    /// Destroyed in the order of [`Drop`]; the library is unloaded last.
    pub(super) raw: ash::Device,
    instance: ash::Instance,
    _entry: ash::Entry,
    queue: vk::Queue,
    pool: vk::CommandPool,
    commands: vk::CommandBuffer,
    fence: vk::Fence,
    pub(super) limits: vk::PhysicalDeviceLimits,
    pub(super) memory: vk::PhysicalDeviceMemoryProperties,
    name: String,
    software: bool,
}

/// A physical device that will do.
struct Candidate {
    physical: vk::PhysicalDevice,
    properties: vk::PhysicalDeviceProperties,
    family: u32,
}

impl Device {
    /// Opens the machine's best device: a GPU if there is one, else one in software.
    pub(crate) fn open() -> Result<Self, OpenError> {
        // SAFETY: the loader is the machine's own; its initialisers are what every Vulkan program
        // runs.
        let entry = unsafe { ash::Entry::load()? };
        let application = vk::ApplicationInfo::default().api_version(API);
        let info = vk::InstanceCreateInfo::default().application_info(&application);
        // SAFETY: `info` and what it points to live until the call returns.
        let instance = unsafe { entry.create_instance(&info, None)? };
        let candidates = candidates(&instance);
        let best = candidates.map(|all| all.into_iter().min_by_key(rank));
        let opened = match best {
            Ok(Some(candidate)) => logical(&instance, &candidate).map(|raw| (raw, candidate)),
            Ok(None) => Err(OpenError::NoDevice),
            Err(error) => Err(error),
        };
        let (raw, candidate) = match opened {
            Ok(opened) => opened,
            Err(error) => {
                // SAFETY: nothing made from the instance is left.
                unsafe { instance.destroy_instance(None) };
                return Err(error);
            }
        };
        Self::assemble(entry, instance, raw, &candidate)
    }

    fn assemble(
        entry: ash::Entry,
        instance: ash::Instance,
        raw: ash::Device,
        candidate: &Candidate,
    ) -> Result<Self, OpenError> {
        let mut device = Self {
            // SAFETY: the physical device belongs to the instance.
            memory: unsafe { instance.get_physical_device_memory_properties(candidate.physical) },
            // SAFETY: the device was made with one queue of this family.
            queue: unsafe { raw.get_device_queue(candidate.family, 0) },
            raw,
            instance,
            _entry: entry,
            pool: vk::CommandPool::null(),
            commands: vk::CommandBuffer::null(),
            fence: vk::Fence::null(),
            limits: candidate.properties.limits,
            name: name(&candidate.properties),
            software: candidate.properties.device_type == vk::PhysicalDeviceType::CPU,
        };
        // From here on dropping destroys what there is; null handles are allowed in that.
        let info = vk::CommandPoolCreateInfo::default()
            .flags(vk::CommandPoolCreateFlags::RESET_COMMAND_BUFFER)
            .queue_family_index(candidate.family);
        // SAFETY: the family is one of the device's.
        device.pool = unsafe { device.raw.create_command_pool(&info, None)? };
        let info = vk::CommandBufferAllocateInfo::default()
            .command_pool(device.pool)
            .level(vk::CommandBufferLevel::PRIMARY)
            .command_buffer_count(1);
        // SAFETY: the pool is the device's own.
        let commands = unsafe { device.raw.allocate_command_buffers(&info)? };
        device.commands = commands.into_iter().next().unwrap_or_default();
        // SAFETY: the structure asks for nothing special.
        device.fence = unsafe {
            device
                .raw
                .create_fence(&vk::FenceCreateInfo::default(), None)?
        };
        Ok(device)
    }

    /// Its name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Whether it is software, which talks to no kernel driver.
    pub(crate) fn is_software(&self) -> bool {
        self.software
    }

    /// Records commands, runs them and waits until they are done, however long that takes.
    pub(super) fn submit_and_wait(
        &self,
        record: impl FnOnce(&ash::Device, vk::CommandBuffer),
    ) -> Result<(), Failure> {
        let begin = vk::CommandBufferBeginInfo::default()
            .flags(vk::CommandBufferUsageFlags::ONE_TIME_SUBMIT);
        // SAFETY: the command buffer is not pending, since each submission was waited for; its pool
        // allows to begin it anew.
        unsafe { self.raw.begin_command_buffer(self.commands, &begin)? };
        record(&self.raw, self.commands);
        let commands = [self.commands];
        let submit = vk::SubmitInfo::default().command_buffers(&commands);
        // SAFETY: the command buffer is being recorded; the fence is not in use, and reset after
        // each use; it is the only one waited for.
        unsafe {
            self.raw.end_command_buffer(self.commands)?;
            self.raw.queue_submit(self.queue, &[submit], self.fence)?;
            self.raw.wait_for_fences(&[self.fence], true, u64::MAX)?;
            self.raw.reset_fences(&[self.fence])?;
        }
        Ok(())
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        // SAFETY: everything else that was made from the device borrowed it and is gone; nothing is
        // pending unless the device failed, and then nothing needs to be in order any more. Null
        // handles are allowed. The instance goes after its device.
        unsafe {
            self.raw.destroy_fence(self.fence, None);
            self.raw.destroy_command_pool(self.pool, None);
            self.raw.destroy_device(None);
            self.instance.destroy_instance(None);
        }
    }
}

/// The physical devices that will do.
fn candidates(instance: &ash::Instance) -> Result<Vec<Candidate>, OpenError> {
    let mut found = Vec::new();
    // SAFETY: the instance is valid.
    for physical in unsafe { instance.enumerate_physical_devices()? } {
        // SAFETY: the physical device belongs to the instance.
        let properties = unsafe { instance.get_physical_device_properties(physical) };
        // SAFETY: as above.
        let families = unsafe { instance.get_physical_device_queue_family_properties(physical) };
        let computes = |family: &vk::QueueFamilyProperties| {
            family.queue_flags.contains(vk::QueueFlags::COMPUTE)
        };
        let family = families.iter().position(computes);
        let limits = &properties.limits;
        let buffers = u32::try_from(MAX_BINDINGS).unwrap_or(u32::MAX);
        let large_enough = limits.max_per_stage_descriptor_storage_buffers >= buffers
            && u64::from(limits.max_storage_buffer_range) >= MAX_BINDING_BYTES;
        if properties.api_version < API || !large_enough {
            continue;
        }
        if let Some(family) = family.and_then(|family| u32::try_from(family).ok()) {
            found.push(Candidate {
                physical,
                properties,
                family,
            });
        }
    }
    Ok(found)
}

/// Lower is better.
fn rank(candidate: &Candidate) -> u8 {
    match candidate.properties.device_type {
        vk::PhysicalDeviceType::DISCRETE_GPU => 0,
        vk::PhysicalDeviceType::INTEGRATED_GPU => 1,
        vk::PhysicalDeviceType::VIRTUAL_GPU => 2,
        vk::PhysicalDeviceType::CPU => 3,
        _ => 4,
    }
}

fn logical(instance: &ash::Instance, candidate: &Candidate) -> Result<ash::Device, OpenError> {
    let queues = [vk::DeviceQueueCreateInfo::default()
        .queue_family_index(candidate.family)
        .queue_priorities(&[1.0])];
    // Every device has this one: a second check of what naga has checked.
    let features = vk::PhysicalDeviceFeatures::default().robust_buffer_access(true);
    let info = vk::DeviceCreateInfo::default()
        .queue_create_infos(&queues)
        .enabled_features(&features);
    // SAFETY: the physical device and its family belong to the instance; what the structure points
    // to lives until the call returns.
    Ok(unsafe { instance.create_device(candidate.physical, &info, None)? })
}

fn name(properties: &vk::PhysicalDeviceProperties) -> String {
    let name = properties.device_name_as_c_str().unwrap_or_default();
    name.to_string_lossy().into_owned()
}
