//! A real registry: Debian's `docker-registry` in a process of its own, on a free loopback port.

use std::fs::File;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;
use std::time::Instant;

use crate::support::client;
use crate::support::client::Client;
use crate::support::process::Process;
use crate::support::process::command;
use crate::support::process::free_port;
use crate::support::requirement;
use crate::support::scratch::Scratch;
use crate::support::tls::Authority;
use crate::support::tls::Pair;
use crate::support::token;
use crate::support::token::TokenServer;

/// Who may use a registry.
pub(crate) enum Auth<'a> {
    /// Everybody.
    None,
    /// This user with this password, by Basic authentication.
    Basic(&'a str, &'a str),
    /// Whom a token server lets.
    Token(&'a TokenServer),
}

/// How a registry is spoken to.
#[derive(Clone, Copy)]
pub(crate) enum Tls<'a> {
    /// In plain HTTP.
    None,
    /// With a certificate of this authority.
    Server(&'a Authority),
    /// The same, by clients that have one of its certificates themselves.
    Mutual(&'a Authority),
}

/// A running registry.
#[derive(Debug)]
pub(crate) struct Registry {
    port: u16,
    is_plain: bool,
    access: client::Access,
    // Before the directory, so that it is killed before its files are removed.
    process: Option<Process>,
    directory: Scratch,
}

impl Registry {
    /// Starts one without authentication.
    pub(crate) fn open() -> Result<Self, String> {
        Self::start(&Auth::None)
    }

    /// Starts one.
    pub(crate) fn start(auth: &Auth<'_>) -> Result<Self, String> {
        let directory = Scratch::new();
        let data = directory.join("data");
        Self::start_in(directory, &data, auth, Tls::None)
    }

    /// Starts a second one, without authentication, on this one's content.
    pub(crate) fn twin(&self) -> Result<Self, String> {
        self.twin_with(&Auth::None, Tls::None)
    }

    /// Starts another one on this one's content. The tests' own client does not speak TLS: it asks
    /// the twin that does not either.
    pub(crate) fn twin_with(&self, auth: &Auth<'_>, tls: Tls<'_>) -> Result<Self, String> {
        Self::start_in(Scratch::new(), &self.directory.join("data"), auth, tls)
    }

    fn start_in(
        directory: Scratch,
        data: &Path,
        auth: &Auth<'_>,
        tls: Tls<'_>,
    ) -> Result<Self, String> {
        let program = requirement::program("docker-registry")?;
        let access = match auth {
            Auth::None => client::Access::Open,
            Auth::Basic(name, password) => client::Access::basic(name, password),
            Auth::Token(server) => client::Access::Tokens(server.granter()),
        };
        let auth = configuration_of(auth, &directory)?;
        let (tls, is_plain) = (tls_section(tls), matches!(tls, Tls::None));
        let mut registry = Self { port: 0, is_plain, access, process: None, directory };
        // Somebody else may take the port between our looking and the registry's binding it.
        for _ in 0..5 {
            registry.port = free_port();
            let config = registry.directory.write("config.yml", registry.config(data, &tls, &auth));
            registry.process = Some(registry.spawn(&program, &config));
            if registry.is_up() {
                return Ok(registry);
            }
        }
        Err(format!("docker-registry does not start: {}", registry.log()))
    }

    fn config(&self, data: &Path, tls: &str, auth: &str) -> String {
        format!(
            "version: 0.1\nlog: {{level: warn, accesslog: {{disabled: true}}}}\nstorage:\n  \
             filesystem: {{rootdirectory: {}}}\n  delete: {{enabled: true}}\nhttp: {{addr: \
             \"127.0.0.1:{}\", secret: test{tls}}}\n{auth}",
            data.display(),
            self.port
        )
    }

    fn spawn(&self, program: &Path, config: &Path) -> Process {
        let log = File::create(self.directory.join("log")).expect("scratch is writable");
        Process::start(
            command(program)
                .arg("serve")
                .arg(config)
                .env_clear()
                .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
                .env("OTEL_TRACES_EXPORTER", "none")
                .stdin(Stdio::null())
                .stdout(log.try_clone().expect("a file can be shared"))
                .stderr(log),
        )
    }

    /// Waits until it answers; `false` if it ends instead.
    fn is_up(&mut self) -> bool {
        let deadline = Instant::now() + Duration::from_secs(20);
        while Instant::now() < deadline {
            if self.process.as_mut().is_none_or(|process| process.ended().is_some()) {
                return false;
            }
            let address = self.address();
            let is_up = if self.is_plain {
                client::answers(&address)
            } else {
                std::net::TcpStream::connect(&address).is_ok()
            };
            if is_up {
                return true;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        false
    }

    /// `127.0.0.1:PORT`
    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The value of `--registry-mirror` that puts this registry in the place of Docker Hub.
    pub(crate) fn as_docker_hub(&self) -> String {
        format!("docker.io=http://{}", self.address())
    }

    /// A client that may do everything.
    pub(crate) fn client(&self) -> Client {
        Client::new(&self.address(), self.access.clone())
    }

    /// What it wrote, for error messages.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.directory.join("log")).unwrap_or_default()
    }
}

/// What the configuration says of TLS.
fn tls_section(tls: Tls<'_>) -> String {
    let (Tls::Server(authority) | Tls::Mutual(authority)) = tls else { return String::new() };
    let Pair { certificate, key } = authority.issue("127.0.0.1");
    let clients = match tls {
        Tls::Mutual(authority) => format!(", clientcas: [{}]", authority.certificate().display()),
        _ => String::new(),
    };
    let (certificate, key) = (certificate.display(), key.display());
    format!(", tls: {{certificate: {certificate}, key: {key}{clients}}}")
}

/// The `auth` section of the configuration, with the files that it names.
fn configuration_of(auth: &Auth<'_>, directory: &Scratch) -> Result<String, String> {
    match auth {
        Auth::None => Ok(String::new()),
        Auth::Basic(name, password) => {
            let file = directory.write("htpasswd", htpasswd(name, password)?);
            Ok(format!("auth:\n  htpasswd: {{realm: test, path: {}}}\n", file.display()))
        }
        Auth::Token(server) => {
            let file = directory.join("certificate.pem");
            server.write_certificate(&file).expect("scratch is writable");
            Ok(format!(
                "auth:\n  token:\n    realm: {}\n    service: {}\n    issuer: {}\n    \
                 rootcertbundle: {}\n",
                server.realm(),
                token::SERVICE,
                token::ISSUER,
                file.display()
            ))
        }
    }
}

/// A line of a password file, with the cheapest bcrypt that is allowed.
fn htpasswd(name: &str, password: &str) -> Result<Vec<u8>, String> {
    let program = requirement::program("htpasswd")?;
    let output = std::process::Command::new(program)
        .args(["-nbBC", "4", name, password])
        .output()
        .expect("htpasswd runs");
    Ok(output.stdout)
}
