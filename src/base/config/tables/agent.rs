//! `[agent]`: who the agent is, and where it keeps its data.

use std::path::PathBuf;

use super::{About, Section};

#[derive(Clone, Debug)]
pub struct Agent {
    pub data_dir: PathBuf,
    pub id: String,
}

const ABOUT: About = About {
    words: "The agent's name, and the folder of its data, usage that AWS has not accepted yet included.",
    example: r#"[agent]
data_dir = "/var/lib/tallyman"
id = "agent-1"
"#,
};

pub(super) fn read(root: &mut Section<'_>) -> Agent {
    let mut section = root.section("agent", &ABOUT);
    let data_dir = section
        .key(
            "data_dir",
            "The data folder. It holds the only copy of what AWS has not accepted yet, so it belongs on a disk \
             that lasts. One agent has it at a time. A relative path, of this or of any other file, is relative to the \
             configuration file",
        )
        .path("/var/lib/tallyman");
    let id = section
        .key("id", "The agent's name in `status` and on the status page")
        .default_words("the host name")
        .text(&host_name());
    root.put("agent", section);
    Agent { data_dir, id }
}

fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    if name.trim().is_empty() { "tallyman".to_owned() } else { name.trim().to_owned() }
}
