//! Programs that read much and compute: compressors, checksums, `bc`, `awk`, `sort`, `flac`.

use std::fmt::Write as _;
use std::path::PathBuf;

use minka_programs_tests::program::Program;
use minka_programs_tests::{data, sized};

const FULL: u64 = 200_000_000;

/// As much data as keeps a program busy for a second or two, or all of it.
fn mixed(short: u64) -> PathBuf {
    data::mixed(sized(short, FULL))
}

fn text(short: u64) -> PathBuf {
    data::text(sized(short, FULL))
}

#[test]
fn xz() {
    Program::new(["xz", "--threads=1", "-2", "--stdout"]).reads(mixed(12_000_000)).moves().holds();
}

#[test]
fn xz_and_back() {
    let line = "xz --threads=1 -0 | xz --decompress | sha256sum";
    Program::shell(line).called("xz | xz -d | sha256sum").reads(mixed(6_000_000)).moves().holds();
}

#[test]
fn xz_with_threads() {
    let words = ["xz", "--threads=2", "--block-size=4MiB", "-1", "--stdout"];
    Program::new(words).called("xz -T2").reads(mixed(24_000_000)).moves().holds();
}

#[test]
fn zstd() {
    Program::new(["zstd", "--single-thread", "--no-asyncio", "-9", "--stdout"])
        .reads(mixed(14_000_000))
        .moves()
        .holds();
}

#[test]
fn zstd_with_threads() {
    let words = ["zstd", "-T2", "-9", "--stdout"];
    Program::new(words).called("zstd -T2").reads(mixed(60_000_000)).moves().holds();
}

#[test]
fn sha256sum() {
    Program::new(["sha256sum"]).reads(mixed(100_000_000)).moves().holds();
}

#[test]
fn bc_computes_pi() {
    let digits = sized(1200, 4000);
    let line = format!("echo 'scale={digits}; 4*a(1)' | bc --mathlib");
    Program::shell(&line).called("bc (pi)").moves().holds();
}

/// Adds up all numbers that are in the text.
#[test]
fn bc() {
    let sum = |line: &str, script: &mut String| {
        for number in
            line.split(|character: char| !character.is_ascii_digit()).filter(|number| !number.is_empty())
        {
            let _ = writeln!(script, "s+={number}; s*=3; s%=10^30; s");
        }
    };
    Program::new(["bc"]).reads(data::lines("bc", sized(2_000_000, FULL), sum)).moves().holds();
}

#[test]
fn awk() {
    let script = "{ for (i = 1; i <= NF; i++) count[$i]++ }
        END { for (word in count) { words++; total += count[word]; sum += length(word) * (count[word] % 97) }
              print NR, words, total, sum }";
    Program::new(["awk", script]).reads(text(20_000_000)).moves().holds();
}

#[test]
fn sort() {
    Program::new(["sort", "--parallel=1", "--buffer-size=24M"]).reads(text(30_000_000)).moves().holds();
}

#[test]
fn sort_with_threads() {
    let words = ["sort", "--parallel=2", "--buffer-size=200M"];
    Program::new(words).called("sort --parallel=2").reads(text(30_000_000)).may_stay().holds();
}

/// Several programs at once, each of which is moved by itself.
#[test]
fn pipeline() {
    let line = "tr -cs A-Za-z '\\n' | tr A-Z a-z | sort --parallel=1 -S 24M | uniq -c | sort --parallel=1 -rn | head -n 50";
    Program::shell(line).called("tr | sort | uniq | sort").reads(text(20_000_000)).moves().holds();
}
