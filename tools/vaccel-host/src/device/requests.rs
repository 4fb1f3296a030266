// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the device thread does on request of the control channel and of rules.

use anyhow::{Context, Result};
use nix::sys::time::{TimeSpec, TimeValLike};
use nix::time::{clock_gettime, ClockId};
use serde_json::Value;

use super::{Device, OFFER_PATIENCE};
use crate::control::{self, EngineFault, FailedState, Request, ResultLine};
use crate::results;
use crate::world::HostWorld;

impl Device {
    /// Carries a request of the control channel out and returns the answer.
    pub(super) fn answer(&mut self, line: &str) -> Result<Value> {
        match control::parse(line) {
            Ok(request) => self.carry_out(request),
            Err(reason) => Ok(control::refused(&reason)),
        }
    }

    pub(super) fn carry_out(&mut self, request: Request) -> Result<Value> {
        let answer = match request {
            Request::Census => serde_json::to_value(self.host.census())?,
            Request::Messages => serde_json::to_value(self.host.messages())?,
            Request::Time => serde_json::json!({ "busy_ns": busy_ns()? }),
            Request::Result { name, data } => {
                let name = name.as_str();
                let line = serde_json::to_string(&ResultLine { name, data: &data })?;
                results::write_line(&mut self.results, &line).context("cannot write a result")?;
                control::ok()
            }
            Request::EngineFault {
                job: EngineFault::FlipOneElement,
                vgpu,
            } => match self.vgpu(vgpu) {
                Some(vgpu) if self.host.arm_wrong_result(vgpu) => control::ok(),
                _ => control::refused("no such virtual GPU"),
            },
            Request::EngineFault {
                job: EngineFault::Hang,
                vgpu,
            } => match self.vgpu(vgpu) {
                Some(vgpu) if self.host.arm_hang(vgpu) => control::ok(),
                _ => control::refused("no such virtual GPU"),
            },
            Request::StopAdapter { vgpu } => self.stop_adapter(vgpu),
            Request::StrayEvents { seed, count } => {
                let mut env = HostWorld {
                    server: Some(&self.server),
                    world: &mut self.world,
                };
                self.host.send_strays(seed, count, &mut env);
                control::ok()
            }
            Request::RemoveFunction { vgpu, how } => self.remove_function(vgpu, how),
            Request::AddFunction { vgpu } => self.add_function(vgpu),
            Request::Functions => serde_json::json!({ "functions": self.world.pci.report() }),
            Request::Balloon { mib } => self.world.inflate(mib),
            Request::BalloonState { mib } => self.world.balloon_state(mib),
            Request::Rescind(target) => done(self.target(target).and_then(|from| {
                self.cancel_late(from);
                self.rescind(from)
            })),
            Request::Offer(target) => done(self.target(target).and_then(|to| self.offer(to))),
            Request::AddVgpu => match self.add_vgpu() {
                Ok(vgpu) => serde_json::json!({ "ok": true, "vgpu": vgpu.index() }),
                Err(error) => control::refused(&format!("{error:#}")),
            },
            Request::Budget {
                vgpu,
                segment,
                bytes,
            } => match self.vgpu(vgpu) {
                Some(vgpu) if self.host.set_budget(vgpu, segment.into(), bytes) => control::ok(),
                _ => control::refused("no such virtual GPU"),
            },
            Request::Pressure { vgpu, bytes } => {
                let vgpu = self.vgpu(vgpu);
                match vgpu.and_then(|vgpu| self.host.pressure(vgpu, bytes)) {
                    Some(dropped) => serde_json::json!({ "ok": true, "dropped": dropped }),
                    None => control::refused("no such virtual GPU"),
                }
            }
            Request::Mute { vgpu, milliseconds } => self.mute(vgpu, milliseconds),
            Request::FailDevice { vgpu, state } => self.fail_devices(vgpu, state),
            Request::DropEvents { count } => {
                self.host.drop_events(count);
                control::ok()
            }
            Request::Fault(rule) => match self.faults.arm(rule, &mut self.host) {
                Ok(id) => serde_json::json!({ "ok": true, "id": id }),
                Err(error) => control::refused(&error.to_string()),
            },
            Request::Faults => self.faults.list(&self.host),
            Request::ClearFaults => {
                self.faults.clear(&mut self.host);
                control::ok()
            }
            Request::Exit { code } => {
                self.exit = Some(code);
                control::ok()
            }
        };
        Ok(answer)
    }

    /// Carries out what rules ask for, and goes on with the messages that waited for it.
    pub(super) fn obey_rules(&mut self) {
        while let Some(id) = self.host.take_operation() {
            let Some(request) = self.faults.operation(id).cloned() else {
                continue;
            };
            tracing::info!(?request, "a rule's operation");
            match request {
                Request::Offer(target) => {
                    let end = self.world.now_ns().saturating_add(OFFER_PATIENCE);
                    if let Ok(purpose) = self.target(target) {
                        self.offer_later(purpose, end);
                        self.offer_late_ones();
                    }
                }
                request => match self.carry_out(request) {
                    Ok(answer) => tracing::debug!(%answer, "done"),
                    Err(error) => tracing::warn!(%error, "a rule's operation failed"),
                },
            }
            let mut env = HostWorld {
                server: Some(&self.server),
                world: &mut self.world,
            };
            self.host.resume(&mut env);
        }
    }

    fn mute(&mut self, vgpu: usize, milliseconds: u64) -> Value {
        if self.vgpu(vgpu).is_none() {
            return control::refused("no such virtual GPU");
        }
        let env = HostWorld {
            server: Some(&self.server),
            world: &mut self.world,
        };
        self.host.mute(milliseconds, &env);
        control::ok()
    }

    fn stop_adapter(&mut self, vgpu: usize) -> Value {
        let vgpu = self.vgpu(vgpu);
        let mut env = HostWorld {
            server: Some(&self.server),
            world: &mut self.world,
        };
        match vgpu {
            Some(vgpu) if self.host.stop_adapter(vgpu, &mut env) => control::ok(),
            _ => control::refused("no such virtual GPU"),
        }
    }

    fn fail_devices(&mut self, vgpu: usize, state: FailedState) -> Value {
        let vgpu = self.vgpu(vgpu);
        let mut env = HostWorld {
            server: Some(&self.server),
            world: &mut self.world,
        };
        match vgpu {
            Some(vgpu) if self.host.fail_devices(vgpu, state.into(), &mut env) => control::ok(),
            _ => control::refused("no such virtual GPU"),
        }
    }
}

/// The answer to a request that may have failed.
fn done(outcome: Result<()>) -> Value {
    match outcome {
        Ok(()) => control::ok(),
        Err(error) => control::refused(&format!("{error:#}")),
    }
}

/// Processor time of this thread, in nanoseconds.
fn busy_ns() -> Result<i64> {
    let time = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)?;
    Ok(TimeSpec::num_nanoseconds(&time))
}
