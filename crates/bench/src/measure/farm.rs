//! `farm`: how much sooner a source package is compiled when the node where `make` runs has others beside it.
//!
//! Nothing is said to `make` or to the compiler, and nothing is installed on the other nodes: `make -j` is started on
//! the first node of a lab, and its compilers find themselves computing where there is room. The same package is
//! compiled on one node alone, and by distcc over the same nodes, where it is installed. All of it happens in one
//! directory, one after the other, and the object files have to be the same each time.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use minka_lab::{BalanceMode, LabOptions, Program, Running, node_address, node_name};
use minka_node::client::Client;

use crate::error::BenchError;
use crate::figures::{Goal, Outcome};
use crate::stage::Stage;

/// Nodes of the farm, and the part of a processor that each has: together less than two processors.
const NODES: u32 = 3;
const SHARE: f64 = 0.4;

/// Compilers at a time for each node.
const JOBS: u32 = 3;

/// Fewer translation units say little about a farm.
const UNITS_MIN: usize = 20;

/// How long a `distccd` may take to listen.
const START_LIMIT: Duration = Duration::from_secs(5);

/// Compiles the package in the directory `source`, which has a `Makefile` whose first target makes object files with
/// `$(CC)`.
///
/// # Errors
/// When the package cannot be copied or compiled, the lab does not come up, or the object files differ.
pub fn farm(source: &Path) -> Result<Outcome, BenchError> {
    if !source.join("Makefile").is_file() {
        let wanted = source.join("Makefile").display().to_string();
        return Err(BenchError::Farm(format!("use {}: {wanted} is not there", source.display())));
    }
    let site = tempfile::tempdir().map_err(BenchError::io("make a directory to compile in"))?;
    let site = Site { source: source.to_owned(), place: site.path().join("package"), _directory: site };
    let alone = site.compile("alone", 1, BalanceMode::None, None)?;
    let farm = site.compile("farm", NODES, BalanceMode::All, None)?;
    farm.same_as(&alone)?;
    let units = alone.objects.len();
    if units < UNITS_MIN {
        return Err(BenchError::Farm(format!("compile {units} files only: that says nothing of a farm")));
    }
    let outcome =
        Outcome::new("farm").promised("speedup", alone.time_s / farm.time_s, Goal::at_least(2.3, 2.6));
    let outcome = if is_installed("distcc") && is_installed("distccd") {
        let distcc = site.compile("distcc", NODES, BalanceMode::None, Some("distcc gcc"))?;
        distcc.same_as(&alone)?;
        outcome.with("distcc_speedup", alone.time_s / distcc.time_s).with("distcc_s", distcc.time_s)
    } else {
        outcome.unknown("distcc_speedup", "distcc is not installed")
    };
    Ok(outcome
        .with("alone_s", alone.time_s)
        .with("farm_s", farm.time_s)
        .with("moves", farm.moves as f64)
        .with("units", units as f64))
}

/// Where the package is compiled again and again.
struct Site {
    source: PathBuf,
    place: PathBuf,
    _directory: tempfile::TempDir,
}

/// What came of it.
struct Compiled {
    time_s: f64,
    moves: u64,
    /// SHA-256 of each object file, by its path in the package.
    objects: BTreeMap<PathBuf, [u8; 32]>,
}

impl Compiled {
    fn same_as(&self, other: &Compiled) -> Result<(), BenchError> {
        let differs = |path: &&PathBuf| self.objects.get(*path) != other.objects.get(*path);
        match self.objects.keys().chain(other.objects.keys()).find(differs) {
            None => Ok(()),
            Some(path) => Err(BenchError::Farm(format!("trust the figures: {} differs", path.display()))),
        }
    }
}

impl Site {
    fn compile(
        &self,
        name: &str,
        nodes: u32,
        balance: BalanceMode,
        compiler: Option<&str>,
    ) -> Result<Compiled, BenchError> {
        self.make_clean()?;
        let stage = Stage::with(LabOptions {
            nodes,
            cpus: vec![SHARE; nodes as usize],
            balance,
            ..LabOptions::named(format!("bench-{name}-{}", std::process::id()))
        })?;
        let mut program =
            Program::new("make").arguments([format!("-j{}", nodes * JOBS)]).directory(&self.place);
        let mut servers = Vec::new();
        if let Some(compiler) = compiler {
            servers = (1..=nodes).map(|node| distccd(&stage, node)).collect::<Result<Vec<_>, _>>()?;
            let state = self.place.with_file_name("distcc");
            fs::create_dir_all(&state).map_err(BenchError::io("make a directory for distcc"))?;
            let hosts: Vec<String> =
                (1..=nodes).map(|node| format!("{}/{JOBS}", node_address(node))).collect();
            program = program
                .arguments([format!("CC={compiler}")])
                .environment("DISTCC_HOSTS", hosts.join(" "))
                .environment("DISTCC_DIR", state)
                // What cannot be sent is to be seen, not compiled at home.
                .environment("DISTCC_FALLBACK", "0");
        }
        let start = Instant::now();
        let log = self.place.with_file_name(format!("{name}.log"));
        let (output, errors) = fs::File::create(&log)
            .and_then(|file| Ok((file.try_clone()?, file)))
            .map_err(BenchError::io("write down what make says"))?;
        let program = program.stdin(Stdio::null()).stdout(output).stderr(errors);
        let status = stage.start(1, program)?.wait()?;
        let time_s = start.elapsed().as_secs_f64();
        drop(servers);
        if !status.success() {
            let said = fs::read_to_string(&log).unwrap_or_default();
            let cause = said.lines().find(|line| line.contains("rror")).unwrap_or_default();
            return Err(BenchError::Farm(format!("compile the package ({name}, {status}): {cause}")));
        }
        let known = Client::connect(&stage.run_directory(1)?)?.ps(true)?;
        let moves = known.iter().map(|process| process.moves).sum();
        let mut objects = BTreeMap::new();
        collect(&self.place, &self.place, &mut objects).map_err(BenchError::io("read what was compiled"))?;
        Ok(Compiled { time_s, moves, objects })
    }

    /// The package as it came.
    fn make_clean(&self) -> Result<(), BenchError> {
        match fs::remove_dir_all(&self.place) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(BenchError::io("remove what was compiled")(error));
            }
            _ => {}
        }
        copy(&self.source, &self.place).map_err(BenchError::io("copy the package"))
    }
}

/// Starts a server of distcc's on a node, and waits until it listens.
fn distccd(stage: &Stage, node: u32) -> Result<Running, BenchError> {
    const PORT: u16 = 3632;
    let address = node_address(node);
    let program = Program::new("distccd")
        .arguments(["--no-detach", "--daemon", "--enable-tcp-insecure", "--allow-private"])
        .arguments(["--listen".to_owned(), address.to_string(), "--jobs".to_owned(), JOBS.to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let mut server = stage.start(node, program)?;
    let until = Instant::now() + START_LIMIT;
    loop {
        let asked = Program::new("bash")
            .arguments(["-c".to_owned(), format!("exec 3<>/dev/tcp/{address}/{PORT}")])
            .stdin(Stdio::null())
            .stderr(Stdio::null());
        if stage.start(node, asked)?.wait()?.success() {
            return Ok(server);
        }
        if server.wait_timeout(Duration::from_millis(50))?.is_some() || Instant::now() > until {
            return Err(BenchError::Farm(format!("start distccd on {}", node_name(node))));
        }
    }
}

fn is_installed(program: &str) -> bool {
    let asked = Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    asked.is_ok_and(|status| status.success())
}

fn copy(from: &Path, to: &Path) -> std::io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        match entry.file_type()? {
            kind if kind.is_dir() => copy(&entry.path(), &target)?,
            kind if kind.is_symlink() => std::os::unix::fs::symlink(fs::read_link(entry.path())?, target)?,
            _ => drop(fs::copy(entry.path(), target)?),
        }
    }
    Ok(())
}

/// The object files below a directory.
fn collect(root: &Path, directory: &Path, found: &mut BTreeMap<PathBuf, [u8; 32]>) -> std::io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_dir() {
            collect(root, &path, found)?;
        } else if path.extension().is_some_and(|extension| extension == "o") {
            let digest = minka_identity::digest_of(&fs::read(&path)?);
            found.insert(path.strip_prefix(root).unwrap_or(&path).to_owned(), digest);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn object_files_are_compared_by_content() {
        let package = tempfile::tempdir().expect("a directory");
        fs::create_dir(package.path().join("part")).expect("a directory");
        fs::write(package.path().join("part/one.o"), "1").expect("write");
        fs::write(package.path().join("one.c"), "1").expect("write");
        let copied = tempfile::tempdir().expect("a directory");
        copy(package.path(), copied.path()).expect("copy");
        let of = |root: &Path| {
            let mut objects = BTreeMap::new();
            collect(root, root, &mut objects).expect("read");
            Compiled { time_s: 1.0, moves: 0, objects }
        };
        let (first, second) = (of(package.path()), of(copied.path()));
        assert_eq!(first.objects.keys().collect::<Vec<_>>(), [Path::new("part/one.o")]);
        first.same_as(&second).expect("the same");
        fs::write(copied.path().join("part/one.o"), "2").expect("write");
        let error = of(copied.path()).same_as(&first).expect_err("another one");
        assert_eq!(error.to_string(), "trust the figures: part/one.o differs");
        fs::write(copied.path().join("part/two.o"), "2").expect("write");
        first.same_as(&of(copied.path())).expect_err("one more");
    }

    #[test]
    fn a_package_without_a_makefile_is_refused() {
        let empty = tempfile::tempdir().expect("a directory");
        let error = farm(empty.path()).expect_err("no package");
        assert!(error.to_string().ends_with("Makefile is not there"), "{error}");
    }
}
