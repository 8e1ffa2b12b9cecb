//! The home side of a migrated process.
//!
//! A deputy program takes care of one process of this node while that is away: it stops it, sends its image to a
//! host, performs its calls through an agent inside it, serves its pages, carries its signals, and puts it back.
//!
//! | module | what |
//! |---|---|
//! | `deputy` | the main thread: traces the original process, decides |
//! | `away` | a process that is away, step by step |
//! | `behind` | mappings that reach behind the end of their file |
//! | `eligible` | whether a process can move, and if not, why |
//! | `park`, `parked`, `tracee` | stopping a process, the agent, and the way back |
//! | `agents` | the agents of a process's threads, as everybody reaches them |
//! | `kept` | what of its address space a host has no say over |
//! | `lent` | what of its memory a call under way works on |
//! | `record`, `rescue` | putting right a process whose deputy was killed |
//! | `load` | a program that begins, until it is loaded |
//! | `offer` | what a host is told before and after the stop |
//! | `sole`, `reach` | shared memory that is this process's alone, and calls that would reach it at home |
//! | `shorten` | calls that cut off a file that the process maps |
//! | `signals`, `stopping` | what becomes of signals that arrive at home, and of a SIGSTOP on the way there |
//! | `ends` | the end of one that moves with others, whenever it comes |
//! | `kin` | the family of a process that moves with others |
//! | `session`, `lanes` | the channels to one host and the threads behind them |
//! | `serve`, `early`, `resumable`, `ahead` | performing the guest's calls, and such as are going to follow |
//! | `pages`, `first`, `little` | the guest's memory: what it misses, what comes first, the stream |
//! | `part`, `rest` | calls that have sent a part of their data, and how they are finished at home |
//! | `timed` | what is left of a time-out when a call is made again |
//! | `procself` | `/proc/self` files that show the guest |
//! | `giveback` | memory at home that is not needed while all of it is at the host |
//! | `homecoming` | the way back |
//! | `orders` | the socket to the node daemon |

/// What the kernel shows as the command name of a deputy program.
pub const NAME: &std::ffi::CStr = c"minka-deputy";

mod agents;
mod ahead;
mod away;
mod behind;
mod deputy;
mod early;
pub mod eligible;
mod ends;
mod fault;
mod first;
mod giveback;
mod homecoming;
mod kept;
mod kin;
mod lanes;
mod lent;
mod little;
mod load;
mod offer;
mod orders;
mod pages;
mod park;
mod parked;
mod part;
mod procself;
mod reach;
mod readahead;
mod record;
mod rescue;
mod rest;
mod resumable;
mod serve;
mod session;
mod shorten;
mod signals;
mod sole;
mod stopping;
mod surroundings;
mod timed;
mod tracee;
mod writebehind;

use minka_kernel::crew;
use minka_kernel::faultpoint::{self, Point};
use minka_kernel::spawn::set_program_name;
use minka_link::{NodeConfig, NodeFiles};
use minka_wire::local::{DeputyOrder, DeputyReport, Family, NAME_IN_WAITING};
use std::path::Path;
use std::process::ExitCode;

/// Threads that serve a process that leaves at its `execve`: two on the way there, five while it is away.
const THREADS: usize = 7;

/// The deputy program: takes its orders from the node daemon, at descriptor 3.
pub fn main() -> ExitCode {
    let Some(daemon) = orders::Daemon::inherited() else {
        tracing::error!("a deputy is started by the node daemon, not by hand");
        return ExitCode::FAILURE;
    };
    let (order, files) = match daemon.order() {
        // If they are of no use, they are read again, and that says why.
        Some(DeputyOrder::Ready { config }) => {
            crew::keep_ready(THREADS, &deputy::WATCHED);
            set_program_name(NAME_IN_WAITING);
            let files = NodeFiles::read(Path::new(&config)).ok();
            let credentials = files.as_ref().map(|files| files.credentials.get());
            let _ = credentials.map(|credentials| minka_link::rehearse(&credentials));
            let order = daemon.order();
            set_program_name(NAME);
            (order, files)
        }
        order => (order, None),
    };
    let (pid, config, rescue) = match order {
        Some(DeputyOrder::Start { pid, config }) => (pid, config, None),
        Some(DeputyOrder::Rescue { pid, config, family }) => (pid, config, Some(family)),
        _ => return ExitCode::FAILURE,
    };
    let started = match rescue {
        Some(family) => put_right(pid, &config, family, &daemon),
        None => start(pid, &config, files, &daemon),
    };
    match started {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            daemon.report(&DeputyReport::Refused { reason, shares: false });
            daemon.report(&DeputyReport::Ended { reason: None, calls: 0 });
            ExitCode::FAILURE
        }
    }
}

/// Begins for a process.
fn begin(pid: i32, config: &NodeConfig) -> Result<(), String> {
    if config.old_kernel {
        minka_kernel::pagemap::never_scan();
    }
    faultpoint::concerns(pid);
    faultpoint::arm(&config.faults).map_err(|error| fault::chain(&error))
}

/// Puts right what a deputy has left behind that was killed, of which family it was if it was of one.
fn put_right(pid: i32, config: &str, family: Option<Family>, daemon: &orders::Daemon) -> Result<(), String> {
    let config = NodeConfig::read(Path::new(config)).map_err(|error| fault::chain(&error))?;
    begin(pid, &config)?;
    faultpoint::reach(Point::RescueStarted);
    let reason = rescue::rescue(pid, &config.run_dir, family);
    daemon.report(&DeputyReport::Ended { reason, calls: 0 });
    Ok(())
}

/// Serves a process. The node's files may have been read before.
fn start(pid: i32, config: &str, files: Option<NodeFiles>, daemon: &orders::Daemon) -> Result<(), String> {
    let path = Path::new(config);
    let files = files.filter(|files| files.path() == path);
    let files = files.map_or_else(|| NodeFiles::read(path), NodeFiles::refreshed);
    let NodeFiles { config, credentials, .. } = files.map_err(|error| fault::chain(&error))?;
    begin(pid, &config)?;
    faultpoint::reach(Point::DeputyStarted);
    deputy::Deputy::new(pid, config, credentials, daemon.clone())
        .map_err(|error| fault::chain(&error))?
        .run();
    Ok(())
}
