//! A real package in C, of some hundred and seventy translation units, for `minka bench farm`.
//!
//! It is libgit2, as it comes with a crate of the registry: that is where a machine that builds Minka gets its sources
//! from anyway. Nothing of it is in this repository.

use std::fs;
use std::path::{Path, PathBuf};

use crate::Failure;
use crate::command::{cargo, succeed};

/// Depends on the crates that bring the sources, and on nothing that belongs to this workspace.
const MANIFEST: &str = r#"[package]
name = "farm"
edition = "2024"

[lib]
path = "lib.rs"

[dependencies]
libgit2-sys = "=0.18.8"
libz-sys = "=1.1.31"

[workspace]
"#;

const MAKEFILE: &str = include_str!("farm/Makefile");
const FEATURES: &str = include_str!("farm/git2_features.h");

/// What is taken of the crates, and where it goes.
const PARTS: [(&str, &str); 4] = [
    ("libgit2-sys/libgit2/src", "src"),
    ("libgit2-sys/libgit2/include", "include"),
    ("libgit2-sys/libgit2/deps", "deps"),
    ("libz-sys/src/zlib", "deps/zlib"),
];

/// Makes the package.
pub(crate) fn make(root: &Path, directory: Option<PathBuf>) -> Result<(), Failure> {
    let directory = directory.unwrap_or_else(|| root.join("target/farm"));
    if directory.join("package").exists() {
        println!("{}", directory.join("package").display());
        return Ok(());
    }
    fs::create_dir_all(&directory)?;
    let directory = directory.canonicalize()?;
    fs::write(directory.join("Cargo.toml"), MANIFEST)?;
    fs::write(directory.join("lib.rs"), "")?;
    let crates = directory.join("crates");
    let manifest = directory.join("Cargo.toml");
    let vendor = ["vendor", "--quiet", "--manifest-path"];
    succeed(cargo(root).args(vendor).arg(&manifest).arg(&crates).stdout(std::process::Stdio::null()))?;
    // Under its name only when it is whole.
    let (package, unfinished) = (directory.join("package"), directory.join("unfinished"));
    if unfinished.exists() {
        fs::remove_dir_all(&unfinished)?;
    }
    for (from, to) in PARTS {
        copy(&crates.join(from), &unfinished.join(to))?;
    }
    fs::write(unfinished.join("Makefile"), MAKEFILE)?;
    fs::write(unfinished.join("include/git2_features.h"), FEATURES)?;
    fs::rename(&unfinished, &package)?;
    println!("{}", package.display());
    Ok(())
}

fn copy(from: &Path, to: &Path) -> Result<(), Failure> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from).map_err(|error| format!("read {}: {error}", from.display()))? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}
