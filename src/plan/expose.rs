//! `EXPOSE`: ports, ranges and protocols (rule A088).

use std::net::IpAddr;

/// Why a word is no port. The messages are BuildKit's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PortError {
    /// `EXPOSE /tcp`
    #[error("invalid port: \"{0}\": no port specified: {0}<empty>")]
    NoPort(String),
    /// `EXPOSE 80/icmp`
    #[error("invalid port: \"{word}\": invalid proto: {protocol}")]
    Protocol {
        /// As written.
        word: String,
        /// What is not a protocol.
        protocol: String,
    },
    /// `EXPOSE http`, `EXPOSE 70000`, `EXPOSE 90-80`
    #[error("invalid containerPort: {0}")]
    ContainerPort(String),
    /// `EXPOSE x:80`
    #[error("invalid hostPort: {0}")]
    HostPort(String),
    /// `EXPOSE host:8080:80`
    #[error("invalid IP address: {0}")]
    Address(String),
    /// `EXPOSE 1-3:1-2`
    #[error("invalid ranges specified for container and host Ports: {container} and {host}")]
    Ranges {
        /// The ports of the container.
        container: String,
        /// The ports of the host.
        host: String,
    },
}

/// What one word of `EXPOSE` means.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Ports {
    /// `80/tcp` and so on, one for each port of a range.
    pub(crate) numbered: Vec<String>,
    /// The protocol, where it was not written in lower case.
    pub(crate) odd_protocol: Option<String>,
    /// Whether an address or a port of the host was written, which mean nothing here.
    pub(crate) has_host: bool,
}

/// Reads `[[address:]host-port:]port[-last][/protocol]`.
pub(crate) fn parse(word: &str) -> Result<Ports, PortError> {
    let mut parts = word.rsplitn(3, ':');
    let container = parts.next().unwrap_or_default();
    let host_port = parts.next().unwrap_or_default();
    let address = parts.next().unwrap_or_default();

    let (port, written) = container.split_once('/').unwrap_or((container, ""));
    if port.is_empty() {
        return Err(PortError::NoPort(word.to_owned()));
    }
    let protocol = match written.to_ascii_lowercase() {
        it if it.is_empty() => "tcp".to_owned(),
        it if matches!(it.as_str(), "tcp" | "udp" | "sctp") => it,
        protocol => return Err(PortError::Protocol { word: word.to_owned(), protocol }),
    };
    let bare = address.strip_prefix('[').and_then(|it| it.strip_suffix(']')).unwrap_or(address);
    if !bare.is_empty() && bare.parse::<IpAddr>().is_err() {
        return Err(PortError::Address(address.to_owned()));
    }
    let (first, last) = range(port).ok_or_else(|| PortError::ContainerPort(port.to_owned()))?;
    if !host_port.is_empty() {
        let (host_first, host_last) =
            range(host_port).ok_or_else(|| PortError::HostPort(host_port.to_owned()))?;
        if last != first && last - first != host_last - host_first {
            let (container, host) = (port.to_owned(), host_port.to_owned());
            return Err(PortError::Ranges { container, host });
        }
    }
    Ok(Ports {
        numbered: (first..=last).map(|number| format!("{number}/{protocol}")).collect(),
        odd_protocol: (written != written.to_ascii_lowercase()).then(|| written.to_owned()),
        has_host: word.contains(':'),
    })
}

/// `80` or `8000-8010`.
fn range(text: &str) -> Option<(u16, u16)> {
    let number = |text: &str| {
        text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse::<u16>().ok()).flatten()
    };
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (number(first)?, number(last)?);
    (first <= last).then_some((first, last))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(word: &str, expected: &[&str]) {
        let ports = parse(word).map(|it| it.numbered);
        assert_eq!(ports, Ok(expected.iter().map(|it| (*it).to_owned()).collect()), "{word}");
    }

    #[test]
    fn a088_ports_and_ranges() {
        check("80", &["80/tcp"]);
        check("80/", &["80/tcp"]);
        check("53/UDP", &["53/udp"]);
        check("9/sctp", &["9/sctp"]);
        check("8000-8002/udp", &["8000/udp", "8001/udp", "8002/udp"]);
        check("65535-65535", &["65535/tcp"]);
    }

    #[test]
    fn a088_only_the_containers_port_counts() {
        check("8080:80", &["80/tcp"]);
        check("127.0.0.1:8080:81", &["81/tcp"]);
        check("[::1]:1-2:80", &["80/tcp"]);
        check("127.0.0.1::80", &["80/tcp"]);
    }

    #[test]
    fn a088_what_is_not_a_port_says_why() {
        let check = |word: &str, expected: &str| {
            assert_eq!(parse(word).expect_err(word).to_string(), expected);
        };
        check("http", "invalid containerPort: http");
        check("70000", "invalid containerPort: 70000");
        check("90-80", "invalid containerPort: 90-80");
        check("+80", "invalid containerPort: +80");
        check("80/icmp", "invalid port: \"80/icmp\": invalid proto: icmp");
        check("", "invalid port: \"\": no port specified: <empty>");
        check("x:80", "invalid hostPort: x");
        check("h:1:80", "invalid IP address: h");
        check("1-3:1-2", "invalid ranges specified for container and host Ports: 1-2 and 1-3");
    }
}
