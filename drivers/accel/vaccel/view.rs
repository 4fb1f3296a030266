// SPDX-License-Identifier: GPL-2.0-only

//! The CPU's view of memory of the host: through the I/O space, which is finite.
//!
//! LOCK2 has the host place an allocation in the I/O space, and keep it there wherever it moves the
//! memory. That happens at the first access to a mapping and stays, until the host has no room for
//! another: then the view that was faulted in longest ago ends: its user mappings are removed, the host
//! is told, and the next access starts over. Fences have their pages there too; views make way for
//! them as well ([`Views::with_room`]).
//!
//! # States
//!
//! Hidden, changing (one task asks the host, others wait), shown. Only a shown view is inserted into
//! page tables, and only under [`View::state`]; whoever hides it removes the user mappings under the
//! same lock, so none is left when the host gives the place to somebody else.
//!
//! # Locks
//!
//! `mmap_lock` of the faulting task, where it could not be dropped, or what a submission holds that
//! makes the fence of its queue; then `Views::turn`, so that nobody finds the space full of what
//! another is about to show; then `View::state`; then `Views::shown`, or the page tables. No answer of
//! the host needs any of them, and the last two are not held while the host is asked.

use kernel::prelude::*;
use kernel::rbtree::{
    RBTree,
    RBTreeNodeReservation, //
};
use kernel::sync::{
    new_mutex,
    Arc,
    Mutex,
    SetOnce, //
};
use kernel::time::msecs_to_jiffies;

use crate::allocation::Allocation;
use crate::bo::Bo;
use crate::drm::gem::window::{
    Fault,
    FaultEnd,
    UserMappings, //
};
use crate::gpupv::{
    self,
    Request, //
};
use crate::host_error::HostResult;
use crate::io::{
    CacheMode,
    MemRemap, //
};
use crate::link::reply_timeout_ms;
use crate::reaper::Owned;
use crate::release::What;
use crate::sync::{
    Completion,
    Wait, //
};
use crate::turn::Turn;

/// A view in the I/O space.
struct Shown {
    memory: Arc<MemRemap>,
    lock: Owned,
    /// Kernel users, who keep it where it is.
    pins: u32,
    /// When it was faulted in last: its key in [`Views::shown`].
    used: u64,
}

enum State {
    Hidden,
    /// Somebody asks the host; completed when that is over.
    Changing(Arc<Completion>),
    Shown(Shown),
}

/// The CPU's view of one allocation.
#[pin_data]
pub(crate) struct View {
    #[pin]
    state: Mutex<State>,
    /// There as soon as the object can be mapped.
    users: SetOnce<UserMappings<Bo>>,
    mode: CacheMode,
    // Held, so that its handle means nothing else while the host is told that a view ends.
    allocation: Arc<Allocation>,
}

impl View {
    /// A hidden view of `allocation`.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn new(allocation: Arc<Allocation>, mode: CacheMode) -> Result<Arc<Self>> {
        Arc::pin_init(
            pin_init!(Self {
                state <- new_mutex!(State::Hidden, "View::state"),
                users: SetOnce::new(),
                mode,
                allocation,
            }),
            GFP_KERNEL,
        )
    }

    /// Says which user mappings are of it.
    pub(crate) fn set_users(&self, users: UserMappings<Bo>) {
        self.users.populate(users);
    }

    fn views(&self) -> &Arc<Views> {
        &self.allocation.device.process.adapter.views
    }

    /// Handles a fault in a mapping of it.
    pub(crate) fn fault(self: &Arc<Self>, mut fault: Fault<'_>) -> FaultEnd {
        loop {
            let page = fault.page();
            {
                let mut state = self.state.lock();
                if let State::Shown(shown) = &mut *state {
                    shown.used = self.views().touch(shown.used);
                    return fault.insert(&shown.memory, page);
                }
            }
            fault = match fault.try_unlock() {
                Ok(unlocked) => {
                    // Whatever went wrong, the fault that follows finds out with the lock held.
                    let _ = self.show();
                    return unlocked.retry();
                }
                Err(fault) => fault,
            };
            match self.show() {
                Ok(()) => {}
                Err(error) if error.errno == EINTR => return fault.again(),
                Err(error) if error.errno == ENODEV => return fault.lost(),
                Err(error) if error.errno == ENOMEM => return fault.out_of_memory(),
                // Also if it is larger than the I/O space: trying again would not help.
                Err(_) => return fault.sigbus(),
            }
        }
    }

    /// Keeps it in the I/O space for the kernel.
    ///
    /// # Errors
    ///
    /// As [`View::show`].
    pub(crate) fn pin(self: &Arc<Self>) -> HostResult<Arc<MemRemap>> {
        loop {
            if let State::Shown(shown) = &mut *self.state.lock() {
                shown.pins = shown.pins.checked_add(1).ok_or(EOVERFLOW)?;
                return Ok(shown.memory.clone());
            }
            self.show()?;
        }
    }

    /// Undoes one [`View::pin`].
    pub(crate) fn unpin(&self) {
        if let State::Shown(shown) = &mut *self.state.lock() {
            shown.pins = shown.pins.saturating_sub(1);
        }
    }

    /// Shows it, unless it is shown.
    ///
    /// # Errors
    ///
    /// `EINTR` if killed, `ENOSPC` if the I/O space has no room and nothing can be hidden, `ENODEV`,
    /// `ENOMEM`, and those of the host.
    fn show(self: &Arc<Self>) -> HostResult {
        let changed = Arc::pin_init(Completion::new(), GFP_KERNEL)?;
        loop {
            let other = {
                let mut state = self.state.lock();
                match &*state {
                    State::Shown(_) => return Ok(()),
                    State::Changing(other) => other.clone(),
                    State::Hidden => {
                        *state = State::Changing(changed.clone());
                        break;
                    }
                }
            };
            match other.wait_killable_timeout(msecs_to_jiffies(reply_timeout_ms())) {
                Wait::Done => {}
                Wait::Signal => return Err(EINTR.into()),
                Wait::TimedOut => return Err(ETIMEDOUT.into()),
            }
        }
        // Kept until the state says how it ended: whoever has the next turn may want to hide it.
        let turn = self.views().turn.take_killable();
        let shown = turn
            .as_ref()
            .map_err(|errno| (*errno).into())
            .and_then(|_| self.ask());
        let (state, result) = match shown {
            Ok(shown) => (State::Shown(shown), Ok(())),
            Err(error) => (State::Hidden, Err(error)),
        };
        *self.state.lock() = state;
        changed.complete_all();
        drop(turn);
        result
    }

    /// Has the host make room in the I/O space, hiding others if it has to.
    fn ask(self: &Arc<Self>) -> HostResult<Shown> {
        let (memory, lock) = self.views().ask_in_turn(|| self.lock())?;
        Ok(Shown {
            memory,
            lock,
            pins: 0,
            used: self.views().enter(self)?,
        })
    }

    fn lock(&self) -> HostResult<(Arc<MemRemap>, Owned)> {
        let device = &self.allocation.device;
        let allocation = self.allocation.handle();
        let body = gpupv::Lock2 {
            device: device.handle(),
            allocation,
            ..Default::default()
        };
        let what = What::Lock {
            device: device.handle(),
            allocation,
        };
        let process = &device.process;
        let (lock, address) = process.create(&Request::from(body), what, |answer| {
            Ok(answer.reply.cpu_visible_address)
        })?;
        let size = self.allocation.size();
        let memory = process.adapter.io.window(address, size, self.mode)?;
        Ok((memory, lock))
    }

    /// Hides it, if it is shown and nobody has pinned it.
    ///
    /// # Errors
    ///
    /// `EINTR` if killed meanwhile, `ENODEV`, `ENOMEM` and those of the host.
    pub(crate) fn hide(&self) -> HostResult {
        let _turn = self.views().turn.take_killable()?;
        self.hide_in_turn().map(|_| ())
    }

    /// Hides it if it is shown and nobody has pinned it; says whether the host has room now.
    fn hide_in_turn(&self) -> HostResult<bool> {
        let changed = Arc::pin_init(Completion::new(), GFP_KERNEL)?;
        let shown = {
            let mut state = self.state.lock();
            match &*state {
                State::Shown(shown) if shown.pins == 0 => {}
                _ => return Ok(false),
            }
            let State::Shown(shown) =
                core::mem::replace(&mut *state, State::Changing(changed.clone()))
            else {
                return Ok(false);
            };
            if let Some(users) = self.users.as_ref() {
                users.zap();
            }
            shown
        };
        self.views().leave(shown.used);
        drop(shown.memory);
        let told = shown.lock.give_back();
        *self.state.lock() = State::Hidden;
        changed.complete_all();
        told.map(|()| true)
    }

    /// The object is going: nobody maps it any more.
    pub(crate) fn end(&self) {
        let last = core::mem::replace(&mut *self.state.lock(), State::Hidden);
        if let State::Shown(shown) = last {
            self.views().leave(shown.used);
        }
    }
}

struct ShownViews {
    /// By when they were faulted in last.
    by_age: RBTree<u64, Arc<View>>,
    next: u64,
}

impl ShownViews {
    fn insert(&mut self, slot: RBTreeNodeReservation<u64, Arc<View>>, view: Arc<View>) -> u64 {
        let used = self.next;
        self.next += 1;
        self.by_age.insert(slot.into_node(used, view));
        used
    }
}

/// The views of one adapter that are in the I/O space.
#[pin_data]
pub(crate) struct Views {
    /// Who asks the host for room, hiding others if there is none.
    #[pin]
    turn: Turn,
    #[pin]
    shown: Mutex<ShownViews>,
}

impl Views {
    /// None are shown.
    pub(crate) fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            turn <- Turn::new(),
            shown <- new_mutex!(
                ShownViews {
                    by_age: RBTree::new(),
                    next: 1,
                },
                "Views::shown"
            ),
        })
    }

    /// Enters a view as the youngest; returns its key.
    fn enter(&self, view: &Arc<View>) -> Result<u64> {
        let slot = RBTreeNodeReservation::new(GFP_KERNEL)?;
        Ok(self.shown.lock().insert(slot, view.clone()))
    }

    /// Makes the view with the key `used` the youngest; returns its new key.
    fn touch(&self, used: u64) -> u64 {
        let mut shown = self.shown.lock();
        if used + 1 == shown.next {
            return used;
        }
        let Some(view) = shown.by_age.get(&used).cloned() else {
            return used;
        };
        match shown.by_age.remove_node(&used) {
            Some(node) => shown.insert(node.into_reservation(), view),
            None => used,
        }
    }

    fn leave(&self, used: u64) {
        let view = self.shown.lock().by_age.remove(&used);
        drop(view);
    }

    /// Asks the host for something that takes room in the I/O space, until there is room or no view
    /// left that could be hidden.
    ///
    /// # Errors
    ///
    /// Those of `ask` and of hiding a view.
    pub(crate) fn with_room<T>(&self, mut ask: impl FnMut() -> HostResult<T>) -> HostResult<T> {
        match ask() {
            Err(error) if error.errno == ENOSPC => {}
            other => return other,
        }
        let _turn = self.turn.take_killable()?;
        self.ask_in_turn(ask)
    }

    /// As [`Views::with_room`], for who has the turn.
    fn ask_in_turn<T>(&self, mut ask: impl FnMut() -> HostResult<T>) -> HostResult<T> {
        loop {
            match ask() {
                Err(error) if error.errno == ENOSPC => {
                    if !self.hide_oldest()? {
                        return Err(error);
                    }
                }
                other => return other,
            }
        }
    }

    /// Hides the view that was faulted in longest ago and can be hidden; false if there is none.
    ///
    /// # Errors
    ///
    /// Those of the host.
    fn hide_oldest(&self) -> HostResult<bool> {
        let mut from = 0;
        while let Some((used, view)) = self.from(from) {
            if view.hide_in_turn()? {
                return Ok(true);
            }
            from = used + 1;
        }
        Ok(false)
    }

    fn from(&self, used: u64) -> Option<(u64, Arc<View>)> {
        let shown = self.shown.lock();
        let cursor = shown.by_age.cursor_lower_bound(&used)?;
        let (used, view) = cursor.current();
        Some((*used, view.clone()))
    }
}
