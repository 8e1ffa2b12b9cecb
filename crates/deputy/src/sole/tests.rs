//! What goes with a process, and what shows that others have it.

use super::others::Held;
use super::*;
use crate::eligible::Sharers;
use minka_image::PAGE;
use minka_kernel::shared::{Shared, memfd};
use std::collections::BTreeMap;
use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::process::{Command, Stdio};

#[test]
fn of_a_file_that_is_cut_short_while_pages_come_home_the_rest_is_written() {
    let (start, size, least) = (0x10_0000, 4 * PAGE, Least::default());
    least.store(size, Ordering::SeqCst);
    let area = Area {
        start,
        end: start + size,
        offset: 0,
        object: None,
        file: None,
        size: Some((size, least.clone())),
    };
    let sole = Sole { areas: vec![area], ..Sole::default() };
    let content = vec![5; 3 * PAGE as usize];
    let written = std::cell::RefCell::new(Vec::new());
    let outcome = sole.write_fitting(start, &content, |at, piece| {
        written.borrow_mut().push((at - start, piece.len() as u64));
        let cut = least.swap(PAGE, Ordering::SeqCst) == PAGE;
        if cut { Ok(()) } else { Err(io::Error::from_raw_os_error(5)) }
    });
    assert!(outcome.is_ok());
    assert_eq!(*written.borrow(), [(0, 3 * PAGE), (0, PAGE)]);
    let fails = sole.write_fitting(start, &content, |_, _| Err(io::Error::from_raw_os_error(5)));
    assert!(fails.is_err(), "what cannot be written for another reason is not left out");
}

fn own() -> i32 {
    std::process::id().cast_signed()
}

/// A memfd of eight pages, mapped, and what the maps say of it.
fn mapped(name: &CStr) -> (OwnedFd, Shared, Vec<Mapping>) {
    let memfd = memfd(name, 8 * PAGE as usize).expect("a memfd");
    let shared = Shared::map(memfd.as_fd(), 8 * PAGE as usize).expect("map it");
    let maps = maps_of(name);
    (memfd, shared, maps)
}

fn maps_of(name: &CStr) -> Vec<Mapping> {
    let path = format!("/memfd:{}", name.to_str().expect("text"));
    let maps = minka_kernel::procfs::maps(own()).expect("its maps");
    let is_it =
        |mapping: &Mapping| matches!(&mapping.backing, Backing::File { path: found, .. } if *found == path);
    // Anonymous shared memory is a memfd without a descriptor.
    let anonymous = || Backing::File { path: "/dev/zero".to_owned(), deleted: true };
    maps.into_iter().filter(is_it).map(|mapping| Mapping { backing: anonymous(), ..mapping }).collect()
}

#[test]
fn what_only_this_process_has_goes_with_it() {
    let (memfd, shared, maps) = mapped(c"sole alone");
    shared.write(2 * PAGE as usize, &[1]);
    let sole = look_among(own(), &maps, || Ok(vec![own()])).expect("nobody else has it");
    let start = maps[0].start;
    assert!(sole.holds(&maps[0]) && !sole.is_empty());
    let other = tempfile::tempfile().expect("a file");
    assert!(sole.is_behind(own(), memfd.as_raw_fd()) && !sole.is_behind(own(), other.as_raw_fd()));
    if let Some(content) = sole.content(start + PAGE, start + 6 * PAGE) {
        assert_eq!(content, [(start + 2 * PAGE, start + 3 * PAGE)]);
    }
}

#[test]
fn whoever_has_a_descriptor_shares_it() {
    let (memfd, _shared, maps) = mapped(c"sole passed on");
    let mut child = Command::new("sleep").arg("60").stdin(Stdio::from(memfd)).spawn().expect("start");
    let pid = child.id().cast_signed();
    let both = || Ok(vec![own(), pid]);
    let found = look_among(own(), &maps, both);
    child.kill().expect("end it");
    child.wait().expect("wait for it");
    let path = "/dev/zero".to_owned();
    assert_eq!(found.err(), Some(Reason::SharedWith { path, with: Sharers(vec![pid]) }));
    assert!(look_among(own(), &maps, both).is_ok());
}

/// As [`mapped`], seen as what it is; nothing where the kernel does not tell who has it.
fn mapped_as_memfd(name: &CStr) -> Option<(OwnedFd, Shared, Vec<Mapping>)> {
    let (memfd, shared, maps) = mapped(name);
    let path = format!("/memfd:{}", name.to_str().expect("text"));
    let named = |mapping| Mapping { backing: Backing::File { path: path.clone(), deleted: true }, ..mapping };
    let maps: Vec<Mapping> = maps.into_iter().map(named).collect();
    match obstacle(own(), &maps) {
        Ok(()) => Some((memfd, shared, maps)),
        Err(reason) => {
            assert!(matches!(reason, Reason::SharedUncounted { .. }), "{reason}");
            println!("not looked at: {reason}");
            None
        }
    }
}

#[test]
fn a_memfd_goes_with_its_process_if_nobody_else_has_it() {
    let Some((memfd, _shared, maps)) = mapped_as_memfd(c"sole counted") else { return };
    let sole = look_among(own(), &maps, || Ok(vec![own()])).expect("nobody is seen to have it");
    assert_eq!(sole.close_to_others(own(), &[own()]), Ok(()));
    let path = "/memfd:sole counted".to_owned();
    // Somebody who is not looked at.
    let mut child = Command::new("sleep").arg("60").stdin(Stdio::from(memfd)).spawn().expect("start");
    let found = sole.close_to_others(own(), &[own()]);
    sole.open();
    let with_it = sole.close_to_others(own(), &[own(), child.id().cast_signed()]);
    sole.open();
    let pid = child.id().cast_signed();
    child.kill().expect("end it");
    child.wait().expect("wait for it");
    // It would have it, but not map it.
    let otherwise = Reason::SharedOtherwise { path: path.clone(), pid };
    assert_eq!((found, with_it), (Err(Reason::SharedByDescriptor(path)), Err(otherwise)));
    assert_eq!(sole.close_to_others(own(), &[own()]), Ok(()));
}

#[test]
fn what_is_mapped_twice_is_one_object() {
    let (memfd, _shared, once) = mapped(c"sole twice");
    let alone = |maps: &[Mapping]| look_among(own(), maps, || Ok(vec![own()])).expect("nobody else has it");
    assert_eq!((alone(&once).part(&once[0]), alone(&once).objects()), (None, vec![]));
    let _again = Shared::map(memfd.as_fd(), PAGE as usize).expect("map it again");
    let maps = maps_of(c"sole twice");
    let sole = alone(&maps);
    assert_eq!(sole.objects(), [8 * PAGE]);
    let part = Some(Part { object: 0, offset: 0 });
    assert!(maps.len() == 2 && maps.iter().all(|mapping| sole.part(mapping) == part), "{maps:?}");
}

#[test]
fn what_the_kernel_counts_is_read() {
    let text = "\
7f00-7f01 rw-s 00000000 00:01 77                         /dev/zero (deleted)
Rss:                  12 kB
Pss:                   8 kB
Pss_Dirty:             8 kB
Shared_Clean:          1 kB
Shared_Dirty:          4 kB
VmFlags: rd wr sh
abcd-abce rw-p 00000000 00:00 0
Pss:                   3 kB";
    let held = |shared_kib, portion_kib| Held { shared_kib, portion_kib };
    assert_eq!(Held::read(text), BTreeMap::from([(0x7f00, held(5, 8)), (0xabcd, held(0, 3))]));
}

#[test]
fn who_is_not_seen_is_noticed_by_the_pages() {
    let (memfd, shared, _) = mapped(c"sole unseen");
    let again = Shared::map(memfd.as_fd(), 8 * PAGE as usize).expect("map it again");
    (0..8).for_each(|page| shared.write(page * PAGE as usize, &[1]));
    (0..4).for_each(|page| again.write(page * PAGE as usize, &[1]));
    let maps = maps_of(c"sole unseen");
    let of = |maps: &[Mapping]| {
        let objects = shared::objects(maps).expect("shared memory");
        mapped_by_the_unseen(own(), &objects).expect("what the kernel counts")
    };
    assert_eq!(maps.len(), 2);
    assert_eq!(of(&maps), None);
    // As it looks if one of the two is somebody else's.
    let path = Some("/dev/zero".to_owned());
    assert!(maps.iter().all(|mapping| of(std::slice::from_ref(mapping)) == path));
    let third = Shared::map(memfd.as_fd(), 8 * PAGE as usize).expect("map it once more");
    (0..8).for_each(|page| third.write(page * PAGE as usize, &[1]));
    assert_eq!(of(&maps), path);
    assert_eq!(of(&maps_of(c"sole unseen")), None);
}

#[test]
fn a_private_process_has_nothing_to_take_along() {
    assert!(look(own(), &[]).is_ok_and(|sole| sole.is_empty() && sole.objects().is_empty()));
}
