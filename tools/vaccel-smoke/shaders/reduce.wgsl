// SPDX-License-Identifier: MIT OR Apache-2.0
// The sum of each 64 elements, halving them in memory that the work group shares.

@group(0) @binding(0) var<storage, read> elements: array<f32>;
@group(0) @binding(1) var<storage, read_write> sums: array<f32>;
var<workgroup> part: array<f32, 64>;

@compute @workgroup_size(64)
fn main(
    @builtin(global_invocation_id) at: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
    @builtin(workgroup_id) group: vec3<u32>,
) {
    part[local] = elements[at.x];
    workgroupBarrier();
    for (var half = 32u; half > 0u; half = half / 2u) {
        if local < half {
            part[local] = part[local] + part[local + half];
        }
        workgroupBarrier();
    }
    if local == 0u {
        sums[group.x] = part[0];
    }
}
