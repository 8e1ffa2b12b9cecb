//! Accelerators of the nodes of a cluster: seen by the others, served by the daemon, drained, and no danger to it.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "xpu_node/elsewhere.rs"]
mod elsewhere;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// How long a daemon may take for anything.
const PATIENCE: Duration = Duration::from_secs(60);

fn minka(directory: &Path, words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_minka"));
    command.args(words).current_dir(directory).env("LC_ALL", "C").stdin(Stdio::null());
    command
}

fn done(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn free_address() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

/// A daemon that ends with the test.
struct Daemon(Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        // It may have ended already, which the test has seen.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Two nodes, of which the first one has accelerators.
struct Cluster {
    directory: tempfile::TempDir,
    served: String,
    daemons: Vec<Daemon>,
}

impl Cluster {
    fn start() -> Self {
        Cluster::start_with("")
    }

    /// With more said of the first one's accelerators.
    fn start_with(more: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        done(&minka(path, &["cluster", "init"]).output().unwrap());
        for name in ["one", "two"] {
            done(&minka(path, &["cluster", "add", name, &free_address()]).output().unwrap());
        }
        let machine = path.join("machine");
        minka_accel::fixture::plant_machine(&machine, 4).unwrap();
        std::fs::create_dir_all(machine.join("proc/1/fdinfo")).unwrap();
        let served = free_address();
        let state = path.join("state/xpu.toml");
        let first = format!(
            "\n[xpu]\nlisten = '{served}'\nroot = '{}'\nstate = '{}'\ninterval_ms = 100\n{more}\n",
            machine.display(),
            state.display()
        );
        for (name, text) in [("one", first.as_str()), ("two", "\n[xpu]\nwatch = false\n")] {
            let config = path.join(format!("minka-cluster/{name}/node.toml"));
            let before = std::fs::read_to_string(&config).unwrap();
            std::fs::write(&config, before + text).unwrap();
        }
        let mut cluster = Cluster { directory, served, daemons: Vec::new() };
        cluster.daemons = ["one", "two"].map(|name| cluster.daemon(name)).into();
        cluster
    }

    fn daemon(&self, name: &str) -> Daemon {
        let config = format!("minka-cluster/{name}/node.toml");
        let mut command = minka(self.directory.path(), &["node", "serve", "--config", &config]);
        let log = std::fs::File::create(self.directory.path().join(format!("{name}.log"))).unwrap();
        command.env("MINKA_DIR", self.directory.path().join(name)).stderr(log);
        Daemon(command.spawn().unwrap())
    }

    fn at(&self, node: &str, words: &[&str]) -> Output {
        let mut command = minka(self.directory.path(), words);
        command.env("MINKA_DIR", self.directory.path().join(node)).output().unwrap()
    }

    /// What a node knows of the accelerators of the first one.
    fn devices(&self, asked: &str) -> Value {
        let output = self.at(asked, &["--json", "nodes"]);
        let nodes: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        let one = nodes.as_array().into_iter().flatten().find(|node| node["name"] == "one").cloned();
        one.unwrap_or_default()["figures"]["devices"].clone()
    }

    fn wait_for(&self, what: &str, mut condition: impl FnMut() -> bool) {
        let until = Instant::now() + PATIENCE;
        while !condition() {
            let log = || std::fs::read_to_string(self.directory.path().join("one.log")).unwrap_or_default();
            assert!(Instant::now() < until, "{what}: {}\n{}", self.devices("two"), log());
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    fn get(&self, path: &str) -> std::io::Result<String> {
        let mut stream = TcpStream::connect(&self.served)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        write!(stream, "GET {path} HTTP/1.0\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    }

    /// The program that looks after the first node's accelerators.
    fn keeper(&self) -> Option<u32> {
        let daemon = self.daemons[0].0.id();
        let children = std::fs::read_to_string(format!("/proc/{daemon}/task/{daemon}/children")).unwrap();
        let all = std::fs::read_dir(format!("/proc/{daemon}/task")).unwrap().flatten();
        let all = all.filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok());
        let mut pids = children.split_ascii_whitespace().map(str::to_owned).collect::<Vec<_>>();
        pids.extend(
            all.flat_map(|text| text.split_ascii_whitespace().map(str::to_owned).collect::<Vec<_>>()),
        );
        pids.into_iter().find_map(|pid| {
            let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
            (name.trim() == "minka-xpu").then(|| pid.parse().ok())?
        })
    }
}

fn kind(name: &str, total: u8, free: u8, drained: u8) -> Value {
    json!({"kind": name, "total": total, "free": free, "drained": drained})
}

#[test]
fn a_node_s_accelerators_are_known_in_the_cluster_served_drained_and_no_danger_to_the_daemon() {
    let cluster = Cluster::start();
    // Three recorded cards of Intel's and one of AMD's, of which nobody uses any.
    let all = json!([kind("intel", 3, 3, 0), kind("amd", 1, 1, 0)]);
    for node in ["one", "two"] {
        cluster.wait_for("seen", || cluster.devices(node) == all);
    }
    let shown = done(&cluster.at("two", &["nodes"]));
    assert!(shown.contains("intel 3/3, amd 1/1"), "{shown}");
    assert!(cluster.get("/api/v1/xpum/device").unwrap().contains("Intel Arc A380"));

    // Somebody uses one.
    let folder = cluster.directory.path().join("machine/proc/7/fdinfo");
    std::fs::create_dir_all(&folder).unwrap();
    let client = "drm-driver:\txe\ndrm-client-id:\t7\ndrm-pdev:\t0000:01:00.0\ndrm-resident-vram0:\t64 KiB\n";
    std::fs::write(folder.join("3"), client).unwrap();
    let used = json!([kind("intel", 3, 2, 0), kind("amd", 1, 1, 0)]);
    cluster.wait_for("used", || cluster.devices("two") == used);

    // A policy drains another one: a card that is never as cold as that.
    let machine = cluster.directory.path().join("machine");
    let (root, state) = (machine.to_string_lossy().into_owned(), "state/xpu.toml");
    let policy = ["--type", "0", "--condition", "greater", "--threshold", "1", "--drain"];
    let words =
        [&["xpu", "--root", &root, "policy", "--state", state, "-d", "0000:03:00.0", "-c"], &policy[..]];
    done(&cluster.at("one", &words.concat()));
    let drained = json!([kind("intel", 3, 1, 1), kind("amd", 1, 1, 0)]);
    cluster.wait_for("drained", || cluster.devices("two") == drained);
    let shown = done(&cluster.at("two", &["nodes"]));
    assert!(shown.contains("intel 1/3 (1 drained), amd 1/1"), "{shown}");

    // One of Intel's is left, and AMD's: each is promised once, and seen not to be free meanwhile.
    let words = |kind: &str, command: &str| {
        let gpu = format!("--gpu={kind}");
        let directory = cluster.directory.path();
        let mut command = minka(directory, &["run", &gpu, "--", "sh", "-c", command]);
        command.env("MINKA_DIR", directory.join("one"));
        command
    };
    let mut first = words("intel", "echo \"$MINKA_GPU $DRI_PRIME ${MINKA_LOCKED-no}\"; exec sleep 30");
    let mut first = first.stdout(Stdio::piped()).spawn().unwrap();
    let mut line = [0; 32];
    let count = first.stdout.as_mut().unwrap().read(&mut line).unwrap();
    let said = String::from_utf8_lossy(&line[..count]).into_owned();
    assert!(said == "0000:02:00.0 pci-0000_02_00_0 \n", "{said}");
    let promised = json!([kind("intel", 3, 0, 1), kind("amd", 1, 1, 0)]);
    cluster.wait_for("promised", || cluster.devices("two") == promised);
    let refused = words("intel", "true").output().unwrap();
    let told = String::from_utf8_lossy(&refused.stderr);
    assert_eq!((refused.status.code(), told.contains("others use what it has")), (Some(5), true), "{told}");
    let other = words("any", "echo $MINKA_GPU; exit 7").output().unwrap();
    assert_eq!((other.status.code(), &*other.stdout), (Some(7), &b"0000:04:00.0\n"[..]));
    first.kill().unwrap();
    first.wait().unwrap();
    cluster.wait_for("given up", || cluster.devices("two") == drained);
    // A node that has none says why the one that has one starts nothing for it.
    let elsewhere = cluster.at("two", &["run", "--gpu=amd", "--", "true"]);
    let told = String::from_utf8_lossy(&elsewhere.stderr);
    assert_eq!(elsewhere.status.code(), Some(5));
    assert!(told.contains("no node that has a free device starts the program"), "{told}");
    // And one whose kind nobody has says that.
    let nowhere = cluster.at("two", &["run", "--gpu=nvidia", "--", "true"]);
    let told = String::from_utf8_lossy(&nowhere.stderr);
    assert!(
        nowhere.status.code() == Some(5) && told.contains("nobody looks after its accelerators"),
        "{told}"
    );

    // The program that looks after them dies: the daemon does not, and starts another one.
    let keeper = cluster.keeper().unwrap();
    rustix::process::kill_process(
        rustix::process::Pid::from_raw(i32::try_from(keeper).unwrap()).unwrap(),
        rustix::process::Signal::KILL,
    )
    .unwrap();
    cluster.wait_for("started again", || cluster.keeper().is_some_and(|other| other != keeper));
    cluster.wait_for("served again", || cluster.get("/api/v1/health").is_ok_and(|it| it.contains("\"ok\"")));
    cluster.wait_for("drained again", || cluster.devices("two") == drained);
    let output = cluster.at("one", &["run", "--on", "two", "--strict", "--", "sh", "-c", "exit 3"]);
    assert_eq!(output.status.code(), Some(3), "{}", String::from_utf8_lossy(&output.stderr));
}

/// A program that maps a device: a loop device is one that any machine has, and whose memory is nobody's.
const MAPS: &str = "import mmap, os, sys, time
device = os.open('/dev/loop0', os.O_RDONLY)
memory = mmap.mmap(device, 4096, mmap.MAP_SHARED, mmap.PROT_READ)
print(os.getpid(), flush=True)
time.sleep(float(sys.argv[1]))";

#[test]
fn a_process_that_maps_a_device_stays_and_one_that_does_so_elsewhere_goes_home() {
    if std::fs::File::open("/dev/loop0").is_err() {
        eprintln!("not tried: there is no loop device here that this user may map");
        return;
    }
    let cluster = Cluster::start();
    cluster.wait_for("seen", || {
        let nodes = cluster.at("one", &["nodes"]).stdout;
        String::from_utf8_lossy(&nodes).lines().any(|line| line.starts_with("two") && line.contains("  yes "))
    });
    let mut stays = Command::new("python3").args(["-c", MAPS, "60"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = [0; 16];
    let count = stays.stdout.as_mut().unwrap().read(&mut line).unwrap();
    let pid = String::from_utf8_lossy(&line[..count]).trim().to_owned();
    let output = cluster.at("one", &["migrate", &pid, "two"]);
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    stays.kill().unwrap();
    stays.wait().unwrap();
    assert_eq!(output.status.code(), Some(5), "{told}");
    assert!(told.contains("it maps the device /dev/loop0"), "{told}");

    let output = cluster.at("one", &["run", "--on", "two", "--strict", "--", "python3", "-c", MAPS, "0"]);
    let pid = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let log = std::fs::read_to_string(cluster.directory.path().join("one.log")).unwrap();
    let home = log.lines().find(|line| line.contains(&format!("pid={pid} at=\"home\"")));
    assert!(home.is_some_and(|line| line.contains("reason=")), "{pid} {log}");
}

#[test]
fn the_program_for_accelerators_goes_with_its_daemon_and_an_address_that_is_taken_is_waited_for() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut cluster = Cluster::start();
    // The second node gets the address that somebody has.
    let address = taken.local_addr().unwrap().to_string();
    let machine = cluster.directory.path().join("machine");
    let config = cluster.directory.path().join("minka-cluster/two/node.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    let section = format!("listen = '{address}'\nroot = '{}'\nstate = 'xpu.toml'", machine.display());
    std::fs::write(&config, text.replace("watch = false", &section)).unwrap();
    cluster.daemons.pop();
    let second = cluster.daemon("two");
    cluster.daemons.push(second);
    let devices = |name: &str| {
        let output = cluster.at("one", &["--json", "nodes"]);
        let nodes: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        let node = nodes.as_array().into_iter().flatten().find(|node| node["name"] == name).cloned();
        node.unwrap_or_default()["figures"]["devices"].clone()
    };
    let all = json!([kind("intel", 3, 3, 0), kind("amd", 1, 1, 0)]);
    cluster.wait_for("seen though it cannot be served", || devices("two") == all);
    cluster.served = address;
    drop(taken);
    cluster.wait_for("served", || cluster.get("/api/v1/health").is_ok_and(|it| it.contains("\"ok\"")));

    let keeper = cluster.keeper();
    cluster.wait_for("there", || cluster.keeper().is_some());
    let keeper = keeper.or_else(|| cluster.keeper()).unwrap();
    // Killed, without time to tell anybody.
    drop(cluster.daemons.remove(0));
    let gone = || !Path::new(&format!("/proc/{keeper}")).exists();
    let until = Instant::now() + PATIENCE;
    while !gone() {
        assert!(Instant::now() < until, "{keeper} is still there");
        std::thread::sleep(Duration::from_millis(50));
    }
}
