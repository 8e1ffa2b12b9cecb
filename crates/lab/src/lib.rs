//! A whole cluster on one machine, in namespaces.
