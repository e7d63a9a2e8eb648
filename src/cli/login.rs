//! `coracle login` and `coracle logout`: credentials, checked before they are kept.

use std::io::Read as _;
use std::io::Write as _;

use crate::cli::args::LoginArguments;
use crate::cli::args::LogoutArguments;
use crate::cli::diagnostic::Diagnostic;
use crate::cli::diagnostic::Failure;
use crate::cli::exit::Exit;
use crate::cli::failure;
use crate::cli::session::Session;
use crate::cli::session::block_on;
use crate::registry;
use crate::registry::Credential;
use crate::registry::Keeper;
use crate::transfer;

/// Passwords beyond this size are a mistake.
const PASSWORD_LIMIT: u64 = 64 << 10;

/// Checks the credentials with the registry, then stores them.
pub(crate) fn login(session: &Session<'_>, arguments: &LoginArguments) -> Result<(), Failure> {
    if arguments.get_login {
        return get_login(session, &arguments.registry);
    }
    let password = password()?;
    let username = arguments.username.as_deref().unwrap_or_default();
    let credential = Credential::basic(username, &password);
    let client = session.client()?;
    block_on(&session.cancel, async {
        let checked = transfer::check_login(&client, &arguments.registry, &credential).await;
        checked.map_err(|error| failure::transfer(&error))
    })?;
    let path = config_path(session)?;
    let stored = registry::login(&path, &arguments.registry, &credential);
    let keeper = match stored.map_err(|error| failure::credential(&error))? {
        Keeper::File(path) => path.display().to_string(),
        Keeper::Helper(name) => format!("docker-credential-{name}"),
    };
    say(&format!("logged in to {}; the credentials are in {keeper}\n", arguments.registry));
    Ok(())
}

/// Prints who is logged in, for scripts.
fn get_login(session: &Session<'_>, host: &str) -> Result<(), Failure> {
    let found = session.credentials().lookup(host, "");
    let username = match found.map_err(|error| failure::credential(&error))? {
        Some(
            Credential::Password { username, .. } | Credential::IdentityToken { username, .. },
        ) => username,
        Some(Credential::RegistryToken(_)) => "<token>".to_owned(),
        None => {
            let title = format!("nobody is logged in to {host}");
            return Err(Failure::new(Exit::Registry, Diagnostic::new(title)));
        }
    };
    // Nobody is left to tell when standard output is closed.
    let _ = writeln!(std::io::stdout().lock(), "{username}");
    Ok(())
}

/// Forgets the credentials.
pub(crate) fn logout(session: &Session<'_>, arguments: &LogoutArguments) -> Result<(), Failure> {
    let path = config_path(session)?;
    let removed = registry::logout(&path, &arguments.registry);
    let removed = removed.map_err(|error| failure::credential(&error))?;
    if removed {
        say(&format!("removed the credentials of {}\n", arguments.registry));
    } else {
        say(&format!("there were no credentials of {}\n", arguments.registry));
    }
    Ok(())
}

fn config_path(session: &Session<'_>) -> Result<std::path::PathBuf, Failure> {
    session.credentials().docker_config.ok_or_else(|| {
        let title = "there is no place for credentials: neither HOME nor DOCKER_CONFIG is set";
        Failure::new(Exit::Usage, Diagnostic::new(title))
    })
}

/// The first line of standard input, without its newline.
fn password() -> Result<String, Failure> {
    let usage = |title: &str| Failure::new(Exit::Usage, Diagnostic::new(title));
    let mut text = String::new();
    let read = std::io::stdin().lock().take(PASSWORD_LIMIT).read_to_string(&mut text);
    read.map_err(|_| usage("the password on standard input is not text"))?;
    let password = text.trim_end_matches(['\r', '\n']);
    if password.is_empty() {
        return Err(usage("there is no password on standard input"));
    }
    Ok(password.to_owned())
}

fn say(text: &str) {
    // Nobody is left to tell when standard error is closed.
    let _ = std::io::stderr().lock().write_all(text.as_bytes());
}
