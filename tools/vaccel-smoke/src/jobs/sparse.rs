// SPDX-License-Identifier: MIT OR Apache-2.0
//! Works in a range of GPU addresses that is larger than the memory behind it, whose tiles are bound
//! in queue order between the jobs.

use std::time::Instant;

use libvaccel::compute::{Buffer, Session};
use libvaccel::{BindFlags, Bo, BoOptions, Features, ReserveOptions, Submission};
use vaccel_isa::{CommandStream, Opcode};

use super::{Bench, Job, Measured};
use crate::compare;
use crate::failure::Failure;
use crate::reference;

/// The test.
pub const JOB: Job = Job {
    name: "sparse",
    what: "moves 4 MiB through 64 tiles of reserved addresses with memory for four of them, bound \
           and unbound in queue order between the copies; a tile without memory reads as zeros",
    needs: &[Opcode::Copy],
    run,
};

const TILE: u64 = 64 << 10;
const TILES: u64 = 64;
const OBJECTS: usize = 4;
const WORDS: usize = (TILE * TILES / 4) as usize;

/// The tile that a step uses: all of them, in no neighbourly order.
const fn tile_of(step: u64) -> u64 {
    step * 37 % TILES
}

/// A command buffer for one step: through its tile to the output, and from a tile without memory.
fn code(
    session: &Session,
    step: u64,
    reserved: u64,
    source: &Buffer,
    target: &Buffer,
    zeros: &Buffer,
) -> Result<(Buffer, u32), Failure> {
    let tile = reserved + tile_of(step) * TILE;
    let empty = reserved + (tile_of(step) + 1) % TILES * TILE;
    let mut stream = CommandStream::new();
    stream.copy(tile, source.gpu_va() + step * TILE, TILE);
    stream.copy(target.gpu_va() + step * TILE, tile, TILE);
    stream.copy(zeros.gpu_va() + step * 4, empty, 4);
    let bytes = stream
        .finish()
        .map_err(|error| Failure::Behaviour(error.to_string()))?;
    let buffer = session.code_buffer(bytes.len() as u64)?;
    buffer.mapping().write(0, &bytes)?;
    Ok((buffer, bytes.len() as u32))
}

fn run(bench: &Bench) -> Result<Measured, Failure> {
    bench.needs(Features::VA_RESERVE | Features::QUEUED_BIND)?;
    let session = Session::new(&bench.device)?;
    let vm = session.vm();
    let reservation = vm.reserve(TILE * TILES, &ReserveOptions::new().zero())?;
    let objects: Vec<Bo> = (0..OBJECTS)
        .map(|_| vm.create_bo(&BoOptions::new(TILE)))
        .collect::<libvaccel::Result<_>>()?;
    let values = reference::pattern(21, WORDS);
    let source = session.buffer_f32(&values)?;
    let target = session.buffer(TILE * TILES)?;
    let zeros = session.buffer(TILES * 4)?;
    zeros.mapping().write(0, &[0xff; TILES as usize * 4])?;

    let mut list = Submission::new();
    let mut codes = Vec::new();
    for (step, bo) in (0..TILES).zip(objects.iter().cycle()) {
        let at = tile_of(step) * TILE;
        let (buffer, size) = code(
            &session,
            step,
            reservation.gpu_va(),
            &source,
            &target,
            &zeros,
        )?;
        list = list
            .bind(&reservation, at, bo, 0..TILE, BindFlags::WRITE)
            .exec(buffer.gpu_va(), size)
            .unbind(&reservation, at..at + TILE);
        codes.push(buffer);
    }
    let begin = Instant::now();
    session.queue().submit(&list.signal(session.fence(), 1))?;
    session.fence().wait(1, bench.deadline)?;
    let time = begin.elapsed();

    let mut outputs =
        compare::floats("what went through tiles", &target.read_f32(WORDS)?, &values)?;
    let empty = zeros.read_u32(TILES as usize)?;
    outputs += compare::words("tiles without memory", &empty, &[0; TILES as usize])?;
    reservation.close()?;
    Ok(Measured {
        outputs,
        time,
        amount: Some(((TILE * TILES * 2) as f64, "bytes/s")),
        ..Default::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Proves that every tile is used once.
    #[test]
    fn every_tile_once() {
        let mut tiles: Vec<u64> = (0..TILES).map(tile_of).collect();
        tiles.sort_unstable();
        assert!(tiles.into_iter().eq(0..TILES));
    }
}
