//! Durations as people write them: `90s`, `30m`, `2h`, `1d`.

/// In seconds.
///
/// # Errors
/// What is wrong, for the usage message.
pub fn parse(text: &str) -> Result<u64, String> {
    let expected = || format!("`{text}` is not a duration; write a number with s, m, h or d, such as 30m");
    let unit = match text.chars().last() {
        Some('s') => 1,
        Some('m') => 60,
        Some('h') => 3_600,
        Some('d') => 86_400,
        _ => return Err(expected()),
    };
    let number: u64 = text[..text.len() - 1].parse().map_err(|_| expected())?;
    number.checked_mul(unit).filter(|seconds| *seconds > 0).ok_or_else(expected)
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn units_are_required_and_known() {
        assert_eq!(parse("90s"), Ok(90));
        assert_eq!(parse("30m"), Ok(1_800));
        assert_eq!(parse("2h"), Ok(7_200));
        assert_eq!(parse("1d"), Ok(86_400));
        for bad in ["", "m", "30", "-1m", "0s", "1w", "30 m", "3é", "99999999999999999999d", "9999999999999999999d"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
