// SPDX-License-Identifier: MIT OR Apache-2.0
//! The rights that the worker gives up before it reads what a guest made.
//!
//! A seccomp filter for all threads allows what a Vulkan driver and its compiler need to go on
//! working: memory (executable too, the software driver translates shaders to machine code),
//! threads, clocks, and what is open already. Everything else fails with EPERM: no file is opened,
//! no socket made, no program run, no other process seen or signalled. Threads are made with
//! clone(2), whose flags the filter can see; clone3(2) seems not to exist.
//!
//! Drivers of real GPUs talk to the kernel by ioctl(2) on descriptors they have open; the software
//! driver gets no ioctl, and a limit of address space.

use std::collections::BTreeMap;
use std::env::consts::ARCH;
use std::fs::File;
use std::io;
use std::os::unix::net::UnixStream;

use libc::c_long;
use nix::sys::prctl;
use nix::sys::resource::{setrlimit, Resource};
use nix::sys::signal::Signal;
use seccompiler::{
    apply_filter_all_threads, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp,
    SeccompCondition, SeccompFilter, SeccompRule,
};

/// Address space of a worker with the software driver in bytes: the buffers of a dispatch twice,
/// the compiler, and the stacks of its threads.
const ADDRESS_SPACE: u64 = 8 << 30;

/// Calls allowed with any arguments.
const ALLOWED: &[c_long] = &[
    // The socket, and anonymous files that drivers keep device memory in.
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_recvfrom,
    libc::SYS_sendto,
    libc::SYS_close,
    libc::SYS_memfd_create,
    libc::SYS_ftruncate,
    libc::SYS_fallocate,
    libc::SYS_fstat,
    libc::SYS_lseek,
    // Memory.
    libc::SYS_brk,
    libc::SYS_mmap,
    libc::SYS_munmap,
    libc::SYS_mprotect,
    libc::SYS_mremap,
    libc::SYS_madvise,
    // Threads and waiting.
    libc::SYS_futex,
    libc::SYS_set_robust_list,
    libc::SYS_rseq,
    libc::SYS_sched_yield,
    libc::SYS_sched_getaffinity,
    libc::SYS_gettid,
    libc::SYS_getpid,
    libc::SYS_poll,
    libc::SYS_ppoll,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_nanosleep,
    libc::SYS_restart_syscall,
    libc::SYS_getrandom,
    libc::SYS_membarrier,
    // Signals of this process and its end.
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    libc::SYS_exit,
    libc::SYS_exit_group,
];

/// Why rights could not be given up.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SandboxError {
    #[error("seccomp: {0}")]
    Seccomp(String),
    #[error("limit of address space: {0}")]
    Limit(#[from] nix::Error),
    #[error("{0} still works")]
    StillWorks(&'static str),
}

impl From<seccompiler::BackendError> for SandboxError {
    fn from(error: seccompiler::BackendError) -> Self {
        Self::Seccomp(error.to_string())
    }
}

/// Makes the process end when the thread that started it does, whatever a shader is at.
pub(crate) fn die_with_parent() -> io::Result<()> {
    prctl::set_pdeathsig(Signal::SIGKILL)?;
    Ok(())
}

/// Gives up every right that running shaders does not need, for all threads, and makes sure of it.
pub(crate) fn enter(software: bool) -> Result<(), SandboxError> {
    setrlimit(Resource::RLIMIT_CORE, 0, 0)?;
    if software {
        setrlimit(Resource::RLIMIT_AS, ADDRESS_SPACE, ADDRESS_SPACE)?;
    }
    // In this order: the filter with the list does not allow seccomp(2) itself.
    install(no_clone3()?)?;
    install(allowed(software)?)?;
    check()
}

fn install(program: BpfProgram) -> Result<(), SandboxError> {
    apply_filter_all_threads(&program).map_err(|error| SandboxError::Seccomp(error.to_string()))
}

/// clone3(2) does not exist, so that the C library takes clone(2).
fn no_clone3() -> Result<BpfProgram, SandboxError> {
    let rules = BTreeMap::from([(libc::SYS_clone3, Vec::new())]);
    let error = SeccompAction::Errno(libc::ENOSYS.unsigned_abs());
    filter(rules, SeccompAction::Allow, error)
}

fn allowed(software: bool) -> Result<BpfProgram, SandboxError> {
    let mut rules: BTreeMap<c_long, Vec<SeccompRule>> =
        ALLOWED.iter().map(|call| (*call, Vec::new())).collect();
    if !software {
        rules.insert(libc::SYS_ioctl, Vec::new());
    }
    let thread = u64::from(libc::CLONE_THREAD.unsigned_abs());
    let makes_a_thread = condition(0, SeccompCmpOp::MaskedEq(thread), thread)?;
    rules.insert(libc::SYS_clone, vec![makes_a_thread]);
    let sets_a_name = condition(
        0,
        SeccompCmpOp::Eq,
        u64::from(libc::PR_SET_NAME.unsigned_abs()),
    )?;
    rules.insert(libc::SYS_prctl, vec![sets_a_name]);
    let own = u64::from(std::process::id());
    rules.insert(libc::SYS_tgkill, vec![condition(0, SeccompCmpOp::Eq, own)?]);
    // Of two filters that disagree the stricter one counts, which is the other one's ENOSYS.
    rules.insert(libc::SYS_clone3, Vec::new());
    let error = SeccompAction::Errno(libc::EPERM.unsigned_abs());
    filter(rules, error, SeccompAction::Allow)
}

fn condition(argument: u8, op: SeccompCmpOp, value: u64) -> Result<SeccompRule, SandboxError> {
    let condition = SeccompCondition::new(argument, SeccompCmpArgLen::Dword, op, value)?;
    Ok(SeccompRule::new(vec![condition])?)
}

fn filter(
    rules: BTreeMap<c_long, Vec<SeccompRule>>,
    others: SeccompAction,
    these: SeccompAction,
) -> Result<BpfProgram, SandboxError> {
    Ok(SeccompFilter::new(rules, others, these, ARCH.try_into()?)?.try_into()?)
}

/// Tries what must not work any more.
fn check() -> Result<(), SandboxError> {
    let refused = |error: io::Error| error.kind() == io::ErrorKind::PermissionDenied;
    if !File::open("/").is_err_and(refused) {
        return Err(SandboxError::StillWorks("opening a file"));
    }
    if !UnixStream::pair().is_err_and(refused) {
        return Err(SandboxError::StillWorks("making a socket"));
    }
    let program = std::process::Command::new("/bin/true").spawn();
    if program.is_ok() {
        return Err(SandboxError::StillWorks("running a program"));
    }
    Ok(())
}
