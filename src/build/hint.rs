//! What a failed command's status means, and what people most often confuse when a program is not
//! found.
//!
//! Only confusions that are well known are named: a hint that guesses is worse than none.

use crate::dockerfile::is_slip;

/// Package managers, and how each installs.
const MANAGERS: [(&str, &str); 8] = [
    ("apk", "apk add --no-cache"),
    ("apt-get", "apt-get update && apt-get install -y"),
    ("apt", "apt-get update && apt-get install -y"),
    ("dnf", "dnf install -y"),
    ("microdnf", "microdnf install -y"),
    ("yum", "yum install -y"),
    ("zypper", "zypper install -y"),
    ("pacman", "pacman -Sy --noconfirm"),
];

/// Programs whose package is called so everywhere.
const PACKAGES: [&str; 16] = [
    "bash", "curl", "gcc", "gettext", "git", "gzip", "jq", "make", "patch", "rsync", "tar",
    "unzip", "wget", "xz", "zip", "zsh",
];

/// What can be seen of the image in which a command failed, and of the place where it ran.
pub(crate) struct Image<'a> {
    /// `/etc/os-release`, if there is one.
    pub(crate) os_release: Option<&'a str>,
    /// Whether a program is in one of the usual directories.
    pub(crate) has: &'a dyn Fn(&str) -> bool,
    /// What to do about an owner that there is no id for.
    pub(crate) more_ids: Option<String>,
}

/// What to do about a `command` for a shell that ended with `status` after this output.
pub(crate) fn of_exit(
    command: &str,
    status: i32,
    output: &str,
    image: &Image<'_>,
) -> Option<String> {
    if is_nearly_json(command) {
        let advice = "the command begins like a list, but is no JSON: its strings need straight \
                      double quotes, and commas between them; so a shell got all of it";
        return Some(advice.to_owned());
    }
    if let Some(more_ids) = image.more_ids.as_ref().filter(|_| lacks_id(output)) {
        return Some(format!("this build has no id for that owner: {more_ids}"));
    }
    let meaning = meaning(status)?;
    let more = if status == 127 { not_found(output).map(|it| image.advise(it)) } else { None };
    Some(match more {
        Some(more) => format!("{meaning}; {more}"),
        None => meaning.to_owned(),
    })
}

/// What to do about a program that could not even be started, as the last line of `output` says.
pub(crate) fn of_start(output: &str, image: &Image<'_>) -> Option<String> {
    let is_missing = output.ends_with("executable file not found in $PATH")
        || output.ends_with("no such file or directory");
    if is_missing { not_found(output).map(|it| image.advise(it)) } else { None }
}

/// Whether a command was to be a JSON list, as no shell has a command like `['a', 'b']`.
fn is_nearly_json(command: &str) -> bool {
    let inside = command.trim().strip_prefix('[').and_then(|it| it.strip_suffix(']'));
    inside.is_some_and(|it| it.starts_with(['\'', '"', '\u{2018}', '\u{201c}', '\u{201d}']))
}

/// Whether a file could not be given to an owner: the kernel's answer where the namespace has no such
/// id, in the words of `chown`, `tar`, `install` and the like.
fn lacks_id(output: &str) -> bool {
    output.lines().any(|line| {
        line.trim_end().ends_with("Invalid argument")
            && ["chown", "ownership", "owner"].into_iter().any(|word| line.contains(word))
    })
}

/// What a shell means by its status.
fn meaning(status: i32) -> Option<&'static str> {
    Some(match status {
        126 => {
            "126 means that the program was found but could not be executed: is it executable \
             (`COPY --chmod=755`), and made for this machine?"
        }
        127 => "127 means that a program was not found",
        132 => "132 means that the processor does not know an instruction of the program",
        134 => "134 means that the process aborted itself",
        137 => "137 means that the process was killed, most often because memory ran out",
        139 => "139 means that the process crashed (segmentation fault)",
        143 => "143 means that the process was asked to terminate",
        _ => return None,
    })
}

/// The program that a shell, or coracle itself, says is not there.
fn not_found(output: &str) -> Option<&str> {
    output.lines().rev().find_map(|line| {
        if let Some(rest) = line.strip_prefix("exec \"") {
            return rest.split_once('"').map(|(name, _)| name);
        }
        let line = line.trim_end();
        let before = line
            .strip_suffix(": not found")
            .or_else(|| line.strip_suffix(": command not found"))
            .or_else(|| line.strip_suffix(": No such file or directory"))?;
        // `/bin/sh: 1: name`, `/bin/sh: line 1: name`, `/bin/sh: name`
        let (_, name) = before.rsplit_once(": ")?;
        (!name.is_empty() && !name.contains(char::is_whitespace)).then_some(name)
    })
}

impl Image<'_> {
    fn advise(&self, program: &str) -> String {
        if program.contains('/') {
            return format!(
                "if `{program}` is there, what is missing is the interpreter in its `#!` line \
                 (Windows line ends count as part of it) or its dynamic loader (a glibc program \
                 in Alpine, say)"
            );
        }
        self.confused(program)
            .or_else(|| self.other_manager(program))
            .unwrap_or_else(|| self.to_install(program))
    }

    /// Words of bash, and programs that have another name here.
    fn confused(&self, program: &str) -> Option<String> {
        let advice = match program {
            "sudo" => "a step is root already: leave out `sudo`",
            "source" | "[[" | "pushd" | "popd" | "shopt" if (self.has)("bash") => {
                return Some(format!(
                    "`{program}` is a word of bash: write `SHELL [\"/bin/bash\", \"-c\"]` above, \
                     or say it in the words of /bin/sh"
                ));
            }
            "source" => "`source` is a word of bash: write `. file`",
            "[[" => "`[[` is a word of bash: write `[ ... ]`",
            "python" if (self.has)("python3") => "it is `python3` here",
            "pip" if (self.has)("pip3") => "it is `pip3` here",
            _ => return None,
        };
        Some(advice.to_owned())
    }

    /// The package manager of another distribution, or one with a slip in its name.
    fn other_manager(&self, program: &str) -> Option<String> {
        let Some((_, meant)) = MANAGERS.iter().find(|(name, _)| *name == program) else {
            let (near, _) = MANAGERS.iter().find(|(name, _)| is_slip(program, name))?;
            return (self.has)(near).then(|| format!("did you mean `{near}`?"));
        };
        Some(match self.manager() {
            Some((_, install)) if install != *meant => {
                let name = self.field("NAME").unwrap_or("this image");
                format!("{name} has no `{program}`: write `{install} PACKAGE`")
            }
            // A distroless image has the file of its distribution, and nothing of it besides.
            _ => "the image may have no package manager at all: install in an earlier stage, and \
                  `COPY --from` it"
                .to_owned(),
        })
    }

    fn to_install(&self, program: &str) -> String {
        let manager = self.manager().filter(|_| PACKAGES.contains(&program));
        match (program, manager) {
            ("bash", Some((_, install))) => {
                format!("use `/bin/sh`, or install it before: `RUN {install} bash`")
            }
            ("bash", None) => "the image has no bash: use `/bin/sh`".to_owned(),
            (_, Some((_, install))) => format!("install it before: `{install} {program}`"),
            (_, None) => "is it installed in an earlier step?".to_owned(),
        }
    }

    /// The image's package manager: what its distribution has.
    fn manager(&self) -> Option<(&'static str, &'static str)> {
        let (id, like) = (self.field("ID")?, self.field("ID_LIKE").unwrap_or_default());
        let names = std::iter::once(id).chain(like.split(' '));
        let name = names.into_iter().find_map(|name| match name {
            "alpine" | "wolfi" | "chainguard" => Some("apk"),
            "debian" | "ubuntu" => Some("apt-get"),
            "fedora" | "rhel" | "centos" | "rocky" | "almalinux" | "amzn" => {
                let managers = ["dnf", "microdnf", "yum"];
                Some(managers.into_iter().find(|it| (self.has)(it)).unwrap_or("dnf"))
            }
            "suse" | "opensuse" | "sles" => Some("zypper"),
            "arch" | "archarm" => Some("pacman"),
            _ => None,
        })?;
        MANAGERS.iter().find(|(it, _)| *it == name).copied()
    }

    fn field(&self, key: &str) -> Option<&str> {
        let line = |line: &'_ str| -> bool { line.split_once('=').is_some_and(|it| it.0 == key) };
        let found = self.os_release?.lines().find(|it| line(it))?;
        Some(found.split_once('=')?.1.trim().trim_matches(['"', '\'']))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_that_is_missing_is_found_in_what_shells_say() {
        let check = |output: &str, expected| assert_eq!(not_found(output), expected, "{output}");
        check("/bin/sh: 1: aptget: not found", Some("aptget"));
        check("a\n/bin/sh: apt-get: not found\n", Some("apt-get"));
        check("/bin/bash: line 1: apk: command not found", Some("apk"));
        check("/bin/sh: 1: [[: not found", Some("[["));
        check("exec \"bash\": executable file not found in $PATH", Some("bash"));
        check("/bin/sh: ./x.sh: not found", Some("./x.sh"));
        check("404: page: was not found", None);
        check("", None);
    }

    #[test]
    fn well_known_confusions_are_named() {
        const ALPINE: &str = "NAME=\"Alpine Linux\"\nID=alpine\n";
        const DEBIAN: &str = "PRETTY_NAME=\"Debian 12\"\nNAME=\"Debian GNU/Linux\"\nID=debian\n";
        const ROCKY: &str = "NAME=\"Rocky Linux\"\nID=\"rocky\"\nID_LIKE=\"rhel centos fedora\"\n";
        let check = |release: &str, has: &[&str], program: &str, expected: &str| {
            let has = |name: &str| has.contains(&name);
            let os_release = Some(release).filter(|it| !it.is_empty());
            let output = format!("/bin/sh: {program}: not found");
            let image = Image { os_release, has: &has, more_ids: None };
            let hint = of_exit(program, 127, &output, &image);
            let hint = hint.unwrap_or_default();
            assert!(hint.contains(expected), "{program}: {hint}");
        };
        check(ALPINE, &["apk"], "apt-get", "Alpine Linux has no `apt-get`: write `apk add");
        check(ALPINE, &[], "apt-get", "Alpine Linux has no `apt-get`");
        check(ALPINE, &["apk"], "bash", "`RUN apk add --no-cache bash`");
        check(ALPINE, &["apk"], "curl", "`apk add --no-cache curl`");
        check(DEBIAN, &["apt-get"], "apk", "Debian GNU/Linux has no `apk`: write `apt-get update");
        check(DEBIAN, &["apt-get"], "aptget", "did you mean `apt-get`?");
        check(DEBIAN, &["apt-get"], "sudo", "leave out `sudo`");
        check(DEBIAN, &["apt-get", "bash"], "[[", "SHELL [\"/bin/bash\", \"-c\"]");
        check(ALPINE, &["apk"], "source", "write `. file`");
        check(DEBIAN, &["python3"], "python", "it is `python3` here");
        check(ROCKY, &["microdnf"], "apt-get", "microdnf install -y PACKAGE");
        check(DEBIAN, &[], "apt-get", "no package manager at all");
        check("", &[], "bash", "use `/bin/sh`");
        check("", &[], "frobnicate", "installed in an earlier step?");
        check(ALPINE, &["apk"], "./run.sh", "interpreter");
    }

    #[test]
    fn a_program_that_does_not_start_has_no_status_to_explain() {
        let image = Image { os_release: None, has: &|_| false, more_ids: None };
        let hint = of_start("exec \"bash\": executable file not found in $PATH", &image);
        assert_eq!(hint.as_deref(), Some("the image has no bash: use `/bin/sh`"));
        assert_eq!(of_start("exec \"/x\": permission denied", &image), None);
    }

    #[test]
    fn a_list_that_is_no_json_is_told_from_a_test() {
        let image = Image { os_release: None, has: &|_| false, more_ids: None };
        let check = |command: &str, expected: bool| {
            let hint = of_exit(command, 1, "", &image).unwrap_or_default();
            assert_eq!(hint.contains("double quotes"), expected, "{command}");
        };
        check("['echo', 'x']", true);
        check(" [“echo”, “x”] ", true);
        check("[\"a\" \"b\"]", true);
        check("[ 'a' = 'b' ]", false);
        check("[ -f /x ] && y", false);
        check("[[ a == b ]]", false);
    }

    #[test]
    fn an_owner_without_an_id_is_explained_where_ids_are_few() {
        let check = |line: &str, more_ids: Option<&str>, expected: bool| {
            let more_ids = more_ids.map(str::to_owned);
            let image = Image { os_release: None, has: &|_| false, more_ids };
            let hint = of_exit("x", 1, line, &image);
            assert_eq!(hint.is_some_and(|it| it.contains("more of them")), expected, "{line}");
        };
        let more = Some("get more of them");
        check("chown: /d/y: Invalid argument", more, true);
        check("chown: changing ownership of '/d/y': Invalid argument", more, true);
        check("tar: x: Cannot change ownership to uid 70000: Invalid argument\nend", more, true);
        check("mount: Invalid argument", more, false);
        check("chown: /d/y: Invalid argument", None, false);
    }

    #[test]
    fn statuses_are_explained_and_ordinary_ones_are_not() {
        let image = Image { os_release: None, has: &|_| false, more_ids: None };
        let check = |status, expected: Option<&str>| {
            let hint = of_exit("x", status, "", &image);
            assert_eq!(hint.is_some(), expected.is_some(), "{status}");
            assert!(hint.unwrap_or_default().contains(expected.unwrap_or_default()), "{status}");
        };
        check(1, None);
        check(126, Some("executable"));
        check(127, Some("not found"));
        check(137, Some("memory"));
        check(139, Some("segmentation fault"));
        check(143, Some("terminate"));
    }
}
