// SPDX-License-Identifier: GPL-2.0-only

//! VMBus channels: a ring of packets in each direction.
//!
//! C header: [`include/linux/hyperv.h`](srctree/include/linux/hyperv.h)
//!
//! The rings and the callback's context live from [`Channel::open`] to [`Channel::close`], or to the
//! drop of the channel. Senders run in an RCU read section, which closing waits for, so the rings
//! cannot go under them.

use kernel::{
    device::Bound,
    error::to_result,
    page::PAGE_SIZE,
    prelude::*,
    revocable::Revocable,
    sync::{
        aref::ARef,
        new_mutex,
        Arc,
        Mutex, //
    },
};

use super::Device;
use crate::bindings;

/// The size of the rings and packets of a channel, in bytes.
#[derive(Clone, Copy)]
pub struct RingConfig {
    /// Ring from guest to host, header included: a multiple of the page size.
    pub send: u32,
    /// Ring from host to guest, likewise. Both rings are one contiguous allocation.
    pub receive: u32,
    /// The largest packet to receive, descriptor included; what is longer is cut.
    pub max_packet: u32,
}

/// What a ring holds besides the payload of its only packet: the ring's own header page, the
/// descriptor and the trailer of the packet, padding, and one word, as a ring is never quite full.
// CAST: A page is far below 4 GiB.
const RING_OVERHEAD: u32 = PAGE_SIZE as u32 + 16 + 8 + 8 + 8;

/// What a packet is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PacketKind {
    /// A message with its data in the ring.
    InBand,
    /// The answer to a message that asked for one.
    Completion,
    /// Something else; the value is the host's.
    Other(u16),
}

/// A packet from the host, copied out of the ring: the host cannot change it any more.
pub struct Packet<'a> {
    /// What it is.
    pub kind: PacketKind,
    /// The transaction id: of the message that this answers, or of the host's choice.
    pub trans_id: u64,
    /// Whether the host wants an answer.
    pub completion_requested: bool,
    /// The data, a multiple of eight bytes. Its content is as untrusted as the host.
    pub payload: &'a [u8],
}

/// The receiver of a channel.
///
/// The methods run in a tasklet, one at a time: they must not sleep.
pub trait ChannelCallback: Send + Sync + 'static {
    /// Called for each packet.
    fn packet(&self, packet: Packet<'_>);

    /// Called after each batch of packets; the ring to the host may have got space as well, see
    /// [`Channel::request_space`].
    fn writable(&self) {}
}

/// A channel that is open, or was.
#[pin_data]
pub struct Channel<C: ChannelCallback> {
    #[pin]
    pub(super) open: Revocable<Open<C>>,
    /// Taken around the set-up and the end of a GPADL: at a rescind the core wakes only one of
    /// those who wait for the host's answer.
    #[pin]
    pub(super) gpadls: Mutex<()>,
}

impl<C: ChannelCallback> Channel<C> {
    /// Opens the primary channel of `dev`; `callback` may be called before this returns.
    ///
    /// # Errors
    ///
    /// `ENOMEM`, `ENODEV` if the host takes its offer back, `EAGAIN` if it refuses, `EINVAL` for
    /// bad sizes or if the channel is open already.
    pub fn open<'a>(
        dev: &'a Device<Bound>,
        config: RingConfig,
        callback: Arc<C>,
    ) -> impl PinInit<Self, Error> + 'a {
        pin_init::pin_init_scope(move || {
            let open = Open::new(dev, config, callback)?;

            Ok(try_pin_init!(Self {
                open <- Revocable::new(open),
                gpadls <- new_mutex!(()),
            }? Error))
        })
    }

    /// Sends `payload`; with `completion` the host is asked to answer with the same `trans_id`.
    ///
    /// Does not sleep.
    ///
    /// # Errors
    ///
    /// `EAGAIN` if the ring is full, `ENODEV` if the channel is closed or the host took its offer
    /// back, `EINVAL` if `payload` does not fit even an empty ring.
    pub fn send(&self, payload: &[u8], trans_id: u64, completion: bool) -> Result {
        let open = self.open.try_access().ok_or(ENODEV)?;
        let len = u32::try_from(payload.len()).map_err(|_| EINVAL)?;
        if len > open.longest {
            return Err(EINVAL);
        }
        let flags = if completion {
            bindings::VMBUS_DATA_PACKET_FLAG_COMPLETION_REQUESTED
        } else {
            0
        };

        // SAFETY:
        // - The channel is open, and stays so while `open` is held.
        // - The payload is valid for `len` bytes, and the function only reads it.
        to_result(unsafe {
            bindings::vmbus_sendpacket(
                open.channel(),
                payload.as_ptr().cast_mut().cast(),
                len,
                trans_id,
                bindings::vmbus_packet_type_VM_PKT_DATA_INBAND,
                flags,
            )
        })
    }

    /// Asks the host for an interrupt when the ring to it has `bytes` of space, 0 for no more.
    ///
    /// Look whether there is space once more afterwards: it may have become free before the host
    /// saw the request.
    pub fn request_space(&self, bytes: u32) {
        if let Some(open) = self.open.try_access() {
            // SAFETY: The channel is open, and stays so while `open` is held.
            unsafe { bindings::vaccel_set_channel_pending_send_size(open.channel(), bytes) };
        }
    }

    /// The device of the channel; none once it is closed.
    ///
    /// Do not keep it: as long as there is a reference, the host cannot offer the channel again.
    pub(super) fn device(&self) -> Option<ARef<Device>> {
        Some(self.open.try_access()?.dev.clone())
    }

    /// Whether the channel is closed, or the host took its offer back.
    pub fn is_gone(&self) -> bool {
        self.open
            .try_access()
            .is_none_or(|open| open.dev.rescinded())
    }

    /// Closes the channel. Sleeps; afterwards no callback runs and none will.
    ///
    /// The first call does the work, and it alone waits for it.
    pub fn close(&self) {
        self.open.revoke();
    }
}

/// What the C callback of a channel gets.
///
/// # Invariants
///
/// `channel` is valid as long as the context.
struct Context<C> {
    channel: *mut bindings::vmbus_channel,
    callback: Arc<C>,
}

/// An open channel; dropping it closes the channel.
///
/// # Invariants
///
/// - The primary channel of `dev` was opened with `context` for its callback, and is ours to close.
/// - `context` is a `KBox` given up by `KBox::into_raw()`, with the channel of `dev`.
pub(super) struct Open<C: ChannelCallback> {
    pub(super) dev: ARef<Device>,
    context: *mut Context<C>,
    /// The longest payload that an empty ring takes.
    longest: u32,
}

impl<C: ChannelCallback> Open<C> {
    fn new(dev: &Device<Bound>, config: RingConfig, callback: Arc<C>) -> Result<Self> {
        let channel = dev.channel();
        let context = KBox::into_raw(KBox::new(Context { channel, callback }, GFP_KERNEL)?);

        // SAFETY:
        // - The channel lives as long as the device. Its packet size is only looked at when it is
        //   opened, which the device's one driver does.
        // - The context is valid until the channel is closed, by `drop()` or below.
        let ret = unsafe {
            (*channel).max_pkt_size = config.max_packet;
            bindings::vmbus_open(
                channel,
                config.send,
                config.receive,
                core::ptr::null_mut(),
                0,
                Some(Self::channel_callback),
                context.cast(),
            )
        };

        // INVARIANT: The channel is open, or is closed by the drop below, which for a channel that
        // could not be opened only detaches the callback.
        let this = Self {
            dev: dev.into(),
            context,
            longest: config.send.saturating_sub(RING_OVERHEAD),
        };
        to_result(ret)?;
        Ok(this)
    }

    pub(super) fn channel(&self) -> *mut bindings::vmbus_channel {
        self.dev.channel()
    }

    /// The callback of the channel.
    ///
    /// # Safety
    ///
    /// Only for the VMBus core, with the context of an open channel.
    unsafe extern "C" fn channel_callback(context: *mut c_void) {
        // SAFETY: The context is valid while the callback can run, and nobody has an exclusive
        // reference to it.
        let context = unsafe { &*context.cast::<Context<C>>() };
        let channel = context.channel;

        // SAFETY: The channel is open, and its tasklet, which this runs in, is the only reader.
        let mut desc = unsafe { bindings::hv_pkt_iter_first(channel) };
        while !desc.is_null() {
            // SAFETY:
            // - The iterator copied the packet out of the ring and made the lengths consistent with
            //   that copy, which nobody changes until the iterator moves on.
            // - The descriptor is packed, so its fields are read by value.
            let packet = unsafe {
                let flags = (&raw const (*desc).flags).read_unaligned();

                Packet {
                    kind: PacketKind::from_raw((&raw const (*desc).type_).read_unaligned()),
                    trans_id: (&raw const (*desc).trans_id).read_unaligned(),
                    completion_requested: u32::from(flags)
                        & bindings::VMBUS_DATA_PACKET_FLAG_COMPLETION_REQUESTED
                        != 0,
                    payload: core::slice::from_raw_parts(
                        bindings::vaccel_hv_pkt_data(desc).cast::<u8>(),
                        // CAST: `usize` has at least 32 bits.
                        bindings::vaccel_hv_pkt_datalen(desc) as usize,
                    ),
                }
            };
            context.callback.packet(packet);

            // SAFETY: As for the first packet; `desc` is where the iterator is.
            desc = unsafe { bindings::vaccel_hv_pkt_iter_next(channel, desc) };
        }

        context.callback.writable();
    }
}

impl<C: ChannelCallback> Drop for Open<C> {
    fn drop(&mut self) {
        // SAFETY: By the type invariants the channel is ours to close. If it is not open the
        // function does no more than to detach the callback.
        unsafe { bindings::vmbus_close(self.channel()) };

        // SAFETY: By the type invariants the context is ours, and the callback does not run any
        // more.
        drop(unsafe { KBox::from_raw(self.context) });
    }
}

// SAFETY: The context holds an `Arc<C>`, which is `Send` as `C` is, and a pointer to a channel, which
// may be closed on any thread that can sleep.
unsafe impl<C: ChannelCallback> Send for Open<C> {}

// SAFETY: A shared `Open` gives access to the functions of the channel, which lock for themselves.
unsafe impl<C: ChannelCallback> Sync for Open<C> {}

impl PacketKind {
    fn from_raw(raw: u16) -> Self {
        match u32::from(raw) {
            bindings::vmbus_packet_type_VM_PKT_DATA_INBAND => Self::InBand,
            bindings::vmbus_packet_type_VM_PKT_COMP => Self::Completion,
            _ => Self::Other(raw),
        }
    }
}
