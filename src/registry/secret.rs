//! Secrets, and what a user is known by at a registry.

use std::fmt;

/// Text that is never shown: its `Debug` is `…` (rule B018).
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Takes a secret in custody.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The secret itself, for the wire or a file of mode 0600. Nowhere else.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

/// What a user is known by at a registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Credential {
    /// A user name and a password, or a token in its place.
    Password {
        /// The user name.
        username: String,
        /// The password.
        password: Secret,
    },
    /// A refresh token, which the token server turns into access tokens (rule B026).
    IdentityToken {
        /// The user name that was stored with it; often empty or `<token>`.
        username: String,
        /// The token.
        token: Secret,
    },
    /// A token that the registry itself takes (rule B039).
    RegistryToken(Secret),
}

impl Credential {
    /// A user name and a password.
    pub fn basic(username: impl Into<String>, password: impl Into<String>) -> Self {
        Self::Password { username: username.into(), password: Secret::new(password) }
    }

    /// Who it is, without what proves it.
    pub fn describe(&self) -> String {
        match self {
            Self::Password { username, .. } => format!("user {username}"),
            Self::IdentityToken { .. } => "an identity token".to_owned(),
            Self::RegistryToken(_) => "a registry token".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn b018_debug_shows_no_secret() {
        let credentials = [
            Credential::Password { username: "u".into(), password: Secret::new("hunter2") },
            Credential::IdentityToken { username: String::new(), token: Secret::new("hunter2") },
            Credential::RegistryToken(Secret::new("hunter2")),
        ];
        assert!(!format!("{credentials:?}").contains("hunter2"));
    }
}
