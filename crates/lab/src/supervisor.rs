//! The process that holds a lab together.
//!
//! ```text
//!            plan                 all daemons answer               SIGTERM, SIGINT, SIGHUP,
//! started ─────────► booting ────────────────────────► running ──────────────────────────────► ending
//!                       │                                 │       caller gone (attached)         ▲
//!                       │ a node fails, time is over,     └── requests on lab.sock               │
//!                       └─ caller gone ──────────────────────────────────────────────────────────┘
//! ```
//!
//! It is PID 1 of the lab's PID namespace, so that nothing of the lab can outlive it, and it lives in the
//! hub's network namespace. It keeps the `/proc` of its maker: so it can tell which PIDs its children have
//! out there. One thread, one loop; whatever it waits for is bounded.

use std::ffi::OsString;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::time::{Duration, Instant};

use minka_kernel::namespace;
use minka_kernel::spawn::{SignalQueue, adopt_descriptor, set_program_name, wait_readable};

use crate::channel::Channel;
use crate::description::ProcessIdentity;
use crate::directory::Claim;
use crate::error::{LabError, chain};
use crate::material;
use crate::message::{NodeStatus, Plan, Reply, Request, Startup};
use crate::network::Hub;
use crate::node::{KILL_TIMEOUT, Node};

/// The argument that makes a program a supervisor; descriptors follow: the caller's channel, the directory's
/// lock.
pub(crate) const ROLE: &str = "supervise";

/// Where nodes mount the tree of openMosix's files, if they can. They are killed, so that they cannot remove it.
pub(crate) const TREE: &str = "/hpc";
/// What is said to be mounted there.
pub(crate) const TREE_SOURCE: &str = "minka";
/// How often daemons that do not answer yet are asked again.
const ASK_INTERVAL: Duration = Duration::from_millis(1);
/// How long somebody who connects may take to say what they want.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(1);

/// Runs the supervisor until the lab ends.
pub(crate) fn main(mut arguments: impl Iterator<Item = OsString>) -> Result<(), LabError> {
    set_program_name(c"minka-lab");
    let mut inherited = || {
        let number = arguments.next().unwrap_or_default();
        adopt_descriptor(&number).map_err(LabError::system("take over a descriptor"))
    };
    let (caller, lock): (OwnedFd, OwnedFd) = (inherited()?, inherited()?);
    let caller = Channel::from(caller);
    let signals = SignalQueue::new(&[libc::SIGTERM, libc::SIGINT, libc::SIGHUP])
        .map_err(LabError::system("queue signals"))?;
    let plan: Plan = caller
        .receive()
        .map_err(LabError::system("understand the lab's plan"))?
        .ok_or(LabError::Silence { operation: "read the lab's plan" })?;
    let claim = Claim::inherited(&plan.description.directory, File::from(lock));
    let mut lab = Supervisor { plan, signals, nodes: Vec::new(), caller: Some(caller) };
    let result = lab.run();
    if let (Err(error), Some(caller)) = (&result, &lab.caller) {
        // If it is gone too, the log has it.
        let _ = caller.send(&Startup::Failed(chain(error)));
    }
    lab.end();
    let removed = claim.remove();
    result.and(removed)
}

#[derive(Debug)]
struct Supervisor {
    plan: Plan,
    signals: SignalQueue,
    nodes: Vec<Node>,
    /// While it waits for the lab, and after that if the lab is to end with it.
    caller: Option<Channel>,
}

/// Why the loop is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    GoOn,
    End,
}

impl Supervisor {
    /// From the plan to the end, except for cleaning up.
    fn run(&mut self) -> Result<(), LabError> {
        // Whatever directory it was started in should not be kept busy.
        std::env::set_current_dir("/").map_err(LabError::file("enter", "/"))?;
        let own = ProcessIdentity::of_self().map_err(LabError::system("find the own PID"))?;
        self.plan.description.supervisor = Some(own);
        let limited = self.plan.description.limit();
        // Also what was made before it failed, so that it is removed.
        self.plan.description.write()?;
        match limited {
            Err(_) if self.plan.lenient => self.plan.description.remove_control_groups(),
            limited => limited?,
        }
        material::configure(&self.plan.description, self.plan.balance)?;
        // The first thing that takes privilege.
        namespace::keep_mounts_inside().map_err(LabError::Restricted)?;
        self.show_hosts()?;
        let mut hub = Hub::create()?;
        for description in &mut self.plan.description.nodes {
            let node = Node::start(description, &self.plan.node_command, &mut hub)?;
            description.init = Some(node.identity()?);
            self.nodes.push(node);
        }
        let socket = self.plan.description.control_socket();
        let listener = UnixListener::bind(&socket).map_err(LabError::file("listen on", socket))?;
        if self.wait_for_daemons(&mut hub)? == Turn::End {
            return Ok(());
        }
        self.plan.description.write()?;
        let up = Startup::Up(self.plan.description.clone());
        if let Some(caller) = &self.caller {
            caller.send(&up).map_err(LabError::system("report that the lab is up"))?;
        }
        let attached = self.plan.attached;
        self.caller.take_if(|_| !attached);
        while self.turn(Some((&listener, &mut hub)), None)? == Turn::GoOn {}
        Ok(())
    }

    /// Lets the nodes know each other by name, where there is a hosts file to put theirs over.
    fn show_hosts(&self) -> Result<(), LabError> {
        let target = Path::new("/etc/hosts");
        if !target.exists() {
            return Ok(());
        }
        let mounted = namespace::bind_file(&self.plan.description.hosts(), target);
        mounted.map_err(LabError::file("show the nodes' names in", target))
    }

    fn wait_for_daemons(&mut self, hub: &mut Hub) -> Result<Turn, LabError> {
        let deadline = Instant::now() + Duration::from_millis(self.plan.start_timeout_ms);
        let mut begun = false;
        loop {
            if self.turn(None, Some(ASK_INTERVAL))? == Turn::End {
                return Ok(Turn::End);
            }
            for node in &self.nodes {
                node.check_hope()?;
            }
            if !begun && self.nodes.iter().all(|node| node.has_joined(hub)) {
                self.nodes.iter().for_each(Node::begin);
                begun = true;
            }
            let Some(silent) =
                self.nodes.iter_mut().find_map(|node| (!node.is_answering()).then_some(&*node))
            else {
                return Ok(Turn::GoOn);
            };
            if Instant::now() > deadline {
                return Err(silent.last_words("its daemon does not answer"));
            }
        }
    }

    /// Waits for something to happen and deals with it.
    fn turn(
        &mut self,
        service: Option<(&UnixListener, &mut Hub)>,
        timeout: Option<Duration>,
    ) -> Result<Turn, LabError> {
        let null = [self.signals.as_fd()];
        let caller = self.caller.as_ref().map(AsFd::as_fd);
        let listener = service.as_ref().map(|(listener, _)| listener.as_fd());
        let of_nodes = self.nodes.iter().flat_map(Node::descriptors);
        let all: Vec<BorrowedFd<'_>> =
            null.into_iter().chain(caller).chain(listener).chain(of_nodes).collect();
        let ready = wait_readable(&all, timeout).map_err(LabError::system("wait for events"))?;
        let mut ready = ready.into_iter();
        let mut is_ready = |present: bool| present && ready.next().unwrap_or(false);
        let signalled = is_ready(true);
        // It never says anything after the plan: what can be read is its end.
        let caller_gone = is_ready(caller.is_some());
        let asked = is_ready(listener.is_some());
        if signalled && self.signals.next_arrived().is_some() || caller_gone {
            return Ok(Turn::End);
        }
        for node in &mut self.nodes {
            node.attend()?;
        }
        if let Some((listener, hub)) = service
            && asked
        {
            // Whoever asks and does not listen has only themselves to blame.
            let _ = self.serve(listener, hub);
        }
        Ok(Turn::GoOn)
    }

    /// Answers one request.
    fn serve(&mut self, listener: &UnixListener, hub: &mut Hub) -> std::io::Result<()> {
        let (stream, _) = listener.accept()?;
        let client = Channel::from(stream).with_patience(REQUEST_TIMEOUT)?;
        let Some(request) = client.receive()? else { return Ok(()) };
        let reply = match request {
            Request::Status => Reply::Status(self.status(hub)),
            Request::Kill(number) => self.with_node(number, |node| {
                node.kill();
                let gone = node.wait_for_end(Instant::now() + KILL_TIMEOUT);
                if gone { Ok(()) } else { Err(LabError::NodeLingering(number)) }
            }),
            Request::Cut(number) => self.with_node(number, |_| Ok(hub.set_plugged(number, false)?)),
            Request::Deafen(number) => self.with_node(number, |_| Ok(hub.set_hearing(number, false)?)),
            Request::Heal(number) => self.with_node(number, |_| {
                hub.set_hearing(number, true)?;
                Ok(hub.set_plugged(number, true)?)
            }),
        };
        client.send(&reply)
    }

    fn with_node(&mut self, number: u32, action: impl FnOnce(&mut Node) -> Result<(), LabError>) -> Reply {
        let index = number.checked_sub(1).map(|index| index as usize);
        match index.and_then(|index| self.nodes.get_mut(index)) {
            None => Reply::NoSuchNode,
            Some(node) if !node.is_alive() => Reply::NodeDead,
            Some(node) => action(node).map_or_else(|error| Reply::Failed(chain(&error)), |()| Reply::Done),
        }
    }

    fn status(&self, hub: &mut Hub) -> Vec<NodeStatus> {
        let status = |(node, description): (&Node, &crate::NodeDescription)| NodeStatus {
            number: description.number,
            name: description.name.clone(),
            address: description.address,
            alive: node.is_alive(),
            connected: node.is_alive() && hub.is_plugged(description.number),
            daemon: node.daemon(),
        };
        self.nodes.iter().zip(&self.plan.description.nodes).map(status).collect()
    }

    /// Kills all nodes. What does not go now goes with this process.
    fn end(&mut self) {
        for node in &self.nodes {
            node.kill();
        }
        let deadline = Instant::now() + KILL_TIMEOUT;
        for node in &mut self.nodes {
            node.wait_for_end(deadline);
        }
        self.plan.description.remove_control_groups();
        minka_kernel::mountpoint::remove_unused(Path::new(TREE));
    }
}
