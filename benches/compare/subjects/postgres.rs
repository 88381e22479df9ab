//! PostgreSQL as it comes, driven by its own pgbench: each transaction takes a thousand events, which the server makes
//! up itself, so that it need not read them (a favour to it). Each client has counters of its own, so that none waits
//! for the lock of another (another one).

use std::{
    fs,
    os::unix::{
        fs::{PermissionsExt, chown},
        process::CommandExt,
    },
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use crate::process::Process;

/// The programs, and as whom they run: they refuse root.
pub(crate) struct Postgres {
    programs: PathBuf,
    user: Option<(u32, u32)>,
    folder: PathBuf,
}

const EVENTS: f64 = 1000.0;
const CLIENTS: &str = "8";
const TABLES: &str = "
    DROP TABLE IF EXISTS usage, seen;
    CREATE TABLE usage (client int, customer text, hour timestamptz, units bigint NOT NULL,
        PRIMARY KEY (client, customer, hour)) WITH (fillfactor = 50);
    CREATE TABLE seen (id uuid PRIMARY KEY);";
const COUNT: &str = "
    INSERT INTO usage AS bucket (client, customer, hour, units)
    SELECT :client_id, customer, date_trunc('hour', now()), sum(units) FROM
        (SELECT lpad(trunc(random() * 1000)::text, 12, '9') AS customer, 1 AS units
            FROM generate_series(1, 1000)) AS events
    GROUP BY customer
    ON CONFLICT (client, customer, hour) DO UPDATE SET units = bucket.units + excluded.units;";
const COUNT_ONCE: &str = "
    WITH events AS MATERIALIZED
        (SELECT gen_random_uuid() AS id, lpad(trunc(random() * 1000)::text, 12, '9') AS customer, 1 AS units
            FROM generate_series(1, 1000)),
    fresh AS (INSERT INTO seen SELECT id FROM events ON CONFLICT DO NOTHING RETURNING id)
    INSERT INTO usage AS bucket (client, customer, hour, units)
    SELECT :client_id, customer, date_trunc('hour', now()), sum(units) FROM events JOIN fresh USING (id)
    GROUP BY customer
    ON CONFLICT (client, customer, hour) DO UPDATE SET units = bucket.units + excluded.units;";

impl Postgres {
    /// A new cluster, not running, if PostgreSQL is there.
    pub(crate) fn install(folder: &Path) -> Option<Self> {
        let programs = programs()?;
        let folder = folder.join("postgres");
        fs::create_dir(&folder).unwrap();
        let user = if is_root() { Some(user_named("postgres")?) } else { None };
        if let Some((user, group)) = user {
            // It must pass through the folder above, which is ours alone.
            fs::set_permissions(folder.parent().unwrap(), fs::Permissions::from_mode(0o711)).unwrap();
            chown(&folder, Some(user), Some(group)).unwrap();
        }
        let postgres = Self { programs, user, folder };
        let mut initdb = postgres.command("initdb");
        initdb.args(["-A", "trust", "-U", "postgres", "--no-sync", "-D"]).arg(postgres.data());
        let made = initdb.output().unwrap();
        assert!(made.status.success(), "initdb: {}", String::from_utf8_lossy(&made.stderr));
        Some(postgres)
    }

    /// Events a second, of a server that is started for it.
    pub(crate) async fn measure(&self, has_ids: bool, span: Duration) -> f64 {
        let mut server = self.start().await;
        server.ready(async || self.sql(TABLES).then_some(())).await;
        let script = self.folder.join("script.sql");
        // pgbench takes a line for a statement's end only at a semicolon, but its variables on any line.
        fs::write(&script, if has_ids { COUNT_ONCE } else { COUNT }).unwrap();
        self.bench(&script, Duration::from_secs(1));
        let rate = self.bench(&script, span);
        server.stop("INT");
        rate * EVENTS
    }

    async fn start(&self) -> Process {
        let mut command = self.command("postgres");
        command.arg("-D").arg(self.data());
        let sockets = format!("unix_socket_directories={}", self.folder.display());
        // fsync and synchronous_commit are on by default; they are named since all depends on them. A log that is
        // large enough spares it checkpoints (one more favour).
        let settings = [
            "listen_addresses=",
            &sockets,
            "fsync=on",
            "synchronous_commit=on",
            "max_wal_size=8GB",
            "shared_buffers=256MB",
        ];
        for setting in settings {
            command.args(["-c", setting]);
        }
        let mut server =
            Process::start(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()));
        server.ready(async || self.sql("SELECT 1").then_some(())).await;
        server
    }

    fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    fn sql(&self, sql: &str) -> bool {
        let mut command = self.client("psql");
        command.args(["-q", "-c", sql, "postgres"]).stdout(Stdio::null()).stderr(Stdio::null());
        command.status().unwrap().success()
    }

    /// Transactions a second.
    fn bench(&self, script: &Path, span: Duration) -> f64 {
        let mut command = self.client("pgbench");
        command.args([
            "-n",
            "-M",
            "prepared",
            "-j",
            "2",
            "-c",
            CLIENTS,
            "-T",
            &span.as_secs().max(1).to_string(),
            "-f",
        ]);
        let output = command.arg(script).arg("postgres").output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        let rate = text.lines().find_map(|line| line.strip_prefix("tps = ")?.split(' ').next()?.parse().ok());
        rate.unwrap_or_else(|| panic!("pgbench: {text}{}", String::from_utf8_lossy(&output.stderr)))
    }

    fn client(&self, program: &str) -> Command {
        let mut command = self.command(program);
        command.args(["-U", "postgres", "-h"]).arg(&self.folder);
        command
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.programs.join(program));
        command.current_dir(&self.folder).env("LC_ALL", "C");
        if let Some((user, group)) = self.user {
            command.uid(user).gid(group);
        }
        command
    }
}

/// Debian keeps each version's in a folder of its own; the newest counts.
fn programs() -> Option<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql").ok()?;
    let mut folders: Vec<PathBuf> = versions.map(|version| version.unwrap().path().join("bin")).collect();
    folders.retain(|folder| {
        ["postgres", "initdb", "psql", "pgbench"].iter().all(|name| folder.join(name).exists())
    });
    folders.sort();
    folders.pop()
}

fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt;
    fs::metadata("/proc/self").is_ok_and(|myself| myself.uid() == 0)
}

/// The numbers of a user and its group.
fn user_named(name: &str) -> Option<(u32, u32)> {
    let users = fs::read_to_string("/etc/passwd").ok()?;
    let mut fields = users
        .lines()
        .map(|line| line.split(':'))
        .find_map(|mut fields| (fields.next() == Some(name)).then_some(fields))?;
    fields.next();
    Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
}
