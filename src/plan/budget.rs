//! The budget: how much a plan may hold, so that a short Dockerfile cannot fill the memory.
//!
//! Variables that double, ranges of ports, triggers in many stages and stages upon stages multiply
//! what is written. What such an instruction adds to the plan is counted, in bytes and roughly.

use std::cell::Cell;

use crate::plan::PlanErrorKind;

/// The most that a plan may hold, in bytes. A large Dockerfile needs less than a hundredth of it.
const LIMIT: usize = 256 << 20;

/// What a plan has spent so far.
#[derive(Debug, Default)]
pub(crate) struct Budget {
    spent: Cell<usize>,
}

impl Budget {
    /// Counts `bytes`; an error if that is too much.
    pub(crate) fn spend(&self, bytes: usize) -> Result<(), PlanErrorKind> {
        self.note(bytes);
        self.check()
    }

    /// Counts `bytes`. Whoever calls it is followed by somebody who [checks](Self::check).
    pub(crate) fn note(&self, bytes: usize) {
        self.spent.set(self.spent.get().saturating_add(bytes));
    }

    /// An error if too much was spent.
    pub(crate) fn check(&self) -> Result<(), PlanErrorKind> {
        let fits = self.spent.get() <= LIMIT;
        fits.then_some(()).ok_or(PlanErrorKind::TooLarge { limit: LIMIT >> 20 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dockerfile::{Source, parse};
    use crate::plan::testing::Setup;
    use crate::plan::{Bases, PlanOptions, plan};

    #[test]
    fn what_multiplies_is_refused_before_it_fills_the_memory() {
        let message = format!("the plan of this build takes more than {} MiB", LIMIT >> 20);
        let check = |text: &str| {
            let source = Source::new("Dockerfile", text);
            let dockerfile = parse(source).expect("the text has no mistake");
            let options = PlanOptions::default();
            let Err(errors) = plan(&dockerfile, &options, &Bases::new()) else {
                panic!("it is planned: {}", &text[text.len() - 100..]);
            };
            let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
            assert_eq!(errors, [&*message]);
        };
        // The variable has a megabyte.
        let large = "x".repeat(60_000);
        let large =
            format!("FROM scratch\nENV A={large}\nENV A=$A$A$A$A$A$A$A$A$A$A$A$A$A$A$A$A\n");
        check(&(large.clone() + &"RUN x\n".repeat(1_000)));
        check(&(large.clone() + "LABEL a=" + &"${A:+}".repeat(1_000)));
        let stages = (0..1_000).map(|index| format!("FROM s{index} AS s{}\n", index + 1));
        check(&(large.replace("scratch", "scratch AS s0") + &stages.collect::<String>()));
        check(&("FROM scratch\n".to_owned() + &"EXPOSE 1-65535\n".repeat(1_000)));
        let triggers = "FROM scratch AS p\n".to_owned() + &"ONBUILD USER x\n".repeat(3_000);
        let children = (0..3_000).map(|index| format!("FROM p AS c{index}\n"));
        let copies = (0..3_000).map(|index| format!("COPY --from=c{index} / /\n"));
        let all = children.chain(["FROM scratch\n".to_owned()]).chain(copies);
        check(&(triggers + &all.collect::<String>()));
    }

    #[test]
    fn a_large_dockerfile_fits() {
        let stage = "FROM scratch AS s\nARG V=1\nENV A=$V B=\"two words\"\n".to_owned()
            + &"COPY a /a/$A\nRUN make $A\nEXPOSE 8000-8010\n".repeat(30);
        let plan = Setup::default().plan(&stage.repeat(100)).expect("it fits");
        assert_eq!(plan.stages.len(), 1);
    }
}
