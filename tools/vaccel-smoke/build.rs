// SPDX-License-Identifier: MIT OR Apache-2.0
//! Compiles the compute shaders in `shaders` from WGSL to SPIR-V, into `OUT_DIR`.

use std::env;
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};

use naga::back::spv;
use naga::front::wgsl;
use naga::valid::{Capabilities, ValidationFlags, Validator};

/// Folder of the sources.
const SOURCES: &str = "shaders";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed={SOURCES}");
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR")?);
    for entry in fs::read_dir(SOURCES)? {
        let source = entry?.path();
        let module = compile(&source).map_err(|error| format!("{}: {error}", source.display()))?;
        let name = source.with_extension("spv");
        fs::write(
            out.join(name.file_name().ok_or("a file without a name")?),
            module,
        )?;
    }
    Ok(())
}

fn compile(source: &Path) -> Result<Vec<u8>, Box<dyn Error>> {
    let text = fs::read_to_string(source)?;
    let module = wgsl::parse_str(&text).map_err(|error| error.emit_to_string(&text))?;
    let info =
        Validator::new(ValidationFlags::all(), Capabilities::IMMEDIATES).validate(&module)?;
    // An endless loop is to stay one.
    let options = spv::Options {
        force_loop_bounding: false,
        ..spv::Options::default()
    };
    let words = spv::write_vec(&module, &info, &options, None)?;
    Ok(words.iter().flat_map(|word| word.to_le_bytes()).collect())
}
