// SPDX-License-Identifier: MIT OR Apache-2.0
//! The worker as a process: its start, its lack of rights, its end.

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use engine::{ShaderBuffer, ShaderCall, ShaderStop, Shaders};
use nix::sys::signal::{kill, Signal};
use nix::unistd::Pid;
use shader_process::protocol::{receive, Answer};
use shader_process::{ShaderProcess, StartError};

use crate::memory::Until;
use crate::{program, wgsl, worker};

const LONG: Duration = Duration::from_secs(60);

fn double(value: u8) -> ShaderCall {
    ShaderCall {
        module: wgsl::compile(
            "@group(0) @binding(0) var<storage, read_write> to: array<u32>;
            @compute @workgroup_size(1) fn main() { to[0] *= 2u; }",
        ),
        entry_point: "main".into(),
        groups: [1; 3],
        buffers: vec![ShaderBuffer {
            number: 0,
            writable: true,
            content: vec![value, 0, 0, 0],
        }],
        push_constants: Vec::new(),
    }
}

/// A worker that is killed takes its job with it and no other one.
#[test]
fn killed() {
    let shaders = worker();
    let pid = shaders.worker_pid().unwrap();
    kill(Pid::from_raw(pid.try_into().unwrap()), Signal::SIGKILL).unwrap();
    let died = shaders.run(&mut double(3), LONG, &Until::done());
    assert_eq!(died, Err(ShaderStop::Died));
    let mut call = double(3);
    shaders.run(&mut call, LONG, &Until::done()).unwrap();
    assert_eq!(call.buffers[0].content, [6, 0, 0, 0]);
    assert_ne!(shaders.worker_pid(), Some(pid));
}

/// Every thread of a worker that is ready is under a filter and can gain no rights; it has no
/// descriptor of a file but devices and anonymous memory; and it is gone with its owner.
#[test]
fn no_rights() {
    let shaders = worker();
    shaders.run(&mut double(1), LONG, &Until::done()).unwrap();
    let folder = format!("/proc/{}", shaders.worker_pid().unwrap());
    let mut threads = 0;
    for task in fs::read_dir(format!("{folder}/task")).unwrap() {
        let status = fs::read_to_string(task.unwrap().path().join("status")).unwrap();
        let has = |line: &str| status.lines().any(|l| l == line);
        assert!(has("Seccomp:\t2") && has("NoNewPrivs:\t1"), "{status}");
        threads += 1;
    }
    assert!(threads > 1, "the software device has threads");
    for entry in fs::read_dir(format!("{folder}/fd")).unwrap() {
        let target = fs::read_link(entry.unwrap().path()).unwrap();
        let target = target.to_string_lossy().into_owned();
        let harmless = [
            "socket:",
            "/dev/null",
            "/memfd:",
            "anon_inode:",
            "pipe:",
            "/dev/dri",
        ];
        assert!(
            harmless.iter().any(|start| target.starts_with(start)),
            "{target}"
        );
    }
    drop(shaders);
    assert!(!Path::new(&folder).exists());
}

/// Hundreds of dispatches, first of more shaders than are kept and then of ones that are, each with
/// its own result.
#[test]
fn many() {
    let shaders = worker();
    let pid = shaders.worker_pid();
    for round in 0..250_u32 {
        let mut call = double(100);
        let factor = round % if round < 40 { 20 } else { 8 };
        call.module = wgsl::compile(&format!(
            "@group(0) @binding(0) var<storage, read_write> to: array<u32>;
            @compute @workgroup_size(1) fn main() {{ to[0] *= {factor}u; }}"
        ));
        shaders.run(&mut call, LONG, &Until::done()).unwrap();
        assert_eq!(call.buffers[0].content, (100 * factor).to_le_bytes());
    }
    assert_eq!(shaders.worker_pid(), pid, "it lived through all");
}

/// What is missing is said: the program, a worker in it, a Vulkan device.
#[test]
fn starts_that_fail() {
    let missing = ShaderProcess::start(Path::new("/nowhere")).unwrap_err();
    assert!(matches!(missing, StartError::Spawn { .. }), "{missing}");
    let silent = ShaderProcess::start(Path::new("/bin/true")).unwrap_err();
    assert!(matches!(silent, StartError::Silent { .. }), "{silent}");
    let (mut near, far) = UnixStream::pair().unwrap();
    let mut worker = Command::new(program())
        .env("VK_DRIVER_FILES", "/nowhere")
        .stdin(Stdio::from(OwnedFd::from(far)))
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let Answer::Unable(text) = receive(&mut near).unwrap() else {
        panic!("it found a device");
    };
    assert!(text.contains("mesa-vulkan-drivers"), "{text}");
    worker.wait().unwrap();
}
