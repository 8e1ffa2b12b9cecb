//! CPU features by name, and which of them a target lacks.
//!
//! A program may have asked CPUID at any time and remembers the answer privately, so a target must have every
//! feature that the home has. The words compared and the names of their bits are those of the Intel SDM and of
//! Linux's `/proc/cpuinfo`; a bit without a name here is shown by leaf, register and number.

pub mod mask;

use serde::{Deserialize, Serialize};

/// Number of feature words.
pub const WORDS: usize = 9;

/// The feature words of one machine, in the order of [`WORD_NAMES`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Features(pub [u64; WORDS]);

/// Where each word comes from: CPUID leaf.subleaf.register, or the XCR0 register.
pub const WORD_NAMES: [&str; WORDS] =
    ["1.ecx", "1.edx", "7.0.ebx", "7.0.ecx", "7.0.edx", "7.1.eax", "d.1.eax", "80000001.ecx", "xcr0"];

/// Bits that say nothing about what a program may execute: OSXSAVE mirrors XCR0, HYPERVISOR, and bits of
/// `7.0.edx` that describe mitigations and platform facts (MD_CLEAR, IBRS, STIBP, L1D_FLUSH, ARCH_CAPABILITIES,
/// CORE_CAPABILITIES, SSBD, HYBRID, PCONFIG, …). The APIC id bits are not in these words.
const IGNORED: [u64; WORDS] = [
    1 << 31
        | 1 << 3
        | 1 << 5
        | 1 << 6
        | 1 << 7
        | 1 << 8
        | 1 << 14
        | 1 << 15
        | 1 << 17
        | 1 << 18
        | 1 << 21
        | 1 << 24,
    1 << 1
        | 1 << 2
        | 1 << 3
        | 1 << 6
        | 1 << 7
        | 1 << 9
        | 1 << 12
        | 1 << 13
        | 1 << 14
        | 1 << 16
        | 1 << 17
        | 1 << 18
        | 1 << 21
        | 1 << 22
        | 1 << 27
        | 1 << 28
        | 1 << 29
        | 1 << 30
        | 1 << 31,
    1 << 1 | 1 << 2 | 1 << 6 | 1 << 7 | 1 << 10 | 1 << 12 | 1 << 13 | 1 << 15 | 1 << 20 | 1 << 22 | 1 << 25,
    1 << 2 | 1 << 13 | 1 << 16 | 1 << 24 | 1 << 29 | 1 << 30 | 1 << 31,
    !(1 << 2 | 1 << 3 | 1 << 5 | 1 << 8 | 1 << 14 | 1 << 16 | 1 << 22 | 1 << 23 | 1 << 24 | 1 << 25),
    1 << 10 | 1 << 11 | 1 << 12 | 1 << 19 | 1 << 22 | 1 << 26,
    1 << 3,
    !(1 << 0 | 1 << 5 | 1 << 6 | 1 << 7 | 1 << 8 | 1 << 11 | 1 << 16 | 1 << 21),
    0,
];

#[rustfmt::skip]
const NAMES: &[(usize, u32, &str)] = &[
    (0, 0, "sse3"), (0, 1, "pclmulqdq"), (0, 9, "ssse3"), (0, 12, "fma"), (0, 13, "cx16"), (0, 19, "sse4_1"),
    (0, 20, "sse4_2"), (0, 22, "movbe"), (0, 23, "popcnt"), (0, 25, "aes"), (0, 26, "xsave"), (0, 27, "osxsave"),
    (0, 28, "avx"), (0, 29, "f16c"), (0, 30, "rdrand"),
    (1, 0, "fpu"), (1, 4, "tsc"), (1, 5, "msr"), (1, 8, "cx8"), (1, 11, "sep"), (1, 15, "cmov"), (1, 19, "clflush"),
    (1, 23, "mmx"), (1, 24, "fxsr"), (1, 25, "sse"), (1, 26, "sse2"),
    (2, 0, "fsgsbase"), (2, 3, "bmi1"), (2, 4, "hle"), (2, 5, "avx2"), (2, 8, "bmi2"), (2, 9, "erms"), (2, 11, "rtm"),
    (2, 14, "mpx"), (2, 16, "avx512f"), (2, 17, "avx512dq"), (2, 18, "rdseed"), (2, 19, "adx"), (2, 21, "avx512ifma"),
    (2, 23, "clflushopt"), (2, 24, "clwb"), (2, 26, "avx512pf"), (2, 27, "avx512er"), (2, 28, "avx512cd"),
    (2, 29, "sha_ni"), (2, 30, "avx512bw"), (2, 31, "avx512vl"),
    (3, 0, "prefetchwt1"), (3, 1, "avx512vbmi"), (3, 3, "pku"), (3, 4, "ospke"), (3, 5, "waitpkg"),
    (3, 6, "avx512_vbmi2"), (3, 7, "shstk"), (3, 8, "gfni"), (3, 9, "vaes"), (3, 10, "vpclmulqdq"),
    (3, 11, "avx512_vnni"), (3, 12, "avx512_bitalg"), (3, 14, "avx512_vpopcntdq"), (3, 22, "rdpid"),
    (3, 25, "cldemote"), (3, 27, "movdiri"), (3, 28, "movdir64b"),
    (4, 2, "avx512_4vnniw"), (4, 3, "avx512_4fmaps"), (4, 5, "uintr"), (4, 8, "avx512_vp2intersect"),
    (4, 14, "serialize"), (4, 16, "tsxldtrk"), (4, 22, "amx_bf16"), (4, 23, "avx512_fp16"), (4, 24, "amx_tile"),
    (4, 25, "amx_int8"),
    (5, 4, "avx_vnni"), (5, 5, "avx512_bf16"), (5, 21, "amx_fp16"), (5, 23, "avx_ifma"),
    (6, 0, "xsaveopt"), (6, 1, "xsavec"), (6, 2, "xgetbv1"), (6, 4, "xfd"),
    (7, 0, "lahf_lm"), (7, 5, "abm"), (7, 6, "sse4a"), (7, 7, "misalignsse"), (7, 8, "3dnowprefetch"), (7, 11, "xop"),
    (7, 16, "fma4"), (7, 21, "tbm"),
    (8, 0, "x87 state"), (8, 1, "sse state"), (8, 2, "avx state"), (8, 5, "avx512 opmask state"),
    (8, 6, "avx512 zmm_hi256 state"), (8, 7, "avx512 hi16_zmm state"), (8, 9, "pkru state"),
    (8, 17, "amx tilecfg state"), (8, 18, "amx tiledata state"),
];

/// The word with the components of extended state.
const STATES: usize = 8;

/// Features that are there only if the system keeps these components of extended state: AVX's, AVX-512's and AMX's.
#[rustfmt::skip]
const NEEDS_STATE: &[(u64, &[(usize, u32)])] = &[
    (1 << 2, &[(0, 12), (0, 28), (0, 29), (2, 5), (3, 9), (3, 10), (5, 4), (5, 23), (7, 11), (7, 16)]),
    (1 << 2 | 7 << 5, &[
        (2, 16), (2, 17), (2, 21), (2, 26), (2, 27), (2, 28), (2, 30), (2, 31), (3, 1), (3, 6), (3, 11), (3, 12), (3, 14),
        (4, 2), (4, 3), (4, 8), (4, 23), (5, 5),
    ]),
    (3 << 17, &[(4, 22), (4, 24), (4, 25), (5, 21)]),
];

/// The name of a component of extended state.
pub fn state_name(component: u32) -> String {
    name(STATES, component)
}

impl Features {
    /// The features that `target` lacks, by name.
    pub fn missing_on(&self, target: &Features) -> Vec<String> {
        let mut missing = Vec::new();
        for (word, ignored) in IGNORED.iter().enumerate() {
            let lacking = self.0[word] & !target.0[word] & !ignored;
            missing.extend((0..64).filter(|bit| lacking >> bit & 1 == 1).map(|bit| name(word, bit)));
        }
        missing
    }

    /// The features that both have. What needs registers that one of them does not keep is not among them.
    pub fn common(&self, other: &Self) -> Self {
        let mut both = Self(std::array::from_fn(|word| self.0[word] & other.0[word]));
        for (states, bits) in NEEDS_STATE {
            if both.0[STATES] & states != *states {
                bits.iter().for_each(|(word, bit)| both.0[*word] &= !(1 << bit));
            }
        }
        both
    }

    /// Whether a feature is among them, by its name.
    fn has(&self, name: &str) -> bool {
        NAMES.iter().any(|(word, bit, known)| *known == name && self.0[*word] >> bit & 1 == 1)
    }

    /// The components of extended state (XCR0) among these features.
    pub fn states(&self) -> u64 {
        self.0[STATES]
    }

    /// These features without some, given by name; a name that is not known is returned as the error.
    pub fn without(mut self, names: &[String]) -> Result<Self, String> {
        for wanted in names {
            let (word, bit, _) =
                NAMES.iter().find(|(_, _, known)| known == wanted).ok_or_else(|| wanted.to_owned())?;
            self.0[*word] &= !(1 << bit);
        }
        Ok(self)
    }
}

fn name(word: usize, bit: u32) -> String {
    NAMES
        .iter()
        .find(|(w, b, _)| (*w, *b) == (word, bit))
        .map_or_else(|| format!("cpuid {} bit {bit}", WORD_NAMES[word]), |(_, _, name)| (*name).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_features_are_named() {
        let mut home = Features::default();
        home.0[2] = 1 << 5 | 1 << 16;
        home.0[0] = 1 << 31;
        let mut target = home;
        assert_eq!(home.missing_on(&target), Vec::<String>::new());
        target.0[2] = 1 << 16;
        target.0[0] = 0;
        assert_eq!(home.missing_on(&target), ["avx2"]);
        assert!(target.missing_on(&home).is_empty());
        home.0[5] = 1 << 30;
        assert_eq!(home.missing_on(&target), ["avx2", "cpuid 7.1.eax bit 30"]);
    }

    #[test]
    fn what_both_have_leaves_out_what_needs_registers_that_one_does_not_keep() {
        let all = Features([u64::MAX; WORDS]);
        let poorer = all.without(&["avx state".into(), "sse4_2".into()]).expect("known names");
        let both = all.common(&poorer);
        assert!(["avx", "avx2", "fma", "avx512f", "vaes", "sse4_2"].iter().all(|name| !both.has(name)));
        assert!(["sse4_1", "bmi2", "amx_tile"].iter().all(|name| both.has(name)));
        assert_eq!(all.common(&all), all);
        assert_eq!(both.states() & 7, 3);
        assert_eq!(state_name(2), "avx state");
    }

    #[test]
    fn features_can_be_left_out_by_name() {
        let all = Features([u64::MAX; WORDS]);
        let less = all.without(&["avx2".into(), "sha_ni".into()]).expect("known names");
        assert_eq!(all.missing_on(&less), ["avx2", "sha_ni"]);
        assert_eq!(all.without(&["nonsense".into()]), Err("nonsense".into()));
    }
}
