//! Finding nodes of the cluster without their addresses.

use serde::Deserialize;

/// Discovery by multicast: the table `[discovery]`.
///
/// ```toml
/// [discovery]
/// multicast = true
/// interfaces = ["eth0"]   # six at most; without, the one of the default route
/// ttl = 1                 # how many routers an announcement may pass
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DiscoveryConfig {
    /// Whether the node announces itself, and hears of others.
    pub multicast: bool,
    /// On which networks.
    pub interfaces: Vec<String>,
    /// How far.
    pub ttl: u8,
}

impl Default for DiscoveryConfig {
    fn default() -> Self {
        DiscoveryConfig { multicast: false, interfaces: Vec::new(), ttl: 1 }
    }
}
