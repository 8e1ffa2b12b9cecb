//! The places of the tree: their names, numbers, owners and modes. Pure.
//!
//! ```text
//! /hpc
//! ├── admin      what this node does, and its settings
//! ├── decay      what writes here is meant itself
//! ├── nodes/ID   what is known of each node
//! ├── remote/PID guests that compute here
//! └── proc/PID   processes of this node; proc/self is who asks
//! ```
//!
//! A place's inode number tells which place it is, so that nothing has to be remembered of places that somebody has
//! looked up: the kind in the highest byte, the file in the next, and the process or node in the lower half.

/// A place in the tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Place {
    /// The tree itself.
    Root,
    /// `admin`
    Admin,
    /// A file there.
    AdminFile(Admin),
    /// `decay`
    Decay,
    /// A file there.
    DecayFile(Decay),
    /// `nodes`
    Nodes,
    /// `nodes/ID`
    Node(u16),
    /// A file there.
    NodeFile(u16, Figure),
    /// `remote`
    Remote,
    /// `remote/PID`
    Guest(i32),
    /// A file there.
    GuestFile(i32, Guest),
    /// `proc`
    Proc,
    /// `proc/self`
    Oneself,
    /// `proc/PID`
    Process(i32),
    /// A file there.
    ProcessFile(i32, Process),
}

/// A file that one of the lists below names.
pub(crate) trait Listed: Copy + PartialEq + 'static {
    /// All of them, with their names and modes.
    const ALL: &'static [(&'static str, Self, u16)];

    /// The one of that name.
    fn find(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(own, ..)| *own == name).map(|(_, file, _)| *file)
    }

    /// Its number in the list.
    fn index(self) -> u64 {
        Self::ALL.iter().position(|(_, file, _)| *file == self).unwrap_or(0) as u64
    }

    /// The one of that number.
    fn at(index: u64) -> Option<Self> {
        Self::ALL.get(usize::try_from(index).ok()?).map(|(_, file, _)| *file)
    }

    /// Who may read and write it.
    fn mode(self) -> u16 {
        Self::ALL.iter().find(|(_, file, _)| *file == self).map_or(0, |(.., mode)| *mode)
    }
}

/// Declares the files of a directory: the type, and for each its name and mode.
macro_rules! files {
    ($(#[$about:meta])* $name:ident { $($(#[$what:meta])* $file:ident $text:literal $mode:literal,)* }) => {
        $(#[$about])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $name { $($(#[$what])* $file,)* }

        impl Listed for $name {
            const ALL: &'static [(&'static str, Self, u16)] = &[$(($text, $name::$file, $mode),)*];
        }
    };
}

files! {
    /// The files of `admin`.
    Admin {
        /// It takes no guests.
        Block "block" 0o644,
        /// How many of its processes are away; 1 brings them home.
        Bring "bring" 0o644,
        /// The map of all nodes.
        Config "config" 0o444,
        /// Seconds between two times of forgetting.
        DecayInterval "decay-interval" 0o644,
        /// How many guests are here; 1 sends them home.
        Expel "expel" 0o644,
        /// What is kept each time of what changes fast, of a thousand.
        FastDecay "fast-decay" 0o644,
        /// Its processes stay.
        Lstay "lstay" 0o644,
        /// Its number.
        Mospe "mospe" 0o444,
        /// What moving is thought to cost.
        Overheads "overheads" 0o444,
        /// What is kept each time of all others, of a thousand.
        SlowDecay "slow-decay" 0o644,
        /// How fast its processors are.
        Speed "speed" 0o644,
        /// Its processes stay.
        Stay "stay" 0o644,
        /// Minka's version.
        Version "version" 0o444,
    }
}

files! {
    /// The files of `decay`: who writes 1 there says it of itself.
    Decay {
        /// What is known of its calls is forgotten.
        Clear "clear" 0o222,
        /// It computes.
        Cpujob "cpujob" 0o222,
        /// It reads and writes.
        Iojob "iojob" 0o222,
        /// Its calls are forgotten slowly.
        Slow "slow" 0o222,
        /// Its calls are forgotten fast.
        Fast "fast" 0o222,
    }
}

files! {
    /// The files of a node.
    Figure {
        /// Processors.
        Cpus "CPUs" 0o444,
        /// In hundredths of a standard processor.
        Load "load" 0o444,
        /// Memory that processes can have, in MiB.
        Mem "mem" 0o444,
        /// Memory that Linux calls free, in MiB.
        Rmem "rmem" 0o444,
        /// Of one processor.
        Speed "speed" 0o444,
        /// Whether it is there, lets processes go and takes guests.
        Status "status" 0o444,
        /// Memory that there is, in MiB.
        Tmem "tmem" 0o444,
        /// Processor time in use, in percent.
        Util "util" 0o444,
    }
}

files! {
    /// The files of a guest.
    Guest {
        /// The number of its home.
        From "from" 0o444,
        /// Its home's name, its PID there, and its program.
        Identity "identity" 0o444,
        /// Its memory, as Linux tells it.
        Statm "statm" 0o444,
        /// Its processor time here.
        Stats "stats" 0o444,
    }
}

files! {
    /// The files of a process.
    Process {
        /// Why it cannot move.
        Cantmove "cantmove" 0o400,
        /// Where its user wants it.
        Goto "goto" 0o644,
        /// It stays where it is.
        Lock "lock" 0o644,
        /// The same as `goto`.
        Migrate "migrate" 0o644,
        /// How often it has moved.
        Nmigs "nmigs" 0o444,
        /// Where it computes.
        Where "where" 0o444,
    }
}

/// What a place is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A directory.
    Directory,
    /// A file, read and written as a whole.
    File,
    /// A link to another place.
    Link,
}

/// The places that are always there, in the order of the numbers of their kinds, which begin with 1.
const FIXED: [Place; 7] =
    [Place::Root, Place::Admin, Place::Decay, Place::Nodes, Place::Remote, Place::Proc, Place::Oneself];

const ADMIN_FILE: u64 = 16;
const DECAY_FILE: u64 = 17;
const NODE: u64 = 18;
const NODE_FILE: u64 = 19;
const GUEST: u64 = 20;
const GUEST_FILE: u64 = 21;
const PROCESS: u64 = 22;
const PROCESS_FILE: u64 = 23;

fn number(kind: u64, file: u64, subject: u32) -> u64 {
    kind << 56 | file << 48 | u64::from(subject)
}

impl Place {
    /// Its inode number; the root's is 1, as FUSE has it.
    pub fn inode(self) -> u64 {
        match self {
            Place::AdminFile(file) => number(ADMIN_FILE, file.index(), 0),
            Place::DecayFile(file) => number(DECAY_FILE, file.index(), 0),
            Place::Node(node) => number(NODE, 0, node.into()),
            Place::NodeFile(node, file) => number(NODE_FILE, file.index(), node.into()),
            Place::Guest(pid) => number(GUEST, 0, pid.unsigned_abs()),
            Place::GuestFile(pid, file) => number(GUEST_FILE, file.index(), pid.unsigned_abs()),
            Place::Process(pid) => number(PROCESS, 0, pid.unsigned_abs()),
            Place::ProcessFile(pid, file) => number(PROCESS_FILE, file.index(), pid.unsigned_abs()),
            fixed => FIXED.iter().position(|place| *place == fixed).map_or(0, |at| at as u64 + 1),
        }
    }

    /// The place of that number.
    pub fn of_inode(inode: u64) -> Option<Self> {
        let (kind, file, subject) = (inode >> 56, inode >> 48 & 0xff, inode & 0xffff_ffff_ffff);
        let node = || u16::try_from(subject).ok();
        let pid = || i32::try_from(subject).ok().filter(|pid| *pid > 0);
        let place = match kind {
            0 => FIXED.get(usize::try_from(inode).ok()?.checked_sub(1)?).copied(),
            ADMIN_FILE => Admin::at(file).map(Place::AdminFile),
            DECAY_FILE => Decay::at(file).map(Place::DecayFile),
            NODE => node().map(Place::Node),
            NODE_FILE => Some(Place::NodeFile(node()?, Figure::at(file)?)),
            GUEST => pid().map(Place::Guest),
            GUEST_FILE => Some(Place::GuestFile(pid()?, Guest::at(file)?)),
            PROCESS => pid().map(Place::Process),
            PROCESS_FILE => Some(Place::ProcessFile(pid()?, Process::at(file)?)),
            _ => None,
        };
        place.filter(|place| place.inode() == inode)
    }

    /// What it is.
    pub fn kind(self) -> Kind {
        match self {
            Place::AdminFile(_) | Place::DecayFile(_) | Place::NodeFile(..) => Kind::File,
            Place::GuestFile(..) | Place::ProcessFile(..) => Kind::File,
            Place::Oneself => Kind::Link,
            _ => Kind::Directory,
        }
    }

    /// Who may read and write it. The owner of what belongs to a process is the process's; all else is root's.
    pub fn mode(self) -> u16 {
        match self {
            Place::AdminFile(file) => file.mode(),
            Place::DecayFile(file) => file.mode(),
            Place::NodeFile(_, file) => file.mode(),
            Place::GuestFile(_, file) => file.mode(),
            Place::ProcessFile(_, file) => file.mode(),
            Place::Oneself => 0o777,
            _ => 0o555,
        }
    }

    /// The process that it belongs to.
    pub fn process(self) -> Option<i32> {
        match self {
            Place::Process(pid) | Place::ProcessFile(pid, _) => Some(pid),
            _ => None,
        }
    }

    /// The place of a name in a directory, whether or not such a node or process is there.
    pub fn child(self, name: &str) -> Option<Self> {
        match self {
            Place::Root => match name {
                "admin" => Some(Place::Admin),
                "decay" => Some(Place::Decay),
                "nodes" => Some(Place::Nodes),
                "remote" => Some(Place::Remote),
                "proc" => Some(Place::Proc),
                _ => None,
            },
            Place::Admin => Admin::find(name).map(Place::AdminFile),
            Place::Decay => Decay::find(name).map(Place::DecayFile),
            Place::Nodes => plain(name).map(Place::Node),
            Place::Node(node) => Figure::find(name).map(|file| Place::NodeFile(node, file)),
            Place::Remote => plain(name).map(Place::Guest),
            Place::Guest(pid) => Guest::find(name).map(|file| Place::GuestFile(pid, file)),
            Place::Proc if name == "self" => Some(Place::Oneself),
            Place::Proc => plain(name).map(Place::Process),
            Place::Process(pid) => Process::find(name).map(|file| Place::ProcessFile(pid, file)),
            _ => None,
        }
    }

    /// The names in a directory that are always there; of nodes and processes there are more.
    pub fn names(self) -> Vec<&'static str> {
        fn all<T: Listed>() -> Vec<&'static str> {
            T::ALL.iter().map(|(name, ..)| *name).collect()
        }
        match self {
            Place::Root => vec!["admin", "decay", "nodes", "proc", "remote"],
            Place::Admin => all::<Admin>(),
            Place::Decay => all::<Decay>(),
            Place::Node(_) => all::<Figure>(),
            Place::Guest(_) => all::<Guest>(),
            Place::Proc => vec!["self"],
            Place::Process(_) => all::<Process>(),
            _ => Vec::new(),
        }
    }

    /// The directory that it lies in.
    pub fn parent(self) -> Self {
        match self {
            Place::AdminFile(_) => Place::Admin,
            Place::DecayFile(_) => Place::Decay,
            Place::Node(_) => Place::Nodes,
            Place::NodeFile(node, _) => Place::Node(node),
            Place::Guest(_) => Place::Remote,
            Place::GuestFile(pid, _) => Place::Guest(pid),
            Place::Oneself | Place::Process(_) => Place::Proc,
            Place::ProcessFile(pid, _) => Place::Process(pid),
            _ => Place::Root,
        }
    }
}

/// A number above zero that is written as it would be told: each node and each process has one name only.
fn plain<T: std::str::FromStr + ToString + Default + PartialOrd>(name: &str) -> Option<T> {
    name.parse().ok().filter(|number: &T| *number > T::default() && number.to_string() == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every place of a tree with a node, a guest and a process.
    fn all(from: Place, found: &mut Vec<Place>) {
        found.push(from);
        let mut names = from.names();
        match from {
            Place::Nodes => names.push("65535"),
            Place::Remote | Place::Proc => names.push("2147483647"),
            _ => {}
        }
        for name in names {
            let place = from.child(name).unwrap();
            assert_eq!(place.parent(), from, "{name}");
            all(place, found);
        }
    }

    #[test]
    fn a_number_tells_which_place_it_is() {
        let mut places = Vec::new();
        all(Place::Root, &mut places);
        assert_eq!(places.len(), 46, "{places:?}");
        let inodes: std::collections::BTreeSet<u64> = places.iter().map(|place| place.inode()).collect();
        assert_eq!(inodes.len(), places.len(), "no two have the same");
        for place in places {
            assert_eq!(Place::of_inode(place.inode()), Some(place));
            assert_eq!(place.kind() == Kind::Directory, place.mode() == 0o555, "{place:?}");
        }
        assert_eq!(Place::Root.inode(), 1);
    }

    #[test]
    fn numbers_that_nobody_gave_are_no_places() {
        for kind in 0..=255u64 {
            for rest in [0, 8, 255 << 48, 1 << 32, 0x8000_0000, 0x1_0000_0001] {
                let inode = kind << 56 | rest;
                assert!(Place::of_inode(inode).is_none_or(|place| place.inode() == inode), "{inode:#x}");
            }
        }
    }

    #[test]
    fn each_thing_has_one_name() {
        assert_eq!(Place::Proc.child("7"), Some(Place::Process(7)));
        for name in ["", "0", "07", "+7", "-7", "7 ", "x", "2147483648", "self2", "..", "."] {
            assert_eq!(Place::Proc.child(name), None, "{name}");
        }
        assert_eq!(
            (Place::Nodes.child("65535"), Place::Nodes.child("65536")),
            (Some(Place::Node(65_535)), None)
        );
        assert_eq!(Place::AdminFile(Admin::Block).child("x"), None);
    }
}
