//! A cluster without a lab: its keys and lists are made with the tool, and its daemons run as on real machines.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// How long a daemon may take to be there, and to find the other one.
const PATIENCE: Duration = Duration::from_secs(30);

fn minka(directory: &Path, words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_minka"));
    command.args(words).current_dir(directory).env("LC_ALL", "C").stdin(Stdio::null());
    command
}

fn run(directory: &Path, words: &[&str]) -> Output {
    minka(directory, words).env_remove("MINKA_DIR").output().unwrap()
}

fn done(directory: &Path, words: &[&str]) -> String {
    let output = run(directory, words);
    assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// A daemon that ends with the test.
struct Daemon(Child);

impl Daemon {
    fn start(directory: &Path, name: &str) -> Self {
        let config = format!("minka-cluster/{name}/node.toml");
        let mut command = minka(directory, &["node", "serve", "--config", &config]);
        command.env("MINKA_DIR", directory.join(name)).stderr(Stdio::null());
        Daemon(command.spawn().unwrap())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It may have ended already, which the test has seen.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn free_address() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

#[test]
fn machines_become_a_cluster_and_programs_run_on_the_other_one() {
    let scratch = tempfile::tempdir().unwrap();
    let directory = scratch.path();
    let made = done(directory, &["cluster", "init"]);
    assert!(made.starts_with("minka-cluster is the directory of a new cluster"), "{made}");
    let (first, second) = (free_address(), free_address());
    done(directory, &["cluster", "add", "one", &first]);
    let added = done(directory, &["--json", "cluster", "add", "two", &second]);
    assert!(added.contains("\"config\":\"minka-cluster/two/node.toml\""), "{added}");
    let listed = done(directory, &["--json", "cluster", "list"]);
    assert_eq!(listed, format!("{{\"one\":\"{first}\",\"two\":\"{second}\"}}\n"));

    let _daemons = ["one", "two"].map(|name| Daemon::start(directory, name));
    let at_first =
        |words: &[&str]| minka(directory, words).env("MINKA_DIR", directory.join("one")).output().unwrap();
    let until = Instant::now() + PATIENCE;
    loop {
        let nodes = at_first(&["nodes"]);
        let shown = String::from_utf8(nodes.stdout).unwrap();
        if shown.lines().any(|line| line.starts_with("two") && line.contains("  yes ")) {
            break;
        }
        assert!(Instant::now() < until, "{shown}{}", String::from_utf8_lossy(&nodes.stderr));
        std::thread::sleep(Duration::from_millis(100));
    }
    let output = at_first(&["doctor", "--config", "minka-cluster/one/node.toml"]);
    let shown = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{shown}");
    let good = [
        "the configuration of a node",
        "the keys of the node: one",
        "the daemon of the node",
        "the other nodes",
    ];
    good.iter().for_each(|good| assert!(shown.contains(&format!("ok      {good}")), "{good}: {shown}"));

    let output = at_first(&["run", "--on", "two", "--strict", "--", "sh", "-c", "echo $((6 * 7)); exit 3"]);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{errors}");
    assert_eq!(output.stdout, b"42\n", "{errors}");
}

#[test]
fn mistakes_have_their_exit_status_and_change_nothing() {
    let scratch = tempfile::tempdir().unwrap();
    let directory = scratch.path();
    let fails = |words: &[&str], status: i32, told: &str| {
        let output = run(directory, words);
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(status), "{words:?}: {errors}");
        assert!(errors.contains(told), "{words:?}: {errors}");
    };
    fails(&["cluster", "list"], 1, "read minka-cluster/cluster.toml");
    done(directory, &["cluster", "init"]);
    fails(&["cluster", "init"], 1, "there is one already");
    fails(&["cluster", "add", "home", "10.0.0.1"], 1, "the word has a meaning of its own");
    fails(&["cluster", "add", "One", "10.0.0.1"], 1, "lower-case letters");
    fails(&["cluster", "add", "one", "0.0.0.0"], 2, "other machines cannot reach it there");
    fails(&["cluster", "remove", "one"], 4, "find the node one");
    assert_eq!(done(directory, &["--json", "cluster", "list"]), "{}\n");
}

#[test]
fn a_machine_is_made_a_node_once() {
    let scratch = tempfile::tempdir().unwrap();
    let directory = scratch.path();
    done(directory, &["cluster", "init"]);
    done(directory, &["cluster", "add", "one", "10.0.0.1"]);
    done(directory, &["cluster", "add", "two", "10.0.0.2"]);
    let told = done(directory, &["install", "--root", "image", "minka-cluster/one"]);
    assert!(told.starts_with("this machine is the node one now; nothing has been started"), "{told}");
    let unit = std::fs::read_to_string(directory.join("image/etc/systemd/system/minkad.service")).unwrap();
    assert!(
        unit.contains("ExecStart=/usr/local/bin/minka node serve --config /etc/minka/node.toml\n"),
        "{unit}"
    );
    let installed =
        Command::new(directory.join("image/usr/local/bin/minka")).arg("--version").output().unwrap();
    assert!(installed.status.success());
    let mode = |path: &str| {
        directory.join("image/etc/minka").join(path).metadata().unwrap().permissions().mode() & 0o777
    };
    assert_eq!(
        (mode(""), mode("keys"), mode("keys/node.key"), mode("node.toml")),
        (0o700, 0o700, 0o600, 0o644)
    );

    // Once more, with a list that has changed meanwhile.
    done(directory, &["cluster", "add", "three", "10.0.0.3"]);
    done(directory, &["install", "--root", "image", "minka-cluster/one"]);
    let nodes = std::fs::read_to_string(directory.join("image/etc/minka/cluster.toml")).unwrap();
    assert!(nodes.contains("three = "), "{nodes}");
    let output = run(directory, &["install", "--root", "image", "minka-cluster/two"]);
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && errors.contains("this machine is another node already"), "{errors}");
    // Which is so until it is said not to be.
    assert!(errors.contains("delete the directory of its keys"), "{errors}");
    std::fs::remove_dir_all(directory.join("image/etc/minka/keys")).unwrap();
    done(directory, &["install", "--root", "image", "minka-cluster/two"]);
    done(directory, &["cluster", "add", "four", "10.0.0.4"]);
    let output = run(directory, &["install", "--root", "image", "minka-cluster/four"]);
    assert!(!output.status.success());
    let config = std::fs::read_to_string(directory.join("image/etc/minka/node.toml")).unwrap();
    assert!(config.contains("name = \"two\""), "{config}");
}
