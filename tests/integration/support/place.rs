//! The seven places where coracle must build, each with the program, a store and a shared directory.

use std::path::Path;
use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

use crate::support::coracle::Coracle;
use crate::support::coracle::Output;
use crate::support::coracle::Who;
use crate::support::pod::Manifest;
use crate::support::pod::Pod;
use crate::support::pod::VOLUME;

/// A kind of place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// The root of a machine.
    Root,
    /// An ordinary user with subordinate ids.
    Subordinate,
    /// An ordinary user without.
    Single,
    /// An ordinary pod, as root.
    RootPod,
    /// Pod Security "restricted", with a read-only root and one volume.
    RestrictedPod,
    /// A pod with a user namespace of its own.
    OwnUsersPod,
    /// A machine that allows no user namespaces, as an ordinary user.
    NoNamespaces,
}

impl Kind {
    /// All seven.
    pub(crate) const ALL: [Self; 7] = [
        Self::Root,
        Self::Subordinate,
        Self::Single,
        Self::RootPod,
        Self::RestrictedPod,
        Self::OwnUsersPod,
        Self::NoNamespaces,
    ];

    /// The way to isolate commands that is the best there.
    pub(crate) fn isolation(self) -> &'static str {
        match self {
            Self::Root | Self::Subordinate => "namespaces",
            Self::RootPod | Self::OwnUsersPod => "chroot",
            Self::Single | Self::RestrictedPod | Self::NoNamespaces => "emulate",
        }
    }

    /// How the owners that an image names come to be there.
    pub(crate) fn identity(self) -> &'static str {
        match self {
            Self::Root | Self::RootPod => "root",
            Self::Subordinate | Self::OwnUsersPod => "range",
            Self::Single | Self::RestrictedPod | Self::NoNamespaces => "emulated",
        }
    }
}

/// A place.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) kind: Kind,
    inner: Inner,
}

#[derive(Debug)]
enum Inner {
    Machine(Coracle),
    Pod(Pod),
}

impl Place {
    /// Makes a place of that kind.
    pub(crate) fn new(kind: Kind) -> Result<Self, String> {
        let inner = match kind {
            Kind::Root => Inner::Machine(Coracle::run_by(Who::Root)?),
            Kind::Subordinate | Kind::NoNamespaces => Inner::Machine(Coracle::new()?),
            Kind::Single => Inner::Machine(Coracle::run_by(Who::Single)?),
            Kind::RootPod => Inner::Pod(Pod::new(Manifest::root())?),
            Kind::RestrictedPod => Inner::Pod(Pod::new(Manifest::restricted())?),
            Kind::OwnUsersPod => Inner::Pod(Pod::new(Manifest::own_users())?),
        };
        let place = Self { kind, inner };
        Ok(place)
    }

    /// Sets an environment variable for all further runs.
    pub(crate) fn set(&mut self, name: &str, value: &str) {
        match &mut self.inner {
            Inner::Machine(coracle) => coracle.set(name, value),
            Inner::Pod(pod) => pod.set(name, value),
        }
    }

    /// Runs coracle to its end. The store is the place's own.
    pub(crate) fn run<S: AsRef<str>>(&self, arguments: &[S]) -> Output {
        let arguments: Vec<&str> = arguments.iter().map(AsRef::as_ref).collect();
        match &self.inner {
            Inner::Machine(coracle) if self.kind == Kind::NoNamespaces => {
                coracle.run_without_namespaces(&arguments)
            }
            Inner::Machine(coracle) => coracle.run(&arguments),
            // A read-only home has no place for a store.
            Inner::Pod(pod) => {
                let store = format!("--root={VOLUME}/store");
                pod.coracle(&[&[&*store], &arguments[..]].concat())
            }
        }
    }

    /// What `coracle doctor` says, with its exit code.
    pub(crate) fn doctor<S: AsRef<str>>(&self, arguments: &[S]) -> (Value, i32) {
        let mut words = vec!["doctor", "--format=json"];
        words.extend(arguments.iter().map(AsRef::as_ref));
        let output = self.run(&words);
        let report = serde_json::from_str(&output.stdout);
        (report.unwrap_or_else(|error| panic!("{error} in {output}")), output.code)
    }

    /// A directory of the place's, seen from outside.
    pub(crate) fn directory(&self) -> PathBuf {
        match &self.inner {
            Inner::Machine(coracle) => coracle.home(""),
            Inner::Pod(pod) => pod.volume(),
        }
    }

    /// What something in that directory is called inside.
    pub(crate) fn inside(&self, name: &str) -> String {
        match &self.inner {
            Inner::Machine(coracle) => coracle.home(name).display().to_string(),
            Inner::Pod(_) => format!("{VOLUME}/{name}"),
        }
    }

    /// Copies a directory to `name` in the place, for everybody to read; gives what it is called there.
    pub(crate) fn copy(&self, from: &Path, name: &str) -> String {
        let to = self.directory().join(name);
        let copy = Command::new("cp").arg("-r").arg(from).arg(&to).status();
        assert!(copy.expect("cp is there").success(), "the place is writable");
        let open = Command::new("chmod").args(["-R", "a+rX"]).arg(&to).status();
        assert!(open.expect("chmod is there").success(), "the copy is ours");
        self.inside(name)
    }

    /// Checks that nothing of it is left running or mounted, soon.
    #[track_caller]
    pub(crate) fn assert_nothing_left(&self) {
        match &self.inner {
            Inner::Machine(coracle) => coracle.assert_nothing_left(),
            // With the container everything in it is gone; what mentions the volume is not in it.
            Inner::Pod(pod) => crate::support::coracle::assert_nothing_names(&pod.volume()),
        }
    }
}
