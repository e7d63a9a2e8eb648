//! Whether the user wants to end: looked at where ending is cheap to go on from.

use std::{fmt, sync::Arc};

/// A question that is asked between two pieces of a blob. A push that ends there, and not within a
/// piece, can be gone on with at every registry; some forget an upload that breaks off (rule B078).
#[derive(Clone)]
pub struct Interrupt(Arc<dyn Fn() -> bool + Send + Sync>);

impl Interrupt {
    /// Asks `is_wanted`.
    pub fn when(is_wanted: impl Fn() -> bool + Send + Sync + 'static) -> Self {
        Self(Arc::new(is_wanted))
    }

    pub(crate) fn is_wanted(&self) -> bool {
        (self.0)()
    }
}

impl Default for Interrupt {
    /// Nobody wants to end.
    fn default() -> Self {
        Self::when(|| false)
    }
}

impl fmt::Debug for Interrupt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Interrupt({})", self.is_wanted())
    }
}
