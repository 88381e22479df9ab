//! A virtual machine that runs the agent on a disk of its own, and whose power can be cut.

use std::{
    fs,
    io::Write,
    net::{SocketAddr, TcpListener},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, SystemTime},
};

/// Within the machine. The host's loopback is 10.0.2.2 there.
const INIT: &str = r#"#!/bin/busybox sh
export PATH=/bin
/bin/busybox mkdir -p /bin /proc /sys /dev /data /tmp
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
for module in $(cat /modules/order); do insmod /modules/$module; done
ip link set lo up
ip addr add 10.0.2.15/24 dev eth0
ip link set eth0 up
date -s @$(nc 10.0.2.2 TIME_PORT)
mount -t ext4 /dev/vda /data || poweroff -f
# The agent listens on loopback alone, and so does the sandbox.
nc -ll -p 17450 -e nc 127.0.0.1 7450 &
nc -ll -p 17451 -e nc 127.0.0.1 7451 &
nc -ll -p SANDBOX_PORT -e nc 10.0.2.2 SANDBOX_PORT &
export AWS_ACCESS_KEY_ID=test AWS_SECRET_ACCESS_KEY=test AWS_EC2_METADATA_DISABLED=true
tallyman run --config /tallyman.toml --clock CLOCK
echo "the agent ended with $?"
poweroff -f
"#;

pub(crate) struct Settings<'s> {
    /// The host's addresses that lead to the agent.
    pub(crate) grpc: &'s str,
    pub(crate) admin: &'s str,
    pub(crate) sandbox_port: u16,
    pub(crate) clock: String,
    pub(crate) configuration: String,
    pub(crate) disk_socket: &'s Path,
}

pub(crate) struct Machine {
    folder: PathBuf,
    arguments: Vec<String>,
}

pub(crate) struct Running {
    qemu: Child,
}

impl Machine {
    /// Makes the machine's system, all of it in memory: a kernel, busybox and the agent.
    pub(crate) fn new(folder: &Path, settings: &Settings<'_>) -> Self {
        let root = folder.join("root");
        let clock_port = tell_the_time();
        let init = INIT
            .replace("TIME_PORT", &clock_port.to_string())
            .replace("SANDBOX_PORT", &settings.sandbox_port.to_string())
            .replace("CLOCK", &settings.clock);
        copy(&needed("TALLYMAN_VM_BUSYBOX"), &root.join("bin/busybox"));
        let agent = Path::new(env!("CARGO_BIN_EXE_tallyman"));
        copy(agent, &root.join("bin/tallyman"));
        for library in libraries(agent) {
            copy(&library, &root.join(library.strip_prefix("/").unwrap()));
        }
        let certificates = Path::new("/etc/ssl/certs/ca-certificates.crt");
        if certificates.exists() {
            copy(certificates, &root.join("etc/ssl/certs/ca-certificates.crt"));
        }
        let modules = needed("TALLYMAN_VM_MODULES");
        for entry in fs::read_dir(modules).unwrap() {
            let path = entry.unwrap().path();
            copy(&path, &root.join("modules").join(path.file_name().unwrap()));
        }
        fs::write(root.join("tallyman.toml"), &settings.configuration).unwrap();
        fs::write(root.join("init"), init).unwrap();
        fs::set_permissions(root.join("init"), fs::Permissions::from_mode(0o755)).unwrap();
        let image = pack(&root);
        Self { folder: folder.to_owned(), arguments: arguments(&image, settings) }
    }

    pub(crate) fn start(&self) -> Running {
        let console = fs::File::options().create(true).append(true).open(self.console()).unwrap();
        let program = std::env::var("TALLYMAN_VM_QEMU").unwrap_or_else(|_| "qemu-system-x86_64".to_owned());
        let mut qemu = Command::new(program);
        let notes = console.try_clone().unwrap();
        let qemu = qemu.args(&self.arguments).stdin(Stdio::null()).stdout(console).stderr(notes).spawn();
        Running { qemu: qemu.unwrap() }
    }

    pub(crate) fn log(&self) -> String {
        let log = fs::read(self.console()).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(60)..].join("\n")
    }

    fn console(&self) -> PathBuf {
        self.folder.join("console")
    }
}

impl Running {
    /// Nothing in the machine learns of it: its memory is gone, and what it had written down in it.
    pub(crate) fn cut(mut self) {
        self.qemu.kill().unwrap();
        self.qemu.wait().unwrap();
    }

    pub(crate) fn has_ended(&mut self) -> bool {
        self.qemu.try_wait().unwrap().is_some()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.qemu.kill().ok();
        self.qemu.wait().ok();
    }
}

fn arguments(image: &Path, settings: &Settings<'_>) -> Vec<String> {
    let Settings { grpc, admin, disk_socket, .. } = settings;
    let forward = |address: &str, port: u16| format!("hostfwd=tcp:{address}-10.0.2.15:{port}");
    let network = format!("user,id=network,{},{}", forward(grpc, 17450), forward(admin, 17451));
    let disk = format!(
        "if=none,id=disk,format=raw,cache=writeback,file.driver=nbd,file.server.type=unix,file.server.path={}",
        disk_socket.display()
    );
    let accelerator = std::env::var("TALLYMAN_VM_ACCEL").unwrap_or_else(|_| "tcg,thread=multi".to_owned());
    // Under emulation the timers of a busy host come late, and a kernel that checks them gives up.
    let kernel_arguments = "console=ttyS0 quiet panic=-1 no_timer_check tsc=reliable";
    let (kernel, image) = (needed("TALLYMAN_VM_KERNEL"), image.display().to_string());
    let pairs = [
        ("-accel", &*accelerator),
        ("-cpu", "max"),
        ("-smp", "2"),
        ("-m", "768"),
        ("-display", "none"),
        ("-monitor", "none"),
        ("-serial", "stdio"),
        ("-kernel", kernel.to_str().unwrap()),
        ("-initrd", &image),
        ("-append", kernel_arguments),
        ("-drive", &disk),
        ("-device", "virtio-blk-pci,drive=disk"),
        ("-netdev", &network),
        ("-device", "virtio-net-pci,netdev=network,romfile="),
        ("-rtc", "base=utc,clock=host"),
    ];
    let mut arguments: Vec<String> =
        pairs.iter().flat_map(|(name, value)| [*name, *value]).map(Into::into).collect();
    arguments.extend(["-nodefaults", "-no-reboot"].map(Into::into));
    arguments
}

/// What scripts/powercut has found or fetched.
fn needed(name: &str) -> PathBuf {
    std::env::var_os(name).unwrap_or_else(|| panic!("{name} is not set: type `make powercut`")).into()
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to.parent().unwrap()).unwrap();
    fs::copy(from, to).unwrap_or_else(|error| panic!("{}: {error}", from.display()));
}

/// The shared libraries of a program, and what loads them.
fn libraries(program: &Path) -> Vec<PathBuf> {
    let listed = Command::new("ldd").arg(program).output().unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    let path = |line: &str| line.split_whitespace().find(|word| word.starts_with('/')).map(PathBuf::from);
    listed.lines().filter_map(path).collect()
}

/// Packs a folder as the kernel unpacks it.
fn pack(root: &Path) -> PathBuf {
    let image = root.with_extension("cpio");
    let mut packer = Command::new("sh");
    packer
        .args(["-c", "find . | \"$0\" cpio -o -H newc"])
        .arg(needed("TALLYMAN_VM_BUSYBOX"))
        .current_dir(root);
    let packed = packer.stdout(fs::File::create(&image).unwrap()).stderr(Stdio::null()).status().unwrap();
    assert!(packed.success());
    image
}

/// Tells whoever connects the time, at a full second: the clock of the machine itself knows no parts of one, and the
/// simulated time is many times as fast.
fn tell_the_time() -> u16 {
    let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for connection in listener.incoming() {
            let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
            let next = since_epoch.as_secs() + 1;
            thread::sleep(Duration::from_secs(next).saturating_sub(since_epoch));
            drop(connection.and_then(|mut machine| machine.write_all(format!("{next}\n").as_bytes())));
        }
    });
    port
}
