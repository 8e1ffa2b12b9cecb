//! The home side of a migrated process.
