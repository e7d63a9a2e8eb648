//! Why an HTTP exchange failed, without the secrets that its URL may hold.
//!
//! Query strings of signed URLs are credentials, so no error shows one (rule B018).

use std::{
    error::Error as _,
    fmt,
    path::{Path, PathBuf},
    time::Duration,
};

use reqwest::Url;

use crate::http::redirect::Refused;

/// A URL as it may be shown: scheme, host and path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place(String);

impl Place {
    /// Drops what must not be shown.
    pub fn of(url: &Url) -> Self {
        let host = url.host_str().unwrap_or_default();
        let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
        Self(format!("{}://{host}{port}{}", url.scheme(), url.path()))
    }

    fn hint_for_client(&self) -> String {
        let directory = format!("~/.config/containers/certs.d/{}", self.authority());
        format!("put it and its key into `{directory}`, as `client.cert` and `client.key`")
    }

    /// `host` or `host:port`.
    fn authority(&self) -> &str {
        let rest = self.0.split_once("://").map_or(&*self.0, |(_, rest)| rest);
        rest.split('/').next().unwrap_or(rest)
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why an exchange failed.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// No connection could be made.
    #[error("cannot connect to {place}")]
    Connect {
        /// What was asked for.
        place: Place,
        /// What the operating system or the other side said.
        source: reqwest::Error,
    },
    /// The other side's certificate is not one that we trust.
    #[error("the certificate of {place} is not trusted")]
    Certificate {
        /// What was asked for.
        place: Place,
        /// What is wrong with the certificate.
        source: reqwest::Error,
    },
    /// The other side refuses our certificate, or that we have none.
    #[error("{place} wants a client certificate that it trusts")]
    ClientCertificate {
        /// What was asked for.
        place: Place,
        /// How it was refused.
        source: reqwest::Error,
    },
    /// Nothing moved for too long.
    #[error("nothing came from {place} for {} seconds", .after.as_secs())]
    Timeout {
        /// What was asked for.
        place: Place,
        /// How long we waited.
        after: Duration,
    },
    /// All the time that the user gave has been spent.
    #[error("the time for {place} is up: the limit is {} seconds", .limit.as_secs_f64())]
    OutOfTime {
        /// What was asked for.
        place: Place,
        /// How long there was to wait in all.
        limit: Duration,
    },
    /// The connection broke before the exchange was complete.
    #[error("the connection to {place} broke")]
    Broken {
        /// What was asked for.
        place: Place,
        /// What the operating system or the other side said.
        source: reqwest::Error,
    },
    /// A redirect led where we do not go.
    #[error("the redirect of {place} is refused")]
    Redirect {
        /// What was asked for.
        place: Place,
        /// Where it led.
        source: Refused,
    },
    /// The answer is longer than any honest one.
    #[error("the answer of {place} is longer than {limit} bytes")]
    TooLarge {
        /// What was asked for.
        place: Place,
        /// The most that is read.
        limit: u64,
    },
    /// A certificate that the caller wants to be trusted is not one.
    #[error("{}not a certificate in PEM", named(.path.as_deref()))]
    BadCertificate {
        /// Its file, where it came from one.
        path: Option<PathBuf>,
        /// What is wrong with it.
        source: reqwest::Error,
    },
    /// A certificate for a host cannot be read.
    #[error("cannot read `{}`", .path.display())]
    UnreadableCertificate {
        /// Which file.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// Half of what proves who we are (rule B009).
    #[error("`{}` has no file `.{missing}` beside it", .path.display())]
    HalfPair {
        /// Which file.
        path: PathBuf,
        /// What is missing.
        missing: &'static str,
    },
    /// The client could not be made at all.
    #[error("cannot set up TLS")]
    Setup {
        /// What is wrong.
        source: reqwest::Error,
    },
}

impl HttpError {
    /// Reads reqwest's error, and strips the URL that its message would show.
    pub(crate) fn from_reqwest(url: &Url, source: reqwest::Error) -> Self {
        let (place, source) = (Place::of(url), source.without_url());
        match cause(&source) {
            Some(rustls::Error::InvalidCertificate(_)) => Self::Certificate { place, source },
            Some(rustls::Error::AlertReceived(alert)) if is_about_client(*alert) => {
                Self::ClientCertificate { place, source }
            }
            _ if source.is_connect() && !is_cancelled(&source) => Self::Connect { place, source },
            _ => Self::Broken { place, source },
        }
    }

    /// Whether another try may end better (rule B092).
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Connect { .. } | Self::Timeout { .. } | Self::Broken { .. })
    }

    /// Whether nobody listens at the port.
    pub(crate) fn is_refused(&self) -> bool {
        let Self::Connect { source, .. } = self else { return false };
        let refused = std::io::ErrorKind::ConnectionRefused;
        cause::<std::io::Error>(source).is_some_and(|error| error.kind() == refused)
    }

    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Certificate { place, .. } => Some(format!(
                "put its authority's certificate into `~/.config/containers/certs.d/{}/ca.crt`, or \
                 name the file in SSL_CERT_FILE",
                place.authority()
            )),
            Self::ClientCertificate { place, .. } => Some(place.hint_for_client()),
            // In HTTP/2 over TLS 1.3 the reason comes too late to be told.
            Self::Broken { place, .. } if place.0.starts_with("https:") => Some(format!(
                "if this is so each time, the registry may want a client certificate: {}",
                place.hint_for_client()
            )),
            Self::Connect { .. } => Some(
                "check the name, the network, and HTTPS_PROXY and NO_PROXY; a registry on plain \
                 HTTP must be declared insecure"
                    .to_owned(),
            ),
            Self::Redirect { source, .. } => source.hint(),
            _ => None,
        }
    }
}

fn named(path: Option<&Path>) -> String {
    path.map(|path| format!("`{}` is ", path.display())).unwrap_or_default()
}

/// The first cause of kind `E` among the causes of `error`.
fn cause<E: std::error::Error + 'static>(error: &reqwest::Error) -> Option<&E> {
    let mut cause = error.source();
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref() {
            return Some(error);
        }
        // An `io::Error` hides the error that it was made from from `source`.
        let inner = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        cause = match inner {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    None
}

/// Whether somebody else's connection broke which this request was to go over (HTTP/2).
fn is_cancelled(error: &reqwest::Error) -> bool {
    let Some(mut innermost) = error.source() else { return false };
    while let Some(cause) = innermost.source() {
        innermost = cause;
    }
    innermost.to_string().ends_with("canceled")
}

/// Whether a server sends this alert when it does not like the certificate of its client.
fn is_about_client(alert: rustls::AlertDescription) -> bool {
    use rustls::AlertDescription as Alert;

    matches!(
        alert,
        Alert::CertificateRequired
            | Alert::BadCertificate
            | Alert::CertificateExpired
            | Alert::CertificateRevoked
            | Alert::CertificateUnknown
            | Alert::UnknownCA
            | Alert::UnsupportedCertificate
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn b018_a_place_shows_neither_query_nor_user() {
        let url = "https://user:secret@a.example:8443/v2/x?X-Amz-Signature=secret#f";
        let place = Place::of(&url.parse().expect("a URL"));
        assert_eq!(place.to_string(), "https://a.example:8443/v2/x");
    }
}
