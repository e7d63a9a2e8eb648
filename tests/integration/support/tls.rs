//! A certificate authority of the tests' own, which nobody trusts by himself.

use std::path::PathBuf;

use rcgen::CertificateParams;
use rcgen::CertifiedIssuer;
use rcgen::KeyPair;

use crate::support::scratch::Scratch;

/// The authority, and what it issues, as files in PEM.
pub(crate) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    directory: Scratch,
}

/// A certificate and its key.
pub(crate) struct Pair {
    /// The certificate.
    pub(crate) certificate: PathBuf,
    /// The key.
    pub(crate) key: PathBuf,
}

impl Authority {
    /// Makes one.
    pub(crate) fn new() -> Self {
        let mut parameters = CertificateParams::new(Vec::new()).expect("no names is valid");
        parameters.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        parameters.distinguished_name.push(rcgen::DnType::CommonName, "coracle's tests");
        let key = KeyPair::generate().expect("a key can be generated");
        let issuer = CertifiedIssuer::self_signed(parameters, key).expect("the key can sign");
        let directory = Scratch::new();
        directory.write("ca.crt", issuer.pem());
        Self { issuer, directory }
    }

    /// Its own certificate.
    pub(crate) fn certificate(&self) -> PathBuf {
        self.directory.join("ca.crt")
    }

    /// Issues a certificate for `name`, a host or a client.
    pub(crate) fn issue(&self, name: &str) -> Pair {
        let key = KeyPair::generate().expect("a key can be generated");
        let parameters = CertificateParams::new(vec![name.to_owned()]).expect("a valid name");
        let certificate = parameters.signed_by(&key, &self.issuer).expect("the key can sign");
        Pair {
            certificate: self.directory.write(&format!("{name}.cert"), certificate.pem()),
            key: self.directory.write(&format!("{name}.key"), key.serialize_pem()),
        }
    }
}
