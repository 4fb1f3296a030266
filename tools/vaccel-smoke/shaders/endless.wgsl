// SPDX-License-Identifier: MIT OR Apache-2.0
// Does not end, unless the first word is one that nobody writes.

@group(0) @binding(0) var<storage, read_write> words: array<u32>;

@compute @workgroup_size(1)
fn main() {
    loop {
        if words[0] == 12345u {
            break;
        }
        words[1] = words[1] + 1u;
    }
}
