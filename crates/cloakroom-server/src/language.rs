//! The language of the gateway's own pages: one table for each, with every text that the pages show. What went wrong has its own
//! table, in [`crate::problem`].

use std::time::Duration;

/// A language that the pages can speak.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Language {
    /// `en`, the default.
    #[default]
    English,
    /// `de`.
    German,
    /// `cs`.
    Czech,
}

impl Language {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::English, Self::German, Self::Czech];

    /// Reads a code, as in the configuration.
    pub fn parse(code: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|language| language.code() == code)
    }

    /// The code of RFC 5646.
    pub const fn code(self) -> &'static str {
        match self {
            Self::English => "en",
            Self::German => "de",
            Self::Czech => "cs",
        }
    }

    /// What the pages say.
    pub const fn words(self) -> &'static Words {
        match self {
            Self::English => &ENGLISH,
            Self::German => &GERMAN,
            Self::Czech => &CZECH,
        }
    }

    /// How long ago, as one says it.
    pub fn ago(self, time: Duration) -> String {
        let minutes = time.as_secs() / 60;
        let words = self.words();
        let (count, (one, many)) = match minutes {
            0 => return words.just_now.to_owned(),
            1..60 => (minutes, words.minutes),
            60..2880 => (minutes / 60, words.hours),
            _ => (minutes / 1440, words.days),
        };
        if count == 1 { one.to_owned() } else { many.replace("{}", &count.to_string()) }
    }
}

/// The texts of one language.
#[derive(Debug)]
#[allow(missing_docs, reason = "each is named after what it says in English")]
pub struct Words {
    pub code: &'static str,
    pub front_page: &'static str,
    pub sign_out: &'static str,
    pub sign_in: &'static str,
    pub sign_in_again: &'static str,
    pub try_again: &'static str,
    pub load_again: &'static str,
    pub for_the_operator: &'static str,
    pub ask_this: &'static str,
    pub ask_others: &'static str,
    pub ask_everywhere: &'static str,
    pub ask_this_more: &'static str,
    pub ask_others_more: &'static str,
    pub ask_everywhere_more: &'static str,
    pub browser_signed_in: &'static str,
    pub still_signed_in: &'static str,
    pub you_are_still_signed_in: &'static str,
    pub signed_out: &'static str,
    pub you_are_signed_out: &'static str,
    pub session_has_ended: &'static str,
    pub where_signed_in: &'static str,
    pub these_browsers: &'static str,
    pub not_recognised: &'static str,
    pub sessions: &'static str,
    pub this_browser: &'static str,
    pub active: &'static str,
    pub signed_in: &'static str,
    pub from: &'static str,
    pub end: &'static str,
    pub end_session_of: &'static str,
    pub end_all_others: &'static str,
    pub ended_at_once: &'static str,
    pub enter_it_now: &'static str,
    pub nowhere_else: &'static str,
    just_now: &'static str,
    minutes: (&'static str, &'static str),
    hours: (&'static str, &'static str),
    days: (&'static str, &'static str),
}

const ENGLISH: Words = Words {
    code: "en",
    front_page: "Front page",
    sign_out: "Sign out",
    sign_in: "Sign in",
    sign_in_again: "Sign in again",
    try_again: "Try again",
    load_again: "Load the page again",
    for_the_operator: "For whoever runs this:",
    ask_this: "Sign out?",
    ask_others: "Sign out everywhere else?",
    ask_everywhere: "Sign out everywhere?",
    ask_this_more: "This browser will be signed out.",
    ask_others_more: "All other browsers will be signed out; this one will not.",
    ask_everywhere_more: "This browser and all others will be signed out.",
    browser_signed_in: "This browser is signed in to your account.",
    still_signed_in: "Still signed in",
    you_are_still_signed_in: "You are still signed in",
    signed_out: "Signed out",
    you_are_signed_out: "You are signed out",
    session_has_ended: "Your session has ended, in this browser and on the server. Pressing Back does not bring it back.",
    where_signed_in: "Where you are signed in",
    these_browsers: "These browsers are signed in to your account.",
    not_recognised: "If there is one that you do not recognise, end it and change your password.",
    sessions: "Sessions",
    this_browser: "This browser",
    active: "Active",
    signed_in: "signed in",
    from: "from",
    end: "End",
    end_session_of: "End the session of",
    end_all_others: "End all others",
    ended_at_once: "Whoever uses an ended session is signed out at once. You are asked for your password first, unless you \
                    entered it in the last few minutes.",
    enter_it_now: "Enter it now",
    nowhere_else: "You are signed in nowhere else.",
    just_now: "just now",
    minutes: ("1 minute ago", "{} minutes ago"),
    hours: ("1 hour ago", "{} hours ago"),
    days: ("1 day ago", "{} days ago"),
};

const GERMAN: Words = Words {
    code: "de",
    front_page: "Startseite",
    sign_out: "Abmelden",
    sign_in: "Anmelden",
    sign_in_again: "Wieder anmelden",
    try_again: "Noch einmal versuchen",
    load_again: "Seite neu laden",
    for_the_operator: "Für den Betreiber:",
    ask_this: "Abmelden?",
    ask_others: "Überall sonst abmelden?",
    ask_everywhere: "Überall abmelden?",
    ask_this_more: "Dieser Browser wird abgemeldet.",
    ask_others_more: "Alle anderen Browser werden abgemeldet, dieser nicht.",
    ask_everywhere_more: "Dieser Browser und alle anderen werden abgemeldet.",
    browser_signed_in: "Dieser Browser ist in Ihrem Konto angemeldet.",
    still_signed_in: "Noch angemeldet",
    you_are_still_signed_in: "Sie sind noch angemeldet",
    signed_out: "Abgemeldet",
    you_are_signed_out: "Sie sind abgemeldet",
    session_has_ended: "Ihre Sitzung ist beendet, in diesem Browser und auf dem Server. Die Zurück-Taste bringt sie nicht wieder.",
    where_signed_in: "Wo Sie angemeldet sind",
    these_browsers: "Diese Browser sind in Ihrem Konto angemeldet.",
    not_recognised: "Ist einer dabei, den Sie nicht kennen, beenden Sie seine Sitzung und ändern Sie Ihr Passwort.",
    sessions: "Sitzungen",
    this_browser: "Dieser Browser",
    active: "Zuletzt aktiv",
    signed_in: "angemeldet",
    from: "aus",
    end: "Beenden",
    end_session_of: "Sitzung beenden:",
    end_all_others: "Alle anderen beenden",
    ended_at_once: "Wer eine beendete Sitzung benutzt, ist sofort abgemeldet. Sie werden zuerst nach Ihrem Passwort gefragt, \
                    wenn Sie es nicht in den letzten Minuten eingegeben haben.",
    enter_it_now: "Jetzt eingeben",
    nowhere_else: "Sonst sind Sie nirgends angemeldet.",
    just_now: "gerade eben",
    minutes: ("vor 1 Minute", "vor {} Minuten"),
    hours: ("vor 1 Stunde", "vor {} Stunden"),
    days: ("vor 1 Tag", "vor {} Tagen"),
};

const CZECH: Words = Words {
    code: "cs",
    front_page: "Úvodní stránka",
    sign_out: "Odhlásit se",
    sign_in: "Přihlásit se",
    sign_in_again: "Přihlásit se znovu",
    try_again: "Zkusit znovu",
    load_again: "Načíst stránku znovu",
    for_the_operator: "Pro provozovatele:",
    ask_this: "Odhlásit se?",
    ask_others: "Odhlásit se všude jinde?",
    ask_everywhere: "Odhlásit se všude?",
    ask_this_more: "Tento prohlížeč bude odhlášen.",
    ask_others_more: "Všechny ostatní prohlížeče budou odhlášeny, tento ne.",
    ask_everywhere_more: "Tento prohlížeč i všechny ostatní budou odhlášeny.",
    browser_signed_in: "V tomto prohlížeči jste přihlášeni ke svému účtu.",
    still_signed_in: "Stále přihlášeno",
    you_are_still_signed_in: "Stále jste přihlášeni",
    signed_out: "Odhlášeno",
    you_are_signed_out: "Jste odhlášeni",
    session_has_ended: "Vaše relace skončila, v tomto prohlížeči i na serveru. Tlačítko Zpět ji neobnoví.",
    where_signed_in: "Kde jste přihlášeni",
    these_browsers: "V těchto prohlížečích jste přihlášeni ke svému účtu.",
    not_recognised: "Pokud některý z nich neznáte, ukončete jeho relaci a změňte si heslo.",
    sessions: "Relace",
    this_browser: "Tento prohlížeč",
    active: "Naposledy aktivní",
    signed_in: "přihlášeno",
    from: "ze sítě",
    end: "Ukončit",
    end_session_of: "Ukončit relaci:",
    end_all_others: "Ukončit všechny ostatní",
    ended_at_once: "Kdo používá ukončenou relaci, je okamžitě odhlášen. Nejdříve budete vyzváni k zadání hesla, pokud jste je \
                    nezadali v posledních minutách.",
    enter_it_now: "Zadat nyní",
    nowhere_else: "Nikde jinde přihlášeni nejste.",
    just_now: "právě teď",
    minutes: ("před 1 minutou", "před {} minutami"),
    hours: ("před 1 hodinou", "před {} hodinami"),
    days: ("před 1 dnem", "před {} dny"),
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_said_as_people_say_them() {
        let table = [
            (0, "just now", "gerade eben", "právě teď"),
            (61, "1 minute ago", "vor 1 Minute", "před 1 minutou"),
            (3599, "59 minutes ago", "vor 59 Minuten", "před 59 minutami"),
            (7300, "2 hours ago", "vor 2 Stunden", "před 2 hodinami"),
            (200_000, "2 days ago", "vor 2 Tagen", "před 2 dny"),
        ];
        for (secs, english, german, czech) in table {
            let said = Language::ALL.map(|language| language.ago(Duration::from_secs(secs)));
            assert_eq!(said, [english, german, czech]);
        }
    }

    #[test]
    fn each_language_has_its_own_code_and_its_own_words() {
        for language in Language::ALL {
            assert_eq!(Language::parse(language.code()), Some(language));
            assert_eq!(language.words().code, language.code());
        }
        assert_eq!(Language::parse("xx"), None);
        let titles = Language::ALL.map(|language| language.words().ask_this);
        assert!(titles[0] != titles[1] && titles[1] != titles[2] && titles[0] != titles[2]);
    }
}
