//! Digests: names for bytes, and one type for each thing that a digest can be the name of.
//!
//! Spec: <https://github.com/opencontainers/image-spec/blob/v1.1.1/descriptor.md#digests>,
//! <https://github.com/opencontainers/image-spec/blob/v1.1.1/config.md#layer-chainid>.

use std::{fmt, io, str::FromStr};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// The identity of some bytes: their sha256, written `sha256:` and 64 lowercase hex digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest([u8; 32]);

impl Digest {
    /// Hashes `bytes`.
    pub fn of(bytes: impl AsRef<[u8]>) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// The 64 hex digits alone: the name of the blob's file in an OCI layout.
    pub fn hex(&self) -> String {
        use fmt::Write as _;
        self.0.iter().fold(String::with_capacity(64), |mut text, byte| {
            write!(text, "{byte:02x}").expect("writing to a String cannot fail");
            text
        })
    }

    /// The first twelve hex digits: enough for a person to tell digests apart.
    pub fn short(&self) -> String {
        self.hex()[..12].to_owned()
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.to_string()
    }
}

impl TryFrom<String> for Digest {
    type Error = ParseDigestError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl FromStr for Digest {
    type Err = ParseDigestError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (algorithm, hex) = text.split_once(':').ok_or(ParseDigestError::NoAlgorithm)?;
        if algorithm != "sha256" {
            return Err(ParseDigestError::UnsupportedAlgorithm(algorithm.to_owned()));
        }
        decode_hex(hex).map(Self).ok_or(ParseDigestError::BadHex)
    }
}

fn decode_hex(hex: &str) -> Option<[u8; 32]> {
    let nibble = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        // The spec allows lowercase alone, so that equal digests are equal as text.
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let (pairs, []) = hex.as_bytes().as_chunks::<2>() else { return None };
    let bytes: Option<Vec<u8>> =
        pairs.iter().map(|[high, low]| Some(nibble(*high)? << 4 | nibble(*low)?)).collect();
    bytes?.try_into().ok()
}

/// Why a text is not a digest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseDigestError {
    /// There is no `:`.
    #[error("a digest needs an algorithm, as in `sha256:…`")]
    NoAlgorithm,
    /// The algorithm is not one that coracle can compute, so nothing could be verified with it.
    #[error("digest algorithm `{0}` is not supported, only `sha256` is")]
    UnsupportedAlgorithm(String),
    /// What follows is not 64 lowercase hex digits.
    #[error("a sha256 digest has 64 lowercase hex digits")]
    BadHex,
}

/// Computes a [`Digest`] of bytes that arrive piece by piece.
#[derive(Clone, Default)]
pub struct Digester(Sha256);

impl Digester {
    /// A digester that has seen nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next bytes.
    pub fn update(&mut self, bytes: impl AsRef<[u8]>) {
        self.0.update(bytes);
    }

    /// The digest of all bytes seen.
    pub fn finish(self) -> Digest {
        Digest(self.0.finalize().into())
    }
}

impl fmt::Debug for Digester {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Digester")
    }
}

impl io::Write for Digester {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The digest of a layer's *uncompressed* tar. What the image config lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DiffId(pub Digest);

impl fmt::Display for DiffId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The digest of an image's config. What `docker images` calls the image ID.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ImageId(pub Digest);

/// The digest that names a *stack* of layers. What a snapshot is keyed by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ChainId(Digest);

impl ChainId {
    /// The stack that holds one layer.
    pub fn base(layer: DiffId) -> Self {
        Self(layer.0)
    }

    /// The stack with `layer` put on top of this one.
    #[must_use]
    pub fn with(self, layer: DiffId) -> Self {
        Self(Digest::of(format!("{} {}", self.0, layer.0)))
    }

    /// The stack of `layers`, bottom first; `None` for the empty stack, which has no name.
    pub fn of(layers: impl IntoIterator<Item = DiffId>) -> Option<Self> {
        layers.into_iter().fold(None, |chain, layer| match chain {
            None => Some(Self::base(layer)),
            Some(chain) => Some(chain.with(layer)),
        })
    }

    /// The 64 hex digits alone: the name of the stack's top directory in the store.
    pub fn hex(&self) -> String {
        self.0.hex()
    }
}

impl fmt::Display for ChainId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EMPTY: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn a_digest_survives_text() {
        assert_eq!(Digest::of(b"").to_string(), EMPTY);
        assert_eq!(EMPTY.parse(), Ok(Digest::of(b"")));
    }

    #[test]
    fn b006_malformed_digests_are_refused() {
        let check = |text: &str, error| assert_eq!(text.parse::<Digest>(), Err(error), "{text}");
        check("e3b0", ParseDigestError::NoAlgorithm);
        check("md5:00", ParseDigestError::UnsupportedAlgorithm("md5".into()));
        check(&EMPTY.to_uppercase().replace("SHA256", "sha256"), ParseDigestError::BadHex);
        check("sha256:../../etc/passwd", ParseDigestError::BadHex);
        check(&EMPTY[..70], ParseDigestError::BadHex);
    }

    #[test]
    fn a_chain_of_one_is_its_layer_and_order_matters() {
        let [a, b] = [DiffId(Digest::of("a")), DiffId(Digest::of("b"))];
        assert_eq!(ChainId::of([a]), Some(ChainId::base(a)));
        assert_eq!(ChainId::of([]), None);
        assert_ne!(ChainId::of([a, b]), ChainId::of([b, a]));
        let expected = Digest::of(format!("{a} {b}"));
        assert_eq!(ChainId::of([a, b]).map(|chain| chain.to_string()), Some(expected.to_string()));
    }
}
