use proptest::prelude::*;

use super::*;

fn id(id: u16) -> NodeId {
    NodeId::new(id).unwrap()
}

fn entry(node: u16, age_ms: u32) -> Entry {
    let info = Info {
        load: Load(250),
        running: Load(310),
        haste: Load(30),
        cpus: 8,
        speed: Speed::new(34_567).unwrap(),
        utilisation: 97,
        io_stall: 3,
        memory_mib: 32_000,
        free_mib: 1_000,
        available_mib: 20_000,
        flags: Flags { blocked: true, leaving: true, ..Flags::default() },
        devices: Some([
            Devices::new(1, Some(1), 0),
            Devices::new(8, None, 2),
            Devices::default(),
            Devices::new(15, Some(3), 9),
        ]),
    };
    Entry { node: id(node), sequence: 0x0102_0304_0506, age_ms, info }
}

fn written(entries: &[Entry]) -> Vec<u8> {
    let mut bytes = vec![0xff; 3];
    Datagram::write(id(513), entries.iter().copied(), &mut bytes);
    bytes
}

#[test]
fn the_bytes_are_these() {
    let bytes = written(&[entry(7, 1500)]);
    let expected = [
        &[2, b'W', 2, 1, 0, 1][..],
        &[0, 7],
        &[1, 2, 3, 4, 5, 6],
        &[0, 0, 0x05, 0xdc],
        &[0, 0, 250],
        &[0, 31],
        &[0, 0, 30],
        &[0, 0x87, 0x07],
        &[0, 8],
        &[0, 0x7d, 0x00],
        &[0, 0x03, 0xe8],
        &[0, 0x4e, 0x20],
        &[97, 3, 9],
        &[0x11, 0x8f, 0x00, 0xf3, 0x02, 0x09],
    ]
    .concat();
    assert_eq!(bytes, expected);
    assert_eq!((HEADER_BYTES, ENTRY_BYTES, DATAGRAM_BYTES_MAX), (6, 43, 1382));
}

#[test]
fn what_was_written_is_read() {
    for count in [0, 1, WINDOW_MAX] {
        let entries: Vec<_> = (0..count).map(|n| entry(n as u16 + 1, n as u32 * 10)).collect();
        let read = Datagram::read(&written(&entries)).unwrap();
        assert_eq!((read.sender, read.entries), (id(513), entries));
    }
}

#[test]
fn what_nobody_sends_is_refused() {
    let good = written(&[entry(7, 10), entry(8, 20)]);
    let check = |position: usize, byte: u8, expected| {
        let mut bytes = good.clone();
        bytes[position] = byte;
        assert_eq!(Datagram::read(&bytes).unwrap_err(), expected, "{position}");
    };
    let (second, line) = (HEADER_BYTES + ENTRY_BYTES, HEADER_BYTES);
    check(0, 1, DatagramError::Unknown);
    check(0, 3, DatagramError::Unknown);
    check(1, b'X', DatagramError::Unknown);
    check(5, 1, DatagramError::Length);
    check(5, 3, DatagramError::Length);
    check(4, 0xff, DatagramError::TooMany);
    check(second + 1, 7, DatagramError::Node);
    check(second + 1, 0, DatagramError::Node);
    check(second + 11, 9, DatagramError::Age);
    check(line + 8, 0xff, DatagramError::Age);
    check(line + 23, 0xff, DatagramError::Figures);
    check(line + 24, 0, DatagramError::Figures);
    check(line + 28, 0xff, DatagramError::Figures);
    check(line + 31, 0xff, DatagramError::Figures);
    check(line + 34, 101, DatagramError::Figures);
    check(line + 36, 16, DatagramError::Figures);
    // More free ones than there are, free ones of none, and drained ones of none.
    check(line + 37, 0x12, DatagramError::Figures);
    check(line + 39, 0x01, DatagramError::Figures);
    check(line + 42, 0x19, DatagramError::Figures);
    assert_eq!(Datagram::read(&[2, b'W', 0]), Err(DatagramError::Short));
    assert_eq!(Datagram::read(&[2, b'W', 0, 0, 0, 0]), Err(DatagramError::Node));
}

#[test]
fn accelerators_of_which_nothing_is_known_are_not_none() {
    for devices in [None, Some([Devices::default(); 4]), Some([Devices::new(15, None, 14); 4])] {
        let mut told = entry(7, 10);
        told.info.devices = devices;
        assert_eq!(Datagram::read(&written(&[told])).unwrap().entries, [told]);
    }
}

#[test]
fn figures_that_are_too_large_are_told_as_large_as_can_be() {
    let mut large = entry(7, 10);
    large.info.memory_mib = 20 << 20;
    large.info.load = Load(u32::MAX);
    let told = Datagram::read(&written(&[large])).unwrap().entries[0].info;
    assert_eq!((told.memory_mib, told.load), (0xff_ffff, Load(0xff_ffff)));
}

proptest! {
    #[test]
    fn garbage_is_no_window_and_no_panic(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
        // Whatever is accepted is bounded, and can be written again as it was.
        if let Ok(datagram) = Datagram::read(&bytes) {
            let mut again = Vec::new();
            Datagram::write(datagram.sender, datagram.entries, &mut again);
            prop_assert_eq!(again, bytes);
        }
    }

    #[test]
    fn a_window_with_changed_bytes_is_refused_or_one_that_could_have_been_sent(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4)
    ) {
        let mut bytes = written(&[entry(7, 10), entry(8, 20), entry(9, 30)]);
        for (position, byte) in changes {
            let position = position.index(bytes.len());
            bytes[position] = byte;
        }
        if let Ok(datagram) = Datagram::read(&bytes) {
            let mut again = Vec::new();
            Datagram::write(datagram.sender, datagram.entries, &mut again);
            prop_assert_eq!(again, bytes);
        }
    }
}
