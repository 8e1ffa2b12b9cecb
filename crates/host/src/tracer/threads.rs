//! Threads that come while the guest is here, and the lanes for their calls.

use super::{Making, Member, Task, Tracer};
use crate::fault::{Fault, Result, chain};
use crate::guest::{GuestThread, Made, lock};
use minka_kernel::procfs::Status;
use minka_kernel::ptrace::{Running, Stopped, Waited};
use minka_wire::frame::Header;
use minka_wire::message::kind;
use minka_wire::preamble::Lane;
use std::net::TcpStream;
use std::sync::Arc;

impl Tracer {
    /// Takes in another lane for calls. Whoever opens it has to prove that it is the home, which may take its time.
    pub(super) fn join(&mut self, preamble: Vec<u8>, stream: TcpStream) {
        let joining = Arc::clone(&self.joining);
        let Some(knock) = joining.knock() else { return };
        crate::arrive::run(&self.guest, "calls", move |guest| {
            let taken = knock.accept(preamble, stream).and_then(|(lane, mut channel)| {
                if lane != Lane::Calls || !joining.has_room() {
                    return Err(Fault::Said(format!("a lane for {lane:?} was not expected")));
                }
                channel.send(Header::new(kind::TAKEN, 0), &[])?;
                Ok(channel)
            });
            match taken {
                Ok(channel) => crate::calls::serve(guest, channel),
                Err(error) => {
                    tracing::warn!(error = %chain(&error), "refused a lane");
                    Ok(())
                }
            }
        });
    }

    /// Lets a thread make another one, which gets the number that it has at home.
    pub(super) fn make(&mut self, call: u64, making: Making) -> Result<()> {
        self.shell
            .number_next_thread(making.thread.home_tid)
            .map_err(|error| Fault::Io("number a thread of the guest", error))?;
        self.making = Some(making);
        let listener = self.guest.listener.get();
        let listener = listener.ok_or_else(|| Fault::Said("the guest has no filter".to_owned()))?;
        // A caller that is gone has been killed.
        listener.pass(call).map(drop).map_err(|error| Fault::Io("answer a call", error))
    }

    /// A thread has made another one: it is there, in its first stop.
    pub(super) fn made(&mut self, maker: Stopped) -> Result<Running> {
        let io = |error| Fault::Io("trace a new thread of the guest", error);
        if let Waited::Stopped(task, _) = maker.made_thread().and_then(Running::wait).map_err(io)? {
            let tid = task.tid();
            let number = Status::read(tid).map_err(io)?.namespace_pids.last().copied();
            let Some(Making { thread, made, .. }) = self.making.take() else {
                return Err(Fault::Said("the guest made a thread that its home does not know".to_owned()));
            };
            if number != Some(thread.home_tid) {
                return Err(Fault::Said(format!("a thread got the id {number:?}, not {}", thread.home_tid)));
            }
            lock(&self.guest.threads).insert(tid, Arc::new(GuestThread { tid, ..*thread }));
            let task =
                if self.recalled { Task::Stopped(task) } else { Task::Running(task.resume(0).map_err(io)?) };
            self.members.insert(tid, Member { task: Some(task), job: None, held: false });
            // The worker waits for this; if it has gone, so has the guest.
            let _ = made.send(Made::Here);
        }
        maker.resume(0).map_err(io)
    }

    /// A thread has stopped otherwise than for having made another one, so if it was about to, it has not.
    pub(super) fn not_made(&mut self, tid: i32) {
        let Some(Making { thread, made, .. }) = self.making.take_if(|making| making.maker == tid) else {
            return;
        };
        let outcome = if self.recalled {
            self.unmade.push(thread.home_tid);
            Made::Leaving
        } else {
            Made::Unmade
        };
        // The worker waits for this; if it has gone, so has the guest.
        let _ = made.send(outcome);
    }
}
