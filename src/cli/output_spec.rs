//! Reads `--output type=…,dest=…`.

use std::path::PathBuf;

use crate::build::Destination;
use crate::build::Output;

/// Why an `--output` cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum OutputSpecError {
    /// A field is not `key=value`.
    #[error("`{0}` is not `key=value`")]
    NotAPair(String),
    /// A key that no output has.
    #[error("unknown key `{0}`")]
    UnknownKey(String),
    /// A type that does not exist.
    #[error("unknown output type `{0}`")]
    UnknownType(String),
    /// There is no `type=`.
    #[error("`type=` is missing")]
    NoType,
    /// The type needs `dest=`.
    #[error("type `{0}` needs `dest=PATH`")]
    NoDestination(&'static str),
    /// The type takes no `dest=`.
    #[error("type `{0}` takes no `dest=`")]
    NeedlessDestination(&'static str),
    /// A directory cannot go to standard output.
    #[error("type `{0}` writes a directory, which cannot go to standard output")]
    NotAFile(&'static str),
}

/// The output that `spec` asks for.
///
/// `type=oci` writes a tar, or a directory if `tar=false`. A `spec` without any `=` is short for
/// `type=local,dest=SPEC`, as with `docker build`.
pub(crate) fn parse(spec: &str) -> Result<Output, OutputSpecError> {
    if !spec.contains('=') {
        return Ok(if spec == "-" {
            Output::RootfsTar(Destination::Stdout)
        } else {
            Output::RootfsDirectory(spec.into())
        });
    }
    let (mut kind, mut dest, mut tar) = (None, None, true);
    for field in spec.split(',') {
        let Some((key, value)) = field.split_once('=') else {
            return Err(OutputSpecError::NotAPair(field.to_owned()));
        };
        match key {
            "type" => kind = Some(value),
            "dest" => dest = Some(value),
            "tar" if matches!(value, "true" | "false") => tar = value == "true",
            _ => return Err(OutputSpecError::UnknownKey(key.to_owned())),
        }
    }
    match kind.ok_or(OutputSpecError::NoType)? {
        "store" => without_destination("store", dest, Output::Store),
        "registry" => without_destination("registry", dest, Output::Registry),
        "oci" if tar => Ok(Output::OciTar(file("oci", dest)?)),
        "oci" => Ok(Output::OciDirectory(directory("oci", dest)?)),
        "docker" => Ok(Output::DockerTar(file("docker", dest)?)),
        "tar" => Ok(Output::RootfsTar(file("tar", dest)?)),
        "local" => Ok(Output::RootfsDirectory(directory("local", dest)?)),
        other => Err(OutputSpecError::UnknownType(other.to_owned())),
    }
}

fn without_destination(
    kind: &'static str,
    dest: Option<&str>,
    output: Output,
) -> Result<Output, OutputSpecError> {
    dest.map_or(Ok(output), |_| Err(OutputSpecError::NeedlessDestination(kind)))
}

fn file(kind: &'static str, dest: Option<&str>) -> Result<Destination, OutputSpecError> {
    match dest.ok_or(OutputSpecError::NoDestination(kind))? {
        "-" => Ok(Destination::Stdout),
        path => Ok(Destination::File(path.into())),
    }
}

fn directory(kind: &'static str, dest: Option<&str>) -> Result<PathBuf, OutputSpecError> {
    match dest.ok_or(OutputSpecError::NoDestination(kind))? {
        "-" => Err(OutputSpecError::NotAFile(kind)),
        path => Ok(path.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_is_read_and_every_mistake_named() {
        let check = |spec: &str, expected| assert_eq!(parse(spec), expected, "{spec}");
        check("type=registry", Ok(Output::Registry));
        check("type=oci,dest=-", Ok(Output::OciTar(Destination::Stdout)));
        check("type=oci,tar=false,dest=d", Ok(Output::OciDirectory("d".into())));
        check("type=docker,dest=a.tar", Ok(Output::DockerTar(Destination::File("a.tar".into()))));
        check("out", Ok(Output::RootfsDirectory("out".into())));
        check("-", Ok(Output::RootfsTar(Destination::Stdout)));
        check("type=oci", Err(OutputSpecError::NoDestination("oci")));
        check("type=local,dest=-", Err(OutputSpecError::NotAFile("local")));
        check("type=registry,dest=x", Err(OutputSpecError::NeedlessDestination("registry")));
        check("type=image", Err(OutputSpecError::UnknownType("image".into())));
        check(
            "type=oci,compression=zstd,dest=x",
            Err(OutputSpecError::UnknownKey("compression".into())),
        );
        check("dest=x", Err(OutputSpecError::NoType));
    }
}
