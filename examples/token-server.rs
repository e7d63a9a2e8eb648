//! A token server for registries with `auth: token`, as the demonstration needs one.
//!
//! `token-server ADDRESS CERTIFICATE USERS` listens on ADDRESS, writes the certificate for the
//! registry's `rootcertbundle` to CERTIFICATE, and reads lines `NAME PASSWORD ACTIONS PREFIX` from
//! the file USERS; a line with `-` in place of name and password, as in `- - pull library/`, is for
//! anonymous clients. It runs until it is killed. The names of service and issuer are those of
//! `tests/integration/support/token.rs`.

use std::path::Path;
use std::process::ExitCode;

#[path = "../tests/integration/support"]
mod support {
    pub(crate) mod serve;
    #[allow(dead_code, reason = "the tests use more of it")]
    pub(crate) mod token;
}

use crate::support::token::TokenServer;
use crate::support::token::User;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [address, certificate, users] = arguments.as_slice() else {
        return complain("usage: token-server ADDRESS CERTIFICATE USERS");
    };
    let users = match std::fs::read_to_string(users) {
        Ok(text) => text.lines().filter_map(user).collect(),
        Err(error) => return complain(&format!("{users}: {error}")),
    };
    let server = match TokenServer::start(address, users) {
        Ok(server) => server,
        Err(error) => return complain(&format!("{address}: {error}")),
    };
    if let Err(error) = server.write_certificate(Path::new(certificate)) {
        return complain(&format!("{certificate}: {error}"));
    }
    loop {
        std::thread::park();
    }
}

/// `NAME PASSWORD ACTIONS PREFIX`; the prefix may be missing.
fn user(line: &str) -> Option<User> {
    let mut words = line.split_whitespace();
    let (name, password, actions) = (words.next()?, words.next()?, words.next()?);
    let nobody = name == "-";
    let or_empty = |word| if nobody { "" } else { word };
    Some(User::new(or_empty(name), or_empty(password), actions, words.next().unwrap_or_default()))
}

#[expect(clippy::print_stderr, reason = "this is a program")]
fn complain(message: &str) -> ExitCode {
    eprintln!("token-server: {message}");
    ExitCode::FAILURE
}
