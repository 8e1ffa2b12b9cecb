//! The tree `/hpc` in a lab: what openMosix's manual reads and writes there, and what nobody should.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fs::File;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

const MINKA: &str = env!("CARGO_BIN_EXE_minka");

fn run(arguments: &[&str]) -> Output {
    let mut command = Command::new(MINKA);
    command.args(arguments).env("LC_ALL", "C").env_remove("MINKA_DIR").stdin(Stdio::null());
    command.output().unwrap()
}

/// Whether there can be a tree here; says so if not.
fn can_be() -> bool {
    let root = rustix::process::geteuid().is_root();
    let device = File::options().read(true).write(true).open("/dev/fuse").is_ok();
    if !(root && device) {
        eprintln!("left out: only root can have the tree, and only where there is /dev/fuse");
    }
    root && device
}

/// A lab that is taken down with the test.
struct Lab {
    name: String,
}

impl Lab {
    fn up(name: &str) -> Self {
        let name = format!("{name}-{}", std::process::id());
        let output = run(&["lab", "up", "--nodes", "3", "--name", &name]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let lab = Lab { name };
        lab.until("cat /hpc/nodes/2/status /hpc/nodes/3/status", "up\nup\n");
        lab
    }

    /// What a script prints on the first node, its errors included, and its exit status.
    fn script(&self, script: &str) -> (String, i32) {
        // So that a tree that hangs fails the test, and not only slowly.
        let words =
            ["lab", "exec", "--name", &self.name, "node1", "--", "timeout", "-k", "5", "60", "bash", "-c"];
        let script = format!("exec 2>&1; minka() {{ {MINKA} \"$@\"; }}\n{script}");
        let output = run(&[&words[..], &[&script]].concat());
        (String::from_utf8_lossy(&output.stdout).into_owned(), output.status.code().unwrap())
    }

    fn check(&self, script: &str, expected: &str) {
        assert_eq!(self.script(script).0, expected, "{script}");
    }

    /// What a script refuses, in the words of the system.
    fn refused(&self, script: &str, why: &str) {
        let (found, status) = self.script(script);
        assert!(status != 0 && found.trim_end().ends_with(why), "{script}: {found:?} ({status}), not {why}");
    }

    fn until(&self, script: &str, expected: &str) {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let (found, _) = self.script(script);
            if found == expected {
                return;
            }
            assert!(Instant::now() < deadline, "{script}: {found:?}, not {expected:?}");
            std::thread::sleep(Duration::from_millis(200));
        }
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let _ = run(&["lab", "down", "--name", &self.name]);
    }
}

#[test]
fn the_tree_is_read_and_written_as_the_manual_says() {
    if !can_be() {
        return;
    }
    let lab = Lab::up("hpc");
    lab.check("ls /hpc", "admin\ndecay\nnodes\nproc\nremote\n");
    lab.check("cd /hpc/nodes; echo *", "1 2 3\n");
    lab.check("cat /hpc/admin/mospe", "1\n");
    // What is set is said at once by the tree, and by the tools a second later.
    lab.check("echo 1 > /hpc/admin/block && cat /hpc/admin/block", "1\n");
    lab.until("minka mosctl status", "up, its processes may leave, it takes no guests\n");
    lab.check("echo 0 > /hpc/admin/block && cat /hpc/admin/block", "0\n");
    lab.check("echo 1 > /hpc/admin/stay && cat /hpc/admin/lstay && echo 0 > /hpc/admin/stay", "1\n");
    lab.check("echo 12000 > /hpc/admin/speed; cat /hpc/admin/speed", "12000\n");
    let decay = "cd /hpc/admin; echo 5 > decay-interval; echo 900 > slow-decay; echo 800 > fast-decay";
    lab.check(
        &format!("{decay}; minka mosctl getdecay"),
        "decay-interval\t5\nslow-decay\t900\nfast-decay\t800\n",
    );
    // The other node may not have told of itself yet.
    lab.until("grep -c '^[0-9]*$' /hpc/nodes/2/{load,mem,util,CPUs} | cut -d: -f2 | tr -d '\\n'", "1111");
    lab.check("test $(cat /hpc/nodes/2/tmem) -ge $(cat /hpc/nodes/2/rmem) && echo sound", "sound\n");
    // A process that computes elsewhere, seen from its home and from its host.
    // Who writes does not wait for long: on a busy machine the move may take longer.
    let until = |file: &str, value: &str| format!("until [ $(cat {file}) = {value} ]; do sleep 0.1; done");
    let away = until("$p/where", "3");
    let moved = format!("sleep 99 & p=/hpc/proc/$!; echo 3 > $p/goto; {away}; cat $p/where $p/goto $p/nmigs");
    let home = until("$p/where", "0");
    lab.check(
        &format!("{moved}; echo home > $p/migrate; {home}; cat $p/where $p/nmigs; kill $!"),
        "3\n3\n1\n0\n2\n",
    );
    lab.check(&format!("{moved} > /dev/null; echo 1 > /hpc/admin/bring; while [ $(cat /hpc/admin/bring) != 0 ]; do sleep 0.1; done; cat $p/where; kill $!; echo 0 > /hpc/admin/stay"), "0\n");
    lab.check("cat /hpc/proc/self/where", "0\n");
    lab.check(
        "read x < /hpc/proc/self/lock; echo $x; readlink /hpc/proc/self | grep -c '^[0-9]*$'",
        "0\n1\n",
    );
    // It holds for what the shell starts, too.
    let lock = "echo 1 > /hpc/proc/self/lock; read x < /hpc/proc/$$/lock; echo $x";
    lab.check(&format!("{lock}; echo 0 > /hpc/proc/$$/lock; cat /hpc/proc/$$/lock"), "1\n0\n");
    lab.check("export MINKA_LOCKED=1; bash -c 'cat /hpc/proc/$$/lock; echo 0 > /hpc/proc/self/lock; cat /hpc/proc/$$/lock'", "1\n0\n");
    lab.check("for f in clear cpujob iojob slow fast; do echo 1 > /hpc/decay/$f || echo $f; done", "");
    lab.check("sleep 9 & cat /hpc/proc/$!/cantmove; kill $!", "");
    // A shell that moves itself is not waited for in the middle of its own write.
    lab.check(
        "bash -c 'echo 2 > /hpc/proc/self/goto; for i in {1..200}; do sleep 0.1; read n < /hpc/proc/self/nmigs; \
         [ $n -gt 0 ] && break; done; [ $n -gt 0 ] && echo moved'",
        "moved\n",
    );
}

#[test]
fn what_nobody_should_write_is_refused_and_the_tree_goes_on() {
    if !can_be() {
        return;
    }
    let lab = Lab::up("hpc-bad");
    for (text, file) in [("2", "admin/block"), ("", "admin/stay"), ("x", "admin/speed"), ("0", "admin/speed")]
    {
        lab.refused(&format!("echo '{text}' > /hpc/{file}"), "Invalid argument");
    }
    lab.refused("echo 0 > /hpc/admin/decay-interval", "Invalid argument");
    lab.refused("echo 1 > /hpc/admin/mospe", "Permission denied");
    lab.refused("cat /hpc/decay/slow", "Permission denied");
    lab.refused("echo 2 > /hpc/decay/slow", "Invalid argument");
    lab.refused("cat /hpc/nodes/9/load", "No such file or directory");
    lab.refused("cat /hpc/proc/2000000000/where", "No such file or directory");
    lab.refused("sleep 9 & echo 9 > /hpc/proc/$!/goto; s=$?; kill $!; exit $s", "No such device or address");
    lab.refused("sleep 9 & echo 'a b' > /hpc/proc/$!/goto; s=$?; kill $!; exit $s", "Invalid argument");
    lab.refused("echo 2 > /hpc/proc/1/goto", "Operation not supported");
    for change in ["rm /hpc/admin/block", "touch /hpc/x", "mkdir /hpc/nodes/7", "chmod 777 /hpc/admin/block"]
    {
        assert_ne!(lab.script(change).1, 0, "{change}");
    }
    // Large writes: whole pages of zeros, and nothing is set.
    let large = "dd if=/dev/zero of=/hpc/admin/block bs=1M count=4 2>&1 | head -1";
    lab.check(large, "dd: error writing '/hpc/admin/block': Invalid argument\n");
    // Somebody else: neither the node nor others' processes are for them, their own are.
    let other = "setpriv --reuid 12345 --regid 12345 --clear-groups";
    lab.refused(&format!("{other} bash -c 'echo 1 > /hpc/admin/block'"), "Permission denied");
    lab.refused(
        &format!("sleep 9 & {other} bash -c \"echo 2 > /hpc/proc/$!/goto\"; s=$?; kill $!; exit $s"),
        "Permission denied",
    );
    lab.refused(
        &format!("sleep 9 & {other} cat /hpc/proc/$!/cantmove; s=$?; kill $!; exit $s"),
        "Permission denied",
    );
    lab.check(&format!("sleep 9 & {other} cat /hpc/proc/$!/where; kill $!"), "0\n");
    let own = "sleep 99 & p=/hpc/proc/$!; echo 2 > $p/goto; until [ $(cat $p/where) = 2 ]; do sleep 0.1; done; cat $p/where; echo 1 > /hpc/proc/$!/lock; kill $!";
    lab.check(&format!("{other} bash -c '{own}'"), "2\n");
    // Many who have files open and read at the same time.
    let crowd = "for i in $(seq 300); do exec {fd}< /hpc/nodes/2/load; done; cat /hpc/admin/block";
    lab.check(crowd, "0\n");
    let many = "for i in $(seq 40); do (for j in $(seq 20); do cat /hpc/nodes/*/status > /dev/null || echo bad; done) & done; wait";
    lab.check(&format!("{many}; cat /hpc/admin/block"), "0\n");
    lab.check("find /hpc -maxdepth 3 -path '/hpc/proc/*' -prune -o -type f -print | wc -l", "42\n");
}

#[test]
fn the_tree_goes_and_comes_with_the_daemon() {
    if !can_be() {
        return;
    }
    let lab = Lab::up("hpc-end");
    // Its program is killed: the daemon starts another one, which clears away what was left.
    let program = "ps -eo pid,comm | awk '$2 == \"minka-hpc\" {print $1}'";
    // Who asks just then is told that the connection was aborted, later ones that there is none.
    let fails = "[ $? = 1 ] && echo fails at once";
    lab.check(
        &format!("kill -9 $({program}); timeout 5 cat /hpc/admin/block 2> /dev/null; {fails}"),
        "fails at once\n",
    );
    lab.until("cat /hpc/admin/block", "0\n");
    // The daemon is killed: there is no tree any more, and nobody hangs in it.
    let daemon = "ps -eo pid,comm | awk '$2 == \"minkad\" {print $1}'";
    lab.check(
        &format!(
            "exec 9< /hpc/admin/block; kill -9 $({daemon}); sleep 1; timeout 5 cat <&9 2> /dev/null; {fails}"
        ),
        "fails at once
",
    );
    lab.until("ls -A /hpc; mount | grep -c ' /hpc '", "0\n");
    lab.until(&format!("{program} | wc -l"), "0\n");
}

#[test]
fn a_lab_has_its_own_tree_wherever_it_is_made() {
    if !can_be() {
        return;
    }
    // On a machine, here a node of another lab, whose daemon shows its tree there.
    let lab = Lab::up("treein");
    let inner = format!("inner-{}", std::process::id());
    let (words, _) = lab.script(&format!("minka lab up --nodes 2 --name {inner}"));
    let own = format!("minka lab exec --name {inner} node2 -- sh -c 'cat /hpc/admin/mospe; ls /hpc/nodes'");
    lab.until(&own, "2\n1\n2\n");
    let log = std::fs::read_to_string(format!("/run/minka/lab/{inner}/node2/node.log")).unwrap_or_default();
    assert!(!log.contains("something is mounted there"), "{log}{words}");
    // That of the machine is there as before.
    lab.check("cat /hpc/admin/mospe; ls /hpc/nodes", "1\n1\n2\n3\n");
    lab.script(&format!("minka lab down --name {inner}"));
    lab.check("cat /hpc/admin/mospe", "1\n");
}
