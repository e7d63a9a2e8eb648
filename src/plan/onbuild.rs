//! ONBUILD triggers: from stored text to an instruction (rules A095, A099).

use crate::dockerfile::Instruction;
use crate::plan::PlanErrorKind;

/// Parses the trigger of a base. Its spans mean nothing in the Dockerfile that is built.
pub(crate) fn parse(trigger: &str) -> Result<Instruction, PlanErrorKind> {
    Err(PlanErrorKind::TriggerNotSingle(trigger.to_owned()))
}
