//! A lab in the hands of its user.

use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use minka_kernel::namespace::Namespaces;
use minka_kernel::spawn::{Launch, ProcessHandle};

use crate::channel::Channel;
use crate::description::{Description, ProcessIdentity};
use crate::directory::{Claim, default_directory};
use crate::error::LabError;
use crate::message::{NodeStatus, Plan, Reply, Request, Startup};
use crate::node::NODE_NAMESPACES;
use crate::options::{LabOptions, Lifetime, OWN_PROGRAM, text};
use crate::program::{Program, Running};
use crate::{INTERNAL_COMMAND, material, supervisor};

/// Longest path of a socket, in bytes (`sockaddr_un` less the final zero).
const SOCKET_PATH_LENGTH_MAX: usize = 107;
/// How long a supervisor may take to answer: longer than anything it does.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a supervisor may take to end its lab, before it is killed and after.
const END_TIMEOUT: Duration = Duration::from_secs(5);

/// A running lab.
#[derive(Debug)]
pub struct Lab {
    description: Description,
    supervisor: ProcessHandle,
    helper: PathBuf,
    /// The supervisor of an attached lab ends it when this end is closed.
    hold: Option<Channel>,
}

impl Lab {
    /// Where the lab of this name lies unless [`LabOptions::directory`] says otherwise: in `/run/minka/lab`
    /// for root, else in `$XDG_RUNTIME_DIR/minka/lab` or, without that, `/tmp/minka-UID/lab`.
    pub fn directory_for(name: &str) -> Result<PathBuf, LabError> {
        default_directory(name)
    }

    /// Makes a lab, and returns when all daemons answer.
    ///
    /// What a crashed lab has left in the directory is removed before. Fails with [`LabError::Running`] if
    /// there is a running one. After a failure nothing is left.
    pub fn up(options: &LabOptions) -> Result<Self, LabError> {
        options.check()?;
        let directory = match &options.directory {
            Some(directory) => std::path::absolute(directory)
                .map_err(LabError::file("find the directory", directory.as_path()))?,
            None => default_directory(&options.name)?,
        };
        text(directory.clone().into())?;
        let mut description = Description::new(&options.name, &directory, options.nodes);
        for node in &mut description.nodes {
            let limits = options.limits(node.number);
            (node.cpus, node.memory_mib) = (limits.cpus, limits.memory_mib);
        }
        check_socket_paths(&description)?;
        let node_command = options.node_command()?;
        let plan = Plan {
            description,
            node_command,
            lenient: options.lenient,
            balance: options.balance,
            attached: options.lifetime == Lifetime::Attached,
            start_timeout_ms: options.start_timeout.as_millis().try_into().unwrap_or(u64::MAX),
        };
        let claim = Claim::make(&directory)?;
        remove_remains(&claim, &directory)?;
        let started = plan
            .description
            .write()
            .and_then(|()| material::prepare(&plan.description))
            .and_then(|()| start_supervisor(&options.helper, &plan, &claim));
        match started {
            Ok((supervisor, hold, description)) => {
                Ok(Self { description, supervisor, helper: options.helper.clone(), hold })
            }
            Err(error) => {
                // The supervisor may have been quicker; what counts is why there is no lab.
                let _ = claim.remove();
                Err(error)
            }
        }
    }

    /// The running lab of this name in its usual place.
    pub fn open(name: &str) -> Result<Self, LabError> {
        Self::open_in(&default_directory(name)?)
    }

    /// The running lab in this directory.
    pub fn open_in(directory: &Path) -> Result<Self, LabError> {
        let not_running = || LabError::NotRunning(directory.to_owned());
        let description = Description::read(directory)?.ok_or_else(not_running)?;
        let supervisor = description.supervisor.and_then(ProcessIdentity::open);
        let supervisor = supervisor.filter(|process| !process.has_ended()).ok_or_else(not_running)?;
        if description.nodes.iter().any(|node| node.init.is_none()) {
            return Err(not_running());
        }
        Ok(Self { description, supervisor, helper: OWN_PROGRAM.into(), hold: None })
    }

    /// Descriptions of the labs in the usual place, running or left by a crash.
    pub fn list() -> Result<Vec<Description>, LabError> {
        let sample = default_directory("any")?;
        let base = sample.parent().unwrap_or(&sample);
        let entries = match fs::read_dir(base) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(LabError::file("list the labs in", base)(error)),
        };
        let mut labs: Vec<_> =
            entries.filter_map(|entry| Description::read(&entry.ok()?.path()).ok().flatten()).collect();
        labs.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(labs)
    }

    /// Uses another program than the running one as [`LabOptions::helper`].
    pub fn with_helper(mut self, helper: impl Into<PathBuf>) -> Self {
        self.helper = helper.into();
        self
    }

    /// What the lab is.
    pub fn description(&self) -> &Description {
        &self.description
    }

    /// How the nodes fare.
    pub fn status(&self) -> Result<Vec<NodeStatus>, LabError> {
        match self.request(Request::Status)? {
            Reply::Status(nodes) => Ok(nodes),
            _ => Err(LabError::Silence { operation: "ask how the lab fares" }),
        }
    }

    /// Kills a node: all its processes, at once. Its connections are closed by the kernel, as when processes
    /// die, so others notice at once; [`Lab::cut`] it before to let it vanish like a machine without power.
    pub fn kill_node(&self, node: u32) -> Result<(), LabError> {
        self.order(Request::Kill(node), node)
    }

    /// Pulls a node's network cable. Connections stay, but nothing comes through.
    pub fn cut(&self, node: u32) -> Result<(), LabError> {
        self.order(Request::Cut(node), node)
    }

    /// Breaks the wire of a node's network cable on which it hears. What it says comes through.
    pub fn deafen(&self, node: u32) -> Result<(), LabError> {
        self.order(Request::Deafen(node), node)
    }

    /// Puts a node's network cable back in, with all wires whole.
    pub fn heal(&self, node: u32) -> Result<(), LabError> {
        self.order(Request::Heal(node), node)
    }

    /// Starts a program in a node. Must not be called by a process whose child's status is taken by others.
    pub fn start(&self, node: u32, program: Program) -> Result<Running, LabError> {
        program.start(&self.helper, self.description.node(node)?)
    }

    /// Runs a program in a node and waits for its end. See [`crate::shell_code`] for what a shell makes of
    /// the status.
    pub fn exec(&self, node: u32, program: Program) -> Result<ExitStatus, LabError> {
        self.start(node, program)?.wait()
    }

    /// Ends the lab: all its processes, interfaces and files. Returns when they are gone.
    pub fn down(mut self) -> Result<(), LabError> {
        self.hold = None;
        self.end()
    }

    /// Ends whatever lab lies in this directory, also one that crashed. Says whether there was any.
    pub fn down_in(directory: &Path) -> Result<bool, LabError> {
        let Some(mut description) = Description::read(directory)? else { return Ok(false) };
        if let Some(supervisor) = description.supervisor.and_then(ProcessIdentity::open) {
            end_supervisor(&supervisor, directory)?;
        }
        let deadline = Instant::now() + END_TIMEOUT;
        loop {
            match Claim::take(directory) {
                Ok(Some(claim)) => {
                    description.remove_control_groups();
                    return claim.remove().map(|()| true);
                }
                Ok(None) => return Ok(true),
                // Somebody else removes it, or makes it just now.
                Err(LabError::Running(_)) if Instant::now() < deadline => {
                    std::thread::sleep(Duration::from_millis(5));
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn end(&self) -> Result<(), LabError> {
        end_supervisor(&self.supervisor, &self.description.directory)?;
        // It has removed the directory, unless it was killed.
        Self::down_in(&self.description.directory).map(drop)
    }

    fn order(&self, request: Request, node: u32) -> Result<(), LabError> {
        // Checked here too, so that the error says how many there are.
        self.description.node(node)?;
        match self.request(request)? {
            Reply::Done => Ok(()),
            Reply::NodeDead => Err(LabError::NodeDead(node)),
            Reply::Failed(text) => Err(LabError::Reported(text)),
            Reply::Status(_) | Reply::NoSuchNode => Err(LabError::Silence { operation: "change a node" }),
        }
    }

    fn request(&self, request: Request) -> Result<Reply, LabError> {
        let operation = "ask the lab's supervisor";
        let socket = self.description.control_socket();
        let stream = UnixStream::connect(&socket).map_err(LabError::file("connect to", socket))?;
        let channel = Channel::from(stream).with_patience(REQUEST_TIMEOUT);
        let channel = channel.map_err(LabError::system(operation))?;
        channel.send(&request).map_err(LabError::system(operation))?;
        channel.receive().map_err(LabError::system(operation))?.ok_or(LabError::Silence { operation })
    }
}

impl Drop for Lab {
    /// Ends an attached lab, and waits until it has ended.
    fn drop(&mut self) {
        if self.hold.take().is_some() {
            let _ = self.end();
        }
    }
}

/// Starts the supervisor and waits for its verdict.
fn start_supervisor(
    helper: &Path,
    plan: &Plan,
    claim: &Claim,
) -> Result<(ProcessHandle, Option<Channel>, Description), LabError> {
    let operation = "start the lab's supervisor";
    let (channel, theirs) = Channel::pair().map_err(LabError::system(operation))?;
    let lock: OwnedFd = claim.lock().map_err(LabError::system(operation))?.into();
    let supervisor = launch(helper, &plan.description, theirs, lock)?;
    let sent = channel.send(plan).map_err(LabError::system(operation));
    let verdict = sent.and_then(|()| channel.receive().map_err(LabError::system(operation)));
    match verdict {
        Ok(Some(Startup::Up(description))) => {
            let hold = plan.attached.then_some(channel);
            Ok((supervisor, hold, description))
        }
        failed => {
            let error = match failed {
                Ok(Some(Startup::Failed(text))) => LabError::Reported(text),
                Err(error) => error,
                _ => {
                    let words = fs::read_to_string(plan.description.log()).unwrap_or_default();
                    LabError::Reported(format!(
                        "{operation}: it ended without a word; its log: {}",
                        words.trim()
                    ))
                }
            };
            drop(channel);
            end_supervisor(&supervisor, &plan.description.directory)?;
            Err(error)
        }
    }
}

/// Starts the supervisor's process, in a user namespace if there is no other way.
fn launch(
    helper: &Path,
    description: &Description,
    channel: Channel,
    lock: OwnedFd,
) -> Result<ProcessHandle, LabError> {
    let log_path = description.log();
    let log = File::options().create(true).append(true).open(&log_path);
    let log: OwnedFd = log.map_err(LabError::file("open", log_path))?.into();
    let duplicate = log.try_clone().map_err(LabError::system("duplicate a descriptor"))?;
    let null = File::open("/dev/null").map_err(LabError::file("open", "/dev/null"))?;
    let launch = Launch::new(helper, ["minka", INTERNAL_COMMAND, supervisor::ROLE])
        .namespaces(NODE_NAMESPACES)
        .standard(null.into(), log, duplicate)
        .keep(channel.into())
        .keep(lock)
        .new_session();
    match launch.start() {
        Err(error) if error.is_permission_denied() => {
            launch.namespaces(NODE_NAMESPACES | Namespaces::USER).start().map_err(LabError::Forbidden)
        }
        result => Ok(result?),
    }
}

/// Ends a supervisor, and with it all processes of its lab.
fn end_supervisor(supervisor: &ProcessHandle, directory: &Path) -> Result<(), LabError> {
    for signal in [libc::SIGTERM, libc::SIGKILL] {
        // Fails only for a process that is gone already.
        let _ = supervisor.signal(signal);
        let ended = supervisor.wait_for_end(Some(END_TIMEOUT));
        if ended.map_err(LabError::system("wait for the lab's supervisor"))? {
            // If it is another's child, that one takes its status.
            let _ = supervisor.reap();
            return Ok(());
        }
    }
    Err(LabError::Lingering(directory.to_owned()))
}

/// Removes what a crashed lab has left in a directory that is claimed now.
fn remove_remains(claim: &Claim, directory: &Path) -> Result<(), LabError> {
    if let Some(mut description) = Description::read(directory).ok().flatten() {
        if let Some(supervisor) = description.supervisor.and_then(ProcessIdentity::open) {
            // It no longer holds the lock, so it is about to go.
            end_supervisor(&supervisor, directory)?;
        }
        description.remove_control_groups();
    }
    claim.clear()
}

fn check_socket_paths(description: &Description) -> Result<(), LabError> {
    let longest = description
        .nodes
        .iter()
        .map(crate::NodeDescription::socket)
        .max_by_key(|path| path.as_os_str().len());
    match longest {
        Some(path) if path.as_os_str().as_bytes().len() > SOCKET_PATH_LENGTH_MAX => Err(LabError::Path {
            path,
            why: "it is too long for a socket; choose another directory for the lab",
        }),
        _ => Ok(()),
    }
}
