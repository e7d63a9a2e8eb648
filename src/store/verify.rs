//! Reading bytes that a descriptor has promised.

use std::io::{self, Read};

use crate::oci::{Descriptor, Digest, Digester};
use crate::store::StoreError;

/// Reads a blob, and fails unless it is the blob that its descriptor promised.
///
/// It never yields more than the promised number of bytes, so a hostile source cannot fill a disk.
/// It reports the end of the stream only if size and digest are right: read to the end before
/// trusting anything. A failure is an [`io::Error`] that holds a [`StoreError`]
/// ([`StoreError::unwrap_io`] takes it out).
#[derive(Debug)]
pub struct VerifiedReader<R> {
    source: R,
    digester: Digester,
    digest: Digest,
    expected: u64,
    seen: u64,
}

impl<R: Read> VerifiedReader<R> {
    /// Wraps `source`, which should yield exactly the blob that `expected` describes.
    pub fn new(source: R, expected: &Descriptor) -> Self {
        Self {
            source,
            digester: Digester::new(),
            digest: expected.digest,
            expected: expected.size,
            seen: 0,
        }
    }

    /// Reads all of it into memory.
    ///
    /// # Errors
    ///
    /// Fails before it reads a byte if more than `limit` were promised; and if the source fails or
    /// holds anything but what was promised.
    pub fn read_all(mut self, limit: u64) -> Result<Vec<u8>, StoreError> {
        let (digest, size) = (self.digest, self.expected);
        let what = format!("blob {digest}");
        if size > limit {
            return Err(StoreError::TooLarge { what, size, limit });
        }
        let mut bytes = Vec::new();
        self.read_to_end(&mut bytes)
            .map_err(|error| StoreError::unwrap_io("read", digest.to_string(), error))?;
        Ok(bytes)
    }

    /// What to answer when the promised number of bytes has been read or the source has ended.
    fn end(&mut self) -> io::Result<usize> {
        let mut one_more = [0];
        let wrong_size = if self.seen < self.expected {
            true
        } else {
            retrying(|| self.source.read(&mut one_more))? > 0
        };
        let error = if wrong_size {
            let actual = if self.seen < self.expected { self.seen } else { self.seen + 1 };
            StoreError::WrongSize { digest: self.digest, expected: self.expected, actual }
        } else {
            let actual = self.digester.clone().finish();
            if actual == self.digest {
                return Ok(0);
            }
            StoreError::WrongDigest { expected: self.digest, actual }
        };
        Err(io::Error::new(io::ErrorKind::InvalidData, error))
    }
}

impl<R: Read> Read for VerifiedReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        let left = usize::try_from(self.expected - self.seen).unwrap_or(usize::MAX);
        let room = left.min(buffer.len());
        if room == 0 {
            return self.end();
        }
        let count = self.source.read(&mut buffer[..room])?;
        if count == 0 {
            return self.end();
        }
        self.digester.update(&buffer[..count]);
        self.seen += count as u64;
        Ok(count)
    }
}

fn retrying(mut read: impl FnMut() -> io::Result<usize>) -> io::Result<usize> {
    loop {
        match read() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::MediaType;

    fn promise(bytes: &str, size: u64) -> Descriptor {
        Descriptor::new(MediaType::OciConfig, Digest::of(bytes), size)
    }

    #[test]
    fn what_was_promised_is_read() {
        let reader = VerifiedReader::new(&b"abc"[..], &promise("abc", 3));
        assert_eq!(reader.read_all(3).expect("as promised"), b"abc");
        let reader = VerifiedReader::new(&b""[..], &promise("", 0));
        assert_eq!(reader.read_all(0).expect("as promised"), b"");
    }

    #[test]
    fn another_content_another_size_and_too_much_are_told_apart() {
        let error = |source: &'static str, expected: Descriptor| {
            VerifiedReader::new(source.as_bytes(), &expected).read_all(10).expect_err(source)
        };
        assert!(matches!(error("abd", promise("abc", 3)), StoreError::WrongDigest { .. }));
        let short = error("ab", promise("abc", 3));
        assert!(matches!(short, StoreError::WrongSize { expected: 3, actual: 2, .. }));
        let long = error("abcdef", promise("abc", 3));
        assert!(matches!(long, StoreError::WrongSize { expected: 3, actual: 4, .. }));
        let large = error("abc", promise("abc", 11));
        assert!(matches!(large, StoreError::TooLarge { size: 11, limit: 10, .. }));
    }

    #[test]
    fn an_endless_source_is_read_no_further_than_promised() {
        let mut reader = VerifiedReader::new(io::repeat(b'a'), &promise("aaa", 3));
        let mut bytes = Vec::new();
        reader.read_to_end(&mut bytes).expect_err("too long");
        assert_eq!(bytes, b"aaa");
    }
}
