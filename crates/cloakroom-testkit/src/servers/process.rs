//! A server as a child process that never outlives the test program, however that ends.

use std::fmt;
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// Starts the server, says its process id, and waits for a line on its input. At the end of the input, which is also what comes of
/// a test program that is killed, it stops the server and removes its folder; at the line `keep` it leaves the folder.
const GUARD: &str = r#"
folder=$1 signal=$2; shift 2
"$@" </dev/null &
server=$!
trap '' INT TERM HUP
echo "$server"
read -r word
kill -CONT "$server" 2>/dev/null
kill -"$signal" "$server" 2>/dev/null
wait "$server" 2>/dev/null
[ "$word" = keep ] || rm -rf -- "$folder"
"#;

/// A running server and the guard that ends it.
pub struct Process {
    pid: u32,
    guard: Child,
}

impl Process {
    /// Starts `command` (a program and its arguments), whose files are all below `folder`. What it prints goes to
    /// `folder/log`. `signal` is the name of the one that stops it.
    ///
    /// # Errors
    ///
    /// If the guard cannot be started. A server that ends at once is noticed by whoever waits for it.
    pub fn start(folder: &Path, signal: &str, command: &[&str]) -> io::Result<Self> {
        let log = std::fs::File::options().create(true).append(true).open(folder.join("log"))?;
        let mut guard = Command::new("/bin/sh")
            .args(["-c", GUARD, "guard"])
            .arg(folder)
            .arg(signal)
            .args(command)
            .current_dir(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()?;
        let stdout = guard.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?;
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line)?;
        let pid = line.trim().parse().map_err(|_| io::Error::other("the guard did not say a process id"))?;
        Ok(Self { pid, guard })
    }

    /// The server's process id.
    pub const fn pid(&self) -> u32 {
        self.pid
    }

    /// Sends the server a signal, by name: `KILL`, `STOP`, `CONT`.
    ///
    /// # Errors
    ///
    /// If there is no such process any more.
    pub fn signal(&self, name: &str) -> io::Result<()> {
        let sent = Command::new("kill").arg(format!("-{name}")).arg(self.pid.to_string()).status()?;
        sent.success()
            .then_some(())
            .ok_or_else(|| io::Error::other(format!("kill -{name} {} failed", self.pid)))
    }

    /// Ends the server by SIGKILL and waits until it is gone. Its folder stays, so that it can be started again there.
    ///
    /// # Errors
    ///
    /// If the guard cannot be spoken to.
    pub fn kill_and_keep(mut self) -> io::Result<()> {
        // Perhaps it has ended by itself.
        drop(self.signal("KILL"));
        self.finish("keep\n")
    }

    /// Stops the server in its own way and waits until it is gone. Its folder stays.
    ///
    /// # Errors
    ///
    /// If the guard cannot be spoken to.
    pub fn stop_and_keep(mut self) -> io::Result<()> {
        self.finish("keep\n")
    }

    fn finish(&mut self, word: &str) -> io::Result<()> {
        if let Some(mut input) = self.guard.stdin.take() {
            input.write_all(word.as_bytes())?;
        }
        self.guard.wait().map(drop)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Nothing is left to be done about an error here.
        drop(self.finish(""));
    }
}

impl fmt::Debug for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Process").field("pid", &self.pid).finish_non_exhaustive()
    }
}
