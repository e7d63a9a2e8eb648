//! In what shape a step gets its root file system.

/// In what shape a step gets its root file system. The layers that come of it are the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// As layers that overlayfs stacks. Costs nothing.
    Overlay,
    /// As a directory that holds a copy of everything, where nothing can be mounted, or where overlayfs
    /// cannot keep changes on the store's file system.
    Directory,
    /// The same, for a sandbox that keeps the records of owners true, those of links and pipes too.
    RecordedDirectory,
}
