// SPDX-License-Identifier: MIT OR Apache-2.0
//! What leaves the host, and what can be done to it.

use rand_chacha::rand_core::RngCore;
use rand_chacha::ChaCha8Rng;

use super::rule::Garbage;
use crate::call::Completion;
use crate::env::{Channel, Env};

/// Bit that no transaction id of a guest has: they count from small numbers, or are small tables'
/// indexes.
const NOBODYS: u64 = 1 << 63;

/// A completion or an event.
#[derive(Debug, Clone)]
pub(super) struct Packet {
    /// Of which transaction; an event if none.
    to: Option<Completion>,
    payload: Vec<u8>,
    /// Milliseconds that it is late.
    pub delay: u64,
}

/// What is done to a packet, with the generator of the bytes that it takes.
#[derive(Debug, Clone)]
pub(super) enum Effect {
    Delay(u64),
    Lose,
    Short(usize),
    Long(usize, ChaCha8Rng),
    Spoil(Garbage, ChaCha8Rng),
    Twice,
    WrongId(ChaCha8Rng),
    Mutate(f64, ChaCha8Rng),
}

impl Packet {
    pub fn answer(to: Completion, payload: &[u8]) -> Self {
        Self {
            to: Some(to),
            payload: payload.to_vec(),
            delay: 0,
        }
    }

    pub fn event(payload: &[u8]) -> Self {
        Self {
            to: None,
            payload: payload.to_vec(),
            delay: 0,
        }
    }

    /// The channel it goes to.
    pub fn channel(&self) -> Channel {
        self.to.map_or(Channel::Global, |to| to.channel)
    }

    pub fn send(&self, env: &mut dyn Env) {
        match self.to {
            Some(to) => env.complete(to.channel, to.transaction_id, &self.payload),
            None => env.send(&self.payload),
        }
    }
}

/// What becomes of a packet, by effects one after the other.
pub(super) fn apply(packet: Packet, effects: Vec<Effect>) -> Vec<Packet> {
    let mut packets = vec![packet];
    for effect in effects {
        match effect {
            Effect::Lose => packets.clear(),
            Effect::Twice => packets = packets.iter().cloned().chain(packets.clone()).collect(),
            mut other => packets
                .iter_mut()
                .for_each(|packet| change(packet, &mut other)),
        }
    }
    packets
}

fn change(packet: &mut Packet, effect: &mut Effect) {
    let payload = &mut packet.payload;
    match effect {
        Effect::Delay(milliseconds) => packet.delay = packet.delay.saturating_add(*milliseconds),
        Effect::Short(bytes) => payload.truncate(payload.len().saturating_sub(*bytes)),
        Effect::Long(bytes, noise) => {
            let mut more = vec![0; *bytes];
            noise.fill_bytes(&mut more);
            payload.append(&mut more);
        }
        Effect::Spoil(mode, noise) => spoil(payload, *mode, noise),
        Effect::WrongId(noise) => {
            if let Some(to) = &mut packet.to {
                to.transaction_id = noise.next_u64() | NOBODYS;
            }
        }
        Effect::Mutate(rate, noise) => mutate(payload, *rate, noise),
        Effect::Lose | Effect::Twice => {}
    }
}

fn spoil(payload: &mut [u8], mode: Garbage, noise: &mut ChaCha8Rng) {
    match mode {
        Garbage::Zero => payload.fill(0),
        Garbage::Ones => payload.fill(0xff),
        Garbage::Random => noise.fill_bytes(payload),
        Garbage::Flip => {
            let bits = u64::try_from(payload.len()).unwrap_or(0).saturating_mul(8);
            let bit = noise.next_u64().checked_rem(bits).unwrap_or(0);
            let byte = usize::try_from(bit >> 3).unwrap_or(0);
            if let Some(byte) = payload.get_mut(byte) {
                *byte ^= 1 << (bit & 7);
            }
        }
    }
}

/// Changes each byte with this probability.
fn mutate(payload: &mut [u8], rate: f64, noise: &mut ChaCha8Rng) {
    for byte in payload {
        // Both numbers in any case, so that a byte's fate does not move those behind it.
        let (chance, change) = (noise.next_u32(), noise.next_u32());
        if f64::from(chance) < rate * f64::from(u32::MAX) {
            let [change, ..] = change.to_le_bytes();
            *byte ^= change.max(1);
        }
    }
}
