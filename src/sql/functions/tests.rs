use super::*;

#[test]
fn what_is_known() {
    for (name, wanted) in [
        ("lower", Effects::NONE),
        ("pg_advisory_xact_lock", Effects::NONE),
        ("in", Effects::NONE),
        ("conflict", Effects::NONE),
        ("set_config", Effects::SETTING),
        ("pg_try_advisory_lock", Effects::SESSION_LOCK),
        ("binary_upgrade_set_next_pg_enum_oid", Effects::LASTING),
        ("st_distance", Effects::UNKNOWN_FUNCTION),
        ("", Effects::UNKNOWN_FUNCTION),
    ] {
        assert_eq!(effects(name.as_bytes()), wanted, "{name}");
    }
}

#[test]
fn every_name_is_found() {
    for (name, effects_of) in SPECIAL {
        assert_eq!(effects(name.as_bytes()), *effects_of, "{name}");
    }
    for name in LISTS.concat() {
        let special = SPECIAL.iter().any(|(of, _)| *of == name) || name.starts_with("binary_upgrade_");
        assert!(special || effects(name.as_bytes()).is_empty(), "{name}");
    }
}

/// What has effects must be a name of a function, or the list protects nobody.
#[test]
fn special_functions_exist() {
    const OF_EXTENSIONS: [&str; 2] = ["dblink_connect", "dblink_connect_u"];
    for (name, effects) in SPECIAL {
        assert!(!effects.is_empty(), "{name}");
        assert!(builtin::NAMES.contains(name) || OF_EXTENSIONS.contains(name), "{name}");
    }
}

#[test]
fn names_are_sorted() {
    for list in LISTS {
        assert!(list.is_sorted(), "{:?}", list.windows(2).find(|pair| pair[0] > pair[1]));
    }
}
