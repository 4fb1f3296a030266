// SPDX-License-Identifier: GPL-2.0-only

//! Threads of the kernel.
//!
//! C header: [`include/linux/kthread.h`](srctree/include/linux/kthread.h)

use core::ptr::NonNull;

use kernel::{
    current,
    error::from_err_ptr,
    prelude::*,
    sync::Arc, //
};

use crate::{
    bindings,
    sync::Completion, //
};

/// A thread, which is waited for when this is dropped.
///
/// # Invariants
///
/// The pointer is a thread that [`Thread::spawn`] made, and a reference to it is ours.
pub struct Thread {
    task: NonNull<bindings::task_struct>,
    progress: Arc<Progress>,
}

/// How far a thread is.
#[pin_data]
struct Progress {
    /// It takes signals, and is about to call its function.
    #[pin]
    started: Completion,
    /// Its function has returned.
    #[pin]
    ended: Completion,
}

/// What a new thread finds.
struct Start<F> {
    f: F,
    progress: Arc<Progress>,
}

impl Thread {
    /// Starts a thread that calls `f`, and waits until it is about to. Sleeps.
    ///
    /// The thread ends when `f` returns.
    ///
    /// # Errors
    ///
    /// `ENOMEM`, `EINTR` if the calling task was killed, or what the kernel says if it makes no thread.
    pub fn spawn<F: FnOnce() + Send + 'static>(name: &CStr, f: F) -> Result<Self> {
        let progress = Arc::pin_init(
            pin_init!(Progress {
                started <- Completion::new(),
                ended <- Completion::new(),
            }),
            GFP_KERNEL,
        )?;
        let start = Start {
            f,
            progress: progress.clone(),
        };
        let start = KBox::into_raw(KBox::new(start, GFP_KERNEL)?);

        // SAFETY:
        // - The function takes the argument over when the thread is woken, which is below.
        // - The format is for one string, which the function copies.
        let task = from_err_ptr(unsafe {
            bindings::kthread_create_on_node(
                Some(run::<F>),
                start.cast(),
                bindings::NUMA_NO_NODE,
                c"%s".as_char_ptr(),
                name.as_char_ptr(),
            )
        });
        let task = match task.and_then(|task| NonNull::new(task).ok_or(ENOMEM)) {
            Ok(task) => task,
            Err(e) => {
                // SAFETY: There is no thread, so the box is still ours.
                drop(unsafe { KBox::from_raw(start) });
                return Err(e);
            }
        };

        // SAFETY: The new thread sleeps until it is woken, so it is valid. The reference keeps it when
        // it has ended.
        unsafe {
            bindings::get_task_struct(task.as_ptr());
            bindings::wake_up_process(task.as_ptr());
        }
        // Nobody else can stop the thread, so it comes to this. A signal sent before would be lost, and
        // a thread stopped before would not call its function.
        progress.started.wait();
        // INVARIANT: Made just now.
        Ok(Self { task, progress })
    }

    /// Cuts short the interruptible sleeps of the thread, the present one and all that follow. Those
    /// that are killable are not cut short. May be called in any context.
    pub fn interrupt(&self) {
        // SAFETY: The task is valid by the type invariants. One that has ended ignores signals.
        unsafe {
            // CAST: The number of a signal is small.
            bindings::send_sig(bindings::SIGTERM as c_int, self.task.as_ptr(), 1)
        };
    }

    /// Whether the function of the thread has returned. May be called in any context.
    pub fn is_finished(&self) -> bool {
        self.progress.ended.is_done()
    }
}

impl Drop for Thread {
    /// Interrupts the thread, and waits until it has ended. Sleeps, so it is not for the thread itself.
    fn drop(&mut self) {
        self.interrupt();
        // SAFETY: By the type invariants the thread is one that nobody else stops, and the reference to
        // it, which keeps it valid if it has ended, is ours to give up.
        unsafe { bindings::kthread_stop_put(self.task.as_ptr()) };
    }
}

// SAFETY: A thread may be signalled and waited for by any other.
unsafe impl Send for Thread {}

// SAFETY: Signals lock for themselves.
unsafe impl Sync for Thread {}

/// Whether the present thread is asked to end, by [`Thread::interrupt`] or because its [`Thread`] is
/// being dropped. That does not change any more.
pub fn interrupted() -> bool {
    current!().signal_pending()
}

/// The function of a thread.
///
/// # Safety
///
/// Only for a new thread, with a [`Start`] of `F` that becomes the function's.
unsafe extern "C" fn run<F: FnOnce() + Send + 'static>(start: *mut c_void) -> c_int {
    // SAFETY: By the safety requirements.
    let start = unsafe { KBox::from_raw(start.cast::<Start<F>>()) };
    let Start { f, progress } = KBox::into_inner(start);

    // Of the kernel alone: user space cannot send it.
    // SAFETY: Changes how the present thread, which shares it with no other, takes a signal.
    unsafe { bindings::vaccel_allow_kernel_signal(bindings::SIGTERM as c_int) };
    progress.started.complete_all();
    f();
    progress.ended.complete_all();
    0
}
