//! The last lines of a command: what was made, where it went, and what did not have to be done.

use std::io::Write as _;

use crate::build::ContextOrigin;
use crate::build::Outcome;
use crate::build::Output;
use crate::build::Request;
use crate::cli::size::human;
use crate::dockerfile::Source;
use crate::dockerfile::Warning;
use crate::oci::Descriptor;
use crate::oci::Reference;
use crate::transfer::Pushed;

/// What `coracle build` made.
pub(crate) fn build(outcome: &Outcome, request: &Request) {
    let names: Vec<String> = request.tags.iter().map(ToString::to_string).collect();
    let name =
        if names.is_empty() { "an image without a name".to_owned() } else { names.join(", ") };
    let layers = &outcome.layers;
    let own = layers.cached + layers.built;
    let mut lines = vec![
        format!("built     {name}"),
        format!("digest    {}", outcome.manifest.digest),
        format!(
            "layers    {} ({}): {} from the base, {own} of its own ({})",
            layers.base + own,
            human(layers.size),
            layers.base,
            human(layers.own_size),
        ),
        format!("steps     {} run, {} from the cache", layers.built, layers.cached),
    ];
    if let Some(ContextOrigin { uri, commit }) = &outcome.origin {
        lines.push(format!("context   {uri} at commit {commit}"));
    }
    let places = request.outputs.iter().filter_map(place);
    lines.extend(places.map(|place| format!("written   {place}")));
    lines.extend(pushed(&outcome.pushed));
    lines.push(format!("time      {:.1}s", outcome.took.as_secs_f64()));
    print(&lines);
}

/// What the Dockerfile should not say so: a line each, at the end, where nothing drowns them.
pub(crate) fn warnings(warnings: &[Warning], source: &Source) -> Vec<String> {
    let line = |it: &Warning| {
        let line = source.line(it.span.start);
        format!("{}:{line}: {}: {}", source.name(), it.rule, it.message)
    };
    warnings.iter().map(line).collect()
}

/// The same, for people.
pub(crate) fn print_warnings(lines: &[String]) {
    let count = match lines.len() {
        0 => return,
        1 => "1 warning".to_owned(),
        count => format!("{count} warnings"),
    };
    let head = format!("{count} in the Dockerfile (`coracle build --check` explains):");
    print(&[vec![head], lines.iter().map(|line| format!("  {line}")).collect()].concat());
}

/// What `coracle push` did.
pub(crate) fn push(references: &[Pushed]) {
    print(&pushed(references));
}

/// What `coracle copy` wrote.
pub(crate) fn copied(image: &Descriptor) {
    print(&[format!("copied    {}", image.digest)]);
}

/// An image that `coracle load` read.
pub(crate) fn loaded(reference: &Reference, descriptor: &Descriptor) {
    print(&[format!("loaded    {reference}@{}", descriptor.digest)]);
}

/// An image that `coracle load` read, but that nobody can name.
pub(crate) fn nameless(descriptor: &Descriptor) {
    print(&[format!("skipped   {}: the archive gives it no name", descriptor.digest)]);
}

fn pushed(references: &[Pushed]) -> Vec<String> {
    let lines = |pushed: &Pushed| {
        [
            format!("pushed    {}@{}", pushed.reference, pushed.digest),
            format!(
                "          uploaded {} ({}), mounted {}, already there {}",
                blobs(pushed.uploaded),
                human(pushed.uploaded_bytes),
                pushed.mounted,
                pushed.existing,
            ),
        ]
    };
    references.iter().flat_map(lines).collect()
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

fn print(lines: &[String]) {
    let text: String = lines.iter().flat_map(|line| [line, "\n"]).collect();
    // Nobody is left to tell when standard error is closed.
    let _ = std::io::stderr().lock().write_all(text.as_bytes());
}
