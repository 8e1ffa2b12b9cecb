//! What a lab is to be like.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::error::LabError;
use crate::network::NODES_MAX;
use crate::share::{Limits, MEMORY_MIN_MIB, SHARE_MAX, SHARE_MIN};
use minka_link::BalanceMode;

/// Longest name of a lab, in bytes.
const NAME_LENGTH_MAX: usize = 32;
/// The running program itself, for whoever opens it.
pub(crate) const OWN_PROGRAM: &str = "/proc/self/exe";
/// Room for a daemon to look round before it answers; on a busy machine that takes longer.
const START_TIMEOUT: Duration = Duration::from_secs(20);

/// How long a lab lives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Lifetime {
    /// Until somebody ends it: it outlives the process that made it.
    #[default]
    Detached,
    /// At most as long as the [`crate::Lab`] that [`crate::Lab::up`] returned, and the process that holds it.
    Attached,
}

/// What a lab is to be like.
///
/// ```
/// use minka_lab::{LabOptions, Lifetime};
///
/// let options = LabOptions { nodes: 5, lifetime: Lifetime::Attached, ..LabOptions::named("demo") };
/// # assert_eq!(options.name, "demo");
/// ```
#[derive(Clone, Debug)]
pub struct LabOptions {
    /// What the lab is called: letters, digits, `-` and `_`, at most 32.
    pub name: String,
    /// How many nodes it has, from 1 to [`NODES_MAX`].
    pub nodes: u32,
    /// Where its keys, configurations, sockets and logs go. None: [`crate::Lab::directory_for`] its name.
    pub directory: Option<PathBuf>,
    /// A program that hands [`crate::INTERNAL_COMMAND`] to [`crate::internal_main`], as this program itself
    /// does.
    pub helper: PathBuf,
    /// The node daemon, `--config FILE` is added to it. None: the helper with `node serve`.
    pub node_command: Option<Vec<OsString>>,
    /// How many processors each node has, in numbers such as 0.4: one for all of them, or one for each. None: what the
    /// machine has, shared by all.
    pub cpus: Vec<f64>,
    /// How much memory each node has for programs and guests, in MiB: one for all of them, or one for each. None: what the
    /// machine has.
    pub memory_mib: Vec<u32>,
    /// Goes on where the system cannot limit a node: then the nodes only believe that they have so many processors.
    pub lenient: bool,
    /// Which processes the nodes move by themselves. In a lab root is a user like any other.
    pub balance: BalanceMode,
    /// How long it lives.
    pub lifetime: Lifetime,
    /// How long all nodes together may take until they answer.
    pub start_timeout: Duration,
}

impl LabOptions {
    /// A lab of three nodes with this name that goes on in the background.
    pub fn named(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            nodes: 3,
            directory: None,
            helper: OWN_PROGRAM.into(),
            node_command: None,
            cpus: Vec::new(),
            memory_mib: Vec::new(),
            lenient: false,
            balance: BalanceMode::None,
            lifetime: Lifetime::default(),
            start_timeout: START_TIMEOUT,
        }
    }

    pub(crate) fn check(&self) -> Result<(), LabError> {
        check_name(&self.name)?;
        if !(1..=NODES_MAX).contains(&self.nodes) {
            return Err(LabError::NodeCount(self.nodes));
        }
        let fits = |count: usize| count <= 1 || count == self.nodes as usize;
        if !fits(self.memory_mib.len()) || self.memory_mib.iter().any(|mib| *mib < MEMORY_MIN_MIB) {
            return Err(LabError::Memory { nodes: self.nodes });
        }
        if fits(self.cpus.len()) && self.cpus.iter().all(|share| (SHARE_MIN..=SHARE_MAX).contains(share)) {
            Ok(())
        } else {
            Err(LabError::Shares { nodes: self.nodes })
        }
    }

    /// What a node has, which counts from 1.
    pub(crate) fn limits(&self, node: u32) -> Limits {
        let own = node.saturating_sub(1) as usize;
        Limits { cpus: one_of(&self.cpus, own), memory_mib: one_of(&self.memory_mib, own) }
    }

    /// The daemon's command line as text, without its configuration.
    pub(crate) fn node_command(&self) -> Result<Vec<String>, LabError> {
        let default = || vec![self.helper.clone().into(), "node".into(), "serve".into()];
        let command = self.node_command.clone().unwrap_or_else(default);
        command.into_iter().map(text).collect()
    }
}

/// What is said for all, or for one of them.
fn one_of<T: Copy>(said: &[T], index: usize) -> Option<T> {
    said.get(if said.len() > 1 { index } else { 0 }).copied()
}

pub(crate) fn check_name(name: &str) -> Result<(), LabError> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    if (1..=NAME_LENGTH_MAX).contains(&name.len()) && name.bytes().all(allowed) {
        Ok(())
    } else {
        Err(LabError::Name(name.to_owned()))
    }
}

/// A path or argument as text: what describes a lab is JSON, which holds no other bytes.
pub(crate) fn text(argument: OsString) -> Result<String, LabError> {
    argument.into_string().map_err(|argument| LabError::Path {
        path: Path::new(&argument).to_owned(),
        why: "it is not valid UTF-8",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_within_one_directory() {
        for name in ["", ".", "..", "a/b", "a b", "ä", &"x".repeat(33)] {
            assert!(check_name(name).is_err(), "{name:?}");
        }
        for name in ["a", "Lab_1-b", &"x".repeat(32)] {
            assert!(check_name(name).is_ok(), "{name:?}");
        }
    }

    #[test]
    fn limits_are_for_all_nodes_or_for_each() {
        let with = |cpus: &[f64], memory_mib: &[u32]| LabOptions {
            cpus: cpus.to_vec(),
            memory_mib: memory_mib.to_vec(),
            ..LabOptions::named("x")
        };
        let limits =
            |options: &LabOptions, node| (options.limits(node).cpus, options.limits(node).memory_mib);
        assert_eq!(limits(&with(&[], &[]), 1), (None, None));
        assert_eq!(limits(&with(&[0.4], &[64]), 3), (Some(0.4), Some(64)));
        assert_eq!(limits(&with(&[0.1, 0.2, 0.4], &[64, 32, 16]), 2), (Some(0.2), Some(32)));
        for good in [&[][..], &[0.4], &[0.1, 0.2, 3.0]] {
            assert!(with(good, &[64]).check().is_ok(), "{good:?}");
        }
        for bad in [&[0.4, 0.4][..], &[0.0], &[f64::NAN], &[-1.0], &[1e9]] {
            assert!(with(bad, &[]).check().is_err(), "{bad:?}");
        }
        for bad in [&[64, 64][..], &[0], &[15]] {
            assert!(with(&[], bad).check().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_lab_has_as_many_nodes_as_there_are_addresses() {
        let with = |nodes| LabOptions { nodes, ..LabOptions::named("x") };
        for nodes in [0, NODES_MAX + 1] {
            assert!(with(nodes).check().is_err(), "{nodes}");
        }
        for nodes in [1, NODES_MAX] {
            assert!(with(nodes).check().is_ok(), "{nodes}");
        }
    }
}
