//! Credentials that are simply there: a job's own in a pipeline, and a cloud's by its helper.
//!
//! They come after everything that a person has written down. Each belongs to one host, and is shown
//! to no other (rule B109). Pure but for [`cloud_helpers`]' callers, which run them.

use crate::registry::secret::{Credential, Secret};

/// The variables that pipelines set. Each field is the variable of that name.
#[derive(Debug, Clone, Default)]
pub struct Pipeline {
    /// `CI_REGISTRY`: GitLab's registry.
    pub ci_registry: Option<String>,
    /// `CI_REGISTRY_USER`
    pub ci_registry_user: Option<String>,
    /// `CI_REGISTRY_PASSWORD`
    pub ci_registry_password: Option<Secret>,
    /// `CI_JOB_TOKEN`
    pub ci_job_token: Option<Secret>,
    /// `CI_DEPENDENCY_PROXY_SERVER`: GitLab's mirror of Docker Hub.
    pub ci_dependency_proxy_server: Option<String>,
    /// `CI_DEPENDENCY_PROXY_USER`
    pub ci_dependency_proxy_user: Option<String>,
    /// `CI_DEPENDENCY_PROXY_PASSWORD`
    pub ci_dependency_proxy_password: Option<Secret>,
    /// `GITHUB_ACTOR`
    pub github_actor: Option<String>,
    /// `GITHUB_TOKEN`
    pub github_token: Option<Secret>,
}

impl Pipeline {
    /// The job's credentials for `host`, if it has any.
    pub(crate) fn lookup(&self, host: &str) -> Option<Credential> {
        let is = |name: &Option<String>| name.as_deref().is_some_and(|name| same_host(name, host));
        let pair = |user: &Option<String>, password: &Option<Secret>| {
            let (username, password) = (user.clone()?, password.clone()?);
            Some(Credential::Password { username, password })
        };
        if is(&self.ci_registry) {
            let job = Some("gitlab-ci-token".to_owned());
            return pair(&self.ci_registry_user, &self.ci_registry_password)
                .or_else(|| pair(&job, &self.ci_job_token));
        }
        if is(&self.ci_dependency_proxy_server) {
            return pair(&self.ci_dependency_proxy_user, &self.ci_dependency_proxy_password);
        }
        if host == "ghcr.io" {
            return pair(&self.github_actor, &self.github_token);
        }
        None
    }
}

/// GitLab writes the proxy's server with its port, even where that is the usual one.
fn same_host(name: &str, host: &str) -> bool {
    let plain = |text: &str| text.strip_suffix(":443").unwrap_or(text).to_ascii_lowercase();
    plain(name) == plain(host)
}

/// The helpers, by the rest of their names, that know a cloud's registry without being configured
/// for it (rule B040).
pub(crate) fn cloud_helpers(host: &str) -> &'static [&'static str] {
    let amazon = host.contains(".dkr.ecr")
        && (host.ends_with(".amazonaws.com") || host.ends_with(".amazonaws.com.cn"));
    if amazon || host == "public.ecr.aws" {
        &["ecr-login"]
    } else if host == "gcr.io" || host.ends_with(".gcr.io") || host.ends_with("-docker.pkg.dev") {
        &["gcr", "gcloud"]
    } else if host.ends_with(".azurecr.io") {
        &["acr-env", "acr"]
    } else {
        &[]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn b109_a_jobs_credentials_are_for_its_own_registry() {
        let pipeline = Pipeline {
            ci_registry: Some("r.gitlab.example:5050".to_owned()),
            ci_job_token: Some(Secret::new("job")),
            ci_dependency_proxy_server: Some("gitlab.example:443".to_owned()),
            ci_dependency_proxy_user: Some("proxy".to_owned()),
            ci_dependency_proxy_password: Some(Secret::new("p")),
            github_actor: Some("octo".to_owned()),
            github_token: Some(Secret::new("gh")),
            ..Pipeline::default()
        };
        let check = |host: &str, expected: Option<(&str, &str)>| {
            let expected = expected.map(|(user, password)| Credential::basic(user, password));
            assert_eq!(pipeline.lookup(host), expected, "{host}");
        };
        check("r.gitlab.example:5050", Some(("gitlab-ci-token", "job")));
        check("gitlab.example", Some(("proxy", "p")));
        check("ghcr.io", Some(("octo", "gh")));
        check("docker.io", None);
        check("ghcr.io.example", None);
        let named = Pipeline {
            ci_registry_user: Some("u".to_owned()),
            ci_registry_password: Some(Secret::new("p")),
            ..pipeline.clone()
        };
        assert_eq!(named.lookup("r.gitlab.example:5050"), Some(Credential::basic("u", "p")));
        let half = Pipeline { github_actor: None, ..pipeline };
        assert_eq!(half.lookup("ghcr.io"), None);
    }

    #[test]
    fn b040_a_clouds_helper_is_known_by_the_host() {
        let check = |host: &str, expected: &[&str]| assert_eq!(cloud_helpers(host), expected);
        check("1.dkr.ecr.eu-west-1.amazonaws.com", &["ecr-login"]);
        check("1.dkr.ecr-fips.us-east-1.amazonaws.com", &["ecr-login"]);
        check("europe-docker.pkg.dev", &["gcr", "gcloud"]);
        check("eu.gcr.io", &["gcr", "gcloud"]);
        check("me.azurecr.io", &["acr-env", "acr"]);
        check("azurecr.io.evil.example", &[]);
        check("docker.io", &[]);
    }
}
