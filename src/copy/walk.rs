//! The walk through a matched path: everything that is copied of it, in order.
//!
//! `--exclude` takes paths away and `--parents` picks some out (rules A128 and A129); both look at
//! the way from the match, so a file that is itself the match is never taken away. A directory
//! that was not picked is listed only once something in it is.

use crate::context::ignore::{Matches, Patterns};
use crate::copy::source::Match;
use crate::layer::{Kind, Node, Tree, TreeError};
use crate::oci::ImagePath;

/// What is copied of the matches of one source.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Filter<'a> {
    /// `--parents`; `None` picks all.
    pub(crate) include: Option<&'a Patterns>,
    /// `--exclude`.
    pub(crate) exclude: &'a Patterns,
}

/// Why a path is in the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// It is the match itself.
    Top,
    /// It was picked.
    Picked,
    /// It is a directory on the way to something that was.
    Parent,
}

/// One path to copy.
#[derive(Debug, Clone)]
pub(crate) struct Listed {
    /// The way from the match; the root is the match itself.
    pub(crate) relative: ImagePath,
    /// Where it is in the source.
    pub(crate) path: ImagePath,
    /// What it is.
    pub(crate) node: Node,
    pub(crate) role: Role,
}

/// Lists what is copied of `found`: parents before children, names in byte order.
pub(crate) fn walk(
    tree: &dyn Tree,
    found: &Match,
    filter: Filter<'_>,
) -> Result<Vec<Listed>, TreeError> {
    let top = Listed {
        relative: ImagePath::root(),
        path: found.real.clone(),
        node: found.node.clone(),
        role: Role::Top,
    };
    let is_directory = top.node.kind == Kind::Directory;
    let mut walk = Walk { tree, filter, list: vec![top], pending: Vec::new() };
    if is_directory {
        walk.directory(&found.real, &ImagePath::root(), &State::default())?;
    }
    Ok(walk.list)
}

/// What the patterns say of a directory.
#[derive(Default)]
struct State {
    include: Matches,
    exclude: Matches,
}

struct Walk<'a> {
    tree: &'a dyn Tree,
    filter: Filter<'a>,
    list: Vec<Listed>,
    /// Directories above the current path that were not picked.
    pending: Vec<Listed>,
}

impl Walk<'_> {
    fn directory(
        &mut self,
        path: &ImagePath,
        relative: &ImagePath,
        state: &State,
    ) -> Result<(), TreeError> {
        for name in self.tree.read_dir(path)? {
            let (path, relative) = (path.join(&name), relative.join(&name));
            let state = State {
                include: self.include(&state.include, &relative),
                exclude: self.filter.exclude.below(&state.exclude, &relative),
            };
            let picked = self.is_included(&state) && !state.exclude.excluded();
            // What was not picked need not even be looked at, if nothing below it can be.
            if !picked && !self.may_pick_below(&relative, &state) {
                continue;
            }
            // Whoever removed it meanwhile will see no copy of it.
            let Some(node) = self.tree.lookup(&path)? else { continue };
            let is_directory = node.kind == Kind::Directory;
            let role = if picked { Role::Picked } else { Role::Parent };
            let listed = Listed { relative: relative.clone(), path: path.clone(), node, role };
            match (picked, is_directory) {
                (true, _) => {
                    self.list.append(&mut self.pending);
                    self.list.push(listed);
                }
                (false, true) => self.pending.push(listed),
                (false, false) => continue,
            }
            if is_directory {
                self.directory(&path, &relative, &state)?;
                self.pending.pop_if(|last| last.relative == relative);
            }
        }
        Ok(())
    }

    fn include(&self, parent: &Matches, relative: &ImagePath) -> Matches {
        self.filter.include.map_or_else(Matches::default, |include| include.below(parent, relative))
    }

    fn is_included(&self, state: &State) -> bool {
        self.filter.include.is_none() || state.include.excluded()
    }

    fn may_pick_below(&self, relative: &ImagePath, state: &State) -> bool {
        let included = self.is_included(state)
            || self.filter.include.is_some_and(|include| include.may_exclude_below(relative));
        let kept = !state.exclude.excluded() || self.filter.exclude.may_take_back_below(relative);
        included && kept
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::copy::memory::MemoryTree;

    #[track_caller]
    fn check(include: Option<&str>, exclude: &[&str], expected: &[&str]) {
        let tree = MemoryTree::new()
            .file("/a.txt", "")
            .file("/b.log", "")
            .file("/sub/c.log", "")
            .file("/sub/keep.txt", "")
            .file("/sub/deep/d.log", "");
        let node = tree.lookup(&ImagePath::root()).expect("read").expect("there");
        let found = Match { path: ImagePath::root(), real: ImagePath::root(), node };
        let include = include.map(|text| Patterns::new([text]).expect("valid"));
        let exclude = Patterns::new(exclude.iter().copied()).expect("valid");
        let filter = Filter { include: include.as_ref(), exclude: &exclude };
        let list = walk(&tree, &found, filter).expect("read");
        let list: Vec<String> = list
            .iter()
            .skip(1)
            .map(|listed| {
                let mark = if listed.role == Role::Parent { "(parent)" } else { "" };
                format!("{}{mark}", listed.relative)
            })
            .collect();
        assert_eq!(list, expected);
    }

    #[test]
    fn a129_excluded_paths_are_left_out() {
        let all = ["/a.txt", "/b.log", "/sub", "/sub/c.log", "/sub/deep", "/sub/deep/d.log"];
        check(None, &[], &[&all[..], &["/sub/keep.txt"]].concat());
        check(None, &["sub"], &["/a.txt", "/b.log"]);
        check(None, &["**/*.log"], &["/a.txt", "/sub", "/sub/deep", "/sub/keep.txt"]);
        check(
            None,
            &["sub", "!sub/keep.txt"],
            &["/a.txt", "/b.log", "/sub(parent)", "/sub/keep.txt"],
        );
        check(None, &["*", "!nothing"], &[]);
    }

    #[test]
    fn a128_parents_are_listed_once_something_in_them_is_picked() {
        check(Some("sub/deep"), &[], &["/sub(parent)", "/sub/deep", "/sub/deep/d.log"]);
        check(Some("sub/*.txt"), &[], &["/sub(parent)", "/sub/keep.txt"]);
        check(Some("**/d.log"), &[], &["/sub(parent)", "/sub/deep(parent)", "/sub/deep/d.log"]);
        check(Some("sub/none*"), &[], &[]);
        check(Some("sub"), &["**/*.log"], &["/sub", "/sub/deep", "/sub/keep.txt"]);
    }
}
