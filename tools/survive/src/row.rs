// SPDX-License-Identifier: MIT OR Apache-2.0
//! The table of operations: one row for each thing that a program can ask of the driver.
//!
//! A row is prepared on a [`Rig`], which makes what the operation uses up, and gives a [`Step`]. A
//! step does the operation once, in the calling thread, and can be done again if it failed without
//! having done anything. The kill matrix kills in a step, the fault sweep fails allocations in it.

use std::cell::RefCell;
use std::collections::HashSet;
use std::time::Duration;

use anyhow::Result;
use libvaccel::ioctl::{call, Errno, Operation};
use libvaccel::ring::raw::{EntryFlags, Ring, RingOperation, Setup, Target};
use libvaccel::Deadline;

use crate::rig::Rig;
use crate::rows;

/// One operation, ready to be done.
pub type Step<'a> = Box<dyn FnMut() -> Result<(), Errno> + 'a>;

/// One line of the table.
#[derive(Clone, Copy)]
pub struct Row {
    /// Name, unique: the operation's, and what is special.
    pub name: &'static str,
    /// Operation by its name in the header, or what else it is.
    pub operation: &'static str,
    /// Errno values that a failed allocation may show as, beside ENOMEM and EFAULT.
    pub also: &'static [i32],
    /// Makes what the operation needs.
    pub prepare: for<'a> fn(&'a Rig) -> Result<Step<'a>>,
}

impl Row {
    /// A row for an operation that gives nothing but ENOMEM and EFAULT when allocations fail.
    pub const fn new(
        name: &'static str,
        operation: &'static str,
        prepare: for<'a> fn(&'a Rig) -> Result<Step<'a>>,
    ) -> Self {
        Self {
            name,
            operation,
            also: &[],
            prepare,
        }
    }

    /// With more errno values that a failed allocation may show as.
    pub const fn also(mut self, also: &'static [i32]) -> Self {
        self.also = also;
        self
    }
}

impl std::fmt::Debug for Row {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

/// How long a command of a ring may take: it waits for a host that is asked to be silent, too.
const COMMAND: Duration = Duration::from_secs(60);

/// All rows.
pub fn all() -> Vec<Row> {
    [
        rows::device::ROWS,
        rows::objects::ROWS,
        rows::memory::ROWS,
        rows::fence::ROWS,
        rows::bridge::ROWS,
        rows::submit::ROWS,
        rows::ring::ROWS,
        rows::file::ROWS,
    ]
    .concat()
}

/// Those with these names, or all; an unknown name is an error.
///
/// # Errors
///
/// Says which name is unknown.
pub fn chosen(names: &[String]) -> Result<Vec<Row>> {
    let rows = all();
    let known: HashSet<&str> = rows.iter().map(|row| row.name).collect();
    if let Some(unknown) = names.iter().find(|name| !known.contains(name.as_str())) {
        anyhow::bail!("unknown operation {unknown}");
    }
    let wanted = |row: &Row| names.is_empty() || names.iter().any(|name| name == row.name);
    Ok(rows.into_iter().filter(wanted).collect())
}

/// The ioctl `O` with these arguments.
#[expect(
    clippy::unnecessary_wraps,
    reason = "what a row's preparation ends with"
)]
pub fn ioctl<'a, O: Operation + 'a>(rig: &'a Rig, arg: O::Arg) -> Result<Step<'a>> {
    Ok(Box::new(move || {
        let mut arg = arg;
        call::<O>(rig.fd(), &mut arg)
    }))
}

/// The command `O` by a ring of its own, and its completion.
///
/// # Errors
///
/// No ring can be made.
pub fn command<'a, O: RingOperation + 'a>(
    rig: &'a Rig,
    arg: O::Arg,
    flags: EntryFlags,
) -> Result<Step<'a>> {
    let ring = RefCell::new(Ring::new(&Setup::default())?);
    let empty = ring.borrow_mut().room();
    let mut number = 0;
    Ok(Box::new(move || {
        let mut ring = ring.borrow_mut();
        // What the kernel has not taken is still there.
        if ring.room() == empty {
            number += 1;
            ring.push::<O>(Target::Fd(rig.fd()), &arg, number, flags)
                .map_err(last)?;
        }
        let deadline = Deadline::after(COMMAND);
        loop {
            let seen = ring.completions();
            if let Some(own) = seen.iter().find(|seen| seen.user_data == number) {
                return match own.result {
                    result if result < 0 => Err(Errno(-result)),
                    _ => Ok(()),
                };
            }
            ring.submit_and_wait(1, deadline).map_err(last)?;
        }
    }))
}

/// The errno of a failed call.
#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
pub fn last(error: std::io::Error) -> Errno {
    Errno(error.raw_os_error().unwrap_or(libc::EIO))
}

#[cfg(test)]
mod tests {
    use super::*;
    use libvaccel::ioctl::OPERATIONS;

    /// Proves that each operation of the interface is in the table, and that rows can be told apart.
    #[test]
    fn complete() {
        let rows = all();
        for (name, _, _) in OPERATIONS {
            let mut operations = rows.iter().map(|row| row.operation);
            assert!(operations.any(|operation| operation == *name), "{name}");
        }
        let names: HashSet<&str> = rows.iter().map(|row| row.name).collect();
        assert_eq!(names.len(), rows.len());
    }

    /// Proves that a name that is not in the table is not silently left out.
    #[test]
    fn names() {
        let named = |name: &str| chosen(&[name.to_owned()]);
        assert_eq!(named("vm-create").unwrap().len(), 1);
        assert!(named("vm-create2").is_err());
        assert_eq!(chosen(&[]).unwrap().len(), all().len());
    }
}
