//! What the documentation tells a new user to type, typed; and what it promises about data folders.

use std::{
    path::Path,
    process::{Command, Stdio},
};

use tallyman::internals::{Batch, Faults, Format, RocksStore, Store};

use crate::support::{
    agent::{ACCOUNT_PRODUCT, Agent, Home, binary, free_address},
    eventually, fast_clock,
    python::root,
    sandbox,
};

/// The quick start of the README, in a folder of its own: its file, and its commands as they stand. Only the ports
/// are others, by variables that the README names.
#[tokio::test(flavor = "multi_thread")]
async fn the_quick_start_bills_as_the_readme_shows_it() {
    let text = section(&std::fs::read_to_string(root().join("README.md")).unwrap(), "Quick start");
    // Its hour ends a quarter of a minute after the start. A machine that was busy with something else types it again.
    let mut faults = Vec::new();
    while let Err(fault) = quick_start(&text).await {
        faults.push(fault);
        assert!(faults.len() < 3, "{}", faults.join("\n\n"));
    }
}

async fn quick_start(text: &str) -> Result<(), String> {
    let mut steps = blocks(text, "").into_iter().flat_map(|block| commands(&block));
    let (run, shown) = steps.next().unwrap();
    assert!(run.contains(" run ") && shown.is_empty(), "{run}");
    let user = User::new();
    std::fs::write(user.folder.path().join("tallyman.toml"), blocks(text, "toml").remove(0)).unwrap();
    let _agent = Agent { child: user.shell(&format!("exec {run}")).spawn().unwrap() };
    eventually("the agent is ready", async || {
        user.shell("tallyman status --ready").status().unwrap().success().then_some(())
    })
    .await;
    let mut typed = 0;
    for (command, shown) in steps {
        typed += 1;
        if command == "tallyman records" {
            eventually("the hour is billed", async || {
                user.type_in(&command).contains("accepted").then_some(())
            })
            .await;
        }
        let said = user.type_in(&command);
        if !alike(&said, &shown) {
            return Err(format!("$ {command}\n{said}\nand the README has\n{shown}"));
        }
    }
    assert!(typed >= 5, "the README has fewer commands than it had");
    Ok(())
}

/// `docs/upgrade.md`: a folder of another format, or with tables of a later version, is refused and not changed.
#[tokio::test(flavor = "multi_thread")]
async fn a_folder_of_a_later_version_is_refused_as_the_upgrade_notes_say() {
    let notes = std::fs::read_to_string(root().join("docs/upgrade.md")).unwrap().replace('\n', " ");
    let clock = fast_clock(1.0);
    let (sandbox, _tasks) = sandbox(clock, Faults::default()).await;
    let home = Home::new(ACCOUNT_PRODUCT, &sandbox.url(), Some(clock));
    assert!(home.start().await.terminate().await.success());
    home.expect_damage();

    let store = RocksStore::open(&home.data_dir()).unwrap();
    let mut batch = Batch::default();
    batch.put(Format, (), &2);
    store.commit(batch).unwrap();
    drop(store);
    let words = "the store's format is 2, and this version reads format 1: use the version that wrote it";
    assert!(notes.contains(words), "docs/upgrade.md");
    refuses(&home, words).await;

    let store = RocksStore::open(&home.data_dir()).unwrap();
    let mut batch = Batch::default();
    batch.put(Format, (), &1);
    store.commit(batch).unwrap();
    drop(store);
    let options = rocksdb::Options::default();
    let folder = home.data_dir().join("db");
    let there = rocksdb::DB::list_cf(&options, &folder).unwrap();
    let mut db = rocksdb::DB::open_cf(&options, &folder, there).unwrap();
    db.create_cf("later", &options).unwrap();
    db.put_cf(db.cf_handle("later").unwrap(), b"key", b"value").unwrap();
    drop(db);
    let words =
        "the store has a table `later` that this version does not know: use the version that wrote it";
    assert!(notes.contains(words), "docs/upgrade.md");
    refuses(&home, words).await;
}

/// Every link between the pages leads to a file, and to a heading where it names one.
/// What builds and tests is what it was: see *Supply* in SECURITY.md, also for what is not pinned, and why.
#[test]
fn what_is_installed_is_pinned() {
    let read = |file: &str| std::fs::read_to_string(root().join(file)).unwrap();
    for (script, command) in ["setup", "fuzz", "mutants"].map(|name| (name, "cargo install --quiet")) {
        let text = read(&format!("scripts/{script}"));
        let installs: Vec<&str> = text.lines().filter(|line| line.contains(command)).collect();
        assert!(!installs.is_empty(), "{script} installs no tool any more");
        assert!(installs.iter().all(|line| line.contains(" --version ")), "{script}: {installs:?}");
    }
    for name in ["", "-deploy", "-page", "-tools"] {
        let lock = read(&format!("tests/python/requirements{name}.lock"));
        let wanted = read(&format!("tests/python/requirements{name}.txt"));
        for line in wanted.lines().filter(|line| line.contains("==")) {
            // The index names packages in small letters, with dashes.
            let (package, version) = line.split_once("==").unwrap();
            let package = package.to_lowercase().replace(['_', '.'], "-");
            let is_there = lock.lines().any(|line| {
                let name =
                    line.split("==").next().unwrap_or_default().to_lowercase().replace(['_', '.'], "-");
                name == package && line.ends_with(&format!("=={version} \\"))
            });
            assert!(is_there, "requirements{name}.lock lacks {line}: run scripts/lock");
        }
        assert!(lock.contains("--hash=sha256:") && !lock.contains("http"), "requirements{name}.lock");
    }
    let node: serde_json::Value = serde_json::from_str(&read("examples/node/package.json")).unwrap();
    let lock: serde_json::Value = serde_json::from_str(&read("examples/node/package-lock.json")).unwrap();
    assert_eq!(
        lock["packages"][""]["dependencies"], node["dependencies"],
        "run npm install in examples/node"
    );
}

#[test]
fn links_between_the_pages_lead_somewhere() {
    let pages = [
        "README.md",
        "ARCHITECTURE.md",
        "CONTRIBUTING.md",
        "examples/README.md",
        "docs/changing.md",
        "docs/configuration.md",
        "docs/faq.md",
        "docs/finance.md",
        "docs/sandbox.md",
        "docs/upgrade.md",
    ];
    for page in pages {
        let text = std::fs::read_to_string(root().join(page)).unwrap();
        let targets = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        for target in targets.filter(|target| !target.contains("://")) {
            let (file, heading) = target.split_once('#').unwrap_or((target, ""));
            let folder = root().join(page).parent().unwrap().to_path_buf();
            let file = if file.is_empty() { root().join(page) } else { folder.join(file) };
            assert!(file.exists(), "{page}: {target}");
            assert!(heading.is_empty() || headings(&file).contains(&heading.to_owned()), "{page}: {target}");
        }
    }
}

/// Someone at a shell, with `tallyman` on the PATH and nothing else of this project.
struct User {
    folder: tempfile::TempDir,
    ports: [(&'static str, String); 3],
}

impl User {
    fn new() -> Self {
        let grpc = free_address();
        let ports = [
            ("TALLYMAN__GRPC__LISTEN", grpc.clone()),
            ("TALLYMAN__ADMIN__LISTEN", free_address()),
            ("TALLYMAN_ADDRESS", grpc),
        ];
        Self { folder: tempfile::tempdir().unwrap(), ports }
    }

    /// What a command prints.
    fn type_in(&self, command: &str) -> String {
        let output = self.shell(command).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn shell(&self, command: &str) -> Command {
        let program = binary().get_program().to_owned();
        let mut path = Path::new(&program).parent().unwrap().as_os_str().to_owned();
        path.push(":");
        path.push(std::env::var_os("PATH").unwrap());
        let mut shell = Command::new("bash");
        shell.args(["-c", command]).current_dir(self.folder.path()).env("PATH", path);
        shell.envs(self.ports.iter().cloned()).stdin(Stdio::null());
        shell.stdout(Stdio::piped()).stderr(Stdio::null());
        shell
    }
}

async fn refuses(home: &Home, words: &str) {
    let code = home.spawn().ended().await.code();
    assert!(code == Some(74) && home.log().contains(words), "{code:?}\n{}", home.log());
}

/// The text below a heading.
fn section(page: &str, heading: &str) -> String {
    let below = page.split(&format!("\n## {heading}\n")).nth(1).expect("the heading is there");
    below.split("\n## ").next().unwrap().to_owned()
}

/// The code blocks of one language; "" for none.
fn blocks(text: &str, language: &str) -> Vec<String> {
    let fenced = text.split("```").skip(1).step_by(2);
    fenced
        .filter_map(|block| block.split_once('\n').filter(|(named, _)| *named == language))
        .map(|(_, body)| body.to_owned())
        .collect()
}

/// The commands of a block, each with what it shows.
fn commands(block: &str) -> Vec<(String, String)> {
    let parts = block.split("$ tallyman ").skip(1);
    parts
        .map(|part| {
            let (command, shown) = part.split_once('\n').unwrap_or((part, ""));
            (format!("tallyman {command}"), shown.to_owned())
        })
        .collect()
}

/// Word by word the same, but for moments, spans since then, AWS's receipts, and the user's folder and ports.
fn alike(one: &str, other: &str) -> bool {
    let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let (one, other) = (words(one), words(other));
    one.len() == other.len()
        && one.iter().zip(&other).all(|(one, other)| one == other || both_vary(one, other))
}

fn both_vary(one: &str, other: &str) -> bool {
    let kinds: [fn(&str) -> bool; 5] = [
        |moment| moment.len() == 20 && moment.ends_with('Z'),
        |receipt| receipt.len() == 36 && receipt.matches('-').count() == 4,
        |span| span.starts_with('(') && span.ends_with('m'),
        |folder| folder.starts_with('/') && folder.ends_with("/tallyman-data"),
        |sandbox| sandbox.starts_with("http://127.0.0.1:"),
    ];
    kinds.iter().any(|varies| varies(one) && varies(other))
}

/// As they are linked to.
fn headings(file: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(file).unwrap();
    let titles =
        text.lines().filter_map(|line| line.strip_prefix('#')).map(|rest| rest.trim_start_matches('#'));
    titles
        .map(|title| {
            let kept = title.trim().to_lowercase();
            let kept = kept.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
            kept.collect::<String>().replace(' ', "-")
        })
        .collect()
}
