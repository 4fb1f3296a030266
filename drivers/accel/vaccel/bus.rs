// SPDX-License-Identifier: GPL-2.0-only

//! The bus drivers: they report what comes and goes to [`discovery`](crate::discovery).

use core::pin::Pin;

use kernel::device::Core;
use kernel::pci;
use kernel::prelude::*;

use crate::discovery::ROOM;
use crate::function;
use crate::gpupv::{
    self,
    Guid,
    Luid, //
};
use crate::vmbus;

/// Driver of the PCI functions.
pub(crate) struct FunctionDriver;

kernel::pci_device_table!(
    FUNCTIONS,
    <FunctionDriver as pci::Driver>::IdInfo,
    [
        (
            pci::DeviceId::from_id(pci::Vendor::MICROSOFT, gpupv::PCI_DEVICE_RENDER as u32),
            ()
        ),
        (
            pci::DeviceId::from_id(pci::Vendor::MICROSOFT, gpupv::PCI_DEVICE_COMPUTE as u32),
            ()
        ),
    ]
);

/// A bound PCI function.
pub(crate) struct BoundFunction {
    luid: Luid,
}

impl pci::Driver for FunctionDriver {
    type IdInfo = ();
    type Data<'bound> = BoundFunction;
    const ID_TABLE: pci::IdTable<Self::IdInfo> = &FUNCTIONS;

    fn probe<'bound>(
        dev: &'bound pci::Device<Core<'_>>,
        _id: Option<&'bound Self::IdInfo>,
    ) -> impl PinInit<BoundFunction, Error> + 'bound {
        // Run when the memory for the result is there: after it nothing may fail.
        pin_init::pin_init_scope(move || Ok(Ok::<_, Error>(probe_function(dev)?)))
    }

    fn unbind<'bound>(_dev: &'bound pci::Device<Core<'_>>, this: Pin<&BoundFunction>) {
        ROOM.lock().remove_function(this.luid);
    }
}

fn probe_function(dev: &pci::Device<Core<'_>>) -> Result<BoundFunction> {
    crate::pci::allow_64_bit_dma(dev)?;
    if vmbus::is_isolated() {
        dev_info!(
            dev,
            "not used: memory of a confidential VM cannot be shared with a GPU\n"
        );
        return Err(ENODEV);
    }
    let mut room = ROOM.lock();
    let function = function::read(dev, room.version())?;
    room.add_function(dev, function)?;
    Ok(BoundFunction {
        luid: function.luid,
    })
}

/// Driver of the VMBus channels.
pub(crate) struct ChannelDriver;

/// Which channel it is.
#[derive(Clone, Copy)]
pub(crate) enum ChannelKind {
    /// The one of the VM.
    Global,
    /// The one of a virtual GPU.
    Vgpu,
}

vmbus::vmbus_device_table!(
    CHANNELS,
    <ChannelDriver as vmbus::Driver>::IdInfo,
    [
        (
            vmbus::DeviceId::new(vmbus::Guid::from_bytes(gpupv::GLOBAL_CHANNEL.to_bytes())),
            ChannelKind::Global
        ),
        (
            vmbus::DeviceId::new(vmbus::Guid::from_bytes(gpupv::VGPU_CHANNEL.to_bytes())),
            ChannelKind::Vgpu
        ),
    ]
);

impl vmbus::Driver for ChannelDriver {
    type IdInfo = ChannelKind;
    type Data<'bound> = ChannelKind;
    const ID_TABLE: vmbus::IdTable<Self::IdInfo> = &CHANNELS;

    fn probe<'bound>(
        dev: &'bound vmbus::Device<Core<'_>>,
        id: Option<&'bound ChannelKind>,
    ) -> impl PinInit<ChannelKind, Error> + 'bound {
        // As above.
        pin_init::pin_init_scope(move || Ok(Ok::<_, Error>(probe_channel(dev, id)?)))
    }

    fn unbind<'bound>(dev: &'bound vmbus::Device<Core<'_>>, this: Pin<&ChannelKind>) {
        let mut room = ROOM.lock();
        match *this {
            ChannelKind::Global => room.remove_global(dev),
            ChannelKind::Vgpu => room.remove_channel(dev, luid(dev)),
        }
    }

    fn shutdown<'bound>(dev: &'bound vmbus::Device<Core<'_>>, this: Pin<&ChannelKind>) {
        // What is left to do before another kernel starts is what unbinding does.
        Self::unbind(dev, this);
    }
}

fn probe_channel(dev: &vmbus::Device<Core<'_>>, id: Option<&ChannelKind>) -> Result<ChannelKind> {
    // An id added by hand says nothing of the kind.
    let kind = *id.ok_or(ENODEV)?;
    if vmbus::is_isolated() {
        return Err(ENODEV);
    }
    let mut room = ROOM.lock();
    match kind {
        ChannelKind::Global => room.add_global(dev)?,
        ChannelKind::Vgpu => room.add_channel(dev, luid(dev))?,
    }
    Ok(kind)
}

/// The LUID that ties a channel to its PCI function.
fn luid(dev: &vmbus::Device) -> Luid {
    Guid::from_bytes(*dev.instance().as_bytes()).luid()
}
