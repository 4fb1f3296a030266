// SPDX-License-Identifier: MIT OR Apache-2.0
//! Why there is no device: module, function, node, permission, in the order in which to look.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use libvaccel::enumerate::{candidates, Roots};

use crate::failure::{Exit, Stop};

/// PCI vendor of the paravirtualised functions, and their device ids.
const VENDOR: &str = "0x1414";
const DEVICES: [&str; 2] = ["0x008a", "0x008e"];

/// Where to look; tests use other folders.
#[derive(Debug)]
pub struct System {
    /// `/sys`.
    pub sys: PathBuf,
    /// `/dev`.
    pub dev: PathBuf,
}

impl Default for System {
    fn default() -> Self {
        Self {
            sys: "/sys".into(),
            dev: "/dev".into(),
        }
    }
}

impl System {
    /// What the library needs to know of it.
    pub fn roots(&self) -> Roots {
        Roots {
            class: self.sys.join("class/accel"),
            nodes: self.dev.join("accel"),
        }
    }

    /// Says what is missing.
    pub fn no_device(&self) -> Stop {
        Stop {
            exit: Exit::NoDevice,
            message: "no vaccel accelerator".into(),
            advice: self.diagnose(),
        }
    }

    /// Says why a node that exists cannot be opened.
    pub fn no_permission(&self, node: &Path) -> Stop {
        let advice = match fs::metadata(node) {
            Ok(status) => format!(
                "{} has mode {:o} and belongs to user {}, group {}: join that group, or run as root",
                node.display(),
                status.mode() & 0o777,
                status.uid(),
                status.gid()
            ),
            Err(error) => format!("{}: {error}", node.display()),
        };
        Stop {
            exit: Exit::Environment,
            message: format!("no permission to open {}", node.display()),
            advice: vec![advice],
        }
    }

    fn diagnose(&self) -> Vec<String> {
        let mut advice = Vec::new();
        let functions = self.functions();
        if functions.is_empty() {
            advice.push(
                "no PCI function 1414:008a or 1414:008e: this machine has no virtual GPU".into(),
            );
        } else {
            advice.push(format!("virtual GPU at {}", functions.join(", ")));
        }
        if !self.sys.join("module/vaccel").exists() {
            advice.push("the module vaccel is not loaded: modprobe vaccel".into());
        }
        let nodes = candidates(&self.roots()).unwrap_or_default();
        if nodes.is_empty() {
            advice.push(format!("{} has no accel device", self.sys.display()));
        }
        for node in nodes {
            let driver = node.driver.as_deref().unwrap_or("none");
            let state = if node.node.exists() {
                ""
            } else {
                ", but the node does not exist: is devtmpfs mounted?"
            };
            advice.push(format!(
                "{} is of driver {driver}{state}",
                node.node.display()
            ));
        }
        advice
    }

    fn functions(&self) -> Vec<String> {
        let read = |path: PathBuf| fs::read_to_string(path).unwrap_or_default();
        let mut found: Vec<String> = fs::read_dir(self.sys.join("bus/pci/devices"))
            .into_iter()
            .flatten()
            .flatten()
            .filter(|entry| {
                let device = read(entry.path().join("device"));
                read(entry.path().join("vendor")).trim() == VENDOR
                    && DEVICES.contains(&device.trim())
            })
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .collect();
        found.sort();
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Tree(PathBuf);

    impl Tree {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("smoke-{name}-{}", std::process::id()));
            let _ = fs::remove_dir_all(&path);
            fs::create_dir_all(&path).unwrap();
            Self(path)
        }

        fn system(&self) -> System {
            System {
                sys: self.0.join("sys"),
                dev: self.0.join("dev"),
            }
        }

        fn function(&self, address: &str, vendor: &str, device: &str) {
            let folder = self.0.join("sys/bus/pci/devices").join(address);
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join("vendor"), vendor).unwrap();
            fs::write(folder.join("device"), device).unwrap();
        }
    }

    impl Drop for Tree {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    /// Proves that an ordinary machine is told that it has no virtual GPU.
    #[test]
    fn nothing_there() {
        let tree = Tree::new("nothing");
        tree.function("0000:00:01.0", "0x8086\n", "0x1234\n");
        let stop = tree.system().no_device();
        assert_eq!(stop.exit, Exit::NoDevice);
        let advice = stop.advice.join("\n");
        assert!(advice.contains("no virtual GPU"), "{advice}");
        assert!(advice.contains("modprobe vaccel"), "{advice}");
    }

    /// Proves that with a virtual GPU present the missing module is what is named.
    #[test]
    fn module_missing() {
        let tree = Tree::new("module");
        tree.function("0000:00:02.0", "0x1414\n", "0x008a\n");
        let advice = tree.system().no_device().advice.join("\n");
        assert!(advice.contains("virtual GPU at 0000:00:02.0"), "{advice}");
        assert!(advice.contains("modprobe vaccel"), "{advice}");
    }

    /// Proves that a node of another driver, and one that was not made, are named.
    #[test]
    fn nodes_are_named() {
        let tree = Tree::new("nodes");
        let class = tree.0.join("sys/class/accel/accel0/device");
        fs::create_dir_all(&class).unwrap();
        std::os::unix::fs::symlink("/x/drivers/ivpu", class.join("driver")).unwrap();
        let advice = tree.system().no_device().advice.join("\n");
        assert!(
            advice.contains("accel0 is of driver ivpu, but the node"),
            "{advice}"
        );
    }
}
