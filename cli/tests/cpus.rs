//! Programs that are started so that they may go to a poorer processor, in a lab where one node pretends to have one.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

const MINKA: &str = env!("CARGO_BIN_EXE_minka");

/// How long anything may take on a machine that has much else to do.
const LIMIT: Duration = Duration::from_secs(60);

/// What the second node lacks.
const LACKING: &str = r#"without_cpu = ["avx", "avx state", "avx2", "fma", "f16c", "bmi2", "popcnt"]"#;

fn run(arguments: &[&str]) -> Output {
    let mut command = Command::new(MINKA);
    command.args(arguments).env("LC_ALL", "C").env_remove("MINKA_DIR").stdin(Stdio::null());
    command.output().unwrap()
}

/// A lab of two nodes, the second of them poorer.
struct Lab {
    name: String,
    directory: tempfile::TempDir,
}

/// A program that has been started on the first node.
struct Work<'a> {
    lab: &'a Lab,
    starter: Child,
    output: PathBuf,
    pid: String,
}

impl Lab {
    fn up(name: &str) -> Self {
        let name = format!("{name}-{}", std::process::id());
        let output = run(&["lab", "up", "--nodes", "2", "--name", &name]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let lab = Lab { name, directory: tempfile::tempdir().unwrap() };
        let configure =
            format!("f=$MINKA_DIR/../node.toml; {{ echo '{LACKING}'; cat $f; }} >$f.n && mv $f.n $f");
        let configured = lab.exec("node2", &["sh", "-c", &configure]);
        assert!(configured.status.success(), "{configured:?}");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cpus/work.c");
        let mut compiler = Command::new("cc");
        compiler.args(["-O1", "-Wall", "-Wextra", "-Werror", "-o"]).arg(lab.program()).arg(source);
        assert!(compiler.status().unwrap().success());
        lab
    }

    fn program(&self) -> PathBuf {
        self.directory.path().join("work")
    }

    fn exec(&self, node: &str, command: &[&str]) -> Output {
        let words = ["lab", "exec", "--name", &self.name, node, "--"];
        run(&words.into_iter().chain(command.iter().copied()).collect::<Vec<_>>())
    }

    /// Starts the program on the first node with these words before it: `minka run …`, or none.
    fn start(&self, before: &[&str], what: &str) -> Work<'_> {
        let output = self.directory.path().join(format!("output-{what}-{}", before.len()));
        let program = self.program();
        let mut command = Command::new(MINKA);
        command
            .args(["lab", "exec", "--name", &self.name, "node1", "--"])
            .args(before)
            .args([program.to_str().unwrap(), what])
            .env_remove("MINKA_DIR")
            .env("GLIBC_TUNABLES", "glibc.malloc.check=0")
            .stdin(Stdio::null())
            .stdout(File::create(&output).unwrap());
        let starter = command.spawn().unwrap();
        let mut work = Work { lab: self, starter, output, pid: String::new() };
        work.until("it begins", |said| said.starts_with("begins ") && said.contains('\n'));
        work.pid = work.said().lines().next().unwrap().split(' ').nth(1).unwrap().to_owned();
        work
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for node in ["node1", "node2"] {
                let log = format!("/run/minka/lab/{}/{node}/node.log", self.name);
                eprintln!("== {node}\n{}", std::fs::read_to_string(log).unwrap_or_default());
            }
        }
        let _ = run(&["lab", "down", "--name", &self.name]);
    }
}

impl Work<'_> {
    fn said(&self) -> String {
        std::fs::read_to_string(&self.output).unwrap()
    }

    fn until(&self, what: &str, mut is: impl FnMut(&str) -> bool) {
        let deadline = Instant::now() + LIMIT;
        while !is(&self.said()) {
            assert!(Instant::now() < deadline, "never {what}: {}", self.said());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Waits until it has computed on.
    fn goes_on(&self) {
        let before = self.said().len();
        self.until("it goes on", |said| said.len() > before && said.ends_with("computes\n"));
    }

    fn migrate(&self, to: &str) -> (i32, String) {
        let output = self.lab.exec("node1", &[MINKA, "migrate", &self.pid, to]);
        (output.status.code().unwrap(), String::from_utf8_lossy(&output.stderr).into_owned())
    }

    fn moves(&self, to: &str) {
        let (status, words) = self.migrate(to);
        assert_eq!(status, 0, "{words}");
        self.goes_on();
    }

    fn is_refused(&self, why: &str) {
        let (status, words) = self.migrate("node2");
        assert!(status == 5 && words.contains(why), "{status}: {words}");
        self.goes_on();
    }

    fn variable(&self, name: &str) -> Option<String> {
        let file = format!("/proc/{}/environ", self.pid);
        let environment = self.lab.exec("node1", &["cat", &file]).stdout;
        let environment = String::from_utf8_lossy(&environment).into_owned();
        let found = environment.split('\0').find_map(|one| one.strip_prefix(name)?.strip_prefix('='));
        found.map(str::to_owned)
    }

    fn at(&self) -> Value {
        let output = self.lab.exec("node1", &[MINKA, "ps", "--json"]);
        let all: Value = serde_json::from_slice(&output.stdout).unwrap();
        let own = all.as_array().unwrap().iter().find(|it| it["pid"] == self.pid.parse::<i32>().unwrap());
        own.map_or(Value::Null, |own| own["at"].clone())
    }

    fn signal(&self, name: &str) {
        assert!(self.lab.exec("node1", &["kill", "-s", name, &self.pid]).status.success());
    }

    fn ends(mut self) {
        self.signal("TERM");
        assert!(self.starter.wait().unwrap().success(), "{}", self.said());
        assert!(self.said().ends_with("ends\n"), "{}", self.said());
    }
}

/// Whether there is something here to be without.
fn can_be_shown() -> bool {
    let flags = std::fs::read_to_string("/proc/cpuinfo").unwrap();
    let has = |name: &str| flags.split_whitespace().any(|flag| flag == name);
    let can = rustix::process::geteuid().is_root() && has("avx2") && has("popcnt");
    if !can {
        eprintln!("skipped: it takes root, and a processor with AVX2");
    }
    can
}

#[test]
fn who_is_started_for_a_poorer_processor_goes_there_and_so_do_its_children() {
    if !can_be_shown() {
        return;
    }
    let lab = Lab::up("cpus-like");
    let rich = lab.start(&[], "plain");
    rich.is_refused("avx2");
    assert_eq!(rich.variable("MINKA_CPU"), None);
    rich.ends();

    let like = [MINKA, "run", "--cpus-like", "node2", "--"];
    let work = lab.start(&like, "plain");
    assert_eq!(work.at(), Value::Null, "it is started here");
    let said = work.said();
    let tunables = said.lines().next().unwrap().split(' ').nth(2).unwrap();
    assert!(tunables.starts_with("glibc.malloc.check=0:glibc.cpu.hwcaps=-AVX"), "{tunables}");
    assert!(["-AVX2,", "-BMI2,", "-POPCNT"].iter().all(|name| tunables.contains(name)), "{tunables}");
    assert!(work.variable("OPENSSL_ia32cap").unwrap().starts_with("~0x"));
    for to in ["node2", "home", "node2", "home"] {
        work.moves(to);
    }
    work.ends();

    // By a shell, which passes on its environment.
    let child = lab.start(&[&like[..], &["sh", "-c", "\"$0\" \"$@\"; exit $?"]].concat(), "plain");
    child.moves("node2");
    assert_eq!(child.at(), "node2");
    child.ends();

    // Placed there at once.
    let placed =
        lab.start(&[MINKA, "run", "--cpus-like", "node2", "--on", "node2", "--strict", "--"], "plain");
    assert_eq!(placed.at(), "node2");
    placed.moves("home");
    placed.ends();

    let output = lab.exec("node1", &[MINKA, "run", "--cpus-like", "nowhere", "true"]);
    assert_eq!(output.status.code(), Some(4), "{output:?}");
    let own =
        lab.exec("node1", &[MINKA, "run", "--cpus-like", "node1", "sh", "-c", "echo ${GLIBC_TUNABLES-none}"]);
    assert_eq!(String::from_utf8_lossy(&own.stdout), "none\n");
}

#[test]
fn what_has_no_place_there_stays_here() {
    if !can_be_shown() {
        return;
    }
    let lab = Lab::up("cpus-state");
    let work = lab.start(&[MINKA, "run", "--cpus-like", "node2", "--"], "registers");
    work.is_refused("does not keep the avx state");
    work.is_refused("does not keep the avx state");
    work.ends();
}

#[test]
fn an_instruction_that_a_processor_does_not_know_takes_its_program_home_for_good() {
    if !can_be_shown() {
        return;
    }
    let lab = Lab::up("cpus-unknown");
    let work = lab.start(&[MINKA, "run", "--cpus-like", "node2", "--"], "instruction");
    work.moves("node2");
    work.signal("USR1");
    work.until("it has come home", |said| said.contains("raised 1\n"));
    work.goes_on();
    assert_eq!(work.at(), "node1");
    work.is_refused("lacks");
    work.ends();
}
