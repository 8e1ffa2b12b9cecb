//! The `minka` program.

fn main() {}
