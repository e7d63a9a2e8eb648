//! A Debian mirror on loopback: packages made by the real `dpkg-deb`, and the index that apt asks for.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use coracle::oci::Digest;

use crate::support::files::FileServer;
use crate::support::requirement;
use crate::support::scratch::Scratch;

/// A package to make.
#[derive(Debug)]
pub(crate) struct Package<'a> {
    pub(crate) name: &'a str,
    /// What else the control file says, as whole lines.
    pub(crate) control: &'a str,
    /// Path, mode and content of each file.
    pub(crate) files: &'a [(&'a str, u32, &'a str)],
    /// What runs when it has been unpacked, if anything.
    pub(crate) postinst: Option<&'a str>,
}

/// Serves a repository of these packages, of one version each.
pub(crate) fn mirror(packages: &[Package<'_>]) -> Result<FileServer, String> {
    let server = FileServer::start();
    let mut index = String::new();
    for (package, (file, bytes)) in packages.iter().zip(build(packages)?) {
        let digest = Digest::of(&bytes).to_string();
        let entry = format!(
            "{}Filename: ./{file}\nSize: {}\nSHA256: {}\n\n",
            package.describe(),
            bytes.len(),
            digest.trim_start_matches("sha256:")
        );
        index.push_str(&entry);
        server.put_text(&format!("/{file}"), bytes);
    }
    server.put_text("/Packages", index);
    Ok(server)
}

/// Makes them; gives the name and content of each.
pub(crate) fn build(packages: &[Package<'_>]) -> Result<Vec<(String, Vec<u8>)>, String> {
    let program = requirement::program("dpkg-deb")?;
    let mut made = Vec::new();
    for package in packages {
        let scratch = Scratch::new();
        let tree = scratch.join("tree");
        write(&tree.join("DEBIAN/control"), 0o644, &package.describe());
        if let Some(script) = package.postinst {
            write(&tree.join("DEBIAN/postinst"), 0o755, script);
        }
        for (path, mode, content) in package.files {
            write(&tree.join(path), *mode, content);
        }
        let file = format!("{}_1.0_all.deb", package.name);
        let output = Command::new(&program)
            .args(["--root-owner-group", "-Zgzip", "--build"])
            .arg(&tree)
            .arg(scratch.join(&file))
            .env("SOURCE_DATE_EPOCH", "1600000000")
            .output()
            .map_err(|error| error.to_string())?;
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let bytes = fs::read(scratch.join(&file)).expect("dpkg-deb wrote it");
        made.push((file, bytes));
    }
    Ok(made)
}

impl Package<'_> {
    /// Its control file.
    fn describe(&self) -> String {
        format!(
            "Package: {}\nVersion: 1.0\nArchitecture: all\nMaintainer: Nobody <nobody@invalid>\n{}\
             Description: for the tests of coracle\n",
            self.name, self.control
        )
    }
}

fn write(path: &Path, mode: u32, content: &str) {
    fs::create_dir_all(path.parent().expect("a file has a parent")).expect("scratch is writable");
    fs::write(path, content).expect("scratch is writable");
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("it is ours");
}
