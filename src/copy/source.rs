//! Sources: which paths a written source stands for.
//!
//! A source is cleaned as text, so `..` stops at the root (rule A106). Without wildcards it is one
//! path, which must exist (rule A113). With wildcards it is matched by text against the names in a
//! directory; no match is no error (rule A112), but the directory must exist. Links are followed in
//! every path that comes out, the last component too (rule A121).

use crate::context::glob::Glob;
use crate::context::ignore::Patterns;
use crate::copy::{CopyError, Missing};
use crate::dockerfile::nearest;
use crate::layer::{Kind, Node, Tree};
use crate::oci::ImagePath;
use crate::plan::{CopyFrom, CopyStep, Remote};

/// One path that a source stands for.
#[derive(Debug, Clone)]
pub(crate) struct Match {
    /// The path by which it was found; its last name is the name of the copy.
    pub(crate) path: ImagePath,
    /// Where the links in it lead.
    pub(crate) real: ImagePath,
    /// What is there.
    pub(crate) node: Node,
}

/// What a source stands for, and which part of it is copied.
#[derive(Debug)]
pub(crate) struct Selection {
    /// In the order of the walk.
    pub(crate) matches: Vec<Match>,
    /// `--parents`: what is copied of each match. `None` is all.
    pub(crate) include: Option<Patterns>,
}

/// Finds what `text` stands for in the step's source.
pub(crate) fn select(step: &CopyStep, tree: &dyn Tree, text: &str) -> Result<Selection, CopyError> {
    let finder = Finder { tree, from: &step.from };
    if !step.parents {
        let matches = finder.find(text).map_err(|error| said_above(error, text))?;
        return Ok(Selection { matches, include: None });
    }
    // Only what comes after the first `/./` is kept below the destination (rule A128).
    let (pivot, rest) = text.split_once("/./").unwrap_or(("/", text));
    let pattern = ImagePath::new(rest);
    if !has_wildcard(pivot) && !has_wildcard(rest) {
        finder.existing(ImagePath::new(pivot).join(&pattern.as_bytes()[1..]))?;
    }
    let text = String::from_utf8_lossy(&pattern.as_bytes()[1..]);
    let include = Patterns::new([text.as_ref()])
        .map_err(|source| CopyError::FlagPattern { flag: "parents", source })?;
    let include = (!include.is_empty()).then_some(include);
    Ok(Selection { matches: finder.find(pivot)?, include })
}

/// All that was fetched of a remote source. Its name is no pattern.
pub(crate) fn whole(
    step: &CopyStep,
    tree: &dyn Tree,
    remote: &Remote,
) -> Result<Selection, CopyError> {
    let path = match remote {
        Remote::Url(source) => ImagePath::new(&source.name),
        Remote::Git(_) => ImagePath::root(),
    };
    let found = Finder { tree, from: &step.from }.existing(path)?;
    Ok(Selection { matches: vec![found], include: None })
}

struct Finder<'a> {
    tree: &'a dyn Tree,
    from: &'a CopyFrom,
}

impl Finder<'_> {
    fn find(&self, text: &str) -> Result<Vec<Match>, CopyError> {
        let path = ImagePath::new(text);
        let names: Vec<&[u8]> = path.components().collect();
        let wild = names.iter().position(|name| has_wildcard(&String::from_utf8_lossy(name)));
        let Some(wild) = wild else { return Ok(vec![self.existing(path)?]) };
        let base = self.existing(ImagePath::new(names[..wild].join(&b'/')))?;
        let pattern = names[wild..].join(&b'/');
        let glob = Glob::new(&String::from_utf8_lossy(&pattern))
            .map_err(|source| CopyError::SourcePattern { pattern: text.to_owned(), source })?;
        let mut matches = Vec::new();
        if base.node.kind == Kind::Directory {
            self.walk(&base.real, &[], &glob, &mut matches)?;
        }
        Ok(matches)
    }

    /// Adds what matches below `base`. `name` is the way from there to the directory to look into.
    fn walk(
        &self,
        base: &ImagePath,
        name: &[u8],
        glob: &Glob,
        matches: &mut Vec<Match>,
    ) -> Result<(), CopyError> {
        for child in self.tree.read_dir(&base.join(name))? {
            let child = if name.is_empty() { child } else { [name, &child].join(&b'/') };
            let path = base.join(&child);
            if glob.matches(&child) {
                // A directory that matches is copied whole: nothing in it can match as well.
                matches.push(self.existing(path)?);
            } else if glob.may_match_below(&child)
                && self.tree.lookup(&path)?.is_some_and(|node| node.kind == Kind::Directory)
            {
                self.walk(base, &child, glob, matches)?;
            }
        }
        Ok(())
    }

    /// The path as it would be without a slip in one of its names. What cannot be read is passed
    /// over: this is only for a hint.
    fn nearest(&self, path: &ImagePath) -> Option<ImagePath> {
        let mut found = ImagePath::root();
        let (mut slips, mut cases) = (0, false);
        for name in path.components() {
            let exact = found.join(name);
            if self.tree.lookup(&self.tree.resolve(&exact).ok()?).ok()?.is_some() {
                found = exact;
                continue;
            }
            let names = self.tree.read_dir(&self.tree.resolve(&found).ok()?).ok()?;
            let near = nearest_name(name, &names)?;
            // On a file system that ignores case, letters of another case work everywhere.
            let is_same = is_same_but_for_case(name, &near);
            (slips, cases) = (slips + usize::from(!is_same), cases || is_same);
            found = found.join(near);
        }
        (slips == 1 || slips == 0 && cases).then_some(found)
    }

    fn existing(&self, path: ImagePath) -> Result<Match, CopyError> {
        let real = self.tree.resolve(&path)?;
        if let Some(node) = self.tree.lookup(&real)? {
            return Ok(Match { path, real, node });
        }
        let hidden_by = self.tree.hidden_by(&path).or_else(|| self.tree.hidden_by(&real));
        let why = hidden_by
            .map(Missing::Ignored)
            .or_else(|| self.dead_link(&path))
            .or_else(|| self.nearest(&path).map(|nearest| Missing::Misspelled { nearest }));
        let (from, why) = (Box::new(self.from.clone()), why.unwrap_or(Missing::Unknown));
        Err(CopyError::MissingSource { path, from, why })
    }

    /// The link among the names of a path that leads to nothing.
    fn dead_link(&self, path: &ImagePath) -> Option<Missing> {
        let mut link = ImagePath::root();
        for name in path.components() {
            let parent = self.tree.resolve(&link).ok()?;
            let node = self.tree.lookup(&parent.join(name)).ok()??;
            link = link.join(name);
            let leads_to = self.tree.lookup(&self.tree.resolve(&link).ok()?).ok()?;
            if let (Kind::Symlink { target }, None) = (node.kind, leads_to) {
                let target = String::from_utf8_lossy(&target).into_owned();
                return Some(Missing::DeadLink { link, target });
            }
        }
        None
    }
}

/// The same error, which knows whether the source as written leads out of the root.
fn said_above(error: CopyError, text: &str) -> CopyError {
    let mut depth = 0_usize;
    let leads_out = text.split('/').any(|name| match name {
        "" | "." => false,
        ".." if depth == 0 => true,
        ".." => {
            depth -= 1;
            false
        }
        _ => {
            depth += 1;
            false
        }
    });
    match error {
        CopyError::MissingSource { why: Missing::Ignored(_), .. } => error,
        CopyError::MissingSource { path, from, .. } if leads_out => {
            CopyError::MissingSource { path, from, why: Missing::AboveRoot }
        }
        error => error,
    }
}

/// How far names may be apart: BuildKit's two letters.
fn nearest_name(name: &[u8], names: &[Vec<u8>]) -> Option<Vec<u8>> {
    // A name that differs in the case of its letters alone is the likeliest slip of all.
    if let Some(same) = names.iter().find(|it| is_same_but_for_case(it, name)) {
        return Some(same.clone());
    }
    let name = String::from_utf8_lossy(name);
    let texts: Vec<_> = names.iter().map(|it| String::from_utf8_lossy(it)).collect();
    let texts: Vec<&str> = texts.iter().map(AsRef::as_ref).collect();
    let near = nearest(&name, &texts)?;
    names.get(texts.iter().position(|it| *it == near)?).cloned()
}

fn is_same_but_for_case(one: &[u8], other: &[u8]) -> bool {
    String::from_utf8_lossy(one).to_lowercase() == String::from_utf8_lossy(other).to_lowercase()
}

/// Whether a name needs matching. A `\` alone does not make it a pattern (rule A111).
fn has_wildcard(name: &str) -> bool {
    let mut characters = name.chars();
    while let Some(character) = characters.next() {
        match character {
            '*' | '?' | '[' => return true,
            '\\' => drop(characters.next()),
            _ => {}
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::copy::memory::MemoryTree;
    use crate::copy::tests::step;

    fn tree() -> MemoryTree {
        MemoryTree::new()
            .file("/a.txt", "")
            .file("/.dot.txt", "")
            .file("/back\\slash", "")
            .file("/sub/d1/f", "")
            .file("/sub/d2/f", "")
            .file("/sub/top", "")
            .link("/to-sub", "sub")
            .link("/gone", "nowhere")
    }

    #[track_caller]
    fn check(source: &str, expected: &[&str]) {
        let selection = select(&step(&[source], "/"), &tree(), source).expect(source);
        let real: Vec<_> = selection.matches.iter().map(|found| found.real.to_string()).collect();
        assert_eq!(real, expected, "{source}");
    }

    #[test]
    fn a106_sources_are_clamped_to_the_root() {
        check("../../sub/../a.txt", &["/a.txt"]);
        check("/sub//top", &["/sub/top"]);
        check(".", &["/"]);
    }

    #[test]
    fn a111_wildcards_match_by_name_and_stay_in_one_directory() {
        check("*.txt", &["/.dot.txt", "/a.txt"]);
        check("sub/*", &["/sub/d1", "/sub/d2", "/sub/top"]);
        check("s?b/d[^2]/f", &["/sub/d1/f"]);
        check("*/*/f", &["/sub/d1/f", "/sub/d2/f"]);
        check("back\\slash", &["/back\\slash"]);
        check("back\\\\slas[h]", &["/back\\slash"]);
    }

    #[test]
    fn a112_no_match_is_no_error() {
        check("*.nothing", &[]);
        check("a.txt/*", &[]);
    }

    #[test]
    fn a121_links_are_followed() {
        check("to-sub", &["/sub"]);
        check("to-sub/d*", &["/sub/d1", "/sub/d2"]);
        check("to-*", &["/sub"]);
    }

    #[test]
    fn a113_a_missing_source_is_named() {
        let check = |source: &str, expected: &str| {
            let error = select(&step(&[source], "/"), &tree(), source).expect_err(source);
            assert!(
                matches!(&error, CopyError::MissingSource { path, .. } if path.to_string() == expected),
                "{error:?}"
            );
        };
        check("nothing", "/nothing");
        check("nodir/*", "/nodir");
        check("gone", "/gone");
        check("a.txt/b", "/a.txt/b");
    }

    #[test]
    fn a_missing_source_has_a_nearest_one() {
        let check = |source: &str, expected: Option<&str>| {
            let error = select(&step(&[source], "/"), &tree(), source).expect_err(source);
            let CopyError::MissingSource { why, .. } = error else { panic!("{error:?}") };
            let nearest = match why {
                Missing::Misspelled { nearest } => Some(nearest.to_string()),
                _ => None,
            };
            assert_eq!(nearest.as_deref(), expected, "{source}");
        };
        check("a.text", Some("/a.txt"));
        check("A.TXT", Some("/a.txt"));
        check("sbu/d1/f", Some("/sub/d1/f"));
        check("sub/d3", Some("/sub/d1"));
        check("SBU/D1", Some("/sub/d1"));
        check("SUB/D1", Some("/sub/d1"));
        check("completely/else", None);
    }

    #[test]
    fn a_link_that_leads_to_nothing_is_named() {
        let error = select(&step(&["gone"], "/"), &tree(), "gone").expect_err("a dead link");
        let hint = error.hint().expect("a hint");
        assert!(hint.starts_with("`gone` is a symbolic link to `"), "{hint}");
    }

    #[test]
    fn a_malformed_pattern_is_an_error() {
        let error = select(&step(&["[a"], "/"), &tree(), "[a").expect_err("open class");
        assert!(matches!(error, CopyError::SourcePattern { .. }));
    }
}
