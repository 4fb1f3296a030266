// SPDX-License-Identifier: MIT OR Apache-2.0
//! Values for the fields of structures, by what they are called.

use libvaccel::sys::Layout;

use crate::numbers::Numbers;

/// What there is to name.
#[derive(Clone, Debug, Default)]
pub struct Pool {
    /// Handles of vms.
    pub vms: Vec<u32>,
    /// Handles of queues.
    pub queues: Vec<u32>,
    /// Handles of fences.
    pub fences: Vec<u32>,
    /// GEM handles.
    pub objects: Vec<u32>,
    /// The argument object's.
    pub arguments: u32,
    /// Handles of syncobjs.
    pub syncobjs: Vec<u32>,
    /// File descriptors.
    pub fds: Vec<i32>,
    /// GPU addresses.
    pub addresses: Vec<u64>,
}

/// Bytes of the largest object that is asked for in earnest.
const MOST: u64 = 1 << 20;
/// Sizes at and beyond limits, in bytes.
const SIZES: &[u64] = &[
    0,
    1,
    4095,
    4096,
    8192,
    16384,
    65536,
    MOST,
    1 << 45,
    1 << 63,
    u64::MAX,
    u64::MAX - 4095,
];
/// Numbers at limits.
const EDGES: &[u64] = &[
    0,
    1,
    2,
    7,
    8,
    16,
    63,
    64,
    65,
    256,
    1024,
    1025,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
    0x7fff_ffff_ffff_ffff,
    u64::MAX,
];

fn handle(numbers: &mut Numbers, handles: &[u32]) -> u64 {
    match numbers.below(12) {
        // Of another kind, or of what was made since.
        0 | 1 => numbers.below(24),
        2 => *numbers.pick(EDGES).unwrap_or(&0),
        _ => u64::from(numbers.pick(handles).copied().unwrap_or(0)),
    }
}

fn address(numbers: &mut Numbers, pool: &Pool) -> u64 {
    let base = numbers.pick(&pool.addresses).copied().unwrap_or(0);
    match numbers.below(8) {
        0 => 0,
        1 => numbers.word(),
        2 => base.wrapping_add(numbers.below(16) * 4096),
        _ => base,
    }
}

/// A value for the field of this name.
pub fn value(numbers: &mut Numbers, pool: &Pool, name: &str) -> u64 {
    let edge = |numbers: &mut Numbers| *numbers.pick(EDGES).unwrap_or(&0);
    match name {
        "vm" => handle(numbers, &pool.vms),
        "queue" => handle(numbers, &pool.queues),
        "fence" | "done_fence" => handle(numbers, &pool.fences),
        "bo" => handle(numbers, &pool.objects),
        "arg_bo" => handle(numbers, &[pool.arguments]),
        "syncobj" | "out_syncobj" => handle(numbers, &pool.syncobjs),
        "handle" => numbers.below(24),
        "fd" => match numbers.pick(&pool.fds) {
            Some(fd) if !numbers.one_in(8) => u64::from(fd.unsigned_abs()),
            _ => edge(numbers),
        },
        "gpu_va" => address(numbers, pool),
        "size" => match numbers.one_in(4) {
            true => *numbers.pick(SIZES).unwrap_or(&0),
            false => 4096 << numbers.below(3),
        },
        "flags" | "mask" => match numbers.one_in(10) {
            true => numbers.word(),
            false => numbers.below(64) & numbers.below(64),
        },
        "pad" | "reserved" | "host_status" => match numbers.one_in(30) {
            true => numbers.word(),
            false => 0,
        },
        "op_stride" => match numbers.one_in(10) {
            true => edge(numbers),
            false => 64,
        },
        "nr_ops" | "count" | "opcode" | "op" | "kind" | "mode" | "source" | "segment" => {
            match numbers.one_in(12) {
                true => edge(numbers),
                false => numbers.below(10),
            }
        }
        _ if name.ends_with("offset") => match numbers.one_in(5) {
            true => edge(numbers),
            false => numbers.below(16) * 4096,
        },
        _ => match numbers.below(3) {
            0 => edge(numbers),
            1 => 0,
            _ => numbers.below(4),
        },
    }
}

/// Sets the field at `offset`, of `size` bytes up to 8, in words.
pub fn set(words: &mut [u64; 10], offset: usize, size: usize, value: u64) {
    let Some(word) = words.get_mut(offset / 8) else {
        return;
    };
    *word = match (size, offset % 8) {
        (4, 0) => (*word & !0xffff_ffff) | (value & 0xffff_ffff),
        (4, _) => (*word & 0xffff_ffff) | (value << 32),
        _ => value,
    };
}

/// Reads the field at `offset`, of `size` bytes up to 8.
pub fn get(words: &[u64; 10], offset: usize, size: usize) -> u64 {
    let word = words.get(offset / 8).copied().unwrap_or(0);
    match (size, offset % 8) {
        (4, 0) => word & 0xffff_ffff,
        (4, _) => word >> 32,
        _ => word,
    }
}

/// Place and size of a field.
pub fn find(layout: &Layout, name: &str) -> Option<(usize, usize)> {
    let mut fields = layout.fields.iter();
    fields
        .find(|field| field.0 == name)
        .map(|field| (field.1, field.2))
}

/// A structure with likely values.
pub fn fill(numbers: &mut Numbers, pool: &Pool, layout: &Layout) -> [u64; 10] {
    let mut words = [0; 10];
    for (name, offset, size) in layout.fields {
        // Of an array the first element.
        set(
            &mut words,
            *offset,
            (*size).min(8),
            value(numbers, pool, name),
        );
    }
    words
}

/// The same with a field or a bit changed.
pub fn change(numbers: &mut Numbers, pool: &Pool, layout: &Layout, words: &mut [u64; 10]) {
    match numbers.pick(layout.fields) {
        Some((name, offset, size)) if !numbers.one_in(4) => {
            set(words, *offset, (*size).min(8), value(numbers, pool, name));
        }
        _ => {
            let bit = numbers.below(layout.size as u64 * 8);
            if let Some(word) = words.get_mut(bit as usize / 64) {
                *word ^= 1 << (bit % 64);
            }
        }
    }
}

/// No object takes the machine's memory, whatever became of its size.
pub fn limit_memory(layout: &Layout, words: &mut [u64; 10]) {
    let Some((offset, size)) = find(layout, "size") else {
        return;
    };
    let asked = get(words, offset, size);
    if layout.c_name == "drm_vaccel_bo_create" && asked > MOST && asked < 1 << 40 {
        set(words, offset, size, MOST);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use libvaccel::sys::{Bind, BoCreate, Wire};

    /// Proves that each field lands where it belongs and leaves its neighbours alone.
    #[test]
    fn places() {
        let mut words = [0; 10];
        let (offset, size) = find(&Bind::LAYOUT, "bo").unwrap();
        set(&mut words, offset, size, 7);
        set(&mut words, 0, 4, 3);
        assert_eq!(words[0], 3 | 7 << 32);
        assert_eq!(get(&words, offset, size), 7);
        set(&mut words, 16, 8, u64::MAX);
        assert_eq!((words[1], words[2], words[3]), (0, u64::MAX, 0));
    }

    /// Proves that an object is never larger than the machine, unless it is impossible.
    #[test]
    fn memory() {
        let mut words = [1 << 30, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        limit_memory(&BoCreate::LAYOUT, &mut words);
        assert_eq!(words[0], MOST);
        words[0] = 1 << 45;
        limit_memory(&BoCreate::LAYOUT, &mut words);
        assert_eq!(words[0], 1 << 45);
    }

    /// Proves that the same seed makes the same structure.
    #[test]
    fn seeds() {
        let fill = |seed| fill(&mut Numbers::new(seed), &Pool::default(), &Bind::LAYOUT);
        assert_eq!(fill(1), fill(1));
        assert_ne!(fill(1), fill(2));
    }
}
