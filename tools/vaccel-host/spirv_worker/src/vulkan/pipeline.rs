// SPDX-License-Identifier: MIT OR Apache-2.0
//! A shader made ready for the device, and a dispatch of it.

use std::ffi::CString;

use ash::vk;
use shader_process::protocol::Request;

use super::buffer::Buffer;
use super::{Device, Failure};
use crate::sanitise::{Refusal, Shader};

/// A shader that the device has compiled.
pub(crate) struct Pipeline<'d> {
    device: &'d Device,
    shader: Shader,
    set_layout: vk::DescriptorSetLayout,
    layout: vk::PipelineLayout,
    raw: vk::Pipeline,
}

impl<'d> Pipeline<'d> {
    /// Has the device compile a shader.
    pub(crate) fn new(device: &'d Device, shader: Shader) -> Result<Self, Failure> {
        check_limits(&shader, &device.limits)?;
        let mut pipeline = Self {
            device,
            shader,
            set_layout: vk::DescriptorSetLayout::null(),
            layout: vk::PipelineLayout::null(),
            raw: vk::Pipeline::null(),
        };
        pipeline.make_layouts()?;
        pipeline.compile()?;
        Ok(pipeline)
    }

    fn make_layouts(&mut self) -> Result<(), Failure> {
        let bindings: Vec<_> = self.shader.buffers.iter().map(layout_binding).collect();
        let info = vk::DescriptorSetLayoutCreateInfo::default().bindings(&bindings);
        // SAFETY: binding numbers are distinct, and not more than the device takes.
        self.set_layout = unsafe { self.device.raw.create_descriptor_set_layout(&info, None)? };
        let ranges = [vk::PushConstantRange::default()
            .stage_flags(vk::ShaderStageFlags::COMPUTE)
            .size(self.shader.push_bytes)];
        let layouts = [self.set_layout];
        let mut info = vk::PipelineLayoutCreateInfo::default().set_layouts(&layouts);
        if self.shader.push_bytes != 0 {
            info = info.push_constant_ranges(&ranges);
        }
        // SAFETY: the set layout is the device's; push constants are at most 128 bytes, which every
        // device takes, and a multiple of 4, as naga's layouts of 32-bit numbers are.
        self.layout = unsafe { self.device.raw.create_pipeline_layout(&info, None)? };
        Ok(())
    }

    fn compile(&mut self) -> Result<(), Failure> {
        let name = CString::new(self.shader.entry_point.as_str())
            .map_err(|_| Refusal::EntryPoint(self.shader.entry_point.clone()))?;
        let info = vk::ShaderModuleCreateInfo::default().code(&self.shader.words);
        // SAFETY: the module was written by naga for this version of Vulkan, from a valid one.
        let module = unsafe { self.device.raw.create_shader_module(&info, None)? };
        let stage = vk::PipelineShaderStageCreateInfo::default()
            .stage(vk::ShaderStageFlags::COMPUTE)
            .module(module)
            .name(&name);
        let info = vk::ComputePipelineCreateInfo::default()
            .stage(stage)
            .layout(self.layout);
        let none = vk::PipelineCache::null();
        // SAFETY: the module has this entry point for compute, the layout has all that it uses, and
        // its sizes are within the device's limits.
        let made = unsafe {
            self.device
                .raw
                .create_compute_pipelines(none, &[info], None)
        };
        // SAFETY: a pipeline does not need its module any more.
        unsafe { self.device.raw.destroy_shader_module(module, None) };
        let pipelines = made.map_err(|(_, error)| error)?;
        self.raw = pipelines.into_iter().next().unwrap_or_default();
        Ok(())
    }

    /// Runs the shader on the contents of a request's buffers.
    pub(crate) fn run(
        &self,
        request: &Request,
        push_constants: &[u8],
        contents: &mut [Vec<u8>],
    ) -> Result<(), Failure> {
        self.shader.check(request)?;
        let mut buffers = Vec::new();
        for used in &self.shader.buffers {
            let at = request.buffers.iter().position(|b| b.number == used.number);
            let missing = || Refusal::Missing(used.number);
            let at = at.ok_or_else(missing)?;
            let content = contents.get(at).ok_or_else(missing)?;
            buffers.push((at, used.number, Buffer::with(self.device, content)?));
        }
        let set = DescriptorSet::new(self, &buffers)?;
        let push_bytes = usize::try_from(self.shader.push_bytes).unwrap_or(0);
        let push_constants = push_constants.get(..push_bytes).unwrap_or_default();
        self.device.submit_and_wait(|device, commands| {
            self.record(device, commands, set.raw, push_constants, request.groups);
        })?;
        for (at, _, buffer) in &buffers {
            if let Some(content) = contents.get_mut(*at) {
                buffer.read(content)?;
            }
        }
        Ok(())
    }

    fn record(
        &self,
        device: &ash::Device,
        commands: vk::CommandBuffer,
        set: vk::DescriptorSet,
        push_constants: &[u8],
        [x, y, z]: [u32; 3],
    ) {
        let compute = vk::PipelineBindPoint::COMPUTE;
        let written = [vk::MemoryBarrier::default()
            .src_access_mask(vk::AccessFlags::SHADER_WRITE)
            .dst_access_mask(vk::AccessFlags::HOST_READ)];
        // SAFETY: the command buffer is being recorded; pipeline, layout and set fit each other and
        // live until the dispatch was waited for; push constants have the size of the layout's
        // range; the numbers of groups are within what every device takes.
        unsafe {
            device.cmd_bind_pipeline(commands, compute, self.raw);
            device.cmd_bind_descriptor_sets(commands, compute, self.layout, 0, &[set], &[]);
            if !push_constants.is_empty() {
                let stage = vk::ShaderStageFlags::COMPUTE;
                device.cmd_push_constants(commands, self.layout, stage, 0, push_constants);
            }
            device.cmd_dispatch(commands, x, y, z);
            device.cmd_pipeline_barrier(
                commands,
                vk::PipelineStageFlags::COMPUTE_SHADER,
                vk::PipelineStageFlags::HOST,
                vk::DependencyFlags::empty(),
                &written,
                &[],
                &[],
            );
        }
    }
}

impl Drop for Pipeline<'_> {
    fn drop(&mut self) {
        // SAFETY: all are the device's, nothing is pending that uses them, null is allowed.
        unsafe {
            self.device.raw.destroy_pipeline(self.raw, None);
            self.device.raw.destroy_pipeline_layout(self.layout, None);
            let set_layout = self.set_layout;
            self.device
                .raw
                .destroy_descriptor_set_layout(set_layout, None);
        }
    }
}

/// The buffers of one dispatch, as the shader sees them.
struct DescriptorSet<'p> {
    device: &'p Device,
    pool: vk::DescriptorPool,
    raw: vk::DescriptorSet,
}

impl<'p> DescriptorSet<'p> {
    fn new(
        pipeline: &'p Pipeline<'_>,
        buffers: &[(usize, u32, Buffer<'_>)],
    ) -> Result<Self, Failure> {
        let device = pipeline.device;
        let count = u32::try_from(buffers.len()).unwrap_or(u32::MAX).max(1);
        let sizes = [vk::DescriptorPoolSize::default()
            .ty(vk::DescriptorType::STORAGE_BUFFER)
            .descriptor_count(count)];
        let info = vk::DescriptorPoolCreateInfo::default()
            .max_sets(1)
            .pool_sizes(&sizes);
        let mut set = Self {
            device,
            // SAFETY: the counts are not 0.
            pool: unsafe { device.raw.create_descriptor_pool(&info, None)? },
            raw: vk::DescriptorSet::null(),
        };
        let layouts = [pipeline.set_layout];
        let info = vk::DescriptorSetAllocateInfo::default()
            .descriptor_pool(set.pool)
            .set_layouts(&layouts);
        // SAFETY: the pool has room for one such set; both are the device's.
        let sets = unsafe { device.raw.allocate_descriptor_sets(&info)? };
        set.raw = sets.into_iter().next().unwrap_or_default();
        let infos: Vec<_> = buffers
            .iter()
            .map(|(_, _, buffer)| {
                [vk::DescriptorBufferInfo::default()
                    .buffer(buffer.raw)
                    .range(vk::WHOLE_SIZE)]
            })
            .collect();
        let writes: Vec<_> = buffers
            .iter()
            .zip(&infos)
            .map(|((_, number, _), info)| {
                vk::WriteDescriptorSet::default()
                    .dst_set(set.raw)
                    .dst_binding(*number)
                    .descriptor_type(vk::DescriptorType::STORAGE_BUFFER)
                    .buffer_info(info)
            })
            .collect();
        // SAFETY: the set is not in use, has these bindings, and the buffers outlive the dispatch.
        unsafe { device.raw.update_descriptor_sets(&writes, &[]) };
        Ok(set)
    }
}

impl Drop for DescriptorSet<'_> {
    fn drop(&mut self) {
        // SAFETY: nothing is pending that uses the set, which goes with its pool.
        unsafe { self.device.raw.destroy_descriptor_pool(self.pool, None) };
    }
}

fn layout_binding(used: &crate::sanitise::BufferUse) -> vk::DescriptorSetLayoutBinding<'static> {
    vk::DescriptorSetLayoutBinding::default()
        .binding(used.number)
        .descriptor_type(vk::DescriptorType::STORAGE_BUFFER)
        .descriptor_count(1)
        .stage_flags(vk::ShaderStageFlags::COMPUTE)
}

/// Whether this device takes what the ISA allows.
fn check_limits(shader: &Shader, limits: &vk::PhysicalDeviceLimits) -> Result<(), Refusal> {
    let size = shader.group_size;
    // The product has been checked against the ISA's limit, so it does not overflow.
    let all = size.iter().fold(1_u32, |all, n| all.saturating_mul(*n));
    let most = limits.max_compute_work_group_size;
    let fits = size.iter().zip(&most).all(|(size, most)| size <= most);
    if !fits || all > limits.max_compute_work_group_invocations {
        return Err(Refusal::GroupSize(size));
    }
    let shared = limits.max_compute_shared_memory_size;
    if shader.shared_bytes > shared {
        return Err(Refusal::Memory {
            what: "shared memory",
            bytes: shader.shared_bytes.into(),
            limit: shared.into(),
        });
    }
    Ok(())
}
