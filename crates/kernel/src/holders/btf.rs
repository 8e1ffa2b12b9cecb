//! Where the running kernel has the fields of its structures, as it says itself (`/sys/kernel/btf/vmlinux`,
//! Documentation/bpf/btf.rst).
//!
//! ```text
//!  header: magic 0xeb9f, version, flags, own length, types: offset and length, names: offset and length
//!  types:  one behind the other from number 1: name, kind and count, size or type, then what the kind adds
//! ```

/// What cannot be found.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum BtfError {
    /// It is no such description.
    #[error("understand the kernel's description of itself")]
    Malformed,
    /// A structure, a field or a function is not there, or is another one.
    #[error("find {0} in this kernel")]
    Missing(String),
}

/// A description, with the place of each type.
#[derive(Debug)]
pub struct Btf<'a> {
    names: &'a [u8],
    types: Vec<Type<'a>>,
}

#[derive(Debug, Clone, Copy)]
struct Type<'a> {
    name: u32,
    kind: u32,
    /// Of structures: bit fields have their width in the upper eight bits of their place.
    has_bit_fields: bool,
    size_or_type: u32,
    more: &'a [u8],
}

mod kind {
    pub(super) const INT: u32 = 1;
    pub(super) const POINTER: u32 = 2;
    pub(super) const ARRAY: u32 = 3;
    pub(super) const STRUCT: u32 = 4;
    pub(super) const UNION: u32 = 5;
    pub(super) const ENUM: u32 = 6;
    pub(super) const TYPEDEF: u32 = 8;
    pub(super) const VOLATILE: u32 = 9;
    pub(super) const CONST: u32 = 10;
    pub(super) const RESTRICT: u32 = 11;
    pub(super) const FUNCTION: u32 = 12;
    pub(super) const PROTOTYPE: u32 = 13;
    pub(super) const VARIABLE: u32 = 14;
    pub(super) const SECTION: u32 = 15;
    pub(super) const TAG: u32 = 17;
    pub(super) const TYPE_TAG: u32 = 18;
    pub(super) const ENUM64: u32 = 19;
}

/// How deep structures without a name, and names for types, may lie in each other.
const DEPTH_MAX: u32 = 32;

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..)?.first_chunk().copied()?))
}

impl<'a> Btf<'a> {
    /// Reads a description.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, BtfError> {
        Self::parts(bytes).ok_or(BtfError::Malformed)
    }

    fn parts(bytes: &'a [u8]) -> Option<Self> {
        const MAGIC: [u8; 3] = [0x9f, 0xeb, 1];
        if bytes.get(..3)? != MAGIC {
            return None;
        }
        let place = |at: usize| -> Option<usize> { word(bytes, at)?.try_into().ok() };
        let body = bytes.get(place(4)?..)?;
        let (types, names) = (body.get(place(8)?..)?, body.get(place(16)?..)?);
        let (mut rest, names) = (types.get(..place(12)?)?, names.get(..place(20)?)?);
        let mut types = Vec::new();
        while !rest.is_empty() {
            let info = word(rest, 4)?;
            let (kind, count) = (info >> 24 & 0x1f, (info & 0xffff) as usize);
            let length = match kind {
                kind::INT | kind::VARIABLE | kind::TAG => 4,
                kind::ARRAY => 12,
                kind::STRUCT | kind::UNION | kind::SECTION | kind::ENUM64 => 12 * count,
                kind::ENUM | kind::PROTOTYPE => 8 * count,
                0 | 20.. => return None,
                _ => 0,
            };
            types.push(Type {
                name: word(rest, 0)?,
                kind,
                has_bit_fields: info >> 31 == 1,
                size_or_type: word(rest, 8)?,
                more: rest.get(12..12 + length)?,
            });
            rest = &rest[12 + length..];
        }
        Some(Self { names, types })
    }

    fn is_called(&self, name: u32, wanted: &str) -> bool {
        let found = self.names.get(name as usize..).and_then(|from| from.get(..wanted.len() + 1));
        found.is_some_and(|found| found.strip_suffix(&[0]) == Some(wanted.as_bytes()))
    }

    fn of(&self, number: u32) -> Option<&Type<'a>> {
        self.types.get((number as usize).checked_sub(1)?)
    }

    fn number_of(&self, kind: u32, name: &str) -> Option<u32> {
        let found = self.types.iter().position(|one| one.kind == kind && self.is_called(one.name, name))?;
        u32::try_from(found + 1).ok()
    }

    /// The number of a function.
    pub fn function(&self, name: &str) -> Result<u32, BtfError> {
        self.number_of(kind::FUNCTION, name).ok_or_else(|| BtfError::Missing(name.to_owned()))
    }

    /// Where in a structure a field of so many bytes begins; of the names, each but the first is one of a field in the field before.
    pub fn field(&self, structure: &str, path: &[&str], bytes: u32) -> Result<i16, BtfError> {
        let missing = || BtfError::Missing(format!("{structure}.{}", path.join(".")));
        let mut number = self.number_of(kind::STRUCT, structure).ok_or_else(missing)?;
        let mut bits = 0;
        for name in path {
            let (at, field) = self.member(number, name, DEPTH_MAX).ok_or_else(missing)?;
            (number, bits) = (field, bits + at);
        }
        let is_whole = bits % 8 == 0 && self.size(number) == Some(bytes);
        i16::try_from(bits / 8).ok().filter(|_| is_whole).ok_or_else(missing)
    }

    /// A member of a structure, or of one without a name in it: its place in bits, and its type.
    fn member(&self, number: u32, name: &str, depth: u32) -> Option<(u32, u32)> {
        let structure = self.of(self.plain(number)?)?;
        if !matches!(structure.kind, kind::STRUCT | kind::UNION) || depth == 0 {
            return None;
        }
        structure.more.chunks_exact(12).find_map(|member| {
            let (called, number, place) = (word(member, 0)?, word(member, 4)?, word(member, 8)?);
            let bits = if structure.has_bit_fields { place & 0xff_ffff } else { place };
            let is_bit_field = structure.has_bit_fields && place >> 24 != 0;
            if self.is_called(called, name) {
                return (!is_bit_field).then_some((bits, number));
            }
            if !self.is_called(called, "") {
                return None;
            }
            let (inner, number) = self.member(number, name, depth - 1)?;
            Some((bits.checked_add(inner)?, number))
        })
    }

    /// What a type is behind its names and qualifiers.
    fn plain(&self, mut number: u32) -> Option<u32> {
        for _ in 0..DEPTH_MAX {
            let found = self.of(number)?;
            match found.kind {
                kind::TYPEDEF | kind::VOLATILE | kind::CONST | kind::RESTRICT | kind::TYPE_TAG => {
                    number = found.size_or_type;
                }
                _ => return Some(number),
            }
        }
        None
    }

    fn size(&self, number: u32) -> Option<u32> {
        let found = self.of(self.plain(number)?)?;
        match found.kind {
            kind::POINTER => Some(8),
            kind::INT | kind::ENUM | kind::ENUM64 | kind::STRUCT | kind::UNION => Some(found.size_or_type),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// ```c
    /// typedef unsigned int word; struct inner { void *first; const word second; };
    /// struct outer { struct inner in; struct { word alone : 32; struct { word deep; }; }; }; void function();
    /// ```
    fn description() -> Vec<u8> {
        const NAMES: &[u8] =
            b"\0word\0inner\0first\0second\0outer\0in\0alone\0deep\0function\0unsigned int\0";
        let name = |wanted: &str| {
            let at =
                NAMES.windows(wanted.len() + 1).position(|found| found == format!("{wanted}\0").as_bytes());
            at.expect("a name") as u32
        };
        let empty = 0;
        let head = |called: u32, kind: u32, count: u32, size: u32| vec![called, kind << 24 | count, size];
        const BITS: u32 = 1 << 7;
        let types: Vec<u32> = [
            // 1 to 4
            [head(name("unsigned int"), kind::INT, 0, 4), vec![32]].concat(),
            head(name("word"), kind::TYPEDEF, 0, 1),
            head(empty, kind::CONST, 0, 2),
            head(empty, kind::POINTER, 0, 0),
            // 5
            head(name("inner"), kind::STRUCT, 2, 16),
            vec![name("first"), 4, 0, name("second"), 3, 64],
            // 6: the innermost; 7: with a bit field
            head(empty, kind::STRUCT, 1, 4),
            vec![name("deep"), 2, 0],
            head(empty, kind::STRUCT | BITS, 2, 8),
            vec![name("alone"), 2, 32 << 24, empty, 6, 32],
            // 8
            head(name("outer"), kind::STRUCT, 2, 24),
            vec![name("in"), 5, 0, empty, 7, 128],
            // 9
            head(name("function"), kind::FUNCTION, 0, 1),
        ]
        .concat();
        let length = 4 * types.len() as u32;
        let mut bytes = vec![0x9f, 0xeb, 1, 0];
        for word in [24, 0, length, length, NAMES.len() as u32].into_iter().chain(types) {
            bytes.extend(word.to_le_bytes());
        }
        bytes.extend(NAMES);
        bytes
    }

    #[test]
    fn fields_are_found_where_they_are() {
        let bytes = description();
        let btf = Btf::parse(&bytes).expect("a description");
        let check = |path: &[&str], size: u32, expected: Result<i16, ()>| {
            assert_eq!(btf.field("outer", path, size).map_err(drop), expected, "{path:?}");
        };
        check(&["in", "first"], 8, Ok(0));
        check(&["in", "second"], 4, Ok(8));
        check(&["in", "second"], 8, Err(()));
        check(&["deep"], 4, Ok(20));
        check(&["alone"], 4, Err(()));
        check(&["in", "third"], 4, Err(()));
        check(&["deep", "deeper"], 4, Err(()));
        assert_eq!((btf.function("function"), btf.field("inner", &["first"], 8)), (Ok(9), Ok(0)));
        assert_eq!(btf.function("inner"), Err(BtfError::Missing("inner".into())));
        assert!(btf.field("word", &["first"], 8).is_err());
    }

    #[test]
    fn whatever_is_cut_off_or_changed_is_no_panic() {
        let bytes = description();
        for length in 0..bytes.len() {
            assert!(Btf::parse(&bytes[..length]).is_err(), "{length}");
        }
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 0xff;
            if let Ok(btf) = Btf::parse(&changed) {
                let _ = (btf.field("outer", &["in", "second"], 4), btf.field("outer", &["deep"], 4));
                let _ = btf.function("function");
            }
        }
    }
}
