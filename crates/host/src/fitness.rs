//! Whether this machine, and whoever asks, has what nodes need. Each thing is tried; only for a fault of the scheduler's is a
//! version asked.

use crate::prepare;
use minka_kernel::namespace;
use minka_kernel::pagemap::{Pagemap, Want};
use minka_kernel::uffd::{Mode, Userfault};
use std::io;

/// Something that a node needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// An x86-64 processor.
    Processor,
    /// The kernel tells which pages a program has (`PAGEMAP_SCAN`, or the entries of its page table).
    WrittenPages,
    /// It tracks which of them are written (userfaultfd with asynchronous write protection, or what older ones have).
    TrackedWrites,
    /// Missing pages can be served, so that a moved program goes on before its memory is there.
    MemoryOnDemand,
    /// System calls of guests can be forwarded (seccomp notifications).
    Forwarding,
    /// Programs may be traced.
    Tracing,
    /// Guests get namespaces of their own.
    Namespaces,
    /// The scheduler lets everybody run who is ready to.
    Scheduler,
}

impl Need {
    /// Its name, as in `--json`.
    pub fn name(self) -> &'static str {
        match self {
            Need::Processor => "processor",
            Need::WrittenPages => "written-pages",
            Need::TrackedWrites => "tracked-writes",
            Need::MemoryOnDemand => "memory-on-demand",
            Need::Forwarding => "forwarding",
            Need::Tracing => "tracing",
            Need::Namespaces => "namespaces",
            Need::Scheduler => "scheduler",
        }
    }

    /// Whether a node can do without it, though less well.
    pub fn can_be_done_without(self) -> bool {
        matches!(self, Need::MemoryOnDemand | Need::Scheduler)
    }
}

/// What was found of one need: nothing if it is met, else why it is not.
pub type Finding = (Need, Option<String>);

/// Tries everything.
pub fn findings() -> Vec<Finding> {
    let not = |outcome: io::Result<()>| outcome.err().map(|error| error.to_string());
    vec![
        (Need::Processor, (!cfg!(target_arch = "x86_64")).then(|| std::env::consts::ARCH.to_owned())),
        (Need::WrittenPages, not(scan_own_pages())),
        (Need::TrackedWrites, not(Userfault::try_out(Mode::Track))),
        (Need::MemoryOnDemand, not(Userfault::try_out(Mode::Serve))),
        (Need::Forwarding, filter_actions(&read("/proc/sys/kernel/seccomp/actions_avail"))),
        (Need::Tracing, tracing(&read("/proc/sys/kernel/yama/ptrace_scope"), is_root())),
        (Need::Namespaces, namespaces(is_root(), |name| read(&format!("/proc/sys/{name}")))),
        (
            Need::Scheduler,
            starving_groups(
                &read("/proc/sys/kernel/osrelease"),
                &read("/proc/sys/kernel/sched_autogroup_enabled"),
            ),
        ),
    ]
}

/// The digest of the code that the kernel maps into each program: the same on all nodes of a cluster.
///
/// # Errors
/// When there is none to be read.
pub fn vdso() -> io::Result<String> {
    let (digest, _) = prepare::own_vdso()?;
    Ok(digest.iter().map(|byte| format!("{byte:02x}")).collect())
}

fn is_root() -> bool {
    namespace::effective_user() == 0
}

fn read(path: &str) -> Option<String> {
    std::fs::read_to_string(path).ok()
}

fn scan_own_pages() -> io::Result<()> {
    const PAGE: u64 = minka_image::PAGE;
    let here = 0u64;
    let start = (&raw const here) as u64 & !(PAGE - 1);
    Pagemap::open(std::process::id().cast_signed())?.scan(start, start + PAGE, Want::Present, |_, _| ())
}

/// The kernel lists what filters can do.
fn filter_actions(listed: &Option<String>) -> Option<String> {
    match listed {
        Some(actions) if actions.split_whitespace().any(|action| action == "user_notif") => None,
        Some(actions) => Some(format!("filters can only: {}", actions.trim())),
        None => Some("no seccomp filters".to_owned()),
    }
}

/// Yama's rule (see `ptrace(2)`): 0 and, for root, everything but 3 allow it.
fn tracing(scope: &Option<String>, is_root: bool) -> Option<String> {
    let scope: u32 = scope.as_ref()?.trim().parse().ok()?;
    let allowed = if is_root { scope < 3 } else { scope == 0 };
    (!allowed).then(|| format!("kernel.yama.ptrace_scope = {scope}"))
}

/// Where sessions are scheduled as groups (see `sched(7)`), Linux 6.18 lets ready threads wait for seconds while those of a
/// group wake each other a thousand times a second; mended in 6.18.45 (101f3498b4bd). To try that out would take as long.
fn starving_groups(release: &Option<String>, has_groups: &Option<String>) -> Option<String> {
    let release = release.as_ref()?.trim();
    let digits = release.strip_prefix("6.18.")?;
    let digits = digits.find(|digit: char| !digit.is_ascii_digit()).map_or(digits, |end| &digits[..end]);
    let is_affected = digits.parse().is_ok_and(|patch: u32| patch < 45);
    (is_affected && has_groups.as_ref()?.trim() == "1")
        .then(|| format!("Linux {release}, kernel.sched_autogroup_enabled = 1"))
}

/// Who is not root needs user namespaces, which systems can forbid in several ways.
fn namespaces(is_root: bool, setting: impl Fn(&str) -> Option<String>) -> Option<String> {
    const FORBIDDEN: [(&str, &str, &str); 3] = [
        ("user/max_user_namespaces", "0", "user.max_user_namespaces = 0"),
        ("kernel/unprivileged_userns_clone", "0", "kernel.unprivileged_userns_clone = 0"),
        (
            "kernel/apparmor_restrict_unprivileged_userns",
            "1",
            "kernel.apparmor_restrict_unprivileged_userns = 1",
        ),
    ];
    if is_root {
        return None;
    }
    let is =
        |(path, value, _): &&(&str, &str, &str)| setting(path).is_some_and(|found| found.trim() == *value);
    FORBIDDEN.iter().find(is).map(|(_, _, why)| (*why).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_that_runs_the_tests_can_be_a_node() {
        let lacking: Vec<Finding> = findings()
            .into_iter()
            .filter(|(need, why)| why.is_some() && !need.can_be_done_without())
            .collect();
        assert_eq!(lacking, []);
        assert_eq!(vdso().unwrap().len(), 64);
    }

    #[test]
    fn settings_that_forbid_something_are_named() {
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(filter_actions(&some("kill_process trap user_notif allow\n")), None);
        assert_eq!(filter_actions(&some("kill allow\n")), some("filters can only: kill allow"));
        assert!(filter_actions(&None).is_some());
        assert_eq!(tracing(&None, false), None, "no Yama, no rule");
        assert_eq!(tracing(&some("1\n"), true), None);
        assert_eq!(tracing(&some("1\n"), false), some("kernel.yama.ptrace_scope = 1"));
        assert_eq!(tracing(&some("3\n"), true), some("kernel.yama.ptrace_scope = 3"));
        let starving = |release, groups| starving_groups(&some(release), &some(groups));
        let why = some("Linux 6.18.44-cloud, kernel.sched_autogroup_enabled = 1");
        assert_eq!(starving("6.18.44-cloud\n", "1\n"), why);
        for (release, groups) in [("6.18.44", "0"), ("6.18.45", "1"), ("6.12.9", "1"), ("6.19.0", "1")] {
            assert_eq!(starving(release, groups), None, "{release} {groups}");
        }
        let with = |name: &'static str, value: &'static str| {
            move |asked: &str| (asked == name).then(|| format!("{value}\n"))
        };
        assert_eq!(namespaces(false, with("user/max_user_namespaces", "90000")), None);
        let why = namespaces(false, with("kernel/unprivileged_userns_clone", "0"));
        assert_eq!(why, some("kernel.unprivileged_userns_clone = 0"));
        assert_eq!(namespaces(true, with("user/max_user_namespaces", "0")), None);
    }
}
