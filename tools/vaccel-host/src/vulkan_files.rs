// SPDX-License-Identifier: MIT OR Apache-2.0
//! The Vulkan driver of the outer machine: which files it takes, and from where.
//!
//! A list beside the outer kernel names them, one a line: the path there, a tabulator, the path here.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result};

use crate::cpio::Archive;

/// Name of the list in the outer machine's folder.
const LIST: &str = "vulkan.list";

/// Adds the files of the list in the folder `outer`, and the directories that they are in.
///
/// # Errors
///
/// Fails if there is no list, or if something that it names cannot be read or added.
pub fn add(archive: &mut Archive<impl Write>, outer: &Path) -> Result<()> {
    let list = outer.join(LIST);
    let text = fs::read_to_string(&list).with_context(|| {
        format!(
            "no Vulkan driver for --engine spirv in the emulated machine: cannot read {} \
             (`tools/dev/image.sh outer` makes it)",
            list.display()
        )
    })?;
    let mut made = BTreeSet::new();
    for (number, line) in (1..).zip(text.lines()) {
        let (path, source) = line
            .split_once('\t')
            .with_context(|| format!("{}, line {number}: no tabulator", list.display()))?;
        let path = path.trim_start_matches('/');
        for folder in folders(path) {
            if made.insert(folder) {
                archive.directory(folder)?;
            }
        }
        let data = fs::read(source).with_context(|| format!("cannot read {source}"))?;
        archive.file(path, &data)?;
    }
    Ok(())
}

/// The folders that a path is in, the outermost first.
fn folders(path: &str) -> impl Iterator<Item = &str> {
    path.match_indices('/')
        .filter_map(|(end, _)| path.get(..end))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder of this test with a list; removed when dropped.
    struct Folder(std::path::PathBuf);

    impl Folder {
        fn new(name: &str, list: &str) -> Self {
            let name = format!("vaccel-vulkan-{name}-{}", std::process::id());
            let path = std::env::temp_dir().join(name);
            fs::create_dir_all(&path).unwrap();
            fs::write(path.join(LIST), list).unwrap();
            Self(path)
        }

        fn add(&self) -> Result<Vec<u8>> {
            let mut archive = Archive::new(Vec::new());
            add(&mut archive, &self.0)?;
            Ok(archive.finish()?)
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    /// Files come with their content behind their folders, and each folder once.
    #[test]
    fn files_and_folders() {
        let folder = Folder::new("good", "");
        let source = folder.0.join("source");
        fs::write(&source, "content").unwrap();
        let source = source.display();
        let list = format!("/usr/lib/a.so\t{source}\n/usr/lib/b.so\t{source}\n");
        fs::write(folder.0.join(LIST), list).unwrap();
        let text = String::from_utf8(folder.add().unwrap()).unwrap();
        let at = |what: &str| {
            text.match_indices(what)
                .map(|(at, _)| at)
                .collect::<Vec<_>>()
        };
        assert_eq!(at("usr\0").len(), 1);
        assert_eq!(at("usr/lib\0").len(), 1);
        assert!(at("usr/lib\0") < at("usr/lib/a.so\0"));
        assert_eq!(at("content").len(), 2);
    }

    /// What is wrong is named: no list, no such file, no list at all.
    #[test]
    fn errors() {
        for (name, list, part) in [
            ("form", "/a /b\n", "line 1: no tabulator"),
            ("source", "/a\t/nowhere/b\n", "/nowhere/b"),
        ] {
            let error = Folder::new(name, list).add().unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
        let none = add(&mut Archive::new(Vec::new()), Path::new("/nowhere"));
        assert!(none.unwrap_err().to_string().contains("image.sh outer"));
    }
}
