//! A program to be run, and what came of it.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};
use tempfile::TempDir;

/// How often it is looked whether a program has ended.
const LOOK_INTERVAL: Duration = Duration::from_millis(5);

/// A program with all that it needs.
#[derive(Debug, Clone)]
pub struct Program {
    pub(crate) name: String,
    pub(crate) words: Vec<OsString>,
    pub(crate) input: Option<PathBuf>,
    pub(crate) environment: Vec<(String, OsString)>,
    /// A file that it makes, relative to its directory, and that counts as output.
    pub(crate) product: Option<PathBuf>,
    pub(crate) interval: Duration,
    pub(crate) limit: Duration,
    /// What stands first in the configuration of the nodes on which it is moved about.
    pub(crate) configuration: String,
}

/// What came of a program.
#[derive(Debug)]
pub struct Run {
    /// As a shell gives it.
    pub status: i32,
    /// Where it ran; its output and errors are files in it.
    directory: TempDir,
    product: Option<PathBuf>,
    /// How long it took.
    pub time: Duration,
}

impl Program {
    /// A program by its words; the first is looked for as a shell does.
    pub fn new<T: AsRef<OsStr>>(words: impl IntoIterator<Item = T>) -> Self {
        let words: Vec<OsString> = words.into_iter().map(|word| word.as_ref().to_owned()).collect();
        let first = Path::new(words.first().expect("a program has a name"));
        Self {
            name: first.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            words,
            input: None,
            environment: Vec::new(),
            product: None,
            interval: crate::sized(Duration::from_millis(100), Duration::from_millis(200)),
            limit: crate::limit(),
            configuration: String::new(),
        }
    }

    /// A command line of the shell.
    pub fn shell(line: &str) -> Self {
        Self::new(["/bin/sh", "-c", line])
    }

    /// What it is called in messages and in the table.
    pub fn called(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// What it reads.
    pub fn reads(mut self, file: impl Into<PathBuf>) -> Self {
        self.input = Some(file.into());
        self
    }

    /// A variable of its environment.
    pub fn with(mut self, name: &str, value: impl Into<OsString>) -> Self {
        self.environment.push((name.to_owned(), value.into()));
        self
    }

    /// A file that it makes in its working directory, besides its output.
    pub fn makes(mut self, file: impl Into<PathBuf>) -> Self {
        self.product = Some(file.into());
        self
    }

    /// How often it is moved.
    pub fn every(mut self, interval: Duration) -> Self {
        self.interval = interval;
        self
    }

    /// How long it may take.
    pub fn within(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Lines of the configuration of the nodes on which it is moved about.
    pub fn on_nodes_with(mut self, configuration: &str) -> Self {
        self.configuration = format!("{configuration}\n");
        self
    }

    /// Runs it as everybody does.
    pub fn natively(&self) -> Run {
        let (mut words, directory) = (self.words.iter(), scratch());
        let mut command = Command::new(words.next().expect("a program has a name"));
        command.args(words);
        self.run(command, directory)
    }

    /// Runs a command in this program's surroundings.
    pub(crate) fn run(&self, mut command: Command, directory: TempDir) -> Run {
        let create = |name: &str| File::create(directory.path().join(name)).expect("make a file");
        let input = self.input.as_ref().map(|path| File::open(path).expect("open the input"));
        command
            .current_dir(directory.path())
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .env("TMPDIR", directory.path())
            .env("LC_ALL", "C")
            .stdin(input.map_or_else(Stdio::null, Stdio::from))
            .stdout(create(OUTPUT))
            .stderr(create(ERRORS))
            .process_group(0);
        let start = Instant::now();
        let child = command.spawn().unwrap_or_else(|error| panic!("start {}: {error}", self.name));
        let status = wait(child, self.limit);
        Run { status: shell_status(status), directory, product: self.product.clone(), time: start.elapsed() }
    }
}

const OUTPUT: &str = "standard-output";
const ERRORS: &str = "standard-error";

/// The status of a program that was ended because it took too long.
pub const TOO_LONG: i32 = 128 + 9;

/// A directory on a disk: what programs read and write in `/tmp` may be memory.
pub(crate) fn scratch() -> TempDir {
    tempfile::Builder::new().prefix("minka-program-").tempdir_in(crate::cache()).expect("make a directory")
}

/// Waits for a child; one that takes too long is killed with its whole process group.
fn wait(mut child: Child, limit: Duration) -> ExitStatus {
    let until = Instant::now() + limit;
    loop {
        if let Some(status) = child.try_wait().expect("wait for a child") {
            return status;
        }
        if Instant::now() > until {
            let group = Pid::from_raw(child.id() as i32).expect("a child has a PID");
            // It may have ended at this moment.
            let _ = kill_process_group(group, Signal::KILL);
            return child.wait().expect("wait for a child");
        }
        std::thread::sleep(LOOK_INTERVAL);
    }
}

fn shell_status(status: ExitStatus) -> i32 {
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or_default())
}

impl Run {
    /// What it wrote to standard output.
    pub fn output(&self) -> Vec<u8> {
        self.file(OUTPUT)
    }

    /// What it wrote to standard error.
    pub fn errors(&self) -> Vec<u8> {
        self.file(ERRORS)
    }

    /// The file that it made besides.
    pub fn product(&self) -> Option<Vec<u8>> {
        let product = self.product.as_ref()?;
        Some(std::fs::read(self.directory.path().join(product)).unwrap_or_default())
    }

    fn file(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.directory.path().join(name)).expect("read what a program wrote")
    }
}
