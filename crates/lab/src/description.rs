//! `lab.json`: what a lab is and where its processes are, for whoever comes later.

use std::fs;
use std::io;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use minka_kernel::spawn::ProcessHandle;
use serde::{Deserialize, Serialize};

use crate::error::LabError;
use crate::network::{node_address, node_name};
use crate::share::{self, Limits};

/// The description's name in the lab's directory.
pub(crate) const FILE_NAME: &str = "lab.json";
/// The version of its layout.
const FORMAT: u32 = 1;

/// What a lab is. Paths are absolute; PIDs are those that the lab's maker sees.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Description {
    /// Version of this layout.
    pub format: u32,
    /// What the lab is called.
    pub name: String,
    /// Where everything of it lies.
    pub directory: PathBuf,
    /// The process that holds it together; none while it is being made.
    pub supervisor: Option<ProcessIdentity>,
    /// Its nodes, by number.
    pub nodes: Vec<NodeDescription>,
}

/// What a node is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NodeDescription {
    /// Its number, from 1.
    pub number: u32,
    /// Its host name.
    pub name: String,
    /// Its address in the lab's network.
    pub address: Ipv4Addr,
    /// Where its keys, configuration, log and sockets lie.
    pub directory: PathBuf,
    /// How many processors it has, if they are limited.
    #[serde(default)]
    pub cpus: Option<f64>,
    /// How much memory it has, in MiB, if it is limited.
    #[serde(default)]
    pub memory_mib: Option<u32>,
    /// The control groups that limit it.
    #[serde(default)]
    pub control_groups: Vec<PathBuf>,
    /// Its first process; none until all nodes are up.
    pub init: Option<ProcessIdentity>,
}

impl NodeDescription {
    /// Where the sockets for programs in the node lie.
    pub fn run_directory(&self) -> PathBuf {
        self.directory.join("run")
    }

    /// Where its daemon listens for programs.
    pub fn socket(&self) -> PathBuf {
        self.run_directory().join("node.sock")
    }

    /// The daemon's configuration.
    pub fn configuration(&self) -> PathBuf {
        self.directory.join("node.toml")
    }

    /// What the daemon writes to its standard output and error.
    pub fn log(&self) -> PathBuf {
        self.directory.join("node.log")
    }
}

impl Description {
    /// A lab that is about to be made.
    pub(crate) fn new(name: &str, directory: &Path, nodes: u32) -> Self {
        let node = |number| NodeDescription {
            number,
            name: node_name(number),
            address: node_address(number),
            directory: directory.join(node_name(number)),
            cpus: None,
            memory_mib: None,
            control_groups: Vec::new(),
            init: None,
        };
        Self {
            format: FORMAT,
            name: name.to_owned(),
            directory: directory.to_owned(),
            supervisor: None,
            nodes: (1..=nodes).map(node).collect(),
        }
    }

    /// The description in a lab's directory, if there is one.
    pub(crate) fn read(directory: &Path) -> Result<Option<Self>, LabError> {
        let path = directory.join(FILE_NAME);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(LabError::file("read", path)(error)),
        };
        match serde_json::from_slice(&bytes) {
            Ok(description) => Ok(Some(description)),
            Err(source) => Err(LabError::Description { path, source }),
        }
    }

    /// Makes the control groups of the nodes that are limited.
    pub(crate) fn limit(&mut self) -> Result<(), LabError> {
        let supervisor = self.supervisor.map_or(0, |supervisor| supervisor.pid);
        let prefix = format!("minka-{}-{supervisor}", self.name);
        self.nodes.iter_mut().try_for_each(|node| {
            let limits = Limits { cpus: node.cpus, memory_mib: node.memory_mib };
            share::make(&format!("{prefix}-{}", node.name), limits, &mut node.control_groups)
        })
    }

    /// Removes the control groups of nodes that are gone.
    pub(crate) fn remove_control_groups(&mut self) {
        let groups = self.nodes.iter_mut().flat_map(|node| std::mem::take(&mut node.control_groups));
        groups.for_each(|group| share::remove(&group));
    }

    /// Writes it, so that others find the old one or the new one.
    pub(crate) fn write(&self) -> Result<(), LabError> {
        let path = self.directory.join(FILE_NAME);
        let bytes = match serde_json::to_vec_pretty(self) {
            Ok(bytes) => bytes,
            Err(source) => return Err(LabError::Description { path, source }),
        };
        let new = self.directory.join("lab.json.new");
        fs::write(&new, bytes).and_then(|()| fs::rename(&new, &path)).map_err(LabError::file("write", path))
    }

    /// A node by its number.
    pub fn node(&self, number: u32) -> Result<&NodeDescription, LabError> {
        let index = number.checked_sub(1).map(|index| index as usize);
        index
            .and_then(|index| self.nodes.get(index))
            .ok_or(LabError::NoSuchNode { node: number, nodes: self.nodes.len() as u32 })
    }

    /// The control socket.
    pub(crate) fn control_socket(&self) -> PathBuf {
        self.directory.join("lab.sock")
    }

    /// What the lab's own processes write to their standard output and error.
    pub fn log(&self) -> PathBuf {
        self.directory.join("lab.log")
    }

    /// A hosts file in which the nodes know each other by name.
    pub(crate) fn hosts(&self) -> PathBuf {
        self.directory.join("hosts")
    }
}

/// A process that can be found again: PIDs are used anew, but not with the same start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessIdentity {
    /// Its PID.
    pub pid: u32,
    /// When it started, in clock ticks since the machine did (`/proc/PID/stat`, field 22).
    pub start_time: u64,
}

impl ProcessIdentity {
    /// The process that has this PID now.
    pub(crate) fn of(pid: u32) -> io::Result<Self> {
        Ok(Self { pid, start_time: start_time(&pid.to_string())? })
    }

    /// The process of a handle, with the PID that those see who see this process's `/proc`, which may be of
    /// an outer PID namespace.
    pub(crate) fn of_handle(handle: &ProcessHandle) -> io::Result<Self> {
        use std::os::fd::{AsFd, AsRawFd};
        let information = fs::read_to_string(format!("/proc/self/fdinfo/{}", handle.as_fd().as_raw_fd()))?;
        let pid = information.lines().find_map(|line| line.strip_prefix("Pid:")?.trim().parse().ok());
        Self::of(pid.ok_or(io::ErrorKind::NotFound)?)
    }

    /// This process, likewise.
    pub(crate) fn of_self() -> io::Result<Self> {
        let link = fs::read_link("/proc/self")?;
        let pid = link.to_str().and_then(|text| text.parse().ok());
        Self::of(pid.ok_or(io::ErrorKind::NotFound)?)
    }

    /// Takes hold of it. `None` if it is gone.
    pub(crate) fn open(self) -> Option<ProcessHandle> {
        let handle = ProcessHandle::open(self.pid).ok()?;
        // Looked at after opening: from here on the handle and the PID mean the same process.
        (start_time(&self.pid.to_string()).ok()? == self.start_time).then_some(handle)
    }
}

/// Field 22 of `/proc/PID/stat`. The second field is the program's name in parentheses and may hold anything.
fn start_time(pid: &str) -> io::Result<u64> {
    let stat = fs::read(format!("/proc/{pid}/stat"))?;
    let stat = String::from_utf8_lossy(&stat);
    let field = stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(19));
    field.and_then(|field| field.parse().ok()).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_description_survives_being_written() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(Description::read(directory.path()).unwrap(), None);
        let mut description = Description::new("x", directory.path(), 2);
        description.supervisor = Some(ProcessIdentity::of_self().unwrap());
        description.write().unwrap();
        assert_eq!(Description::read(directory.path()).unwrap(), Some(description));
    }

    #[test]
    fn another_process_with_the_same_pid_is_not_it() {
        let own = ProcessIdentity::of(std::process::id()).unwrap();
        assert_eq!(own.open().unwrap().pid(), std::process::id());
        let earlier = ProcessIdentity { start_time: own.start_time - 1, ..own };
        assert!(earlier.open().is_none());
    }

    #[test]
    fn nodes_count_from_one() {
        let description = Description::new("x", Path::new("/x"), 2);
        assert_eq!(description.node(2).unwrap().socket(), Path::new("/x/node2/run/node.sock"));
        for number in [0, 3] {
            assert!(matches!(description.node(number), Err(LabError::NoSuchNode { .. })), "{number}");
        }
    }
}
