// SPDX-License-Identifier: MIT OR Apache-2.0
//! The command line, which is also what the outer machine is told about the inner run.

use std::path::PathBuf;

use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};
use gpupv_host::{HostConfig, CHOICES};
use serde::{Deserialize, Serialize};
use vmbus_server::Version;
use vmm::Backend;

use crate::trace_diff::TraceDiffArgs;

/// Runs a Linux guest that sees Hyper-V with virtual GPUs.
#[derive(Debug, Parser)]
#[command(version, about)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Boot a guest and wait for its verdict. The exit status is the guest's, or 1 without one.
    /// Of an option that is given twice the last one counts.
    #[command(args_override_self = true)]
    Run(Box<RunArgs>),
    /// Compare two traces. The exit status is 0 if they say the same, 1 if they differ, 2 if they cannot
    /// be compared.
    TraceDiff(TraceDiffArgs),
    /// Write the manual page, for packages.
    #[command(hide = true)]
    Man,
}

/// How the guest is run.
#[derive(Debug, Clone, Args, Serialize, Deserialize)]
pub struct RunArgs {
    /// Guest kernel, a bzImage.
    #[arg(long)]
    pub kernel: PathBuf,
    /// Guest initramfs.
    #[arg(long)]
    pub initrd: PathBuf,
    /// Words for the guest kernel's command line, behind the ones for the console.
    #[arg(long, default_value = "")]
    pub cmdline: String,
    /// Virtual processors [default: 2 with KVM, 1 inside an emulated machine].
    #[arg(long, value_parser = clap::value_parser!(u8).range(1..=64))]
    pub smp: Option<u8>,
    /// Guest memory: a number with K, M or G.
    #[arg(long, default_value = "512M", value_parser = parse_size)]
    pub memory: u64,
    /// Virtual GPUs.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(0..=16))]
    pub vgpu: u8,
    /// What virtual GPUs are. Some guests hide accelerators from programs that do not ask for them.
    #[arg(long, value_enum, default_value_t = GpuKindArg::Render)]
    pub gpu_kind: GpuKindArg,
    /// Interface version the GPU-PV host offers: 40 (current) or 27 (legacy).
    #[arg(long, default_value_t = 40)]
    pub gpupv_version: u32,
    /// Newest VMBus version of the host: 4.0, 4.1, 5.0, 5.1, 5.2 or 5.3.
    #[arg(long, default_value_t = Version::V5_3)]
    pub vmbus_version: Version,
    /// How the guest finds the PCI functions of the virtual GPUs.
    #[arg(long, value_enum, default_value_t = PciArg::Ports)]
    pub pci: PciArg,
    /// Newest version of the host's PCI functions over VMBus: 1.1, 1.2, 1.3 or 1.4.
    #[arg(long, default_value_t = vpci::Version::V1_4)]
    pub vpci_version: vpci::Version,
    /// Offer the guest a balloon, by which the control channel takes memory from it and gives it back.
    #[arg(long)]
    pub balloon: bool,
    /// Have the guest send submissions, signals and waits without waiting for an answer.
    #[arg(long)]
    pub async_messages: bool,
    /// Milliseconds a job may run before its device hangs, unless its context or device has no
    /// limit; 0: any time. A Windows host has 2000.
    #[arg(long, default_value_t = 0)]
    pub tdr_ms: u32,
    /// Size in MiB of the I/O space offered to the guest.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..))]
    pub mmio_megabytes: u16,
    /// How much of that space allocations may take at a time for the guest's processors to see: a
    /// number with K, M or G [default: all].
    #[arg(long, value_parser = parse_size)]
    pub lock_window: Option<u64>,
    /// What a process may use of a virtual GPU's own memory: a number with K, M or G.
    #[arg(long, default_value = "1G", value_parser = parse_size)]
    pub budget: u64,
    /// What a process may use of the host's memory, guest memory included: a number with K, M or G.
    #[arg(long, default_value = "1G", value_parser = parse_size)]
    pub budget_non_local: u64,
    /// What all processes together may use of a virtual GPU's own memory, at least the budget: a
    /// number with K, M or G.
    #[arg(long, default_value = "1G", value_parser = parse_size)]
    pub gpu_memory: u64,
    /// What they may use of the host's memory, at least the budget: a number with K, M or G.
    #[arg(long, default_value = "1G", value_parser = parse_size)]
    pub gpu_memory_non_local: u64,
    /// Memory of each virtual GPU for allocations that are not guest memory: a number with K, M or
    /// G.
    #[arg(long, default_value = "8G", value_parser = parse_size)]
    pub commit_limit: u64,
    /// How the host answers what the documents of the protocol leave open; may be given several
    /// times, once for each choice.
    #[arg(
        long = "choice",
        value_name = "NAME=VALUE",
        value_parser = parse_choice,
        long_help = choices_help(),
        action = ArgAction::Append
    )]
    pub choices: Vec<String>,
    /// What runs the jobs of the virtual GPUs.
    #[arg(long, value_enum, default_value_t = EngineArg::BuiltIn)]
    pub engine: EngineArg,
    /// Program that runs compute shaders [default: vaccel-spirv-worker beside this one].
    #[arg(long)]
    pub spirv_worker: Option<PathBuf>,
    /// How the guest's processors are run.
    #[arg(long, value_enum, default_value_t = AccelArg::Auto)]
    pub accel: AccelArg,
    /// Who has the guest's synthetic interrupt controller, and all else of Hyper-V: KVM needs its
    /// kernel option KVM_HYPERV for it.
    #[arg(long, value_enum, default_value_t = SynicArg::Auto)]
    pub synic: SynicArg,
    /// Emulate a machine whose clock counts instructions, of the guest and of its host together: one
    /// a nanosecond. Slow, and the same every time.
    #[arg(long, conflicts_with = "accel")]
    pub count_instructions: bool,
    /// File the guest's results are appended to, one JSON document a line.
    #[arg(long)]
    pub results: Option<PathBuf>,
    /// File that says how the host misbehaves: seed, operations and rules, as JSON.
    #[arg(long)]
    pub scenario: Option<PathBuf>,
    /// Seed of random misbehaviour, in place of the scenario's.
    #[arg(long)]
    pub seed: Option<u64>,
    /// File for every message both ways, one JSON document a line. It is written anew.
    #[arg(long)]
    pub trace: Option<PathBuf>,
    /// Seconds after which the run is stopped and has failed.
    #[arg(long, default_value_t = 300, value_parser = clap::value_parser!(u64).range(1..))]
    pub timeout: u64,
}

/// How the guest's processors are run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
pub enum AccelArg {
    /// KVM where it can boot a kernel, else an emulated machine with KVM in it.
    Auto,
    /// KVM on this machine.
    Kvm,
    /// KVM inside an emulated machine.
    Tcg,
}

/// How the guest finds the PCI functions of the virtual GPUs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
pub enum PciArg {
    /// On bus 0, by ports CF8 and CFC. They come and go without a word.
    Ports,
    /// Each on a bus of its own over VMBus, as with a Windows host. They come and go while the guest runs.
    Vmbus,
}

/// Who has the guest's synthetic interrupt controller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
pub enum SynicArg {
    /// KVM if it has one, else this program.
    Auto,
    /// KVM.
    Kvm,
    /// This program.
    User,
}

impl SynicArg {
    /// The one asked for, if one is.
    pub fn backend(self) -> Option<Backend> {
        match self {
            Self::Auto => None,
            Self::Kvm => Some(Backend::Kvm),
            Self::User => Some(Backend::UserSpace),
        }
    }
}

/// What virtual GPUs are, by PCI device and in what the host says of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
pub enum GpuKindArg {
    /// Compute accelerators, 1414:008A.
    Compute,
    /// Render devices, 1414:008E.
    Render,
}

/// What runs the jobs of the virtual GPUs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
pub enum EngineArg {
    /// The built-in operations.
    BuiltIn,
    /// These and compute shaders, on the machine's Vulkan device: a GPU, or one in software.
    Spirv,
}

/// Parses a size such as `512M`.
fn parse_size(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(['K', 'M', 'G']);
    let shift = match text.get(digits.len()..) {
        Some("") => 0,
        Some("K") => 10,
        Some("M") => 20,
        Some("G") => 30,
        _ => return Err("at most one of K, M, G may follow the number".into()),
    };
    let number: u64 = digits
        .parse()
        .map_err(|error| format!("{digits:?}: {error}"))?;
    number
        .checked_mul(1 << shift)
        .ok_or_else(|| "larger than an address space".into())
}

/// Makes a choice such as `paging=immediate`.
///
/// # Errors
///
/// Says what is wrong if there is no such choice or value.
pub fn choose(config: &mut HostConfig, text: &str) -> Result<(), String> {
    let pair = text.split_once('=');
    let (name, value) = pair.ok_or("a choice is NAME=VALUE")?;
    config
        .choose(name, value)
        .map_err(|error| error.to_string())
}

/// Checks a choice.
fn parse_choice(text: &str) -> Result<String, String> {
    choose(&mut HostConfig::default(), text)?;
    Ok(text.to_owned())
}

/// All choices, the usual value of each first.
fn choices_help() -> String {
    let mut help =
        "How the host answers what the documents of the protocol leave open. May be given \
                    several times. The first value of each is the usual one:"
            .to_owned();
    for choice in CHOICES {
        let [usual, other] = choice.values;
        let (name, about) = (choice.name, choice.about);
        help.push_str(&format!("\n  {name}={usual}|{other}: {about}"));
    }
    help
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> RunArgs {
        match Cli::try_parse_from(line.split(' ')).unwrap().command {
            Command::Run(args) => *args,
            Command::TraceDiff(_) | Command::Man => panic!("{line}"),
        }
    }

    /// Sizes take one binary unit and nothing else.
    #[test]
    fn sizes() {
        assert_eq!(parse_size("4096"), Ok(4096));
        assert_eq!(parse_size("512M"), Ok(512 << 20));
        assert_eq!(parse_size("2G"), Ok(2 << 30));
        assert!(parse_size("2GG").is_err());
        assert!(parse_size("M").is_err());
        assert!(parse_size("1.5G").is_err());
        assert!(parse_size("99999999999G").is_err());
    }

    /// The shortest useful command line parses, and its values survive the way to the outer machine.
    #[test]
    fn defaults_round_trip() {
        let args = parsed("vaccel-host run --kernel k --initrd i");
        let text = serde_json::to_string(&args).unwrap();
        let back: RunArgs = serde_json::from_str(&text).unwrap();
        assert_eq!(
            (back.memory, back.vgpu, back.accel),
            (512 << 20, 1, AccelArg::Auto)
        );
        assert_eq!((back.lock_window, back.commit_limit), (None, 8 << 30));
        let budgets = (back.budget, back.budget_non_local);
        assert_eq!(budgets, (1 << 30, 1 << 30));
        assert_eq!((back.async_messages, back.tdr_ms), (false, 0));
        assert_eq!(back.engine, EngineArg::BuiltIn);
        assert_eq!(back.gpu_kind, GpuKindArg::Render);
        assert!(!back.count_instructions);
        assert_eq!(back.synic.backend(), None);
    }

    /// What a host does differently survives the way to the outer machine.
    #[test]
    fn other_hosts_round_trip() {
        let line = "vaccel-host run --kernel k --initrd i --async-messages --tdr-ms 2000 \
                    --vmbus-version 4.1 --pci vmbus --vpci-version 1.2 --synic user --gpu-kind compute";
        let args = parsed(line);
        let text = serde_json::to_string(&args).unwrap();
        let back: RunArgs = serde_json::from_str(&text).unwrap();
        assert_eq!((back.async_messages, back.tdr_ms), (true, 2000));
        assert_eq!(back.vmbus_version, Version::V4_1);
        assert_eq!(back.pci, PciArg::Vmbus);
        assert_eq!(back.vpci_version, vpci::Version::V1_2);
        assert_eq!(back.synic.backend(), Some(Backend::UserSpace));
        assert_eq!(back.gpu_kind, GpuKindArg::Compute);
    }

    /// Choices add up, survive the way to the outer machine, are checked at once, and are all in the
    /// help.
    #[test]
    fn choices() {
        let line = "vaccel-host run --kernel k --initrd i --choice paging=immediate --choice hw-scheduling=off";
        let args = parsed(line);
        let text = serde_json::to_string(&args).unwrap();
        let back: RunArgs = serde_json::from_str(&text).unwrap();
        assert_eq!(back.choices, ["paging=immediate", "hw-scheduling=off"]);
        let mut config = HostConfig::default();
        for choice in &back.choices {
            choose(&mut config, choice).unwrap();
        }
        assert!(!config.choices.hw_scheduling);
        for bad in ["paging", "paging=later", "colour=red"] {
            let line = [
                "vaccel-host",
                "run",
                "--kernel",
                "k",
                "--initrd",
                "i",
                "--choice",
                bad,
            ];
            assert!(Cli::try_parse_from(line).is_err(), "{bad}");
        }
        let help = Cli::try_parse_from(["vaccel-host", "run", "--help"]);
        let help = help.unwrap_err().to_string();
        for choice in CHOICES {
            assert!(help.contains(choice.name), "{}", choice.name);
        }
    }

    /// A plan's own options come behind the usual ones and take their place.
    #[test]
    fn last_one_counts() {
        let line = "vaccel-host run --kernel k --initrd i --memory 1G --memory 3G";
        let args = parsed(line);
        assert_eq!(args.memory, 3 << 30);
    }

    /// Values out of range are usage errors.
    #[test]
    fn ranges() {
        for bad in [
            "--smp=0",
            "--smp=65",
            "--vgpu=17",
            "--timeout=0",
            "--mmio-megabytes=0",
            "--tdr-ms=-1",
            "--vmbus-version=6.0",
            "--pci=isa",
            "--vpci-version=1.0",
        ] {
            let line = ["vaccel-host", "run", "--kernel", "k", "--initrd", "i", bad];
            assert!(Cli::try_parse_from(line).is_err(), "{bad}");
        }
    }
}
