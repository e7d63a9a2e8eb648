//! Runs web services inside the test process, on loopback.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::OnceLock;

use axum::Router;
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;

/// The runtime of all services and clients of this process.
fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| {
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .expect("threads can be started")
    })
}

/// Waits for a future, from a thread that is not the runtime's.
pub(crate) fn wait<F: Future>(future: F) -> F::Output {
    runtime().block_on(future)
}

/// Runs a future beside the test, until it ends or is aborted.
pub(crate) fn spawn(future: impl Future<Output = ()> + Send + 'static) -> JoinHandle<()> {
    runtime().spawn(future)
}

/// A web service; it ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Service {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl Service {
    /// Serves `router` on `address`; port 0 takes a free one.
    pub(crate) fn start(address: &str, router: Router) -> std::io::Result<Self> {
        let listener = wait(tokio::net::TcpListener::bind(address))?;
        let address = listener.local_addr()?;
        let task = spawn(async move {
            // Serving ends only when the task is aborted.
            let _ = axum::serve(listener, router).await;
        });
        Ok(Self { address, task })
    }

    /// `127.0.0.1:PORT`
    pub(crate) fn address(&self) -> String {
        self.address.to_string()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.task.abort();
    }
}
