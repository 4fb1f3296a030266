// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the host calls the world, for tests: it records what the host does to it, and has memory for
//! its GPUs and an I/O space.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};

use gpupv::{Event, MAX_REPLY};
use guest_memory::GuestRange;

use crate::{
    Channel, Env, HostMemory, HostMemoryError, IoSpace, IoSpaceError, Job, ShowError, VgpuId,
};

/// Memory of the GPUs.
pub type Memories = Arc<Mutex<BTreeMap<VgpuId, Arc<FakeMemory>>>>;

/// The I/O space: words, and what is shown of GPUs' memory, by offset.
pub struct FakeIo {
    words: Mutex<BTreeMap<u64, u64>>,
    len: u64,
    memories: Memories,
    shown: Mutex<BTreeMap<u64, (VgpuId, u64, u64)>>,
}

impl FakeIo {
    /// The part of a GPU's memory that is seen at an offset.
    pub fn seen(&self, offset: u64) -> Option<(Arc<FakeMemory>, u64)> {
        let shown = self.shown.lock().unwrap();
        let (first, (vgpu, at, len)) = shown.range(..=offset).next_back()?;
        let into = offset - first;
        let memory = Arc::clone(self.memories.lock().unwrap().get(vgpu)?);
        (into < *len).then_some((memory, at + into))
    }
}

impl IoSpace for FakeIo {
    fn store_u64(&self, offset: u64, value: u64) {
        assert_eq!(offset % 8, 0);
        assert!(offset + 8 <= self.len - 4096, "last page");
        assert!(self.seen(offset).is_none(), "a fence in an allocation");
        let mut words = self.words.lock().unwrap();
        if value == 0 {
            words.remove(&offset);
        } else {
            words.insert(offset, value);
        }
    }

    fn load_u64(&self, offset: u64) -> u64 {
        let words = self.words.lock().unwrap();
        words.get(&offset).copied().unwrap_or(0)
    }

    fn show(&self, offset: u64, memory: (VgpuId, u64), len: u64) -> Result<(), ShowError> {
        assert!(offset + len <= self.len - 4096, "last page");
        let (vgpu, at) = memory;
        let mut shown = self.shown.lock().unwrap();
        let before = shown.range(..offset + len).next_back();
        assert!(before.is_none_or(|(first, (_, _, len))| first + len <= offset));
        shown.insert(offset, (vgpu, at, len));
        Ok(())
    }

    fn hide(&self, offset: u64, len: u64) {
        let gone = self.shown.lock().unwrap().remove(&offset);
        assert_eq!(gone.map(|(_, _, len)| len), Some(len));
    }
}

/// Memory of a GPU, page by page.
pub struct FakeMemory(Mutex<BTreeMap<u64, [u8; 4096]>>);

/// Bytes of its address space.
pub const GPU_MEMORY: u64 = 1 << 30;

impl FakeMemory {
    fn pieces(
        &self,
        offset: u64,
        len: u64,
        mut each: impl FnMut(&mut BTreeMap<u64, [u8; 4096]>, u64, std::ops::Range<usize>, usize),
    ) -> Result<(), HostMemoryError> {
        if offset.checked_add(len).is_none_or(|end| end > GPU_MEMORY) {
            return Err(HostMemoryError { offset, len });
        }
        let mut pages = self.0.lock().unwrap();
        let mut done = 0;
        while done < len {
            let at = offset + done;
            let into = (at % 4096) as usize;
            let bytes = (4096 - into).min((len - done) as usize);
            each(&mut pages, at / 4096, into..into + bytes, done as usize);
            done += bytes as u64;
        }
        Ok(())
    }

    /// Pages that cost memory.
    pub fn pages(&self) -> usize {
        self.0.lock().unwrap().len()
    }
}

impl HostMemory for FakeMemory {
    fn len(&self) -> u64 {
        GPU_MEMORY
    }

    fn read(&self, offset: u64, buf: &mut [u8]) -> Result<(), HostMemoryError> {
        let len = buf.len() as u64;
        self.pieces(offset, len, |pages, page, range, done| {
            let zeros = [0; 4096];
            let from = &pages.get(&page).unwrap_or(&zeros)[range];
            buf[done..done + from.len()].copy_from_slice(from);
        })
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), HostMemoryError> {
        let len = data.len() as u64;
        self.pieces(offset, len, |pages, page, range, done| {
            let to = &mut pages.entry(page).or_insert([0; 4096])[range];
            to.copy_from_slice(&data[done..done + to.len()]);
        })
    }

    fn discard(&self, offset: u64, len: u64) -> Result<(), HostMemoryError> {
        assert_eq!((offset % 4096, len % 4096), (0, 0));
        self.pieces(offset, len, |pages, page, _, _| {
            pages.remove(&page);
        })
    }
}

/// The world, recording what the host does to it.
#[derive(Default)]
pub struct World {
    pub completions: VecDeque<(Channel, u64, Vec<u8>)>,
    pub events: Vec<Event>,
    pub jobs: VecDeque<(VgpuId, Job)>,
    pub gpadls: BTreeMap<u32, Vec<GuestRange>>,
    pub io: Option<(u64, Arc<FakeIo>)>,
    pub refuse_io: bool,
    pub memories: Memories,
    /// What its clock says.
    pub now: u64,
}

impl Env for World {
    fn complete(&mut self, channel: Channel, transaction_id: u64, payload: &[u8]) {
        let mut payload = payload.to_vec();
        payload.resize(payload.len().next_multiple_of(8), 0);
        assert!(payload.len() <= MAX_REPLY);
        self.completions
            .push_back((channel, transaction_id, payload));
    }

    fn send(&mut self, payload: &[u8]) {
        self.events.push(Event::decode(payload).unwrap());
    }

    fn gpadl(&self, gpadl: u32) -> Option<Vec<GuestRange>> {
        self.gpadls.get(&gpadl).cloned()
    }

    fn start_job(&mut self, vgpu: VgpuId, job: Job) {
        assert!(self.jobs.iter().all(|(busy, _)| *busy != vgpu), "one job");
        self.jobs.push_back((vgpu, job));
    }

    fn map_io_space(&mut self, gpa: u64, len: u64) -> Result<Arc<dyn IoSpace>, IoSpaceError> {
        if self.refuse_io {
            let reason = "taken".to_owned();
            return Err(IoSpaceError { gpa, len, reason });
        }
        let io = Arc::new(FakeIo {
            words: Mutex::default(),
            len,
            memories: Arc::clone(&self.memories),
            shown: Mutex::default(),
        });
        self.io = Some((gpa, Arc::clone(&io)));
        Ok(io)
    }

    fn unmap_io_space(&mut self) {
        let (_, io) = self.io.take().expect("unmapped twice");
        assert!(io.shown.lock().unwrap().is_empty());
    }

    fn host_memory(&mut self, vgpu: VgpuId) -> Option<Arc<dyn HostMemory>> {
        let memory = Arc::new(FakeMemory(Mutex::default()));
        let before = self
            .memories
            .lock()
            .unwrap()
            .insert(vgpu, Arc::clone(&memory));
        assert!(before.is_none(), "asked for once");
        Some(memory)
    }

    fn now_ns(&self) -> u64 {
        self.now
    }
}
