//! The secrets of a login, resolved when it is used.

use runbook_model::plan::SecretRef;
use runbook_ports::SecretBytes;
use runbook_wire::Login;

use crate::project::Project;

/// With its secrets as they are now.
///
/// # Errors
/// Why one is not to be had, without it.
pub(crate) async fn resolve(login: &Login<SecretRef>, project: &Project) -> Result<Login<SecretBytes>, String> {
    Ok(match login {
        Login::None => Login::None,
        Login::Basic(user, password) => Login::Basic(user.clone(), project.secret(password).await?),
        Login::Bearer(token) => Login::Bearer(project.secret(token).await?),
        Login::Keys(key, token) => Login::Keys(project.secret(key).await?, project.secret(token).await?),
    })
}
