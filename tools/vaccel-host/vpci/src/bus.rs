// SPDX-License-Identifier: MIT OR Apache-2.0
//! The states of a bus, and what it does with each message.

use serde::Serialize;

use crate::protocol::{
    answer, eject, relations, status, Function, ParseError, Request, INTERRUPT_LEN,
    REQUIREMENTS_LEN, SLOT,
};
use crate::version::Version;

/// A guest's message.
#[derive(Debug, Clone, Copy)]
pub struct MessageIn<'a> {
    /// Identifies the completion.
    pub transaction_id: u64,
    /// Whether the guest waits for a completion.
    pub completion_requested: bool,
    /// The packet's payload, copied out of the ring.
    pub payload: &'a [u8],
}

/// The window cannot be where the guest wants it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no configuration space at {base:#x}: {reason}")]
pub struct WindowRefused {
    /// First address.
    pub base: u64,
    /// Why.
    pub reason: String,
}

/// What a bus asks of its owner. An effect must not call the bus.
pub trait Env {
    /// Completes a packet of the guest.
    fn complete(&mut self, transaction_id: u64, payload: &[u8]);

    /// Sends a packet of its own.
    fn send(&mut self, payload: &[u8]);

    /// Shows the window, [`crate::WINDOW_LEN`] bytes, at this guest-physical address.
    ///
    /// # Errors
    ///
    /// The guest is told that its bus has no power.
    fn map_window(&mut self, base: u64) -> Result<(), WindowRefused>;

    /// Takes the window away.
    fn unmap_window(&mut self);

    /// The guest has let go of the function that it was asked for.
    fn ejected(&mut self);
}

/// What the bus is like now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct State {
    /// The function is on it.
    pub present: bool,
    /// The guest was asked to let go of the function, and has not answered.
    pub ejecting: bool,
    /// What the guest speaks, once it has said so.
    pub version: Option<Version>,
    /// The guest was told what is on the bus, and is told of changes.
    pub watched: bool,
    /// The guest has powered the bus, and has its window.
    pub powered: bool,
    /// The guest has assigned resources to the function.
    pub assigned: bool,
}

/// A bus with room for one function. See the [crate] for an overview.
#[derive(Debug, Clone)]
pub struct Bus {
    newest: Version,
    function: Function,
    state: State,
}

impl Bus {
    /// A bus on which `function` is, of a host that speaks no version after `newest`.
    pub fn new(newest: Version, function: Function) -> Self {
        Self {
            newest,
            function,
            state: State {
                present: true,
                ..State::default()
            },
        }
    }

    /// What the bus is like now.
    pub fn state(&self) -> State {
        self.state
    }

    /// The channel was closed: the guest has to begin anew. A function that it was asked for is then its own
    /// no longer.
    pub fn closed(&mut self, env: &mut dyn Env) {
        if self.state.powered {
            env.unmap_window();
        }
        if self.state.ejecting {
            self.state.present = false;
            env.ejected();
        }
        self.state = State {
            present: self.state.present,
            ..State::default()
        };
    }

    /// Puts the function on the bus or takes it away, and tells a guest that watches.
    pub fn set_present(&mut self, present: bool, env: &mut dyn Env) {
        self.state.ejecting = false;
        self.state.assigned &= present;
        if self.state.present != present {
            self.state.present = present;
            self.tell(env);
        }
    }

    /// Asks the guest to let go of the function; returns whether there is a guest that could. It answers by
    /// [`Env::ejected`].
    pub fn eject(&mut self, env: &mut dyn Env) -> bool {
        if !self.state.present || !self.state.watched {
            return false;
        }
        if !self.state.ejecting {
            self.state.ejecting = true;
            env.send(&eject());
        }
        true
    }

    /// Takes a message of the guest.
    pub fn message(&mut self, message: MessageIn<'_>, env: &mut dyn Env) {
        let answer = match Request::parse(message.payload, self.state.version) {
            Ok(request) => self.carry_out(request, env),
            Err(error) => {
                tracing::debug!(%error, "message refused");
                Some(refuse(error))
            }
        };
        match answer {
            Some(answer) if message.completion_requested => {
                env.complete(message.transaction_id, &answer);
            }
            None if message.completion_requested => {
                env.complete(message.transaction_id, &answer_status(status::SUCCESS));
            }
            _ => {}
        }
    }

    /// Returns the answer, if there is more to say than that it was done.
    fn carry_out(&mut self, request: Request<'_>, env: &mut dyn Env) -> Option<Vec<u8>> {
        if self.state.version.is_none() && !matches!(request, Request::Version(_)) {
            return Some(answer_status(status::INVALID_DEVICE_STATE));
        }
        match request {
            Request::Version(request) => Some(self.negotiate(request.version.get())),
            Request::QueryRelations => {
                self.state.watched = true;
                self.tell(env);
                None
            }
            Request::QueryRequirements(child) => {
                Some(answer(self.find(child.slot.get()), REQUIREMENTS_LEN))
            }
            Request::EnterD0(request) => Some(self.enter_d0(request.base.get(), env)),
            Request::ExitD0 => Some(self.exit_d0(env)),
            Request::Assigned(child, interrupts) => Some(self.assign(child.slot.get(), interrupts)),
            Request::Released(child) => {
                if self.find(child.slot.get()) == status::SUCCESS {
                    self.state.assigned = false;
                }
                None
            }
            // There are no interrupts to create or delete.
            Request::CreateInterrupt(child) => {
                Some(answer(self.no_interrupt(child.slot.get()), INTERRUPT_LEN))
            }
            Request::DeleteInterrupt(child) => {
                Some(answer_status(self.no_interrupt(child.slot.get())))
            }
            Request::EjectionComplete(request) => {
                let status = request.status.get();
                tracing::debug!(status, "the guest let go of the function");
                self.let_go(request.child.slot.get(), env);
                None
            }
        }
    }

    /// The versions that the host has are there until the bus has power.
    fn negotiate(&mut self, wanted: u32) -> Vec<u8> {
        if self.state.powered {
            return answer_status(status::INVALID_DEVICE_STATE);
        }
        match Version::from_wire(wanted).filter(|version| *version <= self.newest) {
            Some(version) => {
                self.state.version = Some(version);
                answer_status(status::SUCCESS)
            }
            None => answer_status(status::REVISION_MISMATCH),
        }
    }

    fn enter_d0(&mut self, base: u64, env: &mut dyn Env) -> Vec<u8> {
        if self.state.powered {
            return answer_status(status::INVALID_DEVICE_STATE);
        }
        match env.map_window(base) {
            Ok(()) => {
                self.state.powered = true;
                answer_status(status::SUCCESS)
            }
            Err(error) => {
                tracing::debug!(%error, "no power for the bus");
                answer_status(status::INVALID_PARAMETER)
            }
        }
    }

    fn exit_d0(&mut self, env: &mut dyn Env) -> Vec<u8> {
        if !self.state.powered {
            return answer_status(status::INVALID_DEVICE_STATE);
        }
        self.state.powered = false;
        self.state.assigned = false;
        env.unmap_window();
        answer_status(status::SUCCESS)
    }

    fn assign(&mut self, slot: u32, interrupts: u32) -> Vec<u8> {
        let found = self.find(slot);
        if found != status::SUCCESS {
            return answer_status(found);
        }
        if !self.state.powered {
            return answer_status(status::INVALID_DEVICE_STATE);
        }
        if interrupts != 0 {
            return answer_status(status::INVALID_PARAMETER);
        }
        self.state.assigned = true;
        answer_status(status::SUCCESS)
    }

    /// A guest that was not asked has nothing to let go of.
    fn let_go(&mut self, slot: u32, env: &mut dyn Env) {
        if self.state.ejecting && slot == SLOT {
            self.state.ejecting = false;
            self.state.present = false;
            self.state.assigned = false;
            env.ejected();
        }
    }

    fn find(&self, slot: u32) -> u32 {
        if self.state.present && slot == SLOT {
            status::SUCCESS
        } else {
            status::NO_SUCH_DEVICE
        }
    }

    /// The status of a request about an interrupt.
    fn no_interrupt(&self, slot: u32) -> u32 {
        match self.find(slot) {
            status::SUCCESS => status::NOT_SUPPORTED,
            missing => missing,
        }
    }

    /// Tells a guest that watches what is on the bus.
    fn tell(&self, env: &mut dyn Env) {
        if let (true, Some(version)) = (self.state.watched, self.state.version) {
            let function = self.state.present.then_some(self.function);
            env.send(&relations(version, function));
        }
    }
}

fn answer_status(status: u32) -> Vec<u8> {
    answer(status, 0)
}

fn refuse(error: ParseError) -> Vec<u8> {
    answer_status(error.status())
}

#[cfg(test)]
mod tests;
