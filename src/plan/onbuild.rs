//! ONBUILD triggers: from stored text to an instruction (rules A095, A099).

use crate::dockerfile::{Instruction, Source, parse_instruction};
use crate::plan::PlanErrorKind;

/// About how many bytes a parsed trigger takes besides its text.
pub(crate) const INSTRUCTION: usize = 1_000;

/// Parses the trigger of a base, which may be a stage of the same file with it in some `line`. Its
/// spans are places in the trigger, not in the Dockerfile.
pub(crate) fn parse(trigger: &str, line: Option<usize>) -> Result<Instruction, Vec<PlanErrorKind>> {
    let error = |kind| PlanErrorKind::Trigger { trigger: trigger.to_owned(), line, kind };
    parse_instruction(&Source::new("ONBUILD", trigger))
        .map_err(|errors| errors.into_iter().map(|it| error(it.kind)).collect())
}
