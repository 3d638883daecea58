use qrcodegen::{QrCode, QrCodeEcc};

/// The light edge that a reader needs, in modules (ISO/IEC 18004).
const EDGE: i32 = 4;

/// A text as a QR code for a terminal, two modules a character, dark on light whatever the terminal's own colours are.
/// `None` for a text that is too long for one.
pub(super) fn code(text: &str) -> Option<String> {
    let code = QrCode::encode_text(text, QrCodeEcc::Low).ok()?;
    let dark = |x, y| code.get_module(x, y);
    let rows = (-EDGE..code.size() + EDGE).step_by(2).map(|y| {
        let modules = (-EDGE..code.size() + EDGE).map(|x| match (dark(x, y), dark(x, y + 1)) {
            (true, true) => '█',
            (true, false) => '▀',
            (false, true) => '▄',
            (false, false) => ' ',
        });
        format!("\x1b[30;107m{}\x1b[0m\n", modules.collect::<String>())
    });
    Some(rows.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_finder_patterns_are_in_three_corners_within_a_light_edge() {
        let code = code("https://gateway.example/function/etl-oauth/enable").unwrap();
        let rows: Vec<Vec<char>> = code
            .lines()
            .map(|line| line.strip_prefix("\x1b[30;107m").unwrap().strip_suffix("\x1b[0m").unwrap().chars().collect())
            .collect();
        let width = rows[0].len();
        assert!(rows.iter().all(|row| row.len() == width) && rows.len() == width.div_ceil(2));
        assert!(rows[..2].iter().flatten().all(|module| *module == ' '), "the edge");
        let top: String = rows[2].iter().collect();
        assert!(top.starts_with("    █▀▀▀▀▀█ ") && top.ends_with(" █▀▀▀▀▀█    "), "{top}");
    }

    #[test]
    fn a_text_that_is_too_long_has_no_code() {
        assert!(code(&"x".repeat(4000)).is_none());
    }
}
