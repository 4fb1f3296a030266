// SPDX-License-Identifier: MIT OR Apache-2.0
//! Backing store of an allocation: the guest pages its owner named, or content in host memory.
//!
//! Shared between the host, which fills it and takes it away, and a running job, which copies
//! through it. A lock is held for the length of one copy, so once [`Backing::revoke`] returns, no
//! job touches that memory again: that is what lets a guest free pages, and the host give content
//! to another allocation.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use engine::{Access, FaultKind};

use crate::gpu_memory::Content;

/// Largest page frame number: guest-physical addresses have 52 bits.
pub const MAX_FRAME: u64 = (1 << 40) - 1;

/// Why pages were not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FillError {
    /// Outside the allocation, or named before.
    Place,
    /// No guest-physical address has this frame number.
    Frame(u64),
}

/// Where consecutive pages of an allocation are.
#[derive(Debug, Clone, Copy)]
pub enum Location<'a> {
    /// In guest memory, from this frame on.
    Guest(u64),
    /// In host memory, from this page of the content on.
    Host(&'a Content, u64),
}

/// Guest pages with consecutive frames.
#[derive(Debug, Clone, Copy)]
struct Run {
    /// Frame of the first page.
    frame: u64,
    pages: u64,
}

#[derive(Debug)]
enum Store {
    Guest(GuestPages),
    Host(Arc<Content>),
    /// Taken away for good; content waits to be given back.
    Gone(Option<Arc<Content>>),
}

#[derive(Debug, Default)]
struct GuestPages {
    /// By first page; those that continue each other are one.
    runs: BTreeMap<u64, Run>,
    /// How many pages have frames.
    named: u64,
}

#[derive(Debug)]
struct State {
    store: Store,
    resident: bool,
}

impl GuestPages {
    /// The run that has `page`, and how far into it that is.
    fn run(&self, page: u64) -> Option<(Run, u64)> {
        let (first, run) = self.runs.range(..=page).next_back()?;
        let into = page.checked_sub(*first)?;
        (into < run.pages).then_some((*run, into))
    }

    /// Whether any of these pages has a frame.
    fn any(&self, first: u64, end: u64) -> bool {
        self.run(first).is_some() || self.runs.range(first..end).next().is_some()
    }

    /// Names the frame of a page that has none.
    fn name(&mut self, page: u64, frame: u64) {
        if let Some((first, run)) = self.runs.range_mut(..page).next_back() {
            let continues = first.saturating_add(run.pages) == page
                && run.frame.saturating_add(run.pages) == frame;
            if continues {
                run.pages = run.pages.saturating_add(1);
                return;
            }
        }
        self.runs.insert(page, Run { frame, pages: 1 });
    }
}

/// The memory of one allocation.
#[derive(Debug)]
pub struct Backing {
    pages: u64,
    writable: bool,
    /// It was made of guest pages.
    guest: bool,
    state: RwLock<State>,
}

impl Backing {
    /// Backing of `pages` guest pages, none of which are named yet.
    pub fn new(pages: u64, writable: bool) -> Self {
        Self::with_store(pages, writable, Store::Guest(GuestPages::default()))
    }

    /// Backing by content in host memory.
    pub fn host(content: Arc<Content>, writable: bool) -> Self {
        Self::with_store(content.pages(), writable, Store::Host(content))
    }

    fn with_store(pages: u64, writable: bool, store: Store) -> Self {
        Self {
            pages,
            writable,
            guest: matches!(store, Store::Guest(_)),
            state: RwLock::new(State {
                store,
                resident: false,
            }),
        }
    }

    fn state(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn state_mut(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Size in pages.
    pub fn pages(&self) -> u64 {
        self.pages
    }

    /// Whether the engine may write.
    pub fn writable(&self) -> bool {
        self.writable
    }

    /// How many guest pages it was made of.
    pub fn guest_pages(&self) -> u64 {
        if self.guest {
            self.pages
        } else {
            0
        }
    }

    /// The content in host memory, until it is taken away. For use during one command: a content
    /// is given back when its last user lets go of it in [`Backing::release`].
    pub fn content(&self) -> Option<Arc<Content>> {
        match &self.state().store {
            Store::Host(content) => Some(Arc::clone(content)),
            Store::Guest(_) | Store::Gone(_) => None,
        }
    }

    /// Whether it has content in host memory that nobody else has.
    pub fn is_sole_user(&self) -> bool {
        match &self.state().store {
            Store::Host(content) => Arc::strong_count(content) == 1,
            Store::Guest(_) | Store::Gone(_) => false,
        }
    }

    /// Whether every page has memory.
    pub fn complete(&self) -> bool {
        match &self.state().store {
            Store::Guest(guest) => guest.named == self.pages,
            Store::Host(_) => true,
            Store::Gone(_) => false,
        }
    }

    /// Names the frames of consecutive pages from `first` on. All or nothing.
    ///
    /// # Errors
    ///
    /// When a page lies outside, has memory already, or a frame is impossible.
    pub fn fill(
        &self,
        first: u64,
        frames: impl ExactSizeIterator<Item = u64> + Clone,
    ) -> Result<(), FillError> {
        let count = u64::try_from(frames.len()).map_err(|_| FillError::Place)?;
        let end = first.checked_add(count).ok_or(FillError::Place)?;
        if end > self.pages {
            return Err(FillError::Place);
        }
        if let Some(frame) = frames.clone().find(|frame| *frame > MAX_FRAME) {
            return Err(FillError::Frame(frame));
        }
        let mut state = self.state_mut();
        let Store::Guest(guest) = &mut state.store else {
            return Err(FillError::Place);
        };
        if guest.any(first, end) {
            return Err(FillError::Place);
        }
        for (page, frame) in (first..end).zip(frames) {
            guest.name(page, frame);
        }
        guest.named = guest.named.saturating_add(count);
        Ok(())
    }

    /// Allows or forbids access.
    pub fn set_resident(&self, resident: bool) {
        self.state_mut().resident = resident;
    }

    /// Takes the memory away, for good. No access is under way when this returns.
    pub fn revoke(&self) {
        let mut state = self.state_mut();
        state.resident = false;
        let store = std::mem::replace(&mut state.store, Store::Gone(None));
        state.store = Store::Gone(match store {
            Store::Guest(_) => None,
            Store::Host(content) => Some(content),
            Store::Gone(content) => content,
        });
    }

    /// Takes the memory away and hands the content over, the first time.
    pub fn release(&self) -> Option<Arc<Content>> {
        self.revoke();
        match &mut self.state_mut().store {
            Store::Gone(content) => content.take(),
            Store::Guest(_) | Store::Host(_) => None,
        }
    }

    /// Calls `copy` with a run of consecutive pages that starts at `page` and has at most `most`
    /// pages: where it is, and how many there are.
    ///
    /// # Errors
    ///
    /// Says why the page cannot be accessed.
    pub fn with_run<R>(
        &self,
        page: u64,
        most: u64,
        access: Access,
        copy: impl FnOnce(Location<'_>, u64) -> R,
    ) -> Result<R, FaultKind> {
        let state = self.state();
        if !state.resident {
            return Err(FaultKind::NotResident);
        }
        if access == Access::Write && !self.writable {
            return Err(FaultKind::ReadOnly);
        }
        let (place, left) = match &state.store {
            Store::Guest(guest) => {
                let (run, into) = guest.run(page).ok_or(FaultKind::NoMemory)?;
                let frame = run.frame.saturating_add(into);
                (Location::Guest(frame), run.pages.saturating_sub(into))
            }
            Store::Host(content) => {
                let left = self.pages.saturating_sub(page);
                (Location::Host(content, page), left)
            }
            Store::Gone(_) => return Err(FaultKind::NoMemory),
        };
        if left == 0 {
            return Err(FaultKind::NoMemory);
        }
        Ok(copy(place, left.min(most.max(1))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(backing: &Backing, page: u64, most: u64) -> Result<(u64, u64), FaultKind> {
        backing.with_run(page, most, Access::Read, |place, pages| match place {
            Location::Guest(frame) => (frame, pages),
            Location::Host(..) => panic!("host memory"),
        })
    }

    /// Pages can be named once, in any order, inside the allocation only.
    #[test]
    fn fill_once() {
        let backing = Backing::new(4, true);
        assert_eq!(backing.fill(2, [8, 9].into_iter()), Ok(()));
        assert!(!backing.complete());
        assert_eq!(backing.fill(1, [7, 7].into_iter()), Err(FillError::Place));
        assert_eq!(backing.fill(3, [1, 2].into_iter()), Err(FillError::Place));
        assert_eq!(
            backing.fill(u64::MAX, [1].into_iter()),
            Err(FillError::Place)
        );
        let huge = MAX_FRAME + 1;
        assert_eq!(
            backing.fill(0, [1, huge].into_iter()),
            Err(FillError::Frame(huge))
        );
        assert_eq!(backing.fill(0, [5, 7].into_iter()), Ok(()));
        assert!(backing.complete());
    }

    /// Pages that continue each other are one run, over messages too: a large object whose pages
    /// are in order costs no more than a small one.
    #[test]
    fn runs() {
        let backing = Backing::new(262_144, true);
        backing.set_resident(true);
        for first in (0..262_144).step_by(16_384) {
            let frames: Vec<u64> = (first + 100..first + 16_484).collect();
            backing.fill(first, frames.into_iter()).unwrap();
        }
        assert!(backing.complete());
        let Store::Guest(guest) = &backing.state().store else {
            panic!("guest memory")
        };
        assert_eq!(guest.runs.len(), 1);
        assert_eq!(run(&backing, 200_000, u64::MAX), Ok((200_100, 62_144)));
    }

    /// Access needs residency and a frame; runs of consecutive frames come together, up to `most`.
    #[test]
    fn access_rules() {
        let backing = Backing::new(4, false);
        backing.fill(0, [5, 6, 7].into_iter()).unwrap();
        assert_eq!(run(&backing, 0, 9), Err(FaultKind::NotResident));
        backing.set_resident(true);
        assert_eq!(run(&backing, 0, 9), Ok((5, 3)));
        assert_eq!(run(&backing, 1, 1), Ok((6, 1)));
        assert_eq!(run(&backing, 3, 1), Err(FaultKind::NoMemory));
        assert_eq!(run(&backing, 4, 1), Err(FaultKind::NoMemory));
        let write = backing.with_run(0, 1, Access::Write, |_, _| ());
        assert_eq!(write, Err(FaultKind::ReadOnly));
        backing.revoke();
        backing.set_resident(true);
        assert_eq!(run(&backing, 0, 1), Err(FaultKind::NoMemory));
        assert_eq!(backing.fill(0, [5].into_iter()), Err(FillError::Place));
    }
}
