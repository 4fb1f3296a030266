// SPDX-License-Identifier: MIT OR Apache-2.0
//! Finding devices: sysfs for what exists, the node for who it is.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::device::Device;
use crate::error::{Error, ErrorKind, Result};
use crate::sys;

/// Where to look. The default is the running system; tests use other roots.
#[derive(Clone, Debug)]
pub struct Roots {
    /// Usually `/sys/class/accel`.
    pub class: PathBuf,
    /// Usually `/dev/accel`.
    pub nodes: PathBuf,
}

impl Default for Roots {
    fn default() -> Self {
        Self {
            class: "/sys/class/accel".into(),
            nodes: "/dev/accel".into(),
        }
    }
}

/// An accel node as sysfs describes it; nothing was opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Name, such as `accel0`.
    pub name: String,
    /// Device node.
    pub node: PathBuf,
    /// PCI address of the parent, such as `0000:00:02.0`.
    pub pci: Option<String>,
    /// Kernel driver bound to the parent.
    pub driver: Option<String>,
}

impl Candidate {
    /// Opens the node.
    pub fn open(&self) -> Result<Device> {
        Device::open(&self.node)
    }
}

/// How a user names a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selector {
    /// `/dev/accel/accel0` or `accel0`.
    Node(PathBuf),
    /// `0000:00:02.0`.
    Pci(String),
    /// The LUID as `list` shows it, sixteen hex digits.
    Luid(u64),
}

impl Selector {
    /// Understands a node, a node's name, a PCI address or a LUID.
    pub fn parse(text: &str) -> Result<Self> {
        let bad = || {
            Error::local(
                ErrorKind::InvalidArgument,
                "device selection",
                format!(
                    "\"{text}\" is no node (/dev/accel/accel0), name (accel0), \
                     PCI address (0000:00:02.0) or LUID (16 hex digits)"
                ),
            )
        };
        if text.starts_with('/') {
            return Ok(Self::Node(text.into()));
        }
        if is_accel_name(text) {
            return Ok(Self::Node(Roots::default().nodes.join(text)));
        }
        if is_pci_address(text) {
            return Ok(Self::Pci(text.to_lowercase()));
        }
        if text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return u64::from_str_radix(text, 16)
                .map(Self::Luid)
                .map_err(|_| bad());
        }
        Err(bad())
    }

    /// Opens the one device that matches.
    pub fn open(&self, roots: &Roots) -> Result<Device> {
        if let Self::Node(path) = self {
            return Device::open(path);
        }
        let mut matching = Vec::new();
        for candidate in candidates(roots)? {
            match self {
                Self::Pci(address) => {
                    if candidate.pci.as_ref() == Some(address) {
                        matching.push(candidate.open()?);
                    }
                }
                // Nodes of other drivers, or ones the user may not open, have no LUID to compare.
                Self::Luid(luid) => matching.extend(
                    candidate
                        .open()
                        .ok()
                        .filter(|device| device.param(sys::PARAM_ADAPTER_LUID) == Ok(*luid)),
                ),
                Self::Node(_) => {}
            }
        }
        let count = matching.len();
        match (matching.pop(), count) {
            (Some(device), 1) => Ok(device),
            (Some(_), _) => Err(Error::local(
                ErrorKind::Ambiguous,
                "device selection",
                format!("{count} devices match {self}"),
            )),
            (None, _) => Err(Error::local(
                ErrorKind::NotFound,
                "device selection",
                format!("no device matches {self}"),
            )),
        }
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Node(path) => path.display().fmt(f),
            Self::Pci(address) => f.write_str(address),
            Self::Luid(luid) => write!(f, "{luid:016x}"),
        }
    }
}

fn is_accel_name(name: &str) -> bool {
    name.strip_prefix("accel").is_some_and(|digits| {
        !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
    })
}

fn is_pci_address(text: &str) -> bool {
    // dddd:bb:dd.f, where ':' and '.' stand at fixed places.
    text.len() == 12
        && text.bytes().enumerate().all(|(index, byte)| match index {
            4 | 7 => byte == b':',
            10 => byte == b'.',
            _ => byte.is_ascii_hexdigit(),
        })
}

/// All accel nodes in order of their numbers, of whatever driver. A machine without the class has
/// none.
pub fn candidates(roots: &Roots) -> Result<Vec<Candidate>> {
    let entries = match std::fs::read_dir(&roots.class) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => {
            let path = roots.class.display().to_string();
            return Err(Error::from_io("enumerate", &error, path));
        }
    };
    let mut found: Vec<Candidate> = entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| is_accel_name(name))
        .map(|name| {
            let parent = roots.class.join(&name).join("device");
            Candidate {
                node: roots.nodes.join(&name),
                pci: link_name(&parent).filter(|target| is_pci_address(target)),
                driver: link_name(&parent.join("driver")),
                name,
            }
        })
        .collect();
    found.sort_by_key(|candidate| (candidate.name.len(), candidate.name.clone()));
    Ok(found)
}

/// Last component of what a link points to.
fn link_name(link: &Path) -> Option<String> {
    let target = std::fs::read_link(link).ok()?;
    Some(target.file_name()?.to_str()?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    struct Tree(PathBuf);

    impl Tree {
        fn new(name: &str) -> Self {
            let path =
                std::env::temp_dir().join(format!("libvaccel-{name}-{}", std::process::id()));
            let _ = std::fs::remove_dir_all(&path);
            std::fs::create_dir_all(path.join("class")).unwrap();
            Self(path)
        }

        fn roots(&self) -> Roots {
            Roots {
                class: self.0.join("class"),
                nodes: self.0.join("nodes"),
            }
        }

        fn add(&self, accel: &str, pci: &str) {
            let device = self.0.join("devices").join(pci);
            std::fs::create_dir_all(&device).unwrap();
            let _ = symlink("../../drivers/vaccel", device.join("driver"));
            let node = self.0.join("class").join(accel);
            std::fs::create_dir_all(&node).unwrap();
            symlink(&device, node.join("device")).unwrap();
        }
    }

    impl Drop for Tree {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    /// Proves that nodes are listed by number with parent and driver, and that other entries of
    /// the class are not taken for nodes.
    #[test]
    fn sysfs_is_read() {
        let tree = Tree::new("list");
        tree.add("accel10", "0001:00:00.0");
        tree.add("accel2", "0000:00:02.0");
        std::fs::create_dir(tree.0.join("class/accelerometer")).unwrap();
        let found = candidates(&tree.roots()).unwrap();
        let names: Vec<&str> = found.iter().map(|c| c.name.as_str()).collect();
        assert_eq!(names, ["accel2", "accel10"]);
        assert_eq!(found[0].pci.as_deref(), Some("0000:00:02.0"));
        assert_eq!(found[0].driver.as_deref(), Some("vaccel"));
        assert_eq!(found[0].node, tree.roots().nodes.join("accel2"));
    }

    /// Proves that a machine without the accel class is an empty list, not an error.
    #[test]
    fn no_class_no_devices() {
        let roots = Roots {
            class: "/nonexistent".into(),
            nodes: "/nonexistent".into(),
        };
        assert_eq!(candidates(&roots), Ok(Vec::new()));
        let none = Selector::Pci("0000:00:02.0".into())
            .open(&roots)
            .unwrap_err();
        assert_eq!(none.kind(), ErrorKind::NotFound);
    }

    /// Proves that each form is understood and anything else refused.
    #[test]
    fn selectors() {
        let node = Selector::Node("/dev/accel/accel0".into());
        assert_eq!(Selector::parse("accel0"), Ok(node.clone()));
        assert_eq!(Selector::parse("/dev/accel/accel0"), Ok(node));
        assert_eq!(
            Selector::parse("0000:00:1F.0"),
            Ok(Selector::Pci("0000:00:1f.0".into()))
        );
        assert_eq!(
            Selector::parse("00000000deadbeef"),
            Ok(Selector::Luid(0xdead_beef))
        );
        for bad in ["", "accel", "0", "gpu0", "0000:00:02", "deadbeef"] {
            assert!(Selector::parse(bad).is_err(), "{bad}");
        }
    }
}
