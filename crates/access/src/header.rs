//! What a header carries.

/// The token of an `Authorization` header: `Bearer name.secret`, or `Basic` with the name as user.
pub fn token(header: &str) -> Option<String> {
    let (scheme, rest) = header.split_once(' ')?;
    if scheme.eq_ignore_ascii_case("bearer") {
        return Some(rest.trim().to_owned());
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let bytes = base64(rest.trim())?;
    let (user, password) = std::str::from_utf8(&bytes).ok()?.split_once(':')?;
    let prefix = format!("{user}.");
    Some(if password.starts_with(&prefix) { password.to_owned() } else { format!("{prefix}{password}") })
}

/// Base 64 with padding, as `Basic` has it.
fn base64(text: &str) -> Option<Vec<u8>> {
    let digits = text.trim_end_matches('=');
    if text.len() > 1024 || !text.len().is_multiple_of(4) || text.len() - digits.len() > 2 {
        return None;
    }
    let (mut bytes, mut bits, mut count) = (Vec::new(), 0_u32, 0);
    for digit in digits.bytes() {
        let value = match digit {
            b'A'..=b'Z' => digit - b'A',
            b'a'..=b'z' => digit - b'a' + 26,
            b'0'..=b'9' => digit - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(value);
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count & 0xff) as u8);
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_schemes_carry_a_token() {
        assert_eq!(token("Bearer ana.123").as_deref(), Some("ana.123"));
        // ana:123
        assert_eq!(token("Basic YW5hOjEyMw==").as_deref(), Some("ana.123"));
        for wrong in ["", "Bearer", "Basic !!!!", "Basic YW5h", "Digest a=b", "Basic YW5hOjEyMw"] {
            assert_eq!(token(wrong), None, "{wrong}");
        }
    }
}
