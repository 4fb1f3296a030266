// SPDX-License-Identifier: GPL-2.0-only

//! Commands by io_uring.
//!
//! C header: [`include/linux/io_uring/cmd.h`](srctree/include/linux/io_uring/cmd.h)
//!
//! A command comes as an [`Issue`] and has to give an [`Answer`], which only these make: the result at
//! once ([`Issue::complete`]), another try where one can sleep ([`Issue::sleep`]), or something that
//! goes on by itself ([`Issue::pend`]). What goes on holds its [`Command`] and completes it from any
//! context; the completion is posted by the task that issued it. The core may end a pending command
//! first: when its task or its ring ends. Whoever comes first wins, so each completes once.
//!
//! # Lifetime
//!
//! The core keeps the command, and the command its file, until the completion is posted. That is done
//! in task work or in the core's call to cancel, both of which have the ring's lock, and by whoever
//! moved the state to `DONE`; nobody else touches the command from then on.

use core::{
    cell::UnsafeCell,
    marker::PhantomData,
    ptr::{
        self,
        NonNull, //
    },
    sync::atomic::{
        AtomicU8,
        Ordering, //
    }, //
};

use kernel::{
    fs::File,
    prelude::*,
    sync::Arc, //
};

use crate::bindings;

/// Whether the kernel has io_uring.
pub const AVAILABLE: bool = cfg!(CONFIG_IO_URING);

/// Bytes of the command area of an entry of 128 bytes, and of one of 64.
const AREA: (usize, usize) = (80, 16);

/// What the issue of a command gives back to the core.
#[must_use = "the core has to learn what became of the command"]
pub struct Answer(c_int);

impl Answer {
    pub(crate) fn into_raw(self) -> c_int {
        self.0
    }

    /// The command failed before anything was done.
    pub fn failed(error: Error) -> Self {
        // `EAGAIN` would have it issued again, and `EIOCBQUEUED` would leave it pending.
        Self(match error {
            EAGAIN => EBUSY.to_errno(),
            error => error.to_errno(),
        })
    }
}

/// A command that is being issued.
///
/// # Invariants
///
/// The command is valid and nobody has completed it; `flags` are those that the core gave with it.
pub struct Issue<'a> {
    cmd: NonNull<bindings::io_uring_cmd>,
    flags: u32,
    _during: PhantomData<&'a ()>,
}

impl Issue<'_> {
    /// # Safety
    ///
    /// Only for the `uring_cmd` callback, which has to return the answer.
    pub(crate) unsafe fn from_raw(cmd: NonNull<bindings::io_uring_cmd>, flags: u32) -> Self {
        // INVARIANT: As required from the caller.
        Self {
            cmd,
            flags,
            _during: PhantomData,
        }
    }

    /// The operation.
    pub fn op(&self) -> u32 {
        // SAFETY: By the type invariants.
        unsafe { bindings::vaccel_io_uring_cmd_op(self.cmd.as_ptr()) }
    }

    /// The flags that user space gave with the command.
    pub fn user_flags(&self) -> u32 {
        // SAFETY: By the type invariants.
        unsafe { bindings::vaccel_io_uring_cmd_flags(self.cmd.as_ptr()) }
    }

    /// The number by which user space knows the command.
    pub fn user_data(&self) -> u64 {
        // SAFETY: By the type invariants.
        unsafe { bindings::vaccel_io_uring_cmd_user_data(self.cmd.as_ptr()) }
    }

    /// Whether this may sleep for long.
    pub fn may_sleep(&self) -> bool {
        self.flags & bindings::VACCEL_IO_URING_F_NONBLOCK == 0
    }

    /// The file of the command.
    pub fn file(&self) -> &File {
        // SAFETY: The command keeps its file, which is of a device that has no position.
        unsafe { File::from_raw_file(bindings::vaccel_io_uring_cmd_file(self.cmd.as_ptr())) }
    }

    /// Copies the command area, once.
    ///
    /// # Errors
    ///
    /// `EINVAL` if it is too small.
    pub fn read<T: FromBytes>(&self) -> Result<T> {
        let mut value = T::new_zeroed();
        self.read_to(&mut value)?;
        Ok(value)
    }

    /// Copies the command area to `value`, once.
    ///
    /// # Errors
    ///
    /// `EINVAL` if it is too small.
    pub fn read_to<T: FromBytes>(&self, value: &mut T) -> Result {
        let large = self.flags & bindings::VACCEL_IO_URING_F_SQE128 != 0;
        if size_of::<T>() > if large { AREA.0 } else { AREA.1 } {
            return Err(EINVAL);
        }
        // SAFETY:
        // - The area has that many bytes. User space may be changing it; it is copied by the C
        //   function, and what came out is a `T` whatever the bytes are.
        // - `value` is as large.
        unsafe {
            bindings::vaccel_io_uring_cmd_read(
                self.cmd.as_ptr(),
                ptr::from_mut(value).cast(),
                size_of::<T>(),
            );
        }
        Ok(())
    }

    /// Has the command issued again where it may sleep, after those that follow it maybe.
    pub fn sleep(self) -> Answer {
        Answer(EAGAIN.to_errno())
    }

    /// Ends the command with `result`, and `extra` for who has room for it.
    pub fn complete(self, result: i32, extra: u64) -> Answer {
        // SAFETY: By the type invariants; the answer says that this was done.
        unsafe {
            bindings::vaccel_io_uring_cmd_done32(self.cmd.as_ptr(), result, extra, self.flags);
        }
        Answer(QUEUED)
    }

    /// Lets the command go on by itself: as what `make` makes of it.
    ///
    /// # Errors
    ///
    /// The error of `make`. The command was not touched then.
    pub fn pend<T: Pending>(
        self,
        make: impl FnOnce(Command) -> Result<Arc<T>>,
    ) -> Result<(Arc<T>, Answer)> {
        // INVARIANT: It is pending from here on, or `make` fails and it is nobody's.
        let owner = make(Command {
            cmd: self.cmd,
            state: AtomicU8::new(WAITING),
            outcome: UnsafeCell::new((0, 0)),
        })?;
        // SAFETY:
        // - By the type invariants; nobody else knows the command yet.
        // - The reference that the command has is given up here and taken by who completes it.
        unsafe {
            bindings::vaccel_io_uring_cmd_pdu(self.cmd.as_ptr()).write(
                bindings::vaccel_uring_pdu {
                    work: Some(work_callback::<T>),
                    cancel: Some(cancel_callback::<T>),
                    data: Arc::into_raw(owner.clone()).cast_mut().cast(),
                },
            );
            bindings::vaccel_io_uring_cmd_mark_cancelable(self.cmd.as_ptr(), self.flags);
        }
        Ok((owner, Answer(QUEUED)))
    }
}

/// `-EIOCBQUEUED`: the completion comes, or came, by another way.
const QUEUED: c_int = -(bindings::EIOCBQUEUED as c_int);

/// A command that goes on by itself.
pub trait Pending: Send + Sync + 'static {
    /// The command.
    fn command(&self) -> &Command;

    /// What user space is told, `result` and `extra` being what the command was completed with.
    /// In task context, without sleeping for long.
    fn outcome(&self, result: i32, extra: u64) -> (i32, u64) {
        (result, extra)
    }

    /// The completion was posted. In task context, without sleeping for long.
    fn ended(this: Arc<Self>);
}

/// Nobody ended it.
const WAITING: u8 = 0;
/// Nobody ended it, and only the core may do that early.
const STARTED: u8 = 1;
/// Somebody ended it.
const DONE: u8 = 2;

/// A command that is pending.
///
/// # Invariants
///
/// - The command is valid until the state is `DONE` and its completion was posted.
/// - `outcome` is written by who made the state `DONE`, before the task work is queued, and read by the
///   task work only.
pub struct Command {
    cmd: NonNull<bindings::io_uring_cmd>,
    state: AtomicU8,
    outcome: UnsafeCell<(i32, u64)>,
}

impl Command {
    fn change(&self, from: u8, to: u8) -> bool {
        self.state
            .compare_exchange(from, to, Ordering::AcqRel, Ordering::Relaxed)
            .is_ok()
    }

    /// Makes it `DONE`. Whether it was not.
    fn end(&self) -> bool {
        self.state.swap(DONE, Ordering::AcqRel) != DONE
    }

    /// Begins what cannot be [cancelled](Command::cancel). Whether the command had not ended.
    pub fn start(&self) -> bool {
        self.change(WAITING, STARTED)
    }

    /// Ends that. Whether the command had not ended.
    pub fn rest(&self) -> bool {
        self.change(STARTED, WAITING)
    }

    /// Ends the command with `ECANCELED`, unless it had ended or is about to. Whether it did. In any
    /// context.
    pub fn cancel(&self) -> bool {
        if !self.change(WAITING, DONE) {
            return false;
        }
        self.post(ECANCELED.to_errno(), 0);
        true
    }

    /// Ends the command, unless it had ended. Whether it did. In any context.
    pub fn complete(&self, result: i32, extra: u64) -> bool {
        if !self.end() {
            return false;
        }
        self.post(result, extra);
        true
    }

    /// Has the completion posted. The caller made the state `DONE`.
    fn post(&self, result: i32, extra: u64) {
        // SAFETY: By the type invariants nobody else accesses it before the task work below does.
        unsafe { *self.outcome.get() = (result, extra) };
        // SAFETY: By the type invariants: the completion has not been posted, as it was the caller
        // who made the state `DONE`.
        unsafe { bindings::vaccel_io_uring_cmd_do_in_task_lazy(self.cmd.as_ptr()) };
    }
}

// SAFETY: What is in it is synchronised by the state, and the command may be completed on any thread.
unsafe impl Send for Command {}

// SAFETY: As above.
unsafe impl Sync for Command {}

/// Posts the completion, in the task that issued the command or, if that is gone, in a worker.
///
/// # Safety
///
/// Only for task work, with a command that [`Issue::pend`] made the pending one of a `T`, and that is
/// `DONE`.
unsafe extern "C" fn work_callback<T: Pending>(cmd: *mut bindings::io_uring_cmd) {
    // SAFETY: The command is valid, and its reference to what it belongs to is given up by its end.
    let owner = unsafe { take_owner::<T>(cmd) };
    // SAFETY: The task work was queued behind the writing.
    let (result, extra) = unsafe { *owner.command().outcome.get() };
    let (result, extra) = owner.outcome(result, extra);
    // SAFETY: The command is `DONE`, so nobody else completes it. Task work has the ring's lock.
    unsafe {
        bindings::vaccel_io_uring_cmd_done32(
            cmd,
            result,
            extra,
            bindings::VACCEL_URING_TASK_WORK_FLAGS,
        );
    }
    T::ended(owner);
}

/// Ends a pending command early.
///
/// # Safety
///
/// Only for the core, with a command that [`Issue::pend`] made the pending one of a `T`, and whose
/// completion was not posted.
unsafe extern "C" fn cancel_callback<T: Pending>(cmd: *mut bindings::io_uring_cmd, flags: u32) {
    // SAFETY: The command is pending, and so refers to its owner.
    let owner = unsafe {
        let data = (*bindings::vaccel_io_uring_cmd_pdu(cmd)).data;
        &*data.cast::<T>()
    };
    if !owner.command().end() {
        // Its task work is on the way.
        return;
    }
    // SAFETY: The command is valid, and its reference is given up by its end, which is here.
    let owner = unsafe { take_owner::<T>(cmd) };
    // SAFETY: It was made `DONE` here, so nobody else completes it.
    unsafe { bindings::vaccel_io_uring_cmd_done32(cmd, ECANCELED.to_errno(), 0, flags) };
    T::ended(owner);
}

/// Takes the reference that a command has to what it belongs to.
///
/// # Safety
///
/// The command must be the pending one of a `T`, and this must be called once for it.
unsafe fn take_owner<T: Pending>(cmd: *mut bindings::io_uring_cmd) -> Arc<T> {
    // SAFETY: `Issue::pend()` left it there.
    unsafe { Arc::from_raw((*bindings::vaccel_io_uring_cmd_pdu(cmd)).data.cast()) }
}

/// Has the core's wish to end a pending command fulfilled.
///
/// # Safety
///
/// Only for the `uring_cmd` callback, with a command that is pending, and the flags it came with.
unsafe fn cancel(cmd: NonNull<bindings::io_uring_cmd>, flags: u32) {
    // SAFETY: The core cancels only what was marked, which is done behind the writing of these.
    unsafe {
        if let Some(cancel) = (*bindings::vaccel_io_uring_cmd_pdu(cmd.as_ptr())).cancel {
            cancel(cmd.as_ptr(), flags);
        }
    }
}

/// The `uring_cmd` callback of a file whose commands `issue` takes.
///
/// # Safety
///
/// Only for the core, with a valid command and the flags it came with; `issue` may only be called with
/// commands of the file that the callback belongs to.
pub(crate) unsafe fn callback(
    cmd: *mut bindings::io_uring_cmd,
    flags: u32,
    issue: impl FnOnce(Issue<'_>) -> Answer,
) -> c_int {
    let Some(cmd) = NonNull::new(cmd) else {
        return EINVAL.to_errno();
    };
    if flags & bindings::VACCEL_IO_URING_F_CANCEL != 0 {
        // SAFETY: As required from the caller.
        unsafe { cancel(cmd, flags) };
        return 0;
    }
    // SAFETY: As required from the caller, to whom the answer goes.
    issue(unsafe { Issue::from_raw(cmd, flags) }).into_raw()
}
