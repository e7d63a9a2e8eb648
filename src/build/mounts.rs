//! `RUN --mount`: what a command finds where, and what must last until it has ended (rules A157 to
//! A159).

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::path::PathBuf;

use crate::build::BuildErrorKind;
use crate::build::agent::Agent;
use crate::build::cache_mount;
use crate::build::copy::Trees;
use crate::build::schedule::Site;
use crate::oci::ImagePath;
use crate::plan::Access;
use crate::plan::CopyFrom;
use crate::plan::MountKind;
use crate::plan::RunMount;
use crate::plan::SecretMount;
use crate::plan::SshMount;
use crate::progress::Task;
use crate::sandbox::Bind;
use crate::sandbox::Hidden;
use crate::sandbox::Isolation;
use crate::sandbox::MemoryFile;
use crate::sandbox::Sandbox;
use crate::sandbox::Spec;
use crate::sandbox::Style;
use crate::sandbox::TreeBind;
use crate::store::HeldMount;

/// The id of an agent that a Dockerfile does not name.
const DEFAULT_AGENT: &str = "default";

/// Where the mounts of one command come from.
pub(crate) struct Mounting<'a> {
    pub(crate) site: &'a Site,
    pub(crate) sandbox: &'a Sandbox,
    pub(crate) trees: &'a Trees,
    pub(crate) task: &'a Task,
    /// An empty directory that lasts as long as the command.
    pub(crate) scratch: &'a Path,
}

/// What a command uses, until this is dropped.
#[derive(Debug)]
pub(crate) struct InUse {
    _caches: Vec<HeldMount>,
    _agents: Vec<Agent>,
}

impl Mounting<'_> {
    /// Adds the mounts to the spec. Waits for caches that others have locked.
    pub(crate) fn add(
        &self,
        spec: &mut Spec,
        mounts: &[RunMount],
    ) -> Result<InUse, BuildErrorKind> {
        let (held, caches) = cache_mount::hold(self, mounts)?;
        let mut agents = Vec::new();
        for (index, mount) in mounts.iter().enumerate() {
            let target = PathBuf::from(OsStr::from_bytes(mount.target.as_bytes()));
            match &mount.kind {
                MountKind::Tmpfs { size } => spec.tmpfs.push((target, *size)),
                MountKind::Bind { from, source, writable } => {
                    self.add_bind(spec, index, (from, source), target, *writable)?;
                }
                MountKind::Cache(cache) => {
                    let (source, writable) = (caches[&index].clone(), cache.writable);
                    spec.binds.push(self.cache(index, source, target, writable)?);
                }
                MountKind::Secret(secret) => self.add_secret(spec, secret, target)?,
                MountKind::Ssh(ssh) => {
                    let Some(agent) = self.agent(ssh, index)? else { continue };
                    let source = agent.socket().to_owned();
                    spec.binds.push(Bind { source, target, writable: true, movable: false });
                    agents.push(agent);
                }
            }
        }
        Ok(InUse { _caches: held, _agents: agents })
    }

    /// Shows files of other stages, images or contexts: stacked, or where that cannot be, copied.
    fn add_bind(
        &self,
        spec: &mut Spec,
        index: usize,
        (from, path): (&CopyFrom, &ImagePath),
        target: PathBuf,
        writable: bool,
    ) -> Result<(), BuildErrorKind> {
        let workshop = &self.site.workshop;
        let (files, path) = self.trees.layers(from, path, workshop)?;
        if workshop.snapshotter.style() == Style::Overlay {
            let (lower, path) = (files.lower().to_vec(), path.relative().to_owned());
            let scratch = if writable { Some(self.changes(index)?) } else { None };
            spec.trees.push(TreeBind { lower, path, target, scratch });
        } else {
            let source = self.scratch.join(format!("mount-{index}"));
            workshop.snapshotter.copy_part(&files, &path, &source)?;
            spec.binds.push(Bind { source, target, writable, movable: true });
        }
        Ok(())
    }

    /// Shows a cache. Where nothing can be mounted read-only, a copy protects it.
    fn cache(
        &self,
        index: usize,
        source: PathBuf,
        target: PathBuf,
        writable: bool,
    ) -> Result<Bind, BuildErrorKind> {
        if writable || self.sandbox.isolation() != Isolation::Chroot {
            return Ok(Bind { source, target, writable, movable: true });
        }
        let copy = self.scratch.join(format!("mount-{index}"));
        self.site.workshop.snapshotter.copy_of(&source, &copy)?;
        Ok(Bind { source: copy, target, writable, movable: true })
    }

    /// Two directories that take what a command writes to a bind mount, for as long as it runs.
    fn changes(&self, index: usize) -> Result<(PathBuf, PathBuf), BuildErrorKind> {
        let pair = ["upper", "work"].map(|name| self.scratch.join(format!("mount-{index}-{name}")));
        for path in &pair {
            let made = fs::create_dir(path);
            made.map_err(|source| BuildErrorKind::Scratch { path: path.clone(), source })?;
        }
        let [upper, work] = pair;
        Ok((upper, work))
    }

    fn add_secret(
        &self,
        spec: &mut Spec,
        secret: &SecretMount,
        target: PathBuf,
    ) -> Result<(), BuildErrorKind> {
        let id = secret.id.clone();
        let Some(value) = self.site.request.secrets.get(&id) else {
            if secret.required {
                return Err(BuildErrorKind::MissingSecret { id });
            }
            // There is no file then, but the variable is there, and empty.
            let empty = |name: &String| (name.clone(), Hidden::new(Vec::new()));
            spec.secret_env.extend(secret.env.iter().map(empty));
            return Ok(());
        };
        if let Some(variable) = &secret.env {
            if value.reveal().contains(&0) {
                let variable = variable.clone();
                return Err(BuildErrorKind::BinarySecret { id, variable });
            }
            spec.secret_env.push((variable.clone(), value.clone()));
        }
        if secret.file {
            let (uid, gid) = self.owner(&secret.access, "the secret", &id);
            let (mode, content) = (secret.access.mode.unwrap_or(0o400), value.clone());
            spec.memory_files.push(MemoryFile { target, content, mode, uid, gid });
        }
        Ok(())
    }

    /// A socket of our own that leads to the agent that the user forwards.
    fn agent(&self, ssh: &SshMount, index: usize) -> Result<Option<Agent>, BuildErrorKind> {
        let id = if ssh.id.is_empty() { DEFAULT_AGENT } else { &ssh.id };
        let Some(agent) = self.site.request.agents.get(id) else {
            let missing = BuildErrorKind::MissingAgent { id: ssh.id.clone() };
            return if ssh.required { Err(missing) } else { Ok(None) };
        };
        let (uid, gid) = self.owner(&ssh.access, "the SSH agent", id);
        let mode = ssh.access.mode.unwrap_or(0o600);
        let owner = self.sandbox.has_ids().then_some((uid, gid));
        let name = format!("agent-{index}");
        let started = Agent::start(agent.clone(), self.scratch, &name, mode, owner);
        let failed = |source| BuildErrorKind::Scratch { path: self.scratch.join(&name), source };
        started.map(Some).map_err(failed)
    }

    /// Who is to own something; says so if that cannot be.
    pub(crate) fn owner(&self, access: &Access, what: &str, id: &str) -> (u32, u32) {
        let owner = (access.uid.unwrap_or(0), access.gid.unwrap_or(0));
        if owner != (0, 0) && !self.sandbox.shows_owners() {
            let (uid, gid) = owner;
            let text = "belongs to the only user that this build has";
            self.task.note(format!("{what} {id} {text}, not to {uid}:{gid}"));
        }
        owner
    }
}
