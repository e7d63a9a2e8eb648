//! `coracle prune`: frees disk space without losing an image.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::time::SystemTime;

use crate::cache::LocalCache;
use crate::cli::args::PruneArguments;
use crate::cli::diagnostic::Failure;
use crate::cli::failure;
use crate::cli::session::Session;
use crate::cli::size::human;
use crate::image::StoredImage;
use crate::oci::ChainId;
use crate::snapshot;
use crate::store::Store;

/// Removes what no image and no cached step needs, and what can be made again; says what that gave.
pub(crate) fn prune(session: &Session<'_>, arguments: &PruneArguments) -> Result<(), Failure> {
    let mut store = session.store()?;
    // Unpacked layers belong to whoever steps run as. Where no step could run there are none.
    let _ = session.enter(&store)?;
    let forgotten = forget(&store, arguments)?;
    let kept = chains(&store)?;
    let alone = store.alone().map_err(|error| failure::store(&error))?;
    let unpacked = snapshot::prune(&alone, &kept).map_err(|error| failure::store(&error))?;
    let pruned = alone.prune().map_err(|error| failure::store(&error))?;
    let mut lines = vec![
        format!("blobs     {} removed", pruned.blobs),
        format!("snapshots {} removed", human(unpacked)),
    ];
    let mut freed = pruned.bytes + unpacked;
    if arguments.cache {
        let bytes = alone.remove_mounts().map_err(|error| failure::store(&error))?;
        lines.push(format!("mounts    {} removed", human(bytes)));
        freed += bytes;
    }
    if arguments.cache || arguments.unused_for.is_some() {
        lines.insert(0, format!("cache     {forgotten} steps forgotten"));
    }
    lines.push(format!("freed     {}", human(freed)));
    let mut stdout = std::io::stdout().lock();
    for line in lines {
        // Nobody is left to tell when standard output is closed.
        let _ = writeln!(stdout, "{line}");
    }
    Ok(())
}

/// Forgets the cached steps that are to go; says how many.
fn forget(store: &Store, arguments: &PruneArguments) -> Result<u64, Failure> {
    let since = arguments.unused_for.map(|age| SystemTime::now() - age);
    if !arguments.cache && since.is_none() {
        return Ok(0);
    }
    LocalCache::new(store).forget(since).map_err(|error| failure::store(&error))
}

/// The snapshots of the images in the store: those of all their layers. Images of other platforms,
/// and indexes, have none.
fn chains(store: &Store) -> Result<BTreeSet<ChainId>, Failure> {
    let mut chains = BTreeSet::new();
    for (_, descriptor) in store.images().map_err(|error| failure::store(&error))? {
        let Ok(image) = StoredImage::read(store, &descriptor) else { continue };
        let mut chain: Option<ChainId> = None;
        for layer in image.layers() {
            let next = chain
                .map_or_else(|| ChainId::base(layer.diff_id), |chain| chain.with(layer.diff_id));
            chains.insert(next);
            chain = Some(next);
        }
    }
    Ok(chains)
}
