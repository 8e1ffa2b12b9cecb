//! The part of `node.toml` that says who may be moved without being asked: `[balance]`.
//!
//! ```toml
//! [balance]
//! mode = "all"                       # or "started": what mosrun began, and its descendants; or "none"
//! uid_min = 1000                     # users below are the system's, and are left alone
//! exclude_uids = [1001]
//! exclude_programs = ["postgres"]
//! exclude_cgroups = ["/system.slice"]
//! reserve_mib = 256                  # memory that is kept free
//! cpus = 4                           # what the machine has
//! speed = 20000                      # what it measures of itself; 10000 is the standard processor
//! visible_only = false               # judge by the processes that can be seen: several nodes on one machine
//! ```

use std::collections::BTreeSet;
use std::num::{NonZeroU16, NonZeroU32};

use serde::{Deserialize, Serialize};

/// Which processes are moved without being asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BalanceMode {
    /// Those of all ordinary users, as in openMosix.
    #[default]
    All,
    /// Those that were started by `mosrun`, and their descendants.
    Started,
    /// None; and `best` takes the nodes in turn.
    None,
}

/// How a node takes part in balancing.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BalanceConfig {
    /// Which processes are moved.
    pub mode: BalanceMode,
    /// The first ordinary user.
    pub uid_min: u32,
    /// Users whose processes are left alone.
    pub exclude_uids: BTreeSet<u32>,
    /// Programs that are left alone, by name (`comm`).
    pub exclude_programs: BTreeSet<String>,
    /// Control groups that are left alone, each with all below it.
    pub exclude_cgroups: BTreeSet<String>,
    /// Memory that is kept free, in MiB.
    pub reserve_mib: u32,
    /// Processors, if not what the machine has.
    pub cpus: Option<NonZeroU16>,
    /// The speed of one of them, if not what is measured; 10000 is the standard processor's.
    pub speed: Option<NonZeroU32>,
    /// The load is that of the processes that can be seen, and not the machine's: it is several nodes.
    pub visible_only: bool,
}

impl Default for BalanceConfig {
    fn default() -> Self {
        BalanceConfig {
            mode: BalanceMode::default(),
            uid_min: 1000,
            exclude_uids: BTreeSet::new(),
            exclude_programs: BTreeSet::new(),
            exclude_cgroups: BTreeSet::new(),
            reserve_mib: 0,
            cpus: None,
            speed: None,
            visible_only: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_in_the_docs_says_everything() {
        let lines = include_str!("balance.rs").lines().take_while(|line| line.starts_with("//!"));
        let lines = lines.map(|line| line.trim_start_matches("//!").trim_start());
        let example: Vec<&str> = lines.skip_while(|line| *line != "[balance]").skip(1).collect();
        let example = example.split(|line| *line == "```").next().unwrap().join("\n");
        let config: BalanceConfig = toml::from_str(&example).unwrap();
        assert_eq!((config.mode, config.uid_min, config.reserve_mib), (BalanceMode::All, 1000, 256));
        assert_eq!(config.exclude_programs, ["postgres".to_owned()].into());
        assert_eq!(
            (config.cpus.map(NonZeroU16::get), config.speed.map(NonZeroU32::get)),
            (Some(4), Some(20_000))
        );
        assert!(toml::from_str::<BalanceConfig>("mode = 'some'").is_err());
        assert!(toml::from_str::<BalanceConfig>("cpus = 0").is_err());
        assert_eq!(toml::from_str::<BalanceConfig>("").unwrap(), BalanceConfig::default());
    }
}
