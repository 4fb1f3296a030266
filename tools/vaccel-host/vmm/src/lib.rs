// SPDX-License-Identifier: MIT OR Apache-2.0
//! A small virtual machine monitor on KVM that looks like Hyper-V to a Linux guest.
//!
//! It boots a bzImage with an initramfs on one or more virtual processors and gives it: RAM, the
//! in-kernel interrupt controllers and timer, two serial ports, ACPI tables with a VMBus device and
//! its MMIO window, a PCI bus with functions supplied by the caller, and Hyper-V: KVM's enlightenments
//! with the SynIC in KVM, or what VMBus needs of it in user space ([`hyperv`]).
//!
//! The crate knows nothing of VMBus messages or GPU-PV. Hypercalls with a payload go to the
//! caller's [`Hypercalls`]; messages and event flags for the guest come in through [`Synic`];
//! configuration space comes from the caller's [`PciFunction`]s, and what is behind an address without
//! memory from its [`MmioDevice`]s. [`Vm::run`] returns when the guest powered off, reset, or could not go
//! on.
//!
//! `unsafe` is confined to [`kvm`], [`memory`] and [`sparse`]. Nothing a guest does may panic: malformed
//! requests get an error status, unknown ports and addresses read as all ones.

pub mod acpi;
mod aml;
pub mod boot;
mod bzimage;
pub mod cpuid;
pub mod hypercall;
pub mod hyperv;
pub mod kvm;
pub mod layout;
pub mod memory;
pub mod mmio;
pub mod pci;
pub mod ports;
pub mod serial;
pub mod sparse;
pub mod synic;
mod vcpu;
mod vm;

pub use hypercall::Hypercalls;
pub use kvm::Backend;
pub use memory::{DiscardError, IoRegion, RamError, SharedMemory};
pub use mmio::{MmioBus, MmioDevice};
pub use pci::PciFunction;
pub use serial::{SerialInput, SerialOutput};
pub use sparse::SparseMemory;
pub use synic::Synic;
pub use vm::{Attachments, End, RegionMapper, StopHandle, Vm, VmConfig, VmError};
