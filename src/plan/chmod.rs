//! `--chmod`: an octal number or a list of symbolic changes (rule A126).
//!
//! This decides only whether the text is well formed. `copy` applies it.

use crate::plan::{Chmod, PlanErrorKind};

/// Reads the expanded value of `--chmod`.
pub(crate) fn parse(text: &str) -> Result<Chmod, PlanErrorKind> {
    let error = || PlanErrorKind::BadChmod(text.to_owned());
    // `from_str_radix` would take a sign.
    if !text.is_empty() && text.bytes().all(|byte| matches!(byte, b'0'..=b'7')) {
        let mode = u32::from_str_radix(text, 8).map_err(|_| error())?;
        return if mode <= 0o7777 { Ok(Chmod::Octal(mode)) } else { Err(error()) };
    }
    if text.split(',').all(is_clause) {
        return Ok(Chmod::Symbolic(text.to_owned()));
    }
    Err(error())
}

/// `who` in `[ugoa]*`, then one or more of an operator and permissions: `ug+rw-x`, `g=u`.
fn is_clause(clause: &str) -> bool {
    let actions = clause.trim_start_matches(['u', 'g', 'o', 'a']);
    if !actions.starts_with(['+', '-', '=']) {
        return false;
    }
    actions.split(['+', '-', '=']).skip(1).all(|permissions| {
        matches!(permissions, "u" | "g" | "o")
            || permissions.bytes().all(|byte| b"rwxXst".contains(&byte))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a126_octal_up_to_7777() {
        let check = |text: &str, mode| assert_eq!(parse(text), Ok(Chmod::Octal(mode)), "{text}");
        check("755", 0o755);
        check("0400", 0o400);
        check("7777", 0o7777);
        check("0", 0);
    }

    #[test]
    fn a126_symbolic_changes() {
        for text in
            ["u=rwX,go=rX", "+x", "g=u,o=", "a-w", "u+s,g+s,+t", "go-rwx", "ug+rwX,o-rwx", "u=rw+x"]
        {
            assert_eq!(parse(text), Ok(Chmod::Symbolic(text.to_owned())), "{text}");
        }
    }

    #[test]
    fn a126_anything_else_is_an_error() {
        for text in ["64a", "10000", "u=q", "", "u", "u=rw,", "+755", "u=go", "8"] {
            assert_eq!(parse(text), Err(PlanErrorKind::BadChmod(text.to_owned())), "{text}");
        }
    }
}
