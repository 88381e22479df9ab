//! What the server listens on: an address, or a Unix socket with its mode.

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

use super::incoming::Io;
use crate::base::config::Listen;

/// An application has another user than the agent, and shares a group with it (in Kubernetes the pod's fsGroup).
const SOCKET_MODE: u32 = 0o660;
/// Connections that wait to be taken; as tokio has it for TCP.
const SOCKET_BACKLOG: u32 = 1024;

/// A socket that is bound and not served yet.
pub enum Bound {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Bound {
    pub(super) async fn accept(&self) -> io::Result<Box<dyn Io>> {
        match self {
            Self::Tcp(listener) => {
                let (stream, _) = listener.accept().await?;
                // Answers are small, and must not wait for the client's acknowledgement of those before them (40 ms,
                // for some). It fails for a connection that is gone: whoever serves it will see.
                stream.set_nodelay(true).ok();
                Ok(Box::new(stream))
            }
            Self::Unix(listener) => Ok(Box::new(listener.accept().await?.0)),
        }
    }
}

pub async fn bind(listen: &Listen) -> io::Result<Bound> {
    match listen {
        Listen::Tcp(address) => TcpListener::bind(address).await.map(Bound::Tcp),
        Listen::Unix(path) => {
            remove_stale_socket(path)?;
            listen_unix(path).map(Bound::Unix)
        }
    }
}

/// Nobody can connect before the socket listens, and by then its mode is right.
fn listen_unix(path: &Path) -> io::Result<UnixListener> {
    let socket = bind_socket(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(SOCKET_MODE))?;
    socket.listen(SOCKET_BACKLOG)
}

/// Its file is never open to more than owner and group, though to less if the process's umask says so.
fn bind_socket(path: &Path) -> io::Result<UnixSocket> {
    let socket = UnixSocket::new_stream()?;
    // Linux gives the file the socket's own mode. Where that cannot be set, the file's is set in a moment.
    fchmod(&socket, Mode::from_bits_retain(SOCKET_MODE)).ok();
    socket.bind(path)?;
    Ok(socket)
}

/// Removes the socket file that an earlier process left. One that is still answered, or another kind of file, stays.
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
        assert_eq!(mode() & !SOCKET_MODE, 0, "{:o}", mode());
        assert!(UnixStream::connect(&path).is_err(), "it does not listen yet");
        drop(socket);
        let _listener = bind(&Listen::Unix(path.clone())).await.unwrap();
        assert_eq!(mode(), SOCKET_MODE, "{:o}", mode());
        assert!(UnixStream::connect(&path).is_ok());
    }
}
