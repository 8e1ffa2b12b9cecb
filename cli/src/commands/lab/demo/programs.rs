//! The programs of the demonstration: what every Linux system has, unmodified, with work for some seconds.
//!
//! Each is deterministic, so that what it writes while it is moved about can be compared, byte by byte, with
//! what it writes when it is left alone.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// Upper bounds of the searches for primes, chosen to take a second or two.
const AWK_PRIMES: u32 = 900_000;
const PERL_PRIMES: u32 = 700_000;
const PYTHON_PRIMES: u32 = 450_000;

/// Lines of the file to sort and to compress.
const LINES: u32 = 1_000_000;

/// Bytes of the file to hash. It has no blocks on the disk: reading it gives zeros.
const ZEROS: u64 = 512 << 20;

/// A program with its work.
#[derive(Debug, Clone)]
pub(super) struct Work {
    /// The program's name.
    pub(super) name: &'static str,
    /// Which message says what it computes, and its figure.
    pub(super) message: &'static str,
    pub(super) figure: u64,
    arguments: Vec<OsString>,
}

impl Work {
    /// The command line.
    pub(super) fn command(&self) -> Vec<OsString> {
        let name = OsString::from(self.name);
        std::iter::once(name).chain(self.arguments.iter().cloned()).collect()
    }

    /// Where it writes its result: when left alone, or when moved about.
    pub(super) fn result(&self, directory: &Path, moved: bool) -> PathBuf {
        directory.join(format!("{}.{}", self.name, if moved { "moved" } else { "alone" }))
    }

    /// Starts it here, to be left alone.
    pub(super) fn start_alone(&self, directory: &Path) -> io::Result<Child> {
        let result = File::create(self.result(directory, false))?;
        let mut command = Command::new(self.name);
        command.args(&self.arguments).env("LC_ALL", "C");
        command.stdin(Stdio::null()).stdout(result).stderr(Stdio::null()).spawn()
    }
}

/// The programs that this system has, with their input files made in a directory.
pub(super) fn prepare(directory: &Path) -> io::Result<Vec<Work>> {
    let lines = directory.join("lines");
    let zeros = directory.join("zeros");
    write_lines(&lines)?;
    File::create(&zeros)?.set_len(ZEROS)?;
    let mut works = vec![
        work("awk", "demo-primes", AWK_PRIMES, vec![awk_primes().into()]),
        work("perl", "demo-primes", PERL_PRIMES, vec!["-e".into(), perl_primes().into()]),
        work("python3", "demo-primes", PYTHON_PRIMES, vec!["-ISc".into(), python_primes().into()]),
        work("gzip", "demo-gzip", LINES, vec!["-9nc".into(), lines.clone().into()]),
        work("sort", "demo-sort", LINES, vec!["--parallel=1".into(), "-k1,1n".into(), lines.into()]),
        work("sha256sum", "demo-sha256sum", (ZEROS >> 20) as u32, vec![zeros.into()]),
    ];
    works.retain(|work| is_found(work.name));
    Ok(works)
}

fn work(name: &'static str, message: &'static str, figure: u32, arguments: Vec<OsString>) -> Work {
    Work { name, message, figure: u64::from(figure), arguments }
}

fn is_found(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|directory| directory.join(program).is_file())
}

/// Pairs of a number that looks random and the line's own number.
fn write_lines(path: &Path) -> io::Result<()> {
    let mut file = BufWriter::new(File::create(path)?);
    let mut number: u32 = 1;
    for line in 0..LINES {
        number = number.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        writeln!(file, "{number} {line}")?;
    }
    file.flush()
}

fn awk_primes() -> String {
    format!(
        "BEGIN {{ count = 1; for (n = 3; n < {AWK_PRIMES}; n += 2) {{ prime = 1; \
         for (d = 3; d * d <= n; d += 2) if (n % d == 0) {{ prime = 0; break }} count += prime }} print count }}"
    )
}

fn perl_primes() -> String {
    format!(
        "my $count = 1; for (my $n = 3; $n < {PERL_PRIMES}; $n += 2) {{ my $prime = 1; \
         for (my $d = 3; $d * $d <= $n; $d += 2) {{ if ($n % $d == 0) {{ $prime = 0; last }} }} \
         $count += $prime }} print \"$count\\n\";"
    )
}

fn python_primes() -> String {
    format!(
        "count = 1\nfor n in range(3, {PYTHON_PRIMES}, 2):\n  d = 3\n  while d * d <= n:\n    \
         if n % d == 0: break\n    d += 2\n  else: count += 1\nprint(count)"
    )
}
