//! What was read from a socket and is still to be looked at.

const INPUT: usize = 16 << 10;
/// Bodies are read in pieces of this size, so many bytes are kept of a client that sends ahead, too.
pub(crate) const INPUT_LARGE: usize = 64 << 10;

/// Bytes from the socket that are not judged yet.
#[derive(Default)]
pub(crate) struct Input {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
}

impl Input {
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    pub(crate) fn len(&self) -> usize {
        self.end - self.start
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.start == self.end
    }

    pub(crate) fn consume(&mut self, n: usize) {
        self.start += n;
        if self.is_empty() {
            self.clear();
        }
    }

    pub(crate) fn clear(&mut self) {
        (self.start, self.end) = (0, 0);
        // What one large head or body needed is not kept for the life of the connection.
        if self.bytes.len() > INPUT_LARGE {
            self.bytes = Vec::new();
        }
    }

    pub(crate) fn filled(&mut self, n: usize) {
        self.end += n;
    }

    /// Free room behind the bytes; grows up to `limit` bytes in all.
    pub(crate) fn room(&mut self, limit: usize) -> &mut [u8] {
        if self.end == self.bytes.len() {
            self.bytes.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
            if self.end == self.bytes.len() {
                let size = (self.bytes.len() * 4).clamp(INPUT, limit.max(INPUT)).max(self.end + 1);
                self.bytes.resize(size, 0);
            }
        }
        &mut self.bytes[self.end..]
    }
}
