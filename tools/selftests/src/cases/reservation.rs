// SPDX-License-Identifier: MIT OR Apache-2.0
//! VA_RESERVE and VA_RELEASE, and bindings that replace and cut each other inside of a reservation.

use std::path::Path;

use libc::{EBUSY, EEXIST, EINVAL, ENOENT, EOVERFLOW};
use libvaccel::compute::Session;
use libvaccel::{
    ioctl, sys, BindFlags, Bo, BoOptions, ErrorKind, Features, Reservation, ReserveOptions, State,
};
use vaccel_isa::CommandStream;

use super::Case;
use crate::expect::{accepted, refused};
use crate::rig::{
    check_device_works, ensure, failed, fails, gpu_set, gpu_words, mark_pages, open_with, soon,
    Numbers, Result, Rig,
};

pub const CASES: &[Case] = &[
    Case {
        name: "reserve-bad",
        proves:
            "reservations of bad vms, sizes and addresses are refused, and RELEASE takes exactly \
                 what RESERVE made, once",
        run: bad,
    },
    Case {
        name: "reserve-addresses",
        proves: "reserved addresses are the host's choice or the ones asked for; what is taken is \
                 EEXIST, to RESERVE and to a BIND that is in it in part; RELEASE frees them",
        run: addresses,
    },
    Case {
        name: "reserve-release-bound",
        proves:
            "a reservation in which something is bound is not released: EBUSY until it is unbound",
        run: release_bound,
    },
    Case {
        name: "reserve-zero",
        proves:
            "where nothing is bound in a zero reservation a job reads zeros and its writes are \
                 dropped, before a binding and after it",
        run: zero,
    },
    Case {
        name: "reserve-fault",
        proves:
            "where nothing is bound in a reservation without ZERO a job faults, before a binding \
                 and after it",
        run: fault,
    },
    Case {
        name: "reserve-cut",
        proves:
            "a binding over the left, the right, the middle or the whole of others cuts them as \
                 it should, page by page as a job reads them; the same for UNBIND and for NULL",
        run: cut,
    },
    Case {
        name: "reserve-random",
        proves: "after each of many random bindings and unbindings a job reads every page of the \
                 reservation as a model says",
        run: random,
    },
    Case {
        name: "reserve-bind-bad",
        proves: "bad bindings inside of a reservation are refused and leave what was bound",
        run: bind_bad,
    },
    Case {
        name: "reserve-race",
        proves: "two threads that bind over the same range leave it whole as one of them bound it",
        run: race,
    },
    Case {
        name: "reserve-abandon",
        proves: "a vm and a file with bound reservations can be closed as they are",
        run: abandon,
    },
];

const PAGE: u64 = 4096;

fn good(rig: &Rig) -> sys::VaRange {
    sys::VaRange {
        vm: rig.vm.handle(),
        size: 4 * PAGE,
        ..Default::default()
    }
}

fn bad(node: &Path) -> Result {
    open_with(node, Features::VA_RESERVE)?;
    let rig = Rig::new(node)?;
    let device = &rig.device;
    let good = good(&rig);
    let refuse =
        |what: &str, bad, errnos: &[i32]| refused::<ioctl::VaReserve>(device, what, bad, errnos);
    for vm in [0, 0x7fff_fff0] {
        let what = format!("vm {vm:#x}");
        refuse(&what, sys::VaRange { vm, ..good }, &[ENOENT])?;
    }
    for size in [0, 1, 4095, 6000] {
        let what = format!("size {size}");
        refuse(&what, sys::VaRange { size, ..good }, &[EINVAL])?;
    }
    let gpu_va = 0x10_0800;
    refuse(
        "an unaligned address",
        sys::VaRange { gpu_va, ..good },
        &[EINVAL],
    )?;
    let gpu_va = u64::MAX - 4095;
    refuse(
        "a range that overflows",
        sys::VaRange { gpu_va, ..good },
        &[EOVERFLOW, EINVAL],
    )?;

    let made = accepted::<ioctl::VaReserve>(device, "as it should be", good)?;
    ensure(
        made.gpu_va != 0 && made.gpu_va % PAGE == 0,
        format!("reserved at {:#x}", made.gpu_va),
    )?;
    let good = sys::VaRange {
        gpu_va: made.gpu_va,
        ..good
    };
    let refuse = |what: &str, bad, errno| refused::<ioctl::VaRelease>(device, what, bad, &[errno]);
    let vm = 0x7fff_fff0;
    refuse("unknown vm", sys::VaRange { vm, ..good }, ENOENT)?;
    let size = good.size - PAGE;
    refuse(
        "a part from the start",
        sys::VaRange { size, ..good },
        EINVAL,
    )?;
    let gpu_va = good.gpu_va + PAGE;
    refuse(
        "a part to the end",
        sys::VaRange {
            gpu_va,
            size,
            ..good
        },
        EINVAL,
    )?;
    let size = good.size + PAGE;
    refuse(
        "more than was reserved",
        sys::VaRange { size, ..good },
        EINVAL,
    )?;
    refuse("size 0", sys::VaRange { size: 0, ..good }, EINVAL)?;
    let flags = sys::VA_ZERO;
    refuse("with a flag", sys::VaRange { flags, ..good }, EINVAL)?;
    // A binding is no reservation.
    let binding = sys::VaRange {
        gpu_va: rig.binding.gpu_va(),
        size: rig.binding.size(),
        ..good
    };
    refuse("a binding", binding, EINVAL)?;
    accepted::<ioctl::VaRelease>(device, "as it was reserved", good)?;
    refuse("a second time", good, EINVAL)
}

fn addresses(node: &Path) -> Result {
    open_with(node, Features::VA_RESERVE)?;
    let rig = Rig::new(node)?;
    let size = 16 * PAGE;
    let probe = rig.vm.reserve(size, &ReserveOptions::new())?;
    let gpu_va = probe.gpu_va();
    probe.close()?;
    let fixed = rig.vm.reserve(size, &ReserveOptions::new().at(gpu_va))?;
    ensure(
        fixed.gpu_va() == gpu_va,
        format!("reserved {:#x}, asked for {gpu_va:#x}", fixed.gpu_va()),
    )?;
    let taken = rig.binding.gpu_va();
    for (what, at) in [
        ("itself", gpu_va),
        ("its second page", gpu_va + PAGE),
        ("its end", gpu_va + size - PAGE),
        ("a binding", taken),
    ] {
        let again = sys::VaRange {
            gpu_va: at,
            ..good(&rig)
        };
        refused::<ioctl::VaReserve>(&rig.device, &format!("over {what}"), again, &[EEXIST])?;
    }
    // A binding that is in a reservation only in part.
    let straddling = sys::Bind {
        vm: rig.vm.handle(),
        bo: rig.bo.handle(),
        flags: sys::BIND_FIXED,
        size: 2 * PAGE,
        ..Default::default()
    };
    for (what, gpu_va) in [
        ("start", gpu_va.saturating_sub(PAGE)),
        ("end", gpu_va + size - PAGE),
    ] {
        let bind = sys::Bind {
            gpu_va,
            ..straddling
        };
        refused::<ioctl::Bind>(&rig.device, &format!("across the {what}"), bind, &[EEXIST])?;
    }
    // A binding without FIXED stays out of it.
    let outside = rig.bo.bind(BindFlags::empty())?;
    ensure(
        outside.gpu_va() + outside.size() <= gpu_va || outside.gpu_va() >= gpu_va + size,
        format!("bound at {:#x}, which is reserved", outside.gpu_va()),
    )?;
    fixed.close()?;
    let binding = rig
        .bo
        .bind_range(BindFlags::empty(), Some(gpu_va), 0, PAGE)?;
    binding.close()?;
    Ok(())
}

fn release_bound(node: &Path) -> Result {
    open_with(node, Features::VA_RESERVE)?;
    let rig = Rig::new(node)?;
    let reservation = rig.vm.reserve(4 * PAGE, &ReserveOptions::new())?;
    let release = sys::VaRange {
        gpu_va: reservation.gpu_va(),
        ..good(&rig)
    };
    let refuse = |what: &str| refused::<ioctl::VaRelease>(&rig.device, what, release, &[EBUSY]);
    reservation.bind(0, &rig.bo, 0..PAGE, BindFlags::empty())?;
    refuse("with its first page bound")?;
    reservation.bind(3 * PAGE, &rig.bo, 0..PAGE, BindFlags::empty())?;
    reservation.unbind(0..PAGE)?;
    refuse("with its last page bound")?;
    reservation.unbind(0..4 * PAGE)?;
    reservation.close()?;
    let zero = rig.vm.reserve(4 * PAGE, &ReserveOptions::new().zero())?;
    zero.close()?;
    Ok(())
}

fn zero(node: &Path) -> Result {
    let device = open_with(node, Features::VA_RESERVE)?;
    let mut session = Session::new(&device)?;
    let bo = session.vm().create_bo(&BoOptions::new(PAGE))?;
    let mapping = bo.map()?;
    mapping.write(0, &7u32.to_le_bytes())?;
    let reservation = session
        .vm()
        .reserve(3 * PAGE, &ReserveOptions::new().zero())?;
    let at = reservation.gpu_va();
    let places = [at, at + PAGE, at + 2 * PAGE, at + 3 * PAGE - 4];
    let mut look = |what: &str, expected: [u32; 4]| {
        let words = gpu_words(&mut session, &places)?;
        ensure(
            words == expected,
            format!("{what}: a job reads {words:?}, expected {expected:?}"),
        )
    };
    look("at first", [0; 4])?;
    reservation.bind(PAGE, &bo, 0..PAGE, BindFlags::WRITE)?;
    look("with a page bound", [0, 7, 0, 0])?;
    reservation.unbind(PAGE..2 * PAGE)?;
    look("with it unbound", [0; 4])?;
    gpu_set(&mut session, at + PAGE, 5)?;
    gpu_set(&mut session, at, 5)?;
    let words = gpu_words(&mut session, &places)?;
    ensure(
        words == [0; 4],
        format!("a job reads {words:?} where writes are dropped"),
    )?;
    let mut kept = [0; 4];
    mapping.read(0, &mut kept)?;
    ensure(
        kept == 7u32.to_le_bytes(),
        "a dropped write reached memory that was bound there",
    )?;
    reservation.close()?;
    Ok(())
}

fn faults_at(session: &mut Session, address: u64) -> Result {
    let mut stream = CommandStream::new();
    stream.fill_words(address, 4, 1);
    let outcome = session
        .launch(stream)
        .and_then(|ticket| session.wait(ticket, soon()));
    fails("a job on unbound addresses", outcome, ErrorKind::VmError)?;
    let state = session.vm().query()?;
    ensure(
        state.state == State::PageFault,
        format!("the vm is in state {:?}", state.state),
    )?;
    let fault = state.fault.map_or(0, |fault| fault.gpu_va);
    ensure(
        fault / PAGE == address / PAGE,
        format!("a fault at {fault:#x}, the job touched {address:#x}"),
    )
}

fn fault(node: &Path) -> Result {
    let device = open_with(node, Features::VA_RESERVE)?;
    for bound_before in [false, true] {
        let mut session = Session::new(&device)?;
        let reservation = session.vm().reserve(2 * PAGE, &ReserveOptions::new())?;
        let at = reservation.gpu_va();
        let bo = session.vm().create_bo(&BoOptions::new(2 * PAGE))?;
        if bound_before {
            reservation.bind(0, &bo, 0..2 * PAGE, BindFlags::WRITE)?;
            gpu_set(&mut session, at + PAGE, 3)?;
            reservation.unbind(PAGE..2 * PAGE)?;
            gpu_set(&mut session, at, 3)?;
        }
        faults_at(&mut session, at + PAGE)?;
    }
    check_device_works(&device)
}

/// A zero reservation whose pages are known: what a job must read at the start of each.
struct Model {
    session: Session,
    reservation: Reservation,
    objects: Vec<(Bo, u32)>,
    pages: Vec<u32>,
}

/// Pages of the model's reservation.
const PAGES: u64 = 12;
/// Objects, of [`PAGES`] pages each.
const OBJECTS: usize = 4;

impl Model {
    fn new(node: &Path) -> Result<Self> {
        let device = open_with(node, Features::VA_RESERVE)?;
        let session = Session::new(&device)?;
        let vm = session.vm();
        let host = device.features()?.contains(Features::HOST_MEMORY);
        let mut objects = Vec::new();
        for number in 0..OBJECTS {
            let options = match number % 2 {
                1 if host => BoOptions::host(PAGES * PAGE),
                _ => BoOptions::new(PAGES * PAGE),
            };
            let bo = vm.create_bo(&options)?;
            let first = 1000 * (number as u32 + 1);
            mark_pages(&bo.map()?, first)?;
            objects.push((bo, first));
        }
        let options = ReserveOptions::new().zero();
        let reservation = vm.reserve(PAGES * PAGE, &options)?;
        Ok(Self {
            session,
            reservation,
            objects,
            pages: vec![0; PAGES as usize],
        })
    }

    fn set(&mut self, page: u64, count: u64, mut value: impl FnMut(u64) -> u32) {
        for index in 0..count {
            if let Some(known) = self.pages.get_mut((page + index) as usize) {
                *known = value(index);
            }
        }
    }

    fn bind(&mut self, page: u64, object: usize, from: u64, count: u64) -> Result {
        let Some((bo, first)) = self.objects.get(object).cloned() else {
            return failed("an object that is not there");
        };
        let part = from * PAGE..(from + count) * PAGE;
        self.reservation
            .bind(page * PAGE, &bo, part, BindFlags::WRITE)?;
        self.set(page, count, |index| first + (from + index) as u32);
        Ok(())
    }

    fn null(&mut self, page: u64, count: u64) -> Result {
        let range = page * PAGE..(page + count) * PAGE;
        self.reservation.bind_null(range, BindFlags::WRITE)?;
        self.set(page, count, |_| 0);
        Ok(())
    }

    fn unbind(&mut self, page: u64, count: u64) -> Result {
        self.reservation
            .unbind(page * PAGE..(page + count) * PAGE)?;
        self.set(page, count, |_| 0);
        Ok(())
    }

    /// A job must read every page as the model has it.
    fn check(&mut self, what: &str) -> Result {
        let at = self.reservation.gpu_va();
        let addresses: Vec<u64> = (0..PAGES).map(|page| at + page * PAGE).collect();
        let words = gpu_words(&mut self.session, &addresses)?;
        ensure(
            words == self.pages,
            format!("{what}: a job reads {words:?}, expected {:?}", self.pages),
        )
    }
}

fn cut(node: &Path) -> Result {
    let mut model = Model::new(node)?;
    model.check("unbound")?;
    model.bind(2, 0, 0, 8)?;
    model.check("eight pages")?;
    model.bind(0, 1, 3, 4)?;
    model.check("over the left end")?;
    model.bind(8, 2, 0, 4)?;
    model.check("over the right end")?;
    model.bind(5, 3, 5, 2)?;
    model.check("in the middle")?;
    model.bind(5, 1, 5, 1)?;
    model.check("half of that again")?;
    model.unbind(4, 1)?;
    model.check("a page unbound at the left of a rest")?;
    model.unbind(7, 2)?;
    model.check("pages of two bindings unbound")?;
    model.unbind(3, 3)?;
    model.check("unbound and bound pages unbound")?;
    model.null(9, 2)?;
    model.check("NULL in the middle")?;
    model.bind(0, 0, 0, PAGES)?;
    model.check("over everything")?;
    model.unbind(1, PAGES - 2)?;
    model.check("all but the ends unbound")?;
    model.unbind(0, PAGES)?;
    model.check("all unbound")?;
    model.unbind(0, PAGES)?;
    model.check("all unbound again")?;
    model.reservation.close()?;
    Ok(())
}

fn random(node: &Path) -> Result {
    let mut model = Model::new(node)?;
    let mut numbers = Numbers(2024);
    for round in 0..100 {
        let page = numbers.below(PAGES);
        let count = 1 + numbers.below(PAGES - page);
        let what = match numbers.below(8) {
            0 | 1 => {
                model.unbind(page, count)?;
                "unbind"
            }
            2 => {
                model.null(page, count)?;
                "null"
            }
            _ => {
                let object = numbers.below(OBJECTS as u64) as usize;
                let from = numbers.below(PAGES - count + 1);
                model.bind(page, object, from, count)?;
                "bind"
            }
        };
        model.check(&format!("round {round}: {what} of {count} from {page}"))?;
    }
    // The objects go first; the bindings keep what they are made of.
    model.objects.clear();
    model.check("with the objects closed")
}

fn bind_bad(node: &Path) -> Result {
    let mut model = Model::new(node)?;
    model.bind(0, 0, 0, PAGES)?;
    let vm = model.session.vm().clone();
    let Some((bo, _)) = model.objects.get(1).cloned() else {
        return failed("an object that is not there");
    };
    // Raw, with the library's own checks out of the way.
    let good = sys::Bind {
        vm: vm.handle(),
        bo: bo.handle(),
        flags: sys::BIND_FIXED,
        gpu_va: model.reservation.gpu_va(),
        size: PAGE,
        ..Default::default()
    };
    let device = vm.device();
    let refuse = |what: &str, bad, errno| refused::<ioctl::Bind>(&device, what, bad, &[errno]);
    let gpu_va = good.gpu_va + PAGE;
    let size = PAGES * PAGE;
    refuse(
        "across the end",
        sys::Bind {
            gpu_va,
            size,
            ..good
        },
        EEXIST,
    )?;
    refuse("size 0", sys::Bind { size: 0, ..good }, EINVAL)?;
    let gpu_va = good.gpu_va + 100;
    refuse("an unaligned address", sys::Bind { gpu_va, ..good }, EINVAL)?;
    let bo_offset = PAGES * PAGE;
    refuse("behind the object", sys::Bind { bo_offset, ..good }, EINVAL)?;
    refuse("no object", sys::Bind { bo: 0, ..good }, ENOENT)?;
    let flags = sys::BIND_FIXED | sys::BIND_NULL;
    refuse("NULL with an object", sys::Bind { flags, ..good }, EINVAL)?;
    let flags = sys::BIND_NULL;
    refuse(
        "without FIXED",
        sys::Bind {
            flags,
            bo: 0,
            ..good
        },
        EINVAL,
    )?;
    model.check("after refused bindings")?;
    fails(
        "the library",
        model
            .reservation
            .bind(PAGE, &bo, 0..PAGES * PAGE, BindFlags::empty()),
        ErrorKind::InvalidArgument,
    )
}

fn race(node: &Path) -> Result {
    let mut model = Model::new(node)?;
    for round in 0..20 {
        let (reservation, objects) = (&model.reservation, &model.objects);
        let bind = |object: usize| -> libvaccel::Result<()> {
            for _ in 0..8 {
                if let Some((bo, _)) = objects.get(object) {
                    reservation.bind(0, bo, 0..PAGES * PAGE, BindFlags::WRITE)?;
                }
            }
            Ok(())
        };
        std::thread::scope(|scope| {
            let other = scope.spawn(|| bind(1));
            let this = bind(0);
            this.and(other.join().unwrap_or(Ok(())))
        })?;
        let at = model.reservation.gpu_va();
        let addresses: Vec<u64> = (0..PAGES).map(|page| at + page * PAGE).collect();
        let words = gpu_words(&mut model.session, &addresses)?;
        let whole = model
            .objects
            .iter()
            .take(2)
            .any(|(_, first)| words.iter().copied().eq(*first..*first + PAGES as u32));
        ensure(
            whole,
            format!("round {round}: a job reads {words:?}, which neither thread bound"),
        )?;
        model.unbind(0, PAGES)?;
    }
    Ok(())
}

fn abandon(node: &Path) -> Result {
    open_with(node, Features::VA_RESERVE)?;
    let rig = Rig::new(node)?;
    for _ in 0..2 {
        // Raw handles, so that nothing is given up by hand.
        let vm = accepted::<ioctl::VmCreate>(&rig.device, "of one", sys::VmCreate::default())?.vm;
        for flags in [0, sys::VA_ZERO] {
            let range = sys::VaRange {
                vm,
                flags,
                size: 8 * PAGE,
                ..Default::default()
            };
            let range = accepted::<ioctl::VaReserve>(&rig.device, "of it", range)?;
            for page in [0, 3, 7] {
                let bind = sys::Bind {
                    vm,
                    bo: rig.bo.handle(),
                    flags: sys::BIND_FIXED,
                    gpu_va: range.gpu_va + page * PAGE,
                    size: PAGE,
                    ..Default::default()
                };
                accepted::<ioctl::Bind>(&rig.device, "in it", bind)?;
            }
        }
        // The first vm goes by its handle, the second with the file.
        if rig.fence.value()? == 0 {
            let destroy = sys::Destroy { handle: vm, pad: 0 };
            accepted::<ioctl::VmDestroy>(&rig.device, "with reservations", destroy)?;
            rig.fence.signal(1)?;
        }
    }
    drop(rig);
    check_device_works(&libvaccel::Device::open(node)?)
}
