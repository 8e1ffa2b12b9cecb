//! Programs that are compiled for a test.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Compiles the C files of a directory of this package to one program.
///
/// # Panics
/// When the compiler finds anything to say.
pub fn c_program(directory: &str) -> PathBuf {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join(directory);
    let program = crate::cache().join(directory);
    let files = files(&sources);
    if is_newer(&program, &files) {
        return program;
    }
    // It gets its name when it is whole: other tests may be looking for it.
    let unfinished = tempfile::Builder::new().tempdir_in(crate::cache()).expect("make a directory");
    let result = unfinished.path().join("program");
    let output = Command::new("cc")
        .args(["-std=gnu11", "-O1", "-g", "-Wall", "-Wextra", "-Werror"])
        // What the compiler knows to be wrong is done on purpose; handlers run on the red zone's stack.
        .args(["-Wno-nonnull", "-Wno-stringop-overflow", "-Wno-stringop-overread", "-Wno-infinite-recursion"])
        .args(["-mno-red-zone", "-o"])
        .arg(&result)
        .args(files.iter().filter(|file| file.extension().is_some_and(|extension| extension == "c")))
        .args(["-lm", "-lpthread", "-lrt"])
        .output()
        .expect("start the C compiler");
    assert!(output.status.success(), "compile {directory}:\n{}", String::from_utf8_lossy(&output.stderr));
    fs::rename(result, &program).expect("name the program");
    program
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).expect("read the directory of a program");
    let mut files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    files.sort();
    files
}

fn is_newer(program: &Path, sources: &[PathBuf]) -> bool {
    let changed = |path: &Path| path.metadata().and_then(|data| data.modified()).ok();
    let newest = sources.iter().filter_map(|source| changed(source)).max();
    changed(program).is_some_and(|program| newest.is_none_or(|newest| program > newest))
}
