// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the host calls the world, as short as can be; it checks what the host asks of it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};

use gpupv::{Event, MAX_REPLY};
use gpupv_host::{
    Channel, Env, HostMemory, HostMemoryError, IoSpace, IoSpaceError, Job, ShowError, VgpuId,
};
use guest_memory::GuestRange;

/// Bytes of a GPU's address space.
const GPU_MEMORY: u64 = 1 << 30;

/// A GPU's memory, page by page.
#[derive(Default)]
struct Memory(Mutex<BTreeMap<u64, Vec<u8>>>);

impl Memory {
    /// Calls `each` for every page that an access touches: the page, the place in it, the place in the
    /// access.
    fn pieces(
        (offset, len): (u64, u64),
        mut each: impl FnMut(u64, std::ops::Range<usize>, std::ops::Range<usize>),
    ) -> Result<(), HostMemoryError> {
        if offset.checked_add(len).is_none_or(|end| end > GPU_MEMORY) {
            return Err(HostMemoryError { offset, len });
        }
        let mut done = 0;
        while done < len {
            let at = offset + done;
            let into = (at % 4096) as usize;
            let bytes = (4096 - into).min((len - done) as usize);
            let from = done as usize;
            each(at / 4096, into..into + bytes, from..from + bytes);
            done += bytes as u64;
        }
        Ok(())
    }
}

impl HostMemory for Memory {
    fn len(&self) -> u64 {
        GPU_MEMORY
    }

    fn read(&self, offset: u64, buf: &mut [u8]) -> Result<(), HostMemoryError> {
        let pages = self.0.lock().unwrap();
        Self::pieces(
            (offset, buf.len() as u64),
            |page, inside, outside| match pages.get(&page) {
                Some(bytes) => buf[outside].copy_from_slice(&bytes[inside]),
                None => buf[outside].fill(0),
            },
        )
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), HostMemoryError> {
        let mut pages = self.0.lock().unwrap();
        Self::pieces((offset, data.len() as u64), |page, inside, outside| {
            let bytes = pages.entry(page).or_insert_with(|| vec![0; 4096]);
            bytes[inside].copy_from_slice(&data[outside]);
        })
    }

    fn discard(&self, offset: u64, len: u64) -> Result<(), HostMemoryError> {
        assert_eq!((offset % 4096, len % 4096), (0, 0));
        let mut pages = self.0.lock().unwrap();
        Self::pieces((offset, len), |page, _, _| {
            pages.remove(&page);
        })
    }
}

/// The I/O space: words, and which parts show a GPU's memory.
struct Space {
    len: u64,
    words: Mutex<BTreeMap<u64, u64>>,
    shown: Mutex<BTreeMap<u64, u64>>,
}

impl IoSpace for Space {
    fn store_u64(&self, offset: u64, value: u64) {
        assert!(offset % 8 == 0 && offset + 8 <= self.len);
        self.words.lock().unwrap().insert(offset, value);
    }

    fn load_u64(&self, offset: u64) -> u64 {
        assert!(offset % 8 == 0 && offset + 8 <= self.len);
        let words = self.words.lock().unwrap();
        words.get(&offset).copied().unwrap_or(0)
    }

    fn show(&self, offset: u64, (_, from): (VgpuId, u64), len: u64) -> Result<(), ShowError> {
        assert_eq!((offset % 4096, from % 4096, len % 4096), (0, 0, 0));
        assert!(offset + len <= self.len && from + len <= GPU_MEMORY);
        let mut shown = self.shown.lock().unwrap();
        let before = shown.range(..offset + len).next_back();
        assert!(before.is_none_or(|(first, len)| first + len <= offset));
        shown.insert(offset, len);
        Ok(())
    }

    fn hide(&self, offset: u64, len: u64) {
        let gone = self.shown.lock().unwrap().remove(&offset);
        assert_eq!(gone, Some(len), "hidden as it was shown");
    }
}

/// The world, with what the host did to it.
#[derive(Default)]
pub struct World {
    /// The last completion.
    pub completion: Option<Vec<u8>>,
    /// Jobs that were started.
    pub jobs: VecDeque<Job>,
    /// What its clock says, in nanoseconds.
    pub now: u64,
    gpadls: BTreeMap<u32, Vec<GuestRange>>,
    space: Option<Arc<Space>>,
    memory: BTreeMap<VgpuId, Arc<Memory>>,
}

impl World {
    /// Makes a GPADL of some pages.
    pub fn set_gpadl(&mut self, gpadl: u32, first: u32, pages: u8) {
        let range = GuestRange {
            gpa: u64::from(first) * 4096,
            len: u64::from(pages) * 4096,
        };
        self.gpadls.insert(gpadl, vec![range]);
    }

    /// Whether the guest has an I/O space.
    pub fn has_io_space(&self) -> bool {
        self.space.is_some()
    }
}

impl Env for World {
    fn complete(&mut self, _channel: Channel, _transaction_id: u64, payload: &[u8]) {
        assert!(payload.len() <= MAX_REPLY);
        let mut payload = payload.to_vec();
        payload.resize(payload.len().next_multiple_of(8), 0);
        self.completion = Some(payload);
    }

    fn send(&mut self, payload: &[u8]) {
        Event::decode(payload).unwrap();
    }

    fn gpadl(&self, gpadl: u32) -> Option<Vec<GuestRange>> {
        self.gpadls.get(&gpadl).cloned()
    }

    fn start_job(&mut self, _vgpu: VgpuId, job: Job) {
        self.jobs.push_back(job);
    }

    fn map_io_space(&mut self, gpa: u64, len: u64) -> Result<Arc<dyn IoSpace>, IoSpaceError> {
        if gpa % 4096 != 0 || len == 0 || gpa.checked_add(len).is_none() {
            return Err(IoSpaceError {
                gpa,
                len,
                reason: "not free".into(),
            });
        }
        assert!(self.space.is_none(), "two I/O spaces");
        let space = Arc::new(Space {
            len,
            words: Mutex::default(),
            shown: Mutex::default(),
        });
        self.space = Some(Arc::clone(&space));
        Ok(space)
    }

    fn unmap_io_space(&mut self) {
        self.space = None;
    }

    fn host_memory(&mut self, vgpu: VgpuId) -> Option<Arc<dyn HostMemory>> {
        let memory = self.memory.entry(vgpu).or_default();
        Some(Arc::clone(memory) as Arc<dyn HostMemory>)
    }

    fn now_ns(&self) -> u64 {
        self.now
    }
}
