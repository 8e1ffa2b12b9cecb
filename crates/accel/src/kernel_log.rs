//! The kernel's log: `/dev/kmsg` for whoever may read it, else the file that a log daemon writes.
//!
//! ```text
//!   3,1042,98765432,-;i915 0000:03:00.0: [drm] GPU HANG: ecode 12:1:…      priority, number, µs since start; text
//!    SUBSYSTEM=pci                                                         more of the same message: left out
//! ```

use std::fs::OpenOptions;
use std::io::{ErrorKind, Read};
use std::os::unix::fs::OpenOptionsExt;

use crate::root::Root;
use crate::value::Reason;

/// A message of the kernel's.
#[derive(Debug, Clone, PartialEq)]
pub struct Message {
    /// Seconds since the machine was started, if they are told.
    pub seconds: Option<f64>,
    /// What it says.
    pub text: String,
}

/// No more messages are read, and of one file not more than this.
const MESSAGES_MAX: usize = 100_000;
const FILE_BYTES_MAX: u64 = 32 << 20;

/// One message is at most so long, as the kernel has it.
const MESSAGE_BYTES_MAX: usize = 8192;

/// Where the log is looked for, in this order.
const FILES: [&str; 3] = ["var/log/kern.log", "var/log/dmesg", "var/log/messages"];

/// The log since the machine was started, as far as it is still there, and the file that it is from.
pub fn read(root: &Root) -> Result<(Vec<Message>, &'static str), Reason> {
    let kmsg = ring(root);
    if let Ok(messages) = kmsg {
        return Ok((messages, "dev/kmsg"));
    }
    for file in FILES {
        if let Some(text) = text_file(root, file) {
            let lines = text.lines().take(MESSAGES_MAX);
            return Ok((lines.map(|line| Message { seconds: None, text: line.to_owned() }).collect(), file));
        }
    }
    kmsg.map(|messages| (messages, "dev/kmsg"))
}

fn text_file(root: &Root, file: &str) -> Option<String> {
    let mut bytes = Vec::new();
    let file = std::fs::File::open(root.locate(file)?).ok()?;
    file.take(FILE_BYTES_MAX).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// The kernel's own ring. Each read gives one record; of a recording, which is a plain file, as many as fit.
fn ring(root: &Root) -> Result<Vec<Message>, Reason> {
    let path = "dev/kmsg";
    let absent = || Reason::Absent(path.into());
    let nonblocking = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    let file =
        OpenOptions::new().read(true).custom_flags(nonblocking).open(root.locate(path).ok_or_else(absent)?);
    let denied = |error: std::io::Error| match error.kind() {
        ErrorKind::PermissionDenied => Reason::Denied(path.into()),
        ErrorKind::NotFound => absent(),
        _ => Reason::Failed(error.to_string().into()),
    };
    let mut file = file.map_err(denied)?;
    let (mut text, mut piece) = (Vec::new(), [0; MESSAGE_BYTES_MAX]);
    while text.len() < FILE_BYTES_MAX as usize {
        match file.read(&mut piece) {
            Ok(0) => break,
            Ok(length) => text.extend_from_slice(&piece[..length]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            // What was to come was overwritten; the next read goes on with the oldest that is left.
            Err(error) if matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::BrokenPipe) => {}
            Err(error) => return Err(denied(error)),
        }
    }
    Ok(records(&String::from_utf8_lossy(&text)))
}

fn records(text: &str) -> Vec<Message> {
    let record = |line: &str| {
        let (head, text) = line.split_once(';')?;
        let micro: f64 = head.split(',').nth(2)?.parse().ok()?;
        Some(Message { seconds: Some(micro / 1e6), text: text.to_owned() })
    };
    text.lines().filter(|line| !line.starts_with(' ')).filter_map(record).take(MESSAGES_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_taken_apart_and_their_attributes_left_out() {
        let text =
            "6,1,1500000,-;first; with more\n SUBSYSTEM=pci\n DEVICE=+pci:0000:03:00.0\n3,2,x,-;bad\nnone\n";
        let expected = Message { seconds: Some(1.5), text: "first; with more".to_owned() };
        assert_eq!(records(text), [expected]);
    }

    #[test]
    fn a_log_daemon_s_file_stands_in_for_the_ring() {
        let directory = tempfile::tempdir().unwrap();
        let root = Root::at(directory.path());
        assert_eq!(read(&root), Err(Reason::Absent("dev/kmsg".into())));
        std::fs::create_dir_all(directory.path().join("var/log")).unwrap();
        std::fs::write(directory.path().join("var/log/kern.log"), "one\ntwo\n").unwrap();
        let (messages, file) = read(&root).unwrap();
        assert_eq!((messages.len(), messages[1].text.as_str(), file), (2, "two", "var/log/kern.log"));
    }
}
