//! Calls with code of their own use the marshaller too: execve's strings, clone3's structure.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

use minka_syscalls::lookup;
use minka_syscalls::marshal::{self, Malformed, Memory, Reason, Refusal};

/// Memory from here on.
const BASE: u64 = 0x10_0000;
const AREA: usize = 1 << 20;
const AREA_ADDRESS: u64 = 0x7000_0000_0000;

struct Guest(Vec<u8>);

impl Guest {
    fn new(size: usize) -> Self {
        Self(vec![0; size])
    }

    fn with(mut self, offset: usize, bytes: &[u8]) -> Self {
        self.0[offset..offset + bytes.len()].copy_from_slice(bytes);
        self
    }

    fn words(self, offset: usize, words: &[u64]) -> Self {
        self.with(offset, &words.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<_>>())
    }
}

impl Memory for Guest {
    fn read(&self, address: u64, into: &mut [u8]) -> usize {
        let from = address.checked_sub(BASE).map_or(usize::MAX, |from| from as usize);
        let length = self.0.len().saturating_sub(from).min(into.len());
        if length > 0 {
            into[..length].copy_from_slice(&self.0[from..from + length]);
        }
        length
    }

    fn write(&mut self, _: u64, _: &[u8]) -> usize {
        0
    }
}

/// A call as it would be made at home, with its area.
fn carried(number: i64, args: [u64; 6], guest: &Guest) -> ([u64; 6], Vec<u8>) {
    let mut body = Vec::new();
    marshal::gather(lookup(number as u64).unwrap(), &args, guest, AREA, &mut body).unwrap();
    let mut area = vec![0xa5; AREA];
    assert!(matches!(marshal::place(&body, &mut area, AREA_ADDRESS), Err(Malformed::NotForwarded(_))));
    let placed = marshal::place_own(&body, &mut area, AREA_ADDRESS).unwrap();
    (*placed.arguments(), area)
}

fn string(area: &[u8], address: u64) -> Vec<u8> {
    let from = (address - AREA_ADDRESS) as usize;
    area[from..].split(|&byte| byte == 0).next().unwrap().to_vec()
}

fn pointers(area: &[u8], address: u64) -> Vec<u64> {
    let from = (address - AREA_ADDRESS) as usize;
    let words = area[from..].as_chunks::<8>().0.iter().map(|word| u64::from_le_bytes(*word));
    words.take_while(|word| *word != 0).collect()
}

#[test]
fn strings_of_a_program() {
    let guest = Guest::new(8192)
        .with(0, b"/bin/sh\0-c\0echo $A\0A=1\0")
        .words(4096 - 16, &[BASE, BASE + 8, BASE + 11, 0])
        .words(6000, &[BASE + 19, 0]);
    let (args, area) = carried(libc::SYS_execve, [BASE, BASE + 4080, BASE + 6000, 0, 0, 0], &guest);
    assert_eq!(string(&area, args[0]), b"/bin/sh");
    let argv: Vec<_> = pointers(&area, args[1]).into_iter().map(|address| string(&area, address)).collect();
    assert_eq!(argv, [&b"/bin/sh"[..], b"-c", b"echo $A"]);
    let envp: Vec<_> = pointers(&area, args[2]).into_iter().map(|address| string(&area, address)).collect();
    assert_eq!(envp, [b"A=1"]);
}

#[test]
fn vectors_may_be_missing_empty_or_bad() {
    let guest = Guest::new(4096).with(0, b"name\0").words(64, &[0]).words(4080, &[BASE, BASE]);
    let (args, area) = carried(libc::SYS_execve, [BASE, 0, BASE + 64, 0, 0, 0], &guest);
    assert_eq!((args[1], pointers(&area, args[2])), (0, vec![]));
    // A vector that runs into bad memory faults as a whole, after the file has been looked for.
    let (args, _) = carried(libc::SYS_execve, [BASE, BASE + 4080, 1 << 60, 0, 0, 0], &guest);
    assert_eq!(args[1], 16);
    assert_eq!(args[2], 1 << 63);
    // A bad string faults by itself.
    let guest = Guest::new(4096).with(0, b"name\0").words(64, &[BASE, BASE + (1 << 30), u64::MAX, 0]);
    let (args, area) = carried(libc::SYS_execve, [BASE, BASE + 64, 0, 0, 0, 0], &guest);
    assert_eq!(pointers(&area, args[1])[1..], [16, 1 << 63]);
}

#[test]
fn strings_longer_than_any_stay_too_long() {
    let guest = Guest::new(400_000).with(200_000, &[b'x'; 200_000]).words(64, &[BASE + 200_000, 0]);
    let (args, area) = carried(libc::SYS_execve, [BASE + 200_000, BASE + 64, 0, 0, 0, 0], &guest);
    assert_eq!(string(&area, args[0]).len(), 4096);
    assert_eq!(string(&area, pointers(&area, args[1])[0]).len(), 131_073);
}

#[test]
fn what_does_not_fit_goes_home() {
    let guest = Guest::new(400_000).with(200_000, &[b'x'; 150_000]).words(0, &[BASE + 200_000; 20]);
    let mut body = Vec::new();
    let spec = lookup(libc::SYS_execve as u64).unwrap();
    let refusal = marshal::gather(spec, &[BASE + 200_000, BASE, 0, 0, 0, 0], &guest, AREA, &mut body);
    assert_eq!(refusal, Err(Refusal::Homeward(Reason::TooLarge("execve"))));
    assert!(body.is_empty());
}

#[test]
fn structures_keep_the_addresses_inside() {
    let guest = Guest::new(4096).words(64, &[0x100, 1, 2, 3, 17, 0x5000, 0x1000, 4]);
    let (args, area) = carried(libc::SYS_clone3, [BASE + 64, 64, 0, 0, 0, 0], &guest);
    let from = (args[0] - AREA_ADDRESS) as usize;
    assert_eq!(area[from..from + 64], guest.0[64..128]);
}
