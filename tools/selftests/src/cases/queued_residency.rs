// SPDX-License-Identifier: MIT OR Apache-2.0
//! RESIDENCY as an operation of a queue.

use std::path::Path;

use libvaccel::compute::{Buffer, Session};
use libvaccel::{
    BindFlags, Bo, BoOptions, ErrorKind, Features, OfferPriority, OpOutcome, QueueMode, Submission,
    Vm, VmFlags,
};
use vaccel_isa::CommandStream;

use super::queued::{code, FEATURES, PAGE, PAGES};
use super::Case;
use crate::host::Host;
use crate::rig::{ensure, failed, mark_pages, open_with, soon, Problem, Result};

pub const CASES: &[Case] = &[
    Case {
        name: "queued-residency",
        proves: "a job behind a queued RESIDENT uses an object that was not resident; other \
                 operations of RESIDENCY have no place in a queue",
        run: residency,
    },
    Case {
        name: "queued-reclaim-lost",
        proves:
            "a queued RECLAIM of what the host has dropped fails with ENODATA, and what is behind \
                 it is not tried",
        run: reclaim_lost,
    },
    Case {
        name: "queued-reclaim",
        proves: "a queued RECLAIM takes back an offered object with its content, ahead of the job \
                 that reads it",
        run: reclaim,
    },
];

/// A session in a vm with residency by hand, with its output resident.
fn manual(node: &Path, features: Features) -> Result<(Session, Buffer)> {
    let device = open_with(node, features | Features::MANUAL_RESIDENCY)?;
    let vm = device.create_vm(VmFlags::MANUAL_RESIDENCY)?;
    let session = Session::in_vm(&vm, QueueMode::Bounded)?;
    let out = session.buffer(PAGE)?;
    vm.make_resident(&[out.bo()])?.wait(soon())?;
    Ok((session, out))
}

fn marked(vm: &Vm, first: u32) -> Result<(Bo, libvaccel::Binding)> {
    let bo = vm.create_bo(&BoOptions::new(PAGES * PAGE))?;
    mark_pages(&bo.map()?, first)?;
    let binding = bo.bind(BindFlags::WRITE)?;
    Ok((bo, binding))
}

fn copy_word(session: &Session, out: &Buffer, from: u64) -> Result<(Buffer, u32)> {
    let mut stream = CommandStream::new();
    stream.copy(out.gpu_va(), from, 4);
    code(session, stream)
}

fn residency(node: &Path) -> Result {
    let (session, out) = manual(node, FEATURES)?;
    let (bo, binding) = marked(session.vm(), 40)?;
    let (buffer, size) = copy_word(&session, &out, binding.gpu_va() + PAGE)?;
    let list = Submission::new()
        .resident(&bo)
        .exec(buffer.gpu_va(), size)
        .signal(session.fence(), 1)
        .with_outcomes();
    let submitted = session.queue().submit(&list)?;
    session.fence().wait(1, soon())?;
    match submitted.outcomes.first() {
        Some(OpOutcome::Accepted(value)) => {
            session.vm().wait_paging(*value, soon())?;
        }
        other => return failed(format!("the outcome of RESIDENT is {other:?}")),
    }
    ensure(
        out.read_u32(1)? == [41],
        "a job behind a queued RESIDENT reads something else",
    )?;
    // It counts as one RESIDENT by hand.
    session.vm().evict(&[&bo])?;
    match session.vm().evict(&[&bo]) {
        Err(error) if [ErrorKind::InvalidArgument, ErrorKind::Busy].contains(&error.kind()) => {}
        other => return failed(format!("a second EVICT: {other:?}")),
    }
    session.vm().make_resident(&[&bo])?.wait(soon())?;
    let list = Submission::new()
        .exec(buffer.gpu_va(), size)
        .signal(session.fence(), 2);
    session.queue().submit(&list)?;
    session.fence().wait(2, soon())?;
    ensure(
        out.read_u32(1)? == [41],
        "an object that came and went has changed",
    )
}

fn reclaim(node: &Path) -> Result {
    let (session, out) = manual(node, FEATURES | Features::OFFER)?;
    let vm = session.vm();
    let (bo, binding) = marked(vm, 50)?;
    vm.offer(&[&bo], OfferPriority::High, false)?;
    let (buffer, size) = copy_word(&session, &out, binding.gpu_va())?;
    let list = Submission::new()
        .reclaim(&bo)
        .resident(&bo)
        .exec(buffer.gpu_va(), size)
        .signal(session.fence(), 1)
        .with_outcomes();
    match session.queue().submit_reporting(&list) {
        Ok(_) => {}
        Err(rejected) => {
            // The host may have dropped it already; then it must say so.
            ensure(
                rejected.error.kind() == ErrorKind::ContentLost,
                format!("a queued RECLAIM: {rejected}"),
            )?;
            return Err(Problem::Skipped(
                "the host dropped the content at once".into(),
            ));
        }
    }
    session.fence().wait(1, soon())?;
    ensure(
        out.read_u32(1)? == [50],
        "a reclaimed object has another content",
    )?;
    vm.evict(&[&bo])?;
    vm.offer(&[&bo], OfferPriority::High, false)?;
    vm.reclaim(&[&bo])?;
    drop(binding);
    Ok(())
}

fn reclaim_lost(node: &Path) -> Result {
    const BYTES: u64 = 1 << 20;
    let mut host = Host::open(node)?;
    let (session, _out) = manual(node, FEATURES | Features::OFFER | Features::HOST_MEMORY)?;
    let vm = session.vm();
    let bo = vm.create_bo(&BoOptions::host(BYTES))?;
    vm.offer(&[&bo], OfferPriority::Low, false)?;
    let dropped = host.pressure(BYTES)?;
    ensure(
        dropped == BYTES,
        format!("the host dropped {dropped} bytes of {BYTES} that are offered"),
    )?;
    let fence = session.fence();
    let list = Submission::new()
        .signal(fence, 1)
        .reclaim(&bo)
        .signal(fence, 2)
        .with_outcomes();
    let rejected = match session.queue().submit_reporting(&list) {
        Ok(submitted) => return failed(format!("lost content is reclaimed: {submitted:?}")),
        Err(rejected) => rejected,
    };
    ensure(
        rejected.error.kind() == ErrorKind::ContentLost,
        format!("RECLAIM of lost content: {rejected}, expected ENODATA"),
    )?;
    let outcomes = rejected.outcomes.as_slice();
    ensure(
        matches!(
            outcomes,
            [
                OpOutcome::Accepted(_),
                OpOutcome::Failed { errno, .. },
                OpOutcome::NotTried
            ] if errno.0 == libc::ENODATA
        ),
        format!("the outcomes are {outcomes:?}"),
    )?;
    fence.wait(1, soon())?;
    ensure(
        fence.value()? == 1,
        "an operation behind a failed RECLAIM was queued",
    )
}
