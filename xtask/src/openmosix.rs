//! `docs/openmosix.md`: what openMosix's manual says of its tools, tried in a lab of four nodes.
//!
//! Needs root, and says in the page what did not work.

use std::fmt::Write;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use crate::Failure;
use crate::command::{cargo, succeed};
use crate::package::LINKS;

/// What a command has to come to.
#[derive(Debug, Clone, Copy)]
enum Expected {
    /// Exactly this, before the last line feed.
    Text(&'static str),
    /// A number, and this after it.
    Number(&'static str),
    /// Among other things, this.
    Part(&'static str),
    /// Nothing, with this exit status.
    Status(i32),
}
use Expected::{Number, Part, Status, Text};

/// Until this is over a command may come to something else: what was set is told a second later.
const PATIENCE: Duration = Duration::from_secs(20);

/// Says where the process is that was just begun in the background, and ends it.
const WHERE: &str = "sleep 2; mps | grep -v '(' | grep -o 'node[234]' | head -1; kill %1 2>/dev/null; wait";

/// A table: its heading, and what is tried.
type Table = (&'static str, &'static [(&'static str, Expected)]);

const TABLES: [Table; 11] = [
    (
        "The map: `setpe`, `showmap`, `mosctl whois`",
        &[
            ("setpe -r", Text("1\t10.77.0.1\t4")),
            ("setpe -r -f /tmp/minka.map && setpe -c -f /tmp/minka.map", Text("a map of 4 nodes")),
            ("setpe -w -f /tmp/minka.map; rm /tmp/minka.map", Text("a map of 4 nodes")),
            ("showmap", Part("My Node-Id: 0x0001")),
            ("mosctl whois 3", Text("3\t10.77.0.3:4660\tnode3")),
            ("mosctl whois 10.77.0.2", Text("2\t10.77.0.2:4660\tnode2")),
            ("mosctl whois node4", Text("4\t10.77.0.4:4660\tnode4")),
            // Without a default route an interface has to be named.
            ("omdiscd -n", Status(1)),
        ],
    ),
    (
        "Questions to nodes: `mosctl`",
        &[
            ("mosctl getload 2", Number("")),
            ("mosctl getspeed 2", Text("10000")),
            ("mosctl status 2", Text("up, its processes may leave, it takes guests")),
            ("mosctl isup 2", Text("yes")),
            ("mosctl isup 9", Status(4)),
            ("mosctl getmem 2", Number(" MiB")),
            ("mosctl getfree 2", Number(" MiB")),
            ("mosctl getutil 2", Number(" %")),
            ("mosctl getyard", Text("10000")),
            ("mosctl getdecay", Text("decay-interval\t1\nslow-decay\t975\nfast-decay\t926")),
        ],
    ),
    (
        "Steering this node: `mosctl`, `tune`",
        &[
            ("mosctl stay; mosctl status", Text("up, its processes stay, it takes guests")),
            ("mosctl nostay; mosctl status", Text("up, its processes may leave, it takes guests")),
            ("mosctl lstay; mosctl status", Text("up, its processes stay, it takes guests")),
            ("mosctl nolstay; mosctl status", Text("up, its processes may leave, it takes guests")),
            ("mosctl block; mosctl status", Text("up, its processes may leave, it takes no guests")),
            ("mosctl noblock; mosctl status", Text("up, its processes may leave, it takes guests")),
            ("mosctl expel; mosctl status", Text("up, its processes may leave, it takes no guests")),
            ("mosctl bring; mosctl status", Text("up, its processes stay, it takes no guests")),
            ("setpe -off; mosctl status", Text("up, its processes stay, it takes no guests")),
            (
                "mosctl nostay; mosctl noblock; mosctl status",
                Text("up, its processes may leave, it takes guests"),
            ),
            ("mosctl setspeed 12000; mosctl getspeed", Text("12000")),
            (
                "mosctl setdecay 5 900 800; mosctl getdecay",
                Text("decay-interval\t5\nslow-decay\t900\nfast-decay\t800"),
            ),
            ("mosctl setyard 20000; mosctl getyard", Text("20000")),
            ("mosctl setyard this; mosctl getyard", Text("12000")),
            ("mosctl setyard 2; mosctl getyard", Text("10000")),
            ("mosctl setyard PIII/1GHz; mosctl getyard", Text("10000")),
            ("mosctl gettune", Part("These figures are assumed, not measured.")),
            ("tune", Part("this machine's speed is")),
        ],
    ),
    (
        "Starting programs: `mosrun` and its short forms",
        &[
            ("mosrun -h echo here", Text("here")),
            ("mosrun -2 sleep 9 &", Text("node2")),
            ("mosrun -j3 sleep 9 &", Text("node3")),
            ("mosrun -j2-4 sleep 9 &", Part("node")),
            ("mosrun -2 -L sh -c 'echo $MINKA_LOCKED'", Text("1")),
            ("mosrun -9 true", Status(4)),
            ("nomig sh -c 'echo $MINKA_LOCKED'", Text("1")),
            ("runhome echo here", Text("here")),
            ("runon 3 sleep 9 &", Text("node3")),
            ("nodecay -h sh -c 'echo $MINKA_DECAY'", Text("never")),
            ("slowdecay -h sh -c 'echo $MINKA_DECAY'", Text("slow")),
            ("fastdecay -h sh -c 'echo $MINKA_DECAY'", Text("fast")),
            ("mosrun -h -f -t 5 -d 900 sh -c 'echo $MINKA_DECAY'", Text("fast:5:900")),
            ("mosrun -h -c sh -c 'echo $MINKA_JOB'", Text("cpu")),
            ("mosrun -h -i sh -c 'echo $MINKA_JOB'", Text("io")),
            ("cpujob -h sh -c 'echo $MINKA_JOB'", Text("cpu")),
            ("iojob -h sh -c 'echo $MINKA_JOB'", Text("io")),
            ("mosrun -h -k sh -c 'echo $MINKA_LOCKED'", Status(0)),
            ("mosrun -h -l -z sh other -c 'echo $0'", Text("other")),
        ],
    ),
    (
        "Moving processes: `migrate`",
        &[
            ("sleep 9 & migrate $! 2 >/dev/null", Text("node2")),
            ("sleep 9 & migrate $! node3 >/dev/null", Text("node3")),
            ("sleep 9 & migrate $! 10.77.0.4 >/dev/null", Text("node4")),
            ("sleep 9 & migrate $! balance >/dev/null", Part("node")),
            ("sleep 9 & migrate $! 2 >/dev/null && migrate $! home | grep -c node1; kill $!", Text("1")),
        ],
    ),
    (
        "Looking on: `mosmon`, `mps`, `mtop`",
        &[
            ("mosmon -s -t --once", Part("4 nodes with 4 processors are up")),
            ("mosmon -m --once", Part("memory in MiB")),
            ("mon --json", Part("\"show\":\"load\"")),
            ("sleep 9 & migrate $! 4 >/dev/null; mps | grep -v '(' | grep -c node4; kill $!", Text("1")),
            ("sleep 9 & migrate $! 4 >/dev/null; mtop --once | grep -c node4; kill $!", Text("1")),
        ],
    ),
    (
        "The tree: `/hpc/admin`",
        &[
            ("echo 1 > /hpc/admin/block; cat /hpc/admin/block", Text("1")),
            ("echo 0 > /hpc/admin/block; cat /hpc/admin/block", Text("0")),
            ("echo 1 > /hpc/admin/stay; cat /hpc/admin/stay", Text("1")),
            ("echo 0 > /hpc/admin/lstay; cat /hpc/admin/lstay", Text("0")),
            ("echo 1 > /hpc/admin/expel; cat /hpc/admin/expel", Text("0")),
            ("echo 1 > /hpc/admin/bring; cat /hpc/admin/bring", Text("0")),
            (
                "cd /hpc/admin; echo 0 > block; echo 0 > stay; mosctl status",
                Text("up, its processes may leave, it takes guests"),
            ),
            ("cat /hpc/admin/mospe", Text("1")),
            ("cat /hpc/admin/config", Part("1\t10.77.0.1\t1")),
            ("echo 11000 > /hpc/admin/speed; cat /hpc/admin/speed", Text("11000")),
            ("echo 1 > /hpc/admin/decay-interval; cat /hpc/admin/decay-interval", Text("1")),
            ("echo 975 > /hpc/admin/slow-decay; cat /hpc/admin/slow-decay", Text("975")),
            ("echo 926 > /hpc/admin/fast-decay; cat /hpc/admin/fast-decay", Text("926")),
            ("cat /hpc/admin/overheads", Part("move_us")),
            ("cat /hpc/admin/version", Part("Minka ")),
            ("echo 2 > /hpc/admin/block", Status(1)),
        ],
    ),
    (
        "The tree: `/hpc/decay`",
        &[
            ("echo 1 > /hpc/decay/clear", Status(0)),
            ("echo 1 > /hpc/decay/cpujob", Status(0)),
            ("echo 1 > /hpc/decay/iojob", Status(0)),
            ("echo 1 > /hpc/decay/slow", Status(0)),
            ("echo 1 > /hpc/decay/fast", Status(0)),
        ],
    ),
    (
        "The tree: `/hpc/nodes`",
        &[
            ("cat /hpc/nodes/2/CPUs", Number("")),
            ("cat /hpc/nodes/2/load", Number("")),
            ("cat /hpc/nodes/2/mem", Number("")),
            ("cat /hpc/nodes/2/rmem", Number("")),
            ("cat /hpc/nodes/2/tmem", Number("")),
            ("cat /hpc/nodes/2/speed", Text("10000")),
            ("cat /hpc/nodes/2/status", Text("up")),
            ("cat /hpc/nodes/2/util", Number("")),
        ],
    ),
    (
        "The tree: processes, `/hpc/proc`",
        &[
            ("sleep 9 & echo 3 > /hpc/proc/$!/goto; cat /hpc/proc/$!/where; kill $!", Text("3")),
            ("sleep 9 & echo 3 > /hpc/proc/$!/goto; cat /hpc/proc/$!/goto; kill $!", Text("3")),
            ("sleep 9 & cd /hpc/proc/$!; echo 3 > migrate; echo 0 > migrate; cat where; kill $!", Text("0")),
            ("sleep 9 & cd /hpc/proc/$!; echo 3 > goto; echo 0 > goto; cat nmigs; kill $!", Text("2")),
            ("sleep 9 & echo balance > /hpc/proc/$!/goto; cat /hpc/proc/$!/nmigs; kill $!", Text("1")),
            ("sleep 9 & echo 9 > /hpc/proc/$!/goto || kill $!", Status(0)),
            ("cat /hpc/proc/1/cantmove", Part("it ")),
            ("cat /hpc/proc/self/where", Text("0")),
            ("echo 1 > /hpc/proc/self/lock; read x < /hpc/proc/self/lock; echo $x", Text("1")),
            ("echo 0 > /hpc/proc/self/lock; read x < /hpc/proc/self/lock; echo $x", Text("0")),
        ],
    ),
    (
        "The tree: guests, `/hpc/remote`",
        &[
            ("cat /hpc/remote/*/from", Text("2")),
            ("cat /hpc/remote/*/identity", Part("node\tnode2")),
            ("cat /hpc/remote/*/statm", Part(" ")),
            ("cat /hpc/remote/*/stats", Part("utime")),
        ],
    ),
];

/// What computes on the first node while all of that is tried, for there to be a guest.
const GUEST: &str = "sleep 3600 >/dev/null 2>&1 & migrate $! 1 >/dev/null";

const ABSENT: &str = "\
## What is not there

| openMosix | why |
|---|---|
| `mosctl quiet`, `noquiet` | The kernel wrote to the console; here there is a log, as much of it as `MINKA_LOG` says. |
| `mosctl mfs`, `nomfs`; MFS and DFSA | Files are those of the home, wherever a process computes; what is identical on the other node is read there. |
| `mosrun -e`, `-E`, `-r`, `-R` | The synopsis of `mosrun(1)` puts them, as two pairs of opposites, beside the options of the decay (`-c`, `-i`, `-n`, `-s`, `-f`, `-t`, `-d`); the manual does not name them, and the sources are lost. They are refused. MOSIX's later `mosrun` means other things by these letters: `-r` the host's name (here `-ID`, or `minka run --on NAME`), `-e` that an unsupported call fails and does not end the program (here it takes the program home, where it works), `-E` a batch job, `-R` to go on from a checkpoint (there are none). |
| `mosrun` locks what it is told to run on a node | It does so with `-L`, and with `runon`, `runhome` and `nomig`. |
| processor types for `mosctl setyard` | The manual names one, `PIII/1GHz`, which is the standard. |
| `/proc/hpc`, `/proc/PID` | The tree is `/hpc`, and processes are in `/hpc/proc`: nothing can be added to `/proc` from outside the kernel. |
| `/proc/hpc/admin/dfsalinks`, `nomfs`, `mfscosts` | As above: there is no MFS. |
| `/proc/hpc/admin/gateways`; nodes as gateways | It was how many gateways there may be between two nodes. Here a gateway is any router: nodes use the addresses of the list by whichever way the kernel knows (README, several networks). `ALIAS` in a map is another address of a node. |
| `/proc/hpc/admin/quiet` | As above. |
| writing to `config` and `overheads` | Nodes need certificates (`minka cluster add`); what moving costs cannot be set. |
| `/proc/PID/selected`, `migfilter`, `mignodes`, `migpolicy` | There is no MFS; whoever is to go somewhere is sent there (`mosrun -j`). |

Memory is told in MiB. `status` says `up` or `down`, and `stay` and `block` where they hold. Home is 0 in `where` and `goto`. What is
not known, as the load of a node that is down, cannot be read (`No data available`).
";

/// Makes the page.
pub(crate) fn make(root: &Path) -> Result<(), Failure> {
    succeed(cargo(root).args(["build", "-q", "-p", "minka"]))?;
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    let lab = Lab::up(&target.join("debug/minka").canonicalize()?)?;
    let mut page = String::from(
        "<!-- Made by `cargo xtask openmosix`. -->\n# openMosix's tools\n\n\
         What its manual says of them, tried on the first of four nodes of a lab. A command with `&` at its end goes on, and \
         what is shown is where it computes then.\n",
    );
    lab.run("node2", GUEST)?;
    let (mut tried, mut failed) = (0, 0);
    for (heading, rows) in TABLES {
        // Writing to a String does not fail, here and below.
        let _ = writeln!(page, "\n## {heading}\n\n| command | printed | |\n|---|---|---|");
        for (command, expected) in rows {
            let (printed, works) = lab.attempt(command, *expected)?;
            tried += 1;
            failed += usize::from(!works);
            let verdict = if works { "works" } else { "**does not**" };
            let _ = writeln!(page, "| `{}` | {} | {verdict} |", command.replace('|', "\\|"), cell(&printed));
        }
    }
    let _ = write!(page, "\nOf {tried} commands {} worked.\n\n{ABSENT}", tried - failed);
    fs::write(root.join("docs/openmosix.md"), page)?;
    println!("{} of {tried} commands worked", tried - failed);
    Ok(())
}

/// The first lines of what was printed, fit for a table.
fn cell(printed: &str) -> String {
    let mut lines: Vec<&str> = printed.lines().collect();
    let more = lines.len() > 3;
    lines.truncate(if more { 1 } else { 3 });
    let text = lines.join(" / ").replace('\t', " ").replace('|', "\\|");
    match (text.is_empty(), more) {
        (true, _) => "nothing".to_owned(),
        (false, true) => format!("`{}` …", text.trim_end()),
        (false, false) => format!("`{text}`"),
    }
}

/// A lab that is taken down with this, and the tools under their names.
struct Lab {
    minka: PathBuf,
    name: String,
    links: PathBuf,
}

impl Lab {
    fn up(minka: &Path) -> Result<Self, Failure> {
        let name = format!("openmosix-{}", std::process::id());
        let links = std::env::temp_dir().join(&name);
        fs::create_dir_all(&links)?;
        for link in LINKS.iter().chain(&["mon", "tune"]) {
            symlink(minka, links.join(link))?;
        }
        let lab = Lab { minka: minka.to_owned(), name, links };
        succeed(lab.minka().args(["lab", "up", "--nodes", "4", "--name", &lab.name]).stdout(Stdio::null()))?;
        Ok(lab)
    }

    fn minka(&self) -> Command {
        let mut minka = Command::new(&self.minka);
        minka.env("LC_ALL", "C").env_remove("MINKA_DIR").stdin(Stdio::null());
        minka
    }

    /// What a command printed, and whether that is what was expected, at last.
    fn attempt(&self, command: &str, expected: Expected) -> Result<(String, bool), Failure> {
        let deadline = Instant::now() + PATIENCE;
        // Job control, so that what goes on has a number.
        let goes_on = command.ends_with('&') || command.ends_with(">/dev/null") && command.contains('&');
        let script = if goes_on { format!("{command}\n{WHERE}") } else { command.to_owned() };
        loop {
            let output = self.run("node1", &script)?;
            let printed = String::from_utf8_lossy(&output.stdout).trim_end().to_owned();
            let works = expected.is_met(&printed, output.status.code());
            if works || Instant::now() > deadline {
                return Ok((printed, works));
            }
            std::thread::sleep(Duration::from_millis(500));
        }
    }

    fn run(&self, node: &str, script: &str) -> Result<Output, Failure> {
        let path = std::env::var("PATH").unwrap_or_default();
        let exec = ["lab", "exec", "--name", &self.name, node, "--", "bash", "-c", script];
        Ok(self.minka().args(exec).env("PATH", format!("{}:{path}", self.links.display())).output()?)
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let _ = self.minka().args(["lab", "down", "--name", &self.name]).output();
        let _ = fs::remove_dir_all(&self.links);
    }
}

impl Expected {
    fn is_met(self, printed: &str, status: Option<i32>) -> bool {
        match self {
            Text(text) => printed == text,
            Number(unit) => printed.strip_suffix(unit).is_some_and(|number| number.parse::<u64>().is_ok()),
            Part(part) => printed.contains(part),
            Status(expected) => printed.is_empty() && status == Some(expected),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_expected_is_told_from_what_is_not() {
        assert!(Number(" MiB").is_met("17 MiB", Some(0)) && !Number(" MiB").is_met("17", Some(0)));
        assert!(Text("a").is_met("a", Some(1)) && !Text("a").is_met("ab", Some(0)));
        assert!(Part("b").is_met("abc", None) && !Part("d").is_met("abc", None));
        assert!(Status(4).is_met("", Some(4)) && !Status(4).is_met("", Some(0)));
        assert_eq!(cell("a\tb | c\nd"), "`a b \\| c / d`");
        assert_eq!((cell(""), cell("a\nb\nc\nd")), ("nothing".to_owned(), "`a` …".to_owned()));
    }
}
