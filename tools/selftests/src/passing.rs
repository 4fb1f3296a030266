// SPDX-License-Identifier: MIT OR Apache-2.0
//! File descriptors to other processes, over a socket (SCM_RIGHTS).

#![expect(
    unsafe_code,
    reason = "control messages have no safe form in the standard library"
)]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixStream;

/// Room for the control message of one descriptor, aligned as its header is.
#[repr(C, align(8))]
struct Room([u8; 64]);

const FD_BYTES: u32 = size_of::<libc::c_int>() as u32;

fn message(byte: &mut libc::iovec, room: &mut Room) -> libc::msghdr {
    // SAFETY: all zeros are a valid msghdr: no name, no data, no control message.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = byte;
    message.msg_iovlen = 1;
    message.msg_control = room.0.as_mut_ptr().cast();
    // SAFETY: arithmetic only.
    message.msg_controllen = unsafe { libc::CMSG_SPACE(FD_BYTES) } as _;
    message
}

/// Sends a copy of a descriptor.
pub fn send(socket: &UnixStream, fd: BorrowedFd<'_>) -> io::Result<()> {
    let mut payload = 0u8;
    let mut byte = libc::iovec {
        iov_base: std::ptr::from_mut(&mut payload).cast(),
        iov_len: 1,
    };
    let mut room = Room([0; 64]);
    let message = message(&mut byte, &mut room);
    // SAFETY: `message` has the room for one descriptor that CMSG_SPACE told, which is less than
    // `room` has; so the first header is there and its data fits. The descriptor is open for the borrow.
    let sent = unsafe {
        let header = libc::CMSG_FIRSTHDR(&message);
        (*header).cmsg_level = libc::SOL_SOCKET;
        (*header).cmsg_type = libc::SCM_RIGHTS;
        (*header).cmsg_len = libc::CMSG_LEN(FD_BYTES) as _;
        let data = libc::CMSG_DATA(header).cast::<libc::c_int>();
        data.write_unaligned(fd.as_raw_fd());
        libc::sendmsg(socket.as_raw_fd(), &message, libc::MSG_NOSIGNAL)
    };
    if sent == 1 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Receives one.
pub fn receive(socket: &UnixStream) -> io::Result<OwnedFd> {
    let mut payload = 0u8;
    let mut byte = libc::iovec {
        iov_base: std::ptr::from_mut(&mut payload).cast(),
        iov_len: 1,
    };
    let mut room = Room([0; 64]);
    let mut message = message(&mut byte, &mut room);
    // SAFETY: the buffers that `message` names are live and as long as it says.
    let received =
        unsafe { libc::recvmsg(socket.as_raw_fd(), &mut message, libc::MSG_CMSG_CLOEXEC) };
    if received < 0 {
        return Err(io::Error::last_os_error());
    }
    let none = || io::Error::from(io::ErrorKind::UnexpectedEof);
    // SAFETY: the kernel has filled in the control message; a header that is there is whole.
    let header = unsafe { libc::CMSG_FIRSTHDR(&message).as_ref() }.ok_or_else(none)?;
    if (header.cmsg_level, header.cmsg_type) != (libc::SOL_SOCKET, libc::SCM_RIGHTS) {
        return Err(none());
    }
    // SAFETY: a message of this type, in a room for one, has the number of one new descriptor that
    // nobody else owns.
    Ok(unsafe {
        let fd = libc::CMSG_DATA(header)
            .cast::<libc::c_int>()
            .read_unaligned();
        OwnedFd::from_raw_fd(fd)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::os::fd::AsFd;

    /// Proves that what arrives is the file that was sent, and that nothing arrives from nobody.
    #[test]
    fn descriptors_travel() {
        let (here, there) = UnixStream::pair().unwrap();
        let (near, mut far) = UnixStream::pair().unwrap();
        send(&here, near.as_fd()).unwrap();
        drop(near);
        let mut arrived = UnixStream::from(receive(&there).unwrap());
        far.write_all(b"x").unwrap();
        let mut byte = [0];
        arrived.read_exact(&mut byte).unwrap();
        assert_eq!(&byte, b"x");
        drop(here);
        assert!(receive(&there).is_err());
    }
}
