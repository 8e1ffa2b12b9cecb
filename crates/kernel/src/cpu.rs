//! The feature words of this machine's processor.

use minka_image::cpu::{Features, WORDS};
use minka_image::xstate::{Component, Layout};
use std::arch::x86_64::{__cpuid, __cpuid_count, _xgetbv};
use std::sync::OnceLock;

/// Them, in the order of [`minka_image::cpu::WORD_NAMES`]. Read once: where the machine is a virtual one, whoever asks its
/// processor waits for the hypervisor each time.
pub fn features() -> Features {
    static FEATURES: OnceLock<Features> = OnceLock::new();
    *FEATURES.get_or_init(read_features)
}

fn read_features() -> Features {
    let one = __cpuid(1);
    let highest = __cpuid(0).eax;
    let leaf = |leaf: u32, subleaf: u32| (leaf <= highest).then(|| __cpuid_count(leaf, subleaf));
    let seven = leaf(7, 0);
    let seven_one = seven.filter(|seven| seven.eax >= 1).and_then(|_| leaf(7, 1));
    let xsave = leaf(0xd, 1);
    let extended = (__cpuid(0x8000_0000).eax >= 0x8000_0001).then(|| __cpuid(0x8000_0001));
    let osxsave = one.ecx >> 27 & 1 == 1;
    let words: [u64; WORDS] = [
        one.ecx.into(),
        one.edx.into(),
        seven.map_or(0, |r| r.ebx).into(),
        seven.map_or(0, |r| r.ecx).into(),
        seven.map_or(0, |r| r.edx).into(),
        seven_one.map_or(0, |r| r.eax).into(),
        xsave.map_or(0, |r| r.eax).into(),
        extended.map_or(0, |r| r.ecx).into(),
        if osxsave { xcr0() } else { 0 },
    ];
    Features(words)
}

/// Where this machine's processor keeps which extended registers (CPUID leaf 0xd); read once, too.
pub fn layout() -> Layout {
    static LAYOUT: OnceLock<Layout> = OnceLock::new();
    LAYOUT.get_or_init(read_layout).clone()
}

fn read_layout() -> Layout {
    if __cpuid(1).ecx >> 27 & 1 == 0 {
        return Layout::default();
    }
    let states = xcr0();
    let numbers = (2..63).filter(|number| states >> number & 1 == 1);
    let found = numbers.map(|number| {
        let leaf = __cpuid_count(0xd, number);
        Component { number, offset: leaf.ebx, size: leaf.eax }
    });
    Layout(found.collect())
}

#[target_feature(enable = "xsave")]
fn read_xcr0() -> u64 {
    // SAFETY: XGETBV of register 0 is defined wherever OSXSAVE is set, which the caller has checked.
    unsafe { _xgetbv(0) }
}

fn xcr0() -> u64 {
    // SAFETY: called only where CPUID reports OSXSAVE, which implies XSAVE.
    unsafe { read_xcr0() }
}
