//! The lexer and the gate beside PostgreSQL's own lexer and parser, over a corpus of statements of every kind and over
//! mutations of it: `SQL_MUTATIONS` says how many (20,000), `SQL_SEED` which (1).

use pg_query::protobuf::{
    DiscardMode, ObjectType, RangeVar, SelectStmt, Token, TransactionStmtKind, VariableSetKind, a_const::Val,
};
use pg_query::{NodeEnum, ParserOptions};
use pgdog::base::rng::{Rng, SeededRng};
use pgdog::sql::command::{Command, Copy, Discard, Scope, Set, Value};
use pgdog::sql::effects::Effects;
use pgdog::sql::lexer::{Kind, Lexer};
use pgdog::sql::value;
use pgdog::sql::value::Parameter;
use pgdog::sql::{Reading, Statement, functions, statements};
use pgdog_grammar::{Name, calls};

/// How many texts are made up.
fn mutations_wanted() -> usize {
    std::env::var("SQL_MUTATIONS").map_or(20_000, |count| count.parse().unwrap())
}

fn seed() -> u64 {
    std::env::var("SQL_SEED").map_or(1, |seed| seed.parse().unwrap())
}

/// The corpus line by line, except that a line may go on with the next ones; comments between are no part of it.
fn corpus() -> Vec<String> {
    let mut texts: Vec<String> = Vec::new();
    for line in include_str!("statements.sql").lines() {
        match texts.last_mut() {
            Some(last) if line.starts_with([' ', ';']) => {
                last.push('\n');
                last.push_str(line);
            }
            _ if line.is_empty() || line.starts_with("--") => {}
            _ => texts.push(line.to_owned()),
        }
    }
    for line in include_str!("../real/sql_tags.tsv").lines().filter(|line| !line.starts_with('#')) {
        texts.push(line.split('\t').next().unwrap().to_owned());
    }
    texts
}

type Check<'c> = dyn FnMut(&str, &Statement<'_>, &NodeEnum, &[Name]) + 'c;

/// Every statement of a text as the gate sees it and as the parser does. None if PostgreSQL does not parse it.
fn compare(whole: &str, check: &mut Check<'_>) -> Option<usize> {
    let tree = pg_query::parse(whole, ParserOptions::DEFAULT).ok()?;
    let ours: Vec<_> = statements(whole.as_bytes(), Reading::default()).collect();
    assert_eq!(ours.len(), tree.protobuf.stmts.len(), "{whole}: {ours:#?}");
    for (statement, theirs) in ours.iter().zip(&tree.protobuf.stmts) {
        let text = std::str::from_utf8(statement.text).unwrap();
        let start = theirs.stmt_location as usize;
        assert_eq!(start, statement.start, "{text}");
        // No length: to the end of the text. Theirs ends before the semicolon, comments included.
        let end = if theirs.stmt_len == 0 { whole.len() } else { start + theirs.stmt_len as usize };
        assert!(statement.start + text.len() <= end, "{text}");
        check(text, statement, theirs.stmt.as_ref()?.node.as_ref()?, &calls(&theirs.stmt));
    }
    Some(ours.len())
}

/// Compares the whole corpus.
fn each(mut check: impl FnMut(&str, &Statement<'_>, &NodeEnum, &[Name])) {
    let mut count = 0;
    for text in corpus() {
        match compare(&text, &mut check) {
            Some(found) => count += found,
            None => assert!(is_wrong(&text), "{text}: {:?}", pg_query::parse(&text, 0).err()),
        }
    }
    assert!(count > 500, "{count}");
}

/// What PostgreSQL 18 is not to understand.
fn is_wrong(text: &str) -> bool {
    ["SELECT 1_000", "SELECT case, end"].iter().any(|start| text.starts_with(start))
}

/// Statements made of pieces of others, of which PostgreSQL understands enough: the gate must not overlook what they do.
#[test]
fn mutations() {
    let texts = corpus();
    let split = |text: &str| {
        let mut lexer = Lexer::new(text.as_bytes(), true);
        let tokens = std::iter::from_fn(|| lexer.next_token());
        tokens
            .filter(|token| token.kind != Kind::Comment)
            .map(|token| text[token.start..token.end].to_owned())
            .collect()
    };
    let singles: Vec<Vec<String>> = texts
        .iter()
        .flat_map(|text| {
            statements(text.as_bytes(), Reading::default())
                .map(|one| split(std::str::from_utf8(one.text).unwrap()))
        })
        .collect();
    let words: Vec<&String> = singles.iter().flatten().collect();
    let (mut understood, mut rng) = (0, SeededRng::new(seed()));
    let count = mutations_wanted();
    for _ in 0..count {
        let mut tokens = singles[rng.below(singles.len() as u64) as usize].clone();
        for _ in 0..=rng.below(2) {
            let at = rng.below(tokens.len() as u64 + 1) as usize;
            let other = &singles[rng.below(singles.len() as u64) as usize];
            let from = rng.below(other.len() as u64) as usize;
            let upto = from + 1 + rng.below((other.len() - from) as u64) as usize;
            let word = words[rng.below(words.len() as u64) as usize];
            match rng.below(6) {
                0 if at < tokens.len() => drop(tokens.remove(at)),
                1 if at < tokens.len() => tokens[at] = word.clone(),
                2 => tokens.insert(at, word.clone()),
                3 => tokens.truncate(at),
                4 => drop(tokens.splice(at..at, other[from..upto].iter().cloned())),
                _ => {
                    tokens.truncate(at);
                    tokens.extend_from_slice(&other[from..]);
                }
            }
            if tokens.is_empty() {
                break;
            }
        }
        let text = tokens.join(" ");
        understood += compare(&text, &mut |text, statement, node, calls| {
            let (must, _) = bounds(node, calls);
            let lacks = lacks(statement, must, calls);
            assert!(lacks.is_empty(), "{text}: {:?} lacks {lacks:?}", statement.effects);
            let wanted = wanted(text, node, &statement.command);
            let may_run = statement.command == Command::Explain { analyze: true };
            // `analyze` may be a name: what only plans is taken for what runs.
            assert!(
                statement.command == wanted || may_run && wanted == Command::Explain { analyze: false },
                "{text}: {:?} is {wanted:?}\n{node:#?}",
                statement.command
            );
        })
        .unwrap_or(0);
    }
    println!("{understood} statements of {count} texts");
    assert!(understood > count / 20, "{understood}");
}

/// The command, as far as the gate knows it, by the node of the tree.
fn wanted<'t>(text: &str, node: &NodeEnum, ours: &Command<'t>) -> Command<'t> {
    match node {
        NodeEnum::SelectStmt(_) => Command::Select,
        NodeEnum::InsertStmt(_) => Command::Insert,
        NodeEnum::UpdateStmt(_) => Command::Update,
        NodeEnum::DeleteStmt(_) => Command::Delete,
        NodeEnum::MergeStmt(_) => Command::Merge,
        // A file without a name looks like none in the tree.
        NodeEnum::CopyStmt(copy) if copy.filename.is_empty() && text.contains("''") => *ours,
        NodeEnum::CopyStmt(copy) => Command::Copy(match (copy.filename.is_empty(), copy.is_from) {
            (true, true) => Copy::In,
            (true, false) => Copy::Out,
            _ => Copy::Server,
        }),
        NodeEnum::TransactionStmt(transaction) => {
            use TransactionStmtKind::*;
            let chain = transaction.chain;
            match (transaction.kind(), ours) {
                // Modes and names are compared elsewhere.
                (TransStmtBegin | TransStmtStart, Command::Begin(_))
                | (TransStmtSavepoint, Command::Savepoint(_))
                | (TransStmtRelease, Command::Release(_))
                | (TransStmtRollbackTo, Command::RollbackTo(_)) => *ours,
                (TransStmtCommit, _) => Command::Commit { chain },
                (TransStmtRollback, _) => Command::Rollback { chain },
                (TransStmtPrepare, _) => Command::PrepareTransaction,
                (TransStmtCommitPrepared | TransStmtRollbackPrepared, _) => Command::FinishPrepared,
                kind => panic!("{kind:?}"),
            }
        }
        NodeEnum::VariableSetStmt(set) => match (set.kind(), &*set.name, ours) {
            (VariableSetKind::VarResetAll, ..) => Command::ResetAll,
            (VariableSetKind::VarReset, _, Command::Reset(_)) => *ours,
            (VariableSetKind::VarSetMulti, "TRANSACTION" | "TRANSACTION SNAPSHOT", Command::SetTransaction(_)) => *ours,
            (VariableSetKind::VarSetMulti, "SESSION CHARACTERISTICS", Command::SetCharacteristics(scope, _)) => {
                assert_eq!(set.is_local, *scope == Scope::Local);
                *ours
            }
            (
                VariableSetKind::VarSetValue | VariableSetKind::VarSetDefault | VariableSetKind::VarSetCurrent,
                _,
                Command::Set(ours_set),
            ) => {
                assert_eq!(set.is_local, ours_set.scope == Scope::Local);
                *ours
            }
            other => panic!("{other:?}"),
        },
        NodeEnum::ConstraintsSetStmt(_) => Command::SetConstraints,
        NodeEnum::VariableShowStmt(show) if show.name == "all" => Command::Show(None),
        NodeEnum::VariableShowStmt(_) => match ours {
            Command::Show(Some(_)) => *ours,
            other => panic!("{other:?}"),
        },
        NodeEnum::DiscardStmt(discard) => Command::Discard(match discard.target() {
            DiscardMode::DiscardAll => Discard::All,
            DiscardMode::DiscardPlans => Discard::Plans,
            DiscardMode::DiscardSequences => Discard::Sequences,
            DiscardMode::DiscardTemp => Discard::Temporary,
            other => panic!("{other:?}"),
        }),
        NodeEnum::PrepareStmt(_) if matches!(ours, Command::Prepare { .. }) => *ours,
        NodeEnum::ExecuteStmt(_) if matches!(ours, Command::Execute(_)) => *ours,
        NodeEnum::DeallocateStmt(deallocate) if deallocate.name.is_empty() => Command::Deallocate(None),
        NodeEnum::DeallocateStmt(_) if matches!(ours, Command::Deallocate(Some(_))) => *ours,
        NodeEnum::ListenStmt(_) if matches!(ours, Command::Listen(_)) => *ours,
        NodeEnum::UnlistenStmt(unlisten) if unlisten.conditionname.is_empty() => Command::Unlisten(None),
        NodeEnum::UnlistenStmt(_) if matches!(ours, Command::Unlisten(Some(_))) => *ours,
        NodeEnum::NotifyStmt(_) if matches!(ours, Command::Notify(_)) => *ours,
        NodeEnum::DeclareCursorStmt(declare) => {
            const HOLD: i32 = 0x20;
            let Command::Declare { name, .. } = ours else { panic!("{ours:?}") };
            Command::Declare { name: *name, hold: declare.options & HOLD != 0 }
        }
        NodeEnum::FetchStmt(fetch) if fetch.ismove => Command::Move,
        NodeEnum::FetchStmt(_) => Command::Fetch,
        NodeEnum::ClosePortalStmt(close) if close.portalname.is_empty() => Command::Close(None),
        NodeEnum::ClosePortalStmt(_) if matches!(ours, Command::Close(Some(_))) => *ours,
        NodeEnum::LockStmt(_) => Command::Lock,
        NodeEnum::DoStmt(_) => Command::Do,
        NodeEnum::CallStmt(_) => Command::Call,
        NodeEnum::LoadStmt(_) => Command::Load,
        NodeEnum::ExplainStmt(explain) => Command::Explain {
            analyze: explain.options.iter().any(
                |option| matches!(&option.node, Some(NodeEnum::DefElem(element)) if element.defname == "analyze"),
            ),
        },
        NodeEnum::CreateTableAsStmt(_) => Command::CreateAs,
        NodeEnum::DropStmt(_)
        | NodeEnum::DropRoleStmt(_)
        | NodeEnum::DropdbStmt(_)
        | NodeEnum::DropOwnedStmt(_)
        | NodeEnum::DropUserMappingStmt(_)
        | NodeEnum::DropSubscriptionStmt(_)
        | NodeEnum::DropTableSpaceStmt(_) => Command::Drop,
        _ => Command::Other,
    }
}

#[test]
fn commands() {
    each(|text, statement, node, _| {
        assert_eq!(statement.command, wanted(text, node, &statement.command), "{text}: {node:#?}");
    });
}

fn is(name: Option<value::Name<'_>>, wanted: &str) -> bool {
    // What the lexer leaves to the server, it says so.
    name.is_some_and(|name| name.value().is_none_or(|value| *value == *wanted.as_bytes()))
}

#[test]
fn names_and_values() {
    let mut count = 0;
    each(|text, statement, node, _| {
        count += 1;
        let is_parameter = |parameter: &Parameter<'_>, wanted: &str| {
            // The grammar keeps the case of quoted names; parameters are found without regard to it.
            parameter.value().is_some_and(|value| *value == *wanted.to_ascii_lowercase().as_bytes())
        };
        let same = match (&statement.command, node) {
            (
                Command::Savepoint(name) | Command::Release(name) | Command::RollbackTo(name),
                NodeEnum::TransactionStmt(node),
            ) => is(*name, &node.savepoint_name),
            (Command::Set(Set { parameter, value, .. }), NodeEnum::VariableSetStmt(node)) => {
                is_parameter(parameter, &node.name) && is_value(*value, parameter, node)
            }
            (Command::Reset(parameter), NodeEnum::VariableSetStmt(node)) => {
                is_parameter(parameter, &node.name)
            }
            (Command::Show(Some(parameter)), NodeEnum::VariableShowStmt(node)) => {
                is_parameter(parameter, &node.name)
            }
            (Command::Prepare { name, body }, NodeEnum::PrepareStmt(node)) => {
                let inner =
                    pg_query::parse(std::str::from_utf8(body).unwrap(), ParserOptions::DEFAULT).unwrap();
                let inner = inner.protobuf.stmts[0].stmt.as_ref().and_then(|node| node.node.as_ref());
                let query = node.query.as_ref().and_then(|node| node.node.as_ref());
                let kind = |node: Option<&NodeEnum>| std::mem::discriminant(node.unwrap());
                is(*name, &node.name) && kind(inner) == kind(query)
            }
            (Command::Execute(name), NodeEnum::ExecuteStmt(node)) => is(*name, &node.name),
            (Command::Deallocate(name), NodeEnum::DeallocateStmt(node)) => {
                name.is_none() || is(*name, &node.name)
            }
            (Command::Listen(name), NodeEnum::ListenStmt(node)) => is(*name, &node.conditionname),
            (Command::Unlisten(name), NodeEnum::UnlistenStmt(node)) => {
                name.is_none() || is(*name, &node.conditionname)
            }
            (Command::Notify(name), NodeEnum::NotifyStmt(node)) => is(*name, &node.conditionname),
            (Command::Declare { name, .. }, NodeEnum::DeclareCursorStmt(node)) => is(*name, &node.portalname),
            (Command::Close(name), NodeEnum::ClosePortalStmt(node)) => {
                name.is_none() || is(*name, &node.portalname)
            }
            _ => {
                count -= 1;
                true
            }
        };
        assert!(same, "{text}: {:?}\n{node:#?}", statement.command);
    });
    assert!(count > 100, "{count}");
}

/// Whether a value is the same before PostgreSQL flattens it: the constants, one by one.
fn is_value(value: Value<'_>, parameter: &Parameter<'_>, node: &pg_query::protobuf::VariableSetStmt) -> bool {
    let constant = |node: &pg_query::Node| match node.node.as_ref() {
        Some(NodeEnum::AConst(constant)) => match constant.val.as_ref() {
            Some(Val::Ival(value)) => Some(value.ival.to_string()),
            Some(Val::Fval(value)) => Some(value.fval.clone()),
            Some(Val::Sval(value)) => Some(value.sval.clone()),
            other => panic!("{other:?}"),
        },
        // An interval.
        _ => None,
    };
    match value {
        Value::Default => node.kind() == VariableSetKind::VarSetDefault,
        Value::Unknown => node.kind() == VariableSetKind::VarSetCurrent,
        Value::List(values) => {
            let theirs: Option<Vec<_>> = node.args.iter().map(constant).collect();
            match (values.flatten(false), theirs) {
                (Some(ours), Some(theirs)) => {
                    ours.eq_ignore_ascii_case(theirs.join(", ").as_bytes())
                        && node.kind() == VariableSetKind::VarSetValue
                }
                // Only what the server reads in its own way.
                (None, _) => ["timezone", "a"].iter().any(|name| parameter.is(name)),
                (Some(ours), None) => panic!("{ours:?}"),
            }
        }
    }
}

fn of_calls(calls: &[Name]) -> Effects {
    let own = |name: &Name| match name.schema.as_deref() {
        None | Some("pg_catalog") => functions::find(name.name.as_bytes()),
        Some(_) => None,
    };
    calls.iter().fold(Effects::NONE, |all, name| all | own(name).unwrap_or(Effects::UNKNOWN_FUNCTION))
}

fn is_temporary(relation: Option<&RangeVar>) -> bool {
    relation.is_some_and(|relation| relation.relpersistence == "t" || relation.schemaname == "pg_temp")
}

fn makes_temporary(node: &NodeEnum) -> bool {
    let dropped = |on_commit: i32| on_commit == pg_query::protobuf::OnCommitAction::OncommitDrop as i32;
    let into =
        |select: &SelectStmt| select.into_clause.as_ref().is_some_and(|into| is_temporary(into.rel.as_ref()));
    match node {
        NodeEnum::SelectStmt(select) => into(select),
        NodeEnum::CreateStmt(create) => is_temporary(create.relation.as_ref()) && !dropped(create.oncommit),
        NodeEnum::CreateTableAsStmt(create) => create
            .into
            .as_ref()
            .is_some_and(|into| is_temporary(into.rel.as_ref()) && !dropped(into.on_commit)),
        NodeEnum::ViewStmt(view) => is_temporary(view.view.as_ref()),
        NodeEnum::CreateSeqStmt(sequence) => is_temporary(sequence.sequence.as_ref()),
        _ => false,
    }
}

/// What the gate must say of a statement, and what it may say on top because tokens do not tell.
fn bounds(node: &NodeEnum, called: &[Name]) -> (Effects, Effects) {
    let calls = of_calls(called);
    let temporary = if makes_temporary(node) { Effects::TEMPORARY } else { Effects::NONE };
    // A name in pg_temp that is not a table's.
    let named = Effects::TEMPORARY;
    match node {
        NodeEnum::TransactionStmt(_) => (Effects::TRANSACTION, Effects::NONE),
        NodeEnum::VariableSetStmt(set) => {
            let of_transaction = ["transaction_isolation", "transaction_read_only", "transaction_deferrable"];
            let local = set.is_local
                || set.name.starts_with("TRANSACTION")
                || of_transaction.contains(&&*set.name) && set.kind() != VariableSetKind::VarReset;
            (if local { Effects::LOCAL_SETTING } else { Effects::SETTING }, Effects::NONE)
        }
        NodeEnum::DiscardStmt(_) => (Effects::DISCARD, Effects::NONE),
        NodeEnum::PrepareStmt(_) | NodeEnum::DeallocateStmt(_) => (Effects::PREPARED, Effects::NONE),
        NodeEnum::ExecuteStmt(_) => (Effects::EXECUTE | calls, Effects::NONE),
        NodeEnum::ListenStmt(_) | NodeEnum::UnlistenStmt(_) => (Effects::LISTEN, Effects::NONE),
        NodeEnum::NotifyStmt(_) => (Effects::NOTIFY, Effects::NONE),
        NodeEnum::LoadStmt(_) => (Effects::LASTING, Effects::NONE),
        NodeEnum::DoStmt(_) | NodeEnum::CreateExtensionStmt(_) | NodeEnum::AlterExtensionStmt(_) => {
            (Effects::CODE, Effects::NONE)
        }
        NodeEnum::AlterExtensionContentsStmt(_) | NodeEnum::CreatePlangStmt(_) => {
            (Effects::NONE, Effects::CODE)
        }
        NodeEnum::CallStmt(_) => (Effects::CODE | calls, Effects::NONE),
        NodeEnum::FetchStmt(_) | NodeEnum::ClosePortalStmt(_) => (Effects::CURSOR, Effects::NONE),
        NodeEnum::DeclareCursorStmt(declare) => {
            const HOLD: i32 = 0x20;
            let held = declare.options & HOLD != 0;
            (calls | if held { Effects::HELD_CURSOR } else { Effects::CURSOR }, Effects::NONE)
        }
        NodeEnum::ExplainStmt(explain) => {
            let inner = explain.query.as_ref().and_then(|node| node.node.as_ref()).unwrap();
            let option = |option: &pg_query::Node| match option.node.as_ref() {
                Some(NodeEnum::DefElem(element)) if element.defname == "analyze" => {
                    Some(element.arg.is_none())
                }
                _ => None,
            };
            let analyze = explain.options.iter().find_map(option);
            let (must, may) = match inner {
                NodeEnum::DeclareCursorStmt(_) => (calls, Effects::NONE),
                _ => bounds(inner, called),
            };
            let runs = Effects::TEMPORARY | Effects::EXECUTE;
            match analyze {
                Some(true) => (must, may),
                // ANALYZE with a value, which may be off.
                Some(false) => (must.without(runs), must | may),
                None => (must.without(runs), may),
            }
        }
        NodeEnum::UpdateStmt(update)
            if update.relation.as_ref().is_some_and(|of| of.relname == "pg_settings") =>
        {
            (Effects::SETTING | calls, Effects::NONE)
        }
        NodeEnum::SelectStmt(_)
        | NodeEnum::InsertStmt(_)
        | NodeEnum::UpdateStmt(_)
        | NodeEnum::DeleteStmt(_)
        | NodeEnum::MergeStmt(_)
        | NodeEnum::CopyStmt(_) => (calls | temporary, Effects::NONE),
        NodeEnum::CreateTableAsStmt(create) => {
            let query = create.query.as_ref().and_then(|node| node.node.as_ref());
            let execute = matches!(query, Some(NodeEnum::ExecuteStmt(_)));
            (calls | temporary | if execute { Effects::EXECUTE } else { Effects::NONE }, Effects::NONE)
        }
        // Views, indexes and sequences have nothing that would be evaluated at once.
        NodeEnum::AlterTableStmt(alter)
            if !matches!(alter.objtype(), ObjectType::ObjectTable | ObjectType::ObjectForeignTable) =>
        {
            (Effects::NONE, calls)
        }
        // Expressions that are evaluated at once, among others that are not.
        NodeEnum::CreateStmt(_)
        | NodeEnum::IndexStmt(_)
        | NodeEnum::AlterTableStmt(_)
        | NodeEnum::AlterDomainStmt(_) => (calls | temporary, Effects::UNKNOWN_FUNCTION),
        NodeEnum::CreateSchemaStmt(_) => (Effects::NONE, calls | Effects::UNKNOWN_FUNCTION),
        // Definitions keep what they are given.
        _ => (temporary, if temporary.is_empty() { named } else { Effects::NONE }),
    }
}

/// What the gate should have said and did not.
fn lacks(statement: &Statement<'_>, must: Effects, calls: &[Name]) -> Effects {
    let mut lacks = must.without(statement.effects);
    // set_config says by its third argument which of two it is.
    let calls = calls.iter().any(|name| &*name.name == "set_config");
    if calls && statement.effects.any(Effects::LOCAL_SETTING) {
        lacks = lacks.without(Effects::SETTING);
    }
    lacks
}

#[test]
fn effects() {
    let mut doubts = 0;
    each(|text, statement, node, calls| {
        let (must, may) = bounds(node, calls);
        let (said, lacks) = (statement.effects, lacks(statement, must, calls));
        assert!(lacks.is_empty(), "{text}: {said:?} lacks {lacks:?}");
        let mut more = said.without(must).without(may);
        if must.any(Effects::SETTING) {
            more = more.without(Effects::LOCAL_SETTING);
        }
        // An alias with columns behind a table, for instance: no token tells that it is no call.
        doubts += u32::from(more.any(Effects::UNKNOWN_FUNCTION));
        more = more.without(Effects::UNKNOWN_FUNCTION);
        assert!(more.is_empty(), "{text}: {said:?} is more than {must:?} and {may:?}");
    });
    assert!(doubts < 10, "the gate doubts {doubts} statements");
}

/// Compares the tokens of a text, and counts them. None if PostgreSQL's lexer does not read it.
fn compare_tokens(text: &str) -> Option<usize> {
    let mut lexer = Lexer::new(text.as_bytes(), true);
    let ours: Vec<_> = std::iter::from_fn(|| lexer.next_token()).collect();
    if ours.is_empty() {
        // It makes a slice of a null pointer.
        return None;
    }
    let theirs = pg_query::scan_tokens(text).ok()?;
    for (ours, theirs) in ours.iter().zip(&theirs) {
        let same = (ours.start, ours.end) == (theirs.start as usize, theirs.end as usize);
        assert!(same && is_kind(ours.kind, theirs.token()), "{text:?}: {ours:?} {theirs:?}");
    }
    assert_eq!(ours.len(), theirs.len(), "{text:?}");
    Some(ours.len())
}

#[test]
fn tokens() {
    let mut count = 0;
    for text in corpus() {
        match compare_tokens(&text) {
            Some(found) => count += found,
            None => assert!(is_wrong(&text), "{text}"),
        }
    }
    assert!(count > 5000, "{count}");
}

/// Tokens that touch each other in every way.
#[test]
fn tokens_of_nonsense() {
    const PIECES: &[&str] = &[
        "a", "E", "u&", "b", "x", "n", "1", "0x", "1e", "_", ".", "'", "'", "\"", "$", "$$", "$a$", "\\",
        "\n", " ", "--", "/*", "*/", "+", "-", "*", "/", "<", ">", "=", "~", "!", "@", "#", "%", "^", "&",
        "|", "`", "?", ":", "::", ";", ",", "(", ")", "[", "]", "ä", "\t", "\r", "\u{b}", "{", "select",
    ];
    let (mut count, mut rng) = (0, SeededRng::new(!seed()));
    let texts = mutations_wanted();
    for _ in 0..texts {
        let length = 1 + rng.below(12);
        let text: String = (0..length).map(|_| PIECES[rng.below(PIECES.len() as u64) as usize]).collect();
        count += usize::from(compare_tokens(&text).is_some());
    }
    println!("{count} of {texts} texts");
    assert!(count > texts / 20, "{count}");
}

fn is_kind(kind: Kind, token: Token) -> bool {
    match token {
        Token::Ident => matches!(kind, Kind::Word | Kind::Quoted),
        Token::Uident => kind == Kind::UnicodeQuoted,
        Token::Sconst => matches!(kind, Kind::String | Kind::EscapeString | Kind::DollarString),
        Token::Usconst => kind == Kind::UnicodeString,
        Token::Bconst | Token::Xconst => kind == Kind::BitString,
        Token::Fconst | Token::Iconst => kind == Kind::Number,
        Token::Param => kind == Kind::Parameter,
        Token::Op | Token::LessEquals | Token::GreaterEquals | Token::NotEquals | Token::EqualsGreater => {
            kind == Kind::Operator
        }
        Token::Typecast => kind == Kind::Typecast,
        Token::DotDot | Token::ColonEquals => kind == Kind::Punctuation,
        Token::SqlComment | Token::CComment => kind == Kind::Comment,
        Token::Ascii40 => kind == Kind::Open,
        Token::Ascii41 => kind == Kind::Close,
        Token::Ascii44 => kind == Kind::Comma,
        Token::Ascii46 => kind == Kind::Dot,
        Token::Ascii59 => kind == Kind::Semicolon,
        Token::Ascii58 | Token::Ascii91 | Token::Ascii93 => kind == Kind::Punctuation,
        Token::Ascii37
        | Token::Ascii42
        | Token::Ascii43
        | Token::Ascii45
        | Token::Ascii47
        | Token::Ascii60
        | Token::Ascii61
        | Token::Ascii62
        | Token::Ascii63
        | Token::Ascii94 => kind == Kind::Operator,
        // What begins nothing; most such bytes have no name there.
        Token::Nul | Token::Ascii36 | Token::Ascii92 => kind == Kind::Other,
        // A keyword.
        _ => kind == Kind::Word,
    }
}
