//! Mistakes in the Dockerfile, in the command line, and in what a step runs.

use crate::support::Coracle;
use crate::support::Registry;
use crate::support::Scratch;
use crate::support::base;
use crate::support::requirement::require;

/// Builds `dockerfile` with `options`; it has to fail with this code and these words.
#[track_caller]
fn check(dockerfile: &str, options: &[&str], code: i32, words: &[&str]) {
    let registry = require!(Registry::open());
    require!(base::push_busybox(&registry));
    let coracle = require!(Coracle::new());
    let context = Scratch::new();
    context.write("Dockerfile", dockerfile);
    context.write("present", "");
    let mirror = registry.as_docker_hub();
    let directory = context.path().display().to_string();
    let fixed = ["build", "--registry-mirror", &mirror];
    coracle.run(&[&fixed, options, &[&directory]].concat()).fails(code, words);
    coracle.assert_nothing_left();
}

#[test]
fn a_failing_step_shows_its_status_its_last_lines_and_its_place() {
    let dockerfile = "FROM busybox\n\nRUN echo last ''words && exit 7\n";
    check(dockerfile, &[], 1, &["exit code: 7", "last words", "Dockerfile:3", "RUN echo"]);
}

#[test]
fn a_command_that_is_not_there_is_named() {
    let words = ["127", "no-such-program", "Dockerfile:2"];
    check("FROM busybox\nRUN no-such-program\n", &[], 1, &words);
    check(
        "FROM busybox\nRUN [\"no-such-program\"]\n",
        &[],
        1,
        &["no-such-program", "Dockerfile:2"],
    );
}

#[test]
fn an_unknown_instruction_has_a_nearest_one() {
    check("FROM busybox\nCOYP a b\n", &[], 2, &["COYP", "COPY", "Dockerfile:2"]);
}

#[test]
fn an_unknown_flag_of_an_instruction_has_a_nearest_one() {
    check(
        "FROM busybox\nCOPY --chwon=1 a b\n",
        &[],
        2,
        &["--chwon", "did you mean chown", "Dockerfile:2"],
    );
}

#[test]
fn an_unknown_option_has_a_nearest_one() {
    check("FROM busybox\n", &["--no-cahce"], 2, &["--no-cahce", "--no-cache"]);
    // Those of other builders have an advice.
    check("FROM busybox\n", &["--destination=x"], 2, &["--destination", "--tag NAME --push"]);
    let platforms = "--platform=linux/amd64,linux/arm64";
    check("FROM busybox\n", &[platforms], 2, &["several platforms", "coracle index create"]);
}

#[test]
fn an_unknown_target_has_a_nearest_one() {
    check("FROM busybox AS build\n", &["--target", "biuld"], 2, &["biuld", "build"]);
}

#[test]
fn an_empty_dockerfile_says_so() {
    check("# nothing\n", &[], 2, &["dockerfile"]);
}

#[test]
fn a_missing_file_is_named_with_its_line() {
    check("FROM busybox\nCOPY absent /\n", &[], 2, &["absent", "Dockerfile:2"]);
}

#[test]
fn a_missing_dockerfile_and_a_missing_context_are_named() {
    let coracle = require!(Coracle::new());
    let context = Scratch::new();
    let directory = context.path().display().to_string();
    coracle.run(&["build", &directory]).fails(2, &["Dockerfile", &directory]);
    coracle.run(&["build", "/no/such/context"]).fails(2, &["/no/such/context"]);
}

#[test]
fn several_mistakes_are_all_reported() {
    check("FROM busybox\nCOYP a b\nRNU true\n", &[], 2, &["Dockerfile:2", "Dockerfile:3"]);
}

#[test]
fn mistakes_in_names_do_not_hide_other_mistakes() {
    let dockerfile = "FROM busybox\nCOPY --from=9 a b\nRUN --mount=type=volume,target=/x true\n\
                      COPY --chmod=9 a b\nRUN --device=vendor.example/x true\n";
    let words = [
        "invalid stage index 9",
        "unsupported mount type \"volume\"",
        "invalid chmod parameter: '9'",
        "RUN --device is not supported",
    ];
    check(dockerfile, &[], 2, &words);
}

#[test]
fn what_is_not_built_yet_is_an_error_at_its_line() {
    let dockerfile = "FROM busybox\nRUN --device=vendor.example/x true\n";
    check(dockerfile, &[], 2, &["--device", "Dockerfile:2"]);
}

/// The line of the Dockerfile and its carets, as an error shows them.
fn drawn(line: usize, text: &str, word: &str) -> String {
    let before = text.find(word).expect("the word is in the line");
    format!("{line} | {text}\n  | {}{}\n", " ".repeat(before), "^".repeat(word.len()))
}

#[test]
fn a_caret_is_under_the_word_and_a_hint_says_what_to_do() {
    let registry = require!(Registry::open());
    require!(base::push_busybox(&registry));
    let coracle = require!(Coracle::new());
    let mirror = registry.as_docker_hub();
    let check = |line: usize, text: &str, word: &str, hint: &str| {
        let context = Scratch::new();
        context.write("src/main.c", "");
        let before = ["FROM busybox AS build\n", "ONBUILD BOGUS x\n"].concat();
        context.write("Dockerfile", format!("{before}{text}\n"));
        let directory = context.path().display().to_string();
        let output = coracle.run(&["build", "--registry-mirror", &mirror, &directory]);
        let shown = text.lines().nth(line - 3).expect("the line is there");
        let drawn = drawn(line, shown, word);
        assert!(output.code != 0 && output.stderr.contains(&drawn), "{drawn}{output}");
        assert!(output.stderr.contains(hint), "no {hint:?}: {output}");
    };
    // What is wrong in the text.
    check(3, "COPY --zebra a b", "--zebra", "the flags are --from, --chown");
    check(3, "USER --x=1 a", "--x=1", "has no flags");
    check(3, "INCLUDE x", "INCLUDE", "the instructions are ADD, ARG");
    check(4, "CMD cat <<EOF\nhello\nEOF", "hello", "CMD takes no here-document");
    check(3, "RUN <<EOF\nx", "<<EOF", "end it with a line that says EOF");
    check(3, "ENV A=${B:=x}", "${B:=x}", "the operators are");
    // What is wrong with names.
    check(3, "FROM $NO AS x", "$NO", "FROM sees only ARGs that come before");
    check(3, "FROM --platform=a/b/c/d scratch", "a/b/c/d", "os/architecture");
    check(3, "FROM build AS x", "FROM build AS x", "line 2 has `ONBUILD BOGUS x`");
    check(3, "COPY --from=7 a b", "7", "stages are counted from 0");
    check(3, "COPY --from=biuld a b", "biuld", "did you mean the stage `build`?");
    check(3, "RUN --mount=from=UP/x,target=/x y", "from=UP/x,target=/x", "`up/x`");
    check(3, "ADD --checksum=sha256:1 http://x/y /", "sha256:1", "64 lower-case hex digits");
    check(3, "ADD https://x/y.git?rev=1 /", "https://x/y.git?rev=1", "ref=, branch= or tag=");
    check(3, "RUN []", "RUN []", "write RUN command");
    // What is wrong with files.
    check(3, "COPY src nothing /x/", "nothing", "relative to the build context");
    check(3, "COPY SRC/Main.c /x/", "SRC/Main.c", "did you mean `src/main.c`?");
    check(3, "ADD ftp://x/y /x/", "ftp://x/y", "only `http://`, `https://` and git");
    check(3, "COPY --chown=nobody1 src /x/", "nobody1", "names come from /etc/passwd");
    check(3, "COPY src /etc/passwd", "/etc/passwd", "choose another destination");
    check(
        3,
        "RUN --mount=type=bind,source=scr,target=/s x",
        "type=bind,source=scr,target=/s",
        "`src`",
    );
    check(3, "RUN --mount=bind,target=/x y", "bind,target=/x", "write type=bind");
    check(3, "RUN --mount=type=tmpfs,target=/x,size=1x y", "type=tmpfs,target=/x,size=1x", "64m");
    let secret = "type=secret,id=x,required=true";
    check(3, &format!("RUN --mount={secret} x"), secret, "`--secret id=x,src=FILE`");
    let ssh = "type=ssh,required=true";
    check(3, &format!("RUN --mount=type=ssh,id=y --mount={ssh} x"), ssh, "`--ssh default`");
    check(3, "RUN ['echo', 'x']", "RUN ['echo', 'x']", "straight double quotes");
}

#[test]
fn a_word_without_end_does_not_hide_what_is_wrong_with_it() {
    let text = format!("FROM busybox\nENV A={}\n", "${A:-".repeat(10_000));
    check(&text, &[], 2, &["${A:-...${A:-", "nested more than 100 levels deep", "Dockerfile:2"]);
}

#[test]
fn what_is_no_text_is_found_where_it_matters() {
    let coracle = require!(Coracle::new());
    let context = Scratch::new();
    let directory = context.path().display().to_string();
    let check = |dockerfile: &[u8], ignore: &[u8], code: i32, words: &[&str]| {
        context.write("Dockerfile", dockerfile);
        context.write(".dockerignore", ignore);
        let output = coracle.run(&["build", &directory]);
        if code == 0 { output.ok() } else { output.fails(code, words) }
    };
    check(b"# caf\xe9\nFROM scratch\n", b"", 0, &[]);
    let words = ["invalid UTF-8: byte 0xE9", "Dockerfile:2:11", "iconv"];
    check(b"FROM scratch\nLABEL a=cb\xe9\n", b"", 2, &words);
    check(b"\xff\xfeF\0R\0O\0M\0", b"", 2, &["is UTF-16", "save it as UTF-8"]);
    check(b"\x7fELF\0\0\xff", b"", 2, &["is not a text", "--file"]);
    // A pattern that could not be read would exclude nothing.
    let words = ["line 2 of `.dockerignore` is not UTF-8"];
    check(b"FROM scratch\n", b"a\ncaf\xe9\n", 2, &words);
}
