// SPDX-License-Identifier: MIT OR Apache-2.0
//! Calling operations with raw structures and judging the errno.

use std::os::fd::AsFd;

use libvaccel::ioctl::{call, Errno, Operation};
use libvaccel::sys::Wire;
use libvaccel::Device;

use crate::rig::{failed, Problem, Result};

/// The operation must succeed; returns the structure as the kernel left it.
pub fn accepted<O: Operation>(device: &Device, what: &str, arg: O::Arg) -> Result<O::Arg> {
    let mut arg = arg;
    match call::<O>(device.as_fd(), &mut arg) {
        Ok(()) => Ok(arg),
        Err(errno) => failed(format!("{} {what}: {errno}, expected success", O::NAME)),
    }
}

/// The operation must fail with one of these errno values.
pub fn refused<O: Operation>(device: &Device, what: &str, arg: O::Arg, expected: &[i32]) -> Result {
    let mut arg = arg;
    let wanted = || {
        expected
            .iter()
            .map(|errno| Errno(*errno).to_string())
            .collect::<Vec<_>>()
    };
    match call::<O>(device.as_fd(), &mut arg) {
        Err(errno) if expected.contains(&errno.0) => Ok(()),
        Err(errno) => failed(format!(
            "{} {what}: {errno}, expected {}",
            O::NAME,
            wanted().join(" or ")
        )),
        Ok(()) => failed(format!(
            "{} {what}: accepted, expected {}",
            O::NAME,
            wanted().join(" or ")
        )),
    }
}

/// A copy of `arg` with the bytes at `offset` replaced.
pub fn patched<A: Wire>(arg: &A, offset: usize, bytes: &[u8]) -> Result<A> {
    let mut raw = arg.as_bytes().to_vec();
    match raw.get_mut(offset..offset + bytes.len()) {
        Some(target) => target.copy_from_slice(bytes),
        None => return failed("patch outside of the structure"),
    }
    A::read_from_bytes(&raw).map_err(|_| Problem::Failed("structure of another size".into()))
}

/// Name, offset and size of the fields of `A`.
pub fn fields<A: Wire>() -> impl Iterator<Item = (&'static str, usize, usize)> {
    A::LAYOUT.fields.iter().copied()
}

/// Every reserved or padding word of the structure must be 0, and every bit of `flags` that is not
/// in `known` must be refused. `good` is accepted otherwise.
pub fn refuses_the_unknown<O: Operation>(device: &Device, good: &O::Arg, known: u32) -> Result {
    for (name, offset, size) in fields::<O::Arg>() {
        if name == "reserved" || name == "pad" {
            // The lowest and the highest byte of each word.
            let word = if size % 8 == 0 { 8 } else { 4 };
            for start in (0..size).step_by(word) {
                for byte in [start, start + word - 1] {
                    let bad = patched(good, offset + byte, &[0x80])?;
                    refused::<O>(device, &format!("{name} byte {byte}"), bad, &[libc::EINVAL])?;
                }
            }
        }
        if name == "flags" {
            for bit in (0..32)
                .map(|bit| 1u32 << bit)
                .filter(|bit| bit & known == 0)
            {
                let bad = patched(good, offset, &bit.to_ne_bytes())?;
                refused::<O>(device, &format!("flags {bit:#x}"), bad, &[libc::EINVAL])?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use libvaccel::sys;

    /// Proves that a patch changes the field it names, and only inside the structure.
    #[test]
    fn patches() {
        let good = sys::GetParam::default();
        let (_, offset, _) = fields::<sys::GetParam>().find(|f| f.0 == "value").unwrap();
        let bad = patched(&good, offset, &7u64.to_ne_bytes()).unwrap();
        assert_eq!((bad.param, bad.index, bad.value), (0, 0, 7));
        assert!(patched(&good, 12, &[0; 8]).is_err());
    }
}
