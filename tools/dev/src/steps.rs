// SPDX-License-Identifier: MIT OR Apache-2.0
//! The steps that `make test`, `make check` and `make demo` are made of.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use serde_json::Value;

use crate::libtest;
use crate::lint;
use crate::report::Test;
use crate::runner::Runner;
use crate::vm::{self, Judged};

/// Which kernel a machine is started with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kernel {
    /// The distribution's, untouched.
    Packaged,
    /// Our own with all checkers.
    Debug,
}

impl Kernel {
    fn word(self) -> &'static str {
        match self {
            Self::Packaged => "packaged",
            Self::Debug => "debug",
        }
    }
}

/// The programs that every machine needs.
const USER: &[&str] = &["vaccel-host", "vaccel-smoke", "guest-init"];
/// The driver's tests through its device node.
pub const SELFTESTS: &str = "vaccel-selftests";
/// The tests through libdrm.
pub const INTEROP: &str = "vaccel-interop";
/// What the driver survives.
pub const SURVIVE: &str = "vaccel-survive";
/// What runs compute shaders for the host.
pub const SPIRV_WORKER: &str = "vaccel-spirv-worker";
/// DMA debugging looks at our driver alone: the kernel's udmabuf maps segments for its own device that
/// are longer than that says it can.
const CMDLINE: &str = "console=ttyS0 loglevel=5 panic=-1 dma_debug_driver=vaccel";

/// Form and lint: rustfmt, clippy, rustdoc, the repository's own rules.
pub fn form(run: &Runner) {
    repository(run);
    let scripts = uapi_checks(run);
    for (name, path) in scripts {
        let mut command = run.in_root(&path.to_string_lossy());
        run.plain(&name, 5, command);
        // A lint that finds nothing in bad headers proves nothing.
        command = run.in_root(&path.to_string_lossy());
        command.arg("--self-test");
        run.plain(&format!("{name}-self-test"), 5, command);
    }
    let fmt = run.cargo(&["fmt", "--all", "--check", "--", "--color", "never"]);
    run.plain("rustfmt-tools", 5, fmt);
    driver_fmt(run);
    let clippy = run.cargo(&[
        "clippy",
        "--locked",
        "--workspace",
        "--all-targets",
        "--",
        "-D",
        "warnings",
    ]);
    run.plain("clippy-tools", 15, clippy);
    let mut doc = run.cargo(&["doc", "--locked", "--workspace", "--no-deps"]);
    doc.env("RUSTDOCFLAGS", "-D warnings");
    run.plain("rustdoc-tools", 15, doc);
}

/// rustfmt of both trees and the repository's rules: what takes no time.
pub fn quick_form(run: &Runner) {
    repository(run);
    let fmt = run.cargo(&["fmt", "--all", "--check", "--", "--color", "never"]);
    run.plain("rustfmt-tools", 5, fmt);
    driver_fmt(run);
}

fn repository(run: &Runner) {
    let begin = Instant::now();
    let verdict = lint::run(&run.repo).map_err(|error| format!("{error:#}"));
    run.done("repository-lint", begin, verdict);
}

/// The header checks: executables tools/dev/check-uapi*.
fn uapi_checks(run: &Runner) -> Vec<(String, PathBuf)> {
    let entries = fs::read_dir(run.repo.join("tools/dev"))
        .into_iter()
        .flatten();
    let mut scripts: Vec<_> = entries
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            let stem = name.split('.').next()?.to_owned();
            name.starts_with("check-uapi").then(|| (stem, entry.path()))
        })
        .collect();
    scripts.sort();
    scripts
}

/// The driver's sources, by the kernel's own rules.
fn driver_fmt(run: &Runner) {
    let files = rust_files(run.repo.join("drivers"));
    let kernel = fs::canonicalize(run.cache.join("kernel-7.3"))
        .unwrap_or_else(|_| run.cache.join("kernel-7.3"));
    let mut command = run.in_root("rustfmt");
    command
        .args(["--check", "--color", "never", "--edition", "2021"])
        .arg("--config-path")
        .arg(kernel.join("source/.rustfmt.toml"))
        .args(files);
    run.plain("rustfmt-driver", 5, command);
}

fn rust_files(folder: PathBuf) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut folders = vec![folder];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                files.push(path);
            }
        }
    }
    files.sort();
    files
}

/// The tests of the workspace's crates.
pub fn unit_tests(run: &Runner) {
    let command = run.cargo(&["test", "--locked", "--workspace", "--no-fail-fast"]);
    run.step("unit-tests", 20, command, libtest::parse);
}

/// The packaged kernel and the module for it.
pub fn module(run: &Runner) {
    let kit = run.script("kit.sh");
    run.plain("kit", 15, kit);
    if run.ready("module", &["kit"]) {
        let command = run.script("module.sh");
        run.step("module", 10, command, no_warnings("module"));
    }
}

/// The module, linted by the kernel's clippy.
pub fn module_clippy(run: &Runner) {
    if run.ready("clippy-module", &["kit"]) {
        let mut command = run.script("module.sh");
        command.env("CLIPPY", "1");
        run.step("clippy-module", 10, command, no_warnings("module-clippy"));
    }
}

/// The driver's documentation, warnings denied.
pub fn module_doc(run: &Runner) {
    if run.ready("rustdoc-module", &["kit"]) {
        let mut command = run.script("module.sh");
        command.env("DOC", "1");
        run.plain("rustdoc-module", 10, command);
    }
}

/// The debug kernel, and the driver compiled in its tree.
pub fn debug_kernel(run: &Runner) {
    let kernel = run.script("debug-kernel.sh");
    run.plain("debug-kernel", 45, kernel);
    if run.ready("module-in-tree", &["debug-kernel"]) {
        let mut command = run.script("module.sh");
        command.env("DEBUG_TREE", "1");
        run.step("module-in-tree", 20, command, no_warnings("debug-module"));
    }
}

/// A compiler's warning in the build's own log fails the step.
fn no_warnings(log: &'static str) -> impl FnOnce(&str) -> Result<Vec<Test>, String> {
    move |_| {
        let text = fs::read_to_string(format!("out/log/{log}.log")).unwrap_or_default();
        let warning = text
            .lines()
            .find(|line| line.starts_with("warning") || line.contains(": warning: "));
        match warning {
            Some(line) => Err(format!("warnings, the first: {line}")),
            None => Ok(Vec::new()),
        }
    }
}

/// User space for the guest, with `tests`, and the host program.
pub fn user_space(run: &Runner, tests: &[&str]) {
    let mut command = run.script("user.sh");
    command.args(USER).args(tests);
    run.plain("user-space", 20, command);
    let mut outer = run.script("image.sh");
    outer.arg("outer");
    run.plain("outer-machine", 5, outer);
}

/// Starts a machine with `kernel` and the plan `plan` and judges it. With a
/// `culprit`, that step, and only that, has to fail. Returns the JSON documents
/// that the plan's programs printed.
pub fn machine(
    run: &Runner,
    kernel: Kernel,
    plan: &str,
    minutes: u64,
    culprit: Option<&str>,
) -> Vec<(String, Value)> {
    let name = format!("vm-{}-{plan}", kernel.word());
    let module = match kernel {
        Kernel::Packaged => "module",
        Kernel::Debug => "module-in-tree",
    };
    if !run.ready(&name, &[module, "user-space", "outer-machine"]) {
        return Vec::new();
    }
    let image = format!("image-{}-{plan}", kernel.word());
    let mut command = run.script("image.sh");
    command.args([kernel.word(), plan]);
    run.plain(&image, 5, command);
    if !run.ready(&name, &[&image]) {
        return Vec::new();
    }
    let log = fs::read_to_string(run.log(&image)).unwrap_or_default();
    let mut last = log.lines().rev();
    let (initrd, boot) = (
        last.next().unwrap_or_default(),
        last.next().unwrap_or_default(),
    );
    let plan_text = fs::read_to_string(run.repo.join(format!(
        "out/image/{}-{plan}/etc/vaccel/plan",
        kernel.word()
    )))
    .unwrap_or_default();
    let results = run.repo.join("out/vm").join(format!("{name}.jsonl"));
    // Results of an earlier run must not count.
    if results.exists() && fs::remove_file(&results).is_err() {
        run.done(
            &name,
            Instant::now(),
            Err("old results can't be removed".into()),
        );
        return Vec::new();
    }
    let mut command = host_command(run, boot, initrd, 60 * minutes);
    command.arg("--results").arg(&results);
    command.args(host_arguments(&plan_text));
    let scenario = Path::new(initrd).with_extension("scenario");
    if scenario.exists() {
        command.arg("--scenario").arg(scenario);
    }
    let expected = if culprit.is_some() { 1 } else { 0 };
    // The guest's own exit status comes back as the host's.
    command = expect_status(command, expected);
    let mut documents = Vec::new();
    run.step(&name, minutes + 1, command, |console| {
        let results = fs::read_to_string(&results).unwrap_or_default();
        let mut judged = match culprit {
            Some(culprit) => vm::judge_broken(&plan_text, console, &results, culprit),
            None => vm::judge(&plan_text, console, &results),
        };
        documents = std::mem::take(&mut judged.documents);
        verdict(judged)
    });
    documents
}

/// What a plan asks of the host, in a comment: `# host: --gpupv-version 27`.
fn host_arguments(plan: &str) -> impl Iterator<Item = &str> {
    plan.lines()
        .filter_map(|line| line.strip_prefix("# host:"))
        .flat_map(str::split_whitespace)
}

/// Problems of the run as a whole become a failed test of their own beside the
/// tests that were run.
fn verdict(judged: Judged) -> Result<Vec<Test>, String> {
    let mut tests = judged.tests;
    for problem in judged.problems {
        tests.push(Test::new("the run as a whole", crate::report::Status::Fail).because(problem));
    }
    Ok(tests)
}

/// Wraps a command so that `expected` is its success.
fn expect_status(command: Command, expected: i32) -> Command {
    let mut wrapped = Command::new("sh");
    wrapped
        .arg("-c")
        .arg(format!(
            "rc=0; \"$@\" || rc=$?; echo \"exit status $rc, expected {expected}\"; test $rc = {expected}"
        ))
        .arg("sh")
        .arg(command.get_program())
        .args(command.get_args());
    if let Some(folder) = command.get_current_dir() {
        wrapped.current_dir(folder);
    }
    for (name, value) in command.get_envs() {
        if let Some(value) = value {
            wrapped.env(name, value);
        }
    }
    wrapped
}

/// vaccel-host with a kernel and an initial file system.
pub fn host_command(run: &Runner, kernel: &str, initrd: &str, seconds: u64) -> Command {
    let program = run.repo.join("out/bin/vaccel-host");
    let mut command = Command::new(program);
    command
        .args(["run", "--kernel", kernel, "--initrd", initrd])
        .args(["--cmdline", CMDLINE])
        .args(["--memory", "1G"])
        .args(["--timeout", &seconds.to_string()])
        .env("VACCEL_OUTER_DIR", run.cache.join("outer"))
        .current_dir(&run.repo);
    command
}
