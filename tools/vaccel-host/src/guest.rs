// SPDX-License-Identifier: MIT OR Apache-2.0
//! Runs the guest on this machine's KVM: makes the machine and the devices, connects them, and
//! turns the way the guest ended into an exit status.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{anyhow, bail, Context, Result};
use balloon::Balloon;
use engine::Engine;
use gpupv_host::{Host, HostConfig};
use vmbus_server::{Server, ServerConfig};
use vmm::{Attachments, End, MmioBus, StopHandle, Vm, VmConfig};

use crate::cli::{choose, PciArg, RunArgs};
use crate::console::Console;
use crate::control::Lines;
use crate::device::Device;
use crate::engines::{self, Engines};
use crate::faults::FaultBook;
use crate::gpu_function::GpuFunction;
use crate::hot_add::{self, GpuSlots};
use crate::inbox::Inbox;
use crate::pci::Buses;
use crate::results::Sink;
use crate::scenario::Scenario;
use crate::trace::Trace;
use crate::world::{GpuMemories, World};

/// Virtual processors unless asked for otherwise.
const SMP: u8 = 2;
/// Words every guest gets: the console, and no hanging after a panic.
const COMMAND_LINE: &str = "console=ttyS0 panic=-1 reboot=k";
/// Room in the VMBus MMIO window beyond what is offered, for alignment and other devices.
const MMIO_SPARE: u64 = 1 << 30;

/// Runs the guest, appends its results to `results` and returns its exit status.
///
/// # Errors
///
/// Fails if the machine cannot be made, or if the guest ended without setting a status and
/// powering off.
pub fn run(args: &RunArgs, results: Sink) -> Result<u8> {
    let smp = args.smp.unwrap_or(SMP);
    let deadline = Instant::now() + Duration::from_secs(args.timeout);
    let scenario = match &args.scenario {
        Some(path) => Scenario::read(path)?,
        None => Scenario::default(),
    };
    let trace = args.trace.as_deref().map(open_trace).transpose()?;
    let engines: Vec<_> = (0..args.vgpu)
        .map(|_| engines::engine(args))
        .collect::<Result<_>>()?;
    let (host, functions) = gpus(args, &engines)?;
    let inbox_cell = Arc::new(OnceLock::new());
    let config = VmConfig {
        memory: args.memory,
        vcpus: smp,
        kernel: args.kernel.clone(),
        initrd: args.initrd.clone(),
        command_line: format!("{COMMAND_LINE} {}", args.cmdline),
        mmio_window: (u64::from(args.mmio_megabytes) << 20).next_multiple_of(MMIO_SPARE)
            + MMIO_SPARE,
        hide_xsave: crate::outer::is_outer(),
        synic: args.synic.backend(),
    };
    let attachments = Attachments {
        com1: Box::new(Console::default()),
        com2: Box::new(Lines::new(Arc::clone(&inbox_cell))),
        pci: match args.pci {
            PciArg::Ports => functions.iter().map(|one| Arc::clone(one) as _).collect(),
            PciArg::Vmbus => Vec::new(),
        },
    };
    let vm = Vm::new(&config, attachments).context("cannot make the machine")?;

    let memory = vm.memory();
    let bus = ServerConfig {
        max_version: args.vmbus_version,
        ..ServerConfig::new(u32::from(smp))
    };
    let server = Server::new(bus, Arc::clone(&memory));
    let inbox = Arc::new(Inbox::new(server.message_connections())?);
    // Set once, here.
    let _ = inbox_cell.set(Arc::clone(&inbox));
    let world = World {
        synic: vm.synic(),
        mapper: vm.region_mapper(),
        gpu_memory: GpuMemories::default(),
        engines: Engines::start(engines, &memory, &inbox)?,
        offered: BTreeMap::new(),
        open: BTreeMap::new(),
        pci: buses(args, vm.mmio(), &functions),
        balloon: args.balloon.then(Balloon::default),
        interrupts: BTreeSet::new(),
        failed: Vec::new(),
        io_space: None,
        trace,
        start: Instant::now(),
    };
    for _ in host.vgpus() {
        world.gpu_memory.add(hot_add::gpu_memory()?);
    }
    let mut device = Device {
        server,
        host,
        world,
        slots: GpuSlots::new(args, vm.pci(), functions),
        inbox: Arc::clone(&inbox),
        answers: vm.com2(),
        results,
        faults: FaultBook::default(),
        late_offers: Vec::new(),
        exit: None,
    };
    device.begin(&scenario, args.seed)?;
    device.offer_all()?;

    let guard = StopGuard(vm.stop_handle());
    let device = thread::Builder::new()
        .name("device".into())
        .spawn(move || {
            // However this thread ends, the machine does not go on without it.
            let _guard = guard;
            device.run()
        })?;
    let end = vm.run(
        Arc::clone(&inbox) as Arc<dyn vmm::Hypercalls>,
        Some(deadline),
    );
    inbox.stop();
    let exit = match device.join() {
        Ok(exit) => exit.context("the device thread failed")?,
        Err(_) => bail!("the device thread panicked"),
    };
    verdict(end?, exit, args.timeout)
}

/// Makes the buses of the functions, if each has one of its own.
fn buses(args: &RunArgs, mmio: Arc<MmioBus>, functions: &[Arc<GpuFunction>]) -> Buses {
    let mut buses = Buses::new(args.vpci_version, mmio);
    if args.pci == PciArg::Vmbus {
        for function in functions {
            buses.add(Arc::clone(function));
        }
    }
    buses
}

/// Makes the trace.
fn open_trace(path: &Path) -> Result<Trace> {
    let what = || format!("cannot write the trace {}", path.display());
    let file = File::create(path).with_context(what)?;
    Trace::new(Box::new(file)).with_context(what)
}

/// Makes the GPU-PV host and the PCI functions of its virtual GPUs.
fn gpus(args: &RunArgs, engines: &[Arc<dyn Engine>]) -> Result<(Host, Vec<Arc<GpuFunction>>)> {
    let mut config = HostConfig {
        version: args.gpupv_version,
        async_messages: args.async_messages,
        mmio_megabytes: args.mmio_megabytes,
        lock_window: args.lock_window,
        tdr_ms: args.tdr_ms,
        ..HostConfig::default()
    };
    for choice in &args.choices {
        choose(&mut config, choice).map_err(|error| anyhow!("--choice {choice}: {error}"))?;
    }
    let mut host = Host::new(config);
    let mut functions = Vec::new();
    for (number, engine) in (0_u32..).zip(engines) {
        let vgpu = host.add_vgpu(hot_add::vgpu_config(args, number, engine.as_ref()))?;
        let window = host.pci_window(vgpu).context("no configuration window")?;
        functions.push(Arc::new(GpuFunction::new(window)));
    }
    Ok((host, functions))
}

/// Turns the end of the machine and the status the guest set into the status of the run.
fn verdict(end: End, exit: Option<u8>, timeout: u64) -> Result<u8> {
    match (end, exit) {
        (End::PowerOff, Some(exit)) => Ok(exit),
        (End::PowerOff, None) => bail!("the guest powered off without a verdict"),
        (End::Reset, _) => bail!("the guest reset itself"),
        (End::CrashReported, _) => bail!("the guest crashed"),
        (End::TripleFault, _) => bail!("the guest died of a triple fault"),
        (End::Failed(what), _) => bail!("KVM could not go on: {what}"),
        (End::Stopped, _) => bail!("the device thread ended before the guest"),
        (End::TimedOut, _) => bail!("the guest did not end within {timeout} s (--timeout)"),
    }
}

/// Stops the machine when dropped.
struct StopGuard(StopHandle);

impl Drop for StopGuard {
    fn drop(&mut self) {
        self.0.stop();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Only a guest that set a status and powered off has one; every other end is an error that
    /// says what happened.
    #[test]
    fn verdicts() {
        assert_eq!(verdict(End::PowerOff, Some(3), 1).unwrap(), 3);
        assert!(verdict(End::PowerOff, None, 1).is_err());
        for end in [
            End::Reset,
            End::TripleFault,
            End::CrashReported,
            End::TimedOut,
        ] {
            assert!(verdict(end, Some(0), 1).is_err(), "{end:?}");
        }
        let error = verdict(End::TimedOut, None, 7).unwrap_err();
        assert!(error.to_string().contains("7 s"));
    }
}
