//! `coracle index`: one name for the images of several platforms.

use std::collections::BTreeMap;
use std::io::Write as _;

use crate::cli::args::PushArguments;
use crate::cli::diagnostic::Diagnostic;
use crate::cli::diagnostic::Failure;
use crate::cli::exit::Exit;
use crate::cli::failure;
use crate::cli::images::unknown;
use crate::cli::push;
use crate::cli::remote_args::IndexCommand;
use crate::cli::remote_args::IndexEditArguments;
use crate::cli::session::Session;
use crate::cli::session::block_on;
use crate::oci::Descriptor;
use crate::oci::Document;
use crate::oci::ImageIndex;
use crate::oci::MediaType;
use crate::oci::Reference;
use crate::registry::MAX_MANIFEST;
use crate::store::Store;
use crate::transfer;

/// Does what the second word says.
pub(crate) fn index(session: &Session<'_>, command: IndexCommand) -> Result<(), Failure> {
    match command {
        IndexCommand::Create(arguments) => edit(session, &arguments, empty()),
        IndexCommand::Add(arguments) => {
            let index = read(&session.store()?, &arguments.index)?;
            edit(session, &arguments, index.value().clone())
        }
        IndexCommand::Inspect { index } => {
            let index = read(&session.store()?, &index)?;
            let text = serde_json::to_string_pretty(index.value()).expect("an index is JSON");
            // Nobody is left to tell when standard output is closed.
            let _ = writeln!(std::io::stdout().lock(), "{text}");
            Ok(())
        }
        IndexCommand::Push { index } => {
            read(&session.store()?, &index)?;
            push::push(session, &PushArguments { references: vec![index] })
        }
    }
}

/// Adds images and notes to `index`, and keeps it under its name.
fn edit(
    session: &Session<'_>,
    arguments: &IndexEditArguments,
    mut index: ImageIndex,
) -> Result<(), Failure> {
    let (store, client) = (session.store()?, session.client()?);
    let entries = block_on(&session.cancel, async {
        let mut entries = Vec::new();
        for image in &arguments.images {
            let found = transfer::gather_entries(&client, &store, image).await;
            entries.extend(found.map_err(|error| failure::transfer(&error))?);
        }
        Ok(entries)
    })?;
    for entry in entries {
        add(&mut index, entry);
    }
    for text in &arguments.annotation {
        let (key, value) = text.split_once('=').unwrap_or((text, ""));
        index.annotations.insert(key.to_owned(), value.to_owned());
    }
    let document = Document::new(index);
    let stored = store.put(document.bytes(), MediaType::OciIndex);
    let stored = stored.map_err(|error| failure::store(&error))?;
    store.tag(&arguments.index, &stored).map_err(|error| failure::store(&error))?;
    // Nobody is left to tell when standard output is closed.
    let _ = writeln!(std::io::stdout().lock(), "{}", stored.digest);
    Ok(())
}

/// Adds an entry in the place of the one for the same platform.
fn add(index: &mut ImageIndex, entry: Descriptor) {
    let same = |known: &Descriptor| {
        known.digest == entry.digest
            || (entry.platform.is_some() && known.platform == entry.platform && !is_about(known))
    };
    if !is_about(&entry) {
        index.manifests.retain(|known| !same(known));
    }
    index.manifests.push(entry);
}

/// Whether an entry is about another one, and for no platform of its own.
fn is_about(entry: &Descriptor) -> bool {
    entry.platform.as_ref().is_some_and(|platform| platform.os == "unknown")
}

fn empty() -> ImageIndex {
    ImageIndex {
        schema_version: 2,
        media_type: Some(MediaType::OciIndex),
        manifests: Vec::new(),
        annotations: BTreeMap::new(),
    }
}

fn read(store: &Store, reference: &Reference) -> Result<Document<ImageIndex>, Failure> {
    let found = store.resolve(reference).map_err(|error| failure::store(&error))?;
    let descriptor = found.ok_or_else(|| unknown(reference))?;
    if !descriptor.media_type.is_index() {
        let title = format!("`{}` is an image, and no index", reference.familiar());
        return Err(Failure::new(Exit::Usage, Diagnostic::new(title)));
    }
    let bytes = store.read(&descriptor, MAX_MANIFEST).map_err(|error| failure::store(&error))?;
    Document::parse(bytes, "image index")
        .map_err(|error| Failure::from_error(Exit::Machine, &error, None))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::Digest;

    #[test]
    fn b083_an_entry_takes_the_place_of_the_one_for_its_platform() {
        let entry = |name: &str, platform: &str| {
            let mut entry = Descriptor::new(MediaType::OciManifest, Digest::of(name), 1);
            entry.platform = Some(platform.parse().expect("a platform"));
            entry
        };
        let mut index = empty();
        assert_eq!(index.media_type, Some(MediaType::OciIndex));
        add(&mut index, entry("a", "linux/amd64"));
        add(&mut index, entry("b", "linux/arm64"));
        add(&mut index, entry("c", "linux/amd64"));
        add(&mut index, entry("b", "linux/arm64"));
        let digests: Vec<_> = index.manifests.iter().map(|it| it.digest).collect();
        assert_eq!(digests, [Digest::of("c"), Digest::of("b")]);
    }
}
