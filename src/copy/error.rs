//! Why files could not be copied.

use std::io;

use crate::context::glob::BadPattern;
use crate::context::ignore::PatternError;
use crate::layer::{LayerError, TreeError};
use crate::oci::ImagePath;
use crate::plan::CopyFrom;

/// Why a `COPY`, `ADD` or `WORKDIR` failed. Where people search for `BuildKit`'s wording, it is kept.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// A source without wildcards leads to nothing (rule A113).
    #[error("\"{path}\": not found in {}", place(.from))]
    MissingSource {
        /// As written, from the root of where it was looked for.
        path: ImagePath,
        /// Where it was looked for.
        from: Box<CopyFrom>,
        /// Why it is not there.
        why: Missing,
    },
    /// A source with wildcards is malformed.
    #[error("cannot use the source `{pattern}`")]
    SourcePattern {
        /// As written.
        pattern: String,
        /// What is wrong.
        source: BadPattern,
    },
    /// An `--exclude` or `--parents` pattern is malformed.
    #[error("cannot use the patterns of `--{flag}`")]
    FlagPattern {
        /// Which flag.
        flag: &'static str,
        /// Which pattern, and why.
        source: PatternError,
    },
    /// A directory is needed where something else is.
    #[error("`{path}` is not a directory")]
    NotADirectory {
        /// Where.
        path: ImagePath,
    },
    /// A directory was to be copied onto something else (rule A123).
    #[error("cannot copy to non-directory: {path}")]
    DirectoryOntoFile {
        /// What is in the way.
        path: ImagePath,
    },
    /// A file was to be copied onto a directory (rule A123).
    #[error("cannot replace to directory {path} with file")]
    FileOntoDirectory {
        /// What is in the way.
        path: ImagePath,
    },
    /// A user is named who is not in the stage's `/etc/passwd` (rule A125).
    #[error("unable to find user {name}: no matching entries in passwd file")]
    UnknownUser {
        /// As written.
        name: String,
    },
    /// A group is named that is not in the stage's `/etc/group` (rule A125).
    #[error("unable to find group {name}: no matching entries in group file")]
    UnknownGroup {
        /// As written.
        name: String,
    },
    /// `--link` knows no files in which a name could be looked up (rule A127).
    #[error("invalid user index: -1: `--link` takes a numeric `--chown`, not `{owner}`")]
    NamedOwnerWithLink {
        /// As written.
        owner: String,
    },
    /// An archive is damaged, after a beginning that was not.
    #[error("cannot unpack `{path}`")]
    Archive {
        /// Where the archive came from.
        path: ImagePath,
        /// What the reader of archives said.
        source: LayerError,
    },
    /// An archive has a member that cannot be put anywhere.
    #[error("cannot unpack `{member}` from `{path}`: {reason}")]
    Member {
        /// Where the archive came from.
        path: ImagePath,
        /// The member's name.
        member: String,
        /// Why not.
        reason: MemberProblem,
    },
    /// The unpacked content of an archive could not be kept for the time it is needed.
    #[error("cannot write a temporary file")]
    Spool {
        /// What the operating system said.
        source: io::Error,
    },
    /// A source was written to while it was copied.
    #[error("`{path}` changed while it was copied")]
    Changed {
        /// Which one.
        path: ImagePath,
    },
    /// The source, or the stage so far, could not be read.
    #[error("cannot read the files to copy")]
    Tree {
        /// Which one, and why.
        source: TreeError,
    },
    /// The layer could not be written.
    #[error("cannot write the layer")]
    Layer {
        /// Why.
        source: LayerError,
    },
}

/// Why a source is not there, as far as that can be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Missing {
    /// An ignore pattern hides it: which one, where.
    Ignored(String),
    /// It was to lie above the root.
    AboveRoot,
    /// A symbolic link leads to something that is not there.
    DeadLink {
        /// The link.
        link: ImagePath,
        /// Where it leads, as it says itself.
        target: String,
    },
    /// Something that is there has nearly its name.
    Misspelled {
        /// That one.
        nearest: ImagePath,
    },
    /// Nobody knows.
    Unknown,
}

impl Missing {
    /// What to do about the missing source `path` of `from`.
    fn hint(&self, path: &ImagePath, from: &CopyFrom) -> String {
        match self {
            Self::Ignored(rule) => {
                format!("{rule} excludes it; a line `!{}` takes it back", name(path))
            }
            Self::AboveRoot => "a source cannot lie outside of where it is looked for: `..` stops \
                there; build with a directory that holds it, or give that one a name with \
                `--build-context`"
                .to_owned(),
            Self::DeadLink { link, target } => format!(
                "`{}` is a symbolic link to `{target}`, and links cannot lead out of where the \
                 source is looked for: copy the file itself there",
                name(link)
            ),
            _ if is_url(path) => {
                "only `http://`, `https://` and git repositories can be fetched, and only by ADD"
                    .to_owned()
            }
            Self::Misspelled { nearest } => format!("did you mean `{}`?", name(nearest)),
            Self::Unknown if *from == CopyFrom::Context => {
                "sources are relative to the build context, whatever `WORKDIR` is".to_owned()
            }
            Self::Unknown => {
                "sources of `--from` are relative to its root, whatever its `WORKDIR` is".to_owned()
            }
        }
    }
}

/// What can be wrong with a member of an archive.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MemberProblem {
    /// A hard link to a name that is not there.
    #[error("it is a link to `{0}`, which is not there")]
    LinkToNothing(ImagePath),
    /// A hard link to a directory.
    #[error("it is a link to the directory `{0}`")]
    LinkToDirectory(ImagePath),
}

/// Which part of an instruction an error is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject<'a> {
    /// The source that leads here.
    Source(&'a ImagePath),
    /// `--chown`.
    Owner,
    /// Where to.
    Destination,
    /// All of it, or none.
    Everything,
}

impl CopyError {
    /// The part of the instruction that is wrong.
    pub fn subject(&self) -> Subject<'_> {
        match self {
            Self::MissingSource { path, .. }
            | Self::Archive { path, .. }
            | Self::Member { path, .. }
            | Self::Changed { path } => Subject::Source(path),
            Self::UnknownUser { .. }
            | Self::UnknownGroup { .. }
            | Self::NamedOwnerWithLink { .. } => Subject::Owner,
            Self::NotADirectory { .. }
            | Self::DirectoryOntoFile { .. }
            | Self::FileOntoDirectory { .. } => Subject::Destination,
            Self::SourcePattern { .. }
            | Self::FlagPattern { .. }
            | Self::Spool { .. }
            | Self::Tree { .. }
            | Self::Layer { .. } => Subject::Everything,
        }
    }

    /// Whether it is about the source at this path.
    pub(crate) fn is_about(&self, source: &ImagePath) -> bool {
        matches!(self.subject(), Subject::Source(path) if source.starts_with(path))
    }

    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::MissingSource { path, from, why } => Some(why.hint(path, from)),
            Self::SourcePattern { .. } => {
                Some("write `[[]` for a `[` that is part of a name".to_owned())
            }
            Self::UnknownUser { .. } | Self::UnknownGroup { .. } => Some(
                "names come from /etc/passwd and /etc/group of the stage that is built; \
                 create the name first, or use its number"
                    .to_owned(),
            ),
            Self::NamedOwnerWithLink { .. } => {
                Some("use the number of the user, or leave out `--link`".to_owned())
            }
            Self::Archive { .. } | Self::Member { .. } => {
                Some("`ADD --unpack=false` copies the archive as it is".to_owned())
            }
            Self::DirectoryOntoFile { .. } | Self::FileOntoDirectory { .. } => {
                Some("remove it in an earlier `RUN`, or choose another destination".to_owned())
            }
            Self::Tree { source: TreeError::Read { source, .. } }
                if source.kind() == io::ErrorKind::PermissionDenied =>
            {
                Some("make it readable, or exclude it in `.dockerignore`".to_owned())
            }
            Self::Tree { source } => source.hint(),
            Self::Layer { source } => source.hint(),
            Self::FlagPattern { .. }
            | Self::NotADirectory { .. }
            | Self::Spool { .. }
            | Self::Changed { .. } => None,
        }
    }
}

impl From<TreeError> for CopyError {
    fn from(source: TreeError) -> Self {
        Self::Tree { source }
    }
}

fn place(from: &CopyFrom) -> String {
    match from {
        CopyFrom::Context => "the build context".to_owned(),
        CopyFrom::NamedContext(name) => format!("the context `{name}`"),
        CopyFrom::Stage(_) => "the stage it is copied from".to_owned(),
        CopyFrom::Scratch => "`scratch`, which is empty".to_owned(),
        CopyFrom::Image(image) => format!("the image {}", image.reference),
    }
}

/// Whether a path was a URL before it was cleaned: `ftp:/host/x`.
fn is_url(path: &ImagePath) -> bool {
    let mut names = path.components();
    let scheme = names.next().and_then(|name| name.strip_suffix(b":"));
    scheme.is_some_and(|it| !it.is_empty() && it.iter().all(u8::is_ascii_alphanumeric))
        && names.next().is_some()
}

/// A path as an ignore file has it.
fn name(path: &ImagePath) -> String {
    path.relative().display().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a113_a_missing_source_is_named_with_its_slash_and_the_pattern_that_hides_it() {
        let error = CopyError::MissingSource {
            path: ImagePath::new("a.txt"),
            from: Box::new(CopyFrom::Context),
            why: Missing::Ignored("the pattern `*.txt` in line 3 of `.dockerignore`".to_owned()),
        };
        assert_eq!(error.to_string(), "\"/a.txt\": not found in the build context");
        assert_eq!(
            error.hint().as_deref(),
            Some(
                "the pattern `*.txt` in line 3 of `.dockerignore` excludes it; \
                 a line `!a.txt` takes it back"
            )
        );
    }
}
