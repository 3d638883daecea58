//! Numbers as text. They are in every line of the log and in every answer, and the standard library's formatting would
//! be a tenth of a short call's work.

use std::time::Duration;

/// Appends `number`.
pub(crate) fn whole(text: &mut Vec<u8>, mut number: u64) {
    // As many digits as the largest one has.
    let mut digits = [0; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        // Below ten.
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    text.extend_from_slice(&digits[at..]);
}

/// Appends `duration` in seconds, rounded to so many `DECIMALS`, at most six. They are known to the compiler, which makes
/// multiplications of the divisions.
pub(crate) fn seconds<const DECIMALS: usize>(text: &mut Vec<u8>, duration: Duration) {
    let unit = const { 10_u64.pow(6 - DECIMALS as u32) };
    let parts_per_second = const { 10_u64.pow(DECIMALS as u32) };
    let micros = duration.as_secs().saturating_mul(1_000_000).saturating_add(duration.subsec_micros().into());
    let parts = micros.saturating_add(unit / 2) / unit;
    whole(text, parts / parts_per_second);
    let mut rest = parts % parts_per_second;
    let mut digits = [b'0'; DECIMALS];
    for digit in digits.iter_mut().rev() {
        *digit += (rest % 10) as u8;
        rest /= 10;
    }
    text.push(b'.');
    text.extend_from_slice(&digits);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut text = Vec::new();
        write(&mut text);
        String::from_utf8(text).unwrap()
    }

    #[test]
    fn whole_numbers_have_all_their_digits() {
        for number in [0, 9, 10, 12_345, u64::MAX] {
            assert_eq!(text(|to| whole(to, number)), number.to_string());
        }
    }

    #[test]
    fn seconds_are_rounded() {
        for (micros, four, six) in [
            (0, "0.0000", "0.000000"),
            (49, "0.0000", "0.000049"),
            (50, "0.0001", "0.000050"),
            (1_234_560, "1.2346", "1.234560"),
            (59_999_960, "60.0000", "59.999960"),
        ] {
            let duration = Duration::from_micros(micros);
            assert_eq!(text(|to| seconds::<4>(to, duration)), four);
            assert_eq!(text(|to| seconds::<6>(to, duration)), six);
        }
    }
}
