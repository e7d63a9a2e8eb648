//! From the fields of a `RUN --mount` to what is mounted (rules A157 to A159).

use crate::dockerfile::Word;
use crate::oci::ImagePath;
use crate::plan::builtin::CACHE_NAMESPACE;
use crate::plan::mount::{self, Fields};
use crate::plan::stage::StagePlanner;
use crate::plan::{
    CacheMount, MountError, MountKind, PlanError, PlanErrorKind, RunMount, SecretMount, SshMount,
};

/// Where secrets without a target are.
const SECRETS: &str = "/run/secrets";
/// Where agents without a target are, but for their number.
const AGENTS: &str = "/run/buildkit/ssh_agent";

impl StagePlanner<'_> {
    /// All mounts of a `RUN`, in order.
    pub(crate) fn mounts(&self, words: &[Word]) -> Result<Vec<RunMount>, PlanError> {
        let mut mounts = Vec::new();
        for word in words {
            let agents = agents(&mounts).count();
            let mount = self.mount(word, agents).map_err(|kind| kind.at(word.span))?;
            mounts.push(mount);
        }
        Ok(mounts)
    }

    /// One mount; `agents` is how many of type `ssh` come before it.
    fn mount(&self, word: &Word, agents: usize) -> Result<RunMount, PlanErrorKind> {
        let fields = mount::parse(word, &|value| self.expand_word(value))?;
        let from_root = ImagePath::root();
        let (target, kind) = match fields.kind.as_str() {
            "secret" => {
                let (target, secret) = secret(fields);
                (from_root.join(&target), MountKind::Secret(secret))
            }
            "ssh" => {
                let target = match fields.target.as_str() {
                    "" => format!("{AGENTS}.{agents}"),
                    target => target.to_owned(),
                };
                let Fields { id, required, access, .. } = fields;
                (from_root.join(&target), MountKind::Ssh(SshMount { id, required, access }))
            }
            _ => {
                let target = ImagePath::new(self.cwd()).join(&fields.target);
                let kind = self.directory(fields, &target)?;
                (target, kind)
            }
        };
        if target.is_root() {
            return Err(MountError::RootTarget.into());
        }
        Ok(RunMount { span: self.place(word.span), kind, target })
    }

    /// What shows a directory, or perhaps a file: `tmpfs`, `cache` and `bind`.
    fn directory(&self, fields: Fields, target: &ImagePath) -> Result<MountKind, PlanErrorKind> {
        if fields.kind == "tmpfs" {
            return Ok(MountKind::Tmpfs { size: fields.size });
        }
        // A target that is to be refused anyway is refused first.
        if target.is_root() {
            return Err(MountError::RootTarget.into());
        }
        let from = match fields.from.as_str() {
            "" => None,
            name => Some(self.mount_origin(name, target)?),
        };
        let source = ImagePath::new(&fields.source);
        let writable = fields.writable;
        if fields.kind == "bind" {
            let from = self.copy_from(from.as_ref());
            return Ok(MountKind::Bind { from, source, writable });
        }
        let id = if fields.id.is_empty() { cleaned(&fields.target) } else { fields.id };
        let id = match self.graph.options.build_args.get(CACHE_NAMESPACE) {
            Some(namespace) if !namespace.is_empty() => format!("{namespace}/{id}"),
            _ => id,
        };
        Ok(MountKind::Cache(CacheMount {
            id,
            sharing: fields.sharing.unwrap_or_default(),
            seed: from.map(|origin| (self.copy_from(Some(&origin)), source)),
            access: fields.access,
            writable,
        }))
    }
}

/// A secret and where it is; a relative target counts from `/`, whatever the working directory.
fn secret(fields: Fields) -> (String, SecretMount) {
    let base = |path: &str| path.trim_end_matches('/').rsplit('/').next().map(str::to_owned);
    let id = match (fields.source, fields.id) {
        (source, _) if !source.is_empty() => source,
        (_, id) if !id.is_empty() => id,
        _ => base(&fields.target).unwrap_or_default(),
    };
    let file = fields.env.is_none() || !fields.target.is_empty();
    let target = match fields.target {
        target if target.is_empty() => format!("{SECRETS}/{}", base(&id).unwrap_or_default()),
        target => target,
    };
    let Fields { env, required, access, .. } = fields;
    (target, SecretMount { id, file, env, required, access })
}

/// Go's `path.Clean`: what a cache is called by its target. Relative ones stay relative.
fn cleaned(path: &str) -> String {
    let mut names: Vec<&str> = Vec::new();
    let absolute = path.starts_with('/');
    for name in path.split('/').filter(|name| !matches!(*name, "" | ".")) {
        match names.last() {
            Some(last) if name == ".." && *last != ".." => drop(names.pop()),
            None if name == ".." && absolute => {}
            _ => names.push(name),
        }
    }
    let joined = names.join("/");
    match (absolute, joined.is_empty()) {
        (true, _) => format!("/{joined}"),
        (false, true) => ".".to_owned(),
        (false, false) => joined,
    }
}

fn agents(mounts: &[RunMount]) -> impl Iterator<Item = &RunMount> {
    mounts.iter().filter(|mount| matches!(mount.kind, MountKind::Ssh(_)))
}

/// `SSH_AUTH_SOCK`, which names the first agent whether it is there or not, unless the Dockerfile
/// has the variable.
pub(crate) fn agent_variable(mounts: &[RunMount], is_set: bool) -> Option<String> {
    let first = agents(mounts).next().filter(|_| !is_set)?;
    Some(format!("SSH_AUTH_SOCK={}", first.target))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::testing::Setup;
    use crate::plan::{Access, CopyFrom, Sharing, StageId};

    fn planned(flags: &str) -> Vec<RunMount> {
        let text = format!("FROM busybox AS seed\nFROM busybox\nWORKDIR /w\nRUN {flags} x\n");
        Setup::default().runs(&text).pop().expect("a RUN").mounts
    }

    #[track_caller]
    fn check_cache(flag: &str, target: &str, expected: CacheMount) {
        let mount = planned(&format!("--mount=type=cache,{flag}")).pop().expect("a mount");
        assert_eq!(
            (mount.target.to_string(), mount.kind),
            (target.into(), MountKind::Cache(expected))
        );
    }

    #[track_caller]
    fn check_secret(flag: &str, expected: (&str, &str, bool, Option<&str>)) {
        let mount = planned(&format!("--mount=type=secret,{flag}")).pop().expect("a mount");
        let MountKind::Secret(secret) = mount.kind else { panic!("{flag}") };
        let target = mount.target.to_string();
        assert_eq!((&*secret.id, &*target, secret.file, secret.env.as_deref()), expected, "{flag}");
    }

    #[test]
    fn a157_a_cache_is_called_by_its_target_as_written_unless_it_has_an_id() {
        let cache = |id: &str| CacheMount {
            id: id.into(),
            sharing: Sharing::Shared,
            seed: None,
            access: Access::default(),
            writable: true,
        };
        check_cache("target=/c//d/../e/", "/c/e", cache("/c/e"));
        check_cache("target=c", "/w/c", cache("c"));
        let all = CacheMount {
            sharing: Sharing::Locked,
            seed: Some((CopyFrom::Stage(StageId(0)), ImagePath::new("/s"))),
            access: Access { mode: Some(0o700), uid: Some(1), gid: Some(2) },
            writable: false,
            ..cache("i")
        };
        let flag = "id=i,target=/c,sharing=LOCKED,from=seed,source=s,mode=0700,uid=1,gid=2,ro";
        check_cache(flag, "/c", all);
    }

    #[test]
    fn a157_paths_are_cleaned_as_go_cleans_them() {
        let check = |path: &str, expected: &str| assert_eq!(cleaned(path), expected, "{path}");
        check("/a/../../b/.", "/b");
        check("a/../..", "..");
        check("../../a", "../../a");
        check("a/..", ".");
        check("/", "/");
    }

    #[test]
    fn a158_a_secret_is_a_file_a_variable_or_both() {
        check_secret("id=a/b", ("a/b", "/run/secrets/b", true, None));
        check_secret("source=b", ("b", "/run/secrets/b", true, None));
        check_secret("target=/some/dir/t", ("t", "/some/dir/t", true, None));
        check_secret("id=a,dst=rel/t", ("a", "/rel/t", true, None));
        check_secret("id=a,env=A", ("a", "/run/secrets/a", false, Some("A")));
        check_secret("id=a,env=A,target=/t", ("a", "/t", true, Some("A")));
    }

    #[test]
    fn a159_agents_are_counted_and_the_first_is_in_the_environment() {
        let mounts = planned(
            "--mount=type=ssh --mount=type=tmpfs,target=/t --mount=type=ssh,id=b,required,uid=3",
        );
        assert_eq!(mounts[0].target, ImagePath::new("/run/buildkit/ssh_agent.0"));
        assert_eq!(mounts[2].target, ImagePath::new("/run/buildkit/ssh_agent.1"));
        let access = Access { uid: Some(3), ..Access::default() };
        let second = SshMount { id: "b".into(), required: true, access };
        assert_eq!(mounts[2].kind, MountKind::Ssh(second));
        let variable = Some("SSH_AUTH_SOCK=/run/buildkit/ssh_agent.0".to_owned());
        assert_eq!(agent_variable(&mounts, false), variable);
        assert_eq!(agent_variable(&mounts, true), None);
        assert_eq!(agent_variable(&mounts[1..2], false), None);
    }
}
