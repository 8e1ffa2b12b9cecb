//! The guest's calls: received as notifications, carried home, answered.
//!
//! ```text
//!  guest ──notification──► worker ──gather──► Call ──► home
//!  guest ◄────answer────── worker ◄─scatter── Result ◄─┘
//! ```

use crate::fault::{Fault, Result};
use crate::guest::{Buffers, Guest, Request, lock};
use crate::own;
use minka_image::process::Unfinished;
use minka_image::restart::RESTART_SYSCALL;
use minka_kernel::ring::DATA_PER_SLOT;
use minka_kernel::seccomp::{ARCH_X86_64, Listener, Notification, Received};
use minka_link::Channel;
use minka_syscalls::marshal::{self, Refusal};
use minka_syscalls::{Place, Spec};
use minka_wire::frame::Header;
use minka_wire::message::{self, MessageError, RESTART, Special, kind};
use std::io::IoSlice;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// How long to poll for a result before sleeping.
const SPIN: Duration = Duration::from_micros(50);
/// Set in the number of calls made through the x32 interface.
const X32_BIT: u64 = 0x4000_0000;

/// What a call comes to.
pub(crate) enum Answer {
    /// Its result.
    Result(i64),
    /// Let it run natively in the guest.
    Native,
    /// Only home can do it.
    Homeward(String),
}

/// A worker: one connection, reused buffers.
pub(crate) struct Worker<'a> {
    pub(crate) guest: &'a Guest,
    listener: &'a Listener,
    channel: Channel,
    request: Vec<u8>,
    reply: Vec<u8>,
}

/// Serves calls until the guest has ended or the channel is closed.
pub(crate) fn serve(guest: &Guest, listener: &Listener, channel: Channel) -> Result<()> {
    let mut worker = Worker { guest, listener, channel, request: Vec::new(), reply: Vec::new() };
    loop {
        match listener.receive().map_err(|error| Fault::Io("receive a call", error))? {
            Received::Call(call) => worker.serve(&call)?,
            Received::Nothing => {}
            Received::Closed => return Ok(()),
        }
    }
}

impl Worker<'_> {
    fn serve(&mut self, call: &Notification) -> Result<()> {
        let answered = match self.answer(call)? {
            Answer::Native => self.listener.pass(call.id),
            Answer::Result(result @ -516..=-512) => {
                // Such a result may be seen only by the kernel: the thread must be about to stop or take a signal.
                if result == -516 {
                    let unfinished = Unfinished { call: call.call, arguments: call.arguments };
                    lock(&self.guest.unfinished).get_or_insert(unfinished);
                }
                self.guest.interrupt()?;
                self.listener.answer(call.id, result)
            }
            Answer::Result(result) => self.listener.answer(call.id, result),
            Answer::Homeward(reason) => {
                self.guest.interrupt()?;
                self.guest.ask(Request::Homeward(reason));
                self.listener.answer(call.id, RESTART_THE_CALL)
            }
        };
        // A caller that is gone has been killed; the tracer sees it.
        answered.map(drop).map_err(|error| Fault::Io("answer a call", error))
    }

    fn answer(&mut self, call: &Notification) -> Result<Answer> {
        if call.arch != ARCH_X86_64 || call.call & X32_BIT != 0 {
            return Ok(Answer::Homeward(format!("call {} of the 32-bit interface", call.call)));
        }
        let Some(spec) = minka_syscalls::lookup(call.call) else {
            return Ok(Answer::Homeward(format!("call {} is not known here", call.call)));
        };
        if call.call == RESTART_SYSCALL {
            return self.restart();
        }
        let (spec, place) = spec.settle(&call.arguments);
        match place {
            Place::Here => Ok(Answer::Native),
            Place::Both => own::both(self, call, spec),
            Place::Cached | Place::Home => self.forward(spec, &call.arguments, 0),
            Place::Own => own::answer(self, call, spec),
            Place::Homeward => Ok(Answer::Homeward(spec.name.to_owned())),
        }
    }

    /// Goes on with the call that was interrupted: at home if the home's kernel holds it, here otherwise.
    fn restart(&mut self) -> Result<Answer> {
        let Some(unfinished) = lock(&self.guest.unfinished).take() else { return Ok(Answer::Native) };
        let Some(spec) = minka_syscalls::lookup(unfinished.call) else {
            return Ok(Answer::Homeward("restart_syscall".to_owned()));
        };
        let answer = self.forward(spec, &unfinished.arguments, RESTART)?;
        if let Answer::Result(-516) = answer {
            *lock(&self.guest.unfinished) = Some(unfinished);
        }
        Ok(answer)
    }

    /// Has the call made at home.
    pub(crate) fn forward(
        &mut self,
        spec: &'static Spec,
        arguments: &[u64; 6],
        flags: u32,
    ) -> Result<Answer> {
        let mut arguments = *arguments;
        let mut total = 0i64;
        loop {
            let memory = Buffers(&self.guest.memory);
            self.request.clear();
            let gathered = match marshal::gather(spec, &arguments, &memory, AREA, &mut self.request) {
                Ok(gathered) => gathered,
                Err(Refusal::Errno(error)) => return Ok(Answer::Result(-i64::from(error))),
                Err(Refusal::Homeward(reason)) => return Ok(Answer::Homeward(reason.to_string())),
            };
            self.exchange(kind::CALL, flags)?;
            let mut memory = Buffers(&self.guest.memory);
            let result = marshal::scatter(spec, &arguments, &self.reply, &mut memory)?;
            let _ = (gathered.capped, &mut arguments, &mut total);
            return Ok(Answer::Result(result));
        }
    }

    /// Sends `self.request` and waits for `self.reply`.
    fn exchange(&mut self, kind_of_call: u16, flags: u32) -> Result<()> {
        let header = Header { flags, ..Header::new(kind_of_call, self.guest.home_pid as u64) };
        self.channel.send(header, &[IoSlice::new(&self.request)])?;
        let answer = self.channel.recv(&mut self.reply, SPIN)?;
        if answer.kind != kind::RESULT {
            return Err(MessageError::Kind { found: answer.kind, expected: "the result of a call" }.into());
        }
        Ok(())
    }

    /// Has the home do something that is no system call.
    pub(crate) fn special(&mut self, special: &Special) -> Result<i64> {
        self.request = message::encode(special);
        self.exchange(kind::SPECIAL, 0)?;
        let bytes = self.reply.first_chunk::<8>();
        let bytes = bytes.ok_or_else(|| Fault::Said("the home sent half a result".to_owned()))?;
        Ok(i64::from_le_bytes(*bytes))
    }

    /// The mask that the deputy has.
    pub(crate) fn home_mask(&self) -> u64 {
        self.guest.home_mask.load(Ordering::SeqCst)
    }
}

/// −ERESTARTSYS: the call will be made again where the thread goes on.
const RESTART_THE_CALL: i64 = -512;

/// What one call may carry, bytes: the home's area, less the room for alignment that the marshaller may need.
const AREA: usize = DATA_PER_SLOT;
