//! The system-call table, and what is made from it: filter, marshaller, trace text, documentation.
//!
//! One line of the [`table`](table::CALLS) says of a call where it runs, what its arguments are, how long its
//! buffers are before and after, and whether it may sleep ([`spec`] is what a line becomes). Everything else here
//! is a walk over the table:
//!
//! * [`decide`] tells where a call runs, and [`filter::program`] says the same to the kernel;
//! * [`marshal`] carries a forwarded call from the guest to the home and its results back;
//! * [`foretell`] tells which lookups follow others in vain;
//! * [`render`] shows a call as text;
//! * [`docs::markdown`] is the page for people, and [`coverage`] its figures.
//!
//! Nothing here touches the operating system: memory is a trait, the filter is data.
//!
//! # For the supervisors
//!
//! * A number that [`lookup`] does not know, and [`Place::Homeward`]: take the process home.
//! * [`Place::Own`]: code of its own; where there is none, take the process home. `gather` and
//!   [`marshal::place_own`] carry such a call's strings and structures all the same.
//! * [`marshal::gather`] may report the request [`capped`](marshal::Capped): see there how to go on.
//! * A result of -512 to -516 is the kernel's restart code and passes unchanged. When the host later forwards
//!   `restart_syscall` for it, the home's kernel may write the remaining time where the first request was placed
//!   (nanosleep): keep its `Placed` and the guest's arguments, and use them for `collect` and `scatter`.
//! * [`Spec::temporary_mask`] names the argument with a signal mask that holds for the time of the call.

#[cfg(not(target_pointer_width = "64"))]
compile_error!("addresses of x86-64 programs must fit into a usize");

pub mod coverage;
pub mod docs;
pub mod errors;
pub mod filter;
pub mod foretell;
mod layout;
pub mod marshal;
mod notation;
pub mod opened;
pub mod render;
pub mod spec;
pub mod symbols;
pub mod table;

pub use spec::{Place, Spec};
pub use table::lookup;

/// Where a call with these arguments runs. One that the table does not know runs at home, natively.
#[must_use]
pub fn decide(number: u64, arguments: &[u64; 6]) -> Place {
    lookup(number).map_or(Place::Homeward, |spec| spec.decide(arguments))
}
