//! `multipart/form-data` (RFC 7578).

use bytes::Bytes;

/// A form with files. It is held in memory whole, so that it can be sent again with a new token.
///
/// ```
/// use token_keeper::api::Multipart;
///
/// let form = Multipart::new().text("title", "Report").file("file", "report.csv", "text/csv", "a,b\n1,2\n");
/// # let _ = form;
/// ```
#[derive(Clone, Debug, Default)]
#[must_use = "a form does nothing until it is sent"]
pub struct Multipart {
    parts: Vec<Part>,
}

#[derive(Clone, Debug)]
struct Part {
    head: String,
    body: Bytes,
}

impl Multipart {
    /// A form without fields.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a field.
    pub fn text(mut self, name: &str, value: impl Into<Bytes>) -> Self {
        self.parts.push(Part { head: format!("name=\"{}\"", quoted(name)), body: value.into() });
        self
    }

    /// Adds a file of that name and media type.
    pub fn file(mut self, name: &str, file_name: &str, media_type: &str, content: impl Into<Bytes>) -> Self {
        let media_type: String = media_type.chars().filter(|c| !c.is_control()).collect();
        let (name, file_name) = (quoted(name), quoted(file_name));
        let head = format!("name=\"{name}\"; filename=\"{file_name}\"\r\nContent-Type: {media_type}");
        self.parts.push(Part { head, body: content.into() });
        self
    }

    /// The body with a random boundary, and its media type.
    pub(super) fn encode(&self) -> (String, Bytes) {
        let boundary = super::request::random_id();
        let length: usize = self.parts.iter().map(|part| part.head.len() + part.body.len() + 96).sum();
        let mut body = Vec::with_capacity(length + 64);
        for part in &self.parts {
            let head = format!("--{boundary}\r\nContent-Disposition: form-data; {}\r\n\r\n", part.head);
            body.extend_from_slice(head.as_bytes());
            body.extend_from_slice(&part.body);
            body.extend_from_slice(b"\r\n");
        }
        body.extend_from_slice(format!("--{boundary}--\r\n").as_bytes());
        (format!("multipart/form-data; boundary={boundary}"), body.into())
    }
}

/// A name as browsers write it (HTML, "multipart/form-data encoding algorithm").
fn quoted(name: &str) -> String {
    name.replace('"', "%22").replace('\r', "%0D").replace('\n', "%0A")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_is_written_part_by_part_and_names_cannot_break_out() {
        let form = Multipart::new().text("a\"\r\nb", "1").file("f", "x.bin", "image/png\r\nX: y", vec![0, 255]);
        let (kind, body) = form.encode();
        let boundary = kind.strip_prefix("multipart/form-data; boundary=").unwrap();
        let wanted = [
            format!("--{boundary}\r\nContent-Disposition: form-data; name=\"a%22%0D%0Ab\"\r\n\r\n1\r\n"),
            format!("--{boundary}\r\nContent-Disposition: form-data; name=\"f\"; filename=\"x.bin\"\r\n"),
            "Content-Type: image/pngX: y\r\n\r\n".into(),
        ];
        let mut wanted = wanted.concat().into_bytes();
        wanted.extend_from_slice(&[0, 255]);
        wanted.extend_from_slice(format!("\r\n--{boundary}--\r\n").as_bytes());
        assert_eq!(body, wanted);
        assert_ne!(form.encode().0, kind, "each has a boundary of its own");
    }
}
