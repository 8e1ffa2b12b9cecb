//! Asks the node daemon, on behalf of whoever reads and writes in the tree.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::Duration;

use minka_node::client::Client;
use minka_node::processes::{ProcFs, Processes};
use minka_node::protocol::{Node, Process, Status, Steering};

use crate::content::Facts;
use crate::order::{Destination, Order, forgetting, meant};
use crate::why::Why;

/// How long the daemon may take for what does not move anybody. Whoever waits for a file cannot be killed meanwhile.
const ANSWER: Duration = Duration::from_secs(2);

/// How long whoever writes into `goto` waits for the move. It goes on by itself afterwards.
const MOVE: Duration = Duration::from_secs(1);

/// How long it may go on, and how many do so at a time.
const MOVE_AT_MOST: Duration = Duration::from_secs(90);
const MOVES_MAX: usize = 16;

/// The daemon, for everybody.
#[derive(Debug, Clone)]
pub(crate) struct Daemon {
    run_dir: Arc<Path>,
    /// Moves that go on.
    moves: Arc<AtomicUsize>,
}

impl Daemon {
    pub(crate) fn new(run_dir: &Path) -> Self {
        Daemon { run_dir: run_dir.into(), moves: Arc::default() }
    }

    pub(crate) fn asked_by(&self, uid: u32) -> Asker {
        Asker { daemon: self.clone(), uid }
    }
}

/// The daemon, asked by one user.
#[derive(Debug, Clone)]
pub(crate) struct Asker {
    daemon: Daemon,
    uid: u32,
}

impl Asker {
    fn client(&self, limit: Duration) -> Result<Client, Why> {
        Ok(Client::connect(&self.daemon.run_dir)?.within(limit).on_behalf_of(self.uid))
    }

    /// Does what was written; `writer` is the process that wrote it.
    pub(crate) fn carry_out(&self, order: Order, writer: Option<i32>) -> Result<(), Why> {
        match order {
            Order::Steer(what) => Ok(self.client(ANSWER)?.steer(what)?),
            Order::Advise(pid, advice) => Ok(self.client(ANSWER)?.advise(pid, advice)?),
            Order::Forget(which, value) => {
                let before = self.status()?.decay.ok_or(Why::Unknown)?;
                let decay = forgetting(before, which, value);
                Ok(self.client(ANSWER)?.steer(Steering::Decay(decay))?)
            }
            Order::Move(pid, destination) => {
                let to = match destination {
                    Destination::Home => "home".to_owned(),
                    Destination::Best => "best".to_owned(),
                    Destination::Node(word) => meant(&self.nodes()?, &word)?.to_owned(),
                };
                // Who moves itself cannot wait for it: it is not moved in the middle of a write.
                let wait = if writer == Some(pid) { Duration::ZERO } else { MOVE };
                self.begin_move(pid, to, wait)
            }
        }
    }

    /// Orders a process to move, and waits a while for what comes of it.
    fn begin_move(&self, pid: i32, to: String, wait: Duration) -> Result<(), Why> {
        // What can be said at once is said, also to those who do not wait.
        let leaves = to != "home";
        if leaves && self.process(pid)?.at == to {
            return Ok(());
        }
        let reasons = self.client(ANSWER)?.reasons(pid)?;
        let is_home = self.process(pid).is_ok_and(|process| process.at == process.home);
        if leaves && is_home && !reasons.is_empty() {
            return Err(Why::CannotMove);
        }
        let moves = Arc::clone(&self.daemon.moves);
        if moves.fetch_add(1, Ordering::Relaxed) >= MOVES_MAX {
            moves.fetch_sub(1, Ordering::Relaxed);
            return Err(Why::Full);
        }
        let (sender, receiver) = sync_channel(1);
        let asker = self.clone();
        std::thread::spawn(move || {
            let moved =
                asker.client(MOVE_AT_MOST).and_then(|mut client| Ok(client.migrate(pid, &to, false)?));
            moves.fetch_sub(1, Ordering::Relaxed);
            // Fails only when nobody waits any more.
            let _ = sender.try_send(moved.map(drop));
        });
        match receiver.recv_timeout(wait) {
            Ok(moved) => moved,
            Err(RecvTimeoutError::Timeout) => Ok(()),
            Err(RecvTimeoutError::Disconnected) => Err(Why::NotMoved),
        }
    }

    /// Whether a node or a guest of that number is there.
    pub(crate) fn is_node(&self, number: u16) -> Result<bool, Why> {
        Ok(self.nodes()?.iter().any(|node| node.number == Some(number)))
    }

    /// The guests that are here.
    pub(crate) fn guests(&self) -> Result<Vec<i32>, Why> {
        let known = self.client(ANSWER)?.ps(false)?;
        let guests = known.iter().filter(|process| process.state == minka_node::protocol::State::Guest);
        Ok(guests.map(|guest| guest.pid).collect())
    }

    /// The user of a process; none if there is no such process.
    pub(crate) fn owner(pid: i32) -> Option<u32> {
        ProcFs.look(pid).map(|process| process.uid)
    }

    /// All processes.
    pub(crate) fn processes() -> Vec<i32> {
        let mut pids = ProcFs.list();
        pids.sort_unstable();
        pids
    }
}

impl Facts for Asker {
    fn status(&self) -> Result<Status, Why> {
        Ok(self.client(ANSWER)?.status()?)
    }

    fn nodes(&self) -> Result<Vec<Node>, Why> {
        Ok(self.client(ANSWER)?.nodes()?)
    }

    fn process(&self, pid: i32) -> Result<Process, Why> {
        Ok(self.client(ANSWER)?.process(pid)?)
    }

    fn reasons(&self, pid: i32) -> Result<Vec<String>, Why> {
        Ok(self.client(ANSWER)?.reasons(pid)?)
    }

    fn proc_file(&self, pid: i32, name: &str) -> Result<String, Why> {
        std::fs::read_to_string(format!("/proc/{pid}/{name}")).map_err(|_| Why::Gone)
    }
}
