//! What isolation costs: five jobs in a plain native `chroot`, in an ordinary pod (the backend `chroot`)
//! and in a restricted one (`emulate`), on the same files, one after the other.
//!
//! Needs root, and what the integration tests need. Only the job itself is timed, by the step. Each
//! round of each kind has a file system of its own, new, in a file on the disk: ext4 is many times
//! slower to make files where many were just deleted.

#[path = "../tests/integration/support/mod.rs"]
#[allow(
    dead_code,
    unused_imports,
    unused_macros,
    reason = "what the tests stand on, of which this is a small part"
)]
mod support;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use support::Place;
use support::Registry;
use support::Scratch;
use support::debs;
use support::debs::Package;
use support::place::Kind;
use support::stand_in;

const ROUNDS: usize = 3;

/// Set in the process that has mounts of its own.
const PRIVATE: &str = "CORACLE_BENCH_PRIVATE";

/// Its name, what comes before, the job itself, what it may cost in `chroot` and in `emulate`.
type Job = (&'static str, &'static str, &'static str, Option<f64>, f64);

/// Pip compiles what it installs, unless it is told otherwise, as in the stand-in.
const JOBS: [Job; 5] = [
    (
        "pip install",
        "rm -rf /usr/local/lib/python3*/dist-packages/bulk*",
        "pip install -q --compile --no-cache-dir --no-index --no-deps /jobs/*.whl",
        Some(1.1),
        1.25,
    ),
    (
        "compileall",
        "find / -xdev -name __pycache__ -exec rm -rf {} +",
        "python3 -m compileall -q -f /usr/lib/python3",
        Some(1.1),
        1.1,
    ),
    (
        "dpkg -i of ten",
        "dpkg --purge coracle-bench-0 coracle-bench-1 coracle-bench-2 coracle-bench-3 coracle-bench-4 \
         coracle-bench-5 coracle-bench-6 coracle-bench-7 coracle-bench-8 coracle-bench-9 > /dev/null 2>&1; true",
        "dpkg -i /jobs/*.deb > /dev/null",
        Some(1.1),
        1.0,
    ),
    ("find / -ls", "true", "find / -xdev -ls > /dev/null", None, 4.0),
    (
        "tar x of /usr/share",
        "rm -rf /out; mkdir /out; test -e /share.tar || tar -cf /share.tar -C /usr share",
        "tar -xf /share.tar -C /out",
        None,
        3.0,
    ),
];

#[expect(clippy::print_stdout, reason = "printing is what a bench is for")]
fn main() {
    // What is mounted here is nobody else's.
    if std::env::var_os(PRIVATE).is_none() {
        let program = std::env::current_exe().expect("it is running");
        let mut again = Command::new("unshare");
        let status = again.arg("--mount").arg(program).env(PRIVATE, "1").status();
        assert!(status.is_ok_and(|status| status.success()), "unshare(1) fails");
        return;
    }
    match run() {
        Ok(table) => println!("{table}"),
        Err(reason) => println!("isolation: skipped, as {reason}"),
    }
}

fn run() -> Result<String, String> {
    support::requirement::root()?;
    let registry = Registry::open()?;
    stand_in::push(&registry, &[])?;
    let context = Scratch::new();
    inputs(&context)?;
    let place = Scratch::new();
    tempfile::env::override_temp_dir(place.path()).map_err(|_| "it is set already")?;
    let on_new_disk = |round: &dyn Fn() -> Result<String, String>| {
        let _disk = Disk::mount(place.path())?;
        round().map(|said| times(&said))
    };
    let [mut native, mut chroot, mut emulate] = [const { BTreeMap::new() }; 3];
    for _ in 0..ROUNDS {
        keep_best(&mut native, &on_new_disk(&|| native_round(&context))?);
        let step = |kind| on_new_disk(&|| step_round(kind, &registry, &context));
        keep_best(&mut chroot, &step(Kind::RootPod)?);
        keep_best(&mut emulate, &step(Kind::RestrictedPod)?);
    }
    let mut lines = vec![format!("{:20} {:>10} {:>18} {:>18}", "", "native", "chroot", "emulate")];
    for (name, _, _, in_chroot, in_emulate) in JOBS {
        let base = native[name];
        let cell = |time: u64, most: Option<f64>| {
            let ratio = ratio(time, base);
            let mark = if most.is_some_and(|most| ratio > most) { "!" } else { " " };
            format!("{time:>6} ms {ratio:>6.2}{mark}")
        };
        lines.push(format!(
            "{name:20} {base:>7} ms {:>18} {:>18}",
            cell(chroot[name], in_chroot),
            cell(emulate[name], Some(in_emulate))
        ));
    }
    lines.push(format!(
        "Best of {ROUNDS}; beside it the ratio to native, ! where it is above what it may be."
    ));
    Ok(lines.join("\n"))
}

/// A new file system, mounted as long as this lives.
struct Disk<'a>(&'a Path);

impl<'a> Disk<'a> {
    fn mount(place: &'a Path) -> Result<Self, String> {
        let file = concat!(env!("CARGO_TARGET_TMPDIR"), "/isolation.ext4");
        let shown = place.display();
        shell(&format!(
            "rm -f {file} && truncate -s 8G {file} && mkfs.ext4 -q {file} && mount -o loop {file} {shown} \
             && rm {file} && chmod 1777 {shown}"
        ))?;
        Ok(Self(place))
    }
}

impl Drop for Disk<'_> {
    fn drop(&mut self) {
        let _ = shell(&format!("umount {}", self.0.display()));
    }
}

#[expect(clippy::cast_precision_loss, reason = "milliseconds need no 53 bits")]
fn ratio(time: u64, base: u64) -> f64 {
    time as f64 / base.max(1) as f64
}

fn keep_best(best: &mut BTreeMap<&'static str, u64>, round: &BTreeMap<&'static str, u64>) {
    for (name, time) in round {
        let entry = best.entry(name).or_insert(*time);
        *entry = (*time).min(*entry);
    }
}

/// One job as a shell script that says how many milliseconds it took.
fn script((name, before, job, ..): &Job) -> String {
    format!(
        "{before}; sync; s=$(date +%s%N); {job} || exit 1; e=$(date +%s%N); echo \"TIME {name}: $(( (e - s) / 1000000 ))\""
    )
}

/// What the scripts have said.
fn times(output: &str) -> BTreeMap<&'static str, u64> {
    let found = output.lines().filter_map(|line| {
        let (_, rest) = line.split_once("TIME ")?;
        let (name, time) = rest.split_once(": ")?;
        let (name, ..) = JOBS.iter().find(|(it, ..)| *it == name)?;
        Some((*name, time.trim().parse().ok()?))
    });
    found.collect()
}

/// Ten packages and a wheel, of many small files.
fn inputs(context: &Scratch) -> Result<(), String> {
    let text = "All work and no play makes a package that compresses well.\n".repeat(40);
    let names: Vec<Vec<String>> = (0..10)
        .map(|package| {
            (0..300).map(|it| format!("usr/share/coracle-bench/{package}/{it}")).collect()
        })
        .collect();
    let files: Vec<Vec<(&str, u32, &str)>> = names
        .iter()
        .map(|names| names.iter().map(|it| (it.as_str(), 0o644, text.as_str())).collect())
        .collect();
    let titles: Vec<String> = (0..10).map(|it| format!("coracle-bench-{it}")).collect();
    let packages: Vec<Package<'_>> = titles
        .iter()
        .zip(&files)
        .map(|(name, files)| Package {
            name,
            control: "",
            files,
            postinst: Some("#!/bin/sh\nset -e\nmkdir -p /var/lib/coracle-bench\ntrue | cat\n"),
        })
        .collect();
    for (name, bytes) in debs::build(&packages)? {
        context.write(&format!("jobs/{name}"), bytes);
    }
    // The wheel is made by Python itself, from its own library.
    context.write(
        "jobs/wheel.py",
        "import zipfile, pathlib\n\
         w = zipfile.ZipFile('/jobs/bulk-1.0-py3-none-any.whl', 'w', zipfile.ZIP_DEFLATED)\n\
         lib = pathlib.Path('/usr/lib/python3.11')\n\
         for f in sorted(lib.rglob('*.py')): w.write(f, 'bulk/' + str(f.relative_to(lib)))\n\
         d = 'bulk-1.0.dist-info/'\n\
         w.writestr(d + 'METADATA', 'Metadata-Version: 2.1\\nName: bulk\\nVersion: 1.0\\n')\n\
         w.writestr(d + 'WHEEL', 'Wheel-Version: 1.0\\nGenerator: x\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n')\n\
         w.writestr(d + 'RECORD', '')\n\
         w.close()\n",
    );
    let runs: Vec<String> = JOBS.iter().map(|job| format!("RUN {}\n", script(job))).collect();
    let dockerfile = format!(
        "FROM python:3.6-slim\nCOPY jobs /jobs\nRUN python3 /jobs/wheel.py\n{}",
        runs.concat()
    );
    context.write("Dockerfile", dockerfile);
    Ok(())
}

/// The base unpacked for `chroot(1)`, with the jobs' inputs.
fn native_tree(context: &Scratch) -> Result<Scratch, String> {
    let tree = Scratch::new();
    for (number, layer) in stand_in::layers()?.iter().enumerate() {
        let file = tree.write(&format!("layer-{number}.tar"), layer);
        // What a later layer hides is named by a file of its own.
        shell(&format!(
            "tar -xf {0} -C {1} && rm {0} && find {1} -xdev -name '.wh.*' | while read -r it; do \
             rm -rf \"$(dirname $it)/$(basename $it | cut -c5-)\" $it; done",
            file.display(),
            tree.path().display()
        ))?;
    }
    let jobs = context.join("jobs");
    shell(&format!("cp -r {} {}", jobs.display(), tree.path().display()))?;
    in_tree(&tree, "python3 /jobs/wheel.py")?;
    Ok(tree)
}

/// On a tree of its own, as a step has.
fn native_round(context: &Scratch) -> Result<String, String> {
    let tree = native_tree(context)?;
    let scripts: Vec<String> = JOBS.iter().map(script).collect();
    in_tree(&tree, &scripts.join("\n"))
}

fn in_tree(tree: &Scratch, script: &str) -> Result<String, String> {
    let root = tree.path().display();
    let file = tree.write("script", script);
    let _ = file;
    shell(&format!(
        "exec unshare --mount sh -ec 'mount --rbind /proc {root}/proc; mount --rbind /dev {root}/dev; \
         exec env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 \
         PYTHONDONTWRITEBYTECODE=1 chroot {root} sh /script'"
    ))
}

fn shell(script: &str) -> Result<String, String> {
    let output = Command::new("sh").args(["-c", script]).output().map_err(|it| it.to_string())?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}

fn step_round(kind: Kind, registry: &Registry, context: &Scratch) -> Result<String, String> {
    let place = Place::new(kind)?;
    let directory = place.copy(context.path() as &Path, "context");
    let mirror = registry.as_docker_hub();
    let build = ["build", "--registry-mirror", &mirror, "--progress=plain", &directory];
    Ok(place.run(&build).ok().text())
}
