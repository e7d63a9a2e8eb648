//! The command line as it was typed. Nothing here looks at the system.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, FromArgMatches as _, Parser, Subcommand, ValueEnum};

use crate::cli::doctor::DoctorArguments;
use crate::cli::isolation::IsolationArguments;
use crate::cli::registry_args::RegistryArguments;
use crate::cli::remote_args::{CopyArguments, IndexCommand};
use crate::cli::step_args::StepArguments;
use crate::oci::ParsePlatformError;
use crate::oci::Platform;
use crate::oci::Reference;

/// Builds OCI images from Dockerfiles: no daemon, no root.
#[derive(Debug, Parser)]
#[command(name = "coracle", version, max_term_width = 100, infer_subcommands = false)]
pub(crate) struct Arguments {
    /// What all commands take.
    #[command(flatten)]
    pub(crate) global: GlobalArguments,
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Reads a platform; Docker's tools take several.
fn one_platform(text: &str) -> Result<Platform, String> {
    if text.contains(',') {
        let advice = "build each, and put the images together with `coracle index create`";
        return Err(format!("these are several platforms: {advice}"));
    }
    text.parse().map_err(|error: ParsePlatformError| error.to_string())
}

/// What all commands take.
#[derive(Debug, Clone, Args)]
pub(crate) struct GlobalArguments {
    /// Directory of images, layers and caches [default: `$XDG_DATA_HOME/coracle`].
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) root: Option<PathBuf>,
    /// Pull from URL what names REGISTRY, as in `docker.io=http://127.0.0.1:5000`; repeatable.
    #[arg(long, global = true, value_name = "REGISTRY=URL")]
    pub(crate) registry_mirror: Vec<String>,
    /// Speak plain HTTP, or accept any certificate, with this registry; repeatable.
    #[arg(long, global = true, value_name = "HOST[:PORT]")]
    pub(crate) insecure_registry: Vec<String>,
    /// How registries are spoken to, and as whom.
    #[command(flatten)]
    pub(crate) registry: RegistryArguments,
    /// How commands are isolated.
    #[command(flatten)]
    pub(crate) isolation: IsolationArguments,
    /// How to show progress.
    #[arg(long, global = true, value_enum, default_value_t = ProgressMode::Auto)]
    pub(crate) progress: ProgressMode,
    /// Tell of each request to a registry and of the reasons for it, without any secret: on
    /// standard error, or at the end of FILE. So does `CORACLE_DEBUG`, which is `1` or a FILE.
    #[arg(long, global = true, value_name = "FILE", num_args = 0..=1, require_equals = true)]
    #[arg(default_missing_value = "-")]
    pub(crate) debug: Option<PathBuf>,
}

/// How to show progress.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ProgressMode {
    /// `tty` on a terminal, otherwise `plain`.
    Auto,
    /// Redraws what is running.
    Tty,
    /// A line for each event.
    Plain,
    /// A JSON object a line.
    Json,
    /// Nothing but errors; `build` prints the image's digest.
    Quiet,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Build an image from a Dockerfile
    Build(Box<BuildArguments>),
    /// Copy an image, or an index with all its images, between registries, layouts and archives
    Copy(CopyArguments),
    /// Say what this place allows, what it lacks, and how to have it
    Doctor(DoctorArguments),
    /// List the images in the store
    Images,
    /// Put images for several platforms under one name
    #[command(subcommand)]
    Index(IndexCommand),
    /// Print an image's manifest and config as JSON
    Inspect(ReferenceArgument),
    /// Check a Dockerfile and build nothing: the same as `build --check`
    Lint(LintArguments),
    /// Read images from an OCI layout, an OCI tar or a docker-archive
    Load(LoadArguments),
    /// Check credentials with a registry and store them
    Login(LoginArguments),
    /// Remove the stored credentials of a registry
    Logout(LogoutArguments),
    /// List the tags of a repository in a registry
    Ls(ReferenceArgument),
    /// Print a manifest or index from a registry, byte for byte
    Manifest(ReferenceArgument),
    /// Free disk space: remove what no image in the store and no cached step needs
    Prune(PruneArguments),
    /// Copy an image from a registry into the store
    Pull(PullArguments),
    /// Copy images from the store to their registries
    Push(PushArguments),
    /// Remove tags, or manifests by digest, from their registries
    Rm(ReferencesArgument),
    /// Remove images from the store
    Rmi(ReferencesArgument),
    /// Run an image's entrypoint in the sandbox
    Run(RunArguments),
    /// Write an image to an OCI tar or a docker-archive
    Save(SaveArguments),
    /// Give an image in the store another name
    Tag(TagArguments),
}

/// `coracle build`
#[derive(Debug, Args)]
pub(crate) struct BuildArguments {
    /// The files that COPY and ADD may take: a directory, a tar, `-` for a tar or a Dockerfile on
    /// standard input, the URL of either, or a git repository as `URL#ref:subdir`.
    pub(crate) context: PathBuf,
    /// A name for the image; repeatable.
    #[arg(short, long, value_name = "REFERENCE")]
    pub(crate) tag: Vec<Reference>,
    /// The Dockerfile, in a tar or a repository by its name there; `-` is standard input
    /// [default: CONTEXT/Dockerfile].
    #[arg(short, long, value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
    /// Give an ARG a value; without `=VALUE` it comes from the environment; repeatable.
    #[arg(long, value_name = "NAME[=VALUE]")]
    pub(crate) build_arg: Vec<String>,
    /// Read such arguments from FILE, one a line; `--build-arg` beats them; repeatable.
    #[arg(long, value_name = "FILE")]
    pub(crate) build_arg_file: Vec<PathBuf>,
    /// Another name for files or an image: a directory, `docker-image://REFERENCE`,
    /// `oci-layout://DIR[:TAG][@DIGEST]`, or the URL of a file or a git repository; repeatable.
    #[arg(long, value_name = "NAME=WHERE")]
    pub(crate) build_context: Vec<String>,
    /// Build this stage, and only what it needs.
    #[arg(long, value_name = "STAGE")]
    pub(crate) target: Option<String>,
    /// Build for this platform.
    #[arg(long, value_name = "OS/ARCH[/VARIANT]", value_parser = one_platform)]
    pub(crate) platform: Option<Platform>,
    /// Add a label to the image; repeatable.
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) label: Vec<String>,
    /// The network of RUN steps that do not say.
    #[arg(long, value_enum, default_value_t = NetworkMode::Default)]
    pub(crate) network: NetworkMode,
    /// Run every step, whatever the cache holds.
    #[arg(long)]
    pub(crate) no_cache: bool,
    /// Run every step of these stages, whatever the cache holds; repeatable.
    #[arg(long, value_name = "STAGE", value_delimiter = ',')]
    pub(crate) no_cache_filter: Vec<String>,
    /// What commands see and may do.
    #[command(flatten)]
    pub(crate) steps: StepArguments,
    /// Ask the registry for base images, even if the store has an image of that name.
    #[arg(long)]
    pub(crate) pull: bool,
    /// Short for `--output type=registry`.
    #[arg(long)]
    pub(crate) push: bool,
    /// Where the image goes: `type=store|registry|oci|docker|tar|local[,dest=PATH]`; repeatable
    /// [default: type=store].
    #[arg(short, long, value_name = "SPEC")]
    pub(crate) output: Vec<String>,
    /// Write the image ID here.
    #[arg(long, value_name = "FILE")]
    pub(crate) iidfile: Option<PathBuf>,
    /// Write what was built here, as JSON with buildx's keys.
    #[arg(long, value_name = "FILE")]
    pub(crate) metadata_file: Option<PathBuf>,
    /// What to tell in place of building.
    #[command(flatten)]
    pub(crate) call: CallArguments,
}

/// What `coracle build` can tell about a Dockerfile without building it.
#[derive(Debug, Args)]
pub(crate) struct CallArguments {
    /// Short for `--call=check`: build nothing, and report what should not be written so. Bases are
    /// looked for in the store, with `--pull` also in the registry.
    #[arg(long, conflicts_with_all = ["call", "push", "output", "iidfile", "metadata_file"])]
    pub(crate) check: bool,
    /// Build nothing, but tell about the Dockerfile; `METHOD,format=json` is understood too.
    #[arg(long, value_name = "METHOD", value_parser = parse_call,
        conflicts_with_all = ["push", "output", "iidfile", "metadata_file"])]
    pub(crate) call: Option<Call>,
    /// The form of what `--check` and `--call` tell [default: text].
    #[arg(long, value_enum, value_name = "FORMAT")]
    pub(crate) format: Option<CallFormat>,
}

/// `--call`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Call {
    /// What is asked for.
    pub(crate) method: CallMethod,
    /// `,format=`
    pub(crate) format: Option<CallFormat>,
}

/// What can be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum CallMethod {
    /// The image: build it.
    Build,
    /// BuildKit's build checks.
    Check,
    /// What the target takes: arguments, secrets, agents, caches.
    Outline,
    /// The stages that can be built.
    Targets,
}

/// `--format`
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum CallFormat {
    /// For people.
    #[default]
    Text,
    /// With the keys of BuildKit.
    Json,
    /// SARIF 2.1.0, for code review tools; only of checks.
    Sarif,
}

/// Reads `METHOD[,format=FORMAT]`, as buildx does.
fn parse_call(text: &str) -> Result<Call, String> {
    let (method, rest) = text.split_once(',').unwrap_or((text, ""));
    let method = CallMethod::from_str(method, false)
        .map_err(|_| "the methods are build, check, outline and targets".to_owned())?;
    let format = match rest.strip_prefix("format=") {
        None if rest.is_empty() => None,
        None => return Err(format!("`{rest}` is not `format=FORMAT`")),
        Some(format) => Some(
            CallFormat::from_str(format, false)
                .map_err(|_| "the formats are text, json and sarif".to_owned())?,
        ),
    };
    Ok(Call { method, format })
}

/// `coracle prune`
#[derive(Debug, Args)]
pub(crate) struct PruneArguments {
    /// Forget all cached steps too, and empty the caches of `RUN --mount=type=cache`.
    #[arg(long)]
    pub(crate) cache: bool,
    /// Forget the cached steps that no build has used for so long: `90m`, `36h`, `30d`.
    #[arg(long, value_name = "TIME", value_parser = parse_age, conflicts_with = "cache")]
    pub(crate) unused_for: Option<Duration>,
}

/// Reads a whole number of minutes, hours or days.
fn parse_age(text: &str) -> Result<Duration, String> {
    let wrong = || "a time is a number with `m`, `h` or `d`, such as `36h`".to_owned();
    let unit = text.chars().next_back().ok_or_else(wrong)?;
    let seconds = match unit {
        'm' => 60,
        'h' => 60 * 60,
        'd' => 24 * 60 * 60,
        _ => return Err(wrong()),
    };
    let number: u64 = text[..text.len() - 1].parse().map_err(|_| wrong())?;
    number.checked_mul(seconds).map(Duration::from_secs).ok_or_else(wrong)
}

/// `coracle lint`
#[derive(Debug, Args)]
pub(crate) struct LintArguments {
    /// The directory whose files COPY and ADD may take.
    #[arg(default_value = ".")]
    pub(crate) context: OsString,
    /// The Dockerfile; `-` is standard input [default: CONTEXT/Dockerfile].
    #[arg(short, long, value_name = "FILE")]
    pub(crate) file: Option<OsString>,
    /// Give an ARG a value; without `=VALUE` it comes from the environment; repeatable.
    #[arg(long, value_name = "NAME[=VALUE]")]
    pub(crate) build_arg: Vec<String>,
    /// Check this stage and what it needs, and not every stage.
    #[arg(long, value_name = "STAGE")]
    pub(crate) target: Option<String>,
    /// Check for this platform.
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    pub(crate) platform: Option<Platform>,
    /// Ask the registry for base images that the store does not have.
    #[arg(long)]
    pub(crate) pull: bool,
    /// The form of the report.
    #[arg(long, value_enum, default_value_t = CallFormat::Text)]
    pub(crate) format: CallFormat,
}

impl LintArguments {
    /// The same as arguments of `coracle build`.
    pub(crate) fn into_build(self) -> BuildArguments {
        let mut words = vec![OsString::from("--check")];
        let mut option = |name: &str, value: &OsStr| {
            let mut word = OsString::from(format!("--{name}="));
            word.push(value);
            words.push(word);
        };
        if let Some(file) = &self.file {
            option("file", file);
        }
        for build_arg in &self.build_arg {
            option("build-arg", build_arg.as_ref());
        }
        if let Some(target) = &self.target {
            option("target", target.as_ref());
        }
        if let Some(platform) = &self.platform {
            option("platform", platform.to_string().as_ref());
        }
        if self.pull {
            words.push("--pull".into());
        }
        words.extend(["--".into(), self.context]);
        let build = BuildArguments::augment_args(clap::Command::new("build").no_binary_name(true));
        let mut matches = build.get_matches_from(words);
        let build = BuildArguments::from_arg_matches_mut(&mut matches);
        let mut build = build.expect("these words have been checked already");
        build.call.format = Some(self.format);
        build
    }
}

/// `--network`
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum NetworkMode {
    /// The same as `host`.
    Default,
    /// The network of the user who builds.
    Host,
    /// Only loopback.
    None,
}

/// A command that takes one reference.
#[derive(Debug, Args)]
pub(crate) struct ReferenceArgument {
    /// The image.
    pub(crate) reference: Reference,
}

/// A command that takes several references.
#[derive(Debug, Args)]
pub(crate) struct ReferencesArgument {
    /// The images.
    #[arg(required = true)]
    pub(crate) references: Vec<Reference>,
}

/// `coracle load`
#[derive(Debug, Args)]
pub(crate) struct LoadArguments {
    /// The file or directory; `-` is standard input.
    #[arg(short, long, value_name = "PATH")]
    pub(crate) input: PathBuf,
}

/// `coracle login`
#[derive(Debug, Args)]
pub(crate) struct LoginArguments {
    /// The registry.
    #[arg(default_value = "docker.io")]
    pub(crate) registry: String,
    /// The user name.
    #[arg(short, long, required_unless_present = "get_login")]
    pub(crate) username: Option<String>,
    /// Read the password from standard input.
    #[arg(long, required_unless_present = "get_login")]
    pub(crate) password_stdin: bool,
    /// Print the user name that is logged in; change nothing.
    #[arg(long, conflicts_with_all = ["username", "password_stdin"])]
    pub(crate) get_login: bool,
}

/// `coracle logout`
#[derive(Debug, Args)]
pub(crate) struct LogoutArguments {
    /// The registry.
    #[arg(default_value = "docker.io")]
    pub(crate) registry: String,
}

/// `coracle pull`
#[derive(Debug, Args)]
pub(crate) struct PullArguments {
    /// The image.
    pub(crate) reference: Reference,
    /// Which of its platforms.
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    pub(crate) platform: Option<Platform>,
}

/// `coracle push`
#[derive(Debug, Args)]
pub(crate) struct PushArguments {
    /// The images, by the names under which they are to be pushed.
    #[arg(required = true)]
    pub(crate) references: Vec<Reference>,
}

/// `coracle run`
#[derive(Debug, Args)]
pub(crate) struct RunArguments {
    /// The network.
    #[arg(long, value_enum, default_value_t = NetworkMode::Default)]
    pub(crate) network: NetworkMode,
    /// Run this in place of the image's entrypoint.
    #[arg(long, value_name = "PROGRAM")]
    pub(crate) entrypoint: Option<String>,
    /// Run as this user.
    #[arg(short, long)]
    pub(crate) user: Option<String>,
    /// Set an environment variable; repeatable.
    #[arg(short, long, value_name = "NAME=VALUE")]
    pub(crate) env: Vec<String>,
    /// The image.
    pub(crate) reference: Reference,
    /// In place of the image's CMD.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub(crate) arguments: Vec<String>,
}

/// `coracle save`
#[derive(Debug, Args)]
pub(crate) struct SaveArguments {
    /// The file to write; `-` is standard output.
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: PathBuf,
    /// The format.
    #[arg(long, value_enum, default_value_t = ArchiveFormat::Docker)]
    pub(crate) format: ArchiveFormat,
    /// The image.
    pub(crate) reference: Reference,
}

/// The format of an image in one file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ArchiveFormat {
    /// What `docker load` reads.
    Docker,
    /// An OCI layout in a tar.
    Oci,
}

/// `coracle tag`
#[derive(Debug, Args)]
pub(crate) struct TagArguments {
    /// The image.
    pub(crate) source: Reference,
    /// Its other name.
    pub(crate) target: Reference,
}
