//! The host side of a migrated process.
//!
//! A host program keeps one guest on this node: it builds it from the image that the home sends, forwards its calls,
//! serves its missing pages, delivers its signals, and sends it home again.
//!
//! | module | what |
//! |---|---|
//! | `arrive` | from the first connection to a running guest |
//! | `joining` | the lanes that follow the first |
//! | `fitness` | whether this machine can be a host at all |
//! | `prepare`, `build` | before and during the freeze |
//! | `common` | files that are the same here as at home |
//! | `queued` | signals that are pending in the guest |
//! | `tracer` | the main thread: traces the guest |
//! | `calls`, `own`, `procself`, `mapping`, `threads` | forwarded calls, and those with code of their own |
//! | `foretold` | calls that the home has answered already |
//! | `pages` | faults, and the stream behind them |
//! | `leave` | the way home |
//! | `orders` | the socket to the node daemon |

/// What the kernel shows as the command name of a host program.
pub const NAME: &std::ffi::CStr = c"minka-host";

mod arrive;
mod behind;
mod build;
mod calls;
mod common;
mod early;
mod ending;
mod extended;
mod fault;
pub mod fitness;
mod foretold;
mod granted;
mod guest;
mod joining;
mod leave;
mod mapping;
mod orders;
mod own;
mod pages;
mod prepare;
mod procself;
mod queued;
mod threads;
mod tracer;
mod whole;

use minka_kernel::spawn::{set_program_name, wait_readable};
use minka_kernel::{crew, faultpoint};
use minka_link::NodeFiles;
use minka_wire::local::{HostOrder, HostReport, NAME_IN_WAITING};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::ExitCode;

/// Signals that this program takes through a descriptor: a tracee has news.
const WATCHED: [i32; 1] = [17 /* CHLD */];

/// Threads that serve a guest with one thread.
const THREADS: usize = 5;

/// Finds out what stays the same as long as the machine runs, for the programs into which this one forks.
pub fn learn_of_machine() {
    // Whoever needs what is not to be found finds out again, and says why.
    let _ = (minka_kernel::cpu::features(), minka_kernel::cpu::layout(), prepare::own_vdso());
}

/// The host program: takes its orders from the node daemon, at descriptor 3. Whether it lives in a network namespace in
/// which there is nothing, so that its guest needs none of its own, is for whoever starts it to say.
pub fn main(in_empty_network: bool) -> ExitCode {
    let Some(daemon) = orders::Daemon::inherited() else {
        tracing::error!("a host program is started by the node daemon, not by hand");
        return ExitCode::FAILURE;
    };
    let Some((HostOrder::Start { config }, _)) = daemon.order() else { return ExitCode::FAILURE };
    let outcome = serve(&config, &daemon, in_empty_network);
    let reason = match outcome {
        Ok(tracer::Outcome::Done) => None,
        Ok(tracer::Outcome::Lost(reason)) => Some(reason),
        Err(reason) => Some(reason),
    };
    daemon.report(&HostReport::Ended { reason: reason.clone() });
    if reason.is_none() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn serve(config: &str, daemon: &orders::Daemon, in_empty_network: bool) -> Result<tracer::Outcome, String> {
    let text = |error: &dyn std::error::Error| fault::chain(error);
    let files = NodeFiles::read(Path::new(config)).map_err(|error| text(&error))?;
    crew::keep_ready(THREADS, &WATCHED);
    set_program_name(NAME_IN_WAITING);
    // If that fails the real one says why.
    let _ = minka_link::rehearse(&files.credentials.get());
    // That may take long, and the node's files may be others by then.
    wait_readable(&[daemon.as_fd()], None).map_err(|error| text(&error))?;
    set_program_name(NAME);
    let files = files.refreshed().map_err(|error| text(&error))?;
    let (config, credentials) = (&files.config, files.credentials.get());
    if config.old_kernel {
        minka_kernel::pagemap::never_scan();
    }
    faultpoint::arm(&config.faults).map_err(|error| text(&error))?;
    let news = minka_kernel::spawn::SignalQueue::new(&WATCHED).map_err(|error| text(&error))?;
    let arrival = arrive::Arrival { daemon, config, credentials: &credentials, in_empty_network };
    match arrival.take_in().map_err(|error| text(&error))? {
        Some(tracer) => Ok(tracer.serve(&news, daemon)),
        None => Ok(tracer::Outcome::Done),
    }
}
