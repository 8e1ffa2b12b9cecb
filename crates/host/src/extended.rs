//! Extended registers of guests from machines that have others, or have them in other places.

use crate::fault::{Fault, Result};
use minka_image::cpu::Features;
use minka_image::process::Image;
use minka_image::xstate::{Layout, NoState};
use minka_kernel::cpu;
use minka_kernel::ptrace::Stopped;
use minka_wire::message::Hello;

/// How the registers of a guest's threads are exchanged for those of its home.
#[derive(Debug)]
pub(crate) struct Exchange {
    home: Layout,
    own: Layout,
    /// Those of one of the threads as they came: what only the home has is in its initial state in all of them.
    base: Vec<u8>,
}

impl Exchange {
    /// None where both are the same.
    pub(crate) fn new(hello: &Hello, own: &Features, image: &Image) -> Option<Self> {
        let own = cpu::layout().within(own.states());
        let base = image.threads.first().map(|thread| thread.extended.clone()).unwrap_or_default();
        (own != hello.layout).then(|| Self { home: hello.layout.clone(), own, base })
    }

    /// What a thread of the home's has, for a task of this machine.
    pub(crate) fn arriving(&self, task: &Stopped, bytes: &[u8]) -> Result<Vec<u8>> {
        let template =
            task.extended().map_err(|error| Fault::Io("read the guest's extended registers", error))?;
        self.home.convert(bytes, &self.own, &template).map_err(not_understood)
    }

    /// What a task of this machine has, for the home.
    pub(crate) fn leaving(&self, bytes: &[u8]) -> Result<Vec<u8>> {
        self.own.convert(bytes, &self.home, &self.base).map_err(not_understood)
    }
}

fn not_understood(error: NoState) -> Fault {
    Fault::Said(error.to_string())
}
