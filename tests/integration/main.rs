//! Runs the program against real registries, as the users and on the machines that matter.
//!
//! A module per capability; `support` starts what they need. What cannot run here is skipped with
//! its reason, or fails with `CORACLE_MUST_WORK=1`.

mod support;

mod add_remote;
mod checks;
mod contexts;
mod dockerfile_errors;
#[cfg(target_arch = "x86_64")]
mod emulate;
mod files;
mod founding_example;
mod hostile;
mod hostile_step;
mod interruption;
mod isolation;
mod lazy;
mod limits;
mod login;
mod machine;
mod mounts;
mod network;
mod outputs;
mod places;
mod proof_of_support;
mod push;
mod registry_commands;
mod registry_faults;
mod registry_interop;
mod registry_resume;
mod registry_settings;
mod registry_tls;
mod registry_tokens;
mod reproducibility;
mod run;
mod settings;
mod store;
mod workloads;
