//! Checksums of tar headers, made right after a mutation. The fuzz targets use this file too.

const BLOCK: usize = 512;

/// Gives every header the checksum that it should have. Without that no mutation of a header would
/// get beyond the checksum.
pub(crate) fn repair(archive: &mut [u8]) {
    let mut at = 0_usize;
    while let Some(header) = at.checked_add(BLOCK).and_then(|end| archive.get_mut(at..end)) {
        at += BLOCK;
        if header.iter().all(|byte| *byte == 0) {
            continue;
        }
        header[148..156].fill(b' ');
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        let digits = header[124..136].iter().take_while(|byte| matches!(byte, b'0'..=b'7'));
        let size = digits.fold(0, |size, digit| size * 8 + usize::from(digit - b'0'));
        at = at.saturating_add(size.div_ceil(BLOCK).saturating_mul(BLOCK));
    }
}
