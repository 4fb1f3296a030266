// SPDX-License-Identifier: MIT OR Apache-2.0
// The product of two square matrices, by tiles in memory that the work group shares.

@group(0) @binding(0) var<storage, read> a: array<f32>;
@group(0) @binding(1) var<storage, read> b: array<f32>;
@group(0) @binding(2) var<storage, read_write> product: array<f32>;
var<immediate> size: u32;
var<workgroup> a_tile: array<f32, 64>;
var<workgroup> b_tile: array<f32, 64>;

@compute @workgroup_size(8, 8)
fn main(
    @builtin(global_invocation_id) at: vec3<u32>,
    @builtin(local_invocation_id) local: vec3<u32>,
) {
    let own = local.y * 8u + local.x;
    var sum = 0.0;
    for (var first = 0u; first < size; first = first + 8u) {
        a_tile[own] = a[at.y * size + first + local.x];
        b_tile[own] = b[(first + local.y) * size + at.x];
        workgroupBarrier();
        for (var k = 0u; k < 8u; k = k + 1u) {
            sum = sum + a_tile[local.y * 8u + k] * b_tile[k * 8u + local.x];
        }
        workgroupBarrier();
    }
    product[at.y * size + at.x] = sum;
}
