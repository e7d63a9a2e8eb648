//! What the layer of a step depends on. Pure; the table of inputs is in [`crate::cache`].

use serde::{Deserialize, Serialize};

use crate::oci::{ChainId, Compression, DiffId, Digest, Digester, Platform, Timestamp};
use crate::plan::{
    Access, AddStep, CacheMount, Chmod, CopyFrom, CopyStep, MountKind, Network, Remote, RunMount,
    RunSettings, RunStep, SecretMount, Sharing, Source, SshMount, Ulimit, WorkdirStep,
};

/// Changes when keys are made in another way, or when equal steps give other layers than before.
pub(crate) const VERSION: u32 = 3;

/// Everything that a step's layer depends on, and the digest of that.
///
/// The parts are kept so that a miss can be explained.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheKey {
    instruction: &'static str,
    parts: Vec<Part>,
    digest: Digest,
}

/// One thing that a step's layer depends on. Several parts may have the same name; order matters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// What it is: `env`, `files`, `layers below`.
    pub name: String,
    /// Its value; for long texts their digest.
    pub value: String,
}

impl CacheKey {
    /// The digest of all parts.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// The keyword of the instruction.
    pub fn instruction(&self) -> &'static str {
        self.instruction
    }

    /// What the layer depends on.
    pub fn parts(&self) -> &[Part] {
        &self.parts
    }
}

/// What surrounds a step and is the same for all kinds of steps.
#[derive(Debug, Clone, Copy)]
pub struct Surroundings<'a> {
    /// The layers below; `None` where there are none.
    pub below: Option<ChainId>,
    /// The tables of contents that layers of the base name, each with its layer: what they say of it,
    /// nobody has compared with it.
    pub tables: &'a [(DiffId, Digest)],
    /// The platform of the stage.
    pub platform: &'a Platform,
    /// `SOURCE_DATE_EPOCH`.
    pub source_date_epoch: Option<Timestamp>,
    /// How the layer is compressed.
    pub compression: Compression,
}

/// The key of a `RUN`; `mounted` is the digest of all files that its bind mounts show and its new
/// caches start with, in order. Without such mounts it does not matter.
pub fn run(surroundings: &Surroundings<'_>, step: &RunStep, mounted: &Digest) -> CacheKey {
    let mut key = Builder::new("RUN", surroundings);
    key.below(surroundings);
    key.part("platform", surroundings.platform.normalised().to_string());
    key.parts("args", &step.args);
    key.parts("env", &step.env);
    key.part("user", &step.user);
    key.part("working directory", &step.cwd);
    key.part(
        "network",
        match step.network {
            Network::Host => "host",
            Network::None => "none",
        },
    );
    key.part("security", if step.insecure { "insecure" } else { "sandbox" });
    settings(&mut key, &step.settings);
    for mount in &step.mounts {
        key.part("mount", mount_text(mount));
    }
    if step.mounts.iter().any(reads_files) {
        key.part("mounted files", mounted.to_string());
    }
    for (name, text) in &step.pipes {
        key.part("script", format!("{name} {}", Digest::of(text)));
    }
    key.finish()
}

/// What the command line says about all commands. Where a host is does not count, as with proxies.
fn settings(key: &mut Builder, settings: &RunSettings) {
    key.parts("host", settings.hosts.iter().map(|(name, _)| name));
    key.parts("host name", &settings.hostname);
    key.parts("shm size", &settings.shm_size.map(|size| size.to_string()));
    for Ulimit { name, soft, hard } in &settings.ulimits {
        key.part("ulimit", format!("{name} {soft:?} {hard:?}"));
    }
}

/// Whether a mount shows files that are in the key: what a cache holds is not, what it starts as is.
fn reads_files(mount: &RunMount) -> bool {
    match &mount.kind {
        MountKind::Bind { .. } => true,
        MountKind::Cache(cache) => cache.seed.is_some(),
        MountKind::Tmpfs { .. } | MountKind::Secret(_) | MountKind::Ssh(_) => false,
    }
}

/// Everything about a mount but what is in it.
fn mount_text(mount: &RunMount) -> String {
    let access = |writable: &bool| if *writable { "rw" } else { "ro" };
    let text = match &mount.kind {
        MountKind::Bind { source, writable, .. } => {
            format!("bind {source:?}, {}", access(writable))
        }
        MountKind::Tmpfs { size } => format!("tmpfs of {size} bytes"),
        MountKind::Cache(CacheMount { id, sharing, seed, access: owner, writable }) => {
            let sharing = match sharing {
                Sharing::Shared => "shared",
                Sharing::Private => "private",
                Sharing::Locked => "locked",
            };
            let seed = optional("from", seed.as_ref().map(|(_, source)| format!("{source:?}")));
            format!("cache {id:?}, {sharing}{seed}{}, {}", access_text(owner), access(writable))
        }
        MountKind::Secret(SecretMount { id, file, env, required, access }) => {
            let file = if *file { "" } else { ", no file" };
            let env = optional("variable", env.as_ref().map(|name| format!("{name:?}")));
            format!("secret {id:?}{file}{env}{}{}", required_text(*required), access_text(access))
        }
        MountKind::Ssh(SshMount { id, required, access }) => {
            format!("ssh {id:?}{}{}", required_text(*required), access_text(access))
        }
    };
    format!("{text} at {:?}", mount.target)
}

fn required_text(required: bool) -> &'static str {
    if required { ", required" } else { "" }
}

fn access_text(access: &Access) -> String {
    let mode = optional("mode", access.mode.map(|mode| format!("{mode:o}")));
    let number = |id: Option<u32>| id.map(|id| id.to_string());
    mode + &optional("uid", number(access.uid)) + &optional("gid", number(access.gid))
}

/// `, name value`, or nothing.
fn optional(name: &str, value: Option<String>) -> String {
    value.map(|value| format!(", {name} {value}")).unwrap_or_default()
}

/// The key of a `COPY`; `files` is the digest of all that it copies, or of something that names
/// these files as surely without reading them, such as the layers of the stage they come from.
pub fn copy(surroundings: &Surroundings<'_>, step: &CopyStep, files: &Digest) -> CacheKey {
    copied("COPY", surroundings, step, files).finish()
}

/// The key of an `ADD`; `files` is as for [`copy`].
pub fn add(surroundings: &Surroundings<'_>, step: &AddStep, files: &Digest) -> CacheKey {
    let mut key = copied("ADD", surroundings, &step.copy, files);
    key.part(
        "unpack",
        match step.unpack {
            None => "archives",
            Some(true) => "true",
            Some(false) => "false",
        },
    );
    key.finish()
}

/// The key of a `WORKDIR`.
pub fn workdir(surroundings: &Surroundings<'_>, step: &WorkdirStep) -> CacheKey {
    let mut key = Builder::new("WORKDIR", surroundings);
    key.looked_into(surroundings);
    key.part("path", &step.path);
    key.part("user", &step.user);
    key.finish()
}

fn copied(
    keyword: &'static str,
    surroundings: &Surroundings<'_>,
    step: &CopyStep,
    files: &Digest,
) -> Builder {
    let mut key = Builder::new(keyword, surroundings);
    if !step.link || step.chown.as_deref().is_some_and(needs_user_database) {
        key.looked_into(surroundings);
    }
    for source in &step.sources {
        match source {
            Source::Path(path) => key.part("source", path),
            Source::Inline { name, text } => {
                key.part("inline file", format!("{name} {}", Digest::of(text)));
            }
            // What it holds is part of `files`. Where it was fetched from does not matter.
            Source::Remote(Remote::Url(source)) => key.part("download", &source.name),
            Source::Remote(Remote::Git(_)) => key.part("repository", ""),
        }
    }
    key.part("files", files.to_string());
    key.part(
        "owners",
        match step.from {
            CopyFrom::Context | CopyFrom::NamedContext(_) => "root",
            CopyFrom::Stage(_) | CopyFrom::Image(_) | CopyFrom::Scratch => "kept",
        },
    );
    key.part("destination", &step.destination);
    key.part("working directory", &step.cwd);
    key.parts("chown", &step.chown);
    key.parts(
        "chmod",
        &step.chmod.as_ref().map(|chmod| match chmod {
            Chmod::Octal(mode) => format!("{mode:04o}"),
            Chmod::Symbolic(text) => text.clone(),
        }),
    );
    key.part("link", step.link.to_string());
    key.part("parents", step.parents.to_string());
    key.parts("exclude", &step.excludes);
    key
}

/// Whether `--chown` names somebody whose number stands in the image.
fn needs_user_database(chown: &str) -> bool {
    chown.split(':').any(|name| name.parse::<u32>().is_err())
}

/// A key being put together. The order of the calls is part of the key.
struct Builder {
    instruction: &'static str,
    parts: Vec<Part>,
}

impl Builder {
    fn new(instruction: &'static str, surroundings: &Surroundings<'_>) -> Self {
        let mut key = Self { instruction, parts: Vec::new() };
        key.parts("SOURCE_DATE_EPOCH", &surroundings.source_date_epoch.map(String::from));
        key.part(
            "compression",
            match surroundings.compression {
                Compression::None => "none",
                Compression::Gzip => "gzip",
                Compression::Zstd => "zstd",
            },
        );
        key
    }

    fn below(&mut self, surroundings: &Surroundings<'_>) {
        let chain = surroundings.below.map_or_else(|| "none".to_owned(), |chain| chain.to_string());
        self.part("layers below", chain);
    }

    /// The layers below for a step that has no need of them unpacked.
    fn looked_into(&mut self, surroundings: &Surroundings<'_>) {
        self.below(surroundings);
        for (layer, table) in surroundings.tables {
            self.part("table of contents", format!("{layer} {table}"));
        }
    }

    fn part(&mut self, name: &str, value: impl Into<String>) {
        self.parts.push(Part { name: name.to_owned(), value: value.into() });
    }

    fn parts<'a>(&mut self, name: &str, values: impl IntoIterator<Item = &'a String>) {
        values.into_iter().for_each(|value| self.part(name, value));
    }

    fn finish(self) -> CacheKey {
        let digest = digest(self.instruction, &self.parts);
        CacheKey { instruction: self.instruction, parts: self.parts, digest }
    }
}

/// The digest of an encoding in which every text stands after its length, so that no two lists of
/// parts are encoded alike.
fn digest(instruction: &str, parts: &[Part]) -> Digest {
    let mut digester = Digester::new();
    let mut text = |text: &str| {
        digester.update((text.len() as u64).to_le_bytes());
        digester.update(text);
    };
    text("coracle cache key");
    text(&VERSION.to_string());
    text(instruction);
    for part in parts {
        text(&part.name);
        text(&part.value);
    }
    digester.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dockerfile::Span;
    use crate::oci::ImagePath;
    use crate::plan::{Access, Sharing, StageId};

    fn host() -> Platform {
        Platform { os: "linux".to_owned(), architecture: "amd64".to_owned(), ..Platform::default() }
    }

    fn surroundings(platform: &Platform) -> Surroundings<'_> {
        Surroundings {
            below: None,
            tables: &[],
            platform,
            source_date_epoch: None,
            compression: Compression::Gzip,
        }
    }

    fn run_step() -> RunStep {
        RunStep {
            args: vec!["sh".into(), "-c".into(), "x".into()],
            env: vec!["A=1".into()],
            proxy: vec![],
            cwd: "/".into(),
            user: String::new(),
            network: Network::Host,
            insecure: false,
            settings: RunSettings::default(),
            pipes: vec![("EOF".into(), "#!x".into())],
            mounts: vec![RunMount {
                span: Span::default(),
                kind: MountKind::Tmpfs { size: 0 },
                target: ImagePath::new("/t"),
            }],
            display: "x".into(),
        }
    }

    fn copy_step() -> CopyStep {
        CopyStep {
            from: CopyFrom::Context,
            sources: vec![Source::Path("a".into())],
            destination: "b".into(),
            cwd: "/".into(),
            chown: None,
            chmod: None,
            link: false,
            parents: false,
            excludes: vec![],
        }
    }

    fn key_of(change: impl FnOnce(&mut RunStep)) -> CacheKey {
        let mut changed = run_step();
        change(&mut changed);
        run(&surroundings(&host()), &changed, &Digest::of(""))
    }

    /// Says whether two keys that differ by `change` alone are equal.
    fn same_run(change: impl FnOnce(&mut RunStep)) -> bool {
        key_of(|_| {}) == key_of(change)
    }

    fn same_copy(change: impl FnOnce(&mut CopyStep)) -> bool {
        let mut changed = copy_step();
        change(&mut changed);
        let (platform, files) = (host(), Digest::of("files"));
        copy(&surroundings(&platform), &copy_step(), &files).digest()
            == copy(&surroundings(&platform), &changed, &files).digest()
    }

    #[test]
    fn a046_proxies_and_what_is_for_people_are_not_in_the_key() {
        assert!(same_run(|_| {}));
        assert!(same_run(|step| step.proxy.push("HTTP_PROXY=x".into())));
        assert!(same_run(|step| step.display = "other".into()));
        assert!(same_run(|step| step.mounts[0].span = Span::new(1..2)));
    }

    #[test]
    fn everything_that_a_command_can_see_is_in_the_key() {
        assert!(!same_run(|step| step.args.push("y".into())));
        assert!(!same_run(|step| step.env.push("B=1".into())));
        assert!(!same_run(|step| step.user = "root".into()));
        assert!(!same_run(|step| step.cwd = "/x".into()));
        assert!(!same_run(|step| step.network = Network::None));
        assert!(!same_run(|step| step.pipes[0].1.push('y')));
        assert!(!same_run(|step| step.pipes[0].0.push('y')));
        assert!(!same_run(|step| step.mounts[0].kind = MountKind::Tmpfs { size: 1 }));
        assert!(!same_run(|step| step.mounts[0].target = ImagePath::new("/u")));
        assert!(!same_run(|step| drop(step.mounts.pop())));
    }

    #[test]
    fn what_the_command_line_says_about_commands_is_in_the_key_but_not_where_hosts_are() {
        let host = |name: &str, address: &str| {
            let host = (name.to_owned(), address.to_owned());
            key_of(|step| step.settings.hosts.push(host)).digest()
        };
        assert_eq!(host("db", "1.2.3.4"), host("db", "1.2.3.5"));
        assert_ne!(host("db", "1.2.3.4"), host("dc", "1.2.3.4"));
        assert!(!same_run(|step| step.settings.hosts.push(("db".into(), "1.2.3.4".into()))));
        assert!(!same_run(|step| step.settings.shm_size = Some(1 << 26)));
        let limit = Ulimit { name: "nofile".into(), soft: Some(1), hard: None };
        assert!(!same_run(|step| step.settings.ulimits.push(limit)));
        assert!(!same_run(|step| step.insecure = true));
    }

    /// The key of a `RUN` with one mount of this kind.
    fn with_mount(kind: MountKind) -> Digest {
        key_of(|step| step.mounts[0].kind = kind).digest()
    }

    #[test]
    fn a157_to_a159_every_option_of_a_mount_is_in_the_key() {
        let cache = CacheMount {
            id: "i".into(),
            sharing: Sharing::Shared,
            seed: None,
            access: Access::default(),
            writable: true,
        };
        let access = Access { uid: Some(0), ..Access::default() };
        let seed = |source: &str| Some((CopyFrom::Context, ImagePath::new(source)));
        let secret = SecretMount {
            id: "i".into(),
            file: true,
            env: None,
            required: false,
            access: Access::default(),
        };
        let ssh = SshMount { id: "i".into(), required: false, access: Access::default() };
        let kinds = [
            MountKind::Cache(cache.clone()),
            MountKind::Cache(CacheMount { id: "j".into(), ..cache.clone() }),
            MountKind::Cache(CacheMount { sharing: Sharing::Locked, ..cache.clone() }),
            MountKind::Cache(CacheMount { seed: seed("/s"), ..cache.clone() }),
            MountKind::Cache(CacheMount { seed: seed("/t"), ..cache.clone() }),
            MountKind::Cache(CacheMount { access, ..cache.clone() }),
            MountKind::Cache(CacheMount { writable: false, ..cache }),
            MountKind::Secret(secret.clone()),
            MountKind::Secret(SecretMount { id: "j".into(), ..secret.clone() }),
            MountKind::Secret(SecretMount { file: false, ..secret.clone() }),
            MountKind::Secret(SecretMount { env: Some("E".into()), ..secret.clone() }),
            MountKind::Secret(SecretMount { required: true, ..secret.clone() }),
            MountKind::Secret(SecretMount { access, ..secret }),
            MountKind::Ssh(ssh.clone()),
            MountKind::Ssh(SshMount { id: "j".into(), ..ssh.clone() }),
            MountKind::Ssh(SshMount { required: true, ..ssh.clone() }),
            MountKind::Ssh(SshMount { access, ..ssh }),
        ];
        let count = kinds.len();
        let keys: std::collections::BTreeSet<Digest> = kinds.into_iter().map(with_mount).collect();
        assert_eq!(keys.len(), count);
    }

    #[test]
    fn a_bind_mount_counts_by_content_and_not_by_origin() {
        let key = |from, files: &str, writable| {
            let kind = MountKind::Bind { from, source: ImagePath::new("/s"), writable };
            let mut step = run_step();
            step.mounts[0].kind = kind;
            let platform = host();
            run(&surroundings(&platform), &step, &Digest::of(files)).digest()
        };
        let first = key(CopyFrom::Context, "1", false);
        assert_eq!(first, key(CopyFrom::Stage(StageId(3)), "1", false));
        assert_ne!(first, key(CopyFrom::Context, "2", false));
        assert_ne!(first, key(CopyFrom::Context, "1", true));
    }

    #[test]
    fn everything_that_decides_what_a_copy_makes_is_in_the_key() {
        assert!(same_copy(|_| {}));
        assert!(same_copy(|step| step.from = CopyFrom::NamedContext("x".into())));
        assert!(!same_copy(|step| step.from = CopyFrom::Stage(StageId(0))));
        assert!(!same_copy(|step| step.sources = vec![Source::Path("a/*".into())]));
        let inline = |text: &str| Source::Inline { name: "a".into(), text: text.into() };
        assert!(!same_copy(|step| step.sources = vec![inline("x")]));
        assert!(!same_copy(|step| step.destination = "b/".into()));
        assert!(!same_copy(|step| step.cwd = "/x".into()));
        assert!(!same_copy(|step| step.chown = Some("1".into())));
        assert!(!same_copy(|step| step.chmod = Some(Chmod::Octal(0))));
        assert!(!same_copy(|step| step.link = true));
        assert!(!same_copy(|step| step.parents = true));
        assert!(!same_copy(|step| step.excludes = vec!["x".into()]));
    }

    #[test]
    fn a127_a_linked_copy_does_not_depend_on_what_lies_below() {
        let platform = host();
        let below = Some(ChainId::base(DiffId(Digest::of("layer"))));
        let same = |link: bool, chown: Option<&str>| {
            let step = CopyStep { link, chown: chown.map(str::to_owned), ..copy_step() };
            let key = |below| {
                let above = Surroundings { below, ..surroundings(&platform) };
                copy(&above, &step, &Digest::of("files")).digest()
            };
            key(None) == key(below)
        };
        assert!(!same(false, None));
        assert!(same(true, None));
        assert!(same(true, Some("1:2")));
        assert!(!same(true, Some("1:users")));
    }

    #[test]
    fn copy_and_add_and_the_two_ways_to_unpack_have_different_keys() {
        let (platform, files) = (host(), Digest::of("files"));
        let add = |unpack| {
            let step = AddStep { copy: copy_step(), unpack };
            super::add(&surroundings(&platform), &step, &files).digest()
        };
        let keys = std::collections::BTreeSet::from([
            add(None),
            add(Some(true)),
            add(Some(false)),
            copy(&surroundings(&platform), &copy_step(), &files).digest(),
        ]);
        assert_eq!(keys.len(), 4);
    }

    #[test]
    fn the_surroundings_are_in_every_key() {
        let platform = host();
        let step = WorkdirStep { path: "/x".into(), user: String::new() };
        let first = surroundings(&platform);
        let key = |surroundings: Surroundings<'_>| workdir(&surroundings, &step).digest();
        let below = Some(ChainId::base(DiffId(Digest::of("layer"))));
        assert_ne!(key(first), key(Surroundings { below, ..first }));
        let of = |layer: &str| [(DiffId(Digest::of(layer)), Digest::of("table"))];
        let (tables, others) = (&of("layer")[..], &of("other")[..]);
        assert_ne!(key(first), key(Surroundings { tables, ..first }));
        assert_ne!(
            key(Surroundings { tables: others, ..first }),
            key(Surroundings { tables, ..first })
        );
        let command = |tables| run(&Surroundings { tables, ..first }, &run_step(), &Digest::of(""));
        assert_eq!(command(tables).digest(), command(&[]).digest(), "its layers are unpacked");
        let source_date_epoch = Some(Timestamp::EPOCH);
        assert_ne!(key(first), key(Surroundings { source_date_epoch, ..first }));
        assert_ne!(key(first), key(Surroundings { compression: Compression::Zstd, ..first }));
        let other = Platform { architecture: "arm64".to_owned(), ..host() };
        assert_eq!(key(first), key(Surroundings { platform: &other, ..first }));
        let on = |platform| run(&surroundings(platform), &run_step(), &Digest::of("")).digest();
        assert_ne!(on(&platform), on(&other));
    }

    #[test]
    fn texts_cannot_run_together() {
        let key = |args: &[&str]| {
            let args = args.iter().map(|text| (*text).to_owned()).collect();
            let platform = host();
            run(&surroundings(&platform), &RunStep { args, ..run_step() }, &Digest::of("")).digest()
        };
        assert_ne!(key(&["ab", "c"]), key(&["a", "bc"]));
        assert_ne!(key(&["a", ""]), key(&["a"]));
    }

    #[test]
    fn a_key_is_the_same_on_every_machine_and_in_every_release() {
        let platform = host();
        let step = WorkdirStep { path: "/x".into(), user: "1".into() };
        let key = workdir(&surroundings(&platform), &step);
        // Whoever changes this digest must change VERSION too.
        assert_eq!(
            key.digest().hex(),
            "64f6540484854f1e9826cb12ca863da5b69865e409e24a5689dcab340b359863"
        );
    }
}
