//! The client of registries that a command works with: from arguments, environment and files.

use std::path::PathBuf;

use crate::cli::diagnostic::Diagnostic;
use crate::cli::diagnostic::Failure;
use crate::cli::exit::Exit;
use crate::cli::failure;
use crate::cli::session::Session;
use crate::registry;
use crate::registry::CertificateDirectories;
use crate::registry::Client;
use crate::registry::Config;
use crate::registry::Credential;
use crate::registry::CredentialSources;
use crate::registry::Interrupt;
use crate::registry::Pipeline;
use crate::registry::Registries;
use crate::registry::Retry;
use crate::registry::Secret;

impl Session<'_> {
    /// The registries.
    pub(crate) fn client(&self) -> Result<Client, Failure> {
        let mirrors = self.global.registry_mirror.iter().map(|text| text.parse());
        let mirrors = mirrors
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| Failure::from_error(Exit::Usage, &error, None))?;
        let mut insecure = self.global.insecure_registry.clone();
        if !self.global.registry.tls_verify {
            insecure.push("*".to_owned());
        }
        let cancel = self.cancel.clone();
        let config = Config {
            mirrors,
            registries: self.registries()?,
            certificates: self.certificates(),
            insecure,
            credentials: CredentialSources { given: self.given()?, ..self.credentials() },
            // Builders that failed together must not come back together.
            retry: Retry { seed: u64::from(std::process::id()), ..Retry::default() },
            time_limit: self.global.registry.registry_timeout,
            log: self.log.clone(),
            interrupt: Interrupt::when(move || cancel.is_cancelled()),
            ..Config::default()
        };
        let client = Client::new(config).map_err(|error| failure::registry(&error))?;
        if let Some(directory) = self.missing_runtime_directory() {
            let directory = directory.display();
            client.warn(format!("XDG_RUNTIME_DIR is `{directory}`, which does not exist; Podman's credentials are not looked for there"));
        }
        Ok(client)
    }

    /// The places where credentials may be.
    pub(crate) fn credentials(&self) -> CredentialSources {
        let environment = self.environment;
        let secret = |name: &str| environment.text(name).map(Secret::new);
        let text = |name: &str| environment.text(name).map(str::to_owned);
        CredentialSources::standard(&registry::Environment {
            home: environment.path("HOME"),
            docker_config: environment.path("DOCKER_CONFIG"),
            registry_auth_file: environment.path("REGISTRY_AUTH_FILE"),
            xdg_runtime_dir: environment.path("XDG_RUNTIME_DIR"),
            xdg_config_home: environment.path("XDG_CONFIG_HOME"),
            docker_auth_config: secret("DOCKER_AUTH_CONFIG"),
            authfile: self.global.registry.authfile.clone(),
            pipeline: Pipeline {
                ci_registry: text("CI_REGISTRY"),
                ci_registry_user: text("CI_REGISTRY_USER"),
                ci_registry_password: secret("CI_REGISTRY_PASSWORD"),
                ci_job_token: secret("CI_JOB_TOKEN"),
                ci_dependency_proxy_server: text("CI_DEPENDENCY_PROXY_SERVER"),
                ci_dependency_proxy_user: text("CI_DEPENDENCY_PROXY_USER"),
                ci_dependency_proxy_password: secret("CI_DEPENDENCY_PROXY_PASSWORD"),
                github_actor: text("GITHUB_ACTOR"),
                github_token: secret("GITHUB_TOKEN"),
            },
            uid: environment.uid,
        })
    }

    /// `--creds`.
    fn given(&self) -> Result<Vec<(String, Credential)>, Failure> {
        let usage = |title: &str, hint: &str| {
            Failure::new(Exit::Usage, Diagnostic::new(title).hinted(Some(hint.to_owned())))
        };
        let mut given = Vec::new();
        for text in &self.global.registry.creds {
            let (host, pair) = split_creds(text);
            // What was typed is a secret, and not repeated.
            let Some((username, password)) = pair.split_once(':') else {
                let hint = "write `USER:PASSWORD` or `HOST=USER:PASSWORD`";
                return Err(usage("`--creds` has no password", hint));
            };
            let host = match (host, &self.hosts[..]) {
                (Some(host), _) => host.to_owned(),
                (None, [only]) => only.clone(),
                (None, _) => {
                    let hint = "write `--creds HOST=USER:PASSWORD`";
                    return Err(usage("which registry `--creds` is for cannot be told", hint));
                }
            };
            given.push((host, Credential::basic(username, password)));
        }
        Ok(given)
    }

    /// `registries.conf`, its additions (rule B112), and `--registry-map`.
    fn registries(&self) -> Result<Registries, Failure> {
        let bad = |error: registry::RegistriesError| {
            Failure::from_error(Exit::Usage, &error, error.hint())
        };
        let mut files = Vec::new();
        for path in self.registries_files() {
            match std::fs::read_to_string(&path) {
                Ok(text) => files.push((path, text)),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => {
                    let title = format!("cannot read `{}`", path.display());
                    let diagnostic = Diagnostic::new(title).note("cause", error.to_string());
                    return Err(Failure::new(Exit::Machine, diagnostic));
                }
            }
        }
        let mut registries = Registries::parse(&files).map_err(bad)?;
        for map in &self.global.registry.registry_map {
            registries.map(map).map_err(bad)?;
        }
        Ok(registries)
    }

    fn registries_files(&self) -> Vec<PathBuf> {
        if let Some(only) = self.environment.path("CONTAINERS_REGISTRIES_CONF") {
            return vec![only];
        }
        let system = PathBuf::from("/etc/containers");
        let user = self.environment.path("HOME").map(|home| home.join(".config/containers"));
        let main = user.iter().map(|it| it.join("registries.conf")).find(|path| path.exists());
        let mut files = vec![main.unwrap_or_else(|| system.join("registries.conf"))];
        for directory in [Some(system), user].into_iter().flatten() {
            let entries = std::fs::read_dir(directory.join("registries.conf.d"));
            let paths = entries.into_iter().flatten().flatten().map(|entry| entry.path());
            let mut paths: Vec<_> =
                paths.filter(|path| path.extension().is_some_and(|it| it == "conf")).collect();
            paths.sort();
            files.extend(paths);
        }
        files
    }

    /// Where certificates for single hosts are (rule B009).
    fn certificates(&self) -> CertificateDirectories {
        let home = self.environment.path("HOME");
        let user = home.map(|home| home.join(".config/containers/certs.d"));
        let system = ["/etc/containers/certs.d", "/etc/docker/certs.d"].map(PathBuf::from);
        CertificateDirectories {
            by_host: user.into_iter().chain(system).collect(),
            for_all: self.global.registry.cert_dir.clone(),
        }
    }

    /// `XDG_RUNTIME_DIR`, if it is set and not there (rule B104).
    fn missing_runtime_directory(&self) -> Option<PathBuf> {
        let decided = self.global.registry.authfile.is_some()
            || self.environment.path("REGISTRY_AUTH_FILE").is_some();
        self.environment.path("XDG_RUNTIME_DIR").filter(|path| !decided && !path.is_dir())
    }
}

/// Splits `HOST=USER:PASSWORD`. A host has a dot or a port, or is `localhost`; a password may have
/// a `=` in it.
fn split_creds(text: &str) -> (Option<&str>, &str) {
    let Some((host, rest)) = text.split_once('=') else { return (None, text) };
    let (name, port) = host.split_once(':').unwrap_or((host, "1"));
    let is_port = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    let is_host = is_port && (host.contains(['.', ':']) || name == "localhost");
    if is_host && rest.contains(':') { (Some(host), rest) } else { (None, text) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_for_a_host_or_for_the_one_that_is_named() {
        let check = |text: &str, expected| assert_eq!(split_creds(text), expected, "{text}");
        check("me:secret", (None, "me:secret"));
        check("me:sec=ret", (None, "me:sec=ret"));
        check("r.example=me:secret", (Some("r.example"), "me:secret"));
        check("r.example:5000=me:se=cr:et", (Some("r.example:5000"), "me:se=cr:et"));
        check("localhost=me:x", (Some("localhost"), "me:x"));
        check("me:pass=word:x", (None, "me:pass=word:x"));
    }
}
