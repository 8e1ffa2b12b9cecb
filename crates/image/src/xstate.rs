//! Extended registers of machines that keep other ones, or keep them in other places.
//!
//! The kernel shows them as the processor's XSAVE area (`ptrace(2)`, NT_X86_XSTATE; Intel SDM, volume 1, chapter 13):
//!
//! ```text
//!  0                            464      512             576
//! ┌────────────────────────────┬────────┬───────────────┬───────────┬───────────┬──
//! │ x87, MXCSR, XMM (FXSAVE)   │ kernel │ which are not │ component │ component │ …
//! │                            │ 's own │ initial: u64… │           │           │
//! └────────────────────────────┴────────┴───────────────┴───────────┴───────────┴──
//! ```
//!
//! Which components there are, and where, is the processor's to say ([`Layout`]): Intel and AMD have AVX-512's in other
//! places. Where there is no XSAVE only the first 512 bytes are. A component that is not there on one side, and has
//! nothing in it, is left out on the way there and found again on the way back.

use serde::{Deserialize, Serialize};

/// One component of extended state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Component {
    /// Its number in XCR0, at least 2.
    pub number: u32,
    /// Where it begins.
    pub offset: u32,
    /// Bytes.
    pub size: u32,
}

/// Which components a machine has, and where.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layout(pub Vec<Component>);

/// Bytes of the area where there is no XSAVE.
const LEGACY: usize = 512;
/// Where the header is that says what is not initial, and where it ends.
const HEADER: std::ops::Range<usize> = 512..576;
/// Bytes that are the kernel's, and MXCSR's mask, which is the processor's.
const KERNELS_OWN: std::ops::Range<usize> = 464..512;
const MXCSR_MASK: std::ops::Range<usize> = 28..32;
/// x87 and SSE, which are always there.
const ALWAYS: u64 = 3;

/// Protection keys, which Linux gives each thread this way although the processor begins with zeros.
const PKRU: u32 = 9;
const PKRU_OF_LINUX: [u8; 4] = 0x5555_5554u32.to_le_bytes();

/// Extended registers that are none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("understand extended registers of {0} bytes")]
pub struct NoState(usize);

impl Component {
    fn range(&self) -> std::ops::Range<usize> {
        let start = self.offset as usize;
        start..start.saturating_add(self.size as usize)
    }
}

impl Layout {
    /// Those of its components that are among `states` (bits of XCR0).
    pub fn within(&self, states: u64) -> Self {
        Self(self.0.iter().copied().filter(|component| is_among(component.number, states)).collect())
    }

    fn find(&self, wanted: &Component) -> Option<&Component> {
        self.0.iter().find(|component| (component.number, component.size) == (wanted.number, wanted.size))
    }

    /// The number of a component that these registers, of this layout, have something in, and that is not among `states`.
    pub fn used_outside(&self, bytes: &[u8], states: u64) -> Option<u32> {
        let in_use = in_use(bytes);
        let has_content = |component: &&Component| {
            let content = bytes.get(component.range()).unwrap_or_default();
            let content = match component.number {
                PKRU => content.strip_prefix(&PKRU_OF_LINUX).unwrap_or(content),
                _ => content,
            };
            is_among(component.number, in_use) && content.iter().any(|byte| *byte != 0)
        };
        let outside = self.0.iter().filter(|component| !is_among(component.number, states));
        outside.filter(has_content).map(|component| component.number).next()
    }

    /// The registers `bytes`, which are of this layout, as a machine with the layout `to` has them. What is only there
    /// stays as it is in `template`, registers of that machine's.
    ///
    /// # Errors
    /// When one of them has no length that such registers have.
    pub fn convert(&self, bytes: &[u8], to: &Self, template: &[u8]) -> Result<Vec<u8>, NoState> {
        for area in [bytes, template] {
            if area.len() != LEGACY && area.len() < HEADER.end {
                return Err(NoState(area.len()));
            }
        }
        let mut made = template.to_vec();
        made[..KERNELS_OWN.start].copy_from_slice(&bytes[..KERNELS_OWN.start]);
        made[MXCSR_MASK].copy_from_slice(&template[MXCSR_MASK]);
        if made.len() == LEGACY {
            return Ok(made);
        }
        let source = in_use(bytes);
        let mut target = in_use(template) & !ALWAYS | source & ALWAYS;
        for place in &to.0 {
            let Some(component) = self.find(place) else { continue };
            let Some(room) = made.get_mut(place.range()) else { return Err(NoState(template.len())) };
            target &= !(1u64.wrapping_shl(place.number));
            match bytes.get(component.range()) {
                Some(content) if is_among(component.number, source) => {
                    room.copy_from_slice(content);
                    target |= 1u64.wrapping_shl(place.number);
                }
                _ => room.fill(0),
            }
        }
        made[HEADER].fill(0);
        made[HEADER.start..HEADER.start + 8].copy_from_slice(&target.to_le_bytes());
        Ok(made)
    }
}

fn is_among(number: u32, states: u64) -> bool {
    states.checked_shr(number).is_some_and(|rest| rest & 1 == 1)
}

/// The components that are not in their initial state.
fn in_use(bytes: &[u8]) -> u64 {
    let header = bytes.get(HEADER).and_then(|header| header.first_chunk::<8>());
    header.map_or(ALWAYS, |word| u64::from_le_bytes(*word))
}

#[cfg(test)]
mod tests {
    use super::*;

    const AVX: Component = Component { number: 2, offset: 576, size: 256 };
    const KEYS: Component = Component { number: 9, offset: 832, size: 8 };
    const KEYS_ELSEWHERE: Component = Component { number: 9, offset: 2688, size: 8 };

    fn rich() -> Layout {
        Layout(vec![AVX, KEYS])
    }

    fn registers(length: usize, in_use: u64) -> Vec<u8> {
        let mut bytes: Vec<u8> = (0..length).map(|at| (at % 251) as u8 | 1).collect();
        if length > LEGACY {
            bytes[HEADER].fill(0);
            bytes[512..520].copy_from_slice(&in_use.to_le_bytes());
        }
        bytes
    }

    #[test]
    fn components_are_found_where_the_other_processor_has_them() {
        let elsewhere = Layout(vec![AVX, KEYS_ELSEWHERE]);
        let bytes = registers(840, 0b10_0000_0111);
        let there = rich().convert(&bytes, &elsewhere, &registers(2696, 0)).expect("registers");
        assert_eq!((there.len(), in_use(&there)), (2696, 0b10_0000_0111));
        assert_eq!(there[576..832], bytes[576..832]);
        assert_eq!(there[2688..2696], bytes[832..840]);
        let back = elsewhere.convert(&there, &rich(), &bytes).expect("registers");
        assert_eq!(back, bytes);
    }

    #[test]
    fn what_the_other_one_does_not_have_is_there_again_at_home() {
        let mut bytes = registers(840, 0b10_0000_0011);
        bytes[832..840].copy_from_slice(&[0x54, 0x55, 0x55, 0x55, 0, 0, 0, 0]);
        assert_eq!(rich().used_outside(&bytes, 3), None, "as Linux begins");
        let legacy = Layout::default();
        let mut there = rich().convert(&bytes, &legacy, &registers(512, 0)).expect("registers");
        assert_eq!((there.len(), &there[..464]), (512, &bytes[..464]));
        there[200] = 77;
        let back = legacy.convert(&there, &rich(), &bytes).expect("registers");
        assert_eq!((back[200], in_use(&back)), (77, 0b10_0000_0011));
        assert_eq!(back[576..], bytes[576..]);
    }

    #[test]
    fn what_is_initial_here_is_initial_there() {
        let bytes = registers(840, 3);
        let there = rich().convert(&bytes, &rich(), &registers(840, 0b111)).expect("registers");
        assert_eq!(in_use(&there), 3);
        assert!(there[576..840].iter().all(|byte| *byte == 0));
    }

    #[test]
    fn registers_with_content_that_has_no_place_are_told() {
        let bytes = registers(840, 0b111);
        assert_eq!(rich().used_outside(&bytes, 3), Some(2));
        assert_eq!(rich().used_outside(&bytes, 7), None);
        assert_eq!(rich().used_outside(&registers(840, 3), 3), None, "initial, whatever stands there");
        let keys = registers(840, 0b10_0000_0011);
        assert_eq!(rich().used_outside(&keys, 7), Some(9));
        let mut zeros = registers(840, 0b111);
        zeros[576..].fill(0);
        assert_eq!(rich().used_outside(&zeros, 3), None);
    }

    #[test]
    fn what_is_too_short_is_refused() {
        let whole = registers(840, 3);
        for length in [0, 511, 513, 575] {
            assert!(rich().convert(&vec![0; length], &rich(), &whole).is_err());
            assert!(rich().convert(&whole, &rich(), &vec![0; length]).is_err());
        }
        assert!(rich().convert(&whole, &rich(), &registers(600, 3)).is_err());
        let far = Layout(vec![Component { number: 2, offset: u32::MAX, size: u32::MAX }]);
        assert!(far.convert(&whole, &far, &whole).is_err());
        assert_eq!(far.used_outside(&whole, 0), None);
        assert_eq!(Layout(vec![Component { number: 64, offset: 0, size: 8 }]).used_outside(&whole, 0), None);
    }
}
