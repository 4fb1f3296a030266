// SPDX-License-Identifier: MIT OR Apache-2.0
//! Every refusal has a shader that only it refuses.

use shader_process::protocol::RequestBuffer;

use super::*;

#[path = "../../tests/worker/wgsl.rs"]
mod wgsl;

fn sanitised(text: &str) -> Result<Shader, Refusal> {
    sanitise(&wgsl::compile(text), "main")
}

fn refused(text: &str) -> Refusal {
    sanitised(text).unwrap_err()
}

/// A shader with a fixed part in a buffer, a buffer it only reads, and constants.
const GOOD: &str = "
    struct Head { count: u32, pad: u32, values: array<vec2<u32>> }
    struct Constants { a: u32, b: u32, c: u32 }
    @group(0) @binding(3) var<storage, read> head: Head;
    @group(0) @binding(7) var<storage, read_write> to: array<u32>;
    @group(0) @binding(9) var<storage, read_write> unused: array<u32>;
    var<immediate> constants: Constants;
    var<workgroup> shared_words: array<u32, 64>;
    @compute @workgroup_size(4, 2, 1)
    fn main(@builtin(local_invocation_index) i: u32) {
        shared_words[i] = head.values[i].x + constants.c;
        workgroupBarrier();
        to[i] = shared_words[7u - i];
    }";

/// What a shader uses is found, and only that; what comes out is a module that parses.
#[test]
fn uses() {
    let shader = sanitised(GOOD).unwrap();
    assert_eq!(shader.group_size, [4, 2, 1]);
    assert_eq!((shader.shared_bytes, shader.push_bytes), (256, 12));
    let used = |number, bytes, writes| BufferUse {
        number,
        bytes,
        writes,
    };
    assert_eq!(shader.buffers, [used(3, 16, false), used(7, 4, true)]);
    let bytes: Vec<u8> = shader.words.iter().flat_map(|w| w.to_le_bytes()).collect();
    sanitise(&bytes, "main").unwrap();
}

/// A request has to have what the shader needs, and may have more.
#[test]
fn requests() {
    let shader = sanitised(GOOD).unwrap();
    let buffer = |number, writable, bytes| RequestBuffer {
        number,
        writable,
        bytes,
    };
    let check = |push_bytes, buffers: &[RequestBuffer]| {
        shader.check(&Request {
            module_bytes: 0,
            entry_point: "main".into(),
            groups: [1; 3],
            push_bytes,
            buffers: buffers.to_vec(),
        })
    };
    let (head, to) = (buffer(3, false, 16), buffer(7, true, 4));
    check(12, &[head, to]).unwrap();
    check(16, &[buffer(1, true, 4), head, to]).unwrap();
    assert_eq!(check(12, &[head]), Err(Refusal::Missing(7)));
    assert_eq!(
        check(12, &[buffer(3, false, 12), to]),
        Err(Refusal::Short {
            number: 3,
            bytes: 12,
            needed: 16
        })
    );
    assert_eq!(
        check(12, &[head, buffer(7, false, 4)]),
        Err(Refusal::ReadOnly(7))
    );
    assert_eq!(
        check(8, &[head, to]),
        Err(Refusal::PushConstants {
            bytes: 8,
            needed: 12
        })
    );
}

/// What is no module, or has no such entry point for compute.
#[test]
fn modules() {
    assert!(matches!(sanitise(b"", "main"), Err(Refusal::Parse(_))));
    assert!(matches!(sanitise(&[7; 64], "main"), Err(Refusal::Parse(_))));
    let good = wgsl::compile(GOOD);
    let other = sanitise(&good, "other").unwrap_err();
    assert_eq!(other, Refusal::EntryPoint("other".into()));
    let fragment = refused("@fragment fn main() {}");
    assert_eq!(fragment, Refusal::EntryPoint("main".into()));
}

/// Things other than storage buffers of set 0.
#[test]
fn variables() {
    let uniform = "
        @group(0) @binding(0) var<uniform> u: vec4<u32>;
        @group(0) @binding(1) var<storage, read_write> to: array<u32>;
        @compute @workgroup_size(1) fn main() { to[0] = u.x; }";
    assert!(matches!(refused(uniform), Refusal::Variable(_)));
    let other_set = "
        @group(1) @binding(1) var<storage, read_write> to: array<u32>;
        @compute @workgroup_size(1) fn main() { to[0] = 1u; }";
    assert!(matches!(refused(other_set), Refusal::Variable(_)));
}

/// Sizes that a driver would put on a stack or take from shared memory.
#[test]
fn sizes() {
    let size = refused("@compute @workgroup_size(64, 17, 1) fn main() {}");
    assert_eq!(size, Refusal::GroupSize([64, 17, 1]));
    let memory = |declaration: &str, local: &str| {
        refused(&format!(
            "{declaration}
            @group(0) @binding(0) var<storage, read_write> to: array<u32>;
            @compute @workgroup_size(1) fn main() {{ {local} to[0] = big[to[1]]; }}"
        ))
    };
    let expected = |what| Refusal::Memory {
        what,
        bytes: 20_000,
        limit: 16 << 10,
    };
    let shared = memory("var<workgroup> big: array<u32, 5000>;", "");
    assert_eq!(shared, expected("shared memory"));
    let private = memory("var<private> big: array<u32, 5000>;", "");
    assert_eq!(private, expected("variables of an invocation"));
    let local = memory("", "var big: array<u32, 5000>;");
    assert_eq!(local, expected("variables of an invocation"));
    let constants = memory("var<immediate> big: array<u32, 40>;", "");
    assert!(matches!(constants, Refusal::Memory { bytes: 160, .. }));
}
