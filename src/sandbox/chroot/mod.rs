//! The backend `chroot`.

use std::fs::File;

use crate::sandbox::error::Failure;
use crate::sandbox::protocol::{Order, Outcome};

/// Carries out the order; `orders` closing means that the sandbox is to end.
pub(super) fn serve(_order: &Order, _orders: File) -> Result<Outcome, Failure> {
    let source = std::io::Error::from_raw_os_error(libc::ENOSYS);
    Err(Failure { action: "use the isolation `chroot`".to_owned(), source })
}
