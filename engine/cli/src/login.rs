//! How we are let in somewhere, as the settings say; its secrets are resolved when it is used.

use runbook_model::plan::SecretRef;

use crate::project::Project;

/// How we are let in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Login {
    None,
    Basic(String, SecretRef),
    Bearer(SecretRef),
    Keys(SecretRef, SecretRef),
}

impl Login {
    /// With its secrets as they are now.
    ///
    /// # Errors
    /// Why one is not to be had, without it.
    pub(crate) async fn resolve(&self, project: &Project) -> Result<runbook_wire::Login, String> {
        Ok(match self {
            Login::None => runbook_wire::Login::None,
            Login::Basic(user, password) => runbook_wire::Login::Basic(user.clone(), project.secret(password).await?),
            Login::Bearer(token) => runbook_wire::Login::Bearer(project.secret(token).await?),
            Login::Keys(key, token) => {
                runbook_wire::Login::Keys(project.secret(key).await?, project.secret(token).await?)
            }
        })
    }
}
