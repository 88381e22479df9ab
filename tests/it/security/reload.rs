//! Certificates and tokens change without a restart.

use std::{fs, os::unix::fs::symlink, path::Path};

use super::{NOWHERE, connect, issue, require_certificates, send};
use crate::support::{
    agent::{ACCOUNT_PRODUCT, Home},
    events::{ACME, event},
    eventually,
};

fn usage() -> Vec<tallyman_client::proto::UsageEvent> {
    vec![event(ACME, "requests", 1, "")]
}

/// Whether a new connection with this certificate is served.
async fn is_served(home: &Home, authority: &str, certificate: &str) -> bool {
    // In TLS 1.3 the client's certificate is refused only after the client thinks itself connected.
    let Ok(channel) = connect(home, authority, certificate).await else { return false };
    send(channel, "", usage()).await.is_ok()
}

fn copy(folder: &Path, from: &str, to: &str) {
    for kind in ["crt", "key"] {
        fs::copy(folder.join(format!("{from}.{kind}")), folder.join(format!("{to}.{kind}"))).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn new_certificates_are_in_force_and_broken_ones_change_nothing() {
    let mut home = Home::new(ACCOUNT_PRODUCT, NOWHERE, None);
    let folder = home.path().to_owned();
    issue(&folder, "old", &["server-old", "app-old"]);
    issue(&folder, "new", &["server-new", "app-new"]);
    fs::copy(folder.join("old.crt"), folder.join("ca.crt")).unwrap();
    copy(&folder, "server-old", "tls");
    require_certificates(&mut home, "tls", "ca");
    let _agent = home.start().await;
    let before = connect(&home, "old", "app-old").await.unwrap();
    assert!(send(before.clone(), "", usage()).await.is_ok());
    assert!(!is_served(&home, "old", "app-new").await, "not yet");
    let expires = home.metric("tallyman_certificate_expiry_timestamp_seconds{file=\"cert\"}").await;
    assert_eq!(expires, Some(4_102_542_245.0), "2100-01-02T03:04:05Z");

    fs::write(folder.join("tls.crt"), "-----BEGIN CERTIFICATE-----\nnonsense").unwrap();
    eventually("the broken certificate is told", async || {
        (home.metric("tallyman_credentials_stale").await == Some(1.0)).then_some(())
    })
    .await;
    assert_eq!(home.metric("tallyman_credentials_reloads_total{result=\"failed\"}").await, Some(1.0));
    assert!(home.log().contains("ERROR certificates or tokens cannot be loaded"), "{}", home.log());
    assert!(is_served(&home, "old", "app-old").await, "the one before is in force");

    // As an operator copies them, one after the other: they fit each other only in the end.
    copy(&folder, "server-new", "tls");
    fs::copy(folder.join("new.crt"), folder.join("ca.crt")).unwrap();
    eventually("the new ones are in force", async || is_served(&home, "new", "app-new").await.then_some(()))
        .await;
    assert!(!is_served(&home, "old", "app-old").await && !is_served(&home, "new", "app-old").await);
    let closed = "tallyman_connections_closed_total{reason=\"withdrawn\"}";
    eventually("the connection of the old authority's client is closed", async || {
        (home.metric(closed).await == Some(1.0)).then_some(())
    })
    .await;
    assert!(send(before, "", usage()).await.is_err());
    assert_eq!(home.metric("tallyman_credentials_stale").await, Some(0.0));
}

#[tokio::test]
async fn a_secret_that_kubernetes_swaps_is_noticed() {
    let mut home = Home::new(ACCOUNT_PRODUCT, NOWHERE, None);
    let volume = home.path().to_owned();
    // token -> ..data/token, and ..data -> a folder of its own for each version.
    let publish = |version: &str, token: &str| {
        fs::create_dir(volume.join(version)).unwrap();
        fs::write(volume.join(version).join("token"), token).unwrap();
        symlink(version, volume.join("..data_tmp")).unwrap();
        fs::rename(volume.join("..data_tmp"), volume.join("..data")).unwrap();
    };
    publish("..1", "first\n");
    symlink("..data/token", volume.join("token")).unwrap();
    home.set("GRPC__TOKEN_FILE", &volume.join("token").display().to_string());
    let _agent = home.start().await;
    let channel = home.channel().await.unwrap();
    let is_taken = async |token: &str| send(channel.clone(), token, usage()).await.is_ok();
    assert!(is_taken("first").await && !is_taken("second").await && !is_taken("").await);

    publish("..2", "first\nsecond\n");
    eventually("the second token is taken", async || is_taken("second").await.then_some(())).await;
    assert!(is_taken("first").await, "both hold while the clients change over");

    publish("..3", "\n");
    eventually("an empty file is told", async || {
        (home.metric("tallyman_credentials_stale").await == Some(1.0)).then_some(())
    })
    .await;
    assert!(is_taken("second").await && !is_taken("").await, "and authenticates nobody");

    publish("..4", "second");
    eventually("the first token is gone", async || (!is_taken("first").await).then_some(())).await;
    assert!(is_taken("second").await);
    for secret in ["first", "second"] {
        assert!(!home.log().contains(secret), "{}", home.log());
    }
}
