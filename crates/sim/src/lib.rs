//! Clusters of thousands of nodes under a seed.
//!
//! What the simulated nodes run is the code of [`minka_cluster`] that real ones run: here it gets simulated time,
//! figures and datagrams. The same seed gives the same run, on every machine.
//!
//! Reading order: [`balance`] (does balancing pay?), [`gossip`] (how old is what nodes know?), [`cluster`] (whole
//! nodes, and what they do when something fails).

pub mod balance;
pub mod cluster;
pub mod gossip;
