//! Binds the socket of the gRPC server: a TCP address, or a Unix socket with its file mode.

use std::{
    fs, io,
    os::unix::{
        fs::{FileTypeExt, PermissionsExt},
        net::UnixStream,
    },
    path::Path,
};

use rustix::fs::{Mode, fchmod};
use tokio::net::{TcpListener, UnixListener, UnixSocket};

use crate::base::config::Listen;

/// Mode of the socket's file: open to owner and group. Applications run as another user than the agent and share a
/// group with it (in Kubernetes the pod's fsGroup).
const SOCKET_MODE: u32 = 0o660;
/// Connections that may wait to be accepted. tokio has the same number for TCP.
const SOCKET_BACKLOG: u32 = 1024;

/// A socket that is bound and listens.
pub(crate) enum BoundSocket {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// Binds the address or the Unix socket of the configuration. Connections wait in its backlog until they are accepted.
pub(crate) async fn bind(listen: &Listen) -> io::Result<BoundSocket> {
    match listen {
        Listen::Tcp(address) => TcpListener::bind(address).await.map(BoundSocket::Tcp),
        Listen::Unix(path) => {
            remove_stale_socket(path)?;
            listen_unix(path).map(BoundSocket::Unix)
        }
    }
}

/// Sets the mode of the file before the socket listens, since nobody can connect earlier.
fn listen_unix(path: &Path) -> io::Result<UnixListener> {
    let socket = bind_socket(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(SOCKET_MODE))?;
    socket.listen(SOCKET_BACKLOG)
}

/// Creates the socket's file. At no moment is it open to others than owner and group; the umask may close it further.
fn bind_socket(path: &Path) -> io::Result<UnixSocket> {
    let socket = UnixSocket::new_stream()?;
    // On Linux the file gets the mode of the socket. Elsewhere this may fail, and `listen_unix` sets the file's mode.
    fchmod(&socket, Mode::from_bits_retain(SOCKET_MODE)).ok();
    socket.bind(path)?;
    Ok(socket)
}

/// Removes the socket file of an earlier process. Fails if a process still listens on it, or if it is no socket.
fn remove_stale_socket(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
        Ok(found) if !found.file_type().is_socket() => {
            Err(io::Error::other("there is a file that is no socket"))
        }
        Ok(_) if UnixStream::connect(path).is_ok() => Err(io::ErrorKind::AddrInUse.into()),
        Ok(_) => fs::remove_file(path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_socket_is_open_to_owner_and_group_and_at_no_moment_to_others() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tallyman.sock");
        let mode = || fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        let socket = bind_socket(&path).unwrap();
        assert_eq!(mode() & !0o660, 0, "{:o}", mode());
        assert!(UnixStream::connect(&path).is_err(), "it does not listen yet");
        drop(socket);
        let _listener = bind(&Listen::Unix(path.clone())).await.unwrap();
        assert_eq!(mode(), 0o660, "{:o}", mode());
        assert!(UnixStream::connect(&path).is_ok());
    }
}
