// SPDX-License-Identifier: MIT OR Apache-2.0
//! Reading `.npy` files: little-endian f32 and u8 arrays in C order, of one or two dimensions.
//!
//! Format: magic, version, header length, a Python dictionary as text, then the elements.

/// Largest array, in elements; more is no input of a smoke test.
const ELEMENTS_MAX: usize = 1 << 24;

/// What is wrong with a file.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum NpyError {
    /// Not this format.
    #[error("not an .npy file")]
    Magic,
    /// A version of the format that is not known.
    #[error("format version {0} is not supported (1 to 3 are)")]
    Version(u8),
    /// The header is cut off or not understood.
    #[error("the header is not understood: {0}")]
    Header(&'static str),
    /// Elements of another type.
    #[error("elements are {found}, expected {expected}")]
    Type {
        /// In the file.
        found: String,
        /// Wanted.
        expected: &'static str,
    },
    /// Another shape.
    #[error("shape is {found:?}, expected {expected:?}")]
    Shape {
        /// In the file.
        found: Vec<usize>,
        /// Wanted.
        expected: Vec<usize>,
    },
    /// Too many elements.
    #[error("more than {ELEMENTS_MAX} elements")]
    TooLarge,
    /// The data does not fill the shape, or there is more of it.
    #[error("{found} bytes of data, the shape needs {needed}")]
    Length {
        /// In the file.
        found: usize,
        /// By the shape.
        needed: usize,
    },
    /// The file could not be read.
    #[error("{0}")]
    Io(String),
}

/// A type of elements.
pub trait Element: Sized {
    /// Its name in the header.
    const DESCR: &'static str;
    /// Its bytes.
    const BYTES: usize;
    /// From that many bytes.
    fn from_bytes(bytes: &[u8]) -> Self;
}

impl Element for f32 {
    const DESCR: &'static str = "<f4";
    const BYTES: usize = 4;
    fn from_bytes(bytes: &[u8]) -> Self {
        bytes
            .first_chunk()
            .map_or(0.0, |bytes| Self::from_le_bytes(*bytes))
    }
}

impl Element for u8 {
    const DESCR: &'static str = "|u1";
    const BYTES: usize = 1;
    fn from_bytes(bytes: &[u8]) -> Self {
        bytes.first().copied().unwrap_or(0)
    }
}

/// An array.
#[derive(Clone, Debug, PartialEq)]
pub struct Array<T> {
    /// Dimensions.
    pub shape: Vec<usize>,
    /// Elements, the last dimension first.
    pub data: Vec<T>,
}

impl<T: Element> Array<T> {
    /// Reads a file's content.
    pub fn parse(file: &[u8]) -> Result<Self, NpyError> {
        let rest = file.strip_prefix(b"\x93NUMPY").ok_or(NpyError::Magic)?;
        let cut = NpyError::Header("cut off");
        let (version, rest) = rest.split_first_chunk::<2>().ok_or(cut)?;
        let cut = || NpyError::Header("cut off");
        let (length, rest) = match version[0] {
            1 => {
                let (length, rest) = rest.split_first_chunk().ok_or_else(cut)?;
                (usize::from(u16::from_le_bytes(*length)), rest)
            }
            2 | 3 => {
                let (length, rest) = rest.split_first_chunk().ok_or_else(cut)?;
                let length = u32::from_le_bytes(*length);
                (usize::try_from(length).map_err(|_| cut())?, rest)
            }
            other => return Err(NpyError::Version(other)),
        };
        let header = rest.get(..length).ok_or_else(cut)?;
        let body = rest.get(length..).ok_or_else(cut)?;
        let header = std::str::from_utf8(header).map_err(|_| NpyError::Header("not text"))?;

        let found = quoted(after(header, "'descr':")?)?;
        if found != T::DESCR {
            return Err(NpyError::Type {
                found: found.to_owned(),
                expected: T::DESCR,
            });
        }
        if !after(header, "'fortran_order':")?.starts_with("False") {
            return Err(NpyError::Header("only C order is supported"));
        }
        let shape = dimensions(after(header, "'shape':")?)?;
        let elements = shape
            .iter()
            .try_fold(1usize, |product, extent| product.checked_mul(*extent))
            .filter(|elements| *elements <= ELEMENTS_MAX)
            .ok_or(NpyError::TooLarge)?;
        let needed = elements * T::BYTES;
        if body.len() != needed {
            return Err(NpyError::Length {
                found: body.len(),
                needed,
            });
        }
        Ok(Self {
            shape,
            data: body.chunks_exact(T::BYTES).map(T::from_bytes).collect(),
        })
    }

    /// The array if it has this shape.
    pub fn expect_shape(self, expected: &[usize]) -> Result<Self, NpyError> {
        if self.shape == expected {
            Ok(self)
        } else {
            Err(NpyError::Shape {
                found: self.shape,
                expected: expected.to_vec(),
            })
        }
    }
}

fn after<'a>(header: &'a str, key: &str) -> Result<&'a str, NpyError> {
    let (_, rest) = header
        .split_once(key)
        .ok_or(NpyError::Header("a key is missing"))?;
    Ok(rest.trim_start())
}

fn quoted(text: &str) -> Result<&str, NpyError> {
    let text = text
        .strip_prefix('\'')
        .and_then(|rest| rest.split_once('\''));
    text.map(|(word, _)| word)
        .ok_or(NpyError::Header("type is no string"))
}

fn dimensions(text: &str) -> Result<Vec<usize>, NpyError> {
    let bad = || NpyError::Header("shape is not understood");
    let inner = text.strip_prefix('(').and_then(|rest| rest.split_once(')'));
    let (inner, _) = inner.ok_or_else(bad)?;
    let shape: Vec<usize> = inner
        .split(',')
        .map(str::trim)
        .filter(|extent| !extent.is_empty())
        .map(|extent| extent.parse().map_err(|_| bad()))
        .collect::<Result<_, _>>()?;
    if (1..=2).contains(&shape.len()) {
        Ok(shape)
    } else {
        Err(NpyError::Header("one or two dimensions are supported"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(header: &str, body: &[u8]) -> Vec<u8> {
        let mut file = b"\x93NUMPY\x01\x00".to_vec();
        file.extend((header.len() as u16).to_le_bytes());
        file.extend(header.as_bytes());
        file.extend(body);
        file
    }

    /// Proves that both element types and both numbers of dimensions are read.
    #[test]
    fn good_files() {
        let header = "{'descr': '<f4', 'fortran_order': False, 'shape': (1, 2), }   \n";
        let body = [1f32.to_le_bytes(), (-2.5f32).to_le_bytes()].concat();
        let array = Array::<f32>::parse(&file(header, &body)).unwrap();
        assert_eq!(array.shape, [1, 2]);
        assert_eq!(array.data, [1.0, -2.5]);
        let header = "{'descr': '|u1', 'fortran_order': False, 'shape': (3,), }\n";
        let array = Array::<u8>::parse(&file(header, &[7, 8, 9])).unwrap();
        assert_eq!(array.shape, [3]);
        assert_eq!(array.data, [7, 8, 9]);
    }

    /// Proves that each way of being wrong is found: nothing is read half.
    #[test]
    fn bad_files() {
        let parse =
            |header: &str, body: &[u8]| Array::<u8>::parse(&file(header, body)).unwrap_err();
        let good = "{'descr': '|u1', 'fortran_order': False, 'shape': (3,), }";
        assert_eq!(
            parse(good, &[1, 2]),
            NpyError::Length {
                found: 2,
                needed: 3
            }
        );
        assert!(matches!(parse(good, &[1; 4]), NpyError::Length { .. }));
        assert!(matches!(
            parse(&good.replace("|u1", "<f8"), &[]),
            NpyError::Type { .. }
        ));
        assert!(matches!(
            parse(&good.replace("False", "True"), &[]),
            NpyError::Header(_)
        ));
        assert!(matches!(
            parse(&good.replace("(3,)", "(3,4,5)"), &[]),
            NpyError::Header(_)
        ));
        assert_eq!(
            parse(&good.replace("3,", "99999999999, 9999999999"), &[]),
            NpyError::TooLarge
        );
        assert_eq!(Array::<u8>::parse(b"PK"), Err(NpyError::Magic));
        let mut future = file(good, &[1, 2, 3]);
        future[6] = 9;
        assert_eq!(Array::<u8>::parse(&future), Err(NpyError::Version(9)));
        let whole = file(good, &[1, 2, 3]);
        for length in 6..whole.len() {
            assert!(Array::<u8>::parse(&whole[..length]).is_err(), "{length}");
        }
    }

    /// Proves that a shape other than the expected one is refused.
    #[test]
    fn shapes() {
        let array = Array {
            shape: vec![2, 3],
            data: vec![0u8; 6],
        };
        assert!(array.clone().expect_shape(&[2, 3]).is_ok());
        assert!(array.expect_shape(&[3, 2]).is_err());
    }
}
