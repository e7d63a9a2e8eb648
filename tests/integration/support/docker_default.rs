//! Docker's default seccomp profile and capabilities, from `testdata/places/docker-default.txt`, as
//! parts of an OCI runtime configuration.

use std::collections::BTreeMap;

use serde_json::Value;
use serde_json::json;

/// The lists in the file, by the names in brackets.
#[derive(Debug)]
pub(crate) struct DockerDefault(BTreeMap<String, Vec<String>>);

impl DockerDefault {
    /// Reads the file.
    pub(crate) fn read() -> Self {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/places/docker-default.txt");
        let text = std::fs::read_to_string(path).expect("the file is in the repository");
        let mut lists: BTreeMap<String, Vec<String>> = BTreeMap::new();
        let mut name = String::new();
        for line in text.lines().map(str::trim).filter(|line| !line.starts_with('#')) {
            if let Some(inner) = line.strip_prefix('[').and_then(|it| it.strip_suffix(']')) {
                inner.clone_into(&mut name);
            } else {
                let words = line.split_ascii_whitespace().map(str::to_owned);
                lists.entry(name.clone()).or_default().extend(words);
            }
        }
        Self(lists)
    }

    /// One of the lists.
    pub(crate) fn list(&self, name: &str) -> &[String] {
        self.0.get(name).unwrap_or_else(|| panic!("the file has no [{name}]"))
    }

    /// The names of the capabilities, as OCI has them.
    pub(crate) fn capabilities(&self) -> Vec<String> {
        self.list("capabilities").iter().map(|name| format!("CAP_{name}")).collect()
    }

    /// The filter for a container with these capabilities.
    pub(crate) fn seccomp(&self, capabilities: &[String]) -> Value {
        let allow = |names: &[String], arguments: Value| json!({"names": names, "action": "SCMP_ACT_ALLOW", "args": arguments});
        let names = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
        let mut rules = vec![allow(self.list("system-calls"), json!([]))];
        if capabilities.iter().any(|name| name == "CAP_SYS_CHROOT") {
            rules.push(allow(self.list("with SYS_CHROOT"), json!([])));
        }
        let mask = number(&self.list("clone-without")[0]);
        let none_of =
            json!([{"index": 0, "value": mask, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ"}]);
        rules.push(allow(&names(&["clone"]), none_of));
        for value in self.list("personality-of") {
            let is = json!([{"index": 0, "value": number(value), "op": "SCMP_CMP_EQ"}]);
            rules.push(allow(&names(&["personality"]), is));
        }
        let families: Vec<u64> =
            self.list("socket-other-than").iter().map(|it| number(it)).collect();
        // libseccomp takes one comparison of each argument in a rule, so: less than the first, between
        // the two, more than the last.
        let [first, last] = families[..] else { panic!("two families are refused") };
        let sockets = names(&["socket"]);
        let compare = |op: &str, value: u64| json!([{"index": 0, "value": value, "op": op}]);
        rules.push(allow(&sockets, compare("SCMP_CMP_LT", first)));
        for between in first + 1..last {
            rules.push(allow(&sockets, compare("SCMP_CMP_EQ", between)));
        }
        rules.push(allow(&sockets, compare("SCMP_CMP_GT", last)));
        rules.push(json!({
            "names": self.list("missing"), "action": "SCMP_ACT_ERRNO", "errnoRet": libc_enosys(),
        }));
        let architecture =
            if cfg!(target_arch = "aarch64") { "SCMP_ARCH_AARCH64" } else { "SCMP_ARCH_X86_64" };
        json!({
            "defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 1,
            "architectures": [architecture], "syscalls": rules,
        })
    }

    /// Which devices a container may use.
    pub(crate) fn devices(&self) -> Value {
        let mut rules = vec![json!({"allow": false, "access": "rwm"})];
        for device in self.list("devices") {
            let (major, minor) = device.split_once(':').expect("a device is MAJOR:MINOR");
            let (major, minor) = (number(major), number(minor));
            rules.push(json!({
                "allow": true, "type": "c", "major": major, "minor": minor, "access": "rwm",
            }));
        }
        // Making is one thing, and using another.
        rules.push(json!({"allow": true, "type": "c", "access": "m"}));
        rules.push(json!({"allow": true, "type": "b", "access": "m"}));
        rules.push(json!({"allow": true, "type": "c", "major": 136, "access": "rwm"}));
        json!(rules)
    }
}

/// The same profile, but for some calls it kills the process.
pub(crate) fn kill_on(profile: &mut Value, names: &[&str]) {
    let rules = profile["syscalls"].as_array_mut().expect("a profile has rules");
    for rule in rules.iter_mut() {
        let allowed = rule["names"].as_array_mut().expect("a rule has names");
        allowed.retain(|name| !names.iter().any(|it| name == it));
    }
    rules.retain(|rule| rule["names"].as_array().is_some_and(|names| !names.is_empty()));
    rules.push(json!({"names": names, "action": "SCMP_ACT_KILL_PROCESS"}));
}

fn number(text: &str) -> u64 {
    let hexadecimal = text.strip_prefix("0x").map(|digits| u64::from_str_radix(digits, 16));
    hexadecimal.unwrap_or_else(|| text.parse()).expect("a number")
}

fn libc_enosys() -> i32 {
    rustix::io::Errno::NOSYS.raw_os_error()
}
