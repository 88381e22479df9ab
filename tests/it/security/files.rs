//! The files that a configuration names: who else may read or write them, and whether a socket has a place.

use std::{fs, os::unix::fs::PermissionsExt};

use super::NOWHERE;
use crate::support::{
    agent::{ACCOUNT_PRODUCT, Home, binary},
    eventually,
};

fn check(home: &Home) -> (Option<i32>, String) {
    let mut command = binary();
    command.arg("check").arg("--config").arg(home.config()).envs(home.environment.iter().cloned());
    let output = command.output().unwrap();
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[tokio::test]
async fn a_token_that_others_may_read_is_told_and_one_that_they_may_write_refused() {
    let mut home = Home::new(ACCOUNT_PRODUCT, NOWHERE, None);
    let token = home.path().join("token");
    fs::write(&token, "t0ken").unwrap();
    home.set("GRPC__TOKEN_FILE", &token.display().to_string());
    let set_mode = |mode| fs::set_permissions(&token, fs::Permissions::from_mode(mode)).unwrap();
    for mode in [0o600, 0o440] {
        set_mode(mode);
        assert_eq!(check(&home), (Some(0), String::new()), "{mode:o}");
    }
    set_mode(0o644);
    let (code, text) = check(&home);
    let read = format!("grpc.token_file: anyone on this machine may read {}", token.display());
    assert!(code == Some(0) && text.contains(&read) && text.contains("defaultMode: 0440"), "{text}");
    let agent = home.spawn();
    eventually("ready", async || home.is_ready().await.then_some(())).await;
    assert!(home.log().contains(&read), "{}", home.log());
    assert!(agent.terminate().await.success());
    set_mode(0o666);
    let written = format!("grpc.token_file: anyone on this machine may write {}", token.display());
    let (code, text) = check(&home);
    assert!(code == Some(64) && text.contains(&written), "{text}");
    assert_eq!(home.spawn().ended().await.code(), Some(64));
    assert!(home.log().contains(&written), "{}", home.log());
}

#[test]
fn a_socket_without_a_folder_or_with_too_long_a_path_is_told() {
    let mut home = Home::new(ACCOUNT_PRODUCT, NOWHERE, None);
    home.set("GRPC__LISTEN", "unix:/nowhere/tallyman.sock");
    let (code, text) = check(&home);
    assert!(code == Some(0) && text.contains("grpc.listen: the folder /nowhere is not there"), "{text}");
    home.set("GRPC__LISTEN", &format!("unix:/{}", "x".repeat(107)));
    let (code, text) = check(&home);
    assert!(
        code == Some(64) && text.contains("grpc.listen: the path of a Unix socket may have 107 bytes"),
        "{text}"
    );
}
