//! Libraries that are looked for when the program runs.
//!
//! Whatever a library does wrong it does in the process that loads it: so only a process does that has nothing to lose.

use std::ffi::{CStr, CString, c_char, c_void};

/// A library that stays loaded until the process ends.
#[derive(Debug)]
pub(crate) struct Library(*mut c_void);

impl Library {
    /// Loads it; otherwise says in the loader's words why not.
    pub(crate) fn open(path: &str) -> Result<Self, String> {
        let name = CString::new(path).map_err(|error| error.to_string())?;
        // SAFETY: the name ends with a zero. What the library does when it is loaded is the caller's risk, who is
        // nothing but this.
        let library = unsafe { libc::dlopen(name.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL) };
        if library.is_null() { Err(last_error()) } else { Ok(Library(library)) }
    }

    /// The address of a function.
    pub(crate) fn find(&self, name: &CStr) -> Option<*mut c_void> {
        // SAFETY: the library is open and the name ends with a zero.
        let address = unsafe { libc::dlsym(self.0, name.as_ptr()) };
        (!address.is_null()).then_some(address)
    }
}

fn last_error() -> String {
    // SAFETY: the text is the loader's and stays until its next call from this thread.
    let text: *const c_char = unsafe { libc::dlerror() };
    if text.is_null() {
        return "no reason told".to_owned();
    }
    // SAFETY: it ends with a zero.
    unsafe { CStr::from_ptr(text) }.to_string_lossy().chars().take(200).collect()
}
