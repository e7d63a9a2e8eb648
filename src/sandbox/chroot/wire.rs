//! The kernel's structs that answers are written in, byte by byte.
//!
//! Manuals: <https://man7.org/linux/man-pages/man2/stat.2.html>, `statx(2)`, `uname(2)`, `statfs(2)`.

use rustix::fs::{Statx, StatxTimestamp};

/// The length of each of the fields of `struct utsname`.
const NAME: usize = 65;

/// Bytes in the order of the struct.
struct Bytes(Vec<u8>);

impl Bytes {
    fn of(length: usize) -> Self {
        Self(Vec::with_capacity(length))
    }

    fn put(&mut self, number: impl Into<u64>) -> &mut Self {
        self.0.extend_from_slice(&number.into().to_ne_bytes());
        self
    }

    fn short(&mut self, number: u32) -> &mut Self {
        self.0.extend_from_slice(&number.to_ne_bytes());
        self
    }

    fn end(&mut self, length: usize) -> Vec<u8> {
        self.0.resize(length, 0);
        std::mem::take(&mut self.0)
    }
}

/// `struct stat`.
pub(super) fn stat(it: &Statx) -> Vec<u8> {
    let device = |major, minor| rustix::fs::makedev(major, minor);
    let mut bytes = Bytes::of(144);
    bytes.put(device(it.stx_dev_major, it.stx_dev_minor)).put(it.stx_ino);
    if cfg!(target_arch = "x86_64") {
        bytes.put(it.stx_nlink).short(it.stx_mode.into());
    } else {
        bytes.short(it.stx_mode.into()).short(it.stx_nlink);
    }
    bytes.short(it.stx_uid).short(it.stx_gid);
    if cfg!(target_arch = "x86_64") {
        bytes.short(0);
    }
    bytes.put(device(it.stx_rdev_major, it.stx_rdev_minor));
    if cfg!(target_arch = "aarch64") {
        bytes.put(0_u64);
    }
    // On arm64 the block size is a short number and followed by padding: the same bytes.
    bytes.put(it.stx_size).put(it.stx_blksize).put(it.stx_blocks);
    for time in [it.stx_atime, it.stx_mtime, it.stx_ctime] {
        bytes.put(time.tv_sec.cast_unsigned()).put(time.tv_nsec);
    }
    bytes.end(if cfg!(target_arch = "x86_64") { 144 } else { 128 })
}

/// `struct statx`.
pub(super) fn statx(it: &Statx) -> Vec<u8> {
    let mut bytes = Bytes::of(256);
    bytes.short(it.stx_mask).short(it.stx_blksize).put(0_u64);
    bytes.short(it.stx_nlink).short(it.stx_uid).short(it.stx_gid).short(it.stx_mode.into());
    bytes.put(it.stx_ino).put(it.stx_size).put(it.stx_blocks).put(0_u64);
    for time in [it.stx_atime, it.stx_btime, it.stx_ctime, it.stx_mtime] {
        let StatxTimestamp { tv_sec, tv_nsec, .. } = time;
        bytes.put(tv_sec.cast_unsigned()).short(tv_nsec).short(0);
    }
    bytes.short(it.stx_rdev_major).short(it.stx_rdev_minor);
    bytes.short(it.stx_dev_major).short(it.stx_dev_minor);
    bytes.end(256)
}

/// `struct utsname` of this machine, but with another host name.
pub(super) fn uname(hostname: &str) -> Vec<u8> {
    let real = rustix::system::uname();
    let mut bytes = Vec::with_capacity(6 * NAME);
    for field in [
        real.sysname().to_bytes(),
        hostname.as_bytes(),
        real.release().to_bytes(),
        real.version().to_bytes(),
        real.machine().to_bytes(),
        b"(none)",
    ] {
        let length = field.len().min(NAME - 1);
        bytes.extend_from_slice(&field[..length]);
        bytes.resize(bytes.len() + NAME - length, 0);
    }
    bytes
}

/// `struct statfs` of a file system in memory that may grow to `size` bytes (0 is any).
pub(super) fn statfs_of_memory(size: u64) -> Vec<u8> {
    const TMPFS: u64 = 0x0102_1994;
    const BLOCK: u64 = 4096;
    let blocks = if size == 0 { 1 << 24 } else { size.div_ceil(BLOCK) };
    let mut bytes = Bytes::of(120);
    bytes.put(TMPFS).put(BLOCK).put(blocks).put(blocks).put(blocks).put(1_u64 << 20);
    // Free files, a name for the file system, the longest name, and the size of fragments.
    bytes.put(1_u64 << 20).put(0_u64).put(255_u64).put(BLOCK);
    bytes.end(120)
}

#[cfg(test)]
mod tests {
    use rustix::fs::{AtFlags, CWD, StatxFlags};

    use super::*;

    #[test]
    fn the_bytes_are_those_of_the_kernel() {
        let flags = StatxFlags::BASIC_STATS | StatxFlags::BTIME;
        let file = tempfile::NamedTempFile::new().expect("writable");
        let it = rustix::fs::statx(CWD, file.path(), AtFlags::empty(), flags).expect("there");
        let real = rustix::fs::stat(file.path()).expect("there");
        let bytes = stat(&it);
        assert_eq!(bytes.len(), size_of_val(&real));
        let at = |offset: usize| {
            u64::from_ne_bytes(bytes[offset..offset + 8].try_into().expect("eight bytes"))
        };
        assert_eq!((at(0), at(8)), (real.st_dev, real.st_ino));
        assert_eq!(at(std::mem::offset_of!(libc::stat, st_rdev)), real.st_rdev);
        assert_eq!(at(std::mem::offset_of!(libc::stat, st_size)), real.st_size.cast_unsigned());
        let time = at(std::mem::offset_of!(libc::stat, st_mtime));
        assert_eq!(time, real.st_mtime.cast_unsigned());
        assert_eq!(
            bytes[std::mem::offset_of!(libc::stat, st_mode)..][..4],
            real.st_mode.to_ne_bytes()
        );
        assert_eq!(statx(&it).len(), size_of::<libc::statx>());
        let offset = std::mem::offset_of!(libc::statx, stx_mtime);
        assert_eq!(statx(&it)[offset..offset + 8], real.st_mtime.to_ne_bytes());
        assert_eq!(statfs_of_memory(0).len(), size_of::<libc::statfs>());
        assert_eq!(uname("x").len(), size_of::<libc::utsname>());
        assert_eq!(&uname("x")[NAME..NAME + 2], b"x\0");
    }
}
