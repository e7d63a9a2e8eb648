//! Pushes: an image from the store to any number of names.
//!
//! Blobs first, several at once, then manifests from the inside out, then tags (rule B064). Each
//! blob moves once per repository. A base layer that the build never needed is not in the store; it
//! is mounted where it can be, and passes through only where it cannot.

use std::{collections::BTreeMap, fs::File, sync::Arc};

use futures_util::{StreamExt as _, stream};

use crate::oci::{Descriptor, Digest, Reference};
use crate::progress::{Event, Progress, Task, TaskId};
use crate::registry::{Client, FileBody, Offer, PutManifest, RegistryError, Session};
use crate::store::{Contents, Store};
use crate::transfer::ahead::Ahead;
use crate::transfer::stream::fetch_file;
use crate::transfer::{PARALLEL, TransferError, report_warnings};

/// Where an image was pushed to, and what it took.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pushed {
    /// The name.
    pub reference: Reference,
    /// The digest of what the name means now.
    pub digest: Digest,
    /// How many blobs were sent. Blobs are counted for the first name in a repository alone.
    pub uploaded: usize,
    /// How many bytes these have.
    pub uploaded_bytes: u64,
    /// How many blobs were mounted from another repository.
    pub mounted: usize,
    /// How many blobs were there.
    pub existing: usize,
}

/// What a push works with.
#[derive(Clone, Copy)]
pub struct Push<'a> {
    /// The registries.
    pub client: &'a Client,
    /// Where the image is.
    pub store: &'a Store,
    /// Where blobs can be had that the store may lack.
    pub origins: &'a BTreeMap<Digest, Reference>,
    /// Layers that may be on their way already.
    pub ahead: Option<&'a Ahead>,
    /// Who is told.
    pub progress: &'a Arc<dyn Progress>,
}

impl std::fmt::Debug for Push<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Push").field("ahead", &self.ahead).finish_non_exhaustive()
    }
}

impl Push<'_> {
    /// Pushes `image`, a manifest or an index in the store, to all of `targets`.
    ///
    /// # Errors
    ///
    /// Fails with the first thing that fails. Names that were pushed before stay pushed.
    pub async fn run(
        &self,
        image: &Descriptor,
        targets: &[Reference],
    ) -> Result<Vec<Pushed>, TransferError> {
        let mut pushed = Vec::new();
        let mut earlier: Vec<Reference> = Vec::new();
        for group in by_repository(targets) {
            let Some(target) = group.first() else { continue };
            let contents = contents(self.store, image, target)?;
            check_digests(image, &group)?;
            let name = format!("{}/{}", target.registry(), target.repository());
            let task = Task::start(self.progress, format!("push {name}"));
            let job = Job { push: *self, earlier: &earlier, target, task: &task };
            pushed.extend(job.run(&contents, &group).await?);
            report_warnings(self.client, self.progress);
            task.finish();
            earlier.push(target.clone());
        }
        Ok(pushed)
    }
}

/// The targets of each repository, in the order in which they were named.
pub(crate) fn by_repository(targets: &[Reference]) -> Vec<Vec<Reference>> {
    let mut groups: Vec<Vec<Reference>> = Vec::new();
    for target in targets {
        let place = |it: &Reference| (it.registry().to_owned(), it.repository().to_owned());
        let known = groups.iter_mut().find(|group| group.first().map(place) == Some(place(target)));
        match known {
            Some(group) if group.contains(target) => {}
            Some(group) => group.push(target.clone()),
            None => groups.push(vec![target.clone()]),
        }
    }
    groups
}

/// A name with a digest in it can only be given to the image of that digest.
fn check_digests(image: &Descriptor, group: &[Reference]) -> Result<(), TransferError> {
    let other = |it: &&Reference| it.digest().is_some_and(|digest| digest != image.digest);
    let Some(reference) = group.iter().find(other) else { return Ok(()) };
    let reference = Box::new(reference.clone());
    Err(TransferError::OtherDigest { reference, actual: image.digest })
}

/// What the image consists of, without the layers that are not for registries (rule B055).
fn contents(
    store: &Store,
    image: &Descriptor,
    target: &Reference,
) -> Result<Contents, TransferError> {
    let contents = store.contents(image);
    let mut contents = contents.map_err(|error| TransferError::contents(error, target))?;
    contents.blobs.retain(|blob| !blob.media_type.is_foreign());
    Ok(contents)
}

/// What became of one blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Existing,
    Mounted,
    Uploaded(u64),
}

/// A push to one repository.
struct Job<'a> {
    push: Push<'a>,
    /// Where the same image was pushed to before.
    earlier: &'a [Reference],
    target: &'a Reference,
    task: &'a Task,
}

impl Job<'_> {
    async fn run(
        &self,
        contents: &Contents,
        group: &[Reference],
    ) -> Result<Vec<Pushed>, TransferError> {
        let mut fates = self.push_blobs(&contents.blobs).await?;
        match self.push_manifests(contents, group).await {
            Err(TransferError::Registry(error)) if lacks_blobs(&error) => {
                // A registry may need a moment to see what it was given (rule B085).
                self.task.note("the registry does not see all blobs yet; checking them again");
                fates = self.push_blobs(&contents.blobs).await?;
                self.push_manifests(contents, group).await?;
            }
            result => result?,
        }
        let digest = contents.manifests.last().map(|(image, _)| image.digest);
        let digest = digest.expect("the image itself is among its manifests");
        let mut pushed: Vec<Pushed> = group
            .iter()
            .map(|reference| Pushed {
                reference: reference.clone(),
                digest,
                uploaded: 0,
                uploaded_bytes: 0,
                mounted: 0,
                existing: 0,
            })
            .collect();
        if let Some(first) = pushed.first_mut() {
            for fate in fates {
                match fate {
                    Fate::Existing => first.existing += 1,
                    Fate::Mounted => first.mounted += 1,
                    Fate::Uploaded(size) => {
                        first.uploaded += 1;
                        first.uploaded_bytes += size;
                    }
                }
            }
        }
        Ok(pushed)
    }

    async fn push_blobs(&self, blobs: &[Descriptor]) -> Result<Vec<Fate>, TransferError> {
        let pushes: Vec<_> = blobs.iter().map(|blob| self.push_blob(blob)).collect();
        let mut pushes = stream::iter(pushes).buffer_unordered(PARALLEL);
        let (mut fates, mut interrupted) = (Vec::new(), None);
        while let Some(result) = pushes.next().await {
            match result {
                Ok(fate) => fates.push(fate),
                // The others come to where they can be gone on with.
                Err(error @ TransferError::Registry(RegistryError::Interrupted { .. })) => {
                    interrupted = Some(error);
                }
                Err(error) => return Err(error),
            }
        }
        interrupted.map_or(Ok(fates), Err)
    }

    async fn push_blob(&self, blob: &Descriptor) -> Result<Fate, TransferError> {
        if let Some(ahead) = self.push.ahead {
            ahead.settle(&blob.digest).await;
        }
        let from = self.neighbours(&blob.digest);
        let offer = self.push.client.offer(self.target, blob, &from).await;
        let fate = match offer.map_err(TransferError::Registry)? {
            Offer::Existing => {
                self.abandon_upload(blob).await;
                Fate::Existing
            }
            Offer::Mounted(from) => {
                self.abandon_upload(blob).await;
                self.task.note(format!("{} mounted from {from}", blob.digest.short()));
                Fate::Mounted
            }
            Offer::Wanted(session) => {
                self.upload(blob, session).await?;
                Fate::Uploaded(blob.size)
            }
        };
        // An optimisation for later pushes, which can do without.
        let _ = self.push.store.record_origin(&blob.digest, self.target);
        Ok(fate)
    }

    /// Ends an earlier upload of a blob that needs none.
    async fn abandon_upload(&self, blob: &Descriptor) {
        if let Some(earlier) = self.push.store.take_upload(self.target, &blob.digest) {
            self.push.client.abandon_upload(self.target, &earlier).await;
        }
    }

    /// Other repositories of the same registry that have the blob: those that were pushed to just
    /// now, that which the caller knows, and those that the store remembers, by their own names and
    /// by those that mirrors have for them.
    fn neighbours(&self, digest: &Digest) -> Vec<Reference> {
        let remembered = self.push.store.origins(&[*digest]).remove(digest).unwrap_or_default();
        let known = self.earlier.iter().chain(self.push.origins.get(digest)).chain(&remembered);
        let names = |it: &Reference| [vec![it.clone()], self.push.client.mirrored(it)].concat();
        let mut neighbours: Vec<Reference> = Vec::new();
        let known = known.flat_map(names);
        for reference in known.filter(|it| it.registry() == self.target.registry()) {
            let reference = reference.with_digest(*digest);
            let is_other = reference.repository() != self.target.repository();
            if is_other && !neighbours.contains(&reference) {
                neighbours.push(reference);
            }
        }
        neighbours
    }

    async fn upload(&self, blob: &Descriptor, session: Session) -> Result<(), TransferError> {
        let file = if self.push.store.has(blob) {
            self.push.store.open_blob(&blob.digest).map_err(TransferError::Store)?
        } else {
            self.fetch(blob).await?
        };
        let sent = sent_reporter(self.push.progress, self.task.id(), blob);
        let content = FileBody { file: Arc::new(file), start: 0, size: blob.size, sent };
        let session = match self.push.store.take_upload(self.target, &blob.digest) {
            Some(earlier) => session.or_earlier(&earlier),
            None => session,
        };
        let noted = |place: &str| {
            // Without the note a kill costs an upload from the beginning.
            let _ = self.push.store.record_upload(self.target, &blob.digest, place);
        };
        let uploaded = self.push.client.upload(self.target, blob, &content, session, &noted).await;
        uploaded.map_err(TransferError::Registry)?;
        self.push.store.forget_upload(self.target, &blob.digest);
        // The network's side stops asking with the last piece, and so does not tell of it.
        self.task.transfer(blob.digest, blob.size, blob.size);
        Ok(())
    }

    /// Gets a blob that the store lacks from wherever it is known to be. It passes through a file
    /// that is gone after the upload: nobody on this machine has a use for it.
    async fn fetch(&self, blob: &Descriptor) -> Result<File, TransferError> {
        let remembered = self.push.store.origins(&[blob.digest]).remove(&blob.digest);
        let origins = self.push.origins.get(&blob.digest).into_iter().cloned();
        let elsewhere = |it: &Reference| {
            (it.registry(), it.repository()) != (self.target.registry(), self.target.repository())
        };
        let mut failure = None;
        for origin in origins.chain(remembered.unwrap_or_default()).filter(elsewhere) {
            self.task.note(format!("{} fetched from {}", blob.digest.short(), origin.familiar()));
            match fetch_file(self.push.client, self.push.store, &origin, blob, self.task).await {
                Ok(file) => return Ok(file),
                Err(error @ TransferError::Store(_)) => return Err(error),
                Err(error) => failure = failure.or(Some(error)),
            }
        }
        let (reference, digest) = (Box::new(self.target.clone()), blob.digest);
        Err(failure.unwrap_or(TransferError::MissingContent { reference, digest }))
    }

    /// The inner manifests by their digests, then the image by its names.
    async fn push_manifests(
        &self,
        contents: &Contents,
        group: &[Reference],
    ) -> Result<(), TransferError> {
        let Some((image, inner)) = contents.manifests.split_last() else { return Ok(()) };
        for manifest in inner {
            self.put(manifest, &manifest.0.digest.to_string()).await?;
        }
        for target in group {
            let digest = image.0.digest.to_string();
            self.put(image, target.tag().unwrap_or(&digest)).await?;
        }
        Ok(())
    }

    async fn put(
        &self,
        (descriptor, bytes): &(Descriptor, Vec<u8>),
        name: &str,
    ) -> Result<(), TransferError> {
        let media_type = &descriptor.media_type;
        let put = self.push.client.put_manifest(self.target, name, media_type, bytes).await;
        if put.map_err(TransferError::Registry)? == PutManifest::Existing {
            self.task.note(format!("{name} is up to date"));
        }
        Ok(())
    }
}

/// Tells how much of a blob has been sent. It outlives the borrow of the task, since the network's
/// side keeps it.
fn sent_reporter(
    progress: &Arc<dyn Progress>,
    task: TaskId,
    blob: &Descriptor,
) -> Arc<dyn Fn(u64) + Send + Sync> {
    let (progress, blob, total) = (Arc::clone(progress), blob.digest, blob.size);
    Arc::new(move |done| progress.report(Event::Transfer { task, blob, done, total }))
}

/// Whether the registry says that blobs are missing which it was given.
fn lacks_blobs(error: &RegistryError) -> bool {
    let (RegistryError::Rejected { answer, .. } | RegistryError::NotFound { answer, .. }) = error
    else {
        return false;
    };
    ["MANIFEST_BLOB_UNKNOWN", "BLOB_UNKNOWN"].iter().any(|code| answer.has_code(code))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn references(texts: &[&str]) -> Vec<Reference> {
        texts.iter().map(|text| text.parse().expect(text)).collect()
    }

    #[test]
    fn b087_names_of_one_repository_go_together_and_each_once() {
        let targets = references(&["r.io/a:1", "r.io/b:1", "r.io/a:2", "r.io/a:1", "s.io/a:1"]);
        let groups = by_repository(&targets);
        let expected =
            [&["r.io/a:1", "r.io/a:2"][..], &["r.io/b:1"], &["s.io/a:1"]].map(references);
        assert_eq!(groups, expected);
    }

    #[test]
    fn a_name_with_the_digest_of_another_image_is_refused() {
        let (own, other) = (Digest::of("own"), Digest::of("other"));
        let image = Descriptor::new(crate::oci::MediaType::OciManifest, own, 3);
        let check =
            |digest: Digest| check_digests(&image, &references(&[&format!("r.io/a@{digest}")]));
        assert!(check(own).is_ok());
        assert!(matches!(check(other), Err(TransferError::OtherDigest { .. })));
    }
}
