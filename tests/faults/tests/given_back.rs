//! A node that is short of memory gets that of its processes which are away; they come home with all of it.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use minka_faults_tests::cluster::Cluster;
use minka_faults_tests::subject::{Manner, Subject};
use minka_faults_tests::{SOON, eventually};
use minka_lab::{Program, Running};
use minka_node::client::Outcome;

/// What node 1 has, and what of it is used by somebody who stays there: so little is left that nothing is kept of others.
const MEMORY_MIB: u32 = 24;
const BALLAST_KIB: u32 = 14 << 10;

/// Of the subjects' four MiB no more than this is left at home: the stack, what libraries wrote, and a bit.
const LEFT_KIB: u64 = 1200;

/// How long it may take until all memory has gone to the host, on a busy machine, and the node has looked at itself.
const GIVEN: Duration = Duration::from_secs(20);

/// A cluster whose first node is short of memory, and who uses it. None where memory cannot be limited.
fn cluster() -> Option<(Cluster, Running)> {
    let subject = env!("CARGO_BIN_EXE_minka-faults-subject");
    let cluster = Cluster::limited(3, subject, vec![MEMORY_MIB, 4096, 4096]);
    let node = cluster.lab().description().node(1).expect("a node");
    let is_limited = |group: &std::path::PathBuf| {
        ["memory.max", "memory.limit_in_bytes"].iter().any(|name| group.join(name).exists())
    };
    if !node.control_groups.iter().any(is_limited) {
        eprintln!("no control group for memory can be made here");
        return None;
    }
    let file = cluster.new_file();
    let program = Program::new(subject).arguments(["chatty", &BALLAST_KIB.to_string()]).arguments([&file]);
    let ballast = cluster.lab().start(1, program.stdin(Stdio::null()).stdout(Stdio::null()));
    let ballast = ballast.expect("start the ballast");
    eventually(SOON, "the ballast is there", || {
        fs::read_to_string(&file).ok()?.contains("ready").then_some(())
    });
    Some((cluster, ballast))
}

fn leave(cluster: &Cluster, subject: &mut Subject<'_>, to: &str) {
    match subject.migrate(to) {
        Ok(Outcome::Migrated(migrated)) => assert_eq!((&*migrated.at, migrated.moved), (to, true)),
        other => panic!("move it out: {other:?}\n{}", cluster.logs()),
    }
    subject.goes_on();
}

fn is_given_back(cluster: &Cluster, subject: &Subject<'_>) {
    let until = std::time::Instant::now() + GIVEN;
    while subject.own_kib().is_none_or(|kib| kib > LEFT_KIB) {
        let kib = subject.own_kib();
        assert!(std::time::Instant::now() < until, "{kib:?} KiB are kept\n{}", cluster.logs());
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn everything_comes_home_from_wherever_it_has_been() {
    let Some((cluster, _ballast)) = cluster() else { return };
    for manner in [Manner::Chatty, Manner::Crowd, Manner::Quiet] {
        let mut subject = Subject::start(&cluster, manner);
        let before = subject.own_kib().expect("it lives");
        assert!(before > 4 * LEFT_KIB / 2, "{before} KiB");
        leave(&cluster, &mut subject, "node2");
        is_given_back(&cluster, &subject);
        subject.goes_on();
        // By its home to another host, which has all of it in the end, too.
        leave(&cluster, &mut subject, "node3");
        is_given_back(&cluster, &subject);
        subject.goes_on();
        subject.travels_and_finishes();
        cluster.is_quiet();
    }
}

#[test]
fn shared_memory_is_kept_and_all_the_rest_is_right() {
    let Some((cluster, _ballast)) = cluster() else { return };
    let mut subject = Subject::start(&cluster, Manner::Sharing);
    leave(&cluster, &mut subject, "node2");
    std::thread::sleep(Duration::from_secs(3));
    subject.goes_on();
    subject.travels_and_finishes();
    cluster.is_quiet();
}

#[test]
fn with_writes_tracked_by_faults_it_is_the_same() {
    let Some((cluster, _ballast)) = cluster() else { return };
    cluster.pretend_old_kernels();
    let mut subject = Subject::start(&cluster, Manner::Chatty);
    leave(&cluster, &mut subject, "node2");
    is_given_back(&cluster, &subject);
    subject.goes_on();
    subject.stays_at_home();
    subject.is_unharmed();
    subject.finish();
    cluster.is_quiet();
}

#[test]
fn without_its_host_it_ends_even_if_nobody_has_seen_it_do_anything() {
    let Some((cluster, _ballast)) = cluster() else { return };
    let mut subject = Subject::start(&cluster, Manner::Quiet);
    leave(&cluster, &mut subject, "node2");
    is_given_back(&cluster, &subject);
    assert!(cluster.signal_all("minka-host", rustix::process::Signal::KILL) > 0);
    let reason = subject.is_ended();
    assert!(reason.contains("lost while it was at node2"), "{reason}");
    cluster.is_quiet();
}

#[test]
fn without_its_deputy_it_ends_too() {
    let Some((cluster, _ballast)) = cluster() else { return };
    let mut subject = Subject::start(&cluster, Manner::Quiet);
    leave(&cluster, &mut subject, "node2");
    is_given_back(&cluster, &subject);
    assert!(cluster.signal_all("minka-deputy", rustix::process::Signal::KILL) > 0);
    let reason = subject.is_ended();
    assert!(reason.contains("deputy program was killed while it was away"), "{reason}");
    cluster.is_quiet();
}

#[test]
fn a_write_that_waits_for_room_is_not_cut_short() {
    let Some((cluster, _ballast)) = cluster() else { return };
    let file = cluster.new_file();
    // One call with all of it; natively it returns when all has been written.
    let script = format!(
        "sub say {{ open my $f, '>', '{}'; print $f @_; close $f }} \
         my $x = 'a' x 3000000; say('ready'); my $n = syswrite(STDOUT, $x); say(\"wrote $n\")",
        file.display()
    );
    let (mut input, output) = std::io::pipe().expect("make a pipe");
    let program = Program::new("perl").arguments(["-e", &script]).stdin(Stdio::null());
    let mut running = cluster.lab().start(1, program.stdout(Stdio::from(output))).expect("start perl");
    let told = || fs::read_to_string(&file).unwrap_or_default();
    eventually(SOON, "perl is ready", || told().contains("ready").then_some(()));
    let moved = cluster.client(1).migrate(running.pid_in_node() as i32, "node2", false);
    assert!(moved.is_ok(), "{moved:?}\n{}", cluster.logs());
    eventually(GIVEN, "its memory is given back", || own_kib(&running).filter(|kib| *kib < LEFT_KIB));
    assert_eq!(told(), "ready", "it waits\n{}", cluster.logs());
    let mut all = Vec::new();
    std::io::Read::read_to_end(&mut input, &mut all).expect("read");
    let status = running.wait_timeout(SOON).expect("wait");
    assert!(status.is_some_and(|status| status.success()), "{status:?}\n{}", cluster.logs());
    assert!(
        all.len() == 3_000_000 && all.iter().all(|byte| *byte == b'a'),
        "{} bytes came\n{}",
        all.len(),
        cluster.logs()
    );
    assert_eq!(told(), "wrote 3000000");
    cluster.is_quiet();
}

/// Memory that is a program's own alone, at home, in KiB.
fn own_kib(running: &Running) -> Option<u64> {
    let status = fs::read_to_string(Path::new(&format!("/proc/{}/status", running.pid()))).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")?.strip_suffix(" kB"))?;
    line.trim().parse().ok()
}

#[test]
fn one_that_waits_in_a_call_is_no_exception() {
    let Some((cluster, _ballast)) = cluster() else { return };
    let file = cluster.new_file();
    let script = format!(
        "x=$(head -c 3000000 /dev/zero | tr '\\0' a); echo ready > {0}; read y; echo \"$y ${{#x}}\" > {0}; \
         printf %s \"$x\" | cksum >> {0}",
        file.display()
    );
    let (input, mut output) = std::io::pipe().expect("make a pipe");
    let program = Program::new("sh").arguments(["-c", &script]).stdin(Stdio::from(input));
    let mut running = cluster.lab().start(1, program.stdout(Stdio::null())).expect("start a shell");
    let told = || fs::read_to_string(&file).unwrap_or_default();
    eventually(SOON, "the shell is ready", || told().contains("ready").then_some(()));
    let moved = cluster.client(1).migrate(running.pid_in_node() as i32, "node2", false);
    assert!(moved.is_ok(), "{moved:?}\n{}", cluster.logs());
    eventually(GIVEN, "its memory is given back", || own_kib(&running).filter(|kib| *kib < LEFT_KIB));
    // The end of its line comes later than the beginning: the call is made again as often as it takes.
    output.write_all(b"hel").expect("write");
    std::thread::sleep(Duration::from_millis(100));
    output.write_all(b"lo\n").expect("write");
    let status = running.wait_timeout(SOON).expect("wait");
    assert!(status.is_some_and(|status| status.success()), "{status:?}\n{}", cluster.logs());
    // `head -c 3000000 /dev/zero | tr '\0' a | cksum`
    let expected = std::process::Command::new("sh")
        .args(["-c", "head -c 3000000 /dev/zero | tr '\\0' a | cksum"])
        .output()
        .expect("run cksum");
    assert_eq!(told(), format!("hello 3000000\n{}", String::from_utf8_lossy(&expected.stdout)));
    cluster.is_quiet();
}
