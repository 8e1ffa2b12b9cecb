//! A process that reads a file, and others that do something to it.

use super::*;
use std::io::{Read as _, Seek, Write};
use std::os::unix::fs::FileExt;

const BLOCK: usize = 256 << 10;
const OPEN: u64 = 2;
const CLOSE: u64 = 3;

/// This process as one that reads a file, of which each block is filled with its number.
struct Reader {
    ahead: ReadAhead,
    promises: Promises,
    file: File,
    path: std::path::PathBuf,
    _directory: tempfile::TempDir,
}

fn request(call: u64, arguments: [u64; 3]) -> Vec<u8> {
    let [first, second, third] = arguments;
    [call, first, second, third, 0, 0, 0].iter().flat_map(|word| word.to_le_bytes()).collect()
}

/// Runs one of these tests in a process that ignores SIGIO, where it returns true: the signal would end this one.
fn goes_on(test: &str) -> bool {
    const MARK: &str = "MINKA_TEST_IGNORES_SIGIO";
    if std::env::var_os(MARK).is_some() {
        return true;
    }
    let status = std::process::Command::new("sh")
        .args(["-c", "trap '' IO; exec \"$0\" \"$@\""])
        .arg(std::env::current_exe().expect("this program"))
        .args(["--exact", &format!("readahead::tests::{test}"), "--nocapture"])
        .env(MARK, "1")
        .status();
    assert!(status.expect("start it").success());
    false
}

impl Reader {
    /// Has read so many blocks.
    fn new(blocks: usize) -> Self {
        let directory = tempfile::tempdir_in("/var/tmp").expect("a directory");
        let path = directory.path().join("file");
        let mut file = File::create(&path).expect("a file");
        (0..16).for_each(|number| file.write_all(&[number; BLOCK]).expect("content"));
        drop(file);
        let file = File::open(&path).expect("the file");
        let (ahead, promises) = Default::default();
        let mut reader = Self { ahead, promises, file, path, _directory: directory };
        let open = request(OPEN, [0x5000, 0, 0]);
        reader.ahead.before(&open);
        reader.ahead.after(&open, i64::from(reader.file.as_raw_fd()));
        for block in 0..blocks {
            assert_eq!(reader.read(), Some((block as u8, block * BLOCK >= BEGIN as usize)));
        }
        reader
    }

    /// Reads a block: what it is filled with, and whether that was there before.
    fn read(&mut self) -> Option<(u8, bool)> {
        let read = request(0, [self.file.as_raw_fd() as u64, 0x5000, BLOCK as u64]);
        let pid = std::process::id().cast_signed();
        self.ahead.before(&read);
        let there = self.ahead.read(pid, &read).map(<[u8]>::to_vec);
        let was_there = there.is_some();
        let data = there.unwrap_or_else(|| {
            let mut data = vec![0; BLOCK];
            let count = self.file.read(&mut data).expect("read");
            data.truncate(count);
            data
        });
        self.ahead.after(&read, data.len() as i64);
        self.ahead.go_on(pid, &read, &self.promises);
        let first = *data.first()?;
        assert!(data.len() == BLOCK && data.iter().all(|byte| *byte == first));
        Some((first, was_there))
    }

    fn make(&mut self, request: &[u8], result: i64) {
        self.ahead.before(request);
        self.ahead.after(request, result);
    }
}

#[test]
fn a_file_that_is_read_in_order_is_read_ahead_to_its_end() {
    let mut reader = Reader::new(16);
    assert_eq!(reader.read(), None);
    assert_eq!(reader.file.stream_position().expect("a position"), 16 * BLOCK as u64);
}

#[test]
fn who_wants_to_write_goes_on_and_what_was_written_is_read() {
    if !goes_on("who_wants_to_write_goes_on_and_what_was_written_is_read") {
        return;
    }
    let mut reader = Reader::new(7);
    let path = reader.path.clone();
    let write = std::thread::spawn(move || {
        let file = File::options().write(true).open(path).expect("the file");
        file.write_all_at(&[77; BLOCK], 7 * BLOCK as u64).expect("write");
    });
    while !write.is_finished() {
        reader.promises.yield_to_writers();
        std::thread::yield_now();
    }
    write.join().expect("no panic");
    assert_eq!([reader.read(), reader.read()], [Some((77, false)), Some((8, false))]);
}

#[test]
fn what_is_there_is_not_used_as_soon_as_somebody_waits_to_write() {
    if !goes_on("what_is_there_is_not_used_as_soon_as_somebody_waits_to_write") {
        return;
    }
    use std::os::unix::fs::OpenOptionsExt;
    const O_NONBLOCK: i32 = 0o4000;
    let mut reader = Reader::new(7);
    let writer = File::options().write(true).custom_flags(O_NONBLOCK).open(&reader.path);
    assert_eq!(writer.expect_err("a lease").kind(), io::ErrorKind::WouldBlock);
    assert_eq!(reader.read(), Some((7, false)));
    let writer = File::options().write(true).custom_flags(O_NONBLOCK).open(&reader.path);
    writer.expect("the lease was given up with the data");
}

#[test]
fn no_lease_outlives_the_recall() {
    let mut reader = Reader::new(7);
    reader.promises.close();
    drop(File::options().write(true).open(&reader.path).expect("nobody is waited for"));
    assert_eq!(reader.read(), Some((7, false)));
    let mut fresh = Reader::new(4);
    fresh.promises.close();
    assert_eq!([fresh.read(), fresh.read()], [Some((4, false)), Some((5, false))]);
}

#[test]
fn a_position_that_others_have_moved_counts() {
    let mut reader = Reader::new(7);
    let mut same = reader.file.try_clone().expect("a duplicate");
    same.seek(io::SeekFrom::Start(2 * BLOCK as u64)).expect("seek");
    assert_eq!([reader.read(), reader.read()], [Some((2, false)), Some((3, true))]);
}

#[test]
fn another_file_with_the_same_number_is_not_taken_for_it() {
    let mut reader = Reader::new(7);
    let other = File::open(&reader.path).expect("another opening");
    let nothing = File::open("/dev/null").expect("open");
    let mut number = OwnedFd::from(std::mem::replace(&mut reader.file, nothing));
    rustix::io::dup2(&other, &mut number).expect("dup2");
    reader.file = File::from(number);
    assert_eq!([reader.read(), reader.read()], [Some((0, false)), Some((1, false))]);
}

#[test]
fn calls_that_could_share_or_replace_the_descriptor_end_it() {
    let number = |reader: &Reader| reader.file.as_raw_fd() as u64;
    for (call, arguments) in [(CLOSE, None), (32, None), (46, Some([9, 0x5000, 0])), (59, Some([0x5000; 3]))]
    {
        let mut reader = Reader::new(7);
        let arguments = arguments.unwrap_or_else(|| [number(&reader), 0, 0]);
        reader.make(&request(call, arguments), 0);
        assert!(reader.ahead.streams.is_empty(), "call {call}");
        assert_eq!([reader.read(), reader.read()], [Some((7, false)), Some((8, false))], "call {call}");
    }
}

#[test]
fn files_that_somebody_writes_to_are_not_read_ahead() {
    let mut reader = Reader::new(3);
    let _writer = File::options().write(true).open(&reader.path).expect("a writer");
    let read: Vec<_> = (0..3).map(|_| reader.read()).collect();
    assert_eq!(read, [Some((3, false)), Some((4, false)), Some((5, false))]);
}

#[test]
fn only_files_that_change_by_nobody_else_are_read_ahead() {
    let pid = std::process::id().cast_signed();
    for path in ["/proc/self/maps", "/dev/zero", "/"] {
        let file = File::open(path).expect("open");
        assert!(Stream::begin(pid, file.as_raw_fd(), &Promises::default()).is_err(), "{path}");
    }
    let memory = File::from(minka_kernel::shared::memfd(c"memory", 0).expect("a memfd"));
    let again = File::open(format!("/proc/self/fd/{}", memory.as_raw_fd())).expect("open it for reading");
    assert!(Stream::begin(pid, again.as_raw_fd(), &Promises::default()).is_err(), "a memfd");
}
