//! `docs/syscalls.md` is what the table says.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

use std::path::Path;

#[test]
fn the_page_is_current() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/syscalls.md");
    let expected = minka_syscalls::docs::markdown();
    if std::env::var_os("MINKA_WRITE_DOCS").is_some() {
        std::fs::write(&path, &expected).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        found == expected,
        "docs/syscalls.md is not what the table says: run MINKA_WRITE_DOCS=1 cargo test -p minka-syscalls --test docs"
    );
}
