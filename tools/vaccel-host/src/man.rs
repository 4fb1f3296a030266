// SPDX-License-Identifier: MIT OR Apache-2.0
//! The manual page, made of the command line's own texts.

use std::io::Write;

use anyhow::{Context, Result};
use clap::CommandFactory;
use clap_mangen::roff::{roman, Roff};
use clap_mangen::Man;

use crate::cli::Cli;

/// What is not said by an option: title, text.
const SECTIONS: &[(&str, &[&str])] = &[
    (
        "COMPARING TRACES",
        &[
            "vaccel-host trace-diff [--json] A B says what two traces, written with --trace, differ in: commands \
             that are in one only, and fields whose values differ. Times, transaction ids and the bytes of known \
             messages do not count, and handles, identifiers and addresses only have to correspond. Its exit \
             status is 0 if the traces say the same, 1 if they differ, 2 if they cannot be compared.",
        ],
    ),
    (
        "EXIT STATUS",
        &[
            "The status that the guest set before it powered off. 1 without one: the machine could not be made, \
             or the guest crashed, reset itself, or did not end in time; a line on standard error says which. \
             2 for wrong usage.",
        ],
    ),
    (
        "ENVIRONMENT",
        &[
            "VACCEL_LOG: which log lines go to standard error, as \"debug\" or \"vmbus_server=trace\"; \"info\" \
             unless set.",
            "VACCEL_OUTER_DIR: folder of the outer machine's kernel and modules, for hosts whose KVM cannot boot \
             a kernel; else vaccel/outer in XDG_CACHE_HOME or ~/.cache.",
        ],
    ),
    (
        "FILES",
        &["/dev/kvm must be readable and writable. Without it, QEMU (qemu-system-x86_64) is needed."],
    ),
];

/// Writes the page: one for the program, whose command is `run`; the others have a section.
///
/// # Errors
///
/// Fails if `out` does.
pub fn write(out: &mut dyn Write) -> Result<()> {
    let mut program = Cli::command();
    program.build();
    let about = program.get_about().cloned().unwrap_or_default();
    let run = program
        .find_subcommand("run")
        .context("there is no command run")?;
    let page = run.clone().name("vaccel-host").about(about);
    let man = Man::new(page).title("VACCEL-HOST");
    man.render_title(out)?;
    man.render_name_section(out)?;
    man.render_synopsis_section(out)?;
    man.render_description_section(out)?;
    man.render_options_section(out)?;
    let mut roff = Roff::new();
    for (title, texts) in SECTIONS {
        roff.control("SH", [*title]);
        for text in *texts {
            roff.control("PP", []);
            roff.text([roman(*text)]);
        }
    }
    roff.to_writer(out)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The page has every option of the command line, each with its first words of help, and says how it is
    /// called.
    #[test]
    fn names_every_option() {
        let mut bytes = Vec::new();
        write(&mut bytes).unwrap();
        let page = String::from_utf8(bytes).unwrap().replace("\\-", "-");
        let mut program = Cli::command();
        program.build();
        let run = program.find_subcommand("run").unwrap();
        let mut options = 0;
        for option in run.get_arguments() {
            let name = option.get_long().unwrap();
            assert!(page.contains(&format!("--{name}")), "--{name}");
            assert!(option.get_help().is_some(), "--{name} has no help");
            options += 1;
        }
        assert!(options > 20);
        let diff = program.find_subcommand("trace-diff").unwrap();
        for option in diff.get_arguments().filter_map(clap::Arg::get_long) {
            assert!(page.contains(&format!("--{option}")), "--{option}");
        }
        assert!(page.contains("vaccel-host run"), "{page}");
        for (title, _) in SECTIONS {
            assert!(page.contains(title), "{title}");
        }
    }
}
