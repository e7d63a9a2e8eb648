//! What the layer of a step depends on. Pure; the table of inputs is in [`crate::cache`].

use serde::{Deserialize, Serialize};

use crate::oci::{ChainId, Compression, Digest, Digester, Platform, Timestamp};
use crate::plan::{
    AddStep, Chmod, CopyFrom, CopyStep, MountKind, Network, RunStep, Source, WorkdirStep,
};

/// Changes when keys are made in another way, or when equal steps give other layers than before.
pub(crate) const VERSION: u32 = 1;

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
pub struct Setting<'a> {
    /// The layers below; `None` where there are none.
    pub parent: Option<ChainId>,
    /// The platform of the stage.
    pub platform: &'a Platform,
    /// `SOURCE_DATE_EPOCH`.
    pub source_date_epoch: Option<Timestamp>,
    /// How the layer is compressed.
    pub compression: Compression,
}

/// The key of a `RUN`.
///
/// `mounted` has, in the order of the step's bind mounts, the digest of the files of each.
///
/// # Panics
///
/// If a bind mount has no digest: the key would find layers made from other files.
pub fn run(step: &RunStep, mounted: &[Digest], setting: Setting<'_>) -> CacheKey {
    let mut key = Builder::new("RUN", setting);
    key.parent(setting);
    key.part("platform", setting.platform.normalised().to_string());
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
    let mut digests = mounted.iter();
    for mount in &step.mounts {
        let target = &mount.target;
        let text = match &mount.kind {
            MountKind::Bind { source, writable, .. } => {
                let access = if *writable { "rw" } else { "ro" };
                format!("bind {source:?} at {target:?}, {access}")
            }
            MountKind::Tmpfs { size } => format!("tmpfs at {target:?}, {size} bytes"),
        };
        key.part("mount", text);
        if let MountKind::Bind { .. } = mount.kind {
            let files = digests.next().expect("the caller has hashed every bind mount");
            key.part("mounted files", files.to_string());
        }
    }
    for (name, text) in &step.pipes {
        key.part("script", format!("{name} {}", Digest::of(text)));
    }
    key.finish()
}

/// The key of a `COPY`; `files` is the digest of all that it copies.
pub fn copy(step: &CopyStep, files: &Digest, setting: Setting<'_>) -> CacheKey {
    copied("COPY", step, files, setting).finish()
}

/// The key of an `ADD`; `files` is the digest of all that it adds.
pub fn add(step: &AddStep, files: &Digest, setting: Setting<'_>) -> CacheKey {
    let mut key = copied("ADD", &step.copy, files, setting);
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
pub fn workdir(step: &WorkdirStep, setting: Setting<'_>) -> CacheKey {
    let mut key = Builder::new("WORKDIR", setting);
    key.parent(setting);
    key.part("path", &step.path);
    key.part("user", &step.user);
    key.finish()
}

fn copied(keyword: &'static str, step: &CopyStep, files: &Digest, setting: Setting<'_>) -> Builder {
    let mut key = Builder::new(keyword, setting);
    if !step.link || step.chown.as_deref().is_some_and(needs_user_database) {
        key.parent(setting);
    }
    for source in &step.sources {
        match source {
            Source::Path(path) => key.part("source", path),
            Source::Inline { name, text } => {
                key.part("inline file", format!("{name} {}", Digest::of(text)));
            }
        }
    }
    key.part("files", files.to_string());
    key.part(
        "owners",
        match step.from {
            CopyFrom::Context | CopyFrom::NamedContext(_) | CopyFrom::Scratch => "root",
            CopyFrom::Stage(_) | CopyFrom::Image(_) => "kept",
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
    fn new(instruction: &'static str, setting: Setting<'_>) -> Self {
        let mut key = Self { instruction, parts: Vec::new() };
        key.parts("SOURCE_DATE_EPOCH", &setting.source_date_epoch.map(String::from));
        key.part(
            "compression",
            match setting.compression {
                Compression::None => "none",
                Compression::Gzip => "gzip",
                Compression::Zstd => "zstd",
            },
        );
        key
    }

    fn parent(&mut self, setting: Setting<'_>) {
        let chain = setting.parent.map_or_else(|| "none".to_owned(), |chain| chain.to_string());
        self.part("layers below", chain);
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
    use crate::oci::{DiffId, ImagePath};
    use crate::plan::{RunMount, StageId};

    fn host() -> Platform {
        Platform { os: "linux".to_owned(), architecture: "amd64".to_owned(), ..Platform::default() }
    }

    fn setting(platform: &Platform) -> Setting<'_> {
        Setting { parent: None, platform, source_date_epoch: None, compression: Compression::Gzip }
    }

    fn run_step() -> RunStep {
        RunStep {
            args: vec!["sh".into(), "-c".into(), "x".into()],
            env: vec!["A=1".into()],
            proxy: vec![],
            cwd: "/".into(),
            user: String::new(),
            network: Network::Host,
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

    /// Says whether two keys that differ by `change` alone are equal.
    fn same_run(change: impl FnOnce(&mut RunStep)) -> bool {
        let mut changed = run_step();
        change(&mut changed);
        let platform = host();
        run(&run_step(), &[], setting(&platform)).digest()
            == run(&changed, &[], setting(&platform)).digest()
    }

    fn same_copy(change: impl FnOnce(&mut CopyStep)) -> bool {
        let mut changed = copy_step();
        change(&mut changed);
        let (platform, files) = (host(), Digest::of("files"));
        copy(&copy_step(), &files, setting(&platform)).digest()
            == copy(&changed, &files, setting(&platform)).digest()
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
    fn a_bind_mount_counts_by_content_and_not_by_origin() {
        let key = |from, files: &str, writable| {
            let kind = MountKind::Bind { from, source: ImagePath::new("/s"), writable };
            let mut step = run_step();
            step.mounts[0].kind = kind;
            let platform = host();
            run(&step, &[Digest::of(files)], setting(&platform)).digest()
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
            let key = |parent| {
                let setting = Setting { parent, ..setting(&platform) };
                copy(&step, &Digest::of("files"), setting).digest()
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
            super::add(&step, &files, setting(&platform)).digest()
        };
        let keys = std::collections::BTreeSet::from([
            add(None),
            add(Some(true)),
            add(Some(false)),
            copy(&copy_step(), &files, setting(&platform)).digest(),
        ]);
        assert_eq!(keys.len(), 4);
    }

    #[test]
    fn the_setting_is_in_every_key() {
        let platform = host();
        let step = WorkdirStep { path: "/x".into(), user: String::new() };
        let first = setting(&platform);
        let key = |setting| workdir(&step, setting).digest();
        let parent = Some(ChainId::base(DiffId(Digest::of("layer"))));
        assert_ne!(key(first), key(Setting { parent, ..first }));
        let source_date_epoch = Some(Timestamp::EPOCH);
        assert_ne!(key(first), key(Setting { source_date_epoch, ..first }));
        assert_ne!(key(first), key(Setting { compression: Compression::Zstd, ..first }));
        let other = Platform { architecture: "arm64".to_owned(), ..host() };
        assert_eq!(key(first), key(Setting { platform: &other, ..first }));
        let on = |platform| run(&run_step(), &[], setting(platform)).digest();
        assert_ne!(on(&platform), on(&other));
    }

    #[test]
    fn texts_cannot_run_together() {
        let key = |args: &[&str]| {
            let args = args.iter().map(|text| (*text).to_owned()).collect();
            let platform = host();
            run(&RunStep { args, ..run_step() }, &[], setting(&platform)).digest()
        };
        assert_ne!(key(&["ab", "c"]), key(&["a", "bc"]));
        assert_ne!(key(&["a", ""]), key(&["a"]));
    }

    #[test]
    fn a_key_is_the_same_on_every_machine_and_in_every_release() {
        let platform = host();
        let step = WorkdirStep { path: "/x".into(), user: "1".into() };
        let key = workdir(&step, setting(&platform));
        // Whoever changes this digest must change VERSION too.
        assert_eq!(
            key.digest().hex(),
            "d9118489b013717fe27f44436b9964b77c6b7fe3d154191e12a7d50626165473"
        );
    }
}
