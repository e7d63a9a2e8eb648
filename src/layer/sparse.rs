//! Sparse files in tar archives: which parts of a file are stored, and which are zeros.
//!
//! GNU tar has four ways to write the map; all end as the same list here.
//!
//! Spec: <https://www.gnu.org/software/tar/manual/html_section/Sparse-Formats.html>.

use std::collections::VecDeque;

use crate::layer::pax;

/// What remains of a file's content: runs of stored bytes, with zeros between them.
#[derive(Debug, Default)]
pub(crate) struct Map {
    /// Offset and length of what is stored, in order, not overlapping.
    runs: VecDeque<(u64, u64)>,
    position: u64,
    size: u64,
}

impl Map {
    /// A file that is stored as it is.
    pub(crate) fn whole(size: u64) -> Self {
        Self { runs: VecDeque::from([(0, size)]), position: 0, size }
    }

    /// How many bytes the file has.
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// The next at most `limit` bytes: whether they are zeros (which are then done with), and how
    /// many. Stored bytes are to be reported with [`advance`](Self::advance).
    pub(crate) fn next(&mut self, limit: usize) -> (bool, usize) {
        while self.runs.front().is_some_and(|(at, length)| at + length <= self.position) {
            self.runs.pop_front();
        }
        let (start, end) = self.runs.front().map_or((self.size, self.size), |(a, n)| (*a, a + n));
        let zeros = self.position < start;
        let rest = if zeros { start } else { end } - self.position;
        let length = usize::try_from(rest).map_or(limit, |rest| rest.min(limit));
        if zeros {
            self.position += length as u64;
        }
        (zeros, length)
    }

    /// Passes over the zeros that come next, and tells how many there were.
    pub(crate) fn skip_hole(&mut self) -> u64 {
        let mut skipped = 0;
        // A run of no bytes may stand between two holes.
        while let (true, length @ 1..) = self.next(usize::MAX) {
            skipped += length as u64;
        }
        skipped
    }

    /// Records that so many stored bytes were read.
    pub(crate) fn advance(&mut self, count: u64) {
        self.position += count;
    }
}

/// A map that is still being read. Methods give `None` where the archive makes no sense.
#[derive(Debug)]
pub(crate) struct Builder {
    runs: VecDeque<(u64, u64)>,
    size: u64,
    stored: u64,
}

impl Builder {
    /// For a file of which `stored` bytes are in the archive.
    pub(crate) fn new(stored: u64) -> Self {
        Self { runs: VecDeque::new(), size: 0, stored }
    }

    /// Reads `offset,length,offset,length,…`.
    pub(crate) fn from_list(list: &[u8], size: u64, stored: u64) -> Option<Self> {
        let mut runs = VecDeque::new();
        let mut numbers = list.split(|byte| *byte == b',').filter(|text| !text.is_empty());
        while let Some(offset) = numbers.next() {
            runs.push_back((pax::number(offset)?, pax::number(numbers.next()?)?));
        }
        Some(Self { runs, size, stored })
    }

    /// Reads an old GNU header; whether extension blocks follow it.
    pub(crate) fn old_gnu(&mut self, header: &tar::Header) -> Option<bool> {
        let gnu = header.as_gnu()?;
        self.size = gnu.real_size().ok()?;
        self.runs(&gnu.sparse)?;
        Some(gnu.is_extended())
    }

    /// Reads an extension block of an old GNU header; whether another one follows it.
    pub(crate) fn extension(&mut self, block: &[u8; 512]) -> Option<bool> {
        let mut extension = tar::GnuExtSparseHeader::new();
        extension.as_mut_bytes().copy_from_slice(block);
        self.runs(extension.sparse())?;
        // A map of more than a million runs is no file but an attack.
        (self.runs.len() < 1 << 20).then(|| extension.is_extended())
    }

    fn runs(&mut self, headers: &[tar::GnuSparseHeader]) -> Option<()> {
        for header in headers.iter().filter(|header| !header.is_empty()) {
            self.runs.push_back((header.offset().ok()?, header.length().ok()?));
        }
        Some(())
    }

    /// The map, if it is in order, inside the file, and accounts for every stored byte.
    pub(crate) fn finish(self) -> Option<Map> {
        let (mut end, mut sum) = (0_u64, 0_u64);
        for (offset, length) in &self.runs {
            if *offset < end {
                return None;
            }
            end = offset.checked_add(*length)?;
            sum += length;
        }
        let valid = end <= self.size && sum == self.stored && self.size < 1 << 62;
        valid.then_some(Map { runs: self.runs, position: 0, size: self.size })
    }
}

/// PAX sparse format 1.0: decimal numbers on lines of their own, first how many pairs there are.
/// The list in the form of format 0.1 if all its lines are in `text`.
pub(crate) fn complete_list(text: &[u8]) -> Option<Vec<u8>> {
    let mut lines = text.split(|byte| *byte == b'\n');
    let pairs: usize = pax::number(lines.next()?)?;
    // The last piece of `text` has no line end yet.
    let lines: Vec<&[u8]> = lines.collect();
    let wanted = pairs.checked_mul(2)?;
    (lines.len() > wanted).then(|| lines[..wanted].join(&b','))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zeros_stand_between_the_runs() {
        let mut map =
            Builder::from_list(b"2,3,8,1", 10, 4).and_then(Builder::finish).expect("valid");
        let mut seen = Vec::new();
        loop {
            let (zeros, length) = map.next(2);
            if length == 0 {
                break;
            }
            if !zeros {
                map.advance(length as u64);
            }
            seen.push((zeros, length));
        }
        let expected =
            [(true, 2), (false, 2), (false, 1), (true, 2), (true, 1), (false, 1), (true, 1)];
        assert_eq!(seen, expected);
    }

    #[test]
    fn maps_that_lie_are_refused() {
        let check = |list: &str, size, stored| {
            let map = Builder::from_list(list.as_bytes(), size, stored).and_then(Builder::finish);
            assert!(map.is_none(), "{list}");
        };
        check("0,3", 2, 3);
        check("0,3", 3, 2);
        check("4,1,0,1", 10, 2);
        check("0,18446744073709551615,1,1", 10, 1);
        check("0", 1, 1);
        check("a,b", 1, 1);
    }

    #[test]
    fn a_list_in_the_content_ends_where_it_says() {
        assert_eq!(complete_list(b"1\n0\n512\n\0\0"), Some(b"0,512".to_vec()));
        assert_eq!(complete_list(b"2\n0\n512\n"), None);
        assert_eq!(complete_list(b"0\n\0"), Some(Vec::new()));
    }
}
