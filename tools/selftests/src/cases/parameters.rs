// SPDX-License-Identifier: MIT OR Apache-2.0
//! GET_PARAM and ADAPTER_QUERY.

use std::path::Path;

use libc::{EFBIG, EINVAL, EMSGSIZE, ENOENT, EOVERFLOW};
use libvaccel::{ioctl, sys, Device};

use super::Case;
use crate::expect::{accepted, refused};
use crate::rig::{ensure, Result, Rig, SIZE};

pub const CASES: &[Case] = &[
    Case {
        name: "param-values",
        proves: "every parameter of the header can be read and has a possible value",
        run: values,
    },
    Case {
        name: "param-bad",
        proves: "unknown parameters and indices are refused with EINVAL",
        run: bad_param,
    },
    Case {
        name: "adapter-query",
        proves: "name, instance id and the host's private data can be read; a short buffer is \
                 EMSGSIZE and tells the size",
        run: query,
    },
    Case {
        name: "adapter-query-bad",
        proves: "bad sources, objects, offsets and sizes are refused with the documented errno",
        run: bad_query,
    },
];

fn values(node: &Path) -> Result {
    let device = Device::open(node)?;
    for param in sys::PARAM_FEATURES..=sys::PARAM_WATCHDOG_MS {
        let arg = sys::GetParam {
            param,
            index: 0,
            // Output fields are ignored on input.
            value: u64::MAX,
        };
        let value = accepted::<ioctl::GetParam>(&device, &format!("param {param}"), arg)?.value;
        ensure(value != u64::MAX, format!("param {param} was not written"))?;
    }
    let version = device.param(sys::PARAM_INTERFACE_VERSION)?;
    ensure(
        [27, 40].contains(&version),
        format!("interface version {version}"),
    )?;
    let features = device.param(sys::PARAM_FEATURES)?;
    ensure(
        features & sys::FEATURE_ARG_SUBMIT != 0,
        format!("features {features:#x} lack submission"),
    )?;
    let largest = device.param(sys::PARAM_BO_SIZE_MAX)?;
    ensure(
        largest >= 1 << 20,
        format!("largest object is {largest} bytes"),
    )?;
    device.param_at(sys::PARAM_SEGMENT_SIZE, sys::SEGMENT_NON_LOCAL)?;
    let pinned = device.param(sys::PARAM_PIN_LIMIT)?;
    ensure(
        pinned >= 4096,
        format!("a file may pin {pinned} bytes, less than a page"),
    )
}

fn bad_param(node: &Path) -> Result {
    let device = Device::open(node)?;
    for param in [sys::PARAM_WATCHDOG_MS + 1, 0x8000_0000, u32::MAX] {
        let arg = sys::GetParam {
            param,
            ..Default::default()
        };
        refused::<ioctl::GetParam>(&device, &format!("param {param}"), arg, &[EINVAL])?;
    }
    for param in sys::PARAM_FEATURES..=sys::PARAM_WATCHDOG_MS {
        let several = param == sys::PARAM_SEGMENT_SIZE;
        let arg = sys::GetParam {
            param,
            index: if several { 2 } else { 1 },
            ..Default::default()
        };
        let what = format!("index {} of param {param}", arg.index);
        refused::<ioctl::GetParam>(&device, &what, arg, &[EINVAL])?;
    }
    Ok(())
}

fn query(node: &Path) -> Result {
    let rig = Rig::new(node)?;
    let name = rig.device.description()?;
    ensure(!name.is_empty(), "the adapter has no name")?;
    rig.device.instance_id()?;
    rig.device.isa()?;
    let short = sys::AdapterQuery {
        source: sys::QUERY_DESCRIPTION,
        arg_bo: rig.arg.handle(),
        size: 1,
        ..Default::default()
    };
    if name.len() > 1 {
        let mut arg = short;
        let outcome =
            ioctl::call::<ioctl::AdapterQuery>(std::os::fd::AsFd::as_fd(&rig.device), &mut arg);
        ensure(
            outcome == Err(ioctl::Errno(EMSGSIZE)),
            format!("a short buffer gives {outcome:?}"),
        )?;
        ensure(
            arg.size as usize == name.len(),
            format!("{} bytes needed, the name has {}", arg.size, name.len()),
        )?;
    }
    Ok(())
}

fn bad_query(node: &Path) -> Result {
    let rig = Rig::new(node)?;
    let good = sys::AdapterQuery {
        source: sys::QUERY_DESCRIPTION,
        arg_bo: rig.arg.handle(),
        size: 512,
        ..Default::default()
    };
    accepted::<ioctl::AdapterQuery>(&rig.device, "as it should be", good)?;
    let refuse =
        |what: &str, arg, errno| refused::<ioctl::AdapterQuery>(&rig.device, what, arg, &[errno]);
    refuse("source 3", sys::AdapterQuery { source: 3, ..good }, EINVAL)?;
    refuse(
        "type with a text",
        sys::AdapterQuery { r#type: 1, ..good },
        EINVAL,
    )?;
    refuse("no object", sys::AdapterQuery { arg_bo: 0, ..good }, ENOENT)?;
    refuse(
        "unknown object",
        sys::AdapterQuery {
            arg_bo: 0x7fff_fff0,
            ..good
        },
        ENOENT,
    )?;
    let guest = rig.bo.handle();
    refuse(
        "guest object",
        sys::AdapterQuery {
            arg_bo: guest,
            ..good
        },
        EINVAL,
    )?;
    refuse("size 0", sys::AdapterQuery { size: 0, ..good }, EINVAL)?;
    let size = sys::limit::PRIV_SIZE_MAX + 1;
    refuse(
        "size above the limit",
        sys::AdapterQuery { size, ..good },
        EFBIG,
    )?;
    refuse(
        "offset 4",
        sys::AdapterQuery {
            arg_offset: 4,
            ..good
        },
        EINVAL,
    )?;
    refuse(
        "block behind the end",
        sys::AdapterQuery {
            arg_offset: SIZE - 8,
            ..good
        },
        EINVAL,
    )?;
    refuse(
        "offset behind the end",
        sys::AdapterQuery {
            arg_offset: SIZE,
            ..good
        },
        EINVAL,
    )?;
    let arg_offset = u64::MAX - 7;
    refuse(
        "offset that overflows",
        sys::AdapterQuery { arg_offset, ..good },
        EOVERFLOW,
    )
}
