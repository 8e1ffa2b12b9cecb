//! Having a program pick no more than two machines have, by what its libraries read from the environment.
//!
//! A program that was started so can move to the poorer one: it carries a mark ([`MARK`]) that says which features it may
//! use, for its descendants to inherit together with what keeps to them:
//!
//! | variable | whose | what is said |
//! |---|---|---|
//! | `GLIBC_TUNABLES` | the GNU C library | features that it is not to use (`glibc.cpu.hwcaps=-AVX2,…`), beside what stands there |
//! | `OPENSSL_ia32cap` | OpenSSL | bits of CPUID's answers that it is to take for zeros |
//! | `OPENBLAS_CORETYPE` | OpenBLAS | the processor for which it is to compute |
//! | `MKL_ENABLE_INSTRUCTIONS` | Intel's MKL | the instructions that it may use |
//!
//! The last three are left as they are if they are set. What asks CPUID itself picks what it likes.

use super::{Features, WORDS};
use std::fmt::Write;

/// The variable with the features that a process may use, as [`Features::to_mark`] writes them.
pub const MARK: &str = "MINKA_CPU";

const TUNABLES: &str = "GLIBC_TUNABLES";
const HWCAPS: &str = "glibc.cpu.hwcaps=";

/// What the C library calls features. It knows some by several names, by its version, and ignores those that it does not know.
/// Its `memmove` looks for none, but for what was concluded from AVX2 before any of them was taken away.
#[rustfmt::skip]
const IN_GLIBC: &[(&str, &[&str])] = &[
    ("avx", &["AVX", "AVX_Usable", "AVX_Fast_Unaligned_Load"]), ("avx2", &["AVX2", "AVX2_Usable"]), ("fma", &["FMA", "FMA_Usable"]),
    ("fma4", &["FMA4", "FMA4_Usable"]), ("bmi1", &["BMI1"]), ("bmi2", &["BMI2"]), ("abm", &["LZCNT"]),
    ("movbe", &["MOVBE"]), ("popcnt", &["POPCNT"]), ("rtm", &["RTM"]), ("erms", &["ERMS"]), ("ssse3", &["SSSE3"]),
    ("sse3", &["SSE3"]), ("sse4_1", &["SSE4_1"]), ("sse4_2", &["SSE4_2"]), ("f16c", &["F16C"]),
    ("avx512f", &["AVX512F", "AVX512F_Usable"]), ("avx512dq", &["AVX512DQ", "AVX512DQ_Usable"]),
    ("avx512cd", &["AVX512CD"]), ("avx512bw", &["AVX512BW"]), ("avx512vl", &["AVX512VL"]), ("avx512er", &["AVX512ER"]),
    ("avx512pf", &["AVX512PF"]), ("xsave", &["XSAVE"]), ("xsavec", &["XSAVEC", "XSAVEC_Usable"]),
    ("osxsave", &["OSXSAVE"]),
];

/// OpenBLAS's names of processors, the best first, and what each needs.
const IN_OPENBLAS: &[(&str, &[&str])] = &[
    ("SkylakeX", &["avx512f", "avx512cd", "avx512bw", "avx512dq", "avx512vl", "avx2", "fma"]),
    ("Haswell", &["avx2", "fma"]),
    ("Sandybridge", &["avx"]),
    ("Nehalem", &["sse4_2"]),
    ("Core2", &["ssse3"]),
    ("Prescott", &[]),
];

/// MKL's names of sets of instructions, likewise.
const IN_MKL: &[(&str, &[&str])] = &[
    ("AVX512", &["avx512f", "avx512cd", "avx512bw", "avx512dq", "avx512vl"]),
    ("AVX2", &["avx2", "fma"]),
    ("AVX", &["avx"]),
    ("SSE4_2", &[]),
];

impl Features {
    /// As the mark has them.
    pub fn to_mark(&self) -> String {
        let words: Vec<String> = self.0.iter().map(|word| format!("{word:x}")).collect();
        words.join(".")
    }

    /// From a mark; `None` if it is none.
    pub fn of_mark(mark: &str) -> Option<Self> {
        let words: Vec<u64> = mark
            .split('.')
            .take(WORDS + 1)
            .map(|word| u64::from_str_radix(word, 16).ok())
            .collect::<Option<_>>()?;
        Some(Self(words.try_into().ok()?))
    }
}

/// The variables to be set for a program that is to run on a machine with the features `own` and use no more than
/// `allowed`. `present` tells what they are at present.
pub fn environment(
    own: &Features,
    allowed: &Features,
    present: impl Fn(&str) -> Option<String>,
) -> Vec<(&'static str, String)> {
    let mut variables = vec![(MARK, allowed.to_mark())];
    if own.missing_on(allowed).is_empty() {
        return variables;
    }
    let is_denied = |name: &str| own.has(name) && !allowed.has(name);
    let denied = IN_GLIBC.iter().filter(|(name, _)| is_denied(name)).flat_map(|(_, names)| *names);
    let denied: Vec<String> = denied.map(|name| format!("-{name}")).collect();
    if !denied.is_empty() {
        variables.push((TUNABLES, tunables(&present(TUNABLES).unwrap_or_default(), &denied.join(","))));
    }
    let best = |names: &[(&'static str, &[&str])], of: &Features| {
        names.iter().find(|(_, needs)| needs.iter().all(|need| of.has(need))).map(|(name, _)| *name)
    };
    let openblas = best(IN_OPENBLAS, allowed).filter(|name| Some(*name) != best(IN_OPENBLAS, own));
    let mkl = best(IN_MKL, allowed).filter(|name| Some(*name) != best(IN_MKL, own));
    let others = [
        ("OPENSSL_ia32cap", Some(openssl(own, allowed))),
        ("OPENBLAS_CORETYPE", openblas.map(str::to_owned)),
        ("MKL_ENABLE_INSTRUCTIONS", mkl.map(str::to_owned)),
    ];
    let unset = others.into_iter().filter(|(name, _)| present(name).is_none());
    variables.extend(unset.filter_map(|(name, value)| Some((name, value?))));
    variables
}

/// What stands there, with features denied as well.
fn tunables(present: &str, denied: &str) -> String {
    let mut others: Vec<String> =
        present.split(':').filter(|one| !one.is_empty()).map(str::to_owned).collect();
    match others.iter_mut().find(|one| one.starts_with(HWCAPS)) {
        Some(own) if own.len() > HWCAPS.len() => write!(own, ",{denied}").unwrap_or_default(),
        Some(own) => own.push_str(denied),
        None => others.push(format!("{HWCAPS}{denied}")),
    }
    others.join(":")
}

/// The words of CPUID's answers that OpenSSL reads, two to a vector, with the bits that it is to take for zeros
/// (`OPENSSL_ia32cap(3)`). What AMD calls XOP it keeps in a bit that Intel uses otherwise.
fn openssl(own: &Features, allowed: &Features) -> String {
    const VECTORS: [(usize, usize); 3] = [(1, 0), (2, 3), (4, 5)];
    const XOP: u64 = 1 << 43;
    let denied = |word: usize| own.0[word] & !allowed.0[word] & !super::IGNORED[word] & u64::from(u32::MAX);
    let mut vectors = VECTORS.map(|(low, high)| denied(low) | denied(high) << 32);
    if own.has("xop") && !allowed.has("xop") {
        vectors[0] |= XOP;
    }
    vectors.map(|vector| format!("~{vector:#x}")).join(":")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn without(names: &[&str]) -> Features {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        Features([u64::MAX; WORDS]).without(&names).expect("known names")
    }

    fn variables(denied: &[&str], present: &[(&str, &str)]) -> Vec<(&'static str, String)> {
        let all = without(&[]);
        environment(&all, &all.common(&without(denied)), |name| {
            present.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        })
    }

    fn value(variables: &[(&'static str, String)], name: &str) -> Option<String> {
        variables.iter().find(|(known, _)| *known == name).map(|(_, value)| value.clone())
    }

    #[test]
    fn a_mark_is_read_as_it_was_written() {
        let features = without(&["avx2", "sse4_2"]);
        assert_eq!(Features::of_mark(&features.to_mark()), Some(features));
        for bad in ["", "1.2.3", "0.0.0.0.0.0.0.0.0.0", "0.0.0.0.0.0.0.0.x", "no"] {
            assert_eq!(Features::of_mark(bad), None, "{bad}");
        }
    }

    #[test]
    fn equals_are_told_nothing_but_that_they_are() {
        let all = without(&[]);
        assert_eq!(variables(&[], &[]), [(MARK, all.to_mark())]);
    }

    #[test]
    fn libraries_are_told_what_they_are_not_to_use() {
        let set = variables(&["avx2"], &[]);
        assert_eq!(value(&set, TUNABLES).as_deref(), Some("glibc.cpu.hwcaps=-AVX2,-AVX2_Usable"));
        assert_eq!(value(&set, "OPENSSL_ia32cap").as_deref(), Some("~0x0:~0x20:~0x0"));
        assert_eq!(value(&set, "OPENBLAS_CORETYPE").as_deref(), Some("Sandybridge"));
        assert_eq!(value(&set, "MKL_ENABLE_INSTRUCTIONS"), None, "it would not be told anything new");
        let set = variables(&["avx512f", "avx2"], &[]);
        assert_eq!(value(&set, "MKL_ENABLE_INSTRUCTIONS").as_deref(), Some("AVX"));
        let nehalem = variables(&["avx state", "osxsave", "xsave"], &[]);
        let tunables = value(&nehalem, TUNABLES).expect("tunables");
        assert!(
            ["-AVX,", "-AVX_Fast_Unaligned_Load", "-AVX2,", "-OSXSAVE", "-XSAVE", "-FMA,"]
                .iter()
                .all(|name| tunables.contains(name))
        );
        assert_eq!(value(&nehalem, "OPENBLAS_CORETYPE").as_deref(), Some("Nehalem"));
        let bits = value(&nehalem, "OPENSSL_ia32cap").expect("bits");
        // F16C, AVX, OSXSAVE, XSAVE, FMA and XOP in the upper half of the first one.
        assert!(bits.starts_with("~0x3c00180000000000:"), "{bits}");
    }

    #[test]
    fn what_the_user_has_set_stays() {
        let set = variables(
            &["popcnt"],
            &[
                (TUNABLES, "glibc.malloc.check=1:glibc.cpu.hwcaps=-ERMS:glibc.rtld.nns=4"),
                ("OPENSSL_ia32cap", ":0"),
            ],
        );
        let tunables = "glibc.malloc.check=1:glibc.cpu.hwcaps=-ERMS,-POPCNT:glibc.rtld.nns=4";
        assert_eq!(value(&set, TUNABLES).as_deref(), Some(tunables));
        assert_eq!(value(&set, "OPENSSL_ia32cap"), None);
        let set = variables(&["popcnt"], &[(TUNABLES, "glibc.malloc.check=1")]);
        assert_eq!(value(&set, TUNABLES).as_deref(), Some("glibc.malloc.check=1:glibc.cpu.hwcaps=-POPCNT"));
    }
}
