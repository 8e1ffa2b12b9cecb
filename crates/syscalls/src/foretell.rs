//! What a program is going to look up next, and not find.
//!
//! A compiler looks for each header in a dozen directories, a shell for a program, an interpreter for a module. Natively a
//! failed attempt takes a microsecond, away from home a round trip, and they are three quarters of all that a compiler asks.
//! They follow a pattern: behind `include/time.h` comes `src/time.h`, as behind `include/stdio.h` came `src/stdio.h`. So the
//! home learns it from the calls that are made, and looks up at once what would follow:
//!
//! ```text
//!  openat(include/time.h)  ENOENT ─┬─ openat(src/time.h)  ENOENT ─┬─ readlink(/usr)  EINVAL, … ─┬─ openat(/usr/include/time.h)
//!     made by the program          │  looked up by the home       │  what `realpath` does        │  is there: not foretold
//! ```
//!
//! Only failures are foretold: they leave nothing behind, and of them the result says all. What comes true is for the host to
//! see, which compares each call that its guest makes.

use crate::marshal::{REQUEST_HEAD, load};
use std::collections::HashMap;

/// Most that is foretold at once.
pub const FORETOLD_MAX: usize = 64;

/// Patterns that are remembered at most.
const RULES_MAX: usize = 512;

const ENOENT: i64 = -2;
const EINVAL: i64 = -22;

const AT_FDCWD: u32 = -100i32 as u32;
const O_CREAT: u64 = 0o100;
const O_TMPFILE: u64 = 0o20_000_000;
const AT_SYMLINK_NOFOLLOW: u64 = 0x100;
/// No other flag of `newfstatat` and `faccessat2` is foretold.
const AT_EACCESS: u64 = 0x200;

mod call {
    pub(super) const OPEN: u32 = 2;
    pub(super) const STAT: u32 = 4;
    pub(super) const LSTAT: u32 = 6;
    pub(super) const ACCESS: u32 = 21;
    pub(super) const READLINK: u32 = 89;
    pub(super) const OPENAT: u32 = 257;
    pub(super) const NEWFSTATAT: u32 = 262;
    pub(super) const READLINKAT: u32 = 267;
    pub(super) const FACCESSAT: u32 = 269;
    pub(super) const FACCESSAT2: u32 = 439;
}

/// A call that looks up a path, and leaves nothing behind when it does not find it. Where its arguments point at does not
/// count.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Lookup {
    how: How,
    path: Vec<u8>,
}

/// All of such a call but the path: its number, and the arguments that decide what comes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct How {
    call: u32,
    numbers: [u64; 2],
}

impl Lookup {
    /// The one that a request is for, if it is for one.
    #[must_use]
    pub fn of(request: &[u8]) -> Option<Self> {
        let (head, path) = request.split_at_checked(REQUEST_HEAD)?;
        let number = |index: usize| load(head, REQUEST_HEAD - 48 + 8 * index);
        let call = load(head, 0) as u32;
        let from_here = number(0) as u32 == AT_FDCWD;
        let numbers = match call {
            call::OPEN if number(1) & (O_CREAT | O_TMPFILE) == 0 => [number(1), 0],
            call::STAT | call::LSTAT => [0, 0],
            call::ACCESS => [number(1), 0],
            call::READLINK if number(2) as i32 > 0 => [number(2), 0],
            call::OPENAT if from_here && number(2) & (O_CREAT | O_TMPFILE) == 0 => [number(2), 0],
            call::NEWFSTATAT if from_here && number(3) & !AT_SYMLINK_NOFOLLOW == 0 => [number(3), 0],
            call::READLINKAT if from_here && number(3) as i32 > 0 => [number(3), 0],
            call::FACCESSAT if from_here => [number(2), 0],
            call::FACCESSAT2 if from_here && number(3) & !(AT_SYMLINK_NOFOLLOW | AT_EACCESS) == 0 => {
                [number(2), number(3)]
            }
            _ => return None,
        };
        let (0, path) = path.split_last()? else { return None };
        if path.is_empty() || path.contains(&0) {
            return None;
        }
        Some(Self { how: How { call, numbers }, path: path.to_vec() })
    }

    fn reads_link(&self) -> bool {
        matches!(self.how.call, call::READLINK | call::READLINKAT)
    }

    /// Whether a symbolic link at the end of the path is what is looked up.
    fn stops_at_link(&self) -> bool {
        match self.how.call {
            call::LSTAT => true,
            call::NEWFSTATAT => self.how.numbers[0] & AT_SYMLINK_NOFOLLOW != 0,
            call::FACCESSAT2 => self.how.numbers[1] & AT_SYMLINK_NOFOLLOW != 0,
            _ => false,
        }
    }
}

/// What is there under a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum There {
    /// Nothing (`ENOENT`).
    Nothing,
    /// A symbolic link.
    Link,
    /// Something else.
    Something,
    /// It cannot be said.
    Unknown,
}

/// What follows a lookup that failed: the same name, looked up in another way or place.
#[derive(Clone, Debug)]
struct Rule {
    /// What stood before the name.
    from: (How, Vec<u8>),
    to: (How, Vec<u8>),
    /// How the links on the path were read before, as `realpath` does.
    links: Option<How>,
}

/// Learns what a thread looks up.
#[derive(Debug, Default)]
pub struct Foreteller {
    /// The last lookup that failed, and the one before it for the same name.
    last: Option<(Lookup, Option<Lookup>)>,
    /// Links that have been read since, in vain.
    links: Vec<Lookup>,
    /// By what stood before the name in the lookup before.
    rules: HashMap<Option<Vec<u8>>, Vec<Rule>>,
    count: usize,
}

impl Foreteller {
    /// Takes note of a lookup that has been made.
    pub fn looked_up(&mut self, lookup: &Lookup, result: i64) {
        if lookup.reads_link() {
            match result {
                ENOENT | EINVAL if self.links.len() < FORETOLD_MAX => self.links.push(lookup.clone()),
                _ => self.forget_last(),
            }
            return;
        }
        let links = std::mem::take(&mut self.links);
        let before = self.last.take();
        let follows = before.and_then(|(last, before)| {
            let rule = rule(&last, lookup, &links)?;
            self.learn(before.as_ref().and_then(|before| head(before, &last)), rule);
            Some(last)
        });
        self.last = (result == ENOENT).then(|| (lookup.clone(), follows));
    }

    /// Something else has been done: whatever is looked up next begins anew.
    pub fn forget_last(&mut self) {
        self.last = None;
        self.links.clear();
    }

    fn learn(&mut self, before: Option<Vec<u8>>, rule: Rule) {
        if self.count >= RULES_MAX {
            (self.rules, self.count) = (HashMap::new(), 0);
        }
        let rules = self.rules.entry(before).or_default();
        match rules.iter_mut().find(|known| known.from == rule.from) {
            Some(known) => *known = rule,
            None => {
                rules.push(rule);
                self.count += 1;
            }
        }
    }

    /// What is going to be looked up next in vain, if what has been learnt holds, and with which result. `look` says what is
    /// there at a path; a link at its end is followed if it is told so.
    pub fn foretell<E>(
        &self,
        mut look: impl FnMut(&[u8], bool) -> Result<There, E>,
    ) -> Result<Vec<(Lookup, i64)>, E> {
        let mut foretold = Vec::new();
        let Some((mut last, mut before)) = self.last.clone() else { return Ok(foretold) };
        // What is there does not change while it is foretold.
        let mut known: HashMap<(Vec<u8>, bool), There> = HashMap::new();
        let mut look = |path: &[u8], follow: bool| match known.get(&(path.to_vec(), follow)) {
            Some(there) => Ok(*there),
            None => {
                let there = look(path, follow)?;
                known.insert((path.to_vec(), follow), there);
                Ok(there)
            }
        };
        while let Some((next, links)) = self.next(&last, before.as_ref()) {
            for prefix in links.iter().flat_map(|_| prefixes(&next.path)) {
                let result = match look(prefix, false)? {
                    There::Nothing => ENOENT,
                    There::Something => EINVAL,
                    There::Link | There::Unknown => return Ok(foretold),
                };
                let how = links.unwrap_or(next.how);
                foretold.push((Lookup { how, path: prefix.to_vec() }, result));
                if result == ENOENT {
                    break;
                }
            }
            if foretold.len() >= FORETOLD_MAX || look(&next.path, !next.stops_at_link())? != There::Nothing {
                break;
            }
            foretold.push((next.clone(), ENOENT));
            (before, last) = (Some(last), next);
        }
        foretold.truncate(FORETOLD_MAX);
        Ok(foretold)
    }

    fn next(&self, last: &Lookup, before: Option<&Lookup>) -> Option<(Lookup, Option<How>)> {
        let rules = self.rules.get(&before.and_then(|before| head(before, last)))?;
        let fits = rules.iter().filter(|rule| rule.from.0 == last.how && last.path.starts_with(&rule.from.1));
        let rule = fits.max_by_key(|rule| rule.from.1.len())?;
        let name = &last.path[rule.from.1.len()..];
        let path = [&rule.to.1, name].concat();
        // A path no longer than the kernel takes.
        (path.len() < 4096).then_some((Lookup { how: rule.to.0, path }, rule.links))
    }
}

/// The pattern in which one lookup follows another, with these links read in between.
fn rule(last: &Lookup, next: &Lookup, links: &[Lookup]) -> Option<Rule> {
    let name = common_name(&last.path, &next.path);
    if name == 0 || last == next {
        return None;
    }
    let links = match links.split_first() {
        None => None,
        Some((first, _)) => {
            let expected = prefixes(&next.path);
            let same = links.len() <= expected.len()
                && links
                    .iter()
                    .zip(&expected)
                    .all(|(link, path)| link.how == first.how && link.path == *path);
            Some(same.then_some(first.how)?)
        }
    };
    let head = |lookup: &Lookup| (lookup.how, lookup.path[..lookup.path.len() - name].to_vec());
    Some(Rule { from: head(last), to: head(next), links })
}

/// What stands before the name that two lookups have in common, in the first.
fn head(first: &Lookup, second: &Lookup) -> Option<Vec<u8>> {
    let name = common_name(&first.path, &second.path);
    (name > 0).then(|| first.path[..first.path.len() - name].to_vec())
}

/// Bytes of the longest name, of whole components, with which both paths end.
fn common_name(first: &[u8], second: &[u8]) -> usize {
    let same = first.iter().rev().zip(second.iter().rev()).take_while(|(one, other)| one == other).count();
    let is_whole = |path: &[u8], length: usize| length == path.len() || path[path.len() - length - 1] == b'/';
    (1..=same)
        .rev()
        .find(|length| {
            first[first.len() - length] != b'/' && is_whole(first, *length) && is_whole(second, *length)
        })
        .unwrap_or(0)
}

/// The paths of which `realpath` reads the links, for an absolute path.
fn prefixes(path: &[u8]) -> Vec<&[u8]> {
    if path.first() != Some(&b'/') {
        return Vec::new();
    }
    let ends = path.iter().enumerate().skip(1).filter(|(at, byte)| **byte == b'/' && path[at - 1] != b'/');
    ends.map(|(at, _)| &path[..at]).chain([path]).collect()
}

/// Appends what is foretold, for its way to the host:
///
/// ```text
/// for each: u32 call, i32 result, 2 × u64 number, u32 length of the path, the path
/// ```
pub fn encode(foretold: &[(Lookup, i64)], out: &mut Vec<u8>) {
    for (Lookup { how, path }, result) in foretold {
        out.extend(how.call.to_le_bytes());
        out.extend((*result as i32).to_le_bytes());
        how.numbers.iter().for_each(|number| out.extend(number.to_le_bytes()));
        out.extend((path.len() as u32).to_le_bytes());
        out.extend(path);
    }
}

/// What [`encode`] has made; nothing if it is anything else.
#[must_use]
pub fn decode(mut bytes: &[u8]) -> Option<Vec<(Lookup, i64)>> {
    const HEAD: usize = 28;
    let mut foretold = Vec::new();
    while !bytes.is_empty() {
        let (head, rest) = bytes.split_at_checked(HEAD)?;
        let word = |at: usize| load(head, at) as u32;
        let (path, rest) = rest.split_at_checked(word(24) as usize)?;
        let result = i64::from(word(4) as i32);
        if foretold.len() == FORETOLD_MAX || !matches!(result, ENOENT | EINVAL) {
            return None;
        }
        let how = How { call: word(0), numbers: [load(head, 8), load(head, 16)] };
        foretold.push((Lookup { how, path: path.to_vec() }, result));
        bytes = rest;
    }
    Some(foretold)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use std::convert::Infallible;

    fn request(call: u32, arguments: [u64; 6], path: &str) -> Vec<u8> {
        let head = [u64::from(call)].into_iter().chain(arguments).flat_map(u64::to_le_bytes);
        head.chain(path.bytes()).chain([0]).collect()
    }

    fn open(path: &str) -> Lookup {
        Lookup::of(&request(call::OPENAT, [u64::from(AT_FDCWD), 0x5000, 0o400, 0, 0, 0], path))
            .expect("a lookup")
    }

    fn readlink(path: &str) -> Lookup {
        Lookup::of(&request(call::READLINK, [0x5000, 0x6000, 1023, 0, 0, 0], path)).expect("a lookup")
    }

    /// A file system, of which is said what there is.
    struct Files(BTreeSet<&'static str>);

    impl Files {
        fn there(&self, path: &[u8]) -> There {
            let path = std::str::from_utf8(path).expect("text");
            let below = format!("{path}/");
            let is_there = self.0.iter().any(|file| *file == path || file.starts_with(&below));
            if is_there { There::Something } else { There::Nothing }
        }

        fn result(&self, lookup: &Lookup) -> i64 {
            match (self.there(&lookup.path), lookup.reads_link()) {
                (There::Nothing, _) => ENOENT,
                (_, true) => EINVAL,
                (_, false) => 3,
            }
        }
    }

    /// What a compiler does to find a header, and how much of it was not foretold.
    fn find(foreteller: &mut Foreteller, files: &Files, name: &str) -> usize {
        let mut calls = Vec::new();
        for place in ["include", "src", "/usr/lib/gcc/include", "/usr/local/include", "/usr/include"] {
            let path = format!("{place}/{name}");
            for prefix in prefixes(path.as_bytes()) {
                calls.push(readlink(std::str::from_utf8(prefix).expect("text")));
                if files.there(prefix) == There::Nothing {
                    break;
                }
            }
            calls.push(open(&path));
            if files.there(path.as_bytes()) == There::Something {
                break;
            }
        }
        let (mut asked, mut foretold) = (0, Vec::new().into_iter());
        for call in calls {
            match foretold.next() {
                Some(told) => assert_eq!(told, (call.clone(), files.result(&call))),
                None => {
                    asked += 1;
                    foreteller.looked_up(&call, files.result(&call));
                    let told = foreteller
                        .foretell(|path, _| Ok::<_, Infallible>(files.there(path)))
                        .expect("no error");
                    for (lookup, result) in &told {
                        foreteller.looked_up(lookup, *result);
                    }
                    foretold = told.into_iter();
                }
            }
        }
        assert_eq!(foretold.len(), 0, "what never came was foretold");
        foreteller.forget_last();
        asked
    }

    #[test]
    fn a_search_is_foretold_once_it_has_been_seen() {
        let mut foreteller = Foreteller::default();
        let files = Files(BTreeSet::from([
            "src/own.h",
            "/usr/lib/gcc/include/stddef.h",
            "/usr/include/stdio.h",
            "/usr/include/sys/types.h",
            "/usr/local/include/a.h",
        ]));
        assert_eq!(find(&mut foreteller, &files, "stdio.h"), 2 + 5 + 1 + 4 + 1 + 3 + 1);
        // What was there at last is asked for, and the first attempt.
        assert_eq!(find(&mut foreteller, &files, "stdio.h"), 2);
        assert_eq!(find(&mut foreteller, &files, "sys/types.h"), 2);
        assert_eq!(find(&mut foreteller, &files, "own.h"), 2);
        assert_eq!(find(&mut foreteller, &files, "a.h"), 2);
        assert_eq!(find(&mut foreteller, &files, "none.h"), 1);
    }

    #[test]
    fn links_and_what_cannot_be_said_end_it() {
        let files = Files(BTreeSet::from(["/usr/include/stdio.h"]));
        let mut foreteller = Foreteller::default();
        find(&mut foreteller, &files, "stdio.h");
        foreteller.looked_up(&open("include/x.h"), ENOENT);
        for odd in [There::Link, There::Unknown] {
            let told = foreteller.foretell(|path, _| {
                Ok::<_, Infallible>(if path == b"/usr/lib" { odd } else { files.there(path) })
            });
            let told: Vec<_> = told.expect("no error").into_iter().map(|(lookup, _)| lookup).collect();
            assert_eq!(told, [open("src/x.h"), readlink("/usr")]);
        }
        assert_eq!(foreteller.foretell(|_, _| Err("lost")), Err("lost"));
    }

    #[test]
    fn a_pattern_that_leads_back_ends() {
        let mut foreteller = Foreteller::default();
        for path in ["a/x", "b/x", "a/x", "b/x", "a/x"] {
            foreteller.looked_up(&open(path), ENOENT);
        }
        let told = foreteller.foretell(|_, _| Ok::<_, Infallible>(There::Nothing)).expect("no error");
        assert_eq!(told.len(), FORETOLD_MAX);
        foreteller.looked_up(&open("a/x"), 3);
        assert!(
            foreteller.foretell(|_, _| Ok::<_, Infallible>(There::Nothing)).expect("no error").is_empty()
        );
    }

    #[test]
    fn only_lookups_that_leave_nothing_behind_count() {
        let here = u64::from(AT_FDCWD);
        let none = [
            request(call::OPENAT, [here, 0x5000, O_CREAT, 0o644, 0, 0], "a"),
            request(call::OPENAT, [here, 0x5000, O_TMPFILE, 0o644, 0, 0], "a"),
            request(call::OPENAT, [5, 0x5000, 0, 0, 0, 0], "a"),
            request(call::OPENAT, [here, 0x5000, 0, 0, 0, 0], ""),
            request(call::READLINK, [0x5000, 0x6000, 0, 0, 0, 0], "a"),
            request(call::NEWFSTATAT, [here, 0x5000, 0x6000, 0x1000, 0, 0], "a"),
            request(87, [0x5000, 0, 0, 0, 0, 0], "a"),
            request(call::OPEN, [0x5000, 0, 0, 0, 0, 0], "a\0b"),
        ];
        assert!(none.iter().all(|request| Lookup::of(request).is_none()));
        assert_eq!(Lookup::of(&none[0][..20]), None);
        assert_eq!(Lookup::of(&none[0][..REQUEST_HEAD]), None);
        // Where the path lies does not matter, and the rest of what a register holds.
        let one = request(call::OPENAT, [here, 0x5000, 0, 7, 9, 9], "a");
        let same = request(call::OPENAT, [here | 0xffff_ffff_0000_0000, 0x7000, 0, 8, 0, 0], "a");
        assert_eq!(Lookup::of(&one), Lookup::of(&same));
        assert!(Lookup::of(&one).is_some());
    }

    #[test]
    fn names_are_whole_components() {
        let name = |first: &str, second: &str| common_name(first.as_bytes(), second.as_bytes());
        assert_eq!(name("include/time.h", "src/time.h"), 6);
        assert_eq!(name("/a/include/sys/x.h", "/b/include/sys/x.h"), 15);
        assert_eq!(name("atime.h", "time.h"), 0);
        assert_eq!(name("time.h", "/time.h"), 6);
        assert_eq!(name("same", "same"), 4);
        assert_eq!(name("a/b", "a/c"), 0);
        assert_eq!(prefixes(b"/usr//lib/x"), [&b"/usr"[..], b"/usr//lib", b"/usr//lib/x"]);
        assert!(prefixes(b"usr/lib").is_empty());
    }

    #[test]
    fn what_travels_keeps_its_bytes() {
        let foretold = [(open("a/b"), ENOENT), (readlink("/c"), EINVAL)];
        let mut bytes = Vec::new();
        encode(&foretold, &mut bytes);
        let mut expected = vec![1, 1, 0, 0, 0xfe, 0xff, 0xff, 0xff, 0, 1, 0, 0, 0, 0, 0, 0];
        expected.extend([0, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, b'a', b'/', b'b']);
        assert_eq!(bytes[..31], expected);
        assert_eq!(decode(&bytes).as_deref(), Some(&foretold[..]));
        assert_eq!(decode(&bytes[..30]), None);
        assert_eq!(decode(&[]), Some(Vec::new()));
        let mut other = bytes.clone();
        other[4] = 0;
        assert_eq!(decode(&other), None, "only failures are foretold");
        let many: Vec<u8> = std::iter::repeat_n(&bytes[..31], FORETOLD_MAX + 1).flatten().copied().collect();
        assert_eq!(decode(&many), None);
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_taken_or_refused(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200)) {
            if let Some(foretold) = decode(&bytes) {
                let mut again = Vec::new();
                encode(&foretold, &mut again);
                proptest::prop_assert_eq!(again, bytes);
            }
        }
    }
}
