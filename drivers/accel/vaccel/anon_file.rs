// SPDX-License-Identifier: GPL-2.0-only

//! Files without a name, each of which stands for an object.
//!
//! C header: [`include/linux/anon_inodes.h`](srctree/include/linux/anon_inodes.h)
//!
//! User space can pass such a file on, and close it; there is nothing to read. It keeps its object, and
//! the module.

use core::{
    any::TypeId,
    ptr::NonNull, //
};

use kernel::{
    error::from_err_ptr,
    fs::{
        File,
        LocalFile, //
    },
    module::this_module,
    prelude::*,
    sync::{
        aref::ARef,
        Arc, //
    },
    types::ForeignOwnable, //
};

use crate::bindings;

/// What a file stands for.
///
/// It is dropped where one can sleep.
pub trait Content: Send + Sync + 'static {
    /// What the file is called in `/proc/<pid>/fd`.
    const NAME: &'static CStr;
}

/// Makes a file of `content`. May sleep.
///
/// # Errors
///
/// `ENOMEM`, `ENFILE` if there cannot be more files, `ENOENT` while the module is being unloaded.
pub fn create<T: Content>(content: Arc<T>) -> Result<ARef<File>> {
    let inner = KBox::into_raw(KBox::new(Inner::new(content), GFP_KERNEL)?);

    // SAFETY:
    // - The name is a valid string, which is copied.
    // - The table lives as long as the module, which it names as its owner.
    let file = from_err_ptr(unsafe {
        bindings::anon_inode_getfile(T::NAME.as_char_ptr(), &raw const FOPS.0, inner.cast(), 0)
    });
    match file.and_then(|file| NonNull::new(file).ok_or(ENOMEM)) {
        // SAFETY: The file is a new one; its reference is ours, and nobody uses its position.
        Ok(file) => Ok(unsafe { ARef::from_raw(file.cast()) }),
        Err(e) => {
            // SAFETY: There is no file, so the box is still ours.
            drop(unsafe { KBox::from_raw(inner) });
            Err(e)
        }
    }
}

/// What a file stands for, by a file descriptor of the calling process.
///
/// # Errors
///
/// `EBADF` if there is no such descriptor, `EINVAL` if it is not that of a file of such content.
pub fn from_fd<T: Content>(fd: i32) -> Result<Arc<T>> {
    // CAST: No descriptor is as large as a negative one becomes.
    let file = LocalFile::fget(fd as u32)?;

    // SAFETY: The file is valid, and neither field of it changes once it is open.
    let (fops, inner) = unsafe { ((*file.as_ptr()).f_op, (*file.as_ptr()).private_data) };
    if !core::ptr::eq(fops, &raw const FOPS.0) {
        return Err(EINVAL);
    }
    // SAFETY: A file with that table, which nobody else has, was made by `create()`. It keeps what
    // belongs to it, which nobody changes, until its last reference is gone.
    unsafe { &*inner.cast::<Inner>() }.get().ok_or(EINVAL)
}

/// What belongs to a file.
///
/// # Invariants
///
/// `content` is what `Arc<T>::into_foreign()` returned, for the `T` of which `kind` is the number and
/// `release` the function.
struct Inner {
    kind: TypeId,
    content: *mut c_void,
    release: unsafe fn(*mut c_void),
}

impl Inner {
    fn new<T: Content>(content: Arc<T>) -> Self {
        // INVARIANT: All three are of the same type.
        Self {
            kind: TypeId::of::<T>(),
            content: content.into_foreign(),
            release: release::<T>,
        }
    }

    /// The content, if it is of this type.
    fn get<T: Content>(&self) -> Option<Arc<T>> {
        if self.kind != TypeId::of::<T>() {
            return None;
        }
        // SAFETY: By the type invariants, and because of the check, it is an `Arc<T>`, which is not
        // taken back as long as this value exists.
        Some(unsafe { Arc::<T>::borrow(self.content) }.into())
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // SAFETY: By the type invariants the function is for the content, which nobody uses any more.
        unsafe { (self.release)(self.content) };
    }
}

/// Drops the content of a file.
///
/// # Safety
///
/// `content` must be what `Arc<T>::into_foreign()` returned, and must not be used any more.
unsafe fn release<T: Content>(content: *mut c_void) {
    // SAFETY: By the safety requirements.
    drop(unsafe { Arc::<T>::from_foreign(content) });
}

/// The table of all files made here. It is one, by whose address they are known.
static FOPS: FileOperations = FileOperations({
    let mut fops: bindings::file_operations = pin_init::zeroed();

    fops.owner = this_module::<crate::LocalModule>().as_ptr();
    fops.release = Some(release_callback);

    fops
});

/// A table that nobody changes.
struct FileOperations(bindings::file_operations);

// SAFETY: The table is only read.
unsafe impl Sync for FileOperations {}

/// The `release` callback of `struct file_operations`.
///
/// # Safety
///
/// Only for the core, with a file of [`create`] whose last reference is gone.
unsafe extern "C" fn release_callback(
    _inode: *mut bindings::inode,
    file: *mut bindings::file,
) -> c_int {
    // SAFETY: By the safety requirements this is the box that `create()` made for the file, and nobody
    // can reach it any more.
    drop(unsafe { KBox::from_raw((*file).private_data.cast::<Inner>()) });
    0
}
