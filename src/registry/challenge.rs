//! `WWW-Authenticate`: how a registry says what it wants to see.
//!
//! Pure, so that every odd header a real registry sends is a line in a table. Rules B021 to B023.
//!
//! Spec: RFC 9110 section 11,
//! <https://github.com/distribution/distribution/blob/main/docs/content/spec/auth/token.md>.

/// One challenge of a kind that coracle can answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Challenge {
    /// User name and password with every request.
    Basic,
    /// A token from a token server.
    Bearer(BearerChallenge),
}

/// What a `Bearer` challenge says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BearerChallenge {
    /// The token server. May be missing, which leaves nobody to ask (rule B023).
    pub realm: Option<String>,
    /// How the token server knows the registry.
    pub service: Option<String>,
    /// What a token must allow.
    pub scope: Option<String>,
    /// Why the token sent was refused, such as `insufficient_scope`.
    pub error: Option<String>,
}

impl Challenge {
    /// The first challenge that coracle can answer, out of the values of all headers (rule B021).
    pub fn choose<'a>(headers: impl IntoIterator<Item = &'a str>) -> Option<Self> {
        headers.into_iter().flat_map(parse).find_map(|raw| raw.understand())
    }
}

/// A challenge of any scheme.
#[derive(Debug, Default)]
struct Raw {
    scheme: String,
    parameters: Vec<(String, String)>,
}

impl Raw {
    fn understand(&self) -> Option<Challenge> {
        match self.scheme.as_str() {
            "basic" => Some(Challenge::Basic),
            "bearer" => Some(Challenge::Bearer(BearerChallenge {
                realm: self.parameter("realm"),
                service: self.parameter("service"),
                scope: self.parameter("scope"),
                error: self.parameter("error"),
            })),
            _ => None,
        }
    }

    /// The first parameter of that name, unless it is empty.
    fn parameter(&self, name: &str) -> Option<String> {
        let (_, value) = self.parameters.iter().find(|(key, _)| key == name)?;
        Some(value.clone()).filter(|value| !value.is_empty())
    }
}

/// Reads one header, which may hold several challenges. What is malformed ends it.
fn parse(header: &str) -> Vec<Raw> {
    let mut challenges: Vec<Raw> = Vec::new();
    let mut rest = header;
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        let Some((token, after)) = token(rest) else { return challenges };
        match (after.trim_start().strip_prefix('='), challenges.last_mut()) {
            (Some(value), Some(challenge)) => {
                let Some((value, after)) = value_of(value.trim_start()) else {
                    return challenges;
                };
                challenge.parameters.push((token.to_ascii_lowercase(), value));
                rest = after;
            }
            // A parameter that belongs to no scheme.
            (Some(_), None) => return challenges,
            (None, _) => {
                let scheme = token.to_ascii_lowercase();
                challenges.push(Raw { scheme, parameters: Vec::new() });
                rest = skip_token68(after);
            }
        }
    }
}

/// Reads a token: the name of a scheme or a parameter.
fn token(text: &str) -> Option<(&str, &str)> {
    let is_token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
    let end = text.find(|c| !is_token(c)).unwrap_or(text.len());
    (end > 0).then(|| text.split_at(end))
}

/// Reads a quoted string, or everything up to the next comma or blank: some registries leave out
/// the quotes around a URL.
fn value_of(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([',', ' ', '\t']).unwrap_or(text.len());
        return Some((text[..end].to_owned(), &text[end..]));
    };
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((index, character)) = characters.next() {
        match character {
            '"' => return Some((value, &quoted[index + 1..])),
            '\\' => value.push(characters.next()?.1),
            other => value.push(other),
        }
    }
    None
}

/// Skips the `YII…==` that `Negotiate` and `NTLM` put where others have parameters.
fn skip_token68(text: &str) -> &str {
    let inner = text.trim_start_matches([' ', '\t']);
    let is_token68 = |c: char| c.is_ascii_alphanumeric() || "-._~+/".contains(c);
    let after = inner.trim_start_matches(is_token68).trim_start_matches('=');
    let ends = after.trim_start_matches([' ', '\t']);
    if ends.is_empty() || ends.starts_with(',') { after } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(headers: &[&str], expected: Option<Challenge>) {
        assert_eq!(Challenge::choose(headers.iter().copied()), expected, "{headers:?}");
    }

    fn bearer(realm: &str, service: &str, scope: &str, error: &str) -> Option<Challenge> {
        let some = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
        Some(Challenge::Bearer(BearerChallenge {
            realm: some(realm),
            service: some(service),
            scope: some(scope),
            error: some(error),
        }))
    }

    #[test]
    fn b022_what_real_registries_send_is_understood() {
        check(
            &["Bearer realm=\"https://auth.docker.io/token\",service=\"registry.docker.io\",\
               scope=\"repository:library/python:pull\""],
            bearer(
                "https://auth.docker.io/token",
                "registry.docker.io",
                "repository:library/python:pull",
                "",
            ),
        );
        check(
            &[
                "Bearer realm=\"https://ghcr.io/token\",service=\"ghcr.io\",scope=\"repository:user/image:pull\"",
            ],
            bearer("https://ghcr.io/token", "ghcr.io", "repository:user/image:pull", ""),
        );
        check(
            &["Bearer realm=\"https://gitlab.com/jwt/auth\",service=\"container_registry\",\
               scope=\"repository:a:push,pull\",error=\"insufficient_scope\""],
            bearer(
                "https://gitlab.com/jwt/auth",
                "container_registry",
                "repository:a:push,pull",
                "insufficient_scope",
            ),
        );
        check(
            &[
                "Bearer realm=\"https://quay.io/v2/auth\", service=\"quay.io\" , error=\"invalid_token\"",
            ],
            bearer("https://quay.io/v2/auth", "quay.io", "", "invalid_token"),
        );
        let ecr = "Basic realm=\"https://1.dkr.ecr.us-east-1.amazonaws.com/\",service=\"ecr.amazonaws.com\"";
        check(&[ecr], Some(Challenge::Basic));
        check(&["BASIC realm=\"Sonatype Nexus Repository Manager\""], Some(Challenge::Basic));
    }

    #[test]
    fn b021_the_first_supported_of_several_is_chosen() {
        check(&["Negotiate", "Basic realm=\"x\""], Some(Challenge::Basic));
        check(&["Negotiate YIIabc/+==, Basic realm=\"x\""], Some(Challenge::Basic));
        check(&["NTLM, Negotiate, bearer realm=a"], bearer("a", "", "", ""));
        check(&["Digest realm=\"d\", nonce=\"n,o\", Basic realm=\"b\""], Some(Challenge::Basic));
        check(&["Basic realm=\"b\", Bearer realm=\"r\""], Some(Challenge::Basic));
        check(&["Bearer realm=\"r\", Basic realm=\"b\""], bearer("r", "", "", ""));
        check(&["Negotiate"], None);
        check(&[], None);
    }

    #[test]
    fn b022_odd_grammar() {
        check(&["bEaReR ReAlM = \"r\" , SERVICE= s"], bearer("r", "s", "", ""));
        check(&[r#"Bearer realm="a\"b\\c",service="s""#], bearer("a\"b\\c", "s", "", ""));
        check(&["Bearer realm=https://a/b?c=d,service=s"], bearer("https://a/b?c=d", "s", "", ""));
        check(&["Bearer realm=\"r\",service=\"unterminated"], bearer("r", "", "", ""));
        check(&["Bearer realm=\"r\",,;;service=x"], bearer("r", "", "", ""));
        check(&["Bearer realm=\"r\" service=\"s\""], bearer("r", "s", "", ""));
        check(&["Bearer realm=\"r\",error=\"é\""], bearer("r", "", "", "é"));
        check(&["realm=\"r\""], None);
        check(&["", ",,,", "\"", "=", "Bearer realm=\"r\""], bearer("r", "", "", ""));
        check(&["Bearer realm=\"r\\"], bearer("", "", "", ""));
    }

    #[test]
    fn b023_realm_may_be_missing_which_is_for_others_to_report() {
        check(&["Bearer"], bearer("", "", "", ""));
        check(&["Bearer realm=\"\""], bearer("", "", "", ""));
        check(&["Bearer service=\"s\""], bearer("", "s", "", ""));
    }
}
