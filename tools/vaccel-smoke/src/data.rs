// SPDX-License-Identifier: MIT OR Apache-2.0
//! The data of the gemm and digits tests: built in, or from a folder.

use std::borrow::Cow;
use std::path::PathBuf;

use crate::failure::Failure;
use crate::npy::{Array, Element, NpyError};

macro_rules! built_in {
    ($($name:literal),* $(,)?) => {
        /// The files by their path under tools/data.
        const BUILT_IN: &[(&str, &[u8])] = &[$((
            $name,
            include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/../data/", $name)),
        ),)*];
    };
}

built_in!(
    "digits/images.npy",
    "digits/labels.npy",
    "digits/w1.npy",
    "digits/b1.npy",
    "digits/w2.npy",
    "digits/b2.npy",
    "gemm/a.npy",
    "gemm/b.npy",
    "gemm/product.npy",
);

/// Where arrays come from.
#[derive(Clone, Debug, Default)]
pub struct Data {
    folder: Option<PathBuf>,
}

impl Data {
    /// From `folder`, or the built-in files.
    pub const fn new(folder: Option<PathBuf>) -> Self {
        Self { folder }
    }

    /// Whether the files are the built-in ones, about which more is known than their shapes.
    pub const fn is_built_in(&self) -> bool {
        self.folder.is_none()
    }

    /// Reads one array.
    pub fn array<T: Element>(&self, name: &str) -> Result<Array<T>, Failure> {
        let named = |error| Failure::Data {
            file: match &self.folder {
                Some(folder) => folder.join(name).display().to_string(),
                None => name.to_owned(),
            },
            error,
        };
        let bytes = self.bytes(name).map_err(named)?;
        Array::parse(&bytes).map_err(named)
    }

    /// Reads one array of a certain shape.
    pub fn shaped<T: Element>(&self, name: &str, shape: &[usize]) -> Result<Array<T>, Failure> {
        let array = self.array(name)?;
        array.expect_shape(shape).map_err(|error| Failure::Data {
            file: name.to_owned(),
            error,
        })
    }

    fn bytes(&self, name: &str) -> Result<Cow<'static, [u8]>, NpyError> {
        match &self.folder {
            Some(folder) => std::fs::read(folder.join(name))
                .map(Cow::Owned)
                .map_err(|error| NpyError::Io(error.to_string())),
            None => BUILT_IN
                .iter()
                .find(|(built_in, _)| *built_in == name)
                .map(|(_, bytes)| Cow::Borrowed(*bytes))
                .ok_or_else(|| NpyError::Io("not built in".into())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Proves that the built-in files are readable and have the shapes that the jobs expect.
    #[test]
    fn built_in_files() {
        let data = Data::default();
        data.shaped::<u8>("digits/images.npy", &[1797, 64]).unwrap();
        let labels = data.shaped::<u8>("digits/labels.npy", &[1797]).unwrap();
        assert!(labels.data.iter().all(|label| *label < 10));
        data.shaped::<f32>("digits/w2.npy", &[128, 10]).unwrap();
        data.shaped::<f32>("gemm/product.npy", &[96, 80]).unwrap();
    }

    /// Proves that a missing folder is an error that names the file.
    #[test]
    fn missing_folder() {
        let data = Data::new(Some("/nonexistent".into()));
        let error = data.array::<f32>("gemm/a.npy").unwrap_err();
        assert!(error.to_string().starts_with("/nonexistent/gemm/a.npy: "));
    }
}
