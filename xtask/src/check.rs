//! `cargo xtask check`: the rules of the workspace that no compiler knows.

use std::path::Path;

use crate::{Failure, generated, manifests, prose, source};

/// What checking found.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    /// Rules that are broken.
    pub(crate) errors: Vec<String>,
    /// What a reader may want to know.
    pub(crate) warnings: Vec<String>,
}

/// Checks all rules, and shows everything that was found before it fails.
pub(crate) fn run(root: &Path) -> Result<(), Failure> {
    let mut findings = Findings::default();
    manifests::check(root, &mut findings)?;
    source::check(root, &mut findings)?;
    prose::check(root, &mut findings)?;
    generated::check(root, &mut findings);
    println!("\n== rules of the workspace");
    findings.warnings.iter().for_each(|warning| println!("warning: {warning}"));
    findings.errors.iter().for_each(|error| println!("error: {error}"));
    match findings.errors.len() {
        0 => {
            println!("all kept");
            Ok(())
        }
        1 => Err("keep a rule of the workspace".into()),
        count => Err(format!("keep {count} rules of the workspace").into()),
    }
}
