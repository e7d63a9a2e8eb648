//! Certificates for single hosts, as Docker and Podman keep them: `certs.d/HOST:PORT/`.
//!
//! `*.crt` are authorities to trust besides the system's, `X.cert` and `X.key` what we show of
//! ourselves. Of several directories the first that exists counts, alone (rule B009). They are read
//! when the host is first spoken to.
//!
//! Specs: <https://docs.docker.com/engine/security/certificates/>,
//! <https://github.com/containers/image/blob/main/docs/containers-certs.d.5.md>.

use std::{
    fs,
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use reqwest::{Certificate, Identity, Url};

use crate::http::HttpError;

/// A bundle of all authorities in the world has some 300 kB.
const LONGEST_FILE: u64 = 4 << 20;

/// Where certificates for single hosts are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CertificateDirectories {
    /// Directories with a directory for each host, in order.
    pub by_host: Vec<PathBuf>,
    /// The directory for all hosts (`--cert-dir`); then the others do not count.
    pub for_all: Option<PathBuf>,
}

/// What a directory holds.
#[derive(Debug)]
pub(crate) struct Certificates {
    pub(crate) authorities: Vec<Certificate>,
    pub(crate) identity: Option<Identity>,
}

impl CertificateDirectories {
    /// The directory for the host of `url`, if there is one.
    pub(crate) fn of(&self, url: &Url) -> Option<PathBuf> {
        if url.scheme() != "https" {
            return None;
        }
        if let Some(all) = &self.for_all {
            return Some(all.clone());
        }
        let host = url.host_str()?;
        let port = url.port_or_known_default()?;
        let with_port = format!("{host}:{port}");
        // A name without a port is the host on the usual one.
        let names = if url.port().is_none() { vec![host, &with_port] } else { vec![&*with_port] };
        let candidates = self.by_host.iter().flat_map(|it| names.iter().map(|name| it.join(name)));
        candidates.into_iter().find(|directory| directory.is_dir())
    }
}

/// Reads a directory. One that may not be read is passed over, as Podman does.
pub(crate) fn read(directory: &Path) -> Result<Option<Certificates>, HttpError> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Ok(None),
        Err(source) => return Err(unreadable(directory, source)),
    };
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    let with = |extension: &str| {
        let extension = extension.to_owned();
        paths.iter().filter(move |path| path.extension().is_some_and(|it| *it == *extension))
    };
    let mut authorities = Vec::new();
    for path in with("crt") {
        let bundle = Certificate::from_pem_bundle(&load(path)?);
        let bad = |source| HttpError::BadCertificate { path: Some(path.clone()), source };
        authorities.extend(bundle.map_err(bad)?);
    }
    if let Some(key) = with("key").find(|key| !key.with_extension("cert").exists()) {
        return Err(HttpError::HalfPair { path: key.clone(), missing: "cert" });
    }
    let mut identity = None;
    for path in with("cert") {
        let key = path.with_extension("key");
        if !key.exists() {
            return Err(HttpError::HalfPair { path: path.clone(), missing: "key" });
        }
        let mut pem = load(path)?;
        pem.push(b'\n');
        pem.extend(load(&key)?);
        let bad = |source| HttpError::BadCertificate { path: Some(path.clone()), source };
        let made = Identity::from_pem(&pem).map_err(bad)?;
        // One connection shows one certificate: the first by name.
        identity.get_or_insert(made);
    }
    Ok(Some(Certificates { authorities, identity }))
}

fn load(path: &Path) -> Result<Vec<u8>, HttpError> {
    let mut bytes = Vec::new();
    let read = fs::File::open(path).and_then(|it| it.take(LONGEST_FILE).read_to_end(&mut bytes));
    read.map_err(|source| unreadable(path, source))?;
    Ok(bytes)
}

fn unreadable(path: &Path, source: io::Error) -> HttpError {
    HttpError::UnreadableCertificate { path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn b009_the_first_directory_of_the_host_counts() {
        let root = tempfile::tempdir().expect("a temporary directory");
        let make = |name: &str| fs::create_dir_all(root.path().join(name)).expect("writable");
        make("home/r.example:5000");
        make("etc/r.example:5000");
        make("etc/s.example");
        make("etc/t.example:443");
        let by_host = vec![root.path().join("home"), root.path().join("etc")];
        let mut directories = CertificateDirectories { by_host, for_all: None };
        let check = |directories: &CertificateDirectories, url: &str, expected: Option<&str>| {
            let found = directories.of(&url.parse().expect("a URL"));
            assert_eq!(found, expected.map(|it| root.path().join(it)), "{url}");
        };
        check(&directories, "https://r.example:5000/v2/", Some("home/r.example:5000"));
        check(&directories, "https://s.example/v2/", Some("etc/s.example"));
        check(&directories, "https://t.example/v2/", Some("etc/t.example:443"));
        check(&directories, "https://s.example:5000/", None);
        check(&directories, "http://s.example/", None);
        directories.for_all = Some(root.path().join("all"));
        check(&directories, "https://r.example:5000/v2/", Some("all"));
    }

    #[test]
    fn b009_a_certificate_without_its_key_is_an_error() {
        let root = tempfile::tempdir().expect("a temporary directory");
        let made = rcgen::generate_simple_self_signed(vec!["a".to_owned()]).expect("made");
        let write =
            |name: &str, text: &str| fs::write(root.path().join(name), text).expect("written");
        write("ca.crt", &made.cert.pem());
        let read_it = || read(root.path());
        let read = read_it().expect("readable").expect("there");
        assert_eq!((read.authorities.len(), read.identity.is_some()), (1, false));
        write("me.cert", &made.cert.pem());
        assert!(matches!(read_it(), Err(HttpError::HalfPair { missing: "key", .. })));
        write("me.key", &made.signing_key.serialize_pem());
        assert!(read_it().expect("readable").expect("there").identity.is_some());
        write("you.key", &made.signing_key.serialize_pem());
        assert!(matches!(read_it(), Err(HttpError::HalfPair { missing: "cert", .. })));
        fs::remove_file(root.path().join("you.key")).expect("there");
        write("bad.crt", "-----BEGIN CERTIFICATE-----\nx\n-----END CERTIFICATE-----\n");
        assert!(matches!(read_it(), Err(HttpError::BadCertificate { path: Some(_), .. })));
    }
}
