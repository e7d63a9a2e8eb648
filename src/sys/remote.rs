//! Reading and writing the memory of another process.
//!
//! Whoever may trace a process may do this: the same user, with no fewer capabilities.
//!
//! Manual: <https://man7.org/linux/man-pages/man2/process_vm_readv.2.html>
#![expect(unsafe_code, reason = "the kernel copies between two processes' memories")]

use std::io;

use rustix::io::Errno;
use rustix::process::Pid;

/// As much as any page: a copy that stays in one cannot fail in the middle.
const PAGE: usize = 4096;

/// Reads as much as there is of `buffer.len()` bytes at `address`; says how much that is.
///
/// # Errors
///
/// `EFAULT` if nothing is there, `EPERM` for a process that may not be traced, `ESRCH` for none.
pub(crate) fn read(process: Pid, address: u64, buffer: &mut [u8]) -> Result<usize, Errno> {
    let local = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    let remote = remote(address, buffer.len())?;
    let pid = process.as_raw_pid();
    // SAFETY: the kernel writes at most `buffer.len()` bytes to `buffer`, which outlives the call. The
    // other address is of the other process, where nothing is written.
    let count =
        unsafe { libc::process_vm_readv(pid, &raw const local, 1, &raw const remote, 1, 0) };
    usize::try_from(count).map_err(|_| last_errno())
}

/// Reads a string that ends in a zero byte, without it. At most `limit` bytes.
///
/// # Errors
///
/// As for [`read`]; `ENAMETOOLONG` if there is no end within the limit.
pub(crate) fn read_string(process: Pid, address: u64, limit: usize) -> Result<Vec<u8>, Errno> {
    // Most strings are short.
    let mut short = [0; 256];
    let mut long = Vec::new();
    let mut string = Vec::new();
    let mut at = address;
    while string.len() < limit {
        let in_page = usize::try_from(at % PAGE as u64).map_or(PAGE, |offset| PAGE - offset);
        let chunk: &mut [u8] = if string.is_empty() {
            &mut short
        } else {
            long.resize(PAGE, 0);
            &mut long
        };
        let wanted = in_page.min(limit - string.len()).min(chunk.len());
        let count = read(process, at, &mut chunk[..wanted])?;
        if count == 0 {
            return Err(Errno::FAULT);
        }
        if let Some(end) = chunk[..count].iter().position(|byte| *byte == 0) {
            string.extend_from_slice(&chunk[..end]);
            return Ok(string);
        }
        string.extend_from_slice(&chunk[..count]);
        at = at.wrapping_add(count as u64);
    }
    Err(Errno::NAMETOOLONG)
}

/// Writes all of `bytes` at `address`.
///
/// # Errors
///
/// As for [`read`]; `EFAULT` also if not all of it could be written.
pub(crate) fn write(process: Pid, address: u64, bytes: &[u8]) -> Result<(), Errno> {
    if bytes.is_empty() {
        return Ok(());
    }
    let local = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    let remote = remote(address, bytes.len())?;
    let pid = process.as_raw_pid();
    // SAFETY: the kernel reads `bytes.len()` bytes of `bytes`, which outlives the call, and writes
    // nothing to it. What is written to is the other process's memory, which is not ours.
    let count =
        unsafe { libc::process_vm_writev(pid, &raw const local, 1, &raw const remote, 1, 0) };
    match usize::try_from(count) {
        Ok(count) if count == bytes.len() => Ok(()),
        Ok(_) => Err(Errno::FAULT),
        Err(_) => Err(last_errno()),
    }
}

fn remote(address: u64, length: usize) -> Result<libc::iovec, Errno> {
    let address = usize::try_from(address).map_err(|_| Errno::FAULT)?;
    Ok(libc::iovec { iov_base: std::ptr::without_provenance_mut(address), iov_len: length })
}

fn last_errno() -> Errno {
    Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(Errno::IO)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_read_across_pages_and_written() {
        let me = rustix::process::getpid();
        let mut long = vec![b'x'; 3 * 4096];
        long.push(0);
        let address = long.as_ptr().expose_provenance() as u64;
        assert_eq!(read_string(me, address, 1 << 20), Ok(vec![b'x'; 3 * 4096]));
        assert_eq!(read_string(me, address, 4096), Err(Errno::NAMETOOLONG));
        assert_eq!(read_string(me, 8, 4096), Err(Errno::FAULT));
        let target = long.as_mut_ptr().expose_provenance() as u64;
        write(me, target, b"abc\0").expect("our own memory");
        assert_eq!(read_string(me, target, 10), Ok(b"abc".to_vec()));
        assert_eq!(write(me, 8, b"abc"), Err(Errno::FAULT));
    }
}
