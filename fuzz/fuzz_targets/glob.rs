//! A glob pattern and, each behind a zero byte, paths. What matches must be found by a walk.

#![no_main]

use coracle::context::glob::Glob;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let mut parts = data.split(|byte| *byte == 0);
    let pattern = String::from_utf8_lossy(parts.next().unwrap_or_default()).into_owned();
    let paths: Vec<&[u8]> = parts.take(16).collect();
    for glob in [Glob::new(&pattern), Glob::with_double_stars(&pattern)].into_iter().flatten() {
        for path in &paths {
            // A walk meets no path with an empty name in it.
            let is_path = path.split(|byte| *byte == b'/').all(|name| !name.is_empty());
            if !glob.matches(path) || !is_path {
                continue;
            }
            let slashes = path.iter().enumerate().filter(|(_, byte)| **byte == b'/');
            for (at, _) in slashes {
                let parent = &path[..at];
                assert!(glob.may_match_below(parent), "{pattern:?} below {parent:?}: {path:?}");
            }
        }
    }
});
