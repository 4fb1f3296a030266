// SPDX-License-Identifier: MIT OR Apache-2.0
// The sum of two vectors, and a number added to each element.

@group(0) @binding(0) var<storage, read> a: array<f32>;
@group(0) @binding(1) var<storage, read> b: array<f32>;
@group(0) @binding(2) var<storage, read_write> sum: array<f32>;
var<immediate> number: f32;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) at: vec3<u32>) {
    if at.x < arrayLength(&sum) {
        sum[at.x] = (a[at.x] + b[at.x]) + number;
    }
}
