//! Files of the home's that this node has too, byte for byte.

use minka_identity::Digests;
use minka_kernel::seccomp::{Listener, Notification};
use minka_wire::message::FileOffer;
use std::collections::HashMap;
use std::fs::File;
use std::os::fd::AsFd;

/// Descriptors that a guest is given at most; it cannot use them but by this program's order, and keeps them.
const GIVEN_MAX: usize = 64;

/// What is known of them, and those of which the guest has a descriptor.
#[derive(Debug)]
pub(crate) struct CommonFiles {
    digests: Digests,
    given: HashMap<[u8; 32], i32>,
}

impl CommonFiles {
    /// With what is known on this node.
    pub(crate) fn new(digests: Digests) -> Self {
        Self { digests, given: HashMap::new() }
    }

    /// The file that is the same here as at home.
    pub(crate) fn open(&mut self, offer: &FileOffer) -> Option<File> {
        // Opening anything else could have an effect, or wait for ever.
        if !std::fs::metadata(&offer.path).ok()?.is_file() {
            return None;
        }
        let file = File::open(&offer.path).ok()?;
        let (digest, size) = self.digests.of(&file).ok()??;
        (digest == offer.digest && size == offer.size).then_some(file)
    }

    /// The guest's descriptor of that file: it gets one for the call that it waits in.
    pub(crate) fn give(
        &mut self,
        offer: &FileOffer,
        listener: &Listener,
        call: &Notification,
    ) -> Option<i32> {
        if let Some(number) = self.given.get(&offer.digest) {
            return Some(*number);
        }
        if self.given.len() >= GIVEN_MAX {
            return None;
        }
        let file = self.open(offer)?;
        // A caller that is gone has been killed, and a kernel that cannot do it has the pages come from home.
        let number = listener.give(call.id, file.as_fd()).ok()?;
        self.given.insert(offer.digest, number);
        Some(number)
    }
}
