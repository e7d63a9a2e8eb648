//! Containers that stand for the places where builds run: started by the real `runc`, with what
//! Docker and Kubernetes put around a container.
//!
//! The network is the machine's, so that the registries of the tests can be reached on loopback.

use std::fs;
use std::os::unix::fs::chown;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::process::Stdio;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;

use serde_json::Value;
use serde_json::json;

use crate::support::coracle::Output;
use crate::support::coracle::finish;
use crate::support::docker_default;
use crate::support::docker_default::DockerDefault;
use crate::support::requirement;
use crate::support::scratch::Scratch;

/// The writable volume, seen from inside.
pub(crate) const VOLUME: &str = "/work";
/// The machine's id of uid 0 in a pod with a user namespace of its own.
const FIRST_ID: u32 = 400_000;
/// How many ids such a pod has.
const IDS: u32 = 65_536;

/// What a pod's manifest says about its container.
#[expect(clippy::struct_excessive_bools, reason = "that is what a manifest consists of")]
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Manifest {
    /// `runAsUser`
    pub(crate) uid: u32,
    /// Docker's capabilities, or `drop: [ALL]`.
    pub(crate) capabilities: bool,
    /// `allowPrivilegeEscalation`
    pub(crate) may_gain: bool,
    /// `readOnlyRootFilesystem`
    pub(crate) read_only: bool,
    /// `seccompProfile: {type: RuntimeDefault}`, or else `Unconfined`.
    pub(crate) filtered: bool,
    /// `procMount: Default`, or else `Unmasked`.
    pub(crate) masked: bool,
    /// `hostUsers`, or else a user namespace of its own.
    pub(crate) host_users: bool,
    /// System calls for which the profile kills, in place of refusing.
    pub(crate) deadly: &'static [&'static str],
}

impl Manifest {
    /// A pod that says nothing, of an image whose user is root.
    pub(crate) fn root() -> Self {
        Self {
            uid: 0,
            capabilities: true,
            may_gain: true,
            read_only: false,
            filtered: true,
            masked: true,
            host_users: true,
            deadly: &[],
        }
    }

    /// Pod Security "restricted", and a read-only root besides.
    pub(crate) fn restricted() -> Self {
        Self { uid: 1000, capabilities: false, may_gain: false, read_only: true, ..Self::root() }
    }

    /// A pod with a user namespace of its own.
    pub(crate) fn own_users() -> Self {
        Self { host_users: false, ..Self::root() }
    }

    /// The same with lines of YAML such as `coracle doctor` gives.
    pub(crate) fn with(mut self, lines: &[String]) -> Self {
        for line in lines {
            match line.split('#').next().unwrap_or_default().trim() {
                // There is no AppArmor around these containers.
                "securityContext:" | "appArmorProfile: {type: Unconfined}" => {}
                "seccompProfile: {type: Unconfined}" => self.filtered = false,
                "procMount: Unmasked" => self.masked = false,
                "hostUsers: false" => self.host_users = false,
                "allowPrivilegeEscalation: true" => self.may_gain = true,
                "runAsUser: 0" => (self.uid, self.capabilities) = (0, true),
                other => panic!("no pod of the tests can say `{other}`"),
            }
        }
        self
    }
}

/// A place in which containers of one kind are started, one after the other, on one volume.
#[derive(Debug)]
pub(crate) struct Pod {
    manifest: Manifest,
    runc: PathBuf,
    scratch: Scratch,
    env: Vec<(String, String)>,
    started: AtomicUsize,
}

impl Pod {
    /// Makes the root file system, with the program in it, and the volume.
    pub(crate) fn new(manifest: Manifest) -> Result<Self, String> {
        requirement::root()?;
        let runc = requirement::program("runc")?;
        let busybox = requirement::program("busybox")?;
        let scratch = Scratch::new();
        let pod = Self { manifest, runc, scratch, env: Vec::new(), started: AtomicUsize::new(0) };
        let root = pod.root();
        for directory in ["bin", "dev", "etc", "proc", "root", "sys", "tmp", "usr/bin", "work"] {
            fs::create_dir_all(root.join(directory)).expect("scratch is writable");
        }
        fs::copy(busybox, root.join("bin/busybox")).expect("scratch is writable");
        for name in ["sh", "cat", "sleep"] {
            std::os::unix::fs::symlink("busybox", root.join("bin").join(name))
                .expect("scratch is writable");
        }
        for library in libraries(&program()) {
            let at = root.join(library.strip_prefix("/").expect("ldd gives whole paths"));
            fs::create_dir_all(at.parent().expect("it has one")).expect("scratch is writable");
            fs::copy(&library, at).expect("scratch is writable");
        }
        fs::write(root.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\n").expect("writable");
        for name in ["etc/resolv.conf", "usr/bin/coracle"] {
            fs::write(root.join(name), "").expect("scratch is writable");
        }
        fs::create_dir(pod.volume()).expect("scratch is writable");
        chown(pod.volume(), Some(pod.owner()), Some(pod.owner())).expect("root may do it");
        if !pod.manifest.host_users {
            give(&root, pod.owner());
        }
        Ok(pod)
    }

    /// The volume, seen from outside.
    pub(crate) fn volume(&self) -> PathBuf {
        self.scratch.join("volume")
    }

    /// Sets an environment variable for all further runs.
    pub(crate) fn set(&mut self, name: &str, value: &str) {
        self.env.push((name.to_owned(), value.to_owned()));
    }

    /// Runs coracle with these arguments in a new container.
    pub(crate) fn coracle<S: AsRef<str>>(&self, arguments: &[S]) -> Output {
        let mut words = vec!["/usr/bin/coracle"];
        words.extend(arguments.iter().map(AsRef::as_ref));
        self.run(&words)
    }

    /// Runs a command in a new container.
    pub(crate) fn run(&self, words: &[&str]) -> Output {
        let number = self.started.fetch_add(1, Ordering::Relaxed);
        let bundle = self.scratch.join(&format!("bundle-{number}"));
        fs::create_dir(&bundle).expect("scratch is writable");
        let configuration = self.configuration(words).to_string();
        fs::write(bundle.join("config.json"), configuration).expect("scratch is writable");
        let id = format!("coracle-test-{}-{number}", std::process::id());
        let mut command = Command::new("setpriv");
        // If the test is killed, so is this process, and with its process namespace the container.
        command.args(["--pdeathsig", "KILL", "--", "unshare", "--pid", "--fork", "--mount-proc"]);
        command.args(["--kill-child=KILL", "--"]).arg(&self.runc);
        command.arg("--root").arg(self.scratch.join("runc"));
        command.args(["run", "--bundle"]).arg(&bundle).arg(id);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        finish(&mut command, b"")
    }

    fn root(&self) -> PathBuf {
        self.scratch.join("root")
    }

    /// The machine's id of the container's user.
    fn owner(&self) -> u32 {
        if self.manifest.host_users { self.manifest.uid } else { FIRST_ID + self.manifest.uid }
    }

    fn configuration(&self, words: &[&str]) -> Value {
        let Manifest { uid, read_only, filtered, masked, host_users, .. } = self.manifest;
        let docker = DockerDefault::read();
        let bounding = if self.manifest.capabilities { docker.capabilities() } else { Vec::new() };
        let held = if uid == 0 { bounding.clone() } else { Vec::new() };
        let mut namespaces = vec!["pid", "ipc", "uts", "mount"];
        if !host_users {
            namespaces.push("user");
        }
        let namespaces: Vec<Value> = namespaces.iter().map(|it| json!({"type": it})).collect();
        let mut linux = json!({
            "namespaces": namespaces,
            "resources": {"devices": docker.devices()},
        });
        if masked {
            linux["maskedPaths"] = json!(docker.list("masked"));
            linux["readonlyPaths"] = json!(docker.list("read-only"));
        }
        if !host_users {
            let ids = json!([{"containerID": 0, "hostID": FIRST_ID, "size": IDS}]);
            linux["uidMappings"] = ids.clone();
            linux["gidMappings"] = ids;
        }
        if filtered {
            let mut profile = docker.seccomp(&bounding);
            if !self.manifest.deadly.is_empty() {
                docker_default::kill_on(&mut profile, self.manifest.deadly);
            }
            linux["seccomp"] = profile;
        }
        let home = if uid == 0 && !read_only { "/root" } else { VOLUME };
        let mut env = vec![
            "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned(),
            format!("HOME={home}"),
            format!("TMPDIR={VOLUME}"),
        ];
        env.extend(self.env.iter().map(|(name, value)| format!("{name}={value}")));
        json!({
            "ociVersion": "1.0.2",
            "hostname": "pod",
            "process": {
                "terminal": false, "user": {"uid": uid, "gid": uid}, "args": words,
                "cwd": VOLUME, "env": env, "noNewPrivileges": !self.manifest.may_gain,
                "capabilities": {
                    "bounding": bounding, "effective": held, "permitted": held,
                    "inheritable": [], "ambient": [],
                },
            },
            "root": {"path": self.root(), "readonly": read_only},
            "mounts": self.mounts(),
            "linux": linux,
        })
    }

    fn mounts(&self) -> Value {
        let mount = |at: &str, kind: &str, source: &Path, options: &[&str]| json!({"destination": at, "type": kind, "source": source, "options": options});
        let inert = ["nosuid", "noexec", "nodev"];
        let dev = ["nosuid", "strictatime", "mode=755", "size=65536k"];
        let terminals = ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"];
        let shared = [&inert[..], &["mode=1777", "size=65536k"]].concat();
        let sys = [&inert[..], &["rbind", "ro"]].concat();
        json!([
            mount("/proc", "proc", Path::new("proc"), &inert),
            mount("/dev", "tmpfs", Path::new("tmpfs"), &dev),
            mount("/dev/pts", "devpts", Path::new("devpts"), &terminals),
            mount("/dev/shm", "tmpfs", Path::new("shm"), &shared),
            mount("/sys", "bind", Path::new("/sys"), &sys),
            mount(VOLUME, "bind", &self.volume(), &["rbind", "rw"]),
            mount("/usr/bin/coracle", "bind", &program(), &["rbind", "ro"]),
            mount("/etc/resolv.conf", "bind", Path::new("/etc/resolv.conf"), &["rbind", "ro"]),
        ])
    }
}

/// The program under test.
fn program() -> PathBuf {
    PathBuf::from(env!("CARGO_BIN_EXE_coracle"))
}

/// The shared libraries that a program is linked to; none if it is static.
fn libraries(program: &Path) -> Vec<PathBuf> {
    let output = Command::new("ldd").arg(program).output().expect("ldd is there");
    let text = String::from_utf8_lossy(&output.stdout);
    text.split_ascii_whitespace().filter(|it| it.starts_with('/')).map(PathBuf::from).collect()
}

/// Gives a tree to a user of the machine.
fn give(tree: &Path, owner: u32) {
    let status =
        Command::new("chown").arg("-hR").arg(format!("{owner}:{owner}")).arg(tree).status();
    assert!(status.expect("chown is there").success(), "root may do it");
}
