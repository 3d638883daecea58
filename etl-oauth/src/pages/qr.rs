//! A text as a QR code within a page.

use std::fmt::Write as _;

use qrcodegen::{QrCode, QrCodeEcc};

/// The light edge that a reader needs, in modules (ISO/IEC 18004).
const EDGE: i32 = 4;

/// A code as the path of an SVG, and how wide it is with its edge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Qr {
    pub(super) width: i32,
    pub(super) path: String,
}

impl Qr {
    /// The code of a text; `None` where the text is too long for one.
    pub(super) fn of(text: &str) -> Option<Self> {
        let code = QrCode::encode_text(text, QrCodeEcc::Low).ok()?;
        let mut path = String::new();
        for y in 0..code.size() {
            for x in (0..code.size()).filter(|x| code.get_module(*x, y)) {
                // Writing to a String cannot fail.
                let _ = write!(path, "M{} {}h1v1h-1z", x + EDGE, y + EDGE);
            }
        }
        Some(Self { width: code.size() + 2 * EDGE, path })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_finder_pattern_is_in_its_corner_within_a_light_edge() {
        let code = Qr::of("https://provider.example/device?user_code=AB-12").unwrap();
        assert!(code.path.starts_with("M4 4h1v1h-1zM5 4h1v1h-1z"), "{}", code.path);
        assert!(!code.path.contains("M3 ") && (29..60).contains(&code.width), "{}", code.width);
        assert_eq!(Qr::of(&"x".repeat(4000)), None);
    }
}
