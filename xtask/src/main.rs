//! Workspace tasks: `cargo xtask help`.

fn main() {}
