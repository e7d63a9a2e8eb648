//! `STOPSIGNAL`: which names and numbers are signals (rule A089).

use crate::plan::PlanErrorKind;

/// Accepts a number other than 0, or the name of a signal of Linux with or without `SIG`.
pub(crate) fn validate(text: &str) -> Result<(), PlanErrorKind> {
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let known = text.parse::<i32>().map_or_else(|_| is_signal(name), |number| number != 0);
    if known { Ok(()) } else { Err(PlanErrorKind::BadSignal(text.to_owned())) }
}

fn is_signal(name: &str) -> bool {
    const NAMES: [&str; 36] = [
        "ABRT", "ALRM", "BUS", "CHLD", "CLD", "CONT", "FPE", "HUP", "ILL", "INT", "IO", "IOT",
        "KILL", "PIPE", "POLL", "PROF", "PWR", "QUIT", "SEGV", "STKFLT", "STOP", "SYS", "TERM",
        "TRAP", "TSTP", "TTIN", "TTOU", "URG", "USR1", "USR2", "VTALRM", "WINCH", "XCPU", "XFSZ",
        "RTMIN", "RTMAX",
    ];
    let real_time = |prefix: &str, last: u8| {
        let number = name.strip_prefix(prefix).filter(|it| !it.starts_with(['0', '+']));
        number.and_then(|it| it.parse::<u8>().ok()).is_some_and(|it| it <= last)
    };
    NAMES.contains(&name) || real_time("RTMIN+", 15) || real_time("RTMAX-", 14)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a089_names_and_numbers_are_signals() {
        for text in ["SIGTERM", "kill", "sigUsr1", "15", "RTMIN+3", "SIGRTMAX-14"] {
            assert_eq!(validate(text), Ok(()), "{text}");
        }
        for text in ["SIGNOPE", "0", "", "RTMIN+16", "RTMIN+03", "SIGSIGTERM", "1.5"] {
            assert_eq!(validate(text), Err(PlanErrorKind::BadSignal(text.to_owned())), "{text}");
        }
    }
}
