//! Whole numbers in bodies, also when they are written as `2.0`: to JSON that is the same.

use serde::de::Error;
use serde::{Deserialize, Deserializer};

fn narrow<T: TryFrom<u64>, E: Error>(number: f64) -> Result<T, E> {
    let whole = number.fract() == 0.0 && (0.0..=9_007_199_254_740_992.0).contains(&number);
    let narrow = if whole { T::try_from(number as u64).ok() } else { None };
    narrow.ok_or_else(|| E::custom(format!("{number} is not a whole number in the range of this field")))
}

/// A whole number.
pub fn one<'de, D: Deserializer<'de>, T: TryFrom<u64>>(deserializer: D) -> Result<T, D::Error> {
    narrow(f64::deserialize(deserializer)?)
}

/// A whole number, or null.
pub fn maybe<'de, D: Deserializer<'de>, T: TryFrom<u64>>(deserializer: D) -> Result<Option<T>, D::Error> {
    Option::<f64>::deserialize(deserializer)?.map(narrow).transpose()
}

/// A list of whole numbers.
pub fn many<'de, D: Deserializer<'de>, T: TryFrom<u64>>(deserializer: D) -> Result<Vec<T>, D::Error> {
    Vec::<f64>::deserialize(deserializer)?.into_iter().map(narrow).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_numbers_may_have_a_point() {
        let check = |text: &str, expected: Option<Vec<u8>>| {
            let numbers = many::<_, u8>(&mut serde_json::Deserializer::from_str(text));
            assert_eq!(numbers.ok(), expected, "{text}");
        };
        check("[1, 2.0, 255]", Some(vec![1, 2, 255]));
        check("[]", Some(vec![]));
        for wrong in ["[256]", "[-1]", "[0.5]", "[1e300]", "[\"1\"]", "[null]", "[true]"] {
            check(wrong, None);
        }
        assert_eq!(maybe::<_, u32>(&mut serde_json::Deserializer::from_str("null")).unwrap(), None);
    }
}
