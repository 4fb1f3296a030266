// SPDX-License-Identifier: MIT OR Apache-2.0
//! Behind `make`: runs the steps of a test, a check or the demo, judges them
//! and writes the report.
//!
//! The shell scripts beside this crate make things (build root, kernels,
//! module, images); this program runs them in order, with time limits and
//! visible progress, reads their verdicts and never takes a missing one for a
//! success. `make` builds it in the build root and calls it by
//! tools/dev/run.sh.

mod bench;
mod demo;
mod instructions;
mod libtest;
mod lint;
mod process;
mod report;
mod runner;
mod splat;
mod steps;
mod survive;
mod tap;
mod vm;

use std::env;
use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::Context as _;
use clap::{Parser, Subcommand};

use report::{write_json, Report};
use runner::Runner;
use steps::Kernel;

#[derive(Debug, Parser)]
#[command(about = "Runs vaccel's tests and demo; `make` is the usual way in")]
struct Arguments {
    /// The repository.
    #[arg(long)]
    repo: PathBuf,
    /// The cache folder.
    #[arg(long)]
    cache: PathBuf,
    #[command(subcommand)]
    what: What,
}

#[derive(Clone, Copy, Debug, Subcommand)]
enum What {
    /// Everything that is tested; writes out/test.json.
    Test,
    /// The fast subset for daily work; writes out/check.json.
    Check,
    /// The main jobs on the packaged kernel; writes out/demo.json.
    Demo,
    /// What operations cost, on the packaged kernel; writes out/bench.json.
    Bench,
    /// What a job costs in instructions; writes out/bench-instructions.json.
    BenchInstructions,
    /// All that the driver survives, for SOAK_MINUTES, on the debug kernel; writes out/survive.json.
    Soak,
    /// The repository's own rules only.
    Lint,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("vaccel-dev: {error}");
            for cause in error.chain().skip(1) {
                eprintln!("  caused by: {cause}");
            }
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> anyhow::Result<bool> {
    let repo = fs::canonicalize(&arguments.repo)
        .with_context(|| format!("{}: no such folder", arguments.repo.display()))?;
    env::set_current_dir(&repo)?;
    let t0 = env::var("VACCEL_T0")
        .ok()
        .and_then(|text| text.parse().ok());
    let run = Runner::new(repo, arguments.cache.clone(), t0)?;
    match arguments.what {
        What::Test => {
            steps::form(&run);
            steps::unit_tests(&run);
            steps::module(&run);
            steps::module_clippy(&run);
            steps::module_doc(&run);
            steps::user_space(
                &run,
                &[
                    steps::SELFTESTS,
                    steps::INTEROP,
                    steps::SURVIVE,
                    steps::SPIRV_WORKER,
                ],
            );
            run.lanes(on_packaged_kernel, on_debug_kernel);
            finish("test", run)
        }
        What::Check => {
            steps::quick_form(&run);
            steps::unit_tests(&run);
            steps::module(&run);
            steps::user_space(&run, &[steps::SELFTESTS]);
            steps::machine(&run, Kernel::Packaged, "check", 5, None);
            finish("check", run)
        }
        What::Lint => {
            steps::quick_form(&run);
            finish("lint", run)
        }
        What::Demo => demo(run),
        What::Bench => bench(run),
        What::Soak => soak(run),
        What::BenchInstructions => bench_instructions(run),
    }
}

/// The machines with the distribution's kernel.
fn on_packaged_kernel(run: &Runner) {
    for (plan, minutes) in [
        ("test", 25),
        ("memory", 25),
        ("legacy", 15),
        ("async", 20),
        ("rescind", 10),
        ("hot-add", 10),
        ("vmbus-4.0", 10),
        ("vmbus-5.1", 10),
        ("scenario", 10),
        ("silent", 10),
        ("spirv", 10),
        ("synic-user", 10),
        ("smp", 10),
        ("balloon", 10),
        ("vpci", 10),
    ] {
        steps::machine(run, Kernel::Packaged, plan, minutes, None);
    }
    steps::machine(run, Kernel::Packaged, "break", 10, Some("broken"));
}

/// The debug kernel, and the machines with it.
fn on_debug_kernel(run: &Runner) {
    steps::debug_kernel(run);
    for (plan, minutes) in [
        ("test", 45),
        ("memory", 40),
        ("rescind", 10),
        ("vmbus-delay", 10),
    ] {
        steps::machine(run, Kernel::Debug, plan, minutes, None);
    }
    survive_briefly(run);
}

/// Writes the report and the closing line.
fn finish(kind: &str, run: Runner) -> anyhow::Result<bool> {
    let path = run.repo.join(format!("out/{kind}.json"));
    let seconds = run.elapsed().as_secs_f64().round();
    let report = Report::new(kind, seconds, run.into_steps());
    write_json(&path, &report)?;
    println!("out/{kind}.json written");
    // Last, where a reader who sees only the end of the log finds them.
    for failure in report.failures() {
        println!("FAILED {failure}");
    }
    println!("{}", report.totals.line());
    Ok(report.totals.ok())
}

fn demo(run: Runner) -> anyhow::Result<bool> {
    steps::module(&run);
    steps::user_space(&run, &[]);
    let documents = steps::machine(&run, Kernel::Packaged, "demo", 5, None);
    let name = "vm-packaged-demo";
    let console = fs::read(run.log(name)).unwrap_or_default();
    let console = String::from_utf8_lossy(&console).into_owned();
    let path = run.repo.join("out/demo.json");
    let kernel = fs::read_to_string(run.cache.join("kernel-7.3/RELEASE")).unwrap_or_default();
    let passed = run.passed(name);
    let seconds = run.elapsed().as_secs_f64().round();
    let document = |name: &str| documents.iter().find(|(n, _)| n == name).map(|(_, d)| d);
    let jobs = document("smoke").map(demo::jobs).unwrap_or_default();
    let report = demo::Demo {
        schema: 1,
        ok: passed && jobs.iter().any(|job| job.verified) && jobs.iter().all(demo::Job::is_fine),
        host: host_line(&console),
        kernel: format!("Linux {}, untouched package", kernel.trim()),
        accelerator: demo::accelerator(document("list")),
        jobs,
        seconds,
        problems: Report::new("demo", seconds, run.into_steps()).problems(),
        smoke: documents
            .into_iter()
            .map(|(_, document)| document)
            .collect(),
    };
    write_json(&path, &report)?;
    println!("\n{}", report.table().trim_end());
    Ok(report.ok)
}

fn bench(run: Runner) -> anyhow::Result<bool> {
    steps::module(&run);
    steps::user_space(&run, &[]);
    let mut documents = steps::machine(&run, Kernel::Packaged, "bench", 28, None);
    // A host of another kind: a machine of its own.
    let others = steps::machine(&run, Kernel::Packaged, "bench-async", 12, None);
    documents.extend(others);
    let names = ["vm-packaged-bench", "vm-packaged-bench-async"];
    let console = fs::read(run.log(names[0])).unwrap_or_default();
    let console = String::from_utf8_lossy(&console).into_owned();
    let path = run.repo.join("out/bench.json");
    let passed = names.iter().all(|name| run.passed(name));
    let seconds = run.elapsed().as_secs_f64().round();
    let report = bench::Bench {
        schema: 1,
        ok: passed && bench::is_complete(&documents),
        emulated: bench::is_emulated(&host_line(&console)),
        host: host_line(&console),
        runs: documents.into_iter().map(bench::Run::from).collect(),
        seconds,
        problems: Report::new("bench", seconds, run.into_steps()).problems(),
    };
    write_json(&path, &report)?;
    println!("\n{}", report.table().trim_end());
    println!("out/bench.json written");
    Ok(report.ok)
}

fn bench_instructions(run: Runner) -> anyhow::Result<bool> {
    const NAME: &str = "bench-instructions";
    steps::module(&run);
    steps::user_space(&run, &[]);
    let documents = steps::machine(&run, Kernel::Packaged, NAME, 10, None);
    let report = documents.into_iter().map(|(_, document)| document).next();
    let path = run.repo.join(format!("out/{NAME}.json"));
    let passed = run.passed(&format!("vm-packaged-{NAME}"));
    let seconds = run.elapsed().as_secs_f64().round();
    let problems = Report::new(NAME, seconds, run.into_steps()).problems();
    let report = report.unwrap_or_default();
    let counted = instructions::Instructions::new(report, passed, seconds, problems);
    write_json(&path, &counted)?;
    println!("\n{}", counted.table().trim_end());
    println!("out/{NAME}.json written");
    Ok(counted.ok)
}

/// Each part of what the driver survives, for a short time.
fn survive_briefly(run: &Runner) {
    let begin = Instant::now();
    let plans = ["survive", "misbehave"];
    let documents = plans.map(|plan| steps::machine(run, Kernel::Debug, plan, 25, None));
    let passed = plans
        .iter()
        .all(|plan| run.passed(&format!("vm-debug-{plan}")));
    let report = survive::Survive::new(documents.concat(), passed, 9);
    let written = write_json(&run.repo.join("out/survive.json"), &report);
    let verdict = match written {
        Ok(()) if report.ok => Ok(Vec::new()),
        Ok(()) => Err(report.table()),
        Err(error) => Err(format!("{error:#}")),
    };
    run.done("survive-report", begin, verdict);
}

fn soak(run: Runner) -> anyhow::Result<bool> {
    // image.sh makes the plan by the same variable.
    let minutes = match env::var("SOAK_MINUTES") {
        Ok(text) => text
            .parse()
            .with_context(|| format!("SOAK_MINUTES: {text} is no number"))?,
        Err(_) => SOAK_MINUTES,
    };
    steps::module(&run);
    steps::user_space(&run, &[steps::SURVIVE]);
    steps::debug_kernel(&run);
    let documents = steps::machine(&run, Kernel::Debug, "soak", minutes + 20, None);
    let report = survive::Survive::new(documents, run.passed("vm-debug-soak"), 1);
    write_json(&run.repo.join("out/survive.json"), &report)?;
    println!("\n{}", report.table().trim_end());
    println!("out/survive.json written");
    Ok(report.ok)
}

/// How long a soak takes unless the environment says otherwise.
const SOAK_MINUTES: u64 = 30;

/// The host says on one line how it runs the machine.
fn host_line(console: &str) -> String {
    console
        .lines()
        .find_map(|line| line.trim().strip_prefix("vaccel-host: "))
        .unwrap_or("vaccel-host")
        .to_owned()
}
