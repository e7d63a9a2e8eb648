//! `RUN --mount=type=cache`: which directory of the store a mount means, and what a new one is
//! like (rule A157).

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use crate::build::BuildErrorKind;
use crate::build::mounts::Mounting;
use crate::layer::record_directory;
use crate::oci::Digest;
use crate::plan::CacheMount;
use crate::plan::MountKind;
use crate::plan::RunMount;
use crate::plan::Sharing;
use crate::sandbox::Isolation;
use crate::store::HeldMount;
use crate::store::Hold;

/// How often to look whether a locked cache is free.
const PATIENCE: Duration = Duration::from_millis(50);

/// Takes hold of all caches among `mounts`; gives their directories by the mounts' places.
///
/// All commands take hold of their caches in the same order, so that no two wait for each other.
pub(crate) fn hold(
    mounting: &Mounting<'_>,
    mounts: &[RunMount],
) -> Result<(Vec<HeldMount>, BTreeMap<usize, PathBuf>), BuildErrorKind> {
    let mut wanted: BTreeMap<Digest, (Hold, &CacheMount, Vec<usize>)> = BTreeMap::new();
    for (index, mount) in mounts.iter().enumerate() {
        let MountKind::Cache(cache) = &mount.kind else { continue };
        let hold = hold_of(cache.sharing, mounting.sandbox.isolation());
        let (strongest, _, places) =
            wanted.entry(key(mounting, cache)?).or_insert((hold, cache, Vec::new()));
        *strongest = hold.max(*strongest);
        places.push(index);
    }
    let (mut held, mut directories) = (Vec::new(), BTreeMap::new());
    for (key, (hold, cache, places)) in wanted {
        let mount = wait_for(mounting, &key, hold, &cache.id)?;
        let temporary = mounting.site.workshop.store.temp_dir()?;
        let data = mount.data(&temporary, |new| fill(mounting, cache, temporary.path(), new))?;
        directories.extend(places.into_iter().map(|index| (index, data.clone())));
        held.push(mount);
    }
    Ok((held, directories))
}

fn hold_of(sharing: Sharing, isolation: Isolation) -> Hold {
    match sharing {
        // Where a cache is moved to its place, it can be at one only.
        Sharing::Shared if isolation == Isolation::Chroot => Hold::Alone,
        Sharing::Shared => Hold::Shared,
        Sharing::Private => Hold::Apart,
        Sharing::Locked => Hold::Alone,
    }
}

/// What a cache is known by: its id, and what a new one is like.
fn key(mounting: &Mounting<'_>, cache: &CacheMount) -> Result<Digest, BuildErrorKind> {
    let seed = match &cache.seed {
        Some((from, source)) => Some(mounting.trees.name(from, source)?),
        None => None,
    };
    Ok(Digest::of(format!("cache mount {:?} {seed:?} {:?}", cache.id, cache.access)))
}

fn wait_for(
    mounting: &Mounting<'_>,
    key: &Digest,
    hold: Hold,
    id: &str,
) -> Result<HeldMount, BuildErrorKind> {
    let workshop = &mounting.site.workshop;
    let mut said = false;
    loop {
        if let Some(held) = workshop.store.try_hold(key, hold)? {
            return Ok(held);
        }
        if workshop.cancel.is_cancelled() {
            return Err(BuildErrorKind::Interrupted);
        }
        if !said {
            mounting.task.note(format!("waiting for the cache {id}, which another step uses"));
            said = true;
        }
        thread::sleep(PATIENCE);
    }
}

/// Makes a new cache at `new`. Mode and owner count only where there is no source, and then there
/// is no seed: `BuildKit` has it so.
fn fill(
    mounting: &Mounting<'_>,
    cache: &CacheMount,
    around: &Path,
    new: &Path,
) -> Result<(), BuildErrorKind> {
    let failed = |source| BuildErrorKind::Scratch { path: new.to_owned(), source };
    let set = |mode: u32, (uid, gid): (u32, u32)| {
        if !mounting.sandbox.has_ids() {
            return record_directory(new, mode, uid, gid);
        }
        // The owner first: a change of owner takes setuid bits away.
        std::os::unix::fs::chown(new, Some(uid), Some(gid))?;
        fs::set_permissions(new, fs::Permissions::from_mode(mode))
    };
    match &cache.seed {
        Some((from, source)) if !(source.is_root() && cache.access.is_given()) => {
            let workshop = &mounting.site.workshop;
            let node = mounting.trees.copy_out(from, source, workshop, (around, new))?;
            match node {
                Some(node) => set(node.mode & 0o7777, (node.uid, node.gid)).map_err(failed),
                None => Ok(()),
            }
        }
        _ => {
            fs::create_dir(new).map_err(failed)?;
            let owner = mounting.owner(&cache.access, "the cache", &cache.id);
            set(cache.access.mode.unwrap_or(0o755) & 0o7777, owner).map_err(failed)
        }
    }
}
