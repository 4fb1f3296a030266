// SPDX-License-Identifier: GPL-2.0-only

//! DMA fences: that something on a device has ended, told to whoever waits for it.
//!
//! C headers: [`include/linux/dma-fence.h`](srctree/include/linux/dma-fence.h),
//! [`include/linux/dma-fence-unwrap.h`](srctree/include/linux/dma-fence-unwrap.h)
//!
//! Everybody may wait for a fence, with almost any lock held and on the way to free memory. So whoever
//! makes one promises that it signals in bounded time, whatever happens, and that nothing on the way
//! there waits for a fence, for a reservation or for memory. [`Signalling`] has lockdep check that.

use core::{
    cell::UnsafeCell,
    mem::ManuallyDrop,
    ptr::NonNull, //
};

use kernel::{
    error::to_result,
    prelude::*,
    sync::Arc,
    time::Jiffies,
    types::{
        NotThreadSafe,
        Opaque, //
    },
};

use crate::{
    bindings,
    sync::Wait, //
};

/// A reference to a `struct dma_fence`.
///
/// It may be dropped in any context.
///
/// # Invariants
///
/// The pointer is valid and the reference is ours.
#[repr(transparent)]
pub struct DmaFence(NonNull<bindings::dma_fence>);

impl DmaFence {
    /// Takes over a reference.
    ///
    /// # Safety
    ///
    /// `ptr` must be null, or a valid fence with a reference that the caller gives up.
    pub(crate) unsafe fn from_raw(ptr: *mut bindings::dma_fence) -> Option<Self> {
        // INVARIANT: By the safety requirements.
        NonNull::new(ptr).map(Self)
    }

    pub(crate) fn as_raw(&self) -> *mut bindings::dma_fence {
        self.0.as_ptr()
    }

    /// The fence of the core that has always been signalled, without an error.
    pub fn signalled() -> Self {
        // SAFETY: The function returns a reference, and does not fail.
        // INVARIANT: It is ours.
        Self(unsafe { NonNull::new_unchecked(bindings::dma_fence_get_stub()) })
    }

    /// Makes a fence that is signalled, with an error. May sleep.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub fn failed(error: Error) -> Result<Self> {
        let pending = PendingFence::new(&Context::new(), 1)?;
        let fence = pending.fence();

        pending.signal(Err(error));
        Ok(fence)
    }

    /// Whether the fence is signalled. May be called in any context.
    pub fn is_signaled(&self) -> bool {
        // SAFETY: The fence is valid by the type invariants.
        unsafe { bindings::vaccel_dma_fence_is_signaled(self.as_raw()) }
    }

    /// The error of a signalled fence. May be called in any context, [`Signaled::signaled`] included.
    ///
    /// That of a chain or an array need not be those of its leaves: see [`DmaFence::for_each_leaf`].
    pub fn error(&self) -> Option<Error> {
        if !self.is_signaled() {
            return None;
        }
        // SAFETY: The fence is valid by the type invariants.
        to_result(unsafe { bindings::vaccel_dma_fence_error(self.as_raw()) }).err()
    }

    /// Which sequence of fences this one is of.
    pub fn context(&self) -> u64 {
        // SAFETY: The fence is valid by the type invariants; the field does not change.
        unsafe { (*self.as_raw()).context }
    }

    /// Where in its sequence the fence is.
    pub fn seqno(&self) -> u64 {
        // SAFETY: The fence is valid by the type invariants; the field does not change.
        unsafe { (*self.as_raw()).seqno }
    }

    /// Whether both are the same fence.
    pub fn same(&self, other: &Self) -> bool {
        self.0 == other.0
    }

    /// Calls `f` for each fence that this one is made of: what is in chains and arrays, or itself.
    ///
    /// Signalled nodes of a chain may be left out. May be called wherever `f` may.
    ///
    /// # Errors
    ///
    /// The first error of `f`, which ends it.
    pub fn for_each_leaf(&self, mut f: impl FnMut(&DmaFence) -> Result) -> Result {
        let mut leaves = Leaves::new(self);

        while let Some(leaf) = leaves.current() {
            f(&leaf)?;
            leaves.advance();
        }
        Ok(())
    }

    /// Waits until the fence is signalled, for `timeout` at most, not minding signals. Sleeps.
    pub fn wait_timeout(&self, timeout: Jiffies) -> Wait {
        let timeout = c_long::try_from(timeout).unwrap_or(c_long::MAX);

        // SAFETY: The fence is valid by the type invariants.
        match unsafe { bindings::dma_fence_wait_timeout(self.as_raw(), false, timeout) } {
            0 => Wait::TimedOut,
            // Errors are those of a fence's own way to wait, after which it counts as signalled.
            _ => Wait::Done,
        }
    }

    /// Has `target` called when the fence is signalled, for as long as the result is kept. May sleep,
    /// to allocate.
    ///
    /// Returns [`None`] if the fence is signalled already. The target is not called then.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub fn on_signal<T: Signaled>(&self, target: Arc<T>) -> Result<Option<Callback<T>>> {
        if self.is_signaled() {
            return Ok(None);
        }

        let node = KBox::new(
            Node {
                cb: Opaque::uninit(),
                target: UnsafeCell::new(Some(target)),
            },
            GFP_KERNEL,
        )?;
        // The node may be called before the function returns, so it is pinned from here on.
        let node = KBox::into_pin(node);
        // SAFETY:
        // - The fence is valid by the type invariants.
        // - The node stays where it is, and is freed only after it was taken off the fence.
        let ret = to_result(unsafe {
            bindings::dma_fence_add_callback(
                self.as_raw(),
                node.cb.get(),
                Some(Node::<T>::signaled_callback),
            )
        });

        match ret {
            // INVARIANT: The node was added just now.
            Ok(()) => Ok(Some(Callback {
                fence: self.clone(),
                node,
            })),
            Err(e) if e == ENOENT => Ok(None),
            Err(e) => Err(e),
        }
    }
}

impl Clone for DmaFence {
    fn clone(&self) -> Self {
        // SAFETY: The fence is valid by the type invariants.
        unsafe { bindings::vaccel_dma_fence_get(self.as_raw()) };

        // INVARIANT: That reference is the new value's.
        Self(self.0)
    }
}

impl Drop for DmaFence {
    fn drop(&mut self) {
        // SAFETY: By the type invariants the reference is ours to give up.
        unsafe { bindings::vaccel_dma_fence_put(self.as_raw()) };
    }
}

// SAFETY: Fences are reference counted and lock for themselves; a reference belongs to no thread.
unsafe impl Send for DmaFence {}

// SAFETY: As above.
unsafe impl Sync for DmaFence {}

/// The way through the chains and arrays of a fence.
///
/// # Invariants
///
/// - `cursor.chain` is null, or a valid fence whose reference is ours.
/// - `leaf` is null, or a valid fence that this reference keeps.
struct Leaves {
    cursor: bindings::dma_fence_unwrap,
    leaf: *mut bindings::dma_fence,
}

impl Leaves {
    /// Starts at the first leaf of `head`.
    fn new(head: &DmaFence) -> Self {
        let mut cursor = bindings::dma_fence_unwrap::default();
        // SAFETY: The fence is valid, and the cursor, which takes a reference of it, may be written.
        let leaf = unsafe { bindings::dma_fence_unwrap_first(head.as_raw(), &mut cursor) };

        // INVARIANT: So the function leaves both.
        Self { cursor, leaf }
    }

    /// The leaf this is at. It is borrowed: what is returned gives up no reference.
    fn current(&self) -> Option<ManuallyDrop<DmaFence>> {
        // INVARIANT: The fence is valid; a reference is kept until this is advanced or dropped, which
        // is not given up, because the value is not dropped.
        NonNull::new(self.leaf).map(|leaf| ManuallyDrop::new(DmaFence(leaf)))
    }

    /// Goes to the next leaf. Must not be called without a present one.
    fn advance(&mut self) {
        // SAFETY: The cursor is at a leaf, and holds a reference of the node that this one is in.
        // INVARIANT: So the function leaves both.
        self.leaf = unsafe { bindings::dma_fence_unwrap_next(&mut self.cursor) };
    }
}

impl Drop for Leaves {
    fn drop(&mut self) {
        // SAFETY: By the type invariants the reference, if there is one, is ours to give up.
        drop(unsafe { DmaFence::from_raw(self.cursor.chain) });
    }
}

/// What is told that a fence is signalled.
pub trait Signaled: Send + Sync + 'static {
    /// The fence is signalled. Called once at most.
    ///
    /// Called in any context, with interrupts off and the lock of the fence held. So it must not
    /// sleep, signal a fence or drop a [`Callback`], nor drop the last reference to something that
    /// does any of this when it is dropped.
    fn signaled(this: Arc<Self>);
}

/// What a fence keeps of somebody to be called.
struct Node<T: Signaled> {
    cb: Opaque<bindings::dma_fence_cb>,
    /// Belongs to the callback while the node is at a fence, and to the owner of the node afterwards.
    target: UnsafeCell<Option<Arc<T>>>,
}

impl<T: Signaled> Node<T> {
    /// The function of the node.
    ///
    /// # Safety
    ///
    /// Only for the core, with the `cb` of a node that was added to the fence.
    unsafe extern "C" fn signaled_callback(
        _fence: *mut bindings::dma_fence,
        cb: *mut bindings::dma_fence_cb,
    ) {
        // SAFETY: By the safety requirements it is embedded in a node, which is not freed before the
        // lock of the fence is released.
        let node = unsafe { &*kernel::container_of!(Opaque::cast_from(cb), Self, cb) };
        // SAFETY: The owner of the node touches it only after having taken the lock of the fence,
        // which is held here, and the core calls this once.
        let target = unsafe { (*node.target.get()).take() };

        if let Some(target) = target {
            T::signaled(target);
        }
    }
}

/// Keeps the target of [`DmaFence::on_signal`] at the fence.
///
/// Dropping it takes the target away, or returns after it was called. It may be dropped in any
/// context in which the target may, but not where the lock of the fence is held.
///
/// # Invariants
///
/// The node was added to the fence.
pub struct Callback<T: Signaled> {
    fence: DmaFence,
    node: Pin<KBox<Node<T>>>,
}

impl<T: Signaled> Drop for Callback<T> {
    fn drop(&mut self) {
        // Callbacks run with the lock held that this takes, and a node is off the list before it is
        // called. So whatever is returned, nobody knows of the node afterwards.
        // SAFETY: By the type invariants the node was added to the fence, which is valid.
        unsafe { bindings::dma_fence_remove_callback(self.fence.as_raw(), self.node.cb.get()) };
    }
}

// SAFETY: The node belongs to no thread, and its target is `Send`.
unsafe impl<T: Signaled> Send for Callback<T> {}

// SAFETY: A shared reference gives access to nothing.
unsafe impl<T: Signaled> Sync for Callback<T> {}

/// A sequence of fences, each of which signals after those with lower numbers.
pub struct Context(u64);

impl Context {
    /// A new one, of which there are enough for ever.
    pub fn new() -> Self {
        // SAFETY: No requirements.
        Self(unsafe { bindings::dma_fence_context_alloc(1) })
    }

    /// Its number.
    pub fn id(&self) -> u64 {
        self.0
    }
}

impl Default for Context {
    fn default() -> Self {
        Self::new()
    }
}

/// A fence of ours that is not signalled yet. Dropping it signals it, with `ECANCELED`.
///
/// # Invariants
///
/// The fence has [`PendingFence::OPS`] and is not signalled; nobody else signals it.
#[must_use = "a fence that is dropped is signalled"]
pub struct PendingFence(DmaFence);

impl PendingFence {
    /// What the core wants to know of our fences.
    ///
    /// With neither `release` nor `wait`, a fence forgets this when it is signalled, and the core
    /// frees it. So the module may go while others have signalled fences of it: see [`synchronize`].
    const OPS: bindings::dma_fence_ops = {
        let mut ops: bindings::dma_fence_ops = pin_init::zeroed();

        ops.get_driver_name = Some(driver_name_callback);
        ops.get_timeline_name = Some(timeline_name_callback);

        ops
    };

    /// Makes a fence, which the promises of this module's documentation hold for as soon as anybody
    /// else has it. May sleep.
    ///
    /// Numbers rise within a context, in the order in which the fences are signalled.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub fn new(context: &Context, seqno: u64) -> Result<Self> {
        // The core frees the memory by the address of the fence, as memory of `kmalloc()`, and drops
        // nothing.
        let fence = KBox::new(Opaque::<bindings::dma_fence>::uninit(), GFP_KERNEL)?;
        let fence = KBox::into_raw(fence);
        // SAFETY:
        // - The pointer is to memory for a fence, which stays until its last reference is gone.
        // - The table is a constant, which lives as long as the module; `synchronize()` is for that.
        // - Without a lock given the fence uses its own.
        unsafe {
            bindings::dma_fence_init64(
                Opaque::cast_into(fence),
                const { &Self::OPS },
                core::ptr::null_mut(),
                context.0,
                seqno,
            );
        }

        // SAFETY: `KBox::into_raw()` does not return null.
        let fence = unsafe { NonNull::new_unchecked(Opaque::cast_into(fence)) };
        // INVARIANT: The first reference is ours, and only this value signals the fence.
        Ok(Self(DmaFence(fence)))
    }

    /// The fence.
    pub fn fence(&self) -> DmaFence {
        self.0.clone()
    }

    /// Signals the fence, with an error if that is the result. May be called in any context, but not
    /// where the lock of a fence is held.
    pub fn signal(self, result: Result) {
        self.complete(result);
        let this = ManuallyDrop::new(self);
        // SAFETY: `this` is not dropped, so the fence is read once.
        drop(unsafe { core::ptr::read(&this.0) });
    }

    /// Signals the fence. Must be called once.
    fn complete(&self, result: Result) {
        if let Err(error) = result {
            // SAFETY: The fence is valid, and by the type invariants it is not signalled. The value
            // is one of an error.
            unsafe { bindings::vaccel_dma_fence_set_error(self.0.as_raw(), error.to_errno()) };
        }
        // SAFETY: The fence is valid.
        unsafe { bindings::dma_fence_signal(self.0.as_raw()) };
    }
}

impl Drop for PendingFence {
    fn drop(&mut self) {
        self.complete(Err(ECANCELED));
    }
}

/// The `get_driver_name` callback of `struct dma_fence_ops`.
extern "C" fn driver_name_callback(_fence: *mut bindings::dma_fence) -> *const c_char {
    c"vaccel".as_char_ptr()
}

/// The `get_timeline_name` callback of `struct dma_fence_ops`.
extern "C" fn timeline_name_callback(_fence: *mut bindings::dma_fence) -> *const c_char {
    c"vaccel-queue".as_char_ptr()
}

/// A section on the way to signalling a fence that somebody may be waiting for.
///
/// With lockdep, complains if something in it, or a lock taken in it elsewhere, waits for a fence, for a
/// reservation or for memory to be freed. Sections may nest.
///
/// # Invariants
///
/// `cookie` is what `dma_fence_begin_signalling()` returned on this thread.
#[must_use = "the section ends when the guard is dropped"]
pub struct Signalling {
    cookie: bool,
    _not_send: NotThreadSafe,
}

impl Signalling {
    /// Begins a section. May be called in any context.
    pub fn begin() -> Self {
        // INVARIANT: The type is not `Send`.
        Self {
            // SAFETY: No requirements.
            cookie: unsafe { bindings::vaccel_dma_fence_begin_signalling() },
            _not_send: NotThreadSafe,
        }
    }
}

impl Drop for Signalling {
    fn drop(&mut self) {
        // SAFETY: By the type invariants the cookie is that of the section, begun on this thread.
        unsafe { bindings::vaccel_dma_fence_end_signalling(self.cookie) };
    }
}

/// Waits for those who still look into what belongs to the module of a fence that is signalled. Sleeps.
///
/// A signalled fence does not refer to the module any more, but somebody may have begun just before to
/// ask it for its name, or may be returning from a [`Signaled::signaled`]. Both happen within a section
/// of RCU. Call this at the end of the module, when all fences of it are signalled and all callbacks
/// dropped.
pub fn synchronize() {
    // SAFETY: No requirements.
    unsafe { bindings::synchronize_rcu() };
}
