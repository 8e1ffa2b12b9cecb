//! Ending a restartable sequence that a thread was stopped in.

use crate::memory::Memory;
use minka_image::process::Rseq;
use minka_image::registers::Registers;
use minka_image::rseq::CriticalSection;
use std::io;

/// Carries out the abort of a sequence that the thread was stopped inside, before anything else is done with it:
/// the registers to go on with, or `None` if it was in none. See [`minka_image::rseq`].
pub fn abort(memory: &Memory, rseq: &Rseq, registers: &Registers) -> io::Result<Option<Registers>> {
    // struct rseq { cpu_id_start: u32, cpu_id: u32, rseq_cs: u64, … }
    const POINTER: u64 = 8;
    let mut word = [0; 8];
    if memory.peek(rseq.address + POINTER, &mut word) != word.len() {
        return Ok(None);
    }
    let pointer = u64::from_le_bytes(word);
    let mut section = [0; CriticalSection::SIZE];
    if pointer == 0 || memory.peek(pointer, &mut section) != section.len() {
        return Ok(None);
    }
    let Some(aborted) = CriticalSection::from_bytes(&section).abort(registers) else { return Ok(None) };
    memory.poke(rseq.address + POINTER, &[0; 8])?;
    Ok(Some(aborted))
}
