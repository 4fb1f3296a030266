// SPDX-License-Identifier: MIT OR Apache-2.0
//! The machine: puts the parts together, runs them, and says how it ended.
//!
//! [`Vm::new`] makes everything except the threads, so that the caller can connect its devices to
//! the memory, the SynIC and the serial ports first. [`Vm::run`] starts one thread a processor,
//! waits for the end, and stops and joins all threads before it returns.

mod hyperv;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Once};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use guest_memory::{GuestMemory, MemoryError};
use kvm_bindings::kvm_cpuid_entry2;
use kvm_ioctls::{Kvm, VcpuFd};
use vmm_sys_util::signal::{register_signal_handler, Killable, SIGRTMIN};

use crate::acpi::{self, Machine, TooLarge};
use crate::boot::{self, BootError, BootImages};
use crate::cpuid::{self, MissingEnlightenments, Topology};
use crate::hypercall::Hypercalls;
use crate::hyperv::Partition;
use crate::kvm::{Backend, KvmError, KvmVm, ProbeError};
use crate::layout;
use crate::memory::{DiscardError, IoRegion, Ram, RamError, SharedMemory};
use crate::mmio::MmioBus;
use crate::pci::{self, PciBus, PciFunction};
use crate::ports::Ports;
use crate::serial::{SerialInput, SerialOutput, SerialPort};
use crate::synic::Synic;
use crate::vcpu::{self, Runner};
use hyperv::HyperV;

/// How often a processor is signalled until its thread has noticed the stop.
const KICK_INTERVAL: Duration = Duration::from_millis(2);

/// What machine to make.
#[derive(Debug, Clone)]
pub struct VmConfig {
    /// RAM in bytes, a multiple of 4096.
    pub memory: u64,
    /// Number of virtual processors, 1 to [`layout::MAX_VCPUS`].
    pub vcpus: u8,
    /// Guest kernel, a bzImage.
    pub kernel: PathBuf,
    /// Guest initramfs.
    pub initrd: PathBuf,
    /// Guest kernel command line.
    pub command_line: String,
    /// Length in bytes of the MMIO window VMBus devices allocate from.
    pub mmio_window: u64,
    /// Hide XSAVE, for machines whose virtualisation is emulated.
    pub hide_xsave: bool,
    /// Who has the SynIC; KVM if it can and this does not say.
    pub synic: Option<Backend>,
}

/// What the machine is connected to from the start.
pub struct Attachments {
    /// Takes what the guest sends to the first serial port.
    pub com1: Box<dyn SerialOutput>,
    /// Takes what the guest sends to the second serial port.
    pub com2: Box<dyn SerialOutput>,
    /// PCI functions, devices 1 and up of bus 0.
    pub pci: Vec<Arc<dyn PciFunction>>,
}

/// A machine could not be made or started.
#[derive(Debug, thiserror::Error)]
pub enum VmError {
    /// /dev/kvm could not be opened.
    #[error("cannot open /dev/kvm")]
    Open(#[source] kvm_ioctls::Error),
    /// The number of processors is out of range.
    #[error("{vcpus} virtual processors, need 1 to {max}", max = layout::MAX_VCPUS)]
    Vcpus {
        /// The number asked for.
        vcpus: u8,
    },
    /// There are more PCI functions than slots.
    #[error("{count} PCI functions, limit is {max}", max = pci::MAX_FUNCTIONS)]
    PciFunctions {
        /// The number asked for.
        count: usize,
    },
    /// The MMIO window is empty or does not end in the address space.
    #[error("vmbus mmio window of {bytes:#x} bytes is not possible")]
    MmioWindow {
        /// The length asked for.
        bytes: u64,
    },
    /// RAM could not be had.
    #[error(transparent)]
    Ram(#[from] RamError),
    /// KVM refused something.
    #[error(transparent)]
    Kvm(#[from] KvmError),
    /// KVM has no SynIC of the kind that is wanted.
    #[error(transparent)]
    Synic(#[from] ProbeError),
    /// KVM cannot be a host for VMBus.
    #[error(transparent)]
    Enlightenments(#[from] MissingEnlightenments),
    /// The kernel could not be loaded.
    #[error(transparent)]
    Boot(#[from] BootError),
    /// The ACPI tables do not fit.
    #[error(transparent)]
    Acpi(#[from] TooLarge),
    /// The ACPI tables could not be written.
    #[error("cannot write the acpi tables")]
    AcpiWrite(#[from] MemoryError),
    /// The process is out of a resource.
    #[error("cannot set up the machine")]
    System(#[from] std::io::Error),
    /// The signal that stops processors could not be set up.
    #[error("cannot set up the stop signal")]
    Signal(#[source] vmm_sys_util::errno::Error),
}

/// How a machine came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The guest powered off.
    PowerOff,
    /// The guest reset itself.
    Reset,
    /// A processor could not even deliver an exception.
    TripleFault,
    /// The guest reported a crash; it goes on until it resets or is stopped.
    CrashReported,
    /// KVM could not go on.
    Failed(&'static str),
    /// The caller asked for it through [`StopHandle`].
    Stopped,
    /// The time allowed ran out.
    TimedOut,
}

/// A made but not yet running machine.
pub struct Vm {
    machine: Arc<KvmVm>,
    synic: Arc<Synic>,
    partition: Option<Arc<Partition>>,
    ports: Ports,
    mmio: Arc<MmioBus>,
    vcpus: Vec<VcpuFd>,
    ends: (mpsc::Sender<End>, mpsc::Receiver<End>),
}

/// Stops a machine from another thread.
#[derive(Clone)]
pub struct StopHandle(mpsc::Sender<End>);

impl StopHandle {
    /// Makes [`Vm::run`] return [`End::Stopped`].
    pub fn stop(&self) {
        // Nobody listens when the machine has ended already.
        let _ = self.0.send(End::Stopped);
    }
}

/// The part of a machine that maps host memory for the guest. Clones are the same machine.
#[derive(Clone)]
pub struct RegionMapper(Arc<KvmVm>);

impl RegionMapper {
    /// Shows fresh host memory to the guest at `gpa`. See [`KvmVm::map_region`].
    ///
    /// # Errors
    ///
    /// Fails if the range is not free or the host cannot provide it.
    pub fn map(&self, gpa: u64, len: u64) -> Result<Arc<IoRegion>, KvmError> {
        self.0.map_region(gpa, len)
    }

    /// Gives RAM of the guest back to this machine. See [`Ram::discard`].
    ///
    /// # Errors
    ///
    /// Fails if it is not whole pages of RAM, or the kernel refuses.
    pub fn discard(&self, gpa: u64, len: u64) -> Result<(), DiscardError> {
        self.0.ram().discard(gpa, len)
    }

    /// Takes the region at `gpa` away from the guest.
    ///
    /// # Errors
    ///
    /// Fails if KVM refuses.
    pub fn unmap(&self, gpa: u64) -> Result<(), KvmError> {
        self.0.unmap_region(gpa)
    }
}

impl Vm {
    /// Makes a machine with the kernel loaded.
    ///
    /// # Errors
    ///
    /// Fails if the configuration is not possible, a file cannot be loaded or KVM refuses.
    pub fn new(config: &VmConfig, attachments: Attachments) -> Result<Self, VmError> {
        check(config, &attachments)?;
        let kvm = Kvm::new().map_err(VmError::Open)?;
        let ram = Arc::new(Ram::new(config.memory)?);
        let backend = Backend::choose(&kvm, config.synic)?;
        let machine = Arc::new(KvmVm::new(&kvm, Arc::clone(&ram))?);

        let vcpus = (0..config.vcpus)
            .map(|id| machine.create_vcpu(id))
            .collect::<Result<Vec<_>, _>>()?;
        let HyperV {
            synic,
            partition,
            leaves,
        } = HyperV::new(backend, &machine, &vcpus)?;

        let entry = boot::load(
            &ram,
            &BootImages {
                kernel: &config.kernel,
                initrd: &config.initrd,
                command_line: &config.command_line,
            },
        )?;
        let tables = acpi::build(
            &Machine {
                vcpus: config.vcpus,
                mmio_start: layout::mmio_window_start(config.memory),
                mmio_len: config.mmio_window,
            },
            layout::ACPI,
        )?;
        ram.write(layout::ACPI, &tables)?;
        set_up_vcpus(&kvm, &vcpus, config, &leaves, entry)?;

        let mmio_start = layout::mmio_window_start(config.memory);
        let mmio_end = mmio_start.saturating_add(config.mmio_window);
        let (com1, line1) = SerialPort::new(attachments.com1)?;
        let (com2, line2) = SerialPort::new(attachments.com2)?;
        machine.wire(&line1, layout::COM1.1)?;
        machine.wire(&line2, layout::COM2.1)?;
        Ok(Self {
            machine,
            synic,
            partition,
            ports: Ports {
                com1,
                com2,
                pci: Arc::new(PciBus::new(attachments.pci)),
            },
            mmio: Arc::new(MmioBus::new(mmio_start..mmio_end)),
            vcpus,
            ends: mpsc::channel(),
        })
    }

    /// The guest's memory.
    pub fn memory(&self) -> SharedMemory {
        self.machine.ram().clone()
    }

    /// The way to the guest's SynIC.
    pub fn synic(&self) -> Arc<Synic> {
        Arc::clone(&self.synic)
    }

    /// The way to map host memory for the guest.
    pub fn region_mapper(&self) -> RegionMapper {
        RegionMapper(Arc::clone(&self.machine))
    }

    /// The PCI bus, which takes functions while the machine runs too.
    pub fn pci(&self) -> Arc<PciBus> {
        Arc::clone(&self.ports.pci)
    }

    /// The devices in the VMBus MMIO window, which come and go while the machine runs.
    pub fn mmio(&self) -> Arc<MmioBus> {
        Arc::clone(&self.mmio)
    }

    /// The input of the first serial port.
    pub fn com1(&self) -> SerialInput {
        self.ports.com1.input()
    }

    /// The input of the second serial port.
    pub fn com2(&self) -> SerialInput {
        self.ports.com2.input()
    }

    /// A way to stop the machine while it runs.
    pub fn stop_handle(&self) -> StopHandle {
        StopHandle(self.ends.0.clone())
    }

    /// Runs the machine to its end, at most until `deadline`. A crash the guest reports is
    /// remembered and returned instead of the reset that usually follows.
    ///
    /// # Errors
    ///
    /// Fails if the threads cannot be made.
    pub fn run(
        self,
        hypercalls: Arc<dyn Hypercalls>,
        deadline: Option<Instant>,
    ) -> Result<End, VmError> {
        static HANDLER: Once = Once::new();
        let mut registered = Ok(());
        // The signal only interrupts the run call; its handler has nothing to do.
        HANDLER.call_once(|| {
            registered =
                register_signal_handler(SIGRTMIN(), ignore_signal).map_err(VmError::Signal);
        });
        registered?;

        let memory = self.memory();
        let stop = Arc::new(AtomicBool::new(false));
        let (end, ends) = self.ends;
        let mut threads = Vec::new();
        let mut failure = None;
        for (id, vcpu) in (0..).zip(self.vcpus) {
            let runner = Runner {
                vcpu,
                id,
                ports: self.ports.clone(),
                mmio: Arc::clone(&self.mmio),
                memory: Arc::clone(&memory),
                synic: Arc::clone(&self.synic),
                partition: self.partition.clone(),
                hypercalls: Arc::clone(&hypercalls),
                stop: Arc::clone(&stop),
                end: end.clone(),
            };
            let thread = std::thread::Builder::new()
                .name(format!("vcpu{id}"))
                .spawn(move || runner.run());
            match thread {
                Ok(thread) => threads.push(thread),
                Err(error) => {
                    failure = Some(error);
                    break;
                }
            }
        }
        let outcome = match failure {
            None => Ok(wait(&ends, deadline)),
            Some(error) => Err(error.into()),
        };
        stop.store(true, Ordering::SeqCst);
        stop_threads(threads);
        outcome
    }
}

extern "C" fn ignore_signal(
    _number: libc::c_int,
    _info: *mut libc::siginfo_t,
    _context: *mut libc::c_void,
) {
}

fn check(config: &VmConfig, attachments: &Attachments) -> Result<(), VmError> {
    let vcpus = config.vcpus;
    if vcpus == 0 || vcpus > layout::MAX_VCPUS {
        return Err(VmError::Vcpus { vcpus });
    }
    let count = attachments.pci.len();
    if count > pci::MAX_FUNCTIONS {
        return Err(VmError::PciFunctions { count });
    }
    let bytes = config.mmio_window;
    let start = layout::mmio_window_start(config.memory);
    if bytes == 0 || start.checked_add(bytes).is_none() {
        return Err(VmError::MmioWindow { bytes });
    }
    Ok(())
}

fn set_up_vcpus(
    kvm: &Kvm,
    vcpus: &[VcpuFd],
    config: &VmConfig,
    hyperv: &[kvm_cpuid_entry2],
    entry: u64,
) -> Result<(), VmError> {
    let Some(boot_processor) = vcpus.first() else {
        return Ok(());
    };
    let supported = kvm
        .get_supported_cpuid(kvm_bindings::KVM_MAX_CPUID_ENTRIES)
        .map_err(|source| KvmError::Ioctl {
            what: "list cpuid leaves",
            source,
        })?;
    let leaves = cpuid::build(
        supported.as_slice(),
        hyperv,
        Topology {
            vcpus: config.vcpus,
            hide_xsave: config.hide_xsave,
        },
    )?;
    for (id, vcpu) in (0..).zip(vcpus) {
        vcpu::set_up(vcpu, id, &leaves)?;
    }
    vcpu::set_entry(boot_processor, entry)?;
    Ok(())
}

/// Waits for the end, remembering a reported crash.
fn wait(ends: &mpsc::Receiver<End>, deadline: Option<Instant>) -> End {
    let mut crashed = false;
    loop {
        let left = deadline.map_or(Duration::MAX, |deadline| {
            deadline.saturating_duration_since(Instant::now())
        });
        match ends.recv_timeout(left) {
            Ok(End::CrashReported) => crashed = true,
            Ok(End::Reset) if crashed => return End::CrashReported,
            Ok(end) => return end,
            Err(RecvTimeoutError::Timeout) => return End::TimedOut,
            Err(RecvTimeoutError::Disconnected) => return End::Failed("all processors stopped"),
        }
    }
}

/// Signals the threads until each has seen the stop flag, then joins them.
fn stop_threads(threads: Vec<JoinHandle<()>>) {
    for thread in threads {
        while !thread.is_finished() {
            // Fails if the thread ended meanwhile, which the loop notices.
            let _ = thread.kill(SIGRTMIN());
            std::thread::sleep(KICK_INTERVAL);
        }
        if thread.join().is_err() {
            tracing::error!("a processor's thread panicked");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A crash outlives the reset that follows it; a timeout is told from an end.
    #[test]
    fn ends() {
        let (send, receive) = mpsc::channel();
        send.send(End::CrashReported).unwrap();
        send.send(End::Reset).unwrap();
        assert_eq!(wait(&receive, None), End::CrashReported);
        send.send(End::PowerOff).unwrap();
        assert_eq!(wait(&receive, None), End::PowerOff);
        assert_eq!(wait(&receive, Some(Instant::now())), End::TimedOut);
    }

    /// Impossible configurations are refused with the number in the text, before KVM is touched.
    #[test]
    fn bad_configurations() {
        struct Discard;
        impl SerialOutput for Discard {
            fn byte(&mut self, _byte: u8) {}
        }
        let config = VmConfig {
            memory: 1 << 30,
            vcpus: 0,
            kernel: PathBuf::new(),
            initrd: PathBuf::new(),
            command_line: String::new(),
            mmio_window: 1 << 30,
            hide_xsave: false,
            synic: None,
        };
        let attachments = Attachments {
            com1: Box::new(Discard),
            com2: Box::new(Discard),
            pci: vec![],
        };
        let error = check(&config, &attachments).unwrap_err();
        assert!(error.to_string().starts_with("0 virtual"), "{error}");
        let config = VmConfig {
            vcpus: 1,
            mmio_window: u64::MAX,
            ..config
        };
        assert!(matches!(
            check(&config, &attachments),
            Err(VmError::MmioWindow { .. })
        ));
    }
}
