//! Whether somebody sits at this machine, and what time it is there.
//!
//! Keyboards and mice are devices whose events somebody reads (`/dev/input/event*`): the graphical screen, mostly. The
//! kernel tells that they were read, not what (inotify, on each device itself: since Linux 6.18 or so it tells nothing of
//! devices to who watches their directory). Of text screens (`/dev/tty1` …) it keeps when they were last read from, to
//! within eight seconds. Who works here from afar does not sit here.

use std::collections::BTreeSet;
use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use minka_cluster::balance::Presence;
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};

/// How often new devices are looked for.
const SEARCH: Duration = Duration::from_secs(60);

/// Devices that are watched; more than any machine has.
const DEVICES_MAX: usize = 256;

/// Watches who uses this machine's own keyboard, mouse and screens.
#[derive(Debug)]
pub struct Watch {
    dev: PathBuf,
    /// None where the system has no inotify to give.
    inotify: Option<OwnedFd>,
    watched: BTreeSet<PathBuf>,
    searched: Option<Instant>,
    read: Option<Instant>,
}

impl Watch {
    /// A watch on the devices in this directory, which is `/dev` or looks like it.
    pub fn new(dev: &Path) -> Self {
        Watch {
            dev: dev.to_owned(),
            inotify: inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC).ok(),
            watched: BTreeSet::new(),
            searched: None,
            read: None,
        }
    }

    /// What time it is, and for how long nobody has used the machine. Costs a few calls.
    pub fn look(&mut self) -> Presence {
        if self.searched.is_none_or(|searched| searched.elapsed() >= SEARCH) {
            self.searched = Some(Instant::now());
            self.search();
        }
        if self.was_read() {
            self.read = Some(Instant::now());
        }
        let input_s = self.read.map(|read| read.elapsed().as_secs());
        Presence { minute: minute_of_week(), idle_s: input_s.into_iter().chain(self.screens_s()).min() }
    }

    fn search(&mut self) {
        let Some(inotify) = &self.inotify else { return };
        for path in devices(&self.dev.join("input"), "event") {
            if self.watched.len() < DEVICES_MAX && !self.watched.contains(&path) {
                // One that has just gone is not watched.
                if inotify::add_watch(inotify, &path, WatchFlags::ACCESS).is_ok() {
                    self.watched.insert(path);
                }
            }
        }
        self.watched.retain(|path| path.exists());
    }

    /// Whether somebody has read from a device since the last time.
    fn was_read(&self) -> bool {
        let Some(inotify) = &self.inotify else { return false };
        let mut any = false;
        let mut events = [0_u8; 4096];
        // Fails when there are no more.
        while rustix::io::read(inotify, &mut events).is_ok_and(|count| count > 0) {
            any = true;
        }
        any
    }

    /// For how long nobody has typed on any of the text screens.
    fn screens_s(&self) -> Option<u64> {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).ok()?.as_secs();
        let screens = devices(&self.dev, "tty");
        let used = screens.iter().filter_map(|path| u64::try_from(fs::metadata(path).ok()?.atime()).ok());
        used.max().map(|used| now.saturating_sub(used))
    }
}

/// Those whose names are this word and a number.
fn devices(directory: &Path, word: &str) -> Vec<PathBuf> {
    let names = fs::read_dir(directory).into_iter().flatten().filter_map(Result::ok);
    let is_one = |name: &str| {
        let number = name.strip_prefix(word).unwrap_or_default();
        // `/dev/tty0` is whichever is shown.
        number != "0" && number.parse::<u16>().is_ok() || (word == "event" && number == "0")
    };
    names.filter(|it| it.file_name().to_str().is_some_and(is_one)).map(|it| it.path()).collect()
}

/// Minutes since the beginning of Monday, local time.
fn minute_of_week() -> u16 {
    let now = jiff::Zoned::now();
    let day = u16::from(now.weekday().to_monday_zero_offset().unsigned_abs());
    day * 24 * 60 + u16::from(now.hour().unsigned_abs()) * 60 + u16::from(now.minute().unsigned_abs())
}

#[cfg(test)]
mod tests {
    use std::fs::{File, FileTimes};
    use std::io::{Read, Write};

    use super::*;

    fn touched(path: &Path, seconds_ago: u64) {
        let file = File::create(path).unwrap();
        let time = SystemTime::now() - Duration::from_secs(seconds_ago);
        file.set_times(FileTimes::new().set_accessed(time)).unwrap();
    }

    #[test]
    fn who_reads_from_a_keyboard_or_types_on_a_screen_sits_here() {
        let directory = tempfile::tempdir().unwrap();
        let dev = directory.path();
        let mut watch = Watch::new(dev);
        assert_eq!(watch.look().idle_s, None, "it has neither keyboard nor screen");
        touched(&dev.join("tty0"), 1);
        touched(&dev.join("ttyS0"), 2);
        touched(&dev.join("tty1"), 1000);
        touched(&dev.join("tty2"), 300);
        assert!((300..310).contains(&watch.look().idle_s.unwrap()));
        // A pipe is as special a file as a keyboard.
        fs::create_dir(dev.join("input")).unwrap();
        let path = dev.join("input/event0");
        rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        let mut keyboard = File::options().read(true).write(true).open(&path).unwrap();
        watch.searched = None;
        keyboard.write_all(b"key").unwrap();
        assert!(watch.look().idle_s.unwrap() >= 300, "nobody has read it");
        keyboard.read_exact(&mut [0; 3]).unwrap();
        assert!(watch.look().idle_s.unwrap() < 10);
        assert!(watch.look().minute < 7 * 24 * 60);
    }
}
