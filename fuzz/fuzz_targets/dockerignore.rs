//! A `.dockerignore` and, each behind a zero byte, paths.
//!
//! A walk may leave out a directory only if nothing in it can be wanted: that is checked too.

#![no_main]

use coracle::context::ignore::{Matches, Patterns};
use coracle::oci::ImagePath;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let mut parts = data.split(|byte| *byte == 0);
    let text = String::from_utf8_lossy(parts.next().unwrap_or_default()).into_owned();
    let patterns = match Patterns::parse(&text) {
        Ok(patterns) => patterns,
        Err(error) => {
            assert!(error.line >= 1 && error.line <= text.lines().count());
            return;
        }
    };
    // As `--exclude` has them: no line is a comment there.
    let _ = Patterns::new(text.lines());
    for path in parts.take(16) {
        walk(&patterns, &ImagePath::new(path), text.contains('!'));
    }
});

/// Goes from the root to `path`, as a walk of the context does.
fn walk(patterns: &Patterns, path: &ImagePath, exceptions: bool) {
    let mut here = ImagePath::root();
    let mut matches = Matches::default();
    // Whether a walk would not come here, because what is above cannot hold what it looks for.
    let (mut nothing_taken_back, mut nothing_excluded) = (false, false);
    for name in path.components() {
        if matches.excluded() {
            nothing_taken_back |= !patterns.may_take_back_below(&here);
        } else {
            nothing_excluded |= !exceptions && !patterns.may_exclude_below(&here);
        }
        here = here.join(name);
        matches = patterns.below(&matches, &here);
        assert_eq!(patterns.decisive(&matches).is_some(), matches.excluded());
        if matches.excluded() {
            assert!(!nothing_excluded, "{here} was not to be excluded");
        } else {
            assert!(!nothing_taken_back, "{here} was not to be taken back");
        }
    }
    assert_eq!(patterns.of(path).excluded(), matches.excluded());
}
