//! Runs one command in a root file system that lies in a directory, as a build would run a step.
//!
//!     step [--isolation emulate] [--user UID:GID] [--network] [--bind HOST:PLACE[:rw]]... DIRECTORY COMMAND...
//!
//! For measurements, and for a look at what a step sees. The directory is changed.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use coracle::sandbox::{
    Bind, CHILD_ARGUMENT, Cancel, Isolation, RootFs, Spec, Stream, User, WholeTree, Wish,
    child_main, enter,
};

fn main() -> ExitCode {
    if std::env::args().nth(1).as_deref() == Some(CHILD_ARGUMENT) {
        return child_main();
    }
    match run() {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "step: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<u8, Box<dyn std::error::Error>> {
    let mut words = std::env::args().skip(1);
    let mut isolation = Isolation::Emulate;
    let mut user = User { home: "/root".to_owned(), ..User::default() };
    let (mut network, mut binds) = (false, Vec::new());
    let mut cwd = "/".to_owned();
    let directory = loop {
        let word = words.next().ok_or("which directory?")?;
        let mut value = || words.next().ok_or("an option without its value");
        match word.as_str() {
            "--isolation" => isolation = value()?.parse()?,
            "--network" => network = true,
            "--cwd" => cwd = value()?,
            "--user" => {
                let value = value()?;
                let (uid, gid) = value.split_once(':').ok_or("--user wants UID:GID")?;
                (user.uid, user.gid) = (uid.parse()?, gid.parse()?);
            }
            "--bind" => {
                let value = value()?;
                let parts: Vec<&str> = value.split(':').collect();
                let [source, target, rest @ ..] = parts.as_slice() else {
                    return Err("--bind wants HOST:PLACE".into());
                };
                let (source, target) = (PathBuf::from(source), PathBuf::from(target));
                binds.push(Bind { source, target, writable: rest == ["rw"], movable: false });
            }
            _ => break PathBuf::from(word),
        }
    };
    let directory = directory.canonicalize()?;
    let records = directory.with_extension("records");
    let tree = directory.clone();
    let root = RootFs::Directory(WholeTree { directory, records });
    let mut spec = Spec::new(root, words.collect());
    let path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    spec.env = vec![path.to_owned()];
    (spec.user, spec.host_network, spec.binds, spec.cwd) = (user, network, binds, cwd);
    spec.interactive = true;
    let place = directory_beside(&tree)?;
    let wish = Wish { isolation: Some(isolation), ..Wish::default() };
    let sandbox = enter(wish, &place);
    std::fs::remove_dir_all(&place)?;
    let sandbox = sandbox?;
    let mut output = |stream: Stream, bytes: &[u8]| {
        let _ = match stream {
            Stream::Stdout => std::io::stdout().write_all(bytes),
            Stream::Stderr => std::io::stderr().write_all(bytes),
        };
    };
    let exit = sandbox.run(&spec, &mut output, &Cancel::new()?)?;
    if let Some(reason) = exit.reason() {
        writeln!(std::io::stderr(), "{reason}")?;
    }
    Ok(u8::try_from(exit.code())?)
}

/// An empty directory on the same file system, for trying things in.
fn directory_beside(tree: &Path) -> std::io::Result<PathBuf> {
    let place = tree.with_extension(format!("trial-{}", std::process::id()));
    std::fs::create_dir(&place)?;
    Ok(place)
}
