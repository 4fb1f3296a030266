// SPDX-License-Identifier: MIT OR Apache-2.0
//! Operations on addresses, bindings and residency.

use anyhow::Result;
use libvaccel::ioctl::{Bind, Residency, Unbind, VaRelease, VaReserve};
use libvaccel::sys;
use zerocopy::IntoBytes;

use crate::rig::{Rig, SIZE};
use crate::row::{ioctl, Row, Step};

fn range(rig: &Rig, flags: u32) -> sys::VaRange {
    sys::VaRange {
        vm: rig.vm(),
        flags,
        size: SIZE,
        ..Default::default()
    }
}

fn reserve(rig: &Rig, flags: u32) -> Result<Step<'_>> {
    ioctl::<VaReserve>(rig, range(rig, flags))
}

/// BIND of a new object into the rig's reservation.
pub(super) fn fixed(rig: &Rig) -> Result<sys::Bind> {
    Ok(sys::Bind {
        vm: rig.vm(),
        bo: rig.make_bo(rig.vm())?,
        flags: sys::BIND_FIXED | sys::BIND_WRITE,
        gpu_va: rig.reservation.gpu_va() + 4096,
        size: SIZE,
        ..Default::default()
    })
}

/// BIND of a new object where the host likes.
pub(super) fn anywhere(rig: &Rig) -> Result<sys::Bind> {
    Ok(sys::Bind {
        vm: rig.vm(),
        bo: rig.make_bo(rig.vm())?,
        flags: sys::BIND_WRITE,
        size: SIZE,
        ..Default::default()
    })
}

/// UNBIND of a part of what was bound into the rig's reservation.
pub(super) fn part(rig: &Rig) -> Result<sys::Bind> {
    let bound = rig.call::<Bind>(fixed(rig)?)?;
    Ok(sys::Bind {
        vm: bound.vm,
        gpu_va: bound.gpu_va + 4096,
        size: 4096,
        ..Default::default()
    })
}

/// UNBIND of what was bound elsewhere.
pub(super) fn whole(rig: &Rig) -> Result<sys::Bind> {
    Ok(sys::Bind {
        vm: rig.vm(),
        gpu_va: rig.make_binding()?,
        size: SIZE,
        ..Default::default()
    })
}

/// A residency operation on two new objects of the vm that keeps none, after `before` on them.
pub(super) fn residency(rig: &Rig, op: u32, before: Option<u32>) -> Result<sys::Residency> {
    let vm = rig.manual.handle();
    let entry = || -> Result<_> {
        Ok(sys::ResidencyEntry {
            bo: rig.make_bo(vm)?,
            result: 0,
        })
    };
    rig.put(0, [entry()?, entry()?].as_bytes())?;
    let arg = |op| sys::Residency {
        vm,
        op,
        priority: match op {
            sys::RESIDENCY_OFFER => sys::OFFER_PRIORITY_HIGH,
            sys::RESIDENCY_PRIORITY => sys::PRIORITY_HIGH,
            _ => 0,
        },
        arg_bo: rig.arg.handle(),
        count: 2,
        ..Default::default()
    };
    if let Some(before) = before {
        rig.call::<Residency>(arg(before))?;
    }
    Ok(arg(op))
}

fn resident(rig: &Rig, op: u32, before: Option<u32>) -> Result<Step<'_>> {
    ioctl::<Residency>(rig, residency(rig, op, before)?)
}

/// The rows.
pub const ROWS: &[Row] = &[
    Row::new("va-reserve", "VA_RESERVE", |rig| reserve(rig, 0)),
    Row::new("va-reserve-zero", "VA_RESERVE", |rig| {
        reserve(rig, sys::VA_ZERO)
    }),
    Row::new("va-release", "VA_RELEASE", |rig| {
        let reserved = rig.call::<VaReserve>(range(rig, sys::VA_ZERO))?;
        let arg = sys::VaRange {
            gpu_va: reserved.gpu_va,
            ..range(rig, 0)
        };
        ioctl::<VaRelease>(rig, arg)
    }),
    Row::new("bind", "BIND", |rig| ioctl::<Bind>(rig, anywhere(rig)?)),
    Row::new("bind-null", "BIND", |rig| {
        let arg = sys::Bind {
            vm: rig.vm(),
            flags: sys::BIND_NULL,
            size: SIZE,
            ..Default::default()
        };
        ioctl::<Bind>(rig, arg)
    }),
    Row::new("bind-reserved", "BIND", |rig| {
        ioctl::<Bind>(rig, fixed(rig)?)
    }),
    // What is there already is cut in two.
    Row::new("bind-over", "BIND", |rig| {
        rig.call::<Bind>(fixed(rig)?)?;
        let arg = sys::Bind {
            gpu_va: rig.reservation.gpu_va() + 2 * 4096,
            size: 4096,
            ..fixed(rig)?
        };
        ioctl::<Bind>(rig, arg)
    }),
    Row::new("unbind", "UNBIND", |rig| ioctl::<Unbind>(rig, whole(rig)?)),
    Row::new("unbind-part", "UNBIND", |rig| {
        ioctl::<Unbind>(rig, part(rig)?)
    }),
    Row::new("residency-resident", "RESIDENCY", |rig| {
        resident(rig, sys::RESIDENCY_RESIDENT, None)
    }),
    Row::new("residency-evict", "RESIDENCY", |rig| {
        let before = Some(sys::RESIDENCY_RESIDENT);
        resident(rig, sys::RESIDENCY_EVICT, before)
    }),
    Row::new("residency-offer", "RESIDENCY", |rig| {
        resident(rig, sys::RESIDENCY_OFFER, None)
    }),
    Row::new("residency-reclaim", "RESIDENCY", |rig| {
        resident(rig, sys::RESIDENCY_RECLAIM, Some(sys::RESIDENCY_OFFER))
    }),
    Row::new("residency-priority", "RESIDENCY", |rig| {
        resident(rig, sys::RESIDENCY_PRIORITY, None)
    }),
];
