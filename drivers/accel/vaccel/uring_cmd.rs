// SPDX-License-Identifier: GPL-2.0-only

//! Operations by io_uring: the same structures as by ioctl.
//!
//! None waits where it is issued. What may have to wait for the host is issued again by a thread that
//! io_uring has for that, except for submissions, whose [order](crate::uring_submit) would be lost.
//! What has to wait for fences is left to [their watches](crate::uring_operation).
//!
//! Every structure is copied once, before it is looked at: its place in the ring is mapped by user
//! space. Nothing depends on the task that runs this, as it may be a thread of io_uring.

use kernel::prelude::*;
use kernel::sync::Arc;

use crate::bind;
use crate::bindings::uapi;
use crate::client::Client;
use crate::driver::{
    DrmDevice,
    DrmFile, //
};
use crate::fence::Fence;
use crate::fence_wait::WantedList;
use crate::gpupv::NtStatus;
use crate::host_error::{
    HostError,
    HostResult, //
};
use crate::ioctl;
use crate::residency;
use crate::sync_export;
use crate::sync_import;
use crate::uring::{
    Answer,
    Issue, //
};
use crate::uring_operation::{
    self,
    Extra,
    Operation,
    Place,
    Waits, //
};
use crate::uring_submit::{
    self,
    refused, //
};
use crate::watch::Finish;

/// Takes a command.
pub(crate) fn issue(dev: &DrmDevice, file: &DrmFile, issue: Issue<'_>) -> Answer {
    if issue.user_flags() != 0 {
        return Answer::failed(EINVAL);
    }
    let client = file.inner();
    let outcome = match issue.op() {
        uapi::DRM_VACCEL_SUBMIT => uring_submit::issue(dev, file, issue),
        uapi::DRM_VACCEL_FENCE_WAIT => wait(&client, issue),
        uapi::DRM_VACCEL_FENCE_WAIT_MANY => wait_many(file, issue),
        uapi::DRM_VACCEL_SYNC_EXPORT => export(file, issue),
        uapi::DRM_VACCEL_CANCEL => Ok(uring_operation::cancel(issue, &client)),
        op => match asks_host(op) {
            Some(_) if !issue.may_sleep() => Ok(issue.sleep()),
            Some(handler) => handler(dev, file, issue),
            None => Err(EOPNOTSUPP),
        },
    };
    outcome.unwrap_or_else(Answer::failed)
}

/// The handler of an operation that may have to wait for the host.
type Handler = fn(&DrmDevice, &DrmFile, Issue<'_>) -> Result<Answer>;

fn asks_host(op: u32) -> Option<Handler> {
    Some(match op {
        uapi::DRM_VACCEL_BIND => bind,
        uapi::DRM_VACCEL_UNBIND => unbind,
        uapi::DRM_VACCEL_RESIDENCY => change_residency,
        uapi::DRM_VACCEL_SYNC_IMPORT => import,
        _ => return None,
    })
}

fn wait(client: &Client, issue: Issue<'_>) -> Result<Answer> {
    let args = issue.read::<uapi::drm_vaccel_fence_wait>()?;
    let waits = Waits {
        list: WantedList::of_wait(&args, client)?,
        deadline_ns: args.deadline_ns,
        extra: Extra::Observed,
    };
    let place = client.operations.reserve(&waits)?;
    Ok(Operation::wait(issue, place, waits, 0))
}

fn wait_many(file: &DrmFile, issue: Issue<'_>) -> Result<Answer> {
    let args = issue.read::<uapi::drm_vaccel_fence_wait_many>()?;
    let waits = Waits {
        list: WantedList::of_wait_many(&args, file)?,
        deadline_ns: args.deadline_ns,
        extra: Extra::Index,
    };
    let place = file.inner().operations.reserve(&waits)?;
    Ok(Operation::wait(issue, place, waits, 0))
}

/// A wait for the paging fence of a vm that is about to be asked for something, and a place for it: what
/// was done must not be told to have failed.
struct Paged {
    fence: Arc<Fence>,
    place: Place,
}

impl Paged {
    fn new(client: &Client, vm: u32) -> Result<Self> {
        Ok(Self {
            fence: client.vm(vm)?.paging_fence.clone(),
            place: client.operations.reserve(&Waits::for_nothing())?,
        })
    }

    fn wait(self, issue: Issue<'_>, value: u64, extra: u64) -> Result<Answer> {
        let waits = Waits::for_value(self.fence, value)?;
        Ok(Operation::wait(issue, self.place, waits, extra))
    }
}

/// Ends a command that was refused, with what is in the way if that is the reason.
fn over_budget(issue: Issue<'_>, error: &HostError, bytes_to_trim: u64) -> Answer {
    match error.errno {
        ENOSPC => issue.complete(ENOSPC.to_errno(), bytes_to_trim),
        _ => refused(issue, error),
    }
}

fn bind(dev: &DrmDevice, file: &DrmFile, issue: Issue<'_>) -> Result<Answer> {
    let mut args = issue.read::<uapi::drm_vaccel_bind>()?;
    let paged = Paged::new(&file.inner(), args.vm)?;
    match bind::bind(dev, &mut args, file) {
        Ok(()) => paged.wait(issue, args.paging_value, args.gpu_va),
        Err(error) => Ok(over_budget(issue, &error, args.bytes_to_trim)),
    }
}

fn unbind(dev: &DrmDevice, file: &DrmFile, issue: Issue<'_>) -> Result<Answer> {
    let mut args = issue.read::<uapi::drm_vaccel_bind>()?;
    let paged = Paged::new(&file.inner(), args.vm)?;
    match bind::unbind(dev, &mut args, file) {
        Ok(()) => paged.wait(issue, args.paging_value, 0),
        Err(error) => Ok(refused(issue, &error)),
    }
}

fn change_residency(dev: &DrmDevice, file: &DrmFile, issue: Issue<'_>) -> Result<Answer> {
    let mut args = issue.read::<uapi::drm_vaccel_residency>()?;
    let paged = Paged::new(&file.inner(), args.vm)?;
    match residency::change(dev, &mut args, file) {
        Ok(()) => paged.wait(issue, args.paging_value, args.bytes_to_trim),
        Err(error) => Ok(over_budget(issue, &error, args.bytes_to_trim)),
    }
}

/// An operation that ends when somebody says so.
struct Told(Arc<Operation>);

impl Finish for Told {
    fn finish(&self, outcome: Result) {
        match outcome {
            Ok(()) => self.0.watch(),
            Err(error) => self.0.refuse(error, NtStatus::SUCCESS),
        }
    }
}

fn export(file: &DrmFile, issue: Issue<'_>) -> Result<Answer> {
    let args = issue.read::<uapi::drm_vaccel_sync>()?;
    let waits = Waits::for_nothing();
    let place = file.inner().operations.reserve(&waits)?;
    let (operation, answer) = Operation::pend(issue, place, waits)?;
    operation.note(args.value);
    let told = Arc::new(Told(operation.clone()), GFP_KERNEL);
    let exported: HostResult = match told {
        Ok(told) => sync_export::export_then(&args, file, Some(told)),
        Err(error) => Err(error.into()),
    };
    if let Err(error) = exported {
        operation.refuse(ioctl::errno(&error), error.status);
    }
    Ok(answer)
}

fn import(dev: &DrmDevice, file: &DrmFile, issue: Issue<'_>) -> Result<Answer> {
    let mut args = issue.read::<uapi::drm_vaccel_sync>()?;
    if args.flags & uapi::VACCEL_SYNC_FILE != 0 {
        return Err(EINVAL);
    }
    let client = file.inner();
    let waits = Waits::for_value(client.fence(args.fence)?.fence, args.value)?;
    let place = client.operations.reserve(&waits)?;
    Ok(match sync_import::sync_import(dev, &mut args, file) {
        Ok(()) => Operation::wait(issue, place, waits, args.value),
        Err(error) => refused(issue, &error),
    })
}
