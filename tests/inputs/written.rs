//! Instructions as the tables write them: the keyword, flags, and each operand in brackets.

use coracle::dockerfile::{
    ArgInstruction, CommandForm, CopyInstruction, CopySource, HealthcheckInstruction, Heredoc,
    Instruction, PairsInstruction, RunInstruction, Word,
};

/// One instruction.
pub(crate) fn instruction(it: &Instruction) -> String {
    match it {
        Instruction::Add(it) => format!("ADD{}", copy(it)),
        Instruction::Arg(it) => format!("ARG{}", args(it)),
        Instruction::Cmd(it) => format!("CMD {}", command(&it.command)),
        Instruction::Copy(it) => format!("COPY{}", copy(it)),
        Instruction::Entrypoint(it) => format!("ENTRYPOINT {}", command(&it.command)),
        Instruction::Env(it) => format!("ENV{}", pairs(it)),
        Instruction::Expose(it) => format!("EXPOSE{}", words(&it.words)),
        Instruction::Healthcheck(it) => format!("HEALTHCHECK {}", healthcheck(it)),
        Instruction::Label(it) => format!("LABEL{}", pairs(it)),
        Instruction::Maintainer(it) => format!("MAINTAINER [{}]", it.text),
        Instruction::OnBuild(it) => format!("ONBUILD [{}]", it.text),
        Instruction::Run(it) => format!("RUN {}", run(it)),
        Instruction::Shell(it) => {
            format!("SHELL {}", command(&CommandForm::Exec(it.shell.clone())))
        }
        Instruction::StopSignal(it) => format!("STOPSIGNAL [{}]", it.word.raw),
        Instruction::User(it) => format!("USER [{}]", it.word.raw),
        Instruction::Volume(it) => format!("VOLUME{}", words(&it.words)),
        Instruction::Workdir(it) => format!("WORKDIR [{}]", it.word.raw),
    }
}

fn command(command: &CommandForm) -> String {
    match command {
        CommandForm::Shell(text) => format!("[{text}]"),
        CommandForm::Exec(args) => {
            let quote = |it: &String| serde_json::to_string(it).expect("a string is JSON");
            format!("[{}]", args.iter().map(quote).collect::<Vec<_>>().join(", "))
        }
    }
}

fn words(words: &[Word]) -> String {
    words.iter().map(|word| format!(" [{}]", word.raw)).collect()
}

fn args(it: &ArgInstruction) -> String {
    let arg = |name: &str, default: Option<&Word>| match default {
        Some(default) => format!(" [{name}]=[{}]", default.raw),
        None => format!(" [{name}]"),
    };
    it.args.iter().map(|it| arg(&it.name.value, it.default.as_ref())).collect()
}

fn pairs(it: &PairsInstruction) -> String {
    it.pairs.iter().map(|(name, value)| format!(" [{}]=[{}]", name.raw, value.raw)).collect()
}

fn heredoc(it: &Heredoc) -> String {
    let tabs = if it.strip_tabs { "-" } else { "" };
    let quoted = if it.expand { "" } else { "'" };
    format!(" <<{tabs}{quoted}{}:{}", it.name, it.body)
}

fn run(it: &RunInstruction) -> String {
    let mut text = String::new();
    for mount in &it.mounts {
        text += &format!("mount=[{}] ", mount.raw);
    }
    for (name, value) in [("network", &it.network), ("security", &it.security)] {
        if let Some(value) = value {
            text += &format!("{name}=[{}] ", value.value);
        }
    }
    text += &command(&it.command);
    it.heredocs.iter().map(heredoc).fold(text, |text, heredoc| text + &heredoc)
}

fn copy(it: &CopyInstruction) -> String {
    let mut text = String::new();
    let from = it.from.as_ref().map(|it| &it.value);
    let word = |it: &'static str, word: &Option<Word>| word.clone().map(|word| (it, word.raw));
    let texts = [
        from.map(|it| ("from", it.clone())),
        word("chown", &it.chown),
        word("chmod", &it.chmod),
        word("checksum", &it.checksum),
    ];
    for (name, value) in texts.into_iter().flatten() {
        text += &format!(" {name}=[{value}]");
    }
    for (name, flag) in [("link", &it.link), ("parents", &it.parents), ("unpack", &it.unpack)] {
        if let Some(flag) = flag {
            text += &format!(" {name}={}", flag.value);
        }
    }
    for exclude in &it.excludes {
        text += &format!(" exclude=[{}]", exclude.value);
    }
    for source in &it.sources {
        text += &match source {
            CopySource::Path(word) => format!(" [{}]", word.raw),
            CopySource::Heredoc(it) => heredoc(it),
        };
    }
    format!("{text} [{}]", it.destination.raw)
}

fn healthcheck(it: &HealthcheckInstruction) -> String {
    let Some(check) = &it.check else { return "NONE".to_owned() };
    let mut text = String::new();
    for (name, time) in [("interval", check.interval), ("timeout", check.timeout)] {
        if !time.is_zero() {
            text += &format!("{name}={}s ", time.as_secs());
        }
    }
    if check.retries != 0 {
        text += &format!("retries={} ", check.retries);
    }
    text + &command(&check.command)
}
