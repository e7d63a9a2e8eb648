//! The client against registries that misbehave, refuse, break off, lie and send elsewhere.

mod auth;
mod chunks;
pub(crate) mod fake;
mod listing;
mod pull;
mod push;
mod rules;

use std::time::Duration;

use crate::oci::{Descriptor, Digest, MediaType, Reference};
use crate::registry::tests::fake::{Fake, Reply, Seen, reply};
use crate::registry::{Client, Config, CredentialSources, Retry, Secret};

pub(crate) const MANIFEST: &str = r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a","size":2},"layers":[]}"#;
pub(crate) const TYPE: &str = "application/vnd.oci.image.manifest.v1+json";

pub(crate) fn config() -> Config {
    let quick = Duration::from_millis(1);
    Config { retry: Retry { first: quick, ..Retry::default() }, ..Config::default() }
}

pub(crate) fn client() -> Client {
    Client::new(config()).expect("a client")
}

/// A client with these entries in its `auths`.
pub(crate) fn client_with(auths: &str) -> Client {
    let inline = Some(Secret::new(format!(r#"{{"auths":{{{auths}}}}}"#)));
    let credentials = CredentialSources { inline, ..CredentialSources::default() };
    Client::new(Config { credentials, ..config() }).expect("a client")
}

pub(crate) fn named(fake: &Fake, rest: &str) -> Reference {
    format!("{}/{rest}", fake.address).parse().expect("a reference")
}

pub(crate) fn manifest(seen: &Seen) -> Reply {
    let whole = reply(200)
        .header("content-type", TYPE)
        .header("docker-content-digest", Digest::of(MANIFEST).to_string());
    if seen.method == "HEAD" {
        whole.header("content-length", MANIFEST.len().to_string())
    } else {
        whole.body(MANIFEST)
    }
}

pub(crate) fn blob(bytes: &[u8]) -> Descriptor {
    let kind = MediaType::from("application/vnd.oci.image.layer.v1.tar+gzip");
    Descriptor::new(kind, Digest::of(bytes), bytes.len() as u64)
}
