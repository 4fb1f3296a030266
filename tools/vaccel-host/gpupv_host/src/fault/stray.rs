// SPDX-License-Identifier: MIT OR Apache-2.0
//! Messages to the guest that nothing is behind.

use gpupv::{Event, SetGuestData, SignalGuestEvent};
use rand_chacha::rand_core::{RngCore, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::env::Env;
use crate::host::Host;

/// Bytes of the longest one.
const MAX_LEN: usize = 256;

impl Host {
    /// Sends so many messages that mean nothing: of unknown kinds, cut or too long, or about events and
    /// devices that do not exist. The same seed gives the same ones.
    pub fn send_strays(&self, seed: u64, count: u32, env: &mut dyn Env) {
        let mut noise = ChaCha8Rng::seed_from_u64(seed);
        for _ in 0..count {
            env.send(&stray(&mut noise));
        }
    }
}

fn stray(noise: &mut ChaCha8Rng) -> Vec<u8> {
    let kind = noise.next_u32();
    let event = match kind & 3 {
        0 => Event::Other(noise.next_u32()),
        1 => Event::SetGuestData(SetGuestData::new(noise.next_u64(), noise.next_u32())),
        _ => Event::Signal(SignalGuestEvent::new(noise.next_u64())),
    };
    let mut bytes = vec![0; MAX_LEN];
    let len = event.encode(&mut bytes).unwrap_or(0);
    // Half of them have another length, with noise behind the message.
    let wrong = usize::try_from(noise.next_u32()).unwrap_or(0) % MAX_LEN;
    if kind & 4 == 0 {
        bytes.truncate(len);
    } else {
        if let Some(rest) = bytes.get_mut(len..) {
            noise.fill_bytes(rest);
        }
        bytes.truncate(wrong);
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The same seed gives the same bytes, and there are messages of the right length, of wrong ones,
    /// and of kinds that do not exist.
    #[test]
    fn strays() {
        let run = |seed| {
            let mut noise = ChaCha8Rng::seed_from_u64(seed);
            (0..200).map(|_| stray(&mut noise)).collect::<Vec<_>>()
        };
        assert_eq!(run(1), run(1));
        assert_ne!(run(1), run(2));
        let all = run(1);
        let count = |wanted: fn(&Vec<u8>) -> bool| all.iter().filter(|bytes| wanted(bytes)).count();
        assert!(count(|bytes| bytes.len() == Event::LEN) > 20);
        assert!(count(|bytes| bytes.len() > Event::LEN) > 20);
        assert!(count(|bytes| Event::decode(bytes).is_err()) > 2);
        assert!(count(|bytes| matches!(Event::decode(bytes), Ok(Event::Other(_)))) > 20);
    }
}
