// SPDX-License-Identifier: MIT OR Apache-2.0
//! A process without io_uring, as sandboxes make them.

#![expect(unsafe_code, reason = "prctl has no safe form in the standard library")]

use std::io;

/// Refuses `syscalls` to this process with EPERM from here on.
///
/// # Errors
///
/// Those of prctl(2); EINVAL where the kernel has no filters.
pub fn refuse(syscalls: &[libc::c_long]) -> io::Result<()> {
    let program = program(syscalls)?;
    let filter = libc::sock_fprog {
        len: program.len() as u16,
        filter: program.as_ptr().cast_mut(),
    };
    // SAFETY: the call takes numbers.
    check(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) })?;
    // SAFETY: `filter` is a live program header that names `program`, which is live, as long as it
    // says, and only read.
    check(unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &filter) })
}

fn check(status: libc::c_int) -> io::Result<()> {
    match status {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// The program: loads the number of the system call, compares it with each, and refuses or allows.
fn program(syscalls: &[libc::c_long]) -> io::Result<Vec<libc::sock_filter>> {
    let too_many = |_| io::Error::from_raw_os_error(libc::EINVAL);
    let step = |code: u32, jump_true: u8, k: u32| libc::sock_filter {
        code: code as u16,
        jt: jump_true,
        jf: 0,
        k,
    };
    let mut program = vec![step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0)];
    for (index, number) in syscalls.iter().enumerate() {
        // Over the comparisons that are left and the step that allows.
        let to_refusal = u8::try_from(syscalls.len() - index).map_err(too_many)?;
        let number = u32::try_from(*number).map_err(too_many)?;
        program.push(step(
            libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K,
            to_refusal,
            number,
        ));
    }
    let refusal = libc::SECCOMP_RET_ERRNO | libc::EPERM as u32;
    for action in [libc::SECCOMP_RET_ALLOW, refusal] {
        program.push(step(libc::BPF_RET | libc::BPF_K, 0, action));
    }
    Ok(program)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Proves that each comparison jumps to the refusal, and that what equals none is allowed.
    #[test]
    fn jumps() {
        let program = program(&[425, 426]).unwrap();
        assert_eq!(program.len(), 5);
        for (place, number) in [(1, 425), (2, 426)] {
            assert_eq!(program[place].k, number);
            assert_eq!(place + 1 + usize::from(program[place].jt), 4);
        }
        assert_eq!(program[3].k, libc::SECCOMP_RET_ALLOW);
    }

    /// Proves that a process is refused what was named, and nothing else.
    #[test]
    fn refused() {
        // Only this thread is filtered.
        let thread = std::thread::spawn(|| {
            refuse(&[libc::SYS_getppid])?;
            std::fs::metadata("/").map(drop)
        });
        match thread.join().unwrap() {
            Ok(()) => {}
            Err(error) => assert_eq!(error.raw_os_error(), Some(libc::EINVAL)),
        }
    }
}
