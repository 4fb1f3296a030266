// SPDX-License-Identifier: MIT OR Apache-2.0
//! The kernel's own counts of what goes over VMBus channels, from sysfs.
//!
//! A signal to the host is what costs an exit; a packet that is written while the host still reads
//! needs none. An interrupt is the other direction.

use std::fs;
use std::ops::Sub;
use std::path::Path;

/// VMBus devices.
const DEVICES: &str = "/sys/bus/vmbus/devices";
/// Name of the driver whose channels are counted.
const DRIVER: &str = "vaccel";

/// Counts of all channels of the driver since they were opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Signals {
    /// From the guest.
    pub to_host: u64,
    /// From the host.
    pub from_host: u64,
}

impl Sub for Signals {
    type Output = Self;

    fn sub(self, before: Self) -> Self {
        Self {
            to_host: self.to_host.saturating_sub(before.to_host),
            from_host: self.from_host.saturating_sub(before.from_host),
        }
    }
}

impl Signals {
    /// The counts now; none where the kernel tells none.
    pub fn now() -> Option<Self> {
        Self::below(Path::new(DEVICES))
    }

    fn below(devices: &Path) -> Option<Self> {
        let mut sum = None;
        for device in fs::read_dir(devices).ok()?.flatten() {
            let driver = fs::read_link(device.path().join("driver"));
            if !driver.is_ok_and(|driver| driver.ends_with(DRIVER)) {
                continue;
            }
            for channel in fs::read_dir(device.path().join("channels")).ok()?.flatten() {
                let all: &mut Self = sum.get_or_insert_default();
                all.to_host += count(&channel.path().join("events"))?;
                all.from_host += count(&channel.path().join("interrupts"))?;
            }
        }
        sum
    }
}

fn count(path: &Path) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    /// Proves that the channels of this driver are summed up and those of others left out, and that
    /// without any there is no count.
    #[test]
    fn sums() {
        let root = std::env::temp_dir().join(format!("vaccel-channels-{}", std::process::id()));
        for (device, driver, channels) in [("a", "vaccel", 2), ("b", "hv_netvsc", 1)] {
            for channel in 1..=channels {
                let folder = root.join(format!("{device}/channels/{channel}"));
                fs::create_dir_all(&folder).unwrap();
                fs::write(folder.join("events"), format!("{channel}\n")).unwrap();
                fs::write(folder.join("interrupts"), "10\n").unwrap();
            }
            symlink(
                format!("/drivers/{driver}"),
                root.join(device).join("driver"),
            )
            .unwrap();
        }
        let seen = Signals::below(&root);
        fs::remove_dir_all(root.join("a")).unwrap();
        let without = Signals::below(&root);
        fs::remove_dir_all(&root).unwrap();
        let all = Signals {
            to_host: 3,
            from_host: 20,
        };
        assert_eq!(seen, Some(all));
        assert_eq!(without, None);
        assert_eq!((all - all).to_host, 0);
    }
}
