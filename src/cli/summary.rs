//! The last lines of a command: what was made, where it went, and what did not have to be done.

use std::io::Write as _;

use crate::build::Outcome;
use crate::build::Output;
use crate::build::Request;
use crate::cli::size::human;
use crate::oci::Descriptor;
use crate::oci::Reference;
use crate::transfer::Pushed;

/// What `coracle build` made.
pub(crate) fn build(outcome: &Outcome, request: &Request) {
    let mut text = String::new();
    let names: Vec<String> = request.tags.iter().map(ToString::to_string).collect();
    let name =
        if names.is_empty() { "an image without a name".to_owned() } else { names.join(", ") };
    let layers = &outcome.layers;
    let own = layers.cached + layers.built;
    text += &format!("built     {name}\n");
    text += &format!("digest    {}\n", outcome.manifest.digest);
    text += &format!(
        "layers    {} ({}): {} from the base, {own} of its own ({})\n",
        layers.base + own,
        human(layers.size),
        layers.base,
        human(layers.own_size),
    );
    text += &format!("steps     {} run, {} from the cache\n", layers.built, layers.cached);
    for output in &request.outputs {
        if let Some(place) = place(output) {
            text += &format!("written   {place}\n");
        }
    }
    text += &pushed(&outcome.pushed);
    text += &format!("time      {:.1}s\n", outcome.took.as_secs_f64());
    print(&text);
}

/// What `coracle push` did.
pub(crate) fn push(references: &[Pushed]) {
    print(&pushed(references));
}

/// An image that `coracle load` read.
pub(crate) fn loaded(reference: &Reference, descriptor: &Descriptor) {
    print(&format!("loaded    {reference}@{}\n", descriptor.digest));
}

/// An image that `coracle load` read, but that nobody can name.
pub(crate) fn nameless(descriptor: &Descriptor) {
    print(&format!("skipped   {}: the archive gives it no name\n", descriptor.digest));
}

fn pushed(references: &[Pushed]) -> String {
    let mut text = String::new();
    for pushed in references {
        text += &format!("pushed    {}@{}\n", pushed.reference, pushed.digest);
        text += &format!(
            "          uploaded {} ({}), mounted {}, already there {}\n",
            blobs(pushed.uploaded),
            human(pushed.uploaded_bytes),
            pushed.mounted,
            pushed.existing,
        );
    }
    text
}

fn blobs(count: usize) -> String {
    if count == 1 { "1 blob".to_owned() } else { format!("{count} blobs") }
}

fn place(output: &Output) -> Option<String> {
    use crate::build::Destination;

    match output {
        Output::Store => Some("the local store".to_owned()),
        Output::Registry => None,
        Output::OciTar(Destination::File(path))
        | Output::DockerTar(Destination::File(path))
        | Output::RootfsTar(Destination::File(path))
        | Output::OciDirectory(path)
        | Output::RootfsDirectory(path) => Some(path.display().to_string()),
        Output::OciTar(_) | Output::DockerTar(_) | Output::RootfsTar(_) => {
            Some("standard output".to_owned())
        }
    }
}

fn print(text: &str) {
    // Nobody is left to tell when standard error is closed.
    let _ = std::io::stderr().lock().write_all(text.as_bytes());
}
