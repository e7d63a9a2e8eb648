//! `RUN`: the command, its environment, and what is mounted for it (rules A150 to A160).

use crate::dockerfile::{CommandForm, Heredoc, RunInstruction, Source, Span, Spanned, Word};
use crate::oci::ImagePath;
use crate::plan::graph::Origin;
use crate::plan::stage::{StagePlanner, id_of};
use crate::plan::{
    CopyFrom, Network, PlanError, PlanErrorKind, RunStep, StepKind, StepWords, builtin, history,
    run_mount,
};

/// Where heredocs that are programs of their own lie (rule A154).
const PIPES: &str = "/dev/pipes/";

impl StagePlanner<'_> {
    /// `RUN`
    pub(crate) fn run(&mut self, it: &RunInstruction) -> Result<(), PlanError> {
        let mounts = self.mounts(&it.mounts)?;
        let insecure = it.security.as_ref().filter(|it| it.value == "insecure");
        if let Some(security) = insecure.filter(|_| !self.graph.options.allowed.insecure) {
            return Err(PlanErrorKind::NotAllowed("security.insecure").at(security.span));
        }
        if let Some(device) = it.devices.first() {
            let feature = "RUN --device".to_owned();
            let alternative = "remove the flag; coracle gives no devices to builds";
            return Err(PlanErrorKind::NotSupported { feature, alternative }.at(device.span));
        }
        let network = self.network(it.network.as_ref())?;
        let (args, pipes) = self.arguments(it);
        if args.is_empty() {
            return Err(self.error(PlanErrorKind::NoCommand));
        }

        let scope = &self.state.scope;
        let mut env = scope.to_environment();
        if let Some(epoch) = self.graph.options.source_date_epoch
            && scope.get("SOURCE_DATE_EPOCH").is_none()
        {
            env.push(format!("SOURCE_DATE_EPOCH={}", epoch.seconds));
        }
        env.extend(run_mount::agent_variable(&mounts, scope.get("SSH_AUTH_SOCK").is_some()));
        let proxy = builtin::proxy_environment(&self.graph.options.build_args, scope);
        let created_by = history::run(&args, &self.state.args, scope);
        let step = RunStep {
            display: args.join(" "),
            args,
            env,
            proxy,
            cwd: self.cwd(),
            user: self.state.config.config.user.clone(),
            network,
            insecure: insecure.is_some(),
            settings: self.graph.options.run.clone(),
            pipes,
            mounts,
        };
        let mounts = it.mounts.iter().map(|word| self.error_place(word.span)).collect();
        let words = StepWords { mounts, ..StepWords::default() };
        self.step(created_by, &title(it), StepKind::Run(step), words);
        Ok(())
    }

    /// What is run, and the files that it needs under [`PIPES`].
    fn arguments(&self, it: &RunInstruction) -> (Vec<String>, Vec<(String, String)>) {
        let text = match &it.command {
            CommandForm::Exec(args) => return (args.clone(), Vec::new()),
            CommandForm::Shell(text) => text,
        };
        match it.heredocs.as_slice() {
            [] => (self.in_shell(text.clone()), Vec::new()),
            [only] if is_heredoc_alone(text) => {
                if only.body.starts_with("#!") {
                    let pipe = (only.name.clone(), only.body.clone());
                    (self.in_shell(format!("{PIPES}{}", only.name)), vec![pipe])
                } else {
                    (self.in_shell(only.body.clone()), Vec::new())
                }
            }
            several => {
                let text = reassembled(text, several, &self.graph.dockerfile.source);
                (self.in_shell(text), Vec::new())
            }
        }
    }

    fn network(&self, flag: Option<&Spanned<String>>) -> Result<Network, PlanError> {
        let Some(flag) = flag else { return Ok(self.graph.options.network) };
        match flag.value.as_str() {
            "none" => Ok(Network::None),
            "host" if self.graph.options.allowed.network_host => Ok(Network::Host),
            "host" => Err(PlanErrorKind::NotAllowed("network.host").at(flag.span)),
            // `default`: the parser lets nothing else through.
            _ => Ok(self.graph.options.network),
        }
    }

    /// Stages can be mounted from only if they come before this one (rule A054).
    pub(crate) fn mount_origin(
        &self,
        name: &str,
        target: &ImagePath,
    ) -> Result<Origin, PlanErrorKind> {
        let origin = self.graph.mount_source(name)?;
        match origin {
            Origin::Stage(index) if index >= self.index => {
                Err(PlanErrorKind::MountFromLaterStage {
                    from: name.to_owned(),
                    target: target.to_string(),
                })
            }
            origin => Ok(origin),
        }
    }

    /// As steps have it; nothing is the build context.
    pub(crate) fn copy_from(&self, origin: Option<&Origin>) -> CopyFrom {
        origin.map_or(CopyFrom::Context, |it| it.to_copy_from(|index| id_of(self.ids, index)))
    }
}

/// Whether the command is one heredoc and nothing else (rule A153).
fn is_heredoc_alone(text: &str) -> bool {
    let text = text.trim().trim_start_matches(|c: char| c.is_ascii_digit());
    let Some(rest) = text.strip_prefix("<<") else { return false };
    let rest = rest.strip_prefix('-').unwrap_or(rest).trim_start();
    let word = Word { raw: rest.to_owned(), span: Span::default(), escape: '\\' };
    let words = word.expand_and_split(&|name| Some(format!("${name}"))).unwrap_or_default();
    !rest.contains('<') && words.len() == 1
}

/// The line and the bodies, as they stood, for a shell that knows heredocs (rule A155).
fn reassembled(line: &str, heredocs: &[Heredoc], source: &Source) -> String {
    let mut text = line.to_owned();
    for heredoc in heredocs {
        text.push('\n');
        text.push_str(body_as_written(heredoc, source));
        text.push_str(&heredoc.name);
    }
    text
}

/// The body with the tabs that `<<-` took away, which the shell will take away as well. A trigger
/// does not stand in the Dockerfile; its body stays without them.
fn body_as_written<'a>(heredoc: &'a Heredoc, source: &'a Source) -> &'a str {
    let written = source.slice(heredoc.span);
    let stripped: String =
        written.split_inclusive('\n').map(|line| line.trim_start_matches('\t')).collect();
    if heredoc.strip_tabs && stripped == heredoc.body { written } else { &heredoc.body }
}

/// `RUN` and the command as written; of a heredoc, the first line in brackets.
fn title(it: &RunInstruction) -> String {
    let command = match &it.command {
        CommandForm::Shell(text) => text.clone(),
        CommandForm::Exec(args) => args.join(" "),
    };
    let summary = it.heredocs.first().map(|heredoc| {
        let mut lines = heredoc.body.trim().lines();
        let first = lines.next().unwrap_or_default();
        format!(" ({first}{})", if lines.next().is_some() { "..." } else { "" })
    });
    format!("RUN {command}{}", summary.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a153_only_a_heredoc_alone_is_the_command_itself() {
        let check = |text: &str, expected| assert_eq!(is_heredoc_alone(text), expected, "{text}");
        check("<<EOF", true);
        check("<<-EOF ", true);
        check("3<<'E O F'", true);
        check("<<E\"O\"F", true);
        check("<<EOF cat > /x", false);
        check("cat <<EOF", false);
        check("<<A <<B", false);
    }

    use crate::plan::testing::{PATH, Setup};
    use crate::plan::{Allowed, MountKind};

    #[track_caller]
    fn check_args(text: &str, expected: &[&str]) {
        let run = Setup::default().runs(text).pop().expect("a RUN");
        assert_eq!(run.args, expected, "{text}");
    }

    #[track_caller]
    fn check_error(instruction: &str, expected: &str) {
        let text =
            format!("FROM busybox AS early\n{instruction}\nFROM busybox AS late\nFROM early\n");
        assert_eq!(Setup::default().errors(&text), [format!("2: {expected}")]);
    }

    #[test]
    fn a150_shell_and_exec_form() {
        check_args("FROM busybox\nRUN echo  $A 'q'\n", &["/bin/sh", "-c", "echo  $A 'q'"]);
        check_args("FROM busybox\nRUN [\"ls\", \"$A b\"]\n", &["ls", "$A b"]);
        check_args("FROM busybox\nSHELL [\"/x\", \"-e\"]\nRUN a\n", &["/x", "-e", "a"]);
    }

    #[test]
    fn a153_the_body_of_a_heredoc_alone_is_the_command() {
        check_args("FROM busybox\nRUN <<EOF\na\n  b $X\nEOF\n", &["/bin/sh", "-c", "a\n  b $X\n"]);
        check_args("FROM busybox\nRUN <<-'EOF'\n\ta\n\tEOF\n", &["/bin/sh", "-c", "a\n"]);
    }

    #[test]
    fn a154_a_heredoc_with_an_interpreter_is_a_file() {
        let run = Setup::default().runs("FROM busybox\nRUN <<EOF\n#!/bin/awk -f\nx\nEOF\n");
        assert_eq!(run[0].args, ["/bin/sh", "-c", "/dev/pipes/EOF"]);
        assert_eq!(run[0].pipes, [("EOF".to_owned(), "#!/bin/awk -f\nx\n".to_owned())]);
    }

    #[test]
    fn a155_any_other_heredoc_is_left_to_the_shell() {
        check_args(
            "FROM busybox\nRUN cat <<A > /a && cat 3<<-'B' <&3\none\nA\n\ttwo\n\tB\n",
            &["/bin/sh", "-c", "cat <<A > /a && cat 3<<-'B' <&3\none\nA\n\ttwo\nB"],
        );
    }

    #[test]
    fn a041_a046_a151_the_environment_is_env_and_arg_and_apart_from_it_the_proxies() {
        let mut setup = Setup::default().build_arg("http_proxy", "p");
        setup.options.source_date_epoch = Some(crate::oci::Timestamp::from_seconds(7));
        let text =
            "FROM busybox\nARG A=1 B C=\nENV D=2\nUSER u\nWORKDIR /w/\nRUN --network=none x\n";
        let run = setup.runs(text).pop().expect("a RUN");
        assert_eq!(run.env, [PATH, "A=1", "C=", "D=2", "SOURCE_DATE_EPOCH=7"]);
        assert_eq!(run.proxy, ["HTTP_PROXY=p", "http_proxy=p"]);
        assert_eq!((run.cwd.as_str(), run.user.as_str()), ("/w/", "u"));
        assert_eq!(run.network, Network::None);
        assert_eq!(run.display, "/bin/sh -c x");
        let history = setup.history(text).pop();
        assert_eq!(history.as_deref(), Some("RUN |3 A=1 B= C= /bin/sh -c x # buildkit"));
    }

    #[test]
    fn a157_bind_and_tmpfs_mounts() {
        let text = "FROM busybox AS tools\nFROM busybox\nWORKDIR /w\nENV D=dir\n\
            RUN --mount=from=TOOLS,source=a/../b,target=$D --mount=type=tmpfs,target=/t,size=1k x\n";
        let mounts = Setup::default().runs(text).pop().expect("a RUN").mounts;
        let bind = MountKind::Bind {
            from: CopyFrom::Stage(crate::plan::StageId(0)),
            source: ImagePath::new("/b"),
            writable: false,
        };
        assert_eq!(mounts[0].kind, bind);
        assert_eq!(mounts[0].target, ImagePath::new("/w/dir"));
        assert_eq!(mounts[1].kind, MountKind::Tmpfs { size: 1024 });
    }

    #[test]
    fn a156_to_a160_what_a_run_cannot_have() {
        check_error("RUN --mount=type=tmpfs,target=/ x", "invalid mount target \"/\"");
        check_error("RUN --mount=source=a x", "invalid mount target \"/\"");
        check_error(
            "RUN --mount=from=late,target=/m x",
            "cannot mount from stage \"late\" to \"/m\", stage needs to be defined before current command",
        );
        check_error(
            "RUN --mount=from=$S,target=/m x",
            "'from' doesn't support variable expansion, define alias stage instead",
        );
        check_error("RUN --network=host x", "network.host is not allowed");
        check_error("RUN --security=insecure x", "security.insecure is not allowed");
    }

    #[test]
    fn a160_what_the_command_line_allows_is_not_refused() {
        let mut setup = Setup::default();
        setup.options.allowed = Allowed { network_host: true, insecure: true };
        setup.options.network = Network::None;
        let text = "FROM busybox\nRUN --network=host --security=insecure x\nRUN y\n";
        let runs = setup.runs(text);
        assert_eq!((runs[0].network, runs[0].insecure), (Network::Host, true));
        assert_eq!((runs[1].network, runs[1].insecure), (Network::None, false));
    }
}
