//! The host side of a migrated process.
