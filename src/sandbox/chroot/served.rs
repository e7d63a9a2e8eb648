//! What stands at a path that the supervisor serves, whatever the tree has there.

use std::fs::File;
use std::io::Write as _;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};

use rustix::fs::{AtFlags, MemfdFlags, Mode, OFlags, SealFlags, Statx, StatxFlags};
use rustix::io::Errno;

use crate::sandbox::chroot::caller::Identity;

/// The magic numbers of `proc` and `sysfs`.
const FROM_KERNEL: [u64; 2] = [0x9fa0, 0x6265_6572];
/// Flags of `open` that are passed on.
const PASSED: OFlags =
    OFlags::NONBLOCK.union(OFlags::APPEND).union(OFlags::NOCTTY).union(OFlags::LARGEFILE);

/// Something that is served.
#[derive(Debug)]
pub(super) enum Served {
    /// A file of the kernel's, found but not open. It can be read.
    File(OwnedFd),
    /// A device of the host, likewise. It can be written to, too.
    Device(OwnedFd),
    /// A file with this content, which looks like the other.
    Text(Vec<u8>, OwnedFd),
    /// A file in memory.
    Memory(OwnedFd),
    /// A link with this text, found but not followed, and what it leads to.
    Link(Vec<u8>, OwnedFd, Target),
    /// A directory, found but not open, whose copy in the tree has the path.
    Directory(OwnedFd, Vec<Vec<u8>>),
}

/// What a link leads to.
#[derive(Debug)]
pub(super) enum Target {
    /// Something that the caller has open, or executes.
    Open(OwnedFd),
    /// A path of the tree.
    Path,
    /// Nothing that could be followed.
    Nothing,
}

impl Served {
    /// What `stat` says of it, or of what it leads to.
    pub(super) fn stat(&self, follow: bool) -> Result<Statx, Errno> {
        match self {
            Self::Link(_, _, Target::Open(file)) if follow => stat_of(file),
            Self::File(file)
            | Self::Device(file)
            | Self::Text(_, file)
            | Self::Memory(file)
            | Self::Link(_, file, _)
            | Self::Directory(file, _) => stat_of(file),
        }
    }

    /// Opens it with `flags`, as whoever this thread acts as, who is `identity`.
    ///
    /// # Errors
    ///
    /// What a kernel would say. `ENOTSUP` for directories, and for links that lead into the tree.
    pub(super) fn open(&self, flags: OFlags, identity: &Identity) -> Result<OwnedFd, Errno> {
        if flags.contains(OFlags::CREATE | OFlags::EXCL) {
            return Err(Errno::EXIST);
        }
        let writes = flags & OFlags::ACCMODE != OFlags::RDONLY || flags.contains(OFlags::TRUNC);
        let access = flags & (OFlags::ACCMODE | PASSED | OFlags::PATH);
        match self {
            Self::Directory(..) => Err(Errno::NOTSUP),
            _ if flags.contains(OFlags::DIRECTORY) && !self.is_link() => Err(Errno::NOTDIR),
            Self::File(_) | Self::Text(..) | Self::Memory(_) if writes => Err(Errno::ACCESS),
            Self::File(file) => reopen(file, access),
            Self::Text(text, _) => in_memory(text),
            Self::Memory(file) => {
                let stat = rustix::fs::fstat(file)?;
                if !identity.may(4, stat.st_mode & 0o777, stat.st_uid, stat.st_gid) {
                    return Err(Errno::ACCESS);
                }
                // Everybody who opens it reads it from its beginning.
                reopen(file, access)
            }
            Self::Device(file) => reopen(file, access | OFlags::NOCTTY),
            Self::Link(..) if flags.contains(OFlags::NOFOLLOW) => Err(Errno::LOOP),
            Self::Link(_, _, Target::Open(file)) => open_again(file, access, writes),
            Self::Link(_, _, Target::Path) => Err(Errno::NOTSUP),
            Self::Link(_, _, Target::Nothing) => Err(Errno::NOENT),
        }
    }

    fn is_link(&self) -> bool {
        matches!(self, Self::Link(..))
    }
}

/// What `stat` says of a file that was found or opened.
pub(super) fn stat_of(file: &OwnedFd) -> Result<Statx, Errno> {
    let asked = StatxFlags::BASIC_STATS | StatxFlags::BTIME;
    rustix::fs::statx(file, "", AtFlags::EMPTY_PATH, asked)
}

/// Opens once more what a process has open: a pipe, a file of the tree, a device, or something that
/// was served before. Of that last kind nothing may come that was not to be had before.
fn open_again(file: &OwnedFd, access: OFlags, writes: bool) -> Result<OwnedFd, Errno> {
    let kind = rustix::fs::fstatfs(file)?.f_type;
    #[allow(clippy::cast_sign_loss, clippy::unnecessary_cast, reason = "differs by target")]
    if writes && FROM_KERNEL.contains(&(kind as u64)) {
        return Err(Errno::ACCESS);
    }
    // A pipe that nobody holds at its other end must not keep the supervisor waiting.
    let opened = reopen(file, access | OFlags::NONBLOCK)?;
    if !access.contains(OFlags::NONBLOCK) && !access.contains(OFlags::PATH) {
        let flags = rustix::fs::fcntl_getfl(&opened)?;
        rustix::fs::fcntl_setfl(&opened, flags - OFlags::NONBLOCK)?;
    }
    Ok(opened)
}

fn reopen(file: &OwnedFd, access: OFlags) -> Result<OwnedFd, Errno> {
    if access.contains(OFlags::PATH) {
        return rustix::io::fcntl_dupfd_cloexec(file, 3);
    }
    let path = format!("/proc/self/fd/{}", file.as_fd().as_raw_fd());
    rustix::fs::open(path, access | OFlags::CLOEXEC, Mode::empty())
}

/// A file with this content that nobody can change.
pub(super) fn in_memory(text: &[u8]) -> Result<OwnedFd, Errno> {
    let file = sealed(text, 0o444)?;
    reopen(&file, OFlags::RDONLY)
}

/// A file in memory with this content and mode, that nobody can change.
pub(super) fn sealed(content: &[u8], mode: u32) -> Result<OwnedFd, Errno> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let file = match rustix::fs::memfd_create("file", flags | MemfdFlags::NOEXEC_SEAL) {
        // Kernels before 6.3 do not know the flag.
        Err(Errno::INVAL) => rustix::fs::memfd_create("file", flags),
        other => other,
    }?;
    let mut file = File::from(file);
    file.write_all(content).map_err(|_| Errno::NOMEM)?;
    rustix::fs::fchmod(&file, Mode::from_raw_mode(mode))?;
    let seals = SealFlags::WRITE | SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL;
    rustix::fs::fcntl_add_seals(&file, seals)?;
    Ok(file.into())
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    const ROOT: Identity = Identity { uid: 0, gid: 0, groups: Vec::new() };

    #[test]
    fn a_file_in_memory_is_read_by_whom_it_is_for_and_changed_by_nobody() {
        let file = Served::Memory(sealed(b"secret", 0o400).expect("memory"));
        for _ in 0..2 {
            let opened = file.open(OFlags::RDONLY, &ROOT).expect("root may");
            let mut text = String::new();
            File::from(opened).read_to_string(&mut text).expect("readable");
            assert_eq!(text, "secret");
        }
        let other = Identity { uid: 4_000_000, ..ROOT };
        assert_eq!(file.open(OFlags::RDONLY, &other).err(), Some(Errno::ACCESS));
        assert_eq!(file.open(OFlags::RDWR, &ROOT).err(), Some(Errno::ACCESS));
        let writable = sealed(b"x", 0o600).and_then(|file| reopen(&file, OFlags::RDWR));
        let error = rustix::io::write(writable.expect("it opens"), b"y").expect_err("it is sealed");
        assert_eq!(error, Errno::PERM);
    }

    #[test]
    fn what_the_kernel_serves_is_not_to_be_written_to_by_way_of_a_descriptor() {
        let path = |name: &str| {
            rustix::fs::open(name, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).expect("there")
        };
        let link =
            |name| Served::Link(b"x".to_vec(), path("/proc/self/exe"), Target::Open(path(name)));
        let limits = link("/proc/self/oom_score_adj");
        limits.open(OFlags::RDONLY, &ROOT).expect("it can be read");
        assert_eq!(limits.open(OFlags::WRONLY, &ROOT).err(), Some(Errno::ACCESS));
        link("/dev/null").open(OFlags::WRONLY, &ROOT).expect("a device is another thing");
        let device = Served::Device(path("/dev/null"));
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC;
        device.open(flags, &ROOT).expect("as a shell does it");
    }
}
