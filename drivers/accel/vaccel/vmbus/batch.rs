// SPDX-License-Identifier: GPL-2.0-only

//! Several packets for one notification of the host.
//!
//! The core has a function that writes one packet and then tells the host, if the ring had been empty.
//! A host that is quick empties the ring between two packets, and is told each time. Here all packets
//! are written before it is told. It is written with the core's own lock, so that both may be used on
//! one channel.
//!
//! C headers: [`include/linux/hyperv.h`](srctree/include/linux/hyperv.h); the rules of the ring are
//! those of `drivers/hv/ring_buffer.c`.

use core::ptr;

use kernel::{
    alloc::AllocError,
    prelude::*, //
};

use super::channel::{
    Channel,
    ChannelCallback, //
};
use crate::bindings;

/// Bytes of a packet's descriptor, `struct vmpacket_descriptor`.
const DESCRIPTOR: usize = 16;

/// Bytes behind a packet, for the place where it begins.
const TRAILER: usize = 8;

/// Most bytes that a packet takes besides its message.
pub const PACKET_MORE: usize = DESCRIPTOR + TRAILER + 7;

/// Where a packet's descriptor says how many words of eight bytes it has, the trailer not counted.
const LENGTH: core::ops::Range<usize> = 4..6;

/// Packets as they lie in a ring, to be sent in order.
///
/// # Invariants
///
/// `bytes` are whole packets with their trailers, `added` of them; `sent_bytes` are the first `sent`.
#[derive(Default)]
pub struct Batch {
    bytes: KVVec<u8>,
    added: usize,
    sent: usize,
    sent_bytes: usize,
}

impl Batch {
    /// Adds a message of `len` bytes that wants no answer. `write` makes it of zeroes, which begin where
    /// any structure of the wire may.
    ///
    /// # Errors
    ///
    /// `EINVAL` if no ring could take it, `ENOMEM`, those of `write`. The batch is then as before.
    pub fn push<E: From<Error> + From<AllocError>>(
        &mut self,
        len: usize,
        write: impl FnOnce(&mut [u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let begin = self.bytes.len();
        let pushed = self.try_push(len, write);
        if pushed.is_err() {
            self.bytes.truncate(begin);
        }
        pushed
    }

    fn try_push<E: From<Error> + From<AllocError>>(
        &mut self,
        len: usize,
        write: impl FnOnce(&mut [u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let packet = DESCRIPTOR + len.next_multiple_of(8);
        let words = u16::try_from(packet / 8).map_err(|_| EINVAL)?;

        let inband = bindings::vmbus_packet_type_VM_PKT_DATA_INBAND;
        // CAST: packet types are 16-bit fields, the descriptor two words. A transaction id of 0 says
        // that no answer is wanted.
        let descriptor = [inband as u16, (DESCRIPTOR / 8) as u16, words, 0, 0, 0, 0, 0];
        let bytes = self.add_zeroes(packet + TRAILER)?;
        let (head, body) = bytes.split_at_mut_checked(DESCRIPTOR).ok_or(EINVAL)?;
        for (place, field) in head.chunks_exact_mut(2).zip(descriptor) {
            place.copy_from_slice(&field.to_ne_bytes());
        }
        write(body.get_mut(..len).ok_or(EINVAL)?)?;
        // INVARIANT: A whole packet was added.
        self.added += 1;
        Ok(())
    }

    /// Adds `len` zero bytes, all at once.
    fn add_zeroes(&mut self, len: usize) -> Result<&mut [u8], AllocError> {
        let begin = self.bytes.len();
        self.bytes.reserve(len, GFP_KERNEL)?;
        // SAFETY:
        // - There is room for `len` more bytes, which belong to nobody.
        // - They are initialised before they are counted.
        unsafe {
            self.bytes
                .spare_capacity_mut()
                .as_mut_ptr()
                .write_bytes(0, len);
            self.bytes.inc_len(len);
        }
        self.bytes.get_mut(begin..).ok_or(AllocError)
    }

    /// Makes it empty; the memory stays.
    pub fn clear(&mut self) {
        // INVARIANT: There are no packets.
        self.bytes.clear();
        self.added = 0;
        self.sent = 0;
        self.sent_bytes = 0;
    }

    /// How many bytes it has memory for.
    pub fn capacity(&self) -> usize {
        self.bytes.capacity()
    }

    /// How many more bytes it has memory for.
    pub fn room(&self) -> usize {
        self.bytes.capacity() - self.bytes.len()
    }

    /// Takes memory for `len` more bytes, descriptors and trailers included.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub fn reserve(&mut self, len: usize) -> Result {
        Ok(self.bytes.reserve(len, GFP_KERNEL)?)
    }

    /// Bytes that have yet to be sent.
    pub fn bytes(&self) -> usize {
        self.bytes.len() - self.sent_bytes
    }

    /// How many packets were added so far.
    pub fn added(&self) -> usize {
        self.added
    }

    /// How many of them were sent.
    pub fn sent(&self) -> usize {
        self.sent
    }

    /// The next packet.
    fn next(&self) -> Option<&[u8]> {
        let rest = self.bytes.get(self.sent_bytes..)?;
        let &[low, high] = rest.get(LENGTH)? else {
            return None;
        };
        let words = usize::from(u16::from_ne_bytes([low, high]));
        rest.get(..words * 8 + TRAILER)
    }

    /// Writes packets to the ring until it is full. The host is not told. Returns where the ring was
    /// written to before, if something was written.
    ///
    /// # Errors
    ///
    /// `EIO` if the host made nonsense of the ring.
    ///
    /// # Safety
    ///
    /// `ring` must be the ring to the host of an open channel, whose lock is held.
    unsafe fn write(&mut self, ring: *mut bindings::hv_ring_buffer_info) -> Result<Option<u32>> {
        // SAFETY: An open channel has its rings; the size does not change while it is open.
        let (shared, size) = unsafe { ((*ring).ring_buffer, (*ring).ring_datasize) };
        // SAFETY: The ring's header is mapped as long as the channel is open. The host may change it
        // at any time, hence volatile reads.
        let (read, start) = unsafe {
            (
                ptr::read_volatile(&raw const (*shared).read_index),
                ptr::read_volatile(&raw const (*shared).write_index),
            )
        };
        if read >= size || start >= size {
            return Err(EIO);
        }

        let mut at = start;
        let mut room = if start >= read {
            size - (start - read)
        } else {
            read - start
        };
        while let Some(packet) = self.next() {
            // CAST: 65535 words and a trailer.
            let length = packet.len() as u32;
            // A ring that is quite full would look empty.
            if room <= length {
                break;
            }
            let begin = u64::from(at) << 32;
            let body = packet.len() - TRAILER;
            // SAFETY:
            // - The data area of a ring is mapped twice in a row, so that what begins in it may go on
            //   behind its end, up to its size; the packet is shorter than that, as there is room.
            // - The host has read what was there, so the bytes are ours to write. It may look at them
            //   only when the index is raised.
            // - The area begins at a page, and packets and places are multiples of eight bytes unless the
            //   host made nonsense of the index; hence the write that needs no alignment.
            unsafe {
                let to = (&raw mut (*shared).buffer).cast::<u8>().add(at as usize);
                bindings::vaccel_memcpy(to.cast(), packet.as_ptr().cast(), body);
                to.add(body).cast::<u64>().write_unaligned(begin);
            }
            // INVARIANT: It was the next one.
            self.sent += 1;
            self.sent_bytes += length as usize;
            room -= length;
            // OVERFLOW: both are below the size of a ring, which is far below 2 GiB.
            at = (at + length) % size;
        }
        if at == start {
            return Ok(None);
        }

        // SAFETY: As for the indices above; the lock is held, so nobody else writes this one.
        unsafe {
            // The packets have to be there before the host can see that they are.
            bindings::vaccel_virt_mb();
            ptr::write_volatile(&raw mut (*shared).write_index, at);
        }
        Ok(Some(start))
    }
}

impl<C: ChannelCallback> Channel<C> {
    /// Sends the packets of `batch` that have yet to be sent, as many as the ring takes, and tells the
    /// host once. What is left is in the batch still.
    ///
    /// Does not sleep.
    ///
    /// # Errors
    ///
    /// `EAGAIN` if something is left, `ENODEV` if the channel is closed or the host took its offer
    /// back, `EIO` if the host made nonsense of the ring.
    pub fn send_batch(&self, batch: &mut Batch) -> Result {
        let open = self.open.try_access().ok_or(ENODEV)?;
        let channel = open.channel();
        if open.dev.rescinded() {
            return Err(ENODEV);
        }

        // SAFETY:
        // - The channel is open, and stays so while `open` is held.
        // - The lock is held while the ring is written.
        // - The index is where the ring was written to before.
        let written = unsafe {
            let ring = &raw mut (*channel).outbound;
            let flags = bindings::vaccel_spin_lock_irqsave(&raw mut (*ring).ring_lock);
            let written = batch.write(ring);
            bindings::vaccel_spin_unlock_irqrestore(&raw mut (*ring).ring_lock, flags);
            if let Ok(Some(start)) = written {
                bindings::vaccel_hv_signal_on_write(start, channel);
            }
            written
        };
        written?;
        if batch.bytes() != 0 {
            return Err(EAGAIN);
        }
        Ok(())
    }
}
