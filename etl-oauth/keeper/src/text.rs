//! Text from providers and people, made safe to show.

/// The longest run of somebody else's words on a page, in characters.
pub const LONGEST: usize = 300;

/// Somebody else's words: on one line, cut to `max` characters. Characters that turn the direction of the text around
/// them, and so could make it read differently from what it is, go the way of the control characters.
pub fn cut(words: &str, max: usize) -> String {
    let harmless = |c: char| match c {
        '\u{200e}' | '\u{200f}' | '\u{061c}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => None,
        c if c.is_control() => Some(' '),
        c => Some(c),
    };
    let mut cut: String = words.chars().filter_map(harmless).take(max + 1).collect();
    if let Some((end, _)) = cut.char_indices().nth(max) {
        cut.truncate(end);
        cut.push('…');
    }
    cut
}
