//! Paths, attributes, directories, locks.
