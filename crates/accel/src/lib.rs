//! Accelerators of any vendor: what they are, how they do, and whether they are well.
//!
//! ```text
//!   root ──► discovery ──► Device { identity, probes, gaps }          what is there, read once and on change
//!                              │ sample(now)
//!                              ▼
//!                          Sample { readings }                        every value with unit, source or reason
//!                              │
//!             ┌────────────────┼──────────────┐
//!             ▼                ▼              ▼
//!          health          statistics     exposition                  judged, summed up, shown
//! ```
//!
//! Everything is read below a [`root::Root`], so that a recorded machine reads as a real one does. A value that
//! cannot be had is there all the same, without a number and with the reason; nothing is ever made up. No value
//! needs root, a vendor's library or a particular kernel: what a driver offers is found by looking.
//!
//! Reading order: [`value`] (what a reading is), [`metric`] (which there are), [`root`] (where they come from),
//! [`probe`] (one value's way), the drivers ([`hwmon`], [`intel`], [`amdgpu`], [`mic`], [`nvidia`]), [`drm`] (what is
//! asked of the device file), [`pmu`] (what is counted), [`sysman`] (what a library adds),
//! [`device`] and [`discovery`], [`counter`] (what makes rates safe), [`health`] and [`limits`], [`config`] (what can
//! be changed), [`policy`] (what is done when a device is not well),
//! [`diagnostics`], [`compute`] and [`precheck`] (whether one can be worked with), [`vgpu`].

pub mod amdgpu;
pub mod compute;
pub mod config;
pub mod counter;
pub mod device;
pub mod diagnostics;
pub mod discovery;
pub mod drm;
pub mod dump;
pub mod exposition;
pub mod fixture;
pub mod health;
mod helper;
pub mod hwmon;
pub mod identity;
pub mod intel;
pub mod inventory;
pub mod kernel_log;
pub mod limits;
pub mod metric;
pub mod mic;
pub mod names;
pub mod nvidia;
pub mod pcie;
pub mod pmu;
pub mod policy;
pub mod precheck;
pub mod probe;
pub mod process;
pub mod query;
pub mod root;
pub mod station;
pub mod statistics;
pub mod sysman;
pub mod value;
pub mod vgpu;

pub use device::{Device, Moment, Sample};
pub use identity::Identity;
pub use limits::Limits;
pub use metric::Metric;
pub use root::Root;
pub use station::Station;
pub use value::{Reading, Reason, Unit, Value};
