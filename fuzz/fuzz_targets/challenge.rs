//! The values of `WWW-Authenticate`, one a line.

#![no_main]

use coracle::registry::Challenge;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Some(Challenge::Bearer(bearer)) = Challenge::choose(text.lines()) {
        let values = [bearer.realm, bearer.service, bearer.scope, bearer.error];
        for value in values.into_iter().flatten() {
            assert!(!value.is_empty() && value.len() <= text.len());
        }
    }
});
