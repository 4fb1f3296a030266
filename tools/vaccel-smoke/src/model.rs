// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the program says, before it is text, JSON or KTAP.

use serde::Serialize;

/// Version of the JSON.
pub const SCHEMA: u32 = 1;

/// A line of `list`.
#[derive(Debug, Serialize)]
pub struct Entry {
    /// Device node.
    pub node: String,
    /// LUID, sixteen hex digits.
    pub luid: Option<String>,
    /// PCI address.
    pub pci: Option<String>,
    /// Adapter name.
    pub name: Option<String>,
    /// GPU-PV interface version.
    pub interface_version: Option<u64>,
    /// `ready`, or why it cannot be used.
    pub state: String,
}

/// Answer of `list`.
#[derive(Debug, Serialize)]
pub struct List {
    /// [`SCHEMA`].
    pub schema: u32,
    /// The devices.
    pub devices: Vec<Entry>,
}

/// Answer of `info`; also part of a run's report. What is not known is null.
#[derive(Clone, Debug, Serialize, Default)]
pub struct DeviceInfo {
    /// Device node.
    pub node: String,
    /// Adapter name.
    pub name: Option<String>,
    /// Instance id on the host.
    pub instance_id: Option<String>,
    /// LUID in the guest.
    pub luid: Option<String>,
    /// LUID of the physical adapter.
    pub host_adapter_luid: Option<String>,
    /// LUID of the virtual GPU on the host.
    pub host_vgpu_luid: Option<String>,
    /// GPU-PV interface version.
    pub interface_version: Option<u64>,
    /// The host offers a compute accelerator.
    pub compute_only: Option<bool>,
    /// Optional parts of the driver's interface.
    pub features: Option<Vec<String>>,
    /// What the host provides.
    pub host_capabilities: Option<Vec<String>>,
    /// Bytes of I/O space.
    pub io_space_bytes: Option<u64>,
    /// Largest object.
    pub object_bytes_max: Option<u64>,
    /// Losses of the adapter so far.
    pub resets: Option<u64>,
    /// Bytes of the local budget.
    pub budget_bytes: Option<u64>,
    /// Bytes in use of it.
    pub usage_bytes: Option<u64>,
    /// The compute engine behind the open ISA; null if the host does not speak it.
    pub engine: Option<String>,
    /// Version of the ISA as major.minor.
    pub isa: Option<String>,
}

/// `info --json`.
#[derive(Debug, Serialize)]
pub struct InfoDocument {
    /// [`SCHEMA`].
    pub schema: u32,
    /// The device.
    pub device: DeviceInfo,
}

/// Outcome of a test.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Ran, and every output was verified.
    Pass,
    /// Failed.
    Fail,
    /// Not possible on this device.
    Skip,
    /// Did not end in time.
    Timeout,
    /// Not run, since an earlier test hangs.
    Incomplete,
}

/// How fast it was.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Speed {
    /// Amount per second.
    pub value: f64,
    /// Of what, such as `bytes/s`.
    pub unit: &'static str,
}

/// A further result, such as an accuracy.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Figure {
    /// What.
    pub name: &'static str,
    /// How much.
    pub value: f64,
    /// Of what it is the number; empty for a plain ratio.
    pub unit: &'static str,
    /// In words, for people.
    pub text: String,
}

/// One test.
#[derive(Clone, Debug, Serialize)]
pub struct TestReport {
    /// Name.
    pub name: &'static str,
    /// Outcome.
    pub status: Status,
    /// Every output of every run was compared and right.
    pub verified: bool,
    /// Outputs compared in one run.
    pub outputs: u64,
    /// Seconds of work on the accelerator, per run.
    pub seconds: Vec<f64>,
    /// Speed of the fastest run.
    pub speed: Option<Speed>,
    /// Further results.
    pub figures: Vec<Figure>,
    /// Why it did not pass.
    pub reason: Option<String>,
}

/// A run.
#[derive(Debug, Serialize)]
pub struct RunReport {
    /// [`SCHEMA`].
    pub schema: u32,
    /// On what.
    pub device: DeviceInfo,
    /// The tests, in order.
    pub tests: Vec<TestReport>,
    /// Passed tests.
    pub passed: usize,
    /// Tests that failed, timed out or were not reached.
    pub failed: usize,
    /// Tests not possible here.
    pub skipped: usize,
}

impl TestReport {
    /// A test that has not run.
    pub const fn incomplete(name: &'static str) -> Self {
        Self {
            name,
            status: Status::Incomplete,
            verified: false,
            outputs: 0,
            seconds: Vec::new(),
            speed: None,
            figures: Vec::new(),
            reason: None,
        }
    }
}

impl RunReport {
    /// Counts the tests' outcomes.
    pub fn new(device: DeviceInfo, tests: Vec<TestReport>) -> Self {
        let count = |wanted: fn(Status) -> bool| tests.iter().filter(|t| wanted(t.status)).count();
        Self {
            schema: SCHEMA,
            device,
            passed: count(|status| status == Status::Pass),
            failed: count(|status| !matches!(status, Status::Pass | Status::Skip)),
            skipped: count(|status| status == Status::Skip),
            tests,
        }
    }
}
