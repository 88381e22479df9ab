//! What on this machine speaks against a configuration, before anything is started: looked at by `check` and by `run`.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use super::config::{Config, Listen, Proof};

/// Anyone on the machine may do this to the file. What its group may do is its owner's choice: so does Kubernetes share
/// a Secret with a pod that does not run as root.
const OTHERS_READ: u32 = 0o004;
const OTHERS_WRITE: u32 = 0o002;

/// What was found, each with its key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Findings {
    /// These refuse the start.
    pub faults: Vec<String>,
    pub warnings: Vec<String>,
}

/// Looks at the files that the configuration names. One that is not there is not found fault with: this may be another
/// machine than the agent's.
pub(crate) fn look(config: &Config) -> Findings {
    let mut findings = Findings::default();
    for file in credential_files(config) {
        findings.look_at(&file);
    }
    if let Listen::Unix(socket) = &config.grpc.listen
        && let Some(folder) = socket.parent().filter(|folder| !folder.is_dir())
    {
        findings.warnings.push(format!(
            "grpc.listen: the folder {} is not there: `run` cannot listen until it is",
            folder.display()
        ));
    }
    findings
}

/// A file that says who may call, or who the agent is.
struct CredentialFile {
    key: String,
    path: PathBuf,
    is_secret: bool,
}

fn credential_files(config: &Config) -> Vec<CredentialFile> {
    let file = |key: &str, path: &Path, is_secret| CredentialFile {
        key: key.to_owned(),
        path: path.to_path_buf(),
        is_secret,
    };
    let mut files: Vec<_> =
        config.grpc.token_file.iter().map(|path| file("grpc.token_file", path, true)).collect();
    if let Some(tls) = &config.grpc.tls {
        files.extend([file("grpc.tls.cert", &tls.cert, false), file("grpc.tls.key", &tls.key, true)]);
        files.extend(tls.client_ca.iter().map(|path| file("grpc.tls.client_ca", path, false)));
        files.extend(tls.client_crl.iter().map(|path| file("grpc.tls.client_crl", path, false)));
    }
    for (client, index) in config.grpc.clients.iter().zip(0..) {
        if let Proof::TokenFile(path) = &client.proof {
            files.push(file(&format!("grpc.client.{index}.token_file"), path, true));
        }
    }
    files
}

impl Findings {
    fn look_at(&mut self, CredentialFile { key, path, is_secret }: &CredentialFile) {
        // Of a link, as in a Secret of Kubernetes, the file that it leads to.
        let Ok(found) = fs::metadata(path) else { return };
        let (mode, path) = (found.permissions().mode(), path.display());
        if mode & OTHERS_WRITE != 0 {
            self.faults.push(format!(
                "{key}: anyone on this machine may write {path} (mode {:04o}), and thus say who may call: chmod o-w {path}",
                mode & 0o7777
            ));
        } else if *is_secret && mode & OTHERS_READ != 0 {
            self.warnings.push(format!(
                "{key}: anyone on this machine may read {path} (mode {:04o}): chmod o-r {path}, or, for a Secret of \
                 Kubernetes, defaultMode: 0440 beside the pod's fsGroup",
                mode & 0o7777
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::base::config::testing::{GOOD, config};

    fn with_mode(file: &Path, mode: u32) {
        fs::write(file, "secret").unwrap();
        fs::set_permissions(file, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn a_secret_that_others_read_is_told_and_one_that_they_write_refused() {
        let folder = tempfile::tempdir().unwrap();
        let (real, token) = (folder.path().join("real"), folder.path().join("token"));
        symlink(&real, &token).unwrap();
        let with_token = [("TALLYMAN__GRPC__TOKEN_FILE", token.to_str().unwrap())];
        let config = config(GOOD, &with_token).unwrap();
        assert_eq!(look(&config), Findings::default(), "it is not there");
        for (mode, faults, warnings) in [
            (0o600, 0, 0),
            (0o440, 0, 0),
            (0o660, 0, 0),
            (0o644, 0, 1),
            (0o444, 0, 1),
            (0o666, 1, 0),
            (0o602, 1, 0),
        ] {
            with_mode(&real, mode);
            let found = look(&config);
            assert_eq!((found.faults.len(), found.warnings.len()), (faults, warnings), "{mode:o}: {found:?}");
            let told = found.faults.iter().chain(&found.warnings);
            assert!(
                told.clone().all(|text| text.starts_with("grpc.token_file: ") && text.contains("chmod o-"))
            );
            fs::remove_file(&real).unwrap();
        }
    }

    #[test]
    fn each_file_is_looked_at_and_certificates_may_be_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).display().to_string();
        let text = format!(
            "[grpc.tls]\ncert = '{}'\nkey = '{}'\nclient_ca = '{}'\nclient_crl = '{}'\n[[grpc.client]]\nname = 'a'\n\
             token_file = '{}'\n{GOOD}",
            path("cert"),
            path("key"),
            path("ca"),
            path("crl"),
            path("token")
        );
        let config = config(&text, &[]).unwrap();
        let keys = |texts: &[String]| -> Vec<String> {
            texts.iter().map(|text| text.split(": ").next().unwrap().to_owned()).collect()
        };
        for name in ["cert", "key", "ca", "crl", "token"] {
            with_mode(&folder.path().join(name), 0o644);
        }
        assert_eq!(keys(&look(&config).warnings), ["grpc.tls.key", "grpc.client.0.token_file"]);
        for name in ["cert", "key", "ca", "crl", "token"] {
            with_mode(&folder.path().join(name), 0o646);
        }
        assert_eq!(
            keys(&look(&config).faults),
            [
                "grpc.tls.cert",
                "grpc.tls.key",
                "grpc.tls.client_ca",
                "grpc.tls.client_crl",
                "grpc.client.0.token_file"
            ]
        );
    }

    #[test]
    fn the_folder_of_a_socket_is_missed() {
        let folder = tempfile::tempdir().unwrap();
        let listen = |path: PathBuf| {
            let listen = format!("unix:{}", path.display());
            look(&config(GOOD, &[("TALLYMAN__GRPC__LISTEN", &listen)]).unwrap()).warnings
        };
        assert_eq!(listen(folder.path().join("tallyman.sock")), [""; 0]);
        let warnings = listen(folder.path().join("none/tallyman.sock"));
        assert!(warnings.len() == 1 && warnings[0].starts_with("grpc.listen: the folder"), "{warnings:?}");
    }
}
