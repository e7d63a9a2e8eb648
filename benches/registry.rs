//! How fast an image goes to a registry and comes from it, beside skopeo and crane, on loopback.
//!
//! The image is the stand-in for python:3.6-slim (`make stand-in`), the registry Debian's. Each tool
//! takes its turn in each round, with an empty registry for a push and an empty place for a pull. What
//! counts is the ratio of the medians. crane is measured if it is in `PATH`, or `CRANE` names it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const ROUNDS: usize = 9;

/// A tool, and its commands, with `{}` for the image's name and other braces for directories.
struct Tool {
    name: &'static str,
    program: PathBuf,
    push: &'static [&'static str],
    pull: &'static [&'static str],
}

/// A registry that ends with the bench.
struct Registry {
    process: Child,
    address: String,
}

impl Registry {
    fn start(directory: &Path) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("loopback has free ports");
        let address = listener.local_addr().expect("it is bound").to_string();
        drop(listener);
        fs::create_dir_all(directory).expect("writable");
        let data = directory.join("data");
        let config = format!(
            "version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\n\
             storage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: \"{address}\", secret: x}}\n",
            data.display()
        );
        fs::write(directory.join("config.yml"), config).expect("writable");
        let process = Command::new("docker-registry")
            .arg("serve")
            .arg(directory.join("config.yml"))
            .env("OTEL_TRACES_EXPORTER", "none")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("docker-registry is installed (scripts/setup test)");
        while std::net::TcpStream::connect(&address).is_err() {
            std::thread::sleep(Duration::from_millis(5));
        }
        Self { process, address }
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|it| it.join(name)).find(|it| it.is_file())
}

fn tools() -> Vec<Tool> {
    let mut tools = vec![Tool {
        name: "coracle",
        program: env!("CARGO_BIN_EXE_coracle").into(),
        push: &["--root", "{from}", "push", "--progress=quiet", "{}"],
        pull: &["--root", "{to}", "pull", "--progress=quiet", "{}"],
    }];
    if let Some(program) = find("skopeo") {
        tools.push(Tool {
            name: "skopeo",
            program,
            push: &[
                "--insecure-policy",
                "copy",
                "--quiet",
                "--dest-tls-verify=false",
                "oci:{layout}:latest",
                "docker://{}",
            ],
            pull: &[
                "--insecure-policy",
                "copy",
                "--quiet",
                "--src-tls-verify=false",
                "docker://{}",
                "oci:{to}:x",
            ],
        });
    }
    let crane = std::env::var_os("CRANE").map(PathBuf::from).or_else(|| find("crane"));
    if let Some(program) = crane {
        tools.push(Tool {
            name: "crane",
            program,
            push: &["push", "--insecure", "{layout}", "{}"],
            pull: &["pull", "--insecure", "--format=oci", "{}", "{to}"],
        });
    }
    tools
}

/// The directories that commands name.
struct Values {
    layout: String,
    from: String,
    to: String,
    home: String,
}

/// Runs one command of a tool over the image `name`, and gives how long it took.
fn run(tool: &Tool, words: &[&str], name: &str, values: &Values) -> Duration {
    let fill = |word: &&str| {
        word.replace("{}", name)
            .replace("{layout}", &values.layout)
            .replace("{from}", &values.from)
            .replace("{to}", &values.to)
    };
    let mut command = Command::new(&tool.program);
    command.args(words.iter().map(fill));
    command.env("HOME", &values.home).env("XDG_RUNTIME_DIR", &values.home);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let begun = Instant::now();
    let output = command.output().expect("the tool starts");
    let time = begun.elapsed();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {text}", tool.name);
    time
}

fn median(times: &mut [Duration]) -> f64 {
    times.sort();
    times[times.len() / 2].as_secs_f64() * 1000.0
}

#[expect(clippy::print_stdout, reason = "printing is what a bench is for")]
fn report(what: &str, tools: &[Tool], times: &mut [Vec<Duration>]) {
    let medians: Vec<f64> = times.iter_mut().map(|times| median(times)).collect();
    for ((tool, own), times) in tools.iter().zip(&medians).zip(times.iter()) {
        let best = times[0].as_secs_f64() * 1000.0;
        let ratio = own / medians[0];
        println!("{what} {:8} {own:8.1} ms (best {best:8.1} ms), {ratio:5.2} × coracle", tool.name);
    }
}

#[expect(clippy::print_stdout, reason = "printing is what a bench is for")]
fn main() {
    let layout = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/stand-in");
    if !layout.join("index.json").is_file() {
        println!("target/stand-in is missing (`make stand-in` makes it)");
        return;
    }
    let tools = tools();
    for name in ["skopeo", "crane"] {
        if !tools.iter().any(|tool| tool.name == name) {
            println!("{name} is not installed, and not measured");
        }
    }
    let work = tempfile::tempdir().expect("a temporary directory");
    let place = |name: &str| work.path().join(name).display().to_string();
    let (store, home, to) = (place("store"), place("home"), place("pulled"));
    fs::create_dir(&home).expect("writable");
    let values = Values { layout: layout.display().to_string(), from: store, to, home };
    let local = stock(&tools[0], &values, work.path());
    let (mut pushes, mut pulls) = (vec![Vec::new(); tools.len()], vec![Vec::new(); tools.len()]);
    for round in 0..ROUNDS {
        for (index, tool) in tools.iter().enumerate() {
            let directory = work.path().join("registry");
            let registry = Registry::start(&directory);
            let name = format!("{}/bench/stand-in:{round}", registry.address);
            if index == 0 {
                run(tool, &["--root", "{from}", "tag", &local, "{}"], &name, &values);
            }
            pushes[index].push(run(tool, tool.push, &name, &values));
            pulls[index].push(run(tool, tool.pull, &name, &values));
            fs::remove_dir_all(&values.to).expect("it was made");
            drop(registry);
            fs::remove_dir_all(directory).expect("it is ours");
        }
    }
    report("push", &tools, &mut pushes);
    report("pull", &tools, &mut pulls);
}

/// Gets the image into coracle's store; gives its name there.
fn stock(coracle: &Tool, values: &Values, work: &Path) -> String {
    let directory = work.join("stock");
    let registry = Registry::start(&directory);
    let name = format!("{}/bench/stand-in:local", registry.address);
    run(coracle, &["--root", "{from}", "copy", "oci:{layout}", "{}"], &name, values);
    run(coracle, &["--root", "{from}", "pull", "{}"], &name, values);
    drop(registry);
    fs::remove_dir_all(directory).expect("it is ours");
    name
}
