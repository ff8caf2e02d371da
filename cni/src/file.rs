//! Files that are whole or absent, whenever the power goes.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

/// Writes `bytes` to `path` through a temporary file beside it, fsync and rename, so that a reader, and whoever comes
/// after a crash, sees the old content or the new.
///
/// A new name is also synced into its directory. Of an old one either content is good after a power failure, which no
/// pod survives, and an fsync costs milliseconds while the node pulls images.
///
/// The caller sees to it that no two writers write the same path at once.
pub(crate) fn write_atomically(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let is_new = !path.exists();
    let directory = path.parent().unwrap_or(Path::new("/"));
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".tmp");
    let mut file = File::create(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    if is_new { sync_directory(directory) } else { Ok(()) }
}

/// Makes creations and removals inside `directory` outlive a crash.
pub(crate) fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

/// Makes a directory and what lacks above it, for root alone. One that is there is left as it is.
pub(crate) fn create_directory(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}
