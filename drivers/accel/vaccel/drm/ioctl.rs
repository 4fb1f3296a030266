// SPDX-License-Identifier: GPL-2.0-only

//! DRM ioctl tables.
//!
//! C header: [`include/drm/drm_ioctl.h`](srctree/include/drm/drm_ioctl.h)

use core::marker::PhantomData;

use kernel::{
    prelude::*,
    str::as_char_ptr_in_const_context, //
};

use crate::{
    bindings,
    drm, //
};

/// A handler: gets the device, the argument in kernel memory and the calling file.
///
/// The core copies the argument in and, whatever the result, out again. The value is what the
/// system call returns.
pub(crate) type Handler<T, A> =
    fn(&drm::Device<T>, &mut A, &drm::File<<T as drm::Driver>::File>) -> Result<u32>;

/// An entry in the ioctl table of the driver `T`; made by [`declare_ioctls!`].
#[repr(transparent)]
pub(crate) struct Ioctl<T: drm::Driver>(bindings::drm_ioctl_desc, PhantomData<fn(T)>);

impl<T: drm::Driver> Ioctl<T> {
    /// Describes an ioctl; the handler only ties the types together.
    ///
    /// # Safety
    ///
    /// `func` must be fit to be called by the DRM core for ioctl `cmd` of a device of `T`.
    #[doc(hidden)]
    pub(crate) const unsafe fn new<A>(
        cmd: u32,
        flags: u32,
        name: &'static CStr,
        func: unsafe extern "C" fn(
            *mut bindings::drm_device,
            *mut c_void,
            *mut bindings::drm_file,
        ) -> c_int,
        _handler: Handler<T, A>,
    ) -> Self {
        assert!(kernel::ioctl::_IOC_SIZE(cmd) == size_of::<A>());

        let mut desc: bindings::drm_ioctl_desc = pin_init::zeroed();
        desc.cmd = cmd;
        desc.flags = flags;
        desc.func = Some(func);
        desc.name = as_char_ptr_in_const_context(name);
        Self(desc, PhantomData)
    }
}

/// Calls `handler` for an ioctl of the DRM core.
///
/// # Safety
///
/// - `dev` must be a registered device of `T`, and `file` an open file of it.
/// - `data` must point to at least `size_of::<A>()` bytes that nobody else accesses.
#[doc(hidden)]
pub(crate) unsafe fn dispatch<T: drm::Driver, A: FromBytes>(
    dev: *mut bindings::drm_device,
    data: *mut c_void,
    file: *mut bindings::drm_file,
    handler: Handler<T, A>,
) -> c_int {
    // SAFETY: By the safety requirements.
    let dev = unsafe { drm::Device::<T>::from_raw(dev) };
    // SAFETY: By the safety requirements.
    let file = unsafe { drm::File::<T::File>::from_raw(file) };

    let Some(guard) = dev.enter() else {
        return ENODEV.to_errno();
    };

    let data = data.cast::<A>();
    if !data.is_aligned() {
        return EINVAL.to_errno();
    }
    // SAFETY:
    // - The pointer is aligned, and valid and exclusive by the safety requirements.
    // - `A: FromBytes`: what user space wrote there is a valid value.
    let data = unsafe { &mut *data };

    match handler(&guard, data, file) {
        // CAST: A value that does not fit is an error below, not truncated.
        Ok(value) => i32::try_from(value).unwrap_or(ERANGE.to_errno()),
        Err(e) => e.to_errno(),
    }
}

/// Declares the ioctls of a driver, inside of its [`drm::Driver`] implementation.
///
/// Each entry is `(command, argument type, flags, handler)`: command and type are names in
/// [`uapi`](crate::bindings::uapi), the handler is a [`Handler`]. Entries are in the order of their
/// numbers, from `DRM_COMMAND_BASE` on, without gaps; that and the argument size are checked at
/// compile time. A handler runs in a section under [`drm::Device::enter`].
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

            &[ $( {
                /// # Safety
                ///
                /// Only for the DRM core, as the function of the ioctl it is in the table for.
                unsafe extern "C" fn func(
                    dev: *mut $crate::bindings::drm_device,
                    data: *mut ::kernel::ffi::c_void,
                    file: *mut $crate::bindings::drm_file,
                ) -> ::kernel::ffi::c_int {
                    // SAFETY:
                    // - The core passes a device that was registered, with the table this function
                    //   is in, and a file of it.
                    // - The core's buffer is private to the call, and as large as the command says,
                    //   which is the size of the argument type.
                    unsafe {
                        $crate::drm::ioctl::dispatch::<_, $crate::bindings::uapi::$arg>(
                            dev, data, file, $handler,
                        )
                    }
                }

                // SAFETY: `func` calls the handler that is given here, so the types it works with
                // are those of `Self` and of the command's argument.
                unsafe {
                    $crate::drm::ioctl::Ioctl::new::<$crate::bindings::uapi::$arg>(
                        $crate::bindings::uapi::$cmd,
                        $flags,
                        ::kernel::c_str!(::core::stringify!($cmd)),
                        func,
                        $handler,
                    )
                }
            } ),* ]
        };
    };
}
pub(crate) use declare_ioctls;
