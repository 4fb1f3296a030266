// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the kernel tells about its devices (netlink, KOBJECT_UEVENT).

#![expect(
    unsafe_code,
    reason = "netlink sockets have no safe form in the standard library"
)]

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

use libvaccel::ioctl::readiness::{self, Readiness};
use libvaccel::Deadline;

/// The group of the kernel's own messages.
const KERNEL: u32 = 1;

/// Hears all that is told from now on.
#[derive(Debug)]
pub struct Uevents {
    socket: File,
}

impl Uevents {
    /// Begins to listen.
    pub fn open() -> io::Result<Self> {
        let kind = libc::SOCK_DGRAM | libc::SOCK_CLOEXEC;
        // SAFETY: the call takes numbers.
        let fd = unsafe { libc::socket(libc::AF_NETLINK, kind, libc::NETLINK_KOBJECT_UEVENT) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the call succeeded, so that `fd` is a new descriptor that nobody else owns.
        let socket = File::from(unsafe { OwnedFd::from_raw_fd(fd) });
        // SAFETY: all zeros are a valid address: any port, no group.
        let mut address: libc::sockaddr_nl = unsafe { std::mem::zeroed() };
        address.nl_family = libc::AF_NETLINK as libc::sa_family_t;
        address.nl_groups = KERNEL;
        // SAFETY: the descriptor is open; the address is live and as long as announced.
        let bound = unsafe {
            libc::bind(
                socket.as_raw_fd(),
                std::ptr::from_ref(&address).cast(),
                size_of_val(&address) as libc::socklen_t,
            )
        };
        if bound < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(Self { socket })
    }

    /// The fields (`NAME=value`) of the next event that has one that starts with `start`, if there is
    /// one by the deadline.
    pub fn next_with(&self, start: &str, deadline: Deadline) -> io::Result<Option<Vec<String>>> {
        loop {
            match readiness::wait_readable(self.socket.as_fd(), deadline) {
                Ok(Readiness::TimedOut) => return Ok(None),
                Ok(_) => {}
                Err(errno) => return Err(io::Error::from_raw_os_error(errno.0)),
            }
            let mut bytes = vec![0; 8192];
            let length = (&self.socket).read(&mut bytes)?;
            bytes.truncate(length);
            let fields = fields(&bytes);
            if fields.iter().any(|field| field.starts_with(start)) {
                return Ok(Some(fields));
            }
        }
    }
}

fn fields(bytes: &[u8]) -> Vec<String> {
    bytes
        .split(|byte| *byte == 0)
        .map(|field| String::from_utf8_lossy(field).into_owned())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Proves that a message falls into its fields.
    #[test]
    fn messages() {
        let fields = fields(b"change@/devices/x\0ACTION=change\0WEDGED=none\0");
        assert_eq!(fields.get(2).map(String::as_str), Some("WEDGED=none"));
    }
}
