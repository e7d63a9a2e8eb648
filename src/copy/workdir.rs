//! `WORKDIR`: the directories that its path passes through.

use crate::copy::CopyError;
use crate::copy::owner::{self, Owner};
use crate::copy::staging::{Made, Staging};
use crate::layer::{Kind, Tree};
use crate::oci::ImagePath;
use crate::plan::WorkdirStep;

/// Makes every directory that `step` names and that is not there (rules A100 to A102).
///
/// The text is followed as the kernel would: `a/../b` makes `a` too, and links lead inside the
/// image. What is made belongs to `USER`; what is there stays as it is.
pub(crate) fn make(
    step: &WorkdirStep,
    below: &dyn Tree,
    staging: &mut Staging<'_>,
) -> Result<(), CopyError> {
    let mut here = ImagePath::root();
    for name in step.path.split('/') {
        here = match name {
            "" | "." => continue,
            ".." => here.parent().unwrap_or_else(ImagePath::root),
            name => staging.resolve(&here.join(name))?,
        };
        match staging.lookup(&here)?.map(|node| node.kind) {
            Some(Kind::Directory) => {}
            Some(_) => return Err(CopyError::NotADirectory { path: here }),
            None => {
                // Asked only now: where nothing is made, the user need not be known.
                let Owner { uid, gid } = owner::resolve(&step.user, below)?;
                staging.make_directories(&here, Made { mode: 0o755, uid, gid })?;
            }
        }
    }
    Ok(())
}
