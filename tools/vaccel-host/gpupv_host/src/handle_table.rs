// SPDX-License-Identifier: MIT OR Apache-2.0
//! Handles of one index space (protocol 4.1): small dense indexes, never reused before they are
//! removed, and told apart from earlier users of the same index by the unique and instance bits.
//!
//! A guest keeps a table by index too, and takes no handle whose place there is taken. So an index
//! that it did not give up is used again only when there is no other.

use gpupv::Handle;

/// The table is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Full;

/// Uniqueness counts 1, 2, 3: never 0, so that no handle is the guest's "none".
const UNIQUES: u32 = 3;
/// Values of the instance bits.
const INSTANCES: u32 = 64;

#[derive(Debug)]
struct Slot<T> {
    /// How often the slot was used before.
    generation: u32,
    value: Option<T>,
}

/// Objects by handle.
#[derive(Debug)]
pub struct HandleTable<T> {
    slots: Vec<Slot<T>>,
    free: Vec<usize>,
    /// Free too, but perhaps not in the guest's table.
    lost: Vec<usize>,
    limit: usize,
}

fn handle(slot: usize, generation: u32) -> Handle {
    // Slots stay below the limit, which is far below the 24 bits of an index. Index 0 is left out.
    let index = u32::try_from(slot.saturating_add(1)).unwrap_or(Handle::MAX_INDEX);
    let unique = generation
        .checked_rem(UNIQUES)
        .unwrap_or(0)
        .saturating_add(1);
    let instance = generation.checked_rem(INSTANCES).unwrap_or(0);
    Handle::pack(instance, index, unique)
}

impl<T> HandleTable<T> {
    /// An empty table for at most `limit` objects at a time.
    pub fn new(limit: usize) -> Self {
        Self {
            slots: Vec::new(),
            free: Vec::new(),
            lost: Vec::new(),
            limit,
        }
    }

    /// Adds an object.
    ///
    /// # Errors
    ///
    /// [`Full`] at the limit.
    pub fn insert(&mut self, value: T) -> Result<Handle, Full> {
        let grown = self.slots.len() >= self.limit;
        let mut index = self.free.pop();
        if index.is_none() && grown {
            index = self.lost.pop();
        }
        if let Some(index) = index {
            let slot = self.slots.get_mut(index).ok_or(Full)?;
            slot.value = Some(value);
            return Ok(handle(index, slot.generation));
        }
        if grown {
            return Err(Full);
        }
        self.slots.push(Slot {
            generation: 0,
            value: Some(value),
        });
        Ok(handle(self.slots.len().saturating_sub(1), 0))
    }

    /// How many more objects fit.
    pub fn room(&self) -> usize {
        self.limit.saturating_sub(self.len())
    }

    fn slot(&self, wanted: Handle) -> Option<usize> {
        let index = usize::try_from(wanted.index()).ok()?.checked_sub(1)?;
        let slot = self.slots.get(index)?;
        (handle(index, slot.generation) == wanted).then_some(index)
    }

    /// The object with this handle.
    pub fn get(&self, handle: Handle) -> Option<&T> {
        self.slots.get(self.slot(handle)?)?.value.as_ref()
    }

    /// The object with this handle, to change it.
    pub fn get_mut(&mut self, handle: Handle) -> Option<&mut T> {
        let index = self.slot(handle)?;
        self.slots.get_mut(index)?.value.as_mut()
    }

    /// Takes an object out; its index may be used again.
    pub fn remove(&mut self, handle: Handle) -> Option<T> {
        let index = self.slot(handle)?;
        let slot = self.slots.get_mut(index)?;
        let value = slot.value.take()?;
        slot.generation = slot.generation.wrapping_add(1);
        self.free.push(index);
        Some(value)
    }

    /// How many indexes were given up and not used since.
    pub fn given_up(&self) -> usize {
        self.free.len()
    }

    /// Takes all that was removed since [`HandleTable::given_up`] said `before` for lost: the guest
    /// did not give that up.
    pub fn lose_since(&mut self, before: usize) {
        let from = before.min(self.free.len());
        self.lost.extend(self.free.drain(from..));
    }

    /// All objects, by index.
    pub fn iter(&self) -> impl Iterator<Item = (Handle, &T)> {
        self.slots.iter().enumerate().filter_map(|(index, slot)| {
            let value = slot.value.as_ref()?;
            Some((handle(index, slot.generation), value))
        })
    }

    /// All objects, by index, to change them.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (Handle, &mut T)> {
        self.slots
            .iter_mut()
            .enumerate()
            .filter_map(|(index, slot)| {
                let generation = slot.generation;
                let value = slot.value.as_mut()?;
                Some((handle(index, generation), value))
            })
    }

    /// How many objects there are.
    pub fn len(&self) -> usize {
        let unused = self.free.len().saturating_add(self.lost.len());
        self.slots.len().saturating_sub(unused)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Handles are dense, never zero, and a stale handle does not find the next user of its index.
    #[test]
    fn stale_handles_find_nothing() {
        let mut table = HandleTable::new(2);
        let first = table.insert('a').unwrap();
        let second = table.insert('b').unwrap();
        assert_eq!((first.index(), second.index()), (1, 2));
        assert_eq!(table.insert('c'), Err(Full));
        assert_eq!(table.remove(first), Some('a'));
        assert_eq!(table.remove(first), None);
        let third = table.insert('c').unwrap();
        assert_eq!(third.index(), first.index());
        assert_eq!(table.get(first), None);
        assert_eq!(table.get(third), Some(&'c'));
        assert_eq!(table.len(), 2);
        assert!(table.iter().all(|(handle, _)| handle.unique() != 0));
        assert_eq!(table.get(Handle::NONE), None);
        assert_eq!(table.get(Handle::from_raw(u32::MAX)), None);
    }

    /// Indexes that were lost come after all others.
    #[test]
    fn lost_indexes_come_last() {
        let mut table = HandleTable::new(4);
        let [kept, lost, asked] = ['a', 'b', 'c'].map(|object| table.insert(object).unwrap());
        table.remove(asked).unwrap();
        let before = table.given_up();
        table.remove(lost).unwrap();
        table.lose_since(before);
        assert_eq!((table.len(), table.room()), (1, 3));
        let next = [0; 3].map(|_| table.insert('d').unwrap().index());
        assert_eq!(next, [asked.index(), 4, lost.index()]);
        assert_eq!(table.insert('e'), Err(Full));
        assert_eq!(table.get(lost), None);
        assert_eq!(table.get(kept), Some(&'a'));
    }
}
