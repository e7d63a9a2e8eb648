//! An image reference: what is written out again means the same.

#![no_main]

use coracle::oci::{Digest, Platform, Reference};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let _ = text.parse::<Digest>();
    if let Ok(platform) = text.parse::<Platform>() {
        let _ = platform.normalised().to_string();
    }
    let Ok(reference) = text.parse::<Reference>() else { return };
    let written = reference.to_string();
    assert_eq!(written.parse(), Ok(reference.clone()), "{written}");
    let familiar = reference.familiar();
    assert_eq!(familiar.parse(), Ok(reference), "{familiar}");
});
