//! Rules about source files: where `unsafe` may be, that each file says what it is, and how long it is.

use std::fs;
use std::path::{Path, PathBuf};

use crate::Failure;
use crate::check::Findings;

/// Directories with source files.
const DIRECTORIES: [&str; 4] = ["crates", "cli", "xtask", "tests"];

/// The one package that talks to the kernel.
const UNSAFE_PACKAGE: &str = "crates/kernel/";

/// A file with more lines than this deserves a second look.
const LINES_MAX: usize = 600;

pub(crate) fn check(root: &Path, findings: &mut Findings) -> Result<(), Failure> {
    for directory in DIRECTORIES {
        for path in files(&root.join(directory), "rs")? {
            let text = fs::read_to_string(&path)?;
            let name = path.strip_prefix(root).unwrap_or(&path).to_string_lossy().into_owned();
            examine(&name, &text, findings);
        }
    }
    Ok(())
}

/// Files below a directory with this extension, sorted; none where there is no directory.
pub(crate) fn files(directory: &Path, extension: &str) -> Result<Vec<PathBuf>, Failure> {
    let mut found = Vec::new();
    let mut directories = vec![directory.to_owned()];
    while let Some(directory) = directories.pop() {
        let entries = match fs::read_dir(&directory) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            other => other.map_err(|error| format!("list {}: {error}", directory.display()))?,
        };
        for entry in entries {
            let entry = entry?;
            let path = entry.path();
            if entry.file_type()?.is_dir() {
                directories.push(path);
            } else if path.extension().is_some_and(|found| found == extension) {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

fn examine(name: &str, text: &str, findings: &mut Findings) {
    // A file of unit tests is said by the module that it tests.
    if !text.starts_with("//!") && !name.ends_with("/tests.rs") {
        findings.errors.push(format!("{name}: must begin with what it is for (`//!`)"));
    }
    // The compiler denies unsafe code wherever it is not allowed like this.
    let allowed = ["allow", "expect"].iter().any(|level| text.contains(&format!("{level}(unsafe_code")));
    let is_test = name.contains("/tests/") || name.starts_with("tests/");
    if allowed && !name.starts_with(UNSAFE_PACKAGE) && !is_test {
        findings.errors.push(format!("{name}: unsafe code is for {UNSAFE_PACKAGE} and for tests"));
    }
    for (number, _) in text.lines().enumerate().filter(|(_, line)| line.trim() == "#[ignore]") {
        findings.errors.push(format!("{name}:{}: an ignored test must say why", number + 1));
    }
    let lines = text.lines().count();
    if lines > LINES_MAX {
        findings.warnings.push(format!("{name}: {lines} lines; could it be several files?"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(name: &str, text: &str, errors: usize, warnings: usize) {
        let mut findings = Findings::default();
        examine(name, text, &mut findings);
        assert_eq!((findings.errors.len(), findings.warnings.len()), (errors, warnings), "{findings:?}");
    }

    #[test]
    fn unsafe_code_is_for_one_package_and_for_tests() {
        let text = format!("//! Text.\n#[{}(unsafe_code)]\n", "allow");
        check("crates/kernel/src/ring.rs", &text, 0, 0);
        check("crates/syscalls/tests/filter.rs", &text, 0, 0);
        check("tests/src/lib.rs", &text, 0, 0);
        check("crates/image/src/lib.rs", &text, 1, 0);
    }

    #[test]
    fn files_say_what_they_are_and_tests_why_they_are_ignored() {
        check("cli/src/main.rs", "use std::io;\n", 1, 0);
        check("cli/src/main.rs", &format!("//! Text.\n    #[{}]\n", "ignore"), 1, 0);
        check("cli/src/main.rs", "//! Text.\n", 0, 0);
    }

    #[test]
    fn long_files_are_mentioned() {
        let lines = |count: usize| format!("//! Text.\n{}", "\n".repeat(count - 1));
        check("cli/src/main.rs", &lines(LINES_MAX), 0, 0);
        check("cli/src/main.rs", &lines(LINES_MAX + 1), 0, 1);
    }
}
