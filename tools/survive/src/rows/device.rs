// SPDX-License-Identifier: MIT OR Apache-2.0
//! Operations on the adapter: parameters, queries, budget, events.

use libvaccel::ioctl::{AdapterQuery, Budget, Escape, Events, GetParam};
use libvaccel::sys;

use crate::row::{ioctl, Row};

/// Bytes of a text of the adapter's.
const TEXT: u32 = 1024;
/// KMTQAITYPE_ADAPTERTYPE, 4 bytes.
const ADAPTER_TYPE: u32 = 15;

/// The rows.
pub const ROWS: &[Row] = &[
    Row::new("get-param", "GET_PARAM", |rig| {
        ioctl::<GetParam>(rig, sys::GetParam::default())
    }),
    Row::new("adapter-query-host", "ADAPTER_QUERY", |rig| {
        let arg = sys::AdapterQuery {
            source: sys::QUERY_HOST,
            r#type: ADAPTER_TYPE,
            arg_bo: rig.arg.handle(),
            size: 4,
            ..Default::default()
        };
        ioctl::<AdapterQuery>(rig, arg)
    }),
    Row::new("adapter-query-text", "ADAPTER_QUERY", |rig| {
        let arg = sys::AdapterQuery {
            source: sys::QUERY_DESCRIPTION,
            arg_bo: rig.arg.handle(),
            size: TEXT,
            ..Default::default()
        };
        ioctl::<AdapterQuery>(rig, arg)
    }),
    Row::new("budget", "BUDGET", |rig| {
        ioctl::<Budget>(rig, sys::Budget::default())
    }),
    Row::new("budget-reserve", "BUDGET", |rig| {
        let arg = sys::Budget {
            flags: sys::BUDGET_SET_RESERVATION,
            reservation_size: 4096,
            ..Default::default()
        };
        ioctl::<Budget>(rig, arg)
    }),
    Row::new("events", "EVENTS", |rig| {
        ioctl::<Events>(rig, sys::Events { mask: 1, pad: 0 })
    }),
    Row::new("escape", "ESCAPE", |rig| {
        let arg = sys::Escape {
            vm: rig.session.vm().handle(),
            queue: rig.session.queue().handle(),
            arg_bo: rig.arg.handle(),
            size: 64,
            ..Default::default()
        };
        ioctl::<Escape>(rig, arg)
    }),
];
