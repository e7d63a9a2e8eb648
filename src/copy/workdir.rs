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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::copy::memory::MemoryTree;
    use crate::copy::tests::{NOW, listing, writer};
    use crate::copy::workdir;
    use crate::layer::EmptyTree;

    #[track_caller]
    fn check(path: &str, user: &str, below: &dyn Tree, expected: &[&str]) {
        let step = WorkdirStep { path: path.to_owned(), user: user.to_owned() };
        let mut writer = writer();
        workdir(&step, below, NOW, &mut writer).expect("made");
        let layer = listing(&writer.finish().expect("a Vec takes all").sink);
        assert_eq!(layer, expected, "{path}");
    }

    #[test]
    fn a100_every_directory_that_the_text_passes_through_is_made() {
        let expected = ["755 0:0 now a/", "755 0:0 now a/b/", "755 0:0 now a/c/"];
        check("/a//b/../c/.", "", &EmptyTree, &expected);
        check("/", "", &EmptyTree, &[]);
    }

    #[test]
    fn a101_what_is_made_belongs_to_the_user() {
        let below = MemoryTree::new().dir("/w", 0o700).owner("/w", 5, 6);
        check("/w", "nosuch", &below, &[]);
        check("/w/new", "9999", &below, &["700 5:6 old w/", "755 9999:9999 now w/new/"]);
    }

    #[test]
    fn a102_links_lead_inside_the_image() {
        let below = MemoryTree::new().link("/climb", "../../../up").link("/gone", "/nowhere/yet");
        check("/climb/made", "", &below, &["755 0:0 now up/", "755 0:0 now up/made/"]);
        let expected =
            ["755 0:0 now nowhere/", "755 0:0 now nowhere/yet/", "755 0:0 now nowhere/yet/made/"];
        check("/gone/made", "", &below, &expected);
    }

    #[test]
    fn a_file_in_the_way_is_an_error() {
        let below = MemoryTree::new().file("/file", "");
        let step = WorkdirStep { path: "/file".to_owned(), user: String::new() };
        let error = workdir(&step, &below, NOW, &mut writer()).expect_err("a file");
        assert_eq!(error.to_string(), "`/file` is not a directory");
    }
}
