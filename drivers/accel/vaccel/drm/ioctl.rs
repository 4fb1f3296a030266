// SPDX-License-Identifier: GPL-2.0-only

//! DRM ioctl tables.
//!
//! C header: [`include/drm/drm_ioctl.h`](srctree/include/drm/drm_ioctl.h)

use core::{
    marker::PhantomData,
    ptr::NonNull, //
};

use kernel::{
    prelude::*,
    str::as_char_ptr_in_const_context, //
};

use crate::{
    bindings,
    drm, //
};

/// An entry in the ioctl table of the driver `T`; made by [`declare_ioctls!`].
#[repr(transparent)]
pub struct Ioctl<T: drm::Driver>(bindings::drm_ioctl_desc, PhantomData<fn(T)>);

impl<T: drm::Driver> Ioctl<T> {
    /// Describes the ioctl `cmd`, whose argument is an `A`.
    ///
    /// `handler` is a function or a closure without captures: only its type is kept.
    #[doc(hidden)]
    pub const fn new<A, H>(cmd: u32, flags: u32, name: &'static CStr, _handler: H) -> Self
    where
        A: FromBytes,
        H: Fn(&drm::Device<T>, &mut A, &drm::File<T::File>) -> Result<u32> + Copy,
    {
        assert!(kernel::ioctl::_IOC_SIZE(cmd) == size_of::<A>());
        assert!(size_of::<H>() == 0);

        let mut desc: bindings::drm_ioctl_desc = pin_init::zeroed();
        desc.cmd = cmd;
        desc.flags = flags;
        desc.func = Some(Self::callback::<A, H>);
        desc.name = as_char_ptr_in_const_context(name);
        Self(desc, PhantomData)
    }

    /// The function the DRM core calls.
    ///
    /// # Safety
    ///
    /// - Only for the DRM core, with a device of `T` that was registered, a file of it, and a buffer
    ///   as large as the command says.
    /// - A value of `H` must exist.
    unsafe extern "C" fn callback<A, H>(
        dev: *mut bindings::drm_device,
        data: *mut c_void,
        file: *mut bindings::drm_file,
    ) -> c_int
    where
        A: FromBytes,
        H: Fn(&drm::Device<T>, &mut A, &drm::File<T::File>) -> Result<u32> + Copy,
    {
        // SAFETY: The core holds a reference to the device during the call.
        let dev = unsafe { drm::Device::<T>::from_raw(dev) };
        // SAFETY: The file stays open during the call.
        let file = unsafe { drm::File::<T::File>::from_raw(file) };
        // SAFETY: `H` has size zero, as `new()` asserts, so there is nothing to read; it is `Copy`
        // and a value was given to `new()`, so one more may exist.
        let handler = unsafe { NonNull::<H>::dangling().as_ref() };

        let Some(guard) = dev.enter() else {
            return ENODEV.to_errno();
        };

        let data = data.cast::<A>();
        if !data.is_aligned() {
            return EINVAL.to_errno();
        }
        // SAFETY:
        // - The pointer is aligned. The buffer is as large as the command says, which is the size of
        //   `A`, as `new()` asserts, and private to this call.
        // - `A: FromBytes`: whatever user space wrote there is a valid value.
        let data = unsafe { &mut *data };

        match handler(&guard, data, file) {
            Ok(value) => i32::try_from(value).unwrap_or(ERANGE.to_errno()),
            Err(e) => e.to_errno(),
        }
    }
}

/// Declares the ioctls of a driver, inside of its [`drm::Driver`] implementation.
///
/// Each entry is `(command, argument type, flags, handler)`. Command and type are names in
/// [`uapi`](crate::bindings::uapi). The handler gets the device, the argument in kernel memory and
/// the calling file, and returns the value of the system call; the core copies the argument in and,
/// whatever the result, out again. Handlers run in a section under [`drm::Device::enter`].
///
/// Entries are in the order of their numbers, from `DRM_COMMAND_BASE` on, without gaps; that and
/// the size of the argument are checked at compile time.
macro_rules! declare_ioctls {
    ( $( ($cmd:ident, $arg:ident, $flags:expr, $handler:expr) ),* $(,)? ) => {
        const IOCTLS: &'static [$crate::drm::ioctl::Ioctl<Self>] = {
            const _: () = {
                let mut _nr = ::kernel::uapi::DRM_COMMAND_BASE;
                $(
                    assert!(::kernel::ioctl::_IOC_NR($crate::bindings::uapi::$cmd) == _nr);
                    _nr += 1;
                )*
            };

            &[ $(
                $crate::drm::ioctl::Ioctl::<Self>::new::<$crate::bindings::uapi::$arg, _>(
                    $crate::bindings::uapi::$cmd,
                    $flags,
                    ::kernel::c_str!(::core::stringify!($cmd)),
                    $handler,
                )
            ),* ]
        };
    };
}
pub(crate) use declare_ioctls;
