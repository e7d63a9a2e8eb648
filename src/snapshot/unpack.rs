//! Unpacking the layers of a stack: many at a time, published one after another.
//!
//! What a layer unpacks to depends on the layers below in a few places only (`layer::apply`). So
//! all are unpacked apart from each other first; then, from the bottom up, those places are seen
//! to. The few layers that would have come out otherwise are unpacked again.

use std::{
    fs,
    num::NonZero,
    path::PathBuf,
    sync::{Mutex, PoisonError},
    thread,
};

use crate::layer::{Applied, Target, Tree, apply, settle};
use crate::oci::Layer;
use crate::snapshot::{Committed, OpenLayer, SnapshotError, Snapshotter, above, discard};

/// A layer in a temporary directory.
struct Unpacked {
    directory: PathBuf,
    applied: Applied,
}

/// See [`Snapshotter::ensure`].
pub(super) fn ensure(
    snapshotter: &Snapshotter,
    layers: &[Layer],
    open: OpenLayer<'_>,
) -> Result<Committed, SnapshotError> {
    let missing = missing(snapshotter, layers);
    let unpacked = unpack_all(snapshotter, layers, missing, open)?;
    let mut stack = Committed::scratch();
    for (layer, unpacked) in layers.iter().zip(unpacked) {
        if let Some(unpacked) = unpacked {
            let finished = finish(snapshotter, layer, unpacked, &stack, open)?;
            snapshotter.publish(&finished, above(stack.chain, layer.diff_id))?;
        }
        stack = snapshotter.stack(&stack, layer.diff_id)?;
    }
    Ok(stack)
}

/// The positions of the layers that are not there, the smallest blob first.
fn missing(snapshotter: &Snapshotter, layers: &[Layer]) -> Vec<usize> {
    let mut chain = None;
    let mut missing = Vec::new();
    for (index, layer) in layers.iter().enumerate() {
        let next = above(chain, layer.diff_id);
        if !snapshotter.contains(next) {
            missing.push(index);
        }
        chain = Some(next);
    }
    missing.sort_by_key(|index| layers[*index].descriptor.size);
    missing
}

/// Unpacks the `missing` layers, largest first. After a failure no further one is begun.
fn unpack_all(
    snapshotter: &Snapshotter,
    layers: &[Layer],
    missing: Vec<usize>,
    open: OpenLayer<'_>,
) -> Result<Vec<Option<Unpacked>>, SnapshotError> {
    let threads = thread::available_parallelism().map_or(1, NonZero::get).min(missing.len());
    let queue = Mutex::new(missing);
    let results = Mutex::new(Ok(layers.iter().map(|_| None).collect::<Vec<_>>()));
    let work = || {
        loop {
            let next = queue.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let Some(index) = next else { break };
            let result = unpack(snapshotter, &layers[index], None, open);
            let mut results = results.lock().unwrap_or_else(PoisonError::into_inner);
            match (result, results.as_mut()) {
                (Ok(unpacked), Ok(results)) => results[index] = Some(unpacked),
                (Err(error), Ok(_)) => {
                    *results = Err(error);
                    queue.lock().unwrap_or_else(PoisonError::into_inner).clear();
                }
                (_, Err(_)) => {}
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(work);
        }
    });
    results.into_inner().unwrap_or_else(PoisonError::into_inner)
}

fn unpack(
    snapshotter: &Snapshotter,
    layer: &Layer,
    lower: Option<&dyn Tree>,
    open: OpenLayer<'_>,
) -> Result<Unpacked, SnapshotError> {
    let digest = layer.descriptor.digest;
    let source = open(layer).map_err(|source| SnapshotError::Open { layer: digest, source })?;
    let directory = snapshotter.temporary("unpack")?;
    let path = directory.join("fs");
    fs::create_dir(&path).map_err(SnapshotError::io("create", &path))?;
    let (owners, format) = (snapshotter.0.owners, snapshotter.0.format);
    let target = Target { directory: &path, owners, format, lower };
    match apply(source, &target, layer.diff_id) {
        Ok(applied) => Ok(Unpacked { directory, applied }),
        Err(source) => {
            discard(&directory);
            Err(SnapshotError::Unpack { layer: digest, source })
        }
    }
}

/// Sees to what depends on the layers below, now that they are there.
fn finish(
    snapshotter: &Snapshotter,
    layer: &Layer,
    mut unpacked: Unpacked,
    stack: &Committed,
    open: OpenLayer<'_>,
) -> Result<PathBuf, SnapshotError> {
    let lower = stack.view();
    let settle = |unpacked: &Unpacked| {
        let (owners, format) = (snapshotter.0.owners, snapshotter.0.format);
        let directory = unpacked.directory.join("fs");
        let target = Target { directory: &directory, owners, format, lower: None };
        settle(&target, &unpacked.applied.implied, &lower)
            .map_err(|source| SnapshotError::Unpack { layer: layer.descriptor.digest, source })
    };
    if unpacked.applied.needs_lower || !settle(&unpacked)? {
        unpacked = unpack(snapshotter, layer, Some(&lower), open)?;
        settle(&unpacked)?;
    }
    if !unpacked.applied.sidecar.is_empty() {
        let path = unpacked.directory.join("records");
        let written = fs::write(&path, unpacked.applied.sidecar.encode());
        written.map_err(SnapshotError::io("write", &path))?;
    }
    Ok(unpacked.directory)
}
