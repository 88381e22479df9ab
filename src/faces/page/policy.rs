//! What a browser may do with the page: run and style what was built in, ask this agent, and nothing else.

use std::sync::LazyLock;

use aws_smithy_types::base64;
use sha2::{Digest as _, Sha256};

use super::html::{SCRIPT, STYLE};

/// The page's Content-Security-Policy. The style and the script are allowed by their hashes, so that nothing else runs,
/// wherever it comes from.
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
