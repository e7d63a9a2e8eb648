//! The instructions that change the config: all but `RUN`, `COPY` and `ADD` (rules A070 to A093).

use crate::dockerfile::{
    ArgDeclaration, ArgInstruction, CommandForm, CommandInstruction, HealthcheckInstruction,
    PairsInstruction, ShellInstruction, TextInstruction, Word, WordInstruction, WordsInstruction,
};
use crate::oci::{Empty, Healthcheck, ImagePath};
use crate::plan::scope::set_in_config;
use crate::plan::stage::StagePlanner;
use crate::plan::{PlanError, PlanErrorKind, StepKind, WorkdirStep};
use crate::plan::{expose, go_format, history, lint, signal};

impl StagePlanner<'_> {
    /// `ENV`: all values see the variables as they were before the line (rule A022).
    pub(crate) fn env(&mut self, it: &PairsInstruction) -> Result<(), PlanError> {
        let pairs = self.expand_pairs(&it.pairs)?;
        for (name, value) in &pairs {
            self.warn_of_secret("ENV", name);
            self.state.scope.set(name, value);
            set_in_config(&mut self.state.config.config.env, name, value);
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
            self.warn_of_secret("ARG", &arg.name.value);
            let value = self.arg_value(arg)?;
            if let Some(value) = &value {
                self.state.scope.set(&arg.name.value, value);
            }
            args.push((arg.name.value.clone(), value));
        }
        self.record(history::arg(&args));
        self.state.args.extend(args);
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
        self.use_once("CMD");
        let args = self.command("CMD", &it.command);
        self.record(format!("CMD {}", go_format::quoted_list(&args)));
        let config = &mut self.state.config.config;
        config.args_escaped = true;
        config.cmd = Some(args);
    }

    /// `ENTRYPOINT`: a `CMD` that is not this stage's own goes away (rules A078, A084).
    pub(crate) fn entrypoint(&mut self, it: &CommandInstruction) {
        self.use_once("ENTRYPOINT");
        let args = self.command("ENTRYPOINT", &it.command);
        self.record(format!("ENTRYPOINT {}", go_format::quoted_list(&args)));
        let has_own_cmd = self.used.iter().any(|(keyword, _)| *keyword == "CMD");
        let config = &mut self.state.config.config;
        config.entrypoint = Some(args).filter(|args| !args.is_empty());
        if !has_own_cmd {
            config.cmd = None;
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
        self.use_once("HEALTHCHECK");
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
                .expand_and_split(&|name| self.lookup(word, name))
                .map_err(|error| PlanErrorKind::from(error).at(word.span))?;
            for port in ports {
                let parsed =
                    expose::parse(&port).map_err(|it| PlanErrorKind::from(it).at(word.span))?;
                if let Some(protocol) = &parsed.odd_protocol {
                    self.warn("ExposeProtoCasing", lint::protocol_casing(protocol));
                }
                if parsed.has_host {
                    self.warn("ExposeInvalidFormat", lint::expose_host(&port));
                }
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
        self.warn("MaintainerDeprecated", lint::MAINTAINER.to_owned());
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
            self.warn("WorkdirRelativePath", lint::relative_workdir(&written));
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
            self.step(created_by, &title, StepKind::Workdir(WorkdirStep { path, user }));
        }
        Ok(())
    }

    /// The working directory in force.
    pub(crate) fn cwd(&self) -> String {
        let written = &self.state.config.config.working_dir;
        if written.is_empty() { "/".to_owned() } else { written.clone() }
    }

    fn use_once(&mut self, keyword: &'static str) {
        let span = self.span;
        match self.used.iter_mut().find(|(used, _)| *used == keyword) {
            Some((_, earlier)) => {
                let earlier = std::mem::replace(earlier, span);
                self.warnings.push(lint::used_twice(keyword, earlier));
            }
            None => self.used.push((keyword, span)),
        }
    }

    fn warn_of_secret(&mut self, keyword: &str, name: &str) {
        if lint::looks_secret(name) {
            self.warn("SecretsUsedInArgOrEnv", lint::secret(keyword, name));
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
}
