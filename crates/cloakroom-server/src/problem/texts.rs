//! What is said of each cause: to whoever asked, in one table for all languages, and to whoever runs the gateway.

use super::Cause;
use crate::language::Language;

/// Title and text for whoever asked. They reveal nothing of sessions and of what is behind the gateway, and never give the fault to the
/// wrong side.
pub(super) fn of(cause: Cause, language: Language) -> (&'static str, &'static str) {
    let [english, german, czech] = row(cause);
    match language {
        Language::English => english,
        Language::German => german,
        Language::Czech => czech,
    }
}

type Said = (&'static str, &'static str);

const REFUSED: [&str; 3] =
    ["This request was refused", "Diese Anfrage wurde abgelehnt", "Tento požadavek byl odmítnut"];
const TOO_LARGE: [&str; 3] =
    ["This request is too large", "Diese Anfrage ist zu groß", "Tento požadavek je příliš velký"];
const UNCLEAR: [&str; 3] = [
    "This request cannot be understood",
    "Diese Anfrage ist nicht zu verstehen",
    "Tomuto požadavku nelze porozumět",
];
const NO_ANSWER: [&str; 3] =
    ["The application is not answering", "Die Anwendung antwortet nicht", "Aplikace neodpovídá"];
const BAD_ANSWER: [&str; 3] = [
    "The application's answer cannot be passed on",
    "Die Antwort der Anwendung kann nicht weitergegeben werden",
    "Odpověď aplikace nelze předat",
];
const BROKE_OFF: [&str; 3] = [
    "The application broke off before it had answered",
    "Die Anwendung brach ab, bevor sie geantwortet hatte",
    "Aplikace přerušila spojení, než odpověděla",
];
const LATER: [&str; 3] = ["Not possible just now", "Gerade nicht möglich", "Právě teď to nejde"];
const SIGN_IN: [&str; 3] = ["Please sign in", "Bitte melden Sie sich an", "Přihlaste se, prosím"];

/// Titles, and the text for each.
const fn with(titles: [&'static str; 3], [english, german, czech]: [&'static str; 3]) -> [Said; 3] {
    let [t_english, t_german, t_czech] = titles;
    [(t_english, english), (t_german, german), (t_czech, czech)]
}

#[rustfmt::skip]
const fn row(cause: Cause) -> [Said; 3] {
    match cause {
        Cause::Malformed => with(UNCLEAR, [
            "It is not what the rules of the web say. Another browser or program may help.",
            "Sie entspricht nicht den Regeln des Webs. Ein anderer Browser oder ein anderes Programm hilft vielleicht.",
            "Neodpovídá pravidlům webu. Možná pomůže jiný prohlížeč nebo program.",
        ]),
        Cause::Path => with(UNCLEAR, [
            "Its address has characters that can be read in two ways.",
            "Ihre Adresse enthält Zeichen, die sich auf zwei Arten lesen lassen.",
            "Adresa obsahuje znaky, které lze číst dvěma způsoby.",
        ]),
        Cause::Misdirected => with(
            ["This is not the site that was asked for", "Dies ist nicht die gesuchte Website", "Toto není hledaný web"],
            [
                "The address names a site that is not served here. Please check it.",
                "Die Adresse nennt eine Website, die es hier nicht gibt. Bitte prüfen Sie sie.",
                "Adresa uvádí web, který zde není. Zkontrolujte ji, prosím.",
            ],
        ),
        Cause::Method => with(
            ["This page does not take such requests", "Diese Seite nimmt solche Anfragen nicht an", "Tato stránka takové požadavky nepřijímá"],
            [
                "It can be opened or sent to, but not in this way.",
                "Sie lässt sich öffnen oder ansprechen, aber nicht auf diese Weise.",
                "Lze ji otevřít nebo oslovit, ale ne tímto způsobem.",
            ],
        ),
        Cause::NotFound => with(
            ["There is no such page", "Diese Seite gibt es nicht", "Taková stránka neexistuje"],
            ["Please check the address.", "Bitte prüfen Sie die Adresse.", "Zkontrolujte, prosím, adresu."],
        ),
        Cause::TargetTooLong => with(TOO_LARGE, [
            "Its address is too long.", "Ihre Adresse ist zu lang.", "Jeho adresa je příliš dlouhá.",
        ]),
        Cause::HeadTooLarge => with(TOO_LARGE, [
            "What the browser sends with every request is too much. Removing this site's cookies may help.",
            "Was der Browser jeder Anfrage mitgibt, ist zu viel. Vielleicht hilft es, die Cookies dieser Website zu löschen.",
            "Prohlížeč posílá s každým požadavkem příliš mnoho údajů. Možná pomůže smazat cookies tohoto webu.",
        ]),
        Cause::BodyTooLarge => with(TOO_LARGE, [
            "What was sent has more bytes than are taken here.",
            "Was gesendet wurde, hat mehr Bytes, als hier angenommen werden.",
            "Bylo odesláno více bajtů, než se zde přijímá.",
        ]),
        Cause::MediaType => with(REFUSED, [
            "What was sent is of a kind that is not taken here.",
            "Was gesendet wurde, ist von einer Art, die hier nicht angenommen wird.",
            "Bylo odesláno něco, co se zde nepřijímá.",
        ]),
        Cause::Unfinished => with(
            ["This request was not finished", "Diese Anfrage ist unvollständig", "Tento požadavek nebyl dokončen"],
            [
                "The connection broke off within it. Please send it again.",
                "Die Verbindung brach währenddessen ab. Bitte senden Sie noch einmal.",
                "Spojení se během něj přerušilo. Odešlete jej, prosím, znovu.",
            ],
        ),
        Cause::Stalled => with(
            ["This request was not finished", "Diese Anfrage ist unvollständig", "Tento požadavek nebyl dokončen"],
            [
                "Nothing more of it came for too long. Please send it again.",
                "Zu lange kam nichts weiter. Bitte senden Sie noch einmal.",
                "Příliš dlouho nepřišlo nic dalšího. Odešlete jej, prosím, znovu.",
            ],
        ),
        Cause::TooMany => with(REFUSED, [
            "There were too many such requests. Please wait a little.",
            "Es waren zu viele solche Anfragen. Bitte warten Sie ein wenig.",
            "Takových požadavků bylo příliš mnoho. Chvíli, prosím, počkejte.",
        ]),
        Cause::Elsewhere => with(REFUSED, [
            "Another site sent it. Please begin on a page of this site.",
            "Eine andere Website hat sie gesendet. Bitte beginnen Sie auf einer Seite dieser Website.",
            "Odeslal jej jiný web. Začněte, prosím, na stránce tohoto webu.",
        ]),
        Cause::Stray => with(
            ["You are not signed in yet", "Sie sind noch nicht angemeldet", "Ještě nejste přihlášeni"],
            [
                "Signing in took more than ten minutes, or it did not begin in this browser. Please begin again.",
                "Die Anmeldung hat länger als zehn Minuten gedauert, oder sie hat nicht in diesem Browser begonnen. Bitte beginnen Sie noch einmal.",
                "Přihlášení trvalo déle než deset minut, nebo nezačalo v tomto prohlížeči. Začněte, prosím, znovu.",
            ],
        ),
        Cause::Unproven => with(REFUSED, [
            "It does not say from which site it comes. Another browser may help.",
            "Sie sagt nicht, von welcher Website sie kommt. Ein anderer Browser hilft vielleicht.",
            "Neříká, z kterého webu přichází. Možná pomůže jiný prohlížeč.",
        ]),
        Cause::Embedded => with(REFUSED, [
            "This page cannot be a part of another site. It can be opened in a window of its own.",
            "Diese Seite kann nicht Teil einer anderen Website sein. Sie lässt sich in einem eigenen Fenster öffnen.",
            "Tato stránka nemůže být součástí jiného webu. Lze ji otevřít v samostatném okně.",
        ]),
        Cause::Token => with(REFUSED, [
            "The form is out of date, and nothing of it was saved. Load its page again, and send it from there.",
            "Das Formular ist veraltet, und nichts davon wurde gespeichert. Laden Sie seine Seite neu, und senden Sie es von dort.",
            "Formulář není aktuální a nic z něj nebylo uloženo. Načtěte jeho stránku znovu a odešlete jej odtud.",
        ]),
        Cause::TokenTooFar => with(REFUSED, [
            "The form is too large as it is made, and nothing of it was saved. Sending less may help.",
            "Das Formular ist so, wie es gemacht ist, zu groß, und nichts davon wurde gespeichert. Weniger zu senden hilft vielleicht.",
            "Formulář je takto příliš velký a nic z něj nebylo uloženo. Možná pomůže odeslat méně.",
        ]),
        Cause::Stale => with(
            ["This page is out of date", "Diese Seite ist veraltet", "Tato stránka není aktuální"],
            [
                "Somebody has signed in since it was loaded, and nothing of it was saved. Load it again, and look who is signed in.",
                "Seit sie geladen wurde, hat sich jemand angemeldet, und nichts davon wurde gespeichert. Laden Sie sie neu, und sehen Sie nach, wer angemeldet ist.",
                "Od jejího načtení se někdo přihlásil a nic z ní nebylo uloženo. Načtěte ji znovu a podívejte se, kdo je přihlášen.",
            ],
        ),
        Cause::LogoutByLink => with(REFUSED, [
            "Nobody is signed out without being asked. Please open this address in a window of its own.",
            "Niemand wird ungefragt abgemeldet. Bitte öffnen Sie diese Adresse in einem eigenen Fenster.",
            "Nikdo se neodhlašuje bez dotazu. Otevřete, prosím, tuto adresu v samostatném okně.",
        ]),
        Cause::SignIn => with(SIGN_IN, [
            "This is for people who are signed in.",
            "Dies ist für Angemeldete.",
            "Toto je pro přihlášené.",
        ]),
        Cause::SignInAgain => with(SIGN_IN, [
            "For this, a password that was entered a moment ago is wanted.",
            "Hierfür muss das Passwort erst kürzlich eingegeben worden sein.",
            "K tomuto je třeba heslo zadané před chvílí.",
        ]),
        Cause::TooManyPlaces => with(REFUSED, [
            "You are signed in in as many places as you may be. Sign out in one of them first.",
            "Sie sind an so vielen Orten angemeldet, wie Sie dürfen. Melden Sie sich zuerst an einem davon ab.",
            "Jste přihlášeni na tolika místech, na kolika smíte. Nejdříve se na jednom odhlaste.",
        ]),
        Cause::Overtaken => with(LATER, [
            "Something changed meanwhile. Please begin again.",
            "Inzwischen hat sich etwas geändert. Bitte beginnen Sie von vorn.",
            "Mezitím se něco změnilo. Začněte, prosím, znovu.",
        ]),
        Cause::Busy => with(LATER, [
            "There is too much to do at the moment. Please try again in a moment.",
            "Im Augenblick ist zu viel zu tun. Bitte versuchen Sie es gleich noch einmal.",
            "V tuto chvíli je příliš mnoho práce. Zkuste to, prosím, za chvíli.",
        ]),
        Cause::Unavailable => with(LATER, [
            "It cannot be seen at the moment who is signed in. You are not signed out. Please try again in a moment.",
            "Im Augenblick ist nicht zu sehen, wer angemeldet ist. Sie sind nicht abgemeldet. Bitte versuchen Sie es gleich noch einmal.",
            "V tuto chvíli nelze zjistit, kdo je přihlášen. Nejste odhlášeni. Zkuste to, prosím, za chvíli.",
        ]),
        Cause::Setup => with(LATER, [
            "This machine is not in order. Please try again in a moment.",
            "Diese Maschine ist nicht in Ordnung. Bitte versuchen Sie es gleich noch einmal.",
            "Tento počítač není v pořádku. Zkuste to, prosím, za chvíli.",
        ]),
        Cause::Unreachable => with(NO_ANSWER, [
            "Please try again in a moment.",
            "Bitte versuchen Sie es gleich noch einmal.",
            "Zkuste to, prosím, za chvíli.",
        ]),
        Cause::NoConnection => with(NO_ANSWER, [
            "It takes no connections. Please try again in a moment.",
            "Sie nimmt keine Verbindungen an. Bitte versuchen Sie es gleich noch einmal.",
            "Nepřijímá spojení. Zkuste to, prosím, za chvíli.",
        ]),
        Cause::Closed => with(BROKE_OFF, [
            "It closed the connection before it answered. Whether it has done what was asked is not known.",
            "Sie schloss die Verbindung, bevor sie antwortete. Ob sie getan hat, worum sie gebeten wurde, ist nicht bekannt.",
            "Zavřela spojení, než odpověděla. Není známo, zda udělala, oč byla žádána.",
        ]),
        Cause::BrokeOff => with(BROKE_OFF, [
            "It broke off within its answer. Whether it has done what was asked is not known.",
            "Sie brach mitten in ihrer Antwort ab. Ob sie getan hat, worum sie gebeten wurde, ist nicht bekannt.",
            "Přerušila svou odpověď. Není známo, zda udělala, oč byla žádána.",
        ]),
        Cause::BadAnswer => with(BAD_ANSWER, [
            "It is malformed. Trying again will hardly help; whoever runs this site can see why.",
            "Sie ist fehlerhaft. Ein neuer Versuch hilft kaum; wer diese Website betreibt, kann sehen, warum.",
            "Je chybná. Nový pokus sotva pomůže; provozovatel tohoto webu vidí proč.",
        ]),
        Cause::AnswerTooLarge => with(BAD_ANSWER, [
            "Its head is too large. Trying again will hardly help; whoever runs this site can see why.",
            "Ihr Kopf ist zu groß. Ein neuer Versuch hilft kaum; wer diese Website betreibt, kann sehen, warum.",
            "Její hlavička je příliš velká. Nový pokus sotva pomůže; provozovatel tohoto webu vidí proč.",
        ]),
        Cause::Slow => with(
            ["The application is taking too long", "Die Anwendung braucht zu lange", "Aplikaci to trvá příliš dlouho"],
            [
                "Whether it will do what was asked is not known. Please look before you try again.",
                "Ob sie tun wird, worum sie gebeten wurde, ist nicht bekannt. Bitte sehen Sie nach, bevor Sie es noch einmal versuchen.",
                "Není známo, zda udělá, oč byla žádána. Než to zkusíte znovu, podívejte se, prosím.",
            ],
        ),
        Cause::Command => with(BAD_ANSWER, [
            "It asked for something that it may not. Trying again will hardly help; whoever runs this site can see why.",
            "Sie verlangte etwas, was sie nicht darf. Ein neuer Versuch hilft kaum; wer diese Website betreibt, kann sehen, warum.",
            "Žádala o něco, co nesmí. Nový pokus sotva pomůže; provozovatel tohoto webu vidí proč.",
        ]),
        Cause::Switch => with(BAD_ANSWER, [
            "It began something that nobody had asked for. Trying again will hardly help; whoever runs this site can see why.",
            "Sie begann etwas, worum niemand gebeten hatte. Ein neuer Versuch hilft kaum; wer diese Website betreibt, kann sehen, warum.",
            "Začala něco, oč nikdo nežádal. Nový pokus sotva pomůže; provozovatel tohoto webu vidí proč.",
        ]),
        Cause::Internal => with(
            ["Something went wrong", "Etwas ist schiefgegangen", "Něco se pokazilo"],
            [
                "It was not your fault. Please try again in a moment.",
                "Es war nicht Ihr Fehler. Bitte versuchen Sie es gleich noch einmal.",
                "Nebyla to vaše chyba. Zkuste to, prosím, za chvíli.",
            ],
        ),
    }
}

/// Which setting or change cures it, for the log and for whoever runs the gateway on their own machine.
pub(super) const fn cure(cause: Cause) -> &'static str {
    match cause {
        Cause::Malformed => {
            "the client sends one well-formed Host, and one Content-Length or one Transfer-Encoding: chunked"
        }
        Cause::Path => {
            "the path has no encoded slash or backslash, no control character and no malformed escape; for ; parameters \
                        set allow_parameters = true on the route"
        }
        Cause::Misdirected => "the Host is that of origin, or one that the configuration lists",
        Cause::Method => "the client uses a method that this path takes; TRACE and CONNECT are taken nowhere",
        Cause::NotFound => "pages under /.cloakroom/ are the gateway's own; the application has none there",
        Cause::TargetTooLong => "the application makes shorter addresses",
        Cause::HeadTooLarge => "the application sets fewer or smaller cookies",
        Cause::BodyTooLarge => "the client sends less",
        Cause::MediaType => "the client says the right Content-Type",
        Cause::Unfinished => "the client sends as many bytes as it announced",
        Cause::Stalled => "the client goes on sending; limits.upstream_timeout is how long nothing may come",
        Cause::TooMany => "the client waits",
        Cause::Elsewhere => {
            "if that origin is to be trusted, list it in csrf.trusted_origins; if it is the site's own, set origin to what \
                             users see in the address bar"
        }
        Cause::Stray => {
            "the login begins on a route with login_start = true, on this host, and takes less than ten minutes; a browser keeps its \
                         cookie over https and on loopback only"
        }
        Cause::Unproven => {
            "the client sends Sec-Fetch-Site or Origin, which a proxy may have dropped; or a form token, unless csrf.mode is \
                            verdict-only"
        }
        Cause::Embedded => {
            "if other sites may load it, set loading = \"open\" on the route, or list the site in csrf.trusted_origins"
        }
        Cause::Token => {
            "the form has the value of Session-Csrf-Token in the field csrf.field (cloakroom_csrf), or the script in the header \
                         csrf.header (X-Cloakroom-Csrf)"
        }
        Cause::TokenTooFar => {
            "the token's field stands in front of large ones, or limits.form_bytes is larger"
        }
        Cause::Stale => "the user loads the page again; csrf.mode = \"verdict-only\" looks at no tokens",
        Cause::LogoutByLink => "the application logs out by POST: a form in the place of the link",
        Cause::SignIn => "the client signs in first; require on the route says who may pass",
        Cause::SignInAgain => {
            "the application answers a login with Session-Login or Session-Step-Up; policy.recent_login is how long it \
                               counts"
        }
        Cause::TooManyPlaces => "policy.max_sessions is larger, or policy.at_cap another than deny",
        Cause::Overtaken => "the user begins again",
        Cause::Busy => "limits are what this machine can bear; docs/operator/limits.md lists them",
        Cause::Unavailable => {
            "the store of the setting store answers, and its peppers and clock are right; cloakroom check says what is not"
        }
        Cause::Setup => "the machine's clock and its source of randomness work",
        Cause::Unreachable => "the application listens where the setting upstream says",
        Cause::NoConnection => {
            "the application takes connections; limits.upstream_timeout bounds how long that may take"
        }
        Cause::Closed => "the application answers before it closes; its own log says why it did not",
        Cause::BrokeOff => "the application finishes the head of its answer; its own log says why it did not",
        Cause::BadAnswer => {
            "the application answers in HTTP/1.1: upstream may name a port that speaks something else, such as TLS"
        }
        Cause::AnswerTooLarge => {
            "the application answers with at most 100 header fields, and with shorter ones"
        }
        Cause::Slow => "the application answers sooner, or limits.upstream_timeout is longer",
        Cause::Command => {
            "the application says what docs/gateway.md allows; the log names the field and what is wrong with it"
        }
        Cause::Switch => "the application answers 101 only to a WebSocket handshake",
        Cause::Internal => {
            "it is a mistake in the gateway, or in how the application uses it: please report it with the log"
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn each_cause_has_its_own_words_in_each_language_and_its_own_cure() {
        for language in Language::ALL {
            let said = Cause::ALL.map(|cause| of(cause, language));
            let texts: HashSet<_> = said.iter().map(|(_, text)| text).collect();
            assert_eq!(texts.len(), Cause::ALL.len(), "{language:?}");
            assert!(said.iter().all(|(title, text)| !title.ends_with('.') && text.ends_with('.')));
        }
        for cause in Cause::ALL {
            let titles: HashSet<_> = Language::ALL.map(|language| of(cause, language).1).into();
            assert_eq!(titles.len(), Language::ALL.len(), "{cause:?}");
        }
        let cures: HashSet<_> = Cause::ALL.map(cure).into();
        let names: HashSet<_> = Cause::ALL.map(Cause::name).into();
        assert_eq!((cures.len(), names.len()), (Cause::ALL.len(), Cause::ALL.len()));
    }

    #[test]
    fn r114_only_who_cannot_reach_the_application_is_told_that_it_is_not_answering() {
        let silent: Vec<_> = Cause::ALL
            .into_iter()
            .filter(|cause| of(*cause, Language::English).0 == "The application is not answering")
            .collect();
        assert_eq!(silent, [Cause::Unreachable, Cause::NoConnection]);
        for cause in Cause::ALL {
            for language in Language::ALL {
                let (title, text) = of(cause, language);
                let said = format!("{title} {text}").to_lowercase();
                for word in [
                    "expired",
                    "revoked",
                    "forged",
                    "cookie was",
                    "token",
                    "upstream",
                    "store",
                    "abgelaufen",
                    "vypršel",
                ] {
                    assert!(!said.contains(word), "{cause:?}: {said}");
                }
            }
        }
    }
}
