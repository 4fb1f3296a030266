// SPDX-License-Identifier: MIT OR Apache-2.0
//! The system calls of PID 1 that have no safe form: mounts, modules, terminal mode, poll, signals,
//! power.

#![expect(
    unsafe_code,
    reason = "these system calls have no safe form in the standard library"
)]

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::path::Path;
use std::time::Duration;

/// What is mounted where: file system, folder, whether its absence is worth a word.
const MOUNTS: [(&str, &str, bool); 6] = [
    ("proc", "/proc", true),
    ("sysfs", "/sys", true),
    ("devtmpfs", "/dev", true),
    ("tmpfs", "/tmp", true),
    ("tmpfs", "/run", true),
    ("debugfs", "/sys/kernel/debug", false),
];

fn check(status: libc::c_int) -> io::Result<()> {
    if status < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

fn c_string(text: &str) -> io::Result<CString> {
    CString::new(text).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))
}

/// Mounts everything; returns what could not be mounted.
pub fn mount_all() -> Vec<String> {
    let mut problems = Vec::new();
    for (kind, folder, required) in MOUNTS {
        // Folders on sysfs exist already or cannot be made; mount tells.
        let _ = std::fs::create_dir_all(folder);
        match mount(kind, folder) {
            Ok(()) => {}
            // Already mounted, as devtmpfs is by some kernels.
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {}
            Err(error) if required => problems.push(format!("mount {folder}: {error}")),
            Err(_) => {}
        }
    }
    problems
}

fn mount(kind: &str, folder: &str) -> io::Result<()> {
    let kind = c_string(kind)?;
    let folder = c_string(folder)?;
    // SAFETY: source, target and type are terminated strings that outlive the call; the data
    // pointer is null, which these file systems take as "no options".
    check(unsafe {
        libc::mount(
            kind.as_ptr(),
            folder.as_ptr(),
            kind.as_ptr(),
            0,
            std::ptr::null(),
        )
    })
}

/// Loads a module from its file.
pub fn load_module(path: &Path, parameters: &str) -> io::Result<()> {
    let file = File::open(path)?;
    let parameters = c_string(parameters)?;
    // SAFETY: the descriptor is open and the parameters are a terminated string; both outlive the
    // call.
    let status = unsafe {
        libc::syscall(
            libc::SYS_finit_module,
            file.as_raw_fd(),
            parameters.as_ptr(),
            0,
        )
    };
    check(if status < 0 { -1 } else { 0 })
}

/// Unloads a module; does not wait for its users.
pub fn unload_module(name: &str) -> io::Result<()> {
    let name = c_string(name)?;
    // SAFETY: the name is a terminated string that outlives the call.
    let status = unsafe { libc::syscall(libc::SYS_delete_module, name.as_ptr(), libc::O_NONBLOCK) };
    check(if status < 0 { -1 } else { 0 })
}

/// Puts a serial port into raw mode, so that bytes pass as they are, and drops what is buffered.
pub fn set_raw(port: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: an all-zero termios is a valid value of that plain C structure.
    let mut mode: libc::termios = unsafe { std::mem::zeroed() };
    // SAFETY: the descriptor is open for the borrow and `mode` is exclusively ours to write.
    check(unsafe { libc::tcgetattr(port.as_raw_fd(), &mut mode) })?;
    // SAFETY: `mode` is a valid termios, and the call changes only it.
    unsafe { libc::cfmakeraw(&mut mode) };
    mode.c_cflag |= libc::CLOCAL | libc::CREAD;
    mode.c_cflag &= !libc::CRTSCTS;
    // SAFETY: the descriptor is open and `mode` is a valid termios that is only read.
    check(unsafe { libc::tcsetattr(port.as_raw_fd(), libc::TCSANOW, &mode) })?;
    // SAFETY: the descriptor is open; the call takes no memory.
    check(unsafe { libc::tcflush(port.as_raw_fd(), libc::TCIOFLUSH) })
}

/// Waits until `file` can be read. False: the time passed.
pub fn wait_readable(file: BorrowedFd<'_>, timeout: Duration) -> io::Result<bool> {
    let mut entry = libc::pollfd {
        fd: file.as_raw_fd(),
        events: libc::POLLIN,
        revents: 0,
    };
    let timeout = libc::c_int::try_from(timeout.as_millis()).unwrap_or(libc::c_int::MAX);
    // SAFETY: one live entry is announced as one; the call writes only its revents.
    let ready = unsafe { libc::poll(&mut entry, 1, timeout) };
    check(ready)?;
    Ok(ready > 0)
}

/// Kills a process group.
pub fn kill_group(leader: u32) {
    let Ok(leader) = libc::pid_t::try_from(leader) else {
        return;
    };
    if leader > 1 {
        // SAFETY: the call takes no memory; a group above 1 is never this program's own.
        unsafe { libc::kill(-leader, libc::SIGKILL) };
    }
}

/// As PID 1: kills every other process and collects the dead. Elsewhere does nothing.
pub fn kill_strays() {
    if std::process::id() != 1 {
        return;
    }
    // SAFETY: the call takes no memory. -1 means every process but PID 1, which is this one.
    unsafe { libc::kill(-1, libc::SIGKILL) };
    // SAFETY: a null status pointer means that the status is not wanted; no Child of this program
    // is alive here that could miss its status.
    while unsafe { libc::waitpid(-1, std::ptr::null_mut(), libc::WNOHANG) } > 0 {}
}

/// Release of the running kernel.
pub fn release() -> String {
    std::fs::read_to_string("/proc/sys/kernel/osrelease")
        .map_or_else(|_| "unknown".into(), |text| text.trim().to_owned())
}

/// Writes everything out and turns the machine off.
pub fn power_off() -> ! {
    // SAFETY: neither call takes memory. Where this is not PID 1 of a test machine, main has
    // refused to run.
    unsafe {
        libc::sync();
        libc::reboot(libc::RB_POWER_OFF);
    }
    // Only reached if the kernel refused. PID 1 must not end.
    loop {
        std::thread::sleep(Duration::from_secs(3600));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    /// Proves that a file that is no module and a missing one are errors with their errno.
    #[test]
    fn modules_that_are_none() {
        assert!(load_module(Path::new("/nonexistent.ko"), "").is_err());
        assert!(load_module(Path::new("/dev/null"), "a\0b").is_err());
    }

    /// Proves that waiting for input ends at its time, and at once when there is some.
    #[test]
    fn waiting_ends() {
        use std::io::Write as _;
        use std::os::unix::net::UnixStream;
        let (mut near, far) = UnixStream::pair().unwrap();
        let short = Duration::from_millis(5);
        assert!(!wait_readable(far.as_fd(), short).unwrap());
        near.write_all(b"x").unwrap();
        assert!(wait_readable(far.as_fd(), Duration::from_secs(10)).unwrap());
    }

    /// Proves that raw mode is refused on something that is no terminal.
    #[test]
    fn raw_mode_needs_a_terminal() {
        let null = File::open("/dev/null").unwrap();
        assert!(set_raw(null.as_fd()).is_err());
    }
}
