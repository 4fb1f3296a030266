// SPDX-License-Identifier: MIT OR Apache-2.0
//! OFFER, RECLAIM and PRIORITY: memory that the host may take.

use std::os::fd::AsFd;
use std::path::Path;

use libc::{EBUSY, EINVAL, ENOENT};
use libvaccel::compute::Session;
use libvaccel::{
    ioctl, sys, BindFlags, BindOptions, Binding, Bo, BoKind, BoOptions, Device, ErrorKind,
    Features, OfferPriority, Priority, QueueMode, Reclaimed, Segment, Vm, VmFlags,
};
use vaccel_isa::CommandStream;
use zerocopy::IntoBytes;

use super::Case;
use crate::expect::refused;
use crate::host::Host;
use crate::rig::{
    check_device_works, ensure, eventually, failed, fails, gpu_words, mark_pages, open_with, soon,
    Result, Rig, SIZE,
};

pub const CASES: &[Case] = &[
    Case {
        name: "offer-kept",
        proves: "objects that are offered and reclaimed without need keep their content, whatever \
                 the priority; one that was not offered is kept too",
        run: kept,
    },
    Case {
        name: "offer-rules",
        proves:
            "an object that is offered, resident by hand or bound in a vm that keeps it resident \
                 cannot be offered, and an offered one can be neither resident nor bound: EBUSY",
        run: rules,
    },
    Case {
        name: "offer-all-or-nothing",
        proves:
            "a list with one object that cannot be offered, or made resident, leaves the others",
        run: all_or_nothing,
    },
    Case {
        name: "offer-discarded",
        proves: "a host under pressure drops offered content, RECLAIM says for each object what \
                 became of it, and the memory is usable again",
        run: discarded,
    },
    Case {
        name: "offer-priority-order",
        proves:
            "a host under pressure drops what was offered with low priority first, and AUTO goes \
                 by the priority of the object",
        run: priority_order,
    },
    Case {
        name: "offer-bad",
        proves: "OFFER with a priority that does not exist, RECLAIM and RESIDENT with one, and \
                 PRIORITY above the maximum are refused",
        run: bad,
    },
    Case {
        name: "offer-closed",
        proves: "offered objects can be closed, with their vm and with their file",
        run: closed,
    },
    Case {
        name: "offer-file-closed",
        proves: "a shared object that another file has offered cannot be bound, and can within \
                 seconds of that file's being closed without RECLAIM",
        run: file_closed,
    },
    Case {
        name: "offer-vm-closed",
        proves: "what a vm has offered, or keeps resident by hand, is free when the vm is gone",
        run: vm_closed,
    },
    Case {
        name: "offer-shareable",
        proves: "OFFER of memory of the host that was made shareable is refused with EINVAL, in \
                 either segment, and the object stays usable",
        run: shareable,
    },
    Case {
        name: "reclaim-stranger",
        proves:
            "RECLAIM and EVICT of an object of guest memory in a vm in which it was never used \
                 are refused with EINVAL; it is used there and in its own vm afterwards",
        run: stranger,
    },
];

const MEGABYTE: u64 = 1 << 20;
const FEATURES: Features = Features::OFFER.union(Features::MANUAL_RESIDENCY);

fn manual(node: &Path, features: Features) -> Result<(Device, Vm)> {
    let device = open_with(node, features)?;
    let vm = device.create_vm(VmFlags::MANUAL_RESIDENCY)?;
    Ok((device, vm))
}

/// Objects of every kind there is, with marked pages.
fn objects(device: &Device, vm: &Vm) -> Result<Vec<(Bo, u32)>> {
    let mut all = vec![BoOptions::new(SIZE), BoOptions::new(SIZE)];
    if device.features()?.contains(Features::HOST_MEMORY) {
        all.push(BoOptions::host(SIZE));
        all.push(BoOptions::host(SIZE).segment(Segment::NonLocal));
    }
    let mut objects = Vec::new();
    for (options, first) in all.iter().zip((100..).step_by(100)) {
        let bo = vm.create_bo(options)?;
        mark_pages(&bo.map()?, first)?;
        objects.push((bo, first));
    }
    Ok(objects)
}

/// The marks of an object must be there.
fn has_marks(what: &str, bo: &Bo, first: u32) -> Result {
    let mapping = bo.map()?;
    for (page, expected) in (0..mapping.len()).step_by(4096).zip(first..) {
        let mut bytes = [0; 4];
        mapping.read(page, &mut bytes)?;
        let seen = u32::from_le_bytes(bytes);
        ensure(
            seen == expected,
            format!(
                "{what}: byte {page} of {:?} is {seen}, not {expected}",
                bo.kind()
            ),
        )?;
    }
    Ok(())
}

fn references(objects: &[(Bo, u32)]) -> Vec<&Bo> {
    objects.iter().map(|(bo, _)| bo).collect()
}

fn kept(node: &Path) -> Result {
    let (device, vm) = manual(node, FEATURES)?;
    let objects = objects(&device, &vm)?;
    let all = references(&objects);
    let untouched = vm.reclaim(&all)?;
    ensure(
        untouched.iter().all(|outcome| *outcome == Reclaimed::Kept),
        format!("objects that were not offered are {untouched:?}"),
    )?;
    for priority in [
        OfferPriority::Low,
        OfferPriority::Normal,
        OfferPriority::High,
        OfferPriority::Auto,
    ] {
        for decommit in [false, true] {
            vm.offer(&all, priority, decommit)?;
            let outcomes = vm.reclaim(&all)?;
            ensure(
                outcomes.len() == all.len()
                    && outcomes.iter().all(|outcome| *outcome == Reclaimed::Kept),
                format!("{priority:?}, decommit {decommit}: {outcomes:?}"),
            )?;
            for (bo, first) in &objects {
                has_marks("reclaimed", bo, *first)?;
            }
        }
    }
    vm.make_resident(&all)?.wait(soon())?;
    vm.evict(&all)?;
    Ok(())
}

fn rules(node: &Path) -> Result {
    let (device, vm) = manual(node, FEATURES)?;
    let offer = |bo: &Bo| vm.offer(&[bo], OfferPriority::Normal, false);
    for (bo, first) in objects(&device, &vm)? {
        let kind = bo.kind();
        let busy = |what: &str, outcome: libvaccel::Result<()>| {
            fails(&format!("{kind:?}: {what}"), outcome, ErrorKind::Busy)
        };
        offer(&bo)?;
        busy("a second OFFER", offer(&bo))?;
        busy("RESIDENT of it", vm.make_resident(&[&bo]).map(drop))?;
        busy("BIND of it", bo.bind(BindFlags::empty()).map(drop))?;
        vm.reclaim(&[&bo])?;
        vm.make_resident(&[&bo])?.wait(soon())?;
        busy("OFFER of a resident object", offer(&bo))?;
        vm.evict(&[&bo])?;
        // A binding in a vm with residency by hand keeps nothing resident.
        let binding = bo.bind(BindFlags::empty())?;
        offer(&bo)?;
        vm.reclaim(&[&bo])?;
        binding.close()?;
        // Memory of the host that can be offered is seen by one vm.
        if kind == BoKind::Guest {
            let other = device.create_vm(VmFlags::empty())?;
            let options = BindOptions::new(BindFlags::empty());
            let binding = other.bind(&bo, &options)?;
            busy("OFFER of what another vm keeps resident", offer(&bo))?;
            binding.close()?;
            offer(&bo)?;
            vm.reclaim(&[&bo])?;
        }
        has_marks("after all that", &bo, first)?;
    }
    Ok(())
}

fn all_or_nothing(node: &Path) -> Result {
    let (_device, vm) = manual(node, FEATURES)?;
    let make = || vm.create_bo(&BoOptions::new(SIZE));
    let (free, resident, offered) = (make()?, make()?, make()?);
    vm.make_resident(&[&resident])?.wait(soon())?;
    vm.offer(&[&offered], OfferPriority::Normal, false)?;
    let outcome = vm.offer(&[&free, &resident], OfferPriority::Normal, false);
    fails("OFFER with a resident object", outcome, ErrorKind::Busy)?;
    // It was not offered: it can be made resident. The same the other way round.
    let outcome = vm.make_resident(&[&free, &offered]);
    fails("RESIDENT with an offered object", outcome, ErrorKind::Busy)?;
    vm.make_resident(&[&free])?.wait(soon())?;
    vm.evict(&[&free])?;
    if vm.evict(&[&free]).is_ok() {
        return failed("a refused RESIDENT made an object resident");
    }
    vm.reclaim(&[&offered, &free, &resident])?;
    vm.evict(&[&resident])?;
    Ok(())
}

/// Objects of 1 MiB in local memory of the host that no CPU has looked at: what a CPU sees the host
/// does not drop.
struct Local {
    session: Session,
    objects: Vec<(Bo, Binding)>,
}

impl Local {
    fn new(vm: &Vm, count: usize) -> Result<Self> {
        let session = Session::in_vm(vm, QueueMode::Bounded)?;
        let objects = (0..count)
            .map(|_| {
                let bo = vm.create_bo(&BoOptions::host(MEGABYTE))?;
                let binding = bo.bind(BindFlags::WRITE)?;
                Ok((bo, binding))
            })
            .collect::<Result<_>>()?;
        let mut local = Self { session, objects };
        for index in 0..count {
            local.mark(index, 1000 + index as u32)?;
        }
        Ok(local)
    }

    fn all(&self) -> Vec<&Bo> {
        self.objects.iter().map(|(bo, _)| bo).collect()
    }

    /// Has a job do something with an object while it is resident.
    fn with<T>(
        &mut self,
        index: usize,
        work: impl FnOnce(&mut Session, u64) -> Result<T>,
    ) -> Result<T> {
        let Some((bo, binding)) = self.objects.get(index) else {
            return failed("an object that is not there");
        };
        let vm = self.session.vm().clone();
        vm.make_resident(&[bo])?.wait(soon())?;
        let done = work(&mut self.session, binding.gpu_va())?;
        vm.evict(&[bo])?;
        Ok(done)
    }

    fn mark(&mut self, index: usize, word: u32) -> Result {
        self.with(index, |session, at| {
            let mut stream = CommandStream::new();
            stream.fill_words(at, MEGABYTE, word);
            session.run(stream, soon())?;
            Ok(())
        })
    }

    fn has(&mut self, what: &str, index: usize, word: u32) -> Result {
        let seen = self.with(index, |session, at| {
            gpu_words(session, &[at, at + MEGABYTE / 2, at + MEGABYTE - 4])
        })?;
        ensure(
            seen == [word; 3],
            format!("{what}: a job reads {seen:?}, expected {word}"),
        )
    }
}

fn discarded(node: &Path) -> Result {
    let mut host = Host::open(node)?;
    for decommit in [false, true] {
        let (_device, vm) = manual(node, FEATURES | Features::HOST_MEMORY)?;
        let mut local = Local::new(&vm, 4)?;
        let all = local.all();
        let offered = all.get(1..).unwrap_or_default();
        vm.offer(offered, OfferPriority::Normal, decommit)?;
        // More than there is: everything that is offered goes, and nothing else.
        let dropped = host.pressure(64 * MEGABYTE)?;
        ensure(
            dropped == 3 * MEGABYTE,
            format!("the host dropped {dropped} bytes of 3 MiB that are offered"),
        )?;
        let outcomes = vm.reclaim(&all)?;
        let lost = |outcome: &Reclaimed| match outcome {
            Reclaimed::Discarded => true,
            Reclaimed::NotCommitted => decommit,
            _ => false,
        };
        ensure(
            outcomes.first() == Some(&Reclaimed::Kept)
                && outcomes.len() == 4
                && outcomes.iter().skip(1).all(lost),
            format!("decommit {decommit}: {outcomes:?}"),
        )?;
        let gone = outcomes.last() == Some(&Reclaimed::NotCommitted);
        local.has("an object that was not offered", 0, 1000)?;
        if gone {
            // Without its memory it is good for being closed.
            continue;
        }
        local.mark(3, 77)?;
        local.has("memory that is used again", 3, 77)?;
    }
    check_device_works(&Device::open(node)?)
}

fn priority_order(node: &Path) -> Result {
    let mut host = Host::open(node)?;
    let (_device, vm) = manual(node, FEATURES | Features::HOST_MEMORY)?;
    let mut local = Local::new(&vm, 5)?;
    let all = local.all();
    let [high, low, normal, auto_low, auto_high] = all.as_slice() else {
        return failed("another number of objects");
    };
    vm.set_priority(&[auto_low], Priority::MINIMUM)?;
    vm.set_priority(&[auto_high], Priority::MAXIMUM)?;
    vm.offer(&[high], OfferPriority::High, false)?;
    vm.offer(&[auto_high, auto_low], OfferPriority::Auto, false)?;
    vm.offer(&[normal], OfferPriority::Normal, false)?;
    vm.offer(&[low], OfferPriority::Low, false)?;
    let first = host.pressure(2 * MEGABYTE)?;
    ensure(
        first == 2 * MEGABYTE,
        format!("{first} bytes dropped, asked for 2 MiB"),
    )?;
    let outcomes = vm.reclaim(&all)?;
    let expected = [
        Reclaimed::Kept,
        Reclaimed::Discarded,
        Reclaimed::Kept,
        Reclaimed::Discarded,
        Reclaimed::Kept,
    ];
    ensure(
        outcomes == expected,
        format!("high, low, normal, low by itself, high by itself: {outcomes:?}"),
    )?;
    vm.offer(&[high, auto_high], OfferPriority::High, false)?;
    vm.offer(&[normal], OfferPriority::Normal, false)?;
    host.pressure(MEGABYTE)?;
    let outcomes = vm.reclaim(&[high, normal, auto_high])?;
    ensure(
        outcomes == [Reclaimed::Kept, Reclaimed::Discarded, Reclaimed::Kept],
        format!("high, normal, high: {outcomes:?}"),
    )?;
    local.has("offered with high priority", 0, 1000)?;
    local.has("kept by its own priority", 4, 1004)
}

fn bad(node: &Path) -> Result {
    open_with(node, FEATURES)?;
    let rig = Rig::new(node)?;
    let bo = rig.vm.create_bo(&BoOptions::new(SIZE))?;
    let entries = [bo.handle(), 0x7fff_fff0].map(|bo| sys::ResidencyEntry { bo, result: 0 });
    rig.arg.mapping().write(0, entries.as_bytes())?;
    let good = sys::Residency {
        vm: rig.vm.handle(),
        arg_bo: rig.arg.handle(),
        count: 1,
        ..Default::default()
    };
    let refuse = |what: &str, op, priority, errno| {
        let bad = sys::Residency {
            op,
            priority,
            ..good
        };
        refused::<ioctl::Residency>(&rig.device, what, bad, &[errno])
    };
    for priority in [0, 5, u32::MAX] {
        let what = format!("OFFER with priority {priority}");
        refuse(&what, sys::RESIDENCY_OFFER, priority, EINVAL)?;
    }
    refuse("RECLAIM with a priority", sys::RESIDENCY_RECLAIM, 1, EINVAL)?;
    refuse("EVICT with a priority", sys::RESIDENCY_EVICT, 1, EINVAL)?;
    for priority in [sys::PRIORITY_MAXIMUM + 1, u32::MAX] {
        let what = format!("PRIORITY {priority:#x}");
        refuse(&what, sys::RESIDENCY_PRIORITY, priority, EINVAL)?;
    }
    for priority in [
        Priority(0),
        Priority::MINIMUM,
        Priority(0x7777_7777),
        Priority::MAXIMUM,
    ] {
        rig.vm.set_priority(&[&bo], priority)?;
    }
    for op in [
        sys::RESIDENCY_OFFER,
        sys::RESIDENCY_RECLAIM,
        sys::RESIDENCY_PRIORITY,
    ] {
        let unknown = sys::Residency {
            op,
            priority: if op == sys::RESIDENCY_OFFER { 1 } else { 0 },
            count: 2,
            ..good
        };
        let what = format!("operation {op} with an unknown object");
        refused::<ioctl::Residency>(&rig.device, &what, unknown, &[ENOENT])?;
    }
    // The rig's own object is bound where bindings are resident.
    let entries = [sys::ResidencyEntry {
        bo: rig.bo.handle(),
        result: 0,
    }];
    rig.arg.mapping().write(0, entries.as_bytes())?;
    refuse("OFFER of a bound object", sys::RESIDENCY_OFFER, 1, EBUSY)
}

fn closed(node: &Path) -> Result {
    let (device, vm) = manual(node, FEATURES)?;
    let first = objects(&device, &vm)?;
    vm.offer(&references(&first), OfferPriority::Low, true)?;
    for (bo, _) in first {
        bo.close()?;
    }
    let second = objects(&device, &vm)?;
    vm.offer(&references(&second), OfferPriority::Low, false)?;
    drop((second, vm));
    let vm = device.create_vm(VmFlags::MANUAL_RESIDENCY)?;
    let third = objects(&device, &vm)?;
    vm.offer(&references(&third), OfferPriority::High, true)?;
    // Raw handles are left to the end of the file.
    std::mem::forget(third);
    std::mem::forget(vm);
    check_device_works(&device)
}

fn file_closed(node: &Path) -> Result {
    let (_device, vm) = manual(node, FEATURES)?;
    let bo = vm.create_bo(&BoOptions::new(SIZE))?;
    mark_pages(&bo.map()?, 900)?;
    {
        let (other, other_vm) = manual(node, FEATURES)?;
        let import = other.import(bo.export()?.as_fd())?;
        other_vm.offer(&[&import], OfferPriority::Low, false)?;
        let outcome = bo.bind(BindFlags::WRITE);
        fails("BIND of what another file offers", outcome, ErrorKind::Busy)?;
        // Handle, vm and file go, and nothing was reclaimed; all that by itself.
    }
    let mut binding = None;
    eventually(
        "what a closed file has offered cannot be bound",
        || match bo.bind(BindFlags::WRITE) {
            Ok(bound) => {
                binding = Some(bound);
                Ok(true)
            }
            Err(error) if error.kind() == ErrorKind::Busy => Ok(false),
            Err(error) => Err(error.into()),
        },
    )?;
    has_marks("after another file offered it", &bo, 900)
}

fn vm_closed(node: &Path) -> Result {
    let (device, vm) = manual(node, FEATURES)?;
    let bo = vm.create_bo(&BoOptions::new(SIZE))?;
    mark_pages(&bo.map()?, 600)?;
    let options = BindOptions::new(BindFlags::empty());
    for offer in [true, false] {
        let other = device.create_vm(VmFlags::MANUAL_RESIDENCY)?;
        let binding = other.bind(&bo, &options)?;
        if offer {
            other.offer(&[&bo], OfferPriority::Low, false)?;
            let outcome = vm.reclaim(&[&bo]);
            fails("RECLAIM elsewhere", outcome, ErrorKind::Busy)?;
            let outcome = vm.make_resident(&[&bo]).map(drop);
            fails("RESIDENT elsewhere", outcome, ErrorKind::Busy)?;
        } else {
            other.make_resident(&[&bo])?.wait(soon())?;
            let outcome = vm.offer(&[&bo], OfferPriority::Low, false);
            fails("OFFER elsewhere", outcome, ErrorKind::Busy)?;
        }
        drop(binding);
        other.close()?;
        vm.offer(&[&bo], OfferPriority::Low, false)?;
        vm.reclaim(&[&bo])?;
        vm.make_resident(&[&bo])?.wait(soon())?;
        vm.evict(&[&bo])?;
    }
    has_marks("after two vms", &bo, 600)
}

fn shareable(node: &Path) -> Result {
    let (_device, vm) = manual(node, FEATURES | Features::HOST_MEMORY)?;
    for segment in [Segment::Local, Segment::NonLocal] {
        let options = BoOptions::host(SIZE).segment(segment).shareable();
        let bo = vm.create_bo(&options)?;
        mark_pages(&bo.map()?, 50)?;
        for decommit in [false, true] {
            fails(
                &format!("{segment:?}: OFFER of shareable memory, decommit {decommit}"),
                vm.offer(&[&bo], OfferPriority::Normal, decommit),
                ErrorKind::InvalidArgument,
            )?;
        }
        bo.bind(BindFlags::WRITE)?.close()?;
        vm.make_resident(&[&bo])?.wait(soon())?;
        vm.evict(&[&bo])?;
        has_marks("refused", &bo, 50)?;
    }
    Ok(())
}

fn stranger(node: &Path) -> Result {
    let (device, vm) = manual(node, FEATURES)?;
    let bo = vm.create_bo(&BoOptions::new(SIZE))?;
    mark_pages(&bo.map()?, 70)?;
    let other = device.create_vm(VmFlags::MANUAL_RESIDENCY)?;
    fails(
        "RECLAIM in a vm that has not seen it",
        other.reclaim(&[&bo]).map(drop),
        ErrorKind::InvalidArgument,
    )?;
    fails(
        "EVICT in a vm that has not seen it",
        other.evict(&[&bo]),
        ErrorKind::InvalidArgument,
    )?;
    for vm in [&other, &vm] {
        vm.make_resident(&[&bo])?.wait(soon())?;
        vm.evict(&[&bo])?;
        vm.bind(&bo, &BindOptions::new(BindFlags::WRITE))?.close()?;
    }
    has_marks("after it was refused", &bo, 70)
}
