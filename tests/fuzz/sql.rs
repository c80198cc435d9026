//! What holds for any text that is read as SQL.

use pgdog::base::limits::ASKED_FUNCTIONS_MAX;
use pgdog::sql::catalog::Catalog;
use pgdog::sql::command::{Command, Set, Value};
use pgdog::sql::effects::Effects;
use pgdog::sql::lexer::Lexer;
use pgdog::sql::outline::Outline;
use pgdog::sql::{Reading, Statement, statements};

pub fn check(text: &[u8]) {
    for conforming_strings in [true, false] {
        let mut lexer = Lexer::new(text, conforming_strings);
        let (mut last, mut tokens) = (0, Vec::new());
        while let Some(token) = lexer.next_token() {
            assert!(last <= token.start && token.start < token.end && token.end <= text.len());
            assert!(text[last..token.start].iter().all(|byte| b" \t\n\r\x0b\x0c".contains(byte)));
            last = token.end;
            tokens.push(token);
        }
        assert!(text[last..].iter().all(|byte| b" \t\n\r\x0b\x0c".contains(byte)));
        // A token read by itself is the same token.
        for token in &tokens {
            let alone = Lexer::new(&text[token.start..token.end], conforming_strings).next_token().unwrap();
            assert_eq!((alone.kind, alone.end), (token.kind, token.end - token.start));
        }
        let reading = Reading { conforming_strings, ..Reading::default() };
        // What needs no reading is what reading it would say.
        if let Some(plain) = Outline::of_plain(text) {
            assert_eq!(plain, Outline::of(text, reading));
            assert!(statements(text, reading).count() <= 1);
        }
        // Whatever a database says of functions, only what they might have done goes.
        let (mut catalog, mut names) = (Catalog::default(), Vec::new());
        catalog.ask_about(text, conforming_strings, &mut names);
        assert!(names.len() <= ASKED_FUNCTIONS_MAX);
        names.iter().for_each(|name| catalog.learn(name, true));
        let (without, with) =
            (Outline::of(text, reading), Outline::of(text, Reading { catalog: Some(&catalog), ..reading }));
        let gone = without.effects.without(with.effects);
        assert_eq!(with, Outline { effects: without.effects.without(gone), ..without });
        assert!(gone.is_empty() || gone == Effects::UNKNOWN_FUNCTION && !names.is_empty());
        let mut last = 0;
        for statement in statements(text, reading) {
            assert!(last <= statement.start && !statement.text.is_empty());
            assert_eq!(&text[statement.start..][..statement.text.len()], statement.text);
            last = statement.start + statement.text.len();
            // A statement alone is the same statement.
            let alone: Vec<_> = statements(statement.text, reading).collect();
            assert_eq!(alone.len(), 1);
            assert_eq!(alone[0].command, statement.command);
            assert_eq!(alone[0].effects, statement.effects);
            values(&statement);
        }
    }
}

/// Asks for everything that may be asked for.
fn values(statement: &Statement<'_>) {
    let _ = statement.command.tags().predict(statement.text);
    match statement.command {
        Command::Savepoint(Some(name)) | Command::Execute(Some(name)) | Command::Listen(Some(name)) => {
            drop(name.value())
        }
        Command::Set(Set { parameter, value, .. }) => {
            let _ = parameter.value();
            if let Value::List(values) = value {
                let _ = values.flatten(parameter.is_quoted_list());
            }
        }
        _ => {}
    }
}
