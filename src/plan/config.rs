//! The instructions that change the config: all but `RUN`, `COPY` and `ADD` (rules A070 to A093).

use crate::dockerfile::{
    ArgDeclaration, ArgInstruction, CommandForm, CommandInstruction, HealthcheckInstruction,
    PairsInstruction, ShellInstruction, Span, TextInstruction, Word, WordInstruction,
    WordsInstruction,
};
use crate::oci::{Empty, Healthcheck, ImagePath};
use crate::plan::stage::StagePlanner;
use crate::plan::{
    PlanError, PlanErrorKind, StepKind, StepWords, WorkdirStep, expose, go_format, history, lint,
    signal,
};

impl StagePlanner<'_> {
    /// `ENV`: all values see the variables as they were before the line (rule A022).
    pub(crate) fn env(&mut self, it: &PairsInstruction) -> Result<(), PlanError> {
        let pairs = self.expand_pairs(&it.pairs)?;
        for ((name, _), (word, _)) in pairs.iter().zip(&it.pairs) {
            self.warn_of_secret("ENV", name, word.span);
        }
        for (name, value) in &pairs {
            self.state.scope.set(name, value);
            self.state.env.set(&mut self.state.config.config.env, name, value);
        }
        self.record(history::pairs("ENV", &pairs));
        Ok(())
    }

    /// `LABEL` (rule A092).
    pub(crate) fn label(&mut self, it: &PairsInstruction) -> Result<(), PlanError> {
        let pairs = self.expand_pairs(&it.pairs)?;
        self.state.config.config.labels.extend(pairs.iter().cloned());
        self.record(history::pairs("LABEL", &pairs));
        Ok(())
    }

    fn expand_pairs(&self, pairs: &[(Word, Word)]) -> Result<Vec<(String, String)>, PlanError> {
        pairs.iter().map(|(key, value)| Ok((self.expand(key)?, self.expand(value)?))).collect()
    }

    /// `ARG`: unlike in `ENV`, a value sees the ones before it on the line.
    pub(crate) fn arg(&mut self, it: &ArgInstruction) -> Result<(), PlanError> {
        let mut args = Vec::new();
        for arg in &it.args {
            self.warn_of_secret("ARG", &arg.name.value, arg.name.span);
            let value = self.arg_value(arg)?;
            if let Some(value) = &value {
                self.state.scope.set(&arg.name.value, value);
            }
            args.push((arg.name.value.clone(), value));
        }
        self.record(history::arg(&args));
        for (name, value) in args {
            self.state.args.insert(name, value);
        }
        Ok(())
    }

    /// The command line, the default, the global argument of the same name (rules A036, A037).
    fn arg_value(&self, arg: &ArgDeclaration) -> Result<Option<String>, PlanError> {
        let name = &arg.name.value;
        if let Some(value) = self.graph.options.build_args.get(name) {
            return Ok(Some(value.clone()));
        }
        match &arg.default {
            Some(word) => self.expand(word).map(Some),
            None => Ok(self.graph.globals.get(name).map(str::to_owned)),
        }
    }

    /// `CMD` (rules A077, A085, A086).
    pub(crate) fn cmd(&mut self, it: &CommandInstruction) {
        self.state.has_own_cmd = true;
        let args = self.command("CMD", &it.command);
        self.record(format!("CMD {}", go_format::quoted_list(&args)));
        let config = &mut self.state.config.config;
        config.args_escaped = true;
        config.cmd = Some(args);
    }

    /// `ENTRYPOINT`: a `CMD` that is not this stage's own goes away (rules A078, A084).
    pub(crate) fn entrypoint(&mut self, it: &CommandInstruction) {
        let args = self.command("ENTRYPOINT", &it.command);
        self.record(format!("ENTRYPOINT {}", go_format::quoted_list(&args)));
        self.state.config.config.entrypoint = Some(args).filter(|args| !args.is_empty());
        if !self.state.has_own_cmd {
            self.state.config.config.cmd = None;
        }
    }

    fn command(&mut self, keyword: &'static str, command: &CommandForm) -> Vec<String> {
        match command {
            CommandForm::Exec(args) => args.clone(),
            CommandForm::Shell(text) => {
                if self.state.config.config.shell.is_empty() {
                    self.warn("JSONArgsRecommended", lint::json_recommended(keyword));
                }
                self.in_shell(text.clone())
            }
        }
    }

    /// A command for the shell in force.
    pub(crate) fn in_shell(&self, text: String) -> Vec<String> {
        let mut args = self.state.config.config.shell.clone();
        if args.is_empty() {
            args = vec!["/bin/sh".to_owned(), "-c".to_owned()];
        }
        args.push(text);
        args
    }

    /// `HEALTHCHECK` (rules A079, A087).
    pub(crate) fn healthcheck(&mut self, it: &HealthcheckInstruction) {
        let check = match &it.check {
            None => Healthcheck { test: vec!["NONE".to_owned()], ..Healthcheck::default() },
            Some(check) => Healthcheck {
                test: match &check.command {
                    CommandForm::Shell(text) => vec!["CMD-SHELL".to_owned(), text.clone()],
                    CommandForm::Exec(args) => {
                        std::iter::once("CMD".to_owned()).chain(args.iter().cloned()).collect()
                    }
                },
                interval: check.interval,
                timeout: check.timeout,
                start_period: check.start_period,
                start_interval: check.start_interval,
                retries: check.retries,
            },
        };
        self.record(format!("HEALTHCHECK {}", go_format::health_check(&check)));
        self.state.config.config.healthcheck = Some(check);
    }

    /// `EXPOSE`: the one instruction whose words are split after expansion (rules A032, A088).
    pub(crate) fn expose(&mut self, it: &WordsInstruction) -> Result<(), PlanError> {
        let mut exposed = Vec::new();
        for word in &it.words {
            let ports = word
                .expand_and_split(&self.lookup(word))
                .map_err(|error| PlanErrorKind::from(error).at(word.span))?;
            for port in ports {
                let parsed =
                    expose::parse(&port).map_err(|it| PlanErrorKind::from(it).at(word.span))?;
                if let Some(protocol) = &parsed.odd_protocol {
                    self.warn_at(word.span, "ExposeProtoCasing", lint::protocol_casing(protocol));
                }
                if parsed.has_host {
                    self.warn_at(word.span, "ExposeInvalidFormat", lint::expose_host(&port));
                }
                // A port costs more than its text.
                let size = parsed.numbered.len() * 128;
                self.graph.budget.spend(size).map_err(|kind| kind.at(word.span))?;
                exposed.extend(parsed.numbered);
            }
        }
        exposed.sort();
        self.record(format!("EXPOSE {}", go_format::plain_list(&exposed)));
        let ports = exposed.into_iter().map(|port| (port, Empty {}));
        self.state.config.config.exposed_ports.extend(ports);
        Ok(())
    }

    /// `VOLUME` (rules A075, A091).
    pub(crate) fn volume(&mut self, it: &WordsInstruction) -> Result<(), PlanError> {
        let volumes: Vec<String> =
            it.words.iter().map(|word| self.expand(word)).collect::<Result<_, _>>()?;
        if volumes.iter().any(String::is_empty) {
            return Err(self.error(PlanErrorKind::EmptyVolume));
        }
        self.record(format!("VOLUME {}", go_format::plain_list(&volumes)));
        let volumes = volumes.into_iter().map(|volume| (volume, Empty {}));
        self.state.config.config.volumes.extend(volumes);
        Ok(())
    }

    /// `STOPSIGNAL`: checked, but stored as written (rule A089).
    pub(crate) fn stop_signal(&mut self, it: &WordInstruction) -> Result<(), PlanError> {
        let signal = self.expand(&it.word)?;
        signal::validate(&signal).map_err(|kind| kind.at(it.word.span))?;
        self.record(format!("STOPSIGNAL {signal}"));
        self.state.config.config.stop_signal = signal;
        Ok(())
    }

    /// `USER`: stored as written; nobody is looked up (rule A103).
    pub(crate) fn user(&mut self, it: &WordInstruction) -> Result<(), PlanError> {
        let user = self.expand(&it.word)?;
        self.record(format!("USER {user}"));
        self.state.config.config.user = user;
        Ok(())
    }

    /// `SHELL` (rule A090).
    pub(crate) fn shell(&mut self, it: &ShellInstruction) {
        self.record(format!("SHELL {}", go_format::plain_list(&it.shell)));
        self.state.config.config.shell.clone_from(&it.shell);
    }

    /// `MAINTAINER` (rule A093).
    pub(crate) fn maintainer(&mut self, it: &TextInstruction) {
        self.record(format!("MAINTAINER {}", it.text));
        self.state.config.author = Some(it.text.clone());
    }

    /// `ONBUILD`: stored, and not in the history (rules A081, A095).
    pub(crate) fn on_build(&mut self, it: &TextInstruction) {
        self.state.config.config.on_build.push(it.text.clone());
    }

    /// `WORKDIR` (rules A070, A100). The root alone needs no layer.
    pub(crate) fn workdir(&mut self, it: &WordInstruction) -> Result<(), PlanError> {
        let written = self.expand(&it.word)?;
        if !self.state.workdir_set && !written.starts_with('/') {
            self.warn_at(it.word.span, "WorkdirRelativePath", lint::relative_workdir(&written));
        }
        self.state.workdir_set = true;
        let path = join_workdir(&self.cwd(), &written);
        self.state.config.config.working_dir.clone_from(&path);
        let created_by = format!("WORKDIR {path}");
        if path == "/" {
            self.record(created_by);
        } else {
            let user = self.state.config.config.user.clone();
            let title = created_by.clone();
            let destination = Some(self.error_place(it.word.span));
            let words = StepWords { destination, ..StepWords::default() };
            self.step(created_by, &title, StepKind::Workdir(WorkdirStep { path, user }), words);
        }
        Ok(())
    }

    /// The working directory in force.
    pub(crate) fn cwd(&self) -> String {
        let written = &self.state.config.config.working_dir;
        if written.is_empty() { "/".to_owned() } else { written.clone() }
    }

    fn warn_of_secret(&mut self, keyword: &str, name: &str, span: Span) {
        if lint::looks_secret(name) {
            self.warn_at(span, "SecretsUsedInArgOrEnv", lint::secret(keyword, name));
        }
    }
}

/// The next working directory: as written if it is absolute, joined and cleaned if it is not, and
/// the one before if nothing is written.
pub(crate) fn join_workdir(current: &str, written: &str) -> String {
    match written {
        "" => current.to_owned(),
        _ if written.starts_with('/') => written.to_owned(),
        _ => ImagePath::new(current).join(written).to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a100_absolute_as_written_relative_joined_and_cleaned() {
        let check = |current: &str, written: &str, expected: &str| {
            assert_eq!(join_workdir(current, written), expected, "{current} {written}");
        };
        check("/", "/slash/", "/slash/");
        check("/", "/a//b/../c/.", "/a//b/../c/.");
        check("/a//b/../c/.", "sub/", "/a/c/sub");
        check("/a/b", "..", "/a");
        check("/a/b/c", "./d/../e", "/a/b/c/e");
        check("/a/", "", "/a/");
        check("/", "../..", "/");
    }

    use crate::plan::testing::{PATH, Setup};
    use serde_json::json;

    /// The history of the target after the base's.
    #[track_caller]
    fn check(text: &str, expected: &[&str]) {
        assert_eq!(Setup::default().history(text), expected, "{text}");
    }

    #[track_caller]
    fn check_error(text: &str, expected: &str) {
        assert_eq!(Setup::default().errors(text), [expected], "{text}");
    }

    #[test]
    fn a066_to_a081_history_has_buildkits_formats() {
        let text = r#"FROM busybox
ARG version=1.0 other
ENV A=$version B="two words"
LABEL l="x y" m=$A
EXPOSE 1234/udp 2375 5000/tcp
VOLUME /a /b
STOPSIGNAL SIGINT
SHELL ["/bin/sh", "-ec"]
HEALTHCHECK --interval=5m --timeout=3s CMD test x
WORKDIR /w
WORKDIR /
USER 5
MAINTAINER m
ONBUILD RUN x
ENTRYPOINT ["/e", "a b"]
CMD run
"#;
        let expected = [
            "ARG version=1.0 other",
            "ENV A=1.0 B=two words",
            "LABEL l=x y m=1.0",
            "EXPOSE [1234/udp 2375/tcp 5000/tcp]",
            "VOLUME [/a /b]",
            "STOPSIGNAL SIGINT",
            "SHELL [/bin/sh -ec]",
            "HEALTHCHECK {Test:[CMD-SHELL test x] Interval:5m0s Timeout:3s StartPeriod:0s \
             StartInterval:0s Retries:0}",
            "WORKDIR /w",
            "WORKDIR /",
            "USER 5",
            "MAINTAINER m",
            "ENTRYPOINT [\"/e\" \"a b\"]",
            "CMD [\"/bin/sh\" \"-ec\" \"run\"]",
        ];
        check(text, &expected);
        let target = Setup::default().target_of(text);
        let layers = target.config.history.iter().filter(|entry| !entry.empty_layer).count();
        assert_eq!((layers, target.steps.len()), (2, 1));
        assert_eq!(target.config.config.on_build, ["RUN x"]);
        assert_eq!(target.config.author.as_deref(), Some("m"));
    }

    #[test]
    fn a022_env_sees_the_values_before_the_line_and_arg_those_before_the_word() {
        check(
            "FROM scratch\nENV abc=hello\nENV abc=bye def=$abc\nENV ghi=$abc\nARG one=1 two=[$one]\n",
            &["ENV abc=hello", "ENV abc=bye def=hello", "ENV ghi=bye", "ARG one=1 two=[1]"],
        );
    }

    #[test]
    fn a036_the_command_line_wins_over_the_default_and_that_over_the_global() {
        let text = "ARG G=global\nARG H=global\nFROM scratch\nARG G\nARG H=own\nARG P=own\nARG N\n\
                    ARG TARGETARCH\nARG TARGETOS=mine\n";
        let history = Setup::default().build_arg("P", "cli").history(text);
        let expected = [
            "ARG G=global",
            "ARG H=own",
            "ARG P=cli",
            "ARG N",
            "ARG TARGETARCH=amd64",
            "ARG TARGETOS=mine",
        ];
        assert_eq!(history, expected);
    }

    #[test]
    fn a048_a_missing_path_is_added() {
        let env = |text: &str| Setup::default().target_of(text).config.config.env;
        assert_eq!(env("FROM scratch\nENV A=1\n"), [PATH, "A=1"]);
        assert_eq!(env("FROM busybox\nENV PATH=/x:$PATH\n")[0], PATH.replacen('=', "=/x:", 1));
    }

    #[test]
    fn a084_entrypoint_clears_a_cmd_that_is_not_the_stages_own() {
        let check = |text: &str, expected: Option<&str>| {
            let cmd = Setup::default().target_of(text).config.config.cmd;
            assert_eq!(cmd, expected.map(|it| vec![it.to_owned()]), "{text}");
        };
        check("FROM busybox\nENTRYPOINT [\"/e\"]\n", None);
        check("FROM busybox\nCMD [\"mine\"]\nENTRYPOINT [\"/e\"]\n", Some("mine"));
        check("FROM busybox\nENTRYPOINT [\"/e\"]\nCMD [\"mine\"]\n", Some("mine"));
        check("FROM busybox AS p\nCMD [\"p\"]\nFROM p\nENTRYPOINT [\"/e\"]\n", None);
        check("FROM busybox AS p\nCMD [\"p\"]\nFROM p\nUSER 1\n", Some("p"));
    }

    #[test]
    fn a085_shell_forms_are_wrapped_in_the_shell_of_the_moment() {
        let text = "FROM scratch\nENTRYPOINT before\nSHELL [\"/bin/busybox\", \"ash\"]\nCMD after\nSHELL [\"/x\"]\n";
        let config = Setup::default().target_of(text).config.config;
        assert_eq!(config.entrypoint.expect("one"), ["/bin/sh", "-c", "before"]);
        assert_eq!(config.cmd.expect("one"), ["/bin/busybox", "ash", "after"]);
        assert_eq!(config.shell, ["/x"]);
    }

    #[test]
    fn a086_an_empty_entrypoint_is_none_and_an_empty_cmd_is_empty() {
        let config =
            Setup::default().target_of("FROM scratch\nENTRYPOINT []\nCMD []\n").config.config;
        assert_eq!((config.entrypoint, config.cmd), (None, Some(vec![])));
    }

    #[test]
    fn a088_expose_splits_after_expansion_and_sorts_as_text() {
        check(
            "FROM scratch\nENV P=\"3000 4000/udp\"\nEXPOSE $P 8000-8001 80/TCP 80\n",
            &["ENV P=3000 4000/udp", "EXPOSE [3000/tcp 4000/udp 80/tcp 80/tcp 8000/tcp 8001/tcp]"],
        );
        check_error("FROM scratch\nEXPOSE http\n", "2: invalid containerPort: http");
    }

    #[test]
    fn a089_a091_what_cannot_be_is_refused() {
        check_error("FROM scratch\nSTOPSIGNAL SIGNOPE\n", "2: invalid signal: SIGNOPE");
        check_error(
            "FROM scratch\nVOLUME $UNSET\n",
            "2: VOLUME specified can not be an empty string",
        );
    }

    #[test]
    fn a092_labels_of_the_command_line_win_and_keys_are_expanded() {
        let mut setup = Setup::default();
        setup.options.labels.insert("v".into(), "cli".into());
        let labels =
            setup.target_of("FROM scratch\nENV K=k\nLABEL v=1 $K.x=2\n").config.config.labels;
        let labels: Vec<_> =
            labels.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        assert_eq!(labels, [("k.x", "2"), ("v", "cli")]);
    }

    #[test]
    fn a063_the_config_of_a_base_is_inherited_but_for_its_triggers() {
        let setup = Setup::default().image(
            "base",
            json!({"Env": ["A=1"], "WorkingDir": "/w", "User": "u", "StopSignal": "SIGQUIT", "OnBuild": ["ENV B=2"]}),
        );
        let config = setup.target_of("FROM base\nWORKDIR sub\n").config.config;
        assert_eq!(config.env, ["A=1", PATH, "B=2"]);
        assert_eq!((config.working_dir.as_str(), config.user.as_str()), ("/w/sub", "u"));
        assert!(config.on_build.is_empty());
    }

    #[test]
    fn a163_remarks_have_buildkits_names() {
        let text = "FROM busybox\nMAINTAINER m\nENV TOKEN=x A=$UNSET\nCMD x\nCMD y\nWORKDIR rel\n";
        let warnings = Setup::default().plan(text).expect("valid").warnings;
        let rules: Vec<_> = warnings.iter().map(|it| it.rule).collect();
        let expected = [
            "MaintainerDeprecated",
            "SecretsUsedInArgOrEnv",
            "UndefinedVar",
            "MultipleInstructionsDisallowed",
            "JSONArgsRecommended",
            "JSONArgsRecommended",
            "WorkdirRelativePath",
        ];
        assert_eq!(rules, expected);
    }
}
