//! AWS's profile files, as the SDK is shown them: credentials, and nothing that says where calls go.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use tracing::warn;

use super::environment::Environment;

/// A profile's keys that would change where calls go. `services` names the endpoints of single services.
const SET_ASIDE: [&str; 5] = [
    "endpoint_url",
    "services",
    "use_fips_endpoint",
    "use_dualstack_endpoint",
    "ignore_configured_endpoint_urls",
];
/// Those of them that send calls elsewhere, and are told of.
const TOLD: [&str; 3] = ["endpoint_url", "use_fips_endpoint", "use_dualstack_endpoint"];

/// Both files without what is set aside.
#[derive(Debug, Default)]
pub(super) struct Profiles {
    pub(super) config: String,
    pub(super) credentials: String,
    /// What was set aside, for whoever wonders: the file, the line and the key.
    pub(super) set_aside: Vec<String>,
}

impl Profiles {
    /// Reads the files that the SDK would read. One that is not there is empty.
    pub(super) fn read(environment: &Environment) -> Self {
        let mut profiles = Self::default();
        let files =
            [("AWS_CONFIG_FILE", "~/.aws/config"), ("AWS_SHARED_CREDENTIALS_FILE", "~/.aws/credentials")];
        let [config, credentials] = files.map(|(variable, usual)| {
            let named = environment.get(variable);
            let path = expanded(named.unwrap_or(usual), environment.get("HOME"));
            profiles.without_endpoints(&path, &contents(&path, named.is_some()))
        });
        (profiles.config, profiles.credentials) = (config, credentials);
        profiles
    }

    fn without_endpoints(&mut self, path: &Path, text: &str) -> String {
        let mut kept = String::new();
        for (line, number) in text.lines().zip(1..) {
            let key = key_of(line);
            if !SET_ASIDE.contains(&&*key) {
                kept.push_str(line);
            } else if TOLD.contains(&&*key) {
                self.set_aside.push(format!("`{key}` in line {number} of {}", path.display()));
            }
            // Lines keep their numbers, which the SDK's errors name.
            kept.push('\n');
        }
        kept
    }
}

/// The key that a line sets, in a profile or below one of its keys.
fn key_of(line: &str) -> String {
    let key = line.split_once('=').map_or("", |(key, _)| key);
    key.trim().to_ascii_lowercase()
}

fn expanded(path: &str, home: Option<&str>) -> PathBuf {
    match (path.strip_prefix("~/"), home) {
        (Some(rest), Some(home)) => Path::new(home).join(rest),
        _ => path.into(),
    }
}

/// A file that nobody has named need not be there.
fn contents(path: &Path, is_named: bool) -> String {
    match fs::read_to_string(path) {
        Ok(text) => text,
        Err(fault) => {
            if is_named || fault.kind() != io::ErrorKind::NotFound {
                warn!(file = %path.display(), %fault, "AWS's profiles cannot be read");
            }
            String::new()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profile_keeps_all_but_its_endpoints() {
        let text = "[default]\nregion = us-east-1\nEndpoint_URL=http://localhost:1\nrole_arn = r # endpoint_url = x\n\
                    services = mine\n[services mine]\nsts =\n  endpoint_url = http://localhost:2\n";
        let mut profiles = Profiles::default();
        let kept = profiles.without_endpoints(Path::new("/config"), text);
        assert_eq!(
            kept,
            "[default]\nregion = us-east-1\n\nrole_arn = r # endpoint_url = x\n\n[services mine]\nsts =\n\n"
        );
        assert_eq!(
            profiles.set_aside,
            ["`endpoint_url` in line 3 of /config", "`endpoint_url` in line 8 of /config"]
        );
    }

    #[test]
    fn a_path_begins_at_home_as_the_sdk_has_it() {
        assert_eq!(expanded("~/.aws/config", Some("/home/ann")), Path::new("/home/ann/.aws/config"));
        assert_eq!(expanded("/etc/aws", Some("/home/ann")), Path::new("/etc/aws"));
        assert_eq!(expanded("~/x", None), Path::new("~/x"));
    }
}
