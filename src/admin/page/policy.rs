//! The Content-Security-Policy of the page.
//!
//! A browser may run the script and apply the style that are built in, and ask this agent. Nothing else is allowed.

use std::sync::LazyLock;

use aws_smithy_types::base64;
use sha2::{Digest as _, Sha256};

use super::document::{SCRIPT, STYLE};

/// The policy. It allows the style and the script by their hashes, so that nothing else runs, wherever it comes from.
pub(super) fn policy() -> &'static str {
    static POLICY: LazyLock<String> = LazyLock::new(|| {
        let hash = |text: &str| format!("'sha256-{}'", base64::encode(Sha256::digest(text)));
        format!(
            "default-src 'none'; script-src {}; style-src {}; connect-src 'self'; img-src data:; base-uri 'none'; \
             form-action 'none'; frame-ancestors 'none'",
            hash(SCRIPT),
            hash(STYLE)
        )
    });
    &POLICY
}
