//! Documentation that is made from code, and kept in the repository so that it can be read there.

use std::fs;
use std::path::Path;

use crate::Failure;
use crate::check::Findings;

/// Makes the content of a file.
type Make = fn() -> String;

const GENERATED: [(&str, Make); 1] = [("docs/syscalls.md", minka_syscalls::docs::markdown)];

/// Makes all of it anew.
pub(crate) fn write(root: &Path) -> Result<(), Failure> {
    for (name, make) in GENERATED {
        fs::write(root.join(name), make()).map_err(|error| format!("write {name}: {error}"))?;
        println!("{name}");
    }
    Ok(())
}

/// Finds what is not current.
pub(crate) fn check(root: &Path, findings: &mut Findings) {
    for (name, make) in GENERATED {
        // A file that cannot be read is not current either.
        if fs::read_to_string(root.join(name)).ok() != Some(make()) {
            findings.errors.push(format!("{name}: is not current; `cargo xtask docs` makes it anew"));
        }
    }
}
