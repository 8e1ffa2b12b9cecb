//! `flac` encodes music and gives it back.

use std::f64::consts::TAU;
use std::path::PathBuf;
use std::time::Duration;

use minka_programs_tests::program::Program;
use minka_programs_tests::{data, sized};

const RATE: u32 = 44_100;

/// A melody with overtones that fade, in stereo, as a WAV file.
fn music() -> PathBuf {
    let seconds = sized(60, 1200);
    data::computed(&format!("music-{seconds}.wav"), || {
        let frames = RATE * seconds;
        let mut bytes = header(frames);
        for frame in 0..frames {
            let time = f64::from(frame) / f64::from(RATE);
            let (left, right) = sound(time);
            for sample in [left, right] {
                bytes.extend(((sample * 20_000.0) as i16).to_le_bytes());
            }
        }
        bytes
    })
}

/// What is heard at a time: four notes a second, each with five overtones; the sides are a little apart.
fn sound(time: f64) -> (f64, f64) {
    const STEPS: [f64; 8] = [0.0, 4.0, 7.0, 12.0, 11.0, 7.0, 5.0, 2.0];
    let note = (time * 4.0) as usize;
    let pitch = 220.0 * 2f64.powf((STEPS[note % STEPS.len()] + (note / 32 % 5) as f64) / 12.0);
    let since = time * 4.0 % 1.0;
    let tone = |shift: f64| {
        let overtone = |n: f64| (TAU * pitch * n * (time + shift)).sin() / (n * n) * (-3.0 * since * n).exp();
        (1..=6).map(|n| overtone(f64::from(n))).sum::<f64>() / 1.5
    };
    (tone(0.0), tone(0.000_3))
}

/// The 44 bytes before the samples: 16 bits, two channels.
fn header(frames: u32) -> Vec<u8> {
    let length = frames * 4;
    let mut bytes = Vec::new();
    bytes.extend(b"RIFF");
    bytes.extend((length + 36).to_le_bytes());
    bytes.extend(b"WAVEfmt ");
    bytes.extend(16u32.to_le_bytes());
    bytes.extend([1, 0, 2, 0]);
    bytes.extend(RATE.to_le_bytes());
    bytes.extend((RATE * 4).to_le_bytes());
    bytes.extend([4, 0, 16, 0]);
    bytes.extend(b"data");
    bytes.extend(length.to_le_bytes());
    bytes
}

#[test]
fn flac() {
    let words = ["flac", "--silent", "--best", "--exhaustive-model-search", "--stdout", "-"];
    Program::new(words).reads(music()).moves().holds();
}

#[test]
fn flac_and_back() {
    let line = "flac --silent --best --stdout - | flac --silent --decode --stdout - | sha256sum";
    Program::shell(line)
        .called("flac | flac -d | sha256sum")
        .every(Duration::from_millis(50))
        .reads(music())
        .moves()
        .holds();
}
