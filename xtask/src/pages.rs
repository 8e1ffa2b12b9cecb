//! Manual pages and shell completions, which the program itself makes from its command line.
//!
//! ```text
//! DIR/man1/minka*.1           DIR/completions/minka.bash
//! DIR/es/man1/minka*.1                        _minka, minka.fish
//! ```

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Each language with its directory, as `man` looks for it.
const LANGUAGES: [(&str, &str); 2] = [("C", "man1"), ("es", "es/man1")];

/// Each shell with the file's name that it looks for.
const SHELLS: [(&str, &str); 3] = [("bash", "minka.bash"), ("zsh", "_minka"), ("fish", "minka.fish")];

/// Makes all pages.
pub(crate) fn make(directory: Option<PathBuf>) -> Result<(), Box<dyn Error>> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let built = Command::new(cargo).args(["build", "--quiet", "--package", "minka"]).status()?;
    if !built.success() {
        return Err("build minka".into());
    }
    // Cargo puts all programs of the workspace into one directory, this one included.
    let program = std::env::current_exe()?.with_file_name("minka");
    let directory = directory.unwrap_or_else(|| program.with_file_name("pages"));
    write(&program, &directory)?;
    println!("{}", directory.display());
    Ok(())
}

/// Has a program write all its pages.
pub(crate) fn write(program: &Path, directory: &Path) -> Result<(), Box<dyn Error>> {
    for (language, subdirectory) in LANGUAGES {
        let pages = directory.join(subdirectory);
        run(program, language, &["man".as_ref(), "--dir".as_ref(), pages.as_ref()])?;
    }
    let completions = directory.join("completions");
    fs::create_dir_all(&completions)?;
    for (shell, name) in SHELLS {
        let output = run(program, "C", &["completions".as_ref(), shell.as_ref()])?;
        fs::write(completions.join(name), output.stdout)?;
    }
    Ok(())
}

fn run(program: &Path, language: &str, arguments: &[&Path]) -> Result<Output, Box<dyn Error>> {
    let output = Command::new(program).args(arguments).env("LC_ALL", language).output()?;
    if output.status.success() {
        Ok(output)
    } else {
        Err(format!("run minka: {}", String::from_utf8_lossy(&output.stderr)).into())
    }
}
