//! Programs that are started on the node that has the device, from one that has none.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, geteuid, kill_process};
use serde_json::json;

use super::{Cluster, PATIENCE, kind, minka};

/// Two users that every system has, of whom the first is welcome.
const WELCOME: (&str, u32) = ("daemon", 1);
const OTHER: (&str, u32) = ("bin", 2);

fn run(cluster: &Cluster, uid: u32, words: &[&str]) -> Command {
    let directory = cluster.directory.path();
    let mut command = minka(directory, &[&["run", "--gpu=intel", "--"], words].concat());
    // Without directories of root's, in which others may not look.
    command.env("MINKA_DIR", directory.join("two")).env("PATH", "/usr/bin:/bin").uid(uid).gid(uid);
    command
}

fn told(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn pid_of(child: &mut Child) -> String {
    let (mut line, mut byte) = (String::new(), [0]);
    while child.stdout.as_mut().unwrap().read(&mut byte).unwrap() == 1 && byte != *b"\n" {
        line.push(byte[0].into());
    }
    line
}

fn signal(child: &Child, signal: Signal) {
    kill_process(Pid::from_child(child), signal).unwrap();
}

fn wait_until_gone(pid: &str) {
    let until = Instant::now() + PATIENCE;
    while Path::new(&format!("/proc/{pid}")).exists() {
        assert!(Instant::now() < until, "{pid} is still there");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_program_is_started_on_the_node_that_has_a_device_as_its_user_s_own() {
    if !geteuid().is_root() {
        eprintln!("not tried: only root can be several users");
        return;
    }
    let mut cluster = Cluster::start_with(&format!("start = ['{}']", WELCOME.0));
    let open = fs::Permissions::from_mode(0o755);
    fs::set_permissions(cluster.directory.path(), open).unwrap();
    let all = json!([kind("intel", 3, 3, 0), kind("amd", 1, 1, 0)]);
    cluster.wait_for("seen", || cluster.devices("two") == all);

    // Input, output, errors, status, directory, environment and user are as if it ran here.
    let script = "cat; echo \"$(id -un) $(pwd) $MINKA_GPU $COLOUR\" >&2; exit 7";
    let mut child = run(&cluster, WELCOME.1, &["sh", "-c", script]);
    child.env("COLOUR", "azul").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = child.spawn().unwrap();
    let sent: Vec<u8> = (0..3_000_000_u32).map(|number| (number % 251) as u8).collect();
    let (mut input, bytes) = (child.stdin.take().unwrap(), sent.clone());
    let writer = std::thread::spawn(move || input.write_all(&bytes).unwrap());
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    assert_eq!(output.status.code(), Some(7), "{}", told(&output));
    assert!(output.stdout == sent, "{} of {} bytes", output.stdout.len(), sent.len());
    let expected = format!("{} {} 0000:01:00.0 azul", WELCOME.0, cluster.directory.path().display());
    let text = told(&output);
    assert!(text.contains(&expected) && text.contains("started on one, with 0000:01:00.0"), "{text}");
    let missing = run(&cluster, WELCOME.1, &["no-such-program"]).output().unwrap();
    assert_eq!(missing.status.code(), Some(127), "{}", told(&missing));
    let ended = run(&cluster, WELCOME.1, &["sh", "-c", "kill -TERM $$"]).output().unwrap();
    assert_eq!(ended.status.code(), Some(143), "{}", told(&ended));

    // Nobody else is welcome, and root is nobody's guest.
    for (uid, words) in [(OTHER.1, "it starts no programs for this user"), (0, "nothing is started for root")]
    {
        let refused = run(&cluster, uid, &["id"]).output().unwrap();
        let text = told(&refused);
        assert!(
            refused.status.code() == Some(5) && text.contains(words) && refused.stdout.is_empty(),
            "{text}"
        );
    }

    // A signal arrives, also behind input that nobody reads; the device is promised meanwhile.
    let script = "trap 'echo caught; exit 9' TERM; echo $$; while :; do sleep 0.05; done";
    let mut deaf = run(&cluster, WELCOME.1, &["sh", "-c", script]);
    let mut deaf = deaf.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut input = deaf.stdin.take().unwrap();
    let writer = std::thread::spawn(move || while input.write_all(&[b'x'; 65536]).is_ok() {});
    let pid = pid_of(&mut deaf);
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let ids = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim().to_owned();
    assert_eq!((ids("Uid:"), ids("Gid:")), ("1\t1\t1\t1".to_owned(), "1\t1\t1\t1".to_owned()));
    assert_eq!(ids("CapEff:"), "0000000000000000");
    let promised = json!([kind("intel", 3, 2, 0), kind("amd", 1, 1, 0)]);
    cluster.wait_for("promised", || cluster.devices("two") == promised);
    signal(&deaf, Signal::TERM);
    let output = deaf.wait_with_output().unwrap();
    assert_eq!((output.status.code(), &*output.stdout), (Some(9), &b"caught\n"[..]));
    writer.join().unwrap();
    wait_until_gone(&pid);
    cluster.wait_for("given back", || cluster.devices("two") == all);

    // Whoever started it goes without a word: it gets a hangup, and if it does not mind, it is killed.
    let script = "trap '' HUP TERM; echo $$; while :; do sleep 0.05; done";
    let mut child = run(&cluster, WELCOME.1, &["sh", "-c", script]).stdout(Stdio::piped()).spawn().unwrap();
    let pid = pid_of(&mut child);
    child.kill().unwrap();
    child.wait().unwrap();
    wait_until_gone(&pid);

    // The node goes: the program with it, and it is said.
    let script = "echo $$; while :; do sleep 0.05; done";
    let mut child = run(&cluster, WELCOME.1, &["sh", "-c", script]);
    let mut child = child.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let pid = pid_of(&mut child);
    drop(cluster.daemons.remove(0));
    let output = child.wait_with_output().unwrap();
    let text = told(&output);
    assert!(output.status.code() == Some(1) && text.contains("run the program on node one"), "{text}");
    wait_until_gone(&pid);
}

#[test]
fn nothing_is_started_for_others_unless_that_is_said() {
    if !geteuid().is_root() {
        eprintln!("not tried: only root can be several users");
        return;
    }
    let cluster = Cluster::start();
    fs::set_permissions(cluster.directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
    cluster.wait_for("seen", || cluster.devices("two").as_array().is_some_and(|devices| devices.len() == 2));
    let refused = run(&cluster, WELCOME.1, &["id"]).output().unwrap();
    let text = told(&refused);
    assert!(refused.status.code() == Some(5) && refused.stdout.is_empty(), "{text}");
    assert!(text.contains("one: it starts no programs for this user of other nodes"), "{text}");
}
