//! The type of a body whose author did not give one, by its first bytes (the WHATWG's MIME sniffing, as Go has it).

/// The content type that `bytes`, the first 512 of a body, look like.
pub(crate) fn content_type(bytes: &[u8]) -> &'static str {
    const MAGIC: [(&[u8], &str); 18] = [
        (b"%PDF-", "application/pdf"),
        (b"%!PS-Adobe-", "application/postscript"),
        (b"\xfe\xff", "text/plain; charset=utf-16be"),
        (b"\xff\xfe", "text/plain; charset=utf-16le"),
        (b"\xef\xbb\xbf", "text/plain; charset=utf-8"),
        (b"\0\0\x01\0", "image/x-icon"),
        (b"\0\0\x02\0", "image/x-icon"),
        (b"BM", "image/bmp"),
        (b"GIF87a", "image/gif"),
        (b"GIF89a", "image/gif"),
        (b"\x89PNG\r\n\x1a\n", "image/png"),
        (b"\xff\xd8\xff", "image/jpeg"),
        (b"OggS\0", "application/ogg"),
        (b"ID3", "audio/mpeg"),
        (b"wOFF", "font/woff"),
        (b"wOF2", "font/woff2"),
        (b"\x1f\x8b\x08", "application/x-gzip"),
        (b"PK\x03\x04", "application/zip"),
    ];
    let text = bytes.trim_ascii_start();
    if is_html(text) {
        return "text/html; charset=utf-8";
    }
    if text.starts_with(b"<?xml") {
        return "text/xml; charset=utf-8";
    }
    if let Some((_, kind)) = MAGIC.iter().find(|(magic, _)| bytes.starts_with(magic)) {
        return kind;
    }
    match (bytes.get(..4), bytes.get(8..12), bytes.get(8..14)) {
        (Some(b"RIFF"), _, Some(b"WEBPVP")) => return "image/webp",
        (Some(b"RIFF"), Some(b"WAVE"), _) => return "audio/wave",
        (Some(b"RIFF"), Some(b"AVI "), _) => return "video/avi",
        _ => {}
    }
    let is_binary = |byte: &u8| matches!(byte, 0..=8 | 0x0b | 0x0e..=0x1a | 0x1c..=0x1f);
    if bytes.iter().any(is_binary) { "application/octet-stream" } else { "text/plain; charset=utf-8" }
}

fn is_html(text: &[u8]) -> bool {
    const TAGS: [&[u8]; 16] = [
        b"<!DOCTYPE HTML",
        b"<HTML",
        b"<HEAD",
        b"<SCRIPT",
        b"<IFRAME",
        b"<H1",
        b"<DIV",
        b"<FONT",
        b"<TABLE",
        b"<A",
        b"<STYLE",
        b"<TITLE",
        b"<B",
        b"<BODY",
        b"<BR",
        b"<P",
    ];
    let is_tag = |tag: &&[u8]| {
        let ends = text.get(tag.len()).is_some_and(|byte| matches!(byte, b' ' | b'>'));
        ends && text[..tag.len()].eq_ignore_ascii_case(tag)
    };
    text.starts_with(b"<!--") || TAGS.iter().any(is_tag)
}

#[cfg(test)]
mod tests {
    use super::content_type;

    #[test]
    fn types_by_their_first_bytes() {
        for (bytes, kind) in [
            (&b"plain words\n"[..], "text/plain; charset=utf-8"),
            (b"{\"a\":1}\n", "text/plain; charset=utf-8"),
            (b" \n<!doctype html><p>", "text/html; charset=utf-8"),
            (b"<p>hi", "text/html; charset=utf-8"),
            (b"<pre>hi", "text/plain; charset=utf-8"),
            (b"<?xml version='1.0'?>", "text/xml; charset=utf-8"),
            (b"\x89PNG\r\n\x1a\n\0", "image/png"),
            (b"RIFF\0\0\0\0WEBPVP8 ", "image/webp"),
            (b"\0\x01\x02", "application/octet-stream"),
        ] {
            assert_eq!(content_type(bytes), kind, "{bytes:?}");
        }
    }
}
