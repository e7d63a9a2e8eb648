//! The configs of base images that can be had for a check: from the store, and from a registry only
//! where that is asked for.

use std::cell::RefCell;

use crate::build::PullPolicy;
use crate::cli::diagnostic::Diagnostic;
use crate::cli::diagnostic::Failure;
use crate::cli::exit::Exit;
use crate::cli::failure;
use crate::cli::session::Session;
use crate::oci::ImageConfig;
use crate::plan::BaseImage;
use crate::registry::Client;
use crate::store::Store;
use crate::transfer;

/// Where configs come from.
#[derive(Debug)]
pub(crate) struct KnownBases {
    store: Option<Store>,
    registry: Option<(Client, tokio::runtime::Runtime)>,
    /// Why the registry could not be asked.
    failed: RefCell<Option<Failure>>,
}

impl KnownBases {
    /// Opens the store, if there is one: a check makes none, unless it is to keep what is fetched.
    pub(crate) fn new(session: &Session<'_>, pull: PullPolicy) -> Result<Self, Failure> {
        let asks = pull == PullPolicy::Always;
        let exists = session.root().is_ok_and(|root| root.join("index.json").exists());
        // A store that cannot be read is as good as none, where it is only a help.
        let store = if asks { Some(session.store()?) } else { None };
        let store = store.or_else(|| exists.then(|| session.store().ok()).flatten());
        let registry = if asks {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let runtime = runtime.map_err(|error| {
                let diagnostic = Diagnostic::new("cannot use the network");
                Failure::new(Exit::Machine, diagnostic.note("cause", error.to_string()))
            })?;
            Some((session.client()?, runtime))
        } else {
            None
        };
        Ok(Self { store, registry, failed: RefCell::default() })
    }

    /// The config of an image, if it can be had.
    pub(crate) fn find(&self, base: &BaseImage) -> Option<ImageConfig> {
        let store = self.store.as_ref()?;
        let BaseImage { reference, platform } = base;
        if let Some((client, runtime)) = &self.registry {
            let resolved = runtime.block_on(transfer::resolve(client, store, reference, platform));
            return match resolved {
                Ok(image) => Some(image.config.value().clone()),
                Err(error) => {
                    *self.failed.borrow_mut() = Some(failure::transfer(&error));
                    None
                }
            };
        }
        let image = transfer::find(store, reference, platform).ok()??;
        Some(image.config.value().clone())
    }

    /// What went wrong with the registry.
    pub(crate) fn finish(self) -> Result<(), Failure> {
        self.failed.into_inner().map_or(Ok(()), Err)
    }
}
