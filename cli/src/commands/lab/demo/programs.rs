//! The programs of the demonstration: what every Linux system has, unmodified, with work for some seconds.
//!
//! Each is deterministic, so that what it writes while it is moved about can be compared, byte by byte, with
//! what it writes when it is left alone.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// Upper bounds of the searches for primes on a standard processor, chosen so that one takes two or three seconds on a
/// processor of today; and how much further the first, the second and the third program of a kind searches.
const AWK_PRIMES: u64 = 1_150_000;
const PERL_PRIMES: u64 = 950_000;
const PYTHON_PRIMES: u64 = 650_000;
const STEPS: [u64; 3] = [100, 104, 108];

/// Lines of the file to sort and to compress.
const LINES: u64 = 1_200_000;

/// MiB of the file to hash. It has no blocks on the disk: reading it gives zeros.
const ZEROS_MIB: u64 = 768;

/// The speed of the processor for which these figures are right, in standard processors.
const SPEED: f64 = 2.5;

/// A program with its work.
#[derive(Debug, Clone)]
pub(super) struct Work {
    /// How it is called in the demonstration.
    pub(super) name: String,
    /// Which message says what it computes, and its figure.
    pub(super) message: &'static str,
    pub(super) figure: u64,
    command: Vec<OsString>,
}

impl Work {
    /// The command line.
    pub(super) fn command(&self) -> &[OsString] {
        &self.command
    }

    /// Where it writes its result: when left alone, or when moved about.
    pub(super) fn result(&self, directory: &Path, moved: bool) -> PathBuf {
        directory.join(format!("{}.{}", self.name, if moved { "moved" } else { "alone" }))
    }

    /// Starts it here, to be left alone.
    pub(super) fn start_alone(&self, directory: &Path) -> io::Result<Child> {
        let result = File::create(self.result(directory, false))?;
        let (program, arguments) = self.command.split_first().ok_or(io::ErrorKind::InvalidInput)?;
        let mut command = Command::new(program);
        command.args(arguments).env("LC_ALL", "C");
        command.stdin(Stdio::null()).stdout(result).stderr(Stdio::null()).spawn()
    }
}

/// The programs that this system has, with their input files made in a directory. The faster the processor, the more
/// they have to do.
pub(super) fn prepare(directory: &Path) -> io::Result<Vec<Work>> {
    let speed = (minka_sample::measure_speed().relative() / SPEED).clamp(0.3, 10.0);
    let lines = directory.join("lines");
    let zeros = directory.join("zeros");
    let (count, mib) = ((LINES as f64 * speed) as u64, (ZEROS_MIB as f64 * speed) as u64);
    write_lines(&lines, count)?;
    File::create(&zeros)?.set_len(mib << 20)?;
    let mut works = Vec::new();
    for (number, step) in (1..).zip(STEPS) {
        // To search twice as far takes nearly three times as long.
        let further = |primes: u64| (primes * step / 100) as f64 * speed.powf(2.0 / 3.0);
        let mut primes = |program: &str, option: &[&str], figure: u64, script: String| {
            let options = option.iter().map(OsString::from);
            let command = std::iter::once(program.into()).chain(options).chain([script.into()]).collect();
            works.push(Work { name: format!("{program}-{number}"), message: "demo-primes", figure, command });
        };
        let [awk, perl, python] = [AWK_PRIMES, PERL_PRIMES, PYTHON_PRIMES].map(|it| further(it) as u64);
        primes("awk", &[], awk, awk_primes(awk));
        primes("perl", &["-e"], perl, perl_primes(perl));
        primes("python3", &["-ISc"], python, python_primes(python));
    }
    let mut work = |program: &str, message, figure, arguments: &[&str], file: &Path| {
        let arguments = arguments.iter().map(OsString::from);
        let command = std::iter::once(program.into()).chain(arguments).chain([file.into()]).collect();
        works.push(Work { name: program.to_owned(), message, figure, command });
    };
    work("gzip", "demo-gzip", count, &["-9nc"], &lines);
    work("sort", "demo-sort", count, &["--parallel=1", "-k1,1n"], &lines);
    work("sha256sum", "demo-sha256sum", mib, &[], &zeros);
    works.retain(|work| work.command.first().is_some_and(|program| is_found(Path::new(program))));
    Ok(works)
}

fn is_found(program: &Path) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|directory| directory.join(program).is_file())
}

/// Pairs of a number that looks random and the line's own number.
fn write_lines(path: &Path, lines: u64) -> io::Result<()> {
    let mut file = BufWriter::new(File::create(path)?);
    let mut number: u32 = 1;
    for line in 0..lines {
        number = number.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        writeln!(file, "{number} {line}")?;
    }
    file.flush()
}

fn awk_primes(below: u64) -> String {
    format!(
        "BEGIN {{ count = 1; for (n = 3; n < {below}; n += 2) {{ prime = 1; \
         for (d = 3; d * d <= n; d += 2) if (n % d == 0) {{ prime = 0; break }} count += prime }} print count }}"
    )
}

fn perl_primes(below: u64) -> String {
    format!(
        "my $count = 1; for (my $n = 3; $n < {below}; $n += 2) {{ my $prime = 1; \
         for (my $d = 3; $d * $d <= $n; $d += 2) {{ if ($n % $d == 0) {{ $prime = 0; last }} }} \
         $count += $prime }} print \"$count\\n\";"
    )
}

fn python_primes(below: u64) -> String {
    format!(
        "count = 1\nfor n in range(3, {below}, 2):\n  d = 3\n  while d * d <= n:\n    \
         if n % d == 0: break\n    d += 2\n  else: count += 1\nprint(count)"
    )
}
