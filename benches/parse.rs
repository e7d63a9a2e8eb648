//! How long a large Dockerfile takes to understand.

mod support;

use std::fmt::Write as _;

use coracle::dockerfile::{Source, parse};
use coracle::plan::{Bases, PlanOptions, plan};

fn dockerfile() -> String {
    let mut text = "FROM scratch AS build\nARG VERSION=1\n".to_owned();
    for number in 0..500 {
        writeln!(text, "ENV NAME_{number}=${{VERSION:-none}}/{number} OTHER=\"a $VERSION\"")
            .expect("writing to a String cannot fail");
        writeln!(text, "RUN echo {number} && \\\n    # a comment\n    true \"$NAME_{number}\"")
            .expect("writing to a String cannot fail");
    }
    text
}

fn main() {
    let source = Source::new("Dockerfile", &dockerfile());
    let bytes = Some(source.text().len() as u64);
    support::measure("parse, 1000 instructions", bytes, || {
        parse(source.clone()).expect("the Dockerfile is well formed");
    });
    let options = PlanOptions::default();
    support::measure("parse and plan", bytes, || {
        let parsed = parse(source.clone()).expect("the Dockerfile is well formed");
        plan(&parsed, &options, &Bases::default()).expect("the Dockerfile can be planned");
    });
}
