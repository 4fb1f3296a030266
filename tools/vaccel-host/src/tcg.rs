// SPDX-License-Identifier: MIT OR Apache-2.0
//! Runs the guest inside a machine emulated by QEMU, whose emulated SVM gives KVM what it needs.
//!
//! The outer machine boots a packaged kernel with an initramfs made here: this program as `/init`,
//! the KVM modules, the guest's kernel and initramfs, and the arguments of the run. Its console is
//! the guest's; its second serial port carries results and the exit status ([`crate::results`]), its
//! third one the trace, if there is to be one. Where shaders are to run, the program that runs them
//! is in it too, with a Vulkan driver in software and the libraries of both ([`crate::vulkan_files`]).
//! The temporary folder is removed when the run is over, however it went.

use std::fs::{self, File};
use std::io::{BufWriter, ErrorKind};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{bail, Context, Result};

use crate::cli::{AccelArg, EngineArg, RunArgs};
use crate::cpio::Archive;
use crate::engines;
use crate::results::{self, Sink};
use crate::scenario::Scenario;
use crate::vulkan_files;

/// Folder of the outer machine's kernel and modules, in place of the cache's.
const OUTER_VARIABLE: &str = "VACCEL_OUTER_DIR";
/// The emulator.
const EMULATOR: &str = "qemu-system-x86_64";
/// Memory of the outer machine beyond the guest's and three copies of the guest's files.
const OUTER_MEMORY: u64 = 768 << 20;
/// What the emulator logs when its machine resets because an exception cannot be delivered.
const TRIPLE_FAULT: &str = "Triple fault";
/// Status of setpriv when there is no such program.
const NOT_FOUND: i32 = 127;
/// Names tried for the temporary folder.
const ATTEMPTS: u32 = 16;
/// Variables of the worker in the outer machine: it runs few instructions of a shader, and compiling them
/// takes the time. So narrow vectors, and no optimisation.
const WORKER_ENVIRONMENT: &str = " GALLIVM_PERF=nopt LP_NATIVE_VECTOR_WIDTH=128";
/// How often the emulator is looked at.
const POLL: Duration = Duration::from_millis(50);
/// Time for the outer machine to end by itself after the inner run's own time is over.
const GRACE: Duration = Duration::from_secs(20);
/// Virtual processors of the guest unless asked for otherwise: with more they wait for each other
/// more than they run.
const SMP: u8 = 1;
/// How often the outer machine says that it is alive.
pub const HEARTBEAT: Duration = Duration::from_secs(1);
/// Silence after which the outer machine is lost; its start is allowed as much.
const SILENCE: Duration = Duration::from_secs(60);
/// How many machines are tried. A machine is lost now and then: the emulation of nested
/// virtualisation drops an interrupt, or its processor dies. Nothing that the guest does can cause
/// either, so this hides no fault of a guest.
const MACHINES: u32 = 3;

/// Where things are in the outer machine.
pub mod place {
    /// The guest's kernel.
    pub const KERNEL: &str = "/guest/kernel";
    /// The guest's initramfs.
    pub const INITRD: &str = "/guest/initrd";
    /// The scenario, if there is one.
    pub const SCENARIO: &str = "/guest/scenario.json";
    /// The program that runs compute shaders, if there is one.
    pub const SPIRV_WORKER: &str = "/guest/spirv-worker";
    /// The port that the trace leaves by.
    pub const TRACE: &str = "/dev/ttyS2";
    /// The arguments of the run, as JSON.
    pub const ARGS: &str = "/guest/args.json";
    /// The folder of the modules, with their load order in `modules.load`.
    pub const MODULES: &str = "/modules";
}

/// How a machine ended.
enum End {
    /// With the exit status of the run.
    Exit(u8),
    /// Not by itself; says why.
    Lost(&'static str),
}

/// Runs the guest in an outer machine, appends its results to `sink` and returns its exit status.
/// A machine that is lost is replaced, and a line says so.
///
/// # Errors
///
/// Fails if a machine cannot be made, does not end in time, or ends without a status.
pub fn run(args: &RunArgs, mut sink: Sink) -> Result<u8> {
    for machine in 1..=MACHINES {
        match run_once(args, &mut sink)? {
            End::Exit(exit) => return Ok(exit),
            End::Lost(why) => eprintln!(
                "vaccel-host: the emulated machine was lost ({why}), machine {machine} of {MACHINES}"
            ),
        }
    }
    bail!("{MACHINES} emulated machines were lost")
}

fn run_once(args: &RunArgs, sink: &mut Sink) -> Result<End> {
    let outer = outer_folder()?;
    let folder = TemporaryFolder::new()?;
    let initramfs = folder.path.join("initramfs");
    let size =
        write_initramfs(&initramfs, &outer, args).context("cannot make the outer initramfs")?;
    let channel = folder.path.join("results");
    let log = folder.path.join("emulator.log");

    let memory = (args.memory + size * 3 + OUTER_MEMORY) >> 20;
    let mut machine = Machine(
        command(
            &outer.join("vmlinuz"),
            &initramfs,
            &channel,
            &log,
            memory,
            args.engine,
        )
        .args(clock(args))
        .args(args.trace.as_deref().map(trace_port).unwrap_or_default())
        .spawn()
        .context("cannot start setpriv (package util-linux)")?,
    );
    let limit = Duration::from_secs(args.timeout) + GRACE;
    let status = match machine.wait(limit, &channel)? {
        Waited::Ended(status) => status,
        Waited::Silent => return Ok(End::Lost("it fell silent")),
        // Alive, and yet the run in it did not stop itself: not the emulator's doing.
        Waited::OutOfTime => bail!(
            "the run in the outer machine did not end within {} s (--timeout)",
            args.timeout
        ),
    };

    let text = fs::read(&channel).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let (lines, exit) = results::split(&text);
    let log = fs::read_to_string(&log).unwrap_or_default();
    match exit {
        None if status.code() == Some(NOT_FOUND) => {
            bail!("there is no {EMULATOR} (package qemu-system-x86)")
        }
        None if log.contains(TRIPLE_FAULT) => Ok(End::Lost("its processor died")),
        None => {
            bail!("the outer machine ended without a verdict ({status}; its console says why)")
        }
        Some(exit) => {
            for line in lines {
                results::write_line(sink, line).context("cannot write the results")?;
            }
            Ok(End::Exit(exit))
        }
    }
}

/// The folder with `vmlinuz`, `modules.load` and the modules.
fn outer_folder() -> Result<PathBuf> {
    let folder = match std::env::var_os(OUTER_VARIABLE) {
        Some(folder) => PathBuf::from(folder),
        None => {
            let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
            let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache"));
            cache
                .or_else(home)
                .context("neither XDG_CACHE_HOME nor HOME is set")?
                .join("vaccel/outer")
        }
    };
    if !folder.join("modules.load").exists() {
        bail!(
            "no outer machine in {}: it needs vmlinuz, modules.load and the KVM modules \
             (`tools/dev/image.sh outer` makes it; {OUTER_VARIABLE} names another folder)",
            folder.display()
        );
    }
    Ok(folder)
}

/// Writes the initramfs and returns its size.
fn write_initramfs(path: &Path, outer: &Path, args: &RunArgs) -> Result<u64> {
    let read =
        |path: &Path| fs::read(path).with_context(|| format!("cannot read {}", path.display()));
    let mut archive = Archive::new(BufWriter::new(File::create(path)?));
    for folder in ["dev", "proc", "sys", "guest", "modules"] {
        archive.directory(folder)?;
    }
    // The kernel opens the console before anything is mounted.
    archive.device("dev/console", 5, 1)?;
    archive.file("init", &read(&std::env::current_exe()?)?)?;
    archive.file(relative(place::KERNEL), &read(&args.kernel)?)?;
    archive.file(relative(place::INITRD), &read(&args.initrd)?)?;
    if let Some(scenario) = &args.scenario {
        // Read here too, so that what is wrong is said before a machine starts.
        Scenario::read(scenario)?;
        archive.file(relative(place::SCENARIO), &read(scenario)?)?;
    }
    let worker = spirv_worker(args)?;
    if let Some(worker) = &worker {
        archive.file(relative(place::SPIRV_WORKER), &read(worker)?)?;
        vulkan_files::add(&mut archive, outer)?;
    }
    let inner = RunArgs {
        kernel: place::KERNEL.into(),
        initrd: place::INITRD.into(),
        accel: AccelArg::Kvm,
        smp: Some(args.smp.unwrap_or(SMP)),
        results: None,
        scenario: args.scenario.as_ref().map(|_| place::SCENARIO.into()),
        trace: args.trace.as_ref().map(|_| place::TRACE.into()),
        spirv_worker: worker.map(|_| place::SPIRV_WORKER.into()),
        ..args.clone()
    };
    archive.file(relative(place::ARGS), &serde_json::to_vec(&inner)?)?;
    let order = read(&outer.join("modules.load"))?;
    for module in String::from_utf8_lossy(&order).lines() {
        let name = format!("{}/{module}", relative(place::MODULES));
        archive.file(&name, &read(&outer.join(module))?)?;
    }
    archive.file(
        &format!("{}/modules.load", relative(place::MODULES)),
        &order,
    )?;
    archive.finish()?;
    Ok(fs::metadata(path)?.len())
}

/// The program that runs compute shaders, if they are asked for.
fn spirv_worker(args: &RunArgs) -> Result<Option<PathBuf>> {
    match args.engine {
        EngineArg::BuiltIn => Ok(None),
        EngineArg::Spirv => engines::worker_program(args).map(Some),
    }
}

fn relative(path: &str) -> &str {
    path.trim_start_matches('/')
}

fn command(
    kernel: &Path,
    initramfs: &Path,
    channel: &Path,
    log: &Path,
    memory_mib: u64,
    engine: EngineArg,
) -> Command {
    // The emulator must not outlive this program, however this program ends. Its processors take turns
    // in one thread: with a thread each, nested virtualisation loses machines under load.
    let mut command = Command::new("setpriv");
    command
        .args(["--pdeathsig", "KILL", "--", EMULATOR])
        .args(["-machine", "q35", "-accel", "tcg,thread=single"])
        .args(["-cpu", "EPYC,+svm,+npt", "-smp", "1"])
        .args(["-m", &format!("{memory_mib}M")])
        .args(["-nodefaults", "-display", "none", "-no-reboot"])
        .args(["-serial", "stdio"])
        .arg("-serial")
        .arg(format!("file:{}", channel.display()))
        .args(["-d", "cpu_reset", "-D"])
        .arg(log)
        .arg("-kernel")
        .arg(kernel)
        .arg("-initrd")
        .arg(initramfs)
        .args(["-append", &command_line(engine)])
        .stdin(Stdio::null());
    command
}

/// The serial port by which the trace leaves, written to the file as it comes.
fn trace_port(path: &Path) -> Vec<String> {
    // A comma ends a value, unless there are two.
    let path = path.display().to_string().replace(',', ",,");
    vec![
        "-chardev".into(),
        format!("file,id=trace,path={path}"),
        "-serial".into(),
        "chardev:trace".into(),
    ]
}

/// What makes the emulator's clock count instructions, if that is asked for. Time passes at once when
/// the processor sleeps.
fn clock(args: &RunArgs) -> &'static [&'static str] {
    if args.count_instructions {
        &["-icount", "shift=0,sleep=off", "-rtc", "clock=vm"]
    } else {
        &[]
    }
}

/// Command line of the outer kernel, which hands words that it does not know on as environment variables.
fn command_line(engine: EngineArg) -> String {
    // With periodic ticks an interrupt that is lost is only late. The kernel's check that the timer ticks fails
    // when this machine is so busy that the emulator gets no turn.
    let mut line =
        String::from("console=ttyS0 quiet panic=-1 reboot=k nohz=off highres=off no_timer_check");
    if engine == EngineArg::Spirv {
        line.push_str(WORKER_ENVIRONMENT);
    }
    if let Ok(filter) = std::env::var(crate::LOG_VARIABLE) {
        line.push_str(&format!(" {}={filter}", crate::LOG_VARIABLE));
    }
    line
}

/// How the wait for an emulator ended.
enum Waited {
    /// The emulator ended.
    Ended(std::process::ExitStatus),
    /// The machine gave no sign of life for [`SILENCE`].
    Silent,
    /// The time was over.
    OutOfTime,
}

/// A running emulator; killed when dropped.
struct Machine(Child);

impl Machine {
    /// Waits for the end, at most for `limit`, and as long as something comes over `channel`.
    fn wait(&mut self, limit: Duration, channel: &Path) -> Result<Waited> {
        let deadline = Instant::now() + limit;
        let (mut seen, mut seen_at) = (0, Instant::now());
        loop {
            if let Some(status) = self.0.try_wait()? {
                return Ok(Waited::Ended(status));
            }
            let size = fs::metadata(channel).map_or(0, |file| file.len());
            if size != seen {
                (seen, seen_at) = (size, Instant::now());
            }
            let silent = seen_at.elapsed() >= SILENCE;
            if silent || Instant::now() >= deadline {
                self.0.kill()?;
                self.0.wait()?;
                return Ok(if silent {
                    Waited::Silent
                } else {
                    Waited::OutOfTime
                });
            }
            std::thread::sleep(POLL);
        }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // Fails when the process has been waited for, which is the ordinary case.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A folder of this run; removed when dropped.
struct TemporaryFolder {
    path: PathBuf,
}

impl TemporaryFolder {
    /// Makes a folder. One left behind by a killed process with our number is passed over.
    fn new() -> Result<Self> {
        let base = std::env::temp_dir();
        for attempt in 0..ATTEMPTS {
            let path = base.join(format!("vaccel-host-{}-{attempt}", std::process::id()));
            match fs::create_dir(&path) {
                Ok(()) => return Ok(Self { path }),
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                Err(error) => {
                    return Err(error).with_context(|| format!("cannot make {}", path.display()))
                }
            }
        }
        bail!("too many folders of killed runs in {}", base.display())
    }
}

impl Drop for TemporaryFolder {
    fn drop(&mut self) {
        // What cannot be removed is in the system's temporary folder, which others clean.
        let _ = fs::remove_dir_all(&self.path);
    }
}
