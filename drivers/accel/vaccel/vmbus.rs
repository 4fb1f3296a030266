// SPDX-License-Identifier: GPL-2.0-only

//! Abstractions for the VMBus.
//!
//! C header: [`include/linux/hyperv.h`](srctree/include/linux/hyperv.h)

mod batch;
mod channel;
mod gpadl;
mod guid;
mod mmio;

use core::{
    marker::PhantomData,
    mem::offset_of,
    ptr::NonNull, //
};

use kernel::{
    device,
    device_id::{
        RawDeviceId,
        RawDeviceIdIndex, //
    },
    driver,
    error::{
        from_result,
        to_result, //
    },
    prelude::*,
    sync::aref::AlwaysRefCounted,
    types::Opaque,
    ThisModule, //
};

use crate::bindings;

pub use self::{
    batch::{
        Batch,
        PACKET_MORE, //
    },
    channel::{
        Channel,
        ChannelCallback,
        Packet,
        PacketKind,
        RingConfig, //
    },
    gpadl::Gpadl,
    guid::Guid,
    mmio::MmioRange, //
};

/// Whether this is a confidential VM, whose memory the host does not see unless told to.
pub fn is_isolated() -> bool {
    // SAFETY: No requirements.
    unsafe { bindings::vaccel_hv_is_isolated() }
}

/// An adapter for the registration of VMBus drivers.
pub struct Adapter<T: Driver>(PhantomData<T>);

// SAFETY:
// - `bindings::hv_driver` is a C type declared as `repr(C)`.
// - `T::Data` is the type of the driver's device private data.
// - `struct hv_driver` embeds a `struct device_driver` at `DEVICE_DRIVER_OFFSET`.
unsafe impl<T: Driver> driver::DriverLayout for Adapter<T> {
    type DriverType = bindings::hv_driver;
    type DriverData<'bound> = T::Data<'bound>;
    const DEVICE_DRIVER_OFFSET: usize = offset_of!(Self::DriverType, driver);
}

// SAFETY: A call to `unregister` for an instance of `DriverType` is valid after a successful call
// to `register`.
unsafe impl<T: Driver> driver::RegistrationOps for Adapter<T> {
    unsafe fn register(
        drv: &Opaque<Self::DriverType>,
        name: &'static CStr,
        module: &'static ThisModule,
    ) -> Result {
        // SAFETY: The driver is not registered yet, so its fields may be set.
        unsafe {
            (*drv.get()).name = name.as_char_ptr();
            (*drv.get()).probe = Some(Self::probe_callback);
            (*drv.get()).remove = Some(Self::remove_callback);
            (*drv.get()).shutdown = Some(Self::shutdown_callback);
            (*drv.get()).id_table = T::ID_TABLE.as_ptr();
            (*drv.get()).driver.probe_type = bindings::probe_type_PROBE_PREFER_ASYNCHRONOUS;
        }

        // SAFETY: The driver is initialised, and stays pinned until it is unregistered.
        to_result(unsafe {
            bindings::__vmbus_driver_register(drv.get(), module.as_ptr(), name.as_char_ptr())
        })
    }

    unsafe fn unregister(drv: &Opaque<Self::DriverType>) {
        // SAFETY: The driver is registered by the safety requirements.
        unsafe { bindings::vmbus_driver_unregister(drv.get()) };
    }
}

impl<T: Driver> Adapter<T> {
    extern "C" fn probe_callback(
        dev: *mut bindings::hv_device,
        id: *const bindings::hv_vmbus_device_id,
    ) -> c_int {
        // SAFETY: The bus calls this with a valid device.
        //
        // INVARIANT: `dev` is valid for the duration of `probe_callback()`.
        let dev = unsafe { &*dev.cast::<Device<device::CoreInternal<'_>>>() };

        // SAFETY: `DeviceId` is a transparent wrapper of `struct hv_vmbus_device_id`, and the bus
        // passes null or a valid pointer.
        let id = unsafe { id.cast::<DeviceId>().as_ref() };
        // SAFETY: `id` comes from `T::ID_TABLE`, or from user space, and then its data is 0.
        let info = id.and_then(|id| unsafe { id.info_unchecked_opt::<T::IdInfo>() });

        from_result(|| {
            let data = T::probe(dev, info);

            dev.as_ref().set_drvdata(data)?;
            Ok(0)
        })
    }

    extern "C" fn remove_callback(dev: *mut bindings::hv_device) {
        // SAFETY: The bus calls this with a valid device.
        //
        // INVARIANT: `dev` is valid for the duration of `remove_callback()`.
        let dev = unsafe { &*dev.cast::<Device<device::CoreInternal<'_>>>() };

        // SAFETY: The bus calls this only after a successful probe, which stored a
        // `Pin<KBox<T::Data<'_>>>`.
        let data = unsafe { dev.as_ref().drvdata_borrow::<T::Data<'_>>() };

        T::unbind(dev, data);
    }

    extern "C" fn shutdown_callback(dev: *mut bindings::hv_device) {
        // SAFETY: The bus calls this with a valid device, and holds the device lock, so that it is
        // not unbound meanwhile.
        //
        // INVARIANT: `dev` is valid for the duration of `shutdown_callback()`.
        let dev = unsafe { &*dev.cast::<Device<device::CoreInternal<'_>>>() };

        // SAFETY: The bus calls this only for bound devices: the probe stored a
        // `Pin<KBox<T::Data<'_>>>`.
        let data = unsafe { dev.as_ref().drvdata_borrow::<T::Data<'_>>() };

        T::shutdown(dev, data);
    }
}

/// Abstraction for `struct hv_vmbus_device_id`: a class of devices.
#[repr(transparent)]
#[derive(Clone, Copy)]
pub struct DeviceId(bindings::hv_vmbus_device_id);

impl DeviceId {
    /// Matches the devices of the class `class`.
    pub const fn new(class: Guid) -> Self {
        let mut id: bindings::hv_vmbus_device_id = pin_init::zeroed();
        id.guid = class.into_raw();
        Self(id)
    }
}

// SAFETY: `DeviceId` is a transparent wrapper of `struct hv_vmbus_device_id`.
unsafe impl RawDeviceId for DeviceId {
    type RawType = bindings::hv_vmbus_device_id;
}

// SAFETY: `DRIVER_DATA_OFFSET` is the offset of the `driver_data` field.
unsafe impl RawDeviceIdIndex for DeviceId {
    const DRIVER_DATA_OFFSET: usize = offset_of!(bindings::hv_vmbus_device_id, driver_data);
}

/// The type of a VMBus driver's id table.
pub type IdTable<T> = &'static dyn kernel::device_id::IdTable<DeviceId, T>;

/// Creates a VMBus `IdTable` with its alias for modpost.
macro_rules! vmbus_device_table {
    ($($tt:tt)*) => {
        ::kernel::module_device_table!("vmbus", $crate::vmbus::DeviceId, $($tt)*);
    };
}
pub(crate) use vmbus_device_table;

/// A VMBus driver.
pub trait Driver {
    /// What the id table says about a class of devices.
    type IdInfo: 'static;

    /// The driver's data of a bound device; dropped after [`Driver::unbind`].
    type Data<'bound>: Send + 'bound;

    /// The classes of devices the driver is for.
    const ID_TABLE: IdTable<Self::IdInfo>;

    /// Called when a device of the driver was offered.
    fn probe<'bound>(
        dev: &'bound Device<device::Core<'_>>,
        id_info: Option<&'bound Self::IdInfo>,
    ) -> impl PinInit<Self::Data<'bound>, Error> + 'bound;

    /// Called when the device goes: the driver is unbound or the host took its offer back.
    ///
    /// In the second case nothing that was sent is answered any more. The channel has to be closed
    /// when the data is dropped, if not before.
    fn unbind<'bound>(dev: &'bound Device<device::Core<'_>>, this: Pin<&Self::Data<'bound>>) {
        let _ = (dev, this);
    }

    /// Called when the system goes down or boots another kernel: the host must stop using memory
    /// of this one.
    fn shutdown<'bound>(dev: &'bound Device<device::Core<'_>>, this: Pin<&Self::Data<'bound>>) {
        let _ = (dev, this);
    }
}

/// A device on the VMBus.
///
/// A reference keeps the device's channel structure, and the channel's number on the host: give it
/// back soon after unbind.
///
/// # Invariants
///
/// A valid `struct hv_device` created by the C portion of the kernel, with a channel that lives as
/// long as the device.
#[repr(transparent)]
pub struct Device<Ctx: device::DeviceContext = device::Normal>(
    Opaque<bindings::hv_device>,
    PhantomData<Ctx>,
);

impl<Ctx: device::DeviceContext> Device<Ctx> {
    fn as_raw(&self) -> *mut bindings::hv_device {
        self.0.get()
    }

    /// The device's primary channel.
    fn channel(&self) -> *mut bindings::vmbus_channel {
        // SAFETY: The device is valid by the type invariants, and its channel does not change.
        unsafe { (*self.as_raw()).channel }
    }
}

impl Device {
    /// The class of the device.
    pub fn class(&self) -> Guid {
        // SAFETY: The device is valid by the type invariants; the field does not change.
        Guid::from_raw(unsafe { (*self.as_raw()).dev_type })
    }

    /// Which device of its class this is.
    pub fn instance(&self) -> Guid {
        // SAFETY: The device is valid by the type invariants; the field does not change.
        Guid::from_raw(unsafe { (*self.as_raw()).dev_instance })
    }

    /// How much I/O space the device wants, in MiB.
    pub fn mmio_megabytes(&self) -> u16 {
        // SAFETY: The channel is valid by the type invariants; the offer does not change. The field
        // may be unaligned.
        unsafe { (&raw const (*self.channel()).offermsg.offer.mmio_megabytes).read_unaligned() }
    }

    /// Whether the host took its offer back.
    pub fn rescinded(&self) -> bool {
        // SAFETY: The channel is valid by the type invariants. The access is volatile because the
        // bus sets the flag at any time.
        unsafe { (&raw const (*self.channel()).rescind).read_volatile() }
    }
}

// SAFETY: `Device` is a transparent wrapper of `struct hv_device`, and `OFFSET` is that of its
// `struct device`.
unsafe impl<Ctx: device::DeviceContext> device::AsBusDevice<Ctx> for Device<Ctx> {
    const OFFSET: usize = offset_of!(bindings::hv_device, device);
}

// SAFETY: `Device` is a transparent wrapper of a type that does not depend on its generic argument.
kernel::impl_device_context_deref!(unsafe { Device });
kernel::impl_device_context_into_aref!(Device);

// SAFETY: VMBus devices are reference counted; the count is the one these functions change.
unsafe impl AlwaysRefCounted for Device {
    fn inc_ref(&self) {
        let dev: &device::Device = self.as_ref();
        dev.inc_ref();
    }

    unsafe fn dec_ref(obj: NonNull<Self>) {
        // SAFETY: By the safety requirements `obj` is valid.
        let dev: &device::Device = unsafe { obj.as_ref() }.as_ref();

        // SAFETY: By the safety requirements the caller gives up a reference.
        unsafe { device::Device::dec_ref(dev.into()) };
    }
}

impl<Ctx: device::DeviceContext> AsRef<device::Device<Ctx>> for Device<Ctx> {
    fn as_ref(&self) -> &device::Device<Ctx> {
        // SAFETY: By the type invariants `self.as_raw()` is a valid `struct hv_device`.
        let dev = unsafe { &raw mut (*self.as_raw()).device };

        // SAFETY: `dev` is a valid `struct device`.
        unsafe { device::Device::from_raw(dev) }
    }
}

// SAFETY: A device is reference counted and can be released on any thread.
unsafe impl Send for Device {}

// SAFETY: The methods of `Device` are safe to call concurrently.
unsafe impl Sync for Device {}

// SAFETY: As for `Device`; the context is a marker of size zero.
unsafe impl Sync for Device<device::Bound> {}
