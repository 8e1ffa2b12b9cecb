//! Mutually authenticated channels between nodes, and the keys for them.
