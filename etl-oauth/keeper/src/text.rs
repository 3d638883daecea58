//! Text from providers and people, made safe to show.

/// The longest foreign text on a page, in characters.
pub const LONGEST: usize = 300;

/// Makes foreign text safe to show: on one line, cut to `max` characters. Characters that turn the direction of the text around
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

/// The words without those that may be tokens, codes or keys: a run of 20 or more letters, digits and the signs of base64
/// is replaced, unless it is a UUID, by which support finds a request.
pub fn without_tokens(words: &str) -> String {
    let of_token = |c: char| c.is_ascii_alphanumeric() || "-_.+/=~".contains(c);
    let mut shown = String::with_capacity(words.len());
    let mut rest = words;
    while let Some(start) = rest.find(of_token) {
        let (before, from) = rest.split_at(start);
        let (run, after) = from.split_at(from.find(|c| !of_token(c)).unwrap_or(from.len()));
        shown.push_str(before);
        shown.push_str(if run.len() >= 20 && !is_uuid(run) { "…" } else { run });
        rest = after;
    }
    shown + rest
}

/// Whether the text is a UUID.
pub fn is_uuid(text: &str) -> bool {
    text.len() == 36
        && text.bytes().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn o6_what_may_be_a_token_is_not_shown_and_words_numbers_and_uuids_are() {
        for plain in
            ["invalid_rapt", "AADSTS70008: it has expired.", "50058,65001", "0c9a53e6-5e33-4c9b-8f0e-1e3a2b3c4d5e"]
        {
            assert_eq!(without_tokens(plain), plain);
        }
        assert_eq!(without_tokens("token 1//0gAbCdEfGhIjKlMnOpQr is dead"), "token … is dead");
        assert_eq!(without_tokens("eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiIxIn0.c2ln"), "…");
    }
}
