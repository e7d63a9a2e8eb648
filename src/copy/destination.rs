//! The destination of a copy: where it is, and whether it was written as a directory.

use crate::oci::ImagePath;
use crate::plan::CopyStep;

/// Where a step copies to, before links are followed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Destination {
    pub(crate) path: ImagePath,
    /// Whether the text says that it is a directory (rule A107).
    pub(crate) is_directory: bool,
}

impl Destination {
    /// Reads the destination of `step`. A relative one begins at the working directory, and `..`
    /// is resolved by text, before links.
    pub(crate) fn of(step: &CopyStep) -> Self {
        let text = step.destination.as_str();
        Self {
            path: ImagePath::new(&step.cwd).join(text),
            is_directory: matches!(text, "" | ".") || text.ends_with('/') || text.ends_with("/."),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::copy::tests::step;

    #[test]
    fn a107_the_end_of_the_text_says_whether_it_is_a_directory() {
        let check = |destination: &str, path: &str, is_directory: bool| {
            let step = CopyStep { cwd: "/work/sub".to_owned(), ..step(&[], destination) };
            let expected = Destination { path: ImagePath::new(path), is_directory };
            assert_eq!(Destination::of(&step), expected, "{destination}");
        };
        check("", "/work/sub", true);
        check(".", "/work/sub", true);
        check("./dot/", "/work/sub/dot", true);
        check("name", "/work/sub/name", false);
        check("../up", "/work/up", false);
        check("../../../../clamped", "/clamped", false);
        check("/x/.", "/x", true);
        check("/", "/", true);
    }
}
