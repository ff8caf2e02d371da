//! `ocicat bgp dump`: the speaker's table as an MRT file, asked for slice by slice.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use ocicat_felix::api::Query;
use ocicat_felix::api::bgp::{DumpPage, DumpQuery, FamilyName};

use super::ask::{PATIENCE, connect, read};

/// Writes the dump to a file, or with `-` to standard output. The file is there when it is whole.
pub(super) fn run(
    socket: &Path,
    family: Option<FamilyName>,
    file: &Path,
) -> anyhow::Result<ExitCode> {
    if file == Path::new("-") {
        let mut out = BufWriter::new(std::io::stdout().lock());
        write(socket, family, &mut out)?;
        return Ok(ExitCode::SUCCESS);
    }
    let unfinished = unfinished(file);
    let failed = || format!("cannot write {}", unfinished.display());
    let mut out = BufWriter::new(File::create(&unfinished).with_context(failed)?);
    let written = write(socket, family, &mut out);
    if let Err(error) = written {
        // What is half a dump is of no use; that it cannot be removed matters less than why.
        let _ = fs::remove_file(&unfinished);
        return Err(error);
    }
    fs::rename(&unfinished, file).with_context(|| format!("cannot write {}", file.display()))?;
    Ok(ExitCode::SUCCESS)
}

fn unfinished(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(".part");
    name.into()
}

fn write(socket: &Path, family: Option<FamilyName>, out: &mut impl Write) -> anyhow::Result<()> {
    let mut from = None;
    let mut agent: Option<BufReader<UnixStream>> = None;
    loop {
        let query = serde_json::to_string(&Query::BgpDump(DumpQuery { family, from }))?;
        let agent = match &mut agent {
            Some(agent) => {
                agent.get_mut().write_all(format!("{query}\n").as_bytes())?;
                agent
            }
            None => {
                let stream = connect(socket, &query)?;
                stream.set_read_timeout(Some(PATIENCE))?;
                agent.insert(BufReader::new(stream))
            }
        };
        let mut answer = String::new();
        agent.read_line(&mut answer).context("the agent did not answer")?;
        let page: DumpPage = read(&answer)?;
        out.write_all(&page.records.0).context("cannot write the dump")?;
        match page.next {
            Some(next) => from = Some(next),
            None => return out.flush().context("cannot write the dump"),
        }
    }
}
