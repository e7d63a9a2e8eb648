//! What every command needs: the store, the registries, the sandbox, the display.

use std::path::PathBuf;
use std::sync::Arc;

use crate::build::BuildErrorKind;
use crate::build::Workshop;
use crate::cache::LocalCache;
use crate::cli::args::GlobalArguments;
use crate::cli::args::ProgressMode;
use crate::cli::debug;
use crate::cli::diagnostic::Diagnostic;
use crate::cli::diagnostic::Failure;
use crate::cli::environment::Environment;
use crate::cli::exit::Exit;
use crate::cli::failure;
use crate::cli::progress;
use crate::fetch::Fetcher;
use crate::fetch::GitSettings;
use crate::layer::OverlayFormat;
use crate::layer::Owners;
use crate::oci::Timestamp;
use crate::progress::Progress;
use crate::registry::Log;
use crate::sandbox;
use crate::sandbox::Cancel;
use crate::sandbox::EnterError;
use crate::sandbox::Identity;
use crate::sandbox::Sandbox;
use crate::sandbox::Style;
use crate::snapshot::Snapshotter;
use crate::store::Store;

/// What `git` is told of the network.
const GIT_ENVIRONMENT: [&str; 10] = [
    "http_proxy",
    "HTTP_PROXY",
    "https_proxy",
    "HTTPS_PROXY",
    "all_proxy",
    "ALL_PROXY",
    "no_proxy",
    "NO_PROXY",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
];

/// The global arguments and the environment of one run of the program.
#[derive(Debug)]
pub(crate) struct Session<'a> {
    pub(crate) global: GlobalArguments,
    pub(crate) environment: &'a Environment,
    /// The registries that the command names.
    pub(crate) hosts: Vec<String>,
    /// Where `--debug` goes.
    pub(crate) log: Log,
    /// Raised by Ctrl-C and SIGTERM.
    pub(crate) cancel: Cancel,
}

impl<'a> Session<'a> {
    pub(crate) fn new(
        global: GlobalArguments,
        environment: &'a Environment,
        hosts: Vec<String>,
    ) -> Result<Self, Failure> {
        let log = debug::open(&global, environment)?;
        let cancel = Cancel::new();
        let cancel = cancel.map_err(|error| Failure::from_error(Exit::Machine, &error, None))?;
        Ok(Self { global, environment, hosts, log, cancel })
    }

    /// The store's directory.
    pub(crate) fn root(&self) -> Result<PathBuf, Failure> {
        let root = self.global.root.clone().or_else(|| self.environment.default_root());
        root.ok_or_else(|| {
            let title = "there is no place for images: neither HOME nor XDG_DATA_HOME is set";
            let hint = "say where with `--root DIR`".to_owned();
            Failure::new(Exit::Usage, Diagnostic::new(title).hinted(Some(hint)))
        })
    }

    /// The store, made if it is not there.
    pub(crate) fn store(&self) -> Result<Store, Failure> {
        Store::open(&self.root()?).map_err(|error| failure::store(&error))
    }

    /// Where progress goes.
    pub(crate) fn display(&self) -> Arc<dyn Progress> {
        let is_shared = debug::is_on_stderr(&self.global, self.environment);
        match self.global.progress {
            // Lines between would tear what is drawn.
            ProgressMode::Auto if is_shared => progress::display(ProgressMode::Plain),
            mode => progress::display(mode),
        }
    }

    /// What `git` gets of this machine: nothing but the way out.
    fn git(&self, cancel: &Cancel) -> GitSettings {
        let environment = self.environment;
        let variable =
            |name: &&str| Some(((*name).to_owned(), environment.value(name)?.to_owned()));
        let cancel = cancel.clone();
        GitSettings {
            path: environment.value("PATH").unwrap_or_default().to_owned(),
            environment: GIT_ENVIRONMENT.iter().filter_map(variable).collect(),
            known_hosts: environment.path("HOME").map(|home| home.join(".ssh/known_hosts")),
            is_cancelled: Arc::new(move || cancel.is_cancelled()),
        }
    }

    /// How owners and deletions are written in snapshots: as the sandbox needs it. Without one, as
    /// this user can read them.
    fn file_system(&self, sandbox: Option<&Sandbox>) -> (Owners, OverlayFormat) {
        match sandbox {
            Some(sandbox) => (sandbox.owners(), sandbox.overlay_format()),
            None if Identity::of_machine_root().is_some() => (Owners::Real, OverlayFormat::Trusted),
            None if self.environment.uid == 0 => (Owners::Real, OverlayFormat::User),
            None => (Owners::Recorded, OverlayFormat::User),
        }
    }

    /// Gets this process into a position to run commands, or finds out why it cannot be.
    pub(crate) fn enter(&self, store: &Store) -> Result<Result<Sandbox, EnterError>, Failure> {
        let Some(wish) = self.global.isolation.wish() else {
            return Ok(Err(EnterError::Forbidden));
        };
        let place = store.temp_dir().map_err(|error| failure::store(&error))?;
        Ok(sandbox::enter(wish, place.path()))
    }

    /// Everything that a build works with.
    ///
    /// To prepare for commands enters the namespaces that they need, so it must come while there is
    /// one thread. Where the machine allows none, that is an error only for the step that would have
    /// needed them.
    pub(crate) fn workshop(&self, commands: Commands) -> Result<Workshop, Failure> {
        let store = self.store()?;
        let sandbox = match commands {
            Commands::Prepared => Some(self.enter(&store)?),
            Commands::NotExpected => None,
        };
        let entered = sandbox.as_ref().and_then(|sandbox| sandbox.as_ref().ok());
        let (owners, format) = self.file_system(entered);
        let workspace = store.temp_dir().map_err(|error| failure::store(&error))?;
        let temporary = workspace.path().to_owned();
        let style = entered.map_or(Style::Overlay, Sandbox::style);
        let snapshotter =
            Snapshotter::new(&store.snapshots_dir(), temporary, owners, format, style)
                .map_err(|error| failure::build_kind(&BuildErrorKind::from(error)))?;
        let resolv_conf = PathBuf::from("/etc/resolv.conf");
        let (cancel, progress) = (self.cancel.clone(), self.display());
        let fetcher = Fetcher::new(store.clone(), self.git(&cancel), Arc::clone(&progress))
            .map_err(|error| failure::fetch(&error))?;
        Ok(Workshop {
            cache: Arc::new(LocalCache::new(&store)),
            store: Arc::new(store),
            client: Arc::new(self.client()?),
            fetcher: Arc::new(fetcher),
            sandbox: sandbox.map(Arc::new),
            snapshotter: Arc::new(snapshotter),
            progress,
            cancel,
            workspace: Arc::new(workspace),
            resolv_conf: resolv_conf.exists().then_some(resolv_conf),
        })
    }
}

/// Whether commands may have to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Commands {
    /// Yes: this process gets into a position to run them.
    Prepared,
    /// Not as far as we know: this process stays what it is, and needs no privilege for anything.
    NotExpected,
}

/// What time it is.
pub(crate) fn now() -> Timestamp {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let since = since.unwrap_or_default();
    Timestamp {
        seconds: i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
        nanoseconds: since.subsec_nanos(),
    }
}

/// Runs `work` to its end, or until Ctrl-C or SIGTERM.
pub(crate) fn block_on<T>(
    cancel: &Cancel,
    work: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::from_error(Exit::Machine, &error, None))?;
    runtime.block_on(async {
        tokio::pin!(work);
        tokio::select! {
            result = &mut work => return result,
            () = interrupted() => cancel.cancel(),
        }
        // What runs must end and tidy up, but nobody should wait for a server that hangs.
        let _ = tokio::time::timeout(std::time::Duration::from_secs(3), work).await;
        Err(Failure::new(Exit::Interrupted, Diagnostic::new("interrupted")))
    })
}

async fn interrupted() {
    use tokio::signal::unix::SignalKind;
    use tokio::signal::unix::signal;

    let (Ok(mut interrupt), Ok(mut terminate)) =
        (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        // Without handlers the signals end the process at once, which is as good.
        return std::future::pending().await;
    };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}
