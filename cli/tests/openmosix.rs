//! openMosix's tools under their own names, in a lab.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

const MINKA: &str = env!("CARGO_BIN_EXE_minka");

fn run(arguments: &[&str]) -> Output {
    let mut command = Command::new(MINKA);
    command.args(arguments).env("LC_ALL", "C").env_remove("MINKA_DIR").stdin(Stdio::null());
    command.output().unwrap()
}

/// A lab that is taken down with the test, and links to the program under other names.
struct Lab {
    name: String,
    links: tempfile::TempDir,
}

impl Lab {
    fn up(name: &str) -> Self {
        let name = format!("{name}-{}", std::process::id());
        let output = run(&["lab", "up", "--nodes", "2", "--name", &name]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Lab { name, links: tempfile::tempdir().unwrap() }
    }

    /// Runs a tool on the first node: its standard output and exit status.
    fn tool(&self, tool: &str, arguments: &[&str]) -> (String, i32) {
        let link = self.links.path().join(tool);
        if !Path::new(&link).exists() {
            symlink(MINKA, &link).unwrap();
        }
        let words = ["lab", "exec", "--name", &self.name, "node1", "--", link.to_str().unwrap()];
        let output = run(&[&words[..], arguments].concat());
        (String::from_utf8(output.stdout).unwrap(), output.status.code().unwrap())
    }

    fn until(&self, tool: &str, arguments: &[&str], expected: &str) {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let (found, _) = self.tool(tool, arguments);
            if found == expected {
                return;
            }
            assert!(Instant::now() < deadline, "{tool} {arguments:?}: {found:?}, not {expected:?}");
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let _ = run(&["lab", "down", "--name", &self.name]);
    }
}

#[test]
fn the_tools_of_openmosix_work_under_their_names() {
    let lab = Lab::up("mosctl");
    lab.until("mosctl", &["isup", "2"], "yes\n");
    lab.until("mosctl", &["getspeed", "node2"], "10000\n");
    let map = "My Node-Id: 0x0001\n\nBase Node-Id  Address    Count\n0x0001        10.77.0.1      1\n\
               0x0002        10.77.0.2      1\n";
    assert_eq!(lab.tool("showmap", &[]), (map.to_owned(), 0));
    assert_eq!(lab.tool("mosctl", &["whois", "10.77.0.2"]), ("2\t10.77.0.2:4660\tnode2\n".to_owned(), 0));
    assert_eq!(lab.tool("mosctl", &["whois", "9"]).1, 4);
    assert_eq!(lab.tool("mosctl", &["dance"]).1, 2);
    // What is set shows in the next second.
    for (verb, expected) in [
        ("block", "up, its processes may leave, it takes no guests\n"),
        ("stay", "up, its processes stay, it takes no guests\n"),
        ("noblock", "up, its processes stay, it takes guests\n"),
        ("nostay", "up, its processes may leave, it takes guests\n"),
        ("expel", "up, its processes may leave, it takes no guests\n"),
        ("bring", "up, its processes stay, it takes no guests\n"),
    ] {
        assert_eq!(lab.tool("mosctl", &[verb]), (String::new(), 0), "{verb}");
        lab.until("mosctl", &["status"], expected);
    }
    let (chart, status) = lab.tool("mosmon", &["-u", "-t", "--once"]);
    let ends = chart.ends_with("h: help   q: end   2 nodes with 2 processors are up\n");
    assert!(
        status == 0 && chart.starts_with("processor time in use, in percent\n     100 |") && ends,
        "{chart}"
    );
    let (told, _) = lab.tool("mon", &["--show", "speed", "--json"]);
    let told: serde_json::Value = serde_json::from_str(&told).unwrap();
    assert_eq!((&told["show"], &told["nodes"][1]["value"]), (&"speed".into(), &10_000.0.into()));
    assert_eq!(lab.tool("mosctl", &["setspeed", "20000"]).1, 0);
    lab.until("mosctl", &["getspeed"], "20000\n");
    assert_eq!(lab.tool("mosctl", &["setspeed"]).1, 2);
    assert_eq!(lab.tool("setpe", &["-r"]), ("1\t10.77.0.1\t2\n".to_owned(), 0));
    let map = lab.links.path().join("map").display().to_string();
    std::fs::write(&map, "1 10.77.0.1 3\n").unwrap();
    assert_eq!(lab.tool("setpe", &["-c", "-f", &map]), ("a map of 3 nodes\n".to_owned(), 0));
    assert_eq!(lab.tool("setpe", &["-w", "-f", &map]).1, 5, "there is no third node");
    std::fs::write(&map, "1 10.77.0.1 one\n").unwrap();
    assert_eq!(lab.tool("setpe", &["-w", "-f", &map]).1, 2);
    assert_eq!(lab.tool("setpe", &["-r", "-f", &map]), (String::new(), 0));
    assert_eq!(lab.tool("setpe", &["-w", "-f", &map]), ("a map of 2 nodes\n".to_owned(), 0));
    let (table, status) = lab.tool("mtop", &["--once"]);
    assert!(
        status == 0 && table.lines().any(|line| line.contains("node1") && line.ends_with("mtop")),
        "{table}"
    );
    let told: serde_json::Value = serde_json::from_str(&lab.tool("tune", &["--set", "--json"]).0).unwrap();
    lab.until("mosctl", &["getspeed"], &format!("{}\n", told["measured"]));
    assert_eq!(lab.tool("mosctl", &["getyard"]), ("10000\n".to_owned(), 0));
    let decay = |interval, slow, fast| {
        (format!("decay-interval\t{interval}\nslow-decay\t{slow}\nfast-decay\t{fast}\n"), 0)
    };
    assert_eq!(lab.tool("mosctl", &["getdecay"]), decay(1, 975, 926));
    assert_eq!(lab.tool("mosctl", &["setdecay", "5", "900", "800"]).1, 0);
    assert_eq!(lab.tool("mosctl", &["getdecay"]), decay(5, 900, 800));
    assert_eq!(lab.tool("mosctl", &["setdecay", "5", "900"]).1, 2);
    assert_eq!(lab.tool("mosctl", &["setdecay", "0"]).1, 1);
}

#[test]
fn mosrun_and_its_short_forms_run_commands() {
    let lab = Lab::up("mosrun");
    lab.until("mosctl", &["isup", "2"], "yes\n");
    let told = |tool: &str, arguments: &[&str]| lab.tool(tool, arguments).0;
    let script = "echo ${MINKA_STARTED-no} ${MINKA_LOCKED-no}; exit 7";
    assert_eq!(lab.tool("mosrun", &["-h", "sh", "-c", script]), ("1 no\n".to_owned(), 7));
    let pace = ["-h", "sh", "-c", "echo ${MINKA_DECAY-no}"];
    let paces = ["nodecay", "slowdecay", "fastdecay", "mosrun"].map(|tool| told(tool, &pace));
    assert_eq!(paces, ["never\n", "slow\n", "fast\n", "no\n"]);
    assert_eq!(told("nomig", &["sh", "-c", script]), "1 1\n");
    // A locked shell lets this one go.
    let inner = format!("exec {} -h -l sh -c '{script}'", lab.links.path().join("mosrun").display());
    assert_eq!(told("runhome", &["sh", "-c", &inner]), "1 no\n");
    assert_eq!(lab.tool("mosrun", &["-9", "true"]).1, 4);
    assert_eq!(lab.tool("mosrun", &["-j7-9", "true"]).1, 4);
    assert_eq!(lab.tool("mosrun", &["-jx", "true"]).1, 2);
    if rustix::process::geteuid().is_root() {
        assert_eq!(lab.tool("mosrun", &["-2", "sh", "-c", "exit 3"]).1, 3);
        assert_eq!(lab.tool("runon", &["2", "sh", "-c", "exit 4"]).1, 4);
        let migrate = lab.links.path().join("migrate");
        symlink(MINKA, &migrate).unwrap();
        let script = format!("sleep 60 & {} $! 2 --json; kill $!", migrate.display());
        let moved = told("mosrun", &["-h", "bash", "-c", &script]);
        assert!(moved.contains(r#""at":"node2","moved":true"#), "{moved}");
        assert_eq!(lab.tool("mosrun", &["-j2", "echo", "-2"]), ("-2\n".to_owned(), 0));
    }
}
