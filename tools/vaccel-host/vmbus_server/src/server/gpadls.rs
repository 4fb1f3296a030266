// SPDX-License-Identifier: MIT OR Apache-2.0
//! GPADL messages.

use zerocopy::little_endian::U32;

use super::{Server, Violation, STATUS_SUCCESS, STATUS_UNSUCCESSFUL};
use crate::channel::{ChannelId, ChannelState};
use crate::effects::{Effects, Teardown};
use crate::gpadl::{GpadlState, Progress};
use crate::protocol::{encode, kind, GpadlCreated, GpadlHeader, GpadlTeardown, GpadlTorndown};

impl Server {
    pub(super) fn on_gpadl_header(
        &mut self,
        header: &GpadlHeader,
        words: &[u8],
        fx: &mut dyn Effects,
    ) -> Result<(), Violation> {
        let (id, state) = self.known(header.relid.get())?;
        let handle = header.handle.get();
        if !state.takes_gpadls() {
            self.send_created(id, handle, STATUS_UNSUCCESSFUL, fx);
            return Ok(());
        }
        let (count, bytes) = (header.range_count.get(), header.range_bytes.get());
        match self.gpadls.start(id, handle, count, bytes) {
            Ok(()) => self.on_gpadl_part(handle, words, fx),
            Err(error) => {
                self.log
                    .complain(format_args!("{id}: gpadl {handle:#x} refused: {error}"));
                self.send_created(id, handle, STATUS_UNSUCCESSFUL, fx);
            }
        }
        Ok(())
    }

    /// Takes the words of a header or body message. A guest whose header was refused, or whose
    /// channel was rescinded meanwhile, goes on sending bodies; these are ignored.
    pub(super) fn on_gpadl_part(&mut self, handle: u32, words: &[u8], fx: &mut dyn Effects) {
        match self.gpadls.extend(handle, words, &*self.memory) {
            None => tracing::debug!(handle, "ignored part of an unknown gpadl"),
            Some(Ok(Progress::Incomplete)) => {}
            Some(Ok(Progress::Ready(channel))) => {
                self.send_created(channel, handle, STATUS_SUCCESS, fx);
            }
            Some(Err((channel, error))) => {
                self.log.complain(format_args!(
                    "{channel}: gpadl {handle:#x} refused: {error}"
                ));
                self.send_created(channel, handle, STATUS_UNSUCCESSFUL, fx);
            }
        }
    }

    pub(super) fn on_gpadl_teardown(
        &mut self,
        request: &GpadlTeardown,
        fx: &mut dyn Effects,
    ) -> Result<(), Violation> {
        let (id, state) = self.known(request.relid.get())?;
        let handle = request.handle.get();
        let Some(gpadl) = self.gpadls.get(handle) else {
            // Revoked with its channel, or never there: either way it is not in use.
            if state != ChannelState::Rescinded {
                self.log
                    .complain(format_args!("{id}: unknown gpadl {handle:#x} taken back"));
            }
            self.send_torndown(handle, fx);
            return Ok(());
        };
        if gpadl.channel != id {
            return Err(Violation::ForeignGpadl {
                channel: id,
                handle,
                owner: gpadl.channel,
            });
        }
        if matches!(state, ChannelState::Open(open) if open.ring_gpadl == handle) {
            return Err(Violation::RingTakenBack {
                channel: id,
                handle,
            });
        }
        match gpadl.state {
            GpadlState::Assembling { .. } => self.finish_teardown(handle, fx),
            GpadlState::TearingDown(_) => self
                .log
                .complain(format_args!("{id}: gpadl {handle:#x} taken back twice")),
            GpadlState::Ready(_) => {
                self.gpadls.tear_down(handle);
                if fx.gpadl_teardown(id, handle) == Teardown::Done {
                    self.finish_teardown(handle, fx);
                }
            }
        }
        Ok(())
    }

    /// The device has stopped using a GPADL for which it had answered [`Teardown::Later`]. Without
    /// effect if the GPADL was revoked since.
    pub fn gpadl_released(&mut self, channel: ChannelId, handle: u32, fx: &mut dyn Effects) {
        self.check_invariants();
        let waiting = self.gpadls.get(handle).is_some_and(|gpadl| {
            gpadl.channel == channel && matches!(gpadl.state, GpadlState::TearingDown(_))
        });
        if waiting {
            self.finish_teardown(handle, fx);
        }
        self.check_invariants();
    }

    fn finish_teardown(&mut self, handle: u32, fx: &mut dyn Effects) {
        self.gpadls.remove(handle);
        self.send_torndown(handle, fx);
    }

    fn send_torndown(&mut self, handle: u32, fx: &mut dyn Effects) {
        let message = GpadlTorndown {
            handle: U32::new(handle),
        };
        self.send(encode(kind::GPADL_TORNDOWN, &message), fx);
    }

    fn send_created(&mut self, channel: ChannelId, handle: u32, status: u32, fx: &mut dyn Effects) {
        let message = GpadlCreated {
            relid: U32::new(channel.relid()),
            handle: U32::new(handle),
            status: U32::new(status),
        };
        self.send(encode(kind::GPADL_CREATED, &message), fx);
    }
}
