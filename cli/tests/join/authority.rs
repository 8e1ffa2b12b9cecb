//! Another authority takes the place of a cluster's, while daemons and programs run, with nodes that are off meanwhile, and
//! with whoever does it ended in the middle.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::cluster::{Cluster, PATIENCE, done, minka};

impl Cluster {
    /// Has another authority take the place of the one there is; the exit status, what is told, and what went wrong.
    fn rotate_authority(&self, options: &[&str]) -> (Option<i32>, Value, String) {
        let words = [&["--json", "cluster", "rotate-authority"], options].concat();
        let output = minka(self.path(), &words).output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        let told = serde_json::from_slice(&output.stdout);
        (output.status.code(), told.unwrap_or_else(|_| panic!("{errors}")), errors)
    }

    fn until(&self, what: &str, is: impl Fn() -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !is() {
            assert!(Instant::now() < deadline, "never {what}\n{}", self.log("service"));
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// How many authorities a node trusts.
    fn trusted(&self, name: &str) -> usize {
        read(&self.path().join(name).join("keys/ca.pem")).matches("BEGIN CERTIFICATE").count()
    }

    fn is_succeeding(&self) -> bool {
        self.path().join("minka-cluster/succession.toml").exists()
    }

    fn asked(&self, at: &str, words: &[&str]) -> (bool, String) {
        let output = minka(self.path(), words).env("MINKA_DIR", self.run_dir(at)).output().unwrap();
        let told = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8_lossy(&told).into_owned())
    }

    /// Where a node says that a process of its own is.
    fn whereabouts(&self, home: &str, pid: u32) -> String {
        let (_, told) = self.asked(home, &["--json", "ps"]);
        let known: Value = serde_json::from_str(&told).unwrap_or_default();
        let found = known.as_array().into_iter().flatten().find(|it| it["pid"] == pid && it["home"] == home);
        found.map(|it| it["at"].as_str().unwrap_or("nowhere").to_owned()).unwrap_or_default()
    }
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

fn names(value: &Value) -> Vec<&str> {
    value.as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

/// A program that computes until it is killed.
struct Computing(Child);

impl Computing {
    fn begin() -> Self {
        let mut command = Command::new("sh");
        command.args(["-c", "while :; do :; done"]).stdin(Stdio::null());
        Computing(command.spawn().unwrap())
    }

    fn runs(&mut self) -> bool {
        self.0.try_wait().unwrap().is_none()
    }
}

impl Drop for Computing {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn another_authority_takes_over_while_programs_are_away_and_a_node_is_off() {
    let cluster = Cluster::begin();
    for name in ["one", "two", "three"] {
        cluster.join(name);
    }
    let (_one, _two) = (cluster.start("one"), cluster.start("two"));
    cluster.until_members("one", &["one", "two"]);
    // Where nothing can be moved the rest is shown all the same.
    let is_root = rustix::process::geteuid().is_root();
    let mut program = is_root.then(Computing::begin);
    let pid = program.as_ref().map_or(0, |program| program.0.id());
    let migrate = |to: &str| {
        let (moved, told) = cluster.asked("one", &["migrate", &pid.to_string(), to]);
        assert!(moved, "{told}\n{}", cluster.log("one"));
    };
    if is_root {
        migrate("two");
        assert_eq!(cluster.whereabouts("one", pid), "two");
    }
    let old = cluster.path().join("old");
    done(Command::new("cp").args(["-r", "one"]).arg(&old).current_dir(cluster.path()));
    let token_of_old = cluster.token("15m");

    let (status, told, errors) = cluster.rotate_authority(&[]);
    assert_eq!((status, &told["finished"]), (Some(5), &Value::Bool(false)), "{told} {errors}");
    assert_eq!((names(&told["renewed"]), names(&told["missing"])), (vec!["one", "two"], vec!["three"]));
    assert!(errors.contains("three"), "{errors}");
    assert_eq!(["one", "two", "three"].map(|name| cluster.trusted(name)), [2, 2, 1]);
    let key = |directory: &Path| read(&directory.join("keys/node.key"));
    assert_ne!(key(&old), key(&cluster.path().join("one")));
    cluster.until_members("two", &["one", "two"]);

    // Machines join meanwhile, with tokens of before and of now.
    let joined = cluster.try_join("four", &token_of_old);
    assert!(joined.status.success(), "{}", String::from_utf8_lossy(&joined.stderr));
    let _four = cluster.start("four");
    cluster.until_members("four", &["four", "one", "two"]);
    cluster.join("five");

    // The node that was off knows only the former authority, and has a certificate by it.
    let _three = cluster.start("three");
    cluster.until_members("three", &["four", "one", "three", "two"]);
    cluster.until("finished", || !cluster.is_succeeding());
    let all = ["one", "two", "three", "four"];
    cluster.until("with one authority", || all.iter().all(|name| cluster.trusted(name) == 1));
    let authority = read(&cluster.path().join("minka-cluster/ca.pem"));
    for name in all {
        assert_eq!(read(&cluster.path().join(name).join("keys/ca.pem")), authority, "{name}");
        cluster.until_members(name, &["four", "one", "three", "two"]);
    }

    // What the former one has signed is good for nothing.
    let words = ["cluster", "rotate", "--config", "old/node.toml"];
    let output = minka(cluster.path(), &words).output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(1) && told.contains("speak to the cluster's authority"), "{told}");
    let doctor = |config: &str| cluster.asked("one", &["doctor", "--config", config]).1;
    let good = "ok      the certificate of the node, by the cluster's authority";
    assert!(doctor("one/node.toml").contains(good), "{}", doctor("one/node.toml"));

    // The program has computed all the time, and moves on and home, by a deputy that has begun before all this.
    if let Some(program) = &mut program {
        assert!(program.runs());
        assert_eq!(cluster.whereabouts("one", pid), "two", "{}", cluster.log("one"));
        for to in ["three", "four", "home", "two"] {
            migrate(to);
            assert!(program.runs());
        }
    }
}

#[test]
fn nobody_is_waited_for_when_the_key_is_in_wrong_hands_and_who_was_off_joins_anew() {
    let cluster = Cluster::begin();
    for name in ["one", "two", "three"] {
        cluster.join(name);
    }
    let (_one, _two) = (cluster.start("one"), cluster.start("two"));
    cluster.until_members("one", &["one", "two"]);
    let (status, told, errors) = cluster.rotate_authority(&["--refuse-old"]);
    assert_eq!((status, &told["finished"]), (Some(0), &Value::Bool(true)), "{told} {errors}");
    assert_eq!(names(&told["missing"]), ["three"]);
    assert!(!cluster.is_succeeding());
    cluster.until("with one authority", || cluster.trusted("one") == 1 && cluster.trusted("two") == 1);
    {
        let _three = cluster.start("three");
        std::thread::sleep(Duration::from_secs(5));
        cluster.until_members("one", &["one", "two"]);
        cluster.until_members("three", &["three"]);
    }
    done(&mut minka(cluster.path(), &["cluster", "remove", "three"]));
    std::fs::remove_dir_all(cluster.path().join("three/keys")).unwrap();
    cluster.join("three");
    let _three = cluster.start("three");
    cluster.until_members("three", &["one", "three", "two"]);
    cluster.until_members("one", &["one", "three", "two"]);
    // And once more: an authority's place can be taken as often as one likes.
    let (status, told, errors) = cluster.rotate_authority(&[]);
    assert_eq!((status, &told["finished"]), (Some(0), &Value::Bool(true)), "{told} {errors}");
    for name in ["one", "two", "three"] {
        cluster.until_members(name, &["one", "three", "two"]);
    }
}

#[test]
fn what_was_ended_in_the_middle_is_gone_on_with() {
    let cluster = Cluster::begin();
    for name in ["one", "two", "three"] {
        cluster.join(name);
    }
    let _one = cluster.start("one");
    cluster.until_members("one", &["one"]);
    // Killed as soon as there is another authority: before, while or after it is told.
    for pause_ms in [0, 5, 20] {
        let words = ["cluster", "rotate-authority"];
        let mut command = minka(cluster.path(), &words);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        cluster.until("begun", || cluster.is_succeeding());
        std::thread::sleep(Duration::from_millis(pause_ms));
        let _ = child.kill();
        let _ = child.wait();
        done(&mut minka(cluster.path(), &["cluster", "list"]));
    }
    let before = read(&cluster.path().join("minka-cluster/succession.toml"));
    let certificate = before.lines().find(|line| line.starts_with("certificate")).map(str::to_owned);
    let (status, told, _) = cluster.rotate_authority(&[]);
    assert_eq!((status, names(&told["missing"])), (Some(5), vec!["three", "two"]), "{told}");
    let after = read(&cluster.path().join("minka-cluster/succession.toml"));
    assert!(after.contains(&certificate.unwrap()), "it is the same authority");
    // Somebody is removed, and somebody gets a certificate by itself, while its daemon is off.
    done(&mut minka(cluster.path(), &["cluster", "remove", "three"]));
    done(&mut minka(cluster.path(), &["cluster", "rotate", "--config", "two/node.toml"]));
    cluster.until("finished", || !cluster.is_succeeding());
    let _two = cluster.start("two");
    cluster.until_members("one", &["one", "two"]);
    cluster.until_members("two", &["one", "two"]);
}
