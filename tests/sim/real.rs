//! A throwaway real PostgreSQL: initdb in a temporary directory, one postmaster, stopped and removed at the end.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

pub struct Cluster {
    directory: PathBuf,
    postmaster: Child,
    pub port: u16,
}

/// The directory with `initdb` and `postgres`, of the highest version installed.
pub fn programs() -> Option<PathBuf> {
    let mut found: Vec<PathBuf> = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path().join("bin"))
        .filter(|path| path.join("initdb").exists())
        .collect();
    found.sort();
    let path = std::env::var_os("PATH").unwrap_or_default();
    found.pop().or_else(|| std::env::split_paths(&path).find(|path| path.join("initdb").exists()))
}

/// A command as an unprivileged user: PostgreSQL does not run as root.
fn unprivileged(program: &Path) -> Command {
    // The owner of /proc/self is the effective user.
    let root = std::fs::metadata("/proc/self").is_ok_and(|m| std::os::unix::fs::MetadataExt::uid(&m) == 0);
    if !root {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid=postgres", "--regid=postgres", "--init-groups"]).arg(program);
    command
}

impl Cluster {
    /// `settings` are lines of postgresql.conf, `hba` of pg_hba.conf.
    pub fn start(programs: &Path, settings: &str, hba: &str) -> Cluster {
        let directory = std::env::temp_dir().join(format!("sim-real-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&directory);
        std::fs::create_dir(&directory).expect("create a directory for the cluster");
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o777);
        std::fs::set_permissions(&directory, mode).expect("open the directory to the other user");
        let data = directory.join("data");
        let made = unprivileged(&programs.join("initdb"))
            .args(["-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync", "-D"])
            .arg(&data)
            .current_dir(&directory)
            .stdout(Stdio::null())
            .status()
            .expect("run initdb");
        assert!(made.success(), "initdb failed");
        let port = std::net::TcpListener::bind("127.0.0.1:0")
            .and_then(|listener| listener.local_addr())
            .expect("find a free port")
            .port();
        let base = "listen_addresses = '127.0.0.1'\nunix_socket_directories = ''\nfsync = off\ntimezone = 'UTC'\n\
                    log_destination = 'stderr'\n";
        append(&data.join("postgresql.conf"), &format!("{base}port = {port}\n{settings}\n"));
        std::fs::write(data.join("pg_hba.conf"), hba).expect("write pg_hba.conf");
        let log = std::fs::File::create(directory.join("log")).expect("create the log");
        let postmaster = unprivileged(&programs.join("postgres"))
            .arg("-D")
            .arg(&data)
            .current_dir(&directory)
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("start postgres");
        let cluster = Cluster { directory, postmaster, port };
        cluster.await_ready(&programs.join("pg_isready"));
        cluster
    }

    fn await_ready(&self, pg_isready: &Path) {
        for _ in 0..300 {
            let answer = Command::new(pg_isready)
                .args(["-q", "-h", "127.0.0.1", "-p", &self.port.to_string()])
                .status()
                .expect("run pg_isready");
            if answer.success() {
                return;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        let log = std::fs::read_to_string(self.directory.join("log")).unwrap_or_default();
        panic!("the real PostgreSQL did not start:\n{log}");
    }
}

fn append(path: &Path, text: &str) {
    use std::io::Write;
    let mut file = std::fs::OpenOptions::new().append(true).open(path).expect("open the configuration");
    file.write_all(text.as_bytes()).expect("write the configuration");
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // SIGQUIT: immediate shutdown. The postmaster is our own child.
        let pid = self.postmaster.id().to_string();
        let _ = Command::new("kill").args(["-QUIT", &pid]).status();
        let _ = self.postmaster.wait();
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}
